//! Where an installation is spoken to, and as whom.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::http::{self, Connection};
use crate::process::LOOK;

const PATIENCE: Duration = Duration::from_secs(30);
/// The password of every user. Nobody but this machine's loopback can use it.
pub(crate) const PASSWORD: &str = "a password of some length";

/// A broker's address, and a user's access token.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// Where the broker listens.
    pub(crate) address: SocketAddr,
    /// The user's access token.
    pub(crate) token: String,
}

impl Door {
    /// Log in.
    ///
    /// Errors: the auth service refuses.
    pub(crate) async fn open(address: SocketAddr, user: &str) -> anyhow::Result<Self> {
        let login = [("username", user), ("password", PASSWORD)];
        let request = http::form("/v1/login/access-token", &login);
        let mut connection = Connection::open(address).await?;
        let answer = connection.ask_json(&request).await?;
        let token = answer.get("access_token").and_then(|token| token.as_str());
        let token = token.context("no token in the answer")?.to_owned();
        Ok(Self { address, token })
    }

    /// Have one job take the whole machine, so that whatever is submitted
    /// after it waits. It ends when what this answers is dropped. `pipe` is a
    /// pipe that the user may read.
    ///
    /// Errors: it does not start.
    pub(crate) async fn hold_machine(&self, pipe: &Path) -> anyhow::Result<File> {
        let hold = File::options().read(true).write(true).open(pipe)?;
        let path = format!(
            "/v1/jobs/submit?exclusive=true&command=cat+{}",
            pipe.display()
        );
        let mut connection = Connection::open(self.address).await?;
        let submit = http::request("POST", &path, Some(&self.token));
        let id = job_id(&connection.ask_json(&submit).await?)?;
        let look = http::request("GET", &format!("/v1/jobs/{id}"), Some(&self.token));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let job = connection.ask_json(&look).await?;
            let running = job.get("state").is_some_and(|state| state == "RUN");
            if running && job.get("t_run").is_some() {
                return Ok(hold);
            }
            ensure!(
                Instant::now() < deadline,
                "the job that waits never started: {job}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The job's id in the answer to a submission.
///
/// Errors: there is none.
pub(crate) fn job_id(answer: &serde_json::Value) -> anyhow::Result<i64> {
    let id = answer.get("id").and_then(serde_json::Value::as_i64);
    id.with_context(|| format!("no job id in {answer}"))
}
