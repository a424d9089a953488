//! Reading a proof: all of RFC 9449 §4.3 but whether it came before, which
//! takes a memory ([`crate::Seen`], or a database).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use crate::jwk::{Jwk, Public, present};
use crate::{At, LONGEST, LONGEST_ID, Refused, WINDOW_S, token_hash};

/// The `typ` of a proof. Source: RFC 9449 §4.2.
pub(crate) const TYP: &str = "dpop+jwt";

#[derive(Deserialize)]
struct Header {
    typ: Option<String>,
    alg: String,
    jwk: Jwk,
    /// Names parameters that change what the proof means. None is known here.
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: f64,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    ath: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
}

/// The request that a proof must be made for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its address.
    pub at: &'a At,
    /// The access token that goes with it, where one does.
    pub token: Option<&'a str>,
    /// Now, in seconds since the Unix epoch.
    pub now_s: u64,
}

/// A proof that was read and holds, unless it came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    jkt: String,
    nonce: Option<String>,
    mark: [u8; 32],
    ends_s: u64,
}

impl Proof {
    /// The thumbprint of its key.
    pub fn jkt(&self) -> &str {
        &self.jkt
    }

    /// The nonce in it.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// What it is remembered by: its key and its id.
    pub const fn mark(&self) -> &[u8; 32] {
        &self.mark
    }

    /// When it is refused for its age anyway, in seconds since the Unix epoch.
    pub const fn ends_s(&self) -> u64 {
        self.ends_s
    }
}

/// The proof among `values`, the values of the header DPoP, if there is any
/// and it was made for the request that is `wanted`.
///
/// Errors: [`Refused`]. Source: RFC 9449 §4.3.
pub fn check<'v>(
    values: impl IntoIterator<Item = &'v [u8]>,
    wanted: &Wanted<'_>,
) -> Result<Option<Proof>, Refused> {
    let mut values = values.into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refused::Twice);
    }
    if value.len() > LONGEST {
        return Err(Refused::Long);
    }
    let text = std::str::from_utf8(value).map_err(|_| Refused::Form)?;
    read(text, wanted).map(Some)
}

fn read(text: &str, wanted: &Wanted<'_>) -> Result<Proof, Refused> {
    let (message, signature) = text.rsplit_once('.').ok_or(Refused::Form)?;
    // A dot too many ends up in the claims, and is no base64.
    let (header, claims) = message.split_once('.').ok_or(Refused::Form)?;
    let header = part(header)?;
    // Of what has no key, or one of another shape, the rest is said first.
    let known: Known = serde_json::from_slice(&header).map_err(|_| Refused::Form)?;
    if known.typ.as_deref() != Some(TYP) {
        return Err(Refused::Typ);
    }
    if !crate::ALGORITHMS.contains(&known.alg.as_str()) {
        return Err(Refused::Alg);
    }
    let header: Header = serde_json::from_slice(&header).map_err(|_| Refused::Jwk)?;
    if header.crit.is_some() || header.typ != known.typ {
        return Err(Refused::Form);
    }
    let key = Public::read(&header.jwk, &header.alg)?;
    let claims: Claims = serde_json::from_slice(&part(claims)?).map_err(|_| Refused::Form)?;
    let fresh = fits(&claims, wanted);
    // What a proof says counts only where its key says it.
    let signature: Option<[u8; 64]> = part(signature)?.try_into().ok();
    let signed = signature.is_some_and(|signature| key.signed(message.as_bytes(), &signature));
    if !signed {
        return Err(Refused::Signature);
    }
    let ends_s = fresh?;
    let jkt = key.thumbprint();
    let mut mark = Sha256::new();
    mark.update(&jkt);
    mark.update(&claims.jti);
    Ok(Proof {
        jkt,
        nonce: claims.nonce,
        mark: mark.finalize().into(),
        ends_s,
    })
}

#[derive(Deserialize)]
struct Known {
    typ: Option<String>,
    alg: String,
}

fn part(text: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Form)
}

/// Whether the claims are of the request; when they end.
fn fits(claims: &Claims, wanted: &Wanted<'_>) -> Result<u64, Refused> {
    if !(1..=LONGEST_ID).contains(&claims.jti.len()) {
        return Err(Refused::Id);
    }
    if claims.htm != wanted.method {
        return Err(Refused::Method);
    }
    if At::parse(&claims.htu).as_ref() != Some(wanted.at) {
        return Err(Refused::Address);
    }
    let (now, window) = (wanted.now_s as f64, WINDOW_S as f64);
    let recent = (claims.iat - now).abs() <= window;
    let over = claims.exp.is_some_and(|exp| exp <= now);
    let early = claims.nbf.is_some_and(|nbf| nbf > now + window);
    if !recent || over || early {
        return Err(Refused::Time);
    }
    match (wanted.token, &claims.ath) {
        (None, _) => {}
        (Some(token), Some(ath)) if *ath == token_hash(token) => {}
        (Some(_), Some(_) | None) => return Err(Refused::Token),
    }
    // The cast saturates.
    Ok((claims.iat.ceil() as u64).saturating_add(WINDOW_S + 1))
}
