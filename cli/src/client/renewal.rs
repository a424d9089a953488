//! A stored login that goes on: the next tokens of its session, and its end.
//! Source: RFC 6749 §6, RFC 7009.

use ureq::http::StatusCode;
use warrant_api::token::AUTHSVC_AUDIENCE;

use super::{Answer, Client};
use crate::auth::{Token, read_issued};
use crate::clock::now_s;
use crate::failure::Failure;
use crate::prover::Prover;
use crate::refusal::describe;
use crate::secret::Secret;
use crate::server::Server;
use crate::terminal::visible;
use crate::token_file::{Renewal, StoredToken, TokenFile};

/// How this command calls itself to auth services, where everybody knows it.
pub(super) const CLIENT_ID: &str = "warrant";
/// Whose the tokens are that were given for a name and a password.
const LEGACY_CLIENT_ID: &str = "flux";

/// What became of a login.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its tokens count no more.
    Revoked,
    /// It is forgotten here; the server does not revoke tokens.
    Forgotten,
    /// There was none.
    None,
}

impl Client {
    /// Go on with the stored login: with the token of another command, which
    /// was quicker, or with new ones. False where it has ended and there is a
    /// password at hand to begin another.
    ///
    /// Errors: `Refused` where it has ended.
    pub(super) fn renew(&mut self) -> Result<bool, Failure> {
        let (Some(file), Some(own)) = (self.token_file.clone(), self.renewable.clone()) else {
            return Ok(false);
        };
        // A refresh token is good for one use: who comes second waits for the
        // answer to the first.
        let _lock = file.lock()?;
        let refused = self.bearer.as_ref().map(Secret::reveal);
        let next = match latest(&file, &own) {
            Some(latest) if latest.is_live() && refused != Some(&latest.access_token) => {
                Some(latest)
            }
            Some(latest) => self.ask_next(&latest, None)?.map(|token| {
                let renewal = latest
                    .renewal
                    .map(|renewal| renewal.followed(token.refresh_token));
                StoredToken {
                    access_token: token.text.reveal().to_owned(),
                    expires_at: now_s().saturating_add(token.life_s),
                    renewal,
                    ..latest
                }
            }),
            None => None,
        };
        if let Some(next) = next {
            file.store(&next)?;
            self.take_up(&file, next);
            return Ok(true);
        }
        self.renewable = None;
        if self.credentials.password.is_at_hand() {
            return Ok(false);
        }
        file.forget(&own.access_token);
        Err(Failure::Refused(format!(
            "the login of {} to {} has ended: log in again with `warrant login`",
            visible(&own.user),
            own.host
        )))
    }

    /// A token of the stored login for the auth service at `auth` itself, and
    /// what proves that we hold its key; `None` where it did not come from
    /// there, or has ended.
    pub(super) fn renew_at(
        &self,
        auth: &Server,
    ) -> Result<Option<(Token, Option<Prover>)>, Failure> {
        let (Some(file), Some(own)) = (&self.token_file, &self.renewable) else {
            return Ok(None);
        };
        let _lock = file.lock()?;
        let Some(latest) = latest(file, own) else {
            return Ok(None);
        };
        let Some(renewal) = latest.renewal.clone() else {
            return Ok(None);
        };
        if renewal.auth != auth.to_string() {
            return Ok(None);
        }
        let prover = self.renewing_prover(&renewal);
        let Some(token) = self.ask_next(&latest, Some(AUTHSVC_AUDIENCE))? else {
            return Ok(None);
        };
        file.store(&StoredToken {
            renewal: Some(renewal.followed(token.refresh_token.clone())),
            ..latest
        })?;
        let prover = prover.filter(|_| token.bound);
        Ok(Some((token, prover)))
    }

    /// End the stored login, and forget it.
    ///
    /// Errors: `Unreachable` or `Refused` where the server does not say that
    /// it has ended; it is forgotten here all the same.
    pub(crate) fn log_out(&mut self) -> Result<Ended, Failure> {
        let Some(file) = self.token_file.clone() else {
            return Ok(Ended::None);
        };
        let _lock = file.lock()?;
        let Some(login) = file.read() else {
            return Ok(Ended::None);
        };
        if login.host != self.server.to_string() {
            return Err(Failure::Usage(format!(
                "the stored login is for {}: give that address with --host",
                visible(&login.host)
            )));
        }
        file.forget(&login.access_token);
        let (auth, token, client) = match &login.renewal {
            Some(renewal) => (
                renewal.auth.parse()?,
                renewal.refresh_token.as_str(),
                CLIENT_ID,
            ),
            None => (
                self.server.clone(),
                login.access_token.as_str(),
                LEGACY_CLIENT_ID,
            ),
        };
        match self.revoke(&auth, token, client) {
            Err(Failure::Unreachable(why) | Failure::Unanswered(why)) => Err(Failure::Unreachable(
                format!("{why}. The login is forgotten here, and counts there until it ends"),
            )),
            ended => ended,
        }
    }

    fn revoke(&self, auth: &Server, token: &str, client: &str) -> Result<Ended, Failure> {
        let post = self.agent.post(auth.url("/oauth/revoke"));
        let response = self.accept(post.send_form([("token", token), ("client_id", client)]))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(Ended::Forgotten);
        }
        self.read(response)?.success()?;
        Ok(Ended::Revoked)
    }

    /// The next tokens of `login`, for `audience`; `None` where it has ended.
    fn ask_next(
        &self,
        login: &StoredToken,
        audience: Option<&str>,
    ) -> Result<Option<Token>, Failure> {
        let Some(renewal) = &login.renewal else {
            return Ok(None);
        };
        let auth: Server = renewal.auth.parse()?;
        let prover = self.renewing_prover(renewal);
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", renewal.refresh_token.as_str()),
            ("client_id", CLIENT_ID),
        ];
        form.extend(audience.map(|audience| ("audience", audience)));
        let answer = self.ask(&auth, prover.as_ref(), &form, None)?;
        match (answer.status, error_of(&answer).as_deref()) {
            (200, _) => read_issued(&answer.body).map(Some),
            (_, Some("invalid_grant" | "invalid_client" | "unauthorized_client")) => Ok(None),
            (status, _) => Err(Failure::Refused(format!(
                "the login to {} cannot be renewed now: {}",
                login.host,
                describe(status, &answer.body)
            ))),
        }
    }

    fn renewing_prover(&self, renewal: &Renewal) -> Option<Prover> {
        Prover::kept(self.token_file.as_ref()?, renewal.base.clone()?)
    }

    /// Make requests with this login.
    fn take_up(&mut self, file: &TokenFile, login: StoredToken) {
        self.bearer = Some(Secret::new(&*login.access_token));
        self.prover = login
            .bound
            .clone()
            .and_then(|base| Prover::kept(file, base));
        self.renewable = Some(login);
    }
}

/// The stored login as it is now, if it is still that of `own`.
fn latest(file: &TokenFile, own: &StoredToken) -> Option<StoredToken> {
    file.read().filter(|latest| {
        latest.host == own.host && latest.user == own.user && latest.renewal.is_some()
    })
}

/// The error code of a refusal. Source: RFC 6749 §5.2.
pub(super) fn error_of(answer: &Answer) -> Option<String> {
    Some(answer.json().ok()?["error"].as_str()?.to_owned())
}
