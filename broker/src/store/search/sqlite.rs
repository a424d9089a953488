//! FTS5 with trigrams: it walks its matches newest first, and stops when
//! there are enough.

use warrant_migrations::{Conn, on};

use super::super::late;
use super::{Ask, marked};

/// The newest jobs that are looked at, one by one, for a short text.
const RECENT: i64 = 2000;
/// The most trigrams that a short text is looked up as.
const TERMS: i64 = 1000;

/// The ids of jobs that hold the text, newest first.
pub(super) async fn by_text(conn: &mut Conn, ask: Ask<'_>) -> sqlx::Result<Vec<i64>> {
    // A short text is in most jobs: the newest will do, where they hold enough.
    if ask.is_short() && ask.text.is_ascii() {
        let newest = among_newest(conn, ask).await?;
        if ask.is_met(&newest) {
            return Ok(newest);
        }
    }
    // What moves into the index meanwhile is in both, or else it would be in
    // neither.
    let late = late::holding(conn, ask.whose.name(), ask.text).await?;
    if late.is_empty() {
        return by_index(conn, ask).await;
    }
    let head = Ask {
        start: 0,
        limit: ask.start.saturating_add(ask.limit),
        ..ask
    };
    let mut ids = by_index(conn, head).await?;
    ids.extend(late);
    Ok(ask.stretch(ids))
}

async fn by_index(conn: &mut Conn, ask: Ask<'_>) -> sqlx::Result<Vec<i64>> {
    const SQL: &str = "select rowid from job_text where job_text match $1 \
        order by rowid desc limit $2 offset $3";
    let Some(mut expression) = expression(conn, ask).await? else {
        return Ok(Vec::new());
    };
    if let Some(owner) = ask.whose.name() {
        expression = format!("({expression}) AND {}", quoted(&marked(owner)));
    }
    on!(conn, |db| {
        let all = sqlx::query_scalar(SQL).bind(expression).bind(ask.limit);
        all.bind(ask.start).fetch_all(db).await
    })
}

async fn among_newest(conn: &mut Conn, ask: Ask<'_>) -> sqlx::Result<Vec<i64>> {
    const ALL: &str = "select id from (select id, name, owner, command, workdir from jobs \
        order by id desc limit $4) \
        where instr(lower(id || char(10) || name || char(10) || owner || char(10) || command \
        || char(10) || coalesce(workdir, '')), $1) > 0 order by id desc limit $2 offset $3";
    const ONE: &str = "select id from (select id, name, owner, command, workdir from jobs \
        where owner = $5 order by id desc limit $4) \
        where instr(lower(id || char(10) || name || char(10) || owner || char(10) || command \
        || char(10) || coalesce(workdir, '')), $1) > 0 order by id desc limit $2 offset $3";
    match ask.whose.name() {
        None => on!(conn, |db| {
            let all = sqlx::query_scalar(ALL)
                .bind(ask.text)
                .bind(ask.limit)
                .bind(ask.start);
            all.bind(RECENT).fetch_all(db).await
        }),
        Some(owner) => on!(conn, |db| {
            let all = sqlx::query_scalar(ONE)
                .bind(ask.text)
                .bind(ask.limit)
                .bind(ask.start);
            all.bind(RECENT).bind(owner).fetch_all(db).await
        }),
    }
}

/// An FTS5 expression that matches the text; `None` where nothing can. A text
/// of one or two letters is looked up among the trigrams that begin with it.
async fn expression(conn: &mut Conn, ask: Ask<'_>) -> sqlx::Result<Option<String>> {
    const SQL: &str = "select term from job_text_terms where term >= $1 and term < $2 limit $3";
    if !ask.is_short() {
        return Ok(Some(quoted(ask.text)));
    }
    let end = format!("{}\u{10ffff}", ask.text);
    let terms: Vec<String> = on!(conn, |db| {
        sqlx::query_scalar(SQL)
            .bind(ask.text)
            .bind(end)
            .bind(TERMS)
            .fetch_all(db)
            .await
    })?;
    let terms: Vec<String> = terms.iter().map(|term| quoted(term)).collect();
    Ok((!terms.is_empty()).then(|| terms.join(" OR ")))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
