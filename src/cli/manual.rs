//! Manual pages from the tree: what clap_mangen makes of a command, and the sections that it does not know.

use crate::cli::VERSION;
use crate::cli::tree::{self, Body, Codes, Spec};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// `barge-run.1` and its text, for every command.
pub(crate) fn pages() -> Vec<(String, Vec<u8>)> {
    tree::paths().iter().filter_map(|path| page(path)).collect()
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
    if !path.is_empty() {
        roff.control("SH", ["SEE ALSO"]).text([bold("barge"), roman("(1)")]);
    }
}

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
    ("/var/lib/barge", "Images, containers and volumes (--root, BARGE_ROOT)."),
    (
        "/run/barge",
        "What lives until the next boot (--run-root, BARGE_RUN_ROOT).",
    ),
];
