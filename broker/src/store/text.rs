//! Several statements in one text, so that a batch costs one trip to the
//! database: one after another on SQLite, and parts of one statement (`with
//! a as (…), b as (…) select …`) on PostgreSQL, which takes one at a time.

use sqlx::query_builder::Separated;
use sqlx::{Database, QueryBuilder};
use warrant_migrations::{Driven, Spelt, Tx};

/// The most rows in one statement.
const LARGEST: usize = 64;

/// Cut `rows` into chunks of few different sizes, so that few texts are ever
/// prepared: 64, 32, or what is below 17.
pub(super) fn chunks<T>(mut rows: &[T]) -> Vec<&[T]> {
    let mut cut = Vec::new();
    while !rows.is_empty() {
        let size = match rows.len() {
            LARGEST.. => LARGEST,
            32.. => 32,
            16.. => 16,
            few => few,
        };
        let (chunk, rest) = rows.split_at(size);
        cut.push(chunk);
        rows = rest;
    }
    cut
}

/// Whether so many rows are one chunk.
pub(super) const fn is_one_chunk(rows: usize) -> bool {
    matches!(rows, 1..=16 | 32 | LARGEST)
}

/// The same words for both databases.
pub(super) const fn same(text: &'static str) -> Spelt {
    Spelt {
        sqlite: text,
        postgres: text,
    }
}

/// Nothing more.
pub(super) const NO_TAIL: Spelt = same("");

/// Statements that are being put together.
pub(super) struct Text<DB: Database> {
    builder: QueryBuilder<DB>,
    spoken: Spoken,
    parts: usize,
}

/// How a text is spoken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken {
    sqlite: bool,
    alone: bool,
}

impl Spoken {
    /// As the connection wants it.
    pub(super) fn on(tx: &Tx) -> Self {
        Self {
            sqlite: tx.is_sqlite(),
            alone: tx.is_alone(),
        }
    }

    /// Whether it is spoken to SQLite.
    pub(super) const fn is_sqlite(self) -> bool {
        self.sqlite
    }
}

impl<DB: Database> Text<DB> {
    /// No statement yet.
    pub(super) fn new(spoken: Spoken) -> Self {
        let builder = QueryBuilder::new(match (spoken.sqlite, spoken.alone) {
            (true, true) => "begin immediate; ",
            (true, false) => "",
            (false, _) => "with ",
        });
        Self {
            builder,
            spoken,
            parts: 0,
        }
    }

    /// Add a statement: `head`, the rows' values, `tail`. On PostgreSQL it
    /// can be referred to by `name`.
    pub(super) fn add<T>(
        &mut self,
        name: &'static str,
        head: Spelt,
        rows: impl IntoIterator<Item = T>,
        bind: impl FnMut(Separated<'_, DB, &'static str>, T),
        tail: Spelt,
    ) {
        let comma = match (self.parts, self.spoken.sqlite) {
            (0, _) => "",
            (_, true) => "; ",
            (_, false) => ", ",
        };
        self.builder.push(comma);
        if self.spoken.sqlite {
            self.builder.push(head.sqlite);
        } else {
            self.builder.push(name).push(" as (").push(head.postgres);
        }
        self.builder.push_values(rows, bind);
        if self.spoken.sqlite {
            self.builder.push(tail.sqlite);
        } else {
            self.builder.push(tail.postgres).push(")");
        }
        self.parts += 1;
    }

    /// All of it. `result` is what PostgreSQL selects in the end; SQLite gives
    /// what its statements return.
    pub(super) fn finish(mut self, result: &'static str) -> QueryBuilder<DB> {
        match (self.spoken.sqlite, self.spoken.alone) {
            (true, true) => self.builder.push("; commit"),
            (true, false) => &mut self.builder,
            (false, _) => self.builder.push(" ").push(result),
        };
        self.builder
    }
}
