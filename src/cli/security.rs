//! `--cap-add`, `--cap-drop`, `--security-opt`: text → how a container is confined.

use crate::error::{Context as _, Error, Result};
use crate::model::security::{Seccomp, Security};
use std::path::Path;

/// `ALL`, or a capability's name without `CAP_`, in capitals.
pub(crate) fn capability(text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match name == "ALL" || format!("CAP_{name}").parse::<caps::Capability>().is_ok() {
        true => Ok(name.to_owned()),
        false => Err(Error::usage(format!("invalid capability: \"{text}\"")).with_hint("capabilities(7) lists them")),
    }
}

/// One `--security-opt`: `key=value`, or `key:value` as in old times.
pub(crate) fn option(security: &mut Security, text: &str) -> Result<()> {
    let unknown = || {
        Error::usage(format!("invalid --security-opt: \"{text}\""))
            .with_hint("there are seccomp=FILE|unconfined, no-new-privileges[=true], systempaths=unconfined")
    };
    let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    match (key, value) {
        ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
        ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
        ("systempaths", Some("unconfined")) => security.unmasked = true,
        ("seccomp", Some("unconfined")) => security.seccomp = Seccomp::Unconfined,
        ("seccomp", Some("builtin" | "default")) => security.seccomp = Seccomp::Default,
        ("seccomp", Some(file)) if !file.is_empty() => security.seccomp = Seccomp::Profile(profile(Path::new(file))?),
        // Without AppArmor or SELinux a container is unconfined by them.
        ("apparmor", Some("unconfined")) | ("label", Some("disable")) => {}
        ("apparmor", Some(_)) => return Err(Error::other(format!("{text}: AppArmor profiles are not supported"))),
        ("label", Some(_)) => return Err(Error::other(format!("{text}: SELinux labels are not supported"))),
        _ => return Err(unknown()),
    }
    Ok(())
}

/// The text of a seccomp profile. What it means is checked when the container is made.
fn profile(file: &Path) -> Result<String> {
    let what = || format!("opening seccomp profile ({})", file.display());
    let text = std::fs::read_to_string(file).with_context(what)?;
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).with_context(what)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_by_name() {
        for (text, want) in [
            ("CAP_CHOWN", "CHOWN"),
            ("net_admin", "NET_ADMIN"),
            ("all", "ALL"),
            ("bpf", "BPF"),
        ] {
            assert_eq!(capability(text).unwrap(), want);
        }
        assert!(capability("CAP_FLY").is_err() && capability("").is_err());
    }

    #[test]
    fn options_one_by_one() {
        let made = |text| {
            let mut security = Security::default();
            option(&mut security, text).map(|()| security)
        };
        assert!(made("no-new-privileges").unwrap().no_new_privileges);
        assert!(made("no-new-privileges:true").unwrap().no_new_privileges);
        assert!(!made("no-new-privileges=false").unwrap().no_new_privileges);
        assert!(made("systempaths=unconfined").unwrap().unmasked);
        assert_eq!(made("seccomp:unconfined").unwrap().seccomp, Seccomp::Unconfined);
        assert!(made("apparmor=unconfined").is_ok() && made("label=disable").is_ok());
        for bad in [
            "",
            "seccomp",
            "seccomp=",
            "seccomp=/does/not/exist",
            "apparmor=x",
            "label=type:t",
            "odd=1",
            "no-new-privileges=maybe",
        ] {
            assert!(made(bad).is_err(), "{bad}");
        }
    }
}
