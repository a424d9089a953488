//! The definitions of tasks.

use warrant_migrations::on;

use super::Store;
use crate::error::{Error, Kind, Result};
use crate::model::{JobId, TaskSpec};

impl Store {
    /// The task of a job; `None` where there is no such job.
    ///
    /// Errors: the store is away, or holds what this program cannot read.
    pub async fn task(&self, job: JobId) -> Result<Option<TaskSpec>> {
        const SQL: &str = "select spec from tasks where job_id = $1 and position = 0";
        let mut conn = self.db.read().await?;
        let spec: Option<String> = on!(&mut conn, |db| sqlx::query_scalar(SQL)
            .bind(job)
            .fetch_optional(db)
            .await)?;
        spec.map(|spec| read_task(&spec)).transpose()
    }
}

/// The task that `spec` is the stored text of.
///
/// Errors: it is no task that this program can read.
pub(super) fn read_task(spec: &str) -> Result<TaskSpec> {
    serde_json::from_str(spec)
        .map_err(|e| Error::caused(Kind::Internal, "The job's definition is unreadable.", e))
}
