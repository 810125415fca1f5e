//! The storage driver of the engine's root: chosen before its first container is made, and kept.

use crate::error::{Error, Result};
use crate::layer::driver::{self, Facts};
use crate::model::driver::Driver;
use crate::store::Store;

/// The root's driver; recorded if it had none. `asked` is what the person wants it to be.
pub(crate) fn settle(store: &Store, asked: Option<Driver>) -> Result<Driver> {
    let recorded = store.driver()?;
    if let Some(recorded) = recorded
        && asked.is_none_or(|asked| asked == recorded)
    {
        return Ok(recorded);
    }
    let no_overlay = match (recorded, asked) {
        (None, None | Some(Driver::Overlay)) => {
            let scratch = store.stage()?;
            let why = driver::overlay_refused(scratch.path())?;
            scratch.delete()?;
            why
        }
        _ => None,
    };
    let choice = driver::choose(&Facts {
        asked,
        recorded,
        no_overlay,
    })?;
    store.record_driver(choice.driver)?;
    if let Some(warning) = choice.warning {
        store.notify(&warning);
    }
    Ok(choice.driver)
}

/// What can be done only with layers that are stacked.
pub(crate) fn needs_overlay(store: &Store, what: &str) -> Result<()> {
    match settle(store, None)? {
        Driver::Overlay => Ok(()),
        Driver::Copy => Err(
            Error::other(format!("{what}: not with the storage driver copy, which this root has"))
                .with_hint("take a root on ext4, xfs, btrfs or tmpfs (--root)"),
        ),
    }
}
