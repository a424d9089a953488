//! `warrant login`: prove who we are once, for many commands; `warrant logout`.

use serde_json::json;

use crate::args::Login;
use crate::client::{Client, Ended};
use crate::clock::now_s;
use crate::commands::Show;
use crate::duration;
use crate::failure::Failure;
use crate::terminal::{say, visible};

/// Log in and keep the token. It is a secret, so not even `--json` prints it.
pub(crate) fn login(client: &mut Client, options: &Login, show: Show) -> Result<(), Failure> {
    let given = options.auth_host.as_deref().filter(|host| !host.is_empty());
    let by_page = options.device || options.browser;
    if options.scopes.is_some() && !by_page {
        return Err(Failure::Usage(
            "--scopes: with --device or --browser alone".to_owned(),
        ));
    }
    let token = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => client.login_by_certificate(given, certificate, key)?,
        (None, _) | (_, None) if options.device => client.login_by_device(given, options.scopes)?,
        (None, _) | (_, None) if options.browser => {
            client.login_by_browser(given, options.scopes)?
        }
        (None, _) | (_, None) => client.login()?,
    };
    if show.json {
        let document = json!({
            "host": token.host,
            "user": token.user,
            "expires_at": token.expires_at,
            "goes_on": token.renewal.is_some(),
        });
        return say(&document.to_string());
    }
    let until = match &token.renewal {
        Some(_) => "until `warrant logout`".to_owned(),
        None => {
            let life_s = token.expires_at.saturating_sub(now_s());
            format!("for {}", duration::show(life_s))
        }
    };
    say(&format!(
        "Logged in to {} as {} {until}",
        token.host,
        visible(&token.user)
    ))
}

/// End the stored login.
pub(crate) fn logout(client: &mut Client, show: Show) -> Result<(), Failure> {
    let host = client.server().to_string();
    let (word, said) = match client.log_out()? {
        Ended::Revoked => ("revoked", format!("Logged out of {host}")),
        Ended::Forgotten => (
            "forgotten",
            format!(
                "Logged out here; {host} does not revoke tokens: this one counts until it ends"
            ),
        ),
        Ended::None => ("none", "You are not logged in".to_owned()),
    };
    if show.json {
        return say(&json!({"host": host, "login": word}).to_string());
    }
    say(&said)
}
