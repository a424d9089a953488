//! Standard output and standard error, of one process and of several.

use serde_json::json;
use warrant_tests::{Database, House, Setup};

#[test]
fn both_streams_are_kept_in_the_order_in_which_they_were_written() {
    let house = House::open();
    let ann = house.user("ann");
    // Each waits until the one before was surely written: pipes have no order
    // among themselves.
    let job = ann.submit_script(
        "for n in 1 2 3 4 5; do echo out$n; sleep 0.05; echo err$n >&2; sleep 0.05; done",
    );
    ann.finished(job);
    let expected: Vec<String> = (1..=5)
        .flat_map(|n| [format!("out{n}\n"), format!("err{n}\n")])
        .collect();
    assert_eq!(ann.output(job), expected);
    assert_eq!(ann.stream(job, 0).rest(), expected.concat());
    house.close();
}

#[test]
fn a_line_written_in_pieces_is_not_torn_by_the_other_stream() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit_script("printf 'one '; sleep 0.1; echo noise >&2; sleep 0.1; echo line");
    ann.finished(job);
    let mut lines = ann.output(job);
    lines.sort();
    assert_eq!(lines, ["noise\n", "one line\n"]);
    // The bytes as they came.
    assert_eq!(ann.stream(job, 0).rest(), "one noise\nline\n");
    house.close();
}

#[test]
fn lines_of_several_processes_stay_whole() {
    let house = House::open();
    let ann = house.user("ann");
    let script = "for n in $(seq 200); do printf \"$FLUX_TASK_RANK:\"; echo \"$n\"; done";
    let job = ann.submit_with(&json!({"command": ["sh", "-c", script], "num_tasks": 4}));
    ann.finished(job);
    let lines = ann.output(job);
    for rank in 0..4 {
        let own: Vec<&String> = lines
            .iter()
            .filter(|line| line.starts_with(&format!("{rank}:")))
            .collect();
        let expected: Vec<String> = (1..=200).map(|n| format!("{rank}:{n}\n")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
    assert_eq!(lines.len(), 800);
    house.close();
}

#[test]
fn output_beyond_the_cap_is_dropped_and_the_job_is_not_held_up() {
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__ENGINE__OUTPUT_CAP_MIB", "1")
        .open();
    let ann = house.user("ann");
    let job = ann.submit_script("yes | head -c 20000000; echo done > $HOME/ended");
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    assert!(house.path("home/ended").exists());
    let text = ann.stream(job, 0).rest();
    let marker = "warrant: output limit of 1048576 bytes reached; the rest is dropped\n";
    assert!(text.ends_with(marker), "{}", &text[text.len() - 100..]);
    assert!(text.len() <= (1 << 20) + marker.len(), "{}", text.len());
    assert!(text.starts_with("y\ny\n"));
    house.close();
}
