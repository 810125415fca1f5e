//! What `--from=` names: an earlier stage, a named context, an image.

use crate::build::context::{self, Context};
use crate::build::copy::Tree;
use crate::build::layers::{Layers, Top, View};
use crate::build::options::{NamedContext, NamedPlace, Options};
use crate::build::progress::{Event, Progress};
use crate::error::{Context as _, Error, Result};
use crate::image;
use crate::image::pull::Wanted;
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::store::Store;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::rc::Rc;

/// Files that a step reads.
#[derive(Clone)]
pub(crate) enum Source {
    Context(Rc<Context>),
    Layers { top: Top, view: Rc<View> },
}

impl Source {
    pub(crate) fn tree(&self) -> Tree<'_> {
        match self {
            Source::Context(context) => context.tree(),
            Source::Layers { view, .. } => Tree::of(view.as_fd()),
        }
    }

    /// What another process needs of this one's to see the same files.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Source::Context(context) => vec![context.tree().root],
            Source::Layers { view, .. } => view.fds().to_vec(),
        }
    }
}

/// What a base or a `--from` can be besides a stage.
pub(crate) enum Outside {
    Context(Rc<Context>),
    Image(Box<ImageRecord>),
    /// A stage of this Dockerfile, by another name.
    Stage(String),
}

/// Everything that is not in the Dockerfile itself.
pub(crate) struct Sources<'a> {
    store: &'a Store,
    options: &'a Options,
    progress: &'a dyn Progress,
    named: BTreeMap<String, &'a NamedContext>,
    opened: BTreeMap<String, Rc<Context>>,
    images: BTreeMap<(String, Option<Platform>), ImageRecord>,
    pub(crate) main: Rc<Context>,
}

/// A registry's news as the build's.
pub(crate) struct Pulling<'a>(pub(crate) &'a dyn Progress);

impl image::progress::Progress for Pulling<'_> {
    fn event(&self, event: image::progress::Event<'_>) {
        self.0.event(Event::Image(event));
    }
}

impl<'a> Sources<'a> {
    pub(crate) fn new(
        store: &'a Store,
        options: &'a Options,
        progress: &'a dyn Progress,
        main: Rc<Context>,
    ) -> Sources<'a> {
        let named = options.named_contexts.iter().map(|n| (n.name.to_lowercase(), n));
        Sources {
            store,
            options,
            progress,
            named: named.collect(),
            opened: BTreeMap::new(),
            images: BTreeMap::new(),
            main,
        }
    }

    /// By a name that is no stage's.
    pub(crate) fn find(&mut self, name: &str, platform: Option<&Platform>) -> Result<Outside> {
        if let Some(context) = self.opened.get(name) {
            return Ok(Outside::Context(Rc::clone(context)));
        }
        let Some(named) = self.named.get(&name.to_lowercase()).copied() else {
            return Ok(Outside::Image(Box::new(self.image(name, platform)?)));
        };
        match &named.place {
            NamedPlace::Image(image) => Ok(Outside::Image(Box::new(self.image(image, platform)?))),
            NamedPlace::Stage(stage) => Ok(Outside::Stage(stage.clone())),
            NamedPlace::OciLayout { dir, select } => {
                let record = self.layout(dir, select.as_deref(), platform);
                Ok(Outside::Image(Box::new(record.with_context(|| {
                    format!("--build-context {name}: {}", dir.display())
                })?)))
            }
            place => match context::open_named(self.store, place, &self.options.access)? {
                Some(context) => {
                    let context = Rc::new(context);
                    self.opened.insert(name.to_owned(), Rc::clone(&context));
                    Ok(Outside::Context(context))
                }
                None => Err(Error::other(format!(
                    "--build-context {name}: it can't be used as that"
                ))),
            },
        }
    }

    /// An image, pulled if `--pull` or its absence says so.
    pub(crate) fn image(&mut self, name: &str, platform: Option<&Platform>) -> Result<ImageRecord> {
        let key = (name.to_owned(), platform.cloned());
        if let Some(record) = self.images.get(&key) {
            return Ok(record.clone());
        }
        let wanted = Wanted {
            policy: self.options.pull,
            platform: platform.cloned(),
            access: self.options.access.clone(),
        };
        let record = image::pull::ensure(self.store, name, &wanted, &Pulling(self.progress))?;
        self.images.insert(key, record.clone());
        Ok(record)
    }

    /// Out of a layout; for the store it has no name, and the next `image prune` takes it if nothing was made of it.
    fn layout(&mut self, dir: &Path, select: Option<&str>, platform: Option<&Platform>) -> Result<ImageRecord> {
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let text = format!("oci-layout://{}{}", dir.display(), select.unwrap_or_default());
        let key = (text, Some(platform.clone()));
        if let Some(record) = self.images.get(&key) {
            return Ok(record.clone());
        }
        let id = image::load::one_of_layout(self.store, dir, select, &platform, &Pulling(self.progress))?;
        let record = self.store.image(&id)?;
        self.images.insert(key, record.clone());
        Ok(record)
    }

    /// Files of a context or an image.
    pub(crate) fn files(&mut self, layers: &mut Layers<'_>, name: &str) -> Result<Option<Source>> {
        Ok(match self.find(name, None)? {
            Outside::Context(context) => Some(Source::Context(context)),
            Outside::Image(record) => {
                let top = layers.found(&record.layers)?;
                let view = layers.view(top)?;
                Some(Source::Layers { top, view })
            }
            Outside::Stage(_) => None,
        })
    }

    /// What contexts have learnt about their files.
    pub(crate) fn remember(&self) {
        self.main.remember(self.store);
        self.opened.values().for_each(|context| context.remember(self.store));
    }
}
