//! One question, in a process of its own.

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::alarm;
use warrant_pam::{FRAME_BYTES, Question, Verdict};

use crate::{note, sys};

/// The longest that PAM may take, in seconds.
const LONGEST_S: u32 = 30;
/// How long the question may take to come.
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// Where the services' rules are.
const SERVICES: &str = "/etc/pam.d";

/// Read a question and answer it; answers the exit code. What is not answered
/// counts as unavailable. The password is wiped by the end of the process.
pub(crate) fn answer(mut connection: UnixStream) -> i32 {
    alarm::set(LONGEST_S);
    if let Err(errno) = sys::leave_everything_but(connection.as_raw_fd()) {
        note(&format!("close_range: {errno}"));
        return 1;
    }
    let mut frame = [0; FRAME_BYTES];
    let read = connection
        .set_read_timeout(Some(READ_PATIENCE))
        .and_then(|()| connection.read_exact(&mut frame));
    if let Err(error) = read {
        note(&format!("no question came: {error}"));
        return 1;
    }
    let verdict = match Question::decode(&frame) {
        Ok(question) => judge(question),
        Err(malformed) => {
            note(&malformed.to_string());
            Verdict::Unavailable
        }
    };
    let answered = connection.write_all(&[verdict.code()]);
    sys::end_children();
    i32::from(answered.is_err())
}

fn judge(question: Question<'_>) -> Verdict {
    let service = question.service();
    if let Err(why) = check_service(&Path::new(SERVICES).join(service)) {
        note(&format!("{SERVICES}/{service} {why}"));
        return Verdict::Unavailable;
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| "a zero byte".to_owned());
    let asked = text(service.as_bytes()).and_then(|service| {
        let name = text(question.name().as_bytes())?;
        let password = text(question.password())?;
        sys::pam::check(&service, &name, &password, &text(question.code())?)
    });
    match asked {
        Ok(verdict) => verdict,
        Err(why) => {
            note(&why);
            Verdict::Unavailable
        }
    }
}

/// Without its file, libpam would follow the rules of `other`; a file that
/// others can write is theirs.
fn check_service(path: &Path) -> Result<(), &'static str> {
    let found = fs::metadata(path).map_err(|_| "is not there")?;
    if !found.is_file() {
        return Err("is not a file");
    }
    let dir = fs::metadata(SERVICES).map_err(|_| "is not there")?;
    let private = |found: &fs::Metadata| found.uid() == 0 && found.mode() & 0o022 == 0;
    if !private(&found) || !private(&dir) {
        return Err("does not belong to root, or is writable by others");
    }
    Ok(())
}
