//! One file of credentials: docker's `config.json` and podman's `auth.json` (`auths`, `credsStore`, `credHelpers`), or
//! `.dockercfg` with the registries at the top, or with the two lines it had before docker 0.5.
//!
//! What is not ours in it stays as it is. Mode 0600, replaced whole; concurrent logins wait for each other by a lock on
//! the directory.

use crate::error::{Context as _, Error, Result};
use crate::model::reference::DEFAULT_HOST;
use crate::registry::credentials::{Credentials, HUB_KEY, Saved, Secret, helper, helper_key, normalise};
use crate::store::file::{self, Durability};
use base64::Engine as _;
use serde_json::{Map, Value};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

pub(super) struct AuthFile {
    pub(super) path: PathBuf,
}

impl AuthFile {
    pub(super) fn new(path: PathBuf) -> AuthFile {
        AuthFile { path }
    }

    /// `.dockercfg`: read and emptied, never added to.
    pub(super) fn is_of_2013(&self) -> bool {
        self.path.file_name().is_some_and(|n| n == ".dockercfg")
    }

    fn read(&self) -> Result<Map<String, Value>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Map::new()),
            Err(e) => return Err(e).with_context(|| format!("read {}", self.path.display())),
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(map),
            // serde's own words could quote a secret.
            _ if self.is_of_2013() => two_lines(&bytes),
            _ => Err(()),
        }
        .map_err(|()| Error::other(format!("Invalid Auth config file {}", self.path.display())))
    }

    /// The part of the file that has a registry at each key.
    fn auths<'a>(&self, map: &'a Map<String, Value>) -> Option<&'a Map<String, Value>> {
        match map.get("auths") {
            Some(auths) => auths.as_object(),
            None if self.is_of_2013() => Some(map),
            None => None,
        }
    }

    pub(super) fn find(&self, host: &str, repository: &str) -> Result<Option<Credentials>> {
        let map = self.read()?;
        if let Some(name) = helper_of(&map, host)
            && let Some(found) = helper::get(&name, &helper_key(host))?
        {
            return Ok(Some(found));
        }
        let Some(auths) = self.auths(&map) else {
            return Ok(None);
        };
        for wanted in scopes(host, repository) {
            // An exact key before one that only means the same.
            let mut entries: Vec<_> = auths.iter().filter(|(key, _)| normalise(key) == wanted).collect();
            entries.sort_by_key(|(key, _)| **key != wanted);
            for (_, entry) in entries {
                if let Some(found) = decode(entry, &self.path)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Whether there is an entry of exactly this host or namespace.
    pub(super) fn has(&self, host: &str) -> Result<bool> {
        let map = self.read()?;
        Ok(self
            .auths(&map)
            .is_some_and(|auths| auths.keys().any(|key| normalise(key) == normalise(host))))
    }

    pub(super) fn save(&self, host: &str, credentials: &Credentials) -> Result<Saved> {
        self.change(|map| {
            let helper = helper_of(map, host);
            let entry = match &helper {
                Some(name) => {
                    helper::store(name, &helper_key(host), credentials)?;
                    Map::new()
                }
                None => encode(credentials),
            };
            let auths = map.entry("auths").or_insert_with(|| Value::Object(Map::new()));
            let Some(auths) = auths.as_object_mut() else {
                return Err(Error::other("`auths` is no JSON object"));
            };
            auths.retain(|key, _| normalise(key) != normalise(host));
            auths.insert(self.key_of(host), Value::Object(entry));
            Ok(match helper {
                Some(name) => Saved::Helper(name),
                None => Saved::File(self.path.clone()),
            })
        })
    }

    /// Docker knows its Hub by the address of the index alone.
    fn key_of(&self, host: &str) -> String {
        match host == DEFAULT_HOST && self.path.file_name().is_some_and(|n| n != "auth.json") {
            true => HUB_KEY.to_owned(),
            false => host.to_owned(),
        }
    }

    pub(super) fn remove(&self, host: &str) -> Result<bool> {
        let map = self.read()?;
        let in_file = self.has(host)?;
        let helper = helper_of(&map, host);
        if let Some(name) = &helper
            && helper::get(name, &helper_key(host))?.is_some()
        {
            helper::erase(name, &helper_key(host))?;
            if !in_file {
                return Ok(true);
            }
        }
        if !in_file {
            return Ok(false);
        }
        self.change(|map| {
            let top = !map.contains_key("auths");
            let auths = match top {
                true => Some(map),
                false => map.get_mut("auths").and_then(Value::as_object_mut),
            };
            if let Some(auths) = auths {
                auths.retain(|key, _| normalise(key) != normalise(host));
            }
            Ok(true)
        })
    }

    pub(super) fn remove_all(&self) -> Result<usize> {
        let map = self.read()?;
        let keys: Vec<String> = self
            .auths(&map)
            .into_iter()
            .flatten()
            .map(|(key, _)| normalise(key))
            .collect();
        for key in &keys {
            self.remove(key)?;
        }
        Ok(keys.len())
    }

    /// Reads, changes and replaces the file, alone.
    fn change<T>(&self, change: impl FnOnce(&mut Map<String, Value>) -> Result<T>) -> Result<T> {
        // Somebody's dotfiles may be links into a repository.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir = path
            .parent()
            .filter(|d| !d.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let name = path.file_name().and_then(|n| n.to_str());
        let name = name.ok_or_else(|| Error::other(format!("{} is no file", path.display())))?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("make {}", dir.display()))?;
        let lock = std::fs::File::open(dir).with_context(|| format!("open {}", dir.display()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .with_context(|| format!("lock {}", dir.display()))?;
        let mut map = self.read()?;
        let done = change(&mut map)?;
        let mut bytes = serde_json::to_vec_pretty(&map)?;
        bytes.push(b'\n');
        let owner = std::fs::metadata(&path).ok().map(|m| (m.uid(), m.gid()));
        // The directory may be somebody else's: what waits there under that name gets no secret.
        match std::fs::remove_file(dir.join(format!(".{name}.new"))) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).context("remove an unfinished file"),
            _ => {}
        }
        file::replace(dir, name, &bytes, Durability::Synced)?;
        // Root's `sudo -E` must not take a user's file away.
        if let Some((uid, gid)) = owner {
            let _ = std::os::unix::fs::chown(&path, Some(uid), Some(gid));
        }
        Ok(done)
    }
}

/// `auth = base64` and `email = address`: docker before 0.5, which knew one registry.
fn two_lines(bytes: &[u8]) -> Result<Map<String, Value>, ()> {
    let text = std::str::from_utf8(bytes).map_err(|_| ())?;
    let mut entry = Map::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let (key, value) = line.split_once('=').ok_or(())?;
        entry.insert(key.trim().to_owned(), Value::String(value.trim().to_owned()));
    }
    if !entry.contains_key("auth") {
        return Err(());
    }
    Ok(Map::from_iter([(HUB_KEY.to_owned(), Value::Object(entry))]))
}

/// `host/a/b`, `host/a`, `host`: containers-auth.json(5).
fn scopes(host: &str, repository: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut path = repository;
    while !path.is_empty() {
        all.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    all.push(host.to_owned());
    all
}

/// `credHelpers` for this host, else `credsStore`.
fn helper_of(map: &Map<String, Value>, host: &str) -> Option<String> {
    let helpers = map.get("credHelpers").and_then(Value::as_object);
    let named = helpers
        .into_iter()
        .flatten()
        .filter_map(|(key, name)| Some((normalise(key), name.as_str()?)));
    let mut best: Option<(usize, &str)> = None;
    for (key, name) in named {
        let fits = key == host
            || key
                .strip_prefix('*')
                .is_some_and(|end| end.starts_with('.') && host.ends_with(end));
        if fits && best.is_none_or(|(length, _)| key.len() > length) {
            best = Some((key.len(), name));
        }
    }
    best.map(|(_, name)| name)
        .or_else(|| map.get("credsStore").and_then(Value::as_str))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

fn decode(entry: &Value, path: &Path) -> Result<Option<Credentials>> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|v| !v.is_empty());
    let bad = || {
        Error::other(format!(
            "Invalid Auth config file {}: an `auth` is not base64 of user:password",
            path.display()
        ))
    };
    let (username, password) = match text("auth") {
        Some(auth) => {
            let bytes = base64::prelude::BASE64_STANDARD
                .decode(auth.trim())
                .map_err(|_| bad())?;
            let pair = String::from_utf8(bytes).map_err(|_| bad())?;
            let (user, password) = pair.split_once(':').ok_or_else(bad)?;
            // Docker of 2013 padded with NUL.
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => (
            text("username").unwrap_or_default().to_owned(),
            text("password").unwrap_or_default().to_owned(),
        ),
    };
    let secret = match (text("registrytoken"), text("identitytoken")) {
        (Some(token), _) => Secret::Registry(token.to_owned()),
        (None, Some(token)) => Secret::Identity(token.to_owned()),
        (None, None) if username.is_empty() => return Ok(None),
        (None, None) if username == "<token>" => Secret::Identity(password),
        (None, None) => Secret::Password(password),
    };
    Ok(Some(Credentials { username, secret }))
}

fn encode(credentials: &Credentials) -> Map<String, Value> {
    let encoded = |password: &str| {
        let pair = format!("{}:{password}", credentials.username);
        Value::String(base64::prelude::BASE64_STANDARD.encode(pair))
    };
    let mut entry = Map::new();
    match &credentials.secret {
        Secret::Password(password) => {
            entry.insert("auth".to_owned(), encoded(password));
        }
        Secret::Identity(token) => {
            entry.insert("auth".to_owned(), encoded(""));
            entry.insert("identitytoken".to_owned(), Value::String(token.clone()));
        }
        Secret::Registry(token) => {
            entry.insert("registrytoken".to_owned(), Value::String(token.clone()));
        }
    }
    entry
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the files of a test are nobody's state
mod tests {
    use super::*;
    use crate::store::testing::Scratch;
    use std::os::unix::fs::PermissionsExt as _;

    fn b64(text: &str) -> String {
        base64::prelude::BASE64_STANDARD.encode(text)
    }

    fn user(file: &AuthFile, host: &str, repository: &str) -> Option<(String, String)> {
        file.find(host, repository).unwrap().map(|c| match c.secret {
            Secret::Password(p) => (c.username, p),
            Secret::Identity(t) => (c.username, format!("identity {t}")),
            Secret::Registry(t) => (c.username, format!("registry {t}")),
        })
    }

    fn write(name: &str, text: &str) -> (Scratch, AuthFile) {
        let s = Scratch::new();
        let path = s.root().join(name);
        std::fs::write(&path, text).unwrap();
        (s, AuthFile::new(path))
    }

    fn pair(a: &str, b: &str) -> Option<(String, String)> {
        Some((a.to_owned(), b.to_owned()))
    }

    #[test]
    fn entries_are_found_however_they_were_written() {
        let json = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}", "email": "x"}},
                "https://old:5000/v1/": {{"auth": "{}"}},
                "ns/team": {{"auth": "{}"}}, "ns": {{"auth": "{}"}}, "ns.io/team": {{"auth": "{}"}},
                "tok": {{"auth": "{}", "identitytoken": "T"}},
                "reg": {{"registrytoken": "R"}},
                "empty": {{}}, "plain": {{"username": "u", "password": "p"}}
            }}}}"#,
            b64("hub:pa:ss"),
            b64("old:x"),
            b64("no:x"),
            b64("all:x"),
            b64("team:x"),
            b64("me:")
        );
        let (_s, file) = write("config.json", &json);
        assert_eq!(user(&file, "docker.io", "library/a"), pair("hub", "pa:ss"));
        assert_eq!(user(&file, "old:5000", "a"), pair("old", "x"));
        assert_eq!(user(&file, "ns.io", "team/app"), pair("team", "x"));
        assert_eq!(user(&file, "ns.io", "other"), None);
        assert_eq!(user(&file, "tok", "a"), pair("me", "identity T"));
        assert_eq!(user(&file, "reg", "a"), pair("", "registry R"));
        assert_eq!(user(&file, "empty", "a"), None);
        assert_eq!(user(&file, "plain", "a"), pair("u", "p"));
        assert_eq!(user(&file, "none", "a"), None);
    }

    #[test]
    fn the_files_of_2013() {
        let (_s, file) = write(
            ".dockercfg",
            &format!(r#"{{"https://h/v1/": {{"auth": "{}", "email": "e"}}}}"#, b64("u:p\0\0")),
        );
        assert_eq!(user(&file, "h", "a"), pair("u", "p"));
        assert!(file.remove("h").unwrap());
        assert_eq!(user(&file, "h", "a"), None);
        let (_s, file) = write(".dockercfg", &format!("auth = {}\nemail = e@x\n", b64("u:p")));
        assert_eq!(user(&file, "docker.io", "a"), pair("u", "p"));
    }

    #[test]
    fn wrong_files_say_so_without_quoting() {
        for (name, text) in [
            ("config.json", "secret"),
            ("config.json", "[]"),
            (".dockercfg", "secret"),
            ("config.json", r#"{"auths": {"h": {"auth": "%secret%"}}}"#),
            ("config.json", r#"{"auths": {"h": {"auth": "c2VjcmV0"}}}"#),
        ] {
            let (_s, file) = write(name, text);
            let e = file.find("h", "a").unwrap_err().to_string();
            assert!(e.contains("Invalid Auth config file") && !e.contains("secret"), "{e}");
        }
        let (_s, file) = write("config.json", "\n");
        assert!(file.find("h", "a").unwrap().is_none());
    }

    #[test]
    fn saving_keeps_what_is_not_ours() {
        let (s, file) = write(
            "config.json",
            r#"{"detachKeys": "ctrl-x", "auths": {"https://h/v1/": {}, "o": {"k": 1}}, "z": [1]}"#,
        );
        file.save("h", &Credentials::password("u", "p:q")).unwrap();
        file.save("docker.io", &Credentials::password("hub", " ")).unwrap();
        let map = file.read().unwrap();
        assert_eq!(map.keys().collect::<Vec<_>>(), ["detachKeys", "auths", "z"]);
        let auths = map["auths"].as_object().unwrap();
        assert_eq!(auths.keys().collect::<Vec<_>>(), ["o", "h", HUB_KEY]);
        assert_eq!(user(&file, "h", "a"), pair("u", "p:q"));
        assert_eq!(user(&file, "docker.io", "a"), pair("hub", " "));
        let mode = std::fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(file.remove("h").unwrap() && !file.remove("h").unwrap());
        // Into a directory that is not there yet, and through a link.
        let deep = AuthFile::new(s.root().join("a/b/auth.json"));
        deep.save("docker.io", &Credentials::password("u", "p")).unwrap();
        assert!(deep.read().unwrap()["auths"].get("docker.io").is_some());
        let link = AuthFile::new(s.root().join("link.json"));
        std::os::unix::fs::symlink("config.json", &link.path).unwrap();
        link.save("l", &Credentials::password("u", "p")).unwrap();
        assert!(link.path.is_symlink() && user(&file, "l", "a").is_some());
        assert_eq!(file.remove_all().unwrap(), 3);
    }

    #[test]
    fn concurrent_logins_lose_nothing() {
        let (_s, file) = write("config.json", "{}");
        std::thread::scope(|scope| {
            for i in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    file.save(&format!("h{i}"), &Credentials::password("u", "p"))
                        .map(|_| ())
                        .unwrap()
                });
            }
        });
        assert_eq!(file.read().unwrap()["auths"].as_object().unwrap().len(), 8);
    }

    #[test]
    fn which_helper() {
        let map: Map<String, Value> = serde_json::from_str(
            r#"{"credsStore": "s", "credHelpers": {"h:5000": "a", "*.ecr.aws": "b", "https://index.docker.io/v1/": "c"}}"#,
        )
        .unwrap();
        for (host, want) in [
            ("h:5000", "a"),
            ("1.ecr.aws", "b"),
            ("ecr.aws", "s"),
            ("docker.io", "c"),
            ("x", "s"),
        ] {
            assert_eq!(helper_of(&map, host).as_deref(), Some(want), "{host}");
        }
    }
}
