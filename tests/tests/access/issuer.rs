//! Who the tokens say that they are from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use warrant_tests::{Database, Flux, Setup};

fn claims(user: &Flux) -> Value {
    let payload = user.token().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn the_issuer_is_the_servers_url_unless_another_one_is_set() {
    let url = "https://jobs.example.org";
    for (set, issuer) in [
        (None, url),
        (Some("warrant"), "warrant"),
        (Some("urn:x"), "urn:x"),
    ] {
        let mut setup = Setup::on(Database::Sqlite).set("AUTHSVC__OAUTH__URL", url);
        if let Some(issuer) = set {
            setup = setup.set("AUTHSVC__TOKENS__ISSUER", issuer);
        }
        let house = setup.open();
        let ann = house.user("ann");
        assert_eq!(claims(&ann)["iss"], issuer);
        let about = ann.get("/.well-known/oauth-authorization-server").with(200);
        assert_eq!(about["issuer"], issuer);
        assert_eq!(about["token_endpoint"], format!("{url}/oauth/token"));
        // Both services take them, without being told.
        for path in ["/v1/nodes", "/v1/keys"] {
            assert_eq!(ann.get(path).status, 200, "{path}");
        }
        house.close();
    }
}

#[test]
fn a_broker_that_is_told_an_issuer_takes_no_other() {
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__AUTH__ISSUER", "https://elsewhere.example.org")
        .open();
    let ann = house.user("ann");
    assert_eq!(ann.get("/v1/nodes").status, 401);
    drop(house);
}
