//! Rows and columns: aligned and coloured for a person, tab-separated and
//! without a heading for a program.

use std::io::{self, Write};

use crate::failure::Failure;
use crate::terminal::{Look, visible};

/// The colour of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As the terminal has it.
    Plain,
    /// Headings.
    Bold,
    /// Something is going on.
    Blue,
    /// It went well.
    Green,
    /// It went wrong.
    Red,
    /// It was ended from outside.
    Yellow,
}

impl Paint {
    /// The parameter of the SGR sequence. Source: ECMA-48 §8.3.117.
    fn code(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Bold => 1,
            Self::Blue => 34,
            Self::Green => 32,
            Self::Red => 31,
            Self::Yellow => 33,
        }
    }
}

/// One cell. Its text may be anything: it is made harmless when written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// Text in a colour.
    pub(crate) fn painted(text: impl Into<String>, paint: Paint) -> Self {
        let text = text.into();
        Self { text, paint }
    }

    /// Whether there is nothing to see.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::painted(text, Paint::Plain)
    }
}

/// Longest cell on a terminal, in characters; the rest shows as an ellipsis.
const MAX_WIDTH: usize = 60;

/// Print rows to standard output; `heading` may be empty.
pub(crate) fn print(heading: &[&str], rows: Vec<Vec<Cell>>, look: Look) -> Result<(), Failure> {
    let text = render(heading, rows, look);
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::of_output)
}

fn render(heading: &[&str], mut rows: Vec<Vec<Cell>>, look: Look) -> String {
    for cell in rows.iter_mut().flatten() {
        cell.text = visible(&cell.text).into_owned();
    }
    if !look.terminal {
        return rows.iter().map(|row| separated(row)).collect();
    }
    for cell in rows.iter_mut().flatten() {
        shorten(&mut cell.text);
    }
    if !heading.is_empty() {
        let bold = |name: &&str| Cell::painted(*name, Paint::Bold);
        rows.insert(0, heading.iter().map(bold).collect());
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let width = |row: &Vec<Cell>| row.get(column).map(|cell| cell.text.chars().count());
            rows.iter().filter_map(width).max().unwrap_or(0)
        })
        .collect();
    rows.iter().map(|row| aligned(row, &widths, look)).collect()
}

fn separated(row: &[Cell]) -> String {
    let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
    texts.join("\t") + "\n"
}

fn aligned(row: &[Cell], widths: &[usize], look: Look) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        let padding = " ".repeat(width.saturating_sub(cell.text.chars().count()) + 2);
        if look.colour && cell.paint != Paint::Plain {
            line += &format!("\x1b[{}m{}\x1b[0m{padding}", cell.paint.code(), cell.text);
        } else {
            line += &cell.text;
            line += &padding;
        }
    }
    line.truncate(line.trim_end_matches(' ').len());
    line + "\n"
}

fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_WIDTH - 1)
        && text.chars().count() > MAX_WIDTH
    {
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec!["1".into(), Cell::painted("failed", Paint::Red), "a".into()],
            vec!["1000".into(), "ok".into(), "".into()],
        ]
    }

    #[test]
    fn a_person_gets_a_heading_and_aligned_columns() {
        let look = Look {
            terminal: true,
            colour: false,
        };
        assert_eq!(
            render(&["ID", "STATE", "NAME"], rows(), look),
            "ID    STATE   NAME\n1     failed  a\n1000  ok\n"
        );
    }

    #[test]
    fn colours_do_not_disturb_the_alignment() {
        let look = Look {
            terminal: true,
            colour: true,
        };
        assert_eq!(
            render(&[], rows(), look),
            "1     \x1b[31mfailed\x1b[0m  a\n1000  ok\n"
        );
    }

    #[test]
    fn a_program_gets_tabs_and_no_heading() {
        assert_eq!(
            render(&["ID", "STATE", "NAME"], rows(), Look::PIPED),
            "1\tfailed\ta\n1000\tok\t\n"
        );
    }

    #[test]
    fn a_hostile_name_breaks_neither_rows_nor_columns() {
        let rows = vec![vec!["x\ty\n\x1b[2J".into(), "z".into()]];
        assert_eq!(render(&[], rows, Look::PIPED), "x\\ty\\n\\u{1b}[2J\tz\n");
    }

    #[test]
    fn a_long_name_is_shortened_for_a_person_only() {
        let long = "é".repeat(70);
        let look = Look {
            terminal: true,
            colour: false,
        };
        let shown = render(&[], vec![vec![long.clone().into()]], look);
        assert_eq!(shown.trim_end().chars().count(), MAX_WIDTH);
        assert!(render(&[], vec![vec![long.clone().into()]], Look::PIPED).contains(&long));
    }
}
