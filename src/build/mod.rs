//! Dockerfile → image.
//!
//! ```text
//!   options                 what was asked
//!   context, ignore, git, url    files that instructions may ask for, and the Dockerfile's text
//!   lexer, parser, instruction, place    text → instructions, each with its place
//!   expand                  variables
//!   lint, outline           what parses but is likely not meant; what can be asked for
//!   plan                    which stages, in which order
//!   solve, stage, state     executes them: one thread, many containers
//!   run, mounts, files, copy     what instructions do
//!   cache                   what other engines have built, and what is given to them
//!   layers, task            layers on their way into the store, hashed beside the build
//!   finish, squash          stage → image
//!   progress                what a build tells about itself
//! ```

mod cache;
pub(crate) mod compat;
mod content;
pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod expand;
pub(crate) mod export;
mod files;
mod finish;
#[cfg(test)]
mod fuzz;
mod git;
mod heredoc;
mod ignore;
pub(crate) mod instruction;
mod layers;
mod lexer;
pub(crate) mod lint;
mod mounts;
pub(crate) mod options;
pub(crate) mod outline;
pub(crate) mod parser;
mod pattern;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod prune;
mod solve;
mod sources;
mod squash;
mod stage;
mod state;
mod task;
mod url;
mod words;

use crate::container::driver;
use crate::error::{Error, Kind, Result};
use crate::image;
use crate::model::digest::Digest;
use crate::model::id::ImageId;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::store::Store;
use crate::sys::process::ModeMask;
use cache::export::Exports;
use cache::import::Imports;
use expand::{Globals, Platforms};
use export::Needs;
use layers::Layers;
use options::{Options, Output};
use progress::{Event, Progress};
use solve::Solver;
use sources::{Pulling, Sources};
use std::os::fd::AsFd as _;

/// What a build has made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Built {
    /// One per platform; none where no image was wanted.
    pub(crate) ids: Vec<ImageId>,
    pub(crate) names: Vec<Reference>,
}

/// Builds what the options ask for. When it returns, the image survives a power cut.
pub(crate) fn build(store: &Store, options: &Options, progress: &dyn Progress) -> Result<Built> {
    driver::settle(store, None)?;
    if options.platforms.len() > 1
        && options
            .outputs
            .iter()
            .any(|o| matches!(o, Output::Local { .. } | Output::Tar { .. }))
    {
        return Err(Error::usage("--output local and tar are of one platform"));
    }
    options.outputs.iter().try_for_each(Output::check)?;
    store.sweep_left_overs()?;
    let opened = context::open(store, &options.asked())?;
    let dockerfile = parser::parse(&opened.dockerfile.name, &opened.dockerfile.text)?;
    lint::enforce(store, options, &dockerfile, &opened.context)?;
    let main = std::rc::Rc::new(opened.context);
    let mut platforms = options.platforms.clone();
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    let mut built = Built {
        names: names(options),
        ..Built::default()
    };
    let imports = std::rc::Rc::new(Imports::new(
        store,
        (&options.cache.from, &options.access),
        platforms.clone(),
        progress,
    ));
    let mut exports = Exports::open(store, &options.cache.to, &options.access, progress)?;
    let mut unused = None;
    for platform in &platforms {
        let globals = Globals::new(
            &dockerfile,
            &options.args,
            &Platforms {
                build: Platform::host(),
                target: platform.clone(),
                stage: options.target.clone().unwrap_or_else(|| "default".to_owned()),
            },
        )?;
        let contexts: Vec<String> = options.named_contexts.iter().map(|n| n.name.clone()).collect();
        let plan = plan::plan(
            &dockerfile,
            &globals,
            plan::Request {
                target: options.target.as_deref(),
                contexts: &contexts,
                all_stages: options.all_stages,
                replace_base: options.replace_base.as_deref(),
            },
        )?;
        // What is made for an image has the modes that it says, or else what is made would depend on who builds.
        let mask = ModeMask::usual();
        let taken = exports.mark();
        let (mut solver, target) = loop {
            let sources = Sources::new(store, options, progress, std::rc::Rc::clone(&main));
            let layers = Layers::new(store, std::rc::Rc::clone(&imports))?;
            let mut solver = Solver::new((options, progress), (&dockerfile, platform.clone()), sources, layers);
            let solved = solver.solve(&plan, &globals).and_then(|mut target| {
                if let Some(said) = finish::decorate(&mut target, options) {
                    solver.last(&mut target, &said)?;
                }
                // An output that fails takes no finished step with it.
                solver.layers.place(target.top)?;
                exports.take(&mut solver.layers, &solver.steps, target.top)?;
                Ok(target)
            });
            match solved {
                Ok(target) => break (solver, target),
                Err(e) if matches!(e.kind(), Kind::Status(_)) => return Err(e),
                Err(e) => match imports.retreat() {
                    true => exports.forget(&taken),
                    false => return Err(e),
                },
            }
        };
        drop(mask);
        unused = unused.or_else(|| compat::unused(&globals.unused(&dockerfile)));
        for output in options.outputs.iter().filter(|o| o.needs() == Needs::Tree) {
            let root = solver.layers.view(target.top)?;
            export::export_tree(output, root.as_fd(), options.time.created.map(Timestamp::as_second))?;
        }
        if !wants_image(options) {
            continue;
        }
        let kept = finish::Kept {
            names: &built.names,
            one_of_several: platforms.len() > 1,
            cache: exports.annotation()?,
        };
        let _mask = ModeMask::usual();
        built
            .ids
            .push(finish::image(store, &mut solver.layers, target, options, &kept)?);
    }
    exports.send(progress)?;
    for output in &options.outputs {
        for id in &built.ids {
            export::export_image(store, output, id, &options.tags)?;
        }
    }
    if let Some(line) = unused {
        progress.event(Event::Line(&line));
    }
    for line in lint::warnings(store, options, &dockerfile, &main) {
        progress.event(Event::Warning(&line));
    }
    let id = built.ids.first().map(ToString::to_string);
    if let (Some(path), Some(id)) = (&options.iid_file, &id) {
        finish::write_file(path, id.as_bytes())?;
    }
    push(store, options, progress)?;
    if let Some(path) = &options.metadata_file {
        finish::write_file(path, &metadata(store, &built)?)?;
    }
    progress.event(Event::Built {
        id: id.as_deref(),
        names: &built.names,
    });
    Ok(built)
}

/// Whether something of the outputs is an image, or made of one.
fn wants_image(options: &Options) -> bool {
    let of_image = |o: &Output| matches!(o, Output::Image { .. } | Output::Oci { .. } | Output::Docker { .. });
    options.outputs.is_empty() || options.outputs.iter().any(of_image)
}

/// What the image is to be called in the store.
fn names(options: &Options) -> Vec<Reference> {
    let stays = |o: &Output| matches!(o, Output::Image { .. } | Output::Docker { dest: None, .. });
    let mut all = match options.outputs.is_empty() || options.outputs.iter().any(stays) {
        true => options.tags.clone(),
        false => Vec::new(),
    };
    for output in &options.outputs {
        if let Output::Image { names, .. } | Output::Docker { dest: None, names } = output {
            all.extend(names.iter().filter(|name| !options.tags.contains(name)).cloned());
        }
    }
    all
}

/// `--push`, `--output type=registry`.
fn push(store: &Store, options: &Options, progress: &dyn Progress) -> Result<()> {
    for output in &options.outputs {
        let Output::Image { names, push: true } = output else {
            continue;
        };
        let all: Vec<&Reference> = options.tags.iter().chain(names).collect();
        if all.is_empty() {
            return Err(Error::usage("a tag is needed when pushing to a registry"));
        }
        let to = image::push::Options {
            all_tags: false,
            platform: None,
            dialect: None,
            packing: None,
            access: options.access.clone(),
        };
        for name in all {
            image::push::push(store, &name.to_string(), None, &to, &Pulling(progress))?;
        }
    }
    Ok(())
}

/// `--metadata-file`, with the keys of docker's builder.
fn metadata(store: &Store, built: &Built) -> Result<Vec<u8>> {
    let mut said = serde_json::Map::new();
    if let Some(id) = built.ids.first() {
        let record = store.image(id)?;
        let digest = record.manifests.last().map_or(id.0, |m| m.digest);
        let text = |d: &Digest| serde_json::Value::from(d.to_string());
        said.insert("containerimage.config.digest".to_owned(), text(&id.0));
        said.insert("containerimage.digest".to_owned(), text(&digest));
    }
    if !built.names.is_empty() {
        let names: Vec<String> = built.names.iter().map(ToString::to_string).collect();
        said.insert("image.name".to_owned(), names.join(",").into());
    }
    let mut text = serde_json::to_vec_pretty(&said)?;
    text.push(b'\n');
    Ok(text)
}
