//! A token server ("Token Authentication" of distribution): signs what is asked for, with or without a password, and
//! remembers what it was asked. The JWTs are signed by openssl (RS256).

use super::http::{Request, Service, respond};
use super::registry::{PASSWORD, USER};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// The refresh token it takes.
pub const IDENTITY: &str = "identity-of-barge";

pub struct TokenServer {
    pub host: String,
    asked: Arc<Mutex<Vec<String>>>,
    _service: Service,
}

impl TokenServer {
    /// `token.crt` in `dir` is what the registry has to believe.
    pub fn start(dir: &Path, port: u16, password: bool) -> TokenServer {
        let made = Command::new("openssl")
            .args(
                "req -x509 -newkey rsa:2048 -nodes -keyout token.pem -out token.crt -days 30 -subj /CN=barge-test"
                    .split(' '),
            )
            .current_dir(dir)
            .output()
            .expect("openssl");
        assert!(made.status.success());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (log, dir) = (asked.clone(), dir.to_owned());
        let service = Service::start(port, move |request, stream| {
            let form = match request.method.as_str() {
                "POST" => String::from_utf8(request.body()).unwrap(),
                _ => request.path.split_once('?').map_or("", |(_, q)| q).to_owned(),
            };
            log.lock().unwrap().push(format!("{} {form}", request.method));
            if !allowed(request, &form, password) {
                respond(
                    stream,
                    401,
                    &[("Content-Type", "application/json")],
                    br#"{"details":"incorrect username or password"}"#,
                );
                return;
            }
            let json = format!(r#"{{"token":"{}","expires_in":300}}"#, sign(&dir, &form));
            respond(stream, 200, &[("Content-Type", "application/json")], json.as_bytes());
        });
        TokenServer {
            host: format!("127.0.0.1:{port}"),
            asked,
            _service: service,
        }
    }

    /// The questions so far: method and parameters.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn allowed(request: &Request, form: &str, password: bool) -> bool {
    let given = request.header("authorization").unwrap_or_default();
    let right = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
    match request.method.as_str() {
        "POST" => parameters(form, "refresh_token") == [IDENTITY],
        _ => given == right || (given.is_empty() && !password),
    }
}

fn parameters(form: &str, name: &str) -> Vec<String> {
    form.split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(k, _)| *k == name)
        .map(|(_, v)| unescape(v))
        .collect()
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let hex: String = bytes.by_ref().take(2).map(char::from).collect();
                out.push(u8::from_str_radix(&hex, 16).unwrap());
            }
            b'+' => out.push(b' '),
            b => out.push(b),
        }
    }
    String::from_utf8(out).unwrap()
}

fn sign(dir: &Path, form: &str) -> String {
    let der = Command::new("openssl")
        .args(["x509", "-in", "token.crt", "-outform", "DER"])
        .current_dir(dir)
        .output()
        .unwrap()
        .stdout;
    let access: Vec<_> = parameters(form, "scope")
        .iter()
        .flat_map(|s| s.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|scope| {
            let mut parts = scope.splitn(3, ':').map(str::to_owned);
            let (kind, rest, last) = (parts.next()?, parts.next()?, parts.next()?);
            let actions: Vec<_> = last.split(',').map(str::to_owned).collect();
            Some(serde_json::json!({"type": kind, "name": rest, "actions": actions}))
        })
        .collect();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [BASE64_STANDARD.encode(der)]});
    let claims = serde_json::json!({
        "iss": "barge-test", "sub": USER, "aud": "test", "jti": now.to_string(),
        "exp": now + 300, "nbf": now - 60, "iat": now, "access": access,
    });
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    format!(
        "{signed}.{}",
        encode(&signature(dir.join("token.pem"), signed.as_bytes()))
    )
}

fn signature(key: PathBuf, bytes: &[u8]) -> Vec<u8> {
    assert!(fs::exists(&key).unwrap());
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap().stdout
}
