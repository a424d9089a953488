//! The directory that a job starts in, and where it may not.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use warrant_tests::{Flux, House};

fn place(ann: &Flux, parameters: &Value) -> String {
    let job = ann.submit_with(parameters);
    let info = ann.finished(job);
    assert_eq!(info["result"], "COMPLETED", "{info}");
    ann.output(job).concat().trim_end().to_owned()
}

#[test]
fn a_default_directory_is_used_if_it_is_there_and_a_named_one_comes_first() {
    let house = House::open();
    let ann = house.user("ann");
    let dir = house.path("submitted from");
    fs::create_dir(&dir).unwrap();
    let dir = dir.to_str().unwrap();
    let job = json!({"command": "pwd", "default_workdir": dir});
    assert_eq!(place(&ann, &job), dir);
    let named = json!({"command": "pwd", "default_workdir": dir, "workdir": "/"});
    assert_eq!(place(&ann, &named), "/");
    let id = ann.submit_with(&job);
    assert_eq!(ann.finished(id)["cwd"], dir);

    let home = place(&ann, &json!({"command": "pwd"}));
    let elsewhere = json!({"command": "pwd", "default_workdir": "/nonexistent/dir"});
    assert_eq!(place(&ann, &elsewhere), home);
    let homeless = json!({"command": "pwd", "default_workdir": "/nonexistent/dir",
        "envars": {"HOME": "/nonexistent"}});
    assert_eq!(place(&ann, &homeless), "/tmp");
    // And what became of it is said.
    for (job, notes) in [
        (&job, json!(null)),
        (
            &elsewhere,
            json!(["started in the home directory: the default directory cannot be used"]),
        ),
        (
            &homeless,
            json!(["started in /tmp: the home directory cannot be used"]),
        ),
    ] {
        let id = ann.submit_with(job);
        assert_eq!(ann.finished(id)["notes"], notes, "{job}");
    }
    // Every form that parameters may have.
    let query = "/v1/jobs/submit?command=pwd&default_workdir=%2Fusr";
    let form = "command=pwd&default_workdir=%2Fusr";
    for answer in [ann.post(query), ann.post_form("/v1/jobs/submit", form)] {
        let id = answer.with(200)["id"].as_i64().unwrap();
        ann.finished(id);
        assert_eq!(ann.output(id), ["/usr\n"]);
    }
    house.close();
}

#[test]
fn t125_no_service_stays_in_the_directory_it_was_started_in() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit_with(&json!({"command": "sleep 1000", "workdir": "/usr"}));
    warrant_tests::wait::until("the job to run", || {
        let processes = house.processes();
        let sleep = processes.iter().find(|it| it.command == "sleep 1000")?;
        let place = fs::read_link(format!("/proc/{}/cwd", sleep.pid)).ok()?;
        (place == Path::new("/usr")).then_some(())
    });
    for process in house.processes() {
        let place = fs::read_link(format!("/proc/{}/cwd", process.pid)).unwrap();
        let expected = match process.command.as_str() {
            "sleep 1000" => "/usr",
            _ => "/",
        };
        assert_eq!(place, Path::new(expected), "{}", process.command);
    }
    ann.cancel(job);
    ann.finished(job);
    house.close();
}

#[test]
fn t125_relative_directories_and_those_of_the_server_are_refused_by_the_fields_name() {
    let house = House::open();
    let ann = house.user("ann");
    let directories = [
        ".",
        "..",
        "./x",
        "x",
        "../..",
        "~",
        "/proc",
        "/proc/self/cwd",
        "/proc/self/cwd/x",
        "/proc/self/root",
        "/proc/thread-self/cwd",
        "/proc/1/cwd",
        "/proc/self/fd/3",
        "/dev/fd/3",
        "//proc/self/cwd",
        "/tmp/../proc/self/cwd",
        "/./proc/self/root/tmp",
    ];
    let refused = |parameters: Value, field: &str| {
        let answer = ann.post_json("/v1/jobs/submit", &parameters).with(400);
        let why = answer["Error"].as_str().unwrap_or_default().to_owned();
        assert!(
            why.starts_with(&format!("{field}: must ")),
            "{parameters}: {why}"
        );
    };
    for directory in directories {
        for field in ["workdir", "default_workdir"] {
            refused(json!({"command": "true", field: directory}), field);
        }
    }
    assert_eq!(ann.get("/v1/jobs").with(200)["jobs"], json!([]));
    house.close();
}
