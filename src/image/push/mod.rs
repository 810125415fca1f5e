//! `push`: an image in the store → a registry. What came from a registry goes out as it came, with every digest as it
//! was; a layer made here is compressed once, and its compressed form kept. What the registry has is not sent.

mod blobs;
mod compress;
mod form;
mod growing;
mod v1;

use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{Dialect, Index};
use crate::format::media;
use crate::image::nesting::{self, Kept};
use crate::image::progress::{Event, Progress};
use crate::image::resolve;
use crate::model::digest::Digest;
use crate::model::event::{Event as Told, EventKind};
use crate::model::id::ImageId;
use crate::model::image::{ImageRecord, ManifestRecord};
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::registry::{self, Access, Action, Remote, Selector};
use crate::store::{Claim, Store};
use form::Form;
use std::collections::BTreeMap;

pub(crate) use compress::{compressed, prepare};
pub(crate) use form::Packing;

/// What is asked of a push.
#[derive(Default, Clone)]
pub(crate) struct Options {
    /// All tags of the repository.
    pub(crate) all_tags: bool,
    /// One of the images under the name; else all of them, with an index.
    pub(crate) platform: Option<Platform>,
    /// `None`: as it came, and docker's for what was made here.
    pub(crate) dialect: Option<Dialect>,
    /// `None`: as it came, and gzip for what was made here.
    pub(crate) packing: Option<Packing>,
    pub(crate) access: Access,
}

/// What a name stands for at the registry now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pushed {
    pub(crate) name: Reference,
    /// The digest of its manifest; at a registry of 2013, the image's id there.
    pub(crate) known_as: String,
}

/// Sends `typed`, or as `destination` if that is given.
pub(crate) fn push(
    store: &Store,
    typed: &str,
    destination: Option<&Reference>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Pushed>> {
    let (name, to) = names(typed, destination, options)?;
    let remote = Remote::open(&to, Action::Push, &options.access)?;
    let push = Push {
        store,
        remote: &remote,
        options,
        progress,
        claim: store.claim()?,
    };
    progress.event(Event::Line(&format!("The push refers to repository [{}]", to.name())));
    let wanted = match options.all_tags {
        false => vec![Wanted {
            typed: typed.to_owned(),
            name,
            to,
        }],
        true => all_tags(store, &name, &to)?,
    };
    if let Some(repository) = remote.writable_of_2013()? {
        let pushed = v1::push(&push, &repository, &wanted)?;
        pushed.iter().for_each(|p| tell(store, &p.name));
        return Ok(pushed);
    }
    let each = |w: &Wanted| {
        let pushed = push.one(&w.typed, &w.name, &w.to)?;
        tell(store, &w.to);
        Ok(pushed)
    };
    registry::taking_back(&remote, || wanted.iter().map(each).collect())
}

fn all_tags(store: &Store, name: &Reference, to: &Reference) -> Result<Vec<Wanted>> {
    let tags = store.tags()?;
    let mut found: Vec<Reference> = tags.iter().map(|(tagged, _)| tagged).collect();
    found.retain(|tagged| tagged.name() == name.name());
    found.dedup();
    if found.is_empty() {
        return Err(not_here(name));
    }
    let each = |tagged: Reference| Wanted {
        typed: tagged.to_string(),
        to: Reference {
            tag: tagged.tag.clone(),
            ..to.clone()
        },
        name: tagged,
    };
    Ok(found.into_iter().map(each).collect())
}

/// As it was typed, its name here, and its name there.
struct Wanted {
    typed: String,
    name: Reference,
    to: Reference,
}

fn tell(store: &Store, to: &Reference) {
    store.event(&Told::new(EventKind::Image, "push", to).with("name", to.familiar_name()));
}

/// What is looked for here, and where it goes.
fn names(typed: &str, destination: Option<&Reference>, options: &Options) -> Result<(Reference, Reference)> {
    let name = match (Reference::parse(typed), destination) {
        (Ok(name), _) => name,
        // An id, which needs a name there.
        (Err(_), Some(destination)) => destination.clone(),
        (Err(e), None) => return Err(e),
    };
    if options.all_tags && (name.tag.is_some() || name.digest.is_some()) {
        return Err(Error::usage("tag can't be used with --all-tags/-a"));
    }
    let to = destination.unwrap_or(&name).clone();
    if to.digest.is_some() {
        return Err(Error::other("cannot push a digest reference"));
    }
    Ok(match options.all_tags {
        true => (name, to),
        false => (name.or_latest(), to.or_latest()),
    })
}

fn not_here(name: &Reference) -> Error {
    Error::not_found(format!(
        "An image does not exist locally with the tag: {}",
        name.familiar_name()
    ))
}

struct Push<'a> {
    store: &'a Store,
    remote: &'a Remote,
    options: &'a Options,
    progress: &'a dyn Progress,
    claim: Claim,
}

impl Push<'_> {
    fn one(&self, typed: &str, name: &Reference, to: &Reference) -> Result<Pushed> {
        let images = self.images(typed, name)?;
        let mut sent = Vec::new();
        for image in &images {
            sent.push((image.id, self.image(image, to)?));
        }
        let tag = to.tag.as_deref().unwrap_or_default();
        let indexes = self.indexes(&images, &sent)?;
        for (_, form) in sent.iter().filter(|_| !indexes.is_empty()) {
            let d = form.descriptor();
            self.remote
                .put_manifest(Selector::Digest(&d.digest), &d.media_type, &form.bytes)?;
        }
        let (descriptor, bytes) = match (indexes.split_last(), sent.as_slice()) {
            (Some((leading, inner)), _) => {
                for index in inner {
                    let d = &index.descriptor;
                    self.remote
                        .put_manifest(Selector::Digest(&d.digest), &d.media_type, &index.bytes)?;
                }
                (leading.descriptor.clone(), leading.bytes.as_slice())
            }
            (None, [(_, only), ..]) => (only.descriptor(), only.bytes.as_slice()),
            (None, []) => return Err(not_here(name)),
        };
        self.remote
            .put_manifest(Selector::Tag(tag), &descriptor.media_type, bytes)?;
        self.remember(&images, &sent, &indexes, to)?;
        self.progress.event(Event::Line(&format!(
            "{tag}: digest: {} size: {}",
            descriptor.digest, descriptor.size
        )));
        Ok(Pushed {
            name: to.clone(),
            known_as: descriptor.digest.to_string(),
        })
    }

    /// The images that a name stands for, claimed.
    fn images(&self, typed: &str, name: &Reference) -> Result<Vec<ImageRecord>> {
        let platform = self.options.platform.as_ref();
        let tags = self.store.tags()?;
        let ids: Vec<ImageId> = match (tags.target(name), platform) {
            (Some(target), None) => target.images().to_vec(),
            (Some(_), Some(_)) => vec![resolve::resolve_for(self.store, typed, platform)?.id],
            (None, _) => vec![resolve::resolve_id(self.store, typed).map_err(|_| not_here(name))?],
        };
        let mut images = Vec::new();
        for id in ids {
            let image = self.store.image(&id)?;
            let mut blobs = vec![image.id.0];
            blobs.extend(image.manifests.iter().flat_map(|m| m.indexes().chain([m.digest])));
            blobs.extend(image.v1.iter().map(|v1| v1.json));
            for layer in &image.layers {
                blobs.extend(self.store.layer(layer)?.blobs.iter().map(|blob| blob.digest));
            }
            self.claim.add(self.store, &image.layers, &blobs)?;
            // Claimed now; but it may have gone a moment before.
            if !self.store.has_image(&id) {
                return Err(crate::store::no_such_image(typed));
            }
            images.push(image);
        }
        Ok(images)
    }

    /// Everything of an image but its manifest.
    fn image(&self, image: &ImageRecord, to: &Reference) -> Result<Form> {
        let form = form::choose(self, image)?;
        let form = blobs::send(self, image, form, to)?;
        if let Some(why) = form.departure(image) {
            self.progress.event(Event::Notice(&why));
        }
        Ok(form)
    }

    /// The indexes it came with if all that they list goes out again; else, for several, one of what does. The last one
    /// stands for all.
    fn indexes(&self, images: &[ImageRecord], sent: &[(ImageId, Form)]) -> Result<Vec<Kept>> {
        let going: Vec<Digest> = sent.iter().map(|(_, form)| form.descriptor().digest).collect();
        let known = images.iter().flat_map(|image| image.manifests.iter().rev());
        let known = known.flat_map(|manifest| manifest.indexes());
        // One platform that was asked for is wanted alone.
        if self.options.platform.is_none()
            && let Some(kept) = nesting::unchanged(self.store, known, &going)
        {
            return Ok(kept);
        }
        if sent.len() == 1 {
            return Ok(Vec::new());
        }
        let entries = images.iter().zip(sent).map(|(image, (_, form))| Descriptor {
            platform: Some(Platform::of(&image.config)),
            ..form.descriptor()
        });
        let all_docker = sent.iter().all(|(_, form)| form.manifest.dialect == Dialect::Docker);
        let index = Index {
            dialect: if all_docker { Dialect::Docker } else { Dialect::Oci },
            manifests: entries.collect(),
            annotations: BTreeMap::new(),
        };
        let bytes = index.render()?;
        let descriptor = Descriptor::of(index.media_type(), &bytes);
        Ok(vec![Kept { descriptor, bytes }])
    }

    /// What the images are known by now. One that was removed meanwhile stays so.
    fn remember(
        &self,
        images: &[ImageRecord],
        sent: &[(ImageId, Form)],
        indexes: &[Kept],
        to: &Reference,
    ) -> Result<()> {
        for (image, (_, form)) in images.iter().zip(sent) {
            let own = form.descriptor();
            let by_digest = Reference {
                tag: None,
                digest: Some(indexes.last().map_or(own.digest, |leading| leading.descriptor.digest)),
                ..to.clone()
            };
            let held = self.store.lock_shared()?;
            if !self.store.has_image(&image.id) {
                continue;
            }
            let known = image.manifests.iter().find(|m| m.digest == own.digest);
            let came_by = |m: &ManifestRecord| indexes.is_empty() || m.indexes().any(|i| leads(indexes, &i));
            let (index, outer) = match (known.filter(|m| came_by(m)), indexes.last()) {
                (Some(known), _) => (known.index, known.outer.clone()),
                (None, leading) => (leading.map(|leading| leading.descriptor.digest), Vec::new()),
            };
            let record = ImageRecord {
                manifests: vec![ManifestRecord {
                    digest: own.digest,
                    media_type: own.media_type,
                    size: own.size,
                    index,
                    outer,
                }],
                ..image.clone()
            };
            let mut blobs: Vec<&[u8]> = vec![&form.config, &form.bytes];
            blobs.extend(indexes.iter().map(|index| index.bytes.as_slice()));
            self.store.put_named_image(&record, &blobs, &held, |tags| {
                tags.add(&by_digest, image.id, |_| false);
            })?;
        }
        Ok(())
    }
}

/// Whether it is the one that stands for all of them.
fn leads(indexes: &[Kept], digest: &Digest) -> bool {
    indexes
        .last()
        .is_some_and(|leading| leading.descriptor.digest == *digest)
}

/// The media type a configuration is sent as.
fn config_type(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Oci => media::OCI_CONFIG,
        Dialect::Docker => media::DOCKER_CONFIG,
    }
}
