//! `ps --filter`: which containers are wanted, in docker's keys.

use crate::container::list::{Entry, entry};
use crate::container::port;
use crate::error::{Error, Result};
use crate::image;
use crate::model::container::NetworkMode;
use crate::model::filter::{self, Label};
use crate::model::id::{ChainId, ImageId};
use crate::model::mount::Source;
use crate::model::port::{PortNumber, Publish, PublishedPort, parse_expose};
use crate::model::state::Status;
use crate::model::time::Timestamp;
use crate::store::Store;
use std::path::Path;

/// `--filter`, as typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(filter::Filters<Filter>);

const KEYS: [&str; 14] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network", "publish",
    "since", "status", "volume",
];

#[derive(Debug, Clone)]
enum Filter {
    Id(String),
    Name(filter::Name),
    Label(Label),
    Exited(u8),
    State(String),
    Ancestor(String),
    Before(String),
    Since(String),
    Volume(String),
    Network(String),
    /// Matches a container that publishes one of its ports, or would if it ran.
    Publish(Vec<PortNumber>),
    /// Matches a container that documents or publishes one of the ports.
    Expose(Vec<PortNumber>),
    /// What its check says; `none` if it has none.
    Health(String),
    /// Nothing is a task.
    Constant(bool),
}

impl Filters {
    /// From the `KEY=VALUE` words of the command line.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        filter::Filters::parse(words, &KEYS, Filter::parse).map(Filters)
    }

    /// Whether they ask for containers that don't run.
    pub(super) fn ask_for_all(&self) -> bool {
        self.0.ask_for(&["status", "exited"])
    }

    /// Looks up what the words name.
    pub(super) fn resolve(&self, store: &Store) -> Result<Tests> {
        self.0.try_map(|filter| Test::of(store, filter)).map(Tests)
    }
}

/// [`Filters`], looked up.
pub(super) struct Tests(filter::Filters<Test>);

impl Tests {
    pub(super) fn pass(&self, entry: &Entry) -> bool {
        self.0.pass(|test| test.matches(entry))
    }
}

impl Filter {
    fn parse(key: &str, value: &str) -> Result<Self, &'static str> {
        let one_of = |known: &[&str], wanted| match known.contains(&value) {
            true => Ok(value.to_owned()),
            false => Err(wanted),
        };
        let ports = || parse_expose(value).map_err(|_| "PORT[-PORT][/PROTOCOL]");
        let text = value.to_owned();
        Ok(match key {
            "id" => Filter::Id(text),
            "name" => Filter::Name(filter::Name::parse(value)?),
            "label" => Filter::Label(value.into()),
            "exited" => Filter::Exited(value.parse().map_err(|_| "an exit code")?),
            "status" => Filter::State(one_of(
                &[
                    "created",
                    "restarting",
                    "running",
                    "removing",
                    "paused",
                    "exited",
                    "dead",
                ],
                "created, restarting, running, removing, paused, exited or dead",
            )?),
            "ancestor" => Filter::Ancestor(text),
            "before" => Filter::Before(text),
            "since" => Filter::Since(text),
            "volume" => Filter::Volume(text),
            "network" => Filter::Network(text),
            "publish" => Filter::Publish(ports()?),
            "expose" => Filter::Expose(ports()?),
            "health" => Filter::Health(one_of(
                &["none", "starting", "healthy", "unhealthy"],
                "none, starting, healthy or unhealthy",
            )?),
            _ => Filter::Constant(!filter::boolean(value)?),
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
            // Containers know networks by name.
            Filter::Network(what) => {
                let name = store
                    .network(what)
                    .map_or_else(|_| what.clone(), |network| network.name);
                Test::As(Filter::Network(name))
            }
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
            (Filter::Publish(wanted), _) => publishes(entry, wanted),
            (_, None) => false,
            (Filter::Name(pattern), Some(summary)) => {
                // Docker's names begin with a slash, which a pattern may have or not.
                pattern.matches(&summary.name) || pattern.matches(&format!("/{}", summary.name))
            }
            (Filter::Label(label), Some(summary)) => label.is_in(&summary.labels),
            (Filter::Volume(wanted), Some(summary)) => summary.mounts.iter().any(|mount| {
                let is_source = match &mount.source {
                    Source::Volume { name, .. } => name == wanted,
                    Source::Bind { path, .. } => path == Path::new(wanted),
                    Source::Image { image, .. } => image.reference == *wanted,
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
            (Filter::Expose(wanted), Some(summary)) => {
                publishes(entry, wanted) || port::exposed(&summary.expose).iter().any(|port| wanted.contains(port))
            }
            (Filter::Ancestor(_) | Filter::Before(_) | Filter::Since(_), Some(_)) => false,
        }
    }
}

fn publishes(entry: &Entry, wanted: &[PortNumber]) -> bool {
    let asked_for = entry.summary.iter().flat_map(|summary| &summary.publish);
    let now = port::published(&entry.status);
    let mut all = asked_for
        .map(Publish::number)
        .chain(now.iter().map(PublishedPort::number));
    all.any(|port| wanted.contains(&port))
}
