//! Tokens that are not what they say, and keys that change under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::super::house::{House, encode};
use super::CHALLENGE;
use crate::clock;
use crate::keys::{KeyDir, SigningKey};

fn key(house: &House, name: &str) -> SigningKey {
    let dir = KeyDir::open("keys.dir", &house.dir.path().join(name)).unwrap();
    dir.load().unwrap().remove(0)
}

/// A token with this header and these claims, signed with `key`.
fn signed(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

#[tokio::test]
async fn t101_no_forged_or_confused_token_is_taken_for_an_access_token() {
    let house = House::open_multi_user(|_| {}).await;
    let answer = house.sign_in("daemon").await;
    let good = answer.token();
    let (access, other) = (key(&house, "keys"), key(&house, "warrant-keys"));
    let payload = good.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let header = json!({"alg": "EdDSA", "kid": access.kid, "typ": "at+jwt"});
    assert!(house.is_active(&signed(&header, &claims, &access)).await);
    let warrant = house.exchange(good).await.token().to_owned();
    let asked = json!({
        "response_type": "code", "client_id": "warrant", "state": "s",
        "redirect_uri": "http://127.0.0.1/callback", "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    });
    let redirect = house.post_json("/oauth/authorize", good, &asked).await.body;
    let redirect = redirect["redirect"].as_str().unwrap().to_owned();
    let code = redirect.split(['=', '&']).nth(1).unwrap().to_owned();
    assert!(code.starts_with("wrc_"));

    let change = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        signed(&header, &claims, &access)
    };
    let with_header = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        signed(&header, &claims, &access)
    };
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        signed(&header, &claims, &access)
    };
    let now = clock::now_s();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let hmac = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        (header.typ, header.kid) = (Some("at+jwt".into()), Some(access.kid.clone()));
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": other.public_text()});
    let by_other = |header: Value| signed(&header, &claims, &other);
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let refused = [
        String::new(),
        "..".to_owned(),
        "x.y.z".to_owned(),
        good.replace('.', ""),
        format!("{good}."),
        format!("{good}.x"),
        format!("{good}="),
        format!(" {good}"),
        format!("{message}."),
        message.to_owned(),
        format!("{message}.{flipped}{}", &signature[1..]),
        "a".repeat(5_000),
        warrant,
        code,
        answer.refresh_token(),
        encode(
            &json!({"user": "daemon", "pass": "pw", "scope": "token"}),
            "s",
        ),
        hmac(access.public_text().as_bytes()),
        hmac(b""),
        with_header("typ", json!("JWT")),
        with_header("typ", json!("warrant+jwt")),
        with_header("typ", json!("rt+jwt")),
        with_header("typ", json!("id_token")),
        with_header("typ", json!(null)),
        with_header("alg", json!("none")),
        with_header("alg", json!("None")),
        with_header("alg", json!("HS256")),
        with_header("alg", json!("ES256")),
        with_header("alg", json!(["EdDSA"])),
        with_header("crit", json!(["exp"])),
        with_header("kid", json!("../../etc/passwd")),
        with_header("kid", json!(other.kid)),
        with_header("kid", json!(null)),
        by_other(json!({"alg": "EdDSA", "kid": other.kid, "typ": "at+jwt"})),
        by_other(json!({"alg": "EdDSA", "kid": other.kid, "typ": "at+jwt", "jwk": jwk})),
        by_other(json!({"alg": "EdDSA", "kid": access.kid, "typ": "at+jwt", "jwk": jwk})),
        by_other(json!({"alg": "EdDSA", "kid": other.kid, "typ": "at+jwt",
                        "jku": "https://evil.test/jwks.json"})),
        change("aud", json!(["warrant-broker", "other"])),
        change("iss", json!("warrant/")),
        change("exp", json!(now)),
        change("exp", json!("never")),
        change("iat", json!(now + 120)),
        change("sub", json!("")),
        change("sub", json!("bin")),
        change("sid", json!("")),
        change("sid", json!("other")),
        change("scope", json!("root")),
        change("role", json!("root")),
        change("jti", json!("")),
        change("extra", json!(true)),
        without("iss"),
        without("aud"),
        without("exp"),
        without("sub"),
        without("jti"),
        without("sid"),
        without("scope"),
        without("client_id"),
    ];
    let secret = house.confidential("robot").await;
    for token in refused {
        assert_eq!(
            house.known(&token).await,
            json!({"active": false}),
            "{token}"
        );
        let fields = [
            ("token", token.as_str()),
            ("client_id", "robot"),
            ("client_secret", secret.as_str()),
        ];
        let told = house.post("/oauth/introspect", &fields).await;
        assert_eq!(told.body, json!({"active": false}), "{token}");
        // Nor is anybody signed in by it, and it refreshes nothing.
        if !token.starts_with(' ') {
            let signed_in = house.post_json("/oauth/authorize", &token, &asked).await;
            signed_in.is_oauth_error(401, "invalid_token");
        }
        if token != answer.refresh_token() {
            house
                .refresh(&token)
                .await
                .is_oauth_error(400, "invalid_grant");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn t109_keys_rotate_under_load_and_no_valid_request_is_lost() {
    let house = House::open().await;
    let done = AtomicBool::new(false);
    let requests = async {
        let mut refresh = house.sign_in("ann").await.refresh_token();
        let mut kids = std::collections::BTreeSet::new();
        let mut tokens = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let answer = house.refresh(&refresh).await;
            refresh = answer.refresh_token();
            // Whatever was given is verified by the published keys, and known.
            let (kid, _) = house.verify(answer.token()).await;
            assert!(house.is_active(answer.token()).await);
            if kids.insert(kid) {
                tokens.push(answer.token().to_owned());
            }
        }
        (kids, tokens)
    };
    let rotations = async {
        let dir = KeyDir::open("keys.dir", &house.dir.path().join("keys")).unwrap();
        for _ in 0..3 {
            let before = house.get("/.well-known/jwks.json").await.body["keys"].clone();
            let key = dir.add(clock::now_s() + 1).unwrap();
            assert!(!before.to_string().contains(&key.kid));
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                let token = house.login("ann", "pw", "192.0.2.1").await;
                if house.verify(token.token()).await.0 == key.kid {
                    break;
                }
                assert!(Instant::now() < deadline, "the new key does not sign");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    let ((kids, tokens), ()) = tokio::join!(requests, rotations);
    assert_eq!(kids.len(), 4, "{kids:?}");
    // Tokens of every key are good still; a key that is gone takes its own along.
    for token in &tokens {
        assert!(house.is_active(token).await);
    }
    house.close().await;
}
