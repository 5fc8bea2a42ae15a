//! Draws a user's activity day by day: one bar per event above a shared axis of months.
//!
//! Bars and axis fill any width. Bars use their own units, one per day, and contain no text because
//! text would be stretched.

use std::fmt::Write as _;

use chrono::{Datelike, Days, Months, NaiveDate};

use crate::render::chart::escaped;

/// The height of a bar, in its own units.
const HEIGHT: u64 = 10;

/// The minimum length of an axis in days. Fewer days would become large squares.
const LEAST_DAYS: u64 = 56;

/// The days that all bars of a page show, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    since: NaiveDate,
    until: NaiveDate,
}

impl Axis {
    /// Returns the days from `since` to `until`, at least eight weeks.
    pub fn new(since: NaiveDate, until: NaiveDate) -> Self {
        let least = until
            .checked_sub_days(Days::new(LEAST_DAYS - 1))
            .unwrap_or(since);
        Axis {
            since: since.min(least),
            until,
        }
    }

    /// Returns the number of days.
    fn len(self) -> u64 {
        self.place(self.until) + 1
    }

    /// Returns the number of days before a date, between 0 and the length of the axis.
    fn place(self, date: NaiveDate) -> u64 {
        u64::try_from((date.min(self.until) - self.since).num_days()).unwrap_or(0)
    }

    /// Returns the first day of each month on the axis. The first month is included only if the
    /// axis contains its first day.
    fn months(self) -> impl Iterator<Item = NaiveDate> {
        let first = self.since.with_day(1).expect("every month has a first day");
        let months = (0..).map_while(move |n| first.checked_add_months(Months::new(n)));
        months
            .skip_while(move |month| *month < self.since)
            .take_while(move |month| *month <= self.until)
    }

    /// Draws the names of the months. With many months every second one gets a class, so that a
    /// narrow page can hide it.
    #[allow(clippy::cast_precision_loss)] // A few hundred days.
    pub fn svg(self) -> String {
        let mut out =
            String::from(r#"<svg class="months" width="100%" height="16" aria-hidden="true">"#);
        let total = self.len();
        // A name near the right end would be cut off.
        let fits = |month: &NaiveDate| (total - self.place(*month)) * 30 >= total;
        let months: Vec<NaiveDate> = self.months().filter(fits).collect();
        for (i, month) in months.iter().enumerate() {
            let class = if months.len() > 6 && (months.len() - i).is_multiple_of(2) {
                r#" class="odd""#
            } else {
                ""
            };
            let name = if month.month() == 1 {
                month.format("%Y")
            } else {
                month.format("%b")
            };
            let x = self.place(*month) as f64 * 100.0 / total as f64;
            // Writing to a string cannot fail.
            let _ = write!(out, r#"<text x="{x:.2}%" y="12"{class}>{name}</text>"#);
        }
        out.push_str("</svg>");
        out
    }

    /// Draws the bar of one event. `days` are the active days in ascending order. Inactive days are
    /// pale. Days before `from`, and the stretches in `unrecorded` (ascending, both ends included),
    /// are only a line: the user could not have been active there. The parts have classes instead
    /// of colours. `label` is the accessible description.
    pub fn strip(
        self,
        from: NaiveDate,
        unrecorded: &[(NaiveDate, NaiveDate)],
        days: &[NaiveDate],
        label: &str,
    ) -> String {
        let total = self.len();
        let middle = HEIGHT / 2;
        let label = escaped(label);
        let mut out = format!(
            r#"<svg class="days" viewBox="0 0 {total} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">"#
        );
        let mut at = if from > self.until {
            total
        } else {
            self.place(from)
        };
        let mut lines = String::new();
        let mut pale = String::new();
        let stretch = |path: &mut String, from: u64, to: u64| {
            if from < to {
                let _ = write!(path, "M{from} {middle}H{to}");
            }
        };
        stretch(&mut lines, 0, at);
        for (first, last) in unrecorded
            .iter()
            .filter(|(first, last)| *last >= self.since && *first <= self.until)
        {
            let begin = self.place(*first).max(at);
            let end = self.place(*last) + 1;
            stretch(&mut pale, at, begin);
            stretch(&mut lines, begin, end);
            at = at.max(end);
        }
        stretch(&mut pale, at, total);
        if !lines.is_empty() {
            let _ = write!(out, r#"<path class="before" d="{lines}"/>"#);
        }
        // Dashes are one day long, which separates the days without a mark for each.
        if !pale.is_empty() {
            let _ = write!(
                out,
                r#"<path class="off" stroke-width="{HEIGHT}" stroke-dasharray=".86 .14" d="{pale}"/>"#
            );
        }
        let _ = write!(
            out,
            r#"<g class="on" stroke-width="{HEIGHT}" stroke-dasharray=".86 .14">"#
        );
        let visible = days
            .iter()
            .copied()
            .filter(|day| (self.since..=self.until).contains(day))
            .collect::<Vec<_>>();
        for run in visible.chunk_by(|a, b| a.succ_opt() == Some(*b)) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let day = |day: &NaiveDate| day.format("%a %-d %b %Y").to_string();
            let title = if run.len() == 1 {
                day(first)
            } else {
                format!("{} – {}", day(first), day(last))
            };
            let _ = write!(
                out,
                r#"<path d="M{} {middle}h{}"><title>{title}</title></path>"#,
                self.place(*first),
                run.len()
            );
        }
        out.push_str("</g></svg>");
        out
    }
}

/// Formats ascending days as text, one line per month: `Nov 2026` and `1, 3–5, 23`.
pub fn words(days: &[NaiveDate]) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for month in days.chunk_by(|a, b| (a.year(), a.month()) == (b.year(), b.month())) {
        let runs = month.chunk_by(|a, b| a.day() + 1 == b.day());
        let runs: Vec<String> = runs
            .filter_map(|run| {
                let first = run.first()?.day();
                let last = run.last()?.day();
                Some(if first == last {
                    first.to_string()
                } else {
                    format!("{first}–{last}")
                })
            })
            .collect();
        lines.extend(
            month
                .first()
                .map(|day| (day.format("%b %Y").to_string(), runs.join(", "))),
        );
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
        let days = [
            "2026-10-30",
            "2026-10-31",
            "2026-11-01",
            "2026-11-03",
            "2026-11-04",
            "2026-11-23",
        ]
        .map(date);
        let lines = words(&days);
        assert_eq!(lines[0], ("Oct 2026".to_owned(), "30–31".to_owned()));
        assert_eq!(lines[1], ("Nov 2026".to_owned(), "1, 3–4, 23".to_owned()));
        assert!(words(&[]).is_empty());
    }

    #[test]
    fn a_strip_has_a_place_for_each_day() {
        let axis = Axis::new(date("2026-09-01"), date("2026-11-23"));
        let days = ["2026-08-31", "2026-09-30", "2026-10-01", "2026-11-23"].map(date);
        insta::assert_snapshot!(axis.strip(date("2026-09-11"), &[], &days, "<a>"), @r#"<svg class="days" viewBox="0 0 84 10" preserveAspectRatio="none" role="img" aria-label="&lt;a&gt;"><path class="before" d="M0 5H10"/><path class="off" stroke-width="10" stroke-dasharray=".86 .14" d="M10 5H84"/><g class="on" stroke-width="10" stroke-dasharray=".86 .14"><path d="M29 5h2"><title>Wed 30 Sep 2026 – Thu 1 Oct 2026</title></path><path d="M83 5h1"><title>Mon 23 Nov 2026</title></path></g></svg>"#);
    }

    #[test]
    fn absence_begins_where_somebody_could_be_missed() {
        let axis = Axis::new(date("2026-09-01"), date("2026-11-23"));
        let svg = |from: &str| axis.strip(date(from), &[], &[], "");
        let early = svg("2020-01-01");
        let first = svg("2026-09-01");
        let late = svg("2026-12-01");
        assert!(
            early == first && !early.contains("before") && early.contains("M0 5H84"),
            "{early}"
        );
        assert!(
            !late.contains("off") && late.contains(r#"class="before" d="M0 5H84""#),
            "{late}"
        );
    }

    #[test]
    fn where_there_is_no_data_nobody_is_absent() {
        let axis = Axis::new(date("2026-09-01"), date("2026-11-23"));
        let gaps = [
            ("2026-08-01", "2026-08-31"),
            ("2026-08-25", "2026-09-03"),
            ("2026-09-11", "2026-09-20"),
            ("2026-11-20", "2026-12-31"),
        ];
        let svg = axis.strip(
            date("2026-09-02"),
            &gaps.map(|(a, b)| (date(a), date(b))),
            &[],
            "",
        );
        assert!(
            svg.contains(r#"class="before" d="M0 5H1M1 5H3M10 5H20M80 5H84""#),
            "{svg}"
        );
        assert!(
            svg.contains(r#"stroke-dasharray=".86 .14" d="M3 5H10M20 5H80""#),
            "{svg}"
        );
    }

    #[test]
    fn months_are_named_where_they_begin() {
        insta::assert_snapshot!(Axis::new(date("2026-09-01"), date("2026-11-23")).svg(), @r#"<svg class="months" width="100%" height="16" aria-hidden="true"><text x="0.00%" y="12">Sep</text><text x="35.71%" y="12">Oct</text><text x="72.62%" y="12">Nov</text></svg>"#);
        let long = Axis::new(date("2025-11-24"), date("2026-11-23")).svg();
        assert!(
            long.contains(">Dec</text>")
                && long.contains(">2026</text>")
                && long.matches("<text").count() == 12
        );
        // The month that just began has no room for its name. An axis has at least eight weeks.
        let short = Axis::new(date("2026-11-01"), date("2026-11-01"));
        assert_eq!((short.len(), short.svg().matches("<text").count()), (56, 1));
    }
}
