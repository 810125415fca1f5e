//! `ps --filter`: which containers are wanted, in docker's keys.

use crate::container::list::{Entry, entry};
use crate::error::{Error, Result};
use crate::image;
use crate::model::container::NetworkMode;
use crate::model::id::{ChainId, ImageId};
use crate::model::mount::Source;
use crate::model::port::PortNumber;
use crate::model::state::Status;
use crate::model::time::Timestamp;
use crate::store::Store;
use std::path::Path;

/// `--filter`: of the values under one key one must match, and every key must; of labels, all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Vec<(String, Vec<Filter>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Id(String),
    Name(String),
    Label(String, Option<String>),
    Exited(u8),
    State(String),
    Ancestor(String),
    Before(String),
    Since(String),
    Volume(String),
    Network(String),
    /// Matches a container that publishes its port.
    Publish(PortNumber),
    /// Matches a container that documents the port.
    Expose(String),
    /// What its check says; `none` if it has none.
    Health(String),
    /// Nothing is a task.
    Constant(bool),
}

impl Filters {
    /// From the `KEY=VALUE` words of the command line.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut filters: Vec<(String, Vec<Filter>)> = Vec::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| Error::usage(format!("invalid filter '{word}': want KEY=VALUE")))?;
            let (key, value) = (key.trim().to_lowercase(), value.trim());
            let filter = Filter::parse(&key, value)?;
            match filters.iter_mut().find(|(k, _)| *k == key && key != "label") {
                Some((_, same)) => same.push(filter),
                None => filters.push((key, vec![filter])),
            }
        }
        Ok(Filters(filters))
    }

    /// Whether they ask for containers that don't run.
    pub(super) fn ask_for_all(&self) -> bool {
        self.0
            .iter()
            .any(|(key, _)| matches!(key.as_str(), "status" | "exited"))
    }

    /// Looks up what the words name.
    pub(super) fn resolve(&self, store: &Store) -> Result<Tests> {
        let any = |filters: &Vec<Filter>| filters.iter().map(|filter| Test::of(store, filter)).collect();
        Ok(Tests(
            self.0.iter().map(|(_, filters)| any(filters)).collect::<Result<_>>()?,
        ))
    }
}

/// [`Filters`], looked up.
pub(super) struct Tests(Vec<Vec<Test>>);

impl Tests {
    pub(super) fn pass(&self, entry: &Entry) -> bool {
        self.0.iter().all(|any| any.iter().any(|test| test.matches(entry)))
    }
}

impl Filter {
    fn parse(key: &str, value: &str) -> Result<Self> {
        let bad = || Error::other(format!("invalid filter '{key}={value}'"));
        let text = value.to_owned();
        Ok(match key {
            "id" => Filter::Id(text),
            "name" => Filter::Name(text),
            "label" => match value.split_once('=') {
                Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
                None => Filter::Label(text, None),
            },
            "exited" => Filter::Exited(value.parse().map_err(|_| bad())?),
            "status" => match value {
                "created" | "restarting" | "running" | "removing" | "paused" | "exited" | "dead" => Filter::State(text),
                _ => return Err(bad()),
            },
            "ancestor" => Filter::Ancestor(text),
            "before" => Filter::Before(text),
            "since" => Filter::Since(text),
            "volume" => Filter::Volume(text),
            "network" => Filter::Network(text),
            "publish" => Filter::Publish(value.parse().map_err(|_| bad())?),
            "expose" => Filter::Expose(text),
            "health" => match value {
                "none" | "starting" | "healthy" | "unhealthy" => Filter::Health(text),
                _ => return Err(bad()),
            },
            "is-task" => match value {
                "true" | "1" => Filter::Constant(false),
                "false" | "0" => Filter::Constant(true),
                _ => return Err(bad()),
            },
            _ => return Err(bad()),
        })
    }
}

/// A filter whose words have been looked up.
enum Test {
    /// Images with these layers at the bottom, or this id.
    Ancestor(Option<(ImageId, Vec<ChainId>)>),
    Before(Timestamp),
    Since(Timestamp),
    As(Filter),
}

impl Test {
    fn of(store: &Store, filter: &Filter) -> Result<Test> {
        let created = |what: &str| {
            let id = store.resolve_container(what)?;
            let gone = || Error::not_found(format!("No such container: {what}"));
            Ok::<_, Error>(entry(store, id).ok_or_else(gone)?.created)
        };
        Ok(match filter {
            Filter::Ancestor(image) => Test::Ancestor(
                image::resolve(store, image)
                    .ok()
                    .map(|record| (record.id, record.layers)),
            ),
            Filter::Before(what) => Test::Before(created(what)?),
            Filter::Since(what) => Test::Since(created(what)?),
            other => Test::As(other.clone()),
        })
    }

    fn matches(&self, entry: &Entry) -> bool {
        let filter = match self {
            Test::Before(time) => return entry.created < *time,
            Test::Since(time) => return entry.created > *time,
            Test::Ancestor(None) => return false,
            Test::Ancestor(Some((id, layers))) => {
                return entry.summary.as_ref().is_some_and(|summary| {
                    let of_image = summary.image.layers.len().saturating_sub(summary.image.committed);
                    summary.image.id == *id
                        || (!layers.is_empty() && summary.image.layers[..of_image].starts_with(layers))
                });
            }
            Test::As(filter) => filter,
        };
        match (filter, &entry.summary) {
            (Filter::Id(prefix), _) => entry.id.as_str().starts_with(prefix.as_str()),
            (Filter::State(state), _) => entry.state() == state,
            (Filter::Exited(code), _) => {
                matches!(&entry.status, Status::Exited(exit) if exit.code == *code && entry.state() == "exited")
            }
            (Filter::Constant(always), _) => *always,
            (Filter::Health(wanted), _) => {
                let health = match &entry.status {
                    Status::Running(live) => live.health,
                    _ => None,
                };
                health.map_or("none", crate::model::health::HealthStatus::as_str) == wanted
            }
            (Filter::Publish(number), _) => super::port::published(&entry.status)
                .iter()
                .any(|p| p.number() == *number),
            (_, None) => false,
            (Filter::Name(pattern), Some(summary)) => name_matches(pattern, &summary.name),
            (Filter::Label(key, value), Some(summary)) => summary
                .labels
                .get(key)
                .is_some_and(|found| value.as_ref().is_none_or(|wanted| wanted == found)),
            (Filter::Volume(wanted), Some(summary)) => summary.mounts.iter().any(|mount| {
                let is_source = match &mount.source {
                    Source::Volume { name, .. } => name == wanted,
                    Source::Bind { path, .. } => path == Path::new(wanted),
                    Source::Tmpfs { .. } => false,
                };
                is_source || mount.target == Path::new(wanted)
            }),
            (Filter::Network(wanted), Some(summary)) => match &summary.network {
                NetworkMode::None => wanted == "none",
                NetworkMode::Host => wanted == "host",
                NetworkMode::Container(_) | NetworkMode::Ns(_) => false,
                NetworkMode::Networks(attachments) => attachments.iter().any(|a| a.network == *wanted),
            },
            (Filter::Expose(port), Some(summary)) => {
                summary.expose.contains(port) || summary.expose.contains(&format!("{port}/tcp"))
            }
            (Filter::Ancestor(_) | Filter::Before(_) | Filter::Since(_), Some(_)) => false,
        }
    }
}

/// Docker's patterns are regular expressions, on the name with or without its slash; of these the ones people use:
/// a part of the name, `^` at its start, `$` at its end.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (at_start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |p| (true, p));
    let (at_end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |p| (true, p));
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    match (at_start, at_end) {
        (true, true) => name == pattern,
        (true, false) => name.starts_with(pattern),
        (false, true) => name.ends_with(pattern),
        (false, false) => name.contains(pattern),
    }
}
