//! The image that a container becomes: its configuration from the container's (pure), and its record. The layer with
//! the container's changes is in the store by then (`container/commit.rs`).

use crate::error::{Context, Error, Result};
use crate::image::change;
use crate::image::intake::{Intake, NewImage};
use crate::layer::pack;
use crate::model::bytes::ByteString;
use crate::model::container::ContainerConfig;
use crate::model::digest::Digest;
use crate::model::event::Event;
use crate::model::id::{DiffId, ImageId};
use crate::model::image::{Empty, History, ImageConfig, ImageRecord, RootFs, RunDefaults};
use crate::model::mount::Source;
use crate::model::reference::Reference;
use crate::model::signal;
use crate::model::time::Timestamp;

/// What a person says of the new image.
#[derive(Debug, Default)]
pub(crate) struct Described {
    pub(crate) author: String,
    pub(crate) message: String,
    /// Dockerfile instructions.
    pub(crate) changes: Vec<String>,
    /// 2013's `-run`: a JSON object in docker's shape that wins over the container's configuration.
    pub(crate) run: Option<String>,
    pub(crate) reference: Option<Reference>,
}

/// An image without its layers.
#[derive(Debug)]
pub(crate) struct Draft {
    config: ImageConfig,
    parent: Option<ImageId>,
    reference: Option<Reference>,
    told: Option<Told>,
}

/// The event of an image that is made.
#[derive(Debug)]
struct Told {
    container: ContainerConfig,
    comment: String,
}

/// Refuses what can't be done before anything is. `base` is the container's image, if that is still there.
pub(crate) fn draft(container: &ContainerConfig, base: Option<&ImageRecord>, described: Described) -> Result<Draft> {
    if described.reference.as_ref().is_some_and(|name| name.digest.is_some()) {
        return Err(Error::other("cannot commit to digest reference"));
    }
    let mut config = base.map(|record| record.config.clone()).unwrap_or_default();
    if base.is_none() {
        config.os = "linux".to_owned();
        config.architecture = super::import::this_architecture().to_owned();
    }
    config.config = defaults(container, &config.config);
    if let Some(json) = &described.run {
        override_with(&mut config.config, json)?;
    }
    for change in &described.changes {
        change::apply(&mut config.config, change)?;
    }
    config.created = Some(now()?);
    config.author = described.author.clone();
    let words: Vec<_> = container.process.argv().map(ByteString::to_string_lossy).collect();
    config.history.push(History {
        created: config.created,
        author: described.author,
        created_by: words.join(" "),
        comment: described.message,
        empty_layer: false,
    });
    Ok(Draft {
        config,
        parent: base.map(|record| record.id),
        reference: described.reference,
        told: None,
    })
}

impl Draft {
    /// Makes the image of these layers, base first, which the intake has taken in or found. Durable when it returns.
    pub(crate) fn finish(mut self, intake: &Intake<'_>, layers: Vec<DiffId>) -> Result<ImageId> {
        fit_history(&mut self.config.history, layers.len());
        self.config.rootfs = RootFs {
            diff_ids: layers,
            ..RootFs::default()
        };
        let names: Vec<_> = self.reference.into_iter().map(Reference::or_latest).collect();
        let config = serde_json::to_vec(&self.config)?;
        let told = self.told.map(|told| {
            let event = Event::container("commit", &told.container).with("comment", told.comment);
            event.with("imageID", ImageId(Digest::of(&config)))
        });
        intake.finish(&NewImage {
            config: &config,
            names: &names,
            replace: true,
            parent: self.parent,
            told,
            ..NewImage::default()
        })
    }

    /// When the image is made, it is told as a commit of this container.
    pub(crate) fn told_of(mut self, container: &ContainerConfig, comment: String) -> Draft {
        self.told = Some(Told {
            container: container.clone(),
            comment,
        });
        self
    }

    /// All layers made one: there are no steps any more.
    pub(crate) fn squashed(mut self) -> Draft {
        let last = self.config.history.pop();
        self.config.history = last.into_iter().collect();
        self.parent = None;
        self
    }
}

/// As many steps with a layer as there are layers: the last is this commit, which may have none, and before it may be
/// others of the same container.
fn fit_history(history: &mut Vec<History>, layers: usize) {
    let Some(mut last) = history.pop() else { return };
    let with_layer = history.iter().filter(|step| !step.empty_layer).count();
    last.empty_layer = with_layer >= layers;
    for _ in with_layer + 1..layers {
        let created_by = "barge commit".to_owned();
        history.push(History {
            created: last.created,
            created_by,
            ..History::default()
        });
    }
    history.push(last);
}

/// The current time, or `SOURCE_DATE_EPOCH`.
fn now() -> Result<Timestamp> {
    match pack::source_date_epoch()? {
        Some(seconds) => Timestamp::from_second(seconds).map_err(|e| Error::usage(format!("SOURCE_DATE_EPOCH: {e}"))),
        None => Ok(Timestamp::now()),
    }
}

/// What the container was asked, without what the engine adds at every start.
fn defaults(container: &ContainerConfig, base: &RunDefaults) -> RunDefaults {
    let process = &container.process;
    let added = |entry: &&ByteString| {
        let of_the_image = base.env.contains(entry);
        let own = [
            crate::model::container::DEFAULT_PATH.as_bytes(),
            b"container=barge",
            b"TERM=xterm",
        ];
        let hostname = [b"HOSTNAME=", container.hostname.as_bytes()].concat();
        !of_the_image && (own.contains(&entry.as_bytes()) || entry.as_bytes() == hostname)
    };
    let workdir = match (process.workdir.as_bytes(), base.working_dir.is_empty()) {
        (b"/", true) => ByteString::default(),
        _ => process.workdir.clone(),
    };
    let anonymous = container.mounts.iter().filter_map(|mount| match &mount.source {
        Source::Volume { anonymous: true, .. } => Some(mount.target.display().to_string()),
        _ => None,
    });
    let stop_signal = match signal::parse(&base.stop_signal) {
        Some(number) if number == container.stop_signal => base.stop_signal.clone(),
        None if container.stop_signal == signal::TERM => String::new(),
        _ => format!("SIG{}", signal::name(container.stop_signal).trim_start_matches("SIG")),
    };
    RunDefaults {
        user: process.user.clone(),
        exposed_ports: container.expose.iter().map(|port| (port.clone(), Empty {})).collect(),
        env: process.env.iter().filter(|entry| !added(entry)).cloned().collect(),
        entrypoint: process.entrypoint.clone(),
        cmd: process.cmd.clone(),
        volumes: base
            .volumes
            .keys()
            .cloned()
            .chain(anonymous)
            .map(|target| (target, Empty {}))
            .collect(),
        working_dir: workdir,
        labels: container.labels.clone(),
        stop_signal,
        ..RunDefaults::default()
    }
}

/// What `json` names replaces what the container has. Keys that mean nothing here are ignored, as they were.
fn override_with(config: &mut RunDefaults, json: &str) -> Result<()> {
    let bad = |e: &dyn std::fmt::Display| Error::usage(format!("-run is no JSON of a configuration: {e}"));
    let said: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).map_err(|e| bad(&e))?;
    let new: RunDefaults = serde_json::from_str(json).map_err(|e| bad(&e))?;
    let has = |key: &str| said.contains_key(key);
    macro_rules! take {
        ($($key:literal $field:ident),*) => {
            $(if has($key) { config.$field = new.$field; })*
        };
    }
    take!(
        "User" user, "ExposedPorts" exposed_ports, "Env" env, "Entrypoint" entrypoint, "Cmd" cmd, "Volumes" volumes,
        "WorkingDir" working_dir, "Labels" labels, "StopSignal" stop_signal, "OnBuild" on_build
    );
    for port in said.get("PortSpecs").and_then(|v| v.as_array()).into_iter().flatten() {
        let text = port
            .as_str()
            .ok_or_else(|| bad(&"PortSpecs has something that is no text"))?;
        // `[HOST:]CONTAINER`: what an image says of the host means nothing elsewhere.
        let port = text.rsplit(':').next().unwrap_or(text);
        change::apply(config, &format!("EXPOSE {port}")).context("-run: PortSpecs")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_json_replaces_what_it_names() {
        let mut config = RunDefaults {
            cmd: vec!["a".into()],
            env: vec!["A=1".into()],
            user: "web".to_owned(),
            ..RunDefaults::default()
        };
        let json = r#"{"Cmd": ["cat", "/world"], "PortSpecs": ["22", "8080:80/udp"], "User": null, "Memory": 5}"#;
        override_with(&mut config, json).unwrap();
        assert_eq!(config.cmd, ["cat".into(), "/world".into()]);
        assert_eq!(config.env, ["A=1".into()]);
        assert_eq!(config.user, "");
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["22/tcp", "80/udp"]);
        for bad in ["", "{", "[]", r#"{"Cmd": 5}"#, r#"{"PortSpecs": [5]}"#] {
            assert!(override_with(&mut config, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_history_has_a_step_for_every_layer() {
        let step = |empty_layer| History {
            empty_layer,
            ..History::default()
        };
        for (steps, layers, empty) in [
            (vec![step(false)], 1, vec![false]),
            (vec![step(false), step(true), step(false)], 2, vec![false, true, false]),
            (vec![step(false), step(false)], 1, vec![false, true]),
            (vec![step(false), step(false)], 4, vec![false, false, false, false]),
        ] {
            let mut history = steps;
            fit_history(&mut history, layers);
            assert_eq!(history.iter().map(|s| s.empty_layer).collect::<Vec<_>>(), empty);
        }
    }
}
