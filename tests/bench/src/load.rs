//! Load: a number of connections, each asking again once it has its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::http::Connection;

/// How long each of many took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// From single measurements, in any order.
    pub(crate) fn new(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        Self(took)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What half of them took at most.
    pub(crate) fn p50(&self) -> Duration {
        self.per_mille(500)
    }

    /// What 99 of 100 took at most.
    pub(crate) fn p99(&self) -> Duration {
        self.per_mille(990)
    }

    /// What all of them took at most.
    pub(crate) fn most(&self) -> Duration {
        self.per_mille(1000)
    }

    fn per_mille(&self, share: usize) -> Duration {
        let rank = (self.0.len() * share).div_ceil(1000);
        let found = self.0.get(rank.saturating_sub(1));
        found.copied().unwrap_or_default()
    }
}

/// When enough was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    /// Questions in all.
    pub(crate) count: usize,
    /// No question is begun after this long.
    pub(crate) time: Duration,
}

impl Until {
    /// For so long.
    pub(crate) const fn time(time: Duration) -> Self {
        let count = usize::MAX;
        Self { count, time }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// How long each answer took.
    pub(crate) latencies: Latencies,
    /// How long all took.
    pub(crate) took: Duration,
}

impl Run {
    /// Answers per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Ask `requests` in turn, over `connections` connections.
///
/// Errors: any answer but 200.
pub(crate) async fn ask(
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    connections: usize,
    until: Until,
) -> anyhow::Result<Run> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(address).await?);
    }
    let requests = Arc::new(requests);
    let asked = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in open {
        let (requests, asked) = (requests.clone(), asked.clone());
        tasks.spawn(async move {
            let mut took = Vec::with_capacity(4096);
            loop {
                let turn = asked.fetch_add(1, Ordering::Relaxed);
                let sent = Instant::now();
                if turn >= until.count || sent - began >= until.time {
                    return anyhow::Ok(took);
                }
                if let Some(request) = requests.get(turn % requests.len().max(1)) {
                    connection.ask(request).await?;
                }
                took.push(sent.elapsed());
            }
        });
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.extend(done??);
    }
    Ok(Run {
        took: began.elapsed(),
        latencies: Latencies::new(took),
    })
}

/// On a connection for each of `first`, ask it, and then what `next` makes of
/// each answer.
///
/// Errors: any answer but 200, or one that `next` makes nothing of.
pub(crate) async fn chains(
    address: SocketAddr,
    first: Vec<Vec<u8>>,
    next: fn(&[u8]) -> anyhow::Result<Vec<u8>>,
    until: Until,
) -> anyhow::Result<Run> {
    let mut open = Vec::with_capacity(first.len());
    for request in first {
        open.push((Connection::open(address).await?, request));
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut connection, mut request) in open {
        tasks.spawn(async move {
            let mut took = Vec::with_capacity(4096);
            while began.elapsed() < until.time && took.len() < until.count {
                let sent = Instant::now();
                let answer = connection.ask(&request).await?;
                took.push(sent.elapsed());
                request = next(answer.body)?;
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.extend(done??);
    }
    Ok(Run {
        took: began.elapsed(),
        latencies: Latencies::new(took),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measurements_that_were_made() {
        let ms = |n| Duration::from_millis(n);
        let hundred = Latencies::new((1..=100).rev().map(ms).collect());
        assert_eq!((hundred.p50(), hundred.p99()), (ms(50), ms(99)));
        let one = Latencies::new(vec![ms(7)]);
        assert_eq!((one.p50(), one.p99()), (ms(7), ms(7)));
        assert_eq!(Latencies::default().p50(), Duration::ZERO);
    }
}
