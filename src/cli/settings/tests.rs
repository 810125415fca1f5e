//! Tables of settings and what becomes of them.

use super::*;
use crate::cli::{compat, tree};
use std::ffi::OsString;

fn parsed(text: &str) -> Result<Settings> {
    let mut own = file::Own::default();
    file::parse(text, Path::new("c.toml"), &mut own)?;
    let mut settings = Settings::default();
    for setting in own.settings {
        settings.set(setting);
    }
    Ok(settings)
}

fn shown(settings: &Settings) -> Vec<String> {
    let line = |s: &Setting| format!("{}={} ({})", s.name(), s.value(), s.origin);
    settings.given.iter().map(line).collect()
}

#[test]
fn a_table_is_a_command_and_a_key_its_flag() {
    let text = "root = '/data'\ndns = ['10.0.0.1', 'fd00::1']\n[run]\nmemory = '1g'\ninit = true\n\
                pids-limit = 0x10\ncpus = 1.5\nenv = { A = '1', B = 2 }\n[network.create]\ninternal = true\n\
                [container.ls]\nall = true\n[container.run]\nnet = 'host'\n";
    assert_eq!(
        shown(&parsed(text).unwrap()),
        [
            "root=/data (c.toml, line 1)",
            "dns=10.0.0.1, fd00::1 (c.toml, line 2)",
            "run.memory=1g (c.toml, line 4)",
            "run.init=true (c.toml, line 5)",
            "run.pids-limit=16 (c.toml, line 6)",
            "run.cpus=1.5 (c.toml, line 7)",
            "run.env=A=1, B=2 (c.toml, line 8)",
            "network.create.internal=true (c.toml, line 10)",
            "ps.all=true (c.toml, line 12)",
            "run.network=host (c.toml, line 14)",
        ]
    );
}

#[test]
fn comments_count_as_lines_and_text_is_no_comment() {
    let commented = "# barge\n\n[attach]\n# detach-keys = 'x'\n[run]\n  # mem\nmemory = '1g' # one\n";
    assert_eq!(shown(&parsed(commented).unwrap()), ["run.memory=1g (c.toml, line 7)"]);
    let text = "[run]\nentrypoint = \"\"\"\n# no comment\n\"\"\"\n";
    assert_eq!(
        shown(&parsed(text).unwrap()),
        ["run.entrypoint=# no comment\n (c.toml, line 2)"]
    );
    assert!(
        parsed("# a\n[run]\n# b\nmemroy = 1")
            .unwrap_err()
            .to_string()
            .contains("line 4")
    );
}

#[test]
fn mistakes_are_named_by_their_line() {
    for (text, says, hint) in [
        (
            "dns = ['10.0.0.1']\ndsn = ['x']",
            "line 2: unknown setting 'dsn'",
            "did you mean 'dns'",
        ),
        (
            "[run]\nmemroy = 1",
            "line 2: unknown setting 'memroy' of 'run'",
            "did you mean 'memory'",
        ),
        ("[rnu]\n", "line 1: unknown setting 'rnu'", "did you mean 'run'"),
        (
            "[network.creat]\n",
            "line 1: unknown setting 'creat' of 'network'",
            "'create'",
        ),
        ("xyzzy = 1", "line 1: unknown setting 'xyzzy'", "barge.toml(5)"),
        ("run = 1", "line 1: [run] is a command: want a table", ""),
        ("[run]\ninit = 1", "line 2: init: want true or false, not integer", ""),
        (
            "[run]\nmemory = true",
            "line 2: memory: want a text or a number, not boolean",
            "",
        ),
        (
            "[run]\nmemory = ['1g']",
            "line 2: memory: want one value, not array",
            "",
        ),
        (
            "[run]\nstop-timeout = 'soon'",
            "line 2: run: invalid value 'soon' for '--stop-timeout",
            "",
        ),
        ("[run]\nhelp = true", "line 2: unknown setting 'help' of 'run'", ""),
        ("read = ['nonsense']", "line 1: read: want a list of", ""),
        ("dns = [", "line 1: ", ""),
    ] {
        let e = parsed(text).unwrap_err();
        let line = e.to_string();
        assert!(line.starts_with(says) && !line.contains('\n'), "{text}: {line}");
        assert!(e.hint().unwrap_or_default().contains(hint), "{text}: {:?}", e.hint());
    }
}

#[track_caller]
fn check(text: &str, path: &[&str], line: &str, want: &str) {
    let settings = parsed(text).unwrap();
    let mut parser = tree::parser(path).unwrap();
    parser.build();
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let words = compat::normalise(&parser, &words);
    let typed = parser
        .clone()
        .try_get_matches_from(std::iter::once(&OsString::from("barge")).chain(&words))
        .unwrap();
    let got = apply::words(&settings.chosen(path, &parser, &typed));
    let got: Vec<_> = got.iter().map(|w| w.to_string_lossy()).collect();
    assert_eq!(got.join(" "), want, "{line}");
}

#[test]
fn what_is_typed_wins() {
    let run = "[run]\nmemory = '1g'\nrestart = 'always'\ndevice = ['/dev/fuse']\nenv = ['A=1']\nhostname = 'h'\n";
    let all = "--memory=1g --restart=always --device=/dev/fuse --env=A=1 --hostname=h";
    check(run, &["run"], "img", all);
    check(run, &["create"], "img", all);
    check(run, &["ps"], "", "");
    let less = |gone: &str| all.replace(gone, "").replace("  ", " ").trim().to_owned();
    check(run, &["run"], "-m 2g img", &less("--memory=1g"));
    check(run, &["run"], "-rm img", &less("--restart=always"));
    check(run, &["run"], "--device /dev/a img", &less("--device=/dev/fuse"));
    // Names with values come together: the later one of a name wins.
    check(run, &["run"], "-e A=2 img", all);
    check(run, &["run"], "--net container:x img", &less("--hostname=h"));
    check(run, &["run"], "--net back img", all);
    let both = "[run]\nmemory = '1g'\ninit = true\n[create]\nmemory = '2g'\n";
    check(both, &["create"], "img", "--init=true --memory=2g");
    check("[images]\ntree = true\n", &["images"], "-viz", "");
}

#[test]
fn the_later_one_wins() {
    let mut settings = parsed("bridge = 'a'\ndns = ['1.1.1.1']").unwrap();
    for setting in parsed("dns = ['2.2.2.2']").unwrap().given {
        settings.set(setting);
    }
    assert_eq!(
        shown(&settings),
        ["bridge=a (c.toml, line 1)", "dns=2.2.2.2 (c.toml, line 1)"]
    );
}

#[test]
fn other_engines_keys_are_flags_here() {
    for (command, name) in foreign::rows() {
        let path: Vec<&str> = command.split(' ').filter(|w| !w.is_empty()).collect();
        let mut parser = tree::parser(&path).unwrap();
        parser.build();
        assert!(file::flag(&parser, name).is_some(), "{command} --{name}");
    }
}

#[test]
fn dockers_and_podmans_files() {
    let take = |kind, name: &str, text: &str| {
        let mut settings = Settings::default();
        foreign::parse(kind, text, Path::new(name), &mut settings).unwrap();
        (
            settings
                .given
                .iter()
                .map(|s| format!("{}={}", s.name(), s.value()))
                .collect::<Vec<_>>(),
            settings.notes,
        )
    };
    let daemon = r#"{"log-driver": "json-file", "log-opts": {"max-size": "1m", "max-file": "2"}, "dns": ["1.1.1.1"],
        "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 20, "Soft": 10}}, "init": true,
        "no-new-privileges": true, "seccomp-profile": "/p.json", "registry-mirrors": ["x"], "swarm-x": 1, "default-shm-size": {}}"#;
    let (got, notes) = take(foreign::Kind::Docker, "daemon.json", daemon);
    assert_eq!(
        got,
        [
            "run.log-driver=json-file",
            "run.log-opt=max-size=1m, max-file=2",
            "dns=1.1.1.1",
            "run.ulimit=nofile=10:20",
            "run.init=true",
            "run.security-opt=no-new-privileges, seccomp=/p.json",
        ]
    );
    assert_eq!(
        notes,
        [
            "daemon.json: swarm-x has no counterpart here",
            "daemon.json: default-shm-size is not what it should be, and left out"
        ]
    );
    let conf = "[containers]\nlog_driver = 'k8s-file'\nlog_size_max = -1\ntz = 'local'\nenv = ['A=1']\n\
                default_capabilities = ['CHOWN', 'KILL']\nnetns = 'x'\n[engine]\nx = 1\n";
    let (mut got, notes) = take(foreign::Kind::Containers, "c.conf", conf);
    got.sort();
    assert_eq!(
        got,
        [
            "run.cap-add=CHOWN, KILL",
            "run.cap-drop=ALL",
            "run.env=A=1",
            "run.log-driver=json-file",
            "run.tz=local",
        ]
    );
    assert_eq!(notes, ["c.conf: netns has no counterpart here"]);
    let (got, _) = take(
        foreign::Kind::Docker,
        "config.json",
        r#"{"psFormat": "{{.ID}}", "auths": {}}"#,
    );
    assert_eq!(got, ["ps.format={{.ID}}"]);
}
