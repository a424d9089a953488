//! API keys, by their operator: listing and revoking. Users make their own.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;
use warrant_migrations::Db;
use warrant_trail::utc;

use super::say;
use crate::api_keys::{info, no_such_key, session};
use crate::audit::{self, Event, Sort};
use crate::clock;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::store::api_keys;
use crate::user_name::UserName;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// List the keys that count.
    List {
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key, all keys of a user, or all there are.
    Revoke(Which),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub(super) struct Which {
    /// The key's id.
    #[arg(group = "which")]
    id: Option<String>,
    /// All keys of this user.
    #[arg(long, group = "which")]
    user: Option<String>,
    /// All keys of everybody.
    #[arg(long, group = "which")]
    all: bool,
}

impl KeyCommand {
    /// Carry out the command.
    ///
    /// Errors: there is no such key; the database did not answer.
    pub(super) async fn run(self, db: &Db) -> Result<()> {
        match self {
            Self::List { user, json } => list(db, user.as_deref(), json).await,
            Self::Revoke(which) => revoke(db, which).await,
        }
    }
}

async fn list(db: &Db, user: Option<&str>, as_json: bool) -> Result<()> {
    let keys = api_keys::list(&mut db.read().await?, user, clock::now_us()).await?;
    if as_json {
        let keys: Vec<_> = keys.into_iter().map(info).collect();
        return say(&json!(keys).to_string());
    }
    for key in keys {
        let used = match (key.last_used_us, &key.last_used_from) {
            (Some(at), Some(from)) => format!("used {} from {from}", utc(at)),
            (Some(_) | None, _) => "never used".to_owned(),
        };
        say(&format!(
            "{} {:<32} {:<26} by {:<11} until {} {used} {}",
            key.id,
            key.subject,
            key.scopes,
            key.proof,
            utc(key.expires_us),
            key.label,
        ))?;
    }
    Ok(())
}

async fn revoke(db: &Db, which: Which) -> Result<()> {
    let now_us = clock::now_us();
    let mut event = Event::new(Sort::Admin, Source::of_operator());
    event.action = Some("api-key-revoke");
    if let Some(id) = &which.id {
        let key = api_keys::find(&mut db.read().await?, id).await?;
        event.subject = key.map(|key| key.subject);
    }
    let mut tx = db.begin().await?;
    let revoked = match (which.id, which.user) {
        (None, None) if which.all => {
            event.jti = Some(session("*"));
            api_keys::revoke_everybodys(&mut tx, now_us).await?
        }
        (Some(id), None) => {
            if !api_keys::revoke(&mut tx, &id, None, now_us).await? {
                return Err(no_such_key(&id));
            }
            event.jti = Some(session(&id));
            1
        }
        (None, Some(user)) => {
            let name = UserName::parse(&user)?;
            event.jti = Some(session("*"));
            event.subject = Some(name.as_str().to_owned());
            api_keys::revoke_all(&mut tx, name.as_str(), now_us).await?
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(Error::invalid("one of an id, --user and --all is needed"));
        }
    };
    audit::act(&mut tx, event).await?;
    tx.commit().await?;
    say(&format!("{revoked} revoked"))
}
