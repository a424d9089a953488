//! Searches, compared with reading every text by hand.

use std::cmp::Reverse;
use std::time::Duration;

use warrant_migrations::{Db, Schema};

use super::*;
use crate::metrics::Metrics;
use crate::model::Micros;
use crate::store::tests::{PLENTY, by, job, matching, on_both};
use crate::store::{Cancel, late::MOST};

/// What the index holds of a job, looked through by hand.
fn holds(id: i64, job: &NewJob, text: &str) -> bool {
    let id = JobId::new(id).unwrap();
    super::text_of(id, job).contains(&text.to_lowercase())
}

#[tokio::test]
async fn every_search_finds_what_reading_all_texts_finds() {
    const TEXTS: [&str; 54] = [
        "a",
        "7",
        "x",
        "%",
        "_",
        "\\",
        "\"",
        "'",
        "\n",
        " ",
        "*",
        "é",
        "ß",
        "漢",
        "\u{2}",
        "\u{3}",
        "py",
        "PY",
        "zq",
        "ö ",
        "\n\n",
        "\n\u{2}",
        "\u{3}\n",
        "00",
        "漢字",
        "_%",
        "--",
        "é\n",
        "ann",
        "\u{2}ann\u{3}",
        "\u{3}\n\n",
        "n\u{3}\n\n1",
        "\n\n1",
        "bob",
        "eve",
        "home",
        "HOME",
        "größe",
        "GRÖSSE",
        "train.py",
        "train.python",
        "rare",
        "never",
        "%_%",
        "50%",
        "home/ann",
        "home/bob",
        "seed 11",
        "seed 1100",
        "漢字かな",
        "p1\n\u{2}a",
        "1\ntrain",
        "Δέλτα",
        "---",
    ];
    on_both(async |store| {
        let mut all = tokio::task::JoinSet::new();
        for n in 0..2600 {
            let owner = if n % 9 == 0 { "ann" } else { "bob" };
            let command = match n % 6 {
                0 => format!("train.py --seed {n} é"),
                1 => format!("python {n}% of_it \\ \"x y\""),
                2 => format!("echo 漢字かな{n} Ö Δέλτα"),
                3 => "line one\n\nline 1 \u{2}ann\u{3} \u{3}\n\n17".into(),
                4 => String::new(),
                _ if n == 5 => "rare".into(),
                _ => format!("x{n:04}"),
            };
            let new = NewJob {
                name: command.chars().take(5).collect(),
                workdir: (n % 7 != 0).then(|| format!("/home/{owner}/p{}", n % 3)),
                ..job(owner, &command)
            };
            let store = store.clone();
            all.spawn(async move {
                let id = store.submit(new.clone()).await.unwrap();
                (id.get(), new)
            });
        }
        let mut all = all.join_all().await;
        all.sort_unstable_by_key(|(id, _)| Reverse(*id));
        store.texts.wait().await;
        for whose in [
            Whose::All,
            Whose::Owner("ann"),
            Whose::Owner("bob"),
            Whose::Owner("eve"),
        ] {
            for text in TEXTS {
                let expected: Vec<i64> = all
                    .iter()
                    .filter(|(id, job)| {
                        whose.name().is_none_or(|owner| owner == job.owner.name)
                            && holds(*id, job, text)
                    })
                    .map(|(id, _)| *id)
                    .collect();
                for start in [2000, 0, 1, 25, 140, 700, 1030, 9999] {
                    let query = Query {
                        whose,
                        text,
                        states: &[],
                        start,
                        limit: 25,
                    };
                    let skip = usize::try_from(start).unwrap();
                    let page: Vec<i64> = expected.iter().copied().skip(skip).take(25).collect();
                    let found = matching(store.search(query).await.unwrap());
                    assert_eq!(found, page, "{text:?} of {whose:?} from {start}");
                    if text.is_ascii() && !text.contains(['\n', '\u{2}', '\u{3}']) {
                        let indexed = store.search_without_copy(query).await.unwrap();
                        assert_eq!(
                            indexed, page,
                            "{text:?} of {whose:?} from {start}, by index"
                        );
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_job_is_found_at_once_and_shifts_the_pages_of_a_search_that_was_made() {
    on_both(async |store| {
        let mut ids = Vec::new();
        for n in 0..1200 {
            let page = Query {
                whose: Whose::All,
                text: "needle",
                states: &[],
                start: 40,
                limit: 5,
            };
            let hay = if n % 3 == 0 { "hay" } else { "needle" };
            let id = store.submit(job("ann", hay)).await.unwrap().get();
            if hay == "needle" {
                ids.insert(0, id);
            }
            if n % 50 == 49 || n < 100 {
                let expected: Vec<i64> = ids.iter().copied().skip(40).take(5).collect();
                assert_eq!(matching(store.search(page).await.unwrap()), expected);
                let newest = Query { start: 0, ..page };
                let expected: Vec<i64> = ids.iter().copied().take(5).collect();
                assert_eq!(matching(store.search(newest).await.unwrap()), expected);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn far_pages_by_state_know_what_has_changed_since() {
    on_both(async |store| {
        let mut all = tokio::task::JoinSet::new();
        for n in 0..2200 {
            let words = if n % 2 == 0 { "hay" } else { "needle" };
            let owner = if n % 4 < 2 { "ann" } else { "bob" };
            let store = store.clone();
            all.spawn(async move { (store.submit(job(owner, words)).await.unwrap(), n) });
        }
        let mut ids = all.join_all().await;
        ids.sort_unstable_by_key(|(id, _)| Reverse(*id));
        let mut cancelled = 0;
        for step in [0, 700, 400, 0] {
            for (id, n) in &ids[cancelled..cancelled + step] {
                let wish = Cancel {
                    job: *id,
                    by: by("ann"),
                    source: "local".into(),
                    token: None,
                    note: String::new(),
                    refused: false,
                    at: Micros::new(*n),
                };
                store.cancel(wish).await.unwrap();
            }
            cancelled += step;
            for whose in [Whose::All, Whose::Owner("ann")] {
                for (text, states) in [
                    ("nee", vec![State::Cancelled]),
                    ("nee", vec![State::Queued]),
                    ("e", vec![State::Cancelled, State::Running]),
                    ("cancel", vec![State::Cancelled]),
                ] {
                    let expected: Vec<i64> = (0..)
                        .zip(&ids)
                        .filter(|(at, (_, n))| {
                            let state = match *at < cancelled {
                                true => State::Cancelled,
                                false => State::Queued,
                            };
                            let words = if n % 2 == 0 { "hay" } else { "needle" };
                            let held = format!("{words} /scratch/größe").contains(text);
                            (whose == Whose::All || n % 4 < 2) && (held || states.contains(&state))
                        })
                        .map(|(_, (id, _))| id.get())
                        .collect();
                    for start in [0, 990, 1000, 1040, 1500, 2180, 5000] {
                        let states = &states;
                        let query = Query {
                            whose,
                            text,
                            states,
                            start,
                            limit: 25,
                        };
                        let skip = usize::try_from(start).unwrap();
                        let page: Vec<i64> = expected.iter().copied().skip(skip).take(25).collect();
                        let found = matching(store.search(query).await.unwrap());
                        assert_eq!(found, page, "{text:?} {states:?} of {whose:?} from {start}");
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_text_longer_than_what_is_read_at_a_time_is_found() {
    on_both(async |store| {
        let long = format!("{} needle {}", "x".repeat(300_000), "y".repeat(400_000));
        let mut ids = Vec::new();
        for command in ["needle", &long, "hay", &long, "needle"] {
            let id = store.submit(job("ann", command)).await.unwrap().get();
            if command != "hay" {
                ids.insert(0, id);
            }
        }
        for start in 0..5 {
            let query = Query {
                whose: Whose::Owner("ann"),
                text: "needle",
                states: &[],
                start: i64::try_from(start).unwrap(),
                limit: 2,
            };
            let expected: Vec<i64> = ids.iter().copied().skip(start).take(2).collect();
            let found = store.search(query).await.unwrap();
            assert_eq!(matching(found), expected, "from {start}");
        }
    })
    .await;
}

/// How many texts wait for the index on SQLite.
async fn late(store: &Store) -> i64 {
    let mut conn = store.db.read().await.unwrap();
    let count = sqlx::query_scalar("select count(*) from job_text_late");
    match &mut conn {
        Conn::Sqlite(db) => count.fetch_one(&mut **db).await.unwrap(),
        Conn::Postgres(_) => unreachable!("it is asked of SQLite alone"),
    }
}

#[tokio::test]
async fn a_text_is_found_while_it_waits_for_its_index_and_the_index_takes_what_a_crash_left() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("broker.db").display());
    let db = Db::open(&url).await.unwrap();
    Schema::Broker.migrate(&db).await.unwrap();
    let mut ids = Vec::new();
    let page = |start, limit| Query {
        whose: Whose::Owner("ann"),
        text: "Größe needle",
        states: &[],
        start,
        limit,
    };
    for round in 0..3 {
        // Each leaves some that wait.
        let store = Store::new(db.clone(), None, PLENTY, 1000, Metrics::new());
        for n in 0..200 {
            let owner = if n % 2 == 0 { "ann" } else { "bob" };
            let command = if n % 3 == 0 { "größe needle" } else { "hay" };
            let id = store.submit(job(owner, command)).await.unwrap().get();
            if n % 6 == 0 {
                ids.insert(0, id);
            }
        }
        let waiting = late(&store).await;
        assert!(
            (1..=MOST as i64).contains(&waiting),
            "{waiting} in round {round}"
        );
        for start in [0, 1, 20, 33, 40, 70, 200] {
            let skip = usize::try_from(start).unwrap();
            let expected: Vec<i64> = ids.iter().copied().skip(skip).take(7).collect();
            let found = store.search_without_copy(page(start, 7)).await.unwrap();
            assert_eq!(found, expected, "from {start} in round {round}");
        }
    }
    let store = Store::new(db.clone(), None, PLENTY, 1000, Metrics::new());
    let taken = async {
        while late(&store).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken)
        .await
        .unwrap();
    let found = store.search_without_copy(page(0, 500)).await.unwrap();
    assert_eq!(found, ids);
}

#[test]
fn the_file_does_not_grow_with_what_is_replaced_and_a_view_keeps_what_it_saw() {
    let record = |id: i64| {
        let mut record = Vec::new();
        let text = format!("{id}\n{}\n\u{2}ann{}", "x".repeat(100_000), scan::END);
        scan::push(&mut record, State::Queued, &text);
        record
    };
    let read = |view: &shelf::View| {
        let mut all = Vec::new();
        for slot in &view.slots {
            view.read(slot, |records| {
                all.extend_from_slice(records);
                Ok(())
            })
            .unwrap();
        }
        all
    };
    let mut shelf = shelf::Shelf::new().unwrap();
    shelf.put(0, 1, true, &record(1)).unwrap();
    shelf.put(1, 1, true, &record(1024)).unwrap();
    let early = shelf.view();
    for id in 1025..1225 {
        shelf.put(1, 1, false, &record(id)).unwrap();
        assert!(shelf.bytes() < 5_000_000);
    }
    assert_eq!(read(&early), [record(1024), record(1)].concat());
    assert_eq!(read(&shelf.view()), [record(1224), record(1)].concat());
    assert_eq!((shelf.jobs(1), shelf.jobs(2)), (1, 0));
    assert_eq!(shelf.unsettled(), [1]);
}
