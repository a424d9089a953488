//! The one job model behind every dialect. Pure: no input, no output, no
//! clock but [`Micros::now`].

mod ids;
mod job;
mod request_key;
mod shape;
mod spec;
mod stamp;
mod state;
mod time;

pub use ids::{Attempt, JobId, RunKey};
pub use job::{Details, Ending, Exception, Job, Owner, Usage};
pub use request_key::RequestKey;
pub use shape::{Capacity, Footprint};
pub use spec::{JobSpec, TaskSpec};
pub use stamp::Stamp;
pub use state::{Dialect, State};
pub use time::Micros;
