//! `tag`: gives an image a further name.

use crate::cli::argument::{Values, flag, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::{Error, Result};
use crate::image::tag;
use crate::model::reference::{Reference, split_tag};
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "tag",
    about: "Give an image a further name",
    examples: &[(
        "barge tag debian registry.example.com/base:12",
        "the same image under both",
    )],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(
            flag("force", "No effect: a name that another image has always moves")
                .short('f')
                .hide(true),
        )
        .arg(word("IMAGE", "Name or id of the image"))
        .arg(word("NAME[:TAG]", "The further name"))
        .arg(Arg::new("TAG").help("The tag, as a word of its own").hide(true))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let target = reference(m.text("NAME[:TAG]").unwrap_or_default(), m.text("TAG"))?;
    tag::tag(&session.store()?, m.text("IMAGE").unwrap_or_default(), &target)?;
    Ok(0)
}

/// `NAME[:TAG]`, or 2013's `NAME TAG` (F012).
pub(super) fn reference(name: &str, tag: Option<&str>) -> Result<Reference> {
    match (tag, split_tag(name).1) {
        (Some(_), Some(_)) => Err(Error::usage(format!("{name} has a tag already"))),
        (Some(tag), None) => Reference::parse(&format!("{name}:{tag}")),
        (None, _) => Reference::parse(name),
    }
}
