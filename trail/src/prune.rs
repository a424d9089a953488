//! Taking away the oldest rows, so that the trail still holds: the head's row
//! keeps the number and hash of the last row taken away, and a row of the
//! trail itself tells who did it.

use sqlx::QueryBuilder;
use warrant_audit::Head;
use warrant_migrations::{Conn, Db, Tx, on};

use crate::{Result, Row, Trail, now_us};

/// Rows taken away in one transaction.
const BATCH: i64 = 5000;

impl Trail {
    /// Take away the rows before the first one that is not older than
    /// `before_us`; returns how many. `by` is who asks for it.
    ///
    /// Errors: the database did not answer; some rows may be gone, and the
    /// trail holds.
    pub async fn prune(&self, db: &Db, before_us: i64, by: &str) -> Result<i64> {
        let Some(target) = self.last_before(&mut db.read().await?, before_us).await? else {
            return Ok(0);
        };
        let mut tx = db.begin().await?;
        let ends = self.lock_ends(&mut tx).await?;
        if target <= ends.pruned.count {
            return Ok(0);
        }
        let target = self.head_at(&mut tx, target).await?;
        let told = Row {
            time_us: now_us(),
            kind: "admin".into(),
            action: Some("audit-prune".into()),
            outcome: "granted".into(),
            source: by.into(),
            detail: Some(format!("{} {}", target.count, target.hash)),
            ..Row::default()
        };
        let by = self
            .append_behind(&mut tx, ends.head, vec![told])
            .await?
            .count;
        let mut pruned = self.cut(&mut tx, ends.pruned, target, by).await?;
        tx.commit().await?;
        while pruned.count < target.count {
            let mut tx = db.begin().await?;
            let ends = self.lock_ends(&mut tx).await?;
            // Another command may have gone further meanwhile.
            pruned = if ends.pruned.count < target.count {
                self.cut(&mut tx, ends.pruned, target, by).await?
            } else {
                ends.pruned
            };
            tx.commit().await?;
        }
        Ok(target.count.saturating_sub(ends.pruned.count))
    }

    /// The number of the last row before the first one that is not older than
    /// `before_us`. Looked for before anything is held, as it may take a while.
    async fn last_before(&self, conn: &mut Conn, before_us: i64) -> Result<Option<i64>> {
        let last: Option<i64> = on!(conn, |db| {
            let mut sql = QueryBuilder::new("select coalesce((select min(seq) - 1 from ");
            sql.push(self.rows)
                .push(" where time_us >= ")
                .push_bind(before_us)
                .push("), (select max(seq) from ")
                .push(self.rows)
                .push("))");
            sql.build_query_scalar().fetch_one(db).await
        })?;
        Ok(last)
    }

    /// Take away a batch of the rows from `from` to `target`.
    async fn cut(&self, tx: &mut Tx, from: Head, target: Head, by: i64) -> Result<Head> {
        let count = target.count.min(from.count.saturating_add(BATCH));
        let to = self.head_at(tx, count).await?;
        on!(&mut *tx, |db| {
            let mut sql = QueryBuilder::new("update ");
            sql.push(self.head)
                .push(" set pruned_count = ")
                .push_bind(to.count)
                .push(", pruned_hash = ")
                .push_bind(to.hash.to_string())
                .push(", pruned_by = ")
                .push_bind(by)
                .push(" where one = 1");
            sql.build().execute(db).await.map(drop)
        })?;
        on!(&mut *tx, |db| {
            let mut sql = QueryBuilder::new("delete from ");
            sql.push(self.rows).push(" where seq <= ").push_bind(count);
            sql.build().execute(db).await.map(drop)
        })?;
        Ok(to)
    }

    /// The head as it was behind row `count`.
    async fn head_at(&self, tx: &mut Tx, count: i64) -> Result<Head> {
        let hash: String = on!(tx, |db| {
            let mut sql = QueryBuilder::new("select hash from ");
            sql.push(self.rows).push(" where seq = ").push_bind(count);
            sql.build_query_scalar().fetch_one(db).await
        })?;
        let hash = hash.parse()?;
        Ok(Head { count, hash })
    }
}
