//! Tasks without which the process is worth nothing.

use std::future::Future;

/// Run a task that must not end by a defect. A request that panics costs its
/// connection; if this task panics, the process ends at once, and whoever
/// keeps the service running starts it afresh: nothing that was acknowledged
/// is lost by that, while half a process would go on losing time.
pub(crate) fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    let task = tokio::spawn(task);
    tokio::spawn(async move {
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!(task = name, "a vital task failed; the process ends");
            std::process::abort();
        }
    });
}
