//! Session cookies (RFC 6265, as far as registries of 2013 use them): kept for one command, sent back to the very server
//! that set them and to no other.

use crate::registry::url::Url;
use std::collections::HashMap;

/// Of one server.
const MOST: usize = 32;
/// Bytes of name and value.
const LONGEST: usize = 4096;

/// Scheme, host and port: a cookie that came by https does not go out in clear.
type Origin = (bool, String, u16);

#[derive(Default)]
pub(super) struct Jar {
    cookies: HashMap<Origin, Vec<Cookie>>,
}

struct Cookie {
    name: String,
    value: String,
    path: String,
}

fn origin(url: &Url) -> Origin {
    let (host, port) = url.host_and_port();
    (url.https, host.to_owned(), port)
}

impl Jar {
    /// `a=1; b=2`; `None` if there is nothing for this address.
    pub(super) fn header(&self, url: &Url) -> Option<String> {
        let own = self.cookies.get(&origin(url))?;
        let fitting = own.iter().filter(|c| url.path.starts_with(&c.path));
        let pairs: Vec<String> = fitting.map(|c| format!("{}={}", c.name, c.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Takes the `Set-Cookie` headers of an answer from `url`. What is no cookie is passed over.
    pub(super) fn keep(&mut self, url: &Url, headers: &[&str]) {
        for header in headers {
            if let Some((cookie, gone)) = parse(header) {
                let own = self.cookies.entry(origin(url)).or_default();
                own.retain(|c| c.name != cookie.name || c.path != cookie.path);
                if !gone && own.len() < MOST {
                    own.push(cookie);
                }
            }
        }
    }
}

/// The cookie, and whether it is being taken back.
fn parse(header: &str) -> Option<(Cookie, bool)> {
    let mut parts = header.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let good = |b: u8| b.is_ascii_graphic() && b != b';' && b != b',';
    let plain = |text: &str| text.bytes().all(|b| good(b) || b == b' ');
    if name.is_empty() || name.len() + value.len() > LONGEST || !name.bytes().all(good) || !plain(value) {
        return None;
    }
    let (mut path, mut gone) = ("/", value.is_empty());
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match key.to_ascii_lowercase().as_str() {
            "path" if value.starts_with('/') => path = value,
            "max-age" => gone = value.parse::<i64>().is_ok_and(|seconds| seconds <= 0),
            // Nothing else lies in the past as soon as it is set.
            "expires" if value.contains("1970") => gone = true,
            _ => {}
        }
    }
    let cookie = Cookie {
        name: name.to_owned(),
        value: value.to_owned(),
        path: path.to_owned(),
    };
    Some((cookie, gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_stay_with_their_server() {
        let url = |text: &str| Url::parse(text).unwrap();
        let mut jar = Jar::default();
        jar.keep(
            &url("https://r:5000/v1/x"),
            &["session=\"a|b=\"; Path=/; HttpOnly", "p=1; path=/v1/p"],
        );
        assert_eq!(jar.header(&url("https://r:5000/v1/y")).unwrap(), "session=\"a|b=\"");
        assert_eq!(
            jar.header(&url("https://r:5000/v1/p/q")).unwrap(),
            "session=\"a|b=\"; p=1"
        );
        for other in ["http://r:5000/v1/y", "https://r/v1/y", "https://q:5000/v1/y"] {
            assert_eq!(jar.header(&url(other)), None, "{other}");
        }
        jar.keep(&url("https://r:5000/"), &["session=new"]);
        assert_eq!(jar.header(&url("https://r:5000/")).unwrap(), "session=new");
        for gone in [
            "session=x; Max-Age=0",
            "session=; Path=/",
            "session=x; Expires=Thu, 01-Jan-1970 00:00:00 GMT",
        ] {
            jar.keep(&url("https://r:5000/"), &["session=new", gone]);
            assert_eq!(jar.header(&url("https://r:5000/")), None, "{gone}");
        }
        for odd in [
            "",
            "=",
            "novalue",
            "a\u{1b}=1",
            "a=\u{7f}",
            &format!("a={}", "x".repeat(5000)),
        ] {
            jar.keep(&url("https://r:5000/"), &[odd]);
        }
        assert_eq!(jar.header(&url("https://r:5000/")), None);
        let many: Vec<String> = (0..99).map(|n| format!("c{n}=1")).collect();
        jar.keep(
            &url("https://many:5000/"),
            &many.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        assert_eq!(
            jar.header(&url("https://many:5000/")).unwrap().matches("c").count(),
            MOST
        );
    }
}
