//! The file `store` of a spool: which job store the spool belongs to, and the
//! highest job number that was used in it. It is locked for as long as a
//! monitor serves, so that no two serve one spool.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use warrant_wire::StoreId;
use warrant_wire::run::JOBS_PER_BUCKET;

use crate::spool::{Spool, try_lock};

const NAME: &str = "store";
/// The first line; the number is the version of the form.
const HEADING: &str = "warrant-spool 1";
/// More than a whole file has.
const MOST_BYTES: u64 = 256;
/// The highest number is written in steps of so many, the size of the blocks
/// in which job stores take numbers: a store that was not restored is always
/// at the end of such a step.
const STEP: u64 = 64;
/// Most that a job's number may be beyond all that were used. Without a bound,
/// one request of a broker that was taken over would use up all numbers.
const MOST_AHEAD: u64 = 1 << 34;
/// Job numbers have 63 bits.
const LAST_JOB: u64 = i64::MAX.cast_unsigned();
/// A keeper that was just forked holds the lock until it has closed its files.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Whose a spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's yet, and it held no runs when that was first looked at.
    New,
    /// Nobody's any more: it was released.
    Nobody,
    /// It holds runs of a version that did not write down whose they are.
    Unknown,
    /// This store's.
    Store(StoreId),
}

/// The open, locked file.
pub struct StoreFile {
    file: File,
    content: Content,
    /// The highest number among the files of runs.
    found: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    owner: Owner,
    highest: u64,
    /// Records without a stamp count for jobs up to this number.
    plain: u64,
}

impl StoreFile {
    /// Opens and locks the file of a spool; makes it where there is none.
    ///
    /// Errors: another monitor serves the spool; it cannot be read or written;
    /// `InvalidData` if the file is damaged.
    pub fn open(spool: &Spool) -> io::Result<Self> {
        let flags = OFlag::O_CREAT | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file: File = openat(spool.dir(), NAME, flags, spool.file_mode())?.into();
        lock(&file)?;
        let mut text = String::new();
        (&file).take(MOST_BYTES).read_to_string(&mut text)?;
        let found = highest_job(spool)?;
        let content = match text.as_str() {
            "" => Content {
                owner: if found == 0 {
                    Owner::New
                } else {
                    Owner::Unknown
                },
                highest: found,
                plain: found,
            },
            text => Content::read(text).ok_or_else(|| {
                let damaged = "the file store is damaged: put it back from a backup, or remove it \
                     to have the spool looked at as one of an earlier version";
                io::Error::new(io::ErrorKind::InvalidData, damaged)
            })?,
        };
        let mut store = Self {
            file,
            content,
            found,
        };
        if text.is_empty() {
            // So that it has its room on the disk; if it has none now, it may later.
            let _ = store.write(content);
        }
        Ok(store)
    }

    /// Whose the spool is.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.content.owner
    }

    /// The highest job number that was used in the spool, or may have been.
    #[must_use]
    pub fn highest_job(&self) -> u64 {
        self.content.highest.max(self.found)
    }

    /// Whether a record without a stamp counts for a job with this number:
    /// it is from before there were stamps.
    #[must_use]
    pub fn trusts_plain(&self, job: u64) -> bool {
        job <= self.content.plain
    }

    /// Whether a job may have this number, where `highest` is the highest so far.
    #[must_use]
    pub fn is_in_reach(job: u64, highest: u64) -> bool {
        job <= LAST_JOB && job <= highest.saturating_add(MOST_AHEAD)
    }

    /// Notes, durably, whose the spool is.
    ///
    /// Errors: what the disk says.
    pub fn give_to(&mut self, owner: Owner, spool: &Spool) -> io::Result<()> {
        let highest = self.highest_job();
        self.write(Content {
            owner,
            highest,
            ..self.content
        })?;
        self.file.sync_all()?;
        nix::unistd::fsync(spool.dir().as_fd())?;
        Ok(())
    }

    /// Notes that a job's number is used. This is as durable as the files of
    /// the job's runs are.
    ///
    /// Errors: what the disk says.
    pub fn use_job(&mut self, job: u64) -> io::Result<()> {
        if job <= self.content.highest {
            return Ok(());
        }
        let highest = job.next_multiple_of(STEP).min(LAST_JOB);
        self.write(Content {
            highest,
            ..self.content
        })
    }

    fn write(&mut self, content: Content) -> io::Result<()> {
        self.file.write_all_at(content.text().as_bytes(), 0)?;
        self.content = content;
        Ok(())
    }
}

impl Content {
    /// Always of one length, so that it is written over in place.
    fn text(&self) -> String {
        let owner = match self.owner {
            Owner::New => format!("{:32}", "new"),
            Owner::Nobody => format!("{:32}", "nobody"),
            Owner::Unknown => format!("{:32}", "unknown"),
            Owner::Store(store) => store.to_string(),
        };
        format!(
            "{HEADING}\nstore {owner}\nhighest-job {:020}\nplain-to-job {:020}\n",
            self.highest, self.plain
        )
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut value = |name| lines.next()?.strip_prefix(name);
        value(HEADING).filter(|rest| rest.is_empty())?;
        let content = Self {
            owner: match value("store ")?.trim_end() {
                "new" => Owner::New,
                "nobody" => Owner::Nobody,
                "unknown" => Owner::Unknown,
                store => Owner::Store(StoreId::parse(store)?),
            },
            highest: value("highest-job ")?.parse().ok()?,
            plain: value("plain-to-job ")?.parse().ok()?,
        };
        (content.text() == text).then_some(content)
    }
}

/// Takes the lock that keeps a second monitor out.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        if try_lock(file)? {
            return Ok(());
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(io::Error::other("another monitor uses this directory"))
}

/// The highest job number among the files of a spool; 0 if there are none. Of
/// a directory for jobs that is empty, all numbers count as used.
fn highest_job(spool: &Spool) -> io::Result<u64> {
    let bucket_of = |name: &str| name.parse().ok().filter(|it: &u64| it.to_string() == name);
    let buckets = numbers(spool, ".", bucket_of)?;
    let Some(last) = buckets.into_iter().max() else {
        return Ok(0);
    };
    let job_of = |name: &str| name.split_once('.')?.0.parse().ok();
    let jobs = numbers(spool, &last.to_string(), job_of)?;
    let in_bucket = |job: &u64| job.checked_div(JOBS_PER_BUCKET) == Some(last);
    let highest = jobs.into_iter().filter(in_bucket).max();
    let all = || {
        let next = last.saturating_add(1).saturating_mul(JOBS_PER_BUCKET);
        next.saturating_sub(1)
    };
    Ok(highest.unwrap_or_else(all).min(LAST_JOB))
}

/// The numbers that the names in a directory of the spool stand for.
fn numbers(
    spool: &Spool,
    path: &str,
    number: impl Fn(&str) -> Option<u64>,
) -> io::Result<Vec<u64>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut dir = match Dir::openat(spool.dir(), path, flags, Mode::empty()) {
        Err(Errno::ENOTDIR) => return Ok(Vec::new()),
        dir => dir?,
    };
    let mut numbers = Vec::new();
    for entry in dir.iter() {
        numbers.extend(entry?.file_name().to_str().ok().and_then(&number));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_read_as_it_was_written_and_has_one_length() {
        let store = StoreId::new([7; 16]).unwrap();
        let mut lengths = Vec::new();
        for owner in [
            Owner::New,
            Owner::Nobody,
            Owner::Unknown,
            Owner::Store(store),
        ] {
            for highest in [0, u64::MAX] {
                let content = Content {
                    owner,
                    highest,
                    plain: 5,
                };
                let text = content.text();
                assert_eq!(Content::read(&text), Some(content));
                assert_eq!(Content::read(&text.replace('5', "6x")), None);
                assert_eq!(Content::read(text.trim_end()), None);
                lengths.push(text.len());
            }
        }
        lengths.dedup();
        assert_eq!(lengths.len(), 1);
    }

    #[test]
    fn a_number_far_beyond_all_others_is_out_of_reach() {
        assert!(StoreFile::is_in_reach(1, 0));
        assert!(StoreFile::is_in_reach(1_000_000_000, 0));
        assert!(!StoreFile::is_in_reach(1 << 40, 0));
        assert!(StoreFile::is_in_reach(LAST_JOB, LAST_JOB));
        assert!(!StoreFile::is_in_reach(u64::MAX, u64::MAX));
    }
}
