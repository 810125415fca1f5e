//! Manual pages from the tree: what clap_mangen makes of a command, and the sections that it does not know.

use crate::cli::argument::is_switch;
use crate::cli::tree::{self, Body, Codes, Spec};
use crate::cli::{VERSION, missing};
use clap::ArgAction;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// `barge-run.1` and its text, for every command; and what other engines have besides.
pub(crate) fn pages() -> Vec<(String, Vec<u8>)> {
    let missing = ("barge-missing.7".to_owned(), missing::page());
    let commands = tree::paths();
    let commands = commands.iter().filter_map(|path| page(path));
    commands.chain([missing]).collect()
}

fn page(path: &[&str]) -> Option<(String, Vec<u8>)> {
    if tree::find(path).is_some_and(|s| s.also.is_some()) {
        return None;
    }
    let name = std::iter::once("barge")
        .chain(path.iter().copied())
        .collect::<Vec<_>>()
        .join("-");
    // Examples have a section of their own here.
    let mut command = tree::displayed(path)?
        .after_help("")
        .name(name.clone())
        .display_name(name.clone());
    command.build();
    let man = Man::new(command.clone())
        .title(&name)
        .section("1")
        .source(format!("barge {VERSION}"))
        .manual("barge")
        .date("");
    let mut text = Vec::new();
    let written = man
        .render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| synopsis(&command).to_writer(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text));
    written.ok()?;
    let mut more = Roff::new();
    sections(&mut more, path, &command);
    more.to_writer(&mut text).ok()?;
    Some((format!("{name}.1"), text))
}

/// The usage line: the options have a section of their own.
fn synopsis(command: &clap::Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim_start().to_owned();
    let (name, rest) = usage.split_at(usage.find(" [").or_else(|| usage.find(" <")).unwrap_or(usage.len()));
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text([bold(name), roman(rest)]);
    roff
}

fn sections(roff: &mut Roff, path: &[&str], command: &clap::Command) {
    if command.has_subcommands() {
        roff.control("SH", ["COMMANDS"]);
        for sub in command.get_subcommands().filter(|s| !s.is_hide_set()) {
            let page = std::iter::once("barge")
                .chain(path.iter().copied())
                .chain([sub.get_name()])
                .collect::<Vec<_>>();
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            roff.control("TP", [])
                .text([bold(page.join("-")), roman("(1)")])
                .text([roman(about)]);
        }
    }
    let spec = tree::find(path);
    let examples = spec.map_or(tree::EXAMPLES, |s| s.examples);
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
    }
    for (line, what) in examples {
        roff.control("TP", []).text([bold(*line)]).text([roman(*what)]);
    }
    roff.control("SH", ["FLAGS"]).text([roman(FLAGS)]);
    roff.control("SH", ["EXIT STATUS"]);
    for (code, what) in exit_codes(spec) {
        roff.control("TP", []).text([bold(*code)]).text([roman(*what)]);
    }
    roff.control("SH", ["FILES"]);
    for (file, what) in FILES {
        roff.control("TP", []).text([bold(*file)]).text([roman(*what)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    let above = match path {
        [] => "",
        _ => "barge(1), ",
    };
    roff.text([roman(format!(
        "{above}barge.toml(5), barge-state(5), barge-docker(7), barge-podman(7), barge-2013(7)"
    ))]);
}

/// `/etc/barge/config.toml` with every key there is, none of them set.
pub(crate) fn settings() -> String {
    let mut text = String::from(SETTINGS_HEAD);
    for path in tree::paths() {
        let spec = tree::find(&path);
        let is_command = path.is_empty() || spec.is_some_and(|s| s.also.is_none() && !s.is_noun());
        let Some(command) = tree::parser(&path).filter(|_| is_command) else {
            continue;
        };
        let flags: Vec<_> = command
            .get_arguments()
            .filter(|a| a.get_long().is_some() && !a.is_hide_set())
            .filter(|a| !matches!(a.get_action(), ArgAction::Help | ArgAction::SetTrue))
            .collect();
        if flags.is_empty() {
            continue;
        }
        if !path.is_empty() {
            text.push_str(&format!("\n[{}]\n", path.join(".")));
        }
        for arg in flags {
            let name = arg.get_value_names().and_then(|names| names.first());
            let name = name.map_or("", |n| n.as_str()).replace('"', "'");
            let value = match arg.get_action() {
                _ if is_switch(arg) => "true".to_owned(),
                ArgAction::Append => format!("[\"{name}\"]"),
                _ => format!("\"{name}\""),
            };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!(
                "# {help}\n#{} = {value}\n",
                arg.get_long().unwrap_or_default()
            ));
        }
    }
    text
}

const SETTINGS_HEAD: &str = "# Settings of barge: see barge.toml(5). A table is a command, a key one of its long flags; the command line wins.
# Files in /etc/barge/config.d (*.toml, by name) win over this one. `barge info` tells what is in force, and from where.
# Other engines' files that count as well, below this one: docker (daemon.json, config.json), containers (containers.conf).
#read = [\"containers\", \"docker\"]

";

const FLAGS: &str = "A long flag may have one dash or two. A flag without a value takes =true or =false. Where a command \
    ends in a program and its arguments, flags end at the first word that is none.";

fn exit_codes(spec: Option<&Spec>) -> &'static [(&'static str, &'static str)] {
    match spec.map(|s| &s.body) {
        Some(Body::Command {
            codes: Codes::Program, ..
        }) => &[
            (
                "0 to 255",
                "The program's own exit status; 128 and the signal's number if a signal ended it.",
            ),
            ("125", "barge itself failed, or the command line is wrong."),
            ("126", "The program could not be executed."),
            ("127", "The program was not found."),
        ],
        _ => &[
            ("0", "It worked, for every argument."),
            ("1", "It failed, for at least one argument."),
            ("125", "The command line is wrong."),
        ],
    }
}

const FILES: &[(&str, &str)] = &[
    (
        "/etc/barge/config.toml, /etc/barge/config.d/*.toml",
        "The default of every flag (BARGE_CONFIG names another directory): barge.toml(5).",
    ),
    ("/var/lib/barge", "Images, containers and volumes (--root, BARGE_ROOT)."),
    (
        "/run/barge",
        "What lives until the next boot (--run-root, BARGE_RUN_ROOT).",
    ),
];
