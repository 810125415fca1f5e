//! The command that made a container, read again, so that it can be put together anew: in a unit, or for another
//! image. Flags come out in their long form, with `=`, whatever form they were typed in.

use crate::cli::{Parsed, Typed, parse};
use crate::error::{Error, Result};
use clap::parser::ValueSource;
use std::ffi::{OsStr, OsString};

/// A `run` or `create` as it was typed.
pub(crate) struct Recorded {
    /// Options of the top level.
    pub(crate) globals: Vec<OsString>,
    flags: Vec<(String, OsString)>,
    pub(crate) image: OsString,
    pub(crate) command: Vec<OsString>,
}

impl Recorded {
    /// `words` is a whole command line, the program's name included.
    pub(crate) fn of(words: &[OsString]) -> Result<Recorded> {
        let unknown = || Error::other("the command that made the container is not known");
        let args = words.get(1..).unwrap_or_default();
        let Parsed::Typed(top) = parse(&[], args)? else {
            return Err(unknown());
        };
        let (first, rest) = top.matches.subcommand().ok_or_else(unknown)?;
        let mut path = vec![first];
        let rest: Vec<OsString> = rest.get_many::<OsString>("").into_iter().flatten().cloned().collect();
        let mut rest = rest.as_slice();
        if let (true, Some((word, tail))) = (first == "container", rest.split_first()) {
            path.push(word.to_str().ok_or_else(unknown)?);
            rest = tail;
        }
        let Parsed::Typed(typed) = parse(&path, rest)? else {
            return Err(unknown());
        };
        let mut flags = flags(&typed);
        let mut take = |id: &str| {
            let (taken, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut flags).into_iter().partition(|(name, _)| name == id);
            flags = kept;
            taken.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
        };
        let image = take("IMAGE").pop().ok_or_else(unknown)?;
        let command = take("COMMAND");
        Ok(Recorded {
            globals: flags_of(self::flags(&top)),
            flags,
            image,
            command,
        })
    }

    /// Without these, however they were typed.
    pub(crate) fn without(mut self, ids: &[&str]) -> Recorded {
        self.flags.retain(|(name, _)| !ids.contains(&name.as_str()));
        self
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.flags.iter().any(|(name, _)| name == id)
    }

    pub(crate) fn flags(&self) -> Vec<OsString> {
        flags_of(self.flags.clone())
    }
}

fn flags_of(flags: Vec<(String, OsString)>) -> Vec<OsString> {
    let word = |(name, value): (String, OsString)| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        word
    };
    flags.into_iter().map(word).collect()
}

/// Name and value of every argument that was typed.
fn flags(typed: &Typed) -> Vec<(String, OsString)> {
    let mut flags = Vec::new();
    for arg in typed.parser.get_arguments() {
        let id = arg.get_id().as_str();
        if typed.matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let values = typed.matches.get_raw(id).into_iter().flatten();
        flags.extend(values.map(|value: &OsStr| (arg.get_long().unwrap_or(id).to_owned(), value.to_owned())));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_put_together_again() {
        let words = "/bin/barge -D --root /x run -it -name=web -e A=1 -e B -p 80 --rm=false img:1 sh -c ls";
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        let recorded = Recorded::of(&words).unwrap();
        assert!(recorded.has("publish") && !recorded.has("memory"));
        assert_eq!(recorded.image, "img:1");
        assert_eq!(recorded.command, ["sh", "-c", "ls"]);
        assert!(recorded.globals.contains(&"--root=/x".into()));
        let flags = recorded.without(&["rm", "tty"]).flags();
        for flag in [
            "--name=web",
            "--env=A=1",
            "--env=B",
            "--publish=80",
            "--interactive=true",
        ] {
            assert!(flags.contains(&flag.into()), "{flag}: {flags:?}");
        }
        assert_eq!(flags.len(), 5, "{flags:?}");
        assert!(Recorded::of(&["barge".into(), "ps".into()]).is_err());
    }
}
