//! Logging in from a shell that has no browser: a code is shown here, and
//! typed into a page elsewhere. Source: RFC 8628.

use std::thread;
use std::time::{Duration, Instant};

use warrant_api::oauth::{DEVICE_GRANT, DeviceStart};
use warrant_api::scope::Scopes;

use super::renewal::{CLIENT_ID, error_of};
use super::{Client, not_understood};
use crate::auth::read_issued;
use crate::duration;
use crate::failure::Failure;
use crate::refusal::describe;
use crate::server::Server;
use crate::terminal::{tell, visible};
use crate::token_file::StoredToken;

/// The longest that codes are believed to be good, in seconds.
const LONGEST_LIFE_S: u64 = 3600;
/// The longest wait between two questions, in seconds.
const LONGEST_INTERVAL_S: u64 = 60;
/// By how many seconds to wait longer where the server says so. Source: RFC
/// 8628 §3.5.
const SLOWER_S: u64 = 5;

impl Client {
    /// Log in by a code that is typed in elsewhere, and store the login. The
    /// auth service is the one at `given`, else the server itself.
    ///
    /// Errors: `Refused` when the user says no, or nobody says anything; the
    /// server knows no such login.
    pub(crate) fn login_by_device(
        &mut self,
        given: Option<&str>,
        scopes: Option<Scopes>,
    ) -> Result<StoredToken, Failure> {
        let file = self.place_for_token()?;
        let auth = self.auth_server(given)?;
        let prover = self.prover_for(&auth, DEVICE_GRANT, true)?;
        let start = self.begin_device(&auth, scopes)?;
        show(&start)?;
        let form = [
            ("grant_type", DEVICE_GRANT),
            ("device_code", start.device_code.as_str()),
            ("client_id", CLIENT_ID),
        ];
        let end = Instant::now() + Duration::from_secs(start.expires_in.min(LONGEST_LIFE_S));
        let mut interval_s = start.interval.clamp(1, LONGEST_INTERVAL_S);
        while Instant::now() < end {
            thread::sleep(Duration::from_secs(interval_s));
            let answer = match self.ask(&auth, prover.as_ref(), &form, None) {
                // It may be back before the code is over.
                Err(Failure::Unreachable(_) | Failure::Unanswered(_)) => {
                    interval_s = (interval_s * 2).min(LONGEST_INTERVAL_S);
                    continue;
                }
                answer => answer?,
            };
            match (answer.status, error_of(&answer).as_deref()) {
                (200, _) => {
                    let token = read_issued(&answer.body)?;
                    return self.keep_renewable(&file, &auth, token, prover);
                }
                (_, Some("authorization_pending")) => {}
                (_, Some("slow_down")) | (429 | 503, _) => {
                    interval_s = (interval_s + SLOWER_S).min(LONGEST_INTERVAL_S);
                }
                (_, Some("expired_token")) => break,
                (_, Some("access_denied")) => {
                    return Err(Failure::Refused("the login was denied".to_owned()));
                }
                (status, _) => {
                    return Err(Failure::Refused(format!(
                        "{auth} does not let this device in: {}",
                        describe(status, &answer.body)
                    )));
                }
            }
        }
        Err(Failure::Refused(
            "nobody allowed the login in time: begin again".to_owned(),
        ))
    }

    fn begin_device(&self, auth: &Server, scopes: Option<Scopes>) -> Result<DeviceStart, Failure> {
        let scopes = scopes.map(|scopes| scopes.to_string());
        let mut form = vec![("client_id", CLIENT_ID)];
        form.extend(scopes.as_deref().map(|scopes| ("scope", scopes)));
        let post = self.agent.post(auth.url("/oauth/device_authorization"));
        let answer = self.read(self.accept(post.send_form(form))?)?;
        match answer.status {
            200 => serde_json::from_str(&answer.body).map_err(|_| not_understood()),
            404 | 405 => Err(Failure::Refused(format!(
                "{auth} knows no login by a code; if it has an auth service of its own, give \
                 that address with --auth-host"
            ))),
            status => Err(Failure::Refused(format!(
                "{auth} does not let this device begin: {}",
                describe(status, &answer.body)
            ))),
        }
    }
}

/// Show the user what to do. Nothing of it is believed to be harmless.
fn show(start: &DeviceStart) -> Result<(), Failure> {
    let page: Server = start.verification_uri.parse().map_err(|_| {
        Failure::Refused("the server names no page on which the code could be typed in".to_owned())
    })?;
    let life_s = start.expires_in.min(LONGEST_LIFE_S);
    tell(&format!(
        "To log in, open\n\n    {}\n\nin a browser on any machine, and type in the code\n\n    {}\n\n\
         It is good for {}. Waiting…",
        visible(&page.to_string()),
        visible(&start.user_code),
        duration::show(life_s)
    ));
    Ok(())
}
