//! What happens on the way of an image, as it happens; never how it looks (`output/progress.rs` draws it).

/// Told by pull, push and load. Several threads tell at once.
pub(crate) trait Progress: Sync {
    fn event(&self, event: Event<'_>);
}

pub(crate) enum Event<'a> {
    /// A line of the command's own output, in docker's words.
    Line(&'a str),
    /// What the person should know although nothing went wrong for good.
    Notice(&'a str),
    /// Something about a layer; `id` is the first 12 digits of its digest.
    Layer { id: &'a str, step: Step<'a> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// It will be fetched.
    Waiting,
    /// Another process fetches it.
    Elsewhere,
    Downloading {
        done: u64,
        total: Option<u64>,
    },
    /// All of it is here, and is what it should be.
    Downloaded,
    Complete,
    /// It was there.
    Exists,
    Preparing,
    /// `total`: once it is compressed.
    Pushing {
        done: u64,
        total: Option<u64>,
    },
    Pushed,
    PushExists,
    /// The registry has it in that repository.
    Mounted(&'a str),
    /// Read from an archive.
    Loading {
        done: u64,
        total: Option<u64>,
    },
    Loaded,
}

/// For who wants to know nothing.
pub(crate) struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// The steps of one layer.
pub(crate) struct Layer<'a> {
    pub(super) progress: &'a dyn Progress,
    pub(super) id: String,
}

impl<'a> Layer<'a> {
    pub(crate) fn new(progress: &'a dyn Progress, hex: &str) -> Layer<'a> {
        Layer {
            progress,
            id: hex.chars().take(crate::model::id::SHORT).collect(),
        }
    }

    pub(crate) fn step(&self, step: Step<'_>) {
        self.progress.event(Event::Layer { id: &self.id, step });
    }
}
