//! The one description of the interface: parser, help, manual pages and completion are made from it. A command is
//! built only when it is asked for, so that starting costs the same however many there are.

use crate::cli::argument;
use crate::cli::command::COMMANDS;
use crate::cli::session::Session;
use crate::error::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::fmt::Write as _;

/// A command or a noun.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Command lines with what they do.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    pub(crate) body: Body,
    /// The command of the top level that this is another name of (`container ls` of `ps`).
    pub(crate) also: Option<&'static str>,
}

pub(crate) enum Body {
    Command {
        /// Adds the arguments.
        define: fn(Command) -> Command,
        run: fn(&ArgMatches, &mut Session) -> Result<u8>,
        codes: Codes,
    },
    /// `container`, `image`, `volume`: only a place for commands.
    Noun(&'static [Spec]),
}

/// What an error makes of the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codes {
    /// 1, and 125 for a bad command line.
    Plain,
    /// The program's own code is passed on: the engine's failures are 125, 126 and 127.
    Program,
    /// As `Plain`, and not listed: made for packagers.
    Hidden,
}

impl Body {
    /// A command whose failures are 1, or 125.
    pub(crate) const fn plain(
        define: fn(Command) -> Command,
        run: fn(&ArgMatches, &mut Session) -> Result<u8>,
    ) -> Body {
        Body::Command {
            define,
            run,
            codes: Codes::Plain,
        }
    }
}

impl Spec {
    /// The same command under a noun.
    pub(crate) const fn under_noun(self, name: &'static str) -> Spec {
        Spec {
            name,
            also: Some(self.name),
            ..self
        }
    }

    pub(crate) fn is_noun(&self) -> bool {
        matches!(self.body, Body::Noun(_))
    }

    fn is_hidden(&self) -> bool {
        matches!(
            self.body,
            Body::Command {
                codes: Codes::Hidden,
                ..
            }
        )
    }

    /// The parser of this command alone.
    fn parser(&self, path: &[&str]) -> Command {
        let command = Command::new(self.name)
            .about(self.about)
            .bin_name(format!("barge {}", path.join(" ")))
            .display_name(format!("barge-{}", path.join("-")))
            .disable_help_flag(true)
            .disable_help_subcommand(true)
            .disable_version_flag(true)
            .args_override_self(true)
            .hide(self.is_hidden())
            .after_help(examples_text(self.examples));
        let command = match self.body {
            Body::Command { define, .. } => define(command),
            Body::Noun(_) => command.subcommand_required(true).subcommand_value_name("COMMAND"),
        };
        with_help(command)
    }

    /// The whole tree from here down, as people are shown it.
    fn display(&'static self, path: &[&str]) -> Command {
        let mut command = for_people(self.parser(path));
        if let Body::Noun(children) = self.body {
            for child in children {
                command = command.subcommand(child.display(&[path, &[child.name]].concat()));
            }
        }
        command
    }
}

fn with_help(command: Command) -> Command {
    let help = Arg::new("help")
        .long("help")
        .help("Show this help")
        .action(ArgAction::Help);
    let taken = command.get_arguments().any(|a| a.get_short() == Some('h'));
    command.arg(if taken { help } else { help.short('h') })
}

fn examples_text(examples: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (line, what) in examples {
        let _ = write!(
            text,
            "{}  {line}\n      {what}",
            if text.is_empty() { "Examples:\n" } else { "\n" }
        );
    }
    text
}

/// Where to begin.
pub(crate) const EXAMPLES: &[(&str, &str)] = &[
    ("barge run hello", "a first container; it tells what to try next"),
    ("barge help run", "what a command takes"),
];

/// The top level: global options; the command's name and its words are what is left.
fn root() -> Command {
    let command = Command::new("barge")
        .about("Runs containers on Linux without a daemon.")
        .bin_name("barge")
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(clap::value_parser!(std::ffi::OsString))
        .subcommand_value_name("COMMAND")
        .after_help(examples_text(EXAMPLES))
        .arg(
            argument::value("bridge", "BRIDGE", "Use this existing bridge instead of the engine's own, or none")
                .short('b')
                .long_help("The bridge of containers that ask for no network: an existing one instead of the engine's own, or `none` for no network. BARGE_BRIDGE says the same."),
        )
        .arg(argument::flag("debug", "Say more: `info` does").short('D'))
        .arg(
            argument::list("dns", "ADDRESS", "Name server of new containers instead of the host's")
                .long_help("Name server of new containers that ask for none, instead of the host's. BARGE_DNS says the same, with commas between several."),
        )
        .arg(
            argument::list("dns-option", "OPTION", "Resolver option of new containers that have none of their own")
                .alias("dns-opt"),
        )
        .arg(argument::list("dns-search", "DOMAIN", "Search domain of new containers that have none of their own"))
        .arg(
            argument::bytes("root", "DIR", "Where images, containers and volumes are kept [default: /var/lib/barge]")
                .short('g')
                .long_help("Where images, containers and volumes are kept. BARGE_ROOT says the same; the default is /var/lib/barge."),
        )
        .arg(
            argument::bytes("run-root", "DIR", "What lives until the next boot is kept here [default: /run/barge]")
                .long_help("What lives until the next boot is kept here. BARGE_RUN_ROOT says the same; the default is /run/barge."),
        )
        .arg(
            argument::value("storage-driver", "DRIVER", "What new containers' files are made with: overlay, aufs or copy")
                .short('s')
                .long_help("What the files of containers are made with, from the root's first container on: overlay (also overlay2), aufs where the kernel has it, or copy (also vfs), a full copy of the image for each container, which needs nothing of kernel and filesystem. By default the first of them that works. Another one than the root has is an error."),
        )
        .arg(Arg::new("version").long("version").short('v').help("Show the version").action(ArgAction::SetTrue));
    with_help(command)
}

/// The spec at `path`, if there is one.
pub(crate) fn find(path: &[&str]) -> Option<&'static Spec> {
    let (name, above) = path.split_last()?;
    level(above).iter().find(|s| s.name == *name)
}

/// The commands below `path`; of the top level if it is empty.
pub(crate) fn level(path: &[&str]) -> &'static [Spec] {
    match (path, find(path).map(|s| &s.body)) {
        ([], _) => COMMANDS,
        (_, Some(Body::Noun(children))) => children,
        _ => &[],
    }
}

/// The parser of one command; of the top level if `path` is empty.
pub(crate) fn parser(path: &[&str]) -> Option<Command> {
    match path {
        [] => Some(root()),
        _ => find(path).map(|s| s.parser(path)),
    }
}

/// One command as people are shown it, with what is below it.
pub(crate) fn displayed(path: &[&str]) -> Option<Command> {
    match path {
        [] => {
            let mut command = for_people(root().allow_external_subcommands(false));
            for spec in COMMANDS {
                command = command.subcommand(spec.display(&[spec.name]));
            }
            Some(command)
        }
        _ => find(path).map(|s| s.display(path)),
    }
}

/// Every command and noun that is listed, and the top level.
pub(crate) fn paths() -> Vec<Vec<&'static str>> {
    fn walk(level: &'static [Spec], above: &[&'static str], out: &mut Vec<Vec<&'static str>>) {
        for spec in level.iter().filter(|s| !s.is_hidden()) {
            let path = [above, &[spec.name]].concat();
            out.push(path.clone());
            if let Body::Noun(children) = spec.body {
                walk(children, &path, out);
            }
        }
    }
    let mut out = vec![vec![]];
    walk(COMMANDS, &[], &mut out);
    out
}

/// Booleans without `[=<name>]`: that they take `=false` is said once, not at each of them.
fn for_people(command: Command) -> Command {
    command.mut_args(|arg| match argument::is_switch(&arg) {
        true => arg.require_equals(false).num_args(0).action(ArgAction::SetTrue),
        false => arg,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_well_formed() {
        displayed(&[]).unwrap().debug_assert();
        for path in paths() {
            parser(&path).unwrap().debug_assert();
        }
    }

    #[test]
    fn every_command_has_an_example_that_names_it() {
        for path in paths().into_iter().filter(|p| !p.is_empty()) {
            let spec = find(&path).unwrap();
            assert!(!spec.about.is_empty() && !spec.about.ends_with('.'), "{path:?}");
            if matches!(spec.body, Body::Command { .. }) {
                let start = format!("barge {}", spec.also.map_or_else(|| path.join(" "), str::to_owned));
                assert!(spec.examples.iter().all(|(line, _)| line.contains(&start)), "{path:?}");
                assert!(!spec.examples.is_empty(), "{path:?}");
            }
        }
    }
}
