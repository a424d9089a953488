//! Accounts as directories have them: one rule for names and user ids in all
//! parts.

use serde_json::json;
use warrant_tests::village::{ALICE, Account};
use warrant_tests::{Plan, Village};

const fn person(name: &'static str, uid: u32) -> Account {
    Account { name, uid }
}

/// The longest name: 255 bytes.
const LONGEST: &str = "n23456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-12345";

const PEOPLE: [Account; 16] = [
    // What looks like a number is a name: here, that of somebody else's id.
    person("54011", 60_001),
    person("0", 61_183),
    person("0x10", 65_520),
    person("4294967296", 65_536),
    person("0day", 999_999_999),
    // Alice and alice are two.
    person("Alice", 1_000_000_000),
    person("CORP\\alice", 1_000_000_001),
    person("alice@example.org", 2_147_483_646),
    person("alice+hpc", 2_147_483_647),
    person("alice.b.", 2_147_483_648),
    person("first last", 2_147_483_649),
    person("jürgen", 3_000_000_000),
    person("o'brien\"x", 4_000_000_000),
    person("%41lice", 4_294_967_292),
    person("~alice", 4_294_967_291),
    person(LONGEST, 4_294_967_293),
];

#[test]
fn t134_every_part_takes_the_names_and_user_ids_of_directories_alike() {
    let Some(village) = Plan::default().people(&PEOPLE).open() else {
        return;
    };
    assert_eq!(LONGEST.len(), 255);
    let alice = village.user(ALICE);
    for account in PEOPLE {
        let (uid, name) = (account.uid, account.name);
        let user = village.user(account);
        let job = user.submit_script("id -u; id -un; printf '%s\\n' \"$USER\"; pwd");
        let info = user.finished(job);
        assert_eq!(info["result"], "COMPLETED", "{name}: {info}");
        let expected = format!("{uid}\n{name}\n{name}\n/srv/home/{name}\n");
        assert_eq!(user.output(job).concat(), expected);
        assert_eq!(info["userid"], uid);
        // Nobody who is called nearly so sees it.
        assert_eq!(alice.get(&format!("/v1/jobs/{job}")).status, 404, "{name}");
        assert_eq!(user.list().len(), 1, "{name}");
    }
    // The record holds each name as it is.
    let rows = village.audit();
    for Account { name, uid } in PEOPLE {
        let told = rows
            .iter()
            .any(|row| row["subject"] == name && row["uid"] == uid);
        assert!(told, "{name}");
    }
    village.close();
}

/// Nobody's, the system's and systemd's; and one with a second name.
const OTHERS: [Account; 6] = [
    person("last-of-dynamic", 65_519),
    person("nobody-at-all", 65_535),
    person("none", 4_294_967_295),
    person("overflow", 4_294_967_294),
    person("far", 70_000),
    person("alias", ALICE.uid),
];

#[test]
fn t134_accounts_that_are_no_persons_or_out_of_range_are_told_the_truth() {
    let plan = Plan::default().people(&OTHERS).set("FLUX_MAX_UID", "69999");
    let Some(village) = plan.open() else {
        return;
    };
    let login = |account: Account, password: &str| {
        let form = format!("username={}&password={password}", account.name);
        village.nobody().post_form("/v1/login/access-token", &form)
    };
    for account in OTHERS {
        let password = Village::password(account);
        village.authsvc_command(&["user", "add", account.name], &password);
        let why = match account.name {
            "far" => "outside the range",
            "alias" => "goes by another name",
            _ => "System accounts",
        };
        let answer = login(account, &password);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(
            answer.text().contains(why),
            "{}: {}",
            account.name,
            answer.text()
        );
        let answer = login(account, "another-password");
        let told = answer.with(400);
        assert_eq!(told, json!({"detail": "Incorrect user or password"}));
    }
    village.user(ALICE);
    village.close();
}
