//! What the machine's administrator allows, whatever a warrant says.

mod file;
mod value;

use std::path::PathBuf;

use warrant_wire::launch::MAX_PROCESSES;
use warrant_wire::{Limits, Refusal, account};

pub use self::file::parse;
use self::value::*;

/// Groups whose members can do what root can, or nearly.
const DENIED_GROUPS: &str =
    "root adm disk shadow sudo wheel kmem docker lxd libvirt warrant warrant-auth warrant-keeper";

/// Makes the policy of a table with a row for each key: its type, its default
/// and how it is read from a file.
macro_rules! policy {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $default:expr, $read:ident($($rule:expr),*);)*) => {
        /// Who a warrant may make a process of, and what such a process may
        /// do. Read from a file that belongs to root; a perfectly signed
        /// warrant is bound by it as well.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Policy {
            $($(#[$doc])* pub $key: $type,)*
        }

        impl Default for Policy {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Policy {
            /// Puts a value of a file into its place.
            ///
            /// Errors: what is allowed there.
            fn set(&mut self, key: &str, value: Value<'_>) -> Result<(), String> {
                match key {
                    $(stringify!($key) => self.$key = value.$read($($rule),*)?,)*
                    _ => return Err("there is no such key".into()),
                }
                Ok(())
            }
        }
    };
}

policy! {
    /// The broker's account: the only one that may speak to the shim.
    broker_user: String = "warrant".into(), text(ACCOUNT);
    /// The account of the processes that stay with running jobs, one for each
    /// of them. It has no other use.
    keeper_user: String = "warrant-keeper".into(), text(ACCOUNT);
    /// The group that may read the output of jobs.
    broker_group: String = "warrant".into(), text(ACCOUNT);
    /// The `iss` that warrants must have.
    issuer: String = "warrant".into(), text(CLAIM);
    /// The `aud` that warrants must have: the name of this shim.
    audience: String = "local".into(), text(CLAIM);
    /// The directory of the public keys, `*.pub`.
    keys: PathBuf = "/etc/warrant/warrant-keys".into(), text(PLACE);
    /// Where the socket is made, unless there is one already.
    socket: PathBuf = "/run/warrant-shim/shim.sock".into(), text(SOCKET);
    /// Where records and output of runs go.
    spool: PathBuf = "/var/spool/warrant".into(), text(PLACE);
    /// Where the journal of used warrants is.
    state: PathBuf = "/var/lib/warrant-shim".into(), text(PLACE);
    /// The smallest user id that may run jobs.
    min_uid: u32 = account::MIN_UID, number(UID);
    /// The largest user id that may run jobs; nobody's and those of systemd's
    /// dynamic users may not in any case.
    max_uid: u32 = account::MAX_UID, number(UID);
    /// Accounts that may not run jobs.
    deny_users: Vec<String> = vec!["nobody".into()], accounts();
    /// Groups whose members may not run jobs, or lose the group.
    deny_groups: Vec<String> = DENIED_GROUPS.split(' ').map(String::from).collect(), accounts();
    /// What becomes of a member of a denied group.
    denied_group: DeniedGroup = DeniedGroup::Refuse, one_of(DENIED);
    /// Whether accounts with a locked password may run jobs.
    locked: bool = true, one_of(VERDICTS);
    /// Whether accounts whose shell lets nobody in may run jobs.
    nologin: bool = false, one_of(VERDICTS);
    /// Whether PAM's account and session phases are run, through the service
    /// file `warrant`.
    pam: bool = true, one_of([("\"on\"", true), ("\"off\"", false)]);
    /// Whether jobs are kept from gaining rights through setuid programs.
    no_new_privs: bool = true, one_of([("true", true), ("false", false)]);
    /// Whether control groups are used.
    cgroup: Cgroup = Cgroup::Auto, one_of(CGROUPS);
    /// The search path of a job whose launch has none.
    path: String = "/usr/local/bin:/usr/bin:/bin".into(), text(SEARCH_PATH);
    /// The file mode creation mask of jobs; `None` leaves them the one that
    /// PAM's modules set.
    umask: Option<u32> = Some(0o077), umask();
    /// Most processes (ranks) of one job.
    max_processes: u32 = 4096, number((1..=MAX_PROCESSES, "a whole number from 1 to 4096"));
    /// Most processes and threads of a job at one time, all together; 0 for
    /// no limit. Kept where there are control groups for it.
    max_pids: u64 = 32_768, number(SIZE);
    /// The longest time limit of a job in seconds, which also holds for jobs
    /// without one; 0 for no limit.
    max_time_s: u64 = 0, number(SIZE);
    /// Most output of a job that is kept, in bytes.
    max_output_bytes: u64 = 16 << 30, number(SIZE);
    /// Most memory of a job in bytes, which also holds for jobs without a
    /// limit; 0 for no limit.
    max_memory_bytes: u64 = 0, number(SIZE);
    /// Most jobs that are admitted and not started yet. Each user may have
    /// half of what the others leave.
    max_admitted: u64 = 200_000, number(SIZE);
    /// Most bytes of their launches, shared in the same way.
    max_admitted_bytes: u64 = 8 << 30, number(SIZE);
}

/// What becomes of a member of a denied group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedGroup {
    /// The job is refused.
    Refuse,
    /// The job runs without the group; refused if it is the primary one.
    Remove,
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
