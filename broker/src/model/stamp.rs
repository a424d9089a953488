//! Whose a run is.

/// The account and the job that a run is of. Records and output under the
/// same number that are of another account, or of another job, do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The account; `None` where jobs run as the server.
    pub uid: Option<u32>,
    /// The SHA-256 of what the job runs; `None` for jobs from before it was
    /// kept.
    pub job_sha256: Option<[u8; 32]>,
}

impl Stamp {
    /// The stamp with a hash in hexadecimal. What is no hash is none.
    pub fn new(uid: Option<u32>, job_sha256: Option<&str>) -> Self {
        Self {
            uid,
            job_sha256: job_sha256.and_then(bytes),
        }
    }
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let pairs = hex.as_bytes().chunks(2);
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_from_hexadecimal_and_nothing_else_is_one() {
        let stamp = |hex: &str| Stamp::new(None, Some(hex)).job_sha256;
        assert_eq!(stamp(&"0f".repeat(32)), Some([15; 32]));
        for wrong in ["", "0f", &"0g".repeat(32), &"0f".repeat(33)] {
            assert_eq!(stamp(wrong), None, "{wrong}");
        }
    }
}
