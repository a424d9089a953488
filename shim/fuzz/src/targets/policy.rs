//! The policy file.

use std::fmt::{Display, Write};

use toml::Value;
use warrant_shim::policy::{Cgroup, DeniedGroup, Policy, parse};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "policy",
    run,
    seeds,
    words: &[
        "\n",
        "\r\n",
        "\r",
        " = ",
        "\"",
        "[",
        "]",
        "[\"a\", \"b\"]",
        "[]",
        ",",
        "#",
        "true",
        "false",
        "0o",
        "0o777",
        "\\",
        "/../",
        "//",
        "\u{a0}",
        "min_uid",
        "max_uid",
        "keys",
        "deny_users",
        "pam = \"off\"\n",
        "umask = ",
        "_",
        "+1",
        "1_000",
        "0x1f",
        "'a'",
        "\"\"\"",
    ],
};

fn run(input: &[u8]) {
    let Ok(policy) = parse(input) else { return };
    let again = write(&policy);
    assert_eq!(parse(again.as_bytes()).as_ref(), Ok(&policy), "{again}");
    // No line can have been taken for a comment, and no value for another.
    if let Ok(table) = toml::from_str::<toml::Table>(std::str::from_utf8(input).unwrap()) {
        let whole: toml::Table = toml::from_str(&again).unwrap();
        for (key, value) in &table {
            assert_eq!(whole.get(key), Some(value), "{key}");
        }
    }
    // What the shim relies on.
    assert!(policy.min_uid >= 1 && policy.min_uid <= policy.max_uid);
    assert!(policy.max_uid < u32::MAX - 1 && policy.umask <= Some(0o777));
    assert!((1..=4096).contains(&policy.max_processes));
    let places = [&policy.keys, &policy.socket, &policy.spool, &policy.state];
    assert!(places.iter().all(|place| place.is_absolute()));
    assert!(!policy.path.is_empty() && !policy.path.contains('\0'));
}

/// The whole policy as a file.
fn write(policy: &Policy) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &dyn Display| writeln!(out, "{key} = {value}").unwrap();
    let text = |text: &str| Value::String(text.into());
    let number = |number: u32| Value::Integer(number.into());
    // Raw, as the shim reads names; the library would escape some.
    let name = |name: &str| match name.contains(['"', '\\']) {
        true => format!("'{name}'"),
        false => format!("\"{name}\""),
    };
    let list = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|it| name(it)).collect();
        format!("[{}]", names.join(", "))
    };
    let verdict = |is_allowed| match is_allowed {
        true => text("allow"),
        false => text("deny"),
    };
    line("broker_user", &name(&policy.broker_user));
    line("keeper_user", &name(&policy.keeper_user));
    line("broker_group", &name(&policy.broker_group));
    line("issuer", &text(&policy.issuer));
    line("audience", &text(&policy.audience));
    for (key, place) in [
        ("keys", &policy.keys),
        ("socket", &policy.socket),
        ("spool", &policy.spool),
        ("state", &policy.state),
    ] {
        line(key, &text(place.to_str().unwrap()));
    }
    line("min_uid", &number(policy.min_uid));
    line("max_uid", &number(policy.max_uid));
    line("deny_users", &list(&policy.deny_users));
    line("deny_groups", &list(&policy.deny_groups));
    line(
        "denied_group",
        &text(match policy.denied_group {
            DeniedGroup::Refuse => "refuse",
            DeniedGroup::Remove => "remove",
        }),
    );
    line("locked", &verdict(policy.locked));
    line("nologin", &verdict(policy.nologin));
    line("pam", &text(if policy.pam { "on" } else { "off" }));
    line("no_new_privs", &policy.no_new_privs);
    line(
        "cgroup",
        &text(match policy.cgroup {
            Cgroup::Auto => "auto",
            Cgroup::Require => "require",
            Cgroup::Off => "off",
        }),
    );
    line("path", &text(&policy.path));
    line("umask", &policy.umask.map_or_else(|| text("pam"), number));
    line("max_processes", &number(policy.max_processes));
    for (key, size) in [
        ("max_pids", policy.max_pids),
        ("max_time_s", policy.max_time_s),
        ("max_output_bytes", policy.max_output_bytes),
        ("max_memory_bytes", policy.max_memory_bytes),
        ("max_admitted", policy.max_admitted),
        ("max_admitted_bytes", policy.max_admitted_bytes),
    ] {
        // TOML has none beyond 2^63; the shim has.
        writeln!(out, "{key} = {size}").unwrap();
    }
    out
}

fn seeds() -> Vec<Vec<u8>> {
    let whole = write(&Policy::default());
    let spelt = "# a comment\n\n  pam=\"off\" # another\r\numask = 0o022\ndeny_users = [ \"a\",\"b\", ]\nmax_pids = 0\ncgroup\t=\t\"require\"\n";
    // Each line by itself, so that mutations do not meet a key twice.
    whole
        .lines()
        .chain([whole.as_str(), spelt, ""])
        .map(|text| text.as_bytes().to_vec())
        .collect()
}
