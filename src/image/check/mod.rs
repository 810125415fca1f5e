//! `system check`: whether what the store has is what it should be, object by object, and what to do about the rest.
//!
//! A check takes no lock, as it may last for minutes: what is damaged is looked at again, and what has gone meanwhile is
//! nobody's damage. Each repair takes the exclusive lock for the moment in which it puts something in place.

mod copies;
mod repair;
mod scan;

use crate::error::Result;
use crate::image::remove::Runs;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ContainerId, ImageId};
use crate::model::reference::Reference;
use crate::store::Store;

/// What is wrong with what. In the order in which it is repaired: layers, so that images become whole; then what images
/// say of themselves; then what only refers to them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    Layer(ChainId),
    /// For the users of some containers: by the key of their map.
    Copy(ChainId, String),
    Image(ImageId),
    Manifest(ImageId, Digest),
    Blob(Digest),
    Tags,
    Name(Reference, ImageId),
    Container(ContainerId),
    Volume(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) object: Object,
    pub(crate) what: String,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Object::Layer(id) => write!(f, "layer {id}"),
            Object::Copy(id, key) => write!(f, "copy {key} of layer {id}"),
            Object::Image(id) => write!(f, "image {id}"),
            Object::Manifest(id, digest) => write!(f, "manifest {digest} of image {}", id.short()),
            Object::Blob(digest) => write!(f, "blob {digest}"),
            Object::Tags => f.write_str("tags"),
            Object::Name(name, _) => write!(f, "name {name}"),
            Object::Container(id) => write!(f, "container {id}"),
            Object::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Hash nothing: only look whether all is there and can be read.
    pub(crate) quick: bool,
    pub(crate) repair: bool,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) images: usize,
    pub(crate) layers: usize,
    /// Layers without what their tar could be rebuilt from.
    pub(crate) unverified: usize,
    pub(crate) blobs: usize,
    pub(crate) containers: usize,
    pub(crate) volumes: usize,
}

/// What became of a damage.
pub(crate) enum Outcome {
    /// Nothing was tried.
    Found,
    /// How it was repaired.
    Repaired(String),
    /// Why it could not be.
    Left(crate::error::Error),
}

/// Looks at everything, and tells each damage. What is to be repaired is told after that.
pub(crate) fn check(
    store: &Store,
    options: Options,
    runs: Runs<'_>,
    tell: &mut dyn FnMut(&Damage, &Outcome) -> Result<()>,
) -> Result<Counts> {
    let mut found = Vec::new();
    let counts = scan::scan(store, options.quick, &mut |damage| {
        if !options.repair {
            tell(&damage, &Outcome::Found)?;
        }
        found.push(damage);
        Ok(())
    })?;
    if options.repair {
        found.sort_by(|a, b| a.object.cmp(&b.object));
        found.dedup_by(|later, first| later.object == first.object);
        for damage in &found {
            let outcome = match repair::repair(store, damage, runs) {
                Ok(done) => Outcome::Repaired(done),
                Err(e) => Outcome::Left(e),
            };
            tell(damage, &outcome)?;
        }
        store.sweep_left_overs()?;
    }
    Ok(counts)
}
