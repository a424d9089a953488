//! The audit trail: a row for each thing that was done or refused, in the
//! transaction that does it. One task writes, and remembers the head.

#[cfg(test)]
mod tests;

use warrant_migrations::{Spelt, Tx};
use warrant_trail::{Head, Row, Sealed, Trail};

use super::changes::{Cancel, NewJob};
use super::text::same;
use crate::model::JobId;

/// The columns that the row of a submission fills.
pub(super) const SUBMITTED: Spelt = same(
    "insert into job_audit (seq, time_us, kind, outcome, subject, uid, source, jti, job_id, \
     job_sha256, hash) select v.column1, v.column2, 'submit', 'granted', v.column3, v.column4, \
     v.column5, v.column6, v.column7, v.column8, v.column9 from (",
);
pub(super) const OF_SUBMITTED: Spelt = same(") as v");
/// A new head.
pub(super) const HEAD: Spelt =
    same("update job_audit_head set count = v.column1, hash = v.column2 from (");
/// PostgreSQL selects from this statement in the end, so that it comes before
/// the rows: whoever writes holds the head first.
pub(super) const OF_HEAD: Spelt = Spelt {
    sqlite: ") as v where job_audit_head.one = 1",
    postgres: ") as v where job_audit_head.one = 1 returning job_audit_head.count",
};

/// The head, which nobody else moves until the transaction ends.
pub(super) async fn head(tx: &mut Tx) -> sqlx::Result<Head> {
    Trail::BROKER.lock(tx).await.map_err(beneath)
}

/// Add rows behind `head`, and move it.
pub(super) async fn append(tx: &mut Tx, head: &mut Head, rows: Vec<Row>) -> sqlx::Result<()> {
    let moved = Trail::BROKER.append_behind(tx, *head, rows).await;
    *head = moved.map_err(beneath)?;
    Ok(())
}

/// The rows of accepted jobs. They name what is run by its hash alone.
pub(super) fn submitted(head: Head, jobs: &[(JobId, &NewJob)]) -> Sealed {
    let rows = jobs.iter().map(|(id, job)| Row {
        time_us: job.submitted.get(),
        kind: "submit".into(),
        outcome: "granted".into(),
        subject: Some(job.owner.name.clone()),
        uid: job.owner.uid.map(i64::from),
        source: job.source.clone(),
        jti: job.token.clone(),
        job_id: Some(id.get()),
        job_sha256: Some(job.job_sha256.clone()),
        ..Row::default()
    });
    Sealed::behind(head, rows)
}

/// The row of a wish to cancel that changed something.
pub(super) fn cancelled(cancel: &Cancel) -> Row {
    let (kind, outcome, reason) = if cancel.refused {
        ("submit", "refused", Some("not-admitted"))
    } else {
        ("cancel", "granted", None)
    };
    // What the shim says of a refusal may name what the job would have run.
    let detail = Some(&cancel.note).filter(|note| !cancel.refused && !note.is_empty());
    Row {
        time_us: cancel.at.get(),
        kind: kind.into(),
        outcome: outcome.into(),
        reason: reason.map(str::to_owned),
        detail: detail.cloned(),
        subject: Some(cancel.by.name.clone()),
        uid: cancel.by.uid.map(i64::from),
        source: cancel.source.clone(),
        jti: cancel.token.clone(),
        job_id: Some(cancel.job.get()),
        ..Row::default()
    }
}

fn beneath(error: warrant_trail::Error) -> sqlx::Error {
    match error {
        warrant_trail::Error::Database(warrant_migrations::Error::Sql(error)) => error,
        warrant_trail::Error::Database(_)
        | warrant_trail::Error::Json(_)
        | warrant_trail::Error::Output(_)
        | warrant_trail::Error::Head(_) => sqlx::Error::Encode(error.into()),
    }
}
