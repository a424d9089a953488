//! Passwords and payloads that nobody would type.

use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::{Value, json};

use super::house::{House, SECRET, bearer, credentials, encode, form, request};
use crate::error::Kind;
use crate::secret::Secret;
use crate::{clock, passwords};

const WRONG: &str = "Incorrect user or password";

fn encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn t100_what_is_no_password_is_refused_before_anything_is_hashed() {
    let house = House::open_with(&[("FLUX_SECRET_KEY", SECRET)], |config| {
        config.passwords.parallel = 1;
        config.passwords.queue = 0;
    })
    .await;
    // Whoever needed a turn would be answered 503.
    let turn = house.service.login.hasher.turn().await.unwrap();
    assert_eq!(house.login("ann", "pw", "").await.status, 503);
    let began = Instant::now();
    let mebibyte = "x".repeat(1 << 20);
    let form_of = |password: &str| format!("username=ann&password={password}");
    let answer = house.send(form(&form_of(&mebibyte), "192.0.2.1")).await;
    assert_eq!(answer.status, 413);
    let form_of_many = form(&form_of(&"x".repeat(60_000)), "192.0.2.1");
    house.send(form_of_many).await.is_refused(400, WRONG);
    house
        .login("ann", &"x".repeat(1025), "")
        .await
        .is_refused(400, WRONG);
    let long = credentials("ann", &"x".repeat(2_000));
    house.handshake(long).await.is_refused(400, WRONG);
    let payload = encode(&credentials("ann", &mebibyte), SECRET);
    assert_eq!(house.send(bearer(&payload)).await.status, 431);
    let oauth = format!(
        "grant_type=password&client_id=warrant&{}",
        form_of(&"x".repeat(1025))
    );
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let answer = house
        .send(request(Method::POST, "/oauth/token", &kind, &oauth))
        .await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error"]),
        (400, &json!("invalid_grant"))
    );
    // None, and an empty one.
    for body in ["username=ann", "username=ann&password="] {
        assert_eq!(house.send(form(body, "")).await.status, 422);
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    drop(turn);
    house.close().await;
}

#[tokio::test]
async fn t100_a_password_is_its_bytes_when_it_is_set_and_when_it_is_checked() {
    let house = House::open().await;
    // A zero, one letter in two spellings, what looks alike, what is invisible.
    let passwords = [
        "p\0w",
        "p\0x",
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{ff21}",
        "A",
        "a",
        " a",
        "a ",
        "a\u{200b}",
        "\u{1f511}\u{fe0f}",
        "\u{1f511}",
        "a\r\n",
        "a\n",
        "+",
        "%2B",
        "%",
        "&password=other",
    ];
    for (n, password) in passwords.iter().enumerate() {
        house.add(&format!("user{n}"), password).await;
    }
    for (n, set) in passwords.iter().enumerate() {
        let name = format!("user{n}");
        for (from, tried) in passwords.iter().enumerate() {
            let source = format!("192.0.2.{}", from + 1);
            let by_form = house
                .login(&name, &encoded(tried.as_bytes()), &source)
                .await;
            assert_eq!(by_form.status == 200, set == tried, "{set:?} and {tried:?}");
        }
        let by_handshake = house.handshake(credentials(&name, set)).await;
        assert_eq!(by_handshake.status, 200, "{set:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn t100_what_is_no_text_is_the_password_of_nobody() {
    let house = House::open().await;
    // Decoded carelessly, all of these are one replacement character, which
    // for that reason is the password of nobody.
    let replacement = passwords::hash(
        &argon2::Params::new(8, 1, 1, None).unwrap(),
        &Secret::new("\u{fffd}"),
    );
    assert_eq!(replacement.unwrap_err().kind, Kind::Invalid);
    house.add("bob", "pw").await;
    let replacement = encoded("\u{fffd}".as_bytes());
    let answer = house.login("bob", &replacement, "").await;
    assert_eq!(answer.status, 400);
    for bytes in [
        &b"\xff"[..],
        b"\xfe",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf8\x88\x80\x80\x80",
    ] {
        let answer = house.login("bob", &encoded(bytes), "192.0.2.1").await;
        assert_eq!(answer.status, 400, "{bytes:?}");
        let name = house.login(&encoded(bytes), "pw", "192.0.2.2").await;
        assert_eq!(name.status, 400, "{bytes:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn t102_a_payload_counts_by_the_shared_secret_and_hs256_alone() {
    let house = House::open().await;
    let claims = credentials("ann", "pw");
    house.send(bearer(&encode(&claims, SECRET))).await.token();
    let refused = "Could not decode credentials";
    // A list of words, as those have who guess; and what is near the secret.
    let words = [
        "",
        "secret",
        "password",
        "changeme",
        "flux",
        "fluxuser",
        "warrant",
        "admin",
        "123456",
        "the shared secre",
        "the shared secret ",
        "The shared secret",
    ];
    for word in words {
        let guess = encode(&claims, if word.is_empty() { "\0" } else { word });
        house.send(bearer(&guess)).await.is_refused(400, refused);
    }
    let good = encode(&claims, SECRET);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (_, payload) = message.split_once('.').unwrap();
    use base64::Engine;
    let part =
        |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None", "typ": "JWT"}),
        json!({"alg": "HS384"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": "RS256"}),
        json!({"alg": ["HS256"]}),
        json!({"alg": "HS256", "crit": ["exp"]}),
        json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AA"}}),
    ] {
        for signature in ["", signature, "AA"] {
            let forged = format!("{}.{payload}.{signature}", part(&header));
            house.send(bearer(&forged)).await.is_refused(400, refused);
        }
    }
    house.send(bearer(message)).await.is_refused(400, refused);
    house
        .send(bearer(&format!("{message}.")))
        .await
        .is_refused(400, refused);
    house.close().await;
}

#[tokio::test]
async fn t102_in_strict_mode_a_payload_has_a_time_and_an_id_and_counts_once() {
    let house = House::open_with(&[("FLUX_SECRET_KEY", SECRET)], |config| {
        config.handshake.strict = true;
    })
    .await;
    let now = clock::now_s();
    let with = |fields: Value| {
        let mut claims = credentials("ann", "pw");
        for (name, value) in fields.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    for fields in [
        json!({}),
        json!({"iat": now}),
        json!({"exp": now + 60}),
        json!({"jti": "one"}),
        json!({"jti": "", "iat": now}),
        json!({"jti": "one", "iat": now - 86_400}),
        json!({"jti": "one", "exp": now - 60}),
        json!({"jti": "one", "iat": now + 600}),
    ] {
        let answer = house.handshake(with(fields.clone())).await;
        assert_eq!(answer.status, 400, "{fields}: {:?}", answer.body);
    }
    let fresh = with(json!({"jti": "one", "iat": now}));
    house.handshake(fresh.clone()).await.token();
    let refused = "Could not decode credentials";
    house.handshake(fresh).await.is_refused(400, refused);
    house.close().await;
}

#[tokio::test]
async fn t102_a_right_secret_is_no_way_around_the_throttle() {
    let house = House::open().await;
    let mut told = Vec::new();
    for n in 0..30 {
        // Each with an id of its own, as if it were new.
        let mut claims = credentials("ann", "wrong");
        claims["jti"] = json!(format!("guess {n}"));
        claims["iat"] = json!(clock::now_s());
        told.push(house.handshake(claims).await.status.as_u16());
    }
    let looked_at = told.iter().filter(|status| **status == 400).count();
    assert!((10..=13).contains(&looked_at), "{told:?}");
    assert_eq!(house.handshake(credentials("ann", "pw")).await.status, 429);
    house.close().await;
}
