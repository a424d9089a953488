//! HTTP to one server, with the login that it asks for.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, LOCATION};
use ureq::http::{Response, StatusCode};
use warrant_api::oauth::CERTIFICATE_GRANT;
use warrant_api::token::{ACCESS_TOKEN_URN, AUTHSVC_AUDIENCE, EXCHANGE_GRANT, WARRANT_URN};

use crate::auth::{Credentials, check_challenge, handshake, read_issued, subject};
use crate::clock::now_s;
use crate::failure::Failure;
use crate::refusal::describe;
use crate::secret::Secret;
use crate::server::Server;
use crate::terminal::{complain, visible};
use crate::token_file::{StoredToken, TokenFile};
use crate::trust::{Trust, explain};

/// Largest answer kept in memory, in bytes. (Streams are not kept.)
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// Longest silence of a stream. A job may be silent for longer; the follower
/// then asks again from where it stopped.
const STREAM_SILENCE: Duration = Duration::from_secs(60);

/// A stored token that ends within this many seconds is not begun with.
const NEARLY_OVER_S: u64 = 30;

/// A request to be made; it may have to be made twice.
#[derive(Debug, Clone)]
pub(crate) enum Request<'a> {
    /// `GET`: the route and its query parameters.
    Get(&'a str, Vec<(&'a str, String)>),
    /// `POST`: the route and a JSON body, if there is anything to say.
    Post(&'a str, Option<Value>),
    /// `DELETE`: the route and its query parameters.
    Delete(&'a str, Vec<(&'a str, String)>),
    /// `POST` of a job: the route, its JSON body, and the warrant for it.
    Warranted(&'a str, Value, &'a Secret),
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// The answer itself if it is a success.
    ///
    /// Errors: `Refused` with the server's reason.
    pub(crate) fn success(self) -> Result<Self, Failure> {
        if (200..300).contains(&self.status) {
            Ok(self)
        } else {
            Err(Failure::Refused(describe(self.status, &self.body)))
        }
    }

    /// The body as JSON.
    ///
    /// Errors: `Refused` when it is something else.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.body).map_err(|_| not_understood())
    }
}

/// The failure to make sense of an answer.
pub(crate) fn not_understood() -> Failure {
    Failure::Refused(
        "the server's answer is not that of the Flux RESTful API: is the address right?".to_owned(),
    )
}

/// A server, and who we are to it.
pub(crate) struct Client {
    server: Server,
    credentials: Credentials,
    /// Where a token may be left by `login`.
    token_file: Option<TokenFile>,
    bearer: Option<Secret>,
    /// Whether that is an API key, in whose place nothing else is shown.
    is_key: bool,
    agent: Agent,
    streaming: Agent,
    patience: Duration,
    trust: Trust,
}

impl Client {
    /// A client that makes no request yet. `patience` bounds each request as
    /// a whole, streams excepted. A stored token is used if it is for this
    /// server, still live and, where `user` was asked for, that user's.
    pub(crate) fn new(
        server: Server,
        credentials: Credentials,
        token_file: Option<TokenFile>,
        any_user: bool,
        patience: Duration,
    ) -> Self {
        let stored = token_file.as_ref().and_then(TokenFile::read);
        let usable = stored.filter(|token| {
            token.host == server.to_string()
                && (any_user || token.user == credentials.user)
                && token.expires_at > now_s() + NEARLY_OVER_S
        });
        let trust = Trust::default();
        Self {
            agent: agent(&server, Some(patience), &trust),
            streaming: agent(&server, None, &trust),
            patience,
            trust,
            bearer: usable.map(|token| Secret::new(token.access_token)),
            is_key: false,
            server,
            credentials,
            token_file,
        }
    }

    /// The same client, believing whom `trust` says.
    pub(crate) fn trusting(self, trust: Trust) -> Self {
        Self {
            agent: agent(&self.server, Some(self.patience), &trust),
            streaming: agent(&self.server, None, &trust),
            trust,
            ..self
        }
    }

    /// The same client with an API key in place of every other credential,
    /// where there is one.
    pub(crate) fn with_key(self, key: Option<Secret>) -> Self {
        match key {
            Some(_) => Self {
                bearer: key,
                is_key: true,
                ..self
            },
            None => self,
        }
    }

    /// Make a request and read the whole answer, whatever its status.
    pub(crate) fn answer(&mut self, request: &Request<'_>) -> Result<Answer, Failure> {
        let response = self.send(request, false)?;
        self.read(response)
    }

    /// Make a request and hand over the answer as it comes.
    ///
    /// Errors: `Refused` when the server does not answer with a success.
    pub(crate) fn stream(
        &mut self,
        request: &Request<'_>,
    ) -> Result<ureq::BodyReader<'static>, Failure> {
        let response = self.send(request, true)?;
        if response.status().is_success() {
            return Ok(response.into_body().into_reader());
        }
        let refused = self.read(response)?;
        Err(Failure::Refused(describe(refused.status, &refused.body)))
    }

    /// Exchange the credentials for a token and store it for later commands.
    pub(crate) fn login(&mut self) -> Result<StoredToken, Failure> {
        let file = self.place_for_token()?;
        let (bearer, life_s) = self.exchange()?;
        self.keep(&file, self.credentials.user.clone(), bearer, life_s)
    }

    /// Get a token by the certificate and key in these files, from the auth
    /// service at `given`, else from where the server says that it is, and
    /// store it. The server itself is not shown the certificate: it could not
    /// do anything with it.
    ///
    /// Errors: `Refused` when the files or the login are.
    pub(crate) fn login_by_certificate(
        &mut self,
        given: Option<&str>,
        certificate: &Path,
        key: &Path,
    ) -> Result<StoredToken, Failure> {
        let file = self.place_for_token()?;
        let url = match given {
            Some(host) => host.parse::<Server>()?.url("/oauth/token"),
            None => self.endpoint_for_certificates()?,
        };
        let there: Server = url.parse()?;
        let trust = self.trust.clone().showing(certificate, key)?;
        let agent = agent(&there, Some(self.patience), &trust);
        let response = agent
            .post(url)
            .send_form([("grant_type", CERTIFICATE_GRANT)]);
        let response = self.accept(response)?;
        let answer = self.read(response)?;
        if answer.status != 200 {
            return Err(Failure::Refused(format!(
                "{there} lets nobody in by this certificate: {}",
                describe(answer.status, &answer.body)
            )));
        }
        let (bearer, life_s) = read_issued(&answer.body)?;
        let user = subject(&bearer).unwrap_or_else(|| self.credentials.user.clone());
        self.keep(&file, user, bearer, life_s)
    }

    /// Where the server says that clients with certificates get tokens.
    /// Source: RFC 8705 §5.
    fn endpoint_for_certificates(&self) -> Result<String, Failure> {
        let url = self.server.url("/.well-known/oauth-authorization-server");
        let response = self.accept(self.agent.get(url).call())?;
        let about = self.read(response)?.success()?.json()?;
        let endpoint = about["mtls_endpoint_aliases"]["token_endpoint"].as_str();
        let endpoint = endpoint.filter(|endpoint| endpoint.starts_with("https://"));
        endpoint.map(str::to_owned).ok_or_else(|| {
            Failure::Usage(format!(
                "{} does not say where it takes certificates: give the auth service's address \
                 with --auth-host",
                self.server
            ))
        })
    }

    fn place_for_token(&self) -> Result<TokenFile, Failure> {
        self.token_file.clone().ok_or_else(|| {
            Failure::Usage(
                "there is no place for a token: set HOME or XDG_STATE_HOME to an absolute path"
                    .to_owned(),
            )
        })
    }

    fn keep(
        &mut self,
        file: &TokenFile,
        user: String,
        bearer: Secret,
        life_s: u64,
    ) -> Result<StoredToken, Failure> {
        let token = StoredToken {
            host: self.server.to_string(),
            user,
            access_token: bearer.reveal().to_owned(),
            expires_at: now_s().saturating_add(life_s),
        };
        file.write(&token).map_err(|error| {
            Failure::Refused(format!(
                "cannot store the token in {:?}: {error}",
                file.path()
            ))
        })?;
        self.bearer = Some(bearer);
        Ok(token)
    }

    /// Make a request; on 401 exchange the credentials and make it once more.
    fn send(
        &mut self,
        request: &Request<'_>,
        stream: bool,
    ) -> Result<Response<ureq::Body>, Failure> {
        let response = self.attempt(request, stream)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        if self.is_key {
            return Err(Failure::Refused(format!(
                "{} does not accept the API key in WARRANT_API_KEY",
                self.server
            )));
        }
        check_challenge(response.headers(), &self.server)?;
        drop(response);
        if let (Some(refused), Some(file)) = (self.bearer.take(), &self.token_file) {
            file.forget(refused.reveal());
        }
        let (bearer, _) = self.exchange()?;
        self.bearer = Some(bearer);
        let response = self.attempt(request, stream)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(Failure::Refused(format!(
                "{} does not accept the token that it has just issued",
                self.server
            )));
        }
        Ok(response)
    }

    fn attempt(
        &self,
        request: &Request<'_>,
        stream: bool,
    ) -> Result<Response<ureq::Body>, Failure> {
        let agent = if stream { &self.streaming } else { &self.agent };
        let authorization = self
            .bearer
            .as_ref()
            .map(|bearer| format!("Bearer {}", bearer.reveal()));
        let response = match request {
            Request::Get(route, query) => {
                let mut get = agent.get(self.server.url(route));
                for (name, value) in query {
                    get = get.query(name, value);
                }
                if let Some(value) = authorization {
                    get = get.header(AUTHORIZATION, value);
                }
                get.call()
            }
            Request::Delete(route, query) => {
                let mut delete = agent.delete(self.server.url(route));
                for (name, value) in query {
                    delete = delete.query(name, value);
                }
                if let Some(value) = authorization {
                    delete = delete.header(AUTHORIZATION, value);
                }
                delete.call()
            }
            Request::Warranted(route, body, warrant) => {
                let mut post = agent
                    .post(self.server.url(route))
                    .header("warrant", warrant.reveal());
                if let Some(value) = authorization {
                    post = post.header(AUTHORIZATION, value);
                }
                post.send_json(body)
            }
            Request::Post(route, body) => {
                let mut post = agent.post(self.server.url(route));
                if let Some(value) = authorization {
                    post = post.header(AUTHORIZATION, value);
                }
                match body {
                    Some(body) => post.send_json(body),
                    None => post.send_empty(),
                }
            }
        };
        self.accept(response)
    }

    /// Trade the credentials for a token: its text and its life in seconds.
    ///
    /// The credentials go to the server that the user named and nowhere else,
    /// whatever the challenge said.
    fn exchange(&self) -> Result<(Secret, u64), Failure> {
        if self.server.is_readable_on_the_way() && std::io::stderr().is_terminal() {
            complain("warning: without https the password can be read on its way to the server");
        }
        let password = self.credentials.password(&self.server)?;
        let user = self.credentials.user.as_str();
        let response = match &self.credentials.secret_key {
            Some(key) => self
                .agent
                .post(self.server.url("/v1/token"))
                .header(
                    AUTHORIZATION,
                    format!("Bearer {}", handshake(user, &password, key)?.reveal()),
                )
                .send_empty(),
            None => self
                .agent
                .post(self.server.url("/v1/login/access-token"))
                .send_form([("username", user), ("password", password.reveal())]),
        };
        let response = self.accept(response)?;
        let answer = self.read(response)?;
        if answer.status != 200 {
            return Err(Failure::Refused(format!(
                "login of {} failed: {}",
                visible(user),
                describe(answer.status, &answer.body)
            )));
        }
        read_issued(&answer.body)
    }

    /// A warrant for one job, from the auth service at `auth` itself: the
    /// credentials do not pass through the job server. Source: RFC 8693 §2.
    ///
    /// Errors: `Refused` when the login or the exchange is.
    pub(crate) fn warrant(
        &self,
        auth: &Server,
        audience: &str,
        job_sha256: &str,
    ) -> Result<Secret, Failure> {
        let password = self.credentials.password(auth)?;
        let login = [
            ("username", self.credentials.user.as_str()),
            ("password", password.reveal()),
            ("audience", AUTHSVC_AUDIENCE),
        ];
        let (token, _) = self.issued(auth, "/v1/login/access-token", &login)?;
        let exchange = [
            ("grant_type", EXCHANGE_GRANT),
            ("subject_token", token.reveal()),
            ("subject_token_type", ACCESS_TOKEN_URN),
            ("requested_token_type", WARRANT_URN),
            ("audience", audience),
            ("job_sha256", job_sha256),
        ];
        let (warrant, _) = self.issued(auth, "/oauth/token", &exchange)?;
        Ok(warrant)
    }

    fn issued(
        &self,
        auth: &Server,
        route: &str,
        form: &[(&str, &str)],
    ) -> Result<(Secret, u64), Failure> {
        let response = self.agent.post(auth.url(route)).send_form(form.to_vec());
        let response = self.accept(response)?;
        let answer = self.read(response)?;
        if answer.status != 200 {
            return Err(Failure::Refused(format!(
                "{auth} gives no warrant: {}",
                describe(answer.status, &answer.body)
            )));
        }
        read_issued(&answer.body)
    }

    /// The server that jobs go to.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// No answer at all, and one that sends us elsewhere, are failures.
    fn accept(
        &self,
        response: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<Response<ureq::Body>, Failure> {
        let response = response.map_err(|error| self.unreachable(error))?;
        if response.status().is_redirection() {
            let place = response.headers().get(LOCATION);
            let place = place.and_then(|value| value.to_str().ok()).unwrap_or("?");
            return Err(Failure::Refused(format!(
                "{} sends us to {}: give that server's address with --host if you trust it",
                self.server,
                visible(place)
            )));
        }
        Ok(response)
    }

    fn read(&self, mut response: Response<ureq::Body>) -> Result<Answer, Failure> {
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_vec()
            .map_err(|error| self.unreachable(error))?;
        let body = String::from_utf8(body).map_err(|_| not_understood())?;
        Ok(Answer { status, body })
    }

    /// A failure of the network, and what to do about it.
    fn unreachable(&self, error: ureq::Error) -> Failure {
        if matches!(error, ureq::Error::BodyExceedsLimit(_)) {
            return Failure::Refused(format!(
                "the answer is longer than {} MiB",
                MAX_ANSWER_BYTES >> 20
            ));
        }
        if let Some(why) = explain(&error) {
            return Failure::Unreachable(format!("no connection to {}: {why}", self.server));
        }
        let reason = error.into_io().to_string();
        Failure::Unreachable(format!(
            "no answer from {}: {}. Start a server with `warrant up`, or give the address of \
             one with --host or FLUX_RESTFUL_HOST",
            self.server,
            visible(&reason)
        ))
    }
}

/// An agent that keeps statuses as they are, follows no redirect (it could
/// lead a token elsewhere), believes whom `trust` says and bounds every wait. Without a `patience` the body may take as long as
/// it keeps coming.
fn agent(server: &Server, patience: Option<Duration>, trust: &Trust) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .tls_config(trust.config())
        .accept_encoding("identity")
        .user_agent(concat!("warrant/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(STREAM_SILENCE))
        .timeout_per_read(Some(STREAM_SILENCE))
        .timeout_per_write(Some(STREAM_SILENCE))
        .timeout_global(patience);
    // A proxy cannot reach our own loopback interface.
    let config = if server.is_loopback() {
        config.proxy(None)
    } else {
        config
    };
    config.build().new_agent()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake_server::{FakeServer, Received, Reply};
    use crate::scratch::Scratch;

    const CHALLENGE: &str = "WWW-Authenticate: Bearer realm=\"/v1/token\"\r\n";

    fn nodes() -> Request<'static> {
        Request::Get("/v1/nodes", vec![])
    }

    fn bearer(received: &Received) -> Option<&str> {
        received
            .headers
            .get("authorization")?
            .strip_prefix("Bearer ")
    }

    #[test]
    fn an_api_key_is_shown_and_nothing_else_is_tried_in_its_place() {
        let server = FakeServer::start(|received| match bearer(received) {
            Some("wrt_good") => Reply::json(200, "{}"),
            Some(_) | None => Reply::with_headers(401, CHALLENGE, "{}"),
        });
        let client = |key| server.client().with_key(Some(Secret::new(key)));
        assert_eq!(client("wrt_good").answer(&nodes()).unwrap().status, 200);
        let Err(Failure::Refused(message)) = client("wrt_bad").answer(&nodes()) else {
            panic!("a key that does not count is taken");
        };
        assert!(message.contains("WARRANT_API_KEY"), "{message}");
        assert!(!message.contains("wrt_"), "{message}");
        assert_eq!(server.requests(), 2, "the password was tried");
    }

    /// A server that takes the token `good`, and gives it for `login`.
    fn guarded(login: impl Fn(&Received) -> Reply + Send + 'static) -> FakeServer {
        FakeServer::start(move |received| {
            if received.target == "/v1/token" || received.target == "/v1/login/access-token" {
                return login(received);
            }
            if bearer(received) == Some("good") {
                Reply::json(200, &json!({"body": received.body}).to_string())
            } else {
                Reply::with_headers(401, CHALLENGE, r#"{"detail":"Not authenticated"}"#)
            }
        })
    }

    fn good() -> Reply {
        Reply::json(
            200,
            r#"{"access_token":"good","token_type":"Bearer","expires_in":60000}"#,
        )
    }

    #[test]
    fn a_refused_request_is_made_again_with_a_token() {
        let server = guarded(|login| {
            assert_eq!(login.method, "POST");
            assert_eq!(login.target, "/v1/login/access-token");
            assert_eq!(login.body, "username=ann&password=p+w%26");
            assert_eq!(bearer(login), None);
            good()
        });
        let body = json!({"command": "true"});
        let mut client = server.client();
        let request = Request::Post("/v1/jobs/submit", Some(body.clone()));
        let answer = client.answer(&request).unwrap();
        assert_eq!(answer.status, 200);
        let received = answer.json().unwrap()["body"].as_str().unwrap().to_owned();
        assert_eq!(serde_json::from_str::<Value>(&received).unwrap(), body);
        assert_eq!(server.requests(), 3);
        client.answer(&nodes()).unwrap().success().unwrap();
        assert_eq!(server.requests(), 4, "a token serves more than one request");
    }

    #[test]
    fn a_shared_secret_encodes_the_credentials() {
        let server = guarded(|login| {
            assert_eq!(login.target, "/v1/token");
            assert_eq!(login.body, "");
            assert_eq!(bearer(login).unwrap().split('.').count(), 3);
            good()
        });
        let mut client = server.client_with(Some("key"), None);
        client.answer(&nodes()).unwrap().success().unwrap();
    }

    #[test]
    fn a_wrong_password_is_tried_once() {
        let server = guarded(|_| Reply::json(400, r#"{"detail":"Incorrect user or password"}"#));
        assert_eq!(
            server.client().answer(&nodes()).unwrap_err(),
            Failure::Refused("login of ann failed: Incorrect user or password".to_owned())
        );
        assert_eq!(server.requests(), 2);
    }

    #[test]
    fn a_token_that_is_refused_at_once_ends_the_exchange() {
        let server = guarded(|_| Reply::json(200, r#"{"access_token":"bad"}"#));
        assert!(matches!(
            server.client().answer(&nodes()),
            Err(Failure::Refused(_))
        ));
        assert_eq!(server.requests(), 3);
    }

    #[test]
    fn a_realm_elsewhere_gets_no_password() {
        let server = FakeServer::start(|_| {
            let challenge = "WWW-Authenticate: Bearer realm=\"http://evil.example/\"\r\n";
            Reply::with_headers(401, challenge, "")
        });
        assert!(matches!(
            server.client().answer(&nodes()),
            Err(Failure::Refused(_))
        ));
        assert_eq!(server.requests(), 1);
    }

    #[test]
    fn a_redirection_is_not_followed() {
        let server = FakeServer::start(|_| {
            Reply::with_headers(307, "Location: http://evil.example/\r\n", "")
        });
        let Err(Failure::Refused(message)) = server.client().answer(&nodes()) else {
            panic!("followed");
        };
        assert!(message.contains("http://evil.example/"));
    }

    #[test]
    fn a_login_serves_later_commands() {
        let scratch = Scratch::new();
        let file = TokenFile::at(scratch.path("token.json"));
        let server = guarded(|_| good());
        server
            .client_with(None, Some(file.clone()))
            .login()
            .unwrap();
        let mut later = server.client_with(None, Some(file));
        later.answer(&nodes()).unwrap().success().unwrap();
        assert_eq!(server.requests(), 2);
    }

    #[test]
    fn a_stored_token_that_is_refused_is_dropped_and_replaced() {
        let scratch = Scratch::new();
        let file = TokenFile::at(scratch.path("token.json"));
        let server = guarded(|_| good());
        file.write(&stored(&server.url(), "revoked")).unwrap();
        let mut client = server.client_with(None, Some(file.clone()));
        client.answer(&nodes()).unwrap().success().unwrap();
        assert!(file.read().is_none());
    }

    #[test]
    fn a_stored_token_goes_to_no_other_server_and_for_no_other_user() {
        let scratch = Scratch::new();
        let file = TokenFile::at(scratch.path("token.json"));
        let server = FakeServer::start(|received| {
            assert_eq!(bearer(received), None);
            Reply::json(200, "{}")
        });
        let mut others = [
            stored("http://127.0.0.1:1", "t"),
            stored(&server.url(), "t"),
            stored(&server.url(), "t"),
        ];
        others[1].user = "bob".to_owned();
        others[2].expires_at = now_s() + NEARLY_OVER_S;
        for token in others {
            file.write(&token).unwrap();
            let mut client = server.client_with(None, Some(file.clone()));
            client.answer(&nodes()).unwrap();
        }
        assert_eq!(server.requests(), 3);
    }

    fn stored(host: &str, token: &str) -> StoredToken {
        StoredToken {
            host: host.to_owned(),
            user: "ann".to_owned(),
            access_token: token.to_owned(),
            expires_at: now_s() + 1000,
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_a_remedy() {
        let server = FakeServer::gone();
        let Err(Failure::Unreachable(message)) = server.client().answer(&nodes()) else {
            panic!("an answer from nobody");
        };
        assert!(message.contains(&server.url()) && message.contains("warrant up"));
    }
}
