//! A product to look at, small enough to be made anew for each test, and a dashboard that shows it.

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::calendar::parse_moment;
use cohortist::clock::Clock;
use cohortist::sets::EventName;
use cohortist::store::Store;
use cohortist::{Extent, Tracker, server, store};

/// When every test of the pages takes place: a Monday afternoon.
pub fn now() -> DateTime<Utc> {
    parse_moment("2026-11-23T19:04:00Z").unwrap()
}

/// A tracker on an empty store in memory.
pub fn empty() -> Tracker {
    Tracker::new(store::open("memory:", &store::Options::default()).unwrap())
}

/// The name of an event.
pub fn name(text: &str) -> EventName {
    EventName::new(text).unwrap()
}

/// A number below `below`, the same for the same `seed`.
fn dice(seed: &mut u64, below: u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// People signing up for `days` days up to [`now`], `daily` on a Tuesday and fewer at weekends, who
/// come back less and less; `plan:pro` and `web` are marked too. The hours of the last day are
/// kept.
pub fn product(days: i64, daily: u64) -> Tracker {
    Tracker::new(product_store(days, daily))
}

/// The store of such a [`product`].
pub fn product_store(days: i64, daily: u64) -> Arc<dyn Store> {
    let store = store::open("memory:", &store::Options::default()).unwrap();
    let tracker = Tracker::new(Arc::clone(&store));
    let [signup, active, web, pro] = ["signup", "active", "web", "plan:pro"].map(name);
    let (mut seed, mut user) = (7, 0);
    let mut batch = tracker.batch();
    for day in (0..days).rev() {
        let noon = now() - TimeDelta::days(day);
        let weekday = noon.format("%u").to_string();
        let weight = if matches!(&*weekday, "6" | "7") {
            62
        } else {
            96
        };
        let today = if day == 0 {
            daily * 4 / 10
        } else {
            daily * weight / 100 + dice(&mut seed, daily / 5 + 1)
        };
        for _ in 0..today {
            user += 1;
            let is_pro = dice(&mut seed, 4) == 0;
            batch
                .mark_to(
                    &signup,
                    user,
                    noon,
                    Extent {
                        hourly: day < 2,
                        ever: false,
                    },
                )
                .unwrap();
            if is_pro {
                batch.mark_ever(&pro, user);
            }
            for k in 0..=day {
                let share = (if is_pro { 62 } else { 46 }) * 100
                    / (100 + 28 * u64::try_from(k).unwrap())
                    + 6;
                let share = if k == 0 { 92 } else { share };
                if dice(&mut seed, 100) < share {
                    let back = noon + TimeDelta::days(k);
                    batch
                        .mark_to(
                            &active,
                            user,
                            back,
                            Extent {
                                hourly: day - k < 2,
                                ever: false,
                            },
                        )
                        .unwrap();
                    if dice(&mut seed, 3) > 0 {
                        batch.mark(&web, user, back).unwrap();
                    }
                }
            }
            if batch.len() > 100_000 {
                batch.commit().unwrap();
            }
        }
    }
    batch.commit().unwrap();
    store
}

/// A dashboard on a free port, as of [`now`], for the rest of the process.
pub fn serve(tracker: Tracker) -> SocketAddr {
    serve_dashboard(server::Dashboard::new(tracker, Clock::Fixed(now())))
}

/// The same with a dashboard of one's own.
pub fn serve_dashboard(dashboard: impl Into<server::Live>) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    let settings = server::Settings::new("127.0.0.1:0", dashboard);
    std::thread::spawn(move || {
        server::run(settings, move |addresses| tell.send(addresses[0]).unwrap()).unwrap();
    });
    told.recv_timeout(std::time::Duration::from_secs(120))
        .expect("the dashboard to listen")
}

/// Event names that mean something to HTML, addresses, paths, spreadsheets, segments, XML or the
/// eye, and must mean nothing at all.
pub fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</title><h1>",
        "\"",
        "'",
        "\\",
        "\"q\\\"",
        "' onfocus='alert(1)",
        "%",
        "%2F",
        "%2F../",
        "%0d%0aSet-Cookie: a=b",
        "a/b",
        "/",
        "//host/x",
        "../",
        "..",
        ".",
        "../x",
        "?x=1#y",
        "a?b#c",
        "a&b;c",
        "&lt;",
        "&amp;",
        "]]>",
        "{{ 7*7 }}",
        "=1+1",
        "+1",
        "-1",
        "@x",
        "javascript:alert(1)",
        "a|b",
        "!(a ^ b)",
        "*",
        "[a-z]?",
        "a,b\u{2028}c",
        "a b",
        "a+b",
        " blanks ",
        "no\u{a0}break",
        "x.csv",
        "x.json",
        ".json",
        ".csv",
        "2026-11-23",
        "W2026-48",
        "u_u",
        "שלום",
        "\u{202e}gpj.exe",
        "e\u{301}",
        "\u{e9}",
        "z\u{335}\u{336}\u{489}",
        "\u{200b}",
        "\u{fffe}\u{ffff}",
        "👩‍👩‍👧‍👦",
    ]
    .map(str::to_owned)
    .into();
    names.push("🎉".repeat(50));
    names
}
