//! A certified OpenID provider from a package, as a process of its own, which
//! `./dev test` installs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `oidc-provider` of npm, at the version of `clients/openid/package.json`.
const PACKAGE: &str = "oidc-provider-9.13.3";

/// A running provider. Dropped, it is killed.
#[derive(Debug)]
pub struct Provider {
    child: Child,
    /// Its issuer identifier.
    pub issuer: String,
}

impl Provider {
    /// Start it; its client `warrant-web` has `secret`, and browsers come back
    /// to `callback`. `None`, saying why, where it is not installed.
    ///
    /// Errors: panics where it does not start, or is missing and
    /// `WARRANT_REQUIRE_CLIENTS=1`.
    pub fn start(callback: &str, secret: &str) -> Option<Self> {
        let package = package()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/openid/provider.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(package)
            .args([callback, secret])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let issuer = lines.next().expect("the provider ended").unwrap();
        assert!(issuer.starts_with("http://127.0.0.1:"), "{issuer}");
        // What it says later must find somebody who reads it.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, issuer })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn package() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let dir = root.join(".dev").join(PACKAGE);
    if dir.join("installed").exists() {
        return Some(dir);
    }
    let why = format!("left out: {PACKAGE} is not installed (./dev test does)");
    let required = std::env::var("WARRANT_REQUIRE_CLIENTS");
    assert_ne!(required.as_deref(), Ok("1"), "{why}");
    eprintln!("{why}");
    None
}
