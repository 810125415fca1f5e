//! `cp`: copies files into containers and out of them.

use crate::cli::argument::{Values, flag};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::copy::{End, Wish, copy};
use crate::error::{Error, Result};
use crate::output::units::size;
use crate::store::Store;
use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use rustix::event::{PollFd, PollFlags, poll};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

pub(super) const SPEC: Spec = Spec {
    name: "cp",
    about: "Copy files between a container and the host, or between containers",
    examples: &[
        (
            "barge cp web:/etc/nginx .",
            "a directory, out of a container that may run or not",
        ),
        ("barge cp site/. web:/srv/www", "what is in a directory, into another"),
        ("barge cp app.conf web:/etc/app.conf", "one file, under this name"),
        ("tar c site | barge cp - web:/srv", "a tar, unpacked where it says"),
        ("barge cp web:/var/log - | tar tv", "and written"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    let end = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .value_name(name)
            .help(help)
            .required(true)
            .allow_hyphen_values(false)
            .value_hint(ValueHint::AnyPath)
            .value_parser(value_parser!(OsString))
    };
    command
        .arg(
            flag("archive", "Keep the owners; else root owns what is copied")
                .short('a')
                .long_help("Keep the owners by their numbers. Without it root owns what is copied, in the container or on the host; a tar's owners are kept in any case."),
        )
        .arg(
            flag("follow-link", "Of a link, copy what it leads to")
                .short('L')
                .long_help("If SOURCE is a symbolic link, copy what it leads to. Without it the link itself is copied. Links below SOURCE stay links."),
        )
        .arg(flag("quiet", "Say nothing about what was copied").short('q'))
        .arg(end("SOURCE", "CONTAINER:PATH, a path of the host, or - for a tar from standard input"))
        .arg(end("DESTINATION", "The same; - writes a tar to standard output"))
        .after_long_help(RULES)
}

const RULES: &str = "What becomes of what:
  a file, DESTINATION is not there          a file of that name; with a closing slash, an error
  a file, DESTINATION is a file             it is replaced
  a file, DESTINATION is a directory        a file in it
  a directory, DESTINATION is not there     it is made, with what is in SOURCE
  a directory, DESTINATION is a directory   a directory in it; SOURCE/. only what is in SOURCE
  a directory, DESTINATION is a file        an error
Relative paths of a container begin at its root. Volumes are copied as the container sees them.";

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let typed = |name| m.raw(name).unwrap_or_default();
    let (from, to) = (typed("SOURCE"), typed("DESTINATION"));
    if from.is_empty() || to.is_empty() {
        return Err(Error::usage("neither path of a copy can be empty"));
    }
    let sides = (Typed::of(from)?, Typed::of(to)?);
    match sides {
        (Typed::Host(_), Typed::Host(_)) => {
            return Err(Error::usage("must specify at least one container source").with_hint(
                "CONTAINER:PATH is a container's file; a file of the host with a colon in its name begins with ./",
            ));
        }
        (Typed::Stream, Typed::Stream) | (Typed::Host(_), Typed::Stream) | (Typed::Stream, Typed::Host(_)) => {
            return Err(Error::usage("one side must be a container's: CONTAINER:PATH"));
        }
        _ => {}
    }
    if matches!(sides.1, Typed::Stream) && session.console.is_terminal() {
        return Err(Error::other("cowardly refusing to copy a tar to a terminal").with_hint("redirect standard output"));
    }
    let store = session.store()?;
    let (from, to) = (sides.0.end(&store)?, sides.1.end(&store)?);
    let stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    if matches!(from, End::Stream) {
        if stdin.is_terminal() {
            return Err(Error::other("standard input is a terminal, and no tar"));
        }
        // A container is locked while it is written to: not before there is something to write.
        let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
    }
    let mut stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let wish = Wish {
        owners: m.on("archive"),
        follow: m.on("follow-link"),
    };
    let bytes = copy(&store, (&from, &to), wish, (&mut &stdin, &mut stdout))?;
    let quiet = m.switch("quiet").unwrap_or(!session.console.is_terminal());
    if !quiet {
        let to = typed("DESTINATION").to_string_lossy();
        session
            .console
            .note(&format!("Successfully copied {} to {to}", size(bytes)));
    }
    Ok(0)
}

/// One side as it was typed.
enum Typed<'a> {
    Host(&'a OsStr),
    Container(&'a str, &'a OsStr),
    Stream,
}

impl<'a> Typed<'a> {
    /// As docker reads it: what begins with `/` or `.` is the host's, whatever colons it has.
    fn of(text: &'a OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Ok(Typed::Stream);
        }
        let colon = bytes.iter().position(|b| *b == b':');
        let Some(at) = colon.filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b".")) else {
            return Ok(Typed::Host(text));
        };
        let (name, path) = (&bytes[..at], &bytes[at + 1..]);
        match std::str::from_utf8(name) {
            Ok(name) if !name.is_empty() && !path.is_empty() => Ok(Typed::Container(name, OsStr::from_bytes(path))),
            Ok(name) if !name.is_empty() => Err(Error::usage(format!("no path after {name}:"))),
            _ => Err(Error::usage(format!(
                "no container before the colon of {}",
                text.display()
            ))),
        }
    }

    fn end(&self, store: &Store) -> Result<End> {
        Ok(match self {
            Typed::Host(path) => End::Host(path.into()),
            Typed::Container(name, path) => End::Container(store.resolve_container(name)?, path.into()),
            Typed::Stream => End::Stream,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        let shown = |text: &str| match Typed::of(OsStr::new(text)) {
            Ok(Typed::Host(path)) => format!("host {}", path.display()),
            Ok(Typed::Container(name, path)) => format!("{name} {}", path.display()),
            Ok(Typed::Stream) => "stream".to_owned(),
            Err(e) => e.to_string(),
        };
        for (text, expected) in [
            ("-", "stream"),
            ("c:/a", "c /a"),
            ("c:a:b", "c a:b"),
            ("a", "host a"),
            ("./c:/a", "host ./c:/a"),
            ("/c:/a", "host /c:/a"),
            ("c:", "no path after c:"),
            (":/a", "no container before the colon of :/a"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }
}
