//! `warrant up`, and what a person has set for it.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde_json::Value;
use warrant_tests::house::{ADMIN, ADMIN_PASSWORD};
use warrant_tests::ports::free_address;
use warrant_tests::processes;
use warrant_tests::service::{Service, Variables};
use warrant_tests::wait::until;

use super::Shell;

/// A place for a server of `warrant up`.
struct Ground {
    dir: tempfile::TempDir,
    /// What marks its processes.
    mark: String,
}

impl Ground {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        let mark = format!("warrant_up_{name}_{}", std::process::id());
        Self { dir, mark }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, file: &str, text: &str) {
        let state = self.path("state");
        if !Path::new(&state).exists() {
            fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        }
        fs::write(self.path(&format!("state/{file}")), text).unwrap();
    }

    fn variables(&self, more: &[(&str, &str)]) -> Variables {
        let home = self.path("home");
        let usual = [
            ("PATH", "/usr/bin:/bin"),
            ("HOME", home.as_str()),
            ("FLUX_TOKEN", ADMIN_PASSWORD),
            (processes::MARK, self.mark.as_str()),
        ];
        let all = usual.iter().chain(more);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn begin(&self, more: &[&str], variables: &[(&str, &str)]) -> Service {
        let state = self.path("state");
        let words = [&["up", "--state-dir", &state], more].concat();
        let log = self.path("log");
        let _ = fs::remove_file(&log);
        super::start_as_user(&words, &self.variables(variables), Path::new(&log))
    }

    /// Start it; returns the address that it prints.
    fn start(&self, more: &[&str], variables: &[(&str, &str)]) -> (Service, String) {
        let mut up = self.begin(more, variables);
        let url = until("the server to be ready", || {
            assert!(up.ended().is_none(), "{}", up.log());
            let log = up.log();
            let (_, rest) = log.split_once("Warrant is ready at ")?;
            rest.lines().next().map(str::to_owned)
        });
        (up, url)
    }

    /// Start it where it refuses to; returns what it says.
    fn refused(&self, more: &[&str], variables: &[(&str, &str)]) -> String {
        let mut up = self.begin(more, variables);
        assert!(!up.wait().success(), "{}", up.log());
        up.log()
    }

    fn shell(&self, url: &str) -> Shell {
        let login = [("FLUX_USER", ADMIN), ("FLUX_TOKEN", ADMIN_PASSWORD)];
        Shell::new(url, Path::new(&self.path("home")), &login)
    }

    fn stop(&self, up: Service) {
        up.stop();
        until("all of it to end", || {
            processes::marked(&self.mark).is_empty().then_some(())
        });
    }
}

fn described(url: &str) -> Value {
    let asked = ureq::get(format!("{url}/.well-known/oauth-authorization-server"));
    let text = asked.call().unwrap().into_body().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn warrant_up_honours_the_files_of_its_state_directory() {
    let ground = Ground::new("files");
    let port = free_address().port();
    let public = format!("http://127.0.0.1:{port}/flux");
    ground.write("authsvc.toml", &format!("[oauth]\nurl = \"{public}\"\n"));
    let broker = format!(
        "[listen]\nhttp = \"127.0.0.1:{port}\"\n[engine]\ncores = 3\n\
         env_passthrough = [\"SITE_*\"]\n[flux]\nlegacy_job = true\n"
    );
    ground.write("broker.toml", &broker);
    let (up, url) = ground.start(&[], &[("SITE_NAME", "north")]);
    assert_eq!(url, format!("http://127.0.0.1:{port}"));
    assert_eq!(described(&url)["issuer"], public);
    let challenge = ureq::get(format!("{url}/v1/jobs"))
        .config()
        .http_status_as_error(false)
        .build()
        .call()
        .unwrap();
    let challenge = challenge.headers()["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains(&format!("\"{public}/v1/token\"")),
        "{challenge}"
    );
    let shell = ground.shell(&public);
    let words = ["submit", "--wait", "--", "sh", "-c", "echo $SITE_NAME"];
    assert_eq!(shell.prints(&words), "north\n");
    ground.stop(up);

    // An option comes before a file, and a free port before both.
    let (up, url) = ground.start(&["--listen", "127.0.0.1:0"], &[]);
    assert_ne!(url, format!("http://127.0.0.1:{port}"));
    ground.stop(up);
}

#[test]
fn warrant_up_listens_at_host_and_port_unless_an_option_says_otherwise() {
    let ground = Ground::new("host");
    let port = free_address().port().to_string();
    let variables = [("HOST", "127.0.0.3"), ("PORT", port.as_str())];
    let (up, url) = ground.start(&[], &variables);
    assert_eq!(url, format!("http://127.0.0.3:{port}"));
    assert_eq!(described(&url)["issuer"], url);
    ground.stop(up);
    let (up, url) = ground.start(&["--listen", "127.0.0.1:0"], &variables);
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    assert_eq!(described(&url)["issuer"], url);
    ground.stop(up);
    for (name, value) in [("HOST", "jobs.example.org"), ("PORT", "http")] {
        let said = ground.refused(&[], &[(name, value)]);
        assert!(said.contains(&format!("{name} must be")), "{said}");
    }
}

#[test]
fn warrant_up_refuses_settings_that_it_would_override() {
    let ground = Ground::new("decided");
    for (file, text, key) in [
        ("broker.toml", "mode = \"single-user\"", "mode"),
        ("broker.toml", "[database]\nurl = \"x\"", "database.url"),
        ("broker.toml", "[auth]\nsocket = \"/x\"", "auth.socket"),
        ("broker.toml", "[spool]\ndir = \"/x\"", "spool.dir"),
        ("broker.toml", "[engine]\nshim = \"/x\"", "engine.shim"),
        (
            "broker.toml",
            "[listen.tls]\nkey = \"/x\"",
            "listen.tls.key",
        ),
        ("authsvc.toml", "[database]\nurl = \"x\"", "database.url"),
        ("authsvc.toml", "[listen]\nsocket = \"/x\"", "listen.socket"),
        ("authsvc.toml", "[keys]\ndir = \"/x\"", "keys.dir"),
        (
            "authsvc.toml",
            "shared_secret_file = \"/x\"",
            "shared_secret_file",
        ),
        (
            "authsvc.toml",
            "[superuser]\nname = \"x\"",
            "superuser.name",
        ),
    ] {
        ground.write(file, text);
        let said = ground.refused(&["--listen", "127.0.0.1:0"], &[]);
        assert!(
            said.contains(&format!("{file}: {key}: `warrant up` decides this; ")),
            "{said}"
        );
        let variable = format!(
            "{}__{}",
            file.trim_end_matches(".toml").to_uppercase(),
            key.to_uppercase().replace('.', "__")
        );
        ground.write(file, "");
        let said = ground.refused(&["--listen", "127.0.0.1:0"], &[(variable.as_str(), "x")]);
        assert!(
            said.contains(&format!("{variable}: `warrant up` decides")),
            "{said}"
        );
    }
    ground.write("broker.toml", "[listen\n");
    let said = ground.refused(&["--listen", "127.0.0.1:0"], &[]);
    assert!(said.contains("broker.toml"), "{said}");
}

#[test]
fn warrant_up_starts_a_service_again_that_was_killed() {
    let ground = Ground::new("kills");
    let (up, url) = ground.start(&["--listen", "127.0.0.1:0"], &[]);
    let shell = ground.shell(&url);
    let id = shell
        .prints(&["submit", "--", "sleep", "300"])
        .trim()
        .to_owned();
    for name in ["warrant-authsvc", "warrant-broker"] {
        let found = || {
            let all = processes::marked(&ground.mark);
            let program = |command: &str| command.split(' ').next().unwrap().ends_with(name);
            all.into_iter().find(|process| program(&process.command))
        };
        let killed = found().unwrap();
        killed.kill();
        until("the service to be started again", || {
            found().filter(|process| process.pid != killed.pid)
        });
        until("the server to answer", || {
            shell.run(&["info", &id]).status.success().then_some(())
        });
        let short = name.trim_start_matches("warrant-");
        assert!(
            up.log().contains(&format!("{short} ended unexpectedly")),
            "{}",
            up.log()
        );
    }
    assert_eq!(
        shell.prints(&["submit", "--wait", "--", "echo", "hello"]),
        "hello\n"
    );
    shell.prints(&["cancel", &id]);
    ground.stop(up);
}
