//! `search`: looks for images at a registry.

use crate::cli::access;
use crate::cli::argument::{Values, flag, list, value, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::search::{COLUMNS, Shown, VIEW};
use crate::cli::view::{Look, show};
use crate::error::{Error, Result};
use crate::model::filter::{bad_value, boolean, split};
use crate::registry::search::{Hit, search};
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "search",
    about: "Look for images at Docker Hub, or at another registry",
    examples: &[
        ("barge search --filter stars=100 debian", "those that many like"),
        ("barge search registry.example.com/base", "at a registry"),
        (
            "barge search --limit 5 --format '{{.Name}}' web",
            "names only, five of them",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

const MOST: usize = 100;

fn define(command: Command) -> Command {
    access::define(command)
        .arg(
            list(
                "filter",
                "KEY=VALUE",
                "Only those that match: stars, is-official, is-automated",
            )
            .short('f'),
        )
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each, `table TEMPLATE`, or json",
        ))
        .arg(value("limit", "N", "At most so many, of 1 to 100 [default: 25]"))
        .arg(flag("no-trunc", "Do not shorten descriptions").alias("notrunc"))
        .arg(value("stars", "N", "As --filter stars=N").short('s').hide(true))
        .arg(
            flag("automated", "As --filter is-automated=true")
                .alias("trusted")
                .hide(true),
        )
        .arg(word("TERM", "What to look for; REGISTRY/TERM looks there"))
}

#[derive(Default)]
struct Filter {
    stars: u64,
    official: Option<bool>,
    automated: Option<bool>,
}

impl Filter {
    fn add(&mut self, word: &str) -> Result<()> {
        let (key, value) = split(word, &["is-automated", "is-official", "stars"])?;
        let boolean = || boolean(value).map_err(|wanted| bad_value(word, wanted));
        match key.as_str() {
            "stars" => self.stars = value.parse().map_err(|_| bad_value(word, "a number"))?,
            "is-official" => self.official = Some(boolean()?),
            _ => self.automated = Some(boolean()?),
        }
        Ok(())
    }

    fn takes(&self, hit: &Hit) -> bool {
        hit.stars >= self.stars
            && self.official.is_none_or(|o| o == hit.official)
            && self.automated.is_none_or(|a| a == hit.automated)
    }
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut filter = Filter::default();
    for word in m.texts("filter") {
        filter.add(word)?;
    }
    if let Some(stars) = m.text("stars") {
        filter.add(&format!("stars={stars}"))?;
    }
    if m.on("automated") {
        filter.automated = Some(true);
    }
    let limit = match m.text("limit") {
        None => 25,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=MOST).contains(n))
            .ok_or_else(|| Error::usage(format!("limit {text} is outside the range of [1, {MOST}]")))?,
    };
    let mut hits = search(m.text("TERM").unwrap_or_default(), limit, &access::of(m)?)?;
    hits.retain(|hit| filter.takes(hit));
    let look = Look::new(m.on("no-trunc"));
    let rows: Vec<_> = hits.iter().map(|hit| Shown { hit, look: &look }).collect();
    show(session, m, (&VIEW, &COLUMNS), &rows)?;
    Ok(0)
}
