//! A client asks for a code: whoever is signed in says yes or no. Source: RFC
//! 6749 §4.1, RFC 9700 §2.1.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, Request, State};
use axum::handler::Handler;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use warrant_api::oauth::AuthorizeRequest;

use super::device::goes_on;
use super::local::Local;
use super::visit::{self, Visit, is_for_page};
use super::{in_words, page, proof};
use crate::audit::{Event, Sort};
use crate::http::{self, Service};
use crate::lasting::Lasts;
use crate::oauth::Refused;
use crate::oauth::authorize::{self, Unfit};
use crate::secret::Secret;
use crate::sessions::within;

#[derive(Template)]
#[template(path = "authorize.html")]
struct Page<'a> {
    csrf: &'a str,
    user: &'a str,
    client: &'a str,
    scopes: Vec<&'static str>,
    back: &'a str,
    fields: Vec<(&'static str, &'a str)>,
    proof: proof::Asked,
}

/// `GET /oauth/authorize`: a page for browsers; programs are told what is wrong.
pub(crate) async fn show_authorize(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let for_page = is_for_page(&parts);
    let request = Request::from_parts(parts, body);
    match for_page {
        true => Handler::call(show, request, service).await,
        false => Handler::call(http::oauth::show_authorize, request, service).await,
    }
}

/// `POST /oauth/authorize`: the form of that page; programs show a token.
pub(crate) async fn decide_authorize(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let for_page = is_for_page(&parts);
    let request = Request::from_parts(parts, body);
    match for_page {
        true => Handler::call(decide, request, service).await,
        false => Handler::call(http::oauth::authorize_code, request, service).await,
    }
}

async fn show(
    State(service): State<Arc<Service>>,
    uri: Uri,
    visit: Visit,
    query: Result<Query<AuthorizeRequest>, QueryRejection>,
) -> Response {
    let Ok(Query(asked)) = query else {
        return page::refusal(StatusCode::BAD_REQUEST, "Each field may be there once.");
    };
    let request = match authorize::check(&service.oauth, &asked).await {
        Ok(request) => request,
        Err(unfit) => return unfit_page(&service, &visit, &asked, unfit),
    };
    let Some(visitor) = &visit.visitor else {
        let here = uri.path_and_query().map_or("", |path| path.as_str());
        return match Local::parse(here) {
            Some(here) => page::see_other(&here.after("/login")),
            None => page::refusal(StatusCode::BAD_REQUEST, "The address has odd characters."),
        };
    };
    let user = &visitor.user;
    let most = request.client.scopes.and(user.scopes);
    let Some(scopes) = within(request.scopes, most, user.session.role) else {
        let unfit = authorize::refuse(&service.oauth, &request, Refused::Scope);
        return unfit_page(&service, &visit, &asked, unfit);
    };
    let redirect_uri = asked.redirect_uri.as_deref().unwrap_or_default();
    let page = Page {
        csrf: &visitor.csrf,
        user: &user.session.subject,
        client: &request.client.label,
        scopes: in_words(scopes),
        back: redirect_uri.split(['?', '#']).next().unwrap_or_default(),
        fields: fields(&asked),
        proof: goes_on(&service, visitor, &here(&uri)),
    };
    page::page(StatusCode::OK, &page)
}

/// The page itself, to come back to.
fn here(uri: &Uri) -> Local {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    Local::parse(path).unwrap_or_else(Local::account)
}

/// What is asked for, to be asked again with the form.
fn fields(asked: &AuthorizeRequest) -> Vec<(&'static str, &str)> {
    let all = [
        ("response_type", &asked.response_type),
        ("client_id", &asked.client_id),
        ("redirect_uri", &asked.redirect_uri),
        ("scope", &asked.scope),
        ("state", &asked.state),
        ("code_challenge", &asked.code_challenge),
        ("code_challenge_method", &asked.code_challenge_method),
    ];
    let given = all.into_iter();
    given
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .collect()
}

/// What the form sends.
#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    decision: String,
    #[serde(default)]
    lasts: String,
    password: Option<Secret>,
    response_type: Option<String>,
    client_id: Option<String>,
    redirect_uri: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

async fn decide(
    State(service): State<Arc<Service>>,
    visit: Visit,
    sent: Result<Form<Sent>, FormRejection>,
) -> Result<Response, Response> {
    let (service, visit) = (&service, &visit);
    let sent = visit::form(sent)?;
    let visitor = visit.changes(service, "authorize", &sent.csrf)?;
    let asked = AuthorizeRequest {
        response_type: sent.response_type,
        client_id: sent.client_id,
        redirect_uri: sent.redirect_uri,
        scope: sent.scope,
        state: sent.state,
        code_challenge: sent.code_challenge,
        code_challenge_method: sent.code_challenge_method,
    };
    let unfit = |unfit| unfit_page(service, visit, &asked, unfit);
    let checked = authorize::check(&service.oauth, &asked).await;
    let request = checked.map_err(unfit)?;
    let redirect = match sent.decision.as_str() {
        "approve" => {
            let (oauth, user) = (&service.oauth, &visitor.user);
            let password = sent.password.unwrap_or_else(|| Secret::new(""));
            let chosen = proof::chosen(service, visit, visitor, &sent.lasts, password).await;
            let proven = chosen.map_err(|unproven| {
                let (status, problem, wait_s) = unproven.told();
                page::later(page::refusal(status, &problem), wait_s)
            })?;
            let lasts = proven.as_ref().map_or(Lasts::WithSession, Lasts::ByItself);
            let granted = authorize::grant(oauth, &request, user, lasts, &visit.source).await;
            granted.map_err(unfit)?
        }
        "deny" => match authorize::refuse(&service.oauth, &request, Refused::Denied) {
            Unfit::Told { refused, redirect } => {
                record(service, visit, &asked, &refused);
                redirect
            }
            Unfit::Lost(refused) => return Err(unfit(Unfit::Lost(refused))),
        },
        _ => {
            let text = "decision: approve or deny is needed.";
            return Err(page::refusal(StatusCode::BAD_REQUEST, text));
        }
    };
    // Not a redirection: those of forms end at this server, by our own policy.
    let label = &request.client.label;
    let message = page::Message {
        title: &format!("Back to “{label}”"),
        text: "If nothing happens, go on yourself.",
        link: Some((&redirect, "Go on")),
        goes_on: Some(&redirect),
    };
    Ok(message.page(StatusCode::OK))
}

fn record(service: &Service, visit: &Visit, asked: &AuthorizeRequest, refused: &Refused) {
    let event = Event {
        sort: Sort::Authorize,
        action: None,
        audience: asked
            .client_id
            .as_ref()
            .map(|id| id.chars().take(64).collect()),
        ..visit.event("authorize")
    };
    service.audit.refused(event, refused.reason());
}

/// What is wrong with a request. Nobody is sent anywhere by it: where the
/// client may be told, the user may take the answer there.
fn unfit_page(
    service: &Service,
    visit: &Visit,
    asked: &AuthorizeRequest,
    unfit: Unfit,
) -> Response {
    let (refused, redirect) = match &unfit {
        Unfit::Lost(refused) => (refused, None),
        Unfit::Told { refused, redirect } => (refused, Some(redirect.as_str())),
    };
    record(service, visit, asked, refused);
    if let Refused::Failed(error) = refused {
        let cause = error.source.as_ref().map(tracing::field::display);
        tracing::error!(%error, cause, "a code could not be given");
        return page::unavailable();
    }
    let message = page::Message {
        title: "This program cannot be let in",
        text: &format!("What it asks for is not right: {}.", refused.text()),
        link: redirect.map(|redirect| (redirect, "Back to the program")),
        goes_on: None,
    };
    message.page(StatusCode::BAD_REQUEST)
}
