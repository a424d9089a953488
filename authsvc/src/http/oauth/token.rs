//! `POST /oauth/token`: every way to a token, and to a warrant.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::{Extension, Form, Json};
use serde::Deserialize;
use warrant_api::oauth::Granted;
use warrant_api::token::{ACCESS_TOKEN_URN, EXCHANGE_GRANT, ID_TOKEN_URN};

use super::super::Service;
use super::super::certificate::Certificate;
use super::super::token::{audience, legacy};
use super::{answer, claim, exchange, record, refusal};
use crate::audit::{Event, Sort};
use crate::login::{Asked, Attempt, Certified};
use crate::oauth::authorize::scopes;
use crate::oauth::{Asking, Claim, Grant, Refused, Shown};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;

/// The fields of all grants. Source: RFC 6749 §4 and §6, RFC 7636 §4.5, RFC
/// 8628 §3.4, RFC 8693 §2.1; `job_sha256` and `one_time_code` are this service's
/// own.
#[derive(Deserialize)]
pub(super) struct TokenForm {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scope: Option<String>,
    pub(super) audience: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    one_time_code: Option<Secret>,
    refresh_token: Option<Secret>,
    code: Option<Secret>,
    redirect_uri: Option<String>,
    code_verifier: Option<Secret>,
    device_code: Option<Secret>,
    pub(super) subject_token: Option<Secret>,
    pub(super) subject_token_type: Option<String>,
    pub(super) requested_token_type: Option<String>,
    pub(super) job_sha256: Option<String>,
    pub(super) actor_token: Option<Secret>,
}

/// Where tokens are asked for.
pub(super) const PATH: &str = "/oauth/token";

impl TokenForm {
    /// Whether somebody else than this service is said to have made what is
    /// shown.
    fn shows_id_token(&self) -> bool {
        self.subject_token_type.as_deref() == Some(ID_TOKEN_URN)
    }
}

/// Give a token, or a warrant, for whatever proves that it may be had.
pub(in super::super) async fn give_token(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    source: Source,
    certificate: Certificate,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let mut event = Event::new(Sort::Token, source.clone());
    let form = match read(request).await {
        Ok(form) => form,
        Err(refused) => {
            record(&service, event, &refused);
            return refusal(&refused);
        }
    };
    let grant = form.grant_type.as_deref().and_then(Grant::parse);
    match (form.grant_type.as_deref(), grant) {
        (Some(EXCHANGE_GRANT), _) if !form.shows_id_token() => {
            exchange::exchange(&service, &headers, form, peer, source).await
        }
        (Some(name), Some(grant)) if name == grant.name() && service.backends.give_tokens() => {
            let given = match begin(&service, &headers, &form, grant, peer, source, &certificate) {
                Ok((claim, asking)) => {
                    let claim = claim.as_ref();
                    give(
                        &service,
                        grant,
                        form,
                        claim,
                        certificate,
                        asking,
                        &mut event,
                    )
                    .await
                }
                Err(refused) => Err(refused),
            };
            match given {
                // A login records its own refusals.
                Err(Denied::Recorded(refused)) => refusal(&refused),
                Err(Denied::Here(refused)) => answer::<()>(&service, event, Err(refused)),
                Ok(granted) => answer(&service, event, Ok(granted)),
            }
        }
        (None | Some(""), _) => {
            answer::<()>(&service, event, Err(Refused::Form("grant_type: required")))
        }
        (Some(_), _) => answer::<()>(&service, event, Err(Refused::Grant)),
    }
}

/// Why nothing is given, and whether that is recorded already.
enum Denied {
    Here(Refused),
    Recorded(Refused),
}

impl<E: Into<Refused>> From<E> for Denied {
    fn from(refused: E) -> Self {
        Self::Here(refused.into())
    }
}

/// A form; or JSON, for clients that act by themselves.
async fn read(request: Request) -> Result<TokenForm, Refused> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json {
        let what = "with application/json, grant_type must be client_credentials";
        let body = Json::<TokenForm>::from_request(request, &()).await;
        let form = body.ok().map(|Json(form)| form);
        return form
            .filter(|form| form.grant_type.as_deref() == Some(Grant::ClientCredentials.name()))
            .ok_or(Refused::Form(what));
    }
    let form = Form::<TokenForm>::from_request(request, &()).await;
    form.map(|Form(form)| form)
        .map_err(|_| Refused::Form("application/x-www-form-urlencoded is needed, each field once"))
}

fn begin(
    service: &Service,
    headers: &HeaderMap,
    form: &TokenForm,
    grant: Grant,
    peer: Peer,
    source: Source,
    certificate: &Certificate,
) -> Result<(Option<Claim>, Asking), Denied> {
    if grant == Grant::Certificate && service.certificates.is_none() {
        return Err(Refused::Grant.into());
    }
    let passwords = service.oauth.config.password_grant && service.password_login;
    if grant == Grant::Password && !passwords {
        return Err(Refused::Grant.into());
    }
    let secret = form.client_secret.clone();
    let claim = claim(headers, form.client_id.clone(), secret, certificate.clone())?;
    let asked = form.audience.as_deref();
    let proof = service.proofs.check(headers, "POST", PATH, None);
    let proof = proof.map_err(Refused::Possession)?;
    Ok((
        claim,
        Asking {
            source,
            scopes: scopes(form.scope.as_deref())?,
            audience: audience(service, peer, asked).map_err(|_| Refused::Audience)?,
            proof,
        },
    ))
}

async fn give(
    service: &Service,
    grant: Grant,
    form: TokenForm,
    claim: Option<&Claim>,
    certificate: Certificate,
    asking: Asking,
    event: &mut Event,
) -> Result<Granted, Denied> {
    let oauth = &service.oauth;
    event.audience = Some(asking.audience.name().to_owned());
    if grant == Grant::Password {
        event.sort = Sort::Login;
        return log_in(service, form, claim, asking).await;
    }
    if grant == Grant::Certificate {
        event.sort = Sort::Login;
        return show_certificate(service, claim, certificate, asking).await;
    }
    let client = oauth.client(claim, grant).await?;
    asking.fits(&client)?;
    let missing = Refused::Form;
    Ok(match grant {
        Grant::Password | Grant::Certificate => return Err(Refused::Grant.into()),
        Grant::RefreshToken => {
            let token = form
                .refresh_token
                .ok_or(missing("refresh_token: required"))?;
            oauth.refresh(&client, &token, &asking, event).await?
        }
        Grant::ClientCredentials => oauth.for_itself(&client, &asking, event).await?,
        Grant::AuthorizationCode => {
            let shown = Shown {
                code: form.code.ok_or(missing("code: required"))?,
                redirect_uri: form.redirect_uri.ok_or(missing("redirect_uri: required"))?,
                verifier: form
                    .code_verifier
                    .ok_or(missing("code_verifier: required"))?,
            };
            oauth.for_code(&client, &shown, &asking, event).await?
        }
        Grant::DeviceCode => {
            let code = form.device_code.ok_or(missing("device_code: required"))?;
            oauth.for_device(&client, &code, &asking, event).await?
        }
        Grant::TokenExchange => {
            event.sort = Sort::Login;
            let id_token = id_token(form)?;
            let asked = oauth.asked(&client, &asking);
            let oidc = &service.oidc;
            oidc.exchange(&id_token, asked, &asking.source, event)
                .await?
        }
    })
}

/// The ID token of an exchange. Source: RFC 8693 §2.1.
fn id_token(form: TokenForm) -> Result<Secret, Refused> {
    let wanted = form.requested_token_type.as_deref();
    if wanted.is_some_and(|wanted| wanted != ACCESS_TOKEN_URN) {
        return Err(Refused::Form(
            "requested_token_type: urn:ietf:params:oauth:token-type:access_token is given for an \
             ID token",
        ));
    }
    if form.actor_token.is_some() || form.job_sha256.is_some() {
        return Err(Refused::Form(
            "actor_token, job_sha256: not beside an ID token",
        ));
    }
    form.subject_token
        .ok_or(Refused::Form("subject_token: required"))
}

/// Tokens for a user's name and password; without a client, as those who log
/// in by the form of the Flux RESTful API.
async fn log_in(
    service: &Service,
    form: TokenForm,
    claim: Option<&Claim>,
    asking: Asking,
) -> Result<Granted, Denied> {
    let asked = asked(service, Grant::Password, claim, &asking).await?;
    let filled = |text: &String| !text.is_empty();
    let user = form.username.filter(filled);
    let password = form
        .password
        .filter(|password| !password.expose().is_empty());
    let attempt = Attempt {
        user: user.ok_or(Refused::Form("username: required"))?,
        password: password.ok_or(Refused::Form("password: required"))?,
        code: form.one_time_code,
        once: None,
        asked,
        source: asking.source,
    };
    let judged = service.login.clone().judge(attempt).await;
    judged.map_err(|refusal| Denied::Recorded(refusal.into()))
}

/// What a login asks for: what its client may have, or without one, as much
/// as those who log in by the form of the Flux RESTful API.
async fn asked(
    service: &Service,
    grant: Grant,
    claim: Option<&Claim>,
    asking: &Asking,
) -> Result<Asked, Denied> {
    Ok(match claim {
        Some(claim) => {
            let client = service.oauth.client(Some(claim), grant).await?;
            asking.fits(&client)?;
            service.oauth.asked(&client, asking)
        }
        None => {
            let mut asked = legacy(service, asking.audience);
            asked.scopes = asking.scopes;
            asked.proof.clone_from(&asking.proof);
            asked
        }
    })
}

/// Tokens for the certificate of the connection.
async fn show_certificate(
    service: &Service,
    claim: Option<&Claim>,
    certificate: Certificate,
    asking: Asking,
) -> Result<Granted, Denied> {
    let users = service.certificates.as_ref().ok_or(Refused::Grant)?;
    let certified = Certified {
        shown: certificate.0,
        asked: asked(service, Grant::Certificate, claim, &asking).await?,
        source: asking.source,
    };
    let judged = service.login.clone().judge_certificate(users, certified);
    judged
        .await
        .map_err(|refusal| Denied::Recorded(refusal.into()))
}
