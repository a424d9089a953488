//! Signing in with a provider in the browser, up to who it is.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::house::House;
use super::oidc::open;
use super::provider::{BROWSER, FakeProvider, Mood};
use crate::audit::{Event, Sort};
use crate::config::Providers;
use crate::oauth::Refused;
use crate::oidc::{Begun, Returned};
use crate::opaque;
use crate::secret::Secret;
use crate::source::Source;
use crate::store::sign_ins;

/// A browser on its way.
struct Browser {
    query: HashMap<String, String>,
    begun: Begun,
}

impl Browser {
    async fn sent(house: &House) -> Self {
        let source = Source::of_service();
        let begun = house
            .service
            .oidc
            .begin("campus", "/account", false, &source);
        let begun = begun.await.unwrap();
        let (_, query) = begun.redirect.split_once('?').unwrap();
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        Self {
            query: pairs.collect(),
            begun,
        }
    }

    /// What the provider sends it back with.
    fn returned(&self, provider: &FakeProvider) -> Returned {
        Returned {
            state: Some(Secret::new(&self.query["state"])),
            code: Some(Secret::new("the-code")),
            iss: Some(provider.issuer.clone()),
            error: None,
        }
    }

    /// What the provider says of its user.
    fn claims(&self, provider: &FakeProvider) -> Value {
        let mut claims = provider.claims("eve");
        claims["aud"] = json!(BROWSER);
        claims["nonce"] = json!(self.query["nonce"]);
        claims
    }
}

/// Who comes back as `returned`, with this cookie; or why nobody does.
async fn back(
    house: &House,
    returned: &Returned,
    cookie: Option<&Secret>,
) -> Result<(String, String), String> {
    let mut event = Event::new(Sort::Login, Source::of_service());
    let oidc = &house.service.oidc;
    let completed = oidc.complete("campus", returned, cookie, &mut event).await;
    completed
        .map(|completed| (completed.user.name, completed.next))
        .map_err(|refused| refused.reason().to_owned())
}

#[tokio::test]
async fn whoever_comes_back_is_who_the_provider_says() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let browser = Browser::sent(&house).await;
    let ways: Vec<_> = house.service.oidc.ways_in().collect();
    assert_eq!(ways, [("campus", "campus")]);
    assert!(
        browser
            .begun
            .redirect
            .starts_with(&format!("{}/auth?", provider.issuer))
    );
    let query = &browser.query;
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["client_id"], BROWSER);
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["scope"], "openid profile");
    let callback = "http://127.0.0.1:5000/login/oidc/campus/callback";
    assert_eq!(query["redirect_uri"], callback);
    let id_token = provider.sign(&browser.claims(&provider));
    provider.gives(&json!({"id_token": id_token, "token_type": "Bearer"}));
    let returned = browser.returned(&provider);
    let cookie = Some(&browser.begun.cookie);
    let who = back(&house, &returned, cookie).await.unwrap();
    assert_eq!(who, ("eve".into(), "/account".into()));
    let form = provider.shown().forms.pop().unwrap();
    let form: HashMap<_, _> = form_urlencoded::parse(form.as_bytes())
        .into_owned()
        .collect();
    assert_eq!(form["redirect_uri"], callback);
    assert_eq!(
        opaque::hash(&form["code_verifier"]),
        query["code_challenge"]
    );
    // What it came with is good once.
    assert_eq!(back(&house, &returned, cookie).await, Err("state".into()));
    house.close().await;
}

#[tokio::test]
async fn t107_who_comes_back_otherwise_than_sent_is_nobody() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    type Change = fn(&mut Returned);
    let cases: [(&str, Change); 9] = [
        ("state", |returned| returned.state = None),
        ("state", |returned| {
            returned.state = Some(Secret::new("wro_"))
        }),
        ("state", |returned| {
            let state = opaque::make("wro_").unwrap().0;
            returned.state = Some(state);
        }),
        ("issuer-missing", |returned| returned.iss = None),
        ("other-issuer", |returned| {
            returned.iss = Some("https://evil.example.org".into());
        }),
        ("code", |returned| returned.code = None),
        ("code", |returned| {
            returned.code = Some(Secret::new("x".repeat(5000)))
        }),
        ("denied", |returned| {
            returned.error = Some("access_denied".into())
        }),
        ("provider-error", |returned| {
            returned.error = Some("<script>".into())
        }),
    ];
    for (reason, change) in cases {
        let browser = Browser::sent(&house).await;
        let mut returned = browser.returned(&provider);
        change(&mut returned);
        let answer = back(&house, &returned, Some(&browser.begun.cookie)).await;
        assert_eq!(answer, Err(reason.into()));
    }
    assert!(provider.shown().forms.is_empty(), "a code was sent off");
    house.close().await;
}

#[tokio::test]
async fn t107_a_callback_in_another_browser_signs_nobody_in() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let (thief, victim) = (Browser::sent(&house).await, Browser::sent(&house).await);
    let returned = thief.returned(&provider);
    let answer = back(&house, &returned, Some(&victim.begun.cookie)).await;
    assert_eq!(answer, Err("other-browser".into()));
    let answer = back(&house, &victim.returned(&provider), None).await;
    assert_eq!(answer, Err("other-browser".into()));
    assert!(provider.shown().forms.is_empty(), "a code was sent off");
    house.close().await;
}

#[tokio::test]
async fn t107_a_code_of_one_provider_is_not_shown_to_another() {
    let (honest, other) = (FakeProvider::start().await, FakeProvider::start().await);
    other.shown().names_issuer = false;
    let mut second = other.section();
    second.name = "other".into();
    let sections = vec![honest.section(), second];
    let house = House::open_with(&[("FLUX_AUTH_BACKEND", "oidc")], |config| {
        config.oidc = Providers::of(sections);
    })
    .await;
    // Sent to one, it comes back to the address of the other.
    let browser = Browser::sent(&house).await;
    let mut returned = browser.returned(&honest);
    returned.iss = None;
    let mut event = Event::new(Sort::Login, Source::of_service());
    let oidc = &house.service.oidc;
    let cookie = Some(&browser.begun.cookie);
    let refused = oidc.complete("other", &returned, cookie, &mut event).await;
    assert!(matches!(refused, Err(Refused::Proof("other-provider"))));
    assert!(other.shown().forms.is_empty() && honest.shown().forms.is_empty());
    house.close().await;
}

#[tokio::test]
async fn t107_an_id_token_that_was_not_made_for_this_sign_in_is_refused() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let earlier = Browser::sent(&house).await;
    for (name, value, reason) in [
        ("nonce", json!(null), "id-token-nonce"),
        ("nonce", json!("other"), "id-token-nonce"),
        ("nonce", json!(earlier.query["nonce"]), "id-token-nonce"),
        ("aud", json!("warrant-cli"), "id-token-audience"),
        ("azp", json!("warrant-cli"), "id-token-azp"),
        ("exp", json!(1), "id-token-expired"),
        ("iss", json!("https://evil.example.org"), "id-token-issuer"),
        (
            "at_hash",
            json!("77QmUPtjPfzWtF2AnpK9RQ"),
            "id-token-at-hash",
        ),
        ("preferred_username", json!("ann"), "password-kept-here"),
    ] {
        let browser = Browser::sent(&house).await;
        let mut claims = browser.claims(&provider);
        claims[name] = value;
        let answer = json!({"id_token": provider.sign(&claims), "access_token": "token"});
        provider.gives(&answer);
        let returned = browser.returned(&provider);
        let answer = back(&house, &returned, Some(&browser.begun.cookie)).await;
        assert_eq!(answer, Err(reason.into()), "{name}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_token_endpoint_that_answers_nonsense_signs_nobody_in() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    for mood in [
        Mood::Good,
        Mood::Huge,
        Mood::Elsewhere,
        Mood::Text("[]".into()),
    ] {
        provider.shown().token = mood.clone();
        let browser = Browser::sent(&house).await;
        let returned = browser.returned(&provider);
        let answer = back(&house, &returned, Some(&browser.begun.cookie)).await;
        let reason = answer.unwrap_err();
        assert!(
            matches!(reason.as_str(), "unavailable" | "code"),
            "{mood:?} {reason}"
        );
    }
    house.close().await;
}

#[tokio::test]
async fn no_more_browsers_are_waited_for_than_there_is_room_and_not_for_ever() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let source = Source::of_address([192, 0, 2, 7].into());
    let oidc = &house.service.oidc;
    for _ in 0..100 {
        oidc.begin("campus", "/", false, &source).await.unwrap();
    }
    let one_more = oidc.begin("campus", "/", false, &source).await;
    assert!(matches!(one_more, Err(Refused::Busy)));
    let browser = Browser::sent(&house).await;
    house.spoil("update sign_ins set expires_us = 1").await;
    let returned = browser.returned(&provider);
    let answer = back(&house, &returned, Some(&browser.begun.cookie)).await;
    assert_eq!(answer, Err("expired".into()));
    crate::prune::prune_once(&house.db, 2).await.unwrap();
    let mut tx = house.db.begin().await.unwrap();
    let state = Secret::new(&browser.query["state"]);
    let gone = sign_ins::take(&mut tx, &opaque::hash(state.expose())).await;
    assert_eq!(gone.unwrap(), None);
    tx.commit().await.unwrap();
    assert!(oidc.begin("campus", "/", false, &source).await.is_ok());
    assert!(oidc.begin("nowhere", "/", false, &source).await.is_err());
    house.close().await;
}
