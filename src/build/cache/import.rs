//! `--cache-from`: what other engines have made. Nothing is asked of a registry before a step is missing here; then the
//! records of every cache are read, and no layer before its files are needed.
//!
//! A record is believed as to which layer a step makes, since nobody could check that without making it; so a cache is
//! to be trusted as a base image is. What is fetched for it is the layer of that digest or nothing. A record says no
//! more than that, and is never kept: without `--cache-from` the step is as unknown as before.
//!
//! A cache that can't be read is told of, and is none. Where the files of a cached step are needed and can't be had, the
//! build begins again, and believes less: first only in steps whose layers a cache has, then in none.

use crate::build::options::CachePlace;
use crate::build::progress::{Event, Progress};
use crate::build::sources::Pulling;
use crate::error::{Context as _, Error, Result};
use crate::format::cache::{self, Cache, Found, Step};
use crate::format::descriptor::Descriptor;
use crate::format::{self, MAX_BYTES, layout, media};
use crate::image::{load, pull};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId};
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::registry::{Access, Action, Remote, Selector};
use crate::store::{StepKey, Store};
use crate::sys::stop_point;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Tags of a repository that was named without one: what `--cache-to` writes there, and an image that carries its cache.
pub(crate) const REPOSITORY_TAGS: [&str; 2] = ["buildcache", "latest"];

/// All caches of a build.
pub(crate) struct Imports<'a> {
    store: &'a Store,
    access: &'a Access,
    progress: &'a dyn Progress,
    places: &'a [CachePlace],
    platforms: Vec<Platform>,
    opened: OnceCell<Vec<Opened>>,
    belief: RefCell<Belief>,
}

/// How much is believed, and why it has to be less.
#[derive(Debug, Default)]
struct Belief {
    level: Level,
    lost: Option<(Level, Error)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Level {
    #[default]
    All,
    /// Steps whose layers some cache has.
    WithLayers,
    Nothing,
}

struct Opened {
    shown: String,
    from: From,
    steps: HashMap<StepKey, Step>,
    families: HashSet<Digest>,
    layers: HashMap<DiffId, Descriptor>,
}

enum From {
    Registry(Box<Remote>),
    Layout(PathBuf),
    /// An image that is here: so are its layers.
    Here,
}

/// A layer that is wanted: its parent, and what it is.
pub(crate) type Wanted = (Option<ChainId>, DiffId);

/// The same, and what a cache has it as.
type Fetched = (Option<ChainId>, DiffId, Descriptor);

impl<'a> Imports<'a> {
    pub(crate) fn new(
        store: &'a Store,
        (places, access): (&'a [CachePlace], &'a Access),
        platforms: Vec<Platform>,
        progress: &'a dyn Progress,
    ) -> Imports<'a> {
        Imports {
            store,
            access,
            progress,
            places,
            platforms,
            opened: OnceCell::new(),
            belief: RefCell::default(),
        }
    }

    fn opened(&self) -> &[Opened] {
        if self.places.is_empty() || self.belief.borrow().level == Level::Nothing {
            return &[];
        }
        self.opened.get_or_init(|| {
            let mut all = Vec::new();
            for place in self.places {
                match self.open(place) {
                    Ok(opened) => all.push(opened),
                    Err(e) => {
                        let why = e.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
                        self.tell(&format!("--cache-from {}: {e}{why}", place.shown()));
                    }
                }
            }
            all
        })
    }

    fn tell(&self, text: &str) {
        self.progress.event(Event::Notice(text));
    }

    /// Whether any step of the family is known.
    pub(crate) fn has_family(&self, family: &Digest) -> bool {
        self.opened().iter().any(|cache| cache.families.contains(family))
    }

    /// What a step is said to have made.
    pub(crate) fn step(&self, key: &StepKey) -> Option<Step> {
        let level = self.belief.borrow().level;
        let believed = |step: &&Step| match (level, &step.layer) {
            (Level::WithLayers, Some(diff_id)) => self.descriptor(diff_id).is_some(),
            _ => true,
        };
        let caches = self.opened().iter();
        caches.filter_map(|cache| cache.steps.get(key)).find(believed).cloned()
    }

    /// What a cache has a layer as.
    pub(crate) fn descriptor(&self, diff_id: &DiffId) -> Option<&Descriptor> {
        self.opened().iter().find_map(|cache| cache.layers.get(diff_id))
    }

    /// Brings layers, each with its parent before it or in place. They are claimed.
    pub(crate) fn bring(&self, wanted: &[Wanted]) -> Result<()> {
        let mut batches: Vec<(&Opened, Vec<Fetched>)> = Vec::new();
        for (parent, diff_id) in wanted {
            if self.store.has_layer(&ChainId::of(*parent, *diff_id)) {
                continue;
            }
            let found = self
                .opened()
                .iter()
                .find_map(|cache| Some((cache, cache.layers.get(diff_id)?)));
            let Some((cache, descriptor)) = found else {
                let e = Error::other("the files of a cached step are needed, and no cache has them");
                return Err(self.lose(Level::WithLayers, e));
            };
            let layer = (*parent, *diff_id, descriptor.clone());
            match batches.last_mut() {
                Some((last, batch)) if std::ptr::eq(*last, cache) => batch.push(layer),
                _ => batches.push((cache, vec![layer])),
            }
        }
        for (cache, layers) in batches {
            let progress = Pulling(self.progress);
            let brought = match &cache.from {
                From::Registry(remote) => pull::bring_layers(self.store, remote, &layers, &progress),
                From::Layout(dir) => load::bring_layers(self.store, dir, &layers, &progress),
                From::Here => Err(Error::other("its layers have been removed")),
            };
            brought
                .with_context(|| format!("--cache-from {}", cache.shown))
                .map_err(|e| self.lose(Level::Nothing, e))?;
        }
        stop_point("cache-brought");
        Ok(())
    }

    fn lose(&self, level: Level, e: Error) -> Error {
        self.belief.borrow_mut().lost = Some((level, e.clone()));
        e
    }

    /// After a build has failed: whether it was for want of a cached layer. Then less is believed, and it is told.
    pub(crate) fn retreat(&self) -> bool {
        let Some((level, e)) = self.belief.borrow_mut().lost.take() else {
            return false;
        };
        self.belief.borrow_mut().level = level;
        self.tell(&format!("{e}: the build begins again without"));
        true
    }

    fn open(&self, place: &CachePlace) -> Result<Opened> {
        let (from, cache) = match place {
            CachePlace::Registry(name) => self.registry(name)?,
            CachePlace::Repository(name) => {
                let tagged = |tag: &str| Reference {
                    tag: Some(tag.to_owned()),
                    ..name.clone()
                };
                let [first, second] = REPOSITORY_TAGS.map(tagged);
                match self.registry(&first) {
                    Ok(found) => found,
                    Err(e) => self.registry(&second).map_err(|_| e)?,
                }
            }
            CachePlace::Local { dir, select } => {
                let cache = self.layout(dir, select.as_deref())?;
                (From::Layout(dir.clone()), cache)
            }
        };
        let mut opened = Opened {
            shown: place.shown(),
            from,
            steps: HashMap::new(),
            families: HashSet::new(),
            layers: cache.layers,
        };
        for step in cache.steps {
            opened.families.insert(step.family);
            for whole in &step.keys {
                let key = StepKey {
                    family: step.family,
                    whole: *whole,
                };
                opened.steps.entry(key).or_insert_with(|| step.clone());
            }
        }
        Ok(opened)
    }

    fn registry(&self, name: &Reference) -> Result<(From, Cache)> {
        let fetched = Remote::open(name, Action::Pull, self.access).and_then(|remote| {
            let cache = self.fetch(&remote, name)?;
            Ok((From::Registry(Box::new(remote)), cache))
        });
        fetched.or_else(|e| self.here(name).map(|cache| (From::Here, cache)).ok_or(e))
    }

    fn fetch(&self, remote: &Remote, name: &Reference) -> Result<Cache> {
        let manifest = |which: Selector<'_>| {
            let fetched = remote.fetch_manifest(which, media::ACCEPT)?;
            cache::parse(&fetched.bytes, fetched.media_type.as_deref())
        };
        let mut found = manifest(Selector::of(name))?;
        if let Found::Index(index) = &found {
            found = manifest(Selector::Digest(&self.chosen(index)?))?;
        }
        read(found, &mut |wanted| remote.fetch_blob(&wanted.digest, MAX_BYTES))
    }

    /// An image of this engine that carries its cache.
    fn here(&self, name: &Reference) -> Option<Cache> {
        let id = self.store.tags().ok()?.get(name)?;
        let image = self.store.image(&id).ok()?;
        let records = image.annotations.get(cache::INLINE)?;
        cache::complete(records.as_bytes(), Vec::new(), Some(&[])).ok()
    }

    fn layout(&self, dir: &Path, select: Option<&str>) -> Result<Cache> {
        let read_file = |path: &str| {
            let bytes = load::read_layout(self.store, dir, path)?;
            bytes.ok_or_else(|| Error::not_found(format!("{}: no such file", dir.join(path).display())))
        };
        let index = layout::parse_index(&read_file(layout::INDEX)?).context(layout::INDEX)?;
        let chosen = layout::chosen(&index, select).next();
        let chosen = chosen.ok_or_else(|| {
            Error::not_found(format!("it has no cache {}", select.unwrap_or(":latest")))
                .with_hint("the tag is the one given to --cache-to")
        })?;
        let blob = |wanted: &Descriptor| -> Result<Vec<u8>> {
            checked(wanted, read_file(&layout::blob_path(&wanted.digest))?)
        };
        let mut found = cache::parse(&blob(chosen)?, Some(&chosen.media_type))?;
        if let Found::Index(index) = &found {
            let digest = self.chosen(index)?;
            found = cache::parse(&read_file(&layout::blob_path(&digest))?, None)?;
        }
        read(found, &mut |wanted| read_file(&layout::blob_path(&wanted.digest)))
    }

    /// Of an image for several platforms.
    fn chosen(&self, index: &format::manifest::Index) -> Result<Digest> {
        let first = self.platforms.first().cloned().unwrap_or_else(Platform::host);
        let entry = index.choose(&first).ok_or_else(|| index.none_for(&first))?;
        Ok(entry.digest)
    }
}

/// Reads what a manifest names.
fn read(found: Found, blob: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>>) -> Result<Cache> {
    let mut bounded = |wanted: &Descriptor| -> Result<Vec<u8>> {
        if wanted.size > MAX_BYTES as u64 {
            return Err(Error::other(format!(
                "its records have {} bytes, at most {MAX_BYTES}",
                wanted.size
            )));
        }
        checked(wanted, blob(wanted)?)
    };
    match found {
        Found::Cache { config, layers } => cache::complete(&bounded(&config)?, layers, None),
        Found::Image {
            config,
            layers,
            records,
        } => {
            let config = format::config::parse(&bounded(&config)?)?;
            cache::complete(records.as_bytes(), layers, Some(&config.rootfs.diff_ids))
        }
        Found::Index(_) => Err(Error::other("an index in an index")),
    }
}

fn checked(wanted: &Descriptor, bytes: Vec<u8>) -> Result<Vec<u8>> {
    match Digest::of(&bytes) == wanted.digest {
        true => Ok(bytes),
        false => Err(Error::other(format!("{}: it is damaged", wanted.digest))),
    }
}
