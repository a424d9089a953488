//! The first user of the server, and the secrets that the services are given.

use std::path::PathBuf;

use crate::auth::{Credentials, Password};
use crate::failure::Failure;
use crate::secret::Secret;

/// A secret, and where the user finds it.
pub(crate) struct Kept {
    /// The secret itself.
    pub(crate) secret: Secret,
    /// Its file; `None` when the environment gave it, for this run alone.
    pub(crate) file: Option<PathBuf>,
}

impl Kept {
    /// The secret shared with the clients, as [`Identity::gather`] takes it.
    pub(crate) fn secret_key(
        kept: impl Fn(&str) -> Result<(Secret, PathBuf), Failure>,
    ) -> Result<Self, Failure> {
        let variables = ["FLUX_SECRET_KEY", "FLUX_SECREY_KEY"];
        Self::gather(&variables, || kept("flux_secret_key"))
    }

    fn gather(
        variables: &[&str],
        kept: impl FnOnce() -> Result<(Secret, PathBuf), Failure>,
    ) -> Result<Self, Failure> {
        match variables.iter().find_map(|name| Secret::from_env(name)) {
            Some(secret) => Ok(Self { secret, file: None }),
            None => kept().map(|(secret, file)| Self {
                secret,
                file: Some(file),
            }),
        }
    }
}

/// Who may log in, and how.
pub(crate) struct Identity {
    /// The administrator's name: `FLUX_USER`.
    pub(crate) user: String,
    /// The administrator's password: `FLUX_TOKEN`.
    pub(crate) password: Kept,
    /// The secret shared with the clients: `FLUX_SECRET_KEY`.
    pub(crate) secret_key: Kept,
}

impl Identity {
    /// From the environment where it says so, else from the files that `kept`
    /// keeps.
    /// Source: the environment of the Flux RESTful API; its documents spell
    /// one variable both as `FLUX_SECRET_KEY` and `FLUX_SECREY_KEY`.
    pub(crate) fn gather(
        kept: impl Fn(&str) -> Result<(Secret, PathBuf), Failure>,
    ) -> Result<Self, Failure> {
        let user = std::env::var("FLUX_USER").ok();
        Ok(Self {
            user: user
                .filter(|user| !user.is_empty())
                .unwrap_or_else(|| "fluxuser".to_owned()),
            password: Kept::gather(&["FLUX_TOKEN"], || kept("flux_token"))?,
            secret_key: Kept::secret_key(kept)?,
        })
    }

    /// What a client needs to log in.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            user: self.user.clone(),
            password: Password::Known(self.password.secret.clone()),
            secret_key: None,
        }
    }
}
