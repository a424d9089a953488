//! The environment of a job, put together from what four parties say.
//!
//! The input is a row of choices: mostly among names that matter.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use nix::unistd::{Gid, Pid, Uid};
use warrant_shim::account::Account;
use warrant_shim::keeper::Order;
use warrant_shim::policy::{Policy, parse};
use warrant_shim::runner::{Crew, User};
use warrant_wire::{Launch, Limits, Placement, RunId, Stamp};

use self::builder::Entry;
use crate::Target;

/// The runner's own source: nothing else may call it.
#[path = "../../../src/runner/environment.rs"]
mod builder;

pub(crate) const TARGET: Target = Target {
    name: "environment",
    run,
    seeds,
    words: NAMES,
};

const NAMES: &[&str] = &[
    "FLUX_JOB_ID",
    "FLUX_JOB_SIZE",
    "FLUX_JOB_NNODES",
    "FLUX_TASK_RANK",
    "FLUX_TASK_LOCAL_ID",
    "WARRANT_JOB_ID",
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "LD_PRELOAD",
    "KRB5CCNAME",
    "XDG_RUNTIME_DIR",
    "LISTEN_FDS",
    "NOTIFY_SOCKET",
    "SUDO_",
    "flux_job_id",
    "FLUX_JOB_ID ",
];

static NULL: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").unwrap());

fn run(input: &[u8]) {
    // An input that is too short makes fewer entries.
    let _ = check(&mut Unstructured::new(input));
}

fn check(choices: &mut Unstructured<'_>) -> Result<()> {
    let given = launch_entries(choices)?;
    let session = entries(choices)?;
    let c_string = |choices: &mut Unstructured<'_>| Ok(CString::new(bytes(choices)?).unwrap());
    let account = Account {
        name: c_string(choices)?,
        uid: Uid::from_raw(1000),
        gid: Gid::from_raw(1000),
        groups: Vec::new(),
        home: OsString::from_vec(bytes(choices)?).into(),
        shell: OsString::from_vec(bytes(choices)?).into(),
    };
    let policy = policy(choices)?;
    let placement = Placement {
        cores: Vec::new(),
        gpus: choices.arbitrary()?,
    };
    let run = RunId {
        job: choices.arbitrary()?,
        task: choices.arbitrary()?,
        attempt: choices.arbitrary()?,
    };
    let rank = choices.arbitrary()?;
    let order = Order {
        run,
        placement,
        launch: Vec::new(),
        identity: None,
        stamp: Stamp {
            uid: 0,
            job_sha256: Stamp::UNKNOWN_JOB,
        },
    };
    let crew = Crew {
        order: &order,
        count: choices.arbitrary()?,
        keeper: Pid::from_raw(1),
        stdin: NULL.as_fd(),
        failed: NULL.as_fd(),
        open_files: None,
        user: choices.ratio(3, 4)?.then_some(User {
            account: &account,
            policy: &policy,
            session: &session,
            cgroup: None,
        }),
    };
    let built = builder::build(&given, &crew, rank);
    let map: BTreeMap<_, _> = built.iter().cloned().collect();
    assert_eq!(map.len(), built.len(), "a name is there twice");
    for (name, value) in &built {
        assert!(!name.is_empty() && !name.contains(&b'='), "{name:?}");
        assert!(!name.contains(&0) && !value.contains(&0));
    }
    assert_eq!(map, expected(&given, &crew, rank));
    Ok(())
}

/// The same, by laying one layer over the other.
fn expected(given: &[Entry], crew: &Crew<'_>, rank: u16) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut map = BTreeMap::new();
    let mut set = |name: &str, value: &[u8]| drop(map.insert(name.into(), value.to_vec()));
    if let Some(User {
        account,
        policy,
        session,
        ..
    }) = crew.user
    {
        set("USER", account.name.as_bytes());
        set("LOGNAME", account.name.as_bytes());
        set("HOME", account.home.as_os_str().as_encoded_bytes());
        set("SHELL", account.shell.as_os_str().as_encoded_bytes());
        set("PATH", policy.path.as_bytes());
        // Of two of a module's own, the first.
        map.extend(session.iter().rev().filter(is_free).cloned());
        map.extend(given.iter().filter(is_free).cloned());
    } else {
        map.extend(given.iter().cloned());
    }
    let mut set = |name: &str, value: String| drop(map.insert(name.into(), value.into()));
    if crew.user.is_some() {
        set("WARRANT_JOB_ID", crew.order.run.job.to_string());
    }
    set("FLUX_JOB_ID", crew.order.run.job.to_string());
    set("FLUX_JOB_SIZE", crew.count.to_string());
    set("FLUX_JOB_NNODES", "1".into());
    set("FLUX_TASK_RANK", rank.to_string());
    set("FLUX_TASK_LOCAL_ID", rank.to_string());
    if let Some((first, rest)) = crew.order.placement.gpus.split_first() {
        let rest = rest.iter().map(|gpu| format!(",{gpu}"));
        let list: String = std::iter::once(first.to_string()).chain(rest).collect();
        set("CUDA_VISIBLE_DEVICES", list);
    }
    map
}

fn is_free((name, _): &&Entry) -> bool {
    let starts = |word: &&str| name.starts_with(word.as_bytes());
    let whole = ["USER", "LOGNAME", "NOTIFY_SOCKET"].map(str::as_bytes);
    let groups = ["FLUX_", "WARRANT_", "LISTEN_", "SUDO_"];
    !whole.contains(&name.as_slice()) && !groups.iter().any(starts)
}

/// What a launch may hold: as much of it as passes through its codec.
fn launch_entries(choices: &mut Unstructured<'_>) -> Result<Vec<Entry>> {
    let mut launch = Launch {
        limits: Limits {
            processes: 1,
            time_limit_s: 0,
            grace_ms: 0,
            output_cap_bytes: 0,
            memory_bytes: 0,
        },
        argv: vec![b"true".to_vec()],
        env: entries(choices)?,
        workdir: None,
        stdout: None,
        stderr: None,
        default_workdir: None,
    };
    loop {
        match launch.encode() {
            Ok(bytes) => return Ok(Launch::decode(&bytes).unwrap().env),
            Err(_) => drop(launch.env.pop()),
        }
    }
}

/// Entries as PAM has them: C strings with a name.
fn entries(choices: &mut Unstructured<'_>) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for _ in 0..choices.int_in_range(0..=20)? {
        let mut name = match choices.ratio(3, 4)? {
            true => choices.choose(NAMES)?.as_bytes().to_vec(),
            false => bytes(choices)?,
        };
        name.retain(|byte| *byte != b'=');
        if !name.is_empty() {
            entries.push((name, bytes(choices)?));
        }
    }
    Ok(entries)
}

/// Any bytes but NUL.
fn bytes(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let count = choices.int_in_range(0..=24)?;
    let mut bytes = choices.bytes(count)?.to_vec();
    bytes.retain(|byte| *byte != 0);
    Ok(bytes)
}

/// A policy with a search path of its own, if that is one.
fn policy(choices: &mut Unstructured<'_>) -> Result<Policy> {
    let path = String::from_utf8_lossy(&bytes(choices)?).into_owned();
    Ok(parse(format!("path = \"{path}\"").as_bytes()).unwrap_or_default())
}

fn seeds() -> Vec<Vec<u8>> {
    crate::mutation::random_inputs(24, 900)
}
