//! Room for so many connections, and for so many of one source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    all: u32,
    of_one: u32,
    taken: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// A connection's place; dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    taken: Arc<Mutex<HashMap<IpAddr, u32>>>,
    source: IpAddr,
}

impl Places {
    /// Room for `all` connections, `of_one` of them from the same source.
    pub fn new(all: u32, of_one: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(usize::MAX))),
            all,
            of_one,
            taken: Arc::default(),
        }
    }

    /// Wait for room; `None` where there never will be any.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_owned().await.ok()
    }

    /// Room, if there is any now.
    pub fn room_now(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// The room `permit`, for a connection from `source`; `None` where that
    /// source has as much as it may have.
    pub fn take(&self, permit: OwnedSemaphorePermit, source: IpAddr) -> Option<Place> {
        let source = network(source);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(source).or_default();
        if *count >= self.of_one {
            return None;
        }
        *count += 1;
        Some(Place {
            _permit: permit,
            taken: self.taken.clone(),
            source,
        })
    }

    /// Returns once no connection is left.
    pub async fn all_free(&self) {
        let _ = self.free.acquire_many(self.all).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.source);
            }
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

    #[tokio::test]
    async fn t111_one_source_cannot_take_all_places() {
        let places = Places::new(3, 2);
        let (one, other) = ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let same = "2001:db8::ffff".parse().unwrap();
        let take = async |source| places.take(places.room().await.unwrap(), source);
        let first = take(one).await.unwrap();
        let _second = take(same).await.unwrap();
        assert!(take(one).await.is_none());
        let _third = take(other).await.unwrap();
        drop(first);
        assert!(take(same).await.is_some());
    }

    #[tokio::test]
    async fn a_place_that_is_left_is_free_and_forgotten() {
        let places = Places::new(1, 1);
        let source = "192.0.2.1".parse().unwrap();
        drop(places.take(places.room().await.unwrap(), source));
        places.all_free().await;
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
