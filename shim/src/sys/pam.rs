//! libpam, loaded by the one process that opens a session, and by no other.
//!
//! Source: pam(3) and the pages it names; the numbers are those of Linux-PAM.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;

use nix::errno::Errno;
use nix::libc;

const LIBRARY: &CStr = c"libpam.so.0";
/// Most bytes of text that are kept of what modules say.
const MOST_TEXT: usize = 1024;
/// Most entries of the environment that modules hand over.
const MOST_ENTRIES: usize = 1024;

const PAM_SUCCESS: c_int = 0;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
/// The styles of messages that want no answer.
const PAM_ERROR_MSG: c_int = 3;
const PAM_TEXT_INFO: c_int = 4;

/// Something that modules are told of the session. Source: pam_set_item(3).
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub enum Item {
    /// `PAM_TTY`: where the user is.
    Tty = 3,
    /// `PAM_RUSER`: who asks on the user's behalf.
    Ruser = 8,
}

/// A step of a session: a function of libpam with a handle and flags.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// pam_acct_mgmt(3).
    Account,
    /// pam_setcred(3), `PAM_ESTABLISH_CRED`.
    Establish,
    /// pam_open_session(3).
    Open,
    /// pam_close_session(3).
    Close,
    /// pam_setcred(3), `PAM_DELETE_CRED`.
    Delete,
}

/// A refusal by libpam: its number, see `_pam_types.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub i32);

type Handle = *mut c_void;

/// The functions, by the types that the manual gives them.
struct Library {
    start: unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const Conversation,
        *mut Handle,
    ) -> c_int,
    end: unsafe extern "C" fn(Handle, c_int) -> c_int,
    set_item: unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int,
    getenvlist: unsafe extern "C" fn(Handle) -> *mut *mut c_char,
    acct_mgmt: WithFlags,
    setcred: WithFlags,
    open_session: WithFlags,
    close_session: WithFlags,
}

type WithFlags = unsafe extern "C" fn(Handle, c_int) -> c_int;

#[repr(C)]
struct Conversation {
    converse: extern "C" fn(c_int, *const *const Message, *mut *mut Response, *mut c_void) -> c_int,
    data: *const c_void,
}

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

/// A transaction with libpam. It ends when this is dropped.
pub struct Pam {
    library: Library,
    handle: Handle,
    last: c_int,
    /// What modules said; libpam holds pointers to both.
    said: Box<RefCell<Vec<u8>>>,
    _conversation: Box<Conversation>,
}

impl Pam {
    /// Loads libpam and begins. Source: pam_start(3).
    ///
    /// Errors: there is no libpam; what it says.
    pub fn start(service: &CStr, user: &CStr) -> io::Result<Self> {
        let library = Library::load()?;
        let said = Box::new(RefCell::new(Vec::new()));
        let conversation = Box::new(Conversation {
            converse,
            data: (&raw const *said).cast(),
        });
        let mut handle = std::ptr::null_mut();
        // SAFETY: the texts live through the call; the conversation and its
        // data are boxed and live as long as the handle.
        let code = unsafe {
            (library.start)(
                service.as_ptr(),
                user.as_ptr(),
                &raw const *conversation,
                &raw mut handle,
            )
        };
        if code != PAM_SUCCESS || handle.is_null() {
            return Err(io::Error::other("libpam does not start"));
        }
        Ok(Self {
            library,
            handle,
            last: PAM_SUCCESS,
            said,
            _conversation: conversation,
        })
    }

    /// Tells the modules something; libpam copies it.
    pub fn tell(&mut self, item: Item, text: &CStr) -> Result<(), Code> {
        // SAFETY: the handle is open and the text lives through the call.
        let code =
            unsafe { (self.library.set_item)(self.handle, item as c_int, text.as_ptr().cast()) };
        self.answer(code)
    }

    /// Takes one step.
    pub fn take(&mut self, step: Step) -> Result<(), Code> {
        const PAM_ESTABLISH_CRED: c_int = 2;
        const PAM_DELETE_CRED: c_int = 4;
        let (function, flags) = match step {
            Step::Account => (self.library.acct_mgmt, 0),
            Step::Establish => (self.library.setcred, PAM_ESTABLISH_CRED),
            Step::Open => (self.library.open_session, 0),
            Step::Close => (self.library.close_session, 0),
            Step::Delete => (self.library.setcred, PAM_DELETE_CRED),
        };
        // SAFETY: the handle is open, and these functions take it and flags.
        let code = unsafe { function(self.handle, flags) };
        self.answer(code)
    }

    fn answer(&mut self, code: c_int) -> Result<(), Code> {
        self.last = code;
        match code {
            PAM_SUCCESS => Ok(()),
            code => Err(Code(code)),
        }
    }

    /// What modules want to be in the environment, as `name=value`.
    /// Source: pam_getenvlist(3).
    #[must_use]
    pub fn environment(&self) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        // SAFETY: the handle is open. The answer is null, or a list of texts
        // that ends with null; texts and list are from malloc(3) and ours.
        unsafe {
            let list = (self.library.getenvlist)(self.handle);
            let mut place = list;
            while !place.is_null() && !(*place).is_null() {
                if entries.len() < MOST_ENTRIES {
                    entries.push(CStr::from_ptr(*place).to_bytes().to_vec());
                }
                libc::free((*place).cast());
                place = place.add(1);
            }
            libc::free(list.cast());
        }
        entries
    }

    /// What modules have said since the last time, for the audit.
    #[must_use]
    pub fn said(&self) -> Vec<u8> {
        self.said.take()
    }
}

impl Drop for Pam {
    fn drop(&mut self) {
        // SAFETY: the handle is open and is not used again.
        unsafe { (self.library.end)(self.handle, self.last) };
    }
}

impl Library {
    fn load() -> io::Result<Self> {
        // SAFETY: loading a library runs its constructors; this is the
        // system's own libpam, found as for any program that links it.
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err(Errno::ELIBACC.into());
        }
        // SAFETY: these are the types of these functions in the manual.
        unsafe {
            Ok(Self {
                start: symbol(library, c"pam_start")?,
                end: symbol(library, c"pam_end")?,
                set_item: symbol(library, c"pam_set_item")?,
                getenvlist: symbol(library, c"pam_getenvlist")?,
                acct_mgmt: symbol(library, c"pam_acct_mgmt")?,
                setcred: symbol(library, c"pam_setcred")?,
                open_session: symbol(library, c"pam_open_session")?,
                close_session: symbol(library, c"pam_close_session")?,
            })
        }
    }
}

/// A function of a library that stays loaded.
///
/// # Safety
/// `T` must be the type of the function.
unsafe fn symbol<T>(library: *mut c_void, name: &CStr) -> io::Result<T> {
    const { assert!(size_of::<T>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is loaded and the name is a text.
    let function = unsafe { libc::dlsym(library, name.as_ptr()) };
    if function.is_null() {
        return Err(Errno::ELIBACC.into());
    }
    // SAFETY: a function pointer is as large as this one, which is not null;
    // the caller vouches for its type.
    Ok(unsafe { std::mem::transmute_copy(&function) })
}

/// Hears what modules have to say. Nobody is there to answer a question.
extern "C" fn converse(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Some(count) = usize::try_from(count)
        .ok()
        .filter(|count| (1..=32).contains(count))
    else {
        return PAM_CONV_ERR;
    };
    // SAFETY: libpam passes `count` valid messages, a place for the answer,
    // and the data of `Pam::start`, which is alive while the handle is; the
    // answer is from malloc(3), as pam_conv(3) says.
    unsafe {
        let said = &*data.cast::<RefCell<Vec<u8>>>();
        for number in 0..count {
            let message = &**messages.add(number);
            if !matches!(message.style, PAM_ERROR_MSG | PAM_TEXT_INFO) {
                return PAM_CONV_ERR;
            }
            if !message.text.is_null()
                && let Ok(mut said) = said.try_borrow_mut()
            {
                let room = MOST_TEXT.saturating_sub(said.len());
                let text = CStr::from_ptr(message.text).to_bytes();
                said.extend(text.iter().chain(b" ").take(room));
            }
        }
        *responses = libc::calloc(count, size_of::<Response>()).cast();
        if (*responses).is_null() {
            return PAM_BUF_ERR;
        }
    }
    PAM_SUCCESS
}
