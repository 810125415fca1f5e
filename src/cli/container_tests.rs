//! Command lines of `run` → what was asked.

use super::*;
use crate::cli::{compat, tree};
use crate::container::config::NetworkArg;
use crate::model::container::LogDriver;
use crate::model::mount::Source;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

fn parsed_os(words: &[OsString]) -> Result<RunArgs> {
    let mut parser = tree::parser(&["run"]).unwrap();
    parser.build();
    let words = compat::normalise(&parser, words);
    let matches = parser.try_get_matches_from(std::iter::once("barge".into()).chain(words));
    let matches = matches.map_err(|e| crate::cli::usage::explain(&e, "run", "", &[]))?;
    run_args(&matches, matches.on("detach"))
}

fn parsed(line: &str) -> Result<RunArgs> {
    parsed_os(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
}

#[track_caller]
fn good(line: &str) -> RunArgs {
    parsed(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

#[track_caller]
fn bad(line: &str, why: &str) {
    match parsed(line) {
        Ok(_) => panic!("{line} was taken"),
        Err(e) => assert!(e.to_string().contains(why), "{line}: {e}"),
    }
}

#[test]
fn what_is_not_given_has_its_default() {
    let args = good("img");
    assert_eq!((args.image.as_str(), args.command.len()), ("img", 0));
    assert_eq!(
        args.attach,
        Streams {
            stdin: false,
            stdout: true,
            stderr: true
        }
    );
    assert_eq!(args.network, NetworkArg::Default);
    assert_eq!((args.log, args.restart), (Default::default(), RestartPolicy::No));
    assert_eq!(
        (args.resources, args.security),
        (Resources::default(), Security::default())
    );
}

#[test]
fn booleans_and_clusters() {
    let args = good("-it -rm --init=true --privileged=false --read-only img sh -t -rm");
    assert!(args.tty && args.open_stdin && args.auto_remove && args.init);
    assert!(!args.security.privileged && args.security.read_only);
    assert_eq!(args.command, ["sh", "-t", "-rm"].map(ByteString::from));
    assert!(!good("-t -t=false img").tty);
    assert!(good("-t=0 -t img").tty);
    bad("-t=maybe img", "invalid value 'maybe' for '--tty'");
}

#[test]
fn streams_to_attach() {
    let only = |stdin, stdout, stderr| Streams { stdin, stdout, stderr };
    assert_eq!(good("-i img").attach, only(true, true, true));
    assert_eq!(good("-i -a stdin img").attach, only(true, false, false));
    assert_eq!(good("-a STDOUT -a=stderr img").attach, only(false, true, true));
    assert_eq!(good("-d -i img").attach, Streams::default());
    bad("-a stdbad img", "Unsupported stream name: stdbad");
    bad("-d -a stdin img", "Conflicting options: -a and -d");
}

#[test]
fn bytes_are_bytes() {
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let words = [
        "-e".into(),
        odd(b"A=\xff"),
        "-w".into(),
        odd(b"/\xfe"),
        "img".into(),
        odd(b"\xfd"),
    ];
    let args = parsed_os(&words).unwrap();
    assert_eq!(args.env, [ByteString::from(b"A=\xff".to_vec())]);
    assert_eq!(args.workdir, Some(b"/\xfe".to_vec().into()));
    assert_eq!(args.command, [ByteString::from(b"\xfd".to_vec())]);
}

#[test]
fn names_of_host_and_domain() {
    let names = |line| {
        let args = good(line);
        (args.hostname.unwrap_or_default(), args.domainname.unwrap_or_default())
    };
    assert_eq!(names("-h a.b.c img"), ("a".into(), "b.c".into()));
    assert_eq!(names("-h a img"), ("a".into(), String::new()));
    assert_eq!(names("-h a.b --domainname d img"), ("a.b".into(), "d".into()));
    bad("-h a_b! img", "invalid hostname format: a_b!");
    bad("-h .a img", "invalid hostname format");
}

#[test]
fn limits() {
    let r = good("-m 512m --cpus 1.5 --pids-limit 100 -c 512 --cpuset-cpus 0-1 --memory-reservation 1m img").resources;
    assert_eq!(
        (r.memory, r.memory_reservation, r.pids, r.cpu_shares),
        (Some(512 << 20), Some(1 << 20), Some(100), Some(512))
    );
    assert_eq!(
        (r.nano_cpus, r.cpu_quota, r.cpu_period),
        (Some(1_500_000_000), Some(150_000), Some(100_000))
    );
    assert_eq!(
        good("-m 0 -c 0 --pids-limit -1 img").resources,
        Resources {
            pids: Some(-1),
            ..Resources::default()
        }
    );
    assert_eq!(good("-m 1g --memory-swap -1 img").resources.memory_swap, Some(-1));
    for (line, why) in [
        ("-m much img", "invalid size: 'much'"),
        ("-c -1 img", "invalid value '-1' for '--cpu-shares'"),
        ("-c x img", "invalid value 'x' for '--cpu-shares'"),
        ("--cpus 1 --cpu-quota 5000 img", "Nano CPUs and CPU Quota"),
        ("--cpus 1 --cpu-period 5000 img", "Nano CPUs and CPU Period"),
        ("--memory-swappiness 300 img", "out of range"),
        ("--ulimit nofile img", "invalid ulimit"),
    ] {
        bad(line, why);
    }
}

#[test]
fn networks() {
    let network = |line| good(line).network;
    assert_eq!(network("--net host img"), NetworkArg::Host);
    assert_eq!(
        network("-network=container:web img"),
        NetworkArg::Container("web".into())
    );
    assert_eq!(
        network("--network ns:/run/netns/a img"),
        NetworkArg::Ns("/run/netns/a".into())
    );
    assert_eq!(network("-n=false img"), NetworkArg::None);
    assert_eq!(network("-n img"), NetworkArg::Default);
    bad("--net container: img", "Invalid container format");
    bad("-n=false --net host img", "Conflicting options");
}

#[test]
fn mounts_come_from_three_flags() {
    let args = good("-v /a -v data:/b:ro --mount type=bind,src=/h,dst=/c --tmpfs /d:size=1m --volumes-from web:ro img");
    assert_eq!(args.volumes, [PathBuf::from("/a")]);
    let kinds: Vec<&str> = args
        .mounts
        .iter()
        .map(|m| match m.source {
            Source::Volume { .. } => "volume",
            Source::Bind { .. } => "bind",
            Source::Tmpfs { .. } => "tmpfs",
            Source::Image { .. } => "image",
        })
        .collect();
    assert_eq!(kinds, ["volume", "bind", "tmpfs"]);
    assert_eq!(args.volumes_from[0].read_only, Some(true));
}

#[test]
fn the_rest() {
    let args =
        good("--name /web --entrypoint= --stop-signal hup --stop-timeout -1 --log-driver none -e A=1 -u 1:2 -w /x img");
    assert_eq!((args.name.as_deref(), args.entrypoint), (Some("web"), Some("".into())));
    assert_eq!(
        (args.stop_signal, args.stop_timeout, args.log.driver),
        (Some(1), Some(-1), LogDriver::None)
    );
    assert_eq!((args.user.as_deref(), args.workdir), (Some("1:2"), Some("/x".into())));
    assert_eq!(
        good("--restart on-failure:3 img").restart,
        RestartPolicy::OnFailure { max: 3 }
    );
    for (line, why) in [
        ("", "run: missing IMAGE"),
        ("--rm --restart always img", "cannot specify both --restart and --rm"),
        ("-w x img", "it needs to be an absolute path"),
        ("--stop-signal FOO img", "invalid signal: FOO"),
        ("--foo img", "run: unknown flag '--foo'"),
        ("--nmae x img", "unknown flag '--nmae'"),
        ("-y img", "unknown flag '-y'"),
        ("--name", "run: flag '--name' needs a value"),
        ("--restart sometimes img", "invalid restart policy"),
        ("--cap-add FLY img", "invalid capability"),
        ("--security-opt odd img", "invalid --security-opt"),
        ("--device x img", "bad format for device"),
        ("-e =x img", "invalid environment variable: =x"),
        ("--env-file /does/not/exist img", "no such file"),
        ("--expose x img", "invalid range format"),
        ("-p x img", "Invalid port format."),
        ("-p 80/icmp img", "unknown protocol icmp"),
        ("--log-opt a=b img", "unknown log opt"),
        ("--stop-timeout soon img", "invalid value 'soon' for '--stop-timeout'"),
    ] {
        bad(line, why);
    }
}
