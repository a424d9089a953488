//! The job object: its fields, their order, and what they say in each state.

use serde_json::{Value, json};
use warrant_tests::{House, on_each_database};

/// The fields of a job that has run, in the order in which they are sent.
const FIELDS: [&str; 32] = [
    "id",
    "userid",
    "urgency",
    "priority",
    "t_submit",
    "t_depend",
    "t_priority",
    "t_sched",
    "t_run",
    "t_cleanup",
    "t_inactive",
    "state",
    "name",
    "cwd",
    "ntasks",
    "ncores",
    "duration",
    "nnodes",
    "ranks",
    "nodelist",
    "success",
    "exception_occurred",
    "result",
    "expiration",
    "annotations",
    "waitstatus",
    "returncode",
    "runtime",
    "exception",
    "occurred",
    "severity",
    "type",
];

#[track_caller]
fn in_order(text: &str, fields: &[&str]) {
    let mut behind = 0;
    for field in fields {
        let at = text.find(&format!("\"{field}\":"));
        let at = at.unwrap_or_else(|| panic!("no {field} in {text}"));
        assert!(at >= behind, "{field} stands too early in {text}");
        behind = at;
    }
}

/// The machine's name, as the API gives it.
fn host(house: &House) -> Value {
    house.admin().get("/v1/nodes").with(200)["nodes"][0].clone()
}

on_each_database! {
    fn a_job_that_ended_well_shows_all_there_is(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit_with(&json!({"command": "/bin/echo hello", "workdir": "/tmp",
            "num_tasks": 2, "runtime": 30}));
        let info = ann.finished(job);
        let text = ann.get(&format!("/v1/jobs/{job}")).text();
        in_order(&text, &FIELDS);
        assert!(info.as_object().unwrap().len() > 20);
        assert_eq!(info["id"], json!(job));
        assert_eq!(info["userid"], json!(nix::unistd::geteuid().as_raw()));
        assert_eq!((&info["urgency"], &info["priority"]), (&json!(16), &json!(16)));
        assert_eq!((&info["state"], &info["result"]), (&json!("INACTIVE"), &json!("COMPLETED")));
        assert_eq!((&info["name"], &info["cwd"]), (&json!("echo"), &json!("/tmp")));
        assert_eq!((&info["ntasks"], &info["ncores"]), (&json!(2), &json!(2)));
        assert_eq!(info["duration"], json!(30.0));
        assert_eq!((&info["nnodes"], &info["ranks"]), (&json!(1), &json!("0")));
        assert_eq!(info["nodelist"], host(&house));
        assert_eq!((&info["success"], &info["exception_occurred"]), (&json!(true), &json!(false)));
        assert_eq!((&info["waitstatus"], &info["returncode"]), (&json!(0), &json!(0)));
        assert_eq!(info["annotations"], json!({"sched": {"resource_summary": "rank0/core[0-1]"}}));
        assert_eq!(
            info["exception"],
            json!({"occurred": false, "severity": "", "type": "", "note": ""})
        );
        let time = |name: &str| info[name].as_f64().unwrap();
        assert!(time("t_submit") <= time("t_run") && time("t_run") <= time("t_inactive"));
        assert!((time("expiration") - time("t_run") - 30.0).abs() < 0.001);
        assert!((time("runtime") - (time("t_inactive") - time("t_run"))).abs() < 0.001);
        house.close();
    }

    fn a_job_that_runs_leaves_open_what_is_not_known(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit("sleep 300");
        ann.wait_until(job, "RUN");
        let info = warrant_tests::wait::until("the job to start", || {
            Some(ann.info(job)).filter(|info| info.get("t_run").is_some())
        });
        for name in ["t_cleanup", "t_inactive", "success", "exception_occurred", "cwd"] {
            assert!(info.get(name).is_none(), "{name}");
        }
        assert_eq!((&info["result"], &info["returncode"]), (&json!(""), &json!("")));
        assert_eq!(info["waitstatus"], json!(""));
        assert_eq!(info["expiration"], json!(0.0));
        assert_eq!((&info["nnodes"], &info["nodelist"]), (&json!(1), &host(&house)));
        assert_eq!(
            info["exception"],
            json!({"occurred": "", "severity": "", "type": "", "note": ""})
        );
        assert!(info["runtime"].as_f64().unwrap() >= 0.0);
        house.close();
    }

    fn a_job_that_waits_has_no_place_yet(setup: Setup) {
        let house = setup.cores(1).open();
        let ann = house.user("ann");
        let first = ann.submit("sleep 300");
        let second = ann.submit("true");
        ann.wait_until(first, "RUN");
        let info = ann.info(second);
        assert_eq!((&info["state"], &info["result"]), (&json!("SCHED"), &json!("")));
        assert_eq!((&info["nnodes"], &info["ranks"]), (&json!(""), &json!("")));
        assert_eq!((&info["nodelist"], &info["expiration"]), (&json!(""), &json!("")));
        assert_eq!(info["runtime"], json!(0.0));
        assert!(info.get("t_run").is_none() && info.get("annotations").is_none());
        house.close();
    }

    fn exit_codes_and_signals_are_told_apart(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        for (script, result, code) in [
            ("exit 0", "COMPLETED", 0),
            ("exit 3", "FAILED", 3),
            ("kill -TERM $$", "FAILED", 143),
            ("kill -KILL $$", "FAILED", 137),
        ] {
            let job = ann.submit_script(script);
            let info = ann.finished(job);
            assert_eq!(info["result"], result, "{script}");
            assert_eq!(info["returncode"], code, "{script}");
            assert_eq!(info["waitstatus"], code << 8, "{script}");
            assert_eq!(info["success"], code == 0, "{script}");
            assert_eq!(info["exception_occurred"], false, "{script}");
        }
        house.close();
    }

    fn a_job_too_large_for_the_machine_is_accepted_and_fails_at_once(setup: Setup) {
        let house = setup.cores(2).open();
        let ann = house.user("ann");
        let job = ann.submit_with(&json!({"command": "true", "num_tasks": 99}));
        let info = ann.info(job);
        let note = "unsatisfiable request: need 99 slot(s) of 1 core(s), \
            only 2 such slot(s) available (total cores: 2)";
        assert_eq!((&info["state"], &info["result"]), (&json!("INACTIVE"), &json!("FAILED")));
        assert_eq!(
            info["exception"],
            json!({"occurred": true, "severity": 0, "type": "alloc", "note": note})
        );
        assert_eq!(info["exception_type"], "alloc");
        assert_eq!(info["exception_note"], note);
        assert_eq!((&info["returncode"], &info["waitstatus"]), (&json!(1), &json!("")));
        assert_eq!((&info["runtime"], &info["nnodes"]), (&json!(0.0), &json!("")));
        assert_eq!((&info["ranks"], &info["expiration"]), (&json!(""), &json!("")));
        assert!(info.get("t_run").is_none());
        house.close();
    }

    fn every_spelling_of_an_id_is_read_and_what_is_none_is_refused(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit("true");
        ann.finished(job);
        // Ids this small have one digit in F58: 1 is spelt 2.
        assert!(job < 57, "{job}");
        let digit = char::from(b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
            [usize::try_from(job).unwrap() - 1]);
        for spelt in [
            format!("{job}"),
            format!("0x{job:x}"),
            format!("0000.0000.0000.{job:04x}"),
            format!("f{digit}"),
            format!("%C6%92{digit}"),
        ] {
            assert_eq!(ann.get(&format!("/v1/jobs/{spelt}")).with(200)["id"], json!(job), "{spelt}");
        }
        for (path, shown) in [("nope!", "nope!"), ("-1", "-1"), ("0", "0"), ("x:y", "x:y")] {
            for (method, tail) in [("GET", ""), ("GET", "/output"), ("POST", "/cancel"),
                ("GET", "/output/stream")]
            {
                let path = format!("/v1/jobs/{path}{tail}");
                let answer = ann.send(&method.parse().unwrap(), &path, &[], b"");
                assert_eq!(answer.detail(400), format!("'{shown}' is not a valid job id"));
            }
        }
        assert_eq!(ann.get("/v1/jobs/12345").detail(404), "Job 12345 not found");
        house.close();
    }

    fn somebody_elses_job_is_refused_and_the_superuser_sees_it(setup: Setup) {
        let house = setup.open();
        let (ann, bob) = (house.user("ann"), house.user("bob"));
        let job = ann.submit("sleep 300");
        let refusal = format!("bob does not own job {job}");
        for (method, tail) in [("GET", ""), ("GET", "/output"), ("GET", "/output/stream"),
            ("POST", "/cancel")]
        {
            let path = format!("/v1/jobs/{job}{tail}");
            let answer = bob.send(&method.parse().unwrap(), &path, &[], b"");
            assert_eq!(answer.detail(403), refusal, "{path}");
        }
        assert!(bob.list().is_empty());
        assert_eq!(bob.get("/v1/jobs/search?search=sleep").with(200)["recordsFiltered"], 0);
        let admin = house.admin();
        assert_eq!(admin.wait_until(job, "RUN")["id"], json!(job));
        assert_eq!(admin.list().len(), 1);
        assert_eq!(admin.cancel(job).status, 200);
        assert_eq!(ann.finished(job)["result"], "CANCELED");
        house.close();
    }

    fn the_old_wrapped_form_is_there_for_those_who_ask(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let job = ann.submit("true");
        ann.finished(job);
        let both = ann.get(&format!("/v1/jobs/{job}?legacy=1")).with(200);
        assert_eq!((&both["state"], &both["result"]), (&json!("INACTIVE"), &json!("COMPLETED")));
        assert_eq!((&both["job"]["state"], &both["job"]["result"]), (&json!(64), &json!(1)));
        assert_eq!(both["job"]["id"], json!(job));
        assert!(ann.info(job).get("job").is_none());
        let waiting = ann.submit_with(&json!({"command": "sleep 300"}));
        ann.wait_until(waiting, "RUN");
        let both = ann.get(&format!("/v1/jobs/{waiting}?legacy=true")).with(200);
        assert_eq!(both["job"]["state"], 16);
        assert!(both["job"].get("result").is_none());
        house.close();
    }
}
