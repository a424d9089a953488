//! Devices that wait for their user, by the hash of what each asks with.

use sqlx::FromRow;
use warrant_migrations::{Conn, Result, Spelt, Tx, on};

/// A device that waits.
#[derive(Clone, PartialEq, Eq, FromRow)]
pub(crate) struct Device {
    /// The SHA-256 of what it asks with.
    pub(crate) hash: String,
    /// What its user types in, without the hyphen.
    pub(crate) user_code: String,
    /// Its program.
    pub(crate) client_id: String,
    /// What it asks for; once it is approved, what it may have.
    pub(crate) scopes: String,
    /// When both codes expire.
    pub(crate) expires_us: i64,
    /// Seconds to wait between two questions.
    pub(crate) interval_s: i64,
    /// When it last asked.
    pub(crate) polled_us: Option<i64>,
    /// `approved` or `denied`.
    pub(crate) decision: Option<String>,
    /// Who decided.
    pub(crate) subject: Option<String>,
    /// The session that decided, where the device's ends with it.
    pub(crate) giver_id: Option<String>,
}

/// What a user decides about a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decided<'a> {
    /// `approved` or `denied`.
    pub(crate) decision: &'a str,
    /// The user.
    pub(crate) subject: &'a str,
    /// What the device may have.
    pub(crate) scopes: &'a str,
    /// The session with which the device's ends, where it does.
    pub(crate) giver_id: Option<&'a str>,
}

impl std::fmt::Debug for Device {
    /// Leaves the user's code out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("client_id", &self.client_id)
            .field("decision", &self.decision)
            .finish_non_exhaustive()
    }
}

/// Add a device, unless `most` wait already or the user's code is taken;
/// returns whether it was added.
///
/// Errors: the database did not answer.
pub(crate) async fn insert(tx: &mut Tx, device: &Device, most: i64) -> Result<bool> {
    const SQL: &str = "insert into device_codes (hash, user_code, client_id, scopes, expires_us,
             interval_s)
         select $1, $2, $3, $4, $5, $6 where (select count(*) from device_codes) < $7
         on conflict do nothing";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(&device.hash)
        .bind(&device.user_code)
        .bind(&device.client_id)
        .bind(&device.scopes)
        .bind(device.expires_us)
        .bind(device.interval_s)
        .bind(most)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// The device whose user was told `user_code`, if nothing was decided about
/// it and it has not expired at `now_us`.
///
/// Errors: the database did not answer.
pub(crate) async fn find_undecided(
    conn: &mut Conn,
    user_code: &str,
    now_us: i64,
) -> Result<Option<Device>> {
    const SQL: &str = "select * from device_codes
                       where user_code = $1 and decision is null and expires_us > $2";
    Ok(on!(conn, |db| sqlx::query_as(SQL)
        .bind(user_code)
        .bind(now_us)
        .fetch_optional(db)
        .await)?)
}

/// Decide about a device; false when it was decided or has expired meanwhile.
///
/// Errors: the database did not answer.
pub(crate) async fn decide(
    tx: &mut Tx,
    user_code: &str,
    decided: Decided<'_>,
    now_us: i64,
) -> Result<bool> {
    const SQL: &str = "update device_codes
         set decision = $2, subject = $3, scopes = $4, giver_id = $6
         where user_code = $1 and decision is null and expires_us > $5";
    let rows = on!(tx, |db| sqlx::query(SQL)
        .bind(user_code)
        .bind(decided.decision)
        .bind(decided.subject)
        .bind(decided.scopes)
        .bind(now_us)
        .bind(decided.giver_id)
        .execute(db)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// The device with this hash; nobody else asks about it before the
/// transaction is over.
///
/// Errors: the database did not answer.
pub(crate) async fn hold(tx: &mut Tx, hash: &str) -> Result<Option<Device>> {
    const SQL: Spelt = Spelt {
        sqlite: "select * from device_codes where hash = $1",
        postgres: "select * from device_codes where hash = $1 for update",
    };
    let sql = SQL.on(tx);
    Ok(on!(tx, |db| sqlx::query_as(sql)
        .bind(hash)
        .fetch_optional(db)
        .await)?)
}

/// Write down that it asked, and how long it has to wait by now.
///
/// Errors: the database did not answer.
pub(crate) async fn polled(tx: &mut Tx, hash: &str, interval_s: i64, now_us: i64) -> Result<()> {
    const SQL: &str = "update device_codes set polled_us = $2, interval_s = $3 where hash = $1";
    on!(tx, |db| sqlx::query(SQL)
        .bind(hash)
        .bind(now_us)
        .bind(interval_s)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Forget a device.
///
/// Errors: the database did not answer.
pub(crate) async fn delete(tx: &mut Tx, hash: &str) -> Result<()> {
    const SQL: &str = "delete from device_codes where hash = $1";
    on!(tx, |db| sqlx::query(SQL)
        .bind(hash)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Forget the devices that the user decided about.
///
/// Errors: the database did not answer.
pub(crate) async fn delete_of(tx: &mut Tx, subject: &str) -> Result<()> {
    const SQL: &str = "delete from device_codes where subject = $1";
    on!(tx, |db| sqlx::query(SQL)
        .bind(subject)
        .execute(db)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Forget all devices, of everybody.
///
/// Errors: the database did not answer.
pub(crate) async fn delete_all(tx: &mut Tx) -> Result<()> {
    const SQL: &str = "delete from device_codes";
    on!(tx, |db| sqlx::query(SQL).execute(db).await.map(|_| ()))?;
    Ok(())
}
