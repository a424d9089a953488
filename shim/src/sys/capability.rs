//! What root may do, piece by piece. Source: capabilities(7).

use std::io;

use nix::errno::Errno;
use nix::libc;

use super::done;

/// A set of capabilities: bit `n` is the one with number `n`.
pub type Set = u64;

/// The kernel's header and data of version 3, for this process.
const HEADER: [u32; 2] = [0x2008_0522, 0];

/// The sets of this process: effective (what it can do now), permitted (what
/// it can make effective) and inheritable. Source: capget(2).
pub fn sets() -> io::Result<[Set; 3]> {
    let (mut header, mut data) = (HEADER, [[0_u32; 3]; 2]);
    // SAFETY: version 3 writes two records of three words, the size of
    // `data`; both arrays live through the call.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut data) })?;
    let [[e0, p0, i0], [e1, p1, i1]] = data;
    Ok([(e0, e1), (p0, p1), (i0, i1)].map(|(low, high)| Set::from(low) | Set::from(high) << 32))
}

/// What this process can make effective.
pub fn permitted() -> io::Result<Set> {
    sets().map(|[_, permitted, _]| permitted)
}

/// Gives this process these sets, and nothing to hand on to a program:
/// the inheritable set becomes empty, and the ambient set with it.
/// Source: capset(2), capabilities(7).
///
/// Errors: `EPERM` if one of them would gain what the process lacks.
pub fn set(permitted: Set, effective: Set) -> io::Result<()> {
    let half = |shift: u32| [effective, permitted, 0].map(|set| (set >> shift) as u32);
    let (mut header, data) = (HEADER, [half(0), half(32)]);
    // SAFETY: version 3 reads two records of three words, the size of
    // `data`; both arrays live through the call.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const data) })
}

/// Gives up everything outside `kept` for this process and all that it will
/// execute. Source: capabilities(7), `PR_CAPBSET_DROP`.
pub fn bound(kept: Set) -> io::Result<()> {
    for number in (0..Set::BITS).filter(|number| kept >> number & 1 == 0) {
        // SAFETY: prctl takes integers here and touches no memory.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        // Beyond the last one that this kernel has.
        if Errno::result(result) == Err(Errno::EINVAL) {
            return Ok(());
        }
        Errno::result(result)?;
    }
    Ok(())
}
