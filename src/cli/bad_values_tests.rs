//! Wrong words for every flag of every command, found in the tree: one line that names the flag, a hint, exit code 125.

use crate::cli::argument::is_switch;
use crate::cli::{parse, tree};
use crate::error::{Error, Kind};
use clap::{Arg, ArgAction};
use std::ffi::OsString;

/// What each command needs besides the flag, so that only the flag is wrong.
fn positionals(command: &clap::Command) -> Vec<OsString> {
    command
        .get_positionals()
        // What a flag can take the place of counts, too.
        .filter(|a| a.is_required_set() || command.get_name() == "exec")
        .map(|a| match a.get_possible_values().first() {
            Some(value) => value.get_name().into(),
            None => "x1".into(),
        })
        .collect()
}

fn error_of(path: &[&str], flag: String) -> Option<Error> {
    let mut parser = tree::parser(path).unwrap();
    parser.build();
    let words = [vec![flag.into()], positionals(&parser)].concat();
    parse(path, &words).err()
}

fn clear(path: &[&str], typed: &str, e: &Error) {
    let text = e.to_string();
    assert_eq!(e.kind(), Kind::Usage, "{path:?} {typed}: {text}");
    assert!(!text.contains('\n') && text.len() < 300, "{path:?} {typed}: {text}");
    assert!(e.hint().is_some_and(|h| !h.contains('\n')), "{path:?} {typed}: no hint");
}

fn commands() -> Vec<Vec<&'static str>> {
    let all = tree::paths();
    all.into_iter()
        .filter(|p| tree::find(p).is_some_and(|s| !s.is_noun() && s.also.is_none()))
        .collect()
}

fn flags(path: &[&str]) -> Vec<Arg> {
    let mut parser = tree::parser(path).unwrap();
    parser.build();
    let flags = parser.get_arguments().filter(|a| a.get_long().is_some());
    flags
        .filter(|a| !matches!(a.get_action(), ArgAction::Help))
        .cloned()
        .collect()
}

#[test]
fn near_misses_are_suggested() {
    let mut tried = 0;
    for path in commands() {
        for arg in flags(&path).iter().filter(|a| !a.is_hide_set()) {
            let name = arg.get_long().unwrap();
            // One letter is doubled: near this flag, and mostly nearest to it.
            let wrong = format!("--{name}{}", name.chars().last().unwrap());
            let Some(e) = error_of(&path, wrong.clone()) else {
                continue;
            };
            clear(&path, &wrong, &e);
            assert!(
                e.to_string().contains(&format!("unknown flag '{wrong}'")),
                "{path:?}: {e}"
            );
            assert!(
                e.hint().unwrap().contains("did you mean '--"),
                "{path:?} {wrong}: {:?}",
                e.hint()
            );
            tried += 1;
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn booleans_take_true_and_false_only() {
    let mut tried = 0;
    for path in commands() {
        for arg in flags(&path).iter().filter(|a| is_switch(a)) {
            let name = arg.get_long().unwrap();
            for good in ["=true", "=false", ""] {
                let error = error_of(&path, format!("--{name}{good}"));
                assert!(
                    error.is_none_or(|e| ["onflicting", ": missing --"].iter().any(|w| e.to_string().contains(w))),
                    "{path:?} --{name}{good}"
                );
            }
            let e = error_of(&path, format!("--{name}=maybe")).unwrap_or_else(|| panic!("{path:?} --{name}"));
            clear(&path, name, &e);
            assert!(
                e.to_string().contains("'maybe'") && e.to_string().contains(&format!("--{name}")),
                "{path:?}: {e}"
            );
            tried += 1;
        }
    }
    assert!(tried > 80, "{tried}");
}

#[test]
fn typed_values_are_checked_by_name() {
    let mut tried = 0;
    for path in commands() {
        for arg in flags(&path)
            .iter()
            .filter(|a| !a.is_require_equals_set() && a.get_action().takes_values())
        {
            let name = arg.get_long().unwrap();
            let e = error_of(&path, format!("--{name}=no such\u{7}value"));
            // A text is looked at when the command runs: tests/it/bad_input.rs.
            let Some(e) = e else { continue };
            clear(&path, name, &e);
            assert!(e.to_string().contains(&format!("--{name}")), "{path:?}: {e}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
}

/// Flags of `run` that take any text, or whose value is looked at only with the image, the machine, the store or the file.
const ANY_TEXT: &[&str] = &[
    "annotation",
    "arch",
    "authfile",
    "cdi-spec-dir",
    "cert-dir",
    "cidfile",
    "cpuset-cpus",
    "cpuset-mems",
    "creds",
    "detach-keys",
    "entrypoint",
    "env",
    "env-merge",
    "group-add",
    "health-cmd",
    "health-startup-cmd",
    "hosts-file",
    "init-path",
    "label",
    "monitor-pidfile",
    "name",
    "os",
    "pidfile",
    "requires",
    "user",
    "variant",
];

/// A new flag with a value must refuse nonsense by its name, or be in the list.
#[test]
fn every_value_of_run_is_checked_by_name() {
    let mut wrong = Vec::new();
    for path in [["run"], ["create"]] {
        for arg in flags(&path)
            .iter()
            .filter(|a| a.get_action().takes_values() && !is_switch(a))
        {
            let name = arg.get_long().unwrap();
            let mut parser = tree::parser(&path).unwrap();
            parser.build();
            let words: Vec<OsString> = vec![format!("--{name}=no such\u{7}/../value:::,,=").into(), "img".into()];
            let words = crate::cli::compat::normalise(&parser, &words);
            let parsed = parser.try_get_matches_from(std::iter::once("barge".into()).chain(words));
            let parsed = parsed.map_err(|e| crate::cli::usage::explain(&e, path[0], "", &[]));
            let read = parsed.and_then(|m| {
                crate::cli::container::run_args(&m, false)?;
                crate::cli::fetch::of(&m).map(drop)
            });
            match (read, ANY_TEXT.contains(&name)) {
                (Ok(()), true) => {}
                (Ok(()), false) => wrong.push(format!("{path:?} --{name} takes anything")),
                (Err(e), true) => wrong.push(format!("{path:?} --{name} does not take anything: {e}")),
                (Err(e), false) => {
                    let text = e.to_string();
                    if !text.contains(&format!("--{name}")) || text.contains('\n') || text.len() > 300 {
                        wrong.push(format!("{path:?} --{name}: {text}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_value_must_follow() {
    for path in commands() {
        for arg in flags(&path)
            .iter()
            .filter(|a| !a.is_require_equals_set() && a.get_action().takes_values())
        {
            if arg.get_num_args().is_some_and(|n| n.min_values() == 0) {
                continue;
            }
            let name = arg.get_long().unwrap();
            let Err(e) = parse(&path, &[format!("--{name}").into()]) else {
                panic!("{path:?} --{name} without a value");
            };
            clear(&path, name, &e);
            assert!(
                e.to_string().contains(&format!("flag '--{name}' needs a value")),
                "{path:?}: {e}"
            );
        }
    }
}
