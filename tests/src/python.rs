//! The published Python clients, each in an environment of its own that
//! `./dev test` prepares.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::House;
use crate::house::{ADMIN, ADMIN_PASSWORD, SECRET};

/// A published client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// `flux-restful-client` 0.2.1.
    Old,
    /// `flux-restful` 1.1.0.
    New,
    /// Authlib 1.9.9, for OAuth 2.0.
    OAuth,
    /// openapi-spec-validator 0.9.0, with the validators of schemas it brings.
    OpenApi,
    /// Selenium 4.51.0, which drives Debian's Chromium.
    Browser,
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Old => "flux-restful-client-0.2.1",
            Self::New => "flux-restful-1.1.0",
            Self::OAuth => "Authlib-1.9.9",
            Self::OpenApi => "openapi-spec-validator-0.9.0",
            Self::Browser => "selenium-4.51.0",
        }
    }

    /// The directory of its virtual environment; `None`, saying why, where it
    /// is not there.
    ///
    /// Errors: panics where it is missing and `WARRANT_REQUIRE_CLIENTS=1`.
    pub fn environment(self) -> Option<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let dir = root.join(".dev").join(self.name());
        let needs: &[&str] = match self {
            Self::Old | Self::New | Self::OAuth | Self::OpenApi => &[],
            Self::Browser => &["/usr/bin/chromium", "/usr/bin/chromedriver"],
        };
        let there = needs.iter().all(|program| Path::new(program).exists());
        if there && dir.join("installed").exists() {
            return Some(dir);
        }
        let why = format!(
            "left out: {} is not installed (./dev test does)",
            self.name()
        );
        let required = std::env::var("WARRANT_REQUIRE_CLIENTS");
        assert_ne!(required.as_deref(), Ok("1"), "{why}");
        eprintln!("{why}");
        None
    }

    /// Run `tests/clients/SCRIPT` against `house` as the superuser, with
    /// `variables` besides or instead of the usual ones. Returns whether the
    /// client is there.
    ///
    /// Errors: panics with all it printed where it fails.
    pub fn run(self, house: &House, script: &str, variables: &[(&str, &str)]) -> bool {
        let Some(dir) = self.environment() else {
            return false;
        };
        let bin = dir.join("bin");
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("clients")
            .join(script);
        let home = house.path("home");
        let mut command = Command::new(bin.join("python"));
        command
            .arg("-B")
            .arg(script)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("HOME", &home)
            .env("LANG", "C.UTF-8")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env(
                "FLUX_RESTFUL_HOST",
                format!("http://{}", house.nobody().address()),
            )
            .env("FLUX_USER", ADMIN)
            .env("FLUX_TOKEN", ADMIN_PASSWORD)
            .env("FLUX_SECRET_KEY", SECRET)
            .envs(variables.iter().copied())
            .current_dir(home);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        true
    }
}
