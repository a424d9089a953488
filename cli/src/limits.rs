//! The limits of a launch that a user leaves to the site, and those that a user
//! accepts.

use std::str::FromStr;

/// A limit of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Seconds until the job is ended; 0 for none.
    TimeLimitS,
    /// Milliseconds between the warning and the end.
    GraceMs,
    /// Bytes of output that are kept.
    OutputCapBytes,
    /// Memory in bytes; 0 for no limit.
    MemoryBytes,
}

impl Limit {
    const ALL: [Self; 4] = [
        Self::TimeLimitS,
        Self::GraceMs,
        Self::OutputCapBytes,
        Self::MemoryBytes,
    ];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TimeLimitS => "time_limit_s",
            Self::GraceMs => "grace_ms",
            Self::OutputCapBytes => "output_cap_bytes",
            Self::MemoryBytes => "memory_bytes",
        }
    }
}

/// A limit, and the one value of it that the user accepts besides the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted(pub(crate) Limit, pub(crate) u64);

impl FromStr for Accepted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (name, value) = text.split_once('=')?;
            let limit = Limit::ALL.into_iter().find(|limit| limit.name() == name)?;
            Some(Self(limit, value.parse().ok()?))
        };
        read().ok_or_else(|| {
            let names = Limit::ALL.map(Limit::name).join(", ");
            format!("it must look like NAME=NUMBER, with one of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_known_name_and_a_number() {
        assert_eq!("grace_ms=5".parse(), Ok(Accepted(Limit::GraceMs, 5)));
        for wrong in ["", "grace_ms", "grace_ms=", "grace_ms=-1", "grace=5", "=5"] {
            assert!(wrong.parse::<Accepted>().is_err(), "{wrong}");
        }
    }
}
