//! `secret`: what containers are told without their images, records and logs knowing.

use crate::cli::argument::{Values, flag, list, value, word, words};
use crate::cli::command::container::exit_code;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::Look;
use crate::cli::view::secret::{COLUMNS, Filter, KEYS, Shown, VIEW, inspect};
use crate::cli::{environment, view};
use crate::error::{Context as _, Error, Result};
use crate::model::filter::Filters;
use crate::output::inspect::{Style as Page, inspect as show};
use crate::output::listing::{self, Style};
use crate::store::{Notes, Taken};
use clap::{Arg, ArgMatches, Command};
use std::io::Read as _;

pub(super) const SPEC: Spec = Spec {
    name: "secret",
    about: "Work with secrets: passwords and keys that containers are given with --secret",
    examples: &[],
    also: None,
    body: Body::Noun(&[CREATE, EXISTS, INSPECT, LS, RM]),
};

const CREATE: Spec = Spec {
    name: "create",
    about: "Store a secret, and print its id",
    examples: &[
        ("pass show db | barge secret create db -", "from stdin"),
        ("barge secret create tls key.pem", "from a file"),
    ],
    also: None,
    body: Body::plain(define_create, create),
};

const EXISTS: Spec = Spec {
    name: "exists",
    about: "Exit with 0 if there is such a secret, else with 1",
    examples: &[(
        "barge secret exists db || barge secret create db db.txt",
        "store it once",
    )],
    also: None,
    body: Body::plain(
        |command| command.arg(word("SECRET", "Name or id")),
        |m, session| exit_code(session.store()?.secret(m.text("SECRET").unwrap_or_default())),
    ),
};

const INSPECT: Spec = Spec {
    name: "inspect",
    about: "Show what there is to know of secrets, but their content",
    examples: &[("barge secret inspect -f '{{.CreatedAt}}' db", "one field")],
    also: None,
    body: Body::plain(define_inspect, run_inspect),
};

const LS: Spec = Spec {
    name: "ls",
    about: "List secrets",
    examples: &[("barge secret ls --filter name=db", "those with db in their name")],
    also: None,
    body: Body::plain(define_ls, ls),
};

const RM: Spec = Spec {
    name: "rm",
    about: "Remove secrets; containers that were created with one can't start any more",
    examples: &[("barge secret rm db", "by name or id")],
    also: None,
    body: Body::plain(define_rm, rm),
};

fn define_create(command: Command) -> Command {
    command
        .arg(value("driver", "NAME", "Where it is kept: file").short('d'))
        .arg(list("driver-opts", "NAME=VALUE", "Options of the driver, which has none").alias("driver-opt"))
        .arg(flag("env", "Take it from the variable that is named instead of a file"))
        .arg(flag("ignore", "Leave one that has the name as it is"))
        .arg(list("label", "NAME=VALUE", "Set a label").short('l'))
        .arg(flag("replace", "Replace one that has the name"))
        .arg(word("NAME", "Name of the secret"))
        .arg(
            Arg::new("FILE")
                .help("Where it is read from; - is stdin")
                .required(true)
                .value_parser(clap::value_parser!(std::ffi::OsString)),
        )
}

fn create(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    match m.text("driver") {
        None | Some("" | "file") => {}
        Some(other) => {
            let error = Error::usage(format!("--driver: unknown secret driver '{other}'"));
            return Err(error.with_hint("there is file"));
        }
    }
    let taken = match (m.on("replace"), m.on("ignore")) {
        (true, true) => return Err(Error::usage("Conflicting options: --replace and --ignore")),
        (true, false) => Taken::Replace,
        (false, true) => Taken::Keep,
        (false, false) => Taken::Refuse,
    };
    let notes = Notes {
        labels: environment::labels(std::iter::empty(), m.texts("label"))?,
        driver_options: environment::labels(std::iter::empty(), m.texts("driver-opts"))?,
    };
    let data = content(m)?;
    let store = session.store()?;
    let secret = store.create_secret(m.text("NAME").unwrap_or_default(), &data, notes, taken)?;
    session.console.line(&secret.id)?;
    Ok(0)
}

/// At most a little more than a secret may have.
fn content(m: &ArgMatches) -> Result<Vec<u8>> {
    const ENOUGH: u64 = 512_001;
    let source = m.raw("FILE").unwrap_or_default();
    let mut data = Vec::new();
    if m.on("env") {
        use std::os::unix::ffi::OsStringExt as _;
        let value = std::env::var_os(source);
        let missing = || {
            Error::not_found(format!(
                "cannot create store secret data: environment variable {} is not set",
                source.display()
            ))
        };
        return Ok(value.ok_or_else(missing)?.into_vec());
    }
    if source == "-" {
        std::io::stdin()
            .take(ENOUGH)
            .read_to_end(&mut data)
            .context("read stdin")?;
    } else {
        let file = std::fs::File::open(source).with_context(|| format!("open {}", source.display()))?;
        file.take(ENOUGH)
            .read_to_end(&mut data)
            .with_context(|| format!("read {}", source.display()))?;
    }
    Ok(data)
}

fn define_inspect(command: Command) -> Command {
    command
        .arg(value("format", "TEMPLATE", "A Go template").short('f'))
        .arg(flag("pretty", "Show it for people"))
        .arg(flag("showsecret", "Show the content too"))
        .arg(words("SECRET", "Names or ids"))
}

fn run_inspect(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let with_data = m.on("showsecret");
    if m.on("pretty") {
        return session.each_name(m.texts("SECRET"), |name| Ok(view::secret::pretty(&store.secret(name)?)));
    }
    let mut find = |name: &str| {
        let secret = store.secret(name)?;
        let data = with_data.then(|| store.secret_data(&secret.id)).transpose()?;
        Ok(inspect(&secret, data.as_deref()))
    };
    let names: Vec<String> = m.texts("SECRET").map(str::to_owned).collect();
    let page = Page {
        format: m.text("format"),
        terminal: session.console.is_terminal(),
    };
    show(&names, page, &mut find, session.console.out(), &mut std::io::stderr())?;
    Ok(0)
}

fn define_ls(command: Command) -> Command {
    command
        .arg(list("filter", "KEY=VALUE", "Only some: name, id, label").short('f'))
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each, `table TEMPLATE`, or json",
        ))
        .arg(flag("noheading", "Leave out the headings").short('n'))
        .arg(flag("quiet", "Ids only").short('q'))
}

fn ls(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let filters = Filters::parse(m.texts("filter"), &KEYS, Filter::parse)?;
    let mut secrets = session.store()?.secrets()?;
    secrets.retain(|secret| filters.pass(|filter| filter.matches(secret)));
    let look = Look::new(true);
    let rows: Vec<_> = secrets.iter().map(|secret| Shown { secret, look: &look }).collect();
    let style = Style {
        format: m.text("format"),
        quiet: m.on("quiet"),
        columns: &COLUMNS,
        terminal: session.console.is_terminal(),
    };
    let mut page = Vec::new();
    listing::list(&VIEW, &rows, style, &mut page)?;
    let body = match m.on("noheading") && m.text("format").is_none() && !m.on("quiet") {
        true => page
            .iter()
            .position(|b| *b == b'\n')
            .map_or(&[][..], |at| &page[at + 1..]),
        false => &page[..],
    };
    use std::io::Write as _;
    session.console.out().write_all(body)?;
    Ok(0)
}

fn define_rm(command: Command) -> Command {
    command
        .arg(flag("all", "All of them").short('a'))
        .arg(flag("ignore", "One that is not there is no error").short('i'))
        .arg(
            Arg::new("SECRET")
                .help("Names or ids")
                .num_args(0..)
                .action(clap::ArgAction::Append),
        )
}

fn rm(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let names: Vec<String> = match m.on("all") {
        true => store.secrets()?.into_iter().map(|s| s.name).collect(),
        false => m.texts("SECRET").map(str::to_owned).collect(),
    };
    if names.is_empty() && !m.on("all") {
        return Err(Error::usage("rm: name at least one secret, or --all"));
    }
    let ignore = m.on("ignore");
    let mut code = 0;
    for name in names {
        match store.remove_secret(&name) {
            Ok(secret) => session.console.line(&secret.id)?,
            Err(e) if ignore && e.kind() == crate::error::Kind::NotFound => {}
            Err(e) => {
                session.console.error(&e);
                code = 1;
            }
        }
    }
    Ok(code)
}
