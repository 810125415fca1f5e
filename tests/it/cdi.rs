//! Devices by name (Container Device Interface), and `--gpus`.

use crate::support::Host;
use std::fs;

const SPEC: &str = r#"
cdiVersion: "0.6.0"
kind: vendor.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/gpu0
      hostPath: /dev/zero
      permissions: rw
- name: all
  containerEdits:
    env: [ALL=yes]
containerEdits:
  env:
  - VENDOR=vendor
  mounts:
  - hostPath: DIR
    containerPath: /opt/vendor
    options: [ro]
"#;

#[test]
fn a_device_by_name() {
    let host = Host::busybox();
    let dir = host.scratch();
    let data = dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("lib"), "library").unwrap();
    let specs = dir.join("cdi");
    fs::create_dir(&specs).unwrap();
    fs::write(specs.join("vendor.yaml"), SPEC.replace("DIR", data.to_str().unwrap())).unwrap();
    let specs = specs.to_str().unwrap();
    let run = |flag: &[&str], script: &str| {
        let line = [
            &["run", "--rm", "--net", "none", "--cdi-spec-dir", specs],
            flag,
            &["busybox", "sh", "-c", script],
        ];
        host.run(line.concat())
    };
    let said = run(
        &["--device", "vendor.com/gpu=0"],
        "head -c 4 /dev/gpu0 | od -An -tx1; cat /opt/vendor/lib; echo $VENDOR; touch /opt/vendor/x",
    );
    assert_eq!(
        said.text().split_whitespace().collect::<Vec<_>>(),
        ["00", "00", "00", "00", "libraryvendor"]
    );
    assert_eq!(run(&["--gpus", "all"], "echo $ALL").ok().text().trim(), "yes");
    run(&["--gpus", "1"], "test -c /dev/gpu0").ok();
    run(&["--gpus", "device=0"], "test -c /dev/gpu0").ok();
    run(&["--gpus", "3"], "true")
        .fails(125)
        .says(&["3 GPUs were asked for, there are 1"]);
    run(&["--gpus", "device=7"], "true")
        .fails(125)
        .says(&["unresolvable CDI devices vendor.com/gpu=7"]);
    run(&["--gpus", "all,driver=nvidia"], "true")
        .fails(125)
        .says(&["could not select device driver"]);
    run(&["--device", "other.com/net=0"], "true")
        .fails(125)
        .says(&["unresolvable CDI devices other.com/net=0"]);
    let none = host.run([
        "run",
        "--rm",
        "--cdi-spec-dir",
        "/does/not/exist",
        "--gpus",
        "all",
        "busybox",
        "true",
    ]);
    none.fails(125)
        .says(&["could not select device driver with capabilities: [[gpu]]"]);
    fs::write(
        dir.join("cdi/hook.json"),
        r#"{"kind":"h/c","devices":[{"name":"x","containerEdits":{"hooks":[{"path":"/x"}]}}]}"#,
    )
    .unwrap();
    run(&["--device", "h/c=x"], "true")
        .fails(125)
        .says(&["hooks are not supported"]);
}
