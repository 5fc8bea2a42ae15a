//! The few figures that stand above a retention table. None of them looks at a running period.

use crate::reports::retention::{Average, Cell, State, Table};
use crate::reports::stats::{median, rate};

/// The figures of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The average of column 1.
    pub next: Option<(usize, Average)>,
    /// The average of a later column: day 7, week 4, month 3 … or the last one before it that has complete cohorts.
    pub later: Option<(usize, Average)>,
    /// Column 1 in the newer half of the cohorts against the older half.
    pub change: Option<Change>,
    /// The median size of the complete, non-empty cohorts, with the least and the greatest.
    pub size: Option<(u64, u64, u64)>,
}

/// A rate then and now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The column compared.
    pub column: usize,
    /// Weighted average of the older half, 0–1.
    pub older: f64,
    /// Weighted average of the newer half, 0–1.
    pub newer: f64,
    /// Cohorts in the older half.
    pub older_cohorts: usize,
    /// Cohorts in the newer half: one more when their number is odd.
    pub newer_cohorts: usize,
}

impl Change {
    /// The difference in percentage points.
    pub fn points(&self) -> f64 {
        (self.newer - self.older) * 100.0
    }
}

impl Figures {
    /// The figures of a table.
    pub fn of(table: &Table) -> Self {
        use crate::calendar::Grain;
        let at = |column: usize| Some((column, (*table.averages.get(column)?)?));
        let wanted = match table.query.grain {
            Grain::Hour => 12,
            Grain::Day => 7,
            Grain::Week => 4,
            Grain::Month => 3,
            Grain::Year => 2,
        };
        let sizes: Vec<u64> =
            table.rows.iter().filter(|r| r.state == State::Complete && r.size > 0).map(|r| r.size).collect();
        Figures {
            next: at(1),
            later: (2..=wanted).rev().find_map(at),
            change: change(table, 1),
            size: sizes
                .iter()
                .min()
                .copied()
                .zip(sizes.iter().max().copied())
                .and_then(|(least, most)| Some((median(sizes.clone())?, least, most))),
        }
    }
}

fn change(table: &Table, column: usize) -> Option<Change> {
    let cells: Vec<Cell> =
        table.rows.iter().filter_map(|r| *r.cells.get(column)?).filter(|c| c.state == State::Complete).collect();
    let (older, newer) = cells.split_at(cells.len() / 2);
    let weighted = |half: &[Cell]| rate(half.iter().map(|c| c.retained).sum(), half.iter().map(|c| c.size).sum());
    Some(Change {
        column,
        older: weighted(older)?,
        newer: weighted(newer)?,
        older_cohorts: older.len(),
        newer_cohorts: newer.len(),
    })
}
