//! Who the program is and where it stands: users and groups of the container's own files, environment, working
//! directory, resource limits.

use crate::support::Host;
use std::fs;

fn ids(host: &Host, flags: &str) -> String {
    host.tiny(flags, "ids").ok().text()
}

#[test]
fn users_are_those_of_the_container() {
    let host = Host::new();
    assert_eq!(ids(&host, ""), "uid 0 0 0\ngid 0 0 0\ngroups 0");
    assert_eq!(
        ids(&host, "-u web"),
        "uid 1000 1000 1000\ngid 1000 1000 1000\ngroups 1000 1001 1002"
    );
    assert_eq!(ids(&host, "-u 1000"), ids(&host, "-u web"));
    assert_eq!(ids(&host, "-u daemon"), "uid 1 1 1\ngid 1 1 1\ngroups 1 1001");
    // Not in passwd: that number, group 0.
    assert_eq!(ids(&host, "-u 4242"), "uid 4242 4242 4242\ngid 0 0 0\ngroups 0");
    assert_eq!(ids(&host, "-u 4242:77"), "uid 4242 4242 4242\ngid 77 77 77\ngroups 77");
    assert!(ids(&host, "-u web:logs").contains("gid 1001 1001 1001"));
    for wrong in ["nobody-here", "web:none", "-1", "99999999999"] {
        host.run(["run", "--rm", "-u", wrong, "tiny", "/true"]).fails(125);
    }
}

#[test]
fn another_users_program_can_be_killed() {
    let host = Host::new();
    host.detached("up", "-u web", "deaf");
    host.wait_log("up", "ready");
    host.text("kill up");
    assert_eq!(host.text("wait up"), "137");
}

#[test]
fn a_user_without_rights_can_use_the_streams() {
    let host = Host::new();
    assert_eq!(host.tiny("-u 1000", "open /dev/stdout w").ok().text(), "ok");
    assert_eq!(
        host.barge("run --rm -i -u 1000 tiny /tiny cat")
            .stdin(b"x")
            .run()
            .ok()
            .stdout,
        b"x"
    );
    let (code, text) = host
        .barge("run --rm -it -u 1000 tiny /tiny open /dev/tty rw")
        .terminal(80, 24)
        .wait();
    assert_eq!((code, text.trim_end()), (0, "ok"));
}

#[test]
fn environment_is_exactly_this() {
    let host = Host::new();
    let mut lines = host.tiny("-h web", "env").ok().lines();
    lines.sort();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["HOME=/root", "HOSTNAME=web", path, "container=barge"]);
    assert!(host.tiny("-u web", "env").ok().text().contains("HOME=/home/web"));
    assert!(host.tiny("-u 4242", "env").ok().lines().contains(&"HOME=/".to_owned()));
}

#[test]
fn environment_from_flags_and_files() {
    let host = Host::new();
    let file = host.scratch().join("env");
    fs::write(
        &file,
        "# comment\nFROM_FILE=1\nBOTH=file\n\nSPACED=a b  c\nHOST_VALUE\nABSENT\n",
    )
    .unwrap();
    let line = [
        "run",
        "--rm",
        "--env-file",
        file.to_str().unwrap(),
        "-e",
        "BOTH=flag",
        "-e",
        "GIVEN",
        "-e",
        "GONE",
        "-e",
        "EMPTY=",
    ];
    let mut line = line.to_vec();
    line.extend(["tiny", "/tiny", "env"]);
    let text = host
        .barge(line)
        .env("GIVEN", "caller")
        .env("HOST_VALUE", "h")
        .run()
        .ok()
        .text();
    for expected in [
        "FROM_FILE=1",
        "BOTH=flag",
        "SPACED=a b  c",
        "GIVEN=caller",
        "HOST_VALUE=h",
        "EMPTY=",
    ] {
        assert!(text.lines().any(|l| l == expected), "{expected} is not in {text}");
    }
    assert!(
        !text.contains("GONE") && !text.contains("ABSENT") && !text.contains("BOTH=file"),
        "{text}"
    );
    host.run("run --rm --env-file /none tiny /true")
        .fails(125)
        .says(&["/none"]);
}

#[test]
fn environment_of_the_image_comes_first() {
    let host = Host::bare();
    let image = host.barge([
        "import",
        "-c",
        "ENV A=image",
        "-c",
        "ENV B=image",
        "-c",
        "WORKDIR /tmp",
        "-c",
        "USER web",
        "-",
        "env",
    ]);
    image.stdin(&crate::support::tiny_tar()).run().ok();
    let text = host.text("run --rm -e A=flag env /tiny env");
    assert!(text.contains("A=flag") && text.contains("B=image"), "{text}");
    assert_eq!(host.text("run --rm env /tiny cwd"), "/tmp");
    assert!(host.text("run --rm env /tiny ids").contains("uid 1000"));
    assert!(host.text("run --rm -u 0 env /tiny ids").contains("uid 0"));
}

#[test]
fn working_directory() {
    let host = Host::new();
    assert_eq!(host.tiny("", "cwd").ok().text(), "/");
    assert_eq!(host.tiny("-w /etc", "cwd").ok().text(), "/etc");
    assert_eq!(host.tiny("-w /proc", "cwd").ok().text(), "/proc");
    assert_eq!(host.tiny("-w /not/yet/there", "cwd").ok().text(), "/not/yet/there");
    assert!(host.tiny("-w /fresh -u web", "stat .").ok().text().contains("dir 0755"));
    host.tiny("-w not/absolute", "cwd").fails(125);
    host.tiny("-w /tiny", "cwd").fails(125).says(&["/tiny"]);
}

#[test]
fn the_program_is_found_by_the_containers_path() {
    let host = Host::new();
    assert_eq!(host.run("run --rm -e PATH=/none:/ tiny tiny print x").ok().text(), "x");
    host.run("run --rm -e PATH=/none tiny tiny print x").fails(127);
    // A name with a slash is taken from the working directory.
    assert_eq!(host.run("run --rm -w / tiny ./tiny print x").ok().text(), "x");
}

#[test]
fn resource_limits() {
    let host = Host::new();
    let text = host
        .tiny("--ulimit nofile=512:1024 --ulimit core=0", "limits")
        .ok()
        .text();
    assert!(text.contains("nofile 512 1024") && text.contains("core 0 0"), "{text}");
    host.tiny("--ulimit nofile=2:1", "limits").fails(125);
    host.tiny("--ulimit nonsense=1", "limits")
        .fails(125)
        .says(&["nonsense"]);
}

#[test]
fn labels_are_kept() {
    let host = Host::new();
    host.text("create --name x1 --label a=1 -l b tiny");
    assert_eq!(
        host.text(["inspect", "-f", "{{.Config.Labels.a}}-{{.Config.Labels.b}}", "x1"]),
        "1-"
    );
    assert_eq!(host.text("ps -aq --filter label=a=1").len(), 12);
    assert_eq!(host.text("ps -aq --filter label=a=2"), "");
}
