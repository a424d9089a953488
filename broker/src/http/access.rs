//! Who may use which route: one table, looked at before any handler. A route
//! that is not in it is nobody's.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use warrant_api::scope::Scope;
use warrant_api::token::Role;
use warrant_door::Misread;

use super::Shared;
use super::browser;
use super::flux::fault::Fault;
use super::limits::Allowance;
use super::listen::Client;
use super::possession::Asked;
use crate::caller::Caller;
use crate::service::check_role;

/// A route, and what it takes to use it.
#[derive(Debug)]
pub(super) struct Route {
    method: Method,
    path: &'static str,
    need: Need,
}

/// What it takes to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// A token with this scope, of a caller with this role at least.
    Token(Scope, Role),
}

const fn open(method: Method, path: &'static str) -> Route {
    Route {
        method,
        path,
        need: Need::Nothing,
    }
}

const fn with(scope: Scope, method: Method, path: &'static str) -> Route {
    Route {
        method,
        path,
        need: Need::Token(scope, Role::User),
    }
}

/// Every route of the main listener. HEAD is GET without the body.
pub(super) static TABLE: [Route; 42] = [
    with(Scope::Read, Method::GET, "/v1/jobs"),
    with(Scope::Read, Method::GET, "/v1/jobs/search"),
    with(Scope::Submit, Method::POST, "/v1/jobs/submit"),
    with(Scope::Read, Method::GET, "/v1/jobs/{jobid}"),
    with(Scope::Control, Method::POST, "/v1/jobs/{jobid}/cancel"),
    with(Scope::Read, Method::GET, "/v1/jobs/{jobid}/output"),
    with(Scope::Read, Method::GET, "/v1/jobs/{jobid}/output/stream"),
    with(Scope::Read, Method::GET, "/v1/nodes"),
    Route {
        method: Method::POST,
        path: "/v1/service/stop",
        need: Need::Token(Scope::Admin, Role::Administrator),
    },
    with(Scope::Read, Method::GET, "/v1/session"),
    with(Scope::Read, Method::GET, "/v1/keys"),
    open(Method::POST, "/v1/keys"),
    with(Scope::Control, Method::DELETE, "/v1/keys"),
    with(Scope::Control, Method::DELETE, "/v1/keys/{id}"),
    open(Method::GET, "/v1/auth"),
    open(Method::POST, "/v1/token"),
    open(Method::POST, "/v1/login/access-token"),
    open(Method::GET, "/.well-known/jwks.json"),
    open(Method::GET, "/.well-known/oauth-authorization-server"),
    open(Method::POST, "/oauth/token"),
    open(Method::GET, "/oauth/authorize"),
    open(Method::POST, "/oauth/authorize"),
    open(Method::POST, "/oauth/device_authorization"),
    open(Method::GET, "/oauth/device"),
    open(Method::POST, "/oauth/device"),
    open(Method::POST, "/oauth/revoke"),
    open(Method::POST, "/oauth/introspect"),
    open(Method::GET, "/login"),
    open(Method::POST, "/login"),
    open(Method::GET, "/login/oidc/{name}"),
    open(Method::GET, "/login/oidc/{name}/callback"),
    open(Method::POST, "/logout"),
    open(Method::GET, "/account"),
    open(Method::POST, "/account/sessions"),
    open(Method::POST, "/account/keys"),
    open(Method::POST, "/account/keys/revoke"),
    open(Method::POST, "/account/password"),
    open(Method::GET, "/openapi.json"),
    open(Method::GET, "/docs"),
    open(Method::GET, "/docs/"),
    open(Method::GET, "/docs/{*path}"),
    open(Method::GET, "/redoc"),
];

/// The table for people: of each route its method, its path, the scope that it
/// takes and the least role; `-` where nothing is taken.
pub fn listed() -> impl Iterator<Item = [&'static str; 4]> {
    TABLE.iter().map(|route| {
        let [scope, role] = match route.need {
            Need::Nothing => ["-", "-"],
            Need::Token(scope, role) => [scope.name(), role_name(role)],
        };
        [route.method.as_str(), route.path, scope, role]
    })
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Operator => "operator",
        Role::Administrator => "administrator",
    }
}

/// What the table says of a route.
enum Found {
    Need(Need),
    /// The path is there, with other methods than this.
    OtherMethod,
    Unlisted,
}

fn find(method: &Method, path: &str) -> Found {
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut known = false;
    for route in TABLE.iter().filter(|route| route.path == path) {
        if route.method == *method {
            return Found::Need(route.need);
        }
        known = true;
    }
    if known {
        Found::OtherMethod
    } else {
        Found::Unlisted
    }
}

/// Whether a route of the table takes no token.
pub(super) fn is_open(method: &Method, path: &str) -> bool {
    matches!(find(method, path), Found::Need(Need::Nothing))
}

/// Let a request through to its handler, if whoever sent it may use the route.
pub(super) async fn check(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let source = source(&request);
    if let Err(misread) = judge_shape(&request) {
        let mut refusal = Fault::detail(misread.status, &*misread.why).into_response();
        misread.write(refusal.headers_mut());
        return refusal;
    }
    let path = request.extensions().get::<MatchedPath>();
    let found = match path {
        Some(path) => find(request.method(), path.as_str()),
        // Nothing is there; what says so is everybody's.
        None => Found::Need(Need::Nothing),
    };
    match found {
        Found::Need(Need::Nothing) => match refused(shared.limits.source(source)) {
            Some(refusal) => refusal,
            None => next.run(request).await,
        },
        Found::Need(Need::Token(scope, role)) => {
            admitted(shared, request, next, source, scope, role).await
        }
        Found::OtherMethod => other_method(path.map_or("", MatchedPath::as_str)),
        Found::Unlisted => {
            tracing::error!(?path, "a route is not in the access table");
            Fault::detail(StatusCode::FORBIDDEN, "Forbidden").into_response()
        }
    }
}

async fn admitted(
    shared: Shared,
    mut request: Request,
    next: Next,
    source: Option<IpAddr>,
    scope: Scope,
    role: Role,
) -> Response {
    let asked = Asked {
        method: request.method(),
        path: request.uri().path(),
        headers: request.headers(),
    };
    let admitted = shared.gate.admit(&asked, source, &shared.limits).await;
    let (caller, by) = match admitted {
        Ok((caller, by)) => (Caller { source, ..caller }, by),
        Err(turned) => {
            if let Some(refusal) = refused(shared.limits.source(source)) {
                return refusal;
            }
            if let Some((caller, reason)) = &turned.known {
                shared.jobs.turned_away(caller, route(&request), reason);
            }
            return turned.fault.into_response();
        }
    };
    let allowance = shared.limits.principal(&caller, source);
    if let Some(refusal) = refused(allowance) {
        return refusal;
    }
    let asked = browser::check(&by, request.method(), request.headers(), &shared.origin);
    let allowed = match (asked, check_role(&caller, role)) {
        (Err(unasked), _) => {
            let fault = Fault::detail(StatusCode::FORBIDDEN, unasked.text());
            Err((fault, unasked.reason()))
        }
        (Ok(()), Ok(())) => shared
            .gate
            .check_scope(&caller, scope)
            .map_err(|fault| (fault, "scope")),
        (Ok(()), Err(error)) => Err((error.into(), "role")),
    };
    let mut response = match allowed {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(Arc::new(by));
            next.run(request).await
        }
        Err((fault, reason)) => {
            shared.jobs.turned_away(&caller, route(&request), reason);
            fault.into_response()
        }
    };
    if let Some(allowance) = allowance {
        allowance.write(response.headers_mut());
    }
    response
}

/// A request's route, for the audit trail.
fn route(request: &Request) -> String {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("", MatchedPath::as_str);
    format!("{} {path}", request.method())
}

fn source(request: &Request) -> Option<IpAddr> {
    let client = request.extensions().get::<Client>();
    client.and_then(|Client(address)| *address)
}

fn judge_shape(request: &Request) -> Result<(), Misread> {
    if let Some(misread) = request.extensions().get::<Misread>() {
        return Err(misread.clone());
    }
    let query = request.uri().query().unwrap_or_default();
    // Source: RFC 6750 §2.3, §5.3: addresses are written into logs.
    let tokens = ["access_token=", "api_key="];
    let shown = |pair: &str| tokens.iter().any(|name| pair.starts_with(name));
    if query.split('&').any(shown) {
        let why = "Tokens and keys belong into headers, never into the address.";
        return Err(Misread::bad(why));
    }
    Ok(())
}

/// 429, where there is nothing left.
fn refused(allowance: Option<Allowance>) -> Option<Response> {
    let allowance = allowance.filter(|allowance| !allowance.granted)?;
    let mut response = Fault::too_many().into_response();
    allowance.write(response.headers_mut());
    Some(response)
}

/// The paths of all routes, as they are declared.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|route| route.path)
}

/// 405, with the methods that there are.
fn other_method(path: &str) -> Response {
    let mut allow = String::new();
    for route in TABLE.iter().filter(|route| route.path == path) {
        allow.push_str(if allow.is_empty() { "" } else { ", " });
        allow.push_str(route.method.as_str());
        if route.method == Method::GET {
            allow.push_str(", HEAD");
        }
    }
    let words = "Method Not Allowed";
    let mut response = Fault::detail(StatusCode::METHOD_NOT_ALLOWED, words).into_response();
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn table() -> BTreeSet<(String, &'static str)> {
        let routes = TABLE.iter();
        let routes: BTreeSet<_> = routes
            .map(|route| (route.method.as_str().to_lowercase(), route.path))
            .collect();
        assert_eq!(routes.len(), TABLE.len(), "a route is there twice");
        routes
    }

    /// What shows the document describes itself.
    const SHOW_THE_DOCUMENT: [&str; 5] = [
        "/openapi.json",
        "/docs",
        "/docs/",
        "/docs/{*path}",
        "/redoc",
    ];

    #[test]
    fn t110_the_document_has_exactly_the_tables_routes_and_says_which_are_open() {
        let document = serde_json::to_value(super::super::document()).unwrap();
        let mut told = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let verb: Method = method.to_uppercase().parse().unwrap();
                let says_open = operation["security"] == serde_json::json!([]);
                assert_eq!(says_open, is_open(&verb, path), "{method} {path}");
                told.insert((method.clone(), path.clone()));
            }
        }
        let routes = table().into_iter();
        let routes: BTreeSet<_> = routes
            .filter(|(_, path)| !SHOW_THE_DOCUMENT.contains(path))
            .map(|(method, path)| (method, path.to_owned()))
            .collect();
        assert_eq!(told, routes);
    }

    #[test]
    fn every_route_of_the_dialect_needs_a_token() {
        let document = serde_json::to_value(super::super::flux::document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 9);
        for (path, methods) in paths {
            for method in methods.as_object().unwrap().keys() {
                let method = method.to_uppercase().parse().unwrap();
                assert!(!is_open(&method, path), "{method} {path}");
            }
        }
    }

    #[test]
    fn where_users_get_their_own_warrants_the_document_leaves_out_what_is_not_served() {
        let (_, dialect) = super::super::flux::routes();
        let document = super::super::document::complete(dialect, true, &Default::default());
        let document = serde_json::to_value(document).unwrap();
        let told: BTreeSet<_> = document["paths"].as_object().unwrap().keys().collect();
        let printed = format!("{:?}", super::super::routes(true, &Default::default()));
        let served = |path: &str| printed.contains(&format!("\"{path}\""));
        assert!(served("/v1/session") && !served("/oauth/token"));
        for (_, path) in table() {
            if !SHOW_THE_DOCUMENT.contains(&path) {
                assert_eq!(told.contains(&path.to_owned()), served(path), "{path}");
            }
        }
    }

    #[test]
    fn t110_the_table_has_exactly_the_routers_paths() {
        // What axum prints of a router names its paths.
        let printed = format!("{:?}", super::super::routes(false, &Default::default()));
        let served: BTreeSet<&str> = printed
            .split('"')
            // Both are axum's own, for what no route serves.
            .filter(|text| text.starts_with('/') && *text != "/" && !text.contains("__private"))
            .collect();
        let listed: BTreeSet<&str> = table().into_iter().map(|(_, path)| path).collect();
        assert!(served.len() > 10, "{printed}");
        assert_eq!(served, listed);
    }
}
