//! From a user's name and password to an access token, as the Flux RESTful
//! API asks for it: a request is answered with 401, the client exchanges its
//! encoded credentials for a token, and repeats the request.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use ureq::http::HeaderMap;
use ureq::http::header::WWW_AUTHENTICATE;
use warrant_dpop::SCHEME;

use crate::clock::now_s;
use crate::failure::Failure;
use crate::prompt::{MAX_PASSWORD_BYTES, ask_password};
use crate::secret::Secret;
use crate::server::Server;
use crate::terminal::visible;

/// Who the user is, and how that is proved.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The user's name.
    pub(crate) user: String,
    /// Where the password comes from.
    pub(crate) password: Password,
    /// The secret shared with the server: the credentials are then encoded
    /// with it, as the Flux clients do, instead of sent as a form.
    pub(crate) secret_key: Option<Secret>,
}

/// Where a password comes from. It is read only when the server asks.
#[derive(Debug)]
pub(crate) enum Password {
    /// From the environment.
    Known(Secret),
    /// From a file; `-` is standard input.
    File(PathBuf),
    /// From the person at the terminal.
    Ask,
}

impl Credentials {
    /// Get hold of the password.
    pub(crate) fn password(&self, server: &Server) -> Result<Secret, Failure> {
        match &self.password {
            Password::Known(password) => Ok(password.clone()),
            Password::File(path) => read_password(path),
            Password::Ask => ask_password(&self.user, &server.to_string()),
        }
    }
}

impl Password {
    /// Whether each command can have it without asking anybody: then a session
    /// opened for it is kept.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::File(path) => path != Path::new("-"),
            Self::Ask => false,
        }
    }

    /// Whether it can be had without asking anybody.
    pub(crate) fn is_at_hand(&self) -> bool {
        match self {
            Self::Known(_) | Self::File(_) => true,
            Self::Ask => false,
        }
    }
}

fn read_password(path: &Path) -> Result<Secret, Failure> {
    let trouble = |why: String| Failure::Refused(format!("the password file {path:?} {why}"));
    let unreadable = |error| trouble(format!("cannot be read: {error}"));
    let mut text = String::new();
    let limit = MAX_PASSWORD_BYTES as u64 + 2;
    if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        File::open(path)
            .map_err(unreadable)?
            .take(limit)
            .read_to_string(&mut text)
    }
    .map_err(unreadable)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    match password.len() {
        0 => Err(trouble("is empty".to_owned())),
        length if length > MAX_PASSWORD_BYTES => Err(trouble(format!(
            "holds more than {MAX_PASSWORD_BYTES} bytes"
        ))),
        _ => Ok(Secret::new(password)),
    }
}

/// The payload of the Flux handshake: a JSON Web Token over the user's name
/// and password (and a one-time code, where there is one), signed with HS256 under the shared secret. It also carries a
/// time and an id, so that a server which looks at them takes it only once.
/// Source: the Flux RESTful API guide; RFC 7519.
///
/// Errors: `Refused` when the machine gives no random numbers.
pub(crate) fn handshake(
    user: &str,
    password: &Secret,
    code: Option<&Secret>,
    key: &Secret,
) -> Result<Secret, Failure> {
    let now = now_s();
    let mut payload = serde_json::json!({
        "user": user,
        "pass": password.reveal(),
        "scope": "token",
        "iat": now,
        "exp": now + HANDSHAKE_LIFE_S,
        "jti": random_text::<16>()?,
    });
    if let Some(code) = code {
        payload["one_time_code"] = code.reveal().into();
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes())
        .map_err(|_| Failure::Usage("FLUX_SECRET_KEY cannot be used as a key".to_owned()))?;
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    Ok(Secret::new(format!("{signed}.{signature}")))
}

/// How long a handshake payload may be used, in seconds.
const HANDSHAKE_LIFE_S: u64 = 120;

/// `BYTES` random bytes as base64url text.
pub(crate) fn random_text<const BYTES: usize>() -> Result<String, Failure> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::Refused(format!("no random numbers are to be had: {error}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Judge the challenge of a 401: it must ask for a bearer token, and must not
/// send us to another server for it.
///
/// Errors: `Refused` otherwise. Source: RFC 9110 §11.6.1, RFC 6750 §3.
pub(crate) fn check_challenge(headers: &HeaderMap, server: &Server) -> Result<(), Failure> {
    let mut challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    let parameters = challenges
        .find_map(|value| bearer_parameters(value.to_str().ok()?))
        .ok_or_else(|| {
            Failure::Refused(format!(
                "{server} asks for a login of a kind that warrant does not know"
            ))
        })?;
    match realm(parameters) {
        Some(realm) if leads_elsewhere(realm, server) => Err(Failure::Refused(format!(
            "{server} asks for the password to be sent to {}, which is another server: refused. \
             If you trust it, give its address with --host",
            visible(realm)
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What a server says of a proof that it does not take; `None` where it
/// challenges for none. Source: RFC 9449 §7.1.
pub(crate) fn proof_refused(headers: &HeaderMap) -> Option<String> {
    let mut challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    let parameters = challenges
        .find_map(|value| parameters_of("dpop", value.to_str().ok()?).map(str::to_owned))?;
    let mark = "error_description=\"";
    let said = parameters.find(mark).and_then(|at| {
        let rest = parameters.get(at + mark.len()..)?;
        rest.split('"').next().map(str::to_owned)
    });
    Some(said.unwrap_or_default())
}

/// What follows `Bearer` in a list of challenges.
fn bearer_parameters(challenges: &str) -> Option<&str> {
    parameters_of("bearer", challenges)
}

fn parameters_of<'a>(wanted: &str, challenges: &'a str) -> Option<&'a str> {
    let scheme_at = |at: usize| {
        let rest = challenges.get(at..)?.trim_start();
        let (scheme, parameters) = rest.split_at_checked(wanted.len())?;
        let ends = parameters.is_empty() || parameters.starts_with([' ', ',']);
        (ends && scheme.eq_ignore_ascii_case(wanted)).then_some(parameters)
    };
    std::iter::once(0)
        .chain(challenges.match_indices(',').map(|(at, _)| at + 1))
        .find_map(scheme_at)
}

fn realm(parameters: &str) -> Option<&str> {
    let at = parameters.to_ascii_lowercase().find("realm=")? + "realm=".len();
    let value = parameters.get(at..)?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split([',', ' ']).next(),
    }
}

/// A realm may be any text; only one that names a server is looked at.
fn leads_elsewhere(realm: &str, server: &Server) -> bool {
    if realm.starts_with("//") {
        return true;
    }
    let address = realm.split(['?', '#']).next().unwrap_or_default();
    realm.contains("://")
        && !address
            .parse()
            .is_ok_and(|there| server.is_origin_of(&there))
}

/// A token, as the token endpoints answer it. The older servers leave the
/// life out.
#[derive(Deserialize)]
struct Issued {
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default = "shortest_life_s")]
    expires_in: u64,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// A token that was issued to us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The token.
    pub(crate) text: Secret,
    /// Its life in seconds.
    pub(crate) life_s: u64,
    /// Whether it is bound to the key that we proved to hold.
    pub(crate) bound: bool,
    /// What gets the next one, where there is one.
    pub(crate) refresh_token: Option<Secret>,
}

fn shortest_life_s() -> u64 {
    600
}

/// Read the answer of a token endpoint.
///
/// Errors: `Refused` when it holds no token that could be sent in a header.
pub(crate) fn read_issued(body: &str) -> Result<Token, Failure> {
    serde_json::from_str::<Issued>(body)
        .ok()
        .filter(|issued| {
            !issued.access_token.is_empty()
                && issued
                    .access_token
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic())
        })
        .map(|issued| Token {
            bound: issued.token_type.eq_ignore_ascii_case(SCHEME),
            text: Secret::new(issued.access_token),
            life_s: issued.expires_in,
            refresh_token: issued.refresh_token.map(Secret::new),
        })
        .ok_or_else(|| Failure::Refused("the server's answer to the login holds no token".into()))
}

/// Whose token it is, as it says itself: for people, not for any decision.
pub(crate) fn subject(token: &Secret) -> Option<String> {
    let payload = token.reveal().split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    Some(claims["sub"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_handshake_is_signed_as_a_json_web_token() {
        let token = handshake("ann", &Secret::new("pw"), None, &Secret::new("key")).unwrap();
        let parts: Vec<&str> = token.reveal().split('.').collect();
        let [header, payload, signature] = parts[..] else {
            panic!("not three parts");
        };
        let decode = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
        };
        assert_eq!(
            decode(header),
            serde_json::json!({"alg":"HS256","typ":"JWT"})
        );
        let payload_json = decode(payload);
        assert_eq!(payload_json["user"], "ann");
        assert_eq!(payload_json["pass"], "pw");
        assert_eq!(payload_json["scope"], "token");
        assert!(payload_json["exp"].as_u64() > payload_json["iat"].as_u64());
        let mut mac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
        mac.update(format!("{header}.{payload}").as_bytes());
        mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
    }

    #[test]
    fn no_two_handshakes_are_alike() {
        let make = || handshake("ann", &Secret::new("pw"), None, &Secret::new("key")).unwrap();
        assert!(make() != make());
    }

    fn challenge(value: &str) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, value.parse().unwrap());
        check_challenge(&headers, &"http://127.0.0.1:5000".parse().unwrap())
    }

    #[test]
    fn a_challenge_of_our_own_server_is_taken() {
        for value in [
            "Bearer",
            "bearer realm=\"http://127.0.0.1:5000/v1/token\",service=\"warrant\"",
            "Bearer realm=\"http://localhost:5000/v1/token?x=1\"",
            "Bearer realm=\"/v1/token\"",
            "Bearer realm=warrant, scope=\"jobs\"",
            "Basic realm=\"x\", Bearer realm=\"http://127.0.0.1:5000\"",
        ] {
            assert_eq!(challenge(value), Ok(()), "{value}");
        }
    }

    #[test]
    fn t103_a_challenge_that_leads_elsewhere_is_refused() {
        for value in [
            "Bearer realm=\"http://evil.example/v1/token\"",
            "Bearer scope=\"a\", realm=http://127.0.0.1:5001/",
            "Bearer realm=\"https://127.0.0.1:5000/\"",
            "Bearer realm=\"//evil.example/\"",
            "Bearer realm=\"http://127.0.0.1:5000@evil.example/\"",
        ] {
            let Err(Failure::Refused(message)) = challenge(value) else {
                panic!("{value} was taken");
            };
            assert!(message.contains("another server"), "{message}");
        }
    }

    #[test]
    fn a_challenge_of_an_unknown_kind_is_refused() {
        for value in ["Basic realm=\"Bearer\"", "Bearers", "Negotiate"] {
            assert!(challenge(value).is_err(), "{value}");
        }
        let server = "http://a".parse().unwrap();
        assert!(check_challenge(&HeaderMap::new(), &server).is_err());
    }

    #[test]
    fn a_password_file_may_end_with_a_newline() {
        let scratch = Scratch::new();
        let path = scratch.path("password");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_password(&path).map(|password| password.reveal().to_owned())
        };
        assert_eq!(read("hunter2\n").as_deref(), Ok("hunter2"));
        assert_eq!(read("hunter2\r\n").as_deref(), Ok("hunter2"));
        assert_eq!(read(" two words").as_deref(), Ok(" two words"));
        assert!(read("\n").is_err());
        assert!(read(&"x".repeat(1025)).is_err());
        assert!(read_password(&scratch.path("missing")).is_err());
    }

    #[test]
    fn a_token_that_could_split_a_header_is_refused() {
        assert!(read_issued(r#"{"access_token":"a b","token_type":"Bearer"}"#).is_err());
        assert!(read_issued("{\"access_token\":\"a\\r\\nX: y\"}").is_err());
        assert!(read_issued(r#"{"access_token":""}"#).is_err());
        assert!(read_issued("no").is_err());
        let token = read_issued(r#"{"access_token":"a.b","token_type":"Bearer"}"#).unwrap();
        assert_eq!((token.text.reveal(), token.life_s), ("a.b", 600));
        assert!(!token.bound);
        let token = read_issued(r#"{"access_token":"a.b","token_type":"DPoP"}"#).unwrap();
        assert!(token.bound);
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let credentials = Credentials {
            user: "ann".to_owned(),
            password: Password::Known(Secret::new("hunter2")),
            secret_key: Some(Secret::new("hunter3")),
        };
        assert!(!format!("{credentials:?}").contains("hunter"));
    }
}
