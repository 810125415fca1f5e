//! The storage driver of the engine's root: chosen before its first container is made, and kept.

use crate::error::Result;
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
        has_aufs: driver::has_aufs(),
    })?;
    store.record_driver(choice.driver)?;
    if let Some(warning) = choice.warning {
        store.notify(&warning);
    }
    Ok(choice.driver)
}
