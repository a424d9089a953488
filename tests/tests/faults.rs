//! The disk fills up, the database goes away: nothing acknowledged is lost,
//! and all goes on afterwards without a restart.

use serde_json::json;
use warrant_tests::cluster::Cluster;
use warrant_tests::disk::Disk;
use warrant_tests::wait::until;
use warrant_tests::{Database, House, Setup};

/// A script that runs until the file `gate` is there.
fn gated(house: &House, code: i32) -> String {
    let gate = house.path("gate");
    format!(
        "echo begun; until [ -e {} ]; do sleep 0.01; done; exit {code}",
        gate.display()
    )
}

fn open(house: &House) {
    std::fs::write(house.path("gate"), "").unwrap();
}

#[test]
fn a_full_disk_refuses_submissions_loses_nothing_and_is_forgotten_when_there_is_room() {
    let Some(disk) = Disk::new(32) else {
        return;
    };
    let house = Setup::on(Database::Sqlite).state_in(disk.path()).open();
    let ann = house.user("ann");
    let running = ann.submit_script(&gated(&house, 5));
    ann.first_output(running);
    let mut acknowledged = vec![ann.submit("true")];
    ann.finished(acknowledged[0]);

    disk.fill();
    let body = json!({"command": ["true", "x".repeat(10_000)]});
    // What was written before leaves a little room, which is used first.
    let refusal = until("a submission to be refused", || {
        let answer = ann.post_json("/v1/jobs/submit", &body);
        if answer.status == 200 {
            acknowledged.push(answer.json()["id"].as_i64().unwrap());
            return None;
        }
        Some(answer)
    });
    assert_eq!(
        refusal.detail(503),
        "The job store cannot be written: its disk is full."
    );
    assert!(refusal.header("retry-after").is_some());
    // Reading goes on.
    assert_eq!(ann.info(running)["state"], "RUN");
    assert_eq!(ann.list().len(), acknowledged.len() + 1);
    assert_eq!(ann.output(running), ["begun\n"]);
    // A job that ends now has nowhere to be recorded in the store.
    open(&house);
    for _ in 0..20 {
        let answer = ann.post_json("/v1/jobs/submit", &body);
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        if answer.status == 200 {
            acknowledged.push(answer.json()["id"].as_i64().unwrap());
        }
    }

    disk.clear();
    assert_eq!(ann.finished(running)["returncode"], 5);
    for job in &acknowledged {
        assert_eq!(ann.finished(*job)["result"], "COMPLETED");
    }
    let after = until("a submission to be accepted", || {
        let answer = ann.post_json("/v1/jobs/submit", &json!({"command": "echo after"}));
        (answer.status == 200).then(|| answer.json()["id"].as_i64().unwrap())
    });
    ann.finished(after);
    assert_eq!(ann.output(after), ["after\n"]);
    // Nothing that was refused became a job.
    assert_eq!(ann.list().len(), acknowledged.len() + 2);
    house.close();
}

#[test]
fn a_job_that_fills_the_disk_is_not_held_up_and_ends_with_what_there_was_room_for() {
    let Some(disk) = Disk::new(32) else {
        return;
    };
    let house = Setup::on(Database::Sqlite).state_in(disk.path()).open();
    let ann = house.user("ann");
    let job = ann.submit_script(&format!(
        "yes | head -c 60000000; touch {}",
        house.path("written").display()
    ));
    until("the job to have written all", || {
        house.path("written").exists().then_some(())
    });
    // Room is made by whoever cleans up: here, by shortening the job's output.
    let bucket = disk.path().join("spool");
    let outputs = walk(&bucket).into_iter();
    let big = outputs.max_by_key(|path| path.metadata().unwrap().len());
    std::fs::File::options()
        .write(true)
        .open(big.unwrap())
        .unwrap()
        .set_len(0)
        .unwrap();
    assert_eq!(ann.finished(job)["returncode"], 0);
    let after = until("a submission to be accepted", || {
        let answer = ann.post_json("/v1/jobs/submit", &json!({"command": "true"}));
        (answer.status == 200).then(|| answer.json()["id"].as_i64().unwrap())
    });
    assert_eq!(ann.finished(after)["result"], "COMPLETED");
    house.close();
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let found = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => walk(&path),
        path => vec![path],
    });
    found.collect()
}

#[test]
fn a_lost_database_is_answered_with_503_and_all_goes_on_when_it_is_back() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let house = Setup::on(cluster.database()).cores(1).open();
    let ann = house.user("ann");
    let running = ann.submit_script(&gated(&house, 5));
    ann.first_output(running);
    let waiting = ann.submit("echo waited");

    cluster.crash();
    for path in [
        "/v1/jobs",
        "/v1/jobs/1",
        "/v1/jobs/search?search=x",
        "/v1/jobs?details=1",
    ] {
        let answer = ann.get(path);
        assert_eq!(
            answer.detail(503),
            "The job store cannot be reached.",
            "{path}"
        );
    }
    for _ in 0..3 {
        let answer = ann.post("/v1/jobs/submit?command=true");
        assert_eq!(answer.detail(503), "The job store cannot be reached.");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(ann.cancel(waiting).status, 503);
    // What needs no store is answered.
    assert_eq!(ann.get("/v1/nodes").status, 200);
    assert_eq!(house.nobody().get("/v1/nodes").status, 401);
    // A job ends meanwhile.
    open(&house);
    until("the job's process to end", || {
        let all = house.processes();
        let sh = all
            .iter()
            .any(|process| process.command.starts_with("sh -c"));
        (!sh).then_some(())
    });

    cluster.resume();
    let info = until("the end to be recorded", || {
        let answer = ann.get(&format!("/v1/jobs/{running}"));
        (answer.status == 200)
            .then(|| answer.json())
            .filter(|info| info["state"] == "INACTIVE")
    });
    assert_eq!(info["returncode"], 5);
    assert_eq!(ann.finished(waiting)["result"], "COMPLETED");
    assert_eq!(ann.output(waiting), ["waited\n"]);
    assert_eq!(ann.list().len(), 2, "a refused submission became a job");
    let after = ann.submit("true");
    assert_eq!(ann.finished(after)["result"], "COMPLETED");
    house.close();
}

#[test]
fn a_database_that_crashes_under_load_loses_nothing_that_was_acknowledged() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let house = Setup::on(cluster.database()).open();
    let ann = house.user("ann");
    let ran = house.path("ran");
    let script = format!("echo $FLUX_JOB_ID >> {}", ran.display());
    let body = json!({"command": ["sh", "-c", script]});
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        std::thread::scope(|scope| {
            let submit = || {
                let mut ids = Vec::new();
                for _ in 0..40 {
                    let answer = ann.post_json("/v1/jobs/submit", &body);
                    match answer.status {
                        200 => ids.push(answer.json()["id"].as_i64().unwrap()),
                        status => {
                            assert_eq!(status, 503, "{}", answer.text());
                            break;
                        }
                    }
                }
                ids
            };
            let clients = [0; 3].map(|_| scope.spawn(submit));
            cluster.crash();
            cluster.resume();
            for client in clients {
                acknowledged.extend(client.join().unwrap());
            }
        });
        until("the store to be back", || {
            let answer = ann.post_json("/v1/jobs/submit", &body);
            (answer.status == 200).then(|| {
                acknowledged.push(answer.json()["id"].as_i64().unwrap());
            })
        });
        assert!(acknowledged.len() > round, "nothing was acknowledged");
    }
    for job in &acknowledged {
        assert_eq!(ann.finished(*job)["result"], "COMPLETED", "{job}");
    }
    house.empty();
    let mut runs: Vec<i64> = std::fs::read_to_string(&ran)
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    runs.sort_unstable();
    let before = runs.len();
    runs.dedup();
    assert_eq!(runs.len(), before, "a job ran twice");
    for job in acknowledged {
        assert!(runs.binary_search(&job).is_ok(), "job {job} never ran");
    }
    house.close();
}
