//! What is on record of one job besides what lists show.

use sqlx::FromRow;
use warrant_migrations::on;

use super::Store;
use super::tasks::read_task;
use crate::error::Result;
use crate::model::{Details, JobId, Usage};

#[derive(Debug, FromRow)]
struct DetailsRow {
    spec: String,
    user_us: Option<i64>,
    system_us: Option<i64>,
    max_rss_bytes: Option<i64>,
    output_bytes: Option<i64>,
    dropped_bytes: Option<i64>,
}

impl DetailsRow {
    /// What the run used; `None` until its end is on record.
    fn usage(&self) -> Option<Usage> {
        Some(Usage {
            user_us: self.user_us?,
            system_us: self.system_us?,
            max_rss_bytes: self.max_rss_bytes?,
            output_bytes: self.output_bytes?,
            dropped_bytes: self.dropped_bytes?,
        })
    }
}

impl Store {
    /// The record of a job and of its last run; `None` where there is no job
    /// with this id.
    ///
    /// Errors: the store is unavailable.
    pub async fn details(&self, id: JobId) -> Result<Option<Details>> {
        const SQL: &str = "select t.spec, r.user_us, r.system_us, r.max_rss_bytes, \
            r.output_bytes, r.dropped_bytes from jobs j \
            join tasks t on t.job_id = j.id and t.position = 0 left join runs r \
            on r.job_id = j.id and r.position = 0 and r.attempt = j.attempt where j.id = $1";
        let mut conn = self.db.read().await?;
        let row: Option<DetailsRow> = on!(&mut conn, |db| sqlx::query_as(SQL)
            .bind(id)
            .fetch_optional(db)
            .await)?;
        row.map(|row| {
            let usage = row.usage();
            let task = read_task(&row.spec)?;
            Ok(Details {
                command: task.argv,
                usage,
            })
        })
        .transpose()
    }
}
