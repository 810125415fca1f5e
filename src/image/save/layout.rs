//! OCI layouts: manifests, indexes and compressed layers as they came.

use super::form::{Formed, Wish, form};
use super::output::Output;
use super::select::Chosen;
use crate::error::Result;
use crate::format::descriptor::Descriptor;
use crate::format::layout::{self, blob_path};
use crate::format::manifest::{Dialect, Index};
use crate::format::media;
use crate::image::nesting::{self, Kept};
use crate::model::digest::Digest;
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
    let mut indexes: Vec<Kept> = Vec::new();
    for (name, images) in &chosen.names {
        let images: Vec<&Formed> = images.iter().map(|at| &formed[*at]).collect();
        let kept = indexes_of(store, &images)?;
        let leading = kept.last().map(|index| &index.descriptor);
        let descriptor = leading.or(images.first().map(|only| &only.manifest));
        let Some(descriptor) = descriptor.cloned() else {
            continue;
        };
        for index in kept {
            if indexes
                .iter()
                .all(|known| known.descriptor.digest != index.descriptor.digest)
            {
                indexes.push(index);
            }
        }
        entries.push(named(descriptor, name));
    }
    for (at, image) in formed.iter().enumerate() {
        if chosen.names_of(at).is_empty() {
            entries.push(image.manifest.clone());
        }
    }
    head(output, entries)?;
    for index in &indexes {
        output.file(&blob_path(&index.descriptor.digest), &index.bytes)?;
    }
    for image in &formed {
        output.file(&blob_path(&image.manifest.digest), &image.bytes)?;
        output.file(&blob_path(&Digest::of(&image.config)), &image.config)?;
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

/// The indexes the images came by, if all that they name is among them; else, for several, one of those that are here.
fn indexes_of(store: &Store, images: &[&Formed]) -> Result<Vec<Kept>> {
    let going: Vec<Digest> = images.iter().map(|image| image.manifest.digest).collect();
    let known = images.iter().flat_map(|image| image.indexes.iter().copied());
    if let Some(kept) = nesting::unchanged(store, known, &going) {
        return Ok(kept);
    }
    if images.len() == 1 {
        return Ok(Vec::new());
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
    let descriptor = Descriptor::of(media::OCI_INDEX, &bytes);
    Ok(vec![Kept { descriptor, bytes }])
}
