//! The first user of the server, and the secrets that the services are given.

use std::path::PathBuf;

use crate::auth::{Credentials, Password};
use crate::failure::Failure;
use crate::secret::Secret;
use crate::up::state_dir::StateDir;

/// A secret, and where the user finds it.
pub(crate) struct Kept {
    /// The secret itself.
    pub(crate) secret: Secret,
    /// Its file; `None` when the environment gave it, for this run alone.
    pub(crate) file: Option<PathBuf>,
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
    /// From the environment where it says so, else from the state directory.
    /// Source: the environment of the Flux RESTful API; its documents spell
    /// one variable both as `FLUX_SECRET_KEY` and `FLUX_SECREY_KEY`.
    pub(crate) fn gather(dir: &StateDir) -> Result<Self, Failure> {
        let keep = |variables: &[&str], file: &str| match variables
            .iter()
            .find_map(|name| Secret::from_env(name))
        {
            Some(secret) => Ok(Kept { secret, file: None }),
            None => dir.secret(file).map(|(secret, path)| Kept {
                secret,
                file: Some(path),
            }),
        };
        let user = std::env::var("FLUX_USER").ok();
        Ok(Self {
            user: user
                .filter(|user| !user.is_empty())
                .unwrap_or_else(|| "fluxuser".to_owned()),
            password: keep(&["FLUX_TOKEN"], "flux_token")?,
            secret_key: keep(&["FLUX_SECRET_KEY", "FLUX_SECREY_KEY"], "flux_secret_key")?,
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
