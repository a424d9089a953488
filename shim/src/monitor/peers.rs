//! Everybody whom the monitor talks to.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};
use warrant_wire::{Decoder, Report, Request, encode_report};

use super::listener::Listener;
use crate::audit;
use crate::sys::socket::{guard, receive};

/// Most connections; a new one takes the place of the one that was silent
/// for longest.
const MAX_CONNECTIONS: usize = 64;
/// Most connections that are taken in one go.
const MAX_ACCEPTED: usize = 256;
/// Most bytes that wait for all of them together.
const MAX_WAITING_BYTES: usize = 64 << 20;
const READ_BYTES: usize = 16 * 1024;
/// A queue that has grown beyond this is given back once it is empty.
const KEPT_BYTES: usize = 64 * 1024;
/// How long a frame may take to arrive, once it has begun.
const FRAME_TIME: Duration = Duration::from_secs(10);

/// A connection's number, which no other one ever has.
pub(super) type PeerId = u64;

/// The connections, and the socket on which new ones come.
pub(super) struct Peers {
    /// `None` where the one connection was inherited, and all ends with it.
    pub(super) listener: Option<Listener>,
    connections: BTreeMap<PeerId, Connection>,
    last: PeerId,
    buffer: Vec<u8>,
    /// Whether only those are served that have named the right store.
    named_only: bool,
}

/// Requests in, reports out. Reports that the broker is slow to take wait
/// here; there are never more than a few for each run.
struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    outgoing: VecDeque<u8>,
    last_heard: Instant,
    /// By when the frame that has begun must be complete.
    frame_due: Option<Instant>,
    /// Whether it is of the store that is served, once it has named its own.
    served: Option<bool>,
    /// Why it is to be closed, if it is; empty if the broker is gone.
    over: Option<&'static str>,
}

impl Peers {
    pub(super) fn new(listener: Option<Listener>) -> Self {
        Self {
            listener,
            connections: BTreeMap::new(),
            last: 0,
            buffer: vec![0; READ_BYTES],
            named_only: false,
        }
    }

    /// Takes new connections of the one who is let in. Any error in asking
    /// who it is means no.
    pub(super) fn accept(&mut self) {
        for _ in 0..MAX_ACCEPTED {
            let Some(listener) = &self.listener else {
                return;
            };
            let Some(socket) = listener.accept() else {
                return;
            };
            let uid = match getsockopt(&socket, sockopt::PeerCredentials) {
                Ok(peer) if peer.uid() == listener.only && guard(&socket).is_ok() => {
                    self.welcome(socket.into());
                    continue;
                }
                Ok(peer) => peer.uid().to_string(),
                Err(errno) => errno.to_string(),
            };
            audit::line("peer-refused", &[("uid", &uid)]);
        }
    }

    /// Takes a connection.
    pub(super) fn welcome(&mut self, socket: OwnedFd) {
        let idlest = self.connections.iter().min_by_key(|it| it.1.last_heard);
        if self.connections.len() >= MAX_CONNECTIONS
            && let Some(idlest) = idlest.map(|(id, _)| *id)
        {
            self.connections.remove(&idlest);
        }
        self.last = self.last.saturating_add(1);
        let connection = Connection {
            socket,
            decoder: Decoder::new(),
            outgoing: VecDeque::new(),
            last_heard: Instant::now(),
            frame_due: None,
            served: None,
            over: None,
        };
        self.connections.insert(self.last, connection);
    }

    /// What to wait for.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = (PeerId, PollFd<'_>)> {
        self.connections.iter().map(|(id, peer)| {
            let interest = match peer.outgoing.is_empty() {
                true => PollFlags::POLLIN,
                false => PollFlags::POLLIN | PollFlags::POLLOUT,
            };
            (*id, PollFd::new(peer.socket.as_fd(), interest))
        })
    }

    /// Takes what one has sent, without waiting for it.
    pub(super) fn hear(&mut self, id: PeerId) {
        let only = self.listener.as_ref().map(|listener| listener.only);
        let Some(peer) = self.connections.get_mut(&id) else {
            return;
        };
        match receive(&peer.socket, &mut self.buffer) {
            Ok((0, _)) => peer.over = Some(""),
            Ok((_, sender)) if sender.is_none() || (only.is_some() && sender != only) => {
                peer.over = Some("not the broker's bytes alone");
            }
            Ok((count, _)) => {
                peer.last_heard = Instant::now();
                let bytes = self.buffer.get(..count);
                peer.decoder.push(bytes.unwrap_or_default());
            }
            Err(errno) => peer.fail(errno),
        }
    }

    /// The next request of one that has arrived whole.
    pub(super) fn next_request(&mut self, id: PeerId) -> Option<Request> {
        let peer = self.connections.get_mut(&id);
        let peer = peer.filter(|peer| peer.over.is_none())?;
        let next = peer.decoder.next_request();
        if matches!(next, Ok(Some(_))) || peer.decoder.is_at_frame_end() {
            peer.frame_due = None;
        } else if peer.frame_due.is_none() && self.listener.is_some() {
            peer.frame_due = Instant::now().checked_add(FRAME_TIME);
        }
        next.unwrap_or_else(|_| {
            peer.over = Some("malformed frame");
            None
        })
    }

    /// Whether one is served. A broker that does not name its store is of an
    /// earlier version, and is served until another has named one.
    pub(super) fn is_served(&self, id: PeerId) -> bool {
        let peer = self.connections.get(&id);
        peer.is_some_and(|peer| peer.served.unwrap_or(!self.named_only))
    }

    /// Serves those alone from here on that have named the right store.
    pub(super) fn serve_named_only(&mut self) {
        self.named_only = true;
    }

    pub(super) fn set_served(&mut self, id: PeerId, is_served: bool) {
        if let Some(peer) = self.connections.get_mut(&id) {
            peer.served = Some(is_served);
        }
    }

    /// Closes a connection, and says why in the audit.
    pub(super) fn close(&mut self, id: PeerId, why: &'static str) {
        if let Some(peer) = self.connections.get_mut(&id) {
            peer.over = Some(why);
        }
    }

    /// Tells everybody who is served.
    pub(super) fn report(&mut self, report: &Report) {
        let frame = encode_report(report);
        for peer in self.connections.values_mut() {
            if peer.served.unwrap_or(!self.named_only) {
                peer.outgoing.extend(&frame);
            }
        }
    }

    /// Tells one.
    pub(super) fn answer(&mut self, id: PeerId, report: &Report) {
        if let Some(peer) = self.connections.get_mut(&id) {
            peer.outgoing.extend(encode_report(report));
        }
    }

    /// Sends what there is room for, and closes what is gone, stuck or slow.
    /// Answers whether more may come.
    ///
    /// Errors: the one connection that there was has failed.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        let most = MAX_WAITING_BYTES.checked_div(self.connections.len());
        let mut failed = None;
        self.connections.retain(|_, peer| {
            peer.flush();
            if peer.over.is_none() && most.is_some_and(|most| peer.outgoing.len() > most) {
                peer.over = Some("takes no reports");
            } else if peer.over.is_none() && peer.frame_due.is_some_and(|due| due <= now) {
                peer.over = Some("incomplete frame");
            }
            if let Some(why) = peer.over.filter(|why| !why.is_empty()) {
                audit::line("connection-closed", &[("reason", why)]);
                failed = Some(why);
            }
            peer.over.is_none()
        });
        match (failed, &self.listener) {
            (Some(why), None) => Err(io::Error::other(why)),
            _ => Ok(self.listener.is_some() || !self.connections.is_empty()),
        }
    }

    /// How long until a frame must be complete.
    pub(super) fn patience(&self) -> Option<Duration> {
        let due = self.connections.values().filter_map(|peer| peer.frame_due);
        Some(due.min()?.saturating_duration_since(Instant::now()))
    }
}

impl Connection {
    /// Sends what the broker has room for.
    fn flush(&mut self) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match send(self.socket.as_raw_fd(), front, flags) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(errno) => return self.fail(errno),
            }
        }
        if self.outgoing.capacity() > KEPT_BYTES {
            self.outgoing = VecDeque::new();
        }
    }

    fn fail(&mut self, errno: Errno) {
        if matches!(errno, Errno::EPIPE | Errno::ECONNRESET) {
            self.over = Some("");
        } else if !matches!(errno, Errno::EAGAIN | Errno::EINTR) {
            self.over = Some(errno.desc());
        }
    }
}
