//! Every statement, on SQLite and on PostgreSQL.

use std::io::Write;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use warrant_migrations::{Db, Schema, on};
use warrant_trail::{Filter, Row, Trail, Verified};

use super::users::User;
use super::{audit, jtis, ping, users};
use crate::user_name::UserName;

/// Run `test` on a new SQLite database and, where `WARRANT_TEST_POSTGRES`
/// names a server, on a new PostgreSQL database.
async fn on_both(test: impl AsyncFn(&Db)) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&format!("sqlite:{}", dir.path().join("auth.db").display()))
        .await
        .unwrap();
    migrated(&db, &test).await;

    let Ok(server) = std::env::var("WARRANT_TEST_POSTGRES") else {
        let why = "not run on PostgreSQL: WARRANT_TEST_POSTGRES is not set";
        assert_ne!(
            std::env::var("WARRANT_REQUIRE_POSTGRES").as_deref(),
            Ok("1"),
            "{why}"
        );
        writeln!(std::io::stderr(), "{why}").unwrap();
        return;
    };
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).unwrap();
    let name = format!("warrant_auth_{:016x}", u64::from_ne_bytes(salt));
    administer(&server, format!("create database {name}")).await;
    let (base, _) = server.rsplit_once('/').unwrap();
    let db = Db::open(&format!("{base}/{name}")).await.unwrap();
    migrated(&db, &test).await;
    administer(&server, format!("drop database {name}")).await;
}

async fn migrated(db: &Db, test: &impl AsyncFn(&Db)) {
    assert!(
        Schema::Auth.check(db).await.is_err(),
        "an empty database counts as up to date"
    );
    Schema::Auth.migrate(db).await.unwrap();
    Schema::Auth.check(db).await.unwrap();
    test(db).await;
    db.close().await;
}

#[allow(clippy::disallowed_methods, reason = "no value can name a database")]
async fn administer(server: &str, sql: String) {
    let mut connection = PgConnection::connect(server).await.unwrap();
    sqlx::query(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

fn name(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

async fn find(db: &Db, text: &str) -> Option<User> {
    users::find(&mut db.read().await.unwrap(), &name(text))
        .await
        .unwrap()
}

async fn insert(db: &Db, text: &str) -> bool {
    let mut tx = db.begin().await.unwrap();
    let added = users::insert(&mut tx, &name(text), "hash", false, 7)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    added
}

#[tokio::test]
async fn a_user_is_found_as_added() {
    on_both(async |db| {
        ping(&mut db.read().await.unwrap()).await.unwrap();
        assert!(insert(db, "ann").await);
        let ann = find(db, "ann").await.unwrap();
        assert_eq!(
            (ann.name.as_str(), ann.password_hash.as_str()),
            ("ann", "hash")
        );
        assert_eq!((ann.superuser, ann.disabled), (false, false));
        assert_eq!((ann.created_us, ann.password_changed_us), (7, 7));
        assert!(find(db, "Ann").await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_name_is_taken_once() {
    on_both(async |db| {
        assert!(insert(db, "ann").await);
        assert!(!insert(db, "ann").await);
        assert!(insert(db, "bob").await);
        let all = users::list(&mut db.read().await.unwrap()).await.unwrap();
        let names: Vec<_> = all.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
    })
    .await;
}

#[tokio::test]
async fn each_change_changes_one_user_and_says_whether_there_was_one() {
    on_both(async |db| {
        insert(db, "ann").await;
        insert(db, "bob").await;
        let (ann, nobody) = (name("ann"), name("nobody"));
        let before = find(db, "bob").await.unwrap();
        let mut tx = db.begin().await.unwrap();
        assert!(users::set_password(&mut tx, &ann, "new", 9).await.unwrap());
        assert!(users::set_disabled(&mut tx, &ann, true).await.unwrap());
        assert!(users::promote(&mut tx, &ann).await.unwrap());
        assert!(
            !users::set_password(&mut tx, &nobody, "new", 9)
                .await
                .unwrap()
        );
        assert!(!users::set_disabled(&mut tx, &nobody, true).await.unwrap());
        assert!(!users::promote(&mut tx, &nobody).await.unwrap());
        assert!(!users::delete(&mut tx, &nobody).await.unwrap());
        tx.commit().await.unwrap();
        let changed = find(db, "ann").await.unwrap();
        assert_eq!(changed.password_hash, "new");
        assert_eq!((changed.disabled, changed.superuser), (true, true));
        assert_eq!((changed.created_us, changed.password_changed_us), (7, 9));
        let mut tx = db.begin().await.unwrap();
        assert!(users::set_disabled(&mut tx, &ann, false).await.unwrap());
        tx.commit().await.unwrap();
        assert!(!find(db, "ann").await.unwrap().disabled);
        let mut tx = db.begin().await.unwrap();
        assert!(users::delete(&mut tx, &ann).await.unwrap());
        tx.commit().await.unwrap();
        assert!(find(db, "ann").await.is_none());
        assert!(find(db, "bob").await.unwrap() == before, "bob was changed");
    })
    .await;
}

#[tokio::test]
async fn a_hash_is_renewed_only_in_place_of_the_one_that_was_checked() {
    on_both(async |db| {
        insert(db, "ann").await;
        let id = find(db, "ann").await.unwrap().id;
        let mut tx = db.begin().await.unwrap();
        assert!(
            !users::renew_hash(&mut tx, id, "other", "new")
                .await
                .unwrap()
        );
        assert!(
            !users::renew_hash(&mut tx, id + 1, "hash", "new")
                .await
                .unwrap()
        );
        assert!(users::renew_hash(&mut tx, id, "hash", "new").await.unwrap());
        tx.commit().await.unwrap();
        let ann = find(db, "ann").await.unwrap();
        assert_eq!(
            (ann.password_hash.as_str(), ann.password_changed_us),
            ("new", 7)
        );
    })
    .await;
}

#[tokio::test]
async fn a_payload_is_spent_once_and_forgotten_after_its_end() {
    on_both(async |db| {
        let mut tx = db.begin().await.unwrap();
        assert!(jtis::spend(&mut tx, "a", 10).await.unwrap());
        assert!(!jtis::spend(&mut tx, "a", 20).await.unwrap());
        assert!(jtis::spend(&mut tx, "b", 20).await.unwrap());
        tx.commit().await.unwrap();
        let mut tx = db.begin().await.unwrap();
        assert!(!jtis::spend(&mut tx, "a", 10).await.unwrap());
        assert_eq!(jtis::prune(&mut tx, 10).await.unwrap(), 0);
        assert_eq!(jtis::prune(&mut tx, 11).await.unwrap(), 1);
        assert!(jtis::spend(&mut tx, "a", 30).await.unwrap());
        assert!(!jtis::spend(&mut tx, "b", 30).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn of_two_who_spend_one_payload_at_once_one_succeeds() {
    on_both(async |db| {
        let spend = async || {
            let mut tx = db.begin().await.unwrap();
            let spent = jtis::spend(&mut tx, "a", 10).await.unwrap();
            tx.commit().await.unwrap();
            spent
        };
        let spent = tokio::join!(spend(), spend(), spend(), spend());
        let times = <[bool; 4]>::from(spent)
            .into_iter()
            .filter(|spent| *spent)
            .count();
        assert_eq!(times, 1);
    })
    .await;
}

/// What a database held before its trail was a chain.
async fn add_old(db: &Db, rows: i64) {
    const SQL: &str = "insert into audit_unchained (time_us, kind, outcome, reason, subject, uid,
        source, audience, jti, job_sha256)
        values ($1, 'warrant', 'granted', null, 'ann', 7, 'local', 'local', $2, 'b')";
    let mut tx = db.begin().await.unwrap();
    for n in 0..rows {
        on!(&mut tx, |db| sqlx::query(SQL)
            .bind(1_000 - n)
            .bind(n.to_string())
            .execute(db)
            .await
            .map(drop))
        .unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn rows_from_before_the_chain_are_taken_into_it_in_their_order_and_once() {
    on_both(async |db| {
        // More than two batches, by two at once.
        add_old(db, 2500).await;
        let chained = tokio::try_join!(audit::chain_old(db), audit::chain_old(db)).unwrap();
        assert_eq!(chained.0 + chained.1, 2500);
        assert_eq!(audit::chain_old(db).await.unwrap(), 0);
        let mut conn = db.read().await.unwrap();
        let every = Filter::default();
        let rows = Trail::AUTHSVC
            .last(&mut conn, &every, 10_000)
            .await
            .unwrap();
        assert_eq!(rows.len(), 2500);
        for (n, stored) in (0..).zip(rows) {
            let old = Row {
                time_us: 1_000 - n,
                kind: "warrant".into(),
                outcome: "granted".into(),
                subject: Some("ann".into()),
                uid: Some(7),
                source: "local".into(),
                audience: Some("local".into()),
                jti: Some(n.to_string()),
                job_sha256: Some("b".into()),
                ..Row::default()
            };
            assert_eq!((stored.seq, stored.row), (n + 1, old));
        }
        let verified = Trail::AUTHSVC.verify(&mut conn, None).await.unwrap();
        assert!(matches!(verified, Verified::Holds { .. }), "{verified:?}");
    })
    .await;
}
