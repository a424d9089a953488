//! A new password, for whoever proves the present one.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;

use super::local::Local;
use super::sign_in::told;
use super::visit::{self, Visit};
use super::{account, page};
use crate::audit::{Event, Sort};
use crate::clock;
use crate::http::Service;
use crate::login::{Attempt, Login, Proven, Refusal, Wanted, Wrong};
use crate::passwords;
use crate::secret::Secret;
use crate::sessions::{end_account, until};
use crate::source::Source;
use crate::store::users;
use crate::user_name::UserName;

/// What is sent to change a password.
#[derive(Deserialize)]
pub(super) struct Change {
    #[serde(default)]
    csrf: String,
    present: Secret,
    fresh: Secret,
    again: Secret,
}

/// Change the password. Everything that the user is signed in with ends; this
/// browser is signed in anew.
pub(super) async fn change(
    State(service): State<Arc<Service>>,
    visit: Visit,
    sent: Result<Form<Change>, FormRejection>,
) -> Result<Response, Response> {
    let (service, visit) = (&service, &visit);
    let sent = visit::form(sent)?;
    let visitor = visit.changes(service, "password", &sent.csrf)?;
    let subject = &visitor.user.session.subject;
    let say = async |status, problem: &str| {
        account::render(service, visit, visitor, status, None, Some(problem)).await
    };
    if let Some(problem) = unfit(&sent, subject) {
        return Err(say(StatusCode::UNPROCESSABLE_ENTITY, &problem).await);
    }
    match service.web.keeps_password_of(subject).await {
        Ok(true) => {}
        Ok(false) => {
            let problem = "Your password is not kept here, and so cannot be changed here.";
            return Err(say(StatusCode::FORBIDDEN, problem).await);
        }
        Err(_) => return Err(page::unavailable()),
    }
    let attempt = Attempt {
        user: subject.clone(),
        password: sent.present,
        code: None,
        once: None,
        asked: NewPassword {
            service: service.clone(),
            fresh: sent.fresh,
            agent: visit.agent.clone(),
        },
        source: visit.source.clone(),
    };
    match service.login.clone().judge(attempt).await {
        Ok(cookie) => {
            let next = Local::parse("/account?done=password").unwrap_or_else(Local::account);
            Ok(visit.enter(service, &cookie, &next).await)
        }
        Err(Refusal::Wrong(_)) => {
            let problem = "The present password is another one.";
            Err(say(StatusCode::BAD_REQUEST, problem).await)
        }
        Err(refusal) => {
            let (status, problem, wait_s) = told(&refusal);
            let mut response = say(status, &problem).await;
            if let Some(wait_s) = wait_s {
                let wait = HeaderValue::from(wait_s);
                response.headers_mut().insert(header::RETRY_AFTER, wait);
            }
            Err(response)
        }
    }
}

/// Why the new password cannot be one.
fn unfit(sent: &Change, subject: &str) -> Option<String> {
    let fresh = sent.fresh.expose();
    if fresh != sent.again.expose() {
        return Some("The two new passwords differ.".into());
    }
    if fresh == sent.present.expose() {
        return Some("The new password must not be the present one.".into());
    }
    passwords::unfit(&sent.fresh, subject)
}

/// A new password for a user, and the browser that is signed in anew.
struct NewPassword {
    service: Arc<Service>,
    fresh: Secret,
    agent: String,
}

impl Wanted for NewPassword {
    type Given = Secret;

    fn audience(&self) -> &'static str {
        "password"
    }

    async fn give(
        self,
        login: &Login,
        proven: Proven,
        source: Source,
        event: &Event,
    ) -> Result<Secret, Refusal> {
        let name = UserName::parse(&proven.user.name).map_err(|_| Wrong::Name)?;
        let password_us = proven.password_us.ok_or(Wrong::Unknown)?;
        let hash = login.hasher.turn().await?.hash(self.fresh).await?;
        let place = login.audit.place()?;
        // Later than the one before, whatever the clock says.
        let now_us = clock::now_us().max(password_us.saturating_add(1));
        let mut tx = login.db.begin().await?;
        if !users::change_password(&mut tx, &name, &hash, password_us, now_us).await? {
            return Err(Wrong::Password.into());
        }
        let before_s = end_account(&mut tx, name.as_str(), "password-changed").await?;
        tx.commit().await?;
        login.sessions.counted.forget();
        let changed = Event {
            sort: Sort::Web,
            action: Some("password"),
            uid: proven.uid,
            ..event.clone()
        };
        place.granted(changed);
        until(before_s).await;
        let proven = Proven {
            password_us: Some(now_us),
            ..proven
        };
        let web = &self.service.web;
        web.open_session(proven, self.agent, None, &source, event)
            .await
    }
}
