//! `login`, `logout` and `search` against real registries: where credentials go, who asks for them and how, and that
//! nothing of them is ever shown.

use crate::support::Terminal;
use crate::support::faults::{Fault, Faults};
use crate::support::registry::{PASSWORD, Registry, Setup, USER, barge, home};
use crate::support::tokens::IDENTITY;
use crate::support::{Host, Output, kill, wait_until};
use base64::Engine as _;
use nix::sys::signal::Signal;
use rustix::termios::LocalModes;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn with_password(host: &Host) -> Registry {
    Registry::start(
        host,
        Setup {
            password: true,
            ..Setup::default()
        },
    )
}

fn login(host: &Host, registry: &str, password: &str) -> Output {
    barge(host, ["login", "-u", USER, "--password-stdin", registry])
        .stdin(format!("{password}\n").as_bytes())
        .run()
}

fn config(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn encoded() -> String {
    base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"))
}

#[test]
fn a_password_goes_into_dockers_file() {
    let host = Host::bare();
    let registry = with_password(&host);
    let file = home(&host).join(".docker/config.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(
        &file,
        r#"{"detachKeys": "ctrl-q", "auths": {"other:1": {"auth": "eDp5"}}}"#,
    )
    .unwrap();
    let refused = login(&host, &registry.host, "wrong").fails(1);
    assert!(
        refused.err().contains("incorrect username or password"),
        "{}",
        refused.err()
    );
    assert_eq!(config(&file)["auths"].as_object().unwrap().len(), 1);

    let output = login(&host, &registry.host, PASSWORD).ok();
    assert_eq!(output.text(), "Login Succeeded");
    assert!(!output.err().contains(PASSWORD));
    let saved = config(&file);
    assert_eq!(saved["detachKeys"], "ctrl-q");
    assert_eq!(saved["auths"]["other:1"]["auth"], "eDp5");
    assert_eq!(saved["auths"][&registry.host]["auth"], encoded());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // However it is written (F226), as whom is known.
    for name in [
        registry.host.clone(),
        format!("http://{}", registry.host),
        format!("https://{}/v1/", registry.host),
        format!("{}/team/app", registry.host),
    ] {
        let known = barge(&host, ["login", "--get-login", &name]).run().ok();
        assert_eq!(known.text(), USER, "{name}");
    }
    let out = barge(&host, ["logout", &registry.host]).run().ok();
    assert_eq!(out.text(), format!("Removing login credentials for {}", registry.host));
    let out = barge(&host, ["logout", &registry.host]).run().ok();
    assert_eq!(out.text(), format!("Not logged in to {}", registry.host));
    barge(&host, ["login", "--get-login", &registry.host])
        .run()
        .fails(1)
        .says(&["not logged into"]);
    assert_eq!(config(&file)["auths"]["other:1"]["auth"], "eDp5");
}

#[test]
fn flags_that_do_not_fit() {
    let host = Host::bare();
    let no_tty = "cannot perform an interactive login from a non-TTY device";
    for (line, code, says) in [
        ("login --password-stdin h.example", 125, "--username"),
        ("login -u x -p y --password-stdin h.example", 125, "mutually exclusive"),
        ("login h.example", 1, no_tty),
        ("login -u x h.example", 1, no_tty),
        ("login user:secret@h.example", 125, "credentials do not belong"),
        ("login h%x", 125, "not the name of a registry"),
        ("logout --all h.example", 125, "exclude"),
        ("search", 125, "TERM"),
        ("search --limit 0 x", 125, "limit"),
        ("search --limit 101 x", 125, "limit"),
        ("search -f nonsense=1 x", 125, "nonsense"),
    ] {
        let output = barge(&host, line).run().fails(code);
        assert!(output.err().contains(says), "{line}: {}", output.err());
        assert!(!output.err().contains("secret"), "{line}: {}", output.err());
    }
    // Nothing piped in is no password.
    let output = barge(&host, "login -u x --password-stdin h.example")
        .stdin(b"\n")
        .run()
        .fails(1);
    assert!(output.err().contains("Password Required"));
}

#[test]
fn a_token_server_is_asked() {
    let host = Host::bare();
    let registry = Registry::start(
        &host,
        Setup {
            tokens: true,
            password: true,
            ..Setup::default()
        },
    );
    let refused = login(&host, &registry.host, "wrong").fails(1);
    assert!(
        refused.err().contains("incorrect username or password"),
        "{}",
        refused.err()
    );
    login(&host, &registry.host, PASSWORD).ok();
    let asked = registry.tokens.as_ref().unwrap().asked();
    assert!(asked.last().unwrap().contains("service=test"), "{asked:?}");
    assert!(asked.iter().all(|a| !a.contains("pa%3Ass")), "{asked:?}");

    // An identity token, as docker keeps those of some registries.
    let file = home(&host).join(".docker/config.json");
    let auth = base64::prelude::BASE64_STANDARD.encode("barge:");
    let json = serde_json::json!({"auths": {&registry.host: {"auth": auth, "identitytoken": IDENTITY}}});
    fs::write(&file, json.to_string()).unwrap();
    barge(&host, ["search", &format!("{}/a", registry.host)]).run();
    let asked = registry.tokens.as_ref().unwrap().asked();
    let last = asked.last().unwrap();
    assert!(
        last.starts_with("POST ") && last.contains("grant_type=refresh_token"),
        "{last}"
    );
}

#[test]
fn a_helper_keeps_the_password() {
    let host = Host::bare();
    let registry = with_password(&host);
    let bin = host.scratch().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let helper = bin.join("docker-credential-test");
    // Its store is one file; what it was asked is a log.
    let script = format!(
        "#!/bin/sh\ncd {}\necho \"$@\" >>log\ncase $1 in\nstore) cat >kept ;;\nget) test -e kept || {{ echo credentials not found in native keychain; exit 1; }}\n cat kept ;;\nerase) rm kept ;;\nesac\n",
        bin.display()
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let file = home(&host).join(".docker/config.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.host)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = |args: &[&str], input: &[u8]| barge(&host, args.to_vec()).env("PATH", &path).stdin(input).run();

    run(
        &["login", "-u", USER, "--password-stdin", &registry.host],
        PASSWORD.as_bytes(),
    )
    .ok();
    let kept = config(&bin.join("kept"));
    assert_eq!(
        (kept["Username"].as_str(), kept["Secret"].as_str()),
        (Some(USER), Some(PASSWORD))
    );
    assert_eq!(kept["ServerURL"], registry.host);
    assert!(!fs::read_to_string(&file).unwrap().contains(&encoded()));
    assert_eq!(run(&["login", "--get-login", &registry.host], b"").ok().text(), USER);
    run(&["logout", &registry.host], b"").ok();
    assert!(!bin.join("kept").exists());
    let log = fs::read_to_string(bin.join("log")).unwrap();
    assert!(!log.contains(PASSWORD), "{log}");

    fs::write(&helper, "#!/bin/sh\necho broken; exit 3\n").unwrap();
    let output = run(&["login", "-u", USER, "--password-stdin", &registry.host], b"x");
    assert!(
        output.code != 0 || output.err().contains("docker-credential-test"),
        "{}",
        output.err()
    );
}

#[test]
fn search_asks_indexes_and_catalogs() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let proxy = Faults::before(&registry);
    let json = br#"{"query":"web","num_results":2,"results":[
        {"name":"web/one","description":"a \u001b[31mred one that goes on and on and on, further than a line is long","star_count":7,"is_official":false},
        {"name":"web/two","description":"","star_count":70,"is_official":true}]}"#;
    let answer = || {
        Fault::Answer(
            200,
            vec![("Content-Type".into(), "application/json".into())],
            json.to_vec(),
        )
    };
    proxy.fail("GET", "/v1/search", 9, answer());
    let line = |rest: &str| format!("search {rest} {}/web", proxy.host);
    let table = barge(&host, line("")).run().ok().text();
    assert!(table.starts_with("NAME"), "{table}");
    assert!(
        table.contains(&format!("{}/web/one", proxy.host)) && table.contains('…'),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "{table}");
    let two = barge(&host, line("-f stars=10 --format {{.Name}}:{{.StarCount}}"))
        .run()
        .ok();
    assert_eq!(two.text(), format!("{}/web/two:70", proxy.host));
    let one = barge(&host, line("--limit 1 --no-trunc --format {{.Description}}"))
        .run()
        .ok()
        .text();
    assert!(one.contains("further than a line"), "{one}");
    assert_eq!(
        barge(&host, line("-f is-official=true --format {{.Name}}"))
            .run()
            .ok()
            .lines()
            .len(),
        1
    );
    proxy.clear();
    // docker-registry has no search, but a catalog.
    assert_eq!(barge(&host, line("--format {{.Name}}")).run().ok().text(), "");
    proxy.fail("GET", "", 9, Fault::html());
    let output = barge(&host, line("")).run().fails(1);
    assert!(output.err().contains("web page"), "{}", output.err());
}

/// Whether the terminal shows what is typed.
fn echoes(terminal: &Terminal) -> bool {
    terminal.modes().contains(LocalModes::ECHO)
}

#[test]
fn somebody_types_a_password() {
    let host = Host::bare();
    let registry = with_password(&host);
    let mut terminal = barge(&host, ["login", &registry.host]).terminal(80, 24);
    terminal.wait_for("Username: ");
    assert!(echoes(&terminal));
    terminal.send(format!("{USER}\n").as_bytes());
    terminal.wait_for("Password: ");
    wait_until("the echo to be off", || !echoes(&terminal));
    // Only the echo: lines are still edited, keys still make signals.
    let modes = terminal.modes();
    assert!(modes.contains(LocalModes::ICANON | LocalModes::ISIG));
    terminal.send(format!("{PASSWORD}\n").as_bytes());
    terminal.wait_for("Login Succeeded");
    assert!(echoes(&terminal));
    let shown = terminal.output.text();
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert_eq!(terminal.wait().0, 0);

    // The name is offered, and its password is not asked for again (F221).
    let mut terminal = barge(&host, ["login", &registry.host]).terminal(80, 24);
    terminal.wait_for(&format!("Username ({USER}): "));
    terminal.send(b"\n");
    terminal.wait_for("Login Succeeded");
    assert!(!terminal.output.text().contains("Password: "));
    assert_eq!(terminal.wait().0, 0);
}

#[test]
fn the_prompt_restores_the_terminal_on_every_signal() {
    let host = Host::bare();
    let registry = with_password(&host);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let terminal = barge(&host, ["login", "-u", USER, &registry.host]).terminal(80, 24);
        terminal.wait_for("Password: ");
        wait_until("the echo to be off", || !echoes(&terminal));
        kill(terminal.pid(), signal);
        wait_until("the echo to be on again", || echoes(&terminal));
        assert_eq!(terminal.wait().0, 128 + signal as i32, "{signal}");
    }
    // The key, and the end of input.
    for (key, code) in [(b"\x03", 130), (b"\x04", 1)] {
        let mut terminal = barge(&host, ["login", "-u", USER, &registry.host]).terminal(80, 24);
        terminal.wait_for("Password: ");
        wait_until("the echo to be off", || !echoes(&terminal));
        terminal.send(key);
        wait_until("the echo to be on again", || echoes(&terminal));
        assert_eq!(terminal.wait().0, code);
    }
}

#[test]
fn a_pull_asks_whoever_sits_there() {
    let host = Host::bare();
    let name = Registry::new(&host).publish("a", "1").name;
    let registry = with_password(&host);
    let mut terminal = barge(&host, ["pull", &name]).terminal(120, 24);
    terminal.wait_for("pull access denied for");
    terminal.wait_for(&format!("Login against server at {}", registry.host));
    terminal.wait_for("Username: ");
    terminal.send(format!("{USER}\n").as_bytes());
    terminal.wait_for("Password: ");
    wait_until("the echo to be off", || !echoes(&terminal));
    terminal.send(format!("{PASSWORD}\n").as_bytes());
    terminal.wait_for("Login Succeeded");
    assert_eq!(terminal.wait().0, 0);
    assert_eq!(host.text("images -q").lines().count(), 1);
    // A program that runs it is not asked.
    host.text(["rmi", &name]);
    barge(&host, ["logout", &registry.host]).run().ok();
    barge(&host, ["pull", &name]).run().fails(1);
}
