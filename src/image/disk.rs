//! What images take on disk, for `system df`: a layer that several images share is counted once, and what can be
//! reclaimed is what really becomes free.

use crate::error::Result;
use crate::image::list::summaries;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ImageId};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// One row of `system df`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) total: usize,
    pub(crate) active: usize,
    pub(crate) size: u64,
    pub(crate) reclaimable: u64,
}

/// One image's part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Bytes of layers that another image has as well.
    pub(crate) shared: u64,
    pub(crate) unique: u64,
    pub(crate) containers: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) images: Tally,
    pub(crate) shares: BTreeMap<ImageId, Share>,
    /// Configurations, manifests, and compressed layers as they came.
    pub(crate) blobs: Tally,
    /// Partial downloads.
    pub(crate) downloads: Tally,
    /// Copies of layers for the users of some containers, and what drivers other than overlayfs keep of layers.
    pub(crate) copies: Tally,
}

pub(crate) fn usage(store: &Store) -> Result<Usage> {
    let ids = store.image_ids()?;
    let mut images: BTreeMap<ImageId, Vec<ChainId>> = BTreeMap::new();
    for (id, summary) in summaries(store, &ids) {
        images.insert(id, summary.map(|s| s.layers).unwrap_or_default());
    }
    let mut users: BTreeMap<ImageId, usize> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for id in store.container_ids()? {
        if let Ok(config) = store.config(&id) {
            let images: BTreeSet<ImageId> = config.images().map(|image| image.id).collect();
            for image in images {
                *users.entry(image).or_default() += 1;
            }
            used.extend(config.layers());
        }
    }
    let (mut sizes, mut compressed) = (BTreeMap::new(), BTreeSet::new());
    for id in store.layer_ids()? {
        let Ok(layer) = store.layer(&id) else { continue };
        sizes.insert(id, layer.size);
        // Only with a record of its tar can it be made again.
        if !layer.blobs.is_empty() && store.open_tar_record(&id)?.is_some() {
            compressed.extend(layer.blobs.into_iter().map(|blob| blob.digest));
        }
    }
    let (tally, shares) = share(&images, &sizes, &users, &used);
    let mut downloads = Tally::default();
    for partial in store.downloads()? {
        downloads.total += 1;
        downloads.active += usize::from(partial.busy);
        downloads.size += partial.size;
        downloads.reclaimable += if partial.busy { 0 } else { partial.size };
    }
    let mut copies = Tally::default();
    for of_map in store.chowned_copies()? {
        copies.total += of_map.count;
        copies.size += of_map.size;
        match of_map.used {
            true => copies.active += of_map.count,
            false => copies.reclaimable += of_map.size,
        }
    }
    for view in store.views()? {
        copies.total += 1;
        copies.size += view.size;
        match view.used {
            true => copies.active += 1,
            false => copies.reclaimable += view.size,
        }
    }
    Ok(Usage {
        images: tally,
        shares,
        copies,
        blobs: blobs(&store.blobs()?, &compressed),
        downloads,
    })
}

fn blobs(all: &[(Digest, u64)], again: &BTreeSet<Digest>) -> Tally {
    let mut tally = Tally::default();
    for (digest, size) in all {
        tally.total += 1;
        tally.size += size;
        match again.contains(digest) {
            true => tally.reclaimable += size,
            false => tally.active += 1,
        }
    }
    tally
}

/// `users`: containers of each image; `used`: the layers they need, some perhaps of images that are gone.
fn share(
    images: &BTreeMap<ImageId, Vec<ChainId>>,
    sizes: &BTreeMap<ChainId, u64>,
    users: &BTreeMap<ImageId, usize>,
    used: &BTreeSet<ChainId>,
) -> (Tally, BTreeMap<ImageId, Share>) {
    let mut owners: BTreeMap<ChainId, usize> = BTreeMap::new();
    for layers in images.values() {
        for layer in layers {
            *owners.entry(*layer).or_default() += 1;
        }
    }
    let size = |layer: &ChainId| sizes.get(layer).copied().unwrap_or(0);
    let shares: BTreeMap<ImageId, Share> = images
        .iter()
        .map(|(id, layers)| {
            let whole: u64 = layers.iter().map(size).sum();
            let of_several = layers.iter().filter(|layer| owners.get(*layer).is_some_and(|n| *n > 1));
            let shared: u64 = of_several.map(size).sum();
            let share = Share {
                shared,
                unique: whole - shared,
                containers: users.get(id).copied().unwrap_or(0),
            };
            (*id, share)
        })
        .collect();
    let tally = Tally {
        total: images.len(),
        active: shares.values().filter(|share| share.containers > 0).count(),
        size: sizes.values().sum(),
        reclaimable: sizes
            .iter()
            .filter(|(id, _)| !used.contains(id))
            .map(|(_, size)| size)
            .sum(),
    };
    (tally, shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_layers_count_once() {
        let chain = |name: &str| ChainId(Digest::of(name.as_bytes()));
        let image = |name: &str| ImageId(Digest::of(name.as_bytes()));
        let sizes = BTreeMap::from([(chain("1"), 100), (chain("2"), 10), (chain("3"), 1), (chain("gone"), 5)]);
        let images = BTreeMap::from([
            (image("base"), vec![chain("1")]),
            (image("web"), vec![chain("1"), chain("2")]),
            (image("alone"), vec![chain("3")]),
            (image("damaged"), vec![]),
        ]);
        let users = BTreeMap::from([(image("base"), 2), (image("gone"), 1)]);
        let used = BTreeSet::from([chain("1"), chain("gone")]);
        let (tally, shares) = share(&images, &sizes, &users, &used);
        let expected = Tally {
            total: 4,
            active: 1,
            size: 116,
            reclaimable: 11,
        };
        assert_eq!(tally, expected);
        let of = |name: &str| {
            let share = shares[&image(name)];
            (share.shared, share.unique, share.containers)
        };
        assert_eq!(of("base"), (100, 0, 2));
        assert_eq!(of("web"), (100, 10, 0));
        assert_eq!(of("alone"), (0, 1, 0));
        assert_eq!(of("damaged"), (0, 0, 0));
    }

    #[test]
    fn blobs_that_can_be_made_again() {
        let digest = |name: &str| Digest::of(name.as_bytes());
        let all = [(digest("config"), 3), (digest("layer"), 50)];
        let tally = blobs(&all, &BTreeSet::from([digest("layer"), digest("dropped")]));
        assert_eq!(
            (tally.total, tally.active, tally.size, tally.reclaimable),
            (2, 1, 53, 50)
        );
    }
}
