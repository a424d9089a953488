//! API keys of one's own, on pages.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use warrant_api::keys::NewKey;
use warrant_api::scope::{Scope, Scopes};

use super::proof::{self, Unproven};
use super::visit::{self, Visit};
use super::{account, in_words, page};
use crate::api_keys::{Asker, Refused, Wish};
use crate::audit::Sort;
use crate::http::Service;
use crate::secret::Secret;

#[derive(Template)]
#[template(path = "key.html")]
struct Page<'a> {
    csrf: &'a str,
    user: &'a str,
    label: &'a str,
    key: &'a str,
    scopes: &'a str,
    ends: &'a str,
    with_session: bool,
}

/// Make a key for whoever proves with the form that it is them, and show it this
/// once.
pub(super) async fn create(
    State(service): State<Arc<Service>>,
    visit: Visit,
    sent: Result<Form<HashMap<String, String>>, FormRejection>,
) -> Result<Response, Response> {
    let sent = visit::form(sent)?;
    let field = |name: &str| sent.get(name).map(String::as_str).unwrap_or_default();
    let visitor = visit.changes(&service, "key", field("csrf"))?;
    let ticked = Scope::ALL
        .into_iter()
        .filter(|scope| sent.contains_key(scope.name()));
    let new = NewKey {
        label: field("label").to_owned(),
        scopes: Some(ticked.fold(Scopes::NONE, Scopes::with)),
        expires_in_days: Some(field("days").parse().unwrap_or(0)),
    };
    let password = Secret::new(field("password"));
    let by_itself = field("lasts") == proof::BY_ITSELF;
    let proven = match proof::prove(&service, &visit, visitor, password, "key").await {
        Ok(proven) => proven,
        Err(unproven) => {
            if matches!(unproven, Unproven::Missing) {
                let mut event = visit.event("create");
                event.sort = Sort::Key;
                service.audit.refused(event, "proof");
            }
            let (status, problem, wait_s) = unproven.told();
            let told = (status, problem.as_str(), wait_s);
            return Err(account::refused(&service, &visit, visitor, told).await);
        }
    };
    let wish = Wish {
        proven: &proven,
        new,
        session: (!by_itself).then_some(visitor.user.session.id.as_str()),
        source: visit.source.clone(),
    };
    match service.api_keys.create(wish).await {
        Ok(created) => {
            let ends_us = i64::try_from(created.info.expires_s).unwrap_or(0);
            let page = Page {
                csrf: &visitor.csrf,
                user: &visitor.user.session.subject,
                label: &created.info.label,
                key: &created.key,
                scopes: &in_words(created.info.scopes).join("; "),
                ends: &page::moment(ends_us.saturating_mul(1_000_000)),
                with_session: created.info.session.is_some(),
            };
            Ok(page::page(StatusCode::OK, &page))
        }
        Err(refused) => {
            let (status, problem, wait_s) = told(&refused);
            let told = (status, problem.as_str(), wait_s);
            Err(account::refused(&service, &visit, visitor, told).await)
        }
    }
}

/// Which key is to count no more.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    id: String,
}

/// Revoke a key.
pub(super) async fn revoke(
    State(service): State<Arc<Service>>,
    visit: Visit,
    sent: Result<Form<Which>, FormRejection>,
) -> Result<Response, Response> {
    let sent = visit::form(sent)?;
    let visitor = visit.changes(&service, "key", &sent.csrf)?;
    let asker = Asker::signed_in(&visitor.user, visit.source.clone());
    match service.api_keys.revoke(&asker, None, Some(&sent.id)).await {
        Ok(_) => Ok(page::see_other("/account?done=revoked")),
        Err(refused) => {
            let (status, problem, wait_s) = told(&refused);
            let told = (status, problem.as_str(), wait_s);
            Err(account::refused(&service, &visit, visitor, told).await)
        }
    }
}

/// A refusal in words, and how long to wait, in seconds.
fn told(refused: &Refused) -> (StatusCode, String, Option<u64>) {
    match refused {
        Refused::Form(what) => (StatusCode::UNPROCESSABLE_ENTITY, what.clone(), None),
        Refused::NoKey => (StatusCode::NOT_FOUND, "There is no such key.".into(), None),
        Refused::Full(most) => (
            StatusCode::CONFLICT,
            format!("There may be {most} keys: revoke some first."),
            None,
        ),
        Refused::Scopes(most) => (
            StatusCode::FORBIDDEN,
            format!("A key may be used for no more than: {most}."),
            None,
        ),
        Refused::Rate(wait_s) => (
            StatusCode::TOO_MANY_REQUESTS,
            format!("You have made many keys just now. Try again in {wait_s} seconds."),
            Some(*wait_s),
        ),
        Refused::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Keys cannot be dealt with at the moment.".into(),
            Some(5),
        ),
        Refused::Failed(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "Keys cannot be dealt with at the moment. {}",
                error.part.told()
            ),
            Some(5),
        ),
        Refused::Token
        | Refused::Possession(_)
        | Refused::OfKey
        | Refused::NeedsScope(_)
        | Refused::Unproven
        | Refused::Peer
        | Refused::NotYours
        | Refused::Key(_)
        | Refused::User(_)
        | Refused::OtherAccount => (StatusCode::FORBIDDEN, "This may not be done.".into(), None),
    }
}
