//! A [`Table`] in its dresses: CSV, JSON and the terminal. All pure; every one shows the same numbers.

pub mod axis;
pub mod chart;
pub mod colour;
pub mod csv;
pub mod json;
#[cfg(test)]
mod sample;
pub mod strip;
pub mod text;
pub mod trend;
pub mod words;

use std::fmt;

use crate::reports::activity::Activity;
use crate::reports::choice;
use crate::reports::people::{Crowd, Who};
use crate::reports::retention::{Query, Table};

choice! {
    /// What a cell of a table shows.
    Show {
        /// The share of the cohort, in percent.
        #[default]
        Percent = "percent",
        /// How many users.
        Count = "count",
    }
}

choice! {
    /// Which cohort of a table stands on top.
    Order {
        /// The newest.
        #[default]
        Newest = "newest",
        /// The oldest.
        Oldest = "oldest",
    }
}

choice! {
    /// What the shades of a table's cells stand for.
    Scale {
        /// 0–100 %, the same for every table.
        #[default]
        Absolute = "absolute",
        /// From the lowest to the highest rate of the table, so that small differences show.
        Fitted = "fitted",
    }
}

/// A number with commas between its thousands: `1,234,567`.
///
/// ```
/// use cohortist::render::thousands;
/// assert_eq!((thousands(999), thousands(1_000), thousands(1_234_567)), ("999".into(), "1,000".into(), "1,234,567".into()));
/// ```
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and its noun, in the plural where it belongs: `1 file`, `2,357 users`.
///
/// ```
/// use cohortist::render::many;
/// assert_eq!((many(1, "file"), many(2_357, "user")), ("1 file".into(), "2,357 users".into()));
/// ```
pub fn many(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// The question of a table in words: `signup → active, daily cohorts, counted on the day`.
pub fn title(table: &Table) -> String {
    title_of(&table.query, table.cohort(), table.returning())
}

/// The same for a query whose two sides have names for people.
pub fn title_of(query: &Query, cohort: impl fmt::Display, returning: impl fmt::Display) -> String {
    let (grain, counted) = (query.grain, words::counted(query.measure, query.grain));
    format!("{cohort} → {returning}, {} cohorts, counted {counted} the {grain}", grain.adjective())
}

/// A file name for a table, without its ending: `retention_signup_active_day_2026-11-10`, the date being the first
/// cohort's. Holds only ASCII letters, digits, `-`, `_` and `.`, and at most about 120 of them.
pub fn file_stem(table: &Table) -> String {
    let query = &table.query;
    let first = table.rows.first().map_or(table.current, |row| row.period);
    format!("retention_{}_{}_{}_{first}", safe(&query.cohort), safe(&query.returning), query.grain)
}

/// A file name for an activity, without its ending: `active_by_day_2026-10-25`, the date being the first period's. As
/// harmless as [`file_stem`]'s.
pub fn activity_stem(activity: &Activity) -> String {
    let first = activity.points.first().map_or_else(String::new, |point| format!("_{}", point.period));
    format!("{}_by_{}{first}", safe(&activity.segment), activity.grain)
}

/// The same for a list of people of a cohort: `people_signup_active_day_2026-11-16_2_lost`.
pub fn people_file_stem(query: &Query, crowd: &Crowd, who: Who) -> String {
    let column = crowd.back.as_ref().map_or_else(String::new, |back| format!("_{}", back.column));
    let (cohort, returning) = (safe(&query.cohort), safe(&query.returning));
    format!("people_{cohort}_{returning}_{}_{}{column}_{}", query.grain, crowd.period, who.as_str())
}

/// The same for the people of a set, from its text: `people_active-2026-11-23`.
pub fn set_file_stem(set: &str) -> String {
    format!("people_{}", safe(&set))
}

/// The most characters a segment may take in a file name.
const SAFE_CHARS: usize = 40;

fn safe(text: &impl ToString) -> String {
    let mut name = String::new();
    for c in text.to_string().chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.len() == SAFE_CHARS {
            break;
        }
    }
    let name = name.trim_matches('-');
    if name.is_empty() { "segment".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Grain;
    use crate::reports::retention::Measure;

    #[test]
    fn shows_are_read_and_printed() {
        assert_eq!("count".parse::<Show>(), Ok(Show::Count));
        assert_eq!(Show::Percent.as_str().parse::<Show>(), Ok(Show::Percent));
        assert_eq!("rate".parse::<Show>().unwrap_err().to_string(), "`rate` is none of percent, count");
    }

    #[test]
    fn titles_say_grain_and_measure() {
        let mut table = sample::table();
        assert_eq!(title(&table), "signup → active, daily cohorts, counted on the day");
        table.query.measure = Measure::OnOrAfter;
        table.query.grain = Grain::Week;
        assert_eq!(title(&table), "signup → active, weekly cohorts, counted on or after the week");
    }

    #[test]
    fn file_names_carry_the_query_and_nothing_dangerous() {
        let mut table = sample::table();
        assert_eq!(file_stem(&table), "retention_signup_active_day_2026-11-20");
        table.query.cohort = "\"../../etc/passwd\" & \"a|b\"".parse().unwrap();
        table.query.returning = format!("\"{}\"", "日本".repeat(30)).parse().unwrap();
        assert_eq!(file_stem(&table), "retention_etc-passwd-a-b_segment_day_2026-11-20");
        table.query.cohort = "x".repeat(200).parse().unwrap();
        assert!(file_stem(&table).len() < 120);
    }
}
