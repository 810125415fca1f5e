//! `commit`: makes an image of a container.

use super::tag::reference;
use crate::cli::argument::{Values, flag, list, value, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::commit::{Options, commit};
use crate::error::Result;
use crate::image::commit::Described;
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "commit",
    about: "Make an image of a container: of what it has changed, and of its configuration",
    examples: &[
        (
            "barge commit -m 'with vim' web web:vim",
            "a new layer on top of the container's image",
        ),
        (
            "barge commit -c 'CMD [\"nginx\"]' -c 'EXPOSE 80' web registry.example.com/web:1",
            "with another command",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(value("author", "NAME", "Who made it (\"Jane Doe <jane@example.com>\")").short('a'))
        .arg(
            list(
                "change",
                "INSTRUCTION",
                "Apply a Dockerfile instruction, such as 'CMD [\"sh\"]'",
            )
            .short('c'),
        )
        .arg(value("message", "TEXT", "Comment in the image's history").short('m'))
        .arg(
            flag(
                "pause",
                "A running container stands still while its files are copied [default: true]",
            )
            .short('p'),
        )
        .arg(value(
            "run",
            "JSON",
            "Configuration that wins over the container's: {\"Cmd\": [\"sh\"], \"PortSpecs\": [\"80\"]}",
        ))
        .arg(
            flag(
                "squash",
                "Make one layer of all that the container sees, its image included",
            )
            .short('s'),
        )
        .arg(word("CONTAINER", "Name or id"))
        .arg(Arg::new("NAME[:TAG]").help("Name of the image"))
        .arg(Arg::new("TAG").help("The tag, as a word of its own").hide(true))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let name = m.text("NAME[:TAG]").filter(|n| !n.is_empty());
    let options = Options {
        described: Described {
            author: m.text("author").unwrap_or_default().to_owned(),
            message: m.text("message").unwrap_or_default().to_owned(),
            changes: m.texts("change").map(str::to_owned).collect(),
            run: m.text("run").filter(|json| !json.is_empty()).map(str::to_owned),
            reference: name.map(|name| reference(name, m.text("TAG"))).transpose()?,
        },
        pause: m.switch("pause").unwrap_or(true),
        squash: m.on("squash"),
    };
    let store = session.store()?;
    let container = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    let id = commit(&store, &container, options)?;
    session.console.line(&id.to_string())?;
    Ok(0)
}
