//! Search: what is found, which part of it is shown, and how it is counted.

use serde_json::{Value, json};
use warrant_tests::{Flux, on_each_database};

const NOTHING: [i64; 0] = [];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The ids that a search finds.
#[track_caller]
fn found(user: &Flux, text: &str) -> Vec<i64> {
    let path = format!("/v1/jobs/search?search={}", encoded(text));
    let page = user.get(&path).with(200);
    let data = page["data"].as_array().unwrap();
    assert_eq!(page["recordsFiltered"], data.len(), "{text}");
    data.iter().map(|job| job["id"].as_i64().unwrap()).collect()
}

/// A job that ends at once, without a process.
fn job(user: &Flux, command: Value) -> i64 {
    user.submit_with(&json!({"command": command, "num_tasks": 99}))
}

on_each_database! {
    fn a_page_starts_and_ends_where_it_is_told(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let empty = ann.get("/v1/jobs/search").text();
        assert_eq!(empty, r#"{"data":[],"draw":1,"recordsTotal":0,"recordsFiltered":0}"#);
        let mut jobs: Vec<i64> = (0..6).map(|_| job(&ann, json!("echo x"))).collect();
        jobs.reverse();
        let page = |query: &str| {
            let page = ann.get(&format!("/v1/jobs/search?{query}")).with(200);
            assert_eq!(page["recordsTotal"], 6, "{query}");
            let data = page["data"].as_array().unwrap();
            assert_eq!(page["recordsFiltered"], data.len(), "{query}");
            data.iter().map(|job| job["id"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(page(""), jobs);
        assert_eq!(page("start=1"), jobs[1..]);
        assert_eq!(page("start=1&length=3"), jobs[1..4]);
        assert_eq!(page("length=2"), jobs[..2]);
        assert_eq!(page("start=4&length=100"), jobs[4..]);
        // Beyond the end, from before the beginning, or of no length: as if not given.
        for ignored in ["start=6", "start=99", "start=-2", "start=x", "length=0", "length=-1",
            "length=x"]
        {
            assert_eq!(page(ignored), jobs, "{ignored}");
        }
        assert_eq!(page("search=echo&start=2&length=2"), jobs[2..4]);
        assert_eq!(page("search=echo&start=50"), jobs);
        house.close();
    }

    fn the_shown_job_is_the_job_object(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let id = job(&ann, json!("echo x"));
        let page = ann.get("/v1/jobs/search").with(200);
        assert_eq!(page["data"][0], ann.info(id));
        house.close();
    }

    fn draw_is_given_back_as_it_came(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        for (query, draw) in [
            ("", json!(1)),
            ("draw=7", json!("7")),
            ("draw=a%22b", json!("a\"b")),
            ("draw=", json!(1)),
        ] {
            let page = ann.get(&format!("/v1/jobs/search?{query}")).with(200);
            assert_eq!(page["draw"], draw, "{query}");
        }
        house.close();
    }

    fn the_text_goes_by_three_names(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let pear = job(&ann, json!("echo pear"));
        job(&ann, json!("echo apple"));
        for name in ["search", "search[value]", "search%5Bvalue%5D", "query"] {
            let page = ann.get(&format!("/v1/jobs/search?{name}=pear")).with(200);
            assert_eq!(page["recordsFiltered"], 1, "{name}");
            assert_eq!(page["recordsTotal"], 2, "{name}");
            assert_eq!(page["data"][0]["id"], json!(pear), "{name}");
        }
        house.close();
    }

    fn text_is_found_in_ids_names_owners_commands_and_directories(setup: Setup) {
        let house = setup.open();
        let (ann, bob) = (house.user("ann"), house.user("bob"));
        let first = ann.submit_with(&json!({"command": "/opt/tools/grind --coarse beans",
            "workdir": "/srv/kitchen", "num_tasks": 99}));
        let second = job(&bob, json!("boil water"));
        let admin = house.admin();
        for text in ["grind", "GRIND", "/opt/tools", "--coarse", "e be", "kitchen", "ann"] {
            assert_eq!(found(&admin, text), [first], "{text}");
        }
        for text in ["bob", "Water", "boil w", "boi"] {
            assert_eq!(found(&admin, text), [second], "{text}");
        }
        assert_eq!(found(&admin, "FAILED"), [second, first]);
        // The caller's own alone.
        assert_eq!(found(&ann, "bob"), NOTHING);
        assert_eq!(found(&ann, "FAILED"), [first]);
        house.close();
    }

    fn text_is_no_pattern(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let percent = job(&ann, json!(["echo", "100%_sure\\n"]));
        let quoted = job(&ann, json!(["echo", "say \"hi\" o'clock; drop table jobs--"]));
        let stars = job(&ann, json!(["echo", "a.*b [c] (d+) ^e$ {f}"]));
        for (text, expected) in [
            ("100%", percent),
            ("%_s", percent),
            ("e\\n", percent),
            ("\"hi\"", quoted),
            ("o'clock", quoted),
            ("; drop table", quoted),
            ("a.*b", stars),
            ("[c]", stars),
            ("(d+)", stars),
            ("^e$", stars),
            ("{f}", stars),
        ] {
            assert_eq!(found(&ann, text), [expected], "{text}");
        }
        for text in ["1%sure", "a.b", "e.*o", "____", "%%%", "echo OR say", "say* NOT", "NEAR(a b)"] {
            assert_eq!(found(&ann, text), NOTHING, "{text}");
        }
        house.close();
    }

    fn one_and_two_letters_are_found_too(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let zebra = job(&ann, json!("echo zebra"));
        let cyrillic = job(&ann, json!("echo Ж"));
        let cake = job(&ann, json!("echo 🥞 Ünder"));
        for (text, expected) in [
            ("z", zebra),
            ("ZE", zebra),
            ("ra", zebra),
            ("Ж", cyrillic),
            ("ж", cyrillic),
            ("🥞", cake),
            ("🥞 ü", cake),
            ("ün", cake),
        ] {
            assert_eq!(found(&ann, text), [expected], "{text}");
        }
        for text in ["q", "zz", "%", "_", "*", "\""] {
            assert_eq!(found(&ann, text), NOTHING, "{text}");
        }
        house.close();
    }

    fn states_and_results_are_found_by_their_names(setup: Setup) {
        let house = setup.cores(1).open();
        let ann = house.user("ann");
        let failed = job(&ann, json!("echo x"));
        let done = ann.submit("true");
        ann.finished(done);
        let runs = ann.submit("sleep 300");
        ann.wait_until(runs, "RUN");
        let waits = ann.submit("sleep 301");
        for (text, expected) in [
            ("RUN", vec![runs]),
            ("run", vec![runs]),
            ("SCHED", vec![waits]),
            ("INACTIVE", vec![done, failed]),
            ("inact", vec![done, failed]),
            ("COMPLETED", vec![done]),
            ("FAIL", vec![failed]),
            ("sleep", vec![waits, runs]),
        ] {
            assert_eq!(found(&ann, text), expected, "{text}");
        }
        ann.cancel(waits);
        ann.finished(waits);
        assert_eq!(found(&ann, "CANCELED"), [waits]);
        house.close();
    }

    fn a_text_of_any_length_is_answered(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        job(&ann, json!("echo x"));
        for length in [3_000, 5_000, 20_000] {
            assert_eq!(found(&ann, &"a+".repeat(length / 2)), NOTHING, "{length}");
        }
        assert_eq!(found(&ann, "\0"), NOTHING);
        house.close();
    }
}
