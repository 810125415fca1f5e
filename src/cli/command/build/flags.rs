//! The flags of `build`.

use crate::cli::argument::{bytes, bytes_list, flag, list, value, whole_number};
use crate::cli::{access, container, names};
use clap::{Arg, Command, ValueHint, value_parser};
use std::ffi::OsString;

pub(super) fn define(command: Command) -> Command {
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
        .arg(value(
            "call",
            "METHOD",
            "What to do: build, check, outline (arguments and secrets of the target) or targets",
        ))
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
    let command = names::resolver_flags(container::group_flags(command));
    container::size_flags(container::privilege_flags(command))
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
        .arg(flag(
            "http-proxy",
            "Give RUN the caller's proxy variables [default: true]",
        ))
        .arg(list(
            "allow",
            "WHAT",
            "Allow network.host, security.insecure or device to the Dockerfile",
        ))
        .arg(list("group-add", "GROUP", "Add a group"))
        .arg(list(
            "security-opt",
            "OPTION",
            "seccomp=FILE|unconfined, no-new-privileges, …",
        ))
        .arg(value("cgroup-parent", "SLICE", "Where control groups are made"))
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
