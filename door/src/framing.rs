//! Reading along where requests begin and end, to see which say their length
//! twice. The HTTP library settles such a request by one of the two and hides
//! the other; whoever stands in front may have settled it by the other one.
//! Source: RFC 9112 §6.3, §11.2.

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
    head: Head,
    /// Heads that were read to their end.
    heads: u64,
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
            head: Head::default(),
            heads: 0,
        }
    }

    /// Read on. Returns which request, counted from 1, says its length twice,
    /// if one of those whose head ended here does.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Option<u64> {
        let mut twice = None;
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Body(left) => self.skip(bytes, left, State::Body, State::Head),
                State::Chunk(left) => self.skip(bytes, left, State::Chunk, State::ChunkEnd),
                State::Lost => return twice,
                State::Head | State::Size | State::ChunkEnd | State::Trailer => {
                    let (rest, ended) = self.keep(bytes);
                    if ended && self.line_ended() {
                        twice = twice.or(Some(self.heads));
                    }
                    rest
                }
            };
        }
        twice
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
        let room = KEPT.saturating_sub(self.line.len());
        self.cut |= part.len() > room;
        self.line
            .extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
        (rest, end.is_some())
    }

    /// A line has ended; says whether it was the last one of a head that says
    /// its length twice.
    fn line_ended(&mut self) -> bool {
        let mut line = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.cut);
        if !cut && line.last() == Some(&b'\r') {
            line.pop();
        }
        let twice = match self.state {
            State::Head if !line.is_empty() => {
                self.head_line(&line, cut);
                false
            }
            State::Head => self.head_ended(),
            State::Size => {
                self.state = match size(&line) {
                    Some(0) => State::Trailer,
                    Some(size) => State::Chunk(size),
                    None => State::Lost,
                };
                false
            }
            State::ChunkEnd => {
                self.state = State::Size;
                false
            }
            State::Trailer => {
                if line.is_empty() {
                    self.state = State::Head;
                }
                false
            }
            State::Body(_) | State::Chunk(_) | State::Lost => false,
        };
        line.clear();
        self.line = line;
        twice
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

    fn head_ended(&mut self) -> bool {
        // Empty lines before a request are none of it. Source: RFC 9112 §2.2.
        if !self.head.begun {
            return false;
        }
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        self.state = match (head.chunked, head.lengths, head.length) {
            (true, ..) => State::Size,
            (false, 0, _) | (false, _, Some(0)) => State::Head,
            (false, _, Some(length)) => State::Body(length),
            (false, _, None) => State::Lost,
        };
        head.lengths > 1 || (head.lengths > 0 && head.chunked)
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
}
