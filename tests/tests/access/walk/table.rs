//! What everybody gets on every route. The only such table: a route of the
//! program that is not in it fails the walk.

use super::people::WALKERS;

/// The status for each walker, in their order.
pub(super) type Told = [u16; WALKERS.len()];

/// What somebody gets who asks for a job that is not theirs: where jobs run as
/// users, what is told about a job that there is not; where they do not, 403,
/// since the shared list shows it anyway.
pub(super) const FOREIGN: u16 = 1;
/// The same where its output is asked for.
pub(super) const FOREIGN_OUTPUT: u16 = 2;
/// The same where it is to be cancelled.
pub(super) const FOREIGN_CANCEL: u16 = 3;
/// Not asked, since nobody could ask for anything afterwards.
pub(super) const LAST: u16 = 0;

/// A request, the route that it is for, and the answers.
pub(super) struct Row {
    /// The method and the path as the program lists them.
    pub(super) route: &'static str,
    /// The path to ask for; JOB is a job of the owner's that has ended. The
    /// route's own path if empty.
    pub(super) path: &'static str,
    /// The body, JSON where it begins with a brace, and a form elsewhere.
    pub(super) body: &'static str,
    /// The answers.
    pub(super) told: Told,
}

const fn row(route: &'static str, path: &'static str, body: &'static str, told: Told) -> Row {
    Row {
        route,
        path,
        body,
        told,
    }
}

/// Nobody, and whoever shows what does not count, is told so; the others are
/// told each their own.
const fn known(told: [u16; 10]) -> Told {
    let [
        other,
        owner,
        operator,
        administrator,
        modest,
        read,
        submit,
        control,
        admin,
        key,
    ] = told;
    [
        401,
        401,
        401,
        401,
        401,
        401,
        key,
        other,
        owner,
        operator,
        administrator,
        modest,
        read,
        submit,
        control,
        admin,
    ]
}

/// Everybody is told the same.
const fn all(status: u16) -> Told {
    [status; WALKERS.len()]
}

//                      other     owner  operator  admin  modest   read submit control admin key
const READ: Told = known([200, 200, 200, 200, 200, 200, 403, 403, 403, 200]);
const SUBMIT: Told = known([200, 200, 200, 200, 200, 403, 200, 403, 403, 403]);
const JOB: Told = known([FOREIGN, 200, 200, 200, FOREIGN, 200, 403, 403, 403, 200]);
const OUTPUT: Told = known([
    FOREIGN_OUTPUT,
    200,
    403,
    200,
    FOREIGN_OUTPUT,
    200,
    403,
    403,
    403,
    200,
]);
// A job that has ended cannot be cancelled: who may cancel it is told so.
const CANCEL: Told = known([
    FOREIGN_CANCEL,
    400,
    400,
    400,
    FOREIGN_CANCEL,
    403,
    403,
    400,
    403,
    403,
]);
const STOP: Told = known([403, 403, 403, LAST, 403, 403, 403, 403, 403, 403]);
// A key takes a proof of its user: whatever token is shown, it is none.
const MAKE_KEY: Told = {
    let mut told = all(403);
    told[0] = 401;
    told
};
const END_KEYS: Told = known([200, 200, 200, 200, 200, 403, 403, 200, 403, 403]);
const NO_SUCH_KEY: Told = known([404, 404, 404, 404, 404, 403, 403, 404, 403, 403]);

// Whoever logged in is told what is wrong with the request; a key is no login.
const SIGNED_IN: Told = known([400, 400, 400, 400, 400, 400, 400, 400, 400, 401]);

const DEVICE: &str = "{\"user_code\": \"BCDF-GHJK\", \"decision\": \"approve\"}";
const LABEL: &str = "{\"label\": \"walk\", \"expires_in_days\": 1}";

/// Every route. Of a route that ends what walkers have the last comes last.
pub(super) const ROWS: [Row; 47] = [
    row("GET /v1/session", "", "", READ),
    row("GET /login", "", "", all(200)),
    row("POST /login", "", "", all(403)),
    // Not even a form: nobody is told more.
    row("POST /logout", "", "", all(400)),
    row("GET /account", "", "", all(303)),
    row("POST /account/sessions", "", "", all(400)),
    row("POST /account/keys", "", "", all(400)),
    row("POST /account/keys/revoke", "", "", all(400)),
    row("POST /account/password", "", "", all(400)),
    row("GET /oauth/device", "", "", all(405)),
    row("GET /v1/jobs", "", "", READ),
    row(
        "GET /v1/jobs",
        "/v1/jobs?details=true&listing=true",
        "",
        READ,
    ),
    row("GET /v1/jobs/search", "/v1/jobs/search?search=e", "", READ),
    row("GET /v1/nodes", "", "", READ),
    row(
        "POST /v1/jobs/submit",
        "/v1/jobs/submit?command=true",
        "",
        SUBMIT,
    ),
    row("GET /v1/jobs/{jobid}", "/v1/jobs/JOB", "", JOB),
    row("GET /v1/jobs/{jobid}", "/v1/jobs/JOB?legacy=true", "", JOB),
    row(
        "POST /v1/jobs/{jobid}/cancel",
        "/v1/jobs/JOB/cancel",
        "",
        CANCEL,
    ),
    row(
        "GET /v1/jobs/{jobid}/output",
        "/v1/jobs/JOB/output",
        "",
        OUTPUT,
    ),
    row(
        "GET /v1/jobs/{jobid}/output/stream",
        "/v1/jobs/JOB/output/stream",
        "",
        OUTPUT,
    ),
    row("POST /v1/service/stop", "", "", STOP),
    row("GET /v1/auth", "", "", all(200)),
    row("GET /.well-known/jwks.json", "", "", all(200)),
    row(
        "GET /.well-known/oauth-authorization-server",
        "",
        "",
        all(200),
    ),
    row("GET /login/oidc/{name}", "/login/oidc/campus", "", all(404)),
    row(
        "GET /login/oidc/{name}/callback",
        "/login/oidc/campus/callback",
        "",
        all(404),
    ),
    row("GET /openapi.json", "", "", all(200)),
    row("GET /docs", "", "", all(307)),
    row("GET /docs/", "", "", all(200)),
    row("GET /docs/{*path}", "/docs/index.css", "", all(200)),
    row("GET /redoc", "", "", all(307)),
    // What the broker hands on, and the auth service judges.
    row("POST /v1/token", "", "", all(400)),
    row("POST /v1/login/access-token", "", "", all(422)),
    row("POST /oauth/token", "", "", all(400)),
    row("GET /oauth/authorize", "", "", all(400)),
    row("POST /oauth/authorize", "", "{}", SIGNED_IN),
    row(
        "POST /oauth/device_authorization",
        "",
        "client_id=unknown",
        all(401),
    ),
    row("POST /oauth/device", "", DEVICE, SIGNED_IN),
    row("POST /oauth/revoke", "", "token=x", all(401)),
    row("POST /oauth/introspect", "", "token=x", all(401)),
    row("GET /v1/keys", "", "", READ),
    row("POST /v1/keys", "", LABEL, MAKE_KEY),
    row(
        "DELETE /v1/keys/{id}",
        "/v1/keys/abcdefghijkl",
        "",
        NO_SUCH_KEY,
    ),
    row("DELETE /v1/keys", "", "", END_KEYS),
    row("GET /nothing", "", "", all(404)),
    row("DELETE /v1/jobs/{jobid}", "/v1/jobs/JOB", "", all(405)),
    row("PUT /v1/jobs", "", "", all(405)),
];
