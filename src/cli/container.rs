//! What the flags mean that `run` and `create` share → [`RunArgs`].

mod flags;

pub(crate) use flags::{define, group_flags, privilege_flags, size_flags};

use crate::cli::argument::Values;
use crate::cli::{
    blame, cdi, environment, extra, files, health, mount, names, network, resource, secret, security, service,
};
use crate::container::config::{CdiArgs, ImageMount, ImageVolumes, NamespaceArg, NamespaceArgs, RunArgs, Systemd};
use crate::error::{Context as _, Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{RestartPolicy, Streams};
use crate::model::mount::Mount;
use crate::model::port;
use crate::model::resources::Resources;
use crate::model::security::Security;
use crate::model::signal;
use clap::ArgMatches;
use std::path::PathBuf;

/// What was asked. `detach` is `run -d`.
pub(crate) fn run_args(m: &ArgMatches, detach: bool) -> Result<RunArgs> {
    asked(m, detach).map_err(|e| blame::flag(m, e))
}

fn asked(m: &ArgMatches, detach: bool) -> Result<RunArgs> {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let open_stdin = m.on("interactive");
    let restart = m
        .text("restart")
        .map(resource::restart)
        .transpose()?
        .unwrap_or_default();
    let auto_remove = m.on("rm");
    if auto_remove && restart != RestartPolicy::No {
        return Err(Error::usage(
            "Conflicting options: cannot specify both --restart and --rm",
        ));
    }
    let (hostname, domainname) = hostname(m.text("hostname"), m.text("domainname"))?;
    let Mounts {
        mounts,
        images,
        volumes,
    } = mounts(m, &here)?;
    let mut expose = Vec::new();
    for ports in m.texts("expose") {
        let parsed = port::parse_expose(ports).with_context(|| format!("--expose {ports}"))?;
        expose.extend(parsed.iter().map(ToString::to_string));
    }
    let mut publish = Vec::new();
    for ports in m.texts("publish") {
        publish.extend(port::parse_publish(ports).with_context(|| format!("--publish {ports}"))?);
    }
    let mut args = RunArgs {
        image: m.text("IMAGE").unwrap_or_default().to_owned(),
        command: m.raws("COMMAND").map(|w| ByteString::from(w.to_owned())).collect(),
        name: m.text("name").map(|n| n.strip_prefix('/').unwrap_or(n).to_owned()),
        cidfile: m
            .raw("cidfile")
            .filter(|f| !f.is_empty())
            .map(std::path::absolute)
            .transpose()?,
        platform: m.text("platform").filter(|p| !p.is_empty()).map(str::to_owned),
        entrypoint: m.raw("entrypoint").map(|w| w.to_owned().into()),
        env: env(m)?,
        workdir: workdir(m)?,
        user: m.text("user").filter(|u| !u.is_empty()).map(str::to_owned),
        accounts: files::accounts(m)?,
        image_volumes: ImageVolumes::default(),
        env_merge: Vec::new(),
        tty: m.on("tty"),
        open_stdin,
        attach: streams(m.texts("attach"), open_stdin, detach)?,
        hostname,
        domainname,
        labels: environment::labels(m.raws("label-file"), m.texts("label"))?,
        expose,
        publish,
        publish_all: m.on("publish-all"),
        network: network::network(m)?,
        names: names::names(m)?,
        resources: resources(m)?,
        ulimits: m.texts("ulimit").map(resource::ulimit).collect::<Result<_>>()?,
        devices: m
            .texts("device")
            .filter(|d| !cdi::is_name(d))
            .map(resource::device)
            .collect::<Result<_>>()?,
        device_rules: m
            .texts("device-cgroup-rule")
            .map(resource::device_rule)
            .collect::<Result<_>>()?,
        security: confinement(m)?,
        mounts,
        images,
        volumes,
        volumes_from: m
            .texts("volumes-from")
            .map(mount::volumes_from)
            .collect::<Result<_>>()?,
        shm_size: m.text("shm-size").map(resource::bytes).transpose()?.filter(|n| *n > 0),
        log: resource::log(m.text("log-driver"), m.texts("log-opt"))?,
        restart,
        stop_signal: m
            .text("stop-signal")
            .filter(|s| !s.is_empty())
            .map(stop_signal)
            .transpose()?,
        stop_timeout: m.get_one::<i64>("stop-timeout").map(|t| (*t).max(-1)),
        auto_remove,
        init: m.on("init"),
        init_path: m
            .raw("init-path")
            .filter(|f| !f.is_empty())
            .map(std::path::absolute)
            .transpose()?,
        groups: m.texts("group-add").map(group).collect::<Result<_>>()?,
        umask: m.text("umask").map(umask).transpose()?,
        oom_score_adj: m.get_one::<i64>("oom-score-adj").map(|n| oom_score(*n)).transpose()?,
        namespaces: namespaces(m)?,
        sysctls: m.texts("sysctl").map(sysctl).collect::<Result<_>>()?,
        annotations: environment::labels(std::iter::empty(), m.texts("annotation"))?,
        pidfile: m
            .raw("pidfile")
            .filter(|f| !f.is_empty())
            .map(std::path::absolute)
            .transpose()?,
        timeout: m
            .get_one::<i64>("timeout")
            .and_then(|n| u64::try_from(*n).ok())
            .filter(|n| *n > 0),
        timezone: m.text("tz").map(timezone).transpose()?,
        health: health::args(m)?,
        requires: m
            .texts("requires")
            .flat_map(|names| names.split(','))
            .filter(|name| !name.is_empty())
            .map(|name| match name.strip_suffix(":healthy") {
                Some(name) => (name.to_owned(), true),
                None => (name.to_owned(), false),
            })
            .collect(),
        secrets: m.texts("secret").map(secret::secret).collect::<Result<_>>()?,
        cdi: CdiArgs {
            devices: m
                .texts("device")
                .filter(|d| cdi::is_name(d))
                .map(str::to_owned)
                .collect(),
            gpus: m.texts("gpus").map(cdi::gpus).collect::<Result<_>>()?,
            spec_dirs: m
                .raws("cdi-spec-dir")
                .map(std::path::absolute)
                .collect::<std::io::Result<_>>()?,
        },
        replace: m.on("replace"),
        root: files::root(m)?,
        quota: files::quota(m)?,
        systemd: Systemd::default(),
        service: service::service(m)?,
        command_line: Vec::new(),
    };
    extra::complete(m, &mut args)?;
    Ok(args)
}

/// This command's own if it is asked for, then files, then what is said one by one.
fn env(m: &ArgMatches) -> Result<Vec<ByteString>> {
    let mut env: Vec<ByteString> = Vec::new();
    if m.on("env-host") {
        env.extend(std::env::vars_os().map(|(name, value)| {
            let mut pair = name;
            pair.push("=");
            pair.push(value);
            pair.into()
        }));
    }
    for name in m.texts("unsetenv") {
        if name.is_empty() || name.contains('=') {
            return Err(Error::usage(format!(
                "invalid value '{name}' for '--unsetenv': want a name"
            )));
        }
        env.push(name.into());
    }
    env.extend(environment::environment(m.raws("env-file"), m.raws("env"), |name| {
        std::env::var_os(name)
    })?);
    Ok(env)
}

fn group(name: &str) -> Result<String> {
    match name {
        "" => Err(Error::usage(
            "invalid value '' for '--group-add': want a name or a number",
        )),
        "keep-groups" => Err(Error::usage(
            "--group-add keep-groups: the engine runs as root and has no groups to keep",
        )),
        name => Ok(name.to_owned()),
    }
}

fn umask(text: &str) -> Result<u32> {
    let mask = u32::from_str_radix(text, 8)
        .ok()
        .filter(|m| *m <= 0o777 && !text.starts_with('+'));
    mask.ok_or_else(|| Error::usage(format!("invalid umask '{text}': want octal digits, such as 0027")))
}

fn oom_score(n: i64) -> Result<i32> {
    let fits = i32::try_from(n).ok().filter(|n| (-1000..=1000).contains(n));
    fits.ok_or_else(|| Error::usage(format!("Invalid value {n}, range for oom score adj is [-1000, 1000]")))
}

fn sysctl(text: &str) -> Result<(String, String)> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Error::usage(format!("sysctl '{text}' is not allowed: want NAME=VALUE")))?;
    // As sysctl(8) has it: either separator.
    let name = if name.contains('.') {
        name.to_owned()
    } else {
        name.replace('/', ".")
    };
    let good = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    match name.split('.').all(good) {
        true => Ok((name, value.to_owned())),
        false => Err(Error::usage(format!("sysctl '{text}' is not allowed: bad name"))),
    }
}

fn timezone(text: &str) -> Result<String> {
    let good = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    };
    match text.split('/').all(good) {
        true => Ok(text.to_owned()),
        false => Err(Error::usage(format!(
            "invalid time zone '{text}': want a name such as Europe/Paris"
        ))),
    }
}

fn namespaces(m: &ArgMatches) -> Result<NamespaceArgs> {
    let whose = |flag: &str, more: &[&str]| {
        let text = m.text(flag).unwrap_or_default();
        match text.split_once(':') {
            _ if matches!(text, "" | "private") || more.contains(&text) => Ok(NamespaceArg::Private),
            None if text == "host" => Ok(NamespaceArg::Host),
            Some(("container", name)) if !name.is_empty() => Ok(NamespaceArg::Container(name.to_owned())),
            _ => {
                let modes = [&["private", "host", "container:NAME"], more].concat().join(", ");
                let error = Error::usage(format!("--{flag}: invalid mode '{text}'"));
                Err(error.with_hint(format!("there are {modes}")))
            }
        }
    };
    Ok(NamespaceArgs {
        ipc: whose("ipc", &["shareable", "none"])?,
        pid: whose("pid", &[])?,
        uts: whose("uts", &[])?,
        no_shm: m.text("ipc") == Some("none"),
        user: files::users(m)?,
        host_cgroups: match m.text("cgroupns") {
            None | Some("" | "private") => false,
            Some("host") => true,
            Some(other) => {
                let error = Error::usage(format!("--cgroupns: invalid mode '{other}'"));
                return Err(error.with_hint("there are private and host"));
            }
        },
    })
}

pub(crate) fn stop_signal(text: &str) -> Result<i32> {
    signal::parse(text).ok_or_else(|| Error::other(format!("invalid signal: {text}")))
}

pub(crate) fn workdir(m: &ArgMatches) -> Result<Option<ByteString>> {
    match m.raw("workdir").filter(|w| !w.is_empty()) {
        Some(dir) if !dir.as_encoded_bytes().starts_with(b"/") => Err(Error::usage(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            dir.display()
        ))),
        dir => Ok(dir.map(|d| d.to_owned().into())),
    }
}

/// `-h a.b.c` is host `a` in domain `b.c` (F087).
fn hostname(host: Option<&str>, domain: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let given = |s: Option<&str>| s.filter(|s| !s.is_empty()).map(str::to_owned);
    let (host, domain) = match (given(host), given(domain)) {
        (Some(full), None) => match full.split_once('.') {
            Some((host, domain)) => (Some(host.to_owned()), Some(domain.to_owned())),
            None => (Some(full), None),
        },
        other => other,
    };
    for name in [&host, &domain].into_iter().flatten() {
        let good = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        // The kernel's __NEW_UTS_LEN.
        if name.is_empty() || name.len() > 64 || !good || name.starts_with(['-', '.']) {
            return Err(Error::usage(format!("invalid hostname format: {name}")));
        }
    }
    Ok((host, domain))
}

/// A host name that is given otherwise.
pub(super) fn host_part(name: &str) -> Result<String> {
    Ok(hostname(Some(name), Some(""))?.0.unwrap_or_default())
}

/// F075: without `-a` and `-d` it is stdout and stderr, and stdin with `-i`.
fn streams<'a>(names: impl Iterator<Item = &'a str>, open_stdin: bool, detach: bool) -> Result<Streams> {
    let mut streams = Streams::default();
    let mut given = false;
    for name in names {
        given = true;
        match name.to_ascii_lowercase().as_str() {
            "stdin" => streams.stdin = true,
            "stdout" => streams.stdout = true,
            "stderr" => streams.stderr = true,
            _ => return Err(Error::usage(format!("Unsupported stream name: {name}"))),
        }
    }
    match (given, detach) {
        (true, true) => Err(Error::usage("Conflicting options: -a and -d")),
        (true, false) => Ok(streams),
        (false, true) => Ok(Streams::default()),
        (false, false) => Ok(Streams {
            stdin: open_stdin,
            stdout: true,
            stderr: true,
        }),
    }
}

#[derive(Default)]
struct Mounts {
    mounts: Vec<Mount>,
    images: Vec<ImageMount>,
    /// Anonymous volumes.
    volumes: Vec<PathBuf>,
}

fn mounts(m: &ArgMatches, here: &std::path::Path) -> Result<Mounts> {
    let mut all = Mounts::default();
    for text in m.raws("volume") {
        match mount::volume(text, here)? {
            mount::Volume::Anonymous(target) => all.volumes.push(target),
            mount::Volume::Mounted(mount) => all.mounts.push(mount),
        }
    }
    for text in m.texts("mount") {
        match mount::mount(text, here)? {
            mount::Asked::Mount(mount) => all.mounts.push(mount),
            mount::Asked::Image(image) => all.images.push(image),
        }
    }
    for text in m.raws("tmpfs") {
        all.mounts.push(mount::tmpfs(text)?);
    }
    Ok(all)
}

fn confinement(m: &ArgMatches) -> Result<Security> {
    let mut security = Security {
        privileged: m.on("privileged"),
        cap_add: m.texts("cap-add").map(security::capability).collect::<Result<_>>()?,
        cap_drop: m.texts("cap-drop").map(security::capability).collect::<Result<_>>()?,
        read_only: m.on("read-only"),
        ..Security::default()
    };
    for text in m.texts("security-opt") {
        security::option(&mut security, text)?;
    }
    Ok(security)
}

/// The limits as typed. Whether they make sense on this machine is `runtime/cgroup/check.rs`'s to say.
pub(crate) fn resources(m: &ArgMatches) -> Result<Resources> {
    let size = |name| m.text(name).map(resource::bytes).transpose();
    let list = |name| m.text(name).filter(|s| !s.is_empty()).map(str::to_owned);
    let mut made = Resources {
        memory: size("memory")?.filter(|n| *n > 0),
        memory_swap: m.text("memory-swap").map(resource::swap).transpose()?.flatten(),
        memory_reservation: size("memory-reservation")?.filter(|n| *n > 0),
        memory_swappiness: match m.get_one::<i64>("memory-swappiness") {
            None | Some(-1) => None,
            Some(n) => Some(fitting(*n, "memory-swappiness")?),
        },
        oom_kill_disable: m.on("oom-kill-disable"),
        cpu_shares: number(m, "cpu-shares")?,
        cpu_quota: number(m, "cpu-quota")?,
        cpu_period: number(m, "cpu-period")?,
        nano_cpus: m.text("cpus").map(resource::cpus).transpose()?.flatten(),
        cpuset_cpus: list("cpuset-cpus"),
        cpuset_mems: list("cpuset-mems"),
        pids: number(m, "pids-limit")?,
        blkio_weight: number(m, "blkio-weight")?,
        ..Resources::default()
    };
    extra::resources(m, &mut made)?;
    if let Some(nano) = made.nano_cpus {
        for (name, given) in [
            ("Period", made.cpu_period.is_some()),
            ("Quota", made.cpu_quota.is_some()),
        ] {
            if given {
                return Err(Error::usage(format!(
                    "Conflicting options: Nano CPUs and CPU {name} cannot both be set"
                )));
            }
        }
        made.cpu_period = Some(100_000);
        made.cpu_quota = i64::try_from(nano / 10_000).ok();
    }
    Ok(made)
}

/// A number where 0 is "not asked for".
fn number<T: TryFrom<i64>>(m: &ArgMatches, name: &str) -> Result<Option<T>> {
    let given = m.get_one::<i64>(name).filter(|n| **n != 0);
    given.map(|n| fitting(*n, name)).transpose()
}

fn fitting<T: TryFrom<i64>>(n: i64, name: &str) -> Result<T> {
    T::try_from(n).map_err(|_| Error::usage(format!("invalid value '{n}' for '--{name}': out of range")))
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
