//! The benchmark itself: that it measures what it says, on every database
//! that is there. Figures are not looked at.

use serde_json::Value;

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the program under test is started"
)]
fn every_part_is_measured_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let figures = dir.path().join("figures.json");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_warrant-bench"))
        .arg("--quick")
        .arg("--dir")
        .arg(dir.path())
        .arg("--json")
        .arg(&figures)
        .output()
        .unwrap();
    let wrote = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{wrote}");

    let figures: Value = serde_json::from_slice(&std::fs::read(&figures).unwrap()).unwrap();
    let tables = figures["tables"].as_array().unwrap();
    let mut parts = vec!["submit", "token", "auth", "start", "live", "list", "memory"];
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("it takes root") || said.contains("no mount namespace") {
        let is_root = nix::unistd::geteuid().is_root();
        let required = std::env::var("WARRANT_REQUIRE_ROOT");
        assert!(!is_root || required.as_deref() != Ok("1"), "{said}");
    } else {
        parts.extend(["multi", "shim"]);
    }
    for part in parts {
        let of_part: Vec<_> = tables
            .iter()
            .filter(|table| table["part"] == part)
            .collect();
        assert!(!of_part.is_empty(), "no {part}");
        for table in of_part {
            assert!(!table["rows"].as_array().unwrap().is_empty(), "{table}");
        }
    }
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["figures.json"], "left behind");
}
