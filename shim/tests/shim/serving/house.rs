//! A monitor that is root, in a machine of its own: private mount and process
//! namespaces with throw-away accounts. The machine's own files stay as they
//! are.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use ring::signature::{Ed25519KeyPair, KeyPair};
use warrant_wire::record::Record;
use warrant_wire::warrant::header;
use warrant_wire::{
    Claims, Decoder, JobSignal, Launch, Limits, Outcome, Placement, Refusal, Report, Request,
    RunFile, RunId, encode_request,
};

use crate::house::{DEADLINE, PROGRAM, until};

pub(crate) const BROKER: u32 = 64_001;
pub(crate) const ALICE: u32 = 64_011;
pub(crate) const BOB: u32 = 64_012;

/// Says to a test that it runs inside.
const INSIDE: &str = "WARRANT_TEST_INSIDE";
const DIR: &str = "/run/shim-test";

/// Runs a test in namespaces of its own. Where that cannot be, because this
/// is not root, it fails if `WARRANT_REQUIRE_ROOT` is 1 and else says so.
pub(crate) fn in_private(test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        furnish();
        return test();
    }
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("WARRANT_REQUIRE_ROOT").is_none_or(|value| value != "1"),
            "this test needs root"
        );
        return println!("left out: it needs root");
    }
    let thread = std::thread::current();
    let status = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        // A shell as the first process takes orphans that have ended.
        .args(["sh", "-c", "\"$@\"; exit $?", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", thread.name().unwrap()])
        .args(["--nocapture", "--include-ignored", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// Makes the private machine: a file system in memory, and accounts.
fn furnish() {
    run(
        "mount",
        &["-t", "tmpfs", "-o", "mode=0755,size=256m", "tmpfs", "/run"],
    );
    let dir = Path::new(DIR);
    for name in ["etc", "keys", "alice", "bob"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    for (name, more) in [
        (
            "passwd",
            "warrant:x:64001:64001::/nonexistent:/usr/sbin/nologin\nwarrant-keeper:x:65500:65500::/nonexistent:/usr/sbin/nologin\nreader:x:65501:64001::/:/bin/sh\nwheely:x:65502:0::/:/bin/sh\nalice:x:64011:64011::/run/shim-test/alice:/bin/sh\nbob:x:64012:64012::/run/shim-test/bob:/bin/sh\n",
        ),
        (
            "group",
            "warrant:x:64001:\nwarrant-keeper:x:65500:\nalice:x:64011:\nbob:x:64012:\n",
        ),
        (
            "shadow",
            "warrant:!:1::::::\nwarrant-keeper:!:1::::::\nalice:!:1::::::\nbob:!:1::::::\n",
        ),
    ] {
        let real = format!("/etc/{name}");
        let copy = dir.join("etc").join(name);
        let mut text = fs::read_to_string(&real).unwrap();
        text.push_str(more);
        fs::write(&copy, text).unwrap();
        run("mount", &["--bind", copy.to_str().unwrap(), &real]);
    }
    for (name, uid) in [("alice", ALICE), ("bob", BOB)] {
        std::os::unix::fs::chown(dir.join(name), Some(uid), Some(uid)).unwrap();
        chmod(&dir.join(name), 0o700);
    }
    fs::copy(PROGRAM, dir.join("warrant-shim")).unwrap();
    chmod(&dir.join("warrant-shim"), 0o755);
    let house = House::unopened("");
    house.write_key("k1", &key(1));
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A signing key, always the same for the same number.
pub(crate) fn key(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap()
}

/// A warrant in compact form.
pub(crate) fn sign(key: &Ed25519KeyPair, kid: &str, claims: &Claims) -> Vec<u8> {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header(kid)),
        URL_SAFE_NO_PAD.encode(claims.encode().unwrap())
    );
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}").into_bytes()
}

/// Does something as another user, whom the kernel then shows to the peer.
pub(crate) fn as_user<T>(uid: u32, what: impl FnOnce() -> T) -> T {
    let root = |id| (Gid::from_raw(id), Uid::from_raw(id));
    let ((gid, uid), (root_gid, root_uid)) = (root(uid), root(0));
    setgroups(&[]).unwrap();
    setresgid(gid, gid, root_gid).unwrap();
    setresuid(uid, uid, root_uid).unwrap();
    let result = what();
    setresuid(root_uid, root_uid, root_uid).unwrap();
    setresgid(root_gid, root_gid, root_gid).unwrap();
    result
}

pub(crate) fn now_s() -> u64 {
    warrant_shim::clock::now_us() / 1_000_000
}

/// Claims for alice, from now on.
pub(crate) fn claims(launch: &[u8]) -> Claims {
    let mut jti = [0; 16];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut jti)
        .unwrap();
    let now = now_s();
    Claims {
        iss: "warrant".into(),
        aud: "local".into(),
        sub: "alice".into(),
        uid: ALICE,
        job_sha256: warrant_shim::warrant::sha256(launch),
        jti,
        iat: now,
        nbf: now,
        exp: now + 60,
    }
}

/// A monitor in the private machine.
pub(crate) struct House {
    pub(crate) dir: PathBuf,
    monitor: Option<Child>,
}

impl House {
    /// One that serves, with these lines in its policy besides the usual.
    pub(crate) fn open(policy: &str) -> Self {
        let mut house = Self::unopened(policy);
        house.start_monitor();
        house
    }

    pub(crate) fn unopened(policy: &str) -> Self {
        let house = Self {
            dir: DIR.into(),
            monitor: None,
        };
        let usual = format!(
            "keys = \"{DIR}/keys\"\nsocket = \"{DIR}/shim/shim.sock\"\nspool = \"{DIR}/spool\"
            state = \"{DIR}/state\"\nmax_uid = 65000\npam = \"off\"\ncgroup = \"off\"\n{policy}\n"
        );
        fs::write(house.path("shim.toml"), usual).unwrap();
        house
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn write_key(&self, kid: &str, key: &Ed25519KeyPair) {
        let line = format!("{kid} {}\n", URL_SAFE_NO_PAD.encode(key.public_key()));
        fs::write(self.path("keys").join(format!("{kid}.pub")), line).unwrap();
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.path("warrant-shim"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("audit.log"));
        command
            .arg("serve")
            .arg("--policy")
            .arg(self.path("shim.toml"))
            .env_clear()
            .stdin(Stdio::null())
            .stderr(log.unwrap());
        command
    }

    /// What becomes of a monitor that should not start.
    pub(crate) fn refusal(&self) -> (ExitStatus, String) {
        let before = self.audit().len();
        let status = self.end_of(&mut self.command());
        (status, self.audit().split_off(before))
    }

    /// How a monitor ends that should not start. One that serves is a failure,
    /// not something to wait for.
    #[track_caller]
    pub(crate) fn end_of(&self, command: &mut Command) -> ExitStatus {
        let served = self.count_audit("event=serving");
        let mut monitor = command.spawn().unwrap();
        let mut status = None;
        until("the monitor does not start", || {
            assert_eq!(self.count_audit("event=serving"), served, "it started");
            status = monitor.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Fails unless a monitor refuses to start and names this in one line.
    #[track_caller]
    pub(crate) fn assert_refuses(&self, what: &str) {
        let (status, text) = self.refusal();
        assert_eq!(status.code(), Some(78), "{what}: {text}");
        assert!(text.contains(what), "{what} is not in {text:?}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    pub(crate) fn start_monitor(&mut self) {
        let served = self.count_audit("event=serving");
        self.monitor = Some(self.command().spawn().unwrap());
        until("the monitor serves", || {
            let ended = self.monitor.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.audit());
            self.count_audit("event=serving") > served
        });
    }

    /// Takes a monitor that was started otherwise, once it lets the broker in.
    pub(crate) fn adopt(&mut self, monitor: Child) {
        self.monitor = Some(monitor);
        until("the monitor lets the broker in", || {
            let ended = self.monitor.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.audit());
            as_user(BROKER, || UnixStream::connect(self.socket())).is_ok()
        });
    }

    /// Kills the monitor, as a crash would.
    pub(crate) fn kill_monitor(&mut self) {
        let mut monitor = self.monitor.take().unwrap();
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    }

    pub(crate) fn replace_monitor(&mut self) {
        self.kill_monitor();
        self.start_monitor();
    }

    pub(crate) fn signal_monitor(&self, signal: &str) {
        crate::house::kill(signal, self.monitor_pid());
    }

    pub(crate) fn wait_for_monitor(&mut self) -> ExitStatus {
        self.monitor.take().unwrap().wait().unwrap()
    }

    pub(crate) fn monitor_pid(&self) -> u32 {
        self.monitor.as_ref().unwrap().id()
    }

    pub(crate) fn audit(&self) -> String {
        fs::read_to_string(self.path("audit.log")).unwrap_or_default()
    }

    /// How many lines of the audit hold this.
    pub(crate) fn count_audit(&self, what: &str) -> usize {
        self.audit()
            .lines()
            .filter(|line| line.contains(what))
            .count()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("shim/shim.sock")
    }

    /// A connection of the broker.
    pub(crate) fn connect(&self) -> Peer {
        Peer::new(as_user(BROKER, || UnixStream::connect(self.socket())).unwrap())
    }

    pub(crate) fn record(&self, run: RunId) -> Option<Record> {
        let path = self.path("spool").join(run.spool_path(RunFile::Record));
        fs::read(path)
            .ok()
            .map(|record| Record::decode(&record).unwrap())
    }

    pub(crate) fn runs(&self) -> usize {
        fs::read_to_string(self.path("alice/runs")).map_or(0, |text| text.lines().count())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.audit());
        }
        if let Some(mut monitor) = self.monitor.take() {
            let _ = monitor.kill();
            let _ = monitor.wait();
        }
    }
}

/// An encoded launch in alice's directory.
pub(crate) fn launch(argv: &[&str]) -> Vec<u8> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let launch = Launch {
        limits: Limits {
            processes: 1,
            time_limit_s: 0,
            grace_ms: 1000,
            output_cap_bytes: 1 << 20,
            memory_bytes: 0,
        },
        argv: argv.iter().map(|word| bytes(word)).collect(),
        env: vec![(bytes("PATH"), bytes("/usr/local/bin:/usr/bin:/bin"))],
        workdir: Some(bytes("/run/shim-test/alice")),
        stdout: None,
        stderr: None,
        default_workdir: None,
    };
    launch.encode().unwrap()
}

/// What the jobs of these tests do: leave one line, once.
pub(crate) fn leaves_a_line() -> Vec<u8> {
    launch(&["sh", "-c", "echo ran >> runs"])
}

pub(crate) fn run_of(job: u64, attempt: u32) -> RunId {
    let task = 0;
    RunId { job, task, attempt }
}

/// The broker's end of a connection.
pub(crate) struct Peer {
    pub(crate) socket: UnixStream,
    decoder: Decoder,
}

impl Peer {
    pub(crate) fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            socket,
            decoder: Decoder::new(),
        }
    }

    pub(crate) fn send(&mut self, request: &Request) {
        self.send_bytes(&encode_request(request)).unwrap();
    }

    /// Sends as the broker.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        as_user(BROKER, || self.socket.write_all(bytes))
    }

    /// The next report; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Report> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(report) = self.decoder.next_report().unwrap() {
                return Some(report);
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no report came in time: {error}"),
            }
        }
    }

    pub(crate) fn report(&mut self) -> Report {
        self.next().expect("the monitor has closed the connection")
    }

    pub(crate) fn send_admit(&mut self, run: RunId, warrant: &[u8], launch: &[u8]) {
        self.send(&Request::Admit {
            run,
            warrant: warrant.to_vec(),
            launch: launch.to_vec(),
        });
    }

    /// Has a good warrant admitted.
    pub(crate) fn admit(&mut self, run: RunId, launch: &[u8]) -> Vec<u8> {
        let warrant = sign(&key(1), "k1", &claims(launch));
        self.send_admit(run, &warrant, launch);
        assert_eq!(self.report(), Report::Admitted { run });
        warrant
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, run: RunId, refusal: Refusal) {
        assert_eq!(self.report(), Report::Refused { run, refusal });
    }

    #[track_caller]
    pub(crate) fn not_started(&mut self, run: RunId, refusal: Option<Refusal>) {
        let errno = 0;
        let expected = Report::NotStarted {
            run,
            errno,
            refusal,
        };
        assert_eq!(self.report(), expected);
    }

    pub(crate) fn send_start(&mut self, run: RunId) {
        let placement = Placement::default();
        self.send(&Request::Start { run, placement });
    }

    pub(crate) fn send_watch(&mut self, run: RunId) {
        let same_boot = true;
        self.send(&Request::Watch { run, same_boot });
    }

    pub(crate) fn send_signal(&mut self, run: RunId, signal: JobSignal) {
        self.send(&Request::Signal { run, signal });
    }

    #[track_caller]
    pub(crate) fn started(&mut self, run: RunId) {
        match self.report() {
            Report::Started { run: which, .. } if which == run => {}
            other => panic!("{run} should have started: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn ended(&mut self, run: RunId) -> Outcome {
        match self.report() {
            Report::Ended {
                run: which,
                outcome,
            } if which == run => outcome,
            other => panic!("{run} should have ended: {other:?}"),
        }
    }

    /// Whether the monitor closes the connection without another word.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.next().is_none()
    }
}
