//! Docker's archive, as docker writes it today and in a way that every docker since 0.6.7 reads; and skopeo's `dir:`.

use super::form::{Formed, Wish, form};
use super::layout::{head, named};
use super::output::Output;
use super::select::Chosen;
use crate::error::{Error, Result};
use crate::format::docker_archive::{MANIFEST, REPOSITORIES};
use crate::format::docker_v1::{self, LegacyLayer};
use crate::format::layout::blob_path;
use crate::store::Store;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) fn archive(store: &Store, chosen: &Chosen, output: &mut Output<'_>) -> Result<()> {
    let mut formed = Vec::new();
    let mut legacy = Vec::new();
    for image in &chosen.images {
        let form = form(store, image, Wish::Plain)?;
        legacy.push(docker_v1::images(&form.config, &image.layers)?);
        formed.push(form);
    }
    let mut entries = Vec::new();
    for (at, image) in formed.iter().enumerate() {
        let names = chosen.names_of(at);
        match names.is_empty() {
            true => entries.push(image.manifest.clone()),
            false => entries.extend(names.into_iter().map(|name| named(image.manifest.clone(), name))),
        }
    }
    head(output, entries)?;
    output.file(MANIFEST, &manifest(chosen, &formed)?)?;
    if let Some(repositories) = repositories(chosen, &legacy)? {
        output.file(REPOSITORIES, &repositories)?;
    }
    for (image, record) in formed.iter().zip(&chosen.images) {
        output.file(&blob_path(&record.id.0), &image.config)?;
        output.file(&blob_path(&image.manifest.digest), &image.bytes)?;
    }
    for (image, chain) in formed.iter().zip(&legacy) {
        for (layer, old) in image.layers.iter().zip(chain) {
            output.make_directory(&old.id)?;
            output.file(&format!("{}/VERSION", old.id), b"1.0")?;
            output.file(&format!("{}/json", old.id), &old.json)?;
            output.link(
                &format!("{}/layer.tar", old.id),
                &format!("../{}", blob_path(&layer.diff_id.0)),
            )?;
        }
    }
    for layer in formed.iter().flat_map(|image| &image.layers) {
        output.layer(store, &blob_path(&layer.diff_id.0), layer)?;
    }
    Ok(())
}

fn manifest(chosen: &Chosen, formed: &[Formed]) -> Result<Vec<u8>> {
    let mut list = Vec::new();
    for (at, image) in formed.iter().enumerate() {
        let names = chosen.names_of(at);
        let layers: Vec<String> = image.layers.iter().map(|l| blob_path(&l.diff_id.0)).collect();
        let sources: Map<String, Value> = image
            .layers
            .iter()
            .map(|layer| Ok((layer.diff_id.to_string(), serde_json::to_value(&layer.descriptor)?)))
            .collect::<Result<_>>()?;
        list.push(json!({
            "Config": blob_path(&chosen.images[at].id.0),
            "RepoTags": match names.is_empty() {
                true => Value::Null,
                false => json!(names.iter().map(ToString::to_string).collect::<Vec<_>>()),
            },
            "Layers": layers,
            "LayerSources": sources,
        }));
    }
    Ok(serde_json::to_vec(&list)?)
}

/// `None` where docker before 1.10 would have nothing to name.
fn repositories(chosen: &Chosen, legacy: &[Vec<LegacyLayer>]) -> Result<Option<Vec<u8>>> {
    let mut all: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
    for (name, images) in &chosen.names {
        for top in images.iter().filter_map(|at| legacy[*at].last()) {
            let tag = name.tag.as_deref().unwrap_or_default();
            all.entry(name.familiar_name()).or_default().insert(tag, &top.id);
        }
    }
    match all.is_empty() {
        true => Ok(None),
        false => Ok(Some(serde_json::to_vec(&all)?)),
    }
}

pub(super) fn directory(store: &Store, chosen: &Chosen, output: &mut Output<'_>) -> Result<()> {
    let [image] = &chosen.images[..] else {
        return Err(Error::other("docker-dir holds one image, of one platform"));
    };
    let formed = form(store, image, Wish::Docker)?;
    output.file("version", b"Directory Transport Version: 1.1\n")?;
    output.file(MANIFEST, &formed.bytes)?;
    output.file(&image.id.hex(), &formed.config)?;
    for layer in &formed.layers {
        output.layer(store, &layer.descriptor.digest.hex(), layer)?;
    }
    Ok(())
}
