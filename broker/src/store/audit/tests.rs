//! What is done is in the trail, and the trail holds.

use std::time::Duration;

use warrant_migrations::{Db, on};
use warrant_trail::{Filter, Row, Stored, Trail, Verified};

use crate::model::{JobId, Micros};
use crate::store::tests::{by, job, on_both, on_both_at};
use crate::store::{Cancel, CancelAnswer, Store};

/// The rows, after it was seen that they hold.
async fn rows(store: &Store) -> Vec<Stored> {
    let mut conn = store.db.read().await.unwrap();
    let verified = Trail::BROKER.verify(&mut conn, None).await.unwrap();
    assert!(matches!(verified, Verified::Holds { .. }), "{verified:?}");
    let all = Filter::default();
    Trail::BROKER
        .last(&mut conn, &all, 1_000_000)
        .await
        .unwrap()
}

fn cancel(job: JobId) -> Cancel {
    Cancel {
        job,
        by: by("bob"),
        source: "local".into(),
        token: Some("t2".into()),
        note: String::new(),
        refused: false,
        at: Micros::new(9),
    }
}

fn note(n: i64) -> Row {
    Row {
        time_us: n,
        kind: "read".into(),
        outcome: "granted".into(),
        source: "local".into(),
        ..Row::default()
    }
}

#[tokio::test]
async fn each_change_that_somebody_asked_for_is_a_row() {
    on_both(async |store| {
        let id = store.submit(job("ann", "sleep 60")).await.unwrap();
        assert_eq!(
            store.cancel(cancel(id)).await.unwrap(),
            CancelAnswer::Cancelled
        );
        // Nothing is changed by asking again.
        assert_eq!(store.cancel(cancel(id)).await.unwrap(), CancelAnswer::Ended);
        store.record(note(11)).await.unwrap();
        let submitted = |id: JobId| Row {
            time_us: 1_000,
            kind: "submit".into(),
            outcome: "granted".into(),
            subject: Some("ann".into()),
            source: "192.0.2.1".into(),
            jti: Some("t1".into()),
            job_id: Some(id.get()),
            job_sha256: Some("9f86d081".into()),
            ..Row::default()
        };
        let cancelled = |id: JobId| Row {
            time_us: 9,
            kind: "cancel".into(),
            outcome: "granted".into(),
            subject: Some("bob".into()),
            uid: Some(7),
            source: "local".into(),
            jti: Some("t2".into()),
            job_id: Some(id.get()),
            ..Row::default()
        };
        let mut told = vec![submitted(id), cancelled(id), note(11)];
        // One that the server cancels, and one that it withdraws.
        for refused in [false, true] {
            let id = store.submit(job("ann", "sleep 60")).await.unwrap();
            let wish = Cancel {
                note: "why".into(),
                refused,
                ..cancel(id)
            };
            store.cancel(wish).await.unwrap();
            let row = if refused {
                Row {
                    kind: "submit".into(),
                    outcome: "refused".into(),
                    reason: Some("not-admitted".into()),
                    ..cancelled(id)
                }
            } else {
                Row {
                    detail: Some("why".into()),
                    ..cancelled(id)
                }
            };
            told.extend([submitted(id), row]);
        }
        let found: Vec<_> = rows(store)
            .await
            .into_iter()
            .map(|stored| stored.row)
            .collect();
        assert_eq!(found, told);
    })
    .await;
}

#[tokio::test]
async fn a_row_that_nobody_waits_for_is_written_soon() {
    on_both(async |store| {
        store.note(note(1)).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while rows(store).await.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "it is not written");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_of_what_a_job_runs_is_in_the_trail() {
    on_both(async |store| {
        let mut secret = job("ann", "canary-command --password canary");
        secret.name = "canary-name".into();
        secret.workdir = Some("/canary-dir".into());
        secret.spec = secret.spec.replace("x", "canary-spec");
        let id = store.submit(secret).await.unwrap();
        store.cancel(cancel(id)).await.unwrap();
        let text = serde_json::to_string(&rows(store).await).unwrap();
        assert!(text.contains("9f86d081"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn many_changes_at_once_are_a_row_each() {
    on_both(async |store| {
        let mut all = tokio::task::JoinSet::new();
        for n in 0..1000 {
            let store = store.clone();
            all.spawn(async move {
                let id = store.submit(job("ann", "x")).await.unwrap();
                if n % 10 == 0 {
                    store.cancel(cancel(id)).await.unwrap();
                }
                if n % 7 == 0 {
                    store.note(note(n)).unwrap();
                }
                id.get()
            });
        }
        let mut ids = all.join_all().await;
        ids.sort_unstable();
        store.record(note(1)).await.unwrap();
        let rows = rows(store).await;
        let of = |kind: &str| rows.iter().filter(|stored| stored.row.kind == kind).count();
        assert_eq!((of("submit"), of("cancel"), of("read")), (1000, 100, 144));
        let submits = rows.iter().filter(|stored| stored.row.kind == "submit");
        let mut found: Vec<_> = submits.filter_map(|stored| stored.row.job_id).collect();
        found.sort_unstable();
        assert_eq!(found, ids);
    })
    .await;
}

#[tokio::test]
async fn somebody_else_may_write_between_and_no_job_is_refused_for_it() {
    on_both_at(async |store, url| {
        let other = Db::open(url).await.unwrap();
        let between = async |n| {
            let mut tx = other.begin().await.unwrap();
            Trail::BROKER.append(&mut tx, vec![note(n)]).await.unwrap();
            tx.commit().await.unwrap();
        };
        for n in 0..5 {
            let id = store.submit(job("ann", "x")).await.unwrap();
            between(n).await;
            store.submit(job("ann", "x")).await.unwrap();
            between(n).await;
            store.cancel(cancel(id)).await.unwrap();
            between(n).await;
            store.record(note(n)).await.unwrap();
            between(n).await;
        }
        assert_eq!(rows(store).await.len(), 40);
        // And both at once, with pruning in between.
        let submits = async {
            for _ in 0..60 {
                store.submit(job("ann", "x")).await.unwrap();
            }
        };
        let others = async {
            for n in 0..20 {
                between(n).await;
                if n % 5 == 0 {
                    Trail::BROKER.prune(&other, 500, "me").await.unwrap();
                }
            }
        };
        tokio::join!(submits, others);
        let rows = rows(store).await;
        let submits = rows.iter().filter(|stored| stored.row.kind == "submit");
        assert_eq!(submits.count(), 70);
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_accepted_leaves_no_row_and_the_chain_goes_on() {
    on_both(async |store| {
        let id = store.submit(job("ann", "x")).await.unwrap();
        // A batch in which one change is impossible: its id is taken.
        let mut twice = job("ann", "y");
        twice.id = Some(id);
        let (good, bad) = tokio::join!(store.submit(job("ann", "z")), store.submit(twice));
        assert!(good.is_ok() && bad.is_err());
        store.submit(job("ann", "x")).await.unwrap();
        assert_eq!(rows(store).await.len(), 3);
        let count: i64 = {
            let mut conn = store.db.read().await.unwrap();
            on!(&mut conn, |db| sqlx::query_scalar(
                "select count(*) from jobs"
            )
            .fetch_one(db)
            .await)
            .unwrap()
        };
        assert_eq!(count, 3);
    })
    .await;
}
