//! Who may log in where users are accounts of the machine.

use warrant_api::token::Role;

use super::house::{House, SECRET, credentials, settings};
use crate::commands::serve::start;
use crate::config::Mode;
use crate::store;
use warrant_migrations::Schema;

const WRONG: &str = "Incorrect user or password";

#[tokio::test]
async fn a_token_names_the_accounts_user_id_whichever_way_it_was_got() {
    let house = House::open_multi_user(|_| {}).await;
    let answer = house.login("bin", "pw", "192.0.2.1").await;
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!((claims.sub.as_str(), claims.uid), ("bin", Some(2)));
    let answer = house.handshake(credentials("daemon", "pw")).await;
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!((claims.uid, claims.role), (Some(1), Role::User));
    house.close().await;
}

#[tokio::test]
async fn in_single_user_mode_a_user_needs_no_account() {
    let house = House::open().await;
    let answer = house.login("ann", "pw", "192.0.2.1").await;
    assert_eq!(house.verify(answer.token()).await.1.uid, None);
    house.close().await;
}

#[tokio::test]
async fn t28_a_user_without_an_account_in_range_is_told_so_once_the_password_was_right() {
    let house = House::open_multi_user(|_| {}).await;
    // `ann` has a password and no account; the others are no people's.
    for user in ["root", "nobody"] {
        house.add(user, "pw").await;
    }
    let told = [
        ("ann", "no account of this name"),
        ("root", "System accounts"),
        ("nobody", "System accounts"),
    ];
    for (number, (user, why)) in told.into_iter().enumerate() {
        let answer = house.login(user, "pw", &format!("192.0.2.{number}")).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.body.to_string().contains(why),
            "{user}: {:?}",
            answer.body
        );
        let answer = house.handshake(credentials(user, "pw")).await;
        assert!(
            answer.body.to_string().contains(why),
            "{user}: {:?}",
            answer.body
        );
    }
    // Without the password, nobody learns who has an account.
    for (number, user) in ["ann", "root", "no-such-account", "0", "1"]
        .into_iter()
        .enumerate()
    {
        let answer = house
            .login(user, "wrong", &format!("192.0.3.{number}"))
            .await;
        answer.is_refused(400, WRONG);
    }
    let reasons: Vec<_> = house
        .audit()
        .await
        .into_iter()
        .map(|row| row.reason)
        .collect();
    let expected = [
        "account-unknown",
        "account-unknown",
        "uid-range",
        "uid-range",
        "uid-range",
        "uid-range",
        "password",
        "password",
        "user-unknown",
        "user-unknown",
        "user-unknown",
    ];
    assert_eq!(reasons, expected.map(|reason| Some(reason.to_owned())));
    house.close().await;
}

#[tokio::test]
async fn t30_hostile_names_are_refused_before_the_name_service_is_asked() {
    let house = House::open_multi_user(|_| {}).await;
    let names = [
        "daemon%00",
        "daemon%0a",
        "daemon%0d",
        "daemon%1b[m",
        "..%2fdaemon",
        "daemon%2f",
        "daemon:",
        "daemon,bin",
        "-daemon",
        "%2e%2e",
        &"a".repeat(256),
        &"a".repeat(300),
    ];
    for (number, name) in names.into_iter().enumerate() {
        let answer = house.login(name, "pw", &format!("192.0.2.{number}")).await;
        answer.is_refused(400, WRONG);
    }
    for row in house.audit().await {
        assert_eq!(row.reason.as_deref(), Some("name"));
        assert_eq!(row.subject, None);
    }
    house.close().await;
}

#[tokio::test]
async fn a_service_that_does_not_know_its_broker_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, &[("FLUX_SECRET_KEY", SECRET)], |config| {
        config.mode = Mode::MultiUser;
        config.warrants.broker_user = "no-such-account".into();
    });
    let db = store::open(&settings.database_url().unwrap())
        .await
        .unwrap();
    Schema::Auth.migrate(&db).await.unwrap();
    let error = start(settings, db.clone()).await.unwrap_err();
    assert!(
        error.message.starts_with("warrants.broker_user: "),
        "{error}"
    );
    db.close().await;
}
