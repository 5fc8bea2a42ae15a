//! The dashboard over HTTP, on a store in memory.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use cohortist::Tracker;
use cohortist::sets::{Key, Plan, Set, UserId};
use cohortist::store::{Mark, Saved, Store, StoreError, StoreInfo};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::support::bent::Bent;
use crate::support::web::{empty, name, now, product, product_store, serve};

/// One product for all tests that only read.
pub static PRODUCT: LazyLock<String> =
    LazyLock::new(|| format!("http://{}", serve(product(40, 120))));

pub fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .into()
}

fn get(url: &str) -> Response<Body> {
    agent().get(url).call().unwrap()
}

pub struct Got {
    pub status: u16,
    pub body: String,
    response: Response<()>,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.response
            .headers()
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub fn read(url: &str) -> Got {
    let mut response = get(url);
    let body = response.body_mut().read_to_string().unwrap();
    let (parts, _) = response.into_parts();
    Got {
        status: parts.status.as_u16(),
        body,
        response: Response::from_parts(parts, ()),
    }
}

pub fn product_page(path: &str) -> Got {
    read(&format!("{}{path}", *PRODUCT))
}

const QUESTION: &str = "cohort=signup&returning=active&by=day";

#[test]
fn every_route_answers() {
    let routes = [
        ("/", 302, ""),
        ("/retention", 200, "text/html; charset=utf-8"),
        (
            "/retention.csv",
            200,
            "text/csv; charset=utf-8; header=present",
        ),
        (
            "/retention.tidy.csv",
            200,
            "text/csv; charset=utf-8; header=present",
        ),
        ("/retention.json", 200, "application/json"),
        ("/retention.svg", 200, "image/svg+xml"),
        ("/events", 200, "text/html; charset=utf-8"),
        ("/autocomplete.json", 200, "application/json"),
        ("/events/active", 200, "text/html; charset=utf-8"),
        (
            "/events/active.csv",
            200,
            "text/csv; charset=utf-8; header=present",
        ),
        ("/segments", 200, "text/html; charset=utf-8"),
        ("/events/none", 404, "text/html; charset=utf-8"),
        ("/people", 200, "text/html; charset=utf-8"),
        (
            "/people?set=active@2026-11-23",
            200,
            "text/html; charset=utf-8",
        ),
        (
            "/people.csv?set=active@2026-11-23",
            200,
            "text/csv; charset=utf-8; header=present",
        ),
        ("/people.csv", 400, "text/plain; charset=utf-8"),
        ("/events/none.csv", 404, "text/plain; charset=utf-8"),
        ("/events/none.json", 404, "application/json"),
        ("/in/nothing/autocomplete.json", 404, "application/json"),
        ("/in/nothing/api/v1/count", 404, "application/json"),
        ("/api/v1/nothing", 404, "application/json"),
        ("/nothing.csv", 404, "text/plain; charset=utf-8"),
        ("/users", 200, "text/html; charset=utf-8"),
        ("/users?id=7", 302, ""),
        ("/users/7", 200, "text/html; charset=utf-8"),
        ("/users/seven", 400, "text/html; charset=utf-8"),
        ("/users/7.json", 200, "application/json"),
        ("/users/-1.json", 400, "application/json"),
        ("/healthz", 200, "application/json"),
        ("/readyz", 200, "application/json"),
        ("/metrics", 200, "text/plain; version=0.0.4"),
        ("/favicon.ico", 200, "image/svg+xml"),
        ("/favicon.svg", 200, "image/svg+xml"),
        ("/nowhere", 404, "text/html; charset=utf-8"),
        ("/nowhere.json", 404, "application/json"),
        ("/static/app.00000000.css", 404, "text/html; charset=utf-8"),
    ];
    for (path, status, content_type) in routes {
        let got = product_page(path);
        assert_eq!(
            (got.status, got.header("content-type")),
            (status, content_type),
            "{path}"
        );
        assert!(
            got.header("content-security-policy")
                .starts_with("default-src 'none'; style-src 'self';"),
            "{path}"
        );
        assert_eq!(got.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(got.header("referrer-policy"), "same-origin", "{path}");

        let head = agent().head(format!("{}{path}", *PRODUCT)).call().unwrap();
        assert_eq!(head.status().as_u16(), status, "HEAD {path}");
        assert_eq!(
            head.headers()
                .get("content-type")
                .map_or("", |v| v.to_str().unwrap()),
            content_type,
            "HEAD {path}"
        );
    }
    assert_eq!(
        product_page("/").header("location"),
        format!("/retention?{QUESTION}")
    );
    let post = agent()
        .post(format!("{}/retention", *PRODUCT))
        .send("x")
        .unwrap();
    assert_eq!(
        (
            post.status().as_u16(),
            post.headers()["allow"].to_str().unwrap()
        ),
        (405, "GET, HEAD")
    );
}

#[test]
fn assets_are_hashed_and_kept_for_ever() {
    let page = product_page("/retention").body;
    for (before, content_type) in [
        ("href=\"/static/app.", "text/css"),
        ("src=\"/static/app.", "text/javascript"),
        ("href=\"/static/icon.", "image/svg+xml"),
    ] {
        let at = page.find(before).unwrap() + before.find('/').unwrap();
        let path = page[at..].split('"').next().unwrap();
        let got = product_page(path);
        assert!(
            got.status == 200 && got.header("content-type").starts_with(content_type),
            "{path}"
        );
        assert_eq!(
            got.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        if content_type == "text/css" {
            assert!(got.body.contains(".h0{") && got.body.contains(".h100{"));
        }
    }
    assert_eq!(
        product_page("/retention").header("cache-control"),
        "private, no-cache"
    );
}

#[test]
fn pages_hold_no_inline_script_or_style() {
    let people = format!("/people?{QUESTION}&at=2026-11-20&k=1");
    let own = [&people, "/people", "/users/7", "/events", "/events/active"];
    for path in [
        "/retention",
        "/retention?cohort=%28",
        "/nowhere",
        "/retention.svg",
    ]
    .iter()
    .chain(&own)
    {
        let body = product_page(path).body;
        assert!(
            !body.contains(" style=") && !body.contains("<style"),
            "{path}"
        );
        assert!(
            !body.replace("defer></script>", "").contains("</script"),
            "{path}"
        );
        assert!(
            !body.contains(" onclick") && !body.contains("javascript:"),
            "{path}"
        );
    }
}

#[test]
fn answers_are_compressed() {
    // By hand, as a client that unpacks an answer also takes the header away.
    let cases = [
        ("gzip", "gzip"),
        ("br", "br"),
        // As browsers say it: what is quick is taken …
        ("gzip, deflate, br, zstd", "gzip"),
        // … unless somebody says otherwise.
        ("gzip;q=0.5, br", "br"),
        ("gzip;q=0, br;q=0.1", "br"),
    ];
    for (accepted, encoding) in cases {
        let mut stream =
            std::net::TcpStream::connect(PRODUCT.trim_start_matches("http://")).unwrap();
        let request = format!(
            "GET /retention?{QUESTION} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: {accepted}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        assert!(
            head.contains(&format!("content-encoding: {encoding}")),
            "{head}"
        );
        assert!(head.contains("vary: accept-encoding"), "{head}");
        assert!(
            answer.len() < 18_000,
            "{} bytes as {encoding}",
            answer.len()
        );
    }
}

/// The texts of the grid's cells, newest cohort first: the first line is the average.
fn grid(page: &str) -> Vec<Vec<String>> {
    let body = page
        .split("<tbody>")
        .nth(1)
        .unwrap()
        .split("</tbody>")
        .next()
        .unwrap();
    body.split("<tr")
        .skip(1)
        .map(|row| {
            let cells = row.split("aria-label=").skip(1);
            cells
                .map(|cell| {
                    cell.split('>')
                        .nth(1)
                        .unwrap()
                        .split('<')
                        .next()
                        .unwrap()
                        .trim()
                        .to_owned()
                })
                .collect()
        })
        .collect()
}

#[test]
fn page_and_files_carry_the_same_numbers() {
    for show in ["percent", "count"] {
        let query = format!("{QUESTION}&rows=9&cols=6&as={show}");
        let lines: Vec<Vec<String>> = grid(&product_page(&format!("/retention?{query}")).body);
        let page: Vec<Vec<String>> = lines[1..].iter().rev().cloned().collect();

        let csv = product_page(&format!("/retention.csv?{query}"));
        let ending = if show == "count" { "count.csv" } else { "csv" };
        assert_eq!(
            csv.header("content-disposition"),
            format!("attachment; filename=\"retention_signup_active_day_2026-11-15.{ending}\"")
        );
        let mut reader = csv::Reader::from_reader(csv.body.as_bytes());
        let wide: Vec<Vec<String>> = reader
            .records()
            .map(|r| {
                r.unwrap()
                    .iter()
                    .skip(2)
                    .filter(|c| !c.is_empty())
                    .map(str::to_owned)
                    .collect()
            })
            .collect();

        let json: serde_json::Value =
            serde_json::from_str(&product_page(&format!("/retention.json?{query}")).body).unwrap();
        let tidy = product_page(&format!("/retention.tidy.csv?{query}")).body;
        let mut tidy_lines = tidy.lines().skip(1);
        assert_eq!(
            (
                page.len(),
                wide.len(),
                json["rows"].as_array().unwrap().len()
            ),
            (9, 9, 9)
        );
        for (i, row) in page.iter().enumerate() {
            assert_eq!(row.len(), wide[i].len());
            for (k, text) in row.iter().enumerate() {
                let cell = &json["rows"][i]["cells"][k];
                let tidy: Vec<&str> = tidy_lines.next().unwrap().split(',').collect();
                let (retained, rate) = (
                    cell["retained"].as_u64().unwrap(),
                    cell["rate"].as_f64().unwrap(),
                );
                assert_eq!(tidy[6], retained.to_string());
                assert_eq!(tidy[8], cell["state"].as_str().unwrap());
                let star = if tidy[8] == "in_progress" { "*" } else { "" };
                if show == "count" {
                    assert_eq!(
                        (text, &wide[i][k]),
                        (&format!("{retained}{star}"), &retained.to_string())
                    );
                } else {
                    assert_eq!(text, &format!("{:.1}%{star}", rate * 100.0));
                    assert_eq!(wide[i][k], format!("{:.2}", rate * 100.0));
                }
            }
        }
        assert!(tidy_lines.next().is_none());
        for (k, text) in lines[0].iter().enumerate() {
            let rate = json["average"][k]["rate"].as_f64().unwrap();
            assert_eq!(text, &format!("{:.1}%", rate * 100.0));
            if k == 1 {
                let svg = product_page(&format!("/retention.svg?{query}")).body;
                assert!(svg.contains(text.as_str()), "{text} in {svg}");
            }
        }
    }
}

#[test]
fn a_cell_says_its_whole_sentence() {
    let page = product_page(&format!("/retention?{QUESTION}&rows=3&cols=2")).body;
    let later = format!("/retention?{QUESTION}&rows=3&cols=2&measure=on_or_after");
    let later = product_page(&later).body;
    for (page, when) in [
        (&page, "came back on Sun 22"),
        (&later, "on or after Fri 20"),
    ] {
        let names = page.split("<a href=\"0.1\" aria-label=\"").nth(1).unwrap();
        let name = names.split('"').next().unwrap();
        let parts = [" of ", "% (95% ", when, " Nov 2026, complete"];
        assert!(parts.iter().all(|part| name.contains(part)), "{name}");
    }
    assert!(page.contains("No person is in two cohorts"));
    let overlapping = product_page("/retention?cohort=active&returning=active&by=day").body;
    assert!(overlapping.contains("The average has no 95% interval because its cohorts overlap: "));
    assert!(overlapping.contains(" cohort entries by "));
}

#[test]
fn bitmapists_addresses_still_open() {
    let old = "select1=signup&select1b=&select2=active&select2b=web&time_group=weeks&num_results=4&num_of_rows=3&as_percent=0";
    let new = "cohort=signup&returning=active&returning_and=web&by=week&rows=4&cols=4&as=count";
    assert_eq!(
        product_page(&format!("/retention.csv?{old}")).body,
        product_page(&format!("/retention.csv?{new}")).body
    );
    let redirect = product_page(&format!("/retention?{old}&export_csv=1"));
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (302, &*format!("/retention.csv?{new}"))
    );
    let page = product_page(&format!("/retention?{old}"));
    assert_eq!(page.status, 200);
    assert!(
        page.body
            .contains(&format!("/retention.json?{}", new.replace('&', "&#38;"))),
        "{}",
        page.body
    );
}

#[test]
fn a_bad_query_keeps_what_was_typed_and_says_what_is_wrong_where() {
    let query = "cohort=active+%26+%21&returning=%22%3Cb%3E%22&rows=0&cols=1000000000&from=2026-02-31&by=week&returning_and=web";
    let page = product_page(&format!("/retention?{query}"));
    assert_eq!(page.status, 400);
    let mut fields = Vec::new();
    for input in page
        .body
        .split("<input ")
        .skip(1)
        .map(|i| i.split('>').next().unwrap())
    {
        let attribute = |name: &str| {
            input
                .split(&format!("{name}=\""))
                .nth(1)
                .map(|v| v.split('"').next().unwrap())
        };
        if input.contains("aria-invalid") {
            fields.push((
                attribute("id").unwrap().to_owned(),
                attribute("value").unwrap().to_owned(),
            ));
        }
    }
    let wrong = [
        ("cohort", "active &#38; !"),
        ("rows", "0"),
        ("cols", "1000000000"),
        ("from", "2026-02-31"),
    ];
    assert_eq!(
        fields,
        wrong.map(|(id, value)| (id.to_owned(), value.to_owned()))
    );
    for said in [
        "column 11: expected an event name or “(”, found the end",
        "“0” is not a whole number from 1 to 400",
        "“2026-02-31” is not a date",
        "value=\"web\"",
        "value=\"&#34;&#60;b&#62;&#34;\"",
        "value=\"week\" checked",
    ] {
        assert!(page.body.contains(said), "{said} in {}", page.body);
    }
    let file = product_page(&format!("/retention.csv?{query}"));
    assert!(file.status == 400 && file.header("content-type").starts_with("text/plain"));
    assert!(
        file.body.contains("\ncohort: column 11: ")
            && file.body.contains("\nrows: `0` is not a whole number"),
        "{}",
        file.body
    );
    let chart = product_page(&format!("/retention.svg?{query}"));
    assert!(chart.status == 400 && chart.body.contains("Fix it in the form"));
    let json = product_page(&format!("/retention.json?{query}"));
    let said: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(
        (json.status, said["error"]["status"].as_u64()),
        (400, Some(400))
    );
    assert_eq!(said["error"]["fields"][0]["field"], "cohort");
    assert_eq!(said["error"]["fields"][0]["column"], 11);

    for (query, said) in [
        ("rows=400&cols=400", "a table holds at most 20000"),
        ("from=2030-01-01", "lies in the future"),
        ("from=2026-11-20&to=2026-11-01", "comes after"),
        ("from=2020-01-01&to=2026-11-01", "lie between"),
        ("by=fortnight", "“fortnight” is not a period"),
        ("returning=", "name an event"),
    ] {
        let page = product_page(
            &format!("/retention?cohort=signup&returning=active&{query}").replace(
                if query == "returning=" {
                    "&returning=active"
                } else {
                    "\0"
                },
                "",
            ),
        );
        assert_eq!(page.status, 400, "{query}");
        assert!(page.body.contains(said), "{query}: {said}");
    }
}

#[test]
fn an_unknown_event_has_a_notice_and_no_table() {
    let page = product_page("/retention?cohort=signup&returning=actve");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Nothing was ever recorded for “actve”."));
    assert!(page.body.contains(
        "<a href=\"/retention?cohort=signup&#38;returning=active&#38;by=day\">active</a>?"
    ));
    let nobody = product_page("/retention?cohort=nothing&returning=active").body;
    assert!(
        nobody.contains("Nothing was ever recorded for “nothing”.") && !nobody.contains("<table")
    );
    let undated =
        product_page("/retention?cohort=signup&returning=active&returning_and=plan:pro").body;
    assert!(
        undated.contains("“plan:pro” is only recorded without dates."),
        "{undated}"
    );
    assert!(undated.contains("returning_and=plan%3Apro%40ever&#38;by=day\">plan:pro@ever</a>?"));
    let early =
        product_page("/retention?cohort=signup&returning=active&from=2020-01-01&rows=3").body;
    assert!(
        early.contains(
            "The store has no data in 1 – 3 Jan 2020; it has data from Thu 15 Oct 2026 to "
        ),
        "{early}"
    );
}

#[test]
fn an_empty_store_says_what_to_do_next() {
    let base = format!("http://{}", serve(empty()));
    assert_eq!(read(&base).header("location"), "/retention");
    let page = read(&format!("{base}/retention"));
    assert_eq!(page.status, 200);
    for command in [
        "cohortist demo",
        "cohortist import",
        "/api/v1/marks",
        "--resp",
        "redis://",
    ] {
        assert!(page.body.contains(command), "{command}");
    }
    assert_eq!(read(&format!("{base}/retention.json")).status, 400);
}

#[test]
fn every_template_is_rendered() {
    let empty = format!("http://{}", serve(empty()));
    let pages = [
        product_page(&format!("/retention?{QUESTION}")).body,
        product_page(&format!("/retention?{QUESTION}&split=2026-11-18")).body,
        product_page(&format!("/people?{QUESTION}&at=2026-11-20&k=1&who=lost")).body,
        product_page("/users/7").body,
        product_page("/nowhere").body,
        product_page("/events").body,
        product_page("/segments").body,
        product_page("/events/active").body,
        product_page("/events/none").body,
        product_page("/trends?event=active&event=signup").body,
        read(&format!("{empty}/retention")).body,
    ]
    .concat();
    let marks = [
        ("_figures.html", "class=\"tiles\""),
        ("_form.html", "class=\"sentence\""),
        ("_grid.html", "class=\"cohorts\""),
        ("_groups.html", "class=\"cohorts groups\""),
        ("_rows.html", "<tr data-at="),
        ("_data_table.html", "<caption>Cohort sizes in short"),
        ("base.html", "<!doctype html>"),
        ("error.html", "Page not found"),
        ("event.html", "<h1 id=\"event\">active"),
        ("events.html", "<h1 id=\"events\">Events"),
        ("no_event.html", "No such event"),
        ("people.html", "class=\"ids\""),
        ("report.html", "id=\"report\">"),
        ("retention.html", "id=\"question\""),
        ("segments.html", "<h1>Segments</h1>"),
        ("user.html", "<h1>User 7</h1>"),
        ("welcome.html", "Nothing recorded yet"),
    ];
    for (template, mark) in marks {
        assert!(
            pages.contains(mark),
            "{template} was not rendered: `{mark}` is on no page"
        );
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let files: BTreeSet<String> = fs::read_dir(directory)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        files,
        marks.map(|(template, _)| template.to_owned()).into(),
        "a template without a page here"
    );
}

#[test]
fn whoever_watches_gets_counts_by_route_and_whether_the_store_answers() {
    let host = format!("http://{}", serve(empty()));
    let value = |line: &str| -> u64 {
        let text = read(&format!("{host}/metrics")).body;
        let found = text
            .lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0, |number| number.parse().unwrap())
    };
    let line = "cohortist_http_requests_total{method=\"GET\",route=\"/users/{id}\",status=\"400\"}";
    let before = value(line);
    for name in ["x1", "x2", "x3"] {
        assert_eq!(read(&format!("{host}/users/{name}")).status, 400);
    }
    // Other tests of this process may add to it.
    assert!(value(line) >= before + 3);
    assert_eq!(value("cohortist_store_up{store=\"store\"}"), 1);
    let away = format!("http://{}", serve(Tracker::new(Arc::new(Away))));
    assert!(
        read(&format!("{away}/metrics"))
            .body
            .contains("cohortist_store_up{store=\"store\"} 0")
    );
    assert!(value("cohortist_http_request_seconds_count{route=\"/users/{id}\"}") >= 3);
}

/// Six-digit cohorts, and five hundred other events.
static CROWD: LazyLock<String> = LazyLock::new(|| {
    let product = product_store(60, 120);
    let tracker = Tracker::new(Arc::clone(&product));
    let mut batch = tracker.batch();
    for event in 0..500 {
        batch
            .mark(
                &name(&format!("shop:department-{event}:checkout")),
                event,
                now(),
            )
            .unwrap();
    }
    batch.commit().unwrap();
    // Odd enough that no number is a round one.
    let crowded = Bent::of(&product)
        .counting(|counts| Ok(counts?.into_iter().map(|count| count * 3_733).collect()));
    format!("http://{}", serve(Tracker::new(crowded.shared())))
});

/// The size of a text when it is compressed as the server compresses pages.
fn gzip(text: &[u8]) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap().len()
}

#[test]
fn a_page_stays_light() {
    let question = "cohort=signup&returning=active&by=day&rows=31&cols=13";
    let mut told = Vec::new();
    for more in [
        "",
        "&measure=on_or_after",
        "&trend=3",
        "&measure=on_or_after&trend=3",
        "&measure=on_or_after&as=count&trend=3",
    ] {
        // As it is sent, drawings and all.
        let page = read(&format!("{}/retention?{question}{more}", *CROWD)).body;
        let cells = if more.contains("or_after") {
            31 * 13
        } else {
            325
        };
        assert!(
            page.matches(" came back ").count() > cells,
            "each number has its sentence"
        );
        let digits = page
            .split("<td class=\"size\"><a href=")
            .skip(1)
            .map(|rest| rest.split(['>', '<']).nth(1).unwrap());
        assert!(
            digits.clone().count() == 31 && digits.clone().all(|size| size.len() >= 7),
            "sizes of six digits"
        );
        told.push((more, gzip(page.as_bytes())));
    }
    assert!(told.iter().all(|(_, bytes)| *bytes <= 25_000), "{told:?}");
    let chart = read(&format!("{}/retention.svg?{question}", *CROWD)).body;
    assert!(chart.len() < 40_000, "{} bytes", chart.len());
    assert_eq!(
        product_page("/retention?cohort=signup&returning=active&rows=400&cols=50").status,
        200
    );
}

#[test]
fn fields_offer_the_names_in_use_and_the_biggest_without_a_script() {
    let offered = |query: &str| -> Vec<String> {
        let page = read(&format!("{}/retention?{query}", *CROWD)).body;
        let list = page
            .split("<datalist")
            .nth(1)
            .unwrap()
            .split("</datalist>")
            .next()
            .unwrap()
            .to_owned();
        list.split("value=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    };
    let usual = offered("cohort=signup&returning=active");
    assert_eq!(
        usual[..4],
        ["signup", "active", "web", "shop:department-0:checkout"].map(str::to_owned)
    );
    assert!((30..=60).contains(&usual.len()), "{} names", usual.len());
    for function in [
        "first(signup)",
        "before(active)",
        "atleast(3, signup, -6..0)",
    ] {
        assert!(usual.contains(&function.to_owned()), "{function}");
    }
    let rare = offered(
        "cohort=shop:department-499:checkout&returning=active&returning_and=web+%26+nothing",
    );
    assert_eq!(
        rare[..3],
        ["shop:department-499:checkout", "active", "web"].map(str::to_owned)
    );
    assert!(!rare.contains(&"nothing".to_owned()));
}

#[test]
fn what_was_asked_and_is_not_shown_is_said() {
    let page = |query: &str| product_page(&format!("/retention?{QUESTION}&{query}"));
    let lost = page("trend=99");
    assert!(
        lost.status == 200
            && lost
                .body
                .contains("There is no column 99 to draw the trend of: the table has 0 to 13.")
    );
    assert!(!page("trend=13").body.contains("There is no column"));
    for (query, field) in [
        ("cohort=web", "cohort"),
        ("rows=3&rows=4", "rows"),
        ("trend=1&trend=2", "trend"),
    ] {
        let twice = page(query);
        let said = format!("“{field}” is given twice");
        assert!(
            twice.status == 400 && twice.body.contains(&said),
            "{query}: {}",
            twice.body
        );
    }
    assert_eq!(
        page("cohort=signup&by=day").status,
        200,
        "twice the same is no question"
    );
    let one = page("cols=1&measure=on_or_after").body;
    assert!(
        one.contains(
            "Shown: the last 14 cohorts whose day is over; to see newer ones, set “from”."
        ),
        "{one}"
    );
    let more = page("cols=2&rows=1&measure=on_or_after").body;
    assert!(
        more.contains("Shown: the last cohort whose 2 days are over; to see newer ones, ask for fewer periods, or set")
    );
    // A table of people has its average in percent, and says so.
    assert!(
        page("as=count").body.contains(
            "Weighted average <small>share of the cohort; complete cohorts in it</small>"
        )
    );
    assert!(
        page("")
            .body
            .contains("Weighted average <small>complete cohorts in it</small>")
    );
}

#[test]
fn no_page_holds_a_nul() {
    for path in [
        "/retention?cohort=%00a&returning=b",
        "/retention?cohort=a&returning=b&by=%00",
        "/people?set=%00",
        "/people?cohort=a&returning=b&at=%00",
        "/events?sort=%00",
        "/events?q=%00",
        "/events/%00",
        "/users?id=%00",
        "/retention.csv?cohort=%00",
        "/people.csv?set=%00",
        "/nothing%00",
    ] {
        let got = product_page(path);
        assert!(
            got.status >= 400 || path.contains("q="),
            "{path}: {}",
            got.status
        );
        assert!(!got.body.contains('\0'), "{path}");
    }
    let page = product_page("/retention?cohort=%00a&returning=b").body;
    assert!(page.contains("value=\"\u{fffd}a\""), "{page}");
}

/// A store whose server is away.
pub struct Away;

impl Away {
    fn error<T>() -> Result<T, StoreError> {
        let (location, reason) = (
            "redis://10.0.0.9:6379".to_owned(),
            "connection refused".to_owned(),
        );
        Err(StoreError::Unreachable { location, reason })
    }
}

impl cohortist::store::IdMap for Away {
    fn next(&self) -> Result<Option<u64>, StoreError> {
        Self::error()
    }
    fn numbers(&self, _: &[&str]) -> Result<Option<Vec<Option<UserId>>>, StoreError> {
        Self::error()
    }
    fn settle_numbers(&self) -> Result<bool, StoreError> {
        Self::error()
    }
    fn begin(&self) -> Result<bool, StoreError> {
        Self::error()
    }
    fn withdraw(&self) -> Result<(), StoreError> {
        Self::error()
    }
    fn assign(&self, _: &[&str]) -> Result<Vec<UserId>, StoreError> {
        Self::error()
    }
    fn texts(&self, _: &[UserId]) -> Result<Option<Vec<Option<String>>>, StoreError> {
        Self::error()
    }
    fn remove(&self, _: &[&str]) -> Result<(), StoreError> {
        Self::error()
    }
    fn clear(&self) -> Result<u64, StoreError> {
        Self::error()
    }
}

impl Store for Away {
    fn string_ids(&self) -> &dyn cohortist::store::IdMap {
        self
    }
    fn apply(&self, _: &[Mark]) -> Result<(), StoreError> {
        Self::error()
    }
    fn count(&self, _: &Plan) -> Result<Vec<u64>, StoreError> {
        Self::error()
    }
    fn members(&self, _: &Set, _: Option<UserId>, _: usize) -> Result<Vec<UserId>, StoreError> {
        Self::error()
    }
    fn contains(&self, _: &[Key], _: UserId) -> Result<Vec<bool>, StoreError> {
        Self::error()
    }
    fn delete(&self, _: &[Key]) -> Result<u64, StoreError> {
        Self::error()
    }
    fn save(&self, _: &Set, _: &Key) -> Result<Saved, StoreError> {
        Self::error()
    }
    fn describe(&self) -> Result<StoreInfo, StoreError> {
        Self::error()
    }
}

impl cohortist::store::KeyListing for Away {
    fn keys(&self, _: &str) -> Result<Vec<Key>, StoreError> {
        Self::error()
    }
}

impl cohortist::store::ChangeFeed for Away {}

impl cohortist::store::Documents for Away {}

impl cohortist::store::Maintenance for Away {}

#[test]
fn a_store_that_is_away_is_said_honestly() {
    let base = format!("http://{}", serve(Tracker::new(Arc::new(Away))));
    let set = "set=active@2026-11-23";
    let retention = ["", ".csv"].map(|twin| format!("/retention{twin}?{QUESTION}"));
    let people = ["", ".csv"].map(|twin| format!("/people{twin}?{set}"));
    let paths = retention.iter().chain(&people).map(String::as_str);
    for path in paths.chain(["/", "/retention", "/people", "/users/7", "/users?id=x"]) {
        let page = read(&format!("{base}{path}"));
        assert_eq!(
            (page.status, page.header("retry-after")),
            (503, "2"),
            "{path}"
        );
        let told = page.body.contains("The store does not answer") || path.contains(".csv");
        assert!(told && page.body.contains("connection refused"), "{path}");
        assert!(
            page.header("content-security-policy")
                .starts_with("default-src 'none'")
        );
    }
    // A slip of the pen is none of the store's.
    for slip in [
        "/retention?cohort=(&returning=a",
        "/retention?cohort=a&returning=b&rows=400&cols=400",
        "/people?set=(",
    ] {
        let page = read(&format!("{base}{slip}"));
        assert!(
            page.status == 400 && page.body.contains("class=\"wrong\""),
            "{slip}: {}",
            page.body
        );
    }
    for slip in [
        "/retention.csv?cohort=(&returning=a",
        "/people.csv?set=(",
        "/retention.json?cohort=(&returning=a",
    ] {
        assert_eq!(read(&format!("{base}{slip}")).status, 400, "{slip}");
    }
    let json = read(&format!("{base}/retention.json?{QUESTION}"));
    let said: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(
        (json.status, said["error"]["status"].as_u64()),
        (503, Some(503))
    );
    assert_eq!(read(&format!("{base}/healthz")).status, 200);
    let ready = read(&format!("{base}/readyz"));
    assert_eq!((ready.status, ready.header("retry-after")), (503, "2"));
    assert!(ready.body.contains("\"unavailable\""));
}
