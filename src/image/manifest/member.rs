//! Finding the manifests that a list is made of, or that somebody wants to see: here, or at a registry.

use super::{Members, SOURCE, exists, no_such_list, published, read};
use crate::error::{Context, Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{self, Index, Manifest};
use crate::format::{self, media};
use crate::image::{push, resolve, save};
use crate::model::image::ImageConfig;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::registry::{Access, Action, Remote, Selector};
use crate::store::Store;

/// How a member is looked for.
pub(crate) struct Reach<'a> {
    pub(crate) access: &'a Access,
    /// Of an index, all images; else the one for this machine.
    pub(crate) all: bool,
}

/// Something to be added: an image that is here, or a manifest at a registry. `docker://` says that the registry is
/// meant.
pub(crate) fn members(store: &Store, what: &str, reach: &Reach<'_>) -> Result<Members> {
    let (what, remote_only) = match what.strip_prefix("docker://") {
        Some(name) => (name, true),
        None => (what.strip_prefix("containers-storage:").unwrap_or(what), false),
    };
    if !remote_only && let Ok(image) = resolve::resolve(store, what) {
        let source = Reference::parse(what).ok().map(|r| r.or_latest().to_string());
        // What a list names is what is pushed some day: its digest must be that of compressed layers already now.
        push::prepare(store, &image, &store.claim()?)?;
        let (descriptor, bytes) = save::described(store, &image)?;
        return Ok(Members(vec![(sourced(descriptor, source), bytes)]));
    }
    let name = Reference::parse(what)?.or_latest();
    let remote = Remote::open(&name, Action::Pull, reach.access)?;
    let (bytes, parsed) = fetch(&remote, Selector::of(&name))?;
    let source = Some(name.to_string());
    match parsed {
        Manifest::Index(index) => {
            let entries: Vec<&Descriptor> = match reach.all {
                true => index.images().collect(),
                false => {
                    let host = Platform::host();
                    vec![index.choose(&host).ok_or_else(|| index.none_for(&host))?]
                }
            };
            let mut all = Vec::new();
            for entry in entries {
                let (bytes, parsed) = fetch(&remote, Selector::Digest(&entry.digest))?;
                let own = described(&remote, &bytes, &parsed, entry.platform.clone())?;
                // All of them were added by one name, so none can be told by it.
                all.push((sourced(own, source.clone().filter(|_| !reach.all)), bytes));
            }
            Ok(Members(all))
        }
        parsed => {
            let descriptor = described(&remote, &bytes, &parsed, None)?;
            Ok(Members(vec![(sourced(descriptor, source), bytes)]))
        }
    }
}

impl Members {
    /// Of several words.
    pub(crate) fn find(store: &Store, words: &[&str], reach: &Reach<'_>) -> Result<Members> {
        let mut all = Vec::new();
        for word in words {
            all.extend(members(store, word, reach)?.0);
        }
        Ok(Members(all))
    }
}

fn sourced(mut descriptor: Descriptor, source: Option<String>) -> Descriptor {
    if let Some(source) = source {
        descriptor.annotations.insert(SOURCE.to_owned(), source);
    }
    descriptor
}

fn fetch(remote: &Remote, which: Selector<'_>) -> Result<(Vec<u8>, Manifest)> {
    let fetched = remote.fetch_manifest(which, media::ACCEPT)?;
    let parsed = manifest::parse(&fetched.bytes, fetched.media_type.as_deref())
        .with_context(|| format!("manifest of {}", remote.name()))?;
    Ok((fetched.bytes, parsed))
}

/// With a platform: the index' word for it, or the configuration's.
fn described(remote: &Remote, bytes: &[u8], parsed: &Manifest, platform: Option<Platform>) -> Result<Descriptor> {
    let Manifest::Image(image) = parsed else {
        return Err(match parsed {
            Manifest::Artifact(artifact) => artifact.refusal(remote.name()),
            _ => Error::other(format!("{}: a list can't name a manifest of schema 1", remote.name())),
        });
    };
    let platform = match platform {
        Some(platform) => platform,
        None => {
            let config: ImageConfig =
                format::config::parse(&remote.fetch_blob(&image.config.digest, format::MAX_BYTES)?)?;
            Platform::new(&config.os, &config.architecture, &config.variant)
        }
    };
    Ok(Descriptor {
        platform: Some(platform),
        ..Descriptor::of(image.media_type(), bytes)
    })
}

/// What `inspect` shows: the bytes, and, where more is wanted of an image, the manifests one by one.
pub(crate) struct Shown {
    pub(crate) bytes: Vec<u8>,
    /// Name with digest, descriptor and bytes of each image's manifest.
    pub(crate) each: Vec<(String, Descriptor, Vec<u8>)>,
}

/// A list that is here; else what the registry has; else the manifest that an image here came with.
pub(crate) fn inspect(store: &Store, what: &str, access: &Access, each: bool) -> Result<Shown> {
    let what = what.strip_prefix("docker://").unwrap_or(what);
    let name = Reference::parse(what).map(Reference::or_latest);
    if let Ok(name) = &name
        && exists(store, name)?
    {
        let index = published(read(store, name)?);
        let bytes = index.render()?;
        return Ok(Shown {
            each: if each {
                local_parts(store, name, &index)?
            } else {
                Vec::new()
            },
            bytes,
        });
    }
    let local = || -> Result<Shown> {
        let image = resolve::resolve(store, what)?;
        let (descriptor, bytes) = save::described(store, &image)?;
        Ok(Shown {
            each: vec![(what.to_owned(), descriptor, bytes.clone())],
            bytes,
        })
    };
    let Ok(name) = name else { return local() };
    match remote(&name, access, each) {
        Ok(shown) => Ok(shown),
        Err(e) => local().map_err(|_| match e.kind() {
            crate::error::Kind::NotFound => no_such_list(&name),
            _ => e,
        }),
    }
}

fn local_parts(store: &Store, name: &Reference, index: &Index) -> Result<Vec<(String, Descriptor, Vec<u8>)>> {
    let part = |entry: &Descriptor| {
        let bytes = store.read_blob(&entry.digest)?;
        Ok((format!("{}@{}", name.name(), entry.digest), entry.clone(), bytes))
    };
    index.manifests.iter().map(part).collect()
}

fn remote(name: &Reference, access: &Access, each: bool) -> Result<Shown> {
    let remote = Remote::open(name, Action::Pull, access)?;
    let (bytes, parsed) = fetch(&remote, Selector::of(name))?;
    let mut all = Vec::new();
    match &parsed {
        _ if !each => {}
        Manifest::Index(index) => {
            for entry in &index.manifests {
                let (bytes, _) = fetch(&remote, Selector::Digest(&entry.digest))?;
                all.push((format!("{}@{}", remote.name(), entry.digest), entry.clone(), bytes));
            }
        }
        other => {
            let descriptor = match other {
                Manifest::Image(_) => described(&remote, &bytes, other, None)?,
                _ => Descriptor::of(manifest::media_type(other), &bytes),
            };
            all.push((format!("{}@{}", name, descriptor.digest), descriptor, bytes.clone()));
        }
    }
    Ok(Shown { bytes, each: all })
}
