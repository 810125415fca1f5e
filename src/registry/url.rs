//! Absolute http and https addresses, as far as registries need them: taken apart, put together, and `Location`
//! headers resolved against them (RFC 3986 §5, without fragments).

use crate::error::{Error, Result};
use crate::registry::text::clean;
use std::fmt;

/// `https://host:port/path?query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) https: bool,
    /// With the port, if it was written down.
    pub(crate) host: String,
    /// Begins with `/`; the query is part of it.
    pub(crate) path: String,
}

impl Url {
    pub(crate) fn new(https: bool, host: &str, path: &str) -> Url {
        Url {
            https,
            host: host.to_owned(),
            path: path.to_owned(),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Url> {
        let bad = |why: &str| Error::other(format!("invalid address '{}': {why}", clean(text)));
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| bad("it does not begin with https://"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(bad("only http and https are known")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        if host.contains('@') {
            // Nor would it be wise to show it.
            return Err(Error::other("invalid address: it has credentials in it"));
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        if host.is_empty() || !host.bytes().all(good) {
            return Err(bad("there is no host in it"));
        }
        let path = match path.bytes().next() {
            None => "/".to_owned(),
            Some(b'?') => format!("/{path}"),
            Some(_) => path.to_owned(),
        };
        if !path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("it has blanks, control characters or letters beyond ASCII in it"));
        }
        Ok(Url {
            https,
            host: host.to_ascii_lowercase(),
            path,
        })
    }

    /// What `location` means in an answer from here.
    pub(crate) fn join(&self, location: &str) -> Result<Url> {
        let scheme = if self.https { "https" } else { "http" };
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let joined = match location.chars().next() {
            None => self.path.clone(),
            Some('/') => location.to_owned(),
            Some('?') => format!("{path}{location}"),
            Some(_) => {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                format!("{dir}/{}", location.trim_start_matches("./"))
            }
        };
        Url::parse(&format!("{scheme}://{}{joined}", self.host))
    }

    /// The same with one more `name=value`; the value is escaped.
    #[must_use]
    pub(crate) fn with_query(mut self, name: &str, value: &str) -> Url {
        let sign = if self.path.contains('?') { '&' } else { '?' };
        self.path = format!("{}{sign}{name}={}", self.path, escape(value));
        self
    }

    /// Whether credentials for the one may be sent to the other.
    pub(crate) fn same_origin(&self, other: &Url) -> bool {
        self.https == other.https && self.host_and_port() == other.host_and_port()
    }

    /// Host, and the port even if it is the scheme's own.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        let default = if self.https { 443 } else { 80 };
        split_port(&self.host, default)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

/// `host:port` → both; brackets of an IPv6 address go.
pub(crate) fn split_port(host: &str, default: u16) -> (&str, u16) {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, after) = rest.split_once(']').unwrap_or((rest, ""));
        let port = after.strip_prefix(':').and_then(|p| p.parse().ok());
        return (address, port.unwrap_or(default));
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name, port.parse().unwrap_or(default)),
        _ => (host, default),
    }
}

/// `localhost`, 127.0.0.0/8, `::1`: what is sent there does not leave the machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = split_port(host, 0).0;
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// For a query or a form: everything but letters, digits and `-._~` as %XX.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("https://reg:5000/v2/a/blobs/uploads/?x=1").unwrap();
        for (location, want) in [
            ("https://cdn.example/b?sig=a/b", "https://cdn.example/b?sig=a/b"),
            ("http://h", "http://h/"),
            ("HTTP://H?q#frag", "http://h/?q"),
            ("//other:1/x", "https://other:1/x"),
            ("/v2/y?z=2", "https://reg:5000/v2/y?z=2"),
            ("/r?to=http://x/", "https://reg:5000/r?to=http://x/"),
            ("uuid?s", "https://reg:5000/v2/a/blobs/uploads/uuid?s"),
            ("./uuid", "https://reg:5000/v2/a/blobs/uploads/uuid"),
            ("?n=1", "https://reg:5000/v2/a/blobs/uploads/?n=1"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), want, "{location}");
        }
        for bad in [
            "ftp://x/",
            "https://",
            "https:///x",
            "https://u:p@h/",
            "https://h/a b",
            "https://h/\u{1b}[2J",
        ] {
            let e = base.join(bad).unwrap_err().to_string();
            assert!(!e.contains("u:p") && !e.contains('\u{1b}'), "{e}");
        }
    }

    #[test]
    fn queries_and_origins() {
        let url = Url::parse("https://h/up?s=1")
            .unwrap()
            .with_query("digest", "sha256:ab c");
        assert_eq!(url.to_string(), "https://h/up?s=1&digest=sha256%3Aab%20c");
        assert!(url.same_origin(&Url::parse("https://h:443/x").unwrap()));
        assert!(!url.same_origin(&Url::parse("http://h:443/x").unwrap()));
        assert!(!url.same_origin(&Url::parse("https://h:444/x").unwrap()));
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5000",
            "a.localhost",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example.com",
            "128.0.0.1",
            "127.0.0.1.example.com",
            "[::2]",
            "10.0.0.1:80",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
