//! Reading little-endian fields from a byte slice, one after the other.

use std::fmt;

/// Why bytes were refused, or why a value cannot be written as bytes. The
/// text names the field and what is allowed; it never quotes the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

const CUT_SHORT: Malformed = Malformed("the data ends too early");

/// A position in a slice; every read takes bytes from its front.
#[derive(Clone, Copy)]
pub struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// At the front of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// So many bytes. Every read here answers [`Malformed`] if the data ends too early.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    /// So many bytes, as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    /// A 16-bit number.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// A 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// A signed 32-bit number.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_le_bytes)
    }

    /// A 64-bit number.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// One byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag is neither 0 nor 1")),
        }
    }

    /// Bytes that must all be zero.
    pub fn padding(&mut self, count: usize) -> Result<(), Malformed> {
        if self.bytes(count)?.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(Malformed("reserved bytes are not zero"))
        }
    }

    /// The bytes after a 32-bit length.
    pub fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u32()?;
        self.bytes(usize::try_from(count).map_err(|_| CUT_SHORT)?)
    }

    /// A 32-bit number of items that follow, each of at least `item_bytes`
    /// bytes: more items than the rest can hold are refused before anything
    /// is allocated for them.
    pub fn items(&mut self, item_bytes: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| CUT_SHORT)?;
        match count.checked_mul(item_bytes) {
            Some(least) if least <= self.0.len() => Ok(count),
            Some(_) | None => Err(CUT_SHORT),
        }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Refuses bytes after the last field.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("there are bytes after the end of the data"))
        }
    }
}
