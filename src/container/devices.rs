//! Devices by name: what `--device vendor/class=name` and `--gpus` ask for, checked when the container is made.

use crate::container::config::{CdiArgs, Count, GpuRequest};
use crate::error::{Error, Result};
use crate::model::cdi::Cdi;
use crate::runtime::cdi::Registry;

/// The class of GPUs, whoever makes them.
const CLASS: &str = "gpu";

/// The names that a container is promised. Every one is known now, though it is looked up again at each start.
pub(super) fn by_name(args: &CdiArgs) -> Result<Cdi> {
    if args.devices.is_empty() && args.gpus.is_empty() {
        return Ok(Cdi::default());
    }
    let registry = Registry::read(&args.spec_dirs);
    let mut devices = args.devices.clone();
    for request in &args.gpus {
        devices.extend(gpus(&registry, request)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    devices.retain(|d| seen.insert(d.clone()));
    registry.edits(&devices)?;
    Ok(Cdi {
        devices,
        spec_dirs: args.spec_dirs.clone(),
    })
}

/// The names that `wanted` means: `vendor/class=name` itself, all of a class for `vendor/class` and `vendor/class=*`.
pub(crate) fn matching(spec_dirs: &[std::path::PathBuf], wanted: &str) -> Result<Vec<String>> {
    let registry = Registry::read(spec_dirs);
    let (kind, name) = wanted.split_once('=').unwrap_or((wanted, "*"));
    let names: Vec<String> = match name {
        "*" => registry.names(kind).iter().map(|n| format!("{kind}={n}")).collect(),
        _ => vec![wanted.to_owned()],
    };
    match names.is_empty() {
        true => Err(registry.missing(wanted)),
        false => registry.edits(&names).map(|_| names),
    }
}

fn gpus(registry: &Registry, request: &GpuRequest) -> Result<Vec<String>> {
    let none = |e: Error| {
        let hint = e.hint().map(str::to_owned).unwrap_or_default();
        Error::not_found("could not select device driver with capabilities: [[gpu]]: no GPU is described here")
            .with_hint(hint)
    };
    let kinds = registry.kinds_of(CLASS);
    let kind = match &request.vendor {
        Some(vendor) => kinds.iter().find(|k| {
            k.split('/')
                .next()
                .is_some_and(|v| v == vendor || v.strip_suffix(".com") == Some(vendor))
        }),
        // The same on every start, should there be several.
        None => kinds.iter().find(|k| **k == "nvidia.com/gpu").or(kinds.first()),
    };
    let Some(kind) = kind else {
        let wanted = request.vendor.as_deref().unwrap_or("gpu");
        return Err(none(registry.missing(wanted)));
    };
    let names = registry.names(kind);
    if !request.devices.is_empty() {
        return Ok(request.devices.iter().map(|d| format!("{kind}={d}")).collect());
    }
    let single: Vec<&&str> = names.iter().filter(|n| **n != "all").collect();
    match request.count {
        Count::All if names.contains(&"all") => Ok(vec![format!("{kind}=all")]),
        Count::All => Ok(names.iter().map(|n| format!("{kind}={n}")).collect()),
        Count::Number(n) => {
            // Drivers describe one GPU by its number and by its UUID: the numbers are asked for.
            let numbered: Vec<String> = single
                .iter()
                .filter(|name| name.parse::<u32>().is_ok())
                .take(n)
                .map(|name| format!("{kind}={name}"))
                .collect();
            match numbered.len() == n {
                true => Ok(numbered),
                false => Err(Error::not_found(format!(
                    "{n} GPUs were asked for, there are {}",
                    numbered.len()
                ))),
            }
        }
    }
}
