//! Go-style flags → clap's form, by clap's own description of the command (pure).
//!
//! A token `-name` or `-name=value` whose name is a long flag of the command means `--name`: `-rm`, `-cidfile=x`,
//! `-t=false`. Everything else stays as it is, clusters of short flags (`-it`, `-te A=1`) among them. Where the rest of
//! the line belongs to a program (`run IMAGE COMMAND…`), `--` is put before the first positional word, so that nothing
//! behind it is read as a flag.

use clap::{Arg, Command};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// `args` without the command's own name, for `command`, which has been built.
pub(crate) fn normalise(command: &Command, args: &[OsString]) -> Vec<OsString> {
    let stops = command.is_allow_external_subcommands_set();
    let passes_on = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let mut out = Vec::with_capacity(args.len() + 1);
    let mut rest = args;
    while let Some((token, tail)) = rest.split_first() {
        let bytes = token.as_bytes();
        if bytes == b"--" || (stops && !is_flag(bytes)) {
            break;
        }
        if passes_on && !is_flag(bytes) {
            out.push(OsString::from("--"));
            break;
        }
        rest = tail;
        let (token, takes_next) = match is_flag(bytes) {
            true => flag(command, bytes),
            false => (token.clone(), false),
        };
        out.push(token);
        if let (true, Some((value, tail))) = (takes_next, rest.split_first()) {
            out.push(value.clone());
            rest = tail;
        }
    }
    out.extend_from_slice(rest);
    out
}

/// A lone `-` is a positional word: stdin or stdout.
fn is_flag(token: &[u8]) -> bool {
    token.len() > 1 && token[0] == b'-'
}

/// The token as clap takes it, and whether the next one is its value.
fn flag(command: &Command, token: &[u8]) -> (OsString, bool) {
    let body = token.strip_prefix(b"--").unwrap_or(&token[1..]);
    let (name, value) = match body.iter().position(|b| *b == b'=') {
        Some(at) => (&body[..at], Some(&body[at..])),
        None => (body, None),
    };
    let is_double = token.starts_with(b"--");
    let long = match is_double || name.len() > 1 {
        true => command.get_arguments().find(|a| has_long(a, name)),
        false => None,
    };
    match long {
        Some(arg) => {
            let spelled = [b"--", name, value.unwrap_or_default()].concat();
            (OsString::from_vec(spelled), value.is_none() && takes_value(arg))
        }
        None if is_double => (OsStr::from_bytes(token).to_owned(), false),
        None => (OsStr::from_bytes(token).to_owned(), cluster_takes_next(command, body)),
    }
}

fn has_long(arg: &Arg, name: &[u8]) -> bool {
    let is = |long: &str| long.as_bytes() == name;
    arg.get_long().is_some_and(is) || arg.get_all_aliases().is_some_and(|all| all.into_iter().any(is))
}

/// A value of its own, as the next token; a boolean's value needs `=`.
fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// Whether the last short flag of `-abc` still wants its value.
fn cluster_takes_next(command: &Command, letters: &[u8]) -> bool {
    for (at, letter) in letters.iter().enumerate() {
        let arg = command
            .get_arguments()
            .find(|a| a.get_short() == Some(char::from(*letter)));
        match arg {
            Some(arg) if takes_value(arg) => return at + 1 == letters.len(),
            Some(_) => {}
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tree;

    fn built(path: &[&str]) -> Command {
        let mut command = tree::parser(path).unwrap();
        command.build();
        command
    }

    #[track_caller]
    fn check(path: &[&str], line: &str, want: &str) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let got: Vec<String> = normalise(&built(path), &words)
            .iter()
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        assert_eq!(got.join(" "), want, "{line}");
    }

    #[test]
    fn spellings_of_2013_and_of_today() {
        for (line, want) in [
            (
                "-rm -t -i -cidfile=/x img sh -rm -c",
                "--rm -t -i --cidfile=/x -- img sh -rm -c",
            ),
            ("-dit --rm -m 5 img", "-dit --rm -m 5 -- img"),
            ("-t=true -i=false img -x", "-t=true -i=false -- img -x"),
            ("-te A=1 img", "-te A=1 -- img"),
            ("-volumes-from a -v /x img", "--volumes-from a -v /x -- img"),
            ("--name -rm img", "--name -rm -- img"),
            ("-e -rm img", "-e -rm -- img"),
            ("-n=false img", "-n=false -- img"),
            ("-net host img", "--net host -- img"),
            (
                "-privileged=true -w /x -u=daemon img ls",
                "--privileged=true -w /x -u=daemon -- img ls",
            ),
            ("-- img -rm", "-- img -rm"),
            ("img -- x", "-- img -- x"),
            ("-bogus img", "-bogus -- img"),
            ("-", "-- -"),
            ("", ""),
        ] {
            check(&["run"], line, want);
        }
    }

    #[test]
    fn flags_may_follow_names_where_no_program_does() {
        check(&["ps"], "-notrunc -a -n 3 -sinceId=x", "--notrunc -a -n 3 --sinceId=x");
        check(&["rm"], "web -force -- -x", "web --force -- -x");
        check(&["logs"], "web -tail 5 -f", "web --tail 5 -f");
        check(&["exec"], "-it -u 0 web ls -la", "-it -u 0 -- web ls -la");
    }

    #[test]
    fn the_top_level_stops_at_the_command() {
        check(&[], "-root /x -D run -rm img", "--root /x -D run -rm img");
        check(&[], "-g=/x -version", "-g=/x --version");
    }

    #[test]
    fn bytes_stay_bytes() {
        let odd = OsString::from_vec(b"A=\xff".to_vec());
        let words = ["-e".into(), odd.clone(), "img".into(), odd.clone()];
        let want: Vec<OsString> = vec!["-e".into(), odd.clone(), "--".into(), "img".into(), odd];
        assert_eq!(normalise(&built(&["run"]), &words), want);
    }

    /// Long names that are also clusters of their command's boolean flags. The long name wins; a new line here is a
    /// decision.
    #[test]
    fn reviewed_clashes() {
        let mut found = Vec::new();
        for path in tree::paths()
            .into_iter()
            .filter(|p| tree::find(p).is_none_or(|s| s.also.is_none()))
        {
            let command = built(&path);
            let is_boolean = |a: &&Arg| !takes_value(a);
            let letters: Vec<char> = command
                .get_arguments()
                .filter(is_boolean)
                .filter_map(Arg::get_short)
                .collect();
            for arg in command.get_arguments() {
                let names = arg
                    .get_long()
                    .into_iter()
                    .chain(arg.get_all_aliases().unwrap_or_default());
                let clashing = names.filter(|n| n.len() > 1 && n.chars().all(|c| letters.contains(&c)));
                found.extend(clashing.map(|name| format!("{} -{name}", path.join(" "))));
            }
        }
        assert_eq!(found, ["create -init", "ps -all", "run -init"]);
    }
}
