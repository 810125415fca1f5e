//! What one container may know by name: everyone on the networks it shares with them, and those it is linked to.

use super::book::Page;
use super::wire::{self, Query, Record};
use crate::model::id::ContainerId;
use crate::model::name::NameOptions;
use crate::model::network::Endpoint;
use crate::store::Store;
use std::net::IpAddr;

pub(super) struct Zone {
    pages: Vec<Page>,
    /// Alias, in lower case → whom it means.
    links: Vec<(String, ContainerId)>,
    /// Domains that were asked for, with a dot before.
    search: Vec<String>,
    /// Whether there is any way out of its networks: if not, no question leaves either (CVE-2024-29018).
    pub(super) open: bool,
    turn: usize,
}

impl Zone {
    pub(super) fn new(store: &Store, endpoints: &[Endpoint], options: &NameOptions) -> Zone {
        let links = options.links.iter();
        let search = options.dns_search.iter().filter(|d| *d != ".");
        let mut zone = Zone {
            pages: Vec::new(),
            links: links
                .map(|l| (l.alias.to_ascii_lowercase(), l.container.clone()))
                .collect(),
            search: search
                .map(|d| format!(".{}", d.trim_matches('.').to_ascii_lowercase()))
                .collect(),
            open: true,
            turn: 0,
        };
        zone.move_to(store, endpoints);
        zone
    }

    /// The container is on these networks now.
    pub(super) fn move_to(&mut self, store: &Store, endpoints: &[Endpoint]) {
        let shared = endpoints.iter().filter(|e| e.dns);
        self.pages = shared.map(|e| Page::of(store, &e.network, &e.network_id)).collect();
        self.open = endpoints.iter().any(|e| !e.internal);
    }

    /// What is known about the question; `None` if others have to be asked.
    pub(super) fn look_up(&mut self, message: &[u8], query: &Query) -> Option<Vec<Record>> {
        if !query.is_ordinary() {
            return None;
        }
        let mut buffer = wire::name_buffer();
        let name = query.name(message, &mut buffer).filter(|n| !n.is_empty())?;
        for page in &mut self.pages {
            page.refresh();
        }
        if query.kind == wire::PTR {
            let address = wire::reverse(name)?;
            let name = self.pages.iter_mut().find_map(|page| page.at(address))?;
            return Some(vec![Record::Name(name)]);
        }
        let mut addresses = self.addresses(name)?;
        addresses.sort_unstable();
        addresses.dedup();
        // Each in turn comes first, since most clients take the first.
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % addresses.len().max(1);
        addresses.rotate_left(first);
        let wanted = addresses.into_iter().filter(|address| {
            query.wants(match address {
                IpAddr::V4(_) => wire::A,
                IpAddr::V6(_) => wire::AAAA,
            })
        });
        Some(wanted.map(Record::Address).collect())
    }

    /// As it stands; within a network it names; within a domain of the container's own search list.
    fn addresses(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(found) = self.linked(name).or_else(|| self.anywhere(name)) {
            return Some(found);
        }
        for page in &mut self.pages {
            let within = name.strip_suffix(&page.network).and_then(|n| n.strip_suffix('.'));
            if let Some(found) = within.and_then(|name| page.named(name)) {
                return Some(found);
            }
        }
        let mut bare = self.search.iter().filter_map(|d| name.strip_suffix(d.as_str()));
        let bare = bare.find(|n| !n.is_empty())?;
        self.linked(bare).or_else(|| self.anywhere(bare))
    }

    fn linked(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        let (_, id) = self.links.iter().find(|(alias, _)| alias == name)?;
        self.pages.iter_mut().find_map(|page| page.of_container(id))
    }

    fn anywhere(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        self.pages.iter_mut().find_map(|page| page.named(name))
    }
}
