//! Plain addresses: what `import URL`, `insert` and `ADD` fetch. No credentials are sent.

use crate::error::{Context as _, Error, Result};
use crate::registry::endpoint::{Call, Endpoint, To, Trust};
use crate::registry::http::Method;
use crate::registry::remote::Access;
use crate::registry::url::Url;
use std::io::Read;

/// A file on its way.
pub(crate) struct Download {
    pub(crate) reader: Box<dyn Read + Send>,
    /// If the server says.
    pub(crate) size: Option<u64>,
    /// The last part of the address's path, if it can be a file's name.
    pub(crate) name: Option<String>,
    /// When the server says it was changed last: seconds since 1970.
    pub(crate) modified: Option<i64>,
}

/// Begins to fetch `address`. Failures that pass are tried again; a body that breaks is an error.
pub(crate) fn get(address: &str, access: &Access) -> Result<Download> {
    let url = Url::parse(address)?;
    let what = || format!("fetch {url}");
    let trust = match access.tls_verify {
        Some(false) => Trust::Blind,
        _ => Trust::Proven,
    };
    let client = access.client();
    client.introduce(&url.host);
    let endpoint = Endpoint::new(client, &url.host, trust, None).with_retries(access.limits(3), access.notice.clone());
    let answer = endpoint
        .ask(Call::new(Method::GET, To::Url(&url), &[]))
        .with_context(what)?;
    if answer.status != 200 {
        return Err(Error::other(answer.complaint().1)).with_context(what);
    }
    Ok(Download {
        size: answer.length(),
        name: file_name(&url.path),
        modified: answer.header("last-modified").and_then(http_date),
        reader: answer.into_reader(),
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
    time.ok().map(jiff::Timestamp::as_second)
}

fn file_name(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let name = decoded(path.rsplit('/').next().unwrap_or_default())?;
    let good = !name.is_empty() && name != "." && name != ".." && !name.contains(|c: char| c == '/' || c.is_control());
    good.then_some(name)
}

/// Without `%20` and the like; `None` if that is not possible.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn names_of_files() {
        for (path, want) in [
            ("/a/b.tar.gz?x=/y", Some("b.tar.gz")),
            ("/a/", None),
            ("/..", None),
            ("/%2e%2e", None),
            ("/a%20b.c", Some("a b.c")),
            ("/a%2fb", None),
            ("/a%00", None),
            ("/a%", None),
            ("/a%ff", None),
        ] {
            assert_eq!(file_name(path).as_deref(), want, "{path}");
        }
    }
}
