//! pg_trgm: a text that many jobs hold is soon found among the newest, one
//! that few hold is soon found in the index. The first is tried, then the
//! second.

use warrant_migrations::{Conn, on};

use super::Ask;

/// The newest jobs that are looked at one by one.
const RECENT: i64 = 1000;
/// The same for a text that is too short for the index.
const RECENT_SHORT: i64 = 20_000;

/// The ids of jobs that hold the text, newest first.
pub(super) async fn by_text(conn: &mut Conn, ask: Ask<'_>) -> sqlx::Result<Vec<i64>> {
    const ALL: &str = "with found as materialized \
        (select job_id from job_text where text like $1) \
        select job_id from found order by job_id desc limit $2 offset $3";
    const ONE: &str = "with found as materialized \
        (select job_id from job_text where text like $1 and text like $4) \
        select job_id from found order by job_id desc limit $2 offset $3";
    let pattern = like(ask.text);
    let newest = among_newest(conn, ask, &pattern).await?;
    if ask.is_met(&newest) {
        return Ok(newest);
    }
    match ask.whose.name() {
        None => on!(conn, |db| {
            let all = sqlx::query_scalar(ALL)
                .bind(&pattern)
                .bind(ask.limit)
                .bind(ask.start);
            all.fetch_all(db).await
        }),
        Some(owner) => on!(conn, |db| {
            let all = sqlx::query_scalar(ONE)
                .bind(&pattern)
                .bind(ask.limit)
                .bind(ask.start);
            all.bind(like(&super::marked(owner))).fetch_all(db).await
        }),
    }
}

async fn among_newest(conn: &mut Conn, ask: Ask<'_>, pattern: &str) -> sqlx::Result<Vec<i64>> {
    const ALL: &str = "select job_id from (select job_id, text from job_text \
        order by job_id desc limit $4) newest where text like $1 \
        order by job_id desc limit $2 offset $3";
    // The join is lateral, so that each of the few is looked up by its key.
    const ONE: &str = "select j.id from \
        (select id from jobs where owner = $5 order by id desc limit $4) j \
        cross join lateral (select text from job_text where job_id = j.id) t \
        where t.text like $1 order by j.id desc limit $2 offset $3";
    let recent = if ask.is_short() { RECENT_SHORT } else { RECENT };
    match ask.whose.name() {
        None => on!(conn, |db| {
            let all = sqlx::query_scalar(ALL)
                .bind(pattern)
                .bind(ask.limit)
                .bind(ask.start);
            all.bind(recent).fetch_all(db).await
        }),
        Some(owner) => on!(conn, |db| {
            let all = sqlx::query_scalar(ONE)
                .bind(pattern)
                .bind(ask.limit)
                .bind(ask.start);
            all.bind(recent).bind(owner).fetch_all(db).await
        }),
    }
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
