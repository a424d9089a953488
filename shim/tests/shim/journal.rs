//! The journal by itself: what it remembers, over whatever happens to it.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use warrant_shim::identity::Identity;
use warrant_shim::journal::{Journal, State, Task, Waiting, Warrant};
use warrant_shim::warrant::sha256;
use warrant_wire::RunId;

const NOW: u64 = 1_760_000_000;
const BOOT: [u8; 16] = [9; 16];

/// A directory for one test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "warrant-journal-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        Self(dir)
    }

    fn open(&self) -> Journal {
        Journal::open(&self.0)
            .unwrap_or_else(|doubt| panic!("{doubt}"))
            .0
    }

    /// The file of the journal.
    fn file(&self) -> PathBuf {
        self.0.join("journal")
    }

    fn bytes(&self) -> u64 {
        self.file().metadata().unwrap().len()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn launch(number: u64) -> Vec<u8> {
    format!("launch {number}").into_bytes()
}

fn jti(number: u64) -> [u8; 16] {
    u128::from(number).to_le_bytes()
}

fn admit_at(journal: &mut Journal, job: u64, launch: &[u8], now_s: u64) {
    let warrant = Warrant {
        jti: jti(job),
        sha256: sha256(launch),
        iat_s: now_s,
        exp_s: now_s + 60,
    };
    let name = format!("user{job}");
    let uid = 1000 + u32::try_from(job % 1000).unwrap();
    journal.admit((job, 0), warrant, Identity { name, uid }, launch);
}

fn admit(journal: &mut Journal, job: u64) {
    admit_at(journal, job, &launch(job), NOW);
}

fn run_of(job: u64) -> RunId {
    let (task, attempt) = (0, 1);
    RunId { job, task, attempt }
}

fn start(journal: &mut Journal, job: u64) {
    journal.start(run_of(job), BOOT);
}

/// All that a journal remembers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Memory {
    admissions: Vec<(Task, String, State, Vec<u8>)>,
    used: Vec<u64>,
    waiting: Waiting,
    high_water_s: u64,
}

fn memory(journal: &Journal) -> Memory {
    let mut admissions: Vec<_> = journal
        .admissions()
        .map(|(task, admission)| {
            let launch = journal.launch(admission).unwrap();
            assert_eq!(sha256(&launch), admission.warrant.sha256);
            (
                *task,
                admission.identity.name.clone(),
                admission.state,
                launch,
            )
        })
        .collect();
    admissions.sort_by_key(|(task, ..)| *task);
    Memory {
        admissions,
        used: (0..100)
            .filter(|number| journal.is_used(&jti(*number)))
            .collect(),
        waiting: journal.waiting(),
        high_water_s: journal.high_water_s(),
    }
}

/// Writes one of everything. Answers the memory after each commit, the first
/// being the one of a new journal.
fn history(dir: &Dir) -> Vec<Memory> {
    let mut journal = dir.open();
    let mut memories = vec![memory(&journal)];
    type Step = fn(&mut Journal);
    let steps: [Step; 7] = [
        |journal| admit(journal, 1),
        |journal| {
            admit(journal, 2);
            admit(journal, 3);
        },
        |journal| start(journal, 1),
        |journal| journal.drop_waiting((2, 0)),
        |journal| journal.not_begun(run_of(1)),
        |journal| {
            start(journal, 3);
            admit(journal, 4);
        },
        |journal| start(journal, 1),
    ];
    for (step, now_s) in steps.iter().zip(NOW..) {
        step(&mut journal);
        journal.commit(now_s).unwrap();
        memories.push(memory(&journal));
    }
    memories
}

#[test]
fn t21_what_was_committed_is_there_after_a_restart() {
    let dir = Dir::new();
    let last = history(&dir).pop().unwrap();
    let states: Vec<_> = last
        .admissions
        .iter()
        .map(|(task, _, state, _)| (task.0, *state))
        .collect();
    let used = State::Used {
        attempt: 1,
        boot_id: BOOT,
    };
    assert_eq!(states, [(1, used), (3, used), (4, State::Waiting)]);
    assert_eq!(last.used, [1, 2, 3, 4]);
    assert_eq!((last.waiting.jobs, last.high_water_s), (1, NOW + 6));
    for _ in 0..2 {
        assert_eq!(memory(&dir.open()), last);
    }
}

#[test]
fn t21_what_was_not_committed_never_happened() {
    let dir = Dir::new();
    let mut journal = dir.open();
    admit(&mut journal, 1);
    assert!(journal.find((1, 0)).is_none());
    assert!(!journal.is_used(&jti(1)));
    assert!(journal.is_pending((1, 0), None) && journal.is_pending((9, 0), Some(&jti(1))));
    drop(journal);
    assert_eq!(memory(&dir.open()), Memory::default());
}

/// A power cut may leave any beginning of the file.
#[test]
fn t21_every_prefix_is_the_memory_of_some_moment() {
    let dir = Dir::new();
    let memories = history(&dir);
    let file = &dir.file();
    let whole = fs::read(file).unwrap();
    let mut moments = Vec::new();
    for end in 0..=whole.len() {
        fs::write(file, &whole[..end]).unwrap();
        match Journal::open(&dir.0) {
            Ok((journal, cut_bytes)) => {
                let moment = memories.iter().position(|other| *other == memory(&journal));
                moments.push(moment.expect("a moment that was"));
                let left = fs::metadata(file).unwrap().len();
                assert_eq!(left + cut_bytes, end as u64);
            }
            // The first frame is there before the file has its name.
            Err(_) => assert!(end < 56, "{end}"),
        }
    }
    assert!(moments.is_sorted());
    assert_eq!(moments.first(), Some(&0));
    assert_eq!(moments.last(), Some(&(memories.len() - 1)));
}

/// Damage is found; what cannot be told from a crash costs the last commit
/// at most.
#[test]
fn t22_every_damaged_byte_is_noticed() {
    let dir = Dir::new();
    let memories = history(&dir);
    let file = &dir.file();
    let whole = fs::read(file).unwrap();
    let mut cut = 0;
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            fs::write(file, &damaged).unwrap();
            if let Ok((journal, cut_bytes)) = Journal::open(&dir.0) {
                assert_eq!(memory(&journal), memories[memories.len() - 2], "{at}");
                assert!(cut_bytes > 0 && at as u64 >= whole.len() as u64 - cut_bytes);
                cut += 1;
            }
        }
    }
    assert!(cut > 0);
    // Nor is anything believed that is only appended.
    for tail in [&[0; 100][..], &[0xff; 100], &whole[56..]] {
        fs::write(file, [&whole[..], tail].concat()).unwrap();
        let (journal, cut_bytes) = Journal::open(&dir.0).unwrap();
        assert_eq!(memory(&journal), memories[memories.len() - 1]);
        assert_eq!(cut_bytes, tail.len() as u64);
    }
}

#[test]
fn t96_another_version_is_refused() {
    let dir = Dir::new();
    history(&dir);
    let whole = fs::read(dir.file()).unwrap();
    for version in [0, 1, 3, 255] {
        let mut other = whole.clone();
        other[4] = version;
        fs::write(dir.file(), &other).unwrap();
        let Err(doubt) = Journal::open(&dir.0) else {
            panic!("opened");
        };
        assert!(doubt.to_string().contains("another version"), "{doubt}");
        assert_eq!(fs::read(dir.file()).unwrap(), other);
    }
}

/// A file that takes the place of the one before has its name once it is whole.
#[test]
fn t21_what_a_crash_left_of_a_new_file_does_not_count() {
    let dir = Dir::new();
    let last = history(&dir).pop().unwrap();
    let whole = fs::read(dir.file()).unwrap();
    for end in [0, 10, 24, 56, whole.len() - 1] {
        fs::write(dir.0.join("journal.new"), &whole[..end]).unwrap();
        assert_eq!(memory(&dir.open()), last);
    }
}

#[test]
fn t96_a_second_one_is_kept_out() {
    let dir = Dir::new();
    let journal = dir.open();
    let Err(doubt) = Journal::open(&dir.0) else {
        panic!("opened twice");
    };
    assert!(doubt.to_string().contains("another monitor"), "{doubt}");
    drop(journal);
    dir.open();
}

/// Many jobs, most of which start soon, and some that wait for ever.
#[test]
fn its_size_is_bounded_by_what_waits() {
    const MIB: usize = 1 << 20;
    let dir = Dir::new();
    let mut journal = dir.open();
    let large = |job: u64| vec![u8::try_from(job % 251).unwrap(); MIB];
    let mut most = 0;
    for job in 0..300 {
        let now_s = NOW + job * 10;
        admit_at(&mut journal, job, &large(job), now_s);
        journal.commit(now_s).unwrap();
        if job % 50 != 0 {
            start(&mut journal, job);
            journal.commit(now_s).unwrap();
            // Of some nobody has heard yet whether they began.
            if job % 50 != 1 {
                journal.begun(run_of(job));
            }
        }
        most = most.max(dir.bytes());
    }
    assert!(most < 48 << 20, "{most}");
    for round in 0..2 {
        for job in (1..300).step_by(50) {
            let admission = journal.find((job, 0)).unwrap();
            assert!(matches!(admission.state, State::Used { attempt: 1, .. }));
            assert_eq!(journal.launch(admission).unwrap(), large(job));
        }
        let waiting: Vec<u64> = journal
            .admissions()
            .filter(|(_, admission)| admission.state == State::Waiting)
            .map(|((job, _), admission)| {
                assert_eq!(journal.launch(admission).unwrap(), large(*job));
                *job
            })
            .collect();
        assert_eq!(waiting.len(), 6, "{waiting:?}");
        assert_eq!(journal.waiting().jobs, 6);
        assert!(waiting.iter().all(|job| job % 50 == 0));
        if round == 0 {
            drop(journal);
            journal = dir.open();
        }
    }
    // Warrants of the last minute are remembered, and those long gone are not.
    admit_at(&mut journal, 500, &launch(500), NOW + 2990);
    journal.commit(NOW + 2990).unwrap();
    assert!(!journal.is_used(&jti(203)));
    for _ in 0..2 {
        assert!(journal.is_used(&jti(299)) && journal.is_used(&jti(295)));
        assert_eq!(journal.high_water_s(), NOW + 2990);
        drop(journal);
        journal = dir.open();
    }
}

/// Whatever became of the admission, its warrant does not count again.
#[test]
fn t20_a_warrant_that_was_used_is_known_after_the_file_was_written_anew() {
    let dir = Dir::new();
    let mut journal = dir.open();
    for job in [1, 2, 3] {
        admit(&mut journal, job);
    }
    journal.commit(NOW).unwrap();
    journal.drop_waiting((1, 0));
    start(&mut journal, 2);
    journal.commit(NOW).unwrap();
    journal.begun(run_of(2));
    let before = dir.bytes();
    for job in 4..40 {
        admit_at(&mut journal, job, &vec![0; 1 << 20], NOW);
        journal.commit(NOW).unwrap();
        journal.drop_waiting((job, 0));
    }
    assert!(dir.bytes() < before + (20 << 20), "it was written anew");
    for _ in 0..2 {
        assert!((1..40).all(|job| journal.is_used(&jti(job))));
        assert!(journal.find((1, 0)).is_none() && journal.find((4, 0)).is_none());
        let (second, third) = (journal.find((2, 0)).unwrap(), journal.find((3, 0)).unwrap());
        assert!(matches!(second.state, State::Used { attempt: 1, .. }));
        assert_eq!(journal.launch(third).unwrap(), launch(3));
        drop(journal);
        journal = dir.open();
    }
}

#[test]
fn t26_the_high_water_mark_outlives_the_file() {
    let dir = Dir::new();
    let mut journal = dir.open();
    let large = vec![0; 2 << 20];
    // The clock was ahead for a moment, long ago.
    for job in 0..40 {
        let now_s = if job == 0 { NOW + 5000 } else { NOW };
        admit_at(&mut journal, job, &large, now_s - 1000);
        journal.commit(now_s).unwrap();
        start(&mut journal, job);
        journal.commit(now_s).unwrap();
        journal.begun(run_of(job));
    }
    assert!(dir.bytes() < 40 << 20, "it was written anew");
    assert_eq!(journal.high_water_s(), NOW + 5000);
    drop(journal);
    assert_eq!(dir.open().high_water_s(), NOW + 5000);
}

/// Jobs wait for hours; warrants live a minute.
#[test]
fn an_admission_that_waited_long_is_there_until_its_run_has_begun() {
    let dir = Dir::new();
    let mut journal = dir.open();
    admit(&mut journal, 1);
    journal.commit(NOW).unwrap();
    for (attempt, now_s) in (1..5).zip((NOW + 7200..).step_by(3600)) {
        let run = RunId {
            attempt,
            ..run_of(1)
        };
        journal.start(run, BOOT);
        journal.commit(now_s).unwrap();
        let admission = journal.find((1, 0)).expect("it is to be started now");
        assert_eq!(journal.launch(admission).unwrap(), launch(1));
        // What another run has to say does not count.
        journal.not_begun(run_of(2));
        journal.begun(RunId { attempt: 9, ..run });
        if attempt == 3 {
            journal.begun(run);
            journal.not_begun(run);
            journal.commit(now_s + 100).unwrap();
            break;
        }
        assert_eq!(journal.waiting(), Waiting::default());
        journal.not_begun(run);
        assert_eq!(journal.waiting().jobs, 1);
    }
    // A run that has begun is nothing to come back to.
    admit_at(&mut journal, 2, &launch(2), NOW + 20_000);
    journal.commit(NOW + 20_000).unwrap();
    assert!(journal.find((1, 0)).is_none());
}

/// Other files of its directory are left alone.
#[test]
fn a_new_journal_is_empty() {
    let dir = Dir::new();
    fs::write(dir.0.join("README"), "").unwrap();
    fs::write(dir.0.join("journal.new"), "half a header").unwrap();
    assert_eq!(memory(&dir.open()), Memory::default());
    assert!(Path::new(&dir.0.join("README")).exists());
}
