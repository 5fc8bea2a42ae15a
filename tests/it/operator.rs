//! What an operator sees: metrics, logs, request ids, readiness, and the mistakes of a start.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::http::{agent, read};
use crate::support::bent::Bent;
use crate::support::program::Shop;
use crate::support::redis::signal;
use crate::support::web::{empty, product, product_store, serve};
use crate::support::wire::{Wire, packed};

/// A server, its addresses, and the lines that it writes.
struct Watched {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    http: String,
    resp: String,
}

impl Watched {
    fn start(shop: &Shop, args: &[&str]) -> Self {
        Self::run(&mut shop.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat()))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Self::follow(child.stderr.take().unwrap());
        let mut watched = Watched {
            child,
            lines,
            seen: Vec::new(),
            http: String::new(),
            resp: String::new(),
        };
        let address = |line: &str, scheme: &str| {
            let behind = line.split(scheme).nth(1).unwrap();
            behind
                .chars()
                .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
                .collect::<String>()
        };
        let line = watched.until(|line| line.contains("is listening on http://"));
        watched.http = format!("http://{}", address(&line, "http://"));
        if let Some(line) = watched
            .seen
            .iter()
            .find(|line| line.contains("served at redis://"))
        {
            watched.resp = address(line, "redis://");
        }
        watched
    }

    /// Its stderr is read to the end, so that it never waits for a reader.
    fn follow(stderr: ChildStderr) -> Receiver<String> {
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| tell.send(line))
        });
        lines
    }

    /// The next line that fits.
    fn until(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if fits(&line) {
                        return line;
                    }
                }
                Err(error) => panic!("{error}: it said {:#?}", self.seen),
            }
        }
    }

    fn read(&self, path: &str) -> crate::http::Got {
        read(&format!("{}{path}", self.http))
    }

    fn metrics(&self) -> Metrics {
        Metrics::parse(&self.read("/metrics").body)
    }

    /// Ends it, and answers everything it wrote.
    fn end(mut self) -> Vec<String> {
        signal(self.child.id(), "-TERM");
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(60)) {
            self.seen.push(line);
        }
        assert!(self.child.wait().unwrap().success(), "{:#?}", self.seen);
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page of Prometheus' text format, read as strictly as its rules are.
#[derive(Debug)]
struct Metrics {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut kinds: BTreeMap<String, String> = BTreeMap::new();
        let mut samples = BTreeMap::new();
        let mut helped = String::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(help.ends_with('.') && help.len() > 8, "{line}");
                helped = name.to_owned();
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, helped, "help comes first");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert_eq!(
                    kinds.insert(name.to_owned(), kind.to_owned()),
                    None,
                    "{name} twice"
                );
                current = name.to_owned();
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            let name = series.split('{').next().unwrap();
            let suffix = name
                .strip_prefix(&*current)
                .unwrap_or_else(|| panic!("{line} is not of {current}"));
            match &*kinds[&current] {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(name.chars().all(allowed), "{line}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert_eq!(
                samples.insert(series.to_owned(), value),
                None,
                "{series} twice"
            );
        }
        let metrics = Metrics { kinds, samples };
        metrics.check_histograms();
        metrics
    }

    /// Buckets grow, end with all, and reach from a millisecond to a minute.
    fn check_histograms(&self) {
        for name in self
            .kinds
            .iter()
            .filter(|(_, kind)| *kind == "histogram")
            .map(|(name, _)| name)
        {
            let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
            for (text, count) in self
                .samples
                .iter()
                .filter(|(text, _)| text.starts_with(&format!("{name}_bucket{{")))
            {
                let (labels, bound) = text.trim_end_matches("\"}").rsplit_once("le=\"").unwrap();
                let bound = if bound == "+Inf" {
                    f64::INFINITY
                } else {
                    bound.parse().unwrap()
                };
                series
                    .entry(labels.to_owned())
                    .or_default()
                    .push((bound, *count));
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(
                    buckets.is_sorted_by(|a, b| a.1 <= b.1),
                    "{labels}: {buckets:?}"
                );
                let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
                assert!(
                    bounds.contains(&0.001)
                        && bounds.contains(&60.0)
                        && bounds.contains(&f64::INFINITY)
                );
                let labels = labels.replace("_bucket", "_count");
                let total = labels.trim_end_matches([',', '{']);
                let total = if total.contains('{') {
                    format!("{total}}}")
                } else {
                    total.to_owned()
                };
                assert_eq!(self.samples[&total], buckets.last().unwrap().1, "{total}");
            }
        }
    }

    fn get(&self, series: &str) -> f64 {
        *self
            .samples
            .get(series)
            .unwrap_or_else(|| panic!("{series} in {:#?}", self.samples))
    }
}

/// The metrics in the table of the documentation, with their kinds.
fn documented() -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = page
        .split("| metric | type |")
        .nth(1)
        .expect("the page has a table of metrics");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = columns[1].trim_matches('`').split('{').next().unwrap();
        (name.to_owned(), columns[2].to_owned())
    })
    .collect()
}

#[test]
fn every_metric_is_documented_and_well_formed() {
    let shop = Shop::new();
    let server = Watched::start(&shop, &["--resp", "127.0.0.1:0"]);
    assert_eq!(Wire::tcp(&server.resp).say("PING"), "+PONG\r\n");
    server.read("/retention?cohort=a&returning=b");
    server.read("/in/nowhere/else");
    server.read("/events/none");
    let got = server.read("/metrics");
    assert_eq!(got.header("content-type"), "text/plain; version=0.0.4");
    let metrics = Metrics::parse(&got.body);
    assert_eq!(metrics.kinds, documented());
    let answered = |route: &str, status: u16| {
        metrics.get(&format!(
            "cohortist_http_requests_total{{method=\"GET\",route=\"{route}\",status=\"{status}\"}}"
        ))
    };
    assert_eq!(
        (
            answered("/retention", 200),
            answered("none", 404),
            answered("/events/{name:.*}", 404)
        ),
        (1.0, 1.0, 1.0)
    );
    assert_eq!(
        metrics.get("cohortist_http_request_seconds_count{route=\"/retention\"}"),
        1.0
    );
}

#[test]
fn commands_of_redis_clients_are_counted_and_timed() {
    let shop = Shop::new();
    let server = Watched::start(&shop, &["--resp", "127.0.0.1:0"]);
    let mut client = Wire::tcp(&server.resp);
    let other = Wire::tcp(&server.resp);
    let pipeline: Vec<u8> = (0..1000)
        .flat_map(|user| packed(&["SETBIT", "trackist_a_2026-11-23", &user.to_string(), "1"]))
        .collect();
    client.send(&pipeline);
    (0..1000).for_each(|_| assert_eq!(client.reply(), b":0\r\n"));
    assert_eq!(client.say("BITCOUNT trackist_a_2026-11-23"), ":1000\r\n");
    let metrics = server.metrics();
    assert_eq!(metrics.get("cohortist_resp_commands_total"), 1001.0);
    assert_eq!(metrics.get("cohortist_resp_command_seconds_count"), 1001.0);
    assert!(metrics.get("cohortist_resp_command_seconds_sum") > 0.0);
    // The second may still be on its way to its thread.
    let mut clients = metrics.get("cohortist_resp_clients");
    while clients != 2.0 {
        clients = server.metrics().get("cohortist_resp_clients");
    }
    drop((client, other));
    while clients != 0.0 {
        clients = server.metrics().get("cohortist_resp_clients");
    }
}

#[test]
fn the_process_is_what_the_system_says_it_is() {
    let shop = Shop::new();
    let server = Watched::start(&shop, &[]);
    let before = server.metrics();
    let held: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(&server.http["http://".len()..]).unwrap())
        .collect();
    let mut now = server.metrics();
    while now.get("process_open_fds") < before.get("process_open_fds") + 20.0 {
        now = server.metrics();
    }
    drop(held);
    assert!(now.get("process_cpu_seconds_total") >= before.get("process_cpu_seconds_total"));
    assert!(now.get("process_resident_memory_bytes") > 1e6);
    assert!(now.get("process_virtual_memory_bytes") > now.get("process_resident_memory_bytes"));
    assert!(now.get("process_max_fds") >= now.get("process_open_fds"));
    let started = now.get("process_start_time_seconds");
    let since = cohortist::clock::Clock::System.now().timestamp() as f64 - started;
    assert!((-2.0..600.0).contains(&since), "started {since} s ago");
}

#[test]
fn a_request_has_an_id_that_comes_back() {
    let host = format!("http://{}", serve(product(5, 10)));
    let ask = |id: &str| {
        let answer = agent()
            .get(format!("{host}/healthz"))
            .header("x-request-id", id)
            .call()
            .unwrap();
        answer.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(ask("01J-abc_9.x:/+="), "01J-abc_9.x:/+=");
    let long = "x".repeat(129);
    for odd in ["a b", "<script>", "a\"b", "{}", &*long] {
        let id = ask(odd);
        assert!(
            id != odd && id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{odd}: {id}"
        );
    }
    let ids: BTreeSet<String> = [
        "/",
        "/retention",
        "/nowhere",
        "/people.csv",
        "/users/x.json",
        "/metrics",
    ]
    .map(|path| {
        read(&format!("{host}{path}"))
            .header("x-request-id")
            .to_owned()
    })
    .into();
    assert!(
        ids.len() == 6 && ids.iter().all(|id| id.len() == 32),
        "{ids:?}"
    );
}

/// The access log's lines of one route.
fn lines_of<'a>(log: &'a [String], route: &str) -> Vec<&'a String> {
    let route = format!(" route=\"{route}\" ");
    log.iter()
        .filter(|line| line.contains("cohortist::access: ") && line.contains(&route))
        .collect()
}

#[test]
fn the_access_log_has_a_line_for_each_request_and_names_nobody() {
    // Long enough that no random request id contains it.
    const USER: &str = "3947115028";
    let shop = Shop::new();
    shop.run(&["mark", "active", USER, "8152"]).done();
    let server = Watched::start(&shop, &[]);
    let id = server
        .read("/retention?cohort=active&returning=active")
        .header("x-request-id")
        .to_owned();
    let sent = server.read(&format!("/users/{USER}")).body.len();
    server.read(&format!("/users?id={USER}"));
    server.read(&format!("/people?set=active@2026-11-23&after={USER}"));
    assert_eq!(
        agent()
            .post(format!("{}/retention", server.http))
            .send("x")
            .unwrap()
            .status(),
        405
    );
    assert_eq!(
        agent()
            .head(format!("{}/events", server.http))
            .call()
            .unwrap()
            .status(),
        200
    );
    server.read(&format!("/{USER}"));
    let log = server.end();
    assert!(!log.iter().any(|line| line.contains(USER)), "{log:#?}");
    let [line] = lines_of(&log, "/retention")[..1] else {
        panic!("{log:#?}")
    };
    for part in [
        "INFO",
        " answered ",
        "method=\"GET\"",
        "status=200",
        "duration_ms=",
        "bytes=",
        "client=127.0.0.1",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(line.contains(&format!("request_id={id}")), "{line}");
    assert!(
        lines_of(&log, "/retention")[1].contains("method=\"POST\" "),
        "{log:#?}"
    );
    let user = lines_of(&log, "/users/{id}")[0];
    let bytes: usize = user
        .split(" bytes=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        0 < bytes && bytes <= sent,
        "{bytes} were sent of {sent}, some of them compressed"
    );
    assert!(
        lines_of(&log, "/events")[0].contains("method=\"HEAD\" ")
            && lines_of(&log, "/events")[0].contains(" bytes=0 ")
    );
    assert!(lines_of(&log, "none")[0].contains("status=404"));
    assert_eq!(
        log.iter()
            .filter(|line| line.contains("cohortist::access: "))
            .count(),
        7,
        "{log:#?}"
    );
}

#[test]
fn the_access_log_can_be_turned_off_alone() {
    let shop = Shop::new();
    let mut command = shop.command(&["serve", "--listen", "127.0.0.1:0", "--slow-ms", "0"]);
    let server = Watched::run(command.env("COHORTIST_LOG", "info,cohortist::access=off"));
    assert_eq!(server.read("/healthz").status, 200);
    let log = server.end();
    assert!(
        !log.iter().any(|line| line.contains("cohortist::")),
        "{log:#?}"
    );
}

#[test]
fn as_json_every_line_is_an_object() {
    let shop = Shop::new();
    shop.write("cohortist.toml", "[expire]\ndays = \"400d\"\n");
    let mut command = shop.command(&[
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--slow-ms",
        "1",
        "--log-format",
        "json",
    ]);
    let mut server = Watched::run(command.env_remove("COHORTIST_NOW"));
    server.until(|line| line.contains("nothing has expired"));
    let address = "/retention?cohort=a&returning=b&rows=100&cols=100";
    let mut answer = agent()
        .get(format!("{}{address}", server.http))
        .header("x-request-id", "mine")
        .call()
        .unwrap();
    assert_eq!(answer.status(), 200);
    // To its end: who leaves before gets fewer bytes.
    answer.body_mut().read_to_vec().unwrap();
    let log: Vec<Value> = server
        .end()
        .iter()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    for line in &log {
        let known = ["error", "warn", "info"].contains(&line["level"].as_str().unwrap());
        assert!(
            known
                && line["time"].is_string()
                && line["target"].is_string()
                && line["message"].is_string(),
            "{line}"
        );
    }
    let of = |target: &str| -> Vec<&Value> {
        log.iter().filter(|line| line["target"] == target).collect()
    };
    let [access] = of("cohortist::access")[..] else {
        panic!("{log:#?}")
    };
    let expected = [
        ("method", "GET"),
        ("route", "/retention"),
        ("client", "127.0.0.1"),
        ("request_id", "mine"),
    ];
    for (field, value) in expected {
        assert_eq!(access[field], value, "{access}");
    }
    assert_eq!(access["status"], 200);
    assert!(
        access["duration_ms"].is_f64() && access["bytes"].as_u64().unwrap() > 1000,
        "{access}"
    );
    let [slow] = of("cohortist::slow")[..] else {
        panic!("{log:#?}")
    };
    assert_eq!(
        (&slow["level"], &slow["address"]),
        (&"warn".into(), &address.into())
    );
    assert_eq!(slow["request_id"], "mine");
    assert!(of("cohortist").len() >= 2, "{log:#?}");
    // What other commands say is written so too, and their mistakes.
    let ran = shop.run(&["--log-format", "json", "mark", "active", "1"]);
    let said: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((ran.code, &said["level"]), (0, &"info".into()));
    let ran = shop.run(&["--log-format", "json", "count", "active @"]);
    let said: Value = serde_json::from_str(ran.err.trim()).unwrap();
    assert_eq!((ran.code, &said["level"]), (2, &"error".into()));
}

#[test]
fn an_answer_that_is_cut_off_is_logged_as_such() {
    let shop = Shop::new();
    let mut server = Watched::start(&shop, &["--resp", "127.0.0.1:0"]);
    let everybody: &[&[u8]] = &[b"SET", b"trackist_a_2026-11-23", &[0xff; 1 << 17]];
    assert_eq!(Wire::tcp(&server.resp).ask(everybody), b"+OK\r\n");
    let mut client = TcpStream::connect(&server.http["http://".len()..]).unwrap();
    client
        .write_all(b"GET /people.csv?set=a@2026-11-23 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    std::io::Read::read_exact(&mut client, &mut [0; 1000]).unwrap();
    drop(client);
    let line = server.until(|line| line.contains("cohortist::access: "));
    assert!(
        line.contains(" cut off ")
            && line.contains("status=200 ")
            && line.contains("\"/people.csv\""),
        "{line}"
    );
    let bytes: usize = line
        .split(" bytes=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    // A million ids of up to seven digits, a line each.
    assert!((1000..6_000_000).contains(&bytes), "{bytes}");
}

#[test]
fn an_answer_that_never_began_is_counted_too() {
    use actix_web::{App, dev::Service, rt, test};
    use futures_util::FutureExt;
    // Under an address of its own, as all tests of this process count together.
    let mut dashboard = cohortist::server::Dashboard::new(empty(), cohortist::clock::Clock::System);
    let tracker = product(5, 10);
    dashboard.stores.push(cohortist::server::NamedStore {
        name: "cut-off".to_owned(),
        tracker,
        read_only: false,
    });
    rt::System::new().block_on(async {
        let app = App::new().configure(cohortist::server::app_config(&dashboard.into()));
        let app = test::init_service(app).await;
        let request = test::TestRequest::get()
            .uri("/in/cut-off/api/v1/count?set=active@2026-11-23")
            .insert_header(("host", "localhost"))
            .to_request();
        // The work is on another thread when whoever waits for it goes away.
        assert!(app.call(request).now_or_never().is_none());
        let metrics = app
            .call(test::TestRequest::get().uri("/metrics").insert_header(("host", "localhost")).to_request())
            .await
            .unwrap();
        let text = test::read_body(metrics).await;
        let metrics = Metrics::parse(std::str::from_utf8(&text).unwrap());
        let series = "cohortist_http_requests_total{method=\"GET\",route=\"/in/cut-off/api/v1/count\",status=\"499\"}";
        assert_eq!(metrics.get(series), 1.0);
    });
}

#[test]
fn slow_is_what_takes_longer_than_the_setting() {
    let shop = Shop::new();
    let server = Watched::start(&shop, &["--slow-ms", "60000"]);
    server.read("/retention?cohort=a&returning=b");
    let log = server.end();
    assert!(
        !log.iter().any(|line| line.contains("cohortist::slow")),
        "{log:#?}"
    );
}

#[test]
fn a_fault_that_repeats_is_logged_once_with_its_number() {
    let shop = Shop::new();
    // A Redis that is away: each page is an error of its own.
    let gone = format!("redis://127.0.0.1:{}", crate::support::stores::free_port());
    let server = Watched::start(&shop, &["--store", &gone]);
    for _ in 0..30 {
        assert_eq!(server.read("/events").status, 503);
    }
    let log = server.end();
    let faults: Vec<&String> = log.iter().filter(|line| line.contains("ERROR")).collect();
    // At most once in ten seconds, and every one of them is told of.
    let repeats = |line: &&String| -> u64 {
        let words = line
            .split("repeated ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        words.map_or(1, |number| number.parse().unwrap())
    };
    assert_eq!(faults.iter().map(repeats).sum::<u64>(), 30, "{faults:#?}");
    assert!(
        faults.len() < 10 && faults[0].contains("does not answer"),
        "{faults:#?}"
    );
    assert!(
        faults[0].contains("route=\"/events\" ") && faults[0].contains("request_id="),
        "{faults:#?}"
    );
}

#[test]
fn a_taken_port_is_found_before_a_store_is_made() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    for command in ["demo", "serve"] {
        let shop = Shop::new();
        let error = shop.run(&[command, "--listen", &listen]).error(1);
        assert!(
            error.contains(&listen) && error.contains("--listen"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
        for store in ["cohortist.db", "cohortist-demo.db"] {
            assert!(!shop.path(store).exists(), "{command} made {store}");
        }
    }
}

#[test]
fn an_unnamed_store_is_called_by_its_place() {
    let shop = Shop::new();
    shop.write("file.db", "not a store");
    let error = shop
        .run(&["--store", "./file.db", "serve", "--listen", "127.0.0.1:0"])
        .error(1);
    assert!(
        error.starts_with("error: ./file.db is not a cohortist store"),
        "{error}"
    );
    shop.write("cohortist.toml", "[stores]\nshop = \"./file.db\"\n");
    let error = shop.run(&["serve", "--listen", "127.0.0.1:0"]).error(1);
    assert!(
        error.contains("\nerror: store shop: ./file.db is not a cohortist store"),
        "{error}"
    );
}

#[test]
fn nothing_is_deleted_by_environment_variables() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1"]).done();
    let destroy =
        ["COHORTIST_ALL", "COHORTIST_YES", "COHORTIST_OVERWRITE"].map(|name| (name, "true"));
    let spans = [
        ("COHORTIST_DAYS", "1h"),
        ("COHORTIST_HOURS", "1h"),
        ("COHORTIST_MONTHS", "1h"),
    ];
    for (args, code) in [
        (&["delete"][..], 2),
        (&["delete", "--all"], 2),
        (&["expire", "--now", "2030-01-01"], 2),
        (&["expire", "--now", "2030-01-01", "--days", "1d"], 0),
    ] {
        let ran: crate::support::program::Ran = shop
            .command(args)
            .envs(destroy)
            .envs(spans)
            .output()
            .unwrap()
            .into();
        assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
        assert_eq!(
            shop.run(&["count", "active@2026-11-23"]).quietly(),
            "1\n",
            "{args:?}"
        );
    }
    // What to delete is not narrowed by one either.
    let ran = shop
        .command(&["delete", "active"])
        .env("COHORTIST_PERIOD", "2026-11-23")
        .output()
        .unwrap();
    assert!(ran.status.success());
    assert_eq!(shop.run(&["events"]).done(), "");
}

#[test]
fn restoring_is_described_as_such() {
    let shop = Shop::new();
    let [backup, restore] =
        ["backup", "restore"].map(|command| shop.run(&[command, "--help"]).quietly());
    let file = |help: &str| {
        help.lines()
            .skip_while(|line| !line.contains("<FILE>  "))
            .take(1)
            .collect::<String>()
    };
    assert!(
        file(&backup).contains("write") && file(&restore).contains("read"),
        "{backup}{restore}"
    );
    let [mark, unmark] = ["mark", "unmark"].map(|command| shop.run(&[command, "--help"]).quietly());
    assert!(
        mark.contains("Also mark the bitmap of the hour")
            && unmark.contains("Also clear the bitmap of the hour")
    );
}

/// Runs this test again in a process of its own whose mount namespace has a small disk, and there
/// `check`.
#[test]
fn a_full_disk_shows_and_ends_without_a_restart() {
    crate::full_disk::on_a_disk_of(8_000, |disk| {
        let shop = Shop::new();
        let store = disk.join("store").display().to_string();
        let token = "0123456789abcdef";
        let server = Watched::start(
            &shop,
            &[
                "--store",
                &store,
                "--resp",
                "127.0.0.1:0",
                "--write-token",
                token,
                "--allow-flush",
            ],
        );
        let ready = || {
            let got = server.read("/readyz");
            (
                got.status,
                serde_json::from_str::<Value>(&got.body).unwrap(),
            )
        };
        let series = |name: &str| server.metrics().get(&format!("{name}{{store=\"store\"}}"));
        assert_eq!(
            (
                ready().0,
                series("cohortist_store_writable"),
                series("cohortist_write_errors_total")
            ),
            (200, 1.0, 0.0)
        );
        let mut client = Wire::tcp(&server.resp);
        // One frame of the log each, far longer than what is left of its last block.
        let transaction = |day: u32| -> Vec<u8> {
            let key = format!("trackist_a_2026-11-{day}");
            let marks = (0..20_000_u32)
                .flat_map(|user| packed(&["SETBIT", &key, &(user * 97).to_string(), "1"]));
            packed(&["MULTI"])
                .into_iter()
                .chain(marks)
                .chain(packed(&["EXEC"]))
                .collect()
        };
        let filler = crate::full_disk::Filler::all_but(disk, 0);
        for day in 1..=5 {
            client.send(&transaction(day));
            (0..20_001).for_each(|_| assert_eq!(client.reply()[0], b'+'));
            let reply = client.reply();
            assert!(
                reply.starts_with(b"-MISCONF "),
                "{}",
                String::from_utf8_lossy(&reply)
            );
        }
        let (status, said) = ready();
        assert!(
            status == 503
                && said["error"]
                    .as_str()
                    .unwrap()
                    .contains("cannot be written"),
            "{said}"
        );
        assert!(!said.to_string().contains("batch"), "{said}");
        assert_eq!(series("cohortist_store_writable"), 0.0);
        assert_eq!(series("cohortist_write_errors_total"), 5.0);
        // What is read goes on, and other writes fail in the same words.
        assert_eq!(server.read("/retention?cohort=a&returning=a").status, 200);
        let marks = agent()
            .post(format!("{}/api/v1/marks", server.http))
            .header("authorization", format!("Bearer {token}"));
        // Long enough not to fit into what is left of the last block.
        let entries: Vec<String> = (0..20_000)
            .map(|n| format!("{{\"event\":\"b\",\"user\":{}}}", n * 89))
            .collect();
        let mut answer = marks.send(format!("[{}]", entries.join(","))).unwrap();
        assert_eq!(
            (
                answer.status().as_u16(),
                answer.headers()["retry-after"].to_str().unwrap()
            ),
            (503, "2")
        );
        let said: Value =
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        assert!(
            said["error"]["message"]
                .as_str()
                .unwrap()
                .contains("Nothing of this batch was recorded"),
            "{said}"
        );
        drop(filler);
        while ready().0 != 200 {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(series("cohortist_store_writable"), 1.0);
        assert_eq!(client.say("SETBIT trackist_a_2026-11-9 1 1"), ":0\r\n");
        // Nothing was written by a checkpoint yet.
        assert!(series("cohortist_store_bytes") > 0.0 && series("cohortist_log_bytes") > 0.0);
        let log = server.end();
        let faults = log.iter().filter(|line| line.contains("ERROR")).count();
        assert!((2..30).contains(&faults), "{log:#?}");
        assert!(
            log.iter()
                .any(|line| line.contains("the store can be written again")),
            "{log:#?}"
        );
    });
}

#[test]
fn a_server_that_only_reads_stays_ready_on_a_full_disk() {
    use cohortist::store::{StoreError, StoreInfo};
    let refused = || {
        Bent::of(&product_store(5, 10)).elsewhere().describing(
            |info: Result<StoreInfo, StoreError>| {
                info.map(|info| StoreInfo {
                    refusal: Some("No space left on device".to_owned()),
                    ..info
                })
            },
        )
    };
    let dashboard = |read_only: bool, token: Option<&str>| {
        let tracker = cohortist::Tracker::new(refused().shared());
        let mut dashboard =
            cohortist::server::Dashboard::new(tracker, cohortist::clock::Clock::System);
        dashboard.stores[0].read_only = read_only;
        dashboard.write_token = token.map(str::to_owned);
        read(&format!(
            "http://{}/readyz",
            crate::support::web::serve_dashboard(dashboard)
        ))
    };
    let token = Some("0123456789abcdef");
    // A store behind another server, which is not read-only: it takes marks or only saves segments.
    for (read_only, token, status) in [
        (true, None, 200),
        (true, token, 200),
        (false, None, 200),
        (false, token, 503),
    ] {
        let got = dashboard(read_only, token);
        assert_eq!(got.status, status, "{read_only} {token:?}: {}", got.body);
        assert!(got.body.contains("No space left on device"), "{}", got.body);
    }
}

/// Whoever starts a server and reads no more of what it says than its address must not stop it.
#[test]
fn a_log_that_nobody_reads_holds_up_no_request() {
    let shop = Shop::new();
    let mut command = shop.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut address = String::new();
    while !address.contains("is listening on http://") {
        address.clear();
        assert!(stderr.read_line(&mut address).unwrap() > 0);
    }
    let url = format!(
        "http://{}/healthz",
        address.trim().rsplit("http://").next().unwrap()
    );
    // Each line is longer than its id: many times what a pipe and all queues hold.
    let (agent, id) = (agent(), "x".repeat(128));
    for _ in 0..12_000 {
        let answer = agent.get(&url).header("x-request-id", &id).call().unwrap();
        assert_eq!(answer.into_body().read_to_string().unwrap().len(), 36);
    }
    // It ends none the less, and whoever reads again is told what is missing.
    signal(child.id(), "-TERM");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    let dropped = |line: &str| line.contains("lines of the log were dropped");
    let lines = rest
        .lines()
        .filter(|line| line.contains("cohortist::access: "))
        .count();
    assert!(
        rest.lines().any(dropped) && (100..12_000).contains(&lines),
        "{lines}"
    );
}
