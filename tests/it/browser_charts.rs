//! The first screen and the charts in a real Chromium: what is seen without scrolling, what a chart
//! says to the pointer, a finger and the keyboard, and what is copied.

use serde_json::{Value, json};
use thirtyfour::prelude::*;

use crate::support::browser::Browser;
use crate::support::web::{product, serve};

const QUESTION: &str = "/retention?cohort=signup&returning=active&by=week";

async fn host() -> String {
    tokio::task::spawn_blocking(|| format!("http://{}", serve(product(90, 120))))
        .await
        .unwrap()
}

impl Browser {
    async fn script(&self, runs: bool) {
        let value = json!({ "value": !runs });
        self.cdp("Emulation.setScriptExecutionDisabled", value)
            .await;
    }

    /// Moves the pointer to a part of the width of the first chart of a selector that is shown.
    async fn over(&self, css: &str, part: f64) {
        let place = format!(
            "const svg = [...document.querySelectorAll('{css}')].find((svg) => svg.getClientRects().length);
             svg.scrollIntoView({{ block: 'center' }});
             const box = svg.getBoundingClientRect(); return [box.left + box.width * {part}, box.top + box.height / 2]"
        );
        let place = self.js(&place).await;
        let [x, y] = [0, 1].map(|i| place[i].as_f64().unwrap() as i64);
        let chain = self.driver.action_chain();
        chain.move_to(x, y).perform().await.unwrap();
    }

    /// The text of the card that is shown.
    async fn card(&self) -> Option<String> {
        let card = self
            .js("return document.querySelector('.said:not([hidden])')?.innerText ?? null")
            .await;
        card.as_str().map(str::to_owned)
    }

    async fn key(&self, key: Key) {
        let active = self.driver.active_element().await.unwrap();
        active.send_keys(key.value().to_string()).await.unwrap();
    }
}

/// Where the parts of the page end, and how high they are.
const PLACES: &str = "const end = (css) => document.querySelector(css).getBoundingClientRect().bottom;
    const height = (css) => [...document.querySelectorAll(css)].find((e) => e.getClientRects().length).getBoundingClientRect().height;
    return { figures: end('.tiles'), curve: end('.charts figure'), row: end('.cohorts tr[data-at]:nth-child(7)'),
        line: height('.tiles'), chart: height('.chart.curve'), sizes: height('.chart.sizes'),
        columns: [...document.querySelectorAll('.cohorts thead th')].filter((th) => th.getBoundingClientRect().right <=
            document.querySelector('.gridwrap').getBoundingClientRect().right + 1).length }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_is_on_the_first_screen() {
    let host = host().await;
    let browser = Browser::start().await;
    for script in [true, false] {
        browser.script(script).await;
        for dark in [false, true] {
            if dark {
                browser.dark().await;
            }
            for (width, high) in [(1440, 900), (390, 844)] {
                browser.size(width, high).await;
                browser
                    .driver
                    .goto(format!("{host}{QUESTION}"))
                    .await
                    .unwrap();
                let places = browser.js(PLACES).await;
                let at = |what: &str| places[what].as_f64().unwrap();
                let high = f64::from(high);
                assert!(
                    at("figures") < high && at("curve") <= high,
                    "{width}: {places}"
                );
                if width == 1440 {
                    assert!(at("row") <= high, "{places}");
                    assert!(at("line") <= 66.0 && at("chart") <= 240.0, "{places}");
                } else {
                    assert!(at("chart") > at("sizes"), "{places}");
                    // The label, the size and four columns.
                    assert!(at("columns") >= 6.0, "{places}");
                }
                browser
                    .picture(&format!("first-{width}-{script}-{dark}.png"))
                    .await;
            }
        }
        browser
            .cdp("Emulation.setEmulatedMedia", json!({ "features": [] }))
            .await;
        // The form folds to one line, and unfolds without a script too.
        let form = browser.driver.find(By::Css("form.ask")).await.unwrap();
        assert!(!form.is_displayed().await.unwrap());
        assert_eq!(
            browser.text(".edit > summary").await.replace('\n', " "),
            "by week·12 weeks·in the week·UTC·Edit".replace('·', "")
        );
        browser.edit().await;
        assert!(form.is_displayed().await.unwrap());
    }
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chart_answers_the_pointer_and_the_keyboard() {
    let host = host().await;
    let browser = Browser::start().await;
    let driver = &browser.driver;
    browser.size(1440, 900).await;
    driver.goto(format!("{host}{QUESTION}")).await.unwrap();
    // The sentence of each column as the server wrote it.
    let raw = tokio::task::spawn_blocking({
        let url = format!("{host}{QUESTION}");
        move || crate::http::read(&url).body
    });
    let raw = raw.await.unwrap();
    let curve = raw
        .split("<svg class=\"chart curve roomy\"")
        .nth(1)
        .unwrap();
    let titles = curve
        .split("</svg>")
        .next()
        .unwrap()
        .split("<title>")
        .skip(1);
    let titles: Vec<String> = titles
        .map(|title| title.split('<').next().unwrap().to_owned())
        .collect();
    assert_eq!(titles.len(), 12);
    browser.over(".chart.curve", 0.5).await;
    let said = browser.card().await.unwrap();
    let words = |text: &str| {
        let text = text.replace('·', " ");
        text.split_whitespace()
            .map(str::to_lowercase)
            .collect::<Vec<_>>()
    };
    let column = titles
        .iter()
        .position(|title| words(title) == words(&said))
        .unwrap_or_else(|| panic!("{said} is none of {titles:?}"));
    assert!(said.contains(" of ") && said.contains('%'), "{said}");
    // A rule, and the column of the table.
    let lit = "return [document.querySelectorAll('.chart > .rule').length,
        document.querySelector('.cohorts thead th.lit')?.cellIndex - 2].join()";
    assert_eq!(browser.js(lit).await, format!("1,{column}"));
    browser.picture("card.png").await;
    // Escape closes it, though the pointer stays.
    browser.key(Key::Escape).await;
    assert_eq!(browser.card().await, None);
    assert_eq!(
        browser
            .js("return document.querySelectorAll('.rule, table .lit').length")
            .await,
        0
    );

    // The keyboard: a stop for Tab, arrows, Home and End.
    browser
        .js("document.querySelector('.chart.curve').focus({ focusVisible: true })")
        .await;
    let value = "return document.activeElement.getAttribute('aria-valuetext')";
    for (key, at) in [
        (Key::Home, 0),
        (Key::Right, 1),
        (Key::Right, 2),
        (Key::Left, 1),
        (Key::End, 11),
        (Key::Right, 11),
        (Key::Home, 0),
        (Key::Right, 1),
    ] {
        browser.key(key).await;
        assert_eq!(browser.js(value).await, titles[at]);
        assert!(browser.card().await.is_some());
    }
    browser.key(Key::Enter).await;
    driver.query(By::Id("trend")).first().await.unwrap();
    let url = driver.current_url().await.unwrap();
    assert!(url.query().unwrap().ends_with("trend=1"), "{url}");

    // A point of the trend opens the people of its cohort, and so does a bar.
    for css in [".chart.trend", ".chart.sizes"] {
        driver
            .goto(format!("{host}{QUESTION}&trend=1"))
            .await
            .unwrap();
        browser.over(css, 0.5).await;
        let said = browser.card().await.unwrap();
        driver.action_chain().click().perform().await.unwrap();
        driver.query(By::Id("who")).first().await.unwrap();
        let label = said.split(" (W").next().unwrap();
        assert!(browser.text("h1").await.contains(label), "{css}: {said}");
    }
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_chart_has_a_card_and_a_row() {
    let host = host().await;
    let browser = Browser::start().await;
    for width in [1440, 390] {
        browser.size(width, 900).await;
        for (path, charts) in [
            (format!("{QUESTION}&trend=1"), 3),
            (format!("{QUESTION}&breakdown=plan:*@ever"), 1),
            ("/lifecycle?event=active&by=week".to_owned(), 1),
            ("/frequency?event=active".to_owned(), 3),
            ("/trends?event=active&event=web&by=week".to_owned(), 1),
            ("/events/active?by=week".to_owned(), 4),
        ] {
            browser.driver.goto(format!("{host}{path}")).await.unwrap();
            for at in 0..charts {
                browser
                    .js(&format!(
                        "document.querySelectorAll('.charts figure')[{at}].id = 'chart{at}'"
                    ))
                    .await;
                browser.over(&format!("#chart{at} svg"), 0.7).await;
                let said = browser.card().await;
                let said = said.unwrap_or_else(|| panic!("{path}: chart {at} says nothing"));
                assert!(said.chars().any(|c| c.is_ascii_digit()), "{path}: {said}");
                let within = "const card = document.querySelector('.said:not([hidden])').getBoundingClientRect();
                    return card.left >= 0 && card.right <= document.documentElement.clientWidth";
                assert_eq!(browser.js(within).await, true, "{path}: {at} at {width}");
                browser
                    .picture(&format!("card-{width}-{}-{at}.png", path.len()))
                    .await;
            }
            // Nothing moves.
            let sideways = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.js(sideways).await, 0, "{path} at {width}");
        }
    }
    // From the table to the chart.
    browser.size(1440, 1400).await;
    browser
        .driver
        .goto(format!("{host}/lifecycle?event=active&by=week"))
        .await
        .unwrap();
    let row = By::Css(".cohorts tbody tr:nth-child(3) td:nth-child(2)");
    let row = browser.driver.find(row).await.unwrap();
    let chain = browser.driver.action_chain();
    chain.move_to_element_center(&row).perform().await.unwrap();
    let rule = "const rule = document.querySelector('.chart > .rule').getAttribute('d').split(' ')[0].slice(1);
        const row = document.querySelector('.cohorts tbody tr:nth-child(3)').dataset.at;
        return [...document.querySelectorAll('.roomy .hits rect')].find((hit) => hit.dataset.at === row).dataset.x === rule";
    assert_eq!(browser.js(rule).await, true);
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finger_reads_first_and_opens_then() {
    let host = host().await;
    let browser = Browser::start().await;
    browser.size(390, 844).await;
    browser
        .cdp(
            "Emulation.setTouchEmulationEnabled",
            json!({ "enabled": true }),
        )
        .await;
    browser
        .driver
        .goto(format!("{host}{QUESTION}"))
        .await
        .unwrap();
    let place = "const box = document.querySelector('.chart.curve.snug').getBoundingClientRect(); return [box.left + box.width * .6, box.top + box.height / 2]";
    let place = browser.js(place).await;
    let tap = async || {
        let point = json!([{ "x": place[0], "y": place[1] }]);
        for (kind, points) in [("touchStart", point), ("touchEnd", json!([]))] {
            let touch = json!({ "type": kind, "touchPoints": points });
            browser.cdp("Input.dispatchTouchEvent", touch).await;
        }
    };
    tap().await;
    assert!(browser.card().await.unwrap().contains('%'));
    assert!(
        !browser
            .driver
            .current_url()
            .await
            .unwrap()
            .as_str()
            .contains("trend")
    );
    browser.picture("finger.png").await;
    tap().await;
    browser.driver.query(By::Id("trend")).first().await.unwrap();
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_script_a_chart_still_says_its_numbers() {
    let host = host().await;
    let browser = Browser::start().await;
    browser.script(false).await;
    browser
        .driver
        .goto(format!("{host}{QUESTION}"))
        .await
        .unwrap();
    let titles = "return [...document.querySelectorAll('.roomy .hits title')].map((title) => title.textContent)";
    let titles = browser.js(titles).await;
    assert!(titles.as_array().unwrap().len() >= 12, "{titles}");
    let hidden = "return [...document.querySelectorAll('[data-copy-table], [data-copy-image]')].every((button) => button.hidden)";
    assert_eq!(browser.js(hidden).await, true);
    // Files are in a menu that needs no script.
    let menu = browser
        .driver
        .find(By::Css(".menu > summary"))
        .await
        .unwrap();
    menu.click().await.unwrap();
    let png = browser.driver.find(By::LinkText("PNG")).await.unwrap();
    assert!(png.is_displayed().await.unwrap());
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_and_charts_are_copied() {
    let host = host().await;
    let browser = Browser::start().await;
    let driver = &browser.driver;
    let granted =
        json!({ "origin": host, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.cdp("Browser.grantPermissions", granted).await;
    let copied = async |button: &str| {
        browser.js("window.copied = null").await;
        let found = driver.find(By::Css(button)).await.unwrap();
        found.click().await.unwrap();
        driver
            .query(By::Css(button))
            .with_text("Copied")
            .first()
            .await
            .unwrap();
        // What was copied, as the page hands it to the clipboard.
        browser.js("return window.copied").await
    };
    let spy = "const write = navigator.clipboard.write.bind(navigator.clipboard);
        navigator.clipboard.write = async (items) => {
            const copied = {};
            for (const type of items[0].types) {
                const blob = await items[0].getType(type);
                copied[type] = type === 'image/png' ? [...new Uint8Array(await blob.arrayBuffer())].slice(0, 24) : await blob.text();
            }
            window.copied = copied;
            return write(items);
        }";
    driver.goto(format!("{host}{QUESTION}")).await.unwrap();
    browser.js(spy).await;
    let table = copied("[data-copy-table]").await;
    let rows: Vec<Vec<&str>> = table["text/plain"]
        .as_str()
        .unwrap()
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert!(rows.iter().all(|row| row.len() == 14), "{rows:?}");
    assert_eq!(rows[0][..4], ["Cohort", "People", "Week 0", "1"]);
    assert_eq!(rows[1][0], "Weighted average");
    let shown = browser
        .text(".cohorts tbody tr:nth-child(4) td:nth-child(3)")
        .await;
    assert_eq!(rows[4][2], shown, "{rows:?}");
    let html = table["text/html"].as_str().unwrap();
    assert_eq!(html.matches("<tr>").count(), rows.len());
    assert!(html.contains(&format!("<td>{shown}</td>")), "{html}");
    let picture = copied("[data-copy-image]").await;
    let bytes: Vec<u8> = serde_json::from_value(picture["image/png"].clone()).unwrap();
    assert!(bytes.starts_with(b"\x89PNG"), "{bytes:?}");
    let width = u32::from_be_bytes(bytes[16..20].try_into().unwrap());
    assert_eq!(width, 1_588, "twice as wide as on a page");
    assert_ne!(picture, Value::Null);
    browser.is_quiet().await;
    browser.end().await;
}
