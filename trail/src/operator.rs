//! Who gives a command on this machine.

use nix::unistd::{Uid, User, getuid};

/// The account that runs this process; and the one that logged in, where it is
/// another (somebody who became root, or a service's account).
///
/// Source: `loginuid` of proc_pid_loginuid(5), which no change of account
/// changes.
pub fn operator() -> String {
    let own = getuid();
    let login = std::fs::read_to_string("/proc/self/loginuid")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        // (uid_t) -1: nobody logged in.
        .filter(|uid| *uid != u32::MAX)
        .map(Uid::from_raw);
    match login {
        Some(login) if login != own => format!("account:{} login:{}", name(own), name(login)),
        Some(_) | None => format!("account:{}", name(own)),
    }
}

/// The account's name; where it has none, `uid:` and its number, which no name
/// can be taken for.
fn name(uid: Uid) -> String {
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("uid:{uid}"), |user| user.name)
}
