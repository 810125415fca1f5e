//! Which containers `ps` shows, and what there is to know of each. How it looks is the command's business.

use crate::container::status::{at_rest, status};
use crate::error::{Context, Error, Result};
use crate::image;
use crate::layer;
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::id::{ChainId, ContainerId, ImageId};
use crate::model::mount::Source;
use crate::model::state::{Phase, Status};
use crate::model::time::Timestamp;
use crate::store::Store;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::Path;

/// A container as lists have it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: ContainerId,
    /// `None` if the record is damaged; the status says why.
    pub(crate) config: Option<ContainerConfig>,
    pub(crate) created: Timestamp,
    pub(crate) status: Status,
    /// Only if it was asked for.
    pub(crate) size: Option<Size>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Bytes the container has written to its own layer.
    pub(crate) own: u64,
    /// These, and those of its image.
    pub(crate) total: u64,
}

impl Entry {
    pub(crate) fn state(&self) -> &'static str {
        state(&self.status)
    }
}

/// Docker's word for what a container does.
pub(crate) fn state(status: &Status) -> &'static str {
    match status {
        Status::Running(live) => match live.phase {
            Phase::Starting => "created",
            Phase::Running { .. } => "running",
            Phase::Restarting { .. } => "restarting",
            Phase::Stopping { .. } => "exited",
        },
        Status::Exited(exit) if exit.started.is_some() => "exited",
        Status::Created | Status::Exited(_) => "created",
        Status::Damaged(_) => "dead",
    }
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// Not only what runs.
    pub(crate) all: bool,
    /// The newest so many, running or not.
    pub(crate) last: Option<usize>,
    pub(crate) filters: Filters,
    /// Find out sizes, which takes a walk through every file.
    pub(crate) size: bool,
}

/// `--filter`: of the values under one key one must match, and every key must; of labels, all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Vec<(String, Vec<Filter>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Id(String),
    Name(String),
    Label(String, Option<String>),
    Exited(u8),
    State(String),
    Ancestor(String),
    Before(String),
    Since(String),
    Volume(String),
    Network(String),
    /// Matches a container that documents the port.
    Expose(String),
    /// Nothing is published, nothing is a task, and nobody's health is known here.
    Constant(bool),
}

impl Filters {
    /// From the `KEY=VALUE` words of the command line.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut filters: Vec<(String, Vec<Filter>)> = Vec::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| Error::usage(format!("invalid filter '{word}': want KEY=VALUE")))?;
            let (key, value) = (key.trim().to_lowercase(), value.trim());
            let filter = Filter::parse(&key, value)?;
            match filters.iter_mut().find(|(k, _)| *k == key && key != "label") {
                Some((_, same)) => same.push(filter),
                None => filters.push((key, vec![filter])),
            }
        }
        Ok(Filters(filters))
    }

    /// Whether they ask for containers that don't run.
    fn ask_for_all(&self) -> bool {
        self.0
            .iter()
            .any(|(key, _)| matches!(key.as_str(), "status" | "exited"))
    }
}

impl Filter {
    fn parse(key: &str, value: &str) -> Result<Self> {
        let bad = || Error::other(format!("invalid filter '{key}={value}'"));
        let text = value.to_owned();
        Ok(match key {
            "id" => Filter::Id(text),
            "name" => Filter::Name(text),
            "label" => match value.split_once('=') {
                Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
                None => Filter::Label(text, None),
            },
            "exited" => Filter::Exited(value.parse().map_err(|_| bad())?),
            "status" => match value {
                "created" | "restarting" | "running" | "removing" | "paused" | "exited" | "dead" => Filter::State(text),
                _ => return Err(bad()),
            },
            "ancestor" => Filter::Ancestor(text),
            "before" => Filter::Before(text),
            "since" => Filter::Since(text),
            "volume" => Filter::Volume(text),
            "network" => Filter::Network(text),
            "publish" => Filter::Constant(false),
            "expose" => Filter::Expose(text),
            "health" => match value {
                "none" => Filter::Constant(true),
                "starting" | "healthy" | "unhealthy" => Filter::Constant(false),
                _ => return Err(bad()),
            },
            "is-task" => match value {
                "true" | "1" => Filter::Constant(false),
                "false" | "0" => Filter::Constant(true),
                _ => return Err(bad()),
            },
            _ => return Err(bad()),
        })
    }
}

/// A filter whose words have been looked up.
enum Test {
    /// Images with these layers at the bottom, or this id.
    Ancestor(Option<(ImageId, Vec<ChainId>)>),
    Before(Timestamp),
    Since(Timestamp),
    As(Filter),
}

impl Test {
    fn of(store: &Store, filter: &Filter) -> Result<Test> {
        let created = |what: &str| Ok::<_, Error>(entry(store, store.resolve_container(what)?).created);
        Ok(match filter {
            Filter::Ancestor(image) => Test::Ancestor(
                image::resolve(store, image)
                    .ok()
                    .map(|record| (record.id, record.layers)),
            ),
            Filter::Before(what) => Test::Before(created(what)?),
            Filter::Since(what) => Test::Since(created(what)?),
            other => Test::As(other.clone()),
        })
    }

    fn matches(&self, entry: &Entry) -> bool {
        let filter = match self {
            Test::Before(time) => return entry.created < *time,
            Test::Since(time) => return entry.created > *time,
            Test::Ancestor(None) => return false,
            Test::Ancestor(Some((id, layers))) => {
                return entry.config.as_ref().is_some_and(|config| {
                    config.image.id == *id || (!layers.is_empty() && config.image.layers.starts_with(layers))
                });
            }
            Test::As(filter) => filter,
        };
        match (filter, &entry.config) {
            (Filter::Id(prefix), _) => entry.id.as_str().starts_with(prefix.as_str()),
            (Filter::State(state), _) => entry.state() == state,
            (Filter::Exited(code), _) => {
                matches!(&entry.status, Status::Exited(exit) if exit.code == *code && entry.state() == "exited")
            }
            (Filter::Constant(always), _) => *always,
            (_, None) => false,
            (Filter::Name(pattern), Some(config)) => name_matches(pattern, &config.name),
            (Filter::Label(key, value), Some(config)) => config
                .labels
                .get(key)
                .is_some_and(|found| value.as_ref().is_none_or(|wanted| wanted == found)),
            (Filter::Volume(wanted), Some(config)) => config.mounts.iter().any(|mount| {
                let is_source = match &mount.source {
                    Source::Volume { name, .. } => name == wanted,
                    Source::Bind { path, .. } => path == Path::new(wanted),
                    Source::Tmpfs { .. } => false,
                };
                is_source || mount.target == Path::new(wanted)
            }),
            (Filter::Network(wanted), Some(config)) => match &config.network {
                NetworkMode::None => wanted == "none",
                NetworkMode::Host => wanted == "host",
                NetworkMode::Container(_) | NetworkMode::Ns(_) => false,
            },
            (Filter::Expose(port), Some(config)) => {
                config.expose.contains(port) || config.expose.contains(&format!("{port}/tcp"))
            }
            (Filter::Ancestor(_) | Filter::Before(_) | Filter::Since(_), Some(_)) => false,
        }
    }
}

/// Docker's patterns are regular expressions, on the name with or without its slash; of these the ones people use:
/// a part of the name, `^` at its start, `$` at its end.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (at_start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |p| (true, p));
    let (at_end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |p| (true, p));
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    match (at_start, at_end) {
        (true, true) => name == pattern,
        (true, false) => name.starts_with(pattern),
        (false, true) => name.ends_with(pattern),
        (false, false) => name.contains(pattern),
    }
}

/// The containers wanted, newest first. A damaged one is among them; it never keeps the others from being listed.
pub(crate) fn list(store: &Store, selection: &Selection) -> Result<Vec<Entry>> {
    let mut tests = Vec::new();
    for (_, filters) in &selection.filters.0 {
        let any = filters.iter().map(|filter| Test::of(store, filter));
        tests.push(any.collect::<Result<Vec<_>>>()?);
    }
    let all = selection.all || selection.last.is_some() || selection.filters.ask_for_all();
    // A container without a run directory has no monitor. Looked at first: one that ends meanwhile has its exit
    // recorded before its run directory goes.
    let live = live_ids(store)?;
    let mut ids = store.container_ids()?;
    ids.retain(|id| all || live.contains(id));
    let look = |id: &ContainerId| {
        let status = if live.contains(id) {
            status(store, id)
        } else {
            at_rest(store, id)
        };
        let wanted = all || matches!(status, Status::Running(_));
        let entry = wanted.then(|| with_status(store, id.clone(), status))?;
        tests
            .iter()
            .all(|any| any.iter().any(|test| test.matches(&entry)))
            .then_some(entry)
    };
    let mut entries = each(&ids, &look);
    entries.sort_by(|a, b| (Reverse(a.created), &a.id).cmp(&(Reverse(b.created), &b.id)));
    entries.truncate(selection.last.unwrap_or(usize::MAX));
    if selection.size {
        for entry in &mut entries {
            entry.size = entry.config.as_ref().and_then(|config| size(store, config).ok());
        }
    }
    Ok(entries)
}

/// The containers that have a run directory, and so may have a monitor.
fn live_ids(store: &Store) -> Result<HashSet<ContainerId>> {
    match std::fs::read_dir(store.run_root()) {
        Ok(names) => Ok(names
            .flatten()
            .filter_map(|e| ContainerId::parse(e.file_name().to_str()?))
            .collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(e) => Err(e).with_context(|| format!("read {}", store.run_root().display())),
    }
}

/// What `look` finds, by several threads if there is much to look at: reading a thousand records is a thousand times
/// the same wait for the kernel.
fn each(ids: &[ContainerId], look: &(dyn Fn(&ContainerId) -> Option<Entry> + Sync)) -> Vec<Entry> {
    const WORTH_A_THREAD: usize = 100;
    let threads = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(8);
    let share = ids.len().div_ceil(threads).max(WORTH_A_THREAD);
    let look_at = |ids: &[ContainerId]| ids.iter().filter_map(look).collect::<Vec<_>>();
    let (first, rest) = ids.split_at(share.min(ids.len()));
    std::thread::scope(|scope| {
        let others: Vec<_> = rest.chunks(share).map(|ids| scope.spawn(|| look_at(ids))).collect();
        let mut entries = look_at(first);
        for other in others {
            entries.extend(other.join().unwrap_or_default());
        }
        entries
    })
}

fn entry(store: &Store, id: ContainerId) -> Entry {
    let status = status(store, &id);
    with_status(store, id, status)
}

fn with_status(store: &Store, id: ContainerId, status: Status) -> Entry {
    match store.config(&id) {
        Ok(config) => Entry {
            created: config.created,
            id,
            config: Some(config),
            status,
            size: None,
        },
        Err(e) => {
            let time = std::fs::metadata(store.container_dir(&id))
                .and_then(|m| m.modified())
                .ok();
            let created = time.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or_default();
            Entry {
                id,
                config: None,
                created,
                status: Status::Damaged(e.to_string()),
                size: None,
            }
        }
    }
}

/// What a container takes on disk, its image included.
pub(crate) fn size(store: &Store, config: &ContainerConfig) -> Result<Size> {
    let upper = store.container_dir(&config.id).join("upper");
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(&upper, flags, rustix::fs::Mode::empty()).context("open upper")?;
    let own = layer::size(std::os::fd::AsFd::as_fd(&fd))?;
    // The image may have been removed by force.
    let image = store.image(&config.image.id).map_or(0, |record| record.size);
    Ok(Size {
        own,
        total: own + image,
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // what is put there need not survive a crash
pub(super) mod testing {
    use super::*;

    /// Spoils a container's record.
    pub(in crate::container) fn damage(store: &Store, id: &ContainerId) {
        std::fs::write(store.container_dir(id).join("config.json"), "{").unwrap();
    }

    /// Puts a container's record into the store, without the image and volumes that making one asks for.
    pub(in crate::container) fn put(store: &Store, config: &ContainerConfig) {
        let dir = store.container_dir(&config.id);
        std::fs::create_dir_all(dir.join("upper")).unwrap();
        std::fs::write(dir.join("config.json"), serde_json::to_vec(config).unwrap()).unwrap();
        let target = format!("../containers/{}", config.id);
        std::os::unix::fs::symlink(target, store.root().join("names").join(&config.name)).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{damage, put};
    use super::*;
    use crate::store::Durability;
    use crate::store::testing::Scratch;
    use serde_json::json;

    /// A container of which only what lists look at is worth having.
    fn config(name: &str, created: &str) -> ContainerConfig {
        serde_json::from_value(json!({
            "id": Store::random_id().unwrap(), "name": name, "created": created,
            "image": {"id": format!("sha256:{}", "cd".repeat(32)), "reference": "debian", "layers": []},
            "process": {
                "entrypoint": [], "cmd": ["sh"], "env": [], "workdir": "/", "user": "",
                "tty": false, "open_stdin": false, "stdin_once": false,
                "attach": {"stdin": false, "stdout": true, "stderr": true},
            },
            "hostname": "x", "labels": {"name": name, "all": ""}, "network": "none", "expose": ["80/tcp"],
            "mounts": [{"source": {"volume": {"name": format!("v-{name}"), "copy_up": true}}, "target": "/data"}],
            "shm_size": 0, "stop_signal": 15, "stop_timeout": 10,
        }))
        .unwrap()
    }

    fn three() -> (Scratch, Vec<ContainerId>) {
        let scratch = Scratch::new();
        let mut ids = Vec::new();
        for (name, created) in [
            ("one", "2026-01-01T00:00:00Z"),
            ("two", "2026-01-02T00:00:00Z"),
            ("twenty", "2026-01-03T00:00:00Z"),
        ] {
            let config = config(name, created);
            put(&scratch, &config);
            ids.push(config.id);
        }
        let exit = r#"{"code": 3, "started": "2026-01-02T00:00:01Z", "finished": "2026-01-02T00:00:02Z"}"#;
        scratch
            .save_exit(&ids[1], &serde_json::from_str(exit).unwrap(), Durability::Volatile)
            .unwrap();
        (scratch, ids)
    }

    fn names(store: &Store, all: bool, words: &[&str]) -> Vec<String> {
        let filters = Filters::parse(words.iter().copied()).unwrap();
        let entries = list(
            store,
            &Selection {
                all,
                filters,
                ..Selection::default()
            },
        )
        .unwrap();
        entries
            .into_iter()
            .map(|e| e.config.map_or("?".to_owned(), |c| c.name))
            .collect()
    }

    #[test]
    fn newest_first_and_running_unless_asked() {
        let (store, _) = three();
        assert_eq!(names(&store, true, &[]), ["twenty", "two", "one"]);
        assert!(names(&store, false, &[]).is_empty());
        let last = list(
            &store,
            &Selection {
                last: Some(2),
                ..Selection::default()
            },
        )
        .unwrap();
        assert_eq!(last.len(), 2);
        assert_eq!(last[0].created.to_string(), "2026-01-03T00:00:00Z");
    }

    #[test]
    fn filters() {
        let (store, ids) = three();
        let one = format!("id={}", ids[0].short());
        for (words, expected) in [
            (&["name=tw"][..], &["twenty", "two"][..]),
            (&["name=^/two$"], &["two"]),
            (&["name=one", "name=two"], &["two", "one"]),
            (&["name=o", "status=exited"], &["two"]),
            (&["label=all", "label=name=one"], &["one"]),
            (&["label=nothing"], &[]),
            (&["exited=3"], &["two"]),
            (&["exited=0"], &[]),
            (&["status=created", "status=exited"], &["twenty", "two", "one"]),
            (&["before=two"], &["one"]),
            (&["since=two"], &["twenty"]),
            (&["volume=v-one"], &["one"]),
            (&["volume=/data"], &["twenty", "two", "one"]),
            (&["network=host"], &[]),
            (&["network=none", "expose=80"], &["twenty", "two", "one"]),
            (&["expose=81/tcp"], &[]),
            (&["ancestor=nothing"], &[]),
            (&["health=none", "is-task=false"], &["twenty", "two", "one"]),
            (&["publish=80"], &[]),
            (&[one.as_str()], &["one"]),
        ] {
            assert_eq!(names(&store, true, words), expected, "{words:?}");
        }
        // What has ended is asked for by these alone.
        assert_eq!(names(&store, false, &["exited=3"]), ["two"]);
        for bad in ["name", "status=up", "exited=x", "colour=red", "health=good"] {
            assert!(Filters::parse([bad]).is_err(), "{bad}");
        }
        let missing = Filters::parse(["before=nobody"]).unwrap();
        assert!(
            list(
                &store,
                &Selection {
                    filters: missing,
                    ..Selection::default()
                }
            )
            .is_err()
        );
    }

    #[test]
    fn a_damaged_container_is_listed() {
        let (store, ids) = three();
        damage(&store, &ids[2]);
        let entries = list(
            &store,
            &Selection {
                all: true,
                ..Selection::default()
            },
        )
        .unwrap();
        let damaged: Vec<_> = entries
            .iter()
            .filter(|e| matches!(e.status, Status::Damaged(_)))
            .collect();
        assert_eq!((entries.len(), damaged.len()), (3, 1));
        assert_eq!((&damaged[0].id, damaged[0].state()), (&ids[2], "dead"));
        assert_eq!(names(&store, true, &["name=o"]), ["two", "one"]);
    }

    #[test]
    fn sizes_are_of_the_containers_own_layer() {
        let (store, ids) = three();
        let path = store.container_dir(&ids[0]).join("upper/file");
        std::fs::File::options()
            .create_new(true)
            .write(true)
            .open(path)
            .unwrap()
            .set_len(1000)
            .unwrap();
        let filters = Filters::parse(["name=one"]).unwrap();
        let entries = list(
            &store,
            &Selection {
                all: true,
                size: true,
                filters,
                last: None,
            },
        )
        .unwrap();
        assert_eq!(entries[0].size, Some(Size { own: 1000, total: 1000 }));
    }
}
