//! A store whose data ends before now: what lies after its end is not recorded, and never a zero.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::Tracker;
use cohortist::calendar::{Grain, Period};
use cohortist::clock::Clock;
use cohortist::server::Dashboard;
use cohortist::sets::When;
use serde_json::Value;

use crate::http::read;
use crate::support::program::Shop;
use crate::support::web::{now, product, serve, serve_dashboard};

/// Eight days after the last mark.
fn later() -> DateTime<Utc> {
    now() + TimeDelta::days(8)
}

fn served_later(tracker: Tracker) -> String {
    format!(
        "http://{}",
        serve_dashboard(Dashboard::new(tracker, Clock::Fixed(later())))
    )
}

/// The same product as it was while marks still came, and eight days after they stopped.
static BOTH: LazyLock<[String; 2]> = LazyLock::new(|| {
    let tracker = product(40, 120);
    [
        format!("http://{}", serve(tracker.clone())),
        served_later(tracker),
    ]
});

fn both(path: &str) -> [String; 2] {
    [0, 1].map(|i| {
        let page = read(&format!("{}{path}", BOTH[i]));
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        page.body
    })
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The words of a page, without tags.
fn words(html: &str) -> String {
    let text = html
        .split('<')
        .map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    text.collect::<Vec<_>>()
        .join(" ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn part<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    page.split(from)
        .nth(1)
        .unwrap_or_else(|| panic!("no {from} in {page}"))
        .split(to)
        .next()
        .unwrap()
}

#[test]
fn the_list_of_events_counts_back_from_the_end() {
    let [live, ended] = both("/events?sort=name");
    let heads = words(part(&ended, "<thead>", "</thead>"));
    for head in [
        "Sun 22 Nov",
        "16 – 22 Nov",
        "Oct 2026",
        "30 days to Mon 23 Nov",
        "Mon 23 Nov so far",
        "Nov 2026 so far",
    ] {
        assert!(heads.contains(head), "{head} in {heads}");
    }
    assert!(
        !heads.contains("Today") && !heads.contains("Yesterday"),
        "{heads}"
    );
    assert!(
        ended.contains("<span>data ends 23 Nov 2026</span>") && !live.contains("data ends"),
        "{ended}"
    );
    let numbers = |page: &str| -> Vec<String> {
        let rows = part(page, "<tbody>", "</tbody>").split("<tr").skip(1);
        rows.map(|row| words(row.split("<td class=\"date\">").next().unwrap()))
            .collect()
    };
    assert_eq!(
        (numbers(&ended).len(), numbers(&ended)),
        (3, numbers(&live)),
        "the numbers as of the last mark"
    );
    assert!(
        ended.contains("a day before 23 Nov 2026\"") && !ended.contains("before today\""),
        "{ended}"
    );

    // Fields that complete names say the same numbers, and of which day they are.
    let [live, ended] = both("/autocomplete.json").map(|text| json(&text));
    assert_eq!(ended["events"], live["events"]);
    assert_eq!(
        (live["when"].as_str(), ended["when"].as_str()),
        (Some("today"), Some("on 23 Nov 2026"))
    );

    let [live, ended] = both("/api/v1/events").map(|text| json(&text));
    assert_eq!(ended["events"], live["events"]);
    assert_eq!(
        (&live["data_ends"], ended["data_ends"].as_str()),
        (&Value::Null, Some("2026-11-23"))
    );
    let running = r#"{"day":"2026-11-23","month":"2026-11","week":"2026-W48"}"#;
    assert_eq!(
        (json(running), &json(running)),
        (ended["running"].clone(), &live["running"])
    );
}

#[test]
fn the_trend_of_an_event_ends_where_the_data_does() {
    for query in ["", "?last=90", "?by=week", "?by=month"] {
        let [live, ended] = both(&format!("/events/active{query}"));
        let body = |page: &str| part(page, "<tbody>", "</tbody>").to_owned();
        assert_eq!(body(&ended), body(&live), "{query}");
        let charts = |page: &str| part(page, "<section class=\"charts\"", "</section>").to_owned();
        let drawn = charts(&live)
            .replace("pale while in progress", "pale where data ends")
            .replace("<td>in progress<", "<td>data ends in it<")
            .replace("is complete yet.", "is complete.")
            .replace("no complete day yet", "no complete day");
        assert_eq!(charts(&ended), drawn, "{query}");
        assert!(
            ended.contains("so far: data ends in it, not compared"),
            "{ended}"
        );
        let tiles = words(part(&ended, "<section class=\"tiles\"", "</section>"));
        for tile in [
            "people on Sun 22 Nov 2026",
            "so far on Mon 23 Nov 2026",
            "on the Sunday before",
            "so far in Nov 2026",
        ] {
            assert!(tiles.contains(tile), "{tile} in {tiles}");
        }
        assert!(
            ["today", "yesterday", "this week", "last month"]
                .iter()
                .all(|word| !tiles.contains(word)),
            "{tiles}"
        );
        assert!(
            ended.contains("<span>data ends 23 Nov 2026</span>"),
            "{ended}"
        );
        let [live, ended] = both(&format!("/events/active.csv{query}"));
        assert_eq!(ended, live, "{query}");
        assert!(ended.ends_with(",,\n") || query.contains("by"), "{ended}");
    }
}

#[test]
fn a_user_is_not_said_to_be_absent_after_the_end() {
    let [live, ended] = both("/users/1");
    let tiles = |page: &str| words(part(page, "<section class=\"tiles online\"", "</section>"));
    let (was, is) = (tiles(&live), tiles(&ended));
    assert!(
        was.contains("Today Mon 23 Nov 2026") && is.contains("Last day with data Mon 23 Nov 2026"),
        "{is}"
    );
    assert!(
        is.contains("Its week 23 – 29 Nov 2026 (W48)") && !is.contains("No data"),
        "{is}"
    );
    let answers = |text: &str| {
        text.replace("Last day with data", "Today")
            .replace("Its", "This")
            .replace("that week", "this week")
            .replace("that day", "today")
    };
    assert_eq!(answers(&is), was);
    assert!(
        ended.contains("<span>data ends 23 Nov 2026</span>"),
        "{ended}"
    );
    // The calendar is the same one: the eight days without data are not in it.
    let strips = |page: &str| page.matches("<svg class=\"days\"").count();
    assert_eq!(strips(&ended), strips(&live));
    let drawn = |page: &str| {
        part(page, "<svg class=\"days\"", "</svg>")
            .split_once("<path")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(drawn(&ended), drawn(&live));

    let [live, ended] = both("/users/1.json").map(|text| json(&text));
    assert_eq!(
        (ended["data_ends"].as_str(), &live["data_ends"]),
        (Some("2026-11-23"), &Value::Null)
    );
    assert_eq!(
        (&ended["today"], &ended["events"]),
        (&live["today"], &live["events"])
    );
}

#[test]
fn a_set_after_the_end_has_no_number() {
    let page = |set: &str| read(&format!("{}/people?set={set}", BOTH[1])).body;
    let after = page("active@2026-11-29");
    assert!(
        after.contains("No data for people who did active on")
            && after.contains("<p class=\"legend\">No data.</p>"),
        "{after}"
    );
    assert!(
        after.contains("Sun 29 Nov 2026 is not recorded: data ends 23 Nov 2026."),
        "{after}"
    );
    assert!(
        !after.contains("0 people") && !after.contains("Nobody"),
        "{after}"
    );
    let partly = page("active@2026-11-22+%26+!active@2026-11-29");
    assert!(
        partly.contains("Sun 29 Nov 2026 is not recorded") && !partly.contains("No data for"),
        "{partly}"
    );
    assert!(
        page("active@2026-11-23")
            .contains("So far: the data ends on Mon 23 Nov 2026, and the list"),
        "the day is over"
    );
    assert!(page("active@2026-12-05").contains("Sat 5 Dec 2026 has not begun."));
    // The cells of a table likewise.
    let cell = |rest: &str| {
        read(&format!(
            "{}/people?cohort=signup&returning=active&by=day&{rest}",
            BOTH[1]
        ))
    };
    let none = cell("at=2026-11-20&k=5");
    assert!(
        none.status == 400
            && none.body.contains(
                "2026-11-25 is not recorded: there is data from 2026-10-15 to 2026-11-23"
            ),
        "{}",
        none.body
    );
    assert_eq!(
        (
            cell("at=2026-11-27").status,
            cell("at=2026-10-01&k=1").status
        ),
        (400, 400)
    );
    assert!(
        cell("at=2026-11-20&k=3")
            .body
            .contains("So far: the data ends on Mon 23 Nov 2026, and more may come back"),
        "the day is over"
    );
    let partly = cell("at=2026-11-20&k=2&measure=on_or_after&cols=10").body;
    assert!(
        partly.contains("At least: some of these periods are not recorded"),
        "{partly}"
    );
    // Sets to try have people.
    let tries = read(&format!("{}/people", BOTH[1])).body;
    assert!(
        tries.contains(">active@2026-11-23</a>") && !tries.contains("2026-12"),
        "{tries}"
    );

    let sets = [
        "active@2026-11-29",
        "active@2026-11-23",
        "active@2026-11-22",
        "active@2026-12-05",
        "plan:pro@ever",
        "active@2026-11-22+|+active@2026-11-29",
    ];
    let query: Vec<String> = sets
        .iter()
        .map(|set| format!("set={}", set.replace('|', "%7C")))
        .collect();
    let counts = json(&read(&format!("{}/api/v1/count?{}", BOTH[1], query.join("&"))).body);
    let states: Vec<&Value> = counts["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| &count["state"])
        .collect();
    let expected = [
        "not_recorded",
        "in_progress",
        "complete",
        "future",
        "",
        "partly_recorded",
    ];
    for ((state, expected), set) in states.into_iter().zip(expected).zip(sets) {
        assert_eq!(state.as_str().unwrap_or_default(), expected, "{set}");
    }
    assert_eq!(counts["data_ends"].as_str(), Some("2026-11-23"));
    let people = json(&read(&format!("{}/api/v1/people?set=active@2026-11-29", BOTH[1])).body);
    assert_eq!(
        (people["state"].as_str(), &people["count"]),
        (Some("not_recorded"), &Value::Null)
    );
    let numbers: Vec<bool> = counts["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| count["count"].is_u64())
        .collect();
    assert_eq!(numbers, [false, true, true, true, true, true]);
    assert_eq!(counts["counts"][0]["count"], Value::Null);
    // A file of nobody would say that nobody did it.
    let file = |set: &str| read(&format!("{}/people.csv?set={set}", BOTH[1]));
    let none = file("active@2026-11-29");
    assert_eq!(none.status, 404);
    let tidy = read(&format!(
        "{}/people.tidy.csv?set=active@2026-11-29",
        BOTH[1]
    ));
    assert_eq!(tidy.status, 404);
    assert!(
        none.body
            .contains("active@2026-11-29 is not recorded: data ends 23 Nov 2026"),
        "{}",
        none.body
    );
    assert_eq!(file("active@2026-11-22+%26+!active@2026-11-22").status, 200);
    assert_eq!(file("active@2026-12-05").status, 200, "it has not begun");
    // While marks come, silence is a true zero.
    let live = json(&read(&format!("{}/api/v1/count?set=other@2026-11-22", BOTH[0])).body);
    assert_eq!(
        (live["counts"][0]["state"].as_str(), &live["data_ends"]),
        (Some("complete"), &Value::Null)
    );
}

/// A week of which the last days have no data is over, and yet not complete.
#[test]
fn a_table_says_that_the_data_ends_in_a_period() {
    let question = "cohort=signup&returning=active&by=week&rows=2&cols=2";
    for (query, is_running) in [
        (question, true),
        (&*format!("{question}&from=2026-11-23"), false),
    ] {
        let [live, ended] = both(&format!("/retention?{query}"));
        let table = words(part(&ended, "<main", "</main>"));
        let said = "* data ends in it, left out of averages";
        assert!(table.contains(said), "{said} in {table}");
        assert!(ended.contains(", data ends in it\">"), "{ended}");
        for word in [
            "still in progress",
            "complete yet",
            "period yet",
            "cohort yet",
        ] {
            assert!(!table.contains(word), "{word} in {table}");
        }
        if !is_running {
            let live = words(part(&live, "<main", "</main>"));
            assert!(live.contains("no complete cohort yet"), "{live}");
            assert!(table.contains("no complete cohort"), "{table}");
        }
    }
    let [live, ended] = both(&format!("/retention.svg?{question}"));
    assert!(ended.contains(" · data ends 23 Nov 2026<"), "{ended}");
    assert!(!live.contains("data ends"), "{live}");
    // Files for programs keep the name of the state.
    let [_, tidy] = both(&format!("/retention.tidy.csv?{question}"));
    assert!(tidy.contains(",in_progress,complete,\n"), "{tidy}");
}

#[test]
fn deleted_days_are_dashes_and_not_zeros() {
    let tracker = product(40, 120);
    let yesterday = Period::containing(Grain::Day, now())
        .unwrap()
        .previous()
        .unwrap();
    let mut keys = tracker.keys("").unwrap();
    keys.retain(
        |key| matches!(key.when(), When::In(p) if p.grain() == Grain::Day && p < yesterday),
    );
    tracker.delete_keys(&keys).unwrap();
    let host = format!("http://{}", serve(tracker.clone()));
    let event = read(&format!("{host}/events/active")).body;
    let rows: Vec<String> = part(&event, "<tbody>", "</tbody>")
        .split("<tr")
        .skip(1)
        .map(words)
        .collect();
    assert_eq!(rows.len(), 30);
    assert!(
        rows[1].contains("22 Nov") && !rows[1].contains('–'),
        "{rows:?}"
    );
    assert!(rows[2..].iter().all(|row| row.ends_with('–')), "{rows:?}");
    assert!(
        event.contains("<b>–</b> not recorded: no data for that day."),
        "{event}"
    );
    assert!(
        part(&event, "<g class=\"hits\"", "</g>")
            .matches("not recorded")
            .count()
            == 28,
        "{event}"
    );
    let csv = read(&format!("{host}/events/active.csv")).body;
    assert_eq!(csv.matches(",,not_recorded,,,\n").count(), 28, "{csv}");
    // The month is kept, and says more than its days.
    let month = read(&format!("{host}/events/active?by=month")).body;
    assert!(
        !part(&month, "<tbody>", "</tbody>").contains('–'),
        "{month}"
    );
    // A user is not absent on days that nobody can look at.
    let user = read(&format!("{host}/users/1")).body;
    let strip = part(&user, "<svg class=\"days\" viewBox=\"0 0 ", "</svg>");
    let days: u32 = strip.split(' ').next().unwrap().parse().unwrap();
    let pale = part(strip, "class=\"off\"", "/>");
    assert!(
        pale.contains(&format!("d=\"M{} 5H{days}\"", days - 2)),
        "{strip}"
    );
}

#[test]
fn the_command_line_says_where_the_data_ends() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1", "2", "--at", "2026-11-18"])
        .done();
    let count = shop.run(&[
        "count",
        "active@2026-11-21",
        "active@2026-11-18",
        "active@2026-11",
    ]);
    assert_eq!(
        count.out,
        "-\tactive@2026-11-21\n2\tactive@2026-11-18\n2\tactive@2026-11\n"
    );
    assert_eq!(
        count.err,
        "note: active@2026-11-21 is not recorded: data ends 18 Nov 2026\n"
    );
    let one = shop.run(&["count", "active@2026-11-21"]);
    assert_eq!((one.out.as_str(), one.code), ("-\n", 0));
    let people = shop.run(&["people", "active@2026-11-18 & !active@2026-11-20"]);
    assert_eq!(people.out, "1\n2\n");
    assert!(
        people
            .err
            .contains("is only partly recorded: data ends 18 Nov 2026"),
        "{}",
        people.err
    );
    let events = shop.run(&["events"]);
    assert_eq!(
        (events.out.as_str(), events.err.as_str()),
        ("active\n", "note: data ends 18 Nov 2026\n")
    );
    // With marks that come, there is nothing to say.
    shop.run(&["mark", "other", "1"]).done();
    assert_eq!(shop.run(&["count", "active@2026-11-21"]).quietly(), "0\n");
    assert_eq!(shop.run(&["events"]).quietly(), "active\nother\n");
}
