//! Three roles on PostgreSQL: who owns the tables, and what each service is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use warrant_tests::cluster::Cluster;
use warrant_tests::house::Setup;
use warrant_tests::service::{self, Variables};
use warrant_tests::{Database, House};

const NONE: &str = "/nonexistent/none.toml";

/// A server with the database and the roles that `database-roles` prints.
struct Server {
    cluster: Cluster,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Option<Self> {
        let cluster = Cluster::start()?;
        let printed = service::run("warrant-authsvc", &["database-roles"], &Vec::new(), "");
        assert!(printed.status.success());
        cluster.psql("postgres", std::str::from_utf8(&printed.stdout).unwrap());
        let dir = tempfile::tempdir().unwrap();
        Some(Self { cluster, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A private file that holds the URL of a role.
    fn url_file(&self, role: &str, database: &str) -> String {
        let file = self.path(&format!("{role}-{database}"));
        fs::write(&file, self.cluster.url(role, database) + "\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// The environment of both services with the URLs of their roles.
    fn variables(&self) -> Variables {
        let text = |name: &str| self.path(name).to_str().unwrap().to_owned();
        [
            (
                "AUTHSVC__DATABASE__URL",
                self.cluster.url("warrant_authsvc", "warrant"),
            ),
            (
                "BROKER__DATABASE__URL",
                self.cluster.url("warrant_broker", "warrant"),
            ),
            ("AUTHSVC__KEYS__DIR", text("keys")),
            ("AUTHSVC__LISTEN__SOCKET", text("auth.sock")),
            ("BROKER__SPOOL__DIR", text("spool")),
            ("BROKER__AUTH__SOCKET", text("auth.sock")),
            ("BROKER__LISTEN__HTTP", "127.0.0.1:0".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Run a command of a service; whether it succeeded, and all that it said.
    fn command(&self, program: &str, words: &[&str]) -> (bool, String) {
        let words = [words, &["--config", NONE]].concat();
        let output = service::run(program, &words, &self.variables(), "");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn migrate(&self, database: &str) {
        let owner = self.url_file("warrant_owner", database);
        for (program, role) in [
            ("warrant-authsvc", "warrant_authsvc"),
            ("warrant-broker", "warrant_broker"),
        ] {
            let words = ["migrate", "--url-file", &owner, "--grant-to", role];
            let (done, said) = self.command(program, &words);
            assert!(done, "{said}");
        }
    }

    /// A house whose services have the roles, by the name of a credential.
    fn house(&self, database: &str) -> House {
        let url = |role| fs::read_to_string(self.url_file(role, database)).unwrap();
        for (name, role) in [
            ("auth-url", "warrant_authsvc"),
            ("jobs-url", "warrant_broker"),
        ] {
            let file = self.path(name);
            fs::write(&file, url(role)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        }
        let nowhere = || "postgres://nobody@127.0.0.1:1/none".to_owned();
        let at = Database::At {
            authsvc: nowhere(),
            broker: nowhere(),
        };
        Setup::on(at)
            .set("CREDENTIALS_DIRECTORY", self.dir.path().to_str().unwrap())
            .set("AUTHSVC__DATABASE__URL_FILE", "credential:auth-url")
            .set("BROKER__DATABASE__URL_FILE", "credential:jobs-url")
            .open()
    }
}

/// Login, submit, cancel, an API key: everything a service does with its tables.
fn live(house: &House) {
    let (ann, bob) = (house.user("ann"), house.user("bob"));
    let job = ann.submit("echo hello");
    assert_eq!(ann.finished(job)["result"], "COMPLETED");
    assert_eq!(ann.output(job), ["hello\n"]);
    let waits = ann.submit("sleep 1000");
    assert_eq!(bob.cancel(waits).status, 403);
    assert_eq!(ann.cancel(waits).status, 200);
    ann.finished(waits);
    let found = ann.get("/v1/jobs/search?start=0&length=10&draw=1&q=hello");
    assert_eq!(found.status, 200, "{}", found.text());

    let asked = json!({"label": "nightly", "scopes": "read", "expires_in_days": 7});
    let made = ann.create_key("ann", &House::password("ann"), &asked);
    assert!(made.status < 300, "{}", made.text());
    let made = made.json();
    let key = made["key"].as_str().unwrap();
    let program = ann.with_token(key);
    assert_eq!(program.get("/v1/jobs").status, 200);
    house.authsvc_command(&["key", "revoke", made["id"].as_str().unwrap()], "");
    warrant_tests::wait::until_within(
        std::time::Duration::from_secs(30),
        "the key to count no more",
        || (program.get("/v1/jobs").status == 401).then_some(()),
    );

    // Refresh tokens, clients, an account that ends.
    let form = format!(
        "grant_type=password&client_id=warrant&username=bob&password={}",
        House::password("bob")
    );
    let tokens = house.nobody().post_form("/oauth/token", &form).with(200);
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let form = format!("grant_type=refresh_token&client_id=warrant&refresh_token={refresh}");
    house.nobody().post_form("/oauth/token", &form).with(200);
    house.authsvc_command(
        &[
            "client",
            "add",
            "portal",
            "--label",
            "Portal",
            "--grant",
            "client_credentials",
            "--owner",
            "ann",
            "--scope",
            "read",
        ],
        "",
    );
    house.authsvc_command(&["client", "delete", "portal"], "");
    house.authsvc_command(&["user", "disable", "bob"], "");
    house.authsvc_command(&["user", "delete", "bob"], "");
    house.authsvc_command(&["session", "end", "--all"], "");
    house.authsvc_command(&["account", "end", "ann", "--keys"], "");
    house.authsvc_command(&["keys", "rotate"], "");
}

#[test]
fn the_services_work_with_roles_that_may_do_what_they_need_and_nothing_else() {
    let Some(server) = Server::start() else {
        return;
    };
    // Nothing is there, and the roles may not make it.
    for program in ["warrant-authsvc", "warrant-broker"] {
        for words in [&["migrate"][..], &["serve", "--migrate"]] {
            let (done, said) = server.command(program, words);
            assert!(!done && said.contains("may not change that"), "{said}");
            assert!(said.contains("migrate_url_file"), "{said}");
        }
    }
    // Tables are there, and no rights: that is said as well.
    let owner = server.url_file("warrant_owner", "warrant");
    for (program, variable) in [
        ("warrant-authsvc", "AUTHSVC__DATABASE__URL"),
        ("warrant-broker", "BROKER__DATABASE__URL"),
    ] {
        let url = server.cluster.url("warrant_owner", "warrant");
        let as_owner = vec![(variable.to_owned(), url)];
        let output = service::run(program, &["migrate", "--config", NONE], &as_owner, "");
        assert!(output.status.success());
        let (done, said) = server.command(program, &["serve"]);
        assert!(!done && said.contains("lacks: "), "{said}");
        let (done, said) = server.command(program, &["check-config"]);
        assert!(!done && said.contains("lacks: "), "{said}");
        let words = [
            "migrate",
            "--url-file",
            &owner,
            "--grant-to",
            "warrant_nobody",
        ];
        let (done, said) = server.command(program, &words);
        assert!(!done && said.contains("there is no role"), "{said}");
        let words = [
            "migrate",
            "--url-file",
            &owner,
            "--grant-to",
            "warrant_owner",
        ];
        let (done, said) = server.command(program, &words);
        assert!(!done && said.contains("owns the tables"), "{said}");
    }
    server.migrate("warrant");
    // Again, it changes nothing; nor where the role is the one of the URL.
    server.migrate("warrant");
    for program in ["warrant-authsvc", "warrant-broker"] {
        let (done, said) = server.command(program, &["migrate", "--url-file", &owner]);
        assert!(done, "{said}");
    }

    let house = server.house("warrant");
    live(&house);
    for program in ["warrant-authsvc", "warrant-broker"] {
        let words = ["check-config", "--json", "--config", NONE];
        let output = house.command(program, &words);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        for finding in told["findings"].as_array().unwrap() {
            assert!(finding["level"] == "warning", "{finding}");
            assert!(finding["key"] != "database.url", "{finding}");
        }
        let rows = house.audit(program);
        assert!(rows.len() > 3, "{rows:?}");
        // Only the owner prunes.
        let words = ["audit", "prune", "--before", "2099-01-01", "--config", NONE];
        let refused = house.command(program, &words);
        assert!(!refused.status.success());
        let before = rows.len();
        assert_eq!(house.audit(program).len(), before);
    }
    house.close();

    // By the owner's URL it can be pruned, and holds.
    for (program, variable) in [
        ("warrant-authsvc", "AUTHSVC__DATABASE__MIGRATE_URL_FILE"),
        ("warrant-broker", "BROKER__DATABASE__MIGRATE_URL_FILE"),
    ] {
        let mut variables = server.variables();
        variables.push((variable.to_owned(), owner.clone()));
        for words in [
            &["audit", "prune", "--before", "2099-01-01"][..],
            &["audit", "verify"],
        ] {
            let output = service::run(
                program,
                &[words, &["--config", NONE]].concat(),
                &variables,
                "",
            );
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{words:?}: {complaint}");
        }
    }
}

const AUTH_TABLES: &[&str] = &[
    "users",
    "sessions",
    "refresh_tokens",
    "clients",
    "api_keys",
    "revocations",
    "audit",
    "audit_head",
];
const BROKER_TABLES: &[&str] = &[
    "jobs",
    "tasks",
    "runs",
    "events",
    "job_counts",
    "submit_keys",
    "job_text",
    "job_audit",
    "job_audit_head",
];

/// PostgreSQL's code for a right that is not there.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Try each statement; panic at the first one that is not refused for want of
/// the right.
fn refused(url: &str, statements: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut conn = PgConnection::connect(url).await.unwrap();
        for statement in statements {
            let tried = sqlx::query(AssertSqlSafe(statement.clone()))
                .execute(&mut conn)
                .await;
            let error = tried.expect_err(statement);
            let code = error
                .as_database_error()
                .and_then(|error| error.code().map(|c| c.into_owned()));
            assert_eq!(
                code.as_deref(),
                Some(INSUFFICIENT_PRIVILEGE),
                "{statement}: {error}"
            );
        }
        conn.close().await.unwrap();
    });
}

#[test]
fn a_service_that_is_taken_over_reaches_no_foreign_table_no_schema_and_no_old_row() {
    let Some(server) = Server::start() else {
        return;
    };
    server.migrate("warrant");
    let house = server.house("warrant");
    let ann = house.user("ann");
    ann.finished(ann.submit("true"));
    for (role, foreign, own, trail) in [
        ("warrant_broker", AUTH_TABLES, BROKER_TABLES, "job_audit"),
        ("warrant_authsvc", BROKER_TABLES, AUTH_TABLES, "audit"),
    ] {
        let mut statements: Vec<String> = Vec::new();
        for table in foreign {
            statements.extend([
                format!("select * from {table}"),
                format!("select count(*) from {table}"),
                format!("insert into {table} default values"),
                format!("delete from {table}"),
                format!("truncate {table}"),
                format!("copy {table} to stdout"),
            ]);
        }
        for table in own {
            statements.extend([
                format!("alter table {table} add column stolen text"),
                format!("alter table {table} disable trigger all"),
                format!("alter table {table} owner to {role}"),
                format!("drop table {table}"),
                format!("truncate {table}"),
                format!("create index stolen on {table} ((1))"),
                format!("create trigger stolen before update on {table} for each row execute function audit_refuses()"),
            ]);
        }
        statements.extend([
            format!("update {trail} set subject = 'bob'"),
            format!("update {trail} set hash = hash where seq = 1"),
            format!("delete from {trail}"),
            format!("update {trail}_head set pruned_count = 1"),
            format!("update {trail}_head set pruned_hash = hash, pruned_by = 1"),
            format!("delete from {trail}_head"),
            format!("insert into {trail}_head values (2, 0, '', 0, '', null)"),
            format!("drop trigger {trail}_is_never_changed on {trail}"),
            format!("create or replace function {trail}_refuses() returns trigger language plpgsql as $$ begin return new; end $$"),
            "create table stolen (a int)".into(),
            "create temporary table stolen (a int)".into(),
            "create schema stolen".into(),
            "create view stolen as select 1".into(),
            "create function stolen() returns int language sql as 'select 1'".into(),
            "create extension hstore".into(),
            "create role stolen".into(),
            "create database stolen".into(),
            "alter schema public owner to current_user".into(),
            "set role warrant_owner".into(),
            "set role postgres".into(),
            "set session_replication_role = replica".into(),
            "alter system set log_statement = 'all'".into(),
            "copy (select 1) to '/tmp/stolen'".into(),
            "copy (select 1) to program 'true'".into(),
            "select pg_read_file('PG_VERSION')".into(),
            "select * from pg_authid".into(),
            "insert into auth_migrations default values".into(),
            "delete from broker_migrations".into(),
        ]);
        if role == "warrant_authsvc" {
            statements.push("select nextval('job_ids')".into());
        }
        refused(&server.cluster.url(role, "warrant"), &statements);
    }
    // Nothing of it happened, and the services go on.
    for program in ["warrant-authsvc", "warrant-broker"] {
        house.audit(program);
    }
    assert_eq!(ann.finished(ann.submit("true"))["result"], "COMPLETED");
    house.close();
}

#[test]
fn a_dump_by_the_owner_is_restored_into_a_new_database() {
    let Some(server) = Server::start() else {
        return;
    };
    server.migrate("warrant");
    let mut house = server.house("warrant");
    let ann = house.user("ann");
    let job = ann.submit("echo kept");
    ann.finished(job);
    let rows = ["warrant-authsvc", "warrant-broker"].map(|program| house.audit(program).len());
    let dump = server.cluster.path("warrant.dump");
    let dump = dump.to_str().unwrap();
    server
        .cluster
        .client("pg_dump", "warrant_owner", "warrant", &["-Fc", "-f", dump]);
    // What is done afterwards is not in it.
    let lost = ann.submit("echo lost");
    ann.finished(lost);
    house.stop_broker();
    house.kill_authsvc();
    server.cluster.psql(
        "postgres",
        "create database restored owner warrant_owner;
         revoke all on database restored from public;
         grant connect on database restored to warrant_authsvc, warrant_broker;
         \\connect restored
         alter schema public owner to warrant_owner;
         revoke all on schema public from public;",
    );
    server.cluster.client(
        "pg_restore",
        "warrant_owner",
        "restored",
        &["--no-owner", "--exit-on-error", dump],
    );
    let restored = server.house("restored");
    // Rights come with the dump; to grant them again does no harm.
    server.migrate("restored");
    let again = ["warrant-authsvc", "warrant-broker"].map(|program| restored.audit(program).len());
    assert!(
        again[0] >= rows[0] && again[1] == rows[1],
        "{rows:?} {again:?}"
    );
    let ann = restored.login("ann");
    assert_eq!(ann.info(job)["result"], "COMPLETED");
    assert_eq!(ann.get(&format!("/v1/jobs/{lost}")).status, 404);
    let skipped = restored.command("warrant-broker", &["skip-ids", "1000", "--config", NONE]);
    assert!(skipped.status.success());
    restored.close();
    house.close();
    assert!(Path::new(dump).exists());
}
