//! A retention table as one JSON object. The structs document every field.

use serde::Serialize;

use crate::calendar::Period;
use crate::reports::coverage::State;
use crate::reports::retention::columns::Column;
use crate::reports::retention::query::{Averaging, Query};
use crate::reports::retention::table::{Average, Cell, Row, Table};

/// The object.
#[derive(Debug, Serialize)]
pub struct TableJson {
    /// The question.
    pub query: QueryJson,
    /// The moment of the answer: RFC 3339, UTC.
    pub now: String,
    /// When the store's data ends, as ISO text, such as `2026-11-26`; `null` in a store that still
    /// receives marks.
    pub data_ends: Option<String>,
    /// Whether numbers of the period that holds `now` may include marks made after it: bitmaps are
    /// kept whole. Always false when `now` is the present.
    pub may_include_later_marks: bool,
    /// The time zone of periods: always `UTC`.
    pub zone: &'static str,
    /// The day on which weeks begin, such as `monday`.
    pub week: &'static str,
    /// The cohorts, oldest first.
    pub rows: Vec<RowJson>,
    /// The average row, one entry a column; `null` for a column without a complete cell.
    pub average: Vec<Option<AverageJson>>,
    /// The sizes of all cohorts, added up: a user in three cohorts counts three times.
    pub entries: u64,
    /// The distinct people behind `entries`.
    pub people: u64,
    /// The sizes of the cohorts that have a complete cell, added up: the basis of the averages.
    pub complete_entries: u64,
    /// The distinct people behind `complete_entries`.
    pub complete_people: u64,
    /// `complete_entries` − `complete_people`: entries of people who are in several cohorts.
    pub repeats: u64,
    /// Whether averages have an interval, and why: `independent` (nobody is in two cohorts),
    /// `few_repeats` (at most 1 % of `complete_entries` are repeats), `none_repeats` (more are), or
    /// `none_simple` (a simple average has none).
    pub average_interval: &'static str,
}

/// What was asked.
#[derive(Debug, Serialize)]
pub struct QueryJson {
    /// The starting segment, as segment text.
    pub cohort: String,
    /// The returning segment, as segment text.
    pub returning: String,
    /// `hour`, `day`, `week`, `month` or `year`.
    pub by: &'static str,
    /// How many cohorts the table has.
    pub rows: usize,
    /// How many columns, column 0 included.
    pub cols: u32,
    /// The columns of a table of brackets, such as `["1","2-7"]`; `null` otherwise.
    pub brackets: Option<Vec<String>>,
    /// The date asked for as the first cohort's, `YYYY-MM-DD`; `null` when none was.
    pub from: Option<String>,
    /// The date asked for as the last cohort's, `YYYY-MM-DD`; `null` when none was.
    pub to: Option<String>,
    /// `on`, `on_or_after`, `on_or_before` or `unbroken`.
    pub measure: &'static str,
    /// `weighted`, `simple` or `survival`.
    pub average: &'static str,
}

/// One cohort.
#[derive(Debug, Serialize)]
pub struct RowJson {
    /// Its period as ISO text: `2026-11-23T14`, `2026-11-23`, `2026-W48`, `2026-11`, `2026`.
    pub cohort: String,
    /// Its period for people: `Mon 23 Nov 2026`.
    pub label: String,
    /// Its first day, `YYYY-MM-DD`; for hours its first moment, RFC 3339.
    pub start: String,
    /// The first day (moment) after it.
    pub end: String,
    /// How many users; `null` when the cohort is not recorded.
    pub size: Option<u64>,
    /// Whether the size can still change, or is not known: `complete`, `in_progress`,
    /// `not_recorded`, or `not_recorded_before`: everybody looks new to `first`, and averages leave
    /// the cohort out.
    pub state: &'static str,
    /// Its cells. Future ones, and all those of an empty cohort, are left out: go by `index`.
    pub cells: Vec<CellJson>,
}

/// One number of the table.
#[derive(Debug, Serialize)]
pub struct CellJson {
    /// Its column: how many periods after the cohort's. Of a table of brackets, which bracket, from
    /// 0.
    pub index: usize,
    /// The first and the last period of its column, counted from the cohort's, which is 0.
    pub offsets: [u32; 2],
    /// The first period of its column as ISO text.
    pub period: String,
    /// Its first day, or for hours its first moment.
    pub start: String,
    /// The first day (moment) after its column.
    pub end: String,
    /// How many of the cohort came back; `null` when that is not recorded.
    pub retained: Option<u64>,
    /// `retained` by the cohort's size: 0–1, unrounded; `null` when that is not recorded.
    pub rate: Option<f64>,
    /// Wilson's 95 % interval of the rate, both ends 0–1; `null` when the rate is not recorded, or
    /// partly.
    pub interval: Option<(f64, f64)>,
    /// `complete`; `in_progress` when the number can still change; `partly_recorded` when it is a
    /// lower bound; `not_recorded` without a number.
    pub state: &'static str,
}

/// One column of the average row.
#[derive(Debug, Serialize)]
pub struct AverageJson {
    /// Its column.
    pub index: usize,
    /// The first and the last period of its column.
    pub offsets: [u32; 2],
    /// The average rate, 0–1, unrounded.
    pub rate: f64,
    /// How many cohorts went in: those whose cell is complete.
    pub cohorts: u32,
    /// The users retained in those, added up.
    pub retained: u64,
    /// The sizes of those, added up; for `survival` from column 1 on the people at risk, who were
    /// retained in the column before.
    pub size: u64,
    /// The 95 % interval: Wilson's of a weighted average, log(−log) with Greenwood's standard error
    /// for `survival`. `average_interval` says why it is `null` everywhere; that of a survival is
    /// also `null` at 0 and 1.
    pub interval: Option<(f64, f64)>,
}

/// Start and end of a period as ISO text.
fn bounds(period: Period) -> (String, String) {
    let [start, end] = period.iso_bounds();
    (start, end)
}

impl From<&Table> for TableJson {
    fn from(table: &Table) -> Self {
        let query = &table.query;
        TableJson {
            query: QueryJson {
                cohort: query.cohort.to_string(),
                returning: query.returning.to_string(),
                by: query.grain.as_str(),
                rows: table.rows.len(),
                cols: query.cols(),
                brackets: query
                    .brackets
                    .as_ref()
                    .map(|brackets| brackets.columns().iter().map(Column::to_string).collect()),
                from: query.from.map(|date| date.to_string()),
                to: query.to.map(|date| date.to_string()),
                measure: query.measure.as_str(),
                average: query.averaging.as_str(),
            },
            now: table.now.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            data_ends: table.data_ends.map(|period| period.to_string()),
            may_include_later_marks: table.recorded.later,
            zone: query.zone.name(),
            week: query.grain.week_start().as_str(),
            rows: table
                .rows
                .iter()
                .map(|row| RowJson::new(query, row))
                .collect(),
            average: query
                .columns()
                .zip(&table.averages)
                .enumerate()
                .map(|(k, (column, a))| a.map(|a| AverageJson::new(k, column, &a)))
                .collect(),
            entries: table.entries,
            people: table.people,
            complete_entries: table.complete_entries,
            complete_people: table.complete_people,
            repeats: table.repeats(),
            average_interval: match () {
                () if query.averaging == Averaging::Simple => "none_simple",
                () if table.is_disjoint() => "independent",
                () if table.is_independent() => "few_repeats",
                () => "none_repeats",
            },
        }
    }
}

impl RowJson {
    fn new(query: &Query, row: &Row) -> Self {
        let (start, end) = bounds(row.period);
        let cells = query.columns().zip(&row.cells).enumerate();
        RowJson {
            cohort: row.period.to_string(),
            label: row.period.label(),
            start,
            end,
            size: row.size,
            state: row.state_word(),
            cells: cells
                .filter_map(|(k, (column, cell))| CellJson::new(row.period, k, column, cell))
                .collect(),
        }
    }
}

impl CellJson {
    fn new(cohort: Period, index: usize, column: Column, cell: &Cell) -> Option<Self> {
        let (period, number, state) = match cell {
            Cell::Blank => return None,
            Cell::NotRecorded(period) => (*period, None, State::NotRecorded),
            Cell::Number(number) => (number.period, Some(number), number.state),
        };
        let [start, end] = column.iso_bounds(cohort);
        Some(CellJson {
            index,
            offsets: [column.first, column.last],
            period: period.to_string(),
            start,
            end,
            retained: number.map(|number| number.retained),
            rate: number.map(|number| number.rate()),
            interval: number.and_then(|number| number.interval()),
            state: state.as_str(),
        })
    }
}

impl AverageJson {
    fn new(index: usize, column: Column, average: &Average) -> Self {
        AverageJson {
            index,
            offsets: [column.first, column.last],
            rate: average.rate,
            cohorts: average.cohorts,
            retained: average.retained,
            size: average.size,
            interval: average.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Grain;
    use crate::reports::retention::Query;
    use crate::reports::sample;

    #[test]
    fn one_object_with_every_field() {
        let query = Query {
            rows: Some(1),
            cols: Some(2),
            to: chrono::NaiveDate::from_ymd_opt(2026, 11, 21),
            ..Query::new(
                "signup".parse().unwrap(),
                "active".parse().unwrap(),
                Grain::Day,
            )
        };
        let json = serde_json::to_value(TableJson::from(&sample::with(query))).unwrap();
        insta::assert_snapshot!(serde_json::to_string(&json).unwrap(), @r#"{"query":{"cohort":"signup","returning":"active","by":"day","rows":1,"cols":2,"brackets":null,"from":null,"to":"2026-11-21","measure":"on","average":"weighted"},"now":"2026-11-23T14:05:00Z","data_ends":null,"may_include_later_marks":false,"zone":"UTC","week":"monday","rows":[{"cohort":"2026-11-21","label":"Sat 21 Nov 2026","start":"2026-11-21","end":"2026-11-22","size":2,"state":"complete","cells":[{"index":0,"offsets":[0,0],"period":"2026-11-21","start":"2026-11-21","end":"2026-11-22","retained":1,"rate":0.5,"interval":[0.09453120573423074,0.9054687942657693],"state":"complete"},{"index":1,"offsets":[1,1],"period":"2026-11-22","start":"2026-11-22","end":"2026-11-23","retained":0,"rate":0.0,"interval":[0.0,0.6576197724933469],"state":"complete"}]}],"average":[{"index":0,"offsets":[0,0],"rate":0.5,"cohorts":1,"retained":1,"size":2,"interval":[0.09453120573423074,0.9054687942657693]},{"index":1,"offsets":[1,1],"rate":0.0,"cohorts":1,"retained":0,"size":2,"interval":[0.0,0.6576197724933469]}],"entries":2,"people":2,"complete_entries":2,"complete_people":2,"repeats":0,"average_interval":"independent"}"#);
    }

    #[test]
    fn a_table_of_the_sample_agrees_with_itself() {
        let source = sample::table();
        let json = serde_json::to_value(TableJson::from(&source)).unwrap();
        assert_eq!(json["rows"].as_array().map(Vec::len), Some(4));
        assert_eq!(json["rows"][2]["cells"].as_array().map(Vec::len), Some(0));
        assert_eq!(json["rows"][0]["cells"][3]["state"], "in_progress");
        assert_eq!(json["average"][3], serde_json::Value::Null);
        assert_eq!(json["average"][0]["size"], 6);
        assert_eq!(json["entries"], source.entries);
    }
}
