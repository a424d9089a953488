//! Walking the whole trail, in one view of the database.

use sqlx::{Executor, QueryBuilder};
use warrant_audit::{Broken, Head, Walk, Why};
use warrant_migrations::{Conn, Driven, on};

use crate::read::Filter;
use crate::write::{Ends, EndsRow};
use crate::{Result, Trail};

/// Rows read at a time.
const PAGE: i64 = 1000;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Every row fits.
    Holds {
        /// How many rows there ever were, and the last one's hash.
        head: Head,
        /// The number of the last row that was pruned; 0 where none was.
        pruned: i64,
    },
    /// The first that does not fit.
    Broken(Broken),
}

impl Trail {
    /// See that every row is what was once written, and that none is missing.
    /// With `kept`, a count and hash that somebody kept elsewhere, also that
    /// the trail still contains that row; without it, whoever can rewrite the
    /// whole database can rewrite the chain with it.
    ///
    /// Errors: the database did not answer.
    pub async fn verify(&self, conn: &mut Conn, kept: Option<Head>) -> Result<Verified> {
        let begin = if conn.is_sqlite() {
            "begin"
        } else {
            "begin isolation level repeatable read read only"
        };
        on!(conn, |db| db.execute(begin).await.map(drop))?;
        let walked = self.walk(conn, kept).await;
        on!(conn, |db| db.execute("rollback").await.map(drop))?;
        walked
    }

    async fn walk(&self, conn: &mut Conn, kept: Option<Head>) -> Result<Verified> {
        let row: Option<EndsRow> = on!(conn, |db| self
            .select_ends()
            .build_query_as()
            .fetch_optional(db)
            .await)?;
        let ends = match row.map(Ends::try_from) {
            Some(Ok(ends)) => ends,
            // A head that is none, or is not there.
            Some(Err(_)) | None => {
                return Ok(Verified::Broken(Broken {
                    row: 0,
                    why: Why::Head,
                }));
            }
        };
        let genesis = Head::genesis(self.name);
        if ends.pruned.count == 0 && ends.pruned != genesis {
            return Ok(Verified::Broken(Broken {
                row: 0,
                why: Why::Head,
            }));
        }
        let pruned = self.told(conn, &ends).await?;
        match self.steps(conn, &ends, pruned, kept).await? {
            Ok(head) => Ok(Verified::Holds {
                head,
                pruned: ends.pruned.count,
            }),
            Err(broken) => Ok(Verified::Broken(broken)),
        }
    }

    async fn steps(
        &self,
        conn: &mut Conn,
        ends: &Ends,
        pruned: Option<Head>,
        kept: Option<Head>,
    ) -> Result<Result<Head, Broken>> {
        let mut walk = match Walk::new(ends.pruned, ends.head, pruned, kept) {
            Ok(walk) => walk,
            Err(broken) => return Ok(Err(broken)),
        };
        let all = Filter::default();
        let (mut last, mut limit) = (i64::MIN, PAGE);
        loop {
            let rows = match self.page(conn, &all, last, limit).await {
                Ok(rows) => rows,
                // A value that is none of its column's: read on one by one.
                Err(sqlx::Error::ColumnDecode { .. }) if limit > 1 => {
                    limit = 1;
                    continue;
                }
                Err(sqlx::Error::ColumnDecode { .. }) => {
                    return Ok(Err(Broken {
                        row: walk.count().saturating_add(1),
                        why: Why::Changed,
                    }));
                }
                Err(error) => return Err(error.into()),
            };
            let Some(end) = rows.last() else {
                return Ok(walk.finish());
            };
            last = end.seq;
            for stored in &rows {
                if let Err(broken) = walk.step(stored.seq, &stored.row.fields(), &stored.hash) {
                    return Ok(Err(broken));
                }
            }
        }
    }

    /// What the row that tells of the last pruning says.
    async fn told(&self, conn: &mut Conn, ends: &Ends) -> Result<Option<Head>> {
        let Some(by) = ends.pruned_by else {
            return Ok(None);
        };
        let told: Option<Option<String>> = on!(conn, |db| {
            let mut sql = QueryBuilder::new("select detail from ");
            sql.push(self.rows)
                .push(" where seq = ")
                .push_bind(by)
                .push(" and kind = 'admin' and action = 'audit-prune' and outcome = 'granted'");
            sql.build_query_scalar().fetch_optional(db).await
        })?;
        Ok(told.flatten().and_then(|told| {
            let (count, hash) = told.split_once(' ')?;
            Some(Head {
                count: count.parse().ok()?,
                hash: hash.parse().ok()?,
            })
        }))
    }
}
