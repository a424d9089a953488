//! What is wrong with a client's certificate, in stable words.

use rustls::{CertificateError, Error};

/// Why a client's certificate does not count, in one stable word for the audit
/// trail; `None` where the error is about something else.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library's errors, most of which are told apart nowhere"
)]
pub fn reason(error: &Error) -> Option<&'static str> {
    let Error::InvalidCertificate(why) = error else {
        return match error {
            Error::NoCertificatesPresented => Some("certificate"),
            _ => None,
        };
    };
    Some(match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate-expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate-not-yet-valid"
        }
        CertificateError::Revoked => "certificate-revoked",
        CertificateError::UnknownIssuer => "certificate-issuer",
        CertificateError::UnknownRevocationStatus => "certificate-not-on-lists",
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => "revocation-list-expired",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate-purpose"
        }
        CertificateError::BadSignature => "certificate-signature",
        _ => "certificate-invalid",
    })
}
