//! The command line: `warrant-pam serve [--socket PATH]
//! [--peer-uid N | --peer-user NAME]`.

use std::path::PathBuf;

use nix::unistd::User;

const USAGE: &str = "usage: warrant-pam serve [--socket PATH] [--peer-uid N | --peer-user NAME]";
/// The account that may ask, unless another is named.
const PEER_USER: &str = "warrant-auth";

pub(crate) struct Options {
    /// Where to listen; without it, the socket is systemd's.
    pub(crate) socket: Option<PathBuf>,
    /// Who may ask.
    pub(crate) peer_uid: u32,
}

/// What the command line says.
///
/// Errors: it is not as in the usage, or there is no such account.
pub(crate) fn read() -> Result<Options, String> {
    parse(std::env::args().skip(1))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    if words.next().as_deref() != Some("serve") {
        return Err(USAGE.into());
    }
    let (mut socket, mut peer_uid) = (None, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--socket" if socket.is_none() => socket = Some(PathBuf::from(value)),
            "--peer-uid" if peer_uid.is_none() => {
                let uid = value
                    .parse()
                    .map_err(|_| "--peer-uid: a number is needed")?;
                peer_uid = Some(uid);
            }
            "--peer-user" if peer_uid.is_none() => peer_uid = Some(uid_of(&value)?),
            _ => return Err(USAGE.into()),
        }
    }
    let peer_uid = match peer_uid {
        Some(uid) => uid,
        None => uid_of(PEER_USER)?,
    };
    Ok(Options { socket, peer_uid })
}

fn uid_of(name: &str) -> Result<u32, String> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no account {name:?}")),
        Err(errno) => Err(format!("the account {name:?} was not looked up: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_peer_is_a_number_or_a_name() {
        assert_eq!(options("serve --peer-uid 7").unwrap().peer_uid, 7);
        assert_eq!(options("serve --peer-user daemon").unwrap().peer_uid, 1);
        let both = options("serve --socket /run/x --peer-uid 7").unwrap();
        assert_eq!(both.socket, Some(PathBuf::from("/run/x")));
    }

    #[test]
    fn whatever_else_is_refused() {
        for line in [
            "",
            "run",
            "serve --peer-uid",
            "serve --peer-uid -1",
            "serve --peer-uid 4294967296",
            "serve --peer-user no-such-account",
            "serve --peer-uid 7 --peer-user daemon",
            "serve --peer-uid 7 --peer-uid 8",
            "serve --verbose yes",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
    }
}
