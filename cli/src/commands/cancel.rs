//! `warrant cancel`: end jobs.

use serde_json::Value;

use crate::client::{Client, Request};
use crate::commands::Show;
use crate::failure::Failure;
use crate::job::JobId;
use crate::refusal::describe;
use crate::terminal::{complain, say, visible_json};

/// Cancel each of the jobs, whatever becomes of the others. The exit code: 1
/// if any could not be cancelled. As JSON, the server's answers in a list.
pub(crate) fn cancel(client: &mut Client, ids: &[JobId], show: Show) -> Result<u8, Failure> {
    let mut exit_code = 0;
    let mut answers = Vec::new();
    for id in ids {
        let route = id.route("/cancel");
        let answer = client.answer(&Request::Post(&route, None))?;
        if (200..300).contains(&answer.status) {
            if !show.json {
                say(&format!("Job {id} is being cancelled"))?;
            }
        } else {
            complain(&format!(
                "job {id}: {}",
                describe(answer.status, &answer.body)
            ));
            exit_code = 1;
        }
        if show.json {
            answers.push(answer.json()?);
        }
    }
    if show.json {
        let document = Value::Array(answers).to_string();
        if show.look.terminal {
            say(&visible_json(&document))?;
        } else {
            say(&document)?;
        }
    }
    Ok(exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::{FakeServer, Reply};
    use crate::terminal::Look;

    #[test]
    fn one_job_that_cannot_be_cancelled_does_not_save_the_others() {
        let server = FakeServer::start(|request| match request.target.as_str() {
            "/v1/jobs/1/cancel" => Reply::json(
                400,
                r#"{"Message":"Job cannot be cancelled: job is inactive.","id":"1"}"#,
            ),
            "/v1/jobs/2/cancel" => {
                Reply::json(200, r#"{"Message":"Job is requested to cancel.","id":"2"}"#)
            }
            other => panic!("{other}"),
        });
        let ids = ["1".parse().unwrap(), "2".parse().unwrap()];
        let show = Show {
            json: true,
            look: Look::PIPED,
        };
        assert_eq!(cancel(&mut server.client(), &ids, show), Ok(1));
        assert_eq!(server.requests(), 2);
    }
}
