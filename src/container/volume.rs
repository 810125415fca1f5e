//! What is in a volume as a tar, and a tar into a volume. Other commands and containers may use it meanwhile.

use crate::error::{Context as _, Result};
use crate::layer::{self, Onto, compress, pack};
use crate::store::Store;
use rustix::fs::{Mode, OFlags};
use std::io::{Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};

fn open(store: &Store, name: &str) -> Result<OwnedFd> {
    store.volume(name)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(store.volume_dir(name), flags, Mode::empty()).with_context(|| format!("open volume {name}"))
}

pub(crate) fn export(store: &Store, name: &str, out: &mut dyn Write) -> Result<()> {
    let volume = open(store, name)?;
    let written = pack::export(volume.as_fd(), out, &pack::Options::default());
    written.map(|_| ()).with_context(|| format!("export volume {name}"))
}

/// Merges with what is there. A tar that is broken leaves what came before the break; when this returns, all of it
/// survives a power cut.
pub(crate) fn import(store: &Store, name: &str, input: impl Read + Send) -> Result<()> {
    let volume = open(store, name)?;
    let options = layer::Options {
        onto: Onto::Existing { ids: None },
        ..layer::Options::default()
    };
    let said = || format!("import into volume {name}");
    layer::unpack(compress::reader(input).with_context(said)?, volume.as_fd(), &options).with_context(said)?;
    Ok(rustix::fs::syncfs(&volume)?)
}
