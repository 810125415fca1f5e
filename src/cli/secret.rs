//! `--secret`: text → what a container is told in secret.

use crate::error::{Error, Result};
use crate::model::secret::SecretPlace;
use std::path::{Path, PathBuf};

/// Where secrets are, unless told otherwise.
const DIRECTORY: &str = "/run/secrets";

/// `NAME[,type=mount|env][,target=…][,uid=…][,gid=…][,mode=…]`, and docker's `source=NAME,…`.
pub(crate) fn secret(text: &str) -> Result<(String, SecretPlace)> {
    let bad = |why: String| Error::usage(format!("invalid value '{text}' for '--secret': {why}"));
    let (mut name, mut target, mut env) = (None, None, false);
    let (mut uid, mut gid, mut mode) = (None, None, None);
    for (n, field) in text.split(',').enumerate() {
        let number = |value: &str| value.parse::<u32>().map_err(|_| bad(format!("{field}: want a number")));
        match field.split_once('=') {
            None if n == 0 => name = Some(field),
            Some(("source" | "src" | "id", value)) => name = Some(value),
            Some(("type", "mount")) => env = false,
            Some(("type", "env")) => env = true,
            Some(("type", other)) => return Err(bad(format!("type {other} is invalid, there are mount and env"))),
            Some(("target" | "dst" | "destination", value)) if !value.is_empty() => target = Some(value),
            Some(("uid", value)) => uid = Some(number(value)?),
            Some(("gid", value)) => gid = Some(number(value)?),
            Some(("mode", value)) => {
                let octal = u32::from_str_radix(value, 8).ok().filter(|m| *m <= 0o7777);
                mode = Some(octal.ok_or_else(|| bad(format!("mode {value} is invalid, want octal digits")))?);
            }
            _ => return Err(bad(format!("unknown field '{field}'"))),
        }
    }
    let name = name
        .filter(|n| !n.is_empty())
        .ok_or_else(|| bad("no secret is named".to_owned()))?;
    if env {
        if uid.is_some() || gid.is_some() || mode.is_some() {
            return Err(bad("uid, gid and mode are for type=mount".to_owned()));
        }
        let variable = target.unwrap_or(name);
        if variable.contains(['=', '\0']) {
            return Err(bad("the target is no name of a variable".to_owned()));
        }
        return Ok((name.to_owned(), SecretPlace::Env(variable.to_owned())));
    }
    Ok((
        name.to_owned(),
        SecretPlace::File {
            target: place(target.unwrap_or(name)).ok_or_else(|| bad("the target leads elsewhere".to_owned()))?,
            uid: uid.unwrap_or(0),
            gid: gid.unwrap_or(0),
            mode: mode.unwrap_or(0o444),
        },
    ))
}

/// Absolute and clean.
fn place(target: &str) -> Option<PathBuf> {
    use std::path::Component::{Normal, RootDir};
    let path = Path::new(DIRECTORY).join(target);
    let clean = path.components().all(|c| matches!(c, RootDir | Normal(_)));
    (clean && path.components().count() > 1 && !target.ends_with('/')).then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        let file = |target: &str, uid, mode| SecretPlace::File {
            target: target.into(),
            uid,
            gid: 0,
            mode,
        };
        for (text, name, place) in [
            ("db", "db", file("/run/secrets/db", 0, 0o444)),
            ("db,uid=7,mode=0400", "db", file("/run/secrets/db", 7, 0o400)),
            ("db,target=/etc/pw", "db", file("/etc/pw", 0, 0o444)),
            ("source=db,target=a/b", "db", file("/run/secrets/a/b", 0, 0o444)),
            ("db,type=env", "db", SecretPlace::Env("db".into())),
            ("db,type=env,target=PW", "db", SecretPlace::Env("PW".into())),
        ] {
            assert_eq!(secret(text).unwrap(), (name.to_owned(), place), "{text}");
        }
        for bad in [
            "",
            "db,type=x",
            "db,mode=9",
            "db,what=1",
            "db,extra",
            "db,target=../../etc/passwd",
            "db,target=/",
            "db,type=env,uid=1",
            "type=env",
            "db,uid=-1",
        ] {
            assert!(secret(bad).is_err(), "{bad}");
        }
    }
}
