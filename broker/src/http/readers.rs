//! The readers of long responses: how many each user may have, and how many
//! bytes are in flight: made, and not yet taken by the client's connection.
//!
//! Each reader has one piece in flight at a time. A user's pieces together take
//! at most half of what other users leave of the bound for all, so that readers
//! that do not read never take the room of others. A user without any has room
//! for one piece in any case.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::caller::Caller;

/// About how many bytes a piece has: a response is sent in pieces of this size.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// The readers of all long responses.
#[derive(Debug)]
pub struct Readers {
    /// The most readers of one user.
    of_user: u32,
    /// The most bytes in flight.
    bytes: u64,
    users: Mutex<HashMap<User, Share>>,
    freed: Notify,
}

/// A user; where authentication is off, each address is one.
type User = (String, Option<IpAddr>);

/// What a user has of it.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    readers: u32,
    bytes: u64,
}

impl Readers {
    /// At most `of_user` readers of each user, and `bytes` in flight.
    pub fn new(of_user: u32, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            of_user,
            bytes,
            users: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Another reader of the caller's; `None` where there are as many as there
    /// may be.
    pub(super) fn add(self: &Arc<Self>, caller: &Caller) -> Option<Reader> {
        let source = caller.anonymous.then_some(caller.source).flatten();
        let user = (caller.name.clone(), source);
        let mut users = self.users();
        let share = users.entry(user.clone()).or_default();
        if share.readers >= self.of_user {
            return None;
        }
        share.readers += 1;
        drop(users);
        Some(Reader(Arc::new(Seat {
            readers: self.clone(),
            user,
            one: Arc::new(Semaphore::new(1)),
        })))
    }

    fn users(&self) -> MutexGuard<'_, HashMap<User, Share>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take room for a piece, if there is some now.
    fn take(&self, user: &User) -> bool {
        const PIECE: u64 = PIECE_BYTES as u64;
        let mut users = self.users();
        let all: u64 = users.values().map(|share| share.bytes).sum();
        let Some(share) = users.get_mut(user) else {
            return false;
        };
        let left = self.bytes.saturating_sub(all - share.bytes);
        let granted = share.bytes == 0 || share.bytes + PIECE <= left / 2;
        if granted {
            share.bytes += PIECE;
        }
        granted
    }

    /// Change what `user` has.
    fn change(&self, user: &User, change: impl FnOnce(&mut Share)) {
        let mut users = self.users();
        if let Some(share) = users.get_mut(user) {
            change(share);
            if share.readers == 0 && share.bytes == 0 {
                users.remove(user);
            }
        }
    }
}

/// A reader of one response. Cheap to clone; dropped with its last piece, it
/// no longer counts.
#[derive(Debug, Clone)]
pub(super) struct Reader(Arc<Seat>);

#[derive(Debug)]
struct Seat {
    readers: Arc<Readers>,
    user: User,
    /// Held by the piece in flight.
    one: Arc<Semaphore>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.readers.change(&self.user, |share| share.readers -= 1);
    }
}

impl Reader {
    /// Room for the next piece: waits until the client has taken the one
    /// before, and there is room in flight.
    pub(super) async fn room(&self) -> Room {
        let Seat { readers, user, one } = &*self.0;
        // It is never closed: there is always a permit in the end.
        let one = one.clone().acquire_owned().await.ok();
        loop {
            let mut freed = std::pin::pin!(readers.freed.notified());
            freed.as_mut().enable();
            if readers.take(user) {
                return Room {
                    reader: self.clone(),
                    bytes: PIECE_BYTES as u64,
                    _one: one,
                };
            }
            freed.await;
        }
    }
}

/// Room for one piece.
#[derive(Debug)]
pub(super) struct Room {
    reader: Reader,
    bytes: u64,
    _one: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// `bytes` as a piece: it has this room until it has been written.
    pub(super) fn fill(mut self, bytes: Vec<u8>) -> Bytes {
        let count = bytes.capacity() as u64;
        let Seat { readers, user, .. } = &*self.reader.0;
        readers.change(user, |share| {
            share.bytes = (share.bytes - self.bytes).saturating_add(count);
        });
        self.bytes = count;
        readers.freed.notify_waiters();
        Bytes::from_owner(Piece { bytes, _room: self })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Seat { readers, user, .. } = &*self.reader.0;
        readers.change(user, |share| share.bytes -= self.bytes);
        readers.freed.notify_waiters();
    }
}

/// A piece, and its room.
struct Piece {
    bytes: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
