//! `RUN --mount=…`: text → a typed mount. Read twice: when the Dockerfile is parsed, where a `$` may still stand, and
//! again when variables are expanded.

use crate::build::instruction::{MountKind, MountOwner, RunMount, Sharing};
use crate::build::place::Word;
use crate::error::{Error, Result};
use crate::model::fields;
use crate::model::near::nearest;
use crate::model::resources::parse_bytes;

const TYPES: &[&str] = &["bind", "cache", "tmpfs", "secret", "ssh"];
const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "size",
    "env",
];

/// The options as typed, before they are put together.
#[derive(Default)]
struct Given {
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Option<Sharing>,
    required: Option<bool>,
    owner: MountOwner,
    size: Option<u64>,
    env: Option<String>,
}

/// Reads `text`, in which `expand` replaces variables. Where it gives `None`, a value waits for its variables.
pub(crate) fn parse(text: &Word, expand: &mut dyn FnMut(&str) -> Result<Option<String>>) -> Result<RunMount> {
    let bad = |why: String| text.place.error_at(text.chars().count(), why);
    let mut kind = "bind".to_owned();
    let mut given = Given::default();
    for field in fields::split(text).ok_or_else(|| bad("--mount: a quote does not end".to_owned()))? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        if !KEYS.contains(&key.as_str()) {
            let e = bad(format!("--mount: unknown option '{key}'"));
            return Err(match nearest(&key, KEYS.iter().copied()) {
                Some(near) => e.with_hint(format!("did you mean {near}?")),
                None => e,
            });
        }
        let is_switch = matches!(key.as_str(), "readonly" | "ro" | "readwrite" | "rw" | "required");
        let value = match value {
            None if is_switch => "true".to_owned(),
            None => return Err(bad(format!("--mount: '{key}' needs a value"))),
            Some(value) if key == "from" => {
                if value.contains('$') {
                    return Err(bad("--mount: from does not take variables".to_owned())
                        .with_hint("name a stage with FROM … AS, which does, and mount from that"));
                }
                value.to_owned()
            }
            Some(value) => match expand(value)? {
                Some(value) => value,
                // What can't be known yet is as if it were not there, but for its being there.
                None => {
                    given.wait(&key, value);
                    continue;
                }
            },
        };
        if key == "type" {
            kind = value.to_ascii_lowercase();
            if !TYPES.contains(&kind.as_str()) {
                let e = bad(format!("--mount: unknown type '{value}'"));
                return Err(match nearest(&kind, TYPES.iter().copied()) {
                    Some(near) => e.with_hint(format!("did you mean {near}?")),
                    None => e.with_hint(format!("there are {}", TYPES.join(", "))),
                });
            }
            continue;
        }
        given.set(&key, &value).map_err(|why| bad(format!("--mount: {why}")))?;
    }
    let kind = given.build(&kind).map_err(|why| bad(format!("--mount: {why}")))?;
    Ok(RunMount {
        text: text.clone(),
        kind,
    })
}

fn number(text: &str, radix: u32) -> Option<u32> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    digits.then(|| u32::from_str_radix(text, radix).ok()).flatten()
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Given {
    fn wait(&mut self, key: &str, value: &str) {
        match key {
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "id" => self.id = Some(value.to_owned()),
            "env" => self.env = Some(value.to_owned()),
            _ => {}
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let bad = |want: &str| format!("{key} is {want}, not '{value}'");
        match key {
            "from" => self.from = Some(value.to_owned()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "id" => self.id = Some(value.to_owned()),
            "env" => self.env = Some(value.to_owned()),
            "readonly" | "ro" => self.read_only = Some(boolean(value).ok_or_else(|| bad("true or false"))?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(value).ok_or_else(|| bad("true or false"))?),
            "required" => self.required = Some(boolean(value).ok_or_else(|| bad("true or false"))?),
            "uid" => self.owner.uid = Some(number(value, 10).ok_or_else(|| bad("a number"))?),
            "gid" => self.owner.gid = Some(number(value, 10).ok_or_else(|| bad("a number"))?),
            "mode" => {
                let mode = number(value, 8).filter(|m| *m <= 0o7777);
                self.owner.mode = Some(mode.ok_or_else(|| bad("an octal mode"))?);
            }
            "size" => self.size = Some(parse_bytes(value).ok_or_else(|| bad("a size like 64m"))?),
            "sharing" => {
                self.sharing = Some(match value.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(bad("shared, private or locked")),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// The one that was meant, or what does not fit.
    fn build(self, kind: &str) -> Result<MountKind, String> {
        let no = |what: &str, there: bool| match there {
            true => Err(format!("a {kind} mount has no {what}")),
            false => Ok(()),
        };
        let owned = self.owner != MountOwner::default();
        match kind {
            "cache" | "secret" | "ssh" => {}
            _ => no("mode, uid or gid", owned)?,
        }
        no("sharing", self.sharing.is_some() && kind != "cache")?;
        no("size", self.size.is_some() && kind != "tmpfs")?;
        no("env", self.env.is_some() && kind != "secret")?;
        no("required", self.required.is_some() && !matches!(kind, "secret" | "ssh"))?;
        no("from", self.from.is_some() && !matches!(kind, "bind" | "cache"))?;
        let target = |given: Option<String>| match given.filter(|t| !t.is_empty()) {
            Some(target) => Ok(target),
            None => Err(format!("a {kind} mount needs a target")),
        };
        Ok(match kind {
            "cache" => {
                let target = target(self.target)?;
                MountKind::Cache {
                    id: self.id.filter(|id| !id.is_empty()).unwrap_or_else(|| target.clone()),
                    target,
                    read_only: self.read_only.unwrap_or(false),
                    sharing: self.sharing.unwrap_or_default(),
                    from: self.from,
                    source: self.source.unwrap_or_default(),
                    owner: self.owner,
                }
            }
            "tmpfs" => MountKind::Tmpfs {
                target: target(self.target)?,
                size: self.size,
            },
            "secret" => {
                if self.source.is_some() && self.id.is_some() {
                    return Err("a secret mount has an id or a source, not both".to_owned());
                }
                let last = |path: &str| path.rsplit('/').find(|p| !p.is_empty()).unwrap_or_default().to_owned();
                let named = self.id.or(self.source).filter(|id| !id.is_empty());
                let target = self.target.filter(|t| !t.is_empty());
                let id = match (&named, &target, &self.env) {
                    (Some(id), _, _) => id.clone(),
                    (None, Some(target), _) => last(target),
                    (None, None, Some(variable)) => variable.clone(),
                    (None, None, None) => return Err("a secret mount needs an id or a target".to_owned()),
                };
                MountKind::Secret {
                    target: match (target, &self.env) {
                        (Some(target), _) => Some(target),
                        (None, Some(_)) => None,
                        (None, None) => Some(format!("/run/secrets/{}", last(&id))),
                    },
                    id,
                    variable: self.env,
                    required: self.required.unwrap_or(false),
                    owner: self.owner,
                }
            }
            "ssh" => MountKind::Ssh {
                id: self
                    .id
                    .or(self.source)
                    .filter(|id| !id.is_empty())
                    .unwrap_or_else(|| "default".to_owned()),
                target: self.target.filter(|t| !t.is_empty()),
                required: self.required.unwrap_or(false),
                owner: self.owner,
            },
            _ => MountKind::Bind {
                from: self.from.filter(|f| !f.is_empty()),
                source: self.source.unwrap_or_default(),
                target: target(self.target)?,
                read_write: self.read_only == Some(false),
            },
        })
    }
}

/// Before expansion: values with a `$` wait.
pub(super) fn unexpanded(text: &Word) -> Result<RunMount, Error> {
    parse(text, &mut |value| Ok((!value.contains('$')).then(|| value.to_owned())))
}
