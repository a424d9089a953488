//! The settings of OAuth 2.0.

use serde::Deserialize;
use warrant_dpop::Base;
use warrant_wire::account::{NAME_RULE, is_name};

use super::settings::in_range;
use super::{Config, MAX_TOKEN_MINUTES, Mode};
use crate::error::{Error, Result};
use crate::user_name::shown;

/// The longest that a session may live, in days.
const MAX_DAYS: u64 = 366;

/// OAuth 2.0.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OAuth {
    /// Whether `POST /oauth/token` takes user names and passwords.
    pub(crate) password_grant: bool,
    /// The life of the access tokens that registered clients get, in minutes.
    pub(crate) access_minutes: u64,
    /// The life of a session that has refresh tokens, in days.
    pub(crate) refresh_days: u64,
    /// Where clients reach this server.
    pub(crate) url: String,
    /// Whether proofs of possession must hold a nonce of this server.
    pub(crate) dpop_nonce: bool,
    /// Where clients with certificates reach this service's own address.
    pub(crate) mtls_url: Option<String>,
}

impl Default for OAuth {
    fn default() -> Self {
        Self {
            password_grant: true,
            access_minutes: 10,
            refresh_days: 30,
            url: "http://127.0.0.1:5000".into(),
            dpop_nonce: false,
            mtls_url: None,
        }
    }
}

impl Config {
    /// Check what is set for OAuth 2.0 and for groups.
    ///
    /// Errors: a value is not allowed; the message names the key.
    pub(super) fn check_oauth(&self) -> Result<()> {
        let oauth = &self.oauth;
        in_range(
            "oauth.access_minutes",
            oauth.access_minutes,
            1,
            MAX_TOKEN_MINUTES,
        )?;
        in_range("oauth.refresh_days", oauth.refresh_days, 1, MAX_DAYS)?;
        let urls = [
            ("oauth.url", Some(&oauth.url)),
            ("oauth.mtls_url", oauth.mtls_url.as_ref()),
        ];
        for (key, url) in urls {
            if !url.is_none_or(|url| is_base(url)) {
                return Err(Error::invalid(format!(
                    "{key}: http:// or https://, a host, and a path without / at its end"
                )));
            }
        }
        for (key, groups) in [
            ("admin_groups", &self.admin_groups),
            ("operator_groups", &self.operator_groups),
        ] {
            if !groups.is_empty() && self.mode == Mode::SingleUser {
                return Err(Error::invalid(format!(
                    "{key}: groups give roles in multi-user mode alone"
                )));
            }
            if let Some(group) = groups.iter().find(|group| !is_name(group)) {
                let group = shown(group);
                return Err(Error::invalid(format!(
                    "{key}: {group:?} is not the name of a group: {NAME_RULE}"
                )));
            }
        }
        Ok(())
    }
}

/// Whether paths can be added to `url`.
fn is_base(url: &str) -> bool {
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\<>@".contains(&byte);
    let good = |rest: &str| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(plain);
    host.is_some_and(good) && !url.ends_with('/') && Base::parse(url).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_allowed_is_named() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 10] = [
            ("oauth.access_minutes", |config| {
                config.oauth.access_minutes = 0
            }),
            ("oauth.access_minutes", |config| {
                config.oauth.access_minutes = 601
            }),
            ("oauth.refresh_days", |config| config.oauth.refresh_days = 0),
            ("oauth.url", |config| config.oauth.url = "ftp://host".into()),
            ("oauth.url", |config| config.oauth.url = "https://".into()),
            ("oauth.url", |config| {
                config.oauth.url = "https://host/".into()
            }),
            ("oauth.url", |config| {
                config.oauth.url = "https://host?a".into()
            }),
            ("oauth.url", |config| {
                config.oauth.url = "https://host:port".into()
            }),
            ("admin_groups", |config| {
                config.admin_groups.push("wheel".into())
            }),
            ("operator_groups", |config| {
                config.mode = Mode::MultiUser;
                config.operator_groups.push("one/two".into());
            }),
        ];
        for (key, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            let message = config.check_oauth().unwrap_err().message;
            assert!(message.starts_with(key), "{key}: {message}");
        }
        Config::default().check_oauth().unwrap();
    }

    #[test]
    fn t134_groups_are_named_as_directories_name_them() {
        let groups = [
            "Domain Users",
            "CORP\\Domain Admins",
            "0wners",
            "wheel@example.org",
        ];
        let config = Config {
            mode: Mode::MultiUser,
            admin_groups: groups.map(str::to_owned).to_vec(),
            operator_groups: vec!["g".repeat(255)],
            ..Config::default()
        };
        config.check_oauth().unwrap();
    }
}
