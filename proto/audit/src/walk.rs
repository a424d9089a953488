//! Walking along a chain, and finding the first row that does not fit.

use std::fmt;

use crate::{Field, Hash, Head};

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is not what was sealed, or does not follow the row before it.
    Changed,
    /// It is not there.
    Missing,
    /// It stands where the trail has no place for a row.
    Extra,
    /// The head on record is not its hash.
    Head,
    /// It is not the row whose hash was kept elsewhere.
    Kept,
    /// Its hash was kept elsewhere, but it was pruned since.
    KeptPruned,
    /// The rows up to it are gone, and no row tells of their pruning.
    Pruned,
}

/// The first row that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// Its number.
    pub row: i64,
    /// What is wrong with it.
    pub why: Why,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.row;
        match self.why {
            Why::Changed => write!(f, "row {row} was changed, or does not belong there"),
            Why::Missing => write!(f, "row {row} is missing"),
            Why::Extra => write!(f, "row {row} does not belong there"),
            Why::Head => write!(f, "the head on record is not that of row {row}"),
            Why::Kept => write!(f, "row {row} is not the one whose hash was kept"),
            Why::KeptPruned => write!(
                f,
                "row {row}, whose hash was kept, is pruned: nothing can be told from it"
            ),
            Why::Pruned => write!(f, "the rows up to {row} are gone, but were not pruned"),
        }
    }
}

impl std::error::Error for Broken {}

/// A walk along a chain, row by row.
#[derive(Debug)]
pub struct Walk {
    at: Head,
    end: Head,
    marks: Vec<(Head, Why)>,
}

impl Walk {
    /// A walk from behind row `start.count` to the row that the head on
    /// record, `end`, is of. `pruned` is what a row says was pruned, where
    /// there is one; `kept`, what somebody kept elsewhere.
    ///
    /// Errors: they do not fit together.
    pub fn new(
        start: Head,
        end: Head,
        pruned: Option<Head>,
        kept: Option<Head>,
    ) -> Result<Self, Broken> {
        let broken = |row, why| Err(Broken { row, why });
        // Where pruning was broken off, fewer rows are gone than it says.
        if start.count > pruned.map_or(0, |pruned| pruned.count) {
            return broken(start.count, Why::Pruned);
        }
        if let Some(kept) = kept.filter(|kept| kept.count < start.count) {
            return broken(kept.count, Why::KeptPruned);
        }
        let marks = [(pruned, Why::Pruned), (kept, Why::Kept)];
        let walk = Self {
            at: start,
            end,
            marks: marks
                .into_iter()
                .filter_map(|(mark, why)| Some((mark?, why)))
                .collect(),
        };
        walk.check_marks()?;
        Ok(walk)
    }

    /// The number of the last row that fitted.
    pub const fn count(&self) -> i64 {
        self.at.count
    }

    /// The next row. `hash` is what is on record for it.
    ///
    /// Errors: it does not fit, or rows before it are missing.
    pub fn step(&mut self, number: i64, fields: &[Field<'_>], hash: &str) -> Result<(), Broken> {
        let next = self.at.then(fields);
        let broken = |row, why| Err(Broken { row, why });
        if number < next.count {
            return broken(number, Why::Extra);
        }
        if number > next.count {
            return broken(next.count, Why::Missing);
        }
        if hash.parse::<Hash>() != Ok(next.hash) {
            return broken(number, Why::Changed);
        }
        self.at = next;
        self.check_marks()
    }

    fn check_marks(&self) -> Result<(), Broken> {
        let unlike = |(mark, _): &&(Head, Why)| mark.count == self.at.count && *mark != self.at;
        match self.marks.iter().find(unlike) {
            Some((mark, why)) => Err(Broken {
                row: mark.count,
                why: *why,
            }),
            None => Ok(()),
        }
    }

    /// There are no more rows.
    ///
    /// Errors: there should be, or the head on record is another.
    pub fn finish(self) -> Result<Head, Broken> {
        let row = self.at.count;
        if row > self.end.count {
            let row = self.end.count.saturating_add(1);
            return Err(Broken {
                row,
                why: Why::Extra,
            });
        }
        let longest = self.marks.iter().map(|(mark, _)| mark.count);
        if row < longest.fold(self.end.count, i64::max) {
            let row = row.saturating_add(1);
            return Err(Broken {
                row,
                why: Why::Missing,
            });
        }
        if self.at.hash != self.end.hash {
            return Err(Broken {
                row,
                why: Why::Head,
            });
        }
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row that holds a number: the row's number, the field, the hash.
    type Row = (i64, i64, String);

    fn chain(rows: i64) -> (Vec<Row>, Vec<Head>) {
        let mut heads = vec![Head::genesis("a")];
        let mut chain = Vec::new();
        for number in 1..=rows {
            let head = heads[heads.len() - 1].then(&[Field::Number(number * 10)]);
            chain.push((number, number * 10, head.hash.to_string()));
            heads.push(head);
        }
        (chain, heads)
    }

    fn walk(
        start: Head,
        end: Head,
        pruned: Option<Head>,
        kept: Option<Head>,
        rows: &[Row],
    ) -> Result<Head, (i64, Why)> {
        let walked = Walk::new(start, end, pruned, kept).and_then(|mut walk| {
            for (number, field, hash) in rows {
                walk.step(*number, &[Field::Number(*field)], hash)?;
            }
            walk.finish()
        });
        walked.map_err(|broken| (broken.row, broken.why))
    }

    #[test]
    fn a_chain_that_nobody_touched_holds() {
        let (rows, heads) = chain(5);
        let all = |kept| walk(heads[0], heads[5], None, kept, &rows);
        assert_eq!(all(None), Ok(heads[5]));
        for kept in &heads {
            assert_eq!(all(Some(*kept)), Ok(heads[5]));
        }
        assert_eq!(walk(heads[0], heads[0], None, None, &[]), Ok(heads[0]));
    }

    #[test]
    fn whatever_is_done_to_a_row_the_first_that_does_not_fit_is_named() {
        let (rows, heads) = chain(5);
        let tampered = |tamper: &dyn Fn(&mut Vec<Row>)| {
            let mut rows = rows.clone();
            tamper(&mut rows);
            walk(heads[0], heads[5], None, None, &rows)
        };
        assert_eq!(tampered(&|rows| rows[2].1 = 1), Err((3, Why::Changed)));
        assert_eq!(
            tampered(&|rows| rows[2].2 = "x".into()),
            Err((3, Why::Changed))
        );
        assert_eq!(
            tampered(&|rows| drop(rows.remove(0))),
            Err((1, Why::Missing))
        );
        assert_eq!(
            tampered(&|rows| drop(rows.remove(2))),
            Err((3, Why::Missing))
        );
        assert_eq!(tampered(&|rows| drop(rows.pop())), Err((5, Why::Missing)));
        assert_eq!(
            tampered(&|rows| rows.insert(2, (2, 1, "x".into()))),
            Err((2, Why::Extra))
        );
        assert_eq!(
            tampered(&|rows| rows.insert(0, (0, 1, "x".into()))),
            Err((0, Why::Extra))
        );
        // The contents of two rows change places, with and without their hashes.
        assert_eq!(
            tampered(&|rows| {
                (rows[1].1, rows[2].1) = (rows[2].1, rows[1].1);
            }),
            Err((2, Why::Changed))
        );
        assert_eq!(
            tampered(&|rows| {
                rows.swap(1, 2);
                (rows[1].0, rows[2].0) = (2, 3);
            }),
            Err((2, Why::Changed))
        );
        // A row is taken out, and those behind it are numbered anew.
        assert_eq!(
            tampered(&|rows| {
                rows.remove(2);
                for row in &mut rows[2..] {
                    row.0 -= 1;
                }
            }),
            Err((3, Why::Changed))
        );
        // One is forged so that it fits: then the next does not.
        assert_eq!(
            tampered(&|rows| {
                let forged = heads[2].then(&[Field::Number(1)]);
                rows[2] = (3, 1, forged.hash.to_string());
            }),
            Err((4, Why::Changed))
        );
    }

    #[test]
    fn a_head_that_was_rewritten_is_noticed() {
        let (rows, heads) = chain(5);
        let ended = |end, rows| walk(heads[0], end, None, None, rows);
        let other = Head {
            hash: heads[4].hash,
            ..heads[5]
        };
        assert_eq!(ended(other, &rows), Err((5, Why::Head)));
        assert_eq!(ended(heads[4], &rows), Err((5, Why::Extra)));
        assert_eq!(ended(heads[5], &rows[..4]), Err((5, Why::Missing)));
        // The tail and the head together fit; what was kept elsewhere does not.
        assert_eq!(ended(heads[3], &rows[..3]), Ok(heads[3]));
        let kept = |kept| walk(heads[0], heads[3], None, Some(kept), &rows[..3]);
        assert_eq!(kept(heads[5]), Err((4, Why::Missing)));
        assert_eq!(kept(heads[2]), Ok(heads[3]));
        let other = Head {
            hash: heads[1].hash,
            ..heads[2]
        };
        assert_eq!(kept(other), Err((2, Why::Kept)));
    }

    #[test]
    fn what_is_gone_from_the_beginning_must_have_been_pruned() {
        let (rows, heads) = chain(5);
        let from = |start: Head, pruned, kept| {
            let at = usize::try_from(start.count).unwrap();
            walk(start, heads[5], pruned, kept, &rows[at..])
        };
        assert_eq!(from(heads[2], Some(heads[2]), None), Ok(heads[5]));
        // Broken off half-way.
        assert_eq!(from(heads[2], Some(heads[4]), None), Ok(heads[5]));
        assert_eq!(from(heads[2], None, None), Err((2, Why::Pruned)));
        assert_eq!(from(heads[3], Some(heads[2]), None), Err((3, Why::Pruned)));
        let other = Head {
            hash: heads[1].hash,
            ..heads[3]
        };
        assert_eq!(from(heads[2], Some(other), None), Err((3, Why::Pruned)));
        assert_eq!(from(other, Some(heads[3]), None), Err((3, Why::Pruned)));
        let start = heads[2];
        assert_eq!(
            from(start, Some(start), Some(heads[1])),
            Err((1, Why::KeptPruned))
        );
        assert_eq!(from(start, Some(start), Some(heads[2])), Ok(heads[5]));
        assert_eq!(from(start, Some(start), Some(heads[4])), Ok(heads[5]));
    }
}
