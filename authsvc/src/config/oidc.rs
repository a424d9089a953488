//! The settings of OpenID providers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use axum::http::Uri;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use warrant_api::token::Role;

use super::Config;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::user_name::UserName;

/// The most providers.
const MOST: usize = 16;
/// The largest file of certificates, in bytes.
const MAX_CA_BYTES: u64 = 1024 * 1024;

/// The providers: one section `[oidc]`, or several `[[oidc]]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Providers(Vec<Section>);

impl Deref for Providers {
    type Target = [Section];

    fn deref(&self) -> &[Section] {
        &self.0
    }
}

impl From<Section> for Providers {
    fn from(section: Section) -> Self {
        Self(vec![section])
    }
}

impl<'de> Deserialize<'de> for Providers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Vec<Section>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a section [oidc], or sections [[oidc]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Section::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq))
            }
        }
        deserializer.deserialize_any(OneOrMore).map(Self)
    }
}

/// One provider, as the file says it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Section {
    /// Its name in addresses and in the audit trail.
    pub(crate) name: String,
    /// Its name for people; `name` if empty.
    pub(crate) label: String,
    /// Its issuer identifier.
    pub(crate) issuer: String,
    /// Where its keys are, if not where it says itself.
    pub(crate) jwks_url: Option<String>,
    /// As which client users sign in in the browser; empty: they cannot.
    pub(crate) client_id: String,
    /// The file that holds the client's secret, where it has one.
    pub(crate) client_secret_file: Option<PathBuf>,
    /// Clients whose ID tokens may be exchanged for tokens; none if empty.
    pub(crate) audience: Vec<String>,
    /// What the provider is asked for besides `openid`.
    pub(crate) scopes: Vec<String>,
    /// The claim that names the user; empty: `users` alone says who is who.
    pub(crate) username_claim: String,
    /// What the claim must end with, and what is taken off.
    pub(crate) username_strip: String,
    /// Users by subject.
    pub(crate) users: BTreeMap<String, String>,
    /// Claims that must be there, with this value or with it in their list.
    pub(crate) require: BTreeMap<String, Value>,
    /// What operators and administrators need besides.
    pub(crate) operator_require: BTreeMap<String, Value>,
    /// The authentication contexts that the provider is asked for (`acr`).
    pub(crate) acr_values: Vec<String>,
    /// The claim that lists groups.
    pub(crate) groups_claim: String,
    /// Roles by group.
    pub(crate) roles: BTreeMap<String, Role>,
    /// Allow `http://` on this machine itself; for tests.
    pub(crate) allow_http: bool,
    /// Certificates to trust instead of the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            name: String::new(),
            label: String::new(),
            issuer: String::new(),
            jwks_url: None,
            client_id: String::new(),
            client_secret_file: None,
            audience: Vec::new(),
            scopes: vec!["profile".into()],
            username_claim: "preferred_username".into(),
            username_strip: String::new(),
            users: BTreeMap::new(),
            require: BTreeMap::new(),
            operator_require: BTreeMap::new(),
            acr_values: Vec::new(),
            groups_claim: "groups".into(),
            roles: BTreeMap::new(),
            allow_http: false,
            ca_file: None,
        }
    }
}

/// One provider, with its files read and its values checked.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    /// What needs no reading.
    pub(crate) section: Section,
    /// The client's secret.
    pub(crate) secret: Option<Secret>,
    /// Users by subject.
    pub(crate) users: HashMap<String, UserName>,
    /// Certificates to trust, in PEM form.
    pub(crate) ca: Option<Vec<u8>>,
}

impl Config {
    /// The providers.
    ///
    /// Errors: a value is not allowed or a file cannot be read; the message
    /// names the key.
    pub(super) fn providers(&self) -> Result<Vec<Provider>> {
        if self.oidc.len() > MOST {
            return Err(Error::invalid(format!("oidc: at most {MOST} providers")));
        }
        let mut names = HashSet::new();
        let mut issuers = HashSet::new();
        let mut providers = Vec::new();
        for section in self.oidc.iter() {
            let provider = section.resolve().map_err(|error| Error {
                message: format!("oidc {:?}: {}", section.name, error.message),
                ..error
            })?;
            if !names.insert(&section.name) || !issuers.insert(&section.issuer) {
                return Err(Error::invalid(format!(
                    "oidc {:?}: there is another provider of this name or issuer",
                    section.name
                )));
            }
            providers.push(provider);
        }
        Ok(providers)
    }
}

impl Section {
    /// Look at every value, and at no file.
    ///
    /// Errors: a value is not allowed; the message begins with its key.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |why: &str| Err(Error::invalid(why));
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=32).contains(&self.name.len()) || !self.name.bytes().all(letters) {
            return wrong("name: 1 to 32 of a-z 0-9 -");
        }
        let shown = |text: &str| text.len() <= 64 && !text.chars().any(char::is_control);
        if !shown(&self.label) {
            return wrong("label: at most 64 bytes, without control characters");
        }
        if !is_endpoint(&self.issuer, self.allow_http) || self.issuer.contains('?') {
            return wrong(
                "issuer: https://, a host, and perhaps a path (http:// on this machine itself, \
                 with allow_http)",
            );
        }
        let keys = self.jwks_url.as_deref();
        if !keys.is_none_or(|url| is_endpoint(url, self.allow_http)) {
            return wrong("jwks_url: https:// and a host (http:// as with issuer)");
        }
        let plain = |text: &String| {
            (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.client_id.is_empty() && !plain(&self.client_id) {
            return wrong("client_id: printable ASCII without spaces");
        }
        if self.client_id.is_empty() && self.audience.is_empty() {
            return wrong("client_id, audience: at least one is needed");
        }
        if self.client_id.is_empty() && self.client_secret_file.is_some() {
            return wrong("client_secret_file: of no use without client_id");
        }
        if !self.audience.iter().all(plain) {
            return wrong("audience: printable ASCII without spaces");
        }
        if !self.scopes.iter().all(plain) {
            return wrong("scopes: printable ASCII without spaces");
        }
        if self.username_claim.is_empty() && self.users.is_empty() {
            return wrong("username_claim, users: at least one is needed");
        }
        if !self.require.values().all(is_comparable) {
            return wrong("require: text, numbers, true and false, and lists of them");
        }
        if !self.operator_require.values().all(is_comparable) {
            return wrong("operator_require: text, numbers, true and false, and lists of them");
        }
        if !self.acr_values.iter().all(plain) {
            return wrong("acr_values: printable ASCII without spaces");
        }
        Ok(())
    }

    fn resolve(&self) -> Result<Provider> {
        self.check()?;
        let named = |(subject, name): (&String, &String)| {
            UserName::parse(name)
                .map(|name| (subject.clone(), name))
                .map_err(|error| Error::invalid(format!("users: {error}")))
        };
        let secret = self.client_secret_file.as_deref();
        Ok(Provider {
            secret: secret
                .map(|path| Secret::read("client_secret_file", path))
                .transpose()?,
            users: self.users.iter().map(named).collect::<Result<_>>()?,
            ca: self.ca_file.as_deref().map(read_ca).transpose()?,
            section: self.clone(),
        })
    }

    /// Its name for people.
    pub(crate) fn label(&self) -> &str {
        match self.label.as_str() {
            "" => &self.name,
            label => label,
        }
    }
}

/// Whether `url` can be an address of a provider: `https://`, or `http://` on
/// this machine itself where `allow_http`.
pub(crate) fn is_endpoint(url: &str, allow_http: bool) -> bool {
    let graphic = url.bytes().all(|byte| byte.is_ascii_graphic());
    if !graphic || url.len() > 2048 || url.contains(['#', '\\', '"', '<', '>']) {
        return false;
    }
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    let bare = !authority.as_str().contains('@') && !authority.host().is_empty();
    match scheme {
        "https" => bare,
        "http" => bare && allow_http && is_loopback(authority.host()),
        _ => false,
    }
}

/// Whether `host`, as it stands in an address, is this machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "[::1]" | "localhost")
}

fn is_comparable(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => true,
        Value::Array(values) => {
            !values.is_empty() && values.iter().all(|v| !v.is_array() && is_comparable(v))
        }
        Value::Null | Value::Object(_) => false,
    }
}

fn read_ca(path: &Path) -> Result<Vec<u8>> {
    let unread = |why: &str| Error::invalid(format!("ca_file: {} {why}", path.display()));
    let about = std::fs::metadata(path).map_err(|_| unread("cannot be read"))?;
    if !about.is_file() || about.len() > MAX_CA_BYTES {
        return Err(unread("is no file of at most 1 MiB"));
    }
    let pem = std::fs::read(path).map_err(|_| unread("cannot be read"))?;
    let certificates = ureq::tls::parse_pem(&pem).collect::<Result<Vec<_>, _>>();
    match certificates.map(|found| found.len()) {
        Ok(1..) => Ok(pem),
        Ok(0) | Err(_) => Err(unread("holds no certificates in PEM form")),
    }
}

/// A provider for tests.
#[cfg(test)]
pub(super) fn example() -> Providers {
    Providers(vec![Section {
        name: "campus".into(),
        issuer: "https://id.example.org".into(),
        client_id: "warrant".into(),
        ..Section::default()
    }])
}

#[cfg(test)]
impl Providers {
    /// These.
    pub(crate) fn of(sections: Vec<Section>) -> Self {
        Self(sections)
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;

    fn parse(text: &str) -> Result<Vec<Provider>, String> {
        let read = Figment::from(Toml::string(text)).extract::<Config>();
        let config = read.map_err(|error| error.to_string())?;
        config.providers().map_err(|error| error.message)
    }

    const GOOD: &str =
        "name = 'campus'\nissuer = 'https://id.example.org/realm'\nclient_id = 'w'\n";

    #[test]
    fn one_section_and_several_are_read() {
        assert_eq!(parse(&format!("[oidc]\n{GOOD}")).unwrap().len(), 1);
        let other = GOOD.replace("campus", "lab").replace("realm", "lab");
        let both = format!("[[oidc]]\n{GOOD}[[oidc]]\n{other}");
        assert_eq!(parse(&both).unwrap().len(), 2);
        assert!(parse(&format!("[[oidc]]\n{GOOD}[[oidc]]\n{GOOD}")).is_err());
        assert!(parse("oidc = 'campus'").is_err());
    }

    #[test]
    fn a_value_that_is_not_allowed_is_named() {
        let cases = [
            ("name = 'Campus!'", "name: "),
            ("issuer = 'http://id.example.org'", "issuer: "),
            (
                "issuer = 'http://id.example.org'\nallow_http = true",
                "issuer: ",
            ),
            ("issuer = 'http://127.0.0.1:1'", "issuer: "),
            ("issuer = 'https://ann@id.example.org'", "issuer: "),
            ("issuer = 'https://id.example.org?a=b'", "issuer: "),
            ("issuer = 'https://id.example.org#a'", "issuer: "),
            ("issuer = ''", "issuer: "),
            ("jwks_url = 'http://id.example.org/keys'", "jwks_url: "),
            ("jwks_url = ''", "jwks_url: "),
            ("client_id = ''", "client_id, audience: "),
            ("audience = ['']", "audience: "),
            ("scopes = ['a b']", "scopes: "),
            ("username_claim = ''", "username_claim, users: "),
            ("users = { '1' = 'a/b' }", "users: "),
            ("require = { groups = [['a']] }", "require: "),
            (
                "client_secret_file = '/nonexistent'",
                "client_secret_file: ",
            ),
            ("ca_file = '/dev/null'", "ca_file: "),
            ("roles = { staff = 'root' }", "root"),
            ("colour = 'red'", "colour"),
        ];
        for (line, said) in cases {
            let key = line.split(' ').next().unwrap();
            let rest: String = GOOD
                .lines()
                .filter(|line| !line.starts_with(key))
                .map(|line| format!("{line}\n"))
                .collect();
            let message = parse(&format!("[oidc]\n{rest}{line}\n")).unwrap_err();
            assert!(message.contains(said), "{line}: {message}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_itself() {
        for (url, allow, good) in [
            ("https://id.example.org/a?b", false, true),
            ("http://127.0.0.1:8080/a", true, true),
            ("http://[::1]:8080", true, true),
            ("http://localhost", true, true),
            ("http://localhost", false, false),
            ("http://localhost.example.org", true, false),
            ("http://127.0.0.1.example.org", true, false),
            ("http://127.0.0.1@example.org", true, false),
            ("https:///path", false, false),
            ("https://h\n", false, false),
            ("ftp://127.0.0.1", true, false),
            ("/path", true, false),
        ] {
            assert_eq!(is_endpoint(url, allow), good, "{url}");
        }
    }

    #[test]
    fn the_shipped_file_shows_every_key_of_a_provider() {
        let shipped = include_str!("../../../packaging/etc/authsvc.toml");
        let example: String = shipped
            .lines()
            .skip_while(|line| *line != "# [[oidc]]")
            .map_while(|line| line.strip_prefix("# "))
            .filter(|line| !line.contains("_file = "))
            .map(|line| format!("{line}\n"))
            .collect();
        parse(&example).unwrap();
        for key in [
            "name",
            "label",
            "issuer",
            "jwks_url",
            "client_id",
            "client_secret_file",
            "audience",
            "scopes",
            "username_claim",
            "username_strip",
            "users",
            "require",
            "operator_require",
            "acr_values",
            "groups_claim",
            "roles",
            "allow_http",
            "ca_file",
        ] {
            let start = format!("# {key} = ");
            assert!(
                shipped.lines().any(|line| line.starts_with(&start)),
                "{key}"
            );
        }
    }
}
