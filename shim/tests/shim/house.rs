//! A monitor with a spool of its own, and what a broker would do with it.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use warrant_wire::output::{ENTRY_BYTES, Entry};
use warrant_wire::record::{Record, Ticket};
use warrant_wire::{
    Cause, Decoder, JobSignal, Launch, Limits, Outcome, Placement, Report, Request, RunFile, RunId,
    encode_request,
};

/// More than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_warrant-shim");

/// Closing it ends the monitor and fails if a process of a job outlives it.
pub(crate) struct House {
    pub(crate) dir: PathBuf,
    monitor: Child,
    socket: Option<UnixStream>,
    decoder: Decoder,
}

impl House {
    pub(crate) fn open() -> Self {
        Self::open_with("exec \"$0\" monitor --spool \"$1\"")
    }

    /// `command` is for sh; `$0` is the program and `$1` the spool.
    pub(crate) fn open_with(command: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "warrant-shim-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(dir.join("spool"))
            .unwrap();
        let (monitor, socket) = spawn(command, &dir);
        Self {
            dir,
            monitor,
            socket: Some(socket),
            decoder: Decoder::new(),
        }
    }

    /// Kills the monitor, as a crash would, and starts another one.
    pub(crate) fn replace_monitor(&mut self) {
        self.monitor.kill().unwrap();
        self.monitor.wait().unwrap();
        let (monitor, socket) = spawn("exec \"$0\" monitor --spool \"$1\"", &self.dir);
        self.monitor = monitor;
        self.socket = Some(socket);
        self.decoder = Decoder::new();
    }

    pub(crate) fn monitor_pid(&self) -> u32 {
        self.monitor.id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn spool(&self, run: RunId, file: RunFile) -> PathBuf {
        self.dir.join("spool").join(run.spool_path(file))
    }

    /// A launch with this house's mark in its environment.
    pub(crate) fn launch<S: AsRef<str>>(&self, argv: impl IntoIterator<Item = S>) -> Launch {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Launch {
            limits: Limits {
                processes: 1,
                time_limit_s: 0,
                grace_ms: 10_000,
                output_cap_bytes: 1 << 30,
                memory_bytes: 0,
            },
            argv: argv.into_iter().map(|item| bytes(item.as_ref())).collect(),
            env: vec![
                (bytes("PATH"), bytes("/usr/local/bin:/usr/bin:/bin")),
                (bytes("HOUSE"), bytes(self.dir.to_str().unwrap())),
            ],
            workdir: Some(bytes(self.dir.to_str().unwrap())),
            stdout: None,
            stderr: None,
            default_workdir: None,
        }
    }

    pub(crate) fn script(&self, text: &str) -> Launch {
        self.launch(["sh", "-c", text])
    }

    pub(crate) fn send(&mut self, request: &Request) {
        self.send_bytes(&encode_request(request));
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn send_start(&mut self, run: RunId, launch: &Launch) {
        self.send_start_on(run, launch, &[]);
    }

    pub(crate) fn send_start_on(&mut self, run: RunId, launch: &Launch, cores: &[u16]) {
        self.send(&Request::Launch {
            run,
            placement: Placement {
                cores: cores.to_vec(),
                gpus: Vec::new(),
            },
            launch: launch.encode().unwrap(),
        });
    }

    pub(crate) fn send_signal(&mut self, run: RunId, signal: JobSignal) {
        self.send(&Request::Signal { run, signal });
    }

    pub(crate) fn send_watch(&mut self, run: RunId) {
        self.send(&Request::Watch {
            run,
            same_boot: true,
        });
    }

    /// The next report, whatever it is.
    pub(crate) fn report(&mut self) -> Report {
        let mut buffer = [0; 4096];
        loop {
            if let Some(report) = self.decoder.next_report().unwrap() {
                return report;
            }
            // The end of another test's monitor may interrupt a read.
            let count = match self.socket.as_mut().unwrap().read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result.expect("no report came in time"),
            };
            assert!(count > 0, "the monitor has closed the connection");
            self.decoder.push(&buffer[..count]);
        }
    }

    /// Waits for the end of the connection.
    pub(crate) fn is_at_end(&mut self) -> bool {
        let mut socket = self.socket.take().unwrap();
        matches!(socket.read(&mut [0]), Ok(0))
    }

    /// Starts a run and waits until the monitor says so.
    pub(crate) fn start(&mut self, run: RunId, launch: &Launch) {
        self.send_start(run, launch);
        self.started(run);
    }

    pub(crate) fn started(&mut self, run: RunId) {
        match self.report() {
            Report::Started { run: which, .. } if which == run => {}
            other => panic!("{run} should have started: {other:?}"),
        }
    }

    pub(crate) fn ended(&mut self, run: RunId) -> Outcome {
        match self.report() {
            Report::Ended {
                run: which,
                outcome,
            } if which == run => outcome,
            other => panic!("{run} should have ended: {other:?}"),
        }
    }

    /// Runs a launch to its end.
    pub(crate) fn run(&mut self, launch: &Launch) -> (RunId, Outcome) {
        let run = new_run();
        self.start(run, launch);
        (run, self.ended(run))
    }

    /// Runs a launch to its end and answers its exit code and output.
    pub(crate) fn exit_code_and_output(&mut self, launch: &Launch) -> (i32, String) {
        let (run, outcome) = self.run(launch);
        assert_eq!(outcome.wait_status & 0x7f, 0, "{outcome:?}");
        (outcome.wait_status >> 8, self.output(run))
    }

    pub(crate) fn output(&self, run: RunId) -> String {
        let bytes = fs::read(self.spool(run, RunFile::Output)).unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn index(&self, run: RunId) -> Vec<Entry> {
        fs::read(self.spool(run, RunFile::Index))
            .unwrap()
            .chunks(ENTRY_BYTES)
            .map(|entry| Entry::decode(entry).unwrap())
            .collect()
    }

    pub(crate) fn record(&self, run: RunId) -> Record {
        Record::decode(&fs::read(self.spool(run, RunFile::Record)).unwrap()).unwrap()
    }

    pub(crate) fn ticket(&self, run: RunId) -> Ticket {
        match self.record(run) {
            Record::Started(ticket) | Record::Ended { ticket, .. } => ticket,
            other => panic!("no ticket: {other:?}"),
        }
    }

    /// The process ids of this house's jobs, by the mark in their environment.
    pub(crate) fn job_processes(&self) -> Vec<u32> {
        let mark = format!("HOUSE={}", self.dir.display());
        processes()
            .filter(|pid| {
                fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                    environment
                        .split(|byte| *byte == 0)
                        .any(|entry| entry == mark.as_bytes())
                })
            })
            .collect()
    }

    /// Closes the broker's end and waits for the monitor to end by itself.
    pub(crate) fn close_socket(&mut self) -> i32 {
        self.socket = None;
        self.wait_for_monitor()
    }

    /// The exit code of the monitor, which ends by itself.
    pub(crate) fn wait_for_monitor(&mut self) -> i32 {
        self.monitor.wait().unwrap().code().unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        self.socket = None;
        if panicking {
            let _ = self.monitor.kill();
        }
        let _ = self.monitor.wait();
        let left = self.job_processes();
        for pid in &left {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
        assert!(
            panicking || left.is_empty(),
            "processes of jobs are left: {left:?}"
        );
    }
}

fn spawn(command: &str, dir: &Path) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let monitor = Command::new("/bin/sh")
        .args(["-c", command, PROGRAM])
        .arg(dir.join("spool"))
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    (monitor, ours)
}

/// A run that no other test of this process has.
pub(crate) fn new_run() -> RunId {
    static NEXT: AtomicU64 = AtomicU64::new(998);
    RunId {
        job: NEXT.fetch_add(1, Ordering::Relaxed),
        task: 0,
        attempt: 1,
    }
}

pub(crate) fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let over = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < over, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn kill(signal: &str, pid: impl std::fmt::Display) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[track_caller]
pub(crate) fn assert_exited(outcome: &Outcome, code: i32) {
    assert_eq!(outcome.wait_status, code << 8, "{outcome:?}");
    assert_eq!(outcome.cause, Cause::Exited, "{outcome:?}");
}
