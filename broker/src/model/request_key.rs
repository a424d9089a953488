//! Idempotency keys.

/// What a client calls a submission, so that it may send it again and not get
/// another job. Source: draft-ietf-httpapi-idempotency-key-header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The key: 1 to 255 bytes of printable ASCII.
    pub key: String,
    /// The SHA-256 of what is submitted, and by which API, in base64url.
    pub request_sha256: String,
}
