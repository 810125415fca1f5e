//! Which program has a port of the host: for the message of one that wants it too.

use crate::model::port::Protocol;
use std::net::SocketAddr;
use std::path::Path;

/// `nginx, pid 77`; `None` if nobody is found, or only in another network namespace.
pub(crate) fn program(protocol: Protocol, at: SocketAddr) -> Option<String> {
    // The files of both families: a socket of IPv6 may have the IPv4 port too.
    let files = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let mut inodes = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(Path::new("/proc/self/net").join(file)).unwrap_or_default();
        inodes.extend(text.lines().filter_map(|line| listening(line, at.port())));
    }
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    for pid in pids.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let has = |link: std::path::PathBuf| wanted.iter().any(|w| link.as_os_str() == w.as_str());
        if fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(has)) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some(format!("{}, pid {pid}", name.trim().escape_debug()));
        }
    }
    None
}

/// The inode of a line's socket, if it waits at this port (proc(5), net/tcp): 0A is listening, 07 an unconnected UDP
/// socket.
fn listening(line: &str, port: u16) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = words.get(1)?.rsplit_once(':')?;
    let waits = matches!(*words.get(3)?, "0A" | "07");
    let same = u16::from_str_radix(local, 16).ok()? == port;
    (waits && same).then(|| words.get(9)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels() {
        let line =
            "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0";
        assert_eq!(listening(line, 8080), Some(4711));
        assert_eq!(listening(line, 80), None);
        assert_eq!(listening("  sl  local_address rem_address   st", 80), None);
        assert_eq!(listening("", 80), None);
    }

    #[test]
    fn finds_this_program() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = program(Protocol::Tcp, socket.local_addr().unwrap()).unwrap();
        assert!(found.ends_with(&format!("pid {}", std::process::id())), "{found}");
    }
}
