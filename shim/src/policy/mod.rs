//! What the machine's administrator allows, whatever a warrant says.

mod file;

use std::path::PathBuf;

use warrant_wire::{Limits, Refusal};

pub use file::parse;

/// Groups whose members can do what root can, or nearly.
const DENIED_GROUPS: &str =
    "root adm disk shadow sudo wheel kmem docker lxd libvirt warrant warrant-auth";

/// Who a warrant may make a process of, and what such a process may do. Read
/// from a file that belongs to root; a perfectly signed warrant is bound by
/// it as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The broker's account: the only one that may speak to the shim.
    pub broker_user: String,
    /// The group that may read the output of jobs.
    pub broker_group: String,
    /// The `iss` that warrants must have.
    pub issuer: String,
    /// The `aud` that warrants must have: the name of this shim.
    pub audience: String,
    /// The directory of the public keys, `*.pub`.
    pub keys: PathBuf,
    /// Where the socket is made, unless it is inherited.
    pub socket: PathBuf,
    /// Where records and output of runs go.
    pub spool: PathBuf,
    /// Where the journal of used warrants is.
    pub state: PathBuf,
    /// The smallest user id that may run jobs.
    pub min_uid: u32,
    /// The largest user id that may run jobs.
    pub max_uid: u32,
    /// Accounts that may not run jobs.
    pub deny_users: Vec<String>,
    /// Groups whose members may not run jobs, or lose the group.
    pub deny_groups: Vec<String>,
    /// What becomes of a member of a denied group.
    pub denied_group: DeniedGroup,
    /// Whether accounts with a locked password may run jobs.
    pub locked: Verdict,
    /// Whether accounts whose shell lets nobody in may run jobs.
    pub nologin: Verdict,
    /// Whether PAM's account and session phases are run, through the service
    /// file `warrant`.
    pub pam: bool,
    /// Whether jobs are kept from gaining rights through setuid programs.
    pub no_new_privs: bool,
    /// Whether control groups are used.
    pub cgroup: Cgroup,
    /// The search path of a job whose launch has none.
    pub path: String,
    /// The file mode creation mask of jobs.
    pub umask: u32,
    /// Most processes (ranks) of one job.
    pub max_processes: u32,
    /// Most processes and threads of a job at one time, all together; 0 for
    /// no limit. Kept where there are control groups for it.
    pub max_pids: u64,
    /// The longest time limit of a job in seconds, which also holds for jobs
    /// without one; 0 for no limit.
    pub max_time_s: u64,
    /// Most output of a job that is kept, in bytes.
    pub max_output_bytes: u64,
    /// Most memory of a job in bytes, which also holds for jobs without a
    /// limit; 0 for no limit.
    pub max_memory_bytes: u64,
    /// Most jobs that are admitted and not started yet.
    pub max_admitted: u64,
}

/// What becomes of a member of a denied group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedGroup {
    /// The job is refused.
    Refuse,
    /// The job runs without the group; refused if it is the primary one.
    Remove,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No.
    Deny,
}

/// Whether control groups are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroup {
    /// As far as the machine has them.
    Auto,
    /// The shim does not start without them.
    Require,
    /// No: processes are tracked by descent alone.
    Off,
}

impl Policy {
    /// What a launch with these limits gets: its own, and where it has none,
    /// the policy's.
    ///
    /// Errors: [`Refusal::Limits`] if it asks for more than is allowed.
    pub fn bound(&self, limits: Limits) -> Result<Limits, Refusal> {
        if limits.processes > self.max_processes || limits.output_cap_bytes > self.max_output_bytes
        {
            return Err(Refusal::Limits);
        }
        Ok(Limits {
            time_limit_s: within(limits.time_limit_s, self.max_time_s)?,
            memory_bytes: within(limits.memory_bytes, self.max_memory_bytes)?,
            ..limits
        })
    }
}

/// The limit to keep, where 0 stands for none on either side.
fn within(asked: u64, most: u64) -> Result<u64, Refusal> {
    match (asked, most) {
        (asked, 0) => Ok(asked),
        (0, most) => Ok(most),
        (asked, most) if asked > most => Err(Refusal::Limits),
        (asked, _) => Ok(asked),
    }
}

impl Default for Policy {
    fn default() -> Self {
        let words = |words: &str| words.split_whitespace().map(str::to_owned).collect();
        Self {
            broker_user: "warrant".into(),
            broker_group: "warrant".into(),
            issuer: "warrant".into(),
            audience: "local".into(),
            keys: "/etc/warrant/warrant-keys".into(),
            socket: "/run/warrant-shim/shim.sock".into(),
            spool: "/var/spool/warrant".into(),
            state: "/var/lib/warrant-shim".into(),
            min_uid: 1000,
            max_uid: 60_000,
            deny_users: words("nobody"),
            deny_groups: words(DENIED_GROUPS),
            denied_group: DeniedGroup::Refuse,
            locked: Verdict::Allow,
            nologin: Verdict::Deny,
            pam: true,
            no_new_privs: true,
            cgroup: Cgroup::Auto,
            path: "/usr/local/bin:/usr/bin:/bin".into(),
            umask: 0o077,
            max_processes: 4096,
            max_pids: 32_768,
            max_time_s: 0,
            max_output_bytes: 16 << 30,
            max_memory_bytes: 0,
            max_admitted: 100_000,
        }
    }
}
