//! The login payload of the existing Python clients: a JWT, HS256, under the
//! secret that server and clients share.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// `user` and `password`, encoded as the clients do.
pub fn payload(user: &str, password: &str, secret: &str) -> String {
    let claims = json!({"user": user, "pass": password, "scope": "token"});
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims, secret)
}

/// A JWT with this header and these claims, signed with HMAC-SHA256 whatever
/// the header says.
pub fn signed(header: &Value, claims: &Value, secret: impl AsRef<[u8]>) -> String {
    let text = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_ref()).unwrap();
    mac.update(text.as_bytes());
    format!(
        "{text}.{}",
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    )
}

/// One part of a JWT.
pub fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
