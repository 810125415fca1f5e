//! Which stages a build needs, on what each of them stands, and in which order (pure).
//!
//! `FROM name` means an earlier stage, `COPY --from` and mounts any stage, a later one too. A named context takes the
//! place of a stage or an image of its name. What is no stage is an image.

use crate::build::expand::Globals;
use crate::build::instruction::{Dockerfile, Instruction, MountKind, Statement};
use crate::build::place::{Place, Word};
use crate::error::{Error, Result};
use crate::model::near::nearest;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Request<'a> {
    /// A stage's name or index; the last stage without it.
    pub(crate) target: Option<&'a str>,
    /// Names of `--build-context`.
    pub(crate) contexts: &'a [String],
    /// Also stages that the target does not need.
    pub(crate) all_stages: bool,
    /// `--from`: instead of the base of the first FROM.
    pub(crate) replace_base: Option<&'a str>,
}

/// What a stage begins with, or what files are copied from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Base {
    Scratch,
    /// By its index in the Dockerfile.
    Stage(usize),
    /// A name that parses as a reference, or an image's id.
    Image(String),
    /// `--build-context` of this name.
    Context(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedStage {
    /// In the Dockerfile.
    pub(crate) index: usize,
    pub(crate) base: Base,
    /// A named context has this stage's name: the stage is what is in it, and no instruction is executed.
    pub(crate) replaced: bool,
    /// Of its FROM line.
    pub(crate) platform: Option<Platform>,
    /// The other stages that must be complete before one of its instructions, its base among them.
    pub(crate) needs: BTreeSet<usize>,
    /// What `--from=TEXT` and `from=TEXT` in its instructions mean.
    pub(crate) sources: BTreeMap<String, Base>,
}

/// The stages to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Each one after those that it needs. Stages that do not need each other may be built at once.
    pub(crate) stages: Vec<PlannedStage>,
    /// Index in the Dockerfile of the stage that becomes the image.
    pub(crate) target: usize,
    /// Variables in FROM lines that are not set, with the place of the line.
    pub(crate) unset: Vec<(Place, String)>,
}

#[cfg(test)]
impl Plan {
    fn stage(&self, index: usize) -> Option<&PlannedStage> {
        self.stages.iter().find(|s| s.index == index)
    }
}

/// Decides what to build.
pub(crate) fn plan(dockerfile: &Dockerfile, globals: &Globals, request: Request<'_>) -> Result<Plan> {
    let target = target(dockerfile, request.target)?;
    let mut planner = Planner {
        dockerfile,
        globals,
        request,
        done: Vec::new(),
        open: Vec::new(),
        unset: Vec::new(),
    };
    let last = dockerfile.stages.len();
    let wanted = if request.all_stages {
        0..last
    } else {
        target..target + 1
    };
    for index in wanted {
        planner.visit(index, None)?;
    }
    Ok(Plan {
        stages: planner.done,
        target,
        unset: planner.unset,
    })
}

fn target(dockerfile: &Dockerfile, asked: Option<&str>) -> Result<usize> {
    let Some(asked) = asked.filter(|t| !t.is_empty()) else {
        return Ok(dockerfile.stages.len().saturating_sub(1));
    };
    if let Some(index) = named(dockerfile, asked, dockerfile.stages.len()) {
        return Ok(index);
    }
    if let Some(index) = asked.parse().ok().filter(|n: &usize| *n < dockerfile.stages.len()) {
        return Ok(index);
    }
    let names: Vec<&str> = dockerfile.stages.iter().filter_map(|s| s.name.as_deref()).collect();
    let e = Error::other(format!("target stage \"{asked}\" could not be found"));
    Err(
        match (nearest(&asked.to_ascii_lowercase(), names.iter().copied()), &names[..]) {
            (Some(near), _) => e.with_hint(format!("did you mean {near}?")),
            (None, []) => e.with_hint("no stage has a name: write FROM image AS name"),
            (None, names) => e.with_hint(format!("there are {}", names.join(", "))),
        },
    )
}

/// The last stage of a name, before the one at `before`.
fn named(dockerfile: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    let stages = dockerfile.stages.get(..before)?;
    stages
        .iter()
        .rposition(|s| s.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name)))
}

/// What `--from=TEXT` of COPY or of a mount means. For triggers too, which are known only when their image is there.
pub(crate) fn source(dockerfile: &Dockerfile, contexts: &[String], text: &str) -> Result<Base, String> {
    if let Some(name) = context(contexts, text) {
        return Ok(Base::Context(name));
    }
    if let Some(index) = named(dockerfile, text, dockerfile.stages.len()) {
        return Ok(Base::Stage(index));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let stages = dockerfile.stages.len();
        let index = text.parse().ok().filter(|n| *n < stages);
        let last = stages.saturating_sub(1);
        return index
            .map(Base::Stage)
            .ok_or_else(|| format!("there is no stage {text}: they are 0 to {last}"));
    }
    image(text)
}

fn image(text: &str) -> Result<Base, String> {
    match text {
        "" => Err("the base name is blank".to_owned()),
        "scratch" => Ok(Base::Scratch),
        // Ids as they are.
        text if text.strip_prefix("sha256:").unwrap_or(text).len() == 64 => Ok(Base::Image(text.to_owned())),
        text => match Reference::parse(text) {
            Ok(_) => Ok(Base::Image(text.to_owned())),
            Err(e) => Err(e.to_string()),
        },
    }
}

/// The context of a name, however the image's name is spelt.
fn context(contexts: &[String], text: &str) -> Option<String> {
    let full = |name: &str| Reference::parse(name).ok().map(Reference::or_latest);
    let same = |name: &&String| name.eq_ignore_ascii_case(text) || (full(text).is_some() && full(text) == full(name));
    contexts.iter().rev().find(same).cloned()
}

struct Planner<'a> {
    dockerfile: &'a Dockerfile,
    globals: &'a Globals,
    request: Request<'a>,
    done: Vec<PlannedStage>,
    /// On the way from the target to here.
    open: Vec<usize>,
    unset: Vec<(Place, String)>,
}

impl Planner<'_> {
    /// Plans a stage and what it needs. `asked` is where it was asked for.
    fn visit(&mut self, index: usize, asked: Option<&Place>) -> Result<()> {
        if self.done.iter().any(|s| s.index == index) {
            return Ok(());
        }
        let stage = &self.dockerfile.stages[index];
        if self.open.contains(&index) {
            let place = asked.unwrap_or(&stage.place);
            let name = stage.name.clone().unwrap_or_else(|| index.to_string());
            return Err(place.error(format!("circular dependency detected on stage: {name}")));
        }
        // No chain of stages can be longer than there are stages, and each one costs little stack.
        if self.open.len() > MOST_NESTED {
            return Err(stage
                .place
                .error(format!("more than {MOST_NESTED} stages on top of each other")));
        }
        self.open.push(index);
        let mut planned = self.describe(index)?;
        let mut needs: Vec<(usize, Place)> = Vec::new();
        if let Base::Stage(base) = planned.base {
            needs.push((base, stage.place.clone()));
        }
        if !planned.replaced {
            for statement in &stage.statements {
                for (text, place) in sources_of(statement) {
                    let base = source(self.dockerfile, self.request.contexts, &text).map_err(|why| place.error(why))?;
                    if let Base::Stage(other) = base {
                        needs.push((other, place));
                    }
                    planned.sources.insert(text, base);
                }
            }
        }
        for (other, place) in needs {
            planned.needs.insert(other);
            self.visit(other, Some(&place))?;
        }
        self.open.pop();
        self.done.push(planned);
        Ok(())
    }

    fn describe(&mut self, index: usize) -> Result<PlannedStage> {
        let stage = &self.dockerfile.stages[index];
        let replaced = stage.name.as_ref().and_then(|n| context(self.request.contexts, n));
        let base = self.text(&stage.base)?;
        let at = |why: String| stage.base.place.error_at(stage.base.chars().count(), why);
        let platform = match &stage.platform {
            None => None,
            Some(word) => {
                let text = self.text(word)?;
                if text.is_empty() {
                    return Err(word.place.error_at(
                        word.chars().count(),
                        format!("empty platform value from expression {word}"),
                    ));
                }
                let parsed = Platform::parse(&text);
                Some(parsed.map_err(|e| word.place.error_at(word.chars().count(), e))?)
            }
        };
        let base = match (&replaced, self.request.replace_base.filter(|_| index == 0)) {
            (Some(name), _) => Base::Context(name.clone()),
            (None, Some(other)) => image(other).map_err(at)?,
            (None, None) if base.is_empty() => {
                return Err(at(format!("base name ({}) should not be blank", stage.base)));
            }
            (None, None) => match (
                context(self.request.contexts, &base),
                named(self.dockerfile, &base, index),
            ) {
                (Some(name), _) => Base::Context(name),
                (None, Some(earlier)) => Base::Stage(earlier),
                (None, None) => image(&base).map_err(at)?,
            },
        };
        Ok(PlannedStage {
            index,
            base,
            replaced: replaced.is_some(),
            platform,
            needs: BTreeSet::new(),
            sources: BTreeMap::new(),
        })
    }

    fn text(&mut self, word: &Word) -> Result<String> {
        let done = self.globals.text_of_from(word)?;
        let unset = done.unset.into_iter().map(|name| (word.place.clone(), name));
        self.unset.extend(unset);
        Ok(done.text)
    }
}

/// Each is a frame on the stack. (An image has 128 layers at most, anyway.)
const MOST_NESTED: usize = 128;

/// What an instruction takes files from, and where it says so.
pub(crate) fn sources_of(statement: &Statement) -> Vec<(String, Place)> {
    match &statement.instruction {
        Instruction::Copy(transfer) => {
            let from = transfer.from.iter();
            from.map(|word| (word.text.clone(), word.place.clone())).collect()
        }
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => {
                    Some((from.clone()?, mount.text.place.clone()))
                }
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::expand::Platforms;
    use crate::build::parser::parse;

    fn planned(text: &str, target: Option<&str>, contexts: &[&str]) -> Result<Plan> {
        let dockerfile = parse("Dockerfile", text.as_bytes())?;
        let platforms = Platforms {
            build: Platform::host(),
            target: Platform::host(),
            stage: "default".into(),
        };
        let globals = Globals::new(&dockerfile, &BTreeMap::new(), &platforms)?;
        let contexts: Vec<String> = contexts.iter().map(|c| (*c).to_owned()).collect();
        plan(
            &dockerfile,
            &globals,
            Request {
                target,
                contexts: &contexts,
                ..Request::default()
            },
        )
    }

    /// `index:base(needs)` of each stage.
    fn shown(text: &str, target: Option<&str>, contexts: &[&str]) -> String {
        let plan = planned(text, target, contexts).unwrap_or_else(|e| panic!("{text}: {e}"));
        let stage = |s: &PlannedStage| {
            let base = match &s.base {
                Base::Scratch => "scratch".to_owned(),
                Base::Stage(n) => format!("#{n}"),
                Base::Image(name) => name.clone(),
                Base::Context(name) => format!("@{name}"),
            };
            let needs: Vec<String> = s.needs.iter().map(usize::to_string).collect();
            format!("{}:{base}({})", s.index, needs.join(","))
        };
        let stages: Vec<String> = plan.stages.iter().map(stage).collect();
        format!("{} -> {}", stages.join(" "), plan.target)
    }

    #[test]
    fn what_is_needed_and_in_which_order() {
        let three = "FROM x AS a\nRUN 1\nFROM y AS b\nRUN 2\nFROM scratch\nCOPY --from=a / /";
        for (text, target, contexts, want) in [
            ("FROM x", None, &[][..], "0:x() -> 0"),
            (three, None, &[], "0:x() 2:scratch(0) -> 2"),
            (three, Some("b"), &[], "1:y() -> 1"),
            (three, Some("B"), &[], "1:y() -> 1"),
            (three, Some("0"), &[], "0:x() -> 0"),
            (three, Some(""), &[], "0:x() 2:scratch(0) -> 2"),
            ("FROM x AS a\nFROM a\nFROM A", None, &[], "0:x() 2:#0(0) -> 2"),
            ("FROM x AS a\nFROM y\nCOPY --from=0 a b", None, &[], "0:x() 1:y(0) -> 1"),
            (
                "FROM x\nCOPY --from=later a b\nFROM y AS later",
                Some("0"),
                &[],
                "1:y() 0:x(1) -> 0",
            ),
            ("FROM x\nCOPY --from=busybox:1 a b", None, &[], "0:x() -> 0"),
            ("FROM x AS x", None, &[], "0:x() -> 0"),
            (
                "FROM x AS a\nFROM y\nRUN --mount=from=a,target=/a b",
                None,
                &[],
                "0:x() 1:y(0) -> 1",
            ),
            (
                "FROM x AS a\nFROM y\nRUN --mount=type=cache,from=a,target=/a b",
                None,
                &[],
                "0:x() 1:y(0) -> 1",
            ),
            // Contexts.
            ("FROM alpine", None, &["alpine"], "0:@alpine() -> 0"),
            (
                "FROM docker.io/library/alpine:latest",
                None,
                &["alpine"],
                "0:@alpine() -> 0",
            ),
            ("FROM alpine:3", None, &["alpine"], "0:alpine:3() -> 0"),
            (three, None, &["a"], "2:scratch() -> 2"),
            (three, Some("a"), &["a"], "0:@a() -> 0"),
            ("ARG V=1\nFROM x:$V", None, &[], "0:x:1() -> 0"),
        ] {
            assert_eq!(shown(text, target, contexts), want, "{text} {target:?}");
        }
        let plan = planned(three, None, &["a"]).unwrap();
        assert_eq!(plan.stage(2).unwrap().sources["a"], Base::Context("a".into()));
        let all = planned("FROM --platform=linux/arm64 x\nFROM y$Z", None, &[]).unwrap();
        assert_eq!(all.unset[0].1, "Z");
    }

    #[test]
    fn what_cannot_be_built() {
        for (text, target, why) in [
            ("FROM x AS a", Some("b"), "target stage \"b\" could not be found"),
            ("FROM x", Some("1"), "target stage \"1\" could not be found"),
            (
                "FROM x AS a\nCOPY --from=a a b",
                None,
                "Dockerfile:2:13: circular dependency detected on stage: a",
            ),
            (
                "FROM x AS a\nCOPY --from=b a b\nFROM y AS b\nCOPY --from=a a b",
                None,
                "Dockerfile:2:13: circular dependency detected on stage: b",
            ),
            (
                "FROM x\nCOPY --from=3 a b",
                None,
                "Dockerfile:2:13: there is no stage 3: they are 0 to 0",
            ),
            (
                "FROM x\nCOPY --from=A/b a b",
                None,
                "Dockerfile:2:13: invalid image name 'A/b'",
            ),
            ("FROM $NO", None, "Dockerfile:1:6: base name ($NO) should not be blank"),
            ("FROM x:y:z", None, "Dockerfile:1:6: invalid image name"),
            (
                "FROM --platform=$NO x",
                None,
                "Dockerfile:1:17: empty platform value from expression $NO",
            ),
            ("FROM --platform=a/b/c/d x", None, "Dockerfile:1:17: invalid platform"),
        ] {
            let e = planned(text, target, &[]).err().unwrap_or_else(|| panic!("{text}"));
            assert!(e.to_string().starts_with(why), "{text}: {e}");
        }
        let e = planned("FROM x AS build", Some("biuld"), &[]).unwrap_err();
        assert_eq!(e.hint(), Some("did you mean build?"));
        let chain: String = (0..3000).map(|n| format!("FROM s{n} AS s{}\n", n + 1)).collect();
        assert!(
            planned(&chain, None, &[])
                .unwrap_err()
                .to_string()
                .contains("on top of each other")
        );
    }
}
