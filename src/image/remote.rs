//! An image at its registry: on its way out (`rmi --remote`, F240), or looked at (`auto-update --dry-run`).

use crate::error::{Error, Result};
use crate::format::media;
use crate::model::digest::Digest;
use crate::model::reference::Reference;
use crate::registry::{self, Access, Action, Selector};
use crate::store::Store;

/// What a registry has under a name.
pub(crate) struct Remote {
    name: Reference,
    digest: Digest,
    registry: registry::Remote,
}

/// Whether what the registry has under this name is here, under the digest that it has there.
pub(crate) fn is_here(store: &Store, what: &str, access: &Access) -> Result<bool> {
    let name = Reference::parse(what)?.or_latest();
    let registry = registry::Remote::open(&name, Action::Pull, access)?;
    let head = registry.head_manifest(Selector::of(&name), media::ACCEPT)?;
    let head = head.ok_or_else(|| Error::not_found(format!("No such image at its registry: {name}")))?;
    let digest = match head.digest {
        Some(digest) => digest,
        None => registry.fetch_manifest(Selector::of(&name), media::ACCEPT)?.digest,
    };
    let known = |name: &Reference| name.digest == Some(digest);
    let here = super::resolve::by_name(store, what)?;
    Ok(here.is_some_and(|(_, id)| store.readable_tags().digests_of(&id).iter().any(known)))
}

impl Remote {
    /// Registries delete by digest only, so the tag is looked up first.
    pub(crate) fn find(what: &str, access: &Access) -> Result<Remote> {
        let name = Reference::parse(what)?.or_latest();
        let registry = registry::Remote::open(&name, Action::Delete, access)?;
        let head = registry.head_manifest(Selector::of(&name), media::ACCEPT)?;
        let head = head.ok_or_else(|| Error::not_found(format!("No such image at its registry: {name}")))?;
        let digest = match head.digest {
            Some(digest) => digest,
            None => registry.fetch_manifest(Selector::of(&name), media::ACCEPT)?.digest,
        };
        Ok(Remote { name, digest, registry })
    }

    /// `example.com/app:old (sha256:…)`
    pub(crate) fn described(&self) -> String {
        match self.name.digest {
            Some(_) => self.name.to_string(),
            None => format!("{} ({})", self.name, self.digest),
        }
    }

    pub(crate) fn delete(&self) -> Result<()> {
        self.registry.delete_manifest(&self.digest)
    }
}
