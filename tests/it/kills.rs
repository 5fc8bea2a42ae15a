//! `kill -9` while a store does more than take marks: nothing acknowledged is lost, nothing is
//! invented, and no batch is there in part.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cohortist::store::Options;
use cohortist::store::embedded::{EmbeddedStore, check};

use crate::damage::{Dice, copy_files};
use crate::embedded::{History, hasty, operation, spawn_crash_child};
use crate::http::agent;
use crate::support::program::{Serving, Shop};

/// More rounds: COHORTIST_TEST_KILLS=1000 cargo test --test it kills
fn rounds(in_the_suite: u64) -> u64 {
    std::env::var("COHORTIST_TEST_KILLS").map_or(in_the_suite, |n| n.parse::<u64>().unwrap() / 5)
}

const TOKEN: &str = "0123456789abcdef";

fn backup_path(store: &Path) -> PathBuf {
    store.with_extension("backup")
}

/// What a process that is going to be killed does beside the history, after its operation `n`.
pub fn also(mode: &str, n: u64, store: &EmbeddedStore, path: &Path) {
    match mode {
        "checkpoint" if n.is_multiple_of(3) => store.checkpoint().unwrap(),
        "compact" if n.is_multiple_of(5) => _ = store.keyspace().compact().unwrap(),
        "backup" if n.is_multiple_of(9) => {
            let file = backup_path(path);
            let _ = std::fs::remove_file(&file);
            store.back_up(&file).unwrap();
        }
        "expire" => {
            let keyspace = store.keyspace();
            let mortal = format!("mortal_{}", n % 20);
            keyspace
                .set_bits(
                    vec![mortal.clone()],
                    (0..50).map(|user| (1, user * 3000)).collect(),
                )
                .unwrap();
            // In the year 1970: it goes before the next operation.
            keyspace
                .change(|space| space.set_expires_at(&mortal, Some(1)))
                .unwrap();
        }
        _ => {}
    }
}

#[rstest::rstest]
#[case("checkpoint")]
#[case("compact")]
#[case("backup")]
#[case("expire")]
fn nothing_acknowledged_is_lost_by_a_kill_during(#[case] mode: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (mut done, mut history) = (0_u64, History::default());
    let mut dice = Dice(mode.len() as u64);
    for round in 0..rounds(10) {
        let mut child = spawn_crash_child(done, mode, &path, Stdio::piped());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        let ends = 1 + dice.next() % 60;
        let patience = Instant::now() + Duration::from_secs(60);
        while last.is_none_or(|n| n < done + ends) {
            let line = lines.next().expect("the child ended by itself").unwrap();
            last = line
                .strip_prefix("done ")
                .map(|n| n.parse::<u64>().unwrap())
                .or(last);
            assert!(Instant::now() < patience);
        }
        std::thread::sleep(Duration::from_micros(dice.next() % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            last = line
                .strip_prefix("done ")
                .map(|n| n.parse::<u64>().unwrap())
                .or(last);
        }
        let acknowledged = last.unwrap() + 1;
        while done < acknowledged {
            history.perform(&operation(done));
            done += 1;
        }
        // As the kill left it everything is intact.
        let checked = check(&path).unwrap();
        let damages: Vec<String> = checked.damages().map(ToString::to_string).collect();
        assert_eq!(damages, [""; 0], "round {round}");
        let store = EmbeddedStore::open(&path, &hasty()).unwrap();
        let found = History::read(&store);
        if found != history {
            // The one operation under way when the end came may be there, whole, and nothing else.
            history.perform(&operation(done));
            done += 1;
        }
        assert_eq!(
            found, history,
            "{mode}, round {round}, after {done} operations"
        );
        let keys = store
            .keyspace()
            .read(|look| Ok(look.keys()?.iter().map(str::to_owned).collect::<Vec<_>>()));
        // Each kill may leave one whose expiry time was not set yet.
        assert!(
            keys.unwrap()
                .iter()
                .filter(|key| key.starts_with("mortal_"))
                .count() as u64
                <= round + 1
        );
        drop(store);
        // A backup is there as a whole or not at all.
        let backup = backup_path(&path);
        if backup.exists() {
            let restored = directory.path().join(format!("restored-{round}"));
            cohortist::store::embedded::restore(&backup, &restored).unwrap();
            let _ = History::read(&EmbeddedStore::open(&restored, &hasty()).unwrap());
        }
        for entry in std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap())
        {
            if entry.file_name().to_string_lossy().contains(".part-") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_during_http() {
    let shop = Shop::new();
    let mut answered = 0_u32;
    for round in 0..rounds(5) {
        let serving = Serving::start(
            &shop,
            &["serve", "--listen", "127.0.0.1:0", "--write-token", TOKEN],
        );
        let address = serving.address.clone();
        let count = AtomicU32::new(answered);
        std::thread::scope(|scope| {
            let marking = scope.spawn(|| {
                let agent = agent();
                loop {
                    let first = count.load(Ordering::Relaxed);
                    // Two events of the same people: a batch is there as a whole or not at all.
                    let entries: Vec<String> = (first..first + 40)
                        .flat_map(|user| {
                            ["a", "b"].map(|event| {
                                format!(r#"{{"event":"{event}","user":{user},"at":"2026-11-20"}}"#)
                            })
                        })
                        .collect();
                    let body = format!("[{}]", entries.join(","));
                    let request = agent
                        .post(format!("http://{address}/api/v1/marks"))
                        .header("authorization", format!("Bearer {TOKEN}"));
                    match request.send(body) {
                        Ok(response) if response.status().is_success() => {
                            count.fetch_add(40, Ordering::Relaxed)
                        }
                        Ok(response) => panic!("{}", response.status()),
                        Err(_) => return,
                    };
                }
            });
            let patience = Instant::now() + Duration::from_secs(60);
            while count.load(Ordering::Relaxed) < answered + 400 {
                assert!(Instant::now() < patience && !marking.is_finished());
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(round * 7 % 30));
            crate::support::redis::signal(serving.id(), "-KILL");
        });
        answered = count.load(Ordering::Relaxed);
        drop(serving);
        let counts = shop.run(&[
            "count",
            "a@2026-11-20",
            "b@2026-11-20",
            "a@2026-11-20 & b@2026-11-20",
        ]);
        let counts: Vec<u32> = counts
            .done()
            .lines()
            .map(|line| line.split('\t').next().unwrap())
            // What is not recorded has no number.
            .map(|count| {
                if count == "-" {
                    0
                } else {
                    count.parse().unwrap()
                }
            })
            .collect();
        assert!(
            counts.iter().all(|count| *count == counts[0]),
            "a batch in part: {counts:?}"
        );
        assert!(
            counts[0] == answered || counts[0] == answered + 40,
            "{answered} were answered: {counts:?}"
        );
        answered = counts[0];
        assert_eq!(shop.run(&["check"]).code, 0);
    }
}

#[test]
fn an_import_that_is_killed_again_and_again_ends_with_the_same_numbers() {
    let rows: String = (0..400_000_u64)
        .map(|n| {
            format!(
                "{},e{},2026-11-{:02}\n",
                n * 7919 % 100_003,
                n % 9,
                n % 28 + 1
            )
        })
        .collect();
    let text = format!("user,event,timestamp\n{rows}");
    let whole = Shop::new();
    whole.write("rows.csv", &text);
    whole.run(&["import", "rows.csv"]).done();
    let questions: Vec<String> = (0..9).map(|event| format!("e{event}@2026-11")).collect();
    let question: Vec<&str> = ["count"]
        .into_iter()
        .chain(questions.iter().map(String::as_str))
        .collect();
    let expected = whole.run(&question).done();
    let shop = Shop::new();
    shop.write("rows.csv", &text);
    let mut dice = Dice(3);
    for _ in 0..rounds(5) {
        let mut child = shop.start(&["import", "--resume", "rows.csv"]);
        std::thread::sleep(Duration::from_millis(dice.next() % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        if shop.path("cohortist.db/manifest").exists() {
            let ran = shop.run(&["check"]);
            assert_eq!(ran.code, 0, "{}", ran.err);
        }
    }
    shop.run(&["import", "--resume", "rows.csv"]).done();
    assert_eq!(shop.run(&question).done(), expected);
}

/// Each bitmap is as it was or gone as a whole, and those that are kept are as they were.
#[test]
fn an_expiry_that_is_killed_takes_whole_bitmaps_and_only_old_ones() {
    let pristine = Shop::new();
    let days: Vec<String> = (0..80_u64)
        .map(|day| format!("2026-{:02}-{:02}", 9 + day / 27, day % 27 + 1))
        .filter(|day| day.as_str() < "2026-11-22")
        .collect();
    let lines = |event: u64, users: u64| {
        days.iter().flat_map(move |day| {
            (0..users).map(move |user| format!("{},e{event},{day}\n", user * 1009))
        })
    };
    let rows: String = (0..20).flat_map(|event| lines(event, event + 1)).collect();
    pristine.write("rows.csv", format!("user,event,timestamp\n{rows}"));
    pristine.run(&["import", "rows.csv"]).done();
    let sets: Vec<String> = (0..20)
        .flat_map(|event| days.iter().map(move |day| format!("e{event}@{day}")))
        .collect();
    let question: Vec<&str> = ["count"]
        .into_iter()
        .chain(sets.iter().map(String::as_str))
        .collect();
    let counts = |shop: &Shop| -> Vec<u64> {
        let lines = shop.run(&question).done();
        lines
            .lines()
            .map(|line| line.split('\t').next().unwrap())
            // What is not recorded has no number.
            .map(|count| {
                if count == "-" {
                    0
                } else {
                    count.parse().unwrap()
                }
            })
            .collect()
    };
    let before = counts(&pristine);
    assert!(before.iter().all(|count| *count > 0), "{before:?}");
    let expire = ["expire", "--days", "40d", "--yes"];
    let mut dice = Dice(11);
    let (mut untouched, mut expired) = (0, 0);
    for round in 0..rounds(8) {
        let shop = Shop::new();
        copy_files(&pristine.path("cohortist.db"), &shop.path("cohortist.db"));
        let mut child = shop.start(&expire);
        std::thread::sleep(Duration::from_micros(dice.next() % 120_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let ran = shop.run(&["check"]);
        assert_eq!(ran.code, 0, "round {round}: {}", ran.err);
        let left = counts(&shop);
        for ((set, before), left) in sets.iter().zip(&before).zip(&left) {
            let is_kept = set.split('@').nth(1).unwrap() >= "2026-10-15";
            assert!(
                left == before || (*left == 0 && !is_kept),
                "round {round}: {left} of {before} are left of {set}"
            );
        }
        untouched += u32::from(left == before);
        shop.run(&expire).done();
        let done = counts(&shop);
        assert!(
            done.iter()
                .zip(&sets)
                .all(|(left, set)| (*left == 0) == (set.split('@').nth(1).unwrap() < "2026-10-14"))
        );
        expired += u32::from(left == done);
    }
    println!(
        "{untouched} of the kills came before anything was deleted, {expired} when everything was"
    );
}

#[test]
fn a_store_whose_conversion_is_killed_is_converted_at_the_next_start() {
    let mut dice = Dice(9);
    for round in 0..rounds(12) {
        let shop = Shop::new();
        let store = shop.path("cohortist.db");
        crate::upgrade::unpack(4, &store);
        let mut child = shop.start(&["events"]);
        std::thread::sleep(Duration::from_micros(dice.next() % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        crate::upgrade::answers(4, &store, &format!("round {round}"));
    }
}

/// Each state that a conversion can leave behind, made from the files before and after.
#[test]
fn a_conversion_that_ends_at_any_step_goes_on_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    crate::upgrade::unpack(4, &at("old"));
    copy_files(&at("old"), &at("new"));
    let store = EmbeddedStore::open(&at("new"), &Options::default()).unwrap();
    let names = |path: &Path| -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| name != "lock" && name != "owner");
        names.sort();
        names
    };
    // While it is open: what is closed may have been merged.
    copy_files(&at("new"), &at("converted"));
    drop(store);
    let (old, new) = (names(&at("old")), names(&at("converted")));
    assert!(
        new.contains(&"manifest".to_owned()) && !new.contains(&"bitmaps.redb".to_owned()),
        "{new:?}"
    );
    let parts: Vec<&String> = new.iter().filter(|name| *name != "manifest").collect();
    let mut states = 0;
    // Before the manifest: some of the new files, the last of them in part. After it: some of the
    // old ones.
    for written in 0..=parts.len() {
        for cut in [0, 1, 7] {
            let state = at(&format!("before-{written}-{cut}"));
            copy_files(&at("old"), &state);
            for (place, name) in parts[..written].iter().enumerate() {
                let mut bytes = std::fs::read(at("converted").join(name)).unwrap();
                if place + 1 == written {
                    bytes.truncate(bytes.len() * (8 - cut) / 8);
                }
                std::fs::write(state.join(name), bytes).unwrap();
            }
            crate::upgrade::answers(
                4,
                &state,
                &format!("{written} files were written, {cut} eighths missing"),
            );
            states += 1;
        }
    }
    for deleted in 0..=old.len() {
        let state = at(&format!("after-{deleted}"));
        copy_files(&at("old"), &state);
        copy_files(&at("converted"), &state);
        old[..deleted]
            .iter()
            .for_each(|name| std::fs::remove_file(state.join(name)).unwrap());
        crate::upgrade::answers(4, &state, &format!("{deleted} old files were deleted"));
        let left = names(&state);
        assert!(old.iter().all(|name| !left.contains(name)), "{left:?}");
        states += 1;
    }
    assert!(states >= 10, "{states}");
}
