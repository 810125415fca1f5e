//! COPY and ADD: files are looked at, fetched and copied by a process beside the build, so that other stages go on and a
//! signal is heard at once.
//!
//! The process first tells the digest of what it would copy, if the cache may have that, and waits for a word; then it
//! writes into the staged layer, and its answer is the digest of what it has written. It dies with the build.

use super::{Done, Solver, inputs};
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
        let (top, busted) = (stage.top, stage.busted);
        let source = self.source(from.as_deref()).map_err(place)?;
        let look = !busted && !self.slots[n].no_cache;
        let staged = self.layers.stage(top)?;
        let mut kept = source.fds();
        kept.push(staged.lock());
        let task = task::start_bound(&kept, |talk| {
            if let Source::Context(context) = &source {
                context.news();
            }
            let selected = copy::select(self.store, &self.options.access, &request, source.tree())?;
            if look {
                let content = selected.digest()?;
                tell_news(talk, &source)?;
                if !talk.ask(&(content, selected.kind()))? {
                    return Ok((content, selected.kind()));
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
                        upper: Some(upper.as_fd()),
                        names: root.as_fd(),
                        told: &told,
                    })?
                }
            };
            tell_news(talk, &source)?;
            Ok((written, selected.kind()))
        })?;
        drop(kept);
        self.slots[n].phase = Phase::Copying(Box::new(Copying {
            number,
            statement: statement.clone(),
            task,
            staged,
            request,
            link: transfer.link,
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
        let result = match copying.task.hear::<What, What>() {
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
    fn looked(&mut self, n: usize, mut copying: Box<Copying>, what: What) -> Result<()> {
        let inputs = key(&copying, &what.0);
        let Some(found) = self.look_up(n, inputs)? else {
            copying.task.go_on()?;
            self.slots[n].phase = Phase::Copying(copying);
            return Ok(());
        };
        let copying = *copying;
        copying.task.call_off()?;
        let said = Said::Files(text(&copying.request, &what));
        self.take_cached(n, (&said, inputs), found)?;
        let done = Done {
            cached: true,
            began: copying.began,
            container: None,
        };
        self.done(copying.number, &done);
        Ok(())
    }

    fn copied(&mut self, n: usize, copying: Copying, what: What) -> Result<()> {
        sys::stop_point("files-copied");
        let inputs = key(&copying, &what.0);
        let said = Said::Files(text(&copying.request, &what));
        let created = self.created();
        let top = self.stage(n)?.top;
        let made = Made {
            inputs: vec![inputs],
            created,
            description: said.text().to_owned(),
            latest: self.latest(),
        };
        let layer = self.layers.take(top, copying.staged, made)?;
        self.take_made(n, &said, Some(layer), (created, inputs))?;
        let done = Done {
            cached: false,
            began: copying.began,
            container: None,
        };
        self.done(copying.number, &done);
        Ok(())
    }
}

/// The digest of all that is copied, and what the history calls it.
type What = (Digest, String);

fn tell_news(talk: &Talk, source: &Source) -> Result<()> {
    match source {
        Source::Context(context) => talk.learnt(&context.news()),
        Source::Layers { .. } => Ok(()),
    }
}

/// All that decides about the result.
fn key(copying: &Copying, content: &Digest) -> Digest {
    let request = &copying.request;
    inputs(&serde_json::json!([
        "copy",
        request.verb == Verb::Add,
        request.dest,
        request.workdir,
        request.chown,
        request.chmod,
        request.parents,
        request.unpack,
        copying.link,
        content.hex()
    ]))
}

/// `COPY --chown=u file:… in /dest `, as the classic builder has it.
fn text(request: &Request, (content, kind): &What) -> String {
    let keyword = if request.verb == Verb::Add { "ADD" } else { "COPY" };
    let chown = request
        .chown
        .as_ref()
        .map_or_else(String::new, |c| format!("--chown={c} "));
    format!("{keyword} {chown}{kind}:{} in {} ", content.hex(), request.dest)
}
