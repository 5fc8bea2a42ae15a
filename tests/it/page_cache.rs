//! Cached pages are always the page that would be rendered, and are rarely rendered again.

use std::time::Duration;

use chrono::TimeDelta;
use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::server::{Dashboard, NamedStore, PageCache};
use cohortist::sets::{Catalogue, Key, Set};
use cohortist::store::CacheOptions;

use crate::http::{agent, read};
use crate::support::bent::Bent;
use crate::support::redis::RedisServer;
use crate::support::web::{name, now, product, product_store, serve_dashboard};

const QUESTION: &str = "/retention?cohort=signup&returning=active&by=day";

/// A dashboard of a tracker whose counts are remembered, with those pages.
fn dashboard(tracker: &Tracker, page_cache: &PageCache, clock: Clock) -> Dashboard {
    Dashboard {
        page_cache: page_cache.clone(),
        ..Dashboard::new(tracker.clone(), clock)
    }
}

fn host(dashboard: Dashboard) -> String {
    format!("http://{}", serve_dashboard(dashboard))
}

fn remembering(tracker: Tracker) -> Tracker {
    tracker.with_cache(CacheOptions::default(), Clock::Fixed(now()))
}

/// What a client that packs so is sent, unpacked.
fn packed(url: &str, packing: &str) -> (u16, String) {
    let mut response = agent()
        .get(url)
        .header("accept-encoding", packing)
        .call()
        .unwrap();
    (
        response.status().as_u16(),
        response.body_mut().read_to_string().unwrap(),
    )
}

/// Whatever is asked in whatever way, while anything happens to the store, is what a dashboard that
/// keeps nothing says.
fn check(tracker: &Tracker) {
    let kept = PageCache::new(1 << 20);
    let keeping = host(dashboard(tracker, &kept, Clock::Fixed(now())));
    let plain = host(dashboard(
        tracker,
        &PageCache::default(),
        Clock::Fixed(now()),
    ));
    let paths = [
        QUESTION.to_owned(),
        format!("{QUESTION}&as=count&order=oldest"),
        format!("{QUESTION}&trend=2"),
        "/retention?cohort=web&returning=active&by=week&rows=3".to_owned(),
        "/retention?cohort=brand%3Anew&returning=active&by=day".to_owned(),
        "/retention?cohort=signup&returning=active&by=day&measure=on_or_after".to_owned(),
        "/retention?cohort=(&returning=active&by=day".to_owned(),
        "/retention".to_owned(),
    ];
    let same = |round: &str| {
        for path in &paths {
            for packing in ["identity", "gzip", "gzip", "gzip, deflate", "br"] {
                let [mine, theirs] =
                    [&keeping, &plain].map(|host| packed(&format!("{host}{path}"), packing));
                let at = mine
                    .1
                    .bytes()
                    .zip(theirs.1.bytes())
                    .take_while(|(a, b)| a == b)
                    .count()
                    .saturating_sub(60);
                let near = |text: &str| {
                    text.get(at..)
                        .unwrap_or("")
                        .chars()
                        .take(160)
                        .collect::<String>()
                };
                assert!(
                    mine == theirs,
                    "{round}: {path} as {packing}:\n{}\n{}",
                    near(&mine.1),
                    near(&theirs.1)
                );
            }
        }
    };
    let yesterday = now() - TimeDelta::days(1);
    let [signup, active, new] = ["signup", "active", "brand:new"].map(name);
    // A list of what there is may be a few seconds old; all of them have the same one.
    let listed = || {
        let there = || Catalogue::new(tracker.keys("").unwrap());
        while *tracker.catalogue().unwrap() != there() {
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    same("at first");
    tracker.mark(&active, 1, yesterday).unwrap();
    tracker.unmark(&active, 2, yesterday).unwrap();
    same("marked and unmarked");
    tracker.mark(&signup, 4_000_000, yesterday).unwrap();
    same("a new user");
    tracker.mark_ever(&name("plan:gold"), 1).unwrap();
    listed();
    same("a new event to offer");
    tracker.mark(&new, 1, yesterday).unwrap();
    tracker
        .delete(&Key::new(signup, "2026-11-20".parse().unwrap()).unwrap())
        .unwrap();
    listed();
    same("a name that was unknown, and a bitmap gone");
    tracker.delete_event(&new).unwrap();
    listed();
    same("an event gone");
    assert!(kept.sent() > 30, "{kept:?}");
    // What browsers ask for, by HTTP and by HTTPS, curl, and whoever wants none.
    let before = kept.sent();
    for packing in [
        "gzip, deflate",
        "gzip, deflate, br, zstd",
        "deflate, gzip, br, zstd",
        "identity",
    ] {
        packed(&format!("{keeping}{QUESTION}"), packing);
    }
    assert_eq!(kept.sent(), before + 4);
}

#[test]
fn a_page_that_is_kept_is_the_page_that_would_be_written() {
    check(&remembering(product(20, 40)));
}

#[test]
fn on_redis_as_well() {
    let server = RedisServer::start();
    let store = cohortist::store::open(&server.url(), &crate::support::redis::patient()).unwrap();
    let from = product(20, 40);
    let keys = from.catalogue().unwrap();
    for event in from.events("").unwrap() {
        for key in keys.of(&event) {
            let users = from.members(&Set::from(key.clone())).map(Result::unwrap);
            let marks = users.map(|user| cohortist::store::Mark {
                key: key.clone(),
                user,
                value: true,
            });
            store.apply(&marks.collect::<Vec<_>>()).unwrap();
        }
    }
    // Its keys are listed every few seconds, so what is new may be seen by one of two dashboards
    // before the other.
    let tracker = remembering(Tracker::new(store));
    let kept = PageCache::new(1 << 20);
    let [keeping, plain] = [kept.clone(), PageCache::default()].map(|kept| {
        format!(
            "{}{QUESTION}",
            host(dashboard(&tracker, &kept, Clock::Fixed(now())))
        )
    });
    for user in 1..6 {
        for _ in 0..3 {
            assert_eq!(read(&keeping).body, read(&plain).body);
        }
        tracker
            .mark(
                &name("signup"),
                1_000_000 + user,
                now() - TimeDelta::days(1),
            )
            .unwrap();
    }
    assert!(kept.sent() >= 5, "{kept:?}");
}

#[test]
fn what_was_written_at_another_time_or_for_another_store_is_another_page() {
    let (tracker, kept) = (remembering(product(20, 40)), PageCache::new(1 << 20));
    for minutes in [0, 1, 55, 56, 24 * 60] {
        let clock = Clock::Fixed(now() + TimeDelta::minutes(minutes));
        let keeping = host(dashboard(&tracker, &kept, clock));
        let plain = host(dashboard(&tracker, &PageCache::default(), clock));
        for _ in 0..2 {
            let [mine, theirs] =
                [keeping.as_str(), &plain].map(|host| read(&format!("{host}{QUESTION}")).body);
            assert_eq!(mine, theirs, "{minutes}");
        }
    }
    assert_eq!(kept.sent(), 5);
    let store = |name: &str, tracker: &Tracker| NamedStore {
        name: name.to_owned(),
        tracker: tracker.clone(),
        read_only: false,
    };
    let other = remembering(product(20, 50));
    let both = |stores| Dashboard {
        stores,
        ..dashboard(&tracker, &kept, Clock::Fixed(now()))
    };
    let host = host(both(vec![store("one", &tracker), store("two", &other)]));
    let pages: Vec<String> = ["", "/in/two", "", "/in/two"]
        .map(|base| read(&format!("{host}{base}{QUESTION}")).body)
        .into();
    assert!(pages[0] == pages[2] && pages[1] == pages[3] && pages[0] != pages[1]);
    assert!(
        pages[1].contains("action=\"/in/two/retention\"") && !pages[0].contains("action=\"/in/two")
    );
}

#[test]
fn pages_stay_within_their_memory() {
    let (tracker, kept) = (remembering(product(20, 40)), PageCache::new(200_000));
    let host = host(dashboard(&tracker, &kept, Clock::Fixed(now())));
    let mut bytes = 0;
    for rows in 2..20 {
        bytes = read(&format!("{host}{QUESTION}&rows={rows}")).body.len();
    }
    assert!(
        bytes > 20_000 && (1..=200_000 / 10_000).contains(&kept.len()),
        "{bytes} {kept:?}"
    );
    let metrics = read(&format!("{host}/metrics")).body;
    assert!(metrics.contains("\ncohortist_kept_pages "), "{metrics}");
}

#[test]
fn what_comes_behind_its_frame_is_not_packed() {
    let slow = Bent::of(&product_store(20, 40))
        .before_counting(|plan| {
            // A few bitmaps tell where the data ends.
            if plan.roots().len() > 20 {
                std::thread::sleep(Duration::from_secs(1));
            }
        })
        .says_version(true);
    let tracker = remembering(Tracker::new(slow.shared()));
    let url = format!(
        "{}{QUESTION}",
        host(dashboard(
            &tracker,
            &PageCache::new(1 << 20),
            Clock::Fixed(now())
        ))
    );
    let [first, again] = [(); 2].map(|()| packed(&url, "gzip").1);
    assert!(
        first.contains("role=\"status\">Counting") && first.contains("</html>"),
        "{first}"
    );
    let (frame, rest) = first.split_once("<p class=\"notice waiting\"").unwrap();
    assert!(
        again.starts_with(frame) && again.ends_with(rest.split_once("</p>\n").unwrap().1),
        "{again}"
    );
}

/// Asks for a page with the tag that the client has. Returns the status, the tag, and the length of
/// the body.
fn conditional(url: &str, encoding: &str, tag: Option<&str>) -> (u16, Option<String>, usize) {
    let mut request = agent().get(url).header("accept-encoding", encoding);
    if let Some(tag) = tag {
        request = request.header("if-none-match", tag);
    }
    let mut response = request.call().unwrap();
    let tag = response.headers().get("etag");
    let tag = tag.map(|tag| tag.to_str().unwrap().to_owned());
    let length = response.body_mut().read_to_vec().unwrap().len();
    (response.status().as_u16(), tag, length)
}

#[test]
fn a_client_that_has_the_page_gets_304_until_it_changes() {
    let tracker = remembering(product(20, 40));
    let cache = PageCache::new(1 << 20);
    let url = host(dashboard(&tracker, &cache, Clock::Fixed(now()))) + QUESTION;
    for (encoding, user) in [("identity", 5_000_000), ("gzip", 5_000_001)] {
        let (status, tag, length) = conditional(&url, encoding, None);
        assert!(status == 200 && tag.is_some() && length > 1_000);
        let again = conditional(&url, encoding, tag.as_deref());
        assert_eq!(again, (304, tag.clone(), 0));
        let listed = format!("W/\"another\", {}", tag.as_deref().unwrap());
        assert_eq!(conditional(&url, encoding, Some(&listed)).0, 304);
        assert_eq!(conditional(&url, encoding, Some("W/\"another\"")).0, 200);

        let yesterday = now() - TimeDelta::days(1);
        tracker.mark(&name("signup"), user, yesterday).unwrap();
        let (status, changed, _) = conditional(&url, encoding, tag.as_deref());
        assert_eq!(status, 200);
        assert_ne!(changed, tag);
    }
    // Another process never gives the same tag to another page.
    let other = host(dashboard(
        &tracker,
        &PageCache::new(1 << 20),
        Clock::Fixed(now()),
    )) + QUESTION;
    let (_, tag, _) = conditional(&url, "gzip", None);
    assert_eq!(conditional(&other, "gzip", tag.as_deref()).0, 200);
    // Pages that are not cached have no tag.
    let plain = host(dashboard(
        &tracker,
        &PageCache::default(),
        Clock::Fixed(now()),
    )) + QUESTION;
    assert_eq!(conditional(&plain, "gzip", Some("*")).1, None);
}
