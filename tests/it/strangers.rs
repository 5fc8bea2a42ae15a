//! What strangers try: other sites' pages, other names, slow and broken requests, wrong passwords.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cohortist::clock::Clock;
use cohortist::server::{self, Dashboard, Hosts};

use crate::http::agent;
use crate::support::bent::Bent;
use crate::support::browser::Browser;
use crate::support::program::{Serving, Shop};
use crate::support::redis::signal;
use crate::support::web::{name, now, product, product_store, serve_dashboard};
use crate::support::wire::{Wire, packed};

/// What comes back for some bytes, until the server closes the connection.
pub fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!(
                "{request:?}: the connection stays open after {:?}",
                String::from_utf8_lossy(&answer)
            )
        }
        // Closed while bytes were on their way to it.
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

fn status(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .unwrap_or_else(|| panic!("{answer}"))
        .parse()
        .unwrap()
}

fn hosts(names: &[&str]) -> Hosts {
    names
        .iter()
        .map(|name| name.parse::<cohortist::server::HostName>().unwrap())
        .collect()
}

/// A dashboard that answers to `stats.example.org`.
fn named() -> SocketAddr {
    let tracker = product(3, 20);
    tracker.mark(&name("active"), 4711, now()).unwrap();
    let dashboard = Dashboard::new(tracker, Clock::Fixed(now()));
    serve_dashboard(Dashboard {
        hosts: hosts(&["stats.example.org"]),
        ..dashboard
    })
}

const ROUTES: [&str; 12] = [
    "/",
    "/retention?cohort=signup&returning=active",
    "/retention.csv?cohort=signup&returning=active",
    "/events",
    "/people?set=active@2026-11-23",
    "/people.csv?set=active@2026-11-23",
    "/users/4711",
    "/users/4711.json",
    "/api/v1/people?set=active@2026-11-23",
    "/readyz",
    "/metrics",
    "/nowhere",
];

#[test]
fn a_request_for_another_host_is_told_which_setting_admits_it() {
    let address = named();
    for path in ROUTES {
        let ask = |host: &str| {
            raw(
                address,
                &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            )
        };
        for own in [
            "localhost",
            "LOCALHOST:1",
            "a.localhost.",
            "127.0.0.1:80",
            "[::1]",
            "Stats.Example.ORG.:443",
        ] {
            assert!(![400, 421].contains(&status(&ask(own))), "{path} of {own}");
        }
        for other in [
            "evil.test",
            "stats.example.org.evil.test",
            "localhost.evil.test:8080",
        ] {
            let answer = ask(other);
            assert_eq!(status(&answer), 421, "{path} of {other}");
            assert!(
                answer.contains("--host")
                    && answer.contains("COHORTIST_HOST")
                    && answer.contains("hosts = ["),
                "{answer}"
            );
            assert!(
                !answer.contains("4711") && !answer.contains("<"),
                "{answer}"
            );
            let json = path.starts_with("/api/") || path.contains(".json");
            assert_eq!(
                answer
                    .to_lowercase()
                    .contains("content-type: application/json"),
                json,
                "{answer}"
            );
        }
        for malformed in ["localhost, evil.test", "", "localhost:x", "a b"] {
            assert_eq!(status(&ask(malformed)), 400, "{path} of {malformed}");
        }
        // No host, two hosts, and a target that names one itself.
        assert_eq!(
            status(&raw(
                address,
                &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n")
            )),
            400,
            "{path}"
        );
        assert_eq!(
            status(&raw(address, &format!("GET {path} HTTP/1.0\r\n\r\n")).replace("1.0", "1.1")),
            400,
            "{path}"
        );
        let two = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(status(&raw(address, &two)), 400, "{path}");
        for (target, host, refused) in [
            ("evil.test", "localhost", true),
            ("localhost", "evil.test", true),
            ("localhost", "localhost", false),
        ] {
            let request = format!(
                "GET http://{target}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            );
            assert_eq!(
                status(&raw(address, &request)) == 421,
                refused,
                "{path}: {target}, {host}"
            );
        }
    }
    let probe = raw(
        address,
        "GET /healthz HTTP/1.1\r\nHost: cohortist\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(status(&probe), 200);
    let mark = "POST /api/v1/marks HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]";
    assert_eq!(status(&raw(address, mark)), 421);
}

#[test]
fn names_come_from_the_flag_the_variable_and_the_file() {
    let shop = Shop::new();
    shop.write("cohortist.toml", "[server]\nhosts = [\"file.example\"]\n");
    let mut command = shop.command(&[
        "--store",
        "memory:",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--host",
        "one.example",
        "--host",
        "two.example",
    ]);
    let answers = |serving: &Serving, host: &str| {
        status(&raw(
            serving.address.parse().unwrap(),
            &format!("GET /events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        ))
    };
    let serving = Serving::of(&mut command);
    for host in ["one.example", "two.example", "file.example", "localhost"] {
        assert_eq!(answers(&serving, host), 200, "{host}");
    }
    assert_eq!(answers(&serving, "three.example"), 421);
    let mut command = shop.command(&["--store", "memory:", "serve", "--listen", "127.0.0.1:0"]);
    let serving = Serving::of(command.env("COHORTIST_HOST", "three.example,four.example"));
    assert_eq!(
        [
            "three.example",
            "four.example",
            "file.example",
            "one.example"
        ]
        .map(|host| answers(&serving, host)),
        [200, 200, 200, 421]
    );

    for wrong in [
        &["--host", "https://a.example"][..],
        &["--host", "a.example:80"],
        &["--trusted-proxy", "proxy.example"],
    ] {
        let error = shop.run(&[&["serve", "--check"], wrong].concat()).error(2);
        assert!(error.contains(wrong[1]), "{error}");
    }
    shop.write(
        "bad.toml",
        "[server]\nhosts = [\"ok.example\", \"a.example:80\"]\nhost = \"x\"\n",
    );
    let error = shop
        .run(&["--config", "bad.toml", "serve", "--check"])
        .error(2);
    assert!(
        error.contains("bad.toml, line 2: `server.hosts`")
            && error.contains("bad.toml, line 3: `server.host`"),
        "{error}"
    );
}

#[test]
fn every_answer_is_closed_to_other_sites_and_names_of_people_are_not_kept() {
    let address = named();
    for path in ROUTES.into_iter().chain([
        "/users",
        "/users?id=4711",
        "/users/nobody.json",
        "/people",
        "/favicon.ico",
    ]) {
        for host in ["localhost", "evil.test"] {
            let answer = raw(
                address,
                &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            );
            let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
            assert!(
                head.contains("cross-origin-opener-policy: same-origin"),
                "{path}: {head}"
            );
            assert!(
                head.contains("cross-origin-resource-policy: same-origin"),
                "{path}: {head}"
            );
            assert!(
                head.contains("permissions-policy: accelerometer=(), "),
                "{path}: {head}"
            );
            let named = ["/people", "/users", "/api/v1/people"]
                .iter()
                .any(|names| path.starts_with(names));
            if host == "localhost" {
                assert_eq!(
                    head.contains("cache-control: no-store"),
                    named,
                    "{path}: {head}"
                );
            }
        }
    }
}

/// A page of another site, at `http://evil.test:PORT/` of a browser that takes `evil.test` for this
/// machine. Once it is shown, the port is free for the server that the page is after: that is what
/// rebinding its name to another address comes to.
async fn lured(browser: &Browser) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let done = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            for stream in listener.incoming() {
                if done.load(Ordering::Acquire) {
                    return;
                }
                let mut stream = stream.unwrap();
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let _ = stream.read(&mut [0; 8192]);
                let page =
                    "<!doctype html><title>Win a prize</title><iframe name=\"away\"></iframe>";
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                    page.len()
                );
            }
        }
    });
    browser
        .driver
        .goto(format!("http://evil.test:{port}/"))
        .await
        .unwrap();
    assert_eq!(browser.driver.title().await.unwrap(), "Win a prize");
    done.store(true, Ordering::Release);
    drop(TcpStream::connect(("127.0.0.1", port)));
    thread.join().unwrap();
    port
}

/// A browser that takes `evil.test` for this machine.
async fn fooled() -> Browser {
    Browser::with(&[
        "--host-resolver-rules=MAP evil.test 127.0.0.1",
        "--disable-features=HttpsUpgrades",
    ])
    .await
}

/// What a page of another site can do to the dashboard once its name leads there: everything that
/// its own pages can.
const REBINDING: &str = "
    const ask = async (path, options) => {
        try {
            const answer = await fetch(path, options);
            return answer.status + ' ' + await answer.text();
        } catch (error) { return String(error); }
    };
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    const save = ask('/people?set=active@2026-11-23', { method: 'POST', headers: form, body: 'name=stolen' });
    return Promise.all([save, ...['/api/v1/people?set=active@2026-11-23', '/people.csv?set=active@2026-11-23', '/users/4711',
        '/users/4711.json', '/events', '/autocomplete.json', '/metrics', '/readyz', '/retention?cohort=active&returning=active']
        .map(path => ask(path))]);
";

async fn rebinding(args: &[&str]) -> (Vec<String>, String) {
    let browser = fooled().await;
    let port = lured(&browser).await;
    let shop = Shop::new();
    shop.run(&["mark", "active", "4711"]).done();
    let listen = format!("127.0.0.1:{port}");
    let serving = Serving::start(&shop, &[&["serve", "--listen", &listen], args].concat());
    // The browser may use connections to the server it took the page from once more, until they are
    // closed.
    let mut got: Vec<String> = Vec::new();
    for _ in 0..20 {
        let answers = browser.js(REBINDING).await;
        got = answers
            .as_array()
            .unwrap()
            .iter()
            .map(|answer| answer.as_str().unwrap().to_owned())
            .collect();
        if !got.iter().any(|answer| answer.contains("Win a prize")) {
            break;
        }
    }
    browser.end().await;
    drop(serving);
    (got, shop.run(&["events"]).done())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_the_cross_protocol_attack_and_the_rebinding_attack_and_fails_to_change_or_read_anything()
 {
    // The attack works where the name is admitted, so that its failure elsewhere means something.
    let (got, events) = rebinding(&["--host", "evil.test"]).await;
    assert!(
        got.iter().filter(|answer| answer.contains("4711")).count() >= 4,
        "{got:?}"
    );
    assert_eq!(events, "active\nstolen\n", "{}", got[0]);
    let (got, events) = rebinding(&[]).await;
    for answer in &got {
        assert!(
            answer.starts_with("421 ") && !answer.contains("4711") && !answer.contains("active"),
            "{got:?}"
        );
    }
    assert_eq!((got.len(), events.as_str()), (10, "active\n"));

    // Two listeners for Redis clients: one behind another site's own name and port, and one that
    // its page sends forms to.
    let browser = fooled().await;
    let port = lured(&browser).await;
    let shop = Shop::new();
    let key = "trackist_active_2026-11-23";
    let resp = format!("127.0.0.1:{port}");
    let args = ["serve", "--listen", "127.0.0.1:0", "--resp", &resp];
    let serving = Serving::start(&shop, &args);
    let mut wire = Wire::tcp(&resp);
    assert_eq!(wire.say(&format!("SETBIT {key} 7 1")), ":0\r\n");
    assert_eq!(key.len(), 26, "as the page says");
    browser
        .js(&CROSS_PROTOCOL
            .replace("PORT", &port.to_string())
            .replace("KEY", key))
        .await;
    // It was reached, or nothing would have been proved.
    let log = serving.says("closed a connection that sent HTTP or TLS");
    assert!(log.contains("127.0.0.1"), "{log}");
    let all = [
        format!("GETBIT {key} 4711"),
        format!("GETBIT {key} 7"),
        format!("BITCOUNT {key}"),
        "DBSIZE".to_owned(),
    ];
    assert_eq!(
        all.map(|command| wire.say(&command)),
        [":0\r\n", ":1\r\n", ":1\r\n", ":1\r\n"]
    );
    // The same page does send commands: it reaches a server that accepts any bytes, and behind the
    // head of HTTP they are carried out.
    let (elsewhere, received) = recorder();
    browser
        .js(&CROSS_PROTOCOL
            .replace("PORT", &elsewhere.to_string())
            .replace("KEY", key))
        .await;
    browser.end().await;
    let received = received.lock().unwrap();
    let attack = format!("SETBIT {key} 4711 1");
    let bodies: Vec<&str> = received
        .iter()
        .filter_map(|request| request.split_once("\r\n\r\n"))
        .map(|(_, body)| body)
        .filter(|body| body.contains(&attack))
        .collect();
    // By fetch, by sendBeacon and by form, to several names of this machine.
    assert!(bodies.len() >= 6, "{received:?}");
    let plain = bodies.iter().find(|body| body.starts_with("\r\nSETBIT"));
    wire.send(plain.unwrap().as_bytes());
    // SETBIT twice, FLUSHDB without --allow-flush, and DEL.
    assert_eq!([wire.reply(), wire.reply()], [b":0\r\n", b":1\r\n"]);
    assert!(wire.reply().starts_with(b"-"));
    assert_eq!(wire.reply(), b":1\r\n");
    assert_eq!(wire.say("DBSIZE"), ":0\r\n");
}

/// The port of a server that answers anything, and what it received on each connection.
fn recorder() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let received: Arc<Mutex<Vec<String>>> = Arc::default();
    let all = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let all = Arc::clone(&all);
            std::thread::spawn(move || {
                let wait = Some(Duration::from_millis(200));
                stream.set_read_timeout(wait).unwrap();
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes);
                all.lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&bytes).into_owned());
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            });
        }
    });
    (port, received)
}

/// Commands in the body, in the path, in a header and as the method, by every way a page has to
/// send them.
const CROSS_PROTOCOL: &str = r"
    const body = '\r\nSETBIT KEY 4711 1\r\n*4\r\n$6\r\nSETBIT\r\n$26\r\nKEY\r\n$4\r\n4711\r\n$1\r\n1\r\nFLUSHDB\r\nDEL KEY\r\n';
    const tries = [];
    for (const host of ['evil.test', '127.0.0.1', 'localhost']) {
        const to = `http://${host}:PORT/`;
        for (const method of ['POST', 'GET', 'HEAD'])
            tries.push(fetch(to + 'SETBIT%20KEY%204711%201', { method, mode: 'no-cors', ...(method === 'POST' ? { body } : {}) }));
        tries.push(fetch(to, { method: 'PUT', body }));
        navigator.sendBeacon(to, body);
        for (const enctype of ['text/plain', 'multipart/form-data', 'application/x-www-form-urlencoded']) {
            const form = document.createElement('form');
            Object.assign(form, { action: to, method: 'POST', enctype, target: 'away' });
            const field = document.createElement('textarea');
            Object.assign(field, { name: '\r\nSETBIT KEY 4711 1\r\n', value: body });
            form.append(field);
            document.body.append(form);
            form.submit();
        }
    }
    // At its own address a script may choose the method and headers.
    for (const method of ['DEL', 'SET', 'RENAME', 'UNLINK', 'FLUSHDB', 'patch', 'SETBIT', 'DELETE', 'OPTIONS'])
        tries.push(fetch('/KEY', { method, body, headers: { 'X-Do': 'SETBIT KEY 4711 1' } }), fetch('KEY', { method }));
    return Promise.allSettled(tries).then(() => new Promise(done => setTimeout(done, 500)));
";

/// A listener for Redis clients, and where it is.
fn listener(shop: &Shop, args: &[&str]) -> (Serving, String) {
    let all = [
        &["serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"],
        args,
    ]
    .concat();
    Serving::saying(shop, &all, "Redis clients are served at redis://")
}

/// What comes back from the listener for some bytes, once it has closed the connection.
fn closes(address: &str, bytes: &str) -> String {
    raw(address.parse().unwrap(), bytes)
}

#[test]
fn nothing_behind_a_line_of_http_is_carried_out() {
    let shop = Shop::new();
    let (serving, address) = listener(&shop, &[]);
    let commands = "SETBIT k 1 1\r\n*4\r\n$6\r\nSETBIT\r\n$1\r\nk\r\n$1\r\n2\r\n$1\r\n1\r\n";
    for first in [
        "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "post / http/1.1\r\n",
        "GET /SETBIT HTTP/1.1\r\n",
        "HEAD / HTTP/1.1\r\n",
        "PUT / HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "DELETE /k HTTP/1.1\r\n",
        "patch /k HTTP/1.1\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "TRACE / HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "SET /k HTTP/1.1\r\n",
        "DEL there HTTP/1.1\r\n",
        "Host: localhost\r\n",
        "X-Anything: x\r\n",
        "*1\r\n$4\r\nPOST\r\n",
        "*2\r\n$5\r\nHost:\r\n$1\r\nx\r\n",
        "\x16\x03\x01\x00\x05",
        "\0\0\0\n",
        "EHLO there\r\n",
        "unknown line\r\n",
        // Behind other bytes, and behind what was queued.
        "GET there\r\nPOST / HTTP/1.1\r\n",
        "\r\n\r\nPOST / HTTP/1.1\r\n",
        "MULTI\r\nSETBIT k 3 1\r\nPOST / HTTP/1.1\r\nEXEC\r\n",
    ] {
        let mut wire = Wire::tcp(&address);
        assert_eq!(wire.say("SETBIT there 1 1").len(), 4);
        let answer = closes(&address, &format!("{first}{commands}EXEC\r\n"));
        assert!(
            !answer.contains(':') || !answer.contains(":0"),
            "{first:?}: {answer:?}"
        );
        assert_eq!(
            [wire.say("EXISTS k there"), wire.say("DBSIZE")],
            [":1\r\n", ":1\r\n"],
            "{first:?}"
        );
        // Cut anywhere, it is the same.
        let mut stream = TcpStream::connect(&address).unwrap();
        for byte in format!("{first}{commands}").bytes() {
            if stream.write_all(&[byte]).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        assert_eq!(
            [wire.say("EXISTS k there"), wire.say("DBSIZE")],
            [":1\r\n", ":1\r\n"],
            "{first:?}, byte by byte"
        );
    }
    // Commands go on, GET among them, typed or not.
    let mut wire = Wire::tcp(&address);
    for get in [
        "GET there\r\n",
        "get there\r\n",
        "*2\r\n$3\r\nGET\r\n$5\r\nthere\r\n",
    ] {
        wire.send(get.as_bytes());
        assert_eq!(wire.reply(), b"$1\r\n@\r\n", "{get:?}");
    }
    let log = serving.log();
    assert_eq!(
        log.matches("sent HTTP or TLS").count(),
        1,
        "once for each peer: {log}"
    );
    assert!(log.contains("127.0.0.1"), "{log}");
}

/// A counter of `/metrics`.
fn counter(serving: &Serving, line: &str) -> u64 {
    let metrics = serving.get("/metrics");
    let found = metrics
        .lines()
        .find_map(|each| each.strip_prefix(line))
        .unwrap_or_else(|| panic!("{line}: {metrics}"));
    found.trim().parse().unwrap()
}

#[test]
fn wrong_passwords_are_logged_counted_and_answered_late_while_others_are_served() {
    let shop = Shop::new();
    let token = "a-token-of-some-length";
    let args = [
        "--resp-password",
        "right",
        "--write-token",
        token,
        "--trusted-proxy",
        "127.0.0.0/8",
    ];
    let (serving, address) = listener(&shop, &args);
    let failures = |place: &str| {
        counter(
            &serving,
            &format!("cohortist_auth_failures_total{{listener=\"{place}\"}}"),
        )
    };
    assert_eq!((failures("resp"), failures("http")), (0, 0));
    let begun = Instant::now();
    let mut wire = Wire::tcp(&address);
    for _ in 0..3 {
        assert!(wire.say("AUTH wrong").starts_with("-WRONGPASS"));
    }
    assert!(
        wire.say("HELLO 3 AUTH default wrong")
            .starts_with("-WRONGPASS")
    );
    // Each twice as long as the one before: 0.1 + 0.2 + 0.4 + 0.8 s at the least.
    assert!(
        begun.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
    // The right one is answered without waiting for another that is.
    let mut waiting = Wire::tcp(&address);
    waiting.send(&packed(&["AUTH", "wrong"]));
    assert_eq!(wire.say("AUTH right"), "+OK\r\n");
    assert_eq!(wire.say("SETBIT k 1 1"), ":0\r\n");
    assert!(waiting.reply().starts_with(b"-WRONGPASS"));
    assert_eq!(failures("resp"), 5);

    let post = |token: &str, client: &str| {
        let request = agent().post(format!("http://{}/api/v1/marks", serving.address));
        let request = request
            .header("authorization", format!("Bearer {token}"))
            .header("x-forwarded-for", client);
        request.send("[]").unwrap().status().as_u16()
    };
    for client in ["203.0.113.9", "203.0.113.9", "198.51.100.7"] {
        assert_eq!(post("a-token-of-no-account", client), 401);
    }
    assert_eq!(post(token, "203.0.113.9"), 200);
    assert_eq!(failures("http"), 3);
    let log = serving.log();
    for (client, failures) in [("127.0.0.1", 5), ("203.0.113.9", 2), ("198.51.100.7", 1)] {
        let lines = log
            .lines()
            .filter(|line| line.contains("wrong password") && line.contains(client));
        assert_eq!(lines.count(), failures, "{client}: {log}");
    }
    assert!(
        !log.contains("a-token-of") && !log.contains("right"),
        "{log}"
    );
}

/// What a path's permissions say to others than its owner.
fn mode(path: &std::path::Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
}

fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn what_a_store_writes_is_its_owners_alone() {
    let shop = Shop::new();
    shop.write("in.csv", "user,event,timestamp\nann,active,2026-11-20\n");
    shop.run(&["--ids", "map", "import", "in.csv"]).done();
    shop.run(&["mark", "active", "bob"]).done();
    shop.run(&["backup", "alone.backup"]).done();
    let store = shop.path("cohortist.db");
    assert_eq!(mode(&store), 0o700);
    let serving = Serving::start(
        &shop,
        &["serve", "--listen", "127.0.0.1:0", "--resp", "127.0.0.1:0"],
    );
    let while_open = files(&store);
    shop.run(&["backup", "beside.backup"]).done();
    drop(serving);
    shop.run(&["--store", "restored.db", "restore", "beside.backup"])
        .done();
    shop.run(&["--store", "restored.db", "mark", "active", "cat"])
        .done();
    assert_eq!(mode(&shop.path("restored.db")), 0o700);
    let backups = ["alone.backup", "beside.backup"].map(|name| shop.path(name));
    let all = [
        files(&store),
        while_open,
        files(&shop.path("restored.db")),
        backups.to_vec(),
    ]
    .concat();
    for kind in ["manifest", "segment-", "log-", "lock"] {
        assert!(
            all.iter().any(|path| path.to_str().unwrap().contains(kind)),
            "{kind}: {all:?}"
        );
    }
    for path in all.iter().filter(|path| path.exists()) {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
}

#[test]
fn an_older_store_that_others_can_read_is_named_and_left_as_it_is() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1"]).done();
    let store = shop.path("cohortist.db");
    let open_to = |mode: u32| {
        std::fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
        Serving::saying(
            &shop,
            &["serve", "--listen", "127.0.0.1:0"],
            "note: every user of this machine can access the files of ",
        )
        .1
    };
    assert_eq!(
        open_to(0o755),
        "./cohortist.db (mode 755). To prevent this: chmod -R go= ./cohortist.db"
    );
    assert_eq!(mode(&store), 0o755);
    // A group is let in on purpose.
    assert_eq!(
        (open_to(0o750), open_to(0o700)),
        (String::new(), String::new())
    );
}

/// A dashboard with a token, whose patience with clients is short, and that ends when the sender is
/// dropped.
pub(crate) fn impatient(
    dashboard: Dashboard,
    patience: Duration,
    grace: Duration,
) -> (
    SocketAddr,
    tokio::sync::oneshot::Sender<()>,
    std::thread::JoinHandle<()>,
) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let dashboard = Dashboard {
        write_token: Some("a-token-of-some-length".to_owned()),
        ..dashboard
    };
    let settings = server::Settings {
        patience,
        grace,
        ..server::Settings::new("127.0.0.1:0", dashboard)
    };
    let thread = std::thread::spawn(move || {
        let until = async move { drop(stopped.await) };
        server::run_until(settings, until, move |addresses| {
            tell.send(addresses[0]).unwrap()
        })
        .unwrap();
    });
    (
        told.recv_timeout(Duration::from_secs(30)).unwrap(),
        stop,
        thread,
    )
}

pub(crate) const MARKS: &str = "POST /api/v1/marks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token-of-some-length\r\n";
const FORM: &str = "POST /people?set=active@2026-11-23 HTTP/1.1\r\nHost: localhost\r\n";

#[test]
fn a_request_that_stops_arriving_is_answered_and_closed() {
    let patience = Duration::from_secs(3);
    let (address, stop, thread) = impatient(
        Dashboard::new(product(2, 5), Clock::Fixed(now())),
        patience,
        Duration::from_secs(1),
    );
    let marks = |rest: &str| format!("{MARKS}{rest}");
    let whole = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let parts = [
        "GET /events HT".to_owned(),
        "GET /events HTTP/1.1\r\nHost: local".to_owned(),
        marks("Content-Length: 100\r\n\r\n"),
        marks("Content-Length: 100\r\n\r\n[{\"event\":"),
        marks("Transfer-Encoding: chunked\r\n\r\n"),
        marks("Transfer-Encoding: chunked\r\n\r\na\r\n[{\"event\":\r\n"),
        format!("{FORM}Content-Length: 100\r\n\r\nname="),
        // Behind a request that was whole, on the same connection.
        format!("{whole}{MARKS}Content-Length: 100\r\n\r\n[{{"),
    ];
    let cut = parts.map(|part| std::thread::spawn(move || (raw(address, &part), part)));
    // The body of such a request is not read, so the server does not wait for it either.
    let lengths = [
        "Content-Length: 100\r\n\r\nxx",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n",
    ];
    let heads = [
        (200, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"),
        (200, "HEAD /events HTTP/1.1\r\nHost: localhost\r\n"),
        (401, "POST /api/v1/marks HTTP/1.1\r\nHost: localhost\r\n"),
        (404, "POST /nowhere HTTP/1.1\r\nHost: localhost\r\n"),
        (405, "POST /events HTTP/1.1\r\nHost: localhost\r\n"),
        (421, "GET /events HTTP/1.1\r\nHost: evil.test\r\n"),
    ];
    let unread: Vec<_> = heads
        .into_iter()
        .flat_map(|(expected, head)| lengths.map(|rest| (expected, format!("{head}{rest}"))))
        .map(|(expected, request)| {
            let answered = std::thread::spawn({
                let request = request.clone();
                move || raw(address, &request)
            });
            (expected, request, answered)
        })
        .collect();
    // Slow but steady is fine: each piece within the patience, all of them beyond it.
    let body = "[{\"event\":\"active\",\"user\":4711}]";
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{MARKS}Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    let begun = Instant::now();
    for piece in body.as_bytes().chunks(4) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(patience / 6);
    }
    assert!(begun.elapsed() > patience);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        status(&answer) == 200 && answer.ends_with("{\"recorded\":1}"),
        "{answer}"
    );
    for thread in cut {
        // It was read until the server closed: `raw` gives up long after.
        let (answer, part) = thread.join().unwrap();
        let last = answer
            .rfind("HTTP/1.1 ")
            .unwrap_or_else(|| panic!("{part}: {answer:?}"));
        assert_eq!(status(&answer[last..]), 408, "{part}: {answer}");
    }
    for (expected, request, answered) in unread {
        assert_eq!(status(&answered.join().unwrap()), expected, "{request}");
    }
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_kept_connection_is_closed_when_its_next_request_stops_arriving() {
    let patience = Duration::from_secs(3);
    let dashboard = Dashboard::new(product(2, 5), Clock::Fixed(now()));
    let (address, stop, thread) = impatient(dashboard, patience, Duration::from_secs(1));
    let whole = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let body = "[{\"event\":\"active\",\"user\":4711}]";
    let chunked = format!(
        "{MARKS}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let answered = |stream: &mut TcpStream| {
        let mut bytes = [0; 65_536];
        let read = stream.read(&mut bytes).unwrap();
        assert_eq!(status(&String::from_utf8_lossy(&bytes[..read])), 200);
    };
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        let wait = Some(Duration::from_secs(30));
        stream.set_read_timeout(wait).unwrap();
        stream
    };
    // As long as its requests arrive whole, a connection stays, also behind a body in chunks, and
    // beyond the patience.
    let mut steady = connect();
    let begun = Instant::now();
    while begun.elapsed() < patience + patience / 2 {
        for request in [whole, &chunked] {
            steady.write_all(request.as_bytes()).unwrap();
            answered(&mut steady);
        }
        std::thread::sleep(patience / 6);
    }
    let halves = ["G", "GET /healthz HTTP/1.1\r\nHost: local"].map(|half| {
        let mut stream = connect();
        std::thread::spawn(move || {
            stream.write_all(whole.as_bytes()).unwrap();
            answered(&mut stream);
            stream.write_all(half.as_bytes()).unwrap();
            // Each byte in time, and the head never whole.
            for byte in b"aaaaa" {
                std::thread::sleep(patience / 6);
                stream.write_all(&[*byte]).unwrap();
            }
            let mut rest = Vec::new();
            match stream.read_to_end(&mut rest) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("{half:?}: the connection stays open")
                }
                _ => assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest)),
            }
        })
    });
    for half in halves {
        half.join().unwrap();
    }
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_request_that_a_stopping_server_does_not_wait_for_is_told_so() {
    // A store that answers no question until the test is over.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (began, begun) = std::sync::mpsc::channel();
    let held = std::sync::Mutex::new(held);
    let bent = Bent::of(&product_store(2, 5)).before_counting(move |_| {
        began.send(()).unwrap();
        let _ = held.lock().unwrap().recv();
    });
    let dashboard = Dashboard::new(cohortist::Tracker::new(bent.shared()), Clock::Fixed(now()));
    let (address, stop, thread) =
        impatient(dashboard, Duration::from_secs(30), Duration::from_secs(1));
    let ask = |request: String| std::thread::spawn(move || raw(address, &request));
    let json =
        ask("GET /api/v1/count?set=active@2026-11-23 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            .to_owned());
    begun.recv_timeout(Duration::from_secs(30)).unwrap();
    // These have begun once their head is read: the server says `continue` to a client that asks it
    // to.
    let mut bodies = [MARKS, FORM].map(|head| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "{head}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"
        )
        .unwrap();
        stream.read_exact(&mut [0; 25]).unwrap();
        stream
    });
    drop(stop);
    let rest = bodies.each_mut().map(|stream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    for answer in [&json.join().unwrap(), &rest[0], &rest[1]] {
        assert_eq!(status(answer), 503, "{answer}");
        let lower = answer.to_lowercase();
        assert!(
            lower.contains("retry-after: ") && lower.contains("the server is stopping"),
            "{answer}"
        );
    }
    drop(hold);
    thread.join().unwrap();
}

#[test]
fn pages_and_lists_that_have_begun_are_cut_off_by_a_stopping_server_too() {
    // A store that stops answering at a question, at a later piece of a list, or at once.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let (began, begun) = std::sync::mpsc::channel();
    let wait = move || {
        began.send(()).unwrap();
        // The sender sends nothing: all wait until it is dropped.
        let _ = held.lock().unwrap().recv();
    };
    let store = product_store(20, 5);
    let tracker = cohortist::Tracker::new(Arc::clone(&store));
    let mut batch = tracker.batch();
    for user in 0..150_000 {
        batch.mark(&name("many"), user, now()).unwrap();
    }
    batch.commit().unwrap();
    let silent = Arc::new(AtomicBool::new(false));
    let [counting, listing, describing] = [(); 3].map(|()| wait.clone());
    let is_silent = Arc::clone(&silent);
    let bent = Bent::of(&store)
        .before_counting(move |plan| {
            // A few bitmaps tell where the data ends.
            if plan.roots().len() > 20 {
                counting();
            }
        })
        .members(move |users| {
            let late = |users: &Vec<cohortist::sets::UserId>| users.last() > Some(&100_000);
            if users.as_ref().is_ok_and(late) {
                listing();
            }
            users
        })
        .describing(move |info| {
            if is_silent.load(Ordering::Relaxed) {
                describing();
            }
            info
        });
    let dashboard = Dashboard::new(cohortist::Tracker::new(bent.shared()), Clock::Fixed(now()));
    let (address, stop, thread) =
        impatient(dashboard, Duration::from_secs(30), Duration::from_secs(1));
    let send = |method: &str, path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let wait = Some(Duration::from_secs(30));
        stream.set_read_timeout(wait).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        .unwrap();
        stream
    };
    let table = "/retention?cohort=signup&returning=active&rows=10";
    let mut framed = send("GET", table);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("Counting ") {
        let mut bytes = [0; 4096];
        let read = framed.read(&mut bytes).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&bytes[..read]);
    }
    let mut head = send("HEAD", table);
    let mut list = send("GET", "/people.csv?set=many@2026-11-23");
    for _ in 0..3 {
        begun.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    silent.store(true, Ordering::Relaxed);
    let mut unbegun = send("GET", table);
    begun.recv_timeout(Duration::from_secs(30)).unwrap();
    let stopped = Instant::now();
    drop(stop);
    let [framed, head, list, unbegun] =
        [&mut framed, &mut head, &mut list, &mut unbegun].map(|stream| {
            let mut rest = Vec::new();
            let read = stream.read_to_end(&mut rest);
            let rest = String::from_utf8_lossy(&rest).into_owned();
            assert!(read.is_ok(), "{read:?} after {rest:.300}");
            rest
        });
    // Long before the server ends all that is open: that is at six seconds.
    let took = stopped.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(
        framed.contains("the server is stopping") && framed.ends_with("\r\n0\r\n\r\n"),
        "{framed}"
    );
    for answer in [&head, &unbegun] {
        assert_eq!(status(answer), 503, "{answer}");
        assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
    }
    // What was sent of a file must not pass for all of it.
    assert!(
        status(&list) == 200 && list.contains("\n65535\n") && !list.ends_with("\r\n0\r\n\r\n"),
        "{} bytes",
        list.len()
    );
    drop(hold);
    thread.join().unwrap();
}

#[test]
fn sighup_reloads_the_configuration_or_says_why_not() {
    let shop = Shop::new();
    for event in ["active", "signup", "noise"] {
        shop.run(&["mark", event, "1"]).done();
    }
    let labelled = |label: &str| {
        format!(
            "title = \"{label} Ltd\"\nhidden = [\"noise\"]\n\n[labels]\nactive = \"{label}\"\n\n[segments]\nboth = \"active & signup\"\n"
        )
    };
    shop.write("cohortist.toml", labelled("Before"));
    let serving = Serving::start(&shop, &["serve", "--listen", "127.0.0.1:0"]);
    let question = "/retention?cohort=active&returning=signup&by=day&rows=2";
    let hangup = || signal(serving.id(), "-HUP");
    // Twice, so that it is a page that was kept.
    for _ in 0..2 {
        let page = serving.get(question);
        assert!(
            page.contains("Before Ltd") && page.contains("Before"),
            "{page}"
        );
    }
    let question_page = |words: &str, not: &str| {
        let page = serving.get(question);
        assert!(page.contains(words) && !page.contains(not), "{page}");
    };
    shop.write(
        "cohortist.toml",
        labelled("After")
            .replace("noise", "signup")
            .replace("both", "pair")
            + "[server]\nhosts = [\"new.example\"]\n",
    );
    hangup();
    serving.says("configuration reloaded: cohortist.toml: 1 saved segment, 1 label");
    question_page("After Ltd", "Before");
    let events = serving.get("/api/v1/events");
    assert!(
        events.contains("\"noise\"")
            && !events.contains("\"signup\"")
            && events.contains("\"pair\"")
            && !events.contains("both"),
        "{events}"
    );
    let count = |set: &str| {
        agent()
            .get(format!("http://{}/api/v1/count?set={set}", serving.address))
            .call()
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(
        (count("pair@2026-11-23"), count("(pair)@2026-11")),
        (200, 200)
    );
    let host = |name: &str| {
        status(&raw(
            serving.address.parse().unwrap(),
            &format!("GET /events HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"),
        ))
    };
    assert_eq!((host("new.example"), host("old.example")), (200, 421));

    // Everything that is wrong is named, and nothing changes.
    shop.write(
        "cohortist.toml",
        "title = 7\n[labels]\nactive = \"\"\n[segments]\nx = \"a &\"\n[nonsense]\n",
    );
    hangup();
    let log = serving.says("the old configuration remains in effect");
    for fault in [
        "line 1: `title`",
        "line 3: `labels.active`",
        "line 5: `segments.x`",
        "line 6: `nonsense`",
    ] {
        assert!(
            log.contains(&format!(
                "configuration not reloaded: cohortist.toml, {fault}"
            )),
            "{fault}: {log}"
        );
    }
    question_page("After Ltd", "Before");
    // Other stores take a restart.
    shop.write(
        "cohortist.toml",
        "title = \"Elsewhere\"\n[stores]\nother = \"./other.db\"\n",
    );
    hangup();
    serving.says("changes which stores are served");
    question_page("After Ltd", "Elsewhere");
    std::fs::remove_file(shop.path("cohortist.toml")).unwrap();
    hangup();
    serving.says("cohortist.toml does not exist any more");
    question_page("After Ltd", "Elsewhere");
    shop.write("cohortist.toml", labelled("Again"));
    hangup();
    serving.says_times("configuration reloaded", 2);
    question_page("Again Ltd", "After");
}

#[test]
fn whatever_stands_in_place_of_a_configuration_is_refused_at_once() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1"]).done();
    shop.write("cohortist.toml", "title = \"Before Ltd\"\n");
    let serving = Serving::start(&shop, &["serve", "--listen", "127.0.0.1:0"]);
    let path = shop.path("cohortist.toml");
    let refused = |serving: &Serving, told: &str| {
        let check = shop.run(&["serve", "--check"]).error(2);
        assert!(check.contains(told), "{told}: {check}");
        assert!(check.lines().count() <= 22, "{check}");
        signal(serving.id(), "-HUP");
        serving.says(told);
        assert!(serving.get("/events").contains("Before Ltd"));
    };
    let rows: String = (0..20_000)
        .map(|user| format!("{user},active,2026-11-23T10:00:00Z\n"))
        .collect();
    shop.write("cohortist.toml", rows);
    refused(
        &serving,
        "19,980 more mistakes; is this a configuration file?",
    );
    shop.write("cohortist.toml", vec![b' '; (1 << 20) + 1]);
    refused(&serving, "larger than 1 MiB");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    refused(&serving, "not a regular file");
    std::fs::remove_dir(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let before = serving.log().matches("not a regular file").count();
    refused(&serving, "not a regular file");
    serving.says_times("not a regular file", before + 1);
    // A reload does not keep the server.
    assert!(serving.stop().success());
}

#[test]
fn sighup_without_a_configuration_ends_nothing() {
    let shop = Shop::new();
    let serving = Serving::start(&shop, &["serve", "--listen", "127.0.0.1:0"]);
    for times in 1..=3 {
        signal(serving.id(), "-HUP");
        serving.says_times("there is no configuration file to reload", times);
    }
    assert!(serving.get("/healthz").contains("alive"));
}

#[test]
fn a_demo_survives_sighup_and_logs_requests_as_serve_does() {
    let shop = Shop::new();
    let args = ["demo", "--users", "20", "--days", "3"];
    let serving = Serving::start(&shop, &[&args[..], &["--listen", "127.0.0.1:0"]].concat());
    signal(serving.id(), "-HUP");
    assert!(serving.get("/events").contains("signup"));
    signal(serving.id(), "-HUP");
    let line = serving.says("route=\"/events\"");
    assert!(
        line.contains("cohortist::access") && line.contains("status=200"),
        "{line}"
    );
    assert!(serving.get("/healthz").contains("alive"));
}

#[test]
fn a_reload_expires_by_the_new_spans_at_once() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1", "--at", "2020-01-01"])
        .done();
    shop.mark_five_days();
    shop.write("cohortist.toml", "title = \"x\"\n");
    // Nothing expires under --now, so this server uses the system's clock.
    let mut command = shop.command(&["serve", "--listen", "127.0.0.1:0"]);
    let serving = Serving::of(command.env_remove("COHORTIST_NOW"));
    let counted = || {
        serving
            .get("/api/v1/count?set=active@2020-01-01&set=active@2020-01&set=active@2026-11-23")
            .matches("\"count\":1")
            .count()
    };
    assert_eq!(counted(), 3);
    shop.write("cohortist.toml", "[expire]\ndays = \"1000d\"\n");
    signal(serving.id(), "-HUP");
    serving.says("configuration reloaded: cohortist.toml: expire after days 1000d");
    while counted() == 3 {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        counted(),
        2,
        "the day of 2020 went, and its month and this year's day stay"
    );
}

#[test]
fn ids_leave_as_they_came() {
    let shop = Shop::new();
    let ids = [
        "+491701234567",
        "+49 (170) 123-45",
        "@ann",
        "-7",
        "=1+1",
        "-2+3",
        "@SUM(1)",
        "+1+cmd|' /C calc'!A0",
        "x;=1+1",
        "plain",
    ];
    let marks: String = ids
        .iter()
        .map(|id| format!("{id},a,2021-01-04\n"))
        .collect();
    shop.write("in.csv", format!("user,event,timestamp\n{marks}"));
    shop.run(&["--ids", "map", "import", "in.csv"]).done();
    let listed = shop.run(&["people", "a@2021-01-04"]).done();
    assert_eq!(listed.lines().collect::<Vec<_>>(), ids);
    let serving = Serving::start(&shop, &["serve", "--listen", "127.0.0.1:0"]);
    let json: serde_json::Value =
        serde_json::from_str(&serving.get("/api/v1/people?set=a@2021-01-04")).unwrap();
    assert_eq!(json["users"], serde_json::json!(ids));
    let csv = serving.get("/people.csv?set=a@2021-01-04");
    let guarded = "user_id\n+491701234567\n+49 (170) 123-45\n@ann\n-7\n'=1+1\n'-2+3\n'@SUM(1)\n'+1+cmd|' /C calc'!A0\n\"x;=1+1\"\nplain\n";
    assert_eq!(csv, guarded);
}
