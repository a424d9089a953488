//! System calls and library calls that have no safe wrapper elsewhere. This is
//! the only place with unsafe code.
#![allow(unsafe_code, reason = "each block says why it is sound")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::ForkResult;

/// Forgets every variable of the environment. The process must have one
/// thread, as this program always does. Source: clearenv(3).
pub(crate) fn clear_environment() -> nix::Result<()> {
    // SAFETY: no other thread reads or writes the environment.
    match unsafe { libc::clearenv() } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

/// A copy, closed on exec, of a descriptor that this process was started with.
///
/// Errors: `EBADF` if there is no such descriptor.
pub(crate) fn take_passed(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the borrow lasts for one call, which answers EBADF if the
    // number is not an open descriptor.
    let passed = unsafe { BorrowedFd::borrow_raw(number) };
    let copy = fcntl(passed, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Forks a child that runs `child` and ends with the code it answers.
///
/// Errors: those of fork(2).
pub(crate) fn fork(child: impl FnOnce() -> i32) -> nix::Result<()> {
    // SAFETY: this program has one thread, so that no lock can be held that
    // the child needs.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            let guard = AbortOnUnwind;
            let code = child();
            std::mem::forget(guard);
            // SAFETY: _exit ends the process and has no preconditions.
            unsafe { libc::_exit(code) }
        }
    }
}

/// A child must never unwind into its parent's code.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// In a child: closes every descriptor from 3 on but `kept`, starts a session
/// of its own, and lets a broken pipe end it, as programs that PAM may start
/// expect. Nothing that owned another descriptor may be used or dropped
/// afterwards. Source: close_range(2).
pub(crate) fn leave_everything_but(kept: RawFd) -> nix::Result<()> {
    let below = kept.saturating_sub(1);
    if below >= 3 {
        close_range(3, below)?;
    }
    close_range(kept.saturating_add(1).max(3), RawFd::MAX)?;
    nix::unistd::setsid()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    // SAFETY: the default action runs no code of this process.
    unsafe {
        nix::sys::signal::signal(
            nix::sys::signal::SIGPIPE,
            nix::sys::signal::SigHandler::SigDfl,
        )
    }?;
    Ok(())
}

/// Kills every child of this process, which is a reaper of orphans, and what
/// falls to it from them, until none is left: what modules have started ends
/// with the question. The alarm ends this process if that takes too long.
/// Source: `/proc/<pid>/task/<tid>/children`, proc(5).
pub(crate) fn end_children() {
    let own = nix::unistd::getpid();
    let list = format!("/proc/{own}/task/{own}/children");
    loop {
        let children = std::fs::read_to_string(&list).unwrap_or_default();
        for child in children.split_ascii_whitespace().flat_map(str::parse) {
            // It is a child that was not waited for, so the number is its own.
            let child = nix::unistd::Pid::from_raw(child);
            let _ = nix::sys::signal::kill(child, nix::sys::signal::SIGKILL);
        }
        match nix::sys::wait::waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn close_range(first: RawFd, last: RawFd) -> nix::Result<()> {
    // SAFETY: close_range takes three integers and touches no memory. That
    // nothing uses the closed descriptors is the caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(result).map(drop)
}

/// libpam, loaded when it is needed. Source: pam(3) of Linux-PAM; the numbers
/// are those of its `_pam_types.h`.
pub(crate) mod pam {
    use std::cell::Cell;
    use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
    use std::ptr;

    use nix::libc;
    use warrant_pam::Verdict;

    use crate::note;

    const SUCCESS: c_int = 0;
    const PERM_DENIED: c_int = 6;
    const AUTH_ERR: c_int = 7;
    const CRED_INSUFFICIENT: c_int = 8;
    const USER_UNKNOWN: c_int = 10;
    const MAXTRIES: c_int = 11;
    const NEW_AUTHTOK_REQD: c_int = 12;
    const ACCT_EXPIRED: c_int = 13;
    const CRED_EXPIRED: c_int = 16;
    const CONV_ERR: c_int = 19;
    const BUF_ERR: c_int = 5;
    const AUTHTOK_EXPIRED: c_int = 27;

    const SILENT_NO_NULL: c_int = 0x8000 | 0x1;
    const ITEM_USER: c_int = 2;
    const ITEM_FAIL_DELAY: c_int = 10;
    const PROMPT_ECHO_OFF: c_int = 1;
    const PROMPT_ECHO_ON: c_int = 2;
    const ERROR_MSG: c_int = 3;
    const TEXT_INFO: c_int = 4;
    /// Source: `PAM_MAX_NUM_MSG`.
    const MAX_MESSAGES: usize = 32;

    #[repr(C)]
    struct Message {
        style: c_int,
        text: *const c_char,
    }

    #[repr(C)]
    struct Response {
        text: *mut c_char,
        code: c_int,
    }

    #[repr(C)]
    struct Conversation {
        converse:
            extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
        answers: *mut c_void,
    }

    /// What the questions of modules are answered with, and what became of it.
    struct Answers<'a> {
        password: &'a CStr,
        code: &'a CStr,
        /// Whether the password was given to a module.
        password_given: Cell<bool>,
        /// Whether a module asked for more, and there was nothing to answer.
        more_asked: Cell<bool>,
    }

    impl Answers<'_> {
        /// The answer to a question: the password to the first secret one and
        /// to those that ask for one in so many words, the code to others.
        /// `None` where there is none.
        fn to(&self, style: c_int, question: &CStr) -> Option<&CStr> {
            let question = question.to_bytes().to_ascii_lowercase();
            let says = |word: &[u8]| question.windows(word.len()).any(|part| part == word);
            let is_secret = style == PROMPT_ECHO_OFF;
            let first = !self.password_given.get();
            if is_secret && (first || says(b"password") || says(b"passphrase")) {
                self.password_given.set(true);
                return Some(self.password);
            }
            if self.code.is_empty() {
                self.more_asked.set(true);
                return None;
            }
            Some(self.code)
        }
    }

    type Handle = *mut c_void;
    type Start = unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const Conversation,
        *mut Handle,
    ) -> c_int;
    type Step = unsafe extern "C" fn(Handle, c_int) -> c_int;
    type SetItem = unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int;
    type GetItem = unsafe extern "C" fn(Handle, c_int, *mut *const c_void) -> c_int;

    struct Library {
        start: Start,
        set_item: SetItem,
        get_item: GetItem,
        authenticate: Step,
        acct_mgmt: Step,
        end: Step,
    }

    impl Library {
        /// Errors: there is no libpam, or it lacks a function.
        fn load() -> Result<Self, String> {
            // SAFETY: the name is a C string; libpam's initialisers do nothing
            // that could break this process. It is never unloaded.
            let library = unsafe {
                libc::dlopen(c"libpam.so.0".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL)
            };
            if library.is_null() {
                return Err("libpam.so.0 cannot be loaded".into());
            }
            let find = |name: &CStr| {
                // SAFETY: the handle is open and the name is a C string.
                let found = unsafe { libc::dlsym(library, name.as_ptr()) };
                if found.is_null() {
                    return Err(format!("libpam.so.0 has no {}", name.to_string_lossy()));
                }
                Ok(found)
            };
            // SAFETY: these are functions of these types in every Linux-PAM
            // of the interface version 0. Source: pam_start(3) and so on.
            unsafe {
                Ok(Self {
                    start: std::mem::transmute::<*mut c_void, Start>(find(c"pam_start")?),
                    set_item: std::mem::transmute::<*mut c_void, SetItem>(find(c"pam_set_item")?),
                    get_item: std::mem::transmute::<*mut c_void, GetItem>(find(c"pam_get_item")?),
                    authenticate: std::mem::transmute::<*mut c_void, Step>(find(
                        c"pam_authenticate",
                    )?),
                    acct_mgmt: std::mem::transmute::<*mut c_void, Step>(find(c"pam_acct_mgmt")?),
                    end: std::mem::transmute::<*mut c_void, Step>(find(c"pam_end")?),
                })
            }
        }
    }

    /// Whether `password`, with `code` where more is asked for, is that of the
    /// account `name`, which may be used now, by the rules of `service`.
    ///
    /// Errors: libpam cannot be loaded or started.
    pub(crate) fn check(
        service: &CStr,
        name: &CStr,
        password: &CStr,
        code: &CStr,
    ) -> Result<Verdict, String> {
        let pam = Library::load()?;
        let answers = Answers {
            password,
            code,
            password_given: Cell::new(false),
            more_asked: Cell::new(false),
        };
        let conversation = Conversation {
            converse,
            answers: (&raw const answers).cast_mut().cast(),
        };
        let mut handle: Handle = ptr::null_mut();
        // SAFETY: the texts and the conversation outlive the handle, which is
        // ended below; `handle` is a valid place for a pointer.
        let status = unsafe {
            (pam.start)(
                service.as_ptr(),
                name.as_ptr(),
                &raw const conversation,
                &raw mut handle,
            )
        };
        if status != SUCCESS || handle.is_null() {
            return Err(format!("pam_start: error {status}"));
        }
        let no_delay: extern "C" fn(c_int, c_uint, *mut c_void) = no_delay;
        // SAFETY: the handle is open; the item is a function of this type.
        // If it is not taken, failures take longer, and nothing else.
        unsafe { (pam.set_item)(handle, ITEM_FAIL_DELAY, no_delay as *const c_void) };
        // SAFETY: the handle is open.
        let proven = unsafe { (pam.authenticate)(handle, SILENT_NO_NULL) };
        let mut status = proven;
        if status == SUCCESS {
            // SAFETY: the handle is open.
            status = unsafe { (pam.acct_mgmt)(handle, SILENT_NO_NULL) };
        }
        let verdict = if proven != SUCCESS && answers.more_asked.get() {
            Verdict::CodeNeeded
        } else if proven == SUCCESS && !is_still(&pam, handle, name) {
            status = USER_UNKNOWN;
            Verdict::Denied
        } else if proven != SUCCESS {
            of_proof(proven)
        } else {
            of_account(status)
        };
        // SAFETY: the handle is open, and not used afterwards.
        unsafe { (pam.end)(handle, status) };
        Ok(verdict)
    }

    /// Whether the user is the one who was asked about: a module may have
    /// taken the name for another's.
    fn is_still(pam: &Library, handle: Handle, name: &CStr) -> bool {
        let mut user: *const c_void = ptr::null();
        // SAFETY: the handle is open; `user` is a valid place for a pointer.
        let status = unsafe { (pam.get_item)(handle, ITEM_USER, &raw mut user) };
        if status != SUCCESS || user.is_null() {
            return false;
        }
        // SAFETY: this item is a C string that lives as long as the handle.
        (unsafe { CStr::from_ptr(user.cast()) }) == name
    }

    /// What a failure to prove who the user is means.
    fn of_proof(status: c_int) -> Verdict {
        match status {
            // A module that asked for something got no answer.
            CONV_ERR => Verdict::Denied,
            PERM_DENIED | AUTH_ERR | CRED_INSUFFICIENT | USER_UNKNOWN | MAXTRIES
            | NEW_AUTHTOK_REQD | ACCT_EXPIRED | CRED_EXPIRED | AUTHTOK_EXPIRED => Verdict::Denied,
            other => unavailable(other),
        }
    }

    /// What the account phase means, once the password was right.
    fn of_account(status: c_int) -> Verdict {
        match status {
            SUCCESS => Verdict::Accepted,
            NEW_AUTHTOK_REQD | AUTHTOK_EXPIRED | CRED_EXPIRED => Verdict::PasswordExpired,
            ACCT_EXPIRED => Verdict::AccountExpired,
            PERM_DENIED | AUTH_ERR | CRED_INSUFFICIENT | MAXTRIES | CONV_ERR => Verdict::NotNow,
            USER_UNKNOWN => Verdict::Denied,
            other => unavailable(other),
        }
    }

    fn unavailable(status: c_int) -> Verdict {
        note(&format!("PAM cannot tell: error {status}"));
        Verdict::Unavailable
    }

    /// The auth service lets failures wait; here they would hold a place.
    extern "C" fn no_delay(_: c_int, _: c_uint, _: *mut c_void) {}

    /// Answers the questions of modules as [`Answers`] says; what has no answer
    /// ends the conversation. What PAM says goes to standard error. Source:
    /// pam_conv(3).
    extern "C" fn converse(
        count: c_int,
        messages: *mut *const Message,
        responses: *mut *mut Response,
        answers: *mut c_void,
    ) -> c_int {
        let count = usize::try_from(count).unwrap_or_default();
        if !(1..=MAX_MESSAGES).contains(&count) {
            return CONV_ERR;
        }
        // SAFETY: Linux-PAM passes an array of `count` pointers.
        let messages = unsafe { std::slice::from_raw_parts(messages, count) };
        // SAFETY: each points to a message while this function runs.
        let messages = messages.iter().map(|message| unsafe { &**message });
        // SAFETY: `answers` is what `check` made, which outlives the handle.
        let answers = unsafe { &*answers.cast_const().cast::<Answers<'_>>() };
        let mut given = Vec::with_capacity(count);
        for message in messages {
            let text = match message.text.is_null() {
                true => c"",
                // SAFETY: the text of a message is a C string.
                false => unsafe { CStr::from_ptr(message.text) },
            };
            given.push(match message.style {
                PROMPT_ECHO_OFF | PROMPT_ECHO_ON => match answers.to(message.style, text) {
                    Some(answer) => Some(answer),
                    None => return CONV_ERR,
                },
                ERROR_MSG | TEXT_INFO => {
                    note(&format!("PAM says {text:?}"));
                    None
                }
                _ => return CONV_ERR,
            });
        }
        // SAFETY: calloc has no preconditions.
        let array: *mut Response = unsafe { libc::calloc(count, size_of::<Response>()) }.cast();
        if array.is_null() {
            return BUF_ERR;
        }
        for (at, answer) in given.into_iter().enumerate() {
            if let Some(answer) = answer {
                // SAFETY: `at` is below the length of the array, which is all
                // zeros: no text, code 0. PAM frees both.
                unsafe { (*array.add(at)).text = libc::strdup(answer.as_ptr()) };
            }
        }
        // SAFETY: `responses` is a valid place for a pointer.
        unsafe { *responses = array };
        SUCCESS
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn success_alone_is_accepted() {
            for status in -1..64 {
                let accepted = of_account(status) == Verdict::Accepted;
                assert_eq!(accepted, status == SUCCESS, "{status}");
                assert_ne!(of_proof(status), Verdict::Accepted, "{status}");
            }
            assert_eq!(of_proof(AUTH_ERR), Verdict::Denied);
            assert_eq!(of_account(AUTH_ERR), Verdict::NotNow);
            assert_eq!(of_account(NEW_AUTHTOK_REQD), Verdict::PasswordExpired);
            for unavailable in [of_proof(9), of_account(9), of_proof(SUCCESS)] {
                assert_eq!(unavailable, Verdict::Unavailable);
            }
        }

        #[test]
        fn the_password_answers_the_first_secret_question_and_those_for_passwords() {
            let answers = |code| Answers {
                password: c"horse",
                code,
                password_given: Cell::new(false),
                more_asked: Cell::new(false),
            };
            let with = answers(c"123");
            assert_eq!(with.to(PROMPT_ECHO_OFF, c"PIN: "), Some(c"horse"));
            assert_eq!(with.to(PROMPT_ECHO_OFF, c"LDAP Password: "), Some(c"horse"));
            assert_eq!(with.to(PROMPT_ECHO_OFF, c"Code: "), Some(c"123"));
            assert_eq!(with.to(PROMPT_ECHO_ON, c"Code: "), Some(c"123"));
            let without = answers(c"");
            assert_eq!(without.to(PROMPT_ECHO_ON, c"Password: "), None);
            assert!(without.more_asked.get());
            assert_eq!(without.to(PROMPT_ECHO_OFF, c"Password: "), Some(c"horse"));
            assert_eq!(without.to(PROMPT_ECHO_OFF, c"Verification code: "), None);
        }
    }
}
