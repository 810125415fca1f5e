//! Whole starts as text.

use super::*;
use crate::model::container::{ImageUse, LogConfig, Process, RestartPolicy, Streams};
use crate::model::digest::Digest;
use crate::model::id::{ContainerId, ImageId};
use crate::model::security::Security;

fn config() -> ContainerConfig {
    ContainerConfig {
        build: None,
        id: ContainerId::from_random(&[1; 32]),
        name: "web".to_owned(),
        created: jiff::Timestamp::UNIX_EPOCH,
        image: ImageUse {
            id: ImageId(Digest::of(b"")),
            reference: "img".to_owned(),
            layers: Vec::new(),
            committed: 0,
        },
        process: Process {
            groups: Vec::new(),
            umask: None,
            oom_score_adj: None,
            entrypoint: Vec::new(),
            cmd: vec!["sh".into(), "-c".into(), "true".into()],
            env: vec!["PATH=/bin".into()],
            workdir: "/".into(),
            user: String::new(),
            tty: false,
            open_stdin: false,
            stdin_once: false,
            attach: Streams::default(),
        },
        hostname: "web".to_owned(),
        domainname: String::new(),
        labels: Default::default(),
        network: NetworkMode::None,
        names: crate::model::name::NameOptions::default(),
        resources: Default::default(),
        ulimits: Vec::new(),
        devices: Vec::new(),
        device_rules: Vec::new(),
        security: Security::default(),
        mounts: Vec::new(),
        shm_size: 1 << 20,
        log: LogConfig::default(),
        restart: RestartPolicy::No,
        stop_signal: 15,
        stop_timeout: 10,
        auto_remove: false,
        init: false,
        init_path: None,
        accounts: Default::default(),
        expose: Default::default(),
        publish: Vec::new(),
        publish_all: false,
        cidfile: None,
        systemd: false,
        root: Default::default(),
        quota: None,
        volumes_from: Vec::new(),
        service: Default::default(),
        command_line: Vec::new(),
        health: None,
        requires: Vec::new(),
        secrets: Vec::new(),
        cdi: Default::default(),
        namespaces: Default::default(),
        sysctls: Default::default(),
        annotations: Default::default(),
        pidfile: None,
        timeout: None,
        timezone: None,
    }
}

fn facts() -> Facts {
    Facts {
        run_dir: "/run/barge/x".into(),
        identity: Identity {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            home: "/root".into(),
        },
        capabilities: Capabilities::named("chown").unwrap(),
        trees: Vec::new(),
        shared_shm: false,
        sources: Vec::new(),
        devices: Vec::new(),
        cgroup_mounts: vec![CgroupMount {
            kind: "cgroup2",
            options: Vec::new(),
            target: "/sys/fs/cgroup".into(),
        }],
        seccomp: true,
        open_files: 1024,
        env: Vec::new(),
        passed: 0,
        notifies: false,
    }
}

fn text(config: &ContainerConfig, facts: &Facts) -> String {
    let lines: Vec<_> = plan(config, facts)
        .unwrap()
        .steps
        .iter()
        .map(ToString::to_string)
        .collect();
    lines.join("\n")
}

#[test]
fn an_ordinary_start() {
    let masks: String = rootfs::MASKED.iter().map(|p| format!("mask {p}\n")).collect();
    let expected = format!(
        "die with the monitor\nenter cgroups\nbring lo up\nnew cgroup namespace\nnew session keyring\n\
         make mounts private\nattach root on /run/barge/x\nmount proc on /proc\nset net.ipv4.ip_unprivileged_port_start to 0\n\
         set net.ipv4.ping_group_range to 0 2147483647\nattach 0 on /dev (no links)\n\
         attach 1 on /dev/pts (no links)\nattach 2 on /dev/shm (no links)\nmount mqueue on /dev/mqueue\n\
         mount sysfs on /sys read-only\nmount cgroup2 on /sys/fs/cgroup read-only\nattach 3 on /etc/resolv.conf\n\
         attach 4 on /etc/hostname\nattach 5 on /etc/hosts\nmake directory /\nmake /proc/bus read-only\nmake /proc/fs read-only\n\
         make /proc/irq read-only\nmake /proc/sys read-only\nmake /proc/sysrq-trigger read-only\n{masks}\
         pivot root\nset host name web\nlimit nofile to 1024:1024\numask 0022\nnew session\nset standard streams\nclose the host's files\n\
         change to directory /\nbound capabilities to CAP_CHOWN\nbecome 0:0\nclose the rest\ndie with the monitor\n\
         assume capabilities CAP_CHOWN CAP_SYS_ADMIN\nload seccomp filter\nexec sh -c true"
    );
    assert_eq!(text(&config(), &facts()), expected);
}

#[test]
fn a_privileged_start_masks_nothing_and_has_a_writable_sys() {
    let mut config = config();
    config.security.privileged = true;
    let text = text(
        &config,
        &Facts {
            seccomp: false,
            ..facts()
        },
    );
    assert!(
        !text.contains("\nmask ") && !text.contains("read-only") && !text.contains("seccomp"),
        "{text}"
    );
}

#[test]
fn without_new_privileges_the_filter_needs_no_capability() {
    let mut config = config();
    config.security.no_new_privileges = true;
    let text = text(&config, &facts());
    assert!(
        text.ends_with("no new privileges\nassume capabilities CAP_CHOWN\nload seccomp filter\nexec sh -c true"),
        "{text}"
    );
}

#[test]
fn another_user_keeps_nothing_and_its_home_is_set() {
    let identity = Identity {
        uid: 7,
        gid: 8,
        groups: vec![9],
        home: "/home/x".into(),
    };
    let facts = Facts {
        identity,
        seccomp: false,
        ..facts()
    };
    let plan = plan(&config(), &facts).unwrap();
    let text: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
    assert!(text.contains(&"become 7:8 with groups [9]".to_owned()), "{text:?}");
    let Some(Step::Exec { env, .. }) = plan.steps.last() else {
        panic!("{text:?}")
    };
    assert_eq!(env.last(), Some(&"HOME=/home/x".into()));
}

#[test]
fn networks() {
    let mut config = config();
    let flags = |config: &ContainerConfig| plan(config, &facts()).unwrap().namespaces & libc::CLONE_NEWNET != 0;
    assert!(flags(&config));
    config.network = NetworkMode::Host;
    assert!(!flags(&config));
    assert!(!text(&config, &facts()).contains("bring lo up"));
    config.network = NetworkMode::Ns("/run/netns/x".into());
    assert!(!flags(&config));
    assert!(text(&config, &facts()).contains("join namespace 0"));
}

#[test]
fn nothing_is_mounted_inside_proc() {
    let mut config = config();
    let source = Source::Tmpfs {
        size: None,
        mode: None,
        options: Vec::new(),
    };
    let target = "/proc/sys/kernel".into();
    config.mounts.push(Mount {
        source,
        target,
        read_only: false,
        propagation: Propagation::Rprivate,
        idmap: false,
        chown: false,
    });
    let error = plan(
        &config,
        &Facts {
            sources: vec![None],
            ..facts()
        },
    )
    .unwrap_err();
    assert!(error.to_string().contains("inside /proc"), "{error}");
}

#[test]
fn tmpfs_options() {
    let options = |extra: &[&str]| {
        let extra: Vec<_> = extra.iter().map(|s| (*s).to_owned()).collect();
        tmpfs(Some(4096), Some(0o700), &extra)
    };
    let What::Tmpfs { options: given, flags } = options(&["exec", "uid=5", "rw"]).unwrap() else {
        panic!()
    };
    assert_eq!(given, ["mode=700", "size=4096", "uid=5"]);
    assert_eq!(
        flags,
        TmpfsFlags {
            noexec: false,
            nosuid: true,
            nodev: true
        }
    );
    assert!(options(&["frob"]).is_err());
    assert!(options(&["source=/x"]).is_err());
}
