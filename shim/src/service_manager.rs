//! The service manager that started this process (systemd): what it passes in
//! the environment, and what it is told. Source: sd_listen_fds(3), sd_notify(3),
//! sd_watchdog_enabled(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::unistd::dup2_stdin;

use crate::self_check::about;
use crate::sys;

/// The first descriptor that is passed. Source: sd_listen_fds(3).
const FIRST_PASSED: i32 = 3;

/// What the environment says of the service manager, as arguments of this
/// program: it starts itself anew with an empty environment.
///
/// The socket that it passes, if any, becomes standard input.
///
/// Errors: there is no descriptor where one should be.
pub fn taken_from_environment() -> io::Result<Vec<String>> {
    let value = |name| env::var(name).ok();
    let own_pid = std::process::id().to_string();
    if value("LISTEN_PID").as_ref() == Some(&own_pid) && value("LISTEN_FDS").as_deref() == Some("1")
    {
        let passed = sys::fd::passed(FIRST_PASSED).map_err(about("descriptor 3"))?;
        dup2_stdin(&passed)?;
    }
    let Some(socket) = value("NOTIFY_SOCKET") else {
        return Ok(Vec::new());
    };
    let mut words = vec!["--notify".to_owned(), socket];
    let is_ours = value("WATCHDOG_PID").is_none_or(|pid| pid == own_pid);
    if let Some(limit) = value("WATCHDOG_USEC").filter(|_| is_ours) {
        words.extend(["--watchdog-us".to_owned(), limit]);
    }
    Ok(words)
}

/// A service manager that waits for news of this process.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    /// How often it is told that the main loop still turns.
    every: Option<Duration>,
    last: Option<Instant>,
}

impl ServiceManager {
    /// The one that listens on `socket` (`@` begins an abstract name) and, if
    /// `limit_us` is given, ends this process when it hears nothing for so
    /// many microseconds.
    ///
    /// Errors: nothing listens there; the limit is no number.
    pub fn connect(socket: &str, limit_us: Option<&str>) -> io::Result<Self> {
        let about = about("the service manager");
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(OsStr::from_bytes(socket.as_bytes())),
        };
        let (address, socket) = (address.map_err(&about)?, UnixDatagram::unbound()?);
        socket.connect_addr(&address).map_err(&about)?;
        socket.set_nonblocking(true)?;
        let limit = limit_us.map(str::parse).transpose();
        let limit = limit.map_err(|_| about(io::ErrorKind::InvalidInput.into()))?;
        Ok(Self {
            socket,
            every: limit.map(|limit| Duration::from_micros(limit) / 3),
            last: None,
        })
    }

    /// Says that requests are served from now on.
    ///
    /// Errors: it takes no messages.
    pub fn ready(&self) -> io::Result<()> {
        self.socket.send(b"READY=1").map(drop)
    }

    /// Says, as often as needed, that the caller's loop has come round. What
    /// cannot be sent now is sent after the next turn.
    pub fn is_alive(&mut self) {
        let is_sent = |it: &Self| it.socket.send(b"WATCHDOG=1").is_ok();
        if self.due_in() == Some(Duration::ZERO) && is_sent(self) {
            self.last = Some(Instant::now());
        }
    }

    /// How long the loop may wait before it must come round; `None` if for ever.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        let every = self.every?;
        let passed = self.last.map_or(every, |last| last.elapsed());
        Some(every.saturating_sub(passed))
    }
}
