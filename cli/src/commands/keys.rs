//! `warrant keys`: API keys, for programs that run without their user.

use std::io::IsTerminal;

use serde_json::json;
use warrant_api::keys::{CreatedKey, KeyList, NewKey, RevokedKeys};

use crate::args::Keys;
use crate::client::{Answer, Client, Request, not_understood};
use crate::clock::now_s;
use crate::commands::{Show, print_json};
use crate::duration;
use crate::failure::Failure;
use crate::table::{self, Column};
use crate::terminal::{complain, say, visible};

const ROUTE: &str = "/v1/keys";

/// Do what was asked.
pub(crate) fn keys(client: &mut Client, what: &Keys, show: Show) -> Result<(), Failure> {
    match what {
        Keys::Create {
            label,
            scopes,
            days,
            certificate,
            key,
            auth_host,
        } => {
            let new = NewKey {
                label: label.clone(),
                scopes: *scopes,
                expires_in_days: *days,
            };
            let given = auth_host.as_deref().filter(|host| !host.is_empty());
            let answer = match (certificate, key) {
                (Some(certificate), Some(key)) => {
                    client.create_key_by_certificate(given, (certificate, key), &new)?
                }
                (None, _) | (_, None) => client.create_key(given, &new)?,
            };
            print_created(&answer, show)
        }
        Keys::List { of } => list(client, of.as_deref(), show),
        Keys::Revoke { ids, all: _, of } => revoke(client, ids, of.as_deref(), show),
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    serde_json::from_str(&answer.body).map_err(|_| not_understood())
}

fn of_user(of: Option<&str>) -> Vec<(&'static str, String)> {
    of.map(|user| ("user", user.to_owned()))
        .into_iter()
        .collect()
}

/// Print a new key, alone, so that a script can keep it.
fn print_created(answer: &Answer, show: Show) -> Result<(), Failure> {
    if show.json {
        return print_json(answer, show.look);
    }
    let created: CreatedKey = read(answer)?;
    if std::io::stderr().is_terminal() {
        complain(&format!(
            "The key {} counts for {}. It is shown this once: keep it in a safe place, and \
             set WARRANT_API_KEY to it to use it.",
            visible(&created.info.id),
            life(created.info.expires_s)
        ));
    }
    say(&visible(&created.key))
}

fn life(until_s: u64) -> String {
    duration::show(until_s.saturating_sub(now_s()))
}

fn list(client: &mut Client, of: Option<&str>, show: Show) -> Result<(), Failure> {
    let answer = client
        .answer(&Request::Get(ROUTE, of_user(of)))?
        .success()?;
    if show.json {
        return print_json(&answer, show.look);
    }
    let list: KeyList = read(&answer)?;
    let rows = list.keys.into_iter().map(|key| {
        let used = match (key.last_used_s, key.last_used_from) {
            (Some(at), from) => format!(
                "{} ago from {}",
                duration::show(now_s().saturating_sub(at)),
                from.unwrap_or_else(|| "?".to_owned())
            ),
            (None, _) => "never".to_owned(),
        };
        vec![
            key.id.into(),
            key.label.into(),
            key.scopes.to_string().into(),
            life(key.expires_s).into(),
            used.into(),
        ]
    });
    let columns = [
        Column::new("ID"),
        Column::new("LABEL"),
        Column::expendable("SCOPES", 1),
        Column::expendable("COUNTS FOR", 2),
        Column::expendable("USED", 3),
    ];
    table::print(&columns, rows.collect(), show.look)
}

/// Revoke the keys `ids`, or all where there is none.
fn revoke(
    client: &mut Client,
    ids: &[String],
    of: Option<&str>,
    show: Show,
) -> Result<(), Failure> {
    let mut routes: Vec<String> = Vec::new();
    for id in ids {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Failure::Usage(format!("{} is no id of a key", visible(id))));
        }
        routes.push(format!("{ROUTE}/{id}"));
    }
    if routes.is_empty() {
        routes.push(ROUTE.to_owned());
    }
    let mut revoked = 0;
    for route in &routes {
        let answer = client
            .answer(&Request::Delete(route, of_user(of)))?
            .success()?;
        revoked += read::<RevokedKeys>(&answer)?.revoked;
    }
    if show.json {
        return say(&json!({"revoked": revoked}).to_string());
    }
    let s = if revoked == 1 { "" } else { "s" };
    say(&format!("Revoked {revoked} key{s}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::{FakeServer, Reply};
    use crate::terminal::Look;

    const SHOW: Show = Show {
        json: false,
        look: Look::PIPED,
    };

    #[test]
    fn all_keys_are_revoked_in_one_request_and_single_ones_one_by_one() {
        let server = FakeServer::start(|request| {
            assert_eq!(request.method, "DELETE");
            match (request.number, request.target.as_str()) {
                (1, "/v1/keys?user=bob") => Reply::json(200, r#"{"revoked":2}"#),
                (2, "/v1/keys/abc") | (3, "/v1/keys/def") => Reply::json(200, r#"{"revoked":1}"#),
                (_, other) => panic!("{other}"),
            }
        });
        let mut client = server.client();
        assert_eq!(revoke(&mut client, &[], Some("bob"), SHOW), Ok(()));
        let ids = ["abc".to_owned(), "def".to_owned()];
        assert_eq!(revoke(&mut client, &ids, None, SHOW), Ok(()));
        assert_eq!(server.requests(), 3);
    }

    #[test]
    fn a_key_is_asked_for_with_the_password_and_not_with_the_stored_login() {
        let server = FakeServer::start(|request| {
            assert_eq!(
                (request.method.as_str(), request.target.as_str()),
                ("POST", "/v1/keys")
            );
            // ann:p w&
            assert_eq!(request.headers["authorization"], "Basic YW5uOnAgdyY=");
            Reply::json(403, r#"{"detail":"not so often"}"#)
        });
        let new = Keys::Create {
            scopes: None,
            days: None,
            certificate: None,
            key: None,
            auth_host: None,
            label: "ci".to_owned(),
        };
        let mut client = server.client();
        let Err(Failure::Refused(message)) = keys(&mut client, &new, SHOW) else {
            panic!("it was made");
        };
        assert!(message.contains("not so often"), "{message}");
        assert_eq!(server.requests(), 1);
    }

    #[test]
    fn an_id_that_could_lead_elsewhere_is_refused() {
        let mut client = FakeServer::gone().client();
        for id in ["", "../jobs", "a?b", "a/b"] {
            let refused = revoke(&mut client, &[id.to_owned()], None, SHOW);
            assert!(matches!(refused, Err(Failure::Usage(_))), "{id}");
        }
    }
}
