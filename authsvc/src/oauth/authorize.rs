//! A user lets a client have tokens: the first half of the code flow. Source:
//! RFC 6749 §4.1, RFC 7636, RFC 9207, RFC 9700 §2.1.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use warrant_api::oauth::AuthorizeRequest;
use warrant_api::scope::Scopes;

use super::{Client, Grant, OAuth, Refused, SignedIn, client, redirect};
use crate::audit::Sort;
use crate::clock;
use crate::lasting::Lasts;
use crate::opaque;
use crate::sessions::{later, within};
use crate::source::Source;
use crate::store::codes::{self, Code};
use crate::store::{clients, sessions};

/// How long a code is good, in seconds.
const LIFE_S: u64 = 60;
/// The longest `state`, in bytes.
const LONGEST_STATE: usize = 1024;

/// A request for a code that may be put to the user.
#[derive(Debug)]
pub(crate) struct Request {
    /// Who asks.
    pub(crate) client: Client,
    /// What it asks for; all that it and the user may have if `None`.
    pub(crate) scopes: Option<Scopes>,
    redirect_uri: String,
    state: String,
    challenge: String,
}

/// Why a request cannot be put to the user.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// Nobody knows whose it is: only the user may be told.
    Lost(Refused),
    /// The client may be told, here.
    Told {
        /// Why.
        refused: Refused,
        /// Where to send the user with the answer.
        redirect: String,
    },
}

impl<E: Into<Refused>> From<E> for Unfit {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// Whether `asked` may be put to a user. Where client and address do not fit
/// together, nothing is ever sent to that address.
///
/// Errors: [`Unfit`].
pub(crate) async fn check(oauth: &OAuth, asked: &AuthorizeRequest) -> Result<Request, Unfit> {
    let id = asked.client_id.as_deref().unwrap_or_default();
    let client = client::find(&oauth.db, id).await.map_err(Refused::from)?;
    let client = client.ok_or(Refused::Form("client_id: there is no such client"))?;
    let redirect_uri = asked.redirect_uri.clone().unwrap_or_default();
    if !redirect::is_registered(&redirect_uri, &client.redirect_uris) {
        let what = "redirect_uri: not one that was registered for this client";
        return Err(Unfit::Lost(Refused::Form(what)));
    }
    let state = asked.state.clone().unwrap_or_default();
    let checked = fit(asked, &client, &state);
    match checked {
        Ok((scopes, challenge)) => Ok(Request {
            client,
            scopes,
            redirect_uri,
            state,
            challenge,
        }),
        Err(refused) => Err(Unfit::Told {
            redirect: told(oauth, &refused, &redirect_uri, &state),
            refused,
        }),
    }
}

fn fit(
    asked: &AuthorizeRequest,
    client: &Client,
    state: &str,
) -> Result<(Option<Scopes>, String), Refused> {
    if state.is_empty() || state.len() > LONGEST_STATE {
        return Err(Refused::Form("state: 1 to 1024 bytes are needed"));
    }
    if asked.response_type.as_deref() != Some("code") {
        return Err(Refused::ResponseType);
    }
    if !client.may(Grant::AuthorizationCode) {
        return Err(Refused::ClientGrant);
    }
    if asked.code_challenge_method.as_deref() != Some("S256") {
        return Err(Refused::Form("code_challenge_method: S256 is needed"));
    }
    let challenge = asked.code_challenge.clone().unwrap_or_default();
    let digest = URL_SAFE_NO_PAD.decode(&challenge);
    if !digest.is_ok_and(|digest| digest.len() == 32) {
        return Err(Refused::Form(
            "code_challenge: a SHA-256 in base64url is needed",
        ));
    }
    let scopes = scopes(asked.scope.as_deref())?;
    if scopes.is_some_and(|scopes| !scopes.within(client.scopes)) {
        return Err(Refused::Scope);
    }
    Ok((scopes, challenge))
}

/// The scopes that `text` asks for; `None` where it asks for none.
///
/// Errors: there is no such scope.
pub(crate) fn scopes(text: Option<&str>) -> Result<Option<Scopes>, Refused> {
    let scopes: Scopes = text
        .unwrap_or_default()
        .parse()
        .map_err(|_| Refused::Scope)?;
    Ok(Some(scopes).filter(|scopes| !scopes.is_empty()))
}

/// The client's address with the error in its query.
fn told(oauth: &OAuth, refused: &Refused, redirect_uri: &str, state: &str) -> String {
    let mut fields = vec![
        ("error", refused.code()),
        ("error_description", refused.text()),
        ("iss", &oauth.issuer),
    ];
    if !state.is_empty() && state.len() <= LONGEST_STATE {
        fields.push(("state", state));
    }
    redirect::with(redirect_uri, &fields)
}

/// Tell the client of `request` that it is `refused`.
pub(crate) fn refuse(oauth: &OAuth, request: &Request, refused: Refused) -> Unfit {
    Unfit::Told {
        redirect: told(oauth, &refused, &request.redirect_uri, &request.state),
        refused,
    }
}

/// Let the client of `request` have tokens of `user`: the address to send the
/// user to, with a code for the client in it. Nobody gives more than the token
/// may be used for with which it is given, nor for longer than `lasts` says.
///
/// Errors: [`Unfit`].
pub(crate) async fn grant(
    oauth: &OAuth,
    request: &Request,
    user: &SignedIn,
    lasts: Lasts<'_>,
    source: &Source,
) -> Result<String, Unfit> {
    let most = request.client.scopes.and(user.scopes);
    let Some(scopes) = within(request.scopes, most, user.session.role) else {
        return Err(refuse(oauth, request, Refused::Scope));
    };
    let place = oauth.audit.place().map_err(Refused::from)?;
    let now_us = clock::now_us();
    let (code, hash) = opaque::make(opaque::CODE).map_err(Refused::from)?;
    let mut tx = oauth.db.begin().await?;
    // Whoever ends the session, or the client, meanwhile finds the code.
    if !clients::hold(&mut tx, &request.client.id).await? {
        return Err(Unfit::Lost(Refused::Client));
    }
    let held = sessions::hold(&mut tx, &user.session.id, now_us).await?;
    held.ok_or(Refused::Bearer)?;
    let row = Code {
        hash,
        client_id: request.client.id.clone(),
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
        subject: user.session.subject.clone(),
        scopes: scopes.to_string(),
        expires_us: later(now_us, LIFE_S),
        used_us: None,
        session_id: None,
        giver_id: lasts.giver(user).map(str::to_owned),
    };
    codes::insert(&mut tx, &row).await?;
    tx.commit().await?;
    let mut event = OAuth::event(Sort::Authorize, source, Some(&user.session.subject));
    event.uid = user.session.uid;
    event.audience = Some(request.client.id.clone());
    event.detail = lasts.detail(user);
    place.granted(event);
    let fields = [
        ("code", code.expose()),
        ("state", &request.state),
        ("iss", &oauth.issuer),
    ];
    Ok(redirect::with(&request.redirect_uri, &fields))
}
