//! Which layers an image is made of, and what of each is known before anything is fetched. Pure.

use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::media;
use crate::model::id::{ChainId, DiffId};

/// A layer to be brought.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job<'a> {
    pub(super) descriptor: &'a Descriptor,
    pub(super) diff_id: DiffId,
    pub(super) parent: Option<ChainId>,
    pub(super) chain: ChainId,
}

/// Base first. `layers` and `diff_ids` are of equal length, or it is refused.
pub(super) fn jobs<'a>(layers: &'a [Descriptor], diff_ids: &[DiffId]) -> Result<Vec<Job<'a>>> {
    if layers.len() != diff_ids.len() {
        return Err(Error::other(format!(
            "manifest has {} layers, its configuration {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    let mut parent = None;
    let mut jobs = Vec::with_capacity(layers.len());
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        if media::layer(&descriptor.media_type).is_none() {
            return Err(Error::other(format!(
                "layer {}: media type '{}' is not one of a file system's layer",
                descriptor.digest,
                descriptor.media_type.escape_debug()
            )));
        }
        if descriptor.size == 0 {
            return Err(Error::other(format!(
                "layer {}: its manifest says that it is empty",
                descriptor.digest
            )));
        }
        let chain = ChainId::of(parent, *diff_id);
        jobs.push(Job {
            descriptor,
            diff_id: *diff_id,
            parent,
            chain,
        });
        parent = Some(chain);
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;

    #[test]
    fn each_layer_stands_on_the_one_before() {
        let layer = |n: &str| Descriptor::of(media::OCI_LAYER_GZIP, n.as_bytes());
        let diff = |n: &str| DiffId(Digest::of(n.as_bytes()));
        let layers = [layer("1"), layer("2")];
        let diffs = [diff("a"), diff("b")];
        let jobs = jobs(&layers, &diffs).unwrap();
        assert_eq!((jobs[0].parent, jobs[1].parent), (None, Some(jobs[0].chain)));
        assert_eq!([jobs[0].chain, jobs[1].chain], ChainId::chain(&diffs)[..]);
        assert!(super::jobs(&layers, &diffs[..1]).is_err());
        let empty = [Descriptor::of(media::OCI_LAYER_GZIP, b"")];
        assert!(
            super::jobs(&empty, &diffs[..1])
                .unwrap_err()
                .to_string()
                .contains("empty")
        );
        let strange = [Descriptor::of("text/html\x1b", b"1")];
        let e = super::jobs(&strange, &diffs[..1]).unwrap_err().to_string();
        assert!(e.contains("text/html\\u{1b}"), "{e}");
    }
}
