//! Networks of a running container: a client asks, the monitor connects or disconnects, records it, and answers. The
//! monitor alone writes what is so of its container, and so nobody can come in between.

use super::Monitor;
use crate::error::{Context as _, Error, Result};
use crate::model::network::{Attachment, Endpoint};
use crate::model::port::Publish;
use crate::monitor::names;
use crate::network::{self, Target};
use crate::runtime::spawn;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Connect(Attachment),
    /// The network's id.
    Disconnect(String),
    /// Other published ports: those to take away, and further ones.
    Ports {
        add: Vec<Publish>,
        remove: Vec<Publish>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// With what a person should know.
    Done(Vec<String>),
    /// In the form of `runtime::spawn::encode`.
    Failed(String),
}

impl Monitor {
    /// `init` is the container's first process, if it runs now.
    pub(super) fn change_networks(&mut self, client: RawFd, request: &[u8], init: Option<i32>) {
        let done = serde_json::from_slice(request).map_err(Error::from);
        let done = done.and_then(|request| match (request, init) {
            (_, None) => Err(Error::conflict("the container is about to be started again")),
            (Request::Connect(attachment), Some(init)) => self.connect(&attachment, init),
            (Request::Ports { add, remove }, Some(init)) => {
                netns(init).and_then(|netns| self.change_ports(&add, &remove, &netns))
            }
            (Request::Disconnect(network), Some(init)) => self.disconnect(&network, init).map(|()| Vec::new()),
        });
        let answer = match done {
            Ok(notices) => Answer::Done(notices),
            Err(e) => Answer::Failed(String::from_utf8_lossy(&spawn::encode(&e)).into_owned()),
        };
        if let Ok(bytes) = serde_json::to_vec(&answer) {
            self.streams.answer(client, &bytes);
        }
    }

    fn connect(&mut self, attachment: &Attachment, init: i32) -> Result<Vec<String>> {
        let id = self.config.id.clone();
        let mut attachments = self.store.attachments(&self.config)?;
        let netns = netns(init)?;
        let existing = self.live.endpoints.clone();
        let reserved = network::reserve(&self.store, &id, std::slice::from_ref(attachment), &existing)?;
        let new = reserved.endpoints;
        if let Some(twice) = new
            .iter()
            .find(|n| existing.iter().any(|e| e.network_id == n.network_id))
        {
            let freed = network::free_leases(&self.store, &id, &new);
            let error = Error::conflict(format!(
                "endpoint with name {} already exists in network {}",
                self.config.name, twice.network
            ));
            return Err(freed.err().map_or(error.clone(), |second| error.and(&second)));
        }
        self.live.endpoints.extend(new.iter().cloned());
        let connected = self
            .enter(self.live.phase.clone())
            .and_then(|()| network::extend(&self.store, netns.as_fd(), &new, &existing))
            .and_then(|()| {
                attachments.push(attachment.clone());
                self.store.save_attachments(&id, &attachments)
            });
        if let Err(e) = connected {
            let undone = network::disconnect(&self.store, &id, &new, netns.as_fd());
            self.live.endpoints = existing;
            let recorded = self.enter(self.live.phase.clone());
            return Err(undone.and(recorded).err().map_or(e.clone(), |second| e.and(&second)));
        }
        let republished = self.republish(&existing);
        let told = republished.and_then(|more| self.endpoints_changed(&existing, netns.as_fd()).map(|()| more));
        match told {
            Ok(more) => Ok(reserved.notices.into_iter().chain(more).collect()),
            // A program of the container's may be where its responder should be: then it is on no new network.
            Err(e) => match new.iter().try_for_each(|n| self.disconnect(&n.network_id, init)) {
                Ok(()) => Err(e),
                Err(second) => Err(e.and(&second)),
            },
        }
    }

    fn disconnect(&mut self, network_id: &str, init: i32) -> Result<()> {
        let is_it = |e: &Endpoint| e.network_id == network_id;
        let Some(gone) = self.live.endpoints.iter().find(|e| is_it(e)).cloned() else {
            return Err(Error::conflict(format!(
                "container {} is not connected to that network",
                self.config.name
            )));
        };
        let mut attachments = self.store.attachments(&self.config)?;
        attachments.retain(|a| a.network != gone.network && a.network != gone.network_id);
        self.store.save_attachments(&self.config.id, &attachments)?;
        let netns = netns(init)?;
        let before = self.live.endpoints.clone();
        let one = std::slice::from_ref(&gone);
        network::disconnect(&self.store, &self.config.id, one, netns.as_fd())?;
        self.live.endpoints.retain(|e| !is_it(e));
        self.republish(&before)?;
        let left = self.live.endpoints.clone();
        network::restore_way_out(netns.as_fd(), &left)?;
        self.enter(self.live.phase.clone())?;
        self.endpoints_changed(&before, netns.as_fd())
    }

    /// Published ports lead to the address that the container has now.
    fn republish(&self, before: &[Endpoint]) -> Result<Vec<String>> {
        let (now, ports) = (&self.live.endpoints, &self.live.ports);
        if Target::of(before) == Target::of(now) {
            return Ok(Vec::new());
        }
        let id = self.config.id.as_str();
        network::rules::remove_container(&self.store, id, before, ports)?;
        network::rules::add_container(&self.store, id, now, ports)
    }

    /// Services, books and the container's files learn of it.
    fn endpoints_changed(&mut self, before: &[Endpoint], netns: BorrowedFd<'_>) -> Result<()> {
        let now = &self.live.endpoints;
        self.streams.endpoints_changed(now);
        if names::wanted(now) && !self.responds {
            let responder = names::responder(&self.store, &self.config, now, netns)?;
            self.streams.serve_too(responder);
            self.responds = true;
        }
        names::moved(&self.store, &self.config, before, now, self.live.monitor)?;
        self.tell_moved(before);
        Ok(())
    }
}

fn netns(init: i32) -> Result<std::os::fd::OwnedFd> {
    let path = format!("/proc/{init}/ns/net");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).context("open the container's network namespace")
}
