//! The Flux RESTful server's environment variables mean what they mean there.

use serde_json::json;
use warrant_tests::{Database, House, Setup};

fn with(name: &str, value: &str) -> House {
    Setup::on(Database::Sqlite).set(name, value).open()
}

#[test]
fn flux_require_auth_switches_authentication_on_and_off() {
    for (word, status) in [
        ("true", 401),
        ("1", 401),
        ("yes", 401),
        ("false", 200),
        ("off", 200),
    ] {
        let house = with("FLUX_REQUIRE_AUTH", word);
        assert_eq!(house.nobody().get("/v1/nodes").status, status, "{word}");
        drop(house);
    }
}

#[test]
fn flux_auth_backend_counts_before_flux_require_auth() {
    let house = Setup::on(Database::Sqlite)
        .set("FLUX_REQUIRE_AUTH", "false")
        .set("FLUX_AUTH_BACKEND", "database")
        .open();
    assert_eq!(house.nobody().get("/v1/nodes").status, 401);
    house.close();
}

#[test]
fn flux_has_gpus_lets_jobs_ask_for_them() {
    for name in ["FLUX_HAS_GPUS", "FLUX_HAS_GPU"] {
        let house = Setup::on(Database::Sqlite)
            .set(name, "true")
            .set("BROKER__ENGINE__GPUS", "2")
            .open();
        let ann = house.user("ann");
        let job = ann.submit_with(&json!({"gpus_per_task": 2,
            "command": ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]}));
        let info = ann.finished(job);
        assert_eq!(ann.output(job), ["0,1\n"]);
        assert_eq!(
            info["annotations"]["sched"]["resource_summary"],
            "rank0/core0,gpu[0-1]"
        );
        let zero = ann.post("/v1/jobs/submit?command=true&gpus_per_task=0");
        assert_eq!(
            zero.with(400)["Errors"],
            json!(["Parameter gpus_per_task must be >= 1"])
        );
        let many = ann.submit_with(&json!({"command": "true", "gpus_per_task": 3}));
        assert_eq!(ann.info(many)["exception_type"], "alloc");
        house.close();
    }
}

#[test]
fn flux_number_nodes_does_not_make_several_machines_of_one() {
    let house = with("FLUX_NUMBER_NODES", "3");
    let ann = house.user("ann");
    assert_eq!(
        ann.post("/v1/jobs/submit?command=true&num_nodes=2")
            .with(400)["Errors"],
        json!(["The server only has 1 nodes, you requested 2"])
    );
    house.close();
}

#[test]
fn flux_option_flags_are_the_defaults_that_a_job_overrides() {
    let house = with("FLUX_OPTION_FLAGS", "-ocpu-affinity=off");
    let ann = house.user("ann");
    let all = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let all = (0..nix::sched::CpuSet::count())
        .filter(|cpu| all.is_set(*cpu).unwrap())
        .count();
    let unbound = ann.submit("nproc");
    ann.finished(unbound);
    assert_eq!(ann.output(unbound), [format!("{all}\n")]);
    let bound = ann.submit_with(&json!({"command": "nproc",
        "option_flags": {"cpu-affinity": "per-task"}}));
    assert_eq!(ann.finished(bound)["result"], "COMPLETED");
    house.close();
}

#[test]
fn flux_legacy_job_adds_the_wrapped_form_to_every_job() {
    let house = with("FLUX_LEGACY_JOB", "1");
    let ann = house.user("ann");
    let job = ann.submit("true");
    let info = ann.finished(job);
    assert_eq!(
        (&info["job"]["state"], &info["job"]["result"]),
        (&json!(64), &json!(1))
    );
    let flat = ann.get(&format!("/v1/jobs/{job}?legacy=0")).with(200);
    assert!(flat.get("job").is_none());
    house.close();
}

#[test]
fn flux_access_token_expires_minutes_is_the_life_of_a_token() {
    let house = with("FLUX_ACCESS_TOKEN_EXPIRES_MINUTES", "7");
    let login = warrant_tests::handshake::payload(
        warrant_tests::house::ADMIN,
        warrant_tests::house::ADMIN_PASSWORD,
        warrant_tests::house::SECRET,
    );
    assert_eq!(house.exchange(&login).with(200)["expires_in"], 420);
    house.close();
}

#[test]
fn flux_job_env_passthrough_names_what_jobs_get_besides_the_usual() {
    let house = Setup::on(Database::Sqlite)
        .set("FLUX_JOB_ENV_PASSTHROUGH", "SITE_*, MPI_HOME")
        .set("SITE_NAME", "north")
        .set("MPI_HOME", "/opt/mpi")
        .set("OTHER", "hidden")
        .open();
    let ann = house.user("ann");
    let job = ann.submit_script("echo $SITE_NAME $MPI_HOME ${OTHER:-none}");
    ann.finished(job);
    assert_eq!(ann.output(job), ["north /opt/mpi none\n"]);
    house.close();
}

#[test]
fn what_cannot_be_configured_is_refused_by_name() {
    let house = House::open();
    for (name, value, words) in [
        ("FLUX_SERVER_MODE", "both", "single-user or multi-user"),
        ("FLUX_NUMBER_NODES", "none", "FLUX_NUMBER_NODES"),
        ("PORT", "http", "PORT"),
        ("FLUX_HAS_GPUS", "perhaps", "FLUX_HAS_GPUS"),
        ("FLUX_REQUIRE_AUTH", "perhaps", "FLUX_REQUIRE_AUTH"),
        ("BROKER__ENGINE__CORES", "many", "cores"),
        ("BROKER__NOSUCH__KEY", "1", "nosuch"),
    ] {
        let complaint = house.broker_refuses(name, value);
        assert!(
            complaint.to_lowercase().contains(&words.to_lowercase()),
            "{name}={value}: {complaint}"
        );
    }
    house.close();
}
