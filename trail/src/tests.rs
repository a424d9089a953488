//! Both trails, on SQLite and on PostgreSQL.

use std::io::Write;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use warrant_migrations::{Db, Driven, Schema, on};

use crate::read::Filter;
use crate::{AuditCommand, Broken, Head, Outcome, Row, Stored, Trail, Verified, Why};

const BOTH: [Trail; 2] = [Trail::AUTHSVC, Trail::BROKER];

/// Run `test` with each trail, all in one new SQLite database and, where
/// `WARRANT_TEST_POSTGRES` names a server, in one new PostgreSQL database.
async fn on_both(test: impl AsyncFn(&Db, Trail)) {
    for trail in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&format!("sqlite:{}", dir.path().join("x.db").display()))
            .await
            .unwrap();
        migrated(&db).await;
        test(&db, trail).await;
        db.close().await;
    }
    let Ok(server) = std::env::var("WARRANT_TEST_POSTGRES") else {
        let why = "not run on PostgreSQL: WARRANT_TEST_POSTGRES is not set";
        let required = std::env::var("WARRANT_REQUIRE_POSTGRES");
        assert_ne!(required.as_deref(), Ok("1"), "{why}");
        writeln!(std::io::stderr(), "{why}").unwrap();
        return;
    };
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).unwrap();
    let name = format!("warrant_trail_{:016x}", u64::from_ne_bytes(salt));
    administer(&server, format!("create database {name}")).await;
    let (base, _) = server.rsplit_once('/').unwrap();
    let db = Db::open(&format!("{base}/{name}")).await.unwrap();
    migrated(&db).await;
    for trail in BOTH {
        test(&db, trail).await;
    }
    db.close().await;
    administer(&server, format!("drop database {name}")).await;
}

async fn migrated(db: &Db) {
    Schema::Auth.migrate(db).await.unwrap();
    Schema::Broker.migrate(db).await.unwrap();
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

/// Do `sql`, in which `T` stands for the trail's table.
#[allow(clippy::disallowed_methods, reason = "no value can name a table")]
async fn raw(db: &Db, trail: Trail, sql: &str) -> Result<(), String> {
    let mut tx = db.begin().await.unwrap();
    for sql in sql.replace('T', trail.rows).split(';') {
        on!(&mut tx, |db| sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(db)
            .await
            .map(drop))
        .map_err(|error| error.to_string())?;
    }
    tx.commit().await.map_err(|error| error.to_string())
}

/// Do `sql` as somebody who owns the database and whom no trigger stops.
async fn tamper(db: &Db, trail: Trail, sql: &str) {
    let sqlite = db.read().await.unwrap().is_sqlite();
    let unguarded = if sqlite {
        "drop trigger if exists T_is_never_changed; drop trigger if exists T_is_never_cut; \
         drop trigger if exists T_head_never_goes_back; drop trigger if exists T_head_stays"
    } else {
        "alter table T disable trigger all; alter table T_head disable trigger all"
    };
    raw(db, trail, unguarded).await.unwrap();
    raw(db, trail, sql).await.unwrap();
}

fn row(n: i64) -> Row {
    Row {
        time_us: n * 1_000,
        kind: "login".into(),
        outcome: if n % 2 == 0 { "granted" } else { "refused" }.into(),
        reason: (n % 2 == 1).then(|| "password".into()),
        subject: Some(if n % 3 == 0 { "bob" } else { "ann" }.into()),
        source: "192.0.2.1".into(),
        ..Row::default()
    }
}

async fn append(db: &Db, trail: Trail, rows: Vec<Row>) -> Head {
    let mut tx = db.begin().await.unwrap();
    let head = trail.append(&mut tx, rows).await.unwrap();
    tx.commit().await.unwrap();
    head
}

async fn verify(db: &Db, trail: Trail, kept: Option<Head>) -> Verified {
    let mut conn = db.read().await.unwrap();
    trail.verify(&mut conn, kept).await.unwrap()
}

async fn broken(db: &Db, trail: Trail) -> (i64, Why) {
    match verify(db, trail, None).await {
        Verified::Broken(broken) => (broken.row, broken.why),
        Verified::Holds { .. } => panic!("it holds"),
    }
}

async fn all(db: &Db, trail: Trail) -> Vec<Stored> {
    let mut conn = db.read().await.unwrap();
    let every = Filter::default();
    let rows = trail.page(&mut conn, &every, i64::MIN, 100_000);
    rows.await.unwrap()
}

/// Run a command; what it printed, and how it ended.
async fn command(db: &Db, trail: Trail, words: &str) -> (String, Outcome) {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: AuditCommand,
    }
    let words = ["audit"].into_iter().chain(words.split(' '));
    let line = <Line as clap::Parser>::try_parse_from(words).unwrap();
    let mut out = Vec::new();
    let outcome = line.command.run(&trail, db, &mut out).await.unwrap();
    (String::from_utf8(out).unwrap(), outcome)
}

#[tokio::test]
async fn a_trail_without_rows_holds() {
    on_both(async |db, trail| {
        let head = Head::genesis(trail.name);
        let holds = Verified::Holds { head, pruned: 0 };
        assert_eq!(verify(db, trail, None).await, holds);
        assert_eq!(verify(db, trail, Some(head)).await, holds);
    })
    .await;
}

#[tokio::test]
async fn rows_are_read_as_they_were_added_and_hold() {
    on_both(async |db, trail| {
        let full = Row {
            time_us: i64::MAX,
            kind: "warrant".into(),
            action: Some("made".into()),
            outcome: "granted".into(),
            reason: Some("é\u{1f600}\"'\\\n".into()),
            subject: Some(String::new()),
            uid: Some(u32::MAX.into()),
            source: "2001:db8::/64".into(),
            audience: Some("local".into()),
            jti: Some("1".into()),
            job_id: Some(i64::MAX),
            job_sha256: Some("00".into()),
            detail: Some("null".into()),
        };
        let mut rows = vec![row(1), full];
        rows.extend((3..=2500).map(row));
        append(db, trail, rows[..1].to_vec()).await;
        append(db, trail, vec![]).await;
        let head = append(db, trail, rows[1..].to_vec()).await;
        assert_eq!(head.count, 2500);
        let read = all(db, trail).await;
        assert!(read.iter().zip(1..).all(|(stored, n)| stored.seq == n));
        assert_eq!(read.last().unwrap().hash, head.hash.to_string());
        let read: Vec<_> = read.into_iter().map(|stored| stored.row).collect();
        assert_eq!(read, rows);
        let holds = Verified::Holds { head, pruned: 0 };
        assert_eq!(verify(db, trail, Some(head)).await, holds);
    })
    .await;
}

#[tokio::test]
async fn a_nul_in_a_text_keeps_no_row_from_being_written() {
    on_both(async |db, trail| {
        let with_nul = Row {
            subject: Some("a\0b".into()),
            source: "\0".into(),
            ..row(1)
        };
        append(db, trail, vec![with_nul]).await;
        let read = all(db, trail).await;
        assert_eq!(read[0].row.subject.as_deref(), Some("a\u{fffd}b"));
        assert!(matches!(
            verify(db, trail, None).await,
            Verified::Holds { .. }
        ));
    })
    .await;
}

#[tokio::test]
async fn rows_that_were_given_up_leave_no_gap() {
    on_both(async |db, trail| {
        append(db, trail, vec![row(1)]).await;
        let mut tx = db.begin().await.unwrap();
        trail.append(&mut tx, vec![row(2)]).await.unwrap();
        drop(tx);
        let head = append(db, trail, vec![row(3)]).await;
        assert_eq!(head.count, 2);
        let holds = Verified::Holds { head, pruned: 0 };
        assert_eq!(verify(db, trail, None).await, holds);
    })
    .await;
}

#[tokio::test]
async fn the_database_refuses_to_change_or_remove_a_row() {
    on_both(async |db, trail| {
        append(db, trail, (1..=3).map(row).collect()).await;
        for sql in [
            "update T set subject = 'eve' where seq = 2",
            "update T set seq = 7 where seq = 3",
            "delete from T where seq = 3",
            "delete from T",
            "update T_head set count = 2",
            "update T_head set pruned_count = -1",
            "delete from T_head",
        ] {
            assert!(raw(db, trail, sql).await.is_err(), "{sql}");
        }
        if !db.read().await.unwrap().is_sqlite() {
            assert!(raw(db, trail, "truncate T").await.is_err());
            assert!(raw(db, trail, "truncate T_head").await.is_err());
        }
        assert!(matches!(
            verify(db, trail, None).await,
            Verified::Holds { .. }
        ));
    })
    .await;
}

/// What somebody does who owns the database, and the row that gives it away.
const TAMPERING: [(&str, i64, Why); 19] = [
    (
        "update T set subject = 'eve' where seq = 3",
        3,
        Why::Changed,
    ),
    ("update T set reason = null where seq = 3", 3, Why::Changed),
    (
        "update T set time_us = time_us + 1 where seq = 1",
        1,
        Why::Changed,
    ),
    ("update T set job_id = 0 where seq = 5", 5, Why::Changed),
    ("update T set detail = '' where seq = 5", 5, Why::Changed),
    (
        "update T set subject = action, action = subject where seq = 2",
        2,
        Why::Changed,
    ),
    ("update T set hash = 'x' where seq = 3", 3, Why::Changed),
    ("delete from T where seq = 1", 1, Why::Missing),
    ("delete from T where seq = 3", 3, Why::Missing),
    ("delete from T where seq = 5", 5, Why::Missing),
    ("delete from T", 1, Why::Missing),
    (
        "delete from T where seq = 3; update T set seq = 3 where seq = 4; \
         update T set seq = 4 where seq = 5",
        3,
        Why::Changed,
    ),
    (
        "update T set seq = 99 where seq = 2; update T set seq = 2 where seq = 3; \
         update T set seq = 3 where seq = 99",
        2,
        Why::Changed,
    ),
    (
        "insert into T (seq, time_us, kind, outcome, source, hash) \
         select 6, 1, 'login', 'granted', 'x', hash from T where seq = 5",
        6,
        Why::Changed,
    ),
    (
        "update T set seq = 6 where seq = 5; update T set seq = 5 where seq = 4; \
         insert into T (seq, time_us, kind, outcome, source, hash) \
         select 4, 1, 'login', 'granted', 'x', hash from T where seq = 3",
        4,
        Why::Changed,
    ),
    (
        "insert into T (seq, time_us, kind, outcome, source, hash) \
         values (0, 1, 'login', 'granted', 'x', 'x')",
        0,
        Why::Extra,
    ),
    (
        "update T_head set count = 4, hash = (select hash from T where seq = 4)",
        5,
        Why::Extra,
    ),
    (
        "update T_head set hash = (select hash from T where seq = 4)",
        5,
        Why::Head,
    ),
    (
        "delete from T where seq <= 2; update T_head set pruned_count = 2, \
         pruned_hash = (select hash from T where seq = 3), pruned_by = 5",
        2,
        Why::Pruned,
    ),
];

#[tokio::test]
async fn all_tampering_is_noticed_and_the_first_bad_row_is_named() {
    for (sql, number, why) in TAMPERING {
        on_both(async |db, trail| {
            append(db, trail, (1..=5).map(row).collect()).await;
            tamper(db, trail, sql).await;
            assert_eq!(broken(db, trail).await, (number, why), "{sql}");
            let (said, outcome) = command(db, trail, "verify").await;
            assert_eq!(outcome, Outcome::Broken);
            assert!(said.contains(&number.to_string()), "{said}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_head_that_is_none_or_not_there_is_noticed() {
    for sql in [
        "delete from T_head",
        "update T_head set hash = 'x'",
        "update T_head set pruned_hash = hash",
    ] {
        on_both(async |db, trail| {
            append(db, trail, vec![row(1)]).await;
            tamper(db, trail, sql).await;
            assert_eq!(broken(db, trail).await, (0, Why::Head), "{sql}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_value_that_no_program_can_read_is_named_as_changed() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&format!("sqlite:{}", dir.path().join("x.db").display()))
        .await
        .unwrap();
    migrated(&db).await;
    let trail = Trail::AUTHSVC;
    append(&db, trail, (1..=5).map(row).collect()).await;
    let sql = "update T set subject = cast(x'ff' as text) where seq = 4";
    tamper(&db, trail, sql).await;
    assert_eq!(broken(&db, trail).await, (4, Why::Changed));
    db.close().await;
}

#[tokio::test]
async fn what_was_kept_elsewhere_tells_of_a_tail_cut_off_with_its_head() {
    on_both(async |db, trail| {
        let kept = append(db, trail, (1..=3).map(row).collect()).await;
        let head = append(db, trail, (4..=5).map(row).collect()).await;
        let words = format!("verify --head {} --count {}", kept.hash, kept.count);
        let holds = format!("holds: count 5 head {}\n", head.hash);
        assert_eq!(command(db, trail, &words).await, (holds, Outcome::Done));
        let cut = "delete from T where seq > 2; update T_head set count = 2, \
                   hash = (select hash from T where seq = 2)";
        tamper(db, trail, cut).await;
        assert!(matches!(
            verify(db, trail, None).await,
            Verified::Holds { .. }
        ));
        let missing = Broken {
            row: 3,
            why: Why::Missing,
        };
        assert_eq!(
            verify(db, trail, Some(kept)).await,
            Verified::Broken(missing)
        );
        // Written anew with other rows behind it, the chain holds by itself.
        append(db, trail, vec![row(9), row(10), row(11)]).await;
        assert!(matches!(
            verify(db, trail, None).await,
            Verified::Holds { .. }
        ));
        let other = Broken {
            row: 3,
            why: Why::Kept,
        };
        assert_eq!(verify(db, trail, Some(kept)).await, Verified::Broken(other));
        assert_eq!(command(db, trail, &words).await.1, Outcome::Broken);
    })
    .await;
}

#[tokio::test]
async fn several_writers_at_once_make_one_chain() {
    on_both(async |db, trail| {
        let write = async |from: i64| {
            for n in from..from + 20 {
                let rows = vec![row(n), row(n)];
                append(db, trail, rows).await;
            }
        };
        tokio::join!(write(0), write(100), write(200), write(300));
        let Verified::Holds { head, .. } = verify(db, trail, None).await else {
            panic!("{:?}", broken(db, trail).await);
        };
        assert_eq!(head.count, 160);
    })
    .await;
}

#[tokio::test]
async fn a_pruned_trail_holds_and_tells_who_pruned_it() {
    on_both(async |db, trail| {
        // Two batches and a bit.
        let rows: Vec<_> = (1..=12_000).map(row).collect();
        let kept = append(db, trail, rows[..10].to_vec()).await;
        append(db, trail, rows[10..].to_vec()).await;
        assert_eq!(trail.prune(db, 1_000, "me").await.unwrap(), 0);
        assert_eq!(trail.prune(db, 11_000_000, "me").await.unwrap(), 10_999);
        let left = all(db, trail).await;
        assert_eq!(left[0].seq, 11_000);
        assert_eq!(left[0].row, rows[10_999]);
        let told = &left.last().unwrap().row;
        assert_eq!(told.action.as_deref(), Some("audit-prune"));
        assert_eq!(told.source, "me");
        let Verified::Holds { head, pruned } = verify(db, trail, None).await else {
            panic!("{:?}", broken(db, trail).await);
        };
        assert_eq!((head.count, pruned), (12_001, 10_999));
        let gone = Broken {
            row: 10,
            why: Why::KeptPruned,
        };
        assert_eq!(verify(db, trail, Some(kept)).await, Verified::Broken(gone));
        // What is pruned stays pruned; and all may go but what tells of it.
        assert_eq!(trail.prune(db, 11_000_000, "me").await.unwrap(), 0);
        let (said, _) = command(db, trail, "prune --before 2999-01-01").await;
        assert_eq!(said, "1002 rows are pruned\n");
        assert_eq!(all(db, trail).await.len(), 1);
        append(db, trail, vec![row(1)]).await;
        let (said, outcome) = command(db, trail, "verify").await;
        assert_eq!(outcome, Outcome::Done);
        assert!(said.contains("count 12003 "), "{said}");
        assert!(said.contains("up to 12001 are pruned"), "{said}");
        // More taken away than was told of.
        let more = "delete from T where seq = 12002; update T_head set pruned_count = 12002";
        tamper(db, trail, more).await;
        assert_eq!(broken(db, trail).await, (12_002, Why::Pruned));
    })
    .await;
}

#[tokio::test]
async fn rows_are_listed_and_exported_by_time_user_kind_and_outcome() {
    on_both(async |db, trail| {
        let mut rows: Vec<_> = (1..=30).map(row).collect();
        rows[29].kind = "job".into();
        rows[29].subject = Some("a\nb\u{1b}[31m".into());
        append(db, trail, rows).await;
        let numbers = async |words: &str| {
            let (said, _) = command(db, trail, words).await;
            let rows = said.lines().map(|line| {
                let row: Stored = serde_json::from_str(line).unwrap();
                row.seq
            });
            rows.collect::<Vec<_>>()
        };
        assert_eq!(numbers("list --json --limit 3").await, [28, 29, 30]);
        assert_eq!(numbers("list --json --kind job").await, [30]);
        assert_eq!(numbers("list --json --user bob --limit 2").await, [24, 27]);
        let bob = numbers("export --subject bob --outcome refused").await;
        assert_eq!(bob, [3, 9, 15, 21, 27]);
        assert_eq!(numbers("export").await, (1..=30).collect::<Vec<_>>());
        assert_eq!(numbers("export --since 1h").await, [0; 0]);
        assert_eq!(numbers("export --until 1h").await.len(), 30);
        let between = Filter {
            since_us: Some(5_000),
            until_us: Some(8_000),
            ..Filter::default()
        };
        let mut conn = db.read().await.unwrap();
        let rows = trail.last(&mut conn, &between, 10).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|row| row.seq).collect();
        assert_eq!(rows, [5, 6, 7]);
        let (said, _) = command(db, trail, "list").await;
        assert_eq!(said.lines().count(), 30, "{said}");
        assert!(!said.contains('\u{1b}'));
    })
    .await;
}
