//! Which job store a shim serves, where it is root: what a broker with another
//! database, or one that was taken over, can reach.

use std::fs;
use std::process::Command;

use warrant_wire::record::Record;
use warrant_wire::{
    Bond, Claims, Placement, Refusal, Report, Request, RunFile, RunId, Stamp, StoreId,
};

use super::house::{BOB, House, Peer, claims, in_private, key, launch, run_of, sign};
use crate::house::{assert_exited, until};

const OURS: StoreId = StoreId::new([1; 16]).unwrap();
const THEIRS: StoreId = StoreId::new([2; 16]).unwrap();

fn name(peer: &mut Peer, store: StoreId, adopt: bool) -> (Bond, u64) {
    peer.send(&Request::Store { store, adopt });
    match peer.report() {
        Report::Store { bond, highest_job } => (bond, highest_job),
        other => panic!("{other:?}"),
    }
}

/// Has a launch admitted for this run, by a warrant with these claims.
fn admit_as(peer: &mut Peer, run: RunId, claims: &Claims, launch: &[u8]) {
    peer.send_admit(run, &sign(&key(1), "k1", claims), launch);
    assert_eq!(peer.report(), Report::Admitted { run });
}

fn start_of(run: RunId, stamp: Stamp) -> Request {
    let placement = Placement::default();
    let request = Box::new(Request::Start { run, placement });
    Request::Of { stamp, request }
}

fn watch_of(run: RunId, stamp: Stamp) -> Request {
    let same_boot = true;
    let request = Box::new(Request::Watch { run, same_boot });
    Request::Of { stamp, request }
}

fn stamp(claims: &Claims) -> Stamp {
    Stamp {
        uid: claims.uid,
        job_sha256: claims.job_sha256,
    }
}

fn not_started(run: RunId, refusal: Refusal) -> Report {
    Report::NotStarted {
        run,
        errno: 0,
        refusal: Some(refusal),
    }
}

/// Has the shim forget its store; whether it did, and what it says.
fn forget(house: &House) -> (bool, String) {
    let mut command = Command::new(house.path("warrant-shim"));
    command.args(["forget-store", "--policy"]);
    command.arg(house.path("shim.toml")).env_clear();
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn bobs(launch: &[u8]) -> Claims {
    Claims {
        sub: "bob".into(),
        uid: BOB,
        ..claims(launch)
    }
}

#[test]
fn t121_an_old_record_is_never_told_as_the_end_of_another_users_job() {
    in_private(|| {
        let mut house = House::open("");
        let mut broker = house.connect();
        let run = run_of(1, 1);
        let secret = launch(&["sh", "-c", "echo secret; exit 3"]);
        broker.admit(run, &secret);
        broker.send_start(run);
        broker.started(run);
        until("it is over", || {
            matches!(house.record(run), Some(Record::Ended { .. }))
        });
        // The ids of a new store begin again, and the journal is another one.
        house.kill_monitor();
        fs::remove_dir_all(house.path("state")).unwrap();
        house.start_monitor();
        let mut broker = house.connect();
        let harmless = launch(&["true"]);
        let bob = bobs(&harmless);
        admit_as(&mut broker, run, &bob, &harmless);
        broker.send(&start_of(run, stamp(&bob)));
        assert_eq!(broker.report(), not_started(run, Refusal::OtherJob));
        broker.send(&watch_of(run, stamp(&bob)));
        assert_eq!(broker.report(), not_started(run, Refusal::OtherJob));
        // Whatever a broker says of whose it is, the warrant counts.
        broker.send_start(run);
        assert_eq!(broker.report(), not_started(run, Refusal::OtherJob));
        // Another attempt of it has no such record.
        let second = run_of(1, 2);
        let (again, whose) = (bobs(&harmless), stamp(&bob));
        admit_as(&mut broker, second, &again, &harmless);
        broker.send(&start_of(second, whose));
        broker.started(second);
    });
}

#[test]
fn t121_a_waiting_admission_is_not_started_for_a_job_of_another_user() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        let run = run_of(5, 1);
        let alices = launch(&["sh", "-c", "echo ran >> runs"]);
        broker.admit(run, &alices);
        let bob = bobs(&launch(&["true"]));
        broker.send(&start_of(run, stamp(&bob)));
        assert_eq!(broker.report(), not_started(run, Refusal::OtherJob));
        let revoke = Box::new(Request::Revoke { run });
        broker.send(&Request::Of {
            stamp: stamp(&bob),
            request: revoke,
        });
        broker.send(&start_of(run, stamp(&claims(&alices))));
        broker.started(run);
        until("alice's job runs, once", || house.runs() == 1);
    });
}

#[test]
fn t121_a_broker_of_another_store_has_nothing_done_and_hears_nothing() {
    in_private(|| {
        let mut house = House::open("");
        let mut ours = house.connect();
        assert_eq!(name(&mut ours, OURS, false), (Bond::Ours, 0));
        let run = run_of(7, 1);
        let sleeps = launch(&["sleep", "1000"]);
        ours.admit(run, &sleeps);
        let mut theirs = house.connect();
        assert_eq!(name(&mut theirs, THEIRS, true), (Bond::Foreign(OURS), 7));
        let mut nameless = house.connect();
        for peer in [&mut theirs, &mut nameless] {
            peer.send_start(run);
            assert_eq!(peer.report(), not_started(run, Refusal::OtherStore));
            let warrant = sign(&key(1), "k1", &claims(&sleeps));
            peer.send_admit(run_of(8, 1), &warrant, &sleeps);
            let refused = Report::Refused {
                run: run_of(8, 1),
                refusal: Refusal::OtherStore,
            };
            assert_eq!(peer.report(), refused);
        }
        ours.send_start(run);
        ours.started(run);
        theirs.send_signal(run, warrant_wire::JobSignal::Kill);
        theirs.send_watch(run);
        // What it hears next is not about the run.
        assert_eq!(name(&mut theirs, THEIRS, false).0, Bond::Foreign(OURS));
        // The same after a restart, and with the spool or the journal alone.
        for gone in ["", "spool/store", "state"] {
            house.kill_monitor();
            match gone {
                "" => {}
                "state" => fs::remove_dir_all(house.path(gone)).unwrap(),
                file => fs::remove_file(house.path(file)).unwrap(),
            }
            house.start_monitor();
            let mut theirs = house.connect();
            let (bond, highest) = name(&mut theirs, THEIRS, true);
            assert_eq!(bond, Bond::Foreign(OURS), "{gone}");
            assert!((7..=64).contains(&highest), "{gone}: {highest}");
            let mut ours = house.connect();
            assert_eq!(name(&mut ours, OURS, false).0, Bond::Ours, "{gone}");
        }
        let mut ours = house.connect();
        assert_eq!(name(&mut ours, OURS, false).0, Bond::Ours);
        ours.send(&watch_of(run, stamp(&claims(&sleeps))));
        ours.started(run);
        ours.send_signal(run, warrant_wire::JobSignal::Kill);
        loop {
            if let Report::Ended { .. } = ours.report() {
                break;
            }
        }
    });
}

#[test]
fn t121_a_forgotten_store_leaves_its_numbers_used_and_its_jobs_unstarted() {
    in_private(|| {
        let mut house = House::open("");
        let mut broker = house.connect();
        assert_eq!(name(&mut broker, OURS, false).0, Bond::Ours);
        let (waits, ran) = (run_of(90, 1), run_of(30, 1));
        let line = launch(&["sh", "-c", "echo ran >> runs"]);
        broker.admit(ran, &line);
        broker.send_start(ran);
        broker.started(ran);
        assert_exited(&broker.ended(ran), 0);
        broker.admit(waits, &line);
        let (done, said) = forget(&house);
        assert!(!done && said.contains("another monitor"), "{said}");
        house.kill_monitor();
        let (done, said) = forget(&house);
        assert!(done && said.contains("above 90"), "{said}");
        house.start_monitor();
        let mut broker = house.connect();
        assert_eq!(name(&mut broker, THEIRS, false), (Bond::Ours, 90));
        broker.send_start(waits);
        assert_eq!(broker.report(), not_started(waits, Refusal::NotAdmitted));
        assert_eq!(house.runs(), 1);
        let mut old = house.connect();
        assert_eq!(name(&mut old, OURS, true).0, Bond::Foreign(THEIRS));
    });
}

#[test]
fn t121_a_journal_of_the_version_before_is_adopted_with_a_job_that_runs() {
    in_private(|| {
        let mut house = House::open("");
        let mut broker = house.connect();
        let (run, waits) = (run_of(3, 1), run_of(4, 1));
        let job = launch(&["sh", "-c", "until [ -e go ]; do sleep 0.01; done; exit 5"]);
        broker.admit(run, &job);
        broker.send_start(run);
        broker.started(run);
        broker.admit(waits, &job);
        house.kill_monitor();
        // As that version left it: no stamp, and nothing about a store.
        let file = house.path("spool").join(run.spool_path(RunFile::Record));
        let record = house.record(run).unwrap();
        fs::write(&file, record.encode()).unwrap();
        fs::remove_file(house.path("spool/store")).unwrap();
        house.start_monitor();
        let mut broker = house.connect();
        assert_eq!(name(&mut broker, THEIRS, false), (Bond::Unclaimed, 4));
        assert_eq!(name(&mut broker, OURS, true), (Bond::Ours, 4));
        let whose = stamp(&claims(&job));
        broker.send(&watch_of(run, whose));
        broker.started(run);
        broker.send(&start_of(waits, whose));
        broker.started(waits);
        fs::write(house.path("alice/go"), "").unwrap();
        let mut ended = 0;
        while ended < 2 {
            if let Report::Ended { outcome, .. } = broker.report() {
                assert_exited(&outcome, 5);
                ended += 1;
            }
        }
    });
}

#[test]
fn t121_numbers_far_beyond_all_others_are_refused_and_use_none_up() {
    in_private(|| {
        let house = House::open("");
        let mut broker = house.connect();
        assert_eq!(name(&mut broker, OURS, false).0, Bond::Ours);
        let job = launch(&["true"]);
        let far = run_of(1 << 40, 1);
        broker.send_admit(far, &sign(&key(1), "k1", &claims(&job)), &job);
        let refusal = Refusal::JobNumber;
        assert_eq!(broker.report(), Report::Refused { run: far, refusal });
        // What no warrant was admitted for uses no number either.
        broker.send_start(run_of(1_000_000, 1));
        broker.report();
        assert_eq!(name(&mut broker, OURS, false), (Bond::Ours, 0));
    });
}

#[test]
fn t135_a_second_monitor_on_a_spool_with_a_journal_of_its_own_does_not_serve() {
    in_private(|| {
        let house = House::open("");
        let policy = fs::read_to_string(house.path("shim.toml")).unwrap();
        let policy = policy.replace("/state\"", "/other-state\"");
        let policy = policy.replace("/shim/shim.sock\"", "/other/shim.sock\"");
        fs::write(house.path("other.toml"), policy).unwrap();
        let mut command = Command::new(house.path("warrant-shim"));
        command.args(["serve", "--policy"]);
        command.arg(house.path("other.toml")).env_clear();
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("another monitor"), "{said}");
    });
}
