//! Every documented setting, and the test that sees what it does.

mod many_users;
mod one_user;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use table::{KEYS, VARIABLES};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The keys in a shipped file of configuration, each with its section.
fn shipped(service: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in read(&format!("packaging/etc/{service}.toml")).lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(rest) = line.strip_prefix('[') {
            if let Some((name, _)) = rest.trim_start_matches('[').split_once(']') {
                section = format!("{name}.");
            }
        } else if let Some((name, _)) = line.split_once(" = ")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            keys.insert(format!("{service} {section}{name}"));
        }
    }
    keys
}

/// The variables in the table of the README.
fn documented() -> BTreeSet<String> {
    let readme = read("README.md");
    let (_, table) = readme
        .split_once("| variable | meaning | default |")
        .unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let cells = table.lines().filter_map(|line| line.split('|').nth(1));
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted.map(str::to_owned).collect()
}

/// See that `rows` has each of `settings` once and nothing else, and that the
/// test of each row exists and names the setting.
fn check(settings: &BTreeSet<String>, rows: &[(&str, &str)]) {
    let named: BTreeSet<_> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<_> = settings.difference(&named).collect();
    assert!(
        missing.is_empty(),
        "no test sees what these do: {missing:?}"
    );
    let gone: Vec<_> = named.difference(settings).collect();
    assert!(gone.is_empty(), "these are documented nowhere: {gone:?}");
    assert_eq!(named.len(), rows.len(), "a setting is there twice");
    for (setting, test) in rows {
        let (file, test) = test.split_once("::").unwrap();
        let text = read(file);
        let found = match file.ends_with(".py") {
            true => text.contains(&format!("def {test}(")),
            false => text.contains(&format!("fn {test}(")),
        };
        assert!(found, "{file} has no test {test}");
        let (service, key) = setting.split_once(' ').unwrap_or(("", setting));
        let variable = format!("{service}__{key}")
            .to_uppercase()
            .replace('.', "__");
        let last = key.rsplit('.').next().unwrap();
        let names = [variable.as_str(), last];
        assert!(
            names.iter().any(|name| text.contains(name)),
            "{file} does not name {setting}"
        );
    }
}

#[test]
fn every_key_of_the_shipped_files_has_a_test_that_sees_what_it_does() {
    let all = ["broker", "authsvc", "shim"].into_iter().flat_map(shipped);
    check(&all.collect(), KEYS);
}

#[test]
fn every_variable_of_the_readme_has_a_test_that_sees_what_it_does() {
    check(&documented(), VARIABLES);
}
