//! One registry: which scheme it speaks, how to get in, and when a request is made again.

use crate::error::{Error, Result};
use crate::registry::auth::{Auth, refusal};
use crate::registry::credentials::Credentials;
use crate::registry::failure::Trouble;
use crate::registry::http::{Answer, Ask, Client, Method, Payload};
use crate::registry::retry::{self, Limits, Progress, Reason};
use crate::registry::url::{Url, is_loopback};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Is told what delays us.
pub(crate) type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// How a registry may be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// https with a proof.
    Proven,
    /// The same, or plain http: what is sent does not leave the machine.
    Local,
    /// Whatever it speaks.
    Blind,
}

impl Trust {
    /// `insecure` is what the administrator says, `verify` what `--tls-verify` does.
    pub(crate) fn of(host: &str, insecure: bool, verify: Option<bool>) -> Trust {
        match verify {
            Some(true) => Trust::Proven,
            Some(false) => Trust::Blind,
            None if insecure => Trust::Blind,
            None if is_loopback(host) => Trust::Local,
            None => Trust::Proven,
        }
    }
}

/// A registry.
pub(crate) struct Endpoint {
    client: Arc<Client>,
    pub(crate) host: String,
    trust: Trust,
    auth: Auth,
    /// What it turned out to speak.
    https: OnceLock<bool>,
    pub(crate) limits: Limits,
    notice: Option<Notice>,
    /// It has refused something in a way that today's registries need not.
    strange: AtomicBool,
}

/// A request to a registry.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) to: To<'a>,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// What a token must allow.
    pub(crate) scopes: &'a [String],
    pub(crate) payload: Payload<'a>,
    entry: Entry,
}

/// How a request gets in.
enum Entry {
    /// With what the registry's challenges ask for.
    Challenged,
    /// As in 2013: with this, if anything, and with cookies.
    Given(Option<String>),
}

pub(crate) enum To<'a> {
    /// `/v2/…`
    Path(&'a str),
    /// Where the registry said.
    Url(&'a Url),
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, to: To<'a>, scopes: &'a [String]) -> Call<'a> {
        Call {
            method,
            to,
            headers: Vec::new(),
            scopes,
            payload: Payload::Empty,
            entry: Entry::Challenged,
        }
    }

    pub(crate) fn get(path: &'a str, scopes: &'a [String]) -> Call<'a> {
        Call::new(Method::GET, To::Path(path), scopes)
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A request of 2013: this is the `Authorization`, and the server's cookies go with it.
    #[must_use]
    pub(crate) fn of_2013(mut self, authorization: Option<String>) -> Self {
        self.entry = Entry::Given(authorization);
        self
    }

    #[must_use]
    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

impl Endpoint {
    pub(crate) fn new(client: Arc<Client>, host: &str, trust: Trust, credentials: Option<Credentials>) -> Endpoint {
        if trust == Trust::Blind {
            client.trust(host);
        }
        Endpoint {
            client,
            host: host.to_owned(),
            trust,
            auth: Auth::new(credentials),
            https: OnceLock::new(),
            limits: Limits {
                attempts: 5,
                delay: None,
            },
            notice: None,
            strange: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub(crate) fn with_retries(mut self, limits: Limits, notice: Option<Notice>) -> Endpoint {
        self.limits = limits;
        self.notice = notice;
        self
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.auth.has_credentials()
    }

    /// After a 401: whether logging in is what has to be done.
    pub(crate) fn needs_login(&self) -> bool {
        self.auth.needs_login()
    }

    /// `Authorization: Basic`, if there is a password.
    pub(crate) fn basic(&self) -> Option<String> {
        self.auth.basic()
    }

    /// Whether it may be a registry of 2013: it answered, and not as one of today.
    pub(crate) fn is_strange(&self) -> bool {
        self.strange.load(Ordering::Relaxed)
    }

    /// Whether it has set a cookie for this path.
    pub(crate) fn has_cookie(&self, path: &str) -> bool {
        self.client
            .cookie(&Url::new(self.is_https(), &self.host, path))
            .is_some()
    }

    /// The scheme that answered; https as long as none has.
    pub(crate) fn is_https(&self) -> bool {
        *self.https.get().unwrap_or(&true)
    }

    pub(crate) fn tell(&self, what: &str) {
        if let Some(notice) = &self.notice {
            notice(what);
        }
    }

    /// Asks until there is an answer that is final, or no sense in asking. Every status is an answer here, but those
    /// that pass.
    pub(crate) fn ask(&self, mut call: Call<'_>) -> Result<Answer> {
        let mut progress = Progress::default();
        loop {
            let trouble = match self.attempt(&mut call) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            if !self.pause(&trouble, progress) {
                return Err(trouble.error);
            }
            progress.failures += 1;
        }
    }

    /// Waits as long as the trouble asks for; whether to try again.
    pub(crate) fn pause(&self, trouble: &Trouble, progress: Progress) -> bool {
        let Some(delay) = retry::delay(trouble.reason, progress, self.limits) else {
            return false;
        };
        if delay > Duration::ZERO {
            self.tell(&format!("{}: trying again in {}", trouble.error, shown(delay)));
            std::thread::sleep(delay);
        }
        true
    }

    /// One request, with a challenge answered on the way. 429 and 5xx are trouble, 401 that stays is, too.
    pub(crate) fn attempt(&self, call: &mut Call<'_>) -> Result<Answer, Trouble> {
        let mut challenged = false;
        loop {
            let (used, given) = match &call.entry {
                Entry::Given(given) => (given.clone(), true),
                Entry::Challenged => (self.auth.header(call.scopes), false),
            };
            let answer = self.exchange(call, used.as_deref())?;
            let known = answer.header("docker-distribution-api-version").is_some();
            let html = answer.media_type().is_some_and(|t| t.contains("html"));
            if !known && (answer.status >= 400 || html) {
                self.strange.store(true, Ordering::Relaxed);
            }
            if answer.status == 401 && given {
                return Ok(answer);
            }
            if answer.status == 401 {
                let renewed = !challenged
                    && self.is_own(&answer.url)
                    && self
                        .auth
                        .respond(&self.client, &answer, call.scopes, used.as_deref())
                        .map_err(Trouble::fatal)?;
                if renewed {
                    challenged = true;
                    answer.drain();
                    continue;
                }
                return Ok(answer);
            }
            let after = answer
                .header("retry-after")
                .and_then(|h| retry::retry_after(h, jiff::Timestamp::now()));
            return match retry::of_status(answer.status, after) {
                None => Ok(answer),
                Some(reason) => Err(self.passing(reason, answer)),
            };
        }
    }

    /// Whether an answer is the registry's own. Where it sent us, or what an image says of a foreign layer, may ask for
    /// credentials as it likes: a challenge of theirs would name a realm of their choice (CVE-2020-15157).
    fn is_own(&self, url: &Url) -> bool {
        Url::new(self.is_https(), &self.host, "/").same_origin(url)
    }

    fn passing(&self, reason: Reason, answer: Answer) -> Trouble {
        let host = answer.url.host.clone();
        let (_, complaint) = answer.complaint();
        let error = Error::other(format!("{host}: {complaint}"));
        Trouble {
            error: match reason {
                Reason::TooMany { .. } if !self.has_credentials() => error.with_hint(format!(
                    "{host} limits how much may be pulled; `barge login` may raise the limit"
                )),
                _ => error,
            },
            perhaps_plain: false,
            reason,
        }
    }

    fn exchange(&self, call: &mut Call<'_>, authorization: Option<&str>) -> Result<Answer, Trouble> {
        let undecided = self.https.get().is_none();
        let base = Url::new(self.is_https(), &self.host, "/");
        let url = match call.to {
            To::Path(path) => Url {
                path: path.to_owned(),
                ..base
            },
            // One that stands behind a proxy for TLS does not know its own scheme.
            To::Url(url) => Url {
                https: url.https || (self.https.get() == Some(&true) && url.host == base.host),
                ..url.clone()
            },
        };
        let decided = |https: bool| {
            let _ = self.https.set(https);
        };
        match self.send(call, url.clone(), authorization) {
            Ok(answer) => {
                decided(url.https);
                Ok(answer)
            }
            Err(trouble) if undecided && url.https && trouble.perhaps_plain && self.trust != Trust::Proven => {
                let plain = Url { https: false, ..url };
                let answer = self.send(call, plain, authorization)?;
                decided(false);
                Ok(answer)
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn send(&self, call: &mut Call<'_>, url: Url, authorization: Option<&str>) -> Result<Answer, Trouble> {
        let own = Url::new(url.https, &self.host, "/");
        let ask = Ask {
            method: call.method.clone(),
            authorization: authorization.filter(|_| own.same_origin(&url)).map(str::to_owned),
            url,
            headers: call.headers.clone(),
            cookies: matches!(call.entry, Entry::Given(_)),
            payload: call.payload.reborrow(),
        };
        self.client.exchange(ask)
    }

    /// An answer that means failure, in words; `what` was wanted.
    pub(crate) fn failed(&self, what: &str, answer: Answer) -> Error {
        let html = answer.media_type().is_some_and(|t| t.contains("html"));
        let host = answer.url.host.clone();
        let e = match (answer.status, self.auth.refusal()) {
            (401, Some(refusal)) => refusal,
            _ => self.explained(answer, html, &host),
        };
        let hint = e.hint().map(str::to_owned);
        let wrapped = Error::new(e.kind(), format!("{what}: {e}"));
        match hint {
            Some(hint) => wrapped.with_hint(hint),
            None => wrapped,
        }
    }

    fn explained(&self, answer: Answer, html: bool, host: &str) -> Error {
        match answer.status {
            401 | 403 => refusal(answer, self.has_credentials()),
            200..300 if html => not_a_registry(host),
            404 if html => not_a_registry(host),
            _ => Error::other(answer.complaint().1),
        }
    }
}

fn not_a_registry(host: &str) -> Error {
    Error::other(format!("{host} answers with a web page"))
        .with_hint("is it a registry, or does a proxy or a login page stand before it?")
}

fn shown(delay: Duration) -> String {
    match delay.subsec_millis() {
        0 => format!("{}s", delay.as_secs()),
        ms => format!("{}.{}s", delay.as_secs(), ms / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_trusted_how() {
        for (host, insecure, verify, want) in [
            ("r.io", false, None, Trust::Proven),
            ("r.io", true, None, Trust::Blind),
            ("r.io", false, Some(false), Trust::Blind),
            ("localhost:5000", false, None, Trust::Local),
            ("localhost:5000", true, Some(true), Trust::Proven),
            ("127.0.0.1", true, None, Trust::Blind),
        ] {
            assert_eq!(Trust::of(host, insecure, verify), want, "{host} {insecure} {verify:?}");
        }
    }
}
