//! The functions that a template can call: docker's, and those that stand for what the engine lacks.

use super::go_value::go;
use gtmpl_ng::{Func, FuncError, Number, NumberKind, Value as Go};
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// What is being rendered; template functions are plain `fn` and have no other way to it.
    pub(super) static DOCUMENT: RefCell<Json> = const { RefCell::new(Json::Null) };
    /// The labels of what is being rendered, for `.Label "key"`.
    pub(super) static LABELS: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// By their names in a template.
pub(super) const FUNCTIONS: [(&str, Func); 12] = [
    ("json", json),
    ("join", join),
    ("split", split),
    ("lower", |args| Ok(text(args, 0)?.to_lowercase().into())),
    ("upper", |args| Ok(text(args, 0)?.to_uppercase().into())),
    ("title", title),
    ("pad", pad),
    ("truncate", truncate),
    ("label", label),
    ("index", index),
    ("len", length),
    ("pointer", |args| {
        Ok(match args.first() {
            Some(Go::Nil) | None => "<nil>".into(),
            Some(value) => value.clone(),
        })
    }),
];

/// The first argument, unchanged.
pub(super) fn first(args: &[Go]) -> Result<Go, FuncError> {
    Ok(args.first().cloned().unwrap_or(Go::Nil))
}

fn wrong(what: &str) -> FuncError {
    FuncError::Generic(what.to_owned())
}

fn text(args: &[Go], at: usize) -> Result<String, FuncError> {
    match args.get(at) {
        Some(Go::String(s)) => Ok(s.clone()),
        Some(other) => Err(wrong(&format!("wrong type for value; expected string; got {other}"))),
        None => Err(wrong("wrong number of args")),
    }
}

fn number(args: &[Go], at: usize) -> Result<usize, FuncError> {
    match args.get(at) {
        Some(Go::Number(n)) => n
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| wrong("not a size")),
        _ => Err(wrong("wrong type for value; expected int")),
    }
}

fn json(args: &[Go]) -> Result<Go, FuncError> {
    let value = args
        .first()
        .ok_or_else(|| wrong("wrong number of args for json: want 1 got 0"))?;
    let found = DOCUMENT.with_borrow(|document| {
        let named = match args.get(1) {
            Some(Go::String(name)) => field(document, name, value),
            _ => None,
        };
        named.or_else(|| find(document, value)).map(ToString::to_string)
    });
    Ok(found.unwrap_or_else(|| sorted(value).to_string()).into())
}

/// The field of this name, anywhere in `document`, that `value` was made from.
fn field<'a>(document: &'a Json, name: &str, value: &Go) -> Option<&'a Json> {
    match document {
        Json::Object(object) => {
            let own = object.get(name).filter(|own| is_same(own, value));
            own.or_else(|| object.values().find_map(|part| field(part, name, value)))
        }
        Json::Array(items) => items.iter().find_map(|part| field(part, name, value)),
        _ => None,
    }
}

/// The part of `document` that `value` was made from.
fn find<'a>(document: &'a Json, value: &Go) -> Option<&'a Json> {
    if is_same(document, value) {
        return Some(document);
    }
    match document {
        Json::Object(object) => object.values().find_map(|part| find(part, value)),
        Json::Array(items) => items.iter().find_map(|part| find(part, value)),
        _ => None,
    }
}

fn is_same(json: &Json, value: &Go) -> bool {
    match (json, value) {
        (Json::Object(a), Go::Object(b) | Go::Map(b)) => {
            let empty = |v: &Go| is_same(&Json::Null, v) || *v == Go::from("");
            a.iter().all(|(k, v)| b.get(k).is_some_and(|other| is_same(v, other)))
                && b.iter().all(|(k, v)| a.contains_key(k) || empty(v))
        }
        (Json::Array(a), Go::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Json::Null, Go::Nil) => true,
        (Json::Null, Go::Map(b)) => b.is_empty(),
        (Json::Null, Go::Array(b)) => b.is_empty(),
        (Json::Object(_) | Json::Array(_), _) => false,
        (_, Go::Object(_) | Go::Map(_) | Go::Array(_)) => false,
        _ => go(json, "") == *value,
    }
}

/// A value that the template itself made.
fn sorted(value: &Go) -> Json {
    match value {
        Go::NoValue | Go::Nil | Go::Function(_) => Json::Null,
        Go::Bool(b) => (*b).into(),
        Go::String(s) => s.clone().into(),
        Go::Array(items) => items.iter().map(sorted).collect(),
        Go::Object(entries) | Go::Map(entries) => {
            let mut keys: Vec<_> = entries.keys().collect();
            keys.sort();
            keys.into_iter().map(|k| (k.clone(), sorted(&entries[k]))).collect()
        }
        Go::Number(n) => match n.kind() {
            NumberKind::Unsigned(n) => n.into(),
            NumberKind::Signed(n) => n.into(),
            NumberKind::Float(n) => n.into(),
        },
    }
}

/// As Go has it for typed values: what an empty map of strings does not have is an empty string.
fn index(args: &[Go]) -> Result<Go, FuncError> {
    let (first, keys) = args
        .split_first()
        .ok_or_else(|| wrong("wrong number of args for index"))?;
    keys.iter().try_fold(first.clone(), |value, key| match (&value, key) {
        (Go::Map(entries) | Go::Object(entries), Go::String(name)) => Ok(match entries.get(name) {
            Some(found) => found.clone(),
            None if entries.values().all(|v| matches!(v, Go::String(_))) => "".into(),
            None => Go::NoValue,
        }),
        (Go::Nil | Go::NoValue, Go::String(_)) => Ok("".into()),
        // Null, of a kind that is not known.
        (Go::Array(items), Go::String(_)) if items.is_empty() => Ok("".into()),
        (Go::Array(items), Go::Number(_)) => {
            let at = number(std::slice::from_ref(key), 0)?;
            let found = items.get(at).cloned();
            found.ok_or_else(|| wrong(&format!("error calling index: index out of range: {at}")))
        }
        (Go::Nil | Go::NoValue, _) => Err(wrong("error calling index: index of nothing")),
        _ => Err(wrong(&format!("error calling index: no {key} in a {}", kind(&value)))),
    })
}

fn kind(value: &Go) -> &'static str {
    match value {
        Go::Map(_) | Go::Object(_) => "map",
        Go::Array(_) => "list",
        Go::String(_) => "string",
        _ => "value",
    }
}

fn length(args: &[Go]) -> Result<Go, FuncError> {
    let count = match args.first() {
        Some(Go::Map(entries) | Go::Object(entries)) => entries.len(),
        Some(Go::Array(items)) => items.len(),
        Some(Go::String(text)) => text.len(),
        Some(Go::Nil | Go::NoValue) => 0,
        Some(other) => return Err(wrong(&format!("error calling len: {} has no length", kind(other)))),
        None => return Err(wrong("wrong number of args for len: want 1 got 0")),
    };
    Ok(Go::Number(Number::unsigned(count as u64)))
}

fn join(args: &[Go]) -> Result<Go, FuncError> {
    let separator = text(args, 1)?;
    match args.first() {
        Some(Go::Array(items)) => Ok(items
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(&separator)
            .into()),
        Some(Go::Nil | Go::NoValue) => Ok("".into()),
        _ => Err(wrong("wrong type for value; expected a list of strings")),
    }
}

fn split(args: &[Go]) -> Result<Go, FuncError> {
    let (value, separator) = (text(args, 0)?, text(args, 1)?);
    let parts: Vec<&str> = match separator.as_str() {
        "" => value.split_inclusive(|_| true).collect(),
        separator => value.split(separator).collect(),
    };
    Ok(parts.into())
}

fn title(args: &[Go]) -> Result<Go, FuncError> {
    let mut at_start = true;
    let titled = text(args, 0)?.chars().fold(String::new(), |mut titled, c| {
        if at_start {
            titled.extend(c.to_uppercase())
        } else {
            titled.push(c)
        }
        at_start = !c.is_alphanumeric() && c != '\'' && c != '_';
        titled
    });
    Ok(titled.into())
}

/// Spaces before and after.
fn pad(args: &[Go]) -> Result<Go, FuncError> {
    let (value, before, after) = (text(args, 0)?, number(args, 1)?, number(args, 2)?);
    if before.max(after) > 10_000 {
        return Err(wrong("more than 10000 spaces"));
    }
    let padded = match value.as_str() {
        "" => String::new(),
        value => format!("{}{value}{}", " ".repeat(before), " ".repeat(after)),
    };
    Ok(padded.into())
}

fn truncate(args: &[Go]) -> Result<Go, FuncError> {
    let length = number(args, 1)?;
    Ok(text(args, 0)?.chars().take(length).collect::<String>().into())
}

/// The value of one label; empty if there is no such label. The first argument is the dot that [`label_calls`] put in.
fn label(args: &[Go]) -> Result<Go, FuncError> {
    let key = text(args, 1)?;
    Ok(LABELS
        .with_borrow(|labels| labels.get(&key).cloned().unwrap_or_default())
        .into())
}

/// The heading of a label's column is the last word of its key.
pub(super) fn label_heading(args: &[Go]) -> Result<Go, FuncError> {
    let key = text(args, 1)?;
    Ok(key
        .rsplit('.')
        .next()
        .unwrap_or(&key)
        .replace(['-', '_'], " ")
        .to_uppercase()
        .into())
}
