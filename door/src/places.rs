//! Room for so many connections, and for so many of one source. Where there is
//! none, the connection goes that has been idle for longest.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The longest that an idle connection may take to go.
const LEAVE: Duration = Duration::from_secs(1);

/// Room for connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    all: u32,
    of_one: u32,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<Taken>,
    /// Told whenever a place is left.
    left: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    of: HashMap<IpAddr, u32>,
    /// The connections without a request, in the order in which they began to
    /// wait for one.
    idle: BTreeMap<u64, Resting>,
    next: u64,
    /// How many wait for a place.
    wanted: u32,
}

#[derive(Debug)]
struct Resting {
    /// `None` for a proxy's connection, which is of no single source.
    source: Option<IpAddr>,
    asked: Arc<AtomicBool>,
    waker: Waker,
}

/// A connection's place; dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    share: Option<Share>,
}

/// One of those that a source may have at a time: a connection of its own, or a
/// request that a proxy sends for it. Dropped, it is free again.
#[derive(Debug)]
pub struct Share {
    shared: Arc<Shared>,
    source: IpAddr,
}

/// Where a connection says that it is idle, and is told to go.
#[derive(Debug)]
pub struct Idle {
    shared: Arc<Shared>,
    source: Option<IpAddr>,
    asked: Arc<AtomicBool>,
    resting: Option<u64>,
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Have the connection go that has been idle for longest, of `source`
    /// where one is given. Returns whether there is one.
    fn ask_oldest(&mut self, source: Option<IpAddr>) -> bool {
        let fits = |resting: &Resting| source.is_none() || resting.source == source;
        let oldest = self.idle.iter().find(|(_, resting)| fits(resting));
        let Some(resting) = oldest
            .map(|(number, _)| *number)
            .and_then(|number| self.idle.remove(&number))
        else {
            return false;
        };
        resting.asked.store(true, Ordering::Relaxed);
        resting.waker.wake();
        true
    }
}

/// One who waits for a place, and is counted as long.
struct Wanting<'a>(&'a Shared);

impl<'a> Wanting<'a> {
    fn new(shared: &'a Shared) -> Self {
        let mut taken = shared.taken();
        taken.wanted += 1;
        taken.ask_oldest(None);
        Self(shared)
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.taken().wanted -= 1;
    }
}

impl Places {
    /// Room for `all` connections, `of_one` of them from the same source.
    pub fn new(all: u32, of_one: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(usize::MAX))),
            all,
            of_one,
            shared: Arc::default(),
        }
    }

    /// Wait for room, while idle connections go; `None` where there never will
    /// be any.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(room) = self.free.clone().try_acquire_owned() {
            return Some(room);
        }
        let _wanting = Wanting::new(&self.shared);
        self.free.clone().acquire_owned().await.ok()
    }

    /// Room, if there is any soon.
    pub async fn room_soon(&self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(LEAVE, self.room())
            .await
            .ok()
            .flatten()
    }

    /// How many connections have room.
    pub fn taken(&self) -> u32 {
        let free = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        self.all.saturating_sub(free)
    }

    /// How many wait for room.
    pub fn wanted(&self) -> u32 {
        self.shared.taken().wanted
    }

    /// The room `permit`, for a connection from `source`. Where that source
    /// has as much as it may have, the connection goes that has been idle for
    /// longest; `None` where none is idle.
    pub async fn take(&self, permit: OwnedSemaphorePermit, source: IpAddr) -> Option<Place> {
        let latest = Instant::now() + LEAVE;
        let mut asked = false;
        loop {
            let left = self.shared.left.notified();
            if let Some(share) = self.share(source) {
                return Some(Place {
                    permit: Some(permit),
                    shared: self.shared.clone(),
                    share: Some(share),
                });
            }
            let source = Some(network(source));
            asked = asked || self.shared.taken().ask_oldest(source);
            if !asked {
                return None;
            }
            timeout_at(latest, left).await.ok()?;
        }
    }

    /// The room `permit`, for the connection of a proxy: each request on it is of
    /// another source, which takes a [`Share`].
    pub fn take_for_many(&self, permit: OwnedSemaphorePermit) -> Place {
        Place {
            permit: Some(permit),
            shared: self.shared.clone(),
            share: None,
        }
    }

    /// One more for `source`; `None` where it has as much as it may have.
    pub fn share(&self, source: IpAddr) -> Option<Share> {
        let source = network(source);
        let mut taken = self.shared.taken();
        let count = taken.of.entry(source).or_default();
        if *count >= self.of_one {
            return None;
        }
        *count += 1;
        Some(Share {
            shared: self.shared.clone(),
            source,
        })
    }

    /// Returns once no connection is left.
    pub async fn all_free(&self) {
        let _ = self.free.acquire_many(self.all).await;
    }
}

impl Place {
    /// Where the connection at this place says that it is idle.
    pub fn idle(&self) -> Idle {
        Idle {
            shared: self.shared.clone(),
            source: self.share.as_ref().map(|share| share.source),
            asked: Arc::default(),
            resting: None,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        if let Some(count) = taken.of.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.of.remove(&self.source);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.share.take());
        drop(self.permit.take());
        self.shared.left.notify_waiters();
    }
}

impl Idle {
    /// The connection is idle, and listens with `waker`. Returns whether it has
    /// to go.
    pub(crate) fn rest(&mut self, waker: &Waker) -> bool {
        if self.asked.load(Ordering::Relaxed) {
            return true;
        }
        let mut taken = self.shared.taken();
        if taken.wanted > 0 && self.resting.is_none() {
            return true;
        }
        let number = self.resting.unwrap_or(taken.next);
        let resting = Resting {
            source: self.source,
            asked: self.asked.clone(),
            waker: waker.clone(),
        };
        match taken.idle.get_mut(&number) {
            Some(known) => known.waker.clone_from(waker),
            None if self.resting.is_none() => {
                taken.next += 1;
                taken.idle.insert(number, resting);
            }
            // It was asked to go since.
            None => return true,
        }
        self.resting = Some(number);
        false
    }

    /// The connection is not idle any more. One that was asked to go and could
    /// not has another one asked.
    pub(crate) fn resume(&mut self) {
        let Some(number) = self.resting.take() else {
            return;
        };
        let mut taken = self.shared.taken();
        if taken.idle.remove(&number).is_none() && taken.wanted > 0 {
            taken.ask_oldest(None);
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(number) = self.resting.take() {
            self.shared.taken().idle.remove(&number);
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits,
/// which one customer commonly has all of.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(places: &Places, source: &str) -> Option<Place> {
        let source = source.parse().unwrap();
        places.take(places.room().await.unwrap(), source).await
    }

    #[tokio::test]
    async fn t111_one_source_cannot_take_all_places() {
        let places = Places::new(3, 2);
        let first = take(&places, "2001:db8::1").await.unwrap();
        let _second = take(&places, "2001:db8::ffff").await.unwrap();
        assert!(take(&places, "2001:db8::1").await.is_none());
        let _third = take(&places, "192.0.2.1").await.unwrap();
        drop(first);
        assert!(take(&places, "2001:db8::ffff").await.is_some());
    }

    #[tokio::test]
    async fn a_place_that_is_left_is_free_and_forgotten() {
        let places = Places::new(1, 1);
        drop(take(&places, "192.0.2.1").await);
        places.all_free().await;
        let taken = places.shared.taken();
        assert!(taken.of.is_empty() && taken.idle.is_empty() && taken.wanted == 0);
    }

    /// A place whose connection is idle, and leaves when it is told to.
    async fn idle(places: &Places, source: &str) -> tokio::task::JoinHandle<()> {
        let place = take(places, source).await.unwrap();
        let mut idle = place.idle();
        let (began, begun) = tokio::sync::oneshot::channel();
        let mut began = Some(began);
        let leaving = tokio::spawn(async move {
            std::future::poll_fn(|context| {
                let goes = idle.rest(context.waker());
                if let Some(began) = began.take() {
                    began.send(()).unwrap();
                }
                if goes {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
            drop(place);
        });
        begun.await.unwrap();
        leaving
    }

    #[tokio::test]
    async fn t111_the_oldest_idle_connection_makes_room_for_a_new_one() {
        let places = Places::new(3, 2);
        let (one, other) = ("192.0.2.1", "192.0.2.2");
        let oldest = idle(&places, other).await;
        let mut second = idle(&places, one).await;
        let _third = idle(&places, one).await;
        // There is no place left at all.
        let busy = take(&places, "192.0.2.3").await.unwrap();
        oldest.await.unwrap();
        assert!(!second.is_finished());
        drop(busy);
        // There is none left for this source.
        let _new = take(&places, one).await.unwrap();
        (&mut second).await.unwrap();
        assert_eq!(places.shared.taken().idle.len(), 1);
    }

    #[tokio::test]
    async fn a_connection_that_is_asked_to_go_and_is_busy_again_has_another_asked() {
        let places = Places::new(2, 2);
        let place = take(&places, "192.0.2.1").await.unwrap();
        let mut first = place.idle();
        assert!(!first.rest(Waker::noop()));
        let second = idle(&places, "192.0.2.2").await;
        let (new, ()) = tokio::join!(take(&places, "192.0.2.3"), async {
            first.resume();
            second.await.unwrap();
        });
        assert!(new.is_some());
        assert!(first.rest(Waker::noop()), "it goes as soon as it is quiet");
    }
}
