//! What happened to containers, images, volumes and networks, in docker's words (docker events).

use crate::model::container::ContainerConfig;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One thing that happened. The short names are those of a line of the event log (`store/events.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "t", with = "nanoseconds")]
    pub(crate) time: Timestamp,
    #[serde(rename = "k")]
    pub(crate) kind: EventKind,
    /// `create`, `die`, `exec_start: sh -c true`, …
    #[serde(rename = "a")]
    pub(crate) action: String,
    /// Whole id of a container or network; id or reference of an image; name of a volume.
    #[serde(rename = "i")]
    pub(crate) actor: String,
    /// Of those that are announced before they happen (`store/intents.rs`): by it a doubled one is known.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(rename = "x", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
    Builder,
    Container,
    Daemon,
    Image,
    Network,
    Secret,
    Volume,
}

impl EventKind {
    pub(crate) const ALL: [EventKind; 7] = [
        EventKind::Builder,
        EventKind::Container,
        EventKind::Daemon,
        EventKind::Image,
        EventKind::Network,
        EventKind::Secret,
        EventKind::Volume,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EventKind::Builder => "builder",
            EventKind::Container => "container",
            EventKind::Daemon => "daemon",
            EventKind::Image => "image",
            EventKind::Network => "network",
            EventKind::Secret => "secret",
            EventKind::Volume => "volume",
        }
    }
}

impl Event {
    /// One that happens now.
    pub(crate) fn new(kind: EventKind, action: impl Into<String>, actor: impl ToString) -> Event {
        Event {
            time: Timestamp::now(),
            kind,
            action: action.into(),
            actor: actor.to_string(),
            id: None,
            attributes: BTreeMap::new(),
        }
    }

    /// About a container: with its image, name and labels, as docker has them.
    pub(crate) fn container(action: impl Into<String>, config: &ContainerConfig) -> Event {
        let mut event = Event::new(EventKind::Container, action, &config.id);
        event.attributes = config.labels.clone();
        event.with("image", &config.image.reference).with("name", &config.name)
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Event {
        self.attributes.insert(name.to_owned(), value.to_string());
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, time: Timestamp) -> Event {
        self.time = time;
        self
    }
}

/// Unix time in nanoseconds, as one number.
mod nanoseconds {
    use super::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        Timestamp::from_nanosecond(i64::deserialize(d)?.into()).map_err(D::Error::custom)
    }
}
