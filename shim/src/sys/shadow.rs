//! The part of the account database that only root reads.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

use nix::errno::Errno;
use nix::libc;

/// Most bytes of one entry.
const MOST_BYTES: usize = 1 << 20;

/// What the shadow database says of an account, less the password. Times are
/// days since the Unix epoch; negative for none. Source: shadow(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// Whether no password can match.
    pub is_locked: bool,
    /// When the password was changed; 0 if it must be changed at once.
    pub changed: i64,
    /// How many days it is good for.
    pub lasts: i64,
    /// When the account expires.
    pub expires: i64,
}

/// Looks an account up; `None` if there is no such entry, or no such database.
///
/// Errors: the database cannot be read, or the entry is larger than 1 MiB.
/// Source: getspnam_r(3).
pub fn look_up(name: &CStr) -> io::Result<Option<Shadow>> {
    // Memory that is never touched costs nothing.
    let mut buffer: Vec<libc::c_char> = vec![0; MOST_BYTES];
    let (name, place, size) = (name.as_ptr(), buffer.as_mut_ptr(), buffer.len());
    let mut entry = MaybeUninit::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are valid for the call, and the size given is that
    // of the buffer.
    let result = unsafe { libc::getspnam_r(name, entry.as_mut_ptr(), place, size, &raw mut found) };
    if result == Errno::ENOENT as i32 || (result == 0 && found.is_null()) {
        return Ok(None);
    }
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    // SAFETY: `found` is set, so the entry is.
    let entry = unsafe { entry.assume_init() };
    // SAFETY: the password is a text within the buffer, which is still there.
    let password = unsafe { CStr::from_ptr(entry.sp_pwdp) };
    Ok(Some(Shadow {
        is_locked: matches!(password.to_bytes().first(), Some(b'!' | b'*')),
        changed: entry.sp_lstchg,
        lasts: entry.sp_max,
        expires: entry.sp_expire,
    }))
}
