//! Files that are replaced take the place of the old ones without a restart:
//! connections that come afterwards get them, those that are there go on.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::load::{load, now_s};
use super::{Files, Loaded, Tls};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long before its end a certificate is warned of.
const SOON_S: i64 = 14 * 86_400;
/// How often it is warned of.
const REMIND_S: i64 = 86_400;

/// What the last look found wrong.
#[derive(Default)]
struct Last {
    trouble: Option<String>,
    warned_s: i64,
}

impl Tls {
    /// Look at the files for ever: every few seconds, and at once on SIGHUP.
    /// What does not fit is logged, once, and leaves what is in use in place.
    pub async fn watch(self: Arc<Self>) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut last = Last {
            warned_s: now_s(),
            ..Last::default()
        };
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = hung_up(hangup.as_mut()) => true,
            };
            let tls = self.clone();
            let look = tokio::task::spawn_blocking(move || tls.look()).await;
            let trouble = match look {
                Ok(Ok(changed)) => {
                    if asked && !changed {
                        tracing::info!("listen.tls: the files are those in use");
                    }
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("listen.tls: the files could not be looked at".to_owned()),
            };
            if let Some(trouble) = &trouble
                && (asked || last.trouble.as_ref() != Some(trouble))
            {
                tracing::error!("{trouble}; the certificate in memory stays in use");
            }
            last.trouble = trouble;
            if now_s() >= last.warned_s.saturating_add(REMIND_S) {
                last.warned_s = now_s();
                warn_of_end(&self.files, &self.current());
            }
        }
    }

    /// One look; whether anything had changed.
    ///
    /// Errors: what is there does not fit.
    pub(super) fn look(&self) -> Result<bool, super::Error> {
        let contents = self.files.read()?;
        if contents.digest() == self.current().digest {
            return Ok(false);
        }
        let loaded = load(&self.files, &contents)?;
        warn_of_end(&self.files, &loaded);
        self.replace(loaded);
        tracing::info!("listen.tls: the files were read anew");
        Ok(true)
    }
}

async fn hung_up(hangup: Option<&mut tokio::signal::unix::Signal>) {
    match hangup {
        Some(hangup) => {
            if hangup.recv().await.is_none() {
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

/// Say so where the certificate ends soon, or has ended.
pub(super) fn warn_of_end(files: &Files, loaded: &Loaded) {
    let left_s = loaded.ends_s.saturating_sub(now_s());
    if left_s < 0 {
        tracing::error!("{}", files.certificate_error("has expired"));
    } else if left_s < SOON_S {
        let days = left_s / 86_400;
        let why = format!("expires in {days} days");
        tracing::warn!("{}", files.certificate_error(&why));
    }
}
