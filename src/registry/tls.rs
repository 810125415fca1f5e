//! Whom we believe to be a registry, and what we show them: the host's roots (Mozilla's where it has none), and for
//! single registries the authorities and client certificates of `certs.d` (docker's certs.d(5) and containers-certs.d(5):
//! `HOST[:PORT]/*.crt` are authorities, `NAME.cert` with `NAME.key` a client's).

use crate::error::{Context as _, Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Where `certs.d` is looked for, the first that has the registry wins.
pub(crate) fn certificate_dirs(home: Option<&Path>) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    dirs.extend(home.map(|h| h.join(".config/containers/certs.d")));
    dirs.push("/etc/containers/certs.d".into());
    dirs.push("/etc/docker/certs.d".into());
    dirs
}

/// What `certs.d` says about one registry.
#[derive(Default)]
pub(crate) struct Identity {
    authorities: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

impl Identity {
    /// Whom to believe, without what shows who we are.
    pub(crate) fn authorities(self) -> Identity {
        Identity { client: None, ..self }
    }
}

/// Reads the directory of one registry; an unreadable or wrong file is an error, since it was put there on purpose.
pub(crate) fn identity(dir: &Path) -> Result<Identity> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Identity::default()),
        Err(e) => return Err(e).with_context(|| format!("read {}", dir.display())),
    };
    let mut names: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    names.sort();
    let mut identity = Identity::default();
    for path in names {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => identity.authorities.extend(certificates(&path)?),
            Some("cert") if identity.client.is_none() => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(missing(&path, &key));
                }
                identity.client = Some(client(&path, &key)?);
            }
            Some("key") if !path.with_extension("cert").exists() => {
                return Err(missing(&path, &path.with_extension("cert")));
            }
            _ => {}
        }
    }
    Ok(identity)
}

fn missing(have: &Path, lacks: &Path) -> Error {
    Error::other(format!("{} is there, but {} is not", have.display(), lacks.display()))
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    parse_pem(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Error::other(format!("{} is not PEM", path.display())))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let found: Vec<_> = items(path)?
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(c) => Some(c),
            _ => None,
        })
        .collect();
    match found.is_empty() {
        true => Err(Error::other(format!("{} has no certificate in it", path.display()))),
        false => Ok(found),
    }
}

fn client(certificate: &Path, key: &Path) -> Result<ClientCert> {
    let chain = certificates(certificate)?;
    let private = items(key)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    let private = private.ok_or_else(|| Error::other(format!("{} has no private key in it", key.display())))?;
    check_pair(&chain, &private)
        .map_err(|e| Error::other(format!("{} and {}: {e}", certificate.display(), key.display())))?;
    Ok(ClientCert::new_with_certs(&chain, private))
}

/// ureq aborts the program on a pair that does not fit.
fn check_pair(chain: &[Certificate<'static>], key: &PrivateKey<'static>) -> Result<(), rustls::Error> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let key = PrivateKeyDer::try_from(key.der().to_vec()).map_err(|e| rustls::Error::General(e.to_owned()))?;
    let chain = chain.iter().map(|c| CertificateDer::from(c.der().to_vec())).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(chain, key)
        .map(drop)
}

/// The TLS side of an agent.
pub(crate) fn config(identity: &Identity, verify: bool) -> TlsConfig {
    let roots = match verify {
        // Not looked at, and reading the host's costs milliseconds.
        false => RootCerts::Specific(Arc::new(Vec::new())),
        true => roots(&identity.authorities),
    };
    TlsConfig::builder()
        .root_certs(roots)
        .disable_verification(!verify)
        .client_cert(identity.client.clone())
        .build()
}

/// The host's authorities and `more`; a host without any has Mozilla's, as they were when this was built.
fn roots(more: &[Certificate<'static>]) -> RootCerts {
    static HOST: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    let host = HOST.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs().certs;
        found.iter().map(|c| Certificate::from_der(c).to_owned()).collect()
    });
    match (host.is_empty(), more.is_empty()) {
        (true, true) => RootCerts::WebPki,
        // What certs.d names is meant for this registry: a host without roots of its own needs no others for it.
        _ => RootCerts::new_with_certs(&[host.as_slice(), more].concat()),
    }
}
