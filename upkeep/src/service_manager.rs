//! What the service manager that started this process is told (systemd): that
//! it serves, that its loops turn, that it ends. Where there is none, nothing
//! happens. Source: sd_notify(3), sd_watchdog_enabled(3).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long the service manager may take to make room for a message.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the service manager must be told that the service is alive;
/// `None` where it does not watch over that. A third of the silence after
/// which it ends the process.
pub fn alive_every() -> Option<Duration> {
    let pid = env::var("WATCHDOG_PID").ok();
    if pid.is_some_and(|pid| pid != std::process::id().to_string()) {
        return None;
    }
    let limit_us = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(limit_us) / 3)
}

/// Requests are served from now on.
///
/// Errors: the service manager takes no messages.
pub fn tell_ready() -> io::Result<()> {
    tell("READY=1", Some(PATIENCE))
}

/// The loop that calls this has come round. Never waits.
///
/// Errors: the service manager takes no messages now.
pub fn tell_alive() -> io::Result<()> {
    tell("WATCHDOG=1", None)
}

/// The service is about to end.
///
/// Errors: the service manager takes no messages.
pub fn tell_stopping() -> io::Result<()> {
    tell("STOPPING=1", Some(PATIENCE))
}

/// Send a message, and wait for room no longer than `patience`.
fn tell(message: &str, patience: Option<Duration>) -> io::Result<()> {
    let Ok(name) = env::var("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    }?;
    let socket = UnixDatagram::unbound()?;
    match patience {
        Some(_) => socket.set_write_timeout(patience)?,
        None => socket.set_nonblocking(true)?,
    }
    socket
        .send_to_addr(message.as_bytes(), &address)
        .map(|_| ())
}
