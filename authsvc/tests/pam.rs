//! Logins with the passwords of accounts: the service, `warrant-pam` and PAM
//! itself, as root, in private mount namespaces where copies lie over the
//! machine's account files and PAM rules.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The hash of `right horse`. Source: crypt(5), SHA-512 with few rounds.
const HASH: &str = "$6$rounds=1000$NZ9bP/HaSAEeeaj6$5iHCraKJFAx0Pm7yD.0hHDMvIlMxhAPlxrzqIm2/t5APu8Pr19FxrNUm0hr92Go1RJPLQvedbkmV/pwSfdihc.";

/// The name, user id and group id of each account; all have one password.
const ACCOUNTS: [(&str, u32, u32); 11] = [
    ("root", 0, 0),
    ("toor", 0, 0),
    ("system", 999, 999),
    ("ann", 1500, 1500),
    ("wheel", 1501, 0),
    ("bob", 1502, 1502),
    ("CORP\\Ann", 1_000_000_001, 1_000_000_001),
    ("4711", 2_147_483_648, 2_147_483_648),
    ("last", u32::MAX - 2, u32::MAX - 2),
    // A second name of ann's user id.
    ("Ann", 1500, 1500),
    ("dynamic", 61_184, 61_184),
];

/// Lay the copies over /etc, then become the program.
const UNDER_COPIES: &str = r#"
    set -e
    for name in passwd shadow group pam.d; do mount --bind "$0/$name" "/etc/$name"; done
    exec "$@"
"#;

/// A service and its `warrant-pam`; killed in the end.
struct Machine {
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Machine {
    /// `None` where this is not root, or `warrant-pam` was not built.
    fn start(variables: &[(&str, &str)]) -> Option<Self> {
        let pam = Path::new(env!("CARGO_BIN_EXE_warrant-authsvc")).with_file_name("warrant-pam");
        let why = if !nix::unistd::geteuid().is_root() {
            Some("not run: only root can lay other account files over the machine's")
        } else if !pam.exists() {
            Some("not run: warrant-pam is not built")
        } else {
            None
        };
        if let Some(why) = why {
            let required = std::env::var("WARRANT_REQUIRE_ROOT");
            assert_ne!(required.as_deref(), Ok("1"), "{why}");
            let mut stderr = std::io::stderr();
            writeln!(stderr, "{why}").unwrap();
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        write_accounts(dir.path());
        let mut machine = Self {
            dir,
            children: Vec::new(),
        };
        machine.start_pam(&pam);
        machine.start_service(variables);
        Some(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the programs themselves are under test"
    )]
    fn under_copies(&self, log: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(UNDER_COPIES)
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path(log)).unwrap());
        command
    }

    fn start_pam(&mut self, program: &Path) {
        let mut command = self.under_copies("pam.log");
        command
            .arg(program)
            .args(["serve", "--peer-uid", "0", "--socket"])
            .arg(self.path("pam.sock"));
        self.children.push(command.spawn().unwrap());
        self.wait_for("pam.sock", "pam.log");
    }

    fn start_service(&mut self, variables: &[(&str, &str)]) {
        let dir = self.dir.path().display();
        let config = format!(
            "backend = 'pam'\nmode = 'multi-user'\n\
             [database]\nurl = 'sqlite:{dir}/auth.db'\n\
             [listen]\nsocket = '{dir}/authsvc.sock'\nsocket_mode = '0600'\n\
             [keys]\ndir = '{dir}/keys'\n\
             [warrants]\nkeys_dir = '{dir}/warrant-keys'\nbroker_uid = 0\n\
             [pam]\nsocket = '{dir}/pam.sock'\nservice = 'rules'\n"
        );
        fs::write(self.path("authsvc.toml"), config).unwrap();
        let mut command = self.under_copies("log");
        command
            .arg(env!("CARGO_BIN_EXE_warrant-authsvc"))
            .args(["serve", "--migrate", "--config"])
            .arg(self.path("authsvc.toml"))
            .envs(variables.iter().copied());
        self.children.push(command.spawn().unwrap());
        self.wait_for("authsvc.sock", "log");
    }

    fn wait_for(&self, socket: &str, log: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(self.path(socket)).is_err() {
            let log = fs::read_to_string(self.path(log)).unwrap();
            assert!(Instant::now() < deadline, "{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let mut stream = UnixStream::connect(self.path("authsvc.sock")).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\
             {headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn login(&self, user: &str, password: &str, source: &str) -> String {
        let headers = format!(
            "content-type: application/x-www-form-urlencoded\r\nx-warrant-source: {source}\r\n"
        );
        let body = format!("username={user}&password={password}");
        self.post("/v1/login/access-token", &headers, &body)
    }

    /// Log each of `users` in at once, each from another place.
    fn login_all(&self, logins: &[(&str, &str)]) -> Vec<String> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = logins
                .iter()
                .enumerate()
                .map(|(number, (user, password))| {
                    let source = format!("192.0.2.{number}");
                    scope.spawn(move || self.login(user, password, &source))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        })
    }

    /// Whom PAM was asked about.
    fn asked(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.path("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn write_accounts(dir: &Path) {
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    let [mut passwd, mut shadow] = [String::new(), String::new()];
    for (name, uid, gid) in ACCOUNTS {
        passwd.push_str(&format!("{name}:x:{uid}:{gid}::/:/bin/sh\n"));
        shadow.push_str(&format!("{name}:{HASH}:20000:0:99999:7:::\n"));
    }
    write("passwd", &passwd, 0o644);
    write("shadow", &shadow, 0o600);
    write("group", "root:x:0:\n", 0o644);
    let asked = dir.join("asked");
    let script = format!("#!/bin/sh\necho \"$PAM_USER\" >> {}\n", asked.display());
    write("count", &script, 0o755);
    fs::create_dir(dir.join("pam.d")).unwrap();
    let rules = format!(
        "auth optional pam_exec.so quiet {}\nauth required pam_unix.so\n\
         account required pam_unix.so\n",
        dir.join("count").display()
    );
    write("pam.d/rules", &rules, 0o644);
    let closed = "auth required pam_deny.so\naccount required pam_deny.so\n";
    write("pam.d/closed", closed, 0o644);
}

fn is_token(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"access_token\"")
}

fn is_refused(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 400 ")
        && answer.ends_with("{\"detail\":\"Incorrect user or password\"}")
}

#[test]
fn an_accounts_password_logs_in_and_gets_a_warrant() {
    let Some(machine) = Machine::start(&[("FLUX_SECRET_KEY", "s"), ("FLUX_ADMIN_USERS", "bob")])
    else {
        return;
    };
    let answer = machine.login("ann", "right+horse", "");
    assert!(is_token(&answer), "{answer}");
    let token = answer.split("\"access_token\":\"").nth(1).unwrap();
    let token = token.split('"').next().unwrap();
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let body = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}\
         &subject_token_type=urn:ietf:params:oauth:token-type:access_token\
         &requested_token_type=urn:warrant:params:oauth:token-type:warrant\
         &audience=local&job_sha256={}",
        "0".repeat(64)
    );
    let answer = machine.post("/oauth/token", form, &body);
    assert!(answer.contains("\"token_type\":\"N_A\""), "{answer}");

    let key = jsonwebtoken::EncodingKey::from_secret(b"s");
    let claims = serde_json::json!({"user": "bob", "pass": "right horse", "scope": "token"});
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let payload = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let answer = machine.post(
        "/v1/token",
        &format!("authorization: Bearer {payload}\r\n"),
        "",
    );
    assert!(is_token(&answer), "{answer}");
    let token = answer.split("\"access_token\":\"").nth(1).unwrap();
    let payload = token.split('.').nth(1).unwrap();
    use base64::Engine;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(
        (&claims["uid"], &claims["role"]),
        (&1502.into(), &"administrator".into())
    );
    assert_eq!(machine.asked(), ["ann", "bob"]);
}

#[test]
fn t27_t28_pam_is_asked_about_no_account_that_may_not_log_in() {
    let Some(machine) = Machine::start(&[]) else {
        return;
    };
    let logins = [
        ("root", "right+horse"),
        ("toor", "right+horse"),
        ("system", "right+horse"),
        ("wheel", "right+horse"),
        ("no-such-account", "right+horse"),
        ("1500", "right+horse"),
        ("%2f%2e%2e%2fann", "right+horse"),
        ("ann", "right%00horse"),
        ("ann", "wrong+horse"),
    ];
    let began = Instant::now();
    let answers = machine.login_all(&logins);
    for (answer, (user, _)) in answers.iter().zip(logins) {
        assert!(is_refused(answer), "{user}: {answer}");
    }
    // All of them, whether PAM was asked or not, at the same time.
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(machine.asked(), ["ann"]);
}

#[test]
fn t134_names_and_user_ids_of_directories_log_in() {
    let Some(machine) = Machine::start(&[]) else {
        return;
    };
    let answers = machine.login_all(&[
        ("CORP%5CAnn", "right+horse"),
        ("4711", "right+horse"),
        ("last", "right+horse"),
        ("CORP%5CAnn", "wrong"),
        ("corp%5Cann", "right+horse"),
        ("1500", "right+horse"),
        ("Ann", "right+horse"),
        ("dynamic", "right+horse"),
    ]);
    let (let_in, refused) = answers.split_at(3);
    for answer in let_in {
        assert!(is_token(answer), "{answer}");
    }
    for answer in refused {
        assert!(is_refused(answer), "{answer}");
    }
    let mut asked = machine.asked();
    asked.sort_unstable();
    assert_eq!(asked, ["4711", "CORP\\Ann", "CORP\\Ann", "last"]);
}

#[test]
fn the_right_password_of_an_account_out_of_range_is_told_what_is_the_matter() {
    let Some(machine) = Machine::start(&[("FLUX_MAX_UID", "60000")]) else {
        return;
    };
    let answers = machine.login_all(&[
        ("last", "right+horse"),
        ("last", "wrong"),
        ("ann", "right+horse"),
        ("system", "right+horse"),
    ]);
    assert!(answers[0].starts_with("HTTP/1.1 400 "), "{}", answers[0]);
    assert!(answers[0].contains("outside the range"), "{}", answers[0]);
    assert!(is_refused(&answers[1]), "{}", answers[1]);
    assert!(is_token(&answers[2]), "{}", answers[2]);
    assert!(is_refused(&answers[3]), "{}", answers[3]);
    // Backends in an order judge alike.
    let Some(machine) = Machine::start(&[
        ("FLUX_MAX_UID", "60000"),
        ("FLUX_AUTH_BACKEND", "database,pam"),
    ]) else {
        return;
    };
    let answers = machine.login_all(&[("last", "right+horse"), ("last", "wrong")]);
    assert!(answers[0].contains("outside the range"), "{}", answers[0]);
    assert!(is_refused(&answers[1]), "{}", answers[1]);
}

#[test]
fn the_variables_bound_whose_passwords_count() {
    let Some(machine) = Machine::start(&[("FLUX_MIN_UID", "1501")]) else {
        return;
    };
    let answers = machine.login_all(&[("ann", "right+horse"), ("bob", "right+horse")]);
    assert!(!is_token(&answers[0]), "{}", answers[0]);
    assert!(is_token(&answers[1]), "{}", answers[1]);
}

#[test]
fn the_variable_names_the_service_of_pam() {
    let Some(machine) = Machine::start(&[("FLUX_PAM_SERVICE", "closed")]) else {
        return;
    };
    assert!(is_refused(&machine.login(
        "ann",
        "right+horse",
        "192.0.2.1"
    )));
}

#[test]
fn in_single_user_mode_too_only_accounts_in_range_log_in() {
    let Some(machine) = Machine::start(&[("FLUX_SERVER_MODE", "single-user")]) else {
        return;
    };
    let answers = machine.login_all(&[("ann", "right+horse"), ("root", "right+horse")]);
    assert!(is_token(&answers[0]), "{}", answers[0]);
    assert!(is_refused(&answers[1]), "{}", answers[1]);
    assert_eq!(machine.asked(), ["ann"]);
}

#[test]
fn t99_the_throttle_comes_before_pam() {
    let Some(machine) = Machine::start(&[]) else {
        return;
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..30)
            .map(|_| scope.spawn(|| machine.login("ann", "wrong", "192.0.2.1")))
            .collect();
        logins
            .into_iter()
            .map(|login| login.join().unwrap())
            .collect()
    });
    // Those that wait for their turn are judged again when it comes.
    let refused = answers.iter().filter(|answer| is_refused(answer)).count();
    let throttled = |answer: &str| answer.starts_with("HTTP/1.1 429 ");
    assert!(
        answers
            .iter()
            .all(|answer| is_refused(answer) || throttled(answer))
    );
    // Ten, and those whose turns were at the same time as the tenth's.
    assert!((10..=18).contains(&refused), "{refused}");
    assert_eq!(machine.asked().len(), refused);
    let before = machine.asked().len();
    for _ in 0..20 {
        assert!(throttled(&machine.login("ann", "right+horse", "192.0.2.1")));
    }
    assert_eq!(machine.asked().len(), before);
    assert!(is_token(&machine.login("ann", "right+horse", "192.0.2.2")));
}

#[test]
fn t99_attempts_over_the_network_do_not_lock_an_account_of_the_machine() {
    let Some(machine) = Machine::start(&[]) else {
        return;
    };
    // Twenty failures lock the account, at the console as well, for good.
    let tally = machine.path("tally");
    fs::create_dir(&tally).unwrap();
    let faillock = format!(
        "pam_faillock.so dir={} deny=20 unlock_time=0",
        tally.display()
    );
    let counted = |before: &str| {
        format!(
            "{before}auth required {faillock} preauth\n\
             auth [success=1 default=ignore] pam_unix.so\n\
             auth [default=die] {faillock} authfail\n\
             auth sufficient {faillock} authsucc\n\
             account required pam_unix.so\n"
        )
    };
    let rules = machine.path("pam.d/rules");
    let before = fs::read_to_string(&rules).unwrap();
    let asked = before.lines().next().unwrap();
    fs::write(&rules, counted(&format!("{asked}\n"))).unwrap();
    let wrong: Vec<_> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..200)
            .map(|_| scope.spawn(|| machine.login("ann", "wrong", "192.0.2.1")))
            .collect();
        logins
            .into_iter()
            .map(|login| login.join().unwrap())
            .collect()
    });
    let refused = wrong.iter().filter(|answer| is_refused(answer)).count();
    assert!((10..=18).contains(&refused), "{refused}");
    // As many failures are in the tally as got to PAM, and ann is not locked.
    assert_eq!(machine.asked().len(), refused);
    let record = fs::metadata(tally.join("ann")).unwrap().len();
    assert!(record > 0, "pam_faillock did not count");
    assert!(is_token(&machine.login("ann", "right+horse", "192.0.2.2")));
    // A source that is throttled does not get there at all.
    let asked = machine.asked().len();
    for _ in 0..50 {
        machine.login("ann", "wrong", "192.0.2.1");
    }
    assert!(
        machine.asked().len() <= asked + 1,
        "{}",
        machine.asked().len()
    );
}

#[test]
fn without_warrant_pam_a_login_is_answered_503() {
    let Some(mut machine) = Machine::start(&[]) else {
        return;
    };
    let mut pam = machine.children.remove(0);
    pam.kill().unwrap();
    pam.wait().unwrap();
    let answer = machine.login("ann", "right+horse", "");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // And one that hangs up is no yes.
    fs::remove_file(machine.path("pam.sock")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(machine.path("pam.sock")).unwrap();
    let silent = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
    let answer = machine.login("ann", "right+horse", "");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    silent.join().unwrap();
}

#[test]
fn t108_no_password_is_in_any_log() {
    let Some(machine) = Machine::start(&[("AUTHSVC_LOG", "trace")]) else {
        return;
    };
    assert!(is_refused(&machine.login("ann", "canary-password", "")));
    let logs = ["log", "pam.log"].map(|log| fs::read_to_string(machine.path(log)).unwrap());
    assert!(logs[0].contains("refused"));
    for log in logs {
        assert!(!log.contains("canary"), "{log}");
    }
}
