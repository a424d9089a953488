//! Lists of jobs: plain, with details, as an object and as an array.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use warrant_tests::{Flux, on_each_database};

fn ids(jobs: &[Value]) -> Vec<i64> {
    jobs.iter().map(|job| job["id"].as_i64().unwrap()).collect()
}

/// A job that ends at once, without a process: there are not as many cores.
fn too_large(ann: &Flux) -> i64 {
    ann.submit_with(&json!({"command": "true", "num_tasks": 99}))
}

on_each_database! {
    fn the_plain_list_holds_everybodys_ids_newest_first(setup: Setup) {
        let house = setup.open();
        let (ann, bob) = (house.user("ann"), house.user("bob"));
        assert_eq!(ann.get("/v1/jobs").text(), r#"{"jobs":[]}"#);
        let first = too_large(&ann);
        let second = too_large(&bob);
        let expected = format!(r#"{{"jobs":[{{"id":{second}}},{{"id":{first}}}]}}"#);
        for path in ["/v1/jobs", "/v1/jobs?limit=1", "/v1/jobs?listing=true",
            "/v1/jobs?details=false"]
        {
            assert_eq!(ann.get(path).text(), expected, "{path}");
        }
        house.close();
    }

    fn details_are_an_object_by_id_or_an_array_of_the_callers_own_jobs(setup: Setup) {
        let house = setup.open();
        let (ann, bob) = (house.user("ann"), house.user("bob"));
        let first = too_large(&ann);
        too_large(&bob);
        let second = too_large(&ann);
        // The Python clients say `detail`.
        for name in ["details", "detail"] {
            let object = ann.get(&format!("/v1/jobs?{name}=true")).with(200);
            let object = object.as_object().unwrap();
            assert_eq!(object.len(), 2);
            assert_eq!(object[&first.to_string()], ann.info(first));
            let array = ann.get(&format!("/v1/jobs?{name}=1&listing=yes")).with(200);
            assert_eq!(ids(array.as_array().unwrap()), [second, first]);
            assert_eq!(array[0], ann.info(second));
        }
        assert_eq!(ids(&house.admin().list()).len(), 3);
        house.close();
    }

    fn a_limit_counts_with_details_alone(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        let jobs = [too_large(&ann), too_large(&ann), too_large(&ann)];
        let list = |limit: &str| {
            let path = format!("/v1/jobs?details=true&listing=true&limit={limit}");
            ids(ann.get(&path).with(200).as_array().unwrap())
        };
        assert_eq!(list("2"), [jobs[2], jobs[1]]);
        assert_eq!(list("99").len(), 3);
        assert!(list("0").is_empty());
        assert!(list("-4").is_empty());
        for ignored in ["", "many", "1.5"] {
            assert_eq!(list(ignored).len(), 3, "limit={ignored}");
        }
        let none = ann.get("/v1/jobs?details=true&limit=0");
        assert_eq!(none.text(), "{}");
        house.close();
    }

    fn a_list_longer_than_one_piece_arrives_whole_and_in_order(setup: Setup) {
        const JOBS: usize = 1100;
        let house = setup.open();
        let ann = house.user("ann");
        let submitted: BTreeSet<i64> = std::thread::scope(|scope| {
            let submit = || (0..JOBS / 4).map(|_| too_large(&ann)).collect::<Vec<_>>();
            let threads = [0; 4].map(|_| scope.spawn(submit));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(submitted.len(), JOBS);
        let newest: Vec<i64> = submitted.iter().rev().copied().collect();
        assert_eq!(ids(&ann.list()), newest);
        let limited = ann.get("/v1/jobs?details=true&listing=true&limit=1050").with(200);
        assert_eq!(ids(limited.as_array().unwrap()), newest[..1050]);
        let object = ann.get("/v1/jobs?details=true").with(200);
        assert_eq!(object.as_object().unwrap().len(), JOBS);
        let plain = ann.get("/v1/jobs").with(200);
        assert_eq!(ids(plain["jobs"].as_array().unwrap()), newest);
        let all = ann.get("/v1/jobs/search").with(200);
        assert_eq!(all["recordsTotal"], JOBS);
        assert_eq!(all["recordsFiltered"], JOBS);
        assert_eq!(ids(all["data"].as_array().unwrap()), newest);
        let found = ann.get("/v1/jobs/search?search=true&start=20").with(200);
        assert_eq!(ids(found["data"].as_array().unwrap()), newest[20..]);
        house.close();
    }

    fn what_is_no_truth_value_answers_422(setup: Setup) {
        let house = setup.open();
        let ann = house.user("ann");
        for name in ["details", "listing"] {
            assert_eq!(
                ann.get(&format!("/v1/jobs?{name}=perhaps")).with(422),
                json!({"detail": [{"type": "bool_parsing", "loc": ["query", name],
                    "msg": "Input should be a valid boolean, unable to interpret input",
                    "input": "perhaps"}]})
            );
        }
        house.close();
    }
}
