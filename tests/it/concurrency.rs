//! Many clients at once.

use crate::support::{Host, seconds};
use std::sync::atomic::{AtomicU32, Ordering};

const CLIENTS: usize = 8;

#[test]
fn eight_clients_start_and_remove_two_hundred_containers() {
    let host = Host::new();
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 200 {
                        break;
                    }
                    let name = format!("c{number}");
                    host.detached(&name, "", "block 3");
                    assert_eq!(host.status(&name), "running");
                    if number.is_multiple_of(2) {
                        host.text(["rm", "-f", &name]);
                    }
                }
            });
        }
    });
    let names = host.run(["ps", "--format", "{{.Names}}"]).ok().lines();
    assert_eq!(names.len(), 100);
    let mut line = vec!["rm".to_owned(), "-f".to_owned()];
    line.extend(names);
    host.barge(line).timeout(seconds(120)).run().ok();
    assert_eq!(host.text("ps -aq"), "");
}

#[test]
fn one_name_for_many_clients_is_won_once() {
    let host = Host::new();
    for _ in 0..5 {
        let won = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let output = host.run("create --name contested tiny");
                    if output.code == 0 {
                        won.fetch_add(1, Ordering::Relaxed);
                    } else {
                        output.fails(125).says(&["contested"]);
                    }
                });
            }
        });
        assert_eq!(won.load(Ordering::Relaxed), 1);
        host.text("rm contested");
    }
}

#[test]
fn start_stop_and_rm_of_one_container_by_many() {
    let host = Host::new();
    for round in 0..3 {
        host.text("create --name x1 tiny /tiny block");
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let host = &host;
                scope.spawn(move || {
                    let command = match (client + round) % 4 {
                        0 => "start x1",
                        1 => "stop -t 5 x1",
                        2 => "restart -t 5 x1",
                        _ => "inspect x1",
                    };
                    let output = host.run(command);
                    assert!([0, 1].contains(&output.code), "{command}: {}", output.err());
                });
            }
        });
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| host.run("rm -f x1"));
            }
        });
        assert_eq!(host.text("ps -aq"), "");
    }
}

#[test]
fn imports_of_one_image_at_once() {
    let host = Host::bare();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let host = &host;
            scope.spawn(move || host.import(&format!("image{client}"), &crate::support::tiny_tar()));
        }
    });
    assert_eq!(std::fs::read_dir(host.root.join("layers")).unwrap().count(), 1);
    assert_eq!(host.text("run --rm image3 /tiny print x"), "x");
}

#[test]
fn a_named_volume_is_made_once() {
    let host = Host::new();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let host = &host;
            scope.spawn(move || host.tiny("-v shared:/data", format!("write /data/{client} x")).ok());
        }
    });
    assert_eq!(host.tiny("-v shared:/data", "ls /data").ok().lines().len(), CLIENTS);
}

#[test]
fn many_execs_in_one_container() {
    let host = Host::new();
    host.detached("x1", "", "block");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let host = &host;
            scope.spawn(move || {
                for round in 0..5 {
                    let code = i32::try_from(client * 10 + round).unwrap();
                    host.run(format!("exec x1 /tiny exit {code}")).fails(code);
                }
            });
        }
    });
}
