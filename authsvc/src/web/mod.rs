//! The pages on which people sign in with a browser, see where they are signed
//! in, and decide about clients and devices. They need no script and nothing
//! from elsewhere.
//!
//! A browser shows a cookie; whatever changes anything needs besides a token
//! that is bound to it, and must come from a page of this server's own.

#![allow(
    clippy::result_large_err,
    reason = "what is refused is answered with a page"
)]

mod account;
mod agent;
mod authorize;
mod basic;
mod cookie;
mod csrf;
mod device;
mod keys;
mod local;
pub(crate) mod page;
mod password;
mod proof;
mod provider;
mod session;
mod sign_in;
mod visit;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use warrant_api::scope::{Scope, Scopes};
use warrant_door::origin::Origin;

pub(crate) use authorize::{decide_authorize, show_authorize};
pub(crate) use basic::read as read_basic;
pub(crate) use device::{decide_device, show_device};
pub(crate) use session::NotSignedIn;

use crate::config;
use crate::error::{Error, Result};
use crate::http::Service;
use crate::login::Login;

/// What the pages work with.
#[derive(Debug)]
pub(crate) struct Web {
    /// The users, their sessions, the audit trail.
    login: Arc<Login>,
    /// The settings.
    config: config::Web,
    /// Where the pages are.
    origin: Origin,
    /// Ways to sign in besides a name and a password.
    ways: Vec<Way>,
}

/// A way to sign in besides a name and a password.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// What it is called, for people.
    pub(crate) label: String,
    /// The path where it begins; it is asked for with `next`, where to go on
    /// in the end.
    pub(crate) path: String,
}

impl Web {
    /// Pages at `url`, of users that `login` knows.
    ///
    /// Errors: the URL is none that a browser can ask for.
    pub(crate) fn new(
        login: Arc<Login>,
        config: config::Web,
        url: &str,
        ways: Vec<Way>,
    ) -> Result<Self> {
        let none = || Error::invalid("oauth.url: an http or https URL with a host is needed");
        let origin = Origin::of_url(url).ok_or_else(none)?;
        if !origin.is_private() {
            tracing::warn!(
                "oauth.url is not https: nobody can sign in with a browser, for passwords would \
                 travel in the clear"
            );
        }
        Ok(Self {
            login,
            config,
            origin,
            ways,
        })
    }

    /// The page on which people make keys, in words, where there is one.
    pub(crate) fn account_url(&self) -> Option<String> {
        let page = format!("the form on {}/account", self.origin.as_str());
        self.origin.is_private().then_some(page)
    }
}

/// The pages, but for those that programs use as well.
pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/login", get(sign_in::show).post(sign_in::sign_in))
        .route("/login/oidc/{name}", get(provider::begin))
        .route("/login/oidc/{name}/callback", get(provider::complete))
        .route("/logout", post(account::sign_out))
        .route("/account", get(account::show))
        .route("/account/sessions", post(account::end_sessions))
        .route("/account/keys", post(keys::create))
        .route("/account/keys/revoke", post(keys::revoke))
        .route("/account/password", post(password::change))
}

/// What each scope means, for people.
fn in_words(scopes: Scopes) -> Vec<&'static str> {
    let all = Scope::ALL.into_iter();
    let given = all.filter(|scope| scopes.has(*scope));
    given.map(words).collect()
}

fn words(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "see jobs, what they write, and the machines",
        Scope::Submit => "submit jobs",
        Scope::Control => "cancel jobs and manage API keys",
        Scope::Admin => "all else that your role allows: the jobs of others, the service itself",
    }
}
