//! Numbers, ranges and questions in words, the same wherever a table is shown.

use chrono::{Datelike, TimeDelta};

use crate::calendar::{Grain, Period};
use crate::render::thousands;
use crate::reports::activity::Daily;
use crate::reports::people::{Back, Crowd, Who};
use crate::reports::retention::{Cell, Measure, Query, State, Table};

/// A share (0–1) as a percentage with one decimal: `27.4%`.
pub fn percent(rate: f64) -> String {
    format!("{:.1}%", rate * 100.0)
}

/// A share (0–1) as an end of a scale: `100%`, `4.2%`.
pub fn percent_of_scale(rate: f64) -> String {
    let text = percent(rate);
    text.strip_suffix(".0%").map(|whole| format!("{whole}%")).unwrap_or(text)
}

/// Both ends of an interval (0–1) in percent, without the sign: `25.1–29.8`.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("{:.1}–{:.1}", low * 100.0, high * 100.0)
}

/// A change (0.1 is a tenth more) in percent, with its sign: `+3.2%`, `−12%`, `±0%`.
pub fn change(share: f64) -> String {
    let percent = share * 100.0;
    let sign = if percent < 0.0 { '−' } else { '+' };
    match percent.abs() {
        size if size < 0.05 => "±0%".to_owned(),
        size if size < 9.95 => format!("{sign}{size:.1}%"),
        size => format!("{sign}{size:.0}%"),
    }
}

/// `1 cohort entry`, `17,669 cohort entries`.
pub fn entries(count: u64) -> String {
    format!("{} cohort {}", thousands(count), if count == 1 { "entry" } else { "entries" })
}

/// `person` or `people`.
pub fn people(count: u64) -> String {
    format!("{} {}", thousands(count), if count == 1 { "person" } else { "people" })
}

/// Mean people a day, as precise as it helps: `12.4`, `1,054`.
pub fn mean(daily: Daily) -> String {
    if daily.mean < 99.95 {
        return format!("{:.1}", daily.mean);
    }
    let whole = format!("{:.0}", daily.mean);
    whole.parse().map_or(whole, thousands)
}

/// A text of at most `most` characters, its end replaced by `…` when it is longer.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// When a period is, after a verb: `on Tue 24 Nov 2026`, `in 23 – 29 Nov 2026 (W48)`, `in Nov 2026`.
pub fn when(period: Period) -> String {
    match period.grain() {
        Grain::Hour => format!("in the hour from {}", period.label()),
        Grain::Day => format!("on {}", period.label()),
        Grain::Week => format!("in the week {}", period.label()),
        Grain::Month | Grain::Year => format!("in {}", period.label()),
    }
}

/// `on` a day, `in` an hour, week, month or year.
pub const fn preposition(grain: Grain) -> &'static str {
    if matches!(grain, Grain::Day) { "on" } else { "in" }
}

/// When a column is: `on day 7`, `in week 1`; counted on or after: `on days 7–13`.
pub fn column(table: &Table, k: usize) -> String {
    let grain = table.query.grain;
    let preposition = preposition(grain);
    let last = table.averages.len().saturating_sub(1);
    if table.query.measure == Measure::OnOrAfter && k < last {
        format!("{preposition} {grain}s {k}–{last}")
    } else {
        format!("{preposition} {grain} {k}")
    }
}

/// The whole sentence of a cell: `372 of 1,358 people, 27.4% (95% 25.1–29.8), came back on Tue 24 Nov 2026, complete`.
pub fn cell(table: &Table, cell: &Cell) -> String {
    let state = match cell.state {
        State::Complete => "complete",
        State::InProgress => "still in progress",
    };
    // Figures and dates only, so none of them holds a part in braces itself.
    cell_sentence(table.query.measure)
        .replace("{n}", &thousands(cell.retained))
        .replace("{people}", &people(cell.size))
        .replace("{share}", &percent(cell.rate()))
        .replace("{interval}", &interval(cell.interval()))
        .replace("{when}", &when(cell.period))
        .replace("{state}", state)
}

/// The sentence of a cell with its parts in braces, for whoever has many to say: `{n} of {people}, {share} (95%
/// {interval}), came back {when}, {state}`.
pub fn cell_sentence(measure: Measure) -> String {
    let later = if measure == Measure::OnOrAfter { " or later" } else { "" };
    format!("{{n}} of {{people}}, {{share}} (95% {{interval}}), came back {{when}}{later}, {{state}}")
}

/// Who some people of a cohort are: `372 of the 1,358 people who did signup on Mon 16 Nov 2026 came back to active on Tue
/// 17 Nov 2026`. `count` is how many, `size` how many the cohort has.
pub fn crowd(query: &Query, crowd: &Crowd, who: Who, size: u64, count: u64) -> String {
    let did = format!("did {} {}", query.cohort, when(crowd.period));
    let Some(back) = crowd.back.as_ref().filter(|_| who != Who::Cohort) else {
        return format!("{} {did}", people(size));
    };
    let came = if who == Who::Returned { "came back" } else { "did not come back" };
    format!("{} of the {} who {did} {came} to {} {}", thousands(count), people(size), query.returning, during(back))
}

/// When coming back counts: `on Tue 17 Nov 2026`, `from Tue 17 Nov 2026 to Mon 23 Nov 2026`.
fn during(back: &Back) -> String {
    let window = back.window;
    if window.until == window.from {
        when(window.from)
    } else {
        format!("from {} to {}", window.from.label(), window.until.label())
    }
}

/// The days, weeks … that a table's cohorts cover: `10 – 23 Nov 2026`, `Dec 2025 – Nov 2026`. `None` without cohorts.
pub fn range(table: &Table) -> Option<String> {
    let (first, last) = (table.rows.first()?.period, table.rows.last()?.period);
    let one = first == last;
    Some(match table.query.grain {
        _ if one => first.label(),
        Grain::Hour => {
            let (from, to) = (first.start(), last.start());
            let day = if from.date_naive() == to.date_naive() { "%H:%M" } else { "%-d %b %Y, %H:%M" };
            format!("{} – {}", from.format("%-d %b %Y, %H:%M"), to.format(day))
        }
        Grain::Month | Grain::Year => format!("{} – {}", first.label(), last.label()),
        Grain::Day | Grain::Week => {
            let (from, to) = (first.start().date_naive(), (last.end() - TimeDelta::days(1)).date_naive());
            let format = match (from.year() == to.year(), from.month() == to.month()) {
                (true, true) => "%-d",
                (true, false) => "%-d %b",
                (false, _) => "%-d %b %Y",
            };
            format!("{} – {}", from.format(format), to.format("%-d %b %Y"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0.0, 0.273_9, 1.0].map(percent), ["0.0%", "27.4%", "100.0%"]);
        assert_eq!([0.0, 0.032, -0.12, -1.0, 9.5].map(change), ["±0%", "+3.2%", "−12%", "−100%", "+950%"]);
        assert_eq!((people(1), entries(1_234)), ("1 person".into(), "1,234 cohort entries".into()));
        assert_eq!((shortened("señal", 5), shortened("señales", 5)), ("señal".into(), "seña…".into()));
    }
}
