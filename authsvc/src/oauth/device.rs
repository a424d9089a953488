//! Tokens for a program that cannot show a page: it shows a short code, which
//! its user types in elsewhere. Source: RFC 8628.

use std::time::Instant;
use warrant_api::oauth::{Decision, DeviceStart, Granted};
use warrant_api::scope::Scopes;

use super::{Asking, Client, OAuth, Refused, SignedIn, client};
use crate::audit::{Event, Sort};
use crate::clock;
use crate::lasting::Lasts;
use crate::opaque;
use crate::secret::Secret;
use crate::sessions::{Kind, Opening, later, within};
use crate::source::Source;
use crate::store::devices::{self, Decided, Device};
use crate::store::sessions;
use crate::throttle::{Throttle, Verdict};
use crate::user_name::UserName;

/// How long the codes are good, in seconds.
const LIFE_S: u64 = 600;
/// Seconds to wait between two questions, and by how many a device that asks
/// too soon has to wait longer. Source: RFC 8628 §3.2, §3.5.
const INTERVAL_S: u64 = 5;
/// The longest that a device has to wait between two questions, in seconds.
const LONGEST_INTERVAL_S: i64 = 60;
/// Devices that wait at once.
const MOST: i64 = 10_000;
/// What the user's code is made of: no vowels, so no words; nothing that looks
/// like something else. Source: RFC 8628 §6.1.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of the user's code.
const LENGTH: usize = 8;

/// A device that waits for its user.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Its program.
    pub(crate) client: Client,
    /// What it asks for.
    pub(crate) scopes: Scopes,
    user_code: String,
}

impl OAuth {
    /// Let a device begin.
    ///
    /// Errors: [`Refused`].
    pub(crate) async fn begin_device(
        &self,
        client: &Client,
        asking: &Asking,
        event: &mut Event,
    ) -> Result<DeviceStart, Refused> {
        event.sort = Sort::Device;
        event.audience = Some(client.id.clone());
        let scopes = asking.scopes.unwrap_or(client.scopes);
        if !scopes.within(client.scopes) || scopes.is_empty() {
            return Err(Refused::Scope);
        }
        borne(&self.begun, None, &asking.source).await?;
        self.begun.fail(None, &asking.source, Instant::now());
        let place = self.audit.place()?;
        let (device_code, hash) = opaque::make(opaque::DEVICE)?;
        let user_code = user_code()?;
        let device = Device {
            hash,
            user_code: user_code.clone(),
            client_id: client.id.clone(),
            scopes: scopes.to_string(),
            expires_us: later(clock::now_us(), LIFE_S),
            interval_s: INTERVAL_S as i64,
            polled_us: None,
            decision: None,
            subject: None,
            giver_id: None,
        };
        let mut tx = self.db.begin().await?;
        if !devices::insert(&mut tx, &device, MOST).await? {
            return Err(Refused::Busy);
        }
        tx.commit().await?;
        place.granted(event.clone());
        let (front, back) = user_code.split_at_checked(LENGTH / 2).unwrap_or_default();
        let shown = format!("{front}-{back}");
        let uri = format!("{}/oauth/device", self.config.url);
        Ok(DeviceStart {
            device_code: device_code.expose().to_owned(),
            verification_uri_complete: format!("{uri}?user_code={shown}"),
            verification_uri: uri,
            user_code: shown,
            expires_in: LIFE_S,
            interval: INTERVAL_S,
        })
    }

    /// Tokens for a device whose user approved it.
    ///
    /// Errors: [`Refused::Pending`] and [`Refused::SlowDown`] until then.
    pub(crate) async fn for_device(
        &self,
        client: &Client,
        device_code: &Secret,
        asking: &Asking,
        event: &mut Event,
    ) -> Result<Granted, Refused> {
        event.sort = Sort::Device;
        let unknown = || Refused::Proof("device-code");
        let hash = opaque::read(opaque::DEVICE, device_code).ok_or_else(unknown)?;
        let now_us = clock::now_us();
        let device = self.poll(client, &hash, now_us).await?;
        let subject = device.subject.ok_or_else(unknown)?;
        event.subject = Some(subject.clone());
        let user = self.directory().standing(&subject).await??;
        event.uid = user.uid;
        let given: Scopes = device.scopes.parse().map_err(|_| Refused::Scope)?;
        let scopes = within(asking.scopes, client.scopes.and(given), user.role);
        let scopes = scopes.ok_or(Refused::Scope)?;
        let place = self.audit.place()?;
        let mut tx = self.db.begin().await?;
        self.hold(&mut tx, &subject, client).await?;
        let giver = device.giver_id.as_deref();
        let opened = self.sessions.open(Opening {
            kind: Kind::Device,
            user,
            scopes,
            client_id: client.id.clone(),
            jkt: asking.jkt(),
            source: asking.source.to_string(),
            token_s: self.token_s(),
            refresh_s: self.refresh_s(client),
            audience: asking.audience,
            parent: self.parent(&mut tx, giver, now_us).await?,
        })?;
        // Of two who ask at once, one finds it.
        let held = devices::hold(&mut tx, &hash).await?;
        if held.and_then(|device| device.subject).as_ref() != Some(&subject) {
            return Err(unknown());
        }
        devices::delete(&mut tx, &hash).await?;
        asking.spend_proof(&mut tx).await?;
        opened.write(&mut tx, None).await?;
        tx.commit().await?;
        event.jti = Some(opened.jti);
        place.granted(event.clone());
        Ok(opened.granted)
    }

    /// The device with this hash, if its user approved it.
    async fn poll(&self, client: &Client, hash: &str, now_us: i64) -> Result<Device, Refused> {
        let mut tx = self.db.begin().await?;
        let device = devices::hold(&mut tx, hash).await?;
        let device = device
            .filter(|device| device.client_id == client.id)
            .ok_or(Refused::Proof("device-code"))?;
        if device.expires_us <= now_us {
            return Err(Refused::Expired);
        }
        match device.decision.as_deref() {
            Some(APPROVED) => return Ok(device),
            Some(_) => return Err(Refused::Denied),
            None => {}
        }
        let next_us = device
            .polled_us
            .map(|at_us| at_us.saturating_add(device.interval_s.saturating_mul(1_000_000)));
        let early = next_us.is_some_and(|next_us| now_us < next_us);
        let (interval_s, refused) = if early {
            let longer = device.interval_s.saturating_add(INTERVAL_S as i64);
            (longer.min(LONGEST_INTERVAL_S), Refused::SlowDown)
        } else {
            (device.interval_s, Refused::Pending)
        };
        devices::polled(&mut tx, hash, interval_s, now_us).await?;
        tx.commit().await?;
        Err(refused)
    }
}

/// How a decision is kept.
const APPROVED: &str = "approved";
const DENIED: &str = "denied";

/// A new code to be typed in. Source: RFC 8628 §6.1.
fn user_code() -> Result<String, Refused> {
    let mut code = String::new();
    while code.len() < LENGTH {
        for byte in opaque::random::<16>()? {
            // 240 is the largest multiple of 20: each letter is as likely.
            let letter = LETTERS.get(usize::from(byte) % LETTERS.len());
            if let Some(letter) = letter.filter(|_| byte < 240 && code.len() < LENGTH) {
                code.push(char::from(*letter));
            }
        }
    }
    Ok(code)
}

/// The letters of what a user typed in.
fn typed(text: &str) -> Option<String> {
    let letters: String = text
        .chars()
        .take(64)
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let good = letters.len() == LENGTH && letters.bytes().all(|byte| LETTERS.contains(&byte));
    good.then_some(letters)
}

/// The device whose code `user` typed in. Nobody tries many.
///
/// Errors: [`Refused`].
pub(crate) async fn find(
    oauth: &OAuth,
    user: &SignedIn,
    text: &str,
    source: &Source,
) -> Result<Waiting, Refused> {
    let name = UserName::parse(&user.session.subject).ok();
    borne(&oauth.typed, name.as_ref(), source).await?;
    let found = match typed(text) {
        Some(user_code) => {
            let mut conn = oauth.db.read().await?;
            devices::find_undecided(&mut conn, &user_code, clock::now_us()).await?
        }
        None => None,
    };
    let Some(device) = found else {
        oauth.typed.fail(name.as_ref(), source, Instant::now());
        return Err(Refused::Proof("user-code"));
    };
    let client = client::find(&oauth.db, &device.client_id).await?;
    Ok(Waiting {
        client: client.ok_or(Refused::Client)?,
        scopes: device.scopes.parse().map_err(|_| Refused::Scope)?,
        user_code: device.user_code,
    })
}

/// Decide about a device; returns what it may have. That is what it asks for,
/// as far as the user may have it with the token that decides, and for as long as
/// `lasts` says.
///
/// Errors: [`Refused`].
pub(crate) async fn decide(
    oauth: &OAuth,
    waiting: &Waiting,
    user: &SignedIn,
    (decision, lasts): (Decision, Lasts<'_>),
    source: &Source,
) -> Result<Scopes, Refused> {
    let subject = &user.session.subject;
    let most = waiting.client.scopes.and(user.scopes).and(waiting.scopes);
    let (word, scopes) = match decision {
        Decision::Approve => (
            APPROVED,
            within(None, most, user.session.role).ok_or(Refused::Scope)?,
        ),
        Decision::Deny => (DENIED, Scopes::NONE),
    };
    let place = oauth.audit.place()?;
    let now_us = clock::now_us();
    let mut tx = oauth.db.begin().await?;
    // Whoever ends the session meanwhile finds the decision.
    let held = sessions::hold(&mut tx, &user.session.id, now_us).await?;
    held.ok_or(Refused::Bearer)?;
    let decided = Decided {
        decision: word,
        subject,
        scopes: &scopes.to_string(),
        giver_id: lasts.giver(user),
    };
    if !devices::decide(&mut tx, &waiting.user_code, decided, now_us).await? {
        return Err(Refused::Proof("user-code"));
    }
    tx.commit().await?;
    let mut event = OAuth::event(Sort::Authorize, source, Some(subject));
    event.uid = user.session.uid;
    event.audience = Some(waiting.client.id.clone());
    event.detail = lasts.detail(user);
    place.granted(event);
    Ok(scopes)
}

async fn borne(
    throttle: &Throttle,
    user: Option<&UserName>,
    source: &Source,
) -> Result<(), Refused> {
    match throttle.check(user, source, Instant::now()) {
        Verdict::Proceed => Ok(()),
        Verdict::Slow(by) => {
            tokio::time::sleep(by).await;
            Ok(())
        }
        Verdict::Refuse(wait_s) => Err(Refused::Throttled(wait_s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_to_be_typed_in_has_eight_letters_that_cannot_be_mistaken() {
        for _ in 0..100 {
            let code = user_code().unwrap();
            assert_eq!(typed(&code), Some(code.clone()));
            let (front, back) = code.split_at(4);
            let spoken = format!(" {}-{} ", front.to_lowercase(), back);
            assert_eq!(typed(&spoken), Some(code));
        }
    }

    #[test]
    fn what_can_be_no_code_is_none() {
        for text in [
            "",
            "BCDF-GHJ",
            "BCDF-GHJKL",
            "ABCD-EFGH",
            "BCDF-GHJ0",
            "БCDFGHJK",
        ] {
            assert_eq!(typed(text), None, "{text}");
        }
        assert_eq!(typed(&"-".repeat(100_000)), None);
    }
}
