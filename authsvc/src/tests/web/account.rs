//! One's own account.

use super::super::house::{Answer, House};
use super::{Browser, HERE, value};

#[tokio::test]
async fn whoever_is_signed_in_sees_where_else_that_is() {
    let house = House::open().await;
    house.add("bob", "pw").await;
    let here = Browser::signed_in(&house, "ann").await;
    let there = Browser::signed_in(&house, "ann").await;
    let bob = Browser::signed_in(&house, "bob").await;
    let token = house.sign_in("ann").await;
    let page = here.get("/account").await;
    page.is_page(200, "Program “warrant”");
    assert_eq!(page.text.matches("Firefox on Linux").count(), 2 + 1);
    assert_eq!(page.text.matches("this one").count(), 1);
    // Whoever is signed in once has nothing else to end.
    let page = bob.get("/account").await;
    assert!(value(&page, "id").is_none() && !page.text.contains("ann"));
    assert!(there.is_in().await && house.is_active(token.token()).await);
    house.close().await;
}

#[tokio::test]
async fn ending_a_session_ends_its_tokens_and_is_told_to_the_broker() {
    let house = House::open().await;
    house.add("bob", "pw").await;
    let here = Browser::signed_in(&house, "ann").await;
    let there = Browser::signed_in(&house, "ann").await;
    let bob = Browser::signed_in(&house, "bob").await;
    let answer = house.exchanged("cookie", &there.cookie()).await;
    let sid = house.verify(answer.token()).await.1.sid;
    assert!(house.is_active(answer.token()).await);
    let csrf = bob.csrf().await;
    let fields = [("csrf", csrf.as_str()), ("id", sid.as_str())];
    bob.post("/account/sessions", &fields).await;
    assert!(there.is_in().await, "bob ended a session of ann");
    assert_eq!(house.refused("web").await, ["no-session"]);
    let csrf = here.csrf().await;
    let fields = [("csrf", csrf.as_str()), ("id", sid.as_str())];
    let ended = here.post("/account/sessions", &fields).await;
    assert_eq!(ended.location(), "/account?done=ended");
    here.get("/account?done=ended")
        .await
        .is_page(200, "has ended");
    assert!(here.is_in().await && !there.is_in().await && bob.is_in().await);
    assert!(!house.is_active(answer.token()).await);
    assert!(house.revocations().await.contains(&("session".into(), sid)));
    house.close().await;
}

#[tokio::test]
async fn all_other_sessions_end_at_once_and_so_does_what_may_become_one() {
    let house = House::open().await;
    let here = Browser::signed_in(&house, "ann").await;
    let there = Browser::signed_in(&house, "ann").await;
    let token = house.sign_in("ann").await;
    let csrf = here.csrf().await;
    let fields = [("csrf", csrf.as_str()), ("others", "yes")];
    let ended = here.post("/account/sessions", &fields).await;
    assert_eq!(ended.location(), "/account?done=others");
    assert!(here.is_in().await && !there.is_in().await);
    assert!(!house.is_active(token.token()).await);
    house.close().await;
}

#[tokio::test]
async fn a_key_is_made_shown_once_and_revoked() {
    let house = House::open().await;
    let ann = Browser::signed_in(&house, "ann").await;
    let csrf = ann.csrf().await;
    let fields = [
        ("csrf", csrf.as_str()),
        ("label", "<nightly>"),
        ("read", "yes"),
        ("submit", "yes"),
        ("days", "7"),
        ("password", "pw"),
    ];
    let made = ann.post("/account/keys", &fields).await;
    made.is_page(200, "shown this once");
    let (_, key) = made.text.split_once("id=\"key\">").unwrap();
    let key = key.split('<').next().unwrap();
    let exchanged = house.exchanged("key", key).await;
    let scope = house.verify(exchanged.token()).await.1.scope;
    assert_eq!(scope.to_string(), "read submit");
    let page = ann.get("/account").await;
    assert!(!page.text.contains(key) && !page.text.contains("<nightly>"));
    let id = key.get(4..16).unwrap();
    assert!(page.text.contains(id));
    for (change, status) in [
        (("label", ""), 422),
        (("days", "0"), 422),
        (("days", "x"), 422),
        (("admin", "yes"), 403),
    ] {
        let mut wrong = fields.to_vec();
        wrong.retain(|(name, _)| *name != change.0);
        wrong.push(change);
        let answer = ann.post("/account/keys", &wrong).await;
        answer.is_page(status, "role=\"alert\"");
    }
    let fields = [("csrf", csrf.as_str()), ("id", id)];
    let revoked = ann.post("/account/keys/revoke", &fields).await;
    assert_eq!(revoked.location(), "/account?done=revoked");
    assert_eq!(house.exchanged("key", key).await.status, 401);
    let again = ann.post("/account/keys/revoke", &fields).await;
    again.is_page(404, "no such key");
    house.close().await;
}

async fn change(browser: &Browser<'_>, present: &str, fresh: &str, again: &str) -> Answer {
    let csrf = browser.csrf().await;
    let fields = [
        ("csrf", csrf.as_str()),
        ("present", present),
        ("fresh", fresh),
        ("again", again),
    ];
    browser.post("/account/password", &fields).await
}

#[tokio::test]
async fn t105_a_new_password_ends_everything_else_and_takes_the_present_one() {
    let house = House::open().await;
    let here = Browser::signed_in(&house, "ann").await;
    let there = Browser::signed_in(&house, "ann").await;
    let token = house.sign_in("ann").await;
    let old = here.cookie();
    for (present, fresh, again, status) in [
        ("wrong", "a new password", "a new password", 400),
        ("pw", "a new password", "another", 422),
        ("pw", "short", "short", 422),
        ("pw", "", "", 422),
    ] {
        let answer = change(&here, present, fresh, again).await;
        answer.is_page(status, "role=\"alert\"");
        assert!(!answer.text.contains("a new password"));
    }
    assert!(there.is_in().await && here.cookie() == old);
    let changed = change(&here, "pw", "a new password", "a new password").await;
    assert_eq!(changed.location(), "/account?done=password");
    // This browser is signed in anew, and nothing else is.
    assert!(here.is_in().await && !there.is_in().await);
    assert_ne!(here.cookie(), old);
    assert_eq!(house.exchanged("cookie", &old).await.status, 401);
    assert!(!house.is_active(token.token()).await);
    let account = ("account".to_owned(), "ann".to_owned());
    assert!(house.revocations().await.contains(&account));
    // What it is exchanged for counts although the account was named.
    let fresh = house.exchanged("cookie", &here.cookie()).await;
    assert!(house.is_active(fresh.token()).await);
    let elsewhere = Browser::new(&house);
    assert_eq!(elsewhere.sign_in("ann", "pw", "").await.status, 400);
    let answer = elsewhere.sign_in("ann", "a new password", "").await;
    assert_eq!(answer.status, 303);
    let rows = house.audit().await;
    let told = |row: &warrant_trail::Row| row.action.as_deref() == Some("password");
    assert_eq!(rows.iter().filter(|row| told(row)).count(), 1);
    house.close().await;
}

#[tokio::test]
async fn the_present_password_is_not_to_be_guessed_on_the_page() {
    let house = House::open().await;
    let ann = Browser::signed_in(&house, "ann").await;
    for _ in 0..10 {
        let answer = change(&ann, "wrong", "a new password", "a new password").await;
        assert_eq!(answer.status, 400);
    }
    let answer = change(&ann, "pw", "a new password", "a new password").await;
    answer.is_page(429, "Too many");
    assert_eq!(house.login("ann", "pw", "192.0.2.1").await.status, 429);
    house.close().await;
}

#[tokio::test]
async fn t113_nothing_is_changed_without_the_sessions_token_and_its_page() {
    let house = House::open().await;
    house.add("bob", "pw").await;
    let ann = Browser::signed_in(&house, "ann").await;
    let bob = Browser::signed_in(&house, "bob").await;
    let (own, foreign) = (ann.csrf().await, bob.csrf().await);
    let paths = [
        "/logout",
        "/account/sessions",
        "/account/keys",
        "/account/keys/revoke",
        "/account/password",
        "/oauth/authorize",
        "/oauth/device",
    ];
    let more = [
        ("others", "yes"),
        ("label", "x"),
        ("read", "yes"),
        ("days", "1"),
        ("present", "pw"),
        ("fresh", "a new password"),
        ("again", "a new password"),
        ("decision", "approve"),
    ];
    for path in paths {
        for token in ["", "x", &foreign] {
            let fields = [&[("csrf", token)], &more[..]].concat();
            let answer = ann.post(path, &fields).await;
            answer.is_page(403, "another session");
        }
        let fields = [&[("csrf", own.as_str())], &more[..]].concat();
        for headers in [
            &[][..],
            &[("origin", "http://127.0.0.1:8000")],
            &[("origin", "null")],
            &[
                ("origin", "http://127.0.0.1:8000"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
        ] {
            let answer = ann.post_from(path, &fields, headers).await;
            answer.is_page(403, HERE);
        }
        // Without a cookie, it is nobody's.
        let answer = Browser::new(&house).post(path, &fields).await;
        assert_eq!(answer.location(), "/login");
        // A link changes nothing.
        let linked = ann.get(&format!("{path}?csrf={own}&others=yes")).await;
        assert!([200, 400, 405].contains(&linked.status.as_u16()), "{path}");
    }
    assert!(ann.is_in().await && bob.is_in().await);
    assert!(
        !ann.get("/account")
            .await
            .text
            .contains("/account/keys/revoke")
    );
    let mut reasons = house.refused("web").await;
    reasons.dedup();
    assert_eq!(reasons.len(), 2 * paths.len());
    assert_eq!(house.login("ann", "pw", "192.0.2.7").await.status, 200);
    house.close().await;
}
