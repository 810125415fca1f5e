//! Before an image is used: whether to look for it in a registry.

use super::{Options, pull};
use crate::error::{Error, Kind, Result};
use crate::image::progress::{Event, Progress};
use crate::image::resolve;
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::registry::Access;
use crate::store::Store;
use std::str::FromStr;

/// `--pull`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    /// Only what is not here.
    #[default]
    Missing,
    Always,
    /// If the registry has another one; what is here will do where it can't be asked.
    Newer,
    Never,
}

impl FromStr for PullPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "missing" | "" => Ok(PullPolicy::Missing),
            "always" | "true" => Ok(PullPolicy::Always),
            "newer" | "ifnewer" => Ok(PullPolicy::Newer),
            "never" | "false" => Ok(PullPolicy::Never),
            other => Err(Error::usage(format!(
                "invalid pull option: '{}': must be one of \"always\", \"missing\", \"newer\" or \"never\"",
                other.escape_debug()
            ))),
        }
    }
}

/// What is wanted of an image.
#[derive(Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) policy: PullPolicy,
    pub(crate) platform: Option<Platform>,
    pub(crate) access: Access,
}

/// The image, fetched if the policy says so. Makes the built-in one if that is what is meant.
pub(crate) fn ensure(store: &Store, what: &str, wanted: &Wanted, progress: &dyn Progress) -> Result<ImageRecord> {
    resolve::provide(store, what)?;
    let here = resolve::resolve_for(store, what, wanted.platform.as_ref());
    match (wanted.policy, here) {
        (PullPolicy::Missing | PullPolicy::Never, Ok(image)) => Ok(image),
        (PullPolicy::Missing, Err(e)) if e.kind() == Kind::NotFound && is_name(what) => {
            let name = Reference::parse(what)?.or_latest();
            progress.event(Event::Notice(&format!("Unable to find image '{name}' locally")));
            fetch(store, what, wanted, progress)
        }
        (PullPolicy::Missing | PullPolicy::Never, Err(e)) => Err(e),
        (PullPolicy::Always | PullPolicy::Newer, Ok(image)) if !is_name_of(store, what)? => Ok(image),
        (PullPolicy::Newer, Ok(image)) => fetch(store, what, wanted, progress).or_else(|e| {
            progress.event(Event::Notice(&format!("using the image that is here: {e}")));
            Ok(image)
        }),
        (PullPolicy::Always | PullPolicy::Newer, _) => fetch(store, what, wanted, progress),
    }
}

fn fetch(store: &Store, what: &str, wanted: &Wanted, progress: &dyn Progress) -> Result<ImageRecord> {
    let options = Options {
        platform: wanted.platform.clone(),
        access: wanted.access.clone(),
        ..Options::default()
    };
    let pulled = pull(store, what, &options, progress)?;
    match pulled.first() {
        Some(first) => store.image(&first.id),
        None => Err(crate::store::no_such_image(what)),
    }
}

fn is_name(what: &str) -> bool {
    Reference::parse(what).is_ok()
}

/// Whether what was typed is a name here, and not an id, and not the built-in image.
fn is_name_of(store: &Store, what: &str) -> Result<bool> {
    match Reference::parse(what) {
        Ok(name) if crate::image::hello::is_name(&name) => Ok(false),
        Ok(_) => Ok(resolve::by_name(store, what)?.is_some()),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        assert_eq!("missing".parse::<PullPolicy>().unwrap(), PullPolicy::Missing);
        assert_eq!("newer".parse::<PullPolicy>().unwrap(), PullPolicy::Newer);
        let e = "often".parse::<PullPolicy>().unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
    }
}
