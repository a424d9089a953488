//! `warrant-shim-load`: drives a root-owned shim for `warrant-bench`, under the
//! only account that the shim lets in. It also measures, as root, the bare
//! calls that the shim cannot do without: it is as small as the shim, and a
//! process that is forked costs as much as there is of its parent.
//!
//! It prints one line of JSON. Times are in microseconds.

#![forbid(unsafe_code)]

mod bare;
mod clock;
mod load;
mod shim;
mod signer;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Drives a root-owned shim for `warrant-bench`, which starts it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start a program that writes down when it starts, one after another.
    Starts(At),
    /// Admit, start and see the end of jobs, several at a time.
    Rate {
        #[command(flatten)]
        at: At,
        /// Jobs that are under way at a time.
        #[arg(long)]
        window: u64,
    },
    /// Start jobs that end together, and wait until they have.
    Hold(At),
    /// Start a program as a user without the shim, or through another program.
    Bare {
        /// The user id to change to, which is the group's as well.
        #[arg(long)]
        uid: Option<u32>,
        /// How often.
        #[arg(long)]
        count: u64,
        /// A program that writes down when it starts, and how to get there.
        command: Vec<PathBuf>,
    },
    /// Look up and judge an account, as a keeper does.
    LookUp {
        /// The account's name.
        #[arg(long)]
        user: String,
        /// Its user id.
        #[arg(long)]
        uid: u32,
    },
}

/// Which shim, and whose jobs.
#[derive(Debug, Args)]
struct At {
    /// The shim's socket.
    #[arg(long)]
    socket: PathBuf,
    /// The shim's spool.
    #[arg(long)]
    spool: PathBuf,
    /// A file with the 32 bytes of a private key that the shim trusts.
    #[arg(long)]
    key: PathBuf,
    /// Who runs the jobs.
    #[arg(long)]
    user: String,
    /// That account's user id.
    #[arg(long)]
    uid: u32,
    /// The number of the first job.
    #[arg(long)]
    first: u64,
    /// How many jobs.
    #[arg(long)]
    count: u64,
    /// What they run.
    command: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let found = match Arguments::parse().what {
        What::Starts(at) => load::starts(&at)?,
        What::Rate { at, window } => load::rate(&at, window)?,
        What::Hold(at) => load::hold(&at)?,
        What::Bare {
            uid,
            count,
            command,
        } => bare::starts(uid, count, &command)?,
        What::LookUp { user, uid } => bare::look_up(user, uid)?,
    };
    println!("{found}");
    Ok(())
}
