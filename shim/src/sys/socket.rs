//! What a Unix socket carries besides bytes: who sent them, and descriptors
//! that nobody wants.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc::{self, SOL_SOCKET};
use nix::sys::socket::sockopt::{PassCred, SetBool};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt};
use nix::{cmsg_space, setsockopt_impl};

/// Whether descriptors can be sent to a socket. Source: unix(7).
#[derive(Clone)]
struct PassRights;
const SO_PASSRIGHTS: libc::c_int = 83;
setsockopt_impl!(PassRights, SOL_SOCKET, SO_PASSRIGHTS, bool, SetBool);

/// Has the kernel say who sends something, and refuse descriptors where it
/// can (from Linux 6.16 on). Connections that are older than this do not take
/// it over.
pub fn guard(socket: impl AsFd) -> nix::Result<()> {
    let _ = setsockopt(&socket, PassRights, &false);
    setsockopt(&socket, PassCred, &true)
}

/// Takes what has arrived on a socket that is guarded, without waiting.
/// Answers how many bytes, 0 at the end of the stream, and the user id of who
/// sent them; none if descriptors came along. There is room for the sender's
/// credentials alone, which the kernel puts first: it closes whatever else
/// there is. Source: recvmsg(2), unix(7).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> nix::Result<(usize, Option<u32>)> {
    let mut control = cmsg_space!(UnixCredentials);
    let (mut parts, flags) = ([IoSliceMut::new(buffer)], MsgFlags::MSG_DONTWAIT);
    let socket = socket.as_fd().as_raw_fd();
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut control), flags)?;
    let sender = match message.flags.contains(MsgFlags::MSG_CTRUNC) {
        true => None,
        false => message.cmsgs()?.next(),
    };
    Ok(match sender {
        Some(ControlMessageOwned::ScmCredentials(sender)) => (message.bytes, Some(sender.uid())),
        #[allow(clippy::wildcard_enum_match_arm)]
        _ => (message.bytes, None),
    })
}
