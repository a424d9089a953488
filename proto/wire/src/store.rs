//! Which job store a spool belongs to. The broker names its store on every
//! connection; a spool serves one store alone, so that the numbers of jobs
//! mean the same on both sides.

use std::fmt;

use crate::cursor::{Cursor, Malformed};

/// The identity of a job store: made at random with the store, and copied
/// with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// The identity with these bytes; `None` if all are zero, which no store has.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Option<Self> {
        match u128::from_be_bytes(bytes) {
            0 => None,
            _ => Some(Self(bytes)),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The identity that [`fmt::Display`] wrote: 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
        Self::new(number.to_be_bytes())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a spool is to the store that a broker named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// It belongs to that store.
    Ours,
    /// It holds runs of a version that did not write down of which store.
    Unclaimed,
    /// It belongs to this other store.
    Foreign(StoreId),
}

impl Bond {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let (code, store) = match self {
            Self::Ours => (1, [0; 16]),
            Self::Unclaimed => (2, [0; 16]),
            Self::Foreign(store) => (3, store.bytes()),
        };
        out.push(code);
        out.extend(store);
    }

    pub(crate) fn read(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        match (from.u8()?, StoreId::new(from.array()?)) {
            (1, None) => Ok(Self::Ours),
            (2, None) => Ok(Self::Unclaimed),
            (3, Some(store)) => Ok(Self::Foreign(store)),
            _ => Err(Malformed("bond: unknown")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_spelt_in_one_way() {
        let id = StoreId::new([0xab; 16]).unwrap();
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!(StoreId::parse(&id.to_string()), Some(id));
        for wrong in ["", "+", "0x", "ab", &"0".repeat(32), &"+".repeat(32)] {
            assert_eq!(StoreId::parse(wrong), None, "{wrong}");
        }
    }
}
