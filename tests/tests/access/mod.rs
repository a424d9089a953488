//! Who is let in, by what, to which route, and for how long.

mod cookies;
mod credentials;
mod dialect;
mod dpop;
mod floods;
mod idempotency;
mod idle;
mod issuer;
mod keys;
mod limits;
mod revocations;
mod shape;
mod tokens;
mod walk;

use warrant_tests::{Database, FakeAuth, Flux, House, Setup};

/// A house whose broker asks an auth service of the test's own.
struct Gatehouse {
    house: House,
    auth: FakeAuth,
    _dir: tempfile::TempDir,
}

impl Gatehouse {
    fn open() -> Self {
        Self::open_with(|setup| setup)
    }

    fn open_with(configure: impl FnOnce(Setup) -> Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let auth = FakeAuth::start(dir.path());
        let setup = Setup::on(Database::Sqlite).set("BROKER__AUTH__SOCKET", auth.socket());
        Self {
            house: configure(setup).open(),
            auth,
            _dir: dir,
        }
    }

    fn with(&self, token: &str) -> Flux {
        self.house.nobody().with_token(token)
    }

    fn user(&self, name: &str, role: &str, scope: &str) -> Flux {
        self.with(&self.auth.token(name, role, scope))
    }
}
