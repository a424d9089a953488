//! The ground on which a multi-user installation stands: directories on the
//! disk that counts, under a path that is root's alone; accounts; PAM's
//! service for jobs. Only this run sees it, see [`crate::apart`].

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::house::Site;
use crate::{process, stamp};

/// An account of this run's own. Its group has the same number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its number.
    pub(crate) uid: u32,
}

/// The broker's account.
pub(crate) const BROKER: Account = Account {
    name: "warrant",
    uid: 64_001,
};
/// The auth service's account.
pub(crate) const AUTHSVC: Account = Account {
    name: "warrant-auth",
    uid: 64_002,
};
/// The account of keepers.
const KEEPER: Account = Account {
    name: "warrant-keeper",
    uid: 64_003,
};
/// Somebody who runs jobs.
pub(crate) const USER: Account = Account {
    name: "alice",
    uid: 54_011,
};
const ACCOUNTS: [Account; 4] = [BROKER, AUTHSVC, KEEPER, USER];

/// Where it may be seen: the first that is there and that `--dir` is not in.
const PLACES: [&str; 3] = ["/srv", "/mnt", "/opt"];
/// How often its files are removed until none is left.
const REMOVALS: u32 = 500;
const ACCOUNT_FILES: [&str; 3] = ["passwd", "group", "shadow"];
const PAM_SERVICES: &str = "/etc/pam.d";
/// What the packages install.
const PAM_SERVICE: &str = include_str!("../../../packaging/pam.d/warrant");
/// What the packages' service includes, on the systems that they are for.
const PAM_INCLUDED: &str = "common-session-noninteractive";
/// The program that writes down when it starts.
const STAMP: &str = "lib/stamp";

/// The ground. Dropped, it is as if it had never been.
#[derive(Debug)]
pub(crate) struct Ground {
    root: PathBuf,
    /// What is bound over something, the last one first.
    bound: Vec<PathBuf>,
    dir: TempDir,
}

impl Ground {
    /// Lay it, with these programs on it.
    ///
    /// Errors: a program is missing; something cannot be made or mounted.
    pub(crate) fn lay(site: &Site, programs: &[&str]) -> anyhow::Result<Self> {
        let root = PLACES
            .iter()
            .map(Path::new)
            .find(|place| place.is_dir() && !site.dir.starts_with(place))
            .with_context(|| format!("none of {PLACES:?} can be mounted on"))?;
        let dir = tempfile::Builder::new()
            .prefix("wb")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&site.dir)?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        furnish(dir.path(), root, programs, &site.programs)?;
        let mut ground = Self {
            root: root.to_owned(),
            bound: Vec::new(),
            dir,
        };
        ground.bind(ground.dir.path().to_owned(), root)?;
        for name in ACCOUNT_FILES {
            let copy = ground.path(&format!("accounts/{name}"));
            ground.bind(copy, &Path::new("/etc").join(name))?;
        }
        if Self::has_pam() {
            ground.bind(ground.path("pam.d"), Path::new(PAM_SERVICES))?;
        }
        Ok(ground)
    }

    /// A path on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether PAM is here, in the form for which the packages are made.
    pub(crate) fn has_pam() -> bool {
        Path::new(PAM_SERVICES).join(PAM_INCLUDED).exists()
    }

    /// The program that writes down when it starts; `None` if there is none
    /// for this machine.
    pub(crate) fn stamp(&self) -> Option<PathBuf> {
        Some(self.path(STAMP)).filter(|path| path.exists())
    }

    /// A command of one of its programs, for an account or for root.
    pub(crate) fn command(&self, program: &str, account: Option<Account>) -> Command {
        let mut command = process::command(&self.path("lib").join(program));
        command.current_dir("/");
        if let Some(Account { uid, .. }) = account {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Have something seen in another place as well.
    ///
    /// Errors: those of mount(2).
    pub(crate) fn bind(&mut self, from: PathBuf, to: &Path) -> anyhow::Result<()> {
        let none = None::<&str>;
        mount(Some(&from), to, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("{} cannot be bound over", to.display()))?;
        self.bound.insert(0, to.to_owned());
        Ok(())
    }

    /// Write the shim's policy, with these lines besides the paths.
    ///
    /// Errors: the disk's.
    pub(crate) fn write_policy(&self, lines: &[String]) -> anyhow::Result<PathBuf> {
        let mut text = String::new();
        for (key, name) in [
            ("keys", "etc/warrant-keys"),
            ("socket", "run/shim/shim.sock"),
            ("spool", "spool"),
            ("state", "shim"),
        ] {
            text.push_str(&format!("{key} = \"{}\"\n", self.path(name).display()));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let file = self.path("etc/shim.toml");
        fs::write(&file, text)?;
        Ok(file)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for place in &self.bound {
            let _ = umount2(place, MntFlags::MNT_DETACH);
        }
        // Jobs that lost their shim may still write.
        let mut tries = 0..REMOVALS;
        while tries.next().is_some() && fs::remove_dir_all(self.dir.path()).is_err() {
            std::thread::sleep(process::LOOK);
        }
    }
}

/// Make what stands on it, in `dir`, which will be seen as `root`.
fn furnish(dir: &Path, root: &Path, names: &[&str], programs: &Path) -> anyhow::Result<()> {
    const DIRECTORIES: [(&str, Option<Account>, u32); 13] = [
        ("accounts", None, 0o755),
        ("etc", None, 0o755),
        ("etc/warrant-keys", None, 0o755),
        ("home", None, 0o755),
        ("lib", None, 0o755),
        ("log", None, 0o755),
        ("pam.d", None, 0o755),
        ("run", None, 0o755),
        ("run/shim", None, 0o755),
        ("run/auth", Some(AUTHSVC), 0o755),
        ("shim", None, 0o700),
        ("auth", Some(AUTHSVC), 0o700),
        ("broker", Some(BROKER), 0o700),
    ];
    for (name, account, mode) in DIRECTORIES {
        own(&dir.join(name), account, mode)?;
    }
    own(&dir.join("home").join(USER.name), Some(USER), 0o700)?;
    // What is made in these belongs to the broker's group.
    for (name, mode) in [("run/auth", 0o2755), ("spool", 0o2750)] {
        let path = dir.join(name);
        if !path.exists() {
            fs::create_dir(&path)?;
        }
        chown(&path, None, Some(BROKER.uid))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    for name in names {
        let from = programs.join(name);
        let to = dir.join("lib").join(name);
        fs::copy(&from, &to).with_context(|| format!("{} is missing", from.display()))?;
        fs::set_permissions(&to, Permissions::from_mode(0o755))?;
    }
    if let Some(stamp) = stamp::program() {
        let path = dir.join(STAMP);
        fs::write(&path, stamp)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    for name in ACCOUNT_FILES {
        write_accounts(name, &dir.join("accounts").join(name), root)?;
    }
    if Ground::has_pam() {
        for service in fs::read_dir(PAM_SERVICES)? {
            let service = service?;
            fs::copy(service.path(), dir.join("pam.d").join(service.file_name()))?;
        }
        fs::write(dir.join("pam.d/warrant"), PAM_SERVICE)?;
    }
    Ok(())
}

/// A directory of an account's own, or root's.
fn own(path: &Path, account: Option<Account>, mode: u32) -> anyhow::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    if let Some(Account { uid, .. }) = account {
        chown(path, Some(uid), Some(uid))?;
    }
    Ok(())
}

/// The machine's accounts and ours. Source: passwd(5), group(5), shadow(5).
fn write_accounts(name: &str, copy: &Path, root: &Path) -> anyhow::Result<()> {
    let file = Path::new("/etc").join(name);
    let mut text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    for Account { name: user, uid } in ACCOUNTS {
        let shell = match user == USER.name {
            true => "/bin/sh",
            false => "/usr/sbin/nologin",
        };
        let home = root.join("home").join(user);
        text.push_str(&match name {
            "passwd" => format!("{user}:x:{uid}:{uid}::{}:{shell}\n", home.display()),
            "group" => format!("{user}:x:{uid}:\n"),
            _ => format!("{user}:*:19000:0:99999:7:::\n"),
        });
    }
    fs::write(copy, text)?;
    fs::set_permissions(copy, fs::metadata(&file)?.permissions())?;
    Ok(())
}
