//! From one row to the next.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The first byte of every row as it is hashed: how its fields are laid out.
pub const VERSION: u8 = 1;

/// A SHA-256, written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHash;

impl fmt::Display for NotAHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 lower-case hexadecimal digits are allowed")
    }
}

impl std::error::Error for NotAHash {}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let text: String = digits
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect();
        f.write_str(&text)
    }
}

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotAHash),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut hash = [0; 32];
        if pairs.len() != hash.len() || !rest.is_empty() {
            return Err(NotAHash);
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(hash))
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// No value.
    Absent,
    /// A number.
    Number(i64),
    /// Text, which may be empty.
    Text(&'a str),
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Field<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<Option<&'a str>> for Field<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, Self::Text)
    }
}

impl From<Option<i64>> for Field<'_> {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Absent, Self::Number)
    }
}

impl Field<'_> {
    /// A byte for the sort of value, the value's length in bytes (eight bytes,
    /// the highest first), and the value; a number has eight bytes, the
    /// highest first, in two's complement. No two lists of fields are the
    /// same bytes.
    fn write(self, out: &mut Vec<u8>) {
        let number;
        let (tag, value) = match self {
            Self::Absent => (0, [].as_slice()),
            Self::Number(n) => {
                number = n.to_be_bytes();
                (1, number.as_slice())
            }
            Self::Text(text) => (2, text.as_bytes()),
        };
        out.push(tag);
        out.extend((value.len() as u64).to_be_bytes());
        out.extend(value);
    }
}

/// The end of a chain: how many rows there ever were, and the last one's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last row; the first has number 1.
    pub count: i64,
    /// Its hash; before the first row, that of the trail's name.
    pub hash: Hash,
}

impl Head {
    /// Before the first row of the trail called `name`: chains of different
    /// trails have no hash in common.
    pub fn genesis(name: &str) -> Self {
        Self {
            count: 0,
            hash: Hash(Sha256::digest(format!("warrant audit trail: {name}")).into()),
        }
    }

    /// After one more row: SHA-256 of the hash so far, the version, the row's
    /// number and its fields.
    #[must_use]
    pub fn then(&self, fields: &[Field<'_>]) -> Self {
        let count = self.count.saturating_add(1);
        let mut bytes = Vec::with_capacity(512);
        bytes.extend(self.hash.0);
        bytes.push(VERSION);
        Field::Number(count).write(&mut bytes);
        for field in fields {
            field.write(&mut bytes);
        }
        Self {
            count,
            hash: Hash(Sha256::digest(&bytes).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written_and_nothing_else_is() {
        let hash = Head::genesis("a").hash;
        let text = hash.to_string();
        assert_eq!(text.parse(), Ok(hash));
        let upper = text.to_uppercase();
        for wrong in ["", &text[1..], &format!("{text}0"), &upper, &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Hash>(), Err(NotAHash), "{wrong}");
        }
    }

    /// Computed by hand, so that no later program reads old trails otherwise.
    #[test]
    fn the_bytes_of_a_row_are_for_ever_the_same() {
        let genesis = Head::genesis("authsvc");
        let bytes = [
            Sha256::digest("warrant audit trail: authsvc").as_slice(),
            b"\x01",
            b"\x01\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x01",
            b"\x01\0\0\0\0\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe",
            b"\x00\0\0\0\0\0\0\0\0",
            b"\x02\0\0\0\0\0\0\0\x02\xc3\xa9",
        ]
        .concat();
        let then = genesis.then(&[Field::Number(-2), Field::Absent, Field::Text("é")]);
        assert_eq!(then.count, 1);
        assert_eq!(then.hash, Hash(Sha256::digest(bytes).into()));
    }

    #[test]
    fn rows_that_differ_in_anything_have_different_hashes() {
        let genesis = Head::genesis("a");
        let rows: [&[Field<'_>]; 9] = [
            &[],
            &[Field::Absent],
            &[Field::Text("")],
            &[Field::Text(""), Field::Absent],
            &[Field::Absent, Field::Text("")],
            &[Field::Number(0)],
            &[Field::Text("ab"), Field::Text("c")],
            &[Field::Text("a"), Field::Text("bc")],
            &[Field::Text("\0\0\0\0\0\0\0\0")],
        ];
        let mut hashes: Vec<_> = rows.iter().map(|row| genesis.then(row).hash).collect();
        hashes.push(Head::genesis("b").then(rows[0]).hash);
        hashes.push(genesis.then(rows[0]).then(rows[0]).hash);
        let different: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(different.len(), hashes.len());
    }
}
