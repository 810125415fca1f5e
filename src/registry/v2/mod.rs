//! Today's registries: the OCI distribution specification, which is docker's registry API version 2.

mod abandon;
pub(crate) mod blob;
mod manifest;
mod tags;
pub(crate) mod upload;

pub(crate) use tags::next_link;

use crate::error::{Error, Kind, Result};
use crate::model::reference::Reference;
use crate::registry::config::Serves;
use crate::registry::endpoint::{Call, Endpoint};
use crate::registry::http::Answer;
use crate::registry::remote::{Action, Selector};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A repository, and everywhere it can be had.
pub(crate) struct Repository {
    /// As it is called, wherever it comes from.
    name: String,
    action: Action,
    /// Mirrors, then the registry itself.
    places: Vec<Arc<Site>>,
    /// Where the last manifest came from: its blobs are there, too.
    preferred: AtomicUsize,
}

/// One of them, as the configuration has it.
pub(crate) struct Place {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) repository: String,
    pub(crate) mirror: bool,
    pub(crate) serves: Serves,
}

/// One of them, with what a token for it must allow.
struct Site {
    place: Place,
    scopes: Vec<String>,
    begun: abandon::Begun,
}

impl Repository {
    pub(crate) fn new(reference: &Reference, action: Action, places: Vec<Place>) -> Repository {
        let places = places
            .into_iter()
            .map(|place| {
                let scopes = vec![scope(&place.repository, action)];
                let begun = abandon::Begun::default();
                Arc::new(Site { place, scopes, begun })
            })
            .collect();
        Repository {
            name: reference.name(),
            action,
            places,
            preferred: AtomicUsize::new(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The registry itself: where everything is written to.
    fn main(&self) -> Result<&Site> {
        self.places
            .last()
            .map(AsRef::as_ref)
            .ok_or_else(|| Error::other("there is no registry to ask"))
    }

    /// Those that may be asked for `which`, in order.
    fn candidates(&self, which: Selector<'_>) -> Vec<(usize, &Site)> {
        let fits = |serves: Serves| match which {
            Selector::Digest(_) => serves != Serves::Tags,
            Selector::Tag(_) => serves != Serves::Digests,
        };
        let sites = self.places.iter().enumerate();
        sites
            .filter(|(_, s)| fits(s.place.serves))
            .map(|(i, s)| (i, s.as_ref()))
            .collect()
    }

    /// All places for a blob, where the manifest came from first.
    fn blob_sites(&self) -> Vec<Arc<Site>> {
        let first = self
            .preferred
            .load(Ordering::Relaxed)
            .min(self.places.len().saturating_sub(1));
        let mut sites: Vec<_> = self.places.clone();
        if first < sites.len() {
            sites[..=first].rotate_right(1);
        }
        sites
    }

    /// A status that is no success, in words; `what` was wanted.
    fn failed(&self, site: &Site, what: &str, answer: Answer) -> Error {
        let (status, endpoint) = (answer.status, &site.place.endpoint);
        let e = endpoint.failed(what, answer);
        match status {
            401 if endpoint.needs_login() => self.action.denied(&self.name, &e, Kind::LoginRequired),
            401 | 403 => self.action.denied(&self.name, &e, Kind::Other),
            _ => e,
        }
    }
}

impl Site {
    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.place.repository)
    }

    fn ask(&self, call: Call<'_>) -> Result<Answer> {
        self.place.endpoint.ask(call)
    }
}

/// docker's token scopes ("Token Scope Documentation" of distribution).
fn scope(repository: &str, action: Action) -> String {
    let actions = match action {
        Action::Pull => "pull",
        Action::Push => "pull,push",
        Action::Delete => "pull,delete",
    };
    format!("repository:{repository}:{actions}")
}
