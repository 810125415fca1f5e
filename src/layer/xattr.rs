//! Extended attributes of anything that has a name, symbolic links and devices included.

use crate::error::{Context, Error, Result};
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's `XATTR_NAME_MAX` and `XATTR_SIZE_MAX`.
const LONGEST_NAME: usize = 255;
const LARGEST_VALUE: usize = 64 * 1024;

const OF_THE_MACHINE: [&CStr; 4] = [
    c"security.selinux",
    c"security.ima",
    c"security.evm",
    c"security.SMACK64",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Xattr {
    pub(crate) name: CString,
    pub(crate) value: Vec<u8>,
}

impl Xattr {
    pub(crate) fn new(name: &[u8], value: Vec<u8>) -> Result<Self> {
        let said = String::from_utf8_lossy(name);
        if name.is_empty() || name.len() > LONGEST_NAME || value.len() > LARGEST_VALUE {
            return Err(Error::other(format!(
                "extended attribute {} is too large",
                said.escape_debug()
            )));
        }
        let name = CString::new(name).map_err(|_| {
            Error::other(format!(
                "extended attribute {} has a NUL in its name",
                said.escape_debug()
            ))
        })?;
        Ok(Xattr { name, value })
    }
}

/// Whether an attribute is overlayfs' own. An archive or a tree that brings one would say where another file's content
/// is, or hide what nobody removed.
pub(crate) fn is_of_the_stack(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"trusted.overlay.")
}

/// A name for the calls that take only paths, which never follows a link at its end; "" is the directory itself.
fn path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

/// Sets one. Where the filesystem does not know the attribute's namespace, it is left out, as docker does (archives
/// from macOS are full of those); not so for what decides about access.
pub(crate) fn set(dir: BorrowedFd<'_>, name: &[u8], xattr: &Xattr) -> Result<()> {
    match lsetxattr(
        path(dir, name),
        xattr.name.as_c_str(),
        &xattr.value,
        XattrFlags::empty(),
    ) {
        Err(Errno::NOTSUP) if !decides_access(&xattr.name) => Ok(()),
        // Of user attributes only files and directories may have some.
        Err(Errno::PERM) if xattr.name.to_bytes().starts_with(b"user.") => Ok(()),
        result => result.with_context(|| format!("set {}", xattr.name.to_string_lossy())),
    }
}

/// Takes one from a directory. What the machine's policy needs there stays.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    if OF_THE_MACHINE.contains(&name) {
        return Ok(());
    }
    match lremovexattr(path(dir, b""), name) {
        Err(Errno::NODATA) => Ok(()),
        result => result.with_context(|| format!("remove {}", name.to_string_lossy())),
    }
}

fn decides_access(name: &CStr) -> bool {
    [&b"security."[..], b"trusted.", b"system.posix_acl_"]
        .iter()
        .any(|p| name.to_bytes().starts_with(p))
}

/// All of them but the stack's own, sorted by name.
pub(crate) fn all(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Xattr>> {
    let path = path(dir, name);
    collect(grown(|buffer| llistxattr(path.as_slice(), buffer)), |name, buffer| {
        lgetxattr(path.as_slice(), name, buffer)
    })
}

fn collect(
    names: Result<Vec<u8>, Errno>,
    read: impl Fn(&CStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>> {
    let names = match names {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        result => result.context("list extended attributes")?,
    };
    let mut all = Vec::new();
    for name in names.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if is_of_the_stack(name) {
            continue;
        }
        match grown(|buffer| read(name, buffer)) {
            Ok(value) => all.push(Xattr {
                name: name.to_owned(),
                value,
            }),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e).with_context(|| format!("read {}", name.to_string_lossy())),
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// All of an open file's but the stack's own.
pub(crate) fn of_file(file: &File) -> Result<Vec<Xattr>> {
    collect(grown(|buffer| flistxattr(file, buffer)), |name, buffer| {
        fgetxattr(file, name, buffer)
    })
}

/// Those that belong to a file wherever it is: not the labels and measurements by which this machine's own policy knows
/// it.
pub(crate) fn of_archives(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Xattr>> {
    let mut all = all(dir, name)?;
    all.retain(|x| !OF_THE_MACHINE.contains(&x.name.as_c_str()));
    Ok(all)
}

/// The same, of an open file or directory.
pub(crate) fn of_open_archive(file: &File) -> Result<Vec<Xattr>> {
    let mut all = of_file(file)?;
    all.retain(|x| !OF_THE_MACHINE.contains(&x.name.as_c_str()));
    Ok(all)
}

/// One attribute's value, overlayfs' own included; `None` if it has none of that name.
pub(crate) fn get(dir: BorrowedFd<'_>, name: &[u8], attribute: &CStr) -> Result<Option<Vec<u8>>> {
    let path = path(dir, name);
    match grown(|buffer| lgetxattr(path.as_slice(), attribute, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", attribute.to_string_lossy())),
    }
}

/// A value of unknown length: usually short.
fn grown(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < LARGEST_VALUE => buffer.resize(LARGEST_VALUE, 0),
            Err(e) => return Err(e),
        }
    }
}
