//! `stats`: what containers use, once or again and again.

use crate::cli::argument::{Values, flag, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::stats::{COLUMNS, Shown, VIEW};
use crate::container::stats::{Reading, read, select};
use crate::error::Result;
use crate::model::id::ContainerId;
use crate::output::listing::{self, Style};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::io::Write as _;
use std::time::Duration;

/// Seconds between two readings: docker's.
const INTERVAL: u64 = 1;

pub(super) const SPEC: Spec = Spec {
    name: "stats",
    about: "Show what containers use: CPU, memory, network, disks, processes",
    examples: &[
        ("barge stats", "all that run, every second"),
        ("barge stats --no-stream web db", "these two, once"),
        (
            "barge stats -i 5 --no-reset > stats.log",
            "a record, every five seconds",
        ),
        (
            "barge stats --no-stream --format '{{.Name}} {{.MemUsage}}'",
            "only these fields",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(flag("all", "Show what does not run, too").short('a'))
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each, `table TEMPLATE`, or json",
        ))
        .arg(
            value(
                "interval",
                "SECONDS",
                "How long to wait between two readings, 1 by default",
            )
            .short('i')
            .value_parser(|text: &str| {
                let seconds = text.parse().ok().filter(|n: &u64| *n > 0);
                seconds.ok_or("want a number of seconds, 1 or more")
            }),
        )
        .arg(flag("no-reset", "Write each table below the one before"))
        .arg(flag("no-stream", "One reading: CPU is the average since the start"))
        .arg(flag("no-trunc", "Do not shorten ids"))
        .arg(
            Arg::new("CONTAINER")
                .help("Names or ids [default: all that run]")
                .num_args(0..)
                .action(ArgAction::Append),
        )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let typed = m
        .texts("CONTAINER")
        .map(|name| Ok((store.resolve_container(name)?, name)));
    let typed = typed.collect::<Result<Vec<(ContainerId, &str)>>>()?;
    let named: Vec<ContainerId> = typed.iter().map(|(id, _)| id.clone()).collect();
    let interval = Duration::from_secs(m.get_one::<u64>("interval").copied().unwrap_or(INTERVAL));
    let terminal = session.console.is_terminal();
    let style = Style {
        format: m.text("format"),
        quiet: false,
        columns: &COLUMNS,
        terminal,
    };
    let memory = machine_memory();
    let mut before: Vec<Reading> = Vec::new();
    loop {
        let chosen = select(&store, &named, m.on("all"))?;
        // Those that were asked for have been removed.
        if chosen.is_empty() && !named.is_empty() {
            return Ok(0);
        }
        let readings = read(&chosen)?;
        let rows: Vec<_> = readings
            .iter()
            .map(|reading| Shown {
                reading,
                before: before.iter().find(|b| b.id == reading.id),
                memory,
                typed: typed.iter().find(|(id, _)| *id == reading.id).map(|(_, typed)| *typed),
                short: !m.on("no-trunc"),
            })
            .collect();
        let mut page = Vec::new();
        listing::list(&VIEW, &rows, style, &mut page)?;
        if terminal && !m.on("no-stream") && !m.on("no-reset") {
            // From the upper left corner, over what was there: nothing flickers.
            session.console.out().write_all(b"\x1b[H\x1b[J")?;
        }
        session.console.out().write_all(&page)?;
        session.console.flush()?;
        if m.on("no-stream") {
            return Ok(0);
        }
        before = readings;
        std::thread::sleep(interval);
    }
}

fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| {
        l.strip_prefix("MemTotal:")?
            .split_ascii_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or(0) * 1024
}
