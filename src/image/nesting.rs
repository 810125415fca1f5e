//! Indexes that images came by, also indexes of indexes: which of them can go out again as it is.

use crate::format::descriptor::Descriptor;
use crate::format::manifest::{self, Manifest};
use crate::model::digest::Digest;
use crate::store::Store;

/// Indexes in indexes; nothing real has more than one in another.
pub(super) const DEEPEST: usize = 4;

/// An index as it came.
pub(super) struct Kept {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
}

/// The first of `indexes` that leads to all of these manifests, and to no other, behind those that it consists of: last
/// is the one that stands for all.
pub(super) fn unchanged(
    store: &Store,
    indexes: impl IntoIterator<Item = Digest>,
    going: &[Digest],
) -> Option<Vec<Kept>> {
    let read = |digest: &Digest| store.read_blob(digest).ok();
    indexes.into_iter().find_map(|index| consists(&index, going, &read))
}

fn consists(index: &Digest, going: &[Digest], read: &dyn Fn(&Digest) -> Option<Vec<u8>>) -> Option<Vec<Kept>> {
    let mut walk = Walk {
        read,
        going,
        met: Vec::new(),
        kept: Vec::new(),
    };
    walk.index(index, 0)?;
    going
        .iter()
        .all(|manifest| walk.met.contains(manifest))
        .then_some(walk.kept)
}

struct Walk<'a> {
    read: &'a dyn Fn(&Digest) -> Option<Vec<u8>>,
    going: &'a [Digest],
    met: Vec<Digest>,
    kept: Vec<Kept>,
}

impl Walk<'_> {
    fn index(&mut self, digest: &Digest, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        let bytes = (self.read)(digest)?;
        let Ok(Manifest::Index(index)) = manifest::parse(&bytes, None) else {
            return None;
        };
        for entry in &index.manifests {
            match self.going.contains(&entry.digest) {
                true => self.met.push(entry.digest),
                false => self.index(&entry.digest, depth + 1)?,
            }
        }
        if self.kept.iter().all(|known| known.descriptor.digest != *digest) {
            self.kept.push(Kept {
                descriptor: Descriptor::of(index.media_type(), &bytes),
                bytes,
            });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::media;
    use serde_json::json;
    use std::collections::HashMap;

    #[test]
    fn only_what_is_all_there_is_unchanged() {
        let mut blobs = HashMap::new();
        let mut index = |entries: &[Digest]| {
            let entries: Vec<_> = entries
                .iter()
                .map(|d| json!({"mediaType": media::OCI_MANIFEST, "digest": d.to_string(), "size": 1}))
                .collect();
            let bytes = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries})
                .to_string()
                .into_bytes();
            let digest = Digest::of(&bytes);
            blobs.insert(digest, bytes);
            digest
        };
        let image = |n: &str| Digest::of(n.as_bytes());
        let (a, b, c) = (image("a"), image("b"), image("c"));
        let inner = index(&[a, b]);
        let outer = index(&[inner, c]);
        let alone = index(&[inner]);
        let read = |digest: &Digest| blobs.get(digest).cloned();
        let walked = |index: Digest, going: &[Digest]| {
            let kept = consists(&index, going, &read)?;
            Some(kept.iter().map(|k| k.descriptor.digest).collect::<Vec<_>>())
        };
        for (index, going, want) in [
            (inner, &[a, b][..], Some(vec![inner])),
            (outer, &[a, b, c], Some(vec![inner, outer])),
            (alone, &[b, a], Some(vec![inner, alone])),
            (outer, &[a, b], None),
            (inner, &[a, b, c], None),
            (inner, &[a], None),
            (c, &[c], None),
        ] {
            assert_eq!(walked(index, going), want);
        }
    }
}
