//! The policy file.

use std::fs;
use std::path::Path;

use warrant_shim::policy::{Cgroup, DeniedGroup, Policy, parse};
use warrant_wire::{Limits, Refusal};

fn shipped() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/etc/shim.toml");
    fs::read_to_string(file).unwrap()
}

#[test]
fn the_shipped_file_says_what_the_defaults_are() {
    let defaults = Policy::default();
    assert_eq!(parse(shipped().as_bytes()), Ok(defaults.clone()));
    let mut keys = Vec::new();
    let said: String = shipped()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(entry) if !entry.starts_with(' ') && entry.contains(" = ") => {
                keys.push(entry.split(' ').next().unwrap().to_owned());
                format!("{entry}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(parse(said.as_bytes()), Ok(defaults.clone()));
    // Every field is in it.
    let fields = format!("{defaults:#?}");
    let fields: Vec<&str> = fields
        .lines()
        .filter(|line| line.starts_with("    ") && !line.starts_with("     "))
        .filter_map(|line| line.trim().split_once(": ").map(|(name, _)| name))
        .collect();
    keys.sort();
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    assert_eq!(keys, sorted);
}

#[test]
fn each_key_is_read() {
    let text = r##"
        broker_user = "web"
        keeper_user = "k"
          broker_group= "www-data"   # a comment
        issuer = "https://a.example # not one"
        audience="node-1"
        keys = "/k"
        socket = "/s/s"
        spool = "/p"
        state = "/t"
        min_uid = 5000
        max_uid = 4294967293
        deny_users = []
        deny_groups = ["a" , "b",]
        denied_group = "remove"
        locked = "deny"
        nologin = "allow"
        pam = "off"
        no_new_privs = false
        cgroup = "require"
        path = "/bin"
        umask = 0o27
        max_processes = 1
        max_pids = 0
        max_time_s = 18446744073709551615
        max_output_bytes = 1
        max_memory_bytes = 2
        max_admitted = 3
        max_admitted_bytes = 4
    "##;
    let expected = Policy {
        broker_user: "web".into(),
        keeper_user: "k".into(),
        broker_group: "www-data".into(),
        issuer: "https://a.example # not one".into(),
        audience: "node-1".into(),
        keys: "/k".into(),
        socket: "/s/s".into(),
        spool: "/p".into(),
        state: "/t".into(),
        min_uid: 5000,
        max_uid: u32::MAX - 2,
        deny_users: Vec::new(),
        deny_groups: vec!["a".into(), "b".into()],
        denied_group: DeniedGroup::Remove,
        locked: false,
        nologin: true,
        pam: false,
        no_new_privs: false,
        cgroup: Cgroup::Require,
        path: "/bin".into(),
        umask: Some(0o27),
        max_processes: 1,
        max_pids: 0,
        max_time_s: u64::MAX,
        max_output_bytes: 1,
        max_memory_bytes: 2,
        max_admitted: 3,
        max_admitted_bytes: 4,
    };
    assert_eq!(parse(text.as_bytes()), Ok(expected));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    const ACCOUNT: &str = "line 1: deny_users: must be the name of an account";
    const ACCOUNTS: &str = "line 1: deny_users: must be names of accounts as [\"a\", \"b\"]";
    const CLAIM: &str = "line 1: issuer: must be 1 to 255 characters";
    const TEXT: &str = "line 1: issuer: must be printable ASCII in quotation marks, without \\";
    const NAMES: &str =
        "line 1: deny_users: must be printable ASCII in quotation marks, without \\";
    let long = format!("issuer = \"{}\"", "a".repeat(256));
    let socket = format!("socket = \"/{}\"", "a".repeat(107));
    for (text, complaint) in [
        ("\n\nshell = \"/bin/sh\"", "line 3: there is no such key"),
        (
            "pam = \"on\"\npam = \"on\"",
            "line 2: pam: must be given once",
        ),
        ("pam = \"yes\"", "line 1: pam: must be \"on\" or \"off\""),
        ("pam = true", "line 1: pam: must be \"on\" or \"off\""),
        (
            "min_uid = 0",
            "line 1: min_uid: must be a whole number from 1 to 4294967293",
        ),
        (
            "max_uid = 4294967294",
            "line 1: max_uid: must be a whole number from 1 to 4294967293",
        ),
        (
            "min_uid = 70000\nmax_uid = 60000",
            "min_uid: must be at most max_uid",
        ),
        (
            "umask = \"pam\"\npam = \"off\"",
            "umask: must be a number where pam is \"off\"",
        ),
        (
            "umask = 0o1000",
            "line 1: umask: must be a whole number from 0 to 0o777, or \"pam\"",
        ),
        (
            "max_processes = 4097",
            "line 1: max_processes: must be a whole number from 1 to 4096",
        ),
        (
            "max_pids = \"1\"",
            "line 1: max_pids: must be a whole number",
        ),
        (
            "no_new_privs = \"true\"",
            "line 1: no_new_privs: must be true or false",
        ),
        (
            "spool = \"var/spool\"",
            "line 1: spool: must be an absolute path",
        ),
        (
            "spool = \"/var/../etc\"",
            "line 1: spool: must be an absolute path",
        ),
        (
            "spool = \"/var//spool\"",
            "line 1: spool: must be an absolute path",
        ),
        ("spool = \"/\"", "line 1: spool: must be an absolute path"),
        (
            &socket,
            "line 1: socket: must be an absolute path of at most 107 bytes",
        ),
        (
            "path = \"/bin:.\"",
            "line 1: path: must be absolute paths with : between them",
        ),
        ("issuer = \"\"", CLAIM),
        (&long, CLAIM),
        (
            "broker_user = \"-day\"",
            "line 1: broker_user: must be the name of an account",
        ),
        ("deny_users = [\"a\", \"b/c\"]", ACCOUNT),
        ("deny_users = [\"CORP\\a\"]", NAMES),
        ("deny_users = ['a'b']", NAMES),
        ("deny_users = [\"a\" \"b\"]", NAMES),
        ("deny_users = [,]", NAMES),
        ("deny_users = [\"a\", , \"b\"]", NAMES),
        ("deny_users = [\"a\"] b", ACCOUNTS),
        ("deny_users = \"a\"", ACCOUNTS),
        ("deny_users = [\"a\"", ACCOUNTS),
        ("deny_users = [", ACCOUNTS),
        ("issuer = \"a", TEXT),
        ("issuer = a", TEXT),
        ("issuer = \"", TEXT),
        ("issuer =", TEXT),
        ("issuer = \"a\\n\"", TEXT),
        ("issuer = \"é\"", TEXT),
        ("issuer = \"a\" b", TEXT),
        ("issuer = \"a\" \"b\"", TEXT),
        (
            "[section]",
            "line 1: must be a key, = and a value, or begin with #",
        ),
        ("max_pids = 0x1", "line 1: max_pids: must be a whole number"),
    ] {
        let wrong = parse(text.as_bytes()).unwrap_err();
        assert_eq!(wrong.to_string(), complaint, "{text}");
    }
    for number in [
        "-1",
        "1.0",
        "1e3",
        "01",
        "1_000",
        "18446744073709551616",
        "0o8",
        "0o",
        "",
        "+1",
        "0o+1",
        "1 2",
    ] {
        assert!(
            parse(format!("max_pids = {number}").as_bytes()).is_err(),
            "{number}"
        );
    }
    assert!(parse(b"issuer = \"\xff\"").is_err());
}

#[test]
fn t134_names_of_accounts_and_groups_are_as_directories_have_them() {
    let text = r##"
        deny_users = ["0day", 'CORP\alice', "alice@example.org", "O'Brien", 'a"b', "#1", "jürgen"]
        deny_groups = ['CORP\Domain Users', "Domain Admins"] # 'not' "these"
        broker_user = 'CORP\svc-warrant'
    "##;
    let policy = parse(text.as_bytes()).unwrap();
    let users = [
        "0day",
        "CORP\\alice",
        "alice@example.org",
        "O'Brien",
        "a\"b",
        "#1",
        "jürgen",
    ];
    assert_eq!(policy.deny_users, users);
    assert_eq!(policy.deny_groups, ["CORP\\Domain Users", "Domain Admins"]);
    assert_eq!(policy.broker_user, "CORP\\svc-warrant");
    for name in ["", "a/b", "-a", "..", "a:b", &"n".repeat(256)] {
        assert!(
            parse(format!("deny_users = ['{name}']").as_bytes()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn no_bytes_upset_the_parser() {
    let good = shipped().replace("#m", "m").replace("#d", "d");
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        usize::try_from(seed >> 33).unwrap()
    };
    for _ in 0..20_000 {
        let mut text = good.as_bytes().to_vec();
        for _ in 0..=next() % 8 {
            let at = next() % text.len();
            text[at] = b"\"[]=#,\\\n\0\xff0o9a /"[next() % 16];
        }
        text.truncate(next() % text.len());
        // Whatever it answers, it answers.
        let _ = parse(&text);
    }
}

#[test]
fn limits_are_bound_by_the_policy() {
    let asked = Limits {
        processes: 2,
        time_limit_s: 0,
        grace_ms: 1,
        output_cap_bytes: 10,
        memory_bytes: 0,
    };
    let open = Policy::default();
    assert_eq!(open.bound(asked), Ok(asked));
    let tight = Policy {
        max_processes: 2,
        max_time_s: 5,
        max_output_bytes: 10,
        max_memory_bytes: 7,
        ..open
    };
    let bound = tight.bound(asked).unwrap();
    assert_eq!((bound.time_limit_s, bound.memory_bytes), (5, 7));
    let within = Limits {
        time_limit_s: 4,
        memory_bytes: 7,
        ..asked
    };
    assert_eq!(tight.bound(within), Ok(within));
    for more in [
        Limits {
            processes: 3,
            ..asked
        },
        Limits {
            time_limit_s: 6,
            ..asked
        },
        Limits {
            output_cap_bytes: 11,
            ..asked
        },
        Limits {
            memory_bytes: 8,
            ..asked
        },
    ] {
        assert_eq!(tight.bound(more), Err(Refusal::Limits));
    }
}
