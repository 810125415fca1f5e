//! `network connect` and `disconnect`: of a running container its monitor does it, of another one the record changes.

use crate::container::connection::Connection;
use crate::container::status::status;
use crate::error::{Error, Result};
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::id::ContainerId;
use crate::model::network::{Attachment, Network};
use crate::model::state::Status;
use crate::monitor::frame::{self, Hello, Kind};
use crate::monitor::networks::{Answer, Request};
use crate::network;
use crate::runtime::spawn;
use crate::store::Store;

/// Connects a container to one more network, now and whenever it starts.
pub(crate) fn connect(store: &Store, id: &ContainerId, attachment: &Attachment) -> Result<()> {
    let config = store.config(id)?;
    own_networks(&config)?;
    network::check(store, std::slice::from_ref(attachment))?;
    if let Status::Running(_) = status(store, id) {
        return ask(store, id, &Request::Connect(attachment.clone()));
    }
    let _held = store.lock_container(id)?;
    let mut attachments = store.attachments(&config)?;
    if attachments.iter().any(|a| a.network == attachment.network) {
        return Err(Error::conflict(format!(
            "endpoint with name {} already exists in network {}",
            config.name, attachment.network
        )));
    }
    attachments.push(attachment.clone());
    store.save_attachments(id, &attachments)
}

/// Takes a container off a network.
pub(crate) fn disconnect(store: &Store, id: &ContainerId, network: &Network) -> Result<()> {
    let config = store.config(id)?;
    own_networks(&config)?;
    let stranger = || {
        Error::conflict(format!(
            "container {} is not connected to network {}",
            config.name, network.name
        ))
    };
    if let Status::Running(live) = status(store, id) {
        return match live.endpoints.iter().any(|e| e.network_id == network.id) {
            true => ask(store, id, &Request::Disconnect(network.id.clone())),
            false => Err(stranger()),
        };
    }
    let _held = store.lock_container(id)?;
    let mut attachments = store.attachments(&config)?;
    let before = attachments.len();
    attachments.retain(|a| a.network != network.name && a.network != network.id);
    if attachments.len() == before {
        return Err(stranger());
    }
    store.save_attachments(id, &attachments)
}

/// The containers that would be on the network when they start, or are on it now.
pub(crate) fn members(store: &Store, network: &Network) -> Result<Vec<ContainerConfig>> {
    let mut members = Vec::new();
    for id in store.container_ids()? {
        if let Ok(config) = store.config(&id)
            && let Ok(attachments) = store.attachments(&config)
            && attachments
                .iter()
                .any(|a| a.network == network.name || a.network == network.id)
        {
            // One whose monitor was killed, and that was to go with its end, goes now.
            let _ = status(store, &id);
            if store.container_dir(&id).exists() {
                members.push(config);
            }
        }
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

fn own_networks(config: &ContainerConfig) -> Result<()> {
    match config.network {
        NetworkMode::Networks(_) => Ok(()),
        NetworkMode::None => Err(Error::conflict(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        )),
        _ => Err(Error::conflict(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        )),
    }
}

pub(super) fn ask(store: &Store, id: &ContainerId, request: &Request) -> Result<()> {
    let ended = || Error::conflict(format!("container {} has just ended", id.short()));
    let mut connection = Connection::open(store, id, Hello(0))?.ok_or_else(ended)?;
    connection.send(&frame::frame(Kind::Network, &serde_json::to_vec(request)?))?;
    match serde_json::from_slice(&connection.answer()?)? {
        Answer::Done(notices) => {
            for notice in notices {
                store.notify(&format!("WARNING: {notice}"));
            }
            Ok(())
        }
        Answer::Failed(error) => Err(spawn::decode(error.as_bytes())),
    }
}
