//! Reading along where requests begin and end, to see which say their length
//! twice, or end a line without a carriage return. The HTTP library settles
//! such a request in one way and hides that there was another; a proxy in front
//! may have settled it in the other one. Source: RFC 9112 §2.2, §6.3, §11.2.

/// As much of a line as is kept: more than any length takes.
const KEPT: usize = 64;

/// Reads along with one connection's requests.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// The beginning of the present line.
    line: Vec<u8>,
    /// Whether the line is longer than what is kept of it.
    cut: bool,
    /// Whether the last byte of the line is a carriage return.
    returned: bool,
    head: Head,
    /// Heads that were read to their end.
    heads: u64,
}

/// What makes the head of a request ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It says its length twice.
    LengthTwice,
    /// A line of it ends in a line feed alone.
    BareLineFeed,
}

impl Flaw {
    /// The flaw, for the caller.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::LengthTwice => "The request says its length twice.",
            Self::BareLineFeed => "Each line of the request's head must end in CR LF.",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The lines of a head.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// The line with a chunk's size.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// The lines behind the last chunk.
    Trailer,
    /// Something that the HTTP library refuses.
    Lost,
}

/// What was seen of the present head.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    begun: bool,
    bare: bool,
    length: Option<u64>,
    lengths: u32,
    chunked: bool,
}

impl Framing {
    /// Nothing was read yet.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            line: Vec::with_capacity(KEPT),
            cut: false,
            returned: false,
            head: Head::default(),
            heads: 0,
        }
    }

    /// Read on. Returns the first request, counted from 1, whose head ended
    /// here and has a flaw.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Option<(u64, Flaw)> {
        let mut flawed = None;
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Body(left) => self.skip(bytes, left, State::Body, State::Head),
                State::Chunk(left) => self.skip(bytes, left, State::Chunk, State::ChunkEnd),
                State::Lost => return flawed,
                State::Head | State::Size | State::ChunkEnd | State::Trailer => {
                    let (rest, ended) = self.keep(bytes);
                    if ended && let Some(flaw) = self.line_ended() {
                        flawed = flawed.or(Some((self.heads, flaw)));
                    }
                    rest
                }
            };
        }
        flawed
    }

    /// How many heads were read to their end.
    pub(crate) const fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        self.state == State::Head && (self.head.begun || !self.line.is_empty())
    }

    /// Whether what comes next is a request.
    pub(crate) fn rests(&self) -> bool {
        self.state == State::Head && !self.in_head()
    }

    fn skip<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        more: fn(u64) -> State,
        then: State,
    ) -> &'a [u8] {
        let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left.saturating_sub(here as u64);
        self.state = if left == 0 { then } else { more(left) };
        bytes.get(here..).unwrap_or_default()
    }

    /// Take in the bytes up to the end of the line; returns what follows, and
    /// whether the line ended.
    fn keep<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], bool) {
        let end = memchr::memchr(b'\n', bytes);
        let (part, rest) = match end {
            Some(end) => (
                bytes.get(..end).unwrap_or_default(),
                bytes.get(end + 1..).unwrap_or_default(),
            ),
            None => (bytes, Default::default()),
        };
        if let Some(last) = part.last() {
            self.returned = *last == b'\r';
        }
        let room = KEPT.saturating_sub(self.line.len());
        self.cut |= part.len() > room;
        self.line
            .extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
        (rest, end.is_some())
    }

    /// A line has ended. Returns the flaw of the head that it was the last line
    /// of.
    fn line_ended(&mut self) -> Option<Flaw> {
        let mut line = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.cut);
        let returned = std::mem::take(&mut self.returned);
        if self.state == State::Head && (self.head.begun || !line.is_empty()) {
            self.head.bare |= !returned;
        }
        if !cut && line.last() == Some(&b'\r') {
            line.pop();
        }
        let flaw = match self.state {
            State::Head if !line.is_empty() => {
                self.head_line(&line, cut);
                None
            }
            State::Head => self.head_ended(),
            State::Size => {
                self.state = match size(&line) {
                    Some(0) => State::Trailer,
                    Some(size) => State::Chunk(size),
                    None => State::Lost,
                };
                None
            }
            State::ChunkEnd => {
                self.state = State::Size;
                None
            }
            State::Trailer => {
                if line.is_empty() {
                    self.state = State::Head;
                }
                None
            }
            State::Body(_) | State::Chunk(_) | State::Lost => None,
        };
        line.clear();
        self.line = line;
        flaw
    }

    fn head_line(&mut self, line: &[u8], cut: bool) {
        if !std::mem::replace(&mut self.head.begun, true) {
            return; // The request line.
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.head.lengths += 1;
            let value = std::str::from_utf8(value).ok().filter(|_| !cut);
            self.head.length = value.and_then(|value| value.parse().ok());
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.chunked = true;
        }
    }

    fn head_ended(&mut self) -> Option<Flaw> {
        // Empty lines before a request are none of it. Source: RFC 9112 §2.2.
        if !self.head.begun {
            return None;
        }
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        self.state = match (head.chunked, head.lengths, head.length) {
            (true, ..) => State::Size,
            (false, 0, _) | (false, _, Some(0)) => State::Head,
            (false, _, Some(length)) => State::Body(length),
            (false, _, None) => State::Lost,
        };
        if head.lengths > 1 || (head.lengths > 0 && head.chunked) {
            return Some(Flaw::LengthTwice);
        }
        head.bare.then_some(Flaw::BareLineFeed)
    }
}

/// The size of a chunk. Source: RFC 9112 §7.1.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let text = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which requests of `text` say their length twice, read in pieces.
    fn twice(text: &str) -> Vec<u64> {
        let flawed = flawed(text).into_iter();
        let twice = flawed.filter(|(_, flaw)| *flaw == Flaw::LengthTwice);
        twice.map(|(request, _)| request).collect()
    }

    fn flawed(text: &str) -> Vec<(u64, Flaw)> {
        let all = |piece: usize| {
            let mut framing = Framing::new();
            let found = text.as_bytes().chunks(piece);
            found
                .filter_map(|piece| framing.read(piece))
                .collect::<Vec<_>>()
        };
        let found = all(1);
        assert_eq!(all(7).first(), found.first());
        assert_eq!(all(text.len()).first(), found.first());
        found
    }

    #[test]
    fn t111_a_request_that_says_its_length_once_passes() {
        for text in [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ] {
            assert_eq!(twice(text), [0_u64; 0], "{text:?}");
        }
    }

    #[test]
    fn t111_one_that_says_it_twice_is_found_wherever_it_stands() {
        let both = "POST / HTTP/1.1\r\nContent-length : 3\r\nContent-Length: 3\r\n\
                    TRANSFER-ENCODING: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(twice(both), [1]);
        let same = "POST / HTTP/1.1\nContent-Length: 3\ncontent-length: 3\n\nabc";
        assert_eq!(twice(same), [1]);
        let plain = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
        assert_eq!(twice(&format!("\r\n{plain}{plain}{both}")), [3]);
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                       5;x=y\r\na\r\n\r\n\r\n0\r\nTrailer: x\r\n\r\n";
        assert_eq!(twice(&format!("{chunked}{both}{plain}")), [2]);
    }

    #[test]
    fn t111_what_stands_in_a_body_is_no_head() {
        let inner = "\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{inner}GET / HTTP/1.1\r\n\r\n",
            inner.len()
        );
        assert_eq!(twice(&text), [0_u64; 0]);
    }

    #[test]
    fn t111_a_line_without_its_carriage_return_is_found() {
        let bare = |request| vec![(request, Flaw::BareLineFeed)];
        let long = "x".repeat(3 * KEPT);
        for (text, found) in [
            ("GET / HTTP/1.1\nHost: x\r\n\r\n", bare(1)),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", bare(1)),
            ("GET / HTTP/1.1\r\nHost: x\r\n\n", bare(1)),
            (&format!("GET /{long} HTTP/1.1\nHost: x\r\n\r\n"), bare(1)),
            (
                &format!("GET /{long} HTTP/1.1\r\nX: {long}\r\n\r\n"),
                vec![],
            ),
            ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\n\n", bare(2)),
            ("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\na\nb\n", vec![]),
        ] {
            assert_eq!(flawed(text), found, "{text:.80}");
        }
    }
}
