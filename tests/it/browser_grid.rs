//! The grid in a real Chromium: what its cells say is seen whole, the keyboard's place is never
//! hidden, and it fits paper.

use thirtyfour::extensions::cdp::ChromeDevTools;
use thirtyfour::prelude::*;

use crate::support::browser::Browser;
use crate::support::web::{product, serve};

const QUESTION: &str = "/retention?cohort=signup&returning=active";

async fn host(days: i64, daily: u64) -> String {
    tokio::task::spawn_blocking(move || format!("http://{}", serve(product(days, daily))))
        .await
        .unwrap()
}

/// Paints the sentences of the cells in a colour that nothing else has.
const PAINT: &str = "const sheet = new CSSStyleSheet();
    sheet.replaceSync('.cohorts *::after { background: #f0f !important; color: #f0f !important; border-color: #f0f !important; border-radius: 0 !important }');
    document.adoptedStyleSheets = [sheet]";

/// The painted box in a picture of the window: its edges, and how much of the sentence's own size
/// is seen.
const SEEN: &str = "const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
    return createImageBitmap(new Blob([bytes])).then((map) => {
        const pen = new OffscreenCanvas(map.width, map.height).getContext('2d');
        pen.drawImage(map, 0, 0);
        const dots = pen.getImageData(0, 0, map.width, map.height).data;
        let [n, left, top, right, bottom] = [0, 1e9, 1e9, 0, 0];
        for (let i = 0; i < dots.length; i += 4) {
            if (dots[i] < 250 || dots[i + 1] > 5 || dots[i + 2] < 250) continue;
            const [x, y] = [(i / 4) % map.width, Math.floor(i / 4 / map.width)];
            [n, left, top, right, bottom] = [n + 1, Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
        }
        const cell = document.querySelector('.cohorts td[class^=h]:is(:hover, :has(:focus-visible))');
        const place = cell.getBoundingClientRect();
        const said = cell.querySelector('a') ?? cell;
        const own = getComputedStyle(said, '::after');
        const [x, y] = [place.left + place.width / 2, place.top + place.height / 2];
        const covers = left < x && x < right && top < y && y < bottom;
        const near = Math.min(Math.abs(place.top - bottom), Math.abs(top - place.bottom)) < 12 && left < place.right && place.left < right;
        return { part: n / (parseFloat(own.width) * parseFloat(own.height)), covers, near, sentence: own.content };
    });";

impl Browser {
    /// The one sentence that is shown stands whole and beside its cell.
    async fn says_all(&self, place: &str) {
        self.js(PAINT).await;
        let picture = self.driver.screenshot_as_png_base64().await.unwrap();
        let seen = self
            .driver
            .execute(SEEN, vec![picture.into()])
            .await
            .unwrap()
            .json()
            .clone();
        assert!(
            seen["part"].as_f64().unwrap() > 0.97,
            "{place}: cut: {seen}"
        );
        assert!(
            seen["sentence"].as_str().unwrap().contains("came back"),
            "{place}: {seen}"
        );
        assert_eq!(
            (&seen["covers"], &seen["near"]),
            (&false.into(), &true.into()),
            "{place}: {seen}"
        );
        self.js("document.adoptedStyleSheets = []").await;
    }

    async fn point_at(&self, css: &str) {
        let cell = self.driver.find(By::Css(css)).await.unwrap();
        self.driver
            .action_chain()
            .move_to_element_center(&cell)
            .perform()
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sentence_of_a_cell_is_seen_whole() {
    let host = host(60, 40).await;
    let browser = Browser::start().await;
    for script in [true, false] {
        browser
            .cdp(
                "Emulation.setScriptExecutionDisabled",
                serde_json::json!({ "value": !script }),
            )
            .await;
        for width in [1320, 400] {
            browser.size(width, 900).await;
            let place = |what: &str| format!("{what}, {width} px, script {script}");

            // A table of one line, too low for its sentences.
            browser
                .driver
                .goto(format!("{host}{QUESTION}&by=day&rows=1&cols=3"))
                .await
                .unwrap();
            browser.point_at("td[class^=h] > a").await;
            browser.says_all(&place("one row")).await;
            browser
                .driver
                .goto(format!(
                    "{host}{QUESTION}&by=day&rows=2&cols=2&to=2026-11-20"
                ))
                .await
                .unwrap();
            for cell in [
                "tr.mean td:nth-child(3)",
                "tr:last-child td:nth-child(4) > a",
                "tr:last-child td:nth-child(3) > a",
            ] {
                browser.point_at(cell).await;
                browser.says_all(&place(cell)).await;
            }

            // The topmost line of a table that is scrolled, and the last cells of a line.
            browser
                .driver
                .goto(format!("{host}{QUESTION}&by=day&rows=60&cols=30"))
                .await
                .unwrap();
            let scrolled = "const box = document.querySelector('.gridwrap'); box.scrollIntoView(); box.scrollTo(0, 800);
                const head = document.querySelector('.cohorts thead th').getBoundingClientRect().bottom;
                const row = [...document.querySelectorAll('.cohorts tbody tr')].findIndex((r) => r.getBoundingClientRect().top >= head);
                return row + 1";
            let row = browser.js(scrolled).await;
            browser
                .point_at(&format!("tbody tr:nth-child({row}) td:nth-child(4) > a"))
                .await;
            browser.says_all(&place("the topmost row")).await;
            if width == 1320 && script {
                browser.picture("tip-topmost.png").await;
            }
            browser
                .js("document.querySelector('.gridwrap').scrollTo(1e4, 0)")
                .await;
            browser
                .point_at("tbody tr:nth-child(33) td:nth-child(32) > a")
                .await;
            browser.says_all(&place("the last column")).await;
            browser.picture(&format!("tip-last-{width}.png")).await;

            // The same for the keyboard.
            browser
                .js("document.querySelector('tbody tr:nth-child(20) td:nth-child(3) > a').focus()")
                .await;
            browser
                .driver
                .action_chain()
                .move_to(2, 2)
                .perform()
                .await
                .unwrap();
            let pressed = browser.driver.active_element().await.unwrap();
            pressed
                .send_keys(Key::Shift.value().to_string())
                .await
                .unwrap();
            browser.says_all(&place("focus")).await;
        }
    }
    browser.end().await;
}

/// Walks from the link that has the focus until the key moves it no more; what is hidden at its own
/// centre on the way.
async fn walk(browser: &Browser, key: Key) -> (usize, Vec<String>) {
    let look = "const link = document.activeElement; const r = link.getBoundingClientRect();
        const hit = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
        return [link.getAttribute('href'), hit === link || link.contains(hit) ? '' : link.getAttribute('href') + ' under ' + (hit?.outerHTML.slice(0, 60) ?? 'nothing')]";
    let (mut steps, mut hidden, mut last) = (0, Vec::new(), String::new());
    loop {
        let seen = browser.js(look).await;
        let [at, over] = [0, 1].map(|i| seen[i].as_str().unwrap().to_owned());
        if at == last {
            return (steps, hidden);
        }
        (steps, last) = (steps + 1, at);
        hidden.extend(Some(over).filter(|over| !over.is_empty()));
        browser
            .driver
            .active_element()
            .await
            .unwrap()
            .send_keys(key.value().to_string())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_focus_is_never_under_a_head() {
    let host = host(60, 40).await;
    let browser = Browser::start().await;
    for width in [400, 1320] {
        browser.size(width, 900).await;
        for table in [
            "by=day&rows=60&cols=30",
            "by=week&rows=9&cols=40&order=oldest",
            "by=hour&rows=48&cols=48",
        ] {
            browser
                .driver
                .goto(format!("{host}{QUESTION}&{table}"))
                .await
                .unwrap();
            if table.starts_with("by=day") {
                let first =
                    "document.querySelector('tbody tr:nth-child(33) td:nth-child(3) > a').focus()";
                browser.js(first).await;
                for (key, many) in [
                    (Key::Right, 30),
                    (Key::Left, 31),
                    (Key::Up, 32),
                    (Key::Down, 60),
                    (Key::Up, 60),
                ] {
                    let name = format!("{key:?}");
                    let (steps, hidden) = walk(&browser, key).await;
                    assert!(
                        steps >= many && hidden.is_empty(),
                        "{table}, {width} px, {name}: {steps} steps, hidden {hidden:?}"
                    );
                }
                continue;
            }
            let first = "const lines = document.querySelectorAll('tbody tr:has(td > a)'); [...lines].at(-1).querySelector('td:last-of-type > a, td > a').focus()";
            browser.js(first).await;
            for key in [
                Key::Up,
                Key::Right,
                Key::Left,
                Key::Down,
                Key::Right,
                Key::Left,
            ] {
                let name = format!("{key:?}");
                let (_, hidden) = walk(&browser, key).await;
                assert!(
                    hidden.is_empty(),
                    "{table}, {width} px, {name}: hidden {hidden:?}"
                );
            }
        }
        // A head scrolls into no other place than its own.
        browser
            .driver
            .goto(format!("{host}{QUESTION}&by=day&rows=60&cols=30"))
            .await
            .unwrap();
        let kept = "const box = document.querySelector('.gridwrap'); box.scrollTo(0, 500);
            document.querySelector('thead th:nth-child(5) a').focus(); return box.scrollTop";
        assert_eq!(browser.js(kept).await, 500);
    }
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_one_landscape_page_on_paper() {
    let host = host(60, 40).await;
    let browser = Browser::start().await;
    let mut wrong = Vec::new();
    for table in [
        "by=day&rows=14&cols=14",
        "by=day&rows=14&cols=14&trend=3",
        "by=day&rows=31&cols=13",
        "by=day&rows=31&cols=13&trend=3",
        "by=day&rows=30&cols=30",
        "by=day&rows=30&cols=30&trend=3",
        "by=hour&rows=24&cols=24",
        "by=hour&rows=24&cols=24&trend=1",
        "by=week&rows=9&cols=9&trend=1",
        "by=month&rows=3&cols=3",
    ] {
        browser
            .driver
            .goto(format!("{host}{QUESTION}&{table}"))
            .await
            .unwrap();
        for (name, width, height) in [("A4", 8.27, 11.69), ("Letter", 8.5, 11.0)] {
            let paper = serde_json::json!({ "landscape": true, "paperWidth": width, "paperHeight": height });
            let tools = ChromeDevTools::new(browser.driver.handle.clone());
            let made = tools
                .execute_cdp_with_params("Page.printToPDF", paper)
                .await
                .unwrap();
            let count = "return [atob(arguments[0]).match(/[/]Type [/]Page\\b/g).length]";
            let pages = browser
                .driver
                .execute(count, vec![made["data"].clone()])
                .await
                .unwrap()
                .json()[0]
                .clone();
            if pages != 1 {
                wrong.push(format!("{table}: {pages} pages of {name}"));
            }
        }
        // What stands below the table does not stand on it.
        browser
            .cdp(
                "Emulation.setEmulatedMedia",
                serde_json::json!({ "media": "print" }),
            )
            .await;
        let apart = "const [card, foot] = ['.gridcard', '.foot'].map((css) => document.querySelector(css).getBoundingClientRect());
            return foot.top >= card.bottom";
        assert_eq!(
            browser.js(apart).await,
            true,
            "{table}: the foot is on the table"
        );
        browser
            .cdp(
                "Emulation.setEmulatedMedia",
                serde_json::json!({ "media": "" }),
            )
            .await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    browser.end().await;
}
