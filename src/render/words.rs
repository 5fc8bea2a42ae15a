//! Numbers, ranges and questions in words, the same wherever a table is shown.

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use crate::calendar::{Grain, Period};
use crate::render::thousands;
use crate::reports::coverage::Coverage;
use crate::reports::people::{CellMembers, ReturnWindow, Who};
use crate::reports::retention::{Measure, Number, Query, State, Table, preposition};
use crate::reports::trend::Daily;
use crate::sets::{Labels, Segment};

/// A share (0–1) in percent with so many decimals and without the sign: `27.4`. What only rounds to
/// none or all says so: with one decimal 1 of 40,000 is `<0.1`, and 39,999 of them are `>99.9`.
pub fn share(rate: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", rate * 100.0);
    let rounds_to = |whole: f64| text.parse::<f64>().is_ok_and(|shown| shown == whole);
    let step = || 10.0_f64.powi(-i32::try_from(decimals).unwrap_or(i32::MAX));
    if rate > 0.0 && rounds_to(0.0) {
        format!("<{:.decimals$}", step())
    } else if rate < 1.0 && rounds_to(100.0) {
        format!(">{:.decimals$}", 100.0 - step())
    } else {
        text
    }
}

/// A share (0–1) as a percentage with one decimal: `27.4%`, and `<0.1%` or `>99.9%` near the ends.
pub fn percent(rate: f64) -> String {
    format!("{}%", share(rate, 1))
}

/// A share (0–1) as an end of a scale: `100%`, `4.2%`.
pub fn percent_of_scale(rate: f64) -> String {
    let text = percent(rate);
    text.strip_suffix(".0%")
        .map(|whole| format!("{whole}%"))
        .unwrap_or(text)
}

/// A share (0–1) in whole percents, where there is room for no more: `27%`; `<1%` is more than
/// nothing, `>99%` not all.
pub fn whole_percent(rate: f64) -> String {
    format!("{}%", share(rate, 0))
}

/// Both ends of an interval (0–1) in percent, without the sign: `25.1–29.8`.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("{}–{}", share(low, 1), share(high, 1))
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

/// A large number, rounded: `10 million`, `1.5 million`, `131,072`.
pub fn about(number: u64) -> String {
    let tenths = (number + 50_000) / 100_000;
    match (tenths / 10, tenths % 10) {
        (0, _) => thousands(number),
        (1..10, tenth @ 1..) => format!("{}.{tenth} million", tenths / 10),
        _ => format!("{} million", thousands((number + 500_000) / 1_000_000)),
    }
}

/// `1 cohort entry`, `17,669 cohort entries`.
pub fn entries(count: u64) -> String {
    format!(
        "{} cohort {}",
        thousands(count),
        if count == 1 { "entry" } else { "entries" }
    )
}

/// `person` or `people`.
pub fn people(count: u64) -> String {
    format!(
        "{} {}",
        thousands(count),
        if count == 1 { "person" } else { "people" }
    )
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
        Some(_) => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

/// A text for a page: what stands between backticks stands between “curly quotes”.
pub fn curly(text: &str) -> String {
    let mut open = false;
    let quoted = text.chars().map(|c| match c {
        '`' => {
            open = !open;
            if open { '“' } else { '”' }
        }
        other => other,
    });
    quoted.collect()
}

/// A period's label with its year, which that of an hour leaves out: `23 Nov 2026, 14:00`.
pub fn full_label(period: Period) -> String {
    match period.grain() {
        Grain::Hour => date(period),
        _ => period.label(),
    }
}

/// A period in a sentence: `November 2026`; otherwise its label.
pub fn spoken(period: Period) -> String {
    match period.grain() {
        Grain::Month => period.start().format("%B %Y").to_string(),
        _ => full_label(period),
    }
}

/// When a period is, after a verb: `on Tue 24 Nov 2026`, `in 23 – 29 Nov 2026 (W48)`, `in Nov
/// 2026`.
pub fn when(period: Period) -> String {
    format!(
        "{}{}",
        before_label(Measure::On, period.grain()),
        full_label(period)
    )
}

/// When people came back in a cell: `on Tue 24 Nov 2026`, or `on or after Tue 24 Nov 2026`.
pub fn counted_in(measure: Measure, period: Period) -> String {
    format!(
        "{}{}",
        before_label(measure, period.grain()),
        period.label()
    )
}

/// What stands before a period's label where that is when somebody came back: `on `, `on or after
/// the week `.
pub fn before_label(measure: Measure, grain: Grain) -> String {
    let what = match grain {
        Grain::Hour => "the hour from ",
        Grain::Week => "the week ",
        Grain::Day | Grain::Month | Grain::Year => "",
    };
    format!("{} {what}", measure.words(grain))
}

/// A period's label, its year set apart where narrow places can leave it out: before it, it, and
/// behind it.
pub fn without_year(period: Period) -> [String; 3] {
    let label = period.label();
    let (rest, behind) = match (period.grain(), label.rfind(" (")) {
        (Grain::Day, _) => (&*label, ""),
        (Grain::Week, Some(week)) => label.split_at(week),
        _ => return [label, String::new(), String::new()],
    };
    match rest.rfind(' ') {
        Some(year) => [&rest[..year], &rest[year..], behind].map(str::to_owned),
        None => [label, String::new(), String::new()],
    }
}

/// When a column is: `on day 7`, `in week 1`; counted on or after: `on days 7–13`.
pub fn column(table: &Table, k: usize) -> String {
    format!(
        "{} {}",
        preposition(table.query.grain),
        column_name(table, k)
    )
}

/// What a column is called: `day 7`, `week 1`; counted on or after: `days 7–13`.
pub fn column_name(table: &Table, k: usize) -> String {
    let grain = table.query.grain;
    let last = table.averages.len().saturating_sub(1);
    if table.query.measure == Measure::OnOrAfter && k < last {
        format!("{grain}s {k}–{last}")
    } else {
        format!("{grain} {k}")
    }
}

/// A number that is a lower bound: `≥12.3%`. What only rounds to all or none is put as the bound it
/// is.
pub fn at_least(number: &str) -> String {
    match (number.strip_prefix('>'), number.strip_prefix('<')) {
        (Some(nearly_all), _) => format!("≥{nearly_all}"),
        (_, Some(_)) => ">0%".to_owned(),
        _ => format!("≥{number}"),
    }
}

/// The whole sentence of a cell: `372 of 1,358 people, 27.4% (95% 25.1–29.8), came back on Tue 24
/// Nov 2026, complete`.
pub fn cell(table: &Table, number: &Number) -> String {
    let state = match number.state {
        State::InProgress => in_progress(table.data_ends),
        _ => "complete",
    };
    let n = thousands(number.retained);
    let people = people(number.size);
    let share = percent(number.rate());
    let when = counted_in(table.query.measure, number.period);
    match number.interval() {
        Some(ends) => {
            let interval = interval(ends);
            format!("{n} of {people}, {share} (95% {interval}), came back {when}, {state}")
        }
        None => format!("at least {n} of {people}, {share}, came back {when}, partly recorded"),
    }
}

/// What a number in progress is: `still in progress`. Where the data ends before now the period may
/// be over, and nothing more comes: `data ends in it`.
pub const fn in_progress(data_ends: Option<Period>) -> &'static str {
    match data_ends {
        None => "still in progress",
        Some(_) => "data ends in it",
    }
}

/// The same after what it looks like: pale `while in progress`, `where data ends`.
pub const fn while_in_progress(data_ends: Option<Period>) -> &'static str {
    match data_ends {
        None => "while in progress",
        Some(_) => "where data ends",
    }
}

/// ` yet`; nothing where the data ends before now, as no more comes.
pub const fn yet(data_ends: Option<Period>) -> &'static str {
    if data_ends.is_none() { " yet" } else { "" }
}

/// `no complete period yet`.
pub fn none_complete(what: &str, data_ends: Option<Period>) -> String {
    format!("no complete {what}{}", yet(data_ends))
}

/// Who some people of a cohort are: `372 of the 1,358 people who did signup on Mon 16 Nov 2026 came
/// back to active on Tue 17 Nov 2026`. `count` is how many, `size` how many the cohort has.
pub fn crowd(
    query: &Query,
    labels: &Labels,
    crowd: &CellMembers,
    who: Who,
    size: u64,
    count: u64,
) -> String {
    let did = format!(
        "did {} {}",
        query.cohort.with_labels(labels),
        when(crowd.period)
    );
    let Some(back) = crowd.back.as_ref().filter(|_| who != Who::Cohort) else {
        return format!("{} {did}", people(size));
    };
    let came = if who == Who::Returned {
        "came back"
    } else {
        "did not come back"
    };
    let returning = query.returning.with_labels(labels);
    format!(
        "{} of the {} who {did} {came} to {returning} {}",
        thousands(count),
        people(size),
        during(back)
    )
}

/// When coming back counts: `on Tue 17 Nov 2026`, `from Tue 17 Nov 2026 to Mon 23 Nov 2026`.
fn during(back: &ReturnWindow) -> String {
    let window = back.window;
    if window.until == window.from {
        when(window.from)
    } else {
        let [from, until] = [window.from, window.until].map(full_label);
        format!("from {from} to {until}")
    }
}

/// The days, weeks … that a table's cohorts cover: `10 – 23 Nov 2026`, `Dec 2025 – Nov 2026`.
/// `None` without cohorts.
pub fn range(table: &Table) -> Option<String> {
    let (first, last) = (table.rows.first()?.period, table.rows.last()?.period);
    let one = first == last;
    Some(match table.query.grain {
        _ if one => full_label(first),
        Grain::Hour => {
            let (from, to) = (first.start(), last.start());
            let day = if from.date_naive() == to.date_naive() {
                "%H:%M"
            } else {
                "%-d %b %Y, %H:%M"
            };
            format!("{} – {}", from.format("%-d %b %Y, %H:%M"), to.format(day))
        }
        Grain::Month | Grain::Year => format!("{} – {}", first.label(), last.label()),
        Grain::Day | Grain::Week => {
            let (from, to) = (
                first.start().date_naive(),
                (last.end() - TimeDelta::days(1)).date_naive(),
            );
            let format = match (from.year() == to.year(), from.month() == to.month()) {
                (true, true) => "%-d",
                (true, false) => "%-d %b",
                (false, _) => "%-d %b %Y",
            };
            format!("{} – {}", from.format(format), to.format("%-d %b %Y"))
        }
    })
}

/// A date in a sentence: `27 Jul 2026`; of an hour `27 Jul 2026, 14:00`; a week or month where no
/// days are kept.
pub fn date(period: Period) -> String {
    match period.grain() {
        Grain::Hour => period.start().format("%-d %b %Y, %H:%M").to_string(),
        Grain::Day => period.start().format("%-d %b %Y").to_string(),
        _ => period.label(),
    }
}

/// `data ends 26 Nov 2026`, where that is before now.
pub fn data_ends(table: &Table) -> Option<String> {
    table.data_ends.map(ends)
}

/// `data ends 26 Nov 2026`
pub fn ends(period: Period) -> String {
    format!("data ends {}", date(period))
}

/// Where the data lies that these periods are not in, for the end of a sentence: `: data ends 26
/// Nov 2026`. Empty where they lie between its ends.
pub fn extent(coverage: &Coverage, periods: &[Period]) -> String {
    let grain = periods.first().map_or(Grain::Day, |period| period.grain());
    let after = |last: Period| periods.iter().any(|period| period.start() >= last.end());
    let before = |first: Period| periods.iter().any(|period| period.end() <= first.start());
    let Some((first, last)) = coverage.first(grain).zip(coverage.last(grain)) else {
        return format!(": the store has no data by {grain}");
    };
    match coverage.data_ends(grain) {
        Some(end) if after(last) => format!(": {}", ends(end)),
        _ if before(first) => format!(": data begins {}", date(first)),
        _ => String::new(),
    }
}

/// Where there are events when there are none under a prefix: `no keys begin with `bitmapist_`; 55
/// begin with `trackist_`: use --prefix trackist_`; where they begin with a longer one: `the prefix
/// is `trackist`, but events begin with `trackist_`: use --prefix trackist_`. `None` when none were
/// found. Numbers are lower bounds unless all keys were looked at.
pub fn other_prefixes(prefix: &str, found: &[(String, u64)], complete: bool) -> Option<String> {
    let (best, _) = found.first()?;
    if best.starts_with(prefix) {
        return Some(format!(
            "the prefix is `{prefix}`, but events begin with `{best}`: use --prefix {}",
            quoted(best)
        ));
    }
    let least = if complete { "" } else { "at least " };
    let told = |(prefix, keys): &(String, u64)| match prefix.as_str() {
        "" => format!("{least}{} have no prefix", thousands(*keys)),
        prefix => format!("{least}{} begin with `{prefix}`", thousands(*keys)),
    };
    let told: Vec<String> = found.iter().take(3).map(told).collect();
    Some(format!(
        "no keys begin with `{prefix}`; {}: use --prefix {}",
        told.join(", "),
        quoted(best)
    ))
}

/// What is left out of a list of events: `12 keys begin with `trackist_` but are no events, such as
/// `trackist_x`…`.
pub fn strays(prefix: &str, count: u64, example: &str) -> String {
    let example = shortened(&example.escape_debug().to_string(), 120);
    match count {
        1 => format!(
            "1 key begins with `{prefix}` but is not a bitmap of an event, and is not read: `{example}`"
        ),
        _ => format!(
            "{} keys begin with `{prefix}` but are not bitmaps of events, and are not read, such as `{example}`",
            thousands(count)
        ),
    }
}

/// A text as one word of a POSIX shell: quoted where it has to be.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// That bitmaps of the periods that hold `now`, of these grains, may include later marks: `may
/// include marks made later on 12 Nov 2026, in that week and in that month`. `None` without grains.
pub fn includes_later(grains: &[Grain], now: DateTime<Utc>) -> Option<String> {
    let day = now.format("%-d %b %Y");
    let place = |(n, grain): (usize, &Grain)| match (n, grain) {
        (0, Grain::Hour) => format!("in the hour from {} on {day}", now.format("%H:00")),
        (0, Grain::Day) => format!("on {day}"),
        (0, grain) => format!("in the {grain} of {day}"),
        (_, Grain::Day) => "on that day".to_owned(),
        (_, grain) => format!("in that {grain}"),
    };
    let places: Vec<String> = grains.iter().enumerate().map(place).collect();
    let (last, before) = places.split_last()?;
    let before = if before.is_empty() {
        String::new()
    } else {
        format!("{} and ", before.join(", "))
    };
    Some(format!("may include marks made later {before}{last}"))
}

/// A count of people, or a dash where it is not recorded.
pub fn count_or_dash(count: Option<u64>) -> String {
    count.map_or_else(|| NOT_RECORDED.to_owned(), thousands)
}

/// What stands in place of a number that is not recorded.
pub const NOT_RECORDED: &str = "–";

/// Since when the events of a table are recorded, where that is within it: a sentence each. The
/// cohort it is about has a `†`.
pub fn recorded(table: &Table) -> Vec<String> {
    let (query, recorded) = (&table.query, &table.recorded);
    let Some(first) = table.rows.first().map(|row| row.period.start()) else {
        return Vec::new();
    };
    let mut said = Vec::new();
    // Before that there is no data of anything.
    let begins = table
        .begins
        .map_or(first, |begins| begins.start().max(first));
    if let Some(begins) = table
        .begins
        .filter(|begins| table.is_recorded() && first < begins.start())
    {
        said.push(format!("The store has data from {} on.", date(begins)));
    }
    let is_first = |name: &str, since| {
        format!(
            "{} is first recorded {}",
            shortened(name, 60),
            on_date(since)
        )
    };
    let mut told = None;
    if let Some(since) = recorded
        .cohort
        .filter(|_| table.rows.iter().any(|row| table.is_partial(row)))
    {
        said.push(format!(
            "† {}: this {} holds those days only.",
            is_first(&table.cohort(), since),
            query.grain
        ));
        if let Segment::Event(name) = &query.cohort {
            told = Some(name);
        }
    }
    if !table.is_recorded() {
        return said;
    }
    let later = recorded
        .events
        .iter()
        .filter(|(event, since)| since.start() > begins && told != Some(event));
    said.extend(later.map(|(event, since)| {
        let begun = is_first(&Segment::event(event).with_labels(&table.labels), *since);
        format!("{begun}: before that it counts nobody.")
    }));
    said
}

/// `on 27 Jul 2026`; `in Jul 2026` where no days are kept.
fn on_date(period: Period) -> String {
    let preposition = match period.grain() {
        Grain::Hour => "on",
        grain => preposition(grain),
    };
    format!("{preposition} {}", date(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_is_set_apart() {
        let parts = |period: &str| without_year(period.parse().unwrap()).join("|");
        assert_eq!(parts("2026-11-23"), "Mon 23 Nov| 2026|");
        assert_eq!(parts("2026-W48"), "23 – 29 Nov| 2026| (W48)");
        assert_eq!(parts("2026-W01"), "29 Dec 2025 – 4 Jan| 2026| (W1)");
        assert_eq!(
            (parts("2026-11"), parts("2026")),
            ("Nov 2026||".into(), "2026||".into())
        );
    }

    #[test]
    fn a_shell_reads_one_word() {
        let quoted = ["/tmp/a.db", "/tmp/my store.db", "it's", "", "$HOME"].map(quoted);
        assert_eq!(
            quoted,
            [
                "/tmp/a.db",
                "'/tmp/my store.db'",
                r"'it'\''s'",
                "''",
                "'$HOME'"
            ]
        );
    }

    #[test]
    fn another_prefix_is_named() {
        let found = [("trackist_".to_owned(), 1_055), (String::new(), 3)];
        let told = other_prefixes("bitmapist_", &found, true);
        let expected = "no keys begin with `bitmapist_`; 1,055 begin with `trackist_`, 3 have no prefix: use --prefix trackist_";
        assert_eq!(told.as_deref(), Some(expected));
        assert!(
            other_prefixes("x", &found[1..], false)
                .unwrap()
                .ends_with("at least 3 have no prefix: use --prefix ''")
        );
        assert_eq!(other_prefixes("x", &[], true), None);
        assert_eq!(
            other_prefixes("trackist", &found, true).as_deref(),
            Some(
                "the prefix is `trackist`, but events begin with `trackist_`: use --prefix trackist_"
            )
        );
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [0.0, 0.273_9, 1.0].map(percent),
            ["0.0%", "27.4%", "100.0%"]
        );
        let (one, all_but_one) = (1.0 / 40_000.0, 39_999.0 / 40_000.0);
        assert_eq!(
            [one, 0.000_5, 0.999_4, all_but_one].map(percent),
            ["<0.1%", "0.1%", "99.9%", ">99.9%"]
        );
        assert_eq!(
            [0.0, one, all_but_one, 1.0].map(|rate| share(rate, 2)),
            ["0.00", "<0.01", ">99.99", "100.00"]
        );
        assert_eq!(interval((0.0, one)), "0.0–<0.1");
        assert_eq!(interval((all_but_one, 1.0)), ">99.9–100.0");
        assert_eq!(
            [0.0, 0.032, -0.12, -1.0, 9.5].map(change),
            ["±0%", "+3.2%", "−12%", "−100%", "+950%"]
        );
        let whole = [0.0, 0.004, 0.273_9, 0.994, 0.996, 1.0].map(whole_percent);
        assert_eq!(whole, ["0%", "<1%", "27%", "99%", ">99%", "100%"]);
        assert_eq!(
            (people(1), entries(1_234)),
            ("1 person".into(), "1,234 cohort entries".into())
        );
        assert_eq!(
            curly("`(`: expected `&` or `a b` (`c`), found the `end`"),
            "“(”: expected “&” or “a b” (“c”), found the “end”"
        );
        assert_eq!(
            (shortened("señal", 5), shortened("señales", 5)),
            ("señal".into(), "seña…".into())
        );
    }
}
