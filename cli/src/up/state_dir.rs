//! The directory in which `warrant up` keeps everything: databases, keys,
//! secrets, the output of jobs. It is private to one user, and to one server
//! at a time.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::auth::random_text;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::up::lock::Lock;

/// The longest path of a Unix socket, in bytes. Source: unix(7), less the NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The directory, locked for as long as this lives.
pub(crate) struct StateDir {
    path: PathBuf,
    lock: Lock,
}

impl StateDir {
    /// Open the directory, making it on first use.
    ///
    /// Errors: `Refused` when it is open to others, belongs to another user,
    /// or is in use by another server; `Usage` when its name cannot be used.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| {
            Failure::Refused(format!("cannot {what} {}: {error}", path.display()))
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| failed("create", error))?;
        let path = path.canonicalize().map_err(|error| failed("open", error))?;
        check_name(&path, "/run/auth.sock")?;
        check_privacy(&path)?;
        let lock = Lock::take(&path)?;
        let dir = Self { path, lock };
        for name in ["keys", "run", "spool", "secrets"] {
            dir.make_private(name)?;
        }
        Ok(dir)
    }

    /// Its absolute path.
    pub(crate) fn root(&self) -> &Path {
        &self.path
    }

    /// A file or directory inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Leave word of who holds the lock, for whoever comes second.
    pub(crate) fn announce(&mut self, url: &str) -> Result<(), Failure> {
        self.lock.announce(url)
    }

    /// The secret of this name; made at random on first use.
    pub(crate) fn secret(&self, name: &str) -> Result<(Secret, PathBuf), Failure> {
        keep_secret(self.path("secrets").join(name))
    }

    fn make_private(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Failure::Refused(
                format!("cannot create {}: {error}", path.display()),
            )),
            // Whatever its mode, the directory around it is closed to others.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The secret in a file of ours; made at random on first use.
///
/// The file holds nothing but the secret, without a newline, so that
/// `curl --data-urlencode password@FILE` sends it as it is.
pub(crate) fn keep_secret(path: PathBuf) -> Result<(Secret, PathBuf), Failure> {
    let failed = |what: &str, error: io::Error| {
        Failure::Refused(format!("cannot {what} {}: {error}", path.display()))
    };
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    match made {
        Ok(mut file) => {
            let secret = random_text::<32>()?;
            file.write_all(secret.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|error| failed("write", error))?;
            Ok((Secret::new(secret), path))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check_privacy(&path)?;
            let text = fs::read_to_string(&path).map_err(|error| failed("read", error))?;
            match text.trim_end() {
                "" => Err(Failure::Refused(format!(
                    "{} is empty: remove it for a new secret",
                    path.display()
                ))),
                secret => Ok((Secret::new(secret), path)),
            }
        }
        Err(error) => Err(failed("create", error)),
    }
}

/// The name becomes part of a database URL and of a socket's path, the longest
/// of which is `socket`.
pub(crate) fn check_name(path: &Path, socket: &str) -> Result<(), Failure> {
    let unfit = |why: &str| Failure::Usage(format!("the state directory {path:?} {why}"));
    let text = path.to_str().ok_or_else(|| unfit("is not UTF-8 text"))?;
    if text.contains(['?', '#', '%']) || text.contains(char::is_control) {
        return Err(unfit("must not contain ?, #, % or control characters"));
    }
    if text.len() + socket.len() > MAX_SOCKET_PATH_BYTES {
        return Err(unfit("has too long a path for a Unix socket"));
    }
    Ok(())
}

/// Ours, and closed to everybody else. An empty directory that is merely too
/// open is closed; anything else is left for its owner to judge.
fn check_privacy(path: &Path) -> Result<(), Failure> {
    let trouble = |why: &str| Failure::Refused(format!("{} {why}", path.display()));
    let unreadable = |error: io::Error| trouble(&format!("cannot be examined: {error}"));
    let found = fs::symlink_metadata(path).map_err(unreadable)?;
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(trouble("belongs to another user"));
    }
    if found.mode() & 0o077 == 0 {
        return Ok(());
    }
    if found.is_dir() && fs::read_dir(path).map_err(unreadable)?.next().is_none() {
        return fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(unreadable);
    }
    Err(trouble(
        "can be read by other users: close it with chmod go= and start again",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn refusal(path: &Path) -> String {
        match StateDir::open(path) {
            Err(Failure::Refused(message) | Failure::Usage(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{} was opened", path.display()),
        }
    }

    #[test]
    fn everything_is_private_from_the_first_use() {
        let scratch = Scratch::new();
        let dir = StateDir::open(&scratch.path("a/b")).unwrap();
        let (_, file) = dir.secret("flux_token").unwrap();
        for path in [&dir.path, &dir.path("keys"), &dir.path("secrets")] {
            assert_eq!(mode(path), 0o700, "{path:?}");
        }
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn a_secret_is_made_once_and_without_a_newline() {
        let scratch = Scratch::new();
        let path = scratch.path("state");
        let (made, file) = StateDir::open(&path).unwrap().secret("key").unwrap();
        let (other, _) = StateDir::open(&path).unwrap().secret("token").unwrap();
        let (again, _) = StateDir::open(&path).unwrap().secret("key").unwrap();
        assert!(made == again && made != other);
        assert_eq!(fs::read_to_string(file).unwrap(), made.reveal());
        assert_eq!(made.reveal().len(), 43);
    }

    #[test]
    fn a_second_server_is_told_about_the_first() {
        let scratch = Scratch::new();
        let path = scratch.path("state");
        let mut first = StateDir::open(&path).unwrap();
        first.announce("http://127.0.0.1:5000").unwrap();
        let message = refusal(&path);
        let holder = format!("process {}, http://127.0.0.1:5000", std::process::id());
        assert!(message.contains(&holder), "{message}");
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn an_open_directory_is_closed_only_while_it_is_empty() {
        let scratch = Scratch::new();
        let path = scratch.path("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        drop(StateDir::open(&path).unwrap());
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        assert!(refusal(&path).contains("chmod"));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let scratch = Scratch::new();
        let dir = StateDir::open(&scratch.path("state")).unwrap();
        let (_, file) = dir.secret("key").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(dir.secret("key").is_err());
    }

    #[test]
    fn a_name_that_fits_no_url_or_socket_is_refused() {
        let scratch = Scratch::new();
        assert!(refusal(&scratch.path("50%")).contains('%'));
        assert!(refusal(&scratch.path(&"x".repeat(100))).contains("too long"));
    }
}
