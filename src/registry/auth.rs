//! Getting in: challenges (RFC 9110 §11.6.1), tokens by scope (distribution's "Token Authentication"), identity tokens
//! (its OAuth2 variant), Basic. A token is asked for when a server asks for one, kept until it expires, and asked for
//! again when a server no longer takes it, in the middle of a pull too.

use crate::error::{Context as _, Error, Result};
use crate::registry::credentials::{Credentials, Secret};
use crate::registry::http::{Answer, Ask, Client, Method, Payload};
use crate::registry::text::clean;
use crate::registry::url::{Url, escape, is_loopback};
use base64::Engine as _;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const TOKEN_LIMIT: usize = 1 << 20;
/// Of a challenge; each is compared with the others, and asked for.
const MOST_SCOPES: usize = 32;
/// What the specification takes a token's life to be if nothing is said.
const SHORTEST: u64 = 60;

/// One `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case.
    scheme: String,
    parameters: HashMap<String, String>,
}

impl Challenge {
    pub(crate) fn is(&self, scheme: &str) -> bool {
        self.scheme == scheme
    }
}

/// How to get into one registry.
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    basic: bool,
    /// By scopes, sorted and joined.
    tokens: HashMap<String, Token>,
    /// What the token server said when it gave none.
    refusal: Option<Error>,
}

#[derive(Clone)]
struct Token {
    value: String,
    until: Instant,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>) -> Auth {
        Auth {
            credentials,
            state: Mutex::default(),
        }
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// What to send with a request that needs `scopes`; `None` as long as nobody has asked.
    pub(crate) fn header(&self, scopes: &[String]) -> Option<String> {
        if let Some(Secret::Registry(token)) = self.credentials.as_ref().map(|c| &c.secret) {
            return Some(format!("Bearer {token}"));
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.basic {
            return self.basic();
        }
        let token = state.tokens.get(&key(scopes))?;
        (Instant::now() < token.until).then(|| format!("Bearer {}", token.value))
    }

    /// User name and password, if that is what we have.
    pub(crate) fn basic(&self) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let Secret::Password(password) = &credentials.secret else {
            return None;
        };
        let pair = format!("{}:{password}", credentials.username);
        Some(format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair)))
    }

    /// Gets what a 401 asked for. `used` is what was sent when it came. Whether trying again makes sense.
    pub(crate) fn respond(
        &self,
        client: &Client,
        refused: &Answer,
        scopes: &[String],
        used: Option<&str>,
    ) -> Result<bool> {
        let now = self.header(scopes);
        if now.is_some() && now.as_deref() != used {
            // Another thread was faster.
            return Ok(true);
        }
        let challenges = parse_challenges(&refused.headers("www-authenticate"));
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            if matches!(self.credentials.as_ref().map(|c| &c.secret), Some(Secret::Registry(_))) {
                return Ok(false);
            }
            let token = self.fetch(client, bearer, &refused.url, scopes)?;
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            return Ok(match token {
                Ok(token) => {
                    state.basic = false;
                    state.tokens.insert(key(scopes), token);
                    true
                }
                Err(refusal) => {
                    state.refusal = Some(refusal);
                    false
                }
            });
        }
        if challenges.iter().any(|c| c.scheme == "basic") && used.is_none() && self.basic().is_some() {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.basic = true;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether only somebody with a password gets in. Where anybody is given a token that then does not do, the name may
    /// be wrong as well.
    pub(crate) fn needs_login(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.credentials.is_none() && state.tokens.is_empty()
    }

    /// Why there is no token, if the token server gave none.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .refusal
            .clone()
    }

    /// A token, or what the server says to giving none.
    fn fetch(
        &self,
        client: &Client,
        challenge: &Challenge,
        from: &Url,
        scopes: &[String],
    ) -> Result<Result<Token, Error>> {
        let what = || format!("ask for a token for {}", from.host);
        let realm = challenge
            .parameters
            .get("realm")
            .ok_or_else(|| Error::other("the challenge names no realm"))
            .with_context(what)?;
        let realm = from.join(realm).with_context(what)?;
        // A registry of this machine is no reason to send a password over the network in clear, either.
        let worse = from.https || (is_loopback(&from.host) && !is_loopback(&realm.host));
        if !realm.https && worse {
            return Err(Error::other(format!(
                "{} wants its tokens asked for over plain http",
                from.host
            )));
        }
        let service = challenge.parameters.get("service").map(String::as_str);
        let mut wanted = scopes.to_vec();
        let scopes_there = challenge.parameters.get("scope");
        for scope in scopes_there.iter().flat_map(|s| s.split(' ')).take(MOST_SCOPES) {
            if !scope.is_empty() && !wanted.iter().any(|w| covers(w, scope)) {
                wanted.push(scope.to_owned());
            }
        }
        let identity = match self.credentials.as_ref().map(|c| &c.secret) {
            Some(Secret::Identity(token)) => Some(token.as_str()),
            _ => None,
        };
        let answer = match identity {
            Some(token) => Auth::by_identity(client, &realm, service, &wanted, token),
            None => self.by_password(client, &realm, service, &wanted),
        };
        let asked = Instant::now();
        let answer = answer.with_context(what)?;
        match answer.status {
            200 => {}
            400 | 401 | 403 => return Ok(Err(refusal(answer, self.has_credentials()))),
            _ => return Err(refusal(answer, self.has_credentials())).with_context(what),
        }
        let body = answer.bytes(TOKEN_LIMIT).map_err(Error::from).with_context(what)?;
        let granted: Granted =
            serde_json::from_slice(&body).map_err(|_| Error::other(format!("{} answers no JSON", realm.host)))?;
        let value = granted.token.or(granted.access_token).filter(|t| !t.is_empty());
        let value = value
            .ok_or_else(|| Error::other("there is no token in the answer"))
            .with_context(what)?;
        if !value.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::other(format!("{}: invalid token", realm.host)));
        }
        // A little early, so that it does not expire on the way; clocks need not agree.
        let life = granted.expires_in.unwrap_or(SHORTEST).clamp(SHORTEST, 86_400);
        Ok(Ok(Token {
            value,
            until: asked + Duration::from_secs(life - life / 10),
        }))
    }

    /// GET, with Basic if there is a password; anonymous otherwise.
    fn by_password(&self, client: &Client, realm: &Url, service: Option<&str>, scopes: &[String]) -> Result<Answer> {
        let mut url = realm.clone();
        if let Some(credentials) = &self.credentials {
            url = url.with_query("account", &credentials.username);
        }
        if let Some(service) = service {
            url = url.with_query("service", service);
        }
        for scope in scopes {
            url = url.with_query("scope", scope);
        }
        let ask = Ask {
            method: Method::GET,
            url,
            headers: vec![("accept", "application/json".to_owned())],
            authorization: self.basic(),
            cookies: false,
            payload: Payload::Empty,
        };
        Ok(client.exchange(ask)?)
    }

    /// POST of a refresh token (distribution's "Token Authentication", OAuth2).
    fn by_identity(
        client: &Client,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
        token: &str,
    ) -> Result<Answer> {
        let form = format!(
            "grant_type=refresh_token&refresh_token={}&service={}&client_id=barge&scope={}",
            escape(token),
            escape(service.unwrap_or_default()),
            escape(&scopes.join(" "))
        );
        let ask = Ask {
            method: Method::POST,
            url: realm.clone(),
            headers: vec![
                ("accept", "application/json".to_owned()),
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ],
            authorization: None,
            cookies: false,
            payload: Payload::Bytes(form.as_bytes()),
        };
        Ok(client.exchange(ask)?)
    }
}

/// A 401 or 403 in words.
pub(crate) fn refusal(answer: Answer, with_credentials: bool) -> Error {
    let (status, complaint) = answer.complaint();
    let e = Error::other(complaint);
    match (status, with_credentials) {
        (401, true) => e.with_hint("the user name or the password is wrong, or has been changed: `barge login`"),
        (401 | 403, false) => e.with_hint("the name may be wrong, or this needs `barge login`"),
        _ => e,
    }
}

fn key(scopes: &[String]) -> String {
    let mut scopes = scopes.to_vec();
    scopes.sort();
    scopes.join(" ")
}

/// Whether what `ours` asks for includes `scope` (`repository:a:pull,push` does `repository:a:pull`).
fn covers(ours: &str, scope: &str) -> bool {
    match (ours.rsplit_once(':'), scope.rsplit_once(':')) {
        (Some((a, actions)), Some((b, wanted))) => {
            a == b
                && wanted
                    .split(',')
                    .all(|w| actions.split(',').any(|x| x == w || x == "*"))
        }
        _ => ours == scope,
    }
}

/// All challenges of some `WWW-Authenticate` headers, several in one header included.
pub(crate) fn parse_challenges(headers: &[&str]) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    for header in headers {
        let mut rest = header.trim();
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| c == '=' || c == ',' || c.is_whitespace())
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let after_blanks = after.trim_start();
            if let (Some(value), Some(challenge)) = (after_blanks.strip_prefix('='), found.last_mut()) {
                let (value, left) = parameter(value.trim_start());
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
                rest = left.trim_start_matches([',', ' ', '\t']);
            } else {
                if !word.is_empty() {
                    found.push(Challenge {
                        scheme: clean(word).to_ascii_lowercase(),
                        parameters: HashMap::new(),
                    });
                }
                rest = after_blanks.trim_start_matches([',', ' ', '\t', '=']);
            }
        }
    }
    found
}

/// A quoted string or a word, and what follows.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(header: &str) -> Vec<(String, Vec<(String, String)>)> {
        parse_challenges(&[header])
            .into_iter()
            .map(|c| {
                let mut all: Vec<_> = c.parameters.into_iter().collect();
                all.sort();
                (c.scheme, all)
            })
            .collect()
    }

    #[test]
    fn challenges_in_every_form() {
        let p = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let s = str::to_owned;
        assert_eq!(one("Basic realm=\"a b\""), [(s("basic"), vec![p("realm", "a b")])]);
        assert_eq!(
            one(r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#),
            [(
                s("bearer"),
                vec![
                    p("realm", "https://a/t"),
                    p("scope", "repository:x:pull,push"),
                    p("service", "s")
                ]
            )]
        );
        assert_eq!(
            one(r#"Basic realm="auth required",Token"#),
            [(s("basic"), vec![p("realm", "auth required")]), (s("token"), vec![])]
        );
        assert_eq!(
            one(r#"Negotiate, BEARER Realm = x , error="a\"b""#),
            [
                (s("negotiate"), vec![]),
                (s("bearer"), vec![p("error", "a\"b"), p("realm", "x")])
            ]
        );
        for odd in ["", ",", "=", "a==,b", "Bearer realm=\"unfinished", "\"", "é=ü"] {
            parse_challenges(&[odd]);
        }
    }

    #[test]
    fn scopes_cover_each_other() {
        assert!(covers("repository:a/b:pull,push", "repository:a/b:pull"));
        assert!(covers("repository:a:*", "repository:a:delete"));
        assert!(!covers("repository:a:pull", "repository:a:pull,push"));
        assert!(!covers("repository:a:pull", "repository:b:pull"));
    }
}
