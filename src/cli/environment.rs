//! `-e`, `--env-file`, `--label`, `--label-file`: pairs of name and value. Values are bytes; labels are text, as they
//! stand in JSON.

use crate::error::{Context as _, Error, Result};
use crate::model::bytes::ByteString;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The environment asked for, files first: `NAME=value`, or a bare `NAME` for what the caller named but does not have,
/// which removes it (from files it is left out).
pub(crate) fn environment<'a>(
    files: impl Iterator<Item = &'a OsStr>,
    given: impl Iterator<Item = &'a OsStr>,
    caller: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Vec<ByteString>> {
    let mut env = Vec::new();
    for file in files {
        for pair in pairs(file, &read(file)?)? {
            env.extend(resolve(&pair, &caller).filter(|p| p.split_env().1.is_some()));
        }
    }
    for pair in given {
        let bytes = pair.as_bytes();
        if bytes.is_empty() || bytes[0] == b'=' {
            return Err(Error::usage(format!(
                "invalid environment variable: {}",
                pair.display()
            )));
        }
        env.extend(resolve(bytes, &caller));
    }
    Ok(env)
}

/// A bare name takes the caller's value.
fn resolve(pair: &[u8], caller: impl Fn(&OsStr) -> Option<OsString>) -> Option<ByteString> {
    if pair.contains(&b'=') {
        return Some(pair.to_vec().into());
    }
    match caller(OsStr::from_bytes(pair)) {
        Some(value) => Some([pair, b"=", &value.into_vec()].concat().into()),
        None => Some(pair.to_vec().into()),
    }
}

/// Labels, files first; the last one of a name wins.
pub(crate) fn labels<'a>(
    files: impl Iterator<Item = &'a OsStr>,
    given: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut add = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key.is_empty() {
            true => Err(Error::usage(format!("invalid label '{pair}': it has no name"))),
            false => {
                labels.insert(key.to_owned(), value.to_owned());
                Ok(())
            }
        }
    };
    for file in files {
        for pair in pairs(file, &read(file)?)? {
            let pair = std::str::from_utf8(&pair)
                .map_err(|_| Error::usage(format!("a label in {} is not UTF-8", file.display())))?;
            add(pair)?;
        }
    }
    for pair in given {
        add(pair)?;
    }
    Ok(labels)
}

fn read(file: &OsStr) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// Docker's rules: one pair a line, spaces before it skipped, `#` comments and empty lines too, nothing quoted.
fn pairs(file: &OsStr, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut found = Vec::new();
    for line in bytes.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let bad = |why: &str| Error::usage(format!("{}: {why}", file.display()));
        let name = line.split(|b| *b == b'=').next().unwrap_or(line);
        if line.contains(&0) {
            return Err(bad("a line has a NUL byte"));
        }
        if name.is_empty() {
            return Err(bad(&format!(
                "no variable name on line '{}'",
                String::from_utf8_lossy(line)
            )));
        }
        if name.iter().any(u8::is_ascii_whitespace) {
            return Err(bad(&format!(
                "variable '{}' contains whitespaces",
                String::from_utf8_lossy(name)
            )));
        }
        found.push(line.to_vec());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_pairs(text: &[u8]) -> Result<Vec<Vec<u8>>> {
        pairs(OsStr::new("f"), text)
    }

    #[test]
    fn files_as_docker_reads_them() {
        let text = b"\xef\xbb\xbfA=1\n# no\n\n  B= two words \r\nC\nD=\"quoted\"\nE=\xff\nF=";
        let want: [&[u8]; 6] = [b"A=1", b"B= two words ", b"C", b"D=\"quoted\"", b"E=\xff", b"F="];
        assert_eq!(from_pairs(text).unwrap(), want);
        for (bad, why) in [
            (&b"=x"[..], "no variable name on line '=x'"),
            (b"A B=1", "contains whitespaces"),
            (b"A=\0", "NUL"),
        ] {
            let e = from_pairs(bad).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
    }

    #[test]
    fn bare_names_come_from_the_caller() {
        let caller = |name: &OsStr| (name == "HERE").then(|| OsString::from("v=1"));
        let given = ["A=1", "HERE", "GONE", "B="].map(OsStr::new);
        let env = environment(std::iter::empty(), given.into_iter(), caller).unwrap();
        assert_eq!(env, ["A=1", "HERE=v=1", "GONE", "B="].map(ByteString::from));
        for bad in ["", "=x"] {
            assert!(environment(std::iter::empty(), std::iter::once(OsStr::new(bad)), caller).is_err());
        }
    }

    #[test]
    fn labels_are_pairs_too() {
        let labels = labels(std::iter::empty(), ["a=1", "b", "a=2=3"].into_iter()).unwrap();
        assert_eq!(labels, [("a".into(), "2=3".into()), ("b".into(), String::new())].into());
    }
}
