//! Adding rows. Whoever adds holds the head's row until the transaction ends,
//! so that of several writers each continues where the other stopped.

use sqlx::QueryBuilder;
use warrant_audit::Head;
use warrant_migrations::{Driven, Tx, on};

use crate::row::COLUMNS;
use crate::{Result, Row, Sealed, Stored, Trail};

/// The head's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// Behind the last row.
    pub(crate) head: Head,
    /// Behind the last row that was pruned.
    pub(crate) pruned: Head,
    /// The row that tells of it.
    pub(crate) pruned_by: Option<i64>,
}

/// The head's row as it is kept.
pub(crate) type EndsRow = (i64, String, i64, String, Option<i64>);

impl TryFrom<EndsRow> for Ends {
    type Error = crate::Error;

    fn try_from((count, hash, pruned_count, pruned_hash, pruned_by): EndsRow) -> Result<Self> {
        Ok(Self {
            head: Head {
                count,
                hash: hash.parse()?,
            },
            pruned: Head {
                count: pruned_count,
                hash: pruned_hash.parse()?,
            },
            pruned_by,
        })
    }
}

impl Trail {
    /// The head, held until `tx` ends: nobody else adds rows meanwhile.
    ///
    /// Errors: the database did not answer.
    pub async fn lock(&self, tx: &mut Tx) -> Result<Head> {
        Ok(self.lock_ends(tx).await?.head)
    }

    pub(crate) async fn lock_ends(&self, tx: &mut Tx) -> Result<Ends> {
        // On SQLite, a transaction that may write has the write lock.
        let lock = if tx.is_sqlite() { "" } else { " for update" };
        let row: EndsRow = on!(tx, |db| {
            let mut sql = self.select_ends();
            sql.push(lock).build_query_as().fetch_one(db).await
        })?;
        row.try_into()
    }

    pub(crate) fn select_ends<DB: sqlx::Database>(&self) -> QueryBuilder<DB> {
        let mut sql =
            QueryBuilder::new("select count, hash, pruned_count, pruned_hash, pruned_by from ");
        // By its key, as PostgreSQL is told to find whatever is written to.
        sql.push(self.head).push(" where one = 1");
        sql
    }

    /// Add rows behind all others; returns the new head.
    ///
    /// Errors: the database did not answer; then none of them is added once
    /// `tx` is given up.
    pub async fn append(&self, tx: &mut Tx, rows: Vec<Row>) -> Result<Head> {
        let head = self.lock(tx).await?;
        self.append_behind(tx, head, rows).await
    }

    /// As [`Trail::append`], for whoever holds the head already.
    ///
    /// Errors: as [`Trail::append`].
    pub async fn append_behind(&self, tx: &mut Tx, head: Head, rows: Vec<Row>) -> Result<Head> {
        if rows.is_empty() {
            return Ok(head);
        }
        let sealed = Sealed::behind(head, rows);
        self.set_head(tx, sealed.head).await?;
        self.insert(tx, &sealed.rows).await?;
        Ok(sealed.head)
    }

    async fn set_head(&self, tx: &mut Tx, head: Head) -> Result<()> {
        on!(tx, |db| {
            let mut sql = QueryBuilder::new("update ");
            sql.push(self.head)
                .push(" set count = ")
                .push_bind(head.count)
                .push(", hash = ")
                .push_bind(head.hash.to_string())
                .push(" where one = 1");
            sql.build().execute(db).await.map(drop)
        })?;
        Ok(())
    }

    /// All rows in one statement of one text, whatever their number.
    async fn insert(&self, tx: &mut Tx, rows: &[Stored]) -> Result<()> {
        const OF_JSON: &str = "select value ->> 'seq', value ->> 'time_us', value ->> 'kind', \
            value ->> 'action', value ->> 'outcome', value ->> 'reason', value ->> 'subject', \
            value ->> 'uid', value ->> 'source', value ->> 'audience', value ->> 'jti', \
            value ->> 'job_id', value ->> 'job_sha256', value ->> 'detail', value ->> 'hash' \
            from json_each(";
        const OF_RECORDS: &str = "select * from json_to_recordset(";
        const RECORDS: &str = "::json) as (seq bigint, time_us bigint, kind text, action text, \
            outcome text, reason text, subject text, uid bigint, source text, audience text, \
            jti text, job_id bigint, job_sha256 text, detail text, hash text)";
        let rows = serde_json::to_string(rows)?;
        let (before, behind) = if tx.is_sqlite() {
            (OF_JSON, ")")
        } else {
            (OF_RECORDS, RECORDS)
        };
        on!(tx, |db| {
            let mut sql = QueryBuilder::new("insert into ");
            sql.push(self.rows)
                .push(" (")
                .push(COLUMNS)
                .push(") ")
                .push(before)
                .push_bind(rows)
                .push(behind);
            sql.build().execute(db).await.map(drop)
        })?;
        Ok(())
    }
}
