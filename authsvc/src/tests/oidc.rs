//! Tokens for ID tokens, and which ID tokens count.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use tokio::time::Instant;
use warrant_api::token::{ACCESS_TOKEN_URN, EXCHANGE_GRANT, ID_TOKEN_URN, Role};

use super::house::{Answer, House, exchange, settings};
use super::provider::{BROWSER, FakeProvider, Mood, PROGRAM, message};
use crate::clock;
use crate::commands::user::UserCommand;
use crate::config::{Config, Providers, Section};

/// A house that knows `provider`, with its settings changed.
pub(super) async fn open(provider: &FakeProvider, change: impl FnOnce(&mut Section)) -> House {
    open_with(provider, "database,oidc", change, |_| {}).await
}

async fn open_with(
    provider: &FakeProvider,
    backends: &str,
    change: impl FnOnce(&mut Section),
    configure: impl FnOnce(&mut Config),
) -> House {
    let mut section = provider.section();
    change(&mut section);
    House::open_with(&[("FLUX_AUTH_BACKEND", backends)], |config| {
        config.oidc = Providers::of(vec![section]);
        configure(config);
    })
    .await
}

fn fields(id_token: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("grant_type", EXCHANGE_GRANT),
        ("client_id", "warrant"),
        ("subject_token", id_token),
        ("subject_token_type", ID_TOKEN_URN),
    ]
}

/// Show `id_token`, from `source`.
async fn show_from(house: &House, id_token: &str, source: &str) -> Answer {
    let mut request = exchange(&fields(id_token));
    let headers = request.headers_mut();
    headers.insert("x-warrant-source", source.parse().unwrap());
    house.send(request).await
}

async fn show(house: &House, id_token: &str) -> Answer {
    show_from(house, id_token, "192.0.2.1").await
}

/// That nothing was given, and what is recorded.
async fn is_refused(house: &House, answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 400, "{reason}: {:?}", answer.body);
    assert_eq!(answer.body["error"], "invalid_grant", "{reason}");
    // Nobody is told what was wrong.
    assert_eq!(answer.body["reason"], "grant", "{reason}");
    let row = house.audit().await.pop().unwrap();
    assert_eq!(row.reason.as_deref(), Some(reason));
    assert_eq!(
        (row.kind.as_str(), row.outcome.as_str()),
        ("login", "refused")
    );
}

async fn refresh(house: &House, token: &str) -> Answer {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", "warrant"),
        ("refresh_token", token),
    ];
    house.send(exchange(&fields)).await
}

#[tokio::test]
async fn an_id_token_is_exchanged_for_tokens_once() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let id_token = provider.sign(&provider.claims("eve"));
    let answer = show(&house, &id_token).await;
    let (_, claims) = house.verify(answer.token()).await;
    assert_eq!((claims.sub.as_str(), claims.role), ("eve", Role::User));
    assert_eq!(claims.client_id, "warrant");
    assert_eq!(answer.body["issued_token_type"], ACCESS_TOKEN_URN);
    let row = house.audit().await.pop().unwrap();
    assert_eq!(
        (row.kind.as_str(), row.outcome.as_str()),
        ("login", "granted")
    );
    assert_eq!(row.detail.as_deref(), Some("oidc campus"));
    assert_eq!(row.subject.as_deref(), Some("eve"));

    let again = refresh(&house, answer.body["refresh_token"].as_str().unwrap()).await;
    assert_eq!(house.verify(again.token()).await.1.sub, "eve");

    is_refused(&house, &show(&house, &id_token).await, "id-token-used").await;
    house.close().await;
}

#[tokio::test]
async fn an_id_token_is_not_shown_again_in_another_spelling_or_process() {
    let provider = FakeProvider::start().await;
    let section = provider.section();
    let configure = |config: &mut Config| config.oidc = Providers::of(vec![section.clone()]);
    let house = open(&provider, |_| {}).await;
    let id_token = provider.sign(&provider.claims("eve"));
    show(&house, &id_token).await.token();
    let dir = house.close().await;
    let house = House::open_in(dir, &[("FLUX_AUTH_BACKEND", "oidc")], configure).await;
    is_refused(&house, &show(&house, &id_token).await, "id-token-used").await;
    for spelt in [
        format!("{id_token}="),
        format!("{id_token}\n"),
        format!(" {id_token}"),
    ] {
        assert_eq!(show(&house, &spelt).await.status, 400);
    }
    house.close().await;
}

#[tokio::test]
async fn the_provider_may_be_named_by_the_variables_of_the_flux_server() {
    let provider = FakeProvider::start().await;
    let Section {
        issuer, allow_http, ..
    } = provider.section();
    let variables = [
        ("FLUX_AUTH_BACKEND", "oidc"),
        ("FLUX_OIDC_ISSUER", &issuer),
        ("FLUX_OIDC_AUDIENCE", PROGRAM),
        ("FLUX_OIDC_USERNAME_CLAIM", "preferred_username"),
    ];
    let house = House::open_with(&variables, |config| {
        config.oidc = Providers::of(vec![Section {
            name: "campus".into(),
            allow_http,
            ..Section::default()
        }]);
    })
    .await;
    let answer = show(&house, &provider.sign(&provider.claims("eve"))).await;
    assert_eq!(house.verify(answer.token()).await.1.sub, "eve");
    let info = house.get("/v1/auth").await.body;
    assert_eq!(info["backend"], "oidc");
    assert_eq!(info["oidc"]["issuer"], issuer);
    house.close().await;
}

#[tokio::test]
async fn keys_may_be_elsewhere_than_a_provider_says_that_is_not_asked_then() {
    let provider = FakeProvider::start().await;
    let elsewhere = "https://id.example.org";
    let house = open(&provider, |section| {
        section.jwks_url = Some(format!("{}/jwks", section.issuer));
        section.issuer = elsewhere.into();
    })
    .await;
    let mut claims = provider.claims("eve");
    let own = show(&house, &provider.sign(&claims)).await;
    assert_eq!(own.status, 400);
    claims["iss"] = json!(elsewhere);
    let answer = show(&house, &provider.sign(&claims)).await;
    assert_eq!(house.verify(answer.token()).await.1.sub, "eve");
    house.close().await;
}

#[tokio::test]
async fn the_server_says_that_it_exchanges_id_tokens() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let about = house.get("/v1/auth").await.body;
    assert_eq!(about["backend"], "database");
    assert_eq!(about["oidc"]["issuer"], provider.issuer.as_str());
    assert_eq!(about["oidc"]["audience"], PROGRAM);
    let metadata = house
        .get("/.well-known/oauth-authorization-server")
        .await
        .body;
    let grants = metadata["grant_types_supported"].as_array().unwrap();
    assert!(grants.contains(&json!(EXCHANGE_GRANT)));
    house.close().await;

    let house = open(&provider, |section| section.audience.clear()).await;
    let metadata = house
        .get("/.well-known/oauth-authorization-server")
        .await
        .body;
    let grants = metadata["grant_types_supported"].as_array().unwrap();
    assert!(!grants.contains(&json!(EXCHANGE_GRANT)));
    let id_token = provider.sign(&provider.claims("eve"));
    is_refused(&house, &show(&house, &id_token).await, "no-exchange").await;
    house.close().await;
}

#[tokio::test]
async fn without_passwords_there_are_tokens_for_id_tokens_alone() {
    let provider = FakeProvider::start().await;
    let house = open_with(&provider, "oidc", |_| {}, |_| {}).await;
    let answer = house.login("ann", "pw", "192.0.2.1").await;
    let detail = "The oidc auth backend does not support password login.";
    answer.is_refused(400, detail);
    let about = house.get("/v1/auth").await.body;
    assert_eq!(
        (&about["backend"], &about["password_login"]),
        (&json!("oidc"), &json!(false))
    );
    let answer = show(&house, &provider.sign(&provider.claims("eve"))).await;
    let again = refresh(&house, answer.body["refresh_token"].as_str().unwrap()).await;
    assert_eq!(again.status, 200);
    house.close().await;
}

#[tokio::test]
async fn what_is_asked_for_must_be_what_an_id_token_gives() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let id_token = provider.sign(&provider.claims("eve"));
    for (name, value, error) in [
        (
            "requested_token_type",
            "urn:warrant:params:oauth:token-type:warrant",
            "invalid_request",
        ),
        ("actor_token", "x", "invalid_request"),
        ("job_sha256", "x", "invalid_request"),
        ("client_secret", "x", "invalid_client"),
        ("scope", "root", "invalid_scope"),
        ("scope", "admin", "invalid_scope"),
        ("audience", "elsewhere", "invalid_target"),
    ] {
        let mut fields = fields(&id_token);
        fields.push((name, value));
        let answer = house.send(exchange(&fields)).await;
        assert_eq!(answer.body["error"], error, "{name}={value}");
    }
    let nobody: Vec<_> = fields(&id_token)
        .into_iter()
        .filter(|(name, _)| *name != "client_id")
        .collect();
    let answer = house.send(exchange(&nobody)).await;
    assert_eq!(answer.body["error"], "invalid_client");
    // It was not used up by all that.
    show(&house, &id_token).await.token();
    house.close().await;
}

#[tokio::test]
async fn t101_an_id_token_that_the_provider_did_not_sign_is_refused() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let claims = provider.claims("eve");
    let thief = FakeProvider {
        key: SigningKey::from_bytes(&[66; 32]),
        ..provider.clone()
    };
    let stranger = FakeProvider::start().await;
    let public = provider.key.verifying_key();
    let x = URL_SAFE_NO_PAD.encode(public.as_bytes());
    let thiefs = URL_SAFE_NO_PAD.encode(thief.key.verifying_key().as_bytes());
    let own = json!({"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": thiefs});
    let hs256 = |secret: &[u8]| {
        let message = message(&json!({"alg": "HS256", "kid": "one"}), &claims);
        let key = EncodingKey::from_secret(secret);
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    let none = |alg: &str| format!("{}.", message(&json!({"alg": alg, "kid": "one"}), &claims));
    let good = provider.sign(&claims);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(provider.claims("ann").to_string());
    let by_thief = |header: Value| thief.sign_as(&header, &claims);
    let by_provider = |header: Value| provider.sign_as(&header, &claims);
    let cases = [
        ("id-token-algorithm", none("none")),
        ("id-token-algorithm", none("None")),
        ("id-token-algorithm", none("")),
        ("id-token-algorithm", hs256(public.as_bytes())),
        ("id-token-algorithm", hs256(x.as_bytes())),
        (
            "id-token-algorithm",
            by_provider(json!({"alg": "RS512", "kid": "one"})),
        ),
        (
            "id-token-algorithm",
            by_provider(json!({"alg": "eddsa", "kid": "one"})),
        ),
        (
            "id-token-key",
            by_provider(json!({"alg": "RS256", "kid": "one"})),
        ),
        (
            "id-token-key",
            by_provider(json!({"alg": "ES256", "kid": "one"})),
        ),
        (
            "id-token-key",
            by_provider(json!({"alg": "EdDSA", "kid": "../../etc/passwd"})),
        ),
        (
            "id-token-key",
            by_provider(json!({"alg": "EdDSA", "kid": ""})),
        ),
        (
            "id-token-key",
            by_provider(json!({"alg": "EdDSA", "kid": "one' or '1'='1"})),
        ),
        (
            "id-token-form",
            by_provider(json!({"alg": "EdDSA", "kid": 1})),
        ),
        (
            "id-token-form",
            by_provider(json!({"alg": "EdDSA", "kid": "k".repeat(257)})),
        ),
        (
            "id-token-form",
            by_provider(json!({"alg": "EdDSA", "kid": "one", "crit": ["exp"]})),
        ),
        (
            "id-token-form",
            by_provider(json!({"alg": "EdDSA", "kid": "one", "b64": false})),
        ),
        (
            "id-token-form",
            by_provider(json!({"alg": "EdDSA", "kid": "one", "typ": "at+jwt"})),
        ),
        (
            "id-token-form",
            by_provider(json!({"alg": "EdDSA", "kid": "one", "typ": "logout+jwt"})),
        ),
        (
            "id-token-signature",
            by_thief(json!({"alg": "EdDSA", "kid": "one"})),
        ),
        ("id-token-signature", by_thief(json!({"alg": "EdDSA"}))),
        (
            "id-token-signature",
            by_thief(json!({"alg": "EdDSA", "kid": "one", "jwk": own})),
        ),
        (
            "id-token-signature",
            by_thief(json!({
                "alg": "EdDSA", "kid": "one", "jku": format!("{}/jwks", stranger.issuer),
                "x5u": format!("{}/jwks", stranger.issuer), "x5c": ["AAAA"],
            })),
        ),
        (
            "id-token-signature",
            format!("{header}.{other}.{signature}"),
        ),
        ("id-token-signature", format!("{head}.")),
        (
            "id-token-signature",
            format!("{head}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        ),
        ("id-token-form", format!("{good}.{signature}")),
        ("id-token-form", head.to_owned()),
        ("id-token-form", "..".into()),
        ("id-token-form", "x".repeat(17 * 1024)),
        ("id-token-issuer", stranger.sign(&stranger.claims("eve"))),
    ];
    for (number, (reason, id_token)) in cases.iter().enumerate() {
        let answer = show_from(&house, id_token, &format!("192.0.2.{number}")).await;
        is_refused(&house, &answer, reason).await;
    }
    // An access token of this service is no ID token, either.
    let own = house.login("ann", "pw", "192.0.2.200").await;
    let answer = show_from(&house, own.token(), "192.0.2.201").await;
    is_refused(&house, &answer, "id-token-form").await;
    assert_eq!(
        stranger.shown().key_fetches,
        0,
        "an address of the header was asked"
    );
    assert_eq!(provider.shown().key_fetches, 1);
    show_from(&house, &good, "192.0.2.202").await.token();
    house.close().await;
}

#[tokio::test]
async fn t101_an_id_token_for_others_or_of_another_time_is_refused() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let now_s = clock::now_s();
    for (number, (name, value, reason)) in [
        // That of the browser's client never leaves this service.
        ("aud", json!(BROWSER), "id-token-audience"),
        ("aud", json!([PROGRAM, "other"]), "id-token-audience"),
        ("azp", json!("other"), "id-token-azp"),
        ("exp", json!(now_s - 1), "id-token-expired"),
        ("iat", json!(now_s + 120), "id-token-time"),
        ("nbf", json!(now_s + 120), "id-token-time"),
        ("iss", json!("https://evil.example.org"), "id-token-issuer"),
        ("preferred_username", json!("a/b"), "claim-name"),
        ("preferred_username", json!("root\0"), "claim-name"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut claims = provider.claims("eve");
        claims[name] = value;
        let answer = show_from(
            &house,
            &provider.sign(&claims),
            &format!("192.0.2.{number}"),
        )
        .await;
        is_refused(&house, &answer, reason).await;
    }
    house.close().await;
}

#[tokio::test]
async fn t101_unknown_keys_make_nobody_fetch_them_again_and_again() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    show(&house, &provider.sign(&provider.claims("eve")))
        .await
        .token();
    for number in 0..200 {
        let header = json!({"alg": "EdDSA", "kid": format!("key-{number}")});
        let id_token = provider.sign_as(&header, &provider.claims("eve"));
        let answer = show_from(&house, &id_token, &format!("192.0.2.{number}")).await;
        assert_eq!(answer.status, 400);
    }
    let (keys, discoveries) = {
        let shown = provider.shown();
        (shown.key_fetches, shown.discoveries)
    };
    assert!(keys <= 2 && discoveries <= 1, "{keys} {discoveries}");
    // Those that are known count meanwhile.
    let mut claims = provider.claims("eve");
    claims["jti"] = json!("other");
    show_from(&house, &provider.sign(&claims), "198.51.100.1")
        .await
        .token();
    house.close().await;
}

#[tokio::test]
async fn whoever_shows_many_that_do_not_count_is_not_listened_to_for_a_while() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let mut last = None;
    for _ in 0..15 {
        last = Some(show(&house, "x.y.z").await);
    }
    let last = last.unwrap();
    assert_eq!(last.status, 429);
    assert!(last.headers.contains_key("retry-after"));
    let other = show_from(&house, &provider.sign(&provider.claims("eve")), "192.0.2.2").await;
    assert_eq!(other.status, 200);
    // Passwords are not held up by it.
    house.login("ann", "pw", "192.0.2.1").await.token();
    house.close().await;
}

#[tokio::test]
async fn a_provider_that_answers_what_it_must_not_proves_nobody_and_holds_nobody_up() {
    type Change = fn(&FakeProvider);
    let cases: [(&str, Change); 7] = [
        ("silent", |provider| {
            provider.shown().discovery = Mood::Silent
        }),
        ("silent keys", |provider| {
            provider.shown().keys = Mood::Silent
        }),
        ("huge", |provider| provider.shown().keys = Mood::Huge),
        ("many keys", |provider| {
            provider.shown().kids = (0..65).map(|number| number.to_string()).collect();
        }),
        ("a redirect", |provider| {
            provider.shown().discovery = Mood::Elsewhere
        }),
        ("another issuer", |provider| {
            provider.shown().issuer = Some("https://evil.example.org".into());
        }),
        ("no JSON", |provider| {
            provider.shown().keys = Mood::Text("<html>".into())
        }),
    ];
    for (what, change) in cases {
        let provider = FakeProvider::start().await;
        change(&provider);
        let house = open(&provider, |_| {}).await;
        let id_token = provider.sign(&provider.claims("eve"));
        let began = Instant::now();
        let (shown, other) = tokio::join!(
            show(&house, &id_token),
            house.login("ann", "pw", "192.0.2.2")
        );
        assert_eq!(shown.status, 503, "{what}");
        assert_eq!(shown.body["error"], "temporarily_unavailable", "{what}");
        assert!(shown.headers.contains_key("retry-after"), "{what}");
        assert_eq!(other.status, 200, "{what}");
        assert!(began.elapsed().as_secs() < 12, "{what}");
        house.close().await;
    }
}

#[tokio::test]
async fn a_name_belongs_to_whom_it_was_first_or_to_whose_password_is_kept_here() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |section| {
        section.users = [("sub-linked".into(), "ann".into())].into();
    })
    .await;
    let say = |sub: &str, name: &str| {
        let mut claims = provider.claims(name);
        claims["sub"] = json!(sub);
        claims["jti"] = json!(format!("{sub} {name}"));
        provider.sign(&claims)
    };
    // `ann` has a password here.
    let answer = show(&house, &say("sub-ann", "ann")).await;
    is_refused(&house, &answer, "password-kept-here").await;
    let answer = show(&house, &say("sub-linked", "whoever")).await;
    assert_eq!(house.verify(answer.token()).await.1.sub, "ann");

    show(&house, &say("sub-eve", "eve")).await.token();
    let answer = show(&house, &say("sub-mallory", "eve")).await;
    is_refused(&house, &answer, "identity-other").await;
    let answer = show(&house, &say("sub-eve", "trudy")).await;
    is_refused(&house, &answer, "identity-renamed").await;

    // An administrator frees the name.
    let settings = settings(&house.dir, &[], |_| {});
    let delete = UserCommand::Delete { name: "eve".into() };
    delete.run(&settings, &house.db).await.unwrap();
    show(&house, &say("sub-mallory2", "eve")).await.token();
    house.close().await;
}

#[tokio::test]
async fn t105_a_disabled_user_of_a_provider_has_and_gets_nothing() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |_| {}).await;
    let answer = show(&house, &provider.sign(&provider.claims("eve"))).await;
    let (_, claims) = house.verify(answer.token()).await;
    let settings = |house: &House| {
        settings(&house.dir, &[("FLUX_AUTH_BACKEND", "oidc")], |config| {
            config.oidc = Providers::of(vec![provider.section()]);
        })
    };
    // One who never came can be disabled as well.
    for name in ["eve", "trudy"] {
        let disable = UserCommand::Disable { name: name.into() };
        disable.run(&settings(&house), &house.db).await.unwrap();
    }
    let alive = house.service.login.sessions.alive(&claims).await.unwrap();
    assert_eq!(alive, None);
    let again = refresh(&house, answer.body["refresh_token"].as_str().unwrap()).await;
    assert_eq!(again.body["error"], "invalid_grant");
    for name in ["eve", "trudy"] {
        let mut said = provider.claims(name);
        said["jti"] = json!("next");
        let answer = show(&house, &provider.sign(&said)).await;
        is_refused(&house, &answer, "user-disabled").await;
    }
    let enable = UserCommand::Enable {
        name: "trudy".into(),
    };
    enable.run(&settings(&house), &house.db).await.unwrap();
    show(&house, &provider.sign(&provider.claims("trudy")))
        .await
        .token();
    // A password that is none is no way in.
    for password in ["", "x"] {
        assert_ne!(
            house.login("trudy", password, "192.0.2.9").await.status,
            200
        );
    }
    house.close().await;
}

#[tokio::test]
async fn a_role_that_claims_give_ends_with_the_first_token() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |section| {
        section.require = [("groups".into(), json!("hpc"))].into();
        section.roles = [("ops".into(), Role::Operator)].into();
    })
    .await;
    let mut claims = provider.claims("eve");
    is_refused(
        &house,
        &show(&house, &provider.sign(&claims)).await,
        "claim-required",
    )
    .await;
    claims["groups"] = json!(["hpc", "ops"]);
    let answer = show(&house, &provider.sign(&claims)).await;
    assert_eq!(house.verify(answer.token()).await.1.role, Role::Operator);
    let again = refresh(&house, answer.body["refresh_token"].as_str().unwrap()).await;
    assert_eq!(house.verify(again.token()).await.1.role, Role::User);
    house.close().await;
}

#[tokio::test]
async fn operators_must_sign_in_in_the_way_that_is_required_of_them() {
    let provider = FakeProvider::start().await;
    let house = open(&provider, |section| {
        section.operator_require = [("amr".into(), json!(["mfa"]))].into();
        section.roles = [("ops".into(), Role::Operator)].into();
    })
    .await;
    let mut claims = provider.claims("eve");
    claims["amr"] = json!(["pwd"]);
    let answer = show(&house, &provider.sign(&claims)).await;
    assert_eq!(house.verify(answer.token()).await.1.role, Role::User);
    claims["groups"] = json!(["ops"]);
    let answer = show(&house, &provider.sign(&claims)).await;
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    assert_eq!(answer.body["reason"], "operator-claim");
    claims["amr"] = json!(["pwd", "mfa"]);
    let answer = show(&house, &provider.sign(&claims)).await;
    assert_eq!(house.verify(answer.token()).await.1.role, Role::Operator);
    house.close().await;
}

#[tokio::test]
async fn t28_in_multi_user_mode_a_proven_name_must_be_an_account_in_range() {
    let provider = FakeProvider::start().await;
    let house = open_with(
        &provider,
        "oidc,pam",
        |_| {},
        |config| {
            config.mode = crate::config::Mode::MultiUser;
            config.accounts.min_uid = 1;
            config.warrants.broker_uid = Some(nix::unistd::geteuid().as_raw());
        },
    )
    .await;
    let answer = show(&house, &provider.sign(&provider.claims("bin"))).await;
    assert_eq!(house.verify(answer.token()).await.1.uid, Some(2));
    for (name, reason) in [
        ("root", "uid-range"),
        ("nobody", "uid-range"),
        ("no-such-account", "account-unknown"),
    ] {
        let answer = show(&house, &provider.sign(&provider.claims(name))).await;
        is_refused(&house, &answer, reason).await;
    }
    house.close().await;
}
