//! The wire to the shim's monitor: the only place that starts a process.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use warrant_wire::{Bond, Decoder, Refusal, Report, Request, RunId, encode_request};

use super::report::sighting;
use super::{OurStore, Settings, Shim};
use crate::engine::Sighting;
use crate::error::{Error, Kind, Result};
use crate::vital;

/// Requests that wait for the monitor to read them.
const WAITING: usize = 1024;

/// The longest that the monitor may take for an admission.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the monitor is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the monitor is asked whether its loop turns, and how long it may
/// take to answer: as long as for an admission.
const PING_EVERY: Duration = Duration::from_secs(5);
const SILENCE: Duration = PATIENCE;
/// What a ping holds: no run has this number.
const NO_RUN: RunId = RunId {
    job: 0,
    task: 0,
    attempt: 0,
};

/// A handle to the monitor. A monitor that dies is started again; one that
/// is not ours is connected to again.
#[derive(Debug)]
pub(super) struct Monitor {
    requests: mpsc::Sender<Request>,
    admissions: Admissions,
    contact: Contact,
    spool: watch::Receiver<Option<Spool>>,
}

/// What the shim says of its spool, and of its journal where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spool {
    /// What it is to our store. Nothing is asked of the shim unless it is
    /// [`Bond::Ours`].
    pub bond: Bond,
    /// Ids of jobs up to this one were used there.
    pub highest_job: u64,
}

/// Who waits for the answer to which admission.
type Admissions = Arc<Mutex<HashMap<RunId, oneshot::Sender<Option<Refusal>>>>>;

fn lock(
    admissions: &Admissions,
) -> MutexGuard<'_, HashMap<RunId, oneshot::Sender<Option<Refusal>>>> {
    admissions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of the monitor. Cheap to clone.
#[derive(Debug, Clone, Default)]
struct Contact(Arc<Mutex<Found>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Found {
    /// There is no connection.
    #[default]
    Away,
    /// There is a connection, and no answer.
    Silent,
    /// It answers.
    Answering,
}

impl Contact {
    fn set(&self, found: Found) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// Errors: it is away, or does not answer.
    fn check(&self) -> Result<()> {
        let text = match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Found::Answering => return Ok(()),
            Found::Away => "The shim cannot be reached.",
            Found::Silent => "The shim does not answer.",
        };
        Err(Error::new(Kind::Unavailable, text))
    }

    /// Why a request was not answered in time.
    fn unanswered(&self) -> Error {
        let silent = || Error::new(Kind::Unavailable, "The shim does not answer in time.");
        self.check().err().unwrap_or_else(silent)
    }
}

impl Monitor {
    /// Start the monitor, or connect to it, and the tasks that talk to it.
    ///
    /// Errors: it cannot be started. One that cannot be connected to is
    /// tried again and again.
    pub(super) fn start(
        settings: &Settings,
        store: OurStore,
        sightings: mpsc::UnboundedSender<Sighting>,
    ) -> Result<Self> {
        let (told, spool) = watch::channel(None);
        let (requests, waiting) = mpsc::channel(WAITING);
        let first = match &settings.shim {
            Shim::Own(program) => Some(spawn(program, &settings.spool)?),
            Shim::Root(_) => None,
        };
        let admissions = Admissions::default();
        let keeper = Keeper {
            shim: settings.shim.clone(),
            spool: settings.spool.clone(),
            store,
            told,
            sightings,
            admissions: admissions.clone(),
            requests: requests.downgrade(),
            contact: Contact::default(),
            heard: Notify::new(),
        };
        let contact = keeper.contact.clone();
        vital::spawn("monitor", keeper.keep(first, waiting));
        Ok(Self {
            requests,
            admissions,
            contact,
            spool,
        })
    }

    /// What the shim says of its spool.
    pub(super) fn spool(&self) -> watch::Receiver<Option<Spool>> {
        self.spool.clone()
    }

    /// See that the monitor answers, as far as is known.
    ///
    /// Errors: there is no connection, or no answer; says which.
    pub(super) fn check(&self) -> Result<()> {
        self.contact.check()
    }

    /// Hand a request to the monitor.
    ///
    /// Errors: the monitor is gone for good.
    pub(super) async fn send(&self, request: Request) -> Result<()> {
        let gone = |_| Error::new(Kind::Unavailable, "The local engine is stopping.");
        self.requests.send(request).await.map_err(gone)
    }

    /// Have a warrant admitted. Returns once it is.
    ///
    /// Errors: [`Kind::Denied`] with the reason; [`Kind::Unavailable`] where
    /// the monitor is away or cannot do it now. Nothing is admitted then.
    pub(super) async fn admit(&self, run: RunId, warrant: Vec<u8>, launch: Vec<u8>) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        lock(&self.admissions).insert(run, answer);
        let request = Request::Admit {
            run,
            warrant,
            launch,
        };
        let exchange = async {
            self.send(request).await?;
            answered.await.map_err(|_| self.contact.unanswered())
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        match answer.unwrap_or_else(|_| Err(self.contact.unanswered())) {
            Ok(None) => Ok(()),
            Ok(Some(Refusal::Share)) => Err(Error::new(
                Kind::TooMany,
                format!("The job cannot be taken now: {}.", Refusal::Share.text()),
            )),
            Ok(Some(refusal)) if refusal.is_passing() => Err(Error::new(
                Kind::Unavailable,
                format!("The job cannot be taken now: {}.", refusal.text()),
            )),
            Ok(Some(refusal)) => Err(Error::new(
                Kind::Denied,
                format!("The job was refused: {}.", refusal.text()),
            )),
            Err(error) => {
                // It may have been admitted all the same.
                lock(&self.admissions).remove(&run);
                let _ = self.requests.try_send(Request::Revoke { run });
                Err(error)
            }
        }
    }
}

/// A connection to a monitor.
struct Running {
    /// The monitor, where it is ours.
    child: Option<Child>,
    socket: UnixStream,
}

fn spawn(shim: &Path, spool: &Path) -> Result<Running> {
    start(shim, spool).map_err(|e| {
        Error::caused(
            Kind::Unavailable,
            "The local engine's shim cannot be started.",
            e,
        )
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that starts the shim"
)]
fn start(shim: &Path, spool: &Path) -> std::io::Result<Running> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = std::process::Command::new(shim);
    command.arg("monitor").arg("--spool").arg(spool);
    // The socket is the monitor's standard input: no descriptor to place.
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null());
    command.process_group(0);
    let child = command.spawn()?;
    tracing::debug!(
        shim.pid = child.id(),
        socket = ours.as_raw_fd(),
        "monitor started"
    );
    Ok(Running {
        child: Some(child),
        socket: UnixStream::from_std(ours)?,
    })
}

/// Connect to the root-owned monitor. Whoever else listens there gets nothing.
async fn connect(socket: &Path) -> std::io::Result<Running> {
    let socket = UnixStream::connect(socket).await?;
    if socket.peer_cred()?.uid() != 0 {
        return Err(std::io::Error::other("it does not belong to root"));
    }
    Ok(Running {
        child: None,
        socket,
    })
}

/// Keeps the connection, and the monitor where it is ours.
struct Keeper {
    shim: Shim,
    spool: PathBuf,
    store: OurStore,
    told: watch::Sender<Option<Spool>>,
    sightings: mpsc::UnboundedSender<Sighting>,
    admissions: Admissions,
    requests: mpsc::WeakSender<Request>,
    contact: Contact,
    /// Told of each answer to a ping.
    heard: Notify,
}

impl Keeper {
    async fn keep(self, first: Option<Running>, mut waiting: mpsc::Receiver<Request>) {
        let (mut next, mut reconnects) = (first, false);
        loop {
            let running = match next.take() {
                Some(running) => Ok(running),
                None => self.open().await,
            };
            let served = match running {
                Ok(running) => self.serve(running, &mut waiting, reconnects).await,
                Err(error) => {
                    self.contact.set(Found::Away);
                    Err(error)
                }
            };
            match served {
                Ok(Served::Lost) => {
                    tracing::error!("the connection to the shim's monitor ended; making another");
                }
                Ok(Served::Silent) => {
                    tracing::error!(
                        "the shim's monitor does not answer; making another connection"
                    );
                }
                Ok(Served::Unwanted) => return,
                Err(error) => {
                    tracing::error!(%error, "the shim's monitor cannot be reached; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            reconnects = true;
        }
    }

    /// Talk to a monitor until the connection ends.
    ///
    /// Errors: it does not say what its spool is to our store.
    async fn serve(
        &self,
        running: Running,
        waiting: &mut mpsc::Receiver<Request>,
        reconnects: bool,
    ) -> std::io::Result<Served> {
        let Running { child, mut socket } = running;
        let mut decoder = Decoder::new();
        let introduced = tokio::time::timeout(PATIENCE, self.introduce(&mut socket, &mut decoder));
        let slow = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        let spool = introduced.await.map_err(slow).flatten();
        if let Ok(spool) = &spool {
            self.told.send_replace(Some(*spool));
        }
        let served = match spool {
            // There is nothing to be asked of it, and the process will end.
            Ok(Spool { bond, .. }) if bond != Bond::Ours => Ok(Served::Unwanted),
            Ok(_) if reconnects && self.sightings.send(Sighting::Reconnected).is_err() => {
                Ok(Served::Unwanted)
            }
            Ok(_) => Ok(self.exchange(socket, decoder, waiting).await),
            Err(error) => {
                drop(socket);
                if error.kind() == std::io::ErrorKind::TimedOut {
                    Ok(Served::Silent)
                } else {
                    Err(error)
                }
            }
        };
        let silent = matches!(served, Ok(Served::Silent));
        self.contact
            .set(if silent { Found::Silent } else { Found::Away });
        // Nobody answers these any more.
        lock(&self.admissions).clear();
        // The socket is closed now, which ends a monitor of our own, unless it
        // hangs.
        if let Some(mut child) = child {
            if silent && let Err(error) = child.kill() {
                tracing::error!(%error, "a monitor that hangs cannot be killed");
            }
            let status = tokio::task::spawn_blocking(move || child.wait()).await;
            tracing::debug!(?status, "monitor ended");
        }
        served
    }

    /// Name our store, and hear what the spool is to it.
    async fn introduce(
        &self,
        socket: &mut UnixStream,
        decoder: &mut Decoder,
    ) -> std::io::Result<Spool> {
        let OurStore { id, adopts } = self.store;
        let request = Request::Store {
            store: id,
            adopt: adopts,
        };
        socket.write_all(&encode_request(&request)).await?;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match decoder.next_report().map_err(std::io::Error::other)? {
                Some(Report::Store { bond, highest_job }) => {
                    return Ok(Spool { bond, highest_job });
                }
                // It is for whoever was connected before; we ask anew.
                Some(_) => {}
                None => match socket.read(&mut buffer).await? {
                    0 => {
                        let older = "it ended the connection: is it of an earlier version?";
                        return Err(std::io::Error::other(older));
                    }
                    n => decoder.push(buffer.get(..n).unwrap_or_default()),
                },
            }
        }
    }

    async fn exchange(
        &self,
        socket: UnixStream,
        decoder: Decoder,
        waiting: &mut mpsc::Receiver<Request>,
    ) -> Served {
        // It has answered a moment ago.
        self.contact.set(Found::Answering);
        let (reader, writer) = socket.into_split();
        tokio::select! {
            () = self.read(reader, decoder) => Served::Lost,
            served = write(writer, waiting) => served,
            () = self.ping() => Served::Silent,
        }
    }

    async fn open(&self) -> std::io::Result<Running> {
        match &self.shim {
            Shim::Own(program) => start(program, &self.spool),
            Shim::Root(socket) => connect(socket).await,
        }
    }

    /// Ask again and again whether the monitor's loop turns. Returns once it
    /// has not answered for [`SILENCE`].
    async fn ping(&self) {
        while let Some(requests) = self.requests.upgrade() {
            let answered = async {
                let _ = requests.send(Request::Ping { run: NO_RUN }).await;
                self.heard.notified().await;
            };
            if tokio::time::timeout(SILENCE, answered).await.is_err() {
                return;
            }
            drop(requests);
            tokio::time::sleep(PING_EVERY).await;
        }
        std::future::pending().await
    }

    async fn read(&self, mut reader: OwnedReadHalf, mut decoder: Decoder) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            loop {
                match decoder.next_report() {
                    Ok(Some(report)) => {
                        if !self.pass_on(report) {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "the shim's monitor does not speak our language");
                        return;
                    }
                }
            }
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => decoder.push(buffer.get(..n).unwrap_or_default()),
            }
        }
    }

    /// Bring a report to whom it concerns. Answers whether anybody is left.
    fn pass_on(&self, report: Report) -> bool {
        match report {
            Report::Admitted { run } => {
                self.answer(run, None);
                true
            }
            Report::Refused { run, refusal } => {
                self.answer(run, Some(refusal));
                true
            }
            Report::Pong { .. } => {
                self.contact.set(Found::Answering);
                self.heard.notify_one();
                true
            }
            // It was asked once, and has answered.
            Report::Store { .. } => true,
            Report::Started { .. }
            | Report::Ended { .. }
            | Report::NotStarted { .. }
            | Report::Lost { .. } => {
                sighting(report).is_none_or(|sighting| self.sightings.send(sighting).is_ok())
            }
        }
    }

    fn answer(&self, run: RunId, refusal: Option<Refusal>) {
        let waiter = lock(&self.admissions).remove(&run);
        let told = waiter.is_some_and(|waiter| waiter.send(refusal).is_ok());
        // Whoever asked has given up and told the caller so.
        if !told
            && refusal.is_none()
            && let Some(requests) = self.requests.upgrade()
        {
            let _ = requests.try_send(Request::Revoke { run });
        }
    }
}

/// How talking to a monitor came to its end.
enum Served {
    /// The connection ended.
    Lost,
    /// The monitor did not answer.
    Silent,
    /// This engine is no longer wanted.
    Unwanted,
}

/// Write requests as they come.
async fn write(mut writer: OwnedWriteHalf, waiting: &mut mpsc::Receiver<Request>) -> Served {
    while let Some(request) = waiting.recv().await {
        if writer.write_all(&encode_request(&request)).await.is_err() {
            // What was asked is not lost: a run that was not started is found
            // out when the next monitor is asked about it.
            return Served::Lost;
        }
    }
    Served::Unwanted
}
