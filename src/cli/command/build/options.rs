//! The words of `build` as [`Options`].

use crate::build::expand;
use crate::build::options::{CacheOptions, Call, Entitlement, Options, Output, Squash, TimeOptions};
use crate::cli::argument::Values;
use crate::cli::build as values;
use crate::cli::{access, cdi, container, mount, names, network, resource, security, service};
use crate::container::config::{CdiArgs, NameArgs, RunArgs};
use crate::error::{Context as _, Error, Result};
use crate::image::pull::PullPolicy;
use crate::model::reference::Reference;
use crate::model::security::Security;
use crate::model::time::{Timestamp, parse_duration};
use clap::ArgMatches;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    let call = match m.text("call") {
        None if m.on("check") => Call::Check,
        None => Call::Build,
        Some(text) => values::call(text)?,
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
        call,
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
        devices: m
            .texts("device")
            .filter(|d| !cdi::is_name(d))
            .map(resource::device)
            .collect::<Result<_>>()?,
        cdi: CdiArgs {
            devices: m
                .texts("device")
                .filter(|d| cdi::is_name(d))
                .map(str::to_owned)
                .collect(),
            gpus: Vec::new(),
            spec_dirs: m
                .raws("cdi-spec-dir")
                .map(std::path::absolute)
                .collect::<std::io::Result<_>>()?,
        },
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
