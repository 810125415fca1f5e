//! Which proxy a request goes through: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not, read
//! as curl and Go's net/http read them.

use crate::registry::url::{Url, is_loopback};
use std::net::IpAddr;

/// The environment's wishes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    https: Option<String>,
    http: Option<String>,
    exceptions: Vec<String>,
}

impl Proxies {
    pub(crate) fn from_environment() -> Proxies {
        Proxies::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let either = |name: &str| {
            [name.to_ascii_uppercase(), name.to_ascii_lowercase()]
                .iter()
                .find_map(|n| variable(n).filter(|v| !v.trim().is_empty()))
        };
        // A CGI program's HTTP_PROXY is the header `Proxy:` of its client (CVE-2016-5385).
        let http = match variable("REQUEST_METHOD") {
            Some(_) => variable("http_proxy"),
            None => either("http_proxy"),
        };
        let all = either("all_proxy");
        Proxies {
            https: either("https_proxy").or_else(|| all.clone()),
            http: http.or(all),
            exceptions: either("no_proxy")
                .unwrap_or_default()
                .split(',')
                .map(|e| e.trim().to_ascii_lowercase())
                .filter(|e| !e.is_empty())
                .collect(),
        }
    }

    /// The proxy's address for a request to `url`.
    pub(crate) fn of(&self, url: &Url) -> Option<&str> {
        let proxy = if url.https { &self.https } else { &self.http };
        let (host, port) = url.host_and_port();
        match is_loopback(&url.host) || self.exceptions.iter().any(|e| matches(e, host, port)) {
            true => None,
            false => proxy.as_deref(),
        }
    }
}

/// `*`, an address, a CIDR, `example.com` (and what is below it), `.example.com` (only what is below), `*.example.com`,
/// each with a port perhaps.
fn matches(exception: &str, host: &str, port: u16) -> bool {
    if exception == "*" {
        return true;
    }
    if let (Some((network, length)), Ok(address)) = (exception.split_once('/'), host.parse::<IpAddr>()) {
        return in_network(address, network, length).unwrap_or(false);
    }
    let (name, wanted) = match exception.parse::<IpAddr>() {
        Ok(_) => (exception, 0),
        Err(_) => crate::registry::url::split_port(exception, 0),
    };
    if wanted != 0 && wanted != port {
        return false;
    }
    if let (Ok(a), Ok(b)) = (name.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        return a == b;
    }
    let host = host.to_ascii_lowercase();
    let below = |suffix: &str| {
        host.strip_suffix(suffix)
            .is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
    };
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(suffix) => below(suffix),
        None => host == name || below(name),
    }
}

/// Whether `address` is in `network/length`; `None` if that is no network.
pub(crate) fn in_network(address: IpAddr, network: &str, length: &str) -> Option<bool> {
    let length: u32 = length.parse().ok()?;
    match (address, network.parse().ok()?) {
        (IpAddr::V4(a), IpAddr::V4(n)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Some(a.to_bits() & mask == n.to_bits() & mask)
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Some(a.to_bits() & mask == n.to_bits() & mask)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(set: &'static [(&str, &str)]) -> Proxies {
        Proxies::from(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    fn of(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&Url::parse(url).unwrap()).map(str::to_owned)
    }

    #[test]
    fn the_scheme_chooses() {
        let p = proxies(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "http://p:2")]);
        assert_eq!(of(&p, "https://a/").as_deref(), Some("http://s:1"));
        assert_eq!(of(&p, "http://a/").as_deref(), Some("http://p:2"));
        assert_eq!(of(&p, "https://localhost:5000/"), None);
        assert_eq!(of(&p, "https://127.0.0.1/"), None);
        let p = proxies(&[("ALL_PROXY", "socks5://x:1"), ("HTTPS_PROXY", " ")]);
        assert_eq!(of(&p, "https://a/").as_deref(), Some("socks5://x:1"));
        let p = proxies(&[("HTTP_PROXY", "http://evil"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(of(&p, "http://a/"), None);
    }

    #[test]
    fn exceptions() {
        for (exception, host, want) in [
            ("*", "a.b", true),
            ("example.com", "example.com", true),
            ("example.com", "reg.EXAMPLE.com", true),
            ("example.com", "badexample.com", false),
            (".example.com", "example.com", false),
            (".example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("example.com:443", "example.com", true),
            ("example.com:80", "example.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/8", "ten.example", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("fd00::/8", "fd12::1", true),
            ("192.168.1.1", "192.168.1.1", true),
            ("10.0.0.0/99", "10.0.0.0", false),
        ] {
            assert_eq!(matches(exception, host, 443), want, "{exception} {host}");
        }
    }
}
