//! The log driver `journald`: each line as an entry of the host's journal, with docker's fields, by its native protocol
//! (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram, or, if that is too long for one, a sealed file in memory.
//!
//! A journal that does not listen holds nobody up for long: after [`PATIENCE`] what it would not take is dropped and
//! counted, and an entry says so as soon as it listens again.

use crate::error::{Context as _, Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::log::Stream;
use crate::model::tag;
use crate::model::time::Timestamp;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

const SOCKET: &str = "/run/systemd/journal/socket";
/// How long one entry may wait for room in the journal's socket.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Journal {
    socket: OwnedFd,
    /// The fields that every entry has.
    fields: Vec<u8>,
    entry: Vec<u8>,
    /// Bytes of output dropped since the journal last took one.
    dropped: u64,
    /// The last entry was dropped: the next one is not waited for.
    deaf: bool,
}

impl Journal {
    pub(crate) fn open(config: &ContainerConfig) -> Result<Journal> {
        Journal::connect(Path::new(SOCKET), fields(config)).map_err(|e| {
            let error = Error::other(format!("the log driver journald: {SOCKET}: {}", Error::from(e)));
            error.with_hint("is systemd-journald running? --log-driver json-file needs none")
        })
    }

    fn connect(path: &Path, fields: Vec<u8>) -> std::io::Result<Journal> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(path)?)?;
        Ok(Journal {
            socket,
            fields,
            entry: Vec::new(),
            dropped: 0,
            deaf: false,
        })
    }

    /// A line with its newline, or a piece of one.
    pub(crate) fn record(&mut self, stream: Stream, text: &[u8]) {
        if self.dropped > 0 {
            let note = format!("[barge: {} bytes of output are missing here]", self.dropped);
            if !self.enter(Stream::Stderr, note.as_bytes(), false) {
                self.dropped += text.len() as u64;
                return;
            }
            self.dropped = 0;
        }
        let (line, whole) = match text.split_last() {
            Some((b'\n', line)) => (line, true),
            _ => (text, false),
        };
        if !self.enter(stream, line, !whole) {
            self.dropped += text.len() as u64;
        }
    }

    /// Whether the journal took it.
    fn enter(&mut self, stream: Stream, text: &[u8], partial: bool) -> bool {
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        // syslog's: information, error.
        field(
            &mut entry,
            "PRIORITY",
            if stream == Stream::Stderr { b"3" } else { b"6" },
        );
        if partial {
            field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        field(
            &mut entry,
            "SYSLOG_TIMESTAMP",
            format!("{:.9}", Timestamp::now()).as_bytes(),
        );
        entry.extend_from_slice(&self.fields);
        field(&mut entry, "MESSAGE", text);
        let sent = self.send(&entry);
        self.deaf = !sent;
        self.entry = entry;
        sent
    }

    fn send(&self, entry: &[u8]) -> bool {
        for attempt in 0..2 {
            match rustix::net::send(&self.socket, entry, SendFlags::NOSIGNAL) {
                Ok(_) => return true,
                Err(Errno::MSGSIZE) => return self.send_file(entry).is_ok(),
                Err(Errno::AGAIN | Errno::NOBUFS) if attempt == 0 && !self.deaf => self.wait(),
                Err(Errno::INTR) => {}
                // It was started anew since.
                Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::PIPE | Errno::CONNRESET) if attempt == 0 => {
                    let again = rustix::net::SocketAddrUnix::new(SOCKET)
                        .and_then(|address| rustix::net::connect(&self.socket, &address));
                    if again.is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        false
    }

    fn wait(&self) {
        use rustix::event::{PollFd, PollFlags, Timespec};
        let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
        let _ = rustix::event::poll(&mut fds, Timespec::try_from(PATIENCE).ok().as_ref());
    }

    fn send_file(&self, entry: &[u8]) -> Result<()> {
        let file = rustix::fs::memfd_create("journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = std::fs::File::from(file);
        file.write_all(entry)?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let fds = [file.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(&self.socket, &[], &mut ancillary, SendFlags::NOSIGNAL)
            .map(drop)
            .context("send a journal entry")
    }
}

/// One field: on a line of its own, or, if the value has newlines, with its length in front.
fn field(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if memchr::memchr(b'\n', value).is_none() {
        entry.push(b'=');
    } else {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

fn fields(config: &ContainerConfig) -> Vec<u8> {
    let mut entry = Vec::new();
    let tag = tag::of(config);
    for (name, value) in [
        ("CONTAINER_ID", config.id.short()),
        ("CONTAINER_ID_FULL", config.id.as_str()),
        ("CONTAINER_NAME", &config.name),
        ("CONTAINER_TAG", &tag),
        ("IMAGE_NAME", &config.image.reference),
        ("SYSLOG_IDENTIFIER", &tag),
    ] {
        field(&mut entry, name, value.as_bytes());
    }
    let wanted = |option: &str| {
        let list = config.log.options.get(option).cloned().unwrap_or_default();
        list.split(',')
            .filter(|n| !n.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for label in wanted("labels") {
        if let (Some(value), Some(name)) = (config.labels.get(&label), name(&label)) {
            field(&mut entry, &name, value.as_bytes());
        }
    }
    for variable in wanted("env") {
        let pair = config.process.env.iter().map(|e| e.split_env());
        let value = pair
            .filter(|(n, _)| *n == variable.as_bytes())
            .find_map(|(_, value)| value);
        if let (Some(value), Some(name)) = (value, name(&variable)) {
            field(&mut entry, &name, value);
        }
    }
    entry
}

/// A field's name as the journal takes it: capitals, digits and underscores, not one of its own (which begin with an
/// underscore), 64 at most.
fn name(text: &str) -> Option<String> {
    let letters = text.chars().map(|c| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    });
    let name: String = letters.collect();
    let name = name.trim_start_matches(|c: char| c == '_' || c.is_ascii_digit());
    (!name.is_empty()).then(|| name.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn names_of_fields() {
        for (text, want) in [
            ("com.example.team", Some("COM_EXAMPLE_TEAM")),
            ("_HIDDEN", Some("HIDDEN")),
            ("9lives", Some("LIVES")),
            ("__", None),
        ] {
            assert_eq!(name(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn newlines_need_a_length() {
        let mut entry = Vec::new();
        field(&mut entry, "A", b"b");
        field(&mut entry, "M", b"x\ny");
        assert_eq!(entry, b"A=b\nM\n\x03\0\0\0\0\0\0\0x\ny\n");
    }

    /// What a journal got: text of a datagram, or of the file that came with it.
    fn take(journal: &UnixDatagram) -> String {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
        let mut buffer = vec![0; 64 * 1024];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
        let got = rustix::net::recvmsg(journal, &mut slices, &mut ancillary, RecvFlags::empty()).unwrap();
        let file = ancillary.drain().find_map(|m| match m {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let Some(file) = file else {
            return String::from_utf8(buffer[..got.bytes].to_vec()).unwrap();
        };
        let (mut file, mut text) = (std::fs::File::from(file), String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_pieces_and_losses() {
        let path = std::env::temp_dir().join(format!("barge-journal-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let server = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::connect(&path, b"CONTAINER_NAME=x\n".to_vec()).unwrap();
        journal.record(Stream::Stdout, b"hello\n");
        let text = take(&server);
        assert!(text.starts_with("PRIORITY=6\nSYSLOG_TIMESTAMP=2"), "{text}");
        assert!(text.ends_with("\nCONTAINER_NAME=x\nMESSAGE=hello\n"), "{text}");
        journal.record(Stream::Stderr, b"piece");
        let text = take(&server);
        assert!(
            text.starts_with("PRIORITY=3\nCONTAINER_PARTIAL_MESSAGE=true\n"),
            "{text}"
        );
        let long = "x".repeat(2 << 20);
        journal.record(Stream::Stdout, long.as_bytes());
        assert!(take(&server).ends_with(&format!("MESSAGE={long}\n")));
        // Nobody reads until the queue is full: what comes then is counted.
        for n in 0..2000 {
            journal.record(Stream::Stdout, format!("{n:03}\n").as_bytes());
        }
        let dropped = journal.dropped;
        assert!(dropped > 0 && dropped.is_multiple_of(4));
        take(&server);
        take(&server);
        journal.record(Stream::Stdout, b"last\n");
        assert_eq!(journal.dropped, 0);
        std::fs::remove_file(&path).unwrap();
        server.set_nonblocking(true).unwrap();
        let mut texts = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n) = server.recv(&mut buffer) {
            texts.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
        let [.., note, last] = texts.as_slice() else { panic!() };
        assert!(
            note.contains(&format!("MESSAGE=[barge: {dropped} bytes of output are missing here]")),
            "{note}"
        );
        assert!(last.ends_with("MESSAGE=last\n"), "{last}");
    }
}
