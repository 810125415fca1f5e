//! Settings of the kernel's network stack, in the caller's network namespace (proc_sys(5)).

use crate::error::{Context as _, Result};
use std::io::Write as _;

pub(super) const FORWARD4: &str = "/proc/sys/net/ipv4/ip_forward";
pub(super) const FORWARD6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// `None` where the kernel has no such setting.
pub(super) fn get(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

pub(super) fn set(path: &str, value: &str) -> Result<()> {
    std::fs::File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .with_context(|| format!("write {path}"))
}

/// For one link. A host without IPv6 has none of these, and needs none; where they can't be written, the link works
/// all the same.
pub(super) fn set_ipv6(link: &str, name: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{link}/{name}");
    if get(&path).is_some_and(|now| now != value) {
        let _ = set(&path, value);
    }
}
