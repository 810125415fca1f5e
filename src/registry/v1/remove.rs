//! Tags and repositories deleted (F240). An index is told before and after, a registry in between.

use super::Repository;
use super::session::Wish;
use crate::error::{Context as _, Error, Result};
use crate::registry::http::{Method, Payload};
use crate::registry::url::escape;

impl Repository<'_> {
    pub(crate) fn delete_tag(&self, tag: &str) -> Result<()> {
        // Who may read may not delete. This deletes nothing yet, but gives the right to.
        let images = self.at_index("images");
        let wish = Wish::new(Method::DELETE, &images, Payload::Empty);
        match self.ask_index(wish) {
            Ok(answer) if matches!(answer.status, 200..300) => {
                self.admit(&answer)?;
                answer.drain();
            }
            _ => drop(self.open()?),
        }
        let path = self.at_registry(&format!("tags/{}", escape(tag)));
        self.delete_at_sites(&path, &format!("{}:{tag}", self.name))
    }

    /// All of it, for good.
    pub(crate) fn delete_all(&self) -> Result<()> {
        let what = format!("delete {}", self.name);
        let at_index = self.at_index("");
        if !self.standalone {
            let wish = Wish::new(Method::DELETE, &at_index, Payload::Empty);
            let answer = self.ask_index(wish).with_context(|| what.clone())?;
            if !matches!(answer.status, 200 | 202 | 204) {
                return Err(self.failed(&self.index, &what, answer));
            }
            self.admit(&answer).with_context(|| what.clone())?;
            answer.drain();
        }
        self.delete_at_sites(&self.at_registry(""), &self.name)?;
        if !self.standalone {
            let mut wish = Wish::new(Method::DELETE, &at_index, Payload::Empty);
            let hosts: Vec<String> = self.sites().iter().map(|s| s.endpoint.host.clone()).collect();
            wish.headers.push(("x-docker-endpoints", hosts.join(",")));
            let answer = self.ask_index(wish).with_context(|| what.clone())?;
            if !matches!(answer.status, 200 | 202 | 204 | 404) {
                return Err(self.failed(&self.index, &what, answer));
            }
            answer.drain();
        }
        Ok(())
    }

    fn delete_at_sites(&self, path: &str, what: &str) -> Result<()> {
        let mut failure: Option<Error> = None;
        for site in self.sites() {
            let wish = Wish::new(Method::DELETE, path, Payload::Empty);
            let answer = match self.ask_site(&site, wish) {
                Ok(answer) => answer,
                Err(e) => {
                    failure = Some(e);
                    continue;
                }
            };
            match answer.status {
                200..300 => {
                    answer.drain();
                    return Ok(());
                }
                _ => failure = Some(self.failed(&site.endpoint, &format!("delete {what}"), answer)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::other(format!("{what}: there is no registry to ask"))))
    }
}
