//! `/`: redirects to the most useful question.

use std::collections::BTreeSet;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse};

use crate::calendar::{Grain, Period};
use crate::reports::coverage::{Coverage, State as Progress};
use crate::reports::retention::default_size;
use crate::reports::spans::Span;
use crate::server::State;
use crate::server::error::WebError;
use crate::server::query::{PageQuery, Range, RawQuery};
use crate::server::respond::answer;
use crate::server::work::block;
use crate::sets::{CountId, EventName, Key, Plan, Segment, When};
use crate::store::{Freshness, StoreError};

/// Names of events that often record a signup, best first.
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

/// Names of events that often record activity, best first.
const BEING_THERE: [&str; 8] = [
    "active", "activity", "login", "visit", "session", "open", "pageview", "seen",
];

/// Redirects to `/retention` with the question of the address, for bitmapist's old bookmarks, or
/// with the default question; with none if nothing is recorded yet.
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

/// Returns the configured default question, or the most useful one, for dates with data. `None`
/// without events.
pub(super) fn default_question(state: &State) -> Result<Option<PageQuery>, WebError> {
    if let Some(own) = &state.dashboard.question {
        return Ok(Some(up_to_data(state, own.clone())));
    }
    let Some(mut asked) = likely_question(&state.events()?) else {
        return Ok(None);
    };
    let all = state.tracker.catalogue()?;
    let coverage = state.coverage()?;
    if let Segment::Event(name) = &asked.bare.cohort {
        let samples = samples(all.of(name), &coverage);
        asked.bare.grain = likely_grain(&returns(state, &asked, &samples)?);
    }
    // If an event has stopped, show its last data instead of two weeks of zeros.
    let grain = asked.bare.grain;
    if let Segment::Event(name) = &asked.bare.cohort
        && let Some(last) = Span::of(all.of(name), state.now()).map(|span| span.last.within(grain))
        && coverage.last(grain).and_then(|newest| newest.since(last))
            >= Some(i64::from(default_size(grain)))
    {
        let date = |period: Period| Some(period.local_start().date());
        asked.bare.from = last
            .shift(1 - i64::from(default_size(grain)))
            .ok()
            .and_then(date);
        asked.bare.to = date(last);
    }
    Ok(Some(asked))
}

/// Returns the configured question. If the data ends before now, the year to date is that of the
/// data.
fn up_to_data(state: &State, own: PageQuery) -> PageQuery {
    let range = Range::YearToDate;
    if !range.is_of(&own, state.now(), None) || state.ends().is_none() {
        return own;
    }
    let query = format!("{}&range={}", own.canonical(), range.as_str());
    let raw = RawQuery::read(&query)
        .by_default_in(state.usual_calendar())
        .carried_out(state.now(), || state.ends());
    // Near the first supported year the range does not fit.
    raw.check().unwrap_or(own)
}

/// The grains of the front page, finest first, with the minimum number of periods with data.
const GRAINS: [(Grain, i64); 4] = [
    (Grain::Day, 1),
    (Grain::WEEK, 4),
    (Grain::Month, 4),
    (Grain::Year, 3),
];

/// The number of newest complete cohorts to sample for each grain.
const COHORTS: usize = 8;

/// The minimum share of returning people in the next period, in percent. A table with less looks as
/// if all people left.
const COME_BACK: u64 = 15;

/// The cohorts to sample for one grain.
#[derive(Debug, PartialEq, Eq)]
struct Sample {
    grain: Grain,
    cohorts: Vec<Period>,
}

/// The number of people in a sample, and of those who came back in the next period.
#[derive(Debug, Clone, Copy)]
struct Returns {
    grain: Grain,
    people: u64,
    returned: u64,
}

/// Returns the cohorts to sample for each grain with enough data, given the bitmaps of the starting
/// event.
fn samples(keys: &[Key], coverage: &Coverage) -> Vec<Sample> {
    let is_long = |grain: Grain, fewest: i64| {
        let extent = coverage.first(grain).zip(coverage.last(grain));
        extent.and_then(|(first, last)| last.since(first)) >= Some(fewest - 1)
    };
    let is_complete = |period: Period| coverage.state_of(period) == Progress::Complete;
    let sample = |grain: Grain| {
        // Years are unions of months.
        let kept = if grain == Grain::Year {
            Grain::Month
        } else {
            grain
        };
        let periods = keys.iter().filter_map(|key| match key.when() {
            When::In(period) if period.grain() == kept => Some(period.within(grain)),
            _ => None,
        });
        let periods: BTreeSet<Period> = periods.collect();
        let is_over =
            |cohort: &Period| is_complete(*cohort) && cohort.shift(1).is_ok_and(is_complete);
        let newest = periods.into_iter().rev().filter(is_over).take(COHORTS);
        Sample {
            grain,
            cohorts: newest.collect(),
        }
    };
    let grains = GRAINS
        .into_iter()
        .filter(|(grain, fewest)| is_long(*grain, *fewest));
    grains.map(|(grain, _)| sample(grain)).collect()
}

/// Counts the returns: at most two counts per cohort, 64 in all.
fn returns(
    state: &State,
    asked: &PageQuery,
    samples: &[Sample],
) -> crate::tracker::Result<Vec<Returns>> {
    let catalogue = state.tracker.catalogue()?;
    let mut plan = Plan::new();
    let mut counted: Vec<(Grain, Vec<[CountId; 2]>)> = Vec::new();
    for sample in samples {
        let mut counts = Vec::new();
        for cohort in &sample.cohorts {
            let next = cohort.shift(1)?;
            let mut add = |segment: &Segment, period| {
                let set = segment.at(period, &catalogue)?;
                plan.add(&set)
            };
            let who = add(&asked.bare.cohort, *cohort).map_err(StoreError::from)?;
            let back = add(&asked.bare.returning, next).map_err(StoreError::from)?;
            let returned = plan.and([who, back]);
            counts.push([plan.count(who), plan.count(returned)]);
        }
        counted.push((sample.grain, counts));
    }
    let counts = state.tracker.counted(&plan, Freshness::Cached)?.counts;
    let returns = counted.into_iter().map(|(grain, of_grain)| Returns {
        grain,
        people: of_grain.iter().map(|[who, _]| counts[*who]).sum(),
        returned: of_grain.iter().map(|[_, back]| counts[*back]).sum(),
    });
    Ok(returns.collect())
}

/// Returns the finest grain with enough returns from one period to the next. If there is none, the
/// coarsest grain shows the most.
fn likely_grain(returns: &[Returns]) -> Grain {
    let come_back = |returns: &&Returns| {
        returns.people > 0 && 100 * returns.returned >= COME_BACK * returns.people
    };
    let chosen = returns.iter().find(come_back).or(returns.last());
    chosen.map_or(Grain::Day, |returns| returns.grain)
}

/// Returns signup → active if both exist, otherwise the two most similar events. `None` without
/// events.
pub(super) fn likely_question(events: &[EventName]) -> Option<PageQuery> {
    // A name like `plan:pro` is probably a property.
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
    use chrono::TimeDelta;

    #[test]
    fn the_grain_is_the_finest_at_which_people_come_back() {
        use Grain::{Day, Month, Year};
        const WEEK: Grain = Grain::WEEK;
        let chosen = |rates: &[(Grain, u64, u64)]| {
            let returns = rates.iter().map(|(grain, people, returned)| Returns {
                grain: *grain,
                people: *people,
                returned: *returned,
            });
            likely_grain(&returns.collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[(Day, 100, 15), (WEEK, 500, 400)]), Day);
        assert_eq!(chosen(&[(Day, 100, 14), (WEEK, 500, 400)]), WEEK);
        let shop = [(Day, 30, 0), (WEEK, 200, 12), (Month, 800, 500)];
        assert_eq!(chosen(&shop), Month);
        let renewals = [(Day, 8, 0), (WEEK, 40, 0), (Month, 90, 0), (Year, 500, 450)];
        assert_eq!(chosen(&renewals), Year);
        // No returns; and no complete or recorded cohorts.
        assert_eq!(chosen(&[(Day, 8, 0), (WEEK, 40, 0)]), WEEK);
        assert_eq!((chosen(&[(Day, 0, 0)]), chosen(&[])), (Day, Day));
    }

    #[test]
    fn the_newest_complete_cohorts_are_looked_at() {
        let event = EventName::new("a").unwrap();
        let now = parse_moment("2026-11-23T14:05:00Z").unwrap();
        let samples = |every: usize, days: i64| {
            let marks = (0..days)
                .step_by(every)
                .map(|back| now - TimeDelta::days(back));
            let keys = marks.flat_map(|at| Key::of_mark(&event, at, false).unwrap());
            let keys: Vec<Key> = keys.collect::<BTreeSet<_>>().into_iter().collect();
            let coverage = Coverage::of(&keys, now, false).unwrap();
            let samples = super::samples(&keys, &coverage).into_iter();
            let told = samples.map(|Sample { grain, cohorts }| {
                let ends = cohorts.last().zip(cohorts.first());
                let ends = ends.map_or(String::new(), |(first, last)| format!(" {first}…{last}"));
                format!("{grain}{ends}")
            });
            told.collect::<Vec<_>>().join(", ")
        };
        // The current period is incomplete, and so is the next period of the one before.
        assert_eq!(samples(1, 9), "day 2026-11-15…2026-11-21");
        assert_eq!(
            samples(1, 60),
            "day 2026-11-14…2026-11-21, week 2026-W39…2026-W46"
        );
        assert_eq!(
            samples(30, 800),
            "day 2026-03-28…2026-10-24, week 2026-W13…2026-W43, month 2026-02…2026-09, \
             year 2024…2024"
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
