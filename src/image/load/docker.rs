//! Archives with a `manifest.json` that lists images: docker since 1.10, podman, skopeo, and barge.
//!
//! Layers are plain tars, and the same one may stand there once for several images, as a link. Docker's newer store
//! writes compressed layers, beside an OCI index whose manifests name them: then these are what the images came with.

use super::archive::Archive;
use super::{Place, Planned, layout, name};
use crate::error::{Context, Result};
use crate::format::docker_archive::{self, Entry};
use crate::format::shown;
use crate::model::digest::Digest;
use crate::model::id::DiffId;

pub(super) fn plan(archive: &Archive, list: &[u8]) -> Result<Vec<Planned>> {
    // An index beside it that can't be read is no reason not to take what the list says.
    let described = layout::plan(archive).unwrap_or_default();
    let mut all = Vec::new();
    for entry in docker_archive::parse_manifest(list)? {
        let said = || format!("image {}", shown(entry.repo_tags.first().unwrap_or(&entry.config)));
        all.push(image(archive, &entry, &described).with_context(said)?);
    }
    Ok(all)
}

fn image(archive: &Archive, entry: &Entry, described: &[Planned]) -> Result<Planned> {
    let bytes = match digest_in(&entry.config) {
        Some(digest) => archive.need_blob(&entry.config, &digest)?,
        None => archive.need(&entry.config)?,
    };
    let config = crate::format::config::parse(&bytes)?;
    crate::format::config::check_against(&config, entry.layers.len())?;
    let mut layers = Vec::with_capacity(entry.layers.len());
    for (path, diff_id) in entry.layers.iter().zip(&config.rootfs.diff_ids) {
        layers.push(place(archive, path, diff_id)?);
    }
    let mut planned = Planned::new(bytes, layers)?;
    if let Some(original) = described
        .iter()
        .find(|other| other.config == planned.config && is_packed(other))
    {
        planned.manifest.clone_from(&original.manifest);
        planned.indexes.clone_from(&original.indexes);
        planned.layers.clone_from(&original.layers);
    }
    planned.names = entry.repo_tags.iter().map(|tag| name(tag)).collect::<Result<_>>()?;
    Ok(planned)
}

/// A manifest of plain tars says no more than the configuration does.
fn is_packed(image: &Planned) -> bool {
    let diffs = &image.parsed.rootfs.diff_ids;
    let mut both = image.layers.iter().zip(diffs);
    both.any(|(place, diff)| place.blob.is_some_and(|(digest, _)| digest != diff.0))
}

/// What is called by a digest other than the layer's own is a compressed form of it.
fn place(archive: &Archive, path: &str, diff_id: &DiffId) -> Result<Place> {
    let named = path.strip_prefix("blobs/").and_then(|_| digest_in(path));
    let blob = match named.filter(|digest| *digest != diff_id.0) {
        Some(digest) => archive.find(path)?.map(|content| (digest, content.length())),
        None => None,
    };
    Ok(Place {
        path: path.to_owned(),
        blob,
        media_type: None,
    })
}

/// `<hex>.json`, `blobs/sha256/<hex>`.
fn digest_in(path: &str) -> Option<Digest> {
    let last = path.rsplit('/').next()?;
    Digest::from_hex(last.strip_suffix(".json").unwrap_or(last))
}
