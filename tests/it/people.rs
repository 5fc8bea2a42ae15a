//! The people behind the numbers, over HTTP: lists as long as their numbers say, and what one user
//! did.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{NaiveDate, TimeDelta};
use cohortist::Run;
use cohortist::Tracker;
use cohortist::calendar::{Grain, Period};
use cohortist::reports::user::User;
use cohortist::sets::{Key, UserId};
use cohortist::store::{self, StoreError};
use proptest::prelude::*;

use crate::http::{agent, product_page, read};
use crate::support::bent::Bent;
use crate::support::features::{live_toy, toy_now};
use crate::support::stores::each_store;
use crate::support::web::{empty, name, now, serve};

const CELL: &str = "cohort=signup&returning=active&by=day&at=2026-11-20";

/// The addresses on a page that begin so, as a browser reads them.
fn links(page: &str, start: &str) -> Vec<String> {
    let found = page
        .split("href=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().replace("&#38;", "&"));
    found.filter(|href| href.starts_with(start)).collect()
}

fn ids(csv: &str) -> Vec<UserId> {
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("user_id"));
    lines.map(|line| line.parse().unwrap()).collect()
}

/// The number a sentence begins with.
fn leading(text: &str) -> usize {
    text.split(' ')
        .next()
        .unwrap()
        .replace(',', "")
        .parse()
        .unwrap()
}

#[test]
fn every_number_of_a_table_opens_as_many_people() {
    for measure in ["on", "on_or_after&from=2026-11-12"] {
        let table = format!(
            "cohort=signup&returning=active&returning_and=web&by=day&rows=12&cols=9&measure={measure}"
        );
        let page = product_page(&format!("/retention?{table}")).body;
        let base = page
            .split("<base href=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let body = page
            .split("<tbody>")
            .nth(1)
            .unwrap()
            .split("</tbody>")
            .next()
            .unwrap();
        let (mut seen, mut sizes) = (0, 0);
        for (i, link) in body.split("<a href=\"").skip(1).enumerate() {
            let (href, rest) = link.split_once('"').unwrap();
            // An average has repeats, and a test of its own.
            if href.starts_with("/people?set=") {
                continue;
            }
            let is_size = !href.contains('.');
            // All sizes, and every fifth cell.
            if !is_size && i % 5 != 0 {
                continue;
            }
            let number = if is_size {
                sizes += 1;
                leading(&rest.split_once('>').unwrap().1.replace(['*', '<'], " "))
            } else {
                seen += 1;
                leading(rest.split("aria-label=\"").nth(1).unwrap())
            };
            let there = product_page(&format!("{base}{href}"));
            assert_eq!(there.status, 302, "{href}");
            let people = product_page(there.header("location"));
            assert_eq!(people.status, 200, "{href}");
            let heading = people.body.split("<h1 id=\"who\">").nth(1).unwrap();
            assert_eq!(leading(heading), number, "{href}");
            let csv = &links(&people.body, "/people.csv?")[0];
            let listed = ids(&product_page(csv).body);
            assert_eq!(listed.len(), number, "{href}");
            assert!(listed.is_sorted_by(|a, b| a < b));
            let shown = links(&people.body, "/users/");
            assert_eq!(shown.len(), number.min(100));
            assert!(
                shown
                    .iter()
                    .zip(&listed)
                    .all(|(link, id)| *link == format!("/users/{id}"))
            );
            if !is_size {
                // The other tabs: who did not, and both together.
                let of = |who: &str| ids(&product_page(&csv.replace("who=returned", who)).body);
                let (lost, cohort) = (of("who=lost"), of("who=cohort"));
                let both: BTreeSet<_> = listed.iter().chain(&lost).copied().collect();
                assert_eq!(
                    (both.len(), both),
                    (listed.len() + lost.len(), cohort.into_iter().collect()),
                    "{href}"
                );
            }
        }
        assert!(sizes == 12 && seen > 8, "{sizes} sizes, {seen} cells");
    }
}

#[test]
fn a_cell_is_told_as_a_sentence_and_leads_back() {
    let page = product_page(&format!("/people?{CELL}&rows=9&k=2&who=lost")).body;
    let whole = page
        .split("<h1 id=\"who\">")
        .nth(1)
        .unwrap()
        .split("</h1>")
        .next()
        .unwrap();
    assert_eq!(
        whole.matches("<span>").count(),
        2,
        "no line breaks in a date: {whole}"
    );
    let heading = whole.replace("<span>", "").replace("</span>", "");
    assert!(
        heading.ends_with(" people who did signup on Fri 20 Nov 2026 did not come back to active on Sun 22 Nov 2026"),
        "{heading}"
    );
    assert!(page.contains(&format!("<title>{heading} · cohortist</title>")));
    assert!(!page.contains("So far"));
    assert_eq!(
        links(&page, "/retention?"),
        ["/retention?cohort=signup&returning=active&by=day&rows=9"]
    );
    assert_eq!(links(&page, "/people?").len(), 3, "three tabs");
    let file = product_page(&format!("/people.csv?{CELL}&rows=9&k=2&who=lost"));
    assert_eq!(
        file.header("content-disposition"),
        "attachment; filename=\"people_signup_active_day_2026-11-20_2_lost.csv\""
    );
    let running = product_page(&format!("/people?{CELL}&k=3")).body;
    assert!(
        running.contains("So far: Mon 23 Nov 2026 is still in progress"),
        "{running}"
    );
    let later = product_page(&format!("/people?{CELL}&k=1&measure=on_or_after&cols=3")).body;
    let from_to =
        " came back to active from <span>Sat 21 Nov 2026</span> to <span>Sun 22 Nov 2026</span><";
    assert!(later.contains(from_to), "{later}");
    let cohort = product_page(&format!("/people?{CELL}")).body;
    assert!(
        cohort.contains(" people who did signup on <span>Fri 20 Nov 2026</span></h1>")
            && !cohort.contains("class=\"tabs\"")
    );
    let growing = product_page("/people?cohort=signup&returning=active&by=week&at=2026-W48").body;
    assert!(growing.contains("So far: this week is still in progress, and the cohort may grow."));
}

/// What stands in the field of a page of people.
fn typed(page: &str) -> String {
    let value = page
        .split("id=\"set\" name=\"set\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    value.replace("&#38;", "&").replace("&#34;", "\"")
}

#[test]
fn a_cell_is_also_a_set_that_can_be_asked_for() {
    for (query, returned) in [
        (CELL.to_owned() + "&k=2", "signup@2026-11-20 & active@2026-11-22"),
        (CELL.to_owned() + "&k=1&measure=on_or_after&cols=3", "signup@2026-11-20 & within(active, 1..2)@2026-11-20"),
        (CELL.to_owned() + "&k=2&measure=unbroken", "signup@2026-11-20 & atleast(2, active, 1..2)@2026-11-20"),
        (CELL.to_owned() + "&k=0&brackets=1-2", "signup@2026-11-20 & within(active, 1..2)@2026-11-20"),
        (
            "cohort=signup|web&cohort_and=plan:pro@ever&returning=active&returning_and=!plan:pro@ever%26web&by=week&at=2026-W46&k=1"
                .replace("!plan:pro@ever%26web", "web%26!plan:pro@ever"),
            "((signup | web) & plan:pro@ever)@2026-W46 & (active & (web & !plan:pro@ever))@2026-W47",
        ),
        (
            "cohort=plan:pro@ever&returning=active&by=month&at=2026-10&k=1".to_owned(),
            "plan:pro@ever & active@2026-11",
        ),
    ] {
        for who in ["returned", "lost", "cohort"] {
            let page = product_page(&format!("/people?{query}&who={who}")).body;
            let set = typed(&page);
            match who {
                "returned" => assert_eq!(set, returned),
                "lost" => assert_eq!(set, returned.replacen(" & (active", " & !(active", 1).replacen(" & active", " & !active", 1).replacen(" & within", " & !within", 1).replacen(" & atleast", " & !atleast", 1)),
                _ => assert!(returned.starts_with(&set), "{set}"),
            }
            let address = format!("/people?{}", url::form_urlencoded::Serializer::new(String::new()).append_pair("set", &set).finish());
            let asked = product_page(&address);
            // Nobody's list offers no file.
            let csv = |page: &str| links(page, "/people.csv?").first().map(|file| ids(&product_page(file).body));
            assert_eq!((asked.status, csv(&asked.body)), (200, csv(&page)), "{set}");
        }
    }
    // Only the periods that have begun, however many.
    let long = product_page(&format!("/people?{CELL}&k=0&measure=on_or_after")).body;
    assert_eq!(
        typed(&long),
        "signup@2026-11-20 & within(active, 0..3)@2026-11-20"
    );
    let long = product_page(
        "/people?cohort=signup&returning=active&by=day&at=2026-11-10&k=1&measure=on_or_after",
    )
    .body;
    assert_eq!(
        typed(&long),
        "signup@2026-11-10 & within(active, 1..13)@2026-11-10"
    );
    assert!(long.contains("came back to active from"));
}

#[test]
fn what_is_no_cell_is_said_in_words() {
    for (query, said) in [
        (
            "at=2026-11",
            "2026-11 is a month, and the cohorts are daily: name the day",
        ),
        (
            "at=2026-11-24",
            "2026-11-24 has not begun: the running day is 2026-11-23",
        ),
        ("at=yesterday", "“yesterday” is not a period"),
        ("at=", "is not a period"),
        (
            "at=2026-11-20&k=14",
            "column 14 is not in the table: it has 0 to 13",
        ),
        (
            "at=2026-11-20&k=4",
            "day 4 of the cohort 2026-11-20 has not begun",
        ),
        ("at=2026-11-20&k=-1", "ask for a whole number"),
        (
            "at=2026-11-20&k=1&who=me",
            "“me” is none of returned, lost, cohort",
        ),
        ("at=2026-11-20&who=lost", "name a column"),
        ("at=2026-11-20&k=1&after=x", "not a valid user id"),
        ("at=2026-11-20&rows=0", "“0” is not a whole number"),
        (
            "at=2026-11-20&returning_and=%28",
            "column 2: expected an event name",
        ),
    ] {
        for page in ["/people", "/people.csv"] {
            let got = product_page(&format!("{page}?cohort=signup&returning=active&{query}"));
            assert_eq!(got.status, 400, "{query}");
            if page == "/people" {
                let mend = links(&got.body, "/retention?");
                assert_eq!(
                    mend,
                    [format!("/retention?cohort=signup&returning=active&{query}")]
                );
            }
            // Only pages have quotation marks of print.
            let said = if page == "/people" {
                said.to_owned()
            } else {
                said.replace(['“', '”'], "`")
            };
            assert!(got.body.contains(&said), "{page} {query}: {}", got.body);
        }
    }
}

#[test]
fn a_set_is_asked_for_by_its_text() {
    let page = product_page("/people?set=signup@2026-11-20+%26+!active@2026-11-22").body;
    let lost = product_page(&format!("/people?{CELL}&k=2&who=lost")).body;
    assert_eq!(links(&page, "/users/"), links(&lost, "/users/"));
    assert!(page.contains("value=\"signup@2026-11-20 &#38; !active@2026-11-22\""));
    assert_eq!(
        product_page("/people.csv?set=%28a+%7C+b%29@2026-11").header("content-disposition"),
        "attachment; filename=\"people_a-or-b-2026-11-98d8.csv\""
    );

    let wrong = product_page("/people?set=active%20%26%20%22%3Cb%3E%22");
    assert_eq!(wrong.status, 400);
    assert!(
        wrong
            .body
            .contains("value=\"active &#38; &#34;&#60;b&#62;&#34;\""),
        "what was typed stays: {}",
        wrong.body
    );
    assert!(
        wrong
            .body
            .contains("aria-invalid=\"true\" aria-describedby=\"wrong-set\"")
    );
    assert!(
        wrong
            .body
            .contains("column 1: “active” needs a period: write active@2026-11-23"),
        "{}",
        wrong.body
    );
    let file = product_page("/people.csv?set=active");
    assert!(
        file.status == 400
            && file
                .body
                .contains("\nset: column 1: `active` needs a period"),
        "{}",
        file.body
    );

    let unknown = product_page("/people?set=actve@2026-11-23");
    assert_eq!(unknown.status, 200);
    assert!(
        unknown
            .body
            .contains("Nothing was ever recorded for “actve”. Perhaps “active”?")
            && unknown.body.contains("Nobody.")
    );
    let nothing = read(&format!("http://{}/people", serve(empty())));
    assert!(nothing.status == 200 && nothing.body.contains("Nothing recorded yet"));
    let start = product_page("/people").body;
    let examples = links(&start, "/people?set=");
    assert_eq!(examples.len(), 3);
    assert!(
        examples
            .iter()
            .all(|example| product_page(example).status == 200)
    );
}

#[test]
fn long_lists_are_turned_page_by_page_and_streamed_whole() {
    let tracker = empty();
    let (event, last) = (name("seen"), UserId::MAX);
    let mut expected: Vec<UserId> = (0..150_000).map(|i| i * 3).collect();
    expected.push(last);
    let mut batch = tracker.batch();
    expected.iter().for_each(|user| {
        let _ = batch.mark_ever(&event, *user);
    });
    batch.mark(&name("few"), 5, now()).unwrap();
    (0..250).for_each(|user| {
        let _ = batch.mark_ever(&name("some"), user * 1_000);
    });
    batch.commit().unwrap();
    let base = format!("http://{}", serve(tracker));

    let file = agent()
        .get(format!("{base}/people.csv?set=seen@ever"))
        .call()
        .unwrap();
    assert!(file.headers().get("content-length").is_none(), "streamed");
    let text = file
        .into_body()
        .into_with_config()
        .limit(1 << 30)
        .read_to_string()
        .unwrap();
    assert_eq!(ids(&text), expected);
    let rest = read(&format!("{base}/people.csv?set=seen@ever&after=449990"));
    assert_eq!(ids(&rest.body), [449_991, 449_994, 449_997, last]);

    let (mut path, mut turned) = ("/people?set=some@ever".to_owned(), Vec::new());
    for at in 0..3 {
        let page = read(&format!("{base}{path}")).body;
        turned.extend(
            links(&page, "/users/")
                .iter()
                .map(|l| l["/users/".len()..].parse::<UserId>().unwrap()),
        );
        assert!(page.contains("250 people in all"), "{page}");
        assert_eq!(page.contains("First page"), at > 0);
        let next: Vec<String> = links(&page, "/people?set=some")
            .into_iter()
            .filter(|l| l.contains("after="))
            .collect();
        assert_eq!(next.len(), usize::from(at < 2));
        path = next.into_iter().next().unwrap_or_default();
    }
    assert_eq!(turned, (0..250).map(|i| i * 1_000).collect::<Vec<_>>());
    let end = read(&format!("{base}/people?set=some@ever&after=4294967295"));
    assert!(end.status == 200 && end.body.contains("this is the end of the list"));
}

#[test]
fn a_list_that_breaks_off_does_not_look_whole() {
    let store = store::open("memory:", &store::Options::default()).unwrap();
    // It goes away after the first piece of a list.
    let pieces = AtomicUsize::new(0);
    let gone = || StoreError::Unreachable {
        location: "there".to_owned(),
        reason: "gone".to_owned(),
    };
    let fragile = Bent::of(&store).members(move |users| {
        if pieces.fetch_add(1, Ordering::Relaxed) == 0 {
            users
        } else {
            Err(gone())
        }
    });
    let tracker = Tracker::new(fragile.shared());
    let mut batch = tracker.batch();
    (0..100_000).for_each(|user| {
        let _ = batch.mark_ever(&name("seen"), user);
    });
    batch.commit().unwrap();
    let base = format!("http://{}", serve(tracker));
    let mut answer = agent()
        .get(format!("{base}/people.csv?set=seen@ever"))
        .call()
        .unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert!(answer.body_mut().read_to_string().is_err());
    assert_eq!(
        read(&format!("{base}/people.csv?set=seen@ever")).status,
        503,
        "from the start on"
    );
}

#[test]
fn a_user_is_told_in_one_look() {
    let tracker = empty();
    let at = |days: i64| now() - TimeDelta::days(days);
    let [active, web, old] = ["active", "web", "old"].map(name);
    let mut batch = tracker.batch();
    // Today, yesterday (in the week before), and long ago.
    batch
        .mark(&active, 123, at(0))
        .unwrap()
        .mark(&active, 123, at(1))
        .unwrap()
        .mark(&active, 123, at(900))
        .unwrap();
    batch
        .mark(&web, 123, at(3))
        .unwrap()
        .mark(&old, 123, at(500))
        .unwrap()
        .mark(&old, 7, at(0))
        .unwrap();
    batch.mark_ever(&name("<b>pro"), 123);
    batch.commit().unwrap();
    let base = format!("http://{}", serve(tracker));
    let found = read(&format!("{base}/users?id=+123+"));
    assert_eq!(
        (found.status, found.header("location")),
        (302, "/users/123")
    );
    let page = read(&format!("{base}/users/123")).body;
    let said: Vec<(bool, Vec<&str>)> = page
        .split("<section class=\"tiles online\"")
        .nth(1)
        .and_then(|rest| rest.split("</section>").next())
        .unwrap()
        .split("<h2>")
        .skip(1)
        .map(|tile| {
            let names = tile.split("<li><a href=\"").skip(1);
            let names = names
                .map(|l| l.split('>').nth(1).unwrap().split('<').next().unwrap())
                .collect();
            assert_eq!(
                tile.contains("<em>as this week, and also</em>"),
                tile.starts_with("This month"),
                "{tile}"
            );
            (tile.contains("<b>Yes</b>"), names)
        })
        .collect();
    let expected = [
        (true, vec!["active"]),
        (true, vec![]),
        (true, vec!["web"]),
        (false, vec!["&#60;b&#62;pro"]),
    ];
    assert_eq!(said, expected);
    assert!(
        page.contains("First seen on Thu 6 Jun 2024") && page.contains("last seen today"),
        "{page}"
    );
    assert!(
        page.contains("<span>did 3 of 3 events</span><span>1 of 1 property</span>")
            && page.contains("2 days in the last 53 weeks")
    );
    assert!(
        page.contains("<title>Sun 22 Nov 2026 – Mon 23 Nov 2026</title>"),
        "{page}"
    );
    assert!(page.contains("<dt>Nov 2026</dt><dd>22–23</dd>"));
    let calendars: Vec<&str> = page
        .split("aria-label=\"Calendar of ")
        .skip(1)
        .map(|l| l.split(':').next().unwrap())
        .collect();
    assert_eq!(calendars, ["active", "web", "old"], "each by its own name");
    let stranger = read(&format!("{base}/users/4294967295"));
    assert!(stranger.status == 200 && stranger.body.contains("Nothing is recorded for this user."));
    assert_eq!(stranger.body.matches("<b class=\"none\">No</b>").count(), 3);

    let json: serde_json::Value =
        serde_json::from_str(&read(&format!("{base}/users/123.json")).body).unwrap();
    let old = json["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["event"] == "old")
        .unwrap();
    assert_eq!(
        (old["first"].as_str(), old["last"].as_str()),
        (Some("2025-07-11"), Some("2025-07-11"))
    );
    assert_eq!(
        (
            old["today"].as_bool(),
            old["days"].as_array().unwrap().len()
        ),
        (Some(false), 0)
    );

    for wrong in ["-1", "4294967296", "abc", "%3Cb%3E", "1.5"] {
        for path in [format!("/users?id={wrong}"), format!("/users/{wrong}")] {
            let page = read(&format!("{base}{path}"));
            assert_eq!(page.status, 400, "{path}");
            assert!(
                page.body
                    .contains("is not a valid user id: use a whole number from 0 to 4294967295"),
                "{path}"
            );
            let typed = wrong.replace("%3C", "&#60;").replace("%3E", "&#62;");
            assert!(
                page.body.contains(&format!("value=\"{typed}\"")),
                "{path}: {}",
                page.body
            );
        }
    }
}

#[test]
fn a_day_before_somebody_came_is_no_absence() {
    let tracker = empty();
    let at = |days: i64| now() - TimeDelta::days(days);
    let [signup, active, new] = ["signup", "active", "new"].map(name);
    let mut batch = tracker.batch();
    batch
        .mark(&signup, 1, at(99))
        .unwrap()
        .mark(&signup, 2, at(60))
        .unwrap()
        .mark(&active, 2, at(1))
        .unwrap();
    batch
        .mark(&new, 3, at(20))
        .unwrap()
        .mark(&new, 2, at(10))
        .unwrap();
    batch.commit().unwrap();
    let page = read(&format!("http://{}/users/2", serve(tracker.clone()))).body;
    // The axis begins with the first mark of anybody, 100 days long; user 2 came after 39 of them.
    let strip = |event: &str| {
        page.split(&format!("Calendar of {event}"))
            .nth(1)
            .unwrap()
            .split("</svg>")
            .next()
            .unwrap()
    };
    assert!(
        strip("signup").contains("class=\"before\" d=\"M0 5H39\"")
            && strip("signup").contains("M39 5H100"),
        "{page}"
    );
    // Nobody did the others before these days.
    assert!(
        strip("new").contains("M0 5H79") && strip("active").contains("M0 5H98"),
        "{page}"
    );
    let history = tracker
        .run(&User { user: 2 }, &Run::at(now()))
        .unwrap()
        .answer;
    let recorded: Vec<_> = history
        .events
        .iter()
        .map(|seen| seen.recorded.unwrap().to_string())
        .collect();
    assert_eq!(recorded, ["2026-11-22", "2026-11-03", "2026-08-16"]);
    // A week that began in the month before is not said to be in the month.
    let tracker = empty();
    let (wednesday, monday) = (now() + TimeDelta::days(9), now() + TimeDelta::days(7));
    tracker.mark(&signup, 2, monday).unwrap();
    tracker.mark(&active, 2, wednesday).unwrap();
    let clock = cohortist::clock::Clock::Fixed(wednesday);
    let host =
        crate::support::web::serve_dashboard(cohortist::server::Dashboard::new(tracker, clock));
    let page = read(&format!("http://{host}/users/2")).body;
    let month = page
        .split("<h2>This month")
        .nth(1)
        .unwrap()
        .split("</div>")
        .next()
        .unwrap();
    assert!(
        !month.contains("as this week")
            && month.contains(">active</a>")
            && !month.contains("signup"),
        "{month}"
    );
    assert!(page.contains("<em>as today, and also</em>"), "{page}");
}

#[test]
fn every_store_tells_the_same_history() {
    each_store(|kind, store| {
        let tracker = Tracker::new(store);
        let mut batch = tracker.batch();
        for (event, back) in [
            ("active", 0),
            ("active", 40),
            ("active", 1_000),
            ("web", 700),
            ("web", 900),
        ] {
            batch
                .mark(&name(event), 9, now() - TimeDelta::days(back))
                .unwrap();
            batch
                .mark(&name(event), 8, now() - TimeDelta::days(back + 1))
                .unwrap();
        }
        batch
            .mark_ever(&name("pro"), 9)
            .mark(&name("other"), 8, now())
            .unwrap()
            .commit()
            .unwrap();
        let history = tracker
            .run(&User { user: 9 }, &Run::at(now()))
            .unwrap()
            .answer;
        let said: Vec<String> = history
            .events
            .iter()
            .map(|seen| {
                let text = |period: Option<Period>| {
                    period.map_or("-".to_owned(), |period| period.to_string())
                };
                format!(
                    "{} {} {} {} {}",
                    seen.event,
                    text(seen.first),
                    text(seen.last),
                    seen.days.len(),
                    seen.ever
                )
            })
            .collect();
        let expected = [
            "active 2024-02-27 2026-11-23 2 false",
            "web 2024-06-06 2024-12-23 0 false",
            "pro - - 0 true",
        ];
        assert_eq!(said, expected, "{kind}");
        assert_eq!(history.known, 4);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_history_says_what_the_marks_say(
        marks in prop::collection::vec((0_usize..3, 0_u32..3, 0_i64..1_400), 0..60), hourly: bool,
        forgotten in prop::collection::vec((0_usize..3, 0_i64..47), 0..4),
    ) {
        let events = ["active", "active_2026-1", "web"].map(name);
        let tracker = empty().with_extent(cohortist::Extent { hourly, ever: false });
        let mut batch = tracker.batch();
        for (event, user, back) in &marks {
            batch.mark(&events[*event], *user, now() - TimeDelta::days(*back)).unwrap();
        }
        batch.commit().unwrap();
        // Months that somebody deleted do not hide their days.
        for (event, back) in forgotten {
            let month = Period::containing(Grain::Month, now()).unwrap().shift(-back).unwrap();
            tracker.delete(&Key::new(events[event].clone(), month).unwrap()).unwrap();
        }
        // Where the last mark is older than yesterday, the history is of the day on which the data
        // ends.
        let newest = marks.iter().map(|(_, _, back)| *back).min().filter(|back| *back > 1).unwrap_or(0);
        let today = Period::containing(Grain::Day, now() - TimeDelta::days(newest)).unwrap();
        for user in 0..3 {
            let history = tracker.run(&User { user }, &Run::at(now())).unwrap().answer;
            prop_assert_eq!((history.span.today, history.coverage.data_ends(Grain::Day).is_some()), (today, newest > 0));
            for (i, event) in events.iter().enumerate() {
                let days: BTreeSet<NaiveDate> = marks
                    .iter()
                    .filter(|(e, u, _)| (*e, *u) == (i, user))
                    .map(|(_, _, back)| (now() - TimeDelta::days(*back)).date_naive())
                    .collect();
                let seen = history.events.iter().find(|seen| seen.event == *event);
                prop_assert_eq!(seen.is_some(), !days.is_empty());
                let Some(seen) = seen else { continue };
                let date = |period: Option<Period>| period.filter(|p| p.grain() == Grain::Day).map(|p| p.start().date_naive());
                prop_assert_eq!(date(seen.first), days.first().copied());
                prop_assert_eq!(date(seen.last), days.last().copied());
                prop_assert_eq!(seen.today, days.contains(&today.start().date_naive()));
                let since = history.span.since.start().date_naive();
                prop_assert_eq!(&seen.days, &days.into_iter().filter(|day| *day >= since).collect::<Vec<_>>());
            }
        }
    }
}

/// The people of an average are those of its cohorts' cells, each once.
#[test]
fn averages_open_the_people_of_their_cohorts() {
    use cohortist::reports::people::CellMembers;
    use cohortist::reports::retention::{Brackets, Measure, Query};
    use cohortist::sets::{SetContext, parse_set};
    let tracker = live_toy(store::open("memory:", &store::Options::default()).unwrap());
    let now = toy_now();
    let coverage = tracker.coverage(now, true).unwrap();
    let catalogue = tracker.catalogue().unwrap();
    let context = SetContext {
        catalogue: &catalogue,
        ..SetContext::empty()
    };
    let brackets: Brackets = "1,2-4,7-9".parse().unwrap();
    for (measure, brackets, grain, rows) in [
        (Measure::On, None, Grain::Day, 40),
        (Measure::OnOrAfter, None, Grain::WEEK, 8),
        (Measure::OnOrBefore, None, Grain::Day, 20),
        (Measure::Unbroken, None, Grain::WEEK, 9),
        (Measure::On, Some(brackets), Grain::Day, 30),
    ] {
        for cohort in ["active", "first(active)", "active & country:US@ever"] {
            let query = Query {
                rows: Some(rows),
                cols: brackets.is_none().then_some(6),
                measure,
                brackets: brackets.clone(),
                ..Query::new(cohort.parse().unwrap(), "active".parse().unwrap(), grain)
            };
            let table = tracker.retention(&query, now).unwrap();
            let mut opened = 0;
            for (column, average) in table.averages.iter().enumerate() {
                let what = format!("{cohort} {} {column}", measure.as_str());
                let (Some(average), Some(text)) = (average, table.averaged_set(column)) else {
                    continue;
                };
                let mut expected: BTreeSet<UserId> = BTreeSet::new();
                for row in &table.rows {
                    if row.averaged(column).is_some() {
                        let number = u32::try_from(column).unwrap();
                        let cell = CellMembers::at(
                            &query,
                            row.period,
                            Some(number),
                            &coverage,
                            &catalogue,
                        );
                        let returned = cell.unwrap().back.unwrap().returned;
                        expected.extend(tracker.members(&returned).map(Result::unwrap));
                    }
                }
                let set = parse_set(&text, context).unwrap();
                let found: BTreeSet<UserId> = tracker.members(&set).map(Result::unwrap).collect();
                assert_eq!(found, expected, "{what}: {text}");
                assert!(found.len() as u64 <= average.retained, "{what}");
                opened += found.len();
            }
            assert!(opened > 0, "{cohort} {}", measure.as_str());
        }
    }
    let page = product_page("/retention?cohort=signup&returning=active&by=day&rows=12&cols=9").body;
    let of_mean = links(&page, "/people?set=%28within%28");
    assert!(of_mean.len() > 5, "{:?}", links(&page, ""));
    let list = product_page(&of_mean[1]).body;
    assert!(list.contains("people who did signup"), "{list}");
}
