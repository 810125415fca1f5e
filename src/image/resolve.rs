//! A word on the command line → an image.

use crate::error::{Error, Kind, Result};
use crate::image::{hello, v1};
use crate::model::id::{ImageId, SHORT, is_hex};
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::model::reference::{Reference, split_tag};
use crate::store::{Store, Tags, no_such_image};

/// Exact name and tag first (`latest` if it says none); then an id or a prefix of one, with or without `sha256:`; then
/// `REPOSITORY:ID`, for an image with a tag in that repository.
pub(crate) fn resolve(store: &Store, what: &str) -> Result<ImageRecord> {
    store.image(&resolve_id(store, what)?)
}

/// Before an image is run: makes the built-in one if that is what is meant. Takes the store's lock, exclusively where
/// an outdated one goes, so the caller holds none yet.
pub(crate) fn provide(store: &Store, what: &str) -> Result<()> {
    match Reference::parse(what) {
        Ok(name) if hello::is_name(&name) => hello::ensure(store),
        _ => Ok(()),
    }
}

/// Like [`resolve`], without reading the image's record: also for a damaged one.
pub(crate) fn resolve_id(store: &Store, what: &str) -> Result<ImageId> {
    let named = by_name(store, what);
    if let Ok(Some((_, id))) = named {
        return Ok(id);
    }
    let bare = what.strip_prefix("sha256:").unwrap_or(what);
    if let Some(id) = store.image_by_prefix(bare)? {
        return Ok(id);
    }
    // Damaged tags matter only where an id won't do.
    named?;
    if let Some(id) = by_id_in_repository(store, what)? {
        return Ok(id);
    }
    // What a registry of 2013 called it: an alias, after everything that is its own.
    let alias = match bare.len() >= SHORT && bare.len() <= 64 && is_hex(bare) {
        true => v1::by_prefix(store, bare)?,
        false => None,
    };
    alias.ok_or_else(|| no_such_image(what))
}

/// The name in full, and whose it is, if `what` is a name that exists.
pub(crate) fn by_name(store: &Store, what: &str) -> Result<Option<(Reference, ImageId)>> {
    let Ok(name) = Reference::parse(what) else {
        return Ok(None);
    };
    let name = name.or_latest();
    let tags = store.tags()?;
    if name.digest.is_none() {
        return Ok(tags.get(&name).map(|id| (name, id)));
    }
    let found = images_of(store, &tags, &name).first().copied();
    match (found, &name.tag) {
        (Some(id), _) => Ok(Some((name, id))),
        (None, Some(tag)) if tags.get(&undigested(&name)).is_some() => {
            Err(Error::new(Kind::NotFound, format!("No such image: {what}"))
                .with_hint(format!("the tag '{tag}' is here, but not known by that digest")))
        }
        _ => Ok(None),
    }
}

fn undigested(name: &Reference) -> Reference {
    Reference {
        digest: None,
        ..name.clone()
    }
}

/// All images that a name may mean, the newest first: of a tag; or of a digest, which is one that the repository was
/// pulled or pushed by, or that of the manifest of an image in it. Where a name has both, the digest is what counts.
fn images_of(store: &Store, tags: &Tags, name: &Reference) -> Vec<ImageId> {
    if let Some(target) = tags.target(name) {
        return target.images().iter().rev().copied().collect();
    }
    let Some(digest) = name.digest else { return Vec::new() };
    let in_repository = tags
        .iter()
        .chain(tags.digests())
        .filter(|(other, _)| other.name() == name.name());
    let mut ids: Vec<ImageId> = in_repository.map(|(_, id)| id).collect();
    ids.sort();
    ids.dedup();
    ids.retain(|id| {
        store
            .image(id)
            .is_ok_and(|image| image.manifests.iter().any(|m| m.digest == digest))
    });
    ids
}

/// Like [`resolve`], where `platform` is wanted: the best of several images under a name.
pub(crate) fn resolve_for(store: &Store, what: &str, platform: Option<&Platform>) -> Result<ImageRecord> {
    let (Some(platform), Ok(name)) = (platform, Reference::parse(what)) else {
        return resolve(store, what);
    };
    let images = images_of(store, &store.tags()?, &name.or_latest());
    if images.is_empty() {
        return resolve(store, what);
    }
    let ranked = images.iter().filter_map(|id| {
        let image = store.image(id).ok()?;
        Some((platform.rank(&Platform::of(&image.config))?, image))
    });
    match ranked.min_by_key(|(rank, _)| *rank) {
        Some((_, image)) => Ok(image),
        None => {
            let e = Error::not_found(format!(
                "image with reference {what} was found but does not provide the specified platform ({platform})"
            ));
            Err(e.with_hint(format!("barge pull --platform {platform} {what}")))
        }
    }
}

fn by_id_in_repository(store: &Store, what: &str) -> Result<Option<ImageId>> {
    let (repository, Some(prefix)) = split_tag(what) else {
        return Ok(None);
    };
    let Ok(repository) = Reference::parse(repository) else {
        return Ok(None);
    };
    if !is_hex(prefix) {
        return Ok(None);
    }
    let tags = store.tags()?;
    let tagged = tags.iter().filter(|(name, _)| name.name() == repository.name());
    let mut ids: Vec<ImageId> = tagged
        .map(|(_, id)| id)
        .filter(|id| id.hex().starts_with(prefix))
        .collect();
    ids.sort();
    ids.dedup();
    match ids.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        [one, two, ..] => {
            let (one, two) = (one.short(), two.short());
            Err(Error::not_found(format!(
                "ambiguous image id '{what}': {one}, {two} begin with it"
            )))
        }
    }
}
