//! `system df`: the rows, and with `-v` every image, container and volume.

use super::Look;
use super::{container as containers, image as images};
use crate::build::prune::{self, Kept, Thing};
use crate::container::list::{Entry, Selection, list};
use crate::container::prune::used_volumes;
use crate::error::Result;
use crate::image;
use crate::image::disk::{Share, Tally};
use crate::image::list::{Filter, Row};
use crate::layer;
use crate::model::digest::Digest;
use crate::model::state::Status;
use crate::output::listing::{self, Fields, Style, View};
use crate::output::template::Template;
use crate::output::terminal::clean;
use crate::output::units;
use crate::store::Store;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

pub(crate) const VIEW: View = View {
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    id: "Type",
};

pub(crate) const COLUMNS: [&str; 5] = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];

/// Characters of an instruction in a table.
const LONGEST_TEXT: usize = 60;

/// A row.
pub(crate) struct Shown {
    pub(crate) kind: &'static str,
    pub(crate) tally: Tally,
}

impl Fields for Shown {
    fn field(&self, name: &str) -> String {
        let Tally {
            total,
            active,
            size,
            reclaimable,
        } = self.tally;
        match name {
            "Type" => self.kind.to_owned(),
            "TotalCount" => total.to_string(),
            "Active" => active.to_string(),
            "Size" => units::size(size),
            "Reclaimable" => match size {
                0 => units::size(reclaimable),
                size => format!(
                    "{} ({}%)",
                    units::size(reclaimable),
                    u128::from(reclaimable) * 100 / u128::from(size)
                ),
            },
            _ => String::new(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

/// A volume's files, and how many containers mount it.
struct VolumeUse {
    name: String,
    size: u64,
    links: usize,
}

/// All there is to say.
pub(crate) struct Usage {
    images: image::disk::Usage,
    rows: Vec<Row>,
    containers: Vec<Entry>,
    volumes: Vec<VolumeUse>,
    cache: Vec<Kept>,
}

impl Usage {
    pub(crate) fn of(store: &Store) -> Result<Usage> {
        let containers = Selection {
            all: true,
            size: true,
            ..Selection::default()
        };
        let all = Filter {
            all: true,
            ..Filter::default()
        };
        Ok(Usage {
            images: image::disk::usage(store)?,
            rows: image::list::list(store, &all)?,
            containers: list(store, &containers)?,
            volumes: volumes(store)?,
            cache: prune::list(store)?,
        })
    }

    /// Docker's rows, then what it has not.
    pub(crate) fn tallies(&self) -> Vec<(&'static str, Tally)> {
        let mut containers = Tally::default();
        for entry in &self.containers {
            let size = entry.size.map_or(0, |size| size.own);
            let runs = matches!(entry.status, Status::Running(_));
            add(&mut containers, size, runs);
        }
        let mut volumes = Tally::default();
        for volume in &self.volumes {
            add(&mut volumes, volume.size, volume.links > 0);
        }
        let mut all = vec![
            ("Images", self.images.images),
            ("Containers", containers),
            ("Local Volumes", volumes),
            ("Build Cache", prune::tally(&self.cache)),
            ("Blobs", self.images.blobs),
            ("Downloads", self.images.downloads),
        ];
        // Where the kernel can show layers as they are, there are none.
        if self.images.copies.total > 0 {
            all.push(("Layer Copies", self.images.copies));
        }
        all
    }
}

fn add(tally: &mut Tally, size: u64, active: bool) {
    tally.total += 1;
    tally.size += size;
    match active {
        true => tally.active += 1,
        false => tally.reclaimable += size,
    }
}

fn volumes(store: &Store) -> Result<Vec<VolumeUse>> {
    let used: BTreeSet<String> = used_volumes(store)?;
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let size = |name: &str| {
        let dir = rustix::fs::open(store.volume_dir(name), flags, rustix::fs::Mode::empty()).ok()?;
        layer::size(dir.as_fd()).ok()
    };
    let names = store.volume_names()?.into_iter();
    names
        .map(|name| {
            Ok(VolumeUse {
                size: size(&name).unwrap_or(0),
                links: if used.contains(&name) {
                    store.volume_users(&name)?.len()
                } else {
                    0
                },
                name,
            })
        })
        .collect()
}

/// An image's row with what only `df` counts.
struct ImageRow<'a> {
    row: images::Shown<'a>,
    share: Share,
}

impl Fields for ImageRow<'_> {
    fn field(&self, name: &str) -> String {
        match name {
            "SharedSize" => units::size(self.share.shared),
            "UniqueSize" => units::size(self.share.unique),
            "Containers" => self.share.containers.to_string(),
            name => self.row.field(name),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.row.labels()
    }
}

/// A container's row; its size is what it wrote itself.
struct ContainerRow<'a>(containers::Shown<'a>);

impl Fields for ContainerRow<'_> {
    fn field(&self, name: &str) -> String {
        match name {
            "Size" => units::size(self.0.entry.size.map_or(0, |size| size.own)),
            name => self.0.field(name),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.0.labels()
    }
}

const VOLUMES: View = View {
    headings: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    id: "Name",
};

impl Fields for VolumeUse {
    fn field(&self, name: &str) -> String {
        match name {
            "Name" => self.name.clone(),
            "Links" => self.links.to_string(),
            _ => units::size(self.size),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

const CACHE: View = View {
    headings: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("LastUsedSince", "LAST USED"),
        ("InUse", "IN USE"),
        ("Description", "DESCRIPTION"),
    ],
    id: "ID",
};

/// The columns of `builder du`, and after them what only templates ask for.
pub(crate) const KEPT: View = View {
    headings: &[
        ("ID", "ID"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Size", "SIZE"),
        ("LastUsedSince", "LAST ACCESSED"),
        ("CacheType", "TYPE"),
        ("Mutable", "MUTABLE"),
        ("Shared", "SHARED"),
        ("InUse", "IN USE"),
        ("Description", "DESCRIPTION"),
    ],
    id: "ID",
};

pub(crate) const KEPT_COLUMNS: [&str; 4] = ["ID", "Reclaimable", "Size", "LastUsedSince"];

/// What a build has kept, with docker's words for its kinds.
pub(crate) struct CacheRow<'a> {
    pub(crate) kept: &'a Kept,
    pub(crate) look: &'a Look,
}

impl CacheRow<'_> {
    /// Of `builder du --verbose`.
    pub(crate) fn block(&self) -> String {
        let lines = [
            ("ID", "ID"),
            ("Mutable", "Mutable"),
            ("Reclaimable", "Reclaimable"),
            ("Shared", "Shared"),
            ("Size", "Size"),
            ("Description", "Description"),
            ("Last used", "LastUsedSince"),
            ("Type", "CacheType"),
        ];
        let line = |(title, field): (&str, &str)| format!("{title}:\t{}\n", self.field(field));
        lines.map(line).concat() + "\n"
    }
}

impl Fields for CacheRow<'_> {
    fn field(&self, name: &str) -> String {
        let (id, kind, text) = match &self.kept.what {
            Thing::Step(step) => (step.key.whole.hex(), "regular", &step.record.description),
            Thing::Mount(mount) => (
                Digest::of(mount.path.as_os_str().as_encoded_bytes()).hex(),
                "exec.cachemount",
                &mount.id,
            ),
        };
        match name {
            "ID" => id.chars().take(crate::model::id::SHORT).collect(),
            "CacheType" => kind.to_owned(),
            "Size" => units::size(self.kept.size),
            "LastUsedSince" => self.look.ago(self.kept.last_used),
            "InUse" => self.kept.in_use.to_string(),
            "Reclaimable" => (!self.kept.in_use).to_string(),
            // An image's layer: then it is not the cache that keeps it.
            "Shared" => (self.kept.in_use && matches!(self.kept.what, Thing::Step(_))).to_string(),
            "Mutable" => matches!(self.kept.what, Thing::Mount(_)).to_string(),
            "Description" => clean(text).chars().take(LONGEST_TEXT).collect(),
            _ => String::new(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

/// One table after the other, or a template (or `json`) for the whole.
pub(crate) fn verbose(usage: &Usage, look: &Look, format: Option<&str>) -> Result<String> {
    let share = |row: &Row| usage.images.shares.get(&row.id).copied().unwrap_or_default();
    let rows = usage.rows.iter().map(|row| ImageRow {
        row: images::Shown { image: row, look },
        share: share(row),
    });
    let images: Vec<_> = rows.collect();
    let containers: Vec<_> = usage
        .containers
        .iter()
        .map(|entry| ContainerRow(containers::Shown { entry, look }))
        .collect();
    let cache: Vec<_> = usage.cache.iter().map(|kept| CacheRow { kept, look }).collect();
    match format.filter(|format| !format.trim().is_empty() && format.trim() != "table") {
        Some(format) => {
            let all = json!({
                "Images": objects(&images::VIEW, &images),
                "Containers": objects(&containers::VIEW, &containers),
                "Volumes": objects(&VOLUMES, &usage.volumes),
                "BuildCache": objects(&CACHE, &cache),
            });
            Ok(match format.trim() {
                "json" => format!("{all}\n"),
                template => Template::parse(template)?.render(&all)? + "\n",
            })
        }
        None => {
            let image_columns = [
                "Repository",
                "Tag",
                "ID",
                "CreatedSince",
                "Size",
                "SharedSize",
                "UniqueSize",
                "Containers",
            ];
            let container_columns = [
                "ID",
                "Image",
                "Command",
                "LocalVolumes",
                "Size",
                "RunningFor",
                "Status",
                "Names",
            ];
            let mut out = Vec::new();
            out.extend_from_slice(b"Images space usage:\n\n");
            table(&images::VIEW, &images, &image_columns, &mut out)?;
            out.extend_from_slice(b"\nContainers space usage:\n\n");
            table(&containers::VIEW, &containers, &container_columns, &mut out)?;
            out.extend_from_slice(b"\nLocal Volumes space usage:\n\n");
            table(&VOLUMES, &usage.volumes, &["Name", "Links", "Size"], &mut out)?;
            let size = units::size(prune::tally(&usage.cache).size);
            out.extend_from_slice(format!("\nBuild cache usage: {size}\n\n").as_bytes());
            if !cache.is_empty() {
                let columns = CACHE.headings.iter().map(|(name, _)| *name);
                table(&CACHE, &cache, &columns.collect::<Vec<_>>(), &mut out)?;
                out.push(b'\n');
            }
            let (blobs, downloads) = (
                units::size(usage.images.blobs.size),
                units::size(usage.images.downloads.size),
            );
            out.extend_from_slice(format!("Blobs usage: {blobs}\n\nDownloads usage: {downloads}\n").as_bytes());
            Ok(String::from_utf8_lossy(&out).into_owned())
        }
    }
}

fn table<T: Fields>(view: &View, rows: &[T], columns: &[&str], out: &mut Vec<u8>) -> Result<()> {
    let style = Style {
        format: None,
        quiet: false,
        columns,
        terminal: false,
    };
    listing::list(view, rows, style, out)
}

fn objects<T: Fields>(view: &View, rows: &[T]) -> Vec<Value> {
    let object = |row: &T| -> Value {
        let fields = view
            .headings
            .iter()
            .map(|(name, _)| ((*name).to_owned(), row.field(name).into()));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    rows.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row() {
        let row = |size, reclaimable| Shown {
            kind: "Images",
            tally: Tally {
                total: 5,
                active: 2,
                size,
                reclaimable,
            },
        };
        let text = |row: Shown| COLUMNS.map(|column| row.field(column)).join(" ");
        assert_eq!(text(row(16_430_000, 11_630_000)), "Images 5 2 16.4MB 11.6MB (70%)");
        assert_eq!(text(row(0, 0)), "Images 5 2 0B 0B");
        assert_eq!(text(row(u64::MAX, u64::MAX)), "Images 5 2 18.4EB 18.4EB (100%)");
    }
}
