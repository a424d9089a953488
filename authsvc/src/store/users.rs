//! Users and their password hashes.

use sqlx::FromRow;
use warrant_migrations::{Conn, Spelt, Tx, on};

use crate::user_name::UserName;

type Result<T, E = warrant_migrations::Error> = std::result::Result<T, E>;

/// Who proves a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The database, by the password kept here.
    Database,
    /// PAM. Such a row is there only because the user was disabled once.
    Pam,
    /// An OpenID provider.
    Oidc,
}

impl By {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Pam => "pam",
            Self::Oidc => "oidc",
        }
    }
}

impl TryFrom<String> for By {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        [Self::Database, Self::Pam, Self::Oidc]
            .into_iter()
            .find(|by| by.name() == name)
            .ok_or(name)
    }
}

/// One user.
#[derive(Clone, PartialEq, Eq, FromRow)]
pub(crate) struct User {
    /// The row's number.
    pub(crate) id: i64,
    /// The name, unique.
    pub(crate) name: String,
    /// The password's hash in PHC form (argon2id); empty where no password is
    /// kept here.
    pub(crate) password_hash: String,
    /// Who proves the user.
    #[sqlx(rename = "backend", try_from = "String")]
    pub(crate) by: By,
    /// Whom a provider calls so.
    pub(crate) identity: Option<String>,
    /// Whether the user is an administrator.
    pub(crate) superuser: bool,
    /// Whether the user may not log in.
    pub(crate) disabled: bool,
    /// When the user was added, in microseconds since the Unix epoch.
    pub(crate) created_us: i64,
    /// When the password was last set, in microseconds since the Unix epoch.
    pub(crate) password_changed_us: i64,
}

impl std::fmt::Debug for User {
    /// Leaves the hash out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("superuser", &self.superuser)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// The user called `name`, if there is one.
///
/// Errors: the database did not answer.
pub(crate) async fn find(conn: &mut Conn, name: &UserName) -> Result<Option<User>> {
    const SQL: &str = "select * from users where name = $1";
    let name = name.as_str();
    Ok(on!(conn, |db| sqlx::query_as(SQL)
        .bind(name)
        .fetch_optional(db)
        .await)?)
}

/// As [`find`]; nobody changes the user before the transaction is over.
///
/// Errors: the database did not answer.
pub(crate) async fn hold(tx: &mut Tx, name: &UserName) -> Result<Option<User>> {
    const SQL: Spelt = Spelt {
        sqlite: "select * from users where name = $1",
        postgres: "select * from users where name = $1 for share",
    };
    let (sql, name) = (SQL.on(tx), name.as_str());
    Ok(on!(tx, |db| sqlx::query_as(sql)
        .bind(name)
        .fetch_optional(db)
        .await)?)
}

/// All users, by name.
///
/// Errors: the database did not answer.
pub(crate) async fn list(conn: &mut Conn) -> Result<Vec<User>> {
    const SQL: &str = "select * from users order by name";
    Ok(on!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await)?)
}

/// Add a user; false when there is one of this name.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(
    tx: &mut Tx,
    name: &UserName,
    hash: &str,
    superuser: bool,
    now_us: i64,
) -> Result<bool> {
    const SQL: &str =
        "insert into users (name, password_hash, superuser, disabled, created_us, password_changed_us)
         values ($1, $2, $3, false, $4, $4) on conflict (name) do nothing";
    let name = name.as_str();
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(name)
        .bind(hash)
        .bind(superuser)
        .bind(now_us)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Make the user an administrator; false when there is no such user.
///
/// Errors: the database did not answer.
pub(crate) async fn promote(tx: &mut Tx, name: &UserName) -> Result<bool> {
    const SQL: &str = "update users set superuser = true where name = $1";
    let name = name.as_str();
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(name)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Set a new password; false when there is no such user.
///
/// Errors: the database did not answer.
pub(crate) async fn set_password(
    tx: &mut Tx,
    name: &UserName,
    hash: &str,
    now_us: i64,
) -> Result<bool> {
    const SQL: &str = "update users set password_hash = $2, password_changed_us = $3,
             backend = 'database' where name = $1";
    let name = name.as_str();
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(name)
        .bind(hash)
        .bind(now_us)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// As [`set_password`], where the present one was set at `old_us` and the user
/// may log in; false where not.
///
/// Errors: the database did not answer.
pub(crate) async fn change_password(
    tx: &mut Tx,
    name: &UserName,
    hash: &str,
    old_us: i64,
    now_us: i64,
) -> Result<bool> {
    const SQL: &str = "update users set password_hash = $2, password_changed_us = $4
         where name = $1 and password_changed_us = $3 and not disabled";
    let name = name.as_str();
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(name)
        .bind(hash)
        .bind(old_us)
        .bind(now_us)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Replace the hash `old` by `new`, of the same password at another cost;
/// false when the password was changed meanwhile.
///
/// Errors: the database did not answer.
pub(crate) async fn renew_hash(tx: &mut Tx, id: i64, old: &str, new: &str) -> Result<bool> {
    const SQL: &str = "update users set password_hash = $3 where id = $1 and password_hash = $2";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(id)
        .bind(old)
        .bind(new)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Let the user log in no longer, or again; false when there is no such user.
///
/// Errors: the database did not answer.
pub(crate) async fn set_disabled(tx: &mut Tx, name: &UserName, disabled: bool) -> Result<bool> {
    const SQL: &str = "update users set disabled = $2 where name = $1";
    let name = name.as_str();
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(name)
        .bind(disabled)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Remove a user; false when there is no such user.
///
/// Errors: the database did not answer.
pub(crate) async fn delete(tx: &mut Tx, name: &UserName) -> Result<bool> {
    const SQL: &str = "delete from users where name = $1";
    let name = name.as_str();
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(name)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Add a user who has no password here; false when there is one of this name,
/// or whom the provider calls otherwise.
///
/// Errors: the database did not answer.
pub(crate) async fn insert_proven(
    tx: &mut Tx,
    name: &UserName,
    by: By,
    identity: Option<&str>,
    disabled: bool,
    now_us: i64,
) -> Result<bool> {
    const SQL: &str = "insert into users (name, password_hash, superuser, disabled, created_us,
             password_changed_us, backend, identity)
         values ($1, '', false, $2, $3, $3, $4, $5) on conflict do nothing";
    let name = name.as_str();
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(name)
        .bind(disabled)
        .bind(now_us)
        .bind(by.name())
        .bind(identity)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Write down whom a provider calls by the name of a user who has no password
/// here; false where the user has one, or is somebody else already.
///
/// Errors: the database did not answer; the provider calls two so.
pub(crate) async fn identify(tx: &mut Tx, name: &UserName, identity: &str) -> Result<bool> {
    const SQL: &str = "update users set identity = $2, backend = 'oidc'
         where name = $1 and identity is null and backend <> 'database'";
    let name = name.as_str();
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(name)
        .bind(identity)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// The name of the user whom a provider calls so.
///
/// Errors: the database did not answer.
pub(crate) async fn find_identity(tx: &mut Tx, identity: &str) -> Result<Option<String>> {
    const SQL: &str = "select name from users where identity = $1";
    let found: Option<(String,)> = on!(tx, |db| sqlx::query_as(SQL)
        .bind(identity)
        .fetch_optional(db)
        .await)?;
    Ok(found.map(|(name,)| name))
}
