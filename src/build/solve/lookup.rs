//! What a step is known by, what the cache has for it, and what a stage becomes by either.
//!
//! A step is known by the tree it is done on (its layers, not how they came about), and by what goes into it. So after
//! a step that had to be made, the next is found again if the files are what they were. To know that, the layer has to
//! be digested; that is waited for only where a step of the same family is known at all.

use super::Solver;
use crate::build::cache::export::Step;
use crate::build::copy::{Request, Verb};
use crate::build::files;
use crate::build::instruction::Statement;
use crate::build::layers::{Known, LayerRef, Made, Note, Top};
use crate::build::stage::Stage;
use crate::build::state::Said;
use crate::error::Result;
use crate::model::digest::Digest;
use crate::model::id::ChainId;
use crate::model::time::Timestamp;
use crate::store::Inputs;

/// A step that was executed.
pub(super) struct Executed {
    pub(super) said: Said,
    pub(super) inputs: Inputs,
    pub(super) created: Timestamp,
    pub(super) content: Option<Digest>,
}

impl Solver<'_> {
    /// What the cache has for a step, if it may be used.
    pub(super) fn look_up(&mut self, n: usize, family: Digest, form: Digest) -> Result<Option<Known>> {
        if !self.may_know(n, &family) {
            return Ok(None);
        }
        let top = self.stage(n)?.top;
        let oldest = self
            .options
            .cache
            .oldest
            .and_then(|age| Timestamp::now().checked_sub(age).ok());
        let found = self.layers.cached(top, family, form)?;
        Ok(found.filter(|known| oldest.is_none_or(|oldest| known.created >= oldest)))
    }

    /// Whether there is any sense in looking.
    pub(super) fn may_know(&self, n: usize, family: &Digest) -> bool {
        !self.slots[n].no_cache && self.knows(family)
    }

    fn knows(&self, family: &Digest) -> bool {
        self.store.has_family(family) || self.layers.imports.has_family(family)
    }

    /// Changes the configuration only.
    pub(super) fn meta(&mut self, n: usize, statement: &Statement) -> Result<bool> {
        let said = self.stage(n)?.state.apply(statement)?;
        self.meta_of(n, &said)
    }

    fn meta_of(&mut self, n: usize, said: &Said) -> Result<bool> {
        let stage = self.stage(n)?;
        stage.id = next_id(stage.id, &["meta", said.text()]);
        let inputs = Inputs::only(stage.id);
        let found = self.look_up(n, inputs.family, inputs.family)?;
        let cached = found.is_some();
        let created = match found {
            Some(known) if self.options.time.created.is_none() => known.created,
            _ => self.created(),
        };
        let stage = self.stage(n)?;
        stage.state.note(said, created, true);
        let top = stage.top;
        self.unchanged(top, (inputs, created), said.text(), cached);
        Ok(cached)
    }

    /// What is added to the target's configuration after its last instruction.
    pub(crate) fn last(&mut self, stage: &mut Stage, said: &Said) -> Result<()> {
        stage.id = next_id(stage.id, &["meta", said.text()]);
        let inputs = Inputs::only(stage.id);
        let mut known = None;
        if !self.options.cache.ignore && self.knows(&inputs.family) {
            known = self.layers.cached(stage.top, inputs.family, inputs.family)?;
        }
        let cached = known.is_some();
        let created = match known {
            Some(known) if self.options.time.created.is_none() => known.created,
            _ => self.created(),
        };
        stage.state.note(said, created, true);
        self.unchanged(stage.top, (inputs, created), said.text(), cached);
        Ok(())
    }

    /// A step without files of its own is over.
    fn unchanged(&mut self, top: Top, (inputs, created): (Inputs, Timestamp), text: &str, cached: bool) {
        self.steps.push(Step {
            inputs: inputs.clone(),
            before: top,
            layer: None,
            created,
            content: None,
        });
        if !cached {
            let note = Note {
                inputs,
                created: self.made_at(created),
                description: text.to_owned(),
            };
            self.layers.note(top, note);
        }
    }

    /// Takes what the cache has for a step of files.
    pub(super) fn take_cached(&mut self, n: usize, (said, inputs): (&Said, Inputs), found: &Known) -> Result<()> {
        let created = self.options.time.created.unwrap_or(found.created);
        let layer = found.top.filter(|_| found.changed);
        let stage = self.stage(n)?;
        let before = stage.top;
        stage.id = next_id(stage.id, &["step", &inputs.id()]);
        stage.state.note(said, created, !found.changed);
        stage.top = found.top;
        if let Some(layer) = layer {
            stage.made.push((stage.state.image.history.len() - 1, layer));
        }
        self.steps.push(Step {
            inputs,
            before,
            layer,
            created,
            content: found.content,
        });
        Ok(())
    }

    /// Takes what a step of files has made.
    pub(super) fn take_made(&mut self, n: usize, layer: LayerRef, done: Executed) -> Result<()> {
        let stage = self.stage(n)?;
        let before = stage.top;
        stage.id = next_id(stage.id, &["step", &done.inputs.id()]);
        stage.state.note(&done.said, done.created, false);
        stage.made.push((stage.state.image.history.len() - 1, layer));
        stage.top = Some(layer);
        self.steps.push(Step {
            inputs: done.inputs,
            before,
            layer: Some(layer),
            created: done.created,
            content: done.content,
        });
        Ok(())
    }

    pub(super) fn workdir(&mut self, n: usize, statement: &Statement) -> Result<bool> {
        let stage = self.stage(n)?;
        let said = stage.state.apply(statement)?;
        let path = stage.state.workdir();
        let top = stage.top;
        let inputs = Inputs::only(digest_of(&serde_json::json!(["workdir", path, self.latest()])));
        if let Some(found) = self.look_up(n, inputs.family, inputs.family)? {
            self.take_cached(n, (&said, inputs), &found)?;
            return Ok(true);
        }
        let created = self.created();
        let staged = self.layers.stage(top)?;
        let made =
            files::make_directory(&self.layers.dirs(top), &path, &staged).map_err(|e| statement.place.error(e))?;
        if !made {
            // It says nothing about the files after it.
            let stage = self.stage(n)?;
            stage.id = next_id(stage.id, &["step", &inputs.id()]);
            stage.state.note(&said, created, true);
            self.unchanged(top, (inputs, created), said.text(), false);
            return Ok(false);
        }
        let made = Made {
            inputs: inputs.clone(),
            created: self.made_at(created),
            description: said.text().to_owned(),
            content: None,
            latest: self.latest(),
        };
        let layer = self.layers.take(top, staged, made)?;
        let done = Executed {
            said,
            inputs,
            created,
            content: None,
        };
        self.take_made(n, layer, done)?;
        Ok(false)
    }
}

impl Solver<'_> {
    /// COPY and ADD by the tree that they read, none of whose files are needed then.
    pub(super) fn look_up_tree(&mut self, n: usize, key: &CopyKey) -> Result<Option<Known>> {
        match key.tree {
            Some(tree) => Ok(self
                .look_up(n, key.family, tree)?
                .filter(|known| known.content.is_some())),
            None => Ok(None),
        }
    }

    pub(super) fn look_up_content(&mut self, n: usize, key: &CopyKey, content: &Digest) -> Result<Option<Known>> {
        let found = self.look_up(n, key.family, key.by_content(content))?;
        Ok(found.map(|known| Known {
            content: Some(*content),
            ..known
        }))
    }

    pub(super) fn take_copied(&mut self, n: usize, request: &Request, key: &CopyKey, found: &Known) -> Result<()> {
        let content = found.content.unwrap_or_else(|| Digest::of(b""));
        let said = Said::Files(copied_text(request, &content));
        self.take_cached(n, (&said, key.inputs(&content)), found)
    }
}

/// What COPY and ADD are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopyKey {
    /// All but the files.
    pub(super) family: Digest,
    /// With the tree that the files are of, if that is a stage's.
    pub(super) tree: Option<Digest>,
}

impl CopyKey {
    /// `tree` is the topmost layer of the stage that is read.
    pub(super) fn new(
        request: &Request,
        (link, latest): (bool, Option<i64>),
        tree: Option<Option<ChainId>>,
    ) -> CopyKey {
        let family = digest_of(&serde_json::json!([
            "copy",
            request.verb == Verb::Add,
            request.dest,
            request.workdir,
            request.chown,
            request.chmod,
            request.parents,
            request.unpack,
            link,
            latest,
        ]));
        // What is fetched or written for the instruction alone is of no tree.
        let local = request.documents.is_empty() && request.verb == Verb::Copy;
        let tree = tree.filter(|_| local).map(|top| {
            let top = top.map(|top| top.hex());
            digest_of(&serde_json::json!([
                "tree",
                family.hex(),
                top,
                request.sources,
                request.exclude
            ]))
        });
        CopyKey { family, tree }
    }

    pub(super) fn by_content(&self, content: &Digest) -> Digest {
        digest_of(&serde_json::json!(["content", self.family.hex(), content.hex()]))
    }

    pub(super) fn inputs(&self, content: &Digest) -> Inputs {
        Inputs {
            family: self.family,
            forms: std::iter::once(self.by_content(content)).chain(self.tree).collect(),
        }
    }
}

/// `COPY --chown=u file:… in /dest `, as the classic builder has it.
pub(super) fn copied_text(request: &Request, content: &Digest) -> String {
    let keyword = if request.verb == Verb::Add { "ADD" } else { "COPY" };
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

/// The digest of what goes into a step.
pub(super) fn digest_of(what: &serde_json::Value) -> Digest {
    Digest::of(what.to_string().as_bytes())
}

/// The name of the state after a step.
fn next_id(before: Digest, what: &[&str]) -> Digest {
    Digest::of(format!("{}\n{}", before.hex(), what.join("\n")).as_bytes())
}
