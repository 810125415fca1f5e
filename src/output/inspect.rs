//! `inspect`: objects as one JSON array, or each through a template. What is missing is told, and does not keep the
//! rest from being shown.

use super::template::Template;
use super::terminal::clean_lines;
use crate::error::{Error, Result};
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};
use std::io::Write;

/// How to show objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style<'a> {
    /// `--format`: `json` is the array without white space, anything else a template for each object.
    pub(crate) format: Option<&'a str>,
    /// `out` is a terminal: control characters are made visible.
    pub(crate) terminal: bool,
}

/// Shows what `find` has for each of `names`. Ends with status 1, all being said, if one is missing.
pub(crate) fn inspect(
    names: &[String],
    style: Style<'_>,
    find: &mut dyn FnMut(&str) -> Result<Value>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<()> {
    let template = match style.format {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let mut errors = Vec::new();
    let mut found = Vec::new();
    for name in names {
        match find(name) {
            Ok(value) => found.push(value),
            Err(e) => errors.push(e),
        }
    }
    let mut text = String::new();
    match &template {
        None => text = array(&found, style.format.is_some_and(|f| !f.is_empty()))?,
        Some(template) => {
            for value in &found {
                match template.render(value) {
                    Ok(rendered) => text.extend([rendered.as_str(), "\n"]),
                    Err(e) => errors.push(e),
                }
            }
        }
    }
    out.write_all(
        if style.terminal {
            clean_lines(&text)
        } else {
            text.as_str().into()
        }
        .as_bytes(),
    )?;
    out.flush()?;
    for e in &errors {
        writeln!(err, "barge: {e}")?;
        if let Some(hint) = e.hint() {
            writeln!(err, "  hint: {}", clean_lines(hint))?;
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::status(1))
    }
}

/// With docker's indent of four spaces, or without any white space.
fn array(values: &[Value], compact: bool) -> Result<String> {
    let mut json = Vec::new();
    if compact {
        serde_json::to_writer(&mut json, values)?;
    } else {
        values.serialize(&mut Serializer::with_formatter(
            &mut json,
            PrettyFormatter::with_indent(b"    "),
        ))?;
    }
    json.push(b'\n');
    String::from_utf8(json).map_err(|e| Error::other(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use serde_json::json;

    fn show(names: &[&str], format: Option<&str>) -> (String, String, Option<Kind>) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut find = |name: &str| match name {
            "web" => Ok(json!({"Name": "/web", "Id": "1"})),
            _ => Err(Error::not_found(format!("No such object: {name}"))),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let style = Style {
            format,
            terminal: false,
        };
        let result = inspect(&names, style, &mut find, &mut out, &mut err);
        (
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
            result.err().map(|e| e.kind()),
        )
    }

    #[test]
    fn an_array_is_always_valid() {
        let missing = "barge: No such object: x\n".to_owned();
        let one = "[\n    {\n        \"Name\": \"/web\",\n        \"Id\": \"1\"\n    }\n]\n".to_owned();
        assert_eq!(show(&["web"], None), (one.clone(), String::new(), None));
        assert_eq!(show(&["x", "web"], None), (one, missing.clone(), Some(Kind::Status(1))));
        assert_eq!(show(&["x"], None), ("[]\n".to_owned(), missing, Some(Kind::Status(1))));
        assert_eq!(show(&["web"], Some("json")).0, "[{\"Name\":\"/web\",\"Id\":\"1\"}]\n");
    }

    #[test]
    fn a_template_shows_each() {
        assert_eq!(show(&["web", "web"], Some("{{.Name}}")).0, "/web\n/web\n");
        let (out, err, kind) = show(&["web"], Some("{{.Nope}}"));
        assert_eq!((out.as_str(), kind), ("", Some(Kind::Status(1))));
        assert!(err.contains("template parsing error"), "{err}");
        assert_eq!(show(&["web"], Some("{{")).2, Some(Kind::Other));
    }
}
