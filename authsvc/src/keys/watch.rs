//! Keeps the ring of a running service in step with the key directory.

use std::time::Duration;

use super::{KeyDir, Ring, State};
use crate::clock;

/// How often the directory is looked at; a new key is published as soon.
const EVERY: Duration = Duration::from_secs(2);

/// Look at `dir` for ever: read new keys into `ring`, remove those that have
/// ended. A directory that cannot be read leaves the ring as it is.
pub(crate) async fn watch(dir: KeyDir, ring: Ring) {
    // Not known on the first look: a key may have come since the start.
    let mut seen = None;
    loop {
        let (dir, ring) = (dir.clone(), ring.clone());
        let look = tokio::task::spawn_blocking(move || look(&dir, &ring, seen)).await;
        seen = look.unwrap_or(None);
        tokio::time::sleep(EVERY).await;
    }
}

type Seen = Option<std::time::SystemTime>;

/// One look; returns the directory's time as of before reading it. A time so
/// young that another change might bear it too counts as unknown.
fn look(dir: &KeyDir, ring: &Ring, seen: Seen) -> Seen {
    let changed = dir.changed();
    if changed != seen || changed.is_none() {
        match dir.load() {
            Ok(keys) if keys.is_empty() => {
                tracing::error!("the key directory is empty; the keys in memory stay in use");
            }
            Ok(keys) => ring.replace(keys),
            Err(error) => tracing::error!(%error, "the keys in memory stay in use"),
        }
    }
    let (ended, kept): (Vec<_>, Vec<_>) = ring
        .states(clock::now_s())
        .into_iter()
        .partition(|(_, state)| *state == State::Ended);
    if !ended.is_empty() {
        ring.replace(kept.into_iter().map(|(key, _)| key).collect());
    }
    for (key, _) in ended {
        match dir.remove(&key) {
            Ok(()) => tracing::info!(key.id = key.kid, "an old key was removed"),
            Err(error) => tracing::warn!(%error, "an old key could not be removed"),
        }
    }
    changed.filter(|at| at.elapsed().is_ok_and(|age| age > EVERY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST_S: u64 = 36_000;

    fn kids(ring: &Ring) -> Vec<String> {
        let states = ring.states(clock::now_s()).into_iter();
        states.map(|(key, _)| key.kid).collect()
    }

    #[test]
    fn an_ended_key_is_removed_and_the_others_stay() {
        let place = tempfile::tempdir().unwrap();
        let dir = KeyDir::open("keys.dir", &place.path().join("keys")).unwrap();
        let now_s = clock::now_s();
        let ended = dir.add(now_s - 3 * LONGEST_S).unwrap();
        let old = dir.add(now_s - 2 * LONGEST_S).unwrap();
        let signing = dir.add(now_s - LONGEST_S).unwrap();
        let ring = Ring::new(Vec::new(), LONGEST_S);
        look(&dir, &ring, None);
        assert_eq!(kids(&ring), [old.kid, signing.kid]);
        assert!(dir.load().unwrap().iter().all(|key| key.kid != ended.kid));
    }

    #[test]
    fn a_directory_that_cannot_be_read_leaves_the_keys_in_use() {
        let place = tempfile::tempdir().unwrap();
        let dir = KeyDir::open("keys.dir", &place.path().join("keys")).unwrap();
        let key = dir.add(1).unwrap();
        let ring = Ring::new(dir.load().unwrap(), LONGEST_S);
        std::fs::write(place.path().join("keys/notes.txt"), "").unwrap();
        look(&dir, &ring, None);
        assert_eq!(kids(&ring), std::slice::from_ref(&key.kid));
        std::fs::remove_file(place.path().join("keys/notes.txt")).unwrap();
        dir.remove(&key).unwrap();
        look(&dir, &ring, None);
        assert_eq!(kids(&ring), [key.kid]);
    }
}
