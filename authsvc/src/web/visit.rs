//! A browser's request, as far as every page needs it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::rejection::FormRejection;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use warrant_door::origin::Sender;

use super::session::NotSignedIn;
use super::{agent, cookie, csrf, page};
use crate::audit::{Event, Sort};
use crate::config::Grants;
use crate::http::Service;
use crate::oauth::SignedIn;
use crate::opaque;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::source::Source;

/// A browser's request.
#[derive(Debug)]
pub(crate) struct Visit {
    /// Where it comes from.
    pub(super) source: Source,
    /// The browser, in a few words.
    pub(super) agent: String,
    /// The cookie of a browser that was given the form to sign in.
    pub(super) before: Option<Secret>,
    /// The cookie of a browser that was sent to a provider.
    pub(super) away: Option<Secret>,
    /// Whoever is signed in.
    pub(super) visitor: Option<Visitor>,
    sender: Sender,
}

/// Somebody who is signed in with a browser.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// Who, and since when.
    pub(super) user: SignedIn,
    /// What must come with whatever changes something.
    pub(super) csrf: String,
    /// When a provider had the user prove who they are, where one did.
    pub(super) proven_us: Option<i64>,
}

impl FromRequestParts<Arc<Service>> for Visit {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, Response> {
        let web = &service.web;
        let peer = Extension::<Peer>::from_request_parts(parts, service).await;
        let Ok(Extension(peer)) = peer else {
            return Err(page::unavailable());
        };
        let signs_in = service.password_login || !web.ways.is_empty();
        if !signs_in || !may_be_shown(service, peer) {
            return Err(page::refusal(
                StatusCode::NOT_FOUND,
                "Nobody signs in here.",
            ));
        }
        if !web.origin.is_private() {
            let text = "People can sign in here over https alone, which is not set up.";
            return Err(page::refusal(StatusCode::FORBIDDEN, text));
        }
        let source = Source::from_request_parts(parts, service).await;
        let source = source.map_err(IntoResponse::into_response)?;
        let headers = &parts.headers;
        let visitor = match cookie::session(headers) {
            Some(cookie) => find(service, &cookie).await?,
            None => None,
        };
        let agent = headers.get(header::USER_AGENT);
        Ok(Self {
            source,
            agent: agent::short(agent.and_then(|agent| agent.to_str().ok())),
            before: cookie::before(headers),
            away: cookie::away(headers),
            visitor,
            sender: web.origin.sender(headers),
        })
    }
}

/// Whether pages are for this peer: where clients get their own warrants, the
/// broker must not decide for them.
fn may_be_shown(service: &Service, peer: Peer) -> bool {
    match &service.warrants {
        Some(warrants) if warrants.grants == Grants::Client => warrants.gives_to_clients(peer),
        Some(_) | None => true,
    }
}

async fn find(service: &Service, cookie: &Secret) -> Result<Option<Visitor>, Response> {
    match service.web.find_session(cookie).await {
        Ok((session, proven_us)) => Ok(Some(Visitor {
            proven_us,
            user: SignedIn {
                scopes: session.scopes,
                jkt: None,
                session,
            },
            csrf: csrf::token(cookie, csrf::Purpose::Session),
        })),
        Err(NotSignedIn::No(_)) => Ok(None),
        Err(NotSignedIn::Failed(error)) => {
            let cause = error.source.as_ref().map(tracing::field::display);
            tracing::error!(%error, cause, "a session could not be looked up");
            Err(page::unavailable())
        }
    }
}

impl Visit {
    /// What is known of the visit for the audit trail: `action` is one stable
    /// word.
    pub(super) fn event(&self, action: &'static str) -> Event {
        let mut event = Event::new(Sort::Web, self.source.clone());
        event.action = Some(action);
        if let Some(visitor) = &self.visitor {
            event.subject = Some(visitor.user.session.subject.clone());
            event.uid = visitor.user.session.uid;
        }
        event
    }

    /// Whoever is signed in and sent a form with the token `token`: it came
    /// from one of our own pages, which this very browser was given.
    ///
    /// Errors: the page that says what is wrong.
    pub(super) fn changes(
        &self,
        service: &Service,
        action: &'static str,
        token: &str,
    ) -> Result<&Visitor, Response> {
        self.is_ours(service, action)?;
        let Some(visitor) = &self.visitor else {
            return Err(page::see_other("/login"));
        };
        if !opaque::same(token, &visitor.csrf) {
            service.audit.refused(self.event(action), "csrf");
            let text = "The page was made for another session. Open it again, and try again.";
            return Err(page::refusal(StatusCode::FORBIDDEN, text));
        }
        Ok(visitor)
    }

    /// See that a form was sent by a page of this server.
    ///
    /// Errors: the page that says that it was not.
    pub(super) fn is_ours(&self, service: &Service, action: &'static str) -> Result<(), Response> {
        if self.sender == Sender::Own {
            return Ok(());
        }
        service.audit.refused(self.event(action), "origin");
        let text = format!(
            "The form was not sent by a page of this server, which is at {}.",
            service.web.origin.as_str()
        );
        Err(page::refusal(StatusCode::FORBIDDEN, &text))
    }
}

/// The fields of a form.
///
/// Errors: the page that says that it is none.
pub(super) fn form<T>(form: Result<Form<T>, FormRejection>) -> Result<T, Response> {
    form.map(|Form(form)| form).map_err(|rejection| {
        let status = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        page::refusal(status, "The form is not whole, or not one of ours.")
    })
}

/// Whether a request is a browser's for a page, not a program's: it takes HTML,
/// and where it sends something, that is a form.
pub(super) fn is_for_page(parts: &Parts) -> bool {
    let has = |name, text: &str| {
        let value = parts.headers.get(name);
        let value = value.and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains(text))
    };
    let form = "application/x-www-form-urlencoded";
    has(header::ACCEPT, "text/html")
        && (parts.method == Method::GET || has(header::CONTENT_TYPE, form))
}
