//! Warrants for our own jobs, where we get them ourselves.

use warrant_api::token::{ACCESS_TOKEN_URN, AUTHSVC_AUDIENCE, EXCHANGE_GRANT, WARRANT_URN};

use super::{Answer, Client};
use crate::auth::{Token, read_issued};
use crate::failure::Failure;
use crate::prover::Prover;
use crate::refusal::describe;
use crate::secret::Secret;
use crate::server::Server;

impl Client {
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
        let (token, prover) = match self.renew_at(auth)? {
            Some(renewed) => renewed,
            None => self.log_in_at(auth)?,
        };
        let exchange = [
            ("grant_type", EXCHANGE_GRANT),
            ("subject_token", token.text.reveal()),
            ("subject_token_type", ACCESS_TOKEN_URN),
            ("requested_token_type", WARRANT_URN),
            ("audience", audience),
            ("job_sha256", job_sha256),
        ];
        let answer = self.ask(auth, prover.as_ref(), &exchange, Some(&token.text))?;
        Ok(given_by(auth, &answer)?.text)
    }

    /// A token of the user for `auth` itself, for the password.
    fn log_in_at(&self, auth: &Server) -> Result<(Token, Option<Prover>), Failure> {
        let password = self.credentials.password(auth)?;
        let prover = self.prover_for(auth, "password", false)?;
        let mut login = vec![
            ("username", self.credentials.user.as_str()),
            ("password", password.reveal()),
            ("audience", AUTHSVC_AUDIENCE),
        ];
        let answer = match &prover {
            None => {
                let post = self.agent.post(auth.url("/v1/login/access-token"));
                self.read(self.accept(post.send_form(login))?)?
            }
            Some(prover) => {
                login.push(("grant_type", "password"));
                self.proved(auth, prover, &login, None)?
            }
        };
        let token = given_by(auth, &answer)?;
        let prover = prover.filter(|_| token.bound);
        Ok((token, prover))
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
