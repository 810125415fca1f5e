//! `# syntax=`, `# escape=` and `# check=` at the very top.

use crate::build::instruction::{Checks, Directives};
use crate::build::lexer::Lexer;
use crate::build::place::{Place, Word};
use crate::error::Result;

/// Reads the comments at the top for as long as they are directives, and sets the lexer's escape character.
pub(super) fn read(lexer: &mut Lexer) -> Result<Directives> {
    let mut directives = Directives::default();
    let mut seen: Vec<String> = Vec::new();
    let mut first = true;
    while let Some((place, line)) = lexer.peek() {
        // A Dockerfile may be a program.
        if std::mem::take(&mut first) && line.starts_with("#!") {
            lexer.skip();
            continue;
        }
        let Some((name, value)) = directive(&place, line) else {
            break;
        };
        if seen.contains(&name) {
            return Err(place.error(format!("only one {name} parser directive can be used")));
        }
        match name.as_str() {
            "syntax" => directives.syntax = Some(value),
            "escape" => match &*value {
                "\\" => directives.escape = '\\',
                "`" => directives.escape = '`',
                other => {
                    return Err(value
                        .place
                        .error_at(other.chars().count(), format!("invalid escape token '{other}'"))
                        .with_hint("it is \\ or `"));
                }
            },
            _ => directives.check = checks(&value)?,
        }
        seen.push(name);
        lexer.skip();
    }
    lexer.escape = directives.escape;
    Ok(directives)
}

/// `# name = value` of a known name.
fn directive(place: &Place, line: &str) -> Option<(String, Word)> {
    let (left, right) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let name = left.trim().to_ascii_lowercase();
    let value = right.trim();
    let known = matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty();
    let offset = line.len() - right.len() + (right.len() - right.trim_start().len());
    known.then(|| {
        let place = Place {
            offset,
            ..place.clone()
        };
        let text = value.to_owned();
        (name, Word { text, place })
    })
}

/// `skip=A,B;error=true;experimental=C`.
fn checks(value: &Word) -> Result<Checks> {
    let mut checks = Checks::default();
    let names = |list: &str| -> Vec<String> {
        let names = list.split(',').map(str::trim).filter(|n| !n.is_empty());
        names.map(str::to_owned).collect()
    };
    for part in value.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        match part.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
            Some(("skip", "all")) => checks.skip_all = true,
            Some(("skip", list)) => checks.skip.extend(names(list)),
            Some(("experimental", "all")) => checks.experimental_all = true,
            Some(("experimental", list)) => checks.experimental.extend(names(list)),
            Some(("error", "true" | "1")) => checks.error = true,
            Some(("error", "false" | "0")) => checks.error = false,
            _ => {
                return Err(value
                    .place
                    .error_at(value.chars().count(), format!("invalid check option '{part}'"))
                    .with_hint("write it like # check=skip=NameOfRule,Another;error=true"));
            }
        }
    }
    Ok(checks)
}

/// `--build-arg BUILDKIT_DOCKERFILE_CHECK=…`: in the same form.
pub(crate) fn checks_of_argument(text: &str) -> Result<Checks> {
    let source = crate::build::place::Source {
        name: "BUILDKIT_DOCKERFILE_CHECK".to_owned(),
        lines: vec![text.to_owned()],
    };
    checks(&Word {
        text: text.to_owned(),
        place: Place {
            source: std::sync::Arc::new(source),
            line: 1,
            offset: 0,
        },
    })
}
