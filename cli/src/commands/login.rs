//! `warrant login`: prove who we are once, for many commands.

use serde_json::json;

use crate::args::Login;
use crate::client::Client;
use crate::clock::now_s;
use crate::commands::Show;
use crate::duration;
use crate::failure::Failure;
use crate::terminal::{say, visible};

/// Log in and keep the token. It is a secret, so not even `--json` prints it.
pub(crate) fn login(client: &mut Client, options: &Login, show: Show) -> Result<(), Failure> {
    let token = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => {
            let given = options.auth_host.as_deref().filter(|host| !host.is_empty());
            client.login_by_certificate(given, certificate, key)?
        }
        (None, _) | (_, None) => client.login()?,
    };
    if show.json {
        let document = json!({
            "host": token.host,
            "user": token.user,
            "expires_at": token.expires_at,
        });
        return say(&document.to_string());
    }
    let life = duration::show(token.expires_at.saturating_sub(now_s()));
    say(&format!(
        "Logged in to {} as {} for {life}",
        token.host,
        visible(&token.user)
    ))
}
