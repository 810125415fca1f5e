//! `volume`: named volumes.

use super::container::exit_code;
use super::{inspect, volume_archive};
use crate::cli::argument::{Values, flag, list, value, word, words};
use crate::cli::environment;
use crate::cli::prune::{confirm, prune_flags, say_reclaimed};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::show;
use crate::cli::view::volume::{COLUMNS, Shown, VIEW, in_use};
use crate::container::prune;
use crate::error::{Error, Kind, Result};
use crate::model::filter::{self, Label};
use crate::model::prune::Filters;
use crate::model::volume::Volume;
use crate::store::Store;
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "volume",
    about: "Work with volumes",
    examples: &[],
    also: None,
    body: Body::Noun(&[
        CREATE,
        EXISTS,
        volume_archive::EXPORT,
        volume_archive::IMPORT,
        inspect::VOLUME,
        LS,
        PRUNE,
        RM,
    ]),
};

const CREATE: Spec = Spec {
    name: "create",
    about: "Make a volume, and print its name",
    examples: &[("barge volume create --label of=db data", "under this name")],
    also: None,
    body: Body::plain(define_create, create),
};

const EXISTS: Spec = Spec {
    name: "exists",
    about: "Exit with 0 if there is such a volume, else with 1",
    examples: &[("barge volume exists data && echo yes", "for scripts")],
    also: None,
    body: Body::plain(define_exists, exists),
};

const PRUNE: Spec = Spec {
    name: "prune",
    about: "Remove the volumes that no container uses",
    examples: &[
        (
            "barge volume prune -f",
            "those without a name of their own, without asking",
        ),
        (
            "barge volume prune -a --filter label!=keep",
            "all but those with this label",
        ),
    ],
    also: None,
    body: Body::plain(define_prune, run_prune),
};

const LS: Spec = Spec {
    name: "ls",
    about: "List volumes",
    examples: &[
        ("barge volume ls --filter dangling=true", "those that no container uses"),
        (
            "barge volume ls --format '{{.Name}} {{.Mountpoint}}'",
            "only these fields",
        ),
    ],
    also: None,
    body: Body::plain(define_ls, ls),
};

const RM: Spec = Spec {
    name: "rm",
    about: "Remove volumes that no container uses",
    examples: &[("barge volume rm data", "with all that is in it")],
    also: None,
    body: Body::plain(define_rm, rm),
};

fn define_create(command: Command) -> Command {
    command
        .arg(value("driver", "NAME", "Where it is; there is local alone").short('d'))
        .arg(list("label", "NAME=VALUE", "Set a label").short('l'))
        .arg(Arg::new("NAME").help("Its name [default: a random one]"))
}

fn create(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    if let Some(other) = m.text("driver").filter(|name| !matches!(*name, "" | "local")) {
        let error = Error::usage(format!(
            "error looking up volume plugin {other}: plugin \"{other}\" not found"
        ));
        return Err(error.with_hint("volumes are directories of this host: --driver local"));
    }
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

fn define_ls(command: Command) -> Command {
    command
        .arg(
            list(
                "filter",
                "KEY=VALUE",
                "Only those that match: dangling, driver, label, name",
            )
            .short('f'),
        )
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each, `table TEMPLATE`, or json",
        ))
        .arg(flag("quiet", "Only names").short('q'))
}

fn ls(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let filters = filter::Filters::parse(
        m.texts("filter"),
        &["dangling", "driver", "label", "name"],
        Filter::parse,
    )?;
    let used = match filters.ask_for(&["dangling"]) {
        true => in_use(&store)?,
        false => Default::default(),
    };
    let mut rows = Vec::new();
    for name in store.volume_names()? {
        let volume = store.volume(&name).ok();
        if filters.pass(|f| f.matches(&name, volume.as_ref(), used.contains(&name))) {
            rows.push(Shown {
                store: &store,
                name,
                volume,
            });
        }
    }
    show(session, m, (&VIEW, &COLUMNS), &rows)?;
    Ok(0)
}

enum Filter {
    Dangling(bool),
    Label(Label),
    Name(filter::Name),
    Driver(String),
}

impl Filter {
    fn parse(key: &str, value: &str) -> Result<Self, &'static str> {
        Ok(match key {
            "dangling" => Filter::Dangling(filter::boolean(value)?),
            "driver" => Filter::Driver(value.to_owned()),
            "label" => Filter::Label(value.into()),
            _ => Filter::Name(filter::Name::parse(value)?),
        })
    }

    fn matches(&self, name: &str, volume: Option<&Volume>, used: bool) -> bool {
        match self {
            Filter::Dangling(dangling) => used != *dangling,
            Filter::Driver(driver) => driver == "local",
            Filter::Name(pattern) => pattern.matches(name),
            Filter::Label(label) => volume.is_some_and(|v| label.is_in(&v.labels)),
        }
    }
}

fn define_exists(command: Command) -> Command {
    command.arg(word("VOLUME", "Its name"))
}

fn exists(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    exit_code(session.store()?.volume(m.text("VOLUME").unwrap_or_default()))
}

fn define_prune(command: Command) -> Command {
    prune_flags(command).arg(flag("all", "Those with a name, too").short('a'))
}

fn run_prune(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let filters = Filters::parse(m.texts("filter"), &["all"])?;
    let all = m.on("all")
        || filters
            .other
            .iter()
            .any(|(_, value)| matches!(value.as_str(), "true" | "1"));
    let warning = match all {
        true => "This will remove all local volumes not used by at least one container.",
        false => "This will remove anonymous local volumes not used by at least one container.",
    };
    if confirm(session, warning, m.on("force"))? {
        let gone = prune::volumes(&session.store()?, all, &filters)?;
        say_reclaimed(session, "Deleted Volumes:", &gone.names, gone.bytes)?;
    }
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
