//! What a submission says is done, or refused by name; nothing is dropped.

use std::fs;

use serde_json::{Value, json};
use warrant_tests::wait::until;
use warrant_tests::{Flux, House};

/// What was refused, as text, and the status.
fn refused(user: &Flux, parameters: &Value) -> (u16, String) {
    let answer = user.post_json("/v1/jobs/submit", parameters);
    (answer.status, answer.text())
}

#[test]
fn one_bad_option_is_refused_by_name_and_none_is_dropped() {
    let house = House::open();
    let ann = house.user("ann");
    let path = house.path("out");
    for bad in [
        json!({"output.stdout.path": path, "odd": null}),
        json!({"output.stdout.path": path, "odd": ["a"]}),
        json!({"output.stdout.path": path, "odd": {"even": null}}),
        json!("verbose=1,odd"),
        json!("odd"),
        json!("{'a': odd}"),
        json!({"a": {"odd": [{}]}}),
    ] {
        let (status, text) = refused(&ann, &json!({"command": "true", "option_flags": bad}));
        assert_eq!(status, 400, "{bad}: {text}");
        assert!(text.contains("option_flags"), "{bad}: {text}");
    }
    let (status, text) = refused(
        &ann,
        &json!({"command": "true", "option_flags": ["output.stdout.path=/tmp/x"]}),
    );
    assert!(status == 422 && text.contains("option_flags"), "{text}");
    assert!(ann.list().is_empty(), "a refused submission became a job");
    house.close();
}

#[test]
fn options_are_honoured_in_every_spelling() {
    let house = House::open();
    let ann = house.user("ann");
    let path = |name: &str| house.path(name).to_str().unwrap().to_owned();
    for (name, options) in [
        ("flat", json!({"output.stdout.path": path("flat")})),
        (
            "deep",
            json!({"output": {"stdout": {"path": path("deep")}}, "verbose": 2}),
        ),
        (
            "text",
            json!(format!("verbose=1,output.stdout.path={}", path("text"))),
        ),
        (
            "python",
            json!(format!("{{'output.stdout.path': '{}'}}", path("python"))),
        ),
        ("a,comma", json!({"output.stdout.path": path("a,comma")})),
    ] {
        let job = ann.submit_with(&json!({"command": "echo here", "option_flags": options}));
        assert_eq!(ann.finished(job)["result"], "COMPLETED", "{options}");
        assert_eq!(
            fs::read_to_string(path(name)).unwrap(),
            "here\n",
            "{options}"
        );
    }
    house.close();
}

#[test]
fn what_would_change_the_job_and_cannot_be_honoured_is_refused_by_name() {
    let house = House::open();
    let ann = house.user("ann");
    for (name, value) in [
        ("pty", "1"),
        ("pty.interactive", "1"),
        ("input.stdin.path", "/etc/hosts"),
        ("output.mode", "truncate"),
        ("output.stdout.label", "true"),
        ("output.limit", "1M"),
        ("exit-timeout", "30s"),
        ("exit-on-error", "1"),
        ("stage-in", "1"),
        ("gpu-affinity", "per-task"),
        ("cpu-affinity", "map:1"),
        ("signal", "USR1@60"),
    ] {
        let options = json!({"command": "true", "option_flags": {name: value}});
        let (status, text) = refused(&ann, &options);
        assert!(
            status == 400 && text.contains(name),
            "{name}: {status} {text}"
        );
        let flag = format!("-o{name}={value}");
        let said = house.broker_refuses("FLUX_OPTION_FLAGS", &flag);
        assert!(said.contains(name), "{said}");
    }
    for name in [
        "cwd",
        "env",
        "queue",
        "stdin",
        "time_limit",
        "urgency",
        "nodes",
        "output",
    ] {
        for answer in [
            ann.post(&format!("/v1/jobs/submit?command=true&{name}=1")),
            ann.post_json("/v1/jobs/submit", &json!({"command": "true", name: "1"})),
        ] {
            let detail = answer.with(422);
            assert_eq!(detail["detail"][0]["loc"][1], name, "{detail}");
        }
    }
    let (status, text) = refused(&ann, &json!({"command": ["echo", null]}));
    assert!(status == 422 && text.contains("command"), "{text}");
    assert!(ann.list().is_empty(), "a refused submission became a job");
    // As variables of a job the same names are nobody's but the job's.
    let body = json!({"queue": "a", "cwd": "b"});
    let job = ann.post_json("/v1/jobs/submit?command=printenv+queue", &body);
    let job = job.with(200)["id"].as_i64().unwrap();
    ann.finished(job);
    assert_eq!(ann.output(job), ["a\n"]);
    house.close();
}

#[test]
fn what_existing_clients_send_and_nothing_reads_is_accepted() {
    let house = House::open();
    let ann = house.user("ann");
    for options in ["ompi=x", "verbose=1,x.y=z", "mpi=openmpi@5", ""] {
        let job = ann.submit_with(&json!({"command": "true", "option_flags": options}));
        assert_eq!(ann.finished(job)["result"], "COMPLETED", "{options}");
    }
    house.close();
}

/// The id in base 58. Source: Flux RFC 19.
fn f58(mut id: i64) -> String {
    let digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut spelt = String::new();
    while id > 0 {
        spelt.insert(0, digits.chars().nth((id % 58) as usize).unwrap());
        id /= 58;
    }
    spelt
}

#[test]
fn the_tags_in_the_path_of_an_output_file_are_replaced_at_the_start() {
    let house = House::open();
    let ann = house.user("ann");
    fs::create_dir(house.path("out")).unwrap();
    let template = |tag: &str| format!("{}/{{{{{tag}}}}}.x", house.path("out").display());
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for (tag, expected) in [
        ("id", |id: i64| format!("ƒ{}", f58(id))),
        ("id.f58", |id| format!("ƒ{}", f58(id))),
        ("jobid", |id| format!("ƒ{}", f58(id))),
        ("id.f58plain", |id| format!("f{}", f58(id))),
        ("id.dec", |id| id.to_string()),
        ("jobid.dec", |id| id.to_string()),
        ("id.hex", |id| format!("{id:#x}")),
        ("id.dothex", |id| format!("0000.0000.0000.{id:04x}")),
        ("name", |_| "sh".to_owned()),
        ("nnodes", |_| "1".to_owned()),
        ("size", |_| "1".to_owned()),
        ("ntasks", |_| "1".to_owned()),
        ("taskid", |_| "0".to_owned()),
        ("task.rank", |_| "0".to_owned()),
        ("node.id", |_| "0".to_owned()),
        ("node.ncores", |_| "1".to_owned()),
        ("node.gpus", |_| String::new()),
    ] as [(&str, fn(i64) -> String); 17]
    {
        let job = ann.submit_with(
            &json!({"command": ["/bin/sh", "-c", "echo out; echo err >&2"],
            "option_flags": {"output.stdout.path": template(tag),
                             "output.stderr.path": template(&format!("{tag}}}}}-err{{{{id.dec"))}}),
        );
        assert_eq!(ann.finished(job)["result"], "COMPLETED", "{tag}");
        let out = house.path("out").join(format!("{}.x", expected(job)));
        assert_eq!(fs::read_to_string(&out).unwrap(), "out\n", "{tag}");
        let err = format!("{}-err{job}.x", expected(job));
        assert_eq!(
            fs::read_to_string(house.path("out").join(err)).unwrap(),
            "err\n",
            "{tag}"
        );
        fs::remove_file(out).unwrap();
    }
    let job = ann.submit_with(&json!({"command": "echo x", "num_tasks": 2,
        "option_flags": {"output.stdout.path": template("node.name}}-{{taskid}}-of-{{size")}}));
    ann.finished(job);
    for rank in [0, 1] {
        let path = house.path("out").join(format!("{host}-{rank}-of-2.x"));
        until("each rank has its file", || path.exists().then_some(()));
    }
    house.close();
}

#[test]
fn a_tag_that_means_nothing_here_is_refused_by_name() {
    let house = House::open();
    let ann = house.user("ann");
    for tag in [
        "id.words",
        "tmpdir",
        "uuid",
        "id.",
        " id ",
        "taskid.x",
        "node.resources",
        "",
    ] {
        for option in ["output.stdout.path", "output.stderr.path"] {
            let options = json!({option: format!("/tmp/{{{{{tag}}}}}")});
            let (status, text) =
                refused(&ann, &json!({"command": "true", "option_flags": options}));
            let named = format!("{{{{{tag}}}}}");
            assert!(
                status == 400 && text.contains(&named),
                "{tag}: {status} {text}"
            );
        }
    }
    assert!(ann.list().is_empty());
    house.close();
}
