//! Everything may be killed at any time, also where jobs run as users.

use std::fs::{self, File};
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use warrant_tests::Plan;
use warrant_tests::village::{ALICE, BOB};
use warrant_tests::wait::until_within;

/// Jobs that run at the same time.
const JOBS: usize = 1_000;
/// How often each service is killed meanwhile.
const KILLS: usize = 10;

/// The code with which the job submitted as number `n` exits.
fn code(n: usize) -> usize {
    n % 5
}

#[test]
fn a_thousand_jobs_of_two_users_live_through_kills_of_every_service() {
    let full = std::env::var("WARRANT_TEST_FULL").as_deref() != Ok("0");
    let (jobs, kills) = if full { (JOBS, KILLS) } else { (100, 2) };
    let cores = jobs.to_string();
    let Some(mut village) = Plan::default().set("BROKER__ENGINE__CORES", &cores).open() else {
        return;
    };
    let users = [village.user(ALICE), village.user(BOB)];
    // All wait until nobody can write to this pipe any more.
    let gate = village.path("gate");
    mkfifo(&gate, Mode::from_bits_truncate(0o644)).unwrap();
    let hold = File::options().read(true).write(true).open(&gate).unwrap();
    let mut submitted = Vec::new();
    for round in 0..kills {
        while submitted.len() < jobs * (round + 1) / kills {
            let n = submitted.len();
            let script = format!(
                "echo {n} >> ran; read -r line < {}; exit {}",
                gate.display(),
                code(n)
            );
            submitted.push(users[n % 2].submit_script(&script));
        }
        village.replace_shim();
        village.replace_broker();
        village.replace_authsvc();
    }
    let ran = |name: &str| {
        let lines = fs::read_to_string(village.path(&format!("home/{name}/ran")));
        let mut numbers: Vec<usize> = lines
            .unwrap_or_default()
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        numbers.sort_unstable();
        numbers
    };
    let patience = Duration::from_secs(180);
    until_within(patience, "all jobs to run", || {
        (ran("alice").len() + ran("bob").len() >= jobs).then_some(())
    });
    drop(hold);
    for (n, job) in submitted.iter().enumerate() {
        let info = users[n % 2].finished(*job);
        assert_eq!(info["returncode"], code(n), "{info}");
    }
    let own = |rest: usize| (0..jobs).filter(|n| n % 2 == rest).collect::<Vec<_>>();
    assert_eq!(ran("alice"), own(0));
    assert_eq!(ran("bob"), own(1));
    village.close();
}
