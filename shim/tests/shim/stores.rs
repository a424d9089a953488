//! Which job store a spool serves, where the broker starts its own monitor.

use std::fs;
use std::process::{Command, Stdio};

use warrant_wire::record::{Record, Stamped};
use warrant_wire::{
    Bond, JobSignal, Launch, Placement, Refusal, Report, Request, RunFile, RunId, Stamp, StoreId,
};

use crate::house::{House, PROGRAM, assert_exited, new_run};

const OURS: StoreId = StoreId::new([1; 16]).unwrap();
const THEIRS: StoreId = StoreId::new([2; 16]).unwrap();

fn stamp(byte: u8) -> Stamp {
    Stamp {
        uid: nix::unistd::geteuid().as_raw(),
        job_sha256: [byte; 32],
    }
}

fn launch_of(run: RunId, stamp: Stamp, launch: &Launch) -> Request {
    let request = Request::Launch {
        run,
        placement: Placement::default(),
        launch: launch.encode().unwrap(),
    };
    of(stamp, request)
}

fn of(stamp: Stamp, request: Request) -> Request {
    let request = Box::new(request);
    Request::Of { stamp, request }
}

fn watch(run: RunId) -> Request {
    let same_boot = true;
    Request::Watch { run, same_boot }
}

fn other_job(run: RunId) -> Report {
    Report::NotStarted {
        run,
        errno: 0,
        refusal: Some(Refusal::OtherJob),
    }
}

/// Names a store; answers what the spool is to it and the highest number.
fn name(house: &mut House, store: StoreId, adopt: bool) -> (Bond, u64) {
    house.send(&Request::Store { store, adopt });
    match house.report() {
        Report::Store { bond, highest_job } => (bond, highest_job),
        other => panic!("{other:?}"),
    }
}

#[test]
fn t121_a_record_of_another_job_is_not_taken_for_a_runs() {
    let mut house = House::open();
    let run = new_run();
    house.send(&launch_of(
        run,
        stamp(1),
        &house.script("echo theirs; exit 3"),
    ));
    house.started(run);
    assert_exited(&house.ended(run), 3);
    // It is not run again, and its end is not told to another.
    let again = house.script("echo ours >> ran");
    house.send(&launch_of(run, stamp(2), &again));
    assert_eq!(house.report(), other_job(run));
    house.send(&of(stamp(2), watch(run)));
    assert_eq!(house.report(), other_job(run));
    let other_user = Stamp {
        uid: stamp(1).uid + 1,
        ..stamp(1)
    };
    house.send(&of(other_user, watch(run)));
    assert_eq!(house.report(), other_job(run));
    // Its own job is told, by the next monitor as well.
    house.replace_monitor();
    house.send(&of(stamp(1), watch(run)));
    assert_exited(&house.ended(run), 3);
    house.send(&of(stamp(2), watch(run)));
    assert_eq!(house.report(), other_job(run));
    assert!(!house.path("ran").exists());
}

#[test]
fn t121_a_live_run_of_another_job_is_neither_watched_nor_signalled() {
    let mut house = House::open();
    let run = new_run();
    let launch = house.script("until [ -e go ]; do sleep 0.01; done; exit 4");
    house.send(&launch_of(run, stamp(1), &launch));
    house.started(run);
    let signal = JobSignal::Kill;
    for round in 0..2 {
        house.send(&of(stamp(2), Request::Signal { run, signal }));
        house.send(&of(stamp(2), watch(run)));
        assert_eq!(house.report(), other_job(run), "round {round}");
        house.replace_monitor();
    }
    house.send(&of(stamp(1), watch(run)));
    house.started(run);
    fs::write(house.path("go"), "").unwrap();
    assert_exited(&house.ended(run), 4);
}

#[test]
fn t121_a_spool_serves_one_store_and_knows_its_highest_number() {
    let mut house = House::open();
    assert_eq!(name(&mut house, OURS, false), (Bond::Ours, 0));
    let run = new_run();
    house.start(run, &house.script("true"));
    assert_exited(&house.ended(run), 0);
    house.replace_monitor();
    assert_eq!(name(&mut house, THEIRS, true).0, Bond::Foreign(OURS));
    // Nothing is done for it, and it is told of nothing.
    let launch = house.script("echo theirs >> ran");
    house.send_start(new_run(), &launch);
    match house.report() {
        Report::NotStarted { refusal, .. } => assert_eq!(refusal, Some(Refusal::OtherStore)),
        other => panic!("{other:?}"),
    }
    assert!(!house.path("ran").exists());
    let (bond, highest) = name(&mut house, OURS, false);
    assert_eq!(bond, Bond::Ours);
    assert!((run.job..run.job + 64).contains(&highest), "{highest}");
    // The number is known without the files.
    let bucket = run.spool_path(RunFile::Record);
    let bucket = bucket.split('/').next().unwrap();
    fs::remove_dir_all(house.path("spool").join(bucket)).unwrap();
    house.replace_monitor();
    assert_eq!(name(&mut house, OURS, false), (Bond::Ours, highest));
}

#[test]
fn t121_a_spool_of_the_version_before_is_adopted_by_who_has_its_jobs() {
    let mut house = House::open();
    let run = new_run();
    house.start(run, &house.script("exit 3"));
    assert_exited(&house.ended(run), 3);
    // As that version left it: no stamp, and nothing about a store.
    let file = house.spool(run, RunFile::Record);
    let record = Record::decode(&fs::read(&file).unwrap()).unwrap();
    fs::write(&file, record.encode()).unwrap();
    fs::remove_file(house.path("spool/store")).unwrap();
    house.replace_monitor();
    assert_eq!(name(&mut house, THEIRS, false), (Bond::Unclaimed, run.job));
    assert_eq!(name(&mut house, OURS, true), (Bond::Ours, run.job));
    house.replace_monitor();
    assert_eq!(name(&mut house, THEIRS, true).0, Bond::Foreign(OURS));
    assert_eq!(name(&mut house, OURS, false).0, Bond::Ours);
    // Its records count as they did; a later one without a stamp does not.
    house.send(&of(stamp(1), watch(run)));
    assert_exited(&house.ended(run), 3);
    let later = RunId {
        job: run.job + 1,
        ..run
    };
    let file = house.spool(later, RunFile::Record);
    fs::write(&file, record.encode()).unwrap();
    house.send(&of(stamp(1), watch(later)));
    assert_eq!(house.report(), other_job(later));
    let mine = Stamped {
        stamp: Some(stamp(1)),
        record,
    };
    fs::write(&file, mine.encode()).unwrap();
    house.send(&of(stamp(1), watch(later)));
    assert_exited(&house.ended(later), 3);
}

#[test]
fn t121_a_job_number_far_beyond_all_others_is_refused() {
    let mut house = House::open();
    assert_eq!(name(&mut house, OURS, false).0, Bond::Ours);
    for job in [1 << 40, u64::MAX] {
        let run = RunId {
            job,
            task: 0,
            attempt: 1,
        };
        house.send_start(run, &house.script("true"));
        let refusal = Some(Refusal::JobNumber);
        let errno = 0;
        assert_eq!(
            house.report(),
            Report::NotStarted {
                run,
                errno,
                refusal
            }
        );
    }
    assert_eq!(name(&mut house, OURS, false), (Bond::Ours, 0));
}

#[test]
fn t135_a_second_monitor_on_a_spool_does_not_serve() {
    let mut house = House::open();
    // It has the spool once it answers.
    name(&mut house, OURS, true);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let second = Command::new(PROGRAM)
        .args(["monitor", "--spool"])
        .arg(house.path("spool"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .output()
        .unwrap();
    drop(ours);
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        !second.status.success() && said.contains("another monitor"),
        "{said}"
    );
    // Nor is the spool given to nobody meanwhile.
    let forget = Command::new(PROGRAM)
        .args(["forget-store", "--spool"])
        .arg(house.path("spool"))
        .output()
        .unwrap();
    let said = String::from_utf8(forget.stderr).unwrap();
    assert_eq!(forget.status.code(), Some(78), "{said}");
    assert!(said.contains("another monitor"), "{said}");
}
