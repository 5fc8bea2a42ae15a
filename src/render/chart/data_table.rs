//! The numbers of a chart as an accessible table.
//!
//! The table of a trend is complete because the page shows its numbers and intervals nowhere else.
//! The retention table below the curve and the sizes already has all their numbers, so those two
//! are short: the columns that the curve's axis names, and the most notable cohorts.

use crate::calendar::Grain;
use crate::render::chart::curve::axis_step;
use crate::render::{thousands, words};
use crate::reports::retention::{Cell, Row, State, Table};
use crate::stats::median;

/// A chart as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataTable {
    /// What the table shows.
    pub caption: String,
    /// The headings of the columns.
    pub heads: Vec<&'static str>,
    /// The rows, each as long as `heads`. The first text is the heading of the row.
    pub rows: Vec<Vec<String>>,
}

/// Returns the averages of the last column and of those that the curve's axis names: at most 16
/// rows.
pub fn curve_data_table(table: &Table) -> DataTable {
    let cols = table.averages.len();
    let step = axis_step(table);
    let named = (0..cols).filter(|k| k.is_multiple_of(step) || k + 1 == cols);
    let rows = named.map(|k| {
        let head = words::column(table, k);
        match table.averages.get(k).copied().flatten() {
            Some(average) => vec![
                head,
                words::percent(average.rate),
                average.interval.map_or_else(|| "none".to_owned(), interval),
                thousands(average.cohorts.into()),
            ],
            None => vec![
                head,
                format!("not complete{}", words::yet(table.data_ends)),
                String::new(),
                "0".to_owned(),
            ],
        }
    });
    DataTable {
        caption: "Retention curve in numbers: the average; every cohort's own line is a row of the table below"
            .to_owned(),
        heads: vec!["Coming back", "Average", "95% interval", "Complete cohorts"],
        rows: rows.collect(),
    }
}

/// Returns the most notable cohorts by size: the largest, the smallest and the median of those with
/// people, the newest complete one and the one in progress.
pub fn sizes_data_table(table: &Table) -> DataTable {
    let complete: Vec<&Row> = table
        .rows
        .iter()
        .filter(|row| row.state == State::Complete)
        .collect();
    // The same cohorts as in the summary figures.
    let with_people = || complete.iter().copied().filter(|row| row.people() > 0);
    let line =
        |what: &str, row: &Row| vec![what.to_owned(), row.period.label(), thousands(row.people())];
    let mut rows = Vec::new();
    // Of cohorts of the same size, the newest is the most familiar.
    rows.extend(
        with_people()
            .max_by_key(|row| row.size)
            .map(|row| line("Largest", row)),
    );
    rows.extend(
        with_people()
            .rev()
            .min_by_key(|row| row.size)
            .map(|row| line("Smallest", row)),
    );
    rows.extend(
        median(with_people().map(Row::people).collect())
            .map(|size| vec!["Median".to_owned(), String::new(), thousands(size)]),
    );
    rows.extend(complete.last().map(|row| line("Newest complete", row)));
    let running = table
        .rows
        .iter()
        .filter(|row| row.state == State::InProgress);
    let what = match table.data_ends {
        None => "In progress, so far",
        Some(_) => "Data ends in it",
    };
    rows.extend(running.map(|row| line(what, row)));
    DataTable {
        caption: "Cohort sizes in short: every cohort's size is in the table below".to_owned(),
        heads: vec!["Which", "Cohort", "People"],
        rows,
    }
}

/// Returns every cohort's rate in one column, oldest first.
pub fn trend_data_table(table: &Table, column: usize) -> DataTable {
    let rows = table.rows.iter().map(|row| {
        let without = |state: &str| [String::new(), String::new(), state.to_owned()];
        let parts = match row.cells.get(column).copied().unwrap_or(Cell::Blank) {
            Cell::NotRecorded(_) => without("no data"),
            Cell::Blank if row.people() == 0 => without("no people"),
            Cell::Blank => without("not begun"),
            Cell::Number(number) => {
                let share = words::percent(number.rate());
                let (share, state) = match number.state {
                    State::PartlyRecorded => (words::at_least(&share), "partly recorded"),
                    State::InProgress if table.data_ends.is_some() => (share, "data ends in it"),
                    State::InProgress => (share, "in progress"),
                    _ => (share, "complete"),
                };
                let ends = number.interval().map(interval).unwrap_or_default();
                [share, ends, state.to_owned()]
            }
        };
        [row.period.label()].into_iter().chain(parts).collect()
    });
    DataTable {
        caption: format!(
            "Share of each cohort that came back {}, oldest cohort first",
            words::column(table, column)
        ),
        heads: vec![
            cohort(table.query.grain),
            "Came back",
            "95% interval",
            "State",
        ],
        rows: rows.collect(),
    }
}

fn cohort(grain: Grain) -> &'static str {
    match grain {
        Grain::Hour => "Hour of the cohort",
        Grain::Day => "Day of the cohort",
        Grain::Week(_) => "Week of the cohort",
        Grain::Month => "Month of the cohort",
        Grain::Year => "Year of the cohort",
    }
}

/// Formats an interval as `25.1% to 29.8%`, because screen readers skip a dash between numbers.
fn interval((low, high): (f64, f64)) -> String {
    format!("{} to {}", words::percent(low), words::percent(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::sample;

    fn text(data_table: &DataTable) -> String {
        assert!(
            data_table
                .rows
                .iter()
                .all(|row| row.len() == data_table.heads.len())
        );
        let rows: Vec<String> = data_table.rows.iter().map(|row| row.join(" | ")).collect();
        format!(
            "{}\n{}\n{}",
            data_table.caption,
            data_table.heads.join(" | "),
            rows.join("\n")
        )
    }

    #[test]
    fn data_tables_say_what_the_charts_show() {
        let table = sample::table();
        insta::assert_snapshot!(text(&curve_data_table(&table)), @r##"
        Retention curve in numbers: the average; every cohort's own line is a row of the table below
        Coming back | Average | 95% interval | Complete cohorts
        on day 0 | 50.0% | 18.8% to 81.2% | 2
        on day 1 | 16.7% | 3.0% to 56.4% | 2
        on day 2 | 50.0% | 15.0% to 85.0% | 1
        on day 3 | not complete yet |  | 0
        "##);
        insta::assert_snapshot!(text(&sizes_data_table(&table)), @r##"
        Cohort sizes in short: every cohort's size is in the table below
        Which | Cohort | People
        Largest | Fri 20 Nov 2026 | 4
        Smallest | Sat 21 Nov 2026 | 2
        Median |  | 3
        Newest complete | Sun 22 Nov 2026 | 0
        In progress, so far | Mon 23 Nov 2026 | 3
        "##);
        insta::assert_snapshot!(text(&trend_data_table(&table, 1)), @r##"
        Share of each cohort that came back on day 1, oldest cohort first
        Day of the cohort | Came back | 95% interval | State
        Fri 20 Nov 2026 | 25.0% | 4.6% to 69.9% | complete
        Sat 21 Nov 2026 | 0.0% | 0.0% to 65.8% | complete
        Sun 22 Nov 2026 |  |  | no people
        Mon 23 Nov 2026 |  |  | not begun
        "##);
    }

    #[test]
    fn data_tables_of_large_tables_stay_short_where_the_page_has_the_numbers() {
        let mut table = sample::table();
        table.averages = vec![None; 400];
        table.rows = (0..400).map(|_| table.rows[0].clone()).collect();
        assert!(
            curve_data_table(&table).rows.len() <= 16 && sizes_data_table(&table).rows.len() <= 5
        );
        assert_eq!(trend_data_table(&table, 999).rows.len(), 400);
        table.rows.clear();
        table.averages.clear();
        assert!(
            [
                curve_data_table(&table),
                sizes_data_table(&table),
                trend_data_table(&table, 0)
            ]
            .iter()
            .all(|data_table| data_table.rows.is_empty())
        );
    }
}
