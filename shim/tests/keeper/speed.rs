//! How long it takes to start a job, next to the bare system calls.

use std::time::{Duration, Instant};

use nix::unistd::{execve, setgroups, setresgid, setresuid};
use warrant_shim::sys::process::{fork, wait_for};

use crate::house::{ALICE, House, as_root, assert_exited};

const ROUNDS: usize = 200;

/// What nobody can do without: a process of alice's that comes and goes.
fn bare() -> Duration {
    let start = Instant::now();
    let child = fork(|| {
        setgroups(&[ALICE.into()]).unwrap();
        setresgid(ALICE.into(), ALICE.into(), ALICE.into()).unwrap();
        setresuid(ALICE.into(), ALICE.into(), ALICE.into()).unwrap();
        let Err(_) = execve::<&std::ffi::CStr, &std::ffi::CStr>(c"/bin/true", &[c"true"], &[]);
        1
    })
    .unwrap();
    assert_eq!(wait_for(child).unwrap(), 0);
    start.elapsed()
}

/// A run from the fork of its keeper to its final record.
fn kept(house: &House) -> Duration {
    let launch = house.launch(["/bin/true"]);
    let start = Instant::now();
    let run = house.start(&launch);
    let outcome = house.ended(run);
    let elapsed = start.elapsed();
    assert_exited(&outcome, 0, "");
    elapsed
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_run_takes_a_small_multiple_of_the_bare_calls() {
    as_root(|house| {
        let report = |what: &str, house: &House, most: f64| {
            kept(house);
            let (ours, bares): (Vec<_>, Vec<_>) =
                (0..ROUNDS).map(|_| (kept(house), bare())).unzip();
            let (ours, bares) = (median(ours), median(bares));
            let ratio = ours.as_secs_f64() / bares.as_secs_f64();
            eprintln!("{what}: {ours:?}, bare {bares:?}, ratio {ratio:.2}");
            // Twice as much as it is, for a machine that has other things to do.
            assert!(ratio < most, "{what}: {ratio:.2}");
        };
        report("alone", house, 8.0);
        house.use_cgroups();
        report("in control groups", house, 10.0);
        house.use_pam("auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n");
        report("in a session", house, 20.0);
    });
}
