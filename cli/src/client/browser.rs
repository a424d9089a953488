//! Logging in with a browser on this machine: it shows the server's page, and
//! brings back a code that only this process can use. Source: RFC 8252, RFC
//! 7636.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use sha2::{Digest, Sha256};
use warrant_api::scope::Scopes;

use super::Client;
use super::renewal::CLIENT_ID;
use crate::auth::{random_text, read_issued};
use crate::callback::{Callback, Expected};
use crate::failure::Failure;
use crate::refusal::describe;
use crate::secret::Secret;
use crate::server::Server;
use crate::terminal::tell;
use crate::token_file::StoredToken;

impl Client {
    /// Log in on a page of the auth service at `given`, else of the server
    /// itself, and store the login. The address of the page is printed, not
    /// handed to a browser on its command line, where others could read it.
    ///
    /// Errors: `Refused` when the user says no, or nobody says anything.
    pub(crate) fn login_by_browser(
        &mut self,
        given: Option<&str>,
        scopes: Option<Scopes>,
    ) -> Result<StoredToken, Failure> {
        let file = self.place_for_token()?;
        let auth = self.auth_server(given)?;
        let issuer = self.issuer_of(&auth)?;
        let prover = self.prover_for(&auth, "authorization_code", true)?;
        let callback = Callback::listen()?;
        let redirect_uri = callback.uri();
        let verifier = Secret::new(random_text::<32>()?);
        let state = random_text::<16>()?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.reveal()));
        let mut query = Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("redirect_uri", &redirect_uri)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("state", &state);
        if let Some(scopes) = scopes {
            query.append_pair("scope", &scopes.to_string());
        }
        let page = auth.url(&format!("/oauth/authorize?{}", query.finish()));
        tell(&format!(
            "To log in, open this page in a browser on this machine:\n\n{page}\n\nWaiting…"
        ));
        let code = callback.wait(&Expected { state, issuer })?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.reveal()),
            ("code_verifier", verifier.reveal()),
            ("redirect_uri", redirect_uri.as_str()),
            ("client_id", CLIENT_ID),
        ];
        let answer = self.ask(&auth, prover.as_ref(), &form, None)?;
        if answer.status != 200 {
            return Err(Failure::Refused(format!(
                "{auth} gives no token for the code: {}",
                describe(answer.status, &answer.body)
            )));
        }
        let token = read_issued(&answer.body)?;
        self.keep_renewable(&file, &auth, token, prover)
    }

    /// How the auth service calls itself where it brings a code. Source: RFC
    /// 9207 §2.4.
    fn issuer_of(&self, auth: &Server) -> Result<String, Failure> {
        let url = auth.url("/.well-known/oauth-authorization-server");
        let answer = self.read(self.accept(self.agent.get(url).call())?)?;
        let about = (answer.status == 200).then(|| answer.json().ok()).flatten();
        let issuer = about.and_then(|about| Some(about["issuer"].as_str()?.to_owned()));
        issuer.ok_or_else(|| {
            Failure::Refused(format!(
                "{auth} knows no login by a browser; if it has an auth service of its own, give \
                 that address with --auth-host"
            ))
        })
    }
}
