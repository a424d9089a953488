//! Output as lines, each of one source, a piece at a time. A line is not kept
//! while it is not whole: what is remembered is where it begins, and it is read
//! from the file once its end is known. So a reader takes the same little
//! memory whatever the job wrote.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;

use memchr::memchr;

use super::index::{Extent, Index, Source};
use super::text::Decoder;
use super::{CHUNK, Disk, open};
use crate::engine::OutputFiles;

/// The longest line given whole, in bytes; a longer one is cut there, between
/// two characters.
const LINE: u64 = 1 << 20;
/// The most stretches and pieces looked at in one turn: a turn has an end also
/// where it finds nothing to give.
const TURN: usize = 4096;

/// What takes lines.
pub trait Sink: Send + 'static {
    /// More text of the line.
    fn text(&mut self, text: &str);
    /// The line is complete, with its newline where it has one.
    fn end_line(&mut self);
    /// How many bytes there are by now.
    fn bytes(&self) -> usize;
}

/// The lines that a job had written at one moment.
#[derive(Debug)]
pub struct Lines {
    disk: Disk,
    /// `None` once all was given.
    walk: Option<Walk>,
}

impl Lines {
    /// The lines there are now; `None` where there are none.
    pub(super) async fn open(disk: Disk, files: OutputFiles) -> crate::error::Result<Option<Self>> {
        let look = move || {
            let (Some(_), Some(index)) = (open(&files.data)?, open(&files.index)?) else {
                return Ok(None);
            };
            let extent = Extent::now(&index)?;
            Ok(extent.map(|extent| Walk::new(files, extent)))
        };
        let walk = disk.read(look).await?;
        Ok(walk.map(|walk| Self {
            disk,
            walk: Some(walk),
        }))
    }

    /// Have `sink` take lines until it has `most` bytes, or for a turn. Returns
    /// it, and whether there is more.
    ///
    /// Errors: the output cannot be read.
    pub async fn read<T: Sink>(
        &mut self,
        mut sink: T,
        most: usize,
    ) -> crate::error::Result<(T, bool)> {
        let Some(mut walk) = self.walk.take() else {
            return Ok((sink, false));
        };
        let turn = move || {
            let more = walk.turn(&mut sink, most)?;
            Ok((more.then_some(walk), sink))
        };
        let (walk, sink) = self.disk.read(turn).await?;
        let more = walk.is_some();
        self.walk = walk;
        Ok((sink, more))
    }
}

/// A place in the output, and the number of the stretch that it is in.
#[derive(Debug, Clone, Copy)]
struct Place {
    stretch: u64,
    offset: u64,
}

/// A line of one source whose end is not known yet; with no bytes where no line
/// has begun.
#[derive(Debug, Clone, Copy)]
struct Begun {
    from: Place,
    bytes: u64,
}

impl Begun {
    const fn nothing(from: Place) -> Self {
        Self { from, bytes: 0 }
    }
}

/// A line that is being given.
#[derive(Debug)]
struct Given {
    source: Source,
    next: Place,
    /// Bytes to come.
    left: u64,
    /// Whether it is cut: the line goes on as another.
    is_cut: bool,
    decoder: Decoder,
    /// Where the bytes begin that the decoder holds.
    held_from: Place,
}

/// A walk through the output.
#[derive(Debug)]
struct Walk {
    files: OutputFiles,
    extent: Extent,
    /// What was looked at.
    next: Place,
    begun: HashMap<Source, Begun>,
    /// All sources, in the order in which they first wrote.
    sources: Vec<Source>,
    /// Sources whose last line, without an end, was given.
    ended: usize,
    given: Option<Given>,
}

/// The files of a turn.
struct Open {
    data: File,
    index: Index,
    piece: Vec<u8>,
}

impl Open {
    /// Read `count` bytes at `offset`, at most what the piece holds.
    fn read(&mut self, offset: u64, count: u64) -> Result<&[u8]> {
        let count = usize::try_from(count).unwrap_or(CHUNK).min(CHUNK);
        self.piece.resize(count, 0);
        self.data.read_exact_at(&mut self.piece, offset)?;
        Ok(&self.piece)
    }
}

impl Walk {
    fn new(files: OutputFiles, extent: Extent) -> Self {
        Self {
            files,
            extent,
            next: Place {
                stretch: 0,
                offset: 0,
            },
            begun: HashMap::new(),
            sources: Vec::new(),
            ended: 0,
            given: None,
        }
    }

    /// Give some lines. Returns whether there are more.
    fn turn(&mut self, sink: &mut impl Sink, most: usize) -> Result<bool> {
        let gone = || Error::other("the output was removed");
        let mut files = Open {
            data: open(&self.files.data)?.ok_or_else(gone)?,
            index: Index::new(open(&self.files.index)?.ok_or_else(gone)?, self.extent),
            piece: Vec::with_capacity(CHUNK),
        };
        for _ in 0..TURN {
            if sink.bytes() >= most {
                break;
            }
            if let Some(given) = &mut self.given {
                if given.give(&mut files, sink)? {
                    self.done();
                }
            } else if self.next.offset < self.extent.bytes {
                self.scan(&mut files, sink, most)?;
            } else if !self.begin_last() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Look at the next piece: give the lines that are whole in it.
    fn scan(&mut self, files: &mut Open, sink: &mut impl Sink, most: usize) -> Result<()> {
        let stretch = files.index.stretch(self.next.stretch)?;
        if self.next.offset >= stretch.to {
            self.next.stretch += 1;
            return Ok(());
        }
        if self.next.offset < stretch.from {
            return Err(Error::other("the index leaves a part of the output out"));
        }
        let left = stretch.to - self.next.offset;
        let mut piece = files.read(self.next.offset, left)?;
        let is_end = piece.len() as u64 == left;
        let begun = self.begun.entry(stretch.source).or_insert_with(|| {
            self.sources.push(stretch.source);
            Begun::nothing(self.next)
        });
        while !piece.is_empty() && sink.bytes() < most {
            let from = if begun.bytes == 0 {
                self.next
            } else {
                begun.from
            };
            let room = usize::try_from(LINE - begun.bytes).unwrap_or(usize::MAX);
            let look = piece.get(..room).unwrap_or(piece);
            let end = memchr(b'\n', look).map(|at| at + 1);
            let count = end.unwrap_or(look.len());
            let (line, rest) = piece.split_at(count);
            let is_cut = end.is_none() && look.len() == room;
            if end.is_some() && begun.bytes == 0 {
                let mut decoder = Decoder::default();
                decoder.push(line, |text| sink.text(text));
                sink.end_line();
            } else if end.is_some() || is_cut {
                let bytes = begun.bytes + count as u64;
                self.given = Some(Given::new(stretch.source, from, bytes, is_cut));
                *begun = Begun::nothing(from);
                self.next.offset += count as u64;
                return Ok(());
            } else if begun.bytes == 0 && !is_end && line.len() < CHUNK {
                // It is read again from its beginning, and is whole then.
                return Ok(());
            } else {
                let bytes = begun.bytes + count as u64;
                *begun = Begun { from, bytes };
            }
            self.next.offset += count as u64;
            piece = rest;
        }
        Ok(())
    }

    /// The given line is over: where it was cut within a character, that one
    /// begins the next line.
    fn done(&mut self) {
        if let Some(given) = self.given.take()
            && given.decoder.held() > 0
        {
            let begun = Begun {
                from: given.held_from,
                bytes: given.decoder.held() as u64,
            };
            self.begun.insert(given.source, begun);
        }
    }

    /// Begin to give what a source wrote behind its last newline. Returns
    /// whether there is such a line.
    fn begin_last(&mut self) -> bool {
        while let Some(source) = self.sources.get(self.ended) {
            self.ended += 1;
            if let Some(begun) = self.begun.remove(source).filter(|it| it.bytes > 0) {
                self.given = Some(Given::new(*source, begun.from, begun.bytes, false));
                return true;
            }
        }
        false
    }
}

impl Given {
    fn new(source: Source, from: Place, bytes: u64, is_cut: bool) -> Self {
        Self {
            source,
            next: from,
            left: bytes,
            is_cut,
            decoder: Decoder::default(),
            held_from: from,
        }
    }

    /// Give the next piece of the line. Returns whether that was all.
    fn give(&mut self, files: &mut Open, sink: &mut impl Sink) -> Result<bool> {
        let stretch = files.index.stretch(self.next.stretch)?;
        let from = self.next.offset.max(stretch.from);
        if stretch.source != self.source || from >= stretch.to {
            self.next.stretch += 1;
            return Ok(false);
        }
        let piece = files.read(from, self.left.min(stretch.to - from))?;
        self.decoder.push(piece, |text| sink.text(text));
        let count = piece.len() as u64;
        self.left -= count;
        self.next.offset = from + count;
        let held = self.decoder.held() as u64;
        if held <= count {
            self.held_from = Place {
                stretch: self.next.stretch,
                offset: self.next.offset - held,
            };
        }
        if self.left > 0 {
            return Ok(false);
        }
        if !self.is_cut {
            self.decoder.end(|text| sink.text(text));
        }
        sink.end_line();
        Ok(true)
    }
}
