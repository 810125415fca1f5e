//! An image as docker-shaped JSON.

use crate::error::Result;
use crate::model::id::DiffId;
use crate::model::image::{ImageRecord, RunDefaults};
use crate::model::reference::Reference;
use crate::store::Store;
use serde::Serialize;

/// What `image inspect` prints; field names and order are docker's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspect {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    author: String,
    config: RunDefaults,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    size: u64,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: Layers,
    metadata: Metadata,
    /// What its layers are called at registries of 2013, base first. Not docker's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    v1_ids: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: GraphDriverData,
    name: &'static str,
}

/// Docker's overlay2 has the lower directories top first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriverData {
    #[serde(skip_serializing_if = "String::is_empty")]
    lower_dir: String,
    upper_dir: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Layers {
    r#type: String,
    layers: Vec<DiffId>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

pub(crate) fn inspect(store: &Store, image: &ImageRecord) -> Result<Inspect> {
    let config = &image.config;
    let mut directories: Vec<String> = image
        .layers
        .iter()
        .rev()
        .map(|layer| store.layer_dir(layer).display().to_string())
        .collect();
    let top = if directories.is_empty() {
        String::new()
    } else {
        directories.remove(0)
    };
    let tags = store.readable_tags();
    let texts = |names: Vec<Reference>| names.iter().map(ToString::to_string).collect();
    Ok(Inspect {
        id: image.id.to_string(),
        repo_tags: texts(tags.of(&image.id)),
        repo_digests: texts(tags.digests_of(&image.id)),
        parent: image.parent.map(|id| id.to_string()).unwrap_or_default(),
        comment: config
            .history
            .last()
            .map(|step| step.comment.clone())
            .unwrap_or_default(),
        created: config.created.map(|t| t.to_string()).unwrap_or_default(),
        author: config.author.clone(),
        config: config.config.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
        os: config.os.clone(),
        size: image.size,
        graph_driver: GraphDriver {
            data: GraphDriverData {
                lower_dir: directories.join(":"),
                upper_dir: top,
            },
            name: "overlay2",
        },
        root_fs: Layers {
            r#type: config.rootfs.kind.clone(),
            layers: config.rootfs.diff_ids.clone(),
        },
        metadata: Metadata {
            last_tag_time: image.stored.to_string(),
        },
        v1_ids: image.v1.iter().map(|v1| v1.id.clone()).collect(),
    })
}
