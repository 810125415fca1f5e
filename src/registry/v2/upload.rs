//! Blobs sent: mounted from another repository where that works, in one PUT where that is taken, in pieces where it is
//! too much at once. An upload that breaks goes on, in pieces, where the registry says it stopped.

use crate::error::{Context as _, Error, Result};
use crate::model::digest::Digest;
use crate::registry::endpoint::{Call, To};
use crate::registry::failure::Trouble;
use crate::registry::http::{Answer, Method, Passing, Payload, Repeatable};
use crate::registry::remote::{Action, Mount};
use crate::registry::retry::{Progress, Reason};
use crate::registry::url::{Url, escape};
use crate::registry::v2::abandon::abandon;
use crate::registry::v2::{Repository, Site, scope};
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes of a request where a blob goes in several: more than the 5 MiB some registries want at least, and little enough
/// to be held in memory.
const PIECE: u64 = 8 << 20;

/// An upload that the registry has begun. Dropped before its end, it is taken back.
pub(crate) struct Upload {
    site: Arc<Site>,
    number: u64,
    location: Url,
    name: String,
    sent: u64,
    /// All of it was sent as it came, in one request without a length.
    streamed: bool,
    /// How much of it is there has to be asked.
    broken: bool,
    /// It goes on behind what broke off in such a request.
    resumed: bool,
}

impl Repository {
    fn writable(&self) -> Result<Arc<Site>> {
        self.main()?;
        self.places
            .last()
            .cloned()
            .ok_or_else(|| Error::other("there is no registry to ask"))
    }

    pub(crate) fn begin_upload(&self) -> Result<Upload> {
        let site = self.writable()?;
        let path = site.path("blobs/uploads/");
        let answer = site.ask(Call::new(Method::POST, To::Path(&path), &site.scopes))?;
        match answer.status {
            202 => self.begun(&site, answer),
            _ => Err(self.failed(&site, &format!("push to {}", self.name), answer)),
        }
    }

    fn begun(&self, site: &Arc<Site>, answer: Answer) -> Result<Upload> {
        let location = location(&answer).with_context(|| format!("push to {}", self.name))?;
        answer.drain();
        Ok(Upload {
            site: site.clone(),
            number: site.begun.enter(location.clone()),
            location,
            name: self.name.clone(),
            sent: 0,
            streamed: false,
            broken: false,
            resumed: false,
        })
    }

    pub(crate) fn mount_blob(&self, digest: &Digest, from_repository: &str) -> Result<Mount> {
        let site = self.writable()?;
        let path = site.path(&format!(
            "blobs/uploads/?mount={}&from={}",
            escape(&digest.to_string()),
            escape(from_repository)
        ));
        let scopes = [site.scopes[0].clone(), scope(from_repository, Action::Pull)];
        let answer = site.ask(Call::new(Method::POST, To::Path(&path), &scopes))?;
        match answer.status {
            201 => {
                answer.drain();
                Ok(Mount::Mounted)
            }
            202 => self.begun(&site, answer).map(Mount::Upload),
            // Not allowed to look into the other one: it has to be sent.
            401 | 403 | 404 => {
                answer.drain();
                self.begin_upload().map(Mount::Upload)
            }
            _ => Err(self.failed(&site, &format!("push to {}", self.name), answer)),
        }
    }

    pub(crate) fn upload_blob(
        &self,
        digest: &Digest,
        size: u64,
        open: &mut dyn FnMut() -> Result<Box<dyn Read + Send>>,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let upload = self.begin_upload()?;
        self.upload_into(
            upload,
            Blob {
                digest,
                size,
                open,
                sent,
            },
        )
    }

    /// Sends what the reader gives, as it comes, while neither its size nor its digest is known: what docker does with all
    /// it compresses. To be ended by [`Self::upload_into`], which makes up for whatever goes wrong here.
    pub(crate) fn stream(mut upload: Upload, body: Passing<'_>) -> Upload {
        upload.broken = upload.feed(body).is_err();
        upload
    }

    /// Sends the rest into an upload that has begun, and ends it.
    pub(crate) fn upload_into(&self, mut upload: Upload, mut blob: Blob<'_>) -> Result<()> {
        let blob = &mut blob;
        let mut progress = Progress::default();
        if std::mem::take(&mut upload.broken) {
            match upload.resume() {
                Some(there) if (1..=blob.size).contains(&there) => upload.resumed = true,
                _ => upload = self.begin_upload()?,
            }
        }
        loop {
            let before = upload.sent;
            let trouble = match upload.attempt(blob) {
                Ok(()) => {
                    upload.ended();
                    return Ok(());
                }
                Err(trouble) => trouble,
            };
            let refused = trouble.reason == Reason::Fatal;
            if upload.streamed || (upload.resumed && refused) {
                // Perhaps it can only take what has a length, or has kept other than it says of what broke off.
                upload = self.begin_upload()?;
                continue;
            }
            let endpoint = &upload.site.place.endpoint;
            if !endpoint.pause(&trouble, progress) {
                return Err(trouble.error).with_context(|| format!("push {} to {}", blob.digest, self.name));
            }
            progress.failures += 1;
            match upload.resume() {
                Some(there) if there > before && there < blob.size => {
                    progress = Progress {
                        failures: 0,
                        some: true,
                    };
                }
                Some(there) if there == before && there > 0 => {}
                // It knows nothing of it any more, or has all of it and did not like it.
                _ => upload = self.begin_upload()?,
            }
        }
    }
}

/// Something to send.
pub(crate) struct Blob<'a> {
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    /// The bytes from the start, each time.
    pub(crate) open: &'a mut dyn FnMut() -> Result<Box<dyn Read + Send>>,
    /// Is told how many are there.
    pub(crate) sent: &'a (dyn Fn(u64) + Sync),
}

impl Upload {
    /// Everything that is not there yet, and the end of it.
    fn attempt(&mut self, blob: &mut Blob<'_>) -> Result<(), Trouble> {
        if self.sent == 0 && !self.streamed && self.whole(blob)? {
            return Ok(());
        }
        if !self.streamed {
            self.pieces(blob)?;
        }
        self.close(blob.digest).map_err(Trouble::fatal)
    }

    /// All that the reader gives, in one request.
    fn feed(&mut self, body: Passing<'_>) -> Result<(), Trouble> {
        let mut call = Call::new(Method::PATCH, To::Url(&self.location), &self.site.scopes)
            .header("content-type", "application/octet-stream")
            .payload(Payload::Once(Some(body)));
        let answer = self.site.place.endpoint.attempt(&mut call)?;
        match answer.status {
            200..300 => {
                self.goes_on(&answer).map_err(Trouble::fatal)?;
                answer.drain();
                self.streamed = true;
                Ok(())
            }
            _ => Err(Trouble::fatal(self.site.place.endpoint.failed("refused", answer))),
        }
    }

    /// All of it in one request; whether the registry takes so much at once.
    fn whole(&mut self, blob: &mut Blob<'_>) -> Result<bool, Trouble> {
        let url = self.location.clone().with_query("digest", &blob.digest.to_string());
        let told = |n: u64| (blob.sent)(n);
        let mut call = Call::new(Method::PUT, To::Url(&url), &self.site.scopes)
            .header("content-type", "application/octet-stream")
            .payload(Payload::Again(Repeatable {
                size: blob.size,
                open: &mut *blob.open,
                sent: &told,
            }));
        let answer = self.site.place.endpoint.attempt(&mut call)?;
        match answer.status {
            200..300 => {
                answer.drain();
                Ok(true)
            }
            // What stands before the registry has a limit.
            413 => {
                answer.drain();
                Ok(false)
            }
            _ => Err(Trouble::fatal(self.site.place.endpoint.failed("refused", answer))),
        }
    }

    /// What is missing, in several requests.
    fn pieces(&mut self, blob: &mut Blob<'_>) -> Result<(), Trouble> {
        let read = |e: io::Error| Trouble::fatal(Error::from(e));
        let mut reader = (blob.open)().map_err(Trouble::fatal)?;
        io::copy(&mut reader.by_ref().take(self.sent), &mut io::sink()).map_err(read)?;
        let mut piece = Vec::new();
        while self.sent < blob.size {
            piece.clear();
            reader.by_ref().take(PIECE).read_to_end(&mut piece).map_err(read)?;
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            if length == 0 {
                return Err(Trouble::fatal(Error::other("what is to be sent has become shorter")));
            }
            let range = format!("{}-{}", self.sent, self.sent + length - 1);
            let mut call = Call::new(Method::PATCH, To::Url(&self.location), &self.site.scopes)
                .header("content-type", "application/octet-stream")
                .header("content-range", range)
                .payload(Payload::Bytes(&piece));
            let answer = self.site.place.endpoint.attempt(&mut call)?;
            match answer.status {
                200..300 => {
                    self.goes_on(&answer).map_err(Trouble::fatal)?;
                    answer.drain();
                    self.sent += length;
                    (blob.sent)(self.sent);
                }
                _ => return Err(Trouble::fatal(self.site.place.endpoint.failed("refused", answer))),
            }
        }
        Ok(())
    }

    /// Asks how much the registry has of it.
    fn resume(&mut self) -> Option<u64> {
        let call = Call::new(Method::GET, To::Url(&self.location), &self.site.scopes);
        let answer = self.site.ask(call).ok()?;
        if answer.status != 204 {
            return None;
        }
        let there = uploaded(answer.header("range")?)?;
        self.goes_on(&answer).ok()?;
        self.sent = there;
        Some(there)
    }

    fn close(&self, digest: &Digest) -> Result<()> {
        let url = self.location.clone().with_query("digest", &digest.to_string());
        let call = Call::new(Method::PUT, To::Url(&url), &self.site.scopes)
            .header("content-type", "application/octet-stream")
            .payload(Payload::Bytes(&[]));
        let answer = self.site.ask(call)?;
        match answer.status {
            200..300 => {
                answer.drain();
                Ok(())
            }
            _ => Err(self
                .site
                .place
                .endpoint
                .failed(&format!("push {digest} to {}", self.name), answer)),
        }
    }

    fn goes_on(&mut self, answer: &Answer) -> Result<()> {
        self.location = location(answer)?;
        self.site.begun.moved(self.number, &self.location);
        Ok(())
    }

    /// All of it is there: nothing is to be taken back.
    fn ended(&self) {
        self.site.begun.leave(self.number);
    }
}

impl Drop for Upload {
    /// One that has not ended is taken back.
    fn drop(&mut self) {
        let left = self.site.begun.leave(self.number);
        abandon(&self.site, left.into_iter().collect());
    }
}

/// Where an upload goes on.
fn location(answer: &Answer) -> Result<Url> {
    let location = answer
        .header("location")
        .ok_or_else(|| Error::other(format!("{} does not say where the upload goes on", answer.url.host)))?;
    answer.url.join(location)
}

/// `Range: 0-99` → 100 bytes are there.
fn uploaded(range: &str) -> Option<u64> {
    let range = range.trim();
    let (start, end) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    // Nothing is 0-0 as well as one byte is: sending that one again costs nothing.
    (start.trim() == "0").then_some(if end == 0 { 0 } else { end + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there() {
        for (range, want) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0-x", None),
            ("", None),
        ] {
            assert_eq!(uploaded(range), want, "{range}");
        }
    }
}
