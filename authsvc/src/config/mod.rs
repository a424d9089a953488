//! What the service is told: defaults, then the file, then `AUTHSVC__…` in
//! the environment, then the `FLUX_…` variables of [`dropin`].

mod backends;
mod dropin;
mod multi_user;
mod oauth;
mod oidc;
mod settings;
mod tls;
mod web;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Deserializer};
use warrant_api::scope::Scopes;
use warrant_upkeep::has_password;

use crate::error::{Error, Result};
use crate::secret::Secret;

pub(crate) use backends::{Backend, Backends};
pub(crate) use dropin::Environment;
pub(crate) use multi_user::{Accounts, Grants, Mode, Pam, Proof, Warrants};
pub(crate) use oauth::OAuth;
pub(crate) use oidc::{Provider, Providers, Section, is_endpoint, is_loopback};
pub(crate) use settings::{Settings, Superuser};
pub(crate) use tls::{Certificates, Tls};
pub(crate) use web::Web;

/// The longest life of an access token, in minutes. Old signing keys stay
/// published for as long.
pub(crate) const MAX_TOKEN_MINUTES: u64 = 600;

/// Everything that can be configured; the keys of the file.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Whether users are accounts of this machine.
    pub(crate) mode: Mode,
    /// How users prove who they are; unset means `shared-secret` where there
    /// is a shared secret, else `database`.
    pub(crate) backend: Option<Backend>,
    /// Several of them, in the order in which they are asked; instead of
    /// `backend`.
    pub(crate) backends: Vec<Backend>,
    /// The file that holds the secret of the handshake.
    pub(crate) shared_secret_file: Option<PathBuf>,
    /// Users who are administrators whatever their row says.
    pub(crate) admin_users: Vec<String>,
    /// Users who are operators.
    pub(crate) operator_users: Vec<String>,
    /// Groups of the machine whose members are administrators, in multi-user
    /// mode.
    pub(crate) admin_groups: Vec<String>,
    /// Groups of the machine whose members are operators, in multi-user mode.
    pub(crate) operator_groups: Vec<String>,
    /// Where the users are kept.
    pub(crate) database: Database,
    /// Where the service answers.
    pub(crate) listen: Listen,
    /// The signing keys.
    pub(crate) keys: Keys,
    /// Access tokens.
    pub(crate) tokens: Tokens,
    /// API keys.
    pub(crate) api_keys: ApiKeys,
    /// OAuth 2.0.
    pub(crate) oauth: OAuth,
    /// The pages on which people sign in.
    pub(crate) web: Web,
    /// Users who log in by certificate.
    pub(crate) certificates: Certificates,
    /// Password hashes, and how much they may cost.
    pub(crate) passwords: Passwords,
    /// Which accounts may log in, in multi-user mode.
    pub(crate) accounts: Accounts,
    /// Warrants for jobs, in multi-user mode.
    pub(crate) warrants: Warrants,
    /// The `pam` backend.
    pub(crate) pam: Pam,
    /// The providers of the `oidc` backend.
    pub(crate) oidc: Providers,
    /// Login payloads encoded with the shared secret.
    pub(crate) handshake: Handshake,
    /// A superuser to create or update at every start.
    pub(crate) superuser: SuperuserConfig,
}

/// Where the users are kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Database {
    /// `sqlite:PATH` or `postgres://…`.
    pub(crate) url: Secret,
    /// A file that holds the URL; used instead of `url` where it is given.
    pub(crate) url_file: Option<PathBuf>,
    /// A file that holds the URL with which the tables are made and changed;
    /// the service itself never reads it.
    pub(crate) migrate_url_file: Option<PathBuf>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: Secret::new("sqlite:/var/lib/warrant-auth/auth.db"),
            url_file: None,
            migrate_url_file: None,
        }
    }
}

/// Where the service answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// The Unix socket.
    pub(crate) socket: PathBuf,
    /// Who may connect to it.
    pub(crate) socket_mode: SocketMode,
    /// An address for plain HTTP, behind a proxy that speaks TLS; for TLS
    /// itself where `tls` is set.
    pub(crate) tcp: Option<SocketAddr>,
    /// TLS on that address.
    pub(crate) tls: Tls,
    /// Whether connections to that address begin with the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// The proxies that are trusted to name the client of a request.
    pub(crate) proxies: Vec<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            socket: "/run/warrant-auth/authsvc.sock".into(),
            socket_mode: SocketMode::Group,
            tcp: None,
            tls: Tls::default(),
            proxy_protocol: false,
            proxies: vec!["user:www-data".into()],
        }
    }
}

/// The mode of the Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketMode {
    /// `0600`: the service's own user.
    Owner,
    /// `0660`: also the socket's group.
    Group,
}

impl SocketMode {
    /// The mode in bits.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

impl<'de> Deserialize<'de> for SocketMode {
    /// From text or, as the environment gives it, from a number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(u32),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Number(number) => number.to_string(),
        };
        match text.trim_start_matches('0') {
            "600" => Ok(Self::Owner),
            "660" => Ok(Self::Group),
            _ => Err(serde::de::Error::custom(
                "allowed are \"0600\" and \"0660\"",
            )),
        }
    }
}

/// The signing keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Keys {
    /// The directory that holds them, of mode 0700.
    pub(crate) dir: PathBuf,
    /// Seconds for which a new key is published before it signs, 10 to 86,400.
    pub(crate) activation_s: u64,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            dir: "/var/lib/warrant-auth/keys".into(),
            activation_s: 120,
        }
    }
}

/// The issuer of warrants, and of the access tokens of the first version, where
/// none is configured.
const PLAIN_ISSUER: &str = "warrant";

impl Config {
    /// The issuer of access tokens, which is what this server calls itself: by
    /// default its URL. Source: RFC 8414 §2, RFC 9068 §2.2.
    pub(crate) fn issuer(&self) -> &str {
        match self.tokens.issuer.as_str() {
            "" => &self.oauth.url,
            issuer => issuer,
        }
    }

    /// The issuers whose access tokens are taken: by default also that of the
    /// first version, whose tokens live on until they expire.
    pub(crate) fn issuers(&self) -> Vec<String> {
        let mut issuers = vec![self.issuer().to_owned()];
        if self.tokens.issuer.is_empty() {
            issuers.push(PLAIN_ISSUER.to_owned());
        }
        issuers
    }

    /// The issuer of warrants, which the shim's policy names.
    pub(crate) fn warrant_issuer(&self) -> &str {
        match self.tokens.issuer.as_str() {
            "" => PLAIN_ISSUER,
            issuer => issuer,
        }
    }
}

/// Access tokens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tokens {
    /// The `iss` claim; empty for the server's URL.
    pub(crate) issuer: String,
    /// Their life in minutes, 1 to 600.
    pub(crate) minutes: u64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            minutes: MAX_TOKEN_MINUTES,
        }
    }
}

/// API keys.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ApiKeys {
    /// The longest life of a key, in days.
    pub(crate) max_days: u32,
    /// The life of a key of which nothing else is said, in days.
    pub(crate) default_days: u32,
    /// Keys of one user.
    pub(crate) per_user: u32,
    /// Keys that one user may make in a minute.
    pub(crate) per_minute: u32,
    /// What keys may be used for at most.
    pub(crate) scopes: Scopes,
}

impl Default for ApiKeys {
    fn default() -> Self {
        Self {
            max_days: 366,
            default_days: 90,
            per_user: 50,
            per_minute: 10,
            scopes: Scopes::ALL,
        }
    }
}

/// Password hashes (argon2id) and how much they may cost. Source: the
/// defaults are OWASP's, Password Storage Cheat Sheet.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Passwords {
    /// Memory of one hash, in KiB.
    pub(crate) memory_kib: u32,
    /// Passes over the memory.
    pub(crate) passes: u32,
    /// Lanes.
    pub(crate) lanes: u32,
    /// Hashes computed at once.
    pub(crate) parallel: usize,
    /// Logins that wait for their turn; more are answered 503.
    pub(crate) queue: usize,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            passes: 2,
            lanes: 1,
            parallel: 2,
            queue: 256,
        }
    }
}

/// Login payloads encoded with the shared secret.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Handshake {
    /// Seconds after its `iat`, where it has one, that a payload is accepted.
    pub(crate) max_age_s: u64,
    /// Refuse payloads without a time and an id. Existing clients send none.
    pub(crate) strict: bool,
}

impl Default for Handshake {
    fn default() -> Self {
        Self {
            max_age_s: 300,
            strict: false,
        }
    }
}

/// A superuser to create or update at every start.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SuperuserConfig {
    /// The name.
    pub(crate) name: String,
    /// A file that holds the password; without one, no superuser is made.
    pub(crate) password_file: Option<PathBuf>,
}

impl Default for SuperuserConfig {
    fn default() -> Self {
        Self {
            name: "fluxuser".into(),
            password_file: None,
        }
    }
}

impl Config {
    /// Read `file`, which may be absent, and `AUTHSVC__SECTION__KEY`.
    ///
    /// Errors: a key is unknown or its value is not allowed; the message
    /// names the key and where it was set.
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let mut figment = Figment::new();
        if file.try_exists().unwrap_or(true) {
            figment = figment.merge(Toml::file_exact(file));
            let url = figment.extract_inner::<Secret>("database.url");
            if url.is_ok_and(|url| has_password(url.expose())) {
                return Err(Error::invalid(
                    "database.url: holds a password; put the URL into a file of its own and name \
                     that as database.url_file",
                ));
            }
        }
        figment
            .merge(Env::prefixed("AUTHSVC__").split("__"))
            .extract()
            .map_err(|error| Error::invalid(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authsvc.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn the_shipped_file_parses_equal_to_the_defaults() {
        let shipped = include_str!("../../../packaging/etc/authsvc.toml");
        assert_eq!(parse(shipped).unwrap(), Config::default());
    }

    #[test]
    fn the_shipped_file_shows_every_key_with_its_default() {
        let shipped = include_str!("../../../packaging/etc/authsvc.toml");
        let keys = [
            "mode",
            "backend",
            "backends",
            "shared_secret_file",
            "admin_users",
            "operator_users",
            "admin_groups",
            "operator_groups",
            "password_grant",
            "access_minutes",
            "refresh_days",
            "url",
            "url_file",
            "migrate_url_file",
            "socket",
            "socket_mode",
            "tcp",
            "proxies",
            "proxy_protocol",
            "certificate",
            "key",
            "client_ca",
            "client_crl",
            "mtls_url",
            "from",
            "dir",
            "activation_s",
            "issuer",
            "minutes",
            "max_days",
            "default_days",
            "per_user",
            "per_minute",
            "scopes",
            "per_second",
            "memory_kib",
            "passes",
            "lanes",
            "parallel",
            "queue",
            "min_uid",
            "max_uid",
            "audiences",
            "life_s",
            "keys_dir",
            "broker_user",
            "broker_uid",
            "service",
            "max_age_s",
            "strict",
            "name",
            "password_file",
        ];
        for key in keys {
            let start = format!("#{key} = ");
            assert!(
                shipped.lines().any(|line| line.starts_with(&start)),
                "{key}"
            );
        }
        let uncommented: String = shipped
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => setting,
                _ => line,
            })
            .filter(|line| !line.ends_with("= \"\""))
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(
            parse(&uncommented).unwrap(),
            Config::default(),
            "{uncommented}"
        );
    }

    #[test]
    fn an_absent_file_means_the_defaults() {
        let config = Config::load(Path::new("/nonexistent/authsvc.toml")).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn t108_a_password_in_the_file_is_refused_and_not_repeated() {
        let error = parse("[database]\nurl = 'postgres://u:canary@h/d'").unwrap_err();
        assert!(error.message.contains("database.url_file"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        parse("[database]\nurl = 'postgres://u@h/d'").unwrap();
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        for text in ["sekret = 1", "[tokens]\nminuets = 5"] {
            let message = parse(text).unwrap_err().message;
            assert!(
                message.contains("sekret") || message.contains("minuets"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_backend_that_is_none_is_refused_with_those_that_are() {
        for text in ["backend = 'ldap'", "backends = ['database', 'ldap']"] {
            let message = parse(text).unwrap_err().message;
            assert!(
                message.contains("none, database, shared-secret, pam, oidc"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_socket_is_for_the_owner_or_also_the_group_and_for_nobody_else() {
        let mode = |text: &str| parse(text).map(|config| config.listen.socket_mode);
        assert_eq!(
            mode("[listen]\nsocket_mode = '0600'").unwrap(),
            SocketMode::Owner
        );
        assert_eq!(
            mode("[listen]\nsocket_mode = '660'").unwrap(),
            SocketMode::Group
        );
        assert_eq!(
            mode("[listen]\nsocket_mode = 660").unwrap(),
            SocketMode::Group
        );
        for refused in ["'0666'", "0o660", "'rw'", "true"] {
            let text = format!("[listen]\nsocket_mode = {refused}");
            assert!(mode(&text).is_err(), "{refused}");
        }
    }
}
