//! Machines, and the end of the service.

use warrant_tests::wait::until;
use warrant_tests::{Database, House, Setup};

#[test]
fn the_one_machine_is_listed_by_its_name() {
    let house = House::open();
    let name = nix::unistd::gethostname().unwrap();
    assert_eq!(
        house.user("ann").get("/v1/nodes").text(),
        format!(r#"{{"nodes":["{}"]}}"#, name.to_str().unwrap())
    );
    house.close();
}

#[test]
fn a_user_may_not_stop_the_service() {
    let house = House::open();
    let ann = house.user("ann");
    assert_eq!(
        ann.post("/v1/service/stop").detail(403),
        "The user doesn't have enough privileges"
    );
    assert_eq!(ann.finished(ann.submit("true"))["result"], "COMPLETED");
    house.close();
}

#[test]
fn a_superuser_by_name_may_stop_the_service() {
    let mut house = Setup::on(Database::Sqlite)
        .set("FLUX_ADMIN_USERS", "ann, zoe")
        .open();
    let ann = house.user("ann");
    let answer = ann.post("/v1/service/stop");
    assert_eq!((answer.status, answer.text().as_str()), (200, "null"));
    assert!(house.broker_ended().success());
    house.close();
}

#[test]
fn a_stopped_service_accepts_nothing_more_waits_for_its_jobs_and_ends_well() {
    let mut house = House::open();
    let (ann, admin) = (house.user("ann"), house.admin());
    let gate = house.path("gate");
    let script = format!("until [ -e {} ]; do sleep 0.01; done", gate.display());
    let job = ann.submit_script(&script);
    ann.wait_until(job, "RUN");
    assert_eq!(admin.post("/v1/service/stop").text(), "null");
    let refused = ann.post("/v1/jobs/submit?command=true");
    assert_eq!(refused.detail(503), "The service is stopping.");
    assert_eq!(ann.info(job)["state"], "RUN");
    std::fs::write(gate, "").unwrap();
    assert!(house.broker_ended().success());
    // The next broker knows how it ended.
    house.start_broker();
    assert_eq!(ann.info(job)["result"], "COMPLETED");
    house.close();
}

#[test]
fn a_job_that_outlasts_the_stopping_service_lives_on_and_is_taken_up_again() {
    let mut house = Setup::on(Database::Sqlite)
        .set("BROKER__STOP__GRACE_S", "0")
        .open();
    let ann = house.user("ann");
    let gate = house.path("gate");
    let script = format!(
        "until [ -e {} ]; do sleep 0.01; done; exit 7",
        gate.display()
    );
    let job = ann.submit_script(&script);
    ann.wait_until(job, "RUN");
    house.admin().post("/v1/service/stop");
    assert!(house.broker_ended().success());
    std::fs::write(gate, "").unwrap();
    house.start_broker();
    assert_eq!(ann.finished(job)["returncode"], 7);
    house.close();
}

#[test]
fn a_signal_stops_the_broker_at_once_and_its_jobs_live_on() {
    let mut house = House::open();
    let ann = house.user("ann");
    let job = ann.submit("sleep 300");
    ann.wait_until(job, "RUN");
    until("the job's process", || {
        let all = house.processes();
        all.iter()
            .any(|process| process.command == "sleep 300")
            .then_some(())
    });
    house.stop_broker();
    let sleeps = house.processes().into_iter();
    assert_eq!(sleeps.filter(|p| p.command == "sleep 300").count(), 1);
    house.start_broker();
    assert_eq!(ann.info(job)["state"], "RUN");
    house.close();
}
