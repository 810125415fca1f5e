//! Debian's `docker-registry` on the loopback of the test's own network namespace: anonymous, with passwords, with a
//! token server (of our own, `tokens.rs`), with TLS from an authority made for the test.
//!
//! ```
//! let host = Host::new();                             // the thread is in a namespace of its own from here
//! let registry = Registry::start(&host, Setup::default());
//! registry::barge(&host, ["push", &registry.name("a:1")]).run().ok();
//! ```

use super::process::Process;
use super::{Args, Cmd, Host, wait_until};
use crate::support::tokens::TokenServer;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const USER: &str = "barge";
/// With what a URL, a colon-separated pair and a shell would trip over.
pub const PASSWORD: &str = "pa:ss w%rd/ü";

/// What kind of registry.
#[derive(Default, Clone)]
pub struct Setup {
    /// Another port than 5000.
    pub port: Option<u16>,
    /// Ask for `USER` and `PASSWORD` (Basic).
    pub password: bool,
    /// Ask for tokens; `password` then says that the token server wants it.
    pub tokens: bool,
    pub tls: Tls,
    /// A cache of another registry (its address, `http://…`).
    pub mirror_of: Option<String>,
    /// Manifests can't be deleted.
    pub keeps_all: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    #[default]
    None,
    Server,
    /// Clients must show a certificate, too.
    Both,
    Expired,
}

pub struct Registry {
    pub host: String,
    pub dir: PathBuf,
    pub tokens: Option<TokenServer>,
    _process: Process,
}

impl Registry {
    /// Anonymous, plain http, at 127.0.0.1:5000.
    pub fn new(host: &Host) -> Registry {
        Registry::start(host, Setup::default())
    }

    /// Runs one in the namespace of `host`, until dropped.
    pub fn start(host: &Host, setup: Setup) -> Registry {
        leave_the_machine();
        let port = setup.port.unwrap_or(5000);
        let dir = host.scratch().join(format!("registry-{port}"));
        fs::create_dir_all(&dir).unwrap();
        let address = format!("127.0.0.1:{port}");
        if setup.tls != Tls::None {
            Authority::new(&dir, setup.tls == Tls::Expired);
        }
        let tokens = setup
            .tokens
            .then(|| TokenServer::start(&dir, port + 1000, setup.password));
        let config = dir.join("config.yml");
        fs::write(&config, configuration(&setup, &dir, &address, tokens.as_ref())).unwrap();
        if setup.password {
            let file = fs::File::create(dir.join("htpasswd")).unwrap();
            let made = Command::new("htpasswd")
                .args(["-nbB", USER, PASSWORD])
                .stdout(file)
                .status();
            assert!(made.expect("htpasswd (apache2-utils)").success());
        }
        let process = Cmd::new("docker-registry", vec!["serve".into(), config.into()])
            .wrapped(["setpriv", "--pdeathsig", "KILL"])
            .spawn();
        wait_until("docker-registry to listen", || TcpStream::connect(&address).is_ok());
        Registry {
            host: address,
            dir,
            tokens,
            _process: process,
        }
    }

    /// `127.0.0.1:5000/REST`
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Where the registry keeps the bytes of a blob: to damage or to remove them.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.dir
            .join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// Every blob it has: digest and size.
    pub fn blobs(&self) -> Vec<(String, u64)> {
        let base = self.dir.join("data/docker/registry/v2/blobs/sha256");
        let mut found = Vec::new();
        for prefix in fs::read_dir(&base).into_iter().flatten().flatten() {
            for blob in fs::read_dir(prefix.path()).unwrap().flatten() {
                let size = fs::metadata(blob.path().join("data")).unwrap().len();
                found.push((format!("sha256:{}", blob.file_name().to_str().unwrap()), size));
            }
        }
        found.sort();
        found
    }
}

/// Puts the calling thread into a network namespace of its own, unless it is in one: the machine's loopback has other
/// users. The main thread never leaves the machine's.
pub fn leave_the_machine() {
    let of = |path: &str| fs::read_link(path).unwrap();
    if of("/proc/self/ns/net") == of("/proc/thread-self/ns/net") {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("the tests run as root");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip (iproute2)").success());
    }
}

fn configuration(setup: &Setup, dir: &Path, address: &str, tokens: Option<&TokenServer>) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: {}}}\nhttp:\n  addr: {address}\n",
        at("data"),
        !setup.keeps_all
    );
    if setup.tls != Tls::None {
        text += &format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            at("server.crt"),
            at("server.pem")
        );
        if setup.tls == Tls::Both {
            text += &format!("    clientcas: [{}]\n", at("ca.crt"));
        }
    }
    match tokens {
        Some(server) => {
            text += &format!(
                "auth:\n  token: {{realm: \"http://{}/token\", service: test, issuer: barge-test, rootcertbundle: {}}}\n",
                server.host,
                at("token.crt")
            );
        }
        None if setup.password => text += &format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", at("htpasswd")),
        None => {}
    }
    if let Some(url) = &setup.mirror_of {
        text += &format!("proxy:\n  remoteurl: {url}\n");
    }
    text
}

/// The engine with a home of its own: no credentials and no registries.conf of the machine's user.
pub fn barge(host: &Host, args: impl Args) -> Cmd {
    let home = home(host);
    let conf = home.join("registries.conf");
    if !conf.exists() {
        fs::write(&conf, "").unwrap();
    }
    host.barge(args)
        .env("HOME", &home)
        .env("CONTAINERS_REGISTRIES_CONF", conf)
        .env("REGISTRY_AUTH_FILE", "")
        .env("DOCKER_CONFIG", "")
        .env("XDG_CONFIG_HOME", "")
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("BARGE_REGISTRY_TIMEOUT", "2")
}

/// The home that [`barge`] gives the engine. `registries.conf` there is what it reads.
pub fn home(host: &Host) -> PathBuf {
    let home = host.scratch().join("home");
    fs::create_dir_all(&home).unwrap();
    home
}

/// Makes the engine trust what `authority` signed for `registry`, by `certs.d`; with a client's certificate perhaps.
pub fn trust(host: &Host, registry: &Registry, client: bool) {
    let dir = home(host).join(format!(".config/containers/certs.d/{}", registry.host));
    fs::create_dir_all(&dir).unwrap();
    fs::copy(registry.dir.join("ca.crt"), dir.join("ca.crt")).unwrap();
    if client {
        fs::copy(registry.dir.join("client.crt"), dir.join("client.cert")).unwrap();
        fs::copy(registry.dir.join("client.pem"), dir.join("client.key")).unwrap();
    }
}

/// Certificates for one test: `ca.crt`, `server.crt` with `server.pem` for 127.0.0.1 and localhost, `client.crt` with
/// `client.pem`.
pub struct Authority {
    pub dir: PathBuf,
}

impl Authority {
    pub fn new(dir: &Path, expired: bool) -> Authority {
        let authority = Authority { dir: dir.to_owned() };
        authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.pem -out ca.crt -days 30 -subj /CN=test-authority");
        fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
        for name in ["server", "client"] {
            authority.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.pem -out {name}.csr -subj /CN={name}"
            ));
            let days = if expired && name == "server" { "-1" } else { "30" };
            authority.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.pem -CAcreateserial -out {name}.crt -days {days} -extfile {name}.ext"
            ));
        }
        authority
    }

    fn openssl(&self, line: &str) {
        let out = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(&self.dir)
            .output()
            .expect("openssl");
        assert!(
            out.status.success(),
            "openssl {line}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}
