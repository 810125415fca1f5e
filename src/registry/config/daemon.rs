//! Docker's `daemon.json`, for machines that come from docker: `registry-mirrors` (of Docker Hub) and
//! `insecure-registries`. Only asked where registries.conf names no registry.

use crate::error::{Context as _, Error, Result};
use crate::registry::config::{Serves, Source, read};
use crate::registry::proxy::in_network;
use crate::registry::url::{Url, split_port};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::Path;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Daemon {
    #[serde(default)]
    registry_mirrors: Vec<String>,
    #[serde(default)]
    insecure_registries: Vec<String>,
}

impl Daemon {
    pub(super) fn load(path: &Path) -> Result<Daemon> {
        match read(path)? {
            None => Ok(Daemon::default()),
            Some(text) => Daemon::parse(&text).with_context(|| path.display().to_string()),
        }
    }

    fn parse(text: &str) -> Result<Daemon> {
        if text.trim().is_empty() {
            return Ok(Daemon::default());
        }
        serde_json::from_str(text).map_err(|e| Error::other(format!("is damaged: {e}")))
    }

    pub(super) fn mirrors(&self, repository: &str) -> Vec<Source> {
        let urls = self.registry_mirrors.iter().filter_map(|text| Url::parse(text).ok());
        urls.map(|url| {
            let prefix = url.path.trim_matches('/');
            Source {
                repository: match prefix.is_empty() {
                    true => repository.to_owned(),
                    false => format!("{prefix}/{repository}"),
                },
                insecure: !url.https || self.is_insecure(&url.host),
                host: url.host,
                mirror: true,
                serves: Serves::All,
            }
        })
        .collect()
    }

    pub(super) fn relax(&self, sources: &mut [Source]) {
        for source in sources {
            source.insecure |= self.is_insecure(&source.host);
        }
    }

    /// `host:port`, `host` (any port) or a network.
    pub(super) fn is_insecure(&self, host: &str) -> bool {
        let (name, _) = split_port(host, 0);
        self.insecure_registries.iter().any(|entry| {
            let entry = entry
                .split_once("://")
                .map_or(entry.as_str(), |(_, rest)| rest)
                .trim_end_matches('/');
            if entry.eq_ignore_ascii_case(host) {
                return true;
            }
            match (entry.split_once('/'), name.parse::<IpAddr>()) {
                (Some((network, length)), Ok(address)) => in_network(address, network, length).unwrap_or(false),
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_was_told() {
        let daemon = Daemon::parse(
            r#"{"registry-mirrors": ["https://m.example", "http://n:5000/hub/"], "insecure-registries": ["r:5000", "10.0.0.0/8"], "x": 1}"#,
        )
        .unwrap();
        let mirrors = daemon.mirrors("library/a");
        let shown: Vec<_> = mirrors
            .iter()
            .map(|m| (m.host.as_str(), m.repository.as_str(), m.insecure))
            .collect();
        assert_eq!(
            shown,
            [("m.example", "library/a", false), ("n:5000", "hub/library/a", true)]
        );
        for (host, want) in [
            ("r:5000", true),
            ("r", false),
            ("10.1.1.1:80", true),
            ("11.1.1.1", false),
        ] {
            assert_eq!(daemon.is_insecure(host), want, "{host}");
        }
        assert!(Daemon::parse("{").is_err());
        assert!(Daemon::parse(" ").unwrap().registry_mirrors.is_empty());
    }
}
