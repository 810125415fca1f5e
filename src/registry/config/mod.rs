//! Where an image comes from and goes to, as the machine's administrator says: `registries.conf`, docker's
//! `daemon.json`, `policy.json`. Read once per command; what is decided from them is pure.

mod daemon;
mod policy;
mod registries;

use crate::error::{Context as _, Result};
use crate::model::reference::{DEFAULT_HOST, Reference};
use daemon::Daemon;
use policy::Policy;
use registries::Registries;
use std::path::{Path, PathBuf};

/// Everything that is configured.
pub(crate) struct Config {
    registries: Registries,
    daemon: Daemon,
}

/// One place to get a repository from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) host: String,
    /// The repository there.
    pub(crate) repository: String,
    /// Plain http, and https without proof, will do.
    pub(crate) insecure: bool,
    pub(crate) mirror: bool,
    /// A mirror may be for digests or for tags only.
    pub(crate) serves: Serves,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    All,
    Digests,
    Tags,
}

impl Config {
    pub(crate) fn load() -> Result<Config> {
        let registries = Registries::load(home().as_deref())?;
        let daemon = match registries.is_empty() {
            true => Daemon::load(Path::new("/etc/docker/daemon.json"))?,
            false => Daemon::default(),
        };
        Ok(Config { registries, daemon })
    }

    /// What a name, as it was typed, may mean, the first that exists wins.
    pub(crate) fn candidates(&self, typed: &str) -> Result<Vec<Reference>> {
        self.registries.candidates(typed)
    }

    /// Where to pull `reference` from, in order: mirrors, then the registry itself.
    pub(crate) fn pull_sources(&self, reference: &Reference) -> Result<Vec<Source>> {
        let mut sources = self.registries.sources(reference, true)?;
        if reference.host == DEFAULT_HOST {
            let mirrors = self.daemon.mirrors(&reference.repository);
            sources.splice(0..0, mirrors);
        }
        self.daemon.relax(&mut sources);
        Ok(sources)
    }

    /// Where to push it to.
    pub(crate) fn push_source(&self, reference: &Reference) -> Result<Vec<Source>> {
        let mut sources = self.registries.sources(reference, false)?;
        self.daemon.relax(&mut sources);
        Ok(sources)
    }

    /// Whether plain http, and https without proof, will do for `host`.
    pub(crate) fn is_insecure(&self, host: &str) -> bool {
        self.registries.is_insecure(host) || self.daemon.is_insecure(host)
    }

    /// `credential-helpers` of registries.conf.
    pub(crate) fn helpers(&self) -> Vec<String> {
        self.registries.helpers()
    }

    /// Registries to look for a name without a host in: what `search` asks.
    pub(crate) fn search_hosts(&self) -> Vec<String> {
        self.registries.unqualified()
    }
}

/// Fails if policy.json does not let `reference` in.
pub(crate) fn check_policy(reference: &Reference) -> Result<()> {
    with_policy(|policy| policy.check(reference))
}

/// The same for what is loaded; `transport` is the policy's word for its form.
pub(crate) fn check_policy_of_files(transport: &str) -> Result<()> {
    with_policy(|policy| policy.check_files(transport))
}

fn with_policy(check: impl Fn(&Policy) -> Result<()>) -> Result<()> {
    let mut places: Vec<PathBuf> = Vec::new();
    places.extend(home().map(|h| h.join(".config/containers/policy.json")));
    places.push("/etc/containers/policy.json".into());
    for path in places {
        let Some(text) = read(&path)? else { continue };
        let policy = Policy::parse(&text).with_context(|| path.display().to_string())?;
        return check(&policy).with_context(|| path.display().to_string());
    }
    Ok(())
}

pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}
