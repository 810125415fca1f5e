//! `save`: images into an archive or a directory, in a form that others read.
//!
//! | form | what is in it |
//! |---|---|
//! | `docker-archive` | plain layer tars, rebuilt byte for byte; `manifest.json`, an OCI index, and what docker before 1.10 wants |
//! | `oci-archive`, `oci-dir` | an OCI layout: manifests and compressed layers as they came |
//! | `docker-dir` | one image, as skopeo's `dir:` has it |
//!
//! What is chosen, and in which words it is described, is settled first ([`plan`]); then it is written in one pass. The
//! lists come before the layers, so that whoever reads a stream knows what a layer is for. There is no time and no
//! owner in it: the same images are the same bytes.

mod docker;
mod form;
mod layout;
mod output;
mod place;
mod select;

pub(crate) use form::{plain_length, write_plain, write_summed};
pub(crate) use output::Output;
pub(crate) use place::{into_directory, into_file};

use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{Dialect, Manifest};
use crate::format::{self, shown};
use crate::model::digest::Digest;
use crate::model::event::{Event, EventKind};
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::store::Store;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    DockerArchive,
    OciArchive,
    OciDir,
    DockerDir,
}

impl Form {
    pub(crate) fn is_directory(self) -> bool {
        matches!(self, Form::OciDir | Form::DockerDir)
    }
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(text: &str) -> Result<Form> {
        Ok(match text {
            "docker-archive" => Form::DockerArchive,
            "oci-archive" => Form::OciArchive,
            "oci-dir" => Form::OciDir,
            "docker-dir" => Form::DockerDir,
            other => {
                return Err(Error::usage(format!("unknown format '{}'", shown(other)))
                    .with_hint("docker-archive, oci-archive, oci-dir and docker-dir are known"));
            }
        })
    }
}

/// What `save` was asked.
pub(crate) struct Save<'a> {
    /// Names, names without a tag for all their tags, or ids.
    pub(crate) images: Vec<&'a str>,
    pub(crate) form: Form,
    /// Of images of several platforms; if empty, the newest for docker's forms, and all for OCI's.
    pub(crate) platforms: Vec<Platform>,
    /// If there are any: what all of it is called there, instead of its own names.
    pub(crate) names: Vec<Reference>,
}

/// Writes the images. Nothing of them is removed meanwhile.
pub(crate) fn save(store: &Store, save: &Save<'_>, output: &mut Output<'_>) -> Result<()> {
    let chosen = select::select(store, save)?;
    let claim = store.claim()?;
    claim.add(store, &chosen.layers(), &chosen.blobs(store))?;
    chosen.still_there(store)?;
    let saved = match save.form {
        Form::DockerArchive => docker::archive(store, &chosen, output),
        Form::DockerDir => docker::directory(store, &chosen, output),
        Form::OciArchive | Form::OciDir => layout::write(store, &chosen, output),
    };
    saved?;
    for name in &save.images {
        if let Ok(id) = crate::image::resolve::resolve_id(store, name) {
            store.event(&Event::new(EventKind::Image, "save", id).with("name", name));
        }
    }
    Ok(())
}

/// A line for each name of which only one of several platforms will be saved.
pub(crate) fn left_out(store: &Store, save: &Save<'_>) -> Result<Vec<String>> {
    select::left_out(store, save)
}

/// The manifest an image is handed on with, and its descriptor.
pub(crate) fn described(store: &Store, image: &ImageRecord) -> Result<(Descriptor, Vec<u8>)> {
    let formed = form::form(store, image, form::Wish::AsItCame)?;
    Ok((formed.manifest, formed.bytes))
}

/// Whether it goes out with a manifest that it came with.
pub(crate) fn comes_as_it_is(store: &Store, image: &ImageRecord) -> Result<bool> {
    form::has_its_own(store, image)
}

/// The manifest `digest`, if it is here and of an image.
fn image_manifest(
    store: &Store,
    digest: &Digest,
    media_type: &str,
) -> Option<(Vec<u8>, format::manifest::ImageManifest)> {
    let bytes = store.read_blob(digest).ok()?;
    match format::manifest::parse(&bytes, Some(media_type)).ok()? {
        Manifest::Image(image) => Some((bytes, image)),
        _ => None,
    }
}

fn is_docker(dialect: Dialect) -> bool {
    dialect == Dialect::Docker
}
