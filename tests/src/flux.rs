//! A client of the Flux RESTful API that says what it got, whatever it is.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::http::{Method, Request};

use crate::wait::{PATIENCE, until};

/// The most an answer may hold.
const LARGEST: u64 = 512 << 20;

/// Where the broker listens now: another port after each start.
#[derive(Debug, Clone)]
pub struct Address(Arc<Mutex<SocketAddr>>);

impl Address {
    /// Nowhere yet.
    pub fn unknown() -> Self {
        Self(Arc::new(Mutex::new(SocketAddr::from(([127, 0, 0, 1], 1)))))
    }

    /// Where the broker listens.
    pub fn get(&self) -> SocketAddr {
        *self.0.lock().unwrap()
    }

    /// Say where it listens.
    pub fn set(&self, address: SocketAddr) {
        *self.0.lock().unwrap() = address;
    }
}

/// An answer: status, head and body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Every value of a header.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let values = self.headers.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// Errors: panics where it is none.
    pub fn json(&self) -> Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    /// The body, which must come with `status`.
    #[track_caller]
    pub fn with(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// The text of the body's `detail`, which must come with `status`.
    #[track_caller]
    pub fn detail(&self, status: u16) -> String {
        let json = self.with(status);
        json["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// A client with the token of one user, or with none.
#[derive(Debug, Clone)]
pub struct Flux {
    address: Address,
    token: Option<String>,
    agent: ureq::Agent,
}

impl Flux {
    /// A client of the broker at `address`.
    pub fn new(address: Address, token: Option<String>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .max_idle_connections(8)
            .build();
        Self {
            address,
            token,
            agent: agent.into(),
        }
    }

    /// The same client with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The token.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// Where the broker listens now.
    pub fn address(&self) -> SocketAddr {
        self.address.get()
    }

    /// Send a request; `path` begins with `/`.
    ///
    /// Errors: nobody answers.
    pub fn try_send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut response = self.open(method, path, headers, body)?;
        let headers = response.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        });
        let headers = headers.collect();
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(LARGEST)
            .read_to_vec()?;
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    fn open(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address()));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if method == Method::GET {
            self.agent.run(request.body(())?)
        } else {
            self.agent.run(request.body(body)?)
        }
    }

    /// As [`Flux::try_send`], where somebody must answer.
    #[track_caller]
    pub fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let answer = self.try_send(method, path, headers, body);
        answer.unwrap_or_else(|e| panic!("{method} {path:.200}: {e}"))
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(&Method::GET, path, &[], b"")
    }

    /// POST without a body.
    #[track_caller]
    pub fn post(&self, path: &str) -> Answer {
        self.send(&Method::POST, path, &[], b"")
    }

    /// POST with a JSON body.
    #[track_caller]
    pub fn post_json(&self, path: &str, body: &Value) -> Answer {
        let head = [("content-type", "application/json")];
        self.send(&Method::POST, path, &head, body.to_string().as_bytes())
    }

    /// Have an API key made for a user's name and password.
    #[track_caller]
    pub fn create_key(&self, user: &str, password: &str, new: &Value) -> Answer {
        let basic = STANDARD.encode(format!("{user}:{password}"));
        let basic = format!("Basic {basic}");
        let head = [
            ("content-type", "application/json"),
            ("authorization", basic.as_str()),
        ];
        let nobody = Self {
            token: None,
            ..self.clone()
        };
        nobody.send(&Method::POST, "/v1/keys", &head, new.to_string().as_bytes())
    }

    /// POST with a form.
    #[track_caller]
    pub fn post_form(&self, path: &str, body: &str) -> Answer {
        let head = [("content-type", "application/x-www-form-urlencoded")];
        self.send(&Method::POST, path, &head, body.as_bytes())
    }

    /// Submit a command; returns the job's id.
    #[track_caller]
    pub fn submit(&self, command: &str) -> i64 {
        self.submit_with(&serde_json::json!({ "command": command }))
    }

    /// Submit a script for `sh -c`.
    #[track_caller]
    pub fn submit_script(&self, script: &str) -> i64 {
        self.submit_with(&serde_json::json!({ "command": ["sh", "-c", script] }))
    }

    /// Submit with these parameters as a JSON body; returns the job's id.
    #[track_caller]
    pub fn submit_with(&self, parameters: &Value) -> i64 {
        let answer = self.post_json("/v1/jobs/submit", parameters).with(200);
        assert_eq!(answer["Message"], "Job submit.", "{answer}");
        answer["id"].as_i64().unwrap()
    }

    /// The job object.
    #[track_caller]
    pub fn info(&self, job: i64) -> Value {
        self.get(&format!("/v1/jobs/{job}")).with(200)
    }

    /// The job object once the job is in `state`.
    #[track_caller]
    pub fn wait_until(&self, job: i64, state: &str) -> Value {
        until(&format!("job {job} to be {state}"), || {
            Some(self.info(job)).filter(|info| info["state"] == state)
        })
    }

    /// The job object once the job has ended.
    #[track_caller]
    pub fn finished(&self, job: i64) -> Value {
        self.wait_until(job, "INACTIVE")
    }

    /// The lines the job has written.
    ///
    /// Errors: panics where there are none.
    #[track_caller]
    pub fn output(&self, job: i64) -> Vec<String> {
        let answer = self.get(&format!("/v1/jobs/{job}/output")).with(200);
        let lines = answer["Output"].as_array();
        let lines = lines.unwrap_or_else(|| panic!("no output of {job}: {answer}"));
        let lines = lines.iter().map(|line| line.as_str().unwrap().to_owned());
        lines.collect()
    }

    /// The lines once there are any.
    #[track_caller]
    pub fn first_output(&self, job: i64) -> Vec<String> {
        until(&format!("output of job {job}"), || {
            let answer = self.get(&format!("/v1/jobs/{job}/output")).with(200);
            answer.get("Output").map(|_| self.output(job))
        })
    }

    /// Follow the output from the byte `offset` on.
    #[track_caller]
    pub fn stream(&self, job: i64, offset: u64) -> Stream {
        let path = format!("/v1/jobs/{job}/output/stream?offset={offset}");
        let response = self.open(&Method::GET, &path, &[], b"").unwrap();
        assert_eq!(response.status(), 200);
        Stream(Box::new(response.into_body().into_reader()))
    }

    /// Ask for a job to be cancelled.
    #[track_caller]
    pub fn cancel(&self, job: i64) -> Answer {
        self.post(&format!("/v1/jobs/{job}/cancel"))
    }

    /// All of the caller's jobs, newest first.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let answer = self.get("/v1/jobs?details=true&listing=true").with(200);
        answer.as_array().unwrap().clone()
    }
}

/// Output as it comes.
pub struct Stream(Box<dyn Read>);

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Read for Stream {
    fn read(&mut self, piece: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(piece)
    }
}

impl Stream {
    /// The next bytes, as text, until `end` was read.
    #[track_caller]
    pub fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let read = self.0.read(&mut byte).unwrap();
            assert_eq!(read, 1, "ended at {:?}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&byte);
        }
        String::from_utf8(text).unwrap()
    }

    /// All that is left, up to the end.
    #[track_caller]
    pub fn rest(mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text
    }
}
