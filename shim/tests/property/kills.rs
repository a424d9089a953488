//! Some jobs at a time, some kills, and then the truth.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use warrant_wire::record::Record;
use warrant_wire::{Cause, JobSignal, Placement, Refusal, Report, Request, RunId, encode_request};

use crate::groups::Groups;
use crate::house::until;
use crate::machine::{
    ALICE, House, Peer, chmod, claims, in_private, key, launch, leaves_a_line, run, run_of, sign,
};
use crate::processes;

/// What a job does besides leaving its line.
const ENDLESS: &str = "exec sleep 1000";
const WAYS: [&str; 6] = [
    "",
    "sleep 0.02",
    "exit 3",
    // A process that leaves the session and outlives its parent.
    "setsid sh -c 'trap : TERM HUP; sleep 1000' > /dev/null 2>&1 &",
    "trap '' TERM; (sleep 1000 &) ; sleep 1000",
    ENDLESS,
];

/// A job, its warrant and what it does.
struct Job {
    number: u64,
    launch: Vec<u8>,
    warrant: Vec<u8>,
    is_endless: bool,
}

/// Numbers that look random. Source: SplitMix64 by Sebastiano Vigna.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn t91_t92_whoever_is_killed_whenever_a_job_runs_once_and_leaves_nothing() {
    in_private(|| {
        let seed = variable("WARRANT_PROPERTY_SEED").unwrap_or_else(warrant_shim::clock::now_us);
        println!("seed {seed}");
        let seconds = variable("WARRANT_PROPERTY_SECONDS").unwrap_or(8);
        let over = Instant::now() + Duration::from_secs(seconds);
        let groups = Groups::enter();
        let mut random = Random(seed);
        let mut house = furnish("pam_permit.so");
        let (mut next_job, mut rounds) = (1, 0);
        let mut finals: BTreeMap<String, u64> = BTreeMap::new();
        while Instant::now() < over {
            let count = 1 + random.below(6);
            let jobs: Vec<Job> = (next_job..next_job + count)
                .map(|number| new_job(number, &mut random))
                .collect();
            next_job += count;
            for report in round(&mut house, &groups, &jobs, &mut random) {
                *finals.entry(kind(&report)).or_default() += 1;
            }
            rounds += 1;
        }
        println!("{rounds} rounds, {} jobs: {finals:?}", next_job - 1);
        house.kill_monitor();
        groups.leave();
    });
}

/// The monitor takes its time to learn why, and then has to clear up.
#[test]
fn t92_a_keeper_that_is_killed_while_it_prepares_leaves_no_control_group() {
    in_private(|| {
        let groups = Groups::enter();
        let slow = "/run/shim-test/slow";
        fs::write(slow, "#!/bin/sh\nexec sleep 1\n").unwrap();
        chmod(slow.as_ref(), 0o755);
        let mut house = furnish(&format!("pam_exec.so {slow}"));
        let mut peer = house.connect();
        let run = run_of(1, 1);
        peer.admit(run, &leaves_a_line());
        peer.send_start(run);
        until("the job has a control group", || !groups.jobs().is_empty());
        for process in processes::attendants() {
            if process.name == "warrant-keeper" {
                processes::end(&process);
            }
        }
        peer.not_started(run, Some(Refusal::AccountUnavailable));
        groups.assert_no_jobs();
        house.kill_monitor();
        groups.leave();
    });
}

/// A monitor with control groups, and with sessions of PAM that this module
/// opens.
fn furnish(session: &str) -> House {
    let mut house = House::unopened("");
    let pam = house.path("etc/pam.d");
    fs::create_dir(&pam).unwrap();
    let permit = ["auth", "account"].map(|kind| format!("{kind} required pam_permit.so\n"));
    let service = format!("{}session required {session}\n", permit.concat());
    fs::write(pam.join("warrant"), service).unwrap();
    run("mount", &["--bind", pam.to_str().unwrap(), "/etc/pam.d"]);
    let path = house.path("shim.toml");
    let policy = fs::read_to_string(&path).unwrap();
    let policy = policy
        .replace("pam = \"off\"", "pam = \"on\"")
        .replace("cgroup = \"off\"", "cgroup = \"auto\"");
    fs::write(path, policy).unwrap();
    house.start_monitor();
    house
}

fn new_job(number: u64, random: &mut Random) -> Job {
    let way = WAYS[usize::try_from(random.below(WAYS.len() as u64)).unwrap()];
    let launch = launch(&["sh", "-c", &format!("echo ran >> runs.{number}; {way}")]);
    Job {
        number,
        warrant: sign(&key(1), "k1", &claims(&launch)),
        is_endless: way.contains("1000"),
        launch,
    }
}

/// Answers the last report of each job.
fn round(house: &mut House, groups: &Groups, jobs: &[Job], random: &mut Random) -> Vec<Report> {
    let mut peer = house.connect();
    ask(&mut peer, jobs);
    let is_monitor_dead = kill_some(house, random);
    if is_monitor_dead {
        house.kill_monitor();
        house.start_monitor();
    }
    // A broker that knows nothing asks for all of it again.
    let mut peer = house.connect();
    ask(&mut peer, jobs);
    let first = collect(&mut peer, jobs, 1);
    for job in jobs {
        check(house, job, &first[&run_of(job.number, 1)]);
    }
    if random.below(3) == 0 {
        house.replace_monitor();
        peer = house.connect();
    }
    for job in jobs {
        peer.send_watch(run_of(job.number, 1));
    }
    let again = collect(&mut peer, jobs, 1);
    for (run, report) in &first {
        assert_same(report, &again[run]);
    }
    refuse_more(house, jobs, &first);
    until("no process is left", || {
        processes::attendants().is_empty()
            && processes::all().iter().all(|process| process.uid != ALICE)
    });
    groups.assert_no_jobs();
    for job in jobs {
        assert!(times(house, job) <= 1);
    }
    first.into_values().collect()
}

/// Asks for all jobs to be admitted and started. Who listens may be dying.
fn ask(peer: &mut Peer, jobs: &[Job]) {
    for job in jobs {
        let run = run_of(job.number, 1);
        let requests = [
            Request::Admit {
                run,
                warrant: job.warrant.clone(),
                launch: job.launch.clone(),
            },
            Request::Start {
                run,
                placement: Placement::default(),
            },
        ];
        let _ = peer.send_bytes(&requests.each_ref().map(encode_request).concat());
    }
}

/// Kills one to three processes of the shim at moments of their own. Answers
/// whether the monitor was among them.
fn kill_some(house: &House, random: &mut Random) -> bool {
    let mut is_monitor_dead = false;
    for _ in 0..=random.below(3) {
        let moment = Instant::now() + Duration::from_micros(random.below(15_000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        let attendants = processes::attendants();
        let most = attendants.len() as u64 + 2;
        match usize::try_from(random.below(most)).unwrap() {
            0 | 1 => {
                house.signal_monitor("KILL");
                is_monitor_dead = true;
            }
            other => processes::end(&attendants[other - 2]),
        }
    }
    is_monitor_dead
}

/// Waits for the last report of each job, and ends those that have no end.
fn collect(peer: &mut Peer, jobs: &[Job], attempt: u32) -> BTreeMap<RunId, Report> {
    let mut last: BTreeMap<RunId, Report> = BTreeMap::new();
    while last.len() < jobs.len() {
        let report = peer.report();
        let run = report.run();
        let Some(job) = jobs.iter().find(|job| job.number == run.job) else {
            continue;
        };
        match report {
            Report::Admitted { .. } | Report::Pong { .. } | Report::Store { .. } => {}
            Report::Refused { refusal, .. } => assert_eq!(refusal, Refusal::AlreadyUsed),
            Report::Started { .. } if job.is_endless => peer.send_signal(run, JobSignal::Kill),
            Report::Started { .. } => {}
            Report::Ended { .. } | Report::NotStarted { .. } | Report::Lost { .. } => {
                if run.attempt != attempt {
                    continue;
                }
                if let Some(before) = last.insert(run, report) {
                    assert_same(&before, &report);
                }
            }
        }
    }
    last
}

fn kind(report: &Report) -> String {
    match report {
        Report::Ended { outcome, .. } => format!("{:?}", outcome.cause),
        Report::NotStarted { refusal, errno, .. } => format!("{refusal:?} {errno}"),
        other => format!("{other:?}")
            .chars()
            .take_while(|c| c.is_alphabetic())
            .collect(),
    }
}

/// There is one end of a run, and everybody is told the same.
#[track_caller]
fn assert_same(one: &Report, other: &Report) {
    match (one, other) {
        // Why it did not start is not always kept; that it did not is.
        (Report::NotStarted { .. }, Report::NotStarted { .. }) => {}
        (one, other) => assert_eq!(one, other),
    }
}

/// What is told of a job's first run is what its files say.
fn check(house: &House, job: &Job, report: &Report) {
    let record = house.record(run_of(job.number, 1));
    let times = times(house, job);
    let context = format!("job {}: {report:?}, {record:?}, {times} times", job.number);
    match report {
        Report::Ended { outcome, .. } => {
            match record {
                Some(Record::Ended { outcome: kept, .. }) => assert_eq!(kept, *outcome),
                _ => panic!("{context}"),
            }
            let is_whole = outcome.cause == Cause::Exited && outcome.wait_status & 0x7f == 0;
            assert!(times == 1 || (times == 0 && !is_whole), "{context}");
        }
        Report::NotStarted { .. } => {
            assert_eq!(times, 0, "{context}");
            let is_started = matches!(record, Some(Record::Started(_) | Record::Ended { .. }));
            assert!(!is_started, "{context}");
        }
        Report::Lost { .. } => {
            assert!(times <= 1, "{context}");
            assert!(matches!(record, Some(Record::Started(_))), "{context}");
        }
        other => panic!("{other:?}"),
    }
}

fn times(house: &House, job: &Job) -> usize {
    let path = house.path(&format!("alice/runs.{}", job.number));
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// A warrant that was used is used up: for its own job, and for others.
fn refuse_more(house: &House, jobs: &[Job], first: &BTreeMap<RunId, Report>) {
    let mut peer = house.connect();
    for job in jobs {
        let other = run_of(job.number + 1_000_000, 1);
        peer.send_admit(other, &job.warrant, &job.launch);
        peer.refused(other, Refusal::AlreadyUsed);
        let next = run_of(job.number, 2);
        peer.send_start(next);
        let is_used = !matches!(first[&run_of(job.number, 1)], Report::NotStarted { .. });
        if is_used {
            peer.not_started(next, Some(Refusal::AlreadyUsed));
        } else {
            // What certainly never began may be tried again.
            collect(&mut peer, std::slice::from_ref(job), 2);
        }
    }
}
