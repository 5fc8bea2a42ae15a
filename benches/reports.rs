//! What each report costs beside the plain retention table: `cargo bench --bench reports [ROUNDS]`.
//!
//! 10 M users, 120 days, on the embedded store, warm. The questions take turns, 15 rounds unless
//! told otherwise, so that all of them meet the same noise. For each the median is printed, and how
//! many times the plain table's median that is, with the limit that must hold. A breakdown may take
//! as much for each of its groups.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::{Duration, Instant};

use cohortist::calendar::{Grain, WeekStart, Zone};
use cohortist::reports::Report;
use cohortist::reports::comparison::{Comparison, Grouping};
use cohortist::reports::frequency::Frequency;
use cohortist::reports::lifecycle::Lifecycle;
use cohortist::reports::range::Range;
use cohortist::reports::retention::{Measure, Query};
use cohortist::reports::trends::{Rolling, Trends};
use cohortist::sets::{EventName, Key, Segment, When};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Options, Store};
use cohortist::{Run, Tracker};

#[path = "shared/ten_million.rs"]
mod ten_million;

use ten_million::{USERS, bitmaps_of, now, query};

const DAYS: i64 = 120;

/// The countries of users, with the percentage of users in each; the others have none. They are
/// known today, without a date.
const COUNTRIES: [(&str, u32); 12] = [
    ("DE", 25),
    ("FR", 15),
    ("GB", 10),
    ("US", 8),
    ("IT", 7),
    ("ES", 6),
    ("PL", 5),
    ("NL", 4),
    ("AT", 3),
    ("CH", 3),
    ("SE", 2),
    ("DK", 2),
];

/// The plans of users, which are marked on each day on which they are active.
const PLANS: [(&str, u32); 3] = [("free", 70), ("pro", 15), ("team", 5)];

/// The number of groups of the countries: eight, those with others, and those with none.
const COUNTRY_GROUPS: f64 = 10.0;

/// The number of groups of the plans: each, and those with none.
const PLAN_GROUPS: f64 = 4.0;

/// Those of the users who have a value, given the percentages of users who have the values.
fn with_value(users: &[u32], values: &[(&str, u32)], value: usize) -> Vec<u32> {
    let from: u32 = values[..value].iter().map(|(_, percent)| percent).sum();
    let own = from..from + values[value].1;
    // Scattered, and the same on each day.
    let place = |user: u32| (u64::from(user.wrapping_mul(0x9e37_79b1)) * 100) >> 32;
    let has = |user: &u32| own.contains(&u32::try_from(place(*user)).unwrap());
    users.iter().copied().filter(has).collect()
}

struct Question {
    name: &'static str,
    /// How many times the time of the first question it may take, if that is limited.
    limit: Option<f64>,
    ask: Box<dyn Fn(&Tracker)>,
    times: Vec<Duration>,
}

fn question<R: Report + 'static>(name: &'static str, limit: Option<f64>, report: R) -> Question {
    let ask = move |tracker: &Tracker| drop(tracker.run(&report, &Run::at(now())).unwrap());
    Question {
        name,
        limit,
        ask: Box::new(ask),
        times: Vec::new(),
    }
}

fn questions() -> Vec<Question> {
    let active = || "active".parse::<Segment>().unwrap();
    let measured = |measure| Query {
        measure,
        // On or after would show older cohorts, and more cells.
        to: Some(now().date_naive()),
        ..query("active")
    };
    let brackets = |measure| Query {
        cols: None,
        brackets: Some("1,2-7,8-14,15-30".parse().unwrap()),
        ..measured(measure)
    };
    let days = |rows| Range {
        rows: Some(rows),
        ..Range::last(Grain::Day)
    };
    let frequency = |weeks| Frequency {
        segment: active(),
        window: "28d".parse().unwrap(),
        to: None,
        weeks,
        week: WeekStart::Monday,
        zone: Zone::UTC,
    };
    let rolling = |rolling| Trends {
        segments: vec![active()],
        breakdown: None,
        range: days(90),
        rolling: Some(rolling),
    };
    let lifecycle = Lifecycle {
        segment: active(),
        range: days(90),
    };
    let breakdown = |values: &str| Comparison {
        query: query("active"),
        grouping: Grouping::Breakdown(values.parse().unwrap()),
    };
    vec![
        question("on, 31 × 13", None, query("active")),
        question("on or after", Some(1.5), measured(Measure::OnOrAfter)),
        question("on or before", None, measured(Measure::OnOrBefore)),
        question("unbroken", None, measured(Measure::Unbroken)),
        question("first-time cohorts", Some(1.4), query("first(active)")),
        question("four brackets", Some(1.0), brackets(Measure::On)),
        question("… on or after", None, brackets(Measure::OnOrAfter)),
        question(
            "breakdown, known today",
            Some(1.2 * COUNTRY_GROUPS),
            breakdown("country:*"),
        ),
        question(
            "breakdown, known then",
            Some(1.2 * PLAN_GROUPS),
            breakdown("plan:*"),
        ),
        question("lifecycle of 90 days", Some(1.0), lifecycle),
        question("frequency of 28 days", Some(1.0), frequency(0)),
        question("… and of 8 weeks beside it", None, frequency(8)),
        question(
            "rolling 28 days, 90 days",
            Some(2.0),
            rolling(Rolling::FourWeeks),
        ),
        question("rolling 7 days, 90 days", None, rolling(Rolling::Week)),
    ]
}

/// Marks users on a day. Every mark is in a week and a month, too.
fn mark(store: &EmbeddedStore, key: &Key, users: &[u32]) {
    let When::In(day) = key.when() else { return };
    let longer = [Grain::WEEK, Grain::Month].map(|grain| {
        let event = key.event().clone();
        Key::new(event, day.within(grain)).unwrap()
    });
    for key in std::iter::once(key).chain(&longer) {
        store.add(&[(key, users)]).unwrap();
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn main() {
    let asked = std::env::args().skip(1).find_map(|text| text.parse().ok());
    let rounds: usize = asked.unwrap_or(15);
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        cache_bytes: 1 << 30,
        ..Options::default()
    };
    let store = EmbeddedStore::open(directory.path(), &options).unwrap();
    let everybody: Vec<u32> = (0..USERS).collect();
    for (value, (country, _)) in COUNTRIES.iter().enumerate() {
        let event = EventName::new(&format!("country:{country}")).unwrap();
        let users = with_value(&everybody, &COUNTRIES, value);
        store.add(&[(&Key::ever(event), &users)]).unwrap();
    }
    for (key, users) in bitmaps_of(DAYS) {
        mark(&store, &key, &users);
        if key.event().as_str() == "active" {
            for (value, (plan, _)) in PLANS.iter().enumerate() {
                let event = EventName::new(&format!("plan:{plan}")).unwrap();
                let When::In(day) = key.when() else { continue };
                let users = with_value(&users, &PLANS, value);
                mark(&store, &Key::new(event, day).unwrap(), &users);
            }
        }
    }
    store.checkpoint().unwrap();
    let tracker = Tracker::new(std::sync::Arc::new(store));
    let mut questions = questions();
    for round in 0..=rounds {
        for question in &mut questions {
            let began = Instant::now();
            (question.ask)(&tracker);
            // The first round reads the bitmaps.
            if round > 0 {
                question.times.push(began.elapsed());
            }
        }
    }
    let base = median(&mut questions[0].times);
    println!("median ms (least, most), times the plain table");
    for question in &mut questions {
        let median = median(&mut question.times);
        let [least, most] = [question.times[0], question.times[rounds - 1]];
        let limit = question.limit.map_or_else(String::new, |limit| {
            let met = if median / base <= limit {
                "met"
            } else {
                "NOT MET"
            };
            format!(", limit {limit}: {met}")
        });
        println!(
            "{:<27} {median:>6.2} ({:.2}, {:.2})  {:.2}{limit}",
            question.name,
            least.as_secs_f64() * 1000.0,
            most.as_secs_f64() * 1000.0,
            median / base
        );
    }
}
