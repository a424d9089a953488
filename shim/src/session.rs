//! The PAM session of a run, in a process of its own.
//!
//! That process stays root for as long as the run lives, since what opened a
//! session has to close it. It also makes the ranks, as children of the
//! keeper, so that they inherit what modules did to it: limits, login id,
//! keyring, name spaces. Modules run nowhere else.

use std::ffi::CStr;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::{Pid, alarm};
use warrant_wire::Refusal;

use crate::keeper::Ends;
use crate::runner::{self, Crew, Rank};
use crate::sys::pam::{Code, Item, Pam, Step};
use crate::sys::process::{self, fork, is_single_threaded, wait_for};
use crate::{audit, hardening, sys};

/// The name of the service, and its file in the directory of all of them.
const SERVICE: &CStr = c"warrant";
const SERVICES: &str = "/etc/pam.d";
/// Seconds that opening, and closing, a session may take.
const PAM_TIME_S: u32 = 20;
/// How long the keeper waits for what takes no longer than that.
const PATIENCE_MS: u16 = 25_000;
/// Most bytes of the service file that are looked at.
const MOST_SERVICE_BYTES: u64 = 1 << 20;
/// Messages have a rank for each process, and one number more.
const MESSAGE_BYTES: usize = 4 * (warrant_wire::launch::MAX_PROCESSES as usize + 1);

/// An open session, as the keeper sees it.
pub struct Session {
    /// Its process.
    pub pid: Pid,
    socket: OwnedFd,
}

/// Checks that PAM has a service file for jobs, with each kind of module that
/// is asked: `auth` (for credentials), `account` and `session`. For whatever
/// is missing there libpam would take the service `other`, silently.
///
/// Errors: it is missing or incomplete, not root's alone to write, or not a
/// plain file.
pub fn check_service() -> io::Result<()> {
    let wrong = |what| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    let open = |path: &Path| {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        file.metadata().map(|metadata| (file, metadata))
    };
    let dir = Path::new(SERVICES);
    let (_dir, above) = open(dir)?;
    let (file, metadata) = open(&dir.join("warrant"))?;
    let is_roots = |metadata: &Metadata| metadata.uid() == 0 && metadata.mode() & 0o022 == 0;
    if !is_roots(&above) || !is_roots(&metadata) || !metadata.is_file() {
        return wrong("must be a plain file that only root may write");
    }
    let text = io::read_to_string(file.take(MOST_SERVICE_BYTES))?;
    // A line may begin with `-`: the module may be missing.
    let has = |word: &str| {
        text.lines()
            .map(|line| line.trim_start_matches(|c: char| c.is_whitespace() || c == '-'))
            .any(|line| line.starts_with(word))
    };
    let is_complete = ["auth", "account", "session"].into_iter().all(has);
    if !is_complete && !has("@include") {
        return wrong("must have lines for auth, account and session");
    }
    Ok(())
}

impl Session {
    /// Opens a session for the user of `crew`, in a new child.
    ///
    /// Errors: why the account may not run jobs now.
    pub(crate) fn open(crew: &Crew<'_>, ends: &[Ends]) -> Result<Self, Refusal> {
        check_service().map_err(|error| {
            audit(crew, "the service file", error.to_string().as_bytes());
            Refusal::PamSession
        })?;
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|_| Refusal::Unprepared)?;
        let pid =
            fork(|| serve(crew, ends, theirs.as_raw_fd())).map_err(|_| Refusal::Unprepared)?;
        drop(theirs);
        let session = Self { pid, socket: ours };
        let refusal = match session.hear_in(PATIENCE_MS).as_deref() {
            Some([0]) => return Ok(session),
            Some([code]) => Refusal::ALL.iter().find(|refusal| refusal.code() == *code),
            Some(_) | None => None,
        };
        see_out(pid);
        Err(refusal.copied().unwrap_or(Refusal::AccountUnavailable))
    }

    /// Has the ranks made. Answers the processes that were, in order of rank,
    /// and the error that kept the next one from it.
    pub fn start(&self) -> (Vec<Pid>, Option<Errno>) {
        self.tell(b"go");
        let Some(answer) = self.hear_in(PATIENCE_MS) else {
            return (Vec::new(), Some(Errno::EPIPE));
        };
        let mut numbers: Vec<i32> = answer
            .chunks_exact(4)
            .filter_map(|bytes| Some(i32::from_le_bytes(bytes.try_into().ok()?)))
            .collect();
        let errno = numbers.pop().unwrap_or(Errno::EPROTO as i32);
        let errno = (errno != 0).then(|| Errno::from_raw(errno));
        (numbers.into_iter().map(Pid::from_raw).collect(), errno)
    }

    /// Closes the session, and waits until that is done.
    pub fn close(self) {
        let Self { pid, socket } = self;
        // The end of the connection says it.
        drop(socket);
        see_out(pid);
    }

    fn tell(&self, message: &[u8]) {
        let _ = send(self.socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL);
    }

    /// The next message, or `None` if there is none in time.
    fn hear_in(&self, milliseconds: u16) -> Option<Vec<u8>> {
        is_ready(self.socket.as_fd(), milliseconds)
            .then(|| hear(self.socket.as_raw_fd()))
            .flatten()
    }
}

/// Waits for the end of a session's process, and sees to it.
fn see_out(pid: Pid) {
    if let Ok(handle) = process::open(pid)
        && !is_ready(handle.as_fd(), PATIENCE_MS)
    {
        let _ = process::send(handle.as_fd(), libc::SIGKILL);
    }
    let _ = wait_for(pid);
}

/// Whether there is something to read, or comes in time.
fn is_ready(fd: BorrowedFd<'_>, milliseconds: u16) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(milliseconds)).is_ok_and(|count| count > 0)
}

/// The next message, or `None` if the other side is gone.
fn hear(socket: i32) -> Option<Vec<u8>> {
    let mut message = vec![0; MESSAGE_BYTES];
    loop {
        match recv(socket, &mut message, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            Err(_) | Ok(0) => return None,
            Ok(count) => {
                message.truncate(count);
                return Some(message);
            }
        }
    }
}

/// The life of the session's process.
fn serve(crew: &Crew<'_>, ends: &[Ends], socket: i32) -> i32 {
    let say = |message: &[u8]| {
        let _ = send(socket, message, MsgFlags::MSG_NOSIGNAL);
    };
    let (pam, environment, open_files) = match settle_in(crew, ends, socket) {
        Ok(()) => match open(crew) {
            Ok(opened) => opened,
            Err(refusal) => {
                say(&[refusal.code()]);
                return 1;
            }
        },
        Err(_) => {
            say(&[Refusal::Unprepared.code()]);
            return 1;
        }
    };
    alarm::cancel();
    say(&[0]);
    if hear(socket).is_some() {
        let user = crew.user.map(|user| runner::User {
            session: &environment,
            ..user
        });
        let crew = Crew {
            user,
            open_files,
            ..*crew
        };
        say(&start(&crew, ends));
        let _ = sys::fd::close_all_but(kept(&crew, &[socket]));
        let _ = hardening::session();
        // Nothing more is said: this is how the end of the keeper is heard,
        // be it in order or not.
        let _ = hear(socket);
    }
    close(crew, pam);
    0
}

/// Leaves what is the keeper's: files, the record and its lock among them,
/// and signals. From here on a module that hangs ends this process.
fn settle_in(crew: &Crew<'_>, ends: &[Ends], socket: i32) -> io::Result<()> {
    let mut files = vec![socket, crew.stdin.as_raw_fd(), crew.failed.as_raw_fd()];
    for end in ends {
        files.extend([end.stdout.as_raw_fd(), end.stderr.as_raw_fd()]);
    }
    sys::fd::close_all_but(kept(crew, &files))?;
    prctl::set_name(c"warrant-session")?;
    sys::process::clear_environment();
    SigSet::empty().thread_set_mask()?;
    alarm::set(PAM_TIME_S);
    Ok(())
}

fn kept(crew: &Crew<'_>, files: &[i32]) -> Vec<i32> {
    let cgroup = crew.user.and_then(|user| user.cgroup);
    let dirs = cgroup.into_iter().flat_map(|cgroup| cgroup.raw_fds());
    dirs.chain(files.iter().copied()).collect()
}

type Opened = (Pam, Vec<(Vec<u8>, Vec<u8>)>, Option<(u64, u64)>);

fn open(crew: &Crew<'_>) -> Result<Opened, Refusal> {
    let user = crew.user.ok_or(Refusal::Unprepared)?;
    let failed = |what: &str, pam: &Pam, code: Code| {
        let said = [format!("{} ", code.0).as_bytes(), &pam.said()].concat();
        audit(crew, what, &said);
    };
    let mut pam = Pam::start(SERVICE, &user.account.name).map_err(|error| {
        audit(crew, "start", error.to_string().as_bytes());
        Refusal::PamSession
    })?;
    let told = pam
        .tell(Item::Tty, c"warrant")
        .and_then(|()| pam.tell(Item::Ruser, &user.account.name));
    told.map_err(|_| Refusal::PamSession)?;
    pam.take(Step::Account).map_err(|code| {
        failed("account phase", &pam, code);
        refusal_of(code)
    })?;
    let limit_before = getrlimit(Resource::RLIMIT_NOFILE).ok();
    pam.take(Step::Establish).map_err(|code| {
        failed("credentials", &pam, code);
        Refusal::PamSession
    })?;
    if let Err(code) = pam.take(Step::Open) {
        failed("session", &pam, code);
        let _ = pam.take(Step::Delete);
        return Err(Refusal::PamSession);
    }
    // A limit that no module has set is the one that jobs have by default.
    let is_unchanged = getrlimit(Resource::RLIMIT_NOFILE).ok() == limit_before;
    let open_files = crew.open_files.filter(|_| is_unchanged);
    let environment = pam.environment();
    let entries = environment.iter().filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = entry.split_at(at);
        let value = value.strip_prefix(b"=")?;
        may_be_set(name).then(|| (name.to_vec(), value.to_vec()))
    });
    let entries = entries.collect();
    Ok((pam, entries, open_files))
}

/// Source: the numbers of `_pam_types.h`.
fn refusal_of(Code(number): Code) -> Refusal {
    match number {
        // PAM_USER_UNKNOWN.
        10 => Refusal::AccountUnknown,
        // PAM_ACCT_EXPIRED, PAM_NEW_AUTHTOK_REQD, PAM_AUTHTOK_EXPIRED.
        13 | 12 | 27 => Refusal::AccountExpired,
        // PAM_SYSTEM_ERR, PAM_BUF_ERR, PAM_AUTHINFO_UNAVAIL.
        4 | 5 | 9 => Refusal::AccountUnavailable,
        _ => Refusal::PamAccount,
    }
}

/// Whether a module may set a variable: by its shape, and not if it is one of
/// ours or one that changes how programs are loaded.
/// Source: ld.so(8), the variables that secure execution ignores.
fn may_be_set(name: &[u8]) -> bool {
    const DENIED: [&[u8]; 14] = [
        b"GCONV_PATH",
        b"GETCONF_DIR",
        b"GLIBC_TUNABLES",
        b"HOSTALIASES",
        b"LOCALDOMAIN",
        b"LOCPATH",
        b"NIS_PATH",
        b"NLSPATH",
        b"RESOLV_HOST_CONF",
        b"RES_OPTIONS",
        b"TZDIR",
        b"BASH_ENV",
        b"ENV",
        b"IFS",
    ];
    const DENIED_PREFIXES: [&[u8]; 4] = [b"LD_", b"MALLOC_", b"WARRANT_", b"FLUX_"];
    let is_letter = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
    name.first().is_some_and(is_letter)
        && name
            .iter()
            .all(|byte| is_letter(byte) || byte.is_ascii_digit())
        && !DENIED.contains(&name)
        && !DENIED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Makes the ranks. Answers their process ids and an errno(3) number, 0 if
/// all of them were made.
fn start(crew: &Crew<'_>, ends: &[Ends]) -> Vec<u8> {
    let mut answer = Vec::new();
    let result = SigSet::all()
        .thread_block()
        .map_err(io::Error::from)
        .and_then(|()| match is_single_threaded()? {
            true => Ok(()),
            false => Err(Errno::EBUSY.into()),
        })
        .and_then(|()| {
            (0..).zip(ends).try_for_each(|(number, end)| {
                let pid = runner::start(crew, &Rank::new(number, end), true)?;
                answer.extend(pid.as_raw().to_le_bytes());
                Ok(())
            })
        });
    let errno = result.err().map_or(0, |error: io::Error| {
        error.raw_os_error().unwrap_or(Errno::EIO as i32)
    });
    answer.extend(errno.to_le_bytes());
    answer
}

/// Ends what the keeper has not, if it died, and closes the session.
fn close(crew: &Crew<'_>, mut pam: Pam) {
    if let Some(cgroup) = crew.user.and_then(|user| user.cgroup)
        && !cgroup.is_empty()
    {
        cgroup.end();
    }
    let _ = SigSet::empty().thread_set_mask();
    alarm::set(PAM_TIME_S);
    let closed = pam.take(Step::Close);
    let deleted = pam.take(Step::Delete);
    if let Err(Code(number)) = closed.and(deleted) {
        let said = [format!("{number} ").as_bytes(), &pam.said()].concat();
        audit(crew, "closing the session", &said);
    }
}

/// What modules say is for the administrator alone.
fn audit(crew: &Crew<'_>, step: &str, said: &[u8]) {
    let said = said.trim_ascii().escape_ascii().to_string();
    let run = crew.run.to_string();
    audit::line("pam", &[("run", &run), ("step", step), ("said", &said)]);
}
