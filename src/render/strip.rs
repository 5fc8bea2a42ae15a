//! A year of days as a strip: a column a week, a row a weekday, and a square for each day.

use std::fmt::Write as _;

use chrono::{Datelike, Days, NaiveDate};

/// From one square to the next, in units of the drawing.
const STEP: u64 = 13;
/// How wide and high a square is.
const SIDE: u64 = 10;
/// Where the squares begin, right of the weekdays' names and below the months'.
const LEFT: u64 = 30;
const TOP: u64 = 17;

/// The strip from `since`, a Monday, to `until`, both included: the `days` given are filled. Parts carry classes, no
/// colours. `label` says the same in words; it must hold no sign that means anything in HTML.
pub fn svg(since: NaiveDate, until: NaiveDate, days: &[NaiveDate], label: &str) -> String {
    let place = |date: NaiveDate| {
        let number = u64::try_from((date - since).num_days()).unwrap_or(0);
        (LEFT + number / 7 * STEP, TOP + number % 7 * STEP)
    };
    let (width, height) = (place(until).0 + STEP, TOP + 7 * STEP);
    let mut out = format!(r#"<svg class="days" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"><g>"#);
    let square = |(x, y): (u64, u64)| format!("M{x} {y}h{SIDE}v{SIDE}h-{SIDE}z");
    // Writing to a string cannot fail.
    for (row, name) in [(0, "Mon"), (2, "Wed"), (4, "Fri")] {
        let _ = write!(out, r#"<text x="0" y="{}">{name}</text>"#, TOP + row * STEP + 9);
    }
    let mut free_from = LEFT;
    let all = || since.iter_days().take_while(|date| *date <= until);
    for date in all().filter(|date| date.day() == 1) {
        let x = place(date + Days::new(6)).0;
        if x >= free_from && x + 20 <= width {
            let format = if date.month() == 1 { "%Y" } else { "%b" };
            let _ = write!(out, r#"<text x="{x}" y="10">{}</text>"#, date.format(format));
            free_from = x + 2 * STEP;
        }
    }
    // A dashed line for each weekday: its dashes are the squares.
    let ends = (0..7).filter_map(|back| until.checked_sub_days(Days::new(back)));
    let lines: String = ends.map(place).map(|(x, y)| format!("M{LEFT} {}H{}", y + SIDE / 2, x + SIDE)).collect();
    let _ = write!(
        out,
        r#"</g><path class="off" stroke-width="{SIDE}" stroke-dasharray="{SIDE} {}" d="{lines}"/><g class="on">"#,
        STEP - SIDE
    );
    for date in days {
        let _ =
            write!(out, r#"<path d="{}"><title>{}</title></path>"#, square(place(*date)), date.format("%a %-d %b %Y"));
    }
    out.push_str("</g></svg>");
    out
}

/// Days in words, a month a line: `Nov 2026` and `1, 3–5, 23`. `days` ascend.
pub fn words(days: &[NaiveDate]) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for month in days.chunk_by(|a, b| (a.year(), a.month()) == (b.year(), b.month())) {
        let runs = month.chunk_by(|a, b| a.day() + 1 == b.day());
        let runs: Vec<String> = runs
            .filter_map(|run| {
                let (first, last) = (run.first()?.day(), run.last()?.day());
                Some(if first == last { first.to_string() } else { format!("{first}–{last}") })
            })
            .collect();
        lines.extend(month.first().map(|day| (day.format("%b %Y").to_string(), runs.join(", "))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn days_are_told_as_runs() {
        let days = ["2026-10-30", "2026-10-31", "2026-11-01", "2026-11-03", "2026-11-04", "2026-11-23"].map(date);
        let lines = words(&days);
        assert_eq!(lines[0], ("Oct 2026".to_owned(), "30–31".to_owned()));
        assert_eq!(lines[1], ("Nov 2026".to_owned(), "1, 3–4, 23".to_owned()));
        assert!(words(&[]).is_empty());
    }

    #[test]
    fn a_strip_has_a_square_for_each_day() {
        let (since, until) = (date("2025-11-24"), date("2026-11-23"));
        let svg = svg(since, until, &[since, until], "two days");
        assert!(
            svg.contains(r#" d="M30 22H716M30 100H703M30 87H703M30 74H703M30 61H703M30 48H703M30 35H703"/>"#),
            "{svg}"
        );
        assert_eq!(svg.matches("h10v10h-10z").count(), 2);
        assert!(svg.contains(r#"<path d="M30 17h10v10h-10z"><title>Mon 24 Nov 2025</title></path>"#), "{svg}");
        assert!(svg.contains(r#"<path d="M706 17h10v10h-10z"><title>Mon 23 Nov 2026</title></path>"#), "{svg}");
        assert!(
            svg.contains(">2026</text>") && svg.contains(">Nov</text>") && svg.contains(r#"aria-label="two days""#)
        );
    }
}
