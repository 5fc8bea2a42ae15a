//! What a configuration makes of the pages: stores, labels, saved segments, a question; and what
//! the pages may change.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::server::{Dashboard, Glossary, NamedStore, Pattern};
use cohortist::sets::{EventName, Segments, Set, UserId};
use cohortist::store::StoreError;

use crate::http::{Got, agent, read};
use crate::support::bent::Bent;
use crate::support::stores::each_store;
use crate::support::web::{empty, name, now, product, product_store, serve, serve_dashboard};

const QUESTION: &str = "cohort=signup&returning=active&by=day";

fn saved(pairs: &[(&str, &str)]) -> Segments {
    Segments::new(
        pairs
            .iter()
            .map(|(n, text)| (name(n), text.parse().unwrap())),
    )
    .unwrap()
}

/// Two stores, and everything a configuration may say.
fn dashboard() -> Dashboard {
    let segments = saved(&[
        ("regulars", "active & web"),
        ("paying", "plan:pro & regulars"),
    ]);
    let shop = product(20, 40).with_segments(segments.clone());
    shop.mark(&name("noise:a"), 1, now()).unwrap();
    let other = empty().with_segments(segments);
    other.mark(&name("signup"), 1, now()).unwrap();
    let store = |name: &str, tracker, read_only| NamedStore {
        name: name.to_owned(),
        tracker,
        read_only,
    };
    Dashboard {
        title: "Acme <numbers>".to_owned(),
        stores: vec![store("shop", shop, false), store("archive-1", other, true)],
        glossary: Glossary {
            labels: [(name("active"), "Are \"active\"".to_owned())].into(),
            groups: vec![(
                "Doing".to_owned(),
                vec![Pattern::new("active"), Pattern::new("we*")],
            )],
            hidden: vec![Pattern::new("noise:*")],
            ..cohortist::server::Glossary::default()
        },
        question: cohortist::server::query::RawQuery::read(
            "cohort=signup&returning=regulars&by=week",
        )
        .check()
        .ok(),
        clock: Clock::Fixed(now()),
        ..Dashboard::new(empty(), Clock::Fixed(now()))
    }
}

fn post(url: &str, body: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
    let mut request = agent()
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send(body).unwrap();
    let location = response
        .headers()
        .get("location")
        .map_or("", |l| l.to_str().unwrap())
        .to_owned();
    (
        response.status().as_u16(),
        location,
        response.body_mut().read_to_string().unwrap(),
    )
}

#[test]
fn each_store_has_pages_of_its_own_and_the_head_switches_between_them() {
    let host = format!("http://{}", serve_dashboard(dashboard()));
    let page = read(&format!("{host}/retention?{QUESTION}")).body;
    assert!(page.contains("· Acme &#60;numbers&#62;</title>"), "{page}");
    assert!(page.contains(&format!(
        "href=\"/in/archive-1/retention?{}\"",
        QUESTION.replace('&', "&#38;")
    )));
    let other = read(&format!("{host}/in/archive-1/retention?{QUESTION}"));
    assert_eq!(other.status, 200);
    assert!(other.body.contains(&format!(
        "href=\"/retention?{}\"",
        QUESTION.replace('&', "&#38;")
    )));
    // Whatever is followed from there stays there.
    let paths = [
        "/retention",
        "/events",
        "/events/signup",
        "/events/nobody",
        "/people",
        "/people?set=signup@2026-11-23",
    ];
    for path in
        paths
            .into_iter()
            .chain(["/users/1", "/users?id=x", "/retention?cohort=(", "/nowhere"])
    {
        let page = read(&format!("{host}/in/archive-1{path}")).body;
        let has_base = page.contains("<base href=\"/in/archive-1/people/");
        for part in ["href=\"", "action=\"", "data-copy=\""] {
            for link in page
                .split(part)
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap())
            {
                let own = link.starts_with("/in/archive-1/")
                    || link.starts_with("/static/")
                    || link.starts_with('#')
                    || (has_base && !link.contains('/'));
                let switch = page.contains(&format!("<a href=\"{link}\">shop</a>"));
                assert!(own || switch, "{path} leads to {link}");
            }
        }
    }
    for (path, to) in [
        (
            "/",
            "/in/archive-1/retention?cohort=signup&returning=regulars&by=week",
        ),
        ("/users?id=7", "/in/archive-1/users/7"),
        (
            "/retention?cohort=a&returning=b&swap=1",
            "/in/archive-1/retention?cohort=b&returning=a&by=day",
        ),
        (
            "/people/cohort=a%26returning=b/2026-11-20/2.1",
            "/in/archive-1/people?cohort=a&returning=b&at=2026-11-22&k=1",
        ),
    ] {
        assert_eq!(
            read(&format!("{host}/in/archive-1{path}")).header("location"),
            to
        );
    }
    assert_eq!(read(&format!("{host}/in/nothing/retention")).status, 404);
    // The first store's pages are found behind its name too, and no other name is a way to them.
    for (path, to) in [
        (
            "/in/shop/retention?cohort=a&returning=b",
            "/retention?cohort=a&returning=b",
        ),
        ("/in/shop", "/"),
        ("/in/shop/", "/"),
        (
            "/in/shop/events/a%2Fb.csv?by=week",
            "/events/a%2Fb.csv?by=week",
        ),
        (
            "/in/shop/api/v1/count?set=x@ever",
            "/api/v1/count?set=x@ever",
        ),
    ] {
        let moved = read(&format!("{host}{path}"));
        assert_eq!(
            (moved.status, moved.header("location")),
            (308, to),
            "{path}"
        );
    }
    for path in [
        "/in/shopper/retention",
        "/in/shop//evil.example",
        "/in/nothing",
        "/in/archive-1/in/shop/retention",
    ] {
        let got = read(&format!("{host}{path}"));
        assert_eq!(got.status, 404, "{path}");
        assert!(
            !got.body.contains("/in/archive-1/in/") && !got.body.contains("//evil"),
            "{path}: {}",
            got.body
        );
    }
    let unknown = read(&format!("{host}/in/nothing/retention?x=1")).body;
    assert!(
        unknown.contains("href=\"/in/archive-1/retention?x=1\""),
        "{unknown}"
    );
    let elsewhere = read(&format!("{host}//evil.example/retention?x=1"));
    assert!(
        elsewhere.status == 404 && !elsewhere.body.contains("evil.example"),
        "{}",
        elsewhere.body
    );
    let json = read(&format!("{host}/in/archive-1/retention.json?{QUESTION}")).body;
    assert!(json.contains("\"entries\": 1,"), "{json}");
}

#[test]
fn labels_groups_and_hidden_events_are_kept() {
    let host = format!("http://{}", serve_dashboard(dashboard()));
    let page = read(&format!("{host}/retention?{QUESTION}")).body;
    assert!(
        page.contains("came back to <b>Are &#34;active&#34;</b></h1>")
            && page.contains("→ Are &#34;active&#34;, daily"),
        "{page}"
    );
    assert!(
        page.contains("<option value=\"regulars\">")
            && page.contains("<option value=\"plan:pro@ever\">")
    );
    assert!(!page.contains("noise:a"));
    let events = read(&format!("{host}/events")).body;
    let order: Vec<usize> = [
        "rowgroup\" colspan=\"9\">Doing",
        "<small>active</small>",
        ">web</a>",
        ">Other</th>",
        ">signup</a>",
    ]
    .map(|part| {
        events
            .find(part)
            .unwrap_or_else(|| panic!("no {part} in {events}"))
    })
    .into();
    assert!(order.is_sorted() && !events.contains("noise:a"));
    let undated = events.split("id=\"undated\"").nth(1).unwrap();
    assert!(
        undated.find("<h3>Other</h3>").unwrap() < undated.find(">plan:pro</a>").unwrap(),
        "{undated}"
    );
    assert!(
        read(&format!("{host}/events?q=are"))
            .body
            .contains("<small>active</small>"),
        "the label is searched"
    );
    assert_eq!(
        read(&format!("{host}/events/noise:a")).status,
        200,
        "hidden is not secret"
    );
    let user = read(&format!("{host}/users/1")).body;
    assert!(user.contains(">Are &#34;active&#34;</h3>"), "{user}");
}

#[test]
fn saved_segments_count_what_they_stand_for_and_keep_their_name() {
    let host = format!("http://{}", serve_dashboard(dashboard()));
    let named = read(&format!(
        "{host}/retention?cohort=signup&returning=paying%40ever+%7C+regulars&by=day"
    ));
    assert_eq!(named.status, 200);
    assert!(
        named
            .body
            .contains("<span>paying is <code>plan:pro &#38; regulars</code></span>"),
        "{}",
        named.body
    );
    let rows = |query: &str| {
        let json: serde_json::Value =
            serde_json::from_str(&read(&format!("{host}/retention.json?{query}")).body).unwrap();
        (json["rows"].clone(), json["query"]["returning"].clone())
    };
    let (saved, said) = rows("cohort=signup&returning=regulars&by=day");
    assert_eq!(said, "regulars");
    let (written_out, _) = rows("cohort=signup&returning=active+%26+web&by=day");
    assert_eq!(saved, written_out);
    assert_ne!(saved, rows("cohort=signup&returning=active&by=day").0);
    // In sets and in cells as well.
    let count = |path: &str| {
        let page = read(&format!("{host}{path}")).body;
        let heading = page
            .split("<h1 id=\"who\">")
            .nth(1)
            .unwrap_or_else(|| panic!("{page}"))
            .to_owned();
        heading
            .split([' ', '<'])
            .next()
            .unwrap()
            .replace(',', "")
            .parse::<u64>()
            .unwrap()
    };
    assert!(count("/people?set=regulars@2026-11-22") > 0);
    assert_eq!(
        count("/people?set=regulars@2026-11-22"),
        count("/people?set=(active+%26+web)@2026-11-22")
    );
    let cell = saved[12]["cells"][1]["retained"].as_u64().unwrap();
    assert_eq!(
        count("/people?cohort=signup&returning=regulars&by=day&at=2026-11-22&k=1"),
        cell
    );
    // A saved segment of an event that never was says so, and offers no wrong mending.
    let unknown = Dashboard::new(
        product(3, 5).with_segments(saved_of("x", "actve")),
        Clock::Fixed(now()),
    );
    let page = read(&format!(
        "http://{}/retention?cohort=signup&returning=x",
        serve_dashboard(unknown)
    ))
    .body;
    assert!(
        page.contains("Nothing was ever recorded for “actve”, which a saved segment names.<"),
        "{page}"
    );
}

fn saved_of(name: &str, text: &str) -> Segments {
    saved(&[(name, text)])
}

#[test]
fn ranges_swap_order_shades_and_trend_need_no_script() {
    let host = format!("http://{}", serve(product(40, 60)));
    let location = |query: &str| {
        read(&format!("{host}/retention?{QUESTION}&{query}"))
            .header("location")
            .to_owned()
    };
    assert_eq!(
        location("range=90d&as=count&from=&rows=3"),
        "/retention?cohort=signup&returning=active&by=day&rows=90&cols=30&as=count"
    );
    assert_eq!(
        location("swap=1&cohort_and=web"),
        "/retention?cohort=active&returning=signup&returning_and=web&by=day"
    );
    let wrong = read(&format!(
        "{host}/retention?cohort=(&returning=active&swap=1"
    ));
    assert!(
        wrong.status == 400
            && wrong
                .body
                .contains("id=\"returning\" name=\"returning\" value=\"(\""),
        "{}",
        wrong.body
    );
    assert_eq!(
        read(&format!("{host}/retention?{QUESTION}&range=1h")).status,
        400
    );
    let page = read(&format!("{host}/retention?{QUESTION}&rows=30&cols=30")).body;
    assert!(page.contains("value=\"30d\" aria-pressed=\"true\">30 days"));

    let labels = |query: &str| -> Vec<String> {
        let page = read(&format!("{host}/retention?{QUESTION}&{query}")).body;
        let rows = page
            .split("<th scope=\"row\">")
            .skip(1)
            .map(|row| row.split('<').next().unwrap().to_owned());
        rows.filter(|label| label.contains("Nov")).collect()
    };
    let (newest, mut oldest) = (labels(""), labels("order=oldest"));
    oldest.reverse();
    assert!(
        newest == oldest && newest.len() == 14 && newest[0] == "Mon 23 Nov",
        "{newest:?}"
    );

    let fitted = read(&format!("{host}/retention?{QUESTION}&scale=fitted")).body;
    let shades: Vec<u32> = fitted
        .split("<td class=")
        .skip(1)
        .filter_map(|cell| {
            cell.trim_start_matches('"')
                .strip_prefix('h')?
                .split(['>', ' ', '"'])
                .next()?
                .parse()
                .ok()
        })
        .collect();
    assert_eq!(
        (shades.iter().min(), shades.iter().max()),
        (Some(&0), Some(&100))
    );
    let absolute = read(&format!("{host}/retention?{QUESTION}&scale=absolute")).body;
    assert!(
        absolute.contains("</span> 100% of the cohort")
            && !fitted.contains("</span> 100% of the cohort")
    );
    // What only concerns the page is in no file's address, and stays when the form is sent.
    assert!(fitted.contains("<input type=\"hidden\" name=\"scale\" value=\"fitted\">"));
    assert!(
        !fitted.contains("/retention.csv?cohort=signup&#38;returning=active&#38;by=day&#38;scale")
    );

    let page = read(&format!("{host}/retention?{QUESTION}")).body;
    let base = page
        .split("<base href=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert_eq!(
        read(&format!("{host}{base}trend-3")).header("location"),
        format!("/retention?{QUESTION}&trend=3#trend")
    );
    for wrong in ["trend-x", "1.x", "x", "1.2.3", "-1", "99999999999", "1/2"] {
        assert_eq!(read(&format!("{host}{base}{wrong}")).status, 404, "{wrong}");
    }
}

#[test]
fn people_are_saved_as_a_segment_whole_and_never_over_another() {
    each_store(|kind, store| {
        let tracker = Tracker::new(store);
        let mut batch = tracker.batch();
        for user in 0..300 {
            batch.mark(&name("signup"), user, now()).unwrap();
            if user % 3 == 0 {
                batch.mark(&name("active"), user, now()).unwrap();
            }
        }
        batch.commit().unwrap();
        let mut dashboard = Dashboard::new(tracker.clone(), Clock::Fixed(now()));
        dashboard.stores.push(NamedStore {
            name: "locked".into(),
            tracker: tracker.clone(),
            read_only: true,
        });
        let host = format!("http://{}", serve_dashboard(dashboard));
        let lost = format!("/people?{QUESTION}&at=2026-11-23&k=0&who=lost");
        assert!(
            read(&format!("{host}{lost}"))
                .body
                .contains("<summary>Save these 200 people as a segment</summary>")
        );

        let (status, location, body) = post(&format!("{host}{lost}"), "name=idle+%22folk%22", &[]);
        assert_eq!(
            (status, &*location),
            (
                303,
                "/people?set=%22idle+%5C%22folk%5C%22%22%40ever&saved=1"
            ),
            "{kind}: {body}"
        );
        let shown = read(&format!("{host}{location}"));
        assert!(
            shown
                .body
                .contains("200 people who are idle &#34;folk&#34;"),
            "{kind}: {}",
            shown.body
        );
        assert!(
            shown.body.contains("see how many came back"),
            "{}",
            shown.body
        );
        let ever = Set::ever(&EventName::new("idle \"folk\"").unwrap());
        let people: Vec<UserId> = tracker.members(&ever).map(Result::unwrap).collect();
        assert_eq!(
            people,
            (0..300).filter(|user| user % 3 > 0).collect::<Vec<_>>(),
            "{kind}"
        );

        // Nothing is overwritten, no name is bent, and nothing is made of nobody.
        for (query, said) in [
            ("name=idle+%22folk%22", "already exists"),
            ("name=signup", "already exists"),
            ("name=", "must not be empty"),
            ("", "must not be empty"),
            ("name=bitop_x", "bitop_"),
            ("name=a%00b", "control"),
        ] {
            let (status, _, body) = post(&format!("{host}{lost}"), query, &[]);
            assert!(
                status == 400 && body.contains(said) && body.contains("id=\"wrong-name\""),
                "{kind}: {query}: {body}"
            );
        }
        let nobody = format!("{host}/people?set=active@2026-11-22");
        assert!(!read(&nobody).body.contains("class=\"save\""));
        assert_eq!(post(&nobody, "name=ghosts", &[]).0, 400);
        assert_eq!(
            post(&format!("{host}/people?set=("), "name=ghosts", &[]).0,
            400
        );
        // Another site's form, and a dashboard that only reads.
        for foreign in [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
        ] {
            let (status, _, body) = post(&format!("{host}{lost}"), "name=mine", &[foreign]);
            assert!(
                status == 403 && body.contains("not sent by a page of this dashboard"),
                "{kind}: {body}"
            );
        }
        assert!(
            !read(&format!("{host}/in/locked{lost}"))
                .body
                .contains("class=\"save\"")
        );
        let (status, _, body) = post(&format!("{host}/in/locked{lost}"), "name=mine", &[]);
        assert!(status == 403 && body.contains("read-only"), "{body}");
        assert_eq!(
            tracker
                .never_recorded([&name("mine"), &name("ghosts")])
                .unwrap()
                .len(),
            2,
            "{kind}"
        );
        let own = host.clone();
        assert_eq!(
            post(&format!("{host}{lost}"), "name=mine", &[("origin", &own)]).0,
            303
        );
    });
}

/// The pieces of an answer as they arrive; after the first of them `then` is called.
fn arriving(url: &str, then: impl Fn()) -> (u16, Vec<String>) {
    let response = agent()
        .get(url)
        .header("accept-encoding", "gzip")
        .call()
        .unwrap();
    let status = response.status().as_u16();
    let (mut reader, mut pieces, mut buffer) = (
        response.into_body().into_reader(),
        Vec::new(),
        vec![0; 1 << 16],
    );
    loop {
        let read = std::io::Read::read(&mut reader, &mut buffer).unwrap();
        if read == 0 {
            return (status, pieces);
        }
        pieces.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
        then();
    }
}

#[test]
fn a_slow_answers_frame_comes_first_and_the_whole_is_the_same_page() {
    let product = product_store(20, 40);
    let failure: Arc<Mutex<Option<StoreError>>> = Arc::default();
    let fails = Arc::clone(&failure);
    // Nothing is counted before the first piece of the page is here.
    let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let waits = Arc::clone(&gate);
    let open = || {
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
    };
    let slow = Bent::of(&product)
        .before_counting(move |plan| {
            // A few bitmaps tell where the data ends.
            if plan.roots().len() > 20 {
                let shut = waits.0.lock().unwrap();
                drop(
                    waits
                        .1
                        .wait_timeout_while(shut, Duration::from_secs(60), |opened| !*opened)
                        .unwrap(),
                );
            }
        })
        .counting(move |counts| fails.lock().unwrap().clone().map_or(counts, Err));
    let host = format!("http://{}", serve(Tracker::new(slow.shared())));
    let quick = format!("http://{}", serve(Tracker::new(product)));
    let path = format!("/retention?{QUESTION}&rows=10&trend=1");

    let (status, pieces) = arriving(&format!("{host}{path}"), open);
    let whole: String = pieces.concat();
    let frame = &pieces[0];
    assert_eq!(status, 200);
    assert!(
        frame.contains("id=\"cohort\"")
            && frame.contains("Counting …")
            && !frame.contains("<table"),
        "{frame}"
    );
    let expected = read(&format!("{quick}{path}")).body;
    let (before, after) = whole.split_once("<p class=\"notice waiting\"").unwrap();
    let (_, after) = after.split_once("</p>\n").unwrap();
    let (expected_before, expected_after) = expected.split_once("<!--answer-->").unwrap();
    assert_eq!(after, expected_after);
    assert_eq!(before, expected_before);

    // What cannot be asked needs no store, so it is said at once and with its status.
    assert_eq!(
        read(&format!("{host}/retention?cohort=(&returning=b")).status,
        400
    );
    // A store that fails on the way is told where the table would be.
    *failure.lock().unwrap() = Some(StoreError::Unreachable {
        location: "there".into(),
        reason: "it broke off".into(),
    });
    *gate.0.lock().unwrap() = false;
    let (_, pieces) = arriving(&format!("{host}{path}"), open);
    let whole: String = pieces.concat();
    assert!(
        whole.contains("The store does not answer") && whole.contains("it broke off"),
        "{whole}"
    );
    assert!(whole.trim_end().ends_with("</html>") && whole.matches("</html>").count() == 1);
}

#[test]
fn a_head_request_and_a_file_wait_for_the_answer() {
    let product = product_store(5, 10);
    let gone = || StoreError::Unreachable {
        location: "there".into(),
        reason: "gone".into(),
    };
    let slow = Bent::of(&product)
        .before_counting(|_| std::thread::sleep(Duration::from_secs(1)))
        .counting(move |_| Err(gone()));
    let host = format!("http://{}", serve(Tracker::new(slow.shared())));
    let got: Got = read(&format!("{host}/retention.csv?{QUESTION}"));
    assert_eq!((got.status, got.header("retry-after")), (503, "2"));
    let head = agent()
        .head(format!("{host}/retention?{QUESTION}"))
        .call()
        .unwrap();
    assert_eq!(head.status().as_u16(), 503);
}

/// Every text of a page that speaks: what is read, heard or hovered over. Left out are fields and
/// their buttons, which hold what is typed, and names that stand in small letters beside their
/// label.
fn prose(page: &str) -> Vec<String> {
    let html = scraper::Html::parse_document(page);
    let is_name = |element: &scraper::ElementRef<'_>| {
        matches!(element.value().name(), "input" | "option" | "small")
    };
    let mut found = Vec::new();
    for element in html
        .tree
        .root()
        .descendants()
        .filter_map(scraper::ElementRef::wrap)
    {
        if is_name(&element) || element.value().attr("class") == Some("remove") {
            continue;
        }
        let said = ["aria-label", "title"].map(|name| element.value().attr(name));
        found.extend(said.into_iter().flatten().map(str::to_owned));
        found.extend(
            element
                .children()
                .filter_map(|child| child.value().as_text().map(|text| text.to_string())),
        );
    }
    found
}

#[test]
fn a_label_stands_wherever_a_page_speaks_of_its_event() {
    let shop = empty().with_segments(saved(&[("fans", "xlogin & xweb")]));
    let mut batch = shop.batch();
    for user in 0..9 {
        for event in ["signup", "xlogin", "xweb"] {
            batch.mark(&name(event), user, now()).unwrap();
        }
        batch
            .mark_ever(&name("xlogin"), user)
            .mark_ever(&name("xpro"), user);
    }
    batch.commit().unwrap();
    let mut dashboard = Dashboard::new(shop, Clock::Fixed(now()));
    let labels = [
        ("xlogin", "Log in"),
        ("xweb", "Use the web"),
        ("xpro", "Pay"),
        ("xnever", "Fly"),
    ];
    dashboard.glossary.labels = labels
        .map(|(event, label)| (name(event), label.to_owned()))
        .into();
    let host = format!("http://{}", serve_dashboard(dashboard));
    for (path, said) in [
        // Heading, axes, the table's caption and the chart's file.
        (
            "/retention?cohort=xlogin&returning=xweb&trend=0",
            "of Log in that came back to Use the web,",
        ),
        (
            "/retention?cohort=xlogin&returning=xweb&trend=0",
            "days after Log in",
        ),
        (
            "/retention?cohort=xlogin&returning=xweb&trend=0",
            "day of Log in",
        ),
        (
            "/retention.svg?cohort=xlogin&returning=xweb",
            "Log in → Use the web, daily cohorts",
        ),
        // Within an expression, without dates, as a filter and in what a saved segment stands for.
        (
            "/retention?cohort=xlogin+%26+xweb&returning=xpro@ever",
            "of Log in & Use the web that came back to Pay@ever,",
        ),
        (
            "/retention?cohort=signup&cohort_and=xlogin&returning=fans",
            "and Log in",
        ),
        (
            "/retention?cohort=signup&cohort_and=xlogin&returning=fans",
            "Log in & Use the web",
        ),
        // Notices.
        ("/retention?cohort=signup&returning=xnever", "for “Fly”"),
        (
            "/retention?cohort=signup&returning=xpro",
            "“Pay” is only recorded without dates",
        ),
        (
            "/retention?cohort=xlogin&returning=xweb&by=month",
            "† Log in is first recorded",
        ),
        // People, in a cell and in a set.
        (
            "/people?cohort=xlogin&returning=xweb&at=2026-11-23&k=0",
            "who did Log in ",
        ),
        (
            "/people?cohort=xlogin&returning=xweb&at=2026-11-23&k=0",
            "came back to Use the web ",
        ),
        (
            "/people?set=(xlogin+%26+xweb)@2026-11-23",
            "9 people who did Log in and Use the web on Mon 23 Nov 2026",
        ),
        ("/people?set=xnever@2026-11-23", "for “Fly”"),
        // The event's own page, one without dates, the list and a user.
        ("/events/xlogin", "People who did Log in, by day"),
        ("/events/xpro", "“Pay” is a property"),
        ("/events", "Log in"),
        ("/users/3", "Calendar of Log in"),
    ] {
        let page = read(&format!("{host}{path}"));
        assert_eq!(page.status, 200, "{path}");
        let prose = prose(&page.body);
        assert!(
            prose.iter().any(|text| text.contains(said)),
            "{path}: no {said} in {prose:#?}"
        );
        for event in ["xlogin", "xweb", "xnever"] {
            let raw = prose.iter().find(|text| text.contains(event));
            assert_eq!(raw, None, "{path}: {event}");
        }
    }
}
