//! The published Python clients, unmodified, against a whole installation.

use warrant_tests::house::ADMIN;
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
