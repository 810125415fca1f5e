//! `volume`: named volumes.

use crate::cli::argument::{Values, flag, list, words};
use crate::cli::environment;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::error::{Kind, Result};
use crate::store::Store;
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "volume",
    about: "Work with volumes",
    examples: &[],
    also: None,
    body: Body::Noun(&[CREATE, RM]),
};

const CREATE: Spec = Spec {
    name: "create",
    about: "Make a volume, and print its name",
    examples: &[("barge volume create --label of=db data", "under this name")],
    also: None,
    body: Body::Command {
        define: define_create,
        run: create,
        codes: Codes::Plain,
    },
};

const RM: Spec = Spec {
    name: "rm",
    about: "Remove volumes that no container uses",
    examples: &[("barge volume rm data", "with all that is in it")],
    also: None,
    body: Body::Command {
        define: define_rm,
        run: rm,
        codes: Codes::Plain,
    },
};

fn define_create(command: Command) -> Command {
    command
        .arg(list("label", "NAME=VALUE", "Set a label").short('l'))
        .arg(Arg::new("NAME").help("Its name [default: a random one]"))
}

fn create(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let labels = environment::labels(std::iter::empty(), m.texts("label"))?;
    let store = session.store()?;
    let name = match m.text("NAME").filter(|n| !n.is_empty()) {
        Some(name) => name.to_owned(),
        None => Store::random_id()?.to_string(),
    };
    store.create_volume(&name, labels)?;
    session.console.line(&name)?;
    Ok(0)
}

fn define_rm(command: Command) -> Command {
    command
        .arg(flag("force", "What is not there is no failure").short('f'))
        .arg(words("VOLUME", "Names"))
}

fn rm(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let force = m.on("force");
    session.each_name(m.texts("VOLUME"), |name| match store.remove_volume(name) {
        Err(e) if force && e.kind() == Kind::NotFound => Ok(name.to_owned()),
        done => done.map(|()| name.to_owned()),
    })
}
