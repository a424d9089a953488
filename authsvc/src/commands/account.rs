//! Ending what an account has, whoever knows its password.

use clap::Subcommand;
use warrant_migrations::Db;
use warrant_trail::moment;

use super::say;
use crate::audit::{self, Event, Sort};
use crate::error::Result;
use crate::sessions::{end_account_before, until};
use crate::source::Source;
use crate::store::api_keys;
use crate::user_name::UserName;

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// End what the account was given until now: sessions, access tokens, jobs
    /// that have not started; with `--keys` its API keys too. It may log in
    /// again.
    End {
        /// The user.
        name: String,
        /// Only access tokens and jobs from before this moment: 90d (ago), or
        /// a date or time in UTC. Sessions end in any case.
        #[arg(long, value_name = "WHEN", value_parser = moment)]
        before: Option<i64>,
        /// Revoke its API keys.
        #[arg(long)]
        keys: bool,
    },
}

impl AccountCommand {
    /// Carry out the command.
    ///
    /// Errors: the name cannot be one; the database did not answer.
    pub(super) async fn run(self, db: &Db) -> Result<()> {
        let Self::End { name, before, keys } = self;
        let name = UserName::parse(&name)?;
        let mut tx = db.begin().await?;
        let before_s = end_account_before(&mut tx, name.as_str(), "account-ended", before).await?;
        if keys {
            let now_us = crate::clock::now_us();
            api_keys::revoke_all(&mut tx, name.as_str(), now_us).await?;
        }
        let mut event = Event::new(Sort::Admin, Source::of_operator());
        event.action = Some("account-end");
        event.subject = Some(name.as_str().to_owned());
        event.detail = Some(format!("before {before_s}"));
        audit::act(&mut tx, event).await?;
        tx.commit().await?;
        until(before_s).await;
        say(&format!("what {name} was given before {before_s} is ended"))
    }
}
