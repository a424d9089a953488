//! Before anything else: is this machine set up so that root may run this?
//!
//! Whatever decides who may do what must be root's alone to change, down from
//! the root directory. Any doubt, and the monitor does not start.

use std::ffi::{CStr, CString, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path};

use nix::sys::prctl;
use nix::unistd::{Gid, Group, Uid, User, chown, execve, geteuid};
use warrant_wire::account::NOBODY_UIDS;

use crate::identity::is_user;
use crate::keys::Keys;
use crate::policy::{self, Policy};
use crate::{session, sys};

/// Exit code of a monitor that refuses to start. Source: sysexits(3), EX_CONFIG.
pub const EX_CONFIG: u8 = 78;

/// Most bytes of a file that says what the shim may do.
const MOST_BYTES: usize = 64 * 1024;
/// What is said of a path that must lead to a directory.
const DIRECTORY: &str = "must be a directory, not a link to one";
/// Variables that change how programs are loaded and how the C library finds
/// things; `*` stands for whatever follows. Source: ld.so(8), the variables
/// that secure execution ignores.
pub(crate) const MEDDLING: &str = "LD_* MALLOC_* GLIBC_TUNABLES GCONV_PATH GETCONF_DIR HOSTALIASES \
    LOCALDOMAIN LOCPATH NLSPATH NIS_PATH RES_* RESOLV_* TZDIR BASH_ENV ENV IFS";
/// More of them that have no business with root.
const MEDDLING_HERE: &str = "TMPDIR TZ KRB5_* OPENSSL_* SSL_* PAM_*";

/// Which of the words of a list a name is; `*` at the end of one stands for
/// whatever follows.
pub(crate) fn listed<'a>(name: &[u8], list: &'a str) -> Option<&'a str> {
    let mut words = list.split_ascii_whitespace();
    words.find(|word| match word.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == word.as_bytes(),
    })
}

/// Why the monitor does not start: something about a file, or anything else
/// that has a name.
pub fn doubt(what: impl AsRef<Path>, text: &str) -> io::Error {
    about(what)(io::Error::other(text))
}

/// Says what an error is about.
pub fn about<P: AsRef<Path>>(what: P) -> impl Fn(io::Error) -> io::Error {
    move |error| {
        io::Error::new(
            error.kind(),
            format!("{}: {error}", what.as_ref().display()),
        )
    }
}

/// What a monitor is sure of once it may start.
pub struct Checked {
    /// What the administrator allows.
    pub policy: Policy,
    /// The keys that are trusted.
    pub keys: Keys,
    /// The user id of the broker, and the group that reads the spool and
    /// reaches the socket.
    pub broker: (Uid, Gid),
    /// User and group ids of keepers that need not be root any more.
    pub keeper: (Uid, Gid),
}

/// Checks everything, in an order in which nothing is used before it is
/// checked. Starts this program anew, without an environment, if it has one;
/// `more` are arguments that it then gets besides its own.
///
/// Errors: the first doubt.
pub fn check(policy_file: &Path, more: &[String]) -> io::Result<Checked> {
    let process = about("this process");
    if !geteuid().is_root() {
        return Err(doubt("this process", "must run as root"));
    }
    if !sys::process::is_single_threaded().map_err(&process)? {
        return Err(doubt("this process", "must have one thread"));
    }
    clean_environment(more)?;
    sys::fd::close_range(3, i32::MAX).map_err(&process)?;

    file(&fs::read_link("/proc/self/exe").map_err(&process)?)?;
    let content = read(policy_file)?;
    let policy = policy::parse(&content).map_err(|wrong| doubt(policy_file, &wrong))?;
    if policy.pam {
        session::check_service()?;
    }
    let (broker, keeper) = accounts(&policy)?;
    let keys = Keys::load(&policy.keys)?;
    let state = make_directory(&policy.state, 0o700, None)?;
    if state.mode() & 0o077 != 0 {
        return Err(doubt(&policy.state, "must have mode 0700"));
    }
    writable(&policy.state)?;
    // The broker's group may read it, and what is made in it has that group.
    let spool = make_directory(&policy.spool, 0o2750, Some(broker.1))?;
    if spool.mode() & 0o7777 != 0o2750 || spool.gid() != broker.1.as_raw() {
        let text = "must have mode 2750 and the broker's group";
        return Err(doubt(&policy.spool, text));
    }
    writable(&policy.spool)?;
    Ok(Checked {
        policy,
        keys,
        broker,
        keeper,
    })
}

/// A directory, not through a link, that is root's alone to change, and so
/// is everything above it.
///
/// Errors: it is not.
pub fn directory(path: &Path) -> io::Result<Metadata> {
    walk(path, Metadata::is_dir, DIRECTORY)
}

/// A file, not through a link, that is root's alone to change, and so is
/// everything above it.
///
/// Errors: it is not.
pub fn file(path: &Path) -> io::Result<Metadata> {
    walk(path, Metadata::is_file, "must be a regular file")
}

/// Walks to a path from the root directory: what it finds on its way nobody
/// else can change behind it. Answers what is there.
fn walk(path: &Path, is_right: fn(&Metadata) -> bool, must: &str) -> io::Result<Metadata> {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) {
        return Err(doubt(path, "must be an absolute path without .."));
    }
    if let Some(above) = path.parent() {
        walk(above, Metadata::is_dir, DIRECTORY)?;
    }
    let metadata = fs::symlink_metadata(path).map_err(about(path))?;
    let text = match metadata.mode() & 0o022 {
        _ if !is_right(&metadata) => must,
        _ if metadata.uid() != 0 => "must belong to root",
        0 => return Ok(metadata),
        _ => "must be writable by root alone",
    };
    Err(doubt(path, text))
}

/// The content of such a file.
///
/// Errors: it is not one; it has more than 64 KiB; it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    file(path)?;
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES as u64 + 1).read_to_end(&mut content))
        .map_err(about(path))?;
    match content.len() > MOST_BYTES {
        true => Err(doubt(path, "must be at most 64 KiB")),
        false => Ok(content),
    }
}

/// Makes a directory if there is none, below one that is safe. Answers what
/// is there, which is safe as well.
///
/// Errors: it is not; it cannot be made.
pub fn make_directory(path: &Path, mode: u32, group: Option<Gid>) -> io::Result<Metadata> {
    directory(path.parent().unwrap_or(path))?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        // Whatever the file mode creation mask took away.
        Ok(()) => chown(path, None, group)
            .map_err(io::Error::from)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(about(path))?;
    directory(path)
}

/// See that a directory takes a new file, which is removed at once. Where room
/// is all that is lacking, jobs that run must be kept all the same.
///
/// Errors: it does not.
fn writable(dir: &Path) -> io::Result<()> {
    let path = dir.join(".writable");
    let write = || {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let written = file.write_all(b"w").and_then(|()| file.sync_all());
        fs::remove_file(&path)?;
        written
    };
    match write() {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            Ok(())
        }
        written => written.map_err(about(dir)),
    }
}

/// Who the broker and the keepers are, once and for all: two accounts, and
/// neither could have a job.
fn accounts(policy: &Policy) -> io::Result<((Uid, Gid), (Uid, Gid))> {
    let account = |key, name| {
        let user = User::from_name(name).map_err(|_| doubt(key, "cannot be looked up"))?;
        let user = user.ok_or_else(|| doubt(key, "there is no such account"))?;
        match user.uid.is_root() || NOBODY_UIDS.contains(&user.uid.as_raw()) {
            true => Err(doubt(key, "must not be root or nobody")),
            false => Ok(user),
        }
    };
    let broker = account("broker_user", &policy.broker_user)?;
    let keeper = account("keeper_user", &policy.keeper_user)?;
    let group = Group::from_name(&policy.broker_group);
    let group = group.map_err(|_| doubt("broker_group", "cannot be looked up"))?;
    let group = group.ok_or_else(|| doubt("broker_group", "there is no such group"))?;
    if group.gid.as_raw() == 0 {
        return Err(doubt("broker_group", "must not be root's"));
    }
    let wrong = |text| Err(doubt("keeper_user", text));
    if keeper.uid == broker.uid || keeper.gid.as_raw() == 0 || keeper.gid == group.gid {
        return wrong("must have a user id and a group of its own");
    }
    if is_user(keeper.uid.as_raw(), policy) {
        return wrong("must be outside of min_uid to max_uid");
    }
    Ok(((broker.uid, group.gid), (keeper.uid, keeper.gid)))
}

/// Refuses what meddles, and starts this program anew, with `more` arguments,
/// if there is anything in the environment.
fn clean_environment(more: &[String]) -> io::Result<()> {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in &names {
        let lists = [MEDDLING, MEDDLING_HERE];
        if let Some(word) = lists.iter().find_map(|list| listed(name.as_bytes(), list)) {
            let text = format!("must not have a variable {word}");
            return Err(doubt("the environment", &text));
        }
    }
    if names.is_empty() {
        let _ = prctl::set_name(c"warrant-shim");
        return Ok(());
    }
    // The kernel shows the environment that a program was started with, so
    // clearing it takes a new start. The process stays the same.
    let words = std::env::args_os().chain(more.iter().map(OsString::from));
    let words = words.filter_map(|word| CString::new(word.into_vec()).ok());
    let (words, none): (Vec<_>, [&CStr; 0]) = (words.collect(), []);
    let Err(errno) = execve(c"/proc/self/exe", &words, &none);
    Err(about("this process")(errno.into()))
}
