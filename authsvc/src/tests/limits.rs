//! The sockets, and what they bear.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use axum::http::Method;
use serde_json::json;

use super::house::{House, form, request, settings};
use crate::config::SocketMode;
use crate::error::{Error, Kind};
use crate::http::Server;

#[tokio::test]
async fn health_is_the_databases_answer() {
    let house = House::open().await;
    let answer = house.get("/healthz").await;
    assert_eq!(
        (answer.status.as_u16(), answer.body),
        (200, json!({"status": "ok"}))
    );
    house.db.close().await;
    let answer = house.get("/healthz").await;
    answer.is_refused(503, "The user database did not answer.");
    let answer = house.login("ann", "pw", "192.0.2.1").await;
    answer.is_refused(
        503,
        "Logins are not possible at the moment. The user database is unavailable.",
    );
    house.close().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_as_fastapi_does() {
    let house = House::open().await;
    house.get("/").await.is_refused(404, "Not Found");
    house
        .get("/v1/token")
        .await
        .is_refused(405, "Method Not Allowed");
    let answer = house
        .send(request(Method::DELETE, "/v1/auth", &[], ""))
        .await;
    answer.is_refused(405, "Method Not Allowed");
    house.close().await;
}

#[tokio::test]
async fn a_body_and_a_head_that_are_too_long_are_refused() {
    let house = House::open().await;
    let body = format!("username=ann&password={}", "x".repeat(70_000));
    assert_eq!(house.send(form(&body, "192.0.2.1")).await.status, 413);
    let long = "x".repeat(140_000);
    let headers = [("authorization", long.as_str())];
    let answer = house
        .send(request(Method::POST, "/v1/token", &headers, ""))
        .await;
    assert_eq!(answer.status, 431);
    house.close().await;
}

#[tokio::test]
async fn the_socket_has_its_mode_and_goes_with_the_service() {
    for (mode, bits) in [(SocketMode::Owner, 0o600), (SocketMode::Group, 0o660)] {
        let house = House::open_with(&[], |config| config.listen.socket_mode = mode).await;
        let found = fs::metadata(&house.socket).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, bits);
        let socket = house.socket.clone();
        let _dir = house.close().await;
        assert!(!socket.exists());
    }
}

async fn refusal(dir: &tempfile::TempDir) -> Error {
    Server::bind(&settings(dir, &[], |_| {}).config.listen)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_directory_that_others_can_write_to_is_refused_for_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o1777, 0o702] {
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        assert_eq!(refusal(&dir).await.kind, Kind::Insecure, "{mode:o}");
    }
}

#[tokio::test]
async fn a_second_service_and_a_file_in_the_way_are_refused_but_a_dead_socket_is_not() {
    let house = House::open().await;
    assert_eq!(refusal(&house.dir).await.kind, Kind::Conflict);
    assert_eq!(house.get("/healthz").await.status, 200);
    house.close().await;

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("authsvc.sock"), "").unwrap();
    assert_eq!(refusal(&dir).await.kind, Kind::Conflict);

    let dir = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("authsvc.sock")).unwrap());
    let house = House::open_in(dir, &[], |_| {}).await;
    assert_eq!(house.get("/healthz").await.status, 200);
    house.close().await;
}
