//! `FLUX_OIDC_…`: the provider of the `oidc` backend. Source: the Flux RESTful
//! server has the issuer, the audience, the address of the keys and the claim; the
//! client as which browsers sign in is this service's own.

use std::collections::BTreeMap;

use super::listed;
use crate::config::oidc::Section;
use crate::config::{Config, Mode};
use crate::error::{Error, Result};

/// What the names of all of them begin with.
const PREFIX: &str = "FLUX_OIDC_";
const ISSUER: &str = "FLUX_OIDC_ISSUER";
const AUDIENCE: &str = "FLUX_OIDC_AUDIENCE";
const JWKS_URL: &str = "FLUX_OIDC_JWKS_URL";
const USERNAME_CLAIM: &str = "FLUX_OIDC_USERNAME_CLAIM";
const CLIENT_ID: &str = "FLUX_OIDC_CLIENT_ID";
const CLIENT_SECRET_FILE: &str = "FLUX_OIDC_CLIENT_SECRET_FILE";
const ALL: [&str; 6] = [
    ISSUER,
    AUDIENCE,
    JWKS_URL,
    USERNAME_CLAIM,
    CLIENT_ID,
    CLIENT_SECRET_FILE,
];

/// The name of the provider where no file gives it one.
const NAME: &str = "oidc";
/// The claim that names the user where nothing else does: the one that OpenID
/// Connect promises to be stable. Source: the Flux RESTful server's default.
const STABLE_CLAIM: &str = "sub";

/// The variables that are set.
#[derive(Debug, Default)]
pub(super) struct ProviderVariables(BTreeMap<String, String>);

impl ProviderVariables {
    /// Those of `set` that speak of the provider, known or not.
    pub(super) fn read(set: &BTreeMap<String, String>) -> Self {
        let ours = set.iter().filter(|(name, _)| name.starts_with(PREFIX));
        Self(
            ours.map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    /// Put them over the provider of the file, or make one of them.
    ///
    /// Errors: a variable is unknown, one that is needed is missing, a value
    /// is not allowed, or the file has several providers.
    pub(super) fn override_in(&self, config: &mut Config) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        if let Some(name) = self.0.keys().find(|name| !ALL.contains(&name.as_str())) {
            return Err(Error::invalid(format!(
                "{name}: no such variable; there are {}",
                ALL.join(", ")
            )));
        }
        let mut section = match &*config.oidc {
            [] => Section {
                name: NAME.into(),
                username_claim: STABLE_CLAIM.into(),
                ..Section::default()
            },
            [one] => one.clone(),
            [_, _, ..] => {
                return Err(Error::invalid(format!(
                    "{PREFIX}…: the file has several sections [[oidc]], and these variables are \
                     for one"
                )));
            }
        };
        let is_new = config.oidc.is_empty();
        if is_new && !self.0.contains_key(ISSUER) {
            return Err(Error::invalid(format!(
                "{ISSUER}: is needed where another {PREFIX}… is set"
            )));
        }
        if is_new && config.mode == Mode::MultiUser && !self.0.contains_key(USERNAME_CLAIM) {
            return Err(Error::invalid(format!(
                "{USERNAME_CLAIM}: is needed in multi-user mode: the claim that holds the name of \
                 an account"
            )));
        }
        let set = |field: &mut String, name| {
            if let Some(value) = self.0.get(name) {
                field.clone_from(value);
            }
        };
        set(&mut section.issuer, ISSUER);
        set(&mut section.client_id, CLIENT_ID);
        set(&mut section.username_claim, USERNAME_CLAIM);
        if let Some(clients) = self.0.get(AUDIENCE) {
            section.audience = listed(clients);
        }
        if let Some(url) = self.0.get(JWKS_URL) {
            section.jwks_url = Some(url.clone());
        }
        if let Some(file) = self.0.get(CLIENT_SECRET_FILE) {
            section.client_secret_file = Some(file.into());
        }
        section.check().map_err(|error| Error {
            message: format!("{PREFIX}…: {}", error.message),
            ..error
        })?;
        config.oidc = section.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER_SET: (&str, &str) = (ISSUER, "https://id.example.org");
    const CLAIM_SET: (&str, &str) = (USERNAME_CLAIM, "preferred_username");

    fn over(mut config: Config, variables: &[(&str, &str)]) -> Result<Config, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let set = variables.iter().map(owned).collect();
        let done = ProviderVariables::read(&set).override_in(&mut config);
        done.map(|()| config).map_err(|error| error.message)
    }

    fn multi_user() -> Config {
        Config {
            mode: Mode::MultiUser,
            ..Config::default()
        }
    }

    #[test]
    fn the_variables_make_a_provider() {
        let config = over(
            Config::default(),
            &[
                ISSUER_SET,
                (AUDIENCE, "cli, portal"),
                (JWKS_URL, "https://keys.example.org"),
                (CLIENT_ID, "warrant"),
                (CLIENT_SECRET_FILE, "/etc/warrant/oidc"),
            ],
        );
        let expected = Section {
            name: "oidc".into(),
            issuer: "https://id.example.org".into(),
            jwks_url: Some("https://keys.example.org".into()),
            audience: vec!["cli".into(), "portal".into()],
            username_claim: "sub".into(),
            client_id: "warrant".into(),
            client_secret_file: Some("/etc/warrant/oidc".into()),
            ..Section::default()
        };
        assert_eq!(*config.unwrap().oidc, [expected]);
    }

    #[test]
    fn they_override_the_one_provider_of_the_file_and_no_more_of_it() {
        let mut config = Config {
            oidc: crate::config::oidc::example(),
            ..Config::default()
        };
        let before = config.oidc[0].clone();
        let after = over(config.clone(), &[CLAIM_SET, (AUDIENCE, "cli")]).unwrap();
        let expected = Section {
            audience: vec!["cli".into()],
            ..before.clone()
        };
        assert_eq!(*after.oidc, [expected]);
        config.oidc = crate::config::Providers::of(vec![before.clone(), before]);
        let message = over(config, &[CLAIM_SET]).unwrap_err();
        assert!(message.contains("several sections"), "{message}");
    }

    #[test]
    fn none_of_them_is_no_provider() {
        assert!(over(Config::default(), &[]).unwrap().oidc.is_empty());
    }

    #[test]
    fn what_is_missing_unknown_or_not_allowed_is_named() {
        type Set = [(&'static str, &'static str)];
        let cases: [(Config, &Set, &str); 7] = [
            (
                Config::default(),
                &[ISSUER_SET, ("FLUX_OIDC_ISUER", "x")],
                "FLUX_OIDC_ISUER: no such variable; there are FLUX_OIDC_ISSUER, ",
            ),
            (
                Config::default(),
                &[ISSUER_SET, (AUDIENCE, "cli"), (JWKS_URL, "http://keys")],
                "FLUX_OIDC_…: jwks_url: https://",
            ),
            (
                Config::default(),
                &[ISSUER_SET, ("FLUX_OIDC_CLIENT_SECRET", "canary")],
                "FLUX_OIDC_CLIENT_SECRET: no such variable",
            ),
            (
                Config::default(),
                &[(AUDIENCE, "cli")],
                "FLUX_OIDC_ISSUER: is needed",
            ),
            (
                Config::default(),
                &[ISSUER_SET],
                "FLUX_OIDC_…: client_id, audience: at least one",
            ),
            (
                Config::default(),
                &[(ISSUER, "http://id.example.org"), (AUDIENCE, "cli")],
                "FLUX_OIDC_…: issuer: https://",
            ),
            (
                multi_user(),
                &[ISSUER_SET, (AUDIENCE, "cli")],
                "FLUX_OIDC_USERNAME_CLAIM: is needed in multi-user mode",
            ),
        ];
        for (config, variables, expected) in cases {
            let message = over(config, variables).unwrap_err();
            assert!(message.starts_with(expected), "{expected}: {message}");
            assert!(!message.contains("canary"), "{message}");
        }
        over(multi_user(), &[ISSUER_SET, (AUDIENCE, "cli"), CLAIM_SET]).unwrap();
    }
}
