//! RUN: what its container is made from.

use super::lookup::digest_of;
use super::{Done, Solver};
use crate::build::compat;
use crate::build::instruction::{MountKind, Run, RunNetwork, RunSecurity, Script, Statement};
use crate::build::layers::{Known, Made};
use crate::build::mounts::{self, Preparation};
use crate::build::options::Entitlement;
use crate::build::progress::{Change, Event, StepNumber};
use crate::build::stage::{Blocked, Phase, Running};
use crate::build::state::{Said, printable};
use crate::build::task;
use crate::container::config::{NetworkArg, RunArgs};
use crate::container::devices;
use crate::container::step;
use crate::error::{Error, Kind, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{BuildStep, LogConfig, LogDriver};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ImageId};
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::model::time::Timestamp;
use crate::store::{Inputs, StepKey, StepLock, Store};
use crate::sys;
use std::time::Instant;

impl Solver<'_> {
    /// RUN: from the cache, or its container is started.
    pub(super) fn run(
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
        let platform = Platform::of(&stage.state.image).to_string();
        let env_key: Vec<String> = env.iter().map(|e| Digest::of(e.as_bytes()).hex()).collect();
        let place = |e: Error| statement.place.error(&e).with_hint_of(&e);
        let mount_keys = mounts::key(run, &mut |from| self.source(from)).map_err(place)?;
        let mut what = serde_json::json!([
            "run",
            words,
            file,
            env_key,
            user,
            workdir,
            mount_keys,
            format!("{:?}", run.network),
            format!("{:?}", run.security),
            platform,
            surroundings(&self.options.run),
            self.latest(),
        ]);
        if let (false, Some(what)) = (run.devices.is_empty(), what.as_array_mut()) {
            let wanted = run.devices.iter().map(|d| serde_json::json!([&*d.name, d.required]));
            what.push(wanted.collect::<Vec<_>>().into());
        }
        let inputs = Inputs::only(digest_of(&what));
        let cached = |found: &Known, this: &mut Self| {
            // Whoever else waits for it is to find it, too.
            this.slots[n].lock = None;
            this.take_cached(n, (&said, inputs.clone()), found)?;
            let done = Done {
                cached: true,
                began,
                container: None,
            };
            this.done(number, &done);
            Ok(())
        };
        if let Some(found) = self.look_up(n, inputs.family, inputs.family)? {
            return cached(&found, self);
        }
        let lock = match self.alone(n, &statement.text, inputs.family)? {
            Alone::Is(lock) => lock,
            Alone::Found(found) => return cached(&found, self),
            Alone::Waits => return Ok(()),
        };
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
        for device in &run.devices {
            match devices::matching(&args.cdi.spec_dirs, &device.name) {
                Ok(names) => args.cdi.devices.extend(names),
                Err(_) if !device.required => {}
                Err(e) => return Err(device.name.place.error(&e).with_hint_of(&e)),
            }
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
            inputs,
            created: self.made_at(created),
            description: said.text().to_owned(),
            content: None,
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
            lock,
            shown,
            began,
            prepared,
            exit: None,
        }));
        Ok(())
    }

    /// Sees to it that nobody else makes the step; who would not take it from the cache does not wait for it either. It is
    /// known by what the stage was made of, not by its files, which may not be digested yet.
    fn alone(&mut self, n: usize, text: &str, inputs: Digest) -> Result<Alone> {
        if self.slots[n].no_cache {
            return Ok(Alone::Is(None));
        }
        let id = self.stage(n)?.id;
        let key = StepKey {
            family: inputs,
            whole: digest_of(&serde_json::json!([id.hex(), inputs.hex()])),
        };
        let waited = self.slots[n].lock.take().filter(|lock| lock.is_of(&key));
        let lock = match waited {
            Some(lock) => {
                // Whoever had it may have died with the step made.
                self.store.sweep_left_overs()?;
                lock
            }
            None => {
                let (lock, got) = self.store.step_lock(&key)?;
                if !got {
                    let build = nix::unistd::getpid();
                    let task = task::start(&[lock.fd()], || {
                        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                        match nix::unistd::getppid() == build {
                            true => lock.wait(),
                            false => Err(Error::other("the build has died")),
                        }
                    })?;
                    let text = printable(text);
                    let line = format!("{text}: another build is at this step, which is waited for");
                    self.progress.event(Event::Line(&line));
                    self.slots[n].phase = Phase::Blocked(Box::new(Blocked { lock, task }));
                    return Ok(Alone::Waits);
                }
                lock
            }
        };
        Ok(match self.look_up(n, inputs, inputs)? {
            Some(found) => Alone::Found(found),
            None => Alone::Is(Some(lock)),
        })
    }

    /// As much of an image as a step's container is made from.
    fn step_image(&mut self, n: usize, env: Vec<ByteString>, layers: Vec<ChainId>) -> Result<ImageRecord> {
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
            annotations: Default::default(),
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
            _ if !run.devices.is_empty() && !has(Entitlement::Device) => missing("--device", "device"),
            _ => Ok(()),
        }
    }
}

/// Whether a step is made here.
enum Alone {
    Is(Option<StepLock>),
    Found(Known),
    /// Another build makes it.
    Waits,
}

/// What of the flags decides about what a command sees and may do. Limits don't: what a command has made in spite of
/// them is what it makes.
fn surroundings(run: &RunArgs) -> serde_json::Value {
    serde_json::json!([
        format!("{:?}", run.network),
        format!("{:?}", run.names),
        format!("{:?}", run.security),
        format!("{:?}", run.ulimits),
        format!("{:?}", run.devices),
        format!("{:?}", run.device_rules),
        format!("{:?}", run.mounts),
        format!("{:?}", run.namespaces),
        format!("{:?}", run.groups),
        format!("{:?}", run.umask),
        format!("{:?}", run.shm_size),
        run.hostname,
    ])
}

/// A program that could not be started.
fn failed(statement: &Statement, shown: &str, error: &Error) -> Error {
    let code = match error.kind() {
        Kind::CannotExecute => 126,
        Kind::CommandNotFound => 127,
        _ => return statement.place.error(error).with_hint_of(error),
    };
    let shown = printable(shown);
    Error::new(Kind::Step(code), format!("{}: {error}", compat::failed(&shown, code)))
}
