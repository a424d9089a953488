//! Logging in, and what is kept of it.

use std::io::IsTerminal;
use std::path::Path;

use ureq::http::StatusCode;
use ureq::http::header::AUTHORIZATION;
use warrant_api::oauth::CERTIFICATE_GRANT;
use warrant_dpop::{HEADER, NONCE_HEADER};

use super::{Answer, Client, agent};
use crate::auth::{Token, handshake, read_issued, subject};
use crate::clock::now_s;
use crate::failure::Failure;
use crate::prompt::ask_code;
use crate::prover::{KeyFile, Prover, TOKEN_ROUTE, offered, passing_key};
use crate::refusal::describe;
use crate::secret::Secret;
use crate::server::Server;
use crate::terminal::{complain, visible};
use crate::token_file::{Renewal, StoredToken, TokenFile};

impl Client {
    /// Exchange the credentials for a token and store it for later commands.
    pub(crate) fn login(&mut self) -> Result<StoredToken, Failure> {
        let file = self.place_for_token()?;
        let (token, prover) = self.exchange(true)?;
        self.keep(&file, self.credentials.user.clone(), token, prover, None)
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
        self.keep(&file, user, token, None, None)
    }

    /// Where the server says that clients with certificates get tokens.
    /// Source: RFC 8705 §5.
    pub(super) fn endpoint_for_certificates(&self) -> Result<String, Failure> {
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

    pub(super) fn place_for_token(&self) -> Result<TokenFile, Failure> {
        self.token_file.clone().ok_or_else(|| {
            Failure::Usage(
                "there is no place for a token: set HOME or XDG_STATE_HOME to an absolute path"
                    .to_owned(),
            )
        })
    }

    /// The auth service at `given`, else the server itself.
    pub(super) fn auth_server(&self, given: Option<&str>) -> Result<Server, Failure> {
        match given {
            Some(host) => host.parse(),
            None => Ok(self.server.clone()),
        }
    }

    /// Store a login that goes on, whose first tokens `auth` has just given.
    pub(super) fn keep_renewable(
        &mut self,
        file: &TokenFile,
        auth: &Server,
        token: Token,
        prover: Option<Prover>,
    ) -> Result<StoredToken, Failure> {
        let user = subject(&token.text).unwrap_or_else(|| self.credentials.user.clone());
        let prover = prover.filter(|_| token.bound);
        let renewal = token.refresh_token.as_ref().map(|refresh_token| Renewal {
            auth: auth.to_string(),
            base: prover.as_ref().map(|prover| prover.base().to_owned()),
            refresh_token: refresh_token.reveal().to_owned(),
        });
        // The job server is called by the name that the user gave it, where it
        // is not the auth service that told its own.
        let prover = match prover {
            Some(prover) if *auth != self.server => Some(prover.called(self.server.to_string())),
            prover => prover,
        };
        self.keep(file, user, token, prover, renewal)
    }

    /// Store a login that has just been made.
    pub(super) fn keep(
        &mut self,
        file: &TokenFile,
        user: String,
        token: Token,
        prover: Option<Prover>,
        renewal: Option<Renewal>,
    ) -> Result<StoredToken, Failure> {
        let bearer = token.text;
        let token = StoredToken {
            host: self.server.to_string(),
            user,
            access_token: bearer.reveal().to_owned(),
            expires_at: now_s().saturating_add(token.life_s),
            bound: prover.as_ref().map(|prover| prover.base().to_owned()),
            renewal,
            mark: None,
        };
        file.store(&token)?;
        self.renewable = Some(token.clone()).filter(|token| token.renewal.is_some());
        self.bearer = Some(bearer);
        self.prover = prover;
        Ok(token)
    }

    /// Trade the credentials for a token; one that is bound to a key, where the
    /// server offers that. With `keep`, to the key that is kept beside the
    /// tokens, which is made where there is none.
    ///
    /// The credentials go to the server that the user named and nowhere else,
    /// whatever the challenge said.
    pub(super) fn exchange(&self, keep: bool) -> Result<(Token, Option<Prover>), Failure> {
        let password = self.password_for(&self.server)?;
        let (mut answer, mut prover) = self.show(&password, None, keep)?;
        if needs_code(&answer) {
            let code = ask_code(&self.server.to_string())?;
            (answer, prover) = self.show(&password, Some(&code), keep)?;
        }
        let token = self.logged_in(&answer)?;
        let prover = prover.filter(|_| token.bound);
        Ok((token, prover))
    }

    /// Show the credentials, and a one-time code where there is one.
    fn show(
        &self,
        password: &Secret,
        code: Option<&Secret>,
        keep: bool,
    ) -> Result<(Answer, Option<Prover>), Failure> {
        let user = self.credentials.user.as_str();
        let mut form = vec![("username", user), ("password", password.reveal())];
        form.extend(code.map(|code| ("one_time_code", code.reveal())));
        if self.credentials.secret_key.is_none()
            && let Some(prover) = self.prover_for(&self.server, "password", keep)?
        {
            form.push(("grant_type", "password"));
            let answer = self.proved(&self.server, &prover, &form, None)?;
            return Ok((answer, Some(prover)));
        }
        let response = match &self.credentials.secret_key {
            Some(key) => self
                .agent
                .post(self.server.url("/v1/token"))
                .header(
                    AUTHORIZATION,
                    format!("Bearer {}", handshake(user, password, code, key)?.reveal()),
                )
                .send_empty(),
            None => self
                .agent
                .post(self.server.url("/v1/login/access-token"))
                .send_form(form),
        };
        let response = self.accept(response)?;
        Ok((self.read(response)?, None))
    }

    /// The user's password, to be sent to `server`.
    ///
    /// Errors: `Refused` when there is none.
    pub(super) fn password_for(&self, server: &Server) -> Result<Secret, Failure> {
        if server.is_readable_on_the_way() && std::io::stderr().is_terminal() {
            complain("warning: without https the password can be read on its way to the server");
        }
        self.credentials.password(server)
    }

    /// The token in the answer to a login.
    fn logged_in(&self, answer: &Answer) -> Result<Token, Failure> {
        if answer.status != 200 {
            let said = describe(answer.status, &answer.body);
            // The words of the Flux RESTful servers for it.
            let said = match said.as_str() {
                "Incorrect user or password" => "Wrong user name or password",
                said => said,
            };
            return Err(Failure::Refused(format!(
                "login of {} failed: {said}",
                visible(&self.credentials.user),
            )));
        }
        read_issued(&answer.body)
    }

    /// What proves to `server` that we hold a key, where it binds tokens to
    /// them and gives tokens by `grant`; with `keep`, the key that is kept.
    ///
    /// Errors: there is no key to be had.
    pub(super) fn prover_for(
        &self,
        server: &Server,
        grant: &str,
        keep: bool,
    ) -> Result<Option<Prover>, Failure> {
        const ABOUT: &str = "/.well-known/oauth-authorization-server";
        let about = self.agent.get(server.url(ABOUT)).call();
        let about = about.map_err(|error| self.unreachable(error))?;
        if about.status() != StatusCode::OK {
            return Ok(None);
        }
        let Some(base) = offered(server, &self.read(about)?.body, grant) else {
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
    pub(super) fn proved(
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

    /// Ask the token endpoint of `server` with `form`, with a proof where there
    /// is something to prove, for `token` as well where one is shown.
    pub(super) fn ask(
        &self,
        server: &Server,
        prover: Option<&Prover>,
        form: &[(&str, &str)],
        token: Option<&Secret>,
    ) -> Result<Answer, Failure> {
        match prover {
            Some(prover) => self.proved(server, prover, form, token),
            None => {
                let post = self.agent.post(server.url(TOKEN_ROUTE));
                self.read(self.accept(post.send_form(form.to_vec()))?)
            }
        }
    }
}

/// Whether the account needs a code besides the password, and none was shown.
fn needs_code(answer: &Answer) -> bool {
    answer.status == 400
        && answer
            .json()
            .is_ok_and(|refusal| refusal["reason"] == "code-needed")
}
