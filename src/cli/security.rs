//! `--cap-add`, `--cap-drop`, `--security-opt`: text → how a container is confined.

use crate::error::{Context as _, Error, Result};
use crate::model::security::{Seccomp, Security};
use std::path::{Path, PathBuf};

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
        Error::usage(format!("invalid --security-opt: \"{text}\"")).with_hint(
            "there are seccomp=FILE|unconfined, no-new-privileges[=true], systempaths=unconfined, apparmor=PROFILE, \
                 label=disable|user:U|role:R|type:T|level:L, mask=PATH[:PATH], unmask=ALL|PATH[:PATH]",
        )
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
        ("apparmor", Some("unconfined")) => {}
        ("label", Some("disable")) => security.selinux = None,
        ("apparmor", Some(profile)) if is_profile(profile) => {
            if !has_apparmor() {
                let error = Error::other(format!("{text}: this kernel has no AppArmor"));
                return Err(error.with_hint("apparmor=unconfined runs here as everywhere"));
            }
            security.apparmor = Some(profile.to_owned());
        }
        ("label", Some(part)) => {
            let default = std::fs::read_to_string(LXC_CONTEXTS).unwrap_or_default();
            let known = security.selinux.clone().unwrap_or_else(|| default_context(&default));
            let context = with_label(&known, part).ok_or_else(unknown)?;
            // As docker has it: where SELinux is not there, nobody asks what a label says.
            if Path::new("/sys/fs/selinux/enforce").exists() {
                security.selinux = Some(context);
            }
        }
        ("mask", Some(list)) if !list.is_empty() => security.mask.extend(paths(list)?),
        ("unmask", Some("ALL")) => security.unmasked = true,
        ("unmask", Some(list)) if !list.is_empty() => security.unmask.extend(paths(list)?),
        _ => return Err(unknown()),
    }
    Ok(())
}

/// What the policy gives to containers: `process = "system_u:system_r:container_t:s0"`.
const LXC_CONTEXTS: &str = "/etc/selinux/targeted/contexts/lxc_contexts";

fn default_context(file: &str) -> String {
    let lines = file.lines().filter_map(|line| line.split_once('='));
    let process = lines.into_iter().find(|(name, _)| name.trim() == "process");
    let value = process.map(|(_, value)| value.trim().trim_matches('"').to_owned());
    value.unwrap_or_else(|| "system_u:system_r:container_t:s0".to_owned())
}

/// A context, `user:role:type:level`, with one part as `part` says: `type:NAME`. The level is the rest, and may have
/// colons.
fn with_label(context: &str, part: &str) -> Option<String> {
    let (key, value) = part.split_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:,".contains(c);
    if value.is_empty() || !value.chars().all(plain) {
        return None;
    }
    let mut parts: Vec<&str> = context.splitn(4, ':').collect();
    parts.resize(4, "s0");
    let place = ["user", "role", "type", "level"].iter().position(|k| *k == key);
    match (place, key) {
        (Some(place), _) => parts[place] = value,
        // Of files, which barge leaves as they are.
        (None, "filetype") => {}
        (None, _) => return None,
    }
    Some(parts.join(":"))
}

/// A profile's name goes to the kernel as it is.
fn is_profile(name: &str) -> bool {
    !name.is_empty() && name.len() < 256 && name.bytes().all(|b| b.is_ascii_graphic())
}

fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// `/a:/b`: absolute and without any `..`.
fn paths(list: &str) -> Result<Vec<PathBuf>> {
    list.split(':')
        .map(|path| match Path::new(path).is_absolute() {
            true => crate::container::config::clean_target(Path::new(path)),
            false => Err(Error::usage(format!(
                "invalid --security-opt: '{path}' is not an absolute path"
            ))),
        })
        .collect()
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
    fn labels() {
        let file = "# policy\nprocess = \"system_u:system_r:svirt_lxc_net_t:s0\"\nfile = \"x\"\n";
        assert_eq!(default_context(file), "system_u:system_r:svirt_lxc_net_t:s0");
        let default = default_context("");
        for (part, context) in [
            ("type:web_t", "system_u:system_r:web_t:s0"),
            ("level:s0:c1,c2", "system_u:system_r:container_t:s0:c1,c2"),
            ("user:u", "u:system_r:container_t:s0"),
            ("role:r", "system_u:r:container_t:s0"),
            ("filetype:f", "system_u:system_r:container_t:s0"),
        ] {
            assert_eq!(with_label(&default, part).as_deref(), Some(context));
        }
        let once = with_label(&default, "level:s0:c1,c2").unwrap();
        assert_eq!(with_label(&once, "type:t").unwrap(), "system_u:system_r:t:s0:c1,c2");
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
        assert_eq!(
            made("mask=/proc/a:/b/../c").unwrap().mask,
            [Path::new("/proc/a"), Path::new("/c")]
        );
        assert_eq!(made("unmask=/proc/acpi").unwrap().unmask, [Path::new("/proc/acpi")]);
        assert!(made("unmask=ALL").unwrap().unmasked);
        assert!(made("apparmor=unconfined").is_ok() && made("label=disable").is_ok());
        for bad in [
            "",
            "seccomp",
            "seccomp=",
            "seccomp=/does/not/exist",
            "mask=relative",
            "mask=",
            "apparmor=a b",
            "apparmor=x",
            "label=type:",
            "label=type:a b",
            "label=kind:t",
            "label=t",
            "odd=1",
            "no-new-privileges=maybe",
        ] {
            assert!(made(bad).is_err(), "{bad}");
        }
    }
}
