//! `manifest`: lists of images for several platforms. Docker's spellings and podman's.

use crate::cli::access;
use crate::cli::argument::{Values, bytes, flag, list, value, word, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::{Context, Error, Result};
use crate::format::manifest::Dialect;
use crate::image::manifest::{self, Changes, Members, Push, Reach};
use crate::model::reference::Reference;
use crate::output::progress::{self, To};
use crate::output::terminal::clean_lines;
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use std::io::Write as _;

const fn part(
    name: &'static str,
    about: &'static str,
    examples: &'static [(&'static str, &'static str)],
    define: fn(Command) -> Command,
    run: fn(&ArgMatches, &mut Session) -> Result<u8>,
) -> Spec {
    Spec {
        name,
        about,
        examples,
        also: None,
        body: Body::plain(define, run),
    }
}

pub(super) const SPEC: Spec = Spec {
    name: "manifest",
    about: "Work with manifests, and with lists of them for several platforms",
    examples: &[],
    also: None,
    body: Body::Noun(&[
        part(
            "add",
            "Add an image to a list",
            &[(
                "barge manifest add web:1 registry.example.org/web:1-arm64",
                "the image may be here or at a registry",
            )],
            define_add,
            run_add,
        ),
        part(
            "annotate",
            "Say what an image in a list is for",
            &[(
                "barge manifest annotate --arch arm64 --variant v8 web:1 registry.example.org/web:1-arm64",
                "where its own configuration is wrong",
            )],
            define_annotate,
            run_annotate,
        ),
        part(
            "create",
            "Make a list of images",
            &[(
                "barge manifest create registry.example.org/web:1 web:1-amd64 web:1-arm64",
                "kept here until it is pushed",
            )],
            define_create,
            run_create,
        ),
        part(
            "exists",
            "Tell by the exit code whether there is such a list here",
            &[("barge manifest exists web:1", "0 if there is, 1 if not")],
            |command| command.arg(word("LIST", "The list's name")),
            run_exists,
        ),
        part(
            "inspect",
            "Show a manifest or a list, here or at a registry",
            &[
                ("barge manifest inspect debian:12", "as the registry has it"),
                ("barge manifest inspect -v debian:12", "with every manifest it names"),
            ],
            define_inspect,
            run_inspect,
        ),
        part(
            "push",
            "Send a list, and what it names, to a registry",
            &[("barge manifest push registry.example.org/web:1", "and print its digest")],
            define_push,
            run_push,
        ),
        part(
            "remove",
            "Take an image out of a list",
            &[(
                "barge manifest remove web:1 registry.example.org/web:1-arm64",
                "by the name it was added by, or by its digest",
            )],
            |command| {
                command
                    .arg(word("LIST", "The list's name"))
                    .arg(word("IMAGE", "The name it was added by, or its digest"))
            },
            run_remove,
        ),
        part(
            "rm",
            "Forget lists",
            &[("barge manifest rm web:1", "what is at the registry stays")],
            |command| command.arg(words("LIST", "Names of lists")),
            run_rm,
        ),
    ]),
};

fn define_create(command: Command) -> Command {
    access::define(command)
        .arg(flag("amend", "Go on with a list that is there").short('a'))
        .arg(flag("all", "Of an image for several platforms, add all of them"))
        .arg(list("annotation", "KEY=VALUE", "Annotation of the list"))
        .arg(insecure())
        .arg(word("LIST", "The list's name"))
        .arg(words("IMAGE", "Images, here or at a registry").required(false))
}

fn define_add(command: Command) -> Command {
    platform(access::define(command))
        .arg(flag("all", "Of an image for several platforms, add all of them"))
        .arg(insecure())
        .arg(word("LIST", "The list's name"))
        .arg(words("IMAGE", "Images, here or at a registry"))
}

fn define_annotate(command: Command) -> Command {
    platform(command)
        .arg(word("LIST", "The list's name"))
        .arg(word("IMAGE", "The name it was added by, or its digest"))
}

fn platform(command: Command) -> Command {
    command
        .arg(value("os", "OS", "Operating system"))
        .arg(value("arch", "ARCH", "Architecture"))
        .arg(value("variant", "VARIANT", "Variant of the architecture"))
        .arg(value("os-version", "VERSION", "Version of the operating system"))
        .arg(list("os-features", "FEATURE", "Features of the operating system"))
        .arg(list("features", "FEATURE", "Accepted for podman's sake: nothing reads them").hide(true))
        .arg(list("annotation", "KEY=VALUE", "Annotation of the entry"))
}

fn define_inspect(command: Command) -> Command {
    access::define(command)
        .arg(flag("verbose", "With every manifest it names, and their descriptors").short('v'))
        .arg(flag("raw", "Byte for byte as it is"))
        .arg(insecure())
        .arg(word(
            "NAME",
            "A list, an image, or a list that names the image that follows",
        ))
        .arg(Arg::new("IMAGE").help("One manifest of the list").hide(true))
}

fn define_push(command: Command) -> Command {
    access::define(command)
        .arg(flag("purge", "Forget the list afterwards").short('p'))
        .arg(flag("rm", "The same").hide(true))
        .arg(flag("all", "Send what it names as well: always done").hide(true))
        .arg(flag("quiet", "Print nothing").short('q'))
        .arg(value("format", "FORMAT", "In whose words: oci or v2s2 (docker's)").short('f'))
        .arg(bytes("digestfile", "FILE", "Write the digest to this file"))
        .arg(insecure())
        .arg(word("LIST", "The list's name"))
        .arg(Arg::new("DESTINATION").help("Where to, if not under its own name"))
}

/// Docker's word for `--tls-verify=false`.
fn insecure() -> Arg {
    flag("insecure", "The registry may have plain HTTP or a bad certificate").hide(true)
}

fn access_of(m: &ArgMatches) -> Result<crate::registry::Access> {
    let mut access = access::of(m)?;
    if m.on("insecure") {
        access.tls_verify = Some(false);
    }
    Ok(access)
}

fn list_name(m: &ArgMatches) -> Result<Reference> {
    manifest::name(m.text("LIST").unwrap_or_default())
}

fn pairs(m: &ArgMatches) -> Result<Vec<(String, String)>> {
    m.texts("annotation")
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::usage(format!("invalid annotation '{text}': want KEY=VALUE"))),
        })
        .collect()
}

fn changes(m: &ArgMatches) -> Result<Changes> {
    let text = |name| m.text(name).map(str::to_owned);
    let features = m.texts("os-features").flat_map(|text| text.split(','));
    Ok(Changes {
        os: text("os"),
        architecture: text("arch"),
        variant: text("variant"),
        os_version: text("os-version"),
        os_features: features.map(str::to_owned).collect(),
        annotations: pairs(m)?,
    })
}

fn found(m: &ArgMatches, session: &Session) -> Result<Members> {
    let access = access_of(m)?;
    let reach = Reach {
        access: &access,
        all: m.on("all"),
    };
    let words: Vec<&str> = m.texts("IMAGE").collect();
    Members::find(&session.store()?, &words, &reach)
}

fn run_create(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let name = list_name(m)?;
    let members = found(m, session)?;
    manifest::create(&session.store()?, &name, &members, &pairs(m)?, m.on("amend"))?;
    session.console.line(&format!("Created manifest list {name}"))?;
    Ok(0)
}

fn run_add(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let name = list_name(m)?;
    let members = found(m, session)?;
    let digest = manifest::add(&session.store()?, &name, &members, &changes(m)?)?;
    session.console.line(&digest.to_string())?;
    Ok(0)
}

fn run_annotate(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let what = m.text("IMAGE").unwrap_or_default();
    manifest::annotate(&session.store()?, &list_name(m)?, what, &changes(m)?)?;
    Ok(0)
}

fn run_exists(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    Ok(u8::from(!manifest::exists(&session.store()?, &list_name(m)?)?))
}

fn run_remove(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let what = m.text("IMAGE").unwrap_or_default();
    let digest = manifest::remove(&session.store()?, &list_name(m)?, what)?;
    session.console.line(&digest.to_string())?;
    Ok(0)
}

fn run_rm(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let mut code = 0;
    for text in m.texts("LIST") {
        match manifest::name(text).and_then(|name| manifest::forget(&store, &name)) {
            Ok(()) => {}
            Err(e) => {
                session.console.error(&e);
                code = 1;
            }
        }
    }
    Ok(code)
}

fn run_inspect(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    // `inspect LIST IMAGE`: the list is only where docker would look for what was changed of the image.
    let what = m.text("IMAGE").or(m.text("NAME")).unwrap_or_default();
    let verbose = m.on("verbose");
    let shown = manifest::inspect(&session.store()?, what, &access_of(m)?, verbose)?;
    if !verbose {
        // For a program every byte, as its digest is of them; for a person nothing that a terminal obeys.
        if m.on("raw") && !session.console.is_terminal() {
            session.console.out().write_all(&shown.bytes)?;
            return Ok(0);
        }
        let text = match m.on("raw") {
            true => String::from_utf8_lossy(&shown.bytes).into_owned(),
            false => pretty(&serde_json::from_slice(&shown.bytes)?, b"   ")?,
        };
        session.console.line(&clean_lines(&text))?;
        return Ok(0);
    }
    let mut all = Vec::new();
    for (name, descriptor, bytes) in &shown.each {
        let kind = match descriptor.media_type.contains("oci") {
            true => "OCIManifest",
            false => "SchemaV2Manifest",
        };
        all.push(json!({
            "Ref": name,
            "Descriptor": descriptor,
            kind: serde_json::from_slice::<Value>(bytes)?,
        }));
    }
    let shown = match all.len() {
        1 => all.remove(0),
        _ => Value::Array(all),
    };
    session.console.line(&clean_lines(&pretty(&shown, b"\t")?))?;
    Ok(0)
}

fn pretty(value: &Value, indent: &[u8]) -> Result<String> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(value, &mut serializer)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn run_push(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let name = list_name(m)?;
    let access = access_of(m)?;
    let dialect = match m.text("format") {
        None => None,
        Some("oci") => Some(Dialect::Oci),
        Some("v2s2" | "docker") => Some(Dialect::Docker),
        Some(other) => return Err(Error::usage(format!("unknown format '{other}': want oci or v2s2"))),
    };
    let wanted = Push {
        list: &name,
        destination: m.text("DESTINATION").map(manifest::name).transpose()?,
        access: &access,
        dialect,
        purge: m.on("purge") || m.on("rm"),
    };
    let progress = progress::for_command(m.on("quiet"), To::Stderr);
    let digest = manifest::push(&session.store()?, &wanted, &*progress)?;
    if let Some(path) = m.raw("digestfile") {
        let mut options = std::fs::File::options();
        let file = options.write(true).create(true).truncate(true).open(path);
        file.and_then(|mut file| file.write_all(digest.to_string().as_bytes()))
            .with_context(|| format!("write {}", path.display()))?;
    }
    if !m.on("quiet") {
        session.console.line(&digest.to_string())?;
    }
    Ok(0)
}
