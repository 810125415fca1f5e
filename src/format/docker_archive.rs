//! The lists inside of a docker archive: `manifest.json` (docker 1.10 and later) and `repositories` (all before, and a
//! courtesy since).

use crate::error::{Error, Result};
use crate::format::{MAX_LAYERS, parse_json, shown};
use crate::model::image::null_is_default;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const REPOSITORIES: &str = "repositories";

/// One image of `manifest.json`. Paths are inside of the archive, and foreign.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Entry {
    pub(crate) config: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) repo_tags: Vec<String>,
    /// Base first.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) layers: Vec<String>,
}

pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<Vec<Entry>> {
    let entries: Vec<Entry> = parse_json(bytes, MANIFEST)?;
    if let Some(entry) = entries.iter().find(|entry| entry.layers.len() > MAX_LAYERS) {
        let layers = entry.layers.len();
        return Err(Error::other(format!(
            "{MANIFEST}: an image of {layers} layers, at most {MAX_LAYERS}"
        )));
    }
    Ok(entries)
}

/// Name → tag → id of the topmost layer's `json`.
pub(crate) type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// The store's own file of that time, which some people kept as well, has one key around it all.
pub(crate) fn parse_repositories(bytes: &[u8]) -> Result<Repositories> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "PascalCase")]
    struct Wrapped {
        repositories: Repositories,
    }
    if let Ok(wrapped) = parse_json::<Wrapped>(bytes, REPOSITORIES) {
        return Ok(wrapped.repositories);
    }
    let repositories: Repositories = parse_json(bytes, REPOSITORIES)?;
    for id in repositories.values().flat_map(BTreeMap::values) {
        super::docker_v1::check_id(id)
            .map_err(|e| Error::other(format!("{REPOSITORIES}: {}", shown(&e.to_string()))))?;
    }
    Ok(repositories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_every_age() {
        let entries =
            parse_manifest(br#"[{"Config":"x.json","RepoTags":null,"Layers":["a/layer.tar"],"LayerSources":{}}]"#)
                .unwrap();
        assert_eq!((entries[0].repo_tags.len(), entries[0].layers.len()), (0, 1));
        let id = "a".repeat(64);
        let plain = format!(r#"{{"deb":{{"latest":"{id}"}}}}"#);
        let wrapped = format!(r#"{{"Repositories":{plain}}}"#);
        for text in [plain, wrapped] {
            assert_eq!(parse_repositories(text.as_bytes()).unwrap()["deb"]["latest"], id);
        }
        for text in ["", "[]", r#"{"deb":{"latest":"../x"}}"#, r#"{"deb":"x"}"#] {
            assert!(parse_repositories(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["", "{}", r#"[{"Layers":"x"}]"#, "[[]]"] {
            let parsed = parse_manifest(text.as_bytes());
            assert!(parsed.is_err() || text == "[[]]", "{text}");
        }
    }
}
