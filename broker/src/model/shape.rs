//! How much of a machine a job takes.

/// What a machine has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Processor cores.
    pub cores: u32,
    /// GPUs.
    pub gpus: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}

/// What a job takes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// How many processes it starts.
    pub tasks: u32,
    /// Cores for each process.
    pub cores_per_task: u32,
    /// GPUs for each process.
    pub gpus_per_task: u32,
    /// Memory in all, in bytes; 0 where the job does not say.
    pub memory_bytes: u64,
    /// Whether it wants the machine to itself.
    pub exclusive: bool,
}

/// Why a machine can never run a job, however long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsatisfiable(pub String);

impl Footprint {
    /// Cores in all; saturates.
    pub const fn cores(self) -> u32 {
        self.tasks.saturating_mul(self.cores_per_task)
    }

    /// GPUs in all; saturates.
    pub const fn gpus(self) -> u32 {
        self.tasks.saturating_mul(self.gpus_per_task)
    }

    /// Whether `capacity`, all of it free, could run the job.
    ///
    /// Errors: the words that Flux's scheduler uses, with the numbers.
    pub fn check(self, capacity: Capacity) -> Result<(), Unsatisfiable> {
        if self.gpus() > capacity.gpus {
            return Err(Unsatisfiable(format!(
                "unsatisfiable request: need {} gpu(s), only {} available",
                self.gpus(),
                capacity.gpus
            )));
        }
        if self.memory_bytes > capacity.memory_bytes {
            return Err(Unsatisfiable(format!(
                "unsatisfiable request: need {} bytes of memory, only {} available",
                self.memory_bytes, capacity.memory_bytes
            )));
        }
        if self.cores() > capacity.cores {
            return Err(Unsatisfiable(format!(
                "unsatisfiable request: need {} slot(s) of {} core(s), only {} such slot(s) available (total cores: {})",
                self.tasks,
                self.cores_per_task,
                capacity.cores / self.cores_per_task.max(1),
                capacity.cores
            )));
        }
        Ok(())
    }
}
