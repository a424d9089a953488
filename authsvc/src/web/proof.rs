//! Proof of who somebody is, given for one request by whoever is signed in with a
//! browser: the password in the form, or a sign-in with a provider moments ago.

use std::sync::Arc;

use axum::http::StatusCode;

use super::local::Local;
use super::visit::{Visit, Visitor};
use crate::clock;
use crate::http::Service;
use crate::lasting::{FRESH_S, KEY_ON_PAGE};
use crate::login::{Attempt, Confirmed, Proven, ProvenBy, Refusal};
use crate::secret::Secret;
use crate::sessions::later;

/// What the field `lasts` of a form says where something shall go on without the
/// session of the browser.
pub(super) const BY_ITSELF: &str = "own";

/// What a form needs to ask for a proof.
pub(super) struct Asked {
    /// Whether the user signed in with a provider moments ago.
    pub(super) fresh: bool,
    /// Whether a password may be typed in.
    pub(super) passwords: bool,
    /// Whether there is no form without one.
    pub(super) required: bool,
    /// What the password is asked with.
    pub(super) label: &'static str,
    /// What goes on without the session of the browser goes on until then.
    pub(super) own: String,
    /// Providers to sign in with once more.
    pub(super) again: Vec<Again>,
}

/// A way to prove oneself again.
pub(super) struct Again {
    /// Where it begins.
    pub(super) href: String,
    /// What it is called.
    pub(super) label: String,
}

impl Visitor {
    /// Whether a provider had the user sign in so lately that nothing else is
    /// needed.
    pub(super) fn is_fresh(&self) -> bool {
        let fresh = |at_us: i64| clock::now_us() < later(at_us, FRESH_S);
        self.proven_us.is_some_and(fresh)
    }
}

impl Asked {
    /// For a form that cannot be sent without a proof: of what goes on until `own`.
    pub(super) fn always(service: &Service, visitor: &Visitor, next: &Local, own: String) -> Self {
        let ways = service.web.ways.iter().map(|way| Again {
            href: format!("{}&fresh=yes", next.after(&way.path)),
            label: way.label.clone(),
        });
        let again: Vec<_> = ways.collect();
        Self {
            fresh: visitor.is_fresh(),
            passwords: service.password_login,
            required: again.is_empty(),
            label: "Your password",
            own,
            again,
        }
    }

    /// For a form that needs a proof where something shall go on until `own`.
    pub(super) fn for_own(service: &Service, visitor: &Visitor, next: &Local, own: String) -> Self {
        Self {
            required: false,
            label: "Your password, for the second choice",
            ..Self::always(service, visitor, next, own)
        }
    }
}

/// For how long what `visitor` lets in with a form shall go on: by itself where
/// `lasts` says so, with the proof in the form.
///
/// Errors: there is no such proof.
pub(super) async fn chosen(
    service: &Arc<Service>,
    visit: &Visit,
    visitor: &Visitor,
    lasts: &str,
    password: Secret,
) -> Result<Option<Proven>, Unproven> {
    if lasts != BY_ITSELF {
        return Ok(None);
    }
    let proven = prove(service, visit, visitor, password, "goes-on").await?;
    Ok(Some(proven))
}

/// The proof of `visitor`: `password`, where one was typed in, else the sign-in
/// with a provider. `for_what` is one stable word.
///
/// Errors: the password is wrong, or there is no proof.
pub(super) async fn prove(
    service: &Arc<Service>,
    visit: &Visit,
    visitor: &Visitor,
    password: Secret,
    for_what: &'static str,
) -> Result<Proven, Unproven> {
    let subject = &visitor.user.session.subject;
    if password.expose().is_empty() {
        if !visitor.is_fresh() {
            return Err(Unproven::Missing);
        }
        let standing = service.login.sessions.directory.standing(subject).await;
        let user = standing.map_err(|error| Unproven::Refused(error.into()))?;
        let user = user.map_err(|wrong| Unproven::Refused(wrong.into()))?;
        return Ok(Proven {
            uid: user.uid,
            user,
            password_us: None,
            by: ProvenBy::Provider,
        });
    }
    let attempt = Attempt {
        user: subject.clone(),
        password,
        code: None,
        once: None,
        asked: Confirmed { audience: for_what },
        source: visit.source.clone(),
    };
    let proven = service.login.clone().judge(attempt).await;
    proven.map_err(Unproven::Refused)
}

/// Why there is no proof.
#[derive(Debug)]
pub(super) enum Unproven {
    /// None was given.
    Missing,
    /// What was given does not count.
    Refused(Refusal),
}

impl Unproven {
    /// The reason for people.
    pub(super) fn told(&self) -> (StatusCode, String, Option<u64>) {
        match self {
            Self::Missing => (
                StatusCode::FORBIDDEN,
                format!("This takes {}.", KEY_ON_PAGE.needs.words()),
                None,
            ),
            Self::Refused(Refusal::Wrong(_)) => (
                StatusCode::BAD_REQUEST,
                "The password is another one.".into(),
                None,
            ),
            Self::Refused(refusal) => super::sign_in::told(refusal),
        }
    }
}
