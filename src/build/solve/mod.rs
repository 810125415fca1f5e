//! Executes the stages of a plan: one thread, which starts containers and waits for all of them at once. A stage goes on
//! until its next RUN; then another one has its turn.

mod lookup;
mod run;
mod transfer;
mod wait;

use crate::build::cache::export::Step;
use crate::build::compat;
use crate::build::copy::Verb;
use crate::build::expand::{Globals, Scope};
use crate::build::instruction::{Dockerfile, Instruction, Statement};
use crate::build::layers::{Layers, Top};
use crate::build::mounts;
use crate::build::options::Options;
use crate::build::parser;
use crate::build::plan::{self, Base, Plan};
use crate::build::progress::{Change, Event, Outline, OutlineStage, Progress, StepNumber};
use crate::build::sources::{Outside, Source, Sources};
use crate::build::stage::{Phase, Running, Slot, Stage};
use crate::build::state::State;
use crate::error::{Error, Kind, Result};
use crate::model::digest::Digest;
use crate::model::id::ImageId;
use crate::model::platform::Platform;
use crate::model::time::Timestamp;
use crate::store::Store;
use std::time::Instant;

pub(crate) use lookup::CopyKey;

pub(crate) struct Solver<'a> {
    store: &'a Store,
    options: &'a Options,
    progress: &'a dyn Progress,
    dockerfile: &'a Dockerfile,
    pub(crate) layers: Layers<'a>,
    sources: Sources<'a>,
    slots: Vec<Slot>,
    outline: Outline,
    /// Names of `--build-context`.
    contexts: Vec<String>,
    platform: Platform,
    jobs: usize,
    /// What has been done, for `--cache-to`.
    pub(crate) steps: Vec<Step>,
}

/// What a step of files or of the configuration comes to.
struct Done {
    cached: bool,
    began: Instant,
    /// Its container, for who shows such things.
    container: Option<String>,
}

impl<'a> Solver<'a> {
    pub(crate) fn new(
        (options, progress): (&'a Options, &'a dyn Progress),
        (dockerfile, platform): (&'a Dockerfile, Platform),
        sources: Sources<'a>,
        layers: Layers<'a>,
    ) -> Solver<'a> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Solver {
            store: layers.store,
            options,
            progress,
            dockerfile,
            layers,
            sources,
            slots: Vec::new(),
            outline: Outline::default(),
            contexts: options.named_contexts.iter().map(|n| n.name.clone()).collect(),
            platform,
            jobs: options.jobs.filter(|n| *n > 0).unwrap_or(processors),
            steps: Vec::new(),
        }
    }

    /// Executes the stages of the plan, and gives the target.
    pub(crate) fn solve(&mut self, plan: &Plan, globals: &Globals) -> Result<Stage> {
        self.lay_out(plan);
        self.progress.event(Event::Plan(&self.outline));
        let result = self.work(plan, globals);
        self.sources.remember();
        if let Err(e) = result {
            let stopped = self.stop_all();
            let kept = self.layers.rescue();
            return Err(match stopped.and(kept) {
                Ok(()) => e,
                Err(second) if matches!(e.kind(), Kind::Status(_)) => second,
                Err(second) => e.and(&second),
            });
        }
        let target = self.slots.iter_mut().find(|s| s.index == plan.target);
        target
            .and_then(|slot| slot.stage.take())
            .ok_or_else(|| Error::other("the target was not built"))
    }

    fn lay_out(&mut self, plan: &Plan) {
        self.slots.clear();
        self.outline = Outline::default();
        for (position, planned) in plan.stages.iter().enumerate() {
            let stage = &self.dockerfile.stages[planned.index];
            let number = |step| StepNumber { stage: position, step };
            // What a named context stands for is complete as it is.
            let statements = stage.statements.iter().filter(|_| !planned.replaced);
            let todo = statements.clone().enumerate().map(|(n, s)| (number(n + 1), s.clone()));
            let ignored = |name: &String| self.options.cache.ignore_stages.contains(name);
            self.slots.push(Slot {
                index: planned.index,
                platform: planned.platform.clone().unwrap_or_else(|| self.platform.clone()),
                needs: planned.needs.clone(),
                phase: Phase::Waiting,
                todo: todo.collect(),
                stage: None,
                no_cache: self.options.cache.ignore || stage.name.as_ref().is_some_and(ignored),
                lock: None,
            });
            let first = std::iter::once(stage.text.clone());
            self.outline.stages.push(OutlineStage {
                index: planned.index,
                name: stage.name.clone(),
                platform: None,
                steps: first.chain(statements.map(|s| s.text.clone())).collect(),
            });
        }
    }

    fn work(&mut self, plan: &Plan, globals: &Globals) -> Result<()> {
        loop {
            for n in 0..self.slots.len() {
                self.turn(n, plan, globals)?;
            }
            if self.slots.iter().all(|slot| matches!(slot.phase, Phase::Done)) {
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Goes on with a stage as far as that goes without waiting.
    fn turn(&mut self, n: usize, plan: &Plan, globals: &Globals) -> Result<()> {
        if matches!(self.slots[n].phase, Phase::Waiting) {
            let done = |index: &usize| {
                let needed = self.slots.iter().find(|s| s.index == *index);
                needed.is_none_or(|s| matches!(s.phase, Phase::Done))
            };
            if !self.slots[n].needs.iter().all(done) {
                return Ok(());
            }
            self.begin(n, &plan.stages[n].base, globals)?;
            self.slots[n].phase = Phase::Ready;
        }
        while matches!(self.slots[n].phase, Phase::Ready) {
            if !self.has_room(n) {
                return Ok(());
            }
            match self.slots[n].todo.pop_front() {
                None => self.slots[n].phase = Phase::Done,
                Some((number, statement)) => {
                    let result = self.step(n, number, &statement);
                    if let Err(e) = &result {
                        self.tell(number, Change::Failed(e));
                    }
                    result?;
                    if matches!(self.slots[n].phase, Phase::Blocked(_)) {
                        self.slots[n].todo.push_front((number, statement));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the next step of a stage can begin beside what runs. Nothing of the build may wait for a cache that a
    /// container of the same build uses: nobody would notice that container's end.
    fn has_room(&self, n: usize) -> bool {
        let Some((_, statement)) = self.slots[n].todo.front() else {
            return true;
        };
        let copying = self.slots.iter().filter(|slot| matches!(slot.phase, Phase::Copying(_)));
        let next = match &statement.instruction {
            Instruction::Run(next) => next,
            Instruction::Copy(_) | Instruction::Add(_) => return copying.count() < self.jobs,
            _ => return true,
        };
        let running = self.slots.iter().filter_map(|slot| match &slot.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        });
        let conflicts = |running: &Running| match &running.statement.instruction {
            Instruction::Run(run) => mounts::wait_for_each_other(next, run),
            _ => false,
        };
        running.clone().count() < self.jobs && !running.into_iter().any(|r| conflicts(r))
    }

    fn tell(&self, step: StepNumber, change: Change<'_>) {
        self.progress.event(Event::Step { step, change });
    }

    fn created(&self) -> Timestamp {
        self.options.time.created.unwrap_or_else(Timestamp::now)
    }

    /// What the cache says of a step whose history says `created`: that is the same, unless somebody has set it, which is
    /// not for other builds.
    fn made_at(&self, created: Timestamp) -> Timestamp {
        match self.options.time.created {
            Some(_) => Timestamp::now(),
            None => created,
        }
    }

    /// No file of a layer is younger. So it is one of the things that make the layer.
    fn latest(&self) -> Option<i64> {
        let times = &self.options.time;
        times.created.filter(|_| times.rewrite_files).map(Timestamp::as_second)
    }

    /// FROM.
    fn begin(&mut self, n: usize, base: &Base, globals: &Globals) -> Result<()> {
        let number = StepNumber { stage: n, step: 0 };
        let began = Instant::now();
        self.tell(number, Change::Started);
        let platform = self.slots[n].platform.clone();
        let stage = self.base(base, &platform, globals);
        if let Err(e) = &stage {
            self.tell(number, Change::Failed(e));
        }
        let (mut stage, triggers, name) = stage?;
        if self.options.drop_base_labels {
            stage.state.image.config.labels.clear();
        }
        if !triggers.is_empty() {
            self.pull_triggers(n, &triggers, &name)?;
        }
        let id = stage
            .base
            .filter(|_| matches!(base, Base::Image(_) | Base::Context(_)))
            .map(|id| id.0.hex());
        self.slots[n].stage = Some(stage);
        self.tell(
            number,
            Change::Done {
                id: id.as_deref(),
                took: began.elapsed(),
            },
        );
        Ok(())
    }

    /// What a stage begins with, the triggers of its base, and the base's name.
    fn base(&mut self, base: &Base, platform: &Platform, globals: &Globals) -> Result<(Stage, Vec<String>, String)> {
        let name = match base {
            Base::Scratch => {
                let state = State::scratch(platform);
                return Ok((
                    Self::fresh(state, None, None, globals, Digest::of(b"scratch")),
                    Vec::new(),
                    "scratch".into(),
                ));
            }
            Base::Stage(index) => {
                let other = self
                    .slots
                    .iter()
                    .find(|s| s.index == *index)
                    .and_then(|s| s.stage.as_ref());
                let other = other.ok_or_else(|| Error::other("a stage that is needed was not built"))?;
                let (state, triggers) = State::of(&other.state.image);
                let stage = Stage {
                    scope: other.scope.clone(),
                    state,
                    top: other.top,
                    made: other.made.clone(),
                    base: other.base,
                    base_history: other.base_history,
                    base_top: other.base_top,
                    id: other.id,
                };
                return Ok((stage, triggers, format!("stage {index}")));
            }
            Base::Image(name) | Base::Context(name) => name,
        };
        match self.sources.find(name, Some(platform))? {
            Outside::Image(record) => {
                let top = self.layers.found(&record.layers)?;
                let (state, triggers) = State::of(&record.config);
                let stage = Self::fresh(state, top, Some(record.id), globals, record.id.0);
                Ok((stage, triggers, name.clone()))
            }
            Outside::Context(_) | Outside::Stage(_) => Err(Error::other(format!(
                "--build-context {name}: a directory can't be the base of a stage"
            ))),
        }
    }

    fn fresh(state: State, top: Top, base: Option<ImageId>, globals: &Globals, id: Digest) -> Stage {
        Stage {
            scope: Scope::stage(globals, &state.image.config.env),
            base_history: state.image.history.len(),
            state,
            top,
            made: Vec::new(),
            base,
            base_top: top,
            id,
        }
    }

    /// ONBUILD of a base: its instructions come before the stage's own.
    fn pull_triggers(&mut self, n: usize, triggers: &[String], base: &str) -> Result<()> {
        self.progress.event(Event::Line(&compat::triggers(triggers.len())));
        let statements = triggers
            .iter()
            .map(|t| parser::trigger(t, base))
            .collect::<Result<Vec<_>>>()?;
        let steps = &mut self.outline.stages[n].steps;
        steps.splice(1..1, statements.iter().map(|s| s.text.clone()));
        let todo = statements
            .into_iter()
            .chain(self.slots[n].todo.drain(..).map(|(_, s)| s));
        let number = |step| StepNumber { stage: n, step };
        self.slots[n].todo = todo.enumerate().map(|(at, s)| (number(at + 1), s)).collect();
        self.progress.event(Event::Plan(&self.outline));
        Ok(())
    }

    fn stage(&mut self, n: usize) -> Result<&mut Stage> {
        let stage = self.slots[n].stage.as_mut();
        stage.ok_or_else(|| Error::other("the stage has not begun"))
    }

    fn step(&mut self, n: usize, number: StepNumber, statement: &Statement) -> Result<()> {
        let began = Instant::now();
        if !self.stage(n)?.state.has_room() {
            return Err(statement.place.error("the image's history is too large"));
        }
        // One that was waited for has been told of.
        if self.slots[n].lock.is_none() {
            self.tell(number, Change::Started);
        }
        let expanded = self.stage(n)?.scope.statement(statement)?;
        let statement = expanded.statement;
        let cached = match &statement.instruction {
            Instruction::Run(run) => return self.run(n, number, (&statement, run), began),
            Instruction::Copy(transfer) => return self.transfer(n, number, (&statement, Verb::Copy, transfer), began),
            Instruction::Add(transfer) => return self.transfer(n, number, (&statement, Verb::Add, transfer), began),
            Instruction::Workdir(_) => self.workdir(n, &statement)?,
            _ => self.meta(n, &statement)?,
        };
        let done = Done {
            cached,
            began,
            container: None,
        };
        self.done(number, &done);
        Ok(())
    }

    fn done(&self, number: StepNumber, done: &Done) {
        if let Some(container) = &done.container {
            self.tell(number, Change::Removed(container));
        }
        match done.cached {
            true => self.tell(number, Change::Cached),
            false => self.tell(
                number,
                Change::Done {
                    id: None,
                    took: done.began.elapsed(),
                },
            ),
        }
    }

    /// The files that `--from=` or `from=` names; the context without it.
    fn source(&mut self, from: Option<&str>) -> Result<Source> {
        let Some(name) = from else {
            return Ok(Source::Context(std::rc::Rc::clone(&self.sources.main)));
        };
        match plan::source(self.dockerfile, &self.contexts, name).map_err(Error::other)? {
            Base::Scratch => {
                let view = self.layers.view(None)?;
                Ok(Source::Layers { top: None, view })
            }
            Base::Stage(index) => self.files_of_stage(index),
            Base::Image(name) | Base::Context(name) => match self.sources.find(&name, None)? {
                // A named context may stand for a stage, by its own name.
                Outside::Stage(stage) => {
                    let found = plan::source(self.dockerfile, &[], &stage).map_err(Error::other)?;
                    match found {
                        Base::Stage(index) => self.files_of_stage(index),
                        _ => Err(Error::other(format!(
                            "--build-context {name}: there is no stage {stage}"
                        ))),
                    }
                }
                _ => {
                    let files = self.sources.files(&mut self.layers, &name)?;
                    files.ok_or_else(|| Error::other(format!("{name}: no files")))
                }
            },
        }
    }

    fn files_of_stage(&mut self, index: usize) -> Result<Source> {
        let slot = self.slots.iter().find(|slot| slot.index == index);
        let top = slot.and_then(|slot| slot.stage.as_ref()).map(|stage| stage.top);
        let top = top.ok_or_else(|| Error::other(format!("stage {index} is not built yet")))?;
        let view = self.layers.view(top)?;
        Ok(Source::Layers { top, view })
    }

    /// The tree of a stage that `--from=` names, before anybody needs its files.
    pub(super) fn tree_of(&self, from: Option<&str>) -> Option<Top> {
        let base = plan::source(self.dockerfile, &self.contexts, from?).ok()?;
        let Base::Stage(index) = base else { return None };
        let slot = self.slots.iter().find(|slot| slot.index == index)?;
        slot.stage.as_ref().map(|stage| stage.top)
    }
}
