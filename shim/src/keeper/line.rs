//! Between a monitor and a keeper that it made ahead of any run: the keeper
//! says that it is ready, is given a run, and later the word to begin.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use warrant_wire::{Cursor, Decoder, Placement, Request, RunId, encode_request};

use crate::identity::Identity;

const READY: u8 = b'r';
const RUN: u8 = b'n';
const BEGIN: u8 = b'b';

/// One end. The sheet, on which the run is written, is the same for both: so
/// the monitor never waits for a keeper to read.
pub struct Line {
    socket: OwnedFd,
    sheet: File,
}

/// What a monitor hears from a keeper that has no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is ready.
    Ready,
    /// Nothing yet.
    Nothing,
    /// It is gone.
    Gone,
}

/// A run as it is given to a keeper.
pub struct Order {
    /// Which.
    pub run: RunId,
    /// Where on the machine.
    pub placement: Placement,
    /// What to run, encoded.
    pub launch: Vec<u8>,
    /// Whom it is for; `None` for the monitor's own user.
    pub identity: Option<Identity>,
}

impl Line {
    /// Both ends: the monitor's and the keeper's.
    ///
    /// Errors: there are no descriptors for it.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (family, kind) = (AddressFamily::Unix, SockType::SeqPacket);
        let (ours, theirs) = socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC)?;
        let sheet = File::from(memfd_create(c"run", MFdFlags::MFD_CLOEXEC)?);
        let end = |socket, sheet| Self { socket, sheet };
        Ok((end(ours, sheet.try_clone()?), end(theirs, sheet)))
    }

    /// The numbers of the descriptors.
    pub(super) fn raw_fds(&self) -> [RawFd; 2] {
        [self.socket.as_raw_fd(), self.sheet.as_raw_fd()]
    }

    /// What the keeper has said so far.
    pub fn heard(&self) -> Heard {
        match self.hear(MsgFlags::MSG_DONTWAIT) {
            Ok(Some(READY)) => Heard::Ready,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            Ok(_) | Err(_) => Heard::Gone,
        }
    }

    /// Gives the keeper a run.
    ///
    /// Errors: it is gone; memory is short.
    pub fn give(&self, order: Order) -> io::Result<()> {
        self.sheet.write_all_at(&order.write(), 0)?;
        self.say(RUN)
    }

    /// Lets the keeper begin the run that it was given. One that is gone has
    /// left its record.
    pub fn begin(&self) {
        let _ = self.say(BEGIN);
    }

    /// Says that this keeper is ready, and waits for its run; `None` if the
    /// monitor is gone.
    ///
    /// Errors: the sheet cannot be read.
    pub(super) fn take(&self) -> io::Result<Option<Order>> {
        // Nobody hears it? Then there is nothing to take either.
        let _ = self.say(READY);
        if self.hear(MsgFlags::empty())? != Some(RUN) {
            return Ok(None);
        }
        let length = usize::try_from(self.sheet.metadata()?.len()).map_err(io::Error::other)?;
        let mut sheet = vec![0; length];
        self.sheet.read_exact_at(&mut sheet, 0)?;
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        Order::read(&sheet).ok_or_else(malformed).map(Some)
    }

    /// Waits for the word to begin. Without it, the monitor has failed.
    pub(super) fn may_begin(&self) -> bool {
        matches!(self.hear(MsgFlags::empty()), Ok(Some(BEGIN)))
    }

    fn say(&self, word: u8) -> io::Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.socket.as_raw_fd(), &[word], flags)?;
        Ok(())
    }

    /// `None` once the other end is closed.
    fn hear(&self, flags: MsgFlags) -> io::Result<Option<u8>> {
        let mut word = [0];
        let mut hear = || recv(self.socket.as_raw_fd(), &mut word, flags);
        let count = match hear() {
            // It went without having heard all of ours, which is told once.
            // What it said before that is still there.
            Err(Errno::ECONNRESET) => hear(),
            heard => heard,
        }?;
        Ok(word.first().copied().filter(|_| count > 0))
    }
}

impl Order {
    fn read(sheet: &[u8]) -> Option<Self> {
        let mut from = Cursor::new(sheet);
        let identity = match from.flag().ok()? {
            true => Some(Identity {
                uid: from.u32().ok()?,
                name: String::from_utf8(from.counted().ok()?.to_vec()).ok()?,
            }),
            false => None,
        };
        let mut decoder = Decoder::new();
        decoder.push(from.rest());
        let Ok(Some(Request::Launch {
            run,
            placement,
            launch,
        })) = decoder.next_request()
        else {
            return None;
        };
        Some(Self {
            run,
            placement,
            launch,
            identity,
        })
    }

    fn write(self) -> Vec<u8> {
        let mut sheet = vec![u8::from(self.identity.is_some())];
        if let Some(Identity { name, uid }) = self.identity {
            // A name was checked, and is far shorter.
            let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            sheet.extend([uid, length].map(u32::to_le_bytes).as_flattened());
            sheet.extend(name.as_bytes());
        }
        let request = encode_request(&Request::Launch {
            run: self.run,
            placement: self.placement,
            launch: self.launch,
        });
        sheet.extend(request);
        sheet
    }
}
