//! `/autocomplete.json`: the events there are, for fields that complete a name while it is typed.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse};
use chrono::SecondsFormat;
use serde::Serialize;
use url::form_urlencoded;

use crate::calendar::{Grain, Period};
use crate::render::words;
use crate::reports::spans::Running;
use crate::server::State;
use crate::server::error::WebError;
use crate::server::respond::answer;
use crate::server::work::block;
use crate::sets::{Catalogue, CountId, EventName, Key, Plan, Segment};
use crate::store::{Freshness, StoreError};

/// An event as a field offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offered {
    /// Its name.
    pub name: String,
    /// What to write for it in a segment: quoted where it has to be, with `@ever` where only that
    /// finds anybody.
    pub text: String,
    /// What people call it, where that is not its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How many people did it on the running day, so far: today, or the day on which the data ends.
    /// `None` for an event recorded without dates.
    pub today: Option<u64>,
    /// Why a saved segment has no number, where a key that it names is not a bitmap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Offered {
    /// Whether every word stands somewhere in its name or label, in either case.
    fn matches(&self, words: &str) -> bool {
        let mut known = self.name.to_lowercase();
        for text in [&self.label, &self.group].into_iter().flatten() {
            known.push('\n');
            known.push_str(&text.to_lowercase());
        }
        words
            .to_lowercase()
            .split_whitespace()
            .all(|word| known.contains(word))
    }
}

#[derive(Serialize)]
struct Answer {
    /// As of when the numbers are.
    as_of: String,
    /// The day they are of, for the end of a sentence: `today`, `on 26 Nov 2026`.
    when: String,
    /// Where days begin and end.
    zone: &'static str,
    events: Vec<Offered>,
}

/// `/autocomplete.json?q=`
pub async fn json(request: HttpRequest) -> HttpResponse {
    let search = form_urlencoded::parse(request.query_string().as_bytes())
        .filter(|(name, _)| name == "q")
        .map(|(_, value)| value.into_owned())
        .last()
        .unwrap_or_default();
    let found = block(&request, move |view| {
        let as_of = view.now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let (mut events, coverage) = (offered(view)?, view.coverage()?);
        let when = match coverage.data_ends(Grain::Day) {
            Some(_) => format!("on {}", words::date(Running::of(&coverage).day)),
            None => "today".to_owned(),
        };
        events.retain(|event| event.matches(&search));
        Ok(Answer {
            as_of,
            when,
            zone: "UTC",
            events,
        })
    });
    answer(
        &request,
        found.await.map(|found| HttpResponse::Ok().json(found)),
    )
}

/// Every segment and event there is to offer: those of the glossary's groups first, in its order;
/// of each the ones with most people on the running day, then by name, those without dates last.
/// The one place such a list is made: one plan counts the people of all of them.
pub(super) fn offered(state: &State) -> Result<Vec<Offered>, WebError> {
    let (now, now_given) = state.as_asked();
    let (glossary, saved) = (&state.dashboard.glossary, state.tracker.segments());
    let counted = |problems: &Problems| {
        state.tracker.of_listed(|| {
            let all = state.tracker.catalogue()?;
            let today = Running::of(&state.tracker.coverage(now, now_given)?).day;
            let mut plan = Plan::new();
            let listed = listed(state, &all, today, problems, &mut plan);
            let counts = state.tracker.counted(&plan, Freshness::Cached)?.counts;
            Ok((listed, counts))
        })
    };
    let mut problems = Problems::new();
    let (listed, counts) = match counted(&problems) {
        Err(crate::Error::Store(StoreError::NotABitmap { .. })) => {
            problems = problems_of(state)?;
            counted(&problems)?
        }
        counted => counted?,
    };
    let offered = listed.into_iter().map(|(name, segment, root)| {
        let (place, group) = match (saved.get(&name), glossary.group(&name)) {
            (_, Some((place, group))) => (place, Some(group)),
            (Some(_), None) => (glossary.groups.len(), Some("Saved segments")),
            (None, None) => (glossary.groups.len() + 1, None),
        };
        let offered = Offered {
            name: name.to_string(),
            text: segment.to_string(),
            label: glossary.label(&name).map(str::to_owned),
            group: group.map(str::to_owned),
            today: root.map(|id| counts[id]),
            problem: problems.remove(&name),
        };
        (place, offered)
    });
    let mut offered: Vec<(usize, Offered)> = offered.collect();
    // Names are sorted already, and the sort is stable.
    offered.sort_by_key(|(place, event)| (*place, std::cmp::Reverse(event.today)));
    Ok(offered.into_iter().map(|(_, event)| event).collect())
}

/// Saved segments that cannot be counted, and why.
type Problems = BTreeMap<EventName, String>;

/// The saved segments that name a key which is not a bitmap. Each is counted by itself.
fn problems_of(state: &State) -> Result<Problems, WebError> {
    let today = Running::of(&state.coverage()?).day;
    let saved = state.tracker.segments();
    let mut problems = Problems::new();
    for (name, _) in saved.iter() {
        let mut plan = Plan::new();
        if plan.count_set(&saved.expand_name(name).at(today)).is_err() {
            continue;
        }
        match state.tracker.counted(&plan, Freshness::Cached) {
            Err(crate::Error::Store(error @ StoreError::NotABitmap { .. })) => {
                problems.insert(name.clone(), error.to_string());
            }
            counted => drop(counted?),
        }
    }
    Ok(problems)
}

/// Names with what to write for them, and where the plan counts their people.
fn listed(
    state: &State,
    all: &Catalogue,
    today: Period,
    problems: &Problems,
    plan: &mut Plan,
) -> Vec<(EventName, Segment, Option<CountId>)> {
    let saved = state.tracker.segments();
    let mut listed = Vec::new();
    for (name, _) in saved.iter() {
        // Long segments beyond what one plan takes are offered without a number.
        let root = match problems.get(name) {
            Some(_) => None,
            None => plan.count_set(&saved.expand_name(name).at(today)).ok(),
        };
        listed.push((name.clone(), Segment::event(name), root));
    }
    let events = all.events().filter(|known| {
        let name = &known.event;
        !state.dashboard.glossary.hides(name) && saved.get(name).is_none()
    });
    for known in events {
        let name = &known.event;
        listed.push(if known.last.is_none() {
            (name.clone(), Segment::Ever(name.clone()), None)
        } else {
            let key = Key::new(name.clone(), today).ok();
            let root = match key.filter(|key| all.of_known(known).contains(key)) {
                Some(key) => plan.count_key(&key),
                None => {
                    let nobody = plan.empty();
                    plan.count(nobody)
                }
            };
            (name.clone(), Segment::event(name), Some(root))
        });
    }
    listed
}
