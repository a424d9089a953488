//! Who may know whom, and what may depend on what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules of the broker: what each may use besides itself. The four files
/// that put everything together (app, main, lib, config) may use all.
const ARROWS: [(&str, &[&str]); 14] = [
    (
        "http",
        &[
            "service",
            "model",
            "caller",
            "error",
            "authsvc",
            "revocations",
            "metrics",
            "readiness",
        ],
    ),
    ("warrants", &["authsvc", "caller", "error"]),
    ("revocations", &["authsvc", "caller", "model"]),
    ("authsvc", &[]),
    (
        "service",
        &[
            "scheduler",
            "store",
            "engine",
            "model",
            "live",
            "caller",
            "error",
            "vital",
            "warrants",
            "metrics",
        ],
    ),
    (
        "scheduler",
        &["store", "engine", "model", "live", "error", "vital"],
    ),
    ("store", &["model", "error", "vital", "metrics"]),
    ("readiness", &["service", "authsvc", "metrics"]),
    ("metrics", &["model"]),
    ("engine", &["model", "error", "vital"]),
    ("live", &["model"]),
    ("model", &[]),
    ("caller", &[]),
    ("error", &[]),
];

/// Crates of the workspace: what each may use of the others, tests aside.
const CRATES: [(&str, &[&str]); 14] = [
    ("warrant-wire", &[]),
    ("warrant-api", &[]),
    ("warrant-audit", &[]),
    ("warrant-dpop", &[]),
    ("warrant-migrations", &[]),
    ("warrant-trail", &["warrant-audit", "warrant-migrations"]),
    ("warrant-upkeep", &["warrant-migrations", "warrant-trail"]),
    ("warrant-door", &[]),
    (
        "warrant-broker",
        &[
            "warrant-api",
            "warrant-door",
            "warrant-dpop",
            "warrant-migrations",
            "warrant-trail",
            "warrant-upkeep",
            "warrant-wire",
        ],
    ),
    (
        "warrant-authsvc",
        &[
            "warrant-api",
            "warrant-door",
            "warrant-dpop",
            "warrant-migrations",
            "warrant-pam",
            "warrant-trail",
            "warrant-upkeep",
            "warrant-wire",
        ],
    ),
    ("warrant-pam", &["warrant-wire"]),
    ("warrant-shim", &["warrant-wire"]),
    ("warrant", &["warrant-api", "warrant-dpop", "warrant-wire"]),
    ("warrant-tests", &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every file below `dir` whose name ends with `end`.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// The path of the module that a file of the broker holds.
fn module(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(root().join("broker/src")).unwrap();
    let parts = relative.with_extension("");
    let parts = parts.iter().map(|part| part.to_str().unwrap().to_owned());
    parts.filter(|part| part != "mod").collect()
}

/// The code of a file without comments, and without its tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let product = text.split("#[cfg(test)]\nmod").next().unwrap().to_owned();
    let lines = product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.get(..end.unwrap_or(text.len())).unwrap()
}

/// The modules at the crate's root that a file names.
fn used(file: &Path) -> BTreeSet<String> {
    let code = code(file);
    let mut used: BTreeSet<String> = code
        .split("crate::")
        .skip(1)
        .map(|rest| name(rest).to_owned())
        .collect();
    // From a module of depth n, n times `super` is the crate's root.
    let to_root = "super::".repeat(module(file).len());
    used.extend(
        code.split(&to_root)
            .skip(1)
            .map(|rest| name(rest).to_owned()),
    );
    assert!(!used.contains(""), "spell it out: {}", file.display());
    used
}

#[test]
fn arrows_between_the_brokers_modules_point_one_way() {
    let arrows = BTreeMap::from(ARROWS);
    let mut checked = 0;
    for file in files(&root().join("broker/src"), ".rs") {
        let module = module(&file);
        let Some(allowed) = arrows.get(module[0].as_str()) else {
            continue;
        };
        for other in used(&file) {
            assert!(
                other == module[0] || allowed.contains(&other.as_str()),
                "{} may not use {other}",
                file.display()
            );
        }
        checked += 1;
    }
    assert!(checked > 40, "only {checked} files were looked at");
}

#[test]
fn sql_is_spoken_in_the_store_alone() {
    for file in files(&root().join("broker/src"), ".rs") {
        let module = module(&file);
        let may = ["store", "error", "app", "main"].contains(&module[0].as_str())
            // Ids and times say how a database spells them.
            || module[0] == "model";
        let text = code(&file);
        assert!(
            may || !text.contains("sqlx"),
            "{} uses sqlx",
            file.display()
        );
        assert!(
            may || !text.contains("warrant_migrations"),
            "{} uses the database",
            file.display()
        );
    }
}

#[test]
fn the_engine_alone_speaks_to_the_shim() {
    for file in files(&root().join("broker/src"), ".rs") {
        let module = module(&file);
        let text = code(&file);
        let may =
            ["engine", "warrants"].contains(&module[0].as_str()) || module == ["service", "output"];
        assert!(may || !text.contains("warrant_wire"), "{}", file.display());
    }
}

#[test]
fn unsafe_code_stands_where_system_calls_are_wrapped_alone() {
    for dir in [
        "authsvc",
        "broker",
        "cli",
        "door",
        "migrations",
        "pam",
        "proto",
        "shim",
        "tests",
        "trail",
    ] {
        for file in files(&root().join(dir), ".rs") {
            let sys = file.starts_with(root().join("shim/src/sys"))
                || file == root().join("pam/src/sys.rs")
                // An allocator that counts, for the fuzz targets alone.
                || file == root().join("shim/fuzz/src/meter.rs");
            let text = fs::read_to_string(&file).unwrap();
            // Taken apart, so that this file does not find itself.
            let unsafe_block = ["unsafe", " {"].concat();
            assert!(sys || !text.contains(&unsafe_block), "{}", file.display());
        }
    }
}

#[test]
fn no_file_is_named_after_nothing() {
    for dir in [
        "authsvc",
        "broker",
        "cli",
        "door",
        "migrations",
        "pam",
        "proto",
        "shim",
        "tests",
        "trail",
    ] {
        for file in files(&root().join(dir), ".rs") {
            let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let empty = [
                "utils", "util", "helper", "helpers", "manager", "common", "misc",
            ];
            assert!(!empty.contains(&stem.as_str()), "{}", file.display());
        }
    }
}

#[test]
fn migrations_have_the_same_names_for_both_databases() {
    for schema in ["broker", "auth"] {
        let [sqlite, postgres] = ["sqlite", "postgres"].map(|database| {
            let dir = root().join("migrations").join(schema).join(database);
            let names = files(&dir, ".sql").into_iter();
            names
                .map(|file| file.file_name().unwrap().to_owned())
                .collect::<BTreeSet<_>>()
        });
        assert_eq!(sqlite, postgres, "{schema}");
        assert!(!sqlite.is_empty());
    }
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// A crate's whole tree of dependencies, with versions.
fn tree(package: &str) -> BTreeSet<String> {
    let text = cargo(&[
        "tree", "-p", package, "--edges", "normal", "--prefix", "none",
    ]);
    text.lines()
        .map(|line| line.split(" (").next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_chain_of_the_audit_trail_knows_no_way_in_or_out() {
    let tree = tree("warrant-audit");
    for other in ["sqlx", "tokio", "serde"] {
        assert!(!tree.iter().any(|line| line.starts_with(other)), "{other}");
    }
    for file in files(&root().join("proto/audit/src"), ".rs") {
        let text = code(&file);
        for way in ["std::fs", "std::io", "std::net", "std::time"] {
            assert!(!text.contains(way), "{} uses {way}", file.display());
        }
    }
}

#[test]
fn the_wire_depends_on_nothing() {
    assert_eq!(tree("warrant-wire").len(), 1);
}

#[test]
fn the_shims_whole_tree_is_the_list_that_was_read() {
    let listed = fs::read_to_string(root().join("shim/deps.txt")).unwrap();
    let listed: BTreeSet<String> = listed
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    assert_eq!(
        tree("warrant-shim"),
        listed,
        "read what is new, then change shim/deps.txt"
    );
}

#[test]
fn crates_share_only_what_crosses_a_process_boundary() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let allowed = BTreeMap::from(CRATES);
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else {
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let inside = dependency["path"].is_string() && dependency["kind"].is_null();
            let other = dependency["name"].as_str().unwrap();
            assert!(
                !inside || allowed.contains(&other),
                "{name} may not use {other}"
            );
        }
    }
}
