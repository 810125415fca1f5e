//! OCI layouts: manifests, indexes and compressed layers as they came.

use super::form::{Formed, Wish, form};
use super::output::Output;
use super::select::Chosen;
use crate::error::Result;
use crate::format::descriptor::Descriptor;
use crate::format::layout::{self, blob_path};
use crate::format::manifest::{Dialect, Index, Manifest};
use crate::format::media;
use crate::model::reference::Reference;
use crate::store::Store;
use std::collections::BTreeMap;

pub(super) fn write(store: &Store, chosen: &Chosen, output: &mut Output<'_>) -> Result<()> {
    let formed: Vec<Formed> = chosen
        .images
        .iter()
        .map(|image| form(store, image, Wish::AsItCame))
        .collect::<Result<_>>()?;
    let mut entries = Vec::new();
    let mut indexes = Vec::new();
    for (name, images) in &chosen.names {
        let descriptor = match images[..] {
            [only] => formed[only].manifest.clone(),
            _ => {
                let (descriptor, bytes) = index_of(store, images.iter().map(|at| &formed[*at]).collect())?;
                indexes.push((descriptor.digest, bytes));
                descriptor
            }
        };
        entries.push(named(descriptor, name));
    }
    for (at, image) in formed.iter().enumerate() {
        if chosen.names_of(at).is_empty() {
            entries.push(image.manifest.clone());
        }
    }
    head(output, entries)?;
    for (digest, bytes) in &indexes {
        output.file(&blob_path(digest), bytes)?;
    }
    for image in &formed {
        output.file(&blob_path(&image.manifest.digest), &image.bytes)?;
        output.file(
            &blob_path(&crate::model::digest::Digest::of(&image.config)),
            &image.config,
        )?;
    }
    for layer in formed.iter().flat_map(|image| &image.layers) {
        output.layer(store, &blob_path(&layer.descriptor.digest), layer)?;
    }
    Ok(())
}

/// `oci-layout`, `index.json` and the directories.
pub(super) fn head(output: &mut Output<'_>, entries: Vec<Descriptor>) -> Result<()> {
    let index = Index {
        dialect: Dialect::Oci,
        manifests: entries,
        annotations: BTreeMap::new(),
    };
    output.file(layout::MARKER, layout::MARKER_TEXT.as_bytes())?;
    output.file(layout::INDEX, &index.render()?)?;
    output.make_directory("blobs")?;
    output.make_directory("blobs/sha256")
}

/// The whole name, where docker and containerd look for it, and where skopeo and podman do.
pub(super) fn named(mut descriptor: Descriptor, name: &Reference) -> Descriptor {
    let tag = name.tag.clone().unwrap_or_default();
    let whole = format!("{}:{tag}", name.name());
    descriptor
        .annotations
        .insert(layout::IMAGE_NAME.to_owned(), whole.clone());
    descriptor.annotations.insert(layout::REF_NAME.to_owned(), whole);
    descriptor
}

/// The index the images came by, if all it names is among them; else one of those that are here.
fn index_of(store: &Store, images: Vec<&Formed>) -> Result<(Descriptor, Vec<u8>)> {
    let common = images.first().and_then(|first| first.index);
    if let Some(digest) = common.filter(|digest| images.iter().all(|image| image.index == Some(*digest)))
        && let Ok(bytes) = store.read_blob(&digest)
        && let Ok(Manifest::Index(index)) = crate::format::manifest::parse(&bytes, None)
        && index
            .manifests
            .iter()
            .all(|entry| images.iter().any(|image| image.manifest.digest == entry.digest))
    {
        return Ok((Descriptor::of(index.media_type(), &bytes), bytes));
    }
    let mut manifests: Vec<Descriptor> = images.iter().map(|image| image.manifest.clone()).collect();
    // Whichever came last: the same images are the same index.
    manifests.sort_by(|a, b| (&a.platform, a.digest).cmp(&(&b.platform, b.digest)));
    let index = Index {
        dialect: Dialect::Oci,
        manifests,
        annotations: BTreeMap::new(),
    };
    let bytes = index.render()?;
    Ok((Descriptor::of(media::OCI_INDEX, &bytes), bytes))
}
