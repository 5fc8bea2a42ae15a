//! Notices above a retention table, for example which side of it is empty, and since when there is
//! data.

use std::collections::HashSet;

use chrono::NaiveDate;

use crate::calendar::{Grain, Period};
use crate::render::{many, words};
use crate::reports::coverage::Coverage;
use crate::reports::dates::{Dates, Found, leaves};
use crate::reports::retention::{Cell, Measure, Query, Table, default_size};
use crate::server::State;
use crate::server::error::WebError;
use crate::server::query::PageQuery;
use crate::sets::{Catalogue, EventName, Segment};

/// A notice above the table.
#[derive(Clone)]
pub(super) struct Notice {
    pub(super) text: String,
    /// Texts and addresses of suggested questions.
    pub(super) instead: Vec<(String, String)>,
    /// The address of the list of events, if no event is similar to the unknown one.
    pub(super) all: Option<String>,
    /// Whether it is about an event that was never recorded.
    pub(super) is_unknown: bool,
}

impl Notice {
    pub(super) fn new(text: String) -> Self {
        Notice {
            text,
            instead: Vec::new(),
            all: None,
            is_unknown: false,
        }
    }
}

/// The maximum number of names of an expression that are listed.
pub(super) const MAX_LISTED: usize = 6;

/// Returns all notices for a table.
pub(super) fn notices(
    state: &State,
    asked: &PageQuery,
    table: &Table,
    coverage: &Coverage,
    events: &[EventName],
) -> Result<Vec<Notice>, WebError> {
    let query = asked
        .query()
        .expanded(state.sets(&*state.tracker.catalogue()?))
        .map_err(|error| crate::Error::Query(error.into()))?;
    let retained = retained(table);
    let mut notices = never_recorded(state, asked, table, &query, events)?;
    if retained == 0 {
        notices.extend(undated(state, asked, &query)?);
    }
    if !table.rows.is_empty() && !table.is_recorded() {
        notices.push(no_data(state, asked, table, coverage));
        return Ok(notices);
    }
    let open = asked.bare.from.is_none() && asked.bare.to.is_none();
    let has_complete = table.averages.iter().any(Option::is_some);
    if table.query.measure == Measure::OnOrAfter && !table.is_empty() && !has_complete {
        notices.push(fewer_periods(state, asked, table, coverage)?);
    } else if table.query.measure == Measure::OnOrAfter
        && open
        && !table.is_empty()
        && notices.is_empty()
        && table
            .rows
            .last()
            .is_some_and(|row| row.cells.iter().all(|cell| cell.complete().is_some()))
    {
        let rows = table.rows.len();
        let cols = table.query.last_offset() + 1;
        let grain = table.query.grain;
        let last = if rows == 1 {
            "the last cohort".to_owned()
        } else {
            format!("the last {rows} cohorts")
        };
        let over = if cols == 1 {
            format!("{grain} is over")
        } else {
            format!("{cols} {grain}s are over")
        };
        let fewer = match table.query.brackets {
            Some(_) => "let the brackets end earlier, or ",
            None if cols == 1 => "",
            None => "ask for fewer periods, or ",
        };
        notices.push(Notice::new(format!(
            "Shown: {last} whose {over}; to see newer ones, {fewer}set “from”."
        )));
    }
    if table.rows.is_empty() {
        notices.push(Notice::new(
            "There are no cohorts between these dates.".to_owned(),
        ));
    } else if table.is_empty() || retained == 0 {
        let all = state.tracker.catalogue()?;
        notices.extend(empty(state, asked, table, &query, &all)?);
    }
    Ok(notices)
}

/// Returns the number of returns over all cells.
pub(super) fn retained(table: &Table) -> u64 {
    table.numbers().map(|number| number.retained).sum()
}

fn link(state: &State, asked: &PageQuery) -> String {
    state.to(&format!("/retention?{}", asked.canonical()))
}

/// Formats a segment with the labels of its events.
fn called(state: &State, segment: &Segment) -> String {
    segment.with_labels(&state.dashboard.glossary.labels)
}

/// Reports names that were never recorded, with similar ones.
fn never_recorded(
    state: &State,
    asked: &PageQuery,
    table: &Table,
    query: &Query,
    events: &[EventName],
) -> Result<Vec<Notice>, WebError> {
    // A set, because a long expression may contain thousands of names.
    let raw: HashSet<&EventName> = asked.segments().flat_map(Segment::names).collect();
    let mut names: Vec<&EventName> = Vec::new();
    [&query.cohort, &query.returning]
        .into_iter()
        .for_each(|side| names.extend(side.names()));
    // Events with counted people are recorded, even if the cached list of names does not contain
    // them yet.
    let mut counted: Vec<&EventName> = Vec::new();
    for (segment, users) in [
        (&table.query.cohort, table.entries),
        (&table.query.returning, retained(table)),
    ] {
        if let (Segment::Event(name), true) = (segment, users > 0) {
            counted.push(name);
        }
    }
    let unknown = state
        .tracker
        .never_recorded(names.into_iter().filter(|name| !counted.contains(name)))?;
    let notice = |name: &EventName| {
        // A name within a saved segment cannot be fixed in the question.
        let raw = raw.contains(name);
        let similar = name.similar(events);
        let all = similar.is_empty().then(|| state.to("/events"));
        let instead = similar.into_iter().filter(|_| raw);
        let inside = if raw {
            ""
        } else {
            ", which a saved segment names"
        };
        Notice {
            text: format!(
                "Nothing was ever recorded for “{}”{inside}.",
                called(state, &Segment::event(name))
            ),
            instead: instead
                .map(|n| (n.to_string(), link(state, &asked.renamed(name, n))))
                .collect(),
            all,
            is_unknown: true,
        }
    };
    let more = unknown.len().saturating_sub(MAX_LISTED);
    let mut notices: Vec<Notice> = unknown.into_iter().take(MAX_LISTED).map(notice).collect();
    if more > 0 {
        notices.push(Notice::new(format!(
            "Nothing was ever recorded for {} more.",
            many(more as u64, "event")
        )));
    }
    Ok(notices)
}

/// Reports dated use of undated events: `plan:pro` instead of `plan:pro@ever` gives a table of
/// zeros.
fn undated(state: &State, asked: &PageQuery, query: &Query) -> Result<Vec<Notice>, WebError> {
    let mut dated = Vec::new();
    let mut seen = HashSet::new();
    for side in [&query.cohort, &query.returning] {
        side.visit(&mut |name, ever| {
            if !ever && seen.insert(name) {
                dated.push(name);
            }
        });
    }
    let mut notices = Vec::new();
    for name in dated {
        if notices.len() < MAX_LISTED && state.tracker.is_undated(name)? {
            notices.push(Notice {
                text: format!(
                    "“{}” is only recorded without dates.",
                    called(state, &Segment::event(name))
                ),
                instead: vec![(
                    Segment::Ever(name.clone()).to_string(),
                    link(state, &asked.ever(name)),
                )],
                all: None,
                is_unknown: false,
            });
        }
    }
    Ok(notices)
}

/// Says which side of the table is empty, when each of its events is recorded, and suggests a range
/// with people.
fn empty(
    state: &State,
    asked: &PageQuery,
    table: &Table,
    query: &Query,
    all: &Catalogue,
) -> Result<Option<Notice>, WebError> {
    let now = state.now();
    let nobody = table.is_empty();
    let (side, asked_as) = if nobody {
        (&query.cohort, &table.query.cohort)
    } else {
        (&query.returning, &table.query.returning)
    };
    let leaves = leaves(side, all, now);
    // Another notice already reports a single event that was never recorded.
    if let [
        (Segment::Event(_), Found::Never | Found::OnlyUndated) | (Segment::Ever(_), Found::Never),
    ] = &leaves[..]
        && matches!(asked_as, Segment::Event(_) | Segment::Ever(_))
    {
        return Ok(None);
    }
    let what = words::shortened(&called(state, asked_as), 120);
    let beginning = if nobody {
        let when = match &table.rows[..] {
            [row] => words::when(row.period),
            _ => format!("in {}", words::range(table).unwrap_or_default()),
        };
        format!("Nobody did “{what}” {when}")
    } else {
        format!("Nobody came back to “{what}” in these periods")
    };
    let parts = leaves
        .iter()
        .take(MAX_LISTED)
        .map(|(leaf, found)| describe(&called(state, leaf), *found));
    let mut parts: Vec<String> = parts.collect();
    if leaves.len() > MAX_LISTED {
        parts.push(format!("{} more", leaves.len() - MAX_LISTED));
    }
    let hint = match (table.query.grain, table.query.measure) {
        _ if !nobody => "",
        (Grain::Hour, _) => " Hours are recorded only with --hourly.",
        (_, Measure::OnOrAfter) if asked.bare.from.is_none() && asked.bare.to.is_none() => {
            " “On or after” takes cohorts whose whole window is over: ask for fewer periods, or set “from” to see \
             younger ones."
        }
        _ => "",
    };
    let mut instead = Vec::new();
    for (words, other) in ranges(
        asked,
        table,
        [&query.cohort, &query.returning].map(|s| Dates::of(s, all, now)),
    ) {
        // Only suggest a range that has people.
        let Some(found) = state.retention(&other.query())? else {
            continue;
        };
        if if nobody {
            !found.is_empty()
        } else {
            retained(&found) > 0
        } {
            instead.push((words, link(state, &other)));
            break;
        }
    }
    Ok(Some(Notice {
        text: format!("{beginning}; {}.{hint}", parts.join(", ")),
        instead,
        all: None,
        is_unknown: false,
    }))
}

/// Describes when a name is recorded: `“signup” is recorded from Tue 28 Jul 2026 to Mon 23 Nov
/// 2026`.
fn describe(name: &str, found: Found) -> String {
    let name = words::shortened(name, 60);
    let dates = |span: crate::reports::spans::Span| match (span.first, span.last) {
        (first, last) if first == last => format!("{} only", words::when(first)),
        (first, last) => format!("from {} to {}", first.label(), last.label()),
    };
    match found {
        Found::Never => format!("“{name}” has never been recorded"),
        Found::Dated(span) => format!("“{name}” is recorded {}", dates(span)),
        Found::Undated => format!("“{name}” is recorded without dates"),
        Found::OnlyUndated => format!("“{name}” is only recorded without dates"),
        Found::OnlyDated(span) => format!(
            "nothing is recorded for “{name}”: that event has dates, {}",
            dates(span)
        ),
    }
}

/// Returns ranges that may have people although the table has none, best first.
fn ranges(
    asked: &PageQuery,
    table: &Table,
    [cohort, returning]: [Dates; 2],
) -> Vec<(String, PageQuery)> {
    // People may still come back after the last signup.
    let dates = match cohort.both(returning) {
        _ if table.is_empty() => cohort,
        Dates::Never if returning != Dates::Never => cohort,
        dates => dates,
    };
    let (Dates::Between(first, last), Some(shown)) = (dates, table.rows.first()) else {
        return Vec::new();
    };
    let label = |date| {
        crate::calendar::Period::of_date(Grain::Day, date)
            .map(|day| day.label())
            .unwrap_or_default()
    };
    let between = |from, to| PageQuery {
        bare: Query {
            from,
            to,
            rows: None,
            ..asked.bare.clone()
        },
        ..asked.clone()
    };
    // Keeps the number of cohorts, and ends at the last one that may have people.
    let rows = i64::from(asked.bare.rows.unwrap_or(default_size(asked.bare.grain)));
    let begin = |last: NaiveDate| {
        let first = Period::of_date(asked.bare.grain, last).and_then(|last| last.shift(1 - rows));
        first.map(|first| first.local_start().date()).ok()
    };
    let up_to = (
        format!("the cohorts up to {}", label(last)),
        between(begin(last).or(Some(first)), Some(last)),
    );
    let from = between(Some(first), None);
    let from = PageQuery {
        bare: Query {
            rows: asked.bare.rows,
            ..from.bare
        },
        ..from
    };
    let from = (format!("the cohorts from {} on", label(first)), from);
    if shown.period.local_start().date() < first {
        vec![from, up_to]
    } else {
        vec![up_to, from]
    }
}

/// Reports that the store has no data for these cohorts, and links to a range with data.
fn no_data(state: &State, asked: &PageQuery, table: &Table, coverage: &Coverage) -> Notice {
    let grain = table.query.grain;
    let when = match &table.rows[..] {
        [row] => words::when(row.period),
        _ => format!("in {}", words::range(table).unwrap_or_default()),
    };
    let beginning = format!("The store has no data {when}");
    match coverage.first(grain).zip(coverage.last(grain)) {
        None if !coverage.zone().is_utc() => Notice::new(format!(
            "{beginning} by the hour, which a time zone needs. Hours are recorded only with --hourly."
        )),
        None if grain == Grain::Hour => Notice::new(format!(
            "{beginning}. Hours are recorded only with --hourly."
        )),
        None => Notice::new(format!("{beginning}: it has no data by {grain}.")),
        Some((first, last)) => {
            let from = words::full_label(first);
            let to = words::full_label(last);
            let range = if from == to {
                format!("{} only", words::when(first))
            } else {
                format!("from {from} to {to}")
            };
            let bare = Query {
                from: None,
                to: None,
                ..asked.bare.clone()
            };
            let latest = PageQuery {
                bare,
                ..asked.clone()
            };
            let instead = vec![("its latest cohorts".to_owned(), link(state, &latest))];
            Notice {
                instead,
                ..Notice::new(format!("{beginning}; it has data {range}."))
            }
        }
    }
}

/// Reports that no cohort's window is over, and how many columns the data allows.
fn fewer_periods(
    state: &State,
    asked: &PageQuery,
    table: &Table,
    coverage: &Coverage,
) -> Result<Notice, WebError> {
    let cols = table.query.last_offset() + 1;
    let grain = table.query.grain;
    let missing = table
        .rows
        .iter()
        .flat_map(|row| &row.cells)
        .any(|cell| matches!(cell, Cell::NotRecorded(_)));
    let why = if missing { "are recorded" } else { "are over" };
    let text = format!(
        "No cohort shown has {} that {why}, so there is no average.",
        many(cols.into(), grain.as_str())
    );
    // Half of the data is for the cohorts, and half for their returns.
    let known = coverage
        .first(grain)
        .zip(coverage.last(grain))
        .and_then(|(first, last)| last.since(first));
    // Only single periods can be fewer.
    let fewer = known
        .filter(|_| table.query.brackets.is_none())
        .and_then(|known| u32::try_from(known / 2).ok())
        .filter(|fewer| (1..cols).contains(fewer));
    let Some(fewer) = fewer else {
        return Ok(Notice::new(text));
    };
    let bare = Query {
        cols: Some(fewer),
        from: None,
        to: None,
        ..asked.bare.clone()
    };
    let other = PageQuery {
        bare,
        trend: asked.trend.filter(|column| *column < fewer),
        ..asked.clone()
    };
    let Some(found) = state.retention(&other.query())? else {
        return Ok(Notice::new(text));
    };
    let instead = found.averages.iter().any(Option::is_some).then(|| {
        (
            format!("cohorts over {}", many(fewer.into(), grain.as_str())),
            link(state, &other),
        )
    });
    Ok(Notice {
        instead: instead.into_iter().collect(),
        ..Notice::new(text)
    })
}
