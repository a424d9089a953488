//! Clients and devices that somebody lets in on a page.

use super::super::house::House;
use super::super::oauth::{CALLBACK, CHALLENGE, VERIFIER};
use super::{Browser, value};
use warrant_api::oauth::DEVICE_GRANT;

/// A request of the client `robot`, with changes.
fn asked(change: &[(&str, &str)]) -> Vec<(String, String)> {
    let usual = [
        ("response_type", "code"),
        ("client_id", "robot"),
        ("redirect_uri", CALLBACK),
        ("state", "s&t=a te"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let mut fields: Vec<_> = usual
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    for (name, value) in change {
        fields.retain(|(field, _)| field != name);
        if !value.is_empty() {
            fields.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    fields
}

fn path(fields: &[(String, String)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields);
    format!("/oauth/authorize?{}", query.finish())
}

/// Send the page's form.
async fn decide(browser: &Browser<'_>, change: &[(&str, &str)], decision: &str) -> super::Answer {
    let csrf = browser.csrf().await;
    let mut fields = asked(change);
    fields.push(("csrf".into(), csrf));
    fields.push(("decision".into(), decision.into()));
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    browser.post("/oauth/authorize", &fields).await
}

/// Where the page leads: its one link.
fn leads(answer: &super::Answer) -> String {
    let (_, rest) = answer.text.split_once("id=\"on\" href=\"").unwrap();
    let link = rest.split('"').next().unwrap();
    link.replace("&#38;", "&").replace("&amp;", "&")
}

#[tokio::test]
async fn somebody_signs_in_and_lets_a_client_in() {
    let house = House::open().await;
    let secret = house.confidential("robot").await;
    let browser = Browser::new(&house);
    let request = path(&asked(&[]));
    let away = browser.get(&request).await;
    let login = away.location().to_owned();
    let next = value(&browser.get(&login).await, "next").unwrap();
    assert_eq!(next, request);
    let back = browser.sign_in("ann", "pw", &next).await;
    assert_eq!(back.location(), request);
    let page = browser.get(&request).await;
    page.is_page(200, "The client robot")
        .is_page(200, "submit jobs");
    page.is_page(200, "https://app.example.org/callback");
    assert!(!page.text.contains("cancel jobs"));
    assert_eq!(value(&page, "state").unwrap(), "s&t=a te");
    let done = decide(&browser, &[], "approve").await;
    done.is_page(200, "Back to");
    assert_eq!(done.headers["referrer-policy"], "no-referrer");
    assert!(!done.headers.contains_key("location"));
    let (address, query) = leads(&done)
        .split_once('?')
        .map(|(a, q)| (a.to_owned(), q.to_owned()))
        .unwrap();
    assert_eq!(address, CALLBACK);
    let fields: std::collections::HashMap<_, _> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    assert_eq!(
        (fields["state"].as_str(), fields["iss"].as_str()),
        ("s&t=a te", "http://127.0.0.1:5000")
    );
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "robot"),
        ("client_secret", secret.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("code", &fields["code"]),
    ];
    let given = house.grant(&form).await;
    assert_eq!(given.body["scope"], "read submit");
    let claims = house.verify(given.token()).await.1;
    assert_eq!(
        (claims.sub.as_str(), claims.client_id.as_str()),
        ("ann", "robot")
    );
    // What the client was given ends with the session of the browser.
    assert!(house.is_active(given.token()).await);
    let csrf = browser.csrf().await;
    browser.post("/logout", &[("csrf", csrf.as_str())]).await;
    assert!(!house.is_active(given.token()).await);
    house.close().await;
}

#[tokio::test]
async fn a_client_is_told_no() {
    let house = House::open().await;
    house.confidential("robot").await;
    let browser = Browser::signed_in(&house, "ann").await;
    let done = decide(&browser, &[], "deny").await;
    let link = leads(done.is_page(200, "Back to"));
    assert!(
        link.starts_with(CALLBACK) && link.contains("error=access_denied"),
        "{link}"
    );
    assert!(!link.contains("code=") && link.contains("state="));
    assert_eq!(house.refused("authorize").await, ["denied"]);
    for decision in ["", "yes", "Approve"] {
        let answer = decide(&browser, &[], decision).await;
        answer.is_page(400, "approve or deny");
    }
    house.close().await;
}

#[tokio::test]
async fn t107_nobody_is_sent_to_an_address_that_is_not_the_clients() {
    let house = House::open().await;
    house.confidential("robot").await;
    let browser = Browser::signed_in(&house, "ann").await;
    for uri in [
        "https://evil.test/",
        "https://app.example.org/callback/",
        "https://app.example.org@evil.test/callback",
        "//evil.test",
        "javascript:alert(1)",
    ] {
        let change = [("redirect_uri", uri)];
        for answer in [
            browser.get(&path(&asked(&change))).await,
            decide(&browser, &change, "approve").await,
            decide(&browser, &change, "deny").await,
        ] {
            answer.is_page(400, "redirect_uri");
            assert!(!answer.text.contains("href=\"https://") && !answer.text.contains("evil.test"));
            assert!(!answer.headers.contains_key("location"));
        }
    }
    // What else is wrong the client may be told, and nobody is sent there.
    for (change, error) in [
        (("state", ""), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("scope", "control"), "invalid_scope"),
        (("response_type", "token"), "unsupported_response_type"),
    ] {
        let answer = browser.get(&path(&asked(&[change]))).await;
        answer.is_page(400, "cannot be let in");
        assert!(
            leads(&answer).contains(&format!("error={error}")),
            "{change:?}"
        );
        assert!(!answer.text.contains("http-equiv"));
    }
    house.close().await;
}

#[tokio::test]
async fn programs_are_answered_as_before() {
    let house = House::open().await;
    house.confidential("robot").await;
    let answer = house.get(&path(&asked(&[]))).await;
    assert_eq!(answer.status, 501);
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    assert_eq!(house.get("/oauth/device").await.status, 405);
    // A browser's cookie is none of theirs.
    let ann = Browser::signed_in(&house, "ann").await;
    let cookie = ann.header();
    let headers = [
        ("cookie", cookie.as_str()),
        ("content-type", "application/json"),
        ("origin", super::HERE),
    ];
    for (path, body) in [
        ("/oauth/authorize", "{}"),
        ("/oauth/device", r#"{"user_code":"x","decision":"approve"}"#),
    ] {
        let request = super::request(axum::http::Method::POST, path, &headers, body);
        assert_eq!(house.send(request).await.status, 401, "{path}");
    }
    house.close().await;
}

async fn begin(house: &House) -> (String, String) {
    let answer = house
        .post("/oauth/device_authorization", &[("client_id", "warrant")])
        .await;
    let text = |name: &str| answer.body[name].as_str().unwrap().to_owned();
    (text("device_code"), text("user_code"))
}

#[tokio::test]
async fn a_device_is_let_in_by_whoever_types_its_code_in() {
    let house = House::open().await;
    let (device, code) = begin(&house).await;
    let browser = Browser::new(&house);
    let linked = format!("/oauth/device?user_code={code}");
    let away = browser.get(&linked).await;
    assert!(away.location().starts_with("/login?next=%2Foauth%2Fdevice"));
    browser.sign_in("ann", "pw", "").await;
    let page = browser.get(&linked).await;
    page.is_page(200, &code);
    let csrf = super::csrf(&page);
    let fields = [("csrf", csrf.as_str()), ("user_code", code.as_str())];
    let shown = browser.post("/oauth/device", &fields).await;
    shown
        .is_page(200, "Warrant command line")
        .is_page(200, "submit jobs");
    let ask = [
        ("grant_type", DEVICE_GRANT),
        ("client_id", "warrant"),
        ("device_code", device.as_str()),
    ];
    // It is let in by the second form alone.
    assert_eq!(
        house.grant(&ask).await.body["error"],
        "authorization_pending"
    );
    let fields = [&fields[..], &[("decision", "approve")]].concat();
    let done = browser.post("/oauth/device", &fields).await;
    done.is_page(200, "is let in");
    house
        .spoil("update device_codes set polled_us = polled_us - 60000000")
        .await;
    let given = house.grant(&ask).await;
    assert_eq!(house.verify(given.token()).await.1.sub, "ann");
    let again = browser.post("/oauth/device", &fields).await;
    again.is_page(400, "No device shows this code");
    let (device, code) = begin(&house).await;
    let fields = [
        ("csrf", csrf.as_str()),
        ("user_code", code.as_str()),
        ("decision", "deny"),
    ];
    let done = browser.post("/oauth/device", &fields).await;
    done.is_page(200, "is not let in");
    let ask = [ask[0], ask[1], ("device_code", device.as_str())];
    assert_eq!(house.grant(&ask).await.body["error"], "access_denied");
    house.close().await;
}

#[tokio::test]
async fn codes_of_devices_are_not_to_be_guessed_on_the_page() {
    let house = House::open().await;
    let browser = Browser::signed_in(&house, "ann").await;
    let csrf = browser.csrf().await;
    let guess = async |code: &str| {
        let fields = [("csrf", csrf.as_str()), ("user_code", code)];
        browser.post("/oauth/device", &fields).await
    };
    for _ in 0..10 {
        guess("BCDF-GHJK").await.is_page(400, "No device shows");
    }
    let (_, code) = begin(&house).await;
    guess(&code).await.is_page(429, "Too many wrong codes");
    house.close().await;
}
