//! Tables for people and figures for programs.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// One field of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    value: Value,
}

impl Cell {
    /// Words.
    pub(crate) fn text(words: impl Into<String>) -> Self {
        let text = words.into();
        let value = Value::from(text.clone());
        Self { text, value }
    }

    /// Nothing.
    pub(crate) fn none() -> Self {
        let text = String::new();
        Self {
            text,
            value: Value::Null,
        }
    }

    /// Milliseconds.
    pub(crate) fn ms(time: Duration) -> Self {
        Self::number(time.as_secs_f64() * 1000.0, "")
    }

    /// So many per second.
    pub(crate) fn rate(per_second: f64) -> Self {
        Self {
            text: format!("{per_second:.0}"),
            value: json!(rounded(per_second)),
        }
    }

    /// A number, to three digits.
    pub(crate) fn number(number: f64, unit: &str) -> Self {
        let digits = match number.abs() {
            n if n >= 100.0 => 0,
            n if n >= 10.0 => 1,
            n if n >= 1.0 => 2,
            _ => 3,
        };
        Self {
            text: format!("{number:.digits$}{unit}"),
            value: json!(rounded(number)),
        }
    }

    /// How many times the bare measurement it is.
    pub(crate) fn ratio(figure: f64, bare: f64) -> Self {
        if bare > 0.0 {
            Self::number(figure / bare, "×")
        } else {
            Self::none()
        }
    }

    /// An aim that a time keeps to, or not.
    pub(crate) fn within(time: Duration, aim: Duration) -> Self {
        let words = format!("≤ {} ms", aim.as_secs_f64() * 1000.0);
        Self::aim(words, time <= aim)
    }

    /// An aim that a number reaches, or not.
    pub(crate) fn at_least(number: f64, aim: f64) -> Self {
        Self::aim(format!("≥ {aim}"), number >= aim)
    }

    /// An aim, and whether it is met.
    pub(crate) fn aim(words: String, met: bool) -> Self {
        let verdict = if met { "met" } else { "missed" };
        Self::text(format!("{words}: {verdict}"))
    }
}

fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

/// What a part found out.
#[derive(Debug)]
pub(crate) struct Table {
    part: &'static str,
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(
        part: &'static str,
        title: impl Into<String>,
        columns: &[&'static str],
    ) -> Self {
        Self {
            part,
            title: title.into(),
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Add a row; a field for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Print it, as Markdown that can be read as it is.
    pub(crate) fn print(&self) {
        let wide = |at: usize, column: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| cell.text.chars().count()).max();
            widest.unwrap_or(0).max(column.chars().count())
        };
        let columns = self.columns.iter().enumerate();
        let widths: Vec<usize> = columns.map(|(at, column)| wide(at, column)).collect();
        let line = |texts: &mut dyn Iterator<Item = &str>| {
            let mut line = String::from("|");
            for (at, (text, width)) in texts.zip(&widths).enumerate() {
                // Words to the left, figures to the right.
                line.push_str(&if at == 0 {
                    format!(" {text:<width$} |")
                } else {
                    format!(" {text:>width$} |")
                });
            }
            line
        };
        println!("\n### {}\n", self.title);
        println!("{}", line(&mut self.columns.iter().copied()));
        let rules = widths.iter().enumerate().map(|(at, width)| match at {
            0 => format!("|{}", "-".repeat(width + 2)),
            _ => format!("|{}:", "-".repeat(width + 1)),
        });
        println!("{}|", rules.collect::<String>());
        for row in &self.rows {
            println!("{}", line(&mut row.iter().map(|cell| cell.text.as_str())));
        }
    }

    /// The same as JSON: an object for each row, with the columns as names.
    pub(crate) fn json(&self) -> Value {
        let row = |cells: &Vec<Cell>| {
            let named = self.columns.iter().zip(cells);
            let fields = named.map(|(column, cell)| ((*column).to_owned(), cell.value.clone()));
            Value::Object(fields.collect::<Map<_, _>>())
        };
        json!({
            "part": self.part,
            "title": self.title,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_digits_and_aims_say_whether_they_are_met() {
        let ms = |n| Duration::from_micros(n);
        assert_eq!(Cell::ms(ms(312)).text, "0.312");
        assert_eq!(Cell::ms(ms(12_345)).text, "12.3");
        assert_eq!(Cell::within(ms(501), ms(500)).text, "≤ 0.5 ms: missed");
        assert_eq!(Cell::at_least(6000.0, 6000.0).text, "≥ 6000: met");
        assert_eq!(Cell::ratio(3.0, 2.0).text, "1.50×");
        assert_eq!(Cell::ratio(3.0, 0.0).text, "");
    }

    #[test]
    fn a_table_becomes_one_object_for_each_row() {
        let mut table = Table::new("start", "Start", &["what", "p50 ms"]);
        table.row([Cell::text("true"), Cell::ms(Duration::from_millis(2))]);
        let rows = json!([{"what": "true", "p50 ms": 2.0}]);
        assert_eq!(table.json().get("rows"), Some(&rows));
    }
}
