//! Signing in.

use super::super::house::House;
use super::{Browser, COOKIE, HERE, csrf, value};

#[tokio::test]
async fn somebody_signs_in_sees_the_account_and_signs_out() {
    let house = House::open().await;
    let browser = Browser::new(&house);
    let away = browser.get("/account").await;
    assert_eq!(away.location(), "/login?next=%2Faccount");
    let form = browser.get("/login?next=/account").await;
    form.is_page(200, "Sign in");
    assert_eq!(value(&form, "next").unwrap(), "/account");
    let answer = browser.sign_in("ann", "pw", "/account").await;
    assert_eq!(answer.location(), "/account");
    let page = browser.get("/account").await;
    page.is_page(200, "<dd>ann</dd>").is_page(200, "this one");
    page.is_page(200, "Firefox on Linux")
        .is_page(200, "192.0.2.1");
    assert!(!page.text.contains(&browser.cookie()));
    // Whoever is signed in needs no form.
    assert_eq!(
        browser.get("/login?next=/oauth/device").await.location(),
        "/oauth/device"
    );
    let fields = [("csrf", browser.csrf().await)];
    let fields = fields
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let kept = browser.cookie();
    assert_eq!(browser.post("/logout", &fields).await.location(), "/login");
    assert_eq!(browser.cookie(), "");
    browser
        .cookies
        .borrow_mut()
        .insert(COOKIE.into(), kept.clone());
    assert!(!browser.is_in().await);
    assert_eq!(house.exchanged("cookie", &kept).await.status, 401);
    house.close().await;
}

#[tokio::test]
async fn t97_unknown_wrong_and_disabled_are_told_the_same() {
    let house = House::open().await;
    house.add("sue", "pw").await;
    house.disable("sue").await;
    let mut told = Vec::new();
    for (user, password) in [
        ("ann", "wrong"),
        ("nobody", "pw"),
        ("sue", "pw"),
        ("a/b", "pw"),
    ] {
        let browser = Browser::new(&house);
        let answer = browser.sign_in(user, password, "").await;
        answer.is_page(400, "Incorrect user or password.");
        assert_eq!(browser.cookie(), "");
        let token = csrf(&answer);
        assert_eq!(value(&answer, "next").unwrap(), "/account");
        told.push(
            answer
                .text
                .replace(&token, "")
                .replace(&format!("\"{user}\""), ""),
        );
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    let reasons = house.refused("login").await;
    assert_eq!(
        reasons,
        ["password", "user-unknown", "user-disabled", "name"]
    );
    house.close().await;
}

#[tokio::test]
async fn failures_on_the_page_and_elsewhere_count_together() {
    let house = House::open().await;
    let browser = Browser::new(&house);
    for _ in 0..5 {
        assert_eq!(browser.sign_in("ann", "wrong", "").await.status, 400);
        assert_eq!(house.login("ann", "wrong", "192.0.2.1").await.status, 400);
    }
    let answer = browser.sign_in("ann", "pw", "").await;
    answer.is_page(429, "Too many failed logins.");
    assert!(answer.headers.contains_key("retry-after"));
    let elsewhere = Browser {
        source: "192.0.2.2",
        ..Browser::new(&house)
    };
    assert_eq!(elsewhere.sign_in("ann", "pw", "").await.status, 303);
    house.close().await;
}

#[tokio::test]
async fn t113_nobody_is_signed_in_by_a_form_that_another_page_sends() {
    let house = House::open().await;
    let browser = Browser::new(&house);
    let token = csrf(&browser.get("/login").await);
    let fields = [
        ("csrf", token.as_str()),
        ("user", "ann"),
        ("password", "pw"),
    ];
    for headers in [
        &[][..],
        &[("origin", "http://evil.test")],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:5001")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", HERE), ("origin", HERE)],
    ] {
        let answer = browser.post_from("/login", &fields, headers).await;
        answer.is_page(403, "http://127.0.0.1:5000");
        assert_eq!(browser.cookie(), "", "{headers:?}");
    }
    assert!(
        house
            .refused("web")
            .await
            .iter()
            .all(|reason| reason == "origin")
    );
    // A token of another browser, of none, or of nothing.
    let other = csrf(&Browser::new(&house).get("/login").await);
    for wrong in ["", "x", &other] {
        let fields = [("csrf", wrong), ("user", "ann"), ("password", "pw")];
        let answer = browser.post("/login", &fields).await;
        answer.is_page(403, "Try again");
        assert_eq!(browser.cookie(), "");
    }
    browser.cookies.borrow_mut().clear();
    let answer = browser.post("/login", &fields).await;
    answer.is_page(403, "Try again");
    assert_eq!(house.refused("web").await.last().unwrap(), "csrf");
    // Without an Origin, a browser that says where it comes from will do.
    let own = [("sec-fetch-site", "same-origin")];
    let token = csrf(&answer);
    let fields = [
        ("csrf", token.as_str()),
        ("user", "ann"),
        ("password", "pw"),
    ];
    assert_eq!(browser.post_from("/login", &fields, &own).await.status, 303);
    house.close().await;
}

#[tokio::test]
async fn t113_each_sign_in_has_a_cookie_of_its_own_and_ends_the_one_before() {
    let house = House::open().await;
    house.add("bob", "pw").await;
    let browser = Browser::signed_in(&house, "ann").await;
    let first = browser.cookie();
    // Whoever put this cookie there does not come in with it.
    let planted = format!("wrw_{}", "A".repeat(43));
    let victim = Browser::new(&house);
    victim
        .cookies
        .borrow_mut()
        .insert(COOKIE.into(), planted.clone());
    assert_eq!(victim.sign_in("bob", "pw", "").await.status, 303);
    assert_ne!(victim.cookie(), planted);
    assert_eq!(house.exchanged("cookie", &planted).await.status, 401);
    // Signing in anew, as whom ever, ends what the browser showed before.
    let form = Browser::new(&house);
    let token = csrf(&form.get("/login").await);
    let before = form.cookies.borrow().clone();
    browser.cookies.borrow_mut().extend(before);
    let fields = [
        ("csrf", token.as_str()),
        ("user", "bob"),
        ("password", "pw"),
    ];
    assert_eq!(browser.post("/login", &fields).await.status, 303);
    assert_ne!(browser.cookie(), first);
    assert_eq!(house.exchanged("cookie", &first).await.status, 401);
    house.close().await;
}

#[tokio::test]
async fn t116_nobody_is_sent_to_another_server() {
    let house = House::open().await;
    let browser = Browser::new(&house);
    for next in [
        "//evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "/%2fevil.test",
        "/%5cevil.test",
        "/.//evil.test",
        "/a/..//evil.test",
        "http://evil.test",
        "https:evil.test",
        "javascript:alert(1)",
        "evil.test",
        "/\t/evil.test",
    ] {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("next", next);
        let asked = browser.get(&format!("/login?{}", query.finish())).await;
        asked.is_page(400, "next: the path");
        assert!(!asked.headers.contains_key("location"));
        let sent = browser.sign_in("ann", "pw", next).await;
        sent.is_page(400, "next: the path");
        assert!(!sent.headers.contains_key("location"));
        assert_eq!(browser.cookie(), "", "{next}");
    }
    assert_eq!(house.refused("web").await.last().unwrap(), "next");
    house.close().await;
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_in_the_end_in_any_case() {
    let house = House::open_with(&[], |config| {
        config.web.idle_hours = 2;
        config.web.max_days = 1;
    })
    .await;
    let hours = |n: i64| n * 3_600_000_000;
    let browser = Browser::signed_in(&house, "ann").await;
    let ends = async || {
        let mut conn = house.db.read().await.unwrap();
        let all = crate::store::sessions::list(&mut conn, Some("ann"), None, 9).await;
        let session = all.unwrap().pop().unwrap();
        (
            session.expires_us - session.created_us,
            session.last_used_us,
        )
    };
    assert_eq!(ends().await.0, hours(2));
    // Used after an hour, it goes on for two more.
    house
        .spoil(
            "update sessions set created_us = created_us - 3600000000, \
                last_used_us = last_used_us - 3600000000, expires_us = expires_us - 3600000000",
        )
        .await;
    let (_, used) = ends().await;
    assert!(browser.is_in().await);
    let (life, later) = ends().await;
    assert!(life > hours(3) - 1_000_000 && later > used, "{life}");
    // Not used for two, it is over.
    house
        .spoil(
            "update sessions set last_used_us = last_used_us - 7200000000, \
                expires_us = expires_us - 7200000000",
        )
        .await;
    assert!(!browser.is_in().await);
    assert_eq!(
        house.exchanged("cookie", &browser.cookie()).await.status,
        401
    );
    // And after a day, however often it was used.
    let browser = Browser::signed_in(&house, "ann").await;
    house
        .spoil("update web_sessions set ends_us = ends_us - 86340000000")
        .await;
    house
        .spoil("update sessions set last_used_us = last_used_us - 61000000")
        .await;
    assert!(browser.is_in().await);
    house
        .spoil("update sessions set expires_us = expires_us - 61000000")
        .await;
    assert!(!browser.is_in().await);
    house.close().await;
}

#[tokio::test]
async fn a_user_is_signed_in_with_so_many_browsers_at_once() {
    let house = House::open().await;
    let first = Browser::signed_in(&house, "ann").await;
    for _ in 0..32 {
        Browser::signed_in(&house, "ann").await;
    }
    assert!(!first.is_in().await);
    let mut conn = house.db.read().await.unwrap();
    let now = Some(crate::clock::now_us());
    let all = crate::store::sessions::list(&mut conn, Some("ann"), now, 99).await;
    assert_eq!(all.unwrap().len(), 32);
    drop(conn);
    house.close().await;
}

#[tokio::test]
async fn whoever_is_disabled_or_deleted_is_signed_out() {
    let house = House::open().await;
    let browser = Browser::signed_in(&house, "ann").await;
    house.disable("ann").await;
    assert!(!browser.is_in().await);
    let reason = house.exchanged("cookie", &browser.cookie()).await;
    assert_eq!(reason.status, 401);
    assert_eq!(house.refused("web").await.last().unwrap(), "user-disabled");
    house.close().await;
}

#[tokio::test]
async fn without_https_nobody_signs_in_from_another_machine() {
    let house = House::open_with(&[], |config| {
        config.oauth.url = "http://jobs.example.org".into();
    })
    .await;
    let browser = Browser::new(&house);
    browser.get("/login").await.is_page(403, "https");
    house.close().await;
    let house = House::open_with(&[("FLUX_AUTH_BACKEND", "none")], |_| {}).await;
    let browser = Browser::new(&house);
    browser.get("/login").await.is_page(404, "Nobody signs in");
    house.close().await;
}

#[tokio::test]
async fn t108_no_page_and_no_row_holds_what_proves_anything() {
    let house = House::open().await;
    let browser = Browser::new(&house);
    let answer = browser.sign_in("ann", "canary-wrong", "").await;
    assert!(!answer.text.contains("canary"));
    assert_eq!(browser.sign_in("ann", "pw", "").await.status, 303);
    let (cookie, token) = (browser.cookie(), browser.csrf().await);
    assert!(cookie.starts_with("wrw_") && cookie.len() == 47, "{cookie}");
    for row in house.audit().await {
        let row = format!("{row:?}");
        for secret in ["canary", &cookie, &token] {
            assert!(!row.contains(secret), "{row}");
        }
    }
    let dir = house.close().await;
    for file in ["auth.db", "auth.db-wal"] {
        let bytes = std::fs::read(dir.path().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&cookie) && !text.contains(&token));
    }
}
