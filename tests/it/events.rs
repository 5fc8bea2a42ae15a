//! The events pages, and the reports behind them.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::Tracker;
use cohortist::calendar::{Grain, Period};
use cohortist::reports::activity::{Activity, ActivityQuestion, Overview, OverviewQuestion};
use cohortist::reports::retention::State;
use cohortist::sets::{Plan, Segment, Set};
use proptest::prelude::*;

use crate::http::{Away, read};
use crate::support::web::{empty, name, now, product, serve};

/// A product, and a dashboard that shows it.
static PRODUCT: LazyLock<(Tracker, String)> = LazyLock::new(|| {
    let tracker = product(40, 120);
    let base = format!("http://{}", serve(tracker.clone()));
    (tracker, base)
});

fn page(path: &str) -> String {
    let got = read(&format!("{}{path}", PRODUCT.1));
    assert_eq!(got.status, 200, "{path}");
    got.body
}

/// The text between tags, blanks squeezed.
fn text(html: &str) -> String {
    let mut out = String::new();
    for part in html.split('<') {
        out.push_str(part.split_once('>').map_or(part, |(_, text)| text));
        out.push(' ');
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The texts of a table's cells, row by row, without its head.
fn cells(page: &str) -> Vec<Vec<String>> {
    let body = page.split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap();
    let row = |row: &str| row.split("<t").skip(2).map(|cell| text(&format!("<t{cell}"))).collect();
    body.split("<tr").skip(1).map(|r| row(&format!("<tr{r}"))).collect()
}

fn count(event: &str, period: Period) -> u64 {
    PRODUCT.0.count(&Set::event_in(&name(event), period)).unwrap()
}

fn running(grain: Grain) -> Period {
    Period::containing(grain, now()).unwrap()
}

#[test]
fn the_list_has_the_numbers_the_library_counts() {
    let rows = cells(&page("/events?sort=name"));
    let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["active", "plan:pro", "signup", "web"]);
    for row in rows.iter().filter(|row| row[0] != "plan:pro") {
        let number = |cell: usize| -> u64 { row[cell].split(' ').next().unwrap().replace(',', "").parse().unwrap() };
        for (cell, grain, back) in [
            (2, Grain::Day, 0),
            (3, Grain::Day, -1),
            (4, Grain::Week, 0),
            (5, Grain::Week, -1),
            (6, Grain::Month, 0),
            (7, Grain::Month, -1),
        ] {
            assert_eq!(number(cell), count(&row[0], running(grain).shift(back).unwrap()), "{row:?} {cell}");
        }
        assert_eq!((row[8].as_str(), row[9].as_str()), ("15 Oct 2026", "today"));
        // Recorded from mid-October on: the last two weeks are comparable, October and September are not.
        assert!(row[5].ends_with('%') && !row[7].contains('%'), "{row:?}");
    }
    let pro = PRODUCT.0.count(&Set::ever(&name("plan:pro"))).unwrap();
    assert_eq!(rows[1][1..], ["recorded without dates".to_owned(), cohortist::render::thousands(pro)]);
    let most: Vec<String> = cells(&page("/events")).into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(most, ["active", "web", "signup", "plan:pro"]);
    assert!(page("/events").contains("aria-current=\"page\">Events</a>"));
}

#[test]
fn the_list_is_searched_without_a_script() {
    let found = page("/events?q=+I+sign&sort=name");
    assert_eq!(cells(&found).len(), 1);
    assert!(found.contains("1 of 4 events") && found.contains("value=\"I sign\""), "{found}");
    assert!(found.contains("href=\"/events?q=I&#43;sign\"") || found.contains("href=\"/events?q=I+sign\""), "{found}");
    let none = page("/events?q=sginup");
    assert!(
        none.contains("No event is called like “sginup”") && none.contains("<a href=\"/events/signup\">"),
        "{none}"
    );
    let odd = page("/events?q=%3Cscript%3E%22");
    assert!(odd.contains("&#60;script&#62;&#34;") && !odd.contains("<script>"));
    let wrong = read(&format!("{}/events?sort=size", PRODUCT.1));
    assert!(wrong.status == 400 && wrong.body.contains("`size` is no way to sort"), "{}", wrong.body);
}

#[test]
fn an_event_is_shown_over_time_and_its_file_says_the_same() {
    for (query, grain, rows) in [
        ("", Grain::Day, 30),
        ("?last=90", Grain::Day, 90),
        ("?by=week", Grain::Week, 26),
        ("?by=month", Grain::Month, 12),
        ("?by=month&last=1", Grain::Month, 1),
    ] {
        let page = page(&format!("/events/active{query}"));
        let shown = cells(&page);
        assert_eq!(shown.len(), rows, "{query}");
        let href = page.split("href=\"/events/active.csv").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(href.replace("&#38;", "&"), query);
        let file = read(&format!("{}/events/active.csv{query}", PRODUCT.1));
        let disposition = file.header("content-disposition");
        assert!(disposition.starts_with(&format!("attachment; filename=\"active_by_{grain}_20")), "{disposition}");
        let mut csv = csv::Reader::from_reader(file.body.as_bytes());
        let records: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), rows);
        for (i, (record, row)) in records.iter().rev().zip(&shown).enumerate() {
            let period = running(grain).shift(-i64::try_from(i).unwrap()).unwrap();
            assert_eq!(row[0], period.label());
            let people = count("active", period);
            let state = if i == 0 { "in_progress" } else { "complete" };
            let (start, end) = (period.start().date_naive().to_string(), period.end().date_naive().to_string());
            assert_eq!(record, &csv::StringRecord::from(vec![&*start, &*end, &*people.to_string(), state]));
            assert_eq!(row[1].replace(',', ""), format!("{people}{}", if i == 0 { "*" } else { "" }));
            assert!(i > 0 || row[2].is_empty(), "a running period is compared with nothing: {row:?}");
        }
    }
    let page = page("/events/active");
    assert!(page.contains("href=\"/retention?cohort=active&#38;returning=active&#38;by=day\""), "{page}");
    assert!(page.contains("first seen 15 Oct 2026") && page.contains("last seen today"));
    for wrong in ["by=hour", "last=0", "last=401", "last=x"] {
        let got = read(&format!("{}/events/active?{wrong}", PRODUCT.1));
        assert!(got.status == 400 && got.body.contains("does not fit"), "{wrong}: {}", got.body);
        assert!(!got.body.contains("href=\"/retention?"), "no form mends this");
    }
}

#[test]
fn stickiness_is_the_mean_complete_day_over_the_period() {
    let week = running(Grain::Week).shift(-1).unwrap();
    let days: Vec<u64> = week.split(Grain::Day).map(|day| count("active", day)).collect();
    let mean = days.iter().sum::<u64>() as f64 / 7.0;
    let expected = format!("{:.1}%", mean / count("active", week) as f64 * 100.0);
    let rows = cells(&page("/events/active?by=week"));
    assert_eq!((rows[1][3].as_str(), rows[1][4].as_str()), (&*format!("{mean:.0}"), &*expected));
    assert!(text(&page("/events/active")).contains(&format!("day ÷ week {expected}, last week")));
    // October was recorded from the 15th on; November's day is as of now.
    let rows = cells(&page("/events/active?by=month"));
    assert!(rows[1][3..5].iter().all(String::is_empty) && rows[0][4].ends_with("%*"), "{rows:?}");
    assert!(page("/events/active").contains("needs a month recorded whole"));
}

#[test]
fn odd_names_are_escaped_and_reachable() {
    let long = "🎉".repeat(50);
    let names = [
        "<script>alert(1)</script>",
        "a|b",
        "a/b",
        "/",
        "%",
        "%2F",
        "🎉",
        &long,
        "\"q\"",
        "..",
        ".",
        "../x",
        "=1+1",
        "x.csv",
        "x.json",
        ".csv",
        "a b",
        "a+b",
        "a?b#c",
        "<img onerror=x>",
    ];
    let tracker = empty();
    for event in names {
        tracker.mark(&name(event), 1, now()).unwrap();
    }
    let base = format!("http://{}", serve(tracker));
    let list = read(&format!("{base}/events?sort=name")).body;
    assert!(!list.contains("<script>") && !list.contains("<img"));
    let row = |row: &str| row.split("href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let links: Vec<String> = list.split("<th scope=\"row\">").skip(1).map(row).collect();
    assert_eq!(links.len(), names.len());
    let mut sorted = names;
    sorted.sort_unstable();
    for (event, link) in sorted.iter().zip(links) {
        // As a browser would ask for it.
        let url = url::Url::parse(&format!("{base}{}", link.replace("&#38;", "&"))).unwrap();
        let page = read(url.as_str());
        assert_eq!(page.status, 200, "{event} at {url}");
        let heading = page.body.split("<h1 id=\"event\">").nth(1).unwrap().split("</h1>").next().unwrap();
        let heading = heading.replace("&#60;", "<").replace("&#62;", ">").replace("&#34;", "\"").replace("&#38;", "&");
        assert_eq!(heading, *event);
        assert!(!page.body.contains("<script>") && !page.body.contains("<img"), "{event}");
        let csv = page.body.split("\">CSV</a>").next().unwrap().rsplit("href=\"").next().unwrap();
        let file = read(url::Url::parse(&format!("{base}{}", csv.replace("&#38;", "&"))).unwrap().as_str());
        assert!(file.status == 200 && file.header("content-type").starts_with("text/csv"), "{event} at {csv}");
        assert!(file.body.ends_with(",1,in_progress\n") && file.header("content-disposition").is_ascii(), "{event}");
        let asked = page.body.split("\">Retention of this event").next().unwrap().rsplit("href=\"").next().unwrap();
        let retention = read(&format!("{base}{}", asked.replace("&#38;", "&")));
        assert!(retention.status == 200 && retention.body.contains("100.0%*"), "{event} at {asked}");
    }
}

#[test]
fn an_unknown_event_is_a_404_that_helps() {
    for (path, name, similar) in [
        ("/events/actve", "actve", true),
        ("/events/actve.csv", "actve", true),
        ("/events/", "", false),
        ("/events/bitop_x", "bitop_x", false),
        ("/events/%FF%00", "\u{fffd}", false),
        ("/events/%3Cb%3E", "&#60;b&#62;", false),
    ] {
        let got = read(&format!("{}{path}", PRODUCT.1));
        assert_eq!(got.status, 404, "{path}");
        assert!(got.body.contains("No event is called that") && got.body.contains(&format!("for “{name}")), "{path}");
        assert_eq!(got.body.contains("<a href=\"/events/active\">active</a>"), similar, "{path}");
    }
    assert_eq!(read(&format!("{}/events/a.json", PRODUCT.1)).status, 404);
}

#[test]
fn an_event_without_dates_says_so() {
    let page = page("/events/plan:pro");
    assert!(page.contains("Recorded without dates") && page.contains("<code>plan:pro@ever</code>"), "{page}");
    let pro = PRODUCT.0.count(&Set::ever(&name("plan:pro"))).unwrap();
    assert!(page.contains(&format!("{} people marked ever", cohortist::render::thousands(pro))));
    assert_eq!(read(&format!("{}/events/plan:pro.csv", PRODUCT.1)).body.lines().count(), 31);
}

#[test]
fn no_events_and_no_store_are_said_clearly() {
    let base = format!("http://{}", serve(empty()));
    let page = read(&format!("{base}/events"));
    assert!(page.status == 200 && page.body.contains("Nothing recorded yet") && page.body.contains("cohortist demo"));
    assert!(
        page.body.contains("aria-current=\"page\">Events") && !page.body.contains("aria-current=\"page\">Retention")
    );
    let base = format!("http://{}", serve(Tracker::new(Arc::new(Away))));
    for path in ["/events", "/events/active", "/events/active.csv"] {
        let page = read(&format!("{base}{path}"));
        assert_eq!((page.status, page.header("retry-after")), (503, "2"), "{path}");
        assert!(page.body.contains("The store does not answer"), "{path}");
    }
}

#[test]
fn two_hundred_events_are_one_light_page() {
    let tracker = empty();
    let mut batch = tracker.batch();
    for event in 0..200 {
        let event = name(&format!("event:{event}"));
        for day in 0..40 {
            for user in 0..3 {
                batch.mark(&event, user * 40_000, now() - TimeDelta::days(day)).unwrap();
            }
        }
    }
    batch.commit().unwrap();
    let base = format!("http://{}", serve(tracker));
    let page = read(&format!("{base}/events")).body;
    assert_eq!(cells(&page).len(), 200);
    assert!(page.len() < 250_000, "{} bytes", page.len());
}

type Deed = (usize, u32, i64);
const EVENTS: [&str; 3] = ["a", "b", "song:played"];

/// Marks of a few events in the last 100 days, and some in the future.
fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    prop::collection::vec((0..EVENTS.len(), 0_u32..40, -3_i64..100), 0..150)
}

/// The plain answer: the users whose deeds fall into the period.
fn plain(deeds: &[Deed], event: usize, period: Period, now: DateTime<Utc>) -> u64 {
    let inside = |back: i64| (period.start()..period.end()).contains(&(now - TimeDelta::days(back)));
    let users: BTreeSet<u32> =
        deeds.iter().filter(|(e, _, back)| *e == event && inside(*back)).map(|(_, user, _)| *user).collect();
    users.len() as u64
}

fn ask(deeds: &[Deed], grain: Grain, count: u32, now: DateTime<Utc>) -> (Overview, Vec<Activity>) {
    let tracker = empty();
    let mut batch = tracker.batch();
    for (event, user, back) in deeds {
        batch.mark(&name(EVENTS[*event]), *user, now - TimeDelta::days(*back)).unwrap();
    }
    batch.commit().unwrap();
    let (keys, mut plan) = (tracker.store().keys("").unwrap(), Plan::new());
    let overview = OverviewQuestion::new(&mut plan, &keys, now).unwrap();
    let segments: Vec<Segment> = EVENTS.iter().map(|event| Segment::event(&name(event))).collect();
    let questions: Vec<ActivityQuestion> = segments
        .iter()
        .map(|segment| ActivityQuestion::new(&mut plan, segment, (grain, count), &keys, now).unwrap())
        .collect();
    let counts = tracker.store().count(&plan).unwrap();
    (overview.overview(&counts), questions.iter().map(|question| question.activity(&counts)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reports_agree_with_plain_sets(
        deeds in deeds(),
        grain in prop::sample::select(vec![Grain::Day, Grain::Week, Grain::Month]),
        count in 1_u32..40,
        hours in 0_i64..24 * 40,
    ) {
        let now = now() - TimeDelta::hours(hours);
        let (overview, activities) = ask(&deeds, grain, count, now);
        let running = |grain| Period::containing(grain, now).unwrap();
        let today = running(Grain::Day);
        let first_of = |event: usize| {
            let past = deeds.iter().filter(|(e, _, back)| *e == event && *back >= 0).map(|(_, _, back)| *back);
            past.max().map(|back| today.shift(-back).unwrap())
        };
        for entry in &overview.entries {
            let event = EVENTS.iter().position(|e| *e == entry.event.as_str()).unwrap();
            for (back, people) in entry.days.iter().rev().enumerate() {
                let day = today.shift(-i64::try_from(back).unwrap()).unwrap();
                prop_assert_eq!(*people, plain(&deeds, event, day, now));
            }
            for (recent, grain) in [(entry.week, Grain::Week), (entry.month, Grain::Month)] {
                let [current, last, before] = [0, -1, -2].map(|by| running(grain).shift(by).unwrap());
                prop_assert_eq!(recent.current, plain(&deeds, event, current, now));
                prop_assert_eq!(recent.last, plain(&deeds, event, last, now));
                prop_assert_eq!(recent.before, plain(&deeds, event, before, now));
                prop_assert!(!recent.known || first_of(event).is_none_or(|first| first.start() <= before.start()));
            }
            // An event of the near future alone has weeks and months that have begun.
            if let Some(first) = first_of(event) {
                prop_assert_eq!(entry.span.unwrap().first, first);
            }
        }
        for (event, activity) in activities.iter().enumerate() {
            prop_assert_eq!(activity.points.len(), usize::try_from(count).unwrap());
            for point in &activity.points {
                prop_assert_eq!(point.people, plain(&deeds, event, point.period, now));
                prop_assert_eq!(point.state == State::InProgress, point.period == running(grain));
                let before = point.period.previous().unwrap();
                let earlier = plain(&deeds, event, before, now);
                if let Some(change) = point.change {
                    prop_assert!(point.state == State::Complete && earlier > 0);
                    prop_assert!((change - (point.people as f64 / earlier as f64 - 1.0)).abs() < 1e-9);
                } else {
                    let whole = first_of(event).is_some_and(|first| first.start() <= before.start());
                    prop_assert!(point.state == State::InProgress || earlier == 0 || !whole);
                }
                if let Some(daily) = point.daily {
                    let first = first_of(event);
                    prop_assert!(first.is_none_or(|first| first.start() <= point.period.start()));
                    let days: Vec<u64> = point
                        .period
                        .split(Grain::Day)
                        .filter(|day| *day < today)
                        .map(|day| plain(&deeds, event, day, now))
                        .collect();
                    let mean = days.iter().sum::<u64>() as f64 / days.len() as f64;
                    prop_assert!((daily.mean - mean).abs() < 1e-9 && daily.days == days.len() as u64);
                    prop_assert!(point.stickiness().unwrap() <= 1.0 + 1e-9);
                }
            }
        }
    }
}
