//! Rows and columns: aligned, coloured and as wide as the terminal for a
//! person, tab-separated and without a heading for a program.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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

/// Columns of a terminal between two cells.
const GAP: usize = 2;

/// The least that a shortened cell is given, in columns of a terminal.
const LEAST_WIDTH: usize = 8;

/// A column of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    name: &'static str,
    /// 0 stays; of the others the highest is left out first where a line has
    /// no room.
    expendable: u8,
}

impl Column {
    /// A column that is always shown.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            expendable: 0,
        }
    }

    /// A column that narrow terminals do not show: those of a higher `rank`
    /// are left out before those of a lower one.
    pub(crate) const fn expendable(name: &'static str, rank: u8) -> Self {
        Self {
            name,
            expendable: rank,
        }
    }
}

/// Print a list to standard output: a line for each row, no longer than the
/// terminal is wide; without a terminal every column, separated by tabs.
pub(crate) fn print(columns: &[Column], rows: Vec<Vec<Cell>>, look: Look) -> Result<(), Failure> {
    write(&list(columns, rows, look))
}

/// Print what is known of one thing to standard output, a label and a value
/// in each line. No value is shortened.
pub(crate) fn print_facts(rows: Vec<Vec<Cell>>, look: Look) -> Result<(), Failure> {
    write(&facts(rows, look))
}

fn write(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::of_output)
}

fn list(columns: &[Column], mut rows: Vec<Vec<Cell>>, look: Look) -> String {
    make_visible(&mut rows);
    if !look.terminal {
        return rows.iter().map(|row| separated(row)).collect();
    }
    let heading = |column: &Column| Cell::painted(column.name, Paint::Bold);
    rows.insert(0, columns.iter().map(heading).collect());
    let mut kept: Vec<Column> = columns.to_vec();
    while line_width(&widths(&rows)) > look.width && drop_one(&mut kept, &mut rows) {}
    narrow(&mut rows, look.width);
    let widths = widths(&rows);
    rows.iter().map(|row| aligned(row, &widths, look)).collect()
}

fn facts(mut rows: Vec<Vec<Cell>>, look: Look) -> String {
    make_visible(&mut rows);
    if !look.terminal {
        return rows.iter().map(|row| separated(row)).collect();
    }
    let widths = widths(&rows);
    rows.iter().map(|row| aligned(row, &widths, look)).collect()
}

fn make_visible(rows: &mut [Vec<Cell>]) {
    for cell in rows.iter_mut().flatten() {
        cell.text = visible(&cell.text).into_owned();
    }
}

/// The width of each column: that of its widest cell.
fn widths(rows: &[Vec<Cell>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.width()).max().unwrap_or(0)
    };
    (0..columns).map(width_of).collect()
}

fn line_width(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Leave out the most expendable column; `false` where none is.
fn drop_one(columns: &mut Vec<Column>, rows: &mut [Vec<Cell>]) -> bool {
    let ranked = columns.iter().enumerate().map(|(at, c)| (c.expendable, at));
    let Some((_, at)) = ranked.max().filter(|(rank, _)| *rank > 0) else {
        return false;
    };
    columns.remove(at);
    for row in rows.iter_mut().filter(|row| at < row.len()) {
        row.remove(at);
    }
    true
}

/// Shorten the cells of the widest column, so that a line fits.
fn narrow(rows: &mut [Vec<Cell>], room: usize) {
    let widths = widths(rows);
    let over = line_width(&widths).saturating_sub(room);
    let widest = widths.iter().enumerate().max_by_key(|(_, width)| **width);
    let Some((at, width)) = widest.filter(|_| over > 0) else {
        return;
    };
    let room = width.saturating_sub(over).max(LEAST_WIDTH);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(at)) {
        shorten(&mut cell.text, room);
    }
}

fn separated(row: &[Cell]) -> String {
    let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
    texts.join("\t") + "\n"
}

fn aligned(row: &[Cell], widths: &[usize], look: Look) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        let padding = " ".repeat(width.saturating_sub(cell.text.width()) + GAP);
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

/// Cut a text to `room` columns of a terminal, with an ellipsis as the last.
fn shorten(text: &mut String, room: usize) {
    if text.width() <= room {
        return;
    }
    let mut used = 1;
    let mut end = 0;
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > room {
            break;
        }
        end = at + character.len_utf8();
    }
    text.truncate(end);
    text.push('…');
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::new("ID"),
        Column::expendable("STATE", 1),
        Column::new("NAME"),
    ];

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec!["1".into(), Cell::painted("failed", Paint::Red), "a".into()],
            vec!["1000".into(), "ok".into(), "".into()],
        ]
    }

    const fn wide(width: usize) -> Look {
        Look {
            terminal: true,
            colour: false,
            width,
        }
    }

    #[test]
    fn a_person_gets_a_heading_and_aligned_columns() {
        assert_eq!(
            list(&COLUMNS, rows(), wide(80)),
            "ID    STATE   NAME\n1     failed  a\n1000  ok\n"
        );
    }

    #[test]
    fn colours_do_not_disturb_the_alignment() {
        let look = Look {
            colour: true,
            ..wide(80)
        };
        assert_eq!(
            facts(rows(), look),
            "1     \x1b[31mfailed\x1b[0m  a\n1000  ok\n"
        );
    }

    #[test]
    fn a_program_gets_tabs_and_no_heading() {
        assert_eq!(
            list(&COLUMNS, rows(), Look::PIPED),
            "1\tfailed\ta\n1000\tok\t\n"
        );
    }

    #[test]
    fn a_hostile_name_breaks_neither_rows_nor_columns() {
        let rows = vec![vec!["x\ty\n\x1b[2J".into(), "z".into()]];
        assert_eq!(facts(rows, Look::PIPED), "x\\ty\\n\\u{1b}[2J\tz\n");
    }

    #[test]
    fn a_narrow_terminal_leaves_out_what_is_expendable_and_then_shortens() {
        assert_eq!(list(&COLUMNS, rows(), wide(18)).lines().count(), 3);
        assert!(list(&COLUMNS, rows(), wide(18)).contains("STATE"));
        assert_eq!(
            list(&COLUMNS, rows(), wide(17)),
            "ID    NAME\n1     a\n1000\n"
        );
        let named = |name: String| vec![vec!["1".into(), "ok".into(), Cell::from(name)]];
        let shown = list(&COLUMNS, named("é".repeat(70)), wide(20));
        assert!(shown.lines().all(|line| line.width() <= 20), "{shown}");
        assert!(shown.contains("é…"), "{shown}");
        assert!(list(&COLUMNS, named("é".repeat(70)), Look::PIPED).contains(&"é".repeat(70)));
    }

    #[test]
    fn characters_of_two_columns_are_counted_as_such() {
        let rows = vec![
            vec!["1".into(), "ok".into(), "計算".into()],
            vec!["2".into(), "ok".into(), "ab".into()],
        ];
        let mut text = "計算機".to_owned();
        shorten(&mut text, 5);
        assert_eq!((text.as_str(), text.width()), ("計算…", 5));
        assert_eq!(widths(&rows), [1, 2, 4]);
    }

    #[test]
    fn a_fact_is_never_cut_off() {
        let rows = vec![vec!["REASON".into(), Cell::from("x".repeat(3000))]];
        assert!(facts(rows, wide(40)).contains(&"x".repeat(3000)));
    }
}
