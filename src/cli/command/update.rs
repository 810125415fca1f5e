//! `update`: other limits and another restart policy for containers.

use crate::cli::argument::{Values, bytes_list, list, value, words};
use crate::cli::blame;
use crate::cli::container::{group_flags, resources};
use crate::cli::environment::environment;
use crate::cli::resource;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::update::{Update, update};
use crate::error::{Context as _, Error, Result};
use crate::model::port::{self, Publish};
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "update",
    about: "Change limits, published ports and restart policy of containers",
    examples: &[
        ("barge update -m 512m --cpus 1.5 web", "at once, if it runs"),
        ("barge update -e LEVEL=debug web", "a variable, from its next start on"),
        ("barge update --restart unless-stopped web db", "for both"),
        (
            "barge update --publish-rm 80 --publish-add 8081:80 web",
            "another port of the host, while it runs",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    group_flags(command)
        .arg(
            bytes_list(
                "env",
                "NAME=VALUE",
                "Set an environment variable from the next start on; NAME alone takes the caller's value",
            )
            .short('e'),
        )
        .arg(bytes_list("unsetenv", "NAME", "Take it away from the next start on"))
        .arg(list(
            "publish-add",
            "[[IP:]HOST:]PORT",
            "Publish one more port, or a range; at once, if it runs",
        ))
        .arg(list(
            "publish-rm",
            "[[IP:]HOST:]PORT",
            "Publish it no more; without HOST from whatever port of the host",
        ))
        .arg(value(
            "restart",
            "POLICY",
            "When to start again: no, on-failure[:max], always, unless-stopped",
        ))
        .arg(words("CONTAINER", "Names or ids"))
}

fn ports(m: &ArgMatches, flag: &str) -> Result<Vec<Publish>> {
    let mut all = Vec::new();
    for text in m.texts(flag) {
        all.extend(port::parse_publish(text).with_context(|| format!("--{flag} {text}"))?);
    }
    Ok(all)
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut env = environment(std::iter::empty(), m.raws("env"), |name| std::env::var_os(name))?;
    env.retain(|pair| pair.split_env().1.is_some());
    let asked = || {
        Ok(Update {
            resources: resources(m)?,
            restart: m.text("restart").map(resource::restart).transpose()?,
            publish_add: ports(m, "publish-add")?,
            publish_rm: ports(m, "publish-rm")?,
            env,
            unset_env: m.raws("unsetenv").map(|name| name.to_owned().into()).collect(),
        })
    };
    let wanted: Update = asked().map_err(|e| blame::flag(m, e))?;
    if wanted == Update::default() {
        return Err(
            Error::usage("You must provide one or more flags when using this command.")
                .with_hint("`barge help update` lists them"),
        );
    }
    session.each(m.texts("CONTAINER"), |store, id| {
        update(store, id, &wanted).map(|()| None)
    })
}
