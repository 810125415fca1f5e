//! `--format`: Go templates over JSON values, with the functions docker adds (json, join, split, lower, upper, title,
//! pad, truncate).
//!
//! The engine is gtmpl-ng; what it lacks is made up for here: it forgets the order of keys, so `json` finds the value
//! again in the document being rendered, by the field's name, which is put after it; and it can't call methods with
//! arguments, so `.Label "key"` is rewritten to a function.

mod functions;
mod go_value;

use crate::error::{Error, Result};
use functions::{DOCUMENT, FUNCTIONS, LABELS, first, label_heading};
use go_value::{POINTERS, go};
use gtmpl_ng::{Context, Func};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::BTreeMap;

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
