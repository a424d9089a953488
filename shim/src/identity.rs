//! Whom a run is for, as its warrant says.

use warrant_wire::Cursor;

use crate::policy::Policy;

/// The user ids from here on are not anybody's. Source: chown(2), for which
/// the last one means "as it is"; the one before is kept free like it.
pub const NO_UID_FROM: u32 = u32::MAX - 1;
/// User ids that stand for nobody in particular. Source: the kernel's
/// overflow id, and the 16-bit form of "none".
pub const NOBODY: [u32; 2] = [65_534, 65_535];

/// The account that a warrant names. Both must agree with the system's
/// account database before anything is done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
}

impl Identity {
    /// Writes it as bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        // A name is checked before, and is far shorter.
        let length = u32::try_from(self.name.len()).unwrap_or(u32::MAX);
        out.extend([self.uid, length].map(u32::to_le_bytes).as_flattened());
        out.extend(self.name.as_bytes());
    }

    /// Reads what was written; `None` if it is not that.
    pub(crate) fn read(from: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            uid: from.u32().ok()?,
            name: String::from_utf8(from.counted().ok()?.to_vec()).ok()?,
        })
    }
}

/// Whether a name is a plain account name: a lower-case letter or `_`, then
/// up to 31 of those, digits, `.` and `-`, and no `.` at the end.
#[must_use]
pub fn is_account_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let later = |byte: u8| plain(byte) || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let mut bytes = name.bytes();
    name.len() <= 32 && bytes.next().is_some_and(plain) && bytes.all(later) && !name.ends_with('.')
}

/// Whether jobs may run with a user id at all: root may not, nor nobody.
#[must_use]
pub fn is_user(uid: u32, policy: &Policy) -> bool {
    (policy.min_uid..=policy.max_uid).contains(&uid)
        && uid != 0
        && uid < NO_UID_FROM
        && !NOBODY.contains(&uid)
}
