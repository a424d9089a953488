//! What is stored of what jobs write.

use std::fs;

use warrant_wire::output::Stream;
use warrant_wire::record::Record;
use warrant_wire::{RunFile, RunId};

use crate::house::{House, assert_exited, new_run, until};

/// The index must cover the output without gaps.
#[track_caller]
fn assert_index_covers_output(house: &House, run: RunId) {
    let mut end = 0;
    for entry in house.index(run) {
        assert_eq!(entry.offset, end);
        assert!(entry.len > 0);
        end += u64::from(entry.len);
    }
    let size = fs::metadata(house.spool(run, RunFile::Output))
        .unwrap()
        .len();
    assert_eq!(size, end);
}

#[test]
fn both_streams_are_kept_in_order_and_told_apart() {
    let mut house = House::open();
    let run = new_run();
    let script = "for n in 1 2 3; do
        echo out $n; until [ -e out$n ]; do sleep 0.01; done
        echo err $n >&2; until [ -e err$n ]; do sleep 0.01; done
    done";
    house.start(run, &house.script(script));
    let mut expected = String::new();
    for n in 1..=3 {
        for name in ["out", "err"] {
            expected.push_str(&format!("{name} {n}\n"));
            // Readable while the job is running.
            until("the next line", || house.output(run) == expected);
            fs::write(house.path(&format!("{name}{n}")), "").unwrap();
        }
    }
    let outcome = house.ended(run);
    assert_exited(&outcome, 0);
    assert_eq!(outcome.output_bytes, expected.len() as u64);
    assert_index_covers_output(&house, run);
    let streams: Vec<_> = house.index(run).iter().map(|entry| entry.stream).collect();
    assert_eq!(streams, [Stream::Stdout, Stream::Stderr].repeat(3));
    for entry in house.index(run) {
        assert!((outcome.started_us..=outcome.ended_us).contains(&entry.time_us));
    }
}

#[test]
fn a_job_without_output_has_empty_output_files_or_none() {
    let mut house = House::open();
    for words in [&["true"] as &[_], &["sleep", "0.05"]] {
        let (run, _) = house.run(&house.launch(words));
        for file in [RunFile::Output, RunFile::Index] {
            let path = house.spool(run, file);
            let bytes = std::fs::read(&path).unwrap_or_default();
            assert_eq!(bytes, b"");
            // One that may yet print something has them.
            assert!(path.exists() || words == ["true"]);
        }
    }
}

#[test]
fn output_in_one_second_is_one_entry() {
    let mut house = House::open();
    let script = "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done";
    let (run, _) = house.run(&house.script(script));
    assert_eq!(house.output(run).lines().count(), 1000);
    assert_index_covers_output(&house, run);
    let entries = house.index(run).len();
    assert!(entries < 30, "{entries} entries");
}

#[test]
fn output_beyond_the_cap_is_dropped_counted_and_marked() {
    let mut house = House::open();
    let mut launch = house.script("head -c 50000000 /dev/zero | tr '\\0' x; echo end >&2; exit 4");
    launch.limits.output_cap_bytes = 100_000;
    let (run, outcome) = house.run(&launch);
    assert_exited(&outcome, 4);
    let marker = "\nwarrant: output limit of 100000 bytes reached; the rest is dropped\n";
    assert_eq!(outcome.output_bytes, 100_000 + marker.len() as u64);
    assert_eq!(outcome.dropped_bytes, 50_000_000 - 100_000 + 4);
    let output = house.output(run);
    assert!(output[..100_000].bytes().all(|byte| byte == b'x'));
    assert_eq!(&output[100_000..], marker);
    assert_index_covers_output(&house, run);
    assert_eq!(house.index(run).last().unwrap().stream, Stream::Stderr);
}

/// One entry of the index for each byte, since they come from two streams by
/// turns.
#[test]
fn t130_the_cap_counts_the_index_as_well() {
    let mut house = House::open();
    let mut launch = house
        .script("n=0; while [ $n -lt 20000 ]; do printf o; printf e >&2; n=$((n+1)); done; exit 4");
    launch.limits.output_cap_bytes = 20_000;
    let (run, outcome) = house.run(&launch);
    assert_exited(&outcome, 4);
    let [data, index] = [RunFile::Output, RunFile::Index]
        .map(|file| fs::metadata(house.spool(run, file)).unwrap().len());
    let marker = "\nwarrant: output limit of 20000 bytes reached; the rest is dropped\n";
    assert!(house.output(run).ends_with(marker.trim_start()));
    // The first KiB of the index is not counted, nor is the marker.
    let most = 20_000 + 1024 + marker.len() as u64 + 24;
    assert!(data + index <= most, "{data} and {index}");
    assert_eq!(outcome.output_bytes, data);
    let written = data - (marker.len() as u64) + outcome.dropped_bytes;
    assert!((40_000..=40_001).contains(&written), "{outcome:?}");
    assert_index_covers_output(&house, run);
}

#[test]
fn a_cap_that_is_just_reached_is_not_marked() {
    let mut house = House::open();
    let mut launch = house.script("printf 12345");
    launch.limits.output_cap_bytes = 5;
    let (run, outcome) = house.run(&launch);
    assert_eq!(house.output(run), "12345");
    assert_eq!((outcome.output_bytes, outcome.dropped_bytes), (5, 0));
}

#[test]
fn a_rank_that_floods_does_not_silence_the_others() {
    let mut house = House::open();
    let mut launch = house.script(
        "[ $FLUX_TASK_RANK = 3 ] || exec cat /dev/zero
        echo heard >&2; until [ -e go ]; do sleep 0.01; done; kill -9 0",
    );
    launch.limits.processes = 4;
    launch.limits.output_cap_bytes = 400_000_000;
    let run = new_run();
    house.start(run, &launch);
    until("the quiet rank's line", || {
        fs::metadata(house.spool(run, RunFile::Index)).is_ok()
            && house
                .index(run)
                .iter()
                .any(|entry| entry.rank == 3 && entry.stream == Stream::Stderr)
    });
    house.send_signal(run, warrant_wire::JobSignal::Kill);
    assert_eq!(house.ended(run).wait_status, 9);
    assert_index_covers_output(&house, run);
}

#[test]
fn output_that_cannot_be_written_does_not_stop_the_job() {
    // No file may grow beyond 64 blocks of 512 bytes.
    let mut house = House::open_with("ulimit -f 64; exec \"$0\" monitor --spool \"$1\"");
    let launch = house.script("trap '' XFSZ; head -c 1000000 /dev/zero; exit 6");
    let (run, outcome) = house.run(&launch);
    assert_exited(&outcome, 6);
    assert_eq!(outcome.output_bytes + outcome.dropped_bytes, 1_000_000);
    assert!(outcome.dropped_bytes >= 1_000_000 - 32_768, "{outcome:?}");
    match house.record(run) {
        Record::Ended { output_failed, .. } => assert!(output_failed),
        other => panic!("{other:?}"),
    }
    // It says so in place of the last bytes: there is no room for more.
    let output = house.output(run);
    assert_eq!(output.len(), 32_768);
    let marker = format!(
        "\nwarrant: {} bytes of output are missing here, they could not be stored: File too large\n",
        outcome.dropped_bytes
    );
    assert!(output.ends_with(&marker), "{:?}", &output[32_600..]);
    assert_index_covers_output(&house, run);
}

#[test]
fn the_last_words_of_a_process_left_behind_are_kept() {
    let mut house = House::open();
    let script =
        "(echo from behind; touch said; exec sleep 1000) & until [ -e said ]; do sleep 0.01; done";
    let (run, outcome) = house.run(&house.script(script));
    assert_exited(&outcome, 0);
    assert_eq!(house.output(run), "from behind\n");
    assert_eq!(house.job_processes(), [0; 0]);
}
