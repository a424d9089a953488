//! What may reach a person's terminal. Names and output of jobs are written
//! by others, and a terminal obeys what it is sent.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// How to write to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Somebody is looking; otherwise a program is reading.
    pub(crate) terminal: bool,
    /// Colours are welcome.
    pub(crate) colour: bool,
    /// Columns of a line; as many as there may be where no terminal says.
    pub(crate) width: usize,
}

impl Look {
    /// For a program that reads.
    #[cfg(test)]
    pub(crate) const PIPED: Self = Self {
        terminal: false,
        colour: false,
        width: usize::MAX,
    };

    /// As standard output and the environment ask. Source: no-color.org.
    pub(crate) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            terminal,
            colour: terminal && !unwanted,
            width: terminal
                .then(terminal_size::terminal_size)
                .flatten()
                .map_or(usize::MAX, |(width, _)| usize::from(width.0)),
        }
    }
}

/// Print one line to standard error, the program's name first.
pub(crate) fn complain(message: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr(), "warrant: {message}");
}

/// Print something to standard error that is no complaint.
pub(crate) fn tell(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Print one line to standard output.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(Failure::of_output)
}

/// Text with everything that a terminal would act upon spelled out: control
/// characters, and the invisible ones that reorder or hide text.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_treacherous(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn is_treacherous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A JSON document for a terminal: the same document, with the characters
/// that JSON allows but a terminal would act upon written as escapes. (Below
/// U+0020 JSON leaves nothing but white space between tokens.)
pub(crate) fn visible_json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for character in document.chars() {
        if is_treacherous(character) && !matches!(character, '\n' | '\r' | '\t') {
            // Every such character is in the first plane: four digits do.
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Lets the output of a job through to a terminal: text, line ends, tabs and
/// colours (SGR). Every other escape sequence is dropped, titles, clipboard
/// writes and cursor movement among them. Source: ECMA-48.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    state: State,
    /// The parameters of the control sequence being read.
    parameters: String,
    /// The beginning of a character that the next piece completes.
    cut: Vec<u8>,
    /// A colour was let through, so that the end must undo it.
    coloured: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate character.
    Intermediate,
    /// In a control sequence (`ESC [`).
    Control,
    /// In a string (a title, the clipboard, a device), until its terminator.
    Hidden,
}

/// Longest colour sequence let through, in characters.
const MAX_PARAMETERS: usize = 64;

impl Filter {
    /// What to show for the next piece of output.
    pub(crate) fn pass(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(piece);
        let mut shown = String::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    text.chars().for_each(|c| self.take(c, &mut shown));
                    return shown;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    String::from_utf8_lossy(good)
                        .chars()
                        .for_each(|c| self.take(c, &mut shown));
                    let Some(length) = error.error_len() else {
                        self.cut = bad.to_vec();
                        return shown;
                    };
                    self.take(char::REPLACEMENT_CHARACTER, &mut shown);
                    rest = bad.get(length..).unwrap_or_default();
                }
            }
        }
    }

    /// What to show when the output has ended.
    pub(crate) fn finish(&mut self) -> &'static str {
        if self.coloured { "\x1b[0m" } else { "" }
    }

    fn take(&mut self, character: char, shown: &mut String) {
        self.state = match self.state {
            State::Text => self.text(character, shown),
            State::Escape => match character {
                '[' => self.begin_control(),
                ']' | 'P' | 'X' | '^' | '_' => State::Hidden,
                ' '..='/' => State::Intermediate,
                '0'..='~' => State::Text,
                _ => self.text(character, shown),
            },
            State::Intermediate => match character {
                ' '..='/' => State::Intermediate,
                '0'..='~' => State::Text,
                _ => self.text(character, shown),
            },
            State::Control => match character {
                ' '..='?' => {
                    if self.parameters.len() < MAX_PARAMETERS {
                        self.parameters.push(character);
                    } else {
                        // Too long for a colour: an unfit mark drops it.
                        self.parameters.replace_range(.., "?");
                    }
                    State::Control
                }
                'm' => {
                    let fit = |c: char| c.is_ascii_digit() || matches!(c, ';' | ':');
                    if self.parameters.chars().all(fit) {
                        shown.push_str("\x1b[");
                        shown.push_str(&self.parameters);
                        shown.push('m');
                        self.coloured = true;
                    }
                    State::Text
                }
                '@'..='~' => State::Text,
                _ => self.text(character, shown),
            },
            State::Hidden => match character {
                '\u{1b}' => State::Escape,
                '\u{07}' | '\u{18}' | '\u{1a}' | '\u{9c}' => State::Text,
                // An unfinished string must not swallow the lines after it.
                '\n' => self.text(character, shown),
                _ => State::Hidden,
            },
        };
    }

    fn text(&mut self, character: char, shown: &mut String) -> State {
        match character {
            '\u{1b}' => return State::Escape,
            '\u{9b}' => return self.begin_control(),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => return State::Hidden,
            '\t' | '\n' | '\r' => shown.push(character),
            _ if character.is_control() => {}
            _ => shown.push(character),
        }
        State::Text
    }

    fn begin_control(&mut self) -> State {
        self.parameters.clear();
        State::Control
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(output: &[u8]) -> String {
        let mut filter = Filter::default();
        let mut shown = filter.pass(output);
        shown.push_str(filter.finish());
        shown
    }

    #[test]
    fn control_characters_in_a_name_are_spelled_out() {
        assert_eq!(
            visible("a\x1b]0;x\x07\tb\u{9b}\u{202e}"),
            "a\\u{1b}]0;x\\u{7}\\tb\\u{9b}\\u{202e}"
        );
        assert!(matches!(visible("näive 名前"), Cow::Borrowed("näive 名前")));
    }

    #[test]
    fn a_json_document_stays_the_same_document() {
        let document = "{\"name\":\t\"a\u{9b}31m\u{202e}\u{7f}\u{feff}é\"}\n";
        let shown = visible_json(document);
        assert!(
            !shown
                .chars()
                .any(|c| is_treacherous(c) && !c.is_whitespace())
        );
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&shown), parse(document));
    }

    #[test]
    fn text_lines_and_colours_pass() {
        assert_eq!(filtered(b"a\tb\r\nc"), "a\tb\r\nc");
        assert_eq!(
            filtered("\x1b[1;31mröd\x1b[m\x1b[38:5:7mx".as_bytes()),
            "\x1b[1;31mröd\x1b[m\x1b[38:5:7mx\x1b[0m"
        );
    }

    #[test]
    fn titles_clipboards_and_cursor_movements_are_dropped() {
        for hostile in [
            "\x1b]0;title\x07",
            "\x1b]52;c;ZXZpbA==\x1b\\",
            "\x1bP1$r\x1b\\",
            "\x1b_apc\u{9c}",
            "\x1b[2J",
            "\x1b[?1049h",
            "\x1b[6n",
            "\x1b[>4;1m",
            "\x1b[1 q",
            "\x1bc",
            "\x1b(0",
            "\u{9b}2J",
            "\u{9d}0;t\u{9c}",
            "\x07\x08\x00\x7f\u{85}",
            "\x1b\x1b[2J",
            "\x1b]0;a\x1b[2J",
        ] {
            assert_eq!(
                filtered(format!("a{hostile}b").as_bytes()),
                "ab",
                "{hostile:?}"
            );
        }
    }

    #[test]
    fn an_endless_colour_sequence_is_dropped() {
        let long = format!("\x1b[{}mx", "1;".repeat(1000));
        assert_eq!(filtered(long.as_bytes()), "x");
    }

    #[test]
    fn an_unfinished_title_hides_no_further_line() {
        assert_eq!(filtered(b"\x1b]0;open\nnext"), "\nnext");
    }

    #[test]
    fn where_the_output_is_cut_makes_no_difference() {
        let output = "ä\x1b[31m\x1b]0;ü\x07€😀\x1b[0m".as_bytes();
        let whole = Filter::default().pass(output);
        for at in 0..output.len() {
            let mut filter = Filter::default();
            let (first, second) = output.split_at(at);
            let pieces = filter.pass(first) + &filter.pass(second);
            assert_eq!(pieces, whole, "cut at {at}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(filtered(b"a\xff\x9b2Jb"), "a\u{fffd}\u{fffd}2Jb");
    }
}
