//! `container`: the commands for containers under their noun, and those that have no other name.

use super::{
    attach, commit, cp, create, diff, exec, export, inspect, kill, logs, pause, port, ps, rename, restart, rm, run,
    start, stats, stop, top,
};
use super::{mount, update, wait};
use crate::cli::argument::{Values, word};
use crate::cli::prune::{confirm, prune_flags, say_reclaimed};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::prune;
use crate::error::{Error, Kind, Result};
use crate::model::prune::Filters;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "container",
    about: "Work with containers: the same commands, under their noun",
    examples: &[],
    also: None,
    body: Body::Noun(&[
        attach::SPEC.under_noun("attach"),
        commit::SPEC.under_noun("commit"),
        cp::SPEC.under_noun("cp"),
        create::SPEC.under_noun("create"),
        diff::SPEC.under_noun("diff"),
        exec::SPEC.under_noun("exec"),
        EXISTS,
        export::SPEC.under_noun("export"),
        inspect::CONTAINER,
        kill::SPEC.under_noun("kill"),
        logs::SPEC.under_noun("logs"),
        ps::SPEC.under_noun("ls"),
        mount::SPEC.under_noun("mount"),
        pause::PAUSE.under_noun("pause"),
        port::SPEC.under_noun("port"),
        PRUNE,
        rename::SPEC.under_noun("rename"),
        restart::SPEC.under_noun("restart"),
        rm::SPEC.under_noun("rm"),
        run::SPEC.under_noun("run"),
        start::SPEC.under_noun("start"),
        stats::SPEC.under_noun("stats"),
        stop::SPEC.under_noun("stop"),
        top::SPEC.under_noun("top"),
        mount::UNMOUNT.under_noun("unmount"),
        pause::UNPAUSE.under_noun("unpause"),
        update::SPEC.under_noun("update"),
        wait::SPEC.under_noun("wait"),
    ]),
};

const EXISTS: Spec = Spec {
    name: "exists",
    about: "Exit with 0 if there is such a container, else with 1",
    examples: &[(
        "barge container exists web || barge run -d --name web nginx",
        "start it once",
    )],
    also: None,
    body: Body::plain(define_exists, exists),
};

const PRUNE: Spec = Spec {
    name: "prune",
    about: "Remove all containers that do not run",
    examples: &[(
        "barge container prune -f --filter until=24h",
        "those made more than a day ago, without asking",
    )],
    also: None,
    body: Body::plain(prune_flags, run_prune),
};

fn define_exists(command: Command) -> Command {
    command.arg(word("CONTAINER", "Name or id"))
}

fn exists(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    exit_code(
        session
            .store()?
            .resolve_container(m.text("CONTAINER").unwrap_or_default()),
    )
}

/// Of an `exists`: that there is none is an answer, and everything else an error.
pub(super) fn exit_code<T>(found: Result<T>) -> Result<u8> {
    match found {
        Ok(_) => Ok(0),
        Err(e) if e.kind() == Kind::NotFound => Err(Error::status(1)),
        Err(e) => Err(e),
    }
}

fn run_prune(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let filters = Filters::parse(m.texts("filter"), &[])?;
    if confirm(session, "This will remove all stopped containers.", m.on("force"))? {
        let gone = prune::containers(&session.store()?, &filters)?;
        say_reclaimed(session, "Deleted Containers:", &gone.names, gone.bytes)?;
    }
    Ok(0)
}
