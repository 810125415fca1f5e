//! `build`: a Dockerfile and its context → an image.

use crate::build::options::{CacheOptions, Destination, Entitlement, Options, Output, Squash, TimeOptions};
use crate::build::{self, expand, lint};
use crate::cli::argument::{Values, bytes, bytes_list, flag, list, value, whole_number};
use crate::cli::build as values;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::cli::{access, container, mount, names, network, resource, security, service};
use crate::container::config::{NameArgs, RunArgs};
use crate::error::{Context as _, Error, Result};
use crate::image::pull::PullPolicy;
use crate::model::reference::Reference;
use crate::model::security::Security;
use crate::model::time::{Timestamp, parse_duration};
use crate::output::build_progress::{self, Mode};
use crate::output::progress::To;
use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(super) const SPEC: Spec = Spec {
    name: "build",
    about: "Build an image from a Dockerfile",
    examples: &[
        (
            "barge build -t app .",
            "the Dockerfile of this directory, and the files beside it",
        ),
        (
            "barge build -f docker/web.Dockerfile --target test --build-arg VERSION=3 .",
            "one stage of another Dockerfile",
        ),
        (
            "barge build - < Dockerfile",
            "without files; a tar archive may come in too",
        ),
        (
            "barge build -t app github.com/user/repo#v1:docker",
            "a directory of a git repository",
        ),
        (
            "barge build --secret id=token,src=$HOME/.token -o type=local,dest=out .",
            "with a secret for RUN --mount=type=secret, and the files instead of an image",
        ),
        ("barge build --check .", "only look for mistakes"),
    ],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
};

fn define(command: Command) -> Command {
    let command = image_flags(command);
    let command = source_flags(command.next_help_heading("Sources"));
    let command = cache_flags(command.next_help_heading("Cache"));
    let command = output_flags(command.next_help_heading("Output"));
    let command = run_flags(command.next_help_heading("Instructions that run"));
    let command = access::define(command.next_help_heading("Registries"));
    command.next_help_heading(None).arg(
        Arg::new("PATH|URL|-")
            .help("The context: a directory, a URL, a git repository, or - for stdin")
            .required(true)
            .value_hint(ValueHint::DirPath)
            .value_parser(value_parser!(OsString)),
    )
}

fn image_flags(command: Command) -> Command {
    command
        .arg(list("tag", "NAME[:TAG]", "Name of the image; may be repeated").short('t'))
        .arg(list("label", "NAME=VALUE", "Set a label of the image"))
        .arg(list("annotation", "NAME=VALUE", "Set an annotation of the manifest"))
        .arg(list(
            "platform",
            "OS/ARCH,…",
            "Build for other platforms than this machine's",
        ))
        .arg(value("os", "OS", "Part of --platform").hide(true))
        .arg(value("arch", "ARCH", "Part of --platform").hide(true))
        .arg(value("variant", "VARIANT", "Part of --platform").hide(true))
        .arg(value(
            "target",
            "STAGE",
            "Build this stage, by its name or index, and what it needs",
        ))
        .arg(flag("squash", "Make one layer of all that the build has made"))
        .arg(flag("squash-all", "Make one layer of all, the base image included"))
        .arg(list("env", "NAME=VALUE", "Set a variable of the image"))
        .arg(list("unsetenv", "NAME", "Remove a variable of the base image"))
        .arg(list("unsetlabel", "NAME", "Remove a label of the base image"))
        .arg(flag(
            "inherit-labels",
            "Keep the labels of the base image [default: true]",
        ))
        .arg(flag("omit-history", "Leave the history out"))
        .arg(value(
            "source-date-epoch",
            "SECONDS",
            "Time of the image and the newest of its files, so that the same sources give the same image",
        ))
        .arg(value("timestamp", "SECONDS", "The same").hide(true))
        .arg(flag(
            "rewrite-timestamp",
            "With --source-date-epoch: also the times of files [default: true]",
        ))
}

fn source_flags(command: Command) -> Command {
    command
        .arg(bytes("file", "FILE", "The Dockerfile; - is stdin [default: PATH/Dockerfile]").short('f'))
        .arg(bytes(
            "ignorefile",
            "FILE",
            "Which files of the context do not count, instead of .dockerignore",
        ))
        .arg(list(
            "build-context",
            "NAME=PLACE",
            "A directory, docker-image://IMAGE, oci-layout://DIR or URL that FROM and --from know by this name",
        ))
        .arg(list(
            "build-arg",
            "NAME[=VALUE]",
            "Value of an ARG; NAME alone takes the caller's variable",
        ))
        .arg(bytes_list("build-arg-file", "FILE", "Read values of ARGs from a file"))
        .arg(value("from", "IMAGE", "Base image, instead of the first FROM's"))
        .arg(
            value(
                "pull",
                "POLICY",
                "Pull base images: missing, always, newer or never; alone it means always",
            )
            .num_args(0..=1)
            .require_equals(true)
            .allow_hyphen_values(false)
            .default_missing_value("always"),
        )
        .arg(flag(
            "skip-unused-stages",
            "Leave out stages that the target does not need [default: true]",
        ))
        .arg(flag("check", "Only look for mistakes in the Dockerfile"))
        .arg(value("call", "METHOD", "What to do: build or check").hide(true))
}

fn cache_flags(command: Command) -> Command {
    command
        .arg(flag("no-cache", "Take nothing from the cache"))
        .arg(list(
            "no-cache-filter",
            "STAGE,…",
            "Take nothing from the cache for these stages",
        ))
        .arg(list(
            "cache-from",
            "PLACE",
            "Take steps from here too: an image, or type=local,src=DIR",
        ))
        .arg(list(
            "cache-to",
            "PLACE",
            "Keep steps here too: type=registry,ref=NAME, type=local,dest=DIR or type=inline",
        ))
        .arg(value(
            "cache-ttl",
            "DURATION",
            "Take nothing from the cache that is older",
        ))
        .arg(flag("layers", "Keep a layer for each step [default: true]"))
        .arg(flag("rm", "Accepted: a step's container never outlives its step"))
        .arg(flag("force-rm", "Accepted: as --rm"))
}

fn output_flags(command: Command) -> Command {
    command
        .arg(
            list(
                "output",
                "PLACE",
                "Instead of an image: DIR, - or type=local|tar|oci|docker|image|registry,dest=…",
            )
            .short('o'),
        )
        .arg(flag("push", "Push the image to its registry"))
        .arg(flag("load", "Keep the image here, which it is anyway").hide(true))
        .arg(bytes("iidfile", "FILE", "Write the image's id to this file"))
        .arg(bytes(
            "metadata-file",
            "FILE",
            "Write what was built to this file, as JSON",
        ))
        .arg(value(
            "progress",
            "LOOK",
            "auto, plain, tty, quiet or rawjson [default: auto]",
        ))
        .arg(flag("quiet", "Say nothing but the image's id").short('q'))
        .arg(flag("compress", "Taken for docker's sake: nothing is sent anywhere").hide(true))
        .arg(flag("disable-content-trust", "Taken for docker's sake").hide(true))
        .arg(value("provenance", "MODE", "Taken for docker's sake: there is none").hide(true))
        .arg(value("sbom", "MODE", "Taken for docker's sake: there is none").hide(true))
        .arg(value("builder", "NAME", "Taken for docker's sake: there is one").hide(true))
        .arg(value("format", "FORMAT", "oci or docker").hide(true))
        .arg(value("isolation", "KIND", "Taken for docker's sake: default").hide(true))
}

fn run_flags(command: Command) -> Command {
    container::group_flags(command)
        .arg(list(
            "secret",
            "id=NAME,src=FILE",
            "A secret for RUN --mount=type=secret; env=VARIABLE instead of a file",
        ))
        .arg(list(
            "ssh",
            "ID[=SOCKET|KEY]",
            "An agent or keys for RUN --mount=type=ssh; default is the caller's agent",
        ))
        .arg(list("network", "NETWORK", "Network of RUN: default, none, host or a name").alias("net"))
        .arg(list(
            "add-host",
            "NAME:ADDRESS",
            "Add a line to /etc/hosts while building",
        ))
        .arg(list("dns", "ADDRESS", "Name server to ask instead of the host's"))
        .arg(list("dns-option", "OPTION", "Option of resolv.conf").alias("dns-opt"))
        .arg(list("dns-search", "DOMAIN", "Domain to look names up in"))
        .arg(flag(
            "http-proxy",
            "Give RUN the caller's proxy variables [default: true]",
        ))
        .arg(list(
            "allow",
            "WHAT",
            "Allow network.host or security.insecure to the Dockerfile",
        ))
        .arg(list("cap-add", "NAME", "Add a capability, or ALL"))
        .arg(list("cap-drop", "NAME", "Drop a capability, or ALL"))
        .arg(list("device", "HOST[:PATH[:rwm]]", "Give a host device"))
        .arg(list("group-add", "GROUP", "Add a group"))
        .arg(list(
            "security-opt",
            "OPTION",
            "seccomp=FILE|unconfined, no-new-privileges, …",
        ))
        .arg(value("cgroup-parent", "SLICE", "Where control groups are made"))
        .arg(value("shm-size", "BYTES", "Size of /dev/shm, 64m by default"))
        .arg(list("ulimit", "NAME=SOFT[:HARD]", "Set a resource limit"))
        .arg(bytes_list("volume", "HOST:PATH[:OPTIONS]", "Mount a directory while building").short('v'))
        .arg(
            value(
                "jobs",
                "NUMBER",
                "Stages to build at once; 0 is as many as there are processors",
            )
            .value_parser(whole_number),
        )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mode = match (m.on("quiet"), m.text("progress")) {
        (true, _) => Mode::Quiet,
        (false, Some(text)) => text.parse()?,
        (false, None) => std::env::var("BUILDKIT_PROGRESS")
            .unwrap_or_default()
            .parse()
            .unwrap_or_default(),
    };
    let mut options = options(m)?;
    session.complete(&mut options.run);
    for (flag, says) in [
        ("provenance", "no attestations are made"),
        ("sbom", "no attestations are made"),
    ] {
        if m.text(flag).is_some_and(|v| !matches!(v, "" | "false")) {
            session.console.note(&format!("barge: --{flag}: {says}"));
        }
    }
    if options.check {
        return check(&options, session);
    }
    let store = session.store()?;
    // Where data goes to stdout, words do not.
    let data = options.outputs.iter().any(|o| match o {
        Output::Tar { dest } | Output::Oci { dest, .. } => *dest == Destination::Stdout,
        Output::Docker { dest, .. } => *dest == Some(Destination::Stdout),
        _ => false,
    });
    let progress = build_progress::for_command(mode, if data { To::Stderr } else { To::Stdout });
    let built = build::build(&store, &options, &*progress)?;
    if mode == Mode::Quiet && !data {
        for id in &built.ids {
            session.console.line(&id.to_string())?;
        }
    }
    Ok(0)
}

fn check(options: &Options, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let report = lint::check_options(&store, options)?;
    for finding in &report.findings {
        session.console.line(&finding.to_string())?;
    }
    match &report.findings[..] {
        [] => {
            session.console.line("Check complete, no warnings found.")?;
            Ok(0)
        }
        found => {
            let warnings = if found.len() == 1 {
                "warning has"
            } else {
                "warnings have"
            };
            session
                .console
                .line(&format!("Check complete, {} {warnings} been found!", found.len()))?;
            // As docker: a check that finds something fails.
            Ok(1)
        }
    }
}

/// The words as [`Options`].
pub(super) fn options(m: &ArgMatches) -> Result<Options> {
    let context = values::context(m.raw("PATH|URL|-").unwrap_or_default())?;
    let tags = m.texts("tag").map(name).collect::<Result<Vec<_>>>()?;
    let (args, proxies) = arguments(m)?;
    let time = times(m, &args)?;
    let mut outputs = m
        .texts("output")
        .map(|o| values::output(o, &tags))
        .collect::<Result<Vec<_>>>()?;
    if m.on("push") {
        if tags.is_empty() {
            return Err(Error::usage("--push needs a name (-t)"));
        }
        outputs.push(Output::Image {
            names: tags.clone(),
            push: true,
        });
    }
    let format = m.text("format").unwrap_or("oci");
    if !matches!(format, "oci" | "docker") {
        return Err(Error::usage(format!("invalid --format '{format}'")).with_hint("there are oci and docker"));
    }
    if !matches!(m.text("isolation").unwrap_or_default(), "" | "default" | "oci") {
        return Err(Error::usage("invalid --isolation: there is only default"));
    }
    let check = match m.text("call") {
        None | Some("build") => m.on("check"),
        Some("check" | "lint") => true,
        Some(other) => {
            return Err(Error::usage(format!("invalid --call '{other}'")).with_hint("there are build and check"));
        }
    };
    let file = |id: &str| m.raw(id).filter(|f| !f.is_empty()).map(PathBuf::from);
    let pairs = |id: &str| m.texts(id).map(|t| values::pair(id, t)).collect::<Result<Vec<_>>>();
    Ok(Options {
        dockerfile: values::dockerfile(m.raw("file"), &context)?,
        ignore_file: file("ignorefile"),
        named_contexts: m
            .texts("build-context")
            .map(values::named_context)
            .collect::<Result<_>>()?,
        tags,
        target: m.text("target").filter(|t| !t.is_empty()).map(str::to_owned),
        args,
        proxies,
        labels: labels(m)?,
        annotations: pairs("annotation")?
            .into_iter()
            .map(|(name, value)| (unlevelled(&name).to_owned(), value))
            .collect(),
        platforms: platforms(m)?,
        pull: match m.text("pull") {
            None | Some("false") => PullPolicy::Missing,
            Some("true") => PullPolicy::Always,
            Some(policy) => policy.parse()?,
        },
        access: access::of(m)?,
        cache: cache(m)?,
        secrets: m.texts("secret").map(values::secret).collect::<Result<_>>()?,
        ssh: m.texts("ssh").map(values::ssh).collect::<Result<_>>()?,
        outputs,
        iid_file: file("iidfile"),
        metadata_file: file("metadata-file"),
        squash: match (m.on("squash-all"), m.on("squash") || m.switch("layers") == Some(false)) {
            (true, _) => Squash::All,
            (false, true) => Squash::New,
            (false, false) => Squash::No,
        },
        run: run_args(m)?,
        time,
        allow: m.texts("allow").map(str::parse::<Entitlement>).collect::<Result<_>>()?,
        image_env: m
            .texts("env")
            .filter_map(|t| environment(t).transpose())
            .collect::<Result<_>>()?,
        unset_env: m.texts("unsetenv").map(str::to_owned).collect(),
        unset_labels: m.texts("unsetlabel").map(str::to_owned).collect(),
        replace_base: m.text("from").filter(|f| !f.is_empty()).map(str::to_owned),
        jobs: jobs(m)?,
        check,
        omit_history: m.on("omit-history"),
        drop_base_labels: m.switch("inherit-labels") == Some(false),
        all_stages: m.switch("skip-unused-stages") == Some(false),
        context,
    })
}

fn name(text: &str) -> Result<Reference> {
    let name = Reference::parse(text)?.or_latest();
    match name.digest {
        None => Ok(name),
        Some(_) => Err(Error::usage(format!(
            "invalid --tag '{text}': a name to give has no digest"
        ))),
    }
}

/// `manifest:NAME`, `index,manifest:NAME`: there is one manifest to annotate.
fn unlevelled(name: &str) -> &str {
    match name.split_once(':') {
        Some((levels, rest))
            if levels
                .split(',')
                .all(|l| l.starts_with("manifest") || l.starts_with("index")) =>
        {
            rest
        }
        _ => name,
    }
}

fn labels(m: &ArgMatches) -> Result<BTreeMap<String, String>> {
    crate::cli::environment::labels(std::iter::empty(), m.texts("label"))
}

/// What the image gets: a bare name takes the caller's value.
fn environment(text: &str) -> Result<Option<(String, String)>> {
    values::argument(text, |name| std::env::var(name).ok()).map_err(|_| Error::usage(format!("invalid --env '{text}'")))
}

fn platforms(m: &ArgMatches) -> Result<Vec<crate::model::platform::Platform>> {
    let parts = [m.text("os"), m.text("arch"), m.text("variant")];
    if parts.iter().all(Option::is_none) {
        return values::platforms(m.texts("platform"));
    }
    if m.texts("platform").next().is_some() {
        return Err(Error::usage("--platform stands instead of --os, --arch and --variant"));
    }
    let host = crate::model::platform::Platform::host();
    let [os, arch, variant] = parts;
    let mut text = format!("{}/{}", os.unwrap_or("linux"), arch.unwrap_or(&host.architecture));
    if let Some(variant) = variant {
        text = format!("{text}/{variant}");
    }
    values::platforms([text.as_str()].into_iter())
}

type Arguments = BTreeMap<String, String>;

/// Build arguments, files first; and the proxies, which are no arguments that count.
fn arguments(m: &ArgMatches) -> Result<(Arguments, Arguments)> {
    let caller = |name: &str| std::env::var(name).ok();
    let mut args = BTreeMap::new();
    for file in m.raws("build-arg-file") {
        let what = || format!("read {}", file.display());
        let text = std::fs::read_to_string(Path::new(file)).with_context(what)?;
        args.extend(values::argument_file(&text, caller)?);
    }
    for text in m.texts("build-arg") {
        args.extend(values::argument(text, caller)?);
    }
    let mut proxies = BTreeMap::new();
    if m.switch("http-proxy") != Some(false) {
        let all = expand::PROXIES.iter();
        proxies.extend(all.filter_map(|name| Some(((*name).to_owned(), caller(name)?))));
    }
    for name in expand::PROXIES {
        if let Some(value) = args.get(name) {
            proxies.insert(name.to_owned(), value.clone());
        }
    }
    if !args.contains_key("SOURCE_DATE_EPOCH") {
        let given = m.text("source-date-epoch").map(str::to_owned);
        args.extend(
            given
                .or_else(|| caller("SOURCE_DATE_EPOCH"))
                .filter(|t| !t.is_empty())
                .map(|t| ("SOURCE_DATE_EPOCH".to_owned(), t)),
        );
    }
    Ok((args, proxies))
}

/// `--timestamp` and `--source-date-epoch` win over the build argument and the variable of the name.
fn times(m: &ArgMatches, args: &Arguments) -> Result<TimeOptions> {
    let given = m.text("timestamp").or(m.text("source-date-epoch"));
    if m.text("timestamp").is_some() && m.text("source-date-epoch").is_some() {
        return Err(Error::usage("--timestamp and --source-date-epoch exclude each other"));
    }
    let text = given
        .or(args.get("SOURCE_DATE_EPOCH").map(String::as_str))
        .filter(|t| !t.is_empty());
    let created = text
        .map(|text| {
            let seconds = text.parse::<i64>().ok().filter(|n| *n >= 0);
            let time = seconds.and_then(|n| Timestamp::from_second(n).ok());
            time.ok_or_else(|| {
                Error::usage(format!("invalid SOURCE_DATE_EPOCH '{text}'"))
                    .with_hint("it is seconds since 1970, such as 1700000000")
            })
        })
        .transpose()?;
    Ok(TimeOptions {
        created,
        rewrite_files: created.is_some() && m.switch("rewrite-timestamp") != Some(false),
    })
}

fn cache(m: &ArgMatches) -> Result<CacheOptions> {
    let oldest = m.text("cache-ttl").map(|text| {
        parse_duration(text)
            .ok_or_else(|| Error::usage(format!("invalid --cache-ttl '{text}'")).with_hint("write it like 24h"))
    });
    let oldest = oldest.transpose()?;
    let stages = m.texts("no-cache-filter").flat_map(|list| list.split(','));
    Ok(CacheOptions {
        // Nothing that is 0 old.
        ignore: m.on("no-cache") || oldest.is_some_and(|d| d.is_zero()),
        ignore_stages: stages.filter(|s| !s.is_empty()).map(str::to_ascii_lowercase).collect(),
        oldest: oldest.filter(|d| !d.is_zero()),
        from: m
            .texts("cache-from")
            .filter(|t| !t.is_empty())
            .map(values::cache_from)
            .collect::<Result<_>>()?,
        to: m
            .texts("cache-to")
            .filter(|t| !t.is_empty())
            .map(values::cache_to)
            .collect::<Result<_>>()?,
    })
}

fn jobs(m: &ArgMatches) -> Result<Option<usize>> {
    match m.get_one::<i64>("jobs") {
        None | Some(0) => Ok(None),
        Some(n) => usize::try_from(*n)
            .map(Some)
            .map_err(|_| Error::usage(format!("invalid --jobs {n}: want a number from 0 on"))),
    }
}

/// What RUN's containers are like.
fn run_args(m: &ArgMatches) -> Result<RunArgs> {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut confinement = Security {
        cap_add: m.texts("cap-add").map(security::capability).collect::<Result<_>>()?,
        cap_drop: m.texts("cap-drop").map(security::capability).collect::<Result<_>>()?,
        ..Security::default()
    };
    for text in m.texts("security-opt") {
        security::option(&mut confinement, text)?;
    }
    let mut args = RunArgs {
        network: network::modes(m.texts("network"))?,
        names: NameArgs {
            dns: m.texts("dns").map(names::server).collect::<Result<_>>()?,
            dns_search: m.texts("dns-search").map(names::domain).collect::<Result<_>>()?,
            dns_options: m.texts("dns-option").map(names::option).collect::<Result<_>>()?,
            extra_hosts: m.texts("add-host").map(names::add_host).collect::<Result<_>>()?,
            ..NameArgs::default()
        },
        resources: container::resources(m)?,
        ulimits: m.texts("ulimit").map(resource::ulimit).collect::<Result<_>>()?,
        devices: m.texts("device").map(resource::device).collect::<Result<_>>()?,
        groups: m.texts("group-add").map(str::to_owned).collect(),
        security: confinement,
        shm_size: m.text("shm-size").map(resource::bytes).transpose()?,
        ..RunArgs::default()
    };
    args.service.cgroup_parent = m
        .text("cgroup-parent")
        .filter(|p| !p.is_empty())
        .map(service::parent)
        .transpose()?;
    for text in m.raws("volume") {
        match mount::volume(text, &here)? {
            mount::Volume::Mounted(mount) => args.mounts.push(mount),
            mount::Volume::Anonymous(_) => {
                return Err(
                    Error::usage(format!("invalid --volume '{}': it has no source", text.display()))
                        .with_hint("write it like HOST:PATH"),
                );
            }
        }
    }
    Ok(args)
}

/// From words as typed.
#[cfg(test)]
pub(super) fn parsed(words: &[&str]) -> Result<Options> {
    let mut parser = crate::cli::tree::parser(&["build"]).ok_or_else(|| Error::other("no build"))?;
    parser.build();
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let words = crate::cli::compat::normalise(&parser, &words);
    let all = std::iter::once(OsString::from("barge")).chain(words);
    let m = parser
        .try_get_matches_from_mut(all)
        .map_err(|e| Error::usage(e.to_string()))?;
    options(&m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::options::ContextPlace;
    use crate::build::options::DockerfilePlace;
    use crate::container::config::NetworkArg;

    #[test]
    fn the_words_of_2013() {
        let o = parsed(&["-t", "me/app:1", "-q", "-no-cache", "-rm=false", "."]).unwrap();
        assert_eq!(o.tags[0].to_string(), "me/app:1");
        assert!(o.cache.ignore);
        assert_eq!(o.context, ContextPlace::Directory(".".into()));
        assert_eq!(parsed(&["-"]).unwrap().context, ContextPlace::Stdin);
        assert!(parsed(&[]).is_err());
    }

    #[test]
    fn the_words_of_today() {
        let o = parsed(&[
            "-f",
            "a/b",
            "-t",
            "x",
            "-t",
            "y:2",
            "--target",
            "t",
            "--build-arg",
            "A=1",
            "--label",
            "l=m",
            "--platform",
            "linux/arm64,linux/amd64",
            "--pull",
            "--secret",
            "id=s,src=/f",
            "--ssh",
            "default",
            "-o",
            "type=tar,dest=o",
            "--iidfile",
            "i",
            "--metadata-file",
            "m",
            "--cache-from",
            "c",
            "--cache-to",
            "type=inline",
            "--squash",
            "--network",
            "host",
            "--add-host",
            "h:1.2.3.4",
            "-m",
            "64m",
            "--shm-size",
            "1m",
            "--ulimit",
            "nofile=10",
            "--allow",
            "network.host",
            "--jobs",
            "3",
            "--no-cache-filter",
            "A,b",
            "--annotation",
            "manifest:k=v",
            "--source-date-epoch",
            "1700000000",
            "-",
        ])
        .unwrap();
        assert_eq!(o.dockerfile, DockerfilePlace::File("a/b".into()));
        assert_eq!((o.tags.len(), o.platforms.len(), o.jobs), (2, 2, Some(3)));
        assert_eq!(o.pull, PullPolicy::Always);
        assert_eq!(o.run.network, NetworkArg::Host);
        assert_eq!(
            (o.run.resources.memory, o.run.shm_size),
            (Some(64 << 20), Some(1 << 20))
        );
        assert_eq!(o.cache.ignore_stages, ["a", "b"]);
        assert_eq!(o.annotations["k"], "v");
        assert_eq!(o.time.created.unwrap().as_second(), 1_700_000_000);
        assert!(o.time.rewrite_files && o.squash == Squash::New);
        assert_eq!(o.args["SOURCE_DATE_EPOCH"], "1700000000");
        assert_eq!(parsed(&["--pull=never", "."]).unwrap().pull, PullPolicy::Never);
        assert_eq!(parsed(&["--pull", "."]).unwrap().pull, PullPolicy::Always);
    }

    #[test]
    fn values_that_are_none() {
        for words in [
            &["-t", "A B", "."][..],
            &["--pull=sometimes", "."],
            &["--jobs", "-1", "."],
            &["--timestamp", "x", "."],
            &["--timestamp", "1", "--source-date-epoch", "1", "."],
            &["--allow", "all", "."],
            &["--push", "."],
            &["--cache-ttl", "x", "."],
            &["--network", "host", "--network", "none", "."],
            &["-v", "/x", "."],
            &["--env", "=x", "."],
            &["--os", "linux", "--platform", "linux/amd64", "."],
            &["--call", "outline", "."],
            &["--format", "zip", "."],
            &[
                "-t",
                "x@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                ".",
            ],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
