//! `-t`: the pseudo terminal, its size, resizing, raw mode, detaching.

use crate::support::{Host, wait_until};

#[test]
fn the_program_has_a_terminal_of_the_right_size_from_the_start() {
    let host = Host::new();
    for (columns, rows) in [(80, 24), (133, 51), (7, 3)] {
        let terminal = host.barge("run --rm -it tiny /tiny tty").terminal(columns, rows);
        let (code, text) = terminal.wait();
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(&format!("111 {columns}x{rows}\r\n")), "{text:?}");
        assert!(text.contains("/dev/"), "{text:?}");
    }
}

#[test]
fn without_t_there_is_none() {
    let host = Host::new();
    let text = host.tiny("", "tty").ok().text();
    assert!(text.starts_with("000"), "{text:?}");
}

#[test]
fn t_without_a_terminal_on_the_client() {
    // A pty inside, plain pipes outside: scripts do this.
    let host = Host::new();
    let output = host.tiny("-t", "both out err").ok();
    assert_eq!(output.stdout, b"out\r\nerr\r\n");
    assert_eq!(output.stderr, b"");
    assert!(host.tiny("-t", "env").ok().text().contains("TERM=xterm"));
    host.barge("run --rm -i -t tiny /true")
        .stdin(b"")
        .run()
        .says(&["TTY"])
        .fails(125);
}

#[test]
fn the_controlling_terminal_is_that_terminal() {
    let host = Host::new();
    let (code, text) = host.barge("run --rm -it tiny /tiny inherited").terminal(80, 24).wait();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("tty yes") && text.contains("sid 1"), "{text}");
}

#[test]
fn resizing_reaches_the_program() {
    let host = Host::new();
    let mut terminal = host.barge("run --rm -it tiny /tiny winch").terminal(80, 24);
    terminal.wait_for("80x24");
    terminal.resize(100, 30);
    terminal.wait_for("100x30");
    terminal.resize(20, 5);
    terminal.wait_for("20x5");
    terminal.send(b"\r");
    assert_eq!(terminal.wait().0, 0);
}

#[test]
fn keys_pass_as_they_are() {
    let host = Host::new();
    let mut terminal = host.barge("run --rm -it tiny /tiny keys").terminal(80, 24);
    terminal.wait_for("ready");
    // ctrl-c, ctrl-z, ctrl-\, escape: the container's, not the client's.
    for (key, shown) in [
        (3_u8, "03"),
        (0x1a, "1a"),
        (0x1c, "1c"),
        (0x1b, "1b"),
        (b'a', "61"),
        (0xff, "ff"),
    ] {
        terminal.send(&[key]);
        terminal.wait_for(&format!("{shown}\r\n"));
    }
    terminal.send(b"Z");
    assert_eq!(terminal.wait().0, 0);
}

#[test]
fn ctrl_p_ctrl_q_detaches_and_gives_the_swallowed_byte_back() {
    let host = Host::new();
    let mut terminal = host.barge("run --name kept -it tiny /tiny keys").terminal(80, 24);
    terminal.wait_for("ready");
    // ctrl-p and another key: both arrive.
    terminal.send(&[0x10]);
    terminal.send(b"x");
    terminal.wait_for("10\r\n78\r\n");
    terminal.send(&[0x10, 0x10]);
    terminal.send(b"y");
    terminal.wait_for("10\r\n10\r\n79\r\n");
    terminal.send(&[0x10, 0x11]);
    let (code, _) = terminal.wait();
    assert_eq!(code, 0);
    assert_eq!(host.status("kept"), "running");
    let mut again = host.barge("attach kept").terminal(80, 24);
    again.send(b"Z");
    assert_eq!(again.wait().0, 0);
    assert_eq!(host.text("wait kept"), "0");
}

#[test]
fn other_detach_keys() {
    let host = Host::new();
    let mut terminal = host
        .barge("run --name kept --detach-keys ctrl-a,d -it tiny /tiny keys")
        .terminal(80, 24);
    terminal.wait_for("ready");
    terminal.send(&[0x10, 0x11]);
    terminal.wait_for("10\r\n11\r\n");
    terminal.send(&[1]);
    terminal.send(b"d");
    assert_eq!(terminal.wait().0, 0);
    assert_eq!(host.status("kept"), "running");
    host.run("run --rm --detach-keys nonsense -it tiny /true").fails(125);
}

#[test]
fn the_clients_terminal_is_as_before() {
    let host = Host::new();
    let mut terminal = host.barge("run --rm -it tiny /tiny keys").terminal(80, 24);
    terminal.wait_for("ready");
    assert!(!terminal.cooked());
    terminal.send(b"Z");
    let restored = std::thread::scope(|_| {
        wait_until("the terminal to be restored", || terminal.cooked());
        terminal.wait().0
    });
    assert_eq!(restored, 0);
}

#[test]
fn hanging_up_leaves_the_container() {
    let host = Host::new();
    let terminal = host.barge("run --name survivor -it tiny /tiny keys").terminal(80, 24);
    terminal.wait_for("ready");
    terminal.hang_up();
    assert_eq!(host.status("survivor"), "running");
}

#[test]
fn exec_has_a_terminal_too() {
    let host = Host::new();
    host.detached("up", "", "block");
    let (code, text) = host.barge("exec -it up /tiny tty").terminal(90, 33).wait();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("111 90x33"), "{text:?}");
}
