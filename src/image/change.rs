//! `--change`: Dockerfile instructions that change an image's configuration without running anything (pure).

use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::health::HealthCheck;
use crate::model::image::{Empty, RunDefaults};
use crate::model::signal;
use crate::model::time::parse_duration;

/// Applies one instruction, such as `CMD ["sh"]` or `ENV A=1 B="two words"`.
pub(crate) fn apply(config: &mut RunDefaults, change: &str) -> Result<()> {
    let change = change.trim();
    let (instruction, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let instruction = instruction.to_ascii_uppercase();
    let rest = rest.trim();
    let bad = |why: &str| Error::other(format!("--change '{change}': {why}"));
    let known = matches!(
        instruction.as_str(),
        "CMD"
            | "ENTRYPOINT"
            | "ENV"
            | "EXPOSE"
            | "HEALTHCHECK"
            | "LABEL"
            | "ONBUILD"
            | "USER"
            | "VOLUME"
            | "WORKDIR"
            | "STOPSIGNAL"
    );
    if known && rest.is_empty() {
        return Err(bad(&format!("{instruction} requires at least one argument")));
    }
    match instruction.as_str() {
        "CMD" => config.cmd = command(rest),
        "ENTRYPOINT" => {
            config.entrypoint = command(rest);
            // As in a build: the base's command was meant for the base's entry point.
            config.cmd.clear();
        }
        "ENV" => {
            for (name, value) in pairs(rest).map_err(|why| bad(&why))? {
                set_env(&mut config.env, &name, &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(rest).map_err(|why| bad(&why))?),
        "EXPOSE" => {
            for word in words(rest).map_err(|why| bad(&why))? {
                let port = port(&word).ok_or_else(|| bad(&format!("invalid port '{word}'")))?;
                config.exposed_ports.insert(port, Empty {});
            }
        }
        "VOLUME" => {
            let targets = match list(rest) {
                Some(targets) => targets,
                None => words(rest).map_err(|why| bad(&why))?,
            };
            for target in targets {
                if target.is_empty() {
                    return Err(bad("VOLUME specified can not be an empty string"));
                }
                config.volumes.insert(target, Empty {});
            }
        }
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => config.working_dir = workdir(&config.working_dir.to_string_lossy(), &unquote(rest)).into(),
        "STOPSIGNAL" => match signal::parse(rest) {
            Some(_) => config.stop_signal = rest.to_owned(),
            None => return Err(bad(&format!("invalid signal '{rest}'"))),
        },
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest).map_err(|why| bad(&why))?),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "" => return Err(bad("it is empty")),
        other => return Err(bad(&format!("{other} is not a valid change command"))),
    }
    Ok(())
}

/// `[--interval=… …] CMD …`, or `NONE`.
fn healthcheck(text: &str) -> Result<HealthCheck, String> {
    let mut check = HealthCheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let (name, value) = flag.split_once('=').ok_or(format!("--{flag} has no value"))?;
        let time = || {
            let time = parse_duration(value).and_then(|t| i64::try_from(t.as_nanos()).ok());
            time.ok_or(format!("invalid time '{value}' of --{name}"))
        };
        match name {
            "interval" => check.interval = time()?,
            "timeout" => check.timeout = time()?,
            "start-period" => check.start_period = time()?,
            "start-interval" => check.start_interval = time()?,
            "retries" => {
                let number = value
                    .parse::<u32>()
                    .map_err(|_| format!("invalid number '{value}' of --retries"))?;
                check.retries = number.into();
            }
            _ => return Err(format!("unknown flag --{name}")),
        }
    }
    let (kind, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let line = line.trim();
    check.test = match (kind.to_ascii_uppercase().as_str(), list(line)) {
        ("NONE", _) if line.is_empty() => vec!["NONE".into()],
        ("CMD", _) if line.is_empty() => return Err("CMD requires a command".to_owned()),
        ("CMD", Some(words)) => std::iter::once("CMD".into())
            .chain(words.into_iter().map(ByteString::from))
            .collect(),
        ("CMD", None) => vec!["CMD-SHELL".into(), line.into()],
        _ => return Err(format!("unknown type '{kind}', want CMD or NONE")),
    };
    Ok(check)
}

/// JSON array: the words themselves. Anything else: a line for the shell.
fn command(text: &str) -> Vec<ByteString> {
    match list(text) {
        Some(words) => words.into_iter().map(ByteString::from).collect(),
        None => vec!["/bin/sh".into(), "-c".into(), text.into()],
    }
}

fn list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// `NAME=value …` with quotes, or the old form `NAME the rest of the line`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or(format!("'{text}' has no value"))?;
        return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
    }
    words(text)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(format!("'{word}' has no name")),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("'{word}' is not of the form NAME=value")),
        })
        .collect()
}

/// Words as in a Dockerfile: separated by blanks, with `'…'`, `"…"` and `\`.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\\', None | Some('"')) => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("it ends with a backslash".to_owned()),
            },
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

fn unquote(text: &str) -> String {
    match words(text) {
        Ok(words) if words.len() == 1 => words.concat(),
        _ => text.to_owned(),
    }
}

/// A name that is there keeps its place.
pub(crate) fn set_env(env: &mut Vec<ByteString>, name: &str, value: &str) {
    let entry = ByteString::from(format!("{name}={value}"));
    match env.iter_mut().find(|old| old.split_env().0 == name.as_bytes()) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// `80`, `53/udp`, `8000-8010`: in full, `80/tcp`.
pub(crate) fn port(text: &str) -> Option<String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let number = |s: &str| s.parse::<u16>().ok().filter(|n| *n > 0);
    let ordered = number(low)? <= number(high)?;
    let protocol = protocol.to_ascii_lowercase();
    (ordered && matches!(protocol.as_str(), "tcp" | "udp" | "sctp")).then(|| format!("{range}/{protocol}"))
}

/// Absolute and clean; a relative path goes on from where the image was.
pub(crate) fn workdir(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> serde_json::Value {
        let mut config = RunDefaults::default();
        for change in changes {
            apply(&mut config, change).unwrap();
        }
        serde_json::to_value(config).unwrap()
    }

    #[test]
    fn instructions() {
        for (changes, json) in [
            (&[r#"CMD ["sh", "-c"]"#][..], r#"{"Cmd":["sh","-c"]}"#),
            (&["cmd echo 'a b'"], r#"{"Cmd":["/bin/sh","-c","echo 'a b'"]}"#),
            (&["CMD [not json]"], r#"{"Cmd":["/bin/sh","-c","[not json]"]}"#),
            (&["CMD x", "ENTRYPOINT [\"e\"]"], r#"{"Entrypoint":["e"]}"#),
            (
                &[r#"ENV A=1 B="two words" C=a\ b D='x"y'"#, "ENV A=2"],
                r#"{"Env":["A=2","B=two words","C=a b","D=x\"y"]}"#,
            ),
            (&["ENV A the  rest"], r#"{"Env":["A=the  rest"]}"#),
            (&["LABEL a=b \"c d\"=e"], r#"{"Labels":{"a":"b","c d":"e"}}"#),
            (
                &["EXPOSE 80 53/UDP 1-3"],
                r#"{"ExposedPorts":{"1-3/tcp":{},"53/udp":{},"80/tcp":{}}}"#,
            ),
            (
                &["VOLUME /a /b", r#"VOLUME ["/c d"]"#],
                r#"{"Volumes":{"/a":{},"/b":{},"/c d":{}}}"#,
            ),
            (&["WORKDIR /a/./b", "WORKDIR ../c"], r#"{"WorkingDir":"/a/c"}"#),
            (
                &["USER www:www", "STOPSIGNAL SIGINT"],
                r#"{"User":"www:www","StopSignal":"SIGINT"}"#,
            ),
            (&["ONBUILD RUN make"], r#"{"OnBuild":["RUN make"]}"#),
        ] {
            assert_eq!(
                changed(changes),
                serde_json::from_str::<serde_json::Value>(json).unwrap(),
                "{changes:?}"
            );
        }
    }

    #[test]
    fn refusals() {
        for (change, why) in [
            ("", "it is empty"),
            ("CMD", "CMD requires at least one argument"),
            ("RUN make", "RUN is not a valid change command"),
            ("ENV A", "'A' has no value"),
            ("ENV A=1 B", "'B' is not of the form"),
            ("ENV =1", "has no name"),
            ("LABEL a=\"b", "a quote is not closed"),
            ("EXPOSE 0", "invalid port '0'"),
            ("EXPOSE 80/http", "invalid port"),
            ("EXPOSE 9-8", "invalid port"),
            ("STOPSIGNAL SIGNOPE", "invalid signal"),
            ("VOLUME [\"\"]", "can not be an empty string"),
        ] {
            let e = apply(&mut RunDefaults::default(), change).unwrap_err().to_string();
            assert!(e.contains(why), "{change}: {e}");
        }
    }
}
