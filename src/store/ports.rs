//! Which port of the host a container gets that asks for a free one: in rotation, so that one that was given back is
//! not soon another's (F165); and which ones a container had, so that it gets them again.

use super::{Durability, Store, file};
use crate::error::{Context, Result};
use crate::model::id::ContainerId;
use crate::model::port::{Protocol, PublishedPort};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

const FIRST: u16 = 49153;
const LAST: u16 = 65534;
const HAD: &str = "ports.json";

/// The rotation, while nobody else turns it.
#[derive(Debug)]
pub(crate) struct FreePorts {
    file: File,
    /// One for each protocol: what comes next.
    next: [u16; 3],
}

impl Store {
    pub(crate) fn free_ports(&self) -> Result<FreePorts> {
        let mut file = self.lock_ports()?;
        let mut text = String::new();
        // What can't be read starts from the beginning: whether a port is free its socket decides.
        let _ = file.read_to_string(&mut text);
        let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap_or(FIRST));
        let next = [(); 3].map(|()| numbers.next().filter(|n| (FIRST..=LAST).contains(n)).unwrap_or(FIRST));
        Ok(FreePorts { file, next })
    }

    /// The ports that a container had when it ran last.
    pub(crate) fn ports_before(&self, id: &ContainerId) -> Vec<PublishedPort> {
        let read = file::read_json(&self.container_dir(id).join(HAD));
        read.ok().flatten().unwrap_or_default()
    }

    /// Remembers them; that it may fail is no reason not to run.
    pub(crate) fn remember_ports(&self, id: &ContainerId, ports: &[PublishedPort]) {
        if let Ok(bytes) = file::to_json(&ports) {
            let _ = file::replace(&self.container_dir(id), HAD, &bytes, Durability::Volatile);
        }
    }
}

impl FreePorts {
    /// Each port of the range once, from where the last one was found.
    pub(crate) fn candidates(&self, protocol: Protocol) -> impl Iterator<Item = u16> + use<> {
        let start = self.next[place(protocol)];
        (start..=LAST).chain(FIRST..start)
    }

    /// The next one to be given is the one after this.
    pub(crate) fn taken(&mut self, protocol: Protocol, port: u16) -> Result<()> {
        self.next[place(protocol)] = if port >= LAST { FIRST } else { port + 1 };
        let [tcp, udp, sctp] = self.next;
        let text = format!("{tcp} {udp} {sctp}\n");
        self.file
            .write_all_at(text.as_bytes(), 0)
            .context("record the next free port")
    }
}

fn place(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn ports_go_round() {
        let store = Scratch::new();
        let mut free = store.free_ports().unwrap();
        assert_eq!(free.candidates(Protocol::Tcp).next(), Some(FIRST));
        free.taken(Protocol::Tcp, LAST - 1).unwrap();
        drop(free);
        let mut free = store.free_ports().unwrap();
        let all: Vec<u16> = free.candidates(Protocol::Tcp).collect();
        assert_eq!(
            (all[0], all[1], all.len()),
            (LAST, FIRST, usize::from(LAST - FIRST) + 1)
        );
        assert_eq!(free.candidates(Protocol::Udp).next(), Some(FIRST));
        free.taken(Protocol::Tcp, LAST).unwrap();
        assert_eq!(free.candidates(Protocol::Tcp).next(), Some(FIRST));
    }

    #[test]
    fn nonsense_in_the_file_starts_over() {
        let store = Scratch::new();
        std::fs::write(store.run_root().join("ports"), "x 1 70000 4").unwrap();
        let free = store.free_ports().unwrap();
        assert_eq!(free.next, [FIRST; 3]);
    }
}
