//! Manifests: asked for, fetched, sent, deleted.

use crate::error::{Context as _, Error, Kind, Result};
use crate::model::digest::Digest;
use crate::registry::endpoint::{Call, To};
use crate::registry::http::{Answer, Method, Payload};
use crate::registry::remote::{Fetched, Head, Selector};
use crate::registry::v2::{Repository, Site};
use std::sync::atomic::Ordering;

/// What the distribution specification wants registries to take at least, and clients need not exceed.
const LIMIT: usize = 4 << 20;
/// Its digest is of a part of it (the signatures are not signed), so only who parses it can check.
const SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

impl Repository {
    fn shown(&self, which: Selector<'_>) -> String {
        match which {
            Selector::Tag(tag) => format!("{}:{tag}", self.name),
            Selector::Digest(digest) => format!("{}@{digest}", self.name),
        }
    }

    /// Asks mirrors, then the registry itself, until one has an answer. `take` makes something of it, or says that the
    /// next one is to be asked.
    fn first<T>(
        &self,
        which: Selector<'_>,
        method: &Method,
        accept: &[&str],
        take: impl Fn(&Site, Answer) -> Result<T>,
    ) -> Result<T> {
        let candidates = self.candidates(which);
        let last = candidates.len().saturating_sub(1);
        for (n, (index, site)) in candidates.into_iter().enumerate() {
            let path = site.path(&format!("manifests/{}", raw(which)));
            let mut call = Call::new(method.clone(), To::Path(&path), &site.scopes);
            if !accept.is_empty() {
                call = call.header("accept", accept.join(", "));
            }
            match site.ask(call).and_then(|answer| take(site, answer)) {
                Ok(taken) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(taken);
                }
                Err(e) if n == last => return Err(e),
                Err(e) => site
                    .place
                    .endpoint
                    .tell(&format!("mirror {}: {e}", site.place.endpoint.host)),
            }
        }
        Err(Error::other(format!("no registry serves {}", self.shown(which))))
    }

    pub(crate) fn head_manifest(&self, which: Selector<'_>, accept: &[&str]) -> Result<Option<Head>> {
        let found = self.first(which, &Method::HEAD, accept, |site, answer| match answer.status {
            200 => Ok(Some(Head {
                digest: answer.header("docker-content-digest").and_then(|d| d.parse().ok()),
            })),
            404 if site.place.mirror => Err(self.unknown(which, answer)),
            404 => Ok(None),
            401 | 403 => Err(self.failed(site, &format!("look for {}", self.shown(which)), answer)),
            // Some proxies don't know HEAD: fetching will tell.
            _ => Ok(Some(Head { digest: None })),
        });
        found.with_context(|| self.shown(which))
    }

    pub(crate) fn fetch_manifest(&self, which: Selector<'_>, accept: &[&str]) -> Result<Fetched> {
        self.first(which, &Method::GET, accept, |site, answer| {
            let html = answer.media_type().is_some_and(|t| t.contains("html"));
            match answer.status {
                200 if !html => self.checked(which, answer),
                404 if !html => Err(self.unknown(which, answer)),
                _ => Err(self.failed(site, &format!("fetch the manifest of {}", self.shown(which)), answer)),
            }
        })
    }

    fn checked(&self, which: Selector<'_>, answer: Answer) -> Result<Fetched> {
        let what = || format!("manifest of {}", self.shown(which));
        let media_type = answer.media_type();
        let promised = match which {
            Selector::Digest(digest) => Some(*digest),
            Selector::Tag(_) => answer.header("docker-content-digest").and_then(|d| d.parse().ok()),
        };
        let bytes = answer.bytes(LIMIT).map_err(Error::from).with_context(what)?;
        let digest = Digest::of(&bytes);
        let signed = media_type.as_deref() == Some(SIGNED);
        match promised {
            Some(promised) if promised != digest && !signed => Err(Error::other(format!(
                "{}: its digest is {digest}, not {promised}",
                what()
            ))),
            _ => Ok(Fetched {
                bytes,
                media_type,
                digest,
            }),
        }
    }

    fn unknown(&self, which: Selector<'_>, answer: Answer) -> Error {
        let (_, complaint) = answer.complaint();
        Error::new(
            Kind::NotFound,
            format!("manifest for {} not found: {complaint}", self.shown(which)),
        )
    }

    pub(crate) fn put_manifest(&self, which: Selector<'_>, media_type: &str, bytes: &[u8]) -> Result<()> {
        let site = self.main()?;
        let path = site.path(&format!("manifests/{}", raw(which)));
        let call = Call::new(Method::PUT, To::Path(&path), &site.scopes)
            .header("content-type", media_type)
            .payload(Payload::Bytes(bytes));
        let answer = site.ask(call)?;
        match answer.status {
            200..300 => {
                answer.drain();
                Ok(())
            }
            _ => Err(self.failed(site, &format!("push the manifest of {}", self.shown(which)), answer)),
        }
    }

    pub(crate) fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let site = self.main()?;
        let which = Selector::Digest(digest);
        let path = site.path(&format!("manifests/{digest}"));
        let answer = site.ask(Call::new(Method::DELETE, To::Path(&path), &site.scopes))?;
        match answer.status {
            200..300 => {
                answer.drain();
                Ok(())
            }
            404 => Err(self.unknown(which, answer)),
            405 => Err(
                Error::other(format!("{} does not allow deletes", site.place.endpoint.host))
                    .with_hint("its administrator can: REGISTRY_STORAGE_DELETE_ENABLED=true"),
            ),
            _ => Err(self.failed(site, &format!("delete {}", self.shown(which)), answer)),
        }
    }
}

fn raw(which: Selector<'_>) -> String {
    match which {
        Selector::Tag(tag) => tag.to_owned(),
        Selector::Digest(digest) => digest.to_string(),
    }
}
