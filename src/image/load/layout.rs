//! OCI layouts, as a directory or as a tar of one; and the flat directories that skopeo's `dir:` writes.
//!
//! An index may name more than the layout has, as only some platforms were put into it. What is there is taken.

use super::archive::Archive;
use super::{Place, Planned, name};
use crate::error::{Context, Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{self, ImageManifest, Manifest};
use crate::format::{layout, media};
use crate::image::nesting::DEEPEST;
use crate::model::digest::Digest;
use crate::model::reference::Reference;
use std::sync::Arc;

pub(super) fn plan(archive: &Archive) -> Result<Vec<Planned>> {
    plan_some(archive, |_| true)
}

/// The image that `select` names: `:TAG` or `@DIGEST`; without, the only one, or else the one called latest.
pub(super) fn plan_one(archive: &Archive, select: Option<&str>) -> Result<Vec<Planned>> {
    let index = layout::parse_index(&archive.need(layout::INDEX)?).context(layout::INDEX)?;
    let chosen: Vec<Digest> = layout::chosen(&index, select).map(|entry| entry.digest).collect();
    let is_meant = |entry: &Descriptor| chosen.contains(&entry.digest);
    let planned = plan_some(archive, is_meant)?;
    match planned.is_empty() {
        true => Err(Error::not_found(format!(
            "the layout has no image {}",
            select.unwrap_or(":latest")
        ))),
        false => Ok(planned),
    }
}

fn plan_some(archive: &Archive, is_meant: impl Fn(&Descriptor) -> bool) -> Result<Vec<Planned>> {
    if let Some(marker) = archive.read(layout::MARKER)? {
        layout::check_marker(&marker)?;
    }
    let index = layout::parse_index(&archive.need(layout::INDEX)?).context(layout::INDEX)?;
    let mut all: Vec<Planned> = Vec::new();
    let mut refused = None;
    for entry in index.images().filter(|entry| is_meant(entry)) {
        let names: Vec<Reference> = full_name(entry).map(name).transpose()?.into_iter().collect();
        let mut found = Vec::new();
        match walk(archive, entry, &[], &mut found) {
            // Something else may be beside images; alone it is told.
            Err(e) if e.hint().is_some_and(|hint| hint == NOT_AN_IMAGE) => drop(refused.get_or_insert(e)),
            other => other?,
        }
        for image in found {
            add(&mut all, image, &names);
        }
    }
    match (all.is_empty(), refused) {
        (true, Some(e)) => Err(e),
        _ => Ok(all),
    }
}

const NOT_AN_IMAGE: &str = "only images can be loaded";

/// Two tags of one image are one image.
fn add(all: &mut Vec<Planned>, mut image: Planned, names: &[Reference]) {
    match all
        .iter_mut()
        .find(|known| known.config == image.config && known.manifest == image.manifest)
    {
        Some(known) => {
            let new = names.iter().filter(|name| !known.names.contains(name)).cloned();
            let new: Vec<Reference> = new.collect();
            known.names.extend(new);
        }
        None => {
            image.names = names.to_vec();
            all.push(image);
        }
    }
}

/// A tag alone is no name.
fn full_name(entry: &Descriptor) -> Option<&str> {
    layout::name_of(entry).filter(|name| name.contains(['/', ':']))
}

fn walk(archive: &Archive, entry: &Descriptor, on_the_way: &[Arc<[u8]>], found: &mut Vec<Planned>) -> Result<()> {
    let path = layout::blob_path(&entry.digest);
    if !on_the_way.is_empty() && archive.find(&path)?.is_none() {
        return Ok(());
    }
    let bytes = archive.need_blob(&path, &entry.digest)?;
    let said = || format!("manifest {}", entry.digest);
    match manifest::parse(&bytes, Some(&entry.media_type)).with_context(said)? {
        Manifest::Image(image) => {
            let mut planned = of_manifest(archive, &image, layout::blob_path)?;
            planned.manifest = Some((bytes, image.media_type().to_owned()));
            planned.indexes = on_the_way.to_vec();
            found.push(planned);
            Ok(())
        }
        Manifest::Index(_) if on_the_way.len() == DEEPEST => {
            Err(Error::other("indexes in indexes, too deep")).with_context(said)
        }
        Manifest::Index(inner) => {
            let on_the_way = [on_the_way, &[Arc::from(bytes)]].concat();
            for entry in inner.images() {
                walk(archive, entry, &on_the_way, found)?;
            }
            Ok(())
        }
        Manifest::Schema1(_) => Err(Error::other("a manifest of schema 1 has no place in an OCI layout")),
        Manifest::Artifact(artifact) => Err(artifact.refusal(&entry.digest.to_string()).with_hint(NOT_AN_IMAGE)),
    }
}

fn of_manifest(archive: &Archive, image: &ImageManifest, path: impl Fn(&Digest) -> String) -> Result<Planned> {
    let config = archive.need_blob(&path(&image.config.digest), &image.config.digest)?;
    let layers = image.layers.iter().map(|layer| Place {
        path: path(&layer.digest),
        blob: Some((layer.digest, layer.size)),
        media_type: Some(layer.media_type.clone()),
    });
    Planned::new(config, layers.collect())
}

/// `dir:` — the manifest itself, and blobs by their bare hex digits.
pub(super) fn plan_flat(archive: &Archive, bytes: &[u8]) -> Result<Vec<Planned>> {
    match manifest::parse(bytes, None).context("manifest.json")? {
        Manifest::Image(image) => {
            let mut planned = of_manifest(archive, &image, Digest::hex)?;
            planned.manifest = Some((bytes.to_vec(), image.media_type().to_owned()));
            Ok(vec![planned])
        }
        Manifest::Index(index) => {
            let whole: Arc<[u8]> = Arc::from(bytes);
            let mut all = Vec::new();
            for entry in index.images() {
                // Beside the index, each manifest has a file of its own.
                let path = format!("{}.manifest.json", entry.digest.hex());
                if archive.find(&path)?.is_none() {
                    continue;
                }
                let own = archive.need_blob(&path, &entry.digest)?;
                if let Manifest::Image(image) = manifest::parse(&own, Some(&entry.media_type))? {
                    let mut planned = of_manifest(archive, &image, Digest::hex)?;
                    planned.manifest = Some((own, image.media_type().to_owned()));
                    planned.indexes = vec![whole.clone()];
                    all.push(planned);
                }
            }
            Ok(all)
        }
        Manifest::Schema1(_) => Err(Error::other(format!(
            "manifest.json is of schema 1 ({}), which can only be pulled",
            media::SCHEMA1_SIGNED
        ))),
        Manifest::Artifact(artifact) => Err(artifact.refusal("manifest.json")),
    }
}
