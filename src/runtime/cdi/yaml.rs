//! The part of YAML that descriptions of devices are written in: mappings and sequences by indentation, flow
//! collections, plain and quoted scalars, comments. Anchors, tags, block scalars and several documents are refused.

use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Collections inside each other at most.
const DEEPEST: usize = 32;

struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

pub(super) fn parse(text: &str) -> Result<Value> {
    let mut lines = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let body = without_comment(line).trim_end();
        let text = body.trim_start_matches(' ');
        if text.is_empty() || (text == "---" && lines.is_empty()) {
            continue;
        }
        if text.starts_with('\t') || text == "---" || text == "..." || text.starts_with('%') {
            return Err(bad(n + 1, "not supported here"));
        }
        lines.push(Line {
            number: n + 1,
            indent: body.len() - text.len(),
            text,
        });
    }
    let mut at = 0;
    let Some(first) = lines.first() else {
        return Ok(Value::Null);
    };
    let value = block(&lines, &mut at, first.indent, 0)?;
    match lines.get(at) {
        None => Ok(value),
        Some(line) => Err(bad(line.number, "bad indentation")),
    }
}

fn bad(line: usize, why: &str) -> Error {
    Error::other(format!("line {line}: {why}"))
}

/// A `#` begins a comment at the start or after a blank, outside quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            Some(q) if c == q && before != '\\' => quote = None,
            Some(_) => {}
            None if c == '#' && before.is_whitespace() => return &line[..at],
            None if matches!(c, '"' | '\'') && (before.is_whitespace() || "[{,:".contains(before)) => quote = Some(c),
            None => {}
        }
        before = c;
    }
    line
}

/// Everything from `lines[*at]` on that stands at `indent`.
fn block(lines: &[Line<'_>], at: &mut usize, indent: usize, depth: usize) -> Result<Value> {
    let first = &lines[*at];
    if depth > DEEPEST {
        return Err(bad(first.number, "too deep"));
    }
    if is_item(first.text) {
        return sequence(lines, at, indent, depth);
    }
    if key_of(first.text).is_none() {
        *at += 1;
        return inline(first.text, first.number);
    }
    let mut map = Map::new();
    while let Some(line) = lines.get(*at).filter(|l| l.indent == indent && !is_item(l.text)) {
        let (key, rest) = key_of(line.text).ok_or_else(|| bad(line.number, "want 'key: value'"))?;
        *at += 1;
        let value = value_after(lines, at, (indent, line.number), rest, depth)?;
        if map.insert(key, value).is_some() {
            return Err(bad(line.number, "the key is there twice"));
        }
    }
    Ok(Value::Object(map))
}

/// What follows `key:`: on the line, or below it, where a sequence may stand at the key's own indentation.
fn value_after(
    lines: &[Line<'_>],
    at: &mut usize,
    (indent, number): (usize, usize),
    rest: &str,
    depth: usize,
) -> Result<Value> {
    if !rest.is_empty() {
        return inline(rest, number);
    }
    match lines.get(*at) {
        Some(next) if next.indent > indent || (next.indent == indent && is_item(next.text)) => {
            block(lines, at, next.indent, depth + 1)
        }
        _ => Ok(Value::Null),
    }
}

fn sequence(lines: &[Line<'_>], at: &mut usize, indent: usize, depth: usize) -> Result<Value> {
    let mut items = Vec::new();
    while let Some(line) = lines.get(*at).filter(|l| l.indent == indent && is_item(l.text)) {
        let rest = line.text[1..].trim_start_matches(' ');
        let inner = indent + line.text.len() - rest.len();
        *at += 1;
        if rest.is_empty() {
            items.push(value_after(lines, at, (indent, line.number), "", depth)?);
        } else if is_item(rest) {
            return Err(bad(
                line.number,
                "a sequence in a sequence has to begin on its own line",
            ));
        } else if let Some((key, value)) = key_of(rest).filter(|_| !rest.starts_with(['{', '['])) {
            // The item is a mapping whose first key stands after the dash.
            let mut map = Map::new();
            map.insert(key, value_after(lines, at, (inner, line.number), value, depth)?);
            if lines.get(*at).is_some_and(|l| l.indent == inner && !is_item(l.text))
                && let Value::Object(more) = block(lines, at, inner, depth + 1)?
            {
                map.extend(more);
            }
            items.push(Value::Object(map));
        } else {
            items.push(inline(rest, line.number)?);
        }
    }
    Ok(Value::Array(items))
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// `key: rest`.
fn key_of(text: &str) -> Option<(String, &str)> {
    let (key, rest) = match text.chars().next()? {
        q @ ('"' | '\'') => {
            let end = text[1..].find(q)? + 1;
            (&text[1..end], text[end + 1..].strip_prefix(':')?)
        }
        '[' | '{' => return None,
        _ => {
            let at = text
                .match_indices(':')
                .map(|(at, _)| at)
                .find(|at| text[at + 1..].is_empty() || text[at + 1..].starts_with(' '))?;
            (&text[..at], &text[at + 1..])
        }
    };
    Some((key.trim().to_owned(), rest.trim()))
}

/// A scalar or a flow collection that is all of `text`.
fn inline(text: &str, number: usize) -> Result<Value> {
    let mut rest = text;
    let value = flow(&mut rest, number, 0, "")?;
    match rest.trim().is_empty() {
        true => Ok(value),
        false => Err(bad(number, "text after the value")),
    }
}

/// A value at the start of `rest`, which goes on behind it; a plain scalar ends at one of `ends`.
fn flow(rest: &mut &str, number: usize, depth: usize, ends: &str) -> Result<Value> {
    if depth > DEEPEST {
        return Err(bad(number, "too deep"));
    }
    *rest = rest.trim_start();
    match rest.chars().next() {
        Some('[') => {
            *rest = &rest[1..];
            let mut items = Vec::new();
            while !closes(rest, ']', number)? {
                items.push(flow(rest, number, depth + 1, ",]")?);
                comma(rest, ']', number)?;
            }
            Ok(Value::Array(items))
        }
        Some('{') => {
            *rest = &rest[1..];
            let mut map = Map::new();
            while !closes(rest, '}', number)? {
                let key = match flow(rest, number, depth + 1, ":")? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                *rest = rest.strip_prefix(':').ok_or_else(|| bad(number, "want 'key: value'"))?;
                map.insert(key, flow(rest, number, depth + 1, ",}")?);
                comma(rest, '}', number)?;
            }
            Ok(Value::Object(map))
        }
        Some('"') => {
            // As in JSON; YAML has a few more escapes, which nobody writes here.
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let text = stream.next().and_then(Result::ok);
            let text = text.ok_or_else(|| bad(number, "bad quoted text"))?;
            *rest = &rest[stream.byte_offset()..];
            Ok(Value::String(text))
        }
        Some('\'') => {
            let mut text = String::new();
            let mut left = &rest[1..];
            loop {
                let at = left.find('\'').ok_or_else(|| bad(number, "a quote is open"))?;
                text.push_str(&left[..at]);
                left = &left[at + 1..];
                match left.strip_prefix('\'') {
                    Some(more) => {
                        text.push('\'');
                        left = more;
                    }
                    None => break,
                }
            }
            *rest = left;
            Ok(Value::String(text))
        }
        Some('&' | '*' | '!' | '|' | '>' | '@' | '`') => Err(bad(number, "not supported here")),
        _ => {
            let end = rest.find(|c| ends.contains(c)).unwrap_or(rest.len());
            let (word, left) = rest.split_at(end);
            *rest = left;
            Ok(plain(word.trim()))
        }
    }
}

fn closes(rest: &mut &str, bracket: char, number: usize) -> Result<bool> {
    *rest = rest.trim_start();
    match rest.strip_prefix(bracket) {
        Some(left) => {
            *rest = left;
            Ok(true)
        }
        None if rest.is_empty() => Err(bad(number, "a bracket is open")),
        None => Ok(false),
    }
}

fn comma(rest: &mut &str, bracket: char, number: usize) -> Result<()> {
    *rest = rest.trim_start();
    match rest.strip_prefix(',') {
        Some(left) => *rest = left,
        None if rest.starts_with(bracket) => {}
        None => return Err(bad(number, "want a comma")),
    }
    Ok(())
}

fn plain(word: &str) -> Value {
    match word {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        word => match word.parse::<i64>() {
            // 0660 is text: as a number it would be another one.
            Ok(n) if n.to_string() == word => n.into(),
            _ => Value::String(word.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_descriptions_are_made_of() {
        for (text, want) in [
            ("a: 1\nb:\n  c: x y\n", json!({"a": 1, "b": {"c": "x y"}})),
            ("a:\n- 1\n- 'it''s'\n", json!({"a": [1, "it's"]})),
            ("- a: 1\n  b: 2\n-\n  c: 3\n", json!([{"a": 1, "b": 2}, {"c": 3}])),
            ("- a:\n  - 1\n  b: 2\n", json!([{"a": [1], "b": 2}])),
            (
                "a: [1, \"x, y\", {k: v}]\nb: {}\n",
                json!({"a": [1, "x, y", {"k": "v"}], "b": {}}),
            ),
            ("a: http://x:1/ # c\nb: a#b\n", json!({"a": "http://x:1/", "b": "a#b"})),
            (
                "a: 0660\nb: true\nc:\nd: ~\n",
                json!({"a": "0660", "b": true, "c": null, "d": null}),
            ),
            ("\"a b\": \"\\u0041\"\n", json!({"a b": "A"})),
            ("", Value::Null),
        ] {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        let deep = format!("a: {}", "[".repeat(1000));
        for text in [
            "a: &x 1",
            "a: *x",
            "a: !!str x",
            "a: |\n  x",
            "a: 1\n b: 2",
            "a: [1",
            "a: 'x",
            "a: 1\na: 2",
            "a: 1\n---\nb: 2",
            "\ta: 1",
            "a: {b",
            "- - 1",
            &deep,
            "a: \"x\" y",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
