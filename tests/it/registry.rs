//! Registries as they are and as they should not be: TLS, tokens, redirects, mirrors, policies, limits, and everything a
//! network does. What is pulled is a small image; how pulling itself works is tested in `pull`.

mod abandoned;
mod trust;

use crate::support::faults::{Fault, Faults};
use crate::support::http::{Service, respond};
use crate::support::registry::{PASSWORD, Registry, Setup, Tls, USER, barge, home, trust};
use crate::support::{Args, Host, Output, Tar, ip};
use base64::Engine as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

fn pull(host: &Host, name: &str) -> Output {
    barge(host, ["pull", "-q", name]).run()
}

/// A pull that fails with one line that has all of `parts`, and leaves nothing to see.
#[track_caller]
fn refused(host: &Host, args: impl Args, parts: &[&str]) -> String {
    let output = barge(host, args).run().fails(1);
    let err = output.err();
    // Remarks on retries stand before the error; it is the last line, but for a hint.
    let line = err
        .lines()
        .rfind(|l| !l.starts_with("  hint:"))
        .unwrap_or_default()
        .to_owned();
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {err:?}");
    }
    assert!(!err.contains('\u{1b}'), "{err:?}");
    assert_eq!(host.text("images -aq"), "");
    err
}

fn configure(host: &Host, text: &str) {
    fs::write(home(host).join("registries.conf"), text).unwrap();
}

#[test]
fn plain_http_is_for_loopback_and_where_it_is_allowed() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let image = registry.publish("a", "1");
    pull(&host, &image.name).ok();
    host.text(["rmi", &image.name]);
    // The same registry at an address that is not loopback.
    ip("addr add 10.9.8.7/32 dev lo");
    let there = Service::start_at("10.9.8.7:0", forward(&registry.host));
    let name = format!("10.9.8.7:{}/a:1", there.port());
    let err = refused(&host, ["pull", &name], &["does not speak https"]);
    assert!(err.contains("insecure"), "{err}");
    barge(&host, ["pull", "--tls-verify=false", &name]).run().ok();
    host.text(["rmi", &name]);
    configure(
        &host,
        &format!(
            "[[registry]]\nlocation = \"10.9.8.7:{}\"\ninsecure = true\n",
            there.port()
        ),
    );
    pull(&host, &name).ok();
    // Asked for, a proof is wanted of loopback, too.
    host.text(["rmi", &name]);
    refused(
        &host,
        ["pull", "--tls-verify=true", &image.name],
        &["does not speak https"],
    );
}

/// Passes everything on.
fn forward(upstream: &str) -> impl Fn(&mut crate::support::http::Request, &mut TcpStream) + Send + Sync + use<> {
    let upstream = upstream.to_owned();
    move |request, stream| {
        let mut text = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", request.method, request.path);
        for (name, value) in &request.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let mut up = TcpStream::connect(&upstream).unwrap();
        up.write_all(format!("{text}\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        up.read_to_end(&mut answer).unwrap();
        let _ = stream.write_all(&answer);
    }
}

#[test]
fn certificates_decide() {
    let host = Host::bare();
    let name = Registry::new(&host).publish("a", "1").name;
    let tls = |tls| Setup {
        tls,
        ..Setup::default()
    };
    {
        let registry = Registry::start(&host, tls(Tls::Server));
        let err = refused(&host, ["pull", &name], &["signed by an unknown authority"]);
        assert!(err.contains("certs.d/127.0.0.1:5000/ca.crt"), "{err}");
        trust(&host, &registry, false);
        pull(&host, &name).ok();
        host.text(["rmi", &name]);
        // A directory for this once, and no proof at all.
        fs::remove_dir_all(home(&host).join(".config/containers/certs.d")).unwrap();
        let certificates = registry.dir.to_str().unwrap();
        for extra in [format!("--cert-dir={certificates}"), "--tls-verify=false".to_owned()] {
            // Its directory has more than one key in it: only what is a pair counts.
            for file in ["server.csr", "client.csr"] {
                let _ = fs::remove_file(registry.dir.join(file));
            }
            barge(&host, ["pull", &extra, &name]).run().ok();
            host.text(["rmi", &name]);
        }
    }
    {
        let registry = Registry::start(&host, tls(Tls::Both));
        trust(&host, &registry, false);
        refused(&host, ["pull", &name], &["certificate"]);
        trust(&host, &registry, true);
        pull(&host, &name).ok();
        host.text(["rmi", &name]);
        // A key that is another's, and one that is missing.
        let dir = home(&host).join(format!(".config/containers/certs.d/{}", registry.host));
        fs::copy(registry.dir.join("ca.pem"), dir.join("client.key")).unwrap();
        refused(&host, ["pull", &name], &["client.cert", "client.key"]);
        fs::remove_file(dir.join("client.key")).unwrap();
        refused(&host, ["pull", &name], &["client.key is not"]);
        fs::remove_dir_all(&dir).unwrap();
    }
    let registry = Registry::start(&host, tls(Tls::Expired));
    trust(&host, &registry, false);
    refused(&host, ["pull", &name], &["its certificate has expired"]);
    // For 127.0.0.1 and localhost, not for that one.
    drop(registry);
    let registry = Registry::start(&host, tls(Tls::Server));
    ip("addr add 127.7.7.7/32 dev lo");
    let other = Service::start_raw("127.7.7.7:5000", &registry.host);
    let certs = home(&host).join(".config/containers/certs.d");
    fs::create_dir_all(certs.join("127.7.7.7:5000")).unwrap();
    fs::copy(registry.dir.join("ca.crt"), certs.join("127.7.7.7:5000/ca.crt")).unwrap();
    refused(
        &host,
        ["pull", "127.7.7.7:5000/a:1"],
        &["certificate is for another name"],
    );
    drop(other);
}

#[test]
fn tokens_are_renewed_in_the_middle() {
    let host = Host::bare();
    let name = Registry::new(&host).publish("a", "1").name;
    let registry = Registry::start(
        &host,
        Setup {
            tokens: true,
            ..Setup::default()
        },
    );
    let proxy = Faults::before(&registry);
    let image = name.replace(&registry.host, &proxy.host);
    let realm = format!("http://{}/token", registry.tokens.as_ref().unwrap().host);
    let challenge = format!(r#"Bearer realm="{realm}",service="test",scope="repository:a:pull",error="invalid_token""#);
    let expired = Fault::Answer(401, vec![("WWW-Authenticate".into(), challenge)], b"{}".to_vec());
    proxy.fail("GET", "/blobs/", 1, expired);
    pull(&host, &image).ok();
    let seen = proxy.seen();
    assert!(
        seen.iter()
            .any(|s| s.authorization.as_deref().is_some_and(|a| a.starts_with("Bearer ")))
    );
    // One token for the pull, one more after the 401.
    let asked = registry.tokens.as_ref().unwrap().asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].contains("scope=repository%3Aa%3Apull"), "{asked:?}");
}

#[test]
fn a_registry_that_wants_a_password() {
    let host = Host::bare();
    let name = Registry::new(&host).publish("a", "1").name;
    for tokens in [false, true] {
        let setup = Setup {
            password: true,
            tokens,
            ..Setup::default()
        };
        let registry = Registry::start(&host, setup);
        let err = refused(&host, ["pull", &name], &["pull access denied for", "HTTP status 401"]);
        assert!(err.contains("barge login"), "{err}");
        let wrong = format!("{USER}:wrong");
        let err = refused(&host, ["pull", "--creds", &wrong, &name], &[]);
        assert!(err.contains("401") && !err.contains("wrong\n"), "{err}");
        barge(&host, ["pull", "--creds", &format!("{USER}:{PASSWORD}"), &name])
            .run()
            .ok();
        host.text(["rmi", &name]);
        let login = barge(&host, ["login", "-u", USER, "--password-stdin", &registry.host]);
        login.stdin(PASSWORD.as_bytes()).run().ok();
        pull(&host, &name).ok();
        host.text(["rmi", &name]);
        barge(&host, ["logout", &registry.host]).run().ok();
        // Podman's file, and the one of 2013.
        let auth = base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let podman = host.scratch().join("auth.json");
        fs::write(
            &podman,
            serde_json::json!({"auths": {&registry.host: {"auth": &auth}}}).to_string(),
        )
        .unwrap();
        barge(&host, ["pull", &name])
            .env("REGISTRY_AUTH_FILE", &podman)
            .run()
            .ok();
        host.text(["rmi", &name]);
        let old = home(&host).join(".dockercfg");
        let key = format!("https://{}/v1/", registry.host);
        fs::write(
            &old,
            serde_json::json!({&key: {"auth": &auth, "email": "a@b"}}).to_string(),
        )
        .unwrap();
        pull(&host, &name).ok();
        host.text(["rmi", &name]);
        fs::remove_file(&old).unwrap();
    }
}

#[test]
fn redirects_do_not_carry_credentials_away() {
    let host = Host::bare();
    let image = Registry::new(&host).publish("a", "1");
    let setup = Setup {
        password: true,
        ..Setup::default()
    };
    let registry = Registry::start(&host, setup);
    let proxy = Faults::before(&registry);
    let blob = fs::read(registry.blob(&image.layer.0)).unwrap();
    let seen = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let log = seen.clone();
    let elsewhere = Service::start(0, move |request, stream| {
        log.lock().unwrap().push(format!("{:?}", request.headers));
        respond(stream, 200, &[("Content-Type", "application/octet-stream")], &blob);
    });
    let to = format!("http://127.0.0.1:{}/cdn?signature=x", elsewhere.port());
    proxy.fail("GET", &image.layer.0, 1, Fault::Redirect(to));
    let name = image.name.replace(&registry.host, &proxy.host);
    barge(&host, ["pull", "--creds", &format!("{USER}:{PASSWORD}"), &name])
        .run()
        .ok();
    let headers = seen.lock().unwrap().join("\n");
    assert!(
        !headers.is_empty() && !headers.to_lowercase().contains("authorization"),
        "{headers}"
    );
    assert!(proxy.seen().iter().any(|s| s.authorization.is_some()));

    host.text(["rmi", &name]);
    proxy.fail("GET", "/manifests/", 99, Fault::Circle);
    proxy.fail("HEAD", "/manifests/", 99, Fault::Circle);
    let err = refused(
        &host,
        ["pull", "--creds", &format!("{USER}:{PASSWORD}"), &name],
        &["redirects in a circle"],
    );
    assert!(!err.contains(PASSWORD), "{err}");
}

/// `--creds` of a push are for where it goes to, not for where what is pushed comes from.
#[test]
fn credentials_are_for_one_registry() {
    let host = Host::bare();
    let source = Registry::new(&host);
    let name = source.publish("a", "1").name;
    let proxy = Faults::before(&source);
    let from = name.replace(&source.host, &proxy.host);
    let target = Service::start(0, |request, stream| match request.method.as_str() {
        "POST" => respond(stream, 202, &[("Location", "/v2/up")], b""),
        "PUT" => {
            request.body();
            respond(stream, 201, &[], b"");
        }
        _ => respond(stream, 404, &[], b"{}"),
    });
    barge(&host, ["manifest", "create", "team/list", &from]).run().ok();
    // Asks for credentials, so that whoever has some for it would send them.
    let challenge = vec![("WWW-Authenticate".into(), "Basic realm=\"x\"".into())];
    proxy.fail("GET", "/blobs/", 1, Fault::Answer(401, challenge, b"{}".to_vec()));
    let to = format!("127.0.0.1:{}/team/list:1", target.port());
    let creds = format!("{USER}:{PASSWORD}");
    barge(&host, ["manifest", "push", "--creds", &creds, "team/list", &to])
        .run()
        .fails(1);
    assert!(proxy.seen().iter().all(|s| s.authorization.is_none()));
    barge(&host, ["manifest", "push", "--creds", &creds, "team/list", &to])
        .run()
        .ok();
}

/// What is not the registry asks for credentials, with a realm of its own (CVE-2020-15157).
#[test]
fn nobody_else_is_given_credentials() {
    let host = Host::bare();
    let image = Registry::new(&host).publish("a", "1");
    let setup = Setup {
        password: true,
        ..Setup::default()
    };
    let registry = Registry::start(&host, setup);
    let proxy = Faults::before(&registry);
    let seen = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let log = seen.clone();
    let elsewhere = Service::start(0, move |request, stream| {
        let asked = format!("{} {} {:?}", request.method, request.path, request.headers);
        log.lock().unwrap().push(asked);
        let own = request.header("host").unwrap_or_default().to_owned();
        let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"x\"");
        match request.path.starts_with("/token") {
            true => respond(stream, 200, &[], br#"{"token":"t"}"#),
            false => respond(stream, 401, &[("WWW-Authenticate", &challenge)], b"{}"),
        }
    });
    let to = format!("http://127.0.0.1:{}/cdn", elsewhere.port());
    proxy.fail("GET", &image.layer.0, 99, Fault::Redirect(to.clone()));
    let name = image.name.replace(&registry.host, &proxy.host);
    let creds = format!("{USER}:{PASSWORD}");
    let output = barge(&host, ["pull", "--creds", &creds, &name]).run().fails(1);
    assert!(!output.err().contains(PASSWORD), "{}", output.err());
    let log = seen.lock().unwrap().join("\n");
    assert!(log.contains("/cdn") && !log.contains("/token"), "{log}");
    assert!(!log.to_lowercase().contains("authorization"), "{log}");

    // A refresh token is posted to who asks for it, and to nobody that one names.
    seen.lock().unwrap().clear();
    let realm = Service::start(0, move |request, stream| match request.path.as_str() {
        "/token" => respond(stream, 307, &[("Location", &format!("{to}/token"))], b""),
        _ => {
            let own = request.header("host").unwrap_or_default().to_owned();
            let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"x\"");
            respond(stream, 401, &[("WWW-Authenticate", &challenge)], b"{}");
        }
    });
    let there = format!("127.0.0.1:{}", realm.port());
    let auth = base64::prelude::BASE64_STANDARD.encode("u:");
    let json = serde_json::json!({"auths": {&there: {"auth": auth, "identitytoken": "it-is-secret"}}});
    let file = home(&host).join(".docker/config.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, json.to_string()).unwrap();
    refused(
        &host,
        ["pull", &format!("{there}/a:1")],
        &["redirects what is for it alone"],
    );
    assert!(seen.lock().unwrap().is_empty(), "{:?}", seen.lock().unwrap());
}

#[test]
fn busy_registries_are_waited_for() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let proxy = Faults::before(&registry);
    let name = registry.publish("a", "1").name.replace(&registry.host, &proxy.host);
    proxy.fail("", "/manifests/", 1, Fault::busy(1));
    proxy.fail("GET", "/blobs/", 2, Fault::status(503));
    let start = std::time::Instant::now();
    let output = barge(&host, ["pull", &name]).run().ok();
    assert!(start.elapsed().as_millis() >= 1000);
    assert!(output.err().contains("trying again in 1s"), "{}", output.err());
    host.text(["rmi", &name]);
    // For good, or for too long.
    proxy.fail("", "/manifests/", 99, Fault::busy(3600));
    refused(&host, ["pull", &name], &["429"]);
    proxy.clear();
    proxy.fail("", "/manifests/", 99, Fault::status(502));
    refused(&host, ["pull", "--retry", "1", &name], &["502"]);
}

#[test]
fn what_is_no_registry() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let proxy = Faults::before(&registry);
    let name = registry.publish("a", "1").name.replace(&registry.host, &proxy.host);
    proxy.fail("", "", 99, Fault::html());
    refused(&host, ["pull", &name], &["web page"]);
    proxy.clear();
    let escape = "{\"errors\":[{\"message\":\"\u{1b}[2Jgone\\u001b[1m\"}]}";
    let rude = Fault::Answer(
        404,
        vec![("Content-Type".into(), "application/json".into())],
        escape.into(),
    );
    proxy.fail("", "/manifests/", 99, rude);
    refused(&host, ["pull", &name], &["not found"]);
    proxy.clear();
    let nonsense = || {
        Fault::Answer(
            200,
            vec![("Content-Type".into(), "application/json".into())],
            b"nonsense".to_vec(),
        )
    };
    proxy.fail("", "/manifests/", 99, nonsense());
    refused(&host, ["pull", &name], &[]);
    proxy.clear();
    refused(&host, ["pull", &proxy.name("none:1")], &["not found"]);
    refused(&host, ["pull", "127.0.0.1:1/a"], &["connection refused"]);
    let start = std::time::Instant::now();
    refused(
        &host,
        ["pull", "no.such.host.invalid/a"],
        &["look up no.such.host.invalid"],
    );
    assert!(start.elapsed().as_secs() < 20);
    // A manifest that is far too long.
    let long = Fault::Answer(
        200,
        vec![(
            "Content-Type".into(),
            "application/vnd.oci.image.manifest.v1+json".into(),
        )],
        vec![b' '; 5 << 20],
    );
    proxy.fail("GET", "/manifests/", 99, long);
    refused(&host, ["pull", &name], &["longer than"]);
}

#[test]
fn mirrors_and_what_registries_conf_says() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let image = registry.publish("hub/library/debian", "1");
    let proxy = Faults::before(&registry);
    let conf = |more: &str| {
        format!(
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\n{more}",
            proxy.host
        )
    };
    configure(&host, &conf(""));
    pull(&host, "debian:1").ok();
    assert_eq!(host.text("images --format {{.Repository}}:{{.Tag}}"), "debian:1");
    assert!(proxy.lines().iter().all(|l| l.contains("/v2/hub/library/debian/")));
    host.text("rmi debian:1");
    // The mirror fails: the registry itself is asked, and where nothing helps, that error counts.
    proxy.fail("", "/v2/", 99, Fault::status(404));
    let err = refused(&host, "pull debian:1", &["connection refused"]);
    assert!(err.contains(&format!("mirror {}", proxy.host)), "{err}");
    proxy.clear();
    // A mirror that breaks in the middle gives way to the next.
    configure(
        &host,
        &conf(&format!("[[registry.mirror]]\nlocation = \"{}/hub\"\n", registry.host)),
    );
    proxy.fail("GET", "/blobs/", 99, Fault::status(404));
    pull(&host, "debian:1").ok();
    host.text("rmi debian:1");
    proxy.clear();
    // Digests only; aliases; blocked; other names.
    configure(&host, &conf("pull-from-mirror = \"digest-only\"\n"));
    refused(&host, "pull debian:1", &["connection refused"]);
    pull(&host, &format!("debian@{}", image.digest)).ok();
    host.text(["rmi", "-f", &host.text("images -aq")]);
    configure(
        &host,
        &format!("[aliases]\n\"short\" = \"{}/hub/library/debian\"\n", registry.host),
    );
    pull(&host, "short:1").ok();
    host.text(["rmi", "-f", &host.text("images -aq")]);
    configure(
        &host,
        &format!(
            "unqualified-search-registries = [\"127.0.0.1:1\", \"{}/hub\"]\n",
            registry.host
        ),
    );
    pull(&host, "library/debian:1").ok();
    host.text(["rmi", "-f", &host.text("images -aq")]);
    configure(
        &host,
        &format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", registry.host),
    );
    refused(&host, ["pull", &image.name], &["blocked in registries.conf"]);
    configure(&host, "[[registry]]\nlocation = 5\n");
    refused(&host, ["pull", &image.name], &["registries.conf", "damaged"]);
}

#[test]
fn policies_are_honoured_or_refused() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let name = registry.publish("a", "1").name;
    let file = home(&host).join(".config/containers/policy.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for (policy, says) in [
        (r#"{"default":[{"type":"reject"}]}"#.to_owned(), "rejected"),
        (
            r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}"#.to_owned(),
            "signature",
        ),
        (r#"{"default":[{"type":"perhaps"}]}"#.to_owned(), "unknown requirement"),
        ("{".to_owned(), "damaged"),
    ] {
        fs::write(&file, policy).unwrap();
        refused(&host, ["pull", &name], &["policy.json", says]);
    }
    let only = format!(
        r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"{}/a":[{{"type":"insecureAcceptAnything"}}]}}}}}}"#,
        registry.host
    );
    fs::write(&file, only).unwrap();
    pull(&host, &name).ok();
    let archive = host.scratch().join("a.tar").display().to_string();
    host.text(["save", "-o", &archive, &name]);
    host.text(["rmi", &name]);
    registry.publish("b", "1");
    refused(&host, ["pull", &registry.name("b:1")], &["rejected"]);
    // An archive comes by a way of its own.
    refused(&host, ["load", "-i", &archive], &["policy.json", "rejected"]);
    let files =
        r#"{"default":[{"type":"reject"}],"transports":{"docker-archive":{"":[{"type":"insecureAcceptAnything"}]}}}"#;
    fs::write(&file, files).unwrap();
    barge(&host, ["load", "-i", &archive]).run().ok();
}

#[test]
fn proxies_of_the_environment() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    registry.publish("a", "1");
    ip("addr add 10.9.8.7/32 dev lo");
    let there = Service::start_at("10.9.8.7:0", forward(&registry.host));
    // A proxy knows only CONNECT, and names that nobody else knows.
    let target = format!("10.9.8.7:{}", there.port());
    let log = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let seen = log.clone();
    let proxy = Service::start(0, move |request, stream| {
        seen.lock()
            .unwrap()
            .push(format!("{} {}", request.method, request.path));
        let Ok(up) = TcpStream::connect(&target) else { return };
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let (mut a, mut b) = (stream.try_clone().unwrap(), up.try_clone().unwrap());
        let back = std::thread::spawn(move || std::io::copy(&mut b, &mut a));
        let buffered = request.reader.buffer().to_vec();
        let mut up = up;
        let _ = up.write_all(&buffered);
        let _ = std::io::copy(stream, &mut up);
        let _ = up.shutdown(std::net::Shutdown::Both);
        let _ = back.join();
    });
    let at = format!("http://127.0.0.1:{}", proxy.port());
    let args = ["pull", "--tls-verify=false", "registry.test:80/a:1"];
    barge(&host, args)
        .env("HTTP_PROXY", &at)
        .env("HTTPS_PROXY", &at)
        .run()
        .ok();
    let asked = log.lock().unwrap().clone();
    assert!(asked.iter().all(|l| l == "CONNECT registry.test:80"), "{asked:?}");
    host.text("rmi registry.test:80/a:1");
    let output = barge(&host, args)
        .env("HTTP_PROXY", &at)
        .env("HTTPS_PROXY", &at)
        .env("NO_PROXY", ".test")
        .run()
        .fails(1);
    assert!(output.err().contains("look up registry.test"), "{}", output.err());
    // A password in the proxy's address is nobody's business.
    let output = barge(&host, args)
        .env("HTTPS_PROXY", "http://user:secret@127.0.0.1:1")
        .run()
        .fails(1);
    assert!(!output.err().contains("secret"), "{}", output.err());
}

#[test]
fn tags_come_in_pages() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let image = registry.publish("a", "t0");
    for n in 1..5 {
        registry.publish("a", &format!("t{n}"));
    }
    let pages = Service::start(5100, {
        let registry = registry.host.clone();
        let forward = forward(&registry);
        move |request, stream| {
            if !request.path.contains("/tags/list") {
                return forward(request, stream);
            }
            let (tags, link): (&str, Option<&str>) = match request.path.split_once("last=") {
                None => (r#"["t0","t1"]"#, Some("</v2/a/tags/list?last=t1&n=2>; rel=\"next\"")),
                Some((_, rest)) if rest.starts_with("t1") => (r#"["t2","t3"]"#, Some("<?last=t3>; rel=next")),
                Some(_) => (r#"["t4"]"#, None),
            };
            let mut headers = vec![("Content-Type", "application/json")];
            headers.extend(link.map(|l| ("Link", l)));
            respond(
                stream,
                200,
                &headers,
                format!(r#"{{"name":"a","tags":{tags}}}"#).as_bytes(),
            );
        }
    });
    let name = format!("127.0.0.1:{}/a", pages.port());
    barge(&host, ["pull", "-q", "-a", &name]).run().ok();
    assert_eq!(host.text("images --format {{.Tag}}").lines().count(), 5);
    assert_eq!(host.text("images -q").lines().count(), 1, "{}", image.digest);
}

#[test]
fn a_broken_download_goes_on() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let proxy = Faults::before(&registry);
    let tar = Tar::new()
        .file("noise", 0o644, crate::support::content::noise(3_000_000))
        .bytes();
    let image = registry.publish_layer("a", "1", &tar);
    let (layer, size) = &image.layer;
    let name = image.name.replace(&registry.host, &proxy.host);
    let blob = format!("/blobs/{layer}");
    let ranges = || -> Vec<String> {
        let seen = proxy.seen();
        let of_layer = seen.iter().filter(|s| s.method == "GET" && s.path.contains(&blob));
        of_layer.map(|s| s.range.clone().unwrap_or_default()).collect()
    };
    let check = |faults: &[Fault], want: &[&str]| {
        for fault in faults {
            proxy.fail("GET", &blob, 1, fault.clone());
        }
        proxy.seen();
        pull(&host, &name).ok();
        assert_eq!(ranges(), want, "{faults:?}");
        proxy.clear();
        host.text(["rmi", &name]);
    };
    check(&[], &[""]);
    check(
        &[Fault::CutAfter(1_000_000), Fault::CutAfter(500_000)],
        &["", "bytes=1000000-", "bytes=1500000-"],
    );
    check(&[Fault::StallAfter(2_000_000)], &["", "bytes=2000000-"]);
    check(&[Fault::CutAfter(0), Fault::CutAfter(0)], &["", "", ""]);
    // More than there is, and no length: what is behind the end is nobody's.
    check(&[Fault::Extra(1000)], &[""]);
    // A server that does not know ranges sends all of it again.
    check(&[Fault::CutAfter(1_000_000), Fault::NoRange], &["", "bytes=1000000-"]);
    check(
        &[Fault::CutAfter(10), Fault::status(500), Fault::busy(0)],
        &["", "bytes=10-", "bytes=10-", "bytes=10-"],
    );
    let lie = Fault::Answer(
        206,
        vec![("Content-Range".into(), format!("bytes 5-{}/{size}", size - 1))],
        vec![0; 100],
    );
    for (fault, says) in [
        (vec![Fault::Length(1)], "bytes there, not"),
        (vec![Fault::CutAfter(1000), lie], "not from 1000"),
        (vec![Fault::status(404)], "HTTP status 404"),
    ] {
        for fault in fault {
            proxy.fail("GET", &blob, 1, fault);
        }
        refused(&host, ["pull", "--retry", "2", &name], &[says]);
        proxy.clear();
        barge(&host, "system prune -f").run().ok();
    }
    proxy.fail("GET", &blob, 99, Fault::CutAfter(0));
    refused(&host, ["pull", "--retry", "1", &name], &["has cut the connection"]);
}

#[test]
fn uploads_go_on() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let proxy = Faults::before(&registry);
    let tar = Tar::new()
        .file("noise", 0o644, crate::support::content::noise(9_000_000))
        .bytes();
    let image = registry.publish_layer("a", "1", &tar);
    let before = registry.blobs();
    pull(&host, &image.name).ok();
    let push = |repository: &str, pieces: usize| {
        let target = proxy.name(&format!("{repository}:1"));
        host.text(["tag", &image.name, &target]);
        proxy.seen();
        barge(&host, ["push", &target]).run().ok();
        let lines = proxy.lines();
        let patches = lines.iter().filter(|l| l.starts_with("PATCH")).count();
        assert_eq!(patches, pieces, "{lines:#?}");
        // What arrived is what was pulled.
        host.text(["rmi", &target]);
        barge(
            &host,
            ["pull", "-q", &registry.name(&format!("{repository}@{}", image.digest))],
        )
        .run()
        .ok();
    };
    push("whole", 0);
    // What stands before the registry does not take so much at once: the layer goes in pieces.
    let layer = image.layer.0.replace(':', "%3A");
    proxy.fail("PUT", &layer, 1, Fault::status(413));
    push("pieces", 2);
    // The second piece breaks: the first stays there.
    proxy.fail("PUT", &layer, 1, Fault::status(413));
    proxy.fail("PATCH", "/blobs/uploads/", 1, Fault::Slow(4096));
    proxy.fail("PATCH", "/blobs/uploads/", 1, Fault::status(503));
    push("broken", 3);
    proxy.clear();
    proxy.fail("PUT", "/blobs/uploads/", 1, Fault::status(500));
    proxy.fail("PUT", "/manifests/", 1, Fault::busy(0));
    push("again", 0);
    // Nothing was compressed again, or sent as something else.
    assert_eq!(registry.blobs(), before);
}
