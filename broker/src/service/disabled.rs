//! Accounts that were disabled or removed: what waits in their name never
//! starts.

use std::time::Duration;

use super::Jobs;
use crate::error::Result;
use crate::model::{Micros, Owner};
use crate::store::Cancel;

/// How long after an account was disabled its tokens may still have counted.
const LAG_S: u64 = 30;
/// How often it is looked whether something came meanwhile.
const AGAIN: Duration = Duration::from_secs(5);

impl Jobs {
    /// End what waits in the name of `account` and was accepted while tokens
    /// from before `before_s` (seconds since the Unix epoch) may have
    /// counted. Looks again until none of those can come any more.
    pub async fn end_waiting_of(&self, account: &str, before_s: u64) {
        let last_s = before_s.saturating_add(LAG_S);
        let last =
            Micros::new(i64::try_from(last_s).map_or(i64::MAX, |s| s.saturating_mul(1_000_000)));
        loop {
            let now = Micros::now();
            match self.end_waiting_until(account, last).await {
                Ok(ended) if ended > 0 => {
                    tracing::info!(
                        user.name = account,
                        jobs = ended,
                        "the account was disabled"
                    );
                }
                Ok(_) if now > last => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(user.name = account, %error, "jobs of a disabled account were not ended");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn end_waiting_until(&self, account: &str, last: Micros) -> Result<usize> {
        let waiting = self.0.store.list_unstarted(account, last).await?;
        let count = waiting.len();
        for job in waiting {
            let wish = Cancel {
                job,
                by: Owner {
                    name: "the auth service".into(),
                    uid: None,
                },
                source: "local".into(),
                token: None,
                note: "the account was disabled".into(),
                refused: false,
                at: Micros::now(),
            };
            self.carry_out(wish).await?;
        }
        Ok(count)
    }
}
