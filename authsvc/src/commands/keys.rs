//! Rotating and listing the signing keys.

use clap::{Args, Subcommand};

use super::{open_current, say};
use crate::audit::{self, Event, Sort};
use crate::clock;
use crate::config::Settings;
use crate::error::{Error, Kind, Result};
use crate::keys::{Purpose, Ring, State};
use crate::source::Source;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a new key, which the audit trail tells of: published at once,
    /// signing after `keys.activation_s` (for warrants, `warrants.activation_s`).
    Rotate {
        /// Let it sign at once: for when the old one was stolen. What it signs
        /// is refused wherever it is not known yet, for a few seconds.
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        of: Of,
    },
    /// List the keys, what each is doing, and since or from when it signs, in
    /// seconds since the Unix epoch.
    List(Of),
    /// Remove a key at once that signs no longer: what it signed counts no
    /// more. Without this, it is removed when all of that has ended.
    Retire {
        /// The key's id, as `list` shows it.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        #[command(flatten)]
        of: Of,
    },
    /// Print the public keys of warrants, one a line, as the shim reads them:
    /// those whose warrants can be alive, and those that will sign. Makes the
    /// first key.
    Warrant,
}

#[derive(Debug, Args)]
pub(super) struct Of {
    /// The keys of warrants instead of those of access tokens.
    #[arg(long)]
    warrant: bool,
}

impl Of {
    fn purpose(&self) -> Purpose {
        if self.warrant {
            Purpose::Warrants
        } else {
            Purpose::Access
        }
    }
}

impl KeysCommand {
    /// Carry out the command.
    ///
    /// Errors: the key directory cannot be used, or is open to others; a new
    /// key cannot be recorded.
    pub(super) async fn run(self, settings: &Settings) -> Result<()> {
        match self {
            Self::Rotate { now, of } => rotate(of.purpose(), now, settings).await,
            Self::List(of) => list(of.purpose(), settings),
            Self::Retire { kid, of } => retire(of.purpose(), &kid, settings).await,
            Self::Warrant => print_public(settings),
        }
    }
}

async fn rotate(purpose: Purpose, now: bool, settings: &Settings) -> Result<()> {
    let dir = purpose.dir(&settings.config)?;
    let ring = Ring::new(dir.load()?, purpose.longest_s());
    let now_s = clock::now_s();
    for (key, state) in ring.states(now_s) {
        if state == State::Ended {
            dir.remove(&key)?;
        }
    }
    // The first key has no predecessor to sign until it may.
    let wait_s = match ring.signing(now_s) {
        Some(_) if !now => purpose.activation_s(&settings.config),
        Some(_) | None => 0,
    };
    // Of two that begin in the same second, either would sign.
    let taken: Vec<_> = ring
        .states(now_s)
        .iter()
        .map(|(key, _)| key.signs_from_s)
        .collect();
    let free = |wait_s: &u64| !taken.contains(&(now_s + wait_s));
    let wait_s = (wait_s..).find(free).unwrap_or(wait_s);
    let db = open_current(settings).await?;
    let mut tx = db.begin().await?;
    let key = dir.add(now_s + wait_s)?;
    let event = event("key-rotate", purpose, &key.kid);
    let recorded = async {
        audit::act(&mut tx, event).await?;
        Ok(tx.commit().await?)
    };
    let recorded: Result<()> = recorded.await;
    db.close().await;
    if recorded.is_err() {
        // What cannot be recorded is not done.
        dir.remove(&key)?;
    }
    recorded?;
    say(&format!("{} signs in {wait_s} seconds", key.kid))
}

async fn retire(purpose: Purpose, kid: &str, settings: &Settings) -> Result<()> {
    let dir = purpose.dir(&settings.config)?;
    let ring = Ring::new(dir.load()?, purpose.longest_s());
    let states = ring.states(clock::now_s());
    let found = states.iter().find(|(key, _)| key.kid == kid);
    let (key, state) = found.ok_or_else(|| {
        let message = format!("there is no key {kid:?}; see `keys list`");
        Error::new(Kind::NotFound, message)
    })?;
    if *state == State::Signing {
        return Err(Error::new(
            Kind::Conflict,
            "this key signs: rotate first, and wait until the new one does",
        ));
    }
    let db = open_current(settings).await?;
    let mut tx = db.begin().await?;
    audit::act(&mut tx, event("key-retire", purpose, kid)).await?;
    // Recorded and not removed is what a second try puts right; removed and
    // not recorded would stay so.
    tx.commit().await?;
    db.close().await;
    dir.remove(key)?;
    say(&format!("{kid} is removed"))
}

fn event(action: &'static str, purpose: Purpose, kid: &str) -> Event {
    let mut event = Event::new(Sort::Admin, Source::of_operator());
    event.action = Some(action);
    event.detail = Some(format!("{} {kid}", purpose.name()));
    event
}

fn list(purpose: Purpose, settings: &Settings) -> Result<()> {
    let keys = purpose.dir(&settings.config)?.load()?;
    let ring = Ring::new(keys, purpose.longest_s());
    let states = ring.states(clock::now_s()).into_iter();
    for (key, state) in states {
        let state = match state {
            State::Next => "next",
            State::Signing => "signing",
            State::Old => "old",
            State::Ended => "ended",
        };
        say(&format!("{} {state:<7} {}", key.kid, key.signs_from_s))?;
    }
    Ok(())
}

fn print_public(settings: &Settings) -> Result<()> {
    let (_, ring) = Purpose::Warrants.open(&settings.config)?;
    for (key, state) in ring.states(clock::now_s()) {
        match state {
            State::Old | State::Signing | State::Next => {
                say(&format!("{} {}", key.kid, key.public_text()))?;
            }
            State::Ended => {}
        }
    }
    Ok(())
}
