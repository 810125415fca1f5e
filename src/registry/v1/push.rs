//! Images sent: the index hears what is coming and lets us in, a registry gets document, layer, checksum and tag, and
//! the index the checksums at the end.

use super::images::check_id;
use super::session::{Site, Wish};
use super::{Repository, is_html};
use crate::error::{Context as _, Error, Result};
use crate::registry::endpoint::Endpoint;
use crate::registry::http::{Answer, Method, Payload, Repeatable};
use crate::registry::url::escape;
use serde::Serialize;
use std::sync::PoisonError;

const JSON: &str = "application/json";

/// What the index is told of an image, before and after.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Announced<'a> {
    pub(crate) id: &'a str,
    #[serde(rename = "Tag", skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checksum: Option<&'a str>,
}

impl Repository<'_> {
    /// Announces what will be sent.
    pub(crate) fn begin_push(&self, images: &[Announced<'_>]) -> Result<()> {
        let what = format!("push to {}", self.name);
        let body = serde_json::to_vec(images)?;
        let answer = self.announce(&body).with_context(|| what.clone())?;
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        if !matches!(answer.status, 200 | 201) || is_html(&answer) {
            return Err(self.failed(&self.index, &what, answer));
        }
        self.admit(&answer).context(&what)?;
        answer.drain();
        Ok(())
    }

    pub(super) fn announce(&self, body: &[u8]) -> Result<Answer> {
        let path = self.at_index("");
        let mut wish = Wish::new(Method::PUT, &path, Payload::Bytes(body));
        wish.headers.push(("content-type", JSON.to_owned()));
        self.ask_index(wish)
    }

    /// `false` if the registry has it already.
    pub(crate) fn put_json(&self, site: &Site, id: &str, json: &[u8]) -> Result<bool> {
        check_id(id)?;
        let what = format!("push the description of {}", &id[..12]);
        let path = format!("/v1/images/{id}/json");
        let mut wish = Wish::new(Method::PUT, &path, Payload::Bytes(json));
        wish.headers.push(("content-type", JSON.to_owned()));
        let answer = self.ask_site(site, wish).with_context(|| what.clone())?;
        match answer.status {
            200..300 => {
                answer.drain();
                Ok(true)
            }
            _ => match self.exists_already(&site.endpoint, &what, answer) {
                None => Ok(false),
                Some(e) => Err(e),
            },
        }
    }

    pub(crate) fn put_layer(&self, site: &Site, id: &str, layer: Repeatable<'_>) -> Result<()> {
        check_id(id)?;
        let what = format!("push the layer of {}", &id[..12]);
        let path = format!("/v1/images/{id}/layer");
        let mut body = Payload::Again(layer);
        let mut wish = Wish::new(Method::PUT, &path, body.reborrow());
        wish.headers
            .push(("content-type", "application/octet-stream".to_owned()));
        let answer = self.ask_site(site, wish).with_context(|| what.clone())?;
        self.done_or_there(site, &what, answer)
    }

    /// Both kinds: registries before docker-registry 0.7 know the first only, and its last ones the second.
    pub(crate) fn put_checksum(&self, site: &Site, id: &str, tarsum: &str, payload: &str) -> Result<()> {
        check_id(id)?;
        let what = format!("push the checksum of {}", &id[..12]);
        let path = format!("/v1/images/{id}/checksum");
        let mut wish = Wish::new(Method::PUT, &path, Payload::Empty);
        wish.headers.push(("x-docker-checksum", tarsum.to_owned()));
        wish.headers.push(("x-docker-checksum-payload", payload.to_owned()));
        let answer = self.ask_site(site, wish).with_context(|| what.clone())?;
        self.done_or_there(site, &what, answer)
    }

    pub(crate) fn put_tag(&self, site: &Site, tag: &str, id: &str) -> Result<()> {
        check_id(id)?;
        let what = format!("push tag {tag} of {}", self.name);
        let path = self.at_registry(&format!("tags/{}", escape(tag)));
        let body = format!("\"{id}\"");
        let mut wish = Wish::new(Method::PUT, &path, Payload::Bytes(body.as_bytes()));
        wish.headers.push(("content-type", JSON.to_owned()));
        let answer = self.ask_site(site, wish).with_context(|| what.clone())?;
        match answer.status {
            200..300 => {
                answer.drain();
                Ok(())
            }
            _ => Err(self.failed(&site.endpoint, &what, answer)),
        }
    }

    /// Tells the index the checksums: what has none there counts as still being pushed.
    pub(crate) fn finish_push(&self, images: &[Announced<'_>]) -> Result<()> {
        let what = format!("push the checksums of {}", self.name);
        let body = serde_json::to_vec(images)?;
        let path = self.at_index("images");
        let mut wish = Wish::new(Method::PUT, &path, Payload::Bytes(&body));
        wish.headers.push(("content-type", JSON.to_owned()));
        let hosts: Vec<String> = self.sites().iter().map(|s| s.endpoint.host.clone()).collect();
        wish.headers.push(("x-docker-endpoints", hosts.join(",")));
        let answer = self.ask_index(wish).with_context(|| what.clone())?;
        match answer.status {
            200 | 201 | 204 => {
                answer.drain();
                Ok(())
            }
            _ => Err(self.failed(&self.index, &what, answer)),
        }
    }

    fn done_or_there(&self, site: &Site, what: &str, answer: Answer) -> Result<()> {
        match answer.status {
            200..300 => {
                answer.drain();
                Ok(())
            }
            _ => self.exists_already(&site.endpoint, what, answer).map_or(Ok(()), Err),
        }
    }

    /// `None` if what it refuses is what it has.
    fn exists_already(&self, endpoint: &Endpoint, what: &str, answer: Answer) -> Option<Error> {
        let status = answer.status;
        let e = self.failed(endpoint, what, answer);
        let there = status == 409 || e.to_string().contains("Image already exists");
        (!there).then_some(e)
    }
}
