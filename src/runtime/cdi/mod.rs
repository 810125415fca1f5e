//! Devices by name: descriptions that their drivers leave in /etc/cdi and /run/cdi (cncf-tags/container-device-interface,
//! SPEC.md), as JSON or YAML, and what they ask for.

mod yaml;

use crate::error::{Context as _, Error, Result};
use crate::model::cdi::Cdi;
use crate::model::mount::{Mount, Propagation, Source};
use crate::model::resources::{Access, Device};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The later one wins.
const DIRECTORIES: [&str; 3] = ["/etc/cdi", "/var/run/cdi", "/run/cdi"];
/// Bytes of a description at most.
const LARGEST: u64 = 4 << 20;

/// What a container gets.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Edits {
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) devices: Vec<Device>,
    pub(crate) mounts: Vec<Mount>,
    /// Further groups, numbers.
    pub(crate) groups: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    devices: Vec<Described>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    #[serde(deserialize_with = "text_or_number")]
    name: String,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Bind>,
    hooks: Vec<serde_json::Value>,
    #[serde(rename = "additionalGids", alias = "additionalGIDs")]
    additional_gids: Vec<u32>,
    intel_rdt: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    #[serde(default)]
    host_path: Option<PathBuf>,
    #[serde(default)]
    permissions: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bind {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

/// A name such as 0 is a number in YAML.
fn text_or_number<'de, D: serde::Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(d)? {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    })
}

/// All descriptions that there are.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// The least important first.
    specs: Vec<(PathBuf, Spec)>,
    directories: Vec<PathBuf>,
    /// Files that can't be read, and why.
    damaged: Vec<String>,
}

impl Registry {
    /// Of `dirs`, or of the usual places if there are none.
    pub(crate) fn read(dirs: &[PathBuf]) -> Registry {
        let mut registry = Registry {
            directories: match dirs {
                [] => DIRECTORIES.iter().map(PathBuf::from).collect(),
                dirs => dirs.to_vec(),
            },
            ..Registry::default()
        };
        for dir in registry.directories.clone() {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
            paths.sort();
            for path in paths {
                match parse_file(&path) {
                    Ok(Some(spec)) => registry.specs.push((path, spec)),
                    Ok(None) => {}
                    Err(e) => registry.damaged.push(format!("{}: {e}", path.display())),
                }
            }
        }
        registry
    }

    /// The devices of a kind, `vendor/class`.
    pub(crate) fn names(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.specs.iter().filter(|(_, spec)| spec.kind == kind);
        let mut names: Vec<&str> = of_kind
            .flat_map(|(_, s)| s.devices.iter().map(|d| d.name.as_str()))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|n| seen.insert(*n));
        names
    }

    /// The kinds of a class: who makes such devices.
    pub(crate) fn kinds_of(&self, class: &str) -> Vec<&str> {
        let kinds = self.specs.iter().map(|(_, s)| s.kind.as_str());
        let mut kinds: Vec<&str> = kinds
            .filter(|k| k.split_once('/').is_some_and(|(_, c)| c == class))
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// That nothing matches, with what there is.
    pub(crate) fn missing(&self, what: &str) -> Error {
        let places: Vec<String> = self.directories.iter().map(|d| d.display().to_string()).collect();
        let known: Vec<String> = self
            .specs
            .iter()
            .flat_map(|(_, s)| s.devices.iter().map(move |d| format!("{}={}", s.kind, d.name)))
            .take(8)
            .collect();
        let hint = match (known.is_empty(), self.damaged.first()) {
            (_, Some(damaged)) => damaged.clone(),
            (false, None) => format!("there are {}", known.join(", ")),
            (true, None) => format!(
                "no driver has described a device in {}; for NVIDIA: nvidia-ctk cdi generate",
                places.join(", ")
            ),
        };
        Error::not_found(format!("unresolvable CDI devices {what}")).with_hint(hint)
    }

    /// What the devices ask for, in order; what a description asks for with any of its devices comes once.
    pub(crate) fn edits(&self, names: &[String]) -> Result<Edits> {
        let mut edits = Edits::default();
        let mut used: Vec<&PathBuf> = Vec::new();
        for full in names {
            let (kind, name) = full.split_once('=').unwrap_or((full, ""));
            let matching = self
                .specs
                .iter()
                .rev()
                .filter_map(|(path, spec)| Some((path, spec, spec.devices.iter().find(|d| d.name == name)?)))
                .filter(|(_, spec, _)| spec.kind == kind)
                .collect::<Vec<_>>();
            let Some((path, spec, device)) = matching.first() else {
                return Err(self.missing(full));
            };
            if let Some((other, ..)) = matching.get(1).filter(|(other, ..)| other.parent() == path.parent()) {
                return Err(Error::conflict(format!(
                    "CDI device {full}: both {} and {} describe it",
                    path.display(),
                    other.display()
                )));
            }
            add(&mut edits, &device.container_edits).with_context(|| format!("CDI device {full}"))?;
            if !used.contains(path) {
                used.push(path);
                add(&mut edits, &spec.container_edits).with_context(|| format!("CDI device {full}"))?;
            }
        }
        Ok(edits)
    }
}

/// Nothing is read if nothing was asked for.
pub(crate) fn edits(cdi: &Cdi) -> Result<Edits> {
    match cdi.is_empty() {
        true => Ok(Edits::default()),
        false => Registry::read(&cdi.spec_dirs).edits(&cdi.devices),
    }
}

fn parse_file(path: &Path) -> Result<Option<Spec>> {
    let yaml = match path.extension().and_then(|e| e.to_str()) {
        Some("json") => false,
        Some("yaml" | "yml") => true,
        _ => return Ok(None),
    };
    if std::fs::metadata(path)?.len() > LARGEST {
        return Err(Error::other("it is too large for a description"));
    }
    parse(&std::fs::read_to_string(path)?, yaml).map(Some)
}

fn parse(text: &str, yaml: bool) -> Result<Spec> {
    let value = if yaml {
        yaml::parse(text)?
    } else {
        serde_json::from_str(text)?
    };
    Ok(serde_json::from_value(value)?)
}

fn add(edits: &mut Edits, from: &ContainerEdits) -> Result<()> {
    if let Some(hook) = from.hooks.first() {
        let path = hook.get("path").and_then(|p| p.as_str()).unwrap_or("?");
        let error = Error::other(format!(
            "its description wants the hook {} run, and hooks are not supported",
            path.escape_debug()
        ));
        return Err(error.with_hint("nvidia-ctk cdi generate --disable-hook=all makes one without hooks"));
    }
    if from.intel_rdt.is_some() {
        return Err(Error::other("its description wants intelRdt, which is not supported"));
    }
    edits.env.extend(from.env.iter().filter(|e| e.contains('=')).cloned());
    edits.groups.extend(from.additional_gids.iter().map(u32::to_string));
    for node in &from.device_nodes {
        let access = match &node.permissions {
            None => Access {
                read: true,
                write: true,
                mknod: false,
            },
            Some(text) => Access::parse(text)
                .ok_or_else(|| Error::other(format!("invalid permissions '{}'", text.escape_debug())))?,
        };
        edits.devices.push(Device {
            source: absolute(node.host_path.as_ref().unwrap_or(&node.path))?,
            target: absolute(&node.path)?,
            access,
        });
    }
    for mount in &from.mounts {
        edits.mounts.push(Mount {
            source: Source::Bind {
                path: absolute(&mount.host_path)?,
                non_recursive: !mount.options.iter().any(|o| o == "rbind"),
                create: false,
            },
            target: absolute(&mount.container_path)?,
            read_only: mount.options.iter().any(|o| o == "ro"),
            idmap: false,
            chown: false,
            propagation: mount
                .options
                .iter()
                .find_map(|o| Propagation::parse(o))
                .unwrap_or_default(),
        });
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    use std::path::Component::{Normal, RootDir};
    let clean = path.is_absolute() && path.components().all(|c| matches!(c, RootDir | Normal(_)));
    match clean && path.components().count() > 1 {
        true => Ok(path.components().collect()),
        false => Err(Error::other(format!(
            "invalid path '{}'",
            path.display().to_string().escape_debug()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"---
cdiVersion: "0.5.0"
kind: vendor.com/gpu
containerEdits:
  env:
    - ALL=yes
devices:
- name: 0
  containerEdits:
    deviceNodes:
    - path: /dev/gpu0
      hostPath: /dev/null
      permissions: rw
    mounts:
      - {hostPath: /usr/lib/x.so, containerPath: /usr/lib/x.so, options: [ro, nosuid, bind]}
- name: all
  containerEdits:
    additionalGids: [44, 45]
    env: ["A=1: # no comment"]   # a comment
"#;

    fn registry(texts: &[(&str, &str)]) -> Registry {
        let specs = texts.iter().map(|(path, text)| {
            let yaml = path.ends_with("yaml");
            (PathBuf::from(path), parse(text, yaml).unwrap())
        });
        Registry {
            specs: specs.collect(),
            ..Registry::default()
        }
    }

    fn edits(registry: &Registry, names: &[&str]) -> Result<Edits> {
        registry.edits(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let json = serde_json::to_string(&yaml::parse(YAML).unwrap()).unwrap();
        for (path, text) in [("/etc/cdi/a.yaml", YAML), ("/etc/cdi/a.json", json.as_str())] {
            let registry = registry(&[(path, text)]);
            assert_eq!(registry.names("vendor.com/gpu"), ["0", "all"]);
            let both = edits(&registry, &["vendor.com/gpu=0", "vendor.com/gpu=all"]).unwrap();
            assert_eq!(both.env, ["ALL=yes", "A=1: # no comment"]);
            assert_eq!(both.groups, ["44", "45"]);
            assert_eq!(both.devices[0].target, Path::new("/dev/gpu0"));
            assert_eq!(both.devices[0].source, Path::new("/dev/null"));
            assert!(both.mounts[0].read_only);
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let registry = registry(&[("/etc/cdi/a.yaml", YAML)]);
        let e = edits(&registry, &["vendor.com/gpu=7"]).unwrap_err();
        assert_eq!(e.to_string(), "unresolvable CDI devices vendor.com/gpu=7");
        assert!(e.hint().unwrap().contains("vendor.com/gpu=all"));
        let none = Registry::read(&["/does/not/exist".into()]);
        assert!(
            edits(&none, &["a/b=c"])
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("nvidia-ctk")
        );
    }

    #[test]
    fn the_later_directory_wins_and_twice_in_one_is_refused() {
        let one = r#"{"kind":"v/c","devices":[{"name":"x","containerEdits":{"env":["N=1"]}}]}"#;
        let two = one.replace("N=1", "N=2");
        let apart = registry(&[("/etc/cdi/a.json", one), ("/run/cdi/a.json", &two)]);
        assert_eq!(edits(&apart, &["v/c=x"]).unwrap().env, ["N=2"]);
        let together = registry(&[("/etc/cdi/a.json", one), ("/etc/cdi/b.json", &two)]);
        assert!(edits(&together, &["v/c=x"]).unwrap_err().to_string().contains("both"));
    }

    #[test]
    fn hooks_and_odd_paths_are_refused() {
        for (edit, why) in [
            (
                r#"{"hooks":[{"hookName":"createContainer","path":"/usr/bin/nvidia-cdi-hook"}]}"#,
                "hooks are not supported",
            ),
            (r#"{"deviceNodes":[{"path":"dev/x"}]}"#, "invalid path"),
            (
                r#"{"mounts":[{"hostPath":"/a/../b","containerPath":"/x"}]}"#,
                "invalid path",
            ),
            (
                r#"{"deviceNodes":[{"path":"/dev/x","permissions":"q"}]}"#,
                "invalid permissions",
            ),
        ] {
            let text = format!(r#"{{"kind":"v/c","devices":[{{"name":"x","containerEdits":{edit}}}]}}"#);
            let e = edits(&registry(&[("/etc/cdi/a.json", &text)]), &["v/c=x"])
                .unwrap_err()
                .to_string();
            assert!(e.contains(why), "{e}");
        }
    }
}
