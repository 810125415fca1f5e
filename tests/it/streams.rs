//! Bytes in, bytes out: nothing lost, nothing doubled, the two outputs apart, memory bounded.

use crate::support::{Host, contains, seconds};
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

#[test]
fn every_byte_value_passes() {
    let host = Host::new();
    let all: Vec<u8> = (0..=255).collect();
    let hex: String = all.iter().map(|b| format!("{b:02x}")).collect();
    let output = host.tiny("", ["hex", &hex]).ok();
    assert_eq!(output.stdout, all);
    let output = host.tiny("", ["hex2", &hex]).ok();
    assert_eq!((output.stdout, output.stderr), (vec![], all.clone()));
    let output = host.barge("run --rm -i tiny /tiny cat").stdin(&all).run().ok();
    assert_eq!(output.stdout, all);
    host.run(["run", "--name", "kept", "tiny", "/tiny", "hex", &hex]).ok();
    assert_eq!(host.run("logs kept").ok().stdout, all);
}

#[test]
fn arguments_and_environment_are_bytes() {
    let host = Host::new();
    let odd = OsString::from_vec(b"a\xff\xfe b\n".to_vec());
    let mut line: Vec<OsString> = ["run", "--rm", "-e"].map(Into::into).to_vec();
    let mut assignment = OsString::from("ODD=");
    assignment.push(&odd);
    line.push(assignment);
    line.extend(["tiny", "/tiny", "env", "hex"].map(Into::into));
    assert!(host.text(line).contains("4f44443d61fffe20620a"));
    let mut line: Vec<OsString> = ["run", "--rm", "tiny", "/tiny", "args"].map(Into::into).to_vec();
    line.push(odd);
    line.push("".into());
    assert_eq!(host.run(line).ok().stdout, b"61fffe20620a\n\n");
}

#[test]
fn outputs_stay_apart() {
    let host = Host::new();
    let output = host.run("run --name two tiny /tiny both out err").ok();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let logs = host.run("logs two").ok();
    assert_eq!(
        (logs.stdout.as_slice(), logs.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let only = host.run("run --rm -a stderr tiny /tiny both out err").ok();
    assert_eq!(
        (only.stdout.as_slice(), only.stderr.as_slice()),
        (&b""[..], &b"err\n"[..])
    );
}

#[test]
fn end_of_input_ends_the_program() {
    let host = Host::new();
    let output = host.barge("run --rm -i tiny /tiny cat").stdin(b"x\n").run().ok();
    assert_eq!(output.stdout, b"x\n");
    // Without -i the program's input is empty, and the client's is left alone.
    let output = host.barge("run --rm tiny /tiny cat").stdin(b"x\n").run().ok();
    assert_eq!(output.stdout, b"");
}

#[test]
fn input_comes_through_while_it_is_written() {
    let host = Host::new();
    let mut cat = host.barge("run --rm -i tiny /tiny cat").spawn();
    for word in ["one", "two", "three"] {
        cat.send(format!("{word}\n").as_bytes());
        cat.wait_for(word);
    }
    cat.close_stdin();
    assert_eq!(cat.wait().ok().stdout, b"one\ntwo\nthree\n");
}

#[test]
fn attached_stdin_alone_prints_the_id_and_returns() {
    let host = Host::new();
    let output = host
        .barge("run -i -a stdin --name fed tiny /tiny cat")
        .stdin(b"seen\n")
        .run()
        .ok();
    assert_eq!(output.text().len(), 64);
    assert_eq!(host.text("wait fed"), "0");
    assert_eq!(host.text("logs fed"), "seen");
}

#[test]
fn a_megabyte_each_way_is_exact() {
    let host = Host::new();
    let data: Vec<u8> = (0..1_000_003_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let output = host.barge("run --rm -i tiny /tiny cat").stdin(&data).run().ok();
    assert!(
        output.stdout == data,
        "{} of {} bytes came back",
        output.stdout.len(),
        data.len()
    );
}

#[test]
fn nothing_is_missed_from_the_first_byte() {
    let host = Host::new();
    for _ in 0..20 {
        assert_eq!(host.tiny("", "print first").ok().stdout, b"first\n");
    }
}

#[test]
fn a_burst_of_a_gigabyte_is_whole_and_never_in_memory() {
    let host = Host::new();
    const SIZE: u64 = 1_000_000_000;
    let line = format!("run --name burst --log-driver none tiny /tiny burst {SIZE}");
    let mut command = host.barge(line.as_str()).command();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut total, mut buffer, mut monitor_peak) = (0_u64, vec![0; 1 << 20], 0);
    let mut monitor = None;
    loop {
        let n = stdout.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        for (i, byte) in buffer[..n].iter().enumerate().step_by(4099) {
            assert_eq!(u64::from(*byte), (total + i as u64) % 251, "at {}", total + i as u64);
        }
        total += n as u64;
        if monitor.is_none() {
            monitor = Some(host.monitor_pid("burst"));
        }
        if total % (64 << 20) < n as u64 {
            monitor_peak = monitor_peak.max(own_kib(monitor.unwrap()));
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(total, SIZE);
    assert!(monitor_peak < 8 << 10, "the monitor had {monitor_peak} KiB");
}

/// Its own memory; how much of the program's file is mapped is another matter.
fn own_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

#[test]
fn a_reader_that_stops_does_not_stop_the_others() {
    let host = Host::new();
    host.detached("writer", "", "ticks 5");
    let stuck = host.barge("attach writer").command();
    let mut stuck = { stuck }.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let reading = host.barge("attach --no-stdin writer").spawn();
    reading.wait_for("tick");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    let before = reading.stdout.bytes().len();
    crate::support::wait_until("more ticks", || reading.stdout.bytes().len() > before);
}

#[test]
fn a_reader_that_goes_away_ends_the_client_quietly() {
    let host = Host::new();
    let line = host.barge("run --rm tiny /tiny lines 100000");
    let output = line.wrapped(["sh", "-c", r#""$@" | head -n 1"#, "sh"]).run();
    assert_eq!(output.text(), "1 line");
    assert!(!contains(&output.stderr, b"panic"), "{}", output.err());
}

#[test]
fn the_caller_keeps_nothing_open() {
    // $(barge run -d …) in a shell returns: the monitor holds neither pipe of its caller.
    let host = Host::new();
    let output = host
        .barge("run -d --name quiet tiny /tiny block")
        .timeout(seconds(20))
        .run()
        .ok();
    assert_eq!(output.text().len(), 64);
    assert_eq!(host.status("quiet"), "running");
}
