//! `--call outline` and `--call targets`: what a Dockerfile can be asked for, without building anything (pure but for
//! reading it). Comments right above say what stages and arguments are for, as in docker.

use crate::build::context;
use crate::build::expand::{Globals, Platforms};
use crate::build::instruction::{ArgDeclaration, Dockerfile, Instruction, MountKind, Stage};
use crate::build::options::{Call, Options};
use crate::build::parser;
use crate::build::plan;
use crate::error::Result;
use crate::model::platform::Platform;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// What is said, in the form that is asked for.
pub(crate) fn call(store: &Store, options: &Options) -> Result<String> {
    let opened = context::open(store, &options.asked())?;
    let dockerfile = parser::parse(&opened.dockerfile.name, &opened.dockerfile.text)?;
    match options.call {
        Call::Targets { json } => targets(&dockerfile, json),
        Call::Outline { json } => {
            let wanted = plan::Request {
                target: options.target.as_deref(),
                contexts: &options
                    .named_contexts
                    .iter()
                    .map(|n| n.name.clone())
                    .collect::<Vec<_>>(),
                all_stages: false,
                replace_base: None,
            };
            let platforms = Platforms {
                build: Platform::host(),
                target: options.platforms.first().cloned().unwrap_or_else(Platform::host),
                stage: options.target.clone().unwrap_or_else(|| "default".to_owned()),
            };
            let globals = Globals::new(&dockerfile, &options.args, &platforms)?;
            let plan = plan::plan(&dockerfile, &globals, wanted)?;
            let stages: BTreeSet<usize> = plan.stages.iter().map(|s| s.index).collect();
            outline(&dockerfile, (plan.target, &stages), &options.args, json)
        }
        Call::Build | Call::Check => Ok(String::new()),
    }
}

fn description(stage: &Stage) -> Option<String> {
    described(&stage.place.comment_above()?, stage.name.as_deref()?)
}

/// `# NAME what it is`.
fn described(comment: &str, name: &str) -> Option<String> {
    let rest = comment.strip_prefix(name)?.strip_prefix(' ')?;
    Some(rest.trim().to_owned()).filter(|d| !d.is_empty())
}

fn targets(dockerfile: &Dockerfile, json: bool) -> Result<String> {
    let last = dockerfile.stages.len() - 1;
    if json {
        let all = dockerfile.stages.iter().map(|stage| {
            let mut said = serde_json::Map::new();
            let mut put = |name: &str, value: Option<serde_json::Value>| {
                value.map(|value| said.insert(name.to_owned(), value));
            };
            put("name", stage.name.clone().map(Into::into));
            put("default", (stage.index == last).then(|| true.into()));
            put("description", description(stage).map(Into::into));
            put("base", Some(stage.base.to_string().into()));
            said
        });
        let targets: Vec<_> = all.collect();
        return Ok(serde_json::to_string_pretty(&serde_json::json!({"targets": targets}))?);
    }
    let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for stage in &dockerfile.stages {
        let name = match (&stage.name, stage.index == last) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".to_owned(),
            // Nobody can ask for it by name.
            (None, false) => continue,
        };
        rows.push(vec![name, description(stage).unwrap_or_default()]);
    }
    Ok(columns(&rows))
}

/// Rows in columns, three blanks apart; no line ends with a blank.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |n: usize| rows.iter().map(|r| r[n].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// One build argument.
struct Argument {
    value: Option<String>,
    description: Option<String>,
}

fn outline(
    dockerfile: &Dockerfile,
    (target, stages): (usize, &BTreeSet<usize>),
    given: &BTreeMap<String, String>,
    json: bool,
) -> Result<String> {
    let mut arguments: BTreeMap<String, Argument> = BTreeMap::new();
    let (mut secrets, mut agents): (BTreeMap<String, bool>, BTreeMap<String, bool>) = Default::default();
    let mut declare = |arg: &ArgDeclaration| {
        let comment = arg.name.place.comment_above();
        let found = arguments.entry(arg.name.to_string()).or_insert(Argument {
            value: None,
            description: None,
        });
        let value = given.get(&*arg.name).cloned();
        found.value = value
            .or_else(|| arg.default.as_ref().map(|d| d.to_string()))
            .or(found.value.take());
        let said = comment.and_then(|c| described(&c, &arg.name));
        found.description = found.description.take().or(said);
    };
    dockerfile.globals.iter().for_each(&mut declare);
    for stage in dockerfile.stages.iter().filter(|s| stages.contains(&s.index)) {
        for statement in &stage.statements {
            match &statement.instruction {
                Instruction::Arg(all) => all.iter().for_each(&mut declare),
                Instruction::Run(run) => {
                    for mount in &run.mounts {
                        let (all, id, required) = match &mount.kind {
                            MountKind::Secret { id, required, .. } => (&mut secrets, id, *required),
                            MountKind::Ssh { id, required, .. } => (&mut agents, id, *required),
                            _ => continue,
                        };
                        *all.entry(id.to_string()).or_default() |= required;
                    }
                }
                _ => {}
            }
        }
    }
    let stage = &dockerfile.stages[target];
    let name = stage.name.clone().unwrap_or_else(|| "default".to_owned());
    if json {
        let list = |all: &BTreeMap<String, bool>| -> Vec<serde_json::Value> {
            all.iter()
                .map(|(name, required)| serde_json::json!({"name": name, "required": required}))
                .collect()
        };
        let args: Vec<_> = arguments
            .iter()
            .map(|(name, a)| serde_json::json!({"name": name, "value": a.value, "description": a.description}))
            .collect();
        return Ok(serde_json::to_string_pretty(&serde_json::json!({
            "name": name,
            "description": description(stage),
            "args": args,
            "secrets": list(&secrets),
            "ssh": list(&agents),
        }))?);
    }
    let mut text = format!("TARGET:      {name}\n");
    if let Some(said) = description(stage) {
        text.push_str(&format!("DESCRIPTION: {said}\n"));
    }
    let head = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    if !arguments.is_empty() {
        let mut rows = vec![head(&["BUILD ARG", "VALUE", "DESCRIPTION"])];
        rows.extend(
            arguments
                .into_iter()
                .map(|(name, a)| vec![name, a.value.unwrap_or_default(), a.description.unwrap_or_default()]),
        );
        text.push_str(&format!("\n{}", columns(&rows)));
    }
    for (title, all) in [("SECRET", &secrets), ("SSH", &agents)] {
        if !all.is_empty() {
            let mut rows = vec![head(&[title, "REQUIRED"])];
            rows.extend(all.iter().map(|(name, r)| vec![name.clone(), r.to_string()]));
            text.push_str(&format!("\n{}", columns(&rows)));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# GO which go\nARG GO=1.2\n# base what all stand on\nFROM x AS base\nARG V\n\
        RUN --mount=type=secret,id=token,required --mount=type=ssh true\n\
        FROM base AS other\nARG UNSEEN\n# not about it\nFROM base\nARG GO\n";

    #[test]
    fn what_can_be_asked_for() {
        let dockerfile = parser::parse("Dockerfile", TEXT.as_bytes()).unwrap();
        assert_eq!(
            targets(&dockerfile, false).unwrap(),
            "TARGET      DESCRIPTION\nbase        what all stand on\nother\n(default)\n"
        );
        let given = BTreeMap::from([("V".to_owned(), "3".to_owned())]);
        let stages = BTreeSet::from([0, 2]);
        assert_eq!(
            outline(&dockerfile, (2, &stages), &given, false).unwrap(),
            "TARGET:      default\n\nBUILD ARG   VALUE   DESCRIPTION\nGO          1.2     which go\nV           3\n\n\
             SECRET   REQUIRED\ntoken    true\n\nSSH       REQUIRED\ndefault   false\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&outline(&dockerfile, (2, &stages), &given, true).unwrap()).unwrap();
        assert_eq!(
            (&json["args"][0]["value"], &json["secrets"][0]["name"]),
            (&"1.2".into(), &"token".into())
        );
        let json: serde_json::Value = serde_json::from_str(&targets(&dockerfile, true).unwrap()).unwrap();
        assert_eq!(json["targets"][2]["default"], true);
    }
}
