//! Many questions at once: who is answered when, who is refused, and what all of it may take.
//! Questions are held where they are counted, so that nothing here depends on how quick the machine
//! is.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::resp::{Listener, Settings};
use cohortist::server::{Admission, Dashboard, Live, Load, PageCache};
use cohortist::sets::{Node, Plan};
use cohortist::store::budget::Budget;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{CacheOptions, CachedStore, Options};

use crate::strangers::impatient;
use crate::support::bent::Bent;
use crate::support::program::{Serving, Shop};
use crate::support::web::{now, product, product_store, serve, serve_dashboard};
use crate::support::wire::{Wire, packed};

/// After so long something is taken to never happen.
const NEVER: Duration = Duration::from_secs(120);

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + NEVER;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Holds questions where they are counted, and remembers in which order they came: by how many
/// counts they want.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, Vec<usize>)>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self, plan: &Plan) {
        let mut state = self.state.lock().unwrap();
        state.1.push(plan.roots().len());
        drop(
            self.opened
                .wait_timeout_while(state, NEVER, |(open, _)| !*open)
                .unwrap(),
        );
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.opened.notify_all();
    }

    fn came(&self) -> Vec<usize> {
        self.state.lock().unwrap().1.clone()
    }
}

/// Whether a plan asks about an event. The few bitmaps that tell where the data ends are several
/// single ones, and no question.
fn names(plan: &Plan, event: &str) -> bool {
    let tells_the_end =
        plan.roots().len() > 1 && plan.nodes().iter().all(|node| matches!(node, Node::Key(_)));
    !tells_the_end
        && plan
            .nodes()
            .iter()
            .any(|node| matches!(node, Node::Key(key) if key.event().as_str() == event))
}

/// A dashboard whose questions about `web` are so much work, and are held; and one of the same
/// numbers that holds nothing.
struct Held {
    gate: Arc<Gate>,
    admission: Admission,
    address: SocketAddr,
    free: SocketAddr,
}

impl Held {
    fn new(at_once: usize, work: u64) -> Self {
        let product = product_store(30, 40);
        let gate = Arc::<Gate>::default();
        let store =
            Bent::of(&product).costing(move |plan| if names(plan, "web") { work } else { 0 });
        let held = Arc::clone(&gate);
        let store = store.before_counting(move |plan| {
            if names(&plan, "web") {
                held.pass(&plan);
            }
        });
        let admission = Admission::new(at_once);
        let dashboard = Dashboard::new(Tracker::new(store.shared()), Clock::Fixed(now()));
        let address = serve_dashboard(Dashboard {
            admission: admission.clone(),
            ..dashboard
        });
        Held {
            gate,
            admission,
            address,
            free: serve(Tracker::new(product)),
        }
    }

    fn load(&self) -> Load {
        self.admission.load()
    }

    /// Asks the held question of so many rows, without waiting for the answer.
    fn ask(&self, rows: usize) -> PageQuery {
        PageQuery::new(
            self.address,
            &format!("/retention.json?cohort=web&returning=active&cols=3&rows={rows}"),
        )
    }
}

/// A request on its way.
struct PageQuery {
    path: String,
    stream: TcpStream,
    answer: Vec<u8>,
}

impl PageQuery {
    fn new(address: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(NEVER)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        PageQuery {
            path: path.to_owned(),
            stream,
            answer: Vec::new(),
        }
    }

    /// Whether the answer is there.
    fn is_answered(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let mut chunk = [0; 4096];
        let done = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(read) => self.answer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) => panic!("{error}"),
            }
        };
        self.stream.set_nonblocking(false).unwrap();
        done
    }

    /// The whole answer, its head among it.
    fn answer(mut self) -> String {
        self.stream.read_to_end(&mut self.answer).unwrap();
        String::from_utf8(self.answer).unwrap()
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    PageQuery::new(address, path).answer()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

const HEAVY: u64 = 1_000_001;
const ORDINARY: u64 = 10_001;

#[test]
fn cheap_requests_pass_by_expensive_ones() {
    let held = Held::new(2, HEAVY);
    // Two are counted, 32 wait, and five are too many.
    let mut asked: Vec<PageQuery> = (1..=39).map(|rows| held.ask(rows)).collect();
    until("too many are refused at once", || {
        asked
            .iter_mut()
            .filter_map(|a| a.is_answered().then_some(()))
            .count()
            == 5
    });
    // A turn is taken a moment before the gate is reached.
    until("the others wait", || {
        (
            held.load().running,
            held.load().waiting,
            held.gate.came().len(),
        ) == (2, 32, 2)
    });
    assert_eq!(held.load().refused, 5);
    let (refused, waiting): (Vec<PageQuery>, Vec<PageQuery>) = asked
        .into_iter()
        .partition(|asked| !asked.answer.is_empty());
    for refused in refused {
        let rows = refused.path.rsplit_once('=').unwrap().1.to_owned();
        let answer = refused.answer();
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "),
            "{answer}"
        );
        let said: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
        let said = said["error"]["message"].as_str().unwrap();
        assert!(
            said.contains(&format!("{rows} cohorts × 3 columns over "))
                && said.contains("coarser grain"),
            "{said}"
        );
    }
    // None of these waits for what is held.
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/count?set=signup@2026-11-20",
        "/api/v1/count?set=signup@2026-11-20+%26+active@2026-11-21",
        "/api/v1/people?set=signup@2026-11-20",
        "/retention?cohort=signup&returning=active",
        "/retention.csv?cohort=signup&returning=active",
        "/people?set=signup@2026-11-20",
        "/users/1",
    ] {
        let answer = get(held.address, path);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    assert_eq!(held.gate.came().len(), 2);
    held.gate.open();
    assert_eq!(waiting.len(), 34);
    for asked in waiting {
        let path = asked.path.clone();
        let answer = asked.answer();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert_eq!(body(&answer), body(&get(held.free, &path)), "{path}");
    }
    // And given back a moment after the answer.
    until("all turns are given back", || {
        (held.load().running, held.load().waiting) == (0, 0)
    });
}

#[test]
fn the_page_of_a_refused_question_is_a_503_and_no_frame() {
    let held = Held::new(1, HEAVY);
    let waiting: Vec<PageQuery> = (1..=17).map(|rows| held.ask(rows)).collect();
    until("the queue is full", || held.load().waiting == 16);
    let page = get(
        held.address,
        "/retention?cohort=web&returning=active&rows=20&cols=3",
    );
    assert!(
        page.starts_with("HTTP/1.1 503 ") && page.contains("20 cohorts × 3 columns"),
        "{page}"
    );
    for path in [
        "/people.csv?set=web@2026-11-20",
        "/people?set=web@2026-11-20",
    ] {
        // Whose people it would list is found without counting, but for the number on the page.
        let status = if path.contains(".csv") { "200" } else { "503" };
        let answer = get(held.address, path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
    }
    held.gate.open();
    waiting
        .into_iter()
        .for_each(|asked| assert!(asked.answer().starts_with("HTTP/1.1 200 ")));
}

/// The expensive lane and the ordinary one.
#[rstest::rstest]
#[case(HEAVY)]
#[case(ORDINARY)]
fn questions_are_answered_in_the_order_they_came(#[case] work: u64) {
    let held = Held::new(1, work);
    let mut asked = vec![held.ask(1)];
    until("the first one is counted", || held.gate.came().len() == 1);
    let order = [9, 4, 7, 2, 8, 3];
    for (waiting, rows) in order.into_iter().enumerate() {
        asked.push(held.ask(rows));
        until("it waits", || held.load().waiting == waiting + 1);
    }
    held.gate.open();
    asked
        .into_iter()
        .for_each(|asked| assert!(asked.answer().starts_with("HTTP/1.1 200 ")));
    let came = held.gate.came();
    // More rows are more counts.
    let mut sorted: Vec<usize> = came[1..].to_vec();
    sorted.sort_unstable();
    let rank = |counts: &usize| sorted.iter().position(|other| other == counts).unwrap();
    assert_eq!(
        came[1..].iter().map(rank).collect::<Vec<_>>(),
        [5, 2, 3, 0, 4, 1]
    );
}

#[test]
fn who_has_gone_leaves_the_queue() {
    let held = Held::new(1, HEAVY);
    let first = held.ask(1);
    until("the first one is counted", || held.gate.came().len() == 1);
    let gone = held.ask(2);
    until("the second waits", || held.load().waiting == 1);
    let third = held.ask(3);
    until("the third waits", || held.load().waiting == 2);
    drop(gone);
    until("the second has left", || held.load().waiting == 1);
    held.gate.open();
    assert!(
        first.answer().starts_with("HTTP/1.1 200 ") && third.answer().starts_with("HTTP/1.1 200 ")
    );
    assert_eq!(
        held.gate.came().len(),
        2,
        "what nobody waits for is not counted"
    );
}

/// A table of 400 cohorts and 50 columns.
const LARGE: &str = "/retention.json?cohort=signup&returning=active&rows=400&cols=50";

/// A table as a page of more than a megabyte.
const LARGE_PAGE: &str = "/retention?cohort=signup&returning=active&rows=200&cols=50";

/// How many answers an [`unread`] connection asks for. The system buffers the first megabytes.
const UNREAD: usize = 40;

/// Asks for something several times and reads nothing of the answers.
fn unread(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(NEVER)).unwrap();
    let socket = socket2::SockRef::from(&stream);
    socket.set_recv_buffer_size(64 << 10).unwrap();
    for connection in ["keep-alive"; UNREAD - 1].iter().chain(&["close"]) {
        let head = format!("Host: localhost\r\nConnection: {connection}");
        write!(stream, "GET {path} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
    }
    stream
}

/// Reads what there is until the connection ends.
fn read_now(mut stream: TcpStream) -> String {
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    String::from_utf8_lossy(&answers).into_owned()
}

/// Waits until so many bytes of answers have been unread for a second.
fn stuck_at(live: &Live, bytes: u64) {
    let mut since = Instant::now();
    until("the answers wait to be read", || {
        if live.unread_bytes() != bytes {
            since = Instant::now();
        }
        since.elapsed() > Duration::from_secs(1)
    });
}

#[test]
fn answers_that_clients_do_not_read_have_a_bound() {
    let dashboard = Dashboard::new(product(420, 2), Clock::Fixed(now()));
    let whole = get(serve_dashboard(dashboard.clone()), LARGE);
    let len = body(&whole).len() as u64;
    assert!(whole.starts_with("HTTP/1.1 200 ") && len > 5 << 20, "{len}");
    // Two of them fit beside each other.
    let live = Live::from(Dashboard {
        memory: Budget::new(3 * (2 * len + 100)),
        ..dashboard
    });
    let address = serve_dashboard(live.clone());
    let mut streams = vec![unread(address, LARGE)];
    stuck_at(&live, len);
    streams.push(unread(address, LARGE));
    stuck_at(&live, 2 * len);
    let refused = get(address, LARGE);
    assert!(
        refused.starts_with("HTTP/1.1 503 ")
            && refused.contains("\r\nretry-after: ")
            && refused.contains("--memory-mb"),
        "{refused}"
    );
    let csv = get(address, &LARGE.replace(".json", ".tidy.csv"));
    assert!(csv.starts_with("HTTP/1.1 503 "), "{csv:.500}");
    for small in ["/readyz", "/events.csv", &LARGE.replace("400", "9")] {
        let answer = get(address, small);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{small}: {answer}");
    }
    assert_eq!(live.unread_bytes(), 2 * len);
    drop(streams.pop());
    until("a client that left holds nothing", || {
        live.unread_bytes() == len
    });
    let answers = read_now(streams.remove(0));
    assert_eq!(answers.matches(body(&whole)).count(), UNREAD);
    until("the memory is free again", || live.unread_bytes() == 0);
    assert!(body(&get(address, LARGE)) == body(&whole));
}

#[test]
fn a_list_begins_only_while_there_is_memory() {
    let live = Live::from(Dashboard {
        memory: Budget::new(3 << 20),
        ..Dashboard::new(product(420, 2), Clock::Fixed(now()))
    });
    let address = serve_dashboard(live.clone());
    let list = "/people.csv?set=signup@2026-11-20";
    let whole = get(address, list);
    assert!(whole.starts_with("HTTP/1.1 200 "), "{whole}");
    // An answer larger than all of the memory is sent alone.
    let stream = unread(address, LARGE);
    stuck_at(&live, 1 << 20);
    let refused = get(address, list);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    drop(stream);
    until("the memory is free again", || live.unread_bytes() == 0);
    assert_eq!(body(&get(address, list)), body(&whole));
}

#[test]
fn readers_of_one_cached_page_share_its_memory() {
    let clock = Clock::Fixed(now());
    let tracker = product(420, 2).with_cache(CacheOptions::default(), clock);
    let live = Live::from(Dashboard {
        page_cache: PageCache::new(64 << 20),
        ..Dashboard::new(tracker, Clock::Fixed(now()))
    });
    let address = serve_dashboard(live.clone());
    // On a slow machine it comes in two parts until it is cached.
    let mut page = get(address, LARGE_PAGE);
    until("the page is in one part", || {
        page = get(address, LARGE_PAGE);
        page.contains("\r\ncontent-length: ")
    });
    let len = body(&page).len() as u64;
    assert!(page.starts_with("HTTP/1.1 200 ") && len > 1 << 20, "{len}");
    let streams = [(); 8].map(|()| unread(address, LARGE_PAGE));
    stuck_at(&live, len);
    drop(streams);
    until("the memory is free again", || live.unread_bytes() == 0);
}

#[test]
fn a_client_that_reads_nothing_is_disconnected() {
    let dashboard = Dashboard::new(product(420, 2), Clock::Fixed(now()));
    let patience = Duration::from_secs(1);
    let (address, stop, thread) = impatient(dashboard, patience, patience);
    let stream = unread(address, LARGE);
    std::thread::sleep(patience * 12);
    // What the system had buffered can be read, and then the connection ends.
    let answers = read_now(stream);
    let whole = answers.matches("\n}\n").count();
    assert!(
        answers.starts_with("HTTP/1.1 200 ") && whole < UNREAD,
        "{whole}"
    );
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn large_tables_are_written_in_turns_even_if_their_counts_are_cached() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let cost = |plan: &Plan| if names(plan, "web") { ORDINARY } else { 0 };
    let store = Bent::of(&product_store(30, 4))
        .costing(cost)
        .before_counting(move |plan| {
            if names(&plan, "web") {
                held.pass(&plan);
            }
        });
    let cached = CachedStore::new(store.shared(), CacheOptions::default(), Clock::Fixed(now()));
    let admission = Admission::new(1);
    let address = serve_dashboard(Dashboard {
        admission: admission.clone(),
        ..Dashboard::new(Tracker::new(Arc::new(cached)), Clock::Fixed(now()))
    });
    let tables = ["/retention.json", "/retention.tidy.csv", "/retention"]
        .map(|path| format!("{path}?cohort=signup&returning=active&rows=100&cols=40"));
    let known = tables.each_ref().map(|path| get(address, path));
    let web = PageQuery::new(
        address,
        "/retention.json?cohort=web&returning=active&rows=2",
    );
    until("the turn is taken", || gate.came().len() == 1);
    let waiting = tables.each_ref().map(|path| PageQuery::new(address, path));
    until("the large ones wait", || admission.load().waiting == 3);
    let small = get(
        address,
        "/retention.json?cohort=signup&returning=active&rows=3",
    );
    assert!(small.starts_with("HTTP/1.1 200 "), "{small}");
    gate.open();
    assert!(web.answer().starts_with("HTTP/1.1 200 "));
    for (asked, known) in waiting.into_iter().zip(&known) {
        assert!(known.starts_with("HTTP/1.1 200 "), "{known}");
        let answer = asked.answer();
        assert!(body(&answer).len() > 1000 && answer.starts_with("HTTP/1.1 200 "));
    }
}

fn listen(memory: &Budget) -> (Listener, String) {
    let store = EmbeddedStore::in_memory(&Options::default());
    let settings = Settings {
        listen: "127.0.0.1:0".to_owned(),
        password: None,
        allow_flush: true,
        connections: 1000,
        memory: memory.clone(),
    };
    let listener = Listener::start(settings, store.keyspace()).unwrap();
    let address = listener.address().to_string();
    (listener, address)
}

const MIB: usize = 1 << 20;

/// What a client has sent in one request, but for the last byte.
fn nearly_all(key: &str, bytes: usize) -> Vec<u8> {
    let mut request = packed(&["SET", key, &"x".repeat(bytes)]);
    request.pop();
    request
}

#[test]
fn large_requests_take_turns_and_give_their_memory_back() {
    let memory = Budget::new(8 << 20);
    let (_listener, address) = listen(&memory);
    // Two of three megabytes fit beside each other; the others are not read from until there is
    // room.
    let mut clients: Vec<Wire> = (0..6).map(|_| Wire::tcp(&address)).collect();
    std::thread::scope(|scope| {
        let mut sending = Vec::new();
        for (i, wire) in clients.iter_mut().enumerate() {
            sending.push(scope.spawn(move || {
                wire.send(&packed(&["SET", &format!("key{i}"), &"x".repeat(3 * MIB)]));
                assert_eq!(wire.reply(), b"+OK\r\n");
            }));
        }
        while sending.iter().any(|sending| !sending.is_finished()) {
            assert!(memory.used() <= memory.size());
            std::thread::yield_now();
        }
    });
    let idle = 6 * (64 << 10);
    until("the memory is free again", || memory.used() == idle);
    assert_eq!(clients[0].say("STRLEN key5"), format!(":{}\r\n", 3 * MIB));
    drop(clients);
    until("clients that left hold nothing", || memory.used() == 0);
}

#[test]
fn a_request_that_cannot_fit_is_refused_with_the_option_that_helps() {
    let memory = Budget::new(8 << 20);
    let (_listener, address) = listen(&memory);
    let mut wire = Wire::tcp(&address);
    wire.send(&packed(&["SET", "key", &"x".repeat(9 * MIB)]));
    let said = String::from_utf8(wire.reply()).unwrap();
    assert!(
        said.starts_with("-ERR ") && said.contains("10 MiB") && said.contains("--memory-mb"),
        "{said}"
    );
    assert_eq!(
        wire.reply(),
        b"",
        "and the connection is closed, as the rest was not read"
    );
    drop(wire);
    // What waits between MULTI and EXEC takes its part too.
    let mut wire = Wire::tcp(&address);
    assert_eq!(wire.say("MULTI"), "+OK\r\n");
    let queued: Vec<bool> = (0..4)
        .map(|i| {
            wire.send(&packed(&["SET", &format!("key{i}"), &"x".repeat(2 * MIB)]));
            let said = String::from_utf8(wire.reply()).unwrap();
            assert!(
                said == "+QUEUED\r\n" || said.contains("--memory-mb"),
                "{said}"
            );
            said == "+QUEUED\r\n"
        })
        .collect();
    assert!(queued[0] && queued.contains(&false), "{queued:?}");
    assert!(memory.used() <= memory.size());
    assert!(wire.say("EXEC").starts_with("-EXECABORT "));
    assert_eq!(wire.say("EXISTS key0"), ":0\r\n");
    until("the memory is free again", || memory.used() == 64 << 10);
}

#[test]
fn idle_clients_leave_memory_for_requests() {
    let memory = Budget::new(2 << 20);
    let (_listener, address) = listen(&memory);
    let mut clients: Vec<Wire> = (0..16).map(|_| Wire::tcp(&address)).collect();
    clients
        .iter_mut()
        .for_each(|wire| assert_eq!(wire.say("PING"), "+PONG\r\n"));
    assert_eq!(
        Wire::tcp(&address).reply(),
        b"-ERR max number of clients reached\r\n"
    );
    clients[0].send(&packed(&["SET", "key", &"x".repeat(MIB / 2)]));
    assert_eq!(clients[0].reply(), b"+OK\r\n");
}

#[test]
fn half_a_large_request_is_part_of_the_memory_and_goes_with_its_client() {
    let memory = Budget::new(8 << 20);
    let (_listener, address) = listen(&memory);
    let mut wire = Wire::tcp(&address);
    wire.send(&nearly_all("key", 5 * MIB));
    until("what was announced is set aside", || {
        memory.used() > 5 << 20
    });
    drop(wire);
    until("and given back", || memory.used() == 0);
}

/// The files a process has open.
fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .count()
}

#[test]
fn redis_clients_leave_descriptors_for_everything_else() {
    let shop = Shop::new();
    let mut command = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_cohortist");
    let serve =
        format!("ulimit -n 256; exec {program} serve --listen 127.0.0.1:0 --resp 127.0.0.1:0");
    command.args(["-c", &serve]);
    let (serving, address) = Serving::spawned(
        &mut shop.inside(command),
        "Redis clients are served at redis://",
    );
    let mut clients = vec![Wire::tcp(&address)];
    assert_eq!(clients[0].say("PING"), "+PONG\r\n");
    serving.get("/readyz");
    let with_one = descriptors(serving.id());
    let refused = loop {
        let mut wire = Wire::tcp(&address);
        let said = wire.say("PING");
        if said != "+PONG\r\n" {
            break said;
        }
        clients.push(wire);
        assert!(clients.len() < 256);
    };
    assert_eq!(refused, "-ERR max number of clients reached\r\n");
    assert_eq!(
        clients.len(),
        144,
        "three quarters of what the process does not keep for itself"
    );
    let with_all = descriptors(serving.id());
    assert!(
        with_all - with_one < 150,
        "one for each, and not {with_one} to {with_all}"
    );
    // Everything else goes on, the store's own files among it.
    assert!(serving.get("/readyz").contains("ready"));
    assert_eq!(
        clients[0].say("SETBIT trackist_active_2026-11-23 7 1"),
        ":0\r\n"
    );
    let browsers: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(&serving.address).unwrap())
        .collect();
    assert!(
        serving
            .get("/api/v1/count?set=active@2026-11-23")
            .contains("\"count\":1")
    );
    drop(browsers);
    // A place that is free again is taken.
    drop(clients.pop());
    until("one that left makes room", || {
        let mut wire = Wire::tcp(&address);
        wire.say("PING") == "+PONG\r\n"
    });
}

#[test]
fn memory_is_one_option_and_its_old_name_is_deprecated() {
    let shop = Shop::new();
    let run = |args: &[&str]| shop.run(args);
    run(&["mark", "active", "1"]).done();
    let told = run(&["--cache-mb", "64", "events"]);
    assert_eq!((told.code, told.out.trim()), (0, "active"));
    assert!(
        told.err.starts_with("warning: --cache-mb ") && told.err.contains("--memory-mb 64"),
        "{}",
        told.err
    );
    assert_eq!(
        run(&["--memory-mb", "64", "events"]).quietly().trim(),
        "active"
    );
    assert!(
        run(&["--memory-mb", "15", "events"])
            .error(2)
            .contains("16")
    );
    let said = run(&[
        "--memory-mb",
        "64",
        "serve",
        "--check",
        "--remember-mb",
        "32",
    ])
    .error(2);
    assert!(
        said.contains("at most 16") && said.contains("--memory-mb"),
        "{said}"
    );
    run(&[
        "--memory-mb",
        "64",
        "serve",
        "--check",
        "--remember-mb",
        "16",
    ])
    .done();
}
