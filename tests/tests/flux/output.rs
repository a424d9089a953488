//! What jobs write: as lines, and as bytes while they come.

use serde_json::json;
use warrant_tests::raw;
use warrant_tests::{House, on_each_database};

const NONE_YET: &str = r#"{"Message":"The output does not exist yet, or the jobid is incorrect."}"#;

on_each_database! {
    fn output_is_lines_with_their_newlines(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_with(&json!({"command":
            ["printf", "pancakes 🥞️\\n\\n\"quoted\"\\ttab\\\\\\nno newline"]}));
        ann.finished(job);
        let answer = ann.get(&format!("/v1/jobs/{job}/output"));
        assert_eq!(
            answer.with(200),
            json!({"Output": ["pancakes 🥞️\n", "\n", "\"quoted\"\ttab\\\n", "no newline"]})
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        house.close();
    }

    fn a_job_without_output_and_an_unknown_one_are_answered_alike(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let silent = ann.submit("true");
        ann.finished(silent);
        for job in [silent, 12345] {
            let answer = ann.get(&format!("/v1/jobs/{job}/output"));
            assert_eq!((answer.status, answer.text().as_str()), (200, NONE_YET));
            assert_eq!(ann.stream(job, 0).rest(), "");
        }
        house.close();
    }

    fn output_is_there_while_the_job_runs(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_script("echo first; sleep 300");
        assert_eq!(ann.first_output(job), ["first\n"]);
        ann.wait_until(job, "RUN");
        house.close();
    }

    fn a_stream_follows_a_job_from_before_its_start_to_its_end(setup: Setup) {
        let house = setup.cores(1).open();
        let ann = house.user("ann");
        let gate = house.path("gate");
        let blocker = ann.submit("sleep 300");
        let job = ann.submit_script(&format!(
            "echo one; echo two >&2; until [ -e {} ]; do sleep 0.01; done; echo three",
            gate.display()
        ));
        let mut stream = ann.stream(job, 0);
        ann.cancel(blocker);
        assert_eq!(stream.until("two\n"), "one\ntwo\n");
        ann.wait_until(job, "RUN");
        std::fs::write(gate, "").unwrap();
        assert_eq!(stream.rest(), "three\n");
        assert_eq!(ann.info(job)["result"], "COMPLETED");
        house.close();
    }

    fn a_stream_goes_on_where_it_broke_off(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit("seq 1 1000");
        ann.finished(job);
        let whole = ann.stream(job, 0).rest();
        assert_eq!(whole, ann.output(job).concat());
        assert_eq!(ann.stream(job, 100).rest(), whole[100..]);
        assert_eq!(ann.stream(job, whole.len() as u64).rest(), "");
        assert_eq!(ann.stream(job, 1 << 40).rest(), "");
        let path = format!("/v1/jobs/{job}/output/stream?offset=");
        assert_eq!(ann.get(&format!("{path}-1")).with(422)["detail"][0]["loc"][1], "offset");
        assert_eq!(ann.get(&format!("{path}x")).with(422)["detail"][0]["type"], "int_parsing");
        house.close();
    }

    fn a_stream_ends_when_its_job_is_cancelled(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_script("echo first; exec sleep 300");
        let mut stream = ann.stream(job, 0);
        stream.until("first\n");
        ann.cancel(job);
        assert_eq!(stream.rest(), "");
        house.close();
    }
}

#[test]
fn many_megabytes_are_given_whole() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit("seq 1 1500000");
    ann.finished(job);
    let expected: String = (1..=1_500_000).map(|n| format!("{n}\n")).collect();
    assert!(ann.stream(job, 0).rest() == expected, "the stream differs");
    assert!(ann.output(job).concat() == expected, "the lines differ");
    house.close();
}

#[test]
fn bytes_that_are_no_text_are_streamed_as_they_are_and_replaced_in_lines() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit_script(r"printf 'a\377b\000c\n'");
    ann.finished(job);
    assert_eq!(ann.output(job), ["a\u{fffd}b\0c\n"]);
    let request = format!(
        "GET /v1/jobs/{job}/output/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Connection: close\r\n\r\n",
        ann.token()
    );
    let answer = raw::exchange(ann.address(), request.as_bytes());
    assert!(answer.contains("a\u{fffd}b\0c\n"), "{answer:?}");
    let head = answer.to_lowercase();
    assert!(head.contains("content-type: text/plain; charset=utf-8"));
    assert!(head.contains("x-content-type-options: nosniff"));
    house.close();
}
