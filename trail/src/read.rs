//! Reading rows.

use sqlx::{Database, QueryBuilder};
use warrant_migrations::{Conn, on};

use crate::row::COLUMNS;
use crate::{Result, Stored, Trail};

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this moment on, microseconds since the Unix epoch.
    pub since_us: Option<i64>,
    /// Before this moment.
    pub until_us: Option<i64>,
    /// Of this user.
    pub subject: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
}

impl Trail {
    /// The last `limit` rows that `filter` lets through, the oldest first.
    ///
    /// Errors: the database did not answer.
    pub async fn last(&self, conn: &mut Conn, filter: &Filter, limit: i64) -> Result<Vec<Stored>> {
        let mut rows: Vec<Stored> = on!(conn, |db| {
            let mut sql = self.select(filter);
            sql.push(" order by seq desc limit ").push_bind(limit);
            sql.build_query_as().fetch_all(db).await
        })?;
        rows.reverse();
        Ok(rows)
    }

    /// Up to `limit` rows behind number `after` that `filter` lets through.
    ///
    /// Errors: the database did not answer, or a value has another type than
    /// it should.
    pub async fn page(
        &self,
        conn: &mut Conn,
        filter: &Filter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Stored>, sqlx::Error> {
        on!(conn, |db| {
            let mut sql = self.select(filter);
            sql.push(" and seq > ").push_bind(after);
            sql.push(" order by seq limit ").push_bind(limit);
            sql.build_query_as().fetch_all(db).await
        })
    }

    fn select<DB: Database>(&self, filter: &Filter) -> QueryBuilder<DB>
    where
        i64: sqlx::Type<DB> + for<'q> sqlx::Encode<'q, DB>,
        String: sqlx::Type<DB> + for<'q> sqlx::Encode<'q, DB>,
    {
        let mut sql = QueryBuilder::new("select ");
        sql.push(COLUMNS).push(" from ").push(self.rows);
        sql.push(" where true");
        if let Some(since_us) = filter.since_us {
            // Rows are nearly in the order of time: they are read in their order
            // from the first that is late enough.
            sql.push(" and seq >= (select min(seq) from ")
                .push(self.rows)
                .push(" where time_us >= ")
                .push_bind(since_us)
                .push(") and time_us >= ")
                .push_bind(since_us);
        }
        if let Some(until_us) = filter.until_us {
            sql.push(" and time_us < ").push_bind(until_us);
        }
        let texts = [
            (" and subject = ", &filter.subject),
            (" and kind = ", &filter.kind),
            (" and outcome = ", &filter.outcome),
        ];
        for (column, text) in texts {
            if let Some(text) = text {
                sql.push(column).push_bind(text.clone());
            }
        }
        sql
    }
}
