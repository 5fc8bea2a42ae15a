//! The events pages, and the reports behind them.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::Tracker;
use cohortist::calendar::{Grain, Period};
use cohortist::render::words;
use cohortist::reports::coverage::{Coverage, State};
use cohortist::reports::events::{Events, Overview};
use cohortist::reports::trend::{Activity, Daily, Trend};
use cohortist::reports::{Context, answer_with};
use cohortist::sets::{Catalogue, Labels, Plan, Segment, Segments, Set, When};
use cohortist::store::Freshness;
use proptest::prelude::*;

use crate::http::{Away, read};
use crate::support::browser::Browser;
use crate::support::program::{Serving, Shop};
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
    let body = page
        .split("<tbody>")
        .nth(1)
        .unwrap()
        .split("</tbody>")
        .next()
        .unwrap();
    let row = |row: &str| {
        row.split("<t")
            .skip(2)
            .map(|cell| text(&format!("<t{cell}")))
            .collect()
    };
    body.split("<tr")
        .skip(1)
        .map(|r| row(&format!("<tr{r}")))
        .collect()
}

fn count(event: &str, period: Period) -> u64 {
    PRODUCT
        .0
        .count(&Set::event_in(&name(event), period))
        .unwrap()
}

fn running(grain: Grain) -> Period {
    Period::containing(grain, now()).unwrap()
}

#[test]
fn the_list_has_the_numbers_the_library_counts() {
    let rows = cells(&page("/events?sort=name"));
    let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["active", "signup", "web"]);
    for row in &rows {
        let number = |cell: usize| -> u64 {
            row[cell]
                .split(' ')
                .next()
                .unwrap()
                .replace(',', "")
                .parse()
                .unwrap()
        };
        for (cell, grain, back) in [
            (1, Grain::Day, -1),
            (2, Grain::WEEK, -1),
            (3, Grain::Month, -1),
            (5, Grain::Day, 0),
            (6, Grain::WEEK, 0),
            (7, Grain::Month, 0),
        ] {
            assert_eq!(
                number(cell),
                count(&row[0], running(grain).shift(back).unwrap()),
                "{row:?} {cell}"
            );
        }
        assert_eq!(
            row[8..],
            ["15 Oct 2026"],
            "last seen today, as everything should be, and never marked ever"
        );
        // Recorded from mid-October on: the last two weeks are comparable, October and September
        // are not.
        assert!(row[2].ends_with('%') && !row[3].contains('%'), "{row:?}");
        let [day, earlier] =
            [-1, -8].map(|back| count(&row[0], running(Grain::Day).shift(back).unwrap()) as f64);
        let change = cohortist::render::words::change(day / earlier - 1.0);
        assert!(
            row[1].ends_with(&change),
            "a Sunday with a Sunday, {change}: {row:?}"
        );
    }
    let pro = PRODUCT.0.count(&Set::ever(&name("plan:pro"))).unwrap();
    let undated = page("/events?sort=name");
    let undated = undated
        .split("Recorded without dates")
        .nth(1)
        .unwrap()
        .split("</section>")
        .next()
        .unwrap();
    assert!(
        text(undated).ends_with(&format!(
            "plan:pro {} people",
            cohortist::render::thousands(pro)
        )),
        "{undated}"
    );
    let most: Vec<String> = cells(&page("/events"))
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(most, ["active", "web", "signup"]);
    assert!(page("/events").contains("aria-current=\"page\">Events</a>"));
}

#[test]
fn the_list_says_more_where_there_is_more_to_say() {
    let tracker = empty();
    let mut batch = tracker.batch();
    batch
        .mark(&name("old"), 1, now() - TimeDelta::days(9))
        .unwrap()
        .mark(&name("both"), 1, now())
        .unwrap();
    batch
        .mark_ever(&name("both"), 1)
        .mark_ever(&name("both"), 2)
        .mark_ever(&name("pro"), 7);
    batch.commit().unwrap();
    let base = format!("http://{}", serve(tracker));
    let page = read(&format!("{base}/events?sort=name")).body;
    let rows = cells(&page);
    assert_eq!(rows[0][8..], ["today", "2"], "{rows:?}");
    assert_eq!(
        rows[1][8..],
        ["14 Nov 2026 last 14 Nov 2026", ""],
        "{rows:?}"
    );
    assert!(text(&page).contains("pro 1 person"), "{page}");
    // What has no dates alone makes no empty table.
    let page = read(&format!("{base}/events?q=pro")).body;
    assert!(
        !page.contains("<table")
            && text(&page).contains("Recorded without dates")
            && page.contains("1 of 3 events")
    );
}

#[test]
fn the_list_is_searched_without_a_script() {
    let found = page("/events?q=+I+sign&sort=name");
    assert_eq!(cells(&found).len(), 1);
    assert!(
        found.contains("1 of 4 events") && found.contains("value=\"I sign\""),
        "{found}"
    );
    assert!(
        found.contains("href=\"/events?q=I&#43;sign\"")
            || found.contains("href=\"/events?q=I+sign\""),
        "{found}"
    );
    let none = page("/events?q=sginup");
    assert!(
        none.contains("No event matches “sginup”") && none.contains("<a href=\"/events/signup\">"),
        "{none}"
    );
    let odd = page("/events?q=%3Cscript%3E%22");
    assert!(odd.contains("&#60;script&#62;&#34;") && !odd.contains("<script>"));
    let wrong = read(&format!("{}/events?sort=size", PRODUCT.1));
    assert!(
        wrong.status == 400 && wrong.body.contains("“size” is not a sort order"),
        "{}",
        wrong.body
    );
}

#[test]
fn an_event_is_shown_over_time_and_its_file_says_the_same() {
    for (query, grain, rows) in [
        ("", Grain::Day, 30),
        ("?last=90", Grain::Day, 90),
        ("?by=week", Grain::WEEK, 26),
        ("?by=month", Grain::Month, 12),
        ("?by=month&last=1", Grain::Month, 1),
    ] {
        let page = page(&format!("/events/active{query}"));
        let shown = cells(&page);
        // What lies before the first mark is neither shown nor on file.
        let recorded = running(grain)
            .since(Period::day(2026, 10, 15).unwrap().within(grain))
            .unwrap()
            + 1;
        let recorded = usize::try_from(recorded).unwrap().min(rows);
        assert_eq!(shown.len(), recorded, "{query}");
        assert_eq!(
            page.contains("Recorded since the first mark on Thu 15 Oct 2026"),
            recorded < rows,
            "{query}"
        );
        assert_eq!(
            page.matches("<g class=\"hits\"").count(),
            6,
            "people and lifecycle, large and small, stickiness and frequency"
        );
        let href = page
            .split("href=\"/events/active.csv")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_eq!(href.replace("&#38;", "&"), query);
        let file = read(&format!("{}/events/active.csv{query}", PRODUCT.1));
        let disposition = file.header("content-disposition");
        assert!(
            disposition.starts_with(&format!("attachment; filename=\"active_by_{grain}_20")),
            "{disposition}"
        );
        let mut csv = csv::Reader::from_reader(file.body.as_bytes());
        let records: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), recorded, "{query}");
        let head = "period_start,period_end,people,state,change,mean_day,stickiness";
        assert_eq!(file.body.lines().next(), Some(head));
        assert_eq!(shown[0].len(), if grain == Grain::Day { 3 } else { 5 });
        for (i, (record, row)) in records.iter().rev().zip(&shown).enumerate() {
            let period = running(grain).shift(-i64::try_from(i).unwrap()).unwrap();
            assert_eq!(row[0], period.label());
            let people = count("active", period);
            let state = if i == 0 { "in_progress" } else { "complete" };
            let (start, end) = (
                period.start().date_naive().to_string(),
                period.end().date_naive().to_string(),
            );
            let facts: Vec<&str> = record.iter().take(4).collect();
            assert_eq!(facts, [&*start, &*end, &*people.to_string(), state]);
            // Every column of the page, from the unrounded numbers of the file.
            let number = |column: usize| record[column].parse::<f64>().ok();
            let change = number(4)
                .map(cohortist::render::words::change)
                .unwrap_or_default();
            assert_eq!(row[2], change, "{query} {record:?}");
            if grain == Grain::Day {
                assert_eq!((&record[5], &record[6]), ("", ""));
            } else {
                let star = if i == 0 { "*" } else { "" };
                let mean = number(5)
                    .map(|mean| words::mean(Daily { mean, days: 1 }) + star)
                    .unwrap_or_default();
                let sticky = number(6)
                    .map(|rate| words::percent(rate) + star)
                    .unwrap_or_default();
                assert_eq!((&row[3], &row[4]), (&mean, &sticky), "{query} {record:?}");
            }
            assert_eq!(
                row[1].replace(',', ""),
                format!("{people}{}", if i == 0 { "*" } else { "" })
            );
            assert!(
                i > 0 || row[2].is_empty(),
                "a running period is compared with nothing: {row:?}"
            );
        }
    }
    let page = page("/events/active");
    let [day, earlier] =
        [-1, -8].map(|back| count("active", running(Grain::Day).shift(back).unwrap()) as f64);
    let change = cohortist::render::words::change(day / earlier - 1.0);
    assert_eq!(cells(&page)[1][2], change);
    assert!(
        text(&page).contains(&format!("{change} on the Sunday before")),
        "{page}"
    );
    assert!(
        page.contains("href=\"/retention?cohort=active&#38;returning=active&#38;by=day\""),
        "{page}"
    );
    for report in [
        "/lifecycle?event=active&#38;by=week&#38;rows=12",
        "/frequency?event=active",
    ] {
        assert!(page.contains(&format!("href=\"{report}\"")), "{page}");
        let address = format!("{}{}", PRODUCT.1, report.replace("&#38;", "&"));
        assert_eq!(read(&address).status, 200, "{address}");
    }
    assert!(page.contains("first seen 15 Oct 2026") && page.contains("last seen today"));
    for wrong in ["by=hour", "last=0", "last=401", "last=x"] {
        let got = read(&format!("{}/events/active?{wrong}", PRODUCT.1));
        assert!(
            got.status == 400 && got.body.contains("1 to 400") | got.body.contains("by=day"),
            "{wrong}: {}",
            got.body
        );
        assert!(
            !got.body.contains("href=\"/retention?"),
            "no form mends this"
        );
    }
}

#[test]
fn the_stickiness_chart_has_its_numbers_as_a_table() {
    // By day as by month the chart is of months, by week of weeks; the tables of those pages say
    // the same.
    for (query, of) in [
        ("", "?by=month"),
        ("?by=month", "?by=month"),
        ("?by=week", "?by=week"),
    ] {
        let page = page(&format!("/events/active{query}"));
        let twin = page
            .split("<div class=\"sr\"><table>")
            .nth(1)
            .unwrap()
            .split("</table>")
            .next()
            .unwrap();
        assert!(twin.starts_with("<caption>Stickiness by "), "{twin}");
        let rows: Vec<Vec<String>> = twin
            .split("<tr>")
            .skip(2)
            .map(|row| {
                row.replace("<td>", "<th>")
                    .split("<th>")
                    .skip(1)
                    .map(str::to_owned)
                    .collect()
            })
            .collect();
        let shown = cells(&self::page(&format!("/events/active{of}")));
        // From the first one that has any, the running one always.
        let drawn: Vec<&Vec<String>> = shown
            .iter()
            .enumerate()
            .filter(|(i, row)| *i == 0 || !row[4].is_empty())
            .map(|(_, row)| row)
            .collect();
        assert!(
            !drawn.is_empty() && rows.len() == drawn.len(),
            "{query}: {rows:?} and {shown:?}"
        );
        for (row, line) in rows.iter().zip(drawn) {
            let plain = |text: &String| text.replace('*', "");
            let state = if line[1].ends_with('*') {
                "in progress"
            } else {
                "complete"
            };
            let wanted = [
                plain(&line[0]),
                plain(&line[3]),
                plain(&line[1]),
                plain(&line[4]),
                state.to_owned(),
            ];
            let blank = |text: &String| match text.as_str() {
                "none" | "no complete day yet" => String::new(),
                text => text.to_owned(),
            };
            assert_eq!(row.iter().map(blank).collect::<Vec<_>>(), wanted, "{query}");
        }
    }
}

#[test]
fn stickiness_is_the_mean_complete_day_over_the_period() {
    let week = running(Grain::WEEK).shift(-1).unwrap();
    let days: Vec<u64> = week
        .split(Grain::Day)
        .map(|day| count("active", day))
        .collect();
    let mean = days.iter().sum::<u64>() as f64 / 7.0;
    let expected = format!("{:.1}%", mean / count("active", week) as f64 * 100.0);
    let rows = cells(&page("/events/active?by=week"));
    assert_eq!(
        (rows[1][3].as_str(), rows[1][4].as_str()),
        (&*format!("{mean:.0}"), &*expected)
    );
    assert!(text(&page("/events/active")).contains(&format!("day ÷ week {expected}, last week")));
    // October was recorded from the 15th on; November's day is as of now.
    let rows = cells(&page("/events/active?by=month"));
    assert!(
        rows[1][3..5].iter().all(String::is_empty) && rows[0][4].ends_with("%*"),
        "{rows:?}"
    );
    assert!(page("/events/active").contains("needs a fully recorded month"));
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
        if path.ends_with(".csv") {
            assert_eq!(
                got.body,
                "there is no event “actve”; did you mean active?\n"
            );
            continue;
        }
        assert!(
            got.body.contains("No such event") && got.body.contains(&format!("for “{name}")),
            "{path}"
        );
        assert_eq!(
            got.body.contains("<a href=\"/events/active\">active</a>"),
            similar,
            "{path}"
        );
    }
    assert_eq!(read(&format!("{}/events/a.json", PRODUCT.1)).status, 404);
}

#[test]
fn an_event_without_dates_says_so() {
    let page = page("/events/plan:pro");
    assert!(
        page.contains("Recorded without dates") && page.contains("<code>plan:pro@ever</code>"),
        "{page}"
    );
    let pro = PRODUCT.0.count(&Set::ever(&name("plan:pro"))).unwrap();
    assert!(page.contains(&format!(
        "{} people marked ever",
        cohortist::render::thousands(pro)
    )));
    assert_eq!(
        read(&format!("{}/events/plan:pro.csv", PRODUCT.1))
            .body
            .lines()
            .count(),
        2
    );
}

fn offered(base: &str, query: &str) -> serde_json::Value {
    let got = read(&format!("{base}/autocomplete.json{query}"));
    assert_eq!(
        (got.status, got.header("content-type")),
        (200, "application/json"),
        "{query}"
    );
    serde_json::from_str(&got.body).unwrap()
}

#[test]
fn fields_are_offered_the_events_with_the_people_of_today() {
    let all = offered(&PRODUCT.1, "");
    assert_eq!(
        (all["as_of"].as_str(), all["zone"].as_str()),
        (Some("2026-11-23T19:04:00Z"), Some("UTC"))
    );
    let events = all["events"].as_array().unwrap();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["active", "web", "signup", "plan:pro"],
        "by today's people, those without dates last"
    );
    for event in &events[..3] {
        let today = count(event["name"].as_str().unwrap(), running(Grain::Day));
        assert_eq!(
            (event["today"].as_u64(), &event["text"]),
            (Some(today), &event["name"])
        );
        assert!(
            today > 0 && event.get("label").is_none() && event.get("group").is_none(),
            "{event}"
        );
    }
    assert_eq!(
        events[3],
        serde_json::json!({ "name": "plan:pro", "text": "plan:pro@ever", "today": null })
    );
    let found = offered(&PRODUCT.1, "?q=+WE+b");
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
    assert_eq!(found["events"][0]["name"], "web");
    assert_eq!(
        offered(&PRODUCT.1, "?q=sginup")["events"],
        serde_json::json!([])
    );
    assert_eq!(
        offered(&format!("http://{}", serve(empty())), "")["events"],
        serde_json::json!([])
    );
}

#[test]
fn what_is_offered_can_be_written_into_a_segment() {
    let tracker = empty();
    let names = ["\"q\"", "a b", "a|b", "back\\slash", "<b>", "z@ever", "🎉"];
    for event in names {
        tracker
            .mark(&name(event), 1, now() - TimeDelta::days(1))
            .unwrap();
    }
    tracker
        .batch()
        .mark_ever(&name("only (once)"), 1)
        .commit()
        .unwrap();
    let all = offered(&format!("http://{}", serve(tracker)), "");
    let events = all["events"].as_array().unwrap();
    assert_eq!(events.len(), names.len() + 1);
    for event in events {
        let segment: Segment = event["text"].as_str().unwrap().parse().unwrap();
        let named = name(event["name"].as_str().unwrap());
        if named.as_str() == "only (once)" {
            assert_eq!(
                (segment, event["today"].as_u64()),
                (Segment::Ever(named), None)
            );
        } else {
            assert_eq!(
                (segment, event["today"].as_u64()),
                (Segment::Event(named), Some(0))
            );
        }
    }
}

#[test]
fn no_events_and_no_store_are_said_clearly() {
    let base = format!("http://{}", serve(empty()));
    let page = read(&format!("{base}/events"));
    assert!(
        page.status == 200
            && page.body.contains("Nothing recorded yet")
            && page.body.contains("cohortist demo")
    );
    assert!(
        page.body.contains("aria-current=\"page\">Events")
            && !page.body.contains("aria-current=\"page\">Retention")
    );
    let base = format!("http://{}", serve(Tracker::new(Arc::new(Away))));
    for path in ["/events", "/events/active", "/events/active.csv"] {
        let page = read(&format!("{base}{path}"));
        assert_eq!(
            (page.status, page.header("retry-after")),
            (503, "2"),
            "{path}"
        );
        let said = if path.ends_with(".csv") {
            "refused"
        } else {
            "The store does not answer"
        };
        assert!(page.body.contains(said), "{path}: {}", page.body);
    }
    let json = read(&format!("{base}/autocomplete.json"));
    assert!(
        json.status == 503 && json.body.contains("\"status\":503"),
        "{}",
        json.body
    );
}

#[test]
fn an_empty_store_is_filled_by_the_commands_its_page_shows() {
    let shop = Shop::new();
    shop.write("events.csv", "user,event,time\n123,signup,2026-11-23\n");
    let path = |name: &str| {
        shop.path(name)
            .canonicalize()
            .unwrap_or(shop.path(name))
            .display()
            .to_string()
    };
    for (options, name, shown) in [
        (&[][..], "cohortist.db", ""),
        (&["--store", "./our own.db"], "our own.db", ""),
        (
            &["--store", "./it.db", "--prefix", "it's_"],
            "it.db",
            r" --prefix 'it'\''s_'",
        ),
    ] {
        let serve = [options, &["serve", "--listen", "127.0.0.1:0"]].concat();
        let (server, said) = Serving::saying(&shop, &serve, "store: ");
        let store = path(name);
        assert_eq!(said, format!("{store}, created"));
        let page = server.get("/events").replace("&#39;", "'");
        let quoted = if store.contains(' ') {
            format!("'{store}'")
        } else {
            store.clone()
        };
        let command = format!("cohortist --store {quoted}{shown} import events.csv");
        assert!(
            page.contains(&format!("<pre>{command}</pre>")),
            "{command} in {page}"
        );
        assert!(
            page.contains(&format!(
                "<code>{store}</code>, was created when this server started"
            )),
            "{page}"
        );
        assert!(
            page.contains(" it with Ctrl-C") && !page.contains("reload"),
            "{page}"
        );
        drop(server);
        // As a shell reads it.
        let program = env!("CARGO_BIN_EXE_cohortist");
        let line = command.replacen("cohortist ", &format!("{program} "), 1);
        let ran = std::process::Command::new("sh")
            .args(["-c", &line])
            .current_dir(shop.path("."))
            .status()
            .unwrap();
        assert!(ran.success(), "{line}");
        let (server, said) = Serving::saying(&shop, &serve, "store: ");
        assert_eq!(said, format!("{store}, opened"));
        assert!(server.get("/events").contains(">signup</a>"));
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
                batch
                    .mark(&event, user * 40_000, now() - TimeDelta::days(day))
                    .unwrap();
            }
        }
    }
    batch.commit().unwrap();
    let base = format!("http://{}", serve(tracker));
    let page = read(&format!("{base}/events")).body;
    assert_eq!(cells(&page).len(), 200);
    assert!(page.len() < 250_000, "{} bytes", page.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_fit_a_desk_and_a_hand() {
    let base = tokio::task::spawn_blocking(|| {
        let tracker = empty();
        let mut batch = tracker.batch();
        for (event, day) in (0..30).flat_map(|event| (0..40).map(move |day| (event, day))) {
            batch
                .mark(
                    &name(&format!("event:number-{event}")),
                    1,
                    now() - TimeDelta::days(day),
                )
                .unwrap();
        }
        batch.commit().unwrap();
        format!("http://{}", serve(tracker))
    })
    .await
    .unwrap();
    let browser = Browser::start().await;
    browser.driver.goto(format!("{base}/events")).await.unwrap();
    browser.size(1320, 700).await;
    // The page alone scrolls, and the head of the table stays.
    let stays = "scrollTo(0, 500); const box = document.querySelector('.gridwrap');
        return [scrollY, document.querySelector('thead th').getBoundingClientRect().top,
            box.scrollHeight - box.clientHeight, document.documentElement.scrollWidth - innerWidth <= 0]";
    assert_eq!(
        browser.js(stays).await,
        serde_json::json!([500, 0, 0, true])
    );
    // In the hand what is complete comes first: yesterday and last week, without a push.
    browser.size(400, 900).await;
    let seen = "const edge = document.querySelector('.gridwrap').getBoundingClientRect().right;
        return [...document.querySelectorAll('thead th')].filter((th) => th.getBoundingClientRect().right <= edge)
            .map((th) => th.textContent)";
    assert_eq!(
        browser.js(seen).await,
        serde_json::json!(["Event", "Yesterday", "Last week", "Last month"])
    );
    browser
        .driver
        .goto(format!("{base}/events/event:number-1"))
        .await
        .unwrap();
    let charts = "return [...document.querySelectorAll('figure svg')].filter((svg) => svg.checkVisibility()).map((svg) => {
        const box = svg.getBoundingClientRect(), text = svg.querySelector('.ticks text');
        return [Math.round(box.height), Math.round(parseFloat(getComputedStyle(text).fontSize) * box.width / svg.viewBox.baseVal.width)] })";
    let charts = browser.js(charts).await;
    assert!(
        charts.as_array().unwrap().len() == 4
            && charts
                .as_array()
                .unwrap()
                .iter()
                .all(|chart| chart[1] == 12),
        "{charts}"
    );
    assert!(charts[0][1].as_u64().unwrap() >= 11, "{charts}");
    browser.end().await;
}

type Deed = (usize, u32, i64);
const EVENTS: [&str; 3] = ["a", "b", "song:played"];

/// Marks of a few events in the last 100 days, and some in the future.
fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    prop::collection::vec((0..EVENTS.len(), 0_u32..40, -3_i64..100), 0..150)
}

/// The plain answer: the users whose deeds fall into the period.
fn plain(deeds: &[Deed], event: usize, period: Period, now: DateTime<Utc>) -> u64 {
    let inside =
        |back: i64| (period.start()..period.end()).contains(&(now - TimeDelta::days(back)));
    let users: BTreeSet<u32> = deeds
        .iter()
        .filter(|(e, _, back)| *e == event && inside(*back))
        .map(|(_, user, _)| *user)
        .collect();
    users.len() as u64
}

/// What is recorded of some deeds.
fn recorded(deeds: &[Deed], now: DateTime<Utc>) -> Tracker {
    let tracker = empty();
    let mut batch = tracker.batch();
    for (event, user, back) in deeds {
        batch
            .mark(&name(EVENTS[*event]), *user, now - TimeDelta::days(*back))
            .unwrap();
    }
    batch.commit().unwrap();
    tracker
}

fn ask(
    tracker: &Tracker,
    grain: Grain,
    count: u32,
    coverage: &Coverage,
) -> (Overview, Vec<Activity>) {
    let catalogue = Arc::new(Catalogue::new(tracker.keys("").unwrap()));
    let context = Context {
        coverage,
        catalogue: &catalogue,
        segments: &Segments::default(),
        labels: &Labels::new(),
        hidden: &[],
    };
    let count_plan = |plan: &Plan| {
        let counted = tracker.counted(plan, Freshness::Checked).unwrap();
        counted.counts.as_slice().to_vec()
    };
    let overview = answer_with(&Events::default(), &context, count_plan).unwrap();
    let trend = |event: &&str| {
        let trend = Trend {
            segment: Segment::event(&name(event)),
            grain,
            count,
            zone: cohortist::calendar::Zone::UTC,
        };
        answer_with(&trend, &context, count_plan).unwrap()
    };
    (overview, EVENTS.iter().map(trend).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reports_agree_with_plain_sets(
        deeds in deeds(),
        grain in prop::sample::select(vec![Grain::Day, Grain::WEEK, Grain::Month]),
        count in 1_u32..40,
        hours in 0_i64..24 * 40,
    ) {
        let now = now() - TimeDelta::hours(hours);
        // A store that has recorded everything up to now: nothing at all is a true zero.
        let (overview, activities) = ask(&recorded(&deeds, now), grain, count, &Coverage::whole(now).unwrap());
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
                prop_assert_eq!(*people, Some(plain(&deeds, event, day, now)));
            }
            for (recent, grain, back) in
                [(entry.day, Grain::Day, 8), (entry.week, Grain::WEEK, 2), (entry.month, Grain::Month, 2)]
            {
                let [current, last, before] = [0, 1, back].map(|by| running(grain).shift(-by).unwrap());
                prop_assert_eq!(recent.current, Some(plain(&deeds, event, current, now)));
                prop_assert_eq!(recent.last, Some(plain(&deeds, event, last, now)));
                prop_assert_eq!(recent.before, Some(plain(&deeds, event, before, now)));
                prop_assert!(!recent.known || first_of(event).is_none_or(|first| first.start() <= before.start()));
            }
            // An event of the near future alone has weeks and months that have begun.
            if let Some(first) = first_of(event) {
                prop_assert_eq!(entry.span.unwrap().first, first);
            }
        }
        for (event, activity) in activities.iter().enumerate() {
            prop_assert_eq!(activity.points.len(), usize::try_from(count).unwrap());
            let silent = activity.points.len() - activity.recorded().len();
            prop_assert!(silent < activity.points.len());
            prop_assert!(activity.points[..silent].iter().all(|point| point.people == 0 && point.change.is_none()));
            if let Some(first) = first_of(event) {
                let begun = activity.recorded()[0].period;
                prop_assert!(silent == 0 || (begun.start()..begun.end()).contains(&first.start()));
            }
            for point in &activity.points {
                prop_assert_eq!(point.people, plain(&deeds, event, point.period, now));
                prop_assert_eq!(point.state == State::InProgress, point.period == running(grain));
                let before = point.period.shift(if grain == Grain::Day { -7 } else { -1 }).unwrap();
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

    /// The same in stores whose data may end before now, with days that were deleted: what is not
    /// recorded is no zero, and what is recorded is as before.
    #[test]
    fn what_is_not_recorded_is_no_zero(
        deeds in deeds(),
        grain in prop::sample::select(vec![Grain::Day, Grain::WEEK, Grain::Month]),
        count in 1_u32..40,
        later in 0_i64..60,
        kept in prop::option::of(1_i64..60),
    ) {
        let (then, now) = (now(), now() + TimeDelta::days(later));
        // The month of a mark in the future has begun, and would say that the store goes on.
        let deeds: Vec<Deed> = deeds.into_iter().filter(|(_, _, back)| *back >= 0).collect();
        let tracker = recorded(&deeds, then);
        let day_of = |back: i64| Period::containing(Grain::Day, then - TimeDelta::days(back)).unwrap();
        if let Some(kept) = kept {
            let mut keys = tracker.keys("").unwrap();
            keys.retain(|key| matches!(key.when(), When::In(p) if p.grain() == Grain::Day && p < day_of(kept)));
            tracker.delete_keys(&keys).unwrap();
        }
        let coverage = tracker.coverage(now, false).unwrap();
        // The plain model: the days with a mark, of those that have begun.
        let today = Period::containing(Grain::Day, now).unwrap();
        let marked: BTreeSet<Period> = deeds.iter().map(|(_, _, back)| day_of(*back)).filter(|day| *day <= today).collect();
        let days: BTreeSet<Period> = marked.iter().copied().filter(|day| kept.is_none_or(|kept| *day >= day_of(kept))).collect();
        let (Some(first), Some(newest)) = (marked.first(), marked.last()) else { return Ok(()) };
        // Without days, the weeks and months say less: that is the coverage's own test.
        let Some(first_day) = days.first().filter(|_| days.last() == Some(newest)) else { return Ok(()) };
        let live = *newest >= today.previous().unwrap();
        let end = if live { today } else { *newest };
        let is_recorded = |period: Period| {
            let first = if period.grain() == Grain::Day { *first_day } else { first.within(period.grain()) };
            first <= period && period <= end.within(period.grain())
        };
        let (overview, activities) = ask(&tracker, grain, count, &coverage);
        prop_assert_eq!(overview.data_ends, (!live).then_some(end));
        for entry in &overview.entries {
            let event = EVENTS.iter().position(|e| *e == entry.event.as_str()).unwrap();
            let number = |period: Period| is_recorded(period).then(|| plain(&deeds, event, period, then));
            for (back, people) in entry.days.iter().rev().enumerate() {
                prop_assert_eq!(*people, number(end.shift(-i64::try_from(back).unwrap()).unwrap()));
            }
            for (recent, grain, back) in
                [(entry.day, Grain::Day, 8), (entry.week, Grain::WEEK, 2), (entry.month, Grain::Month, 2)]
            {
                let [current, last, before] = [0, 1, back].map(|by| number(end.within(grain).shift(-by).unwrap()));
                prop_assert_eq!((recent.current, recent.last, recent.before), (current, last, before));
                prop_assert!(recent.change().is_none() || (last.is_some() && before.is_some_and(|before| before > 0)));
            }
        }
        for (event, activity) in activities.iter().enumerate() {
            prop_assert_eq!(activity.points.last().unwrap().period, end.within(grain));
            for point in &activity.points {
                let state = match point.period {
                    period if !is_recorded(period) => State::NotRecorded,
                    period if period == end.within(grain) => State::InProgress,
                    _ => State::Complete,
                };
                let people = if state == State::NotRecorded { 0 } else { plain(&deeds, event, point.period, then) };
                prop_assert_eq!((point.state, point.people), (state, people), "{}", point.period);
                prop_assert!(point.change.is_none() || state == State::Complete);
            }
        }
    }
}
