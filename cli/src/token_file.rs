//! The token that `warrant login` leaves for later commands.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::now_s;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::session_file::Mark;
use crate::state_home::state_home;

/// A token and what it is good for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredToken {
    /// The server that issued it, and the only one it is sent to.
    pub(crate) host: String,
    /// Whom it stands for.
    pub(crate) user: String,
    /// The token.
    pub(crate) access_token: String,
    /// When it ends, in seconds since the Unix epoch.
    pub(crate) expires_at: u64,
    /// Where it is bound to our key: how the server calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bound: Option<String>,
    /// What gets the next one, where the login goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renewal: Option<Renewal>,
    /// Of the password for which it was given, where a session is kept that nobody
    /// logged in for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<Mark>,
}

/// What gets the next tokens of a login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Renewal {
    /// The auth service that gives them, and the only one that is asked.
    pub(crate) auth: String,
    /// Where they are bound to our key: how that service calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    /// What is shown for them, once.
    pub(crate) refresh_token: String,
}

impl Renewal {
    /// The one that comes after it; the same where the service gave no other.
    pub(crate) fn followed(self, next: Option<Secret>) -> Self {
        let next = next.map(|next| next.reveal().to_owned());
        Self {
            refresh_token: next.unwrap_or(self.refresh_token),
            ..self
        }
    }
}

impl StoredToken {
    /// Whether a command may begin with it.
    pub(crate) fn is_live(&self) -> bool {
        self.expires_at > now_s() + NEARLY_OVER_S
    }
}

/// A token that ends within this many seconds is not begun with.
pub(crate) const NEARLY_OVER_S: u64 = 30;

/// The file that holds at most one token: the latest login.
#[derive(Debug, Clone)]
pub(crate) struct TokenFile(PathBuf);

impl TokenFile {
    /// `token.json` among this user's files; `None` without a home directory.
    pub(crate) fn of_user() -> Option<Self> {
        state_home().map(|dir| Self(dir.join("token.json")))
    }

    /// The file at `path`.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The stored token. A file that is missing, damaged or readable by
    /// others counts as none: logging in again mends each of these.
    pub(crate) fn read(&self) -> Option<StoredToken> {
        let mode = fs::metadata(&self.0).ok()?.permissions().mode();
        if mode & 0o077 != 0 {
            return None;
        }
        serde_json::from_slice(&fs::read(&self.0).ok()?).ok()
    }

    /// Keep other commands from changing what is stored, until the lock is
    /// dropped. Each holds it for as long as one request takes.
    ///
    /// Errors: `Refused` when the lock cannot be had.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let path = self.0.with_extension("lock");
        let locked = self.make_dir().and_then(|_| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false);
            let file = file.mode(0o600).open(&path)?;
            file.lock()?;
            Ok(file)
        });
        locked.map_err(|error| Failure::Refused(format!("cannot lock {path:?}: {error}")))
    }

    /// As [`TokenFile::write`].
    ///
    /// Errors: `Refused` with the file's name.
    pub(crate) fn store(&self, token: &StoredToken) -> Result<(), Failure> {
        self.write(token).map_err(|error| {
            Failure::Refused(format!("cannot store the token in {:?}: {error}", self.0))
        })
    }

    /// Replace the file in one step, so that no reader sees half of it.
    pub(crate) fn write(&self, token: &StoredToken) -> io::Result<()> {
        let dir = self.make_dir()?;
        let draft = dir.join(format!(".token.{}", std::process::id()));
        // Left by a process of the same id that died on the way.
        let _ = fs::remove_file(&draft);
        let written = write_private(&draft, &serde_json::to_vec(token)?)
            .and_then(|()| fs::rename(&draft, &self.0));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written
    }

    fn make_dir(&self) -> io::Result<&Path> {
        let dir = self.0.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        Ok(dir)
    }

    /// Remove the file if it still holds this token: another login may have
    /// replaced it meanwhile.
    pub(crate) fn forget(&self, access_token: &str) {
        if self.read().is_some_and(|t| t.access_token == access_token) {
            // A token that stays is refused again, and tried no more than once.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn token(text: &str) -> StoredToken {
        StoredToken {
            host: "http://127.0.0.1:5000".to_owned(),
            user: "ann".to_owned(),
            access_token: text.to_owned(),
            expires_at: 2_000_000_000,
            bound: None,
            renewal: None,
            mark: None,
        }
    }

    #[test]
    fn a_stored_token_is_private_and_comes_back() {
        let scratch = Scratch::new();
        let file = TokenFile::at(scratch.path("warrant/token.json"));
        file.write(&token("first")).unwrap();
        file.write(&token("second")).unwrap();
        assert!(file.read() == Some(token("second")));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(&scratch.path("warrant")), 0o700);
        assert_eq!(fs::read_dir(scratch.path("warrant")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        let scratch = Scratch::new();
        let file = TokenFile::at(scratch.path("token.json"));
        file.write(&token("t")).unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
        assert!(file.read().is_none());
    }

    #[test]
    fn a_damaged_file_counts_as_no_token() {
        let scratch = Scratch::new();
        let file = TokenFile::at(scratch.path("token.json"));
        write_private(file.path(), b"{\"host\":").unwrap();
        assert!(file.read().is_none());
    }

    #[test]
    fn only_the_refused_token_is_forgotten() {
        let scratch = Scratch::new();
        let file = TokenFile::at(scratch.path("token.json"));
        file.write(&token("newer")).unwrap();
        file.forget("older");
        assert!(file.read().is_some());
        file.forget("newer");
        assert!(file.read().is_none());
    }
}
