//! `pull`: a name → an image in the store, by way of a registry. Asks as little as possible: one HEAD where the image is
//! there, and only for what is missing otherwise. What was fetched of it stays, whatever happens.

mod layers;
mod partial;
mod plan;
mod policy;
mod schema1;
mod v1;
mod workers;

pub(crate) use policy::{PullPolicy, Wanted, ensure};

use crate::error::{Error, Kind, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{self, ImageManifest, Index, Manifest};
use crate::format::{self, media};
use crate::image::intake::{Intake, NewImage};
use crate::image::nesting::DEEPEST;
use crate::image::progress::{Event, Progress};
use crate::model::digest::Digest;
use crate::model::event::{Event as Happened, EventKind};
use crate::model::id::{ChainId, DiffId, ImageId};
use crate::model::image::ImageConfig;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::registry::{self, Access, Action, Remote, Selector};
use crate::store::Store;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Configurations are a few kilobytes.
const LARGEST_CONFIG: u64 = 8 << 20;

/// Of all platforms together. Indexes in indexes would make millions of a few.
const MOST_ENTRIES: usize = 1000;

/// What is asked of a pull.
#[derive(Default, Clone)]
pub(crate) struct Options {
    /// For another machine than this.
    pub(crate) platform: Option<Platform>,
    /// One after the other, this machine's last, so that it is the one the name stands for.
    pub(crate) all_platforms: bool,
    pub(crate) all_tags: bool,
    pub(crate) access: Access,
}

/// An image that is here now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pulled {
    pub(crate) name: Reference,
    pub(crate) id: ImageId,
}

/// Fetches what `typed` names.
pub(crate) fn pull(store: &Store, typed: &str, options: &Options, progress: &dyn Progress) -> Result<Vec<Pulled>> {
    let candidates = registry::candidates(typed)?;
    let mut tried: Option<Error> = None;
    for (n, name) in candidates.iter().enumerate() {
        match pull_name(store, name, options, progress) {
            Ok(pulled) => {
                return Ok(pulled);
            }
            Err(e) if n + 1 == candidates.len() && tried.is_none() => return Err(e),
            Err(e) => tried = Some(tried.map_or_else(|| e.clone(), |before| before.and(&e))),
        }
    }
    Err(tried.unwrap_or_else(|| Error::other(format!("invalid image name '{}'", typed.escape_debug()))))
}

fn pull_name(store: &Store, name: &Reference, options: &Options, progress: &dyn Progress) -> Result<Vec<Pulled>> {
    let remote = Remote::open(name, Action::Pull, &options.access)?;
    let told = Told::default();
    let pull = Pull {
        store,
        remote: &remote,
        options,
        progress,
        told: &told,
        entries: AtomicUsize::new(0),
    };
    let pulled = match options.all_tags {
        true => pull.all_tags(name),
        false => {
            let name = name.clone().or_latest();
            pull.one(&name).map(|id| vec![Pulled { name, id }])
        }
    };
    let pulled = match pulled {
        Err(e) if e.kind() != Kind::LoginRequired => match remote.of_2013(&e)? {
            older if older.is_empty() => return Err(e),
            older => v1::pull(&pull, &older, name)?,
        },
        other => other?,
    };
    // Of an image that was here already nothing has changed, but it was asked for.
    for event in pulled.iter().filter_map(|one| told.of(&one.name)) {
        store.event(&event);
    }
    Ok(pulled)
}

/// Whose `pull` has been told.
#[derive(Default)]
struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// The event, unless it has been told.
    fn of(&self, name: &Reference) -> Option<Happened> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Happened::new(EventKind::Image, "pull", name).with("name", name.familiar_name());
        told.insert(name.to_string()).then_some(event)
    }
}

/// Layers that no image has asked for yet: of a build's cache. Each with its parent, which is in place or before it. The
/// caller has claimed them.
pub(crate) fn bring_layers(
    store: &Store,
    remote: &Remote,
    wanted: &[(Option<ChainId>, DiffId, Descriptor)],
    progress: &dyn Progress,
) -> Result<()> {
    let intake = Intake::new(store, progress)?;
    let jobs: Vec<plan::Job<'_>> = wanted
        .iter()
        .map(|(parent, diff_id, descriptor)| plan::Job {
            descriptor,
            diff_id: *diff_id,
            parent: *parent,
            chain: ChainId::of(*parent, *diff_id),
        })
        .collect();
    let blobs: Vec<Digest> = wanted.iter().map(|(_, _, layer)| layer.digest).collect();
    intake.claim(&[], &blobs)?;
    layers::bring(&intake, remote, &jobs, progress)
}

struct Pull<'a> {
    store: &'a Store,
    remote: &'a Remote,
    options: &'a Options,
    progress: &'a dyn Progress,
    told: &'a Told,
    /// Manifests that indexes have led to, of the name that is pulled.
    entries: AtomicUsize,
}

/// A manifest as it came.
struct Served {
    bytes: Vec<u8>,
    digest: Digest,
    manifest: Manifest,
}

/// How a manifest was found.
struct From<'a> {
    /// What the name is known by.
    digest: Digest,
    /// On the way, the outermost first.
    indexes: Vec<&'a [u8]>,
}

/// What a manifest that is known here leads to.
#[derive(Clone, Copy)]
enum LeadsTo {
    /// An index, perhaps by way of others, to this manifest.
    Chosen(Digest),
    /// To one image.
    TheOne,
}

impl Pull<'_> {
    fn all_tags(&self, name: &Reference) -> Result<Vec<Pulled>> {
        if name.tag.is_some() || name.digest.is_some() {
            return Err(Error::usage("tag can't be used with --all-tags/-a"));
        }
        let mut pulled = Vec::new();
        let mut failed: Option<Error> = None;
        for tag in self.remote.list_tags()? {
            // The registry's word, which ends up in a file and on the terminal.
            let Ok(name) = Reference::parse(&format!("{}:{tag}", name.name())) else {
                let shown = tag.escape_debug();
                self.progress
                    .event(Event::Notice(&format!("tag '{shown}' is not one: skipped")));
                continue;
            };
            match self.one(&name) {
                Ok(id) => pulled.push(Pulled { name, id }),
                Err(e) => failed = Some(failed.map_or_else(|| e.clone(), |before| before.and(&e))),
            }
        }
        match failed {
            Some(e) => Err(e),
            None if pulled.is_empty() => Err(Error::not_found(format!("{} has no tags", name.familiar_name()))),
            None => Ok(pulled),
        }
    }

    /// Brings what the name stands for, and says so in docker's words.
    fn one(&self, name: &Reference) -> Result<ImageId> {
        let what = match (&name.tag, name.digest) {
            (_, Some(digest)) => format!("{}@{digest}", name.name()),
            (tag, None) => tag.clone().unwrap_or_default(),
        };
        self.line(&format!("{what}: Pulling from {}", name.repository));
        self.entries.store(0, Ordering::Relaxed);
        let before = self.known(name)?;
        if let Some((id, digest)) = self.up_to_date(name)? {
            self.say_status(name, &digest, false);
            return Ok(id);
        }
        let served = self.fetch(Selector::of(name), None)?;
        let digest = match &served.manifest {
            Manifest::Schema1(schema1) => Digest::of(&schema1.payload),
            _ => served.digest,
        };
        if let Some(wanted) = name.digest.filter(|wanted| *wanted != digest) {
            return Err(Error::other(format!(
                "manifest digest mismatch: got {digest}, want {wanted}"
            )));
        }
        let from = From {
            digest,
            indexes: Vec::new(),
        };
        let id = self.bring(name, &served, &from)?;
        self.say_status(name, &digest, before != self.known(name)?);
        Ok(id)
    }

    fn line(&self, text: &str) {
        self.progress.event(Event::Line(text));
    }

    fn say_status(&self, name: &Reference, digest: &Digest, newer: bool) {
        self.line(&format!("Digest: {digest}"));
        self.line(&match newer {
            true => format!("Status: Downloaded newer image for {name}"),
            false => format!("Status: Image is up to date for {name}"),
        });
    }

    /// What the name stands for here.
    fn known(&self, name: &Reference) -> Result<Option<ImageId>> {
        let tags = self.store.tags()?;
        Ok(tags.get(&key(name)))
    }

    fn platform(&self) -> Platform {
        self.options.platform.clone().unwrap_or_else(Platform::host)
    }

    /// The image that is here, if the registry says that the name stands for it. A digest stands for the same for ever:
    /// that is not asked.
    fn up_to_date(&self, name: &Reference) -> Result<Option<(ImageId, Digest)>> {
        if self.options.all_platforms {
            return Ok(None);
        }
        let tags = self.store.tags()?;
        let Some(here) = tags.target(&key(name)) else {
            return Ok(None);
        };
        let digest = match name.digest {
            Some(digest) => digest,
            None => match self.remote.head_manifest(Selector::of(name), media::ACCEPT)? {
                Some(head) => match head.digest {
                    Some(digest) => digest,
                    None => return Ok(None),
                },
                None => return Err(unknown(name)),
            },
        };
        let known = Reference {
            tag: None,
            digest: Some(digest),
            ..name.clone()
        };
        let Some(target) = tags.target(&known) else {
            return Ok(None);
        };
        let Some(leads_to) = self.leads_to(&digest)? else {
            return Ok(None);
        };
        let found = target.images().iter().rev().find(|id| {
            here.newest() == **id
                && self.store.image(id).is_ok_and(|image| {
                    let right = match leads_to {
                        LeadsTo::Chosen(wanted) => image.manifests.iter().any(|m| m.digest == wanted),
                        LeadsTo::TheOne => self.fits(&image.config),
                    };
                    right && self.is_whole(&image.layers)
                })
        });
        Ok(found.map(|id| (*id, digest)))
    }

    /// What a known digest leads to, for the platform that is wanted; `None` if there is nothing for it.
    fn leads_to(&self, digest: &Digest) -> Result<Option<LeadsTo>> {
        let platform = self.platform();
        let mut at = *digest;
        for _ in 0..=DEEPEST {
            // A schema 1 manifest is not kept, and leads to one image.
            let Ok(bytes) = self.store.read_blob(&at) else { break };
            match manifest::parse(&bytes, None)? {
                Manifest::Index(index) => match index.choose(&platform) {
                    Some(chosen) => at = chosen.digest,
                    None => return Ok(None),
                },
                _ => break,
            }
        }
        Ok(Some(match at == *digest {
            true => LeadsTo::TheOne,
            false => LeadsTo::Chosen(at),
        }))
    }

    fn is_whole(&self, layers: &[ChainId]) -> bool {
        layers.iter().all(|layer| self.store.has_layer(layer))
    }

    fn fits(&self, config: &ImageConfig) -> bool {
        match &self.options.platform {
            None => true,
            Some(platform) => platform.rank(&Platform::of(config)).is_some(),
        }
    }

    /// `expected`: what an index says of it.
    fn fetch(&self, selector: Selector<'_>, expected: Option<&Descriptor>) -> Result<Served> {
        if let Some(expected) = expected
            && let Ok(bytes) = self.store.read_blob(&expected.digest)
        {
            let manifest = manifest::parse(&bytes, Some(&expected.media_type))?;
            return Ok(Served {
                digest: expected.digest,
                bytes,
                manifest,
            });
        }
        let fetched = self.remote.fetch_manifest(selector, media::ACCEPT)?;
        if let Some(expected) = expected
            && (fetched.digest != expected.digest || fetched.bytes.len() as u64 != expected.size)
        {
            return Err(Error::other(format!(
                "manifest {}: got {} of {} bytes, want {} bytes",
                expected.digest,
                fetched.digest,
                fetched.bytes.len(),
                expected.size
            )));
        }
        let manifest = manifest::parse(&fetched.bytes, fetched.media_type.as_deref())?;
        Ok(Served {
            digest: fetched.digest,
            bytes: fetched.bytes,
            manifest,
        })
    }

    fn bring(&self, name: &Reference, served: &Served, from: &From<'_>) -> Result<ImageId> {
        match &served.manifest {
            Manifest::Image(image) => self.image(name, served, image, from),
            Manifest::Index(index) if self.options.all_platforms => self.every_platform(name, served, index, from),
            Manifest::Index(index) => {
                let platform = self.platform();
                let chosen = index.choose(&platform).ok_or_else(|| index.none_for(&platform))?;
                self.entry(name, served, chosen, from)
            }
            Manifest::Schema1(schema1) => self.schema1(name, schema1, from.digest),
            Manifest::Artifact(artifact) => Err(artifact.refusal(&name.to_string())),
        }
    }

    fn entry(&self, name: &Reference, served: &Served, entry: &Descriptor, from: &From<'_>) -> Result<ImageId> {
        if from.indexes.len() >= DEEPEST {
            return Err(Error::other(format!("{name}: its indexes never come to an image")));
        }
        if self.entries.fetch_add(1, Ordering::Relaxed) == MOST_ENTRIES {
            return Err(Error::other(format!(
                "{name}: its indexes lead to more than {MOST_ENTRIES} manifests"
            )));
        }
        let chosen = self.fetch(Selector::Digest(&entry.digest), Some(entry))?;
        let mut indexes = from.indexes.clone();
        indexes.push(&served.bytes);
        let digest = from.digest;
        self.bring(name, &chosen, &From { digest, indexes })
    }

    fn every_platform(&self, name: &Reference, served: &Served, index: &Index, from: &From<'_>) -> Result<ImageId> {
        let mut last = None;
        for entry in in_order(index, &self.platform()) {
            last = Some(self.entry(name, served, entry, from)?);
        }
        last.ok_or_else(|| index.none_for(&self.platform()))
    }

    fn image(&self, name: &Reference, served: &Served, manifest: &ImageManifest, from: &From<'_>) -> Result<ImageId> {
        let intake = Intake::new(self.store, self.progress)?;
        let mut blobs = vec![served.digest, manifest.config.digest];
        blobs.extend(from.indexes.iter().map(|index| Digest::of(index)));
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
        intake.claim(&[], &blobs)?;
        let bytes = self.config(&manifest.config)?;
        let config = format::config::parse(&bytes)?;
        format::config::check_against(&config, manifest.layers.len())?;
        self.check_platform(name, &config, !from.indexes.is_empty())?;
        let chains = ChainId::chain(&config.rootfs.diff_ids);
        intake.claim(&chains, &[])?;
        let jobs = plan::jobs(&manifest.layers, &config.rootfs.diff_ids)?;
        layers::bring(&intake, self.remote, &jobs, self.progress)?;
        let names = names(name, from.digest);
        intake.finish(&NewImage {
            config: &bytes,
            manifest: Some((&served.bytes, manifest.media_type())),
            indexes: &from.indexes,
            names: &names,
            told: self.told.of(name),
            ..NewImage::default()
        })
    }

    fn config(&self, wanted: &Descriptor) -> Result<Vec<u8>> {
        if let Ok(bytes) = self.store.read_blob(&wanted.digest) {
            return Ok(bytes);
        }
        let too_large = || {
            Error::other(format!(
                "image configuration of {} bytes, limit {LARGEST_CONFIG}",
                wanted.size
            ))
        };
        if wanted.size > LARGEST_CONFIG {
            return Err(too_large());
        }
        let limit = usize::try_from(wanted.size).map_err(|_| too_large())?;
        let bytes = self.remote.fetch_blob(&wanted.digest, limit)?;
        match bytes.len() == limit && Digest::of(&bytes) == wanted.digest {
            true => Ok(bytes),
            false => Err(Error::other(format!(
                "image configuration {}: digest or size mismatch",
                wanted.digest
            ))),
        }
    }

    /// What was chosen from an index has been looked at there.
    fn check_platform(&self, name: &Reference, config: &ImageConfig, chosen: bool) -> Result<()> {
        let platform = Platform::of(config);
        if !platform.os.is_empty() && platform.os != "linux" && self.options.platform.is_none() {
            return Err(Error::other(format!(
                "{name}: image operating system \"{}\" cannot be used on this platform",
                platform.os.escape_debug()
            )));
        }
        if self.options.platform.is_none()
            && let Some(warning) = platform.warning_here()
        {
            self.progress.event(Event::Notice(&warning));
        }
        match chosen || self.fits(config) {
            true => Ok(()),
            false => {
                let mut hint = String::new();
                let _ = write!(hint, "it is for {}", platform.to_string().escape_debug());
                Err(Error::new(
                    Kind::NotFound,
                    format!(
                        "image with reference {name} was found but does not provide the specified platform ({})",
                        self.platform()
                    ),
                )
                .with_hint(hint))
            }
        }
    }
}

/// This machine's image last: the newest is what the name stands for.
fn in_order<'a>(index: &'a Index, own: &Platform) -> Vec<&'a Descriptor> {
    let best = index.choose(own).map(|best| best.digest);
    let mut entries: Vec<&Descriptor> = index.images().collect();
    entries.sort_by_key(|entry| Some(entry.digest) == best);
    entries
}

/// As the tags know it: a digest is what counts, where there is one.
fn key(name: &Reference) -> Reference {
    match name.digest {
        Some(_) => Reference {
            tag: None,
            ..name.clone()
        },
        None => name.clone(),
    }
}

/// Under what the image will be known.
fn names(name: &Reference, digest: Digest) -> Vec<Reference> {
    let by_digest = Reference {
        tag: None,
        digest: Some(digest),
        ..name.clone()
    };
    match name.digest {
        Some(_) => vec![by_digest],
        None => vec![name.clone(), by_digest],
    }
}

fn unknown(name: &Reference) -> Error {
    Error::not_found(format!(
        "manifest for {name} not found: manifest unknown: manifest unknown"
    ))
}
