//! Logging in by a code and by a browser, and going on with it.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};
use warrant_tests::ports::free_address;
use warrant_tests::service::Service;
use warrant_tests::wait::until;
use warrant_tests::{Database, House, Setup};

use super::Shell;

/// A house that knows its own address, and so binds the tokens of those who
/// can prove that they hold a key.
fn house() -> (House, String) {
    let address = free_address().to_string();
    let url = format!("http://{address}");
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__LISTEN__HTTP", &address)
        .set("AUTHSVC__OAUTH__URL", &url)
        .open();
    house.user("ann");
    (house, url)
}

struct Kept(PathBuf);

impl Kept {
    fn of(home: &Path) -> Self {
        Self(home.join(".local/state/warrant/token.json"))
    }

    fn read(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(&self.0).unwrap()).unwrap()
    }

    fn write(&self, kept: &Value) {
        fs::write(&self.0, kept.to_string()).unwrap();
        fs::set_permissions(&self.0, Permissions::from_mode(0o600)).unwrap();
    }

    fn refresh_token(&self) -> String {
        let token = self.read()["renewal"]["refresh_token"].clone();
        token.as_str().unwrap().to_owned()
    }

    /// As if its access token were over.
    fn age(&self) {
        let mut kept = self.read();
        kept["expires_at"] = json!(0);
        self.write(&kept);
    }
}

/// What the command says first: the line with `mark`, once it is there.
fn line(service: &Service, mark: &str) -> String {
    until("the command to say what to do", || {
        let log = service.log();
        let found = log.lines().find(|line| line.contains(mark))?;
        log.contains("Waiting").then(|| found.trim().to_owned())
    })
}

#[test]
fn a_shell_without_a_browser_logs_in_by_a_code_and_goes_on_until_it_logs_out() {
    let (house, url) = house();
    let home = house.path("home");
    let shell = Shell::new(&url, &home, &[]);
    let words = ["login", "--device", "--scopes", "read,submit"];
    let mut login = Service::start("warrant", &words, &shell.0, &house.path("login.log"));
    let is_code = |word: &&str| word.len() == 9 && word.as_bytes()[4] == b'-';
    let code = until("a code", || {
        let log = login.log();
        log.split_whitespace().find(is_code).map(str::to_owned)
    });
    assert!(login.log().contains(&format!("{url}/oauth/device")));
    let decided = json!({"user_code": code, "decision": "approve"});
    house
        .login("ann")
        .post_json("/oauth/device", &decided)
        .with(200);
    assert!(login.wait().success(), "{}", login.log());
    assert!(login.log().contains("as ann until"), "{}", login.log());
    let id = shell.prints(&["submit", "--", "sleep", "300"]);
    // It asked for no more than this.
    let refused = shell.run(&["cancel", id.trim()]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("scope"));
    let kept = Kept::of(&home);
    assert!(kept.read()["bound"].is_string(), "it is bound to no key");
    let first = kept.refresh_token();
    kept.age();
    // Many at once: one of them gets the next tokens for all.
    thread::scope(|scope| {
        let jobs = || shell.prints(&["jobs"]);
        let all: Vec<_> = (0..6).map(|_| scope.spawn(jobs)).collect();
        for one in all {
            assert!(one.join().unwrap().contains(id.trim()));
        }
    });
    assert_ne!(kept.refresh_token(), first);
    let refreshed = until("the audit trail to tell of it", || {
        let rows = house.audit("warrant-authsvc").into_iter();
        let rows = rows.filter(|row| row["kind"] == "refresh" && row["outcome"] == "granted");
        Some(rows.count()).filter(|count| *count > 0)
    });
    assert_eq!(refreshed, 1, "more than one command went on");
    let stolen = kept.read();
    assert!(shell.prints(&["logout"]).starts_with("Logged out of"));
    assert!(!kept.0.exists());
    assert!(shell.prints(&["logout"]).contains("not logged in"));
    // What somebody copied before is of no more use.
    for expires_at in [json!(0), json!(i64::MAX)] {
        let stolen = {
            let mut stolen = stolen.clone();
            stolen["expires_at"] = expires_at;
            stolen
        };
        // The broker hears of it within seconds.
        let said = until("the login to have ended", || {
            kept.write(&stolen);
            let output = shell.run(&["jobs"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (!output.status.success()).then_some(said)
        });
        assert!(said.contains("has ended: log in again"), "{said}");
    }
    house.admin().cancel(id.trim().parse().unwrap()).with(200);
    house.close();
}

#[test]
fn t107_a_browser_brings_a_code_that_only_this_command_can_use() {
    let (house, url) = house();
    let home = house.path("home");
    let shell = Shell::new(&url, &home, &[]);
    let words = ["login", "--browser"];
    let mut login = Service::start("warrant", &words, &shell.0, &house.path("login.log"));
    let page = line(&login, "/oauth/authorize?");
    let query = page.split_once('?').unwrap().1;
    let asked: serde_json::Map<_, _> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), json!(value)))
        .collect();
    assert_eq!(asked["code_challenge_method"], "S256");
    let back = asked["redirect_uri"].as_str().unwrap().to_owned();
    // Another program on this machine cannot end the wait, or slip in a code
    // of its own.
    for forged in ["", "?code=c", "?code=c&state=x", "?error=access_denied"] {
        assert!(get(&format!("{back}{forged}")).starts_with("HTTP/1.1 404"));
    }
    let ann = house.login("ann");
    let given = ann
        .post_json("/oauth/authorize", &Value::Object(asked))
        .with(200);
    let redirect = given["redirect"].as_str().unwrap();
    assert!(redirect.starts_with(&back), "{redirect}");
    assert!(get(redirect).starts_with("HTTP/1.1 200"));
    assert!(login.wait().success(), "{}", login.log());
    assert!(!login.log().contains("code="), "{}", login.log());
    assert_eq!(
        shell.prints(&["submit", "--wait", "--", "echo", "hi"]),
        "hi\n"
    );
    // The code was for one use, and for the verifier that the command kept.
    let code = redirect.split("code=").nth(1).unwrap();
    let code = code.split('&').next().unwrap();
    let again = house.nobody().post_form(
        "/oauth/token",
        &format!("grant_type=authorization_code&client_id=warrant&code={code}&redirect_uri={back}"),
    );
    assert_eq!(again.status, 400);
    house.close();
}

/// The answer to `GET` of an address on this machine.
fn get(address: &str) -> String {
    let rest = address.strip_prefix("http://").unwrap();
    let (place, path) = rest.split_once('/').unwrap();
    let mut connection = TcpStream::connect(place).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {place}\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}
