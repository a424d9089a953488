//! A clock that is set forward and back, and two instances whose clocks differ.

use serde_json::{Value, json};

use super::house::{House, SECRET, credentials};
use crate::clock::{self, Skew};
use crate::prune::prune_once;
use crate::store::proofs::{self, Spent};
use crate::store::spent::{self, OneUse};
use crate::store::users;
use crate::user_name::UserName;

const HOUR_S: i64 = 3_600;
const WRONG: &str = "Could not decode credentials";

async fn form(house: &House, path: &str, body: &str) -> super::house::Answer {
    use axum::http::Method;
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let request = super::house::request(Method::POST, path, &kind, body);
    house.send(request).await
}

async fn is_active(house: &House, token: &str) -> bool {
    let answer = form(house, "/oauth/introspect", &format!("token={token}")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body["active"].as_bool().unwrap()
}

/// Log in with the client that gets refresh tokens.
async fn sign_in(house: &House) -> Value {
    let body = "grant_type=password&client_id=warrant&username=ann&password=pw";
    let answer = form(house, "/oauth/token", body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

async fn refresh(house: &House, tokens: &Value) -> super::house::Answer {
    let token = tokens["refresh_token"].as_str().unwrap();
    let body = format!("grant_type=refresh_token&client_id=warrant&refresh_token={token}");
    form(house, "/oauth/token", &body).await
}

fn access(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

#[tokio::test]
async fn t109_no_token_counts_outside_its_time_however_the_clock_is_set() {
    let house = House::open().await;
    let tokens = sign_in(&house).await;
    let life_s = tokens["expires_in"].as_i64().unwrap();
    for (skew_s, counts) in [
        (0, true),
        (life_s - 10, true),
        (life_s + 61, false),
        (HOUR_S * 24, false),
        // Set back, it is of a time that has not come.
        (-30, true),
        (-HOUR_S, false),
        (0, true),
    ] {
        let _skew = Skew::by_s(skew_s);
        assert_eq!(
            is_active(&house, access(&tokens)).await,
            counts,
            "{skew_s} s"
        );
    }
    // A session ends with its time; the clock that is set back does not bring
    // back what was forgotten meanwhile.
    {
        let _skew = Skew::by_s(HOUR_S * 24 * 31);
        assert_eq!(refresh(&house, &tokens).await.status, 400);
        prune_once(&house.db, clock::now_us()).await.unwrap();
    }
    assert!(!is_active(&house, access(&tokens)).await);
    assert_eq!(refresh(&house, &tokens).await.status, 400);
    house.close().await;
}

#[tokio::test]
async fn t109_what_was_used_or_ended_stays_so_when_the_clock_is_set() {
    let house = House::open().await;
    let mut once = credentials("ann", "pw");
    once["jti"] = json!("one");
    once["exp"] = json!(clock::now_s() + 60);
    house.handshake(once.clone()).await.token();
    let (used, ended) = (sign_in(&house).await, sign_in(&house).await);
    assert_eq!(refresh(&house, &used).await.status, 200);
    let token = ended["refresh_token"].as_str().unwrap();
    let end = format!("client_id=warrant&token={token}");
    assert_eq!(form(&house, "/oauth/revoke", &end).await.status, 200);
    let feed = async || house.get("/internal/revocations").await.body["entries"].clone();
    let told = feed().await.as_array().unwrap().clone();
    assert!(!told.is_empty());
    // Ten hours are the longest that anything is told of in the feed.
    for skew_s in [2 * HOUR_S, 11 * HOUR_S, -2 * HOUR_S, 0] {
        let _skew = Skew::by_s(skew_s);
        // What is over by this clock is forgotten.
        prune_once(&house.db, clock::now_us()).await.unwrap();
    }
    // What was used long after this moment was not used just now.
    {
        let _skew = Skew::by_s(-2 * HOUR_S);
        assert_eq!(refresh(&house, &used).await.status, 400);
    }
    // Set right again, nothing is good that was not.
    house.handshake(once.clone()).await.is_refused(400, WRONG);
    assert!(!is_active(&house, access(&ended)).await);
    assert_eq!(refresh(&house, &ended).await.status, 400);
    assert_eq!(refresh(&house, &used).await.status, 400);
    // A broker that starts now must hear of it, while tokens may be alive.
    let still = feed().await.as_array().unwrap().clone();
    assert!(told.iter().all(|entry| still.contains(entry)), "{still:?}");
    house.close().await;
}

#[tokio::test]
async fn t109_instances_whose_clocks_differ_agree_within_a_minute() {
    // One database and one key, asked by two clocks.
    let house = House::open_with(&[("FLUX_SECRET_KEY", SECRET)], |_| {}).await;
    for skew_s in [-300, -50, -1, 1, 50, 90, 300] {
        let tokens = {
            let _skew = Skew::by_s(skew_s);
            let tokens = sign_in(&house).await;
            assert!(is_active(&house, access(&tokens)).await, "{skew_s} s");
            tokens
        };
        // Of what comes from a clock ahead, a minute is borne.
        let counts = skew_s <= 60;
        assert_eq!(
            is_active(&house, access(&tokens)).await,
            counts,
            "{skew_s} s"
        );
        let name = UserName::parse("ann").unwrap();
        let mut tx = house.db.begin().await.unwrap();
        users::set_disabled(&mut tx, &name, true).await.unwrap();
        tx.commit().await.unwrap();
        {
            let _skew = Skew::by_s(skew_s);
            assert!(!is_active(&house, access(&tokens)).await, "{skew_s} s");
            assert_eq!(refresh(&house, &tokens).await.status, 400, "{skew_s} s");
        }
        let mut tx = house.db.begin().await.unwrap();
        users::set_disabled(&mut tx, &name, false).await.unwrap();
        tx.commit().await.unwrap();
    }
    house.close().await;
}

#[tokio::test]
async fn t109_proofs_and_id_tokens_that_were_used_are_remembered_beyond_their_end() {
    let house = House::open().await;
    let ends_us = clock::now_us() + 60_000_000;
    let mut tx = house.db.begin().await.unwrap();
    let proof = proofs::spend(&mut tx, "proof", ends_us, 10).await;
    assert_eq!(proof.unwrap(), Spent::First);
    let id_token = OneUse::IdToken("id");
    assert!(spent::spend(&mut tx, id_token, ends_us).await.unwrap());
    tx.commit().await.unwrap();
    // By a clock that is a minute and a half ahead, both are over.
    let ahead = Skew::by_s(150);
    prune_once(&house.db, clock::now_us()).await.unwrap();
    drop(ahead);
    let mut tx = house.db.begin().await.unwrap();
    let proof = proofs::spend(&mut tx, "proof", ends_us, 10).await;
    assert_eq!(proof.unwrap(), Spent::Again);
    assert!(!spent::spend(&mut tx, id_token, ends_us).await.unwrap());
    drop(tx);
    house.close().await;
}
