//! How an image came about, step by step.

use crate::model::id::{ChainId, ImageId};
use crate::model::image::{History, ImageRecord};
use crate::model::time::Timestamp;
use crate::store::Store;

/// One line of `history`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Only the newest step has one: `<missing>` below it.
    pub(crate) id: Option<ImageId>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) created_by: String,
    /// Bytes of its layer, 0 if it made none.
    pub(crate) size: u64,
    pub(crate) comment: String,
}

/// Newest first. A layer that the configuration tells nothing of has a row of its own.
pub(crate) fn history(store: &Store, image: &ImageRecord) -> Vec<Row> {
    let size = |layer: &ChainId| store.layer(layer).map_or(0, |record| record.size);
    let sizes: Vec<u64> = image.layers.iter().map(size).collect();
    rows(image.id, &image.config.history, &sizes)
}

fn rows(id: ImageId, steps: &[History], sizes: &[u64]) -> Vec<Row> {
    let told = steps.iter().filter(|step| !step.empty_layer).count();
    let untold = sizes.len().saturating_sub(told);
    let mut sizes = sizes.iter().copied();
    let nameless = Row {
        id: None,
        created: None,
        created_by: String::new(),
        size: 0,
        comment: String::new(),
    };
    let mut rows: Vec<Row> = sizes
        .by_ref()
        .take(untold)
        .map(|size| Row {
            size,
            ..nameless.clone()
        })
        .collect();
    rows.extend(steps.iter().map(|step| Row {
        id: None,
        created: step.created,
        created_by: step.created_by.clone(),
        size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
        comment: step.comment.clone(),
    }));
    rows.reverse();
    if let Some(top) = rows.first_mut() {
        top.id = Some(id);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;

    #[test]
    fn sizes_meet_their_steps() {
        let id = ImageId(Digest::of(b""));
        let step = |by: &str, empty_layer| History {
            created_by: by.to_owned(),
            empty_layer,
            ..History::default()
        };
        let steps = [step("ADD", false), step("CMD", true), step("RUN", false)];
        let summary = |rows: Vec<Row>| rows.into_iter().map(|r| (r.created_by, r.size)).collect::<Vec<_>>();
        let row = |by: &str, size| (by.to_owned(), size);
        assert_eq!(
            summary(rows(id, &steps, &[5, 7])),
            [row("RUN", 7), row("CMD", 0), row("ADD", 5)]
        );
        assert_eq!(summary(rows(id, &[], &[5, 7])), [row("", 7), row("", 5)]);
        assert_eq!(rows(id, &steps, &[5, 7])[0].id, Some(id));
        assert!(rows(id, &[], &[]).is_empty());
    }
}
