//! What a proven ID token says. Source: OpenID Connect Core 1.0 §2, §3.1.3.6,
//! §3.1.3.7.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha512};

use super::id_token::Reason;
use super::keys::Signed;
use crate::opaque;

/// How far the provider's clock may differ, in seconds.
const SKEW_S: u64 = 60;
/// The oldest ID token, in seconds: as long as it is known which were used.
const OLDEST_S: u64 = 86_400;
/// The longest subject, in bytes. Source: OpenID Connect Core 1.0 §2.
const MAX_SUBJECT: usize = 255;

/// The claims of an ID token with a good signature.
#[derive(Debug)]
pub(super) struct Claims {
    /// The SHA-256 of what is signed.
    pub(super) hash: String,
    pub(super) signed: Signed,
    pub(super) claims: Map<String, Value>,
}

/// What an ID token must say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    /// Who made it.
    pub(super) issuer: &'a str,
    /// The clients that it may be for, and no other beside them.
    pub(super) audience: &'a [String],
    /// What was given to the provider, where something was.
    pub(super) nonce: Option<&'a str>,
    /// The access token that came with it.
    pub(super) access_token: Option<&'a str>,
    /// What time it is, in seconds since the Unix epoch.
    pub(super) now_s: u64,
}

impl Claims {
    /// The claim `name`, where it is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// Whom it is about.
    pub(super) fn subject(&self) -> &str {
        self.text("sub").unwrap_or_default()
    }

    /// When it ends at the latest, in seconds since the Unix epoch.
    pub(super) fn ends_s(&self, now_s: u64) -> u64 {
        let latest = now_s.saturating_add(OLDEST_S);
        self.seconds("exp").map_or(latest, |exp| exp.min(latest))
    }

    /// When the user proved who they are to the provider, as far as it says;
    /// `now_us`, when the token came, where it does not. Both in microseconds
    /// since the Unix epoch. Source: `auth_time`, OpenID Connect Core 1.0 §2.
    pub(super) fn signed_in_us(&self, now_us: i64) -> i64 {
        if !self.claims.contains_key("auth_time") {
            return now_us;
        }
        let at_s = self.seconds("auth_time").unwrap_or(0);
        let at_us = i64::try_from(at_s).unwrap_or(0).saturating_mul(1_000_000);
        at_us.min(now_us)
    }

    /// A time, in whole seconds; fractions are cut off.
    fn seconds(&self, name: &str) -> Option<u64> {
        let value = self.claims.get(name)?;
        let fraction = || value.as_f64().filter(|s| (0.0..1e15).contains(s));
        value.as_u64().or_else(|| fraction().map(|s| s as u64))
    }

    /// See that it says what it must.
    ///
    /// Errors: what it does not.
    pub(super) fn check(&self, expected: &Expected<'_>) -> Result<(), Reason> {
        if self.text("iss") != Some(expected.issuer) {
            return Err("id-token-issuer");
        }
        let subject = self.subject();
        if subject.is_empty() || subject.len() > MAX_SUBJECT {
            return Err("id-token-subject");
        }
        // A token that ends sessions is signed by the same keys.
        if self.claims.contains_key("events") {
            return Err("id-token-form");
        }
        self.check_audience(expected.audience)?;
        self.check_time(expected.now_s)?;
        if let Some(nonce) = expected.nonce
            && !self
                .text("nonce")
                .is_some_and(|told| opaque::same(told, nonce))
        {
            return Err("id-token-nonce");
        }
        match (self.claims.get("at_hash"), expected.access_token) {
            (Some(told), Some(token)) if told.as_str() != Some(&self.hash_of(token)) => {
                Err("id-token-at-hash")
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn check_audience(&self, accepted: &[String]) -> Result<(), Reason> {
        const OTHER: Reason = "id-token-audience";
        let is_accepted = |name: &str| accepted.iter().any(|one| one == name);
        let several = match self.claims.get("aud") {
            Some(Value::String(one)) if is_accepted(one) => false,
            Some(Value::Array(all)) if !all.is_empty() => {
                if !all.iter().all(|one| one.as_str().is_some_and(is_accepted)) {
                    return Err(OTHER);
                }
                all.len() > 1
            }
            Some(_) | None => return Err(OTHER),
        };
        match self.claims.get("azp") {
            Some(party) if !party.as_str().is_some_and(is_accepted) => Err("id-token-azp"),
            None if several => Err("id-token-azp"),
            Some(_) | None => Ok(()),
        }
    }

    fn check_time(&self, now_s: u64) -> Result<(), Reason> {
        const TIME: Reason = "id-token-time";
        let soon = now_s.saturating_add(SKEW_S);
        let ends = self.seconds("exp").ok_or(TIME)?;
        let made = self.seconds("iat").ok_or(TIME)?;
        let begun = match self.claims.get("nbf") {
            Some(_) => self.seconds("nbf").is_some_and(|nbf| nbf <= soon),
            None => true,
        };
        if ends <= now_s {
            return Err("id-token-expired");
        }
        if made > soon || made.saturating_add(OLDEST_S) <= now_s || !begun {
            return Err(TIME);
        }
        Ok(())
    }

    /// The left half of the hash of an access token.
    fn hash_of(&self, token: &str) -> String {
        let half = |hash: &[u8]| {
            let (left, _) = hash.split_at(hash.len() / 2);
            URL_SAFE_NO_PAD.encode(left)
        };
        match self.signed {
            Signed::Rs256 | Signed::Es256 => half(&Sha256::digest(token)),
            Signed::EdDsa => half(&Sha512::digest(token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_S: u64 = 1_790_000_000;

    fn checked(change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), Reason> {
        let claims = json!({
            "iss": "https://id.example.org",
            "sub": "248289761001",
            "aud": "warrant",
            "exp": NOW_S + 300,
            "iat": NOW_S,
            "nonce": "n-0S6",
        });
        let Value::Object(mut claims) = claims else {
            unreachable!()
        };
        change(&mut claims);
        let claims = Claims {
            hash: String::new(),
            signed: Signed::Rs256,
            claims,
        };
        claims.check(&Expected {
            issuer: "https://id.example.org",
            audience: &["warrant".into(), "warrant-cli".into()],
            nonce: Some("n-0S6"),
            access_token: Some("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"),
            now_s: NOW_S,
        })
    }

    fn with(name: &str, value: Value) -> Result<(), Reason> {
        checked(|claims| {
            claims.insert(name.into(), value);
        })
    }

    fn without(name: &str) -> Result<(), Reason> {
        checked(|claims| {
            claims.remove(name);
        })
    }

    #[test]
    fn what_a_provider_says_is_accepted() {
        assert_eq!(checked(|_| {}), Ok(()));
        // The example of OpenID Connect Core 1.0, A.3.
        assert_eq!(with("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ")), Ok(()));
        assert_eq!(with("aud", json!(["warrant"])), Ok(()));
        assert_eq!(with("azp", json!("warrant-cli")), Ok(()));
        assert_eq!(with("nbf", json!(NOW_S + 59)), Ok(()));
        assert_eq!(with("exp", json!(NOW_S as f64 + 1.5)), Ok(()));
        let both = checked(|claims| {
            claims.insert("aud".into(), json!(["warrant", "warrant-cli"]));
            claims.insert("azp".into(), json!("warrant"));
        });
        assert_eq!(both, Ok(()));
    }

    #[test]
    fn t101_every_claim_that_does_not_fit_is_refused() {
        let day = 86_400;
        for (name, value, reason) in [
            ("iss", json!("https://id.example.org/"), "id-token-issuer"),
            ("iss", json!(["https://id.example.org"]), "id-token-issuer"),
            ("sub", json!(""), "id-token-subject"),
            ("sub", json!(248_289), "id-token-subject"),
            ("sub", json!("x".repeat(256)), "id-token-subject"),
            ("aud", json!("other"), "id-token-audience"),
            ("aud", json!([]), "id-token-audience"),
            ("aud", json!(["warrant", "other"]), "id-token-audience"),
            ("aud", json!("warrant "), "id-token-audience"),
            ("aud", json!(["warrant", "warrant-cli"]), "id-token-azp"),
            ("azp", json!("other"), "id-token-azp"),
            ("azp", json!(7), "id-token-azp"),
            ("exp", json!(NOW_S), "id-token-expired"),
            ("exp", json!("9999999999"), "id-token-time"),
            ("exp", json!(-1), "id-token-time"),
            ("iat", json!(NOW_S + 61), "id-token-time"),
            ("iat", json!(NOW_S - day), "id-token-time"),
            ("nbf", json!(NOW_S + 61), "id-token-time"),
            ("nbf", json!("now"), "id-token-time"),
            ("nonce", json!("other"), "id-token-nonce"),
            ("nonce", json!(["n-0S6"]), "id-token-nonce"),
            (
                "at_hash",
                json!("88QmUPtjPfzWtF2AnpK9RQ"),
                "id-token-at-hash",
            ),
            ("at_hash", json!(null), "id-token-at-hash"),
            ("events", json!({}), "id-token-form"),
        ] {
            assert_eq!(with(name, value.clone()), Err(reason), "{name} {value}");
        }
        for (name, reason) in [
            ("iss", "id-token-issuer"),
            ("sub", "id-token-subject"),
            ("aud", "id-token-audience"),
            ("exp", "id-token-time"),
            ("iat", "id-token-time"),
            ("nonce", "id-token-nonce"),
        ] {
            assert_eq!(without(name), Err(reason), "{name}");
        }
    }
}
