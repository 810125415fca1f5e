//! Who uses a filesystem that is mounted nowhere any more.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A process that has a file or directory of this device open, mapped, as its root, its working directory or its
/// program, or that has it mounted in a namespace of its own; never this process.
pub(crate) fn user_of(device: u64) -> Option<u32> {
    let own = std::process::id();
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = pids.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own).find(|pid| uses(*pid, device))
}

fn uses(pid: u32, device: u64) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let on_it = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.dev() == device);
    let any = |dir: &str| {
        let entries = std::fs::read_dir(proc.join(dir)).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| on_it(&entry.path()))
    };
    ["cwd", "root", "exe"].iter().any(|name| on_it(&proc.join(name)))
        || any("fd")
        || any("map_files")
        || is_mounted_for(&proc, device)
}

fn is_mounted_for(proc: &Path, device: u64) -> bool {
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let mounts = std::fs::read_to_string(proc.join("mountinfo")).unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(number.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_has_proc_mounted() {
        let device = std::fs::metadata("/proc").unwrap().dev();
        assert!(user_of(device).is_some());
        assert_eq!(user_of(u64::from(u32::MAX)), None);
    }
}
