//! Adding, changing and listing users.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use warrant_migrations::{Db, Tx};

use super::{password, say};
use crate::accounts::Accounts;
use crate::audit::{self, Event, Sort};
use crate::clock;
use crate::config::{Backend, Mode, Settings};
use crate::error::{Error, Kind, Result};
use crate::passwords;
use crate::sessions::{end_account, until};
use crate::source::Source;
use crate::store::users::{self, By};
use crate::user_name::UserName;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user. The password is read from standard input.
    Add {
        /// The name; in multi-user mode, that of an account of this machine.
        name: String,
        /// Make the user an administrator.
        #[arg(long)]
        superuser: bool,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// List the users.
    List {
        /// As JSON; times in microseconds since the Unix epoch.
        #[arg(long)]
        json: bool,
    },
    /// Set a new password, and end what the user has: sessions, tokens, jobs
    /// that have not started. It is read from standard input.
    Passwd {
        /// The user.
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Let a user log in no longer, and end what the user has.
    Disable {
        /// The user.
        name: String,
    },
    /// Let a user log in again.
    Enable {
        /// The user.
        name: String,
    },
    /// Remove a user, and end what the user has.
    Delete {
        /// The user.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PasswordFrom {
    /// Read the password from this file instead.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl UserCommand {
    /// Carry out the command.
    ///
    /// Errors: the user does not exist, or does already; the name or the
    /// password is not allowed; the database did not answer.
    pub(crate) async fn run(self, settings: &Settings, db: &Db) -> Result<()> {
        let new_hash = |name: &UserName, from: &PasswordFrom| {
            let password = password::read(from.password_file.as_deref())?;
            if let Some(why) = passwords::unfit(&password, name.as_str()) {
                return Err(Error::invalid(why));
            }
            passwords::hash(&settings.hash_params, &password)
        };
        let now_us = clock::now_us();
        match self {
            Self::List { json } => return list(db, json).await,
            Self::Add {
                name,
                superuser,
                password,
            } => {
                let name = UserName::parse(&name)?;
                let hash = new_hash(&name, &password)?;
                warn_of_account(settings, &name).await;
                let mut tx = db.begin().await?;
                if !users::insert(&mut tx, &name, &hash, superuser, now_us).await? {
                    let message = format!("there is a user {name} already");
                    return Err(Error::new(Kind::Conflict, message));
                }
                let action = if superuser {
                    "user-add-superuser"
                } else {
                    "user-add"
                };
                record(&mut tx, action, &name).await?;
                tx.commit().await?;
            }
            Self::Passwd { name, password } => {
                let name = UserName::parse(&name)?;
                let hash = new_hash(&name, &password)?;
                let mut tx = db.begin().await?;
                found(
                    &name,
                    users::set_password(&mut tx, &name, &hash, now_us).await?,
                )?;
                end(tx, &name, "password-changed", "user-passwd").await?;
            }
            Self::Disable { name } => {
                let name = UserName::parse(&name)?;
                let mut tx = db.begin().await?;
                let known = users::set_disabled(&mut tx, &name, true).await?;
                // Others may prove users who have no row yet.
                let proven = proven_elsewhere(settings).filter(|_| !known);
                let marked = match proven {
                    Some(by) => {
                        users::insert_proven(&mut tx, &name, by, None, true, now_us).await?
                    }
                    None => false,
                };
                found(&name, known || marked)?;
                end(tx, &name, "user-disabled", "user-disable").await?;
            }
            Self::Enable { name } => {
                let name = UserName::parse(&name)?;
                let mut tx = db.begin().await?;
                found(&name, users::set_disabled(&mut tx, &name, false).await?)?;
                record(&mut tx, "user-enable", &name).await?;
                tx.commit().await?;
            }
            Self::Delete { name } => {
                let name = UserName::parse(&name)?;
                let mut tx = db.begin().await?;
                found(&name, users::delete(&mut tx, &name).await?)?;
                end(tx, &name, "user-deleted", "user-delete").await?;
            }
        }
        Ok(())
    }
}

/// Say so where the user could not log in, having no account to be used.
async fn warn_of_account(settings: &Settings, name: &UserName) {
    let config = &settings.config;
    if config.mode == Mode::SingleUser {
        return;
    }
    let accounts = Accounts::new(config.accounts.min_uid..=config.accounts.max_uid);
    let why = match accounts.find(name).await {
        Ok(Ok(_)) => return,
        Ok(Err(none)) => none.text().to_owned(),
        Err(error) => error.to_string(),
    };
    // Nobody can be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "warning: {name} cannot log in: {why}");
}

/// Who proves users that are not listed here, if anybody does.
fn proven_elsewhere(settings: &Settings) -> Option<By> {
    let backends = &settings.backends;
    if backends.has(Backend::Pam) {
        return Some(By::Pam);
    }
    backends.has(Backend::Oidc).then_some(By::Oidc)
}

/// End what the user has, record what was done and commit; returns when whoever
/// logs in is not taken for who was there before.
async fn end(mut tx: Tx, name: &UserName, reason: &str, action: &'static str) -> Result<()> {
    let before_s = end_account(&mut tx, name.as_str(), reason).await?;
    record(&mut tx, action, name).await?;
    tx.commit().await?;
    until(before_s).await;
    Ok(())
}

/// Record who did what to the user, together with what was done.
async fn record(tx: &mut Tx, action: &'static str, name: &UserName) -> Result<()> {
    let mut event = Event::new(Sort::Admin, Source::of_operator());
    event.action = Some(action);
    event.subject = Some(name.as_str().to_owned());
    audit::act(tx, event).await
}

fn found(name: &UserName, found: bool) -> Result<()> {
    if found {
        return Ok(());
    }
    Err(Error::new(
        Kind::NotFound,
        format!("there is no user {name}"),
    ))
}

async fn list(db: &Db, as_json: bool) -> Result<()> {
    let users = users::list(&mut db.read().await?).await?;
    if as_json {
        let rows: Vec<_> = users
            .iter()
            .map(|user| {
                json!({
                    "name": user.name,
                    "superuser": user.superuser,
                    "disabled": user.disabled,
                    "backend": user.by.name(),
                    "created_us": user.created_us,
                    "password_changed_us": user.password_changed_us,
                })
            })
            .collect();
        return say(&json!(rows).to_string());
    }
    for user in users {
        let role = if user.superuser {
            "administrator"
        } else {
            "user"
        };
        let state = if user.disabled { "disabled" } else { "enabled" };
        let by = match user.by {
            By::Database => "",
            By::Pam => " (pam)",
            By::Oidc => " (oidc)",
        };
        say(&format!("{:<32} {role:<13} {state}{by}", user.name))?;
    }
    Ok(())
}
