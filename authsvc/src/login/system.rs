//! Passwords of the machine's accounts, judged by PAM through `warrant-pam`.
//!
//! The account comes first: PAM is never asked about root, a system account
//! or a name that is none, so that nothing here tells whether their password
//! was right, or locks them out elsewhere. PAM takes differently long over
//! different failures; every failure is answered at the same time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use warrant_pam::{FRAME_BYTES, Question, Verdict};
use zeroize::Zeroizing;

use super::{Barred, Checked, Login, Refusal, Shown, Wrong};
use crate::config;
use crate::error::{Error, Kind, Part, Result};
use crate::handshake::{self, Once};
use crate::passwords::Busy;
use crate::source::Source;
use crate::store::spent::{self, OneUse};
use crate::store::users;
use crate::user_name::UserName;

/// When a failure is answered, counted from the login's turn. PAM's own delay
/// is not waited for, so that failures do not hold turns that others need.
pub(super) const FAILED_AFTER: Duration = Duration::from_secs(2);
/// How long a login waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(10);
/// How long PAM may take.
const PAM_PATIENCE: Duration = Duration::from_secs(15);

/// Asks `warrant-pam`, a few questions at a time.
#[derive(Debug)]
pub(crate) struct System {
    socket: PathBuf,
    service: String,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

pub(super) type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl System {
    /// Ask as `pam` says.
    pub(crate) fn new(pam: &config::Pam) -> Self {
        Self {
            socket: pam.socket.clone(),
            service: pam.service.clone(),
            places: Arc::new(Semaphore::new(pam.parallel.saturating_add(pam.queue))),
            turns: Arc::new(Semaphore::new(pam.parallel)),
        }
    }

    /// Wait for a turn.
    ///
    /// Errors: [`Busy`].
    pub(super) async fn turn(&self) -> Result<Turn, Busy> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Busy)?;
        let turn = tokio::time::timeout(TURN_PATIENCE, self.turns.clone().acquire_owned())
            .await
            .map_err(|_| Busy)?
            .map_err(|_| Busy)?;
        Ok((place, turn))
    }

    /// Ask PAM whether it accepts what is `shown` for `name`; what can be no
    /// password is none.
    ///
    /// Errors: it does not, or cannot tell.
    pub(super) async fn accepts(&self, name: &UserName, shown: &Shown) -> Result<(), Refusal> {
        let password = shown.password.expose().as_bytes();
        let code = shown.code.as_ref().map(|code| code.expose().as_bytes());
        let question = Question::new(&self.service, name.as_str(), password)
            .and_then(|question| question.with_code(code.unwrap_or_default()))
            .map_err(|_| Wrong::Password)?;
        let mut frame = Zeroizing::new([0; FRAME_BYTES]);
        question.encode(&mut frame);
        let asked = tokio::time::timeout(PAM_PATIENCE, async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(frame.as_slice()).await?;
            stream.read_u8().await
        });
        let unavailable =
            |source| Error::unavailable("warrant-pam did not answer", source).of(Part::Passwords);
        let code = asked
            .await
            .map_err(|late| unavailable(late.into()))?
            .map_err(unavailable)?;
        Err(match Verdict::from_code(code) {
            Verdict::Accepted => return Ok(()),
            Verdict::Denied => Wrong::Password.into(),
            Verdict::CodeNeeded => Barred::CodeNeeded.into(),
            Verdict::PasswordExpired => Barred::PasswordExpired.into(),
            Verdict::AccountExpired => Barred::AccountExpired.into(),
            Verdict::NotNow => Barred::NotNow.into(),
            Verdict::Unavailable => Error::new(Kind::Unavailable, "PAM cannot check passwords now")
                .of(Part::Passwords)
                .into(),
        })
    }
}

impl Login {
    /// The account, if PAM accepts the password and the payload is fresh.
    pub(super) async fn check_system(
        &self,
        system: &System,
        name: Option<&UserName>,
        shown: Shown,
        once: Option<Once>,
        source: &Source,
    ) -> Result<Checked, Refusal> {
        let turn = system.turn().await?;
        self.check_again(name, source)?;
        let began = Instant::now();
        let mut checked = self.ask(system, name, &shown).await;
        if checked.is_ok()
            && let Some(once) = once
            && let Err(refusal) = self.spend(&once).await
        {
            checked = Err(refusal);
        }
        // Counted before the next has its turn, and long before it is told.
        self.count(&checked, name, source);
        drop(turn);
        if let Err(Refusal::Wrong(_) | Refusal::Barred(_)) = checked {
            tokio::time::sleep_until(began + FAILED_AFTER).await;
        }
        checked
    }

    pub(super) async fn spend(&self, once: &Once) -> Result<(), Refusal> {
        let mut tx = self.db.begin().await?;
        if !spent::spend(&mut tx, OneUse::Payload(&once.id), once.ends_us).await? {
            return Err(Refusal::Payload(handshake::Refused::Undecodable));
        }
        Ok(tx.commit().await?)
    }

    async fn ask(
        &self,
        system: &System,
        name: Option<&UserName>,
        shown: &Shown,
    ) -> Result<Checked, Refusal> {
        let name = name.ok_or(Wrong::Name)?;
        let account = self.account(Some(name)).await?.ok_or(Wrong::Unknown)?;
        if let Err(none) = account
            && !none.may_be_proven()
        {
            return Err(Wrong::Account(none).into());
        }
        let row = users::find(&mut self.db.read().await?, name).await?;
        if row.is_some_and(|row| row.disabled) {
            return Err(Wrong::Disabled.into());
        }
        system.accepts(name, shown).await?;
        Ok(Checked::by_system(name, account.map_err(Barred::Account)?))
    }
}
