//! containers-policy.json(5): who may provide images. `insecureAcceptAnything` and `reject` are done; what asks for a
//! signature is refused, because a check that can't be made must not look as if it had been.

use crate::error::{Error, Result};
use crate::model::reference::Reference;
use crate::registry::text::clean;
use serde_json::{Map, Value};

pub(super) struct Policy {
    default: Vec<Requirement>,
    /// The scopes of each transport; registries are `docker`.
    transports: Map<String, Value>,
}

#[derive(Debug, PartialEq, Eq)]
enum Requirement {
    Accept,
    Reject,
    /// Of this kind, which we can't check.
    Signature(String),
}

impl Policy {
    pub(super) fn parse(text: &str) -> Result<Policy> {
        let bad = |why: &str| Error::other(format!("is damaged: {why}"));
        let json: Value = serde_json::from_str(text).map_err(|e| bad(&e.to_string()))?;
        let top = json.as_object().ok_or_else(|| bad("it is no JSON object"))?;
        if let Some(key) = top.keys().find(|k| !matches!(k.as_str(), "default" | "transports")) {
            return Err(bad(&format!("unknown key {}", clean(key))));
        }
        let default = requirements(top.get("default").ok_or_else(|| bad("there is no `default`"))?)?;
        let transports = match top.get("transports") {
            None => Map::new(),
            Some(value) => value
                .as_object()
                .ok_or_else(|| bad("`transports` is no object"))?
                .clone(),
        };
        let policy = Policy { default, transports };
        policy.scopes_of("docker")?;
        Ok(policy)
    }

    fn scopes_of(&self, transport: &str) -> Result<Option<&Map<String, Value>>> {
        let scopes = self.transports.get(transport).map(|value| {
            let why = || Error::other(format!("is damaged: `{transport}` is no object"));
            value.as_object().ok_or_else(why)
        });
        scopes.transpose()
    }

    /// Of an archive or a directory: which of a transport's scopes it would be in is not looked at, so all have to let
    /// it in.
    pub(super) fn check_files(&self, transport: &str) -> Result<()> {
        let scopes = self.scopes_of(transport)?;
        for value in scopes.into_iter().flat_map(Map::values) {
            met(&requirements(value)?, transport)?;
        }
        match scopes.is_some_and(|scopes| scopes.contains_key("")) {
            true => Ok(()),
            false => met(&self.default, transport),
        }
    }

    pub(super) fn check(&self, reference: &Reference) -> Result<()> {
        let known = self.scopes_of("docker")?;
        let found = scopes(reference).into_iter().find_map(|scope| known?.get(&scope));
        let name = reference.name();
        match found {
            Some(value) => met(&requirements(value)?, &name),
            None => met(&self.default, &name),
        }
    }
}

fn met(wanted: &[Requirement], of: &str) -> Result<()> {
    for requirement in wanted {
        match requirement {
            Requirement::Accept => {}
            Requirement::Reject => return Err(Error::other(format!("images of {of} are rejected"))),
            Requirement::Signature(kind) => {
                return Err(Error::other(format!(
                    "images of {of} need a signature ({kind}), which this engine cannot check"
                )));
            }
        }
    }
    Ok(())
}

fn requirements(value: &Value) -> Result<Vec<Requirement>> {
    let list = value.as_array().filter(|l| !l.is_empty());
    let list = list.ok_or_else(|| Error::other("is damaged: a list of requirements is missing or empty"))?;
    list.iter()
        .map(|entry| match entry.get("type").and_then(Value::as_str) {
            Some("insecureAcceptAnything") => Ok(Requirement::Accept),
            Some("reject") => Ok(Requirement::Reject),
            Some(kind @ ("signedBy" | "sigstoreSigned" | "signedBaseLayer")) => {
                Ok(Requirement::Signature(kind.to_owned()))
            }
            other => Err(Error::other(format!(
                "unknown requirement {}",
                clean(other.unwrap_or("without a type"))
            ))),
        })
        .collect()
}

/// The image itself, then wider and wider: repository, what is above it, host, `*.domain`, everything.
fn scopes(reference: &Reference) -> Vec<String> {
    let name = reference.name();
    let mut all = Vec::new();
    if let Some(digest) = &reference.digest {
        all.push(format!("{name}@{digest}"));
    } else if let Some(tag) = &reference.tag {
        all.push(format!("{name}:{tag}"));
    }
    let mut at = name.as_str();
    loop {
        all.push(at.to_owned());
        match at.rsplit_once('/') {
            Some((above, _)) => at = above,
            None => break,
        }
    }
    let mut domain = reference.host.split(':').next().unwrap_or_default();
    while let Some((_, above)) = domain.split_once('.') {
        all.push(format!("*.{above}"));
        domain = above;
    }
    all.push(String::new());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &str, name: &str) -> Result<()> {
        Policy::parse(policy)?.check(&Reference::parse(name).unwrap())
    }

    #[test]
    fn the_narrowest_scope_decides() {
        let policy = r#"{"default": [{"type": "reject"}], "transports": {
            "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]},
            "docker": {
                "docker.io/library": [{"type": "insecureAcceptAnything"}],
                "docker.io/library/evil": [{"type": "reject"}],
                "*.example.com": [{"type": "insecureAcceptAnything"}],
                "signed.example.com": [{"type": "signedBy", "keyType": "GPGKeys"}],
                "h:5000": [{"type": "insecureAcceptAnything"}],
                "h:5000/a:1": [{"type": "sigstoreSigned"}]
            }}}"#;
        for (name, want) in [
            ("debian", ""),
            ("evil:1", "rejected"),
            ("team/app", "rejected"),
            ("a.example.com/x", ""),
            ("signed.example.com/x", "need a signature (signedBy)"),
            ("h:5000/a:2", ""),
            ("h:5000/a:1", "sigstoreSigned"),
            ("other/a", "rejected"),
        ] {
            match (check(policy, name), want) {
                (Ok(()), "") => {}
                (Err(e), want) if !want.is_empty() => assert!(e.to_string().contains(want), "{name}: {e}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn archives_have_transports_of_their_own() {
        let policy = r#"{"default": [{"type": "reject"}], "transports": {
            "docker": {"": [{"type": "insecureAcceptAnything"}]},
            "docker-archive": {"": [{"type": "insecureAcceptAnything"}]},
            "oci": {"": [{"type": "insecureAcceptAnything"}], "/srv": [{"type": "signedBy"}]},
            "dir": {"/srv": [{"type": "insecureAcceptAnything"}]}}}"#;
        let policy = Policy::parse(policy).unwrap();
        policy.check_files("docker-archive").unwrap();
        for (transport, why) in [("oci-archive", "rejected"), ("oci", "signedBy"), ("dir", "rejected")] {
            let e = policy.check_files(transport).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_let_through() {
        for policy in [
            "",
            "[]",
            "{}",
            r#"{"default": []}"#,
            r#"{"default": [{"type": "newer"}]}"#,
            r#"{"default": [{}]}"#,
            r#"{"default": [{"type": "insecureAcceptAnything"}], "extra": 1}"#,
            r#"{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"": [{"type": "x"}]}}}"#,
        ] {
            assert!(check(policy, "a").is_err(), "{policy}");
        }
        assert!(check(r#"{"default": [{"type": "insecureAcceptAnything"}]}"#, "a").is_ok());
    }
}
