//! How much code runs as root.

use std::fs;
use std::path::Path;

/// Lines of code that may run as root. It was 4,000 until what modules of PAM
/// leave behind had to be ended, jobs stopped before they are signalled,
/// questions about unknown runs answered without making files (ADR 25), a
/// service manager told that the monitor is at work, and records told apart by
/// the store, the user and the job that they are of (ADR 23).
const MOST: usize = 5_100;
/// What nobody who is root runs where runs are on behalf of users: keepers
/// that have become a user of their own, runners that have become the user,
/// and what the broker's own monitor does.
const UNPRIVILEGED: [&str; 10] = [
    "tend/",
    "cgroup/state.rs",
    "proof.rs",
    "runner/execute.rs",
    "runner/program.rs",
    "runner/environment.rs",
    "runner/redirect.rs",
    "runner/template.rs",
    "runner/workdir.rs",
    "monitor/single_user.rs",
];

/// Counts lines that are not empty, not a comment and not of a test.
fn lines_of_code(source: &str) -> usize {
    let (code, _) = source.split_once("#[cfg(test)]").unwrap_or((source, ""));
    let lines = code.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

/// Adds up the files of a directory. Answers the lines that run as root, and
/// the others.
fn count(root: &Path, dir: &Path) -> (usize, usize) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        if path.is_dir() {
            let (privileged, others) = count(root, &path);
            sum = (sum.0 + privileged, sum.1 + others);
        } else if name.ends_with(".rs") {
            let lines = lines_of_code(&fs::read_to_string(&path).unwrap());
            match UNPRIVILEGED.iter().any(|start| name.starts_with(start)) {
                true => sum.1 += lines,
                false => sum.0 += lines,
            }
        }
    }
    sum
}

#[test]
fn the_code_that_runs_as_root_stays_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for name in UNPRIVILEGED {
        assert!(root.join(name).exists(), "{name}");
    }
    let (privileged, others) = count(&root, &root);
    println!("as root: {privileged} lines, as others: {others}");
    assert!(privileged < MOST, "{privileged} lines run as root");
    assert!(others > 0);
}
