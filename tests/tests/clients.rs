//! The published Python clients, unmodified, against a whole installation.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use warrant_tests::house::ADMIN;
use warrant_tests::openid::Provider;
use warrant_tests::ports::free_address;
use warrant_tests::python::Client;
use warrant_tests::{Database, House, Setup, on_each_database};

fn stopped(mut house: House) {
    assert!(house.broker_ended().success());
    house.close();
}

on_each_database! {
    fn every_method_of_the_old_client_works(setup: Setup) {
        let house = setup.open();
        if Client::Old.run(&house, "methods.py", &[]) {
            stopped(house);
        }
    }

    fn every_method_of_the_new_client_works(setup: Setup) {
        let house = setup.open();
        if Client::New.run(&house, "methods.py", &[]) {
            stopped(house);
        }
    }

    fn every_way_to_a_token_is_open_to_a_published_oauth_client(setup: Setup) {
        let house = setup.open();
        let grants = ["client_credentials", "authorization_code", "refresh_token"];
        let mut words = vec!["client", "add", "robot", "--owner", ADMIN, "--scope", "read submit"];
        words.extend(grants.iter().flat_map(|grant| ["--grant", grant]));
        words.extend(["--redirect-uri", "https://app.example.org/callback"]);
        let secret = house.authsvc_command(&words, "");
        Client::OAuth.run(&house, "oauth.py", &[("ROBOT_SECRET", secret.trim())]);
        house.close();
    }
}

/// How the server of the next test calls itself.
const PUBLIC: &str = "https://jobs.example.org/flux";

#[test]
fn a_published_library_makes_proofs_of_possession_that_hold_and_others_that_do_not() {
    for nonce in ["false", "true"] {
        let house = Setup::on(Database::Sqlite)
            .set("BROKER__LISTEN__PUBLIC_URL", PUBLIC)
            .set("AUTHSVC__OAUTH__URL", PUBLIC)
            .set("AUTHSVC__OAUTH__DPOP_NONCE", nonce)
            .open();
        Client::OAuth.run(&house, "dpop.py", &[("PUBLIC_URL", PUBLIC)]);
        house.close();
    }
}

#[test]
fn t107_users_of_a_certified_openid_provider_sign_in_with_programs_and_browsers() {
    if Client::OAuth.environment().is_none() {
        return;
    }
    let address = free_address().to_string();
    let callback = format!("http://{address}/login/oidc/campus/callback");
    let secret = "canary-secret-of-the-browsers-client";
    let Some(provider) = Provider::start(&callback, secret) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let secret_file = dir.path().join("secret");
    std::fs::write(&secret_file, secret).unwrap();
    std::fs::set_permissions(&secret_file, Permissions::from_mode(0o600)).unwrap();
    let section = format!(
        "[{{name=\"campus\", label=\"Campus\", issuer=\"{}\", allow_http=true, \
         client_id=\"warrant-web\", client_secret_file=\"{}\", \
         audience=[\"program-rs256\", \"program-es256\", \"program-eddsa\"], \
         username_strip=\"@example.org\", require={{groups=\"hpc-users\"}}, \
         roles={{hpc-operators=\"operator\"}}}}]",
        provider.issuer,
        secret_file.display()
    );
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__LISTEN__HTTP", &address)
        .set("AUTHSVC__OAUTH__URL", &format!("http://{address}"))
        .set("FLUX_AUTH_BACKEND", "shared-secret,oidc")
        .set("AUTHSVC__OIDC", &section)
        .open();
    let variables = [("ISSUER", provider.issuer.as_str())];
    Client::OAuth.run(&house, "openid.py", &variables);
    house.close();
}

#[test]
fn t113_t116_a_browser_walks_every_page_and_other_pages_cannot_use_it() {
    if Client::Browser.environment().is_none() {
        return;
    }
    walk_in_a_browser("");
    walk_in_a_browser("/warrant");
}

/// Every page of a server below `path` of its host, in a browser.
fn walk_in_a_browser(path: &str) {
    let address = free_address().to_string();
    let url = format!("http://{address}{path}");
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__LISTEN__HTTP", &address)
        .set("BROKER__LISTEN__PUBLIC_URL", &url)
        .set("AUTHSVC__OAUTH__URL", &url)
        .open();
    house.user("ann");
    let password = House::password("ann");
    let variables = [
        ("PERSON", "ann"),
        ("PERSON_PASSWORD", password.as_str()),
        ("FLUX_RESTFUL_HOST", &url),
    ];
    Client::Browser.run(&house, "browser.py", &variables);
    house.close();
}

#[test]
fn every_command_of_the_old_client_works() {
    let house = House::open();
    if Client::Old.run(&house, "commands.py", &[]) {
        stopped(house);
    }
}

#[test]
fn every_command_of_the_new_client_works() {
    let house = House::open();
    if Client::New.run(&house, "commands.py", &[]) {
        stopped(house);
    }
}

#[test]
fn the_clients_own_tests_pass_step_by_step() {
    for client in [Client::Old, Client::New] {
        let house = House::open();
        client.run(&house, "upstream.py", &[]);
        house.close();
    }
}

#[test]
fn clients_that_are_not_let_in_say_so_and_do_not_loop() {
    for (client, name) in [(Client::Old, "old"), (Client::New, "new")] {
        let house = House::open();
        client.run(&house, "refusals.py", &[("CLIENT", name)]);
        house.close();
    }
}
