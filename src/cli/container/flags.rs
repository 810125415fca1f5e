//! The flags that `run` and `create` share, in the order that help shows them; some of them are `build`'s and `update`'s too.

use crate::cli::argument::{bytes, bytes_list, flag, list, rest, value, whole_number, word};
use crate::cli::{extra, files, health, names, network, service};
use clap::Command;

/// Adds all of them.
pub(crate) fn define(command: Command) -> Command {
    let command = extra::define(process_flags(command));
    let command = network::define(command.next_help_heading("Network"));
    let command = names::define(command.next_help_heading("Names"));
    let command = mount_flags(command.next_help_heading("Mounts"));
    let command = files::define(command.next_help_heading("Files and their owners"));
    let command = health::define(command.next_help_heading("Health"));
    let command = limit_flags(command.next_help_heading("Limits"));
    let command = security_flags(command.next_help_heading("Confinement"));
    let command = namespace_flags(command.next_help_heading("Namespaces"));
    let command = service::define(command.next_help_heading("Service manager"));
    command
        .next_help_heading(None)
        .arg(word("IMAGE", "The image: a name, name:tag or id"))
        .arg(rest("COMMAND", "The program and its arguments, instead of the image's"))
}

fn process_flags(command: Command) -> Command {
    command
        .arg(list("attach", "STREAM", "Attach to stdin, stdout or stderr").short('a'))
        .arg(bytes("cidfile", "FILE", "Write the container's id to this new file"))
        .arg(value("domainname", "NAME", "NIS domain name of the container"))
        .arg(bytes(
            "entrypoint",
            "WORD",
            "Program to run instead of the image's entrypoint",
        ))
        .arg(
            bytes_list(
                "env",
                "NAME=VALUE",
                "Set an environment variable; NAME alone takes the caller's value",
            )
            .short('e'),
        )
        .arg(bytes_list("env-file", "FILE", "Read environment variables from a file"))
        .arg(list("expose", "PORT", "Document a port or a range of ports"))
        .arg(
            value(
                "hostname",
                "NAME",
                "Host name; what follows the first dot is the domain name",
            )
            .short('h'),
        )
        .arg(flag("init", "Run the engine's own small init as pid 1"))
        .arg(bytes("init-path", "FILE", "With --init: this program of the host's instead").alias("init-binary"))
        .arg(flag("interactive", "Keep stdin open, even if not attached").short('i'))
        .arg(list("label", "NAME=VALUE", "Set a label").short('l'))
        .arg(bytes_list("label-file", "FILE", "Read labels from a file"))
        .arg(value(
            "log-driver",
            "NAME",
            "Where output is logged: json-file, local, journald, passthrough or none",
        ))
        .arg(list(
            "log-opt",
            "NAME=VALUE",
            "Log options: max-size (10m, -1 never rotates), max-file; of journald: tag, labels, env",
        ))
        .arg(value("name", "NAME", "Name of the container"))
        .arg(flag("networking", "Docker 0.6's -n=false").short('n').hide(true))
        .arg(value(
            "platform",
            "OS/ARCH",
            "The image for another platform than this machine's",
        ))
        .arg(
            list(
                "publish",
                "[[IP:]HOST:]PORT",
                "Publish a port or a range of ports to the host; a free one without HOST",
            )
            .short('p'),
        )
        .arg(flag("publish-all", "Publish every documented port to a free one of the host").short('P'))
        .arg(list("annotation", "NAME=VALUE", "Note something for other programs"))
        .arg(flag("env-host", "Give the program this command's own environment"))
        .arg(list("unsetenv", "NAME", "Leave out a variable of the image's"))
        .arg(list("group-add", "GROUP", "A further group for the user"))
        .arg(bytes(
            "pidfile",
            "FILE",
            "Write the pid of the first process to this file",
        ))
        .arg(list(
            "requires",
            "CONTAINER[:healthy]",
            "Start this container first, and wait until it is healthy; stop it afterwards",
        ))
        .arg(flag("replace", "Remove the container that has the name first"))
        .arg(value("timeout", "SECONDS", "Kill the container after this time; 0 is never").value_parser(whole_number))
        .arg(value(
            "tz",
            "ZONE",
            "Time zone: such as Europe/Paris, or local for the host's",
        ))
        .arg(value("umask", "MODE", "File mode mask in octal, 0022 by default"))
        .arg(value(
            "restart",
            "POLICY",
            "When to start again: no, on-failure[:max], always, unless-stopped",
        ))
        .arg(flag(
            "rm",
            "Remove the container when it ends, with its anonymous volumes",
        ))
        .arg(value("stop-signal", "SIGNAL", "Signal that asks the program to end"))
        .arg(
            value(
                "stop-timeout",
                "SECONDS",
                "Time to end before SIGKILL; -1 waits for ever",
            )
            .value_parser(whole_number),
        )
        .arg(flag("tty", "Give the program a terminal").short('t'))
        .arg(
            value(
                "user",
                "USER[:GROUP]",
                "Run as this user: names of the container, or numbers",
            )
            .short('u'),
        )
        .arg(bytes("workdir", "DIR", "Working directory, made if it is absent").short('w'))
}

fn limit_flags(command: Command) -> Command {
    size_flags(group_flags(command)).arg(
        value(
            "oom-score-adj",
            "NUMBER",
            "How gladly the kernel kills it when memory is short, -1000 to 1000",
        )
        .value_parser(whole_number),
    )
}

/// Sizes that a build's steps have too.
pub(crate) fn size_flags(command: Command) -> Command {
    command
        .arg(value("shm-size", "BYTES", "Size of /dev/shm, 64m by default"))
        .arg(list("ulimit", "NAME=SOFT[:HARD]", "Set a resource limit"))
}

/// What control groups hold a container to: `update` can change these while it runs.
pub(crate) fn group_flags(command: Command) -> Command {
    let number = |name, help| value(name, "NUMBER", help).value_parser(whole_number);
    extra::group_flags(command)
        .arg(number("blkio-weight", "Share of block I/O, 10 to 1000"))
        .arg(number("cpu-period", "Length of a CPU period in microseconds"))
        .arg(number("cpu-quota", "CPU time in each period, in microseconds"))
        .arg(number("cpu-shares", "Relative share of CPU time, 1024 by default").short('c'))
        .arg(value("cpus", "NUMBER", "Number of CPUs, such as 1.5"))
        .arg(value("cpuset-cpus", "LIST", "CPUs to run on, such as 0-3,5"))
        .arg(value("cpuset-mems", "LIST", "Memory nodes to use"))
        .arg(value("memory", "BYTES", "Limit of memory, such as 512m").short('m'))
        .arg(value(
            "memory-reservation",
            "BYTES",
            "Memory to be left with when the host is short of it",
        ))
        .arg(value(
            "memory-swap",
            "BYTES",
            "Limit of memory and swap together; -1 is no limit on swap",
        ))
        .arg(number("memory-swappiness", "How readily pages are swapped, 0 to 100"))
        .arg(flag(
            "oom-kill-disable",
            "Let the program wait instead of killing it when its memory is used up",
        ))
        .arg(number("pids-limit", "Limit of processes and threads; -1 is none"))
}

fn mount_flags(command: Command) -> Command {
    command
        .arg(list(
            "mount",
            "FIELDS",
            "Mount something: type=bind|volume|tmpfs|image,source=…,target=…[,readonly…]",
        ))
        .arg(list(
            "secret",
            "NAME[,FIELDS]",
            "Tell a secret, in /run/secrets/NAME: type=mount|env, target, uid, gid, mode",
        ))
        .arg(bytes_list("tmpfs", "PATH[:OPTIONS]", "Mount a file system in memory"))
        .arg(
            bytes_list(
                "volume",
                "[SOURCE:]PATH[:OPTIONS]",
                "Mount a volume or a host directory",
            )
            .short('v'),
        )
        .arg(list(
            "volumes-from",
            "CONTAINER[:ro]",
            "Mount the volumes of another container",
        ))
}

fn namespace_flags(command: Command) -> Command {
    command
        .arg(value(
            "cgroupns",
            "MODE",
            "Tree of control groups to see: private or host",
        ))
        .arg(value(
            "ipc",
            "MODE",
            "Shared memory and queues: private, shareable, none, host or container:NAME",
        ))
        .arg(value(
            "pid",
            "MODE",
            "Processes to see: private, host or container:NAME",
        ))
        .arg(list(
            "sysctl",
            "NAME=VALUE",
            "Set a kernel parameter of the container's namespaces",
        ))
        .arg(value("uts", "MODE", "Host name: private, host or container:NAME"))
}

/// What a build's steps may be given or denied too.
pub(crate) fn privilege_flags(command: Command) -> Command {
    command
        .arg(list("cap-add", "NAME", "Add a capability, or ALL"))
        .arg(list("cap-drop", "NAME", "Drop a capability, or ALL"))
        .arg(bytes_list(
            "cdi-spec-dir",
            "DIR",
            "Look for descriptions of devices here instead of in /etc/cdi and /run/cdi",
        ))
        .arg(list(
            "device",
            "HOST[:PATH[:rwm]]",
            "Give a host device, by path or by its CDI name, vendor/class=name",
        ))
}

fn security_flags(command: Command) -> Command {
    privilege_flags(command)
        .arg(list(
            "device-cgroup-rule",
            "RULE",
            "Allow devices by number, such as 'c 1:3 rwm'",
        ))
        .arg(list("gpus", "WHICH", "Give GPUs: all, a number, or device=ID[,ID]"))
        .arg(flag("privileged", "All capabilities and devices, nothing masked"))
        .arg(flag("read-only", "Make the root file system read-only"))
        .arg(list(
            "security-opt",
            "OPTION",
            "seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE, mask=PATHS, unmask=PATHS|ALL, …",
        ))
}
