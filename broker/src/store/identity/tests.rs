//! Ids and the identity of a store, on both databases.

use warrant_migrations::Db;

use super::super::tests::{job, on_both, on_both_at};
use super::super::{Claim, NewJob};
use super::{Identity, identity, take_over};
use crate::model::{JobId, Micros};

fn claim(job: JobId, host: &str) -> Claim {
    Claim {
        job,
        attempt: 1,
        engine: "local",
        host: host.into(),
        boot: "boot".into(),
        node: "node".into(),
        placement: Some("0".into()),
        at: Micros::new(2_000),
    }
}

#[tokio::test]
async fn ids_are_in_the_order_in_which_they_were_asked_for() {
    on_both(async |store| {
        let mut last = 0;
        for n in 0..300 {
            // Three ways to an id: before the job, with it, and never used.
            let id = match n % 3 {
                0 => store.submit(job("ann", "true")).await.unwrap(),
                1 => {
                    let id = Some(store.reserve().await.unwrap());
                    let new = NewJob {
                        id,
                        ..job("bob", "true")
                    };
                    store.submit(new).await.unwrap()
                }
                _ => store.reserve().await.unwrap(),
            };
            assert!(id.get() > last, "{id} after {last}");
            last = id.get();
        }
        // None is left out where nothing fails.
        assert_eq!(last, 300);
    })
    .await;
}

#[tokio::test]
async fn of_many_who_ask_at_once_none_gets_an_id_of_another() {
    on_both(async |store| {
        let asking = (0..200).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                match n % 2 {
                    0 => store.submit(job("ann", "true")).await.unwrap(),
                    _ => store.reserve().await.unwrap(),
                }
            })
        });
        let mut ids = Vec::new();
        for asked in asking.collect::<Vec<_>>() {
            ids.push(asked.await.unwrap());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_submit_that_fails_gives_its_id_to_nobody() {
    on_both(async |store| {
        let first = store.submit(job("ann", "true")).await.unwrap();
        let taken = NewJob {
            id: Some(first),
            ..job("ann", "true")
        };
        store.submit(taken).await.unwrap_err();
        let second = store.submit(job("ann", "true")).await.unwrap();
        let third = store.reserve().await.unwrap();
        assert!(first < second && second < third);
    })
    .await;
}

#[tokio::test]
async fn t121_ids_go_beyond_those_that_were_used_and_no_further() {
    on_both(async |store| {
        let first = store.submit(job("ann", "true")).await.unwrap();
        store.go_beyond(first.get()).await.unwrap();
        let next = store.submit(job("ann", "true")).await.unwrap();
        assert_eq!(
            next.get(),
            first.get() + 1,
            "an id was left out for nothing"
        );
        for highest in [64, 65, 1_000, 1_000_000, 64_000_100] {
            store.go_beyond(highest).await.unwrap();
            let next = store.submit(job("ann", "true")).await.unwrap().get();
            assert!(next > highest && next <= highest + 64, "{highest}: {next}");
            store.go_beyond(highest / 2).await.unwrap();
            assert_eq!(store.reserve().await.unwrap().get(), next + 1);
        }
    })
    .await;
}

#[tokio::test]
async fn t121_a_store_keeps_its_identity_and_knows_whose_jobs_it_has() {
    on_both_at(async |store, url| {
        let db = Db::open(url).await.unwrap();
        let new = identity(&db, "here").await.unwrap();
        assert_eq!(new.id.len(), 32);
        assert!(!new.has_jobs, "a new store has no jobs");
        let has_jobs = async |host| {
            let Identity { id, has_jobs } = identity(&db, host).await.unwrap();
            assert_eq!(id, new.id);
            has_jobs
        };
        let id = store.submit(job("ann", "true")).await.unwrap();
        assert!(has_jobs("here").await && has_jobs("elsewhere").await);
        assert!(store.claim(claim(id, "here")).await.unwrap());
        assert!(has_jobs("here").await && !has_jobs("elsewhere").await);
        db.close().await;
    })
    .await;
}

#[tokio::test]
async fn t135_runs_without_an_end_go_to_the_broker_that_takes_over() {
    on_both_at(async |store, url| {
        let db = Db::open(url).await.unwrap();
        let id = store.submit(job("ann", "true")).await.unwrap();
        assert!(store.claim(claim(id, "gone")).await.unwrap());
        assert!(store.list_unfinished("here").await.unwrap().is_empty());
        assert_eq!(take_over(&db, "gone", "here").await.unwrap(), 1);
        let found = store.list_unfinished("here").await.unwrap();
        assert_eq!(found.len(), 1);
        // Whether it began in this boot of the machine is not known.
        assert_ne!(found[0].boot, "boot");
        assert_eq!(take_over(&db, "gone", "here").await.unwrap(), 0);
        db.close().await;
    })
    .await;
}
