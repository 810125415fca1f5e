//! The examples of 2013's README (F113, F114), as they were typed, with today's programs of Debian's in the images: a
//! worker, an IRC bouncer, Redis, and netcat on port 4444, reached from another machine and from this one.

use crate::support::{Host, Net, Tar, busybox_tar, contains, wait_until};
use std::process::Command;

/// The port of the host that `port CONTAINER PRIVATE` tells.
fn port(host: &Host, container: &str, private: &str) -> String {
    let lines = host.run(["port", container, private]).ok().lines();
    let port = lines[0].rsplit(':').next().unwrap().to_owned();
    port.parse::<u16>().unwrap();
    port
}

/// Runs what a person would type, with `docker` meaning this engine.
fn shell(host: &Host, script: &str) -> String {
    let docker = host.barge([""; 0]).shown();
    let script = format!("docker() {{ {docker} \"$@\"; }}\nset -eu\n{script}");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}\n{err}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_long_running_worker() {
    let host = Host::busybox();
    let said = shell(
        &host,
        r#"JOB=$(docker run -d busybox /bin/sh -c "while true; do echo Hello world; sleep 1; done")
           until docker logs $JOB | grep -q "Hello world"; do :; done
           docker logs $JOB
           docker kill $JOB
           docker inspect -f '{{.State.Status}}' $JOB"#,
    );
    assert!(
        said.starts_with("Hello world\n") && said.ends_with("exited\n"),
        "{said}"
    );
}

#[test]
fn netcat_on_4444() {
    let host = Host::busybox();
    let net = Net::around(&host);
    for from_outside in [true, false] {
        let job = host.text("run -d -p 4444 busybox /bin/nc -l -p 4444");
        let port = port(&host, &job, "4444");
        let listens = || host.run(["exec", &job, "netstat", "-ltn"]).text().contains(":4444 ");
        wait_until("netcat to listen", listens);
        let line = format!("echo hello world | nc -q 1 -w 10 $IP {port}");
        let send = |ip: &str| {
            let output = Command::new("bash").env("IP", ip).args(["-c", &line]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        match from_outside {
            true => net.client.enter(|| send(Net::HOST)),
            false => send("127.0.0.1"),
        }
        host.wait_log(&job, "hello world");
        assert_eq!(host.text(["logs", &job]), "hello world");
        assert_eq!(host.text(["wait", &job]), "0");
    }
}

#[test]
fn redis() {
    let host = Host::bare();
    host.import("redis", &programs(&["/usr/bin/redis-server"], Tar::new()));
    let net = Net::around(&host);
    let id = host.text("run -d -p 6379 redis /usr/bin/redis-server --save --protected-mode no");
    let port = port(&host, &id, "6379");
    wait_until("redis to be ready", || {
        contains(&host.run(["logs", &id]).stdout, b"Ready to accept")
    });
    let client = |ip: &str, words: &str| format!("redis-cli -h {ip} -p {port} {words}");
    let told = net.client.run(&client(Net::HOST, "set greeting hello")).ok().text();
    assert_eq!(told, "OK");
    let here = net.host.run(&client("127.0.0.1", "get greeting")).ok().text();
    assert_eq!(here, "hello");
    let address = host.text(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &id]);
    let line = format!("redis-cli -h {address} client list");
    let clients = net.host.run(&line).ok().text();
    assert!(clients.contains("addr="), "{clients}");
    // Linked, as its users did a few months later.
    host.import("box", &busybox_tar());
    let greeting = host.text([
        "run",
        "--rm",
        "--link",
        &format!("{id}:db"),
        "box",
        "sh",
        "-c",
        "printf 'GET greeting\\r\\nQUIT\\r\\n' | nc -w 5 db 6379",
    ]);
    assert!(greeting.contains("hello"), "{greeting}");
    host.run(["stop", &id]).ok();
    assert!(net.client.run(&client(Net::HOST, "ping")).code != 0);
}

#[test]
fn an_irc_bouncer() {
    let host = Host::bare();
    // What a bouncer does at first: it asks for the password of the user it was started for.
    let session = "#!/bin/sh\nread -r _ given\nread -r _ user\n\
        [ \"$given\" = \"$2\" ] && [ \"$user\" = \"$1\" ] && echo \":bouncer 001 $1 :Welcome, $(id -un)\"\n";
    let bouncer = "#!/bin/sh\nexec nc -ll -p 6667 -e /bin/session \"$1\" \"$2\"\n";
    let tar = Tar::new()
        .file("bin/session", 0o755, session)
        .file("bin/bouncer", 0o755, bouncer)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0::/:/bin/sh\nirc:x:39:39:ircd:/run/ircd:/bin/sh\n",
        )
        .file("etc/group", 0o644, "root:x:0:\nirc:x:39:\n");
    let image = [strip_end(tar.bytes()), busybox_without_accounts()].concat();
    let entry = r#"ENTRYPOINT ["/bin/bouncer"]"#;
    host.barge(["import", "-c", entry, "-", "shykes/znc"])
        .stdin(&image)
        .run()
        .ok();
    let net = Net::around(&host);
    let told = shell(
        &host,
        "BOUNCER_ID=$(docker run -d -p 6667 -u irc shykes/znc alice secret)\n\
         echo \"Configure your irc client to connect to port $(docker port $BOUNCER_ID 6667 | head -1) of this machine\"\n\
         echo $BOUNCER_ID",
    );
    let id = told.lines().last().unwrap().to_owned();
    let port = port(&host, &id, "6667");
    assert!(told.contains(&format!(":{port} of this machine")), "{told}");
    wait_until("the bouncer to listen", || {
        host.run(["exec", &id, "netstat", "-ltn"]).text().contains(":6667 ")
    });
    let line = format!(
        "printf 'PASS secret\\r\\nUSER alice\\r\\n' | tr -d '\\r' | nc -w 10 {} {port}",
        Net::HOST
    );
    let welcome = net
        .client
        .enter(|| Command::new("bash").args(["-c", &line]).output().unwrap());
    let welcome = String::from_utf8_lossy(&welcome.stdout).into_owned();
    assert_eq!(welcome.trim_end(), ":bouncer 001 alice :Welcome, irc");
}

/// Without the two blocks of zeros that end an archive.
fn strip_end(mut tar: Vec<u8>) -> Vec<u8> {
    while tar.ends_with(&[0; 512]) {
        tar.truncate(tar.len() - 512);
    }
    tar
}

/// The tools alone, to go behind another archive's accounts.
fn busybox_without_accounts() -> Vec<u8> {
    let mut program = Tar::new();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|p| std::path::Path::new(p).exists());
    program = program.file("bin/busybox", 0o755, std::fs::read(busybox.unwrap()).unwrap());
    for tool in ["sh", "nc", "id", "netstat", "echo"] {
        program = program.symlink(&format!("bin/{tool}"), "busybox");
    }
    program.bytes()
}

/// Programs of this machine's, with the libraries they need.
pub fn programs(paths: &[&str], mut tar: Tar) -> Vec<u8> {
    let mut files: Vec<String> = Vec::new();
    for path in paths {
        let output = Command::new("ldd").arg(path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let libraries = text.split_whitespace().filter(|w| w.starts_with('/'));
        files.extend(libraries.chain([*path]).map(str::to_owned));
    }
    files.sort();
    files.dedup();
    for file in files {
        tar = tar.file(file.trim_start_matches('/'), 0o755, std::fs::read(&file).unwrap());
    }
    tar.dir("etc", 0o755)
        .dir("tmp", 0o1777)
        .file("etc/passwd", 0o644, "root:x:0:0::/:/bin/sh\n")
        .bytes()
}
