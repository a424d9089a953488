//! How much memory a piece of code takes at a time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has now, and the most that it had. What another
    /// thread gives back makes the first one negative at times.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

struct Meter;

#[global_allocator]
static METER: Meter = Meter;

fn count(bytes: usize, sign: isize) {
    // A thread that ends has no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + sign * isize::try_from(bytes).unwrap_or(isize::MAX));
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it is; counting does
// not allocate.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Does something and answers the most bytes that it had at a time.
pub(crate) fn peak<T>(what: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    MOST.set(before);
    let result = what();
    (result, usize::try_from(MOST.get() - before).unwrap_or(0))
}

/// Fails if decoding so many bytes took more memory than a small multiple of
/// them. An item of a list costs a vector of 24 bytes for at least four, and
/// twice that, and the half of it, while the list grows.
#[track_caller]
pub(crate) fn assert_modest(peak: usize, input: &[u8]) {
    let most = 24 * input.len() + 4096;
    assert!(peak <= most, "{peak} bytes for {} of input", input.len());
}
