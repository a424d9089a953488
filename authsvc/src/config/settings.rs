//! The configuration with its secrets read and its values checked: what the
//! rest of the crate works with.

use std::path::Path;

use argon2::Params;
use warrant_door::proxies::Proxies;

use super::{Backends, Config, Environment, MAX_TOKEN_MINUTES, Provider};
use crate::certificates::Users;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::user_name::UserName;

/// The least time, in seconds, for which a new key of access tokens must be
/// published before it signs: within it, every service has found the key, and
/// whoever holds the published keys has asked for them again. Tokens of a key
/// that signs earlier would be refused for a while.
const LEAST_ACTIVATION_S: u64 = 10;

/// Checked configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    /// How users prove who they are.
    pub(crate) backends: Backends,
    /// The OpenID providers.
    pub(crate) oidc: Vec<Provider>,
    /// The secret of the handshake; without one, it is not enabled.
    pub(crate) shared_secret: Option<Secret>,
    /// Users who are administrators whatever their row says.
    pub(crate) admin_users: Vec<UserName>,
    /// Users who are operators.
    pub(crate) operator_users: Vec<UserName>,
    /// The superuser to create or update at start.
    pub(crate) superuser: Option<Superuser>,
    /// Memory, passes and lanes of new password hashes.
    pub(crate) hash_params: Params,
    /// The users of certificates, where users log in so.
    pub(crate) certificates: Option<Users>,
    /// The proxies that are trusted to name the client of a request.
    pub(crate) proxies: Proxies,
    /// Whatever needs no reading or reckoning.
    pub(crate) config: Config,
}

/// The superuser to create or update at start.
#[derive(Debug)]
pub(crate) struct Superuser {
    /// The name.
    pub(crate) name: UserName,
    /// The password.
    pub(crate) password: Secret,
}

impl Settings {
    /// Check `config` under `environment` and read the files it names.
    ///
    /// Errors: a value is not allowed, a file cannot be read, or the
    /// shared-secret backend has no secret; the message names the key.
    pub(crate) fn resolve(config: Config, environment: Environment) -> Result<Self> {
        Self::checked(config, environment, true)
    }

    /// As [`Settings::resolve`], for a command that lets nobody in: it reads no
    /// secret, which only the service's own unit may be given.
    ///
    /// Errors: as [`Settings::resolve`].
    pub(crate) fn for_command(mut config: Config, environment: Environment) -> Result<Self> {
        config.shared_secret_file = None;
        config.superuser.password_file = None;
        Self::checked(config, environment, false)
    }

    fn checked(mut config: Config, environment: Environment, serves: bool) -> Result<Self> {
        environment.override_in(&mut config)?;
        check_numbers(&config)?;
        config.check_multi_user()?;
        config.check_oauth()?;
        config.check_web()?;
        config.check_tls()?;
        let from_file = |key: &str, path: &Option<_>| {
            path.as_deref()
                .map(|path| Secret::read(key, path))
                .transpose()
        };
        let shared_secret = match environment.secret_key {
            Some(secret) => Some(secret),
            None => from_file("shared_secret_file", &config.shared_secret_file)?,
        };
        let backends = Backends::resolve(&config, shared_secret.is_some(), serves)?;
        let password = match environment.token {
            Some(token) => Some(token),
            None => from_file("superuser.password_file", &config.superuser.password_file)?,
        };
        let superuser = password
            .map(|password| {
                Ok::<_, Error>(Superuser {
                    name: named("superuser.name (or FLUX_USER)", &config.superuser.name)?,
                    password,
                })
            })
            .transpose()?;
        let all_named = |key: &str, names: &[String]| {
            let names = names.iter().map(|name| named(key, name));
            names.collect::<Result<Vec<_>>>()
        };
        let admin_users = all_named("admin_users (or FLUX_ADMIN_USERS)", &config.admin_users)?;
        let operator_users = all_named(
            "operator_users (or FLUX_OPERATOR_USERS)",
            &config.operator_users,
        )?;
        Ok(Self {
            backends,
            oidc: if serves {
                config.providers()?
            } else {
                Vec::new()
            },
            shared_secret,
            admin_users,
            operator_users,
            superuser,
            hash_params: hash_params(&config)?,
            certificates: config.certificate_users()?,
            proxies: proxies(&config)?,
            config,
        })
    }

    /// The URL of the database.
    ///
    /// Errors: the file that holds it cannot be read.
    pub(crate) fn database_url(&self) -> Result<Secret> {
        match &self.config.database.url_file {
            Some(file) => Secret::read("database.url_file", file),
            None => Ok(self.config.database.url.clone()),
        }
    }

    /// The URL with which the tables are made and changed: that in `file`, or
    /// in `database.migrate_url_file`, else the service's own.
    ///
    /// Errors: the file cannot be read.
    pub(crate) fn migrate_url(&self, file: Option<&Path>) -> Result<Secret> {
        match (file, &self.config.database.migrate_url_file) {
            (Some(file), _) => Secret::read_argument("--url-file", file),
            (None, Some(file)) => Secret::read("database.migrate_url_file", file),
            (None, None) => self.database_url(),
        }
    }

    /// Whether a user name and a password are accepted.
    pub(crate) fn password_login(&self) -> bool {
        self.backends.take_passwords()
    }

    /// The secret of the handshake, where the handshake is enabled: with any
    /// backend that knows passwords.
    pub(crate) fn handshake_secret(&self) -> Option<&Secret> {
        self.shared_secret
            .as_ref()
            .filter(|_| self.password_login())
    }

    /// The life of an access token, in seconds.
    pub(crate) fn token_life_s(&self) -> u64 {
        self.config.tokens.minutes * 60
    }
}

fn named(key: &str, name: &str) -> Result<UserName> {
    UserName::parse(name).map_err(|error| Error::invalid(format!("{key}: {error}")))
}

/// Errors: `value` is not of `low` to `high`.
pub(super) fn in_range(key: &str, value: u64, low: u64, high: u64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{key}: {low} to {high} is allowed, not {value}"
    )))
}

fn check_numbers(config: &Config) -> Result<()> {
    let range = in_range;
    let passwords = &config.passwords;
    let keys = &config.api_keys;
    range("api_keys.max_days", keys.max_days.into(), 1, 3660)?;
    range(
        "api_keys.default_days",
        keys.default_days.into(),
        1,
        keys.max_days.into(),
    )?;
    range("api_keys.per_user", keys.per_user.into(), 0, 500)?;
    range("api_keys.per_minute", keys.per_minute.into(), 1, 10_000)?;
    if keys.scopes.is_empty() {
        return Err(Error::invalid(
            "api_keys.scopes: at least one of read, submit, control and admin is needed",
        ));
    }
    range(
        "tokens.minutes",
        config.tokens.minutes,
        1,
        MAX_TOKEN_MINUTES,
    )?;
    range(
        "keys.activation_s",
        config.keys.activation_s,
        LEAST_ACTIVATION_S,
        86_400,
    )?;
    range("handshake.max_age_s", config.handshake.max_age_s, 1, 86_400)?;
    range(
        "passwords.memory_kib",
        passwords.memory_kib.into(),
        8,
        1_048_576,
    )?;
    range("passwords.passes", passwords.passes.into(), 1, 64)?;
    range("passwords.lanes", passwords.lanes.into(), 1, 64)?;
    range("passwords.parallel", passwords.parallel as u64, 1, 256)?;
    range("passwords.queue", passwords.queue as u64, 0, 65_536)?;
    Ok(())
}

fn proxies(config: &Config) -> Result<Proxies> {
    let listen = &config.listen;
    let proxies = Proxies::parse(&listen.proxies)
        .map_err(|why| Error::invalid(format!("listen.proxies: {why}")))?;
    if listen.proxy_protocol && listen.tcp.is_none() {
        return Err(Error::invalid(
            "listen.proxy_protocol: needs listen.tcp, the address that it is for",
        ));
    }
    Ok(proxies)
}

fn hash_params(config: &Config) -> Result<Params> {
    let passwords = &config.passwords;
    Params::new(
        passwords.memory_kib,
        passwords.passes,
        passwords.lanes,
        None,
    )
    .map_err(|_| Error::invalid("passwords.memory_kib: at least 8 for each lane is needed"))
}

#[cfg(test)]
mod tests {
    use super::super::Backend;
    use super::*;

    fn resolve(variables: &[(&str, &str)]) -> Result<Settings> {
        resolve_with(Config::default(), variables)
    }

    fn resolve_with(config: Config, variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::resolve(config, Environment::read(variables.iter().copied()))
    }

    #[test]
    fn authentication_is_on_unless_switched_off_in_so_many_words() {
        let cases: [(&[(&str, &str)], Backend); 9] = [
            (&[], Backend::Database),
            (&[("FLUX_SECRET_KEY", "s")], Backend::SharedSecret),
            (&[("FLUX_SECREY_KEY", "s")], Backend::SharedSecret),
            (
                &[("FLUX_SECRET_KEY", ""), ("FLUX_REQUIRE_AUTH", "")],
                Backend::Database,
            ),
            (
                &[("FLUX_SECRET_KEY", "s"), ("FLUX_REQUIRE_AUTH", "TRUE")],
                Backend::SharedSecret,
            ),
            (
                &[("FLUX_SECRET_KEY", "s"), ("FLUX_REQUIRE_AUTH", "no")],
                Backend::None,
            ),
            (
                &[
                    ("FLUX_REQUIRE_AUTH", "off"),
                    ("FLUX_AUTH_BACKEND", "database"),
                ],
                Backend::Database,
            ),
            (
                &[("FLUX_SECRET_KEY", "s"), ("FLUX_AUTH_BACKEND", "database")],
                Backend::Database,
            ),
            (&[("FLUX_AUTH_BACKEND", "none")], Backend::None),
        ];
        for (variables, backend) in cases {
            assert_eq!(
                resolve(variables).unwrap().backends.names(),
                backend.name(),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn backends_are_named_with_commas_in_their_order() {
        let settings = resolve(&[("FLUX_AUTH_BACKEND", "pam, database")]).unwrap();
        assert_eq!(settings.backends.names(), "pam, database");
        assert!(settings.password_login());
    }

    #[test]
    fn the_handshake_needs_a_secret_and_a_backend_that_knows_passwords() {
        let enabled = |variables| resolve(variables).unwrap().handshake_secret().is_some();
        assert!(!enabled(&[]));
        assert!(enabled(&[("FLUX_SECRET_KEY", "s")]));
        assert!(enabled(&[
            ("FLUX_SECRET_KEY", "s"),
            ("FLUX_AUTH_BACKEND", "database")
        ]));
        assert!(!enabled(&[
            ("FLUX_SECRET_KEY", "s"),
            ("FLUX_AUTH_BACKEND", "none")
        ]));
    }

    #[test]
    fn the_shared_secret_backend_without_a_secret_is_refused() {
        for variable in [
            ("FLUX_REQUIRE_AUTH", "yes"),
            ("FLUX_AUTH_BACKEND", "shared-secret"),
        ] {
            let message = resolve(&[variable]).unwrap_err().message;
            assert!(message.contains("FLUX_SECRET_KEY"), "{message}");
        }
    }

    #[test]
    fn a_refused_variable_is_named_with_what_is_allowed() {
        let cases = [
            ("FLUX_REQUIRE_AUTH", "maybe", "off are allowed"),
            ("FLUX_AUTH_BACKEND", "oidc", "[[oidc]]"),
            ("FLUX_AUTH_BACKEND", "none,pam", "none stands alone"),
            ("FLUX_AUTH_BACKEND", "ldap", "shared-secret, pam, oidc"),
            ("FLUX_SERVER_MODE", "multi", "single-user and multi-user"),
            ("FLUX_MIN_UID", "many", "1 to 4294967293"),
            ("FLUX_MIN_UID", "0", "1 to 4294967293"),
            ("FLUX_MIN_UID", "-1", "1 to 4294967293"),
            ("FLUX_MIN_UID", "4294967294", "1 to 4294967293"),
            ("FLUX_MAX_UID", "4294967294", "1 to 4294967293"),
            ("FLUX_MAX_UID", "999", "1 to 999 is allowed, not 1000"),
            ("FLUX_PAM_SERVICE", "../login", "A-Z a-z 0-9 _ -"),
            ("FLUX_ACCESS_TOKEN_EXPIRES_MINUTES", "ten", "1 to 600"),
            ("FLUX_ACCESS_TOKEN_EXPIRES_MINUTES", "601", "1 to 600"),
            ("FLUX_ACCESS_TOKEN_EXPIRES_MINUTES", "0", "1 to 600"),
            ("FLUX_ADMIN_USERS", "ann,a/b", "without / : ,"),
            ("FLUX_OPERATOR_USERS", "ann,-b", "not beginning with -"),
        ];
        for (name, value, allowed) in cases {
            let message = resolve(&[(name, value)]).unwrap_err().message;
            assert!(message.contains(allowed), "{name}={value}: {message}");
        }
    }

    #[test]
    fn the_superuser_is_made_only_with_a_password() {
        assert!(
            resolve(&[("FLUX_USER", "ann")])
                .unwrap()
                .superuser
                .is_none()
        );
        let superuser = |variables| resolve(variables).unwrap().superuser.unwrap();
        assert_eq!(superuser(&[("FLUX_TOKEN", "t")]).name.as_str(), "fluxuser");
        assert_eq!(
            superuser(&[("FLUX_TOKEN", "t"), ("FLUX_USER", "ann")])
                .name
                .as_str(),
            "ann"
        );
    }

    #[test]
    fn administrators_and_operators_are_named_with_commas() {
        let variables = [
            ("FLUX_ADMIN_USERS", "ann, bob,,"),
            ("FLUX_OPERATOR_USERS", "carl"),
        ];
        let settings = resolve(&variables).unwrap();
        let names: Vec<_> = settings.admin_users.iter().map(UserName::as_str).collect();
        assert_eq!(names, ["ann", "bob"]);
        assert_eq!(settings.operator_users[0].as_str(), "carl");
    }

    #[test]
    fn no_secret_shows_when_settings_are_debugged() {
        let variables = [("FLUX_SECRET_KEY", "canary"), ("FLUX_TOKEN", "canary")];
        let shown = format!("{:?}", resolve(&variables).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn a_key_signs_no_sooner_than_everybody_can_know_it() {
        let with = |activation_s| {
            let mut config = Config::default();
            config.keys.activation_s = activation_s;
            resolve_with(config, &[])
        };
        for refused in [0, 9, 86_401] {
            let message = with(refused).unwrap_err().message;
            assert!(
                message.starts_with("keys.activation_s: 10 to 86400"),
                "{message}"
            );
        }
        for allowed in [10, 120, 86_400] {
            with(allowed).unwrap();
        }
    }

    #[test]
    fn a_hash_must_have_memory_for_its_lanes() {
        let mut config = Config::default();
        config.passwords.memory_kib = 8;
        config.passwords.lanes = 2;
        assert!(resolve_with(config, &[]).is_err());
    }
}
