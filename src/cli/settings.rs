//! What the administrator has set for every new container: `/etc/barge/config.toml`, then each `config.d/*.toml` in the
//! order of their names, the later one winning. `BARGE_CONFIG` names another directory.
//!
//! ```toml
//! bridge = "br0"                  # -b
//! dns = ["10.0.0.1"]              # --dns
//! dns-search = ["example.org"]
//! dns-option = ["ndots:2"]
//! ```

use crate::cli::names;
use crate::error::{Context as _, Error, Result};
use serde::Deserialize;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "/etc/barge";

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    pub(crate) bridge: Option<String>,
    pub(crate) dns: Option<Vec<IpAddr>>,
    pub(crate) dns_search: Option<Vec<String>>,
    pub(crate) dns_option: Option<Vec<String>>,
}

impl Settings {
    pub(crate) fn read() -> Result<Settings> {
        let directory = std::env::var_os("BARGE_CONFIG").filter(|d| !d.is_empty());
        of_directory(&directory.map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from))
    }

    fn add(&mut self, later: Settings) {
        self.bridge = later.bridge.or(self.bridge.take());
        self.dns = later.dns.or(self.dns.take());
        self.dns_search = later.dns_search.or(self.dns_search.take());
        self.dns_option = later.dns_option.or(self.dns_option.take());
    }
}

fn of_directory(directory: &Path) -> Result<Settings> {
    let mut settings = of_file(&directory.join("config.toml"))?.unwrap_or_default();
    let entries = std::fs::read_dir(directory.join("config.d")).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "toml"));
    files.sort();
    for file in files {
        if let Some(later) = of_file(&file)? {
            settings.add(later);
        }
    }
    Ok(settings)
}

/// `None` if there is no such file.
fn of_file(path: &Path) -> Result<Option<Settings>> {
    let shown = || path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some).with_context(shown),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).with_context(shown),
    }
}

fn parse(text: &str) -> Result<Settings> {
    let settings: Settings = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |s| text[..s.start].matches('\n').count() + 1);
        let what = e.message().replace('\n', " ");
        Error::other(format!(
            "line {line}: {}",
            what.escape_debug().to_string().replace("\\'", "'")
        ))
    })?;
    for domain in settings.dns_search.iter().flatten() {
        names::domain(domain)?;
    }
    for option in settings.dns_option.iter().flatten() {
        names::option(option)?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let settings = parse("bridge = 'br0'\ndns = ['10.0.0.1', 'fd00::1']\ndns-search = ['a.example']\n").unwrap();
        assert_eq!(settings.bridge.as_deref(), Some("br0"));
        assert_eq!(settings.dns.unwrap().len(), 2);
        assert_eq!((settings.dns_search.unwrap().len(), settings.dns_option), (1, None));
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[test]
    fn mistakes_are_named_by_their_line() {
        for (text, says) in [
            ("dns = ['10.0.0.1']\ndsn = ['x']", "line 2: unknown field"),
            ("dns = ['nonsense']", "line 1: invalid IP address"),
            ("dns = [", "line 1: "),
            ("dns-search = ['a b']", "a b is not a valid domain"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(says) && !e.contains('\n'), "{e}");
        }
    }

    #[test]
    fn the_later_file_wins() {
        let mut settings = parse("bridge = 'a'\ndns = ['1.1.1.1']").unwrap();
        settings.add(parse("dns = ['2.2.2.2']").unwrap());
        assert_eq!(settings, parse("bridge = 'a'\ndns = ['2.2.2.2']").unwrap());
    }
}
