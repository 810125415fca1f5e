//! What lists show, in docker's words: the keys of `--format json`, headings, `--filter` keys, and what a wrong field or
//! filter gets for an answer.

use crate::support::Host;
use serde_json::Value;

/// Two containers, a volume, a network, a secret.
fn world() -> Host {
    let host = Host::new();
    host.text("volume create --label kept=yes data");
    host.text(
        "create --net none --name web --label a.tier=front --label b=1 -v data:/d -p 8080:80 --expose 53/udp tiny",
    );
    host.text("create --net none --name db --label a.tier=back tiny");
    host.text("volume create other");
    host.text("network create --label of=web n1");
    host.barge("secret create s1 -").stdin(b"word").run().ok();
    host
}

#[test]
fn json_has_the_keys_of_docker() {
    let host = world();
    for (list, keys) in [
        (
            "ps -a",
            "Command CreatedAt ID Image Labels LocalVolumes Mounts Names Networks Ports RunningFor Size State Status",
        ),
        (
            "images",
            "Containers CreatedAt CreatedSince Digest ID Repository SharedSize Size Tag UniqueSize VirtualSize",
        ),
        (
            "volume ls",
            "Availability Driver Group Labels Links Mountpoint Name Scope Size Status",
        ),
        ("network ls", "CreatedAt Driver ID IPv4 IPv6 Internal Labels Name Scope"),
        (
            "stats -a --no-stream",
            "BlockIO CPUPerc Container ID MemPerc MemUsage Name NetIO PIDs",
        ),
        ("history tiny", "Comment CreatedAt CreatedBy CreatedSince ID Size"),
        ("system df", "Active Reclaimable Size TotalCount Type"),
        ("secret ls", "CreatedAt Driver ID Labels Name UpdatedAt"),
    ] {
        let lines = host.run(format!("{list} --format json")).ok().lines();
        assert!(!lines.is_empty(), "{list}");
        for line in lines {
            let row: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{list}: {e}: {line}"));
            for key in keys.split(' ') {
                assert!(row[key].is_string(), "{list}: {key}: {line}");
            }
        }
        let wrong = host.run(format!("{list} --format {{{{.Nope}}}}")).fails(1);
        let first = keys.split(' ').next().unwrap();
        let lines: Vec<String> = wrong.err().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2, "{list}: {lines:?}");
        assert!(lines[0].ends_with("there is no field Nope"), "{list}: {lines:?}");
        assert!(
            lines[1].starts_with("  hint: there are ") && lines[1].contains(first),
            "{list}: {lines:?}"
        );
    }
}

#[test]
fn tables_have_the_headings_of_docker() {
    let host = world();
    for (list, template, heading) in [
        (
            "ps -a",
            r"{{.RunningFor}}\t{{.LocalVolumes}}\t{{.Label `a.tier`}}\t{{upper .Names}}",
            "CREATED LOCAL VOLUMES TIER NAMES",
        ),
        (
            "images",
            r"{{.ID}}\t{{.CreatedSince}}\t{{.UniqueSize}}",
            "IMAGE ID CREATED UNIQUE SIZE",
        ),
        ("volume ls", r"{{.Name}}\t{{.Links}}", "VOLUME NAME LINKS"),
        (
            "network ls",
            r"{{.ID}}\t{{.IPv6}}\t{{.Internal}}",
            "NETWORK ID IPV6 INTERNAL",
        ),
        (
            "stats -a --no-stream",
            r"{{.Name}}\t{{.MemUsage}}\t{{.PIDs}}",
            "NAME MEM USAGE / LIMIT PIDS",
        ),
        ("history tiny", r"{{.ID}}\t{{.CreatedBy}}", "IMAGE CREATED BY"),
        ("system df", r"{{.Type}}\t{{.TotalCount}}", "TYPE TOTAL"),
    ] {
        let mut words: Vec<&str> = list.split(' ').collect();
        let template = format!("table {template}");
        words.extend(["--format", &template]);
        let shown = host.run(words).ok().lines();
        let found = shown[0].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(found, heading, "{list}");
    }
    // Sizes are found out for a template that shows them.
    let sizes = host.text(["ps", "-a", "--format", "{{.Size}}"]);
    assert!(sizes.lines().all(|size| size.contains("virtual")), "{sizes}");
}

#[test]
fn filters_have_the_keys_of_docker() {
    let host = world();
    let network = host.text("network ls -q --no-trunc --filter name=n1");
    let by_id = format!("id={}", &network[..12]);
    for (list, filters, found) in [
        ("ps -a", &["publish=80"][..], "web"),
        ("ps -a", &["publish=79-81/tcp"], "web"),
        ("ps -a", &["publish=80/udp"], ""),
        ("ps -a", &["expose=53/udp"], "web"),
        ("ps -a", &["name=w", "name=d"], "db web"),
        ("ps -a", &["label=a.tier", "label=b"], "web"),
        ("ps -a", &["network=none", "is-task=false", "health=none"], "db web"),
        ("volume ls", &["dangling=true"], "other"),
        ("volume ls", &["name=dat", "name=oth"], "data other"),
        ("volume ls", &["label=kept=yes", "driver=local"], "data"),
        ("network ls", &["name=n1", "name=host"], "host n1"),
        ("network ls", &[by_id.as_str()], "n1"),
        ("network ls", &["type=custom", "label=of=web", "scope=local"], "n1"),
        ("network ls", &["dangling=true"], "n1"),
        ("network ls", &["dangling=false"], "bridge host none"),
        ("network ls", &["scope=swarm"], ""),
        ("secret ls", &["name=s", "name=zz"], "s1"),
    ] {
        let mut words: Vec<String> = list.split(' ').map(str::to_owned).collect();
        words.extend(filters.iter().map(|filter| format!("--filter={filter}")));
        let name = if list == "ps -a" { "{{.Names}}" } else { "{{.Name}}" };
        words.push(format!("--format={name}"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let shown = host.run(words).ok().lines().join(" ");
        assert_eq!(shown, found, "{list} {filters:?}");
    }
    for (list, filter, answer) in [
        ("ps", "colour=red", "hint: there are ancestor, before"),
        ("ps", "status=up", "want created, restarting"),
        ("images", "colour=red", "hint: there are before, dangling"),
        ("images", "dangling=perhaps", "want true or false"),
        ("volume ls", "colour=red", "hint: there are dangling, driver"),
        ("network ls", "type=none", "want custom or builtin"),
        ("secret ls", "name", "want KEY=VALUE"),
        ("events --no-stream", "colour=red", "hint: there are container"),
    ] {
        let wrong = host.run(format!("{list} --filter {filter}")).fails(125);
        let err = wrong.err();
        assert!(
            err.contains(&format!("invalid filter '{filter}'")) && err.contains(answer),
            "{list}: {err}"
        );
    }
}

#[test]
fn templates_for_what_is_not_there() {
    let host = world();
    for (kind, template, shown) in [
        ("image", "<{{index .Config.Labels \"none\"}}>", "<>"),
        ("container", "<{{index .Config.Labels \"none\"}}>", "<>"),
        ("container", "{{if .Config.Healthcheck}}yes{{else}}no{{end}}", "no"),
        ("container", "{{if .State.Health}}yes{{else}}no{{end}}", "no"),
        ("container", "{{len .HostConfig.Links}}", "0"),
    ] {
        let name = if kind == "image" { "tiny" } else { "web" };
        assert_eq!(
            host.text([kind, "inspect", "-f", template, name]),
            shown,
            "{kind} {template}"
        );
    }
    let wrong = host.run(["inspect", "-f", "{{.State.Nope}}", "web"]).fails(1);
    let err = wrong.err();
    assert!(
        err.contains("there is no field Nope\n  hint: there are Status"),
        "{err}"
    );
}
