//! Image names: `host/repository:tag@digest` (F006, F008, F009), with docker's short forms: `ubuntu` is
//! `docker.io/library/ubuntu`. One image name has one [`Reference`], however it was typed.

use crate::error::{Error, Result};
use crate::model::digest::Digest;
use crate::model::id::is_hex;
use std::fmt;

pub(crate) const DEFAULT_HOST: &str = "docker.io";
pub(crate) const DEFAULT_TAG: &str = "latest";

/// A name in full, which prints in its short form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reference {
    /// `docker.io`, `localhost:5000`.
    pub(crate) host: String,
    /// `library/ubuntu`, `team/app/web`.
    pub(crate) repository: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

impl Reference {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::other(format!("invalid image name '{text}': {why}"));
        if text.contains("://") {
            return Err(bad("it is not a URL").with_hint(format!("write it like {}", without_scheme(text))));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|e| bad(&e.to_string()))?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let (host, path) = split_host(name);
        if path.is_empty() {
            return Err(bad(if host.is_some() {
                "it names a registry, but no repository"
            } else {
                "it is empty"
            }));
        }
        if host.is_none() && path.len() == 64 && is_hex(path) {
            return Err(bad("64 hexadecimal digits are an id"));
        }
        if let Some(host) = host {
            check_host(host).map_err(|why| bad(&why))?;
        }
        // Upper case has never been possible at Docker Hub, but some private registries have it.
        check_path(path, host.is_some()).map_err(|why| bad(&why))?;
        let host = match host {
            None | Some("index.docker.io" | "registry-1.docker.io") => DEFAULT_HOST,
            Some(host) => host,
        };
        let repository = match path.contains('/') || host != DEFAULT_HOST {
            true => path.to_owned(),
            false => format!("library/{path}"),
        };
        if host.len() + repository.len() > 254 {
            return Err(bad("it is longer than 255 characters"));
        }
        Ok(Reference {
            host: host.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The same with the tag `latest`, unless it has a tag or a digest.
    #[must_use]
    pub(crate) fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// `docker.io/library/ubuntu`: host and repository in full.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// `ubuntu`: as short as it can be typed, without tag and digest. The REPOSITORY column.
    pub(crate) fn familiar_name(&self) -> String {
        if self.host != DEFAULT_HOST {
            return self.name();
        }
        match self.repository.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar_name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// What somebody meant who typed an address, as the documents of 2013 had it: `https://host/v1/repositories/a/b/tags/1`.
fn without_scheme(text: &str) -> String {
    let rest = text
        .split_once("://")
        .map_or(text, |(_, rest)| rest)
        .trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = ["v1/repositories/", "v2/", "v1/"]
        .iter()
        .find_map(|p| path.strip_prefix(p))
        .unwrap_or(path);
    let meant = match (path.split_once("/tags/"), path.split_once("/manifests/")) {
        (Some((name, tag)), _) | (None, Some((name, tag))) => format!("{host}/{name}:{tag}"),
        (None, None) => format!("{host}/{}", path.strip_suffix("/images").unwrap_or(path)),
    };
    match Reference::parse(&meant) {
        Ok(_) if !meant.contains("://") => meant,
        _ => "registry.domain.tld/myrepos".to_owned(),
    }
}

/// Splits at the last `:`, unless a `/` follows it (then it was a port).
pub(crate) fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first component is a registry when it has a `.` or a `:`, or is `localhost`.
fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    }
}

/// A letter, digit or `_`, then up to 127 of these and `.`, `-`.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    match good {
        true => Ok(()),
        false => {
            Err(Error::other(format!("Illegal tag name: {tag}")).with_hint("a tag has 1 to 128 of a-z A-Z 0-9 _ . -"))
        }
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_v6 = name.starts_with('[') && name.ends_with(']');
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let good_name = match is_v6 {
        true => name[1..name.len() - 1].parse::<std::net::Ipv6Addr>().is_ok(),
        false => name.split('.').all(label),
    };
    let good_port = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n > 0));
    match good_name && good_port {
        true => Ok(()),
        false => Err(format!("'{host}' is not a host with an optional port")),
    }
}

/// Components of letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn check_path(path: &str, upper: bool) -> Result<(), String> {
    for part in path.split('/') {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || (upper && b.is_ascii_uppercase());
        if part.is_empty() {
            return Err("a part between slashes is empty".to_owned());
        }
        if !upper && part.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!("repository name '{path}' must be lowercase"));
        }
        if let Some(c) = part
            .chars()
            .find(|c| !(c.is_ascii() && (good(*c as u8) || matches!(c, '.' | '_' | '-'))))
        {
            return Err(format!("'{}' is not allowed, only [a-z0-9-_.]", c.escape_default()));
        }
        let edges = part.bytes().next().is_some_and(good) && part.bytes().next_back().is_some_and(good);
        let joints = part
            .split(|c: char| c.is_ascii_alphanumeric())
            .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
        if !edges || !joints {
            return Err(format!(
                "'{part}' must begin and end with a letter or digit, with one separator between them"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_form() {
        for (text, name, short) in [
            ("ubuntu", "docker.io/library/ubuntu", "ubuntu"),
            ("ubuntu:12.04", "docker.io/library/ubuntu", "ubuntu:12.04"),
            ("library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
            ("docker.io/ubuntu:x", "docker.io/library/ubuntu", "ubuntu:x"),
            ("index.docker.io/shykes/app", "docker.io/shykes/app", "shykes/app"),
            ("shykes/pybuilder", "docker.io/shykes/pybuilder", "shykes/pybuilder"),
            ("localhost/a", "localhost/a", "localhost/a"),
            ("host:5000/ns/repo", "host:5000/ns/repo", "host:5000/ns/repo"),
            ("host:5000/ns/repo:t", "host:5000/ns/repo", "host:5000/ns/repo:t"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            (
                "reg.example.com/Team/App",
                "reg.example.com/Team/App",
                "reg.example.com/Team/App",
            ),
            ("a/b/c-d__e.f:1", "docker.io/a/b/c-d__e.f", "a/b/c-d__e.f:1"),
        ] {
            let r = Reference::parse(text).unwrap();
            assert_eq!((r.name(), r.to_string()), (name.to_owned(), short.to_owned()), "{text}");
            assert_eq!(Reference::parse(&r.to_string()).unwrap(), r, "{text}");
        }
    }

    #[test]
    fn digests_and_the_default_tag() {
        let digest = Digest::of(b"");
        let r = Reference::parse(&format!("a:1@{digest}")).unwrap();
        assert_eq!((r.tag.as_deref(), r.digest), (Some("1"), Some(digest)));
        assert_eq!(Reference::parse("a").unwrap().or_latest().to_string(), "a:latest");
        assert_eq!(Reference::parse(&format!("a@{digest}")).unwrap().or_latest().tag, None);
    }

    #[test]
    fn addresses_are_explained() {
        for (text, want) in [
            ("https://reg.example/team/app", "reg.example/team/app"),
            (
                "http://localhost:5000/v1/repositories/team/app/tags/1",
                "localhost:5000/team/app:1",
            ),
            ("https://reg.example/v1/repositories/app/images", "reg.example/app"),
            ("https://reg.example/v2/app/manifests/latest", "reg.example/app:latest"),
            ("https://reg.example/", "registry.domain.tld/myrepos"),
            ("https://https://x/y", "registry.domain.tld/myrepos"),
        ] {
            let e = Reference::parse(text).unwrap_err();
            assert_eq!(e.hint().unwrap(), format!("write it like {want}"), "{text}");
        }
    }

    #[test]
    fn bad_names_say_why() {
        for (text, why) in [
            ("", "empty"),
            ("https://reg/x", "URL"),
            ("localhost:5000/", "no repository"),
            ("Ubuntu", "lowercase"),
            ("a b", "' ' is not allowed"),
            ("a//b", "empty"),
            ("-a", "begin and end"),
            ("a..b", "one separator"),
            ("a:", "Illegal tag name: "),
            ("a:b c", "Illegal tag name: b c"),
            ("a@sha256:00", "digest"),
            ("host:99999/a", "optional port"),
            (&"a".repeat(64), "an id"),
            (&"ab/".repeat(100), "empty"),
        ] {
            let e = Reference::parse(text).unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
    }
}
