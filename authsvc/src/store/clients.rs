//! Programs that may ask for tokens.

use sqlx::FromRow;
use warrant_migrations::{Conn, Result, Spelt, Tx, on};

/// A client as it is kept.
#[derive(Clone, PartialEq, Eq, FromRow)]
pub(crate) struct Row {
    /// Its id.
    pub(crate) id: String,
    /// Its name for people.
    pub(crate) label: String,
    /// The SHA-256 of its secret; none for a public client.
    pub(crate) secret_hash: Option<String>,
    /// What its certificate must say, where it proves itself by one.
    pub(crate) certificate: Option<String>,
    /// The user as whom it acts by itself.
    pub(crate) owner: Option<String>,
    /// What it may ask for, as words with a space between.
    pub(crate) grants: String,
    /// What its tokens may be used for, as words with a space between.
    pub(crate) scopes: String,
    /// Where codes for it may go, one a line.
    pub(crate) redirect_uris: String,
    /// Whether it gets nothing.
    pub(crate) disabled: bool,
    /// Whether it gets nothing without a proof of possession.
    pub(crate) dpop: bool,
    /// When it was added, in microseconds since the Unix epoch.
    pub(crate) created_us: i64,
}

impl std::fmt::Debug for Row {
    /// Leaves the hash out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The client `id`.
///
/// Errors: the database did not answer.
pub(crate) async fn find(conn: &mut Conn, id: &str) -> Result<Option<Row>> {
    const SQL: &str = "select * from clients where id = $1";
    Ok(on!(conn, |db| sqlx::query_as(SQL)
        .bind(id)
        .fetch_optional(db)
        .await)?)
}

/// All clients, by id.
///
/// Errors: the database did not answer.
pub(crate) async fn list(conn: &mut Conn) -> Result<Vec<Row>> {
    const SQL: &str = "select * from clients order by id";
    Ok(on!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await)?)
}

/// Add a client; false when there is one of this id.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(tx: &mut Tx, client: &Row) -> Result<bool> {
    const SQL: &str = "insert into clients (id, label, secret_hash, owner, grants, scopes,
             redirect_uris, disabled, created_us, certificate, dpop)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict (id) do nothing";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(&client.id)
        .bind(&client.label)
        .bind(&client.secret_hash)
        .bind(&client.owner)
        .bind(&client.grants)
        .bind(&client.scopes)
        .bind(&client.redirect_uris)
        .bind(client.disabled)
        .bind(client.created_us)
        .bind(&client.certificate)
        .bind(client.dpop)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Let the client have nothing more, or again; false when there is no such
/// client.
///
/// Errors: the database did not answer.
pub(crate) async fn set_disabled(tx: &mut Tx, id: &str, disabled: bool) -> Result<bool> {
    const SQL: &str = "update clients set disabled = $2 where id = $1";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(id)
        .bind(disabled)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Remove a client; false when there is no such client.
///
/// Errors: the database did not answer.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<bool> {
    const SQL: &str = "delete from clients where id = $1";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(id)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Whether the client may have anything: it is there and not disabled. Nobody
/// changes it before the transaction is over.
///
/// Errors: the database did not answer.
pub(crate) async fn hold(tx: &mut Tx, id: &str) -> Result<bool> {
    const SQL: Spelt = Spelt {
        sqlite: "select id from clients where id = $1 and not disabled",
        postgres: "select id from clients where id = $1 and not disabled for share",
    };
    let sql = SQL.on(tx);
    let found: Option<(String,)> = on!(tx, |db| sqlx::query_as(sql)
        .bind(id)
        .fetch_optional(db)
        .await)?;
    Ok(found.is_some())
}
