//! A spool, accounts, and what a monitor that is root would do with them.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, dup2_stderr};
use warrant_shim::cgroup::Cgroups;
use warrant_shim::identity::Identity;
use warrant_shim::keeper::{self, Order, Station};
use warrant_shim::line::Line;
use warrant_shim::policy::{self, Policy};
use warrant_shim::spool::Spool;
use warrant_shim::{hardening, sys};
use warrant_wire::record::Record;
use warrant_wire::{Cause, Launch, Limits, Outcome, Placement, Refusal, RunFile, RunId, Stamp};

/// More than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// Set in the inner process: the directory that the outer one made for it.
const INSIDE: &str = "WARRANT_TEST_INSIDE";

/// Set in the inner process: a word of the test's own.
pub(crate) const VARIANT: &str = "WARRANT_TEST_VARIANT";
/// Set in a job that is this program: which of them.
pub(crate) const PROBE: &str = "WARRANT_TEST_PROBE";
/// In the environment of the monitor: nobody else is to see it.
pub(crate) const CANARY: &str = "canary-9f86d081";

/// Keepers, once their ranks have been made.
pub(crate) const KEEPER: u32 = 65_500;
pub(crate) const ALICE: u32 = 64_011;
pub(crate) const BOB: u32 = 64_012;

/// name, uid, gid, shell, shadow entry behind the name.
const ACCOUNTS: [(&str, u32, u32, &str, &str); 14] = [
    ("alice", ALICE, ALICE, "/bin/sh", "!:19000:0:99999:7:::"),
    ("bob", BOB, BOB, "/bin/bash", "$y$hash:19000:0:99999:7:::"),
    ("toor", 0, 0, "/bin/sh", "*:19000::::::"),
    ("wheely", 64_013, 0, "/bin/sh", "*:19000::::::"),
    ("alias", ALICE, ALICE, "/bin/sh", "*:19000::::::"),
    (
        "expired",
        64_014,
        64_014,
        "/bin/sh",
        "*:19000:0:99999:7::19001:",
    ),
    ("oldpass", 64_015, 64_015, "/bin/sh", "x:10000:0:90:7:::"),
    ("mustchange", 64_016, 64_016, "/bin/sh", "x:0:0:99999:7:::"),
    (
        "nologin",
        64_017,
        64_017,
        "/usr/sbin/nologin",
        "*:19000::::::",
    ),
    ("false", 64_018, 64_018, "/bin/false", "*:19000::::::"),
    ("oddshell", 64_019, 64_019, "/opt/shell", "*:19000::::::"),
    ("many", 64_020, 64_020, "", "*:19000::::::"),
    ("disky", 64_021, 64_021, "/bin/sh", "*:19000::::::"),
    ("lonely", 64_022, 64_999, "/bin/sh", "*:19000::::::"),
];

/// Whether a test has a controlling terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    Yes,
    No,
}

/// Runs a test in a house of its own, as root.
pub(crate) fn as_root(test: impl FnOnce(&mut House)) {
    as_root_on(Terminal::No, "", test);
}

/// The same, on a terminal or not, with a word for the test itself.
pub(crate) fn as_root_on(terminal: Terminal, variant: &str, test: impl FnOnce(&mut House)) {
    if let Some(dir) = std::env::var_os(INSIDE) {
        let mut house = House::open(dir.into());
        return test(&mut house);
    }
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("WARRANT_REQUIRE_ROOT").is_none(),
            "this test needs root"
        );
        return eprintln!("not tested: this test needs root");
    }
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!(
        "warranttest.{}.{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let dir = std::env::temp_dir().join(&name);
    fs::DirBuilder::new().mode(0o755).create(&dir).unwrap();
    let groups = own_groups(&name);
    for group in &groups {
        fs::create_dir(group).unwrap();
    }
    let thread = std::thread::current();
    let exe = std::env::current_exe().unwrap();
    let words = [
        "setpriv --pdeathsig KILL unshare --mount --ipc --pid --fork --kill-child --mount-proc",
        exe.to_str().unwrap(),
        "--exact --nocapture",
        thread.name().unwrap(),
    ]
    .join(" ");
    let mut command = match terminal {
        Terminal::Yes => {
            let mut command = Command::new("script");
            command.args(["-qec", &words, "/dev/null"]);
            command
        }
        Terminal::No => {
            let mut words = words.split(' ');
            let mut command = Command::new(words.next().unwrap());
            command.args(words);
            command
        }
    };
    let output = command
        .env(INSIDE, &dir)
        .env(VARIANT, variant)
        .env("WARRANT_TEST_SECRET", CANARY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let audit = fs::read_to_string(dir.join("audit")).unwrap_or_default();
    let _ = fs::remove_dir_all(&dir);
    let left: Vec<_> = groups.iter().filter(|group| !remove_group(group)).collect();
    let text = String::from_utf8_lossy(&output.stderr);
    eprint!("{text}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{text}\n--- audit\n{audit}"
    );
    assert!(left.is_empty(), "control groups are left: {left:?}");
}

/// Directories of this name below our own control groups.
fn own_groups(name: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next()? == controller).then(|| fields.next())?
        })
    };
    let candidates = [
        ("/sys/fs/cgroup/unified", own("")),
        ("/sys/fs/cgroup", own("")),
        ("/sys/fs/cgroup/memory", own("memory")),
        ("/sys/fs/cgroup/pids", own("pids")),
        ("/sys/fs/cgroup/freezer", own("freezer")),
    ];
    candidates
        .iter()
        .filter_map(|(mount, own)| {
            let dir = format!("{mount}{}", own.as_ref()?.trim_end_matches('/'));
            let is_group = Path::new(&dir).join("cgroup.procs").exists();
            is_group.then(|| Path::new(&dir).join(name))
        })
        .collect()
}

/// Removes a group and the empty directory of jobs in it, and nothing more.
fn remove_group(group: &Path) -> bool {
    let _ = fs::remove_dir(group.join("warrant-jobs"));
    let over = Instant::now() + DEADLINE;
    while fs::remove_dir(group).is_err() {
        if Instant::now() > over {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

pub(crate) struct House {
    pub(crate) dir: PathBuf,
    pub(crate) policy: Policy,
    pub(crate) open_files: (u64, u64),
    pub(crate) cgroups: Option<Cgroups>,
    spool: Spool,
    null: OwnedFd,
}

/// A run and its keeper.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) keeper: Pid,
}

impl House {
    fn open(dir: PathBuf) -> Self {
        make_accounts(&dir);
        for (name, mode) in [("spool", 0o750), ("home", 0o755)] {
            fs::DirBuilder::new()
                .mode(mode)
                .create(dir.join(name))
                .unwrap();
        }
        for (name, uid, gid, _, _) in ACCOUNTS {
            let home = dir.join("home").join(name);
            fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
            chown(&home, Some(uid), Some(gid)).unwrap();
        }
        let policy = Policy {
            max_uid: 65_000,
            pam: false,
            cgroup: policy::Cgroup::Off,
            ..Policy::default()
        };
        Self {
            spool: Spool::open(&dir.join("spool")).unwrap(),
            null: File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .unwrap()
                .into(),
            dir,
            policy,
            open_files: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
                .unwrap(),
            cgroups: None,
        }
    }

    /// Enters the control groups that were made for this test.
    pub(crate) fn use_cgroups(&mut self) {
        self.policy.cgroup = policy::Cgroup::Auto;
        let name = self.dir.file_name().unwrap().to_str().unwrap();
        for group in own_groups(name) {
            fs::write(group.join("cgroup.procs"), "0").unwrap();
        }
        self.cgroups = Cgroups::find(&self.policy).unwrap();
    }

    pub(crate) fn use_pam(&mut self, service: &str) {
        self.policy.pam = true;
        fs::write("/etc/pam.d/warrant", service).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dir.join("home").join(name)
    }

    pub(crate) fn launch<S: AsRef<str>>(&self, argv: impl IntoIterator<Item = S>) -> Launch {
        Launch {
            limits: Limits {
                processes: 1,
                time_limit_s: 0,
                grace_ms: 10_000,
                output_cap_bytes: 1 << 30,
                memory_bytes: 0,
            },
            argv: argv.into_iter().map(|item| item.as_ref().into()).collect(),
            env: Vec::new(),
            workdir: None,
            stdout: None,
            stderr: None,
            default_workdir: None,
        }
    }

    pub(crate) fn script(&self, text: &str) -> Launch {
        self.launch(["sh", "-c", text])
    }

    /// Starts a run as the monitor would.
    pub(crate) fn start_as(&self, name: &str, uid: u32, launch: &Launch) -> Run {
        self.start_bytes(name, uid, &launch.encode().unwrap(), || ())
    }

    pub(crate) fn start_bytes(
        &self,
        name: &str,
        uid: u32,
        launch: &[u8],
        first: impl FnOnce(),
    ) -> Run {
        let identity = Identity {
            name: name.into(),
            uid,
        };
        self.keep(Some(identity), launch, true, first)
    }

    /// Has a keeper keep a run; without the word to begin, the monitor is gone
    /// then.
    pub(crate) fn keep(
        &self,
        identity: Option<Identity>,
        launch: &[u8],
        may_begin: bool,
        first: impl FnOnce(),
    ) -> Run {
        let id = new_run();
        let audit = File::options()
            .create(true)
            .append(true)
            .open(self.path("audit"))
            .unwrap();
        let (ours, theirs) = Line::pair().unwrap();
        let sheet = File::from(memfd_create(c"run", MFdFlags::MFD_CLOEXEC).unwrap());
        let order = Order {
            run: id,
            placement: Placement::default(),
            launch: launch.to_vec(),
            stamp: Stamp {
                uid: identity.as_ref().map_or(0, |identity| identity.uid),
                job_sha256: warrant_shim::warrant::sha256(launch),
            },
            identity,
        };
        order.give(&ours, &sheet).unwrap();
        if may_begin {
            ours.say(0).unwrap();
        }
        drop(ours);
        let keeper = sys::process::fork(|| {
            first();
            dup2_stderr(&audit).unwrap();
            SigSet::all().thread_block().unwrap();
            sys::signal::reset_actions();
            hardening::monitor(&self.policy).unwrap();
            let station = Station {
                policy: Some(&self.policy),
                user: Some((KEEPER.into(), KEEPER.into())),
                cgroups: self.cgroups.as_ref(),
                spool: &self.spool,
                null: &self.null,
                open_files: self.open_files,
                line: &theirs,
                sheet: &sheet,
            };
            keeper::keep(&station, false)
        })
        .unwrap();
        Run { id, keeper }
    }

    pub(crate) fn start(&self, launch: &Launch) -> Run {
        self.start_as("alice", ALICE, launch)
    }

    /// Waits for the end of a keeper and answers its exit code.
    pub(crate) fn exit_code(&self, run: Run) -> i32 {
        let status = sys::process::wait_for(run.keeper).unwrap();
        assert_eq!(status & 0x7f, 0, "the keeper was killed");
        // As the monitor does.
        if let Some(cgroups) = &self.cgroups {
            cgroups.end(run.id).unwrap();
        }
        status >> 8
    }

    pub(crate) fn ended(&self, run: Run) -> Outcome {
        assert_eq!(self.exit_code(run), 0, "{:?}", self.record(run));
        match self.record(run) {
            Record::Ended {
                outcome,
                output_failed: false,
                ..
            } => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Runs a launch as alice to its end.
    pub(crate) fn run(&self, launch: &Launch) -> (Outcome, String) {
        let run = self.start(launch);
        (self.ended(run), self.output(run))
    }

    /// Runs a script as alice, which must succeed, and answers its output.
    pub(crate) fn output_of(&self, script: &str) -> String {
        let (outcome, output) = self.run(&self.script(script));
        assert_exited(&outcome, 0, &output);
        output
    }

    /// Why a run as this account is refused. Nothing must have run.
    #[track_caller]
    pub(crate) fn refused(&self, name: &str, uid: u32) -> Refusal {
        let mark = self.path("ran");
        File::create(&mark).unwrap();
        fs::set_permissions(&mark, fs::Permissions::from_mode(0o666)).unwrap();
        let launch = self.script(&format!("echo ran >> {}", mark.display()));
        let run = self.start_as(name, uid, &launch);
        let code = self.exit_code(run);
        assert_eq!(fs::read_to_string(&mark).unwrap(), "", "{name} {uid}");
        assert!(!self.spool_file(run, RunFile::Output).exists());
        match self.record(run) {
            Record::Refused(refusal) => {
                assert_eq!(code, keeper::REFUSED);
                refusal
            }
            other => panic!("{name} {uid}: {other:?}, exit {code}"),
        }
    }

    pub(crate) fn spool_file(&self, run: Run, file: RunFile) -> PathBuf {
        self.path("spool").join(run.id.spool_path(file))
    }

    pub(crate) fn record(&self, run: Run) -> Record {
        Record::decode(&fs::read(self.spool_file(run, RunFile::Record)).unwrap_or_default())
            .unwrap()
    }

    pub(crate) fn output(&self, run: Run) -> String {
        let bytes = fs::read(self.spool_file(run, RunFile::Output)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn audit(&self) -> String {
        fs::read_to_string(self.path("audit")).unwrap_or_default()
    }
}

/// Copies of the account files, with more accounts, over the machine's own.
fn make_accounts(dir: &Path) {
    let etc = dir.join("etc");
    fs::create_dir_all(etc.join("pam.d")).unwrap();
    let mut files = [("passwd", 0o644), ("group", 0o644), ("shadow", 0o640)].map(|(name, mode)| {
        let mut file = File::create(etc.join(name)).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode))
            .unwrap();
        file.write_all(&fs::read(Path::new("/etc").join(name)).unwrap())
            .unwrap();
        file
    });
    let [passwd, group, shadow] = &mut files;
    for (name, uid, gid, shell, secret) in ACCOUNTS {
        let home = dir.join("home").join(name);
        writeln!(passwd, "{name}:x:{uid}:{gid}::{}:{shell}", home.display()).unwrap();
        writeln!(shadow, "{name}:{secret}").unwrap();
        if uid == gid && name != "alias" {
            writeln!(group, "{name}:x:{gid}:").unwrap();
        }
    }
    writeln!(group, "crew:x:64500:alice,bob").unwrap();
    for number in 0..300 {
        writeln!(group, "g{number}:x:{}:many", 64_600 + number).unwrap();
    }
    // The group of disks by another name.
    let disk = fs::read_to_string("/etc/group").unwrap();
    let disk = disk.lines().find(|line| line.starts_with("disk:")).unwrap();
    let gid = disk.split(':').nth(2).unwrap();
    writeln!(group, "platters:x:{gid}:disky").unwrap();
    fs::write(etc.join("shells"), "# shells\n/bin/sh\n/bin/bash\n").unwrap();
    let nss = "passwd: files\ngroup: files\nshadow: files\n";
    fs::write(etc.join("nsswitch.conf"), nss).unwrap();
    for name in [
        "passwd",
        "group",
        "shadow",
        "shells",
        "nsswitch.conf",
        "pam.d",
    ] {
        bind(&etc.join(name), &Path::new("/etc").join(name));
    }
}

pub(crate) fn bind(from: &Path, to: &Path) {
    run_tool(&[
        "mount",
        "--bind",
        from.to_str().unwrap(),
        to.to_str().unwrap(),
    ]);
}

#[track_caller]
pub(crate) fn run_tool(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn new_run() -> RunId {
    static NEXT: AtomicU64 = AtomicU64::new(998);
    RunId {
        job: NEXT.fetch_add(1, Ordering::Relaxed),
        task: 0,
        attempt: 1,
    }
}

#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let over = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < over, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
pub(crate) fn assert_exited(outcome: &Outcome, code: i32, output: &str) {
    assert_eq!(outcome.wait_status, code << 8, "{outcome:?} {output}");
    assert_eq!(outcome.cause, Cause::Exited, "{outcome:?} {output}");
}
