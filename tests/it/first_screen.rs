//! What stands on the first screen of a retention page, without a browser: what its curve and its
//! shades leave out, what is folded, and pictures of charts.

use std::io::Write as _;

use chrono::TimeDelta;
use cohortist::Tracker;
use flate2::Compression;
use flate2::write::GzEncoder;
use roxmltree::Document;
use scraper::{Html, Selector};

use crate::http::{agent, read};
use crate::support::web::{empty, name, now, product, serve};

const QUESTION: &str = "cohort=signup&returning=active&by=day";

/// A tracker in which on each of `days` days this many people sign up, of whom this many are active
/// on the same day, and on each later day.
fn steady(days: i64, people: u32, same_day: u32, later: u32) -> Tracker {
    let tracker = empty();
    let mut batch = tracker.batch();
    for (row, day) in (0..days).rev().enumerate() {
        let first = u32::try_from(row).unwrap() * people;
        let at = now() - TimeDelta::days(day);
        for user in first..first + people {
            batch.mark(&name("signup"), user, at).unwrap();
            if user < first + same_day {
                batch.mark(&name("active"), user, at).unwrap();
            }
        }
        for later_day in 1..=day {
            for user in first..first + later {
                let at = at + TimeDelta::days(later_day);
                batch.mark(&name("active"), user, at).unwrap();
            }
        }
    }
    batch.commit().unwrap();
    tracker
}

fn page(host: &str, query: &str) -> String {
    let got = read(&format!("{host}/retention?{query}"));
    assert_eq!(got.status, 200, "{query}");
    got.body
}

fn texts(html: &str, css: &str) -> Vec<String> {
    let html = Html::parse_document(html);
    let css = Selector::parse(css).unwrap();
    let text = |element: scraper::ElementRef<'_>| {
        let all = element.text().collect::<String>();
        all.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    html.select(&css).map(text).collect()
}

/// The drawing of the wide curve.
fn curve(html: &str) -> String {
    let start = html.find("<svg class=\"chart curve roomy\"").unwrap();
    let end = html[start..].find("</svg>").unwrap();
    format!("{}</svg>", &html[start..start + end])
}

/// The `data-at` of the areas for the pointer, with their texts.
fn hits(svg: &str) -> Vec<(String, String)> {
    let chart = Document::parse(svg).unwrap();
    let areas = chart
        .descendants()
        .filter(|node| node.parent().and_then(|group| group.attribute("class")) == Some("hits"));
    areas
        .map(|area| {
            let title = area.first_element_child().unwrap().text().unwrap();
            (
                area.attribute("data-at").unwrap().to_owned(),
                title.to_owned(),
            )
        })
        .collect()
}

#[test]
fn a_low_column_1_is_drawn_and_shaded_without_column_0() {
    for (later, left_out) in [(10, true), (15, true), (16, false), (30, false)] {
        let host = format!("http://{}", serve(steady(10, 40, 40, later)));
        let html = page(&host, &format!("{QUESTION}&rows=8&cols=6"));
        let svg = curve(&html);
        let first = hits(&svg)[0].0.clone();
        assert_eq!(first, if left_out { "1" } else { "0" }, "{later} of 40");
        let caption = texts(&html, ".charts figcaption")[0].clone();
        assert_eq!(caption.contains("from day 1, day 0 is 100.0%"), left_out);
        // All rates after column 0 are the same; column 0 is above them.
        let fitted = html.contains("class=\"scale fitted\"");
        assert_eq!(fitted, left_out, "{later} of 40");
        let chosen = page(&host, &format!("{QUESTION}&rows=8&cols=6&scale=absolute"));
        assert!(!chosen.contains("class=\"scale fitted\""));
        let chosen = page(&host, &format!("{QUESTION}&rows=8&cols=6&scale=fitted"));
        assert!(chosen.contains("class=\"scale fitted\""));
    }
}

#[test]
fn rates_of_fewer_than_30_people_are_grey_whole_and_without_a_band() {
    for (people, is_few) in [(5, true), (40, false)] {
        let host = format!("http://{}", serve(steady(6, people, people, people / 2)));
        let html = page(&host, &format!("{QUESTION}&rows=6&cols=3&as=percent"));
        let cells = texts(&html, ".cohorts tr[data-at] td.few > a");
        assert_eq!(cells.is_empty(), !is_few, "{cells:?}");
        assert!(cells.iter().all(|text| !text.contains('.')), "{cells:?}");
        let svg = curve(&html);
        let has = |class: &str| svg.contains(&format!("<g class=\"{class}\""));
        assert_eq!((has("dots few"), has("band")), (is_few, !is_few), "{svg}");
        if is_few {
            assert!(svg.contains("stroke-dasharray=\"4 3\""), "{svg}");
        }
        let counts = page(&host, &format!("{QUESTION}&rows=6&cols=3&as=count"));
        assert!(texts(&counts, ".cohorts tr[data-at] td.few").is_empty());
    }
}

#[test]
fn cohorts_without_numbers_fold_into_one_row() {
    let tracker = product(10, 60);
    let host = format!("http://{}", serve(tracker));
    let html = page(&host, &format!("{QUESTION}&rows=30&cols=5"));
    assert_eq!(
        texts(&html, ".cohorts tr.folded"),
        ["25 Oct – 13 Nov 2026: not recorded, 20 days"]
    );
    assert_eq!(texts(&html, ".cohorts tr[data-at]").len(), 10);
    let weeks = page(
        &host,
        "cohort=signup&returning=active&by=week&rows=8&cols=3",
    );
    assert_eq!(
        texts(&weeks, ".cohorts tr.folded"),
        ["5 Oct – 8 Nov 2026: not recorded, 5 weeks"]
    );
    // Nobody in some of the recorded days.
    let tracker = steady(2, 30, 30, 10);
    tracker
        .mark(&name("signup"), 900, now() - TimeDelta::days(9))
        .unwrap();
    let host = format!("http://{}", serve(tracker));
    let html = page(&host, &format!("{QUESTION}&rows=10&cols=3"));
    assert_eq!(
        texts(&html, ".cohorts tr.folded"),
        ["15 – 21 Nov 2026: no people, 7 days"]
    );
    // Reports by period do the same.
    let growth = read(&format!("{host}/lifecycle?event=signup&by=week")).body;
    let folded = texts(&growth, ".cohorts tr.folded th");
    assert!(folded.len() == 1 && folded[0].contains(" – "), "{folded:?}");
}

#[test]
fn an_unknown_event_has_a_notice_and_no_empty_report() {
    let host = format!("http://{}", serve(product(10, 40)));
    for path in [
        "/retention?cohort=signup&returning=actve&by=day",
        "/retention?cohort=sinup&returning=active&by=day",
        "/retention?cohort=sinup&returning=active&by=day&breakdown=plan:*@ever",
        "/lifecycle?event=actve&by=day",
        "/frequency?event=actve",
        "/trends?event=actve",
    ] {
        let html = read(&format!("{host}{path}")).body;
        let notices = texts(&html, ".notice");
        assert!(
            notices
                .iter()
                .any(|text| text.contains("Nothing was ever recorded for")),
            "{path}: {notices:?}"
        );
        for part in [".tiles", ".charts", ".gridcard", ".facts"] {
            assert_eq!(texts(&html, part), [""; 0], "{path}: {part}");
        }
        assert_eq!(texts(&html, "details.edit[open]").len(), 1, "{path}");
    }
    // A part that is unknown leaves an answer.
    let html = page(&host, "cohort=signup&returning=active+%7C+actve&by=day");
    assert_eq!(texts(&html, ".charts").len(), 1);
    assert_eq!(texts(&html, "details.edit[open]").len(), 0);
}

#[test]
fn a_goal_and_the_range_before_are_drawn_where_they_are() {
    let host = format!("http://{}", serve(product(30, 120)));
    let query = format!("{QUESTION}&rows=10&cols=5");
    let svg = |more: &str| read(&format!("{host}/retention.svg?{query}{more}")).body;
    let plain = svg("");
    assert!(!plain.contains("\"goal\"") && !plain.contains("\"previous\""));
    let points = |svg: &str, class: &str| -> Vec<(f64, f64)> {
        let chart = Document::parse(svg).unwrap();
        let group = chart
            .descendants()
            .find(|node| node.attribute("class") == Some(class))
            .unwrap();
        let line = group.first_element_child().unwrap();
        let number = |text: &str| text.parse::<f64>().unwrap();
        let pairs = line.attribute("points").unwrap().split_whitespace();
        let pairs = pairs.map(|pair| pair.split_once(',').unwrap());
        pairs.map(|(x, y)| (number(x), number(y))).collect()
    };
    // The axis goes from 0 to 100 %.
    let height = |rate: f64| 378.0 - rate * (378.0 - 24.0);
    let goal = points(&svg("&goal=40"), "goal");
    assert!(
        goal.iter().all(|(_, y)| (y - height(0.4)).abs() <= 1.0),
        "{goal:?}"
    );
    assert!(svg("&goal=40").contains(">goal 40%</text>"));
    // The range before is the same question from 25 October to 3 November.
    let earlier = read(&format!(
        "{host}/retention.json?{QUESTION}&cols=5&from=2026-11-04&to=2026-11-13"
    ));
    let earlier: serde_json::Value = serde_json::from_str(&earlier.body).unwrap();
    let wanted: Vec<f64> = earlier["average"]
        .as_array()
        .unwrap()
        .iter()
        .map(|average| height(average["rate"].as_f64().unwrap()))
        .collect();
    let drawn = points(&svg("&previous=1"), "previous");
    assert_eq!(drawn.len(), 5);
    for ((_, y), wanted) in drawn.iter().zip(&wanted) {
        assert!((y - wanted).abs() <= 1.0, "{drawn:?} {wanted:?}");
    }
    let html = page(&host, &format!("{query}&goal=40&previous=1"));
    assert!(texts(&html, ".charts figcaption")[0].contains("dashed: the range before"));
    let said = hits(&curve(&html));
    assert!(said[1].1.contains("\n4 – 13 Nov 2026 · "), "{said:?}");
    // What was asked stays in the form, in the files and in the trend.
    assert!(html.contains("name=\"goal\" value=\"40\""));
    assert!(html.contains("retention.png?") && html.contains("goal=40&#38;previous=1"));
    for (wrong, why) in [
        ("goal=101", "`101` is not a whole number from 0 to 100"),
        ("goal=x", "`x` is not a whole number from 0 to 100"),
        ("previous=2", "`2` is none of 0, 1"),
        ("previous=1&breakdown=plan:*@ever", "without groups only"),
        ("previous=1&by=hour", "days and longer periods only"),
    ] {
        let query = format!("cohort=signup&returning=active&{wrong}");
        let got = read(&format!("{host}/retention?{query}"));
        assert_eq!(got.status, 400, "{wrong}");
        let api = read(&format!("{host}/api/v1/retention?{query}"));
        assert!(api.status == 400 && api.body.contains(why), "{}", api.body);
    }
}

#[test]
fn what_is_in_progress_never_stretches_an_axis() {
    // Ten times as many people today.
    let tracker = steady(6, 30, 30, 9);
    let mut batch = tracker.batch();
    for user in 5_000..5_400 {
        batch.mark(&name("signup"), user, now()).unwrap();
        batch.mark(&name("active"), user, now()).unwrap();
    }
    batch.commit().unwrap();
    let host = format!("http://{}", serve(tracker));
    let ticks = |html: &str, class: &str| -> f64 {
        let class = html.find(&format!("class=\"chart {class}")).unwrap();
        let start = html[..class].rfind("<svg").unwrap();
        let end = start + html[start..].find("</svg>").unwrap();
        let chart = format!("{}</svg>", &html[start..end]);
        let chart = Document::parse(&chart).unwrap();
        let rules = chart
            .descendants()
            .filter(|node| node.tag_name().name() == "text" && node.text().is_some());
        let numbers = rules.filter_map(|node| node.text()?.replace(',', "").parse().ok());
        numbers.take(6).fold(0.0, f64::max)
    };
    let html = page(&host, &format!("{QUESTION}&rows=6&cols=3"));
    assert_eq!(ticks(&html, "sizes"), 30.0);
    for (path, class, most) in [
        ("/events/signup", "curve", 30.0),
        ("/trends?event=signup&by=day", "whole", 30.0),
        ("/lifecycle?event=signup&by=day", "whole", 30.0),
    ] {
        let html = read(&format!("{host}{path}")).body;
        assert_eq!(ticks(&html, class), most, "{path}");
    }
}

#[test]
fn charts_are_pictures_too() {
    let host = format!("http://{}", serve(product(20, 60)));
    for path in [
        "/retention.png?cohort=signup&returning=active&by=day",
        "/retention.png?cohort=signup&returning=active&by=day&breakdown=plan:*@ever",
        "/lifecycle.png?event=active&by=day",
        "/frequency.png?event=active",
        "/trends.png?event=active",
    ] {
        let mut got = agent().get(format!("{host}{path}")).call().unwrap();
        assert_eq!(got.status().as_u16(), 200, "{path}");
        assert_eq!(got.headers()["content-type"], "image/png");
        let disposition = got.headers()["content-disposition"].to_str().unwrap();
        assert!(disposition.starts_with("inline") && disposition.contains(".png"));
        let bytes = got.body_mut().read_to_vec().unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{path}");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        // The size of its SVG, which has two units for a pixel of a page.
        let svg = read(&format!("{host}{}", path.replace(".png", ".svg"))).body;
        let size = format!("viewBox=\"0 0 {} {}\"", number(16), number(20));
        assert!(svg.contains(&size), "{path}: {size}");
        assert!(svg.contains("font-weight=\"700\"") && number(16) == 1_588);
    }
    assert_eq!(
        read(&format!("{host}/people.png?set=active@2026-11")).status,
        404
    );
}

fn compressed(bytes: &[u8]) -> usize {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap().len()
}

#[test]
fn pages_and_the_script_are_light() {
    let host = format!("http://{}", serve(product(60, 200)));
    for path in [
        "/retention?cohort=signup&returning=active&by=day&rows=31&cols=13",
        "/retention?cohort=signup&returning=active&by=day&rows=31&cols=13&trend=2&goal=40&previous=1",
        "/retention?cohort=signup&returning=active&by=week",
        "/lifecycle?event=active",
        "/frequency?event=active",
        "/trends?event=active",
    ] {
        let page = read(&format!("{host}{path}")).body;
        let bytes = compressed(page.as_bytes());
        assert!(bytes < 25_000, "{path}: {bytes}");
    }
    let script = include_bytes!("../../static/app.js");
    assert!(compressed(script) < 25_000, "{}", compressed(script));
}
