//! A device shows a code: whoever is signed in types it in, sees what would be
//! let in, and says yes or no. Source: RFC 8628 §3.3, §5.4.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use warrant_api::oauth::Decision;

use super::local::Local;
use super::visit::{self, Visit, Visitor, is_for_page};
use super::{in_words, page, proof};
use crate::audit::{Event, Sort};
use crate::http::{self, Fault, Service};
use crate::lasting::Lasts;
use crate::oauth::{Refused, device};
use crate::secret::Secret;
use crate::sessions::within;

#[derive(Template)]
#[template(path = "device.html")]
struct Page<'a> {
    csrf: &'a str,
    user: &'a str,
    code: &'a str,
    problem: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "device_confirm.html")]
struct Confirm<'a> {
    csrf: &'a str,
    user: &'a str,
    client: &'a str,
    code: &'a str,
    scopes: Vec<&'static str>,
    proof: proof::Asked,
    problem: Option<&'a str>,
}

/// `GET /oauth/device`: a page for browsers, nothing for programs.
pub(crate) async fn show_device(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let for_page = is_for_page(&parts);
    let request = Request::from_parts(parts, body);
    match for_page {
        true => Handler::call(show, request, service).await,
        false => {
            let fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            ([(header::ALLOW, "POST")], fault).into_response()
        }
    }
}

/// `POST /oauth/device`: the forms of that page; programs show a token.
pub(crate) async fn decide_device(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let for_page = is_for_page(&parts);
    let request = Request::from_parts(parts, body);
    match for_page {
        true => Handler::call(decide, request, service).await,
        false => Handler::call(http::oauth::decide_device, request, service).await,
    }
}

/// What the link of a device says.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    user_code: String,
}

async fn show(uri: Uri, visit: Visit, query: Result<Query<Asked>, QueryRejection>) -> Response {
    let Some(visitor) = &visit.visitor else {
        let here = uri.path_and_query().map_or("", |path| path.as_str());
        return match Local::parse(here) {
            Some(here) => page::see_other(&here.after("/login")),
            None => page::refusal(StatusCode::BAD_REQUEST, "The address has odd characters."),
        };
    };
    let Query(Asked { user_code }) = query.unwrap_or_default();
    let code: String = user_code.chars().take(16).collect();
    form(visitor, &code, StatusCode::OK, None)
}

fn form(visitor: &Visitor, code: &str, status: StatusCode, problem: Option<&str>) -> Response {
    let page = Page {
        csrf: &visitor.csrf,
        user: &visitor.user.session.subject,
        code,
        problem,
    };
    page::page(status, &page)
}

/// What the forms send: the code alone, then the decision as well.
#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    user_code: String,
    #[serde(default)]
    decision: String,
    #[serde(default)]
    lasts: String,
    password: Option<Secret>,
}

async fn decide(
    State(service): State<Arc<Service>>,
    visit: Visit,
    sent: Result<Form<Sent>, FormRejection>,
) -> Result<Response, Response> {
    let (service, visit) = (&service, &visit);
    let sent = visit::form(sent)?;
    let visitor = visit.changes(service, "device", &sent.csrf)?;
    let decision = match sent.decision.as_str() {
        "" => None,
        "approve" => Some(Decision::Approve),
        "deny" => Some(Decision::Deny),
        _ => {
            let text = "decision: approve or deny is needed.";
            return Err(page::refusal(StatusCode::BAD_REQUEST, text));
        }
    };
    let refuse = |refused| refusal(service, visit, visitor, &sent.user_code, &refused);
    let (oauth, user) = (&service.oauth, &visitor.user);
    let waiting = device::find(oauth, user, &sent.user_code, &visit.source).await;
    let waiting = waiting.map_err(refuse)?;
    let label = &waiting.client.label;
    let confirm = |status, problem: Option<&str>| {
        let most = waiting.client.scopes.and(user.scopes).and(waiting.scopes);
        let scopes = within(None, most, user.session.role);
        let next = Local::parse(&format!("/oauth/device?user_code={}", sent.user_code));
        let page = Confirm {
            csrf: &visitor.csrf,
            user: &user.session.subject,
            client: label,
            code: &sent.user_code,
            scopes: in_words(scopes.ok_or(Refused::Scope).map_err(refuse)?),
            proof: goes_on(service, visitor, &next.unwrap_or_else(Local::account)),
            problem,
        };
        Ok::<_, Response>(page::page(status, &page))
    };
    let Some(decision) = decision else {
        return confirm(StatusCode::OK, None);
    };
    let lasts = match decision {
        Decision::Approve => sent.lasts.as_str(),
        Decision::Deny => "",
    };
    let password = sent.password.clone().unwrap_or_else(|| Secret::new(""));
    let proven = match proof::chosen(service, visit, visitor, lasts, password).await {
        Ok(proven) => proven,
        Err(unproven) => {
            let (status, problem, wait_s) = unproven.told();
            return Err(page::later(confirm(status, Some(&problem))?, wait_s));
        }
    };
    let lasts = proven.as_ref().map_or(Lasts::WithSession, Lasts::ByItself);
    let decided = device::decide(oauth, &waiting, user, (decision, lasts), &visit.source).await;
    decided.map_err(refuse)?;
    let (title, text) = match decision {
        Decision::Approve => (
            format!("“{label}” is let in"),
            "The device goes on by itself. You can close this page.",
        ),
        Decision::Deny => (
            format!("“{label}” is not let in"),
            "You can close this page.",
        ),
    };
    let account = page::at(Local::account().as_str());
    let message = page::Message {
        title: &title,
        text,
        link: Some((&account, "Your account")),
        goes_on: None,
    };
    Ok(message.page(StatusCode::OK))
}

/// What is asked with a decision: for how long what is let in goes on.
pub(super) fn goes_on(service: &Service, visitor: &Visitor, next: &Local) -> proof::Asked {
    let days = service.oauth.config.refresh_days;
    let own = format!("until you end it, at most {days} days");
    proof::Asked::for_own(service, visitor, next, own)
}

fn refusal(
    service: &Service,
    visit: &Visit,
    visitor: &Visitor,
    code: &str,
    refused: &Refused,
) -> Response {
    let event = Event {
        sort: Sort::Authorize,
        action: None,
        ..visit.event("device")
    };
    service.audit.refused(event, refused.reason());
    match refused {
        Refused::Throttled(wait_s) => {
            let text = format!("Too many wrong codes. Try again in {wait_s} seconds.");
            let status = StatusCode::TOO_MANY_REQUESTS;
            let mut response = form(visitor, "", status, Some(&text));
            let wait = HeaderValue::from(*wait_s);
            response.headers_mut().insert(header::RETRY_AFTER, wait);
            response
        }
        Refused::Failed(error) => {
            tracing::error!(%error, "a device could not be decided about");
            page::unavailable()
        }
        Refused::Scope => {
            let text = "The device asks for what you may not have.";
            form(visitor, "", StatusCode::BAD_REQUEST, Some(text))
        }
        Refused::Form(_)
        | Refused::Grant
        | Refused::Client
        | Refused::ClientCertificate(_)
        | Refused::ClientGrant
        | Refused::Proof(_)
        | Refused::Password(_)
        | Refused::Barred(_)
        | Refused::Possession(_)
        | Refused::Bound(_)
        | Refused::Audience
        | Refused::ResponseType
        | Refused::Pending
        | Refused::SlowDown
        | Refused::Expired
        | Refused::Denied
        | Refused::Bearer
        | Refused::Peer
        | Refused::Busy => {
            let code: String = code.chars().take(16).collect();
            let text = "No device shows this code now.";
            form(visitor, &code, StatusCode::BAD_REQUEST, Some(text))
        }
    }
}
