//! Whom a run is for, as its warrant says.

use warrant_wire::Cursor;
use warrant_wire::account::is_person;

use crate::policy::Policy;

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
        // A name is checked before, and is no longer than 255 bytes.
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

/// Whether jobs may run with a user id at all.
#[must_use]
pub fn is_user(uid: u32, policy: &Policy) -> bool {
    is_person(uid, &(policy.min_uid..=policy.max_uid))
}
