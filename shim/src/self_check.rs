//! Before anything else: is this machine set up so that root may run this?
//!
//! Whatever decides who may do what must be root's alone to change, down from
//! the root directory. Any doubt, and the monitor does not start.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::libc;
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Group, Uid, User, chown, execve, geteuid, getpid};

use crate::identity::NOBODY;
use crate::keys::Keys;
use crate::policy::{self, Policy};
use crate::sys;

/// Exit code of a monitor that refuses to start. Source: sysexits(3), EX_CONFIG.
pub const EX_CONFIG: u8 = 78;

/// Mode of the spool: the broker's group may read it, and what is made in it
/// has that group.
const SPOOL_MODE: u32 = 0o2750;
/// PAM's service file for jobs; without it PAM would use another one.
const PAM_SERVICE: &str = "/etc/pam.d/warrant";

/// Variables that make the C library, PAM or the loader do things; by name,
/// or by how their name begins.
const MEDDLING: [&str; 23] = [
    "LD_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "GETCONF_DIR",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "NLSPATH",
    "NIS_PATH",
    "RES_OPTIONS",
    "RESOLV_",
    "RES_",
    "TMPDIR",
    "TZ",
    "TZDIR",
    "KRB5_",
    "OPENSSL_",
    "SSL_",
    "PAM_",
    "BASH_ENV",
    "ENV",
    "IFS",
];
/// The variables that are kept; nothing here or in a keeper sees another.
const KEPT: [&str; 2] = ["LISTEN_FDS", "LISTEN_PID"];

/// Why the monitor does not start.
#[derive(Debug)]
pub struct Doubt {
    what: String,
    text: String,
}

impl Doubt {
    /// Something about a file, or anything else that has a name.
    pub fn new(what: impl AsRef<Path>, text: impl Into<String>) -> Self {
        Self {
            what: what.as_ref().display().to_string(),
            text: text.into(),
        }
    }

    /// An error of the system about a file.
    #[must_use]
    pub fn about(what: &Path, error: io::Error) -> Self {
        Self::new(what, error.to_string())
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.text)
    }
}

/// What a monitor is sure of once it may start.
pub struct Checked {
    /// What the administrator allows.
    pub policy: Policy,
    /// The keys that are trusted.
    pub keys: Keys,
    /// The user id of the broker.
    pub broker_uid: Uid,
    /// The group that reads the spool and reaches the socket.
    pub broker_gid: Gid,
    /// Whether descriptor 3 is the socket to listen on.
    pub inherits_socket: bool,
}

/// Checks everything, in an order in which nothing is used before it is
/// checked. Starts this program anew, without an environment, if it has one.
///
/// Errors: the first doubt.
pub fn check(policy_file: &Path) -> Result<Checked, Doubt> {
    let process = |text: &str| Doubt::new("this process", text);
    open_standard().map_err(|errno| process(errno.desc()))?;
    if !geteuid().is_root() {
        return Err(process("must run as root"));
    }
    let threads =
        fs::read_dir("/proc/self/task").map_err(|error| Doubt::new("/proc", error.to_string()))?;
    if threads.count() != 1 {
        return Err(process("must have one thread"));
    }
    clean_environment()?;
    let inherits_socket = inherits_socket()?;
    let first = if inherits_socket { 4 } else { 3 };
    sys::fd::close_range(first, i32::MAX).map_err(|error| process(&error.to_string()))?;

    let this = fs::read_link("/proc/self/exe").map_err(|error| process(&error.to_string()))?;
    file(&this)?;
    let content = read(policy_file, policy::MAX_FILE_BYTES)?;
    let policy =
        policy::parse(&content).map_err(|wrong| Doubt::new(policy_file, wrong.to_string()))?;
    if policy.pam {
        file(Path::new(PAM_SERVICE))?;
    }
    let (broker_uid, broker_gid) = broker(&policy)?;
    let keys = Keys::load(&policy.keys)?;
    make_directory(&policy.state, 0o700)?;
    let state = directory(&policy.state)?;
    if state.mode() & 0o077 != 0 {
        return Err(Doubt::new(&policy.state, "must have mode 0700"));
    }
    make_spool(&policy.spool, broker_gid)?;
    Ok(Checked {
        policy,
        keys,
        broker_uid,
        broker_gid,
        inherits_socket,
    })
}

/// A directory, not through a link, that is root's alone to change, and so
/// is everything above it.
///
/// Errors: it is not.
pub fn directory(path: &Path) -> Result<Metadata, Doubt> {
    ancestors(path)?;
    check_one(path, Metadata::is_dir, "must be a directory")
}

/// A file, not through a link, that is root's alone to change, and so is
/// everything above it.
///
/// Errors: it is not.
pub fn file(path: &Path) -> Result<Metadata, Doubt> {
    ancestors(path)?;
    check_one(path, Metadata::is_file, "must be a regular file")
}

/// The content of such a file.
///
/// Errors: it is not one; it has more than `most` bytes; it cannot be read.
pub fn read(path: &Path, most: usize) -> Result<Vec<u8>, Doubt> {
    file(path)?;
    let about = |error| Doubt::about(path, error);
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(about)?;
    let mut content = Vec::new();
    let limit = most.saturating_add(1) as u64;
    opened
        .take(limit)
        .read_to_end(&mut content)
        .map_err(about)?;
    if content.len() > most {
        return Err(Doubt::new(path, format!("must be at most {most} bytes")));
    }
    Ok(content)
}

fn ancestors(path: &Path) -> Result<(), Doubt> {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) {
        return Err(Doubt::new(path, "must be an absolute path without .."));
    }
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    for dir in above {
        check_one(
            dir,
            Metadata::is_dir,
            "must be a directory, not a link to one",
        )?;
    }
    Ok(())
}

fn check_one(path: &Path, is: impl Fn(&Metadata) -> bool, must: &str) -> Result<Metadata, Doubt> {
    let metadata = fs::symlink_metadata(path).map_err(|error| Doubt::about(path, error))?;
    if !is(&metadata) {
        return Err(Doubt::new(path, must));
    }
    if metadata.uid() != 0 {
        return Err(Doubt::new(path, "must belong to root"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Doubt::new(path, "must be writable by root alone"));
    }
    Ok(metadata)
}

/// Makes a directory if there is none, below one that is safe.
///
/// Errors: what is above is not safe; it cannot be made.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), Doubt> {
    ancestors(path)?;
    match fs::DirBuilder::new().mode(mode).create(path) {
        // Whatever the file mode creation mask took away.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| Doubt::about(path, error))
}

fn make_spool(path: &Path, group: Gid) -> Result<(), Doubt> {
    let about = |error| Doubt::about(path, error);
    if fs::symlink_metadata(path).is_err() {
        make_directory(path, 0o700)?;
        chown(path, None, Some(group)).map_err(|errno| about(errno.into()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(SPOOL_MODE)).map_err(about)?;
    }
    let spool = directory(path)?;
    if spool.mode() & 0o7777 != SPOOL_MODE || spool.gid() != group.as_raw() {
        return Err(Doubt::new(
            path,
            "must have mode 2750 and the broker's group",
        ));
    }
    Ok(())
}

/// Who the broker is, once and for all.
fn broker(policy: &Policy) -> Result<(Uid, Gid), Doubt> {
    let user = User::from_name(&policy.broker_user)
        .ok()
        .flatten()
        .ok_or_else(|| Doubt::new("broker_user", "there is no such account"))?;
    let group = Group::from_name(&policy.broker_group)
        .ok()
        .flatten()
        .ok_or_else(|| Doubt::new("broker_group", "there is no such group"))?;
    if user.uid.is_root() || NOBODY.contains(&user.uid.as_raw()) {
        return Err(Doubt::new("broker_user", "must not be root or nobody"));
    }
    if group.gid.as_raw() == 0 {
        return Err(Doubt::new("broker_group", "must not be root's"));
    }
    Ok((user.uid, group.gid))
}

/// Opens `/dev/null` in place of standard descriptors that are closed, so that
/// no file of ours ever gets one of their numbers.
fn open_standard() -> Result<(), Errno> {
    loop {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        fcntl(&null, FcntlArg::F_SETFD(FdFlag::empty()))?;
        // It stays open for good.
        let _ = null.into_raw_fd();
    }
}

fn clean_environment() -> Result<(), Doubt> {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in &names {
        let meddles = |meddling: &&&str| match meddling.strip_suffix('_') {
            Some(_) => name.as_bytes().starts_with(meddling.as_bytes()),
            None => name.as_bytes() == meddling.as_bytes(),
        };
        if let Some(meddling) = MEDDLING.iter().find(meddles) {
            let text = format!("must not have a variable {meddling}");
            return Err(Doubt::new("the environment", text));
        }
    }
    if names
        .iter()
        .all(|name| KEPT.iter().any(|kept| name == kept))
    {
        let _ = prctl::set_name(c"warrant-shim");
        return Ok(());
    }
    // The kernel shows the environment that a program was started with, so
    // clearing it takes a new start. The process stays the same.
    let kept = KEPT.iter().filter_map(|name| {
        let value = std::env::var_os(name)?;
        CString::new([name.as_bytes(), value.as_bytes()].join(&b'=')).ok()
    });
    let words = std::env::args_os().filter_map(|word| CString::new(word.into_vec()).ok());
    let Err(errno) = execve(
        c"/proc/self/exe",
        &words.collect::<Vec<_>>(),
        &kept.collect::<Vec<_>>(),
    );
    Err(Doubt::new(
        "this process",
        format!("cannot be started anew: {}", errno.desc()),
    ))
}

/// Whether descriptor 3 was passed on to be listened on.
/// Source: sd_listen_fds(3).
fn inherits_socket() -> Result<bool, Doubt> {
    let number = |name| {
        let value = std::env::var(name).ok()?;
        value.parse::<i32>().ok()
    };
    if number("LISTEN_PID") != Some(getpid().as_raw()) {
        return Ok(false);
    }
    match number("LISTEN_FDS") {
        Some(1) => Ok(true),
        Some(_) | None => Err(Doubt::new("LISTEN_FDS", "must be 1")),
    }
}
