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
use warrant_dpop::{HEADER, NONCE_HEADER, SCHEME};

use crate::auth::{
    Credentials, Token, check_challenge, handshake, proof_refused, read_issued, subject,
};
use crate::clock::now_s;
use crate::failure::Failure;
use crate::prover::{KeyFile, Prover, TOKEN_ROUTE, offered, passing_key};
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
    /// Proves that we hold the key to which that is bound, where it is.
    prover: Option<Prover>,
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
        // A token whose key is gone is of no use.
        let prover = usable.as_ref().and_then(|token| {
            let key = KeyFile::beside(token_file.as_ref()?.path()).read()?;
            Some(Prover::new(key, token.bound.clone()?))
        });
        let usable = usable.filter(|token| token.bound.is_none() || prover.is_some());
        let trust = Trust::default();
        Self {
            agent: agent(&server, Some(patience), &trust),
            streaming: agent(&server, None, &trust),
            patience,
            trust,
            bearer: usable.map(|token| Secret::new(token.access_token)),
            prover,
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
                prover: None,
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
        let (token, prover) = self.exchange(true)?;
        self.keep(&file, self.credentials.user.clone(), token, prover)
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
        let token = read_issued(&answer.body)?;
        let user = subject(&token.text).unwrap_or_else(|| self.credentials.user.clone());
        self.keep(&file, user, token, None)
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
        token: Token,
        prover: Option<Prover>,
    ) -> Result<StoredToken, Failure> {
        let bearer = token.text;
        let token = StoredToken {
            host: self.server.to_string(),
            user,
            access_token: bearer.reveal().to_owned(),
            expires_at: now_s().saturating_add(token.life_s),
            bound: prover.as_ref().map(|prover| prover.base().to_owned()),
        };
        file.write(&token).map_err(|error| {
            Failure::Refused(format!(
                "cannot store the token in {:?}: {error}",
                file.path()
            ))
        })?;
        self.bearer = Some(bearer);
        self.prover = prover;
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
        if self.prover.is_none() || proof_refused(response.headers()).is_none() {
            check_challenge(response.headers(), &self.server)?;
        }
        drop(response);
        if let (Some(refused), Some(file)) = (self.bearer.take(), &self.token_file) {
            file.forget(refused.reveal());
        }
        let (token, prover) = self.exchange(false)?;
        (self.bearer, self.prover) = (Some(token.text), prover);
        let response = self.attempt(request, stream)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let said = proof_refused(response.headers()).unwrap_or_default();
            let why = if said.is_empty() { "" } else { ": " };
            return Err(Failure::Refused(format!(
                "{} does not accept the token that it has just issued{why}{}",
                self.server,
                visible(&said)
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
        let (method, route) = match request {
            Request::Get(route, _) => ("GET", route),
            Request::Delete(route, _) => ("DELETE", route),
            Request::Post(route, _) | Request::Warranted(route, ..) => ("POST", route),
        };
        let (authorization, proof) = match (&self.bearer, &self.prover) {
            (None, _) => (None, None),
            (Some(bearer), None) => (Some(format!("Bearer {}", bearer.reveal())), None),
            (Some(bearer), Some(prover)) => {
                let proof = prover.proof(method, route, Some(bearer), None)?;
                (Some(format!("{SCHEME} {}", bearer.reveal())), Some(proof))
            }
        };
        let response = match request {
            Request::Get(route, query) => {
                let mut get = agent.get(self.server.url(route));
                for (name, value) in query {
                    get = get.query(name, value);
                }
                if let Some(value) = authorization {
                    get = get.header(AUTHORIZATION, value);
                }
                if let Some(proof) = proof {
                    get = get.header(HEADER, proof);
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
                if let Some(proof) = proof {
                    delete = delete.header(HEADER, proof);
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
                if let Some(proof) = proof {
                    post = post.header(HEADER, proof);
                }
                post.send_json(body)
            }
            Request::Post(route, body) => {
                let mut post = agent.post(self.server.url(route));
                if let Some(value) = authorization {
                    post = post.header(AUTHORIZATION, value);
                }
                if let Some(proof) = proof {
                    post = post.header(HEADER, proof);
                }
                match body {
                    Some(body) => post.send_json(body),
                    None => post.send_empty(),
                }
            }
        };
        self.accept(response)
    }

    /// Trade the credentials for a token; one that is bound to a key, where the
    /// server offers that. With `keep`, to the key that is kept beside the
    /// tokens, which is made where there is none.
    ///
    /// The credentials go to the server that the user named and nowhere else,
    /// whatever the challenge said.
    fn exchange(&self, keep: bool) -> Result<(Token, Option<Prover>), Failure> {
        if self.server.is_readable_on_the_way() && std::io::stderr().is_terminal() {
            complain("warning: without https the password can be read on its way to the server");
        }
        let password = self.credentials.password(&self.server)?;
        let user = self.credentials.user.as_str();
        if self.credentials.secret_key.is_none()
            && let Some(prover) = self.prover_for(&self.server, keep)?
        {
            let login = [
                ("grant_type", "password"),
                ("username", user),
                ("password", password.reveal()),
            ];
            let answer = self.proved(&self.server, &prover, &login, None)?;
            let token = self.logged_in(&answer)?;
            let prover = token.bound.then_some(prover);
            return Ok((token, prover));
        }
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
        Ok((self.logged_in(&answer)?, None))
    }

    /// The token in the answer to a login.
    fn logged_in(&self, answer: &Answer) -> Result<Token, Failure> {
        if answer.status != 200 {
            return Err(Failure::Refused(format!(
                "login of {} failed: {}",
                visible(&self.credentials.user),
                describe(answer.status, &answer.body)
            )));
        }
        read_issued(&answer.body)
    }

    /// What proves to `server` that we hold a key, where it binds tokens to
    /// them; with `keep`, the key that is kept.
    ///
    /// Errors: there is no key to be had.
    fn prover_for(&self, server: &Server, keep: bool) -> Result<Option<Prover>, Failure> {
        const ABOUT: &str = "/.well-known/oauth-authorization-server";
        let about = self.agent.get(server.url(ABOUT)).call();
        let about = about.map_err(|error| self.unreachable(error))?;
        if about.status() != StatusCode::OK {
            return Ok(None);
        }
        let Some(base) = offered(server, &self.read(about)?.body) else {
            return Ok(None);
        };
        let file = self.token_file.as_ref();
        let file = file.map(|file| KeyFile::beside(file.path()));
        let key = match file {
            Some(file) if keep => file.read_or_make()?,
            Some(file) => file.read().map_or_else(passing_key, Ok)?,
            None => passing_key()?,
        };
        Ok(Some(Prover::new(key, base)))
    }

    /// Ask the token endpoint of `server` with `form`, and prove that we hold
    /// the key; once more where the proof must hold a nonce of the server.
    /// Source: RFC 9449 §8.
    fn proved(
        &self,
        server: &Server,
        prover: &Prover,
        form: &[(&str, &str)],
        token: Option<&Secret>,
    ) -> Result<Answer, Failure> {
        let ask = |nonce: Option<&str>| -> Result<(Answer, Option<String>), Failure> {
            let proof = prover.proof("POST", TOKEN_ROUTE, token, nonce)?;
            let post = self
                .agent
                .post(server.url(TOKEN_ROUTE))
                .header(HEADER, proof);
            let response = self.accept(post.send_form(form.to_vec()))?;
            let fresh = response.headers().get(NONCE_HEADER);
            let fresh = fresh.and_then(|nonce| nonce.to_str().ok().map(str::to_owned));
            Ok((self.read(response)?, fresh))
        };
        let (answer, nonce) = ask(None)?;
        let wanted = answer.status == 400
            && answer
                .json()
                .is_ok_and(|refusal| refusal["error"] == "use_dpop_nonce");
        match nonce.filter(|_| wanted) {
            Some(nonce) => ask(Some(&nonce)).map(|(answer, _)| answer),
            None => Ok(answer),
        }
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
        let prover = self.prover_for(auth, false)?;
        let mut login = vec![
            ("username", self.credentials.user.as_str()),
            ("password", password.reveal()),
            ("audience", AUTHSVC_AUDIENCE),
        ];
        let token = match &prover {
            None => self.issued(auth, "/v1/login/access-token", &login)?,
            Some(prover) => {
                login.push(("grant_type", "password"));
                let answer = self.proved(auth, prover, &login, None)?;
                given_by(auth, &answer)?
            }
        };
        let prover = prover.filter(|_| token.bound);
        let exchange = [
            ("grant_type", EXCHANGE_GRANT),
            ("subject_token", token.text.reveal()),
            ("subject_token_type", ACCESS_TOKEN_URN),
            ("requested_token_type", WARRANT_URN),
            ("audience", audience),
            ("job_sha256", job_sha256),
        ];
        let warrant = match prover {
            None => self.issued(auth, TOKEN_ROUTE, &exchange)?,
            Some(prover) => {
                let answer = self.proved(auth, &prover, &exchange, Some(&token.text))?;
                given_by(auth, &answer)?
            }
        };
        Ok(warrant.text)
    }

    fn issued(&self, auth: &Server, route: &str, form: &[(&str, &str)]) -> Result<Token, Failure> {
        let response = self.agent.post(auth.url(route)).send_form(form.to_vec());
        let response = self.accept(response)?;
        given_by(auth, &self.read(response)?)
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

/// The token, or the warrant, in an answer of the auth service at `auth`.
fn given_by(auth: &Server, answer: &Answer) -> Result<Token, Failure> {
    if answer.status != 200 {
        return Err(Failure::Refused(format!(
            "{auth} gives no warrant: {}",
            describe(answer.status, &answer.body)
        )));
    }
    read_issued(&answer.body)
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
            bound: None,
        }
    }

    fn binding(url: &str) -> Option<String> {
        let about = json!({
            "token_endpoint": format!("{url}/oauth/token"),
            "grant_types_supported": ["password"],
            "dpop_signing_alg_values_supported": ["ES256", "EdDSA"],
        });
        Some(about.to_string())
    }

    /// The thumbprint of the key that is proved to be held, for this request.
    fn proved(received: &Received, token: Option<&str>) -> Option<warrant_dpop::Proof> {
        let proof = received.headers.get("dpop")?;
        let path = received.target.split('?').next().unwrap();
        let url = format!("http://{}{path}", received.headers["host"]);
        let wanted = warrant_dpop::Wanted {
            method: &received.method,
            at: &warrant_dpop::At::parse(&url).unwrap(),
            token,
            now_s: now_s(),
        };
        warrant_dpop::check([proof.as_bytes()], &wanted).unwrap()
    }

    /// A server that binds its tokens: each is good for the key that it was
    /// given to. It says which key it was.
    fn binding_server(with_nonce: bool) -> FakeServer {
        let bound = std::cell::RefCell::new(None);
        FakeServer::described(binding, move |received| {
            if received.target == TOKEN_ROUTE {
                let proof = proved(received, None).unwrap();
                if with_nonce && proof.nonce() != Some("n1") {
                    let nonce = "DPoP-Nonce: n1\r\n";
                    return Reply::with_headers(400, nonce, r#"{"error":"use_dpop_nonce"}"#);
                }
                assert!(received.body.contains("grant_type=password"));
                *bound.borrow_mut() = Some(proof.jkt().to_owned());
                let good = r#"{"access_token":"good","token_type":"DPoP","expires_in":60000}"#;
                return Reply::json(200, good);
            }
            let token = received.headers.get("authorization");
            let token = token.and_then(|value| value.strip_prefix("DPoP "));
            match token {
                None => Reply::with_headers(401, CHALLENGE, "{}"),
                Some("good") => {
                    let proof = proved(received, token).unwrap();
                    assert_eq!(Some(proof.jkt()), bound.borrow().as_deref());
                    Reply::json(200, &json!({"jkt": proof.jkt()}).to_string())
                }
                Some(_) => {
                    let challenge = "WWW-Authenticate: DPoP error=\"invalid_token\"\r\n";
                    Reply::with_headers(401, challenge, "{}")
                }
            }
        })
    }

    #[test]
    fn t101_where_a_server_binds_tokens_every_request_proves_that_the_key_is_held() {
        for with_nonce in [false, true] {
            let server = binding_server(with_nonce);
            let mut client = server.client();
            let first = client.answer(&nodes()).unwrap().json().unwrap();
            let request = Request::Get("/v1/jobs", vec![("limit", "1".into())]);
            let second = client.answer(&request).unwrap().success().unwrap();
            assert_eq!(first, second.json().unwrap(), "another key");
            let posted = Request::Post("/v1/jobs/submit", Some(json!({})));
            client.answer(&posted).unwrap().success().unwrap();
            client
                .answer(&Request::Delete("/v1/keys", vec![]))
                .unwrap()
                .success()
                .unwrap();
            let logins = if with_nonce { 2 } else { 1 };
            assert_eq!(server.requests(), 5 + logins);
        }
    }

    #[test]
    fn t101_a_login_keeps_the_key_beside_the_token_and_a_token_without_it_is_not_sent() {
        let scratch = Scratch::new();
        let file = TokenFile::at(scratch.path("token.json"));
        let server = binding_server(false);
        let client = || server.client_with(None, Some(file.clone()));
        client().login().unwrap();
        let kept = file.read().unwrap();
        assert_eq!(kept.bound.as_deref(), Some(server.url().as_str()));
        let key = KeyFile::beside(file.path());
        let jkt = key.read().unwrap().thumbprint();
        let answer = client().answer(&nodes()).unwrap().json().unwrap();
        assert_eq!(answer["jkt"], jkt);
        assert_eq!(server.requests(), 2, "a second login");
        // A token that counts no more is replaced, with the same key.
        file.write(&StoredToken {
            access_token: "over".into(),
            ..kept
        })
        .unwrap();
        let answer = client().answer(&nodes()).unwrap().json().unwrap();
        assert_eq!(answer["jkt"], jkt);
        assert_eq!(server.requests(), 5);
        assert!(file.read().is_none());
        client().login().unwrap();
        std::fs::remove_file(scratch.path("dpop.key")).unwrap();
        let answer = client().answer(&nodes()).unwrap().json().unwrap();
        assert_ne!(answer["jkt"], jkt);
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
