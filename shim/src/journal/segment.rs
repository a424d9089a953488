//! One file of the journal: a header, then frames, each written and synced
//! before the next one begins.
//!
//! A frame is checked by a digest over its content, its place, and a number
//! that only this file knows, so that neither stale blocks of the disk nor
//! anything that a user wrote into a launch can pass for one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use warrant_wire::Cursor;

const MAGIC: [u8; 4] = *b"WRNJ";
/// The version of the journal's form.
const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 16;
/// Magic, version, number, high-water mark, salt, digest.
pub(super) const HEADER_BYTES: usize = 4 + 4 + 8 + 8 + 16 + DIGEST_BYTES;
/// Length, its complement, digest.
pub(super) const FRAME_BYTES: usize = 4 + 4 + DIGEST_BYTES;
/// More than a segment can have: it is closed long before.
const MAX_BYTES: u64 = 256 << 20;

/// What is known of a segment without its content.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) salt: [u8; 16],
    /// How many bytes of it count.
    pub(super) bytes: u64,
    /// Bytes of launches in it that may still be started.
    pub(super) live_bytes: u64,
    /// When the last warrant in it ends.
    pub(super) last_exp_s: u64,
}

/// The file name of a segment.
fn name(number: u64) -> String {
    format!("{number:016}.journal")
}

/// The number of the segment with this file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    (digits.len() == 16).then(|| digits.parse().ok()).flatten()
}

/// Makes an empty segment, durably.
pub(super) fn create(dir: &File, number: u64, high_water_s: u64) -> io::Result<(File, Segment)> {
    const UNFINISHED: &str = "unfinished";
    let mut salt = [0; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| io::Error::other("no random bytes"))?;
    let mut header = MAGIC.to_vec();
    header.extend([VERSION, 0, 0, 0]);
    header.extend(number.to_le_bytes());
    header.extend(high_water_s.to_le_bytes());
    header.extend(salt);
    header.extend(digest(&[0; 16], 0, &header));
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(openat(
        dir,
        UNFINISHED,
        flags,
        Mode::S_IRUSR | Mode::S_IWUSR,
    )?);
    file.write_all_at(&header, 0)?;
    file.sync_all()?;
    renameat(dir, UNFINISHED, dir, name(number).as_str())?;
    if let Err(error) = dir.sync_all() {
        // The one before goes on, so this must not come after it.
        remove(dir, number)?;
        return Err(error);
    }
    let segment = Segment {
        number,
        salt,
        bytes: HEADER_BYTES as u64,
        live_bytes: 0,
        last_exp_s: 0,
    };
    Ok((file, segment))
}

/// Opens a segment to be read and written.
pub(super) fn open(dir: &File, number: u64) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(dir, name(number).as_str(), flags, Mode::empty())?.into())
}

/// Deletes a segment.
pub(super) fn remove(dir: &File, number: u64) -> io::Result<()> {
    Ok(unlinkat(
        dir,
        name(number).as_str(),
        UnlinkatFlags::NoRemoveDir,
    )?)
}

/// The whole content of a segment.
pub(super) fn content(file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "is too long"));
    }
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// The segment that begins with this header, and its high-water mark.
///
/// Errors: what is wrong with it.
pub(super) fn read_header(content: &[u8], number: u64) -> Result<(Segment, u64), &'static str> {
    const DAMAGED: &str = "is damaged at its beginning";
    let header = content.get(..HEADER_BYTES).ok_or(DAMAGED)?;
    let (fields, found) = header.split_at(HEADER_BYTES - DIGEST_BYTES);
    if digest(&[0; 16], 0, fields) != *found {
        return Err(DAMAGED);
    }
    let mut from = Cursor::new(fields);
    let magic: [u8; 4] = from.array().map_err(|_| DAMAGED)?;
    let version = from.u32().map_err(|_| DAMAGED)?;
    if magic != MAGIC || version != VERSION.into() {
        return Err("was written by another version of the shim");
    }
    if from.u64().map_err(|_| DAMAGED)? != number {
        return Err("has the name of another one");
    }
    let high_water_s = from.u64().map_err(|_| DAMAGED)?;
    let segment = Segment {
        number,
        salt: from.array().map_err(|_| DAMAGED)?,
        bytes: HEADER_BYTES as u64,
        live_bytes: 0,
        last_exp_s: 0,
    };
    Ok((segment, high_water_s))
}

/// A frame with this body, to be written at `at`.
pub(super) fn frame(salt: &[u8; 16], at: u64, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(FRAME_BYTES + body.len());
    frame.extend(length.to_le_bytes());
    frame.extend((!length).to_le_bytes());
    frame.extend(digest(salt, at, body));
    frame.extend(body);
    Ok(frame)
}

/// The body of the frame at `at`; `None` if there is no whole one.
pub(super) fn body<'a>(content: &'a [u8], salt: &[u8; 16], at: usize) -> Option<&'a [u8]> {
    let mut from = Cursor::new(content.get(at..)?);
    let length = from.u32().ok()?;
    if from.u32().ok()? != !length {
        return None;
    }
    let found: [u8; DIGEST_BYTES] = from.array().ok()?;
    let body = from.bytes(usize::try_from(length).ok()?).ok()?;
    (digest(salt, at as u64, body) == found).then_some(body)
}

/// The first bytes of the SHA-256 of a place and what is there.
fn digest(salt: &[u8; 16], at: u64, bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(salt);
    context.update(&at.to_le_bytes());
    context.update(bytes);
    let mut out = [0; DIGEST_BYTES];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}
