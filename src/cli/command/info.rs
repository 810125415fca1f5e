//! `info`: this engine and this machine.

use crate::cli::argument::{Values, value};
use crate::cli::session::Session;
use crate::cli::settings::Origin;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::info::{info, info_text};
use crate::error::Result;
use crate::output::template::Template;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "info",
    about: "Show what there is, where it is kept, and what this machine can limit",
    examples: &[
        ("barge info", "warnings tell which limits are missing"),
        ("barge info -f '{{.CgroupVersion}}'", "one field"),
        (
            "barge info -f '{{range .Settings}}{{println .Name .Origin}}{{end}}'",
            "which file sets what",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command.arg(value("format", "TEMPLATE", "A Go template, or json").short('f'))
}

/// What is in force besides the built-in defaults, and where it is from.
fn settings(session: &Session) -> Value {
    let one = |o: &Origin| json!({"Name": o.name, "Value": o.value, "Origin": o.from});
    session.origins.iter().map(one).collect()
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut info = info(&session.store()?)?;
    info["Settings"] = settings(session);
    match m.text("format").filter(|f| !f.is_empty()) {
        Some("json") => session.console.line(&info.to_string())?,
        Some(format) => session.console.line(&Template::parse(format)?.render(&info)?)?,
        None => {
            write!(session.console.out(), "{}", info_text(&info))?;
            if session.debug {
                session.console.line(&format!("Process: {}", std::process::id()))?;
                session
                    .console
                    .line(&format!("Executable: {}", std::env::current_exe()?.display()))?;
            }
            for setting in info["Settings"].as_array().into_iter().flatten() {
                let text = |key: &str| setting[key].as_str().unwrap_or_default().to_owned();
                let line = format!("Setting: {} = {} ({})", text("Name"), text("Value"), text("Origin"));
                session.console.line(&line)?;
            }
            session.console.flush()?;
            for note in session.settings.notes.clone() {
                session.console.note(&note);
            }
            for warning in info["Warnings"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|w| w.as_str())
            {
                session.console.note(warning);
            }
        }
    }
    Ok(0)
}
