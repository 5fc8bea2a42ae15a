//! `cohortist copy --all-keys`: whole databases, with keys of every type and of everybody, between
//! real stores.

use std::collections::BTreeMap;

use cohortist::sets::Prefix;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{self, Options};
use redis::{Value, cmd};

use crate::support::program::{Serving, Shop};
use crate::support::redis::RedisServer;

/// Keys of every type, small and large, some with a lifetime, and among them our own.
fn fill(server: &RedisServer) {
    let mut connection = server.connection();
    let mut pipe = redis::pipe();
    for user in 0..2000 {
        pipe.cmd("SETBIT")
            .arg("trackist_active_2026-11-23")
            .arg(user * 3)
            .arg(1);
        pipe.cmd("HSET")
            .arg("many fields")
            .arg(format!("field {user}"))
            .arg(user);
        pipe.cmd("SADD")
            .arg("many members")
            .arg(format!("member {user}"));
        pipe.cmd("RPUSH").arg("queue").arg(user);
        pipe.cmd("ZADD")
            .arg("ranks")
            .arg(user)
            .arg(format!("rank {user}"));
        pipe.cmd("XADD").arg("stream").arg("*").arg("n").arg(user);
    }
    pipe.cmd("SADD").arg("numbers").arg(1).arg(2);
    pipe.cmd("HSET").arg("small").arg("a").arg("b");
    pipe.cmd("EXPIRE").arg("small").arg(5000);
    pipe.query::<Value>(&mut connection).unwrap();
    strings(server);
}

/// Strings of all kinds.
fn strings(server: &RedisServer) {
    let mut pipe = redis::pipe();
    pipe.cmd("SETBIT")
        .arg("trackist_active_2026-11")
        .arg(5)
        .arg(1);
    pipe.cmd("SETBIT")
        .arg("trackist_far_u")
        .arg(40_000_001)
        .arg(1);
    pipe.cmd("SETBIT")
        .arg("trackist_far_u")
        .arg(20_000_000)
        .arg(1);
    // All zeros behind its users.
    pipe.cmd("SETBIT").arg("long").arg(30_000_000).arg(0);
    pipe.cmd("SETBIT").arg("long").arg(70_000).arg(1);
    pipe.cmd("EXPIRE").arg("long").arg(7000);
    pipe.cmd("SET")
        .arg("session:1")
        .arg("a text, \r\n\0 and not a bitmap")
        .arg("EX")
        .arg(4000);
    pipe.cmd("SET").arg("counter").arg(12345);
    pipe.cmd("SET").arg("empty").arg("");
    pipe.cmd("SET").arg("ключ [x]*").arg("y");
    pipe.cmd("PFADD").arg("hll").arg("a").arg("b");
    // What a request under way, or one that was killed, may have left.
    pipe.cmd("SET")
        .arg("trackist_bitop_cohortist:00:0")
        .arg("z");
    pipe.cmd("SET").arg("trackist_bitop_AND_x").arg("z");
    // An event's, in spite of its looks.
    pipe.cmd("SET").arg("trackist_bitop_2026-11").arg("z");
    pipe.query::<Value>(&mut server.connection()).unwrap();
}

/// Names with types, values, and about how many thousands of seconds they have to live.
type Content = BTreeMap<Vec<u8>, (String, Vec<Vec<u8>>, i64)>;

/// Every key with its type, its value and about how many seconds it has to live.
fn content(server: &RedisServer) -> Content {
    let mut connection = server.connection();
    let names: Vec<Vec<u8>> = cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let read = |name: Vec<u8>| {
        let kind: String = cmd("TYPE").arg(&name).query(&mut connection).unwrap();
        let (command, rest): (&str, &[&str]) = match kind.as_str() {
            "string" => ("GET", &[]),
            "hash" => ("HGETALL", &[]),
            "set" => ("SMEMBERS", &[]),
            "list" => ("LRANGE", &["0", "-1"]),
            "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
            _ => ("XRANGE", &["-", "+"]),
        };
        let value: Value = cmd(command)
            .arg(&name)
            .arg(rest)
            .query(&mut connection)
            .unwrap();
        let mut parts = Vec::new();
        flatten(value, &mut parts);
        match kind.as_str() {
            "hash" => {
                let mut fields: Vec<Vec<Vec<u8>>> = parts.chunks(2).map(<[_]>::to_vec).collect();
                fields.sort();
                parts = fields.concat();
            }
            "set" => parts.sort(),
            _ => {}
        }
        let left: i64 = cmd("TTL").arg(&name).query(&mut connection).unwrap();
        // Two minutes are more than a test takes.
        (
            name,
            (
                kind,
                parts,
                if left < 0 { left } else { (left + 60) / 1000 },
            ),
        )
    };
    names.into_iter().map(read).collect()
}

fn flatten(value: Value, into: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(parts) => parts.into_iter().for_each(|part| flatten(part, into)),
        Value::BulkString(bytes) => into.push(bytes),
        other => into.push(format!("{other:?}").into_bytes()),
    }
}

fn without_temporary(mut content: Content) -> Content {
    for name in ["trackist_bitop_cohortist:00:0", "trackist_bitop_AND_x"] {
        assert!(content.remove(name.as_bytes()).is_some());
    }
    content
}

fn set(server: &RedisServer, name: &str, value: &str) {
    cmd("SET")
        .arg(name)
        .arg(value)
        .exec(&mut server.connection())
        .unwrap();
}

#[test]
fn between_two_redis_every_key_of_every_type_arrives_with_its_lifetime() {
    let (old, new, shop) = (RedisServer::start(), RedisServer::start(), Shop::new());
    fill(&old);
    cmd("SET")
        .arg(&b"no \xff utf-8"[..])
        .arg("x")
        .exec(&mut old.connection())
        .unwrap();
    let before = content(&old);
    old.reset_statistics();
    let copied = shop.run(&["copy", &old.url(), &new.url(), "--all-keys"]);
    assert_eq!(copied.code, 0, "{}", copied.err);
    let expected = without_temporary(before.clone());
    assert_eq!(expected.len(), 18);
    assert!(
        copied.out.starts_with("copied 18 keys to redis+unix://")
            && copied.out.ends_with("; all 18 are equal on both sides\n"),
        "{}",
        copied.out
    );
    assert_eq!(content(&new), expected);
    assert_eq!(content(&old), before);
    for command in [
        "set", "setbit", "setrange", "restore", "rename", "renamenx", "persist",
    ] {
        assert_eq!(old.calls(command), 0, "{command}");
    }
    // Of a key that is not there, to find out what the server knows and lets us do.
    for command in ["bitop", "del"] {
        assert!(old.calls(command) <= 2, "{command}");
    }

    // Interrupted and run again: what is there is not written again.
    for name in ["queue", "counter"] {
        cmd("DEL").arg(name).exec(&mut new.connection()).unwrap();
    }
    new.reset_statistics();
    let again = shop.run(&["copy", &old.url(), &new.url(), "--all-keys"]);
    assert!(
        again.out.starts_with("copied 2 keys to")
            && again.err.contains("16 of 18 keys there already"),
        "{}{}",
        again.err,
        again.out
    );
    assert_eq!(new.calls("restore"), 2);
    assert_eq!(content(&new), expected);

    // What the other side holds otherwise, of the same type or another, stays, and is named.
    set(&new, "session:1", "somebody's");
    set(&new, "small", "a hash there");
    cmd("SADD")
        .arg("many members")
        .arg("one more")
        .exec(&mut new.connection())
        .unwrap();
    cmd("HSET")
        .arg("many fields")
        .arg("field 7")
        .arg("otherwise")
        .exec(&mut new.connection())
        .unwrap();
    set(&new, "only here", "stays");
    let differs = shop
        .run(&["copy", &old.url(), &new.url(), "--all-keys"])
        .error(1);
    assert!(
        differs.contains("4 keys in redis+unix://")
            && differs.contains(" differ from redis+unix://"),
        "{differs}"
    );
    for words in ["many fields, many members, session:1, small", "--overwrite"] {
        assert!(differs.contains(words), "{differs}");
    }
    assert_eq!(
        cmd("GET")
            .arg("session:1")
            .query::<String>(&mut new.connection())
            .unwrap(),
        "somebody's"
    );
    let over = shop.run(&["copy", &old.url(), &new.url(), "--all-keys", "--overwrite"]);
    assert!(
        over.out.starts_with("copied 0 keys and replaced 4 to ")
            && over.out.contains("all 18 are equal"),
        "{}{}",
        over.err,
        over.out
    );
    let mut expected = expected;
    expected.insert(
        b"only here".to_vec(),
        ("string".to_owned(), vec![b"stays".to_vec()], -1),
    );
    assert_eq!(content(&new), expected);
}

#[test]
fn through_a_path_and_back_every_string_arrives_and_what_is_none_is_named() {
    let (old, new, shop) = (RedisServer::start(), RedisServer::start(), Shop::new());
    fill(&old);
    cmd("SET")
        .arg(&b"no \xff utf-8"[..])
        .arg("x")
        .exec(&mut old.connection())
        .unwrap();
    let copied = shop.run(&["copy", &old.url(), "./first.db", "--all-keys"]);
    assert_eq!(copied.code, 0, "{}", copied.err);
    for words in [
        "left out 2 keys of type hash, because ./first.db can have only strings: many fields, small\n",
        "left out 1 key of type list, because ./first.db can have only strings: queue\n",
        "left out 1 key of type stream, ",
        "left out 1 key with a name that is not UTF-8, ",
    ] {
        assert!(copied.err.contains(words), "{words}: {}", copied.err);
    }
    assert!(
        copied.out.starts_with("copied 10 keys to ./first.db")
            && copied.out.contains("all 10 are equal"),
        "{}",
        copied.out
    );
    // As the dashboard and its commands see it, and nobody else's keys.
    assert_eq!(
        shop.run(&[
            "--store",
            "./first.db",
            "count",
            "active@2026-11-23",
            "far@ever"
        ])
        .done()
        .lines()
        .map(|l| l.split_whitespace().next().unwrap())
        .collect::<Vec<_>>(),
        ["2000", "2"]
    );
    assert_eq!(
        shop.run(&["--store", "./first.db", "events"]).done(),
        "active\nbitop\nfar\n"
    );

    let between = shop.run(&["copy", "./first.db", "./second.db", "--all-keys"]);
    assert!(
        between.out.starts_with("copied 10 keys to ./second.db"),
        "{}{}",
        between.err,
        between.out
    );
    let again = shop.run(&["copy", "./first.db", "./second.db", "--all-keys"]);
    assert!(
        again.out.starts_with("copied 0 keys") && again.err.contains("10 of 10 keys there already"),
        "{}{}",
        again.err,
        again.out
    );

    shop.run(&["copy", "./second.db", &new.url(), "--all-keys"])
        .done();
    let mut expected = without_temporary(content(&old));
    expected.retain(|name, (kind, ..)| kind == "string" && std::str::from_utf8(name).is_ok());
    assert_eq!(content(&new), expected);
    assert_eq!(expected.len(), 10);

    // Different there: it stays, until told.
    set(&new, "counter", "1");
    set(&new, "long", "short");
    let differs = shop
        .run(&["copy", "./second.db", &new.url(), "--all-keys"])
        .error(1);
    assert!(
        differs.contains("2 keys in redis+unix://") && differs.contains("counter, long"),
        "{differs}"
    );
    let back = shop.run(&[
        "copy",
        &new.url(),
        "./second.db",
        "--all-keys",
        "--overwrite",
    ]);
    assert!(
        back.out
            .starts_with("copied 0 keys and replaced 2 to ./second.db"),
        "{}{}",
        back.err,
        back.out
    );
    shop.run(&["copy", &old.url(), &new.url(), "--all-keys", "--overwrite"])
        .done();
    let mut whole = content(&new);
    whole.retain(|_, (kind, ..)| kind == "string");
    whole.remove(&b"no \xff utf-8"[..]);
    assert_eq!(whole, expected);
}

#[test]
fn a_listener_takes_strings_though_it_knows_neither_dump_nor_restore() {
    let (old, shop) = (RedisServer::start(), Shop::new());
    strings(&old);
    let (serving, url) = Serving::saying(
        &shop,
        &["serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"],
        "Redis clients are served at ",
    );
    let there = shop.run(&["copy", &old.url(), &url, "--all-keys"]);
    assert_eq!(there.code, 0, "{}", there.err);
    assert!(there.out.contains("all 9 are equal"), "{}", there.out);
    set(&old, "counter", "7");
    let back = shop.run(&["copy", &url, &old.url(), "--all-keys"]).error(1);
    assert!(
        back.contains("1 key in redis+unix://") && back.contains("counter"),
        "{back}"
    );
    cmd("LPUSH")
        .arg("queue")
        .arg("x")
        .exec(&mut old.connection())
        .unwrap();
    let refused = shop.run(&["copy", &old.url(), &url, "--all-keys", "--overwrite"]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(
        refused.err.contains(
            "left out 1 key of type list that TO cannot read (the server does not support RESTORE): queue"
        ),
        "{}",
        refused.err
    );
    drop(serving);
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_made() {
    let (server, shop) = (RedisServer::start(), Shop::new());
    let url = server.url();
    shop.write("c.toml", format!("[stores]\na = {{ store = \"{url}\", prefix = \"bitmapist_\" }}\nb = {{ store = \"./b.db\", prefix = \"x_\" }}\n"));
    for (args, code, words) in [
        (
            &["copy", &url, "./x.db", "--all-keys"][..],
            1,
            "has no keys: nothing was copied",
        ),
        (
            &["copy", "./none.db", "./x.db", "--all-keys"],
            1,
            "there is no store at ./none.db",
        ),
        (
            &["copy", &url, "./x.db", "--overwrite"],
            2,
            "--overwrite needs --all-keys",
        ),
        (
            &[
                "copy",
                &url,
                "./x.db",
                "--all-keys",
                "--to-prefix",
                "bitmapist_",
            ],
            2,
            "under their own names",
        ),
        (
            &["--config", "c.toml", "copy", "a", "b", "--all-keys"],
            2,
            "`bitmapist_` in FROM and `x_` in TO",
        ),
        (&["copy", &url, &url, "--all-keys"], 2, "the same store"),
        (
            &["copy", "redis://127.0.0.1:1", "./x.db", "--all-keys"],
            1,
            "connection refused",
        ),
    ] {
        let error = shop.run(args).error(code);
        assert!(error.contains(words), "{args:?}: {error}");
    }
    assert!(!shop.path("x.db").exists() && !shop.path("b.db").exists());
    // Another prefix's temporary keys are somebody's.
    set(&server, "trackist_bitop_x", "1");
    let other = Options {
        prefix: Prefix::new("bitmapist_"),
        ..Options::default()
    };
    shop.run(&[
        "--prefix",
        "bitmapist_",
        "copy",
        &url,
        "./x.db",
        "--all-keys",
    ])
    .done();
    let space = EmbeddedStore::open(&shop.path("x.db"), &other)
        .unwrap()
        .keyspace();
    assert!(space.read(|look| look.exists("trackist_bitop_x")).unwrap());
}

#[test]
fn a_copy_that_is_killed_goes_on_and_leaves_nothing_half_made() {
    let (old, new, shop) = (RedisServer::start(), RedisServer::start(), Shop::new());
    strings(&old);
    let mut pipe = redis::pipe();
    for i in 0..20_000 {
        pipe.cmd("SET").arg(format!("k{i}")).arg(i);
    }
    pipe.query::<Value>(&mut old.connection()).unwrap();
    shop.run(&["copy", &old.url(), "./whole.db", "--all-keys"])
        .done();
    let expected = without_temporary(content(&old));
    // What is interrupted writes through temporary names, from a path, and as Redis writes it down,
    // from a Redis.
    for from in ["./whole.db", &old.url()] {
        cmd("FLUSHALL").exec(&mut new.connection()).unwrap();
        let mut cut_short = 0;
        for milliseconds in [60, 120, 240, 400] {
            let mut child = shop.start(&["copy", from, &new.url(), "--all-keys"]);
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            child.kill().unwrap();
            cut_short += usize::from(!child.wait().unwrap().success());
            for (name, (_, value, lifetime)) in content(&new) {
                match expected.get(&name) {
                    Some((_, whole, _)) => {
                        assert_eq!(*whole, value, "{}", String::from_utf8_lossy(&name))
                    }
                    None => assert!(
                        name.starts_with(b"trackist_bitop_cohortist:") && lifetime >= 0,
                        "{name:?}"
                    ),
                }
            }
        }
        assert!(cut_short > 0, "it was never interrupted");
        let last = shop.run(&["copy", from, &new.url(), "--all-keys"]);
        assert_eq!(last.code, 0, "{}", last.err);
        let mut arrived = content(&new);
        arrived.retain(|name, _| !name.starts_with(b"trackist_bitop_cohortist:"));
        assert!(
            arrived == expected,
            "{} of {}",
            arrived.len(),
            expected.len()
        );
    }
}

#[test]
fn a_bitmap_of_half_a_gigabyte_may_take_its_time() {
    let (old, new, shop) = (RedisServer::start(), RedisServer::start(), Shop::new());
    cmd("SETBIT")
        .arg("huge")
        .arg(u32::MAX)
        .arg(1)
        .exec(&mut old.connection())
        .unwrap();
    // It travels as some megabytes, which take longer to unpack than a Redis may else take to
    // answer.
    let ran = shop.run(&[
        "--redis-timeout",
        "0.1",
        "copy",
        &old.url(),
        &new.url(),
        "--all-keys",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        cmd("BITPOS")
            .arg("huge")
            .arg(1)
            .query::<u32>(&mut new.connection())
            .unwrap(),
        u32::MAX
    );
}

#[test]
fn a_server_that_took_no_writes_a_moment_ago_gives_temporary_keys_their_lifetime() {
    let server = RedisServer::start();
    let mut connection = server.connection();
    cmd("ACL")
        .arg(&[
            "SETUSER",
            "ann",
            "on",
            ">pw",
            "~*",
            "+@read",
            "+@connection",
        ])
        .exec(&mut connection)
        .unwrap();
    let url = format!("{}?user=ann&pass=pw", server.url());
    let there = store::redis::Server::new(&url, &Options::default()).unwrap();
    assert!(
        there.names().unwrap().is_empty(),
        "by then it is known what ann may do"
    );
    cmd("ACL")
        .arg(&["SETUSER", "ann", "+@all"])
        .exec(&mut connection)
        .unwrap();

    // Three pieces of a mebibyte.
    let space = EmbeddedStore::in_memory(&Options::default()).keyspace();
    space
        .set_bits(
            vec!["long".to_owned()],
            (0..3).map(|piece| (1, piece * (8 << 20))).collect(),
        )
        .unwrap();
    let long = space.read(|look| look.snapshot("long")).unwrap().unwrap();
    server.reset_statistics();
    assert_eq!(
        there.put(&[(b"long", long, None)], false).unwrap(),
        [store::redis::Made::New]
    );
    assert_eq!(server.calls("setrange"), 3);
    assert_eq!(
        server.calls("pexpire"),
        1 + 3,
        "one asks whether it may, the others renew the lifetime"
    );
    assert_eq!(
        cmd("BITCOUNT")
            .arg("long")
            .query::<u64>(&mut connection)
            .unwrap(),
        3
    );
    assert_eq!(server.keys(), ["long"]);
}
