//! Comma-separated values: a wide table to look at, a tidy one to compute with. Quoted by RFC 4180, lines end in `\n`.

use std::borrow::Cow;

use crate::calendar::{Grain, Period};
use crate::render::{Show, words};
use crate::reports::activity::Activity;
use crate::reports::coverage::State;
use crate::reports::retention::{Cell, Table};

/// What spreadsheets show: a cohort a row and a period a column, oldest cohort first. Rates in percent with two
/// decimals and no sign (`27.39`; `<0.01` and `>99.99` only round to none or all), counts as integers; a future cell or an empty cohort is blank.
pub fn wide(table: &Table, show: Show) -> String {
    written(|csv| {
        let cols = table.averages.len();
        csv.write_record(["cohort".into(), "size".into()].into_iter().chain((0..cols).map(|k| k.to_string())))?;
        for row in &table.rows {
            csv.write_field(&*guard(&row.period.label()))?;
            csv.write_field(row.size.to_string())?;
            for cell in &row.cells {
                csv.write_field(cell.map_or_else(String::new, |cell| shown(&cell, show)))?;
            }
            csv.write_record(None::<&[u8]>)?;
        }
        Ok(())
    })
}

fn shown(cell: &Cell, show: Show) -> String {
    match show {
        Show::Percent => words::share(cell.rate(), 2),
        Show::Count => cell.retained.to_string(),
    }
}

/// What programs read: a row for each cell that is not future. Dates are ISO 8601, ends exclusive (for hours, date
/// and time: `2026-11-23T14:00:00Z`); the rate is unrounded, 0–1; the state is `complete` or `in_progress`.
pub fn tidy(table: &Table) -> String {
    written(|csv| {
        csv.write_record([
            "cohort_start",
            "cohort_end",
            "cohort_size",
            "period_index",
            "period_start",
            "period_end",
            "retained",
            "rate",
            "state",
        ])?;
        for row in &table.rows {
            let (start, end) = bounds(row.period);
            for (index, cell) in row.cells.iter().enumerate() {
                let Some(cell) = cell else { continue };
                let (from, to) = bounds(cell.period);
                csv.write_record([
                    &*start,
                    &*end,
                    &row.size.to_string(),
                    &index.to_string(),
                    &*from,
                    &*to,
                    &cell.retained.to_string(),
                    &cell.rate().to_string(),
                    cell.state.as_str(),
                ])?;
            }
        }
        Ok(())
    })
}

/// How many people, period by period, from the first recorded one on, oldest first: ISO dates, ends exclusive; the state
/// is `complete`, `in_progress` or `not_recorded`, and then there is no number. Change, mean day and stickiness are unrounded, the first and the last as shares (0.1 is
/// a tenth more), and blank where there is none.
pub fn activity(activity: &Activity) -> String {
    written(|csv| {
        csv.write_record(["period_start", "period_end", "people", "state", "change", "mean_day", "stickiness"])?;
        let blank = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
        for point in activity.recorded() {
            let (start, end) = bounds(point.period);
            let mean = point.daily.map(|daily| daily.mean);
            let derived = [point.change, mean, point.stickiness()].map(blank);
            let [change, mean, stickiness] = &derived;
            csv.write_record([
                &*start,
                &*end,
                &if point.state == State::NotRecorded { String::new() } else { point.people.to_string() },
                point.state.as_str(),
                change,
                mean,
                stickiness,
            ])?;
        }
        Ok(())
    })
}

/// Start and end of a period as ISO dates, or as date-times where dates would not tell hours apart.
pub(super) fn bounds(period: Period) -> (String, String) {
    let format = if period.grain() == Grain::Hour { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%d" };
    (period.start().format(format).to_string(), period.end().format(format).to_string())
}

/// A text field that no spreadsheet takes for a formula: one that begins with `=`, `+`, `-`, `@`, TAB or CR gets a
/// leading `'`.
///
/// ```
/// use cohortist::render::csv::guard;
/// assert_eq!(guard("=1+1"), "'=1+1");
/// assert_eq!(guard("active"), "active");
/// ```
pub fn guard(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}").into() } else { text.into() }
}

/// The ids of people, one a line, behind the text `before`.
///
/// ```
/// use cohortist::render::csv::people;
/// let ids = ["7", "-7", "ann, \"the\" first"].map(str::to_owned);
/// assert_eq!(people("user_id\n", &ids), "user_id\n7\n'-7\n\"ann, \"\"the\"\" first\"\n");
/// ```
pub fn people(before: &str, ids: &[String]) -> String {
    before.to_owned() + &written(|csv| ids.iter().try_for_each(|id| csv.write_record([&*guard(id)])))
}

/// Runs `write` on a writer into memory, where writing cannot fail.
fn written(write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> String {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let done = write(&mut csv);
    debug_assert!(done.is_ok(), "{done:?}");
    csv.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use crate::reports::retention::Query;

    #[test]
    fn wide_percent_blanks_the_future_and_the_empty_cohort_and_keeps_zero() {
        insta::assert_snapshot!(wide(&sample::table(), Show::Percent), @r"
        cohort,size,0,1,2,3
        Fri 20 Nov 2026,4,50.00,25.00,50.00,25.00
        Sat 21 Nov 2026,2,50.00,0.00,0.00,
        Sun 22 Nov 2026,0,,,,
        Mon 23 Nov 2026,3,33.33,,,
        ");
    }

    #[test]
    fn wide_counts_are_integers() {
        let text = wide(&sample::table(), Show::Count);
        assert_eq!(text.lines().nth(1), Some("Fri 20 Nov 2026,4,2,1,2,1"));
    }

    #[test]
    fn tidy_has_a_row_for_each_cell_that_has_begun() {
        insta::assert_snapshot!(tidy(&sample::table()), @r"
        cohort_start,cohort_end,cohort_size,period_index,period_start,period_end,retained,rate,state
        2026-11-20,2026-11-21,4,0,2026-11-20,2026-11-21,2,0.5,complete
        2026-11-20,2026-11-21,4,1,2026-11-21,2026-11-22,1,0.25,complete
        2026-11-20,2026-11-21,4,2,2026-11-22,2026-11-23,2,0.5,complete
        2026-11-20,2026-11-21,4,3,2026-11-23,2026-11-24,1,0.25,in_progress
        2026-11-21,2026-11-22,2,0,2026-11-21,2026-11-22,1,0.5,complete
        2026-11-21,2026-11-22,2,1,2026-11-22,2026-11-23,0,0,complete
        2026-11-21,2026-11-22,2,2,2026-11-23,2026-11-24,0,0,in_progress
        2026-11-23,2026-11-24,3,0,2026-11-23,2026-11-24,1,0.3333333333333333,in_progress
        ");
    }

    #[test]
    fn tidy_hours_have_times() {
        let query = Query::new("signup".parse().unwrap(), "active".parse().unwrap(), Grain::Hour);
        let text = tidy(&sample::with(query));
        let first = text.lines().nth(1).unwrap();
        assert!(first.starts_with("2026-11-23T00:00:00Z,2026-11-23T01:00:00Z,3,0,2026-11-23T00:00:00Z,"), "{first}");
    }

    #[test]
    fn formulas_are_guarded() {
        for text in ["=1+1", "+1", "-1", "@x", "\tx", "\rx"] {
            assert_eq!(guard(text), format!("'{text}"));
        }
        for text in ["", "a=1", "'=", "<script>"] {
            assert_eq!(guard(text), text);
        }
    }
}
