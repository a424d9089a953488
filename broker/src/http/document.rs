//! The description of what is no dialect's own: who one is, keys, tokens,
//! pages. Most of it is handed on to the auth service, so that there is no
//! handler here to describe it. What every operation may answer besides is in
//! [`answers`].

use axum::http::Method;
use utoipa::OpenApi;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi as Document, Ref, Required, Server};
use warrant_api::credential::SessionInfo;
use warrant_api::flux::Detail;
use warrant_api::keys::{CreatedKey, KeyInfo, KeyList, NewKey, RevokedKeys};
use warrant_api::oauth::{
    Authorized, DeviceDecided, DeviceStart, Granted, Introspection, Metadata, MtlsAliases,
};
use warrant_api::token::{AuthInfo, Confirmation, OAuthError, OidcInfo, Role, TokenAnswer};
use warrant_door::Prefix;

use super::{access, answers, schemes};

/// What the operations below name.
#[derive(OpenApi)]
#[openapi(components(schemas(
    AuthInfo,
    Authorized,
    Confirmation,
    CreatedKey,
    Detail,
    DeviceDecided,
    DeviceStart,
    Granted,
    Introspection,
    KeyInfo,
    KeyList,
    Metadata,
    MtlsAliases,
    NewKey,
    OAuthError,
    OidcInfo,
    RevokedKeys,
    Role,
    SessionInfo,
    TokenAnswer,
)))]
struct Schemas;

/// What a body holds.
#[derive(Clone, Copy)]
enum Body {
    Nothing,
    /// A form with these fields.
    Form(&'static [&'static str]),
    /// JSON of this schema.
    Json(&'static str),
    /// A JSON object that is described elsewhere.
    OtherJson,
    Page,
}

/// Whether an operation is there also where users get their tokens and
/// warrants from the auth service itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Always,
    HandingTokensOn,
}

/// One operation.
struct Told {
    there: There,
    tag: &'static str,
    verb: Verb,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    takes: Body,
    /// By status.
    gives: [(&'static str, Body); 2],
}

/// A method that some route has.
#[derive(Clone, Copy)]
enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    fn of_openapi(self) -> HttpMethod {
        match self {
            Self::Get => HttpMethod::Get,
            Self::Post => HttpMethod::Post,
            Self::Delete => HttpMethod::Delete,
        }
    }

    fn of_http(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Delete => Method::DELETE,
        }
    }
}

type At = (Verb, &'static str);
/// Its operation id, and a sentence on it.
type Words = [&'static str; 2];

/// What `/v1` has beside the dialect.
const fn v1((verb, path): At, [id, summary]: Words, takes: Body, gives: Body) -> Told {
    Told {
        there: There::Always,
        tag: "session",
        verb,
        path,
        id,
        summary,
        takes,
        gives: [("2XX", gives), ("4XX", Body::Json("Detail"))],
    }
}

/// An endpoint of OAuth 2.0.
const fn oauth((verb, path): At, [id, summary]: Words, takes: Body, gives: Body) -> Told {
    Told {
        there: There::HandingTokensOn,
        tag: "oauth",
        verb,
        path,
        id,
        summary,
        takes,
        gives: [("200", gives), ("4XX", Body::Json("OAuthError"))],
    }
}

/// A page for people, or where one sends its form.
const fn page((verb, path): At, [id, summary]: Words, takes: Body) -> Told {
    Told {
        there: There::HandingTokensOn,
        tag: "pages",
        verb,
        path,
        id,
        summary,
        takes,
        gives: [("default", Body::Page), ("3XX", Body::Nothing)],
    }
}

const GET: Verb = Verb::Get;
const POST: Verb = Verb::Post;
const DELETE: Verb = Verb::Delete;
const CLIENT_ASKS: &[&str] = &["token", "token_type_hint", "client_id", "client_secret"];
/// The fields of a page's form are the page's own matter.
const FORM: Body = Body::Form(&[]);

static TOLD: [Told; 28] = [
    v1(
        (GET, "/v1/session"),
        ["show_session", "Who one is, and what one may do"],
        Body::Nothing,
        Body::Json("SessionInfo"),
    ),
    v1(
        (GET, "/v1/keys"),
        ["list_keys", "API keys: one's own, or somebody's (?user=)"],
        Body::Nothing,
        Body::Json("KeyList"),
    ),
    v1(
        (POST, "/v1/keys"),
        ["create_key", "Make an API key, which is shown this once"],
        Body::Json("NewKey"),
        Body::Json("CreatedKey"),
    ),
    v1(
        (DELETE, "/v1/keys"),
        [
            "revoke_keys",
            "Revoke every API key: one's own, or somebody's (?user=)",
        ],
        Body::Nothing,
        Body::Json("RevokedKeys"),
    ),
    v1(
        (DELETE, "/v1/keys/{id}"),
        ["revoke_key", "Revoke an API key"],
        Body::Nothing,
        Body::Json("RevokedKeys"),
    ),
    v1(
        (GET, "/v1/auth"),
        ["get_auth", "How to log in"],
        Body::Nothing,
        Body::Json("AuthInfo"),
    ),
    v1(
        (POST, "/v1/token"),
        [
            "exchange_payload",
            "A token for a login payload, which stands in the head as a bearer",
        ],
        Body::Nothing,
        Body::Json("TokenAnswer"),
    ),
    v1(
        (POST, "/v1/login/access-token"),
        ["login", "A token for a name and a password"],
        Body::Form(&["username", "password"]),
        Body::Json("TokenAnswer"),
    ),
    v1(
        (GET, "/.well-known/jwks.json"),
        ["get_keys", "The keys that sign access tokens (RFC 7517)"],
        Body::Nothing,
        Body::OtherJson,
    ),
    oauth(
        (GET, "/.well-known/oauth-authorization-server"),
        ["get_metadata", "What this server does (RFC 8414)"],
        Body::Nothing,
        Body::Json("Metadata"),
    ),
    oauth(
        (POST, "/oauth/token"),
        [
            "give_token",
            "Tokens for what the grant wants (RFC 6749, 7636, 8628, 8693)",
        ],
        Body::Form(&[
            "grant_type",
            "client_id",
            "client_secret",
            "scope",
            "username",
            "password",
            "refresh_token",
            "code",
            "code_verifier",
            "redirect_uri",
            "device_code",
            "subject_token",
            "subject_token_type",
        ]),
        Body::Json("Granted"),
    ),
    oauth(
        (POST, "/oauth/device_authorization"),
        ["begin_device", "Let a device begin to log in (RFC 8628)"],
        Body::Form(&["client_id", "client_secret", "scope"]),
        Body::Json("DeviceStart"),
    ),
    oauth(
        (POST, "/oauth/revoke"),
        ["revoke_token", "End a token (RFC 7009)"],
        Body::Form(CLIENT_ASKS),
        Body::OtherJson,
    ),
    oauth(
        (POST, "/oauth/introspect"),
        ["introspect_token", "What is known of a token (RFC 7662)"],
        Body::Form(CLIENT_ASKS),
        Body::Json("Introspection"),
    ),
    page(
        (GET, "/oauth/authorize"),
        ["show_authorize", "Whether a client may come in (RFC 6749)"],
        Body::Nothing,
    ),
    page(
        (POST, "/oauth/authorize"),
        ["decide_authorize", "What was said to a client"],
        FORM,
    ),
    page(
        (GET, "/oauth/device"),
        ["show_device", "Whether a device may come in (RFC 8628)"],
        Body::Nothing,
    ),
    page(
        (POST, "/oauth/device"),
        ["decide_device", "What was said to a device"],
        FORM,
    ),
    page(
        (GET, "/login"),
        ["show_sign_in", "Where people sign in"],
        Body::Nothing,
    ),
    page(
        (POST, "/login"),
        ["sign_in", "Sign in with a name and a password"],
        FORM,
    ),
    page(
        (GET, "/login/oidc/{name}"),
        ["begin_sign_in", "Sign in with a provider"],
        Body::Nothing,
    ),
    page(
        (GET, "/login/oidc/{name}/callback"),
        ["complete_sign_in", "Where a provider sends people back to"],
        Body::Nothing,
    ),
    page((POST, "/logout"), ["sign_out", "Sign out"], FORM),
    page(
        (GET, "/account"),
        [
            "show_account",
            "Sessions and API keys of whoever is signed in",
        ],
        Body::Nothing,
    ),
    page(
        (POST, "/account/sessions"),
        ["end_sessions", "End sessions"],
        FORM,
    ),
    page(
        (POST, "/account/keys"),
        [
            "create_key_on_page",
            "Make an API key, which is shown this once",
        ],
        FORM,
    ),
    page(
        (POST, "/account/keys/revoke"),
        ["revoke_key_on_page", "Revoke an API key"],
        FORM,
    ),
    page(
        (POST, "/account/password"),
        ["change_password", "Change the password"],
        FORM,
    ),
];

/// `dialect`, and everything else that is served beside it; `own_warrants` as
/// in [`super::Shared`].
pub(super) fn complete(mut dialect: Document, own_warrants: bool, prefix: &Prefix) -> Document {
    let mut whole = Schemas::openapi();
    let there = |told: &&Told| told.there == There::Always || !own_warrants;
    for told in TOLD.iter().filter(there) {
        whole
            .paths
            .add_path_operation(told.path, vec![told.verb.of_openapi()], told.operation());
    }
    dialect.merge(whole);
    answers::describe(&mut dialect);
    schemes::add(&mut dialect, own_warrants, prefix);
    if !prefix.is_empty() {
        dialect.servers = Some(vec![Server::new(prefix.as_str())]);
    }
    dialect
}

impl Told {
    fn operation(&self) -> Operation {
        let mut operation = OperationBuilder::new()
            .tag(self.tag)
            .operation_id(Some(self.id))
            .summary(Some(self.summary))
            .request_body(self.takes.request());
        for part in self.path.split('/') {
            if let Some(name) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                let parameter = ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
                operation = operation.parameter(parameter);
            }
        }
        for (status, body) in self.gives {
            operation = operation.response(status, body.response());
        }
        // What the whole document says of tokens holds unless a route says
        // otherwise.
        if access::is_open(&self.verb.of_http(), self.path) {
            operation = operation.securities(Some([]));
        }
        operation.build()
    }
}

impl Body {
    /// Its media type, and what is known of what it holds.
    fn content(self) -> Option<(&'static str, Content)> {
        let json = "application/json";
        match self {
            Self::Nothing => None,
            Self::Form(fields) => {
                let mut form = ObjectBuilder::new();
                for field in fields {
                    let text = ObjectBuilder::new().schema_type(Type::String);
                    form = form.property(*field, text);
                }
                let content = ContentBuilder::new().schema(Some(form)).build();
                Some(("application/x-www-form-urlencoded", content))
            }
            Self::Json(schema) => {
                let schema = Ref::from_schema_name(schema);
                Some((json, ContentBuilder::new().schema(Some(schema)).build()))
            }
            Self::OtherJson => {
                let object = ObjectBuilder::new().schema_type(Type::Object);
                Some((json, ContentBuilder::new().schema(Some(object)).build()))
            }
            Self::Page => {
                let text = ObjectBuilder::new().schema_type(Type::String);
                let content = ContentBuilder::new().schema(Some(text)).build();
                Some(("text/html", content))
            }
        }
    }

    fn request(self) -> Option<RequestBody> {
        let (media_type, content) = self.content()?;
        let body = RequestBodyBuilder::new().content(media_type, content);
        Some(body.required(Some(Required::True)).build())
    }

    fn response(self) -> Response {
        let response = ResponseBuilder::new();
        match self.content() {
            Some((media_type, content)) => response.content(media_type, content).build(),
            None => response.build(),
        }
    }
}
