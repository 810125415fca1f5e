//! Blobs fetched: a stream that heals itself. What breaks in the middle goes on where it stopped, from the same
//! registry, a mirror, or where a foreign layer says it is, as long as that brings anything.
//!
//! Nothing is hashed here: whoever reads it does, and so notices what a server made up.

use crate::error::{Context as _, Error, Kind, Result};
use crate::model::digest::Digest;
use crate::registry::endpoint::{Call, To};
use crate::registry::failure::{Trouble, explain_io};
use crate::registry::http::{Answer, Method};
use crate::registry::remote::Wanted;
use crate::registry::retry::{Progress, Reason};
use crate::registry::url::Url;
use crate::registry::v2::{Repository, Site};
use std::io::{self, Read};
use std::sync::Arc;

impl Repository {
    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let site = self.main()?;
        let path = site.path(&format!("blobs/{digest}"));
        let answer = site.ask(Call::new(Method::HEAD, To::Path(&path), &site.scopes))?;
        match answer.status {
            200 => Ok(true),
            401 | 403 => Err(self.failed(site, &format!("look for {digest} in {}", self.name), answer)),
            _ => Ok(false),
        }
    }

    pub(crate) fn fetch_blob(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>> {
        let wanted = Wanted {
            digest,
            size: None,
            urls: &[],
        };
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        let reader = self.open_blob(wanted, 0)?;
        reader
            .take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .with_context(|| format!("fetch {digest}"))?;
        if bytes.len() > limit {
            return Err(Error::other(format!("{digest} is longer than {limit} bytes")));
        }
        let got = Digest::of(&bytes);
        match got == *digest {
            true => Ok(bytes),
            false => Err(Error::other(format!(
                "{}: the digest of what came is {got}, not {digest}",
                self.name
            ))),
        }
    }

    pub(crate) fn open_blob(&self, wanted: Wanted<'_>, offset: u64) -> Result<BlobReader> {
        let mut sources: Vec<BlobSource> = self.blob_sites().into_iter().map(BlobSource::Registry).collect();
        for url in wanted.urls {
            sources.push(BlobSource::Foreign(Url::parse(url)?));
        }
        let mut reader = BlobReader {
            digest: *wanted.digest,
            sources,
            at: 0,
            missing: 0,
            position: offset,
            size: wanted.size,
            body: None,
            progress: Progress::default(),
            name: self.name.clone(),
        };
        if reader.size != Some(offset) {
            reader.heal(None)?;
        }
        Ok(reader)
    }
}

enum BlobSource {
    Registry(Arc<Site>),
    Foreign(Url),
}

/// A blob's bytes, in order, from an offset to the end.
pub(crate) struct BlobReader {
    digest: Digest,
    sources: Vec<BlobSource>,
    /// Which of them is read.
    at: usize,
    /// How many in a row do not have it.
    missing: usize,
    position: u64,
    size: Option<u64>,
    body: Option<Body>,
    progress: Progress,
    name: String,
}

struct Body {
    reader: Box<dyn Read + Send>,
    host: String,
    /// Its length was announced: its end can be seen without waiting for anything.
    framed: bool,
}

impl BlobReader {
    /// Opens a new body at the position, after `trouble` perhaps, waiting as the rules say.
    fn heal(&mut self, mut trouble: Option<Trouble>) -> Result<()> {
        self.body = None;
        loop {
            if let Some(trouble) = trouble.take() {
                self.decide(trouble)?;
            }
            match self.connect() {
                Ok(()) => return Ok(()),
                Err(e) => trouble = Some(e),
            }
        }
    }

    /// Where to ask next, after how long; or that it is over.
    fn decide(&mut self, trouble: Trouble) -> Result<()> {
        let others = self.sources.len() > 1;
        if trouble.reason == Reason::Fatal {
            self.missing += 1;
            if self.missing >= self.sources.len() {
                return Err(trouble.error);
            }
            self.tell(&trouble.error);
            self.at = (self.at + 1) % self.sources.len();
            return Ok(());
        }
        let go_on = match self.endpoint() {
            Some(site) => site.place.endpoint.pause(&trouble, self.progress),
            None => false,
        };
        if !go_on {
            // Another place may do better, but each only once without progress.
            self.missing += 1;
            if !others || self.missing >= self.sources.len() {
                return Err(trouble.error);
            }
            self.tell(&trouble.error);
            self.progress.failures = 0;
            self.at = (self.at + 1) % self.sources.len();
            return Ok(());
        }
        self.progress.failures += 1;
        Ok(())
    }

    /// Whose patience counts.
    fn endpoint(&self) -> Option<&Arc<Site>> {
        let registry = |source: &'_ BlobSource| matches!(source, BlobSource::Registry(_));
        let source = match &self.sources[self.at] {
            BlobSource::Foreign(_) => self.sources.iter().find(|s| registry(s))?,
            own => own,
        };
        match source {
            BlobSource::Registry(site) => Some(site),
            BlobSource::Foreign(_) => None,
        }
    }

    fn tell(&self, e: &Error) {
        if let Some(site) = self.endpoint() {
            site.place.endpoint.tell(&format!("{e}: trying elsewhere"));
        }
    }

    fn connect(&mut self) -> Result<(), Trouble> {
        let range = format!("bytes={}-", self.position);
        let answer = match &self.sources[self.at] {
            BlobSource::Registry(site) => {
                let path = site.path(&format!("blobs/{}", self.digest));
                let mut call = Call::new(Method::GET, To::Path(&path), &site.scopes);
                if self.position > 0 {
                    call = call.header("range", range);
                }
                site.place.endpoint.attempt(&mut call)?
            }
            BlobSource::Foreign(url) => {
                let Some(site) = self.endpoint() else {
                    return Err(Trouble::fatal(Error::other("there is no registry to ask")));
                };
                let mut call = Call::new(Method::GET, To::Url(url), &[]);
                if self.position > 0 {
                    call = call.header("range", range);
                }
                site.place.endpoint.attempt(&mut call)?
            }
        };
        self.accept(answer)
    }

    fn accept(&mut self, answer: Answer) -> Result<(), Trouble> {
        let host = answer.url.host.clone();
        let html = answer.media_type().is_some_and(|t| t.contains("html"));
        let wrong = |why: String| Trouble::fatal(Error::other(format!("{}: {host}: {why}", self.digest)));
        let (start, total) = match answer.status {
            206 => {
                let header = answer.header("content-range").unwrap_or_default();
                let (start, total) = content_range(header).ok_or_else(|| wrong("invalid Content-Range".to_owned()))?;
                if start != self.position {
                    return Err(wrong(format!("sends bytes from {start}, not from {}", self.position)));
                }
                (start, total)
            }
            200 if html => return Err(wrong("answers with a web page".to_owned())),
            200 => (0, answer.length()),
            // What we have is longer than what there is.
            416 => return Err(wrong("the blob is shorter than what has been fetched of it".to_owned())),
            404 => {
                let (_, complaint) = answer.complaint();
                let text = format!("{} in {} at {host}: {complaint}", self.digest, self.name);
                return Err(Trouble::fatal(Error::new(Kind::NotFound, text)));
            }
            _ => {
                let complaint = answer.complaint().1;
                return Err(wrong(complaint));
            }
        };
        match (self.size, total) {
            (Some(want), Some(got)) if want != got => {
                return Err(wrong(format!("the blob has {got} bytes there, not {want}")));
            }
            (None, Some(got)) => self.size = Some(got),
            _ => {}
        }
        let framed = answer.length().is_some();
        let mut reader = answer.into_reader();
        let skip = self.position - start;
        if skip > 0 {
            // The server does not know Range.
            let skipped = io::copy(&mut reader.by_ref().take(skip), &mut io::sink());
            match skipped {
                Ok(n) if n == skip => {}
                Ok(_) => return Err(wrong("the blob is shorter than what has been fetched of it".to_owned())),
                Err(e) => return Err(explain_io(&e, &host)),
            }
        }
        self.body = Some(Body { reader, host, framed });
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.size.is_some_and(|size| self.position >= size) {
                return self.check_end();
            }
            let Some(body) = &mut self.body else {
                self.heal(None)?;
                continue;
            };
            let room = self.size.map_or(u64::MAX, |size| size - self.position);
            let length = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let trouble = match body.reader.read(&mut buffer[..length]) {
                Ok(0) if self.size.is_none() => return Ok(0),
                Ok(0) => explain_io(&io::ErrorKind::UnexpectedEof.into(), &body.host),
                Ok(n) => {
                    self.position += u64::try_from(n).unwrap_or(u64::MAX);
                    self.missing = 0;
                    self.progress = Progress {
                        failures: 0,
                        some: true,
                    };
                    if body.framed && self.size == Some(self.position) {
                        // Gives the connection back, even if nobody asks for what is behind the end.
                        self.check_end()?;
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => explain_io(&e, &body.host),
            };
            self.heal(Some(trouble))?;
        }
    }

    /// At the end there must be an end. Reading it also gives the connection back.
    fn check_end(&mut self) -> Result<usize> {
        let Some(mut body) = self.body.take() else {
            return Ok(0);
        };
        match body.reader.read(&mut [0]) {
            Ok(0) | Err(_) => Ok(0),
            Ok(_) => Err(Error::other(format!(
                "{}: {} sends more than the {} bytes it has",
                self.digest,
                body.host,
                self.size.unwrap_or_default()
            ))),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(|e| io::Error::other(e.to_string()))
    }
}

/// `bytes 5-9/10` → where it starts, and the size of all.
fn content_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (start, end) = range.trim().split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    (start <= end && total.is_none_or(|t| end < t)).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (header, want) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 0-0/*", Some((0, None))),
            ("bytes 5-10/10", None),
            ("bytes 6-5/10", None),
            ("bytes */10", None),
            ("items 0-1/2", None),
            ("", None),
        ] {
            assert_eq!(content_range(header), want, "{header}");
        }
    }
}
