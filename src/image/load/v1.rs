//! Archives of docker 0.6.7 to 1.9: for each layer a directory `<id>` with `json` and `layer.tar`, and `repositories`
//! with the names of the topmost ones. Digests there are none: what a layer's is, is found by hashing it.

use super::archive::{Archive, missing};
use super::{Place, Planned, name};
use crate::error::{Context, Error, Result};
use crate::format::docker_v1::{self, V1Image};
use crate::format::{MAX_LAYERS, docker_archive, shown};
use crate::layer::compress;
use crate::model::digest::Digest;
use crate::model::id::DiffId;
use crate::model::reference::Reference;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

pub(super) fn plan(archive: &Archive) -> Result<Vec<Planned>> {
    let images = images(archive)?;
    let list = archive.read(docker_archive::REPOSITORIES)?;
    if images.is_empty() {
        return Err(Error::other("not an archive of images").with_hint(match list {
            Some(_) => "it has names (repositories), but no image",
            None => "a root file system is brought in by `barge import`",
        }));
    }
    let mut names: BTreeMap<String, Vec<Reference>> = BTreeMap::new();
    if let Some(list) = list {
        for (repository, tags) in docker_archive::parse_repositories(&list)? {
            for (tag, id) in tags {
                let name = name(&format!("{repository}:{tag}")).context(docker_archive::REPOSITORIES)?;
                names.entry(id).or_default().push(name);
            }
        }
    }
    // What nobody stands on was saved by its id.
    let parents: BTreeSet<&String> = images.values().filter_map(|image| image.parent.as_ref()).collect();
    for id in images.keys().filter(|id| !parents.contains(id)) {
        names.entry(id.clone()).or_default();
    }
    let mut diffs = BTreeMap::new();
    let mut all = Vec::new();
    for (id, names) in names {
        let said = || format!("image {}", shown(&id.chars().take(12).collect::<String>()));
        let mut planned = image(archive, &images, &id, &mut diffs).with_context(said)?;
        planned.names = names;
        all.push(planned);
    }
    match all.is_empty() {
        true => Err(Error::other("the parents of the archive's images form a circle")),
        false => Ok(all),
    }
}

fn images(archive: &Archive) -> Result<BTreeMap<String, V1Image>> {
    let mut images = BTreeMap::new();
    for directory in archive.directories_with("json")? {
        if docker_v1::check_id(&directory).is_err() {
            continue;
        }
        let bytes = archive.need(&format!("{directory}/json"))?;
        let image = V1Image::parse(&bytes).with_context(|| format!("{directory}/json"))?;
        if image.id != directory {
            return Err(Error::other(format!(
                "{directory}/json is of another image: {}",
                image.id
            )));
        }
        images.insert(directory, image);
    }
    Ok(images)
}

fn image(
    archive: &Archive,
    images: &BTreeMap<String, V1Image>,
    top: &str,
    diffs: &mut BTreeMap<String, DiffId>,
) -> Result<Planned> {
    let mut chain: Vec<&V1Image> = Vec::new();
    let mut next = Some(top);
    while let Some(id) = next {
        let image = images.get(id).ok_or_else(|| missing(&format!("{id}/json")))?;
        if chain.len() == MAX_LAYERS || chain.iter().any(|known| known.id == image.id) {
            return Err(Error::other(match chain.len() == MAX_LAYERS {
                true => format!("more than {MAX_LAYERS} layers"),
                false => "its parents form a circle".to_owned(),
            }));
        }
        chain.push(image);
        next = image.parent.as_deref();
    }
    chain.reverse();
    let mut layers = Vec::new();
    let mut of_layers = Vec::new();
    for image in chain.iter().filter(|image| !image.throwaway) {
        let path = format!("{}/layer.tar", image.id);
        let diff = match diffs.get(&image.id) {
            Some(known) => *known,
            None => hash(archive, &path).with_context(|| shown(&path))?,
        };
        diffs.insert(image.id.clone(), diff);
        of_layers.push(diff);
        layers.push(Place {
            path,
            blob: None,
            media_type: None,
        });
    }
    Planned::new(docker_v1::config(&chain, &of_layers)?, layers)
}

/// The digest of a layer's tar, which may be compressed here.
fn hash(archive: &Archive, path: &str) -> Result<DiffId> {
    let content = archive.find(path)?.ok_or_else(|| missing(path))?;
    let mut tar = compress::reader(content)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = tar.read(&mut buffer).context("read layer")?;
        if n == 0 {
            return Ok(DiffId(Digest::from_hasher(hasher)));
        }
        hasher.update(&buffer[..n]);
    }
}
