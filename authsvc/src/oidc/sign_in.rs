//! Signing in in the browser: the user goes to the provider and comes back with
//! a code. Source: OpenID Connect Core 1.0 §3.1, RFC 7636, RFC 9207.
//!
//! The browser that comes back must be the one that was sent: it holds a cookie
//! of which `nonce` and the verifier of PKCE are made, so that nothing of it is
//! kept here but a hash.

use form_urlencoded::Serializer;
use serde::Deserialize;

use super::claims::{Claims, Expected};
use super::id_token::Unproven;
use super::provider::unreadable;
use super::{Oidc, Provider};
use crate::audit::Event;
use crate::clock;
use crate::directory::Principal;
use crate::lasting::FRESH_S;
use crate::oauth::Refused;
use crate::opaque;
use crate::secret::Secret;
use crate::sessions::later;
use crate::source::Source;
use crate::store::sign_ins::{self, SignIn};

/// How long a browser may stay away, in seconds.
pub(crate) const LIFE_S: u64 = 600;
/// Browsers waited for at once, in all and from one place.
const MOST: i64 = 10_000;
const MOST_OF_SOURCE: i64 = 100;
/// The longest path to go on to, in bytes.
const MAX_NEXT: usize = 1024;
/// The longest code, in bytes.
const MAX_CODE: usize = 4096;
/// The beginning of a state.
const STATE: &str = "wro_";

/// A browser that is to be sent to a provider.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where to.
    pub(crate) redirect: String,
    /// What it shall keep as a cookie for [`LIFE_S`] seconds.
    pub(crate) cookie: Secret,
}

/// A sign-in with a provider that is complete.
#[derive(Debug)]
pub(crate) struct Completed {
    /// The user.
    pub(crate) user: Principal,
    /// The path to go on to.
    pub(crate) next: String,
    /// When the provider had the user prove who they are, in microseconds since
    /// the Unix epoch.
    pub(crate) proven_us: i64,
}

/// What a browser comes back with. Source: RFC 6749 §4.1.2, RFC 9207 §2.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Returned {
    /// What it was sent with.
    pub(crate) state: Option<Secret>,
    /// What tokens are to be had for.
    pub(crate) code: Option<Secret>,
    /// Who sends it back.
    pub(crate) iss: Option<String>,
    /// Why there is no code.
    pub(crate) error: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Secret,
    access_token: Option<Secret>,
}

impl Oidc {
    /// Send a browser to the provider `name`; afterwards it goes on to the
    /// local path `next`. With `again`, the provider shall have the user sign in
    /// unless that was moments ago.
    ///
    /// Errors: [`Refused::Form`], where there is no such provider;
    /// [`Refused::Busy`].
    pub(crate) async fn begin(
        &self,
        name: &str,
        next: &str,
        again: bool,
        source: &Source,
    ) -> Result<Begun, Refused> {
        let provider = self.in_browser(name)?;
        if next.len() > MAX_NEXT {
            return Err(Refused::Form("next: at most 1024 bytes"));
        }
        let discovery = provider.discovery().await?;
        let (state, hash) = opaque::make(STATE)?;
        let (cookie, browser) = opaque::make(opaque::WEB)?;
        let sign_in = SignIn {
            hash,
            browser,
            provider: name.to_owned(),
            next: next.to_owned(),
            source: source.to_string(),
            expires_us: later(clock::now_us(), LIFE_S),
        };
        let mut tx = self.db.begin().await?;
        if !sign_ins::insert(&mut tx, &sign_in, MOST, MOST_OF_SOURCE).await? {
            return Err(Refused::Busy);
        }
        tx.commit().await?;
        let section = provider.section();
        let scopes: Vec<_> = ["openid"]
            .into_iter()
            .chain(section.scopes.iter().map(String::as_str))
            .collect();
        let verifier = derived("verifier", &cookie, &state);
        let mut query = Serializer::new(String::new());
        if !section.acr_values.is_empty() {
            query.append_pair("acr_values", &section.acr_values.join(" "));
        }
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &section.client_id)
            .append_pair("redirect_uri", &self.callback(name))
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", state.expose())
            .append_pair("nonce", derived("nonce", &cookie, &state).expose())
            .append_pair("code_challenge", &opaque::hash(verifier.expose()))
            .append_pair("code_challenge_method", "S256");
        if again {
            query.append_pair("max_age", &FRESH_S.to_string());
        }
        let query = query.finish();
        let endpoint = &discovery.authorization_endpoint;
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        Ok(Begun {
            redirect: format!("{endpoint}{joint}{query}"),
            cookie,
        })
    }

    /// The user with whom a browser comes back from the provider `name`, and
    /// where to go on. What it comes with is good once.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn complete(
        &self,
        name: &str,
        returned: &Returned,
        cookie: Option<&Secret>,
        event: &mut Event,
    ) -> Result<Completed, Refused> {
        let provider = self.in_browser(name)?;
        event.detail = Some(format!("oidc {name}"));
        let unknown = || Refused::Proof("state");
        let state = returned.state.as_ref().ok_or_else(unknown)?;
        let hash = opaque::read(STATE, state).ok_or_else(unknown)?;
        let sign_in = self.take(&hash).await?.ok_or_else(unknown)?;
        let cookie = cookie.ok_or(Refused::Proof("other-browser"))?;
        let shown = opaque::read(opaque::WEB, cookie).unwrap_or_default();
        if !opaque::same(&shown, &sign_in.browser) {
            return Err(Refused::Proof("other-browser"));
        }
        if sign_in.provider != name {
            return Err(Refused::Proof("other-provider"));
        }
        if sign_in.expires_us <= clock::now_us() {
            return Err(Refused::Expired);
        }
        self.check_sender(provider, returned).await?;
        let code = match (&returned.error, &returned.code) {
            (Some(error), _) if error == "access_denied" => return Err(Refused::Denied),
            (Some(_), _) => return Err(Refused::Proof("provider-error")),
            (None, Some(code)) if code.expose().len() <= MAX_CODE => code,
            (None, _) => return Err(Refused::Proof("code")),
        };
        let claims = self.redeem(provider, code, cookie, state).await?;
        let user = self.user(provider, &claims).await?;
        event.subject = Some(user.name.clone());
        event.uid = user.uid;
        Ok(Completed {
            user,
            next: sign_in.next,
            proven_us: claims.signed_in_us(clock::now_us()),
        })
    }

    fn in_browser(&self, name: &str) -> Result<&Provider, Refused> {
        let mut providers = self.providers.iter();
        let found = providers.find(|provider| {
            let section = provider.section();
            section.name == name && !section.client_id.is_empty()
        });
        found.ok_or(Refused::Form("there is no such provider to sign in with"))
    }

    /// Where the provider `name` sends browsers back to. Each has an address of
    /// its own.
    fn callback(&self, name: &str) -> String {
        format!("{}/login/oidc/{name}/callback", self.url)
    }

    async fn take(&self, hash: &str) -> Result<Option<SignIn>, Refused> {
        // Whoever makes states up does not keep others from writing.
        if !sign_ins::is_there(&mut self.db.read().await?, hash).await? {
            return Ok(None);
        }
        let mut tx = self.db.begin().await?;
        let found = sign_ins::take(&mut tx, hash).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// See that it is this provider that sends the browser back, as far as it
    /// says so.
    async fn check_sender(&self, provider: &Provider, returned: &Returned) -> Result<(), Refused> {
        let issuer = &provider.section().issuer;
        match &returned.iss {
            Some(told) if told == issuer => Ok(()),
            Some(_) => Err(Refused::Proof("other-issuer")),
            None if provider.discovery().await?.names_issuer => {
                Err(Refused::Proof("issuer-missing"))
            }
            None => Ok(()),
        }
    }

    /// What the provider says of whoever gave it the code.
    async fn redeem(
        &self,
        provider: &Provider,
        code: &Secret,
        cookie: &Secret,
        state: &Secret,
    ) -> Result<Claims, Refused> {
        let section = provider.section();
        let discovery = provider.discovery().await?;
        let secret = provider.config.secret.as_ref();
        let in_form = secret.filter(|_| discovery.secret_in_form());
        let form = {
            let verifier = derived("verifier", cookie, state);
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "authorization_code")
                .append_pair("code", code.expose())
                .append_pair("redirect_uri", &self.callback(&section.name))
                .append_pair("code_verifier", verifier.expose());
            if secret.is_none() || in_form.is_some() {
                form.append_pair("client_id", &section.client_id);
            }
            if let Some(secret) = in_form {
                form.append_pair("client_secret", secret.expose());
            }
            Secret::new(form.finish())
        };
        let basic = secret
            .filter(|_| in_form.is_none())
            .map(|secret| basic_of(&section.client_id, secret));
        let asked = provider
            .fetcher
            .post(&discovery.token_endpoint, form, basic);
        let (status, body) = asked.await?;
        if status.is_server_error() {
            return Err(unreadable("is that it cannot answer now").into());
        }
        if !status.is_success() {
            return Err(Refused::Proof("code"));
        }
        let tokens: Tokens =
            serde_json::from_slice(&body).map_err(|_| unreadable("has no ID token"))?;
        let nonce = derived("nonce", cookie, state);
        let unproven = Unproven::read(&tokens.id_token).map_err(Refused::Proof)?;
        let expected = Expected {
            issuer: &section.issuer,
            audience: std::slice::from_ref(&section.client_id),
            nonce: Some(nonce.expose()),
            access_token: tokens.access_token.as_ref().map(Secret::expose),
            now_s: clock::now_s(),
        };
        provider.verify(unproven, &expected).await
    }
}

/// What only the browser with `cookie` can have, for one sign-in and purpose.
fn derived(purpose: &str, cookie: &Secret, state: &Secret) -> Secret {
    let joined = Secret::new(format!("{purpose} {} {}", cookie.expose(), state.expose()));
    Secret::new(opaque::hash(joined.expose()))
}

/// Source: RFC 6749 §2.3.1.
fn basic_of(id: &str, secret: &Secret) -> Secret {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Secret::new(format!("{}:{}", encoded(id), encoded(secret.expose())));
    Secret::new(STANDARD.encode(pair.expose()))
}
