//! The certificate of a request's connection.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::certificates::Shown;

/// What the client showed in the handshake of the connection, if it did. No
/// header says anything about it.
#[derive(Debug, Clone)]
pub(super) struct Certificate(pub(super) Option<Shown>);

impl<S: Sync> FromRequestParts<S> for Certificate {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}
