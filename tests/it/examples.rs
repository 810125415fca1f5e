//! Command lines as the references of docker 0.6 and of docker today show them, typed here and compared with what they
//! print there. A table: names and images are this test's own.

use crate::support::Host;

/// Command line, exit code, and what stdout is: `=text`, `~part`, or nothing to compare.
type Row = (&'static [&'static str], i32, &'static str);

/// In order: one makes what the next one uses.
const OF_2013: &[Row] = &[
    (
        &["run", "-rm", "busybox", "/bin/echo", "hello world"],
        0,
        "=hello world",
    ),
    (&["run", "-cidfile=@/id", "busybox", "true"], 0, "="),
    (&["run", "-h", "box", "-rm", "busybox", "hostname"], 0, "=box"),
    (&["run", "-e", "A=1", "-rm", "busybox", "sh", "-c", "echo $A"], 0, "=1"),
    (&["run", "-rm", "-w", "/tmp", "busybox", "pwd"], 0, "=/tmp"),
    (&["run", "-rm", "-u", "1000", "busybox", "id", "-u"], 0, "=1000"),
    (
        &["run", "-rm", "-m", "64000000", "-c", "512", "busybox", "true"],
        0,
        "=",
    ),
    (
        &["run", "-n=false", "-rm", "busybox", "cat", "/proc/net/dev"],
        0,
        "~lo:",
    ),
    (&["run", "-rm", "-entrypoint", "/bin/echo", "busybox", "one"], 0, "=one"),
    (
        &["run", "-rm", "-lxc-conf=lxc.cgroup.cpuset.cpus = 0", "busybox", "true"],
        0,
        "=",
    ),
    (&["run", "-rm", "-v", "/data", "busybox", "touch", "/data/x"], 0, "="),
    (&["run", "-d", "-name", "job", "busybox", "sleep", "1000"], 0, ""),
    (&["ps", "-notrunc"], 0, "~sleep 1000"),
    (&["ps", "-q"], 0, "~"),
    (&["top", "job"], 0, "~sleep"),
    (&["kill", "job"], 0, "=job"),
    (&["wait", "job"], 0, "=137"),
    (
        &["commit", "-m", "kept", "-author", "Some One", "job", "kept:1"],
        0,
        "~sha256:",
    ),
    (&["tag", "kept:1", "kept:2"], 0, "="),
    (&["history", "-q", "kept:1"], 0, "~"),
    (&["diff", "job"], 0, ""),
    (&["rm", "-v", "job"], 0, "=job"),
    (&["rmi", "kept:1", "kept:2"], 0, "~Untagged: "),
    (&["rm", "job"], 1, "="),
];

const OF_TODAY: &[Row] = &[
    (
        &[
            "create",
            "--name",
            "web",
            "-p",
            "8080:80",
            "--label",
            "tier=front",
            "busybox",
            "sleep",
            "1000",
        ],
        0,
        "",
    ),
    (
        &[
            "ps",
            "-a",
            "--filter",
            "status=created",
            "--format",
            "{{.Names}}: {{.Image}}",
        ],
        0,
        "=web: busybox",
    ),
    (
        &["ps", "-a", "--format", "table {{.Names}}\t{{.Status}}"],
        0,
        "=NAMES     STATUS\nweb       Created",
    ),
    (&["ps", "-a", "--format", "{{.Label \"tier\"}}"], 0, "=front"),
    (&["ps", "-a", "-q", "--no-trunc", "--filter", "name=^web$"], 0, "~"),
    (&["start", "web"], 0, "=web"),
    (&["port", "web", "80"], 0, "~0.0.0.0:8080"),
    (
        &[
            "inspect",
            "--format",
            "{{.State.Status}} {{.HostConfig.NetworkMode}}",
            "web",
        ],
        0,
        "=running bridge",
    ),
    (
        &[
            "inspect",
            "--format",
            "{{range $p, $conf := .NetworkSettings.Ports}} {{$p}} -> {{(index $conf 0).HostPort}} {{end}}",
            "web",
        ],
        0,
        "= 80/tcp -> 8080 ",
    ),
    (
        &["inspect", "--format", "{{json .Config.Labels}}", "web"],
        0,
        "={\"tier\":\"front\"}",
    ),
    (
        &[
            "inspect",
            "--format",
            "{{join .Config.Cmd \" \"}} {{upper .Name}} {{title \"a b\"}}",
            "web",
        ],
        0,
        "=sleep 1000 /WEB A B",
    ),
    (
        &["inspect", "--format", "{{println .Path}}{{len .Args}}", "web"],
        0,
        "=sleep\n1",
    ),
    (
        &[
            "inspect",
            "--format",
            "{{truncate .Name 3}}{{pad \"x\" 1 1}}{{lower \"UP\"}}{{index (split .Name \"/\") 1}}",
            "web",
        ],
        0,
        "=/we x upweb",
    ),
    (
        &["exec", "-e", "A=1", "-w", "/tmp", "web", "sh", "-c", "echo $A $PWD"],
        0,
        "=1 /tmp",
    ),
    (&["exec", "web", "sh", "-c", "exit 7"], 7, "="),
    (&["pause", "web"], 0, "=web"),
    (
        &["ps", "--filter", "status=paused", "--format", "{{.State}}"],
        0,
        "=paused",
    ),
    (&["unpause", "web"], 0, "=web"),
    (&["rename", "web", "site"], 0, "="),
    (&["update", "--restart", "on-failure:3", "site"], 0, "=site"),
    (
        &[
            "inspect",
            "-f",
            "{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}",
            "site",
        ],
        0,
        "=on-failure:3",
    ),
    (&["stop", "-t", "0", "site"], 0, "=site"),
    (&["volume", "create", "--label", "a=b", "hello"], 0, "=hello"),
    (
        &[
            "volume",
            "ls",
            "--filter",
            "label=a=b",
            "--format",
            "{{.Name}}: {{.Driver}}",
        ],
        0,
        "=hello: local",
    ),
    (&["volume", "inspect", "-f", "{{.Labels.a}}", "hello"], 0, "=b"),
    (&["network", "create", "--subnet", "10.77.0.0/16", "my-net"], 0, ""),
    (
        &[
            "network",
            "ls",
            "--filter",
            "name=my-net",
            "--format",
            "{{.Name}} {{.Driver}} {{.Scope}}",
        ],
        0,
        "=my-net bridge local",
    ),
    (
        &[
            "network",
            "inspect",
            "-f",
            "{{(index .IPAM.Config 0).Subnet}}",
            "my-net",
        ],
        0,
        "=10.77.0.0/16",
    ),
    (
        &["images", "--format", "{{.Repository}}:{{.Tag}}", "busybox"],
        0,
        "=busybox:latest",
    ),
    (&["images", "-q", "--filter", "dangling=true"], 0, "="),
    (
        &["image", "inspect", "-f", "{{index .RepoTags 0}}", "busybox"],
        0,
        "=busybox:latest",
    ),
    (&["container", "inspect", "-f", "{{.Name}}", "site"], 0, "=/site"),
    (
        &["system", "df", "--format", "{{.Type}}"],
        0,
        "~Images\nContainers\nLocal Volumes",
    ),
    (&["version", "--format", "{{.Server.Os}}"], 0, "=linux"),
    (&["info", "--format", "{{.OSType}} {{.Containers}}"], 0, "=linux 1"),
    (&["rm", "site"], 0, "=site"),
    (&["volume", "rm", "hello"], 0, "=hello"),
    (&["network", "rm", "my-net"], 0, "=my-net"),
    (&["rm", "site"], 1, "="),
    (&["run", "--rm", "busybox", "/nothing"], 127, "="),
    (&["run", "--rm", "busybox", "/etc"], 126, "="),
    (&["run", "--nonsense", "busybox"], 125, "="),
];

fn typed(host: &Host, rows: &[Row]) {
    let scratch = host.scratch();
    for (line, code, want) in rows {
        let words: Vec<String> = line
            .iter()
            .map(|w| w.replace('@', &scratch.display().to_string()))
            .collect();
        let output = host.run(words);
        assert_eq!(output.code, *code, "{line:?}: {}", output.err());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = text.strip_suffix('\n').unwrap_or(&text);
        match (want.strip_prefix('='), want.strip_prefix('~')) {
            (Some(whole), _) => assert_eq!(text, whole, "{line:?}"),
            (_, Some(part)) => assert!(!text.is_empty() && text.contains(part), "{line:?}: {text}"),
            _ => {}
        }
    }
    let left = host.text("ps -aq");
    for id in left.lines() {
        host.run(["rm", "-f", "-v", id]).ok();
    }
}

#[test]
fn lines_of_2013() {
    typed(&Host::busybox(), OF_2013);
}

#[test]
fn lines_of_today() {
    typed(&Host::busybox(), OF_TODAY);
}
