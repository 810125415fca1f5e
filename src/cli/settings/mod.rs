//! What the administrator has set for every command: `/etc/barge/config.toml`, then each `config.d/*.toml` in the order
//! of their names, the later one winning. `BARGE_CONFIG` names another directory. Below them come other engines'
//! files (`foreign`): where there is none of our own, or where `read` asks for them.
//!
//! ```toml
//! root = "/data/barge"             # the options of the top level
//! dns = ["10.0.0.1"]
//! read = ["docker", "containers"]  # daemon.json, containers.conf
//!
//! [run]                            # `create` has these too, where it has the flag
//! memory = "512m"
//! env = { TZ = "Europe/Paris" }
//!
//! [network.create]
//! internal = true
//! ```
//!
//! There is no list of keys: a table is a command, a key is a long flag of its, and its value is read by the flag's own
//! parser. The command line wins, then the environment, then the settings.

mod apply;
mod file;
mod foreign;

pub(crate) use apply::{blame, words};

use crate::error::{Context as _, Error, Result};
use clap::ArgMatches;
use clap::parser::ValueSource;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "/etc/barge";

/// All that is set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    given: Vec<Setting>,
    /// What other engines' files say that is not taken over.
    pub(crate) notes: Vec<String>,
}

/// One flag of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// `["network", "create"]`; empty for the top level.
    command: Vec<&'static str>,
    /// Its long name.
    flag: String,
    /// One, or as many as a flag is repeated.
    values: Vec<String>,
    /// `FILE, line N`, or `FILE, key K`.
    origin: String,
}

/// Where a value comes from, for `info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// `run.memory`.
    pub(crate) name: String,
    pub(crate) value: String,
    /// `FILE, line N`, `environment, NAME`, or `command line`.
    pub(crate) from: String,
}

impl Setting {
    /// `run.memory`.
    fn name(&self) -> String {
        let words = self.command.iter().copied().chain([self.flag.as_str()]);
        words.collect::<Vec<_>>().join(".")
    }

    fn value(&self) -> String {
        self.values.join(", ")
    }
}

impl Settings {
    pub(crate) fn read() -> Result<Settings> {
        let named = std::env::var_os("BARGE_CONFIG").filter(|d| !d.is_empty());
        let is_named = named.is_some();
        let directory = named.map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from);
        let own = file::of_directory(&directory)?;
        let wanted = match &own.read {
            Some(wanted) => wanted.clone(),
            None if own.found || is_named => Vec::new(),
            None => foreign::Kind::ALL.to_vec(),
        };
        let mut settings = Settings::default();
        for kind in wanted {
            foreign::read(kind, &mut settings);
        }
        for setting in own.settings {
            settings.set(setting);
        }
        Ok(settings)
    }

    /// In the place of what was set before.
    fn set(&mut self, setting: Setting) {
        self.given
            .retain(|s| s.command != setting.command || s.flag != setting.flag);
        self.given.push(setting);
    }

    /// What is in force, and where it is from; `top` is what was typed before the command.
    pub(crate) fn origins(&self, top: &ArgMatches) -> Vec<Origin> {
        let mut all: Vec<Origin> = Vec::new();
        let mut add = |name: String, value: String, from: String| {
            all.retain(|o| o.name != name);
            all.push(Origin { name, value, from });
        };
        for setting in &self.given {
            add(setting.name(), setting.value(), setting.origin.clone());
        }
        for (flag, variable, value) in apply::from_environment() {
            add(flag.to_owned(), value, format!("environment, {variable}"));
        }
        for id in top.ids() {
            let typed = top.value_source(id.as_str()) == Some(ValueSource::CommandLine);
            let values = top.get_raw(id.as_str()).into_iter().flatten();
            let values: Vec<_> = values.map(|v| v.to_string_lossy().into_owned()).collect();
            if typed && !values.is_empty() {
                add(id.to_string(), values.join(", "), "command line".to_owned());
            }
        }
        all
    }
}

/// `None` if there is no such file.
fn text_of(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::from(e)).with_context(|| path.display().to_string()),
    }
}

/// The files of a directory with this ending, by name.
fn files_of(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == ending));
    files.sort();
    files
}

#[cfg(test)]
mod tests;
