//! Tables for a terminal.

use std::fmt::Write;

use crate::render::{many, thousands, words};
use crate::reports::frame::{Frame, Value};
use crate::reports::retention::{Averaging, Cell, Number, Show, State, Table};

/// Spaces between columns.
const GAP: usize = 2;

/// One field of the grid: its text, and its heat (0–1) if it is coloured.
struct Field {
    text: String,
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

/// Renders the table as plain text. With a `width`, columns that do not fit are left out from the
/// right, and a note says which. Cells in progress have a `*`, future ones are blank, unrecorded
/// ones are `–`, and partly recorded ones start with `≥`. With `colour`, 256-colour escapes shade
/// the cells.
pub fn table(table: &Table, show: Show, width: Option<usize>, colour: bool) -> String {
    let grid = grid(table, show);
    let widths: Vec<usize> = (0..grid[0].len())
        .map(|k| {
            grid.iter()
                .map(|line| chars(&line[k].text))
                .max()
                .expect("the grid has a heading")
        })
        .collect();
    let fits = columns_that_fit(&widths, width);
    let mut out = format!("{}\n\n", table.title());
    for line in &grid {
        let mut text = String::new();
        for (k, (field, wide)) in line.iter().zip(&widths).take(fits).enumerate() {
            let blanks = " ".repeat(wide - chars(&field.text));
            match (k, field.heat.filter(|_| colour)) {
                (0, _) => text += &format!("{}{blanks}", field.text),
                // The colour covers the whole field, so that the edges of the grid stay straight.
                (_, Some(heat)) => {
                    text += &format!(" {}", painted(&format!(" {blanks}{}", field.text), heat))
                }
                _ => text += &format!("{}{blanks}{}", " ".repeat(GAP), field.text),
            }
        }
        out += text.trim_end();
        out.push('\n');
    }
    out.push('\n');
    out + &*notes(table, widths.len() - fits)
}

/// Renders a frame in aligned columns: texts to the left, numbers to the right. Columns that do not
/// fit into `width` are left out from the right, and a note says so.
pub fn frame(frame: &Frame, width: Option<usize>) -> String {
    let heads = frame.columns.iter().map(|column| column.to_string());
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

/// Formats a value for people.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Empty => "–".to_owned(),
        Value::Count(count) => thousands(*count),
        Value::Number(number) => format!("{number:.2}"),
        Value::Share(share) => words::percent(*share),
        // A control character could change what the terminal shows.
        Value::Text(text) => text.escape_debug().to_string(),
        Value::Word(word) => word.clone(),
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Returns how many fields of a line fit. It is never less than cohort, people and one column.
fn columns_that_fit(widths: &[usize], width: Option<usize>) -> usize {
    let Some(width) = width else {
        return widths.len();
    };
    let mut used = 0;
    let fit = widths.iter().enumerate().take_while(|(k, wide)| {
        used += **wide + if *k == 0 { 0 } else { GAP };
        used <= width
    });
    fit.count().max(widths.len().min(3))
}

fn grid(table: &Table, show: Show) -> Vec<Vec<Field>> {
    let hottest = hottest(table);
    let head = ["Cohort".into(), "People".into()].into_iter();
    let mut grid: Vec<Vec<Field>> = vec![
        head.chain((0..table.averages.len()).map(|k| format!("{k} ").into()))
            .collect(),
    ];
    for row in &table.rows {
        let star = if row.state == State::InProgress {
            "*"
        } else {
            " "
        };
        let part = if table.is_partial(row) { " †" } else { "" };
        let size = row.size.map_or_else(|| NO_DATA.to_owned(), thousands);
        let mut line: Vec<Field> = vec![
            format!("{}{part}", row.period.label()).into(),
            format!("{size}{star}").into(),
        ];
        line.extend(row.cells.iter().map(|cell| match cell {
            Cell::Number(number) => Field {
                text: number_text(number, show),
                heat: Some(number.rate() / hottest),
            },
            Cell::NotRecorded(_) => format!("{NO_DATA} ").into(),
            Cell::Blank => "".into(),
        }));
        grid.push(line);
    }
    let name = match table.query.averaging {
        Averaging::Weighted => "Weighted average",
        Averaging::Simple => "Simple average",
    };
    let (mut rates, mut cohorts): (Vec<Field>, Vec<Field>) = (
        vec![name.into(), "".into()],
        vec!["  of how many cohorts".into(), "".into()],
    );
    for average in &table.averages {
        // The average stays a rate even if cells show counts: an average count would mix cohorts of
        // different sizes.
        rates.push(
            average
                .map_or_else(String::new, |a| format!("{} ", words::percent(a.rate)))
                .into(),
        );
        cohorts.push(
            average
                .map_or_else(String::new, |a| format!("{} ", a.cohorts))
                .into(),
        );
    }
    grid.extend([rates, cohorts]);
    grid
}

/// Shown in place of a number that is not recorded.
const NO_DATA: &str = "–";

fn number_text(number: &Number, show: Show) -> String {
    let star = if number.state == State::InProgress {
        "*"
    } else {
        " "
    };
    let text = match show {
        Show::Percent => words::percent(number.rate()),
        Show::Count => thousands(number.retained),
    };
    if number.state == State::PartlyRecorded {
        format!("{} ", words::at_least(&text))
    } else {
        format!("{text}{star}")
    }
}

/// Returns the rate with the strongest colour. Column 0 is often far above the rest and would leave
/// the other columns pale, so it is used only if they are all 0.
fn hottest(table: &Table) -> f64 {
    let cells = || {
        table
            .rows
            .iter()
            .flat_map(|row| row.cells.iter().enumerate())
    };
    let most = |first: usize| {
        cells()
            .filter(|(k, _)| *k >= first)
            .filter_map(|(_, cell)| Some(cell.number()?.rate()))
            .fold(0.0, f64::max)
    };
    let later = most(1);
    if later > 0.0 {
        later
    } else {
        most(0).max(f64::MIN_POSITIVE)
    }
}

/// Background and text colour of the heat, coolest first: one hue that gets brighter, with readable
/// text at every step.
const RAMP: [(u8, u8); 6] = [
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
    let above =
        |step: &usize| heat > f64::from(u32::try_from(*step).expect("the ramp is short")) / 6.0;
    let (back, front) = RAMP[(0..RAMP.len()).rev().find(above).unwrap_or(0)];
    format!("\x1b[48;5;{back};38;5;{front}m{text}\x1b[0m")
}

fn notes(table: &Table, left_out: usize) -> String {
    let mut out = String::new();
    if left_out > 0 {
        let first = table.averages.len() - left_out;
        let what = if left_out == 1 {
            format!("Column {first} does")
        } else {
            format!(
                "Columns {first} to {} ({left_out} of them) do",
                table.averages.len() - 1
            )
        };
        let _ = writeln!(
            out,
            "{what} not fit this terminal: widen it, pipe the output (`| less -S`), or write --format csv."
        );
    }
    if table.is_empty() {
        let grain = table.query.grain;
        let _ = match table.is_recorded() {
            true => writeln!(out, "Nobody did {} in these {grain}s.", table.cohort()),
            false => writeln!(out, "The store has no data of these {grain}s."),
        };
    }
    if table.people != table.entries {
        let _ = writeln!(
            out,
            "{} behind {} cohort entries: a person in several cohorts counts in each.",
            if table.people == 1 {
                "1 person".to_owned()
            } else {
                format!("{} distinct people", thousands(table.people))
            },
            thousands(table.entries),
        );
    } else if !table.is_empty() {
        let _ = writeln!(out, "{}, each in one cohort.", many(table.people, "user"));
    }
    let running =
        if table.has_running() || table.rows.iter().any(|row| row.state == State::InProgress) {
            format!(
                "* {}, left out of the average · ",
                words::in_progress(table.data_ends)
            )
        } else {
            String::new()
        };
    words::recorded(table).iter().for_each(|said| {
        let _ = writeln!(out, "{said}");
    });
    let (missing, partial) = table.has_gaps();
    let missing = if missing { "– no data · " } else { "" };
    let partial = if partial {
        "≥ at least: partly recorded, left out of the average · "
    } else {
        ""
    };
    let ends = words::data_ends(table).map_or_else(String::new, |ends| format!(" · {ends}"));
    let _ = writeln!(
        out,
        "{running}{partial}{missing}UTC · as of {}{ends}",
        table.now.format("%Y-%m-%d %H:%M")
    );
    out
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

        Cohort                 People      0       1       2       3
        Fri 20 Nov 2026            4   50.0%   25.0%   50.0%   25.0%*
        Sat 21 Nov 2026            2   50.0%    0.0%    0.0%*
        Sun 22 Nov 2026            0
        Mon 23 Nov 2026            3*  33.3%*
        Weighted average               50.0%   16.7%   50.0%
          of how many cohorts              2       2       1

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

        Cohort                 People       0       1   2
        Sat 21 Nov 2026            2        2       1   1*
        Sun 22 Nov 2026            2        2       1*
        Mon 23 Nov 2026            2*       2*
        Simple average                 100.0%   50.0%
          of how many cohorts               2       1

        4 distinct people behind 6 cohort entries: a person in several cohorts counts in each.
        * still in progress, left out of the average · UTC · as of 2026-11-23 14:05
        ");
    }

    #[test]
    fn a_narrow_terminal_is_told_what_is_missing() {
        insta::assert_snapshot!(table(&sample::table(), Show::Percent, Some(48), false), @r"
        signup → active, daily cohorts, counted on the day

        Cohort                 People      0       1
        Fri 20 Nov 2026            4   50.0%   25.0%
        Sat 21 Nov 2026            2   50.0%    0.0%
        Sun 22 Nov 2026            0
        Mon 23 Nov 2026            3*  33.3%*
        Weighted average               50.0%   16.7%
          of how many cohorts              2       2

        Columns 2 to 3 (2 of them) do not fit this terminal: widen it, pipe the output (`| less -S`), or write --format csv.
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
    fn nobody_at_all() {
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

        Cohort                 People  0   1
        Oct 2026                   0
        Nov 2026                   0*
        Weighted average
          of how many cohorts

        Nobody did nope in these months.
        active is first recorded on 20 Nov 2026: before that its counts are 0.
        * still in progress, left out of the average · UTC · as of 2026-11-23 14:05
        ");
    }

    #[test]
    fn what_was_not_recorded_is_no_zero() {
        let ask = |cohort: &str, returning: &str, grain| Query {
            rows: Some(4),
            cols: Some(2),
            ..Query::new(cohort.parse().unwrap(), returning.parse().unwrap(), grain)
        };
        let text = |query| table(&sample::with(query), Show::Percent, None, false);
        insta::assert_snapshot!(text(ask("signup", "active", Grain::Month)), @r"
        signup → active, monthly cohorts, counted in the month

        Cohort                 People      0   1
        Aug 2026                   –       –   –
        Sep 2026                   –       –   –
        Oct 2026                   0
        Nov 2026 †                 9*  44.4%*
        Weighted average
          of how many cohorts

        9 users, each in one cohort.
        The store has data from Oct 2026 on.
        † signup is first recorded on 20 Nov 2026: this month holds those days only.
        active is first recorded on 20 Nov 2026: before that its counts are 0.
        * still in progress, left out of the average · – no data · UTC · as of 2026-11-23 14:05
        ");
        let weekly = Query {
            rows: Some(5),
            ..ask("early", "active", Grain::Week)
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
          of how many cohorts                   1      1

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

        Cohort                 People  0   1
        2017                       –   –   –
        2018                       –   –   –
        2019                       –   –   –
        2020                       –   –   –
        Weighted average
          of how many cohorts

        The store has no data of these years.
        – no data · UTC · as of 2026-11-23 14:05
        ");
    }

    #[test]
    fn where_the_data_ends_the_table_says_so() {
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

        Cohort                 People      0      1      2
        Sat 21 Nov 2026            2   50.0%   0.0%   0.0%*
        Sun 22 Nov 2026            0
        Mon 23 Nov 2026            3*  33.3%*     –      –
        Weighted average               50.0%   0.0%
          of how many cohorts              1      1

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

        Cohort                 People       0   1   2
        Sun 22 Nov 2026            0
        Mon 23 Nov 2026            3*  ≥33.3%   –   –
        Tue 24 Nov 2026            –        –   –   –
        Weighted average
          of how many cohorts

        3 users, each in one cohort.
        * data ends in it, left out of the average · ≥ at least: partly recorded, left out of the average · – no data · UTC · as of 2026-11-28 09:00 · data ends 23 Nov 2026
        ");
    }

    #[test]
    fn colour_changes_no_text() {
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
