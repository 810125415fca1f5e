//! The merge of flags and image, case by case.

use super::*;
use crate::model::container::DEFAULT_PATH;
use crate::model::digest::Digest;
use crate::model::id::{ContainerId, ImageId};
use crate::model::image::{Empty, ImageConfig, RunDefaults};
use crate::model::mount::Source;

fn image(config: RunDefaults) -> ImageRecord {
    ImageRecord {
        id: ImageId(Digest::of(b"image")),
        config: ImageConfig {
            os: "linux".into(),
            architecture: "amd64".into(),
            config,
            ..ImageConfig::default()
        },
        parent: None,
        layers: Vec::new(),
        size: 0,
        stored: Timestamp::UNIX_EPOCH,
        manifests: Vec::new(),
        v1: Vec::new(),
        annotations: Default::default(),
    }
}

fn words_of(list: &[&str]) -> Vec<ByteString> {
    list.iter().map(|w| (*w).into()).collect()
}

fn sh() -> RunDefaults {
    RunDefaults {
        cmd: words_of(&["sh"]),
        ..RunDefaults::default()
    }
}

fn merged_with(args: &RunArgs, config: RunDefaults, change: impl FnOnce(&mut Facts<'_>)) -> Result<ContainerConfig> {
    let mut facts = Facts {
        id: ContainerId::from_random(&[0xab; 32]),
        name: "web".into(),
        now: Timestamp::UNIX_EPOCH,
        network: NetworkMode::None,
        namespaces: Default::default(),
        links: Vec::new(),
        requires: Vec::new(),
        secrets: Vec::new(),
        cdi: Default::default(),
        images: Vec::new(),
        shared_hostname: None,
        volumes_from: Vec::new(),
        unit: None,
        new_volume_name: &|| "fresh".into(),
    };
    change(&mut facts);
    merge(args, &image(config), facts)
}

fn merged(args: &RunArgs, config: RunDefaults) -> Result<ContainerConfig> {
    merged_with(args, config, |_| {})
}

fn volume(name: &str, target: &str) -> Mount {
    let source = Source::Volume {
        name: name.into(),
        anonymous: name.is_empty(),
        copy_up: true,
        subpath: None,
    };
    Mount::new(source, target.into())
}

/// `target=volume name` of each mount, `:ro` where it is read-only.
fn drawn(config: &ContainerConfig) -> Vec<String> {
    let name = |m: &Mount| match &m.source {
        Source::Volume { name, .. } => name.clone(),
        Source::Bind { path, .. } => path.display().to_string(),
        Source::Tmpfs { .. } => "tmpfs".into(),
        Source::Image { image, .. } => image.reference.clone(),
    };
    let draw = |m: &Mount| {
        format!(
            "{}={}{}",
            m.target.display(),
            name(m),
            if m.read_only { ":ro" } else { "" }
        )
    };
    config.mounts.iter().map(draw).collect()
}

#[test]
fn entrypoint_and_command() {
    type Words<'a> = &'a [&'a str];
    let cases: [(Option<&str>, Words<'_>, Words<'_>, Words<'_>, &str); 8] = [
        (None, &[], &[], &["sh"], "sh"),
        (None, &["ls", "-l"], &[], &["sh"], "ls -l"),
        (None, &[], &["ep", "a"], &["b"], "ep a b"),
        (None, &["x"], &["ep", "a"], &["b"], "ep a x"),
        (None, &[], &["ep"], &[], "ep"),
        (Some("other word"), &[], &["ep"], &["b"], "other word"),
        (Some("other"), &["x"], &["ep"], &["b"], "other x"),
        (Some(""), &["x"], &["ep"], &["b"], "x"),
    ];
    for (given, command, entrypoint, cmd, want) in cases {
        let args = RunArgs {
            entrypoint: given.map(Into::into),
            command: words_of(command),
            ..RunArgs::default()
        };
        let config = RunDefaults {
            entrypoint: words_of(entrypoint),
            cmd: words_of(cmd),
            ..RunDefaults::default()
        };
        let process = merged(&args, config).unwrap().process;
        let argv: Vec<_> = process.argv().map(ByteString::to_string_lossy).collect();
        assert_eq!(argv.join(" "), want);
    }
}

#[test]
fn no_command_at_all() {
    let cleared = RunArgs {
        entrypoint: Some("".into()),
        ..RunArgs::default()
    };
    for (args, config) in [(RunArgs::default(), RunDefaults::default()), (cleared, sh())] {
        assert_eq!(merged(&args, config).unwrap_err().to_string(), "No command specified");
    }
}

#[test]
fn environment_in_order_and_by_name() {
    let args = RunArgs {
        env: words_of(&["B=user", "NEW=1", "PATH=/mine", "GONE", "NEVER", "NEW=2", "EMPTY="]),
        tty: true,
        ..RunArgs::default()
    };
    let config = RunDefaults {
        env: words_of(&["A=image", "B=image", "GONE=x"]),
        ..sh()
    };
    let env = merged(&args, config).unwrap().process.env;
    let want = [
        "PATH=/mine",
        "HOSTNAME=abababababab",
        "container=barge",
        "TERM=xterm",
        "A=image",
        "B=user",
        "NEW=2",
        "EMPTY=",
    ];
    assert_eq!(env, words_of(&want));
    assert_eq!(merged(&RunArgs::default(), sh()).unwrap().process.env, {
        let mut plain = words_of(&want[..3]);
        plain[0] = DEFAULT_PATH.into();
        plain
    });
}

#[test]
fn the_user_wins_over_the_image() {
    let config = RunDefaults {
        user: "daemon".into(),
        working_dir: "srv".into(),
        stop_signal: "SIGINT".into(),
        labels: [("a".into(), "image".into()), ("b".into(), "image".into())].into(),
        exposed_ports: [("80/tcp".into(), Empty {})].into(),
        ..sh()
    };
    let plain = merged(&RunArgs::default(), config.clone()).unwrap();
    assert_eq!(
        (plain.process.user.as_str(), &plain.process.workdir),
        ("daemon", &"/srv".into())
    );
    assert_eq!(
        (plain.stop_signal, plain.stop_timeout, plain.shm_size),
        (2, 10, 64 << 20)
    );
    let args = RunArgs {
        user: Some("0".into()),
        workdir: Some("/work".into()),
        stop_signal: Some(1),
        labels: [("b".into(), "user".into())].into(),
        expose: vec!["53/udp".into()],
        publish: crate::model::port::parse_publish("8080:80").unwrap(),
        ..RunArgs::default()
    };
    let given = merged(&args, config).unwrap();
    assert_eq!(
        (given.process.user.as_str(), &given.process.workdir),
        ("0", &"/work".into())
    );
    assert_eq!(given.stop_signal, 1);
    assert_eq!(
        given.labels,
        [("a".into(), "image".into()), ("b".into(), "user".into())].into()
    );
    assert_eq!(given.expose, ["53/udp".into(), "80/tcp".into()].into());
    assert_eq!(given.publish.len(), 1);
    let odd = RunDefaults {
        stop_signal: "SIGNOTHING".into(),
        ..sh()
    };
    assert_eq!(merged(&RunArgs::default(), odd).unwrap().stop_signal, signal::TERM);
}

#[test]
fn hostnames() {
    let named = RunArgs {
        hostname: Some("db".into()),
        domainname: Some("lan".into()),
        ..RunArgs::default()
    };
    let config = merged(&named, sh()).unwrap();
    assert_eq!((config.hostname.as_str(), config.domainname.as_str()), ("db", "lan"));
    let shared = |args: &RunArgs| {
        merged_with(args, sh(), |f| {
            f.network = NetworkMode::Container(ContainerId::from_random(&[1; 32]));
            f.shared_hostname = Some("other".into());
        })
    };
    assert_eq!(shared(&RunArgs::default()).unwrap().hostname, "other");
    assert!(
        shared(&named)
            .unwrap_err()
            .to_string()
            .contains("hostname and the network mode")
    );
}

#[test]
fn mounts_are_united_by_target() {
    let config = RunDefaults {
        volumes: [("/data/".into(), Empty {}), ("/img".into(), Empty {})].into(),
        ..sh()
    };
    let args = RunArgs {
        mounts: vec![volume("deep", "/data/deep/er"), volume("data", "/data")],
        volumes: vec!["/anon".into(), "/anon".into()],
        ..RunArgs::default()
    };
    let made = merged(&args, config).unwrap();
    assert_eq!(
        drawn(&made),
        ["/data=data", "/anon=fresh", "/img=fresh", "/data/deep/er=deep"]
    );
    let anonymous = |m: &Mount| matches!(&m.source, Source::Volume { anonymous: true, .. });
    assert_eq!(made.mounts.iter().filter(|m| anonymous(m)).count(), 2);
}

#[test]
fn explicit_mounts_must_not_meet() {
    let args = RunArgs {
        mounts: vec![volume("a", "/x"), volume("b", "/x")],
        ..RunArgs::default()
    };
    assert_eq!(
        merged(&args, sh()).unwrap_err().to_string(),
        "Duplicate mount point: /x"
    );
    let config = RunDefaults {
        volumes: [("/".into(), Empty {})].into(),
        ..sh()
    };
    assert_eq!(
        merged(&RunArgs::default(), config).unwrap_err().to_string(),
        "Illegal bind destination: /"
    );
}

#[test]
fn volumes_from_others() {
    let source = |name: &str, targets: &[&str], read_only| {
        let mounts = targets
            .iter()
            .map(|t| Mount {
                read_only,
                ..volume(name, t)
            })
            .collect();
        merged(
            &RunArgs {
                mounts,
                ..RunArgs::default()
            },
            sh(),
        )
        .unwrap()
    };
    let from = |read_only| VolumesFrom {
        container: "x".into(),
        read_only,
        typed: "x".into(),
    };
    let args = RunArgs {
        mounts: vec![volume("own", "/c")],
        volumes: vec!["/a".into()],
        volumes_from: vec![from(None), from(Some(true)), from(Some(false))],
        ..RunArgs::default()
    };
    let others = vec![
        source("first", &["/a", "/c"], false),
        source("second", &["/a", "/b"], false),
        source("ro", &["/d"], true),
    ];
    let config = RunDefaults {
        volumes: [("/b".into(), Empty {})].into(),
        ..sh()
    };
    let made = merged_with(&args, config, |f| f.volumes_from = others).unwrap();
    assert_eq!(drawn(&made), ["/c=own", "/a=first", "/b=second:ro", "/d=ro:ro"]);
    assert!(matches!(&made.mounts[1].source, Source::Volume { copy_up: false, .. }));
}

#[test]
fn stdin_and_swap_follow_from_other_flags() {
    let attach = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let once = merged(
        &RunArgs {
            open_stdin: true,
            attach,
            ..RunArgs::default()
        },
        sh(),
    )
    .unwrap();
    assert!(once.process.stdin_once);
    assert!(
        !merged(
            &RunArgs {
                open_stdin: true,
                ..RunArgs::default()
            },
            sh()
        )
        .unwrap()
        .process
        .stdin_once
    );
    let resources = Resources {
        memory: Some(1 << 20),
        ..Resources::default()
    };
    let limited = merged(
        &RunArgs {
            resources,
            ..RunArgs::default()
        },
        sh(),
    )
    .unwrap();
    assert_eq!(limited.resources.memory_swap, Some(2 << 20));
}

#[test]
fn platforms() {
    for (asked, good) in [
        ("linux/amd64", true),
        ("amd64", true),
        ("linux", true),
        ("linux/arm64", false),
        ("linux/amd64/v2", true),
        ("windows/amd64", false),
    ] {
        let args = RunArgs {
            platform: Some(asked.into()),
            ..RunArgs::default()
        };
        assert_eq!(merged(&args, sh()).is_ok(), good, "{asked}");
    }
}

#[test]
fn targets_are_cleaned() {
    for (text, want) in [("/a/../b//c/.", "/b/c"), ("/x/", "/x")] {
        assert_eq!(clean_target(Path::new(text)).unwrap(), Path::new(want));
    }
    assert_eq!(
        clean_target(Path::new("a")).unwrap_err().to_string(),
        "a is not an absolute path"
    );
    for root in ["/", "/.", "/a/..", "//"] {
        assert!(
            clean_target(Path::new(root))
                .unwrap_err()
                .to_string()
                .contains("Illegal bind destination"),
            "{root}"
        );
    }
}
