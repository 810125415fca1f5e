//! What a monitor serves beside its container's streams: the port proxy, the resolver.

use crate::model::network::Endpoint;
use crate::model::port::PublishedPort;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// A source of events in the monitor's one loop. None may block or take long: the container's log waits meanwhile.
pub(crate) trait Service {
    /// One descriptor, readable while there is something to do: an epoll instance that has all of the service's own.
    fn fd(&self) -> BorrowedFd<'_>;

    /// When it wants to be called though nothing happens.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The descriptor is readable, or the deadline has passed. A bounded amount of work; what is left keeps the
    /// descriptor readable.
    fn ready(&mut self);

    /// The running container was connected to a network, or disconnected.
    fn endpoints_changed(&mut self, _endpoints: &[Endpoint]) {}

    /// These ports of the host are the container's no more: their sockets close.
    fn unpublished(&mut self, _ports: &[PublishedPort]) {}
}
