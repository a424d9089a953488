//! Signing in with a name and a password, as the other logins do.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::local::Local;
use super::visit::{self, Visit};
use super::{cookie, csrf, page};
use crate::audit::Event;
use crate::http::{Service, not_possible};
use crate::login::{Attempt, Barred, Login, Proven, Refusal, Wanted};
use crate::opaque;
use crate::secret::Secret;
use crate::source::Source;
use crate::store::web_sessions;
use crate::{clock, user_name};

#[derive(Template)]
#[template(path = "login.html")]
struct Page<'a> {
    passwords: bool,
    ways: Vec<Link>,
    csrf: &'a str,
    next: &'a str,
    user: &'a str,
    problem: Option<&'a str>,
    asks_code: bool,
}

struct Link {
    href: String,
    label: String,
}

/// Where to go on.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    pub(super) next: String,
    /// `yes` where the user shall prove who they are although they are signed in.
    #[serde(default)]
    pub(super) fresh: String,
}

/// Show the form to sign in; whoever is signed in goes on.
pub(super) async fn show(
    State(service): State<Arc<Service>>,
    visit: Visit,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let next = query
        .ok()
        .and_then(|Query(asked)| Local::parse(&asked.next));
    let Some(next) = next else {
        return nowhere(&service, &visit);
    };
    if visit.visitor.is_some() {
        return page::see_other(next.as_str());
    }
    form(&service, &visit, &next, "", StatusCode::OK, None)
}

/// What is sent to sign in.
#[derive(Deserialize)]
pub(super) struct SignIn {
    #[serde(default)]
    user: String,
    password: Secret,
    #[serde(default)]
    one_time_code: Option<Secret>,
    #[serde(default)]
    next: String,
    #[serde(default)]
    csrf: String,
}

/// Sign in.
pub(super) async fn sign_in(
    State(service): State<Arc<Service>>,
    visit: Visit,
    sent: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, Response> {
    let service = &service;
    visit.is_ours(service, "sign-in")?;
    let sent = visit::form(sent)?;
    let Some(next) = Local::parse(&sent.next) else {
        return Err(nowhere(service, &visit));
    };
    let expected = visit
        .before
        .as_ref()
        .map(|before| csrf::token(before, csrf::Purpose::SignIn));
    if !expected.is_some_and(|expected| opaque::same(&expected, &sent.csrf)) {
        service.audit.refused(visit.event("sign-in"), "csrf");
        let problem = Some("This page had become too old. Try again.");
        let status = StatusCode::FORBIDDEN;
        return Err(form(service, &visit, &next, "", status, problem));
    }
    if !service.password_login {
        let text = "Nobody signs in here with a password.";
        return Err(page::refusal(StatusCode::BAD_REQUEST, text));
    }
    let attempt = Attempt {
        user: sent.user.clone(),
        password: sent.password,
        code: sent.one_time_code,
        once: None,
        asked: Browser {
            service: service.clone(),
            agent: visit.agent.clone(),
        },
        source: visit.source.clone(),
    };
    match service.login.clone().judge(attempt).await {
        Ok(cookie) => Ok(visit.enter(service, &cookie, &next).await),
        Err(refusal) => {
            let (status, problem, wait_s) = told(&refusal);
            let user = user_name::shown(&sent.user);
            let mut response = form(service, &visit, &next, user, status, Some(&problem));
            if let Some(wait_s) = wait_s {
                let wait = HeaderValue::from(wait_s);
                response.headers_mut().insert(header::RETRY_AFTER, wait);
            }
            Err(response)
        }
    }
}

impl Visit {
    /// Go on to `next` with a browser that shows `cookie` from now on. What it
    /// showed before counts no more.
    pub(crate) async fn enter(&self, service: &Service, cookie: &Secret, next: &Local) -> Response {
        if let Some(visitor) = &self.visitor {
            let session = &visitor.user.session;
            let ended = async {
                let mut tx = service.login.db.begin().await?;
                let (subject, id) = (&session.subject, &session.id);
                web_sessions::end_own(&mut tx, subject, id, false, clock::now_us()).await?;
                tx.commit().await
            };
            if let Err(error) = ended.await {
                tracing::warn!(%error, "the session that a browser had before goes on");
            }
            service.login.sessions.counted.forget();
        }
        let mut response = page::see_other(next.as_str());
        cookie::keep_session(&mut response, cookie, service.web.longest_s());
        cookie::forget_before(&mut response);
        response
    }
}

/// A browser that somebody signs in with.
pub(super) struct Browser {
    pub(super) service: Arc<Service>,
    pub(super) agent: String,
}

impl Wanted for Browser {
    type Given = Secret;

    fn audience(&self) -> &'static str {
        "web"
    }

    async fn give(
        self,
        _: &Login,
        proven: Proven,
        source: Source,
        event: &Event,
    ) -> Result<Secret, Refusal> {
        let web = &self.service.web;
        web.open_session(proven, self.agent, None, &source, event)
            .await
    }
}

/// A refusal in words, the same whether the user or the password is wrong; and
/// how long to wait, in seconds.
pub(super) fn told(refusal: &Refusal) -> (StatusCode, String, Option<u64>) {
    match refusal {
        Refusal::Wrong(_) | Refusal::Payload(_) | Refusal::Scope | Refusal::Possession(_) => (
            StatusCode::BAD_REQUEST,
            "Incorrect user or password.".into(),
            None,
        ),
        Refusal::Barred(barred) => (StatusCode::FORBIDDEN, barred.text().into(), None),
        Refusal::Throttled(wait_s) => (
            StatusCode::TOO_MANY_REQUESTS,
            format!("Too many failed logins. Try again in {wait_s} seconds."),
            Some(*wait_s),
        ),
        Refusal::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many logins at once. Try again in a moment.".into(),
            Some(1),
        ),
        Refusal::Failed(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            not_possible(error),
            Some(5),
        ),
    }
}

/// The form, with the cookie that belongs to it.
pub(super) fn form(
    service: &Service,
    visit: &Visit,
    next: &Local,
    user: &str,
    status: StatusCode,
    problem: Option<&str>,
) -> Response {
    // Two forms of one browser are as good as each other.
    let before = match &visit.before {
        Some(before) => before.clone(),
        None => match opaque::make(opaque::WEB) {
            Ok((before, _)) => before,
            Err(error) => {
                tracing::error!(%error, "the form to sign in could not be made");
                return page::unavailable();
            }
        },
    };
    let ways = service.web.ways.iter().map(|way| Link {
        href: next.after(&way.path),
        label: way.label.clone(),
    });
    let page = Page {
        passwords: service.password_login,
        ways: ways.collect(),
        csrf: &csrf::token(&before, csrf::Purpose::SignIn),
        next: next.as_str(),
        user,
        problem,
        asks_code: problem == Some(Barred::CodeNeeded.text()),
    };
    let mut response = page::page(status, &page).into_response();
    cookie::keep_before(&mut response, &before);
    response
}

pub(super) fn nowhere(service: &Service, visit: &Visit) -> Response {
    service.audit.refused(visit.event("sign-in"), "next");
    page::refusal(
        StatusCode::BAD_REQUEST,
        "next: the path of a page of this server is needed.",
    )
}
