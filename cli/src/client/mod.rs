//! HTTP to one server, with the login that it asks for.

mod browser;
mod device;
mod key;
mod login;
mod renewal;
mod session;
#[cfg(test)]
mod tests;
mod warrant;

use std::io::ErrorKind;
use std::time::Duration;

pub(crate) use renewal::Ended;
use serde_json::Value;
use ureq::http::header::{AUTHORIZATION, LOCATION};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Timeout};
use warrant_api::flux::OUTPUT_STREAM;
use warrant_dpop::{HEADER, SCHEME};

use crate::auth::{Credentials, check_challenge, proof_refused};
use crate::failure::Failure;
use crate::prover::Prover;
use crate::refusal::describe;
use crate::secret::Secret;
use crate::server::Server;
use crate::terminal::visible;
use crate::token_file::{StoredToken, TokenFile};
use crate::trust::{Trust, explain};

/// Largest answer kept in memory, in bytes. (Streams are not kept.)
pub(crate) const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// Longest silence of a stream. A job may be silent for longer; the follower
/// then asks again from where it stopped.
const STREAM_SILENCE: Duration = Duration::from_secs(60);

/// A request to be made; it may have to be made twice.
#[derive(Debug, Clone)]
pub(crate) enum Request<'a> {
    /// `GET`: the route and its query parameters.
    Get(&'a str, Vec<(&'a str, String)>),
    /// `POST`: the route and a JSON body, if there is anything to say.
    Post(&'a str, Option<Value>),
    /// `DELETE`: the route and its query parameters.
    Delete(&'a str, Vec<(&'a str, String)>),
    /// `POST` of a job.
    Submit(Submission<'a>),
}

/// A job to be submitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Submission<'a> {
    /// Where to.
    pub(crate) route: &'a str,
    /// The job.
    pub(crate) body: &'a Value,
    /// What it is called when it is sent again.
    pub(crate) key: &'a str,
    /// The warrant for it.
    pub(crate) warrant: Option<&'a Secret>,
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

/// An answer that is read as it comes.
pub(crate) struct Stream {
    /// Its media type, without parameters, in lower case.
    pub(crate) media_type: String,
    /// Which of the job's streams it holds, where the server sends one alone.
    pub(crate) only: Option<String>,
    /// Its body.
    pub(crate) reader: ureq::BodyReader<'static>,
}

impl Stream {
    fn of(response: Response<ureq::Body>) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            let value = value.split(';').next().unwrap_or_default();
            Some(value.trim().to_ascii_lowercase())
        };
        Self {
            media_type: header("content-type").unwrap_or_default(),
            only: header(OUTPUT_STREAM),
            reader: response.into_body().into_reader(),
        }
    }
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
    /// The stored login, while it can go on with new tokens.
    renewable: Option<StoredToken>,
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
        let ours = stored.filter(|token| {
            token.host == server.to_string() && (any_user || token.user == credentials.user)
        });
        // A token whose key is gone is of no use.
        let prover = ours
            .as_ref()
            .and_then(|token| Prover::kept(token_file.as_ref()?, token.bound.clone()?));
        let ours = ours.filter(|token| token.bound.is_none() || prover.is_some());
        let usable = ours.as_ref().filter(|token| token.is_live());
        let trust = Trust::default();
        Self {
            agent: agent(&server, Some(patience), &trust),
            streaming: agent(&server, None, &trust),
            patience,
            trust,
            bearer: usable.map(|token| Secret::new(&*token.access_token)),
            prover,
            is_key: false,
            renewable: ours.filter(|token| token.renewal.is_some()),
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
                renewable: None,
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
    pub(crate) fn stream(&mut self, request: &Request<'_>) -> Result<Stream, Failure> {
        let response = self.send(request, true)?;
        if response.status().is_success() {
            return Ok(Stream::of(response));
        }
        let refused = self.read(response)?;
        Err(Failure::Refused(describe(refused.status, &refused.body)))
    }

    /// Make a request; on 401 get a token that counts and make it once more.
    fn send(
        &mut self,
        request: &Request<'_>,
        stream: bool,
    ) -> Result<Response<ureq::Body>, Failure> {
        if self.bearer.is_none() && self.renewable.is_some() {
            self.authenticate()?;
        }
        if self.bearer.is_none() {
            self.resume();
        }
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
        self.authenticate()?;
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

    /// Get a token that counts, in place of the one at hand: from the stored
    /// login if it can go on, else for the credentials.
    fn authenticate(&mut self) -> Result<(), Failure> {
        if self.renewable.is_some() && self.renew()? {
            return Ok(());
        }
        let session = self.session_place().filter(|_| self.can_keep());
        if let (Some(refused), Some(file)) = (self.bearer.take(), &self.token_file) {
            file.forget(refused.reveal());
            if let Some(session) = &session {
                session.forget(refused.reveal());
            }
        }
        let (token, prover) = self.exchange(session.is_some())?;
        if let Some(session) = session {
            self.keep_session(&session, &token, prover.as_ref());
        }
        (self.bearer, self.prover) = (Some(token.text), prover);
        Ok(())
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
            Request::Post(route, _) => ("POST", route),
            Request::Submit(submission) => ("POST", &submission.route),
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
            Request::Submit(submission) => {
                let mut post = agent
                    .post(self.server.url(submission.route))
                    .header("idempotency-key", format!("\"{}\"", submission.key));
                if let Some(warrant) = submission.warrant {
                    post = post.header("warrant", warrant.reveal());
                }
                if let Some(value) = authorization {
                    post = post.header(AUTHORIZATION, value);
                }
                if let Some(proof) = proof {
                    post = post.header(HEADER, proof);
                }
                post.send_json(submission.body)
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
        let sent = may_have_been_sent(&error);
        let reason = error.into_io().to_string();
        let text = format!(
            "no answer from {}: {}. Start a server with `warrant up`, or give the address of \
             one with --host or FLUX_RESTFUL_HOST",
            self.server,
            visible(&reason)
        );
        match sent {
            true => Failure::Unanswered(text),
            false => Failure::Unreachable(text),
        }
    }
}

/// Whether the server may have had the request when this happened.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library's errors, most of which come before the request is sent"
)]
fn may_have_been_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => false,
        ureq::Error::Timeout(_) | ureq::Error::BodyStalled | ureq::Error::Protocol(_) => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::TimedOut
        ),
        _ => false,
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
