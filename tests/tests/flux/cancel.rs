//! Cancelling, in each state a job can be in.

use serde_json::json;
use warrant_tests::on_each_database;

on_each_database! {
    fn a_running_job_is_ended(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit("sleep 300");
        ann.wait_until(job, "RUN");
        let answer = ann.cancel(job);
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.text(),
            format!(r#"{{"Message":"Job is requested to cancel.","id":"{job}"}}"#)
        );
        let info = ann.finished(job);
        assert_eq!(info["result"], "CANCELED");
        assert_eq!(
            info["exception"],
            json!({"occurred": true, "severity": 0, "type": "cancel", "note": ""})
        );
        assert_eq!((&info["waitstatus"], &info["returncode"]), (&json!(36608), &json!(143)));
        let again = ann.cancel(job);
        assert_eq!(again.status, 400);
        assert_eq!(
            again.text(),
            format!(
                r#"{{"Message":"Job cannot be cancelled: [Errno 2] job is inactive.","id":"{job}"}}"#
            )
        );
        house.close();
    }

    fn a_waiting_job_never_starts(setup: Setup) {
        let house = setup.cores(1).open();
        let ann = house.user("ann");
        let first = ann.submit("sleep 300");
        let job = ann.submit("echo ran");
        assert_eq!(ann.cancel(job).status, 200);
        let info = ann.info(job);
        assert_eq!((&info["state"], &info["result"]), (&json!("INACTIVE"), &json!("CANCELED")));
        assert_eq!((&info["returncode"], &info["waitstatus"]), (&json!(-128), &json!("")));
        assert_eq!(info["runtime"], json!(0.0));
        assert!(info.get("t_run").is_none());
        ann.cancel(first);
        let last = ann.submit("true");
        ann.finished(last);
        assert!(ann.get(&format!("/v1/jobs/{job}/output")).text().contains("not exist yet"));
        house.close();
    }

    fn an_unknown_job_cannot_be_cancelled(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        for id in ["12345", "0x3039"] {
            let answer = ann.post(&format!("/v1/jobs/{id}/cancel"));
            assert_eq!(
                answer.with(400),
                json!({"Message": "Job cannot be cancelled: [Errno 2] unknown job id.", "id": id})
            );
        }
        house.close();
    }

    fn a_job_cancelled_just_as_it_starts_ends_cancelled_or_done(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        for _ in 0..30 {
            let job = ann.submit("sleep 300");
            assert_eq!(ann.cancel(job).status, 200);
            assert_eq!(ann.finished(job)["result"], "CANCELED");
        }
        house.close();
    }
}
