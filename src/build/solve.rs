//! Executes the stages of a plan: one thread, which starts containers and waits for all of them at once. A stage goes on
//! until its next RUN; then another one has its turn.

use crate::build::copy::{self, Request, Verb};
use crate::build::expand::{Globals, Scope};
use crate::build::files;
use crate::build::instruction::{
    Dockerfile, Instruction, MountKind, Run, RunNetwork, RunSecurity, Script, Statement, Transfer,
};
use crate::build::layers::{LayerRef, Layers, Made, Top};
use crate::build::mounts::{self, Preparation};
use crate::build::options::{Entitlement, Options};
use crate::build::parser;
use crate::build::plan::{self, Base, Plan};
use crate::build::progress::{Change, Event, Outline, OutlineStage, Progress, StepNumber, Stream};
use crate::build::sources::{Outside, Source, Sources};
use crate::build::stage::{Phase, Running, Slot, Stage};
use crate::build::state::{Said, State};
use crate::container::config::NetworkArg;
use crate::container::step::{self, Said as Spoken};
use crate::error::{Context as _, Error, Kind, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{BuildStep, LogConfig, LogDriver};
use crate::model::digest::Digest;
use crate::model::id::ImageId;
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::model::time::Timestamp;
use crate::store::{StepRecord, Store};
use crate::sys;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Instant;

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
        store: &'a Store,
        options: &'a Options,
        progress: &'a dyn Progress,
        dockerfile: &'a Dockerfile,
        sources: Sources<'a>,
        platform: Platform,
    ) -> Result<Solver<'a>> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Solver {
            store,
            options,
            progress,
            dockerfile,
            layers: Layers::new(store)?,
            sources,
            slots: Vec::new(),
            outline: Outline::default(),
            contexts: options.named_contexts.iter().map(|n| n.name.clone()).collect(),
            platform,
            jobs: options.jobs.filter(|n| *n > 0).unwrap_or(processors),
        })
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
                name: stage.name.clone(),
                platform: planned.platform.clone().unwrap_or_else(|| self.platform.clone()),
                needs: planned.needs.clone(),
                phase: Phase::Waiting,
                todo: todo.collect(),
                stage: None,
                no_cache: self.options.cache.ignore || stage.name.as_ref().is_some_and(ignored),
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
            let runs = self
                .slots
                .iter()
                .filter(|s| matches!(s.phase, Phase::Running(_)))
                .count();
            let next_runs = matches!(
                self.slots[n].todo.front(),
                Some((
                    _,
                    Statement {
                        instruction: Instruction::Run(_),
                        ..
                    }
                ))
            );
            if next_runs && runs >= self.jobs {
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
                }
            }
        }
        Ok(())
    }

    fn tell(&self, step: StepNumber, change: Change<'_>) {
        self.progress.event(Event::Step { step, change });
    }

    fn created(&self) -> Timestamp {
        self.options.time.created.unwrap_or_else(Timestamp::now)
    }

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
        let id = stage.id.hex();
        self.slots[n].stage = Some(stage);
        self.tell(
            number,
            Change::Done {
                id: &id,
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
                    self.fresh(state, None, None, globals, Digest::of(b"scratch")),
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
                    busted: false,
                };
                return Ok((stage, triggers, format!("stage {index}")));
            }
            Base::Image(name) | Base::Context(name) => name,
        };
        match self.sources.find(name, Some(platform))? {
            Outside::Image(record) => {
                let top = self.layers.found(&record.layers)?;
                let (state, triggers) = State::of(&record.config);
                let stage = self.fresh(state, top, Some(record.id), globals, record.id.0);
                Ok((stage, triggers, name.clone()))
            }
            Outside::Context(_) | Outside::Stage(_) => Err(Error::other(format!(
                "--build-context {name}: a directory can't be the base of a stage"
            ))),
        }
    }

    fn fresh(&self, state: State, top: Top, base: Option<ImageId>, globals: &Globals, id: Digest) -> Stage {
        Stage {
            scope: Scope::stage(globals, &state.image.config.env),
            base_history: state.image.history.len(),
            state,
            top,
            made: Vec::new(),
            base,
            base_top: top,
            id,
            busted: false,
        }
    }

    /// ONBUILD of a base: its instructions come before the stage's own.
    fn pull_triggers(&mut self, n: usize, triggers: &[String], base: &str) -> Result<()> {
        let plural = if triggers.len() == 1 { "" } else { "s" };
        let line = format!("# Executing {} build trigger{plural}", triggers.len());
        self.progress.event(Event::Line(&line));
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
        self.tell(number, Change::Started);
        let expanded = self.stage(n)?.scope.statement(statement)?;
        let statement = expanded.statement;
        let cached = match &statement.instruction {
            Instruction::Run(run) => return self.run(n, number, (&statement, run), began),
            Instruction::Copy(transfer) => self.transfer(n, (&statement, Verb::Copy, transfer))?,
            Instruction::Add(transfer) => self.transfer(n, (&statement, Verb::Add, transfer))?,
            Instruction::Workdir(_) => self.workdir(n, &statement)?,
            _ => self.meta(n, &statement)?,
        };
        self.done(
            n,
            number,
            Done {
                cached,
                began,
                container: None,
            },
        )
    }

    fn done(&mut self, n: usize, number: StepNumber, done: Done) -> Result<()> {
        let id = self.stage(n)?.id.hex();
        if let Some(container) = &done.container {
            self.tell(number, Change::Removed(container));
        }
        match done.cached {
            true => self.tell(number, Change::Cached { id: &id }),
            false => self.tell(
                number,
                Change::Done {
                    id: &id,
                    took: done.began.elapsed(),
                },
            ),
        }
        Ok(())
    }

    /// What the cache has for a step, if it may be used.
    fn look_up(&mut self, n: usize, inputs: Digest) -> Result<Option<(Top, StepRecord)>> {
        let no_cache = self.slots[n].no_cache;
        let stage = self.stage(n)?;
        if no_cache || stage.busted {
            return Ok(None);
        }
        let top = stage.top;
        let oldest = self
            .options
            .cache
            .oldest
            .and_then(|age| Timestamp::now().checked_sub(age).ok());
        let found = self.layers.cached(top, inputs)?;
        Ok(found.filter(|(_, record)| oldest.is_none_or(|oldest| record.created >= oldest)))
    }

    /// Changes the configuration only.
    fn meta(&mut self, n: usize, statement: &Statement) -> Result<bool> {
        let stage = self.stage(n)?;
        let said = stage.state.apply(statement)?;
        let text = said.text().to_owned();
        stage.id = next_id(stage.id, &["meta", &text]);
        let inputs = stage.id;
        let found = self.look_up(n, inputs)?;
        let cached = found.is_some();
        let created = match found {
            Some((_, record)) if self.options.time.created.is_none() => record.created,
            _ => self.created(),
        };
        let stage = self.stage(n)?;
        stage.state.note(&said, created, true);
        let top = stage.top;
        if !cached {
            self.layers.note(top, inputs, created, &text);
        }
        Ok(cached)
    }

    /// Takes what the cache has for a step of files.
    fn take_cached(&mut self, n: usize, (said, inputs): (&Said, Digest), found: (Top, StepRecord)) -> Result<()> {
        let created = self.options.time.created.unwrap_or(found.1.created);
        let stage = self.stage(n)?;
        stage.id = next_id(stage.id, &["step", &inputs.hex()]);
        stage.state.note(said, created, !found.1.changed);
        stage.top = found.0;
        if let Some(layer) = found.0.filter(|_| found.1.changed) {
            stage.made.push((stage.state.image.history.len() - 1, layer));
        }
        Ok(())
    }

    /// Takes what a step of files has made.
    fn take_made(&mut self, n: usize, said: &Said, layer: Option<LayerRef>, made: (Timestamp, Digest)) -> Result<()> {
        let stage = self.stage(n)?;
        stage.busted = true;
        stage.id = next_id(stage.id, &["step", &made.1.hex()]);
        stage.state.note(said, made.0, layer.is_none());
        if let Some(layer) = layer {
            stage.made.push((stage.state.image.history.len() - 1, layer));
            stage.top = Some(layer);
        }
        Ok(())
    }

    fn workdir(&mut self, n: usize, statement: &Statement) -> Result<bool> {
        let stage = self.stage(n)?;
        let said = stage.state.apply(statement)?;
        let path = stage.state.workdir();
        let top = stage.top;
        let inputs = inputs(&serde_json::json!(["workdir", path]));
        if let Some(found) = self.look_up(n, inputs)? {
            self.take_cached(n, (&said, inputs), found)?;
            return Ok(true);
        }
        let created = self.created();
        let staged = self.layers.stage(top)?;
        let made =
            files::make_directory(&self.layers.dirs(top), &path, &staged).map_err(|e| statement.place.error(e))?;
        if !made {
            // It says nothing about the files after it.
            self.layers.note(top, inputs, created, said.text());
            let stage = self.stage(n)?;
            stage.id = next_id(stage.id, &["step", &inputs.hex()]);
            stage.state.note(&said, created, true);
            return Ok(false);
        }
        let layer = self.layers.take(
            top,
            staged,
            Made {
                inputs: vec![inputs],
                created,
                description: said.text().to_owned(),
                latest: self.latest(),
            },
        )?;
        self.take_made(n, &said, Some(layer), (created, inputs))?;
        Ok(false)
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

    /// COPY and ADD.
    fn transfer(&mut self, n: usize, (statement, verb, transfer): (&Statement, Verb, &Transfer)) -> Result<bool> {
        let place = |e: Error| statement.place.error(&e).with_hint_of(&e);
        let from = transfer.from.as_ref().map(|w| w.to_string());
        let stage = self.stage(n)?;
        let request = Request::of(verb, transfer, &stage.state.workdir());
        let top = stage.top;
        let source = self.source(from.as_deref()).map_err(place)?;
        let selected = copy::select(self.store, &self.options.access, &request, source.tree()).map_err(place)?;
        let about = |content: &Digest| {
            inputs(&serde_json::json!([
                "copy",
                verb == Verb::Add,
                request.dest,
                request.workdir,
                request.chown,
                request.chmod,
                request.parents,
                request.unpack,
                transfer.link,
                content.hex()
            ]))
        };
        let no_cache = self.slots[n].no_cache;
        if !no_cache && !self.stage(n)?.busted {
            let content = selected.digest().map_err(place)?;
            let inputs = about(&content);
            if let Some(found) = self.look_up(n, inputs)? {
                let said = Said::Files(transfer_text(verb, &request, &content));
                self.take_cached(n, (&said, inputs), found)?;
                return Ok(true);
            }
        }
        let created = self.created();
        let staged = self.layers.stage(top)?;
        let content = match transfer.link {
            // Whatever the tree is: its links are not followed, and a file goes where it has a directory.
            true => {
                let names = self.layers.view(top)?;
                let written = selected.write(staged.diff()?.as_fd(), names.as_fd());
                let kept = |content| {
                    let (dest, _) = request.destination();
                    files::keep_directories(&self.layers.dirs(top), &dest, &staged).map(|()| content)
                };
                written.and_then(kept)
            }
            false => {
                let root = self.layers.writable(top, &staged)?;
                selected.write(root.as_fd(), root.as_fd())
            }
        }
        .map_err(place)?;
        sys::stop_point("files-copied");
        let inputs = about(&content);
        let said = Said::Files(transfer_text(verb, &request, &content));
        let layer = self.layers.take(
            top,
            staged,
            Made {
                inputs: vec![inputs],
                created,
                description: said.text().to_owned(),
                latest: self.latest(),
            },
        )?;
        self.take_made(n, &said, Some(layer), (created, inputs))?;
        Ok(false)
    }

    /// RUN: from the cache, or its container is started.
    fn run(
        &mut self,
        n: usize,
        number: StepNumber,
        (statement, run): (&Statement, &Run),
        began: Instant,
    ) -> Result<()> {
        self.allowed(statement, run)?;
        let stage = self.stage(n)?;
        let script = run.script();
        let (words, file) = match &script {
            Script::Exec(words) => (words.clone(), None),
            Script::Shell(line) => {
                let mut words = stage.state.shell();
                words.push(line.clone());
                (words, None)
            }
            Script::File { name, text } => (vec![format!("/dev/pipes/{name}")], Some((name.clone(), text.clone()))),
        };
        let args = stage.scope.run_args();
        let env = stage.scope.run_env();
        let shown = match &file {
            Some((_, text)) => format!("{} {text}", stage.state.shell().join(" ")),
            None => words.join(" "),
        };
        let said = Said::Run(match args.is_empty() {
            true => shown.clone(),
            false => {
                let pairs: Vec<_> = args.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("|{} {} {shown}", pairs.len(), pairs.join(" "))
            }
        });
        let config = &stage.state.image.config;
        let (user, workdir) = (config.user.clone(), stage.state.workdir());
        let env_key: Vec<String> = env.iter().map(|e| Digest::of(e.as_bytes()).hex()).collect();
        let place = |e: Error| statement.place.error(&e).with_hint_of(&e);
        let mount_keys = mounts::key(run, &mut |from| self.source(from)).map_err(place)?;
        let inputs = inputs(&serde_json::json!([
            "run",
            words,
            file,
            env_key,
            user,
            workdir,
            mount_keys,
            format!("{:?}", run.network),
            format!("{:?}", run.security),
        ]));
        if let Some(found) = self.look_up(n, inputs)? {
            self.take_cached(n, (&said, inputs), found)?;
            return self.done(
                n,
                number,
                Done {
                    cached: true,
                    began,
                    container: None,
                },
            );
        }
        let top = self.stage(n)?.top;
        let staged = self.layers.stage(top)?;
        let id = Store::random_id()?;
        self.store.mark_step(&staged.place().join("diff"), &id)?;
        // Sources first: each may need a tree mounted.
        let mut sources = Vec::new();
        for mount in &run.mounts {
            if let MountKind::Bind { from, .. } | MountKind::Cache { from, .. } = &mount.kind {
                sources.push((from.clone(), self.source(from.as_deref()).map_err(place)?));
            }
        }
        let preparation = Preparation {
            store: self.store,
            options: self.options,
            layers: &self.layers,
            staged: &staged,
            id: &id,
            workdir: &workdir,
        };
        let mut prepared = preparation
            .mounts(run, &mut |from| {
                let found = sources.iter().find(|(name, _)| name.as_deref() == from);
                found
                    .map(|(_, source)| source.clone())
                    .ok_or_else(|| Error::other("a source is missing"))
            })
            .map_err(place)?;
        if let Some((name, text)) = &file {
            preparation.script(&mut prepared, name, text)?;
        }
        let places = preparation.places(&prepared.places)?;
        let mut args = self.options.run.clone();
        args.command = words.iter().map(|w| ByteString::from(w.clone())).collect();
        args.entrypoint = Some(ByteString::default());
        let proxies = self
            .options
            .proxies
            .iter()
            .map(|(name, value)| format!("{name}={value}").into());
        args.env
            .extend(proxies.filter(|p: &ByteString| !env.iter().any(|e| e.split_env().0 == p.split_env().0)));
        args.env.extend(prepared.env.iter().cloned());
        args.workdir = Some(workdir.clone().into());
        args.user = Some(user);
        args.auto_remove = true;
        args.log = LogConfig {
            driver: LogDriver::None,
            ..LogConfig::default()
        };
        args.mounts.append(&mut prepared.mounts.clone());
        args.mounts.sort_by_key(|m| m.target.components().count());
        match run.network {
            RunNetwork::Default => {}
            RunNetwork::None => args.network = NetworkArg::None,
            RunNetwork::Host => args.network = NetworkArg::Host,
        }
        if run.security == RunSecurity::Insecure {
            args.security.privileged = true;
        }
        let (layers, above) = self.layers.parts(top);
        let build = BuildStep {
            above,
            upper: staged.place().join("diff"),
            places,
            trees: prepared.trees.clone(),
        };
        let image = self.step_image(n, env, layers)?;
        let created = self.created();
        let made = Made {
            inputs: vec![inputs],
            created,
            description: said.text().to_owned(),
            latest: self.latest(),
        };
        sys::stop_point("step-prepared");
        let step = step::create(self.store, &args, &image, &build, &id)?;
        sys::stop_point("step-created");
        let step = step.start(self.store).map_err(|e| failed(statement, &shown, &e))?;
        self.tell(number, Change::Running(id.as_str()));
        self.slots[n].phase = Phase::Running(Box::new(Running {
            number,
            statement: statement.clone(),
            step,
            staged,
            said,
            made,
            shown,
            began,
            prepared,
            exit: None,
        }));
        Ok(())
    }

    /// As much of an image as a step's container is made from.
    fn step_image(
        &mut self,
        n: usize,
        env: Vec<ByteString>,
        layers: Vec<crate::model::id::ChainId>,
    ) -> Result<ImageRecord> {
        let stage = self.stage(n)?;
        let mut config = stage.state.image.clone();
        config.history.clear();
        config.config = crate::model::image::RunDefaults {
            env,
            ..Default::default()
        };
        Ok(ImageRecord {
            id: stage.base.unwrap_or(ImageId(stage.id)),
            config,
            parent: None,
            layers,
            size: 0,
            stored: Timestamp::now(),
            manifests: Vec::new(),
            v1: Vec::new(),
        })
    }

    fn allowed(&self, statement: &Statement, run: &Run) -> Result<()> {
        let has = |what| self.options.allow.contains(&what);
        let missing = |what: &str, name: &str| {
            let e = statement.place.error(format!("{what} is not allowed"));
            Err(e.with_hint(format!("allow it: --allow {name}")))
        };
        match (run.network, run.security) {
            (RunNetwork::Host, _) if !has(Entitlement::NetworkHost) => missing("--network=host", "network.host"),
            (_, RunSecurity::Insecure) if !has(Entitlement::SecurityInsecure) => {
                missing("--security=insecure", "security.insecure")
            }
            _ => Ok(()),
        }
    }

    /// Waits until a container says something, a layer is hashed, or a person wants the end.
    fn wait(&mut self) -> Result<()> {
        let signals = Signals::open()?;
        let running: Vec<usize> = (0..self.slots.len())
            .filter(|n| matches!(self.slots[*n].phase, Phase::Running(_)))
            .collect();
        let hashing: Vec<LayerRef> = self.layers.fds().map(|(layer, _)| layer).collect();
        let (spoken, hashed, asked) = {
            let sockets = running.iter().filter_map(|n| match &self.slots[*n].phase {
                Phase::Running(running) => Some(running.step.fd()),
                _ => None,
            });
            let tasks = self.layers.fds().map(|(_, fd)| fd);
            let own = signals.fd.as_fd();
            let all: Vec<_> = sockets.chain(tasks).chain([own]).collect();
            let mut fds: Vec<_> = all
                .iter()
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
                .collect();
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e).context("poll"),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let (of_running, rest) = ready.split_at(running.len());
            let (of_hashing, of_signals) = rest.split_at(hashing.len());
            let pick = |from: &[usize], which: &[bool]| -> Vec<usize> {
                from.iter()
                    .zip(which)
                    .filter(|(_, ready)| **ready)
                    .map(|(n, _)| *n)
                    .collect()
            };
            let hashed: Vec<LayerRef> = hashing
                .iter()
                .zip(of_hashing)
                .filter(|(_, ready)| **ready)
                .map(|(layer, _)| *layer)
                .collect();
            (pick(&running, of_running), hashed, of_signals.contains(&true))
        };
        if asked {
            let signal = signals.read()?;
            return Err(Error::status(u8::try_from(128 + signal).unwrap_or(255)));
        }
        for layer in hashed {
            self.layers.hashed(layer)?;
        }
        for n in spoken {
            self.listen(n)?;
        }
        Ok(())
    }

    fn listen(&mut self, n: usize) -> Result<()> {
        let Phase::Running(running) = &mut self.slots[n].phase else {
            return Ok(());
        };
        let number = running.number;
        let mut exit = None;
        for said in running.step.read()? {
            let (stream, bytes) = match &said {
                Spoken::Stdout(bytes) => (Stream::Stdout, bytes),
                Spoken::Stderr(bytes) => (Stream::Stderr, bytes),
                Spoken::Exit(code) => {
                    exit = Some(*code);
                    continue;
                }
            };
            let change = Change::Output { stream, bytes };
            self.progress.event(Event::Step { step: number, change });
        }
        running.exit = exit;
        match exit {
            None => Ok(()),
            Some(code) => self.ended(n, code),
        }
    }

    fn ended(&mut self, n: usize, code: u8) -> Result<()> {
        let Phase::Running(running) = std::mem::replace(&mut self.slots[n].phase, Phase::Ready) else {
            return Ok(());
        };
        let running = *running;
        let number = running.number;
        if code != 0 {
            let message = format!(
                "The command '{}' returned a non-zero code: {code}",
                crate::build::state::printable(&running.shown)
            );
            let e = Error::new(Kind::Step(code), message);
            let e = e.with_hint_of(&running.statement.place.error(""));
            self.tell(number, Change::Failed(&e));
            return Err(e);
        }
        sys::stop_point("step-ended");
        let targets: Vec<PathBuf> = running.targets().cloned().collect();
        let top = self.stage(n)?.top;
        files::remove_places(&self.layers.dirs(top), &running.staged, &targets)?;
        let container = running.step.id.short().to_owned();
        let (created, key) = (running.made.created, running.made.inputs[0]);
        let layer = self.layers.take(top, running.staged, running.made)?;
        self.take_made(n, &running.said, Some(layer), (created, key))?;
        let done = Done {
            cached: false,
            began: running.began,
            container: Some(container),
        };
        self.done(n, number, done)
    }

    /// Ends what runs, and waits until nothing is left of it.
    fn stop_all(&mut self) -> Result<()> {
        let mut result = Ok(());
        for slot in &mut self.slots {
            let Phase::Running(running) = std::mem::replace(&mut slot.phase, Phase::Done) else {
                continue;
            };
            let mut running = *running;
            if running.exit.is_some() {
                continue;
            }
            let mut end = || -> Result<()> {
                running.step.kill()?;
                loop {
                    if running.step.read()?.iter().any(|said| matches!(said, Spoken::Exit(_))) {
                        return Ok(());
                    }
                }
            };
            result = result.and(end());
            self.progress.event(Event::Step {
                step: running.number,
                change: Change::Canceled,
            });
        }
        result
    }

    /// A stage that was built, by its index.
    pub(crate) fn pulls_always(&self) -> bool {
        self.sources.pulls_always()
    }

    pub(crate) fn used_stages(&self) -> BTreeSet<usize> {
        self.slots.iter().map(|slot| slot.index).collect()
    }
}

/// Signals that ask the build to end: looked at while it waits, and as deadly as to any program while it works, since
/// then nothing can be left that the next command would not clear away.
struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    fn open() -> Result<Signals> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            mask.add(signal);
        }
        let before = mask.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, before })
    }

    fn read(&self) -> Result<i32> {
        let info = self.fd.read_signal().context("read a signal")?;
        Ok(info.map_or(libc::SIGTERM, |info| info.ssi_signo.cast_signed()))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

/// The digest of what goes into a step.
fn inputs(what: &serde_json::Value) -> Digest {
    Digest::of(what.to_string().as_bytes())
}

/// The name of the state after a step.
fn next_id(before: Digest, what: &[&str]) -> Digest {
    Digest::of(format!("{}\n{}", before.hex(), what.join("\n")).as_bytes())
}

/// `COPY --chown=u file:… in /dest `, as the classic builder has it.
fn transfer_text(verb: Verb, request: &Request, content: &Digest) -> String {
    let keyword = if verb == Verb::Add { "ADD" } else { "COPY" };
    let chown = request
        .chown
        .as_ref()
        .map_or_else(String::new, |c| format!("--chown={c} "));
    let kind = match request.sources.len() + request.documents.len() {
        1 => "file",
        _ => "multi",
    };
    format!("{keyword} {chown}{kind}:{} in {} ", content.hex(), request.dest)
}

/// A program that could not be started.
fn failed(statement: &Statement, shown: &str, error: &Error) -> Error {
    let code = match error.kind() {
        Kind::CannotExecute => 126,
        Kind::CommandNotFound => 127,
        _ => return statement.place.error(error).with_hint_of(error),
    };
    let shown = crate::build::state::printable(shown);
    Error::new(
        Kind::Step(code),
        format!("The command '{shown}' returned a non-zero code: {code}: {error}"),
    )
}
