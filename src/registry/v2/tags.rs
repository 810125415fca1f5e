//! The tags of a repository, page by page.

use crate::error::{Context as _, Error, Result};
use crate::model::reference::check_tag;
use crate::registry::endpoint::{Call, To};
use crate::registry::http::{Answer, Method};
use crate::registry::text::clean;
use crate::registry::url::Url;
use crate::registry::v2::Repository;
use serde::Deserialize;
use std::collections::BTreeSet;

const PAGE_LIMIT: usize = 16 << 20;
/// More tags than anybody has; what ends a registry that never says it was the last page.
const MOST: usize = 1_000_000;
/// Also if there is nothing on its pages.
const MOST_PAGES: usize = 10_000;

#[derive(Deserialize)]
struct Page {
    /// Null where there are none.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    pub(crate) fn list_tags(&self) -> Result<Vec<String>> {
        let site = self.main()?;
        let what = || format!("list the tags of {}", self.name);
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        let path = site.path("tags/list?n=1000");
        let mut next: Option<Url> = None;
        loop {
            let to = match &next {
                None => To::Path(&path),
                Some(url) => To::Url(url),
            };
            let answer = site.ask(Call::new(Method::GET, to, &site.scopes)).with_context(what)?;
            if answer.status != 200 || answer.media_type().is_some_and(|t| t.contains("html")) {
                return Err(self.failed(site, &what(), answer));
            }
            let following = following(&answer).with_context(what)?;
            let host = answer.url.host.clone();
            let bytes = answer.bytes(PAGE_LIMIT).map_err(Error::from).with_context(what)?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|_| Error::other(format!("{host} answers no list of tags")))
                .with_context(what)?;
            for tag in page.tags.unwrap_or_default() {
                check_tag(&tag).map_err(|_| Error::other(format!("{host} has an impossible tag: {}", clean(&tag))))?;
                all.push(tag);
            }
            match following {
                None => return Ok(all),
                Some(url) if seen.len() < MOST_PAGES && all.len() < MOST && seen.insert(url.to_string()) => {
                    next = Some(url);
                }
                Some(_) => return Err(Error::other(format!("{host}: the list of tags has no end"))).with_context(what),
            }
        }
    }
}

/// `Link: </v2/…?last=x&n=1000>; rel="next"` (RFC 8288).
fn following(answer: &Answer) -> Result<Option<Url>> {
    match next_link(&answer.headers("link")) {
        None => Ok(None),
        Some(link) => answer.url.join(link).map(Some),
    }
}

pub(crate) fn next_link<'a>(headers: &[&'a str]) -> Option<&'a str> {
    headers.iter().flat_map(|h| h.split(',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|p| {
            let p = p.trim().to_ascii_lowercase();
            p == "rel=next" || p == "rel=\"next\""
        });
        is_next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        for (header, want) in [
            (
                "</v2/a/tags/list?last=b&n=2>; rel=\"next\"",
                Some("/v2/a/tags/list?last=b&n=2"),
            ),
            ("<x>; rel=prev, <y>; title=t; REL=Next", Some("y")),
            ("<x>; rel=\"prev\"", None),
            ("x; rel=next", None),
            ("<x", None),
            ("", None),
        ] {
            assert_eq!(next_link(&[header]), want, "{header}");
        }
    }
}
