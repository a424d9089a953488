//! Nobody learns from how long a refusal takes whether there is such a user.
//!
//! Logins of each sort come in random order, one at a time over one
//! connection, each from a source of its own and for one of many names, so
//! that none is throttled. Hashes are small: the smaller the part that is the
//! same for all, the better another part can be seen.
//!
//! Two sorts are told apart where the test of Mann and Whitney finds less than
//! [`CHANCE`] for their difference, twice, with new names the second time, and
//! the same sort takes longer both times. Where nothing is to be found, that
//! happens once in 1 / (0.01 × 0.005) = 20,000 comparisons.

use std::time::{Duration, Instant};

use super::house::{Answer, House, login};
use super::ranks::{Compared, Numbers, compare};
use crate::passwords;
use crate::secret::Secret;

/// What a difference by chance must be less probable than.
const CHANCE: f64 = 0.01;
/// Logins of each sort.
const LOGINS: usize = 2_000;
/// Names of each sort: of one account, a hundred failures a minute are borne.
const NAMES: usize = 25;
/// Logins before those that count.
const WARM_UP: usize = 100;

/// How long the logins of each sort took, in nanoseconds.
type Times = Vec<Vec<u64>>;

/// Try `logins` wrong passwords for each sort of users. All must be refused
/// in the same words.
async fn measure(house: &House, sorts: &[Vec<String>], logins: usize, seed: u64) -> Times {
    let mut line = house.line().await;
    let mut numbers = Numbers::of(seed);
    let mut order: Vec<(usize, usize)> = (0..sorts.len())
        .flat_map(|sort| (0..logins).map(move |turn| (sort, turn)))
        .collect();
    numbers.shuffle(&mut order);
    let warm_up = (0..WARM_UP).map(|turn| (None, format!("early{:03}", turn % NAMES)));
    let turns = order.into_iter().map(|(sort, turn)| {
        let names = &sorts[sort];
        (Some(sort), names[turn % names.len()].clone())
    });
    let mut times = vec![Vec::with_capacity(logins); sorts.len()];
    let mut told = None;
    for (number, (sort, name)) in warm_up.chain(turns).enumerate() {
        let source = format!("2001:db8:{:x}:{:x}::1", seed % 0x10000, number);
        let request = login(&name, "wrong", &source);
        let began = Instant::now();
        let answer = line.ask(request).await;
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap();
        let words = words(&answer);
        assert_eq!(&words, told.get_or_insert_with(|| words.clone()), "{name}");
        if let Some(sort) = sort {
            times[sort].push(took);
        }
    }
    let (status, body, _) = told.unwrap();
    let wrong = "{\"detail\":\"Incorrect user or password\"}";
    assert_eq!((status, body.as_str()), (400, wrong));
    times
}

/// All of an answer but its date: status, body and headers.
fn words(answer: &Answer) -> (u16, String, Vec<(String, String)>) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers
        .map(|(name, value)| (name.to_string(), format!("{value:?}")))
        .collect();
    (answer.status.as_u16(), answer.body.to_string(), headers)
}

/// The first sort compared with each of the others.
fn compare_all(times: &Times) -> Vec<Compared> {
    let (first, others) = times.split_first().unwrap();
    others.iter().map(|other| compare(first, other)).collect()
}

/// Whether two rounds of the same comparison tell the sorts apart.
fn are_told_apart(once: Compared, again: Compared) -> bool {
    once.p < CHANCE && again.p < CHANCE && once.z.signum() == again.z.signum()
}

/// Panic where two rounds tell a sort from the first one. The second is left
/// out where the first finds nothing.
async fn are_alike(sorts: &[&str], round: impl AsyncFn(u64) -> Times) {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = u64::from_ne_bytes(seed);
    let once = compare_all(&round(seed).await);
    if once.iter().all(|compared| compared.p >= CHANCE) {
        return;
    }
    let again = compare_all(&round(seed.rotate_left(32)).await);
    for ((once, again), sort) in once.iter().zip(&again).zip(&sorts[1..]) {
        assert!(
            !are_told_apart(*once, *again),
            "{} and {sort} are told apart by time, seed {seed}: {once:?}, {again:?}",
            sorts[0]
        );
    }
}

fn names(sort: &str) -> Vec<String> {
    (0..NAMES).map(|n| format!("{sort}{n:03}")).collect()
}

#[tokio::test]
async fn t97_no_time_tells_known_unknown_and_disabled_users_apart() {
    let sorts = ["known", "blank", "ended"];
    are_alike(&sorts, async |seed| {
        let house = House::open().await;
        let [known, unknown, disabled] = sorts.map(names);
        for name in known.iter().chain(&disabled) {
            house.add(name, "pw").await;
        }
        for name in &disabled {
            house.disable(name).await;
        }
        let times = measure(&house, &[known, unknown, disabled], LOGINS, seed).await;
        house.close().await;
        times
    })
    .await;
}

/// A cost at which a hash takes at least this long here, in KiB.
fn costly(at_least: Duration) -> u32 {
    let mut memory_kib = 256;
    loop {
        let cost = argon2::Params::new(memory_kib, 1, 1, None).unwrap();
        let began = Instant::now();
        passwords::hash(&cost, &Secret::new("pw")).unwrap();
        if began.elapsed() >= at_least {
            return memory_kib;
        }
        memory_kib *= 2;
    }
}

/// With hashes that take longer than the steps in which refusals are answered:
/// whoever needs none would be answered some steps earlier.
#[tokio::test]
async fn t97_unknown_users_cost_a_hash_like_any_other() {
    const FEW: usize = 150;
    let memory_kib = costly(Duration::from_millis(10));
    let sorts = ["known", "blank", "ended"];
    are_alike(&sorts, async |seed| {
        let house = House::open_with(&[], |config| config.passwords.memory_kib = memory_kib).await;
        let [known, unknown, disabled] = sorts.map(names);
        for name in known.iter().chain(&disabled) {
            house.add(name, "pw").await;
        }
        for name in &disabled {
            house.disable(name).await;
        }
        let times = measure(&house, &[known, unknown, disabled], FEW, seed).await;
        house.close().await;
        times
    })
    .await;
}

/// Names of accounts of this machine that may log in, and of none.
fn accounts() -> Vec<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let names = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        ((1..60_000).contains(&uid) && name.chars().all(|c| c.is_ascii_lowercase())).then_some(name)
    });
    names.collect()
}

#[tokio::test]
async fn t97_no_time_tells_accounts_without_a_password_here_from_users() {
    let sorts = ["with a password", "without one", "no account"];
    are_alike(&sorts, async |seed| {
        let house = House::open_multi_user(|_| {}).await;
        // These two have passwords in every such house.
        let (mut known, mut others): (Vec<_>, Vec<_>) = accounts()
            .into_iter()
            .partition(|name| name == "daemon" || name == "bin");
        Numbers::of(seed).shuffle(&mut others);
        let bare = others.split_off(others.len() / 2);
        assert!(bare.len() >= 4, "too few accounts to compare: {bare:?}");
        for name in &others {
            house.add(name, "pw").await;
        }
        known.extend(others);
        // Of one account, a hundred failures a minute are borne.
        let logins = (bare.len() * 90).min(LOGINS);
        let sorts = [known, bare, names("blank")];
        let times = measure(&house, &sorts, logins, seed).await;
        house.close().await;
        times
    })
    .await;
}

/// Times as services have them: most near each other, a few far off.
fn made_up(count: usize, numbers: &mut Numbers, more: u64) -> Vec<u64> {
    let mut one = || {
        let near: usize = (0..3).map(|_| numbers.below(50_000)).sum();
        let far = if numbers.below(50) == 0 { 2_000_000 } else { 0 };
        300_000 + near as u64 + far + more
    };
    (0..count).map(|_| one()).collect()
}

#[test]
fn a_difference_of_a_hundredth_is_found_and_none_where_none_is() {
    let mut numbers = Numbers::of(97);
    let mut round = |more: u64| {
        let first = made_up(LOGINS, &mut numbers, 0);
        compare(&first, &made_up(LOGINS, &mut numbers, more))
    };
    for _ in 0..20 {
        let found = [round(5_000), round(5_000)];
        assert!(are_told_apart(found[0], found[1]), "{found:?}");
        let found = [round(0), round(0)];
        assert!(!are_told_apart(found[0], found[1]), "{found:?}");
    }
    // One round alone is as often wrong as it says.
    let wrong = (0..1_000)
        .filter(|_| {
            let first = made_up(100, &mut numbers, 0);
            compare(&first, &made_up(100, &mut numbers, 0)).p < CHANCE
        })
        .count();
    assert!((2..=22).contains(&wrong), "{wrong} of 1000");
}
