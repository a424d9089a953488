//! The session that a password at hand opened, kept so that later commands do not
//! open one each. There is a file for each server and user, in a directory of its
//! own beside the stored login, readable by its owner alone.

use std::path::PathBuf;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use warrant_wire::warrant::hex;

use crate::auth::random_text;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::token_file::{StoredToken, TokenFile};

/// What tells a password from another one, nearly always. So little of it is kept
/// that nobody who reads the file learns the password by trying.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    salt: String,
    short: u16,
}

impl Mark {
    /// The mark of `password`.
    ///
    /// Errors: `Refused` when the machine gives no random numbers.
    pub(crate) fn new(password: &Secret) -> Result<Self, Failure> {
        let salt = random_text::<16>()?;
        let short = short(&salt, password);
        Ok(Self { salt, short })
    }

    /// Whether it may be that of `password`.
    pub(crate) fn fits(&self, password: &Secret) -> bool {
        self.short == short(&self.salt, password)
    }
}

fn short(salt: &str, password: &Secret) -> u16 {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt.as_bytes()) else {
        return 0;
    };
    mac.update(password.reveal().as_bytes());
    let code = mac.finalize().into_bytes();
    code.first_chunk::<2>()
        .map_or(0, |two| u16::from_le_bytes(*two))
}

/// The file of one server and user, beside `login`.
pub(crate) fn place(login: &TokenFile, host: &str, user: &str) -> TokenFile {
    let name = hex(&Sha256::digest(format!("{host}\n{user}")));
    let dir = login.path().parent().map(PathBuf::from).unwrap_or_default();
    TokenFile::at(dir.join("sessions").join(format!("{name}.json")))
}

/// The session in `file`, if it is of this server, user and password and has not
/// expired.
pub(crate) fn read(
    file: &TokenFile,
    host: &str,
    user: &str,
    password: &Secret,
) -> Option<StoredToken> {
    let fits = |token: &StoredToken| token.mark.as_ref().is_some_and(|mark| mark.fits(password));
    file.read()
        .filter(|token| token.host == host && token.user == user)
        .filter(|token| token.is_live() && fits(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_fits_its_password_and_hardly_any_other() {
        let mark = Mark::new(&Secret::new("hunter2")).unwrap();
        assert!(mark.fits(&Secret::new("hunter2")));
        let others = (0..1000).filter(|n| mark.fits(&Secret::new(format!("hunter{n}x"))));
        assert!(others.count() < 10);
        let again = Mark::new(&Secret::new("hunter2")).unwrap();
        assert!(again.salt != mark.salt);
    }
}
