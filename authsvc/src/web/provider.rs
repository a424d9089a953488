//! Signing in with an OpenID provider: the browser goes there and comes back.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::local::Local;
use super::sign_in::{Asked, form, nowhere, told};
use super::visit::Visit;
use super::{cookie, page};
use crate::audit::{Event, Sort};
use crate::http::Service;
use crate::login::{Proven, ProvenBy, Refusal};
use crate::oauth::Refused;
use crate::oidc::{Begun, Completed, LIFE_S, Returned};
use crate::secret::Secret;

/// Send a browser to the provider `name`; whoever is signed in goes on.
pub(super) async fn begin(
    State(service): State<Arc<Service>>,
    visit: Visit,
    Path(name): Path<String>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let asked = query.ok().map(|Query(asked)| asked);
    let next = asked.as_ref().and_then(|asked| Local::parse(&asked.next));
    let Some(next) = next else {
        return nowhere(&service, &visit);
    };
    // Whoever is signed in may have to prove it once more.
    let again = asked.is_some_and(|asked| asked.fresh == "yes");
    if visit.visitor.is_some() && !again {
        return page::see_other(next.as_str());
    }
    let oidc = &service.oidc;
    let begun = oidc.begin(&name, next.as_str(), again, &visit.source);
    match begun.await {
        Ok(begun) => sent(&begun),
        Err(refused) => {
            refuse(&service, event(&visit), &refused);
            problem(&service, &visit, &refused)
        }
    }
}

/// Sign in whoever the provider `name` says comes back with the browser.
pub(super) async fn complete(
    State(service): State<Arc<Service>>,
    visit: Visit,
    Path(name): Path<String>,
    query: Result<Query<Returned>, QueryRejection>,
) -> Response {
    let mut event = event(&visit);
    let entered = enter(&service, &visit, &name, query, &mut event).await;
    let mut response = match entered {
        Ok((cookie, next)) => visit.enter(&service, &cookie, &next).await,
        Err(refused) => {
            refuse(&service, event, &refused);
            problem(&service, &visit, &refused)
        }
    };
    cookie::forget_away(&mut response);
    response
}

async fn enter(
    service: &Service,
    visit: &Visit,
    name: &str,
    query: Result<Query<Returned>, QueryRejection>,
    event: &mut Event,
) -> Result<(Secret, Local), Refused> {
    let Query(returned) = query.map_err(|_| Refused::Proof("callback"))?;
    let oidc = &service.oidc;
    let cookie = visit.away.as_ref();
    let Completed {
        user,
        next,
        proven_us,
    } = oidc.complete(name, &returned, cookie, event).await?;
    let proven = Proven {
        uid: user.uid,
        user,
        // The provider's word is not a password that could have been changed.
        password_us: None,
        by: ProvenBy::Provider,
    };
    let agent = visit.agent.clone();
    let opened = service
        .web
        .open_session(proven, agent, Some(proven_us), &visit.source, event);
    let cookie = opened.await?;
    Ok((cookie, Local::parse(&next).unwrap_or_else(Local::account)))
}

fn event(visit: &Visit) -> Event {
    let mut event = Event::new(Sort::Login, visit.source.clone());
    event.action = Some("oidc");
    event.audience = Some("web".into());
    event
}

/// 303 to the provider, which is not told where the browser comes from.
fn sent(begun: &Begun) -> Response {
    let Ok(location) = HeaderValue::from_str(&begun.redirect) else {
        return page::unavailable();
    };
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    let mut response = (StatusCode::SEE_OTHER, headers).into_response();
    cookie::keep_away(&mut response, &begun.cookie, LIFE_S);
    response
}

fn refuse(service: &Service, event: Event, refused: &Refused) {
    if let Refused::Failed(error) = refused {
        let cause = error.source.as_ref().map(tracing::field::display);
        tracing::error!(%error, cause, "nobody could be signed in with a provider");
    }
    service.audit.refused(event, refused.reason());
}

/// The form to sign in, which says that it did not work; of a proof, nobody is
/// told what was wrong with it.
fn problem(service: &Service, visit: &Visit, refused: &Refused) -> Response {
    let (status, text, wait_s) = match refused {
        Refused::Form(_) => {
            let text = "There is no such provider.";
            (StatusCode::NOT_FOUND, text.into(), None)
        }
        Refused::Denied => {
            let text = "You did not let the provider say who you are.";
            (StatusCode::BAD_REQUEST, text.into(), None)
        }
        Refused::Expired | Refused::Proof("state" | "other-browser") => {
            let text = "That took too long, or began in another browser. Try again.";
            (StatusCode::BAD_REQUEST, text.into(), None)
        }
        Refused::Barred(barred) => told(&Refusal::Barred(*barred)),
        Refused::Busy => told(&Refusal::Busy),
        Refused::Throttled(wait_s) => told(&Refusal::Throttled(*wait_s)),
        Refused::Failed(error) => {
            let text = format!("You cannot sign in at the moment. {}", error.part.told());
            (StatusCode::SERVICE_UNAVAILABLE, text, Some(5))
        }
        Refused::Grant
        | Refused::Client
        | Refused::ClientCertificate(_)
        | Refused::ClientGrant
        | Refused::Proof(_)
        | Refused::Password(_)
        | Refused::Possession(_)
        | Refused::Bound(_)
        | Refused::Scope
        | Refused::Audience
        | Refused::ResponseType
        | Refused::Pending
        | Refused::SlowDown
        | Refused::Bearer
        | Refused::Peer => {
            let text = "You cannot sign in here with this account.";
            (StatusCode::FORBIDDEN, text.into(), None)
        }
    };
    let mut response = form(service, visit, &Local::account(), "", status, Some(&text));
    if let Some(wait_s) = wait_s {
        let wait = HeaderValue::from(wait_s);
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}
