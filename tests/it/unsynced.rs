//! Changes that are made although the disk fails to store them safely: nothing reports them as
//! failed.

use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::server::Dashboard;
use cohortist::sets::{Set, UserId};
use cohortist::store::StoreError;

use crate::http::{agent, read};
use crate::support::bent::Bent;
use crate::support::program::{Ran, Shop};
use crate::support::web::{name, now, product_store, serve_dashboard};

const WARNING: &str = "warning: recorded, but not safe from a power cut: ";

/// Runs the program with `--sync always` on a disk that cannot force the log of its store to disk.
fn on_a_failing_disk(shop: &Shop, args: &[&str]) -> Ran {
    let store = std::fs::canonicalize(shop.path("cohortist.db")).unwrap();
    let logs: Vec<String> = (1..10)
        .map(|number| store.join(format!("log-{number}")).display().to_string())
        .collect();
    let mut options = vec!["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"];
    logs.iter().for_each(|log| options.extend(["-P", log]));
    let ran = shop
        .traced(&options, &[&["--sync", "always"], args].concat())
        .output();
    ran.expect("strace is needed: apt-get install strace")
        .into()
}

#[test]
fn commands_warn_and_succeed() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1"]).done();
    let csv = "user,event,timestamp\n7,active,2026-11-23\n8,active,2026-11-23\n";
    shop.write("marks.csv", csv);
    for (args, said, count) in [
        (
            &["mark", "active", "2"][..],
            "marked `active` for 1 user",
            "2\n",
        ),
        (
            &["unmark", "active", "1"],
            "unmarked `active` for 1 user",
            "1\n",
        ),
        (&["import", "marks.csv"], "", "3\n"),
        (
            &["delete", "active", "--period", "2026-11-23"],
            "deleted bitmaps of `active`",
            "-\n",
        ),
        (&["delete", "active"], "deleted bitmaps of `active`", "-\n"),
    ] {
        let ran = on_a_failing_disk(&shop, args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        assert!(
            ran.err.contains(WARNING) && ran.err.contains(said),
            "{args:?}: {}",
            ran.err
        );
        assert_eq!(
            shop.run(&["count", "active@2026-11-23"]).out,
            count,
            "{args:?}"
        );
    }
    // A disk that works warns of nothing.
    let ran = shop.run(&["--sync", "always", "mark", "active", "1"]);
    assert!(ran.code == 0 && !ran.err.contains("warning"), "{}", ran.err);
    let ran = on_a_failing_disk(&shop, &["delete", "--all", "--yes"]);
    assert!(ran.code == 0 && ran.err.contains(WARNING), "{}", ran.err);
    assert_eq!(shop.run(&["events"]).out, "");
    shop.run(&["mark", "active", "1", "--at", "2020-01-01"])
        .done();
    shop.mark_five_days();
    let ran = on_a_failing_disk(&shop, &["expire", "--days", "30d", "--yes"]);
    assert!(
        ran.code == 0 && ran.err.contains(WARNING) && ran.err.contains("deleted bitmaps"),
        "{}",
        ran.err
    );
    assert_eq!(
        shop.run(&["count", "active@2020-01-01", "active@2020-01"])
            .out
            .lines()
            .count(),
        2
    );
}

#[test]
fn a_page_that_saves_a_segment_says_that_a_power_cut_may_lose_it() {
    let inner = product_store(2, 10);
    let unsynced = || StoreError::Unsynced {
        path: "/data".into(),
        reason: "the disk failed".into(),
        source: None,
    };
    let store = Bent::of(&inner).saving(move |saved| saved.and_then(|_| Err(unsynced())));
    let tracker = Tracker::new(store.shared());
    let host = format!(
        "http://{}",
        serve_dashboard(Dashboard::new(tracker.clone(), Clock::Fixed(now())))
    );
    let form = agent().post(format!("{host}/people?set=active@2026-11-23"));
    let response = form
        .header("content-type", "application/x-www-form-urlencoded")
        .send("name=mine")
        .unwrap();
    let location = response.headers()["location"].to_str().unwrap();
    assert_eq!(
        (response.status().as_u16(), location),
        (303, "/people?set=mine%40ever&saved=unsynced")
    );
    let page = read(&format!("{host}{location}"));
    assert!(
        page.status == 200 && page.body.contains("a power cut may lose it"),
        "{}",
        page.body
    );
    let people = |set: &Set| {
        tracker
            .members(set)
            .map(Result::unwrap)
            .collect::<Vec<UserId>>()
    };
    let active = Set::event_in(&name("active"), "2026-11-23".parse().unwrap());
    assert!(!people(&active).is_empty());
    assert_eq!(people(&Set::ever(&name("mine"))), people(&active));
    // The next person to come to that address is not told so of a store that works.
    assert!(
        !read(&format!("{host}/people?set=mine@ever&saved=1"))
            .body
            .contains("power cut")
    );
}
