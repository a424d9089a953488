//! The file of a journal: a header, then frames, each written and synced
//! before the next one begins. It has its name once its first frame is whole.
//!
//! A frame is checked by a digest over its content, its place, and a number
//! that only this file knows, so that neither stale blocks of the disk nor
//! anything that a user wrote into a launch can pass for one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};

/// What the file begins with: that it is a journal, and its version.
const MAGIC: [u8; 8] = *b"WRNJ\x02\0\0\0";
const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 16;
/// Magic, salt.
const HEADER_BYTES: u64 = 8 + SALT_BYTES as u64;
/// Length, its complement under the salt, digest.
const HEAD_BYTES: usize = 4 + 4 + DIGEST_BYTES;
/// Most bytes of a frame behind its head.
const MAX_BODY_BYTES: u32 = 64 << 20;

pub(super) struct Frames {
    file: File,
    salt: [u8; SALT_BYTES],
    /// How many bytes of it count.
    pub(super) bytes: u64,
    /// Whether it may hold something behind them.
    is_torn: bool,
}

impl Frames {
    /// Makes a file without frames, in place of another of this name.
    pub(super) fn create(dir: &File, name: &str) -> io::Result<Self> {
        let file = open(dir, name, OFlag::O_CREAT | OFlag::O_TRUNC)?;
        let mut salt = [0; SALT_BYTES];
        let random = SystemRandom::new().fill(&mut salt);
        random.map_err(|_| io::Error::other("no random bytes"))?;
        file.write_all_at(&[&MAGIC[..], &salt].concat(), 0)?;
        Ok(Self::new(file, salt))
    }

    /// Opens a file and has its frames read: `each` is given a body and its
    /// place, and says whether it understood. Answers how many bytes at its
    /// end were given up: of the frame that a crash cut short.
    ///
    /// Errors: it is damaged before that, or of another version.
    pub(super) fn open(
        dir: &File,
        name: &str,
        mut each: impl FnMut(&[u8], u64) -> Option<()>,
    ) -> io::Result<(Self, u64)> {
        let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        const ANOTHER: &str = "the journal was written by another version of the shim";
        let file = open(dir, name, OFlag::empty())?;
        let (mut magic, mut salt) = ([0; MAGIC.len()], [0; SALT_BYTES]);
        let header = file.read_exact_at(&mut magic, 0);
        header.and_then(|()| file.read_exact_at(&mut salt, MAGIC.len() as u64))?;
        if magic != MAGIC {
            return Err(wrong(ANOTHER));
        }
        let length = file.metadata()?.len();
        let mut frames = Self::new(file, salt);
        while let Some(body) = frames.body(frames.bytes, length)? {
            each(&body, frames.bytes + HEAD_BYTES as u64).ok_or_else(|| wrong(ANOTHER))?;
            frames.bytes += (HEAD_BYTES + body.len()) as u64;
        }
        let torn_bytes = length - frames.bytes;
        // A frame is begun when the one before is durable: a good one behind
        // a bad one means damage, not a crash.
        let mut is_damaged = frames.bytes == HEADER_BYTES
            || torn_bytes > (HEAD_BYTES as u64) + u64::from(MAX_BODY_BYTES);
        for at in frames.bytes + 1..length {
            is_damaged = is_damaged || frames.body(at, length)?.is_some();
        }
        if is_damaged {
            return Err(wrong("the journal is damaged"));
        }
        if torn_bytes > 0 {
            frames.cut()?;
        }
        Ok((frames, torn_bytes))
    }

    fn new(file: File, salt: [u8; SALT_BYTES]) -> Self {
        Self {
            file,
            salt,
            bytes: HEADER_BYTES,
            is_torn: false,
        }
    }

    /// Writes a frame, durably. Answers where its body is.
    pub(super) fn append(&mut self, body: &[u8]) -> io::Result<u64> {
        if self.is_torn {
            self.cut()?;
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        if length > MAX_BODY_BYTES {
            return Err(io::Error::other("too much is to be written at once"));
        }
        let lengths = [length, self.complement(length)].map(u32::to_le_bytes);
        let digest = digest(&self.salt, self.bytes, body);
        let frame = [lengths.as_flattened(), &digest, body].concat();
        // Until the disk says otherwise, nobody knows what is there.
        self.is_torn = true;
        self.file.write_all_at(&frame, self.bytes)?;
        self.file.sync_data()?;
        self.is_torn = false;
        let place = self.bytes + HEAD_BYTES as u64;
        self.bytes += frame.len() as u64;
        Ok(place)
    }

    /// So many bytes of what was written before.
    pub(super) fn read(&self, place: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut content = vec![0; bytes];
        self.file.read_exact_at(&mut content, place)?;
        Ok(content)
    }

    /// The body of the frame at `at`, in a file of this length; `None` if
    /// there is no whole one.
    fn body(&self, at: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        let place = at + HEAD_BYTES as u64;
        if place > length {
            return Ok(None);
        }
        let mut lengths = [[0; 4]; 2];
        let mut found = [0; DIGEST_BYTES];
        self.file.read_exact_at(lengths.as_flattened_mut(), at)?;
        let [bytes, complement] = lengths.map(u32::from_le_bytes);
        if complement != self.complement(bytes)
            || bytes > MAX_BODY_BYTES
            || u64::from(bytes) > length - place
        {
            return Ok(None);
        }
        self.file.read_exact_at(&mut found, at + 8)?;
        let body = self.read(place, usize::try_from(bytes).map_err(io::Error::other)?)?;
        Ok((digest(&self.salt, at, &body) == found).then_some(body))
    }

    /// What is behind a length: nobody else can make a place look like a
    /// frame, so that all places can be looked at in little time.
    fn complement(&self, length: u32) -> u32 {
        let [a, b, c, d, ..] = self.salt;
        !length ^ u32::from_le_bytes([a, b, c, d])
    }

    /// Cuts off what does not count.
    fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.sync_data()
    }
}

fn open(dir: &File, name: &str, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

/// The first bytes of the SHA-256 of a place and what is there.
fn digest(salt: &[u8], at: u64, bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(salt);
    context.update(&at.to_le_bytes());
    context.update(bytes);
    let digest = context.finish();
    let first = digest.as_ref().first_chunk();
    first.copied().unwrap_or_default()
}
