//! Reading a secret from a file that is for few to read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;
use zeroize::Zeroizing;

/// The longest file that is read as a secret, in bytes.
const MAX_BYTES: usize = 4096;
/// Where systemd puts the credentials of a unit. Source: systemd.exec(5).
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Why a secret was not read: which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotRead {
    /// For the operator.
    pub message: String,
    /// What the operating system said.
    #[source]
    pub source: Option<std::io::Error>,
}

impl NotRead {
    fn new(path: &Path, why: impl std::fmt::Display) -> Self {
        Self {
            message: format!("{} {why}", path.display()),
            source: None,
        }
    }
}

/// The secret in the file that a setting names: a whole path, or the name of a
/// credential that systemd hands to the unit, as `credential:NAME` or `NAME`.
/// A newline at its end is none of it.
///
/// Errors: there is no such credential; the file cannot be read, is for others
/// to read or to write, is empty, is longer than 4096 bytes or is not UTF-8.
pub fn read_setting(path: &Path) -> Result<Zeroizing<String>, NotRead> {
    let directory = std::env::var_os(DIRECTORY);
    read_argument(&find(path, directory.as_deref())?)
}

/// As [`read_setting`], where an operator names the file on the command line.
///
/// Errors: as [`read_setting`].
pub fn read_argument(path: &Path) -> Result<Zeroizing<String>, NotRead> {
    let unread = |source| NotRead {
        source: Some(source),
        ..NotRead::new(path, "cannot be read as text")
    };
    let file = File::open(path).map_err(unread)?;
    let found = file.metadata().map_err(unread)?;
    let (own, owner) = (geteuid().as_raw(), found.uid());
    if owner != 0 && owner != own && own != 0 {
        let why = format!("belongs to uid {owner}; it must belong to root or to uid {own}");
        return Err(NotRead::new(path, why));
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o027 != 0 {
        let why = format!("has mode {mode:04o}; allowed are 0600 and 0640");
        return Err(NotRead::new(path, why));
    }
    // Of its full size from the start: nothing of it is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES + 1));
    file.take(MAX_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(unread)?;
    if text.len() > MAX_BYTES {
        return Err(NotRead::new(path, "is longer than 4096 bytes"));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line).len();
    text.truncate(line);
    if text.is_empty() {
        return Err(NotRead::new(path, "is empty"));
    }
    Ok(text)
}

/// The file itself, where credentials are in `directory`.
fn find(path: &Path, directory: Option<&OsStr>) -> Result<PathBuf, NotRead> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let name = path.to_str().unwrap_or_default();
    let name = Path::new(name.strip_prefix("credential:").unwrap_or(name));
    let mut parts = name.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else {
        let why = "is neither a whole path nor the name of a credential";
        return Err(NotRead::new(path, why));
    };
    match directory {
        Some(directory) if !directory.is_empty() => Ok(Path::new(directory).join(name)),
        Some(_) | None => Err(NotRead::new(
            path,
            format!(
                "is the name of a credential, and there is no ${DIRECTORY}: start the service \
                 by systemd with LoadCredential=, or write the whole path of a file"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_secret_file_loses_only_the_newline_at_its_end() {
        for text in [" two words \n\n", " two words \n\r\n"] {
            let (_dir, path) = file(text, 0o600);
            assert_eq!(*read_setting(&path).unwrap(), " two words \n");
        }
    }

    #[test]
    fn t108_a_secret_that_others_may_read_or_change_is_refused_with_its_mode() {
        for mode in [0o644, 0o604, 0o602, 0o601, 0o660, 0o620, 0o666] {
            let (_dir, path) = file("canary", mode);
            let error = read_setting(&path).unwrap_err();
            assert!(error.message.contains(&format!("{mode:04o}")), "{error}");
            assert!(!format!("{error:?}").contains("canary"));
        }
        for mode in [0o600, 0o400, 0o640, 0o440] {
            let (_dir, path) = file("s", mode);
            assert_eq!(*read_setting(&path).unwrap(), "s", "{mode:o}");
        }
    }

    #[test]
    fn an_empty_a_missing_a_long_and_an_endless_file_are_refused() {
        let (_dir, empty) = file("\n", 0o600);
        let (_dir, long) = file(&"x".repeat(4097), 0o600);
        let (_dir, binary) = file("", 0o600);
        fs::write(&binary, [0xff]).unwrap();
        for path in [
            empty.as_path(),
            &long,
            &binary,
            Path::new("/dev/zero"),
            Path::new("/nonexistent/secret"),
        ] {
            read_setting(path).unwrap_err();
        }
        let (_dir, longest) = file(&"x".repeat(4096), 0o600);
        assert_eq!(read_setting(&longest).unwrap().len(), 4096);
    }

    #[test]
    fn a_credential_is_found_by_its_name_and_leads_nowhere_else() {
        let at = |name: &str| find(Path::new(name), Some(OsStr::new("/run/credentials/unit")));
        let wanted = Path::new("/run/credentials/unit/database");
        assert_eq!(at("credential:database").unwrap(), wanted);
        assert_eq!(at("database").unwrap(), wanted);
        assert_eq!(at("/etc/secret").unwrap(), Path::new("/etc/secret"));
        for name in [
            "credential:../shadow",
            "../a",
            "a/b",
            "credential:",
            "..",
            "",
            "credential:/etc/shadow",
        ] {
            at(name).unwrap_err();
        }
        for directory in [None, Some(OsStr::new(""))] {
            let error = find(Path::new("credential:database"), directory).unwrap_err();
            assert!(error.message.contains("LoadCredential"), "{error}");
        }
    }
}
