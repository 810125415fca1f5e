//! `docker-credential-NAME get|store|erase`: programs that keep secrets elsewhere. Everything goes through their
//! standard input and output (docker-credential-helpers' README, "Development").

use crate::error::{Context as _, Error, Result};
use crate::registry::credentials::{Credentials, Secret};
use crate::registry::text::clean;
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

const ANSWER_LIMIT: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What the helper knows about `server`.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Credentials>> {
    let Some(answer) = run(name, "get", server.as_bytes())? else {
        return Ok(None);
    };
    // serde's own words could quote the secret.
    let entry: Entry = serde_json::from_slice(&answer)
        .map_err(|_| Error::other(format!("{}: its answer is not what the protocol says", program(name))))?;
    if entry.secret.is_empty() {
        return Ok(None);
    }
    let secret = match entry.username.as_str() {
        "<token>" => Secret::Identity(entry.secret),
        _ => Secret::Password(entry.secret),
    };
    Ok(Some(Credentials {
        username: entry.username,
        secret,
    }))
}

pub(super) fn store(name: &str, server: &str, credentials: &Credentials) -> Result<()> {
    let (username, secret) = match &credentials.secret {
        Secret::Password(password) => (credentials.username.clone(), password.clone()),
        Secret::Identity(token) | Secret::Registry(token) => ("<token>".to_owned(), token.clone()),
    };
    let entry = Entry {
        server: server.to_owned(),
        username,
        secret,
    };
    run(name, "store", &serde_json::to_vec(&entry)?).map(drop)
}

pub(super) fn erase(name: &str, server: &str) -> Result<()> {
    run(name, "erase", server.as_bytes()).map(drop)
}

fn program(name: &str) -> String {
    format!("docker-credential-{}", clean(name))
}

/// Runs the helper; `None` if it knows nothing.
fn run(name: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
    let program = program(name);
    if name.contains('/') {
        return Err(Error::other(format!("{program} is no name of a credential helper")));
    }
    let spawned = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut child = spawned.with_context(|| format!("run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that knows the answer without reading is welcome.
        let _ = stdin.write_all(input);
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_LIMIT).read_to_end(&mut output)?;
    }
    let status = child.wait().with_context(|| format!("wait for {program}"))?;
    if status.success() {
        return Ok(Some(output));
    }
    let said = clean(&String::from_utf8_lossy(&output));
    match said.contains("credentials not found") || (verb == "get" && said.contains("no credentials")) {
        true => Ok(None),
        false => Err(Error::other(format!("{program} {verb}: {said} ({status})"))),
    }
}
