//! The directory in which `warrant up` keeps everything when it serves every
//! user: one directory of root's, in which each service has a place that no
//! other can write.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::up::accounts::Accounts;
use crate::up::lock::Lock;
use crate::up::state_dir::check_name;
use crate::up::tls::Tls;

/// Where it is unless another place is given.
pub(crate) const DEFAULT: &str = "/var/lib/warrant-up";

/// The longest path of a socket inside.
const LONGEST_SOCKET: &str = "/run/auth/authsvc.sock";

/// The directory, locked for as long as this lives.
pub(crate) struct RootDir {
    path: PathBuf,
    lock: Lock,
}

impl RootDir {
    /// Open the directory, making on first use whatever is missing.
    ///
    /// Errors: `Refused` when somebody but root could change it or what leads
    /// to it, when a part of it has another owner or mode than it should, or
    /// when another server uses it; `Usage` when its name cannot be used.
    pub(crate) fn open(path: &Path, accounts: &Accounts) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| {
            Failure::Refused(format!("cannot {what} {}: {error}", path.display()))
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| failed("create", error))?;
        let path = path.canonicalize().map_err(|error| failed("open", error))?;
        check_name(&path, LONGEST_SOCKET)?;
        check_policy_name(&path)?;
        check_chain(&path)?;
        let lock = Lock::take(&path)?;
        let dir = Self { path, lock };
        for part in parts(accounts) {
            part.keep(&dir.path)?;
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

    /// The path of a socket that a service is about to make. One that a killed
    /// service has left is removed, so that its presence tells of readiness.
    pub(crate) fn socket(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::Refused(
                format!("cannot remove {}: {error}", path.display()),
            )),
            Ok(()) | Err(_) => Ok(path),
        }
    }

    /// Copies of the files of TLS that the service `name`, as the account
    /// `uid`, and nobody else may read.
    ///
    /// Errors: `Refused` where they cannot be made, or the key is open to
    /// others.
    pub(crate) fn lend_tls(&self, tls: &Tls, name: &str, uid: u32) -> Result<Tls, Failure> {
        let files = ["pem", "key"].map(|end| self.path(&format!("tls/{name}.{end}")));
        for (path, content) in files.iter().zip(tls.contents()?) {
            write_for(path, &content, uid).map_err(|error| {
                Failure::Refused(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        Ok(tls.copied_to(files))
    }

    /// Put a file that everybody may read in its place, whole or not at all.
    pub(crate) fn put(&self, name: &str, content: &str) -> Result<(), Failure> {
        let path = self.path(name);
        let failed = |error| Failure::Refused(format!("cannot write {}: {error}", path.display()));
        let fresh = self.path(&format!("{name}.new"));
        write_public(&fresh, content)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(failed)
    }
}

fn write_for(path: &Path, content: &[u8], uid: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)?;
    file.write_all(content)?;
    // Given away last.
    std::os::unix::fs::fchown(&file, Some(uid), None)?;
    file.sync_all()
}

fn write_public(path: &Path, content: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// Whether a service has made its socket, and opened it to those whom `mode`
/// says.
pub(crate) fn is_socket(path: &Path, mode: u32) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| found.file_type().is_socket() && found.mode() & 0o777 == mode)
}

/// A directory inside, with its owner, group and mode.
struct Part {
    name: &'static str,
    uid: u32,
    gid: u32,
    mode: u32,
}

/// A socket belongs to the group of its directory, whoever makes it: that is
/// what the setgid bit says.
fn parts(accounts: &Accounts) -> [Part; 11] {
    let part = |name, uid, gid, mode| Part {
        name,
        uid,
        gid,
        mode,
    };
    let root = |name, mode| part(name, 0, 0, mode);
    let (broker, authsvc) = (accounts.broker_uid, accounts.authsvc_uid);
    let (broker_group, authsvc_group) = (accounts.broker_gid, accounts.authsvc_gid);
    [
        root("secrets", 0o700),
        root("shim", 0o700),
        root("warrant-keys", 0o755),
        root("run", 0o755),
        root("tls", 0o755),
        part("auth", authsvc, authsvc_group, 0o700),
        part("broker", broker, broker_group, 0o700),
        part("spool", 0, broker_group, 0o2750),
        part("run/auth", authsvc, broker_group, 0o2750),
        part("run/shim", 0, broker_group, 0o2750),
        part("run/pam", 0, authsvc_group, 0o2750),
    ]
}

impl Part {
    fn keep(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(self.name);
        let failed = |what: &str, error: io::Error| {
            Failure::Refused(format!("cannot {what} {}: {error}", path.display()))
        };
        match DirBuilder::new().mode(0o700).create(&path) {
            // Given away last: nobody but root has been able to touch it.
            Ok(()) => std::os::unix::fs::lchown(&path, Some(self.uid), Some(self.gid))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(self.mode)))
                .map_err(|error| failed("set up", error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found =
                    fs::symlink_metadata(&path).map_err(|error| failed("examine", error))?;
                self.check(&path, &found)
            }
            Err(error) => Err(failed("create", error)),
        }
    }

    fn check(&self, path: &Path, found: &Metadata) -> Result<(), Failure> {
        let mode = found.mode() & 0o7777;
        if found.is_dir() && (found.uid(), found.gid(), mode) == (self.uid, self.gid, self.mode) {
            return Ok(());
        }
        Err(Failure::Refused(format!(
            "{} must be a directory with owner {}, group {} and mode {:04o}; it has owner {}, \
             group {} and mode {mode:04o}",
            path.display(),
            self.uid,
            self.gid,
            self.mode,
            found.uid(),
            found.gid()
        )))
    }
}

/// The name is written into the policy file, between quotation marks.
fn check_policy_name(path: &Path) -> Result<(), Failure> {
    let fits = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if path.as_os_str().as_encoded_bytes().iter().all(fits) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "the state directory {path:?} must be printable ASCII without \" and \\"
    )))
}

/// Whether `path` and every directory above it is root's alone to change, and
/// open for the services to pass.
///
/// Errors: `Refused`, with the place that is not.
pub(crate) fn check_chain(path: &Path) -> Result<(), Failure> {
    for place in path.ancestors() {
        let trouble = |why: &str| Failure::Refused(format!("{} {why}", place.display()));
        let found = fs::symlink_metadata(place)
            .map_err(|error| trouble(&format!("cannot be examined: {error}")))?;
        if let Some(why) = doubt(found.uid(), found.mode()) {
            return Err(trouble(&format!(
                "{why}, so {} cannot be used for a server of all users",
                path.display()
            )));
        }
    }
    Ok(())
}

fn doubt(uid: u32, mode: u32) -> Option<&'static str> {
    if uid != 0 {
        return Some("does not belong to root");
    }
    if mode & 0o022 != 0 {
        return Some("can be written by others than root");
    }
    (mode & 0o001 == 0).then_some("is closed to the services' accounts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn only_what_root_alone_can_change_is_trusted() {
        assert_eq!(doubt(0, 0o40755), None);
        assert_eq!(doubt(0, 0o100_755), None);
        assert!(doubt(1000, 0o40755).is_some());
        assert!(doubt(0, 0o40775).is_some());
        assert!(doubt(0, 0o41777).is_some());
        assert!(doubt(0, 0o40750).is_some());
    }

    #[test]
    fn a_place_below_one_that_others_can_write_is_refused_by_name() {
        let scratch = Scratch::new();
        let path = scratch.path("state");
        fs::create_dir(&path).unwrap();
        let Err(Failure::Refused(message)) = check_chain(&path) else {
            panic!("it was accepted");
        };
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }

    #[test]
    fn a_name_that_fits_no_policy_file_is_refused() {
        for name in ["/a\"b", "/a\\b", "/ä"] {
            assert!(check_policy_name(Path::new(name)).is_err(), "{name}");
        }
        assert!(check_policy_name(Path::new("/srv/a b")).is_ok());
    }

    #[test]
    fn a_part_with_another_owner_or_mode_is_refused_and_not_changed() {
        let scratch = Scratch::new();
        let part = Part {
            name: "part",
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            mode: 0o700,
        };
        let dir = scratch.path("");
        part.keep(&dir).unwrap();
        part.keep(&dir).unwrap();
        let path = dir.join("part");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(part.keep(&dir).is_err());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
    }
}
