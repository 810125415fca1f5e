//! Published ports of a running container change: the kernel's rules, the sockets that hold them, the record. The
//! monitor alone does it, and in the order that leaves nothing behind if it is killed: what is recorded as published is
//! taken back by whoever meets the container next.

use super::Monitor;
use crate::error::{Context as _, Error, Result};
use crate::model::port::Publish;
use crate::network::{publish, rules};
use crate::sys;
use std::os::fd::{AsFd as _, OwnedFd};

impl Monitor {
    /// All of it or nothing. Gives what a person should know.
    pub(super) fn change_ports(&mut self, add: &[Publish], remove: &[Publish], netns: &OwnedFd) -> Result<Vec<String>> {
        self.read_again();
        let mut wanted = self.config.clone();
        publish::change(&mut wanted, add, remove)?;
        let (id, before) = (self.config.id.clone(), self.live.ports.clone());
        let gone = publish::covered(remove, &before);
        rules::remove_container(&self.store, id.as_str(), &self.live.endpoints, &gone)?;
        self.streams.unpublished(&gone);
        self.live.ports.retain(|p| !gone.contains(p));
        let done = self.publish_more(add, netns).and_then(|warnings| {
            let changed = self
                .store
                .change_config(&id, |config| publish::change(config, add, remove));
            self.config = changed.context("record the published ports")?;
            Ok(warnings)
        });
        let done = done.and_then(|warnings| self.enter(self.live.phase.clone()).map(|()| warnings));
        match done {
            Ok(warnings) => {
                self.store.remember_ports(&id, &self.live.ports);
                Ok(warnings)
            }
            Err(e) => Err(self
                .as_before(before, netns)
                .err()
                .map_or(e.clone(), |second| e.and(&second))),
        }
    }

    fn publish_more(&mut self, add: &[Publish], netns: &OwnedFd) -> Result<Vec<String>> {
        let reserved = publish::reserve_more(&self.store, &self.config, &self.live.endpoints, add)?;
        if let (true, Some(why)) = (reserved.ports.is_empty(), reserved.warnings.first()) {
            return Err(Error::conflict(why.clone()));
        }
        let (new, mut warnings) = (reserved.ports.clone(), reserved.warnings.clone());
        self.live.ports.extend(new.iter().cloned());
        // Before there is any rule: whoever meets the container after us takes back what is recorded.
        self.enter(self.live.phase.clone())?;
        sys::stop_point("more-ports-recorded");
        let endpoints = self.live.endpoints.clone();
        warnings.extend(rules::add_container(
            &self.store,
            self.config.id.as_str(),
            &endpoints,
            &new,
        )?);
        sys::stop_point("more-ports-published");
        if let Some(proxy) = reserved.into_proxy(&endpoints, Some(netns.as_fd()))? {
            self.streams.serve_too(Box::new(proxy));
        }
        Ok(warnings)
    }

    /// What was published before is again, as far as nobody else has taken it.
    fn as_before(&mut self, before: Vec<crate::model::port::PublishedPort>, netns: &OwnedFd) -> Result<()> {
        let id = self.config.id.as_str().to_owned();
        let more: Vec<_> = self
            .live
            .ports
            .iter()
            .filter(|p| !before.contains(p))
            .cloned()
            .collect();
        let removed = rules::remove_container(&self.store, &id, &self.live.endpoints, &more);
        self.streams.unpublished(&more);
        self.live.ports.retain(|p| before.contains(p));
        let lost: Vec<_> = before
            .iter()
            .filter(|p| !self.live.ports.contains(p))
            .map(exactly)
            .collect();
        let again = self.publish_more(&lost, netns).map(drop);
        removed.and(again).and(self.enter(self.live.phase.clone()))
    }
}

/// This address and port and no other.
fn exactly(port: &crate::model::port::PublishedPort) -> Publish {
    Publish {
        host_ip: Some(port.host_ip),
        host: crate::model::port::HostPort::Range {
            first: port.host_port,
            last: port.host_port,
        },
        container: port.container_port,
        protocol: port.protocol,
    }
}
