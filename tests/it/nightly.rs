//! `[expire]` of the configuration: what `serve` deletes by itself at night, and what it never
//! does.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use cohortist::clock::Clock;
use cohortist::reports::expiry::next_night;
use cohortist::sets::Set;
use cohortist::store::{self, Options};
use cohortist::{Extent, Tracker};
use proptest::prelude::*;

use crate::support::program::Shop;
use crate::support::redis::{RedisServer, signal};
use crate::support::web::name;

proptest! {
    #[test]
    fn the_next_night_is_the_first_moment_of_that_time_of_day(second in -2_000_000_000_i64..10_000_000_000, at in 0_u32..86_400) {
        let (now, at) = (DateTime::from_timestamp(second, 0).unwrap(), NaiveTime::from_num_seconds_from_midnight_opt(at, 0).unwrap());
        let next = next_night(at, now);
        prop_assert_eq!(next.time(), at);
        prop_assert!(next > now && next - now <= TimeDelta::days(1));
        prop_assert_eq!(next_night(at, next), next + TimeDelta::days(1));
    }
}

/// The server under the system's clock, and what it says.
struct Night {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Night {
    fn start(shop: &Shop, args: &[&str]) -> Self {
        Self::by(shop, args, None)
    }

    fn by(shop: &Shop, args: &[&str], now: Option<&str>) -> Self {
        let mut command = shop.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        match now {
            Some(now) => command.env("COHORTIST_NOW", now),
            None => command.env_remove("COHORTIST_NOW"),
        };
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Night { child, lines }
    }

    /// Reads on until a line holds the words; answers all that was read.
    fn until(&mut self, words: &str) -> String {
        let mut read = String::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            read += &line;
            read.push('\n');
            if line.contains(words) {
                return read;
            }
        }
        panic!("it never said {words:?}, but {read}");
    }

    /// Asks it to end, and answers what else it said.
    fn end(mut self) -> String {
        let asked = Instant::now();
        signal(self.child.id(), "-TERM");
        let rest: Vec<String> = self.lines.by_ref().map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success(), "{rest:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(60),
            "its thread ends with it"
        );
        rest.join("\n")
    }
}

impl Drop for Night {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn at(days: i64) -> DateTime<Utc> {
    Clock::System.now() - TimeDelta::days(days)
}

/// Users with everything a mark can set, so many days ago.
fn fill(tracker: &Tracker) {
    for days in [0, 20, 39, 41, 300, 900] {
        let extent = Extent {
            hourly: true,
            ever: true,
        };
        tracker
            .batch()
            .mark_to(&name("active"), 7, at(days), extent)
            .unwrap()
            .commit()
            .unwrap();
    }
}

fn open(store: &str) -> Tracker {
    Tracker::new(store::open(store, &Options::default()).unwrap())
}

/// Of `active`, how many bitmaps there are of each kind: hours, days, weeks, months, undated.
fn kinds(tracker: &Tracker) -> [usize; 5] {
    use cohortist::calendar::Grain;
    use cohortist::sets::When;
    let keys = tracker.keys("active").unwrap();
    let of = |grain| {
        keys.iter()
            .filter(|key| matches!(key.when(), When::In(period) if period.grain() == grain))
            .count()
    };
    let undated = keys.iter().filter(|key| key.when() == When::Ever).count();
    [
        of(Grain::Hour),
        of(Grain::Day),
        of(Grain::WEEK),
        of(Grain::Month),
        undated,
    ]
}

#[test]
fn what_is_over_goes_when_the_server_starts_and_it_says_so() {
    let (server, shop) = (RedisServer::start(), Shop::new());
    let url = server.url();
    let path = shop.path("own.db").display().to_string();
    for store in [&path, &url] {
        fill(&open(store));
    }
    let before = kinds(&open(&url));
    let weeks = before[2];
    assert_eq!((before[0], before[1], before[4]), (6, 6, 1));
    shop.write(
        "cohortist.toml",
        format!(
            "[stores]\nown = \"./own.db\"\nredis = {{ store = \"{url}\", expire = {{ hours = \"40d\" }} }}\n\
             kept = {{ store = \"{url}\", expire = {{}} }}\n[expire]\nhours = \"30d\"\ndays = \"400d\"\nat = \"02:45\"\n"
        ),
    );
    let mut night = Night::start(&shop, &[]);
    let said = night.until("cohortist is listening");
    for line in [
        "expire: bitmaps in own expire after hours 30d, days 400d; cleanup runs now and every night at 02:45 UTC\n",
        "expire: bitmaps in redis expire after hours 40d; cleanup runs now and every night at 02:45 UTC\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(!said.contains("bitmaps in kept"), "{said}");
    let address = said
        .lines()
        .find_map(|line| line.strip_prefix("cohortist is listening on "))
        .unwrap()
        .to_owned();
    let said = night.until("store=\"redis\"");
    assert!(
        said.contains("INFO")
            && said.contains("deleted expired bitmaps (limits: hours 30d, days 400d):"),
        "{said}"
    );
    assert!(
        said.contains("4 bitmaps of hours, about ") && said.contains("; 1 bitmap of days, about "),
        "{said}"
    );
    assert!(said.contains("bitmaps=5"), "{said}");
    assert!(said.contains("bitmaps=3"), "{said}");
    let metrics = ureq::get(format!("{address}/metrics"))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    for line in [
        "cohortist_expired_bitmaps_total{kind=\"hour\",store=\"own\"} 4\n",
        "cohortist_expired_bitmaps_total{kind=\"day\",store=\"own\"} 1\n",
        "cohortist_expired_bitmaps_total{kind=\"hour\",store=\"redis\"} 3\n",
        "cohortist_expire_failures_total{store=\"own\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(
        metrics.contains("cohortist_expired_bytes_total{kind=\"hour\",store=\"redis\"} 3\n"),
        "{metrics}"
    );
    let done = metrics.lines().find_map(|l| {
        l.strip_prefix("cohortist_expire_last_success_timestamp_seconds{store=\"own\"} ")
    });
    assert!(
        (at(0).timestamp() - done.unwrap().parse::<i64>().unwrap()).abs() < 600,
        "{metrics}"
    );
    night.end();
    let own = open(&path);
    assert_eq!(kinds(&own), [2, 5, weeks, before[3], 1]);
    assert_eq!(kinds(&open(&url)), [3, 6, weeks, before[3], 1]);
    assert_eq!(own.count(&Set::ever(&name("active"))).unwrap(), 1);
    drop(own);

    // Once more: there is nothing left to do, and it says that too.
    let mut night = Night::start(&shop, &[]);
    let said = night.until("store=\"redis\"");
    assert_eq!(
        said.matches("nothing has expired (limits: hours").count(),
        2,
        "{said}"
    );
    night.end();
}

#[test]
fn nothing_goes_of_a_store_that_is_read_only_or_by_a_moment_that_was_made_up_or_that_the_file_does_not_name()
 {
    let (server, shop) = (RedisServer::start(), Shop::new());
    let url = server.url();
    fill(&open(&url));
    let before = server.keys();
    let stores = format!("[stores]\na = {{ store = \"{url}\", read_only = true }}\n");
    let expire = "[expire]\nhours = \"1h\"\ndays = \"1d\"\nweeks = \"1w\"\nmonths = \"30d\"\n";
    let frozen = Some("2099-01-01");
    let writable = format!("[stores]\na = \"{url}\"\n");
    for (file, args, now, words) in [
        (
            format!("{stores}{expire}"),
            &[][..],
            None,
            "expire: nothing is deleted from a, because it is read-only",
        ),
        (
            format!("{writable}{expire}"),
            &["--read-only"],
            None,
            "expire: nothing is deleted from a, because it is read-only",
        ),
        (
            format!("read_only = true\n{writable}{expire}"),
            &[],
            None,
            "expire: nothing is deleted from a, because it is read-only",
        ),
        (
            format!("{writable}{expire}"),
            &[],
            frozen,
            "expire: nothing is deleted from a, because of --now",
        ),
        (
            format!("[stores]\nother = \"./x.db\"\n{expire}"),
            &["--store", &url],
            None,
            "only redis+unix://",
        ),
    ] {
        shop.write("cohortist.toml", &file);
        let mut night = Night::by(&shop, args, now);
        let said = night.until("cohortist is listening");
        assert!(said.contains(words), "{file}: {said}");
        // The store has been asked, so whatever begins with the server has had its time.
        std::thread::sleep(Duration::from_millis(300));
        let rest = night.end();
        assert!(!rest.contains("(limits: "), "{rest}");
        assert_eq!(server.keys(), before, "{file}");
    }
    // A slip in it: no server at all.
    shop.write(
        "cohortist.toml",
        format!("{writable}[expire]\ndays = \"0d\"\n"),
    );
    let ran = shop.run(&["serve", "--listen", "127.0.0.1:0"]).error(2);
    assert!(
        ran.contains("cohortist.toml, line 4: `expire.days`: write a span of at least an hour"),
        "{ran}"
    );
    assert_eq!(server.keys(), before);
    // A taken port: nothing was served, and nothing deleted.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    shop.write("cohortist.toml", format!("{writable}{expire}"));
    let mut command = shop.command(&[
        "serve",
        "--listen",
        &taken.local_addr().unwrap().to_string(),
    ]);
    let ran = command.env_remove("COHORTIST_NOW").output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(server.keys(), before);
}

#[test]
fn a_store_that_is_away_is_tried_again_after_some_seconds() {
    let (server, shop) = (RedisServer::start(), Shop::new());
    let url = server.url();
    fill(&open(&url));
    shop.write("cohortist.toml", "[expire]\nhours = \"30d\"\n");
    server.pause();
    let mut night = Night::start(&shop, &["--store", &url, "--redis-timeout", "0.3"]);
    let said = night.until("could not be deleted, trying again later");
    assert!(
        said.contains("ERROR") && said.contains("does not answer"),
        "{said}"
    );
    let failed = Instant::now();
    server.resume();
    let said = night.until("deleted expired bitmaps (limits: hours 30d");
    assert!(
        failed.elapsed() > Duration::from_secs(3),
        "not in a tight loop: {said}"
    );
    night.end();
    assert_eq!(kinds(&open(&url))[..2], [2, 6]);
}

#[test]
fn the_command_goes_by_the_configuration_where_no_flag_says_otherwise() {
    let shop = Shop::new();
    for store in ["./a.db", "./b.db"] {
        let recent = (19..=23).map(|day| format!("2026-11-{day}"));
        let days = ["2025-10-18".to_owned(), "2026-10-01".to_owned()];
        for day in days.into_iter().chain(recent) {
            shop.run(&[
                "--store", store, "mark", "active", "1", "--at", &day, "--hourly", "--ever",
            ])
            .done();
        }
    }
    shop.write(
        "cohortist.toml",
        "[stores]\na = \"./a.db\"\nb = { store = \"./b.db\", read_only = true }\n[expire]\nhours = \"30d\"\ndays = \"400d\"\n",
    );
    let dry = shop.run(&["expire"]);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(
        dry.err
            .starts_with("from the configuration: hours 30d, days 400d\n"),
        "{}",
        dry.err
    );
    assert!(
        dry.err
            .contains("3 bitmaps would be deleted; nothing was deleted"),
        "{}",
        dry.err
    );
    assert!(
        dry.out
            .lines()
            .map(|l| l.split(' ').next().unwrap())
            .eq(["hours", "days"]),
        "{}",
        dry.out
    );
    // A flag stands in place of all of it.
    let flags = shop.run(&["expire", "--days", "30d"]);
    assert!(
        flags.err.contains("2 bitmaps would be deleted") && !flags.err.contains("configuration"),
        "{}",
        flags.err
    );
    assert!(
        flags.out.starts_with("days") && !flags.out.contains("hours"),
        "{}",
        flags.out
    );
    let refused = shop.run(&["--store", "b", "expire", "--yes"]).error(2);
    assert!(
        refused.contains("the configuration makes b read-only"),
        "{refused}"
    );
    // The file speaks of its own stores.
    let other = shop.run(&["--store", "./b.db", "expire", "--yes"]).error(2);
    assert!(other.contains("how long bitmaps are kept"), "{other}");
    let done = shop.run(&["expire", "--yes"]);
    assert!(
        done.err.contains("\ndeleted 3 bitmaps, about "),
        "{}",
        done.err
    );
    assert_eq!(
        shop.run(&[
            "count",
            "active@2025-10-18",
            "active@2026-10-01",
            "active@ever"
        ])
        .done()
        .lines()
        .count(),
        3
    );
    assert!(
        shop.run(&["count", "active@2025-10-18"])
            .done()
            .starts_with('-')
    );
    let check = shop.run(&["serve", "--check"]).done();
    assert!(
        check.contains(
            "a: ./a.db, expires after hours 30d, days 400d, at the start and at 03:00 UTC\n"
        ),
        "{check}"
    );
    assert!(check.contains("b: ./b.db, read-only\n"), "{check}");
}

/// A clock that jumped ahead: every bitmap there is would go, so none does, and the operator hears
/// of it.
#[test]
fn a_night_by_a_wrong_clock_deletes_nothing() {
    let (server, shop) = (RedisServer::start(), Shop::new());
    let url = server.url();
    let tracker = open(&url);
    // By the system's clock all of it is long ago.
    for days in [900, 1000] {
        let extent = Extent {
            hourly: true,
            ever: true,
        };
        tracker
            .batch()
            .mark_to(&name("active"), 7, at(days), extent)
            .unwrap()
            .commit()
            .unwrap();
    }
    let before = server.keys();
    shop.write(
        "cohortist.toml",
        "[expire]\nhours = \"30d\"\ndays = \"400d\"\n",
    );
    let mut night = Night::start(&shop, &["--store", &url]);
    let said = night.until("cohortist is listening");
    let address = said
        .lines()
        .find_map(|line| line.strip_prefix("cohortist is listening on "))
        .unwrap()
        .to_owned();
    let said = night.until("Is the clock right?");
    assert!(
        said.contains("ERROR") && said.contains("--even-the-newest"),
        "{said}"
    );
    let metrics = ureq::get(format!("{address}/metrics"))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    assert!(
        metrics
            .lines()
            .any(|l| l.starts_with("cohortist_expire_refused_total{") && l.ends_with(" 1")),
        "{metrics}"
    );
    let rest = night.end();
    assert!(!rest.contains("deleted expired bitmaps"), "{rest}");
    assert_eq!(server.keys(), before);
}
