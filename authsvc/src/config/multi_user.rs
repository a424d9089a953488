//! The settings of multi-user mode, in which users are accounts of this
//! machine.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use warrant_pam::Question;
use warrant_wire::Claims;
use warrant_wire::account::{MAX_UID, MIN_UID};
use warrant_wire::warrant::MAX_LIFETIME_S;

use super::Config;
use super::settings::in_range;
use crate::error::{Error, Result};

/// The most checks that `warrant-pam` makes at once.
const MAX_PAM_CHECKS: usize = 16;

/// Whether users are accounts of this machine. Source: `FLUX_SERVER_MODE` of
/// the Flux RESTful server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// Users are names; every job runs as the broker's own account.
    #[default]
    SingleUser,
    /// Users are accounts; their jobs run as them.
    MultiUser,
}

impl Mode {
    /// The mode's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SingleUser => "single-user",
            Self::MultiUser => "multi-user",
        }
    }

    /// The mode called `name`.
    ///
    /// Errors: there is none; the text says which there are.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        match name {
            "single-user" => Ok(Self::SingleUser),
            "multi-user" => Ok(Self::MultiUser),
            _ => Err(format!(
                "{name:?} is no mode; single-user and multi-user are"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

/// Which accounts may log in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Accounts {
    /// The smallest user id.
    pub(crate) min_uid: u32,
    /// The largest user id. Nobody's, and those of systemd's dynamic users, are
    /// no people's in any case.
    pub(crate) max_uid: u32,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            min_uid: MIN_UID,
            max_uid: MAX_UID,
        }
    }
}

/// Who exchanges access tokens for warrants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Grants {
    /// The broker, on behalf of its callers.
    #[default]
    Mediated,
    /// The user's own program.
    Client,
}

/// What whoever exchanges a token for a warrant must prove, where clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Proof {
    /// What the token asks for: nothing, unless it is bound to a key.
    #[default]
    Any,
    /// That they hold the key to which the token is bound.
    Dpop,
}

/// Warrants for jobs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Warrants {
    /// Who may have them.
    pub(crate) mode: Grants,
    /// What they must prove, where clients have them.
    pub(crate) proof: Proof,
    /// The shims for which there are warrants.
    pub(crate) audiences: Vec<String>,
    /// Their life in seconds, 1 to 60.
    pub(crate) life_s: u64,
    /// Warrants that one user may have in a second.
    pub(crate) per_second: u64,
    /// The directory that holds their keys, of mode 0700.
    pub(crate) keys_dir: PathBuf,
    /// Seconds after which a new key begins to sign.
    pub(crate) activation_s: u64,
    /// The broker's account.
    pub(crate) broker_user: String,
    /// The broker's user id; used instead of `broker_user` where it is given.
    pub(crate) broker_uid: Option<u32>,
}

impl Default for Warrants {
    fn default() -> Self {
        Self {
            mode: Grants::Mediated,
            proof: Proof::Any,
            audiences: vec!["local".into()],
            life_s: MAX_LIFETIME_S,
            per_second: 10_000,
            keys_dir: "/var/lib/warrant-auth/warrant-keys".into(),
            activation_s: 3600,
            broker_user: "warrant".into(),
            broker_uid: None,
        }
    }
}

/// The `pam` backend.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pam {
    /// Where `warrant-pam` answers.
    pub(crate) socket: PathBuf,
    /// The file of `/etc/pam.d` by whose rules it judges.
    pub(crate) service: String,
    /// Passwords checked at once.
    pub(crate) parallel: usize,
    /// Logins that wait for their turn; more are answered 503.
    pub(crate) queue: usize,
}

impl Default for Pam {
    fn default() -> Self {
        Self {
            socket: "/run/warrant-pam/pam.sock".into(),
            service: "login".into(),
            parallel: 8,
            queue: 256,
        }
    }
}

impl Config {
    /// Check what is set for multi-user mode, whether or not it is on.
    ///
    /// Errors: a value is not allowed; the message names the key.
    pub(super) fn check_multi_user(&self) -> Result<()> {
        let range = in_range;
        let (accounts, warrants, pam) = (&self.accounts, &self.warrants, &self.pam);
        range(
            "accounts.max_uid (or FLUX_MAX_UID)",
            accounts.max_uid.into(),
            1,
            MAX_UID.into(),
        )?;
        range(
            "accounts.min_uid (or FLUX_MIN_UID)",
            accounts.min_uid.into(),
            1,
            accounts.max_uid.into(),
        )?;
        range("warrants.life_s", warrants.life_s, 1, MAX_LIFETIME_S)?;
        range("warrants.per_second", warrants.per_second, 1, 1_000_000)?;
        range("warrants.activation_s", warrants.activation_s, 0, 604_800)?;
        range(
            "pam.parallel",
            pam.parallel as u64,
            1,
            MAX_PAM_CHECKS as u64,
        )?;
        range("pam.queue", pam.queue as u64, 0, 65_536)?;
        if warrants.keys_dir == self.keys.dir {
            return Err(Error::invalid(
                "warrants.keys_dir: must not be keys.dir; what signs logins must not sign jobs",
            ));
        }
        if warrants.audiences.is_empty() {
            return Err(Error::invalid("warrants.audiences: must not be empty"));
        }
        for audience in &warrants.audiences {
            check_text("warrants.audiences", audience)?;
        }
        check_text("tokens.issuer", self.warrant_issuer())?;
        Question::new(&pam.service, "a", b"a").map_err(|_| {
            Error::invalid(
                "pam.service (or FLUX_PAM_SERVICE): 1 to 32 of A-Z a-z 0-9 _ - are allowed",
            )
        })?;
        Ok(())
    }
}

/// Whether a warrant can hold `text`.
fn check_text(key: &str, text: &str) -> Result<()> {
    let claims = Claims {
        iss: text.to_owned(),
        aud: "a".into(),
        sub: "a".into(),
        uid: 0,
        job_sha256: [0; 32],
        jti: [0; 16],
        iat: 0,
        nbf: 0,
        exp: 0,
    };
    claims.encode().map(|_| ()).map_err(|_| {
        Error::invalid(format!(
            "{key}: 1 to 255 printable ASCII characters without \" and \\ are allowed"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check_multi_user().unwrap_err().message
    }

    #[test]
    fn the_defaults_are_allowed() {
        Config::default().check_multi_user().unwrap();
    }

    #[test]
    fn a_value_that_is_not_allowed_is_named() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 10] = [
            ("accounts.min_uid", |config| config.accounts.min_uid = 0),
            ("accounts.min_uid", |config| config.accounts.max_uid = 999),
            ("accounts.max_uid", |config| {
                config.accounts.max_uid = u32::MAX
            }),
            ("warrants.life_s", |config| config.warrants.life_s = 61),
            ("warrants.life_s", |config| config.warrants.life_s = 0),
            ("warrants.audiences", |config| {
                config.warrants.audiences.clear()
            }),
            ("warrants.audiences", |config| {
                config.warrants.audiences.push("a\"b".into());
            }),
            ("warrants.keys_dir", |config| {
                config.warrants.keys_dir = config.keys.dir.clone();
            }),
            ("pam.parallel", |config| config.pam.parallel = 17),
            ("pam.service", |config| {
                config.pam.service = "../other".into()
            }),
        ];
        for (key, change) in cases {
            let message = refusal(change);
            assert!(message.starts_with(key), "{key}: {message}");
        }
    }
}
