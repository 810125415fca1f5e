//! A layer fetched: a stream that goes on where it broke. Lengths are taken for what they are at that age: docker-registry
//! announces one byte more than it sends of a range, and calls the range itself without its unit.

use super::Repository;
use super::images::check_id;
use crate::error::{Error, Result};
use crate::registry::failure::explain_io;
use crate::registry::http::Answer;
use crate::registry::retry::Progress;
use std::io::{self, Read};

pub(crate) struct LayerReader<'a> {
    repository: &'a Repository<'a>,
    id: String,
    /// What the registry says it has.
    size: Option<u64>,
    position: u64,
    body: Option<(Box<dyn Read + Send>, String)>,
    /// Bytes came since it was opened.
    fresh: bool,
    ended: bool,
    progress: Progress,
}

impl<'a> Repository<'a> {
    /// The bytes of an image's layer; `size` is what the registry says they are. Nothing is asked before they are read.
    pub(crate) fn layer(&'a self, id: &str, size: Option<u64>) -> Result<LayerReader<'a>> {
        check_id(id)?;
        Ok(LayerReader {
            repository: self,
            id: id.to_owned(),
            size,
            position: 0,
            body: None,
            fresh: true,
            ended: false,
            progress: Progress::default(),
        })
    }
}

impl LayerReader<'_> {
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    fn connect(&mut self) -> Result<()> {
        let what = format!("fetch the layer of {}", &self.id[..12]);
        let mut headers = Vec::new();
        if self.position > 0 {
            headers.push(("range", format!("bytes={}-", self.position)));
        }
        let path = format!("/v1/images/{}/layer", self.id);
        let answer = self.repository.ask_any(&what, &path, &headers)?;
        let host = answer.url.host.clone();
        let wrong = |why: &str| Error::other(format!("{what}: {host}: {why}"));
        if super::is_html(&answer) {
            return Err(wrong("answers with a web page"));
        }
        let start = match answer.status {
            416 if self.position > 0 => {
                self.ended = true;
                return Ok(());
            }
            416 => return Err(wrong("has no bytes of it")),
            206 => {
                let (start, total) = content_range(&answer).ok_or_else(|| wrong("invalid Content-Range"))?;
                self.size = self.size.or(total);
                start
            }
            _ => {
                self.size = self.size.or(answer.length());
                0
            }
        };
        if start > self.position {
            return Err(wrong(&format!("sends bytes from {start}, not from {}", self.position)));
        }
        let skip = self.position - start;
        let mut reader = answer.into_reader();
        let skipped = io::copy(&mut reader.by_ref().take(skip), &mut io::sink()).unwrap_or_default();
        // One that is shorter now than before is noticed by who unpacks it.
        self.ended = skipped < skip;
        self.fresh = false;
        self.body = Some((reader, host));
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if self.ended || buffer.is_empty() {
                return Ok(0);
            }
            let Some((body, host)) = &mut self.body else {
                self.connect()?;
                continue;
            };
            let trouble = match body.read(buffer) {
                Ok(0) => {
                    // It ends; or there should be more, which one more request tells.
                    self.ended = !self.fresh || self.size.is_none_or(|size| self.position >= size);
                    self.body = None;
                    continue;
                }
                Ok(n) => {
                    self.position += n as u64;
                    self.fresh = true;
                    self.progress = Progress {
                        failures: 0,
                        some: true,
                    };
                    return Ok(n);
                }
                Err(_) if self.size == Some(self.position) => {
                    self.ended = true;
                    return Ok(0);
                }
                Err(e) => explain_io(&e, host),
            };
            self.body = None;
            let sites = self.repository.sites();
            let patient = sites.first().is_some_and(|s| s.endpoint.pause(&trouble, self.progress));
            if !patient {
                return Err(trouble.error);
            }
            self.progress.failures += 1;
        }
    }
}

impl Read for LayerReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.some(buffer).map_err(|e| io::Error::other(e.to_string()))
    }
}

/// Where it begins, and how long the whole is. The unit may be missing.
fn content_range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    parse_range(answer.header("content-range")?)
}

fn parse_range(header: &str) -> Option<(u64, Option<u64>)> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, str::trim_start);
    let (range, total) = text.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    Some((start, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_with_and_without_their_unit() {
        for (header, want) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("5-10/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("x", None),
        ] {
            assert_eq!(parse_range(header), want, "{header}");
        }
    }
}
