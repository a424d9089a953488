//! Who somebody is here whom a provider has proven.
//!
//! Names can change hands at a provider; subjects cannot. The first subject to
//! come by a name keeps it: another is refused, and so is one that is called
//! otherwise by now, until an administrator removes the user. A name whose
//! password is kept here belongs to whoever knows it. Subjects that the
//! configuration names are who it says.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use warrant_api::token::Role;

use super::claims::Claims;
use super::{Oidc, Provider};
use crate::clock;
use crate::config::Section;
use crate::directory::{Principal, is_less};
use crate::login::{Barred, Wrong};
use crate::oauth::Refused;
use crate::store::users::{self, By};
use crate::user_name::UserName;

/// A name, and whether the configuration gives it.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    name: UserName,
    by_configuration: bool,
}

impl Oidc {
    /// The user whom these claims of `provider` are about, with the role that
    /// they have here or that the claims give, whichever is higher.
    ///
    /// Errors: [`Refused::Proof`]; the database or the name service did not
    /// answer.
    pub(super) async fn user(
        &self,
        provider: &Provider,
        claims: &Claims,
    ) -> Result<Principal, Refused> {
        let section = provider.section();
        if !has_all(&section.require, claims) {
            return Err(Refused::Proof("claim-required"));
        }
        let named = name(provider, claims)?;
        let directory = &self.sessions.directory;
        // Before anything is written: who has no account leaves no row.
        if let Some(accounts) = directory.accounts.as_ref().filter(|_| directory.with_uid) {
            let account = accounts.find(&named.name).await?;
            account.map_err(Wrong::Account)?;
        }
        self.keep(&named, &identity(section, claims)).await?;
        let standing = directory.standing(named.name.as_str()).await?;
        let user = standing?;
        let claimed = role(section, claims);
        let user = match claimed.filter(|claimed| is_less(user.role, *claimed)) {
            Some(role) => Principal {
                role,
                by_group: false,
                ..user
            },
            None => user,
        };
        if user.role != Role::User && !has_all(&section.operator_require, claims) {
            return Err(Refused::Barred(Barred::Operator));
        }
        Ok(user)
    }

    /// Write down who is called so, where it is not known yet.
    async fn keep(&self, named: &Named, identity: &str) -> Result<(), Refused> {
        let name = &named.name;
        let now_us = clock::now_us();
        let mut tx = self.db.begin().await?;
        let Some(row) = users::hold(&mut tx, name).await? else {
            let own = (!named.by_configuration).then_some(identity);
            if !users::insert_proven(&mut tx, name, By::Oidc, own, false, now_us).await? {
                return Err(Refused::Proof("identity-renamed"));
            }
            tx.commit().await?;
            return Ok(());
        };
        if row.disabled {
            return Err(Wrong::Disabled.into());
        }
        if named.by_configuration || row.identity.as_deref() == Some(identity) {
            return Ok(());
        }
        if row.identity.is_some() {
            return Err(Refused::Proof("identity-other"));
        }
        if row.by == By::Database {
            return Err(Refused::Proof("password-kept-here"));
        }
        if users::find_identity(&mut tx, identity).await?.is_some() {
            return Err(Refused::Proof("identity-renamed"));
        }
        if !users::identify(&mut tx, name, identity).await? {
            return Err(Refused::Proof("identity-other"));
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Whom a provider means: the SHA-256 of issuer and subject.
fn identity(section: &Section, claims: &Claims) -> String {
    let mut digest = Sha256::new();
    digest.update((section.issuer.len() as u64).to_be_bytes());
    digest.update(&section.issuer);
    digest.update(claims.subject());
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

fn name(provider: &Provider, claims: &Claims) -> Result<Named, Refused> {
    if let Some(name) = provider.config.users.get(claims.subject()) {
        return Ok(Named {
            name: name.clone(),
            by_configuration: true,
        });
    }
    let section = provider.section();
    let unnamed = || Refused::Proof("claim-name");
    if section.username_claim.is_empty() {
        return Err(unnamed());
    }
    let claim = claims.text(&section.username_claim).ok_or_else(unnamed)?;
    // Anybody can call any address their own.
    let unproven = section.username_claim == "email"
        && claims.claims.get("email_verified") != Some(&Value::Bool(true));
    if unproven {
        return Err(Refused::Proof("email-unverified"));
    }
    let name = claim
        .strip_suffix(&section.username_strip)
        .ok_or_else(unnamed)?;
    Ok(Named {
        name: UserName::parse(name).map_err(|_| unnamed())?,
        by_configuration: false,
    })
}

/// Whether the claims hold all that is required.
fn has_all(required: &BTreeMap<String, Value>, claims: &Claims) -> bool {
    required.iter().all(|(name, wanted)| {
        let Some(found) = claims.claims.get(name) else {
            return false;
        };
        match wanted.as_array() {
            Some(all) => all.iter().all(|one| holds(found, one)),
            None => holds(found, wanted),
        }
    })
}

fn holds(found: &Value, wanted: &Value) -> bool {
    match found.as_array() {
        Some(all) => all.contains(wanted),
        None => found == wanted,
    }
}

/// The highest role that the claims give.
fn role(section: &Section, claims: &Claims) -> Option<Role> {
    let groups = claims.claims.get(&section.groups_claim)?;
    let mut highest = None;
    for (group, role) in &section.roles {
        let has = holds(groups, &Value::String(group.clone()));
        if has && highest.is_none_or(|known| is_less(known, *role)) {
            highest = Some(*role);
        }
    }
    highest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::keys::Signed;
    use super::*;
    use crate::config;

    fn provider(change: impl FnOnce(&mut Section)) -> Provider {
        let mut section = Section {
            issuer: "https://id.example.org".into(),
            ..Section::default()
        };
        change(&mut section);
        let users = section.users.iter();
        let users = users.map(|(sub, name)| (sub.clone(), UserName::parse(name).unwrap()));
        Provider::new(config::Provider {
            users: users.collect(),
            secret: None,
            ca: None,
            section,
        })
        .unwrap()
    }

    fn claims(claims: Value) -> Claims {
        let Value::Object(claims) = claims else {
            unreachable!()
        };
        Claims {
            hash: String::new(),
            signed: Signed::Rs256,
            claims,
        }
    }

    fn named(provider: &Provider, said: Value) -> Option<(String, bool)> {
        let named = name(provider, &claims(said)).ok()?;
        Some((named.name.to_string(), named.by_configuration))
    }

    #[test]
    fn the_name_is_what_the_claim_says_without_its_ending() {
        let plain = provider(|_| {});
        let said = |name: Value| json!({"sub": "7", "preferred_username": name});
        assert_eq!(
            named(&plain, said(json!("ann"))),
            Some(("ann".into(), false))
        );
        for none in [
            json!("an/n"),
            json!("-ann"),
            json!(""),
            json!(["ann"]),
            json!(null),
        ] {
            assert_eq!(named(&plain, said(none)), None);
        }
        assert_eq!(named(&plain, json!({"sub": "7"})), None);

        let strips = provider(|section| section.username_strip = "@example.org".into());
        assert_eq!(
            named(&strips, said(json!("ann@example.org"))),
            Some(("ann".into(), false))
        );
        for other in [
            "ann",
            "ann@example.com",
            "@example.org",
            "ann@example.org.evil.net",
        ] {
            assert_eq!(named(&strips, said(json!(other))), None, "{other}");
        }
    }

    #[test]
    fn an_address_that_nobody_verified_names_nobody() {
        let mail = provider(|section| section.username_claim = "email".into());
        let said = |verified: Value| json!({"sub": "7", "email": "ann@example.org", "email_verified": verified});
        assert!(named(&mail, said(json!(true))).is_some());
        for not in [json!(false), json!("true"), json!(null)] {
            assert_eq!(named(&mail, said(not)), None);
        }
    }

    #[test]
    fn the_configuration_says_who_a_subject_is() {
        let listed = provider(|section| {
            section.username_claim = String::new();
            section.users = [("7".into(), "ann".into())].into();
        });
        let said = |sub: &str| json!({"sub": sub, "preferred_username": "root_"});
        assert_eq!(named(&listed, said("7")), Some(("ann".into(), true)));
        assert_eq!(named(&listed, said("8")), None);
    }

    #[test]
    fn all_that_is_required_must_be_there() {
        let strict = provider(|section| {
            section.require = [
                ("groups".into(), json!("hpc")),
                ("email_verified".into(), json!(true)),
            ]
            .into();
        });
        let section = strict.section();
        let has = |said: Value| has_all(&section.require, &claims(said));
        assert!(has(json!({"groups": ["x", "hpc"], "email_verified": true})));
        assert!(has(json!({"groups": "hpc", "email_verified": true})));
        for not in [
            json!({"groups": ["hpc"]}),
            json!({"groups": ["hpc2"], "email_verified": true}),
            json!({"groups": [["hpc"]], "email_verified": true}),
            json!({"groups": "x hpc", "email_verified": true}),
            json!({"groups": ["hpc"], "email_verified": "true"}),
            json!({"groups": ["hpc"], "email_verified": 1}),
        ] {
            assert!(!has(not.clone()), "{not}");
        }
    }

    #[test]
    fn the_highest_role_of_all_groups_counts() {
        let roles = provider(|section| {
            section.roles = [
                ("ops".into(), Role::Operator),
                ("admins".into(), Role::Administrator),
            ]
            .into();
        });
        let of = |said: Value| role(roles.section(), &claims(said));
        assert_eq!(of(json!({"groups": ["ops"]})), Some(Role::Operator));
        assert_eq!(
            of(json!({"groups": ["ops", "admins"]})),
            Some(Role::Administrator)
        );
        assert_eq!(of(json!({"groups": ["users"]})), None);
        assert_eq!(of(json!({})), None);
    }

    #[test]
    fn one_identity_is_not_another() {
        let (one, other) = (
            provider(|_| {}),
            provider(|s| s.issuer = "https://id.example.or".into()),
        );
        let of = |provider: &Provider, sub: &str| {
            identity(provider.section(), &claims(json!({"sub": sub})))
        };
        assert_eq!(of(&one, "7"), of(&one, "7"));
        assert_ne!(of(&one, "7"), of(&one, "8"));
        assert_ne!(of(&one, "7"), of(&other, "g7"));
    }
}
