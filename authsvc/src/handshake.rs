//! The login payload of the Flux RESTful client: a JWT (HS256) of
//! `{"user", "pass", "scope": "token"}` under a secret that every client
//! holds. It is an envelope for a password and proves nothing by itself.
//! Existing clients put neither time nor id into it; what a payload does
//! carry of either is enforced.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::config::Handshake;
use crate::secret::Secret;

/// How far the clocks of client and server may differ, in seconds.
const LEEWAY_S: f64 = 30.0;

/// Why a payload is refused; the texts are those of the Flux RESTful server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It is not a payload, not under this secret, not of this time, or was
    /// used before.
    #[error("Could not decode credentials")]
    Undecodable,
    /// A claim is absent or empty.
    #[error("Credentials are missing '{0}'")]
    Missing(&'static str),
    /// The scope is not `token`.
    #[error("Invalid scope")]
    Scope,
}

/// Who wants to log in.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The name, as given.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: Secret,
    /// The answer to what PAM may ask besides. Only this product's own client
    /// sends one.
    pub(crate) code: Option<Secret>,
    /// What to remember so that the payload is not used again.
    pub(crate) once: Option<Once>,
}

/// The mark of a payload that may be used once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Once {
    /// A digest of user and `jti`: of bounded length, and no user can use up
    /// the ids of another.
    pub(crate) id: String,
    /// When the payload is refused for its age anyway, in microseconds.
    pub(crate) ends_us: i64,
}

/// Parameters that matter are `alg` and `typ`; `kid` means nothing here. Any
/// other, `crit` among them, could change what the payload means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: Option<String>,
    #[serde(rename = "kid")]
    _kid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    user: Option<String>,
    pass: Option<Secret>,
    one_time_code: Option<Secret>,
    scope: Option<String>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    jti: Option<String>,
    /// Names whom the payload is for. The handshake knows no audience, so
    /// such a payload is for somebody else. Source: RFC 7519 §4.1.3.
    #[serde(default, deserialize_with = "present")]
    aud: Option<serde_json::Value>,
}

/// A claim that is there must be of its type; `null` is not "absent".
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Read `token` under `secret` at the time `now_us`.
///
/// Errors: [`Refused`]. Source: `POST /v1/token` of the Flux RESTful API;
/// RFC 7515 §5.2, RFC 7519 §7.2.
pub(crate) fn decode(
    token: &str,
    secret: &Secret,
    rules: &Handshake,
    now_us: i64,
) -> Result<Credentials, Refused> {
    let claims = verified_claims(token, secret).ok_or(Refused::Undecodable)?;
    let ends_us = life(&claims, rules, now_us).ok_or(Refused::Undecodable)?;
    let user = given("user", claims.user)?;
    let password = given("pass", claims.pass.map(|pass| pass.expose().to_owned()))?;
    if given("scope", claims.scope)? != "token" {
        return Err(Refused::Scope);
    }
    let once = match (claims.jti, ends_us) {
        (None, _) => None,
        (Some(jti), Some(ends_us)) if !jti.is_empty() => Some(Once {
            id: mark(&user, &jti),
            ends_us,
        }),
        // Without an end it would have to be remembered for ever.
        (Some(_), _) => return Err(Refused::Undecodable),
    };
    Ok(Credentials {
        user,
        password: Secret::new(password),
        code: claims.one_time_code,
        once,
    })
}

/// The claims, once form, header and signature are right.
fn verified_claims(token: &str, secret: &Secret) -> Option<Claims> {
    let (message, signature) = token.rsplit_once('.')?;
    // A dot too many ends up in `claims`, and is no base64.
    let (header, claims) = message.split_once('.')?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let typ_is_jwt = header.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
    if header.alg != "HS256" || !typ_is_jwt {
        return None;
    }
    let key = DecodingKey::from_secret(secret.expose().as_bytes());
    if !crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256).ok()? {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// `None` when the payload is not of this time; else when it ends, in
/// microseconds, if it ever does.
fn life(claims: &Claims, rules: &Handshake, now_us: i64) -> Option<Option<i64>> {
    let now = now_us as f64 / 1e6;
    let ends = [
        claims.exp.map(|exp| exp + LEEWAY_S),
        claims.iat.map(|iat| iat + rules.max_age_s as f64),
    ]
    .into_iter()
    .flatten()
    .reduce(f64::min);
    let begun = |time: Option<f64>| time.is_none_or(|time| time <= now + LEEWAY_S);
    let complete = !rules.strict || (ends.is_some() && claims.jti.is_some());
    let good = claims.aud.is_none()
        && begun(claims.nbf)
        && begun(claims.iat)
        && ends.is_none_or(|ends| now < ends)
        && complete;
    // The cast saturates, which is soon enough.
    good.then(|| ends.map(|ends| (ends * 1e6) as i64))
}

fn given(name: &'static str, value: Option<String>) -> Result<String, Refused> {
    value
        .filter(|value| !value.is_empty())
        .ok_or(Refused::Missing(name))
}

fn mark(user: &str, jti: &str) -> String {
    let mut digest = Sha256::new();
    digest.update((user.len() as u64).to_be_bytes());
    digest.update(user);
    digest.update(jti);
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "the shared secret";
    const NOW_S: i64 = 1_790_000_000;

    fn signed(header: &str, claims: &str, secret: &str) -> String {
        let message = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    fn payload(more: Value) -> String {
        let mut claims = json!({"user": "ann", "pass": "pw", "scope": "token"});
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        signed(
            r#"{"alg":"HS256","typ":"JWT"}"#,
            &claims.to_string(),
            SECRET,
        )
    }

    fn read(token: &str) -> Result<Credentials, Refused> {
        let rules = Handshake::default();
        decode(token, &Secret::new(SECRET), &rules, NOW_S * 1_000_000)
    }

    #[test]
    fn the_payload_of_existing_clients_is_read() {
        let credentials = read(&payload(json!({}))).unwrap();
        assert_eq!(credentials.user, "ann");
        assert_eq!(credentials.password.expose(), "pw");
        assert_eq!(credentials.once, None);
    }

    #[test]
    fn only_hs256_and_a_plain_header_are_read() {
        let claims = r#"{"user":"ann","pass":"pw","scope":"token"}"#;
        let headers = [
            r#"{"alg":"none"}"#,
            r#"{"alg":"NONE"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"EdDSA"}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":null}"#,
            r#"{"typ":"JWT"}"#,
            r#"{}"#,
            r#"[]"#,
            r#""#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","typ":"at+jwt"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","b64":false}"#,
            r#"{"alg":"HS256","zip":"DEF"}"#,
            r#"{"alg":"HS256","jku":"http://h/"}"#,
            r#"{"alg":"HS256","jwk":{}}"#,
            r#"{"alg":"HS256","x5u":"http://h/"}"#,
            r#"{"alg":"HS256","x5c":[]}"#,
        ];
        for header in headers {
            let refused = read(&signed(header, claims, SECRET)).unwrap_err();
            assert_eq!(refused, Refused::Undecodable, "{header}");
        }
        assert!(
            read(&signed(
                r#"{"typ":"jwt","alg":"HS256","kid":"../x"}"#,
                claims,
                SECRET
            ))
            .is_ok()
        );
    }

    #[test]
    fn a_token_of_another_form_is_refused() {
        let good = payload(json!({}));
        let (message, signature) = good.rsplit_once('.').unwrap();
        let other = payload(json!({"user": "bob"}));
        let (other, _) = other.rsplit_once('.').unwrap();
        let tokens = [
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
            "x".into(),
            message.into(),
            format!("{good}."),
            format!("{good}.."),
            format!(".{good}"),
            format!("{message}."),
            format!("{message}..{signature}"),
            format!("{good}.{signature}"),
            format!("{good}="),
            format!("{message}.{signature} "),
            format!("{other}.{signature}"),
            format!("{message}.{}", &signature[..signature.len() - 1]),
            good.replace('.', ".\n"),
            format!("{message}.{}", "A".repeat(43)),
        ];
        for token in tokens {
            assert_eq!(read(&token).unwrap_err(), Refused::Undecodable, "{token:?}");
        }
    }

    #[test]
    fn another_secret_is_refused() {
        let claims = r#"{"user":"ann","pass":"pw","scope":"token"}"#;
        for secret in ["", "the shared secre", "the shared secret\n"] {
            let token = signed(r#"{"alg":"HS256"}"#, claims, secret);
            assert_eq!(
                read(&token).unwrap_err(),
                Refused::Undecodable,
                "{secret:?}"
            );
        }
    }

    #[test]
    fn an_absent_and_an_empty_claim_are_missing() {
        for claim in ["user", "pass", "scope"] {
            for value in [json!(null), json!("")] {
                let refused = read(&payload(json!({claim: value}))).unwrap_err();
                assert_eq!(refused, Refused::Missing(claim));
                assert_eq!(
                    refused.to_string(),
                    format!("Credentials are missing '{claim}'")
                );
            }
        }
        assert_eq!(
            read(&payload(json!({"scope": "refresh"}))).unwrap_err(),
            Refused::Scope
        );
    }

    #[test]
    fn a_claim_of_the_wrong_type_is_refused_and_never_taken_for_absent() {
        let wrong = [
            json!({"exp": "9999999999"}),
            json!({"exp": null}),
            json!({"exp": true}),
            json!({"exp": [NOW_S + 60]}),
            json!({"nbf": "1"}),
            json!({"nbf": null}),
            json!({"iat": "1"}),
            json!({"iat": null}),
            json!({"iat": {}}),
            json!({"iat": NOW_S, "jti": 7}),
            json!({"iat": NOW_S, "jti": null}),
            json!({"iat": NOW_S, "jti": ""}),
            json!({"user": 1}),
            json!({"pass": ["pw"]}),
            json!({"scope": {"token": true}}),
            json!({"aud": "x"}),
            json!({"aud": null}),
        ];
        for claims in wrong {
            let refused = read(&payload(claims.clone())).unwrap_err();
            assert_eq!(refused, Refused::Undecodable, "{claims}");
        }
    }

    #[test]
    fn claims_given_twice_or_out_of_range_are_refused() {
        for claims in [
            r#"{"user":"ann","user":"bob","pass":"pw","scope":"token"}"#,
            r#"{"user":"ann","pass":"pw","scope":"token","exp":9999999999,"exp":1}"#,
            r#"{"user":"ann","pass":"pw","scope":"token","exp":1e999}"#,
            r#"{"user":"ann","pass":"pw","scope":"token","exp":NaN}"#,
            r#"["ann"]"#,
        ] {
            let token = signed(r#"{"alg":"HS256"}"#, claims, SECRET);
            assert_eq!(read(&token).unwrap_err(), Refused::Undecodable, "{claims}");
        }
    }

    #[test]
    fn a_time_that_is_given_is_enforced_with_half_a_minute_of_leeway() {
        let cases = [
            (json!({"exp": NOW_S - 29}), true),
            (json!({"exp": NOW_S - 31}), false),
            (json!({"exp": -1}), false),
            (json!({"exp": NOW_S as f64 + 0.5}), true),
            (json!({"nbf": NOW_S + 29}), true),
            (json!({"nbf": NOW_S + 31}), false),
            (json!({"iat": NOW_S}), true),
            (json!({"iat": NOW_S + 31}), false),
            (json!({"iat": NOW_S - 299}), true),
            (json!({"iat": NOW_S - 301}), false),
            (json!({"iat": NOW_S - 301, "exp": NOW_S + 60}), false),
        ];
        for (claims, good) in cases {
            assert_eq!(read(&payload(claims.clone())).is_ok(), good, "{claims}");
        }
    }

    #[test]
    fn an_id_lasts_as_long_as_its_payload_and_belongs_to_its_user() {
        let once = |claims| read(&payload(claims)).unwrap().once.unwrap();
        let a = once(json!({"jti": "1", "exp": NOW_S + 60}));
        assert_eq!(a.ends_us, (NOW_S + 90) * 1_000_000);
        let b = once(json!({"jti": "1", "iat": NOW_S - 10, "exp": NOW_S + 900}));
        assert_eq!(b.ends_us, (NOW_S + 290) * 1_000_000);
        assert_eq!(a.id, b.id);
        assert_ne!(
            a.id,
            once(json!({"jti": "1", "user": "bob", "exp": NOW_S + 60})).id
        );
        assert_ne!(a.id, once(json!({"jti": "2", "exp": NOW_S + 60})).id);
        assert_eq!(
            once(json!({"jti": "x".repeat(10_000), "iat": NOW_S}))
                .id
                .len(),
            43
        );
    }

    #[test]
    fn an_id_without_an_end_is_refused() {
        assert_eq!(
            read(&payload(json!({"jti": "1"}))).unwrap_err(),
            Refused::Undecodable
        );
    }

    #[test]
    fn the_strict_switch_wants_a_time_and_an_id() {
        let rules = Handshake {
            strict: true,
            ..Handshake::default()
        };
        let read = |claims| {
            decode(
                &payload(claims),
                &Secret::new(SECRET),
                &rules,
                NOW_S * 1_000_000,
            )
            .is_ok()
        };
        assert!(!read(json!({})));
        assert!(!read(json!({"iat": NOW_S})));
        assert!(!read(json!({"jti": "1"})));
        assert!(read(json!({"iat": NOW_S, "jti": "1"})));
        assert!(read(json!({"exp": NOW_S, "jti": "1"})));
    }
}
