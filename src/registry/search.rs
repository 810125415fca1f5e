//! Looking for images: the search of docker's index (`/v1/search`, which Docker Hub and registries of that age have),
//! Docker Hub's own form, and the catalog of a registry that has neither.

use crate::error::{Context as _, Error, Result};
use crate::model::reference::DEFAULT_HOST;
use crate::registry::config::{Config, Serves, Source};
use crate::registry::credentials::Keyring;
use crate::registry::endpoint::{Call, Endpoint, To};
use crate::registry::http::{Client, Method};
use crate::registry::remote::Access;
use crate::registry::text::clean;
use crate::registry::url::{Url, escape};
use serde::Deserialize;
use std::sync::Arc;

const LIMIT: usize = 8 << 20;
/// Pages of a catalog that are looked through.
const PAGES: usize = 100;
const INDEX: &str = "index.docker.io";
const HUB: &str = "hub.docker.com";

/// An image somebody offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The registry it is at.
    pub(crate) index: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) stars: u64,
    pub(crate) official: bool,
    pub(crate) automated: bool,
}

/// Finds at most `limit` images of each registry whose name or description has `term`. `host/term` asks that registry,
/// anything else those of registries.conf, or Docker Hub.
pub(crate) fn search(typed: &str, limit: usize, access: &Access) -> Result<Vec<Hit>> {
    let config = Config::load()?;
    let keyring = Keyring::of_caller(access.authfile.as_deref(), config.helpers());
    let client = access.client();
    let (hosts, term) = match typed.split_once('/') {
        Some((host, term)) if host.contains(['.', ':']) || host == "localhost" => (vec![host.to_owned()], term),
        _ => (config.search_hosts(), typed),
    };
    let mut hits = Vec::new();
    let several = hosts.len() > 1;
    for host in hosts {
        let found = Place {
            config: &config,
            keyring: &keyring,
            client: &client,
            access,
            host: &host,
        }
        .search(term, limit)
        .with_context(|| format!("search {host}"));
        match found {
            Ok(found) => hits.extend(found),
            Err(e) if several => access.notice.iter().for_each(|tell| tell(&e.to_string())),
            Err(e) => return Err(e),
        }
    }
    Ok(hits)
}

struct Place<'a> {
    config: &'a Config,
    keyring: &'a Keyring,
    client: &'a Arc<Client>,
    access: &'a Access,
    host: &'a str,
}

impl Place<'_> {
    fn endpoint(&self, host: &str) -> Result<Endpoint> {
        let source = Source {
            host: host.to_owned(),
            repository: String::new(),
            insecure: self.config.is_insecure(host),
            mirror: false,
            serves: Serves::All,
        };
        self.access.endpoint(self.client, self.keyring, &source)
    }

    fn search(&self, term: &str, limit: usize) -> Result<Vec<Hit>> {
        let host = if self.host == DEFAULT_HOST { INDEX } else { self.host };
        let endpoint = self.endpoint(host)?;
        let path = format!("/v1/search?q={}&n={limit}", escape(term));
        let answer = endpoint.ask(Call::get(&path, &[]))?;
        if answer.status == 200 {
            let bytes = answer.bytes(LIMIT).map_err(Error::from)?;
            if let Some(hits) = of_index(&bytes, self.host) {
                return Ok(hits.into_iter().take(limit).collect());
            }
        }
        if self.host == DEFAULT_HOST {
            return self.search_hub(term, limit);
        }
        self.search_catalog(&endpoint, term, limit)
    }

    fn search_hub(&self, term: &str, limit: usize) -> Result<Vec<Hit>> {
        let endpoint = self.endpoint(HUB)?;
        let path = format!("/v2/search/repositories/?query={}&page_size={limit}", escape(term));
        let answer = endpoint.ask(Call::get(&path, &[]))?;
        if answer.status != 200 {
            return Err(endpoint.failed("search", answer));
        }
        let bytes = answer.bytes(LIMIT).map_err(Error::from)?;
        let hits = of_hub(&bytes).ok_or_else(|| Error::other(format!("{HUB} answers no list of images")))?;
        Ok(hits.into_iter().take(limit).collect())
    }

    /// A registry without a search has a list of its repositories, for those who may see it.
    fn search_catalog(&self, endpoint: &Endpoint, term: &str, limit: usize) -> Result<Vec<Hit>> {
        let scopes = ["registry:catalog:*".to_owned()];
        let term = term.to_lowercase();
        let mut hits = Vec::new();
        let mut next: Option<Url> = None;
        for _ in 0..PAGES {
            let to = next.as_ref().map_or(To::Path("/v2/_catalog?n=1000"), To::Url);
            let answer = endpoint.ask(Call::new(Method::GET, to, &scopes))?;
            if answer.status != 200 || answer.media_type().is_some_and(|t| t.contains("html")) {
                return Err(endpoint.failed("it has no search, and does not list its repositories", answer));
            }
            let following = match crate::registry::v2::next_link(&answer.headers("link")) {
                Some(link) => Some(answer.url.join(link)?),
                None => None,
            };
            let bytes = answer.bytes(LIMIT).map_err(Error::from)?;
            let page: Catalog = serde_json::from_slice(&bytes)
                .map_err(|_| Error::other(format!("{} answers no list of repositories", self.host)))?;
            let names = page.repositories.unwrap_or_default();
            let fits = names.into_iter().filter(|name| name.to_lowercase().contains(&term));
            hits.extend(fits.map(|name| Hit {
                index: self.host.to_owned(),
                name: clean(&format!("{}/{name}", self.host)),
                description: String::new(),
                stars: 0,
                official: false,
                automated: false,
            }));
            if hits.len() >= limit || following.is_none() {
                break;
            }
            next = following;
        }
        hits.truncate(limit);
        Ok(hits)
    }
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    results: Option<Vec<IndexHit>>,
}

#[derive(Deserialize)]
struct IndexHit {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
    #[serde(default)]
    is_automated: bool,
}

#[derive(Deserialize)]
struct HubPage {
    results: Vec<HubHit>,
}

#[derive(Deserialize)]
struct HubHit {
    repo_name: String,
    #[serde(default)]
    short_description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
    #[serde(default)]
    is_automated: bool,
}

/// `{"query":…, "num_results":…, "results":[…]}`; `None` if it is something else.
fn of_index(bytes: &[u8], host: &str) -> Option<Vec<Hit>> {
    let index: Index = serde_json::from_slice(bytes).ok()?;
    let hits = index.results?.into_iter().map(|hit| Hit {
        name: match host {
            DEFAULT_HOST => short(&hit.name),
            // What it is pulled by.
            host => clean(&format!("{host}/{}", hit.name)),
        },
        index: host.to_owned(),
        description: clean(&hit.description.unwrap_or_default()),
        stars: hit.star_count,
        official: hit.is_official,
        automated: hit.is_automated,
    });
    Some(hits.collect())
}

fn of_hub(bytes: &[u8]) -> Option<Vec<Hit>> {
    let page: HubPage = serde_json::from_slice(bytes).ok()?;
    let hits = page.results.into_iter().map(|hit| Hit {
        index: DEFAULT_HOST.to_owned(),
        name: short(&hit.repo_name),
        description: clean(&hit.short_description.unwrap_or_default()),
        stars: hit.star_count,
        official: hit.is_official,
        automated: hit.is_automated,
    });
    Some(hits.collect())
}

/// Library images are shown without their namespace (F246).
fn short(name: &str) -> String {
    clean(name.strip_prefix("library/").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_both_kinds() {
        let index = br#"{"num_results": 2, "query": "a", "results": [
            {"name": "library/a", "description": "x\ny\u001b[1m", "star_count": 5, "is_official": true, "is_automated": false},
            {"name": "b/c", "description": null}]}"#;
        let hits = of_index(index, DEFAULT_HOST).unwrap();
        assert_eq!((hits[0].name.as_str(), hits[0].stars, hits[0].official), ("a", 5, true));
        assert_eq!(hits[0].description, "x y\\u{1b}[1m");
        assert_eq!(of_index(index, "h:1").unwrap()[1].name, "h:1/b/c");
        let hub = br#"{"count": 1, "results": [{"repo_name": "x/y", "short_description": "d", "star_count": 1, "is_official": false}]}"#;
        assert_eq!(of_hub(hub).unwrap()[0].name, "x/y");
        for odd in ["", "[]", "{}", "<html>"] {
            assert!(
                of_index(odd.as_bytes(), "h").is_none() && of_hub(odd.as_bytes()).is_none(),
                "{odd}"
            );
        }
    }
}
