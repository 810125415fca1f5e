//! Settings → words of a command line, put before those that were typed.

use super::file::{flag, takes_pairs};
use super::{Setting, Settings};
use crate::error::{Error, Kind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// Flags that a variable of the environment stands for as well.
const VARIABLES: [(&str, &str); 7] = [
    ("authfile", "REGISTRY_AUTH_FILE"),
    ("bridge", "BARGE_BRIDGE"),
    ("dns", "BARGE_DNS"),
    ("platform", "DOCKER_DEFAULT_PLATFORM"),
    ("progress", "BUILDKIT_PROGRESS"),
    ("root", "BARGE_ROOT"),
    ("run-root", "BARGE_RUN_ROOT"),
];

/// Flags that exclude each other: a setting gives way to what is typed.
const OPPOSED: [(&str, &str); 5] = [
    ("attach", "detach"),
    ("cpus", "cpu-period"),
    ("cpus", "cpu-quota"),
    ("hostname", "uts"),
    ("restart", "rm"),
];

/// What a container in another one's network has from that one.
const OF_OWN_NETWORK: [&str; 8] = [
    "add-host",
    "dns",
    "dns-option",
    "dns-search",
    "hostname",
    "link",
    "publish",
    "publish-all",
];

/// The flag and the variable of each that is set in the environment.
pub(crate) fn from_environment() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    VARIABLES.iter().filter_map(|(flag, variable)| {
        let value = std::env::var(variable).ok().filter(|v| !v.is_empty())?;
        Some((*flag, *variable, value))
    })
}

impl Setting {
    /// `--memory=1g`.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        self.values.iter().map(|value| format!("--{}={value}", self.flag))
    }
}

impl Settings {
    /// What is set for the command at `path` and not said otherwise, by what was typed or in the environment.
    pub(crate) fn chosen(&self, path: &[&str], parser: &Command, typed: &ArgMatches) -> Vec<&Setting> {
        let in_environment: Vec<&str> = from_environment().map(|(flag, ..)| flag).collect();
        let is_typed = |name: &str| {
            flag(parser, name)
                .is_some_and(|arg| typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
        };
        let applies = |setting: &&Setting| {
            let Some(arg) = flag(parser, &setting.flag) else {
                return false;
            };
            let opposed = OPPOSED
                .iter()
                .any(|(a, b)| (*a == setting.flag && is_typed(b)) || (*b == setting.flag && is_typed(a)));
            let opposed = opposed || (shares_network(typed) && OF_OWN_NETWORK.contains(&setting.flag.as_str()));
            let excluded = parser
                .get_arg_conflicts_with(arg)
                .iter()
                .any(|other| typed.value_source(other.get_id().as_str()) == Some(ValueSource::CommandLine));
            let said = is_typed(&setting.flag) && !takes_pairs(arg);
            !said && !opposed && !excluded && !in_environment.contains(&setting.flag.as_str())
        };
        self.of(path).into_iter().filter(applies).collect()
    }

    /// What is set for one command; `create` also has what `run` has.
    fn of(&self, path: &[&str]) -> Vec<&Setting> {
        let own: Vec<&Setting> = self.given.iter().filter(|s| s.command == path).collect();
        let shared = match path {
            ["create"] => self.given.iter().filter(|s| s.command == ["run"]).collect(),
            _ => Vec::new(),
        };
        let unsaid = shared
            .into_iter()
            .filter(|s: &&Setting| !own.iter().any(|o| o.flag == s.flag));
        unsaid.chain(own.iter().copied()).collect()
    }
}

fn shares_network(typed: &ArgMatches) -> bool {
    let given = typed.try_get_many::<String>("network").ok().flatten();
    given
        .into_iter()
        .flatten()
        .any(|network| network.starts_with("container:"))
}

/// The words to put before the typed ones.
pub(crate) fn words(chosen: &[&Setting]) -> Vec<std::ffi::OsString> {
    chosen.iter().flat_map(|s| s.words()).map(Into::into).collect()
}

/// An error about a value that nobody typed names the file that it is from.
pub(crate) fn blame(error: Error, chosen: &[&Setting]) -> Error {
    if error.kind() != Kind::Usage {
        return error;
    }
    let text = error.to_string();
    let is_it = |s: &&&Setting| {
        text.contains(&format!("--{}", s.flag)) || s.values.iter().any(|v| v.len() > 1 && text.contains(v.as_str()))
    };
    match chosen.iter().find(is_it) {
        Some(setting) => error.with_hint(format!("{} is set in {}", setting.name(), setting.origin)),
        None => error,
    }
}
