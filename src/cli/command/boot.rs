//! `system start` and `system stop`: what the units that packages bring call when the machine comes up and goes down.

use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::boot;
use crate::error::{Context as _, Result};
use clap::{ArgMatches, Command};

pub(super) const START: Spec = Spec {
    name: "start",
    about: "Start the containers that their restart policies ask for after a boot",
    examples: &[(
        "barge system start",
        "always, and unless-stopped that nobody stopped; what others need comes first",
    )],
    also: None,
    body: Body::plain(define, start),
};

pub(super) const STOP: Spec = Spec {
    name: "stop",
    about: "End all running containers for a shutdown; after the boot, `system start` brings them back",
    examples: &[("barge system stop", "each with its own stop signal and timeout")],
    also: None,
    body: Body::plain(define, stop),
};

fn define(command: Command) -> Command {
    command
}

fn start(_: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    tell(session, |told| boot::start_all(&store, told))
}

fn stop(_: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    tell(session, |told| boot::stop_all(&store, told))
}

type Told<'a> = &'a mut dyn FnMut(&crate::model::container::ContainerConfig, Result<()>);

/// The names of those that it worked for, as it goes. One that fails keeps no other from its turn.
fn tell(session: &mut Session, act: impl FnOnce(Told<'_>) -> Result<()>) -> Result<u8> {
    let mut code = 0;
    act(&mut |config, outcome| match outcome {
        Ok(()) => {
            let _ = session
                .console
                .line(&config.name)
                .and_then(|()| session.console.flush());
        }
        failed => {
            if let Err(e) = failed.context(&config.name) {
                session.console.error(&e);
            }
            code = 1;
        }
    })?;
    Ok(code)
}
