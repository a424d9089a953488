//! Where a job stands.

/// A job's state. The last four are final: nothing leaves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Waiting for its turn.
    Queued,
    /// Claimed for an engine; its first process may or may not exist yet.
    Starting,
    /// Its processes run.
    Running,
    /// Ended with exit status 0.
    Completed,
    /// Ended with another status, or could not run.
    Failed,
    /// Ended because its time limit passed.
    TimedOut,
    /// Ended because somebody cancelled it.
    Cancelled,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// Whether the job has ended.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Starting | Self::Running => false,
            Self::Completed | Self::Failed | Self::TimedOut | Self::Cancelled => true,
        }
    }

    /// The word the store uses.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timedout",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The API a job came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The Flux RESTful API.
    Flux,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 1] = [Self::Flux];

    /// The word the store uses.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flux => "flux",
        }
    }
}
