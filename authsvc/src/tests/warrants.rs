//! `POST /oauth/token`: who gets a warrant, for what, and what it says.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use warrant_api::token::{AUTHSVC_AUDIENCE, BROKER_AUDIENCE, WARRANT_URN};
use warrant_wire::{Claims, warrant};

use super::house::{House, JOB, bearer, encode, exchange, exchange_fields, form, request};
use crate::clock;
use crate::config::Grants;
use crate::keys::{KeyDir, SigningKey};

async fn token(house: &House, user: &str) -> String {
    house
        .login(user, "pw", "192.0.2.1")
        .await
        .token()
        .to_owned()
}

/// The key that signs in the directory `name` of the house.
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

fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_is_exchanged_for_a_warrant_of_one_job() {
    let house = House::open_multi_user(|_| {}).await;
    let token = token(&house, "daemon").await;
    let before = clock::now_s();
    let answer = house.exchange(&token).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.body["token_type"], "N_A");
    assert_eq!(answer.body["issued_token_type"], WARRANT_URN);
    assert_eq!(answer.body["expires_in"], 60);

    let text = answer.token();
    assert!(text.len() <= warrant::MAX_WARRANT_BYTES);
    let (message, signature) = text.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let [header, payload, signature] =
        [header, payload, signature].map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let key = key(&house, "warrant-keys");
    assert_eq!(header, warrant::header(&key.kid).into_bytes());
    let public = URL_SAFE_NO_PAD.decode(key.public_text()).unwrap();
    VerifyingKey::from_bytes(&public.try_into().unwrap())
        .unwrap()
        .verify_strict(
            message.as_bytes(),
            &Signature::from_slice(&signature).unwrap(),
        )
        .unwrap();

    let claims = Claims::decode(&payload).unwrap();
    assert_eq!(
        (claims.iss.as_str(), claims.aud.as_str()),
        ("warrant", "local")
    );
    assert_eq!((claims.sub.as_str(), claims.uid), ("daemon", 1));
    assert_eq!(warrant::hex(&claims.job_sha256), JOB);
    assert!((before..=clock::now_s()).contains(&claims.iat));
    assert_eq!((claims.nbf, claims.exp), (claims.iat, claims.iat + 60));
    let again = house.exchange(&token).await;
    assert_ne!(claims_of(again.token())["jti"], claims_of(text)["jti"]);
    house.close().await;
}

#[tokio::test]
async fn a_jwt_library_reads_a_warrant_as_its_own_codec_does() {
    let house = House::open_multi_user(|_| {}).await;
    let answer = house.exchange(&token(&house, "daemon").await).await;
    let key = key(&house, "warrant-keys");
    let decoding = DecodingKey::from_ed_components(key.public_text()).unwrap();
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_audience(&["local"]);
    rules.set_issuer(&["warrant"]);
    rules.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    rules.validate_nbf = true;
    let read = jsonwebtoken::decode::<Value>(answer.token(), &decoding, &rules).unwrap();
    assert_eq!(read.header.typ.as_deref(), Some(warrant::TYPE));
    assert_eq!(read.header.kid.as_deref(), Some(key.kid.as_str()));
    let payload = answer.token().split('.').nth(1).unwrap();
    let claims = Claims::decode(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    assert_eq!(
        read.claims,
        json!({
            "iss": claims.iss, "aud": claims.aud, "sub": claims.sub, "uid": claims.uid,
            "job_sha256": warrant::hex(&claims.job_sha256), "jti": warrant::hex(&claims.jti),
            "iat": claims.iat, "nbf": claims.nbf, "exp": claims.exp,
        })
    );
    house.close().await;
}

#[tokio::test]
async fn the_life_of_a_warrant_is_configured() {
    let house = House::open_multi_user(|config| config.warrants.life_s = 5).await;
    let answer = house.exchange(&token(&house, "daemon").await).await;
    assert_eq!(answer.body["expires_in"], 5);
    let claims = claims_of(answer.token());
    let life_s = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(life_s, 5);
    house.close().await;
}

#[tokio::test]
async fn the_form_of_an_exchange_is_strict() {
    let house = House::open_multi_user(|_| {}).await;
    let token = token(&house, "daemon").await;
    let upper = JOB.to_uppercase();
    let without = |name: &str| {
        let mut fields = exchange_fields(&token);
        fields.retain(|(field, _)| *field != name);
        fields
    };
    for name in [
        "grant_type",
        "subject_token",
        "subject_token_type",
        "requested_token_type",
        "audience",
        "job_sha256",
    ] {
        let answer = house.send(exchange(&without(name))).await;
        answer.is_no_warrant("invalid_request", "form");
        let description = answer.body["error_description"].as_str().unwrap();
        assert!(description.starts_with(name), "{description}");
        let mut doubled = exchange_fields(&token);
        doubled.push((name, "local"));
        let answer = house.send(exchange(&doubled)).await;
        answer.is_no_warrant("invalid_request", "form");
    }
    // t24: a hash is SHA-256, in one spelling.
    for (name, value) in [
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("job_sha256", ""),
        ("job_sha256", &JOB[1..]),
        ("job_sha256", upper.as_str()),
        ("job_sha256", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    ] {
        let mut fields = without(name);
        fields.push((name, value));
        let answer = house.send(exchange(&fields)).await;
        answer.is_no_warrant("invalid_request", "form");
    }
    let mut fields = exchange_fields(&token);
    fields.push(("actor_token", &token));
    let answer = house.send(exchange(&fields)).await;
    answer.is_no_warrant("invalid_request", "form");
    let mut fields = without("grant_type");
    fields.push(("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"));
    let answer = house.send(exchange(&fields)).await;
    answer.is_no_warrant("unsupported_grant_type", "grant-type");
    let json = [("content-type", "application/json")];
    let answer = house
        .send(request(Method::POST, "/oauth/token", &json, "{}"))
        .await;
    answer.is_no_warrant("invalid_request", "form");
    house.close().await;
}

#[tokio::test]
async fn t16_no_other_token_is_exchanged_for_a_warrant() {
    let house = House::open_multi_user(|_| {}).await;
    let good = token(&house, "daemon").await;
    let (access, other) = (key(&house, "keys"), key(&house, "warrant-keys"));
    let claims = claims_of(&good);
    let header = json!({"alg": "EdDSA", "kid": access.kid, "typ": "at+jwt"});
    // The same as what the service made is accepted, so that what follows is
    // refused for what is changed.
    let same = signed(&header, &claims, &access);
    house.exchange(&same).await.token();

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
    let secret = EncodingKey::from_secret(access.public_text().as_bytes());
    let mut confused = Header::new(Algorithm::HS256);
    (confused.typ, confused.kid) = (Some("at+jwt".into()), Some(access.kid.clone()));
    let warrant = house.exchange(&good).await.token().to_owned();
    let refused = [
        String::new(),
        "x.y.z".to_owned(),
        format!("{good}."),
        format!("{message}."),
        message.to_owned(),
        format!("{message}.{}", signature.replacen(&signature[..1], "-", 1)),
        warrant,
        encode(
            &json!({"user": "daemon", "pass": "pw", "scope": "token"}),
            "s",
        ),
        jsonwebtoken::encode(&confused, &claims, &secret).unwrap(),
        with_header("typ", json!("JWT")),
        with_header("typ", json!(warrant::TYPE)),
        with_header("typ", json!("rt+jwt")),
        with_header("alg", json!("none")),
        with_header("alg", json!("HS256")),
        with_header("alg", json!(["EdDSA"])),
        with_header("crit", json!(["exp"])),
        with_header("kid", json!("../../etc/passwd")),
        with_header("kid", json!(other.kid)),
        signed(
            &json!({"alg": "EdDSA", "kid": other.kid, "typ": "at+jwt"}),
            &claims,
            &other,
        ),
        signed(&header, &claims, &other),
        change("aud", json!(AUTHSVC_AUDIENCE)),
        change("aud", json!([BROKER_AUDIENCE, "other"])),
        change("iss", json!("warrant/")),
        change("iss", json!("Warrant")),
        change("exp", json!(now)),
        change("exp", json!("never")),
        change("iat", json!(now + 120)),
        change("sub", json!("")),
        change("sub", json!("-daemon")),
        change("jti", json!("")),
        change("admin", json!(true)),
        without("iss"),
        without("aud"),
        without("exp"),
        without("sub"),
        without("jti"),
    ];
    for token in refused {
        let answer = house.exchange(&token).await;
        answer.is_no_warrant("invalid_request", "subject-token");
    }
    house.close().await;
}

#[tokio::test]
async fn t16_a_warrant_is_no_access_token_and_its_key_is_not_published() {
    let house = House::open_multi_user(|_| {}).await;
    let answer = house.exchange(&token(&house, "daemon").await).await;
    let warrant = answer.token();
    let key = key(&house, "warrant-keys");
    let published = house.get("/.well-known/jwks.json").await.body;
    let keys = published["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    assert!(
        keys.iter()
            .all(|published| published["kid"] != key.kid.as_str())
    );
    assert_eq!(house.send(bearer(warrant)).await.status, 400);
    house.close().await;
}

#[tokio::test]
async fn t17_there_are_warrants_for_the_configured_shims_alone() {
    let audiences = vec!["node-1".to_owned(), "node-2".to_owned()];
    let house = House::open_multi_user(|config| config.warrants.audiences = audiences).await;
    let token = token(&house, "daemon").await;
    let ask = async |audience: &str| {
        let mut fields = exchange_fields(&token);
        fields.retain(|(name, _)| *name != "audience");
        fields.push(("audience", audience));
        house.send(exchange(&fields)).await
    };
    for audience in ["node-1", "node-2"] {
        assert_eq!(claims_of(ask(audience).await.token())["aud"], audience);
    }
    for audience in [
        "",
        "local",
        "node-3",
        "node-1/",
        "Node-1",
        "node-1 node-2",
        "[\"node-1\"]",
        BROKER_AUDIENCE,
    ] {
        let answer = ask(audience).await;
        answer.is_no_warrant("invalid_target", "audience");
    }
    house.close().await;
}

#[tokio::test]
async fn t28_a_user_id_that_is_not_the_accounts_gets_no_warrant() {
    let house = House::open_multi_user(|config| config.accounts.max_uid = 100).await;
    let claims = claims_of(&token(&house, "daemon").await);
    let access = key(&house, "keys");
    let header = json!({"alg": "EdDSA", "kid": access.kid, "typ": "at+jwt"});
    let ask = async |sub: &str, uid: Value| {
        let mut claims = claims.clone();
        claims["sub"] = json!(sub);
        claims["uid"] = uid;
        house.exchange(&signed(&header, &claims, &access)).await
    };
    ask("daemon", json!(1)).await.token();
    for uid in [json!(2), json!(0), json!(4_294_967_295_u32), json!(null)] {
        let answer = ask("daemon", uid).await;
        answer.is_no_warrant("invalid_request", "account-changed");
    }
    for uid in ["-1", "4294967296", "\"1\"", "1.0", "1e0", "true", "[1]"] {
        let uid = serde_json::from_str(uid).unwrap();
        let answer = ask("daemon", uid).await;
        answer.is_no_warrant("invalid_request", "subject-token");
    }
    for (sub, uid, reason) in [
        ("root", 0, "uid-range"),
        ("nobody", 65_534, "uid-range"),
        ("no-such-account", 1, "account-unknown"),
        ("bin", 1, "account-changed"),
    ] {
        let answer = ask(sub, json!(uid)).await;
        answer.is_no_warrant("invalid_request", reason);
    }
    house.close().await;
}

#[tokio::test]
async fn a_token_that_was_given_in_single_user_mode_is_not_exchanged() {
    let house = House::open().await;
    house.add("daemon", "pw").await;
    let token = token(&house, "daemon").await;
    assert!(claims_of(&token).get("uid").is_none());
    let answer = house.exchange(&token).await;
    answer.is_no_warrant("unsupported_grant_type", "grant-type");
    assert!(!house.dir.path().join("warrant-keys").exists());
    let house = House::open_multi_user_in(house.close().await, |_| {}).await;
    let answer = house.exchange(&token).await;
    answer.is_no_warrant("invalid_request", "account-changed");
    house.close().await;
}

#[tokio::test]
async fn in_mediated_mode_the_broker_alone_exchanges_tokens() {
    let house = House::open_multi_user(|_| {}).await;
    let token = token(&house, "daemon").await;
    house.exchange(&token).await.token();
    let answer = house.send_tcp(exchange(&exchange_fields(&token))).await;
    answer.is_no_warrant("unauthorized_client", "peer");
    house.close().await;

    let other = nix::unistd::geteuid().as_raw() + 1;
    let house = House::open_multi_user(|config| config.warrants.broker_uid = Some(other)).await;
    let answer = house.exchange(&token).await;
    answer.is_no_warrant("unauthorized_client", "peer");
    // And nobody is given a token of the other mode.
    let body = "username=daemon&password=pw&audience=warrant-authsvc";
    assert_eq!(house.send_tcp(form(body, "")).await.status, 400);
    assert_eq!(house.send(form(body, "")).await.status, 400);
    house.close().await;
}

#[tokio::test]
async fn in_client_mode_the_broker_gets_no_warrant_and_the_client_does() {
    let house = House::open_multi_user(|config| config.warrants.mode = Grants::Client).await;
    let for_broker = token(&house, "daemon").await;
    let body = "username=daemon&password=pw&audience=warrant-authsvc";
    let answer = house.send_tcp(form(body, "")).await;
    let for_client = answer.token().to_owned();
    assert_eq!(claims_of(&for_client)["aud"], AUTHSVC_AUDIENCE);

    let direct = |token: &str| house.send_tcp(exchange(&exchange_fields(token)));
    assert_eq!(claims_of(direct(&for_client).await.token())["uid"], 1);
    let answer = direct(&for_broker).await;
    answer.is_no_warrant("invalid_request", "subject-token");
    // Over the broker's connection there is neither such a token nor a warrant.
    for token in [&for_broker, &for_client] {
        let answer = house.exchange(token).await;
        answer.is_no_warrant("unauthorized_client", "peer");
    }
    assert_eq!(house.send(form(body, "")).await.status, 400);
    let body = "username=daemon&password=pw&audience=anybody";
    assert_eq!(house.send_tcp(form(body, "")).await.status, 400);
    let body = "username=daemon&password=pw&audience=warrant-broker";
    house.send(form(body, "")).await.token();
    house.close().await;
}

#[tokio::test]
async fn a_new_key_signs_warrants_as_soon_as_it_may() {
    let house = House::open_multi_user(|_| {}).await;
    let token = token(&house, "daemon").await;
    let kid = |text: &str| jsonwebtoken::decode_header(text).unwrap().kid.unwrap();
    let first = kid(house.exchange(&token).await.token());
    let dir = house.dir.path().join("warrant-keys");
    let mode = std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    let dir = KeyDir::open("warrants.keys_dir", &dir).unwrap();
    // Of two keys of the same second, either may sign.
    let next = dir.add(clock::now_s() + 1).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let signed_by = kid(house.exchange(&token).await.token());
        if signed_by == next.kid {
            break;
        }
        assert_eq!(signed_by, first);
        assert!(Instant::now() < deadline, "the new key does not sign");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    house.close().await;
}

#[tokio::test]
async fn a_token_whose_key_is_gone_is_exchanged_no_more_though_it_was_verified_before() {
    let house = House::open_multi_user(|_| {}).await;
    let token = token(&house, "daemon").await;
    house.exchange(&token).await.token();
    house
        .service
        .ring
        .replace(vec![SigningKey::generate(clock::now_s()).unwrap().0]);
    let answer = house.exchange(&token).await;
    answer.is_no_warrant("invalid_request", "subject-token");
    house.close().await;
}

#[tokio::test]
async fn many_warrants_come_over_one_connection() {
    let house = Arc::new(House::open_multi_user(|_| {}).await);
    let token = token(&house, "daemon").await;
    let answers = house
        .send_all((0..200).map(|_| exchange(&exchange_fields(&token))))
        .await;
    assert_eq!(answers.len(), 200);
    let ids: std::collections::HashSet<_> = answers
        .iter()
        .map(|answer| claims_of(answer.token())["jti"].to_string())
        .collect();
    assert_eq!(ids.len(), 200);
    Arc::into_inner(house).unwrap().close().await;
}
