//! The program as an operator runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A directory with a configuration in which everything is cheap.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let dir = place.0.path().display();
        let uid = nix::unistd::geteuid();
        place.configure(&format!(
            "[database]\nurl = 'sqlite:{dir}/auth.db'\n\
             [listen]\nsocket = '{dir}/authsvc.sock'\nsocket_mode = '0600'\n\
             [keys]\ndir = '{dir}/keys'\n\
             [warrants]\nkeys_dir = '{dir}/warrant-keys'\nbroker_uid = {uid}\n\
             [passwords]\nmemory_kib = 8\npasses = 1\n"
        ));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("authsvc.toml"), text).unwrap();
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the program itself is under test"
    )]
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warrant-authsvc"));
        command.env_clear().args(words.split_whitespace());
        command.arg("--config").arg(self.path("authsvc.toml"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run_with(&self, words: &str, stdin: &str) -> Output {
        let mut child = self.command(words).spawn().unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What the command prints, if it succeeds.
    fn run(&self, words: &str, stdin: &str) -> String {
        let output = self.run_with(words, stdin);
        assert!(
            output.status.success(),
            "{words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the command complains of, if it fails.
    fn refusal(&self, words: &str, stdin: &str) -> String {
        let output = self.run_with(words, stdin);
        assert!(!output.status.success(), "{words} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    fn serve(&self, variables: &[(&str, &str)]) -> Running {
        let mut command = self.command("serve --migrate");
        command
            .envs(variables.iter().copied())
            .stderr(fs::File::create(self.path("log")).unwrap());
        let running = Running {
            child: command.spawn().unwrap(),
            socket: self.path("authsvc.sock"),
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(&running.socket).is_err() {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

/// A running service; killed in the end if it is not stopped before.
struct Running {
    child: Child,
    socket: PathBuf,
}

impl Running {
    fn post(&self, path: &str, headers: &str, body: &str) -> String {
        self.try_post(path, headers, body).unwrap()
    }

    fn try_post(&self, path: &str, headers: &str, body: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\
             {headers}\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn login(&self, user: &str, password: &str) -> String {
        self.try_login(user, password).unwrap()
    }

    fn try_login(&self, user: &str, password: &str) -> std::io::Result<String> {
        let form = "content-type: application/x-www-form-urlencoded\r\n";
        let body = format!("username={user}&password={password}");
        self.try_post("/v1/login/access-token", form, &body)
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Post a form; the body of the answer.
    fn form(&self, path: &str, body: &str) -> serde_json::Value {
        let form = "content-type: application/x-www-form-urlencoded\r\n";
        let answer = self.post(path, form, body);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    /// Access token and refresh token of a user with password `long horse`.
    fn sign_in(&self, user: &str) -> (String, String) {
        let body =
            format!("grant_type=password&client_id=warrant&username={user}&password=long+horse");
        let answer = self.form("/oauth/token", &body);
        let token = |name: &str| answer[name].as_str().unwrap().to_owned();
        (token("access_token"), token("refresh_token"))
    }

    /// Whether both tokens still count.
    fn counts(&self, (access, refresh): &(String, String)) -> bool {
        let known = self.form("/oauth/introspect", &format!("token={access}"));
        let body = format!("grant_type=refresh_token&client_id=warrant&refresh_token={refresh}");
        let active = known["active"].as_bool().unwrap();
        let answer = self.form("/oauth/token", &body);
        assert_eq!(active, answer["access_token"].is_string(), "{answer}");
        active
    }

    /// Stop as systemd does; whether it ended well.
    fn stop(mut self) -> bool {
        self.signal(nix::sys::signal::SIGTERM);
        self.child.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_user_is_added_listed_changed_disabled_and_deleted() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("user add ann --superuser", "long horse\n");
    place.run("user add bob", "long horse");
    assert!(
        place
            .refusal("user add ann", "long horse")
            .contains("there is a user ann already")
    );

    let listed = || -> serde_json::Value {
        serde_json::from_str(&place.run("user list --json", "")).unwrap()
    };
    let users = listed();
    assert_eq!(
        (&users[0]["name"], &users[0]["superuser"]),
        (&"ann".into(), &true.into())
    );
    assert_eq!(
        (&users[1]["name"], &users[1]["superuser"]),
        (&"bob".into(), &false.into())
    );
    assert!(users[0].get("password_hash").is_none());

    place.run("user passwd bob", "another horse");
    place.run("user disable bob", "");
    let changed = listed();
    assert_eq!(changed[1]["disabled"], true);
    assert_ne!(
        changed[1]["password_changed_us"],
        users[1]["password_changed_us"]
    );
    assert!(
        place
            .run("user list", "")
            .lines()
            .nth(1)
            .unwrap()
            .ends_with("disabled")
    );
    place.run("user enable bob", "");
    assert_eq!(listed(), {
        let mut enabled = changed;
        enabled[1]["disabled"] = false.into();
        enabled
    });
    place.run("user delete bob", "");
    assert_eq!(listed().as_array().unwrap().len(), 1);
    for words in [
        "user passwd bob",
        "user disable bob",
        "user enable bob",
        "user delete bob",
    ] {
        assert!(
            place
                .refusal(words, "long horse")
                .contains("there is no user bob"),
            "{words}"
        );
    }
}

#[test]
fn names_and_passwords_that_are_not_allowed_are_refused() {
    let place = Place::new();
    place.run("migrate", "");
    assert!(
        place
            .refusal("user add a/b", "long horse")
            .contains("without / : ,")
    );
    assert!(
        place
            .refusal("user add ann", "")
            .contains("1 to 1024 bytes")
    );
    assert!(
        place
            .refusal("user add ann", &"x".repeat(1025))
            .contains("1 to 1024 bytes")
    );
    // As on the page where users change theirs.
    for short in ["seven77", "pw\n"] {
        let refusal = place.refusal("user add ann", short);
        assert!(refusal.contains("at least 8 characters"), "{refusal}");
    }
    let refusal = place.refusal("user add longenough", "LongEnough");
    assert!(refusal.contains("must not be the user's name"), "{refusal}");
    assert_eq!(place.run("user list --json", ""), "[]\n");
    for name in ["1000", "7of9", "Ann", "CORP\\ann", "ann@example.org"] {
        place.run(&format!("user add {name}"), "long horse");
    }
    assert!(
        place
            .refusal("user passwd 1000", "short")
            .contains("at least 8")
    );
}

#[test]
fn a_password_comes_from_a_file_or_standard_input_and_logs_in() {
    let place = Place::new();
    place.run("migrate", "");
    let file = place.path("password");
    fs::write(&file, "from the file\n").unwrap();
    let add = format!("user add ann --password-file {}", file.display());
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert!(place.refusal(&add, "").contains("has mode 0644"));
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    place.run(&add, "");
    place.run("user add bob", "from stdin\r\n");
    let running = place.serve(&[]);
    assert!(
        running
            .login("ann", "from+the+file")
            .contains("\"access_token\"")
    );
    assert!(
        running
            .login("bob", "from+stdin")
            .contains("\"access_token\"")
    );
    place.run("user disable bob", "");
    assert!(
        running
            .login("bob", "from+stdin")
            .starts_with("HTTP/1.1 400 ")
    );
    assert!(running.stop());
    assert!(!place.path("authsvc.sock").exists());
}

#[test]
fn a_database_that_is_not_up_to_date_is_refused() {
    let place = Place::new();
    for words in ["serve", "user list"] {
        assert!(
            place.refusal(words, "").contains("not up to date"),
            "{words}"
        );
    }
}

#[test]
fn keys_are_rotated_and_listed() {
    let place = Place::new();
    place.run("migrate", "");
    let first = place.run("keys rotate", "");
    assert!(first.ends_with(" signs in 0 seconds\n"), "{first}");
    let second = place.run("keys rotate", "");
    assert!(second.ends_with(" signs in 120 seconds\n"), "{second}");
    let listed = place.run("keys list", "");
    let states: Vec<_> = listed
        .lines()
        .map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(states, [Some("signing"), Some("next")]);
    let kid = |line: &str| line.split(' ').next().unwrap().to_owned();
    assert_eq!(
        listed.lines().map(kid).collect::<Vec<_>>(),
        [kid(&first), kid(&second)]
    );
    // A stolen key must not sign for as long as others take to know its heir.
    // No two begin in the same second: the last one signs.
    for _ in 0..2 {
        place.run("keys rotate --now", "");
    }
    let last = place.run("keys rotate --now", "");
    let wait_s: u64 = last.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(wait_s <= 3, "{last}");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let listed = place.run("keys list", "");
        let signing = listed.lines().find(|line| line.contains(" signing "));
        if signing.map(kid) == Some(kid(&last)) {
            break;
        }
        assert!(Instant::now() < deadline, "{listed}");
    }
    place.run(&format!("keys retire {}", kid(&first)), "");
}

#[test]
fn the_keys_of_warrants_are_printed_as_the_shim_reads_them() {
    use base64::Engine;
    let place = Place::new();
    let printed = place.run("keys warrant", "");
    assert_eq!(printed, place.run("keys warrant", ""));
    let line = printed.strip_suffix('\n').unwrap();
    let (kid, key) = line.split_once(' ').unwrap();
    assert!(warrant_wire::warrant::is_key_id(kid), "{kid}");
    let key = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(key)
        .unwrap();
    assert_eq!(key.len(), 32);
    assert!(place.path("warrant-keys").exists() && !place.path("keys").exists());

    place.run("migrate", "");
    let rotated = place.run("keys rotate --warrant", "");
    assert!(rotated.ends_with(" signs in 3600 seconds\n"), "{rotated}");
    let both = place.run("keys warrant", "");
    assert_eq!(both.lines().count(), 2);
    assert_eq!(both.lines().next(), Some(line));
    let listed = place.run("keys list --warrant", "");
    assert!(listed.starts_with(&format!("{kid} signing ")), "{listed}");
    assert_eq!(place.run("keys list", ""), "");
}

#[test]
fn t16_a_key_of_warrants_that_signs_logins_too_stops_the_start() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("keys rotate", "");
    place.run("keys warrant", "");
    let name = |dir: &str| {
        let entry = fs::read_dir(place.path(dir)).unwrap().next();
        entry.unwrap().unwrap().file_name()
    };
    fs::copy(
        place.path("keys").join(name("keys")),
        place.path("warrant-keys").join(name("keys")),
    )
    .unwrap();
    let mut command = place.command("serve --migrate");
    command.env("FLUX_SERVER_MODE", "multi-user");
    let output = command.output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains("a key that keys.dir holds too"),
        "{complaint}"
    );
    let mut command = place.command("check-config");
    command.env("AUTHSVC__WARRANTS__KEYS_DIR", place.path("keys"));
    let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(told.contains("must not be keys.dir"), "{told}");
}

#[test]
fn the_audit_trail_is_listed() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("user add ann", "canary-password");
    let running = place.serve(&[]);
    running.login("ann", "canary-password");
    running.login("ann", "canary-wrong");
    running.login("bob", "canary-wrong");
    running.login("canary%0Aforged", "canary-wrong");
    assert!(running.stop());
    let json = place.run("audit list --json --since 1h --kind login", "");
    let rows: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let reasons: Vec<_> = rows.iter().map(|row| row["reason"].as_str()).collect();
    let refused = [Some("password"), Some("user-unknown"), Some("name")];
    assert_eq!(reasons[0], None);
    assert_eq!(reasons[1..], refused);
    assert_eq!(rows[0]["subject"], "ann");
    let text = place.run("audit list --user ann --kind login", "");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.lines().next().unwrap().contains("login      granted"),
        "{text}"
    );
    assert_eq!(place.run("audit list --limit 1", "").lines().count(), 1);
    assert!(!json.contains("canary") && !text.contains("canary"));
    let log = place.log();
    assert_eq!(log.matches(" audit: ").count(), 4, "{log}");
    assert!(
        place
            .refusal("audit list --since yesterday", "")
            .contains("10m")
    );
}

/// The trail, row by row.
fn trail(place: &Place) -> Vec<serde_json::Value> {
    let rows = place.run("audit export", "");
    rows.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_act_of_an_administrator_is_in_the_trail_with_who_did_it() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("user add ann", "canary-password");
    place.run("user add --superuser eve", "canary-password");
    place.run("user passwd ann", "canary-second");
    place.run("user disable ann", "");
    place.run("user enable ann", "");
    place.run("user delete ann", "");
    place.refusal("user delete ann", "");
    place.refusal("user add eve", "canary-password");
    let client = "client add robot --owner eve --grant client_credentials";
    let secret = place.run(client, "");
    place.refusal(client, "");
    place.run("client disable robot", "");
    place.run("client enable robot", "");
    place.run("client delete robot", "");
    place.refusal("client delete robot", "");
    place.run("session end --user eve", "");
    place.refusal("session end none", "");
    place.run("key revoke --user eve", "");
    place.refusal("key revoke none", "");
    let kid = place.run("keys rotate", "");
    let kid = kid.split(' ').next().unwrap();
    let running = place.serve(&[("FLUX_USER", "root"), ("FLUX_TOKEN", "canary-configured")]);
    assert!(running.stop());
    let again = place.serve(&[("FLUX_USER", "root"), ("FLUX_TOKEN", "canary-configured")]);
    assert!(again.stop());
    let rows = trail(&place);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["subject"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("user-add", Some("ann")),
            ("user-add-superuser", Some("eve")),
            ("user-passwd", Some("ann")),
            ("user-disable", Some("ann")),
            ("user-enable", Some("ann")),
            ("user-delete", Some("ann")),
            ("client-add", None),
            ("client-disable", None),
            ("client-enable", None),
            ("client-delete", None),
            ("session-end", Some("eve")),
            ("api-key-revoke", Some("eve")),
            ("key-rotate", None),
            ("superuser", Some("root")),
        ]
    );
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    let account = format!("account:{}", user.unwrap().unwrap().name);
    for row in &rows[..13] {
        assert_eq!(
            (&row["kind"], &row["outcome"]),
            (&"admin".into(), &"granted".into())
        );
        let source = row["source"].as_str().unwrap();
        assert_eq!(source.split(' ').next(), Some(account.as_str()), "{row}");
    }
    assert_eq!(rows[6]["detail"], "robot");
    assert_eq!(rows[12]["detail"], format!("access {kid}"));
    assert_eq!(rows[13]["source"], "configuration");
    let exported = place.run("audit export", "");
    assert!(!exported.contains("canary") && !exported.contains(secret.trim()));
}

/// How `audit verify` ends, and what it says.
fn verify(place: &Place, words: &str) -> (Option<i32>, String) {
    let output = place.run_with(&format!("audit verify {words}"), "");
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), said)
}

#[test]
fn the_trail_is_checked_pruned_and_checked_against_what_was_kept() {
    let place = Place::new();
    assert_eq!(verify(&place, "").0, Some(2));
    place.run("migrate", "");
    for name in ["ann", "bob", "eve"] {
        place.run(&format!("user add {name}"), "long horse");
    }
    let (code, said) = verify(&place, "");
    assert_eq!(code, Some(0), "{said}");
    let head = said.strip_prefix("holds: count 3 head ").unwrap().trim();
    let kept = format!("--head {head} --count 3");
    place.run("user disable bob", "");
    assert_eq!(verify(&place, &kept).0, Some(0));
    let (code, said) = verify(&place, &kept.replace("count 3", "count 2"));
    assert_eq!(code, Some(1));
    assert_eq!(said, "broken: row 2 is not the one whose hash was kept\n");
    assert_eq!(
        place.run("audit prune --before 1d", ""),
        "0 rows are pruned\n"
    );
    let pruned = place.run("audit prune --before 2999-01-01", "");
    assert_eq!(pruned, "4 rows are pruned\n");
    assert_eq!(verify(&place, "").0, Some(0));
    let rows = trail(&place);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["seq"], &rows[0]["action"]),
        (&5.into(), &"audit-prune".into())
    );
    assert!(
        place
            .refusal("audit verify --head 12 --count 3", "")
            .contains("64")
    );
    assert!(
        place
            .refusal("audit verify --count 3", "")
            .contains("--head")
    );
    fs::write(place.path("auth.db"), "no database").unwrap();
    fs::remove_file(place.path("auth.db-wal")).unwrap_or_default();
    assert_eq!(verify(&place, "").0, Some(2));
}

#[test]
fn a_service_that_is_killed_while_it_writes_leaves_a_trail_that_holds() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("user add ann", "long horse");
    let mut rows = 1;
    for _ in 0..3 {
        let running = place.serve(&[]);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for user in ["ann", "bob"] {
                let (running, stop) = (&running, &stop);
                scope.spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        // It breaks off when the service is killed.
                        let _ = running.try_login(user, "long+horse");
                    }
                });
            }
            // Until it has written some of them.
            let deadline = Instant::now() + Duration::from_secs(20);
            while trail(&place).len() < rows + 5 {
                assert!(Instant::now() < deadline, "nothing is written");
            }
            running.signal(nix::sys::signal::SIGKILL);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        drop(running);
        let (code, said) = verify(&place, "");
        assert_eq!(code, Some(0), "{said}");
        rows = trail(&place).len();
    }
}

#[test]
fn wide_key_files_and_directories_stop_the_start() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("keys rotate", "");
    let key = fs::read_dir(place.path("keys"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    assert!(
        place
            .refusal("serve --migrate", "")
            .contains("has mode 0640; allowed is 0600")
    );
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(place.path("keys"), Permissions::from_mode(0o750)).unwrap();
    assert!(
        place
            .refusal("serve --migrate", "")
            .contains("has mode 0750; allowed is 0700")
    );
}

#[test]
fn the_database_is_for_its_owner_alone() {
    let place = Place::new();
    place.run("migrate", "");
    let mode = fs::metadata(place.path("auth.db"))
        .unwrap()
        .permissions()
        .mode()
        & 0o7777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_configuration_is_checked_before_it_is_used() {
    let place = Place::new();
    let told = |change: &[(&str, &str)]| {
        let mut command = place.command("check-config");
        command.envs(change.iter().copied());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    // There is no database yet.
    let (code, text) = told(&[]);
    assert!(
        code == Some(2) && text.contains("error: database.url: "),
        "{text}"
    );
    place.run("migrate", "");
    let (code, text) = told(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("single-user, backend database, token handshake off"),
        "{text}"
    );
    // Cheap hashes are good for a test alone.
    assert!(text.contains("warning: passwords.memory_kib: "), "{text}");
    for refused in ["0", "9", "86401"] {
        let (code, text) = told(&[("AUTHSVC__KEYS__ACTIVATION_S", refused)]);
        assert_eq!(code, Some(2));
        assert!(text.contains("keys.activation_s: 10 to 86400"), "{text}");
    }
    let mut command = place.command("serve");
    let output = command.env("AUTHSVC__KEYS__ACTIVATION_S", "9").output();
    let complaint = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(complaint.contains("keys.activation_s"), "{complaint}");
    let (code, text) = told(&[("AUTHSVC__TOKENS__MINUTES", "601")]);
    assert_eq!(code, Some(2));
    assert!(text.contains("tokens.minutes: 1 to 600"), "{text}");
    let change = [
        ("AUTHSVC__LISTEN__SOCKET_MODE", "0660"),
        ("FLUX_SECRET_KEY", "canary"),
    ];
    let (_, text) = told(&change);
    assert!(text.contains("shared-secret, token handshake on"), "{text}");
    assert!(
        text.contains("warning: FLUX_SECRET_KEY: ") && !text.contains("canary"),
        "{text}"
    );
    let beyond = ("AUTHSVC__LISTEN__TCP", "192.0.2.1:5443");
    let (code, text) = told(&[beyond]);
    assert!(code == Some(0) && text.contains("by plain HTTP"), "{text}");
    let none = place.path("none.pem").display().to_string();
    let (code, text) = told(&[
        beyond,
        ("AUTHSVC__OAUTH__URL", "https://jobs.example.org"),
        ("AUTHSVC__LISTEN__TLS__CERTIFICATE", &none),
        ("AUTHSVC__LISTEN__TLS__KEY", &none),
    ]);
    assert!(code == Some(2) && !text.contains("plain HTTP"), "{text}");
    assert!(text.contains("error: listen.tls: "), "{text}");
    place.configure("[passwords]\nmemory = 8");
    assert!(told(&[]).1.contains("memory"));
}

#[test]
fn a_key_that_signs_no_longer_can_be_retired() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("keys rotate", "");
    let kid = |state: &str| {
        let listed = place.run("keys list", "");
        let line = listed.lines().find(|line| line.contains(state));
        line.map(|line| line.split_whitespace().next().unwrap().to_owned())
    };
    let first = kid("signing").unwrap();
    assert!(
        place
            .refusal(&format!("keys retire {first}"), "")
            .contains("rotate first")
    );
    assert!(
        place
            .refusal("keys retire none", "")
            .contains("there is no key")
    );
    place.run("keys rotate", "");
    let next = kid("next").unwrap();
    place.run(&format!("keys retire {next}"), "");
    assert!(kid("next").is_none());
    assert!(place.run("audit list", "").contains("key-retire"));
    place.run("audit verify", "");
}

#[test]
fn secrets_are_in_no_log_even_at_its_most_talkative() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("user add ann", "canary-password");
    let running = place.serve(&[
        ("AUTHSVC_LOG", "trace"),
        ("FLUX_SECRET_KEY", "canary-secret"),
        ("FLUX_TOKEN", "canary-superuser"),
    ]);
    let answer = running.login("ann", "canary-password");
    let (_, token) = answer.split_once("\"access_token\":\"").unwrap();
    let signature = token.split('"').next().unwrap().rsplit('.').next().unwrap();
    let bearer = "authorization: Bearer canary-payload\r\n";
    assert!(
        running
            .post("/v1/token", bearer, "")
            .starts_with("HTTP/1.1 400 ")
    );
    running.login("ann%0Aforged+line", "canary-wrong");
    assert!(running.stop());
    let log = place.log();
    assert!(
        log.contains("logged in") && log.contains("refused"),
        "{log}"
    );
    assert!(!log.contains("canary") && !log.contains(signature), "{log}");
    assert!(log.lines().all(|line| !line.starts_with("forged")), "{log}");
}

#[test]
fn t105_what_the_commands_end_counts_no_more_in_the_running_service() {
    let place = Place::new();
    place.run("migrate", "");
    for user in ["ann", "bob", "carl", "dan", "eve"] {
        place.run(&format!("user add {user}"), "long horse");
    }
    let running = place.serve(&[]);
    for (user, words) in [
        ("ann", "user passwd ann"),
        ("bob", "user disable bob"),
        ("carl", "user delete carl"),
        ("dan", "session end --user dan"),
    ] {
        let (tokens, other) = (running.sign_in(user), running.sign_in("eve"));
        place.run(words, "long horse");
        assert!(!running.counts(&tokens), "{words}");
        assert!(running.counts(&other), "{words}");
    }
    // Whoever logs in after the command is not taken for who was there before.
    let again = running.sign_in("ann");
    let (_, payload) = again.0.split_once('.').unwrap();
    let payload = payload.split('.').next().unwrap();
    let payload =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload);
    let claims: serde_json::Value = serde_json::from_slice(&payload.unwrap()).unwrap();
    assert!(running.counts(&again));
    let mut stream = UnixStream::connect(&running.socket).unwrap();
    let head = "GET /internal/revocations HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut feed = String::new();
    stream.read_to_string(&mut feed).unwrap();
    let (_, feed) = feed.split_once("\r\n\r\n").unwrap();
    let feed: serde_json::Value = serde_json::from_str(feed).unwrap();
    let entries = feed["entries"].as_array().unwrap();
    let accounts: Vec<_> = entries
        .iter()
        .filter(|entry| entry["kind"] == "account")
        .map(|entry| entry["value"].as_str().unwrap())
        .collect();
    assert_eq!(accounts, ["ann", "bob", "carl"]);
    let of_ann = entries
        .iter()
        .find(|entry| entry["value"] == "ann")
        .unwrap();
    assert!(claims["iat"].as_u64() >= of_ann["before_s"].as_u64());
    assert!(running.stop());
}

#[test]
fn sessions_are_listed_and_ended() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("user add ann", "long horse");
    let running = place.serve(&[]);
    let tokens = running.sign_in("ann");
    running.login("ann", "long+horse");
    let list =
        |words: &str| -> serde_json::Value { serde_json::from_str(&place.run(words, "")).unwrap() };
    let listed = list("session list --json");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let session = &listed[0];
    assert_eq!(
        (&session["user"], &session["client"]),
        (&"ann".into(), &"warrant".into())
    );
    assert_eq!(
        (&session["kind"], &session["role"]),
        (&"login".into(), &"user".into())
    );
    let id = session["id"].as_str().unwrap().to_owned();
    assert!(place.run("session list --user ann", "").contains(&id));
    assert_eq!(place.run("session list --user bob", ""), "");
    assert!(running.counts(&tokens));
    assert_eq!(place.run(&format!("session end {id}"), ""), "1 ended\n");
    assert!(!running.counts(&tokens));
    let complaint = place.refusal(&format!("session end {id}"), "");
    assert!(complaint.contains("no such session"), "{complaint}");
    assert_eq!(list("session list --json").as_array().unwrap().len(), 1);
    let all = list("session list --all --json");
    assert_eq!(all[0]["ended_reason"], "ended");
    assert!(
        place
            .run("session list --all", "")
            .contains("ended (ended)")
    );
    assert_eq!(place.run("session end --user ann", ""), "1 ended\n");
    place.refusal("session end", "");
    assert!(running.stop());
    let log = place.log();
    assert!(!log.contains(&tokens.0) && !log.contains(&tokens.1));
}

#[test]
fn clients_are_added_listed_disabled_and_deleted() {
    let place = Place::new();
    place.run("migrate", "");
    place.run("user add ann", "long horse");
    let add = "client add robot --owner ann --grant client_credentials --scope read";
    let secret = place.run(add, "").trim().to_owned();
    assert!(secret.starts_with("wrs_") && secret.len() == 47, "{secret}");
    assert!(
        place
            .refusal(add, "")
            .contains("there is a client robot already")
    );
    let public = "client add app --public --grant authorization_code --grant refresh_token \
                  --redirect-uri http://127.0.0.1/callback";
    assert_eq!(place.run(public, ""), "");
    let listed = place.run("client list --json", "");
    assert!(!listed.contains(&secret) && !place.run("client list", "").contains(&secret));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let ids: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|client| &client["id"])
        .collect();
    assert_eq!(ids, ["app", "robot", "warrant"]);
    assert_eq!(listed[0]["public"], true);
    assert_eq!(
        (&listed[1]["owner"], &listed[1]["scope"]),
        (&"ann".into(), &"read".into())
    );

    let running = place.serve(&[]);
    let body = format!("grant_type=client_credentials&client_id=robot&client_secret={secret}");
    let ask = || running.form("/oauth/token", &body);
    let token = ask()["access_token"].as_str().unwrap().to_owned();
    let active = || running.form("/oauth/introspect", &format!("token={token}"))["active"].clone();
    assert_eq!(active(), true);
    place.run("client disable robot", "");
    assert_eq!(
        (active(), &ask()["error"]),
        (false.into(), &"invalid_client".into())
    );
    place.run("client enable robot", "");
    assert!(ask()["access_token"].is_string());
    assert_eq!(active(), false);
    place.run("client delete robot", "");
    assert_eq!(ask()["error"], "invalid_client");
    assert!(running.stop());
    for words in ["disable", "enable", "delete"] {
        let complaint = place.refusal(&format!("client {words} robot"), "");
        assert!(complaint.contains("there is no client"), "{complaint}");
    }
    assert!(!place.log().contains(&secret));
}

#[test]
fn a_client_that_could_be_misused_is_not_added() {
    let place = Place::new();
    place.run("migrate", "");
    for (words, complaint) in [
        ("flux --grant password", "and not flux"),
        ("a/b --grant password", "1 to 64"),
        ("a --grant implicit", "--grant:"),
        ("a --grant password --scope root", "--scope:"),
        ("a --grant client_credentials", "--owner:"),
        ("a --grant password --owner ann", "--owner:"),
        ("a --grant client_credentials --owner a/b", "--owner:"),
        (
            "a --public --grant client_credentials --owner ann",
            "--public:",
        ),
        ("a --grant authorization_code", "--redirect-uri:"),
        (
            "a --grant password --redirect-uri https://a.test/",
            "--redirect-uri:",
        ),
        (
            "a --grant authorization_code --redirect-uri http://a.test/",
            "--redirect-uri:",
        ),
        (
            "a --grant authorization_code --redirect-uri https://*.test/",
            "--redirect-uri:",
        ),
    ] {
        let told = place.refusal(&format!("client add {words}"), "");
        assert!(told.contains(complaint), "{words}: {told}");
    }
}
