//! Several backends, in their order.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::Instant;
use warrant_pam::{FRAME_BYTES, Question, Verdict};

use super::house::{House, SECRET, credentials, settings};
use crate::commands::user::UserCommand;
use crate::config::Config;
use crate::store::users;
use crate::user_name::UserName;

const WRONG: &str = "Incorrect user or password";
/// What the accounts of this test's system have as their password.
const SYSTEM: &str = "system";

/// Names and passwords that PAM was asked about.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// Answer at `socket` as `warrant-pam` does.
fn answer_as_pam(socket: &Path) -> Asked {
    let listener = UnixListener::bind(socket).unwrap();
    let asked = Asked::default();
    let heard = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut frame = [0; FRAME_BYTES];
            stream.read_exact(&mut frame).await.unwrap();
            let question = Question::decode(&frame).unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let password = text(question.password());
            let verdict = match password.as_str() {
                SYSTEM => Verdict::Accepted,
                _ => Verdict::Denied,
            };
            let pair = (question.name().to_owned(), password);
            heard.lock().unwrap().push(pair);
            stream.write_all(&[verdict.code()]).await.unwrap();
        }
    });
    asked
}

/// A house with `backends` where `daemon` and `bin` are accounts, and `bin` and
/// `ann` have the password `pw` in the database.
async fn open(backends: &str, multi_user: bool) -> (House, Asked) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pam.sock");
    let asked = answer_as_pam(&socket);
    let configure = |config: &mut Config| {
        config.pam.socket = socket;
        config.accounts.min_uid = 1;
        if multi_user {
            config.mode = crate::config::Mode::MultiUser;
            config.warrants.broker_uid = Some(nix::unistd::geteuid().as_raw());
        }
    };
    let variables = [("FLUX_AUTH_BACKEND", backends), ("FLUX_SECRET_KEY", SECRET)];
    let house = House::open_in(dir, &variables, configure).await;
    house.add("bin", "pw").await;
    (house, asked)
}

fn names(asked: &Asked) -> Vec<String> {
    let asked = asked.lock().unwrap();
    asked.iter().map(|(name, _)| name.clone()).collect()
}

/// What the last refusal is recorded as.
async fn last(house: &House) -> (Option<String>, Option<String>) {
    let row = house.audit().await.pop().unwrap();
    (row.reason, row.detail)
}

fn said(reason: &str, detail: Option<&str>) -> (Option<String>, Option<String>) {
    (Some(reason.to_owned()), detail.map(str::to_owned))
}

#[tokio::test]
async fn a_password_is_judged_by_the_first_that_knows_the_user_and_by_nobody_else() {
    let (house, asked) = open("database,pam", true).await;
    let answer = house.login("bin", "pw", "192.0.2.1").await;
    assert_eq!(house.verify(answer.token()).await.1.uid, Some(2));
    house.login("daemon", SYSTEM, "192.0.2.1").await.token();
    let answer = house.handshake(credentials("daemon", SYSTEM)).await;
    assert_eq!(house.verify(answer.token()).await.1.uid, Some(1));
    assert_eq!(names(&asked), ["daemon", "daemon"]);
    // The account of the same name has this password, but does not count.
    house
        .login("bin", SYSTEM, "192.0.2.1")
        .await
        .is_refused(400, WRONG);
    assert_eq!(last(&house).await, said("password", Some("database")));
    assert_eq!(names(&asked).len(), 2, "a wrong password went on to PAM");
    house.close().await;

    let (house, asked) = open("pam,database", true).await;
    house.login("bin", SYSTEM, "192.0.2.1").await.token();
    house
        .login("bin", "pw", "192.0.2.1")
        .await
        .is_refused(400, WRONG);
    assert_eq!(last(&house).await, said("password", Some("pam")));
    assert_eq!(names(&asked), ["bin", "bin"]);
    house.close().await;
}

#[tokio::test]
async fn in_single_user_mode_only_those_whom_pam_proves_need_an_account() {
    let (house, _) = open("database,pam", false).await;
    let ann = house.login("ann", "pw", "192.0.2.1").await;
    assert_eq!(house.verify(ann.token()).await.1.uid, None);
    house.login("daemon", SYSTEM, "192.0.2.1").await.token();
    house
        .login("nobody", SYSTEM, "192.0.2.1")
        .await
        .is_refused(400, WRONG);
    assert_eq!(last(&house).await, said("uid-range", None));
    house.close().await;
}

#[tokio::test]
async fn t97_every_failure_takes_as_long_whoever_knows_the_user() {
    for backends in ["database,pam", "pam,database"] {
        let (house, _) = open(backends, true).await;
        let took = async |user: &str, password: &str| {
            let began = Instant::now();
            let source = format!("192.0.2.{}", user.len());
            let answer = house.login(user, password, &source).await;
            answer.is_refused(400, WRONG);
            began.elapsed()
        };
        let times: [_; 6] = tokio::join!(
            took("bin", "wrong"),
            took("daemon", "wrong"),
            took("no-such-user", "wrong"),
            took("ann", "wrong"),
            took("root", SYSTEM),
            took("1000", "wrong"),
        )
        .into();
        for time in &times {
            assert!(time.as_millis() >= 2000, "{backends}: {times:?}");
        }
        house.close().await;
    }
}

#[tokio::test]
async fn t99_whoever_is_throttled_or_disabled_is_not_asked_about() {
    let (house, asked) = open("database,pam", true).await;
    house.login("daemon", SYSTEM, "192.0.2.1").await.token();
    let settings = settings(&house.dir, &[("FLUX_AUTH_BACKEND", "database,pam")], |_| {});
    let name = || "daemon".to_owned();
    let disable = UserCommand::Disable { name: name() };
    disable.run(&settings, &house.db).await.unwrap();
    house
        .login("daemon", SYSTEM, "192.0.2.1")
        .await
        .is_refused(400, WRONG);
    assert_eq!(last(&house).await.0.as_deref(), Some("user-disabled"));
    assert_eq!(
        names(&asked).len(),
        1,
        "PAM was asked about a disabled user"
    );
    let enable = UserCommand::Enable { name: name() };
    enable.run(&settings, &house.db).await.unwrap();
    house.login("daemon", SYSTEM, "192.0.2.1").await.token();
    house.close().await;
}

#[tokio::test]
async fn a_user_of_pam_alone_can_be_disabled_and_loses_what_it_has() {
    let (house, asked) = open("pam", false).await;
    let answer = house.login("daemon", SYSTEM, "192.0.2.1").await;
    let (_, claims) = house.verify(answer.token()).await;
    let settings = settings(&house.dir, &[("FLUX_AUTH_BACKEND", "pam")], |_| {});
    let disable = UserCommand::Disable {
        name: "daemon".into(),
    };
    disable.run(&settings, &house.db).await.unwrap();
    let alive = house.service.login.sessions.alive(&claims).await.unwrap();
    assert_eq!(alive, None);
    house
        .login("daemon", SYSTEM, "192.0.2.1")
        .await
        .is_refused(400, WRONG);
    assert_eq!(last(&house).await, said("user-disabled", Some("pam")));
    assert_eq!(names(&asked).len(), 1);
    let name = UserName::parse("daemon").unwrap();
    let row = users::find(&mut house.db.read().await.unwrap(), &name).await;
    assert_eq!(row.unwrap().unwrap().by, users::By::Pam);
    house.close().await;
}

#[tokio::test]
async fn a_user_of_the_database_must_exist_to_be_disabled() {
    let house = House::open().await;
    let settings = settings(&house.dir, &[], |_| {});
    let disable = UserCommand::Disable { name: "bob".into() };
    assert!(disable.run(&settings, &house.db).await.is_err());
    house.close().await;
}
