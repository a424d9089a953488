//! A connection to the shim, as the broker has one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use warrant_wire::{Decoder, Placement, Report, Request, RunId, encode_request};

/// The longest to wait for a report.
const PATIENCE: Duration = Duration::from_secs(30);
const ROOM: usize = 64 * 1024;

/// A connection to the shim.
pub(crate) struct Shim {
    socket: UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Shim {
    /// Connect.
    ///
    /// Errors: nobody listens there.
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let socket = UnixStream::connect(socket).context("--socket")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            decoder: Decoder::new(),
            buffer: vec![0; ROOM],
        })
    }

    /// Send a request.
    ///
    /// Errors: the connection breaks, or is not read from in time.
    pub(crate) fn send(&mut self, request: &Request) -> anyhow::Result<()> {
        Ok(self.socket.write_all(&encode_request(request))?)
    }

    /// Ask for a run that was admitted to be started.
    ///
    /// Errors: as [`Shim::send`].
    pub(crate) fn start(&mut self, run: RunId) -> anyhow::Result<()> {
        self.send(&Request::Start {
            run,
            placement: Placement::default(),
        })
    }

    /// The next report.
    ///
    /// Errors: the connection breaks, or there is none in time.
    pub(crate) fn report(&mut self) -> anyhow::Result<Report> {
        loop {
            if let Some(report) = self.decoder.next_report()? {
                return Ok(report);
            }
            match self.socket.read(&mut self.buffer).context("no report")? {
                0 => bail!("the shim has closed the connection"),
                count => self
                    .decoder
                    .push(self.buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}
