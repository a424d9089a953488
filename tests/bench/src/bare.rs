//! The bare calls that the product cannot do without, measured in the same
//! run and with the same client.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::http;
use crate::load::{self, Latencies, Run, Until};
use crate::process;

const PAGE: [u8; 4096] = [0x5a; 4096];

/// Append 4 KiB to a file in `dir` and wait until they are on disk, again and
/// again.
///
/// Errors: the file cannot be written.
pub(crate) fn fdatasync(dir: &Path, count: usize, most: Duration) -> anyhow::Result<Latencies> {
    let mut file: File = tempfile::tempfile_in(dir)?;
    let began = Instant::now();
    let mut took = Vec::with_capacity(count);
    while took.len() < count && began.elapsed() < most {
        let start = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        took.push(start.elapsed());
    }
    Ok(Latencies::new(took))
}

/// An HTTP server that does nothing: it answers `GET /N` and `POST /N` with N
/// bytes. As the broker, it is hyper. Dropped, it stops.
///
/// It is kept to the last core, and who asks it to the first: left alone, the
/// kernel puts both ends on one core or on two, and an answer takes 0.01 ms or
/// six times that, as it happens.
#[derive(Debug)]
pub(crate) struct Echo {
    runtime: Option<Runtime>,
    address: SocketAddr,
}

impl Echo {
    /// Start it on a free port of the loopback.
    ///
    /// Errors: there is none.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(|| {
                let last = Pinned::cores().pop();
                // For as long as the thread lives.
                std::mem::forget(last.and_then(Pinned::to));
            })
            .build()?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)),
                );
            }
            #[allow(unreachable_code, reason = "names the type of the error")]
            std::io::Result::Ok(())
        });
        Ok(Self {
            runtime: Some(runtime),
            address,
        })
    }

    /// Ask for `bytes` bytes, over `connections` connections.
    ///
    /// Errors: as [`load::ask`].
    pub(crate) async fn ask(
        &self,
        method: &str,
        bytes: usize,
        connections: usize,
        until: Until,
    ) -> anyhow::Result<Run> {
        // As long as the token of a real request.
        let token = "x".repeat(400);
        let request = http::request(method, &format!("/{bytes}"), Some(&token));
        let _apart = Pinned::cores().first().copied().and_then(Pinned::to);
        load::ask(self.address, vec![request], connections, until).await
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The calling thread, kept to one core until this is dropped.
#[derive(Debug)]
struct Pinned(CpuSet);

impl Pinned {
    /// The cores that this thread may use.
    fn cores() -> Vec<usize> {
        let own = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let cores = 0..CpuSet::count();
        cores
            .filter(|core| own.is_set(*core).unwrap_or(false))
            .collect()
    }

    /// Keep the thread to `core`; `None` where the kernel does not.
    fn to(core: usize) -> Option<Self> {
        let before = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let mut one = CpuSet::new();
        one.set(core).ok()?;
        sched_setaffinity(Pid::from_raw(0), &one).ok()?;
        Some(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

async fn echo(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let asked = request.uri().path().trim_start_matches('/').parse();
    let bytes: usize = asked.unwrap_or(0).min(1 << 20);
    Ok(Response::new(Full::new(Bytes::from(vec![b'x'; bytes]))))
}

/// Start `/bin/true` and wait for its end, on `threads` threads at a time.
///
/// Errors: it cannot be started.
pub(crate) fn spawn(count: usize, threads: usize) -> anyhow::Result<Run> {
    concurrently(threads, || {
        let mut took = Vec::with_capacity(count);
        for _ in 0..count / threads.max(1) {
            let start = Instant::now();
            process::command(Path::new("/bin/true")).status()?;
            took.push(start.elapsed());
        }
        Ok(took)
    })
}

/// Hash a password at the cost that `stored` names, on `threads` threads at a
/// time.
///
/// Errors: `stored` is no argon2id hash in PHC form.
pub(crate) fn argon2id(stored: &str, count: usize, threads: usize) -> anyhow::Result<Run> {
    let cost = cost(stored).context("the stored password hash cannot be read")?;
    concurrently(threads, || {
        let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.clone());
        let mut memory = vec![Block::default(); cost.block_count()];
        let mut took = Vec::with_capacity(count);
        for _ in 0..count / threads.max(1) {
            let mut output = [0; 32];
            let start = Instant::now();
            hash.hash_password_into_with_memory(
                b"a password of some length",
                b"sixteen bytes of",
                &mut output,
                &mut memory,
            )
            .map_err(|error| anyhow::anyhow!("argon2id: {error}"))?;
            took.push(start.elapsed());
        }
        Ok(took)
    })
}

/// Memory (KiB), passes and lanes of a hash in PHC form.
fn cost(stored: &str) -> Option<Params> {
    let mut fields = stored
        .strip_prefix("$argon2id$v=19$")?
        .split('$')
        .next()?
        .split(',');
    let mut number = |name: &str| -> Option<u32> {
        fields
            .next()?
            .strip_prefix(name)?
            .strip_prefix('=')?
            .parse()
            .ok()
    };
    Params::new(number("m")?, number("t")?, number("p")?, Some(32)).ok()
}

fn concurrently(
    threads: usize,
    work: impl Fn() -> anyhow::Result<Vec<Duration>> + Sync,
) -> anyhow::Result<Run> {
    let began = Instant::now();
    let done: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(&work)).collect();
        started.into_iter().map(|thread| thread.join()).collect()
    });
    let took = began.elapsed();
    let mut each = Vec::new();
    for one in done {
        each.extend(one.map_err(|_| anyhow::anyhow!("a thread panicked"))??);
    }
    Ok(Run {
        latencies: Latencies::new(each),
        took,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_read_from_a_stored_hash() {
        let cost = cost("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA").unwrap();
        assert_eq!((cost.m_cost(), cost.t_cost(), cost.p_cost()), (19456, 2, 1));
        assert!(super::cost("$2b$12$abc").is_none());
    }
}
