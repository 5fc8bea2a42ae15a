//! What people do with the dashboard, from end to end in a real Chromium: once without any script,
//! once with.

use std::collections::BTreeMap;

use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::server::{Dashboard, NamedStore};
use thirtyfour::prelude::*;

use crate::http::read;
use crate::support::browser::Browser;
use crate::support::web::{empty, name, now, product, serve, serve_dashboard};

impl Browser {
    /// Clicks and waits until another page stands there.
    async fn follow(&self, by: By) {
        let before = self.driver.find(By::Tag("html")).await.unwrap();
        self.driver.find(by).await.unwrap().click().await.unwrap();
        for _ in 0..400 {
            if before.tag_name().await.is_err()
                && self.driver.find(By::Css("footer.foot")).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!(
            "no other page came: {}",
            self.driver.current_url().await.unwrap()
        );
    }

    async fn here(&self) -> String {
        let url = self.driver.current_url().await.unwrap();
        url.as_str()
            .split_once(url.authority())
            .unwrap()
            .1
            .to_owned()
    }

    /// Types into a field, which is unfolded first.
    async fn fill(&self, css: &str, text: &str) {
        self.edit().await;
        let field = self.driver.find(By::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// What a screen reader calls an element.
    async fn label(&self, element: &WebElement) -> String {
        let handle = &self.driver.handle;
        let (server, session) = (
            handle.server_url().to_string(),
            handle.session_id().to_string(),
        );
        let url = format!(
            "{server}session/{session}/element/{}/computedlabel",
            element.element_id()
        );
        let body = tokio::task::spawn_blocking(move || {
            ureq::get(&url)
                .call()
                .unwrap()
                .body_mut()
                .read_to_string()
                .unwrap()
        });
        let answer: serde_json::Value = serde_json::from_str(&body.await.unwrap()).unwrap();
        answer["value"].as_str().unwrap().to_owned()
    }

    /// The heading, as it is seen.
    async fn heading(&self) -> String {
        self.text("h1").await
    }
}

/// Two stores, so that there is something to switch.
async fn two_stores() -> (Tracker, String) {
    let made = tokio::task::spawn_blocking(|| {
        let (tracker, other) = (product(40, 120), empty());
        other.mark(&name("signup"), 1, now()).unwrap();
        let mut dashboard = Dashboard::new(tracker.clone(), Clock::Fixed(now()));
        dashboard.stores[0].name = "shop".to_owned();
        dashboard.stores.push(NamedStore {
            name: "other".to_owned(),
            tracker: other,
            read_only: true,
        });
        (tracker, format!("http://{}", serve_dashboard(dashboard)))
    });
    made.await.unwrap()
}

const GO: &str = "form.ask button.go";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_without_a_script() {
    let (tracker, host) = two_stores().await;
    let browser = Browser::start().await;
    let driver = &browser.driver;
    browser
        .cdp(
            "Emulation.setScriptExecutionDisabled",
            serde_json::json!({ "value": true }),
        )
        .await;
    driver.goto(format!("{host}/")).await.unwrap();
    // No script ran: the names are offered by the browser's own list, and nothing can be copied.
    assert_eq!(
        driver
            .find(By::Id("cohort"))
            .await
            .unwrap()
            .attr("list")
            .await
            .unwrap()
            .as_deref(),
        Some("events")
    );
    assert!(
        !driver
            .find(By::Css("button[data-copy]"))
            .await
            .unwrap()
            .is_displayed()
            .await
            .unwrap()
    );
    assert_eq!(
        browser.heading().await,
        "People who did signup and came back to active"
    );

    // The question: words, filters that come and go, choices.
    browser.fill("#returning", "active & web").await;
    browser.fill("#cohort_and-0", "plan:pro@ever").await;
    driver
        .find(By::Css("input[name=by][value=week]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    driver
        .find(By::Css("input[name=as][value=count]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.follow(By::Css(GO)).await;
    assert_eq!(
        browser.heading().await,
        "People who did signup and plan:pro@ever and came back to active & web"
    );
    assert!(
        browser.here().await.contains("by=week")
            && !browser
                .text(".cohorts td.h0, .cohorts td")
                .await
                .contains('%')
    );
    browser.edit().await;
    browser.follow(By::Css("a.remove")).await;
    assert_eq!(
        browser.heading().await,
        "People who did signup and came back to active & web"
    );

    // Ranges keep what is typed and not sent yet; so does the exchange of both sides.
    browser.fill("#returning", "active").await;
    browser.follow(By::Css("button[value='30d']")).await;
    assert_eq!(
        browser.here().await,
        "/retention?cohort=signup&returning=active&by=day&rows=30&cols=30&as=count"
    );
    browser.edit().await;
    assert_eq!(browser.text("[aria-pressed=true]").await, "30 days");
    assert_eq!(
        driver
            .find_all(By::Css(".cohorts tbody tr"))
            .await
            .unwrap()
            .len(),
        31
    );
    browser.edit().await;
    browser.follow(By::Css("button[name=swap]")).await;
    assert_eq!(
        browser.heading().await,
        "People who did active and came back to signup"
    );
    browser.edit().await;
    browser.follow(By::LinkText("Reset")).await;
    assert_eq!(
        browser.here().await,
        "/retention?cohort=signup&returning=active&by=day"
    );

    // The grid: order, shades, the trend of a column.
    browser.follow(By::LinkText("Oldest")).await;
    assert_eq!(
        browser.text(".cohorts tbody tr:nth-child(2) th").await,
        "Tue 10 Nov 2026"
    );
    browser.follow(By::LinkText("Fitted")).await;
    assert!(browser.text(".legend").await.contains("or more"));
    browser
        .follow(By::Css(".cohorts thead th:nth-child(5) a"))
        .await;
    assert!(
        browser
            .here()
            .await
            .ends_with("order=oldest&scale=fitted&trend=2#trend"),
        "{}",
        browser.here().await
    );
    assert!(
        browser
            .text("#trend figcaption")
            .await
            .starts_with("Came back on day 2, cohort by cohort")
    );
    // They stay when the question is asked again.
    browser.fill("#rows", "10").await;
    browser.follow(By::Css(GO)).await;
    assert!(
        browser.here().await.contains("order=oldest") && driver.find(By::Id("trend")).await.is_ok()
    );
    browser.follow(By::Css("#trend a.remove")).await;
    assert!(driver.find(By::Id("trend")).await.is_err());

    // A number's people, counted; the others; all of them saved, and asked about.
    let cell = By::Css(".cohorts tbody tr:nth-child(3) td:nth-child(5) a");
    let link = driver.find(cell.clone()).await.unwrap();
    let label = browser.label(&link).await;
    let number: usize = label.split(' ').next().unwrap().parse().unwrap();
    assert!(
        label.contains(&format!(", {} (95% ", link.text().await.unwrap())),
        "{label}"
    );
    driver
        .action_chain()
        .move_to_element_center(&link)
        .perform()
        .await
        .unwrap();
    assert_eq!(link.css_value("cursor").await.unwrap(), "pointer");
    browser.picture("tooltip-no-script.png").await;
    let size = browser
        .text(".cohorts tbody tr:nth-child(3) td")
        .await
        .parse::<usize>()
        .unwrap();
    browser.follow(cell).await;
    assert!(
        browser
            .heading()
            .await
            .starts_with(&format!("{number} of the {size} people who did signup"))
    );
    assert_eq!(
        driver.find_all(By::Css(".ids a")).await.unwrap().len(),
        number.min(100)
    );
    assert!(
        browser
            .text(".crowd .words")
            .await
            .contains("% of the cohort (95% ")
    );
    browser
        .follow(By::PartialLinkText("Did not come back"))
        .await;
    let lost = size - number;
    assert_eq!(
        browser.text(".tabs [aria-current] b").await,
        lost.to_string()
    );
    driver
        .find(By::Css(".save summary"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.fill("#name", "lost ones").await;
    browser.follow(By::Css(".save button")).await;
    assert!(
        browser
            .heading()
            .await
            .starts_with(&format!("{lost} people who are lost ones"))
    );
    assert_eq!(
        tracker
            .count(&cohortist::sets::Set::ever(&name("lost ones")))
            .unwrap(),
        lost as u64
    );
    browser.follow(By::LinkText("see how many came back")).await;
    assert_eq!(
        browser.heading().await,
        "People who did signup and \"lost ones\"@ever and came back to active"
    );

    // Long lists turn page by page; any set; a user; the events.
    driver
        .goto(format!("{host}/people?set=active@2026-11"))
        .await
        .unwrap();
    browser.follow(By::PartialLinkText("Next page")).await;
    assert!(
        browser.here().await.contains("&after=")
            && driver.find_all(By::Css(".ids a")).await.unwrap().len() == 100
    );
    let user = browser.text(".ids a").await;
    browser.follow(By::Css(".ids a")).await;
    assert_eq!(browser.heading().await, format!("User {user}"));
    let seek = driver.find(By::Css(".seek input")).await.unwrap();
    seek.send_keys("7").await.unwrap();
    seek.send_keys(Key::Enter.value().to_string())
        .await
        .unwrap();
    driver
        .query(By::XPath("//h1[. = 'User 7']"))
        .first()
        .await
        .unwrap();
    browser.follow(By::LinkText("Events")).await;
    browser.fill("main input[type=search]", "ACT").await;
    browser.follow(By::Css("main .find button")).await;
    assert!(browser.text("table.cohorts tbody").await.contains("active"));
    browser.follow(By::LinkText("active")).await;
    assert!(browser.heading().await.starts_with("active"));
    browser.follow(By::LinkText("other")).await;
    assert_eq!(browser.heading().await, "No such event");
    browser.follow(By::LinkText("Retention")).await;
    assert!(browser.here().await.starts_with("/in/other/retention"));
    browser.end().await;
}

/// The table of the page: a line for each cohort, oldest first, with what its cells show.
async fn shown(browser: &Browser) -> Vec<(String, Vec<String>)> {
    let script = "return [...document.querySelectorAll('table.cohorts tbody tr[data-at]')].reverse().map((row) =>
        [row.dataset.at, [...row.cells].slice(1).filter((cell) => !cell.className.includes('future')).map((cell) =>
            cell.textContent.replace(/[*,%\\s]/g, ''))])";
    serde_json::from_value(browser.js(script).await).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_says_what_the_page_says() {
    let (_, host) = two_stores().await;
    let browser = Browser::start().await;
    let driver = &browser.driver;
    for query in [
        "cohort=signup&returning=active&by=day&rows=9&cols=6",
        "cohort=signup&returning=web&by=week&rows=6&cols=4&as=count&measure=on_or_after&from=2026-10-20",
    ] {
        driver
            .goto(format!("{host}/retention?{query}"))
            .await
            .unwrap();
        let table = shown(&browser).await;
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for link in driver.find_all(By::Css(".acts a")).await.unwrap() {
            // The menu of files is folded.
            let label = link.prop("textContent").await.unwrap().unwrap();
            let href = link.attr("href").await.unwrap().unwrap();
            if label == "PNG" {
                continue;
            }
            let url = format!("{host}{href}");
            let got = tokio::task::spawn_blocking(move || read(&url))
                .await
                .unwrap();
            assert_eq!(got.status, 200, "{label}");
            files.insert(label, got.body);
        }
        let count = query.contains("as=count");
        let percent = |rate: f64| format!("{:.1}", rate * 100.0);

        // The wide file has one more digit than the page.
        let wide: Vec<Vec<String>> = csv(&files["CSV"])
            .map(|line| {
                line[1..]
                    .iter()
                    .filter(|text| !text.is_empty())
                    .cloned()
                    .collect()
            })
            .collect();
        for (line, (at, cells)) in wide.iter().zip(&table) {
            assert_eq!(line.len(), cells.len(), "{at}");
            for (written, seen) in line.iter().zip(cells) {
                let difference = written.parse::<f64>().unwrap() - seen.parse::<f64>().unwrap();
                assert!(
                    difference.abs() <= if count { 0.0 } else { 0.055_001 },
                    "{at}: {written} and {seen}"
                );
            }
        }
        assert_eq!(wide.len(), table.len());

        let json: serde_json::Value = serde_json::from_str(&files["JSON"]).unwrap();
        let rows = json["rows"].as_array().unwrap().iter().map(|row| {
            let cell = |c: &serde_json::Value| {
                if count {
                    c["retained"].to_string()
                } else {
                    percent(c["rate"].as_f64().unwrap())
                }
            };
            let cells = row["cells"].as_array().unwrap().iter().map(cell);
            let cells = [row["size"].to_string()].into_iter().chain(cells).collect();
            (row["cohort"].as_str().unwrap().to_owned(), cells)
        });
        assert_eq!(rows.collect::<Vec<_>>(), table);

        let mut tidy: Vec<(String, Vec<String>)> = Vec::new();
        for line in csv(&files["Tidy CSV"]) {
            if tidy.last().is_none_or(|(start, _)| *start != line[0]) {
                tidy.push((line[0].clone(), vec![line[2].clone()]));
            }
            let number = if count {
                line[6].clone()
            } else {
                percent(line[7].parse().unwrap())
            };
            tidy.last_mut().unwrap().1.push(number);
        }
        assert_eq!(
            tidy.iter().map(|(_, c)| c).collect::<Vec<_>>(),
            table.iter().map(|(_, c)| c).collect::<Vec<_>>()
        );

        // The chart alone has a mark for each number of the average row.
        let means = browser
            .js("return document.querySelectorAll('table.cohorts tr.mean td[class^=h]').length")
            .await;
        let dots = files["SVG"]
            .split("class=\"dots\"")
            .nth(1)
            .unwrap()
            .split("</g>")
            .next()
            .unwrap()
            .matches("<circle");
        assert_eq!(means, dots.count());
    }
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slip_is_marked_at_its_place_and_the_way_back_is_open() {
    let (_, host) = two_stores().await;
    let browser = Browser::start().await;
    let driver = &browser.driver;
    driver
        .goto(format!("{host}/retention?cohort=signup&returning=active"))
        .await
        .unwrap();
    browser.fill("#returning", "active & (web | ").await;
    browser
        .js("document.querySelector('form.ask').requestSubmit()")
        .await;
    driver
        .query(By::Css("#returning[aria-invalid=true]"))
        .first()
        .await
        .unwrap();
    assert_eq!(
        browser
            .js("return document.querySelector('#returning').value")
            .await,
        "active & (web |"
    );
    assert_eq!(
        browser.text("#wrong-returning code").await.trim_end(),
        "active & (web |"
    );
    assert_eq!(
        browser
            .js("return document.querySelector('mark').previousSibling.data.length")
            .await,
        15
    );
    assert!(
        browser
            .text("#wrong-returning")
            .await
            .ends_with("expected an event name or “(”, found the end")
    );
    browser.picture("slip.png").await;
    browser.fill("#returning", "active & (web | signup)").await;
    driver
        .find(By::Css(".quick"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.follow(By::Css(GO)).await;
    assert_eq!(
        browser.heading().await,
        "People who did signup and came back to active & (web | signup)"
    );
    // Back over the slip to the first question, and the form says what its page says.
    driver.back().await.unwrap();
    driver
        .query(By::Css("#returning[aria-invalid=true]"))
        .first()
        .await
        .unwrap();
    driver.back().await.unwrap();
    driver
        .query(By::XPath(
            "//h1[contains(., 'active') and not(contains(., 'web'))]",
        ))
        .first()
        .await
        .unwrap();
    assert_eq!(
        browser
            .js("return document.querySelector('#returning').disabled")
            .await,
        false
    );
    driver.forward().await.unwrap();
    driver
        .query(By::Css("#returning[aria-invalid=true]"))
        .first()
        .await
        .unwrap();
    browser.end().await;
}

/// How much of what is seen moved by itself since the page began: 0 is nothing.
const JUMPS: &str = "return new Promise((done) => {
    let sum = 0;
    const moved = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
            sum += entry.value;
            moved.push(...entry.sources.map(({ node }) => `${node?.nodeName}.${node?.className ?? node?.parentNode?.className}`));
        }))
        .observe({ type: 'layout-shift', buffered: true });
    requestAnimationFrame(() => setTimeout(() => done([sum, moved.join('; ')]), 300));
})";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_jumps_on_a_phone() {
    let address = tokio::task::spawn_blocking(|| serve(product(40, 120)))
        .await
        .unwrap();
    let browser = Browser::start().await;
    browser.size(400, 800).await;
    for path in [
        "/retention?cohort=signup&returning=active&trend=1",
        "/events",
        "/events/active",
        "/people?set=active@2026-11",
        "/users/7",
    ] {
        browser
            .driver
            .goto(format!("http://{address}{path}"))
            .await
            .unwrap();
        // A table that is painted before its last rows arrive may widen a column by a pixel.
        let jumps = browser.js(JUMPS).await;
        assert!(jumps[0].as_f64().unwrap() < 0.001, "{path}: {jumps}");
    }
    // Folded away, the choices come on demand, by touch and by key.
    browser
        .driver
        .goto(format!(
            "http://{address}/retention?cohort=signup&returning=active"
        ))
        .await
        .unwrap();
    let rows = browser.driver.find(By::Id("rows")).await.unwrap();
    assert!(!rows.is_displayed().await.unwrap());
    let fold = browser.driver.find(By::Css(".edit > summary")).await;
    let fold = fold.unwrap();
    fold.click().await.unwrap();
    assert!(rows.is_displayed().await.unwrap());
    fold.send_keys(" ").await.unwrap();
    assert!(!rows.is_displayed().await.unwrap());
    browser.end().await;
}

/// The lines of a CSV file behind its header.
fn csv(text: &str) -> impl Iterator<Item = Vec<String>> {
    let records: Vec<Vec<String>> = csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .map(Result::unwrap)
        .collect();
    records.into_iter()
}
