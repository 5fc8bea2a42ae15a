//! The few figures that stand above a retention table. None of them looks at a running period.

use crate::calendar::Grain;
use crate::reports::retention::{Average, Averaging, Cell, State, Table};
use crate::reports::stats::{Z_95, mean, median, rate, standard_error};

/// The figures of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The average of column 1.
    pub next: Option<(usize, Average)>,
    /// The average of a later column: day 7, week 4, month 3 … or the last one before it that has complete cohorts.
    pub later: Option<(usize, Average)>,
    /// Column 1 in the newer half of the cohorts against the older half. Only from three cohorts in each half on, and
    /// not by hour, where it would be day against night.
    pub change: Option<Change>,
    /// The median size of the complete, non-empty cohorts, with the least and the greatest.
    pub size: Option<(u64, u64, u64)>,
}

/// A rate then and now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The column compared.
    pub column: usize,
    /// Average of the older half, 0–1, weighted as the table is.
    pub older: f64,
    /// Average of the newer half, 0–1.
    pub newer: f64,
    /// Half the width of the 95 % interval of the difference, 0–1; only where the averages are weighted and the
    /// cohorts share nobody.
    pub margin: Option<f64>,
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

    /// Whether the difference may well be chance: its 95 % interval holds 0.
    pub fn may_be_chance(&self) -> bool {
        self.margin.is_some_and(|margin| (self.newer - self.older).abs() <= margin)
    }
}

impl Figures {
    /// The figures of a table.
    pub fn of(table: &Table) -> Self {
        let at = |column: usize| Some((column, (*table.averages.get(column)?)?));
        let sizes: Vec<u64> =
            table.rows.iter().filter(|r| r.state == State::Complete && r.size > 0).map(|r| r.size).collect();
        Figures {
            next: at(1),
            later: (2..=later_column(table.query.grain)).rev().find_map(at),
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

/// The later column that figures look at: day 7, week 4, month 3, year 2, hour 12.
pub const fn later_column(grain: Grain) -> usize {
    match grain {
        Grain::Hour => 12,
        Grain::Day => 7,
        Grain::Week => 4,
        Grain::Month => 3,
        Grain::Year => 2,
    }
}

/// The fewest cohorts in a half that say anything.
const FEWEST: usize = 3;

fn change(table: &Table, column: usize) -> Option<Change> {
    let cells: Vec<Cell> =
        table.rows.iter().filter_map(|r| *r.cells.get(column)?).filter(|c| c.state == State::Complete).collect();
    let (older, newer) = cells.split_at(cells.len() / 2);
    if older.len() < FEWEST || table.query.grain == Grain::Hour {
        return None;
    }
    let weighted = table.query.averaging == Averaging::Weighted;
    let sums = |half: &[Cell]| (half.iter().map(|c| c.retained).sum(), half.iter().map(|c| c.size).sum());
    let average = |half: &[Cell]| {
        let (retained, size) = sums(half);
        if weighted { rate(retained, size) } else { mean(half.iter().map(Cell::rate)) }
    };
    let error = |half: &[Cell]| {
        let (retained, size) = sums(half);
        standard_error(retained, size)
    };
    let margin = error(older).zip(error(newer)).map(|(a, b)| Z_95 * a.hypot(b));
    Some(Change {
        column,
        older: average(older)?,
        newer: average(newer)?,
        margin: margin.filter(|_| weighted && table.is_disjoint()),
        older_cohorts: older.len(),
        newer_cohorts: newer.len(),
    })
}
