//! Which user a certificate is of.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::shown::normal_email;
use super::{Name, Named};
use crate::error::{Error, Result};
use crate::user_name::UserName;

/// Which part of a certificate says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum From {
    /// The whole subject.
    Subject,
    /// The mail address.
    SanEmail,
    /// The common name in the subject.
    Cn,
}

/// Knows the users of certificates.
#[derive(Debug, Clone)]
pub(crate) enum Users {
    /// By their subjects.
    Subjects(HashMap<Name, UserName>),
    /// By their mail addresses.
    Emails(HashMap<String, UserName>),
    /// By their common names.
    CommonNames(HashMap<String, UserName>),
    /// The common name is the user's name.
    Themselves,
}

impl Users {
    /// The users in `table`, looked up by what `from` says. Without a table,
    /// common names alone are names of users.
    ///
    /// Errors: something in the table is none, or stands there twice.
    pub(crate) fn new(from: From, table: &BTreeMap<String, String>) -> Result<Self> {
        let wrong =
            |key: &str, why: &str| Error::invalid(format!("certificates.users: {key:?} {why}"));
        match from {
            From::Cn if table.is_empty() => return Ok(Self::Themselves),
            From::Cn | From::Subject | From::SanEmail => {}
        }
        if table.is_empty() {
            return Err(Error::invalid(
                "certificates.users: is needed with from = \"subject\" and \"san-email\"",
            ));
        }
        let user = |key: &str, name: &str| {
            UserName::parse(name).map_err(|error| wrong(key, &format!("= {name:?}: {error}")))
        };
        let twice = |key: &str| wrong(key, "stands there twice");
        let by_text = |normal: fn(&str) -> String| {
            let mut users = HashMap::new();
            for (key, name) in table {
                if users.insert(normal(key), user(key, name)?).is_some() {
                    return Err(twice(key));
                }
            }
            Ok(users)
        };
        Ok(match from {
            From::Cn => Self::CommonNames(by_text(str::to_owned)?),
            From::SanEmail => Self::Emails(by_text(normal_email)?),
            From::Subject => {
                let mut users = HashMap::new();
                for (key, name) in table {
                    let subject = Name::parse(key).map_err(|why| wrong(key, why))?;
                    if users.insert(subject, user(key, name)?).is_some() {
                        return Err(twice(key));
                    }
                }
                Self::Subjects(users)
            }
        })
    }

    /// The user of a certificate.
    ///
    /// Errors: why it is nobody's, in one stable word. Of two common names, or
    /// two mail addresses, nobody knows which is meant.
    pub(crate) fn user(&self, named: &Named) -> Result<UserName, &'static str> {
        let unmapped = "certificate-unmapped";
        let one = |names: &[String]| match names {
            [name] => Ok(name.clone()),
            [] | [_, ..] => Err("certificate-name"),
        };
        match self {
            Self::Subjects(users) => {
                let subject = named.subject.as_ref().ok_or("certificate-name")?;
                users.get(subject).cloned().ok_or(unmapped)
            }
            Self::Emails(users) => {
                let email = normal_email(&one(&named.emails)?);
                users.get(&email).cloned().ok_or(unmapped)
            }
            Self::CommonNames(users) => {
                let name = one(&named.common_names)?;
                users.get(&name).cloned().ok_or(unmapped)
            }
            Self::Themselves => {
                UserName::parse(&one(&named.common_names)?).map_err(|_| "certificate-name")
            }
        }
    }
}
