//! The key directory: one file a key, called `SECONDS-KID.pem`, where SECONDS
//! since the Unix epoch is when it begins to sign. Whoever can write there
//! can be anybody, and whoever can read there too, so a directory or file that
//! is open to others than its owner is refused.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::SigningKey;
use warrant_migrations::Holder;

use crate::error::{Error, Kind, Result};
use crate::opaque;

/// No key file is longer, in bytes.
const MAX_FILE_BYTES: u64 = 4096;
/// No directory holds more keys.
const MAX_KEYS: usize = 1000;

/// The directory that holds the keys.
#[derive(Debug, Clone)]
pub(crate) struct KeyDir {
    path: PathBuf,
    /// The setting that names it.
    setting: &'static str,
}

impl KeyDir {
    /// Open `path`, which `setting` names, making it (mode 0700) if it is not
    /// there.
    ///
    /// Errors: it cannot be made, is no directory, belongs to somebody else,
    /// or is open to others.
    pub(crate) fn open(setting: &'static str, path: &Path) -> Result<Self> {
        let dir = Self {
            path: path.to_owned(),
            setting,
        };
        if !path.try_exists().unwrap_or(true) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|source| dir.unavailable(path, source))?;
        }
        dir.check()?;
        Ok(dir)
    }

    /// This service, as its database knows it: by a name that stays with the
    /// directory, made at first use.
    ///
    /// Errors: the name cannot be read or made.
    pub(crate) fn holder(&self) -> Result<Holder> {
        let path = self.path.join(".instance");
        let name = match fs::read_to_string(&path) {
            Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(self.unavailable(&path, source));
            }
            Ok(_) | Err(_) => self.make_name(&path)?,
        };
        let dir = self.path.canonicalize();
        let dir = dir.map_err(|source| self.unavailable(&self.path, source))?;
        let host = nix::unistd::gethostname().ok();
        Ok(Holder {
            name,
            host: host
                .and_then(|it| it.into_string().ok())
                .unwrap_or_default(),
            dir: dir.display().to_string(),
        })
    }

    fn make_name(&self, path: &Path) -> Result<String> {
        let name = opaque::id()?;
        let fresh = self.path.join(".instance.new");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| {
                file.write_all(name.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&fresh, path))
            .map_err(|source| self.unavailable(path, source))?;
        Ok(name)
    }

    /// Read every key.
    ///
    /// Errors: the directory or a file is open to others, belongs to somebody
    /// else or is not a key of the name it bears.
    pub(crate) fn load(&self) -> Result<Vec<SigningKey>> {
        self.check()?;
        let entries =
            fs::read_dir(&self.path).map_err(|source| self.unavailable(&self.path, source))?;
        let mut keys: Vec<SigningKey> = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|source| self.unavailable(&self.path, source))?
                .path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            // A key being written; see `add`.
            if name.starts_with('.') {
                continue;
            }
            let (signs_from_s, kid) = parse_name(name).ok_or_else(|| {
                self.refuse(
                    &path,
                    "is not called SECONDS-KID.pem, as `keys rotate` calls a key",
                )
            })?;
            let key = self.read(&path, signs_from_s)?;
            if key.kid != kid {
                return Err(self.refuse(&path, "holds another key than its name says"));
            }
            if keys.iter().any(|other| other.kid == key.kid) {
                return Err(self.refuse(&path, "holds a key that another file holds too"));
            }
            if keys.len() >= MAX_KEYS {
                return Err(self.refuse(&self.path, "holds more than 1000 keys"));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// Make a key that begins to sign at `signs_from_s`, and its file.
    ///
    /// Errors: the file cannot be written.
    pub(crate) fn add(&self, signs_from_s: u64) -> Result<SigningKey> {
        self.check()?;
        let (key, pem) = SigningKey::generate(signs_from_s)?;
        let path = self.path_of(&key);
        let hidden = self.path.join(format!(".{}", key.kid));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&hidden)
            .and_then(|mut file| {
                file.write_all(pem.as_ref())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&hidden, &path))
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(|source| self.unavailable(&path, source))?;
        Ok(key)
    }

    /// Remove the file of `key`; it is no error if it is gone.
    ///
    /// Errors: the file cannot be removed.
    pub(crate) fn remove(&self, key: &SigningKey) -> Result<()> {
        let path = self.path_of(key);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(self.unavailable(&path, source))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// When a file last came or went; cheap to ask.
    pub(crate) fn changed(&self) -> Option<SystemTime> {
        fs::metadata(&self.path)
            .and_then(|found| found.modified())
            .ok()
    }

    fn path_of(&self, key: &SigningKey) -> PathBuf {
        self.path
            .join(format!("{}-{}.pem", key.signs_from_s, key.kid))
    }

    fn check(&self) -> Result<()> {
        let found = fs::symlink_metadata(&self.path)
            .map_err(|source| self.unavailable(&self.path, source))?;
        if !found.is_dir() {
            return Err(self.refuse(&self.path, "is not a directory"));
        }
        self.check_private(&self.path, &found, "0700")
    }

    fn read(&self, path: &Path, signs_from_s: u64) -> Result<SigningKey> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)
            .map_err(|source| self.unavailable(path, source))?;
        let found = file
            .metadata()
            .map_err(|source| self.unavailable(path, source))?;
        if !found.is_file() {
            return Err(self.refuse(path, "is not a file"));
        }
        self.check_private(path, &found, "0600")?;
        let mut pem = String::new();
        file.take(MAX_FILE_BYTES)
            .read_to_string(&mut pem)
            .map_err(|source| self.unavailable(path, source))?;
        SigningKey::from_pem(&pem, signs_from_s)
            .map_err(|error| self.refuse(path, &format!("is {error}")))
    }

    fn unavailable(&self, path: &Path, source: std::io::Error) -> Error {
        Error::unavailable(
            format!("{}: {} cannot be used", self.setting, path.display()),
            source,
        )
    }

    fn check_private(&self, path: &Path, found: &Metadata, allowed: &str) -> Result<()> {
        let (owner, own) = (found.uid(), geteuid().as_raw());
        if owner != own {
            return Err(self.refuse(
                path,
                &format!(
                    "belongs to uid {owner}, but this is uid {own}; only its owner may use it"
                ),
            ));
        }
        let mode = found.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(self.refuse(path, &format!("has mode {mode:04o}; allowed is {allowed}")));
        }
        Ok(())
    }

    fn refuse(&self, path: &Path, why: &str) -> Error {
        Error::new(
            Kind::Insecure,
            format!("{}: {} {why}", self.setting, path.display()),
        )
    }
}

fn parse_name(name: &str) -> Option<(u64, &str)> {
    let (seconds, kid) = name.strip_suffix(".pem")?.split_once('-')?;
    Some((seconds.parse().ok()?, kid))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn open(path: &Path) -> Result<KeyDir> {
        KeyDir::open("keys.dir", path)
    }

    fn directory() -> (tempfile::TempDir, KeyDir) {
        let place = tempfile::tempdir().unwrap();
        let dir = open(&place.path().join("keys")).unwrap();
        (place, dir)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_directory_and_a_new_key_are_for_the_owner_alone() {
        let (_place, dir) = directory();
        let key = dir.add(7).unwrap();
        assert_eq!(mode(&dir.path), 0o700);
        assert_eq!(mode(&dir.path_of(&key)), 0o600);
        let loaded = dir.load().unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!((&loaded[0].kid, loaded[0].signs_from_s), (&key.kid, 7));
        dir.remove(&key).unwrap();
        dir.remove(&key).unwrap();
        assert!(dir.load().unwrap().is_empty());
    }

    #[test]
    fn a_directory_open_to_others_is_refused_with_its_mode() {
        let (_place, dir) = directory();
        for wide in [0o701, 0o710, 0o704, 0o740, 0o770, 0o755, 0o1777] {
            set_mode(&dir.path, wide);
            let error = open(&dir.path).unwrap_err();
            assert_eq!(error.kind, Kind::Insecure);
            assert!(error.message.contains(&format!("{wide:04o}")), "{error}");
            assert!(error.message.contains("allowed is 0700"), "{error}");
            assert!(dir.load().is_err());
            assert!(dir.add(1).is_err());
        }
    }

    #[test]
    fn a_key_file_open_to_others_is_refused_with_its_mode() {
        let (_place, dir) = directory();
        let key = dir.add(7).unwrap();
        for wide in [0o640, 0o604, 0o620, 0o644, 0o660, 0o601] {
            set_mode(&dir.path_of(&key), wide);
            let error = dir.load().unwrap_err();
            assert_eq!(error.kind, Kind::Insecure);
            assert!(error.message.contains(&format!("{wide:04o}")), "{error}");
            assert!(error.message.contains("allowed is 0600"), "{error}");
        }
        set_mode(&dir.path_of(&key), 0o400);
        assert_eq!(dir.load().unwrap().len(), 1);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let foreign = |error: Error| {
            assert_eq!(error.kind, Kind::Insecure);
            assert!(error.message.contains("belongs to uid"), "{error}");
        };
        if !geteuid().is_root() {
            return foreign(open(Path::new("/usr")).unwrap_err());
        }
        let (_place, dir) = directory();
        let key = dir.add(7).unwrap();
        chown(dir.path_of(&key), Some(65_534), None).unwrap();
        foreign(dir.load().unwrap_err());
        chown(&dir.path, Some(65_534), None).unwrap();
        foreign(open(&dir.path).unwrap_err());
    }

    #[test]
    fn a_link_is_followed_neither_to_a_directory_nor_to_a_key() {
        let (place, dir) = directory();
        let key = dir.add(7).unwrap();
        let link = place.path().join("link");
        symlink(&dir.path, &link).unwrap();
        assert_eq!(open(&link).unwrap_err().kind, Kind::Insecure);
        let elsewhere = place.path().join("key.pem");
        fs::rename(dir.path_of(&key), &elsewhere).unwrap();
        symlink(&elsewhere, dir.path_of(&key)).unwrap();
        assert!(dir.load().is_err());
    }

    #[test]
    fn a_file_that_is_not_the_key_it_is_called_is_refused() {
        let (_place, dir) = directory();
        let (one, two) = (dir.add(7).unwrap(), dir.add(8).unwrap());
        let pem = fs::read(dir.path_of(&one)).unwrap();
        fs::write(dir.path_of(&two), &pem).unwrap();
        assert!(dir.load().unwrap_err().message.contains("another key"));
        fs::rename(
            dir.path_of(&two),
            dir.path.join(format!("9-{}.pem", one.kid)),
        )
        .unwrap();
        assert!(dir.load().unwrap_err().message.contains("another file"));
        fs::rename(
            dir.path.join(format!("9-{}.pem", one.kid)),
            dir.path.join("notes.txt"),
        )
        .unwrap();
        assert!(dir.load().unwrap_err().message.contains("SECONDS-KID.pem"));
        fs::remove_file(dir.path.join("notes.txt")).unwrap();
        fs::write(dir.path_of(&one), "-----BEGIN PRIVATE KEY-----").unwrap();
        assert!(
            dir.load()
                .unwrap_err()
                .message
                .contains("not an Ed25519 private key")
        );
    }

    #[test]
    fn a_key_that_is_still_being_written_is_not_looked_at() {
        let (_place, dir) = directory();
        fs::write(dir.path.join(".half"), "").unwrap();
        assert!(dir.load().unwrap().is_empty());
    }
}
