//! No number is shown that is wrong or half true without a word on that.

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::Tracker;
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::clock::Clock;
use cohortist::reports::retention::Query;
use cohortist::server::Dashboard;
use cohortist::sets::Segment;
use cohortist::store;

use crate::http::{product_page, read};
use crate::support::redis::RedisServer;
use crate::support::stores::each_store;
use crate::support::web::{empty, name, now, serve, serve_dashboard};

fn day(text: &str) -> DateTime<Utc> {
    parse_moment(text).unwrap()
}

/// Sixty people who signed up one a day from 27 July on, and came back once, after twenty days.
fn begun(tracker: &Tracker) {
    let (signup, active) = (name("signup"), name("active"));
    let mut batch = tracker.batch();
    for user in 0..60 {
        let joined = day("2026-07-27") + TimeDelta::days(i64::from(user));
        batch.mark(&signup, user, joined).unwrap();
        batch
            .mark(&active, user, joined + TimeDelta::days(20))
            .unwrap();
    }
    batch.commit().unwrap();
}

fn query(cohort: &str, returning: &str, grain: Grain) -> Query {
    Query::new(
        cohort.parse::<Segment>().unwrap(),
        returning.parse::<Segment>().unwrap(),
        grain,
    )
}

#[test]
fn a_page_says_since_when_there_is_something_to_count() {
    let tracker = empty();
    begun(&tracker);
    tracker.mark(&name("zz:heartbeat"), 0, now()).unwrap();
    let host = format!("http://{}", serve(tracker));
    let page = read(&format!(
        "{host}/retention?cohort=signup&returning=active&by=month"
    ))
    .body;
    let row = |label: &str| {
        let row = page
            .split("<tr data-at=")
            .find(|row| row.contains(&format!("<th scope=\"row\">{label}")));
        row.unwrap_or_else(|| panic!("no {label} in {page}"))
            .replace(['\n', '"'], "")
            .replace("</td>", "")
    };
    assert!(row("Jul 2026 †").contains(">5</a>"), "{}", row("Jul"));
    assert!(!row("Aug 2026").contains('†') && row("Aug 2026").contains(">31</a>"));
    assert!(
        page.contains("<span>Dec 2025 – Jun 2026: not recorded, 7 months</span>"),
        "{page}"
    );
    // In October nobody signed up, and that is known.
    assert!(
        row("Oct 2026").contains("<td class=size>0<td class=nobody colspan=12>no people</tr>"),
        "{}",
        row("Oct")
    );
    assert!(
        row("Nov 2026")
            .contains("<td class=size>0*<td class=nobody colspan=12>no people so far</tr>"),
        "{}",
        row("Nov")
    );
    for said in [
        "<p class=\"legend recorded\">† signup is first recorded on 27 Jul 2026: this month holds those days only.</p>",
        "<p class=\"legend recorded\">active is first recorded on 16 Aug 2026: before that its counts are 0.</p>",
        "from 5 to 31 · 3 cohorts",
    ] {
        assert!(page.contains(said), "{said} in {page}");
    }
    // By day nothing is half a day, and a table that begins later has nothing to explain.
    let by_day = |from: &str| {
        read(&format!(
            "{host}/retention?cohort=signup&returning=active&by=day&rows=9&from={from}"
        ))
        .body
    };
    let first = by_day("2026-07-24");
    assert!(
        first.contains("24 – 26 Jul 2026: not recorded, 3 days") && !first.contains('†'),
        "{first}"
    );
    assert!(
        first.contains("<p class=\"legend recorded\">The store has data from 27 Jul 2026 on.</p>")
    );
    assert!(!by_day("2026-08-20").contains("legend recorded"));
    let long_ago = by_day("2026-01-01");
    assert!(
        long_ago.contains(
            "The store has no data in 1 – 9 Jan 2026; it has data from Mon 27 Jul 2026 to Mon 23 Nov 2026. Did you mean \
             <a href=\"/retention?cohort=signup&#38;returning=active&#38;by=day&#38;rows=9\">its latest cohorts</a>?"
        ),
        "{long_ago}"
    );
    let csv = read(&format!(
        "{host}/retention.csv?cohort=signup&returning=active&by=month"
    ))
    .body;
    assert!(
        csv.contains("\nJun 2026,,") && csv.contains("\nJul 2026,5,"),
        "{csv}"
    );
}

#[test]
fn every_store_knows_what_it_covers() {
    each_store(|kind, store| {
        let tracker = Tracker::new(store);
        begun(&tracker);
        tracker.mark_ever(&name("pro"), 3).unwrap();
        let day = |text: &str| Some(text.parse::<Period>().unwrap());
        let covers = |given| {
            let found = tracker.coverage(now(), given).unwrap();
            (
                found.first(Grain::Day),
                found.last(Grain::Day),
                found.data_ends(Grain::Day),
            )
        };
        let ended = (day("2026-07-27"), day("2026-10-14"), day("2026-10-14"));
        assert_eq!((covers(false), covers(true)), (ended, ended), "{kind}");
        // A bitmap without anybody is no mark, whichever way it became one.
        let (active, today) = (name("active"), now() - TimeDelta::hours(1));
        tracker.mark(&active, 7, today).unwrap();
        tracker.catalogue().unwrap();
        tracker.unmark(&active, 7, today).unwrap();
        assert_eq!(covers(false), ended, "{kind}");
        tracker.mark(&active, 7, today).unwrap();
        let live = (day("2026-07-27"), day("2026-11-23"), None);
        // Redis is listed, and looked at, every few seconds only.
        for _ in 0..200 {
            if covers(false) == live {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_eq!(covers(false), live, "{kind}");
        // Marks of later days show that the store went on, if somebody looks back from there.
        let at = |given| {
            tracker
                .coverage(now() - TimeDelta::days(20), given)
                .unwrap()
                .data_ends(Grain::Day)
        };
        assert_eq!((at(true), at(false)), (None, day("2026-10-14")), "{kind}");
    });
}

#[test]
fn the_command_line_lists_a_redis_once() {
    let server = RedisServer::start();
    let tracker =
        Tracker::new(store::open(&server.url(), &crate::support::redis::patient()).unwrap());
    begun(&tracker);
    server.reset_statistics();
    let table = tracker
        .retention(&query("signup", "active", Grain::Day), now())
        .unwrap();
    assert_eq!(
        table.data_ends.map(|end| end.to_string()).as_deref(),
        Some("2026-10-14")
    );
    assert_eq!(
        (server.calls("scan"), server.calls("keys")),
        (1, 0),
        "some 200 bitmaps are one page of keys"
    );
}

#[test]
fn a_set_of_a_running_or_coming_period_says_so() {
    let notices = |set: &str| {
        let page = product_page(&format!("/people?set={set}"));
        assert_eq!(page.status, 200, "{set}");
        let notices = page
            .body
            .split("<p class=\"notice\" role=\"status\">")
            .skip(1);
        notices
            .map(|rest| rest.split("</p>").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let changes =
        |when: &str| format!("So far: {when} is still in progress, and the list may change.");
    assert_eq!(notices("active@2026-11"), [changes("November 2026")]);
    assert_eq!(notices("active@2026"), [changes("2026")]);
    assert_eq!(
        notices("signup@2026-11-20+%26+!active@2026-W48"),
        [changes("23 – 29 Nov 2026 (W48)")]
    );
    assert_eq!(notices("active@2026-11-22+%26+plan:pro@ever"), [""; 0]);
    assert_eq!(notices("active@2026-12"), ["December 2026 has not begun."]);
    assert_eq!(
        notices("(active+|+web)@2027+|+active@2026-12"),
        ["2027 and December 2026 have not begun."]
    );
    assert_eq!(notices("active@2026-11+|+active@2026-12").len(), 2);
    // The page of the same people as a cell says the same.
    let cell = product_page("/people?cohort=signup&returning=active&by=month&at=2026-10&k=1").body;
    assert!(
        cell.contains("So far: November 2026 is still in progress, and more may come back."),
        "{cell}"
    );
}

#[test]
fn an_empty_list_offers_nothing_to_take_away() {
    for (set, none) in [
        ("active@2026-12", "Nobody."),
        ("active@2026-01-01", "No data."),
    ] {
        let page = product_page(&format!("/people?set={set}")).body;
        assert!(
            page.contains(&format!("<p class=\"legend\">{none}</p>")),
            "{page}"
        );
        assert!(
            !page.contains("/people.csv") && !page.contains("legend turn"),
            "{page}"
        );
    }
    let behind = product_page("/people?set=active@2026-11-22&after=4294967295").body;
    assert!(
        behind.contains("First page") && behind.contains("/people.csv"),
        "{behind}"
    );
}

#[test]
fn what_counts_on_or_after_has_one_name_and_one_range() {
    let later =
        product_page("/retention?cohort=signup&returning=active&by=day&measure=on_or_after").body;
    assert!(
        !later.contains("aria-pressed=\"true\""),
        "the last 14 days are other ones"
    );
    for said in [
        "“On or after” counts up to day 13",
        "; counted up to day 13</small>",
        "days 1–13, last 7 cohorts vs the 7 before",
        "counted on or after the day ·",
        " came back on or after Mon ",
    ] {
        assert!(later.contains(said), "{said} in {later}");
    }
    let weeks = product_page(
        "/retention?cohort=signup&returning=active&by=week&measure=on_or_after&rows=3&cols=3",
    )
    .body;
    assert!(
        weeks.contains(">On or after</label>")
            && weeks.contains(
                "<span>by week</span><span>3 weeks</span><span>on or after the week</span>"
            )
    );
    for page in [later, weeks] {
        assert!(!page.to_lowercase().contains("or later"), "{page}");
    }
}

#[test]
fn a_user_is_said_to_do_events_and_to_have_properties() {
    let page = product_page("/users/7").body;
    let facts = page
        .split("<p class=\"sub\">")
        .nth(1)
        .unwrap()
        .split("</p>")
        .next()
        .unwrap();
    assert!(facts.contains("<span>did 3 of 3 events</span>"), "{facts}");
    assert!(
        facts.contains(" of 1 property</span><span>as of Mon 23 Nov 2026, 19:04 UTC</span>"),
        "{facts}"
    );

    let tracker = empty();
    let mut batch = tracker.batch();
    batch
        .mark(&name("signup"), 1, now())
        .unwrap()
        .mark_ever(&name("signup"), 1);
    batch
        .mark_ever(&name("plan:pro"), 1)
        .mark_ever(&name("country:NL"), 2)
        .mark(&name("web"), 2, now())
        .unwrap();
    batch.commit().unwrap();
    let host = format!("http://{}", serve(tracker));
    let page = read(&format!("{host}/users/1")).body;
    assert!(
        page.contains("<span>did 1 of 2 events</span><span>1 of 2 properties</span>"),
        "{page}"
    );
    let undated = page
        .split("<h2>Without a date")
        .nth(1)
        .unwrap()
        .split("</div>")
        .next()
        .unwrap();
    assert!(
        undated.contains(">plan:pro</a>")
            && undated.contains(">signup</a>")
            && !undated.contains("Yes"),
        "{undated}"
    );
}

#[test]
fn errors_speak_plainly_and_point_at_the_place() {
    let missing = "column 14: a “)” is missing: the “(” at column 10 is never closed";
    let table = product_page("/retention?cohort=active+%26+(ios&returning=active").body;
    assert!(table.contains(missing), "{table}");
    let people = product_page("/people?set=active+%26+(ios").body;
    assert!(people.contains(missing), "{people}");
    let set = "/people?set=active@2026-11+%26+!";
    let place = "<code>active@2026-11 &#38; !<mark>\u{2003}</mark></code> column 19: expected an event name or “(”";
    assert!(
        product_page(set).body.contains(place),
        "{}",
        product_page(set).body
    );
    let future = product_page("/retention?cohort=signup&returning=active&from=2027-01-01").body;
    assert!(
        future.contains("from</a> 2027-01-01 lies in the future: the running day is 2026-11-23"),
        "{future}"
    );
    for path in [
        "/retention?cohort=active+%26+(ios&returning=active&rows=0&from=x&as=x&range=x&trend=x",
        "/people?set=active",
        "/people?cohort=signup&returning=active&at=yesterday",
        "/people?cohort=signup&returning=active&at=2026-11-20&k=1&who=me",
        "/events?sort=x",
        "/events/active?by=x",
        "/events/active?last=1000",
        "/users/x",
    ] {
        let page = product_page(path);
        assert!(
            page.status == 400 && !page.body.contains('`'),
            "{path}: {}",
            page.body
        );
    }
    // Programs and the command line get what they always got.
    let json = product_page("/retention.json?cohort=active+%26+(ios&returning=active").body;
    assert!(json.contains("a `)` is missing"), "{json}");
}

#[test]
fn a_name_like_no_other_leads_to_all_names() {
    let all = "<a href=\"/events\">All events</a>";
    for (path, leads) in [
        ("/retention?cohort=signup&returning=actve", false),
        ("/retention?cohort=signup&returning=zzzzzz", true),
        ("/people?set=actve@2026-11", false),
        ("/people?set=zzzzzz@2026-11", true),
    ] {
        assert_eq!(product_page(path).body.contains(all), leads, "{path}");
    }
}

#[test]
fn a_running_cell_does_not_set_the_scale() {
    let (tracker, signup, active) = (empty(), name("signup"), name("active"));
    let mut batch = tracker.batch();
    for back in 0..6_u32 {
        for user in back * 100..back * 100 + 100 {
            let joined = now() - TimeDelta::days(back.into());
            batch.mark(&signup, user, joined).unwrap();
            for k in 1..=back.into() {
                // Forty of a hundred on days that are over, and one so far today.
                if user % 100
                    < if k == i64::from(back) {
                        1
                    } else {
                        40 + u32::try_from(k).unwrap()
                    }
                {
                    batch
                        .mark(&active, user, joined + TimeDelta::days(k))
                        .unwrap();
                }
            }
        }
    }
    batch.commit().unwrap();
    let dashboard = Dashboard::new(tracker, Clock::Fixed(now()));
    let host = format!("http://{}", serve_dashboard(dashboard));
    let fitted = |more: &str| {
        let page = read(&format!(
            "{host}/retention?cohort=signup&returning=active&by=day&rows=6&scale=fitted&{more}"
        ));
        let legend = page
            .body
            .split("<p class=\"legend\">")
            .nth(1)
            .unwrap()
            .to_owned();
        let ends = legend
            .split("</span> ")
            .next()
            .unwrap()
            .split("<span class=\"item\">")
            .nth(1)
            .unwrap()
            .to_owned();
        ends.split(" <span").next().unwrap().to_owned()
    };
    assert_eq!(fitted("cols=5"), "41% or less");
    // Where nothing is over there is nothing else to fit.
    assert_eq!(fitted("from=2026-11-22&cols=2"), "1% or less");
}

/// The notices of a retention page, with the addresses they offer.
fn notices(host: &str, query: &str) -> (Vec<String>, Vec<String>) {
    let page = read(&format!("{host}/retention?{query}"));
    assert_eq!(page.status, 200, "{query}");
    let html = scraper::Html::parse_document(&page.body);
    let all = |selector: &str| {
        html.select(&scraper::Selector::parse(selector).unwrap())
            .collect::<Vec<_>>()
    };
    let texts = all(".notice")
        .iter()
        .map(|notice| notice.text().collect())
        .collect();
    (
        texts,
        all(".notice a")
            .iter()
            .map(|link| link.attr("href").unwrap().to_owned())
            .collect(),
    )
}

#[test]
fn an_empty_table_names_its_empty_side_and_since_when_there_is_data() {
    let tracker = empty();
    let mut batch = tracker.batch();
    for user in 0..9 {
        batch
            .mark(&name("signup"), user, day("2026-11-20"))
            .unwrap();
        batch.mark(&name("old"), user, day("2020-05-05")).unwrap();
        batch.mark(&name("old"), user, day("2020-05-07")).unwrap();
        batch.mark(&name("new"), user, day("2026-11-21")).unwrap();
        batch.mark_ever(&name("pro"), user);
    }
    batch.mark(&name("zz:heartbeat"), 0, now()).unwrap();
    batch.commit().unwrap();
    let host = format!("http://{}", serve(tracker));
    let (old, new) = (
        "is recorded from Tue 5 May 2020 to Thu 7 May 2020",
        "is recorded on Sat 21 Nov 2026 only",
    );
    // The cohort's side: nobody before, after or ever, for an event, an expression and a filter.
    let now = "in 10 – 23 Nov 2026";
    let january = "cohort_and=&from=2026-01-01&to=2026-01-20";
    for (query, said) in [
        (
            "cohort=old&returning=new".to_owned(),
            format!("Nobody did “old” {now}; “old” {old}."),
        ),
        ("cohort=old+%26+old@ever&returning=new".to_owned(), {
            let dates = "that event has dates, from Tue 5 May 2020 to Thu 7 May 2020";
            format!(
                "Nobody did “old & old@ever” {now}; “old” {old}, nothing is recorded for “old@ever”: {dates}."
            )
        }),
        ("cohort=old&cohort_and=pro@ever&returning=new".to_owned(), {
            format!(
                "Nobody did “old & pro@ever” {now}; “old” {old}, “pro@ever” is recorded without dates."
            )
        }),
        (
            format!("cohort=new&returning=new&{january}"),
            format!("Nobody did “new” in 1 – 20 Jan 2026; “new” {new}."),
        ),
        (
            format!("cohort=new+%7C+old&returning=new&{january}"),
            format!("Nobody did “new | old” in 1 – 20 Jan 2026; “new” {new}, “old” {old}."),
        ),
        (
            "cohort=old+%7C+nope&returning=new".to_owned(),
            format!("Nobody did “old | nope” {now}; “old” {old}, “nope” has never been recorded."),
        ),
        (
            "cohort=new&returning=new&from=2026-11-20&to=2026-11-20".to_owned(),
            format!("Nobody did “new” on Fri 20 Nov 2026; “new” {new}."),
        ),
    ] {
        let (texts, links) = notices(&host, &query);
        assert!(
            texts.iter().any(|text| text.starts_with(&said)),
            "{query}: {texts:#?}"
        );
        // Where a link leads there is somebody, unless the two sides never met.
        for link in links.iter().filter(|link| link.contains("/retention?")) {
            let (texts, _) = notices(&host, link.split_once('?').unwrap().1);
            assert!(
                !texts.iter().any(|text| text.contains("Nobody did")),
                "{query} → {link}: {texts:#?}"
            );
        }
        let never = query.contains("nope") || query.contains("old@ever");
        assert!(
            never
                || links
                    .iter()
                    .any(|link| link.contains("from=") || link.contains("to=")),
            "{query}: {links:?}"
        );
    }
    assert_eq!(
        notices(&host, "cohort=nope&returning=new").0.len(),
        1,
        "a name that never was is said once"
    );
    // The returning side, likewise.
    let nobody = |what: &str| format!("Nobody came back to “{what}” in these periods;");
    for (query, said, leads) in [
        (
            "cohort=signup&returning=old",
            format!("{} “old” {old}.", nobody("old")),
            false,
        ),
        (
            "cohort=signup&returning=old+%26+old",
            format!("{} “old” {old}.", nobody("old & old")),
            false,
        ),
        (
            "cohort=signup&returning=old&returning_and=pro@ever",
            format!(
                "{} “old” {old}, “pro@ever” is recorded without dates.",
                nobody("old & pro@ever")
            ),
            false,
        ),
        (
            "cohort=signup&returning=old+%7C+nope",
            format!(
                "{} “old” {old}, “nope” has never been recorded.",
                nobody("old | nope")
            ),
            false,
        ),
        (
            "cohort=old&returning=new&to=2020-05-09",
            format!("{} “new” {new}.", nobody("new")),
            false,
        ),
        (
            "cohort=pro@ever&returning=new&from=2026-01-01&to=2026-01-20&cols=3",
            format!("{} “new” {new}.", nobody("new")),
            true,
        ),
        (
            "cohort=old@ever+%7C+pro@ever&returning=old",
            format!("{} “old” {old}.", nobody("old")),
            true,
        ),
    ] {
        let (texts, links) = notices(&host, query);
        assert!(
            texts.iter().any(|text| text.starts_with(&said)),
            "{query}: {texts:#?}"
        );
        let ranges: Vec<&String> = links
            .iter()
            .filter(|link| link.contains("from=") || link.contains("to="))
            .collect();
        assert_eq!(!ranges.is_empty(), leads, "{query}: {links:?}");
        for link in ranges {
            let (texts, _) = notices(&host, link.split_once('?').unwrap().1);
            assert!(texts.is_empty(), "{query} → {link}: {texts:#?}");
        }
    }
    let (texts, _) = notices(&host, "cohort=signup&returning=nope");
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(
        texts[0].starts_with("Nothing was ever recorded for “nope”."),
        "{texts:?}"
    );
    // Whoever came back is no news.
    assert!(notices(&host, "cohort=signup&returning=new").0.is_empty());
}
