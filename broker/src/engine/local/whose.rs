//! Whose a run is, as the shim says it: what goes with requests, and what is
//! read of the record beside a run's output.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use warrant_wire::Stamp;
use warrant_wire::record::{RECORD_BYTES, Stamped};

use super::Shim;
use crate::engine::OutputOwner;
use crate::model;

/// The stamp in the shim's form. Where the shim is our own, all is of one
/// account.
pub(super) fn wire(shim: &Shim, stamp: model::Stamp) -> Stamp {
    let own = || nix::unistd::geteuid().as_raw();
    Stamp {
        uid: match shim {
            Shim::Own(_) => own(),
            Shim::Root(_) => stamp.uid.unwrap_or_else(own),
        },
        job_sha256: stamp.job_sha256.unwrap_or(Stamp::UNKNOWN_JOB),
    }
}

impl OutputOwner {
    /// Whether the output is that of the job. One of which there is no record,
    /// or that of another job, does not count.
    ///
    /// Errors: the record cannot be read.
    pub fn is_of_job(&self) -> io::Result<bool> {
        let mut content = Vec::with_capacity(RECORD_BYTES);
        match File::open(&self.record) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
            Ok(file) => file.take(RECORD_BYTES as u64).read_to_end(&mut content)?,
        };
        let Ok(stamped) = Stamped::decode(&content) else {
            return Ok(false);
        };
        // Jobs from before hashes were kept have records without a stamp.
        let trusts_plain = self.stamp.job_sha256.is_none();
        let asked = Stamp {
            uid: self.stamp.uid.unwrap_or_default(),
            job_sha256: self.stamp.job_sha256.unwrap_or(Stamp::UNKNOWN_JOB),
        };
        Ok(stamped.counts_for(Some(&asked), trusts_plain))
    }
}
