//! What outlives the request that it is given for, and what such a request must
//! bring. [`WAYS`] is the one table of it: a request that takes something on a route
//! which is not in the table is refused, so that a new way cannot be added without
//! a row.

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::Fault;
use crate::login::Proven;
use crate::oauth::SignedIn;

/// For how many seconds a sign-in with a provider proves who the user is, where a
/// proof is needed. Such a sign-in cannot be given within the request itself.
pub(crate) const FRESH_S: u64 = 300;

/// What a request must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A proof of the user, given with this very request: a password, the
    /// certificate of the connection, an ID token or a provider's code.
    Proof,
    /// The same, or a browser in which the user signed in with a provider within
    /// [`FRESH_S`].
    ProofOrSignIn,
    /// One of several credentials, by `grant_type`: a proof of the user gives a
    /// session; a code, or a device's code, one that ends with the session that
    /// gave it, unless the user chose otherwise; a refresh token the next tokens of
    /// a session, which ends no later by it; a client's secret a token for itself;
    /// and an access token with the scope `submit` a warrant.
    Grant,
    /// The decision of somebody signed in. What comes of it ends with that
    /// session, unless the user chooses otherwise and gives a proof.
    Decision,
    /// The key, the cookie or the password of what goes on: that ends no later by
    /// it.
    Itself,
    /// Nothing more: nothing that it gives outlives it.
    Nothing,
}

impl Needs {
    /// What it is, in words that follow "only for".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Proof => "a proof of the user that comes with this very request",
            Self::ProofOrSignIn => {
                "a proof that it is you, given with this very form: your password, or a sign-in \
                 with your provider within the last 5 minutes"
            }
            Self::Grant => "what its grant_type names",
            Self::Decision => "the decision of somebody signed in",
            Self::Itself => "what it is given for again",
            Self::Nothing => "any request",
        }
    }
}

/// A way to something that may outlive its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// The path of the route.
    pub(crate) path: &'static str,
    /// What is given, in words.
    pub(crate) gives: &'static str,
    /// What the request must bring.
    pub(crate) needs: Needs,
}

const fn way(path: &'static str, gives: &'static str, needs: Needs) -> Way {
    Way { path, gives, needs }
}

/// The way to a key, for programs.
pub(crate) const KEY: Way = way("/v1/keys", "An API key", Needs::Proof);
/// The way to a key, on a page.
pub(crate) const KEY_ON_PAGE: Way = way("/account/keys", "An API key", Needs::ProofOrSignIn);

/// Every route that takes something, and the one to which providers send browsers
/// back.
pub(crate) const WAYS: [Way; 18] = [
    KEY,
    KEY_ON_PAGE,
    way("/v1/token", "A session", Needs::Proof),
    way("/v1/login/access-token", "A session", Needs::Proof),
    way("/login", "A browser's session", Needs::Proof),
    way(
        "/login/oidc/{name}/callback",
        "A browser's session",
        Needs::Proof,
    ),
    way("/account/password", "A browser's session", Needs::Proof),
    way("/oauth/token", "A session, or a warrant", Needs::Grant),
    way("/oauth/authorize", "A code", Needs::Decision),
    way("/oauth/device", "A device's session", Needs::Decision),
    way(
        "/internal/credential",
        "A token of at most 5 minutes",
        Needs::Itself,
    ),
    way("/oauth/device_authorization", "Nothing", Needs::Nothing),
    way("/oauth/revoke", "Nothing", Needs::Nothing),
    way("/oauth/introspect", "Nothing", Needs::Nothing),
    way("/logout", "Nothing", Needs::Nothing),
    way("/account/sessions", "Nothing", Needs::Nothing),
    way("/account/keys/revoke", "Nothing", Needs::Nothing),
    way("/v1/keys/{id}", "Nothing", Needs::Nothing),
];

/// Refuse what takes something on a route that is not in the table.
pub(crate) async fn only_listed(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = request.extensions().get::<MatchedPath>();
    let listed = path.is_none_or(|path| WAYS.iter().any(|way| way.path == path.as_str()));
    if reads || listed {
        return next.run(request).await;
    }
    tracing::error!(
        path = request.uri().path(),
        "a route is not in the table of ways"
    );
    Fault::new(StatusCode::NOT_FOUND, "Not Found").into_response()
}

/// How long a client or a device that somebody signed in lets in may go on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lasts<'a> {
    /// At most as long as the session that decides.
    WithSession,
    /// Without that session: the user chose so, with this proof.
    ByItself(&'a Proven),
}

impl Lasts<'_> {
    /// The session of `user` with which what they let in ends, if it does. A
    /// proof of somebody else changes nothing.
    pub(crate) fn giver<'a>(&self, user: &'a SignedIn) -> Option<&'a str> {
        match self {
            Self::ByItself(proven) if proven.user.name == user.session.subject => None,
            Self::ByItself(_) | Self::WithSession => Some(&user.session.id),
        }
    }

    /// The same, for the audit trail.
    pub(crate) fn detail(&self, user: &SignedIn) -> Option<String> {
        Some(match (self.giver(user), self) {
            (None, Self::ByItself(proven)) => format!("goes on by itself ({})", proven.by.name()),
            (session, _) => format!("ends with session {}", session.unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of the routes in `source` that take something.
    fn posted(source: &str) -> Vec<&str> {
        let routes = source.split(".route(").skip(1);
        routes
            .filter_map(|call| {
                let path = call.split('"').nth(1)?;
                let posts = call.contains("post(") || call.contains("delete(");
                (posts || path.ends_with("/callback")).then_some(path)
            })
            .collect()
    }

    #[test]
    fn t123_every_route_that_takes_something_is_in_the_table() {
        let sources = [include_str!("http/mod.rs"), include_str!("web/mod.rs")];
        let paths: Vec<_> = sources.iter().flat_map(|source| posted(source)).collect();
        for path in &paths {
            assert!(WAYS.iter().any(|way| way.path == *path), "{path}");
        }
        for way in WAYS {
            assert!(paths.contains(&way.path), "there is no route {}", way.path);
        }
    }

    #[test]
    fn t123_no_session_and_no_token_suffices_for_a_key_or_a_session() {
        for way in WAYS {
            let lasts = way.gives.contains("key") || way.gives.ends_with("session");
            let decided = matches!(
                way.needs,
                Needs::Proof | Needs::ProofOrSignIn | Needs::Decision
            );
            assert!(!lasts || decided, "{way:?}");
        }
    }
}
