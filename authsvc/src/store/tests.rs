//! Every statement, on SQLite and on PostgreSQL.

use std::io::Write;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use warrant_api::revocation::RevocationKind;
use warrant_api::token::Role;
use warrant_migrations::{Db, Schema, Tx, on};
use warrant_trail::{Filter, Row, Trail, Verified};

use super::api_keys::{self, ApiKey};
use super::codes::Code;
use super::devices::{Decided, Device};
use super::expired::Kept;
use super::sessions::Of;
use super::spent::OneUse;
use super::users::User;
use super::{
    audit, clients, codes, devices, expired, ping, proofs, refresh_tokens, revocations, sessions,
    spent, users,
};
use crate::sessions::{Kind, Session};
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
        assert!(
            spent::spend(&mut tx, OneUse::Payload("a"), 10)
                .await
                .unwrap()
        );
        assert!(
            !spent::spend(&mut tx, OneUse::Payload("a"), 20)
                .await
                .unwrap()
        );
        assert!(
            spent::spend(&mut tx, OneUse::Payload("b"), 20)
                .await
                .unwrap()
        );
        tx.commit().await.unwrap();
        let mut tx = db.begin().await.unwrap();
        assert!(
            !spent::spend(&mut tx, OneUse::Payload("a"), 10)
                .await
                .unwrap()
        );
        assert_eq!(
            expired::forget(&mut tx, Kept::Payloads, 10, 100)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            expired::forget(&mut tx, Kept::Payloads, 11, 100)
                .await
                .unwrap(),
            1
        );
        assert!(
            spent::spend(&mut tx, OneUse::Payload("a"), 30)
                .await
                .unwrap()
        );
        assert!(
            !spent::spend(&mut tx, OneUse::Payload("b"), 30)
                .await
                .unwrap()
        );
    })
    .await;
}

#[tokio::test]
async fn t111_a_proof_is_spent_once_and_there_is_room_for_so_many() {
    on_both(async |db| {
        use super::proofs::Spent::{Again, First, Full};
        let spend = async |mark: &str, expires_us, most| {
            let mut tx = db.begin().await.unwrap();
            let spent = proofs::spend(&mut tx, mark, expires_us, most).await;
            tx.commit().await.unwrap();
            spent.unwrap()
        };
        assert_eq!(spend("a", 10, 2).await, First);
        assert_eq!(spend("a", 20, 2).await, Again);
        assert_eq!(spend("b", 20, 4).await, First);
        for number in 0..10 {
            spend(&number.to_string(), 20, 4).await;
        }
        assert_eq!(spend("full", 20, 4).await, Full);
        assert_eq!(spend("a", 20, 4).await, Again);
        let mut tx = db.begin().await.unwrap();
        assert_eq!(
            expired::forget(&mut tx, Kept::Proofs, 10, 100)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            expired::forget(&mut tx, Kept::Proofs, 11, 100)
                .await
                .unwrap(),
            1
        );
        expired::forget(&mut tx, Kept::Proofs, 21, 100)
            .await
            .unwrap();
        assert_eq!(proofs::keep_secret(&mut tx, "one").await.unwrap(), "one");
        assert_eq!(proofs::keep_secret(&mut tx, "two").await.unwrap(), "one");
        tx.commit().await.unwrap();
        assert_eq!(spend("full", 20, 4).await, First);
        assert_eq!(spend("a", 20, 4).await, First);
    })
    .await;
}

#[tokio::test]
async fn of_two_who_spend_one_payload_at_once_one_succeeds() {
    on_both(async |db| {
        let spend = async || {
            let mut tx = db.begin().await.unwrap();
            let spent = spent::spend(&mut tx, OneUse::Payload("a"), 10)
                .await
                .unwrap();
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
        values ($1, $2, 'granted', null, 'ann', 7, 'local', 'local', $3, 'b')";
    let mut tx = db.begin().await.unwrap();
    for n in 0..rows {
        on!(&mut tx, |db| sqlx::query(SQL)
            .bind(1_000 - n)
            .bind(if n == 7 { "key-create" } else { "warrant" })
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
                kind: if n == 7 { "key" } else { "warrant" }.into(),
                action: (n == 7).then(|| "create".into()),
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

fn api_key(id: &str, subject: &str, created_us: i64) -> ApiKey {
    ApiKey {
        id: id.into(),
        hash: "hash".into(),
        subject: subject.into(),
        uid: Some(u32::MAX.into()),
        label: "label \"'\\ \u{e9}".into(),
        scopes: "read".into(),
        created_us,
        expires_us: 100,
        last_used_us: None,
        last_used_from: None,
        revoked_us: None,
        session_id: None,
        proof: "password".into(),
    }
}

#[tokio::test]
async fn keys_are_found_listed_and_revoked_as_they_were_added() {
    on_both(async |db| {
        let mut tx = db.begin().await.unwrap();
        let one = api_key("one", "ann", 1);
        assert!(api_keys::insert(&mut tx, &one, 2).await.unwrap());
        assert!(
            api_keys::insert(&mut tx, &api_key("two", "ann", 2), 2)
                .await
                .unwrap()
        );
        assert!(
            !api_keys::insert(&mut tx, &api_key("three", "ann", 3), 2)
                .await
                .unwrap()
        );
        assert!(
            api_keys::insert(&mut tx, &api_key("four", "bob", 4), 2)
                .await
                .unwrap()
        );
        tx.commit().await.unwrap();
        let list = async |subject, now_us| {
            let mut conn = db.read().await.unwrap();
            let keys = api_keys::list(&mut conn, subject, now_us).await.unwrap();
            keys.into_iter().map(|key| key.id).collect::<Vec<_>>()
        };
        assert_eq!(list(Some("ann"), 5).await, ["two", "one"]);
        assert_eq!(list(None, 5).await, ["two", "one", "four"]);
        assert_eq!(list(None, 100).await, [""; 0]);
        let find = async |id| {
            let mut conn = db.read().await.unwrap();
            api_keys::find(&mut conn, id).await.unwrap()
        };
        assert!(find("one").await == Some(one));
        assert!(find("three").await.is_none());
        let mut tx = db.begin().await.unwrap();
        api_keys::note_use(&mut tx, "one", 6, "192.0.2.1")
            .await
            .unwrap();
        assert!(
            !api_keys::revoke(&mut tx, "one", Some("bob"), 7)
                .await
                .unwrap()
        );
        assert!(!api_keys::revoke(&mut tx, "one", None, 100).await.unwrap());
        assert!(
            api_keys::revoke(&mut tx, "one", Some("ann"), 7)
                .await
                .unwrap()
        );
        assert!(!api_keys::revoke(&mut tx, "one", None, 8).await.unwrap());
        assert!(api_keys::revoke(&mut tx, "four", None, 8).await.unwrap());
        assert_eq!(api_keys::revoke_all(&mut tx, "ann", 9).await.unwrap(), 1);
        tx.commit().await.unwrap();
        let one = find("one").await.unwrap();
        assert_eq!((one.last_used_us, one.revoked_us), (Some(6), Some(7)));
        assert_eq!(one.last_used_from.as_deref(), Some("192.0.2.1"));
        let ended = entries(db, 0).await.1;
        let session = |id: &str| (RevocationKind::Session, format!("key:{id}"));
        assert_eq!(ended, ["one", "four", "two"].map(session));
    })
    .await;
}

fn session(id: &str, subject: &str, expires_us: i64) -> Session {
    Session {
        id: id.into(),
        kind: Kind::Login,
        subject: subject.into(),
        uid: Some(u32::MAX),
        role: Role::Operator,
        by_group: id.starts_with("group"),
        scopes: "read admin".parse().unwrap(),
        client_id: "flux".into(),
        jkt: id.starts_with("bound").then(|| "thumbprint".into()),
        source: "192.0.2.1".into(),
        created_us: 5,
        last_used_us: 5,
        expires_us,
        ended_us: None,
        ended_reason: None,
        parent: None,
    }
}

async fn open_session(db: &Db, id: &str, subject: &str, expires_us: i64) -> Session {
    let session = session(id, subject, expires_us);
    let mut alone = db.hold().await.unwrap();
    assert!(sessions::insert(&mut alone, &session, None).await.unwrap());
    session
}

async fn find_session(db: &Db, id: &str) -> Option<Session> {
    sessions::find(&mut db.read().await.unwrap(), id)
        .await
        .unwrap()
}

async fn entries(db: &Db, after: i64) -> (i64, Vec<(RevocationKind, String)>) {
    let mut conn = db.read().await.unwrap();
    let (next, entries) = revocations::list(&mut conn, after, 1000).await.unwrap();
    let entries = entries.into_iter().map(|entry| (entry.kind, entry.value));
    (next, entries.collect())
}

#[tokio::test]
async fn a_session_is_found_as_it_was_opened_until_it_ends() {
    on_both(async |db| {
        let ann = open_session(db, "a", "ann", 100).await;
        open_session(db, "b", "ann", 100).await;
        open_session(db, "c", "bob", 100).await;
        assert_eq!(find_session(db, "a").await, Some(ann.clone()));
        let alive = async |id, jti, now_us| {
            let mut conn = db.read().await.unwrap();
            let found = sessions::find_alive(&mut conn, id, jti, now_us).await;
            found.unwrap().is_some()
        };
        assert!(alive("a", "j", 99).await && !alive("a", "j", 100).await);
        let mut tx = db.begin().await.unwrap();
        let held = sessions::hold(&mut tx, "a", 50).await.unwrap().unwrap();
        assert_eq!(held.last_used_us, 50);
        assert!(sessions::hold(&mut tx, "a", 100).await.unwrap().is_none());
        sessions::set_role(&mut tx, "a", Role::User, false)
            .await
            .unwrap();
        revocations::insert_token(&mut tx, "j", 50).await.unwrap();
        tx.commit().await.unwrap();
        assert!(!alive("a", "j", 99).await && alive("a", "k", 99).await);
        assert_eq!(find_session(db, "a").await.unwrap().role, Role::User);

        let end = async |of: Of<'static>| {
            let mut tx = db.begin().await.unwrap();
            let ended = sessions::end(&mut tx, of, "why", 60).await.unwrap();
            tx.commit().await.unwrap();
            ended
        };
        assert_eq!(end(Of::Id("a")).await, 1);
        assert_eq!(end(Of::Id("a")).await, 0);
        assert!(!alive("a", "k", 61).await);
        assert_eq!(end(Of::Subject("ann")).await, 1);
        assert_eq!(end(Of::Client("flux")).await, 1);
        assert_eq!(end(Of::Client("flux")).await, 0);
        let ended = find_session(db, "a").await.unwrap();
        assert_eq!(
            (ended.ended_us, ended.ended_reason.as_deref()),
            (Some(60), Some("why"))
        );
        let kinds = entries(db, 0).await.1;
        let session = |id: &str| (RevocationKind::Session, id.to_owned());
        let token = (RevocationKind::Token, "j".to_owned());
        assert_eq!(kinds, [token, session("a"), session("b"), session("c")]);
        let mut conn = db.read().await.unwrap();
        let list = sessions::list(&mut conn, Some("ann"), None, 10)
            .await
            .unwrap();
        assert_eq!(list.len(), 2);
        let list = sessions::list(&mut conn, None, Some(50), 10).await.unwrap();
        assert_eq!(list, []);
    })
    .await;
}

#[tokio::test]
async fn a_login_with_a_password_that_was_changed_meanwhile_opens_no_session() {
    on_both(async |db| {
        insert(db, "ann").await;
        let open = async |id, password_us| {
            let mut alone = db.hold().await.unwrap();
            let session = session(id, "ann", 100);
            sessions::insert(&mut alone, &session, Some(password_us))
                .await
                .unwrap()
        };
        assert!(open("a", 7).await);
        assert!(!open("b", 6).await);
        let mut tx = db.begin().await.unwrap();
        users::set_password(&mut tx, &name("ann"), "new", 9)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert!(!open("c", 7).await && open("d", 9).await);
        let mut tx = db.begin().await.unwrap();
        users::set_disabled(&mut tx, &name("ann"), true)
            .await
            .unwrap();
        assert!(
            users::hold(&mut tx, &name("ann"))
                .await
                .unwrap()
                .unwrap()
                .disabled
        );
        assert!(users::hold(&mut tx, &name("bob")).await.unwrap().is_none());
        tx.commit().await.unwrap();
        assert!(!open("e", 9).await);
        assert!(find_session(db, "b").await.is_none() && find_session(db, "e").await.is_none());
    })
    .await;
}

#[tokio::test]
async fn whoever_has_read_an_entry_finds_no_earlier_one_later() {
    on_both(async |db| {
        for number in 0..40 {
            open_session(db, &format!("s{number}"), "ann", i64::MAX).await;
        }
        let end = async |from: u32| {
            for number in (from..40).step_by(4) {
                let mut tx = db.begin().await.unwrap();
                let id = format!("s{number}");
                sessions::end(&mut tx, Of::Id(&id), "why", 60)
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
            }
        };
        let read = async {
            let (mut after, mut seen) = (0, Vec::new());
            while seen.len() < 40 {
                let (next, new) = entries(db, after).await;
                after = next;
                seen.extend(new.into_iter().map(|(_, value)| value));
                tokio::task::yield_now().await;
            }
            seen
        };
        let read = tokio::time::timeout(std::time::Duration::from_secs(30), read);
        let (seen, ..) = tokio::join!(read, end(0), end(1), end(2), end(3));
        let mut seen = seen.expect("an entry was never seen");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 40);
    })
    .await;
}

#[tokio::test]
async fn refresh_tokens_go_with_their_session_and_each_is_spent_once() {
    on_both(async |db| {
        open_session(db, "a", "ann", 100).await;
        let mut tx = db.begin().await.unwrap();
        assert!(!refresh_tokens::any_of(&mut tx, "a").await.unwrap());
        refresh_tokens::insert(&mut tx, "h1", "a", 10, 100)
            .await
            .unwrap();
        refresh_tokens::insert(&mut tx, "h2", "a", 11, 100)
            .await
            .unwrap();
        refresh_tokens::spend(&mut tx, "h1", Some("h2"), 20)
            .await
            .unwrap();
        refresh_tokens::spend(&mut tx, "h1", Some("h3"), 30)
            .await
            .unwrap();
        assert!(refresh_tokens::any_of(&mut tx, "a").await.unwrap());
        let held = refresh_tokens::find_held(&mut tx, "h1")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (held.used_us, held.successor.as_deref()),
            (Some(20), Some("h3"))
        );
        tx.commit().await.unwrap();
        let mut tx = db.begin().await.unwrap();
        assert_eq!(
            expired::forget(&mut tx, Kept::Sessions, 100, 10)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            expired::forget(&mut tx, Kept::Sessions, 101, 10)
                .await
                .unwrap(),
            1
        );
        tx.commit().await.unwrap();
        let mut conn = db.read().await.unwrap();
        assert_eq!(refresh_tokens::find(&mut conn, "h2").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn what_is_over_is_forgotten_a_little_at_a_time() {
    on_both(async |db| {
        for number in 0..5 {
            open_session(db, &format!("group{number}"), "ann", 100).await;
            let mut tx = db.begin().await.unwrap();
            revocations::insert_account(&mut tx, "ann", 3, number)
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
        let mut conn = db.read().await.unwrap();
        let some = sessions::list_by_group(&mut conn, "group1", 50, 2)
            .await
            .unwrap();
        let ids: Vec<_> = some.iter().map(|session| session.id.as_str()).collect();
        assert_eq!(ids, ["group2", "group3"]);
        drop(conn);
        let mut tx = db.begin().await.unwrap();
        for left in [3, 2, 0] {
            assert_eq!(
                expired::forget(&mut tx, Kept::Sessions, 101, 3)
                    .await
                    .unwrap(),
                left
            );
        }
        let end_us = 36_060_000_000;
        assert_eq!(
            expired::forget(&mut tx, Kept::Revocations, end_us, 10)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            expired::forget(&mut tx, Kept::Revocations, end_us + 3, 10)
                .await
                .unwrap(),
            3
        );
        tx.commit().await.unwrap();
        let (next, left) = entries(db, 0).await;
        assert_eq!(left.len(), 2);
        let mut tx = db.begin().await.unwrap();
        expired::forget(&mut tx, Kept::Revocations, i64::MAX, 10)
            .await
            .unwrap();
        revocations::insert_token(&mut tx, "j", 0).await.unwrap();
        tx.commit().await.unwrap();
        assert!(entries(db, 0).await.0 > next, "a number was given twice");
    })
    .await;
}

#[tokio::test]
async fn clients_are_found_as_added() {
    on_both(async |db| {
        let row = clients::Row {
            id: "robot".into(),
            label: "Röbot".into(),
            secret_hash: Some("h".into()),
            certificate: Some("subject:CN=a".into()),
            owner: Some("ann".into()),
            grants: "password".into(),
            scopes: "read".into(),
            redirect_uris: "a\nb".into(),
            disabled: false,
            dpop: true,
            created_us: 3,
        };
        let mut tx = db.begin().await.unwrap();
        assert!(clients::insert(&mut tx, &row).await.unwrap());
        assert!(!clients::insert(&mut tx, &row).await.unwrap());
        tx.commit().await.unwrap();
        let found = clients::find(&mut db.read().await.unwrap(), "robot").await;
        assert!(found.unwrap() == Some(row));
        let all = clients::list(&mut db.read().await.unwrap()).await.unwrap();
        let ids: Vec<_> = all.iter().map(|client| client.id.as_str()).collect();
        assert_eq!(ids, ["robot", "warrant"]);
        let mut tx = db.begin().await.unwrap();
        assert!(clients::hold(&mut tx, "robot").await.unwrap());
        assert!(clients::set_disabled(&mut tx, "robot", true).await.unwrap());
        assert!(!clients::hold(&mut tx, "robot").await.unwrap());
        assert!(
            !clients::set_disabled(&mut tx, "nobody", true)
                .await
                .unwrap()
        );
        assert!(clients::delete(&mut tx, "robot").await.unwrap());
        assert!(!clients::delete(&mut tx, "robot").await.unwrap());
        tx.commit().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_code_is_held_spent_and_forgotten() {
    on_both(async |db| {
        let code = Code {
            hash: "h".into(),
            client_id: "robot".into(),
            redirect_uri: "u".into(),
            challenge: "c".into(),
            subject: "ann".into(),
            scopes: "read".into(),
            expires_us: 100,
            used_us: None,
            session_id: None,
            giver_id: Some("giver".into()),
        };
        let other = Code {
            hash: "i".into(),
            ..code.clone()
        };
        let mut tx = db.begin().await.unwrap();
        codes::insert(&mut tx, &code).await.unwrap();
        codes::insert(&mut tx, &other).await.unwrap();
        assert_eq!(codes::hold(&mut tx, "h").await.unwrap(), Some(code));
        codes::spend(&mut tx, "h", Some("s"), 50).await.unwrap();
        let spent = codes::hold(&mut tx, "h").await.unwrap().unwrap();
        assert_eq!(
            (spent.used_us, spent.session_id.as_deref()),
            (Some(50), Some("s"))
        );
        codes::delete_of(&mut tx, "ann").await.unwrap();
        tx.commit().await.unwrap();
        let mut conn = db.read().await.unwrap();
        let giver = codes::find_giver(&mut conn, "h").await.unwrap();
        assert_eq!(giver, Some(("ann".into(), Some("giver".into()))));
        assert_eq!(codes::find_giver(&mut conn, "i").await.unwrap(), None);
        drop(conn);
        let mut tx = db.begin().await.unwrap();
        assert_eq!(
            expired::forget(&mut tx, Kept::Codes, 100, 10)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            expired::forget(&mut tx, Kept::Codes, 101, 10)
                .await
                .unwrap(),
            1
        );
        tx.commit().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_device_waits_is_decided_about_once_and_is_forgotten() {
    on_both(async |db| {
        let device = |hash: &str, user_code: &str| Device {
            hash: hash.into(),
            user_code: user_code.into(),
            client_id: "warrant".into(),
            scopes: "read".into(),
            expires_us: 100,
            interval_s: 5,
            polled_us: None,
            decision: None,
            subject: None,
            giver_id: None,
        };
        let mut tx = db.begin().await.unwrap();
        let add = [("h", "AAAA"), ("i", "AAAA"), ("i", "BBBB"), ("j", "CCCC")];
        let mut added = Vec::new();
        for (hash, code) in add {
            let device = device(hash, code);
            added.push(devices::insert(&mut tx, &device, 2).await.unwrap());
        }
        assert_eq!(added, [true, false, true, false]);
        tx.commit().await.unwrap();
        let find = async |code, now_us| {
            let mut conn = db.read().await.unwrap();
            devices::find_undecided(&mut conn, code, now_us)
                .await
                .unwrap()
        };
        assert!(find("AAAA", 99).await == Some(device("h", "AAAA")));
        assert!(find("AAAA", 100).await.is_none());
        let mut tx = db.begin().await.unwrap();
        devices::polled(&mut tx, "h", 10, 40).await.unwrap();
        let decide = async |tx: &mut Tx, now_us| {
            let decided = Decided {
                decision: "approved",
                subject: "ann",
                scopes: "read",
                giver_id: Some("giver"),
            };
            devices::decide(tx, "AAAA", decided, now_us).await.unwrap()
        };
        assert!(!decide(&mut tx, 100).await);
        assert!(decide(&mut tx, 99).await && !decide(&mut tx, 99).await);
        let held = devices::hold(&mut tx, "h").await.unwrap().unwrap();
        assert_eq!((held.interval_s, held.polled_us), (10, Some(40)));
        assert_eq!(held.subject.as_deref(), Some("ann"));
        devices::delete_of(&mut tx, "ann").await.unwrap();
        assert!(devices::hold(&mut tx, "h").await.unwrap().is_none());
        devices::delete(&mut tx, "none").await.unwrap();
        assert_eq!(
            expired::forget(&mut tx, Kept::Devices, 101, 10)
                .await
                .unwrap(),
            1
        );
        tx.commit().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_browsers_session_is_found_used_and_ended_by_its_own_user_alone() {
    use super::web_sessions::{self, WebSession};
    on_both(async |db| {
        let mut tx = db.begin().await.unwrap();
        for (id, subject, used_us) in [
            ("one", "ann", 10),
            ("two", "ann", 20),
            ("three", "ann", 30),
            ("four", "bob", 40),
        ] {
            let session = Session {
                kind: Kind::Web,
                last_used_us: used_us,
                ..session(id, subject, 1_000_000)
            };
            assert!(sessions::insert(&mut tx, &session, None).await.unwrap());
            let web = WebSession {
                session_id: id.into(),
                agent: format!("browser {id}"),
                ends_us: 1_000_000,
                proven_us: None,
            };
            let hash = format!("hash of {id}");
            web_sessions::insert(&mut tx, &hash, &web).await.unwrap();
        }
        tx.commit().await.unwrap();
        let mut conn = db.read().await.unwrap();
        let found = web_sessions::find(&mut conn, "hash of two").await.unwrap();
        assert_eq!(found.unwrap().agent, "browser two");
        assert_eq!(web_sessions::find(&mut conn, "two").await.unwrap(), None);
        assert_eq!(web_sessions::list(&mut conn, "ann").await.unwrap().len(), 3);
        drop(conn);

        let mut tx = db.begin().await.unwrap();
        let end = web_sessions::end_own(&mut tx, "bob", "one", false, 50).await;
        assert_eq!(end.unwrap(), 0);
        let end = web_sessions::end_own(&mut tx, "ann", "one", false, 50).await;
        assert_eq!(end.unwrap(), 1);
        let used = Session {
            last_used_us: 60,
            expires_us: 90,
            role: Role::Administrator,
            ..session("one", "ann", 0)
        };
        assert!(!web_sessions::touch(&mut tx, &used).await.unwrap());
        let used = Session {
            id: "two".into(),
            ..used
        };
        assert!(web_sessions::touch(&mut tx, &used).await.unwrap());
        let over = Session {
            last_used_us: 90,
            ..used.clone()
        };
        assert!(!web_sessions::touch(&mut tx, &over).await.unwrap());
        assert_eq!(
            web_sessions::end_oldest(&mut tx, "ann", 1, 61)
                .await
                .unwrap(),
            1
        );
        tx.commit().await.unwrap();
        let mut conn = db.read().await.unwrap();
        let two = sessions::find(&mut conn, "two").await.unwrap().unwrap();
        assert_eq!(
            (two.role, two.expires_us, two.ended_us),
            (Role::Administrator, 90, None)
        );
        let three = sessions::find(&mut conn, "three").await.unwrap().unwrap();
        assert_eq!(three.ended_reason.as_deref(), Some("too-many"));
        drop(conn);

        let mut tx = db.begin().await.unwrap();
        let end = web_sessions::end_own(&mut tx, "ann", "two", true, 62).await;
        assert_eq!(end.unwrap(), 0);
        let end = web_sessions::end_own(&mut tx, "ann", "four", true, 62).await;
        assert_eq!(end.unwrap(), 1);
        tx.commit().await.unwrap();
        let mut conn = db.read().await.unwrap();
        let (_, entries) = revocations::list(&mut conn, 0, 9).await.unwrap();
        let told: Vec<_> = entries.iter().map(|entry| entry.value.as_str()).collect();
        assert_eq!(told, ["one", "three", "two"]);
    })
    .await;
}

#[tokio::test]
async fn a_password_is_changed_by_whoever_knew_the_present_one() {
    on_both(async |db| {
        insert(db, "ann").await;
        let ann = name("ann");
        let mut tx = db.begin().await.unwrap();
        let change = users::change_password(&mut tx, &ann, "new", 6, 9).await;
        assert!(!change.unwrap());
        let change = users::change_password(&mut tx, &ann, "new", 7, 9).await;
        assert!(change.unwrap());
        users::set_disabled(&mut tx, &ann, true).await.unwrap();
        let change = users::change_password(&mut tx, &ann, "newer", 9, 10).await;
        assert!(!change.unwrap());
        tx.commit().await.unwrap();
        let ann = find(db, "ann").await.unwrap();
        assert_eq!(
            (ann.password_hash.as_str(), ann.password_changed_us),
            ("new", 9)
        );
    })
    .await;
}
