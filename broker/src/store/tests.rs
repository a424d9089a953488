//! Every statement, on SQLite and on PostgreSQL.

use std::io::Write;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use warrant_migrations::{Db, Schema, on};

use super::*;
use crate::metrics::Metrics;
use crate::model::{
    Dialect, Ending, Exception, Footprint, Job, Micros, Owner, RunKey, State, Usage,
};

/// Run `test` on a new SQLite database and, where `WARRANT_TEST_POSTGRES`
/// names a server, on a new PostgreSQL database.
pub(super) async fn on_both(test: impl AsyncFn(&Store)) {
    on_both_at(async |store, _| test(store).await).await;
}

/// As [`on_both`], with the database's URL.
pub(super) async fn on_both_at(test: impl AsyncFn(&Store, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.db");
    run(&format!("sqlite:{}", file.display()), &test).await;
    let Ok(server) = std::env::var("WARRANT_TEST_POSTGRES") else {
        let why = "not run on PostgreSQL: WARRANT_TEST_POSTGRES is not set";
        let required = std::env::var("WARRANT_REQUIRE_POSTGRES");
        assert_ne!(required.as_deref(), Ok("1"), "{why}");
        writeln!(std::io::stderr(), "{why}").unwrap();
        return;
    };
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).unwrap();
    let name = format!("warrant_broker_{:016x}", u64::from_ne_bytes(salt));
    administer(&server, format!("create database {name}")).await;
    let (base, _) = server.rsplit_once('/').unwrap();
    run(&format!("{base}/{name}"), &test).await;
    administer(&server, format!("drop database {name}")).await;
}

/// A queue that is never full.
pub(super) const PLENTY: Load = Load {
    jobs: u64::MAX,
    bytes: u64::MAX,
};

async fn run(url: &str, test: &impl AsyncFn(&Store, &str)) {
    let db = Db::open(url).await.unwrap();
    Schema::Broker.migrate(&db).await.unwrap();
    Schema::Broker.check(&db).await.unwrap();
    test(
        &Store::new(db.clone(), None, PLENTY, 1000, Metrics::new()),
        url,
    )
    .await;
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

pub(super) fn job(owner: &str, command: &str) -> NewJob {
    NewJob {
        id: None,
        owner: Owner { name: owner.into(), uid: None },
        name: command.split(' ').next().unwrap_or_default().into(),
        dialect: Dialect::Flux,
        urgency: 16,
        command: command.into(),
        workdir: Some("/scratch/Größe".into()),
        footprint: Footprint {
            tasks: 2,
            cores_per_task: 3,
            gpus_per_task: 1,
            memory_bytes: 0,
            exclusive: false,
        },
        time_limit_s: 60,
        spec: r#"{"argv":["x"],"tasks":2,"cores_per_task":3,"gpus_per_task":1,"exclusive":false,"time_limit_s":60}"#.into(),
        submitted: Micros::new(1_000),
        refused: None,
        source: "192.0.2.1".into(),
        token: Some("t1".into()),
        job_sha256: "9f86d081".into(),
        key: None,
    }
}

pub(super) fn by(name: &str) -> Owner {
    Owner {
        name: name.into(),
        uid: Some(7),
    }
}

fn claim(job: JobId, attempt: u32) -> Claim {
    Claim {
        job,
        attempt,
        engine: "local",
        host: "here-1".into(),
        boot: "boot-1".into(),
        node: "here".into(),
        placement: Some("0-5".into()),
        at: Micros::new(2_000),
    }
}

fn ending(state: State, at: i64) -> Ending {
    Ending {
        state,
        started: Some(Micros::new(3_000)),
        ended: Micros::new(at),
        wait_status: Some(256),
        exception: Some(Exception {
            kind: "timeout".into(),
            severity: 0,
            note: "over".into(),
        }),
        usage: Usage {
            user_us: 1,
            system_us: 2,
            max_rss_bytes: 3,
            output_bytes: 4,
            dropped_bytes: 5,
        },
        remark: None,
    }
}

async fn events(store: &Store, job: JobId) -> Vec<(i64, String)> {
    const SQL: &str = "select seq, kind from events where job_id = $1 order by seq";
    let mut conn = store.db.read().await.unwrap();
    on!(&mut conn, |db| sqlx::query_as(SQL)
        .bind(job)
        .fetch_all(db)
        .await)
    .unwrap()
}

async fn found(store: &Store, text: &str) -> Vec<i64> {
    let query = Query {
        whose: Whose::All,
        text,
        states: &[],
        start: 0,
        limit: 100,
    };
    matching(store.search(query).await.unwrap())
}

pub(super) fn matching(matches: Matches) -> Vec<i64> {
    matches.ids.into_iter().map(JobId::get).collect()
}

pub(super) fn numbers(jobs: Vec<Job>) -> Vec<i64> {
    jobs.into_iter().map(|job| job.id.get()).collect()
}

#[tokio::test]
async fn a_job_is_found_as_it_was_accepted() {
    on_both(async |store| {
        let id = store.submit(job("ann", "sleep 60")).await.unwrap();
        let job = store.find(id).await.unwrap().unwrap();
        assert_eq!(
            (job.state, job.owner.name.as_str(), job.name.as_str()),
            (State::Queued, "ann", "sleep")
        );
        assert_eq!(
            (job.tasks, job.cores, job.gpus, job.time_limit_s),
            (2, 6, 2, 60)
        );
        assert_eq!(
            (job.workdir.as_deref(), job.attempt),
            (Some("/scratch/Größe"), 0)
        );
        assert!(job.started.is_none() && job.ended.is_none() && job.exception.is_none());
        assert_eq!(store.task(id).await.unwrap().unwrap().argv, ["x"]);
        assert_eq!(events(store, id).await, [(1, "submitted".into())]);
        assert!(
            store
                .find(JobId::new(i64::MAX).unwrap())
                .await
                .unwrap()
                .is_none()
        );
    })
    .await;
}

#[tokio::test]
async fn a_refused_job_is_accepted_as_failed() {
    on_both(async |store| {
        let refused = Exception {
            kind: "alloc".into(),
            severity: 0,
            note: "too wide".into(),
        };
        let new = NewJob {
            refused: Some(refused.clone()),
            ..job("ann", "wide")
        };
        let id = store.submit(new).await.unwrap();
        let job = store.find(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.exception), (State::Failed, Some(refused)));
        assert_eq!(
            events(store, id).await,
            [(1, "submitted".into()), (2, "failed".into())]
        );
        assert!(store.list_queued(10).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn many_jobs_at_once_get_ids_of_their_own() {
    on_both(async |store| {
        let mut all = tokio::task::JoinSet::new();
        for n in 0..300 {
            let store = store.clone();
            all.spawn(async move { store.submit(job("ann", &format!("job {n}"))).await.unwrap() });
        }
        let mut ids: Vec<JobId> = all.join_all().await;
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 300);
        assert_eq!(store.total(Whose::All).await.unwrap(), 300);
        assert_eq!(store.list_queued(1000).await.unwrap().len(), 300);
    })
    .await;
}

#[tokio::test]
async fn a_life_is_one_event_for_each_step_and_no_step_counts_twice() {
    on_both(async |store| {
        let id = store.submit(job("ann", "sleep")).await.unwrap();
        assert!(store.claim(claim(id, 1)).await.unwrap());
        assert!(!store.claim(claim(id, 1)).await.unwrap());
        let started = Step::Started {
            job: id,
            attempt: 1,
            start: Start {
                at: Micros::new(3_000),
                placement: None,
            },
        };
        assert!(store.step(started.clone()).await.unwrap());
        assert!(!store.step(started).await.unwrap());
        let over = Step::Ended {
            job: id,
            attempt: 1,
            start: None,
            ending: ending(State::TimedOut, 4_000),
        };
        assert!(store.step(over).await.unwrap());
        let again = Step::Ended {
            job: id,
            attempt: 1,
            start: None,
            ending: ending(State::Completed, 5_000),
        };
        assert!(!store.step(again).await.unwrap());
        let job = store.find(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.wait_status), (State::TimedOut, Some(256)));
        assert_eq!(
            (job.node.as_deref(), job.placement.as_deref()),
            (Some("here"), Some("0-5"))
        );
        assert_eq!(job.ended, Some(Micros::new(4_000)));
        assert_eq!(job.dropped_bytes, 5);
        assert_eq!(job.exception.unwrap().note, "over");
        let kinds = [
            "submitted",
            "starting",
            "running",
            "output_dropped",
            "timedout",
        ];
        let expected: Vec<_> = (1..).zip(kinds.map(String::from)).collect();
        assert_eq!(events(store, id).await, expected);
    })
    .await;
}

#[tokio::test]
async fn another_attempts_report_changes_nothing() {
    on_both(async |store| {
        let id = store.submit(job("ann", "sleep")).await.unwrap();
        store.claim(claim(id, 1)).await.unwrap();
        assert!(
            store
                .step(Step::Requeued {
                    job: id,
                    attempt: 1,
                    tried: true,
                    at: Micros::new(1)
                })
                .await
                .unwrap()
        );
        let queued = store.list_queued(10).await.unwrap();
        assert_eq!(
            (
                queued[0].id,
                queued[0].attempts,
                queued[0].footprint.cores()
            ),
            (id, 1, 6)
        );
        store.claim(claim(id, 2)).await.unwrap();
        let late = Step::Ended {
            job: id,
            attempt: 1,
            start: None,
            ending: ending(State::Failed, 1),
        };
        assert!(!store.step(late).await.unwrap());
        assert_eq!(
            store.find(id).await.unwrap().unwrap().state,
            State::Starting
        );
        let unfinished = store.list_unfinished("here-1").await.unwrap();
        assert_eq!(
            unfinished[0].run,
            RunKey {
                job: id,
                position: 0,
                attempt: 2
            }
        );
        assert_eq!(
            (
                unfinished[0].placement.as_str(),
                unfinished[0].boot.as_str()
            ),
            ("0-5", "boot-1")
        );
        assert!(store.list_unfinished("elsewhere").await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_start_recorded_with_the_end_is_an_event_of_its_own_and_tells_the_place() {
    on_both(async |store| {
        let id = store.submit(job("ann", "true")).await.unwrap();
        let ahead = Claim {
            placement: None,
            ..claim(id, 1)
        };
        assert!(store.claim(ahead).await.unwrap());
        let unfinished = store.list_unfinished("here-1").await.unwrap();
        assert_eq!(unfinished[0].placement, "");
        let over = Step::Ended {
            job: id,
            attempt: 1,
            start: Some(Start {
                at: Micros::new(3_000),
                placement: Some("4".into()),
            }),
            ending: ending(State::Completed, 4_000),
        };
        assert!(store.step(over.clone()).await.unwrap());
        assert!(!store.step(over).await.unwrap());
        let job = store.find(id).await.unwrap().unwrap();
        assert_eq!(
            (job.state, job.placement.as_deref()),
            (State::Completed, Some("4"))
        );
        let kinds = [
            "submitted",
            "starting",
            "running",
            "output_dropped",
            "completed",
        ];
        let expected: Vec<_> = (1..).zip(kinds.map(String::from)).collect();
        assert_eq!(events(store, id).await, expected);
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_is_given_back_does_not_count_as_a_try() {
    on_both(async |store| {
        let id = store.submit(job("ann", "true")).await.unwrap();
        let back = Step::Requeued {
            job: id,
            attempt: 1,
            tried: false,
            at: Micros::new(9),
        };
        for _ in 0..2 {
            assert!(store.claim(claim(id, 1)).await.unwrap());
            assert!(store.step(back.clone()).await.unwrap());
            assert!(!store.step(back.clone()).await.unwrap());
            assert_eq!(store.list_queued(10).await.unwrap()[0].attempts, 0);
            assert!(store.list_unfinished("here-1").await.unwrap().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_to_be_cancelled_does_not_wait_again() {
    on_both(async |store| {
        for tried in [true, false] {
            let id = store.submit(job("ann", "true")).await.unwrap();
            store.claim(claim(id, 1)).await.unwrap();
            let wish = Cancel {
                job: id,
                by: by("ann"),
                source: "local".into(),
                token: None,
                note: String::new(),
                refused: false,
                at: Micros::new(9),
            };
            assert_eq!(
                store.cancel(wish).await.unwrap(),
                CancelAnswer::Requested(1)
            );
            let back = Step::Requeued {
                job: id,
                attempt: 1,
                tried,
                at: Micros::new(10),
            };
            assert!(store.step(back).await.unwrap());
            let job = store.find(id).await.unwrap().unwrap();
            assert_eq!(job.state, State::Cancelled);
            assert_eq!(job.ended, Some(Micros::new(10)));
            assert_eq!(job.exception.unwrap().kind, "cancel");
            assert!(store.list_queued(10).await.unwrap().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn cancelling_depends_on_where_the_job_stands() {
    on_both(async |store| {
        let cancel = async |job| {
            let wish = Cancel {
                job,
                by: by("ann"),
                source: "local".into(),
                token: None,
                note: String::new(),
                refused: false,
                at: Micros::new(9),
            };
            store.cancel(wish).await.unwrap()
        };
        let waiting = store.submit(job("ann", "a")).await.unwrap();
        assert_eq!(cancel(waiting).await, CancelAnswer::Cancelled);
        assert_eq!(cancel(waiting).await, CancelAnswer::Ended);
        assert!(!store.claim(claim(waiting, 1)).await.unwrap());
        let running = store.submit(job("ann", "b")).await.unwrap();
        store.claim(claim(running, 1)).await.unwrap();
        assert_eq!(cancel(running).await, CancelAnswer::Requested(1));
        assert_eq!(cancel(running).await, CancelAnswer::Requested(1));
        assert!(store.list_unfinished("here-1").await.unwrap()[0].cancel);
        assert_eq!(
            cancel(JobId::new(4_000_000).unwrap()).await,
            CancelAnswer::Unknown
        );
        let wishes = events(store, running).await;
        assert_eq!(
            wishes
                .iter()
                .filter(|(_, kind)| kind == "cancel_requested")
                .count(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn what_has_not_started_is_listed_by_owner_and_ended_with_a_note() {
    on_both(async |store| {
        let submit = async |owner, submitted| {
            let submitted = Micros::new(submitted);
            let job = job(owner, "a");
            store.submit(NewJob { submitted, ..job }).await.unwrap()
        };
        let waiting = submit("ann", 5).await;
        let starting = submit("ann", 6).await;
        let running = submit("ann", 6).await;
        let (_later, _other) = (submit("ann", 8).await, submit("bob", 5).await);
        for job in [starting, running] {
            assert!(store.claim(claim(job, 1)).await.unwrap());
        }
        let started = Step::Started {
            job: running,
            attempt: 1,
            start: Start {
                at: Micros::new(7),
                placement: None,
            },
        };
        assert!(store.step(started).await.unwrap());
        let unstarted = async || store.list_unstarted("ann", Micros::new(7)).await.unwrap();
        assert_eq!(unstarted().await, [waiting, starting]);
        for job in unstarted().await {
            let wish = Cancel {
                job,
                by: by("ann"),
                source: "local".into(),
                token: None,
                note: "a note".into(),
                refused: false,
                at: Micros::new(9),
            };
            store.cancel(wish).await.unwrap();
        }
        assert_eq!(unstarted().await, []);
        let ended = store.find(waiting).await.unwrap().unwrap();
        assert_eq!(ended.state, State::Cancelled);
        assert_eq!(ended.exception.unwrap().note, "a note");
    })
    .await;
}

#[tokio::test]
async fn the_queue_is_ordered_by_urgency_and_then_by_age() {
    on_both(async |store| {
        let mut ids = Vec::new();
        for urgency in [16, 31, 16, 1] {
            ids.push(
                store
                    .submit(NewJob {
                        urgency,
                        ..job("ann", "x")
                    })
                    .await
                    .unwrap(),
            );
        }
        let queued = store.list_queued(3).await.unwrap();
        let order: Vec<JobId> = queued.iter().map(|job| job.id).collect();
        assert_eq!(order, [ids[1], ids[0], ids[2]]);
    })
    .await;
}

#[tokio::test]
async fn any_page_is_what_skipping_by_hand_gives() {
    on_both(async |store| {
        let mut all = tokio::task::JoinSet::new();
        for n in 0..2500 {
            let store = store.clone();
            let owner = if n % 3 == 0 { "ann" } else { "bob" };
            all.spawn(async move { store.submit(job(owner, "x")).await.unwrap() });
        }
        all.join_all().await;
        for whose in [
            Whose::All,
            Whose::Owner("ann"),
            Whose::Owner("bob"),
            Whose::Owner("eve"),
        ] {
            let listed = numbers(store.list(whose, None, 5000).await.unwrap());
            assert!(listed.is_sorted_by(|a, b| a > b));
            let total = i64::try_from(listed.len()).unwrap();
            for start in [0, 1, 800, 1023, 1024, 1667, 2049, 2499, 2500, 9999] {
                let page = store.page(whose, start, 10).await.unwrap();
                assert_eq!(page.total, total);
                let skip = usize::try_from(start).unwrap();
                let expected: Vec<i64> = listed.iter().copied().skip(skip).take(10).collect();
                assert_eq!(numbers(page.jobs), expected, "{whose:?} from {start}");
            }
        }
        let ids = store.list_ids(Whose::All, None, 3).await.unwrap();
        let older = store
            .list_ids(Whose::All, ids.last().copied(), 1)
            .await
            .unwrap();
        assert_eq!(
            older[0].get(),
            numbers(store.list(Whose::All, None, 4).await.unwrap())[3]
        );
    })
    .await;
}

#[tokio::test]
async fn text_is_found_wherever_it_stands_and_as_it_stands() {
    on_both(async |store| {
        let a = store
            .submit(job("ann", "python3 train.py --rate 50%"))
            .await
            .unwrap()
            .get();
        let b = store
            .submit(job("bob", "echo Hello_World zq"))
            .await
            .unwrap()
            .get();
        for (text, expected) in [
            ("train.py", vec![a]),
            ("TRAIN", vec![a]),
            ("hello_world", vec![b]),
            ("hello.world", vec![]),
            ("50%", vec![a]),
            ("0%", vec![a]),
            ("%", vec![a]),
            ("_", vec![b]),
            ("zq", vec![b]),
            ("z", vec![b]),
            ("\"", vec![]),
            ("x\" OR \"y", vec![]),
            ("bob", vec![b]),
            ("größe", vec![b, a]),
            ("GRÖ", vec![b, a]),
            ("annbob", vec![]),
            ("rate 50", vec![a]),
            ("scratch", vec![b, a]),
            ("\\", vec![]),
        ] {
            assert_eq!(found(store, text).await, expected, "{text}");
        }
        assert!(found(store, &b.to_string()).await.contains(&b));
    })
    .await;
}

#[tokio::test]
async fn nobody_smuggles_a_job_into_anothers_search() {
    on_both(async |store| {
        let own = store.submit(job("ann", "needle")).await.unwrap();
        store
            .submit(job("bob", "needle \u{2}ann\u{3}"))
            .await
            .unwrap();
        let name = "\u{2}ann\u{3}".to_owned();
        store
            .submit(NewJob {
                name,
                ..job("bob", "needle")
            })
            .await
            .unwrap();
        let base = Query {
            whose: Whose::Owner("ann"),
            text: "needle",
            states: &[],
            start: 0,
            limit: 10,
        };
        for text in ["needle", "ne", "n", "\u{2}ann\u{3}"] {
            let page = store.search(Query { text, ..base }).await.unwrap();
            assert_eq!(page.total, 1);
            assert_eq!(matching(page), [own.get()], "{text:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn searches_page_keep_to_the_owner_and_know_states() {
    on_both(async |store| {
        let mut ids = Vec::new();
        for n in 0..40 {
            let owner = if n % 2 == 0 { "ann" } else { "bob" };
            ids.push(store.submit(job(owner, "needle")).await.unwrap().get());
        }
        ids.reverse();
        let anns: Vec<i64> = ids.iter().copied().skip(1).step_by(2).collect();
        let base = Query {
            whose: Whose::All,
            text: "needle",
            states: &[],
            start: 5,
            limit: 10,
        };
        let page = store.search(base).await.unwrap();
        assert_eq!(page.total, 40);
        assert_eq!(matching(page), &ids[5..15]);
        let own = Query {
            whose: Whose::Owner("ann"),
            ..base
        };
        assert_eq!(matching(store.search(own).await.unwrap()), &anns[5..15]);
        let short = Query { text: "ee", ..own };
        assert_eq!(matching(store.search(short).await.unwrap()), &anns[5..15]);

        let cancelled = JobId::new(ids[20]).unwrap();
        let wish = Cancel {
            job: cancelled,
            by: by("ann"),
            source: "local".into(),
            token: None,
            note: String::new(),
            refused: false,
            at: Micros::new(9),
        };
        store.cancel(wish).await.unwrap();
        let states = [State::Cancelled];
        let by_state = Query {
            text: "canceled",
            states: &states,
            start: 0,
            ..base
        };
        assert_eq!(matching(store.search(by_state).await.unwrap()), [ids[20]]);
        let both = Query {
            text: "needle",
            ..by_state
        };
        assert_eq!(matching(store.search(both).await.unwrap()), &ids[..10]);
    })
    .await;
}
