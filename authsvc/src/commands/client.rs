//! The programs that may ask for tokens.

use clap::{Args, Subcommand};
use serde_json::json;
use warrant_api::scope::Scopes;
use warrant_migrations::{Db, Tx};

use super::say;
use crate::audit::{self, Event, Sort};
use crate::certificates::Rule;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::oauth::{Grant, redirect};
use crate::opaque;
use crate::source::Source;
use crate::store::clients::{self, Row};
use crate::store::sessions::{self, Of};
use crate::token::LEGACY_CLIENT;
use crate::user_name::UserName;

/// The longest id, in bytes.
const LONGEST_ID: usize = 64;
/// The longest name for people, in characters.
const LONGEST_LABEL: usize = 64;
/// The most addresses of one client.
const MOST_URIS: usize = 16;

#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Add a client. Its secret, where it gets one, is printed this once.
    Add(Box<Add>),
    /// List the clients.
    List {
        /// As JSON; times in microseconds since the Unix epoch.
        #[arg(long)]
        json: bool,
    },
    /// Let a client have nothing more, and end its sessions.
    Disable {
        /// The client.
        id: String,
    },
    /// Let a client have tokens again.
    Enable {
        /// The client.
        id: String,
    },
    /// Remove a client, and end its sessions.
    Delete {
        /// The client.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// 1 to 64 of A-Z a-z 0-9 _ . -
    id: String,
    /// The name that users are shown; the id if absent.
    #[arg(long)]
    label: Option<String>,
    /// A program that cannot keep a secret: it gets none.
    #[arg(long, conflicts_with = "certificate")]
    public: bool,
    /// Give it nothing without a proof of possession (DPoP, RFC 9449).
    #[arg(long)]
    dpop: bool,
    /// What it may ask for: password, refresh_token, client_credentials,
    /// authorization_code, device_code, certificate. Give it several times for several.
    #[arg(long = "grant", required = true)]
    grants: Vec<String>,
    /// What its tokens may be used for.
    #[arg(long, default_value = "read submit control")]
    scope: String,
    /// It proves who it is by a certificate with this subject, such as
    /// CN=robot,O=Example, instead of a secret.
    #[arg(long, group = "certificate", value_name = "NAME")]
    tls_subject: Option<String>,
    /// The same, by the name of a host in its certificate.
    #[arg(long, group = "certificate", value_name = "HOST")]
    tls_san_dns: Option<String>,
    /// The same, by an address in its certificate.
    #[arg(long, group = "certificate", value_name = "URI")]
    tls_san_uri: Option<String>,
    /// The same, by a mail address in its certificate.
    #[arg(long, group = "certificate", value_name = "ADDRESS")]
    tls_san_email: Option<String>,
    /// The user as whom it acts by itself, with client_credentials.
    #[arg(long)]
    owner: Option<String>,
    /// Where codes for it may go, with authorization_code: https, http on
    /// 127.0.0.1 or ::1 (then with any port), or a scheme such as
    /// org.example.app. Give it several times for several.
    #[arg(long = "redirect-uri")]
    redirect_uris: Vec<String>,
}

impl ClientCommand {
    /// Carry out the command.
    ///
    /// Errors: what was given for a client is not allowed; it does not exist,
    /// or does already; the database did not answer.
    pub(super) async fn run(self, db: &Db) -> Result<()> {
        match self {
            Self::Add(add) => return add.run(db).await,
            Self::List { json } => return list(db, json).await,
            Self::Disable { id } => {
                let mut tx = db.begin().await?;
                found(&id, clients::set_disabled(&mut tx, &id, true).await?)?;
                end(tx, &id, "client-disabled", "client-disable").await?;
            }
            Self::Enable { id } => {
                let mut tx = db.begin().await?;
                found(&id, clients::set_disabled(&mut tx, &id, false).await?)?;
                record(&mut tx, "client-enable", &id).await?;
                tx.commit().await?;
            }
            Self::Delete { id } => {
                let mut tx = db.begin().await?;
                found(&id, clients::delete(&mut tx, &id).await?)?;
                end(tx, &id, "client-deleted", "client-delete").await?;
            }
        }
        Ok(())
    }
}

/// End the client's sessions, record what was done and commit.
async fn end(mut tx: Tx, id: &str, reason: &str, action: &'static str) -> Result<()> {
    sessions::end(&mut tx, Of::Client(id), reason, clock::now_us()).await?;
    record(&mut tx, action, id).await?;
    Ok(tx.commit().await?)
}

/// Record who did what to the client, together with what was done.
async fn record(tx: &mut Tx, action: &'static str, id: &str) -> Result<()> {
    let mut event = Event::new(Sort::Admin, Source::of_operator());
    event.action = Some(action);
    event.detail = Some(id.to_owned());
    audit::act(tx, event).await
}

fn found(id: &str, found: bool) -> Result<()> {
    if found {
        return Ok(());
    }
    Err(Error::new(
        Kind::NotFound,
        format!("there is no client {id:?}"),
    ))
}

impl Add {
    async fn run(self, db: &Db) -> Result<()> {
        let mut row = self.row()?;
        let secret = match row.secret_hash {
            None => None,
            Some(_) => {
                let (secret, hash) = opaque::make(opaque::CLIENT)?;
                row.secret_hash = Some(hash);
                Some(secret)
            }
        };
        let mut tx = db.begin().await?;
        if !clients::insert(&mut tx, &row).await? {
            let message = format!("there is a client {} already", row.id);
            return Err(Error::new(Kind::Conflict, message));
        }
        record(&mut tx, "client-add", &row.id).await?;
        tx.commit().await?;
        match secret {
            Some(secret) => say(secret.expose()),
            None => Ok(()),
        }
    }

    /// What its certificate must say, where it has one.
    fn certificate(&self) -> Result<Option<Rule>> {
        type Read = fn(&str) -> Result<Rule, &'static str>;
        let asked: [(&str, &Option<String>, Read); 4] = [
            ("--tls-subject", &self.tls_subject, Rule::subject),
            ("--tls-san-dns", &self.tls_san_dns, Rule::dns),
            ("--tls-san-uri", &self.tls_san_uri, Rule::uri),
            ("--tls-san-email", &self.tls_san_email, Rule::email),
        ];
        let given = asked
            .into_iter()
            .find_map(|(flag, text, read)| text.as_deref().map(|text| (flag, text, read)));
        given
            .map(|(flag, text, read)| {
                read(text).map_err(|why| Error::invalid(format!("{flag}: {text:?} {why}")))
            })
            .transpose()
    }

    /// The client, checked; its secret is still to be made.
    fn row(self) -> Result<Row> {
        let id = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(1..=LONGEST_ID).contains(&self.id.len())
            || !self.id.bytes().all(id)
            || self.id == LEGACY_CLIENT
        {
            return Err(Error::invalid(format!(
                "a client's id is 1 to {LONGEST_ID} of A-Z a-z 0-9 _ . -, and not {LEGACY_CLIENT}"
            )));
        }
        let certificate = self.certificate()?;
        let label = self.label.unwrap_or_else(|| self.id.clone());
        if !(1..=LONGEST_LABEL).contains(&label.chars().count())
            || label.chars().any(char::is_control)
        {
            return Err(Error::invalid(format!(
                "--label: 1 to {LONGEST_LABEL} characters are allowed"
            )));
        }
        let grants: Option<Vec<_>> = self.grants.iter().map(|name| Grant::parse(name)).collect();
        let grants = grants.ok_or_else(|| {
            Error::invalid(
                "--grant: password, refresh_token, client_credentials, authorization_code, \
                 device_code and certificate are allowed",
            )
        })?;
        let scopes: Scopes = self
            .scope
            .parse()
            .map_err(|why| Error::invalid(format!("--scope: {why}")))?;
        if scopes.is_empty() {
            return Err(Error::invalid("--scope: at least one is needed"));
        }
        let by_itself = grants.contains(&Grant::ClientCredentials);
        if by_itself && self.public {
            return Err(Error::invalid(
                "--public: a client without a secret cannot act by itself",
            ));
        }
        if by_itself != self.owner.is_some() {
            return Err(Error::invalid(
                "--owner: goes with --grant client_credentials, and is needed with it",
            ));
        }
        if let Some(owner) = &self.owner {
            UserName::parse(owner).map_err(|why| Error::invalid(format!("--owner: {why}")))?;
        }
        let uris = &self.redirect_uris;
        if grants.contains(&Grant::AuthorizationCode) == uris.is_empty() || uris.len() > MOST_URIS {
            return Err(Error::invalid(format!(
                "--redirect-uri: goes with --grant authorization_code; 1 to {MOST_URIS} are needed \
                 with it"
            )));
        }
        if let Some(bad) = uris.iter().find(|uri| !redirect::may_be_registered(uri)) {
            return Err(Error::invalid(format!(
                "--redirect-uri: {bad:?} is no https address, none on 127.0.0.1 or [::1], and none \
                 of a scheme such as org.example.app"
            )));
        }
        let words: Vec<_> = grants.iter().map(|grant| grant.name()).collect();
        Ok(Row {
            id: self.id,
            label,
            secret_hash: (!self.public && certificate.is_none()).then(String::new),
            certificate: certificate.map(|rule| rule.to_string()),
            owner: self.owner,
            grants: words.join(" "),
            scopes: scopes.to_string(),
            redirect_uris: uris.join("\n"),
            disabled: false,
            dpop: self.dpop,
            created_us: clock::now_us(),
        })
    }
}

async fn list(db: &Db, as_json: bool) -> Result<()> {
    let clients = clients::list(&mut db.read().await?).await?;
    if as_json {
        let rows: Vec<_> = clients
            .iter()
            .map(|client| {
                json!({
                    "id": client.id,
                    "label": client.label,
                    "public": client.secret_hash.is_none() && client.certificate.is_none(),
                    "certificate": client.certificate,
                    "owner": client.owner,
                    "grants": client.grants.split(' ').collect::<Vec<_>>(),
                    "scope": client.scopes,
                    "redirect_uris": client.redirect_uris.lines().collect::<Vec<_>>(),
                    "disabled": client.disabled,
                    "dpop": client.dpop,
                    "created_us": client.created_us,
                })
            })
            .collect();
        return say(&json!(rows).to_string());
    }
    for client in clients {
        let sort = match (&client.secret_hash, &client.certificate) {
            (_, Some(_)) => "certificate",
            (Some(_), None) => "confidential",
            (None, None) => "public",
        };
        let state = if client.disabled {
            "disabled"
        } else {
            "enabled"
        };
        let owner = client.owner.as_deref().unwrap_or("-");
        say(&format!(
            "{:<20} {sort:<12} {state:<8} {owner} {:?} {:?} {}",
            client.id,
            client.scopes,
            client.grants,
            client.redirect_uris.replace('\n', " ")
        ))?;
    }
    Ok(())
}
