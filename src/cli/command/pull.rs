//! `pull`: fetches an image from a registry.

use super::login;
use crate::cli::access;
use crate::cli::argument::{Values, flag, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::{Error, Result};
use crate::image::progress::Event;
use crate::image::pull::{Options, pull};
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::output::progress::{self, To};
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "pull",
    about: "Fetch an image from a registry",
    examples: &[
        ("barge pull debian:12", "from Docker Hub"),
        (
            "barge pull --platform linux/arm64 registry.example.org/team/app",
            "for another machine",
        ),
        ("barge pull -a localhost:5000/app", "every tag there is"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    access::define(command)
        .arg(flag("all-tags", "Fetch every tag of the repository").short('a'))
        .arg(flag(
            "all-platforms",
            "Fetch the image for every platform it is there for",
        ))
        .arg(value("platform", "OS/ARCH", "For another machine than this"))
        .arg(flag("quiet", "Print only the image's id").short('q'))
        .arg(value("tag", "TAG", "The tag, as in 2013").short('t').hide(true))
        .arg(flag("disable-content-trust", "Taken for docker's sake").hide(true))
        .arg(
            Arg::new("NAME[:TAG|@DIGEST]")
                .help("What to fetch")
                .required(true)
                .num_args(1..),
        )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let quiet = m.on("quiet");
    let options = Options {
        platform: m.text("platform").map(Platform::parse).transpose()?,
        all_platforms: m.on("all-platforms"),
        all_tags: m.on("all-tags"),
        access: access::of(m)?,
    };
    if options.all_platforms && options.platform.is_some() {
        return Err(Error::usage("--platform and --all-platforms exclude each other"));
    }
    let store = session.store()?;
    let progress = progress::for_command(quiet, To::Stdout);
    let names: Vec<String> = m.texts("NAME[:TAG|@DIGEST]").map(|name| with_tag(name, m)).collect();
    let mut code = 0;
    for name in &names {
        if !options.all_tags && Reference::parse(name).is_ok_and(|r| r.tag.is_none() && r.digest.is_none()) {
            progress.event(Event::Line("Using default tag: latest"));
        }
        let pulled = match pull(&store, name, &options, &*progress) {
            Err(e) if login::offer(&e, name, &options.access, session)? => pull(&store, name, &options, &*progress),
            other => other,
        };
        match pulled {
            Ok(pulled) if quiet => pulled
                .iter()
                .try_for_each(|image| session.console.line(&image.id.to_string()))?,
            Ok(pulled) => pulled
                .iter()
                .for_each(|image| progress.event(Event::Line(&canonical(&image.name)))),
            Err(e) if names.len() == 1 => return Err(e),
            Err(e) => {
                session.console.error(&e);
                code = 1;
            }
        }
    }
    Ok(code)
}

/// `pull -t TAG NAME`.
fn with_tag(name: &str, m: &ArgMatches) -> String {
    match m.text("tag") {
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    }
}

/// In full, as docker says at the end.
fn canonical(name: &Reference) -> String {
    match (&name.tag, name.digest) {
        (_, Some(digest)) => format!("{}@{digest}", name.name()),
        (Some(tag), None) => format!("{}:{tag}", name.name()),
        (None, None) => name.name(),
    }
}
