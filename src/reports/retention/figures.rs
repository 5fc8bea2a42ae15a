//! The key figures above a retention table. None of them uses a period in progress.

use crate::calendar::Grain;
use crate::reports::coverage::State;
use crate::reports::retention::query::Averaging;
use crate::reports::retention::table::{Average, Number, Row, Table};
use crate::stats::{Z_95, mean, median, rate, standard_error};

/// The figures of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The averages above the table. Of brackets these are the first, the middle and the last one.
    /// Otherwise they are column 1, a later one (day 7, week 4, month 3 …), and, if the table has
    /// it, a much later one (day 30, week 12, month 12 …); a column without complete cohorts is
    /// replaced by the last one before it that has some.
    pub returns: Vec<Return>,
    /// The change of the first column after the cohort's own period, from older to newer cohorts.
    /// None by hour, because it would compare day with night. By day it compares equal numbers of
    /// each weekday, which takes ten cohorts; otherwise it needs three cohorts on each side.
    pub change: Option<Change>,
    /// The sizes of the complete cohorts with people.
    pub size: Option<Sizes>,
}

/// The average of a column in the key figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Return {
    /// The column.
    pub column: usize,
    /// Its average; `None` without complete cohorts.
    pub average: Option<Average>,
}

/// The sizes of cohorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The one in the middle.
    pub median: u64,
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
    /// How many there are.
    pub cohorts: usize,
}

/// The older cohorts that newer ones are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The cohorts just before them.
    Before,
    /// The cohorts a week before them, weekday by weekday.
    WeekBefore,
}

/// The change of a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The column compared.
    pub column: usize,
    /// Which cohorts are the older ones.
    pub against: Against,
    /// Average of the older cohorts, 0–1, weighted like the table.
    pub older: f64,
    /// Average of the newer ones, 0–1.
    pub newer: f64,
    /// Half the width of the 95 % interval of the difference, 0–1. Not for simple averages, and only
    /// if [the people are independent](Table::is_independent).
    pub margin: Option<f64>,
    /// How many older cohorts.
    pub older_cohorts: usize,
    /// The number of newer cohorts. It is one larger if an odd number is halved.
    pub newer_cohorts: usize,
}

impl Change {
    /// Returns the difference in percentage points.
    pub fn points(&self) -> f64 {
        (self.newer - self.older) * 100.0
    }

    /// Whether the difference may be chance: its 95 % interval contains 0.
    pub fn may_be_chance(&self) -> bool {
        self.margin
            .is_some_and(|margin| (self.newer - self.older).abs() <= margin)
    }
}

impl Figures {
    /// Returns the key figures of a table.
    pub fn of(table: &Table) -> Self {
        let average = |column: usize| table.averages.get(column).copied().flatten();
        let asked = asked_columns(table);
        let returns = asked.into_iter().map(|(first, column)| {
            let found = (first..=column)
                .rev()
                .find(|column| average(*column).is_some())
                .unwrap_or(column);
            Return {
                column: found,
                average: average(found),
            }
        });
        let sizes: Vec<u64> = table
            .rows
            .iter()
            .filter(|row| row.state == State::Complete && !row.is_first_recorded)
            .map(Row::people)
            .collect();
        let sizes: Vec<u64> = sizes.into_iter().filter(|size| *size > 0).collect();
        Figures {
            returns: returns.collect(),
            change: change(table, compared_column(table)),
            size: sizes
                .iter()
                .min()
                .copied()
                .zip(sizes.iter().max().copied())
                .and_then(|(least, most)| {
                    Some(Sizes {
                        median: median(sizes.clone())?,
                        least,
                        most,
                        cohorts: sizes.len(),
                    })
                }),
        }
    }
}

/// Returns the columns of the key figures, each with the first one that may replace it: of a table
/// of brackets the first, the middle and the last one.
fn asked_columns(table: &Table) -> Vec<(usize, usize)> {
    let cols = table.averages.len();
    if table.query.brackets.is_some() {
        let mut places = vec![0, cols / 2, cols - 1];
        places.dedup();
        return places.into_iter().map(|place| (place, place)).collect();
    }
    let [later, last] = later_columns(table.query.grain);
    let asked = [(1, 1), (2, later), (later + 1, last)];
    let is_shown = |(_, column): &(usize, usize)| *column < last || *column < cols;
    asked.into_iter().filter(is_shown).collect()
}

/// Returns the column whose change the key figures show: the first one after the cohort's own
/// period.
pub fn compared_column(table: &Table) -> usize {
    match table.query.column(0) {
        Some(column) if column.first > 0 => 0,
        _ => 1,
    }
}

/// Returns the later columns of the key figures: days 7 and 30, weeks 4 and 12, months 3 and 12,
/// years 2 and 5, hours 12 and 24.
pub const fn later_columns(grain: Grain) -> [usize; 2] {
    match grain {
        Grain::Hour => [12, 24],
        Grain::Day => [7, 30],
        Grain::Week(_) => [4, 12],
        Grain::Month => [3, 12],
        Grain::Year => [2, 5],
    }
}

/// The minimum number of cohorts on each side.
const FEWEST: usize = 3;

/// The number of days in a week.
const WEEK: usize = 7;

/// Returns the cells to compare, older and newer ones.
fn compared(table: &Table, column: usize) -> Option<(Against, Vec<Number>, Vec<Number>)> {
    let complete = |row: &Row| row.averaged(column);
    if table.query.grain != Grain::Day {
        let cells: Vec<Number> = table.rows.iter().filter_map(complete).collect();
        let (older, newer) = cells.split_at(cells.len() / 2);
        return Some((Against::Before, older.to_vec(), newer.to_vec()));
    }
    // Weekdays differ more than most changes. Without gaps, every seventh day is the same weekday.
    let unbroken = table
        .rows
        .iter()
        .rev()
        .map(complete)
        .skip_while(Option::is_none)
        .map_while(|cell| cell);
    let mut days: Vec<Number> = unbroken.collect();
    days.reverse();
    match days.len() {
        0..=WEEK => None,
        n if n < 2 * WEEK => Some((
            Against::WeekBefore,
            days.get(..n - WEEK)?.to_vec(),
            days.get(WEEK..)?.to_vec(),
        )),
        n => {
            let half = n / 2 / WEEK * WEEK;
            Some((
                Against::Before,
                days.get(n - 2 * half..n - half)?.to_vec(),
                days.get(n - half..)?.to_vec(),
            ))
        }
    }
}

fn change(table: &Table, column: usize) -> Option<Change> {
    let (against, older, newer) = compared(table, column)?;
    let older = older.as_slice();
    let newer = newer.as_slice();
    if older.len() < FEWEST || table.query.grain == Grain::Hour {
        return None;
    }
    let weighted = table.query.averaging != Averaging::Simple;
    let sums = |half: &[Number]| {
        (
            half.iter().map(|c| c.retained).sum(),
            half.iter().map(|c| c.size).sum(),
        )
    };
    let average = |half: &[Number]| {
        let (retained, size) = sums(half);
        if weighted {
            rate(retained, size)
        } else {
            mean(half.iter().map(Number::rate))
        }
    };
    let error = |half: &[Number]| {
        let (retained, size) = sums(half);
        standard_error(retained, size)
    };
    let margin = error(older)
        .zip(error(newer))
        .map(|(a, b)| Z_95 * a.hypot(b));
    Some(Change {
        column,
        against,
        older: average(older)?,
        newer: average(newer)?,
        margin: margin.filter(|_| weighted && table.is_independent()),
        older_cohorts: older.len(),
        newer_cohorts: newer.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;
    use crate::reports::plan_at;
    use crate::reports::retention::{Cell, Query};
    use crate::sets::Counts;

    /// The table of a query, as of a Monday afternoon, in which each count is `number`.
    fn counted(query: &Query, number: u64) -> Table {
        let now = parse_moment("2026-11-23T14:05:00Z").unwrap();
        let (plan, question) = plan_at(query, now).unwrap();
        question.table(&Counts::new(&plan, vec![number; plan.roots().len()]).unwrap())
    }

    /// A table of two columns up to a running period, with as many people retained in column 1 of
    /// each complete cohort out of 100; `None` for an empty cohort.
    fn table(grain: Grain, retained: &[Option<u64>]) -> Table {
        let query = Query {
            rows: u32::try_from(retained.len() + 2).ok(),
            cols: Some(2),
            ..Query::new("a".parse().unwrap(), "b".parse().unwrap(), grain)
        };
        let mut table = counted(&query, 0);
        for (row, retained) in table.rows.iter_mut().zip(retained) {
            if let Some(retained) = *retained {
                row.size = Some(100);
                let cell = |period| {
                    Cell::Number(Number {
                        period,
                        state: State::Complete,
                        retained,
                        size: 100,
                    })
                };
                row.cells = vec![cell(row.period), cell(row.period.next().unwrap())];
            }
        }
        let people: u64 = table.rows.iter().map(Row::people).sum();
        (
            table.entries,
            table.people,
            table.complete_entries,
            table.complete_people,
        ) = (people, people, people, people);
        table
    }

    /// Which halves are compared: how, the retained of the older and of the newer ones.
    fn halves(grain: Grain, retained: &[Option<u64>]) -> Option<(Against, Vec<u64>, Vec<u64>)> {
        let (against, older, newer) = compared(&table(grain, retained), 1)?;
        let numbers = |cells: &[Number]| cells.iter().map(|cell| cell.retained).collect::<Vec<_>>();
        change(&table(grain, retained), 1).map(|_| (against, numbers(&older), numbers(&newer)))
    }

    fn days(n: u64) -> Vec<Option<u64>> {
        (0..n).map(Some).collect()
    }

    #[test]
    fn by_day_each_weekday_is_on_both_sides() {
        for n in 0..10 {
            assert_eq!(halves(Grain::Day, &days(n)), None, "{n}");
        }
        let numbers = |range: std::ops::Range<u64>| range.collect::<Vec<_>>();
        for n in 10..14 {
            let expected = (Against::WeekBefore, numbers(0..n - 7), numbers(7..n));
            assert_eq!(halves(Grain::Day, &days(n)), Some(expected), "{n}");
        }
        for (n, half) in [(14, 7), (20, 7), (27, 7), (28, 14), (30, 14), (90, 42)] {
            let expected = (
                Against::Before,
                numbers(n - 2 * half..n - half),
                numbers(n - half..n),
            );
            assert_eq!(halves(Grain::Day, &days(n)), Some(expected), "{n}");
        }
        // An empty day breaks the sequence of weekdays; the newest unbroken part counts.
        let mut broken = days(30);
        broken[18] = None;
        let expected = (Against::WeekBefore, numbers(19..23), numbers(26..30));
        assert_eq!(halves(Grain::Day, &broken), Some(expected));
        broken[21] = None;
        assert_eq!(halves(Grain::Day, &broken), None);
    }

    #[test]
    fn the_columns_follow_the_table() {
        let columns = |grain, cols: usize, complete: &[usize]| {
            let mut table = table(grain, &days(5));
            let average = Some(Average {
                rate: 0.5,
                cohorts: 1,
                retained: 1,
                size: 2,
                interval: None,
            });
            table.averages = (0..cols)
                .map(|k| average.filter(|_| complete.contains(&k)))
                .collect();
            Figures::of(&table)
                .returns
                .into_iter()
                .map(|r| (r.column, r.average.is_some()))
                .collect::<Vec<_>>()
        };
        let all: Vec<usize> = (0..40).collect();
        assert_eq!(columns(Grain::Day, 14, &all), [(1, true), (7, true)]);
        assert_eq!(columns(Grain::Day, 30, &all), [(1, true), (7, true)]);
        assert_eq!(
            columns(Grain::Day, 31, &all),
            [(1, true), (7, true), (30, true)]
        );
        assert_eq!(
            columns(Grain::Day, 31, &[0, 1, 5, 12]),
            [(1, true), (5, true), (12, true)]
        );
        assert_eq!(
            columns(Grain::Day, 31, &[]),
            [(1, false), (7, false), (30, false)]
        );
        assert_eq!(columns(Grain::WEEK, 12, &[1]), [(1, true), (4, false)]);
        assert_eq!(
            columns(Grain::Month, 13, &all),
            [(1, true), (3, true), (12, true)]
        );
    }

    #[test]
    fn other_grains_are_halved() {
        assert_eq!(halves(Grain::WEEK, &days(5)), None);
        assert_eq!(
            halves(Grain::WEEK, &days(7)),
            Some((Against::Before, vec![0, 1, 2], vec![3, 4, 5, 6]))
        );
        assert_eq!(halves(Grain::Hour, &days(20)), None);
    }

    #[test]
    fn a_weekly_rhythm_alone_is_no_change() {
        // Weekends come back far less.
        let weekly: Vec<Option<u64>> = (0..12)
            .map(|day| Some(if day % 7 < 5 { 60 } else { 20 }))
            .collect();
        let change = change(&table(Grain::Day, &weekly), 1).unwrap();
        assert_eq!((change.points(), change.may_be_chance()), (0.0, true));
        assert_eq!((change.older_cohorts, change.newer_cohorts), (5, 5));
    }

    #[test]
    fn the_margin_is_that_of_the_cohorts_compared() {
        let halves: Vec<Option<u64>> = (0..14)
            .map(|day| Some(if day < 7 { 40 } else { 50 }))
            .collect();
        let found = change(&table(Grain::Day, &halves), 1).unwrap();
        let margin = found.margin.unwrap();
        assert_eq!(
            (format!("{:.1}", found.points()), format!("{margin:.4}")),
            ("10.0".into(), "0.0519".into())
        );
        assert!(!found.may_be_chance());
        let mut shared = table(Grain::Day, &halves);
        shared.complete_people -= shared.complete_entries / 100;
        assert_eq!(change(&shared, 1).unwrap().margin, Some(margin));
        shared.complete_people -= 1;
        assert_eq!(
            change(&shared, 1).unwrap().margin,
            None,
            "there is no margin if more than 1 % of the entries are repeats"
        );
    }
}
