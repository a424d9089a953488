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
use super::{cookie, in_words, page, proof, words};
use crate::api_keys::Asker;
use crate::clock;
use crate::error::{Error, Result};
use crate::http::Service;
use crate::passwords;
use crate::sessions::{Kind, Session};
use crate::store::web_sessions::WebSession;
use crate::store::{codes, devices, sessions, web_sessions};

/// Sessions that are shown.
const SHOWN: i64 = 100;
/// Sessions that are ended at once.
const MOST_AT_ONCE: usize = SHOWN as usize;

#[derive(Template)]
#[template(path = "account.html")]
struct Page<'a> {
    csrf: &'a str,
    notice: Option<&'a str>,
    problem: Option<&'a str>,
    user: &'a str,
    uid: Option<u32>,
    role: &'static str,
    sessions: Vec<Group>,
    more: usize,
    keys: Vec<KeyRow>,
    scopes: Vec<ScopeRow>,
    default_days: u32,
    max_days: u32,
    changes_password: bool,
    shortest: usize,
    proof: proof::Asked,
}

/// A browser, or all sessions of one program that began alike.
struct Group {
    /// The ids of the sessions, with commas between.
    ids: String,
    count: usize,
    what: String,
    how: &'static str,
    /// Where the latest began.
    source: String,
    since: String,
    used: String,
    used_us: i64,
    /// With what else it ends, where there is something to say.
    lasts: &'static str,
    this: bool,
    is_browser: bool,
}

struct KeyRow {
    id: String,
    label: String,
    scopes: String,
    made: String,
    /// With what its user proved that it was them.
    proof: &'static str,
    ends: String,
    /// With what else it ends.
    with: &'static str,
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

/// The page, with what was wrong: the status, the words, and after how many seconds
/// to try again.
pub(super) async fn refused(
    service: &Service,
    visit: &Visit,
    visitor: &Visitor,
    (status, problem, wait_s): (StatusCode, &str, Option<u64>),
) -> Response {
    let response = render(service, visit, visitor, status, None, Some(problem)).await;
    page::later(response, wait_s)
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
                shortest: passwords::SHORTEST,
                proof: proof::Asked::always(
                    service,
                    visitor,
                    &Local::account(),
                    "until its last day".into(),
                ),
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

type Rows = (Vec<Group>, usize, Vec<KeyRow>, bool);

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
    let latest = found.into_iter().rev().take(most);
    let mut sessions = grouped(latest.map(|session| group(session, &browsers, &own.id)));
    sessions.sort_by_key(|group| !group.this);
    let asker = Asker::signed_in(&visitor.user, visit.source.clone());
    // What may be refused there is the keys of others.
    let keys = service.api_keys.list(&asker, None).await;
    let keys = keys.map_or_else(|_| Vec::new(), |list| list.keys);
    let changes = service.web.keeps_password_of(subject).await?;
    let keys = keys.into_iter().map(key_row).collect();
    Ok((sessions, more, keys, changes))
}

/// The groups, those of one program that began alike as one. The latest comes
/// first.
fn grouped(single: impl Iterator<Item = Group>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for one in single {
        let same = |group: &&mut Group| {
            let programs = !group.is_browser && !one.is_browser;
            programs && (&group.what, group.how, &group.lasts) == (&one.what, one.how, &one.lasts)
        };
        match groups.iter_mut().find(same) {
            None => groups.push(one),
            Some(group) => {
                group.count += one.count;
                group.ids = format!("{},{}", group.ids, one.ids);
                group.since = one.since;
                if one.used_us > group.used_us {
                    (group.used, group.used_us) = (one.used, one.used_us);
                }
            }
        }
    }
    groups
}

/// The group of one session.
fn group(session: Session, browsers: &[WebSession], own: &str) -> Group {
    let browser = |id: &str| {
        let mut browsers = browsers.iter();
        browsers.find(|browser| browser.session_id == id)
    };
    let lasts = match (session.kind, session.parent.as_deref()) {
        (_, Some(parent)) if parent == own => ", ends with this browser",
        (_, Some(parent)) if browser(parent).is_some() => ", ends with another browser",
        (_, Some(_)) => ", ends with the login that let it in",
        (Kind::Code | Kind::Device, None) => ", goes on by itself",
        (Kind::Login | Kind::Client | Kind::Web | Kind::Key, None) => "",
    };
    let browser = browser(&session.id);
    Group {
        count: 1,
        is_browser: browser.is_some(),
        used_us: session.last_used_us,
        lasts,
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
        ids: session.id,
    }
}

fn key_row(key: KeyInfo) -> KeyRow {
    let moment = |s: u64| page::moment(i64::try_from(s).unwrap_or(0).saturating_mul(1_000_000));
    KeyRow {
        scopes: in_words(key.scopes).join("; "),
        made: moment(key.created_s),
        proof: match key.proof.as_str() {
            "password" => "with your password",
            "certificate" => "with your certificate",
            "provider" => "after a sign-in with your provider",
            _ => "with a token",
        },
        ends: moment(key.expires_s),
        with: match key.session {
            Some(_) => " or with the browser that made it",
            None => "",
        },
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

/// Which sessions are to end: their ids, with commas between.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    id: String,
    others: Option<String>,
}

/// End sessions of one's own, or all but this one.
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

/// End the visitor's sessions `ids` (with commas between), or all but that one
/// and whatever may become another.
async fn end(
    service: &Service,
    visit: &Visit,
    visitor: &Visitor,
    action: &'static str,
    ids: &str,
    others: bool,
) -> Result<(), Response> {
    let ended = async {
        let subject = &visitor.user.session.subject;
        let place = service.audit.place()?;
        let mut tx = service.login.db.begin().await?;
        let now_us = clock::now_us();
        let mut ended = 0;
        for id in ids.split(',').take(MOST_AT_ONCE) {
            ended += web_sessions::end_own(&mut tx, subject, id, others, now_us).await?;
        }
        if others {
            codes::delete_of(&mut tx, subject).await?;
            devices::delete_of(&mut tx, subject).await?;
        }
        tx.commit().await?;
        service.login.sessions.counted.forget();
        let mut event = visit.event(action);
        event.detail = Some(match others {
            true => format!("{ended} ended"),
            false if ended > 1 => format!("{ended} ended"),
            false => ids.chars().take(64).collect(),
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
