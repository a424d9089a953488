//! What is known of tokens and of this server, and the end of tokens.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form, Json};
use serde::Deserialize;
use serde_json::json;

use super::super::Service;
use super::super::certificate::Certificate;
use super::{answer, claim};
use crate::audit::{Event, Sort};
use crate::oauth::{Claim, Refused, client, metadata};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;
use crate::token::LEGACY_CLIENT;

/// A token, and who asks. Source: RFC 7009 §2.1, RFC 7662 §2.1. What kind of
/// token it is can be seen: `token_type_hint` says nothing new.
#[derive(Deserialize)]
pub(in super::super) struct AboutForm {
    token: Option<Secret>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
}

type Asked = Result<Form<AboutForm>, FormRejection>;

fn read(
    headers: &HeaderMap,
    certificate: Certificate,
    form: Asked,
) -> Result<(Secret, Option<Claim>), Refused> {
    let Form(form) = form.map_err(|_| {
        Refused::Form("application/x-www-form-urlencoded is needed, each field once")
    })?;
    let claim = claim(headers, form.client_id, form.client_secret, certificate)?;
    let token = form.token.ok_or(Refused::Form("token: required"))?;
    Ok((token, claim))
}

/// Say what is known of a token to a client that proves who it is, or to the
/// broker. Source: RFC 7662.
pub(in super::super) async fn introspect_token(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    source: Source,
    certificate: Certificate,
    headers: HeaderMap,
    form: Asked,
) -> Response {
    let event = Event::new(Sort::Introspect, source);
    let known = async {
        let (token, claim) = read(&headers, certificate, form)?;
        let client = match claim {
            None if peer.is_user(service.broker_uid) => None,
            None => return Err(Refused::Client),
            Some(claim) => {
                let client = client::authenticate(&service.oauth.db, &claim).await?;
                Some(client).filter(client::Client::is_confidential)
            }
        };
        if client.is_none() && !peer.is_user(service.broker_uid) {
            return Err(Refused::Client);
        }
        service.oauth.introspect(client.as_ref(), &token).await
    };
    let known = known.await;
    answer(&service, event, known)
}

/// End a token. One that does not count has ended: that is no error. Source:
/// RFC 7009.
pub(in super::super) async fn revoke_token(
    State(service): State<Arc<Service>>,
    source: Source,
    certificate: Certificate,
    headers: HeaderMap,
    form: Asked,
) -> Response {
    let mut event = Event::new(Sort::Revoke, source);
    let revoked = async {
        let (token, claim) = read(&headers, certificate, form)?;
        let claim = claim.ok_or(Refused::Client)?;
        let by_legacy = claim.id == LEGACY_CLIENT && claim.secret.is_none();
        if !by_legacy {
            client::authenticate(&service.oauth.db, &claim).await?;
        }
        service.oauth.revoke(&claim.id, &token, &mut event).await?;
        Ok(json!({}))
    };
    let revoked = revoked.await;
    answer(&service, event, revoked)
}

/// What this server does. Source: RFC 8414 §3.
pub(in super::super) async fn get_metadata(State(service): State<Arc<Service>>) -> Response {
    let cache = [(header::CACHE_CONTROL, "max-age=300")];
    let about = metadata(
        &service.oauth,
        service.warrants.is_some() || service.oidc.exchanges(),
    );
    (cache, Json(about)).into_response()
}
