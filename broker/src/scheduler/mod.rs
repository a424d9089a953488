//! The embedded scheduler: queue → engine → store. One task owns what waits
//! and what runs; it never waits for the store or the engine itself.

mod ahead;
mod begin;
mod held;
mod losses;
mod pick;
mod placement;
mod pool;
mod reconcile;
mod recover;
mod waitlist;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

pub use held::Held;
pub use waitlist::Waiting;

use crate::engine::{Engine, Sighting, Signal};
use crate::error::Result;
use crate::live::Live;
use crate::model::{Capacity, Ending, JobId, RunKey, Stamp, State};
use crate::store::{Start, Store};
use crate::vital;
use ahead::Ahead;
use held::HeldJobs;
use losses::Losses;
use pick::Holder;
use pool::Pool;
use waitlist::Waitlist;

/// What the scheduler is told.
#[derive(Debug)]
enum Order {
    Submitted(Waiting),
    Forget(JobId),
    Cancel(JobId),
    Begun(RunKey, begin::Begun),
    Record(RunKey),
    Returned(JobId, Result<Option<Waiting>>),
    Reload,
    Reloaded(Result<recover::Records>),
    Turn(fn()),
    Drain {
        grace: Duration,
        drained: oneshot::Sender<usize>,
    },
}

/// A handle to the scheduler's task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scheduler {
    orders: mpsc::UnboundedSender<Order>,
    capacity: Capacity,
    held: HeldJobs,
}

/// Who the scheduler works for and with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where jobs are recorded.
    pub store: Store,
    /// What runs them.
    pub engine: Arc<dyn Engine>,
    /// Who is told of their ends.
    pub live: Live,
    /// The name under which this broker claims jobs.
    pub host: String,
    /// This machine, for people.
    pub node: String,
    /// This boot of the machine.
    pub boot: String,
    /// The cores that may be given out.
    pub cores: Vec<u16>,
}

impl Scheduler {
    /// Read the queue and what runs, then start the task.
    ///
    /// Errors: the store is away.
    pub async fn start(parts: Parts, sightings: mpsc::UnboundedReceiver<Sighting>) -> Result<Self> {
        let capacity = parts.engine.capabilities().capacity.unwrap_or(Capacity {
            cores: u32::MAX,
            gpus: u32::MAX,
            memory_bytes: u64::MAX,
        });
        let (orders, inbox) = mpsc::unbounded_channel();
        let records = recover::read(&parts.store, &parts.host).await?;
        let mut desk = Desk {
            pool: Pool::new(capacity, &parts.cores),
            waiting: Waitlist::new(Vec::new(), false),
            running: HashMap::new(),
            ahead: Ahead::default(),
            fresh: HashMap::new(),
            orders: orders.clone(),
            pause: Pause::default(),
            reloading: None,
            reload_again: false,
            stop: None,
            held: HeldJobs::default(),
            losses: Losses::default(),
            parts,
        };
        let held = desk.held.clone();
        desk.take_up(records);
        vital::spawn("scheduler", desk.run(inbox, sightings));
        Ok(Self {
            orders,
            capacity,
            held,
        })
    }

    /// What the machine has in all.
    pub const fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Keep a job that is about to be on record from being started, until it
    /// is known that it may be.
    #[must_use]
    pub fn hold(&self, job: JobId) -> Held {
        self.held.hold(job)
    }

    /// A job was accepted.
    pub fn submitted(&self, job: Waiting) {
        self.tell(Order::Submitted(job));
    }

    /// A waiting job was cancelled.
    pub fn forget(&self, job: JobId) {
        self.tell(Order::Forget(job));
    }

    /// A job that starts or runs is to be ended.
    pub fn cancel(&self, job: JobId) {
        self.tell(Order::Cancel(job));
    }

    /// Start no more jobs; returns once none runs, or after `grace`, with the
    /// number of jobs that still run.
    pub async fn drain(&self, grace: Duration) -> usize {
        let (drained, done) = oneshot::channel();
        self.tell(Order::Drain { grace, drained });
        done.await.unwrap_or(0)
    }

    /// Have `then` called by the scheduler's loop, when it comes round.
    pub fn turn(&self, then: fn()) {
        self.tell(Order::Turn(then));
    }

    fn tell(&self, order: Order) {
        // The task ends with the process; an order after that has no one to reach.
        let _ = self.orders.send(order);
    }
}

/// A run that was begun and is not over.
#[derive(Debug)]
struct Running {
    run: RunKey,
    holder: Holder,
    cancel: bool,
    origin: Origin,
    stamp: Stamp,
    /// When this process chose it to start; none where it was found on record.
    chosen: Option<Instant>,
}

/// How a run came to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Claimed for a place that was free.
    Claimed,
    /// Claimed ahead: its claim names no place.
    Ahead,
    /// Found on record.
    Adopted,
}

/// Waiting longer after each failure that may pass.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    failures: u32,
}

impl Pause {
    fn fail(&mut self) {
        self.failures = (self.failures + 1).min(7);
        let wait = Duration::from_millis(100_u64 << self.failures);
        self.until = Instant::now().checked_add(wait);
    }

    fn over(&mut self) -> bool {
        match self.until {
            Some(until) if Instant::now() < until => false,
            Some(_) | None => {
                self.until = None;
                true
            }
        }
    }
}

struct Stop {
    deadline: Instant,
    drained: oneshot::Sender<usize>,
}

struct Desk {
    parts: Parts,
    pool: Pool,
    waiting: Waitlist,
    running: HashMap<JobId, Running>,
    ahead: Ahead,
    /// Runs that have started and whose start is not recorded yet.
    fresh: HashMap<RunKey, Start>,
    orders: mpsc::UnboundedSender<Order>,
    pause: Pause,
    /// While the store is being read: the jobs that came since, which the
    /// reading may have missed.
    reloading: Option<Vec<Waiting>>,
    /// Whether something changed since that reading began.
    reload_again: bool,
    stop: Option<Stop>,
    held: HeldJobs,
    losses: Losses,
}

impl Desk {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Order>,
        mut sightings: mpsc::UnboundedReceiver<Sighting>,
    ) {
        let doubts = self.orders.clone();
        let store = self.parts.store.clone();
        tokio::spawn(async move {
            loop {
                store.in_doubt().await;
                if doubts.send(Order::Reload).is_err() {
                    return;
                }
            }
        });
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.fill();
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                sighting = sightings.recv() => match sighting {
                    Some(sighting) => self.see(sighting),
                    None => return,
                },
                _ = tick.tick(), if self.must_tick() => {}
            }
            while let Ok(order) = inbox.try_recv() {
                self.obey(order);
            }
            while let Ok(sighting) = sightings.try_recv() {
                self.see(sighting);
            }
            self.fill();
            self.parts.store.metrics().running(self.running.len());
            self.check_stop();
        }
    }

    fn must_tick(&self) -> bool {
        self.pause.until.is_some() || self.stop.is_some() || !self.ahead.is_idle()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Submitted(job) => {
                if let Some(arrived) = &mut self.reloading {
                    arrived.push(job.clone());
                }
                self.waiting.push(job);
            }
            Order::Forget(job) => {
                self.waiting.remove(job);
                self.ahead.take(job);
            }
            Order::Cancel(job) => {
                if let Some(running) = self.running.get_mut(&job) {
                    running.cancel = true;
                    let (run, stamp) = (running.run, running.stamp);
                    self.signal(run, stamp);
                } else if let Some(claimed) = self.ahead.take(job) {
                    // Claimed, and never to be handed over.
                    self.waiting.remove(job);
                    let ending = Ending::unseen(State::Cancelled, "cancel", "");
                    self.ended(claimed.run, ending);
                }
            }
            Order::Begun(run, begun) => self.begun(run, begun),
            Order::Record(run) => self.record_start(run),
            Order::Returned(id, job) => self.returned(id, job),
            Order::Reload => self.reload(),
            Order::Turn(then) => then(),
            Order::Reloaded(Ok(records)) => self.take_up(records),
            Order::Reloaded(Err(error)) => {
                self.reloading = None;
                self.pause.fail();
                tracing::warn!(%error, "the queue could not be read again; trying later");
                let orders = self.orders.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    let _ = orders.send(Order::Reload);
                });
            }
            Order::Drain { grace, drained } => {
                let now = Instant::now();
                let deadline = now.checked_add(grace).unwrap_or(now);
                self.stop = Some(Stop { deadline, drained });
                self.give_back();
            }
        }
    }

    /// Start what may start.
    fn fill(&mut self) {
        if self.stop.is_some() || !self.pause.over() || self.ahead.holds_all() {
            return;
        }
        while let Some(id) = self.choose() {
            let Some(job) = self.waiting.remove(id) else {
                return;
            };
            let Some(placement) = self.pool.take(job.footprint) else {
                return;
            };
            let (run, origin, claimed) = match self.ahead.take(id) {
                Some(claimed) => (claimed.run, Origin::Ahead, Some(claimed.answer)),
                None => (job.next_run(), Origin::Claimed, None),
            };
            let limit = Duration::from_secs(job.time_limit_s);
            let limited = job.time_limit_s > 0;
            let until = limited.then(|| Instant::now().checked_add(limit)).flatten();
            let holder = Holder {
                footprint: job.footprint,
                placement: placement.clone(),
                until,
            };
            self.running.insert(
                id,
                Running {
                    run,
                    holder,
                    cancel: false,
                    origin,
                    stamp: job.stamp,
                    chosen: Some(Instant::now()),
                },
            );
            tokio::spawn(begin::begin(
                self.parts.clone(),
                job,
                run,
                placement,
                claimed,
                self.orders.clone(),
            ));
        }
        self.claim_ahead();
        if self.waiting.wants_more() {
            self.reload();
        }
    }

    fn choose(&self) -> Option<JobId> {
        let holders = self.running.values().map(|running| &running.holder);
        pick::next(self.waiting.iter(), holders, &self.pool, Instant::now())
    }

    fn signal(&self, run: RunKey, stamp: Stamp) {
        let engine = self.parts.engine.clone();
        tokio::spawn(async move {
            if let Err(error) = engine.signal(run, stamp, Signal::Cancel).await {
                tracing::warn!(run = %run, %error, "a run could not be signalled");
            }
        });
    }

    /// Give back what a run held.
    fn release(&mut self, run: RunKey) -> Option<Running> {
        if self
            .running
            .get(&run.job)
            .is_none_or(|running| running.run != run)
        {
            return None;
        }
        let running = self.running.remove(&run.job)?;
        self.pool
            .put(running.holder.footprint, running.holder.placement.clone());
        Some(running)
    }

    fn check_stop(&mut self) {
        let over = |stop: &Stop| self.pool.is_idle() || Instant::now() >= stop.deadline;
        if self.stop.as_ref().is_some_and(over)
            && let Some(stop) = self.stop.take()
        {
            let _ = stop.drained.send(self.running.len());
            // Nothing more may start while the process comes to its end.
            self.pause.until = Instant::now().checked_add(Duration::from_secs(3600));
        }
    }
}
