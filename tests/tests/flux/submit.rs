//! Submitting: where parameters may stand, and every way to be refused.

use serde_json::{Value, json};
use ureq::http::Method;
use warrant_tests::{Database, Flux, House, Setup};

#[test]
fn parameters_count_wherever_they_stand() {
    let house = House::open();
    let ann = house.user("ann");
    let query = ann.post("/v1/jobs/submit?command=pwd&num_tasks=2&cores_per_task=2&workdir=%2F");
    let json = json!({"command": "pwd", "num_tasks": 2, "cores_per_task": "2", "workdir": "/"});
    let body = ann.post_json("/v1/jobs/submit", &json);
    let form = "command=pwd&num_tasks=2&cores_per_task=2&workdir=%2F";
    let form = ann.post_form("/v1/jobs/submit", form);
    // JSON without a content type, as careless clients send it.
    let bare = ann.send(
        &Method::POST,
        "/v1/jobs/submit",
        &[],
        json.to_string().as_bytes(),
    );
    for answer in [query, body, form, bare] {
        let id = answer.with(200)["id"].as_i64().unwrap();
        assert_eq!(
            answer.text(),
            format!("{{\"Message\":\"Job submit.\",\"id\":{id}}}")
        );
        let info = ann.finished(id);
        assert_eq!(info["result"], "COMPLETED");
        assert_eq!((&info["ntasks"], &info["ncores"]), (&json!(2), &json!(4)));
        assert_eq!(info["cwd"], "/");
        assert_eq!(ann.output(id), ["/\n", "/\n"]);
    }
    house.close();
}

#[test]
fn the_query_counts_before_the_body() {
    let house = House::open();
    let ann = house.user("ann");
    let answer = ann.post_json(
        "/v1/jobs/submit?command=echo+query&num_tasks=1",
        &json!({"command": "echo body", "num_tasks": 2}),
    );
    let id = answer.with(200)["id"].as_i64().unwrap();
    assert_eq!(ann.finished(id)["ntasks"], 1);
    assert_eq!(ann.output(id), ["query\n"]);
    house.close();
}

/// What a job sees of the variables A and B.
fn seen(ann: &Flux, answer: &warrant_tests::Answer) -> Vec<String> {
    let id = answer.with(200)["id"].as_i64().unwrap();
    assert_eq!(ann.finished(id)["result"], "COMPLETED");
    ann.output(id)
}

#[test]
fn environment_variables_arrive_in_whatever_form_they_are_sent() {
    let house = House::open();
    let ann = house.user("ann");
    let script = json!(["sh", "-c", "echo \"$A|$B\""]);
    let command = "command=sh+-c+%27echo+%22%24A%7C%24B%22%27";
    let url = format!("/v1/jobs/submit?{command}");
    let variables = json!({"A": "1", "B": "x 'y' \"z\" é"});
    let expected = ["1|x 'y' \"z\" é\n"];

    // The whole body is the environment.
    let body = ann.post_json(&url, &variables);
    assert_eq!(seen(&ann, &body), expected);
    // A field of a JSON body.
    let all = json!({"command": script, "envars": variables});
    let field = ann.post_json("/v1/jobs/submit", &all);
    assert_eq!(seen(&ann, &field), expected);
    // A Python dictionary in the query, as the Python clients send it.
    let python = "%7B%27A%27%3A+%271%27%2C+%27B%27%3A+%27x+%5C%27y%5C%27+%22z%22+%C3%A9%27%7D";
    let literal = ann.post(&format!("{url}&envars={python}"));
    assert_eq!(seen(&ann, &literal), expected);
    // A JSON object in a form.
    let object = "%7B%22A%22%3A%221%22%2C%22B%22%3A%22x+%27y%27+%5C%22z%5C%22+%C3%A9%22%7D";
    let form = format!("{command}&envars={object}");
    let form = ann.post_form("/v1/jobs/submit", &form);
    assert_eq!(seen(&ann, &form), expected);
    // Plain values become what Python prints for them.
    let plain = ann.post_json(&url, &json!({"A": 1.5, "B": true}));
    assert_eq!(seen(&ann, &plain), ["1.5|True\n"]);
    house.close();
}

#[test]
fn a_command_is_split_and_no_shell_runs() {
    let house = House::open();
    let ann = house.user("ann");
    let job = ann.submit(r#"printf '[%s]\n' "a  b" c\ d 'e"f' $HOME * ;"#);
    ann.finished(job);
    let expected = [
        "[a  b]\n",
        "[c d]\n",
        "[e\"f]\n",
        "[$HOME]\n",
        "[*]\n",
        "[;]\n",
    ];
    assert_eq!(ann.output(job), expected);
    // A list is taken as it is.
    let list = json!({"command": ["printf", "[%s]\n", "a  b", 7, "$HOME"]});
    let job = ann.submit_with(&list);
    ann.finished(job);
    assert_eq!(ann.output(job), ["[a  b]\n", "[7]\n", "[$HOME]\n"]);
    house.close();
}

/// Submissions that are refused with 400, and the whole body of the answer.
fn refusals() -> Vec<(Value, Value)> {
    let invalid = |errors: Value| json!({"Message": "Invalid submit request", "Errors": errors});
    let issue =
        |error: &str| json!({"Message": "There was an issue submitting that job.", "Error": error});
    let minimal = json!({"Message": "A 'command' is minimally required."});
    let no_gpus = "This server does not support gpus: gpus_per_task cannot be set.";
    let dict = "Environment variables must be key/value pairs (dict)";
    vec![
        (json!({}), minimal.clone()),
        (json!({"command": ""}), minimal.clone()),
        (json!({"command": null}), minimal.clone()),
        (json!({"command": []}), minimal),
        (
            json!({"command": "  "}),
            invalid(json!(["'command' is required."])),
        ),
        (
            json!({"command": "true", "num_nodes": 5}),
            invalid(json!(["The server only has 1 nodes, you requested 5"])),
        ),
        (
            json!({"command": "true", "option_flags": "-ompi=x"}),
            invalid(json!(["Please provide keys without -o, -ompi is invalid."])),
        ),
        (
            json!({"command": "true", "option_flags": {"-ompi": "x"}}),
            invalid(json!(["Please provide keys without -o, -ompi is invalid."])),
        ),
        (
            json!({"command": "true", "gpus_per_task": 1}),
            invalid(json!([no_gpus])),
        ),
        (
            json!({"command": "true", "runtime": -1}),
            invalid(json!(["Runtime must be >= 0, found -1"])),
        ),
        (
            json!({"command": "true", "num_tasks": 0}),
            invalid(json!(["Parameter num_tasks must be >= 1"])),
        ),
        (
            json!({"command": "true", "cores_per_task": 0}),
            invalid(json!(["Parameter cores_per_task must be >= 1"])),
        ),
        (
            json!({"command": "true", "num_nodes": -3}),
            invalid(json!(["Parameter num_nodes must be >= 1"])),
        ),
        (
            json!({"command": "true", "num_tasks": 1_000_000}),
            invalid(json!(["Parameter num_tasks must be <= 4096"])),
        ),
        (
            json!({"command": "true", "envars": "A=1"}),
            invalid(json!([dict])),
        ),
        (
            json!({"command": "true", "envars": ["A"]}),
            invalid(json!([dict])),
        ),
        (
            json!({"command": "true", "envars": {"A": {"B": 1}}}),
            invalid(json!([dict])),
        ),
        (
            json!({"command": "true", "num_tasks": 0, "runtime": -5, "num_nodes": 2,
                   "gpus_per_task": 1}),
            invalid(json!([
                "The server only has 1 nodes, you requested 2",
                no_gpus,
                "Runtime must be >= 0, found -5",
                "Parameter num_tasks must be >= 1"
            ])),
        ),
        (
            json!({"command": "echo 'open"}),
            issue("No closing quotation"),
        ),
        (
            json!({"command": "echo \"open"}),
            issue("No closing quotation"),
        ),
        (json!({"command": "echo \\"}), issue("No escaped character")),
    ]
}

#[test]
fn what_cannot_be_is_refused_in_the_words_clients_know() {
    let house = House::open();
    let ann = house.user("ann");
    for (parameters, expected) in refusals() {
        let answer = ann.post_json("/v1/jobs/submit", &parameters);
        assert_eq!(answer.with(400), expected, "{parameters}");
    }
    assert_eq!(
        ann.post("/v1/jobs/submit?command=true&num_nodes=5").text(),
        r#"{"Message":"Invalid submit request","Errors":["The server only has 1 nodes, you requested 5"]}"#
    );
    assert!(ann.list().is_empty(), "a refused submission became a job");
    house.close();
}

#[test]
fn values_of_the_wrong_type_answer_422_and_name_the_parameter() {
    let house = House::open();
    let ann = house.user("ann");
    let integer = "Input should be a valid integer, unable to parse string as an integer";
    let boolean = "Input should be a valid boolean, unable to interpret input";
    let answer = ann.post("/v1/jobs/submit?command=true&num_tasks=many&exclusive=perhaps");
    assert_eq!(
        answer.with(422),
        json!({"detail": [
            {"type": "int_parsing", "loc": ["query", "num_tasks"], "msg": integer, "input": "many"},
            {"type": "bool_parsing", "loc": ["query", "exclusive"], "msg": boolean, "input": "perhaps"},
        ]})
    );
    for (body, kind, place) in [
        (
            json!({"command": "true", "runtime": 1.5}),
            "int_from_float",
            "runtime",
        ),
        (
            json!({"command": "true", "num_tasks": "1e3"}),
            "int_parsing",
            "num_tasks",
        ),
        (
            json!({"command": "true", "num_tasks": []}),
            "int_type",
            "num_tasks",
        ),
        (
            json!({"command": "true", "num_tasks": 99_999_999_999_999_999_999_f64}),
            "int_from_float",
            "num_tasks",
        ),
        (
            json!({"command": "true", "workdir": 7}),
            "string_type",
            "workdir",
        ),
        (json!({"command": 7}), "string_type", "command"),
        (
            json!({"command": "true", "exclusive": 2}),
            "bool_parsing",
            "exclusive",
        ),
    ] {
        let answer = ann.post_json("/v1/jobs/submit", &body).with(422);
        let wrong = &answer["detail"][0];
        assert_eq!(wrong["type"], kind, "{body}");
        assert_eq!(wrong["loc"], json!(["body", place]), "{body}");
    }
    let head = [("content-type", "application/json")];
    for (body, kind) in [("{\"command\"", "json_invalid"), ("[1]", "dict_type")] {
        let answer = ann.send(&Method::POST, "/v1/jobs/submit", &head, body.as_bytes());
        assert_eq!(answer.with(422)["detail"][0]["type"], kind, "{body}");
    }
    house.close();
}

#[test]
fn a_launcher_is_run_if_it_is_one() {
    let house = Setup::on(Database::Sqlite)
        .set("BROKER__FLUX__LAUNCHERS", "[nextflow, snakemake, echo]")
        .open();
    let ann = house.user("ann");
    let unknown = ann.post("/v1/jobs/submit?command=true&is_launcher=true");
    assert_eq!(unknown.status, 200);
    assert_eq!(
        unknown.text(),
        r#"{"Message":"true is not a known launcher. ","id":"MANY"}"#
    );
    assert!(ann.list().is_empty());
    let known = ann.post("/v1/jobs/submit?command=echo+launched&is_launcher=true");
    assert_eq!(
        known.text(),
        r#"{"Message":"Job submit, see jobs table for spawned jobs.","id":"MANY"}"#
    );
    let jobs = ann.list();
    assert_eq!(jobs.len(), 1);
    let job = jobs[0]["id"].as_i64().unwrap();
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    assert_eq!(ann.output(job), ["launched\n"]);
    house.close();
}

#[test]
fn unknown_parameters_are_left_alone() {
    let house = House::open();
    let ann = house.user("ann");
    let answer = ann.post("/v1/jobs/submit?command=true&colour=blue");
    assert_eq!(answer.with(200)["Message"], "Job submit.");
    house.close();
}
