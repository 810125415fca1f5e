//! OCI image layouts (image-spec, image-layout.md): a directory, or a tar of it, with `oci-layout`, `index.json` and
//! `blobs/<algorithm>/<hex>`.

use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{self, Index, Manifest};
use crate::format::{media, parse_json, shown};
use crate::model::digest::Digest;
use serde::Deserialize;

pub(crate) const MARKER: &str = "oci-layout";
pub(crate) const INDEX: &str = "index.json";
pub(crate) const MARKER_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What the specification has for a tag, or for a whole name.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd and docker keep the whole name.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

pub(crate) fn check_marker(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let marker: Marker = parse_json(bytes, MARKER)?;
    match marker.image_layout_version.starts_with("1.") {
        true => Ok(()),
        false => Err(Error::other(format!(
            "OCI layout of version {}, want 1",
            shown(&marker.image_layout_version)
        ))),
    }
}

pub(crate) fn parse_index(bytes: &[u8]) -> Result<Index> {
    match manifest::parse(bytes, Some(media::OCI_INDEX))? {
        Manifest::Index(index) => Ok(index),
        _ => Err(Error::other(format!("{INDEX} is not an index"))),
    }
}

/// `blobs/sha256/<hex>`.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The name an entry of `index.json` was saved under: in full if it says so, otherwise perhaps only a tag.
pub(crate) fn name_of(entry: &Descriptor) -> Option<&str> {
    let named = [IMAGE_NAME, REF_NAME]
        .iter()
        .find_map(|key| entry.annotations.get(*key));
    named.map(String::as_str).filter(|name| !name.is_empty())
}

/// The entries that `select` names: `:TAG` or `@DIGEST`; without, the only one, or else the one called latest.
pub(crate) fn chosen<'a>(index: &'a Index, select: Option<&'a str>) -> impl Iterator<Item = &'a Descriptor> {
    let single = index.images().count() == 1;
    index.images().filter(
        move |entry| match select.map(|s| (s.strip_prefix('@'), s.trim_start_matches(':'))) {
            Some((Some(digest), _)) => entry.digest.to_string() == digest,
            Some((None, tag)) => has_tag(entry, tag),
            None => single || has_tag(entry, "latest"),
        },
    )
}

pub(crate) fn has_tag(entry: &Descriptor, tag: &str) -> bool {
    let name = |key: &str| entry.annotations.get(key).map(String::as_str);
    [IMAGE_NAME, REF_NAME].into_iter().filter_map(name).any(|name| {
        // A tag alone, or with the image's name before it.
        let last = name.rsplit('/').next().unwrap_or(name);
        last.rsplit(':').next() == Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_and_names() {
        check_marker(MARKER_TEXT.as_bytes()).unwrap();
        for text in ["", "{}", r#"{"imageLayoutVersion":"2.0.0"}"#, "1.0.0"] {
            assert!(check_marker(text.as_bytes()).is_err(), "{text}");
        }
        let mut entry = Descriptor::of(media::OCI_MANIFEST, b"");
        assert_eq!(name_of(&entry), None);
        entry.annotations.insert(REF_NAME.to_owned(), "1.0".to_owned());
        assert_eq!(name_of(&entry), Some("1.0"));
        entry
            .annotations
            .insert(IMAGE_NAME.to_owned(), "docker.io/library/x:1.0".to_owned());
        assert_eq!(name_of(&entry), Some("docker.io/library/x:1.0"));
        assert!(blob_path(&entry.digest).starts_with("blobs/sha256/e3b0"));
        assert_eq!(
            parse_index(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap().manifests,
            []
        );
        assert!(parse_index(br#"{"schemaVersion":2,"layers":[],"config":{}}"#).is_err());
    }
}
