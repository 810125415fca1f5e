//! A target stage becomes an image.

use crate::build::layers::Layers;
use crate::build::options::{Options, Squash};
use crate::build::stage::Stage;
use crate::build::state::Said;
use crate::error::{Context as _, Error, Result};
use crate::image::change;
use crate::image::intake::{Intake, NewImage};
use crate::image::progress::Silent;
use crate::model::id::ImageId;
use crate::model::image::RootFs;
use crate::model::reference::Reference;
use crate::store::{Durability, Store, file};
use std::path::Path;

/// How the image is kept.
pub(crate) struct Kept<'a> {
    pub(crate) names: &'a [Reference],
    /// One more platform under each name.
    pub(crate) one_of_several: bool,
    /// What it says of the cache, as an annotation.
    pub(crate) cache: Option<(String, String)>,
}

/// What `--label` adds, as the classic builder's last instruction, which is still to be noted; and the variables of `--env` and `--unsetenv`.
pub(crate) fn decorate(stage: &mut Stage, options: &Options) -> Option<Said> {
    let config = &mut stage.state.image.config;
    for name in &options.unset_env {
        config.env.retain(|e| e.split_env().0 != name.as_bytes());
    }
    for (name, value) in &options.image_env {
        change::set_env(&mut config.env, name, value);
    }
    for name in &options.unset_labels {
        config.labels.remove(name);
    }
    if options.labels.is_empty() {
        return None;
    }
    let mut said = "LABEL".to_owned();
    for (name, value) in &options.labels {
        config.labels.insert(name.clone(), value.clone());
        said.push_str(&format!(" {name}={value}"));
    }
    Some(Said::Meta(said))
}

/// Puts the stage's layers in place, and makes the image. Durable when it returns.
pub(crate) fn image(
    store: &Store,
    layers: &mut Layers<'_>,
    mut stage: Stage,
    options: &Options,
    kept: &Kept<'_>,
) -> Result<ImageId> {
    let mut parent = stage.base;
    let top = match options.squash {
        Squash::No => stage.top,
        how => {
            parent = parent.filter(|_| how == Squash::New);
            crate::build::squash::squash(layers, &mut stage, options)?
        }
    };
    let diff_ids = layers.place(top)?;
    for (entry, layer) in &stage.made {
        let empty = !layers.changes(*layer)?;
        if let Some(history) = stage.state.image.history.get_mut(*entry) {
            history.empty_layer = empty;
        }
    }
    let mut image = stage.state.image;
    if options.omit_history {
        image.history.clear();
    }
    if let Some(created) = options.time.created {
        image.created = Some(created);
    }
    image.rootfs = RootFs {
        diff_ids,
        ..RootFs::default()
    };
    let config = serde_json::to_vec(&image)?;
    let pair = |(name, value): (&String, &String)| (name.clone(), value.clone());
    let intake = Intake::new(store, &Silent)?;
    intake.finish(&NewImage {
        config: &config,
        names: kept.names,
        replace: !kept.one_of_several,
        parent,
        annotations: options.annotations.iter().map(pair).chain(kept.cache.clone()).collect(),
        ..NewImage::default()
    })
}

/// Writes a small file of the caller's, whole or not at all.
pub(crate) fn write_file(path: &Path, text: &[u8]) -> Result<()> {
    let path = std::path::absolute(path)?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(Error::usage(format!("invalid file name '{}'", path.display())));
    };
    file::replace(dir, name, text, Durability::Volatile).with_context(|| format!("write {}", path.display()))
}
