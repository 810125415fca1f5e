//! `export`: a container's file system as a tar, of one that runs and of one that does not. Volumes are not in it.

use crate::container::pause::tell;
use crate::container::view;
use crate::error::Result;
use crate::layer::pack;
use crate::model::id::ContainerId;
use crate::store::Store;
use std::io::Write;
use std::os::fd::AsFd as _;

pub(crate) fn export(store: &Store, id: &ContainerId, out: &mut dyn Write) -> Result<()> {
    let view = view::view(store, id)?;
    let options = pack::Options {
        without: view.placeholders,
        ids: view.ids.as_ref(),
        ..pack::Options::default()
    };
    let exported = pack::export(view.root.as_fd(), out, &options);
    exported.map_err(|e| view::or_gone(store, id, e))?;
    tell(store, id, "export");
    Ok(())
}
