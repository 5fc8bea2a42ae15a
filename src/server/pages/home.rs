//! `/`: on to the question a newcomer would ask first.

use std::collections::BTreeSet;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse};

use crate::calendar::{Grain, Period};
use crate::reports::coverage::Coverage;
use crate::reports::retention::default_size;
use crate::reports::spans::Span;
use crate::server::error::{WebError, answer};
use crate::server::query::{PageQuery, Range, RawQuery};
use crate::server::{State, block};
use crate::sets::{Catalogue, EventName, Segment, When};

/// Names under which products record that somebody joined, best first.
const JOINING: [&str; 8] = [
    "signup",
    "sign_up",
    "signed_up",
    "register",
    "registered",
    "join",
    "created",
    "install",
];

/// Names under which products record that somebody was there, best first.
const BEING_THERE: [&str; 8] = [
    "active", "activity", "login", "visit", "session", "open", "pageview", "seen",
];

/// Redirects to `/retention` with the question asked, as bitmapist's old bookmarks do at the root,
/// or the default one; without one when nothing was recorded yet.
pub async fn get(request: HttpRequest) -> HttpResponse {
    let query = request.query_string().to_owned();
    let location = block(&request, move |view| {
        if !query.is_empty() {
            return Ok(view.to(&format!("/retention?{query}")));
        }
        let Some(asked) = default_question(view)? else {
            return Ok(view.to("/retention"));
        };
        Ok(view.to(&format!("/retention?{}", asked.canonical())))
    });
    let found = |to: String| HttpResponse::Found().insert_header((LOCATION, to)).finish();
    answer(&request, location.await.map(found))
}

/// The question of whoever asks none: the dashboard's own, or the most sensible one, shown where
/// its data are. `None` without events.
pub(super) fn default_question(state: &State) -> Result<Option<PageQuery>, WebError> {
    if let Some(own) = &state.dashboard.question {
        return Ok(Some(up_to_data(state, own.clone())));
    }
    let Some(mut asked) = likely_question(&state.events()?) else {
        return Ok(None);
    };
    let (all, coverage) = (state.tracker.catalogue()?, state.coverage()?);
    asked.bare.grain = likely_grain(&asked, &all, &coverage);
    // Data of an event that has stopped is shown where it is, and not as a fortnight of nobody.
    let grain = asked.bare.grain;
    if let Segment::Event(name) = &asked.bare.cohort
        && let Some(last) = Span::of(all.of(name), state.now()).map(|span| span.last.within(grain))
        && coverage.last(grain).and_then(|newest| newest.since(last))
            >= Some(i64::from(default_size(grain)))
    {
        let date = |period: Period| Some(period.start().date_naive());
        asked.bare.from = last
            .shift(1 - i64::from(default_size(grain)))
            .ok()
            .and_then(date);
        asked.bare.to = date(last);
    }
    Ok(Some(asked))
}

/// The dashboard's own question: the year to date is that of the data, where it ends before now.
fn up_to_data(state: &State, own: PageQuery) -> PageQuery {
    let range = Range::YearToDate;
    if !range.is_of(&own, state.now(), None) || state.ends().is_none() {
        return own;
    }
    let query = format!("{}&range={}", own.canonical(), range.as_str());
    let raw = RawQuery::read(&query).carried_out(state.now(), || state.ends());
    raw.check().unwrap_or(own)
}

/// The fewest weeks and months of data that are shown as such.
const ENOUGH: i64 = 8;

/// The grain at which the likely question shows the most: days where the names say that people are
/// there daily, and there are bitmaps of most days; otherwise weeks or months, as far as there is
/// data of several of them.
fn likely_grain(asked: &PageQuery, all: &Catalogue, coverage: &Coverage) -> Grain {
    let (Segment::Event(cohort), Segment::Event(returning)) =
        (&asked.bare.cohort, &asked.bare.returning)
    else {
        return Grain::Day;
    };
    let periods = |name: &EventName, grain: Grain| -> BTreeSet<Period> {
        let of_grain = all.of(name).iter().filter_map(|key| match key.when() {
            When::In(period) if period.grain() == grain => Some(period),
            _ => None,
        });
        of_grain.collect()
    };
    let is_long = |grain: Grain| {
        let bitmaps = periods(returning, grain);
        bitmaps
            .first()
            .zip(bitmaps.last())
            .and_then(|(first, last)| Some(last.since(*first)? + 1))
            >= Some(ENOUGH)
    };
    // Most of the newest days have a bitmap of both, as far back as there is data.
    let is_dense = |grain: Grain| {
        let Some((first, last)) = coverage.first(grain).zip(coverage.last(grain)) else {
            return false;
        };
        [cohort, returning].into_iter().all(|name| {
            let bitmaps = periods(name, grain);
            let newest = bitmaps.last().copied().unwrap_or(last).min(last);
            let begin = newest
                .shift(1 - i64::from(default_size(grain)))
                .map_or(first, |begin| begin.max(first));
            let days = newest.since(begin).unwrap_or(0) + 1;
            i64::try_from(bitmaps.range(begin..=newest).count())
                .is_ok_and(|there| 2 * there >= days)
        })
    };
    let is_daily = looks_like(cohort, &JOINING) || looks_like(returning, &BEING_THERE);
    match () {
        () if is_daily && (is_dense(Grain::Day) || !is_long(Grain::Week)) => Grain::Day,
        () if is_daily && (is_dense(Grain::Week) || !is_long(Grain::Month)) => Grain::Week,
        () if is_long(Grain::Month) => Grain::Month,
        () if is_long(Grain::Week) => Grain::Week,
        () => Grain::Day,
    }
}

fn looks_like(name: &EventName, words: &[&str]) -> bool {
    words
        .iter()
        .any(|word| name.as_str().eq_ignore_ascii_case(word))
}

/// signup → active where both exist, otherwise the two events that look most like them. `None`
/// without events.
pub(super) fn likely_question(events: &[EventName]) -> Option<PageQuery> {
    // `plan:pro` is more likely what somebody *is* than what somebody did.
    let did: Vec<&EventName> = events
        .iter()
        .filter(|name| !name.as_str().contains(':'))
        .collect();
    let did = if did.is_empty() {
        events.iter().collect()
    } else {
        did
    };
    let like = |words: &[&str]| {
        words.iter().find_map(|word| {
            did.iter()
                .copied()
                .find(|name| name.as_str().eq_ignore_ascii_case(word))
        })
    };
    let cohort = like(&JOINING)
        .or_else(|| like(&BEING_THERE))
        .or(did.first().copied())?;
    let returning = like(&BEING_THERE)
        .or_else(|| did.iter().copied().find(|name| *name != cohort))
        .unwrap_or(cohort);
    Some(PageQuery::new(
        Segment::event(cohort),
        Segment::event(returning),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;
    use crate::sets::Key;
    use chrono::TimeDelta;

    #[test]
    fn the_grain_follows_the_data() {
        // The name, how many days lie between two marks, and how many days there are.
        let grain = |name: &str, every: usize, days: i64| {
            let (event, now) = (
                EventName::new(name).unwrap(),
                parse_moment("2026-11-23T14:05:00Z").unwrap(),
            );
            let marks = (0..days)
                .step_by(every)
                .map(|back| now - TimeDelta::days(back));
            let keys: Vec<Key> = marks
                .flat_map(|at| Key::of_mark(&event, at, false).unwrap())
                .collect();
            let all = Catalogue::new(keys);
            let coverage = Coverage::of(all.keys(), now, false).unwrap();
            likely_grain(&likely_question(&[event]).unwrap(), &all, &coverage).as_str()
        };
        assert_eq!(
            (
                grain("active", 1, 700),
                grain("login", 1, 3),
                grain("active", 7, 700)
            ),
            ("day", "day", "week")
        );
        assert_eq!(
            (grain("active", 30, 700), grain("active", 30, 100)),
            ("month", "week")
        );
        assert_eq!(
            (
                grain("purchase", 1, 545),
                grain("purchase", 1, 120),
                grain("purchase", 1, 30)
            ),
            ("month", "week", "day")
        );
    }

    #[test]
    fn the_default_question_is_the_most_sensible_one() {
        let asked = |names: &[&str]| {
            let events: Vec<EventName> = names.iter().map(|n| EventName::new(n).unwrap()).collect();
            likely_question(&events)
                .map(|asked| format!("{} → {}", asked.bare.cohort, asked.bare.returning))
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(
            asked(&["a", "active", "signup"]).as_deref(),
            Some("signup → active")
        );
        assert_eq!(
            asked(&["Active", "song"]).as_deref(),
            Some("Active → Active")
        );
        assert_eq!(
            asked(&["country:US", "purchase"]).as_deref(),
            Some("purchase → purchase")
        );
        assert_eq!(
            asked(&["plan:pro", "plan:free"]).as_deref(),
            Some("plan:pro → plan:free")
        );
        assert_eq!(asked(&["one", "two"]).as_deref(), Some("one → two"));
    }
}
