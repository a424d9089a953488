//! Listing and ending sessions.

use clap::{Args, Subcommand};
use serde_json::json;
use warrant_migrations::Db;
use warrant_trail::utc;

use super::say;
use crate::audit::{self, Event, Sort};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::sessions::{Session, end_all_of, end_everything};
use crate::source::Source;
use crate::store::sessions::{self, Of, role_name};

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// List the sessions, the oldest first.
    List {
        /// Only those of this user.
        #[arg(long)]
        user: Option<String>,
        /// Also those that have ended and are not forgotten yet.
        #[arg(long)]
        all: bool,
        /// As JSON; times in microseconds since the Unix epoch.
        #[arg(long)]
        json: bool,
        /// The most sessions: the latest ones.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// End a session, or all of a user: their tokens count no more.
    End(Which),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The session's id.
    #[arg(allow_hyphen_values = true)]
    id: Option<String>,
    /// Every session of this user.
    #[arg(long)]
    user: Option<String>,
    /// Every session of everybody, and what was let have one: codes, devices.
    #[arg(long)]
    all: bool,
}

impl SessionCommand {
    /// Carry out the command.
    ///
    /// Errors: there is no such session that has not ended; the database did
    /// not answer.
    pub(super) async fn run(self, db: &Db) -> Result<()> {
        let now_us = clock::now_us();
        match self {
            Self::List {
                user,
                all,
                json,
                limit,
            } => {
                let alive = (!all).then_some(now_us);
                let mut conn = db.read().await?;
                let found = sessions::list(&mut conn, user.as_deref(), alive, limit.into()).await?;
                if json {
                    let rows: Vec<_> = found.iter().map(as_json).collect();
                    return say(&json!(rows).to_string());
                }
                for session in &found {
                    say(&as_line(session, now_us))?;
                }
            }
            Self::End(Which { id, user, all }) => {
                let whose = match &id {
                    Some(id) => sessions::find(&mut db.read().await?, id).await?,
                    None => None,
                };
                let mut tx = db.begin().await?;
                let ended = match (&id, &user) {
                    (None, None) if all => end_everything(&mut tx, now_us).await?,
                    (Some(id), _) => sessions::end(&mut tx, Of::Id(id), "ended", now_us).await?,
                    (None, user) => {
                        let user = user.as_deref().unwrap_or_default();
                        end_all_of(&mut tx, user, "ended", now_us).await?
                    }
                };
                if ended == 0 && id.is_some() {
                    let message = "there is no such session that has not ended";
                    return Err(Error::new(Kind::NotFound, message));
                }
                let mut event = Event::new(Sort::Admin, Source::of_operator());
                event.action = Some("session-end");
                event.subject = user.or(whose.map(|session| session.subject));
                event.detail = if all { Some("all".into()) } else { id };
                audit::act(&mut tx, event).await?;
                tx.commit().await?;
                say(&format!("{ended} ended"))?;
            }
        }
        Ok(())
    }
}

fn as_json(session: &Session) -> serde_json::Value {
    json!({
        "id": session.id,
        "kind": session.kind.name(),
        "user": session.subject,
        "uid": session.uid,
        "role": role_name(session.role),
        "by_group": session.by_group,
        "scope": session.scopes,
        "client": session.client_id,
        "source": session.source,
        "created_us": session.created_us,
        "last_used_us": session.last_used_us,
        "expires_us": session.expires_us,
        "ended_us": session.ended_us,
        "ended_reason": session.ended_reason,
        "ends_with": session.parent,
    })
}

fn as_line(session: &Session, now_us: i64) -> String {
    let state = match &session.ended_reason {
        Some(reason) => format!("ended ({reason})"),
        None if session.expires_us <= now_us => "expired".to_owned(),
        None => format!("until {}", utc(session.expires_us)),
    };
    format!(
        "{} {} {:<6} {} {} by {} from {} for {:?}, {state}",
        session.id,
        utc(session.created_us),
        session.kind.name(),
        session.subject,
        role_name(session.role),
        session.client_id,
        session.source,
        session.scopes.to_string(),
    )
}
