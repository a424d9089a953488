//! A shim that takes connections and does not answer.

use nix::sys::signal::Signal;
use warrant_tests::Village;
use warrant_tests::processes::send;
use warrant_tests::village::ALICE;
use warrant_tests::wait::until;

#[test]
fn t133_a_shim_that_does_not_answer_is_logged_reported_and_found_again() {
    let Some(mut village) = Village::open() else {
        return;
    };
    let alice = village.user(ALICE);
    alice.finished(alice.submit_script("exit 0"));
    let shim = village.shim().pid();
    send(shim, Signal::SIGSTOP);
    // Its socket goes on taking connections, also those of a new broker.
    for _ in 0..2 {
        let noticed = |village: &Village| {
            let logs = village.logs();
            logs.matches("the shim's monitor does not answer").count()
        };
        let before = noticed(&village);
        until("the broker to notice", || {
            (noticed(&village) > before).then_some(())
        });
        let answer = alice.post("/v1/jobs/submit?command=true");
        assert_eq!(answer.status, 503, "{answer:?}");
        let text = answer.text();
        assert!(text.contains("The shim does not answer"), "{text}");
        village.replace_broker();
    }
    send(shim, Signal::SIGCONT);
    until("jobs to be taken again", || {
        (alice.post("/v1/jobs/submit?command=true").status == 200).then_some(())
    });
    village.close();
}
