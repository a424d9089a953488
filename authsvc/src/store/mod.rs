//! SQL, a file for each table. Every function takes the connection or the
//! transaction that it works in.

pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod clients;
pub(crate) mod codes;
pub(crate) mod devices;
pub(crate) mod expired;
pub(crate) mod proofs;
pub(crate) mod refresh_tokens;
pub(crate) mod revocations;
pub(crate) mod sessions;
pub(crate) mod sign_ins;
pub(crate) mod spent;
pub(crate) mod users;
pub(crate) mod web_sessions;

#[cfg(test)]
mod tests;

use std::os::unix::fs::MetadataExt;

use nix::unistd::geteuid;
use warrant_migrations::{Conn, Db, Result, on};

use crate::error::{Error, Kind};
use crate::secret::Secret;

/// Open the database at `url`.
///
/// Errors: it cannot be reached; or it is a SQLite file of another user, next
/// to which this one would leave files that its owner cannot write.
pub(crate) async fn open(url: &Secret) -> Result<Db, Error> {
    let owner = url
        .expose()
        .strip_prefix("sqlite:")
        .and_then(|path| std::fs::metadata(path).ok())
        .map(|found| found.uid());
    let own = geteuid().as_raw();
    if let Some(owner) = owner.filter(|owner| *owner != own) {
        return Err(Error::new(
            Kind::Insecure,
            format!(
                "database.url: the file belongs to uid {owner}, but this is uid {own}; only its owner may use it"
            ),
        ));
    }
    Db::open(url.expose())
        .await
        .map_err(|source| Error::unavailable("database.url: the database cannot be opened", source))
}

/// See that the database answers.
///
/// Errors: it does not.
pub(crate) async fn ping(conn: &mut Conn) -> Result<()> {
    const SQL: &str = "select 1";
    on!(conn, |db| sqlx::query(SQL).execute(db).await.map(|_| ()))?;
    Ok(())
}

/// A column holds what this program never wrote.
fn undecodable(column: &str) -> warrant_migrations::Error {
    sqlx::Error::Decode(format!("the column {column} holds something unknown").into()).into()
}
