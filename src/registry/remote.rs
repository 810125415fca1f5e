//! The one interface to a repository, whatever its registry speaks.

use crate::error::{Error, Kind, Result};
use crate::model::digest::Digest;
use crate::model::reference::{DEFAULT_HOST, DEFAULT_TAG, Reference};
use crate::registry::config::{Config, Source, check_policy, home};
use crate::registry::credentials::{Credentials, Keyring};
use crate::registry::endpoint::{Endpoint, Notice, Trust};
use crate::registry::http::{Client, Passing};
use crate::registry::retry::Limits;
use crate::registry::url::is_loopback;
use crate::registry::v1::{self, Spoken};
use crate::registry::v2::blob::BlobReader;
use crate::registry::v2::upload::{Blob, Upload};
use crate::registry::{tls, v2};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Docker Hub's registry, which has another name than its images.
pub(crate) const HUB_API: &str = "registry-1.docker.io";

/// How the caller wants to get in; the default is what files and environment say.
#[derive(Default, Clone)]
pub(crate) struct Access {
    /// `--authfile`
    pub(crate) authfile: Option<PathBuf>,
    /// `--creds`
    pub(crate) credentials: Option<Credentials>,
    /// `--tls-verify`
    pub(crate) tls_verify: Option<bool>,
    /// `--cert-dir`
    pub(crate) cert_dir: Option<PathBuf>,
    /// Attempts without progress.
    pub(crate) retry: Option<u32>,
    /// Time between two of them.
    pub(crate) retry_delay: Option<Duration>,
    /// Is told of delays and of mirrors that failed.
    pub(crate) notice: Option<Notice>,
}

const ATTEMPTS: u32 = 5;

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
    Delete,
}

/// Which manifest.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Selector<'a> {
    Tag(&'a str),
    Digest(&'a Digest),
}

/// What a registry says of a manifest without giving it.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// `None`: it does not say.
    pub(crate) digest: Option<Digest>,
}

/// A manifest.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    /// As the registry calls it.
    pub(crate) media_type: Option<String>,
    /// Of the bytes.
    pub(crate) digest: Digest,
}

/// A blob to fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) digest: &'a Digest,
    pub(crate) size: Option<u64>,
    /// Where else it may be: foreign layers.
    pub(crate) urls: &'a [String],
}

/// What became of an attempt to mount a blob from another repository.
pub(crate) enum Mount {
    Mounted,
    /// It has to be sent, and this is where to.
    Upload(Upload),
}

/// A repository at a registry of today; to be shared between threads. What is not one may be of 2013:
/// [`Remote::of_2013`].
pub(crate) struct Remote {
    today: v2::Repository,
    opener: Opener,
    places: Vec<(Arc<Endpoint>, Source)>,
}

/// What it takes to speak to another server for the same repository.
pub(crate) struct Opener {
    config: Config,
    client: Arc<Client>,
    access: Access,
    reference: Reference,
    action: Action,
}

impl Action {
    /// What doing it is called when it is refused, as docker says it.
    pub(super) fn denied(self, name: &str, e: &Error, kind: Kind) -> Error {
        let verb = match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        };
        let text =
            format!("{verb} access denied for {name}, repository does not exist or may require 'barge login': {e}");
        let denied = Error::new(kind, text);
        match e.hint() {
            Some(hint) => denied.with_hint(hint),
            None => denied,
        }
    }
}

impl<'a> Selector<'a> {
    pub(crate) fn of(reference: &'a Reference) -> Selector<'a> {
        match (&reference.digest, &reference.tag) {
            (Some(digest), _) => Selector::Digest(digest),
            (None, Some(tag)) => Selector::Tag(tag),
            (None, None) => Selector::Tag(DEFAULT_TAG),
        }
    }
}

impl Remote {
    /// Reads the configuration and checks what it forbids; nothing is sent yet.
    pub(crate) fn open(reference: &Reference, action: Action, access: &Access) -> Result<Remote> {
        let config = Config::load()?;
        let sources = match action {
            Action::Pull => {
                check_policy(reference)?;
                config.pull_sources(reference)?
            }
            Action::Push | Action::Delete => config.push_source(reference)?,
        };
        let client = access.client();
        let keyring = Keyring::of_caller(access.authfile.as_deref(), config.helpers());
        let mut places = Vec::new();
        for source in sources {
            let endpoint = access.endpoint(&client, &keyring, &source)?;
            places.push((Arc::new(endpoint), source));
        }
        let of_today = places.iter().map(|(endpoint, source)| v2::Place {
            endpoint: endpoint.clone(),
            repository: source.repository.clone(),
            mirror: source.mirror,
            serves: source.serves,
        });
        Ok(Remote {
            today: v2::Repository::new(reference, action, of_today.collect()),
            opener: Opener {
                config,
                client,
                access: access.clone(),
                reference: reference.clone(),
                action,
            },
            places,
        })
    }

    /// The same repository at those of its places that speak the dialect of 2013, in order. They are asked only if they
    /// have answered, and not as a registry of today does. `failure` is what came of asking that way; if a place speaks
    /// neither, that is the error.
    pub(crate) fn of_2013(&self, failure: &Error) -> Result<Vec<v1::Repository<'_>>> {
        let mut found = Vec::new();
        for (endpoint, source) in self.places.iter().filter(|(e, _)| e.is_strange()) {
            match v1::probe(endpoint, self.opener.action)? {
                Spoken::Today => {}
                Spoken::Of2013 { standalone } => {
                    found.push(v1::Repository::new(
                        &self.opener,
                        endpoint,
                        &source.repository,
                        standalone,
                    ));
                }
                Spoken::Neither if source.mirror => {}
                Spoken::Neither => return Err(v1::is_no_registry(endpoint, failure)),
            }
        }
        Ok(found)
    }

    /// Before anything is sent: whether the registry is one of 2013.
    pub(crate) fn writable_of_2013(&self) -> Result<Option<v1::Repository<'_>>> {
        let Some((endpoint, source)) = self.places.last() else {
            return Ok(None);
        };
        Ok(match v1::probe(endpoint, self.opener.action)? {
            Spoken::Of2013 { standalone } => Some(v1::Repository::new(
                &self.opener,
                endpoint,
                &source.repository,
                standalone,
            )),
            // What it has to say then is more to the point.
            Spoken::Today | Spoken::Neither => None,
        })
    }

    /// `docker.io/library/debian`
    pub(crate) fn name(&self) -> &str {
        self.today.name()
    }

    /// `None` if there is no such manifest.
    pub(crate) fn head_manifest(&self, which: Selector<'_>, accept: &[&str]) -> Result<Option<Head>> {
        self.today.head_manifest(which, accept)
    }

    pub(crate) fn fetch_manifest(&self, which: Selector<'_>, accept: &[&str]) -> Result<Fetched> {
        self.today.fetch_manifest(which, accept)
    }

    /// A small one, whole, with its digest checked.
    pub(crate) fn fetch_blob(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>> {
        self.today.fetch_blob(digest, limit)
    }

    /// The bytes from `offset` on.
    pub(crate) fn open_blob(&self, wanted: Wanted<'_>, offset: u64) -> Result<BlobReader> {
        self.today.open_blob(wanted, offset)
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        self.today.has_blob(digest)
    }

    pub(crate) fn mount_blob(&self, digest: &Digest, from_repository: &str) -> Result<Mount> {
        self.today.mount_blob(digest, from_repository)
    }

    /// Sends `size` bytes that `open` gives, from the start each time it is called; `sent` is told how many are there.
    pub(crate) fn upload_blob(
        &self,
        digest: &Digest,
        size: u64,
        open: &mut dyn FnMut() -> Result<Box<dyn Read + Send>>,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        self.today.upload_blob(digest, size, open, sent)
    }

    /// For who can't go on.
    pub(super) fn abandon_uploads(&self) {
        self.today.abandon_uploads();
    }

    /// Before anything is known of what will be sent.
    pub(crate) fn begin_upload(&self) -> Result<Upload> {
        self.today.begin_upload()
    }

    /// Sends what a reader gives, as it comes. [`Remote::upload_into`] sends what is missing then, and ends it.
    pub(crate) fn stream(upload: Upload, body: Passing<'_>) -> Upload {
        v2::Repository::stream(upload, body)
    }

    /// The same into an upload that has begun.
    pub(crate) fn upload_into(&self, upload: Upload, blob: Blob<'_>) -> Result<()> {
        self.today.upload_into(upload, blob)
    }

    pub(crate) fn put_manifest(&self, which: Selector<'_>, media_type: &str, bytes: &[u8]) -> Result<()> {
        self.today.put_manifest(which, media_type, bytes)
    }

    pub(crate) fn list_tags(&self) -> Result<Vec<String>> {
        self.today.list_tags()
    }

    pub(crate) fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.today.delete_manifest(digest)
    }
}

impl Opener {
    pub(crate) fn action(&self) -> Action {
        self.action
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// A server that another one names. It gets no credentials; and if it says it is on this machine, it must prove who
    /// it is, unless the one that names it is, too.
    pub(crate) fn named(&self, host: &str, by: &str) -> Endpoint {
        let insecure = self.config.is_insecure(host);
        let trust = match Trust::of(host, insecure, self.access.tls_verify) {
            Trust::Local if !is_loopback(by) => Trust::Proven,
            other => other,
        };
        let endpoint = Endpoint::new(self.client.clone(), host, trust, None);
        endpoint.with_retries(self.access.limits(ATTEMPTS), self.access.notice.clone())
    }
}

impl Access {
    /// `attempts` if nothing is said.
    pub(crate) fn limits(&self, attempts: u32) -> Limits {
        Limits {
            attempts: self.retry.unwrap_or(attempts),
            delay: self.retry_delay,
        }
    }

    /// Without what was given for one registry: credentials and client certificates.
    pub(crate) fn for_another(&self) -> Access {
        Access {
            credentials: None,
            cert_dir: None,
            ..self.clone()
        }
    }

    pub(crate) fn client(&self) -> Arc<Client> {
        let dirs = tls::certificate_dirs(home().as_deref());
        Arc::new(Client::new(dirs, self.cert_dir.clone()).blind(self.tls_verify == Some(false)))
    }

    /// With the credentials that are known for it.
    pub(crate) fn endpoint(&self, client: &Arc<Client>, keyring: &Keyring, source: &Source) -> Result<Endpoint> {
        let warn = |text: &str| {
            if let Some(notice) = &self.notice {
                notice(text);
            }
        };
        let credentials = match &self.credentials {
            // They are for the registry that was named, not for mirrors of it.
            Some(given) if !source.mirror => Some(given.clone()),
            _ => keyring.find(&source.host, &source.repository, &warn)?,
        };
        let trust = Trust::of(&source.host, source.insecure, self.tls_verify);
        let host = match source.host.as_str() {
            DEFAULT_HOST => HUB_API,
            other => other,
        };
        if !source.mirror {
            client.introduce(host);
        }
        let endpoint = Endpoint::new(client.clone(), host, trust, credentials);
        let mut limits = self.limits(ATTEMPTS);
        if source.mirror {
            // There is another place to ask.
            limits.attempts = 1;
        }
        Ok(endpoint.with_retries(limits, self.notice.clone()))
    }
}
