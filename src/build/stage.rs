//! One stage of a build as it is executed: its image so far, its files so far, and the instructions that are left.

use crate::build::copy::Request;
use crate::build::expand::Scope;
use crate::build::instruction::Statement;
use crate::build::layers::{LayerRef, Made, Top};
use crate::build::mounts::Prepared;
use crate::build::progress::StepNumber;
use crate::build::solve::CopyKey;
use crate::build::sources::Source;
use crate::build::state::{Said, State};
use crate::build::task::Task;
use crate::container::step::RunningStep;
use crate::model::digest::Digest;
use crate::model::id::ImageId;
use crate::model::platform::Platform;
use crate::store::{StagedLayer, StepLock};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Instant;

/// A stage that has begun.
pub(crate) struct Stage {
    pub(crate) state: State,
    pub(crate) scope: Scope,
    pub(crate) top: Top,
    /// The layers that entries of the history have made; an entry whose layer changes nothing has none.
    pub(crate) made: Vec<(usize, LayerRef)>,
    /// The base image, if it is one of the store.
    pub(crate) base: Option<ImageId>,
    /// How many layers of the tree are the base's, and how many entries of the history.
    pub(crate) base_history: usize,
    pub(crate) base_top: Top,
    /// What is known by the id of a step.
    pub(crate) id: Digest,
}

pub(crate) enum Phase {
    /// Waits for the stages that it needs.
    Waiting,
    Ready,
    Running(Box<Running>),
    Copying(Box<Copying>),
    /// Another build makes the next step.
    Blocked(Box<Blocked>),
    Done,
}

/// A stage of the plan.
pub(crate) struct Slot {
    /// In the Dockerfile.
    pub(crate) index: usize,
    pub(crate) platform: Platform,
    pub(crate) needs: BTreeSet<usize>,
    pub(crate) phase: Phase,
    /// With their numbers in the outline.
    pub(crate) todo: VecDeque<(StepNumber, Statement)>,
    pub(crate) stage: Option<Stage>,
    /// Nothing is taken from the cache.
    pub(crate) no_cache: bool,
    /// The lock that was waited for.
    pub(crate) lock: Option<StepLock>,
}

/// A step that is being made elsewhere.
pub(crate) struct Blocked {
    pub(crate) lock: StepLock,
    /// Ends when the lock is this build's.
    pub(crate) task: Task,
}

/// A step whose container runs.
pub(crate) struct Running {
    pub(crate) number: StepNumber,
    pub(crate) statement: Statement,
    pub(crate) step: RunningStep,
    pub(crate) staged: StagedLayer,
    pub(crate) said: Said,
    pub(crate) made: Made,
    /// Nobody else makes it.
    pub(crate) lock: Option<StepLock>,
    pub(crate) shown: String,
    pub(crate) began: Instant,
    /// Held until it has ended.
    pub(crate) prepared: Prepared,
    pub(crate) exit: Option<u8>,
}

/// A step whose files are looked at or copied.
pub(crate) struct Copying {
    pub(crate) number: StepNumber,
    pub(crate) statement: Statement,
    /// Dropped before what it writes into.
    pub(crate) task: Task,
    pub(crate) staged: StagedLayer,
    pub(crate) request: Request,
    pub(crate) key: CopyKey,
    /// Where from: what is learnt about its files is kept there.
    pub(crate) source: Source,
    pub(crate) began: Instant,
}

impl Running {
    /// What was mounted on, absolute.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &PathBuf> {
        self.prepared.places.iter().map(|(target, _)| target)
    }
}
