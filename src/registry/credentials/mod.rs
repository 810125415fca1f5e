//! User names and passwords for registries: where they are looked for, which entry of a file is meant, and where
//! `login` puts them.
//!
//! Looked at in this order: `--authfile`, or `REGISTRY_AUTH_FILE` (then nothing else); podman's
//! `$XDG_RUNTIME_DIR/containers/auth.json` (`/run/containers/<uid>`) and `~/.config/containers/auth.json`; docker's
//! `$DOCKER_CONFIG/config.json` (`~/.docker`); `~/.dockercfg`, the file of 2013. `login` writes into the first of them
//! that has the registry already, else into docker's.
//!
//! A secret is never printed: these types have no `Debug` that would show one.

mod file;
mod helper;

use crate::error::{Context as _, Error, Result};
use crate::model::reference::DEFAULT_HOST;
use file::AuthFile;
use std::fmt;
use std::path::{Path, PathBuf};

/// Docker Hub's key in docker's files.
pub(crate) const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What gets into a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Password(String),
    /// A refresh token, which buys tokens.
    Identity(String),
    /// A token, sent as it is.
    Registry(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.username)
    }
}

impl Credentials {
    pub(crate) fn password(username: &str, password: &str) -> Credentials {
        Credentials {
            username: username.to_owned(),
            secret: Secret::Password(password.to_owned()),
        }
    }

    /// `USER:PASSWORD`; the first colon divides, since a password may have more of them.
    pub(crate) fn parse(text: &str) -> Result<Credentials> {
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => Ok(Credentials::password(user, password)),
            _ => Err(Error::usage("credentials are USER:PASSWORD")),
        }
    }
}

/// The files of one user.
pub(crate) struct Keyring {
    files: Vec<AuthFile>,
    /// Where docker keeps its own: what a new entry goes to.
    preferred: PathBuf,
    /// Helpers asked before any file (`credential-helpers` of registries.conf).
    helpers: Vec<String>,
}

/// The variables that say where the files are.
pub(crate) struct Places<'a> {
    pub(crate) authfile: Option<&'a Path>,
    pub(crate) variable: &'a dyn Fn(&str) -> Option<PathBuf>,
    pub(crate) uid: u32,
}

impl Keyring {
    /// Of whoever called us.
    pub(crate) fn of_caller(authfile: Option<&Path>, helpers: Vec<String>) -> Keyring {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Keyring::at(
            &Places {
                authfile,
                variable: &variable,
                uid: rustix::process::geteuid().as_raw(),
            },
            helpers,
        )
    }

    fn at(places: &Places<'_>, helpers: Vec<String>) -> Keyring {
        let variable = places.variable;
        let only = places
            .authfile
            .map(Path::to_owned)
            .or_else(|| variable("REGISTRY_AUTH_FILE"));
        if let Some(path) = only {
            return Keyring {
                files: vec![AuthFile::new(path.clone())],
                preferred: path,
                helpers,
            };
        }
        let home = variable("HOME").unwrap_or_else(|| "/root".into());
        let runtime = variable("XDG_RUNTIME_DIR")
            .filter(|_| places.uid != 0)
            .unwrap_or_else(|| format!("/run/containers/{}", places.uid).into());
        let runtime = match runtime.starts_with("/run/containers") {
            true => runtime.join("auth.json"),
            false => runtime.join("containers/auth.json"),
        };
        let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let docker = variable("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker"));
        let preferred = docker.join("config.json");
        let files = vec![
            runtime,
            config.join("containers/auth.json"),
            preferred.clone(),
            home.join(".dockercfg"),
        ];
        Keyring {
            files: files.into_iter().map(AuthFile::new).collect(),
            preferred,
            helpers,
        }
    }

    /// What is known for `repository` at `host`. A file that can't be read, or is no JSON, says so to `warn`, and the
    /// next one is asked (F230).
    pub(crate) fn find(&self, host: &str, repository: &str, warn: &dyn Fn(&str)) -> Result<Option<Credentials>> {
        for name in &self.helpers {
            if let Some(credentials) = helper::get(name, &helper_key(host))? {
                return Ok(Some(credentials));
            }
        }
        for file in &self.files {
            match file.find(host, repository) {
                Ok(Some(credentials)) => {
                    return Ok(Some(credentials));
                }
                Ok(None) => {}
                Err(e) => warn(&e.to_string()),
            }
        }
        Ok(None)
    }

    /// Keeps `credentials` for `host` (or `host/namespace`); where.
    pub(crate) fn save(&self, host: &str, credentials: &Credentials) -> Result<Saved> {
        let holder = self
            .files
            .iter()
            .find(|f| !f.is_of_2013() && f.has(host).unwrap_or(false))
            .map_or(&self.preferred, |f| &f.path);
        AuthFile::new(holder.clone())
            .save(host, credentials)
            .with_context(|| format!("save the login in {}", holder.display()))
    }

    /// Forgets `host` everywhere; whether anything was known.
    pub(crate) fn remove(&self, host: &str) -> Result<bool> {
        let mut known = false;
        for file in &self.files {
            known |= file.remove(host)?;
        }
        Ok(known)
    }

    /// Forgets every registry; how many there were.
    pub(crate) fn remove_all(&self) -> Result<usize> {
        self.files.iter().try_fold(0, |n, file| Ok(n + file.remove_all()?))
    }

    /// Shown in errors.
    pub(crate) fn shown(&self) -> String {
        let paths: Vec<String> = self.files.iter().map(|f| f.path.display().to_string()).collect();
        paths.join(", ")
    }
}

/// Where a login went.
pub(crate) enum Saved {
    /// In clear.
    File(PathBuf),
    Helper(String),
}

/// What a helper calls a registry.
fn helper_key(host: &str) -> String {
    match host {
        DEFAULT_HOST => HUB_KEY.to_owned(),
        other => other.to_owned(),
    }
}

/// The host an entry's key is for: `https://host:5000/v1/` → `host:5000`; all of Docker Hub's names are one (F226). The
/// rest of a path is a namespace: `host/team/app`.
pub(crate) fn normalise(key: &str) -> String {
    let lower = key.trim();
    let (rest, had_scheme) = match lower.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (lower, false),
    };
    let rest = rest.trim_end_matches('/');
    let rest = ["/v1", "/v2", "/v1/users", "/v2/users"]
        .iter()
        .find_map(|end| rest.strip_suffix(end))
        .unwrap_or(rest);
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) => (host, path),
        None => (rest, ""),
    };
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" | "registry.hub.docker.com" => DEFAULT_HOST,
        other => other,
    };
    // A URL's path is where its API is, not a namespace.
    match path.is_empty() || had_scheme {
        true => host.to_owned(),
        false => format!("{host}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn keys_of_every_age() {
        for (key, want) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("https://H:5000/v1/", "h:5000"),
            ("http://h:5000/v1/", "h:5000"),
            ("http://h:5000/v2", "h:5000"),
            ("h:5000/v1/", "h:5000"),
            ("https://my-registry.com", "my-registry.com"),
            ("h", "h"),
            ("h/team/app", "h/team/app"),
            ("https://h/some/path", "h"),
        ] {
            assert_eq!(normalise(key), want, "{key}");
        }
    }

    #[test]
    fn the_order_of_the_files() {
        let at = |set: &[(&str, &str)], authfile: Option<&str>, uid| {
            let set: HashMap<String, PathBuf> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
            let variable = |name: &str| set.get(name).cloned();
            Keyring::at(
                &Places {
                    authfile: authfile.map(Path::new),
                    variable: &variable,
                    uid,
                },
                Vec::new(),
            )
            .shown()
        };
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/0")], None, 0),
            "/run/containers/0/auth.json, /h/.config/containers/auth.json, /h/.docker/config.json, /h/.dockercfg"
        );
        assert_eq!(
            at(
                &[
                    ("HOME", "/h"),
                    ("XDG_RUNTIME_DIR", "/r"),
                    ("XDG_CONFIG_HOME", "/c"),
                    ("DOCKER_CONFIG", "/d")
                ],
                None,
                1000
            ),
            "/r/containers/auth.json, /c/containers/auth.json, /d/config.json, /h/.dockercfg"
        );
        assert_eq!(at(&[("REGISTRY_AUTH_FILE", "/a")], None, 0), "/a");
        assert_eq!(at(&[("REGISTRY_AUTH_FILE", "/a")], Some("/b"), 0), "/b");
    }

    #[test]
    fn credentials_on_a_command_line() {
        let c = Credentials::parse("u:p:q ").unwrap();
        assert!(c.username == "u" && c.secret == Secret::Password("p:q ".to_owned()));
        assert!(!format!("{c:?}").contains("p:q"));
        assert!(Credentials::parse("u").is_err());
        assert!(Credentials::parse(":p").is_err());
    }
}
