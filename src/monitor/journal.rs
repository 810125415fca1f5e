//! The log driver `journald`: each line as an entry of the host's journal, with docker's fields, by its native protocol
//! (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram, or, if that is too long for one, a sealed file in memory.
//!
//! A journal that does not listen holds nobody up: what it would not take waits in memory, [`QUEUE`] bytes at most, and
//! is offered again with every line and whenever the container is quiet. Beyond that, lines are dropped and counted, and
//! an entry says so where they are missing. Only at the container's end what still waits is waited for ([`PATIENCE`]).

use crate::error::{Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::log::Stream;
use crate::model::tag;
use crate::model::time::Timestamp;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

const SOCKET: &str = "/run/systemd/journal/socket";
/// How long the end of a container waits for a journal that does not take its last lines.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of entries that wait at most.
const QUEUE: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    socket: OwnedFd,
    /// The fields that every entry has.
    fields: Vec<u8>,
    /// Entries that the journal had no room for, and their bytes.
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    /// Bytes of output dropped since the last entry in the queue.
    dropped: u64,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Done,
    /// There is no room now.
    Later,
    /// It will never be taken, or there is no journal.
    Never,
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
            queue: VecDeque::new(),
            queued: 0,
            dropped: 0,
        })
    }

    /// A line with its newline, or a piece of one.
    pub(crate) fn record(&mut self, stream: Stream, text: &[u8]) {
        self.offer();
        // Once lines are missing, half of the queue has to be free again, so that a note stands for many of them.
        if self.dropped > 0 && self.queued < QUEUE / 2 {
            let note = format!("[barge: {} bytes of output are missing here]", self.dropped);
            self.dropped = 0;
            let note = self.entry(Stream::Stderr, note.as_bytes(), false);
            self.take(note, 0);
        }
        let (line, whole) = match text.split_last() {
            Some((b'\n', line)) => (line, true),
            _ => (text, false),
        };
        if self.dropped > 0 {
            self.dropped += text.len() as u64;
            return;
        }
        let entry = self.entry(stream, line, !whole);
        self.take(entry, text.len() as u64);
    }

    /// Whether something waits for the journal.
    pub(crate) fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Hands on what the journal has room for now.
    pub(crate) fn offer(&mut self) {
        while let Some(entry) = self.queue.front() {
            if self.send(entry) == Sent::Later {
                return;
            }
            self.queued -= entry.len();
            self.queue.pop_front();
        }
        self.queue.shrink_to(0);
    }

    /// Waits until the journal has taken everything, but not for long.
    pub(crate) fn finish(&mut self) {
        use rustix::event::{PollFd, PollFlags, Timespec};
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.offer();
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.waits() || left.is_zero() {
                return;
            }
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
            let _ = rustix::event::poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        }
    }

    /// Sends it, or lets it wait behind the others; `bytes` of output are missing if it can't.
    fn take(&mut self, entry: Vec<u8>, bytes: u64) {
        let sent = match self.waits() {
            true => Sent::Later,
            false => self.send(&entry),
        };
        match sent {
            Sent::Done => {}
            Sent::Later if self.queued + entry.len() <= QUEUE => {
                self.queued += entry.len();
                self.queue.push_back(entry);
            }
            Sent::Later | Sent::Never => self.dropped += bytes,
        }
    }

    fn entry(&self, stream: Stream, text: &[u8], partial: bool) -> Vec<u8> {
        let mut entry = Vec::with_capacity(self.fields.len() + text.len() + 128);
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
        entry
    }

    fn send(&self, entry: &[u8]) -> Sent {
        for attempt in 0..3 {
            match rustix::net::send(&self.socket, entry, SendFlags::NOSIGNAL) {
                Ok(_) => return Sent::Done,
                Err(Errno::MSGSIZE) => return self.send_file(entry),
                Err(Errno::AGAIN | Errno::NOBUFS) => return Sent::Later,
                Err(Errno::INTR) => {}
                // It was started anew since.
                Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::PIPE | Errno::CONNRESET) if attempt == 0 => {
                    let again = rustix::net::SocketAddrUnix::new(SOCKET)
                        .and_then(|address| rustix::net::connect(&self.socket, &address));
                    if again.is_err() {
                        return Sent::Never;
                    }
                }
                Err(_) => return Sent::Never,
            }
        }
        Sent::Never
    }

    fn send_file(&self, entry: &[u8]) -> Sent {
        match self.try_file(entry) {
            Ok(()) => Sent::Done,
            Err(Errno::AGAIN | Errno::NOBUFS) => Sent::Later,
            Err(_) => Sent::Never,
        }
    }

    fn try_file(&self, entry: &[u8]) -> rustix::io::Result<()> {
        let file = rustix::fs::memfd_create("journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = std::fs::File::from(file);
        file.write_all(entry).map_err(|_| Errno::NOMEM)?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let fds = [file.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(&self.socket, &[], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
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
        // Nobody reads: what the socket has no room for waits, and beyond that is counted. None of it takes long.
        let begin = Instant::now();
        let line = |n: usize| format!("{n:05} {}\n", "y".repeat(1000));
        for n in 0..3000 {
            journal.record(Stream::Stdout, line(n).as_bytes());
        }
        assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
        let dropped = journal.dropped;
        assert!(dropped > 0 && dropped.is_multiple_of(line(0).len() as u64));
        assert!(journal.waits() && journal.queued <= QUEUE);
        std::fs::remove_file(&path).unwrap();
        server.set_nonblocking(true).unwrap();
        let mut texts = Vec::new();
        let mut buffer = [0; 4096];
        let mut read = |texts: &mut Vec<String>| {
            while let Ok(n) = server.recv(&mut buffer) {
                texts.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
            }
        };
        while journal.waits() {
            read(&mut texts);
            journal.offer();
        }
        journal.record(Stream::Stdout, b"last\n");
        journal.finish();
        read(&mut texts);
        let [lines @ .., note, last] = texts.as_slice() else {
            panic!()
        };
        for (n, got) in lines.iter().enumerate() {
            assert!(got.ends_with(&format!("MESSAGE={}", line(n))), "{n}: {got}");
        }
        assert_eq!(lines.len() as u64 + dropped / line(0).len() as u64, 3000);
        assert!(
            note.contains(&format!("MESSAGE=[barge: {dropped} bytes of output are missing here]")),
            "{note}"
        );
        assert!(last.ends_with("MESSAGE=last\n"), "{last}");
    }
}
