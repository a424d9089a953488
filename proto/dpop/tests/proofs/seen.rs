//! The memory of proofs, against a plain one that never forgets too early.

use std::collections::HashMap;

use warrant_dpop::{Draft, Key, Proof, Seen, Sight};

use super::random::Random;
use super::{NOW_S, TOKEN, URL, judged_at};

fn proof(key: u8, id: &str, now_s: u64) -> Proof {
    let text = Key::from_seed(&[key; 32]).proof(&Draft {
        method: "GET",
        url: URL,
        token: Some(TOKEN),
        nonce: None,
        id,
        now_s,
    });
    judged_at(&text, now_s).unwrap()
}

#[test]
fn t101_a_proof_is_seen_once_for_as_long_as_it_lives() {
    let seen = Seen::default();
    let mut random = Random::new(5);
    let mut known: HashMap<(u8, String), u64> = HashMap::new();
    let mut now_s = NOW_S;
    let mut again = 0;
    for _ in 0..5_000 {
        now_s += random.below(4) as u64 * random.below(2) as u64;
        let key = random.below(3) as u8;
        let id = random.below(300).to_string();
        let proof = proof(key, &id, now_s);
        let sight = seen.see("ann", &proof, now_s);
        // The same proof cannot live for longer than two windows from when it
        // was first seen.
        let lives = known
            .get(&(key, id.clone()))
            .is_some_and(|at| now_s <= at + 120);
        if lives {
            assert_eq!(sight, Sight::Again);
            again += 1;
        }
        if sight == Sight::First {
            known.insert((key, id), now_s);
        }
    }
    assert!(again > 500, "{again}");
}

#[test]
fn t111_nobody_uses_up_the_room_of_others() {
    let seen = Seen::new(3, 5);
    let see = |user: &str, key: u8, id: &str, now_s| seen.see(user, &proof(key, id, now_s), now_s);
    // As many keys as she likes: it is her room all the same.
    for key in 1..4 {
        assert_eq!(see("ann", key, "x", NOW_S), Sight::First);
    }
    assert_eq!(see("ann", 4, "x", NOW_S), Sight::Full);
    assert_eq!(see("ann", 1, "x", NOW_S), Sight::Again);
    assert_eq!(see("bob", 1, "x", NOW_S), Sight::First);
    assert_eq!(see("bob", 1, "y", NOW_S), Sight::First);
    assert_eq!(see("bob", 1, "z", NOW_S), Sight::Full);
    assert_eq!(see("cat", 1, "x", NOW_S), Sight::Full);
    // There is room again when what fills it is over.
    assert_eq!(see("cat", 1, "x", NOW_S + 122), Sight::First);
    assert_eq!(see("ann", 1, "x", NOW_S + 300), Sight::First);
}

#[test]
fn t109_a_clock_that_goes_back_makes_nothing_forgotten() {
    let seen = Seen::default();
    let one = proof(1, "one", NOW_S);
    assert_eq!(seen.see("ann", &one, NOW_S), Sight::First);
    assert_eq!(seen.see("ann", &one, NOW_S - 3600), Sight::Again);
    assert_eq!(seen.see("ann", &one, NOW_S), Sight::Again);
}
