//! With the real kernel, as root; without either there is nothing to test.

use super::*;
use crate::model::id::ContainerId;
use crate::model::resources::{Access, DeviceKind, DeviceRule, Resources};
use crate::runtime::cgroup::host::Version;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The groups of one test, gone at its end whatever happens.
struct Fixture {
    host: Host,
    base: String,
    id: ContainerId,
    paths: Vec<PathBuf>,
}

impl Fixture {
    /// `None` where control groups can't be written.
    fn new() -> Option<Fixture> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 32];
        random[..4].copy_from_slice(&std::process::id().to_le_bytes());
        random[4..8].copy_from_slice(&number.to_le_bytes());
        let instance = format!("{:06x}", (std::process::id() * 251 + number) & 0xff_ffff);
        let host = Host::probe().unwrap();
        if !nix::unistd::geteuid().is_root() || host.hierarchies.is_empty() {
            return None;
        }
        let (base, id) = (base(Some(&instance)), ContainerId::from_random(&random));
        let paths = host.paths(&base, &id);
        Some(Fixture { host, base, id, paths })
    }

    fn create(&self, resources: &Resources, devices: Option<&[DeviceRule]>) -> (Cgroup, Vec<String>) {
        Cgroup::create(&self.host, &self.base, &self.id, resources, devices).unwrap()
    }

    /// A shell that enters the groups as an init would, and then runs `script`.
    fn enter(&self, script: &str) -> Child {
        let enter = r#"for g in $GROUPS_; do
            if [ -e "$g/tasks" ]; then echo 0 >"$g/tasks"; else echo 0 >"$g/cgroup.procs"; fi || exit 99; done; "#;
        let groups: Vec<&str> = self.paths.iter().map(|p| p.to_str().unwrap()).collect();
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("{enter}{script}"))
            .env("GROUPS_", groups.join(" "));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn run(&self, script: &str) -> (ExitStatus, String) {
        let out = self.enter(script).wait_with_output().unwrap();
        (out.status, String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Starts `script`, which says a line when it is where the test wants it.
    fn start(&self, script: &str) -> Child {
        use std::io::{BufRead, BufReader};
        let mut child = self.enter(script);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        child
    }

    fn version_of(&self, controller: host::Controller) -> Option<Version> {
        self.host
            .hierarchies
            .iter()
            .find(|h| h.controllers.contains(controller))
            .map(|h| h.version)
    }

    fn assert_gone(&self) {
        for path in &self.paths {
            assert!(!path.exists(), "{}", path.display());
        }
        assert!(
            self.paths
                .iter()
                .filter_map(|p| host::parent_of_ours(p))
                .all(|base| !base.exists())
        );
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = kill_and_remove(&self.paths);
    }
}

fn none() -> Resources {
    Resources::default()
}

#[test]
fn a_process_gets_into_every_hierarchy_and_nothing_stays() {
    let Some(f) = Fixture::new() else { return };
    let (cgroup, warnings) = f.create(&none(), None);
    assert_eq!(warnings, Vec::<String>::new());
    let entry = cgroup.entry().unwrap();
    assert_eq!(entry.v1_tasks.len() + usize::from(entry.v2.is_some()), f.paths.len());
    let (status, out) = f.run("cat /proc/self/cgroup");
    assert!(status.success());
    let inside = out.lines().filter(|l| l.contains(f.id.as_str())).count();
    assert_eq!(inside, f.paths.len(), "{out}");
    kill_and_remove(&f.paths).unwrap();
    f.assert_gone();
    kill_and_remove(&f.paths).unwrap();
}

#[test]
fn limits_are_in_the_files() {
    let Some(f) = Fixture::new() else { return };
    let r = Resources {
        memory: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        pids: Some(33),
        cpuset_cpus: Some("0".into()),
        ..none()
    };
    check(&r).unwrap();
    let (_, _) = f.create(&r, None);
    let read = |name: &str| f.paths.iter().find_map(|p| fs::read_to_string(p.join(name)).ok());
    use host::Controller::{Cpu, Cpuset, Memory, Pids};
    for (controller, v1, v2) in [
        (
            Memory,
            ("memory.limit_in_bytes", "67108864"),
            ("memory.max", "67108864"),
        ),
        (Cpu, ("cpu.shares", "512"), ("cpu.weight", "20")),
        (Cpu, ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
        (Pids, ("pids.max", "33"), ("pids.max", "33")),
        (Cpuset, ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    ] {
        let (file, value) = match f.version_of(controller) {
            Some(Version::V1) => v1,
            Some(Version::V2) => v2,
            None => continue,
        };
        assert_eq!(read(file).unwrap_or_default().trim(), value, "{file}");
    }
}

#[test]
fn the_oom_killer_is_noticed() {
    let Some(f) = Fixture::new() else { return };
    if f.version_of(host::Controller::Memory).is_none() {
        return;
    }
    f.create(
        &Resources {
            memory: Some(16 << 20),
            memory_swap: Some(16 << 20),
            ..none()
        },
        None,
    );
    assert!(!oom_killed(&f.paths));
    f.run("head -c 100000000 /dev/zero | tail");
    assert!(oom_killed(&f.paths));
}

#[test]
fn processes_are_counted() {
    let Some(f) = Fixture::new() else { return };
    if f.version_of(host::Controller::Pids).is_none() {
        return;
    }
    f.create(
        &Resources {
            pids: Some(5),
            ..none()
        },
        None,
    );
    let (status, _) = f.run("for i in 1 2 3 4 5 6 7 8; do sleep 100 >/dev/null & done; echo survived");
    assert!(!status.success());
}

#[test]
fn devices_are_filtered() {
    let Some(f) = Fixture::new() else { return };
    let (cgroup, _) = f.create(&none(), Some(&DEFAULT_DEVICES));
    if cgroup.device_filter == DeviceFilter::Unavailable {
        return;
    }
    assert_device_filter_works(&f);
}

#[test]
fn devices_are_filtered_by_a_program() {
    let Some(f) = Fixture::new() else { return };
    let Some(at) = f.host.hierarchies.iter().position(|h| h.version == Version::V2) else {
        return;
    };
    f.create(&none(), None);
    // The second filter must not let through what the first refuses: both stay attached.
    for rules in [
        &DEFAULT_DEVICES[..],
        &[DeviceRule {
            access: Access::ALL,
            ..everything()
        }],
    ] {
        match create::filter_v2(&f.paths[at], rules) {
            Err(e) if e.to_string().contains("not permitted") => return,
            result => result.unwrap(),
        }
    }
    assert_device_filter_works(&f);
}

fn everything() -> DeviceRule {
    DeviceRule {
        kind: DeviceKind::All,
        major: None,
        minor: None,
        access: Access::ALL,
    }
}

fn assert_device_filter_works(f: &Fixture) {
    let (status, out) = f.run(
        "d=$(mktemp -d); cd $d; echo x >/dev/null && head -c1 /dev/zero >/dev/null && echo allowed; \
         mknod m c 1 1 && echo made; head -c1 m 2>/dev/null || echo refused; rm -r $d",
    );
    assert!(status.success());
    assert_eq!(out, "allowed\nmade\nrefused\n");
}

#[test]
fn a_frozen_container_can_be_killed() {
    let Some(f) = Fixture::new() else { return };
    f.create(&none(), None);
    let mut child = f.start("sleep 1000 & echo ready; exec sleep 1000");
    assert_eq!(pids(&f.paths).len(), 2);
    freeze::freeze_until(&f.paths, std::time::Instant::now() + std::time::Duration::from_secs(10)).unwrap();
    kill_and_remove(&f.paths).unwrap();
    f.assert_gone();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn v1_alone_kills_what_forks_and_what_hides_in_groups_of_its_own() {
    let Some(f) = Fixture::new() else { return };
    f.create(
        &Resources {
            pids: Some(200),
            ..none()
        },
        None,
    );
    let v1: Vec<PathBuf> = f.paths.iter().filter(|p| p.join("tasks").exists()).cloned().collect();
    let mut child = f.start(
        "for g in $GROUPS_; do d=$g; [ -e $g/tasks ] || continue; case $g in */cpuset/*) continue;; esac
         for i in 1 2 3 4 5; do d=$d/sub; mkdir $d; done; sh -c \"echo 0 >$d/tasks; exec sleep 1000\" & done
         f() { while :; do (sleep 0.01; f) & sleep 0.01; done; }; f & echo ready; wait",
    );
    kill_and_remove(&v1).unwrap();
    assert!(v1.iter().all(|p| !p.exists()));
    kill_and_remove(&f.paths).unwrap();
    f.assert_gone();
    child.wait().unwrap();
}

#[test]
fn leftovers_give_way_to_a_new_start() {
    let Some(f) = Fixture::new() else { return };
    f.create(&none(), None);
    let mut left = f.start("echo ready; exec sleep 1000");
    f.create(
        &Resources {
            pids: Some(7),
            ..none()
        },
        None,
    );
    assert!(!left.wait().unwrap().success());
    assert_eq!(pids(&f.paths), [0; 0]);
}

#[test]
fn exec_finds_the_way_in() {
    let Some(f) = Fixture::new() else { return };
    f.create(&none(), None);
    let mut child = f.start("echo ready; exec sleep 1000");
    let entry = open_existing(&f.paths, child.id().cast_signed()).unwrap();
    assert_eq!(entry.v1_tasks.len() + usize::from(entry.v2.is_some()), f.paths.len());
    kill_and_remove(&f.paths).unwrap();
    child.wait().unwrap();
    assert!(open_existing(&f.paths, 1).is_err());
}

#[test]
fn exec_follows_an_init_that_made_groups_of_its_own() {
    let Some(f) = Fixture::new() else { return };
    if f.version_of(host::Controller::Pids) != Some(Version::V2) {
        return;
    }
    f.create(&none(), None);
    let mut child = f.start(
        "mkdir $GROUPS_/a.scope; echo 0 >$GROUPS_/a.scope/cgroup.procs; echo +pids >$GROUPS_/cgroup.subtree_control; \
         echo ready; exec sleep 1000",
    );
    let entry = open_existing(&f.paths, child.id().cast_signed()).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(entry.v2.as_ref().unwrap());
    let opened = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert_eq!(opened, f.paths[0].join("a.scope"));
    kill_and_remove(&f.paths).unwrap();
    f.assert_gone();
    child.wait().unwrap();
}

#[test]
fn starts_and_removals_at_the_same_time() {
    let Some(f) = Fixture::new() else { return };
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let f = &f;
            scope.spawn(move || {
                for round in 0..25 {
                    let id = ContainerId::from_random(&[thread * 25 + round; 32]);
                    let (cgroup, warnings) = Cgroup::create(&f.host, &f.base, &id, &none(), None).unwrap();
                    assert_eq!(warnings, Vec::<String>::new());
                    cgroup.entry().unwrap();
                    kill_and_remove(&f.host.paths(&f.base, &id)).unwrap();
                }
            });
        }
    });
    f.assert_gone();
}

#[test]
fn a_damaged_record_kills_nothing() {
    for path in [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/memory/process_api",
        "/",
        "",
    ] {
        assert!(kill_and_remove(&[path.into()]).is_err(), "{path}");
    }
}
