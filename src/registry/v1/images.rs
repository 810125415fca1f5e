//! What a registry says of tags and images: everything of it is somebody's word, and checked.

use super::Repository;
use super::session::{LIST_LIMIT, Wish};
use crate::error::{Context as _, Error, Kind, Result};
use crate::model::id::is_v1_id;
use crate::model::reference::check_tag;
use crate::registry::http::Answer;
use crate::registry::text::clean;
use std::collections::BTreeMap;

const JSON_LIMIT: usize = 4 << 20;
/// Of ids in an ancestry; an image has fewer.
const LONGEST: usize = 2000;

/// The document of an image, byte for byte, and what came with it.
#[derive(Debug, Clone)]
pub(crate) struct ImageJson {
    pub(crate) bytes: Vec<u8>,
    /// Bytes of its layer as it is sent, if the registry says; not always the truth.
    pub(crate) size: Option<u64>,
    /// `tarsum+sha256:…` and `sha256:…`, of which the latter is of document and layer.
    pub(crate) checksums: Vec<String>,
}

impl Repository<'_> {
    /// The tags, and the images they stand for.
    pub(crate) fn tags(&self) -> Result<BTreeMap<String, String>> {
        let what = format!("list the tags of {}", self.name);
        let path = self.at_registry("tags");
        let answer = match self.ask_any(&what, &path, &[]) {
            // What only serves files has no library.
            Err(e) if e.kind() == Kind::NotFound && path != self.at_index("tags") => {
                self.ask_any(&what, &self.at_index("tags"), &[])
            }
            other => other,
        };
        let answer = answer.map_err(|e| match e.kind() {
            Kind::NotFound => Error::not_found(format!("Repository not found: {} ({e})", self.name)),
            _ => e,
        })?;
        let host = answer.url.host.clone();
        let bytes = body(answer, LIST_LIMIT).context(&what)?;
        let tags: BTreeMap<String, String> = serde_json::from_slice(&bytes)
            .map_err(|_| Error::other(format!("{host} answers no list of tags")))
            .context(&what)?;
        for (tag, id) in &tags {
            check_tag(tag).map_err(|_| Error::other(format!("{host} has an impossible tag: {}", clean(tag))))?;
            check_id(id).with_context(|| format!("tag {tag}"))?;
        }
        Ok(tags)
    }

    /// The image and what it stands on, itself first.
    pub(crate) fn ancestry(&self, id: &str) -> Result<Vec<String>> {
        check_id(id)?;
        let what = format!("look for the parents of {}", &id[..12]);
        let answer = self.ask_any(&what, &format!("/v1/images/{id}/ancestry"), &[])?;
        ancestry(id, &body(answer, LIST_LIMIT).context(&what)?).context(&what)
    }

    pub(crate) fn json(&self, id: &str) -> Result<ImageJson> {
        check_id(id)?;
        let what = format!("fetch the description of {}", &id[..12]);
        let answer = self.ask_any(&what, &format!("/v1/images/{id}/json"), &[])?;
        let size = answer.header("x-docker-size").and_then(|s| s.trim().parse().ok());
        let mut sums: Vec<String> = Vec::new();
        for name in ["x-docker-checksum", "x-docker-checksum-payload"] {
            sums.extend(answer.headers(name).iter().flat_map(|h| checksums(h)));
        }
        Ok(ImageJson {
            size,
            checksums: sums,
            bytes: body(answer, JSON_LIMIT).context(&what)?,
        })
    }

    /// Whether a registry has the image, all of it. One that is still being sent counts as not there.
    pub(crate) fn has_image(&self, site: &super::Site, id: &str) -> Result<bool> {
        check_id(id)?;
        let what = format!("look for image {}", &id[..12]);
        let path = format!("/v1/images/{id}/json");
        let answer = self.ask_site(site, Wish::get(&path)).with_context(|| what.clone())?;
        let status = answer.status;
        let complete = ["x-docker-size", "x-docker-checksum", "x-docker-checksum-payload"];
        let complete = complete.iter().any(|name| answer.header(name).is_some());
        match status {
            200 if complete => {}
            200 => {
                answer.drain();
                let path = format!("/v1/images/{id}/layer");
                let mut wish = Wish::get(&path);
                // All of it would do as well.
                wish.headers.push(("range", "bytes=0-1".to_owned()));
                let layer = self.ask_site(site, wish).with_context(|| what.clone())?;
                return Ok(matches!(layer.status, 200 | 206));
            }
            401 | 403 => return Err(self.failed(&site.endpoint, &what, answer)),
            _ => {}
        }
        answer.drain();
        Ok(status == 200)
    }
}

fn body(answer: Answer, limit: usize) -> Result<Vec<u8>> {
    if super::is_html(&answer) {
        return Err(Error::other(format!("{} answers with a web page", answer.url.host)));
    }
    Ok(answer.bytes(limit)?)
}

pub(super) fn check_id(id: &str) -> Result<()> {
    match is_v1_id(id) {
        true => Ok(()),
        false => Err(Error::other(format!("invalid image id '{}'", clean(id)))),
    }
}

/// One checksum, or JSON's list of them: docker-registry 0.7 and later.
fn checksums(header: &str) -> Vec<String> {
    let header = header.trim();
    match serde_json::from_str::<Vec<String>>(header) {
        Ok(list) => list,
        Err(_) => header
            .split(',')
            .map(|s| s.trim().to_owned())
            .filter(|s| !s.is_empty())
            .collect(),
    }
}

/// A JSON list with the image first and the root last; or, as the first specification has it, a line for each parent,
/// the nearest on the last one, and nothing for an image without.
fn ancestry(id: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let list: Vec<String> = match serde_json::from_slice(bytes) {
        Ok(list) => list,
        Err(_) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Error::other("the list of its parents is not text"))?;
            let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
            let mut lines: Vec<String> = lines.rev().map(str::to_owned).collect();
            if lines.first().is_none_or(|first| first != id) {
                lines.insert(0, id.to_owned());
            }
            lines
        }
    };
    if list.len() > LONGEST {
        return Err(Error::other(format!("more than {LONGEST} parents")));
    }
    list.iter().try_for_each(|id| check_id(id))?;
    if list.first().is_none_or(|first| first != id) {
        return Err(Error::other("the list of its parents begins with another image"));
    }
    let mut seen = std::collections::BTreeSet::new();
    match list.iter().find(|id| !seen.insert(id.as_str())) {
        Some(twice) => Err(Error::other(format!(
            "its parents form a circle: {} is its own",
            &twice[..12]
        ))),
        None => Ok(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(c: char) -> String {
        c.to_string().repeat(64)
    }

    #[test]
    fn ancestry_in_either_form() {
        let (a, b, c) = (id('a'), id('b'), id('c'));
        let want = [a.clone(), b.clone(), c.clone()];
        for text in [
            format!("[\"{a}\",\"{b}\",\"{c}\"]"),
            format!("{c}\n{b}\n"),
            format!("{c}\r\n{b}\r\n{a}\r\n"),
        ] {
            assert_eq!(ancestry(&a, text.as_bytes()).unwrap(), want, "{text}");
        }
        assert_eq!(ancestry(&a, b"").unwrap(), std::slice::from_ref(&a));
        for (text, why) in [
            (format!("[\"{b}\"]"), "another image"),
            ("[]".to_owned(), "another image"),
            (format!("[\"{a}\",\"{b}\",\"{a}\"]"), "circle"),
            (format!("[\"{a}\",\"../x\"]"), "invalid image id '../x'"),
            (format!("[\"{a}\",\"{}:1\"]", &b[2..]), "invalid image id"),
            ("{}".to_owned(), "invalid image id"),
            ("<html>\u{1b}".to_owned(), "invalid image id"),
            (format!("{:?}", vec!["x"; 3000]), "more than"),
        ] {
            let e = ancestry(&a, text.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(why) && !e.contains('\u{1b}'), "{text}: {e}");
        }
    }

    #[test]
    fn checksums_alone_and_in_lists() {
        assert_eq!(checksums("tarsum+sha256:ab"), ["tarsum+sha256:ab"]);
        assert_eq!(
            checksums(r#"["sha256:a", "tarsum+sha256:b"]"#),
            ["sha256:a", "tarsum+sha256:b"]
        );
        assert_eq!(checksums("sha256:a, sha256:b"), ["sha256:a", "sha256:b"]);
        assert!(checksums(" ").is_empty());
    }
}
