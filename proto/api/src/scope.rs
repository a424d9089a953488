//! What a token may be used for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing that a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// See jobs, their output and the machines.
    Read,
    /// Submit jobs.
    Submit,
    /// Cancel jobs.
    Control,
    /// Whatever else its role allows: other people's jobs, the service itself.
    Admin,
}

impl Scope {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 4] = [Self::Read, Self::Submit, Self::Control, Self::Admin];

    /// Its name in the `scope` of RFC 6749 §3.3.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Control => "control",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Submit => 2,
            Self::Control => 4,
            Self::Admin => 8,
        }
    }
}

/// A set of scopes; written as their names with a space between. Source:
/// RFC 6749 §3.3.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(15);

    /// Whether `scope` is one of them.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// These and `scope`.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of these are in `other`.
    pub const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for scope in Scope::ALL.into_iter().filter(|scope| self.has(*scope)) {
            write!(f, "{between}{}", scope.name())?;
            between = " ";
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

/// A name that is no scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownScope;

impl fmt::Display for UnknownScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scopes are read, submit, control and admin, with one space between")
    }
}

impl std::error::Error for UnknownScope {}

impl FromStr for Scopes {
    type Err = UnknownScope;

    /// Read names with spaces between; no name at all is the empty set.
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split(' ')
            .filter(|name| !name.is_empty())
            .try_fold(Self::NONE, |scopes, name| {
                let scope = Scope::ALL.into_iter().find(|scope| scope.name() == name);
                scope.map(|scope| scopes.with(scope)).ok_or(UnknownScope)
            })
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_written_in_one_order_and_read_in_any() {
        let scopes: Scopes = "control read".parse().unwrap();
        assert_eq!(scopes.to_string(), "read control");
        assert!(scopes.has(Scope::Read) && !scopes.has(Scope::Submit));
        assert_eq!("".parse(), Ok(Scopes::NONE));
        assert_eq!(Scopes::ALL.to_string().parse(), Ok(Scopes::ALL));
    }

    #[test]
    fn an_unknown_scope_is_refused() {
        for text in ["root", "read,submit", "Read", "read\tsubmit"] {
            assert_eq!(text.parse::<Scopes>(), Err(UnknownScope), "{text}");
        }
    }

    #[test]
    fn a_set_is_within_another_that_has_all_of_it() {
        let read = Scopes::NONE.with(Scope::Read);
        assert!(read.within(Scopes::ALL) && !Scopes::ALL.within(read));
        assert_eq!(Scopes::ALL.and(read), read);
    }
}
