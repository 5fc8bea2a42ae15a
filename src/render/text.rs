//! Retention tables for a terminal.

use std::fmt::Write;

use crate::render::{many, thousands, words};
use crate::reports::frame::{Frame, People, Value};
use crate::reports::retention::{Averaging, Cell, Number, Show, State, Table};

/// The number of spaces between columns.
const GAP: usize = 2;

/// The number of columns that are always shown: cohort, people and one period.
const MIN_COLUMNS: usize = 3;

/// What is shown where nothing is recorded.
const NO_DATA: &str = "–";

/// One field of the grid.
struct Field {
    text: String,
    /// The intensity of its colour, from 0 to 1. `None` for a field without colour.
    heat: Option<f64>,
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Field { text, heat: None }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Formats a table as plain text. Columns beyond `width` characters are left out, and a line says
/// so. Cells that are still in progress have a `*`, future cells are blank, cells without data are a
/// `–`, and numbers that are partly recorded start with `≥`. With `colour`, cells have a background
/// from 256-colour escapes.
pub fn table(table: &Table, show: Show, width: Option<usize>, colour: bool) -> String {
    let grid = grid(table, show);
    let widths: Vec<usize> = (0..grid[0].len())
        .map(|column| {
            let texts = grid.iter().map(|line| chars(&line[column].text));
            texts.max().expect("there is a header")
        })
        .collect();
    let columns = columns_that_fit(&widths, width);
    let mut out = format!("{}\n\n", table.title());
    for line in &grid {
        let mut text = String::new();
        for (column, (field, width)) in line.iter().zip(&widths).take(columns).enumerate() {
            let padding = " ".repeat(width - chars(&field.text));
            match (column, field.heat.filter(|_| colour)) {
                (0, _) => text += &format!("{}{padding}", field.text),
                // The colour fills the whole field, so that the columns have straight edges.
                (_, Some(heat)) => {
                    let field = painted(&format!(" {padding}{}", field.text), heat);
                    text += &format!(" {field}");
                }
                _ => text += &format!("{}{padding}{}", " ".repeat(GAP), field.text),
            }
        }
        out += text.trim_end();
        out.push('\n');
    }
    out.push('\n');
    out + &*notes(table, show, widths.len() - columns)
}

/// Formats a frame in aligned columns: texts to the left, numbers to the right. Columns beyond
/// `width` characters are left out, and a line says so.
pub fn frame(frame: &Frame, width: Option<usize>) -> String {
    // A name from outside may contain control characters.
    let heads = frame
        .columns
        .iter()
        .map(|column| column.name().escape_debug().to_string());
    let mut lines = vec![heads.collect::<Vec<_>>()];
    lines.extend(frame.rows.iter().map(|row| row.iter().map(cell).collect()));
    let widest = |k: usize| lines.iter().map(|line| chars(&line[k])).max();
    let widths: Vec<usize> = (0..frame.columns.len())
        .map(|k| widest(k).unwrap_or_default())
        .collect();
    let is_left = |k: usize| {
        let mut values = frame.rows.iter().map(|row| &row[k]);
        values.all(|value| matches!(value, Value::Text(_) | Value::Word(_) | Value::Empty))
    };
    let left: Vec<bool> = (0..frame.columns.len()).map(is_left).collect();
    let fits = columns_that_fit(&widths, width);
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (k, field) in line.iter().enumerate().take(fits) {
            let gap = if k == 0 { 0 } else { GAP };
            let blanks = " ".repeat(widths[k] - chars(field));
            text += &" ".repeat(gap);
            text += &if left[k] {
                format!("{field}{blanks}")
            } else {
                format!("{blanks}{field}")
            };
        }
        out += text.trim_end();
        out.push('\n');
    }
    if fits < widths.len() {
        let more = many((widths.len() - fits) as u64, "more column");
        out += &format!("\n{more} in a wider terminal, or with --width or --format\n");
    }
    out
}

/// A value as people read it.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Empty => "–".to_owned(),
        Value::Count(count) => thousands(*count),
        Value::People(people) => marked(people),
        Value::Difference(difference) => words::difference(*difference),
        Value::Number(number) => format!("{number:.2}"),
        Value::Share(share) => words::percent(*share),
        // A control character could change what the terminal shows.
        Value::Text(text) => text.escape_debug().to_string(),
        Value::Word(word) => word.clone(),
    }
}

/// A number of people with the mark of its state.
fn marked(people: &People) -> String {
    let count = thousands(people.count);
    match people.state {
        State::InProgress => format!("{count}*"),
        State::PartlyRecorded => words::at_least(&count),
        State::Complete | State::Future | State::NotRecorded => count,
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// The number of columns that fit into a line.
fn columns_that_fit(widths: &[usize], width: Option<usize>) -> usize {
    let Some(width) = width else {
        return widths.len();
    };
    let mut used = 0;
    let fitting = widths.iter().enumerate().take_while(|(column, wide)| {
        used += **wide + if *column == 0 { 0 } else { GAP };
        used <= width
    });
    fitting.count().max(widths.len().min(MIN_COLUMNS))
}

fn grid(table: &Table, show: Show) -> Vec<Vec<Field>> {
    let mut header: Vec<Field> = vec!["Cohort".into(), "People".into()];
    let headings = (0..table.averages.len()).map(|k| words::column_heading(table, k));
    header.extend(headings.map(|heading| format!("{heading} ").into()));
    let mut grid = vec![header];
    let max_rate = max_rate(table);
    for row in &table.rows {
        let partial = match row.is_first_recorded {
            true => " ‡",
            false if table.is_partial(row) => " †",
            false => "",
        };
        let size = row.size.map_or_else(|| NO_DATA.to_owned(), thousands);
        let mut line: Vec<Field> = vec![
            format!("{}{partial}", row.period.label()).into(),
            format!("{size}{}", star(row.state)).into(),
        ];
        line.extend(row.cells.iter().enumerate().map(|(k, cell)| match cell {
            Cell::Number(number) => Field {
                text: cell_text(number, show, table.of_previous(row, k)),
                heat: match show {
                    Show::Previous => table.of_previous(row, k),
                    Show::Percent | Show::Count => Some(number.rate() / max_rate),
                },
            },
            Cell::NotRecorded(_) => format!("{NO_DATA} ").into(),
            Cell::Blank => "".into(),
        }));
        grid.push(line);
    }
    let name = match show {
        Show::Previous => words::ALL_COHORTS,
        Show::Percent | Show::Count => table.query.averaging.heading(),
    };
    let mut rates: Vec<Field> = vec![name.into(), "".into()];
    let mut cohorts: Vec<Field> = vec!["  number of cohorts".into(), "".into()];
    for (k, average) in table.averages.iter().enumerate() {
        let shown = match show {
            Show::Previous => table.all_of_previous(k),
            // A rate even in a table of counts: cohorts have different sizes, so an average count
            // would mean nothing.
            Show::Percent | Show::Count => average.map(|average| (average.rate, average.cohorts)),
        };
        match shown {
            Some((rate, count)) => {
                rates.push(format!("{} ", words::percent(rate)).into());
                cohorts.push(format!("{count} ").into());
            }
            None => {
                rates.push("".into());
                cohorts.push("".into());
            }
        }
    }
    grid.extend([rates, cohorts]);
    grid
}

/// The mark of a number that is still in progress, or a space to align the others.
fn star(state: State) -> &'static str {
    if state == State::InProgress { "*" } else { " " }
}

fn cell_text(number: &Number, show: Show, of_previous: Option<f64>) -> String {
    let text = match show {
        Show::Previous => match of_previous {
            Some(share) => words::percent(share),
            None => return " ".to_owned(),
        },
        Show::Percent => words::percent(number.rate()),
        Show::Count => thousands(number.retained),
    };
    if number.state == State::PartlyRecorded {
        format!("{} ", words::at_least(&text))
    } else {
        format!("{text}{}", star(number.state))
    }
}

/// The rate with the strongest colour. Column 0 is left out if possible, because it is often far
/// above the others and would leave them pale.
fn max_rate(table: &Table) -> f64 {
    let max_from = |first: usize| {
        let cells = table
            .rows
            .iter()
            .flat_map(|row| row.cells.iter().skip(first));
        cells
            .filter_map(|cell| Some(cell.number()?.rate()))
            .fold(0.0, f64::max)
    };
    let later = max_from(1);
    if later > 0.0 {
        later
    } else {
        max_from(0).max(f64::MIN_POSITIVE)
    }
}

/// The number of colours.
const STEPS: u8 = 6;

/// Background and text colours, from the coolest to the hottest: one hue that gets brighter, with
/// readable text on each.
const RAMP: [(u8, u8); STEPS as usize] = [
    (23, 231),
    (24, 231),
    (31, 16),
    (38, 16),
    (45, 16),
    (123, 16),
];

fn painted(text: &str, heat: f64) -> String {
    if heat <= 0.0 {
        return text.to_owned();
    }
    let step = (0..STEPS)
        .rev()
        .find(|step| heat > f64::from(*step) / f64::from(STEPS))
        .expect("the heat is above 0");
    let (back, front) = RAMP[usize::from(step)];
    format!("\x1b[48;5;{back};38;5;{front}m{text}\x1b[0m")
}

fn notes(table: &Table, show: Show, left_out: usize) -> String {
    let mut out = String::new();
    if left_out > 0 {
        out += &left_out_note(table, left_out);
    }
    let grain = table.query.grain;
    if table.is_empty() {
        out += &if table.is_recorded() {
            format!("Nobody did {} in these {grain}s.\n", table.cohort())
        } else {
            format!("The store has no data for these {grain}s.\n")
        };
    }
    if table.people != table.entries {
        let people = if table.people == 1 {
            "1 person".to_owned()
        } else {
            format!("{} distinct people", thousands(table.people))
        };
        let entries = thousands(table.entries);
        let _ = writeln!(
            out,
            "{people} in {entries} cohort entries: people in several cohorts count in each."
        );
    } else if !table.is_empty() {
        let users = many(table.people, "user");
        let _ = writeln!(out, "{users}, each in one cohort.");
    }
    if table.query.averaging == Averaging::Survival && show != Show::Previous {
        let _ = writeln!(out, "{}", words::SURVIVAL);
    }
    if let Some(sentence) = words::same_period(table) {
        let _ = writeln!(out, "{sentence}");
    }
    for sentence in words::few_repeats(table)
        .into_iter()
        .chain(words::recorded(table))
    {
        let _ = writeln!(out, "{sentence}");
    }
    out + &footer(table) + "\n"
}

/// Says which columns do not fit: the last `left_out`.
fn left_out_note(table: &Table, left_out: usize) -> String {
    let columns = table.averages.len();
    let heading = |k: usize| words::column_heading(table, k);
    let first = heading(columns - left_out);
    let what = if left_out == 1 {
        format!("Column {first} does")
    } else {
        let last = heading(columns - 1);
        format!("Columns {first} to {last} ({left_out} of them) do")
    };
    format!(
        "{what} not fit this terminal: widen it, pipe the output (`| less -S`), or use --format csv.\n"
    )
}

/// The legend, and the time of the answer.
fn footer(table: &Table) -> String {
    let in_progress =
        table.has_running() || table.rows.iter().any(|row| row.state == State::InProgress);
    let (missing, partial) = table.has_gaps();
    let mut parts = Vec::new();
    if in_progress {
        parts.push(format!(
            "* {}, left out of the average",
            words::in_progress(table.data_ends)
        ));
    }
    if partial {
        parts.push("≥ at least: partly recorded, left out of the average".to_owned());
    }
    if missing {
        parts.push("– no data".to_owned());
    }
    parts.push(table.query.calendar().words());
    let now = table.query.zone.local(table.now);
    parts.push(format!("as of {}", now.format("%Y-%m-%d %H:%M")));
    parts.extend(words::data_ends(table));
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Grain;
    use crate::reports::retention::Query;
    use crate::reports::sample;

    #[test]
    fn percentages() {
        insta::assert_snapshot!(table(&sample::table(), Show::Percent, None, false), @r"
        signup → active, daily cohorts, counted on the day

        Cohort               People      0       1       2       3
        Fri 20 Nov 2026          4   50.0%   25.0%   50.0%   25.0%*
        Sat 21 Nov 2026          2   50.0%    0.0%    0.0%*
        Sun 22 Nov 2026          0
        Mon 23 Nov 2026          3*  33.3%*
        Weighted average             50.0%   16.7%   50.0%
          number of cohorts              2       2       1

        9 users, each in one cohort.
        * still in progress, left out of the average · UTC · as of 2026-11-23 14:05
        ");
    }

    #[test]
    fn counts_with_shared_people() {
        let query = Query {
            rows: Some(3),
            cols: Some(3),
            averaging: Averaging::Simple,
            ..Query::new(
                "active".parse().unwrap(),
                "active".parse().unwrap(),
                Grain::Day,
            )
        };
        insta::assert_snapshot!(table(&sample::with(query), Show::Count, None, false), @r"
        active → active, daily cohorts, counted on the day

        Cohort               People       0       1   2
        Sat 21 Nov 2026          2        2       1   1*
        Sun 22 Nov 2026          2        2       1*
        Mon 23 Nov 2026          2*       2*
        Simple average               100.0%   50.0%
          number of cohorts               2       1

        4 distinct people in 6 cohort entries: people in several cohorts count in each.
        * still in progress, left out of the average · UTC · as of 2026-11-23 14:05
        ");
    }

    #[test]
    fn a_narrow_terminal_lists_the_missing_columns() {
        insta::assert_snapshot!(table(&sample::table(), Show::Percent, Some(48), false), @r"
        signup → active, daily cohorts, counted on the day

        Cohort               People      0       1
        Fri 20 Nov 2026          4   50.0%   25.0%
        Sat 21 Nov 2026          2   50.0%    0.0%
        Sun 22 Nov 2026          0
        Mon 23 Nov 2026          3*  33.3%*
        Weighted average             50.0%   16.7%
          number of cohorts              2       2

        Columns 2 to 3 (2 of them) do not fit this terminal: widen it, pipe the output (`| less -S`), or use --format csv.
        9 users, each in one cohort.
        * still in progress, left out of the average · UTC · as of 2026-11-23 14:05
        ");
        let narrowest = table(&sample::table(), Show::Percent, Some(1), false);
        assert!(
            narrowest.contains("Columns 1 to 3 (3 of them) do not fit"),
            "{narrowest}"
        );
    }

    #[test]
    fn a_cohort_without_people() {
        let query = Query {
            rows: Some(2),
            cols: Some(2),
            ..Query::new(
                "nope".parse().unwrap(),
                "active".parse().unwrap(),
                Grain::Month,
            )
        };
        insta::assert_snapshot!(table(&sample::with(query), Show::Percent, None, false), @r"
        nope → active, monthly cohorts, counted in the month

        Cohort               People  0   1
        Oct 2026                 0
        Nov 2026                 0*
        Weighted average
          number of cohorts

        Nobody did nope in these months.
        active is first recorded on 20 Nov 2026: before that its counts are 0.
        * still in progress, left out of the average · UTC · as of 2026-11-23 14:05
        ");
    }

    #[test]
    fn missing_data_is_not_shown_as_zero() {
        let ask = |cohort: &str, returning: &str, grain| Query {
            rows: Some(4),
            cols: Some(2),
            ..Query::new(cohort.parse().unwrap(), returning.parse().unwrap(), grain)
        };
        let text = |query| table(&sample::with(query), Show::Percent, None, false);
        insta::assert_snapshot!(text(ask("signup", "active", Grain::Month)), @r"
        signup → active, monthly cohorts, counted in the month

        Cohort               People      0   1
        Aug 2026                 –       –   –
        Sep 2026                 –       –   –
        Oct 2026                 0
        Nov 2026 †               9*  44.4%*
        Weighted average
          number of cohorts

        9 users, each in one cohort.
        The store has data from Oct 2026 on.
        † signup is first recorded on 20 Nov 2026: this month holds those days only.
        active is first recorded on 20 Nov 2026: before that its counts are 0.
        * still in progress, left out of the average · – no data · UTC · as of 2026-11-23 14:05
        ");
        let weekly = Query {
            rows: Some(5),
            ..ask("early", "active", Grain::WEEK)
        };
        insta::assert_snapshot!(text(weekly), @r"
        early → active, weekly cohorts, counted in the week

        Cohort                       People     0      1
        26 Oct – 1 Nov 2026 (W44) †      2   0.0%   0.0%
        2 – 8 Nov 2026 (W45)             0
        9 – 15 Nov 2026 (W46)            0
        16 – 22 Nov 2026 (W47)           0
        23 – 29 Nov 2026 (W48)           0*
        Weighted average                     0.0%   0.0%
          number of cohorts                     1      1

        2 users, each in one cohort.
        † early is first recorded on 28 Oct 2026: this week holds those days only.
        active is first recorded on 20 Nov 2026: before that its counts are 0.
        * still in progress, left out of the average · UTC · as of 2026-11-23 14:05
        ");
        let long_ago = Query {
            to: chrono::NaiveDate::from_ymd_opt(2020, 5, 5),
            ..ask("signup", "active", Grain::Year)
        };
        insta::assert_snapshot!(text(long_ago), @r"
        signup → active, yearly cohorts, counted in the year

        Cohort               People  0   1
        2017                     –   –   –
        2018                     –   –   –
        2019                     –   –   –
        2020                     –   –   –
        Weighted average
          number of cohorts

        The store has no data for these years.
        – no data · UTC · as of 2026-11-23 14:05
        ");
    }

    #[test]
    fn the_footer_says_where_the_data_ends() {
        let query = Query {
            cols: Some(3),
            rows: Some(3),
            ..sample::table().query
        };
        let to = chrono::NaiveDate::from_ymd_opt(2026, 11, 24);
        let ended = |query| {
            table(
                &sample::ended(query, "2026-11-28T09:00:00Z"),
                Show::Percent,
                None,
                false,
            )
        };
        insta::assert_snapshot!(ended(query.clone()), @r"
        signup → active, daily cohorts, counted on the day

        Cohort               People      0      1      2
        Sat 21 Nov 2026          2   50.0%   0.0%   0.0%*
        Sun 22 Nov 2026          0
        Mon 23 Nov 2026          3*  33.3%*     –      –
        Weighted average             50.0%   0.0%
          number of cohorts              1      1

        5 users, each in one cohort.
        * data ends in it, left out of the average · – no data · UTC · as of 2026-11-28 09:00 · data ends 23 Nov 2026
        ");
        let later = Query {
            to,
            measure: crate::reports::retention::Measure::OnOrAfter,
            ..query
        };
        insta::assert_snapshot!(ended(later), @r"
        signup → active, daily cohorts, counted on or after the day

        Cohort               People       0   1   2
        Sun 22 Nov 2026          0
        Mon 23 Nov 2026          3*  ≥33.3%   –   –
        Tue 24 Nov 2026          –        –   –   –
        Weighted average
          number of cohorts

        3 users, each in one cohort.
        * data ends in it, left out of the average · ≥ at least: partly recorded, left out of the average · – no data · UTC · as of 2026-11-28 09:00 · data ends 23 Nov 2026
        ");
    }

    #[test]
    fn colour_does_not_change_the_text() {
        let plain = table(&sample::table(), Show::Percent, None, false);
        let colour = table(&sample::table(), Show::Percent, None, true);
        assert!(colour.contains("\x1b[48;5;"));
        let mut stripped = String::new();
        let mut rest = colour.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            stripped += before;
            rest = after.split_once('m').map_or("", |(_, after)| after);
        }
        assert_eq!(stripped + rest, plain);
    }
}
