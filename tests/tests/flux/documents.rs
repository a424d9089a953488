//! What describes the API, and what answers where there is nothing.

use serde_json::json;
use ureq::http::Method;
use warrant_tests::House;

/// Every route of the dialect: path and methods.
const ROUTES: [(&str, &[&str]); 9] = [
    ("/v1/jobs", &["get"]),
    ("/v1/jobs/search", &["get"]),
    ("/v1/jobs/submit", &["post"]),
    ("/v1/jobs/{jobid}", &["get"]),
    ("/v1/jobs/{jobid}/cancel", &["post"]),
    ("/v1/jobs/{jobid}/output", &["get"]),
    ("/v1/jobs/{jobid}/output/stream", &["get"]),
    ("/v1/nodes", &["get"]),
    ("/v1/service/stop", &["post"]),
];

#[test]
fn the_document_is_openapi_3_1_and_lists_every_route() {
    let house = House::open();
    let document = house.nobody().get("/openapi.json").with(200);
    let version = document["openapi"].as_str().unwrap();
    assert!(version.starts_with("3.1"), "{version}");
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in ROUTES {
        for method in methods {
            let operation = &paths[path][method];
            assert!(operation["responses"].is_object(), "{method} {path}");
            assert!(operation["summary"].is_string() || operation["description"].is_string());
        }
    }
    let session = &paths["/v1/session"]["get"]["responses"]["2XX"]["content"];
    assert_eq!(
        session["application/json"]["schema"]["$ref"],
        "#/components/schemas/SessionInfo"
    );
    assert!(document["components"]["schemas"]["SessionInfo"]["properties"]["csrf"].is_object());
    assert_eq!(paths["/v1/auth"]["get"]["security"], json!([]));
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
    house.close();
}

#[test]
fn the_pages_that_show_it_load_nothing_from_elsewhere() {
    let house = House::open();
    let nobody = house.nobody();
    for path in ["/docs", "/redoc"] {
        let answer = nobody.get(path);
        assert!(
            (300..400).contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert_eq!(answer.header("location"), Some("/docs/"));
    }
    let page = nobody.get("/docs/");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    let html = page.text();
    let mut assets = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in html.split(attribute).skip(1) {
            let target = rest.split('"').next().unwrap();
            assert!(!target.contains("//"), "{target} is loaded from elsewhere");
            let path = target.trim_start_matches("./");
            let asset = nobody.get(&format!("/docs/{}", path.trim_start_matches('/')));
            assert_eq!(asset.status, 200, "{target}");
            assets += 1;
        }
    }
    assert!(assets >= 3, "{html}");
    assert_eq!(nobody.get("/docs/nothing.js").status, 404);
    for path in ["/docs/..%2f..%2fetc%2fpasswd", "/docs/%2e%2e/x"] {
        assert_eq!(nobody.get(path).status, 400, "{path}");
    }
    house.close();
}

#[test]
fn what_is_not_there_answers_404_and_a_wrong_method_405() {
    let house = House::open();
    let ann = house.user("ann");
    for path in [
        "/",
        "/nothing",
        "/v1",
        "/v1/nothing",
        "/v1/jobs/1/nothing",
        "/v2/jobs",
    ] {
        assert_eq!(ann.get(path).text(), r#"{"detail":"Not Found"}"#, "{path}");
        assert_eq!(ann.get(path).status, 404, "{path}");
    }
    for (method, path) in [
        (Method::DELETE, "/v1/jobs"),
        (Method::PUT, "/v1/jobs/1"),
        (Method::POST, "/v1/nodes"),
        (Method::GET, "/v1/service/stop"),
        (Method::GET, "/v1/jobs/1/cancel"),
        (Method::GET, "/v1/token"),
    ] {
        let answer = ann.send(&method, path, &[], b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(
            answer.text(),
            r#"{"detail":"Method Not Allowed"}"#,
            "{path}"
        );
    }
    // `submit` is no job id: its path has a GET all the same, that of a job.
    assert_eq!(ann.get("/v1/jobs/submit").status, 405);
    assert_eq!(
        ann.get("/v1/jobs/x%2Fy").with(400),
        json!({"detail": "The path holds dot segments, or encoded slashes or zeros."})
    );
    house.close();
}
