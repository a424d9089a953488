//! Tokens that stand in our forms: each is bound to the cookie of the browser
//! that was given the form, and nobody can know it who does not know that.

use crate::opaque;
use crate::secret::Secret;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The form to sign in.
    SignIn,
    /// Whatever somebody does who is signed in.
    Session,
}

/// The token of the browser that shows `cookie`.
pub(crate) fn token(cookie: &Secret, purpose: Purpose) -> String {
    let purpose = match purpose {
        Purpose::SignIn => "sign-in",
        Purpose::Session => "session",
    };
    // The cookie has 256 random bits, and the session is found by the hash of
    // it alone: a hash of more tells nothing of either.
    let text = Secret::new(format!("warrant csrf {purpose} {}", cookie.expose()));
    opaque::hash(text.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_cookie_and_one_purpose() {
        let [one, other] = [(), ()].map(|()| opaque::make(opaque::WEB).unwrap().0);
        let own = token(&one, Purpose::Session);
        assert_eq!(own, token(&one, Purpose::Session));
        assert_ne!(own, token(&other, Purpose::Session));
        assert_ne!(own, token(&one, Purpose::SignIn));
        assert_ne!(own, opaque::hash(one.expose()));
    }
}
