//! Users who are called by texts: the same promises on every store, through every door.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Barrier};

use cohortist::clock::Clock;
use cohortist::server::Dashboard;
use cohortist::sets::{Prefix, Set, UserId};
use cohortist::store::embedded::{EmbeddedStore, restore};
use cohortist::store::{self, Options, Store, StoreError, open};
use cohortist::{Error, Ids, IdsError, Tracker};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::http::{agent, read};
use crate::import::kill_at_checkpoint;
use crate::support::program::{Ran, Serving, Shop};
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::stores::each_store;
use crate::support::web::{empty, hostile_names, name, now, serve_dashboard};
use crate::support::wire::Wire;

/// What must come of it: numbers in the order in which texts were first met.
#[derive(Default)]
struct Model {
    numbers: HashMap<String, UserId>,
    texts: Vec<String>,
}

impl Model {
    fn assign(&mut self, texts: &[&str]) -> Vec<UserId> {
        let number = |text: &&str| {
            *self.numbers.entry((*text).to_owned()).or_insert_with(|| {
                self.texts.push((*text).to_owned());
                self.texts.len() as UserId - 1
            })
        };
        texts.iter().map(number).collect()
    }

    fn check(&self, store: &dyn Store) {
        let ids = store.string_ids();
        assert_eq!(
            ids.next().unwrap(),
            (!self.texts.is_empty()).then_some(self.texts.len() as u64)
        );
        if self.texts.is_empty() {
            assert_eq!(
                (ids.numbers(&["nobody"]).unwrap(), ids.texts(&[0]).unwrap()),
                (None, None)
            );
            return;
        }
        let mut asked: Vec<&str> = self.texts.iter().map(String::as_str).collect();
        asked.push("nobody at all");
        let numbers: Vec<Option<UserId>> = (0..self.texts.len() as UserId)
            .map(Some)
            .chain([None])
            .collect();
        assert_eq!(ids.numbers(&asked).unwrap(), Some(numbers));
        let users: Vec<UserId> = (0..=self.texts.len() as UserId).collect();
        let texts: Vec<Option<String>> =
            self.texts.iter().cloned().map(Some).chain([None]).collect();
        assert_eq!(ids.texts(&users).unwrap(), Some(texts));
    }
}

fn batches() -> impl Strategy<Value = Vec<Vec<String>>> {
    let text = prop_oneof!["[a-e]{1,2}", "[0-9]{1,2}", "[a-z]{3}@x\\.com", "\\PC{1,6}"];
    prop::collection::vec(prop::collection::vec(text, 0..8), 1..12)
}

#[test]
fn texts_get_numbers_in_order_on_every_store() {
    each_store(|kind, store| {
        TestRunner::new(Config::with_cases(40))
            .run(&batches(), |batches| {
                let mut model = Model::default();
                for batch in &batches {
                    let texts: Vec<&str> = batch.iter().map(String::as_str).collect();
                    assert_eq!(
                        store.string_ids().assign(&texts).unwrap(),
                        model.assign(&texts),
                        "{kind}"
                    );
                }
                model.check(&*store);
                assert_eq!(
                    store.string_ids().clear().unwrap(),
                    model.texts.len() as u64
                );
                Model::default().check(&*store);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn many_more_than_one_command_takes() {
    each_store(|kind, store| {
        let texts: Vec<String> = (0..40_321)
            .map(|n| format!("{:x}", n * 2_654_435_761_u64 % 40_321))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut model = Model::default();
        assert_eq!(
            store.string_ids().assign(&texts).unwrap(),
            model.assign(&texts),
            "{kind}"
        );
        model.check(&*store);
    });
}

#[test]
fn whoever_asks_at_the_same_time_gets_the_same_number() {
    let server = RedisServer::start();
    let disk = tempfile::tempdir().unwrap();
    let embedded: Arc<dyn Store> =
        Arc::new(EmbeddedStore::open(disk.path(), &Options::default()).unwrap());
    let openers: [Box<dyn Fn() -> Arc<dyn Store> + Sync>; 2] = [
        Box::new(|| open(&server.url(), &Options::default()).unwrap()),
        Box::new(|| Arc::clone(&embedded)),
    ];
    for opener in openers {
        let given: Vec<HashMap<String, UserId>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..6_u64)
                .map(|worker| {
                    let opener = &opener;
                    scope.spawn(move || {
                        let (store, mut given) = (opener(), HashMap::new());
                        for round in 0..60 {
                            let texts: Vec<String> = (0..50)
                                .map(|n| format!("u{}", (worker * 7 + round * 31 + n * 17) % 900))
                                .collect();
                            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                            let numbers = store.string_ids().assign(&texts).unwrap();
                            for (text, number) in texts.into_iter().zip(numbers) {
                                assert_eq!(*given.entry(text.to_owned()).or_insert(number), number);
                            }
                        }
                        given
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .collect()
        });
        let mut all: HashMap<String, UserId> = HashMap::new();
        for (text, number) in given.into_iter().flatten() {
            assert_eq!(*all.entry(text).or_insert(number), number);
        }
        let numbers: BTreeSet<UserId> = all.values().copied().collect();
        assert_eq!(
            numbers,
            (0..all.len() as UserId).collect(),
            "dense, and each once"
        );
    }
}

#[test]
fn they_are_there_after_a_restart_and_in_a_backup() {
    let disk = tempfile::tempdir().unwrap();
    let at = disk.path().join("store");
    let mut model = Model::default();
    let first: Vec<String> = (0..500).map(|n| format!("first-{n}")).collect();
    let second: Vec<String> = (300..900).map(|n| format!("first-{n}")).collect();
    let third: Vec<String> = (0..77).map(|n| format!("third-{n}")).collect();
    let refs = |texts: &[String]| -> Vec<&'static str> {
        texts.iter().map(|t| &*t.clone().leak()).collect()
    };
    {
        let store = EmbeddedStore::open(&at, &Options::default()).unwrap();
        store.string_ids().assign(&refs(&first)).unwrap();
        store.checkpoint().unwrap();
        store.string_ids().assign(&refs(&second)).unwrap();
        // Of another prefix, which has numbers of its own.
        let other = store.under(Prefix::new("other_"));
        assert_eq!(
            other.string_ids().assign(&["first-8", "first-7"]).unwrap(),
            [0, 1]
        );
    }
    model.assign(&refs(&first));
    model.assign(&refs(&second));
    let store = EmbeddedStore::open(&at, &Options::default()).unwrap();
    model.check(&store);
    store.checkpoint().unwrap();
    store.string_ids().assign(&refs(&third)).unwrap();
    model.assign(&refs(&third));
    model.check(&store);
    let (backup, again) = (disk.path().join("backup"), disk.path().join("again"));
    store.back_up(&backup).unwrap();
    restore(&backup, &again).unwrap();
    let restored = EmbeddedStore::open(&again, &Options::default()).unwrap();
    model.check(&restored);
    assert_eq!(
        restored
            .under(Prefix::new("other_"))
            .string_ids()
            .numbers(&["first-7"])
            .unwrap(),
        Some(vec![Some(1)])
    );
    // Forgotten is forgotten, whatever the file still held.
    assert_eq!(store.string_ids().clear().unwrap(), 977);
    Model::default().check(&store);
    assert_eq!(store.string_ids().assign(&["first-9"]).unwrap(), [0]);
    store.checkpoint().unwrap();
    assert_eq!(
        store.string_ids().numbers(&["first-8", "first-9"]).unwrap(),
        Some(vec![None, Some(0)])
    );
    drop(store);
    let store = EmbeddedStore::open(&at, &Options::default()).unwrap();
    assert_eq!(store.string_ids().next().unwrap(), Some(1));
    assert_eq!(
        store
            .under(Prefix::new("other_"))
            .string_ids()
            .next()
            .unwrap(),
        Some(2)
    );
}

/// A number whose text was lost with a damaged part of the log is nobody's, and never becomes
/// somebody else's.
#[test]
fn a_lost_text_leaves_its_number_empty() {
    let disk = tempfile::tempdir().unwrap();
    let tracker = |store: EmbeddedStore| Tracker::new(Arc::new(store)).with_ids(Ids::Strings);
    let mark = |tracker: &Tracker, text: &str| {
        let user = tracker.assign(&[text]).unwrap()[0];
        tracker.mark(&name("active"), user, now()).unwrap();
    };
    let log = disk.path().join("log-1");
    let (before, after);
    {
        let tracker = tracker(EmbeddedStore::open(disk.path(), &Options::default()).unwrap());
        mark(&tracker, "ann");
        before = std::fs::metadata(&log).unwrap().len() as usize;
        tracker.assign(&["bob"]).unwrap();
        after = std::fs::metadata(&log).unwrap().len() as usize;
        mark(&tracker, "bob");
    }
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[before + 20..after]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&log, bytes).unwrap();
    assert!(matches!(
        EmbeddedStore::open(disk.path(), &Options::default()),
        Err(StoreError::Damaged { .. })
    ));
    let accepting = Options {
        accept_loss: true,
        ..Options::default()
    };
    let tracker = tracker(EmbeddedStore::open(disk.path(), &accepting).unwrap());
    assert_eq!(tracker.describe().unwrap().notes.len(), 1);
    mark(&tracker, "eve");
    let active = Set::event_in(&name("active"), "2026-11-23".parse().unwrap());
    let users: Vec<UserId> = tracker.members(&active).collect::<Result<_, _>>().unwrap();
    assert_eq!(tracker.called(&users).unwrap(), ["ann", "#1", "eve"]);
}

#[test]
fn a_bit_that_flips_on_the_disk_becomes_nobody_else() {
    let disk = tempfile::tempdir().unwrap();
    {
        let store = EmbeddedStore::open(disk.path(), &Options::default()).unwrap();
        store
            .string_ids()
            .assign(&["somebody@example.com"])
            .unwrap();
        store.checkpoint().unwrap();
    }
    let segment = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("segment-")
            .then_some(path)
    };
    let file = std::fs::read_dir(disk.path())
        .unwrap()
        .find_map(segment)
        .unwrap();
    let whole = std::fs::read(&file).unwrap();
    for bit in (0..whole.len() * 8).step_by(5) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, &bytes).unwrap();
        let found = EmbeddedStore::open(disk.path(), &Options::default()).and_then(|store| {
            store
                .string_ids()
                .numbers(&["somebody@example.com"])
                .and(store.string_ids().texts(&[0]))
        });
        assert!(
            matches!(found, Err(StoreError::Damaged { .. })),
            "bit {bit}: {found:?}"
        );
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(
        EmbeddedStore::open(disk.path(), &Options::default())
            .unwrap()
            .string_ids()
            .next()
            .unwrap(),
        Some(1)
    );
}

/// How often Redis had anything to read from a client.
fn trips(server: &RedisServer) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("stats")
        .query(&mut server.connection())
        .unwrap();
    info.lines()
        .find_map(|line| line.strip_prefix("total_reads_processed:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn who_somebody_is_takes_one_trip() {
    let server = RedisServer::start();
    let tracker = |prefix: &str| {
        let options = Options {
            prefix: Prefix::new(prefix),
            ..Options::default()
        };
        Tracker::new(open(&server.url(), &options).unwrap())
    };
    let (texts, numbers) = (tracker("texts_"), tracker("numbers_"));
    let names: Vec<String> = (0..40).map(|i| format!("user{i}@example.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let users = tracker("texts_")
        .with_ids(Ids::Strings)
        .assign(&names)
        .unwrap();
    let digits: Vec<String> = users.iter().map(UserId::to_string).collect();
    let digits: Vec<&str> = digits.iter().map(String::as_str).collect();
    // What the server knows is asked once.
    assert_eq!(
        (texts.user(names[0]).unwrap(), numbers.user("7").unwrap()),
        (Some(0), Some(7))
    );
    let before = trips(&server);
    let looking = trips(&server) - before;
    for (tracker, called) in [(&texts, &names), (&numbers, &digits)] {
        let before = trips(&server);
        let found = tracker.users(called).unwrap();
        let between = trips(&server);
        assert_eq!(tracker.called(&users).unwrap(), *called);
        let after = trips(&server);
        assert_eq!(found, users.iter().copied().map(Some).collect::<Vec<_>>());
        // Each request has a PING before it.
        assert_eq!(
            (between - before - looking, after - between - looking),
            (2, 2),
            "{}",
            called[0]
        );
    }
}

#[test]
fn numbers_and_texts_are_not_mixed() {
    each_store(|kind, store| {
        let tracker = || Tracker::new(Arc::clone(&store));
        let texts = || tracker().with_ids(Ids::Strings);
        let numbers = || tracker().with_ids(Ids::Numbers);
        assert_eq!(
            (tracker().ids().unwrap(), texts().ids().unwrap()),
            (Ids::Numbers, Ids::Strings),
            "{kind}"
        );
        tracker().mark(&name("active"), 7, now()).unwrap();
        let refused = texts().assign(&["ann"]).unwrap_err().to_string();
        assert!(refused.contains("are numbers already"), "{kind}: {refused}");
        tracker().delete_all().unwrap();
        let ann = texts().assign(&["ann"]).unwrap()[0];
        tracker().mark(&name("active"), ann, now()).unwrap();
        let refused = numbers().assign(&["7"]).unwrap_err().to_string();
        assert!(refused.contains("called by text ids"), "{kind}: {refused}");
        // Who does not say is told by the store.
        assert_eq!(tracker().assign(&["7", "ann"]).unwrap(), [1, 0]);
        // Emptied, it is anybody's again, and nothing is left of the texts.
        tracker().delete_all().unwrap();
        assert_eq!(numbers().assign(&["7"]).unwrap(), [7], "{kind}");
    });
}

#[test]
fn bitmapist_sees_nothing_of_it() {
    let server = RedisServer::start();
    let tracker =
        Tracker::new(open(&server.url(), &Options::default()).unwrap()).with_ids(Ids::Strings);
    let users = tracker.assign(&["ann", "bob"]).unwrap();
    tracker.mark(&name("active"), users[1], now()).unwrap();
    let keys = [
        "active_2026-11",
        "active_2026-11-23",
        "active_W2026-48",
        "ids",
        "ids:texts",
    ];
    assert_eq!(server.keys(), keys.map(|key| format!("trackist_{key}")));
    assert_eq!(tracker.events("").unwrap(), [name("active")]);
    let bit: u8 = redis::cmd("GETBIT")
        .arg("trackist_active_2026-11")
        .arg(1)
        .query(&mut server.connection())
        .unwrap();
    assert_eq!(bit, 1);
}

/// A store of texts that mean something to addresses, HTML, spreadsheets and files.
fn hostile() -> (Tracker, Vec<String>) {
    let usable =
        |text: &String| cohortist::sets::parse_string_id(text).is_ok_and(|trimmed| trimmed == text);
    let more = [
        "ann@example.com",
        "9f1c4f0e-6b9e-4c59-9d1e-0a5a3f6f5b11",
        "007",
        "7",
        "x.json.json",
        "#3",
    ];
    let mut texts: Vec<String> = Vec::new();
    for text in hostile_names()
        .into_iter()
        .chain(more.map(str::to_owned))
        .filter(usable)
    {
        // Ids that look the same are the same.
        let text = cohortist::values::clean(&text).into_owned();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let tracker = empty().with_ids(Ids::Strings);
    let users = tracker
        .assign(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap();
    let mut batch = tracker.batch();
    for user in users {
        batch.mark(&name("active"), user, now()).unwrap();
    }
    batch.commit().unwrap();
    (tracker, texts)
}

/// The links of a page that begin so, as a browser would follow them.
fn links(page: &str, beginning: &str) -> Vec<String> {
    let found = page
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"').map(|(href, _)| href));
    found
        .filter(|href| href.starts_with(beginning))
        .map(|href| href.replace("&amp;", "&"))
        .collect()
}

#[test]
fn pages_show_and_take_the_texts() {
    let (tracker, texts) = hostile();
    let host = format!(
        "http://{}",
        serve_dashboard(Dashboard::new(tracker, Clock::Fixed(now())))
    );
    let page = read(&format!("{host}/people?set=active@2026-11-23")).body;
    let to_users = links(&page, "/users/");
    assert_eq!(to_users.len(), texts.len());
    for (href, text) in to_users.iter().zip(&texts) {
        let got = read(&format!("{host}{href}"));
        assert_eq!(got.status, 200, "{text:?} at {href}");
        assert!(got.body.contains("did 1 of 1 event"), "{text:?} at {href}");
        let json: Value = serde_json::from_str(&read(&format!("{host}{href}.json")).body).unwrap();
        assert_eq!(
            (&json["user"], &json["events"][0]["event"]),
            (&json!(text), &json!("active")),
            "{href}"
        );
        // The field leads there too.
        let typed = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("id", text)
            .finish();
        assert_eq!(
            read(&format!("{host}/users?{typed}")).header("location"),
            href,
            "{text:?}"
        );
    }
    let csv = read(&format!("{host}/people.csv?set=active@2026-11-23")).body;
    let rows: Vec<String> = csv::Reader::from_reader(csv.as_bytes())
        .records()
        .map(|row| row.unwrap()[0].to_owned())
        .collect();
    let guarded: Vec<String> = texts
        .iter()
        .map(|text| cohortist::render::csv::guard(text).into_owned())
        .collect();
    assert_eq!(rows, guarded);
    let nobody = read(&format!("{host}/users/nobody"));
    assert_eq!(nobody.status, 404);
    assert!(
        nobody.body.contains("no user has this id"),
        "{}",
        nobody.body
    );
    assert_eq!(read(&format!("{host}/users/nobody.json")).status, 404);
    assert_eq!(read(&format!("{host}/users/%20")).status, 400);
    assert!(
        !page.contains("inputmode"),
        "no keyboard of digits for texts"
    );
}

#[test]
fn the_api_takes_and_tells_the_texts() {
    let tracker = empty().with_ids(Ids::Strings);
    let mut dashboard = Dashboard::new(tracker.clone(), Clock::Fixed(now()));
    dashboard.write_token = Some("a-token-for-tests".to_owned());
    let host = format!("http://{}", serve_dashboard(dashboard));
    let send = |body: Value| {
        let request = agent()
            .post(format!("{host}/api/v1/marks"))
            .header("authorization", "Bearer a-token-for-tests");
        let mut response = request.send(body.to_string()).unwrap();
        let body = response.body_mut().read_to_string().unwrap();
        (
            response.status().as_u16(),
            serde_json::from_str::<Value>(&body).unwrap(),
        )
    };
    let marks = json!([
        {"event": "active", "user": "ann@example.com"},
        {"event": "active", "user": "b/o\"b"},
        {"event": "active", "user": 7},
        {"event": "active", "user": "7"},
        {"event": "active", "user": "b/o\"b", "value": false},
        {"event": "active", "user": "never met", "value": false},
    ]);
    assert_eq!(send(marks), (200, json!({"recorded": 6})));
    let people = |more: &str| -> Value {
        serde_json::from_str(
            &read(&format!("{host}/api/v1/people?set=active@2026-11-23{more}")).body,
        )
        .unwrap()
    };
    assert_eq!(people("")["users"], json!(["ann@example.com", "7"]));
    let first = people("&limit=1");
    assert_eq!(
        (&first["users"], &first["next"]),
        (&json!(["ann@example.com"]), &json!("ann@example.com"))
    );
    assert_eq!(
        people("&limit=1&after=ann@example.com")["users"],
        json!(["7"])
    );
    assert_eq!(
        tracker.assigned().unwrap(),
        Some(3),
        "nobody got a number for being taken back"
    );
    // All or nothing.
    let (status, told) =
        send(json!([{"event": "active", "user": "eve"}, {"event": "active", "user": "a\tb"}]));
    assert_eq!(
        (status, &told["error"]["entries"][0]["index"]),
        (400, &json!(1)),
        "{told}"
    );
    assert_eq!(tracker.user("eve").unwrap(), None);
    for bad in [
        json!(""),
        json!("  "),
        json!("x".repeat(201)),
        json!(null),
        json!(1.5),
        json!(-1),
        json!(["a"]),
    ] {
        assert_eq!(
            send(json!([{"event": "active", "user": bad}])).0,
            400,
            "{bad}"
        );
    }
    // In a store of numbers a text is none.
    let mut dashboard = Dashboard::new(empty(), Clock::Fixed(now()));
    dashboard.write_token = Some("a-token-for-tests".to_owned());
    let host = format!("http://{}", serve_dashboard(dashboard));
    for bad in [json!("ann"), json!("7x"), json!(4_294_967_296_u64)] {
        let request = agent()
            .post(format!("{host}/api/v1/marks"))
            .header("authorization", "Bearer a-token-for-tests");
        let mut response = request
            .send(json!([{"event": "a", "user": bad}]).to_string())
            .unwrap();
        let body = response.body_mut().read_to_string().unwrap();
        assert!(
            response.status() == 400 && body.contains("not a valid user id"),
            "{bad}: {body}"
        );
    }
}

#[test]
fn the_commands_take_and_tell_the_texts() {
    let shop = Shop::new();
    shop.run(&[
        "--ids",
        "map",
        "mark",
        "active",
        "ann@example.com",
        "7",
        "b o b",
    ])
    .done();
    // From then on the store knows by itself.
    shop.run(&["mark", "active", "zoë", " ann@example.com "])
        .done();
    assert_eq!(
        shop.run(&["people", "active@2026-11-23"]).quietly(),
        "ann@example.com\n7\nb o b\nzoë\n"
    );
    assert_eq!(shop.run(&["count", "active@2026-11-23"]).quietly(), "4\n");
    let said = shop.run(&["unmark", "active", "b o b", "nobody"]).err;
    assert!(said.contains("note: there is no user nobody"), "{said}");
    assert!(said.contains("unmarked `active` for 1 user "), "{said}");
    assert_eq!(
        shop.run(&["people", "active@2026-11-23"]).quietly(),
        "ann@example.com\n7\nzoë\n"
    );
    let error = shop
        .run(&["--ids", "numbers", "mark", "active", "7"])
        .error(2);
    assert!(error.contains("called by text ids"), "{error}");
    let error = shop.run(&["mark", "active", "a\tb"]).error(2);
    assert!(error.contains("control character"), "{error}");
    let error = shop
        .run(&["demo", "--store", "./cohortist.db", "--no-serve"])
        .error(1);
    assert!(error.contains("the demo's user ids are numbers"), "{error}");
    shop.run(&["delete", "--all", "--yes"]).done();
    shop.run(&["mark", "active", "7"]).done();
    let error = shop
        .run(&["--ids", "map", "mark", "active", "ann"])
        .error(2);
    assert!(error.contains("are numbers already"), "{error}");
    // A slip makes no store.
    let fresh = Shop::new();
    let error = fresh.run(&["mark", "active", "ann"]).error(2);
    assert!(error.contains("--ids map"), "{error}");
    assert!(!fresh.path("cohortist.db").exists());
    let error = fresh
        .run(&["--ids", "text", "mark", "active", "ann"])
        .error(2);
    assert!(error.contains("[possible values: numbers, map]"), "{error}");
}

#[test]
fn clients_of_redis_read_numbers_and_write_none() {
    let shop = Shop::new();
    shop.run(&["--ids", "map", "mark", "active", "ann", "bob"])
        .done();
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--resp",
        "127.0.0.1:0",
        "--allow-flush",
    ];
    let (serving, address) = Serving::saying(&shop, &args, "Redis clients are served at redis://");
    let mut wire = Wire::tcp(&address);
    assert_eq!(wire.say("BITCOUNT trackist_active_2026-11-23"), ":2\r\n");
    for refused in [
        "SETBIT trackist_active_2026-11-23 5 1",
        "SET trackist_active_2026-11-23 x",
        "BITOP OR trackist_both_2026-11-23 trackist_active_2026-11-23",
        "RENAME trackist_active_2026-11-23 trackist_x_2026-11-23",
    ] {
        let answer = wire.say(refused);
        assert!(
            answer.starts_with('-') && answer.contains("with string ids"),
            "{refused}: {answer}"
        );
    }
    // What a plan needs is nobody's event, and another prefix is another store.
    assert_eq!(
        wire.say("BITOP OR trackist_bitop_x trackist_active_2026-11-23"),
        ":1\r\n"
    );
    assert_eq!(wire.say("SETBIT other_active_2026-11-23 5 1"), ":0\r\n");
    assert_eq!(wire.say("BITCOUNT trackist_active_2026-11-23"), ":2\r\n");
    // Where everything may be deleted, nobody's name stays behind.
    assert_eq!(wire.say("FLUSHDB"), "+OK\r\n");
    assert_eq!(wire.say("SETBIT trackist_active_2026-11-23 5 1"), ":0\r\n");
    assert!(
        serving
            .get("/api/v1/people?set=active@2026-11-23")
            .contains("\"users\":[5]")
    );
}

#[test]
fn imports_take_texts_from_every_format() {
    let shop = Shop::new();
    let csv = shop.write(
        "a.csv",
        "user,event,timestamp\nann@example.com,a,2026-11-23\n\" bob, the 2nd \",a,2026-11-23\n7,a,2026-11-23\n,a,2026-11-23\nann@example.com,a,never\n",
    );
    let ran = shop.run(&["--ids", "map", "import", &csv, "--property", "plan"]);
    assert!(ran.err.contains("there is no column `plan`"), "{}", ran.err);
    let ran = shop.run(&["--ids", "map", "import", &csv]);
    assert!(
        ran.err.contains("line 5: `user` is empty — skipped"),
        "{}",
        ran.err
    );
    assert_eq!(ran.code, 3);
    assert!(
        ran.out
            .starts_with("imported 3 marks of 1 event by 3 users from 1 file, skipped 2 lines\n"),
        "{}",
        ran.out
    );
    let lines = concat!(
        r#"{"event":"a","properties":{"time":1795442400,"distinct_id":"ann@example.com","plan":"pro"}}"#,
        "\n",
        r#"{"event":"a","properties":{"time":1795442400,"distinct_id":8,"plan":"free"}}"#,
        "\n",
        r#"{"event":"a","properties":{"time":1795442400,"distinct_id":"zo\u00eb"}}"#,
        "\n",
    );
    let ndjson = shop.write("b.ndjson", lines);
    // The store knows by now.
    shop.run(&["import", &ndjson, "--property", "plan"]).done();
    let people = |set: &str| shop.run(&["people", set]).quietly();
    assert_eq!(
        people("a@2026-11-23"),
        "ann@example.com\nbob, the 2nd\n7\n8\nzoë\n"
    );
    assert_eq!(people("plan:pro@ever"), "ann@example.com\n");
    assert_eq!(people("plan:free@ever"), "8\n");
    let error = shop.run(&["--ids", "numbers", "import", &csv]).error(1);
    assert!(error.contains("called by text ids"), "{error}");
    // Numbers first, and texts are none.
    let shop = Shop::new();
    shop.run(&["mark", "a", "7"]).done();
    shop.write(
        "a.csv",
        "user,event,timestamp\nann@example.com,a,2026-11-23\n",
    );
    let error = shop.run(&["--ids", "map", "import", "a.csv"]).error(1);
    assert!(error.contains("are numbers already"), "{error}");
    let ran = shop.run(&["import", "a.csv"]);
    assert!(
        ran.code == 1 && ran.err.contains("create a store with --ids map"),
        "{}",
        ran.err
    );
}

/// Which texts are in which set, whatever their numbers.
fn texts_in(shop: &Shop, store: &[&str], set: &str) -> BTreeSet<String> {
    shop.run(&[store, &["people", set]].concat())
        .done()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_killed_import_of_texts_goes_on_and_mixes_nobody_up() {
    let mut text = String::from("user,event,timestamp\n");
    for n in 0..60_000_u32 {
        let user = n.wrapping_mul(2_654_435_761) % 3_000;
        text += &format!(
            "{user:08x}@example.com,event{},2026-{:02}-{:02}\n",
            n % 3,
            1 + n % 11,
            1 + n % 28
        );
    }
    let whole = Shop::new();
    whole.write("a.csv", &text);
    whole.run(&["--ids", "map", "import", "a.csv"]).quietly();
    let sets = [
        "event0@2026-11",
        "event1@2026-03-05 | event2@2026-04",
        "event0@2026-02 & event0@2026-05",
    ];
    let expected = sets.map(|set| texts_in(&whole, &[], set));
    assert!(expected.iter().all(|texts| texts.len() > 500));
    let server = RedisServer::start();
    let proxy = Proxy::before(&server.url());
    let url = proxy.url();
    let to_redis = ["--ids", "map", "--redis-timeout", "60", "--store", &url];
    for (store, proxy) in [(&["--ids", "map"][..], None), (&to_redis, Some(&proxy))] {
        let shop = Shop::new();
        shop.write("a.csv", &text);
        let args = [store, &["import", "--resume", "a.csv"]].concat();
        for _ in 0..2 {
            kill_at_checkpoint(&shop, &args, proxy, "a.csv", 1);
        }
        let said = shop.run(&args).quietly();
        assert!(said.contains("were imported before"), "{said}");
        assert_eq!(sets.map(|set| texts_in(&shop, store, set)), expected);
        let counted = shop
            .run(&[store, &["count", "event0@2026 | event1@2026 | event2@2026"]].concat())
            .done();
        assert_eq!(counted, "3000\n");
    }
}

/// The numbers of an emptied store begin anew, so a bit that is there says nothing of who it was.
#[test]
fn a_checkpoint_of_other_users_is_not_trusted() {
    let shop = Shop::new();
    let rows: String = (0..30_000)
        .map(|n| format!("user-{n},a,2026-11-23\n"))
        .collect();
    shop.write("a.csv", format!("user,event,timestamp\n{rows}"));
    kill_at_checkpoint(
        &shop,
        &["--ids", "map", "import", "--resume", "a.csv"],
        None,
        "a.csv",
        1,
    );
    shop.run(&["delete", "--all", "--yes"]).done();
    let others: String = (0..30_000)
        .map(|n| format!("other-{n},a,2026-11-23\n"))
        .collect();
    shop.write("b.csv", format!("user,event,timestamp\n{others}"));
    shop.run(&["--ids", "map", "import", "b.csv"]).done();
    let ran = shop.run(&["import", "--resume", "a.csv"]);
    assert!(
        ran.err
            .contains("the store does not have what was imported"),
        "{}",
        ran.err
    );
    assert_eq!(shop.run(&["count", "a@2026-11-23"]).quietly(), "60000\n");
}

#[test]
fn copies_bring_the_texts_along() {
    let server = RedisServer::start();
    let url = server.url();
    let shop = Shop::new();
    let rows: String = (0..23_000)
        .map(|n| format!("user-{},a,2026-11-{:02}\n", n * 7 % 12_345, 1 + n % 23))
        .collect();
    shop.write("a.csv", format!("user,event,timestamp\n{rows}"));
    shop.run(&["--ids", "map", "import", "a.csv"]).done();
    let here = texts_in(&shop, &[], "a@2026-11-05");
    let said = shop.run(&["copy", "./cohortist.db", &url]).done();
    assert!(said.contains("with 12,345 string ids"), "{said}");
    let there = ["--store", url.as_str()];
    assert_eq!(texts_in(&shop, &there, "a@2026-11-05"), here);
    // New people on the one side, and a second run.
    shop.run(&["mark", "a", "late@example.com", "--at", "2026-11-05"])
        .done();
    shop.run(&["copy", "./cohortist.db", &url]).done();
    assert!(texts_in(&shop, &there, "a@2026-11-05").contains("late@example.com"));
    // And back, under another prefix and into another path; between two of Redis with every key.
    shop.run(&["copy", &url, "./back.db", "--to-prefix", "back_"])
        .done();
    let back = ["--store", "./back.db", "--prefix", "back_"];
    assert_eq!(
        texts_in(&shop, &back, "a@2026-11-07"),
        texts_in(&shop, &[], "a@2026-11-07")
    );
    let other = RedisServer::start();
    shop.run(&["copy", &url, &other.url(), "--all-keys"]).done();
    let elsewhere = other.url();
    assert_eq!(
        texts_in(&shop, &["--store", &elsewhere], "a@2026-11-07"),
        texts_in(&shop, &[], "a@2026-11-07")
    );
    let error = shop.run(&["copy", &url, "./all.db", "--all-keys"]).error(1);
    assert!(error.contains("Leave it out"), "{error}");
    // Where others have other numbers, or numbers alone, nothing is mixed.
    shop.run(&[
        "--store",
        "./other.db",
        "--ids",
        "map",
        "mark",
        "a",
        "somebody-else",
    ])
    .done();
    let error = shop.run(&["copy", "./cohortist.db", "./other.db"]).error(1);
    assert!(error.contains("other string ids"), "{error}");
    assert_eq!(
        texts_in(&shop, &["--store", "./other.db"], "a@2026"),
        BTreeSet::from(["somebody-else".to_owned()])
    );
    shop.run(&["--store", "./numbers.db", "mark", "a", "7"])
        .done();
    assert!(
        shop.run(&["copy", "./cohortist.db", "./numbers.db"])
            .error(1)
            .contains("are numbers already")
    );
    assert!(
        shop.run(&["copy", "./numbers.db", "./cohortist.db"])
            .error(1)
            .contains("numbers in FROM and strings in")
    );
    // A copy of a backup is as good.
    shop.run(&["backup", "all.backup"]).done();
    shop.run(&["--store", "./restored.db", "restore", "all.backup"])
        .done();
    assert_eq!(
        texts_in(&shop, &["--store", "./restored.db"], "a@2026-11-07"),
        texts_in(&shop, &[], "a@2026-11-07")
    );
}

/// One program begins a store with numbers and another with texts: at most one of them may go on,
/// whatever the order of their steps.
#[test]
fn numbers_and_texts_never_both_begin_a_store() {
    let server = RedisServer::start();
    let open_redis = || store::open(&server.url(), &Options::default()).unwrap();
    let memory: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let open_memory = || Arc::clone(&memory);
    let kinds: [&dyn Fn() -> Arc<dyn Store>; 2] = [&open_redis, &open_memory];
    for open in kinds {
        let (numbers, texts) = (
            Tracker::new(open()),
            Tracker::new(open()).with_ids(Ids::Strings),
        );
        // Step by step: each of the two in the middle of the other.
        assert_eq!(numbers.ids().unwrap(), Ids::Numbers);
        assert_eq!(texts.ids().unwrap(), Ids::Strings);
        numbers.settle(Ids::Numbers).unwrap();
        assert!(matches!(
            texts.assign(&["ann"]),
            Err(Error::Ids(IdsError::HasNumbers))
        ));
        numbers.delete_all().unwrap();
        assert_eq!(texts.assign(&["ann"]).unwrap(), [0]);
        assert!(matches!(
            numbers.settle(Ids::Numbers),
            Err(Error::Ids(IdsError::HasStrings))
        ));
        assert_eq!(texts.assign(&["bob", "ann"]).unwrap(), [1, 0]);
        numbers.delete_all().unwrap();
        // All at once, over and over.
        for round in 0..100 {
            let start = Barrier::new(2);
            let (by_number, by_text) = std::thread::scope(|scope| {
                let by_number = scope.spawn(|| {
                    start.wait();
                    numbers.settle(Ids::Numbers)?;
                    numbers.mark(&name("a"), 7, now())
                });
                let by_text = scope.spawn(|| {
                    start.wait();
                    let users = texts.assign(&["ann"])?;
                    texts.mark(&name("a"), users[0], now())
                });
                (by_number.join().unwrap(), by_text.join().unwrap())
            });
            assert!(
                by_number.is_err() || by_text.is_err(),
                "round {round}: both began"
            );
            let is_refused = |done: &Result<(), Error>| {
                matches!(
                    done,
                    Ok(()) | Err(Error::Ids(_) | Error::Store(StoreError::Refused { .. }))
                )
            };
            assert!(
                is_refused(&by_number) && is_refused(&by_text),
                "{by_number:?} {by_text:?}"
            );
            let has_texts = texts.assigned().unwrap().is_some_and(|next| next > 0);
            assert!(!(has_texts && by_number.is_ok()), "round {round}");
            numbers.delete_all().unwrap();
        }
    }
    // bitmapist knows nothing of it: what it marked is found when texts are to begin.
    let plain = RedisServer::start();
    redis::cmd("SETBIT")
        .arg("trackist_a_2026-11-23")
        .arg(7)
        .arg(1)
        .exec(&mut plain.connection())
        .unwrap();
    let texts = Tracker::new(store::open(&plain.url(), &Options::default()).unwrap())
        .with_ids(Ids::Strings);
    assert!(matches!(
        texts.settle(Ids::Strings),
        Err(Error::Ids(IdsError::HasNumbers))
    ));
    assert_eq!(
        plain.keys(),
        ["trackist_a_2026-11-23"],
        "and nothing stays behind"
    );
}

#[test]
fn of_two_imports_into_an_empty_redis_one_goes_through_at_most() {
    let server = RedisServer::start();
    let url = server.url();
    let shop = Shop::new();
    let rows = |user: &dyn Fn(u32) -> String| -> String {
        let rows = (0..3_000).map(|n| format!("{},a,2026-11-{:02}\n", user(n), 1 + n % 23));
        format!("user,event,timestamp\n{}", rows.collect::<String>())
    };
    shop.write("numbers.csv", rows(&|n| n.to_string()));
    shop.write("texts.csv", rows(&|n| format!("user-{n}")));
    for _ in 0..6 {
        redis::cmd("FLUSHALL")
            .exec(&mut server.connection())
            .unwrap();
        let import = |ids, file| shop.start(&["--store", &url, "--ids", ids, "import", file]);
        let both = [import("numbers", "numbers.csv"), import("map", "texts.csv")];
        let ran = both.map(|child| Ran::from(child.wait_with_output().unwrap()));
        assert!(
            ran.iter().any(|ran| ran.code != 0),
            "{} {}",
            ran[0].out,
            ran[1].out
        );
        for ran in ran.iter().filter(|ran| ran.code != 0) {
            assert!(ran.err.contains("cannot be mixed"), "{}", ran.err);
        }
        let has_texts = server.keys().iter().any(|key| key == "trackist_ids:texts");
        assert!(!(has_texts && ran[0].code == 0), "{:?}", server.keys());
    }
}
