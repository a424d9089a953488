//! What every operation may answer besides what it says itself, and a
//! description of each answer, which OpenAPI wants.

use axum::http::{Method, StatusCode};
use utoipa::openapi::content::Content;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr};

use super::access;

const JSON: &str = "application/json";
/// Refusals in words that any operation may answer, of the shape of a request,
/// its rate and the state of the service.
const ANY: [u16; 4] = [400, 429, 500, 503];
/// The same, of operations that take a body.
const OF_BODIES: [u16; 2] = [413, 415];
/// The same, of operations that take a token.
const OF_TOKENS: [u16; 2] = [401, 403];

/// Complete the answers of every operation.
pub(super) fn describe(document: &mut Document) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete(path, &method, operation);
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = words(status).to_owned();
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
    ];
    let there = |(method, operation): (Method, _)| {
        let operation: &mut Option<Operation> = operation;
        operation.as_mut().map(|operation| (method, operation))
    };
    all.into_iter().filter_map(there)
}

fn complete(path: &str, method: &Method, operation: &mut Operation) {
    let has = |tag: &str| operation.tags.iter().flatten().any(|own| own == tag);
    if has("pages") {
        return of_page(operation);
    }
    let mut refusals = ANY.to_vec();
    if operation.request_body.is_some() {
        refusals.extend(OF_BODIES);
    }
    if !access::is_open(method, path) {
        refusals.extend(OF_TOKENS);
    }
    for status in refusals {
        allow(operation, status, "Detail");
    }
    if operation.operation_id.as_deref() == Some("login") {
        allow(operation, 422, "BadParameters");
    }
}

/// A page is HTML for a browser, and words or JSON for a program.
fn of_page(operation: &mut Operation) {
    let Some(RefOr::T(response)) = operation.responses.responses.get_mut("default") else {
        return;
    };
    let text = ObjectBuilder::new().schema_type(Type::String);
    let plain = Content::new(Some(text));
    response.content.insert("text/plain".into(), plain.into());
    for schema in ["Detail", "OAuthError", "Authorized", "DeviceDecided"] {
        add(response, schema);
    }
}

/// Let `operation` answer `schema` with `status`, besides what it answers with
/// that, or with all of its kind.
fn allow(operation: &mut Operation, status: u16, schema: &str) {
    let all = &mut operation.responses.responses;
    let range = format!("{}XX", status / 100);
    let status = status.to_string();
    let key = if !all.contains_key(&status) && all.contains_key(&range) {
        range
    } else {
        status
    };
    let response = all.entry(key).or_insert_with(|| Response::new("").into());
    if let RefOr::T(response) = response {
        add(response, schema);
    }
}

fn add(response: &mut Response, schema: &str) {
    let more: RefOr<Schema> = Ref::from_schema_name(schema).into();
    let content = response.content.entry(JSON.into());
    let RefOr::T(content) = content.or_insert_with(|| Content::default().into()) else {
        return;
    };
    content.schema = Some(match content.schema.take() {
        None => more,
        Some(known) if known == more => known,
        Some(RefOr::T(Schema::AnyOf(mut any))) => {
            if !any.items.contains(&more) {
                any.items.push(more);
            }
            RefOr::T(Schema::AnyOf(any))
        }
        Some(known) => AnyOfBuilder::new().item(known).item(more).into(),
    });
}

/// What a status means, in words.
fn words(status: &str) -> &str {
    match status {
        "2XX" => "Done",
        "3XX" => "Go on elsewhere",
        "4XX" => "Refused",
        "5XX" => "Not possible now",
        "default" => "A page, or a refusal",
        _ => status
            .parse()
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .and_then(|status| status.canonical_reason())
            .unwrap_or("An answer"),
    }
}
