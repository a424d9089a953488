//! Finding jobs by a piece of text, through an index of trigrams; never by a
//! regular expression.

use warrant_migrations::{Conn, Spelt, on};

use super::changes::NewJob;
use super::jobs::{JobRow, Page, Whose, jobs};
use super::{Store, counts};
use crate::error::Result;
use crate::model::{JobId, State};

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Whose jobs.
    pub whose: Whose<'a>,
    /// The piece of text, not empty; letter case does not matter.
    pub text: &'a str,
    /// States whose name in the asking dialect holds the text.
    pub states: &'a [State],
    /// How many matches to skip, newest first.
    pub start: i64,
    /// How many to give.
    pub limit: i64,
}

/// The newest jobs that a database without an index for short texts looks at.
const RECENT: i64 = 20_000;

/// What is indexed of a job: its id, name, owner, command and directory, a
/// line each, so that no match spans two of them.
pub(super) fn text(id: JobId, job: &NewJob) -> String {
    let workdir = job.workdir.as_deref().unwrap_or_default();
    // Two bytes at the end let the last letters begin a trigram as well.
    format!(
        "{id}\n{}\n{}\n{}\n{workdir}\n\n\n",
        job.name, job.owner.name, job.command
    )
    .to_lowercase()
}

impl Store {
    /// The jobs that match, and how many jobs there are in all.
    ///
    /// Errors: the store is away.
    pub async fn search(&self, query: Query<'_>) -> Result<Page> {
        let mut conn = self.db.read().await?;
        let total = counts::place(&mut conn, query.whose.counted(), 0)
            .await?
            .total;
        let ids = if query.states.is_empty() {
            by_text(&mut conn, &query, query.start, query.limit).await?
        } else {
            // Two lists in one order: take the head of each, drop what is in both.
            let reach = query.start.saturating_add(query.limit);
            let mut ids = by_text(&mut conn, &query, 0, reach).await?;
            for state in query.states {
                ids.extend(by_state(&mut conn, &query, *state, reach).await?);
            }
            ids.sort_unstable_by(|a, b| b.cmp(a));
            ids.dedup();
            let skip = usize::try_from(query.start).unwrap_or(usize::MAX);
            let take = usize::try_from(query.limit).unwrap_or(usize::MAX);
            ids.into_iter().skip(skip).take(take).collect()
        };
        let found = rows(&mut conn, &ids).await?;
        Ok(Page {
            jobs: jobs(found)?,
            total,
        })
    }
}

async fn rows(conn: &mut Conn, ids: &[i64]) -> sqlx::Result<Vec<JobRow>> {
    const SQL: Spelt = Spelt {
        sqlite: "select jobs.* from json_each($1) found join jobs on jobs.id = found.value \
                 order by jobs.id desc",
        postgres: "select jobs.* from json_array_elements_text($1::json) found (value) \
                   join jobs on jobs.id = found.value::bigint order by jobs.id desc",
    };
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = SQL.on(conn);
    let list = serde_json::Value::from(ids).to_string();
    on!(conn, |db| sqlx::query_as(sql)
        .bind(list)
        .fetch_all(db)
        .await)
}

async fn by_state(
    conn: &mut Conn,
    query: &Query<'_>,
    state: State,
    limit: i64,
) -> sqlx::Result<Vec<i64>> {
    const SQL: &str = "select id from jobs where state = $1 and ($2 is null or owner = $2) \
        order by id desc limit $3";
    const POSTGRES: &str = "select id from jobs where state = $1 \
        and ($2::text is null or owner = $2) order by id desc limit $3";
    let sql = Spelt {
        sqlite: SQL,
        postgres: POSTGRES,
    }
    .on(conn);
    let owner = query.whose.name();
    on!(conn, |db| {
        sqlx::query_scalar(sql)
            .bind(state.word())
            .bind(owner)
            .bind(limit)
            .fetch_all(db)
            .await
    })
}

async fn by_text(
    conn: &mut Conn,
    query: &Query<'_>,
    start: i64,
    limit: i64,
) -> sqlx::Result<Vec<i64>> {
    // No job holds a NUL, and PostgreSQL takes no text with one.
    if query.text.contains('\0') {
        return Ok(Vec::new());
    }
    let text = query.text.to_lowercase();
    match conn {
        Conn::Sqlite(_) => sqlite(conn, query, &text, start, limit).await,
        Conn::Postgres(_) => postgres(conn, query, &text, start, limit).await,
    }
}

/// FTS5 walks its matches newest first and stops at the limit.
async fn sqlite(
    conn: &mut Conn,
    query: &Query<'_>,
    text: &str,
    start: i64,
    limit: i64,
) -> sqlx::Result<Vec<i64>> {
    const ALL: &str = "select rowid from job_text where job_text match $1 \
        order by rowid desc limit $2 offset $3";
    const ONE: &str = "select job_text.rowid from job_text join jobs on jobs.id = job_text.rowid \
        where job_text match $1 and jobs.owner = $4 order by job_text.rowid desc limit $2 offset $3";
    if text.chars().count() < 3 && text.is_ascii() {
        let newest = among_newest(conn, query, text, start, limit).await?;
        if i64::try_from(newest.len()).unwrap_or(i64::MAX) >= limit {
            return Ok(newest);
        }
    }
    let Some(expression) = expression(conn, text).await? else {
        return Ok(Vec::new());
    };
    match query.whose.name() {
        None => on!(conn, |db| {
            sqlx::query_scalar(ALL)
                .bind(expression)
                .bind(limit)
                .bind(start)
                .fetch_all(db)
                .await
        }),
        Some(owner) => on!(conn, |db| {
            let ask = sqlx::query_scalar(ONE)
                .bind(expression)
                .bind(limit)
                .bind(start);
            ask.bind(owner).fetch_all(db).await
        }),
    }
}

/// A short text is in most jobs: the newest will do, where they hold enough.
async fn among_newest(
    conn: &mut Conn,
    query: &Query<'_>,
    text: &str,
    start: i64,
    limit: i64,
) -> sqlx::Result<Vec<i64>> {
    const SQL: &str = "select id from (select id, name, owner, command, workdir from jobs \
        where $1 is null or owner = $1 order by id desc limit $5) \
        where instr(lower(id || char(10) || name || char(10) || owner || char(10) || command \
        || char(10) || coalesce(workdir, '')), $2) > 0 order by id desc limit $3 offset $4";
    let owner = query.whose.name();
    on!(conn, |db| {
        let ask = sqlx::query_scalar(SQL)
            .bind(owner)
            .bind(text)
            .bind(limit)
            .bind(start);
        ask.bind(RECENT / 10).fetch_all(db).await
    })
}

/// An FTS5 expression that matches `text`; `None` where nothing can. A text
/// of one or two letters is looked up among the trigrams that begin with it.
async fn expression(conn: &mut Conn, text: &str) -> sqlx::Result<Option<String>> {
    const TERMS: &str = "select term from job_text_terms where term >= $1 and term < $2 limit 1000";
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    if text.chars().count() >= 3 {
        return Ok(Some(quoted(text)));
    }
    let end = format!("{text}\u{10ffff}");
    let terms: Vec<String> = on!(conn, |db| sqlx::query_scalar(TERMS)
        .bind(text)
        .bind(end)
        .fetch_all(db)
        .await)?;
    let terms: Vec<String> = terms.iter().map(|term| quoted(term)).collect();
    Ok((!terms.is_empty()).then(|| terms.join(" OR ")))
}

/// A text that many jobs hold is soon found among the newest; one that few
/// hold is soon found in the index. Ask the first, then the second.
async fn postgres(
    conn: &mut Conn,
    query: &Query<'_>,
    text: &str,
    start: i64,
    limit: i64,
) -> sqlx::Result<Vec<i64>> {
    const NEWEST: &str = "select job_id from (select t.job_id, t.text from job_text t \
        join jobs j on j.id = t.job_id where $1::text is null or j.owner = $1 \
        order by t.job_id desc limit $5) newest where text like $2 \
        order by job_id desc limit $3 offset $4";
    const INDEXED: &str = "with found as materialized (select job_id from job_text \
        where text like $2) select job_id from found join jobs on jobs.id = job_id \
        where $1::text is null or jobs.owner = $1 order by job_id desc limit $3 offset $4";
    let owner = query.whose.name();
    let pattern = like(text);
    let short = text.chars().count() < 3;
    let recent = if short { RECENT } else { RECENT / 10 };
    let newest: Vec<i64> = on!(conn, |db| {
        let ask = sqlx::query_scalar(NEWEST)
            .bind(owner)
            .bind(&pattern)
            .bind(limit)
            .bind(start);
        ask.bind(recent).fetch_all(db).await
    })?;
    if i64::try_from(newest.len()).unwrap_or(i64::MAX) >= limit {
        return Ok(newest);
    }
    on!(conn, |db| {
        let ask = sqlx::query_scalar(INDEXED)
            .bind(owner)
            .bind(&pattern)
            .bind(limit)
            .bind(start);
        ask.fetch_all(db).await
    })
}

/// A LIKE pattern that holds `text` as it stands.
fn like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}
