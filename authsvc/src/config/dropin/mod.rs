//! The environment variables of the Flux RESTful server, so that its
//! deployments need no new configuration. They override file and defaults.

mod provider;

use std::collections::BTreeMap;

use provider::ProviderVariables;
use warrant_wire::account::MAX_UID;

use super::{Backend, Config, Mode};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// What the `FLUX_…` variables say (`FLUX_OPERATOR_USERS` and `FLUX_MAX_UID` are
/// this service's own); an empty variable says nothing.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `FLUX_SECRET_KEY`, or `FLUX_SECREY_KEY` as one manual spells it.
    pub(crate) secret_key: Option<Secret>,
    /// `FLUX_TOKEN`: the superuser's password.
    pub(crate) token: Option<Secret>,
    user: Option<String>,
    expires_minutes: Option<String>,
    admin_users: Option<String>,
    operator_users: Option<String>,
    auth_backend: Option<String>,
    require_auth: Option<String>,
    server_mode: Option<String>,
    min_uid: Option<String>,
    max_uid: Option<String>,
    pam_service: Option<String>,
    provider: ProviderVariables,
}

impl Environment {
    /// Take those of `variables` (name and value) that are ours.
    pub(crate) fn read<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let all = variables.into_iter();
        let all = all.map(|(name, value)| (name.into(), value.into()));
        let set: BTreeMap<String, String> = all.filter(|(_, value)| !value.is_empty()).collect();
        let get = |name: &str| set.get(name).cloned();
        Self {
            secret_key: get("FLUX_SECRET_KEY")
                .or_else(|| get("FLUX_SECREY_KEY"))
                .map(Secret::new),
            token: get("FLUX_TOKEN").map(Secret::new),
            user: get("FLUX_USER"),
            expires_minutes: get("FLUX_ACCESS_TOKEN_EXPIRES_MINUTES"),
            admin_users: get("FLUX_ADMIN_USERS"),
            operator_users: get("FLUX_OPERATOR_USERS"),
            auth_backend: get("FLUX_AUTH_BACKEND"),
            require_auth: get("FLUX_REQUIRE_AUTH"),
            server_mode: get("FLUX_SERVER_MODE"),
            min_uid: get("FLUX_MIN_UID"),
            max_uid: get("FLUX_MAX_UID"),
            pam_service: get("FLUX_PAM_SERVICE"),
            provider: ProviderVariables::read(&set),
        }
    }

    /// Put what is no secret into `config`.
    ///
    /// Errors: a value is not allowed; the message names the variable and
    /// what is allowed.
    pub(super) fn override_in(&self, config: &mut Config) -> Result<()> {
        if let Some(name) = &self.user {
            config.superuser.name.clone_from(name);
        }
        if let Some(names) = &self.admin_users {
            config.admin_users = listed(names);
        }
        if let Some(names) = &self.operator_users {
            config.operator_users = listed(names);
        }
        if let Some(minutes) = &self.expires_minutes {
            config.tokens.minutes = minutes.parse().map_err(|_| {
                Error::invalid(
                    "FLUX_ACCESS_TOKEN_EXPIRES_MINUTES: a number from 1 to 600 is allowed",
                )
            })?;
        }
        if let Some(mode) = &self.server_mode {
            config.mode = Mode::parse(mode)
                .map_err(|why| Error::invalid(format!("FLUX_SERVER_MODE: {why}")))?;
        }
        if let Some(uid) = &self.max_uid {
            config.accounts.max_uid = user_id("FLUX_MAX_UID", uid, MAX_UID)?;
        }
        if let Some(uid) = &self.min_uid {
            let most = config.accounts.max_uid;
            config.accounts.min_uid = user_id("FLUX_MIN_UID", uid, most)?;
        }
        if let Some(service) = &self.pam_service {
            config.pam.service.clone_from(service);
        }
        if let Some(backends) = self.backends()? {
            config.backend = None;
            config.backends = backends;
        }
        self.provider.override_in(config)
    }

    fn backends(&self) -> Result<Option<Vec<Backend>>> {
        if let Some(names) = &self.auth_backend {
            return Backend::parse_list(names)
                .map(Some)
                .map_err(|why| Error::invalid(format!("FLUX_AUTH_BACKEND: {why}")));
        }
        let Some(required) = &self.require_auth else {
            return Ok(None);
        };
        match required.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(Some(vec![Backend::SharedSecret])),
            "0" | "false" | "no" | "off" => Ok(Some(vec![Backend::None])),
            _ => Err(Error::invalid(
                "FLUX_REQUIRE_AUTH: 1, true, yes, on and 0, false, no, off are allowed",
            )),
        }
    }
}

/// Errors: `text` is no user id from 1 to `most`; the message names `variable`.
fn user_id(variable: &str, text: &str, most: u32) -> Result<u32> {
    let uid = text.parse().ok().filter(|uid| (1..=most).contains(uid));
    uid.ok_or_else(|| Error::invalid(format!("{variable}: a number from 1 to {most} is allowed")))
}

/// Names with commas between.
fn listed(names: &str) -> Vec<String> {
    let names = names.split(',').map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}
