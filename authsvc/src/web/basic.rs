//! A name and a password as HTTP Basic spells them. Source: RFC 7617 §2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use warrant_api::credential::BASIC_CLIENT;
use warrant_api::oauth::Granted;
use warrant_api::scope::Scopes;

use super::Web;
use crate::audit::{Event, Sort};
use crate::login::{Asked, Attempt, Refusal, Wrong};
use crate::secret::Secret;
use crate::source::Source;
use crate::token::Audience;

/// The life of a token that they are exchanged for, in seconds.
const TOKEN_LIFE_S: u64 = 300;

impl Web {
    /// An access token for the name and the password in `value`, judged as
    /// every other login.
    ///
    /// Errors: [`Refusal`].
    pub(crate) async fn exchange_basic(
        &self,
        value: &Secret,
        source: Source,
    ) -> Result<Granted, Refusal> {
        let Some((user, password)) = read(value) else {
            let event = Event::new(Sort::Login, source);
            self.login.audit.refused(event, "basic");
            return Err(Wrong::Name.into());
        };
        let attempt = Attempt {
            user,
            password,
            code: None,
            once: None,
            asked: Asked {
                client_id: BASIC_CLIENT.into(),
                most: Scopes::ALL,
                scopes: None,
                token_s: TOKEN_LIFE_S,
                refresh_s: None,
                audience: Audience::Broker,
                proof: None,
            },
            source,
        };
        self.login.clone().judge(attempt).await
    }
}

/// The name and the password in `value`, which is what follows `Basic`.
pub(crate) fn read(value: &Secret) -> Option<(String, Secret)> {
    let decoded = STANDARD.decode(value.expose().trim()).ok()?;
    let decoded = Secret::new(String::from_utf8(decoded).ok()?);
    let (user, password) = decoded.expose().split_once(':')?;
    Some((user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_the_first_colon_and_a_password_may_hold_more() {
        let value = |text: &str| Secret::new(STANDARD.encode(text));
        let (user, password) = read(&value("ann:p:w é")).unwrap();
        assert_eq!((user.as_str(), password.expose()), ("ann", "p:w é"));
        assert!(read(&value("ann")).is_none());
        assert!(read(&Secret::new("****")).is_none());
    }
}
