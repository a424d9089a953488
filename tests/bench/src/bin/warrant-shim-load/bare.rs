//! The bare calls that the shim cannot do without.

use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use warrant_shim::account;
use warrant_shim::identity::Identity;
use warrant_shim::policy::Policy;

use crate::clock::{self, STAMP_BYTES, us};

/// Start a program that writes down when it starts, and wait for its end:
/// until its first instruction (`first`) and until it is over (`over`).
///
/// With `uid`, by fork(2), setgroups(2), setgid(2), setuid(2), execve(2) and
/// wait4(2): that is what the standard library does where it is to change the
/// user. Without, `command` sees to that.
///
/// Errors: it cannot be started, fails, or writes no time.
#[allow(
    clippy::disallowed_methods,
    reason = "starting a program is what is measured"
)]
pub(crate) fn starts(uid: Option<u32>, count: u64, command: &[PathBuf]) -> anyhow::Result<Value> {
    let (program, words) = command.split_first().context("there is no program")?;
    let mut output = tempfile::tempfile()?;
    let (mut first, mut over) = (Vec::new(), Vec::new());
    for _ in 0..count {
        output.set_len(0)?;
        output.rewind()?;
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone()?);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let asked = clock::monotonic()?;
        let status = command.status().context("it cannot be started")?;
        let ended = clock::monotonic()?;
        ensure!(status.success(), "{}: {status}", program.display());
        let mut written = Vec::with_capacity(STAMP_BYTES);
        output.rewind()?;
        output.read_to_end(&mut written)?;
        let stamp = clock::stamp(&written).context("it wrote no time")?;
        first.push(us(asked, stamp));
        over.push(us(asked, ended));
    }
    Ok(json!({"first": first, "over": over}))
}

/// Look up an account as a keeper does, under the shim's defaults. Once for
/// each process: what the account database loads for it stays loaded.
///
/// Errors: it may not run jobs.
pub(crate) fn look_up(name: String, uid: u32) -> anyhow::Result<Value> {
    let (identity, policy) = (Identity { name, uid }, Policy::default());
    let asked = clock::monotonic()?;
    let account = account::resolve(&identity, &policy, None);
    let answered = clock::monotonic()?;
    account.map_err(|refusal| anyhow::anyhow!(refusal.text()))?;
    Ok(json!({"us": us(asked, answered)}))
}
