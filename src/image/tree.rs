//! Which image stands on which, for `images --tree` and `--viz`: by the parent that a commit recorded, else by the layers
//! they share. Where images share layers that are no image themselves, the topmost shared layer stands in.

use crate::error::Result;
use crate::image::list::{Summary, summaries};
use crate::model::id::{ChainId, ImageId};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Image(ImageId),
    Layer(ChainId),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) subject: Subject,
    pub(crate) parent: Option<Subject>,
    /// `debian:12`, in order.
    pub(crate) names: Vec<String>,
    /// Bytes that it adds to its parent, and all of it.
    pub(crate) own: u64,
    pub(crate) size: u64,
}

/// Every node; roots and siblings come oldest first.
pub(crate) fn nodes(store: &Store) -> Result<Vec<Node>> {
    let mut names: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
    for (name, id) in store.readable_tags().iter() {
        names.entry(id).or_default().push(name.to_string());
    }
    let ids = store.image_ids()?;
    let mut images: Vec<(ImageId, Summary)> = summaries(store, &ids)
        .into_iter()
        .filter_map(|(id, summary)| Some((id, summary.ok()?)))
        .collect();
    images.sort_by_key(|(id, summary)| (summary.created(), *id));
    let size = |chain: &ChainId| store.layer(chain).map_or(0, |layer| layer.size);
    let images = images.into_iter().map(|(id, summary)| Member {
        id,
        parent: summary.parent,
        size: summary.size,
        layers: summary.layers,
        names: names.remove(&id).unwrap_or_default(),
    });
    Ok(connect(&images.collect::<Vec<_>>(), &size))
}

/// An image that is to have its place.
struct Member {
    id: ImageId,
    parent: Option<ImageId>,
    size: u64,
    /// Base first.
    layers: Vec<ChainId>,
    names: Vec<String>,
}

/// `size` says the bytes of one layer.
fn connect(images: &[Member], size: &dyn Fn(&ChainId) -> u64) -> Vec<Node> {
    let known: BTreeMap<ImageId, &Member> = images.iter().map(|image| (image.id, image)).collect();
    let mut tops: BTreeMap<ChainId, ImageId> = BTreeMap::new();
    let mut above: BTreeMap<ChainId, BTreeSet<ChainId>> = BTreeMap::new();
    for image in images {
        if let Some(top) = image.layers.last() {
            tops.entry(*top).or_insert(image.id);
        }
        for pair in image.layers.windows(2) {
            above.entry(pair[0]).or_default().insert(pair[1]);
        }
    }
    let below = |layers: &[ChainId]| -> Option<(Subject, usize)> {
        let end = layers.len().checked_sub(1)?;
        (0..end).rev().find_map(|at| {
            let image = tops.get(&layers[at]).map(|id| Subject::Image(*id));
            let shared = above.get(&layers[at]).is_some_and(|next| next.len() > 1);
            Some((image.or(shared.then_some(Subject::Layer(layers[at])))?, at))
        })
    };
    let mut nodes = Vec::new();
    let mut layers_shown = BTreeSet::new();
    for image in images {
        let recorded = image.parent.filter(|id| known.contains_key(id) && *id != image.id);
        let found = below(&image.layers);
        let parent = recorded.map(Subject::Image).or(found.map(|(subject, _)| subject));
        // The layers below that have no image: each has its place once.
        let mut rest = found.filter(|_| recorded.is_none());
        while let Some((Subject::Layer(chain), at)) = rest {
            rest = below(&image.layers[..=at]);
            if layers_shown.insert(chain) {
                let whole: u64 = image.layers[..=at].iter().map(size).sum();
                nodes.push(Node {
                    subject: Subject::Layer(chain),
                    parent: rest.map(|(subject, _)| subject),
                    names: Vec::new(),
                    own: whole,
                    size: whole,
                });
            }
        }
        nodes.push(Node {
            subject: Subject::Image(image.id),
            parent,
            names: image.names.clone(),
            own: image.size,
            size: image.size,
        });
    }
    let sizes: BTreeMap<Subject, u64> = nodes.iter().map(|node| (node.subject, node.size)).collect();
    for node in &mut nodes {
        let below = node.parent.and_then(|parent| sizes.get(&parent)).copied();
        node.own = node.size.saturating_sub(below.unwrap_or(0));
    }
    nodes
}

/// The nodes below each other: how deep, which of its siblings are still to come at each depth, and the node.
pub(crate) fn walk(nodes: &[Node]) -> Vec<(Vec<bool>, &Node)> {
    let mut below: BTreeMap<Option<Subject>, Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        below.entry(node.parent).or_default().push(node);
    }
    let mut out = Vec::with_capacity(nodes.len());
    let mut open = children(&mut below, None, &[]);
    while let Some((more, node)) = open.pop() {
        open.extend(children(&mut below, Some(node.subject), &more));
        out.push((more, node));
    }
    out
}

/// Last one first. Taken out, so that a circle, which no store should have, ends.
fn children<'a>(
    below: &mut BTreeMap<Option<Subject>, Vec<&'a Node>>,
    parent: Option<Subject>,
    above: &[bool],
) -> Vec<(Vec<bool>, &'a Node)> {
    let children = below.remove(&parent).unwrap_or_default();
    let last = children.len().saturating_sub(1);
    let placed = children.into_iter().enumerate();
    placed
        .rev()
        .map(|(at, child)| ([above, &[at < last]].concat(), child))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;

    fn chain(text: &str) -> Vec<ChainId> {
        text.bytes().map(|b| ChainId(Digest::of(&[b]))).collect()
    }

    fn image(name: &str) -> ImageId {
        ImageId(Digest::of(name.as_bytes()))
    }

    /// `name layers parent`: the tree as text, one node a line.
    fn tree(images: &[(&str, &str, &str)]) -> Vec<String> {
        let members: Vec<Member> = images
            .iter()
            .map(|(name, layers, parent)| Member {
                id: image(name),
                parent: (!parent.is_empty()).then(|| image(parent)),
                size: layers.len() as u64,
                layers: chain(layers),
                names: vec![(*name).to_owned()],
            })
            .collect();
        let nodes = connect(&members, &|_| 1);
        let line = |(more, node): (Vec<bool>, &Node)| {
            let name = node.names.first().map_or("-", String::as_str);
            format!("{}{name} {}/{}", " ".repeat(more.len() - 1), node.own, node.size)
        };
        walk(&nodes).into_iter().map(line).collect()
    }

    #[test]
    fn images_stand_on_images() {
        for (images, expected) in [
            (
                &[("a", "1", ""), ("b", "12", ""), ("c", "123", "")][..],
                &["a 1/1", " b 1/2", "  c 1/3"][..],
            ),
            (&[("a", "1", ""), ("b", "2", "")], &["a 1/1", "b 1/1"]),
            // Shared layers without an image, one and two of them.
            (&[("a", "123", ""), ("b", "124", "")], &["- 2/2", " a 1/3", " b 1/3"]),
            (
                &[("a", "1234", ""), ("b", "1235", ""), ("c", "16", "")],
                &["- 1/1", " - 2/3", "  a 1/4", "  b 1/4", " c 1/2"],
            ),
            // What a commit says counts, also if no layer was added.
            (
                &[("a", "1", ""), ("b", "1", "a"), ("c", "1", "")],
                &["a 1/1", " b 0/1", "c 1/1"],
            ),
            (&[("a", "1", ""), ("b", "2", "a")], &["a 1/1", " b 0/1"]),
            // Parents that are gone, and nonsense.
            (&[("a", "1", "gone"), ("b", "", "")], &["a 1/1", "b 0/0"]),
            (&[("a", "1", "a")], &["a 1/1"]),
        ] {
            assert_eq!(tree(images), expected, "{images:?}");
        }
    }

    #[test]
    fn a_circle_ends() {
        assert!(tree(&[("a", "1", "b"), ("b", "2", "a")]).is_empty());
    }
}
