//! MULTI and EXEC with every command there is, beside others who write. The program runs in a
//! process of its own, and
//! [`Wire`] waits for a reply for half a minute: a store that hangs fails the test and is killed with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::program::{Serving, Shop};
use crate::support::redis::{RedisServer, signal};
use crate::support::wire::{Wire, packed, reply_len};

fn serve(shop: &Shop) -> (Serving, String) {
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--resp",
        "127.0.0.1:0",
        "--allow-flush",
    ];
    Serving::saying(shop, &args, "Redis clients are served at redis://")
}

/// A command as the server describes it: its name, its arity, and where its keys are.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    arity: i64,
    first: i64,
    last: i64,
    step: i64,
}

/// The server's own table, so that no command is left out.
fn table(address: &str) -> Vec<Row> {
    let mut connection = redis::Client::open(format!("redis://{address}"))
        .unwrap()
        .get_connection()
        .unwrap();
    let rows: Vec<Vec<redis::Value>> = redis::cmd("COMMAND").query(&mut connection).unwrap();
    let row = |row: Vec<redis::Value>| {
        let number = |place: usize| redis::from_redis_value::<i64>(row[place].clone()).unwrap();
        let name = redis::from_redis_value(row[0].clone()).unwrap();
        Row {
            name,
            arity: number(1),
            first: number(3),
            last: number(4),
            step: number(5),
        }
    };
    let rows: Vec<Row> = rows.into_iter().map(row).collect();
    assert!(rows.len() > 30, "{rows:?}");
    rows
}

/// What stands where no key does: numbers, options and subcommands of one command or another.
const WORDS: [&str; 24] = [
    "0", "1", "6", "-1", "100000", "x", "AND", "XOR", "NX", "GT", "EX", "string", "MATCH", "COUNT",
    "LIST", "ID", "GETNAME", "SETNAME", "keyspace", "BIT", "3", "SYNC", "GET", "*",
];

/// A command with arguments that `bytes` choose, as many as it takes.
fn command(row: &Row, bytes: &[u8]) -> Vec<String> {
    let mut choices = bytes.iter().copied().cycle();
    let mut choose = |of: usize| usize::from(choices.next().unwrap()) % of;
    let more = if row.arity < 0 { choose(3) } else { 0 };
    let arguments = usize::try_from(row.arity.abs() - 1).unwrap() + more;
    let mut command = vec![row.name.clone()];
    for place in 1..=i64::try_from(arguments).unwrap() {
        let in_keys = row.first > 0 && place >= row.first && (row.last < 0 || place <= row.last);
        let is_key = in_keys && (place - row.first) % row.step == 0;
        command.push(if is_key {
            ["k", "l", "m"][choose(3)].to_owned()
        } else {
            WORDS[choose(WORDS.len())].to_owned()
        });
    }
    command
}

/// Marks and asks in other connections until the end.
fn beside<T>(address: &str, work: impl FnOnce() -> T) -> T {
    struct Ended<'a>(&'a AtomicBool);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ended = Ended(&ended);
        for writer in 0..2 {
            let ended = &ended;
            scope.spawn(move || {
                let mut wire = Wire::tcp(address);
                for user in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
                    let reply = wire.say(&format!("SETBIT w{writer} {} 1", user % 1000));
                    assert!(reply.starts_with(':'), "{reply}");
                    assert!(wire.say("GETBIT k 1").starts_with(':'));
                }
            });
        }
        work()
    })
}

/// How many parts a reply that is a list has.
fn parts(reply: &[u8]) -> usize {
    assert!(
        reply.starts_with(b"*"),
        "{}",
        String::from_utf8_lossy(reply)
    );
    let end = reply.iter().position(|byte| *byte == b'\r').unwrap();
    std::str::from_utf8(&reply[1..end])
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn info_inside_a_transaction_sees_it_and_blocks_nobody() {
    let shop = Shop::new();
    let (serving, address) = serve(&shop);
    let mut wire = Wire::tcp(&address);
    for (begin, keys) in [("SETBIT k 6 1", 1), ("SETBIT l 6 1", 2), ("DEL k", 1)] {
        wire.send(
            &["MULTI", begin, "INFO keyspace", "EXEC"]
                .map(|line| packed(&line.split(' ').collect::<Vec<_>>()))
                .concat(),
        );
        let replies: Vec<Vec<u8>> = (0..4).map(|_| wire.reply()).collect();
        let outcome = String::from_utf8_lossy(&replies[3]);
        assert!(
            outcome.contains(&format!("db0:keys={keys},expires=0")),
            "{outcome}"
        );
        assert_eq!(Wire::tcp(&address).say("DBSIZE"), format!(":{keys}\r\n"));
    }
    assert!(serving.get("/readyz").contains("ready"));
    // Nothing but a look at the server, while others write.
    beside(&address, || {
        for _ in 0..300 {
            wire.send(
                &["MULTI", "INFO", "DBSIZE", "EXEC"]
                    .map(|line| packed(&[line]))
                    .concat(),
            );
            let replies: Vec<Vec<u8>> = (0..4).map(|_| wire.reply()).collect();
            assert_eq!(parts(&replies[3]), 2);
        }
    });
}

/// Sends a command between MULTI and EXEC, after another one if given; answers whether it was
/// carried out. A subcommand that is not there is refused before.
fn in_a_transaction(address: &str, first: Option<&str>, command: &[String]) -> bool {
    let mut wire = Wire::tcp(address);
    assert_eq!(wire.say("MULTI"), "+OK\r\n");
    first
        .iter()
        .for_each(|first| assert_eq!(wire.say(first), "+QUEUED\r\n"));
    let reply = String::from_utf8(wire.ask(command)).unwrap();
    match &*command[0] {
        "multi" => assert!(reply.starts_with("-ERR MULTI calls"), "{reply}"),
        "exec" => assert_eq!(parts(reply.as_bytes()), usize::from(first.is_some())),
        "discard" => assert_eq!(reply, "+OK\r\n"),
        "quit" => assert_eq!((&*reply, wire.reply()), ("+OK\r\n", Vec::new())),
        _ if reply != "+QUEUED\r\n" => {
            assert!(reply.starts_with("-ERR"), "{command:?}: {reply}");
            return false;
        }
        _ => {
            let outcome = wire.ask(&["EXEC"]);
            assert_eq!(
                parts(&outcome),
                1 + usize::from(first.is_some()),
                "{command:?}"
            );
            // What a command says that got less of the store than it needs.
            let outcome = String::from_utf8_lossy(&outcome).into_owned();
            assert!(!outcome.contains("this command"), "{command:?}: {outcome}");
        }
    }
    true
}

#[test]
fn every_command_can_be_carried_out_inside_a_transaction() {
    let shop = Shop::new();
    let (_serving, address) = serve(&shop);
    let rows = table(&address);
    beside(&address, || {
        for row in &rows {
            // Alone, where a lock for reading is enough for some, and after a change.
            for first in [None, Some("SETBIT k 6 1")] {
                let arguments = (0..400_u64)
                    .map(|attempt| attempt.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
                let tried =
                    arguments.map(|bytes| in_a_transaction(&address, first, &command(row, &bytes)));
                assert_eq!(
                    tried.filter(|carried_out| *carried_out).take(8).count(),
                    8,
                    "{row:?}"
                );
            }
        }
    });
}

#[test]
fn random_pipelines_of_every_command_are_answered_one_by_one() {
    let shop = Shop::new();
    let (_serving, address) = serve(&shop);
    let mut rows = table(&address);
    rows.retain(|row| row.name != "quit");
    // Transactions begin and end often.
    let special: Vec<Row> = rows
        .iter()
        .filter(|row| ["multi", "exec"].contains(&&*row.name))
        .cloned()
        .collect();
    rows.extend((0..8).flat_map(|_| special.clone()));
    // A store that hangs once answers nothing more: the first pipeline to fail is the one to look
    // at.
    let runner = Config {
        cases: 300,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let pipelines = prop::collection::vec(
        (
            any::<prop::sample::Index>(),
            prop::collection::vec(any::<u8>(), 8),
        ),
        1..40,
    );
    beside(&address, || {
        TestRunner::new(runner)
            .run(&pipelines, |pipeline| {
                let commands: Vec<Vec<String>> = pipeline
                    .iter()
                    .map(|(row, bytes)| command(row.get(&rows), bytes))
                    .collect();
                let mut wire = Wire::tcp(&address);
                wire.send(
                    &commands
                        .iter()
                        .flat_map(|command| packed(command))
                        .collect::<Vec<u8>>(),
                );
                let mut queued: Option<usize> = None;
                for command in &commands {
                    let reply = wire.reply();
                    prop_assert_eq!(reply_len(&reply), Some(reply.len()));
                    let text = String::from_utf8_lossy(&reply).into_owned();
                    match &*command[0] {
                        "multi" if queued.is_none() => queued = Some(0),
                        "exec" | "discard" => {
                            if let (Some(queued), true) = (queued.take(), text.starts_with('*')) {
                                prop_assert_eq!(parts(&reply), queued, "{:?}", commands);
                            }
                        }
                        _ if text == "+QUEUED\r\n" => queued = queued.map(|queued| queued + 1),
                        _ => prop_assert!(
                            queued.is_none() || text.starts_with('-'),
                            "{:?} of {:?}",
                            text,
                            commands
                        ),
                    }
                }
                if queued.is_some() {
                    wire.say("DISCARD");
                }
                prop_assert_eq!(wire.say("ECHO end"), "$3\r\nend\r\n");
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn a_transaction_may_delete_everything() {
    let server = RedisServer::start();
    let shop = Shop::new();
    let (_serving, address) = serve(&shop);
    let (mut theirs, mut ours) = (Wire::unix(&server.url()), Wire::tcp(&address));
    for line in [
        "SETBIT a 1 1",
        "MULTI",
        "FLUSHDB",
        "EXEC",
        "DBSIZE",
        "SETBIT a 1 1",
        "MULTI",
        "GETBIT a 1",
        "FLUSHDB",
        "DBSIZE",
        "EXEC",
        "MULTI",
        "SETBIT a 1 1",
        "FLUSHDB ASYNC",
        "SETBIT b 1 1",
        "DBSIZE",
        "EXEC",
        "KEYS *",
        "MULTI",
        "FLUSHDB NEVER",
        "EXEC",
        "DBSIZE",
    ] {
        assert_eq!(ours.say(line), theirs.say(line), "{line}");
    }
}

#[test]
fn a_refused_mark_leaves_its_neighbours_alone() {
    let shop = Shop::new();
    let rows: String = (0..3)
        .map(|n| format!("person{n},signup,2026-11-20\n"))
        .collect();
    let file = shop.write("people.csv", format!("user,event,timestamp\n{rows}"));
    shop.run(&["import", "--ids", "map", &file]).done();
    let (_serving, address) = serve(&shop);
    let mut wire = Wire::tcp(&address);
    // The second and the fourth are of users who have text ids, and no number of theirs is a Redis
    // client's to mark.
    let lines = [
        "SETBIT session 7 1",
        "SETBIT trackist_active_2026-11 7 1",
        "SETBIT session 7 0",
        "SETBIT trackist_signup_2026-11 1 1",
        "SETBIT session 4294967296 1",
        "SETBIT other 9 1",
        "SETBIT session 7 1",
    ];
    wire.send(
        &lines
            .map(|line| packed(&line.split(' ').collect::<Vec<_>>()))
            .concat(),
    );
    let replies: Vec<String> = lines
        .iter()
        .map(|_| String::from_utf8(wire.reply()).unwrap())
        .collect();
    let begins: Vec<&str> = replies
        .iter()
        .map(|reply| reply.split([' ', '\r']).next().unwrap())
        .collect();
    assert_eq!(
        begins,
        [":0", "-ERR", ":1", "-ERR", "-ERR", ":0", ":0"],
        "{replies:?}"
    );
    assert_eq!(wire.say("GETBIT session 7"), ":1\r\n");
    assert_eq!(wire.say("GETBIT other 9"), ":1\r\n");
    assert_eq!(wire.say("EXISTS trackist_active_2026-11"), ":0\r\n");
    assert_eq!(wire.say("BITCOUNT trackist_signup_2026-11"), ":3\r\n");
    // A transaction stays all or nothing.
    for line in [
        "MULTI",
        "SETBIT session 8 1",
        "SETBIT trackist_active_2026-11 7 1",
    ] {
        wire.say(line);
    }
    assert!(wire.say("EXEC").starts_with("-ERR"));
    assert_eq!(wire.say("GETBIT session 8"), ":0\r\n");
}

/// Lifetimes alone, in frames long enough that some thousand of them fill the largest log twice.
#[test]
fn a_log_of_nothing_but_lifetimes_blocks_nobody() {
    let shop = Shop::new();
    let name = "k".repeat(60_000);
    let expire = |wire: &mut Wire, times: u32| {
        for n in 0..times {
            let reply = wire.ask(&[
                "PEXPIRE",
                &name,
                &(4_000_000_000 + u64::from(n) * 1000).to_string(),
            ]);
            assert_eq!(String::from_utf8_lossy(&reply), ":1\r\n", "after {n}");
        }
    };
    {
        let (serving, address) = serve(&shop);
        let mut wire = Wire::tcp(&address);
        assert_eq!(wire.ask(&["SETBIT", &name, "7", "1"]), b":0\r\n");
        expire(&mut wire, 1200);
        assert_eq!(wire.say("SETBIT other 7 1"), ":0\r\n");
        signal(serving.id(), "-KILL");
    }
    let (_serving, address) = serve(&shop);
    let mut wire = Wire::tcp(&address);
    assert_eq!(wire.say("SETBIT other 7 0"), ":1\r\n");
    expire(&mut wire, 20);
    assert_eq!(wire.ask(&["GETBIT", &name, "7"]), b":1\r\n");
}

/// The middle one of some spans.
fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

#[test]
fn marks_do_not_wait_for_bitmaps_that_are_combined() {
    let shop = Shop::new();
    let (_serving, address) = serve(&shop);
    let mut wire = Wire::tcp(&address);
    let mut dice = 7_u64;
    let keys: Vec<String> = (0..100).map(|place| format!("k{place}")).collect();
    let mut union = vec![0; 128 << 10];
    for key in &keys {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Few enough bits that the union is not full.
            dice.to_be_bytes()[..5]
                .iter()
                .fold(0xff, |all, byte| all & byte)
        })
        .take(union.len())
        .collect();
        union
            .iter_mut()
            .zip(&bytes)
            .for_each(|(all, byte)| *all |= byte);
        assert_eq!(wire.ask(&[b"SET", key.as_bytes(), &bytes]), b"+OK\r\n");
    }
    let combine = format!("BITOP OR t {}", keys.join(" "));
    let lines = ["MULTI", "SETBIT k1 9 1", &combine, "BITCOUNT t", "EXEC"];
    let transaction = lines.map(|line| packed(&line.split(' ').collect::<Vec<_>>()));
    let ended = AtomicBool::new(false);
    // The marks are in one of the bitmaps that are combined.
    let (combined, marked) = std::thread::scope(|scope| {
        let marking = scope.spawn(|| {
            let mut wire = Wire::tcp(&address);
            let mut took = Vec::new();
            for user in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
                let began = Instant::now();
                let reply = wire.say(&format!("SETBIT k0 {} 1", user % 1000));
                took.push(began.elapsed());
                assert!(reply.starts_with(':'), "{reply}");
                std::thread::sleep(Duration::from_millis(1));
            }
            took
        });
        let mut took = Vec::new();
        for _ in 0..8 {
            let began = Instant::now();
            assert_eq!(wire.say(&combine), ":131072\r\n");
            took.push(began.elapsed());
            wire.send(&transaction.concat());
            let replies: Vec<Vec<u8>> = lines.iter().map(|_| wire.reply()).collect();
            assert_eq!(parts(&replies[4]), 3);
        }
        ended.store(true, Ordering::Relaxed);
        (took, marking.join().unwrap())
    });
    let (combined, marked) = (median(combined), median(marked));
    assert!(marked * 4 < combined, "{marked:?} beside {combined:?}");
    wire.say(&combine);
    let mut value = |key: &str| {
        let reply = wire.ask(&["GET", key]);
        reply[reply.len() - 2 - (128 << 10)..reply.len() - 2].to_vec()
    };
    // With the marks of this test.
    for key in ["k0", "k1"] {
        let bytes = value(key);
        union
            .iter_mut()
            .zip(bytes)
            .for_each(|(all, byte)| *all |= byte);
    }
    assert!(value("t") == union, "the union is another one");
}
