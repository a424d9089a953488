//! The program itself, as root, with accounts of its own: in a private mount
//! namespace, copies lie over the machine's account files and PAM rules.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use warrant_pam::{FRAME_BYTES, Question, Verdict};

/// Everybody's password.
const PASSWORD: &str = "right horse";
/// Its hash. Source: crypt(5), SHA-512 with few rounds.
const HASH: &str = "$6$rounds=1000$NZ9bP/HaSAEeeaj6$5iHCraKJFAx0Pm7yD.0hHDMvIlMxhAPlxrzqIm2/t5APu8Pr19FxrNUm0hr92Go1RJPLQvedbkmV/pwSfdihc.";
const UNIX: &str = "auth required pam_unix.so\naccount required pam_unix.so\n";
const PERMIT: &str = "auth required pam_permit.so\naccount required pam_permit.so\n";

/// A module that shows what modules see and may do: with `environment` it lets
/// nobody in where the process has a variable, with `rename` it takes the user
/// for another. The numbers are those of `_pam_types.h`.
const PROBE: &str = r#"
    extern char **environ;
    int pam_set_item(void *handle, int item, const void *value);
    int pam_sm_authenticate(void *handle, int flags, int count, const char **words) {
        if (count == 1 && words[0][0] == 'e') return environ && *environ ? 7 : 0;
        return pam_set_item(handle, 2, "locked");
    }
    int pam_sm_acct_mgmt(void *handle, int flags, int count, const char **words) { return 0; }
    int pam_sm_setcred(void *handle, int flags, int count, const char **words) { return 0; }
"#;

/// A module that asks for a code besides the password.
const CODE: &str = r#"
    #include <string.h>
    struct message { int style; const char *text; };
    struct response { char *text; int code; };
    struct conv { int (*ask)(int, const struct message **, struct response **, void *); void *data; };
    int pam_get_item(const void *handle, int item, const void **value);
    int pam_sm_authenticate(void *handle, int flags, int count, const char **words) {
        const struct conv *conv = 0;
        struct message message = { 2, "Verification code: " };
        const struct message *messages = &message;
        struct response *response = 0;
        if (pam_get_item(handle, 5, (const void **)&conv) || !conv) return 4;
        int status = conv->ask(1, &messages, &response, conv->data);
        if (status) return status;
        return response->text && !strcmp(response->text, "123456") ? 0 : 7;
    }
    int pam_sm_setcred(void *handle, int flags, int count, const char **words) { return 0; }
"#;

/// Names of accounts as directories have them.
const ODD_NAMES: [&str; 7] = [
    "4711",
    "0day",
    "Ann.Smith",
    "CORP\\ann",
    "ann@example.org",
    "ann+hpc",
    "first last",
];

/// Lay the copies over /etc, then become the program.
const UNDER_COPIES: &str = r#"
    set -e
    for name in passwd shadow group pam.d; do mount --bind "$0/$name" "/etc/$name"; done
    exec "$@"
"#;

/// A running `warrant-pam`; killed in the end.
struct Machine {
    dir: tempfile::TempDir,
    child: Child,
}

impl Machine {
    /// One that listens to this process; `None` where this is not root.
    fn start() -> Option<Self> {
        Self::start_for(0)
    }

    fn start_for(peer_uid: u32) -> Option<Self> {
        let dir = copies()?;
        let child = spawn(&dir, &format!("--peer-uid {peer_uid}"));
        let machine = Self { dir, child };
        machine.wait_ready();
        Some(machine)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("pam.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// What is answered to `frame`; nothing counts as unavailable.
    fn send(&self, frame: &[u8]) -> Verdict {
        let mut stream = self.connect();
        let mut answer = [0];
        // It may be closed already.
        let _ = stream.write_all(frame);
        match stream.read_exact(&mut answer) {
            Ok(()) => Verdict::from_code(answer[0]),
            Err(_) => Verdict::Unavailable,
        }
    }

    fn ask(&self, service: &str, name: &str, password: &str) -> Verdict {
        let question = Question::new(service, name, password.as_bytes()).unwrap();
        let mut frame = [0; FRAME_BYTES];
        question.encode(&mut frame);
        self.send(&frame)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Account files and PAM rules to lie over the machine's own.
fn copies() -> Option<tempfile::TempDir> {
    if !nix::unistd::geteuid().is_root() {
        let why = "not run: only root can lay other account files over the machine's";
        assert_ne!(
            std::env::var("WARRANT_REQUIRE_ROOT").as_deref(),
            Ok("1"),
            "{why}"
        );
        let mut stderr = std::io::stderr();
        writeln!(stderr, "{why}").unwrap();
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    let accounts = [
        ("ann", HASH.to_owned(), "20000:0:99999:7::"),
        ("locked", format!("!{HASH}"), "20000:0:99999:7::"),
        ("nopassword", String::new(), "20000:0:99999:7::"),
        ("expired", HASH.to_owned(), "20000:0:99999:7::1"),
        ("outdated", HASH.to_owned(), "0:0:99999:7::"),
    ];
    let odd = ODD_NAMES.map(|name| (name, HASH.to_owned(), "20000:0:99999:7::"));
    let mut passwd = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    let mut shadow = "root:*:20000:0:99999:7:::\n".to_owned();
    for (number, (name, hash, dates)) in accounts.iter().chain(&odd).enumerate() {
        let id = 1500 + number;
        passwd.push_str(&format!("{name}:x:{id}:{id}::/:/bin/sh\n"));
        shadow.push_str(&format!("{name}:{hash}:{dates}:\n"));
    }
    write("passwd", &passwd, 0o644);
    write("shadow", &shadow, 0o600);
    write("group", "root:x:0:\n", 0o644);
    fs::create_dir(dir.path().join("pam.d")).unwrap();
    write("pam.d/rules", UNIX, 0o644);
    write("pam.d/open", PERMIT, 0o644);
    // What libpam would fall back to.
    write("pam.d/other", PERMIT, 0o644);
    write("pam.d/writable", PERMIT, 0o664);
    write("pam.d/foreign", PERMIT, 0o644);
    write("pam.d/broken", "auth required pam_none.so\n", 0o644);
    chown(dir.path().join("pam.d/foreign"), Some(1), None).unwrap();
    Some(dir)
}

/// What runs a program under the copies in `dir`.
#[allow(
    clippy::disallowed_methods,
    reason = "the program itself is under test"
)]
fn under_copies(dir: &tempfile::TempDir) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(UNDER_COPIES)
        .arg(dir.path())
        .stdin(Stdio::null())
        .stderr(fs::File::create(dir.path().join("log")).unwrap());
    command
}

fn spawn(dir: &tempfile::TempDir, options: &str) -> Child {
    spawn_by(dir, &[], options)
}

/// Start the program by another, which becomes it.
fn spawn_by(dir: &tempfile::TempDir, by: &[&str], options: &str) -> Child {
    under_copies(dir)
        .args(by)
        .args([env!("CARGO_BIN_EXE_warrant-pam"), "serve", "--socket"])
        .arg(dir.path().join("pam.sock"))
        .args(options.split_whitespace())
        .spawn()
        .unwrap()
}

/// The service manager has the listening socket as well, and its flags are
/// everybody's.
#[test]
fn t133_a_socket_that_others_make_blocking_is_served_on_and_each_turn_is_told() {
    let Some(dir) = copies() else { return };
    let listener = UnixListener::bind(dir.path().join("pam.sock")).unwrap();
    let place = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&place).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let next = || {
        let mut buffer = [0; 64];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    let passing = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --peer-uid 0";
    let child = under_copies(&dir)
        .args(["sh", "-c", passing, env!("CARGO_BIN_EXE_warrant-pam")])
        .env("NOTIFY_SOCKET", &place)
        .env("WATCHDOG_USEC", "60000")
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .spawn()
        .unwrap();
    let machine = Machine { dir, child };
    assert_eq!(next(), "READY=1");
    for _ in 0..3 {
        listener.set_nonblocking(false).unwrap();
        assert_eq!(machine.ask("rules", "ann", PASSWORD), Verdict::Accepted);
        assert_eq!(next(), "WATCHDOG=1");
    }
}

#[test]
fn the_right_password_of_an_account_that_may_be_used_is_accepted() {
    let Some(machine) = Machine::start() else {
        return;
    };
    assert_eq!(machine.ask("rules", "ann", PASSWORD), Verdict::Accepted);
}

#[test]
fn everything_else_is_denied() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let longest = "x".repeat(1024);
    for (name, password) in [
        ("ann", "wrong horse"),
        ("ann", "right hors"),
        ("ann", &longest),
        ("ann", HASH),
        ("nobody-at-all", PASSWORD),
        ("Ann", PASSWORD),
        ("root", PASSWORD),
        ("root", "*"),
        ("locked", PASSWORD),
        ("locked", &format!("!{PASSWORD}")),
        ("nopassword", PASSWORD),
        ("expired", "wrong horse"),
        ("outdated", "wrong horse"),
    ] {
        let verdict = machine.ask("rules", name, password);
        assert_eq!(verdict, Verdict::Denied, "{name}: {}", machine.log());
    }
}

#[test]
fn why_an_account_is_not_let_in_is_told_once_its_password_was_right() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let ask = |service: &str, name: &str| machine.ask(service, name, PASSWORD);
    assert_eq!(ask("rules", "expired"), Verdict::AccountExpired);
    assert_eq!(ask("rules", "outdated"), Verdict::PasswordExpired);
    let closed = "auth required pam_unix.so\naccount required pam_deny.so\n";
    fs::write(machine.dir.path().join("pam.d/closed"), closed).unwrap();
    assert_eq!(ask("closed", "ann"), Verdict::NotNow);
    assert_eq!(machine.ask("closed", "ann", "wrong"), Verdict::Denied);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a compiler is run")]
fn what_is_asked_besides_the_password_is_answered_with_the_code() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let at = |name: &str| machine.dir.path().join(name).display().to_string();
    fs::write(at("code.c"), CODE).unwrap();
    let module = at("pam_code.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", &module, &at("code.c")])
        .status();
    assert!(compiled.unwrap().success());
    let rules = format!("auth required pam_unix.so\nauth required {module}\n");
    let rules = format!("{rules}account required pam_unix.so\n");
    fs::write(at("pam.d/code"), rules).unwrap();
    let ask = |password: &str, code: &str| {
        let question = Question::new("code", "ann", password.as_bytes()).unwrap();
        let question = question.with_code(code.as_bytes()).unwrap();
        let mut frame = [0; FRAME_BYTES];
        question.encode(&mut frame);
        machine.send(&frame)
    };
    assert_eq!(
        ask(PASSWORD, "123456"),
        Verdict::Accepted,
        "{}",
        machine.log()
    );
    assert_eq!(ask(PASSWORD, ""), Verdict::CodeNeeded);
    assert_eq!(ask(PASSWORD, "654321"), Verdict::Denied);
    assert_eq!(ask("wrong", "123456"), Verdict::Denied);
    assert!(!machine.log().contains("123456"));
}

#[test]
fn t134_names_of_accounts_are_asked_about_as_directories_have_them() {
    let Some(machine) = Machine::start() else {
        return;
    };
    for name in ODD_NAMES {
        let verdict = machine.ask("rules", name, PASSWORD);
        assert_eq!(verdict, Verdict::Accepted, "{name:?}: {}", machine.log());
        assert_eq!(
            machine.ask("rules", name, "wrong"),
            Verdict::Denied,
            "{name:?}"
        );
    }
    // What looks like a number is the name of nobody but the account called so.
    assert_eq!(machine.ask("rules", "1500", PASSWORD), Verdict::Denied);
}

#[test]
fn a_failure_is_answered_without_pams_own_delay() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let began = Instant::now();
    assert_eq!(machine.ask("rules", "ann", "wrong"), Verdict::Denied);
    assert!(began.elapsed() < Duration::from_millis(900));
}

#[test]
fn t40_a_service_without_rules_of_its_own_or_with_anybodys_is_not_asked() {
    let Some(machine) = Machine::start() else {
        return;
    };
    assert_eq!(machine.ask("open", "ann", "any"), Verdict::Accepted);
    for (service, why) in [
        ("absent", "is not there"),
        ("writable", "writable by others"),
        ("foreign", "does not belong to root"),
        ("broken", "PAM cannot tell"),
    ] {
        let verdict = machine.ask(service, "ann", "any");
        assert_eq!(verdict, Verdict::Unavailable, "{service}");
        let log = machine.log();
        assert!(log.contains(why), "{service}: {log}");
    }
}

#[test]
fn t2_a_peer_of_another_user_id_is_answered_nothing() {
    let Some(machine) = Machine::start_for(12_345) else {
        return;
    };
    // Root may connect to anything, and is not the peer all the same.
    let verdict = machine.ask("open", "ann", "any");
    assert_eq!(verdict, Verdict::Unavailable);
    assert!(machine.log().contains("refused a peer of uid 0"));
    let mode = fs::metadata(machine.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn t5_what_is_no_question_gets_no_verdict() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let mut frame = [0; FRAME_BYTES];
    Question::new("open", "ann", b"any")
        .unwrap()
        .encode(&mut frame);
    assert_eq!(machine.send(&frame), Verdict::Accepted);
    for (at, byte) in [(0, 1), (1, 33), (1, 0), (2, b'/'), (34, 255), (293, 0)] {
        let mut changed = frame;
        changed[at] = byte;
        assert_eq!(machine.send(&changed), Verdict::Unavailable, "{at}");
    }
    let mut half = machine.connect();
    half.write_all(&frame[..FRAME_BYTES / 2]).unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
}

#[test]
fn more_questions_than_may_be_asked_at_once_are_all_answered() {
    let Some(machine) = Machine::start() else {
        return;
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..60)
            .map(|number| {
                let machine = &machine;
                scope.spawn(move || {
                    let (password, verdict) = match number % 2 {
                        0 => (PASSWORD, Verdict::Accepted),
                        _ => ("wrong", Verdict::Denied),
                    };
                    assert_eq!(machine.ask("rules", "ann", password), verdict);
                })
            })
            .collect();
        asked.into_iter().for_each(|asked| asked.join().unwrap());
    });
}

#[test]
fn t6_silent_peers_hold_their_places_for_a_few_seconds_only() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let silent: Vec<_> = (0..16).map(|_| machine.connect()).collect();
    assert_eq!(machine.ask("rules", "ann", PASSWORD), Verdict::Accepted);
    drop(silent);
}

#[test]
fn t108_no_password_is_in_its_log_and_it_leaves_no_core() {
    let Some(machine) = Machine::start() else {
        return;
    };
    machine.ask("rules", "ann", "canary-password");
    machine.ask("rules", "nobody-at-all", "canary-password");
    machine.ask("absent", "ann", "canary-password");
    assert!(!machine.log().contains("canary"), "{}", machine.log());
    let of = |file: &str| {
        let path = format!("/proc/{}/{file}", machine.child.id());
        fs::read_to_string(path).unwrap()
    };
    let limits = of("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let words: Vec<_> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core}");
    let maps = of("maps");
    assert!(!maps.contains("libpam"), "the parent has loaded libpam");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a compiler is run")]
fn t43_modules_see_no_variable_and_cannot_change_who_is_asked_about() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let at = |name: &str| machine.dir.path().join(name).display().to_string();
    fs::write(at("probe.c"), PROBE).unwrap();
    let compiled = Command::new("cc")
        .args([
            "-shared",
            "-fPIC",
            "-o",
            &at("pam_probe.so"),
            &at("probe.c"),
        ])
        .status();
    assert!(compiled.unwrap().success());
    for word in ["environment", "rename"] {
        let module = at("pam_probe.so");
        let rules = format!("auth required {module} {word}\naccount required {module}\n");
        fs::write(at(&format!("pam.d/{word}")), rules).unwrap();
    }
    let verdict = machine.ask("environment", "ann", "any");
    assert_eq!(verdict, Verdict::Accepted, "{}", machine.log());
    assert_eq!(machine.ask("rename", "ann", "any"), Verdict::Denied);
    // It is the name alone that it minds.
    assert_eq!(machine.ask("rename", "locked", "any"), Verdict::Accepted);
}

/// A module that leaves a daemon, which writes its process id down.
const DAEMON: &str = r#"
    #include <signal.h>
    #include <stdio.h>
    #include <unistd.h>
    int pam_sm_authenticate(void *handle, int flags, int count, const char **words) {
        int up[2];
        char byte;
        pipe(up);
        if (fork() == 0) {
            setsid();
            if (fork() != 0) _exit(0);
            FILE *file = fopen(words[0], "w");
            fprintf(file, "%d", getpid());
            fclose(file);
            signal(SIGTERM, SIG_IGN);
            write(up[1], "", 1);
            for (;;) pause();
        }
        read(up[0], &byte, 1);
        return 0;
    }
    int pam_sm_acct_mgmt(void *handle, int flags, int count, const char **words) { return 0; }
    int pam_sm_setcred(void *handle, int flags, int count, const char **words) { return 0; }
"#;

#[test]
#[allow(clippy::disallowed_methods, reason = "a compiler is run")]
fn t126_what_a_module_starts_ends_with_the_question() {
    let Some(machine) = Machine::start() else {
        return;
    };
    let at = |name: &str| machine.dir.path().join(name).display().to_string();
    fs::write(at("daemon.c"), DAEMON).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o", &at("daemon.so")])
        .arg(at("daemon.c"))
        .status();
    assert!(compiled.unwrap().success());
    let module = at("daemon.so");
    let rules = format!(
        "auth required {module} {0}\naccount required {module} {0}\n",
        at("pid")
    );
    fs::write(at("pam.d/daemon"), rules).unwrap();
    assert_eq!(machine.ask("daemon", "ann", "any"), Verdict::Accepted);
    let pid = fs::read_to_string(at("pid")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_alive = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok();
    while is_alive() {
        assert!(Instant::now() < deadline, "the daemon lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "somebody else looks at it")]
fn t85_nobody_without_power_over_all_processes_may_look_into_it() {
    let Some(dir) = copies() else {
        return;
    };
    // Root in all but that: who looks, and who is looked at.
    let weaker = ["setpriv", "--bounding-set", "-sys_ptrace", "--"];
    let child = spawn_by(&dir, &weaker, "--peer-uid 0");
    let machine = Machine { dir, child };
    machine.wait_ready();
    // Once it answers it has done all that it does at its start.
    assert_eq!(machine.ask("rules", "ann", PASSWORD), Verdict::Accepted);
    let looks_at = |pid: u32| {
        // Who may read this link may attach a debugger. Source: proc(5).
        let link = format!("/proc/{pid}/cwd");
        let seen = Command::new(weaker[0])
            .args(&weaker[1..])
            .args(["readlink", &link])
            .stderr(Stdio::null())
            .output();
        seen.unwrap().status.success()
    };
    let mut plain = Command::new(weaker[0])
        .args(&weaker[1..])
        .args(["sleep", "60"])
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = looks_at(plain.id());
    while !seen && Instant::now() < deadline {
        seen = looks_at(plain.id());
    }
    let _ = plain.kill();
    let _ = plain.wait();
    assert!(seen, "who looks sees nothing at all");
    assert!(!looks_at(machine.child.id()), "it may be looked into");
}

#[test]
fn a_socket_may_come_from_systemd() {
    let Some(dir) = copies() else {
        return;
    };
    // As systemd passes it: descriptor 3, for this process alone.
    let listener = UnixListener::bind(dir.path().join("pam.sock")).unwrap();
    let activated = |listen_pid: &str| {
        let script = format!(
            "LISTEN_FDS=1 LISTEN_PID={listen_pid} exec \"$0\" serve --peer-uid 0 3<&0 </dev/null"
        );
        let program = env!("CARGO_BIN_EXE_warrant-pam");
        let mut command = under_copies(&dir);
        command.args(["sh", "-c", &script, program]);
        command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
        command.spawn().unwrap()
    };
    assert!(!activated("1").wait().unwrap().success());
    let child = activated("$$");
    let machine = Machine { dir, child };
    drop(listener);
    assert_eq!(machine.ask("rules", "ann", PASSWORD), Verdict::Accepted);
    assert_eq!(machine.ask("rules", "ann", "wrong"), Verdict::Denied);
}

#[test]
fn an_open_directory_and_a_file_in_the_way_stop_the_start() {
    let Some(dir) = copies() else {
        return;
    };
    let refusal = |expected: &str| {
        let status = spawn(&dir, "--peer-uid 0").wait().unwrap();
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(!status.success() && log.contains(expected), "{log}");
    };
    fs::write(dir.path().join("pam.sock"), "").unwrap();
    refusal("exists and is no socket");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o770)).unwrap();
    refusal("writable by nobody else");
}
