//! A journal in a directory of its own, used as the monitor does.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use arbitrary::{Result, Unstructured};
use tempfile::TempDir;
use warrant_shim::identity::Identity;
use warrant_shim::journal::{Journal, State, Task, Warrant};
use warrant_shim::warrant::{LEEWAY_S, sha256};
use warrant_wire::RunId;

use super::damage::{Content, Damage, Fate};
use super::model::{BOOT_ID, Entry, Known, Model};

const BEGIN_S: u64 = 1_760_000_000;
/// Few enough to meet again.
const JOBS: u64 = 4;

pub(super) struct House {
    dir: TempDir,
    journal: Option<Journal>,
    now_s: u64,
    /// What is on the disk.
    durable: Model,
    /// What the journal knows, which a crash may take.
    memory: Model,
    /// What waits for the next commit.
    batch: Vec<Entry>,
    /// Whether memory knows what the disk does not.
    is_ahead: bool,
    begun: BTreeSet<RunId>,
    /// How long the file was at each commit, and what was in it.
    moments: Vec<(usize, Model)>,
    next_jti: u128,
    next_attempt: u32,
    /// How large a launch is for each byte of the input.
    scale: usize,
    /// Whether the file has ever become smaller.
    pub(super) has_shrunk: bool,
}

impl House {
    pub(super) fn new(scale: usize) -> Self {
        // In memory, where a disk's time is not waited for.
        let shm = PathBuf::from("/dev/shm");
        let place = if shm.is_dir() {
            shm
        } else {
            std::env::temp_dir()
        };
        let mut house = Self {
            dir: tempfile::Builder::new()
                .prefix("warrant-fuzz-")
                .tempdir_in(place)
                .unwrap(),
            journal: None,
            now_s: BEGIN_S,
            durable: Model::default(),
            memory: Model::default(),
            batch: Vec::new(),
            is_ahead: false,
            begun: BTreeSet::new(),
            moments: Vec::new(),
            next_jti: 1,
            next_attempt: 1,
            scale,
            has_shrunk: false,
        };
        house.open().unwrap_or_else(|doubt| panic!("{doubt}"));
        house.note_moment();
        house
    }

    fn open(&mut self) -> std::result::Result<u64, String> {
        let (journal, cut_bytes) =
            Journal::open(self.dir.path()).map_err(|doubt| doubt.to_string())?;
        self.journal = Some(journal);
        Ok(cut_bytes)
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().expect("it is open")
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// Does one thing that a monitor does, or that befalls it.
    pub(super) fn step(&mut self, choices: &mut Unstructured<'_>) -> Result<()> {
        let task = (choices.int_in_range(1..=JOBS)?, 0);
        match choices.int_in_range(0..=11)? {
            0..=2 => self.admit(task, choices)?,
            3 | 4 => self.start(task),
            5 => self.revoke(task),
            6 => self.not_begun(task),
            7 => self.begun(task),
            8 => self.commit(),
            9 => self.now_s = self.now_s.saturating_add(choices.int_in_range(0..=120)?),
            10 => self.now_s = self.now_s.saturating_sub(choices.int_in_range(0..=120)?),
            _ => self.crash(),
        }
        self.check();
        Ok(())
    }

    fn check(&mut self) {
        let admitted = |entry: &&Entry| matches!(entry, Entry::Admitted(..));
        let pending = self.batch.iter().filter(admitted).count();
        let Some(journal) = &self.journal else { return };
        self.memory.assert_is(journal, &self.begun);
        let waiting = usize::try_from(journal.waiting().jobs).unwrap();
        assert_eq!(waiting, self.memory.waiting() + pending);
    }

    /// Who asks about a task for which something waits is answered after it.
    fn settle(&mut self, task: Task) {
        if self.journal().is_pending(task, None) {
            self.commit();
        }
    }

    fn state(&mut self, task: Task) -> Option<State> {
        self.journal().find(task).map(|admission| admission.state)
    }

    fn admit(&mut self, task: Task, choices: &mut Unstructured<'_>) -> Result<()> {
        self.settle(task);
        if self.now_s.saturating_add(LEEWAY_S) < self.journal().high_water_s() {
            return Ok(());
        }
        // No launch is empty.
        let count = choices.int_in_range(1..=40)?;
        let launch = choices.bytes(count)?.repeat(self.scale);
        let warrant = Warrant {
            jti: self.next_jti.to_le_bytes(),
            sha256: sha256(&launch),
            iat_s: self.now_s,
            exp_s: self.now_s.saturating_add(choices.int_in_range(1..=60)?),
        };
        self.next_jti += 1;
        let identity = Identity {
            name: "alice".into(),
            uid: 1001,
        };
        self.journal()
            .admit(task, warrant, identity.clone(), &launch);
        let known = Known {
            warrant,
            identity,
            launch: launch.into(),
            used_by: None,
        };
        self.batch.push(Entry::Admitted(task, known));
        Ok(())
    }

    fn start(&mut self, task @ (job, number): Task) {
        self.settle(task);
        if self.state(task) == Some(State::Waiting) {
            let attempt = self.next_attempt;
            self.next_attempt += 1;
            let run = RunId {
                job,
                task: number,
                attempt,
            };
            self.journal().start(run, BOOT_ID);
            self.batch.push(Entry::Started(run));
        }
    }

    fn revoke(&mut self, task: Task) {
        self.settle(task);
        if self.state(task) == Some(State::Waiting) {
            self.journal().drop_waiting(task);
            self.memory.admissions.remove(&task);
            self.is_ahead = true;
        }
    }

    /// The run that has used a task's admission.
    fn user(&self, (job, task): Task) -> Option<RunId> {
        let attempt = self.memory.admissions.get(&(job, task))?.used_by?;
        Some(RunId { job, task, attempt })
    }

    fn not_begun(&mut self, task: Task) {
        let Some(run) = self.user(task) else { return };
        if self.begun.contains(&run) {
            return;
        }
        let attempt = run.attempt + 1;
        self.journal().not_begun(RunId { attempt, ..run });
        self.check();
        self.journal().not_begun(run);
        let known = self.memory.admissions.get_mut(&task).unwrap();
        known.used_by = None;
        self.is_ahead = true;
    }

    fn begun(&mut self, task: Task) {
        if let Some(run) = self.user(task) {
            self.journal().begun(run);
            self.begun.insert(run);
            self.journal().not_begun(run);
        }
    }

    fn commit(&mut self) {
        let now_s = self.now_s;
        self.journal().commit(now_s).unwrap();
        if self.batch.is_empty() && !self.is_ahead {
            return;
        }
        for entry in self.batch.drain(..) {
            self.memory.apply(entry);
        }
        self.memory.high_water_s = self.memory.high_water_s.max(now_s);
        self.durable = self.memory.clone();
        self.is_ahead = false;
        self.note_moment();
    }

    fn note_moment(&mut self) {
        let length = fs::metadata(self.path()).map_or(0, |metadata| metadata.len());
        let length = usize::try_from(length).unwrap();
        self.has_shrunk |= self.moments.last().is_some_and(|last| last.0 > length);
        self.moments.push((length, self.durable.clone()));
    }

    /// Ends without a word, and begins anew.
    pub(super) fn crash(&mut self) {
        self.journal = None;
        let cut_bytes = self.open().unwrap_or_else(|doubt| panic!("{doubt}"));
        assert_eq!(cut_bytes, 0);
        self.memory = self.durable.clone();
        self.batch.clear();
        self.is_ahead = false;
        self.check();
    }

    /// Closes the journal. Answers its content.
    pub(super) fn content(&mut self) -> Content {
        self.journal = None;
        Content {
            bytes: fs::read(self.path()).unwrap(),
            ends: self.moments.iter().map(|(end, _)| *end).collect(),
        }
    }

    /// Puts a damaged file on the disk and opens it. Answers whether the
    /// journal can be used further.
    pub(super) fn suffer(&mut self, damage: &Damage, mut content: Content) -> bool {
        let last = self.moments.len() - 1;
        let fate = damage.strike(&mut content);
        fs::write(self.path(), &content.bytes).unwrap();
        let opened = self.open();
        match (fate, opened) {
            (Fate::Moment(at), Ok(_)) => {
                self.durable = self.moments[at].1.clone();
                self.memory = self.durable.clone();
                self.check();
                true
            }
            (Fate::Moment(at), Err(doubt)) => panic!("{damage:?}: {at} of {last}: {doubt}"),
            (Fate::Refused, Ok(_)) => panic!("{damage:?} was not noticed"),
            (Fate::Unknown, Ok(_)) => {
                self.use_blindly();
                false
            }
            (Fate::Refused | Fate::Unknown, Err(_)) => false,
        }
    }

    /// Uses a journal of which nobody knows what is in it: it must not panic.
    fn use_blindly(&mut self) {
        let now_s = self.now_s;
        let journal = self.journal();
        let tasks: Vec<Task> = journal.admissions().map(|(task, _)| *task).collect();
        for task @ (job, number) in tasks {
            let admission = journal.find(task).unwrap();
            let _ = journal.launch(admission);
            let attempt = 1;
            let run = RunId {
                job,
                task: number,
                attempt,
            };
            match admission.state {
                State::Waiting => journal.start(run, BOOT_ID),
                State::Used { attempt, .. } => journal.not_begun(RunId { attempt, ..run }),
            }
        }
        let _ = journal.commit(now_s);
        let _ = journal.commit(u64::MAX);
        self.journal = None;
        let _ = self.open();
    }
}
