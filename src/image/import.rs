//! `import`: a tar of a root file system → an image of one layer.

use crate::error::{Context, Error, Result};
use crate::image::change;
use crate::layer;
use crate::model::id::{ChainId, ImageId};
use crate::model::image::{History, ImageConfig, ImageRecord, RootFs, RunDefaults};
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::store::{LayerRecord, Store};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Where the tar comes from; it may be compressed.
pub(crate) enum Source {
    /// A stream, and what to call it: `-` for stdin.
    Stream(Box<dyn Read + Send>, String),
    File(PathBuf),
    Url(String),
}

impl Source {
    /// A file if there is one of that name; else what has a scheme, or a host's form, is a URL (F036).
    pub(crate) fn parse(text: &str) -> Source {
        if text == "-" {
            return Source::Stream(Box::new(std::io::stdin()), text.to_owned());
        }
        match text.contains("://") {
            true => Source::Url(text.to_owned()),
            false => Source::File(PathBuf::from(text)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Stream(_, name) | Source::Url(name) => f.write_str(name),
            Source::File(path) => path.display().fmt(f),
        }
    }
}

/// What `import` was asked.
pub(crate) struct Import {
    pub(crate) source: Source,
    pub(crate) reference: Option<Reference>,
    /// Dockerfile instructions.
    pub(crate) changes: Vec<String>,
    /// Instead of "Imported from SOURCE".
    pub(crate) message: Option<String>,
    /// `os[/architecture[/variant]]`, this machine's by default.
    pub(crate) platform: Option<String>,
}

/// Unpacks, stores and tags. When it returns, the image survives a power cut.
pub(crate) fn import(store: &Store, import: Import) -> Result<ImageId> {
    let mut config = ImageConfig {
        created: Some(Timestamp::now()),
        ..ImageConfig::default()
    };
    set_platform(&mut config, import.platform.as_deref())?;
    for change in &import.changes {
        change::apply(&mut config.config, change)?;
    }
    if import.reference.as_ref().is_some_and(|name| name.digest.is_some()) {
        return Err(Error::usage("cannot import digest reference"));
    }
    let comment = import
        .message
        .unwrap_or_else(|| format!("Imported from {}", import.source));
    config.history = vec![History {
        created: config.created,
        comment,
        ..History::default()
    }];
    let reader: Box<dyn Read + Send> = match import.source {
        Source::Stream(reader, _) => reader,
        Source::File(path) => {
            let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            if file.metadata()?.is_dir() {
                return Err(Error::other(format!("{} is a directory, not a tar", path.display())));
            }
            Box::new(file)
        }
        Source::Url(url) => {
            return Err(Error::other(format!("import {url}: fetching by URL is not supported"))
                .with_hint(format!("curl -L {url} | barge import -")));
        }
    };
    from_tar(store, reader, config, import.reference.as_ref())
}

/// An image of one layer, named if a name is given. `config` lacks nothing but the layer's digest.
pub(super) fn from_tar(
    store: &Store,
    tar: impl Read + Send,
    mut config: ImageConfig,
    name: Option<&Reference>,
) -> Result<ImageId> {
    let staged = store.stage_layer()?;
    // What is imported is often the archive of a temporary directory, closed to everybody but root.
    let options = layer::Options {
        record: Some(staged.record()?),
        open_root: true,
    };
    let unpacked = layer::unpack(layer::compress::reader(tar)?, staged.diff()?.as_fd(), &options)?;
    let record = LayerRecord {
        parent: None,
        diff_id: unpacked.diff_id,
        size: unpacked.size,
    };
    let sealed = staged.seal(record)?;
    config.rootfs = RootFs {
        diff_ids: vec![unpacked.diff_id],
        ..RootFs::default()
    };
    let bytes = serde_json::to_vec(&config)?;
    let image = ImageRecord {
        id: ImageId(crate::model::digest::Digest::of(&bytes)),
        layers: ChainId::chain(&config.rootfs.diff_ids),
        config,
        size: unpacked.size,
        stored: Timestamp::now(),
    };
    let held = store.lock_shared()?;
    sealed.commit(store, &held)?;
    store.put_image(&image, &bytes, &held)?;
    if let Some(name) = name {
        let name = name.clone().or_latest();
        store.change_tags(&held, |tags| Ok(tags.set(&name, image.id)))?;
    }
    Ok(image.id)
}

fn set_platform(config: &mut ImageConfig, platform: Option<&str>) -> Result<()> {
    let mut parts = platform.unwrap_or("linux").split('/');
    let os = parts.next().unwrap_or_default();
    let architecture = parts.next().unwrap_or(this_architecture());
    let variant = parts.next().unwrap_or_default();
    if os != "linux" || architecture.is_empty() || parts.next().is_some() {
        let shown = platform.unwrap_or_default();
        return Err(Error::usage(format!(
            "invalid platform '{shown}': want linux/ARCHITECTURE[/VARIANT]"
        )));
    }
    config.os = os.to_owned();
    config.architecture = architecture.to_owned();
    config.variant = variant.to_owned();
    Ok(())
}

/// Go's name for it, as in every image.
pub(super) fn this_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What an image of this machine has before anything is asked of it.
pub(super) fn native_config(created: Timestamp, config: RunDefaults) -> ImageConfig {
    ImageConfig {
        created: Some(created),
        os: "linux".to_owned(),
        architecture: this_architecture().to_owned(),
        config,
        ..ImageConfig::default()
    }
}
