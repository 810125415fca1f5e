//! What the prune commands share: their flags, the question before, the words after.

use crate::cli::argument::{flag, list};
use crate::cli::session::Session;
use crate::error::Result;
use crate::output::units;
use clap::Command;
use std::io::BufRead as _;

pub(crate) fn prune_flags(command: Command) -> Command {
    command
        .arg(list(
            "filter",
            "KEY=VALUE",
            "Only those that match: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]",
        ))
        .arg(flag("force", "Do not ask").short('f'))
}

/// Says what is about to happen and asks whether it may, unless `force`. No answer is a no.
pub(crate) fn confirm(session: &mut Session, warning: &str, force: bool) -> Result<bool> {
    if force {
        return Ok(true);
    }
    let question = format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
    std::io::Write::write_all(session.console.out(), question.as_bytes())?;
    session.console.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// `Deleted Containers:` with one a line, and what it has brought.
pub(crate) fn say_reclaimed(session: &mut Session, heading: &str, names: &[String], bytes: u64) -> Result<()> {
    if !names.is_empty() {
        session.console.line(heading)?;
        for name in names {
            session.console.line(name)?;
        }
        session.console.line("")?;
    }
    session
        .console
        .line(&format!("Total reclaimed space: {}", units::size(bytes)))
}
