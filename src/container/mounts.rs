//! What is mounted in a container: the user's mounts, other containers', its image's and systemd's (pure).

use crate::container::config::{Facts, ImageVolumes, RunArgs, clean_target};
use crate::error::{Error, Result};
use crate::model::image::ImageRecord;
use crate::model::mount::{Mount, Source};
use std::path::{Path, PathBuf};

/// What systemd(1) wants to be mounted in a container (its CONTAINER_INTERFACE).
const SYSTEMD_TMPFS: [&str; 4] = ["/run", "/run/lock", "/tmp", "/var/log/journal"];

/// All of it, short targets first. Explicit mounts must not meet; they win over `--volumes-from`, where the first
/// container wins (F141); anonymous volumes fill what is left (F139).
pub(super) fn merge(args: &RunArgs, image: &ImageRecord, facts: &Facts<'_>, systemd: bool) -> Result<Vec<Mount>> {
    let mut all: Vec<Mount> = Vec::new();
    for mount in args.mounts.iter().cloned().chain(images(args, facts)) {
        if is_covered(&all, &mount.target) {
            return Err(Error::usage(format!(
                "Duplicate mount point: {}",
                mount.target.display()
            )));
        }
        all.push(mount);
    }
    let anonymous = args
        .volumes
        .iter()
        .map(|target| Mount::new(anonymous(), target.clone()));
    let others = others(args, facts).chain(anonymous).map(Ok);
    let systemd = SYSTEMD_TMPFS
        .iter()
        .filter(|_| systemd)
        .map(|target| Ok(for_systemd(target)));
    for mount in others.chain(of_image(args, image)).chain(systemd) {
        let mount = mount?;
        if !is_covered(&all, &mount.target) {
            all.push(mount);
        }
    }
    for mount in &mut all {
        if let Source::Volume { name, anonymous, .. } = &mut mount.source
            && name.is_empty()
        {
            *name = (facts.new_volume_name)();
            *anonymous = true;
        }
    }
    all.sort_by_key(|m| m.target.components().count());
    Ok(all)
}

fn is_covered(all: &[Mount], target: &Path) -> bool {
    all.iter().any(|mount| mount.target == target)
}

fn images(args: &RunArgs, facts: &Facts<'_>) -> impl Iterator<Item = Mount> {
    let both = args.images.iter().zip(&facts.images);
    both.map(|(asked, image)| Mount {
        read_only: !asked.writable,
        ..Mount::new(
            Source::Image {
                image: image.clone(),
                subpath: asked.subpath.clone(),
            },
            asked.target.clone(),
        )
    })
}

/// `--volumes-from`.
fn others(args: &RunArgs, facts: &Facts<'_>) -> impl Iterator<Item = Mount> {
    let both = args.volumes_from.iter().zip(&facts.volumes_from);
    both.flat_map(|(from, other)| {
        let volumes = other
            .mounts
            .iter()
            .filter(|m| !matches!(m.source, Source::Tmpfs { .. }));
        volumes.map(|mount| inherited(mount, from.read_only == Some(true)))
    })
}

/// A mount of another container: never more writable than there, and its volume has its content already.
fn inherited(mount: &Mount, read_only: bool) -> Mount {
    let mut mount = mount.clone();
    mount.read_only |= read_only;
    if let Source::Volume { copy_up, .. } = &mut mount.source {
        *copy_up = false;
    }
    mount
}

/// VOLUME of the image, by `--image-volume`.
fn of_image(args: &RunArgs, image: &ImageRecord) -> impl Iterator<Item = Result<Mount>> {
    let how = args.image_volumes;
    let targets = image.config.config.volumes.keys();
    targets
        .filter(move |_| how != ImageVolumes::Ignored)
        .map(move |target| {
            let source = match how {
                ImageVolumes::Tmpfs => memory(Some(0o755), ["exec", "nosuid", "nodev"]),
                ImageVolumes::Anonymous | ImageVolumes::Ignored => anonymous(),
            };
            Ok(Mount::new(source, clean_target(Path::new(target))?))
        })
}

fn for_systemd(target: &str) -> Mount {
    let mode = (target != "/tmp").then_some(0o755);
    Mount::new(memory(mode, ["exec", "suid", "dev"]), PathBuf::from(target))
}

/// A volume that gets its name when it is known to be needed.
fn anonymous() -> Source {
    Source::Volume {
        name: String::new(),
        anonymous: true,
        copy_up: true,
        subpath: None,
    }
}

fn memory(mode: Option<u32>, options: [&str; 3]) -> Source {
    Source::Tmpfs {
        size: None,
        mode,
        options: options.map(str::to_owned).to_vec(),
    }
}
