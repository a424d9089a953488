//! Sessions that a password at hand opened, used again by later commands.

use super::Client;
use crate::auth::Token;
use crate::clock::now_s;
use crate::prover::Prover;
use crate::secret::Secret;
use crate::session_file::{Mark, place, read};
use crate::token_file::{StoredToken, TokenFile};

impl Client {
    /// Where the session of this server and user is kept; `None` where each command
    /// has to ask for the password, which nobody wants to be remembered.
    pub(super) fn session_place(&self) -> Option<TokenFile> {
        let file = self.token_file.as_ref()?;
        let lasting = self.credentials.password.is_lasting() && !self.is_key;
        let host = self.server.to_string();
        lasting.then(|| place(file, &host, &self.credentials.user))
    }

    /// Whether there is a place where something can be kept.
    pub(super) fn can_keep(&self) -> bool {
        let file = self.token_file.as_ref();
        file.is_some_and(|file| file.lock().is_ok())
    }

    /// Go on with the session that an earlier command opened with this password.
    pub(super) fn resume(&mut self) {
        let Some(session) = self.session_place() else {
            return;
        };
        // What is wrong with the password is told where it is needed.
        let Ok(password) = self.credentials.password(&self.server) else {
            return;
        };
        let (host, user) = (self.server.to_string(), &self.credentials.user);
        let Some(kept) = read(&session, &host, user, &password) else {
            return;
        };
        let prover = match (&self.token_file, &kept.bound) {
            (Some(file), Some(base)) => match Prover::kept(file, base.clone()) {
                Some(prover) => Some(prover),
                // A token whose key is gone is of no use.
                None => return,
            },
            (_, None) | (None, _) => None,
        };
        self.bearer = Some(Secret::new(&*kept.access_token));
        self.prover = prover;
    }

    /// Keep the session of `token` for later commands. Where that cannot be, each
    /// opens its own.
    pub(super) fn keep_session(&self, file: &TokenFile, token: &Token, prover: Option<&Prover>) {
        let password = self.credentials.password(&self.server);
        let Ok(Ok(mark)) = password.map(|password| Mark::new(&password)) else {
            return;
        };
        let kept = StoredToken {
            host: self.server.to_string(),
            user: self.credentials.user.clone(),
            access_token: token.text.reveal().to_owned(),
            expires_at: now_s().saturating_add(token.life_s),
            bound: prover.map(|prover| prover.base().to_owned()),
            renewal: None,
            mark: Some(mark),
        };
        // No command fails for want of a place.
        let _ = file.write(&kept);
    }
}
