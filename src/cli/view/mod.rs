//! How objects look: the fields and headings of lists, and their texts, in docker's words.

mod advice;
pub(crate) mod container;
pub(crate) mod disk;
pub(crate) mod event;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod network;
pub(crate) mod search;
pub(crate) mod secret;
pub(crate) mod stats;
pub(crate) mod tree;
pub(crate) mod volume;

use crate::cli::argument::Values as _;
use crate::cli::session::Session;
use crate::error::Result;
use crate::model::time::Timestamp;
use crate::output::listing::{self, Fields, Style, View};
use crate::output::units;
use clap::ArgMatches;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::time::Duration;

/// Prints a list as `--format`, and `--quiet` where a command has that, say.
pub(crate) fn show<T: Fields>(
    session: &mut Session,
    m: &ArgMatches,
    (view, columns): (&View, &[&str]),
    rows: &[T],
) -> Result<()> {
    let quiet = m.try_get_one::<bool>("quiet").ok().flatten();
    let style = Style {
        format: m.text("format"),
        quiet: quiet.copied().unwrap_or(false),
        columns,
        terminal: session.console.is_terminal(),
    };
    listing::list(view, rows, style, session.console.out())
}

/// What texts depend on besides the object.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) now: Timestamp,
    pub(crate) zone: TimeZone,
    /// Not with `--no-trunc`.
    pub(crate) short: bool,
}

impl Look {
    pub(crate) fn new(no_trunc: bool) -> Self {
        Look {
            now: Timestamp::now(),
            zone: TimeZone::system(),
            short: !no_trunc,
        }
    }

    /// `3 minutes`. A clock that was set back makes it less than a second.
    fn since(&self, time: Timestamp) -> String {
        units::duration(Duration::try_from(self.now.duration_since(time)).unwrap_or_default())
    }

    /// `3 minutes ago`.
    fn ago(&self, time: Timestamp) -> String {
        format!("{} ago", self.since(time))
    }

    /// `2026-01-02 15:04:05 +0100 CET`.
    fn date(&self, time: Timestamp) -> String {
        time.to_zoned(self.zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %z %Z")
            .to_string()
    }

    /// `2026-01-02T15:04:05+01:00`.
    fn rfc3339(&self, time: Timestamp) -> String {
        match time.to_zoned(self.zone.clone()) {
            zoned if zoned.offset().is_zero() => zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            zoned => zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        }
    }

    fn cut(&self, text: String, longest: usize) -> String {
        if !self.short || text.chars().count() <= longest {
            return text;
        }
        text.chars().take(longest - 1).chain(['…']).collect()
    }
}

/// `2026-01-02 15:04:05.123456789 +0000 UTC`, as Go prints a time.
fn go_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

/// `key=value,key=value`.
fn labels(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}
