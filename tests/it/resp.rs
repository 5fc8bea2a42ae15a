//! The listener for Redis clients, beside a real redis-server, through the real program, and under
//! load.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cohortist::resp::{CONNECTIONS, Listener, Settings, glob};
use cohortist::sets::Prefix;
use cohortist::store::budget::Budget;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{KeyListing, Options, open};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use crate::store_contract::{Opened, contract};
use crate::support::program::{Serving, Shop};
use crate::support::redis::{RedisServer, signal};
use crate::support::wire::{Wire, packed, reply_len, texts};

fn settings() -> Settings {
    let memory = Budget::new(192 << 20);
    Settings {
        listen: "127.0.0.1:0".to_owned(),
        password: None,
        allow_flush: true,
        connections: CONNECTIONS,
        memory,
    }
}

/// A listener on a store in memory.
fn listen(settings: Settings) -> (Listener, String) {
    let store = EmbeddedStore::in_memory(&Options::default());
    let listener = Listener::start(settings, store.keyspace()).unwrap();
    let address = listener.address().to_string();
    (listener, address)
}

/// Our own store for Redis, with our own listener for its server: every promise of a store holds
/// through both.
fn through_both() -> Opened {
    let (listener, address) = listen(settings());
    let options = Options {
        timeout: Duration::from_secs(30),
        ..Options::default()
    };
    (
        open(&format!("redis://{address}"), &options).unwrap(),
        Box::new(listener),
    )
}

contract!(listener, || crate::resp::through_both());

type Line = Vec<Vec<u8>>;

fn line(text: &str) -> Line {
    text.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "trackist_[abc]_2026-1", 1 => "x", 1 => Just(String::new()), 1 => "[*?é]{1,2}"]
}

fn place() -> impl Strategy<Value = String> {
    prop_oneof![
        10 => (0_u32..80).prop_map(|n| n.to_string()),
        4 => (0_u32..300_000).prop_map(|n| n.to_string()),
        1 => "-?[0-9]{1,3}",
        1 => prop_oneof![Just("4294967296"), Just("9223372036854775808"), Just("-1"), Just("01"), Just("+1"), Just("x"), Just("")]
            .prop_map(str::to_owned),
    ]
}

fn command() -> impl Strategy<Value = Line> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    let args = |words: Vec<String>| -> Line { words.into_iter().map(String::into_bytes).collect() };
    let unit = prop_oneof![Just("BIT"), Just("byte"), Just("BITS")].prop_map(str::to_owned);
    let end = prop_oneof![Just("BIT"), Just("BYTE")].prop_map(str::to_owned);
    // Long enough not to run out under the test, and no two alike: which of two ends comes first
    // must not be up to the milliseconds between them.
    let long = (LONG + 100_000..9 * LONG).prop_map(|seconds| seconds.to_string());
    let odd = prop_oneof![
        Just("-1"),
        Just("0"),
        Just("9223372036854775807"),
        Just("x")
    ]
    .prop_map(str::to_owned);
    let span = prop_oneof![1 => long, 1 => odd.clone()];
    // Over, and still to come, in seconds and in milliseconds.
    let instant = prop_oneof![
        Just("1000000000"),
        Just("4102444800"),
        Just("4102444800123"),
        Just("9223372036854775"),
        Just("9223372036854776"),
    ];
    let instant = prop_oneof![3 => instant.prop_map(str::to_owned), 1 => odd];
    let condition = prop_oneof![Just("NX"), Just("xx"), Just("GT"), Just("LT"), Just("ZZ")]
        .prop_map(str::to_owned);
    let option = prop_oneof![
        Just("NX"),
        Just("XX"),
        Just("GET"),
        Just("KEEPTTL"),
        Just("EX 1000005"),
        Just("PX 1000003000"),
        Just("EX 0"),
        Just("EX x"),
        Just("EXAT 4102444800"),
        Just("PXAT 4102444800123"),
        Just("EXAT 1000000000"),
        Just("PXAT 0"),
        Just("EX"),
        Just("nonsense")
    ];
    prop_oneof![
        12 => (name(), place(), prop_oneof![9 => Just("1"), 4 => Just("0"), 1 => Just("2"), 1 => Just("01")])
            .prop_map(move |(key, place, value)| args(vec!["SETBIT".into(), key, place, value.into()])),
        4 => (name(), place()).prop_map(move |(key, place)| args(vec!["getbit".into(), key, place])),
        5 => (name(), prop::option::of((place(), place(), prop::option::of(unit)))).prop_map(move |(key, range)| {
            let mut words = vec!["BITCOUNT".into(), key];
            if let Some((from, to, unit)) = range {
                words.extend([from, to]);
                words.extend(unit);
            }
            args(words)
        }),
        5 => (name(), prop_oneof![Just("0"), Just("1"), Just("2"), Just("x")], prop::collection::vec(place(), 0..3), prop::option::of(end))
            .prop_map(move |(key, bit, range, unit)| {
                let mut words = vec!["BITPOS".into(), key, bit.into()];
                let whole = range.len() == 2;
                words.extend(range);
                words.extend(unit.filter(|_| whole));
                args(words)
            }),
        8 => (prop_oneof![Just("AND"), Just("or"), Just("XOR"), Just("NOT"), Just("NAND")], name(), prop::collection::vec(name(), 1..13))
            .prop_map(move |(operation, target, sources)| {
                args([vec!["BITOP".into(), operation.into(), target], sources].concat())
            }),
        4 => name().prop_map(move |key| args(vec!["GET".into(), key])),
        3 => (name(), place(), place()).prop_map(move |(key, from, to)| args(vec!["GETRANGE".into(), key, from, to])),
        6 => (name(), bytes.clone(), prop::collection::vec(option.clone(), 0..3)).prop_map(|(key, value, options)| {
            let mut line = vec![b"SET".to_vec(), key.into_bytes(), value];
            line.extend(options.iter().flat_map(|option| option.split(' ')).map(|word| word.as_bytes().to_vec()));
            line
        }),
        2 => (name(), bytes.clone()).prop_map(|(key, value)| vec![b"SETNX".to_vec(), key.into_bytes(), value]),
        3 => (prop_oneof![Just("SETEX"), Just("PSETEX")], name(), span.clone(), bytes.clone()).prop_map(|(word, key, span, value)| {
            let span = if word == "PSETEX" && span.len() == 7 { span + "000" } else { span };
            vec![word.into(), key.into_bytes(), span.into_bytes(), value]
        }),
        3 => prop::collection::vec((name(), bytes), 1..4).prop_map(|pairs| {
            let pairs = pairs.into_iter().flat_map(|(key, value)| [key.into_bytes(), value]);
            std::iter::once(b"MSET".to_vec()).chain(pairs).collect()
        }),
        3 => (prop_oneof![Just("MGET"), Just("TOUCH"), Just("MSET")], prop::collection::vec(name(), 1..4))
            .prop_map(move |(word, keys)| args([vec![word.into()], keys].concat())),
        4 => (name(), prop::collection::vec(prop_oneof![2 => Just("PERSIST"), 5 => option.clone()], 0..3)).prop_map(move |(key, options)| {
            let options = options.iter().flat_map(|option| option.split(' ')).map(str::to_owned);
            args(["GETEX".to_owned(), key].into_iter().chain(options).collect())
        }),
        4 => (prop_oneof![Just("EXPIREAT"), Just("PEXPIREAT")], name(), instant, prop::collection::vec(condition.clone(), 0..3))
            .prop_map(move |(word, key, instant, more)| args([vec![word.into(), key, instant], more].concat())),
        4 => (prop_oneof![Just("EXPIRETIME"), Just("PEXPIRETIME")], name()).prop_map(move |(word, key)| args(vec![word.into(), key])),
        6 => (prop_oneof![Just("STRLEN"), Just("TYPE"), Just("TTL"), Just("PERSIST"), Just("EXISTS"), Just("DEL"), Just("UNLINK")], name())
            .prop_map(move |(word, key)| args(vec![word.into(), key])),
        2 => prop::collection::vec(name(), 1..4).prop_map(move |keys| args([vec!["EXISTS".into()], keys].concat())),
        2 => prop::collection::vec(name(), 1..4).prop_map(move |keys| args([vec!["DEL".into()], keys].concat())),
        5 => (name(), span, prop::collection::vec(condition, 0..3), prop::bool::ANY).prop_map(move |(key, span, more, fine)| {
            let (word, span) = if fine && span.len() == 7 { ("PEXPIRE", span + "000") } else { ("EXPIRE", span) };
            args([vec![word.into(), key, span], more].concat())
        }),
        3 => (prop_oneof![Just("RENAME"), Just("RENAMENX")], name(), name())
            .prop_map(move |(word, from, to)| args(vec![word.into(), from, to])),
        6 => prop_oneof![
            Just("MULTI"), Just("EXEC"), Just("EXEC"), Just("DISCARD"), Just("PING"), Just("PING hello"), Just("ECHO x"),
            Just("DBSIZE"), Just("SELECT 0"), Just("SELECT x"), Just("KEYS *"), Just("KEYS trackist_[a-b]*"),
            Just("NOSUCH a b"), Just("GET"), Just("SETBIT a 1"), Just("CLIENT SETNAME me"), Just("CLIENT GETNAME"),
            Just("CLIENT NOSUCH"), Just("SCAN x"), Just("SCAN 0 COUNT 0"), Just("SCAN 0 COUNT 1000 MATCH *_a_*"), Just("FLUSHDB"),
            Just("FLUSHDB WHEN"), Just("FLUSHALL"), Just("FLUSHALL async"), Just("CLIENT LIST TYPE nosuch"), Just("CLIENT LIST ID x"),
            Just("CLIENT LIST ID"), Just("CLIENT LIST WHAT"), Just("CLIENT INFO x"), Just("CONFIG"), Just("CONFIG GET"), Just("CONFIG NOSUCH x"),
            Just("CONFIG GET nosuch"), Just("SETEX a 1"), Just("MSET a"), Just("HELLO 4"), Just("HELLO x"), Just("AUTH x"), Just("AUTH a b"), Just("SCAN 0 TYPE"),
            Just("PING a b"), Just("EXPIRE a"), Just("SCAN 0 COUNT 1000 TYPE string"), Just("SCAN 0 COUNT 1000 TYPE list"),
        ].prop_map(line),
    ]
}

/// What lifetimes are at the least, in seconds, and no other number of these tests comes near.
const LONG: u32 = 1_000_000;

/// The year 2000, in milliseconds since 1970.
const MILLENNIUM_MS: i64 = 946_684_800_000;

/// Whether two replies are the same, except for seconds in the rest of a lifetime: a wrong password
/// delays only our listener's replies.
fn same(a: &[u8], b: &[u8]) -> bool {
    let left = |line: &[u8]| {
        std::str::from_utf8(line)
            .ok()?
            .strip_prefix(':')?
            .trim_end()
            .parse::<i64>()
            .ok()
    };
    let lines = |reply: &[u8]| {
        reply
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (a, b) = (lines(a), lines(b));
    let close = |a: &[u8], b: &[u8]| match (left(a), left(b)) {
        // Milliseconds since 1970.
        (Some(a), Some(b)) if a.min(b) > MILLENNIUM_MS => (a - b).abs() <= 30_000,
        (Some(a), Some(b)) => a.min(b) > i64::from(LONG) - 60 && (a - b).abs() <= 30,
        _ => false,
    };
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || close(a, b))
}

/// Lists of keys have no order of their own.
fn comparable(command: &[Vec<u8>], reply: Vec<u8>) -> Vec<u8> {
    let word = command[0].to_ascii_uppercase();
    if matches!(&*word, b"KEYS" | b"SCAN") && reply.starts_with(b"*") {
        let mut found: Vec<&[u8]> = reply.split(|byte| *byte == b'\n').collect();
        found.sort_unstable();
        return found.join(&b'\n');
    }
    reply
}

#[test]
fn every_reply_is_that_of_redis() {
    let server = RedisServer::start();
    let (_listener, address) = listen(settings());
    let runner = Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let pipelines = prop::collection::vec(prop::collection::vec(command(), 1..12), 1..10);
    TestRunner::new(runner)
        .run(&pipelines, |pipelines| {
            let (mut theirs, mut ours) = (Wire::unix(&server.url()), Wire::tcp(&address));
            for wire in [&mut theirs, &mut ours] {
                wire.say("FLUSHDB");
            }
            let mut queue: Option<Vec<Line>> = None;
            for pipeline in pipelines {
                let bytes: Vec<u8> = pipeline
                    .iter()
                    .flat_map(|command| packed(command))
                    .collect();
                theirs.send(&bytes);
                ours.send(&bytes);
                for command in pipeline {
                    let shown = || String::from_utf8_lossy(&command.join(&b' ')).into_owned();
                    let (theirs, ours) = (theirs.reply(), ours.reply());
                    let word = command[0].to_ascii_uppercase();
                    // What a transaction answers has its lists inside; they are compared as sorted
                    // lines.
                    let lists = word == b"EXEC"
                        && queue.take().is_some_and(|queued| {
                            queued.iter().any(|line| {
                                matches!(&*line[0].to_ascii_uppercase(), b"KEYS" | b"SCAN")
                            })
                        });
                    match &*word {
                        b"MULTI" if queue.is_none() => queue = Some(Vec::new()),
                        b"DISCARD" => queue = None,
                        _ => queue
                            .iter_mut()
                            .for_each(|queue| queue.push(command.clone())),
                    }
                    let sorted = |reply: Vec<u8>| match lists {
                        true => comparable(&[b"KEYS".to_vec()], reply),
                        false => comparable(&command, reply),
                    };
                    let (theirs, ours) = (sorted(theirs), sorted(ours));
                    prop_assert!(
                        same(&ours, &theirs),
                        "{}: ours {:?}, theirs {:?}",
                        shown(),
                        String::from_utf8_lossy(&ours),
                        String::from_utf8_lossy(&theirs)
                    );
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_is_no_request_is_answered_as_redis_does_and_closes_that_connection_alone() {
    let server = RedisServer::start();
    let (_listener, address) = listen(settings());
    let mut bystander = Wire::tcp(&address);
    for bytes in [
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n:1\r\n",
        "*x\r\n",
        "*1\r\n$-5\r\n",
        "*1\r\n$x\r\n",
        "*99999999999\r\n",
        "SET a \"b\r\n",
        "*1\r\nPING\r\n",
    ] {
        let (mut theirs, mut ours) = (Wire::unix(&server.url()), Wire::tcp(&address));
        for wire in [&mut theirs, &mut ours] {
            wire.send(b"PING\r\n");
            wire.send(bytes.as_bytes());
            assert_eq!(wire.reply(), b"+PONG\r\n");
        }
        let (theirs, ours) = (theirs.reply(), ours.reply());
        assert_eq!(
            String::from_utf8_lossy(&ours),
            String::from_utf8_lossy(&theirs),
            "{bytes}"
        );
        assert!(ours.starts_with(b"-ERR Protocol error"), "{bytes}");
        assert_eq!(bystander.say("PING"), "+PONG\r\n");
    }
    // RawQuery by hand, empty and negative arrays are passed over.
    let mut ours = Wire::tcp(&address);
    ours.send(b"\r\n*0\r\n*-1\r\n  echo  'it\\'s'  \r\n");
    assert_eq!(ours.reply(), b"$4\r\nit's\r\n");
    // Nothing is lost when requests arrive byte by byte.
    for byte in packed(&["SETBIT", "k", "7", "1"]) {
        ours.send(&[byte]);
    }
    assert_eq!(ours.reply(), b":0\r\n");
    assert_eq!(ours.say("QUIT"), "+OK\r\n");
    assert_eq!(ours.reply(), b"");
}

#[test]
fn a_password_is_asked_for_and_strangers_can_send_little() {
    let secret = Settings {
        password: Some("open sesame".to_owned()),
        ..settings()
    };
    let (_listener, address) = listen(secret);
    let mut wire = Wire::tcp(&address);
    assert_eq!(wire.say("GET a"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(
        wire.say("SETBIT a 1 1"),
        "-NOAUTH Authentication required.\r\n"
    );
    assert!(
        wire.say("HELLO 3")
            .starts_with("-NOAUTH HELLO must be called")
    );
    assert!(wire.say("AUTH wrong").starts_with("-WRONGPASS"));
    let stranger = String::from_utf8(wire.ask(&["AUTH", "other", "open sesame"])).unwrap();
    assert!(stranger.starts_with("-WRONGPASS"), "{stranger}");
    assert_eq!(wire.ask(&["AUTH", "open sesame"]), b"+OK\r\n");
    assert_eq!(wire.say("SETBIT a 1 1"), ":0\r\n");
    let mut three = Wire::tcp(&address);
    assert!(
        three
            .ask(&["HELLO", "3", "AUTH", "default", "open sesame"])
            .starts_with(b"%7\r\n")
    );
    assert_eq!(three.say("GET nothing"), "_\r\n");
    let mut stranger = Wire::tcp(&address);
    stranger.send(b"*2\r\n$4\r\nAUTH\r\n$1000000\r\n");
    assert_eq!(
        stranger.reply(),
        b"-ERR Protocol error: unauthenticated bulk length\r\n"
    );
    // And a client of everybody's.
    let url = format!("redis://:open%20sesame@{address}");
    let mut client = redis::Client::open(url).unwrap().get_connection().unwrap();
    assert_eq!(
        redis::cmd("BITCOUNT")
            .arg("a")
            .query::<u64>(&mut client)
            .unwrap(),
        1
    );
}

#[test]
fn what_is_off_is_refused_in_words() {
    let closed = Settings {
        allow_flush: false,
        connections: 2,
        ..settings()
    };
    let (_listener, address) = listen(closed);
    let mut wire = Wire::tcp(&address);
    wire.say("SETBIT a 1 1");
    assert!(wire.say("FLUSHDB").contains("--allow-flush"));
    assert_eq!(
        wire.say("WATCH a"),
        "-ERR unknown command 'WATCH', with args beginning with: 'a' \r\n"
    );
    assert_eq!(wire.say("DBSIZE"), ":1\r\n");
    assert_eq!(
        wire.ask(&[&b"GET"[..], b"\xff"]),
        b"-ERR the name of a key must be UTF-8\r\n"
    );
    let mut second = Wire::tcp(&address);
    assert_eq!(second.say("PING"), "+PONG\r\n");
    assert_eq!(
        Wire::tcp(&address).reply(),
        b"-ERR max number of clients reached\r\n"
    );
    drop(second);
    // Somebody's place is free once they are gone.
    let until = Instant::now() + Duration::from_secs(60);
    while Wire::tcp(&address).reply_or_pong() != b"+PONG\r\n" {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Wire {
    fn reply_or_pong(&mut self) -> Vec<u8> {
        self.send(&packed(&["PING"]));
        self.reply()
    }
}

#[test]
fn operations_of_newer_servers_are_there() {
    let (_listener, address) = listen(settings());
    let mut wire = Wire::tcp(&address);
    for (key, users) in [
        ("x", &[1, 2, 3, 200_000][..]),
        ("y", &[2, 5]),
        ("z", &[3, 5, 90_000]),
    ] {
        for user in users {
            wire.say(&format!("SETBIT {key} {user} 1"));
        }
    }
    let mut members = |operation: &str| -> Vec<u32> {
        assert_eq!(
            wire.say(&format!("BITOP {operation} t x y z")),
            ":25001\r\n"
        );
        [1, 2, 3, 5, 90_000, 200_000]
            .into_iter()
            .filter(|n| wire.say(&format!("GETBIT t {n}")) == ":1\r\n")
            .collect()
    };
    assert_eq!(members("DIFF"), [1, 200_000]);
    assert_eq!(members("DIFF1"), [5, 90_000]);
    assert_eq!(members("ANDOR"), [2, 3]);
    assert_eq!(members("ONE"), [1, 90_000, 200_000]);
    assert!(
        wire.say("BITOP DIFF t x")
            .contains("at least two source keys")
    );
}

#[test]
fn the_last_of_all_users_costs_next_to_nothing() {
    let shop = Shop::new();
    let (serving, address) = serve(&shop, &[]);
    let mut wire = Wire::tcp(&address);
    assert_eq!(wire.say("SETBIT k 4294967295 1"), ":0\r\n");
    assert_eq!(wire.say("STRLEN k"), ":536870912\r\n");
    assert_eq!(wire.say("BITCOUNT k"), ":1\r\n");
    assert_eq!(wire.say("BITPOS k 1"), ":4294967295\r\n");
    assert_eq!(wire.say("BITPOS k 0 -1"), ":4294967288\r\n");
    assert_eq!(wire.say("BITOP XOR j k nothing"), ":536870912\r\n");
    // The complement is half a gigabyte of ones, in one tile.
    assert_eq!(wire.say("BITOP NOT n k"), ":536870912\r\n");
    assert_eq!(wire.say("BITCOUNT n"), ":4294967295\r\n");
    assert_eq!(wire.say("BITPOS n 0"), ":4294967295\r\n");
    assert_eq!(wire.say("DEL n"), ":1\r\n");
    // GET hands out all the bytes without ever having them.
    wire.send(&packed(&["GET", "k"]));
    let got = wire.reply();
    assert_eq!(got.len(), 536_870_912 + "$536870912\r\n\r\n".len());
    assert_eq!(&got[got.len() - 4..], b"\0\x01\r\n");
    drop(got);
    let peak = peak_memory(serving.id());
    assert!(peak < 200 << 20, "{peak} bytes");
}

/// The most memory a process ever had, in bytes.
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

/// The program with a listener, and where that is.
fn serve(shop: &Shop, more: &[&str]) -> (Serving, String) {
    let (serving, said) = Serving::saying(
        shop,
        &[
            &["serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"],
            more,
        ]
        .concat(),
        "Redis clients are served at redis://",
    );
    (serving, said)
}

#[test]
fn a_client_marks_and_the_page_and_every_command_follow() {
    let shop = Shop::new();
    let (serving, address) = serve(&shop, &[]);
    let mut client = redis::Client::open(format!("redis://{address}"))
        .unwrap()
        .get_connection()
        .unwrap();
    // As bitmapist's own client does it: SETBITs between MULTI and EXEC.
    for (event, user, day) in [("signup", 1, 21), ("signup", 2, 21), ("active", 2, 22)] {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for period in [
            format!("2026-11-{day}"),
            "W2026-47".to_owned(),
            "2026-11".to_owned(),
        ] {
            pipe.cmd("SETBIT")
                .arg(format!("trackist_{event}_{period}"))
                .arg(user)
                .arg(1);
        }
        let before: Vec<u8> = pipe.query(&mut client).unwrap();
        assert_eq!(before[0], 0);
    }
    let page = serving.get("/retention.json?cohort=signup&returning=active&by=day&rows=3&cols=2");
    assert!(
        page.contains("\"retained\":1") || page.contains("\"retained\": 1"),
        "{page}"
    );
    // A second process is told how to take part.
    let error = shop.run(&["count", "signup@2026-11-21"]).error(1);
    let url = format!("redis://{address}");
    assert!(
        error.contains(&format!("give --store {url} instead")),
        "{error}"
    );
    assert_eq!(
        shop.run(&["--store", &url, "count", "signup@2026-11-21"])
            .quietly(),
        "2\n"
    );
    shop.run(&["--store", &url, "mark", "active", "7", "--at", "2026-11-22"])
        .done();
    assert_eq!(
        shop.run(&["--store", &url, "events"]).done(),
        "active\nsignup\n"
    );
    assert!(
        serving
            .get("/api/v1/count?set=active@2026-11-22")
            .contains('2')
    );
    // redis-cli, by hand.
    let (host, port) = address.split_once(':').unwrap();
    let cli = |args: &[&str]| {
        let output = Command::new("redis-cli")
            .args(["-h", host, "-p", port])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(cli(&["BITCOUNT", "trackist_active_2026-11-22"]), "2\n");
    assert_eq!(
        cli(&[
            "-3",
            "BITOP",
            "AND",
            "t",
            "trackist_active_2026-11",
            "trackist_signup_2026-11"
        ]),
        "1\n"
    );
    assert!(cli(&["INFO", "keyspace"]).contains("db0:keys=7,expires=0"));
    assert_eq!(
        cli(&["--scan", "--pattern", "trackist_signup_*"])
            .lines()
            .count(),
        3
    );
}

#[test]
fn slips_on_the_command_line_are_told() {
    let shop = Shop::new();
    for (args, words) in [
        (&["--resp", "0.0.0.0:6380"][..], "need a password"),
        (&["--resp", "6380"], "write 127.0.0.1:6380"),
        (&["--allow-flush"], "need --resp"),
        (&["--resp", "127.0.0.1:0", "--read-only"], "read-only"),
    ] {
        let error = shop.run(&[&["serve", "--check"], args].concat()).error(2);
        assert!(error.contains(words), "{error}");
    }
    let error = shop
        .run(&[
            "--store",
            "redis://127.0.0.1:1",
            "serve",
            "--resp",
            "127.0.0.1:0",
        ])
        .error(2);
    assert!(error.contains("is already a Redis server"), "{error}");
}

#[test]
fn lifetimes_end_and_survive_a_restart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let start = || {
        let store = EmbeddedStore::open(&path, &Options::default()).unwrap();
        let listener = Listener::start(settings(), store.keyspace()).unwrap();
        let wire = Wire::tcp(&listener.address().to_string());
        (store, listener, wire)
    };
    {
        let (store, _listener, mut wire) = start();
        wire.say("SETBIT trackist_bitop_a 1 1");
        wire.say("SETBIT trackist_active_2026-1-9-7 1 1");
        wire.say("SETBIT trackist_active_2026-1-9 1 1");
        assert_eq!(wire.say("EXPIRE trackist_bitop_a 1000"), ":1\r\n");
        store.checkpoint().unwrap();
        assert_eq!(
            wire.say("PEXPIRE trackist_active_2026-1-9-7 4000"),
            ":1\r\n"
        );
        assert_eq!(wire.say("DBSIZE"), ":3\r\n");
    }
    let (store, _listener, mut wire) = start();
    let left: u64 = wire.say("TTL trackist_bitop_a")[1..]
        .trim()
        .parse()
        .unwrap();
    assert!((990..=1000).contains(&left), "{left}");
    std::thread::sleep(Duration::from_millis(4100));
    // Nobody sees it any more, by whichever door, and no bit of it comes back.
    assert_eq!(store.keys("active").unwrap().len(), 1);
    assert_eq!(wire.say("EXISTS trackist_active_2026-1-9-7"), ":0\r\n");
    wire.say("SETBIT trackist_active_2026-1-9-7 2 1");
    assert_eq!(wire.say("BITCOUNT trackist_active_2026-1-9-7"), ":1\r\n");
    assert_eq!(wire.say("TTL trackist_active_2026-1-9-7"), ":-1\r\n");
    drop((store, wire, _listener));
    let (_store, _listener, mut wire) = start();
    assert_eq!(wire.say("BITCOUNT trackist_active_2026-1-9-7"), ":1\r\n");
    assert_eq!(wire.say("DBSIZE"), ":3\r\n");
}

#[test]
fn everything_is_as_it_was_after_a_restart() {
    let server = RedisServer::start();
    let runner = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(runner)
        .run(
            &prop::collection::vec((command(), prop::bool::weighted(0.05)), 1..80),
            |commands| {
                let directory = TempDir::new().unwrap();
                let start = || {
                    let store = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
                    let listener = Listener::start(settings(), store.keyspace()).unwrap();
                    let wire = Wire::tcp(&listener.address().to_string());
                    (store, listener, wire)
                };
                let mut theirs = Wire::unix(&server.url());
                theirs.say("FLUSHDB");
                {
                    let (store, _listener, mut ours) = start();
                    for (command, checkpoint) in commands {
                        ours.ask(&command);
                        theirs.ask(&command);
                        if checkpoint {
                            store.checkpoint().unwrap();
                        }
                    }
                }
                let (_store, _listener, mut ours) = start();
                let mut theirs = Wire::unix(&server.url());
                let sorted = |reply: Vec<u8>| texts(&reply).into_iter().collect::<BTreeSet<_>>();
                let keys = sorted(theirs.ask(&["KEYS", "*"]));
                prop_assert_eq!(&sorted(ours.ask(&["KEYS", "*"])), &keys);
                for key in keys {
                    for word in ["GET", "TTL", "STRLEN"] {
                        prop_assert!(
                            same(&ours.ask(&[word, &key]), &theirs.ask(&[word, &key])),
                            "{} {}",
                            word,
                            key
                        );
                    }
                }
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn a_walk_through_the_keys_meets_everyone_who_stays() {
    let (_listener, address) = listen(settings());
    let mut wire = Wire::tcp(&address);
    let stay: BTreeSet<String> = (0..3000)
        .map(|n| format!("trackist_a[{n}]_2026-1"))
        .collect();
    let marks: Vec<u8> = stay
        .iter()
        .flat_map(|key| packed(&["SETBIT", key, "1", "1"]))
        .collect();
    wire.send(&marks);
    stay.iter().for_each(|_| drop(wire.reply()));
    let (mut cursor, mut met, mut steps) = ("0".to_owned(), BTreeSet::new(), 0);
    loop {
        let reply = wire.ask(&[
            "SCAN",
            &cursor,
            "MATCH",
            "trackist_a\\[*\\]_2026-1",
            "COUNT",
            "100",
        ]);
        let mut found = texts(&reply);
        found.retain(|text| !text.starts_with('*'));
        cursor = found.remove(0);
        met.extend(found);
        // Others come and go meanwhile.
        wire.say(&format!("SETBIT other{steps} 1 1"));
        wire.say(&format!("DEL other{}", steps - 3));
        steps += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(met, stay);
    assert!((25..=60).contains(&steps), "{steps}");
}

/// The pattern matcher beside Redis' own, which KEYS asks.
#[test]
fn patterns_fit_what_they_fit_in_redis() {
    let server = RedisServer::start();
    let wire = std::cell::RefCell::new(Wire::unix(&server.url()));
    let runner = Config {
        cases: 1000,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(runner)
        .run(
            &("[ab*?\\[\\]^\\\\-]{0,8}", "[ab*^-]{1,5}"),
            |(pattern, text)| {
                let mut wire = wire.borrow_mut();
                wire.say("FLUSHDB");
                wire.ask(&["SET", &text, "1"]);
                let theirs = wire.ask(&["KEYS", &pattern]) != b"*0\r\n";
                prop_assert_eq!(
                    glob::matches(pattern.as_bytes(), text.as_bytes()),
                    theirs,
                    "{} {}",
                    pattern,
                    text
                );
                Ok(())
            },
        )
        .unwrap();
}

/// Fifty clients mark as fast as they can; the process is killed. Whatever was answered is there.
#[test]
fn nothing_that_was_answered_is_lost_by_a_kill_under_load() {
    const CLIENTS: u32 = 50;
    let kills: u32 = std::env::var("COHORTIST_TEST_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .map_or(6, |n: u32| n / 10);
    let shop = Shop::new();
    let answered: Arc<Vec<AtomicU64>> = Arc::new((0..CLIENTS).map(|_| AtomicU64::new(0)).collect());
    let total = || {
        answered
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .sum::<u64>()
    };
    for round in 0..kills {
        let (serving, address) = serve(&shop, &[]);
        let stop = Arc::new(AtomicBool::new(false));
        let before = total();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (address, answered, stop) =
                    (address.clone(), Arc::clone(&answered), Arc::clone(&stop));
                std::thread::spawn(move || {
                    pipelines(&address, client, &answered[client as usize], &stop)
                })
            })
            .collect();
        let patience = Instant::now() + Duration::from_secs(120);
        while total() < before + 2000 {
            assert!(
                Instant::now() < patience,
                "{} marks were answered",
                total() - before
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(37 * u64::from(round)));
        signal(serving.id(), "-KILL");
        stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        drop(serving);
        let (_serving, address) = serve(&shop, &[]);
        let mut wire = Wire::tcp(&address);
        for (client, answered) in answered.iter().enumerate() {
            // A client's marks are the users 0, 1, 2 … in order, so the count tells whether one is
            // missing.
            let answered = answered.load(Ordering::Relaxed);
            // Beyond those there may be marks whose answer did not get through.
            let Some(last) = answered.checked_sub(1) else {
                continue;
            };
            let found = wire.say(&format!("BITCOUNT k{client} 0 {last} BIT"));
            assert_eq!(
                found,
                format!(":{answered}\r\n"),
                "client {client}, round {round}"
            );
        }
    }
}

/// Marks on behalf of one client, 64 at a time, until the server goes.
fn pipelines(address: &str, client: u32, answered: &AtomicU64, stop: &AtomicBool) {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(address) else {
        return;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let mut user = answered.load(Ordering::Relaxed);
    let mut buffer = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let batch: Vec<u8> = (user..user + 64)
            .flat_map(|user| {
                packed(&[
                    "SETBIT".to_owned(),
                    format!("k{client}"),
                    user.to_string(),
                    "1".to_owned(),
                ])
            })
            .collect();
        if stream.write_all(&batch).is_err() {
            return;
        }
        let mut replies = 0;
        while replies < 64 {
            while let Some(len) = reply_len(&buffer) {
                assert!(
                    buffer.starts_with(b":"),
                    "{}",
                    String::from_utf8_lossy(&buffer)
                );
                buffer.drain(..len);
                replies += 1;
                user += 1;
                answered.store(user, Ordering::Relaxed);
            }
            let mut chunk = [0; 4096];
            if replies < 64 {
                match stream.read(&mut chunk) {
                    Ok(read) if read > 0 => buffer.extend_from_slice(&chunk[..read]),
                    _ => return,
                }
            }
        }
    }
}

#[test]
fn other_prefixes_are_other_peoples_keys_in_one_space() {
    let store = EmbeddedStore::in_memory(&Options::default());
    let listener = Listener::start(settings(), store.keyspace()).unwrap();
    let mut wire = Wire::tcp(&listener.address().to_string());
    wire.say("SETBIT trackist_a_2026-1 1 1");
    wire.say("SETBIT bitmapist_b_2026-1 1 1");
    wire.say("SET session:1 x");
    assert_eq!(store.keys("").unwrap().len(), 1);
    assert_eq!(
        store.under(Prefix::new("bitmapist_")).keys("").unwrap()[0]
            .event()
            .as_str(),
        "b"
    );
    assert_eq!(wire.say("DBSIZE"), ":3\r\n");
    drop(listener);
    assert_eq!(
        wire.reply(),
        b"",
        "the listener closes its connections when it ends"
    );
}

/// Forty events that a thousand people of a hundred and thirty million did. Redis would take 890 MB
/// for them.
#[test]
fn few_people_far_apart_take_little_room() {
    let shop = Shop::new();
    let (serving, address) = serve(&shop, &[]);
    let before = peak_memory(serving.id());
    let mut wire = Wire::tcp(&address);
    let mut dice: u64 = 7;
    for event in 0..40 {
        let marks: Vec<u8> = (0..1000)
            .flat_map(|_| {
                dice = dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let user = (dice >> 37).to_string();
                packed(&[
                    "SETBIT",
                    &format!("trackist_event{event}_2026-11"),
                    &user,
                    "1",
                ])
            })
            .collect();
        wire.send(&marks);
        (0..1000).for_each(|_| drop(wire.reply()));
    }
    let lengths: u64 = (0..40)
        .map(|event| {
            wire.say(&format!("STRLEN trackist_event{event}_2026-11"))[1..]
                .trim()
                .parse::<u64>()
                .unwrap()
        })
        .sum();
    assert!(
        lengths > 600_000_000,
        "in Redis they would take {lengths} bytes"
    );
    let memory = peak_memory(serving.id()) - before;
    assert!(memory < 10_000_000, "{memory} bytes of memory");
    drop((wire, serving));
    let directory = shop.path("cohortist.db");
    EmbeddedStore::open(&directory, &Options::default())
        .unwrap()
        .checkpoint()
        .unwrap();
    let disk: u64 = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(
        (100_000..10_000_000).contains(&disk),
        "{disk} bytes on disk"
    );
}

/// The names of the fields of `name=value` pairs.
fn fields(line: &str) -> Vec<&str> {
    let pairs = line.split_whitespace();
    pairs.map(|pair| pair.split_once('=').unwrap().0).collect()
}

#[test]
fn clients_are_listed_in_the_format_of_redis() {
    let server = RedisServer::start();
    let (_listener, address) = listen(settings());
    let mut theirs = Wire::unix(&server.url());
    let (mut one, mut other) = (Wire::tcp(&address), Wire::tcp(&address));
    one.say("CLIENT SETNAME first");
    other.say("HELLO 3");
    other.say("MULTI");
    other.say("SETBIT a 1 1");
    let list = one.say("CLIENT LIST");
    let lines: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("id="))
        .collect();
    assert_eq!(lines.len(), 2, "{list}");
    let theirs = theirs.say("CLIENT LIST");
    let theirs = theirs.lines().find(|line| line.starts_with("id=")).unwrap();
    for line in &lines {
        assert_eq!(fields(line), fields(theirs));
    }
    for (line, wanted) in [
        (
            lines[0],
            "id=1 name=first flags=N multi=-1 cmd=client resp=2",
        ),
        (lines[1], "id=2 name= flags=x multi=1 cmd=setbit resp=3"),
    ] {
        for wanted in wanted.split(' ') {
            assert!(
                line.split(' ').any(|pair| pair == wanted),
                "{wanted}: {line}"
            );
        }
    }
    assert!(
        lines[0].contains(&format!("laddr={address} ")),
        "{}",
        lines[0]
    );
    let told = one.say("CLIENT INFO");
    assert!(told.contains("id=1 ") && !told.contains("id=2 "), "{told}");
    let listed = |list: &str| list.matches("id=").count();
    assert_eq!(listed(&one.say("CLIENT LIST ID 2 7")), 1);
    assert_eq!(listed(&one.say("CLIENT LIST TYPE normal")), 2);
    assert_eq!(listed(&one.say("CLIENT LIST TYPE replica")), 0);
    drop(other);
    let until = Instant::now() + Duration::from_secs(60);
    while listed(&one.say("CLIENT LIST")) == 2 {
        assert!(Instant::now() < until, "a client that left is still listed");
    }
    assert_eq!(
        one.say("CONFIG GET save append*"),
        "*4\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$4\r\nsave\r\n$0\r\n\r\n"
    );
}

/// `redis-cli --stat` and `redis-benchmark` ask for memory, persistence and settings.
#[test]
fn the_tools_of_redis_run() {
    let (_listener, address) = listen(settings());
    let port = address.rsplit(':').next().unwrap();
    Wire::tcp(&address).say("SETBIT a 1 1");
    let mut stat = Command::new("redis-cli")
        .args(["-p", port, "--stat", "-i", "0.1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(stat.stdout.take().unwrap()).lines();
    let shown: Vec<String> = lines.by_ref().take(4).map(Result::unwrap).collect();
    stat.kill().unwrap();
    stat.wait().unwrap();
    // keys, memory, clients, blocked, requests, connections
    let numbers: Vec<&str> = shown[3].split_whitespace().collect();
    assert_eq!(numbers[0], "1", "{shown:?}");
    let unit = numbers[1].chars().last().unwrap();
    assert!("KMG".contains(unit), "{shown:?}");
    let benchmark = Command::new("redis-benchmark")
        .args([
            "-p",
            port,
            "-q",
            "-n",
            "500",
            "-r",
            "100",
            "-t",
            "ping,set,get,mset",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&benchmark.stdout).replace('\r', "\n");
    assert!(benchmark.status.success(), "{benchmark:?}");
    for name in [
        "PING_INLINE:",
        "PING_MBULK:",
        "SET:",
        "GET:",
        "MSET (10 keys):",
    ] {
        let done = said
            .lines()
            .any(|line| line.starts_with(name) && line.contains("requests per second"));
        assert!(done, "{name} {said}");
    }
    assert!(benchmark.stderr.is_empty(), "{benchmark:?}");
}
