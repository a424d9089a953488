//! What a Unix socket carries besides bytes: who sent them, and descriptors
//! that nobody wants.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};

/// Bytes that have arrived.
pub struct Received {
    /// How many; 0 at the end of the stream.
    pub count: usize,
    /// The user id of who sent them, if the kernel says so.
    pub sender: Option<u32>,
    /// Whether something else came along: descriptors, now closed, or more
    /// than there is room for.
    pub is_laden: bool,
}

/// Takes what has arrived, without waiting. There is room for the sender's
/// credentials and for no descriptor; should one come all the same, it is
/// closed. Source: recvmsg(2), unix(7).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> nix::Result<Received> {
    let mut control = cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut control),
        flags,
    )?;
    let cut = message.flags.contains(MsgFlags::MSG_CTRUNC);
    let mut received = Received {
        count: message.bytes,
        sender: None,
        is_laden: cut,
    };
    if cut {
        return Ok(received);
    }
    for part in message.cmsgs()? {
        #[allow(clippy::wildcard_enum_match_arm)]
        match part {
            ControlMessageOwned::ScmCredentials(who) => received.sender = Some(who.uid()),
            ControlMessageOwned::ScmRights(numbers) => {
                received.is_laden = true;
                for number in numbers {
                    // SAFETY: the kernel has just made this descriptor for us.
                    drop(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            _ => received.is_laden = true,
        }
    }
    Ok(received)
}

/// Has the kernel refuse descriptors that are sent to this socket.
///
/// Errors: `ENOPROTOOPT` before Linux 6.16. Source: unix(7), `SO_PASSRIGHTS`.
pub fn refuse_descriptors(socket: impl AsFd) -> io::Result<()> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let no: libc::c_int = 0;
    // SAFETY: `no` is an int that lives through the call, which only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const no).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}
