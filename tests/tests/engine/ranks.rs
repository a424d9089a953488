//! Several processes of one job.

use serde_json::json;
use warrant_tests::House;

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn each_process_knows_its_rank_and_how_many_there_are() {
    let house = House::open();
    let ann = house.user("ann");
    let script = "echo $FLUX_TASK_RANK $FLUX_TASK_LOCAL_ID $FLUX_JOB_SIZE $FLUX_JOB_NNODES";
    let job = ann.submit_with(&json!({"command": ["sh", "-c", script], "num_tasks": 4}));
    ann.finished(job);
    let expected: Vec<String> = (0..4).map(|rank| format!("{rank} {rank} 4 1\n")).collect();
    assert_eq!(sorted(ann.output(job)), expected);
    house.close();
}

#[test]
fn processes_know_their_job() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit_script("echo $FLUX_JOB_ID");
    ann.finished(job);
    assert_eq!(ann.output(job), [format!("{job}\n")]);
    house.close();
}

#[test]
fn the_worst_process_decides_how_the_job_ended() {
    let house = House::open();
    let ann = house.user("ann");
    for (script, code) in [
        ("exit $FLUX_TASK_RANK", 3),
        ("[ $FLUX_TASK_RANK = 2 ] && exit 9; exit 1", 9),
        ("[ $FLUX_TASK_RANK = 1 ] && kill -KILL $$; exit 255", 137),
    ] {
        let job = ann.submit_with(&json!({"command": ["sh", "-c", script], "num_tasks": 4}));
        assert_eq!(ann.finished(job)["returncode"], code, "{script}");
    }
    house.close();
}

#[test]
fn processes_are_bound_to_the_cores_their_job_was_given() {
    let house = warrant_tests::Setup::on(warrant_tests::Database::Sqlite)
        .cores(1)
        .open();
    let ann = house.user("ann");
    let job = ann.submit("nproc");
    ann.finished(job);
    assert_eq!(ann.output(job), ["1\n"]);
    house.close();
}
