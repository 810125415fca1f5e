//! Rows of `images`. A listing reads the tags, and of each image one small record, of that only what is shown: no blob,
//! no layer.

use crate::error::Result;
use crate::image::glob::glob;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ImageId};
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::store::Store;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// One name of an image, or an image without a name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// With a tag, or with none if all that names the image is a digest; `None`: `<none>`.
    pub(crate) name: Option<Reference>,
    /// What a registry calls it in that repository.
    pub(crate) digest: Option<Digest>,
    pub(crate) id: ImageId,
    /// As its configuration says, else when it came into this store; `None` if its record is damaged.
    pub(crate) created: Option<Timestamp>,
    pub(crate) size: u64,
    pub(crate) labels: BTreeMap<String, String>,
    /// `linux/arm64`
    pub(crate) platform: String,
    /// The name stands for other images as well, of other platforms.
    pub(crate) one_of_many: bool,
    /// Why the record can't be read.
    pub(crate) damage: Option<String>,
}

/// What to list. All of it has to hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Also nameless images that others were made from.
    pub(crate) all: bool,
    /// A row for every digest of a name.
    pub(crate) digests: bool,
    /// The argument, and `reference=`: shell patterns of which one has to match; `*` does not cross a `/` (F022).
    pub(crate) patterns: Vec<String>,
    pub(crate) dangling: Option<bool>,
    /// `KEY` or `KEY=VALUE`.
    pub(crate) labels: Vec<String>,
    /// Made before, and after, these images.
    pub(crate) before: Option<ImageId>,
    pub(crate) since: Option<ImageId>,
    /// Made before this time.
    pub(crate) until: Option<Timestamp>,
}

/// An image's record, as far as listings need it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Summary {
    config: Config,
    pub(crate) size: u64,
    stored: Timestamp,
    #[serde(default)]
    pub(crate) parent: Option<ImageId>,
    pub(crate) layers: Vec<ChainId>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Config {
    #[serde(default)]
    created: Option<Timestamp>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    config: Labelled,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Labelled {
    #[serde(rename = "Labels")]
    labels: BTreeMap<String, String>,
}

impl Summary {
    pub(crate) fn created(&self) -> Timestamp {
        self.config.created.unwrap_or(self.stored)
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.config.labels
    }

    fn platform(&self) -> String {
        let Config {
            os,
            architecture,
            variant,
            ..
        } = &self.config;
        match variant.is_empty() {
            true => format!("{os}/{architecture}"),
            false => format!("{os}/{architecture}/{variant}"),
        }
    }
}

/// Newest first; the names of one image in order.
pub(crate) fn list(store: &Store, filter: &Filter) -> Result<Vec<Row>> {
    let ids = store.image_ids()?;
    let images = summaries(store, &ids);
    let created = |id: Option<ImageId>| -> Option<Timestamp> {
        let id = id?;
        let (_, summary) = images.iter().find(|(other, _)| *other == id)?;
        summary.as_ref().ok().map(Summary::created)
    };
    let (before, since) = (created(filter.before), created(filter.since));
    let parents: BTreeSet<ImageId> = images.iter().filter_map(|(_, s)| s.as_ref().ok()?.parent).collect();
    let mut names = names(store);
    let mut rows = Vec::new();
    for (id, summary) in images {
        let row = row(id, summary);
        let when = row.created;
        let in_time = before.is_none_or(|b| when.is_some_and(|c| c < b))
            && since.is_none_or(|s| when.is_some_and(|c| c > s))
            && filter.until.is_none_or(|u| when.is_some_and(|c| c < u));
        if in_time && filter.labels.iter().all(|wanted| has_label(&row.labels, wanted)) {
            let intermediate = parents.contains(&id);
            named_rows(
                row,
                &names.remove(&id).unwrap_or_default(),
                intermediate,
                filter,
                &mut rows,
            );
        }
    }
    rows.sort_by(|a, b| (b.created, &a.name, a.digest, a.id).cmp(&(a.created, &b.name, b.digest, b.id)));
    Ok(rows)
}

/// The names of one image.
#[derive(Debug, Default)]
struct Names {
    tags: Vec<(Reference, bool)>,
    digests: Vec<Reference>,
}

fn names(store: &Store) -> BTreeMap<ImageId, Names> {
    let mut names: BTreeMap<ImageId, Names> = BTreeMap::new();
    let tags = store.readable_tags();
    let mut all = tags.iter().chain(tags.digests()).peekable();
    let mut before: Option<Reference> = None;
    while let Some((name, id)) = all.next() {
        let of_image = names.entry(id).or_default();
        // The images of one name follow each other.
        let one_of_many = before.as_ref() == Some(&name) || all.peek().is_some_and(|(next, _)| *next == name);
        before = Some(name.clone());
        match name.digest {
            Some(_) => of_image.digests.push(name),
            None => of_image.tags.push((name, one_of_many)),
        }
    }
    names
}

/// A row for each name that is asked for, and one for an image without any.
fn named_rows(row: Row, names: &Names, intermediate: bool, filter: &Filter, rows: &mut Vec<Row>) {
    let Names { tags, digests } = names;
    if tags.is_empty() && digests.is_empty() {
        let wanted = filter.patterns.is_empty() && filter.dangling != Some(false);
        if wanted && (filter.all || !intermediate) {
            rows.push(row);
        }
        return;
    }
    if filter.dangling == Some(true) && !tags.is_empty() {
        return;
    }
    let asked_for = |name: &Reference| filter.patterns.is_empty() || matches_any(&filter.patterns, name);
    let of = |name: &Reference| -> Vec<Option<Digest>> {
        let same = digests.iter().filter(|d| d.name() == name.name());
        let mut all: Vec<Option<Digest>> = same.map(|d| d.digest).collect();
        if all.is_empty() {
            all.push(None);
        } else if !filter.digests {
            all.truncate(1);
        }
        all
    };
    for (name, one_of_many) in tags.iter().filter(|(name, _)| asked_for(name)) {
        rows.extend(of(name).into_iter().map(|digest| Row {
            name: Some(name.clone()),
            digest,
            one_of_many: *one_of_many,
            ..row.clone()
        }));
    }
    let mut before: Option<String> = None;
    for name in digests.iter().filter(|name| asked_for(name)) {
        let repository = name.name();
        let tagged = tags.iter().any(|(tag, _)| tag.name() == repository);
        let again = before.as_ref() == Some(&repository) && !filter.digests;
        if !tagged && !again {
            rows.push(Row {
                digest: name.digest,
                name: Some(Reference {
                    digest: None,
                    ..name.clone()
                }),
                ..row.clone()
            });
        }
        before = Some(repository);
    }
}

/// By several threads if there are many: reading a thousand records is a thousand times the same wait for the kernel.
pub(crate) fn summaries(store: &Store, ids: &[ImageId]) -> Vec<(ImageId, Result<Summary>)> {
    const WORTH_A_THREAD: usize = 100;
    let threads = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(8);
    let share = ids.len().div_ceil(threads).max(WORTH_A_THREAD);
    let read = |ids: &[ImageId]| ids.iter().map(|id| (*id, store.image_part(id))).collect::<Vec<_>>();
    let (first, rest) = ids.split_at(share.min(ids.len()));
    std::thread::scope(|scope| {
        let others: Vec<_> = rest.chunks(share).map(|ids| scope.spawn(|| read(ids))).collect();
        let mut all = read(first);
        for other in others {
            all.extend(other.join().unwrap_or_default());
        }
        all
    })
}

fn row(id: ImageId, summary: Result<Summary>) -> Row {
    let nameless = Row {
        name: None,
        digest: None,
        id,
        created: None,
        size: 0,
        labels: BTreeMap::new(),
        platform: String::new(),
        one_of_many: false,
        damage: None,
    };
    match summary {
        Ok(summary) => Row {
            created: Some(summary.created()),
            size: summary.size,
            platform: summary.platform(),
            labels: summary.config.config.labels,
            ..nameless
        },
        Err(e) => Row {
            damage: Some(e.to_string()),
            ..nameless
        },
    }
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    }
}

/// A pattern may be of the name, or of name and tag.
fn matches_any(patterns: &[String], name: &Reference) -> bool {
    let (short, long) = (name.familiar_name(), name.name());
    let tag = match (&name.tag, &name.digest) {
        (Some(tag), _) => format!(":{tag}"),
        (None, Some(digest)) => format!("@{digest}"),
        (None, None) => String::new(),
    };
    let full = [format!("{short}{tag}"), format!("{long}{tag}")];
    let texts = [&short, &long, &full[0], &full[1]];
    patterns
        .iter()
        .any(|pattern| texts.iter().any(|text| glob(pattern.as_bytes(), text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str], intermediate: bool, filter: &Filter) -> Vec<String> {
        let row = row(ImageId(Digest::of(b"")), Err(crate::error::Error::other("none")));
        let parsed = names.iter().map(|n| Reference::parse(n).unwrap());
        let (digests, tags): (Vec<_>, Vec<_>) = parsed.partition(|n| n.digest.is_some());
        let names = Names {
            tags: tags.into_iter().map(|n| (n, false)).collect(),
            digests,
        };
        let mut rows = Vec::new();
        named_rows(row, &names, intermediate, filter, &mut rows);
        rows.into_iter()
            .map(|r| {
                let name = r.name.map_or("<none>".to_owned(), |n| n.to_string());
                format!(
                    "{name} {}",
                    r.digest.map_or("-".to_owned(), |d| d.hex()[..2].to_owned())
                )
            })
            .collect()
    }

    #[test]
    fn rows_of_an_image() {
        let (one, two) = (format!("a@{}", Digest::of(b"1")), format!("a@{}", Digest::of(b"2")));
        let (usual, all) = (
            Filter::default(),
            Filter {
                all: true,
                ..Filter::default()
            },
        );
        let digests = Filter {
            digests: true,
            ..Filter::default()
        };
        let dangling = |yes| Filter {
            dangling: Some(yes),
            ..Filter::default()
        };
        let like = |pattern: &str| Filter {
            patterns: vec![pattern.to_owned()],
            ..Filter::default()
        };
        for (names, intermediate, filter, rows) in [
            (&["a:1", "b:2"][..], false, &usual, &["a:1 -", "b:2 -"][..]),
            (&["a:1", &one, &two], false, &usual, &["a:1 6b"]),
            (&["a:1", &one, &two], false, &digests, &["a:1 6b", "a:1 d4"]),
            (&[&one, &two], false, &usual, &["a 6b"]),
            (&[&one, &two], false, &digests, &["a 6b", "a d4"]),
            (&["b:1", &one], false, &usual, &["b:1 -", "a 6b"]),
            (&[], false, &usual, &["<none> -"]),
            (&[], true, &usual, &[]),
            (&[], true, &all, &["<none> -"]),
            (&[], true, &dangling(true), &[]),
            (&[], false, &dangling(true), &["<none> -"]),
            (&[], false, &dangling(false), &[]),
            (&["a:1"], false, &dangling(true), &[]),
            (&[&one], false, &dangling(true), &["a 6b"]),
            (&["a:1"], true, &usual, &["a:1 -"]),
            (&[], false, &like("*"), &[]),
            (&["a:1", "b:1"], false, &like("b"), &["b:1 -"]),
            (&["a:1", "a:2"], false, &like("*:2"), &["a:2 -"]),
            (&[&one], false, &like("a@*"), &["a 6b"]),
        ] {
            assert_eq!(shown(names, intermediate, filter), rows, "{names:?} {filter:?}");
        }
    }
}
