//! `--format`: Go templates over JSON values, with the functions docker adds (json, join, split, lower, upper, title,
//! pad, truncate).
//!
//! The engine is gtmpl-ng; what it lacks is made up for here: it forgets the order of keys, so `json` finds the value
//! again in the document being rendered, by the field's name, which is put after it; and it can't call methods with
//! arguments, so `.Label "key"` is rewritten to a function.

use crate::error::{Error, Result};
use gtmpl_ng::{Context, Func, FuncError, Number, NumberKind, Value as Go};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// Objects that are maps, not structures, in docker's types: a key that is missing there is `<no value>`, not an error.
const MAPS: [&str; 11] = [
    "Labels",
    "Networks",
    "Ports",
    "ExposedPorts",
    "Volumes",
    "Options",
    "Data",
    "Sysctls",
    "Tmpfs",
    LOG_OPTIONS,
    "PortBindings",
];

/// Lists and maps of docker's types that have no value are printed as empty ones; a pointer to nothing is `<nil>`.
const POINTERS: [&str; 11] = [
    "ContainerdSnapshotter",
    "Descriptor",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "IDMappings",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "StopTimeout",
];
const MORE_MAPS: [&str; 6] = [
    "Annotations",
    "AuxiliaryAddresses",
    "Containers",
    "DriverOpts",
    "Status",
    "StorageOpt",
];

/// Fields of docker's structures that JSON leaves out while they are empty, images' as well, by the key of the object
/// that has them: a template may ask for them all the same.
const LEFT_OUT: [(&str, &[&str]); 4] = [
    (
        IMAGE,
        &["Descriptor", "DockerVersion", "Manifests", "OsVersion", "Variant"],
    ),
    (
        "Config",
        &[
            "Entrypoint",
            "Env",
            "ExposedPorts",
            "Healthcheck",
            "Labels",
            "OnBuild",
            "Shell",
            "StopSignal",
            "StopTimeout",
            "User",
            "Volumes",
            "WorkingDir",
        ],
    ),
    ("HostConfig", &["Annotations", "Mounts"]),
    ("State", &["Health"]),
];

/// Stands for the key of a log driver's options, `Config`, which an image's configuration has as well.
const LOG_OPTIONS: &str = "log options";

/// Stands for the key of an image, which is in no other object.
const IMAGE: &str = "image";

thread_local! {
    /// What is being rendered; template functions are plain `fn` and have no other way to it.
    static DOCUMENT: RefCell<Json> = const { RefCell::new(Json::Null) };
    /// The labels of what is being rendered, for `.Label "key"`.
    static LABELS: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// A parsed template.
pub(crate) struct Template {
    text: String,
    parsed: gtmpl_ng::Template,
    /// The whole template is `{{json .}}`: no need to go through the engine.
    is_json: bool,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template> {
        Template::with_functions(text, &FUNCTIONS)
    }

    /// For a table's heading: the functions that would change a value leave the column's name alone.
    pub(crate) fn parse_header(text: &str) -> Result<Template> {
        let functions = FUNCTIONS.map(|(name, function)| match name {
            "pad" => (name, function),
            "label" => (name, label_heading as Func),
            _ => (name, first as Func),
        });
        Template::with_functions(text, &functions)
    }

    fn with_functions(text: &str, functions: &[(&str, Func)]) -> Result<Template> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut parsed = gtmpl_ng::Template::default();
        parsed.add_funcs(functions);
        parsed
            .parse(rewritten(&text))
            .map_err(|e| bad_template(&e.to_string()))?;
        let words = text
            .strip_prefix("{{")
            .and_then(|t| t.strip_suffix("}}"))
            .map(str::split_whitespace);
        Ok(Template {
            parsed,
            is_json: words.is_some_and(|words| words.eq(["json", "."])),
            text,
        })
    }

    pub(crate) fn render(&self, value: &Json) -> Result<String> {
        self.render_labelled(value, &BTreeMap::new())
    }

    /// With labels that `.Label "key"` finds.
    pub(crate) fn render_labelled(&self, value: &Json, labels: &BTreeMap<String, String>) -> Result<String> {
        if self.is_json {
            return Ok(serde_json::to_string(value)?);
        }
        DOCUMENT.set(value.clone());
        LABELS.set(labels.clone());
        let rendered = self.parsed.render(&Context::from(go(value, ""))).map_err(|e| {
            let e = bad_template(&e.to_string());
            match others(&self.text, value, &e.to_string()) {
                Some(there) => e.with_hint(format!("there are {there}")),
                None => e,
            }
        });
        DOCUMENT.set(Json::Null);
        rendered
    }
}

/// The engine says `template: NAME:LINE:COLUMN:LENGTH: what`, and may quote the whole value that has no such field.
fn bad_template(message: &str) -> Error {
    let message = message.lines().next().unwrap_or_default();
    let (place, what) = match message
        .strip_prefix("template: ")
        .map(|rest| rest.splitn(5, ':').collect::<Vec<_>>())
    {
        Some(parts) if parts.len() == 5 => (format!(":{}:{}: ", parts[1], parts[2]), parts[4].trim()),
        _ => (String::new(), message),
    };
    let what = match what.strip_prefix("no field `").and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => format!("{NO_FIELD}{field}"),
        None => what.to_owned(),
    };
    Error::other(format!("template parsing error: template: {place}{what}"))
}

const NO_FIELD: &str = "there is no field ";

/// The fields that there are where a template asks for the one that `error` says is not. What `range` and `with` move
/// the dot to is not looked into.
fn others(text: &str, value: &Json, error: &str) -> Option<String> {
    let (_, missing) = error.rsplit_once(NO_FIELD)?;
    if ["range", "with"].iter().any(|word| text.contains(word)) {
        return None;
    }
    let there = chains(text).find_map(|chain| {
        let mut object = value.as_object()?;
        let mut fields = chain.split('.').peekable();
        while let Some(field) = fields.next() {
            match object.get(field) {
                None => return Some(object).filter(|_| field == missing),
                Some(_) if fields.peek().is_none() => return None,
                Some(inner) => object = inner.as_object()?,
            }
        }
        None
    })?;
    Some(there.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// `A.B` of each `.A.B` within actions.
fn chains(text: &str) -> impl Iterator<Item = &str> {
    let actions = text.split("{{").skip(1);
    let actions = actions.map(|part| part.split_once("}}").map_or(part, |(action, _)| action));
    let words =
        actions.flat_map(|action| action.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|' | ',')));
    words.filter_map(|word| word.strip_prefix('.').filter(|chain| !chain.is_empty()))
}

/// Whether a template shows this field, which may be costly to find out.
pub(crate) fn mentions(text: &str, field: &str) -> bool {
    chains(text).any(|chain| chain == field)
}

/// The template with some of its calls in the form that the engine knows.
fn rewritten(text: &str) -> String {
    let mut parts = text.split("{{");
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (action, literal) = match part.find("}}") {
            Some(end) => part.split_at(end),
            None => (part, ""),
        };
        made.push_str("{{");
        made.push_str(&json_calls(&label_calls(&pointer(action))));
        made.push_str(literal);
    }
    made
}

/// An action that is nothing but a field that may be a pointer to nothing.
fn pointer(action: &str) -> Cow<'_, str> {
    let chain = action.trim().trim_matches('-').trim();
    match chain.strip_prefix('.').and_then(|chain| chain.rsplit('.').next()) {
        Some(name) if POINTERS.contains(&name) => action.replacen(chain, &format!("pointer {chain}"), 1).into(),
        _ => action.into(),
    }
}

/// `.Label "key"` → `label . "key"`.
fn label_calls(action: &str) -> String {
    let mut made = String::with_capacity(action.len());
    let mut rest = action;
    while let Some(at) = rest.find(".Label ") {
        let before = rest[..at].chars().next_back();
        let is_call = matches!(before, None | Some(' ' | '(' | '|' | '-'))
            && rest[at + 7..].trim_start().starts_with(['"', '`', '$', '(', '.']);
        made.push_str(&rest[..at]);
        made.push_str(if is_call { "label . " } else { ".Label " });
        rest = &rest[at + 7..];
    }
    made.push_str(rest);
    made
}

/// `json .A.B` → `json .A.B "B"`.
fn json_calls(action: &str) -> String {
    const CALL: &str = "json .";
    let mut made = String::with_capacity(action.len());
    let mut rest = action;
    while let Some(at) = rest.find(CALL) {
        let (before, path) = rest.split_at(at + CALL.len());
        let end = path
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')))
            .unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        made.push_str(before);
        made.push_str(path);
        let is_call = matches!(rest[..at].chars().next_back(), None | Some(' ' | '(' | '|' | '-' | '='));
        let name = path.rsplit('.').next().unwrap_or_default();
        if is_call && !name.is_empty() {
            made.push_str(&format!(" \"{name}\""));
        }
        rest = after;
    }
    made.push_str(rest);
    made
}

/// A field without a value. What begins with a small letter is none of docker's.
fn nothing(key: &str) -> Go {
    match key {
        _ if POINTERS.contains(&key) || !key.starts_with(|c: char| c.is_ascii_uppercase()) => Go::Nil,
        _ if MAPS.contains(&key) || MORE_MAPS.contains(&key) => Go::Map(HashMap::new()),
        _ => Go::Array(Vec::new()),
    }
}

fn kept_as<'a>(key: &'a str, parent: &serde_json::Map<String, Json>) -> &'a str {
    match key {
        "Config" if parent.contains_key("Type") => LOG_OPTIONS,
        key => key,
    }
}

fn go(value: &Json, key: &str) -> Go {
    match value {
        Json::Null => nothing(key),
        Json::Bool(b) => Go::Bool(*b),
        Json::String(s) => Go::String(s.clone()),
        Json::Array(items) => Go::Array(items.iter().map(|item| go(item, "")).collect()),
        Json::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(n), _, _) => Go::Number(Number::unsigned(n)),
            (_, Some(n), _) => Go::Number(Number::signed(n)),
            (_, _, n) => Go::Number(Number::float(n.unwrap_or_default())),
        },
        Json::Object(object) => {
            let mut entries: HashMap<String, Go> = object
                .iter()
                .map(|(k, v)| (k.clone(), go(v, kept_as(k, object))))
                .collect();
            if MAPS.contains(&key) {
                Go::Map(entries)
            } else {
                let key = match key {
                    "" if object.contains_key("RootFS") => IMAGE,
                    key => key,
                };
                let left_out = LEFT_OUT.iter().filter(|(of, _)| *of == key);
                for name in left_out.flat_map(|(_, names)| *names) {
                    let empty = match *name {
                        "DockerVersion" | "OsVersion" | "StopSignal" | "User" | "Variant" | "WorkingDir" => "".into(),
                        name => nothing(name),
                    };
                    entries.entry((*name).to_owned()).or_insert(empty);
                }
                Go::Object(entries)
            }
        }
    }
}

const FUNCTIONS: [(&str, Func); 12] = [
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

fn first(args: &[Go]) -> Result<Go, FuncError> {
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
fn label_heading(args: &[Go]) -> Result<Go, FuncError> {
    let key = text(args, 1)?;
    Ok(key
        .rsplit('.')
        .next()
        .unwrap_or(&key)
        .replace(['-', '_'], " ")
        .to_uppercase()
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str, value: &Json) -> String {
        match Template::parse(template).and_then(|t| t.render(value)) {
            Ok(text) => text,
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn templates() {
        let value = json!({
            "Name": "/web", "Id": "0123456789abcdef", "Running": true, "Pid": 12, "Nothing": null, "Rate": 1.5, "Low": -3,
            "Cmd": ["sh", "-c", "a<b"],
            "Config": {"Zeta": 1, "Cmd": null, "Alpha": [{"Z": 1, "A": 2}], "Labels": {"b": "1", "a": "2"}},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        });
        for (template, expected) in [
            ("{{.Name}}", "/web"),
            (r"{{.Name}}\t{{.Pid}}\n", "/web\t12\n"),
            (
                "{{json .Config}}",
                r#"{"Zeta":1,"Cmd":null,"Alpha":[{"Z":1,"A":2}],"Labels":{"b":"1","a":"2"}}"#,
            ),
            (
                "x{{json .Cmd}} {{json .Pid}} {{json .Nothing}} {{json .Rate}}{{json .Low}}",
                r#"x["sh","-c","a<b"] 12 null 1.5-3"#,
            ),
            ("{{join .Cmd \" \"}}", "sh -c a<b"),
            ("{{.Cmd}}", "[sh -c a<b]"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=2;b=1;"),
            ("{{range .Cmd}}<{{.}}>{{end}}", "<sh><-c><a<b>"),
            ("{{index .Config.Labels \"b\"}}", "1"),
            ("{{index .Cmd 0}} {{len .Cmd}}", "sh 3"),
            (
                "<{{index .Config.Labels \"none\"}}{{index .Nothing \"a\"}}> {{len .Nothing}}",
                "<> 0",
            ),
            (
                "{{if .Config.Healthcheck}}checked{{end}}{{json .Config.Labels}}",
                r#"{"b":"1","a":"2"}"#,
            ),
            ("{{.Config.Labels.missing}}", "<no value>"),
            ("{{.LogConfig.Config.nothing}}", "<no value>"),
            ("{{upper .Name}}{{.Name | lower}}{{title \"ab cd\"}}", "/WEB/webAb Cd"),
            ("{{truncate .Id 12}}|{{pad .Name 1 2}}|", "0123456789ab| /web  |"),
            ("{{index (split .Id \"8\") 1}}", "9abcdef"),
            ("{{if .Running}}up{{else}}down{{end}}", "up"),
            ("{{printf \"%.4s\" .Id}}{{println}}", "0123\n"),
            ("{{with .Config}}{{.Zeta}}{{end}}", "1"),
            ("{{if eq .Pid 12}}yes{{end}}", "yes"),
        ] {
            assert_eq!(render(template, &value), expected, "{template}");
        }
    }

    #[test]
    fn what_has_no_value() {
        let value = json!({
            "HostConfig": {"Dns": [], "Binds": null, "PidsLimit": null, "Sysctls": {}, "Annotations": null},
            "Config": {"Cmd": ["x"], "Labels": null},
            "Mounts": [{"Options": null}],
        });
        for (template, expected) in [
            (
                "{{.HostConfig.Binds}} {{.HostConfig.Dns}} {{.HostConfig.PidsLimit}}",
                "[] [] <nil>",
            ),
            (
                "{{.Config.Labels}} {{.HostConfig.Annotations}} {{.Config.Volumes}}",
                "map[] map[] map[]",
            ),
            (
                "{{.Config.Entrypoint}}{{.Config.Healthcheck}}{{.Config.Labels.x}}",
                "[]<nil><no value>",
            ),
            (
                "{{json .HostConfig.Binds}}{{json .HostConfig.Dns}} {{json .HostConfig.Sysctls}}{{json .Config.Labels}}",
                "null[] {}null",
            ),
            (
                "{{with .HostConfig}}{{(json .Dns)}}{{json .Binds | upper}}{{end}} json .Binds",
                "[]NULL json .Binds",
            ),
            ("{{range .Mounts}}{{json .Options}}{{.Options}}{{end}}", "nullmap[]"),
            (
                "{{if .HostConfig.Binds}}some{{else}}none{{end}}{{len .HostConfig.Binds}}",
                "none0",
            ),
            (
                "{{range .HostConfig.Binds}}x{{end}}{{join .HostConfig.Binds \",\"}}",
                "",
            ),
            ("{{index .Config.Labels \"x\"}}", ""),
            (
                "{{- .HostConfig.PidsLimit -}}|{{if .Config.Healthcheck}}x{{end}}",
                "<nil>|",
            ),
        ] {
            assert_eq!(render(template, &value), expected, "{template}");
        }
    }

    #[test]
    fn whole_documents_keep_their_order() {
        let value = json!({"b": 1, "a": {"d": 2, "c": 3}});
        let expected = r#"{"b":1,"a":{"d":2,"c":3}}"#;
        assert_eq!(render("{{json .}}", &value), expected);
        assert_eq!(render("{{ json . }}", &value), expected);
        assert_eq!(render("_{{json .}}", &value), format!("_{expected}"));
    }

    #[test]
    fn labels_of_a_row() {
        let labels = BTreeMap::from([("com.example.tier".to_owned(), "front".to_owned())]);
        let row = json!({"Names": "web"});
        let render = |text: &str| Template::parse(text).unwrap().render_labelled(&row, &labels).unwrap();
        assert_eq!(render("{{.Label \"com.example.tier\"}}/{{.Label \"none\"}}"), "front/");
        assert_eq!(
            render("{{.Label \"com.example.tier\" | upper}} .Label \"x\""),
            "FRONT .Label \"x\""
        );
        let heading = "{{.Label \"com.example.my-tier\"}} {{upper .Names}} {{json .Names}}";
        let heading = Template::parse_header(heading).unwrap();
        assert_eq!(
            heading.render(&json!({"Names": "Names"})).unwrap(),
            "MY TIER Names Names"
        );
    }

    #[test]
    fn an_unknown_field_is_told_with_those_there_are() {
        let value = json!({"Name": "x", "Config": {"Cmd": [], "User": ""}, "Labels": {}});
        for (template, hint) in [
            ("{{.Nope}}", Some("there are Name, Config, Labels")),
            ("{{.Name}} {{upper .Config.Nope}}", Some("there are Cmd, User")),
            ("{{.Labels.x}} {{.Config.Nope}}", Some("there are Cmd, User")),
            ("{{with .Config}}{{.Nope}}{{end}}", None),
            ("{{nofunc}}", None),
        ] {
            let error = Template::parse(template).and_then(|t| t.render(&value)).unwrap_err();
            assert_eq!(error.hint(), hint, "{template}");
        }
        for (text, is) in [
            ("{{.Size}}", true),
            ("table {{.Names}}\t{{upper (.Size)}}", true),
            ("{{.SizeRw}} .Size {{.X.Size}}", false),
        ] {
            assert_eq!(mentions(text, "Size"), is, "{text}");
        }
    }

    #[test]
    fn errors_are_one_line() {
        let value = json!({"Name": "x", "Config": {"Cmd": []}});
        for (template, error) in [
            (
                "{{.Nope}}",
                "template parsing error: template: :1:3: there is no field Nope",
            ),
            (
                "{{.Config.Nope}}",
                "template parsing error: template: :1:3: there is no field Nope",
            ),
            (
                "{{nofunc .}}",
                "template parsing error: template: :1:3: function nofunc not defined",
            ),
        ] {
            assert_eq!(render(template, &value), error, "{template}");
        }
        for template in [
            "{{.Name",
            "{{",
            "{{end}}",
            "{{if}}",
            "{{upper 1}}",
            "{{.Name.x}}",
            "{{pad .Name 1 99999}}",
        ] {
            let error = render(template, &value);
            assert!(
                error.starts_with("template parsing error: template: ") && !error.contains('\n'),
                "{template}: {error}"
            );
        }
    }
}
