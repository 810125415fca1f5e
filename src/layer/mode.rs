//! Modes of what can't be opened: devices and pipes. By name alone nothing can be changed without a danger: whoever may
//! write to the directory puts a link there in between, and chmod(2) follows it, out of the container (CVE-2018-15664's
//! class).

use rustix::fs::{CWD, FileType, Mode, OFlags, chmodat, fstat, openat};
use rustix::io::Errno;
use rustix::path::Arg;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Of what has that name in the directory now; `ELOOP` if it is a link.
pub(crate) fn set_mode(dir: BorrowedFd<'_>, name: impl Arg, mode: Mode) -> Result<(), Errno> {
    let there = openat(
        dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if FileType::from_raw_mode(fstat(&there)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    let path = format!("/proc/self/fd/{}", there.as_raw_fd());
    chmodat(CWD, path, mode, rustix::fs::AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{mknodat, statat, symlinkat};
    use std::os::fd::AsFd as _;

    #[test]
    fn no_link_is_followed() {
        let path = std::env::temp_dir().join(format!("barge-mode-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let dir = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mode = |name: &str| statat(&dir, name, rustix::fs::AtFlags::empty()).unwrap().st_mode & 0o7777;
        mknodat(&dir, "pipe", FileType::Fifo, Mode::from(0o600), 0).unwrap();
        set_mode(dir.as_fd(), "pipe", Mode::from(0o646)).unwrap();
        assert_eq!(mode("pipe"), 0o646);
        symlinkat(path.join("pipe"), &dir, "link").unwrap();
        assert_eq!(set_mode(dir.as_fd(), "link", Mode::from(0o777)), Err(Errno::LOOP));
        assert_eq!(mode("pipe"), 0o646);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
