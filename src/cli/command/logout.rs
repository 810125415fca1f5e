//! `logout`: forgets how to get into a registry.

use crate::cli::argument::{Values, bytes, flag};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::{Error, Result};
use crate::registry::Access;
use crate::registry::login::{Logins, Server};
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "logout",
    about: "Forget the credentials for a registry",
    examples: &[
        ("barge logout registry.example.com", "one"),
        ("barge logout --all", "every one"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(flag("all", "Every registry").short('a'))
        .arg(bytes(
            "authfile",
            "FILE",
            "The file of credentials, instead of those that are looked for",
        ))
        .arg(flag("tls-verify", "No effect").hide(true))
        .arg(bytes("cert-dir", "DIR", "No effect").hide(true))
        .arg(Arg::new("SERVER").help("A registry [default: docker.io]"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let logins = Logins::open(&Access {
        authfile: m.raw("authfile").map(Into::into),
        ..Access::default()
    })?;
    if m.on("all") {
        if m.text("SERVER").is_some() {
            return Err(Error::usage("--all and a registry exclude each other"));
        }
        let count = logins.forget_all()?;
        session
            .console
            .line(&format!("Removed login credentials for {count} registries"))?;
        return Ok(0);
    }
    let server = Server::parse(m.text("SERVER").unwrap_or_default())?;
    let text = match logins.forget(&server)? {
        true => format!("Removing login credentials for {}", server.shown()),
        false => format!("Not logged in to {}", server.shown()),
    };
    session.console.line(&text)?;
    Ok(0)
}
