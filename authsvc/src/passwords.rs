//! Hashing and checking passwords: argon2id, a few at a time.
//!
//! A hash costs tens of megabytes and milliseconds on purpose, so the number
//! computed at once and the number of logins waiting are both bounded. An
//! unknown user costs what a known one does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// The fewest characters of a new password. Source: NIST SP 800-63B §3.1.1.2.
pub(crate) const SHORTEST: usize = 8;
/// The longest password, in bytes. A longer one is wrong.
pub(crate) const MAX_BYTES: usize = 1024;

/// How long a login waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// Too many logins wait, or one waited too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// What came of comparing a password with a stored hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verified {
    /// They do not match, or there was nothing to compare with.
    Wrong,
    /// They match.
    Right,
    /// They match, and this hash at today's cost is to be stored instead.
    Renewed(String),
}

/// The memory of hashes that are done, kept for the next: never more pieces
/// than turns. Given back to the allocator each time, it would come to lie
/// about in many places and would have to be paged in anew.
#[derive(Debug, Default)]
struct Idle(Mutex<Vec<Vec<Block>>>);

impl Idle {
    fn take(&self) -> Vec<Block> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default()
    }

    fn give_back(&self, memory: Vec<Block>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(memory);
    }
}

/// Gives out turns at hashing.
#[derive(Debug)]
pub(crate) struct Hasher {
    params: Params,
    /// The hash of nothing, for users who do not exist.
    dummy: Arc<str>,
    idle: Arc<Idle>,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Hasher {
    /// A hasher of cost `params`, with `parallel` turns at once and `queue`
    /// places to wait.
    ///
    /// Errors: the system gives no random numbers.
    pub(crate) fn new(params: Params, parallel: usize, queue: usize) -> Result<Self> {
        let mut random = [0; 48];
        getrandom::fill(&mut random)
            .map_err(|source| Error::unavailable("no random numbers", source))?;
        let (salt, output) = random.split_at(16);
        let [salt, output] = [salt, output].map(|bytes| STANDARD_NO_PAD.encode(bytes));
        Ok(Self {
            dummy: format!("$argon2id$v=19${params}${salt}${output}").into(),
            params,
            idle: Arc::default(),
            places: Arc::new(Semaphore::new(parallel.saturating_add(queue))),
            turns: Arc::new(Semaphore::new(parallel)),
        })
    }

    /// Wait for a turn.
    ///
    /// Errors: [`Busy`], when all places are taken or the wait is too long.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, Busy> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Busy)?;
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned())
            .await
            .map_err(|_| Busy)?
            .map_err(|_| Busy)?;
        Ok(Turn {
            hasher: self,
            permits: (place, turn),
        })
    }
}

/// The right to compute a hash now.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    hasher: &'a Hasher,
    permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Turn<'_> {
    /// Compare `password` with `stored`, or with nothing at the same cost.
    /// With `renew`, a hash of another cost than today's is made anew.
    ///
    /// Errors: the stored hash is not one, or the hashing failed.
    pub(crate) async fn verify(
        self,
        stored: Option<String>,
        password: Secret,
        renew: bool,
    ) -> Result<Verified> {
        let params = self.hasher.params.clone();
        let dummy = self.hasher.dummy.clone();
        let idle = self.hasher.idle.clone();
        let permits = self.permits;
        tokio::task::spawn_blocking(move || {
            // Held until the hash is done, even if nobody waits for it.
            let _permits = permits;
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(&dummy);
            let mut memory = idle.take();
            let right = compare(stored, &password, &mut memory);
            idle.give_back(memory);
            match right? {
                Some(cost) if known && renew && !same_cost(&cost, &params) => {
                    hash_bytes(&params, password.expose().as_bytes()).map(Verified::Renewed)
                }
                Some(_) if known => Ok(Verified::Right),
                Some(_) | None => Ok(Verified::Wrong),
            }
        })
        .await
        .map_err(|source| Error::unavailable("a password could not be checked", source))?
    }
}

impl Turn<'_> {
    /// The hash to store for a new `password`, as [`hash`].
    ///
    /// Errors: as [`hash`].
    pub(crate) async fn hash(self, password: Secret) -> Result<String> {
        let params = self.hasher.params.clone();
        let permits = self.permits;
        tokio::task::spawn_blocking(move || {
            let _permits = permits;
            hash(&params, &password)
        })
        .await
        .map_err(|source| Error::unavailable("a password could not be hashed", source))?
    }
}

/// Whether `password` can be one. U+FFFD cannot be in it: it stands for
/// whatever was no UTF-8 in a form, and would be all of that at once.
pub(crate) fn is_possible(password: &Secret) -> bool {
    let text = password.expose();
    (1..=MAX_BYTES).contains(&text.len()) && !text.contains(char::REPLACEMENT_CHARACTER)
}

/// Why `password` cannot be a new one of the user called `name`; `None` where
/// it can.
pub(crate) fn unfit(password: &Secret, name: &str) -> Option<String> {
    let text = password.expose();
    if !is_possible(password) {
        return Some(impossible(password));
    }
    if text.chars().count() < SHORTEST {
        return Some(format!(
            "A password has at least {SHORTEST} characters, and at most {MAX_BYTES} bytes."
        ));
    }
    text.eq_ignore_ascii_case(name)
        .then(|| "The password must not be the user's name.".into())
}

/// The hash to store for a new `password`, in PHC form.
///
/// Errors: the password is empty, longer than 1024 bytes or holds U+FFFD, or
/// the hashing failed.
pub(crate) fn hash(params: &Params, password: &Secret) -> Result<String> {
    if !is_possible(password) {
        return Err(Error::invalid(impossible(password)));
    }
    hash_bytes(params, password.expose().as_bytes())
}

fn impossible(password: &Secret) -> String {
    let bytes = password.expose().len();
    format!("A password has 1 to {MAX_BYTES} bytes, not {bytes}, and no U+FFFD.")
}

/// Whether `password` is the one that `stored` was made of. For commands;
/// the service takes a [`Turn`].
///
/// Errors: the stored hash is not one, or the hashing failed.
pub(crate) fn matches(stored: &str, password: &Secret) -> Result<bool> {
    Ok(compare(stored, password, &mut Vec::new())?.is_some())
}

/// The cost of `stored` if `password` is right; `None` if it is wrong.
fn compare(stored: &str, password: &Secret, memory: &mut Vec<Block>) -> Result<Option<Params>> {
    let unreadable = || Error::new(Kind::Unavailable, "a stored password hash cannot be read");
    let hash = PasswordHash::new(stored).map_err(|_| unreadable())?;
    let cost = Params::try_from(&hash).map_err(|_| unreadable())?;
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
        return Err(unreadable());
    };
    let current = (argon2::ARGON2ID_IDENT, Some(Version::V0x13.into()));
    if (hash.algorithm, hash.version) != current {
        return Err(unreadable());
    }
    memory.resize(cost.block_count(), Block::default());
    let mut output = vec![0; expected.len()];
    argon2id(&cost)
        .hash_password_into_with_memory(password.expose().as_bytes(), salt, &mut output, memory)
        .map_err(|source| Error::unavailable("a password could not be checked", source))?;
    // The comparison of outputs takes the same time whatever they are.
    let output = Output::new(&output).map_err(|_| unreadable())?;
    Ok((output == *expected).then_some(cost))
}

fn same_cost(a: &Params, b: &Params) -> bool {
    (a.m_cost(), a.t_cost(), a.p_cost()) == (b.m_cost(), b.t_cost(), b.p_cost())
}

fn hash_bytes(params: &Params, password: &[u8]) -> Result<String> {
    argon2id(params)
        .hash_password(password)
        .map(|hash: PasswordHash| hash.to_string())
        .map_err(|source| Error::unavailable("a password could not be hashed", source))
}

fn argon2id(params: &Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Params {
        Params::new(8, 1, 1, None).unwrap()
    }

    async fn verify(stored: Option<&str>, password: &str, renew: bool) -> Verified {
        let hasher = Hasher::new(cheap(), 1, 0).unwrap();
        let turn = hasher.turn().await.unwrap();
        turn.verify(stored.map(str::to_owned), Secret::new(password), renew)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn only_the_password_that_was_set_is_right() {
        for password in [
            "p",
            "\0",
            "p\u{e4}ss",
            "pa\u{308}ss",
            " p ",
            &"x".repeat(MAX_BYTES),
        ] {
            let stored = hash(&cheap(), &Secret::new(password)).unwrap();
            assert_eq!(verify(Some(&stored), password, true).await, Verified::Right);
            assert_eq!(
                verify(Some(&stored), &format!("{password}x"), true).await,
                Verified::Wrong
            );
        }
    }

    #[test]
    fn an_empty_and_an_overlong_password_cannot_be_set() {
        for password in [String::new(), "x".repeat(MAX_BYTES + 1)] {
            assert_eq!(
                hash(&cheap(), &Secret::new(password)).unwrap_err().kind,
                Kind::Invalid
            );
        }
    }

    #[test]
    fn a_new_password_is_neither_short_nor_the_users_name() {
        let why = |password: &str| unfit(&Secret::new(password), "longenough");
        assert_eq!(why("right horse"), None);
        assert_eq!(why("pässwörd"), None);
        for wrong in [
            "",
            "seven77",
            "LongEnough",
            "replaced\u{fffd}",
            &"x".repeat(1025),
        ] {
            assert!(why(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn two_hashes_of_one_password_differ() {
        let password = Secret::new("p");
        assert_ne!(
            hash(&cheap(), &password).unwrap(),
            hash(&cheap(), &password).unwrap()
        );
    }

    #[tokio::test]
    async fn an_unknown_user_is_wrong_whatever_the_password() {
        assert_eq!(verify(None, "p", true).await, Verified::Wrong);
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_renewed_and_still_right() {
        let dear = Params::new(16, 2, 1, None).unwrap();
        let stored = hash(&dear, &Secret::new("p")).unwrap();
        let Verified::Renewed(new) = verify(Some(&stored), "p", true).await else {
            panic!("not renewed");
        };
        assert!(new.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{new}");
        assert_eq!(verify(Some(&new), "p", true).await, Verified::Right);
        assert_eq!(verify(Some(&stored), "p", false).await, Verified::Right);
        assert_eq!(verify(Some(&stored), "q", true).await, Verified::Wrong);
    }

    #[tokio::test]
    async fn hashes_of_any_cost_are_checked_in_the_same_memory() {
        let hasher = Hasher::new(cheap(), 1, 0).unwrap();
        for memory_kib in [64, 8, 32, 8] {
            let cost = Params::new(memory_kib, 2, 1, None).unwrap();
            let stored = hash(&cost, &Secret::new("p")).unwrap();
            for (password, verified) in [("p", Verified::Right), ("q", Verified::Wrong)] {
                let turn = hasher.turn().await.unwrap();
                let found = turn
                    .verify(Some(stored.clone()), Secret::new(password), false)
                    .await;
                assert_eq!(found.unwrap(), verified);
            }
            assert_eq!(hasher.idle.0.lock().unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_stored_hash_that_is_none_is_an_error_and_never_right() {
        let hasher = Hasher::new(cheap(), 1, 0).unwrap();
        let good = hash(&cheap(), &Secret::new("p")).unwrap();
        let (without_output, _) = good.rsplit_once('$').unwrap();
        let other = good.replacen("argon2id", "argon2i", 1);
        let old = good.replacen("v=19", "v=16", 1);
        for stored in ["", "p", "$", without_output, &other, &old] {
            let turn = hasher.turn().await.unwrap();
            let found = turn
                .verify(Some(stored.to_owned()), Secret::new("p"), true)
                .await;
            assert!(found.is_err(), "{stored}: {found:?}");
        }
    }

    #[test]
    fn the_hash_of_unknown_users_looks_and_costs_like_any_other() {
        let hasher = Hasher::new(cheap(), 1, 0).unwrap();
        let real = hash(&cheap(), &Secret::new("p")).unwrap();
        assert_eq!(hasher.dummy.len(), real.len());
        assert_eq!(
            hasher.dummy.rsplitn(3, '$').nth(2),
            real.rsplitn(3, '$').nth(2)
        );
        assert!(
            compare(&hasher.dummy, &Secret::new("p"), &mut Vec::new())
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn whoever_finds_no_place_to_wait_is_told_so_at_once() {
        let hasher = Hasher::new(cheap(), 1, 0).unwrap();
        let turn = hasher.turn().await.unwrap();
        assert_eq!(hasher.turn().await.unwrap_err(), Busy);
        turn.verify(None, Secret::new("p"), false).await.unwrap();
        assert!(hasher.turn().await.is_ok());
    }
}
