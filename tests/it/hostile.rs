//! Names that try to be more than names go unharmed through the form, links, files, titles and
//! addresses.

use std::collections::BTreeMap;

use cohortist::sets::Segment;
use roxmltree::Document;
use scraper::{ElementRef, Html, Selector};
use thirtyfour::prelude::*;
use url::Url;

use crate::http::{Got, read};
use crate::support::browser::Browser;
use crate::support::web::{empty, hostile_names, name, now, serve};

/// A dashboard on a store where user 1 did all of them just now.
fn shop() -> Url {
    let tracker = empty();
    for event in hostile_names() {
        tracker.mark(&name(&event), 1, now()).unwrap();
    }
    Url::parse(&format!("http://{}", serve(tracker))).unwrap()
}

/// How a name is written in a segment.
fn segment(event: &str) -> String {
    Segment::event(&name(event)).to_string()
}

fn all<'a>(page: &'a Html, css: &str) -> Vec<ElementRef<'a>> {
    page.select(&Selector::parse(css).unwrap()).collect()
}

fn text(page: &Html, css: &str) -> String {
    all(page, css)
        .first()
        .unwrap_or_else(|| panic!("no {css}"))
        .text()
        .collect()
}

/// Where the first such link leads, as a browser resolves it.
fn link(page: &Html, on: &Url, css: &str) -> Url {
    let href = all(page, css)
        .first()
        .unwrap_or_else(|| panic!("no {css} on {on}"))
        .attr("href")
        .unwrap();
    resolved(page, on, href)
}

/// An address of a page, as a browser resolves it.
fn resolved(page: &Html, on: &Url, address: &str) -> Url {
    let base = all(page, "base[href]")
        .first()
        .map_or_else(|| on.clone(), |b| on.join(b.attr("href").unwrap()).unwrap());
    base.join(address)
        .unwrap_or_else(|e| panic!("{address} on {on}: {e}"))
}

/// Where an address leads in the end.
fn arrived(url: &Url) -> Url {
    let got = read(url.as_str());
    assert_eq!(got.status, 302, "{url}: {}", got.body);
    url.join(got.header("location")).unwrap()
}

/// A page that was found, after checking that nothing on it came alive and no link leaves the
/// house.
fn page(url: &Url) -> Html {
    let got = read(url.as_str());
    assert_eq!(got.status, 200, "{url}: {}", got.body);
    let page = Html::parse_document(&got.body);
    assert!(
        all(
            &page,
            "script:not([src^='/static/app.']), img, iframe, [onerror], [onfocus]"
        )
        .is_empty(),
        "{url}"
    );
    assert_eq!(
        (
            all(&page, "h1").len(),
            all(&page, "main").len(),
            all(&page, "head > title").len()
        ),
        (1, 1, 1),
        "{url}"
    );
    for element in all(&page, "a[href], form[action]") {
        let address = element.attr("href").or(element.attr("action")).unwrap();
        let to = resolved(&page, url, address);
        assert_eq!(to.origin(), url.origin(), "{address} on {url}");
    }
    page
}

/// A file that was found, after checking that its name is one harmless name.
fn file(url: &Url) -> Got {
    let got = read(url.as_str());
    assert_eq!(got.status, 200, "{url}: {}", got.body);
    let disposition = got.header("content-disposition");
    let shape = disposition
        .strip_prefix("attachment; filename=\"")
        .or(disposition.strip_prefix("inline; filename=\""));
    // Quoted for all clients, and beside it, where it has other letters, in full for those of this
    // century.
    let (stem, full) = shape
        .and_then(|rest| rest.split_once('"'))
        .unwrap_or_else(|| panic!("{url}: {disposition}"));
    if !full.is_empty() {
        let full = full
            .strip_prefix("; filename*=UTF-8''")
            .unwrap_or_else(|| panic!("{url}: {disposition}"));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '%');
        assert!(full.chars().all(plain), "{disposition}");
        let name = percent_encoding::percent_decode_str(full)
            .decode_utf8()
            .unwrap();
        let bad = |c: char| {
            c.is_control() || "/\\:*?\"<>|'%\u{202e}\u{200b}\u{2028}\u{fffe}\u{ffff}".contains(c)
        };
        assert!(
            name.len() < 255
                && !name.chars().any(bad)
                && !name.contains("..")
                && !name.starts_with('.'),
            "{name}"
        );
    }
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    assert!(
        stem.len() < 150
            && stem.chars().all(harmless)
            && !stem.contains("..")
            && !stem.starts_with('.'),
        "{stem}"
    );
    assert_eq!(got.header("set-cookie"), "", "{url}");
    got
}

/// The records of a CSV file, after checking that a spreadsheet takes none of its fields for a
/// formula.
fn records(url: &Url) -> Vec<Vec<String>> {
    let body = file(url).body;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(body.as_bytes());
    let records: Vec<Vec<String>> = reader
        .records()
        .map(|record| record.unwrap().iter().map(str::to_owned).collect())
        .collect();
    // A number with a sign, or a handle, is no formula.
    let plain = |field: &str| field[1..].chars().all(|c| c.is_alphanumeric());
    let evaluated = |field: &String| {
        field.starts_with(['=', '\t', '\r'])
            || (field.starts_with(['+', '-', '@']) && !plain(field))
    };
    assert!(!records.iter().flatten().any(evaluated), "{body}");
    records
}

fn asked(url: &Url, field: &str) -> String {
    url.query_pairs()
        .find(|(name, _)| name == field)
        .unwrap_or_else(|| panic!("no {field} in {url}"))
        .1
        .into_owned()
}

#[test]
fn every_event_is_listed_reached_and_told_by_its_own_name() {
    let base = shop();
    let on = base.join("/events?sort=name").unwrap();
    let list = page(&on);
    let links: BTreeMap<String, Url> = all(&list, "tbody th[scope=row] a")
        .into_iter()
        .map(|a| {
            (
                a.text().collect(),
                on.join(a.attr("href").unwrap()).unwrap(),
            )
        })
        .collect();
    let mut names = hostile_names();
    names.sort_unstable();
    assert_eq!(links.keys().cloned().collect::<Vec<_>>(), names);
    let mut files = std::collections::BTreeSet::new();
    for (event, url) in links {
        let told = page(&url);
        assert_eq!(text(&told, "h1#event"), event, "{url}");
        assert_eq!(text(&told, "head > title"), format!("{event} · cohortist"));
        let csv = link(&told, &url, ".acts a[href^='/events/']");
        let name = file(&csv).header("content-disposition").to_owned();
        assert!(
            files.insert(name.clone()),
            "{event}: another event's file is called {name}"
        );
        let letters: Vec<&str> = vec!["שלום", "\u{e9}", "🎉🎉"];
        let wanted = letters
            .into_iter()
            .find(|letters| event.starts_with(letters));
        let told_in_full = wanted.is_none_or(|letters| {
            let encoded =
                percent_encoding::utf8_percent_encode(letters, percent_encoding::NON_ALPHANUMERIC)
                    .to_string();
            name.contains(&format!("filename*=UTF-8''{encoded}"))
        });
        assert!(told_in_full, "{event}: {name}");
        let csv = records(&csv);
        assert_eq!(csv.last().unwrap()[2..4], ["1", "in_progress"], "{event}");
        let retention = link(&told, &url, ".acts a[href^='/retention']");
        assert_eq!(
            (asked(&retention, "cohort"), asked(&retention, "returning")),
            (segment(&event), segment(&event))
        );
        let found = base
            .join(&format!("/events?{}", form(&[("q", &event)])))
            .unwrap();
        assert_eq!(
            all(&page(&found), "#q, input[name=q]")[0].attr("value"),
            Some(event.trim())
        );
    }
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

#[test]
fn a_question_about_them_is_a_question_like_any_other() {
    let base = shop();
    for event in hostile_names() {
        let written = segment(&event);
        let query = form(&[
            ("cohort", &written),
            ("returning", &written),
            ("returning_and", &written),
            ("rows", "2"),
        ]);
        let url = base.join(&format!("/retention?{query}")).unwrap();
        let told = page(&url);
        for field in ["#cohort", "#returning", "#returning_and-0"] {
            assert_eq!(
                all(&told, field)[0].attr("value"),
                Some(&*written),
                "{field} of {event}"
            );
        }
        assert_eq!(
            text(&told, "h1#question").matches(&written).count(),
            3,
            "{event}: {}",
            text(&told, "h1#question")
        );
        assert!(
            text(&told, "head > title").contains(&written),
            "{event}: {}",
            text(&told, "head > title")
        );
        let offered: Vec<_> = all(&told, "datalist option")
            .iter()
            .filter_map(|o| o.attr("value"))
            .collect();
        assert!(
            offered.is_empty() || offered.contains(&&*written),
            "{written} is offered as it must be written"
        );

        // The cell, the people behind it, all of them as a file, and the way back.
        let cell = arrived(&link(&told, &url, "table.cohorts td a[href$='.0']"));
        let people = page(&cell);
        let heading = text(&people, "h1#who");
        assert!(
            heading.starts_with("1 of the 1 person who did ") && heading.contains(&written),
            "{heading}"
        );
        assert_eq!(
            text(&people, "head > title"),
            format!("{heading} · cohortist")
        );
        assert_eq!(
            records(&link(&people, &cell, "a[href^='/people.csv?']")),
            [["user_id"], ["1"]],
            "{event}"
        );
        let back = link(&people, &cell, "a[href^='/retention?']");
        assert_eq!(
            (asked(&back, "cohort"), asked(&back, "returning_and")),
            (written.clone(), written.clone())
        );

        for kind in ["csv", "tidy.csv"] {
            let csv = records(&base.join(&format!("/retention.{kind}?{query}")).unwrap());
            // Yesterday nothing was recorded.
            let numbers = csv
                .iter()
                .filter(|line| line.get(8).is_none_or(|state| state != "not_recorded"));
            assert_eq!(
                numbers.count(),
                3 - usize::from(kind == "tidy.csv"),
                "{event}: {csv:?}"
            );
        }
        let json = file(&base.join(&format!("/retention.json?{query}")).unwrap());
        let json: serde_json::Value = serde_json::from_str(&json.body).unwrap();
        assert_eq!(
            (
                &json["query"]["cohort"],
                &json["rows"][1]["cells"][0]["rate"]
            ),
            (&written.clone().into(), &1.0.into())
        );
        let svg = file(&base.join(&format!("/retention.svg?{query}")).unwrap()).body;
        let chart = Document::parse(&svg).unwrap_or_else(|e| panic!("{event}: {e} in {svg}"));
        let title = chart
            .descendants()
            .find(|node| node.has_tag_name("title"))
            .unwrap();
        let parsable = written.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
        let title = title.text().unwrap();
        assert!(title.starts_with(&parsable), "{event}: {title}");
        let known = [
            "svg", "title", "desc", "g", "rect", "text", "polyline", "polygon", "circle", "path",
            "line",
        ];
        let unknown = chart
            .descendants()
            .find(|n| n.is_element() && !known.contains(&n.tag_name().name()));
        assert!(unknown.is_none(), "{event}: {unknown:?}");

        // As a set, and from the page of its one user.
        let set = format!("{written}@2026-11-23");
        let url = base
            .join(&format!("/people?{}", form(&[("set", &set)])))
            .unwrap();
        let people = page(&url);
        assert_eq!(all(&people, "#set")[0].attr("value"), Some(&*set));
        assert_eq!(
            text(&people, "h1#who"),
            format!("1 person who did {written} on Mon 23 Nov 2026")
        );
        assert_eq!(
            records(&link(&people, &url, "a[href^='/people.csv?']")),
            [["user_id"], ["1"]],
            "{event}"
        );
        // One that is no event is told by the same name.
        let unknown = segment(&format!("{}~", event.chars().take(40).collect::<String>()));
        let url = base
            .join(&format!(
                "/retention?{}",
                form(&[("cohort", &unknown), ("returning", &unknown)])
            ))
            .unwrap();
        assert!(text(&page(&url), ".notice").contains("Nothing was ever recorded"));
    }
    let url = base.join("/users/1").unwrap();
    let user = page(&url);
    let links: Vec<String> = all(&user, "a[href^='/people?set=']")
        .iter()
        .map(|a| asked(&url.join(a.attr("href").unwrap()).unwrap(), "set"))
        .collect();
    for event in hostile_names() {
        assert!(
            links.contains(&format!("{}@2026-11-23", segment(&event))),
            "{event} in {links:?}"
        );
    }
}

#[test]
fn a_name_beyond_all_bounds_is_refused_in_words() {
    let url = shop()
        .join(&format!(
            "/retention?cohort={}&returning=x",
            "e".repeat(10_000)
        ))
        .unwrap();
    let got = read(url.as_str());
    assert!(
        got.status == 400 && got.body.contains("at most 200 bytes"),
        "{}",
        got.status
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_into_the_form_they_arrive_as_typed() {
    let base = tokio::task::spawn_blocking(shop).await.unwrap();
    let browser = Browser::start().await;
    let driver = &browser.driver;
    // Each into the form that holds the one before.
    driver
        .goto(base.join("/retention").unwrap().as_str())
        .await
        .unwrap();
    for event in hostile_names() {
        let quoted = format!("\"{}\"", event.replace('\\', "\\\\").replace('"', "\\\""));
        browser.edit().await;
        for id in ["cohort", "returning"] {
            let field = driver.find(By::Id(id)).await.unwrap();
            field.clear().await.unwrap();
            // chromedriver has no keys beyond the first plane.
            if quoted.chars().any(|c| u32::from(c) > 0xffff) {
                let put = format!("document.getElementById('{id}').value = arguments[0]");
                driver
                    .execute(put, vec![quoted.clone().into()])
                    .await
                    .unwrap();
            } else {
                field.send_keys(&quoted).await.unwrap();
            }
        }
        // Gone to when the address changes: the page before has the same heading at most by
        // accident.
        let before = driver.current_url().await.unwrap();
        browser
            .js("document.querySelector('form.ask button.go').click()")
            .await;
        let written = segment(&event);
        let url = loop {
            let url = driver.current_url().await.unwrap();
            if url != before && browser.js("return document.readyState").await == "complete" {
                break url;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let cohort = asked(&url, "cohort");
        assert!(cohort == quoted || cohort == written, "{event}: {url}");
        let told = browser
            .js("return [document.querySelector('h1').textContent, document.title, cohort.value]")
            .await;
        let told: Vec<&str> = told
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap())
            .collect();
        assert!(told[0].matches(&written).count() == 2, "{event}: {told:?}");
        // Browsers join the blanks of a title.
        let title: Vec<&str> = written.split_ascii_whitespace().collect();
        assert!(told[1].contains(&title.join(" ")), "{event}: {told:?}");
        assert!(told[2] == quoted || told[2] == written, "{event}: {told:?}");
        let rate = "return document.querySelector('table.cohorts td a[href$=\".0\"]')?.textContent";
        assert_eq!(browser.js(rate).await, "100%*", "{event}");
    }
    browser.is_quiet().await;
    browser.end().await;
}
