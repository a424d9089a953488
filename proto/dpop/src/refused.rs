//! Why a proof does not count.

/// Why a proof does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// There is none where one is needed.
    Missing,
    /// There are several.
    Twice,
    /// It is too long.
    Long,
    /// It is no JWS in compact form of a proof's header and claims.
    Form,
    /// Its type is another.
    Typ,
    /// Its algorithm is another than those that are accepted.
    Alg,
    /// Its key is none, or not that of its algorithm, or a private one.
    Jwk,
    /// Its signature is not that of its key.
    Signature,
    /// It was made for another method.
    Method,
    /// It was made for another address.
    Address,
    /// It is not of this time.
    Time,
    /// Its id is empty or too long.
    Id,
    /// It was made for another access token, or for none.
    Token,
    /// It lacks the server's nonce, or has one that is over.
    Nonce,
    /// The access token, or the session, is bound to another key.
    OtherKey,
    /// It came before.
    Again,
}

impl Refused {
    /// The reason in one stable word, for the audit trail.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "dpop-missing",
            Self::Twice => "dpop-twice",
            Self::Long => "dpop-long",
            Self::Form => "dpop-form",
            Self::Typ => "dpop-typ",
            Self::Alg => "dpop-alg",
            Self::Jwk => "dpop-jwk",
            Self::Signature => "dpop-signature",
            Self::Method => "dpop-htm",
            Self::Address => "dpop-htu",
            Self::Time => "dpop-iat",
            Self::Id => "dpop-jti",
            Self::Token => "dpop-ath",
            Self::Nonce => "dpop-nonce",
            Self::OtherKey => "dpop-other-key",
            Self::Again => "dpop-again",
        }
    }

    /// The reason for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Missing => "a proof is needed, in the header DPoP",
            Self::Twice => "the header DPoP may be there once",
            Self::Long => "the proof has more than 4096 bytes",
            Self::Form => "the proof is no signed JSON Web Token with jti, htm, htu and iat",
            Self::Typ => "the proof's typ must be dpop+jwt",
            Self::Alg => "the proof's alg must be ES256 or EdDSA",
            Self::Jwk => "the proof's jwk must be a public key of P-256 or Ed25519, as alg says",
            Self::Signature => "the proof's signature is wrong",
            Self::Method => "the proof's htm is not the method of this request",
            Self::Address => "the proof's htu is not the address of this request",
            Self::Time => "the proof's iat is not within 60 seconds of now: see to the clock",
            Self::Id => "the proof's jti must have 1 to 64 bytes",
            Self::Token => "the proof's ath is not the hash of this access token",
            Self::Nonce => "a nonce of this server is needed in the proof",
            Self::OtherKey => "the proof was made with another key",
            Self::Again => "the proof was used before",
        }
    }

    /// The error code of the answer. Source: RFC 9449 §5 and §8.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Nonce => "use_dpop_nonce",
            Self::Missing
            | Self::Twice
            | Self::Long
            | Self::Form
            | Self::Typ
            | Self::Alg
            | Self::Jwk
            | Self::Signature
            | Self::Method
            | Self::Address
            | Self::Time
            | Self::Id
            | Self::Token
            | Self::OtherKey
            | Self::Again => "invalid_dpop_proof",
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Refused {}
