//! What happens in a build, as it happens; never how it looks (`output/build_progress.rs` draws it).

use crate::error::Error;
use crate::image;
use crate::model::reference::Reference;
use std::time::Duration;

/// Told by the solver. Several stages tell at once.
pub(crate) trait Progress: Sync {
    fn event(&self, event: Event<'_>);

    /// How often [`Progress::tick`] is wanted while nothing happens. There is no thread for it: the build forks.
    fn pace(&self) -> Option<Duration> {
        None
    }

    fn tick(&self) {}
}

pub(crate) enum Event<'a> {
    /// The first one: what will be done. Again when ONBUILD triggers have made more of it.
    Plan(&'a Outline),
    /// Something about one step.
    Step { step: StepNumber, change: Change<'a> },
    /// A line about the whole, in docker's words: `# Executing 2 build triggers`, `[Warning] One or more build-args …`.
    Line(&'a str),
    /// What is likely not meant in the Dockerfile.
    Warning(&'a str),
    /// What the person should know although nothing went wrong for good. Shown even with `-q`.
    Notice(&'a str),
    /// A base image, or an image that is pushed.
    Image(image::progress::Event<'a>),
    /// The end: the image's full id (none for `--output local` and the like), and its new names.
    Built {
        id: Option<&'a str>,
        names: &'a [Reference],
    },
}

/// Stages in the order in which they were planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) stages: Vec<OutlineStage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutlineStage {
    /// Its index in the Dockerfile.
    pub(crate) index: usize,
    pub(crate) name: Option<String>,
    /// The platform, where several are built.
    pub(crate) platform: Option<String>,
    /// The instructions, `FROM` first, as written.
    pub(crate) steps: Vec<String>,
}

/// Which step of the outline: both from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StepNumber {
    /// Position in [`Outline::stages`].
    pub(crate) stage: usize,
    /// Position in its steps.
    pub(crate) step: usize,
}

/// What became of a step. `Started`, then any of the middle ones, then exactly one of `Done`, `Cached`, `Failed`,
/// `Canceled`. A cached step may come without `Started`.
#[derive(Debug, Clone)]
pub(crate) enum Change<'a> {
    Started,
    /// A container runs it: its id.
    Running(&'a str),
    /// What it wrote.
    Output {
        stream: Stream,
        bytes: &'a [u8],
    },
    /// Something is copied or fetched. `what` is a word or two.
    Transfer {
        what: &'a str,
        done: u64,
        total: Option<u64>,
    },
    /// Its container was removed: the id.
    Removed(&'a str),
    /// It ended well. `id` is the image that a FROM has found: what is between it and the built image has layers and
    /// keys, but no image, so no id that another command would know.
    Done {
        id: Option<&'a str>,
        took: Duration,
    },
    Cached,
    Failed(&'a Error),
    /// Something else failed, or the person lost patience.
    Canceled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}
