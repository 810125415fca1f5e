//! What `barge build` was asked, as data: the flag table, checked and typed. The command line makes it.

use crate::build::context::Asked;
use crate::container::config::RunArgs;
use crate::error::Error;
use crate::image::pull::PullPolicy;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::registry::Access;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// One build.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) context: ContextPlace,
    pub(crate) dockerfile: DockerfilePlace,
    /// `--ignorefile`, instead of the context's own.
    pub(crate) ignore_file: Option<PathBuf>,
    /// `--build-context NAME=…`, in order; a later one of the same name wins.
    pub(crate) named_contexts: Vec<NamedContext>,
    /// `-t`, complete with tag.
    pub(crate) tags: Vec<Reference>,
    /// A stage's name or index; the last stage without it.
    pub(crate) target: Option<String>,
    /// `--build-arg`, `--build-arg-file` and the proxies of the environment; values looked up already.
    pub(crate) args: BTreeMap<String, String>,
    /// Proxy variables: they reach RUN as arguments, and never count for the cache.
    pub(crate) proxies: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Of the manifest.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Without any: this machine's.
    pub(crate) platforms: Vec<Platform>,
    pub(crate) pull: PullPolicy,
    /// How registries are spoken to.
    pub(crate) access: Access,
    pub(crate) cache: CacheOptions,
    pub(crate) secrets: Vec<SecretSource>,
    pub(crate) ssh: Vec<SshSource>,
    /// Without any: an image in the store (`Output::Image`).
    pub(crate) outputs: Vec<Output>,
    pub(crate) iid_file: Option<PathBuf>,
    pub(crate) metadata_file: Option<PathBuf>,
    pub(crate) squash: Squash,
    /// What RUN's containers are made from: network, names, limits, capabilities, devices, volumes, `--env` and the
    /// like. `image`, `command`, `workdir`, `user`, `labels` are empty.
    pub(crate) run: RunArgs,
    pub(crate) time: TimeOptions,
    /// `--allow`.
    pub(crate) allow: BTreeSet<Entitlement>,
    /// Environment of the image: `--env` NAME=value and `--unsetenv`.
    pub(crate) image_env: Vec<(String, String)>,
    pub(crate) unset_env: Vec<String>,
    pub(crate) unset_labels: Vec<String>,
    /// `--from`: instead of the base of the first FROM.
    pub(crate) replace_base: Option<String>,
    /// Most stages at once; `None` is as many as there are processors.
    pub(crate) jobs: Option<usize>,
    pub(crate) call: Call,
    /// History entries are left out.
    pub(crate) omit_history: bool,
    /// Labels of the base image are not taken over.
    pub(crate) drop_base_labels: bool,
    /// Stages that the target does not need are built as well (`--skip-unused-stages=false`).
    pub(crate) all_stages: bool,
}

impl Options {
    /// Which context is to be opened, and how: the same for a build and for what only reads its Dockerfile.
    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked {
            place: &self.context,
            dockerfile: &self.dockerfile,
            ignore_file: self.ignore_file.as_deref(),
            access: &self.access,
            keep_git_dir: self.args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|v| v == "1"),
        }
    }
}

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContextPlace {
    Directory(PathBuf),
    /// `-`: a Dockerfile, or a tar in any compression. Which one, its first bytes tell.
    Stdin,
    /// `http(s)://`, git in all its spellings.
    Remote(String),
}

impl Default for ContextPlace {
    fn default() -> Self {
        ContextPlace::Directory(PathBuf::from("."))
    }
}

/// `-f`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum DockerfilePlace {
    /// `Dockerfile` in the context's root; `Containerfile` where there is none.
    #[default]
    Usual,
    /// As typed. With a directory as context: relative to the working directory, or else to the context. With a remote
    /// context or a tar: inside of it.
    File(PathBuf),
    /// `-f -`.
    Stdin,
    /// `-f https://…`.
    Remote(String),
}

/// `--build-context NAME=…`: stands in for a stage or an image of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedContext {
    pub(crate) name: String,
    pub(crate) place: NamedPlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamedPlace {
    Directory(PathBuf),
    /// `docker-image://NAME`, `container-image://NAME`.
    Image(String),
    /// `oci-layout://DIR[:TAG|@DIGEST]`: the part behind the directory is kept with its sign.
    OciLayout {
        dir: PathBuf,
        select: Option<String>,
    },
    /// git or http(s).
    Remote(String),
    /// `target:STAGE`.
    Stage(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CacheOptions {
    /// `--no-cache`: nothing is taken from it (what is made still goes into it).
    pub(crate) ignore: bool,
    /// `--no-cache-filter`: stages that take nothing from it, in lower case.
    pub(crate) ignore_stages: Vec<String>,
    /// `--cache-ttl`: nothing older is taken.
    pub(crate) oldest: Option<Duration>,
    pub(crate) from: Vec<CachePlace>,
    pub(crate) to: Vec<CacheExport>,
}

/// `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CachePlace {
    /// `type=registry,ref=…`, or a bare name: an image that was built with its cache inline, or a cache manifest.
    Registry(Reference),
    /// A bare name without a tag, as podman wants it: an image's name must not come to stand for a cache.
    Repository(Reference),
    /// `type=local,src=DIR[,digest=…][,tag=…]`.
    Local { dir: PathBuf, select: Option<String> },
}

impl CachePlace {
    /// In messages.
    pub(crate) fn shown(&self) -> String {
        match self {
            CachePlace::Registry(name) | CachePlace::Repository(name) => name.to_string(),
            CachePlace::Local { dir, select } => format!("{}{}", dir.display(), select.as_deref().unwrap_or_default()),
        }
    }
}

/// `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheExport {
    pub(crate) place: CachePlace,
    /// `mode=max`: of all stages, not only of what is in the image.
    pub(crate) all_stages: bool,
    /// `ignore-error=true`.
    pub(crate) ignore_error: bool,
    /// `type=inline`: in the image's own configuration; `place` is unused.
    pub(crate) inline: bool,
}

/// `--secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSource {
    pub(crate) id: String,
    pub(crate) from: SecretFrom,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretFrom {
    File(PathBuf),
    Env(String),
    /// `id=X` alone: the variable X if it is set, else the file X, else the engine's secret X.
    Any(String),
    /// `type=secret`: one of `barge secret`.
    Stored(String),
}

/// `--ssh id[=socket|key,key…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SshSource {
    pub(crate) id: String,
    /// Empty: `$SSH_AUTH_SOCK`. One socket: that agent. Otherwise key files.
    pub(crate) paths: Vec<PathBuf>,
}

/// `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Into the store; `names` besides `-t`; pushed to its registry if `push`.
    Image { names: Vec<Reference>, push: bool },
    /// The target's files, as a tree.
    Local { dest: PathBuf },
    /// The target's files, as a tar.
    Tar { dest: Destination },
    /// An archive of an OCI layout, or its directory with `tar=false`.
    Oci {
        dest: Destination,
        names: Vec<Reference>,
        directory: bool,
    },
    /// What `load` takes; `None` loads it.
    Docker {
        dest: Option<Destination>,
        names: Vec<Reference>,
    },
    /// `type=cacheonly`.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    File(PathBuf),
    Stdout,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Squash {
    #[default]
    No,
    /// What the build made becomes one layer.
    New,
    /// With the base's layers.
    All,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TimeOptions {
    /// `--timestamp`, `--source-date-epoch` or SOURCE_DATE_EPOCH: instead of now, in configuration and history.
    pub(crate) created: Option<Timestamp>,
    /// `--rewrite-timestamp` (or `--timestamp`): no file of a new layer is younger than `created`.
    pub(crate) rewrite_files: bool,
}

/// `--call`: what is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Call {
    #[default]
    Build,
    Check,
    Outline {
        json: bool,
    },
    Targets {
        json: bool,
    },
}

/// `--allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entitlement {
    NetworkHost,
    SecurityInsecure,
    Device,
}

impl std::str::FromStr for Entitlement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Entitlement, Error> {
        match text {
            "network.host" => Ok(Entitlement::NetworkHost),
            "security.insecure" => Ok(Entitlement::SecurityInsecure),
            "device" => Ok(Entitlement::Device),
            _ => Err(Error::usage(format!("invalid --allow '{text}'"))
                .with_hint("there are network.host, security.insecure and device")),
        }
    }
}
