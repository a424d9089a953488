//! A new API key. It outlives every login, so that the auth service takes a proof
//! of the user with the very request, and no token.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::header::AUTHORIZATION;
use warrant_api::keys::NewKey;

use super::{Answer, Client, agent};
use crate::failure::Failure;
use crate::refusal::describe;
use crate::server::Server;
use crate::terminal::visible;

/// Where keys are made.
const ROUTE: &str = "/v1/keys";

impl Client {
    /// Have the auth service at `given`, else the server itself, make a key for the
    /// user's password.
    ///
    /// Errors: `Refused` when the password or the key is.
    pub(crate) fn create_key(&self, given: Option<&str>, new: &NewKey) -> Result<Answer, Failure> {
        let auth = self.auth_server(given)?;
        let user = &self.credentials.user;
        if user.contains(':') {
            return Err(Failure::Usage(
                "--user: the name must not contain a colon".to_owned(),
            ));
        }
        let password = self.password_for(&auth)?;
        let basic = STANDARD.encode(format!("{user}:{}", password.reveal()));
        let post = self
            .agent
            .post(auth.url(ROUTE))
            .header(AUTHORIZATION, format!("Basic {basic}"));
        let answer = self.read(self.accept(post.send_json(new))?)?;
        made(answer, &format!("{auth} makes no key of {}", visible(user)))
    }

    /// As [`Client::create_key`], for the certificate and key in these files, at
    /// the auth service itself.
    ///
    /// Errors: `Refused` when the files, the login or the key is.
    pub(crate) fn create_key_by_certificate(
        &self,
        given: Option<&str>,
        (certificate, key): (&Path, &Path),
        new: &NewKey,
    ) -> Result<Answer, Failure> {
        let base = match given {
            Some(host) => host.to_owned(),
            None => {
                let endpoint = self.endpoint_for_certificates()?;
                let base = endpoint.strip_suffix("/oauth/token");
                base.unwrap_or(&endpoint).to_owned()
            }
        };
        let there: Server = base.parse()?;
        let trust = self.trust.clone().showing(certificate, key)?;
        let agent = agent(&there, Some(self.patience), &trust);
        let response = agent.post(there.url(ROUTE)).send_json(new);
        let answer = self.read(self.accept(response)?)?;
        made(answer, &format!("{there} makes no key by this certificate"))
    }
}

fn made(answer: Answer, refused: &str) -> Result<Answer, Failure> {
    match answer.status {
        201 => Ok(answer),
        status => {
            let why = describe(status, &answer.body);
            Err(Failure::Refused(format!("{refused}: {why}")))
        }
    }
}
