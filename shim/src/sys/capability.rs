//! What root may do, piece by piece. Source: capabilities(7).

use std::io;

use nix::errno::Errno;
use nix::libc;

use super::done;

/// A set of capabilities: bit `n` is the one with number `n`.
pub type Set = u64;

/// The sets of this process that capset(2) writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    /// What it can do now.
    pub effective: Set,
    /// What it can make effective.
    pub permitted: Set,
    /// What a program that it executes may keep.
    pub inheritable: Set,
}

/// The kernel's header and data of version 3, for this process.
const HEADER: [u32; 2] = [0x2008_0522, 0];

impl Sets {
    /// Those of this process. Source: capget(2).
    pub fn get() -> io::Result<Self> {
        let (mut header, mut data) = (HEADER, [0_u32; 6]);
        // SAFETY: version 3 writes two records of three words, the size of
        // `data`; both arrays live through the call.
        done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut data) })?;
        let [e0, p0, i0, e1, p1, i1] = data;
        let join = |low, high| Set::from(low) | Set::from(high) << 32;
        Ok(Self {
            effective: join(e0, e1),
            permitted: join(p0, p1),
            inheritable: join(i0, i1),
        })
    }

    /// Gives this process these sets, and nothing to hand on to a program:
    /// the inheritable set becomes empty, and the ambient set with it.
    /// Source: capset(2), capabilities(7).
    ///
    /// Errors: `EPERM` if one of them would gain what the process lacks.
    pub fn set(permitted: Set, effective: Set) -> io::Result<()> {
        let split = |set: Set| [(set & 0xffff_ffff) as u32, (set >> 32) as u32];
        let ([p0, p1], [e0, e1]) = (split(permitted), split(effective));
        let (mut header, data) = (HEADER, [e0, p0, 0, e1, p1, 0]);
        // SAFETY: version 3 reads two records of three words, the size of
        // `data`; both arrays live through the call.
        done(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const data) })
    }
}

/// Gives up everything outside `kept` for this process and all that it will
/// execute. Source: capabilities(7), `PR_CAPBSET_DROP`.
pub fn bound(kept: Set) -> io::Result<()> {
    for number in (0..Set::BITS).filter(|number| kept >> number & 1 == 0) {
        // SAFETY: prctl takes integers here and touches no memory.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        match Errno::result(result) {
            Ok(_) => {}
            // Beyond the last one that this kernel has.
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
