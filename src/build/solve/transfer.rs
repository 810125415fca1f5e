//! COPY and ADD: files are looked at, fetched and copied by a process beside the build, so that other stages go on and a
//! signal is heard at once.
//!
//! The process first tells the digest of what it would copy, if the cache may have that, and waits for a word; then it
//! writes into the staged layer, and its answer is the digest of what it has written. It dies with the build.

use super::lookup::{CopyKey, Executed, copied_text};
use super::{Done, Solver};
use crate::build::copy::{self, Request, Target, Verb};
use crate::build::files;
use crate::build::instruction::{Statement, Transfer};
use crate::build::layers::Made;
use crate::build::progress::{Change, Event, StepNumber};
use crate::build::sources::Source;
use crate::build::stage::{Copying, Phase};
use crate::build::state::Said;
use crate::build::task::{self, Heard, Talk};
use crate::error::{Error, Result};
use crate::model::digest::Digest;
use crate::sys;
use std::os::fd::AsFd as _;
use std::time::Instant;

impl Solver<'_> {
    /// Starts it.
    pub(super) fn transfer(
        &mut self,
        n: usize,
        number: StepNumber,
        (statement, verb, transfer): (&Statement, Verb, &Transfer),
        began: Instant,
    ) -> Result<()> {
        let place = |e: Error| statement.place.error(&e).with_hint_of(&e);
        let from = transfer.from.as_ref().map(|w| w.to_string());
        let stage = self.stage(n)?;
        let request = Request::of(verb, transfer, &stage.state.workdir());
        let top = stage.top;
        let tree = self.tree_of(from.as_deref());
        let tree = tree.map(|top| self.layers.chain(top)).transpose()?;
        let key = CopyKey::new(&request, (transfer.link, self.latest()), tree);
        if let Some(found) = self.look_up_tree(n, &key)? {
            self.take_copied(n, &request, &key, &found)?;
            self.found((number, began));
            return Ok(());
        }
        let source = self.source(from.as_deref()).map_err(place)?;
        let look = self.may_know(n, &key.family);
        self.layers.bring(top)?;
        let staged = self.layers.stage(top)?;
        self.layers.hold(top)?;
        let mut kept = source.fds();
        kept.push(staged.lock());
        kept.extend(self.layers.held());
        let task = task::start_bound(&kept, |talk| {
            if let Source::Context(context) = &source {
                context.news();
            }
            let selected = copy::select(self.store, &self.options.access, &request, source.tree())?;
            if look {
                let content = selected.digest()?;
                tell_news(talk, &source)?;
                if !talk.ask(&content)? {
                    return Ok(content);
                }
            }
            let upper = staged.diff()?;
            let told = |bytes| talk.progress(bytes);
            let written = match transfer.link {
                // Whatever the tree is: its links are not followed, and a file goes where it has a directory.
                true => {
                    let names = self.layers.look(top)?;
                    let written = selected.write(&Target {
                        tree: upper.as_fd(),
                        upper: None,
                        names: names.as_fd(),
                        told: &told,
                    })?;
                    let (dest, _) = request.destination();
                    files::keep_directories(&self.layers.dirs(top), &dest, &staged)?;
                    written
                }
                false => {
                    let root = self.layers.writable(top, &staged)?;
                    selected.write(&Target {
                        tree: root.as_fd(),
                        upper: Some(upper.as_fd()).filter(|_| self.layers.upper_is_seen()),
                        names: root.as_fd(),
                        told: &told,
                    })?
                }
            };
            tell_news(talk, &source)?;
            Ok(written)
        });
        drop(kept);
        self.layers.let_go();
        let task = task?;
        self.slots[n].phase = Phase::Copying(Box::new(Copying {
            number,
            statement: statement.clone(),
            task,
            staged,
            request,
            key,
            source,
            began,
        }));
        Ok(())
    }

    /// It has said something.
    pub(super) fn hear(&mut self, n: usize) -> Result<()> {
        let Phase::Copying(mut copying) = std::mem::replace(&mut self.slots[n].phase, Phase::Ready) else {
            return Ok(());
        };
        let number = copying.number;
        let result = match copying.task.hear::<Digest, Digest>() {
            Ok(Heard::Progress(done)) => {
                let change = Change::Transfer {
                    what: "copied",
                    done,
                    total: None,
                };
                self.progress.event(Event::Step { step: number, change });
                self.slots[n].phase = Phase::Copying(copying);
                return Ok(());
            }
            Ok(Heard::Learnt(news)) => {
                if let Source::Context(context) = &copying.source {
                    context.learn(&news);
                }
                self.slots[n].phase = Phase::Copying(copying);
                return Ok(());
            }
            Ok(Heard::Question(content)) => self.looked(n, copying, content),
            Ok(Heard::Answer(content)) => self.copied(n, *copying, content),
            Err(e) => Err(copying.statement.place.error(&e).with_hint_of(&e)),
        };
        if let Err(e) = &result {
            self.tell(number, Change::Failed(e));
        }
        result
    }

    /// What it would copy is known: perhaps the cache has it.
    fn looked(&mut self, n: usize, mut copying: Box<Copying>, content: Digest) -> Result<()> {
        let Some(found) = self.look_up_content(n, &copying.key, &content)? else {
            copying.task.go_on()?;
            self.slots[n].phase = Phase::Copying(copying);
            return Ok(());
        };
        let copying = *copying;
        copying.task.call_off()?;
        self.take_copied(n, &copying.request, &copying.key, &found)?;
        self.found((copying.number, copying.began));
        Ok(())
    }

    fn found(&self, (number, began): (StepNumber, Instant)) {
        let done = Done {
            cached: true,
            began,
            container: None,
        };
        self.done(number, &done);
    }

    fn copied(&mut self, n: usize, copying: Copying, content: Digest) -> Result<()> {
        sys::stop_point("files-copied");
        let inputs = copying.key.inputs(&content);
        let said = Said::Files(copied_text(&copying.request, &content));
        let created = self.created();
        let top = self.stage(n)?.top;
        let made = Made {
            inputs: inputs.clone(),
            created: self.made_at(created),
            description: said.text().to_owned(),
            content: Some(content),
            latest: self.latest(),
        };
        let layer = self.layers.take(top, copying.staged, made)?;
        let executed = Executed {
            said,
            inputs,
            created,
            content: Some(content),
        };
        self.take_made(n, layer, executed)?;
        let done = Done {
            cached: false,
            began: copying.began,
            container: None,
        };
        self.done(copying.number, &done);
        Ok(())
    }
}

fn tell_news(talk: &Talk, source: &Source) -> Result<()> {
    match source {
        Source::Context(context) => talk.learnt(&context.news()),
        Source::Layers { .. } => Ok(()),
    }
}
