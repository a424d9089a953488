//! Keys that are rotated while everybody works.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ureq::http::Method;
use warrant_tests::village::{ALICE, BOB};
use warrant_tests::wait::until_within;
use warrant_tests::{Flux, Plan, Village};

const ROUNDS: usize = 10;

/// Put the public keys of warrants before the shim, as root does.
pub(super) fn publish(village: &Village) {
    let keys = village.authsvc_command(&["keys", "warrant"], "");
    let file = village.path("etc/warrant-keys/authsvc.pub");
    let fresh = file.with_extension("new");
    fs::write(&fresh, keys).unwrap();
    fs::rename(fresh, file).unwrap();
    kill(Pid::from_raw(village.shim().pid()), Signal::SIGHUP).unwrap();
}

/// The keys of one sort and what each is doing.
fn keys(village: &Village, of: &[&str]) -> Vec<(String, String)> {
    let words = [&["keys", "list"][..], of].concat();
    let listed = village.authsvc_command(&words, "");
    let lines = listed.lines().map(|line| {
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    });
    lines.collect()
}

pub(super) fn signing(village: &Village, of: &[&str]) -> String {
    let mut all = keys(village, of).into_iter();
    all.find(|(_, state)| state == "signing").unwrap().0
}

pub(super) fn kid(token: &str) -> String {
    let head = token.split('.').next().unwrap();
    let head = URL_SAFE_NO_PAD.decode(head).unwrap();
    let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
    head["kid"].as_str().unwrap().to_owned()
}

#[test]
fn t26_t109_ten_rotations_of_both_keys_under_load_lose_no_request() {
    let plan = Plan::default()
        .set("AUTHSVC__WARRANTS__ACTIVATION_S", "6")
        .set("AUTHSVC__KEYS__ACTIVATION_S", "10")
        .set("BROKER__LIMITS__UNAUTHENTICATED_PER_MINUTE", "0");
    let Some(village) = plan.open() else { return };
    let (alice, bob) = (village.user(ALICE), village.user(BOB));
    let stop = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    // Tokens of every age: all are valid, whichever key signed them.
    let tokens: Mutex<Vec<Flux>> = Mutex::new(vec![alice.with_token(alice.token())]);
    let seen = Mutex::new(BTreeSet::new());
    let note = |what: &str, answer: std::io::Result<warrant_tests::Answer>| {
        asked.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(answer) if answer.status == 200 => return Some(answer),
            Ok(answer) => {
                wrong
                    .lock()
                    .unwrap()
                    .push(format!("{what}: {} {}", answer.status, answer.text()))
            }
            Err(error) => wrong.lock().unwrap().push(format!("{what}: {error}")),
        }
        None
    };
    std::thread::scope(|scope| {
        let mut load = Vec::new();
        for user in [&alice, &bob] {
            let (note, stop) = (&note, &stop);
            load.push(scope.spawn(move || {
                // A warrant for each.
                while !stop.load(Ordering::Relaxed) {
                    let path = "/v1/jobs/submit?command=true";
                    note(
                        "submit",
                        user.try_send(&Method::POST, path, &[], b"")
                            .map_err(std::io::Error::other),
                    );
                }
            }));
        }
        load.push(scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let form = format!("username=alice&password={}", Village::password(ALICE));
                let head = [("content-type", "application/x-www-form-urlencoded")];
                let nobody = village.nobody();
                let answer = nobody.try_send(
                    &Method::POST,
                    "/v1/login/access-token",
                    &head,
                    form.as_bytes(),
                );
                if let Some(answer) = note("login", answer.map_err(std::io::Error::other)) {
                    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
                    let user = nobody.with_token(&token);
                    note(
                        "its first use",
                        user.try_send(&Method::GET, "/v1/jobs", &[], b"")
                            .map_err(std::io::Error::other),
                    );
                    // The first of each key is used until the end.
                    if seen.lock().unwrap().insert(kid(&token)) {
                        tokens.lock().unwrap().push(user);
                    }
                }
            }
        }));
        load.push(scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let all: Vec<Flux> = {
                    let tokens = tokens.lock().unwrap();
                    tokens
                        .iter()
                        .map(|user| user.with_token(user.token()))
                        .collect()
                };
                for user in all {
                    note(
                        "an older token",
                        user.try_send(&Method::GET, "/v1/jobs", &[], b"")
                            .map_err(std::io::Error::other),
                    );
                }
            }
        }));
        // Somebody shows keys that there are not, all the time.
        load.push(scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let head = format!(
                    r#"{{"alg":"EdDSA","kid":"{:?}","typ":"at+jwt"}}"#,
                    std::time::Instant::now()
                );
                let part = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
                let token = format!(
                    "{}.{}.{}",
                    part(head.as_bytes()),
                    part(b"{}"),
                    part(&[0; 64])
                );
                let user = alice.with_token(&token);
                let answer = user.try_send(&Method::GET, "/v1/jobs", &[], b"").unwrap();
                assert_eq!(answer.status, 401);
            }
        }));
        let rotated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..ROUNDS {
                let before = (signing(&village, &[]), signing(&village, &["--warrant"]));
                village.authsvc_command(&["keys", "rotate"], "");
                village.authsvc_command(&["keys", "rotate", "--warrant"], "");
                publish(&village);
                until_within(Duration::from_secs(30), &format!("round {round}"), || {
                    let now = (signing(&village, &[]), signing(&village, &["--warrant"]));
                    (now.0 != before.0 && now.1 != before.1).then_some(())
                });
            }
        }));
        stop.store(true, Ordering::Relaxed);
        load.into_iter().for_each(|thread| thread.join().unwrap());
        rotated.unwrap();
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {}: {:#?}",
        wrong.len(),
        asked.load(Ordering::Relaxed),
        &wrong[..wrong.len().min(5)]
    );
    assert!(asked.load(Ordering::Relaxed) > 500, "hardly any load");
    assert!(
        seen.into_inner().unwrap().len() >= ROUNDS,
        "tokens of too few keys"
    );

    // A key that is removed vouches for nothing any more.
    let first = kid(alice.token());
    assert!(keys(&village, &[]).contains(&(first.clone(), "old".to_owned())));
    village.authsvc_command(&["keys", "retire", &first], "");
    until_within(
        Duration::from_secs(90),
        "the old token to count no more",
        || {
            let answer = alice.try_send(&Method::GET, "/v1/jobs", &[], b"").unwrap();
            (answer.status == 401).then_some(())
        },
    );
    let alice = village.login(ALICE);
    let all = keys(&village, &["--warrant"]);
    let old: Vec<_> = all.iter().filter(|(_, state)| state == "old").collect();
    for (kid, _) in &old {
        village.authsvc_command(&["keys", "retire", kid, "--warrant"], "");
    }
    publish(&village);
    let published = fs::read_to_string(village.path("etc/warrant-keys/authsvc.pub")).unwrap();
    assert!(!old.is_empty() && old.iter().all(|(kid, _)| !published.contains(kid)));
    let job = alice.submit("id -un");
    alice.finished(job);
    assert_eq!(alice.output(job), ["alice\n"]);
    village.close();
}
