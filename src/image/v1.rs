//! What images here are called at registries of 2013. The ids of that time say nothing of what they name, so one counts
//! only where it comes from: what one registry calls by an id is not taken for what another one does.

use crate::error::{Error, Result};
use crate::format::docker_v1;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId, ImageId};
use crate::model::image::{ImageRecord, V1Record};
use crate::store::Store;
use std::collections::BTreeMap;

/// An image of a chain that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) json: Digest,
    /// `None`: it changed no file.
    pub(super) layer: Option<(ChainId, DiffId)>,
}

/// One of a chain on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) id: String,
    pub(super) json: Vec<u8>,
    pub(super) layer: Option<ChainId>,
}

/// Every image of `host` that is here, by its id there.
pub(super) fn known(store: &Store, host: &str) -> Result<BTreeMap<String, Known>> {
    let mut all = BTreeMap::new();
    for id in store.image_ids()? {
        // A damaged one brings nothing in.
        let Ok(image) = store.image(&id) else { continue };
        if image.v1.iter().all(|v1| v1.host != host) {
            continue;
        }
        let stack: Vec<(ChainId, DiffId)> = stack(&image);
        let mut layers = stack.into_iter();
        for v1 in &image.v1 {
            let layer = match v1.empty {
                true => None,
                false => layers.next(),
            };
            if v1.host == host {
                let known = Known { json: v1.json, layer };
                all.insert(v1.id.clone(), known);
            }
        }
    }
    Ok(all)
}

fn stack(image: &ImageRecord) -> Vec<(ChainId, DiffId)> {
    let diffs = image.config.rootfs.diff_ids.iter();
    image.layers.iter().copied().zip(diffs.copied()).collect()
}

/// The image that some registry called by the one id that begins like this.
pub(super) fn by_prefix(store: &Store, prefix: &str) -> Result<Option<ImageId>> {
    let mut found: Vec<ImageId> = Vec::new();
    for id in store.image_ids()? {
        let Ok(image) = store.image(&id) else { continue };
        if image.v1.last().is_some_and(|top| top.id.starts_with(prefix)) {
            found.push(id);
        }
    }
    Ok(match found[..] {
        [only] => Some(only),
        _ => None,
    })
}

/// The chain that the image is pushed as, base first: with the ids that its layers came with, as far as they did, and
/// ids made of what they stand on above, which are the same each time.
pub(super) fn chain(store: &Store, image: &ImageRecord) -> Result<Vec<Outgoing>> {
    let mut chain = Vec::new();
    let mut below = 0;
    for v1 in longest(store, image)? {
        let Ok(json) = store.read_blob(&v1.json) else { break };
        let layer = match v1.empty {
            true => None,
            false => {
                below += 1;
                image.layers.get(below - 1).copied()
            }
        };
        chain.push(Outgoing { id: v1.id, json, layer });
    }
    let whole = below == image.layers.len() && !image.v1.is_empty() && chain.len() == image.v1.len();
    if whole {
        return Ok(chain);
    }
    if below == image.layers.len() {
        // The same files, but another configuration: it takes an image of its own, on the last layer.
        while let Some(last) = chain.pop() {
            if last.layer.is_some() {
                below -= 1;
                break;
            }
        }
    }
    let config = store.read_blob(&image.id.0)?;
    let parent = chain.last().map(|top| top.id.clone());
    let made = docker_v1::images_on(parent.as_deref(), below, &config, &image.layers)?;
    for (made, layer) in made.into_iter().zip(image.layers.iter().skip(below)) {
        chain.push(Outgoing {
            id: made.id,
            json: made.json,
            layer: Some(*layer),
        });
    }
    match chain.is_empty() {
        false => Ok(chain),
        true => Err(Error::other(
            "the image has no layers, and a registry of 2013 knows images by their layers",
        )),
    }
}

/// Its own records, or the part of another image's that is about the same layers.
fn longest(store: &Store, image: &ImageRecord) -> Result<Vec<V1Record>> {
    if !image.v1.is_empty() {
        return Ok(image.v1.clone());
    }
    let mut best: (usize, Vec<V1Record>) = (0, Vec::new());
    for id in store.image_ids()? {
        let Ok(other) = store.image(&id) else { continue };
        let shared = other
            .layers
            .iter()
            .zip(&image.layers)
            .take_while(|(a, b)| a == b)
            .count();
        if other.v1.is_empty() || shared <= best.0 {
            continue;
        }
        best = (shared, first_layers(&other.v1, shared));
    }
    Ok(best.1)
}

/// Up to and with the n-th that has a layer.
fn first_layers(all: &[V1Record], n: usize) -> Vec<V1Record> {
    let mut seen = 0;
    let within = all.iter().take_while(|v1| {
        let before = seen;
        seen += usize::from(!v1.empty);
        before < n
    });
    within.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_chain_that_is_shared() {
        let record = |id: &str, empty| V1Record {
            id: id.to_owned(),
            json: Digest::of(id.as_bytes()),
            host: String::new(),
            empty,
        };
        let all = [
            record("a", false),
            record("b", true),
            record("c", false),
            record("d", true),
        ];
        for (n, want) in [(0, ""), (1, "a"), (2, "abc"), (3, "abcd")] {
            let ids: String = first_layers(&all, n).into_iter().map(|r| r.id).collect();
            assert_eq!(ids, want, "{n}");
        }
    }
}
