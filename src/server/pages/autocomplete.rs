//! `/autocomplete.json`: the event names and saved segments that fields offer for autocompletion.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse};
use chrono::SecondsFormat;
use serde::Serialize;
use url::form_urlencoded;

use crate::calendar::Period;
use crate::reports::spans::Running;
use crate::server::State;
use crate::server::error::WebError;
use crate::server::respond::answer;
use crate::server::work::block;
use crate::sets::{Catalogue, CountId, EventName, Key, Plan, Segment};
use crate::store::{Freshness, StoreError};

/// An entry of the autocompletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offered {
    /// Its name.
    pub name: String,
    /// Its text in a segment: its label if that is understood there, quoted if needed, and with
    /// `@ever` for an event without dates.
    pub text: String,
    /// Its label, if it differs from the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// People on the current day so far: today, or the day on which the data ends. `None` for an
    /// event without dates.
    pub today: Option<u64>,
    /// Why a saved segment has no number, where a key that it names is not a bitmap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Offered {
    /// Whether the name or label contains every word, ignoring case.
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
    /// The moment of the numbers.
    as_of: String,
    /// The day of the numbers, for the end of a sentence: `today`, `on 26 Nov 2026`.
    when: String,
    /// The time zone of days.
    zone: &'static str,
    events: Vec<Offered>,
    functions: Vec<OfferedFunction>,
}

/// A function of segments.
#[derive(Clone, Copy, Serialize)]
struct OfferedFunction {
    name: &'static str,
    /// How it is written.
    text: &'static str,
    /// Whom it finds.
    about: &'static str,
}

/// Every function of segments.
const FUNCTIONS: [OfferedFunction; 4] = [
    OfferedFunction {
        name: "first",
        text: "first(…)",
        about: "who do it for the first time",
    },
    OfferedFunction {
        name: "before",
        text: "before(…)",
        about: "who did it in an earlier period",
    },
    OfferedFunction {
        name: "within",
        text: "within(…, -4..-1)",
        about: "who do it in any period of a range: here the 4 before",
    },
    OfferedFunction {
        name: "atleast",
        text: "atleast(3, …, -6..0)",
        about: "who do it in at least 3 of the last 7 periods",
    },
];

/// `/autocomplete.json?q=`
pub async fn json(request: HttpRequest) -> HttpResponse {
    let search = form_urlencoded::parse(request.query_string().as_bytes())
        .filter(|(name, _)| name == "q")
        .map(|(_, value)| value.into_owned())
        .last()
        .unwrap_or_default();
    let found = block(&request, move |view| {
        let as_of = view.now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut events = offered(view)?;
        let coverage = view.coverage()?;
        let when = view.day_of_numbers()?;
        events.retain(|event| event.matches(&search));
        let mut functions = FUNCTIONS.to_vec();
        functions.retain(|function| function.name.contains(&search.to_lowercase()));
        Ok(Answer {
            as_of,
            when,
            zone: coverage.zone().name(),
            events,
            functions,
        })
    });
    answer(
        &request,
        found.await.map(|found| HttpResponse::Ok().json(found)),
    )
}

/// Returns every saved segment and event: those of the configured groups first, in their order;
/// within a group by people on the current day, then by name, those without dates last. One plan
/// counts all of them.
pub(super) fn offered(state: &State) -> Result<Vec<Offered>, WebError> {
    let (now, now_given) = state.as_asked();
    let glossary = &state.dashboard.glossary;
    let saved = state.tracker.segments();
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
            text: state.typed(&segment.to_string()),
            label: glossary.label(&name).map(str::to_owned),
            group: group.map(str::to_owned),
            today: root.map(|id| counts[id]),
            problem: problems.remove(&name),
        };
        (place, offered)
    });
    let mut offered: Vec<(usize, Offered)> = offered.collect();
    // Names are already sorted, and this sort is stable.
    offered.sort_by_key(|(place, event)| (*place, std::cmp::Reverse(event.today)));
    Ok(offered.into_iter().map(|(_, event)| event).collect())
}

/// Saved segments that cannot be counted, and why.
type Problems = BTreeMap<EventName, String>;

/// Returns the saved segments that name a key which is not a bitmap. Each is counted separately.
fn problems_of(state: &State) -> Result<Problems, WebError> {
    let today = Running::of(&state.coverage()?).day;
    let saved = state.tracker.segments();
    let catalogue = state.tracker.catalogue()?;
    let mut problems = Problems::new();
    for (name, _) in saved.iter() {
        let mut plan = Plan::new();
        // A segment that cannot be evaluated is offered without a number.
        let Ok(segment) = state.sets(&catalogue).expand(&Segment::event(name)) else {
            continue;
        };
        let set = segment.at(today, &catalogue);
        if set.and_then(|set| plan.count_set(&set)).is_err() {
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

/// Adds names with their segment text, and the ids of their counts in the plan.
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
        // A segment that is too long for the plan is offered without a number.
        let set = state
            .sets(all)
            .expand(&Segment::event(name))
            .ok()
            .and_then(|segment| segment.at(today, all).ok());
        let root = match problems.get(name) {
            Some(_) => None,
            None => set.and_then(|set| plan.count_set(&set).ok()),
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
