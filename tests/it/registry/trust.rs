//! Whom a registry's word is enough for, and whom not: redirects, token servers, certificates of one registry.

use crate::support::http::{Request, Service, respond};
use crate::support::registry::{Authority, PASSWORD, USER, barge, home, leave_the_machine};
use crate::support::tls::Secured;
use crate::support::{Host, Tar, content};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

type Log = Arc<Mutex<Vec<String>>>;

fn authority(host: &Host) -> PathBuf {
    leave_the_machine();
    let dir = host.scratch().join("authority");
    fs::create_dir_all(&dir).unwrap();
    Authority::new(&dir, false).dir
}

/// What it was asked, with all headers.
fn service(answer: impl Fn(&mut Request, &mut TcpStream) + Send + Sync + 'static) -> (Service, Log) {
    let log = Log::default();
    let inner = log.clone();
    let service = Service::start(0, move |request, stream| {
        let asked = format!("{} {} {:?}", request.method, request.path, request.headers);
        inner.lock().unwrap().push(asked.to_lowercase());
        answer(request, stream);
    });
    (service, log)
}

fn at(service: &Service) -> String {
    format!("127.0.0.1:{}", service.port())
}

fn asked(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// `certs.d` of the caller for these hosts.
fn believe(host: &Host, dir: &Path, hosts: &[&str]) {
    for name in hosts {
        let certs = home(host).join(".config/containers/certs.d").join(name);
        fs::create_dir_all(&certs).unwrap();
        fs::copy(dir.join("ca.crt"), certs.join("ca.crt")).unwrap();
    }
}

fn pull(host: &Host, extra: &[&str], registry: &str) -> String {
    let (creds, name) = (format!("{USER}:{PASSWORD}"), format!("{registry}/a:1"));
    let mut line = vec!["pull", "--retry", "0", "--creds", &creds];
    line.extend(extra);
    line.push(&name);
    let err = barge(host, line).run().fails(1).err();
    assert!(!err.contains(PASSWORD), "{err}");
    err
}

#[test]
fn nothing_that_was_encrypted_goes_on_in_clear() {
    let host = Host::bare();
    let dir = authority(&host);
    let (plain, log) = service(|_, stream| respond(stream, 404, &[], b"{}"));
    let to = format!("http://{}/elsewhere", at(&plain));
    let (behind, _) = service(move |_, stream| respond(stream, 307, &[("Location", &to)], b""));
    let registry = Secured::before(&at(&behind), &dir);
    believe(&host, &dir, &[&registry.host]);
    let err = pull(&host, &[], &registry.host);
    assert!(
        err.contains("redirects from https to plain http at 127.0.0.1:"),
        "{err}"
    );
    assert_eq!(asked(&log), [""; 0]);
    // Who wants no proof at all goes there, and leaves the password behind.
    pull(&host, &["--tls-verify=false"], &registry.host);
    let there = asked(&log);
    assert!(
        !there.is_empty() && there.iter().all(|l| !l.contains("authorization")),
        "{there:?}"
    );
}

#[test]
fn a_token_server_proves_who_it_is() {
    let host = Host::bare();
    let dir = authority(&host);
    let (tokens, log) = service(|_, stream| respond(stream, 401, &[], b"{}"));
    let secured = Secured::before(&at(&tokens), &dir);
    let realm = Arc::new(Mutex::new(String::new()));
    let named = realm.clone();
    let (behind, _) = service(move |_, stream| {
        let challenge = format!("Bearer realm=\"{}\",service=\"x\"", named.lock().unwrap());
        respond(stream, 401, &[("WWW-Authenticate", &challenge)], b"{}");
    });
    let registry = Secured::before(&at(&behind), &dir);
    let name = |url: String| *realm.lock().unwrap() = url;
    let with_password = |lines: &[String]| lines.iter().any(|l| l.contains("\"authorization\", \"basic "));
    // In clear: neither over the network nor to whoever listens on this machine.
    believe(&host, &dir, &[&registry.host]);
    for realm in [
        "http://10.9.8.7:1/token".to_owned(),
        format!("http://localhost:{}/token", tokens.port()),
    ] {
        name(realm);
        let err = pull(&host, &[], &registry.host);
        assert!(err.contains("wants its tokens asked for over plain http"), "{err}");
    }
    assert_eq!(asked(&log), [""; 0]);
    // Another host, which is not known: what is believed of the registry is not believed of it.
    name(format!("https://{}/token", secured.host));
    let err = pull(&host, &[], &registry.host);
    assert!(err.contains("signed by an unknown authority"), "{err}");
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host);
    fs::write(home(&host).join("registries.conf"), conf).unwrap();
    let err = pull(&host, &[], &registry.host);
    assert!(err.contains("signed by an unknown authority"), "{err}");
    assert_eq!(asked(&log), [""; 0]);
    // One that is known gets the password, as docker's own is at another host than its registry; and any does for who
    // wants no proof from anybody.
    pull(&host, &["--tls-verify=false"], &registry.host);
    assert!(with_password(&asked(&log)));
    believe(&host, &dir, &[&secured.host]);
    pull(&host, &[], &registry.host);
    assert!(with_password(&asked(&log)));
}

#[test]
fn a_client_s_certificate_is_shown_to_one_registry() {
    let host = Host::bare();
    let dir = authority(&host);
    let (tokens, _) = service(|_, stream| respond(stream, 401, &[], b"{}"));
    let tokens = Secured::before(&at(&tokens), &dir);
    let challenge = format!("Bearer realm=\"https://{}/token\",service=\"x\"", tokens.host);
    let (behind, _) = service(move |_, stream| respond(stream, 401, &[("WWW-Authenticate", &challenge)], b"{}"));
    let registry = Secured::before(&at(&behind), &dir);
    let certs = host.scratch().join("certs");
    fs::create_dir_all(&certs).unwrap();
    for (from, to) in [
        ("ca.crt", "ca.crt"),
        ("client.crt", "client.cert"),
        ("client.pem", "client.key"),
    ] {
        fs::copy(dir.join(from), certs.join(to)).unwrap();
    }
    let flag = format!("--cert-dir={}", certs.display());
    pull(&host, &[&flag], &registry.host);
    let (there, elsewhere) = (registry.shown(), tokens.shown());
    assert!(!there.is_empty() && there.iter().all(|shown| *shown), "{there:?}");
    assert!(
        !elsewhere.is_empty() && elsewhere.iter().all(|shown| !shown),
        "{elsewhere:?}"
    );
    // `certs.d` is by host.
    believe(&host, &dir, &[&registry.host, &tokens.host]);
    let own = home(&host).join(".config/containers/certs.d").join(&registry.host);
    fs::copy(dir.join("client.crt"), own.join("client.cert")).unwrap();
    fs::copy(dir.join("client.pem"), own.join("client.key")).unwrap();
    pull(&host, &[], &registry.host);
    assert!(registry.shown().iter().all(|shown| *shown));
    assert!(tokens.shown().iter().all(|shown| !shown));
}

/// Only of layers that may not be handed on does a manifest say where else they are: of any other, it would have this
/// machine ask whom it likes.
#[test]
fn a_manifest_sends_nobody_elsewhere() {
    let host = Host::bare();
    leave_the_machine();
    let (elsewhere, log) = service(|_, stream| respond(stream, 404, &[], b"{}"));
    let layer = content::gzip(&Tar::new().file("a", 0o644, "a").bytes());
    let config = content::config(&[&Tar::new().file("a", 0o644, "a").bytes()], &["/a"]);
    for (kind, asks) in [("diff", false), ("foreign.diff", true)] {
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": content::digest(&config), "size": config.len()},
            "layers": [{"mediaType": format!("application/vnd.docker.image.rootfs.{kind}.tar.gzip"),
                "digest": content::digest(&layer), "size": layer.len(), "urls": [format!("http://{}/x", at(&elsewhere))]}],
        });
        let (manifest, config) = (manifest.to_string(), config.clone());
        let (registry, _) = service(move |request, stream| {
            let manifests = [("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")];
            match request.path.as_str() {
                path if path.contains("/manifests/") => respond(stream, 200, &manifests, manifest.as_bytes()),
                path if path.ends_with(&content::digest(&config)) => respond(stream, 200, &[], &config),
                "/v2/" => respond(stream, 200, &[], b"{}"),
                _ => respond(stream, 404, &[], b"{}"),
            }
        });
        pull(&host, &[], &at(&registry));
        assert_eq!(asked(&log).iter().any(|line| line.starts_with("get /x")), asks);
    }
}
