//! Users and their password hashes.

use sqlx::FromRow;
use warrant_migrations::{Conn, Result, Spelt, Tx, on};

use crate::user_name::UserName;

/// One user.
#[derive(Clone, PartialEq, Eq, FromRow)]
pub(crate) struct User {
    /// The row's number.
    pub(crate) id: i64,
    /// The name, unique.
    pub(crate) name: String,
    /// The password's hash in PHC form (argon2id).
    pub(crate) password_hash: String,
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
    const SQL: &str =
        "update users set password_hash = $2, password_changed_us = $3 where name = $1";
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
