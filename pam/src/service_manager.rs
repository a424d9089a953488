//! What the service manager that started this process is told (systemd).
//! Source: sd_notify(3), sd_watchdog_enabled(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// A service manager that waits for news of this process.
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    /// How often it is told that the loop still turns.
    every: Option<Duration>,
    last: Option<Instant>,
}

impl ServiceManager {
    /// The one that the environment names, if it names one.
    ///
    /// Errors: nothing listens where it should; the time limit is no number.
    pub(crate) fn of_environment() -> Result<Option<Self>, String> {
        let value = |name| std::env::var(name).ok();
        let Some(name) = value("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let connect = || {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&name),
            }?;
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket =
            connect().map_err(|error: std::io::Error| format!("NOTIFY_SOCKET: {error}"))?;
        let own_pid = std::process::id().to_string();
        let is_ours = value("WATCHDOG_PID").is_none_or(|pid| pid == own_pid);
        let limit = value("WATCHDOG_USEC").filter(|_| is_ours);
        let limit = limit.map(|limit| limit.parse()).transpose();
        let limit = limit.map_err(|_| "WATCHDOG_USEC: must be a number")?;
        Ok(Some(Self {
            socket,
            every: limit.map(|limit| Duration::from_micros(limit) / 3),
            last: None,
        }))
    }

    /// Says that questions are answered from now on.
    ///
    /// Errors: it takes no messages.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let sent = self.socket.send(b"READY=1");
        sent.map(drop)
            .map_err(|error| format!("NOTIFY_SOCKET: {error}"))
    }

    /// Says, as often as needed, that the caller's loop has come round. What
    /// cannot be sent now is sent after the next turn.
    pub(crate) fn is_alive(&mut self) {
        let Some(every) = self.every else { return };
        let is_due = self.last.is_none_or(|last| last.elapsed() >= every);
        if is_due && self.socket.send(b"WATCHDOG=1").is_ok() {
            self.last = Some(Instant::now());
        }
    }
}
