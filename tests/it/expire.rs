//! `cohortist expire`: what goes, what stays, and that nothing goes unasked.

use crate::support::program::Shop;
use crate::support::redis::RedisServer;

fn fill(shop: &Shop, store: &[&str]) {
    for day in [
        "2025-10-18",
        "2025-10-19",
        "2026-10-23T23:59:00Z",
        "2026-10-24T15:00:00Z",
        "2026-11-23T13:30:00Z",
    ] {
        for user in ["1", "2000000"] {
            shop.run(
                &[
                    store,
                    &["mark", "active", user, "--at", day, "--hourly", "--ever"],
                ]
                .concat(),
            )
            .done();
        }
    }
}

#[test]
fn what_was_kept_long_enough_goes_when_told_and_never_before() {
    let server = RedisServer::start();
    let url = server.url();
    for store in [&[][..], &["--store", &url]] {
        let shop = Shop::new();
        fill(&shop, store);
        let run = |args: &[&str]| shop.run(&[store, args].concat());
        let wishes = ["expire", "--hours", "30d", "--days", "400d"];
        let count = |set: &str| run(&["count", set]).done();
        let dry = run(&wishes);
        assert_eq!(dry.code, 0, "{}", dry.err);
        assert!(
            dry.err
                .contains("4 bitmaps would be deleted; nothing was deleted"),
            "{}",
            dry.err
        );
        let lines: Vec<&str> = dry.out.lines().collect();
        assert_eq!(lines.len(), 2, "{}", dry.out);
        assert!(
            lines[0].starts_with("hours") && lines[0].ends_with("18 Oct 00:00 to 23 Oct 23:00"),
            "{}",
            lines[0]
        );
        assert!(
            lines[1].starts_with("days")
                && lines[1].ends_with("Sat 18 Oct 2025 to Sat 18 Oct 2025"),
            "{}",
            lines[1]
        );
        // Half a megabyte in Redis, some bytes here.
        assert!(
            lines[1].contains("about ")
                && lines[1].contains(if store.is_empty() { " B " } else { "KiB" }),
            "{}",
            lines[1]
        );
        assert_eq!(count("active@2025-10-18"), "2\n");

        let done = run(&[&wishes[..], &["--yes"]].concat());
        assert!(
            done.err.starts_with("deleted 4 bitmaps, about "),
            "{}",
            done.err
        );
        assert_eq!(count("active@2025-10-18"), "-\n");
        for kept in [
            "active@2025-10-19",
            "active@2025-10",
            "active@ever",
            "active@2026-10-24T15",
            "active@2025-W42",
        ] {
            assert_eq!(count(kept), "2\n", "{kept}");
        }
        let again = run(&wishes);
        assert_eq!(
            (again.out.as_str(), again.err.as_str()),
            ("", "nothing has expired\n")
        );
    }
}

#[test]
fn a_slip_deletes_nothing() {
    let shop = Shop::new();
    fill(&shop, &[]);
    assert!(
        shop.run(&["expire", "--yes"])
            .error(2)
            .contains("--hours 30d")
    );
    for slip in ["30", "30m", "0d", "-1d", "later"] {
        let ran = shop.run(&["expire", &format!("--hours={slip}"), "--yes"]);
        assert_eq!(ran.code, 2, "{slip}");
        assert!(
            ran.err.contains("such as 36h, 30d, 2w or 1y"),
            "{}",
            ran.err
        );
    }
    assert_eq!(shop.run(&["count", "active@2025-10-18T00"]).done(), "2\n");
}

/// A clock that jumps forward makes everything old. Nothing goes unless that is asked for by name,
/// on every kind of store.
#[test]
fn nothing_goes_when_even_the_newest_bitmap_would() {
    let server = RedisServer::start();
    let url = server.url();
    for store in [&[][..], &["--store", &url]] {
        let shop = Shop::new();
        fill(&shop, store);
        let by_clock = |now: &str, args: &[&str]| -> crate::support::program::Ran {
            let args = [store, args].concat();
            shop.command(&args)
                .env("COHORTIST_NOW", now)
                .output()
                .unwrap()
                .into()
        };
        let keys = || shop.run(&[store, &["events"]].concat()).done();
        let before = keys();
        // Two years, and the day of the last mark is still kept for ever: hours alone would go.
        for wishes in [
            &["expire", "--hours", "30d", "--yes"][..],
            &["expire", "--hours", "30d", "--days", "400d", "--yes"],
        ] {
            let error = by_clock("2028-11-23T14:05:00Z", wishes).error(1);
            assert!(
                error.contains("2026-11-23T13") && error.contains("2028-11-23 14:05"),
                "{error}"
            );
            assert!(error.contains("--even-the-newest"), "{error}");
            assert_eq!(keys(), before);
            assert_eq!(
                shop.run(&[store, &["count", "active@2026-11-23T13"]].concat())
                    .done(),
                "2\n"
            );
        }
        // Where nothing would go nothing is refused, and a dry run warns.
        assert_eq!(
            by_clock("2028-11-23", &["expire", "--months", "9y", "--yes"]).err,
            "nothing has expired\n"
        );
        let dry = by_clock("2028-11-23", &["expire", "--hours", "30d"]);
        assert!(
            dry.code == 0
                && dry.err.contains("5 bitmaps would be deleted")
                && dry.err.contains("Is the clock right?"),
            "{}",
            dry.err
        );
        // No variable asks for it.
        let args = [store, &["expire", "--hours", "30d", "--yes"]].concat();
        let mut command = shop.command(&args);
        command
            .env("COHORTIST_NOW", "2028-11-23")
            .env("COHORTIST_EVEN_THE_NEWEST", "1");
        crate::support::program::Ran::from(command.output().unwrap()).error(1);
        let done = by_clock(
            "2028-11-23",
            &["expire", "--hours", "30d", "--yes", "--even-the-newest"],
        );
        assert!(
            done.err.starts_with("deleted 5 bitmaps, about "),
            "{}",
            done.err
        );
    }
}

/// Marks of a far future, by a sender whose clock is wrong, do not hide that the store's own clock
/// is.
#[test]
fn a_bitmap_of_the_future_is_not_the_newest() {
    use chrono::TimeDelta;
    use cohortist::calendar::{Period, parse_moment};
    use cohortist::reports::expiry::ExpiryPolicy;
    use cohortist::sets::Key;
    let key = |period| Key::new("active".parse().unwrap(), period).unwrap();
    let day = |year, month, day| Period::day(year, month, day).unwrap();
    let keys = [day(2026, 11, 22), day(2026, 11, 23), day(2099, 1, 1)].map(key);
    let keeping = ExpiryPolicy {
        days: Some(TimeDelta::days(30)),
        ..ExpiryPolicy::default()
    };
    let at = |text| parse_moment(text).unwrap();
    assert_eq!(
        keeping.newest_if_over(&keys, at("2026-12-23T23:59:59Z")),
        None
    );
    assert_eq!(
        keeping.newest_if_over(&keys, at("2026-12-24")),
        Some(day(2026, 11, 23))
    );
    assert_eq!(
        keeping.newest_if_over(&keys, at("2098-12-31")),
        Some(day(2026, 11, 23))
    );
    assert_eq!(keeping.newest_if_over(&keys, at("2099-01-02")), None);
    assert_eq!(keeping.newest_if_over(&[], at("2099-01-02")), None);
    // What is kept for good does not go, whatever the time.
    assert_eq!(
        ExpiryPolicy::default().newest_if_over(&keys, at("2098-12-31")),
        None
    );
}

/// One mark by a clock that is years ahead, and then an expiry by the same clock.
#[test]
fn one_mark_by_a_wrong_clock_does_not_make_everything_old() {
    let server = RedisServer::start();
    let url = server.url();
    for store in [&[][..], &["--store", &url]] {
        let shop = Shop::new();
        let run = |args: &[&str]| shop.run(&[store, args].concat());
        let mark = |day: &str| {
            let args = ["mark", "active", "1", "--at", day, "--hourly", "--any-year"];
            run(&args).done()
        };
        let days: Vec<String> = (1..=9).map(|day| format!("2026-11-{day:02}")).collect();
        days.iter().for_each(|day| drop(mark(day)));
        let kept = || {
            let sets: Vec<String> = days.iter().map(|day| format!("active@{day}")).collect();
            let args: Vec<&str> = ["count"]
                .into_iter()
                .chain(sets.iter().map(String::as_str))
                .collect();
            run(&args).done().matches("1\t").count()
        };
        // Four days of it are as doubtful as one, also where hours alone would go.
        for (day, wishes) in [
            ("2031-01-01", ["--days", "400d"]),
            ("2031-01-02", ["--hours", "30d"]),
            ("2031-01-03", ["--months", "2y"]),
            ("2031-01-04", ["--days", "400d"]),
        ] {
            mark(day);
            let now = format!("{day}T12:00:00Z");
            let expire = ["--now", &now, "expire", "--yes", wishes[0], wishes[1]];
            let error = run(&expire).error(1);
            assert!(
                error.contains("between 2026-11") && error.contains("--even-the-newest"),
                "{error}"
            );
            assert_eq!(kept(), 9);
            let dry = run(&["--now", &now, "expire", wishes[0], wishes[1]]);
            assert!(dry.err.contains("Is the clock right?"), "{}", dry.err);
        }
        // By the right clock marks of the future are none of its business.
        let expire = ["--now", "2026-11-23", "expire", "--days", "20d", "--yes"];
        let told = run(&expire).err;
        assert!(told.starts_with("deleted 2 bitmaps"), "{told}");
        assert_eq!(kept(), 7);
        // A product that was paused goes on: after some days it is believed.
        mark("2031-01-05");
        let expire = [
            "--now",
            "2031-01-05T12:00:00Z",
            "expire",
            "--days",
            "400d",
            "--yes",
        ];
        let told = run(&expire).err;
        assert!(told.starts_with("deleted 7 bitmaps"), "{told}");
    }
}
