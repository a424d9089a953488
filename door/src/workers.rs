use std::thread::available_parallelism;

/// How many threads of a service answer requests: half the cores. A request
/// hardly computes; it waits for a disk, for the other services and for jobs,
/// which want the other cores. With a thread for each core, every step wakes a
/// thread that finds nothing to do.
pub fn workers() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}
