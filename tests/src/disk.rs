//! A small disk of a test's own, which the test may fill.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

/// How many files a disk can have.
const FILES: u32 = 2000;

/// A tmpfs that this thread and what it starts see, and nobody else.
#[derive(Debug)]
pub struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// A disk of `mib` MiB; `None`, saying why, where this is not root.
    pub fn new(mib: u32) -> Option<Self> {
        if !Uid::effective().is_root() {
            eprintln!("left out: only root may mount a disk to fill");
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("warrant-disk-")
            .tempdir()
            .unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let nothing: Option<&str> = None;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/", nothing, private, nothing).unwrap();
        let options = format!("size={mib}m,nr_inodes={FILES},mode=0700");
        let kind = Some("tmpfs");
        mount(
            kind,
            dir.path(),
            kind,
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        Some(Self { dir })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leave no room at all.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        let mut piece = vec![0; 1 << 16];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    piece.truncate(piece.len() / 2);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Make files, until no more can be made.
    pub fn take_all_files(&self) {
        let dir = self.path().join("files");
        fs::create_dir(&dir).unwrap();
        let mut made = 0;
        while File::create(dir.join(made.to_string())).is_ok() {
            made += 1;
            assert!(made < FILES, "files can be made without end");
        }
    }

    /// Remove these files.
    pub fn give_files_back(&self) {
        fs::remove_dir_all(self.path().join("files")).unwrap();
    }

    /// Make room again.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}
