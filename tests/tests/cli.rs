//! `warrant`, the command people type, against the real services.

mod jobs;
mod login;
mod up;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use warrant_tests::house::{ADMIN, ADMIN_PASSWORD, SECRET};
use warrant_tests::ports::free_address;
use warrant_tests::processes::{self, send};
use warrant_tests::service::{self, Service, Variables};
use warrant_tests::wait::until;
use warrant_tests::{Database, House, Setup, on_each_database};

/// Where the command finds the server and keeps what it remembers.
struct Shell(Variables);

impl Shell {
    fn new(url: &str, home: &Path, more: &[(&str, &str)]) -> Self {
        let own = [
            ("PATH", "/usr/bin:/bin"),
            ("HOME", home.to_str().unwrap()),
            ("FLUX_RESTFUL_HOST", url),
        ];
        let all = own.iter().chain(more);
        Self(
            all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    fn run(&self, words: &[&str]) -> Output {
        service::run("warrant", words, &self.0, "")
    }

    /// What the command prints, where it succeeds.
    #[track_caller]
    fn prints(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn shell(house: &House, more: &[(&str, &str)]) -> Shell {
    let url = format!("http://{}", house.nobody().address());
    let admin = [("FLUX_USER", ADMIN), ("FLUX_TOKEN", ADMIN_PASSWORD)];
    Shell::new(&url, &house.path("home"), &[&admin, more].concat())
}

on_each_database! {
    fn jobs_are_submitted_followed_listed_and_cancelled(setup: Setup) {
        let house = setup.open();
        for more in [&[][..], &[("FLUX_SECRET_KEY", SECRET)]] {
            let shell = shell(&house, more);
            let words = ["submit", "--wait", "--", "sh", "-c", "echo \"a  b\" '$c'; exit 3"];
            let output = shell.run(&words);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "a  b $c\n");
            assert_eq!(output.status.code(), Some(3));
            let options = ["submit", "-n", "2", "-e", "GREETING=good day", "-C", "/", "-t", "1m",
                "--", "sh", "-c", "echo $GREETING; pwd"];
            let id = shell.prints(&options).trim().to_owned();
            let mut lines: Vec<String> = shell.prints(&["logs", "-f", &id])
                .lines()
                .map(str::to_owned)
                .collect();
            lines.sort();
            assert_eq!(lines, ["/", "/", "good day", "good day"]);
            let list = shell.prints(&["jobs"]);
            assert!(list.contains(&id) && list.contains("completed"), "{list}");
            let found = shell.prints(&["jobs", "--search", "good day"]);
            assert!(!found.contains(&id), "variables are not searched: {found}");
            let running = shell.prints(&["submit", "--", "sleep", "300"]).trim().to_owned();
            shell.prints(&["cancel", &running]);
            let info = until("the job to end", || {
                let info = shell.prints(&["info", &running, "--json"]);
                info.contains("INACTIVE").then_some(info)
            });
            assert!(info.contains("CANCELED"), "{info}");
            assert!(!shell.run(&["cancel", &running]).status.success());
            assert_eq!(shell.prints(&["nodes"]).lines().count(), 1);
        }
        house.close();
    }
}

#[test]
fn a_login_is_remembered_and_needs_no_password_again() {
    let house = House::open();
    house.user("ann");
    let url = format!("http://{}", house.nobody().address());
    let password = House::password("ann");
    let with = Shell::new(
        &url,
        &house.path("home"),
        &[("FLUX_USER", "ann"), ("FLUX_TOKEN", &password)],
    );
    with.prints(&["login"]);
    let without = Shell::new(&url, &house.path("home"), &[]);
    let id = without.prints(&["submit", "--", "true"]);
    assert!(id.trim().parse::<i64>().is_ok(), "{id}");
    house.close();
}

#[test]
fn t101_a_login_is_bound_to_a_key_where_the_server_says_so_and_stolen_in_vain() {
    let address = free_address().to_string();
    let url = format!("http://{address}");
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__LISTEN__HTTP", &address)
        .set("AUTHSVC__OAUTH__URL", &url)
        .open();
    let home = house.path("home");
    let login = [("FLUX_USER", ADMIN), ("FLUX_TOKEN", ADMIN_PASSWORD)];
    Shell::new(&url, &home, &login).prints(&["login"]);
    let without = Shell::new(&url, &home, &[]);
    let words = ["submit", "--wait", "--", "echo", "bound"];
    assert_eq!(without.prints(&words), "bound\n");
    assert!(without.prints(&["jobs"]).contains("completed"));
    let state = home.join(".local/state/warrant");
    let mode = |name: &str| {
        let found = fs::metadata(state.join(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777
    };
    assert_eq!((mode("token.json"), mode("dpop.key")), (0o600, 0o600));
    // Whoever has the file of the token alone has nothing.
    let kept = fs::read_to_string(state.join("token.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let token = kept["access_token"].as_str().unwrap();
    let answer = house.nobody().with_token(token).get("/v1/nodes");
    assert_eq!(answer.status, 401);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("DPoP error=\"invalid_token\""),
        "{challenge}"
    );
    fs::remove_file(state.join("dpop.key")).unwrap();
    assert!(!without.run(&["nodes"]).status.success());
    house.close();
}

/// What `warrant up` runs, found by the mark that it hands on.
const MARK: &str = "warrant_up";

/// Start `warrant` as an ordinary user: where the tests are root, in a name
/// space in which root is one, with root's files and no power over others'.
fn start_as_user(arguments: &[&str], variables: &Variables, log: &Path) -> Service {
    if !nix::unistd::geteuid().is_root() {
        return Service::start("warrant", arguments, variables, log);
    }
    let program = service::program("warrant");
    let mut words = vec!["--user", "--map-user=1000", "--map-group=1000"];
    words.push(program.to_str().unwrap());
    words.extend(arguments);
    Service::start_as(0, Path::new("/usr/bin/unshare"), &words, variables, log)
}

#[test]
fn warrant_up_starts_everything_in_one_directory_and_stops_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    let mark = format!("{MARK}_{}", std::process::id());
    let variables = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", home.to_str().unwrap()),
        (processes::MARK, &mark),
    ];
    let variables: Variables = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let arguments = ["up", "--quiet", "--cores", "2", "--listen", "127.0.0.1:0"];
    let arguments = [&arguments[..], &["--state-dir", state.to_str().unwrap()]].concat();
    let log: PathBuf = dir.path().join("log");
    // Twice: the second finds what the first has left.
    for round in 1..=2 {
        let _ = fs::remove_file(&log);
        let mut up = start_as_user(&arguments, &variables, &log);
        let url = until("the address", || {
            assert!(up.ended().is_none(), "{}", up.log());
            let log = up.log();
            let (line, _) = log[log.find("http://")?..].split_once('\n')?;
            Some(line.trim().to_owned())
        });
        // t125: no relative path of a job means a place of the server's.
        for process in processes::marked(&mark) {
            let place = fs::read_link(format!("/proc/{}/cwd", process.pid));
            if let Ok(place) = place {
                assert_eq!(place, Path::new("/"), "{}", process.command);
            }
        }
        let secret = |name: &str| fs::read_to_string(state.join("secrets").join(name)).unwrap();
        let (token, key) = (secret("flux_token"), secret("flux_secret_key"));
        let shell = Shell::new(
            &url,
            &home,
            &[
                ("FLUX_USER", ADMIN),
                ("FLUX_TOKEN", token.trim()),
                ("FLUX_SECRET_KEY", key.trim()),
            ],
        );
        let described = ureq::get(format!("{url}/.well-known/oauth-authorization-server"));
        let described = described
            .call()
            .unwrap()
            .into_body()
            .read_to_string()
            .unwrap();
        assert!(
            described.contains(&format!("\"{url}/oauth/token\"")),
            "{described}"
        );
        let hello = shell.prints(&["submit", "--wait", "--", "echo", "hello"]);
        assert_eq!(hello, "hello\n");
        assert_eq!(
            shell.prints(&["jobs", "--all"]).matches("echo").count(),
            round
        );
        send(up.pid(), nix::sys::signal::Signal::SIGTERM);
        assert!(up.wait().success(), "{}", up.log());
        until("all of it to end", || {
            processes::marked(&mark).is_empty().then_some(())
        });
    }
}

#[test]
fn warrant_up_speaks_tls_and_says_how_clients_come_to_believe_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("home")).unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(path("c.pem"), own.cert.pem()).unwrap();
    fs::write(path("k.pem"), own.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(path("k.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let mark = format!("{MARK}_tls_{}", std::process::id());
    let variables = [
        ("PATH", "/usr/bin:/bin".to_owned()),
        ("HOME", path("home")),
        (processes::MARK, mark.clone()),
        // The auth service listens on TCP as well here, and not in the clear.
        ("AUTHSVC__LISTEN__TCP", "127.0.0.1:0".to_owned()),
    ];
    let variables: Variables = variables
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    let (state, log) = (path("state"), path("log"));
    let words = ["up", "--listen", "127.0.0.1:0", "--state-dir", &state];
    let certificate = path("c.pem");
    let half = [&words[..], &["--tls-cert", &certificate]].concat();
    assert_eq!(
        service::run("warrant", &half, &variables, "").status.code(),
        Some(2)
    );
    let key = path("k.pem");
    let whole = [&half[..], &["--tls-key", &key]].concat();
    let mut up = start_as_user(&whole, &variables, Path::new(&log));
    let url = until("the server to be ready", || {
        assert!(up.ended().is_none(), "{}", up.log());
        let log = up.log();
        log.contains("Ctrl-C stops the server").then_some(())?;
        let (_, rest) = log.split_once("Warrant is ready at ")?;
        rest.lines().next().map(str::to_owned)
    });
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let said = up.log();
    let trust = format!("export WARRANT_CA_FILE={certificate} CURL_CA_BUNDLE={certificate} ");
    assert!(said.contains(&trust), "{said}");

    let curl = |words: &[&str]| {
        let mut curl = std::process::Command::new("curl");
        let quiet = ["--silent", "--show-error", "--max-time", "20"];
        curl.env_clear().args(quiet).args(words).output().unwrap()
    };
    let about = format!("{url}/.well-known/oauth-authorization-server");
    let seen = curl(&["--fail", "--cacert", &certificate, &about]);
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains(&format!("\"{url}/oauth/token\"")), "{seen}");
    assert!(!curl(&[&about]).status.success());
    let plain = curl(&[&about.replace("https:", "http:")]);
    assert!(!plain.status.success() && plain.stdout.is_empty());
    let (_, rest) = said.split_once("tcp=127.0.0.1:").unwrap();
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let direct = format!("https://localhost:{port}/v1/auth");
    assert!(
        curl(&["--fail", "--cacert", &certificate, &direct])
            .status
            .success()
    );

    let secret = |name: &str| fs::read_to_string(path("state/secrets/") + name).unwrap();
    let (token, secret_key) = (secret("flux_token"), secret("flux_secret_key"));
    let login = [
        ("FLUX_USER", ADMIN),
        ("FLUX_TOKEN", token.trim()),
        ("FLUX_SECRET_KEY", secret_key.trim()),
    ];
    let home = path("home");
    let stranger = Shell::new(&url, Path::new(&home), &login).run(&["jobs"]);
    let complaint = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(
        !stranger.status.success() && complaint.contains("--ca-file"),
        "{complaint}"
    );
    let trusting = [&login[..], &[("WARRANT_CA_FILE", certificate.as_str())]].concat();
    let shell = Shell::new(&url, Path::new(&home), &trusting);
    let hello = shell.prints(&["submit", "--wait", "--", "echo", "hello"]);
    assert_eq!(hello, "hello\n");
    // Bound to a key where the server offers that: the address must be the same.
    shell.prints(&["login"]);
    assert!(shell.prints(&["jobs", "--all"]).contains("echo"));
    send(up.pid(), nix::sys::signal::Signal::SIGTERM);
    assert!(up.wait().success(), "{}", up.log());
    until("all of it to end", || {
        processes::marked(&mark).is_empty().then_some(())
    });
}
