//! An image at its registry: on its way out (`rmi --remote`, F240), or looked at (`auto-update --dry-run`).

use crate::error::{Error, Kind, Result};
use crate::format::media;
use crate::model::digest::Digest;
use crate::model::reference::{DEFAULT_TAG, Reference};
use crate::registry::{self, Access, Action, Selector};
use crate::store::Store;

/// What a registry has under a name.
pub(crate) struct Remote {
    name: Reference,
    what: What,
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

enum What {
    /// Registries of today delete by digest only, with every tag of it.
    Image(Digest),
    /// Those of 2013 delete a tag,
    Tag(String),
    /// or a repository.
    Repository,
}

impl Remote {
    /// Looks for it. `all`: the repository, with every tag of it.
    pub(crate) fn find(typed: &str, all: bool, access: &Access) -> Result<Remote> {
        let name = Reference::parse(typed)?;
        if all && (name.tag.is_some() || name.digest.is_some()) {
            return Err(Error::usage("tag can't be used with --all-tags/-a"));
        }
        let registry = registry::Remote::open(&name, Action::Delete, access)?;
        let name = if all { name } else { name.or_latest() };
        let what = match find(&registry, &name, all) {
            Ok(what) => what,
            Err(e) if e.kind() == Kind::LoginRequired => return Err(e),
            Err(e) => match registry.of_2013(&e)?.first() {
                None => return Err(e),
                Some(older) => find_older(older, &name, all)?,
            },
        };
        Ok(Remote { name, what, registry })
    }

    /// `example.com/app:old (sha256:…)`
    pub(crate) fn described(&self) -> String {
        match &self.what {
            What::Image(digest) if self.name.digest.is_none() => format!("{} ({digest})", self.name),
            What::Tag(id) => format!("{} ({})", self.name, &id[..12]),
            What::Image(_) | What::Repository => self.name.to_string(),
        }
    }

    /// What somebody should know before it is gone.
    pub(crate) fn warning(&self) -> String {
        let described = self.described();
        match &self.what {
            What::Image(_) => format!("This will delete {described} at its registry, with every tag of it."),
            What::Tag(_) => format!("This will delete the tag {described} at its registry."),
            What::Repository => format!("This will delete {described} at its registry, with every tag."),
        }
    }

    pub(crate) fn delete(&self) -> Result<()> {
        match &self.what {
            What::Image(digest) => self.registry.delete_manifest(digest),
            What::Tag(_) | What::Repository => {
                let gone = || Error::other(format!("{}: its registry has changed", self.name));
                let older = self.registry.of_2013(&gone())?;
                let older = older.first().ok_or_else(gone)?;
                older.open()?;
                match (&self.what, &self.name.tag) {
                    (What::Tag(_), tag) => older.delete_tag(tag.as_deref().unwrap_or(DEFAULT_TAG)),
                    _ => older.delete_all(),
                }
            }
        }
    }
}

fn missing(name: &Reference) -> Error {
    Error::not_found(format!("No such image at its registry: {name}"))
}

fn find(registry: &registry::Remote, name: &Reference, all: bool) -> Result<What> {
    if all {
        // Only to see which kind of registry it is.
        registry.list_tags()?;
        let e = Error::other(format!("{} deletes images only, not repositories", name.host));
        return Err(e.with_hint("name each tag"));
    }
    let head = registry.head_manifest(Selector::of(name), media::ACCEPT)?;
    let digest = match head.ok_or_else(|| missing(name))?.digest {
        Some(digest) => digest,
        None => registry.fetch_manifest(Selector::of(name), media::ACCEPT)?.digest,
    };
    Ok(What::Image(digest))
}

fn find_older(repository: &registry::v1::Repository<'_>, name: &Reference, all: bool) -> Result<What> {
    repository.open()?;
    let mut tags = repository.tags()?;
    if all {
        return Ok(What::Repository);
    }
    let tag = name.tag.as_deref().unwrap_or(DEFAULT_TAG);
    tags.remove(tag).map(What::Tag).ok_or_else(|| missing(name))
}
