//! Who is asked, and with what: the index with user name and password, a registry with the index's token until it has
//! set a cookie.

use super::Repository;
use crate::error::{Context as _, Error, Result};
use crate::registry::auth::parse_challenges;
use crate::registry::endpoint::{Call, Endpoint, To};
use crate::registry::http::{Answer, Method, Payload};
use crate::registry::remote::Action;
use crate::registry::text::clean;
use crate::registry::url::Url;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Of a list of images or tags.
pub(super) const LIST_LIMIT: usize = 16 << 20;
/// Registries that an index may name.
const MOST_ENDPOINTS: usize = 16;
const LONGEST_TOKEN: usize = 8192;

/// A registry.
pub(crate) struct Site {
    pub(super) endpoint: Arc<Endpoint>,
    token: Mutex<Option<String>>,
    /// It has seen the token.
    shown: AtomicBool,
    /// It is its own index: user name and password go with every request.
    basic: bool,
}

/// A request to a registry.
pub(super) struct Wish<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload<'a>,
}

impl<'a> Wish<'a> {
    pub(super) fn get(path: &'a str) -> Wish<'a> {
        Wish::new(Method::GET, path, Payload::Empty)
    }

    pub(super) fn new(method: Method, path: &'a str, payload: Payload<'a>) -> Wish<'a> {
        Wish {
            method,
            path,
            headers: Vec::new(),
            payload,
        }
    }

    fn call(&mut self, authorization: Option<String>) -> Call<'_> {
        let mut call = Call::new(self.method.clone(), To::Path(self.path), &[]).of_2013(authorization);
        call.headers.clone_from(&self.headers);
        call.payload(self.payload.reborrow())
    }
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    checksum: Option<String>,
}

impl Site {
    /// What the request carries. The token is shown once; after that, the cookie is what lets us in. Only a registry that
    /// sets none has to see the token again.
    fn authorization(&self, path: &str) -> Option<String> {
        if self.basic
            && let Some(basic) = self.endpoint.basic()
        {
            return Some(basic);
        }
        match self.shown.swap(true, Ordering::Relaxed) && self.endpoint.has_cookie(path) {
            true => None,
            false => self.token(),
        }
    }

    fn token(&self) -> Option<String> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().map(|token| format!("Token {token}"))
    }
}

impl Repository<'_> {
    /// Asks the index about the repository; the checksums that it knows, by image.
    pub(crate) fn open(&self) -> Result<BTreeMap<String, String>> {
        let what = || format!("look for {} at {}", self.name, self.index.host);
        let path = self.at_index("images");
        let answer = self.ask_index(Wish::get(&path)).with_context(what)?;
        if answer.status == 404 {
            // A server of files has no such list. Whether the repository is there, its tags say.
            answer.drain();
            self.set_sites(vec![Arc::new(self.own(None))]);
            return Ok(BTreeMap::new());
        }
        if answer.status != 200 {
            return Err(self.failed(&self.index, &what(), answer));
        }
        self.admit(&answer).with_context(what)?;
        let bytes = answer.bytes(LIST_LIMIT).map_err(Error::from).with_context(what)?;
        let listed: Vec<Listed> = serde_json::from_slice(&bytes)
            .map_err(|_| Error::other(format!("{} answers no list of images", self.index.host)))
            .with_context(what)?;
        let checksums = listed.into_iter().filter_map(|l| Some((l.id, l.checksum?)));
        Ok(checksums.filter(|(_, sum)| !sum.is_empty()).collect())
    }

    /// With the password, if there is one, and the wish for a token.
    pub(super) fn ask_index(&self, mut wish: Wish<'_>) -> Result<Answer> {
        wish.headers.push(("x-docker-token", "true".to_owned()));
        let basic = self.index.basic();
        self.index.ask(wish.call(basic))
    }

    fn own(&self, token: Option<String>) -> Site {
        Site {
            endpoint: self.index.clone(),
            token: Mutex::new(token),
            shown: AtomicBool::new(false),
            basic: self.standalone,
        }
    }

    fn set_sites(&self, sites: Vec<Arc<Site>>) {
        *self.sites.lock().unwrap_or_else(PoisonError::into_inner) = sites;
    }

    /// Takes token and registries out of the index's answer.
    pub(super) fn admit(&self, answer: &Answer) -> Result<()> {
        let separator = match self.opener.action() {
            Action::Pull => ", ",
            Action::Push | Action::Delete => ",",
        };
        let token = token(answer, separator)?;
        let hosts = endpoints(&answer.headers("x-docker-endpoints"))?;
        let several = hosts.len() > 1;
        let mut sites = Vec::new();
        for host in hosts {
            let mut site = self.own(token.clone());
            if host != self.index.host {
                let mut named = self.opener.named(&host, &self.index.host);
                if several {
                    // There is another one to ask.
                    named.limits.attempts = named.limits.attempts.min(1);
                }
                site = Site {
                    endpoint: Arc::new(named),
                    token: Mutex::new(token.clone()),
                    shown: AtomicBool::new(false),
                    basic: false,
                };
            }
            sites.push(Arc::new(site));
        }
        if sites.is_empty() {
            // It is the registry as well.
            sites.push(Arc::new(self.own(token)));
        }
        self.set_sites(sites);
        Ok(())
    }

    /// Asks a registry. A token that it does not take, any more perhaps, is replaced once.
    pub(super) fn ask_site(&self, site: &Site, mut wish: Wish<'_>) -> Result<Answer> {
        let authorization = site.authorization(wish.path);
        let answer = site.endpoint.ask(wish.call(authorization))?;
        if answer.status != 401 || site.token().is_none() {
            return Ok(answer);
        }
        let Ok(renewed) = self.renew() else {
            return Ok(answer);
        };
        let new = token(&renewed, ", ")?;
        renewed.drain();
        if new.is_none() {
            return Ok(answer);
        }
        *site.token.lock().unwrap_or_else(PoisonError::into_inner) = new;
        let token = site.token();
        site.endpoint.ask(wish.call(token))
    }

    /// What the index answered to before, asked again.
    fn renew(&self) -> Result<Answer> {
        let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match announced {
            Some(body) => self.announce(&body),
            None => self.ask_index(Wish::get(&self.at_index("images"))),
        }
    }

    /// Asks one registry after the other, until one has it.
    pub(super) fn ask_any(&self, what: &str, path: &str, headers: &[(&'static str, String)]) -> Result<Answer> {
        let sites = self.sites();
        let last = sites.len().saturating_sub(1);
        for (n, site) in sites.iter().enumerate() {
            let mut wish = Wish::get(path);
            wish.headers = headers.to_vec();
            let failure = match self.ask_site(site, wish) {
                Ok(answer) if matches!(answer.status, 200 | 206 | 416) => {
                    self.prefer(site);
                    return Ok(answer);
                }
                Ok(answer) => self.failed(&site.endpoint, what, answer),
                Err(e) if n == last && last > 0 => {
                    return Err(Error::other(format!(
                        "Could not reach any registry endpoint: {what}: {e}"
                    )));
                }
                Err(e) => {
                    let failed: Result<()> = Err(e).with_context(|| what.to_owned());
                    match failed {
                        Err(e) => e,
                        Ok(()) => continue,
                    }
                }
            };
            if n == last {
                return Err(failure);
            }
            site.endpoint.tell(&format!("{failure}: trying the next endpoint"));
        }
        Err(Error::other(format!(
            "{}: Could not reach any registry endpoint",
            self.name
        )))
    }
}

/// All `X-Docker-Token`s, or what the challenge of an answer says instead; without the word `Token`.
fn token(answer: &Answer, separator: &str) -> Result<Option<String>> {
    let mut found: Vec<String> = Vec::new();
    for header in answer.headers("x-docker-token") {
        let text = header.trim();
        let bare = match text.split_once(' ') {
            Some((word, rest)) if word.eq_ignore_ascii_case("token") => rest,
            _ => text,
        };
        found.push(bare.trim().to_owned());
    }
    if found.iter().all(String::is_empty) {
        let challenges = answer.headers("www-authenticate");
        let known = parse_challenges(&challenges).iter().any(|c| c.is("token"));
        let bare = challenges.iter().filter_map(|c| c.trim().strip_prefix("Token "));
        found = bare.filter(|_| known).map(|t| t.trim().to_owned()).collect();
    }
    found.retain(|t| !t.is_empty());
    let joined = found.join(separator);
    let good = joined.len() <= LONGEST_TOKEN && joined.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    match good {
        true => Ok(Some(joined).filter(|t| !t.is_empty())),
        false => Err(Error::other(format!("{}: invalid token", answer.url.host))),
    }
}

/// `a:1, b` in any number of headers; with a scheme and a path perhaps.
fn endpoints(headers: &[&str]) -> Result<Vec<String>> {
    let mut hosts: Vec<String> = Vec::new();
    for text in headers.iter().flat_map(|h| h.split(',')).map(str::trim) {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bare = bare.split('/').next().unwrap_or_default();
        if bare.is_empty() {
            continue;
        }
        let url = Url::parse(&format!("https://{bare}/"))
            .map_err(|_| Error::other(format!("the index names an impossible registry: '{}'", clean(text))))?;
        if !hosts.contains(&url.host) {
            hosts.push(url.host);
        }
    }
    match hosts.len() > MOST_ENDPOINTS {
        true => Err(Error::other(format!(
            "the index names more than {MOST_ENDPOINTS} registries"
        ))),
        false => Ok(hosts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_in_every_form() {
        for (headers, want) in [
            (&["a"][..], &["a"][..]),
            (&["a:1, b", "c"], &["a:1", "b", "c"]),
            (&["https://a/v1/, a"], &["a"]),
            (&["", " , "], &[]),
        ] {
            assert_eq!(endpoints(headers).unwrap(), want, "{headers:?}");
        }
        for bad in ["a b", "u@h", "\u{1b}[2J"] {
            let e = endpoints(&[bad]).unwrap_err().to_string();
            assert!(e.contains("impossible") && !e.contains('\u{1b}'), "{e}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("h{n}")).collect();
        assert!(endpoints(&[&many.join(",")]).is_err());
    }
}
