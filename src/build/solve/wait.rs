//! Containers that run, files that are copied, layers that are hashed, signals: what the build waits for, and what follows from it.

use super::lookup::Executed;
use super::{Done, Solver};
use crate::build::compat;
use crate::build::files;
use crate::build::layers::LayerRef;
use crate::build::progress::{Change, Event, Stream};
use crate::build::stage::{Blocked, Phase};
use crate::build::state::printable;
use crate::container::step::Said as Spoken;
use crate::error::{Context as _, Error, Kind, Result};
use crate::sys;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

impl Solver<'_> {
    /// Waits until a container says something, a layer is hashed, or a person wants the end.
    pub(super) fn wait(&mut self) -> Result<()> {
        let signals = Signals::open()?;
        let running: Vec<usize> = (0..self.slots.len())
            .filter(|n| matches!(self.slots[*n].phase, Phase::Running(_)))
            .collect();
        let blocked: Vec<usize> = (0..self.slots.len())
            .filter(|n| matches!(self.slots[*n].phase, Phase::Blocked(_)))
            .collect();
        let hashing: Vec<LayerRef> = self.layers.fds().map(|(layer, _)| layer).collect();
        let copying: Vec<usize> = (0..self.slots.len())
            .filter(|n| matches!(self.slots[*n].phase, Phase::Copying(_)))
            .collect();
        let pace = self.progress.pace();
        let due = self.layers.commit_due().into_iter().chain(pace).min();
        let timeout = due.and_then(|due| Timespec::try_from(due).ok());
        let (spoken, told, freed, hashed, asked) = {
            let sockets = running.iter().filter_map(|n| match &self.slots[*n].phase {
                Phase::Running(running) => Some(running.step.fd()),
                _ => None,
            });
            let copiers = copying.iter().filter_map(|n| match &self.slots[*n].phase {
                Phase::Copying(copying) => copying.task.fd(),
                _ => None,
            });
            let waits = blocked.iter().filter_map(|n| match &self.slots[*n].phase {
                Phase::Blocked(blocked) => blocked.task.fd(),
                _ => None,
            });
            let tasks = self.layers.fds().map(|(_, fd)| fd);
            let own = signals.fd.as_fd();
            let all: Vec<_> = sockets.chain(copiers).chain(waits).chain(tasks).chain([own]).collect();
            let mut fds: Vec<_> = all
                .iter()
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
                .collect();
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(0) => self.progress.tick(),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e).context("poll"),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let (of_running, rest) = ready.split_at(running.len());
            let (of_copying, rest) = rest.split_at(copying.len());
            let (of_blocked, rest) = rest.split_at(blocked.len());
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
            (
                pick(&running, of_running),
                pick(&copying, of_copying),
                pick(&blocked, of_blocked),
                hashed,
                of_signals.contains(&true),
            )
        };
        if asked {
            let signal = signals.read()?;
            return Err(Error::status(u8::try_from(128 + signal).unwrap_or(255)));
        }
        for layer in hashed {
            self.layers.hashed(layer)?;
        }
        // Somebody may wait for one of them: it must not be until the next layer that it is in place.
        if self.layers.commit_due().is_some_and(|due| due.is_zero()) {
            self.layers.commit()?;
        }
        for n in freed {
            self.unblock(n)?;
        }
        for n in spoken {
            self.listen(n)?;
        }
        for n in told {
            self.hear(n)?;
        }
        Ok(())
    }

    /// Nobody else makes the step any more.
    fn unblock(&mut self, n: usize) -> Result<()> {
        let Phase::Blocked(blocked) = std::mem::replace(&mut self.slots[n].phase, Phase::Ready) else {
            return Ok(());
        };
        let Blocked { lock, task } = *blocked;
        task.finish::<()>()?;
        self.slots[n].lock = Some(lock);
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
            let message = compat::failed(&printable(&running.shown), code);
            let e = Error::new(Kind::Step(code), message);
            let e = e.with_hint_of(&running.statement.place.error(""));
            self.tell(number, Change::Failed(&e));
            return Err(e);
        }
        sys::stop_point("step-ended");
        let targets: Vec<PathBuf> = running.targets().cloned().collect();
        let top = self.stage(n)?.top;
        let places = running.staged.place().join(crate::build::mounts::PLACES);
        self.layers
            .settle_step(top, &running.staged, places.exists().then_some(places))?;
        files::remove_places(&self.layers.dirs(top), &running.staged, &targets)?;
        let container = running.step.id.short().to_owned();
        let done = Executed {
            said: running.said,
            inputs: running.made.inputs.clone(),
            created: self.options.time.created.unwrap_or(running.made.created),
            content: None,
        };
        let layer = self.layers.take(top, running.staged, running.made)?;
        if let Some(lock) = running.lock {
            self.layers.keep_lock(layer, lock);
        }
        self.take_made(n, layer, done)?;
        let done = Done {
            cached: false,
            began: running.began,
            container: Some(container),
        };
        self.done(number, &done);
        Ok(())
    }

    /// Ends what runs, and waits until nothing is left of it.
    pub(super) fn stop_all(&mut self) -> Result<()> {
        let mut result = Ok(());
        let mut killed = false;
        for slot in &mut self.slots {
            let running = match std::mem::replace(&mut slot.phase, Phase::Done) {
                Phase::Running(running) => running,
                Phase::Copying(copying) => {
                    let step = copying.number;
                    // The process first, what it writes into then.
                    drop(copying);
                    killed = true;
                    let change = Change::Canceled;
                    self.progress.event(Event::Step { step, change });
                    continue;
                }
                _ => continue,
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
        match killed {
            // What it had fetched into staging.
            true => result.and(self.store.sweep_left_overs()),
            false => result,
        }
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
