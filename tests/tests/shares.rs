//! What one user may take of what is everybody's.

use warrant_tests::village::{ALICE, BOB};
use warrant_tests::wait::until;
use warrant_tests::{Flux, Plan, on_each_database};

/// Submit until that is refused; how many jobs were taken, and the refusal.
fn fill(user: &Flux, most: usize) -> (Vec<i64>, Option<(u16, String)>) {
    let mut taken = Vec::new();
    while taken.len() < most {
        let answer = user.post("/v1/jobs/submit?command=true");
        if answer.status != 200 {
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            return (taken, Some((answer.status, answer.text())));
        }
        taken.push(answer.json()["id"].as_i64().unwrap());
    }
    (taken, None)
}

on_each_database! {
    fn t129_one_who_fills_the_queue_gets_429_and_others_are_served(setup: Setup) {
        let mut house = setup.cores(1).set("BROKER__LIMITS__QUEUED_JOBS", "9").open();
        let (ann, ben) = (house.user("ann"), house.user("ben"));
        let running = ann.submit_script("sleep 1000");
        ann.wait_until(running, "RUN");
        let (taken, refusal) = fill(&ann, 100);
        assert_eq!(taken.len(), 5);
        let (status, text) = refusal.unwrap();
        assert!(status == 429 && text.contains("your share of the queue"), "{status} {text}");
        assert!(text.contains("detail"), "{text}");
        assert_eq!(fill(&ben, 100).0.len(), 2);
        // Counted from the tables after a restart, at once.
        house.kill_broker();
        house.start_broker();
        assert_eq!(fill(&ann, 100).0.len(), 0);
        assert_eq!(fill(&ben, 100).0.len(), 0);
        // Half of the seven that ben leaves: of five, two must end first.
        for job in &taken[3..] {
            assert_eq!(ann.cancel(*job).status, 200);
        }
        assert_eq!(fill(&ann, 100).0.len(), 1);
        // And so do those that start.
        assert_eq!(ann.cancel(running).status, 200);
        ann.finished(taken[2]);
        until("room for all", || fill(&ann, 3).1.is_none().then_some(()));
        house.close();
    }

    fn t129_definitions_have_shares_of_their_bytes(setup: Setup) {
        let house = setup.cores(1).set("BROKER__LIMITS__QUEUED_MIB", "2").open();
        let (ann, ben) = (house.user("ann"), house.user("ben"));
        let running = ann.submit_script("sleep 1000");
        ann.wait_until(running, "RUN");
        let large = serde_json::json!({
            "command": "true", "envars": {"TEXT": "x".repeat(100_000)},
        });
        let taken = (0..100).take_while(|_| {
            let answer = ann.post_json("/v1/jobs/submit", &large);
            assert!([200, 429].contains(&answer.status), "{answer:?}");
            answer.status == 200
        });
        assert_eq!(taken.count(), 10);
        ben.submit_with(&large);
        house.close();
    }
}

#[test]
fn t129_one_who_fills_the_admissions_gets_429_and_others_are_served() {
    let plan = Plan::default().policy("max_admitted = 50");
    let Some(village) = plan.set("BROKER__ENGINE__CORES", "1").open() else {
        return;
    };
    let (alice, bob) = (village.user(ALICE), village.user(BOB));
    let running = alice.submit_script("sleep 1000");
    alice.wait_until(running, "RUN");
    let (taken, refusal) = fill(&alice, 60);
    assert_eq!(taken.len(), 25);
    let (status, text) = refusal.unwrap();
    assert!(
        status == 429 && text.contains("your share"),
        "{status} {text}"
    );
    let (others, refusal) = fill(&bob, 60);
    assert_eq!((others.len(), refusal.unwrap().0), (13, 429));
    assert_eq!(alice.cancel(running).status, 200);
    for job in [taken[24], others[12]] {
        let user = if job == taken[24] { &alice } else { &bob };
        user.finished(job);
    }
    alice.submit("true");
    village.close();
}
