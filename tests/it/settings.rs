//! `/etc/barge/config.toml` and what stands beside it: every flag has a default there, and the command line wins.

use crate::support::{Cmd, Host};
use std::path::PathBuf;

/// A directory of settings, and commands that read it.
struct Set<'a> {
    host: &'a Host,
    dir: PathBuf,
}

impl<'a> Set<'a> {
    fn new(host: &'a Host, text: &str) -> Set<'a> {
        let dir = host.scratch().join("etc");
        std::fs::create_dir_all(dir.join("config.d")).unwrap();
        let set = Set { host, dir };
        set.write("config.toml", text);
        set
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }

    fn barge(&self, line: &str) -> Cmd {
        self.host.barge(line).env("BARGE_CONFIG", self.dir.as_os_str())
    }

    fn text(&self, line: &str) -> String {
        self.barge(line).run().ok().text()
    }

    /// One field of a new container.
    fn created(&self, flags: &str, field: &str) -> String {
        let id = self.text(&format!("create {flags} tiny"));
        let shown = self.host.text(["inspect", "-f", field, &id]);
        self.host.run(["rm", &id]).ok();
        shown
    }
}

#[test]
fn every_flag_has_a_default_in_the_settings() {
    let host = Host::new();
    let text = "[run]\nmemory = '64m'\nrestart = 'always'\nulimit = ['nofile=100:200']\n\
                env = { A = '1', B = '2' }\nlog-opt = ['max-size=1m']\n[create]\nhostname = 'set'\n";
    let set = Set::new(&host, text);
    assert_eq!(set.created("", "{{.HostConfig.Memory}}"), "67108864");
    assert_eq!(set.created("-m 32m", "{{.HostConfig.Memory}}"), "33554432");
    assert_eq!(set.created("", "{{.HostConfig.RestartPolicy.Name}}"), "always");
    assert_eq!(set.created("--rm", "{{.HostConfig.RestartPolicy.Name}}"), "no");
    assert_eq!(set.created("", "{{.Config.Hostname}}"), "set");
    assert_eq!(set.created("-h own", "{{.Config.Hostname}}"), "own");
    let env = set.created("-e B=3 -e C=4", "{{join .Config.Env \" \"}}");
    assert!(env.contains("A=1 B=3 C=4"), "{env}");
    set.write(
        "config.d/50.toml",
        "[run]\nmemory = '48m'\n[ps]\nall = true\nformat = '{{.Names}}'\n",
    );
    assert_eq!(set.created("", "{{.HostConfig.Memory}}"), "50331648");
    host.run("create --name one tiny").ok();
    assert_eq!(set.text("ps"), "one");
    let filter = |line: &str| {
        set.text(line)
            .lines()
            .filter(|l| l.contains("run.memory"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let origin = format!("{}/config.d/50.toml, line 2", set.dir.display());
    assert_eq!(filter("info"), [format!("Setting: run.memory = 48m ({origin})")]);
    let output = set
        .host
        .barge(["info", "-f", "{{range .Settings}}{{.Name}}: {{.Origin}};{{end}}"])
        .env("BARGE_CONFIG", set.dir.as_os_str())
        .env("BARGE_DNS", "10.1.1.1")
        .run()
        .ok();
    for part in [
        format!("run.memory: {origin};"),
        "dns: environment, BARGE_DNS;".to_owned(),
        "root: command line;".to_owned(),
    ] {
        assert!(output.text().contains(&part), "{}", output.text());
    }
    host.run("rm one").ok();
}

#[test]
fn wrong_settings_are_named_by_file_and_line() {
    let host = Host::new();
    let set = Set::new(&host, "[run]\nmemory = 'lots'\n");
    let output = set.barge("create tiny").run().fails(125);
    assert!(output.err().contains("hint: run.memory is set in") && output.err().contains("config.toml, line 2"));
    output.says(&["invalid size: 'lots'"]);
    // What is typed takes its place.
    let id = set.text("create -m 8m tiny");
    host.run(["rm", &id]).ok();
    set.text("ps");
    set.write("config.toml", "[run]\nmemroy = '1g'\n");
    for line in ["create tiny", "ps", "info"] {
        let output = set.barge(line).run();
        assert_eq!(output.code, if line.starts_with("create") { 125 } else { 1 }, "{line}");
        assert!(
            output.err().contains("hint: did you mean 'memory'?"),
            "{}",
            output.err()
        );
        output.says(&["config.toml: line 2: unknown setting 'memroy' of 'run'"]);
    }
    for line in ["help run", "run --help", "version", "--version"] {
        set.barge(line).run().ok();
    }
    assert_eq!(host.text("ps -aq"), "");
}

#[test]
fn other_engines_files_count_where_they_are_asked_for() {
    let host = Host::new();
    let set = Set::new(&host, "read = ['containers']\n[run]\numask = '0077'\n");
    let conf = host.scratch().join("containers.conf");
    std::fs::write(
        &conf,
        "[containers]\npids_limit = 77\numask = '0027'\ndefault_ulimits = ['nofile=9:9']\nnetns = 'bridge'\n",
    )
    .unwrap();
    let create = |set: &Set<'_>| {
        let id = set
            .barge("create tiny")
            .env("CONTAINERS_CONF", conf.as_os_str())
            .run()
            .ok()
            .text();
        let shown = host.text([
            "inspect",
            "-f",
            "{{.HostConfig.PidsLimit}} {{json .HostConfig.Ulimits}}",
            &id,
        ]);
        host.run(["rm", &id]).ok();
        shown
    };
    let shown = create(&set);
    assert!(shown.starts_with("77 ") && shown.contains("nofile"), "{shown}");
    let info = set.barge("info").env("CONTAINERS_CONF", conf.as_os_str()).run().ok();
    let text = info.text();
    assert!(
        text.contains(&format!(
            "Setting: run.pids-limit = 77 ({}, pids_limit)",
            conf.display()
        )),
        "{text}"
    );
    assert!(text.contains("run.umask = 0077") && !text.contains("0027"), "{text}");
    assert!(info.err().contains("netns has no counterpart here"), "{}", info.err());
    set.write("config.toml", "");
    assert!(!create(&set).starts_with("77 "));
}
