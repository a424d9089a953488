//! Texts of new jobs on SQLite, which the index of trigrams takes later, many
//! at a time: one by one they would cost each submit more than all else that
//! it writes. Searches read those that still wait.

use sqlx::QueryBuilder;
use warrant_migrations::{Conn, Tx};

use super::search;

/// The most texts that the index takes at a time; so many wait at most, for
/// long.
pub(super) const MOST: usize = 256;

/// Id, owner, name, command and directory of a job whose text waits.
type LateRow = (i64, String, String, String, Option<String>);

const ROWS: &str = "select jobs.id, owner, name, command, workdir from job_text_late \
    join jobs on jobs.id = job_id order by job_id limit $1";

fn text((id, owner, name, command, workdir): &LateRow) -> String {
    search::text(*id, owner, name, command, workdir.as_deref())
}

/// Have the index take some of the texts that wait: how many.
pub(super) async fn take(tx: &mut Tx) -> sqlx::Result<usize> {
    const DONE: &str =
        "delete from job_text_late where job_id in (select value from json_each($1))";
    let db = match tx {
        Tx::Sqlite(db) => &mut **db,
        Tx::SqliteHeld(db, _) => &mut **db,
        Tx::Postgres(_) | Tx::PostgresHeld(..) => return Ok(0),
    };
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    let rows: Vec<LateRow> = sqlx::query_as(ROWS).bind(most).fetch_all(&mut *db).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut insert = QueryBuilder::new("insert into job_text (rowid, text) ");
    insert.push_values(&rows, |mut values, row| {
        values.push_bind(row.0).push_bind(text(row));
    });
    insert.build().execute(&mut *db).await?;
    let ids = serde_json::Value::from_iter(rows.iter().map(|row| row.0));
    let done = sqlx::query(DONE).bind(ids.to_string());
    done.execute(&mut *db).await?;
    Ok(rows.len())
}

/// Those of `owner`, or of everybody, that wait and hold `wanted`.
pub(super) async fn holding(
    conn: &mut Conn,
    owner: Option<&str>,
    wanted: &str,
) -> sqlx::Result<Vec<i64>> {
    let Conn::Sqlite(db) = conn else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query_as(ROWS).bind(i64::MAX);
    let rows: Vec<LateRow> = rows.fetch_all(&mut **db).await?;
    let matches = rows
        .iter()
        .filter(|row| owner.is_none_or(|owner| owner == row.1) && text(row).contains(wanted));
    Ok(matches.map(|row| row.0).collect())
}
