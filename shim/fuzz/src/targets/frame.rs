//! Frames: the first byte says how large the pieces are in which the rest
//! arrives.

use warrant_wire::frame::{MAX_FRAME_BYTES, encode_report, encode_request};
use warrant_wire::{
    Bond, Cause, Decoder, JobSignal, Malformed, Outcome, Placement, Refusal, Report, Request,
    RunId, Stamp, StartDir, StoreId,
};

use super::launch;
use crate::Target;
use crate::meter;

pub(crate) const TARGET: Target = Target {
    name: "frame",
    run,
    seeds,
    words: &["\u{2}\u{1}", "\u{2}\u{4}", "WRNL"],
};

/// All frames of a stream, and why there are no more.
#[derive(Debug, PartialEq, Eq)]
struct Heard<T> {
    frames: Vec<T>,
    end: Result<IsWhole, Malformed>,
}

/// Whether the stream ends where a frame does.
type IsWhole = bool;

fn run(input: &[u8]) {
    let Some((piece, stream)) = input.split_first() else {
        return;
    };
    let piece = usize::from(*piece) + 1;
    check(stream, piece, Decoder::next_request, encode_request);
    check(stream, piece, Decoder::next_report, encode_report);
}

fn check<T: std::fmt::Debug + PartialEq>(
    stream: &[u8],
    piece: usize,
    next: impl Fn(&mut Decoder) -> Result<Option<T>, Malformed>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let (whole, peak) = meter::peak(|| hear(stream, stream.len().max(1), &next));
    meter::assert_modest(peak, stream);
    let pieces = hear(stream, piece, &next);
    assert_eq!(whole, pieces, "the size of the pieces made a difference");
    let again: Vec<u8> = whole.frames.iter().flat_map(encode).collect();
    assert!(stream.starts_with(&again), "a frame has two forms");
    if whole.end == Ok(true) {
        assert_eq!(again.len(), stream.len(), "bytes were left out");
    }
    // More may come only while a frame within its bounds is not complete.
    if whole.end == Ok(false) {
        assert!(stream.len() - again.len() < MAX_FRAME_BYTES + 4);
    }
}

fn hear<T>(
    stream: &[u8],
    piece: usize,
    next: impl Fn(&mut Decoder) -> Result<Option<T>, Malformed>,
) -> Heard<T> {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for piece in stream.chunks(piece) {
        decoder.push(piece);
        loop {
            match next(&mut decoder) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(malformed) => {
                    let end = Err(malformed);
                    return Heard { frames, end };
                }
            }
        }
    }
    let end = Ok(decoder.is_at_frame_end());
    Heard { frames, end }
}

fn seeds() -> Vec<Vec<u8>> {
    let requests = requests().iter().map(encode_request).collect::<Vec<_>>();
    let reports = reports().iter().map(encode_report).collect::<Vec<_>>();
    let all = [requests.concat(), reports.concat()];
    let lengths = [
        0,
        1,
        2,
        MAX_FRAME_BYTES as u32,
        MAX_FRAME_BYTES as u32 + 1,
        u32::MAX,
    ]
    .map(|length| [&length.to_le_bytes()[..], &[2, 1, 0, 0]].concat());
    (requests
        .into_iter()
        .chain(reports)
        .chain(all)
        .chain(lengths))
    .zip((0..).step_by(37))
    .map(|(stream, piece): (_, usize)| [&[piece.to_le_bytes()[0]], stream.as_slice()].concat())
    .collect()
}

fn requests() -> Vec<Request> {
    let run = RunId {
        job: 7,
        task: 1,
        attempt: 2,
    };
    let placement = Placement {
        cores: vec![0, 3],
        gpus: vec![1],
    };
    let launch = launch::good().encode().unwrap();
    let signal = |signal| Request::Signal { run, signal };
    vec![
        Request::Launch {
            run,
            placement: placement.clone(),
            launch: launch.clone(),
        },
        Request::Admit {
            run,
            warrant: b"header.payload.signature".to_vec(),
            launch,
        },
        Request::Start { run, placement },
        Request::Revoke { run },
        signal(JobSignal::Cancel),
        signal(JobSignal::Kill),
        signal(JobSignal::Deliver(10)),
        Request::Watch {
            run,
            same_boot: true,
        },
        Request::Ping { run },
        Request::Of {
            stamp: Stamp {
                uid: 1001,
                job_sha256: [7; 32],
            },
            request: Box::new(Request::Watch {
                run,
                same_boot: false,
            }),
        },
        Request::Store {
            store: StoreId::new([8; 16]).unwrap(),
            adopt: true,
        },
    ]
}

fn reports() -> Vec<Report> {
    let run = RunId {
        job: 1,
        task: 0,
        attempt: 1,
    };
    let not_started = |errno, refusal| Report::NotStarted {
        run,
        errno,
        refusal,
    };
    vec![
        Report::Admitted { run },
        Report::Refused {
            run,
            refusal: Refusal::Hash,
        },
        Report::Started { run, started_us: 5 },
        Report::Ended {
            run,
            outcome: outcome(),
        },
        not_started(2, None),
        not_started(0, Some(Refusal::LostStart)),
        Report::Lost { run },
        Report::Pong { run },
        Report::Store {
            bond: Bond::Foreign(StoreId::new([8; 16]).unwrap()),
            highest_job: 9,
        },
    ]
}

pub(super) fn outcome() -> Outcome {
    Outcome {
        started_us: 1,
        ended_us: 2,
        wait_status: 256,
        cause: Cause::OutOfMemory,
        user_us: 3,
        system_us: 4,
        max_rss_bytes: 5,
        output_bytes: 6,
        dropped_bytes: 7,
        start_dir: StartDir::Home,
    }
}
