//! What a request's head shows besides an access token: a proof that the key
//! is held to which the token is bound. Source: RFC 9449 §7.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use warrant_dpop::{HEADER, NONCE_HEADER, Refused, SCHEME};

use super::Service;
use crate::dpop::KeyProof;
use crate::secret::Secret;

/// An access token, as a head shows it.
pub(super) struct Shown {
    /// The token.
    pub(super) token: Secret,
    /// Whether it is shown as one that is bound to a key.
    bound: bool,
}

/// The access token in `headers`; `None` where there is none, or more than one.
pub(super) fn shown(headers: &HeaderMap) -> Option<Shown> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let bound = scheme.eq_ignore_ascii_case(SCHEME);
    (bound || scheme.eq_ignore_ascii_case("bearer")).then(|| Shown {
        token: Secret::new(token.trim()),
        bound,
    })
}

impl Shown {
    /// See that the token is shown as it must be: one that is bound to the key
    /// `jkt` with a proof of that key, for this request; any other without. The
    /// proof still has to be used.
    ///
    /// Errors: it is not; [`Refused::Missing`] where it is shown as if it were
    /// the other sort.
    pub(super) fn judge(
        &self,
        service: &Service,
        headers: &HeaderMap,
        method: &str,
        path: &str,
        jkt: Option<&str>,
    ) -> Result<Option<KeyProof>, Refused> {
        let jkt = match (self.bound, jkt) {
            (false, None) => return Ok(None),
            (true, Some(jkt)) => jkt,
            (false, Some(_)) | (true, None) => return Err(Refused::Missing),
        };
        let token = Some(self.token.expose());
        let proof = service.proofs.check(headers, method, path, token)?;
        let proof = proof.ok_or(Refused::Missing)?;
        if !crate::opaque::same(&proof.jkt, jkt) {
            return Err(Refused::OtherKey);
        }
        Ok(Some(proof))
    }
}

/// Tell whoever proves something the nonce that the next proof must hold,
/// where one is needed. Source: RFC 9449 §8.2.
pub(super) async fn with_nonce(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let proves = request.headers().contains_key(HEADER);
    let mut response = next.run(request).await;
    let nonce = service.proofs.nonce().filter(|_| proves);
    if let Some(nonce) = nonce.and_then(|nonce| HeaderValue::from_str(&nonce).ok()) {
        let name = HeaderName::from_static(NONCE_HEADER);
        response.headers_mut().insert(name, nonce);
    }
    response
}
