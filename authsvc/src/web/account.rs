//! One's own account: who one is, where one is signed in, one's API keys.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use warrant_api::keys::KeyInfo;
use warrant_api::scope::Scope;
use warrant_api::token::Role;

use super::local::Local;
use super::visit::{self, Visit, Visitor};
use super::{cookie, in_words, page, password, words};
use crate::api_keys::Asker;
use crate::clock;
use crate::error::{Error, Result};
use crate::http::Service;
use crate::sessions::{Kind, Session};
use crate::store::web_sessions::WebSession;
use crate::store::{codes, devices, sessions, web_sessions};

/// Sessions that are shown.
const SHOWN: i64 = 100;

#[derive(Template)]
#[template(path = "account.html")]
struct Page<'a> {
    csrf: &'a str,
    notice: Option<&'a str>,
    problem: Option<&'a str>,
    user: &'a str,
    uid: Option<u32>,
    role: &'static str,
    sessions: Vec<SessionRow>,
    more: usize,
    keys: Vec<KeyRow>,
    scopes: Vec<ScopeRow>,
    default_days: u32,
    max_days: u32,
    changes_password: bool,
    shortest: usize,
}

struct SessionRow {
    id: String,
    what: String,
    how: &'static str,
    source: String,
    since: String,
    used: String,
    this: bool,
}

struct KeyRow {
    id: String,
    label: String,
    scopes: String,
    made: String,
    ends: String,
    used: String,
}

struct ScopeRow {
    name: &'static str,
    words: &'static str,
}

/// What was done on the page before.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Done {
    #[serde(default)]
    done: String,
}

/// Show the account.
pub(super) async fn show(
    State(service): State<Arc<Service>>,
    visit: Visit,
    query: Result<Query<Done>, QueryRejection>,
) -> Response {
    let Some(visitor) = &visit.visitor else {
        return page::see_other(&Local::account().after("/login"));
    };
    let Query(Done { done }) = query.unwrap_or_default();
    let notice = match done.as_str() {
        "ended" => Some("That session has ended."),
        "others" => Some("All other sessions have ended."),
        "revoked" => Some("The key counts no more."),
        "password" => Some("Your password is changed, and all other sessions have ended."),
        _ => None,
    };
    render(&service, &visit, visitor, StatusCode::OK, notice, None).await
}

/// The page, with something to say.
pub(super) async fn render(
    service: &Service,
    visit: &Visit,
    visitor: &Visitor,
    status: StatusCode,
    notice: Option<&str>,
    problem: Option<&str>,
) -> Response {
    match rows(service, visit, visitor).await {
        Ok((sessions, more, keys, changes_password)) => {
            let session = &visitor.user.session;
            let all = Scope::ALL.into_iter();
            let may = all.filter(|scope| visitor.user.scopes.has(*scope));
            let config = &service.api_keys.config;
            let page = Page {
                csrf: &visitor.csrf,
                notice,
                problem,
                user: &session.subject,
                uid: session.uid,
                role: match session.role {
                    Role::User => "User",
                    Role::Operator => "Operator",
                    Role::Administrator => "Administrator",
                },
                sessions,
                more,
                keys,
                scopes: may
                    .map(|scope| ScopeRow {
                        name: scope.name(),
                        words: words(scope),
                    })
                    .collect(),
                default_days: config.default_days,
                max_days: config.max_days,
                changes_password,
                shortest: password::SHORTEST,
            };
            page::page(status, &page)
        }
        Err(error) => {
            let cause = error.source.as_ref().map(tracing::field::display);
            tracing::error!(%error, cause, "an account could not be shown");
            page::unavailable()
        }
    }
}

type Rows = (Vec<SessionRow>, usize, Vec<KeyRow>, bool);

async fn rows(service: &Service, visit: &Visit, visitor: &Visitor) -> Result<Rows> {
    let own = &visitor.user.session;
    let subject = own.subject.as_str();
    let (found, browsers) = {
        let mut conn = service.login.db.read().await?;
        let now_us = Some(clock::now_us());
        let found = sessions::list(&mut conn, Some(subject), now_us, SHOWN + 1).await?;
        (found, web_sessions::list(&mut conn, subject).await?)
    };
    let most = usize::try_from(SHOWN).unwrap_or(usize::MAX);
    let more = found.len().saturating_sub(most);
    let mut sessions: Vec<_> = found
        .into_iter()
        .rev()
        .take(most)
        .map(|session| session_row(session, &browsers, &own.id))
        .collect();
    sessions.sort_by_key(|session| !session.this);
    let asker = Asker::signed_in(&visitor.user, visit.source.clone());
    // What may be refused there is the keys of others.
    let keys = service.api_keys.list(&asker, None).await;
    let keys = keys.map_or_else(|_| Vec::new(), |list| list.keys);
    let changes = service.web.keeps_password_of(subject).await?;
    let keys = keys.into_iter().map(key_row).collect();
    Ok((sessions, more, keys, changes))
}

fn session_row(session: Session, browsers: &[WebSession], own: &str) -> SessionRow {
    let mut browsers = browsers.iter();
    let browser = browsers.find(|browser| browser.session_id == session.id);
    SessionRow {
        what: match browser {
            Some(browser) => browser.agent.clone(),
            None => format!("Program “{}”", session.client_id),
        },
        how: match session.kind {
            Kind::Web => "signed in",
            Kind::Login => "with your password",
            Kind::Client => "by itself",
            Kind::Code => "let in by you",
            Kind::Device => "a device, let in by you",
            Kind::Key => "with an API key",
        },
        since: page::moment(session.created_us),
        used: page::moment(session.last_used_us),
        this: session.id == own,
        source: session.source,
        id: session.id,
    }
}

fn key_row(key: KeyInfo) -> KeyRow {
    let moment = |s: u64| page::moment(i64::try_from(s).unwrap_or(0).saturating_mul(1_000_000));
    KeyRow {
        scopes: in_words(key.scopes).join("; "),
        made: moment(key.created_s),
        ends: moment(key.expires_s),
        used: match (key.last_used_s, key.last_used_from) {
            (Some(at_s), Some(from)) => format!("last used {} from {from}", moment(at_s)),
            (Some(at_s), None) => format!("last used {}", moment(at_s)),
            (None, _) => "never used".into(),
        },
        id: key.id,
        label: key.label,
    }
}

/// A form that says no more than who sends it.
#[derive(Debug, Deserialize)]
pub(super) struct Plain {
    #[serde(default)]
    csrf: String,
}

/// End the session of this browser.
pub(super) async fn sign_out(
    State(service): State<Arc<Service>>,
    visit: Visit,
    sent: Result<Form<Plain>, FormRejection>,
) -> Result<Response, Response> {
    let sent = visit::form(sent)?;
    let visitor = visit.changes(&service, "sign-out", &sent.csrf)?;
    let id = &visitor.user.session.id;
    end(&service, &visit, visitor, "sign-out", id, false).await?;
    let mut response = page::see_other("/login");
    cookie::forget_session(&mut response);
    Ok(response)
}

/// Which sessions are to end.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    id: String,
    others: Option<String>,
}

/// End a session of one's own, or all but this one.
pub(super) async fn end_sessions(
    State(service): State<Arc<Service>>,
    visit: Visit,
    sent: Result<Form<Which>, FormRejection>,
) -> Result<Response, Response> {
    let sent = visit::form(sent)?;
    let visitor = visit.changes(&service, "end", &sent.csrf)?;
    if sent.others.is_some() {
        let own = &visitor.user.session.id;
        end(&service, &visit, visitor, "end-others", own, true).await?;
        return Ok(page::see_other("/account?done=others"));
    }
    end(&service, &visit, visitor, "end", &sent.id, false).await?;
    Ok(page::see_other("/account?done=ended"))
}

/// End the visitor's session `id`, or all but that one and whatever may become
/// another.
async fn end(
    service: &Service,
    visit: &Visit,
    visitor: &Visitor,
    action: &'static str,
    id: &str,
    others: bool,
) -> Result<(), Response> {
    let ended = async {
        let subject = &visitor.user.session.subject;
        let place = service.audit.place()?;
        let mut tx = service.login.db.begin().await?;
        let now_us = clock::now_us();
        let ended = web_sessions::end_own(&mut tx, subject, id, others, now_us).await?;
        if others {
            codes::delete_of(&mut tx, subject).await?;
            devices::delete_of(&mut tx, subject).await?;
        }
        tx.commit().await?;
        service.login.sessions.counted.forget();
        let mut event = visit.event(action);
        event.detail = Some(match others {
            true => format!("{ended} ended"),
            false => id.chars().take(64).collect(),
        });
        match ended > 0 || others {
            true => place.granted(event),
            false => service.audit.refused(event, "no-session"),
        }
        Ok::<(), Error>(())
    };
    ended.await.map_err(|error| {
        tracing::error!(%error, "sessions could not be ended");
        page::unavailable()
    })
}
