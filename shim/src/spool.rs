//! The files of runs: start tickets, final records, output.
//!
//! A record file is created exclusively, once. Its lock is held by the run's
//! keeper for as long as that lives, so a lock that is free says that nobody
//! will write the record any more, and one that is held proves whose process
//! id is in it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::Pid;
use warrant_wire::record::{RECORD_BYTES, Record, Stamped, Ticket};
use warrant_wire::{RunFile, RunId, Stamp};

use crate::sys::process;

/// An open spool directory.
pub struct Spool {
    dir: OwnedFd,
    boot_id: [u8; 16],
    /// What others than the owner may do with what is made here: nothing, or
    /// read it if they are in the spool's group.
    group_mode: Mode,
}

/// What can be said of a run by looking at its record.
pub enum Standing {
    /// There is no record.
    Missing,
    /// Nobody runs it now; the record is ours to change.
    Free(RecordFile, Record),
    /// Its keeper is alive: this is the handle and the ticket of it, and whose
    /// the run is.
    Kept(OwnedFd, Ticket, Option<Stamp>),
    /// Something is happening at this moment; look again soon.
    Unclear,
}

impl Spool {
    /// Opens a spool directory. If root has set its set-group-id bit, what is
    /// made in it has its group, which may read it.
    ///
    /// Errors: it cannot be opened; this is not Linux with /proc.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = File::from(open(path, flags, Mode::empty())?);
        let metadata = dir.metadata()?;
        let is_shared = metadata.uid() == 0 && metadata.mode() & Mode::S_ISGID.bits() != 0;
        Ok(Self {
            dir: dir.into(),
            boot_id: boot_id()?,
            group_mode: match is_shared {
                true => Mode::S_IRGRP | Mode::S_IXGRP,
                false => Mode::empty(),
            },
        })
    }

    /// The descriptor of the directory.
    #[must_use]
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Which boot of the machine this is.
    #[must_use]
    pub fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    /// The mode of files that are made here.
    #[must_use]
    pub fn file_mode(&self) -> Mode {
        Mode::S_IRUSR | Mode::S_IWUSR | (self.group_mode & Mode::S_IRGRP)
    }

    /// Creates a run's record, empty and unlocked, and its directory if need
    /// be. Whatever is written to it will have the stamp.
    ///
    /// Errors: `EEXIST` if there is one, whatever is in it; what open(2) says.
    pub fn create_record(&self, run: RunId, stamp: Option<Stamp>) -> io::Result<RecordFile> {
        let bucket = run.spool_bucket();
        match mkdirat(&self.dir, bucket.as_str(), Mode::S_IRWXU | self.group_mode) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let file = self.create(run, RunFile::Record, OFlag::O_EXCL)?;
        Ok(RecordFile { file, stamp })
    }

    /// Creates an empty file for output or its index.
    pub fn create_output(&self, run: RunId, file: RunFile) -> io::Result<File> {
        self.create(run, file, OFlag::O_TRUNC)
    }

    fn create(&self, run: RunId, file: RunFile, flags: OFlag) -> io::Result<File> {
        let path = run.spool_path(file);
        let flags = flags | OFlag::O_CREAT | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.dir, path.as_str(), flags, self.file_mode())?.into())
    }

    /// Opens a run's record, if there is one.
    pub fn open_record(&self, run: RunId) -> io::Result<Option<RecordFile>> {
        let path = run.spool_path(RunFile::Record);
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.dir, path.as_str(), flags, Mode::empty()) {
            Ok(file) => Ok(Some(RecordFile {
                file: file.into(),
                stamp: None,
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Finds out whether a run's keeper lives, without changing anything.
    ///
    /// Errors: what open(2) and read(2) say; `InvalidData` if the record is
    /// not one and nobody holds it.
    pub fn look(&self, run: RunId) -> io::Result<Standing> {
        let Some(mut file) = self.open_record(run)? else {
            return Ok(Standing::Missing);
        };
        if try_lock(&file.file)? {
            let record = file.read()?;
            return Ok(Standing::Free(file, record));
        }
        let Ok(Record::Started(ticket)) = file.read() else {
            return Ok(Standing::Unclear);
        };
        if ticket.boot_id != self.boot_id || ticket.keeper_pid <= 1 {
            return Ok(Standing::Unclear);
        }
        let handle = match process::open(Pid::from_raw(ticket.keeper_pid)) {
            Err(Errno::ESRCH) => return Ok(Standing::Unclear),
            handle => handle?,
        };
        // Still locked: the keeper has lived all the while, so the handle is
        // its own and not that of a later process with the same number.
        if try_lock(&file.file)? {
            return Ok(Standing::Unclear);
        }
        Ok(Standing::Kept(handle, ticket, file.stamp))
    }

    /// Sees to it that a run that has no record can never start, with the
    /// reason for it as the record.
    ///
    /// Errors: `EEXIST` if it has one by now.
    pub fn rule_out(&self, run: RunId, reason: &Record) -> io::Result<()> {
        let file = self.create_record(run, None)?;
        file.lock()?;
        file.write(reason)
    }
}

/// An open record file. Closing it gives up the lock.
pub struct RecordFile {
    file: File,
    stamp: Option<Stamp>,
}

impl RecordFile {
    /// Waits for the lock and takes it. Who waits for it here races with a
    /// short look only: a run has one keeper.
    pub fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }

    /// Whose the run is: as it was made, or read.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Reads the record, and takes the stamp that it has.
    ///
    /// Errors: `InvalidData` if it is not one; what read(2) says.
    pub fn read(&mut self) -> io::Result<Record> {
        let (mut file, mut content) = (&self.file, Vec::new());
        file.rewind()?;
        let mut most = file.take(RECORD_BYTES as u64 + 1);
        most.read_to_end(&mut content)?;
        let stamped = Stamped::decode(&content)
            .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        self.stamp = stamped.stamp.or(self.stamp);
        Ok(stamped.record)
    }

    /// Writes the record, always the whole file.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let (stamp, record) = (self.stamp, *record);
        let content = Stamped { stamp, record }.encode();
        self.file.write_all_at(&content, 0)
    }
}

/// Takes a lock if it is free, and says whether it was. Source: flock(2).
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Source: `/proc/sys/kernel/random/boot_id`, a UUID in text.
fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&hex, 16).map_err(io::Error::other)?;
    Ok(number.to_be_bytes())
}
