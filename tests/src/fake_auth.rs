//! An auth service of a test's own, for the broker alone: it signs whatever
//! token the test wants, and says of each what the test says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use crate::handshake::part;
use crate::house::ADMIN;

/// All scopes.
pub const ALL: &str = "read submit control admin";

/// What must come with whatever a browser changes.
pub const CSRF: &str = "the token of every browser";

/// A running fake. It listens until the test's process ends.
#[derive(Debug, Clone)]
pub struct FakeAuth {
    socket: PathBuf,
    key: SigningKey,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Value>,
    feed_is_away: bool,
    /// Credentials and their tokens.
    keys: HashMap<String, String>,
    exchanges: usize,
    /// How long an exchange takes.
    pause: Duration,
    /// Paths of the last requests that were handed on.
    handed_on: Vec<String>,
}

impl FakeAuth {
    /// Listen in `dir`.
    pub fn start(dir: &Path) -> Self {
        let socket = dir.join("fake-auth.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let fake = Self {
            socket,
            key: SigningKey::from_bytes(&[7; 32]),
            state: Arc::default(),
        };
        let serving = fake.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (fake, stream) = (serving.clone(), stream.unwrap());
                // A client that goes away early is none of the test's business.
                thread::spawn(move || drop(fake.serve(stream)));
            }
        });
        fake
    }

    /// Its socket, as a setting.
    pub fn socket(&self) -> &str {
        self.socket.to_str().unwrap()
    }

    /// The public half of its key: 32 bytes.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The header of its tokens.
    pub fn header() -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "fake"})
    }

    /// The claims of a token for `name`, of a session called as the user.
    pub fn claims(name: &str, role: &str, scope: &str) -> Value {
        let now = now_s();
        json!({
            "iss": "warrant", "aud": "warrant-broker", "sub": name, "jti": format!("jti-{name}"),
            "iat": now, "exp": now + 3600, "role": role, "scope": scope,
            "sid": format!("session-of-{name}"), "client_id": "test",
        })
    }

    /// A token with this header and these claims, signed whatever they say.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&part(header), &part(claims))
    }

    /// A token of these two encoded parts.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let text = format!("{header}.{claims}");
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token that counts.
    pub fn token(&self, name: &str, role: &str, scope: &str) -> String {
        self.sign(&Self::header(), &Self::claims(name, role, scope))
    }

    /// Say that something counts no more.
    pub fn revoke(&self, kind: &str, value: &str) {
        let now = now_s();
        let entry = json!({"kind": kind, "value": value, "before_s": now, "until_s": now + 3600});
        self.state().entries.push(entry);
    }

    /// Whether to answer what was revoked.
    pub fn keep_feed(&self, there: bool) {
        self.state().feed_is_away = !there;
    }

    /// Exchange the credential `key` for `token` from now on, after `pause`.
    pub fn know(&self, key: &str, token: String, pause: Duration) {
        let mut state = self.state();
        state.keys.insert(key.to_owned(), token);
        state.pause = pause;
    }

    /// How often it was asked to exchange a credential.
    pub fn exchanges(&self) -> usize {
        self.state().exchanges
    }

    /// What was handed on to it.
    pub fn handed_on(&self) -> Vec<String> {
        self.state().handed_on.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, stream: UnixStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, answer) = self.answer(&target, &body);
        let answer = answer.to_string();
        let mut stream = reader.into_inner();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{answer}",
            answer.len()
        )
    }

    fn answer(&self, target: &str, body: &[u8]) -> (u16, Value) {
        let path = target.split('?').next().unwrap();
        match path {
            "/.well-known/jwks.json" => {
                let x = URL_SAFE_NO_PAD.encode(self.public_key());
                let key = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                                 "kid": "fake", "x": x});
                (200, json!({ "keys": [key] }))
            }
            "/internal/revocations" => {
                let state = self.state();
                if state.feed_is_away {
                    return (503, Value::Null);
                }
                let after: usize = target.split("after=").nth(1).unwrap().parse().unwrap();
                let entries = state.entries.get(after..).unwrap_or_default();
                // Few at a time, so that the broker must ask again.
                let some: Vec<_> = entries.iter().take(1000).collect();
                (200, json!({"next": after + some.len(), "entries": some}))
            }
            "/internal/credential" => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                let (known, pause) = {
                    let mut state = self.state();
                    state.exchanges += 1;
                    let known = state.keys.get(asked["value"].as_str().unwrap()).cloned();
                    (known, state.pause)
                };
                thread::sleep(pause);
                match known {
                    Some(token) => {
                        let csrf = (asked["kind"] == "cookie").then_some(CSRF);
                        let answer =
                            json!({"access_token": token, "expires_in": 300, "csrf": csrf});
                        (200, answer)
                    }
                    None => (401, json!({"detail": "no"})),
                }
            }
            "/v1/token" => {
                let token = self.token(ADMIN, "administrator", ALL);
                let answer =
                    json!({"access_token": token, "token_type": "Bearer", "expires_in": 600});
                (200, answer)
            }
            _ => {
                self.state().handed_on.push(target.to_owned());
                (200, json!({"handed on": target}))
            }
        }
    }
}

/// Now, in seconds since the Unix epoch.
pub fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}
