//! `inspect`: all there is to say about containers, images and volumes, as JSON in docker's shape.

use crate::cli::argument::{Values, flag, value, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view;
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::image;
use crate::output::inspect::{Style, inspect};
use crate::store::Store;
use clap::{ArgMatches, Command};
use serde_json::Value;

pub(super) const SPEC: Spec = Spec {
    name: "inspect",
    about: "Show all about containers, images, volumes or networks, as JSON",
    examples: &[
        ("barge inspect web", "a container, or else an image of that name"),
        ("barge inspect -f '{{.State.ExitCode}}' web", "one field"),
    ],
    also: None,
    body: Body::plain(define, run),
};

/// What a name may be.
#[derive(Clone, Copy)]
enum Kinds {
    Any,
    Container,
    Image,
    Volume,
    Network,
}

pub(super) const CONTAINER: Spec = Spec {
    name: "inspect",
    about: "Show all about containers, as JSON",
    examples: &[("barge container inspect --size web", "and what it takes on disk")],
    also: None,
    body: Body::plain(define_container, |m, session| {
        show(m, session, "CONTAINER", Kinds::Container)
    }),
};

pub(super) const IMAGE: Spec = Spec {
    name: "inspect",
    about: "Show all about images, as JSON",
    examples: &[("barge image inspect -f '{{.Config.Cmd}}' debian", "one field")],
    also: None,
    body: Body::plain(define_image, |m, session| show(m, session, "IMAGE", Kinds::Image)),
};

pub(super) const NETWORK: Spec = Spec {
    name: "inspect",
    about: "Show all about networks, as JSON",
    examples: &[(
        "barge network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' back",
        "its addresses",
    )],
    also: None,
    body: Body::plain(define_network, |m, session| show(m, session, "NETWORK", Kinds::Network)),
};

pub(super) const VOLUME: Spec = Spec {
    name: "inspect",
    about: "Show all about volumes, as JSON",
    examples: &[("barge volume inspect data", "where it is, and its labels")],
    also: None,
    body: Body::plain(define_volume, |m, session| show(m, session, "VOLUME", Kinds::Volume)),
};

fn format(command: Command) -> Command {
    command.arg(value("format", "TEMPLATE", "A Go template for each, or json").short('f'))
}

fn size(command: Command) -> Command {
    command.arg(flag("size", "Sizes of containers on disk, too").short('s'))
}

fn define(command: Command) -> Command {
    size(format(command))
        .arg(
            value("type", "KIND", "Only containers, images, volumes or networks").value_parser([
                "container",
                "image",
                "network",
                "volume",
            ]),
        )
        .arg(words("OBJECT", "Names or ids"))
}

fn define_container(command: Command) -> Command {
    size(format(command)).arg(words("CONTAINER", "Names or ids"))
}

fn define_image(command: Command) -> Command {
    format(command).arg(words("IMAGE", "Names or ids"))
}

fn define_network(command: Command) -> Command {
    format(command).arg(words("NETWORK", "Names or ids"))
}

fn define_volume(command: Command) -> Command {
    format(command).arg(words("VOLUME", "Names"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let kinds = match m.text("type") {
        Some("container") => Kinds::Container,
        Some("image") => Kinds::Image,
        Some("volume") => Kinds::Volume,
        Some("network") => Kinds::Network,
        _ => Kinds::Any,
    };
    show(m, session, "OBJECT", kinds)
}

fn show(m: &ArgMatches, session: &mut Session, argument: &str, kinds: Kinds) -> Result<u8> {
    let names: Vec<String> = m.texts(argument).map(str::to_owned).collect();
    let with_size = m.try_contains_id("size").unwrap_or(false) && m.on("size");
    let store = session.store()?;
    let style = Style {
        format: m.text("format"),
        terminal: session.console.is_terminal(),
    };
    let mut find = |name: &str| find(&store, name, kinds, with_size);
    inspect(&names, style, &mut find, session.console.out(), &mut std::io::stderr())?;
    Ok(0)
}

fn find(store: &Store, name: &str, kinds: Kinds, with_size: bool) -> Result<Value> {
    let container = || container::inspect::inspect(store, &store.resolve_container(name)?, with_size);
    let image = || {
        Ok(serde_json::to_value(image::inspect::inspect(
            store,
            &image::resolve(store, name)?,
        )?)?)
    };
    let volume = || view::volume::inspect(store, name);
    let network = || view::network::inspect(store, name);
    match kinds {
        Kinds::Container => container(),
        Kinds::Image => image(),
        Kinds::Volume => volume(),
        Kinds::Network => network(),
        Kinds::Any => first(&[&container, &image, &volume, &network])
            .unwrap_or_else(|| Err(Error::not_found(format!("No such object: {name}")))),
    }
}

/// The first that finds something, or fails for another reason than that there is nothing.
fn first(finders: &[&dyn Fn() -> Result<Value>]) -> Option<Result<Value>> {
    finders
        .iter()
        .map(|find| find())
        .find(|found| !matches!(found, Err(e) if e.kind() == Kind::NotFound))
}
