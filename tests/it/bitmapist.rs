//! Beside bitmapist on a real Redis: what its clients write is seen at once, what cohortist writes
//! is theirs byte for byte, and a Redis that goes away is said and forgiven.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::program::{Serving, Shop};
use crate::support::redis::RedisServer;

/// What bitmapist's `mark_event(event, user, now=2026-11-23 14:05)` sends, with hours and "unique"
/// tracked: a transaction of SETBITs in its order.
fn mark_as_bitmapist(server: &RedisServer, event: &str, user: u32, value: u8, times: &[&str]) {
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    for time in times {
        pipeline
            .cmd("SETBIT")
            .arg(format!("trackist_{event}_{time}"))
            .arg(user)
            .arg(value)
            .ignore();
    }
    pipeline.exec(&mut server.connection()).unwrap();
}

const MONDAY: [&str; 3] = ["2026-11", "W2026-48", "2026-11-23"];
const SUNDAY: [&str; 3] = ["2026-11", "W2026-47", "2026-11-22"];

fn contents(server: &RedisServer) -> BTreeMap<String, Vec<u8>> {
    let mut connection = server.connection();
    let read = |key: String| {
        let bytes = redis::cmd("GET").arg(&key).query(&mut connection).unwrap();
        (key, bytes)
    };
    server.keys().into_iter().map(read).collect()
}

fn serve(shop: &Shop, server: &RedisServer) -> Serving {
    Serving::start(
        shop,
        &["--store", &server.url(), "serve", "--listen", "127.0.0.1:0"],
    )
}

fn sizes(serving: &Serving, query: &str) -> Vec<(u64, Vec<u64>)> {
    let table: Value =
        serde_json::from_str(&serving.get(&format!("/retention.json?{query}"))).unwrap();
    let cells = |row: &Value| {
        row["cells"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|c| c["retained"].as_u64())
            .collect()
    };
    table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["size"].as_u64().unwrap(), cells(row)))
        .collect()
}

#[test]
fn marks_of_bitmapist_clients_are_on_the_page_at_once() {
    let server = RedisServer::start();
    let shop = Shop::new();
    let serving = serve(&shop, &server);
    assert!(
        serving.get("/retention").contains(" import events.csv"),
        "an empty store says what to do"
    );
    let query = "cohort=signup&returning=active&by=day&rows=2&cols=2";
    for user in [3, 5, 8] {
        mark_as_bitmapist(&server, "signup", user, 1, &SUNDAY);
    }
    mark_as_bitmapist(&server, "active", 5, 1, &MONDAY);
    assert_eq!(sizes(&serving, query), [(3, vec![0, 1]), (0, vec![])]);
    // The list of events may be some seconds old, yet nothing is called unknown that is there.
    let page = serving.get(&format!("/retention?{query}"));
    assert!(
        page.contains("33%*") && !page.contains("ever recorded"),
        "{page}"
    );
    mark_as_bitmapist(&server, "active", 8, 1, &MONDAY);
    mark_as_bitmapist(&server, "active", 5, 0, &MONDAY);
    mark_as_bitmapist(&server, "active", 3, 1, &MONDAY);
    assert_eq!(sizes(&serving, query), [(3, vec![0, 2]), (0, vec![])]);
    // bitmapist's own address for the same question.
    let theirs =
        "select1=signup&select2=active&time_group=days&num_results=2&num_of_rows=1&as_percent=1";
    assert_eq!(sizes(&serving, theirs), sizes(&serving, query));
    assert!(
        server.keys().iter().all(|key| !key.contains("bitop")),
        "{:?}",
        server.keys()
    );
}

#[test]
fn what_mark_and_unmark_write_is_bitmapists_byte_for_byte() {
    let (ours, theirs) = (RedisServer::start(), RedisServer::start());
    let shop = Shop::new();
    let hour = ["2026-11", "W2026-48", "2026-11-23", "2026-11-23-14", "u"];
    let at = ["--at", "2026-11-23T14:05:00Z"];
    let run = |args: &[&str]| shop.run(&[&["--store", &ours.url()], args].concat()).done();

    run(&[&["mark", "song:played", "0", "123", "100000"], &at[..]].concat());
    for user in [0, 123, 100_000] {
        mark_as_bitmapist(&theirs, "song:played", user, 1, &MONDAY);
    }
    run(&[&["mark", "active", "7", "--hourly", "--ever"], &at[..]].concat());
    mark_as_bitmapist(&theirs, "active", 7, 1, &hour);
    run(&[
        &["unmark", "active", "7", "4000", "--hourly", "--ever"],
        &at[..],
    ]
    .concat());
    mark_as_bitmapist(&theirs, "active", 7, 0, &hour);
    mark_as_bitmapist(&theirs, "active", 4000, 0, &hour);
    run(&["mark", "signup", "9", "--at", "2021-01-01 00:00:00"]);
    mark_as_bitmapist(&theirs, "signup", 9, 1, &["2021-1", "W2020-53", "2021-1-1"]);

    let (ours, theirs) = (contents(&ours), contents(&theirs));
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>()
    );
    assert_eq!(ours, theirs);
}

#[test]
fn deleting_all_leaves_the_keys_of_others_alone() {
    let server = RedisServer::start();
    let shop = Shop::new();
    mark_as_bitmapist(&server, "active", 1, 1, &MONDAY);
    let mut connection = server.connection();
    for key in [
        "session:1",
        "trackist_settings",
        "trackist_active_backup",
        "bitmapist_active_2026-11",
        "xtrackist_a_u",
    ] {
        redis::cmd("SET")
            .arg(key)
            .arg("theirs")
            .exec(&mut connection)
            .unwrap();
    }
    let ran = shop.run(&["--store", &server.url(), "delete", "--all", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(server.keys().len(), 5, "{:?}", server.keys());
}

#[test]
fn redis_away_is_said_within_three_seconds_and_forgiven_at_once() {
    let mut server = RedisServer::start();
    let shop = Shop::new();
    mark_as_bitmapist(&server, "signup", 1, 1, &MONDAY);
    mark_as_bitmapist(&server, "active", 1, 1, &MONDAY);
    let serving = serve(&shop, &server);
    let query = "/retention?cohort=signup&returning=active";
    assert!(serving.get(query).contains("100%"));

    // One time-out is 2.5 s; a machine that is busy adds to it, and a request must not add up many.
    let limit = Duration::from_secs(12);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let answer = |path: &str| {
        let asked = Instant::now();
        let mut response = agent
            .get(format!("http://{}{path}", serving.address))
            .call()
            .unwrap();
        let body = response.body_mut().read_to_string().unwrap();
        (
            response.status().as_u16(),
            response.headers().contains_key("retry-after"),
            body,
            asked.elapsed(),
        )
    };
    let check_away = |how: &str, server: &RedisServer| {
        for path in [
            query,
            "/retention.json?cohort=signup&returning=active",
            "/readyz",
        ] {
            let (status, retry_after, body, took) = answer(path);
            assert_eq!((status, retry_after), (503, true), "{how}: {path} {body}");
            assert!(took < limit, "{how}: {path} took {took:?}");
            assert!(body.contains("does not answer"), "{how}: {path} {body}");
        }
        assert_eq!(answer("/healthz").0, 200);
        let asked = Instant::now();
        let error = shop
            .run(&["--store", &server.url(), "count", "active@2026-11"])
            .error(1);
        assert!(
            asked.elapsed() < limit,
            "{how}: the command took {:?}",
            asked.elapsed()
        );
        assert!(error.contains("does not answer"), "{how}: {error}");
    };

    server.pause();
    check_away("hanging", &server);
    // And for everybody at once, not for one after the other.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let (status, _, _, took) = answer(query);
                assert!(
                    status == 503 && took < limit + Duration::from_millis(500),
                    "{status} in {took:?}"
                );
            });
        }
    });
    server.resume();
    assert_eq!(answer(query).0, 200, "the next request after it hung");

    server.stop();
    check_away("stopped", &server);
    server.restart();
    mark_as_bitmapist(&server, "signup", 1, 1, &MONDAY);
    mark_as_bitmapist(&server, "active", 1, 1, &MONDAY);
    let (status, _, body, _) = answer(query);
    assert!(
        status == 200 && body.contains("100%"),
        "the next request after it was started again: {status} {body}"
    );
}

#[test]
fn tls_and_a_password_protect_the_way_to_redis() {
    let certificate =
        |name: &str| format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    // A free port: asked for, given back, and taken again by Redis.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let (cert, key) = (certificate("server.crt"), certificate("server.key"));
    let tls = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ];
    let tls = [
        &tls[..],
        &[
            "--tls-ca-cert-file",
            &cert,
            "--requirepass",
            "s3cret",
            "--bind",
            "127.0.0.1",
        ],
    ]
    .concat();
    let server = RedisServer::start_with(&tls);
    let shop = Shop::new();
    let run = |url: &str, trusted: &str, args: &[&str]| {
        let mut command = shop.command(&[&["--store", url], args].concat());
        let output = command
            .env("SSL_CERT_FILE", certificate(trusted))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let url = format!("rediss://:s3cret@localhost:{port}/2");
    let (code, _, err) = run(&url, "ca.crt", &["mark", "active", "1", "5"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = run(&url, "ca.crt", &["people", "active@2026-11"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "1\n5\n", ""));
    // It went to database 2, and nowhere else.
    let mut connection = server.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert_eq!(keys, [""; 0]);
    redis::cmd("SELECT").arg(2).exec(&mut connection).unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("trackist_active_*")
        .query(&mut connection)
        .unwrap();
    assert_eq!(keys.len(), 3);
    // A certificate nobody vouches for, and a wrong password: refused, and no secret repeated.
    for (url, trusted) in [
        (url.as_str(), "server.key"),
        (&format!("rediss://:wr0ng@localhost:{port}/2"), "ca.crt"),
    ] {
        let (code, out, err) = run(url, trusted, &["count", "active@2026-11"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(
            err.starts_with("error: ") && !err.contains("s3cret") && !err.contains("wr0ng"),
            "{err}"
        );
    }
}
