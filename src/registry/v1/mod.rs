//! The registries and the index of 2013 (the "Registry & Index" specification, and what docker-registry 0.6 to 0.9 makes
//! of it): images are named by ids, tags are asked of a registry, and an index knows who may do what.
//!
//! ```text
//!   index     GET repositories/NAME/images      → X-Docker-Token, X-Docker-Endpoints, [{id, checksum}]
//!   registry  Authorization: Token …            → a session cookie, which is all that later requests carry
//!             GET repositories/NAME/tags        → {tag: id}
//!             GET images/ID/{ancestry,json,layer}
//! ```
//!
//! A standalone registry is its own index. One that only serves files has no `images` list, and needs none. User name
//! and password go to the host they are for and to no other; so do token and cookies.

mod images;
mod layer;
mod push;
mod remove;
mod session;
mod users;

pub(crate) use crate::registry::http::Repeatable;
pub(crate) use images::ImageJson;
pub(crate) use layer::LayerReader;
pub(crate) use push::Announced;
pub(crate) use session::Site;
pub(crate) use users::{Entered, enter};

use crate::error::{Context as _, Error, Kind, Result};
use crate::registry::auth::parse_challenges;
use crate::registry::endpoint::{Call, Endpoint};
use crate::registry::http::Answer;
use crate::registry::remote::{Action, Opener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a host turned out to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Today,
    Of2013 { standalone: bool },
    Neither,
}

/// Asks: `/v2/` first, then `_ping`. Where a request gets no answer, the one that matters will say so better.
pub(crate) fn probe(endpoint: &Endpoint, action: Action) -> Result<Spoken> {
    match speaks_v2(endpoint) {
        true => Ok(Spoken::Today),
        false => ping(endpoint, action),
    }
}

fn speaks_v2(endpoint: &Endpoint) -> bool {
    let Ok(answer) = endpoint.attempt(&mut Call::get("/v2/", &[]).of_2013(None)) else {
        return true;
    };
    let versioned = answer.header("docker-distribution-api-version").is_some();
    match answer.status {
        200 => versioned || !is_html(&answer),
        401 if versioned || asks_for_tokens(&answer) => true,
        // What stands before it wants a password for everything, so that this says nothing yet.
        401 if endpoint.has_credentials() => {
            let again = endpoint.attempt(&mut Call::get("/v2/", &[]));
            again.is_ok_and(|answer| matches!(answer.status, 200 | 401) && !is_html(&answer))
        }
        401 => true,
        _ => versioned,
    }
}

fn asks_for_tokens(answer: &Answer) -> bool {
    let challenges = parse_challenges(&answer.headers("www-authenticate"));
    challenges.iter().any(|c| c.is("bearer"))
}

fn ping(endpoint: &Endpoint, action: Action) -> Result<Spoken> {
    let what = || format!("ask {} what it is", endpoint.host);
    let answer = endpoint.ask(Call::get("/v1/_ping", &[])).with_context(what)?;
    if answer.status == 401 {
        let e = endpoint.failed(&what(), answer);
        return Err(match endpoint.has_credentials() {
            true => e,
            false => Error::new(Kind::LoginRequired, e.to_string()),
        });
    }
    let has = |name: &str| answer.header(name).is_some();
    let signed = has("x-docker-registry-version") || has("x-docker-registry-standalone");
    let standalone = answer.header("x-docker-registry-standalone").unwrap_or_default();
    let standalone = standalone.eq_ignore_ascii_case("true") || standalone == "1";
    Ok(match answer.status {
        200 if signed => Spoken::Of2013 { standalone },
        // A server of files can't say what it is.
        200 if action == Action::Pull && !is_html(&answer) => Spoken::Of2013 { standalone: false },
        _ => Spoken::Neither,
    })
}

fn is_html(answer: &Answer) -> bool {
    answer.media_type().is_some_and(|t| t.contains("html"))
}

/// `failure` is what came of asking it as a registry of today.
pub(crate) fn is_no_registry(endpoint: &Endpoint, failure: &Error) -> Error {
    let text = format!(
        "this does not look like a registry: {} has neither /v2/ nor /v1/_ping ({failure})",
        endpoint.host
    );
    Error::new(failure.kind(), text).with_hint("is the name of the host right, and its port?")
}

/// A repository at a registry, or at an index that sends us to registries.
pub(crate) struct Repository<'a> {
    opener: &'a Opener,
    /// `host/team/app`
    name: String,
    /// In addresses; what is in the index's own namespace has one part.
    path: String,
    index: Arc<Endpoint>,
    standalone: bool,
    /// Where the index sent us.
    sites: Mutex<Vec<Arc<Site>>>,
    /// The one that answered last.
    preferred: AtomicUsize,
    /// What a push began with: a token that lets us write is got by saying it again.
    announced: Mutex<Option<Vec<u8>>>,
}

impl<'a> Repository<'a> {
    pub(crate) fn new(opener: &'a Opener, index: &Arc<Endpoint>, path: &str, standalone: bool) -> Repository<'a> {
        Repository {
            opener,
            name: opener.reference().name(),
            path: path.strip_prefix("library/").unwrap_or(path).to_owned(),
            index: index.clone(),
            standalone,
            sites: Mutex::default(),
            preferred: AtomicUsize::new(0),
            announced: Mutex::default(),
        }
    }

    /// It is its own index.
    pub(crate) fn is_standalone(&self) -> bool {
        self.standalone
    }

    /// `/v1/repositories/NAME/REST`, as a registry has it: a name of one part is in its library.
    fn at_registry(&self, rest: &str) -> String {
        match self.path.contains('/') {
            true => format!("/v1/repositories/{}/{rest}", self.path),
            false => format!("/v1/repositories/library/{}/{rest}", self.path),
        }
    }

    /// The same, as an index has it.
    fn at_index(&self, rest: &str) -> String {
        format!("/v1/repositories/{}/{rest}", self.path)
    }

    /// Where the index sent us, the one that answered last first.
    pub(crate) fn sites(&self) -> Vec<Arc<Site>> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let first = self
            .preferred
            .load(Ordering::Relaxed)
            .min(sites.len().saturating_sub(1));
        sites.rotate_left(first);
        sites
    }

    fn prefer(&self, site: &Arc<Site>) {
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = sites.iter().position(|s| Arc::ptr_eq(s, site)) {
            self.preferred.store(at, Ordering::Relaxed);
        }
    }

    /// An answer that is no success, in words.
    fn failed(&self, endpoint: &Endpoint, what: &str, answer: Answer) -> Error {
        let status = answer.status;
        let e = endpoint.failed(what, answer);
        let action = self.opener.action();
        match status {
            401 if !self.index.has_credentials() => action.denied(&self.name, &e, Kind::LoginRequired),
            401 | 403 => action.denied(&self.name, &e, Kind::Other),
            404 => Error::not_found(e.to_string()),
            _ => e,
        }
    }
}
