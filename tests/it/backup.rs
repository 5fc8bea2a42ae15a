//! `cohortist backup` and `restore`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cohortist::store::embedded::{EmbeddedStore, restore};
use cohortist::store::{KeyListing, Options, Store};

use crate::support::program::{Serving, Shop};
use crate::support::wire::{Wire, packed};

#[test]
fn a_backup_is_the_store_as_it_was() {
    let shop = Shop::new();
    shop.run(&[
        "mark",
        "active",
        "1",
        "70000",
        "4000000000",
        "--at",
        "2026-11-23",
        "--ever",
    ])
    .done();
    let ran = shop.run(&["backup", "monday.backup"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "wrote 4 bitmaps to monday.backup\n")
    );
    shop.run(&["mark", "active", "2", "--at", "2026-11-24"])
        .done();
    assert_eq!(
        shop.run(&["--store", "other.db", "restore", "monday.backup"])
            .err,
        "restored 4 bitmaps to other.db\n"
    );
    assert_eq!(
        shop.run(&["--store", "other.db", "people", "active@2026-11"])
            .done(),
        "1\n70000\n4000000000\n"
    );
    assert_eq!(
        shop.run(&["people", "active@2026-11"]).done(),
        "1\n2\n70000\n4000000000\n"
    );

    // Nothing takes the place of anything.
    assert!(
        shop.run(&["backup", "monday.backup"])
            .error(1)
            .contains("the file already exists")
    );
    assert!(
        shop.run(&["restore", "monday.backup"])
            .error(1)
            .contains("holds a store already")
    );
    assert!(
        shop.run(&["--store", "redis://127.0.0.1:1", "backup", "x"])
            .error(2)
            .contains("cohortist copy")
    );
    assert!(
        shop.run(&["--store", "new.db", "restore", "nowhere"])
            .error(1)
            .contains("No such file")
    );
    assert!(!shop.path("new.db").exists());
    assert!(
        shop.run(&["--store", "new.db", "backup", "x"])
            .error(1)
            .contains("there is no store at")
    );
}

#[test]
fn a_damaged_backup_becomes_no_store() {
    let shop = Shop::new();
    let rows: String = (0..2000).map(|n| format!("{n},a,2026-11-23\n")).collect();
    shop.write("rows.csv", format!("user,event,timestamp\n{rows}"));
    shop.run(&["import", "rows.csv"]).done();
    shop.run(&["backup", "whole"]).done();
    let whole = fs::read(shop.path("whole")).unwrap();
    let mut damaged = 0;
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        shop.write("flipped", &bytes);
        let directory = shop.path(&format!("d{at}"));
        // A bit in a page that is not in use says nothing, and then everything has to be there.
        match restore(&shop.path("flipped"), &directory) {
            Ok(keys) => assert_eq!(keys, 3),
            Err(_) => {
                damaged += 1;
                assert!(!directory.exists());
                continue;
            }
        }
        let store = EmbeddedStore::open(&directory, &Options::default()).unwrap();
        for key in store.keys("").unwrap() {
            assert_eq!(
                store
                    .members(&cohortist::sets::Set::Key(key), None, 3000)
                    .unwrap()
                    .len(),
                2000
            );
        }
    }
    assert!(damaged > 0, "some of these bits are in use");
    shop.write("cut", &whole[..whole.len() / 2]);
    shop.run(&["--store", "cut.db", "restore", "cut"]).error(1);
    assert!(!shop.path("cut.db").exists());
}

/// Two bitmaps that are always marked together, under load: whatever moment the backup is of, they
/// are the same in it.
#[test]
fn a_backup_of_a_served_store_is_of_one_moment() {
    let shop = Shop::new();
    let args = ["serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"];
    let (serving, address) = Serving::saying(&shop, &args, "Redis clients are served at redis://");
    Wire::tcp(&address).say("SETBIT trackist_mortal_2026-11 1 1");
    Wire::tcp(&address).say("EXPIRE trackist_mortal_2026-11 5000");
    let stop = Arc::new(AtomicBool::new(false));
    let marking = std::thread::spawn({
        let (stop, address) = (Arc::clone(&stop), address.clone());
        move || {
            let mut wire = Wire::tcp(&address);
            let mut user = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let mut bytes = packed(&["MULTI"]);
                for event in ["a", "b"] {
                    for user in user..user + 50 {
                        let place = (user * 7919 % 10_000_000).to_string();
                        bytes.extend(packed(&[
                            "SETBIT",
                            &format!("trackist_{event}_2026-11"),
                            &place,
                            "1",
                        ]));
                    }
                }
                bytes.extend(packed(&["EXEC"]));
                wire.send(&bytes);
                (0..102).for_each(|_| drop(wire.reply()));
                user += 50;
            }
            user
        }
    });
    let mut sizes = Vec::new();
    for n in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let ran = shop.run(&["backup", &format!("b{n}")]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(
            ran.err
                .contains("through the process that has ./cohortist.db open"),
            "{}",
            ran.err
        );
        let store = format!("s{n}");
        shop.run(&["--store", &store, "restore", &format!("b{n}")])
            .done();
        let counts = shop
            .run(&[
                "--store",
                &store,
                "count",
                "a@2026-11",
                "b@2026-11",
                "a@2026-11 & b@2026-11",
            ])
            .done();
        let counts: Vec<u64> = counts
            .lines()
            .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        assert!(
            counts[0] > 0 && counts.iter().all(|count| *count == counts[0]),
            "{counts:?}"
        );
        sizes.push(counts[0]);
    }
    assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
    stop.store(true, Ordering::Relaxed);
    assert!(marking.join().unwrap() >= sizes[2]);
    // Lifetimes are in it, and nothing is left lying about.
    let store = EmbeddedStore::open(&shop.path("s2"), &Options::default()).unwrap();
    assert!(
        store
            .keyspace()
            .read(|look| Ok(look.expires_at("trackist_mortal_2026-11")))
            .unwrap()
            .is_some()
    );
    drop(serving);
    let left: Vec<String> = fs::read_dir(shop.path("cohortist.db"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.contains("backup") && !name.contains("part")),
        "{left:?}"
    );
}
