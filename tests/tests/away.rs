//! A database that is slow, locked, contradicts, or is not there: nothing is
//! done twice, nothing that was promised is lost, and nobody is let in by it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use warrant_tests::cluster::Cluster;
use warrant_tests::wait::{until, until_within};
use warrant_tests::{Flux, House, Setup};

/// A job that writes its id to a file.
fn told(house: &House) -> Value {
    let script = format!("echo $FLUX_JOB_ID >> {}", house.path("ran").display());
    json!({"command": ["sh", "-c", script]})
}

/// The ids of the jobs that ran, in order; panics where one ran twice.
fn ran(house: &House) -> Vec<i64> {
    let text = std::fs::read_to_string(house.path("ran")).unwrap_or_default();
    let mut ids: Vec<i64> = text.lines().map(|line| line.parse().unwrap()).collect();
    ids.sort_unstable();
    let before = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), before, "a job ran twice");
    ids
}

/// A job that holds the machine until the file `gate` is there.
fn hold(house: &House, user: &Flux) -> i64 {
    let gate = house.path("gate");
    let script = format!(
        "echo begun; until [ -e {} ]; do sleep 0.01; done",
        gate.display()
    );
    let job = user.submit_script(&script);
    user.first_output(job);
    job
}

#[test]
fn t120_behind_a_lock_all_are_answered_nothing_is_done_twice_and_no_cancel_is_lost() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let house = Setup::on(cluster.database()).cores(1).open();
    let ann = house.user("ann");
    let running = hold(&house, &ann);
    let waiting = ann.submit_with(&told(&house));
    let body = told(&house);
    let locked = AtomicBool::new(true);
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let lock =
                "begin; lock table jobs in access exclusive mode; select pg_sleep(8); commit";
            cluster.run_sql(house.broker_database(), lock);
            locked.store(false, Ordering::Relaxed);
        });
        // More readers and writers than the broker has connections.
        for _ in 0..40 {
            scope.spawn(|| {
                while locked.load(Ordering::Relaxed) {
                    let answer = ann.get("/v1/jobs?details=true&listing=true");
                    assert!([200, 503].contains(&answer.status), "{}", answer.text());
                }
            });
            scope.spawn(|| {
                while locked.load(Ordering::Relaxed) {
                    let answer = ann.post_json("/v1/jobs/submit", &body);
                    match answer.status {
                        200 => {
                            let id = answer.json()["id"].as_i64().unwrap();
                            acknowledged.lock().unwrap().push(id);
                            break;
                        }
                        status => assert_eq!(status, 503, "{}", answer.text()),
                    }
                }
            });
        }
        // What needs no store is answered at once, to those who may.
        scope.spawn(|| {
            while locked.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(ann.get("/v1/nodes").status, 200);
                assert_eq!(house.nobody().get("/v1/nodes").status, 401);
                assert!(
                    began.elapsed() < Duration::from_secs(5),
                    "{:?}",
                    began.elapsed()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        until("the job to be cancelled", || {
            let answer = ann.cancel(waiting);
            assert!([200, 503].contains(&answer.status), "{}", answer.text());
            (answer.status == 200).then_some(())
        });
    });
    std::fs::write(house.path("gate"), "").unwrap();
    ann.finished(running);
    assert_eq!(ann.finished(waiting)["result"], "CANCELED");
    let mut acknowledged = acknowledged.into_inner().unwrap();
    for job in &acknowledged {
        assert_eq!(ann.finished(*job)["result"], "COMPLETED", "{job}");
    }
    acknowledged.sort_unstable();
    assert_eq!(ran(&house), acknowledged);
    // Of those who were told to try again, nothing was kept.
    assert_eq!(ann.list().len(), acknowledged.len() + 2);
    house.close();
}

#[test]
fn t120_where_transactions_contradict_each_other_nothing_is_done_twice_or_lost() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    // Every transaction of the services is judged as strictly as can be.
    let postgres = "postgres:///postgres";
    let strict = "alter role postgres set default_transaction_isolation = 'serializable'";
    cluster.run_sql(postgres, strict);
    let house = Setup::on(cluster.database()).open();
    let ann = house.user("ann");
    let body = told(&house);
    let (kept, cancelled) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (ann, body, kept, cancelled) = (&ann, &body, &kept, &cancelled);
            scope.spawn(move || {
                for n in 0..20 {
                    let answer = ann.post_json("/v1/jobs/submit", body);
                    assert!([200, 503].contains(&answer.status), "{}", answer.text());
                    if answer.status != 200 {
                        continue;
                    }
                    let job = answer.json()["id"].as_i64().unwrap();
                    if (n + client) % 2 == 0 && ann.cancel(job).status == 200 {
                        cancelled.lock().unwrap().push(job);
                    } else {
                        kept.lock().unwrap().push(job);
                    }
                }
            });
        }
    });
    let (kept, cancelled) = (kept.into_inner().unwrap(), cancelled.into_inner().unwrap());
    assert!(kept.len() > 20, "{} were submitted", kept.len());
    for job in &kept {
        assert_eq!(ann.finished(*job)["result"], "COMPLETED", "{job}");
    }
    for job in &cancelled {
        // One that was over before the cancel arrived has its own end.
        let result = ann.finished(*job)["result"].clone();
        assert!(
            ["CANCELED", "COMPLETED", "FAILED"].contains(&result.as_str().unwrap()),
            "{result}"
        );
    }
    let ran = ran(&house);
    for job in &kept {
        assert!(ran.binary_search(job).is_ok(), "job {job} never ran");
    }
    assert_eq!(ann.list().len(), kept.len() + cancelled.len());
    house.close();
}

#[test]
fn t120_a_server_that_stops_in_the_middle_loses_no_cancel() {
    const JOBS: usize = 60;
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let house = Setup::on(cluster.database()).cores(1).open();
    let ann = house.user("ann");
    let running = hold(&house, &ann);
    let jobs: Vec<i64> = (0..JOBS).map(|_| ann.submit_with(&told(&house))).collect();
    let promised = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for part in jobs.chunks(JOBS / 4) {
            let (ann, promised) = (&ann, &promised);
            scope.spawn(move || {
                for job in part {
                    let answer = ann.cancel(*job);
                    assert!([200, 503].contains(&answer.status), "{}", answer.text());
                    if answer.status == 200 {
                        promised.lock().unwrap().push(*job);
                    }
                }
            });
        }
        until("the first cancels", || {
            (promised.lock().unwrap().len() > 5).then_some(())
        });
        cluster.crash();
        cluster.resume();
    });
    let promised = promised.into_inner().unwrap();
    std::fs::write(house.path("gate"), "").unwrap();
    until("the store to be back", || {
        (ann.get("/v1/jobs").status == 200).then_some(())
    });
    ann.finished(running);
    for job in &jobs {
        let result = ann.finished(*job)["result"].clone();
        let expected: &[&str] = if promised.contains(job) {
            &["CANCELED"]
        } else {
            // Whoever was told nothing may have been heard all the same.
            &["CANCELED", "COMPLETED"]
        };
        assert!(
            expected.contains(&result.as_str().unwrap()),
            "{job}: {result}"
        );
    }
    for job in ran(&house) {
        assert!(
            !promised.contains(&job),
            "{job} ran although it was cancelled"
        );
    }
    assert_eq!(ann.list().len(), JOBS + 1);
    house.close();
}

#[test]
fn t120_while_the_database_is_away_nobody_is_let_in_by_anything() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let house = Setup::on(cluster.database()).open();
    let ann = house.user("ann");
    let new = json!({"label": "one"});
    let key = ann
        .create_key("ann", &House::password("ann"), &new)
        .with(201);
    let key = house.nobody().with_token(key["key"].as_str().unwrap());
    let form = |password: &str| format!("username=ann&password={password}");
    let sign_in = format!(
        "grant_type=password&client_id=warrant&{}",
        form(&House::password("ann"))
    );
    let tokens = house.nobody().post_form("/oauth/token", &sign_in).with(200);
    let refresh = format!(
        "grant_type=refresh_token&client_id=warrant&refresh_token={}",
        tokens["refresh_token"].as_str().unwrap()
    );
    let nobody = house.nobody();
    let secret = house.authsvc_command(
        &[
            "client",
            "add",
            "robot",
            "--owner",
            "ann",
            "--grant",
            "client_credentials",
        ],
        "",
    );
    let robot = format!("client_id=robot&client_secret={}", secret.trim());
    cluster.crash();
    let forms = [
        ("/v1/login/access-token", form(&House::password("ann"))),
        ("/v1/login/access-token", form("wrong")),
        (
            "/v1/login/access-token",
            "username=nobody&password=x".to_owned(),
        ),
        ("/oauth/token", sign_in),
        ("/oauth/token", refresh.clone()),
        (
            "/oauth/token",
            format!("grant_type=client_credentials&{robot}"),
        ),
        (
            "/oauth/introspect",
            format!("token={}&{robot}", ann.token()),
        ),
    ];
    let mut rounds = 0;
    // Long enough for whatever is remembered to be forgotten.
    until_within(
        Duration::from_secs(90),
        "known tokens to count no more",
        || {
            rounds += 1;
            for (path, form) in &forms {
                let answer = nobody.post_form(path, form);
                assert_eq!(answer.status, 503, "{path}: {}", answer.text());
            }
            let payload = warrant_tests::handshake::payload(
                "ann",
                &House::password("ann"),
                warrant_tests::house::SECRET,
            );
            assert_eq!(house.exchange(&payload).status, 503);
            assert_eq!(nobody.get("/v1/nodes").status, 401);
            for noise in ["x.y.z", ann.token().trim_end_matches(char::is_alphanumeric)] {
                assert_eq!(nobody.with_token(noise).get("/v1/nodes").status, 401);
            }
            assert_eq!(key.get("/v1/nodes").status, 503);
            // Neither a right nor a role comes of it.
            assert!([403, 503].contains(&ann.post("/v1/service/stop").status));
            let known = ann.get("/v1/nodes").status;
            assert!([200, 503].contains(&known), "{known}");
            (known == 503).then_some(())
        },
    );
    assert!(rounds > 1, "{rounds}");
    cluster.resume();
    until("all to be as before", || {
        (ann.get("/v1/nodes").status == 200 && key.get("/v1/nodes").status == 200).then_some(())
    });
    nobody.post_form("/oauth/token", &refresh).with(200);
    house.close();
}
