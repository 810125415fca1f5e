//! Events as `events` shows them, in docker's forms.

use crate::model::event::{Event, EventKind};
use crate::model::id::SHORT;
use crate::output::terminal::clean;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

/// `2026-11-22T05:00:00.000000000+00:00 container start 4f2a… (image=debian, name=web)`.
pub(crate) fn as_text(event: &Event, zone: &TimeZone, short: bool) -> String {
    let time = event.time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.9f%:z");
    let mut actor = event.actor.as_str();
    if short && matches!(event.kind, EventKind::Container | EventKind::Network) {
        actor = actor.get(..SHORT).unwrap_or(actor);
    }
    let mut line = format!(
        "{time} {} {} {}",
        event.kind.as_str(),
        clean(&event.action),
        clean(actor)
    );
    if !event.attributes.is_empty() {
        let all: Vec<String> = event
            .attributes
            .iter()
            .map(|(k, v)| format!("{}={}", clean(k), clean(v)))
            .collect();
        line.push_str(&format!(" ({})", all.join(", ")));
    }
    line
}

/// Docker's message; the first three are only of containers and images.
pub(crate) fn as_json(event: &Event) -> Value {
    let mut message = Map::new();
    for (name, value) in legacy(event) {
        message.insert(name.to_owned(), value.into());
    }
    message.insert("Type".to_owned(), event.kind.as_str().into());
    message.insert("Action".to_owned(), event.action.as_str().into());
    message.insert(
        "Actor".to_owned(),
        json!({"ID": event.actor, "Attributes": event.attributes}),
    );
    message.insert("scope".to_owned(), "local".into());
    message.insert("time".to_owned(), event.time.as_second().into());
    message.insert("timeNano".to_owned(), nanoseconds(event).into());
    Value::Object(message)
}

fn legacy(event: &Event) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    if matches!(event.kind, EventKind::Container | EventKind::Image) {
        fields.push(("status", event.action.clone()));
        fields.push(("id", event.actor.clone()));
    }
    if let (EventKind::Container, Some(image)) = (event.kind, event.attributes.get("image")) {
        fields.push(("from", image.clone()));
    }
    fields
}

fn nanoseconds(event: &Event) -> i64 {
    i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// For templates: Go's names of the same fields.
pub(crate) fn as_object(event: &Event) -> Value {
    let legacy = legacy(event);
    let of = |name: &str| legacy.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v);
    json!({
        "Status": of("status"),
        "ID": of("id"),
        "From": of("from"),
        "Type": event.kind.as_str(),
        "Action": event.action,
        "Actor": {"ID": event.actor, "Attributes": event.attributes},
        "Scope": "local",
        "Time": event.time.as_second(),
        "TimeNano": nanoseconds(event),
        // Podman's names.
        "Name": event.attributes.get("name").cloned().unwrap_or_default(),
        "Image": event.attributes.get("image").cloned().unwrap_or_default(),
        "Attributes": event.attributes,
    })
}
