//! Job ids as Flux spells them.

use axum::http::StatusCode;

use super::fault::Fault;
use crate::model::JobId;

/// The digits of F58. Source: Flux RFC 19; Bitcoin's base58.
const F58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Read a job id: decimal, `0x` hexadecimal, dotted hexadecimal
/// (`0000.0000.0000.002a`) or F58 (`ƒ2a`, `f2a`).
///
/// Errors: 400 that repeats the text.
pub(super) fn parse(text: &str) -> Result<JobId, Fault> {
    number(text).and_then(JobId::new).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        Fault::detail(
            StatusCode::BAD_REQUEST,
            format!("'{shown}' is not a valid job id"),
        )
    })
}

fn number(text: &str) -> Option<i64> {
    if text.len() > 64 {
        return None;
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return hexadecimal(digits);
    }
    if let Some(digits) = text.strip_prefix('ƒ').or_else(|| text.strip_prefix('f')) {
        return f58(digits);
    }
    let groups: Vec<&str> = text.split('.').collect();
    let dotted = groups.len() == 4 && groups.iter().all(|group| group.len() == 4);
    dotted.then(|| hexadecimal(&groups.concat())).flatten()
}

fn hexadecimal(digits: &str) -> Option<i64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain
        .then(|| i64::from_str_radix(digits, 16).ok())
        .flatten()
}

fn f58(digits: &str) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    digits.bytes().try_fold(0_i64, |number, byte| {
        let digit = F58.iter().position(|known| *known == byte)?;
        number
            .checked_mul(58)?
            .checked_add(i64::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_id_names_the_same_job() {
        // 6787342413402046 is Flux's own example of F58.
        for text in [
            "6787342413402046",
            "ƒuzzybunny",
            "fuzzybunny",
            "0x181d0d4d850fbe",
        ] {
            assert_eq!(number(text), Some(6_787_342_413_402_046), "{text}");
        }
        assert_eq!(number("0000.0000.0000.002a"), Some(42));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let long = "1".repeat(65);
        for text in [
            "",
            "nope!",
            "-1",
            "0",
            "+5",
            "1 ",
            "f0",
            "f",
            "0x",
            "0x8000000000000000",
            "9223372036854775808",
            "ƒzzzzzzzzzzzzzzz",
            "1.2.3.4",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
