//! containers-registries.conf(5), version 2: `registries.conf`, then `registries.conf.d/*.conf` in order of their names,
//! the machine's and then the user's. Of version 1, the lists of names are understood.

use crate::error::{Context as _, Error, Result};
use crate::model::reference::{DEFAULT_HOST, Reference, split_tag};
use crate::registry::config::{Serves, Source, read};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(super) struct Registries {
    entries: Vec<Entry>,
    unqualified: Vec<String>,
    aliases: BTreeMap<String, String>,
    helpers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    credential_helpers: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<Entry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    registries: Option<Version1>,
}

#[derive(Debug, Default, Deserialize)]
struct Version1 {
    #[serde(default)]
    search: Names,
    #[serde(default)]
    insecure: Names,
    #[serde(default)]
    block: Names,
}

#[derive(Debug, Default, Deserialize)]
struct Names {
    #[serde(default)]
    registries: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<String>,
}

impl Registries {
    pub(super) fn load(home: Option<&Path>) -> Result<Registries> {
        let mut found = Registries::default();
        for path in files(home)? {
            if let Some(text) = read(&path)? {
                found.add(&text).with_context(|| path.display().to_string())?;
            }
        }
        Ok(found)
    }

    /// One more file, which overrides what came before.
    fn add(&mut self, text: &str) -> Result<()> {
        let file: File = toml::from_str(text).map_err(|e| Error::other(format!("is damaged: {}", e.message())))?;
        let mut entries = file.registry;
        if let Some(old) = file.registries {
            entries.extend(old.insecure.registries.into_iter().map(|location| Entry {
                location,
                insecure: true,
                ..Entry::default()
            }));
            entries.extend(old.block.registries.into_iter().map(|location| Entry {
                location,
                blocked: true,
                ..Entry::default()
            }));
            self.unqualified = old.search.registries;
        }
        for mut entry in entries {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            if entry.prefix.is_empty() {
                return Err(Error::other("a [[registry]] has neither `prefix` nor `location`"));
            }
            if entry.location.is_empty() && !entry.prefix.starts_with("*.") {
                entry.location.clone_from(&entry.prefix);
            }
            for mirror in &entry.mirror {
                serves(mirror, &entry)?;
            }
            self.entries.retain(|e| e.prefix != entry.prefix);
            self.entries.push(entry);
        }
        if let Some(list) = file.unqualified_search_registries {
            self.unqualified = list;
        }
        if let Some(list) = file.credential_helpers {
            self.helpers = list;
        }
        for (name, target) in file.aliases {
            match target.is_empty() {
                true => self.aliases.remove(&name),
                false => self.aliases.insert(name, target),
            };
        }
        Ok(())
    }

    /// Whether no registry is spoken of.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn helpers(&self) -> Vec<String> {
        // The files themselves are asked anyway.
        self.helpers
            .iter()
            .filter(|h| *h != "containers-auth.json")
            .cloned()
            .collect()
    }

    pub(super) fn unqualified(&self) -> Vec<String> {
        match self.unqualified.is_empty() {
            true => vec![DEFAULT_HOST.to_owned()],
            false => self.unqualified.clone(),
        }
    }

    pub(super) fn candidates(&self, typed: &str) -> Result<Vec<Reference>> {
        let plain = Reference::parse(typed)?;
        let without_digest = typed.split('@').next().unwrap_or(typed);
        let (name, _) = split_tag(without_digest);
        let first = name.split('/').next().unwrap_or_default();
        let qualified = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
        if qualified {
            return Ok(vec![plain]);
        }
        let suffix = &typed[name.len()..];
        if let Some(target) = self.aliases.get(name) {
            return Ok(vec![Reference::parse(&format!("{target}{suffix}"))?]);
        }
        self.unqualified()
            .iter()
            .map(|host| Reference::parse(&format!("{host}/{typed}")))
            .collect()
    }

    /// The entry with the longest prefix of `name`.
    fn entry(&self, name: &str) -> Option<&Entry> {
        let fits = self
            .entries
            .iter()
            .filter(|e| length_of_match(&e.prefix, name).is_some());
        fits.max_by_key(|e| length_of_match(&e.prefix, name))
    }

    pub(super) fn is_insecure(&self, host: &str) -> bool {
        self.entry(host).is_some_and(|e| e.insecure)
    }

    pub(super) fn sources(&self, reference: &Reference, mirrors: bool) -> Result<Vec<Source>> {
        let name = reference.name();
        let itself = |insecure| Source {
            host: reference.host.clone(),
            repository: reference.repository.clone(),
            insecure,
            mirror: false,
            serves: Serves::All,
        };
        let Some(entry) = self.entry(&name) else {
            return Ok(vec![itself(false)]);
        };
        if entry.blocked {
            return Err(Error::other(format!(
                "registry {} is blocked in registries.conf",
                reference.host
            )));
        }
        let rest = &name[length_of_match(&entry.prefix, &name).unwrap_or(0)..];
        let mut sources = Vec::new();
        if mirrors {
            for mirror in &entry.mirror {
                let (host, repository) = place(&mirror.location, rest)?;
                sources.push(Source {
                    host,
                    repository,
                    insecure: mirror.insecure,
                    mirror: true,
                    serves: serves(mirror, entry)?,
                });
            }
        }
        sources.push(match entry.location.is_empty() {
            true => itself(entry.insecure),
            false => {
                let (host, repository) = place(&entry.location, rest)?;
                Source {
                    host,
                    repository,
                    insecure: entry.insecure,
                    mirror: false,
                    serves: Serves::All,
                }
            }
        });
        Ok(sources)
    }
}

/// `location` and what followed the prefix → host and repository.
fn place(location: &str, rest: &str) -> Result<(String, String)> {
    let full = format!("{}{rest}", location.trim_end_matches('/'));
    match full.split_once('/') {
        Some((host, repository)) if !host.is_empty() && !repository.is_empty() => {
            Ok((host.to_owned(), repository.to_owned()))
        }
        _ => Err(Error::other(format!(
            "registries.conf: location {location} names no registry"
        ))),
    }
}

fn serves(mirror: &Mirror, entry: &Entry) -> Result<Serves> {
    match mirror.pull_from_mirror.as_deref() {
        None if entry.mirror_by_digest_only => Ok(Serves::Digests),
        None | Some("all") => Ok(Serves::All),
        Some("digest-only") => Ok(Serves::Digests),
        Some("tag-only") => Ok(Serves::Tags),
        Some(other) => Err(Error::other(format!("pull-from-mirror = \"{other}\" is unknown"))),
    }
}

/// How much of `name` the prefix takes; `*.domain` takes the whole host.
fn length_of_match(prefix: &str, name: &str) -> Option<usize> {
    let end_of_part = |at: usize| matches!(name.as_bytes().get(at), None | Some(b'/' | b':' | b'@'));
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = name.split('/').next().unwrap_or_default();
        let bare = host.split(':').next().unwrap_or_default();
        return (domain.starts_with('.') && bare.len() > domain.len() && bare.ends_with(domain)).then_some(host.len());
    }
    (name.starts_with(prefix) && end_of_part(prefix.len())).then_some(prefix.len())
}

fn files(home: Option<&Path>) -> Result<Vec<PathBuf>> {
    let user = home.map(|h| h.join(".config/containers"));
    let main = match std::env::var_os("CONTAINERS_REGISTRIES_CONF").filter(|v| !v.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => user
            .as_ref()
            .map(|dir| dir.join("registries.conf"))
            .filter(|path| path.exists())
            .unwrap_or_else(|| "/etc/containers/registries.conf".into()),
    };
    let mut all = vec![main];
    let dirs = [
        Some("/etc/containers/registries.conf.d".into()),
        user.map(|d| d.join("registries.conf.d")),
    ];
    for dir in dirs.into_iter().flatten() {
        all.extend(drop_ins(&dir)?);
    }
    Ok(all)
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("read {}", dir.display())),
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "conf"))
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(texts: &[&str]) -> Registries {
        let mut registries = Registries::default();
        for text in texts {
            registries.add(text).unwrap();
        }
        registries
    }

    fn shown(registries: &Registries, name: &str, mirrors: bool) -> String {
        match registries.sources(&Reference::parse(name).unwrap(), mirrors) {
            Err(e) => e.to_string(),
            Ok(all) => all
                .iter()
                .map(|s| {
                    let flags = [
                        (s.insecure, "!"),
                        (s.mirror, "~"),
                        (s.serves == Serves::Digests, "@"),
                        (s.serves == Serves::Tags, ":"),
                    ];
                    let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, c)| *c).collect();
                    format!("{}/{}{flags}", s.host, s.repository)
                })
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn sources_of_a_name() {
        let r = with(&[r#"
            [[registry]]
            prefix = "docker.io"
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.example:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "second"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "example.com/foo"
            location = "internal.example.com/bar"
            [[registry]]
            location = "plain:5000"
            insecure = true
            [[registry]]
            prefix = "*.evil.com"
            blocked = true
            [[registry]]
            prefix = "docker.io/library/special"
            location = "elsewhere.io/special"
            [[registry]]
            location = "tags.io"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.io"
            "#]);
        for (name, want) in [
            (
                "debian",
                "mirror.example:5000/hub/library/debian!~ second/library/debian~@ docker.io/library/debian",
            ),
            ("special:1", "elsewhere.io/special"),
            (
                "specials",
                "mirror.example:5000/hub/library/specials!~ second/library/specials~@ docker.io/library/specials",
            ),
            ("example.com/foo/x", "internal.example.com/bar/x"),
            ("example.com/foo", "internal.example.com/bar"),
            ("example.com/food", "example.com/food"),
            ("plain:5000/a", "plain:5000/a!"),
            ("plain.io/a", "plain.io/a"),
            ("a.evil.com/x", "registry a.evil.com is blocked in registries.conf"),
            ("tags.io/x", "m.io/x~@ tags.io/x"),
        ] {
            assert_eq!(shown(&r, name, true), want, "{name}");
        }
        assert_eq!(shown(&r, "debian", false), "docker.io/library/debian");
        assert!(r.is_insecure("plain:5000") && !r.is_insecure("plain"));
    }

    #[test]
    fn later_files_override() {
        let r = with(&[
            "unqualified-search-registries = [\"a.io\"]\n[[registry]]\nlocation = \"x.io\"\nblocked = true\n[aliases]\n\"fedora\" = \"f.io/fedora\"\n\"gone\" = \"g.io/g\"",
            "credential-helpers = [\"containers-auth.json\", \"pass\"]\n[[registry]]\nlocation = \"x.io\"\n[aliases]\n\"gone\" = \"\"",
            "unqualified-search-registries = [\"b.io\", \"docker.io\"]",
        ]);
        assert_eq!(shown(&r, "x.io/a", true), "x.io/a");
        assert_eq!(r.helpers(), ["pass"]);
        let names = |typed: &str| {
            r.candidates(typed)
                .unwrap()
                .iter()
                .map(|n| format!("{}:{}", n.name(), n.tag.as_deref().unwrap_or("")))
                .collect::<Vec<_>>()
        };
        assert_eq!(names("fedora:40"), ["f.io/fedora:40"]);
        assert_eq!(names("gone"), ["b.io/gone:", "docker.io/library/gone:"]);
        assert_eq!(names("team/app:1"), ["b.io/team/app:1", "docker.io/team/app:1"]);
        assert_eq!(names("q.io/a"), ["q.io/a:"]);
        assert_eq!(names("localhost/a"), ["localhost/a:"]);
        let none = Registries::default();
        assert_eq!(none.candidates("a").unwrap(), [Reference::parse("a").unwrap()]);
    }

    #[test]
    fn version_1_and_damage() {
        let r = with(&[
            "[registries.search]\nregistries = ['s.io']\n[registries.insecure]\nregistries = ['i:1']\n[registries.block]\nregistries = ['b.io']",
        ]);
        assert_eq!(r.unqualified(), ["s.io"]);
        assert!(r.is_insecure("i:1"));
        assert!(shown(&r, "b.io/x", true).contains("blocked"));
        for bad in [
            "x",
            "[[registry]]\ninsecure = true",
            "[[registry]]\nlocation='a'\n[[registry.mirror]]\nlocation='b'\npull-from-mirror='x'",
        ] {
            assert!(Registries::default().add(bad).is_err(), "{bad}");
        }
    }
}
