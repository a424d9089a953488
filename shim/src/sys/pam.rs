//! libpam, loaded by the one process that opens a session, and by no other.
//!
//! Source: pam(3) and the pages it names; the numbers are those of Linux-PAM.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, PoisonError};

use nix::libc;

const LIBRARY: &CStr = c"libpam.so.0";
/// Most bytes of text that are kept of what modules say.
const MOST_TEXT: usize = 1024;
/// Most entries of the environment that modules hand over.
const MOST_ENTRIES: usize = 1024;

const PAM_SUCCESS: c_int = 0;
const PAM_SYMBOL_ERR: c_int = 2;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
/// The styles of messages that want no answer.
const PAM_ERROR_MSG: c_int = 3;
const PAM_TEXT_INFO: c_int = 4;
/// Whom modules take the user for.
const PAM_USER: c_int = 2;
/// Where the user is, and who asks on the user's behalf.
const PAM_TTY: c_int = 3;
const PAM_RUSER: c_int = 8;

/// A step of a session: a function of libpam and its flags.
#[derive(Debug, Clone, Copy)]
pub struct Step(&'static CStr, c_int);

/// Judges the account: pam_acct_mgmt(3).
pub const ACCOUNT: Step = Step(c"pam_acct_mgmt", 0);
/// Gives the user's credentials: pam_setcred(3), `PAM_ESTABLISH_CRED`.
pub const ESTABLISH: Step = Step(c"pam_setcred", 2);
/// Opens the session: pam_open_session(3).
pub const OPEN: Step = Step(c"pam_open_session", 0);
/// Closes it: pam_close_session(3).
pub const CLOSE: Step = Step(c"pam_close_session", 0);
/// Takes the credentials back: pam_setcred(3), `PAM_DELETE_CRED`.
pub const DELETE: Step = Step(c"pam_setcred", 4);

/// A refusal by libpam: its number, see `_pam_types.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub i32);

type Handle = *mut c_void;
type Start =
    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut Handle) -> c_int;
type SetItem = unsafe extern "C" fn(Handle, c_int, *const c_char) -> c_int;
type GetItem = unsafe extern "C" fn(Handle, c_int, *mut *const c_char) -> c_int;
type WithFlags = unsafe extern "C" fn(Handle, c_int) -> c_int;
type Environment = unsafe extern "C" fn(Handle) -> *mut *mut c_char;

/// Source: pam_conv(3). Nothing is passed on to the function.
#[repr(C)]
struct Conversation {
    converse: extern "C" fn(c_int, *const *const Message, *mut *mut c_void, *mut c_void) -> c_int,
    data: usize,
}

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

/// The size of an answer to a message: a pointer and a number, both unused.
const RESPONSE_BYTES: usize = 16;

static CONVERSATION: Conversation = Conversation { converse, data: 0 };
/// What modules have said and nobody has asked for yet.
static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A transaction with libpam. It ends when this is dropped.
pub struct Pam {
    library: *mut c_void,
    handle: Handle,
    last: c_int,
}

impl Pam {
    /// Loads libpam and begins, as `user` at `tty`. Source: pam_start(3),
    /// pam_set_item(3).
    ///
    /// Errors: there is no libpam (`PAM_SYMBOL_ERR`); what it says.
    pub fn start(service: &CStr, user: &CStr, tty: &CStr) -> Result<Self, Code> {
        let mut pam = Self {
            // SAFETY: loading a library runs its constructors; this is the
            // system's own libpam, found as for any program that links it.
            library: unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW) },
            handle: std::ptr::null_mut(),
            last: PAM_SUCCESS,
        };
        // SAFETY: the function has this type; the texts live through the call
        // and the conversation for ever.
        let code = unsafe {
            let start = pam.function::<Start>(c"pam_start")?;
            let (service, user) = (service.as_ptr(), user.as_ptr());
            start(service, user, &raw const CONVERSATION, &raw mut pam.handle)
        };
        pam.answer(code)?;
        for (item, text) in [(PAM_TTY, tty), (PAM_RUSER, user)] {
            // SAFETY: the function has this type, the handle is open, and
            // libpam copies the text.
            let code = unsafe {
                pam.function::<SetItem>(c"pam_set_item")?(pam.handle, item, text.as_ptr())
            };
            pam.answer(code)?;
        }
        Ok(pam)
    }

    /// Takes one step.
    pub fn take(&mut self, Step(name, flags): Step) -> Result<(), Code> {
        // SAFETY: the functions of steps have this type; the handle is open.
        let code = unsafe { self.function::<WithFlags>(name)?(self.handle, flags) };
        self.answer(code)
    }

    /// Whether modules still take the user for this one: any of them may
    /// change that. Source: pam_get_item(3).
    #[must_use]
    pub fn is_still(&self, user: &CStr) -> bool {
        let mut name = std::ptr::null();
        // SAFETY: the function has this type; the handle is open, and `name`
        // is a place for a pointer.
        let code = unsafe {
            self.function::<GetItem>(c"pam_get_item")
                .map_or(PAM_SYMBOL_ERR, |get| {
                    get(self.handle, PAM_USER, &raw mut name)
                })
        };
        // SAFETY: this item is a text that libpam keeps.
        code == PAM_SUCCESS && !name.is_null() && unsafe { CStr::from_ptr(name) } == user
    }

    fn answer(&mut self, code: c_int) -> Result<(), Code> {
        self.last = code;
        (code == PAM_SUCCESS).then_some(()).ok_or(Code(code))
    }

    /// What modules want to be in the environment, as `name=value`. It stays
    /// in memory, since this process ends with the session.
    /// Source: pam_getenvlist(3).
    #[must_use]
    pub fn environment(&self) -> Vec<&'static CStr> {
        // SAFETY: the function has this type; the handle is open.
        let list = unsafe {
            self.function::<Environment>(c"pam_getenvlist")
                .map_or(std::ptr::null_mut(), |list| list(self.handle))
        };
        let entry = |at| {
            // SAFETY: the list ends with null, and nothing behind that is read.
            let text = unsafe { *list.add(at) };
            // SAFETY: the texts are from malloc(3), and ours.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
        };
        let most = if list.is_null() { 0 } else { MOST_ENTRIES };
        (0..most).map_while(entry).collect()
    }

    /// A function of libpam, which stays loaded.
    ///
    /// # Safety
    /// `T` must be the type of the function.
    unsafe fn function<T>(&self, name: &CStr) -> Result<T, Code> {
        const { assert!(size_of::<T>() == size_of::<*mut c_void>()) };
        // SAFETY: the name is a text. Where the library is not loaded, this
        // looks among what is, which has no function of libpam.
        let function = unsafe { libc::dlsym(self.library, name.as_ptr()) };
        if function.is_null() {
            return Err(Code(PAM_SYMBOL_ERR));
        }
        // SAFETY: a function pointer is as large as this one, which is not
        // null; the caller vouches for its type.
        Ok(unsafe { std::mem::transmute_copy(&function) })
    }
}

impl Drop for Pam {
    fn drop(&mut self) {
        // SAFETY: the function has this type; the handle is open, or null,
        // which libpam refuses, and is not used again.
        unsafe {
            if let Ok(end) = self.function::<WithFlags>(c"pam_end") {
                end(self.handle, self.last);
            }
        }
    }
}

/// What modules have said since the last time, for the audit.
#[must_use]
pub fn said() -> Vec<u8> {
    std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Hears what modules have to say. Nobody is there to answer a question.
extern "C" fn converse(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut c_void,
    _: *mut c_void,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    if !(1..=32).contains(&count) {
        return PAM_CONV_ERR;
    }
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: libpam passes `count` valid messages and a place for the answer,
    // which is from malloc(3), as pam_conv(3) says.
    unsafe {
        for number in 0..count {
            let message = &**messages.add(number);
            if !matches!(message.style, PAM_ERROR_MSG | PAM_TEXT_INFO) {
                return PAM_CONV_ERR;
            }
            if !message.text.is_null() {
                let room = MOST_TEXT.saturating_sub(said.len());
                let text = CStr::from_ptr(message.text).to_bytes();
                said.extend(text.iter().chain(b" ").take(room));
            }
        }
        *responses = libc::calloc(count, RESPONSE_BYTES);
        if (*responses).is_null() {
            return PAM_BUF_ERR;
        }
    }
    PAM_SUCCESS
}
