//! Block devices by their paths on the host → their numbers, which is what the groups' files take.

use crate::error::{Context as _, Error, Result};
use crate::model::resources::BlockIo;
use crate::runtime::cgroup::limits::{DeviceKind, DeviceSetting};
use rustix::fs::{FileType, major, minor};

/// Every limit with its device's number. A path that is no block device is an error.
pub(super) fn settings(limits: &BlockIo) -> Result<Vec<DeviceSetting>> {
    let mut settings = Vec::new();
    for (kind, list) in [
        (DeviceKind::Weight, &limits.weight),
        (DeviceKind::ReadBps, &limits.read_bps),
        (DeviceKind::WriteBps, &limits.write_bps),
        (DeviceKind::ReadIops, &limits.read_iops),
        (DeviceKind::WriteIops, &limits.write_iops),
    ] {
        for limit in list {
            let shown = || limit.path.display().to_string();
            let stat = rustix::fs::stat(&limit.path).with_context(shown)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
                return Err(Error::usage(format!("{} is not a block device", shown())));
            }
            settings.push(DeviceSetting {
                kind,
                major: major(stat.st_rdev),
                minor: minor(stat.st_rdev),
                value: limit.value,
            });
        }
    }
    Ok(settings)
}
