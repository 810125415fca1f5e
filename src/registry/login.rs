//! `login` and `logout`: which registry is meant, whether it takes the credentials, who is logged in.

use crate::error::{Context as _, Error, Kind, Result};
use crate::model::reference::DEFAULT_HOST;
use crate::registry::config::Config;
use crate::registry::credentials::{Credentials, HUB_KEY, Keyring, Saved, normalise};
use crate::registry::endpoint::{Call, Endpoint, Trust};
use crate::registry::remote::{Access, Action, HUB_API};
use crate::registry::text::clean;
use crate::registry::url::Url;
use crate::registry::v1::{self, Entered, Spoken};

/// What somebody logs into.
pub(crate) struct Server {
    /// The key of its entry: a host, with a namespace perhaps.
    key: String,
    host: String,
    /// The namespace, or nothing.
    repository: String,
}

impl Server {
    /// A host, a URL of whatever age, or the beginning of a repository's name (F220). Nothing is Docker Hub.
    pub(crate) fn parse(text: &str) -> Result<Server> {
        let key = match text.trim() {
            "" => DEFAULT_HOST.to_owned(),
            text => normalise(text),
        };
        let (host, repository) = key.split_once('/').unwrap_or((&key, ""));
        Url::parse(&format!("https://{host}/")).map_err(|_| match text.contains('@') {
            true => Error::usage("credentials do not belong into the name of a registry"),
            false => Error::usage(format!("'{}' is not the name of a registry", clean(text))),
        })?;
        Ok(Server {
            host: host.to_owned(),
            repository: repository.to_owned(),
            key,
        })
    }

    /// As people are shown it: what was saved, what is asked.
    pub(crate) fn shown(&self) -> &str {
        match self.key.as_str() {
            DEFAULT_HOST => HUB_KEY,
            key => key,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.key
    }
}

/// What is known of whoever calls.
pub(crate) struct Logins {
    config: Config,
    keyring: Keyring,
}

impl Logins {
    pub(crate) fn open(access: &Access) -> Result<Logins> {
        let config = Config::load()?;
        let keyring = Keyring::of_caller(access.authfile.as_deref(), config.helpers());
        Ok(Logins { config, keyring })
    }

    /// The credentials that would be used for `server`.
    pub(crate) fn known(&self, server: &Server, warn: &dyn Fn(&str)) -> Result<Option<Credentials>> {
        self.keyring.find(&server.host, &server.repository, warn)
    }

    fn endpoint(&self, server: &Server, credentials: Option<&Credentials>, access: &Access) -> Endpoint {
        let trust = Trust::of(&server.host, self.config.is_insecure(&server.host), access.tls_verify);
        let host = match server.host.as_str() {
            DEFAULT_HOST => HUB_API,
            other => other,
        };
        let client = access.client();
        client.introduce(host);
        Endpoint::new(client, host, trust, credentials.cloned()).with_retries(access.limits(2), access.notice.clone())
    }

    /// Whether it is an index of 2013, where accounts are made: there an address is asked for.
    pub(crate) fn makes_accounts(&self, server: &Server, access: &Access) -> bool {
        let endpoint = self.endpoint(server, None, access);
        matches!(
            v1::probe(&endpoint, Action::Push),
            Ok(Spoken::Of2013 { standalone: false })
        )
    }

    /// Fails unless the registry takes them; with [`Kind::LoginRequired`] if they are wrong. `email`: at an index of
    /// 2013, an account is made with it if there is none.
    pub(crate) fn check(
        &self,
        server: &Server,
        credentials: &Credentials,
        email: Option<&str>,
        access: &Access,
    ) -> Result<Entered> {
        let what = || format!("login to {}", server.name());
        let endpoint = self.endpoint(server, Some(credentials), access);
        let answer = endpoint.ask(Call::get("/v2/", &[])).with_context(what)?;
        let html = answer.media_type().is_some_and(|t| t.contains("html"));
        match answer.status {
            200 if !html => {
                answer.drain();
                Ok(Entered::In)
            }
            // Docker's words, which scripts look for.
            401 => Err(Error::new(
                Kind::LoginRequired,
                "unauthorized: incorrect username or password",
            ))
            .with_context(what),
            _ => {
                let e = endpoint.failed(&what(), answer);
                match v1::probe(&endpoint, Action::Push)? {
                    Spoken::Of2013 { standalone } => {
                        let email = email.filter(|_| !standalone);
                        v1::enter(&endpoint, credentials, email).with_context(what)
                    }
                    Spoken::Today => Err(e),
                    Spoken::Neither => Err(v1::is_no_registry(&endpoint, &e)),
                }
            }
        }
    }

    pub(crate) fn save(&self, server: &Server, credentials: &Credentials) -> Result<Saved> {
        self.keyring.save(&server.key, credentials)
    }

    /// Whether there was anything to forget.
    pub(crate) fn forget(&self, server: &Server) -> Result<bool> {
        self.keyring.remove(&server.key)
    }

    pub(crate) fn forget_all(&self) -> Result<usize> {
        self.keyring.remove_all()
    }

    /// The files that are looked at.
    pub(crate) fn places(&self) -> String {
        self.keyring.shown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_in_every_form() {
        for (text, key, shown) in [
            ("", "docker.io", HUB_KEY),
            ("docker.io", "docker.io", HUB_KEY),
            ("https://index.docker.io/v1/", "docker.io", HUB_KEY),
            ("localhost:8080", "localhost:8080", "localhost:8080"),
            ("https://reg.example/v1/", "reg.example", "reg.example"),
            ("https://reg.example/v2/", "reg.example", "reg.example"),
            ("http://reg.example:80", "reg.example:80", "reg.example:80"),
            ("reg.example/team", "reg.example/team", "reg.example/team"),
        ] {
            let server = Server::parse(text).unwrap();
            assert_eq!((server.name(), server.shown()), (key, shown), "{text}");
        }
        for bad in ["a b", "u:p@host", "\u{1b}[1m"] {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }
}
