//! temporary
use crate::build::expand::Globals;
use crate::build::instruction::{Dockerfile, Instruction, MountKind};
use crate::error::Result;
use crate::model::platform::Platform;
use std::collections::BTreeSet;
pub(crate) struct Request<'a> {
    pub(crate) target: Option<&'a str>,
    pub(crate) named_contexts: &'a [&'a str],
    pub(crate) all_stages: bool,
    pub(crate) globals: &'a Globals,
    pub(crate) platform: &'a Platform,
}
pub(crate) enum Base { Scratch, Stage(usize), Image(String), Context(String) }
pub(crate) struct PlannedStage { pub(crate) index: usize, pub(crate) base: Base, pub(crate) platform: Platform, pub(crate) needs: BTreeSet<usize> }
pub(crate) struct Plan { pub(crate) stages: Vec<PlannedStage>, pub(crate) target: usize }
pub(crate) fn plan(d: &Dockerfile, r: &Request<'_>) -> Result<Plan> {
    let mut stages = Vec::new();
    for s in &d.stages {
        let base = r.globals.from_text(&s.base)?.text;
        let find = |name: &str| d.stages[..s.index].iter().find(|o| o.name.as_deref() == Some(name) || o.index.to_string() == name).map(|o| o.index);
        let mut needs = BTreeSet::new();
        let b = match base.as_str() { "scratch" => Base::Scratch, n => match find(n) { Some(i) => { needs.insert(i); Base::Stage(i) } None => Base::Image(base) } };
        for st in &s.statements {
            let from = match &st.instruction { Instruction::Copy(t) | Instruction::Add(t) => t.from.as_ref().map(|w| w.to_string()),
              Instruction::Run(r) => { for m in &r.mounts { if let MountKind::Bind{from: Some(f),..} = &m.kind { needs.extend(find(f)); } } None } _ => None };
            needs.extend(from.and_then(|f| find(&f)));
        }
        stages.push(PlannedStage { index: s.index, base: b, platform: r.platform.clone(), needs });
    }
    Ok(Plan { target: d.stages.len() - 1, stages })
}
