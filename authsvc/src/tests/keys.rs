//! The published keys, and their rotation under a running service.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::house::House;
use crate::clock;
use crate::keys::KeyDir;

/// The published keys, once there are `count`.
async fn published(house: &House, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = house.get("/.well-known/jwks.json").await;
        let keys = answer.body["keys"].as_array().unwrap().clone();
        if keys.len() == count {
            return keys;
        }
        assert!(
            Instant::now() < deadline,
            "{} keys are published",
            keys.len()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn keys_are_published_as_rfc_8037_has_them() {
    let house = House::open().await;
    let answer = house.get("/.well-known/jwks.json").await;
    assert_eq!(answer.headers["cache-control"], "max-age=30");
    let key = answer.body["keys"][0].as_object().unwrap();
    let members: Vec<_> = key.keys().collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(
        (&key["kty"], &key["crv"]),
        (&"OKP".into(), &"Ed25519".into())
    );
    assert_eq!((&key["use"], &key["alg"]), (&"sig".into(), &"EdDSA".into()));
    assert_eq!(key["kid"].as_str().unwrap().len(), 43);
    house.close().await;
}

#[tokio::test]
async fn a_new_key_is_published_before_its_first_use_and_old_tokens_stay_good() {
    let house = House::open().await;
    let before = house.login("ann", "pw", "192.0.2.1").await;
    let (first, _) = house.verify(before.token()).await;

    let dir = KeyDir::open("keys.dir", &house.dir.path().join("keys")).unwrap();
    let next = dir.add(clock::now_s() + 3_600).unwrap();
    let keys = published(&house, 2).await;
    assert!(keys.iter().any(|key| key["kid"] == next.kid.as_str()));
    let waiting = house.login("ann", "pw", "192.0.2.1").await;
    assert_eq!(house.verify(waiting.token()).await.0, first);

    let now = dir.add(clock::now_s()).unwrap();
    published(&house, 3).await;
    let after = house.login("ann", "pw", "192.0.2.1").await;
    assert_eq!(house.verify(after.token()).await.0, now.kid);
    for token in [before.token(), waiting.token()] {
        assert_eq!(house.verify(token).await.0, first);
    }
    house.close().await;
}

#[tokio::test]
async fn a_restart_keeps_the_keys() {
    let house = House::open().await;
    let answer = house.login("ann", "pw", "192.0.2.1").await;
    let dir = house.close().await;
    let house = House::open_in(dir, &[], |_| {}).await;
    house.verify(answer.token()).await;
    assert_eq!(published(&house, 1).await.len(), 1);
    house.close().await;
}
