//! Reading and writing the control files of a group.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use std::path::Path;

/// The whole of a control file.
pub(crate) fn read(dir: impl AsFd, name: impl Arg) -> Result<Vec<u8>> {
    let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = vec![0; 4096];
    let mut len = 0;
    loop {
        if len == text.len() {
            text.resize(len * 2, 0);
        }
        match rustix::io::read(&file, &mut text[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    text.truncate(len);
    Ok(text)
}

/// The whole of a control file that is one record, as all but lists are: the kernel gives it at once if there is room
/// (`single_open` in fs/seq_file.c), and need not be asked for its end.
pub(crate) fn read_record(path: &Path) -> Result<Vec<u8>> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = vec![0; 4096];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut text))?;
    match length < text.len() {
        true => {
            text.truncate(length);
            Ok(text)
        }
        false => read(CWD, path),
    }
}

pub(crate) fn open_to_write(dir: impl AsFd, name: impl Arg) -> Result<OwnedFd> {
    rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

/// One setting is one write: control files don't put pieces together.
pub(crate) fn write(dir: impl AsFd, name: impl Arg, value: &[u8]) -> Result<()> {
    let file = open_to_write(dir, name)?;
    rustix::io::retry_on_intr(|| rustix::io::write(&file, value)).map(drop)
}

/// A group's directory, to name files and other groups below it.
pub(crate) fn open_dir(dir: impl AsFd, name: impl Arg) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// A group's directory, to list what is in it.
pub(crate) fn list_dir(dir: impl AsFd) -> Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Dir::new(rustix::fs::openat(dir, c".", flags, Mode::empty())?)
}

/// The number after `key` in a file of `key number` lines.
pub(crate) fn value_of(text: &[u8], key: &str) -> Option<u64> {
    let line = text
        .split(|b| *b == b'\n')
        .find_map(|l| l.strip_prefix(key.as_bytes())?.strip_prefix(b" "))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_keyed_files() {
        let text = b"oom_kill_disable 0\nunder_oom 0\noom_kill 12\n";
        assert_eq!(value_of(text, "oom_kill"), Some(12));
        assert_eq!(value_of(text, "oom_kill_disable"), Some(0));
        assert_eq!(value_of(text, "oom"), None);
        assert_eq!(value_of(b"", "oom"), None);
    }
}
