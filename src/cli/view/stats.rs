//! What containers use, as `stats` shows it.

use crate::container::stats::Reading;
use crate::model::id::SHORT;
use crate::output::listing::{Fields, View};
use crate::output::units;
use std::collections::BTreeMap;

pub(crate) const VIEW: View = View {
    headings: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    id: "ID",
};

pub(crate) const COLUMNS: [&str; 8] = [
    "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs",
];

pub(crate) struct Shown<'a> {
    pub(crate) reading: &'a Reading,
    /// The one before, if there is one.
    pub(crate) before: Option<&'a Reading>,
    /// What it was called on the command line.
    pub(crate) typed: Option<&'a str>,
    /// Memory of the machine, bytes.
    pub(crate) memory: u64,
    pub(crate) short: bool,
}

impl Fields for Shown<'_> {
    fn field(&self, name: &str) -> String {
        let id = self.reading.id.as_str();
        let stats = self.reading.used.as_ref().map(|used| used.stats).unwrap_or_default();
        let (received, sent) = self
            .reading
            .used
            .as_ref()
            .map_or((0, 0), |used| (used.received, used.sent));
        let limit = match &self.reading.used {
            Some(_) => stats.memory_limit.unwrap_or(self.memory).min(self.memory),
            None => 0,
        };
        match name {
            "Container" if self.typed.is_some() => self.typed.unwrap_or_default().to_owned(),
            "ID" | "Container" if self.short => id[..SHORT].to_owned(),
            "ID" | "Container" => id.to_owned(),
            "Name" => self.reading.name.clone(),
            "CPUPerc" => format!("{:.2}%", self.reading.cpus(self.before) * 100.0),
            "MemUsage" => format!("{} / {}", units::binary_size(stats.memory), units::binary_size(limit)),
            "MemPerc" => format!("{:.2}%", percent(stats.memory, limit)),
            "NetIO" => format!("{} / {}", units::size(received), units::size(sent)),
            "BlockIO" => format!("{} / {}", units::size(stats.read), units::size(stats.written)),
            "PIDs" => stats.pids.to_string(),
            _ => String::new(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

// Exact up to 2^53 bytes, and two digits are shown.
#[allow(clippy::cast_precision_loss)]
fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 * 100.0 / whole as f64,
    }
}
