//! Text from bytes that come in pieces.

use std::borrow::Cow;

/// What stands for bytes that are no UTF-8.
const REPLACEMENT: &str = "\u{fffd}";
/// The most bytes that begin a character and are not all of it.
const BEGUN: usize = 3;

/// How many bytes at the end begin a character whose other bytes are not there:
/// 0 to 3.
pub(super) fn begun(bytes: &[u8]) -> usize {
    let mut tails = (1..=BEGUN).filter(|count| {
        let at = bytes.len().checked_sub(*count);
        at.and_then(|at| bytes.get(at..)).is_some_and(is_begun)
    });
    tails.next_back().unwrap_or(0)
}

/// Whether these bytes are the beginning of one character, and not all of it.
fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
}

/// Makes text of bytes that come in pieces, whatever the pieces are: what
/// `String::from_utf8_lossy` makes of them all.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a character.
    held: Vec<u8>,
}

impl Decoder {
    /// How many bytes wait for the rest of their character.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Give the text of `bytes`, as far as its characters are whole.
    pub(super) fn push(&mut self, bytes: &[u8], mut give: impl FnMut(&str)) {
        let bytes = if self.held.is_empty() {
            Cow::Borrowed(bytes)
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(bytes);
            Cow::Owned(joined)
        };
        let (whole, rest) = bytes.split_at(bytes.len() - begun(&bytes));
        for chunk in whole.utf8_chunks() {
            if !chunk.valid().is_empty() {
                give(chunk.valid());
            }
            if !chunk.invalid().is_empty() {
                give(REPLACEMENT);
            }
        }
        self.held = rest.to_vec();
    }

    /// Give what stands for a character that will not become whole.
    pub(super) fn end(&mut self, mut give: impl FnMut(&str)) {
        if !std::mem::take(&mut self.held).is_empty() {
            give(REPLACEMENT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [&[u8]; 8] = [
        "pancakes \u{1f95e}\u{fe0f} ä€\u{10ffff}".as_bytes(),
        b"a\xffb\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\xa5\xf0\x9f\xa5\x9e",
        b"\x80\x80\xe2\x28\xa1\xed\xa0\x80",
        b"\xf4\x90\x80\x80\xc0\xaf\xe2\x82a\xe2",
        b"",
        b"\0\n\x7f",
    ];

    #[test]
    fn text_in_pieces_is_the_text_of_the_whole() {
        for sample in SAMPLES {
            for size in 1..=sample.len().max(1) {
                let (mut text, mut decoder) = (String::new(), Decoder::default());
                for piece in sample.chunks(size) {
                    decoder.push(piece, |t| text.push_str(t));
                    assert!(decoder.held() <= BEGUN);
                }
                decoder.end(|t| text.push_str(t));
                assert_eq!(
                    text,
                    String::from_utf8_lossy(sample),
                    "{sample:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn a_character_that_is_not_whole_is_seen_at_the_end() {
        let bread = "🥞".as_bytes();
        for cut in 1..4 {
            assert_eq!(begun(&bread[..cut]), cut);
            assert_eq!(begun(&[b"flour", &bread[..cut]].concat()), cut);
        }
        for whole in [
            &b""[..],
            b"a",
            bread,
            b"\x82",
            b"\xff",
            b"\xc0",
            b"\xed\xa0",
        ] {
            assert_eq!(begun(whole), 0, "{whole:?}");
        }
    }
}
