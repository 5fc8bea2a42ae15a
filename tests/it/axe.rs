//! Every page and state against the rules of axe-core, in a real Chromium: both themes, wide and
//! narrow.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::server::{Dashboard, NamedStore, Pattern};
use cohortist::sets::Segments;
use serde_json::Value;
use thirtyfour::prelude::*;

use crate::http::Away;
use crate::support::browser::Browser;
use crate::support::web::{empty, name, now, product, serve, serve_dashboard};

const INSTALL: &str = "axe-core is not installed: npm ci --prefix tests/axe";

/// Asks axe-core about the page as it stands. What a theme changes is colours alone.
fn question(rules: &str) -> String {
    let run = match rules {
        "all" => "rules: { 'target-size': { enabled: true } }".to_owned(),
        rule => format!("runOnly: ['{rule}']"),
    };
    // What fades from one theme's colours to the other's is looked at once it is there.
    format!(
        "document.getAnimations().forEach((animation) => animation.finish()); return axe.run(document, {{ resultTypes: ['violations'], {run} }}).then((found) => ({{
            passes: found.passes.length,
            violations: found.violations.map((v) => ({{
                rule: v.id, impact: v.impact, help: v.help,
                nodes: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + '   ' + n.any.map((a) => a.message).join('; ')),
                count: v.nodes.length }})) }}))"
    )
}

/// The violations in words, the grave ones apart.
fn told(place: &str, found: &Value) -> (String, String) {
    let (mut grave, mut slight) = (String::new(), String::new());
    for violation in found["violations"].as_array().unwrap() {
        let impact = violation["impact"].as_str().unwrap_or("unknown");
        let text = if matches!(impact, "serious" | "critical") {
            &mut grave
        } else {
            &mut slight
        };
        let (rule, help, count) = (&violation["rule"], &violation["help"], &violation["count"]);
        writeln!(text, "{place}: {impact} {rule}: {help} ({count} times)").unwrap();
        for node in violation["nodes"].as_array().unwrap() {
            writeln!(text, "    {}", node.as_str().unwrap()).unwrap();
        }
    }
    (grave, slight)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_shuts_anybody_out() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/axe/node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}; {INSTALL}", file.display()));
    let [full, blank, away] = tokio::task::spawn_blocking(|| {
        let tracker = product(20, 40);
        tracker.mark(&name("<b> & \"co\""), 1, now()).unwrap();
        let saved = Segments::new([(name("regulars"), "active & web".parse().unwrap())]).unwrap();
        let mut dashboard = Dashboard::new(tracker.with_segments(saved), Clock::Fixed(now()));
        dashboard.glossary.labels = [(name("active"), "Are active".to_owned())].into();
        dashboard.glossary.groups = vec![("Doing".to_owned(), vec![Pattern::new("active")])];
        let other = NamedStore {
            name: "other".to_owned(),
            tracker: empty(),
            read_only: true,
        };
        dashboard.stores.push(other);
        let full = format!("http://{}", serve_dashboard(dashboard));
        let [blank, away] = [empty(), Tracker::new(Arc::new(Away))]
            .map(|tracker| format!("http://{}", serve(tracker)));
        [full, blank, away]
    })
    .await
    .unwrap();
    let question_of = "cohort=signup&returning=active&by=day&rows=6&cols=5";
    let retention = |more: &str| format!("{full}/retention?{question_of}{more}");
    let pages = [
        ("retention", retention("")),
        (
            "retention with counts and a filter",
            retention("&as=count&returning_and=web"),
        ),
        (
            "retention by week",
            format!("{full}/retention?cohort=signup&returning=active&by=week&rows=5"),
        ),
        ("retention on or after", retention("&measure=on_or_after")),
        (
            "retention with a trend",
            retention("&trend=1&order=oldest&scale=fitted"),
        ),
        (
            "retention of a saved segment",
            format!("{full}/retention?cohort=signup&returning=regulars&by=day&rows=4"),
        ),
        ("retention with names offered", retention("#offered")),
        (
            "retention with its choices unfolded",
            retention("#unfolded"),
        ),
        (
            "retention without an answer",
            format!("{full}/retention?cohort=nothing&returning=actve&by=day&rows=3"),
        ),
        (
            "retention, wrong",
            format!("{full}/retention?cohort=(&returning=&rows=x&from=2026-02-31"),
        ),
        ("welcome", format!("{blank}/retention")),
        ("events, none", format!("{blank}/events")),
        ("people, nothing recorded", format!("{blank}/people")),
        ("events", format!("{full}/events")),
        (
            "events, searched",
            format!("{full}/events?q=sign&sort=name"),
        ),
        ("events, none found", format!("{full}/events?q=sginup")),
        ("event by day", format!("{full}/events/active")),
        ("event by month", format!("{full}/events/active?by=month")),
        ("event without dates", format!("{full}/events/plan:pro")),
        ("event unknown", format!("{full}/events/actve")),
        ("no such page", format!("{full}/nowhere")),
        ("people", format!("{full}/people")),
        (
            "people in a set",
            format!("{full}/people?set=active@2026-11"),
        ),
        (
            "people of a cell",
            format!("{full}/people?{question_of}&at=2026-11-20&k=2&who=lost"),
        ),
        (
            "people, about to be saved",
            format!("{full}/people?set=active@2026-11-20#save"),
        ),
        (
            "people, not saved",
            format!("{full}/people?set=active@2026-11-20#refused"),
        ),
        (
            "people just saved",
            format!("{full}/people?set=plan:pro@ever&saved=1"),
        ),
        ("people, wrong", format!("{full}/people?set=(active")),
        (
            "people of no cell",
            format!("{full}/people?{question_of}&at=2026-11-20&k=99"),
        ),
        ("user, none asked", format!("{full}/users")),
        ("user", format!("{full}/users/7")),
        ("user unknown", format!("{full}/users/4000000000")),
        ("user, wrong", format!("{full}/users/seven")),
        ("store away", format!("{away}/retention?{question_of}")),
    ];
    let browser = Browser::start().await;
    let (mut grave, mut slight) = (String::new(), String::new());
    for (page, url) in &pages {
        browser.driver.goto(url).await.unwrap();
        // States that no address has.
        match url.split_once('#').map(|(_, state)| state) {
            Some("offered") => {
                browser
                    .js("cohort.value = ''; cohort.focus(); cohort.click()")
                    .await;
                browser
                    .driver
                    .query(By::Css(".offers li"))
                    .first()
                    .await
                    .unwrap();
            }
            Some("unfolded") => browser.edit().await,
            Some("save") => drop(
                browser
                    .js("document.querySelector('.save').open = true")
                    .await,
            ),
            Some("refused") => {
                let script = "document.querySelector('.save input').value = 'signup'; document.querySelector('.save form').submit()";
                browser.js(script).await;
                browser
                    .driver
                    .query(By::Id("wrong-name"))
                    .first()
                    .await
                    .unwrap();
            }
            _ => {}
        }
        browser.js(&axe).await;
        for (theme, width, rules) in [
            ("light", 1320, "all"),
            ("light", 400, "all"),
            ("dark", 400, "color-contrast"),
            ("dark", 1320, "color-contrast"),
        ] {
            browser.size(width, 1000).await;
            let features = serde_json::json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
            browser.cdp("Emulation.setEmulatedMedia", features).await;
            let found = browser.js(&question(rules)).await;
            assert!(
                found["passes"].as_u64().unwrap() >= if rules == "all" { 15 } else { 1 },
                "{page}: axe looked: {found}"
            );
            let (worse, better) = told(&format!("{page}, {theme}, {width} px"), &found);
            grave += &worse;
            slight += &better;
        }
    }
    eprint!("{slight}");
    assert!(grave.is_empty(), "axe-core found\n{grave}");

    // It can find something.
    browser
        .js("document.querySelector('main').append(document.createElement('img'))")
        .await;
    let (worse, _) = told(
        "an image without a text",
        &browser.js(&question("image-alt")).await,
    );
    assert!(worse.contains("critical \"image-alt\""), "{worse}");
    browser.end().await;
}
