//! `check-config`: everything that can be seen of the configuration without
//! serving. What is written to see that it can be is taken back, and no secret
//! is printed.

use std::collections::HashSet;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::unistd::Group;
use warrant_door::tls::Tls;
use warrant_migrations::Schema;
use warrant_trail::Trail;
use warrant_upkeep::{
    CheckConfig, Findings, check_clock, check_database, check_public_url, has_password,
};

use super::serve::broker_uid;
use crate::clock;
use crate::config::{Backend, Config, Grants, Listen, Mode, Settings};
use crate::error::{Error, Result};
use crate::http::check_parent;
use crate::keys::{Purpose, Ring, State};

/// Variables that hold a secret. Source: the Flux RESTful server; libpq.
const SECRET_VARIABLES: [&str; 4] = [
    "FLUX_SECRET_KEY",
    "FLUX_SECREY_KEY",
    "FLUX_TOKEN",
    "PGPASSWORD",
];
/// The least that OWASP's Password Storage Cheat Sheet recommends of argon2id:
/// memory, and memory times passes.
const LEAST_MEMORY_KIB: u64 = 7_168;
const LEAST_WORK_KIB: u64 = 35_840;
/// A shorter shared secret can be guessed by whoever saw a login payload.
const SHORT_SECRET: usize = 16;
/// The longest life of an access token that is not remarked upon, in minutes.
const LONG_MINUTES: u64 = 60;

/// Look at everything, and tell what was found; the exit code.
///
/// Errors: nobody reads it.
pub(super) async fn run(settings: Result<Settings>, options: CheckConfig) -> Result<u8> {
    let mut findings = Findings::default();
    let what = match settings {
        Ok(settings) => {
            look(&settings, &mut findings).await;
            summary(&settings)
        }
        // The configuration cannot even be read: there is nothing else to see.
        Err(error) => {
            findings.error("configuration", full(&error));
            "nothing".to_owned()
        }
    };
    findings
        .tell(options, &what, &mut std::io::stdout())
        .map_err(|source| Error::unavailable("cannot write the answer", source))
}

async fn look(settings: &Settings, findings: &mut Findings) {
    let config = &settings.config;
    look_at_strength(settings, findings);
    for name in SECRET_VARIABLES {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            findings.warning(
                name,
                "a secret in the environment: put it into a file, and name that in the configuration",
            );
        }
    }
    if config.database.url_file.is_none() && has_password(config.database.url.expose()) {
        findings.warning(
            "database.url",
            "a password in the environment: put the URL into a file, and name that as database.url_file",
        );
    }
    look_at_keys(config, findings);
    look_at_sockets(settings, findings);
    look_at_accounts(config, findings);
    let db = match settings.database_url() {
        Ok(url) => check_database(Schema::Auth, url.expose(), findings).await,
        Err(error) => {
            findings.error("database.url_file", full(&error));
            None
        }
    };
    check_clock(&Trail::AUTHSVC, db.as_ref(), findings).await;
    if let Some(db) = db {
        db.close().await;
    }
}

/// Settings that are allowed, and weak.
fn look_at_strength(settings: &Settings, findings: &mut Findings) {
    let config = &settings.config;
    if !settings.backends.give_tokens() {
        findings.warning("backend", "none: nobody has to prove who they are");
    }
    check_public_url("oauth.url", &config.oauth.url, findings);
    if config.listen.proxies != Listen::default().proxies {
        for name in settings.proxies.missing() {
            findings.warning("listen.proxies", format!("there is no account {name:?}"));
        }
    }
    let beyond = config.listen.tcp.filter(|tcp| !tcp.ip().is_loopback());
    match (config.listen.tls.files().map(Tls::open), beyond) {
        (Some(Err(error)), _) => findings.error("listen.tls", error.to_string()),
        (None, Some(tcp)) => findings.warning(
            "listen.tcp",
            format!("{tcp} is reached from other machines by plain HTTP"),
        ),
        (Some(Ok(_)), _) | (None, None) => {}
    }
    if config.listen.tls.key.is_some() && config.listen.tcp.is_none() {
        findings.warning(
            "listen.tls",
            "of no use: it is for listen.tcp, which is not set",
        );
    }
    if config.oauth.password_grant && config.warrants.mode == Grants::Client {
        findings.warning(
            "oauth.password_grant",
            "users who obtain their warrants themselves may still give their password by way of \
             the broker; switch it off",
        );
    }
    let passwords = &config.passwords;
    let memory = u64::from(passwords.memory_kib);
    let work = memory.saturating_mul(passwords.passes.into());
    if memory < LEAST_MEMORY_KIB || work < LEAST_WORK_KIB {
        findings.warning(
            "passwords.memory_kib",
            format!(
                "{memory} KiB and {} passes are less than recommended: 19456 and 2",
                passwords.passes
            ),
        );
    }
    for (key, minutes) in [
        ("tokens.minutes", config.tokens.minutes),
        ("oauth.access_minutes", config.oauth.access_minutes),
    ] {
        if minutes > LONG_MINUTES {
            findings.warning(
                key,
                format!("{minutes}: a stolen token is good for longer than an hour"),
            );
        }
    }
    if settings
        .shared_secret
        .as_ref()
        .is_some_and(|secret| secret.expose().len() < SHORT_SECRET)
    {
        findings.warning(
            "shared_secret_file",
            "shorter than 16 bytes: who sees a login payload can guess it",
        );
    }
}

fn look_at_keys(config: &Config, findings: &mut Findings) {
    let mut seen = HashSet::new();
    let purposes = match config.mode {
        Mode::SingleUser => &[Purpose::Access][..],
        Mode::MultiUser => &[Purpose::Access, Purpose::Warrants],
    };
    for purpose in purposes {
        let (key, path) = match purpose {
            Purpose::Access => ("keys.dir", &config.keys.dir),
            Purpose::Warrants => ("warrants.keys_dir", &config.warrants.keys_dir),
        };
        // The first start makes it, and the first key.
        if !path.try_exists().unwrap_or(true) {
            continue;
        }
        match purpose.dir(config).and_then(|dir| dir.load()) {
            Ok(keys) => {
                if keys.iter().any(|key| !seen.insert(key.kid.clone())) {
                    findings.error(key, "holds a key that keys.dir holds too");
                }
                let now_s = clock::now_s();
                let states = Ring::new(keys, purpose.longest_s()).states(now_s);
                if states
                    .iter()
                    .any(|(key, state)| *state == State::Signing && key.signs_from_s > now_s)
                {
                    findings.warning(key, "no key may sign yet: the clock went back");
                }
            }
            Err(error) => findings.error(key, full(&error)),
        }
    }
}

fn look_at_sockets(settings: &Settings, findings: &mut Findings) {
    let config = &settings.config;
    let socket = &config.listen.socket;
    match socket.parent().filter(|parent| parent.is_absolute()) {
        None => findings.error("listen.socket", "an absolute path is needed"),
        Some(parent) => {
            if let Err(error) = check_parent(parent) {
                findings.error("listen.socket", full(&error));
            }
        }
    }
    if settings.backends.has(Backend::Pam) {
        let found = std::fs::metadata(&config.pam.socket);
        if !found.is_ok_and(|found| found.file_type().is_socket()) {
            let path = config.pam.socket.display();
            findings.error("pam.socket", format!("there is no socket {path}"));
        }
        if !Path::new("/etc/pam.d").join(&config.pam.service).exists() {
            findings.error(
                "pam.service",
                format!("there is no /etc/pam.d/{}", config.pam.service),
            );
        }
    }
}

/// The accounts and groups of the machine that are named.
fn look_at_accounts(config: &Config, findings: &mut Findings) {
    if config.mode == Mode::MultiUser
        && let Err(error) = broker_uid(&config.warrants)
    {
        findings.error("warrants.broker_user", full(&error));
    }
    for (key, groups) in [
        ("admin_groups", &config.admin_groups),
        ("operator_groups", &config.operator_groups),
    ] {
        for group in groups {
            match Group::from_name(group) {
                Ok(Some(_)) => {}
                Ok(None) => findings.warning(key, format!("there is no group {group:?}")),
                Err(errno) => findings.warning(
                    key,
                    format!("the group {group:?} cannot be looked up: {errno}"),
                ),
            }
        }
    }
}

/// What there is to say of a good configuration.
fn summary(settings: &Settings) -> String {
    let listen = &settings.config.listen;
    let tcp = listen
        .tcp
        .map(|tcp| format!(" and {tcp}"))
        .unwrap_or_default();
    format!(
        "{}, backend {}, token handshake {}, listening on {}{tcp}",
        settings.config.mode.name(),
        settings.backends.names(),
        if settings.handshake_secret().is_some() {
            "on"
        } else {
            "off"
        },
        listen.socket.display(),
    )
}

/// With what lay beneath, which no caller over HTTP sees.
fn full(error: &Error) -> String {
    match &error.source {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
