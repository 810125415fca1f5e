//! `events`: what happened, and what happens from now on.

use crate::container::reconcile;
use crate::error::{Context as _, Error, Result};
use crate::model::event::{Event, EventKind};
use crate::model::filter::split;
use crate::model::time::Timestamp;
use crate::store::{EventTail, Store, events};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd as _;
use std::time::Duration;

/// How soon a follower looks again at a change that is being made, and how late.
const RETRY: Duration = Duration::from_millis(25);
const SLOWEST: Duration = Duration::from_secs(1);

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Of the past; nothing of it without.
    pub(crate) since: Option<Timestamp>,
    /// Ends there.
    pub(crate) until: Option<Timestamp>,
    /// Goes on with what happens.
    pub(crate) follow: bool,
    pub(crate) filters: Filters,
}

/// `--filter`: of the values under one key one must match, and every key must; of labels, all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Vec<(String, Vec<String>)>);

const KEYS: [&str; 10] = [
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "scope",
    "secret",
    "type",
    "volume",
];

impl Filters {
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Filters> {
        let mut filters = Filters::default();
        for word in words {
            let (key, value) = split(word, &KEYS)?;
            let value = value.to_owned();
            if key == "type" && !EventKind::ALL.iter().any(|k| k.as_str() == value) {
                let all = EventKind::ALL.map(EventKind::as_str).join(", ");
                return Err(
                    Error::usage(format!("invalid filter 'type={value}'")).with_hint(format!("there are {all}"))
                );
            }
            match filters.0.iter_mut().find(|(k, _)| *k == key) {
                Some((_, values)) => values.push(value),
                None => filters.0.push((key, vec![value])),
            }
        }
        Ok(filters)
    }

    pub(crate) fn pass(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, values)| match key.as_str() {
            "label" => values.iter().all(|value| has_label(event, value)),
            key => values.iter().any(|value| matches(event, key, value)),
        })
    }
}

fn has_label(event: &Event, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => event.attributes.get(name).is_some_and(|v| v == value),
        None => event.attributes.contains_key(wanted),
    }
}

fn matches(event: &Event, key: &str, value: &str) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
    let named = |kind| {
        event.kind == kind && (!value.is_empty() && event.actor.starts_with(value) || attribute("name") == Some(value))
    };
    match key {
        // `exec_create` means all of `exec_create: sh`, and `health_status` all of `health_status: healthy`.
        "event" => event.action == value || event.action.split_once(": ").is_some_and(|(first, _)| first == value),
        "type" => event.kind.as_str() == value,
        "container" => named(EventKind::Container),
        "network" => named(EventKind::Network),
        "volume" => named(EventKind::Volume),
        "secret" => named(EventKind::Secret),
        "daemon" => named(EventKind::Daemon),
        "scope" => value == "local",
        "image" => {
            let without_tag = |name: &str| match name.rsplit_once(':') {
                Some((name, tag)) if !tag.contains('/') => name.to_owned(),
                _ => name.to_owned(),
            };
            let is = |name: &str| name == value || without_tag(name) == value;
            match event.kind {
                EventKind::Image => {
                    let id = event.actor.strip_prefix("sha256:").unwrap_or(&event.actor);
                    let prefix = value.strip_prefix("sha256:").unwrap_or(value);
                    is(&event.actor)
                        || (prefix.len() >= 4 && id.starts_with(prefix))
                        || attribute("name").is_some_and(is)
                }
                EventKind::Container => attribute("image").is_some_and(is),
                _ => false,
            }
        }
        _ => false,
    }
}

/// Hands on each event that is wanted; an error of `take` ends it.
pub(crate) fn events(store: &Store, options: &Options, take: &mut dyn FnMut(&Event) -> Result<()>) -> Result<()> {
    reconcile::reconcile(store);
    // Before anything is read, so that nothing that comes later goes unnoticed.
    let watch = options.follow.then(|| watch(store)).transpose()?;
    let from_start = options.since.is_some() || !options.follow;
    let mut tail = if from_start {
        EventTail::new(store)
    } else {
        EventTail::at_end(store)
    };
    let mut retry = RETRY;
    loop {
        let busy = options.follow && store.settle_intents();
        let over = options.until.is_some_and(|until| until <= Timestamp::now());
        let mut failed = None;
        tail.read(store, &mut |line| {
            if failed.is_some()
                || options
                    .since
                    .is_some_and(|since| events::time_of(line).is_some_and(|t| t < since))
            {
                return;
            }
            let Some(event) = events::parse(line) else { return };
            let in_span = options.since.is_none_or(|since| event.time >= since)
                && options.until.is_none_or(|until| event.time < until);
            if in_span && options.filters.pass(&event) {
                failed = take(&event).err();
            }
        });
        if let Some(e) = failed {
            return Err(e);
        }
        match &watch {
            Some(watch) if !over => {
                // The kernel tells of a dead process's file a moment before it lets go of its lock.
                retry = if busy { (retry * 2).min(SLOWEST) } else { RETRY };
                wait(watch, options.until, busy.then_some(retry))?;
            }
            _ => return Ok(()),
        }
    }
}

fn watch(store: &Store) -> Result<Inotify> {
    let dir = store.make_events_dir()?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("watch the event log")?;
    let changes = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(&dir, changes).context("watch the event log")?;
    // Closed by whoever has made a change, or by the kernel if that process was killed.
    let intents = store.make_intents_dir()?;
    inotify
        .add_watch(&intents, AddWatchFlags::IN_CLOSE_WRITE)
        .context("watch the event log")?;
    Ok(inotify)
}

/// Returns when something was written, at `until`, or when it is time to look again.
fn wait(inotify: &Inotify, until: Option<Timestamp>, retry: Option<Duration>) -> Result<()> {
    let left = until.map(|u| Duration::try_from(u.duration_since(Timestamp::now())).unwrap_or_default());
    let left = left.into_iter().chain(retry).min();
    let timespec = left.and_then(|l| Timespec::try_from(l).ok());
    let mut fds = [PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN)];
    match poll(&mut fds, timespec.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(e).context("wait for events"),
    }
    // What they say does not matter: the log is looked at in any case.
    loop {
        match inotify.read_events() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(e) => return Err(e).context("wait for events"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let event = Event::new(EventKind::Container, "exec_start: sh -c x", "ab".repeat(32))
            .with("name", "web")
            .with("image", "debian:12")
            .with("tier", "1");
        for (words, passes) in [
            (&["container=web"][..], true),
            (&["container=abab"], true),
            (&["container=we"], false),
            (&["container=db", "container=web"], true),
            (&["event=exec_start"], true),
            (&["event=exec"], false),
            (&["event=start"], false),
            (&["image=debian"], true),
            (&["image=debian:12", "type=container"], true),
            (&["image=debian:11"], false),
            (&["label=tier"], true),
            (&["label=tier=1", "label=other"], false),
            (&["type=image"], false),
            (&["volume=web"], false),
            (&["scope=local"], true),
        ] {
            assert_eq!(
                Filters::parse(words.iter().copied()).unwrap().pass(&event),
                passes,
                "{words:?}"
            );
        }
        for bad in ["x=y", "container", "type=frog"] {
            assert!(Filters::parse([bad]).is_err(), "{bad}");
        }
    }
}
