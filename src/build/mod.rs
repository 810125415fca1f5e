//! Dockerfile → image.
//!
//! ```text
//!   options                 what was asked
//!   context, ignore, git, url    files that instructions may ask for, and the Dockerfile's text
//!   lexer, parser, instruction, place    text → instructions, each with its place
//!   expand                  variables
//!   lint                    what parses but is likely not meant
//!   plan                    which stages, in which order
//!   solve, stage, state     executes them: one thread, many containers
//!   run, mounts, files, copy     what instructions do
//!   layers, task            layers on their way into the store, hashed beside the build
//!   finish, squash          stage → image
//!   progress                what a build tells about itself
//! ```

#![allow(dead_code)]

pub(crate) mod compat;
mod content;
pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod expand;
pub(crate) mod export;
mod files;
mod finish;
mod git;
mod heredoc;
mod ignore;
pub(crate) mod instruction;
mod layers;
mod lexer;
pub(crate) mod lint;
mod mounts;
pub(crate) mod options;
pub(crate) mod parser;
mod pattern;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod progress;
mod solve;
mod sources;
mod squash;
mod stage;
mod state;
mod task;
mod url;
mod words;

use crate::container::driver;
use crate::error::Result;
use crate::model::id::ImageId;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::store::Store;
use context::Asked;
use expand::{Globals, Platforms};
use options::{Options, Output};
use progress::{Event, Progress};
use solve::Solver;
use sources::Sources;

/// What a build has made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Built {
    /// One per platform; none where no image was wanted.
    pub(crate) ids: Vec<ImageId>,
    pub(crate) names: Vec<Reference>,
}

/// Builds what the options ask for. When it returns, the image survives a power cut.
pub(crate) fn build(store: &Store, options: &Options, progress: &dyn Progress) -> Result<Built> {
    driver::needs_overlay(store, "build")?;
    store.sweep_left_overs()?;
    let opened = context::open(
        store,
        &Asked {
            place: &options.context,
            dockerfile: &options.dockerfile,
            ignore_file: options.ignore_file.as_deref(),
            access: &options.access,
            keep_git_dir: options
                .args
                .get("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
                .is_some_and(|v| v == "1"),
        },
    )?;
    let dockerfile = parser::parse(&opened.dockerfile.name, &opened.dockerfile.text)?;
    let mut sources = Some(Sources::new(store, options, progress, opened.context));
    let mut platforms = options.platforms.clone();
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    let names = names(options);
    let mut built = Built::default();
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
        let again = sources.take();
        let sources = again.ok_or_else(|| crate::error::Error::other("only one platform at a time"))?;
        let mut solver = Solver::new(store, options, progress, &dockerfile, sources, platform.clone())?;
        let mut target = solver.solve(&plan, &globals)?;
        let created = options.time.created.unwrap_or_else(Timestamp::now);
        finish::decorate(&mut target, options, created);
        let kept = finish::Kept {
            names: &names,
            one_of_several: platforms.len() > 1,
        };
        built
            .ids
            .push(finish::image(store, &mut solver.layers, target, options, &kept)?);
    }
    built.names = names;
    if let (Some(path), Some(id)) = (&options.iid_file, built.ids.first()) {
        finish::write_file(path, id.to_string().as_bytes())?;
    }
    let id = built.ids.first().map(ToString::to_string);
    progress.event(Event::Built {
        id: id.as_deref(),
        names: &built.names,
    });
    Ok(built)
}

/// What the image is to be called.
fn names(options: &Options) -> Vec<Reference> {
    let mut all = options.tags.clone();
    for output in &options.outputs {
        if let Output::Image { names, .. } = output {
            all.extend(names.iter().cloned());
        }
    }
    all
}
