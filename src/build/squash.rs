//! `--squash`: the layers of a build as one.

use crate::build::layers::{Layers, Made, Top};
use crate::build::options::{Options, Squash};
use crate::build::stage::Stage;
use crate::build::state::Said;
use crate::error::Result;
use crate::layer;
use crate::model::digest::Digest;
use crate::model::time::Timestamp;
use crate::store::Inputs;
use std::os::fd::AsFd as _;

/// Makes one layer of what the build has added (or of everything), and notes it. The topmost layer after it.
pub(crate) fn squash(layers: &mut Layers<'_>, stage: &mut Stage, options: &Options) -> Result<Top> {
    let base = match options.squash {
        Squash::All => None,
        _ => stage.base_top,
    };
    if stage.top == base {
        return Ok(base);
    }
    let top = stage.top;
    layers.bring(top)?;
    let staged = layers.stage(base)?;
    if options.squash == Squash::All {
        let view = layers.view(top)?;
        let root = layers.writable(base, &staged)?;
        layer::copy::contents(view.as_fd(), root.as_fd(), &layer::copy::Options::default())?;
    } else {
        let (dirs, below) = (layers.dirs(top), layers.dirs(base).len());
        layer::flatten(dirs.get(below..).unwrap_or_default(), staged.diff()?.as_fd())?;
    }
    let created = options.time.created.unwrap_or_else(Timestamp::now);
    let text = match options.squash {
        Squash::All => "merge all layers".to_owned(),
        _ => "merge the layers of the build".to_owned(),
    };
    let merged = layers.chain(top)?;
    let layer = layers.take(
        base,
        staged,
        Made {
            inputs: Inputs::only(Digest::of(format!("squash {merged:?}").as_bytes())),
            created,
            description: text.clone(),
            content: None,
            latest: None,
        },
    )?;
    if options.squash == Squash::All {
        stage.state.image.history.clear();
    } else {
        for entry in &mut stage.state.image.history[stage.base_history..] {
            entry.empty_layer = true;
        }
    }
    stage.made.clear();
    stage.state.note(&Said::Run(String::new()), created, false);
    if let Some(last) = stage.state.image.history.last_mut() {
        last.comment = text;
    }
    stage.made.push((stage.state.image.history.len() - 1, layer));
    Ok(Some(layer))
}
