//! Access tokens that the right key signed and that must not count all the same.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use warrant_tests::House;
use warrant_tests::handshake::part;

struct Forger {
    key: SigningKey,
    header: Value,
    claims: Value,
}

impl Forger {
    /// Takes the house's own key, and a token that counts as the pattern.
    fn of(house: &House) -> Self {
        let files = fs::read_dir(house.path("keys")).unwrap().flatten();
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let mut keys = texts.filter_map(|text| SigningKey::from_pkcs8_pem(&text).ok());
        let token = house.admin();
        let mut parts = token.token().split('.').map(|part| {
            let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
            serde_json::from_slice(&bytes).unwrap_or_default()
        });
        Self {
            key: keys.next().unwrap(),
            header: parts.next().unwrap(),
            claims: parts.next().unwrap(),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.token(&self.header, &claims)
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        self.token(&self.header, &claims)
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.token(&header, &self.claims)
    }
}

#[test]
fn a_token_counts_only_with_every_claim_in_order() {
    let house = House::open();
    let forger = Forger::of(&house);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let status = |token: &str| house.nobody().with_token(token).get("/v1/nodes").status;
    let intact = forger.token(&forger.header, &forger.claims);
    assert_eq!(
        status(&intact),
        200,
        "the forger's tokens count for nothing"
    );
    let wrong = [
        ("an hour old", forger.with_claim("exp", json!(now - 3600))),
        ("exp as text", forger.with_claim("exp", json!("soon"))),
        ("negative exp", forger.with_claim("exp", json!(-1))),
        (
            "from the future",
            forger.with_claim("iat", json!(now + 3600)),
        ),
        (
            "for another audience",
            forger.with_claim("aud", json!("else")),
        ),
        ("of another issuer", forger.with_claim("iss", json!("else"))),
        ("without a name", forger.with_claim("sub", json!(""))),
        (
            "of an unknown role",
            forger.with_claim("role", json!("root")),
        ),
        (
            "with an unknown claim",
            forger.with_claim("extra", json!(1)),
        ),
        ("without exp", forger.without_claim("exp")),
        ("without aud", forger.without_claim("aud")),
        ("without iss", forger.without_claim("iss")),
        ("without sub", forger.without_claim("sub")),
        ("of another type", forger.with_header("typ", json!("JWT"))),
        ("of no type", forger.with_header("typ", Value::Null)),
        (
            "of an unknown key",
            forger.with_header("kid", json!("else")),
        ),
        ("with crit", forger.with_header("crit", json!(["exp"]))),
        (
            "of another algorithm",
            forger.with_header("alg", json!("HS256")),
        ),
        ("unsigned", forger.with_header("alg", json!("none"))),
    ];
    for (what, token) in wrong {
        assert_eq!(status(&token), 401, "a token {what} counts");
    }
    house.close();
}

#[test]
fn a_token_stops_counting_when_its_time_is_over() {
    let house = House::open();
    let forger = Forger::of(&house);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let brief = forger.with_claim("exp", json!(now + 1));
    let caller = house.nobody().with_token(&brief);
    assert_eq!(caller.get("/v1/nodes").status, 200);
    // A token that was remembered as good is forgotten too.
    warrant_tests::wait::until("the token to run out", || {
        (caller.get("/v1/nodes").status == 401).then_some(())
    });
    house.close();
}
