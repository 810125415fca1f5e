//! `login`: gets into a registry, and remembers how.

use crate::cli::access;
use crate::cli::argument::{Values, flag, value};
use crate::cli::prompt;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::{Error, Kind, Result};
use crate::model::reference::Reference;
use crate::registry::Access;
use crate::registry::credentials::{Credentials, Saved, Secret};
use crate::registry::login::{Logins, Server};
use crate::registry::v1::Entered;
use clap::{Arg, ArgMatches, Command};
use std::io::Read as _;

pub(super) const SPEC: Spec = Spec {
    name: "login",
    about: "Log into a registry",
    examples: &[
        ("barge login registry.example.com", "asks for user name and password"),
        (
            "pass show registry | barge login -u me --password-stdin registry.example.com",
            "for scripts",
        ),
        ("barge login --get-login registry.example.com", "as whom, if at all"),
    ],
    also: None,
    body: Body::plain(define, run),
};

/// More than any password or token.
const LONGEST: u64 = 1 << 20;

fn define(command: Command) -> Command {
    access::define(command)
        .arg(value("username", "NAME", "User name").short('u'))
        .arg(
            value(
                "password",
                "PASSWORD",
                "Password; others can see it in the list of processes",
            )
            .short('p'),
        )
        .arg(flag("password-stdin", "Read the password from standard input"))
        .arg(
            value(
                "email",
                "EMAIL",
                "At an index of 2013: makes an account if there is none; no effect elsewhere",
            )
            .short('e'),
        )
        .arg(flag("get-login", "Print the user name one is logged in with"))
        .arg(Arg::new("SERVER").help("A registry, or the beginning of a repository's name [default: docker.io]"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let server = Server::parse(m.text("SERVER").unwrap_or_default())?;
    let access = access::of(m)?;
    let logins = Logins::open(&access)?;
    let console = &session.console;
    let known = logins.known(&server, &|text| console.note(&format!("barge: {text}")))?;
    if m.on("get-login") {
        let Some(found) = known else {
            let e = Error::other(format!("not logged into {}", server.name()));
            return Err(e.with_hint(format!("looked into {}", logins.places())));
        };
        session.console.line(&found.username)?;
        return Ok(0);
    }
    if m.text("password").is_some() {
        if m.on("password-stdin") {
            return Err(Error::usage("--password and --password-stdin are mutually exclusive"));
        }
        console.note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let stored = known;
    let given = Given {
        username: m.text("username"),
        password: m.text("password"),
        piped: m.on("password-stdin"),
    };
    let credentials = ask(&given, session, &server, stored.as_ref())?;
    let asked = !given.piped && given.password.is_none() && stored.as_ref() != Some(&credentials);
    let email = match m.text("email").filter(|e| !e.is_empty()) {
        Some(email) => Some(email.to_owned()),
        None if asked && logins.makes_accounts(&server, &access) => {
            Some(prompt::line("Email (to make an account, if you have none): ")?).filter(|e| !e.is_empty())
        }
        None => None,
    };
    let new = New {
        credentials: &credentials,
        email: email.as_deref(),
    };
    enter(&logins, session, &server, (new, stored.as_ref()), &access)?;
    session.console.line("Login Succeeded")?;
    Ok(0)
}

/// After `error`, from somebody's pull or push of `name`: asks whoever sits there to log in (F227). Whether that was
/// done, and trying again makes sense.
pub(super) fn offer(error: &Error, name: &str, access: &Access, session: &Session) -> Result<bool> {
    if error.kind() != Kind::LoginRequired || !prompt::possible() || access.credentials.is_some() {
        return Ok(false);
    }
    session.console.error(error);
    let server = Server::parse(&Reference::parse(name)?.host)?;
    let credentials = ask(&Given::default(), session, &server, None)?;
    let new = New {
        credentials: &credentials,
        email: None,
    };
    enter(&Logins::open(access)?, session, &server, (new, None), access)?;
    session.console.note("Login Succeeded");
    Ok(true)
}

/// What somebody wants to get in with.
struct New<'a> {
    credentials: &'a Credentials,
    /// For an account that may have to be made.
    email: Option<&'a str>,
}

/// Shows `new` credentials to the registry and keeps them, unless they are the `old` ones. Those that are not taken any
/// more are forgotten (F223).
fn enter(
    logins: &Logins,
    session: &Session,
    server: &Server,
    (new, old): (New<'_>, Option<&Credentials>),
    access: &Access,
) -> Result<()> {
    let (new, email) = (new.credentials, new.email);
    match logins.check(server, new, email, access) {
        Ok(Entered::In) => {}
        Ok(Entered::Created) => session
            .console
            .note("Account created. Please use the confirmation link we sent to your e-mail to activate it."),
        Err(e) if e.kind() == Kind::LoginRequired => {
            if old.is_some_and(|old| old == new) {
                logins.forget(server)?;
            }
            return Err(e);
        }
        Err(e) => return Err(e),
    }
    if old == Some(new) {
        return Ok(());
    }
    let text = match logins.save(server, new)? {
        Saved::File(path) => format!("The password is kept unencrypted in {}.", path.display()),
        Saved::Helper(name) => format!("The password is kept by docker-credential-{name}."),
    };
    session.console.note(&text);
    Ok(())
}

/// What the flags say.
#[derive(Default)]
struct Given<'a> {
    username: Option<&'a str>,
    password: Option<&'a str>,
    piped: bool,
}

/// From the flags, from standard input, from what is known, and from whoever sits there.
fn ask(given: &Given<'_>, session: &Session, server: &Server, stored: Option<&Credentials>) -> Result<Credentials> {
    if given.piped {
        let Some(username) = given.username.filter(|u| !u.is_empty()) else {
            return Err(Error::usage("Must provide --username with --password-stdin"));
        };
        return Ok(Credentials::password(username, &piped()?));
    }
    let stored_name = stored.map(|c| c.username.as_str()).filter(|n| !n.is_empty());
    let username = match (given.username, given.password) {
        (Some(name), Some(password)) => return Ok(Credentials::password(name, password)),
        (Some(name), None) => name.to_owned(),
        (None, _) => {
            someone()?;
            session
                .console
                .note(&format!("Login against server at {}", server.shown()));
            let shown = stored_name.map(|n| format!(" ({n})")).unwrap_or_default();
            let typed = prompt::line(&format!("Username{shown}: "))?;
            match (typed.is_empty(), stored_name) {
                (true, Some(name)) => name.to_owned(),
                (true, None) => return Err(Error::other("Username Required")),
                (false, _) => typed,
            }
        }
    };
    if let Some(password) = given.password {
        return Ok(Credentials::password(&username, password));
    }
    if let Some(stored) = stored
        && stored.username == username
        && !matches!(&stored.secret, Secret::Registry(_))
        && given.username.is_none()
    {
        return Ok(stored.clone());
    }
    someone()?;
    let password = prompt::secret("Password: ")?;
    if password.is_empty() {
        return Err(Error::other("Password Required"));
    }
    Ok(Credentials::password(&username, &password))
}

fn someone() -> Result<()> {
    match prompt::possible() {
        true => Ok(()),
        false => Err(
            Error::other("cannot perform an interactive login from a non-TTY device")
                .with_hint("give --username, and the password by --password-stdin"),
        ),
    }
}

/// Standard input to its end, without the newline that `echo` adds.
fn piped() -> Result<String> {
    let mut password = String::new();
    std::io::stdin()
        .take(LONGEST)
        .read_to_string(&mut password)
        .map_err(|e| Error::other(format!("read the password: {}", Error::from(e))))?;
    let trimmed = password.strip_suffix('\n').unwrap_or(&password);
    let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
    match trimmed.is_empty() {
        true => Err(Error::other("Password Required")),
        false => Ok(trimmed.to_owned()),
    }
}
