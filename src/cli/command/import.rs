//! `import`: makes an image of a root file system in a tar.

use super::tag::reference;
use crate::cli::argument::{Values, list, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::Result;
use crate::image::import::{Import, Source, import};
use clap::{Arg, ArgMatches, Command, ValueHint};

pub(super) const SPEC: Spec = Spec {
    name: "import",
    about: "Make an image of a tar with a root file system",
    examples: &[
        ("barge import debian.tar.xz debian:12", "plain or compressed"),
        (
            "barge import https://example.org/rootfs.tar.gz base",
            "fetched meanwhile",
        ),
        (
            "tar -C rootfs -c . | barge import -c 'CMD [\"sh\"]' - mine",
            "from stdin, with a command to run",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(
            list(
                "change",
                "INSTRUCTION",
                "Apply a Dockerfile instruction, such as 'CMD [\"sh\"]'",
            )
            .short('c'),
        )
        .arg(value("message", "TEXT", "Comment in the image's history").short('m'))
        .arg(value(
            "platform",
            "OS/ARCH",
            "What the image is for [default: this machine]",
        ))
        .arg(
            Arg::new("FILE")
                .help("A tar, the URL of one, or - for stdin")
                .required(true)
                .value_hint(ValueHint::FilePath),
        )
        .arg(Arg::new("NAME[:TAG]").help("Name of the image"))
        .arg(Arg::new("TAG").help("The tag, as a word of its own").hide(true))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let name = m.text("NAME[:TAG]").filter(|n| !n.is_empty());
    let import_args = Import {
        source: Source::parse(m.text("FILE").unwrap_or_default()),
        reference: name.map(|name| reference(name, m.text("TAG"))).transpose()?,
        changes: m.texts("change").map(str::to_owned).collect(),
        message: m.text("message").map(str::to_owned),
        platform: m.text("platform").map(str::to_owned),
    };
    let id = import(&session.store()?, import_args)?;
    session.console.line(&id.to_string())?;
    Ok(0)
}
