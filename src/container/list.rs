//! Which containers `ps` shows, and what there is to know of each. How it looks is the command's business.

use crate::container::diff;
use crate::container::filter::Filters;
use crate::container::status::{status, status_without_monitor};
use crate::error::{Context, Result};
use crate::layer;
use crate::model::bytes::ByteString;
use crate::model::container::{ImageUse, NetworkMode};
use crate::model::driver::Driver;
use crate::model::id::ContainerId;
use crate::model::mount::Mount;
use crate::model::port::Publish;
use crate::model::state::{Phase, Status};
use crate::model::time::Timestamp;
use crate::store::{Store, file};
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A container as lists have it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: ContainerId,
    /// `None` if the record is damaged; the status says why.
    pub(crate) summary: Option<Box<Summary>>,
    pub(crate) created: Timestamp,
    pub(crate) status: Status,
    /// Only if it was asked for.
    pub(crate) size: Option<Size>,
}

/// The part of a `ContainerConfig` that lists show: half the work of reading all of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) image: ImageUse,
    pub(crate) process: Words,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) network: NetworkMode,
    #[serde(default)]
    pub(crate) mounts: Vec<Mount>,
    #[serde(default)]
    pub(crate) expose: BTreeSet<String>,
    #[serde(default)]
    pub(crate) publish: Vec<Publish>,
    #[serde(default)]
    build: Option<serde::de::IgnoredAny>,
}

/// What is executed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Words {
    entrypoint: Vec<ByteString>,
    cmd: Vec<ByteString>,
}

impl Words {
    pub(crate) fn argv(&self) -> impl Iterator<Item = &ByteString> {
        self.entrypoint.iter().chain(&self.cmd)
    }
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
            Phase::Running { .. } if live.paused => "paused",
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
    /// Those of builds as well.
    pub(crate) external: bool,
    /// Find out sizes, which takes a walk through every file.
    pub(crate) size: bool,
}

/// The containers wanted, newest first. A damaged one is among them; it never keeps the others from being listed.
pub(crate) fn list(store: &Store, selection: &Selection) -> Result<Vec<Entry>> {
    let tests = selection.filters.resolve(store)?;
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
            status_without_monitor(store, id)
        };
        if !all && !matches!(status, Status::Running(_)) {
            return None;
        }
        let shown = |e: &Entry| selection.external || e.summary.as_ref().is_none_or(|s| s.build.is_none());
        with_status(store, id.clone(), status).filter(|entry| shown(entry) && tests.pass(entry))
    };
    let mut entries = each(&ids, &look);
    entries.sort_by(|a, b| (Reverse(a.created), &a.id).cmp(&(Reverse(b.created), &b.id)));
    entries.truncate(selection.last.unwrap_or(usize::MAX));
    if selection.size {
        for entry in &mut entries {
            entry.size = entry
                .summary
                .as_ref()
                .and_then(|summary| size(store, &entry.id, &summary.image).ok());
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
    const WORTH_A_THREAD: usize = 40;
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

/// `None` if it is gone by now.
pub(super) fn entry(store: &Store, id: ContainerId) -> Option<Entry> {
    let status = status(store, &id);
    with_status(store, id, status)
}

fn with_status(store: &Store, id: ContainerId, status: Status) -> Option<Entry> {
    let dir = store.container_dir(&id);
    let why = match file::read_json::<Summary>(&dir.join("config.json")) {
        Ok(Some(summary)) => {
            let (created, summary) = (summary.created, Some(Box::new(summary)));
            return Some(Entry {
                id,
                summary,
                created,
                status,
                size: None,
            });
        }
        Ok(None) => "config.json is missing".to_owned(),
        Err(e) => e.to_string(),
    };
    let time = std::fs::metadata(&dir).ok()?.modified().ok();
    let created = time.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or_default();
    Some(Entry {
        id,
        summary: None,
        created,
        status: Status::Damaged(why),
        size: None,
    })
}

/// What a container takes on disk, its image included.
pub(crate) fn size(store: &Store, id: &ContainerId, image: &ImageUse) -> Result<Size> {
    let changes = match store.driver()? {
        Some(Driver::Copy) => diff::size_in_copy(store, id)?,
        _ => {
            let upper = store.upper_dir(id);
            let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            let fd = rustix::fs::open(&upper, flags, rustix::fs::Mode::empty()).context("open upper")?;
            layer::size(std::os::fd::AsFd::as_fd(&fd))?
        }
    };
    // What commits have made of its changes lies beside them, and is the container's still.
    let committed = image.layers.iter().rev().take(image.committed);
    let committed: u64 = committed.map(|layer| store.layer(layer).map_or(0, |l| l.size)).sum();
    let own = changes + committed;
    // The image may have been removed by force.
    let image = store.image(&image.id).map_or(0, |record| record.size);
    Ok(Size {
        own,
        total: own + image,
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // what is put there need not survive a crash
pub(super) mod testing {
    use super::*;
    use crate::model::container::ContainerConfig;

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
    use crate::model::container::ContainerConfig;
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
            .map(|e| e.summary.map_or("?".to_owned(), |s| s.name))
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
                external: false,
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
