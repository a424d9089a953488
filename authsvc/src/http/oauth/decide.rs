//! Where users decide who may have tokens: for programs that hold their access
//! token. Pages are in `web`.

use std::sync::Arc;

use axum::extract::rejection::{FormRejection, JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form, Json};
use serde::Deserialize;
use warrant_api::oauth::{
    AuthorizeRequest, Authorized, Decision, DeviceDecided, DeviceDecision, DeviceStart,
};

use super::super::Service;
use super::super::certificate::Certificate;
use super::super::possession::shown;
use super::{answer, claim, record, uncached};
use crate::audit::{Event, Sort};
use crate::config::Grants;
use crate::lasting::Lasts;
use crate::oauth::authorize::{Unfit, scopes};
use crate::oauth::{Asking, Grant, Refused, SignedIn, authorize, device};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;
use crate::token::Audience;

const JSON_NEEDED: Refused =
    Refused::Form("application/json with the fields of the request is needed");

/// Whoever is signed in, and may decide over this connection. Where clients
/// get their own warrants, the broker must not decide for them.
async fn signed_in(
    service: &Service,
    peer: Peer,
    headers: &HeaderMap,
    path: &str,
) -> Result<SignedIn, Refused> {
    let audience = match &service.warrants {
        Some(warrants) if warrants.grants == Grants::Client => {
            if !warrants.gives_to_clients(peer) {
                return Err(Refused::Peer);
            }
            Audience::Authsvc
        }
        Some(_) | None => Audience::Broker,
    };
    let shown = shown(headers).ok_or(Refused::Bearer)?;
    let user = service.oauth.signed_in(&shown.token, audience).await?;
    let proof = shown.judge(service, headers, "POST", path, user.jkt.as_deref());
    if let Some(proof) = proof.map_err(Refused::Bound)? {
        let spent = proof.spend_alone(&service.oauth.db).await;
        let spent = spent.map_err(Refused::from);
        if let Err(Refused::Possession(refused)) = spent {
            return Err(Refused::Bound(refused));
        }
        spent?;
    }
    Ok(user)
}

/// Let a client have a code, as whoever is signed in. Source: RFC 6749 §4.1.1.
pub(crate) async fn authorize_code(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    source: Source,
    headers: HeaderMap,
    body: Result<Json<AuthorizeRequest>, JsonRejection>,
) -> Response {
    let mut event = Event::new(Sort::Authorize, source.clone());
    let given = async {
        let Json(asked) = body.map_err(|_| JSON_NEEDED)?;
        let user = signed_in(&service, peer, &headers, "/oauth/authorize").await?;
        event.subject = Some(user.session.subject.clone());
        event.audience.clone_from(&asked.client_id);
        let request = authorize::check(&service.oauth, &asked).await?;
        event.audience = Some(request.client.id.clone());
        let lasts = Lasts::WithSession;
        authorize::grant(&service.oauth, &request, &user, lasts, &source).await
    };
    let given = given.await;
    match given {
        Ok(redirect) => answer(&service, event, Ok(Authorized { redirect })),
        Err(Unfit::Lost(refused)) => answer::<()>(&service, event, Err(refused)),
        Err(Unfit::Told { refused, redirect }) => {
            record(&service, event, &refused);
            (uncached(), Json(Authorized { redirect })).into_response()
        }
    }
}

/// Say what is wrong with a request for a code. One that is fit is put to a
/// user on a page, in a browser.
pub(crate) async fn show_authorize(
    State(service): State<Arc<Service>>,
    query: Result<Query<AuthorizeRequest>, QueryRejection>,
) -> Response {
    let checked = match query {
        Ok(Query(asked)) => authorize::check(&service.oauth, &asked).await,
        Err(_) => Err(Unfit::Lost(Refused::Form("each field once"))),
    };
    let (status, text) = match &checked {
        Ok(_) => (
            StatusCode::NOT_IMPLEMENTED,
            "The page for this is for browsers: open the address in one.",
        ),
        Err(Unfit::Lost(refused @ Refused::Failed(_))) => {
            (StatusCode::SERVICE_UNAVAILABLE, refused.text())
        }
        Err(Unfit::Lost(refused) | Unfit::Told { refused, .. }) => {
            (StatusCode::BAD_REQUEST, refused.text())
        }
    };
    (status, uncached(), format!("{text}\n")).into_response()
}

/// What a device asks for.
#[derive(Deserialize)]
pub(in super::super) struct DeviceForm {
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scope: Option<String>,
}

/// Let a device begin. Source: RFC 8628 §3.1.
pub(in super::super) async fn begin_device(
    State(service): State<Arc<Service>>,
    source: Source,
    certificate: Certificate,
    headers: HeaderMap,
    form: Result<Form<DeviceForm>, FormRejection>,
) -> Response {
    let mut event = Event::new(Sort::Device, source.clone());
    let begun = async {
        let Form(form) = form.map_err(|_| {
            Refused::Form("application/x-www-form-urlencoded is needed, each field once")
        })?;
        if !service.backends.give_tokens() {
            return Err(Refused::Grant);
        }
        let claim = claim(&headers, form.client_id, form.client_secret, certificate)?;
        let oauth = &service.oauth;
        let client = oauth.client(claim.as_ref(), Grant::DeviceCode).await?;
        let asking = Asking {
            source,
            scopes: scopes(form.scope.as_deref())?,
            audience: Audience::Broker,
            proof: None,
        };
        oauth.begin_device(&client, &asking, &mut event).await
    };
    let begun: Result<DeviceStart, _> = begun.await;
    answer(&service, event, begun)
}

/// Decide about a device, as whoever is signed in.
pub(crate) async fn decide_device(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    source: Source,
    headers: HeaderMap,
    body: Result<Json<DeviceDecision>, JsonRejection>,
) -> Response {
    let mut event = Event::new(Sort::Authorize, source.clone());
    let decided = async {
        let Json(DeviceDecision {
            user_code,
            decision,
        }) = body.map_err(|_| JSON_NEEDED)?;
        let user = signed_in(&service, peer, &headers, "/oauth/device").await?;
        event.subject = Some(user.session.subject.clone());
        let oauth = &service.oauth;
        let waiting = device::find(oauth, &user, &user_code, &source).await?;
        event.audience = Some(waiting.client.id.clone());
        let decided = (decision, Lasts::WithSession);
        let scope = device::decide(oauth, &waiting, &user, decided, &source).await?;
        tracing::info!(
            client = waiting.client.id,
            approved = decision == Decision::Approve,
            "a device was decided about"
        );
        Ok(DeviceDecided {
            client_id: waiting.client.id,
            client: waiting.client.label,
            scope,
        })
    };
    let decided = decided.await;
    answer(&service, event, decided)
}
