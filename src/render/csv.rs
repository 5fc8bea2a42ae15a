//! Comma-separated values, quoted as in RFC 4180, with lines that end in `\n`.

use std::borrow::Cow;

use crate::render::words;
use crate::reports::frame::{Frame, Value};

/// Renders a frame with its column names as the first line. Empty values are empty fields and
/// numbers are unrounded. Shares are in percent with two decimals and no percent sign: `27.39`. A
/// share that would only round to 0 or 100 is `<0.01` or `>99.99`.
pub fn frame(frame: &Frame) -> String {
    to_csv(|csv| {
        csv.write_record(
            frame
                .columns
                .iter()
                .map(|column| guard(column.name()).into_owned()),
        )?;
        for row in &frame.rows {
            csv.write_record(row.iter().map(field))?;
        }
        Ok(())
    })
}

fn field(value: &Value) -> String {
    match value {
        Value::Empty => String::new(),
        Value::Count(count) => count.to_string(),
        Value::People(people) => people.count.to_string(),
        Value::Difference(difference) => difference.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Share(share) => words::share(*share, 2),
        Value::Text(text) => guard(text).into_owned(),
        Value::Word(word) => word.clone(),
    }
}

/// A text field that no spreadsheet evaluates. What may be a formula gets a leading `'`; every
/// other value stays as it is.
///
/// Spreadsheets take a value for a formula when it begins with `=`, `+`, `-` or `@` (or one of them
/// in full width), or with a TAB, CR or LF that they drop. Three kinds of such values can call
/// nothing and refer to nothing, and are let through: numbers with a sign (`-7`, `+0.5`), telephone
/// numbers (`+49 (170) 123-45.67`: a plus sign, then digits, blanks, hyphens, dots and
/// parentheses), and handles (`@ann`, `@ann@example.org`: letters, digits, `_`, `-`, `.` and `@`).
///
/// ```
/// use cohortist::render::csv::guard;
/// assert_eq!(guard("=1+1"), "'=1+1");
/// assert_eq!(guard("-2+3"), "'-2+3");
/// assert_eq!(guard("+491701234567"), "+491701234567");
/// assert_eq!(guard("active"), "active");
/// ```
pub fn guard(text: &str) -> Cow<'_, str> {
    if may_be_formula(text) {
        format!("'{text}").into()
    } else {
        text.into()
    }
}

fn may_be_formula(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next();
    let rest = chars.as_str();
    match first {
        Some('=' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => true,
        Some('+') => !is_number(rest) && !is_telephone(rest),
        Some('-') => !is_number(rest),
        Some('@') => !is_handle(rest),
        _ => false,
    }
}

/// Whether a text consists of digits with at most one decimal point.
fn is_number(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(part)
}

fn is_telephone(text: &str) -> bool {
    let part = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '-' | '.' | '(' | ')');
    text.contains(|c: char| c.is_ascii_digit()) && text.chars().all(part)
}

fn is_handle(text: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_') && text.chars().all(part)
}

/// The ids of people, one a line, behind the text `before`.
///
/// ```
/// use cohortist::render::csv::people;
/// let ids = ["7", "-7", "=7", "ann, \"the\" first"].map(str::to_owned);
/// assert_eq!(people("user_id\n", &ids), "user_id\n7\n-7\n'=7\n\"ann, \"\"the\"\" first\"\n");
/// ```
pub fn people(before: &str, ids: &[String]) -> String {
    let mut text = before.to_owned();
    for id in ids {
        let id = guard(id);
        // Spreadsheets that separate lists by semicolons or tabs split there too, and would
        // evaluate the text that follows.
        if id.contains([',', ';', '\t', '"', '\r', '\n']) {
            text.push('"');
            text.push_str(&id.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(&id);
        }
        text.push('\n');
    }
    text
}

/// Renders CSV into memory, where writing cannot fail.
fn to_csv(write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> String {
    let mut csv = csv::Writer::from_writer(Vec::new());
    write(&mut csv).expect("writing to memory cannot fail");
    let bytes = csv.into_inner().expect("writing to memory cannot fail");
    String::from_utf8(bytes).expect("all fields are valid UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Grain;
    use crate::reports::Exports;
    use crate::reports::retention::{Benchmarks, Query, Show, Shown, Table};
    use crate::reports::sample;

    fn wide(table: &Table, show: Show) -> String {
        let table = table.clone();
        frame(
            &Shown {
                table,
                show,
                benchmarks: Benchmarks::default(),
            }
            .wide(),
        )
    }

    fn tidy(table: &Table) -> String {
        let table = table.clone();
        let show = Show::Percent;
        frame(
            &Shown {
                table,
                show,
                benchmarks: Benchmarks::default(),
            }
            .tidy(),
        )
    }

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
        cohort_start,cohort_end,cohort_size,period_index,period_start,period_end,retained,rate,state,cohort_state,group
        2026-11-20,2026-11-21,4,0,2026-11-20,2026-11-21,2,0.5,complete,complete,
        2026-11-20,2026-11-21,4,1,2026-11-21,2026-11-22,1,0.25,complete,complete,
        2026-11-20,2026-11-21,4,2,2026-11-22,2026-11-23,2,0.5,complete,complete,
        2026-11-20,2026-11-21,4,3,2026-11-23,2026-11-24,1,0.25,in_progress,complete,
        2026-11-21,2026-11-22,2,0,2026-11-21,2026-11-22,1,0.5,complete,complete,
        2026-11-21,2026-11-22,2,1,2026-11-22,2026-11-23,0,0,complete,complete,
        2026-11-21,2026-11-22,2,2,2026-11-23,2026-11-24,0,0,in_progress,complete,
        2026-11-23,2026-11-24,3,0,2026-11-23,2026-11-24,1,0.3333333333333333,in_progress,in_progress,
        ");
    }

    #[test]
    fn what_is_not_recorded_is_no_number() {
        let from = chrono::NaiveDate::from_ymd_opt(2026, 11, 21);
        let to = chrono::NaiveDate::from_ymd_opt(2026, 11, 24);
        let measure = crate::reports::retention::Measure::OnOrAfter;
        let query = Query {
            cols: Some(3),
            rows: None,
            from,
            to,
            measure,
            ..sample::table().query
        };
        let table = sample::ended(query, "2026-11-28T09:00:00Z");
        insta::assert_snapshot!(wide(&table, Show::Count), @r"
        cohort,size,0,1,2
        Sat 21 Nov 2026,2,1,0,0
        Sun 22 Nov 2026,0,,,
        Mon 23 Nov 2026,3,1,,
        Tue 24 Nov 2026,,,,
        ");
        insta::assert_snapshot!(tidy(&table), @r"
        cohort_start,cohort_end,cohort_size,period_index,period_start,period_end,retained,rate,state,cohort_state,group
        2026-11-21,2026-11-22,2,0,2026-11-21,2026-11-22,1,0.5,in_progress,complete,
        2026-11-21,2026-11-22,2,1,2026-11-22,2026-11-23,0,0,in_progress,complete,
        2026-11-21,2026-11-22,2,2,2026-11-23,2026-11-24,0,0,in_progress,complete,
        2026-11-23,2026-11-24,3,0,2026-11-23,2026-11-24,1,0.3333333333333333,partly_recorded,in_progress,
        2026-11-23,2026-11-24,3,1,2026-11-24,2026-11-25,,,not_recorded,in_progress,
        2026-11-23,2026-11-24,3,2,2026-11-25,2026-11-26,,,not_recorded,in_progress,
        2026-11-24,2026-11-25,,0,2026-11-24,2026-11-25,,,not_recorded,not_recorded,
        2026-11-24,2026-11-25,,1,2026-11-25,2026-11-26,,,not_recorded,not_recorded,
        2026-11-24,2026-11-25,,2,2026-11-26,2026-11-27,,,not_recorded,not_recorded,
        ");
    }

    #[test]
    fn tidy_hours_have_times() {
        let query = Query::new(
            "signup".parse().unwrap(),
            "active".parse().unwrap(),
            Grain::Hour,
        );
        let text = tidy(&sample::with(query));
        let first = text.lines().nth(1).unwrap();
        assert!(
            first
                .starts_with("2026-11-23T00:00:00Z,2026-11-23T01:00:00Z,3,0,2026-11-23T00:00:00Z,"),
            "{first}"
        );
    }

    #[test]
    fn formulas_are_guarded_and_plain_values_are_not() {
        for text in [
            "=1+1",
            "=",
            "+1+cmd|' /C calc'!A0",
            "-2+3",
            "@SUM(1)",
            "@SUM(1+1)*cmd|' /C calc'!A0",
            "@A1|x",
            "@a!b",
            "+A1",
            "-A1",
            "+a",
            "-",
            "+",
            "@",
            "@-1",
            "+1*2",
            "+1+2",
            "+1/2",
            "-1-2",
            "-1e5(",
            "+(SUM(1))",
            "\tx",
            "\r=1",
            "\n=1",
            "＝1+1",
            "＋1",
            "－1",
            "＠SUM(1)",
        ] {
            assert_eq!(guard(text), format!("'{text}"));
        }
        for text in [
            "",
            "a=1",
            "'=",
            "<script>",
            "+491701234567",
            "+49 (170) 123-45.67",
            "+1-555-123-4567",
            "+0.5",
            "-7",
            "-0.5",
            "@ann",
            "@J\u{f6}rg_7.b-c",
            "@ann@example.org",
            "ann+tag@example.org",
            "123-456",
        ] {
            assert_eq!(guard(text), text);
        }
    }

    /// Characters that a formula needs to call or refer to something, other than a sign.
    const OPERATORS: &str = "=+*/^&<>!|'\"[]{}:;,%#$\\`~?";

    proptest::proptest! {
        #[test]
        fn telephone_numbers_and_handles_stay_as_they_are(
            phone in "\\+[0-9(][0-9 ().-]{0,20}[0-9]",
            handle in "@[a-zA-Z0-9_\u{e4}\u{3042}][a-zA-Z0-9_.\u{e4}\u{3042}-]{0,20}",
            number in "[+-][0-9]{1,20}(\\.[0-9]{1,5})?",
            plain in "[^=+@\t\r\n\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}-][^\u{0}]{0,20}",
        ) {
            for text in [phone, handle, number, plain] {
                proptest::prop_assert_eq!(guard(&text), &*text);
            }
        }

        #[test]
        fn nothing_that_calls_refers_or_computes_is_let_through(text in "[=+@\t\r\n-][ -~]{0,20}") {
            let guarded = guard(&text);
            if *guarded == *format!("'{text}") {
                return Ok(());
            }
            proptest::prop_assert_eq!(&*guarded, &*text);
            let rest = &text[1..];
            proptest::prop_assert!(!rest.contains(|c| OPERATORS.contains(c)), "{}", text);
            // A word followed by parentheses is a call; a word after + or - is a reference.
            let word = rest.contains(|c: char| c.is_alphabetic());
            proptest::prop_assert!(!word || (text.starts_with('@') && !rest.contains(['(', ')', ' '])), "{}", text);
        }

        #[test]
        fn a_list_of_people_is_read_back_as_it_was(ids in proptest::collection::vec("[^\u{0}]{1,12}", 0..8)) {
            let text = people("user_id\n", &ids);
            let mut reader = ::csv::ReaderBuilder::new().terminator(::csv::Terminator::Any(b'\n')).from_reader(text.as_bytes());
            let read: Vec<String> = reader.records().map(|record| record.unwrap()[0].to_owned()).collect();
            let wanted: Vec<String> = ids.iter().map(|id| guard(id).into_owned()).collect();
            proptest::prop_assert_eq!(read, wanted);
        }
    }
}
