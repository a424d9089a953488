//! The endpoints of OAuth 2.0, as programs meet them.

mod attacks;
mod code;
mod device;
mod known;
mod refresh;
mod sessions;
mod token;

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::Value;

use super::house::{Answer, House, request};
use crate::opaque;
use crate::store::clients::{self, Row};

/// The address of the web client.
pub(in crate::tests) const CALLBACK: &str = "https://app.example.org/callback";
/// A verifier and its challenge. Source: RFC 7636, appendix B.
pub(in crate::tests) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(in crate::tests) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A request with a form to `path`.
fn form(path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let escape =
        |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
    let body: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let headers = [&[kind], headers].concat();
    request(Method::POST, path, &headers, &body.join("&"))
}

/// Another text of the same form.
fn altered(text: &str) -> String {
    let (rest, last) = text.split_at(text.len() - 1);
    format!("{rest}{}", if last == "A" { "E" } else { "A" })
}

/// HTTP Basic of a client.
fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

impl Answer {
    /// That nothing was given, for this reason.
    fn is_oauth_error(&self, status: u16, error: &str) -> &Self {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.body["error"], error, "{:?}", self.body);
        assert_eq!(self.headers["cache-control"], "no-store");
        assert!(self.body["error_description"].is_string());
        self
    }

    fn refresh_token(&self) -> String {
        self.token();
        self.body["refresh_token"].as_str().unwrap().to_owned()
    }
}

impl House {
    /// Post a form.
    pub(in crate::tests) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(form(path, fields, &[])).await
    }

    /// Ask for a token.
    pub(in crate::tests) async fn grant(&self, fields: &[(&str, &str)]) -> Answer {
        self.post("/oauth/token", fields).await
    }

    /// Log in with `warrant`, the public client that every installation has.
    pub(in crate::tests) async fn sign_in(&self, user: &str) -> Answer {
        let answer = self
            .grant(&[
                ("grant_type", "password"),
                ("client_id", "warrant"),
                ("username", user),
                ("password", "pw"),
            ])
            .await;
        answer.token();
        answer
    }

    pub(in crate::tests) async fn refresh(&self, token: &str) -> Answer {
        self.grant(&[
            ("grant_type", "refresh_token"),
            ("client_id", "warrant"),
            ("refresh_token", token),
        ])
        .await
    }

    /// Post JSON as whoever holds the access token.
    pub(in crate::tests) async fn post_json(
        &self,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Answer {
        let header = format!("Bearer {token}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", header.as_str()),
        ];
        self.send(request(Method::POST, path, &headers, &body.to_string()))
            .await
    }

    /// A confidential client with every grant, whose owner is `ann`; its
    /// secret.
    pub(in crate::tests) async fn confidential(&self, id: &str) -> String {
        let secret = format!("secret of {id}: % & + é");
        self.add_client(Row {
            id: id.into(),
            label: format!("The client {id}"),
            secret_hash: Some(opaque::hash(&secret)),
            certificate: None,
            owner: Some("ann".into()),
            grants: "password refresh_token client_credentials authorization_code \
                     urn:ietf:params:oauth:grant-type:device_code"
                .into(),
            scopes: "read submit".into(),
            redirect_uris: CALLBACK.into(),
            disabled: false,
            dpop: false,
            created_us: 0,
        })
        .await;
        secret
    }

    async fn add_client(&self, row: Row) {
        let mut tx = self.db.begin().await.unwrap();
        assert!(clients::insert(&mut tx, &row).await.unwrap());
        tx.commit().await.unwrap();
    }

    /// What the broker is told of `token`.
    async fn known(&self, token: &str) -> Value {
        let answer = self.post("/oauth/introspect", &[("token", token)]).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body
    }

    pub(in crate::tests) async fn is_active(&self, token: &str) -> bool {
        self.known(token).await["active"].as_bool().unwrap()
    }

    /// The revocation feed.
    pub(in crate::tests) async fn revocations(&self) -> Vec<(String, String)> {
        let answer = self.get("/internal/revocations").await;
        let entries = answer.body["entries"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        entries
            .map(|entry| (text(&entry["kind"]), text(&entry["value"])))
            .collect()
    }

    /// The last reason in the audit trail.
    async fn last_reason(&self) -> String {
        let rows = self.audit().await;
        rows.last().unwrap().reason.clone().unwrap_or_default()
    }
}
