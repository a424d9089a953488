//! Whatever is encoded decodes to itself, and nothing else decodes at all.

#![allow(clippy::unwrap_used)]
use warrant_wire::launch::{MAX_LAUNCH_BYTES, MAX_PROCESSES, MAX_STRING_BYTES};
use warrant_wire::output::{ENTRY_BYTES, Entry, Stream};
use warrant_wire::record::{RECORD_BYTES, Record, Stamped, Ticket};
use warrant_wire::{
    Bond, Cause, Decoder, JobSignal, Launch, Limits, Outcome, Placement, Refusal, Report, Request,
    RunId, Stamp, StartDir, StoreId, encode_report, encode_request,
};

const RUN: RunId = RunId {
    job: 9_007_199_254_740_993,
    task: 2,
    attempt: 3,
};

const OUTCOME: Outcome = Outcome {
    started_us: 1_700_000_000_000_001,
    ended_us: 1_700_000_000_500_002,
    wait_status: 9,
    cause: Cause::TimeLimit,
    user_us: 10,
    system_us: 11,
    max_rss_bytes: 12,
    output_bytes: 13,
    dropped_bytes: 14,
    start_dir: StartDir::Tmp,
};

const TICKET: Ticket = Ticket {
    keeper_pid: 4711,
    boot_id: [7; 16],
    started_us: 1_700_000_000_000_001,
};

fn launch() -> Launch {
    Launch {
        limits: Limits {
            processes: 4,
            time_limit_s: 60,
            grace_ms: 500,
            output_cap_bytes: 1 << 20,
            memory_bytes: 1 << 30,
        },
        argv: vec![b"echo".to_vec(), b"".to_vec(), b"\xff words".to_vec()],
        env: vec![
            (b"PATH".to_vec(), b"/bin".to_vec()),
            (b"EMPTY".to_vec(), b"".to_vec()),
        ],
        workdir: Some(b"/tmp".to_vec()),
        stdout: Some(b"out.log".to_vec()),
        stderr: None,
        default_workdir: None,
    }
}

fn placement() -> Placement {
    Placement {
        cores: vec![0, 3],
        gpus: vec![1],
    }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Launch {
            run: RUN,
            placement: placement(),
            launch: launch().encode().unwrap(),
        },
        Request::Admit {
            run: RUN,
            warrant: b"e30.e30.c2ln".to_vec(),
            launch: launch().encode().unwrap(),
        },
        Request::Start {
            run: RUN,
            placement: placement(),
        },
        Request::Revoke { run: RUN },
        Request::Signal {
            run: RUN,
            signal: JobSignal::Cancel,
        },
        Request::Signal {
            run: RUN,
            signal: JobSignal::Kill,
        },
        Request::Signal {
            run: RUN,
            signal: JobSignal::Deliver(10),
        },
        Request::Watch {
            run: RUN,
            same_boot: true,
        },
        Request::Watch {
            run: RUN,
            same_boot: false,
        },
        Request::Ping { run: RUN },
        Request::Store {
            store: STORE,
            adopt: true,
        },
        of(Request::Launch {
            run: RUN,
            placement: placement(),
            launch: launch().encode().unwrap(),
        }),
        of(Request::Start {
            run: RUN,
            placement: placement(),
        }),
        of(Request::Revoke { run: RUN }),
        of(Request::Signal {
            run: RUN,
            signal: JobSignal::Deliver(10),
        }),
        of(Request::Watch {
            run: RUN,
            same_boot: true,
        }),
    ]
}

const STAMP: Stamp = Stamp {
    uid: 1001,
    job_sha256: [7; 32],
};

const STORE: StoreId = StoreId::new([8; 16]).unwrap();

fn of(request: Request) -> Request {
    let (stamp, request) = (STAMP, Box::new(request));
    Request::Of { stamp, request }
}

fn reports() -> Vec<Report> {
    vec![
        Report::Started {
            run: RUN,
            started_us: 5,
        },
        Report::Ended {
            run: RUN,
            outcome: OUTCOME,
        },
        Report::NotStarted {
            run: RUN,
            errno: -1,
            refusal: None,
        },
        Report::NotStarted {
            run: RUN,
            errno: 0,
            refusal: Some(Refusal::PamAccount),
        },
        Report::Lost { run: RUN },
        Report::Admitted { run: RUN },
        Report::Refused {
            run: RUN,
            refusal: Refusal::Signature,
        },
        Report::Pong { run: RUN },
        Report::Store {
            bond: Bond::Ours,
            highest_job: 7,
        },
        Report::Store {
            bond: Bond::Unclaimed,
            highest_job: u64::MAX,
        },
        Report::Store {
            bond: Bond::Foreign(STORE),
            highest_job: 0,
        },
    ]
}

fn records() -> Vec<Record> {
    vec![
        Record::Empty,
        Record::Revoked,
        Record::Refused(Refusal::AccountLocked),
        Record::Started(TICKET),
        Record::Ended {
            ticket: TICKET,
            outcome: OUTCOME,
            output_failed: true,
        },
    ]
}

#[test]
fn a_launch_decodes_to_itself() {
    let bytes = launch().encode().unwrap();
    assert_eq!(Launch::decode(&bytes).unwrap(), launch());
    assert_eq!(Limits::read(&bytes).unwrap(), launch().limits);
}

/// Clients and journals of before the field read and write version 2.
#[test]
fn only_a_launch_with_a_default_directory_is_of_version_3() {
    assert_eq!(launch().encode().unwrap()[4], 2);
    let launch = with_default();
    let bytes = launch.encode().unwrap();
    assert_eq!(bytes[4], 3);
    assert_eq!(Launch::decode(&bytes).unwrap(), launch);
    assert_eq!(Limits::read(&bytes).unwrap(), launch.limits);
    let mut other = bytes;
    for version in [0, 1, 2, 4, 255] {
        other[4] = version;
        assert!(Launch::decode(&other).is_err(), "{version}");
    }
}

fn with_default() -> Launch {
    Launch {
        workdir: None,
        default_workdir: Some(b"/srv/project".to_vec()),
        ..launch()
    }
}

#[test]
fn every_shorter_or_longer_launch_is_refused() {
    for launch in [launch(), with_default()] {
        assert_no_part_decodes(launch.encode().unwrap());
    }
}

fn assert_no_part_decodes(bytes: Vec<u8>) {
    for length in 0..bytes.len() {
        assert!(Launch::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Launch::decode(&longer).is_err());
}

#[test]
fn a_launch_that_breaks_a_rule_is_refused_by_the_name_of_its_field() {
    type Break = fn(&mut Launch);
    let cases: [(&str, Break); 21] = [
        ("processes", |launch| launch.limits.processes = 0),
        ("processes", |launch| {
            launch.limits.processes = MAX_PROCESSES + 1;
        }),
        ("argv", |launch| launch.argv.clear()),
        ("argv", |launch| launch.argv[0].clear()),
        ("argv", |launch| launch.argv[2].push(0)),
        ("argv", |launch| {
            launch.argv.push(vec![b'a'; MAX_STRING_BYTES + 1]);
        }),
        ("env", |launch| launch.env[0].0.clear()),
        ("env", |launch| launch.env[0].0.push(b'=')),
        ("env", |launch| launch.env[0].0.push(0)),
        ("env", |launch| launch.env[0].1.push(0)),
        ("env", |launch| launch.env.push(launch.env[0].clone())),
        ("workdir", |launch| launch.workdir = Some(vec![])),
        ("workdir", |launch| launch.workdir = Some(b"/\0".to_vec())),
        ("workdir", |launch| launch.workdir = Some(b".".to_vec())),
        ("workdir", |launch| {
            launch.workdir = Some(b"/tmp/../proc/self/cwd".to_vec());
        }),
        ("workdir", |launch| {
            launch.workdir = Some(b"/dev//fd/3".to_vec());
        }),
        ("default_workdir", |launch| {
            launch.default_workdir = Some(b"/tmp".to_vec());
        }),
        ("default_workdir", |launch| {
            launch.workdir = None;
            launch.default_workdir = Some(b"project".to_vec());
        }),
        ("output.stdout.path", |launch| launch.stdout = Some(vec![0])),
        ("output.stderr.path", |launch| launch.stderr = Some(vec![])),
        ("launch", |launch| {
            launch.argv = vec![vec![b'a'; MAX_STRING_BYTES]; 17];
        }),
    ];
    for (field, break_it) in cases {
        let mut broken = launch();
        break_it(&mut broken);
        let message = broken.encode().unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("{field}: ")),
            "{field}: {message}"
        );
    }
}

#[test]
fn a_count_larger_than_its_data_allocates_nothing() {
    let mut bytes = launch().encode().unwrap();
    let argv_at = 40;
    bytes[argv_at..argv_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(Launch::decode(&bytes).is_err());
}

#[test]
fn debug_text_shows_neither_arguments_nor_environment() {
    let text = format!("{:?}", launch());
    assert!(
        !text.contains("PATH") && !text.contains("words") && !text.contains("argv"),
        "{text}"
    );
}

#[test]
fn frames_decode_to_themselves_in_pieces_of_any_size() {
    let stream: Vec<u8> = requests().iter().flat_map(encode_request).collect();
    for size in [1, 2, 7, 64, stream.len()] {
        let mut decoder = Decoder::new();
        let mut seen = Vec::new();
        for piece in stream.chunks(size) {
            decoder.push(piece);
            while let Some(request) = decoder.next_request().unwrap() {
                seen.push(request);
            }
        }
        assert_eq!(seen, requests(), "in pieces of {size}");
        assert!(decoder.is_at_frame_end());
    }
    for report in reports() {
        let mut decoder = Decoder::new();
        decoder.push(&encode_report(&report));
        assert_eq!(decoder.next_report().unwrap(), Some(report));
        assert_eq!(decoder.next_report().unwrap(), None);
    }
}

#[test]
fn a_report_is_no_request_and_a_request_is_no_report() {
    for report in reports() {
        let mut decoder = Decoder::new();
        decoder.push(&encode_report(&report));
        assert!(decoder.next_request().is_err());
    }
    for request in requests() {
        let mut decoder = Decoder::new();
        decoder.push(&encode_request(&request));
        assert!(decoder.next_report().is_err());
    }
}

#[test]
fn a_frame_with_an_oversize_length_is_refused_before_it_arrives() {
    let mut decoder = Decoder::new();
    decoder.push(&u32::MAX.to_le_bytes());
    assert!(decoder.next_request().is_err());
    let mut decoder = Decoder::new();
    decoder.push(&encode_request(&Request::Launch {
        run: RUN,
        placement: Placement::default(),
        launch: vec![0; MAX_LAUNCH_BYTES + 1],
    }));
    assert!(decoder.next_request().is_err());
}

#[test]
fn a_signal_outside_its_range_is_refused() {
    for number in [0, 65, 255] {
        let mut decoder = Decoder::new();
        decoder.push(&encode_request(&Request::Signal {
            run: RUN,
            signal: JobSignal::Deliver(number),
        }));
        assert!(decoder.next_request().is_err(), "{number}");
    }
}

#[test]
fn records_decode_to_themselves_and_have_one_size() {
    for record in records() {
        let bytes = record.encode();
        assert_eq!(bytes.len(), RECORD_BYTES);
        assert_eq!(Record::decode(&bytes).unwrap(), record);
    }
}

#[test]
fn a_stamped_record_decodes_to_itself_and_a_plain_one_has_no_stamp() {
    for record in records() {
        for stamp in [None, Some(STAMP)] {
            let stamped = Stamped { stamp, record };
            let bytes = stamped.encode();
            assert_eq!(Stamped::decode(&bytes), Ok(stamped));
            assert_eq!(Record::decode(&bytes), Ok(record));
        }
        let (stamp, bytes) = (None, record.encode());
        assert_eq!(Stamped::decode(&bytes), Ok(Stamped { stamp, record }));
    }
}

#[test]
fn t121_a_record_counts_for_its_own_job_and_user_alone() {
    let other_user = Stamp { uid: 1002, ..STAMP };
    let other_job = Stamp {
        job_sha256: [9; 32],
        ..STAMP
    };
    for record in records() {
        let counts =
            |stamp, asked, trusts_plain| Stamped { stamp, record }.counts_for(asked, trusts_plain);
        // What says nothing of a run that began counts for everybody.
        let says_nothing = matches!(record, Record::Empty | Record::Revoked);
        assert!(counts(Some(STAMP), Some(&STAMP), false));
        assert!(counts(None, Some(&STAMP), true));
        assert_eq!(
            counts(None, Some(&STAMP), false),
            says_nothing,
            "{record:?}"
        );
        for other in [other_user, other_job] {
            assert_eq!(counts(Some(other), Some(&STAMP), true), says_nothing);
        }
    }
}

#[test]
fn a_request_about_whose_run_it_is_holds_one_request_about_a_run() {
    let refused = |request| {
        let mut decoder = Decoder::new();
        decoder.push(&encode_request(&of(request)));
        decoder.next_request().is_err()
    };
    assert!(refused(of(Request::Revoke { run: RUN })));
    assert!(refused(Request::Admit {
        run: RUN,
        warrant: b"e30.e30.c2ln".to_vec(),
        launch: Vec::new(),
    }));
    assert!(refused(Request::Store {
        store: STORE,
        adopt: false,
    }));
}

#[test]
fn a_record_that_a_crash_left_blank_is_empty() {
    assert_eq!(Record::decode(&[]).unwrap(), Record::Empty);
    assert_eq!(Record::decode(&[0; RECORD_BYTES]).unwrap(), Record::Empty);
    assert!(Record::decode(&Record::Revoked.encode()[..100]).is_err());
}

#[test]
fn index_entries_decode_to_themselves() {
    for stream in [Stream::Stdout, Stream::Stderr] {
        let entry = Entry {
            offset: 1 << 40,
            time_us: 1_700_000_000_000_001,
            len: 77,
            rank: 4095,
            stream,
        };
        let bytes = entry.encode();
        assert_eq!(bytes.len(), ENTRY_BYTES);
        assert_eq!(Entry::decode(&bytes).unwrap(), entry);
        assert!(Entry::decode(&bytes[1..]).is_err());
    }
}

/// Numbers without pattern that are the same in every run. Source: xorshift64*.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as usize
    }

    /// One to four small changes: a byte changed, bytes removed, repeated or added.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.next() % 4 {
            let at = self.next() % (bytes.len() + 1);
            match self.next() % 5 {
                0 if at < bytes.len() => bytes[at] = self.next() as u8,
                1 if at < bytes.len() => bytes[at] ^= 1 << (self.next() % 8),
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.next() as u8),
                _ => {
                    let copied = bytes[at..].to_vec();
                    bytes.extend(copied.iter().take(64));
                }
            }
        }
    }
}

/// The decoders must survive anything, and what they accept must be exactly
/// what its encoding says: there is one spelling for each value.
#[test]
fn mutated_bytes_are_refused_or_mean_what_they_spell() {
    let mut noise = Noise(0x5EED);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..60_000 {
        let samples = [
            [launch, with_default][round % 2]().encode().unwrap(),
            encode_request(&requests()[round % 6]),
            encode_report(&reports()[round % 4]),
            records()[round % 4].encode().to_vec(),
        ];
        let mut bytes = samples[noise.next() % 4].clone();
        noise.mutate(&mut bytes);
        let mut count = |spelt: Option<Vec<u8>>| match spelt {
            Some(spelt) => {
                assert!(
                    bytes.starts_with(&spelt),
                    "round {round}: {bytes:?} is not {spelt:?}"
                );
                accepted += 1;
            }
            None => refused += 1,
        };
        count(
            Launch::decode(&bytes)
                .ok()
                .map(|launch| launch.encode().unwrap()),
        );
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        count(
            decoder
                .next_request()
                .ok()
                .flatten()
                .map(|it| encode_request(&it)),
        );
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        count(
            decoder
                .next_report()
                .ok()
                .flatten()
                .map(|it| encode_report(&it)),
        );
        if bytes.iter().any(|byte| *byte != 0) {
            count(Record::decode(&bytes).ok().map(|it| it.encode().to_vec()));
        }
        let _ = Limits::read(&bytes);
        let _ = Entry::decode(bytes.get(..ENTRY_BYTES).unwrap_or(&bytes));
    }
    assert!(
        accepted > 1_000 && refused > 1_000,
        "{accepted} accepted, {refused} refused"
    );
}
