//! Lines from pieces, against lines from the whole.

use std::collections::HashMap;

use super::*;

const LINE: usize = 1 << 20;

/// What was written, in order: a rank, its stream, bytes.
type Wrote<'a> = (u16, Stream, &'a [u8]);

/// The files of a run that wrote this.
fn files(dir: &Path, wrote: &[Wrote<'_>]) -> OutputFiles {
    let (mut data, mut index) = (Vec::new(), Vec::new());
    for (rank, stream, bytes) in wrote {
        let entry = Entry {
            offset: data.len() as u64,
            time_us: 1,
            len: u32::try_from(bytes.len()).unwrap(),
            rank: *rank,
            stream: *stream,
        };
        data.extend_from_slice(bytes);
        index.extend_from_slice(&entry.encode());
    }
    let files = OutputFiles {
        data: dir.join("data"),
        index: dir.join("index"),
    };
    std::fs::write(&files.data, data).unwrap();
    std::fs::write(&files.index, index).unwrap();
    files
}

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<String>,
    begun: Option<String>,
    bytes: usize,
}

impl Sink for Seen {
    fn text(&mut self, text: &str) {
        self.bytes += text.len();
        self.begun.get_or_insert_default().push_str(text);
    }

    fn end_line(&mut self) {
        self.lines.extend(self.begun.take());
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The lines, read with pauses after every `most` bytes.
async fn read(files: OutputFiles, most: usize) -> Vec<String> {
    let mut lines = Lines::open(Disk::new(), files).await.unwrap().unwrap();
    let mut seen = Seen::default();
    loop {
        seen.bytes = 0;
        let (now, more) = lines.read(seen, most).await.unwrap();
        seen = now;
        if !more {
            assert_eq!(seen.begun, None, "a line has no end");
            return seen.lines;
        }
    }
}

/// The same lines, made the simple way.
fn expected(wrote: &[Wrote<'_>]) -> Vec<String> {
    let mut open: HashMap<(u16, u8), Vec<u8>> = HashMap::new();
    let (mut order, mut lines) = (Vec::new(), Vec::new());
    for (rank, stream, bytes) in wrote {
        let source = (*rank, *stream as u8);
        let line = open.entry(source).or_insert_with(|| {
            order.push(source);
            Vec::new()
        });
        for byte in *bytes {
            line.push(*byte);
            if *byte == b'\n' {
                lines.push(String::from_utf8_lossy(line).into_owned());
                line.clear();
            } else if line.len() == LINE {
                let rest = line.split_off(LINE - text::begun(line));
                lines.push(String::from_utf8_lossy(line).into_owned());
                *line = rest;
            }
        }
    }
    let rest = order.iter().map(|source| &open[source]);
    let rest = rest.filter(|line| !line.is_empty());
    lines.extend(rest.map(|line| String::from_utf8_lossy(line).into_owned()));
    lines
}

async fn check(wrote: &[Wrote<'_>]) {
    let dir = tempfile::tempdir().unwrap();
    for most in [1, 100, 64 * 1024, usize::MAX] {
        let lines = read(files(dir.path(), wrote), most).await;
        assert!(lines == expected(wrote), "{most}: {lines:.200?}");
    }
}

#[tokio::test]
async fn lines_of_several_sources_come_in_the_order_in_which_they_end() {
    use Stream::{Stderr, Stdout};
    check(&[
        (0, Stdout, b"one\ntw"),
        (0, Stderr, b"err"),
        (1, Stdout, b"\n\nother\n"),
        (0, Stdout, b"o\nthree"),
        (2, Stdout, b""),
        (0, Stderr, b"or\nrest of stderr"),
        (0, Stdout, b" and no end"),
    ])
    .await;
}

#[tokio::test]
async fn t128_lines_are_whole_wherever_pieces_end() {
    let text: String = (0..40_000).map(|n| format!("line {n} ä€🥞\n")).collect();
    let other = [b"\xff\xe2\x82 ".repeat(50_000), b"\n".repeat(200_000)].concat();
    for size in [7, 1000, 65_537, 1 << 20] {
        let wrote: Vec<Wrote<'_>> = text
            .as_bytes()
            .chunks(size * 3)
            .zip(other.chunks(size))
            .flat_map(|(a, b)| [(0, Stream::Stdout, a), (1, Stream::Stderr, b)])
            .collect();
        // So many stretches that it takes long, where they are very short.
        check(wrote.get(..5000).unwrap_or(&wrote)).await;
    }
}

#[tokio::test]
async fn a_long_line_is_cut_between_two_characters() {
    for before in 0..4 {
        let line = ["x".repeat(before), "🥞".repeat(LINE / 2)].concat();
        let wrote = [(0, Stream::Stdout, line.as_bytes())];
        check(&wrote).await;
        let lines = expected(&wrote);
        assert!(lines.iter().all(|line| !line.contains('\u{fffd}')));
        assert_eq!(lines.concat(), line);
        // The character at the cut comes in parts, with others between them.
        let (head, tail) = line.as_bytes().split_at(LINE - 2);
        let (first, last) = tail.split_at(3);
        let wrote: Vec<Wrote<'_>> = vec![
            (0, Stream::Stdout, head),
            (1, Stream::Stdout, b"between\n"),
            (0, Stream::Stdout, &first[..1]),
            (0, Stream::Stderr, b"them"),
            (0, Stream::Stdout, &first[1..]),
            (1, Stream::Stdout, b"again"),
            (0, Stream::Stdout, last),
        ];
        check(&wrote).await;
    }
    // No character is whole at the cut, and none becomes whole.
    check(&[(0, Stream::Stdout, &b"\xe2".repeat(LINE + 5))]).await;
    check(&[(
        0,
        Stream::Stdout,
        &[b"x".repeat(LINE - 1), b"\xe2".to_vec()].concat(),
    )])
    .await;
    check(&[(
        0,
        Stream::Stdout,
        &[b"x".repeat(LINE - 1), b"\n\n".to_vec()].concat(),
    )])
    .await;
    check(&[(
        0,
        Stream::Stdout,
        &[b"x".repeat(LINE), b"\n".to_vec()].concat(),
    )])
    .await;
}

#[tokio::test]
async fn what_is_written_after_the_first_look_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = [(0, Stream::Stdout, &b"first\nsec"[..])];
    let files_now = files(dir.path(), &first);
    let mut lines = Lines::open(Disk::new(), files_now).await.unwrap().unwrap();
    files(
        dir.path(),
        &[
            (0, Stream::Stdout, b"first\nsecond\n"),
            (1, Stream::Stdout, b"third\n"),
        ],
    );
    let (seen, more) = lines.read(Seen::default(), usize::MAX).await.unwrap();
    assert_eq!(
        (seen.lines, more),
        (vec!["first\n".into(), "sec".into()], false)
    );
}

#[tokio::test]
async fn an_index_that_is_broken_is_an_error_and_no_endless_loop() {
    let dir = tempfile::tempdir().unwrap();
    let wrote = [
        (0, Stream::Stdout, &b"first\n"[..]),
        (1, Stream::Stdout, b"second\n"),
    ];
    let broken = files(dir.path(), &wrote);
    let short = std::fs::read(&broken.data).unwrap();
    std::fs::write(&broken.data, &short[..8]).unwrap();
    let mut lines = Lines::open(Disk::new(), broken.clone())
        .await
        .unwrap()
        .unwrap();
    assert!(lines.read(Seen::default(), usize::MAX).await.is_err());
    std::fs::write(&broken.data, short).unwrap();
    // The second stretch is said to begin later than it does.
    let mut index = std::fs::read(&broken.index).unwrap();
    index[24] += 1;
    std::fs::write(&broken.index, index).unwrap();
    let mut lines = Lines::open(Disk::new(), broken).await.unwrap().unwrap();
    assert!(lines.read(Seen::default(), usize::MAX).await.is_err());
}

#[test]
fn one_stream_is_read_without_the_other_from_any_byte_on() {
    let dir = tempfile::tempdir().unwrap();
    let long = vec![b'x'; CHUNK + 7];
    let wrote: [Wrote<'_>; 6] = [
        (0, Stream::Stderr, b"e1 "),
        (0, Stream::Stdout, b"o1 "),
        (1, Stream::Stdout, &long),
        (0, Stream::Stderr, b"e2 "),
        (0, Stream::Stderr, b""),
        (1, Stream::Stderr, b"e3"),
    ];
    let files = files(dir.path(), &wrote);
    for stream in [Stream::Stdout, Stream::Stderr] {
        let of_it = wrote.iter().filter(|(_, of, _)| *of == stream);
        let whole: Vec<u8> = of_it.flat_map(|(_, _, bytes)| bytes.to_vec()).collect();
        for skip in [0, 1, 3, 4, whole.len() - 1, whole.len(), whole.len() + 9] {
            let (mut read, mut place) = (Vec::new(), Picked::new(stream, skip as u64));
            loop {
                let piece = place.read(&files).unwrap();
                assert!(piece.bytes.len() <= CHUNK);
                read.extend(piece.bytes);
                place = piece.place;
                if !piece.more {
                    break;
                }
            }
            let left = whole.get(skip..).unwrap_or_default();
            assert_eq!(read, left, "{stream:?} from {skip}");
        }
    }
}

#[test]
fn a_stream_goes_on_where_its_last_stretch_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Picked::new(Stream::Stdout, 0);
    let mut read = Vec::new();
    let grown: [&[Wrote<'_>]; 6] = [
        &[],
        &[(0, Stream::Stdout, b"ab")],
        &[(0, Stream::Stdout, b"abcd")],
        &[(0, Stream::Stdout, b"abcd"), (0, Stream::Stderr, b"!")],
        &[(0, Stream::Stdout, b"abcd"), (0, Stream::Stderr, b"!!")],
        &[
            (0, Stream::Stdout, b"abcd"),
            (0, Stream::Stderr, b"!!"),
            (0, Stream::Stdout, b"ef"),
        ],
    ];
    for wrote in grown {
        let piece = place.read(&files(dir.path(), wrote)).unwrap();
        read.extend(piece.bytes);
        place = piece.place;
    }
    assert_eq!(read, b"abcdef");
}
