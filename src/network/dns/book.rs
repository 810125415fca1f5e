//! Who is on a network under which names: `<run root>/names/<network id>/<container id>`, one small record each, put
//! there by the member's monitor before its program runs and taken away with its addresses.
//!
//! A reader keeps what it has read for as long as the directory's time stamp says that nothing came or went; since every
//! record comes and goes by a rename or an unlink, no answer is older than the question. Time stamps are as coarse as
//! the kernel's tick (up to 10 ms), so one that is younger than that is not believed yet.

use crate::error::{Context as _, Result};
use crate::model::id::ContainerId;
use crate::model::network::Endpoint;
use crate::model::state::ProcessRef;
use crate::store::{Durability, Store, file};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Time stamps of this age are final: two ticks of the slowest clock.
const SETTLED: Duration = Duration::from_millis(20);
/// A member that was seen alive is believed to be for this long.
const ALIVE: Duration = Duration::from_millis(200);

/// One member of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// In lower case, the container's name first; its id is implied.
    pub(super) names: Vec<String>,
    pub(super) address: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address6: Option<Ipv6Addr>,
    /// Nobody is there any more if this process is not.
    pub(super) monitor: ProcessRef,
}

fn book(store: &Store) -> PathBuf {
    store.run_root().join("names")
}

/// Puts a container into the book of a network it is on. Its names are those it has there, besides its id.
pub(crate) fn announce(
    store: &Store,
    id: &ContainerId,
    endpoint: &Endpoint,
    names: &[&str],
    monitor: ProcessRef,
) -> Result<()> {
    let mut all: Vec<String> = Vec::new();
    for name in names.iter().copied().chain(endpoint.aliases.iter().map(String::as_str)) {
        let name = name.to_ascii_lowercase();
        if !name.is_empty() && !all.contains(&name) {
            all.push(name);
        }
    }
    let member = Member {
        names: all,
        address: endpoint.address,
        address6: endpoint.address6,
        monitor,
    };
    let dir = book(store).join(&endpoint.network_id);
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    file::replace(&dir, id.as_str(), &file::to_json(&member)?, Durability::Volatile)
}

/// Takes a container out of the book of one network, or of all. Success if it isn't there.
pub(crate) fn withdraw(store: &Store, id: &ContainerId, network_id: Option<&str>) -> Result<()> {
    let book = book(store);
    let dirs: Vec<PathBuf> = match network_id {
        Some(network) => vec![book.join(network)],
        None => match std::fs::read_dir(&book) {
            Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).with_context(|| format!("read {}", book.display())),
        },
    };
    for dir in dirs {
        for name in [id.to_string(), format!(".{id}.new")] {
            let path = dir.join(name);
            match std::fs::remove_file(&path) {
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Err(e).with_context(|| format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A running container is called otherwise from now on.
pub(crate) fn rename(store: &Store, id: &ContainerId, old: &str, new: &str) -> Result<()> {
    let (old, new) = (old.to_ascii_lowercase(), new.to_ascii_lowercase());
    for entry in std::fs::read_dir(book(store)).into_iter().flatten().flatten() {
        let dir = entry.path();
        let Some(mut member) = file::read_json::<Member>(&dir.join(id.as_str()))? else {
            continue;
        };
        member.names.retain(|name| *name != old && *name != new);
        member.names.insert(0, new.clone());
        file::replace(&dir, id.as_str(), &file::to_json(&member)?, Durability::Volatile)?;
    }
    Ok(())
}

/// Drops the book of a network that is gone.
pub(crate) fn forget(store: &Store, network_id: &str) {
    let _ = std::fs::remove_dir_all(book(store).join(network_id));
}

fn addresses_of(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Vec<IpAddr> {
    v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect()
}

/// One network as it was last read.
pub(super) struct Page {
    /// The network's name, in lower case.
    pub(super) network: String,
    dir: PathBuf,
    stamp: Option<(i64, i64)>,
    members: Vec<Entry>,
    /// Hash of a name → member, sorted.
    by_name: Vec<(u64, u32)>,
}

struct Entry {
    id: ContainerId,
    member: Member,
    seen_alive: Option<Instant>,
}

impl Page {
    pub(super) fn of(store: &Store, network: &str, network_id: &str) -> Page {
        Page {
            network: network.to_ascii_lowercase(),
            dir: book(store).join(network_id),
            stamp: None,
            members: Vec::new(),
            by_name: Vec::new(),
        }
    }

    /// Makes sure that what it says is so.
    pub(super) fn refresh(&mut self) {
        let stamp = rustix::fs::stat(&self.dir)
            .ok()
            .map(|s| (s.st_mtime, i64::try_from(s.st_mtime_nsec).unwrap_or(0)));
        if stamp.is_some() && stamp == self.stamp {
            return;
        }
        // Taken before reading: what comes while we read is read again.
        self.stamp = stamp.filter(|s| is_settled(*s));
        self.read();
    }

    fn read(&mut self) {
        self.members.clear();
        self.by_name.clear();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(ContainerId::parse) else {
                continue;
            };
            let Ok(Some(member)) = file::read_json::<Member>(&entry.path()) else {
                continue;
            };
            let at = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
            let names = member.names.iter().map(|name| (hash(name), at));
            self.by_name.extend(names);
            self.members.push(Entry {
                id,
                member,
                seen_alive: None,
            });
        }
        self.by_name.sort_unstable();
        self.members.shrink_to_fit();
        self.by_name.shrink_to_fit();
    }

    /// The addresses of everyone here who has the name, or whose id begins so; `None` if there is nobody.
    pub(super) fn named(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        let wanted = hash(name);
        let start = self.by_name.partition_point(|(hash, _)| *hash < wanted);
        let same_hash = self.by_name[start..].iter().take_while(|(hash, _)| *hash == wanted);
        let mut found = None;
        for (_, at) in same_hash {
            let Some(entry) = usize::try_from(*at).ok().and_then(|at| self.members.get_mut(at)) else {
                continue;
            };
            if entry.member.names.iter().any(|n| n == name) && entry.is_alive() {
                found.get_or_insert_with(Vec::new).extend(entry.addresses());
            }
        }
        found.or_else(|| self.with_id(name))
    }

    /// Shorter beginnings of ids look like names too much.
    fn with_id(&mut self, prefix: &str) -> Option<Vec<IpAddr>> {
        use crate::model::id::{SHORT, is_hex};
        if !(SHORT..=64).contains(&prefix.len()) || !is_hex(prefix) {
            return None;
        }
        let mut matching = self.members.iter_mut().filter(|e| e.id.as_str().starts_with(prefix));
        let only = matching.next().filter(|_| matching.next().is_none())?;
        only.is_alive().then(|| only.addresses())
    }

    /// The addresses of a container.
    pub(super) fn of_container(&mut self, id: &ContainerId) -> Option<Vec<IpAddr>> {
        let entry = self.members.iter_mut().find(|e| e.id == *id)?;
        entry.is_alive().then(|| entry.addresses())
    }

    /// The container's name that has the address.
    pub(super) fn at(&mut self, address: IpAddr) -> Option<String> {
        let entry = self.members.iter_mut().find(|e| e.addresses().contains(&address))?;
        let name = entry.is_alive().then(|| entry.member.names.first())??;
        Some(format!("{name}.{}", self.network))
    }
}

impl Entry {
    fn addresses(&self) -> Vec<IpAddr> {
        addresses_of(self.member.address, self.member.address6)
    }

    /// A monitor that was killed could not take its container out of the book.
    fn is_alive(&mut self) -> bool {
        if self.seen_alive.is_some_and(|at| at.elapsed() < ALIVE) {
            return true;
        }
        let monitor = self.member.monitor;
        let alive = sys::process::start_time(monitor.pid) == Some(monitor.start_time);
        self.seen_alive = alive.then(Instant::now);
        alive
    }
}

fn hash(name: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

fn is_settled((seconds, nanoseconds): (i64, i64)) -> bool {
    let stamp = u64::try_from(seconds).ok().map(|s| {
        let nanoseconds = u32::try_from(nanoseconds).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::new(s, nanoseconds)
    });
    let age = stamp.and_then(|stamp| SystemTime::now().duration_since(stamp).ok());
    age.is_some_and(|age| age > SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::{Driver, Mac};
    use crate::store::testing::Scratch;

    fn endpoint(address: &str, aliases: &[&str]) -> Endpoint {
        let address: Ipv4Addr = address.parse().unwrap();
        Endpoint {
            network: "Net".to_owned(),
            network_id: "n1".to_owned(),
            driver: Driver::Bridge,
            interface: "eth0".to_owned(),
            link: String::new(),
            bridge: String::new(),
            address: Some(address),
            prefix: 16,
            gateway: None,
            address6: None,
            prefix6: 0,
            gateway6: None,
            mac: Mac::of(address.into()),
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
            internal: false,
            dns: true,
        }
    }

    fn this_process() -> ProcessRef {
        let pid = std::process::id().cast_signed();
        ProcessRef {
            pid,
            start_time: sys::process::start_time(pid).unwrap(),
        }
    }

    fn put(store: &Store, name: &str, address: &str, aliases: &[&str]) -> ContainerId {
        let id = Store::random_id().unwrap();
        announce(store, &id, &endpoint(address, aliases), &[name], this_process()).unwrap();
        id
    }

    fn ip(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn members_are_found_as_soon_as_they_are_there() {
        let s = Scratch::new();
        let mut page = Page::of(&s, "Net", "n1");
        page.refresh();
        assert_eq!(page.named("web"), None);
        for n in 1..200 {
            let address = format!("10.0.0.{n}");
            let id = put(&s, "Web", &address, &["Alias"]);
            page.refresh();
            assert_eq!(page.named("web"), Some(ip(&address)));
            assert_eq!(page.named("alias"), Some(ip(&address)));
            assert_eq!(page.named(id.short()), Some(ip(&address)));
            assert_eq!(page.named(&id.as_str()[..11]), None);
            assert_eq!(page.of_container(&id), Some(ip(&address)));
            assert_eq!(page.at(ip(&address)[0]), Some("web.net".to_owned()));
            rename(&s, &id, "web", "site").unwrap();
            page.refresh();
            assert_eq!((page.named("web"), page.named("site")), (None, Some(ip(&address))));
            withdraw(&s, &id, None).unwrap();
            page.refresh();
            assert_eq!(page.named("web"), None);
            assert_eq!(page.at(ip(&address)[0]), None);
        }
    }

    #[test]
    fn a_restart_with_another_address_is_seen() {
        let s = Scratch::new();
        let mut page = Page::of(&s, "net", "n1");
        let id = Store::random_id().unwrap();
        for n in 1..200 {
            let address = format!("10.0.0.{n}");
            announce(&s, &id, &endpoint(&address, &[]), &["web"], this_process()).unwrap();
            page.refresh();
            assert_eq!(page.named("web"), Some(ip(&address)));
        }
    }

    #[test]
    fn an_alias_of_several_has_all_their_addresses() {
        let s = Scratch::new();
        for n in 1..4 {
            put(&s, &format!("w{n}"), &format!("10.0.0.{n}"), &["pool"]);
        }
        let mut page = Page::of(&s, "net", "n1");
        page.refresh();
        let mut all = page.named("pool").unwrap();
        all.sort();
        assert_eq!(all, ip("10.0.0.1 10.0.0.2 10.0.0.3"));
    }

    #[test]
    fn who_was_killed_is_not_there() {
        let s = Scratch::new();
        let id = Store::random_id().unwrap();
        let mut dead = this_process();
        dead.start_time += 1;
        announce(&s, &id, &endpoint("10.0.0.1", &[]), &["web"], dead).unwrap();
        let mut page = Page::of(&s, "net", "n1");
        page.refresh();
        assert_eq!((page.named("web"), page.named(id.short())), (None, None));
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // damage is made by hand
    fn damage_is_passed_over() {
        let s = Scratch::new();
        let id = put(&s, "web", "10.0.0.1", &[]);
        let dir = book(&s).join("n1");
        std::fs::write(dir.join(Store::random_id().unwrap().as_str()), "{").unwrap();
        std::fs::create_dir(dir.join(Store::random_id().unwrap().as_str())).unwrap();
        let mut page = Page::of(&s, "net", "n1");
        page.refresh();
        assert_eq!(page.named("web"), Some(ip("10.0.0.1")));
        withdraw(&s, &id, Some("n1")).unwrap();
        withdraw(&s, &id, Some("no such network")).unwrap();
        forget(&s, "n1");
        page.refresh();
        assert_eq!(page.named("web"), None);
    }
}
