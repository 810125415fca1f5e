//! One exchange with a server: the connection (agents that share their pools, TLS and proxy by host), redirects, limits.
//!
//! Redirects are followed here and not by ureq, because each host has a TLS identity, a proxy and a trust of its own,
//! and credentials stay with the host they are for. What ureq would decompress is never asked for: a blob's bytes are
//! what its digest is of.

use crate::error::{Error, Result};
use crate::registry::cookies::Jar;
use crate::registry::failure::{Trouble, explain, explain_io};
use crate::registry::proxy::Proxies;
use crate::registry::text::clean;
use crate::registry::tls;
use crate::registry::url::Url;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::http::{HeaderMap, Request, Response};
use ureq::{Agent, Body, SendBody};

pub(crate) use ureq::http::Method;

/// A server that sends nothing for so long has stalled. BARGE_REGISTRY_TIMEOUT (seconds) says otherwise.
const STALL: Duration = Duration::from_secs(30);
/// What follows the last byte of an upload may be the server's hashing of all of it.
const PATIENT: Duration = Duration::from_secs(900);
const CONNECT: Duration = Duration::from_secs(20);
const REDIRECTS: usize = 10;
/// Bytes read at once: what a system call carries, and what a TLS record's worth of calls would cost otherwise.
const BUFFER: usize = 256 * 1024;

/// What an engine's command needs to talk to servers: settings and open connections.
pub(crate) struct Client {
    agents: Mutex<HashMap<Key, Agent>>,
    proxies: Proxies,
    stall: Duration,
    certificate_dirs: Vec<PathBuf>,
    /// Instead of `certs.d`, for every host of this command.
    cert_dir: Option<PathBuf>,
    /// Hosts that need not prove who they are.
    unverified: Mutex<HashSet<String>>,
    /// Nor any other: `--tls-verify=false`, which is for token servers as well.
    blind: bool,
    /// The hosts that `cert_dir` was given for. Others see its authorities, and never its client certificate.
    own: Mutex<HashSet<String>>,
    cookies: Mutex<Jar>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Agents with an identity are their host's alone.
    identity: Option<PathBuf>,
    /// The host is shown no client certificate.
    stranger: bool,
    verify: bool,
    proxy: Option<String>,
    patient: bool,
}

/// What is asked.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Only for the host of `url`.
    pub(crate) authorization: Option<String>,
    /// Whether the server's cookies are sent back to it, and kept.
    pub(crate) cookies: bool,
    pub(crate) payload: Payload<'a>,
}

/// What a request carries.
pub(crate) enum Payload<'a> {
    Empty,
    Bytes(&'a [u8]),
    /// A body of a known size that can be had again.
    Again(Repeatable<'a>),
    /// A body that can be had once, and whose size nobody knows yet; `None` when it has been sent.
    Once(Option<Passing<'a>>),
}

/// What is sent as it comes.
pub(crate) struct Passing<'a> {
    pub(crate) reader: Box<dyn Read + Send>,
    /// Is told how many bytes are on their way.
    pub(crate) sent: &'a dyn Fn(u64),
}

/// What can be sent as often as it takes.
pub(crate) struct Repeatable<'a> {
    pub(crate) size: u64,
    pub(crate) open: &'a mut dyn FnMut() -> Result<Box<dyn Read + Send>>,
    /// Is told how many bytes are on their way.
    pub(crate) sent: &'a dyn Fn(u64),
}

impl Payload<'_> {
    /// The same, for one request out of several.
    pub(crate) fn reborrow(&mut self) -> Payload<'_> {
        match self {
            Payload::Empty => Payload::Empty,
            Payload::Bytes(bytes) => Payload::Bytes(bytes),
            Payload::Again(body) => Payload::Again(Repeatable {
                size: body.size,
                open: &mut *body.open,
                sent: body.sent,
            }),
            Payload::Once(body) => Payload::Once(body.take()),
        }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where it came from in the end.
    pub(crate) url: Url,
    headers: HeaderMap,
    body: Body,
}

impl Client {
    pub(crate) fn new(certificate_dirs: Vec<PathBuf>, cert_dir: Option<PathBuf>) -> Client {
        let seconds = std::env::var("BARGE_REGISTRY_TIMEOUT")
            .ok()
            .and_then(|v| v.parse().ok());
        Client {
            agents: Mutex::default(),
            proxies: Proxies::from_environment(),
            stall: seconds.map_or(STALL, Duration::from_secs),
            certificate_dirs,
            cert_dir,
            unverified: Mutex::default(),
            blind: false,
            own: Mutex::default(),
            cookies: Mutex::default(),
        }
    }

    /// From now on `host` need not show a certificate we know.
    pub(crate) fn trust(&self, host: &str) {
        let mut hosts = self.unverified.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(host.to_owned());
    }

    /// Nobody need prove who they are.
    #[must_use]
    pub(crate) fn blind(mut self, blind: bool) -> Client {
        self.blind = blind;
        self
    }

    /// The certificate of `--cert-dir` is meant for this host.
    pub(crate) fn introduce(&self, host: &str) {
        self.own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(host.to_owned());
    }

    fn is_introduced(&self, host: &str) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    fn is_trusted(&self, host: &str) -> bool {
        if self.blind {
            return true;
        }
        let hosts = self.unverified.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.contains(host)
    }

    fn agent(&self, url: &Url, patient: bool) -> Result<Agent> {
        let key = Key {
            identity: self.identity_dir(&url.host).filter(|_| url.https),
            stranger: self.cert_dir.is_some() && !self.is_introduced(&url.host),
            verify: !self.is_trusted(&url.host),
            proxy: self.proxies.of(url).map(str::to_owned),
            patient,
        };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(&key, url.https)?;
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn new_agent(&self, key: &Key, https: bool) -> Result<Agent> {
        let identity = key
            .identity
            .as_deref()
            .map(tls::identity)
            .transpose()?
            .unwrap_or_default();
        let identity = if key.stranger { identity.authorities() } else { identity };
        let proxy = match &key.proxy {
            None => None,
            Some(address) => Some(
                ureq::Proxy::new(address)
                    .map_err(|_| Error::other("the address of the proxy (HTTPS_PROXY, HTTP_PROXY) is invalid"))?,
            ),
        };
        let wait = if key.patient {
            self.stall.max(PATIENT)
        } else {
            self.stall
        };
        let builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .timeout_connect(Some(CONNECT.min(self.stall)))
            .timeout_per_read(Some(wait))
            .timeout_per_write(Some(self.stall))
            .user_agent(user_agent())
            .accept("*/*")
            .max_response_header_size(256 * 1024)
            .max_idle_connections_per_host(8)
            .max_idle_connections(16)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER);
        Ok(match https {
            true => builder.tls_config(tls::config(&identity, key.verify)),
            false => builder,
        }
        .build()
        .new_agent())
    }

    /// The directory of `certs.d` that speaks of `host`.
    fn identity_dir(&self, host: &str) -> Option<PathBuf> {
        if let Some(dir) = &self.cert_dir {
            return Some(dir.clone());
        }
        self.certificate_dirs.iter().map(|d| d.join(host)).find(|d| d.is_dir())
    }

    /// Asks, and follows where the answer points to.
    pub(crate) fn exchange(&self, mut ask: Ask<'_>) -> Result<Answer, Trouble> {
        let mut seen = vec![ask.url.clone()];
        loop {
            let answer = self.once(&mut ask)?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let Some(location) = answer.header("location") else {
                return Ok(answer);
            };
            let next = ask.url.join(location).map_err(Trouble::fatal)?;
            self.check_redirect(&ask, &next, &seen).map_err(Trouble::fatal)?;
            if !next.same_origin(&ask.url) {
                ask.authorization = None;
            }
            if answer.status == 303 || (answer.status <= 302 && ask.method == Method::POST) {
                ask.method = Method::GET;
                ask.payload = Payload::Empty;
            }
            // What is posted may be a token (blobs and manifests are not posted).
            if !next.same_origin(&ask.url)
                && ask.method == Method::POST
                && matches!(ask.payload, Payload::Bytes(bytes) if !bytes.is_empty())
            {
                return Err(Trouble::fatal(Error::other(format!(
                    "{} redirects what is for it alone to {}",
                    ask.url.host, next.host
                ))));
            }
            seen.push(next.clone());
            ask.url = next;
        }
    }

    fn check_redirect(&self, ask: &Ask<'_>, next: &Url, seen: &[Url]) -> Result<()> {
        let host = &ask.url.host;
        if seen.contains(next) && !matches!(ask.method, Method::POST) {
            return Err(Error::other(format!("{host} redirects in a circle")));
        }
        if seen.len() > REDIRECTS {
            return Err(Error::other(format!(
                "{} redirects, more than {REDIRECTS}",
                seen[0].host
            )));
        }
        // To this machine neither: what listens there is not what the registry meant.
        if ask.url.https && !next.https && !self.is_trusted(&next.host) {
            return Err(Error::other(format!(
                "{host} redirects from https to plain http at {}",
                next.host
            )));
        }
        Ok(())
    }

    fn once(&self, ask: &mut Ask<'_>) -> Result<Answer, Trouble> {
        let host = ask.url.host.clone();
        let agent = self
            .agent(&ask.url, !matches!(ask.payload, Payload::Empty))
            .map_err(Trouble::fatal)?;
        let mut request = Request::builder().method(ask.method.clone()).uri(ask.url.to_string());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(value) = &ask.authorization {
            request = request.header("authorization", value);
        }
        if ask.cookies
            && let Some(value) = self.cookie(&ask.url)
        {
            request = request.header("cookie", value);
        }
        let invalid = || Trouble::fatal(Error::other(format!("invalid request to {host}")));
        let sent = match &mut ask.payload {
            Payload::Empty
                if ask.method == Method::GET || ask.method == Method::HEAD || ask.method == Method::DELETE =>
            {
                agent.run(request.body(()).map_err(|_| invalid())?)
            }
            Payload::Empty => agent.run(request.body(&[][..]).map_err(|_| invalid())?),
            Payload::Bytes(bytes) => agent.run(request.body(*bytes).map_err(|_| invalid())?),
            Payload::Once(body) => {
                let Some(body) = body.take() else {
                    return Err(Trouble::fatal(Error::other(format!(
                        "{host} wants to be sent it twice"
                    ))));
                };
                let mut reader = Counted {
                    inner: body.reader,
                    count: 0,
                    told: body.sent,
                };
                let body = SendBody::from_reader(&mut reader);
                agent.run(request.body(body).map_err(|_| invalid())?)
            }
            Payload::Again(body) => {
                let mut reader = Counted {
                    inner: (body.open)().map_err(Trouble::fatal)?.take(body.size),
                    count: 0,
                    told: body.sent,
                };
                let request = request.header("content-length", body.size);
                agent.run(
                    request
                        .body(SendBody::from_reader(&mut reader))
                        .map_err(|_| invalid())?,
                )
            }
        };
        let response: Response<Body> = sent.map_err(|e| explain(e, &host))?;
        let (parts, body) = response.into_parts();
        let answer = Answer {
            status: parts.status.as_u16(),
            url: ask.url.clone(),
            headers: parts.headers,
            body,
        };
        if ask.cookies {
            let mut jar = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
            jar.keep(&answer.url, &answer.headers("set-cookie"));
        }
        Ok(answer)
    }

    /// What a server of 2013 is told instead of a token, once it has set a cookie.
    pub(crate) fn cookie(&self, url: &Url) -> Option<String> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner).header(url)
    }
}

/// Says how much has been read of it.
struct Counted<'a, R> {
    inner: R,
    count: u64,
    told: &'a dyn Fn(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count += u64::try_from(n).unwrap_or(u64::MAX);
        (self.told)(self.count);
        Ok(n)
    }
}

fn user_agent() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("barge/{} os/linux arch/{architecture}", env!("CARGO_PKG_VERSION"))
}

impl Answer {
    /// The first header of this name, if it is plain text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// All headers of this name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect()
    }

    /// The media type, without parameters, in lower case.
    pub(crate) fn media_type(&self) -> Option<String> {
        let value = self.header("content-type")?.split(';').next()?.trim();
        Some(value.to_ascii_lowercase()).filter(|v| !v.is_empty())
    }

    /// How long the body says it is.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|v| v.trim().parse().ok())
    }

    /// The whole body; longer than `limit` is an error.
    pub(crate) fn bytes(self, limit: usize) -> Result<Vec<u8>, Trouble> {
        let host = self.url.host.clone();
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        let too_long = || Trouble::fatal(Error::other(format!("{host}: the answer is longer than {limit} bytes")));
        let announced = self.length();
        if announced.is_some_and(|n| n > most) {
            return Err(too_long());
        }
        let mut out = Vec::new();
        let mut reader = self.into_reader().take(most.saturating_add(1));
        reader.read_to_end(&mut out).map_err(|e| explain_io(&e, &host))?;
        match out.len() > limit {
            true => Err(too_long()),
            false => Ok(out),
        }
    }

    /// The body as it comes.
    pub(crate) fn into_reader(self) -> Box<dyn Read + Send> {
        Box::new(self.body.into_with_config().limit(u64::MAX).reader())
    }

    /// Reads what is left of a short body, so that the connection can be used again.
    pub(crate) fn drain(self) {
        let _ = io::copy(&mut self.into_reader().take(64 * 1024), &mut io::sink());
    }

    /// What the server has to say about a failure: its error codes and messages, never a page of HTML.
    pub(crate) fn complaint(self) -> (u16, String) {
        let status = self.status;
        let html = self.media_type().is_some_and(|t| t.contains("html"));
        let body = self.bytes(64 * 1024).unwrap_or_default();
        let text = match html {
            true => String::new(),
            false => errors_in(&body),
        };
        let named = ureq::http::StatusCode::from_u16(status)
            .ok()
            .and_then(|s| s.canonical_reason());
        let named = named.unwrap_or("unknown status").to_lowercase();
        match text.is_empty() {
            true => (status, format!("HTTP status {status} ({named})")),
            false => (status, format!("{text} (HTTP status {status})")),
        }
    }
}

/// `{"errors":[{"code":…,"message":…}]}`, `{"error":…}`, `{"message":…}` or a line of text (distribution-spec, "Error
/// Codes").
fn errors_in(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
        let text = String::from_utf8_lossy(body);
        let one_line = text.trim().lines().count() == 1 && !text.trim_start().starts_with('<');
        return if one_line { clean(&text) } else { String::new() };
    };
    let of = |e: &serde_json::Value| -> Option<String> {
        let text = |key: &str| {
            e.get(key)
                .and_then(|v| v.as_str())
                .filter(|v| !v.is_empty())
                .map(str::to_owned)
        };
        match (text("code"), text("message")) {
            (_, Some(message)) => Some(message),
            (Some(code), None) => Some(code.to_lowercase().replace('_', " ")),
            (None, None) => e.as_str().map(str::to_owned),
        }
    };
    let all: Vec<String> = match json.get("errors").and_then(|e| e.as_array()) {
        Some(errors) => errors.iter().take(3).filter_map(of).collect(),
        None if json.is_string() => of(&json).into_iter().collect(),
        None => ["details", "error", "message", "detail"]
            .iter()
            .find_map(|k| {
                json.get(k)
                    .and_then(of)
                    .or_else(|| json.get(k)?.as_str().map(str::to_owned))
            })
            .into_iter()
            .collect(),
    };
    clean(&all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_short_and_clean() {
        for (body, want) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#,
                "manifest unknown",
            ),
            (
                r#"{"errors":[{"code":"NAME_UNKNOWN"},{"message":"b\u001b[1m"}]}"#,
                "name unknown; b\\u{1b}[1m",
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            (r#"{"error":"no"}"#, "no"),
            (
                r#""Username or email already exists""#,
                "Username or email already exists",
            ),
            ("<html>\n<h1>502</h1>", ""),
            ("plain words\n", "plain words"),
            ("", ""),
            ("[]", ""),
        ] {
            assert_eq!(errors_in(body.as_bytes()), want, "{body}");
        }
    }
}
