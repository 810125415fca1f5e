//! Rows of `images`.

use crate::error::Result;
use crate::model::id::ImageId;
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::store::Store;
use std::collections::BTreeMap;

/// One name of an image, or an image without a name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// `None`: `<none>`.
    pub(crate) name: Option<Reference>,
    pub(crate) id: ImageId,
    /// As its configuration says, else when it came into this store; `None` if its record is damaged.
    pub(crate) created: Option<Timestamp>,
    pub(crate) size: u64,
    pub(crate) labels: BTreeMap<String, String>,
    /// Why the record can't be read.
    pub(crate) damage: Option<String>,
}

/// What to list. All of it has to hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// The argument, and `reference=`: shell patterns of which one has to match; `*` does not cross a `/` (F022).
    pub(crate) patterns: Vec<String>,
    pub(crate) dangling: Option<bool>,
    /// `KEY` or `KEY=VALUE`.
    pub(crate) labels: Vec<String>,
    /// Made before, and after, these images.
    pub(crate) before: Option<ImageId>,
    pub(crate) since: Option<ImageId>,
}

/// Newest first; the names of one image in order.
pub(crate) fn list(store: &Store, filter: &Filter) -> Result<Vec<Row>> {
    let mut names: BTreeMap<ImageId, Vec<Reference>> = BTreeMap::new();
    for (name, id) in store.readable_tags().iter() {
        names.entry(id).or_default().push(name);
    }
    let created = |id: Option<ImageId>| id.and_then(|id| store.image(&id).ok()).map(|r| created_of(&r));
    let (before, since) = (created(filter.before), created(filter.since));
    let mut rows = Vec::new();
    for id in store.image_ids()? {
        let row = row(store, id);
        let in_time = before.is_none_or(|b| row.created.is_some_and(|c| c < b))
            && since.is_none_or(|s| row.created.is_some_and(|c| c > s));
        if !in_time || !filter.labels.iter().all(|wanted| has_label(&row.labels, wanted)) {
            continue;
        }
        let names = names.remove(&id).unwrap_or_default();
        let shown = names
            .into_iter()
            .filter(|name| filter.patterns.is_empty() || matches_any(&filter.patterns, name));
        let before = rows.len();
        if filter.dangling != Some(true) {
            rows.extend(shown.map(|name| Row {
                name: Some(name),
                ..row.clone()
            }));
        } else if shown.count() > 0 {
            continue;
        }
        let nameless = rows.len() == before && filter.patterns.is_empty();
        if nameless && filter.dangling != Some(false) {
            rows.push(row);
        }
    }
    rows.sort_by(|a, b| (b.created, &a.name, a.id).cmp(&(a.created, &b.name, b.id)));
    Ok(rows)
}

fn row(store: &Store, id: ImageId) -> Row {
    match store.image(&id) {
        Ok(record) => Row {
            name: None,
            id,
            created: Some(created_of(&record)),
            size: record.size,
            labels: record.config.config.labels,
            damage: None,
        },
        Err(e) => Row {
            name: None,
            id,
            created: None,
            size: 0,
            labels: BTreeMap::new(),
            damage: Some(e.to_string()),
        },
    }
}

fn created_of(record: &crate::model::image::ImageRecord) -> Timestamp {
    record.config.created.unwrap_or(record.stored)
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
    let tag = name.tag.as_deref().unwrap_or_default();
    patterns.iter().any(|pattern| {
        let full = [format!("{short}:{tag}"), format!("{long}:{tag}")];
        [&short, &long, &full[0], &full[1]]
            .iter()
            .any(|text| glob(pattern.as_bytes(), text.as_bytes()))
    })
}

/// Go's `path.Match`: `*` and `?` don't match `/`; `[a-z]`, `[^a]`; `\` quotes. A pattern that is not well formed
/// matches nothing.
pub(crate) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => {
            let reach = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=reach).any(|n| glob(rest, &text[n..]))
        }
        [b'[', rest @ ..] => match text {
            [c, text @ ..] if *c != b'/' => class(rest, *c).is_some_and(|(hit, rest)| hit && glob(rest, text)),
            _ => false,
        },
        [b'?', rest @ ..] => matches!(text, [c, text @ ..] if *c != b'/' && glob(rest, text)),
        [b'\\', quoted, rest @ ..] => matches!(text, [c, text @ ..] if c == quoted && glob(rest, text)),
        [literal, rest @ ..] => matches!(text, [c, text @ ..] if c == literal && glob(rest, text)),
    }
}

/// After the `[`: whether `c` is in the class, and the pattern behind it.
fn class(pattern: &[u8], c: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let (mut hit, mut first) = (false, true);
    loop {
        match rest {
            [b']', after @ ..] if !first => return Some((hit != negated, after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                hit |= (*low..=*high).contains(&c);
                rest = after;
            }
            [one, after @ ..] => {
                hit |= *one == c;
                rest = after;
            }
            [] => return None,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, matches) in [
            ("utest*/*", "utest/docker", true),
            ("utest*/*", "utest:5000/docker", true),
            ("utest*", "utest/docker", false),
            ("utest*", "utest", true),
            ("deb?an", "debian", true),
            ("deb?an", "deb/an", false),
            ("[a-d]ebian", "debian", true),
            ("[^a-c]ebian", "debian", true),
            ("[^a-d]ebian", "debian", false),
            ("[debian", "debian", false),
            ("*:1*", "debian:12", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }
}
