//! The pages on which people sign in, as browsers meet them.

mod account;
mod consent;
mod credential;
mod lasting;
mod sign_in;

use std::cell::RefCell;
use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::json;

use super::house::{Answer, House, request};

/// Where the pages are, unless a house is configured otherwise.
const HERE: &str = "http://127.0.0.1:5000";
/// The cookie of a browser that somebody signed in with.
const COOKIE: &str = "__Host-warrant";

/// A browser: it keeps cookies, and says which page sends a form.
struct Browser<'a> {
    house: &'a House,
    cookies: RefCell<BTreeMap<String, String>>,
    source: &'static str,
}

impl<'a> Browser<'a> {
    fn new(house: &'a House) -> Self {
        Self {
            house,
            cookies: RefCell::default(),
            source: "192.0.2.1",
        }
    }

    /// With `user`, who has the password `pw`, signed in.
    async fn signed_in(house: &'a House, user: &str) -> Self {
        let browser = Self::new(house);
        let answer = browser.sign_in(user, "pw", "").await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        browser
    }

    fn cookie(&self) -> String {
        let cookies = self.cookies.borrow();
        cookies.get(COOKIE).cloned().unwrap_or_default()
    }

    fn header(&self) -> String {
        let cookies = self.cookies.borrow();
        let pairs: Vec<_> = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// Send a form as a page of the server does.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from(path, fields, &[("origin", HERE)]).await
    }

    /// Send a form with these headers.
    async fn post_from(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let headers = [&[kind], headers].concat();
        self.send(Method::POST, path, &headers, &body.finish())
            .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let cookies = self.header();
        let usual = [
            ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
            ("cookie", cookies.as_str()),
            ("x-warrant-source", self.source),
            ("user-agent", "Mozilla/5.0 (X11; Linux) Firefox/150.0"),
        ];
        let headers = [&usual, headers].concat();
        let answer = self.house.send(request(method, path, &headers, body)).await;
        for value in answer.headers.get_all("set-cookie") {
            let text = value.to_str().unwrap();
            let (pair, rest) = text.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(name.starts_with(COOKIE), "{text}");
            for flag in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                assert!(rest.split("; ").any(|part| part == flag), "{text}");
            }
            assert!(!rest.contains("Domain"), "{text}");
            let mut cookies = self.cookies.borrow_mut();
            if rest.contains("Max-Age=0") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Ask for the form, and send it.
    async fn sign_in(&self, user: &str, password: &str, next: &str) -> Answer {
        let csrf = csrf(&self.get("/login").await);
        let fields = [
            ("csrf", csrf.as_str()),
            ("user", user),
            ("password", password),
            ("next", next),
        ];
        self.post("/login", &fields).await
    }

    /// The token in the forms of whoever is signed in.
    async fn csrf(&self) -> String {
        csrf(&self.get("/account").await)
    }

    /// Whether somebody is signed in.
    async fn is_in(&self) -> bool {
        self.get("/account").await.status == 200
    }
}

/// The token in the forms of a page.
fn csrf(answer: &Answer) -> String {
    value(answer, "csrf").unwrap_or_else(|| panic!("{} {}", answer.status, answer.text))
}

/// The value of the first field called `name`.
fn value(answer: &Answer, name: &str) -> Option<String> {
    let sign = format!("name=\"{name}\" value=\"");
    let (_, rest) = answer.text.split_once(&sign)?;
    let value = rest.split('"').next()?;
    Some(value.replace("&#38;", "&").replace("&amp;", "&"))
}

impl Answer {
    fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{}", self.text);
        self.headers["location"].to_str().unwrap()
    }

    /// That it is a page with this status that holds this text.
    #[track_caller]
    fn is_page(&self, status: u16, text: &str) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.text.contains(text), "{text}: {}", self.text);
        let header = |name: &str| self.headers[name].to_str().unwrap();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert!(["same-origin", "no-referrer"].contains(&header("referrer-policy")));
        let policy = header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "style-src 'sha256-",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script"));
        for script in ["<script", "javascript:", " onload=", " style="] {
            assert!(!self.text.contains(script), "{}", self.text);
        }
        self
    }
}

impl House {
    /// Exchange a credential, as the broker does.
    pub(in crate::tests) async fn exchanged(&self, kind: &str, value: &str) -> Answer {
        let headers = [
            ("content-type", "application/json"),
            ("x-warrant-source", "192.0.2.1"),
        ];
        let body = json!({"kind": kind, "value": value}).to_string();
        let path = "/internal/credential";
        self.send(request(Method::POST, path, &headers, &body))
            .await
    }

    /// The reasons in the audit trail of refusals of a kind.
    async fn refused(&self, kind: &str) -> Vec<String> {
        let rows = self.audit().await.into_iter();
        let rows = rows.filter(|row| row.kind == kind && row.outcome == "refused");
        rows.map(|row| row.reason.unwrap_or_default()).collect()
    }
}
