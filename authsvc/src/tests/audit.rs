//! What is left behind of what was granted and refused.

use std::time::{Duration, Instant};

use serde_json::json;
use warrant_trail::Filter;

use super::house::{House, JOB, credentials, exchange, exchange_fields};

#[tokio::test]
async fn each_login_and_each_warrant_granted_or_refused_is_a_row() {
    let house = House::open_multi_user(|_| {}).await;
    let token = house.login("daemon", "pw", "192.0.2.1").await;
    let token = token.token();
    house.login("daemon", "wrong", "192.0.2.2").await;
    house.login("no%0Aname", "pw", "192.0.2.3").await;
    house.handshake(credentials("bin", "pw")).await.token();
    house.handshake(json!({"user": "bin"})).await;
    house.exchange(token).await.token();
    house.send_tcp(exchange(&exchange_fields(token))).await;
    house.exchange("x").await;
    house.send(exchange(&[("grant_type", "")])).await;

    let rows = house.audit().await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.kind.as_str(),
                row.outcome.as_str(),
                row.reason.as_deref(),
                row.subject.as_deref(),
                row.uid,
                row.source.as_str(),
            )
        })
        .collect();
    let daemon = Some("daemon");
    assert_eq!(
        told,
        [
            ("login", "granted", None, daemon, Some(1), "192.0.2.1"),
            (
                "login",
                "refused",
                Some("password"),
                daemon,
                None,
                "192.0.2.2"
            ),
            ("login", "refused", Some("name"), None, None, "192.0.2.3"),
            ("login", "granted", None, Some("bin"), Some(2), "local"),
            ("login", "refused", Some("payload"), None, None, "local"),
            ("warrant", "granted", None, daemon, Some(1), "local"),
            ("warrant", "refused", Some("peer"), None, None, "127.0.0.1"),
            (
                "warrant",
                "refused",
                Some("subject-token"),
                None,
                None,
                "local"
            ),
            ("token", "refused", Some("form"), None, None, "local"),
        ]
    );
    assert_eq!(rows[0].audience.as_deref(), Some("warrant-broker"));
    assert_eq!(rows[0].jti.as_ref().unwrap().len(), 22);
    assert_eq!(rows[5].audience.as_deref(), Some("local"));
    assert_eq!(rows[5].jti.as_ref().unwrap().len(), 32);
    assert_eq!(rows[5].job_sha256.as_deref(), Some(JOB));
    assert!(rows.is_sorted_by_key(|row| row.time_us));
    house.close().await;
}

#[tokio::test]
async fn a_row_is_written_soon_without_being_asked_for() {
    let house = House::open().await;
    house.login("ann", "pw", "192.0.2.1").await.token();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if house.rows(&Filter::default()).await.len() == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "the row is not written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.close().await;
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_stops_nothing() {
    let house = House::open_multi_user(|_| {}).await;
    let token = house.login("daemon", "pw", "192.0.2.1").await;
    let token = token.token();
    let flood = (0..1500).map(|_| exchange(&exchange_fields("x")));
    for answer in house.send_all(flood).await {
        answer.is_no_warrant("invalid_request", "subject-token");
    }
    house.exchange(token).await.token();
    let rows = house.audit().await;
    let of_kind = |kind| rows.iter().filter(move |row| row.kind == kind);
    assert_eq!(
        of_kind("warrant")
            .filter(|row| row.outcome == "granted")
            .count(),
        1
    );
    let refused = of_kind("warrant")
        .filter(|row| row.outcome == "refused")
        .count();
    assert!((1000..1500).contains(&refused), "{refused}");
    let counted: usize = of_kind("unrecorded")
        .map(|row| row.reason.as_deref().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(refused + counted, 1500);
    house.close().await;
}

#[tokio::test]
async fn the_rows_outlive_the_service() {
    let house = House::open().await;
    house.login("ann", "pw", "192.0.2.1").await.token();
    let house = House::open_in(house.close().await, &[], |_| {}).await;
    assert_eq!(house.audit().await.len(), 1);
    house.close().await;
}

#[tokio::test]
async fn while_the_trail_cannot_be_written_nothing_is_granted() {
    let house = House::open_multi_user(|_| {}).await;
    let token = house.login("daemon", "pw", "192.0.2.1").await;
    let token = token.token();
    house.exchange(token).await.token();
    house.audit().await;
    house.spoil("alter table audit rename to elsewhere").await;
    // The first that finds no table may be granted; its row waits.
    house.login("daemon", "wrong", "192.0.2.1").await;
    house.service.audit.flush().await;
    let answer = house.exchange(token).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body["error"], "temporarily_unavailable");
    assert_eq!(answer.headers["retry-after"], "1");
    let answer = house.login("daemon", "pw", "192.0.2.1").await;
    answer.is_refused(
        503,
        "Logins are not possible at the moment. The user database is unavailable.",
    );

    house.spoil("alter table elsewhere rename to audit").await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while house.exchange(token).await.status != 200 {
        assert!(Instant::now() < deadline, "there are no warrants again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rows = house.audit().await;
    let wrong = rows
        .iter()
        .filter(|row| row.reason.as_deref() == Some("password"));
    assert_eq!(wrong.count(), 1, "a row was lost: {rows:?}");
    house.close().await;
}
