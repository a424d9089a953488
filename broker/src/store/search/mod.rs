//! Finding jobs by a piece of text, through an index of trigrams; never by a
//! regular expression.

mod postgres;
mod scan;
mod shelf;
mod sqlite;
#[cfg(test)]
mod tests;
mod texts;
mod walk;

use warrant_migrations::{Conn, Spelt, on};

use super::Store;
use super::changes::NewJob;
use super::counts::{self, Totals};
use super::jobs::{Whose, columns, gather};
use crate::error::Result;
use crate::model::{Job, JobId, State};
pub(super) use texts::Texts;

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

/// What was found.
#[derive(Debug)]
pub struct Matches {
    /// The ids of jobs, newest first.
    pub ids: Vec<JobId>,
    /// How many jobs there are in all.
    pub total: i64,
}

/// What is asked for: a text in lower case, or one of some states, and a
/// stretch of the matches.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    whose: Whose<'a>,
    text: &'a str,
    states: &'a [State],
    start: i64,
    limit: i64,
}

impl Ask<'_> {
    /// Whether the text is too short to be a trigram.
    fn is_short(&self) -> bool {
        self.text.chars().count() < 3
    }

    /// The stretch of `ids` that was asked for, newest first, each once.
    fn stretch(&self, mut ids: Vec<i64>) -> Vec<i64> {
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.dedup();
        let skip = usize::try_from(self.start).unwrap_or(usize::MAX);
        let take = usize::try_from(self.limit).unwrap_or(usize::MAX);
        ids.into_iter().skip(skip).take(take).collect()
    }

    /// Whether `ids` are all that was asked for.
    fn is_met(&self, ids: &[i64]) -> bool {
        i64::try_from(ids.len()).is_ok_and(|n| n >= self.limit)
    }
}

/// From here on a page of jobs by their state is not put together from lists.
const FAR: i64 = 1000;

/// What stands around the owner's name in what is indexed, and nowhere else.
const OWNER: [char; 2] = ['\u{2}', '\u{3}'];

/// The owner's name as it is indexed.
fn marked(owner: &str) -> String {
    let [open, close] = OWNER;
    format!("{open}{}{close}", owner.to_lowercase())
}

/// What is indexed of a job: its id, name, owner, command and directory, a
/// line each, so that no match spans two of them. The letters at the end let
/// the last ones of the directory begin a trigram as well.
pub(super) fn text(
    id: i64,
    owner: &str,
    name: &str,
    command: &str,
    workdir: Option<&str>,
) -> String {
    let workdir = workdir.unwrap_or_default();
    let fields = format!("{id}\n{name}\n{command}\n{workdir}\n");
    let fields = fields.to_lowercase().replace(OWNER, " ");
    format!("{fields}{}\n\n", marked(owner))
}

/// The same, of a job that is being accepted.
pub(super) fn text_of(id: JobId, job: &NewJob) -> String {
    let workdir = job.workdir.as_deref();
    text(id.get(), &job.owner.name, &job.name, &job.command, workdir)
}

impl Store {
    /// The ids of the jobs that match, newest first, and how many jobs there are
    /// in all.
    ///
    /// Errors: the store is away.
    pub async fn search(&self, query: Query<'_>) -> Result<Matches> {
        let totals = {
            let mut conn = self.db.read().await?;
            counts::totals(&mut conn, query.whose.counted()).await?
        };
        let text = query.text.to_lowercase();
        let ask = Ask {
            whose: query.whose,
            text: &text,
            states: query.states,
            start: query.start,
            limit: query.limit,
        };
        let mut ids = if query.states.is_empty() {
            self.by_text(ask, totals).await?
        } else {
            self.by_text_or_state(ask, totals).await?
        };
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Matches {
            ids: ids.into_iter().filter_map(JobId::new).collect(),
            total: totals.own,
        })
    }

    /// The jobs with these ids, as far as they are whose they must be, newest
    /// first; fewer as with [`Store::list`].
    ///
    /// Errors: the store is away.
    pub async fn found(&self, whose: Whose<'_>, ids: &[JobId]) -> Result<Vec<Job>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut conn = self.db.read().await?;
        rows(&mut conn, whose, ids).await
    }

    async fn by_text(&self, ask: Ask<'_>, totals: Totals) -> Result<Vec<i64>> {
        // No job holds a NUL, and neither database takes a text with one.
        if ask.text.contains('\0') {
            return Ok(Vec::new());
        }
        // No connection is held meanwhile: the copy may need one.
        if let Some(ids) = self.texts.page(ask, totals).await {
            return Ok(ids);
        }
        self.by_index(ask).await
    }

    async fn by_index(&self, ask: Ask<'_>) -> Result<Vec<i64>> {
        let mut conn = self.db.read().await?;
        Ok(match conn {
            Conn::Sqlite(_) => sqlite::by_text(&mut conn, ask).await,
            Conn::Postgres(_) => postgres::by_text(&mut conn, ask).await,
        }?)
    }

    #[cfg(test)]
    pub(super) async fn search_without_copy(&self, query: Query<'_>) -> Result<Vec<i64>> {
        let ask = Ask {
            whose: query.whose,
            text: &query.text.to_lowercase(),
            states: &[],
            start: query.start,
            limit: query.limit,
        };
        self.by_index(ask).await
    }

    async fn by_text_or_state(&self, ask: Ask<'_>, totals: Totals) -> Result<Vec<i64>> {
        // States change, and the copy must ask for those that may have.
        if ask.start >= FAR
            && let Some(ids) = self.texts.page(ask, totals).await
        {
            return Ok(ids);
        }
        // Lists in one order: take the head of each, drop what is in several.
        let head = Ask {
            states: &[],
            start: 0,
            limit: ask.start.saturating_add(ask.limit),
            ..ask
        };
        let mut ids = self.by_text(head, totals).await?;
        let mut conn = self.db.read().await?;
        for state in ask.states {
            ids.extend(by_state(&mut conn, head, *state).await?);
        }
        Ok(ask.stretch(ids))
    }
}

async fn rows(conn: &mut Conn, whose: Whose<'_>, ids: &[JobId]) -> Result<Vec<Job>> {
    const SQL: Spelt = Spelt {
        sqlite: concat!(
            "select ",
            columns!(),
            " from json_each($1) found join jobs on jobs.id = found.value \
              where $2 is null or jobs.owner = $2 order by jobs.id desc"
        ),
        postgres: concat!(
            "select ",
            columns!(),
            " from json_array_elements_text($1::json) found (value) \
              join jobs on jobs.id = found.value::bigint \
              where $2::text is null or jobs.owner = $2 order by jobs.id desc"
        ),
    };
    let sql = SQL.on(conn);
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    let list = serde_json::Value::from(ids).to_string();
    let owner = whose.name();
    on!(conn, |db| {
        gather(sqlx::query_as(sql).bind(list).bind(owner).fetch(db)).await
    })
}

async fn by_state(conn: &mut Conn, ask: Ask<'_>, state: State) -> sqlx::Result<Vec<i64>> {
    const ALL: &str = "select id from jobs where state = $1 order by id desc limit $2";
    const ONE: &str = "select id from jobs where owner = $3 and state = $1 order by id desc \
        limit $2";
    let state = state.word();
    match ask.whose.name() {
        None => on!(conn, |db| {
            sqlx::query_scalar(ALL)
                .bind(state)
                .bind(ask.limit)
                .fetch_all(db)
                .await
        }),
        Some(owner) => on!(conn, |db| {
            let all = sqlx::query_scalar(ONE).bind(state).bind(ask.limit);
            all.bind(owner).fetch_all(db).await
        }),
    }
}
