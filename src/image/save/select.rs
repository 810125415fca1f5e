//! The words after `save` → images, and under which names they go.

use super::{Form, Save};
use crate::error::{Error, Result};
use crate::image::resolve;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ImageId};
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::store::{Store, Tags, Target, no_such_image};
use std::collections::BTreeMap;

/// What is to be saved, in the order it was asked for.
pub(super) struct Chosen {
    pub(super) images: Vec<ImageRecord>,
    /// Each name with its images, by their places in `images`.
    pub(super) names: BTreeMap<Reference, Vec<usize>>,
}

impl Chosen {
    /// The names of one image.
    pub(super) fn names_of(&self, image: usize) -> Vec<&Reference> {
        let names = self.names.iter().filter(|(_, images)| images.contains(&image));
        names.map(|(name, _)| name).collect()
    }

    pub(super) fn layers(&self) -> Vec<ChainId> {
        self.images.iter().flat_map(|image| image.layers.clone()).collect()
    }

    /// All that may be read of the images.
    pub(super) fn blobs(&self, store: &Store) -> Vec<Digest> {
        let mut blobs = Vec::new();
        for image in &self.images {
            blobs.push(image.id.0);
            for manifest in &image.manifests {
                blobs.push(manifest.digest);
                blobs.extend(manifest.indexes());
                if let Some((_, parsed)) = super::image_manifest(store, &manifest.digest, &manifest.media_type) {
                    blobs.extend(parsed.layers.iter().map(|layer| layer.digest));
                }
            }
            for record in image.layers.iter().filter_map(|layer| store.layer(layer).ok()) {
                blobs.extend(record.blobs.iter().map(|blob| blob.digest));
            }
        }
        blobs
    }

    /// Between finding and claiming them somebody may have removed one.
    pub(super) fn still_there(&self, store: &Store) -> Result<()> {
        match self.images.iter().find(|image| !store.has_image(&image.id)) {
            Some(gone) => Err(no_such_image(&gone.id.to_string())),
            None => Ok(()),
        }
    }
}

pub(super) fn select(store: &Store, save: &Save<'_>) -> Result<Chosen> {
    let tags = store.tags()?;
    let mut chosen = Chosen {
        images: Vec::new(),
        names: BTreeMap::new(),
    };
    for word in &save.images {
        for (name, target) in find(store, &tags, word)? {
            for id in filtered(store, save, word, &target)? {
                let at = match chosen.images.iter().position(|image| image.id == id) {
                    Some(at) => at,
                    None => {
                        chosen.images.push(store.image(&id)?);
                        chosen.images.len() - 1
                    }
                };
                if let Some(name) = &name {
                    let images = chosen.names.entry(name.clone()).or_default();
                    if !images.contains(&at) {
                        images.push(at);
                    }
                }
            }
        }
    }
    if !save.names.is_empty() {
        let all: Vec<usize> = (0..chosen.images.len()).collect();
        chosen.names = save.names.iter().map(|name| (name.clone(), all.clone())).collect();
    }
    Ok(chosen)
}

/// A repository without a tag stands for all of its tags, as with docker.
fn find(store: &Store, tags: &Tags, word: &str) -> Result<Vec<(Option<Reference>, Target)>> {
    if let Ok(name) = Reference::parse(word) {
        if name.tag.is_none() && name.digest.is_none() {
            let mut all: Vec<Reference> = tags.iter().map(|(tagged, _)| tagged).collect();
            all.retain(|tagged| tagged.name() == name.name());
            all.dedup();
            if !all.is_empty() {
                let found = |tagged: Reference| {
                    let target = tags.target(&tagged)?.clone();
                    Some((Some(tagged), target))
                };
                return Ok(all.into_iter().filter_map(found).collect());
            }
        }
        if let Some(target) = tags.target(&name) {
            let plain = Reference { digest: None, ..name };
            return Ok(vec![(plain.tag.is_some().then_some(plain), target.clone())]);
        }
    }
    Ok(vec![(None, Target::from(resolve::resolve_id(store, word)?))])
}

/// The images of a name that are wanted.
fn filtered(store: &Store, save: &Save<'_>, word: &str, target: &Target) -> Result<Vec<ImageId>> {
    if save.platforms.is_empty() {
        return Ok(match save.form {
            Form::OciArchive | Form::OciDir => target.images().to_vec(),
            Form::DockerArchive | Form::DockerDir => vec![target.newest()],
        });
    }
    let mut there = Vec::new();
    for id in target.images() {
        there.push((*id, Platform::of(&store.image(id)?.config)));
    }
    let mut wanted = Vec::new();
    for platform in &save.platforms {
        let ranked = there.iter().filter_map(|(id, of)| Some((platform.rank(of)?, *id)));
        let Some((_, best)) = ranked.min_by_key(|(rank, _)| *rank) else {
            let have: Vec<String> = there.iter().map(|(_, of)| of.to_string()).collect();
            return Err(Error::not_found(format!(
                "image {word} was found but does not provide the specified platform ({platform})"
            ))
            .with_hint(format!("it is for {}", have.join(", "))));
        };
        if !wanted.contains(&best) {
            wanted.push(best);
        }
    }
    Ok(wanted)
}

/// What a person is told of names that stand for more than docker's forms were asked to hold.
pub(super) fn left_out(store: &Store, save: &Save<'_>) -> Result<Vec<String>> {
    if !save.platforms.is_empty() || matches!(save.form, Form::OciArchive | Form::OciDir) {
        return Ok(Vec::new());
    }
    let tags = store.tags()?;
    let mut said = Vec::new();
    for word in &save.images {
        for (name, target) in find(store, &tags, word)? {
            let (Some(name), true) = (name, target.images().len() > 1) else {
                continue;
            };
            let newest = target.newest();
            let own = Platform::of(&store.image(&newest)?.config);
            let mut others = Vec::new();
            for id in target.images().iter().filter(|id| **id != newest) {
                others.push(Platform::of(&store.image(id)?.config).to_string());
            }
            said.push(format!(
                "{name}: saving the image for {own}, not those for {} (--platform chooses, --format oci-archive takes all)",
                others.join(", ")
            ));
        }
    }
    Ok(said)
}
