//! Renders answers as CSV, text and charts. All functions are pure, and every format shows the same
//! numbers.

#[cfg(feature = "charts")]
pub mod activity_calendar;
pub mod axis;
#[cfg(feature = "charts")]
pub mod chart;
#[cfg(feature = "charts")]
pub mod charts;
pub mod colour;
#[cfg(feature = "charts")]
pub mod comparison;
pub mod csv;
#[cfg(feature = "charts")]
pub mod drawing;
#[cfg(feature = "charts")]
pub mod frequency;
pub mod groups;
#[cfg(feature = "charts")]
pub mod lifecycle;
#[cfg(feature = "charts")]
mod plot;
#[cfg(feature = "charts")]
pub mod png;
pub mod text;
#[cfg(feature = "charts")]
pub mod trend;
#[cfg(feature = "charts")]
pub mod trends;
pub mod words;

use std::fmt;

use crate::calendar::Calendar;
use crate::reports::Exports;
use crate::reports::choice;
use crate::reports::people::{CellMembers, Who};
use crate::reports::retention::{Brackets, Measure, Query};

choice! {
    /// The order of the cohorts of a table.
    Order {
        /// Newest cohort first.
        #[default]
        Newest = "newest",
        /// Oldest cohort first.
        Oldest = "oldest",
    }
}

choice! {
    /// The range of rates that the shades of a table cover.
    Scale {
        /// Fitted if column 0 is so high that it would leave the others alike, else absolute.
        #[default]
        Auto = "auto",
        /// 0–100 %, the same for every table.
        Absolute = "absolute",
        /// From the lowest to the highest rate of the table, which makes small differences visible.
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
    format!(
        "{} {noun}{}",
        thousands(number),
        if number == 1 { "" } else { "s" }
    )
}

/// Returns the file name of an answer, without an extension.
pub fn file_name(answer: &dyn Exports) -> FileName {
    let mut parts = answer.name();
    let calendar = answer.calendar();
    if calendar != Calendar::default() {
        parts.push(calendar.words());
    }
    FileName::new(|name| {
        let parts: Vec<String> = parts.iter().map(|part| name(part)).collect();
        parts.join("_")
    })
}

/// Returns the file name for a list of people of a cohort:
/// `people_signup_active_day_2026-11-16_2_lost`.
pub fn people_name(query: &Query, members: &CellMembers, who: Who) -> FileName {
    let column = members
        .back
        .as_ref()
        .map_or_else(String::new, |back| format!("_{}", back.column));
    let measure = match query.measure {
        Measure::On => String::new(),
        measure => format!("_{}", measure.as_str()),
    };
    let brackets = query.brackets.iter().flat_map(Brackets::columns);
    let brackets: String = brackets.map(|column| format!("_{column}")).collect();
    FileName::new(|name| {
        let cohort = name(&query.cohort);
        let returning = name(&query.returning);
        format!(
            "people_{cohort}_{returning}_{}{measure}{}_{}{column}_{}",
            query.grain,
            brackets,
            members.period,
            who.as_str()
        )
    })
}

/// Returns the file name for the people of a set, from its text: `people_active-2026-11-23`.
pub fn set_name(set: &str) -> FileName {
    FileName::new(|name| format!("people_{}", name(&set)))
}

/// A file name that is safe on every system. Two different segments have different names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName {
    /// Only ASCII letters, digits, `-`, `_` and `.`, at most about 140 of them.
    pub ascii: String,
    /// The same name with the letters of all languages, at most 250 bytes.
    pub full: String,
}

impl FileName {
    /// Builds both forms of a name. `compose` joins the parts, and makes each safe with the
    /// function it is given.
    fn new(compose: impl Fn(&dyn Fn(&dyn fmt::Display) -> String) -> String) -> Self {
        FileName {
            ascii: compose(&|text| harmless(&text.to_string(), false)),
            full: compose(&|text| harmless(&text.to_string(), true)),
        }
    }

    /// Adds an extension: `csv`.
    #[must_use]
    pub fn ending(self, ending: &str) -> Self {
        FileName {
            ascii: format!("{}.{ending}", self.ascii),
            full: format!("{}.{ending}", self.full),
        }
    }
}

/// The maximum length in bytes of a segment in a file name: ASCII only, and with all letters.
const MOST_BYTES: (usize, usize) = (36, 80);

/// Returns a segment as a part of a file name. If characters are lost, a few digits of a checksum
/// of the whole segment keep the name unique.
fn harmless(text: &str, all_letters: bool) -> String {
    let most = if all_letters {
        MOST_BYTES.1
    } else {
        MOST_BYTES.0
    };
    let mut name = String::new();
    let mut lost = false;
    for c in text.chars() {
        let sign = match c {
            '&' => "-and-",
            '|' => "-or-",
            '^' => "-xor-",
            '!' => "-not-",
            _ => "",
        };
        if name.len() + c.len_utf8().max(sign.len()) > most {
            lost = true;
            break;
        }
        if c.is_ascii_alphanumeric() || c == '_' || (all_letters && !c.is_ascii() && is_seen(c)) {
            name.push(c);
            continue;
        }
        // These few can be restored from the rest: `song:played` becomes song-played.
        lost |= sign.is_empty() && !matches!(c, ' ' | ':' | '@' | '-' | '"');
        for c in if sign.is_empty() { "-" } else { sign }.chars() {
            if c != '-' || !(name.is_empty() || name.ends_with('-')) {
                name.push(c);
            }
        }
    }
    let name = name.trim_matches('-');
    let name = if name.is_empty() { "segment" } else { name };
    if lost {
        format!("{name}-{:04x}", crc32fast::hash(text.as_bytes()) & 0xffff)
    } else {
        name.to_owned()
    }
}

/// Whether a character is visible and does not change the direction of its neighbours.
fn is_seen(c: char) -> bool {
    let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}');
    // The zero-width joiner of emoji sequences.
    (!hidden || c == '\u{200d}') && !c.is_control() && !c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Grain;
    use crate::reports::retention::{Benchmarks, Measure, Show, Shown, Table};
    use crate::reports::sample;

    fn shown(table: &Table) -> Shown {
        Shown {
            table: table.clone(),
            show: Show::Percent,
            benchmarks: Benchmarks::default(),
        }
    }

    #[test]
    fn shows_are_read_and_printed() {
        assert_eq!("count".parse::<Show>(), Ok(Show::Count));
        assert_eq!(Show::Percent.as_str().parse::<Show>(), Ok(Show::Percent));
        assert_eq!(
            "rate".parse::<Show>().unwrap_err().to_string(),
            "`rate` is none of percent, count, previous"
        );
    }

    #[test]
    fn titles_say_grain_and_measure() {
        let mut table = sample::table();
        assert_eq!(
            table.title(),
            "signup → active, daily cohorts, counted on the day"
        );
        table.query.measure = Measure::OnOrAfter;
        table.query.grain = Grain::WEEK;
        assert_eq!(
            table.title(),
            "signup → active, weekly cohorts, counted on or after the week"
        );
    }

    #[test]
    fn file_names_carry_the_query_and_nothing_dangerous() {
        let mut table = sample::table();
        let both = |name: FileName| (name.ascii, name.full);
        let same = |name: &str| (name.to_owned(), name.to_owned());
        assert_eq!(
            both(file_name(&shown(&table))),
            same("retention_signup_active_day_2026-11-20")
        );
        table.query.cohort = "\"../../etc/passwd\" & \"a|b\"".parse().unwrap();
        table.query.returning = format!("\"{}\"", "日本".repeat(30)).parse().unwrap();
        let name = file_name(&shown(&table));
        assert_eq!(
            name.ascii,
            "retention_etc-passwd-and-a-or-b-7c40_segment-5cec_day_2026-11-20"
        );
        let letters = "日本".repeat(13);
        assert_eq!(
            name.full,
            format!("retention_etc-passwd-and-a-or-b-7c40_{letters}-5cec_day_2026-11-20")
        );
        table.query.cohort = "x".repeat(200).parse().unwrap();
        assert!(file_name(&shown(&table)).ascii.len() < 140);
        for (text, ascii, full) in [
            ("song:played", "song-played", "song-played"),
            (
                "active & (web | ios)",
                "active-and-web-or-ios-0000",
                "active-and-web-or-ios-0000",
            ),
            ("müde", "m-de-0000", "müde"),
            ("🎉", "segment-0000", "🎉"),
            ("👩‍👩‍👧‍👦", "segment-0000", "👩‍👩‍👧‍👦"),
            ("\u{202e}gpj.exe", "gpj-exe-0000", "gpj-exe-0000"),
        ] {
            let told = |all| {
                let name = harmless(text, all);
                match name.rsplit_once('-') {
                    Some((rest, tail))
                        if tail.len() == 4 && tail.bytes().all(|b| b.is_ascii_hexdigit()) =>
                    {
                        format!("{rest}-0000")
                    }
                    _ => name,
                }
            };
            assert_eq!((told(false).as_str(), told(true).as_str()), (ascii, full));
        }
        assert_ne!(
            harmless("a & (b | c)", false),
            harmless("(a & b) | c", false)
        );
        assert_ne!(harmless("ü", false), harmless("ö", false));
    }
}
