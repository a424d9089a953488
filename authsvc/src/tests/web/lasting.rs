//! What is made on the pages and outlives them: which proof it takes, and with
//! what it ends.

use serde_json::json;
use warrant_api::oauth::DEVICE_GRANT;

use super::super::house::{Answer, House};
use super::super::oidc::open;
use super::super::provider::{BROWSER, FakeProvider};
use super::Browser;

/// The fields of a key, with `more`.
fn key<'a>(csrf: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [
        ("csrf", csrf),
        ("label", "ci"),
        ("read", "yes"),
        ("days", "7"),
    ];
    [&usual[..], more].concat()
}

fn text_of_key(page: &Answer) -> String {
    let (_, key) = page.text.split_once("id=\"key\">").unwrap();
    key.split('<').next().unwrap().to_owned()
}

#[tokio::test]
async fn t123_a_cookie_alone_makes_no_key() {
    let house = House::open().await;
    let ann = Browser::signed_in(&house, "ann").await;
    let csrf = ann.csrf().await;
    let answer = ann.post("/account/keys", &key(&csrf, &[])).await;
    answer.is_page(403, "a proof that it is you");
    let answer = ann
        .post("/account/keys", &key(&csrf, &[("password", "")]))
        .await;
    answer.is_page(403, "a proof that it is you");
    assert_eq!(house.refused("key").await, ["proof", "proof"]);
    let wrong = ann
        .post("/account/keys", &key(&csrf, &[("password", "x")]))
        .await;
    wrong.is_page(400, "The password is another one");
    assert_eq!(house.refused("login").await, ["password"]);
    let page = ann.get("/account").await;
    assert!(!page.text.contains("/account/keys/revoke"));
    house.close().await;
}

#[tokio::test]
async fn t123_a_key_of_a_browser_ends_with_it_unless_its_owner_chose_otherwise() {
    let house = House::open().await;
    let ann = Browser::signed_in(&house, "ann").await;
    let csrf = ann.csrf().await;
    let pw = ("password", "pw");
    let bound = ann.post("/account/keys", &key(&csrf, &[pw])).await;
    bound.is_page(200, "when this browser is signed out");
    let free = ann
        .post("/account/keys", &key(&csrf, &[pw, ("lasts", "own")]))
        .await;
    assert!(!free.text.contains("signed out"), "{}", free.text);
    let (bound, free) = (text_of_key(&bound), text_of_key(&free));
    let page = ann.get("/account").await;
    page.is_page(200, "with the browser that made it");
    let token = house.exchanged("key", &bound).await.token().to_owned();
    assert!(house.is_active(&token).await);
    let details = house.audit().await.into_iter();
    let details: Vec<_> = details
        .filter(|row| row.kind == "key" && row.action.as_deref() == Some("create"))
        .filter_map(|row| row.detail)
        .collect();
    assert!(
        details[0].starts_with("password, ends with session "),
        "{details:?}"
    );
    assert_eq!(details[1], "password");
    ann.post("/logout", &[("csrf", csrf.as_str())]).await;
    assert_eq!(house.exchanged("key", &bound).await.status, 401);
    assert!(!house.is_active(&token).await);
    let sid = format!("key:{}", bound.get(4..16).unwrap());
    assert!(house.revocations().await.contains(&("session".into(), sid)));
    assert_eq!(house.exchanged("key", &free).await.status, 200);
    house.close().await;
}

/// A device that `browser` lets in with `more` in the form.
async fn let_in(browser: &Browser<'_>, more: &[(&str, &str)]) -> (Answer, String) {
    let client = [("client_id", "warrant")];
    let begun = browser
        .house
        .post("/oauth/device_authorization", &client)
        .await;
    let text = |field: &str| begun.body[field].as_str().unwrap().to_owned();
    let (csrf, code) = (browser.csrf().await, text("user_code"));
    let usual = [("csrf", csrf.as_str()), ("user_code", code.as_str())];
    let fields = [&usual[..], &[("decision", "approve")], more].concat();
    let answer = browser.post("/oauth/device", &fields).await;
    (answer, text("device_code"))
}

async fn polled(house: &House, code: &str) -> Answer {
    let fields = [
        ("grant_type", DEVICE_GRANT),
        ("client_id", "warrant"),
        ("device_code", code),
    ];
    house.grant(&fields).await
}

#[tokio::test]
async fn t123_a_device_outlives_the_browser_only_by_its_owners_choice_and_proof() {
    let house = House::open().await;
    let ann = Browser::signed_in(&house, "ann").await;
    let (answer, bound) = let_in(&ann, &[]).await;
    answer.is_page(200, "is let in");
    let bound = polled(&house, &bound).await;
    for (more, status) in [
        (&[("lasts", "own")][..], 403),
        (&[("lasts", "own"), ("password", "wrong")], 400),
    ] {
        let (answer, code) = let_in(&ann, more).await;
        answer.is_page(status, "role=\"alert\"");
        assert_eq!(
            polled(&house, &code).await.body["error"],
            "authorization_pending"
        );
    }
    let (answer, free) = let_in(&ann, &[("lasts", "own"), ("password", "pw")]).await;
    answer.is_page(200, "is let in");
    let free = polled(&house, &free).await;
    let page = ann.get("/account").await;
    page.is_page(200, "ends with this browser");
    page.is_page(200, "goes on by itself");
    let rows = house.audit().await.into_iter();
    let details: Vec<_> = rows
        .filter(|row| row.kind == "authorize" && row.outcome == "granted")
        .filter_map(|row| row.detail)
        .collect();
    assert!(details[0].starts_with("ends with session "), "{details:?}");
    assert_eq!(details[1], "goes on by itself (password)");
    let csrf = ann.csrf().await;
    ann.post("/logout", &[("csrf", csrf.as_str())]).await;
    assert!(!house.is_active(bound.token()).await);
    assert!(house.is_active(free.token()).await);
    house.close().await;
}

#[tokio::test]
async fn t123_what_a_browser_lets_in_ends_when_the_browser_is_not_used() {
    let house = House::open().await;
    let ann = Browser::signed_in(&house, "ann").await;
    let (_, code) = let_in(&ann, &[]).await;
    let given = polled(&house, &code).await;
    let csrf = ann.csrf().await;
    let made = ann
        .post("/account/keys", &key(&csrf, &[("password", "pw")]))
        .await;
    let made = text_of_key(&made);
    house
        .spoil("update sessions set expires_us = 1 where kind = 'web'")
        .await;
    assert!(!house.is_active(given.token()).await);
    assert_eq!(house.exchanged("key", &made).await.status, 401);
    house.close().await;
}

/// A browser in which eve signed in with the provider, `ago_s` seconds ago.
async fn with_provider<'a>(
    house: &'a House,
    provider: &FakeProvider,
    ago_s: Option<u64>,
) -> Browser<'a> {
    let browser = Browser::new(house);
    let sent = browser.get("/login/oidc/campus?next=/account").await;
    back(&browser, provider, &sent, ago_s).await;
    browser
}

/// Come back from the provider.
async fn back(browser: &Browser<'_>, provider: &FakeProvider, sent: &Answer, ago_s: Option<u64>) {
    let (_, query) = sent.location().split_once('?').unwrap();
    let field = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(n, _)| n == name).unwrap().1.into_owned()
    };
    let mut claims = provider.claims("eve");
    claims["aud"] = json!(BROWSER);
    claims["nonce"] = json!(field("nonce"));
    if let Some(ago_s) = ago_s {
        claims["auth_time"] = json!(crate::clock::now_s() - ago_s);
    }
    let id_token = provider.sign(&claims);
    provider.gives(&json!({"id_token": id_token, "token_type": "Bearer"}));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("code", "the-code");
    query.append_pair("state", &field("state"));
    query.append_pair("iss", &provider.issuer);
    let path = format!("/login/oidc/campus/callback?{}", query.finish());
    assert_eq!(browser.get(&path).await.location(), "/account");
}

#[tokio::test]
async fn t123_a_sign_in_with_a_provider_is_a_proof_for_five_minutes() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    for ago_s in [None, Some(10)] {
        let eve = with_provider(&house, &provider, ago_s).await;
        let csrf = eve.csrf().await;
        let made = eve.post("/account/keys", &key(&csrf, &[])).await;
        made.is_page(200, "shown this once");
    }
    let eve = with_provider(&house, &provider, Some(310)).await;
    let csrf = eve.csrf().await;
    let answer = eve.post("/account/keys", &key(&csrf, &[])).await;
    answer.is_page(403, "a proof that it is you");
    // The page leads to the provider once more, who is told to ask.
    let page = eve.get("/account").await;
    let link = "/login/oidc/campus?next=%2Faccount";
    page.is_page(200, link);
    let sent = eve.get(&format!("{link}&fresh=yes")).await;
    assert!(
        sent.location().contains("max_age=300"),
        "{}",
        sent.location()
    );
    back(&eve, &provider, &sent, Some(1)).await;
    let csrf = eve.csrf().await;
    let made = eve.post("/account/keys", &key(&csrf, &[])).await;
    made.is_page(200, "shown this once");
    // And that proof is over as well, some day.
    house
        .spoil("update web_sessions set proven_us = proven_us - 300000000")
        .await;
    let answer = eve.post("/account/keys", &key(&csrf, &[])).await;
    answer.is_page(403, "a proof that it is you");
    house.close().await;
}

#[tokio::test]
async fn sessions_of_one_program_are_one_row_and_end_together() {
    let house = House::open().await;
    let ann = Browser::signed_in(&house, "ann").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let answer = house.login("ann", "pw", "192.0.2.1").await;
        tokens.push(answer.token().to_owned());
    }
    let other = house.sign_in("ann").await;
    let page = ann.get("/account").await;
    page.is_page(200, "3 sessions");
    assert_eq!(
        page.text.matches("Program “flux”").count(),
        2,
        "name and label"
    );
    let ids = super::value(&page, "id").unwrap();
    let groups = [ids.clone()];
    let group = groups.iter().find(|ids| ids.contains(','));
    let ids = match group {
        Some(ids) => ids.clone(),
        None => {
            let (_, rest) = page.text.split_once(&format!("value=\"{ids}\"")).unwrap();
            let (_, rest) = rest.split_once("name=\"id\" value=\"").unwrap();
            rest.split('"').next().unwrap().to_owned()
        }
    };
    assert_eq!(ids.split(',').count(), 3);
    let csrf = ann.csrf().await;
    let fields = [("csrf", csrf.as_str()), ("id", ids.as_str())];
    let ended = ann.post("/account/sessions", &fields).await;
    assert_eq!(ended.location(), "/account?done=ended");
    for token in &tokens {
        assert!(!house.is_active(token).await);
    }
    assert!(house.is_active(other.token()).await && ann.is_in().await);
    house.close().await;
}
