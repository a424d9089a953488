//! Everybody whom the monitor talks to.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use warrant_wire::{Report, Request};

use super::connection::{Connection, Silence};
use super::listener::Listener;
use crate::audit;

/// Most connections; a new one takes the place of the one that was silent
/// for longest.
const MAX_CONNECTIONS: usize = 64;
/// Most connections that are taken in one go.
const MAX_ACCEPTED: usize = 256;
/// Most bytes that wait for all of them together.
const MAX_WAITING_BYTES: usize = 64 << 20;
const READ_BYTES: usize = 64 * 1024;

/// A connection's number, which no other one ever has.
pub(super) type PeerId = u64;

/// The connections, and the socket on which new ones come.
pub(super) struct Peers {
    /// `None` where the one connection was inherited, and all ends with it.
    listener: Option<Listener>,
    connections: BTreeMap<PeerId, Connection>,
    last: PeerId,
    buffer: Vec<u8>,
}

impl Peers {
    /// The one broker at the other end of `socket`.
    pub(super) fn one(socket: OwnedFd) -> io::Result<Self> {
        let mut peers = Self::listening(None);
        peers.connections.insert(0, Connection::on(socket, None)?);
        Ok(peers)
    }

    /// Whoever may connect.
    pub(super) fn on(listener: Listener) -> Self {
        Self::listening(Some(listener))
    }

    fn listening(listener: Option<Listener>) -> Self {
        Self {
            listener,
            connections: BTreeMap::new(),
            last: 0,
            buffer: vec![0; READ_BYTES],
        }
    }

    pub(super) fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = (PeerId, &Connection)> {
        self.connections.iter().map(|(id, peer)| (*id, peer))
    }

    /// Takes new connections.
    pub(super) fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        let only = Some(listener.only());
        for _ in 0..MAX_ACCEPTED {
            let Some(socket) = listener.accept() else {
                return;
            };
            let Ok(connection) = Connection::on(socket, only) else {
                continue;
            };
            while self.connections.len() >= MAX_CONNECTIONS {
                let idlest = self
                    .connections
                    .iter()
                    .min_by_key(|(_, peer)| peer.last_heard());
                let Some(idlest) = idlest.map(|(id, _)| *id) else {
                    break;
                };
                self.connections.remove(&idlest);
            }
            self.last = self.last.saturating_add(1);
            self.connections.insert(self.last, connection);
        }
    }

    /// Takes what one has sent. Answers whether there may be requests.
    ///
    /// Errors: the one connection that there was has failed.
    pub(super) fn hear(&mut self, id: PeerId) -> io::Result<bool> {
        let Some(peer) = self.connections.get_mut(&id) else {
            return Ok(false);
        };
        let (why, error) = match peer.hear(&mut self.buffer) {
            Ok(()) => return Ok(true),
            Err(Silence::End) => {
                self.connections.remove(&id);
                return Ok(false);
            }
            Err(Silence::Foul) => ("not the broker's bytes alone", None),
            Err(Silence::Failed(error)) => ("it failed", Some(error)),
        };
        self.close(id, why, error)?;
        Ok(false)
    }

    /// The next request of one that has arrived whole.
    ///
    /// Errors: the one connection that there was has sent something else.
    pub(super) fn next_request(&mut self, id: PeerId) -> io::Result<Option<Request>> {
        let Some(peer) = self.connections.get_mut(&id) else {
            return Ok(None);
        };
        match peer.next_request() {
            Ok(request) => Ok(request),
            Err(error) => {
                self.close(id, "malformed frame", Some(error))?;
                Ok(None)
            }
        }
    }

    /// Tells everybody.
    pub(super) fn report(&mut self, report: &Report) {
        for peer in self.connections.values_mut() {
            peer.report(report);
        }
    }

    /// Tells one.
    pub(super) fn answer(&mut self, id: PeerId, report: &Report) {
        if let Some(peer) = self.connections.get_mut(&id) {
            peer.report(report);
        }
    }

    /// Sends what there is room for, and closes what is gone, stuck or slow.
    /// Answers whether more may come.
    ///
    /// Errors: the one connection that there was has failed.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        let most = MAX_WAITING_BYTES
            .checked_div(self.connections.len())
            .unwrap_or(MAX_WAITING_BYTES);
        let mut over = Vec::new();
        for (id, peer) in &mut self.connections {
            match peer.flush() {
                Ok(true) if self.listener.is_none() => {}
                Ok(true) if peer.waiting_bytes() > most => {
                    over.push((*id, "takes no reports", None))
                }
                Ok(true) if peer.frame_due().is_some_and(|due| due <= now) => {
                    over.push((*id, "incomplete frame", None));
                }
                Ok(true) => {}
                Ok(false) => over.push((*id, "", None)),
                Err(error) => over.push((*id, "it failed", Some(error))),
            }
        }
        for (id, why, error) in over {
            self.close(id, why, error)?;
        }
        Ok(self.listener.is_some() || !self.connections.is_empty())
    }

    /// How long until a frame must be complete.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.listener.as_ref()?;
        let due = self
            .connections
            .values()
            .filter_map(Connection::frame_due)
            .min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn close(&mut self, id: PeerId, why: &str, error: Option<io::Error>) -> io::Result<()> {
        self.connections.remove(&id);
        match error {
            Some(error) if self.listener.is_none() => return Err(error),
            Some(_) | None => {}
        }
        if !why.is_empty() {
            audit::line("connection-closed", &[("reason", why)]);
        }
        Ok(())
    }
}
