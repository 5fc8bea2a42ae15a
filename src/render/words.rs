//! Formats numbers, ranges and questions as text, the same wherever a table is shown.

use chrono::{DateTime, Datelike, Utc};

use crate::calendar::{Grain, Period, Zone};
use crate::render::thousands;
use crate::reports::coverage::Coverage;
use crate::reports::people::{CellMembers, ReturnWindow, Who};
use crate::reports::retention::{
    Average, Averaging, Column, FEWEST_PEOPLE, Measure, Number, Query, State, Table, preposition,
};
use crate::reports::trend::Daily;
use crate::sets::{Labels, PeriodWords, Segment, labelled, read_set};

/// Formats a share (0–1) in percent with `decimals` decimal places and no percent sign: `27.4`. A
/// share that would only round to 0 or 100 is marked: with one decimal, 1 of 40,000 is `<0.1`, and
/// 39,999 of them are `>99.9`.
pub fn share(rate: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", rate * 100.0);
    let rounds_to = |whole: f64| text.parse::<f64>().is_ok_and(|shown| shown == whole);
    let step = || 10.0_f64.powi(-i32::try_from(decimals).expect("few decimals"));
    if rate > 0.0 && rounds_to(0.0) {
        format!("<{:.decimals$}", step())
    } else if rate < 1.0 && rounds_to(100.0) {
        format!(">{:.decimals$}", 100.0 - step())
    } else {
        text
    }
}

/// Formats a share (0–1) as a percentage with one decimal: `27.4%`, and `<0.1%` or `>99.9%` near
/// the ends.
pub fn percent(rate: f64) -> String {
    format!("{}%", share(rate, 1))
}

/// Formats a share (0–1) as the end of a scale: `100%`, `4.2%`.
pub fn percent_of_scale(rate: f64) -> String {
    let text = percent(rate);
    text.strip_suffix(".0%")
        .map(|whole| format!("{whole}%"))
        .unwrap_or(text)
}

/// Formats a share (0–1) in whole percents, for narrow places: `27%`. `<1%` is more than 0 and
/// `>99%` is less than 100 %.
pub fn whole_percent(rate: f64) -> String {
    format!("{}%", share(rate, 0))
}

/// Formats the rate of this many people: in whole percents for few of them.
pub fn rate_of(rate: f64, people: u64) -> String {
    if people < FEWEST_PEOPLE {
        whole_percent(rate)
    } else {
        percent(rate)
    }
}

/// Formats an interval (0–1) in percent, without the percent sign: `25.1–29.8`.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("{}–{}", share(low, 1), share(high, 1))
}

/// Formats a relative change (0.1 is 10 % more) in percent, with its sign: `+3.2%`, `−12%`, `±0%`.
pub fn change(share: f64) -> String {
    let percent = share * 100.0;
    let sign = if percent < 0.0 { '−' } else { '+' };
    match percent.abs() {
        size if size < 0.05 => "±0%".to_owned(),
        size if size < 9.95 => format!("{sign}{size:.1}%"),
        size => format!("{sign}{size:.0}%"),
    }
}

/// Formats a large number, rounded: `10 million`, `1.5 million`, `131,072`.
pub fn about(number: u64) -> String {
    let tenths = (number + 50_000) / 100_000;
    match (tenths / 10, tenths % 10) {
        (0, _) => thousands(number),
        (1..10, tenth @ 1..) => format!("{}.{tenth} million", tenths / 10),
        _ => format!("{} million", thousands((number + 500_000) / 1_000_000)),
    }
}

/// Formats a number of cohort entries: `1 cohort entry`, `17,669 cohort entries`.
pub fn entries(count: u64) -> String {
    format!(
        "{} cohort {}",
        thousands(count),
        if count == 1 { "entry" } else { "entries" }
    )
}

/// Formats a number of people: `1 person`, `372 people`.
pub fn people(count: u64) -> String {
    format!(
        "{} {}",
        thousands(count),
        if count == 1 { "person" } else { "people" }
    )
}

/// Formats mean people per day, with one decimal below 100: `12.4`, `1,054`.
pub fn mean(daily: Daily) -> String {
    if daily.mean < 99.95 {
        return format!("{:.1}", daily.mean);
    }
    let whole = format!("{:.0}", daily.mean);
    whole.parse().map_or(whole, thousands)
}

/// Formats a gain or loss: `+1,194`, `−67`, `±0`.
pub fn difference(difference: i64) -> String {
    let sign = match difference {
        0 => "±",
        1.. => "+",
        _ => "−",
    };
    format!("{sign}{}", thousands(difference.unsigned_abs()))
}

/// Cuts a text to at most `most` characters. `…` replaces the end of a longer one.
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

/// Replaces backticks by “curly quotes”, for pages.
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

/// Returns a period's label with its year, which the label of an hour leaves out: `23 Nov 2026,
/// 14:00`.
pub fn full_label(period: Period) -> String {
    match period.grain() {
        Grain::Hour => date(period),
        _ => period.label(),
    }
}

/// Returns a period for use in a sentence: `November 2026` for a month, otherwise its label.
pub fn spoken(period: Period) -> String {
    match period.grain() {
        Grain::Month => period.local_start().format("%B %Y").to_string(),
        _ => full_label(period),
    }
}

/// Returns a period with its preposition: `on Tue 24 Nov 2026`, `in 23 – 29 Nov 2026 (W48)`, `in
/// Nov 2026`.
pub fn when(period: Period) -> String {
    format!(
        "{}{}",
        before_label(Measure::On, period.grain()),
        full_label(period)
    )
}

/// Returns when the people of a cell came back: `on Tue 24 Nov 2026`, or `on or after Tue 24 Nov
/// 2026`.
pub fn counted_in(measure: Measure, period: Period) -> String {
    format!(
        "{}{}",
        before_label(measure, period.grain()),
        period.label()
    )
}

/// Returns the words before the label of the period of a return: `on `, `on or after the week `.
pub fn before_label(measure: Measure, grain: Grain) -> String {
    let what = match grain {
        Grain::Hour => "the hour from ",
        Grain::Week(_) => "the week ",
        Grain::Day | Grain::Month | Grain::Year => "",
    };
    format!("{} {what}", measure.words(grain))
}

/// Splits a period's label into the part before its year, the year, and the part after it, so that
/// narrow layouts can hide the year.
pub fn without_year(period: Period) -> [String; 3] {
    let label = period.label();
    let (rest, behind) = match (period.grain(), label.rfind(" (")) {
        (Grain::Day, _) => (&*label, ""),
        (Grain::Week(_), Some(week)) => label.split_at(week),
        _ => return [label, String::new(), String::new()],
    };
    match rest.rfind(' ') {
        Some(year) => [&rest[..year], &rest[year..], behind].map(str::to_owned),
        None => [label, String::new(), String::new()],
    }
}

/// Returns a column with its preposition: `on day 7`, `in week 1`, of several periods `on days
/// 7–13`, `on each of days 1–7`.
pub fn column(table: &Table, k: usize) -> String {
    format!(
        "{} {}",
        preposition(table.query.grain),
        column_name(table, k)
    )
}

/// Returns the name of a column, from the periods in which a return counts: `day 7`, `week 1`, of
/// several periods `days 7–13`, or `each of days 1–7`.
pub fn column_name(table: &Table, k: usize) -> String {
    let query = &table.query;
    let grain = query.grain;
    let Some(column) = query.column(k) else {
        return format!("{grain} {k}");
    };
    let counted = query.counted(column);
    match counted.label() {
        label if counted.width() == 1 => format!("{grain} {label}"),
        label if query.measure == Measure::Unbroken => format!("each of {grain}s {label}"),
        label => format!("{grain}s {label}"),
    }
}

/// Returns the heading of a column: `7`, or a bracket `8–14`.
pub fn column_heading(table: &Table, k: usize) -> String {
    let column = table.query.column(k);
    column.map_or_else(|| k.to_string(), Column::label)
}

/// Formats a lower bound: `≥12.3%`. A number that was already a bound keeps only the sign that is
/// true for both.
pub fn at_least(number: &str) -> String {
    match (number.strip_prefix('>'), number.strip_prefix('<')) {
        (Some(nearly_all), _) => format!("≥{nearly_all}"),
        (_, Some(_)) => ">0%".to_owned(),
        _ => format!("≥{number}"),
    }
}

/// Describes a cell in a sentence: `372 of 1,358 people, 27.4% (95% 25.1–29.8), came back on Tue 24
/// Nov 2026, complete`. `cohort` is the period of its row, `k` its column.
pub fn cell(table: &Table, cohort: Period, k: usize, number: &Number) -> String {
    let state = match number.state {
        State::InProgress => in_progress(table.data_ends),
        _ => "complete",
    };
    let n = thousands(number.retained);
    let people = people(number.size);
    let share = rate_of(number.rate(), number.size);
    let query = &table.query;
    let when = match query.column(k) {
        Some(column) if query.is_whole_cohort(column) => {
            return format!("{n} of {people}, {share}, the whole cohort, {state}");
        }
        Some(column) if query.brackets.is_some() => {
            let [from, until] = query.counted(column).periods(cohort);
            span(from, until)
        }
        _ => counted_in(query.measure, number.period),
    };
    match number.interval() {
        Some(ends) => {
            let interval = interval(ends);
            format!("{n} of {people}, {share} (95% {interval}), came back {when}, {state}")
        }
        None => format!("at least {n} of {people}, {share}, came back {when}, partly recorded"),
    }
}

/// Describes the state of a number in progress: `still in progress`, or `data ends in it` if the
/// data ends before now. In that case the period may be over and no more data will come.
pub const fn in_progress(data_ends: Option<Period>) -> &'static str {
    match data_ends {
        None => "still in progress",
        Some(_) => "data ends in it",
    }
}

/// The same for a legend, after the appearance: (pale) `while in progress`, `where data ends`.
pub const fn while_in_progress(data_ends: Option<Period>) -> &'static str {
    match data_ends {
        None => "while in progress",
        Some(_) => "where data ends",
    }
}

/// Returns ` yet`, or nothing if the data ends before now, because no more will come.
pub const fn yet(data_ends: Option<Period>) -> &'static str {
    if data_ends.is_none() { " yet" } else { "" }
}

/// Returns `no complete period yet` for the word `period`.
pub fn none_complete(what: &str, data_ends: Option<Period>) -> String {
    format!("no complete {what}{}", yet(data_ends))
}

/// Describes people of a cohort: `372 of the 1,358 people who did signup on Mon 16 Nov 2026 came
/// back to active on Tue 17 Nov 2026`. `count` is the number of people, `size` that of the cohort.
pub fn cell_members(
    query: &Query,
    labels: &Labels,
    members: &CellMembers,
    who: Who,
    size: u64,
    count: u64,
) -> String {
    let did = format!(
        "{} {}",
        query.cohort.did(labels, query.grain),
        when(members.period)
    );
    let Some(back) = members.back.as_ref().filter(|_| who != Who::Cohort) else {
        return format!("{} who {did}", people(size));
    };
    let of = format!("{} of the {} who {did}", thousands(count), people(size));
    if let Some(column) = query.column(back.column as usize)
        && query.is_whole_cohort(column)
    {
        return match who {
            Who::Lost => format!("{of}: column {} is the whole cohort", column.label()),
            Who::Returned | Who::Cohort => format!("{} who {did}", people(size)),
        };
    }
    let during = during(query, back);
    if query.returning.has_phrases(labels) {
        let back = query.returning.did(labels, query.grain);
        return match who {
            Who::Lost => format!("{of} are not among those who {back} {during}"),
            Who::Returned | Who::Cohort => format!("{of} also {back} {during}"),
        };
    }
    let came = match who {
        Who::Lost => "did not come back",
        Who::Returned | Who::Cohort => "came back",
    };
    let returning = query.returning.phrase(labels, query.grain);
    format!("{of} {came} to {returning} {during}")
}

/// The periods of a set's text in sentences, in a zone.
struct InZone(Zone);

impl PeriodWords for InZone {
    fn name(&self, period: Period) -> String {
        spoken(self.0.same_named(period).unwrap_or(period))
    }

    fn when(&self, period: Period) -> String {
        let before = before_label(Measure::On, period.grain());
        format!("{before}{}", self.name(period))
    }
}

/// Describes the people of a set, to follow a number of people: ` who opened the app in November
/// 2026`. A long set stays an expression: ` in a@2026 | …`.
pub fn of_set(text: &str, labels: &Labels, zone: Zone) -> String {
    match read_set(text, labels, &InZone(zone)) {
        Some(did) => format!(" who {did}"),
        None => format!(" in {}", labelled(text, labels)),
    }
}

/// Returns when a return counts: `on Tue 17 Nov 2026`, `from Tue 17 Nov 2026 to Mon 23 Nov 2026`.
fn during(query: &Query, back: &ReturnWindow) -> String {
    let window = back.window;
    let span = span(window.from, window.until);
    if query.measure == Measure::Unbroken && window.until > window.from {
        let grain = query.grain;
        format!("{} every {grain} {span}", preposition(grain))
    } else {
        span
    }
}

/// Returns one or more periods: `on Tue 17 Nov 2026`, `from Tue 17 Nov 2026 to Mon 23 Nov 2026`.
fn span(from: Period, until: Period) -> String {
    if until == from {
        when(from)
    } else {
        let [from, until] = [from, until].map(full_label);
        format!("from {from} to {until}")
    }
}

/// Explains what an expression of several dated events means where a column joins periods. `None`
/// without such columns or such an expression.
pub fn same_period(table: &Table) -> Option<String> {
    let query = &table.query;
    let joins = query.measure != Measure::On
        || query
            .columns()
            .any(|column| query.counted(column).width() > 1);
    let returning = &query.returning;
    (joins && !returning.has_function() && !returning.is_union_of_units()).then(|| {
        format!(
            "“{}” must hold {} the same {}.",
            shortened(&table.returning(), 60),
            preposition(query.grain),
            query.grain
        )
    })
}

/// The name of the row with the shares of all cohorts, where cells show those of the column before.
pub const ALL_COHORTS: &str = "All complete cohorts";

/// Explains a survival row.
pub const SURVIVAL: &str = "Survival (Kaplan–Meier) multiplies, period by period, the share of those \
                            left who did not miss it, over all cohorts observed for that long.";

/// Describes a column of the average row: `32 of 40 people, 80.0% (95% 65.2–89.5), came back on day
/// 1`; for a survival `56.3% (95% 37.6–71.2), 18 of the 22 people at risk came back on each of days
/// 1–2`.
pub fn average(table: &Table, k: usize, average: &Average) -> String {
    let [retained, size] = [average.retained, average.size].map(thousands);
    let share = rate_of(average.rate, average.size);
    let ends = average.interval.map(interval);
    let ends = ends.map_or_else(String::new, |ends| format!(" (95% {ends})"));
    let query = &table.query;
    let when = column(table, k);
    match query.column(k) {
        Some(column) if query.is_whole_cohort(column) => {
            format!("{share}, {} in these cohorts", people(average.size))
        }
        _ if query.averaging == Averaging::Survival => {
            format!("{share}{ends}, {retained} of the {size} people at risk came back {when}")
        }
        _ => format!(
            "{retained} of {}, {share}{ends}, came back {when}",
            people(average.size)
        ),
    }
}

/// Says that averages have an interval although some people are in several cohorts. `None` if
/// nobody is, or too many are.
pub fn few_repeats(table: &Table) -> Option<String> {
    (table.is_independent() && !table.is_disjoint()).then(|| {
        format!(
            "{} stand behind {}: at most 1% are repeats, so averages keep their 95% interval.",
            people(table.complete_people),
            entries(table.complete_entries)
        )
    })
}

/// Says since when a segment is recorded.
pub fn recorded_from(segment: &Segment, begins: Period) -> String {
    let name = shortened(&segment.to_string(), 60);
    format!("{name} is recorded from {} on", date(begins))
}

/// Returns the range that a table's cohorts cover: `10 – 23 Nov 2026`, `Dec 2025 – Nov 2026`.
/// `None` without cohorts.
pub fn range(table: &Table) -> Option<String> {
    let first = table.rows.first()?.period;
    let last = table.rows.last()?.period;
    Some(from_to(first, last))
}

/// Returns the range of consecutive periods: `10 – 23 Nov 2026`.
pub fn from_to(first: Period, last: Period) -> String {
    match first.grain() {
        _ if first == last => full_label(first),
        Grain::Hour => {
            let from = first.local_start();
            let to = last.local_start();
            let day = if from.date() == to.date() {
                "%H:%M"
            } else {
                "%-d %b %Y, %H:%M"
            };
            format!("{} – {}", from.format("%-d %b %Y, %H:%M"), to.format(day))
        }
        Grain::Month | Grain::Year => format!("{} – {}", first.label(), last.label()),
        Grain::Day | Grain::Week(_) => {
            let from = first.local_start().date();
            let to = last.last_day();
            let format = match (from.year() == to.year(), from.month() == to.month()) {
                (true, true) => "%-d",
                (true, false) => "%-d %b",
                (false, _) => "%-d %b %Y",
            };
            format!("{} – {}", from.format(format), to.format("%-d %b %Y"))
        }
    }
}

/// Returns the date at which a period starts: `27 Jul 2026`, or `27 Jul 2026, 14:00` for an hour. A
/// week, month or year keeps its label.
pub fn date(period: Period) -> String {
    match period.grain() {
        Grain::Hour => period.local_start().format("%-d %b %Y, %H:%M").to_string(),
        Grain::Day => period.local_start().format("%-d %b %Y").to_string(),
        _ => period.label(),
    }
}

/// Returns `data ends 26 Nov 2026` if the data ends before now.
pub fn data_ends(table: &Table) -> Option<String> {
    table.data_ends.map(ends)
}

/// Returns `data ends 26 Nov 2026`.
pub fn ends(period: Period) -> String {
    format!("data ends {}", date(period))
}

/// Explains why the store has no data of these periods, for the end of a sentence: `: data ends 26
/// Nov 2026`. Empty if the periods lie between the ends of the data.
pub fn extent(coverage: &Coverage, periods: &[Period]) -> String {
    let grain = periods.first().map_or(Grain::Day, |period| period.grain());
    let after = |last: Period| periods.iter().any(|period| period.start() >= last.end());
    let before = |first: Period| periods.iter().any(|period| period.end() <= first.start());
    let Some((first, last)) = coverage.first(grain).zip(coverage.last(grain)) else {
        let zone = coverage.zone();
        return match zone.is_utc() {
            true => format!(": the store has no data by {grain}"),
            false => format!(": the store has no data by hour, which {zone} needs"),
        };
    };
    match coverage.data_ends(grain) {
        Some(end) if after(last) => format!(": {}", ends(end)),
        _ if before(first) => format!(": data begins {}", date(first)),
        _ => String::new(),
    }
}

/// Says under which prefixes there are events if the configured one has none: `no keys begin with
/// `bitmapist_`; 55 begin with `trackist_`: use --prefix trackist_`. If the right prefix is a
/// longer one: `the prefix is `trackist`, but events begin with `trackist_`: use --prefix
/// trackist_`. `None` if none were found. Numbers are lower bounds unless the scan was `complete`.
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

/// Describes the keys under the prefix that are not bitmaps of events: `12 keys begin with
/// `trackist_` but are not bitmaps of events …`.
pub fn unparsed_keys(prefix: &str, count: u64, example: &str) -> String {
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

/// Quotes a text as one word of a POSIX shell, if needed.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Says in which periods that contain `now` the bitmaps of these grains may include later marks:
/// `may include marks made later on 12 Nov 2026, in that week and in that month`. `None` without
/// grains.
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

/// Formats a number of people, or a dash if it is not recorded.
pub fn count_or_dash(count: Option<u64>) -> String {
    count.map_or_else(|| NOT_RECORDED.to_owned(), thousands)
}

/// Shown in place of a number that is not recorded.
pub const NOT_RECORDED: &str = "–";

/// Says since when the events of a table are recorded, if that is within its range: one sentence
/// each. The `†` marks the cohorts concerned.
pub fn recorded(table: &Table) -> Vec<String> {
    let query = &table.query;
    let recorded = &table.recorded;
    let Some(first) = table.rows.first().map(|row| row.period.start()) else {
        return Vec::new();
    };
    let mut said = Vec::new();
    // Before that the store has no data at all.
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
            is_first(&query.cohort.with_labels(&table.labels), since),
            query.grain
        ));
        if let Segment::Event(name) = &query.cohort {
            told = Some(name);
        }
    }
    if table.rows.iter().any(|row| row.is_first_recorded) {
        said.push(format!(
            "‡ Nothing is recorded before this {}, so everybody looks new in it. It is left out of the average.",
            query.grain
        ));
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
        format!("{begun}: before that its counts are 0.")
    }));
    said
}

/// Returns `on 27 Jul 2026`, or `in Jul 2026` without daily bitmaps.
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
        let one = 1.0 / 40_000.0;
        let all_but_one = 39_999.0 / 40_000.0;
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
