//! Events as analytics libraries send them. The bodies in `tests/fixtures/collect` are what their
//! current versions sent to a server that recorded them, with another key.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cohortist::clock::Clock;
use cohortist::server::{Collect, Dashboard, NamedStore};
use cohortist::sets::Set;
use cohortist::store::{Options, StoreError};
use cohortist::{Ids, Tracker, store};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use ureq::Agent;

use crate::http::agent;
use crate::support::bent::Bent;
use crate::support::program::{Serving, Shop};
use crate::support::web::{empty, name, now, serve_dashboard};

const KEY: &str = "key-for-tests-only";

const PAGE: &str = "https://www.example.org";

fn texts() -> Tracker {
    empty().with_ids(Ids::Strings)
}

fn collect() -> Collect {
    Collect {
        keys: vec!["another-key-of-this-server".to_owned(), KEY.to_owned()],
        origins: vec![PAGE.parse().unwrap()],
        properties: vec!["plan".to_owned()],
        ..Collect::default()
    }
}

fn dashboard(tracker: Tracker, collect: Collect) -> Dashboard {
    let mut dashboard = Dashboard::new(tracker, Clock::Fixed(now()));
    dashboard.collect = Some(Arc::new(collect));
    dashboard
}

/// A server, and the tracker of its store.
struct Server {
    host: String,
    tracker: Tracker,
    agent: Agent,
}

impl Server {
    fn new() -> Self {
        Server::of(dashboard(texts(), collect()))
    }

    fn of(dashboard: Dashboard) -> Self {
        let tracker = dashboard.stores[0].tracker.clone();
        Server {
            host: format!("http://{}", serve_dashboard(dashboard)),
            tracker,
            agent: agent(),
        }
    }

    /// Sends a body with headers, and returns the status, the body and the headers of the answer.
    fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Got {
        let mut request = self.agent.post(format!("{}{path}", self.host));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Got::of(request.send(body.as_ref()).unwrap())
    }

    fn json(&self, path: &str, body: &Value) -> (u16, Value) {
        let got = self.post(path, &[], body.to_string());
        (got.status, got.json())
    }

    /// The users of a set, sorted.
    fn users(&self, event: &str, when: &str) -> Vec<String> {
        let set = match when {
            "ever" => Set::ever(&name(event)),
            period => Set::event_in(&name(event), period.parse().unwrap()),
        };
        let numbers: Vec<u32> = self.tracker.members(&set).map(Result::unwrap).collect();
        let mut users = self.tracker.called(&numbers).unwrap();
        users.sort();
        users
    }

    fn events(&self) -> Vec<String> {
        let keys = self.tracker.keys("").unwrap();
        let mut names: Vec<String> = keys.iter().map(|key| key.event().to_string()).collect();
        names.sort();
        names.dedup();
        names
    }
}

struct Got {
    status: u16,
    body: String,
    headers: ureq::http::HeaderMap,
}

impl Got {
    fn of(mut response: ureq::http::Response<ureq::Body>) -> Self {
        Got {
            status: response.status().as_u16(),
            body: response.body_mut().read_to_string().unwrap(),
            headers: response.headers().clone(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

fn gzip(body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_ref()).unwrap();
    encoder.finish().unwrap()
}

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../fixtures/collect/", $name)).trim()
    };
}

#[test]
fn segment_libraries_record_events_and_properties() {
    let server = Server::new();
    let python = recorded!("segment-python.json");
    // The key with an empty password, as libraries send it, and the same batch again: a retry.
    let basic = ("authorization", "Basic a2V5LWZvci10ZXN0cy1vbmx5Og==");
    for (headers, body) in [
        (vec![basic], python.as_bytes().to_vec()),
        (vec![basic, ("content-encoding", "gzip")], gzip(python)),
    ] {
        let got = server.post("/v1/batch", &headers, body);
        assert_eq!((got.status, got.json()), (200, json!({ "success": true })));
    }
    assert_eq!(
        server.events(),
        ["anonymous thing", "page", "plan:pro", "screen", "signup"],
        "the traits of a group are not those of a user"
    );
    // It was sent on 3 December for a day in November, and arrives on 23 November.
    assert_eq!(server.users("signup", "2026-11-12"), ["ann"]);
    assert_eq!(server.users("signup", "2026-W46"), ["ann"]);
    // The clock of the sender is fast.
    assert_eq!(server.users("page", "2026-11-23"), ["ann"]);
    assert_eq!(server.users("anonymous thing", "2026-11"), ["anon1"]);
    assert_eq!(server.users("plan:pro", "ever"), ["ann"]);
    let got = server.post("/v1/batch", &[], recorded!("segment-node.json"));
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(server.users("page", "2026-11-23"), ["ann", "x"]);
}

#[test]
fn the_clock_of_a_segment_library_is_corrected() {
    let server = Server::new();
    // These clocks are two days fast and forty years slow.
    for (user, sent, at) in [
        ("fast", "2026-11-25T14:05:00Z", "2026-11-24T14:05:00Z"),
        ("slow", "1986-11-23T14:05:00Z", "1986-11-22T14:05:00Z"),
    ] {
        let message = json!({ "type": "track", "event": "x", "userId": user, "timestamp": at });
        let whole = json!({ "batch": [message], "sentAt": sent, "writeKey": KEY });
        assert_eq!(
            server.json("/v1/batch", &whole),
            (200, json!({ "success": true }))
        );
        let single = json!({
            "event": "y", "userId": user, "timestamp": at, "sentAt": sent, "writeKey": KEY
        });
        assert_eq!(
            server.json("/v1/track", &single),
            (200, json!({ "success": true }))
        );
    }
    assert_eq!(server.users("x", "2026-11-22"), ["fast", "slow"]);
    assert_eq!(server.users("y", "2026-11-22"), ["fast", "slow"]);
}

#[test]
fn values_are_read_as_those_of_files() {
    let server = Server::new();
    let mut parts = Vec::new();
    for (user, event) in [
        ("jose\u{301}", "cafe\u{301}"),
        ("\u{a0}jos\u{e9} ", " caf\u{e9}"),
        ("<NA>", "caf\u{e9}"),
    ] {
        parts.push(json!({
            "type": "track", "event": event, "userId": user,
            "timestamp": "Mon, 23 Nov 2026 10:00:00 GMT",
        }));
    }
    let (status, answer) = server.json("/v1/batch", &json!({ "batch": parts, "writeKey": KEY }));
    assert_eq!(status, 200);
    assert_eq!(answer["errors"][0]["index"], 2, "{answer}");
    assert_eq!(server.events(), ["caf\u{e9}"]);
    assert_eq!(server.users("caf\u{e9}", "2026-11-23"), ["jos\u{e9}"]);
    let url = format!("{}/api/v1/openapi.json", server.host);
    let description = Got::of(agent().get(url).call().unwrap()).json();
    for path in ["/v1/batch", "/2/httpapi", "/track", "/i/v0/e/"] {
        assert!(description["paths"][path]["post"].is_object(), "{path}");
    }
}

#[test]
fn each_call_of_segment_has_its_address() {
    let server = Server::new();
    let sent = |more: Value| {
        let mut message = json!({ "writeKey": KEY, "anonymousId": "a", "userId": 7 });
        let fields = more.as_object().unwrap().clone();
        message.as_object_mut().unwrap().extend(fields);
        message
    };
    for (path, message) in [
        ("/v1/track", json!({ "event": "one" })),
        ("/v1/t", json!({ "event": " two " })),
        ("/v1/identify", json!({ "traits": { "plan": "pro" } })),
        ("/v1/i", json!({ "traits": { "plan": 3.0 } })),
        ("/v1/page", json!({ "name": "Docs" })),
        ("/v1/p", json!({ "properties": { "plan": null } })),
        (
            "/v1/screen",
            json!({ "context": { "traits": { "plan": true } } }),
        ),
        ("/v1/s", json!({})),
        ("/v1/group", json!({ "traits": { "plan": "group" } })),
        ("/v1/g", json!({})),
        ("/v1/alias", json!({ "previousId": "x" })),
        ("/v1/a", json!({})),
        ("/v1/m", json!({ "series": [] })),
    ] {
        let answer = server.json(path, &sent(message));
        assert_eq!(answer, (200, json!({ "success": true })), "{path}");
    }
    let events = [
        "one",
        "page",
        "plan:3.0",
        "plan:pro",
        "plan:true",
        "screen",
        "two",
    ];
    assert_eq!(server.events(), events);
    assert_eq!(server.users("plan:3.0", "ever"), ["7"]);
    for (body, said) in [
        ("{", "not valid"),
        ("[]", "not valid"),
        (
            "{\"writeKey\":\"key-for-tests-only\",\"userId\":\"a\"}",
            "`event` is missing",
        ),
    ] {
        let got = server.post("/v1/track", &[], body);
        let answer = got.json();
        assert_eq!(
            (got.status, &answer["success"]),
            (400, &json!(false)),
            "{body}"
        );
        assert_eq!(answer["code"], "invalid_request");
        assert!(
            answer["message"].as_str().unwrap().contains(said),
            "{answer}"
        );
    }
}

#[test]
fn half_a_bad_batch_is_recorded_and_the_other_half_told() {
    let server = Server::new();
    let good = json!({ "type": "track", "event": "good", "userId": "ann" });
    let bad = [
        (json!({ "type": "track", "userId": "ann" }), "event"),
        (
            json!({ "type": "track", "event": 3, "userId": "ann" }),
            "event",
        ),
        (
            json!({ "type": "track", "event": "", "userId": "ann" }),
            "event",
        ),
        (
            json!({ "type": "track", "event": "bitop_x", "userId": "ann" }),
            "event",
        ),
        (json!({ "type": "track", "event": "x" }), "userId"),
        (
            json!({ "type": "track", "event": "x", "userId": "undefined" }),
            "userId",
        ),
        (
            json!({ "type": "track", "event": "x", "userId": "u".repeat(201) }),
            "userId",
        ),
        (
            json!({ "type": "track", "event": "x", "anonymousId": [1] }),
            "anonymousId",
        ),
        (
            json!({ "type": "track", "event": "x", "userId": "a", "timestamp": "soon" }),
            "timestamp",
        ),
        (
            json!({ "type": "track", "event": "x", "userId": "a", "timestamp": 12 }),
            "timestamp",
        ),
        (
            json!({ "type": "trakc", "event": "x", "userId": "a" }),
            "type",
        ),
        (json!({ "event": "x", "userId": "a" }), "type"),
        (json!("x"), "batch"),
        (json!(null), "batch"),
    ];
    for (entry, field) in &bad {
        let body = json!({ "writeKey": KEY, "batch": [good, entry, good] });
        let (status, answer) = server.json("/v1/batch", &body);
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{entry}");
        let told = &answer["errors"][0];
        assert_eq!(
            (&told["index"], &told["field"]),
            (&json!(1), &json!(field)),
            "{told}"
        );
        let body = json!({ "writeKey": KEY, "batch": [entry] });
        let (status, answer) = server.json("/v1/batch", &body);
        assert_eq!(
            (status, &answer["success"]),
            (400, &json!(false)),
            "{entry}"
        );
        assert!(
            answer["message"].as_str().unwrap().contains(field),
            "{answer}"
        );
    }
    assert_eq!(server.events(), ["good"]);
    assert_eq!(server.users("good", "2026-11-23"), ["ann"]);
    let (status, answer) = server.json("/v1/batch", &json!({ "writeKey": KEY, "batch": [] }));
    assert_eq!((status, answer), (200, json!({ "success": true })));
}

#[test]
fn posthog_libraries_record_events_and_properties() {
    let server = Server::new();
    let python = server.post("/batch/", &[], recorded!("posthog-python.json"));
    assert_eq!(
        (python.status, python.json()),
        (200, json!({ "status": 1 }))
    );
    assert_eq!(
        server.events(),
        ["no id", "plan:free", "plan:pro", "signup"]
    );
    assert_eq!(server.users("signup", "2026-11-22"), ["bob"]);
    assert_eq!(server.users("plan:pro", "ever"), ["bob"]);
    assert_eq!(
        server.tracker.assigned().unwrap(),
        Some(2),
        "an alias and a group are no users"
    );
    let node = gzip(recorded!("posthog-node.json"));
    // Without the slash the address is Amplitude's too.
    for path in ["/batch/", "/batch"] {
        let got = server.post(path, &[("content-encoding", "gzip")], &node);
        assert_eq!((got.status, got.json()), (200, json!({ "status": 1 })));
    }
    // One event, as pages send it: compressed without a header, or in a form.
    let event = |name: &str| {
        json!({ "event": name, "offset": 86_400_000, "properties":
            { "distinct_id": "page", "token": KEY, "$is_identified": false, "$set_once": { "plan": "trial" } } })
    };
    let got = server.post(
        "/e/?ip=0&ver=1.2&compression=gzip-js",
        &[],
        gzip(event("one").to_string()),
    );
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(server.users("one", "2026-11-22"), ["page"]);
    assert_eq!(server.users("plan:trial", "ever"), ["page"]);
    // {"event":"two","distinct_id":"page","api_key":"key-for-tests-only"}
    let base64 = "eyJldmVudCI6InR3byIsImRpc3RpbmN0X2lkIjoicGFnZSIsImFwaV9rZXkiOiJrZXktZm9yLXRlc3RzLW9ubHkifQ";
    let form = format!("data={base64}%3D%3D");
    assert_eq!(server.post("/capture/", &[], form).status, 200);
    let list = json!([event("three"), event("four")]).to_string();
    assert_eq!(
        server
            .post("/i/v0/e/", &[("content-type", "text/plain")], list)
            .status,
        200
    );
    for name in ["two", "three", "four"] {
        assert_eq!(server.users(name, "2026-11"), ["page"], "{name}");
    }
    for path in ["/flags/?v=2", "/decide/?v=3"] {
        let (status, answer) = server.json(path, &json!({ "token": KEY }));
        assert_eq!(status, 200);
        assert_eq!(answer["featureFlags"], json!({}));
        assert_eq!(answer["flags"], json!({}));
    }
    let bad = json!({ "api_key": KEY, "batch": [{ "event": "x" }] });
    let (status, answer) = server.json("/batch/", &bad);
    assert_eq!((status, &answer["code"]), (400, &json!("invalid_payload")));
    assert!(
        answer["detail"].as_str().unwrap().contains("distinct_id"),
        "{answer}"
    );
}

#[test]
fn mixpanel_libraries_record_events_and_profiles_are_ignored() {
    let server = Server::new();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let done = json!({ "status": 1, "error": null });
    for (path, body) in [
        ("/track", recorded!("mixpanel-track.form")),
        ("/track", recorded!("mixpanel-buffered.form")),
        ("/import", recorded!("mixpanel-import.form")),
        ("/engage", recorded!("mixpanel-engage.form")),
    ] {
        let got = server.post(path, &form, body);
        assert_eq!((got.status, got.json()), (200, done.clone()), "{path}");
    }
    assert_eq!(
        server.events(),
        ["a", "b", "login", "plan:pro", "plan:x", "signup"]
    );
    assert_eq!(server.users("login", "2026-11-22"), ["carl"]);
    assert_eq!(server.users("signup", "2026-11-23"), ["carl"]);
    // The API for imports: JSON or lines of it, the token as the name of HTTP Basic.
    let basic = [("authorization", "Basic a2V5LWZvci10ZXN0cy1vbmx5Og==")];
    let event = |id: &str| json!({ "event": "imported", "properties": { "distinct_id": id, "time": 1_795_341_600_000_u64 } });
    let list = json!([event("a"), event(""), event("$device:b")]).to_string();
    let got = server.post("/import?strict=1", &basic, gzip(list));
    let answer = got.json();
    assert_eq!(
        (got.status, &answer["num_records_imported"]),
        (400, &json!(2))
    );
    assert_eq!(answer["failed_records"][0]["index"], 1);
    assert_eq!(server.users("imported", "2026-11-22"), ["$device:b", "a"]);
    let lines = format!("{}\n{}\n", event("c"), event("d"));
    let got = server.post("/import?strict=1", &basic, lines);
    assert_eq!(
        got.json(),
        json!({ "code": 200, "num_records_imported": 2, "status": "OK" })
    );
    // Without `verbose` the answer is a digit; with GET the events are in the address.
    let one =
        json!({ "event": "got", "properties": { "distinct_id": "e", "token": KEY } }).to_string();
    let data: String = url_encoded(&one);
    let got = Got::of(
        server
            .agent
            .get(format!("{}/track?data={data}", server.host))
            .call()
            .unwrap(),
    );
    assert_eq!((got.status, &*got.body), (200, "1"));
    assert_eq!(server.users("got", "2026-11-23"), ["e"]);
    assert_eq!(server.post("/track", &[], "data=%7B").body, "0");
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn amplitude_libraries_record_events_and_are_told_which_to_drop() {
    let server = Server::new();
    let body = recorded!("amplitude-python.json");
    for path in ["/2/httpapi", "/batch"] {
        let got = server.post(path, &[], body);
        let answer = got.json();
        assert_eq!(
            (got.status, &answer["code"], &answer["events_ingested"]),
            (200, &json!(200), &json!(2))
        );
        assert_eq!(answer["payload_size_bytes"], body.len());
        assert_eq!(answer["server_upload_time"], now().timestamp_millis());
    }
    assert_eq!(server.events(), ["plan:pro", "signup"]);
    assert_eq!(server.users("signup", "2026-11-22"), ["dora"]);
    let body = json!({ "api_key": KEY, "events": [
        { "event_type": "play", "device_id": "d" },
        { "user_id": "u" },
        { "event_type": "play", "user_id": "u", "time": "x" },
        { "event_type": "play" },
        { "event_type": "play", "user_id": "u", "time": {} },
    ] });
    let (status, answer) = server.json("/2/httpapi", &body);
    assert_eq!((status, &answer["code"]), (400, &json!(400)));
    assert_eq!(
        answer["events_with_missing_fields"],
        json!({ "event_type": [1], "user_id": [3] })
    );
    assert_eq!(
        answer["events_with_invalid_fields"],
        json!({ "time": [2, 4] })
    );
    assert_eq!(
        server.users("play", "2026-11-23"),
        ["d"],
        "the good ones are recorded"
    );
    let (status, answer) = server.json("/batch", &json!({ "api_key": "wrong", "events": [] }));
    assert_eq!(
        (status, &answer["error"]),
        (401, &json!("Invalid API key: wrong"))
    );
    let (status, answer) = server.json("/2/httpapi", &json!({ "events": [] }));
    assert_eq!((status, &answer["missing_field"]), (401, &json!("api_key")));
}

/// A body of each protocol with this key and user.
fn bodies(key: &str, user: &str) -> Vec<(&'static str, Value)> {
    vec![
        (
            "/v1/track",
            json!({ "writeKey": key, "event": "x", "userId": user }),
        ),
        (
            "/v1/batch",
            json!({ "writeKey": key, "batch": [{ "type": "track", "event": "x", "userId": user }] }),
        ),
        (
            "/batch/",
            json!({ "api_key": key, "batch": [{ "event": "x", "distinct_id": user }] }),
        ),
        (
            "/i/v0/e/",
            json!({ "api_key": key, "event": "x", "distinct_id": user }),
        ),
        (
            "/track",
            json!([{ "event": "x", "properties": { "token": key, "distinct_id": user } }]),
        ),
        (
            "/import",
            json!([{ "event": "x", "properties": { "token": key, "distinct_id": user } }]),
        ),
        (
            "/2/httpapi",
            json!({ "api_key": key, "events": [{ "event_type": "x", "user_id": user }] }),
        ),
        (
            "/batch",
            json!({ "api_key": key, "events": [{ "event_type": "x", "user_id": user }] }),
        ),
    ]
}

#[test]
fn only_a_write_key_opens_the_door_and_it_opens_no_other() {
    let server = Server::new();
    for (at, path) in bodies("", "ann").iter().map(|(path, _)| *path).enumerate() {
        // Each wrong key of a sender is answered later than the one before.
        let server = Server::new();
        for key in ["", "key-for-tests-onlz", "key-for-tests-only2"] {
            let got = server.post(path, &[], bodies(key, "ann")[at].1.to_string());
            assert_eq!(got.status, 401, "{path} {key}: {}", got.body);
            assert!(!got.body.contains("another-key"), "{}", got.body);
            assert_eq!(got.header("www-authenticate"), "Key");
        }
        assert!(server.events().is_empty());
    }
    // A wrong key in the header is refused before the body.
    let basic = [("authorization", "Basic d3Jvbmc6")];
    assert_eq!(
        server
            .post("/v1/batch", &basic, recorded!("segment-python.json"))
            .status,
        401
    );
    // One wrong token among events, and none of them is recorded.
    let event =
        |key: &str| json!({ "event": "x", "properties": { "token": key, "distinct_id": "a" } });
    let (status, _) = server.json("/import", &json!([event(KEY), event("wrong")]));
    assert_eq!(status, 401);
    assert!(server.events().is_empty());
    assert_eq!(server.tracker.assigned().unwrap(), None);
    for (path, body) in bodies(KEY, "ann") {
        assert_eq!(
            server.post(path, &[], body.to_string()).status,
            200,
            "{path}"
        );
    }
    let bearer = format!("Bearer {KEY}");
    let marks = server.post("/api/v1/marks", &[("authorization", &bearer)], "[]");
    assert_eq!(marks.status, 403, "a write key is no token");
}

#[test]
fn without_the_option_there_are_no_such_addresses() {
    let host = format!(
        "http://{}",
        serve_dashboard(Dashboard::new(texts(), Clock::Fixed(now())))
    );
    for (path, body) in bodies(KEY, "ann") {
        let sent = agent().post(format!("{host}{path}")).send(body.to_string());
        assert_eq!(sent.unwrap().status().as_u16(), 404, "{path}");
    }
    assert_eq!(
        agent()
            .get(format!("{host}/flags"))
            .call()
            .unwrap()
            .status()
            .as_u16(),
        404
    );
}

#[test]
fn what_cannot_be_written_is_said_in_the_form_of_the_library() {
    let mut locked = dashboard(texts(), collect());
    locked.stores[0].read_only = true;
    locked.stores.push(NamedStore {
        name: "open".to_owned(),
        tracker: texts(),
        read_only: false,
    });
    let locked = Server::of(locked);
    let numbers = Server::of(dashboard(empty(), collect()));
    let inner = store::open("memory:", &Options::default()).unwrap();
    let away = |_: Result<(), StoreError>| {
        Err(StoreError::Unreachable {
            location: "redis://db".into(),
            reason: "it is away".into(),
        })
    };
    let away = Tracker::new(Bent::of(&inner).applying(away).shared()).with_ids(Ids::Strings);
    let away = Server::of(dashboard(away, collect()));
    for (path, body) in bodies(KEY, "ann") {
        for (server, status, word) in [
            (&locked, 403, "read-only"),
            (&numbers, 403, "--ids map"),
            (&away, 503, "away"),
        ] {
            let got = server.post(path, &[], body.to_string());
            assert_eq!(got.status, status, "{path}: {}", got.body);
            // Without `verbose` Mixpanel answers with a digit.
            let told = path == "/track" && got.body == "0" || got.body.contains(word);
            assert!(told, "{path}: {}", got.body);
            assert_eq!(got.header("retry-after").is_empty(), status != 503);
        }
        let got = locked.post(&format!("/in/open{path}"), &[], body.to_string());
        assert_eq!(got.status, 200, "{path}: each store has the addresses");
    }
    assert!(locked.events().is_empty() && numbers.events().is_empty());
}

#[test]
fn bodies_and_batches_have_limits() {
    let server = Server::new();
    let long = |key: &str, bytes: usize| {
        format!(
            "{{\"writeKey\":\"{key}\",\"batch\":[],\"x\":\"{}\"}}",
            "x".repeat(bytes)
        )
    };
    for (path, most) in [
        ("/v1/batch", 500 << 10),
        ("/v1/track", 32 << 10),
        ("/track", 1 << 20),
        ("/import?strict=1", 10 << 20),
        ("/2/httpapi", 1 << 20),
        ("/batch/", 20 << 20),
    ] {
        let body = long(KEY, most);
        for body in [gzip(&body), body.into_bytes()] {
            let got = server.post(path, &[], body);
            assert_eq!(got.status, 413, "{path}: {}", got.body);
        }
    }
    assert_eq!(
        server
            .post("/v1/batch", &[], gzip(long(KEY, 400 << 10)))
            .status,
        200
    );
    let events =
        |count: usize| -> Vec<Value> { vec![json!({ "event_type": "x", "user_id": "u" }); count] };
    for (count, status) in [(2000, 200), (2001, 413)] {
        let (got, answer) = server.json(
            "/2/httpapi",
            &json!({ "api_key": KEY, "events": events(count) }),
        );
        assert_eq!((got, &answer["code"]), (status, &json!(status)));
    }
    // A compressed body that claims to be short.
    let mut bomb = gzip("x".repeat(1 << 22));
    let end = bomb.len() - 4;
    bomb[end..].copy_from_slice(&9_u32.to_le_bytes());
    let got = server.post("/batch/", &[], bomb);
    assert!(
        got.status == 400 && got.json()["detail"].as_str().unwrap().contains("gzip"),
        "{}",
        got.body
    );
    // Memory that others hold: the library shall try again.
    let mut crowded = dashboard(texts(), collect());
    crowded.memory = cohortist::store::budget::Budget::new(1 << 20);
    let _held = crowded.memory.reserve(1 << 20).unwrap();
    let crowded = Server::of(crowded);
    let got = crowded.post("/v1/batch", &[], recorded!("segment-python.json"));
    assert_eq!(
        (got.status, got.json()["code"].as_str()),
        (429, Some("rate_limited"))
    );
    assert_eq!(got.header("retry-after"), "2");
}

#[test]
fn pages_of_configured_sites_may_send_events_and_others_may_not() {
    let server = Server::new();
    let asked = |path: &str, origin: &str| {
        let request = ureq::http::Request::builder()
            .method("OPTIONS")
            .uri(format!("{}{path}", server.host))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,content-type",
            )
            .body(())
            .unwrap();
        Got::of(server.agent.run(request).unwrap())
    };
    for (path, body) in bodies(KEY, "ann") {
        let got = asked(path, PAGE);
        assert_eq!(
            (got.status, got.header("access-control-allow-origin")),
            (204, PAGE),
            "{path}"
        );
        assert_eq!(
            got.header("access-control-allow-headers"),
            "authorization,content-type"
        );
        assert!(got.header("access-control-allow-methods").contains("POST"));
        assert_eq!(got.header("access-control-allow-credentials"), "true");
        assert_eq!(got.header("vary"), "origin");
        let sent = server.post(path, &[("origin", PAGE)], body.to_string());
        assert_eq!(
            (sent.status, sent.header("access-control-allow-origin")),
            (200, PAGE)
        );
        // A refusal can be read, too.
        let sent = server.post(path, &[("origin", PAGE)], "{");
        assert!(sent.status == 400 && sent.header("access-control-allow-origin") == PAGE);
        for stranger in ["https://evil.example", "http://www.example.org", "null"] {
            let got = asked(path, stranger);
            assert_eq!(
                (got.status, got.header("access-control-allow-origin")),
                (403, "")
            );
            let sent = server.post(
                path,
                &[("origin", stranger)],
                bodies(KEY, "eve")[0].1.to_string(),
            );
            assert_eq!(
                (sent.status, sent.header("access-control-allow-origin")),
                (403, "")
            );
        }
    }
    assert_eq!(server.users("x", "2026-11-23"), ["ann"]);
    let mut all = collect();
    all.origins = vec!["*".parse().unwrap()];
    let all = Server::of(dashboard(texts(), all));
    let sent = all.post(
        "/v1/track",
        &[("origin", "https://any.example")],
        bodies(KEY, "ann")[0].1.to_string(),
    );
    assert_eq!(
        (sent.status, sent.header("access-control-allow-origin")),
        (200, "https://any.example")
    );
    // Nothing else is opened.
    let got = Got::of(
        server
            .agent
            .get(format!("{}/api/v1/events", server.host))
            .header("origin", PAGE)
            .call()
            .unwrap(),
    );
    assert_eq!(
        (got.status, got.header("access-control-allow-origin")),
        (200, "")
    );
    let got = Got::of(
        server
            .agent
            .get(format!("{}/v1/batch", server.host))
            .call()
            .unwrap(),
    );
    assert_eq!((got.status, got.header("allow")), (405, "POST, OPTIONS"));
}

#[test]
fn only_what_is_configured_is_recorded() {
    let collect = Collect {
        keys: vec![KEY.to_owned()],
        events: vec![
            cohortist::server::Pattern::new("shop:*"),
            cohortist::server::Pattern::new("login"),
        ],
        properties: vec!["plan".to_owned()],
        anonymous: false,
        hourly: true,
        ..Collect::default()
    };
    let server = Server::of(dashboard(texts(), collect));
    let track = |event: &str, user: &str| json!({ "type": "track", "event": event, "userId": user, "properties": { "plan": "p", "other": 1 } });
    let batch = json!([
        track("shop:buy", "ann"),
        track("login", "bob"),
        track("log", "carl"),
        { "type": "track", "event": "login", "anonymousId": "device" },
    ]);
    let answer = server.json("/v1/batch", &json!({ "writeKey": KEY, "batch": batch }));
    assert_eq!(answer, (200, json!({ "success": true })));
    assert_eq!(server.events(), ["login", "plan:p", "shop:buy"]);
    assert_eq!(server.users("login", "2026-11-23T19"), ["bob"]);
    // An event that is not recorded still tells the plan of its user.
    assert_eq!(server.users("plan:p", "ever"), ["ann", "bob", "carl"]);
    for (path, body) in [
        (
            "/batch/",
            json!({ "api_key": KEY, "batch": [{ "event": "login", "distinct_id": "z", "properties": { "$is_identified": false } }] }),
        ),
        (
            "/track",
            json!([{ "event": "login", "properties": { "token": KEY, "distinct_id": "$device:z" } }]),
        ),
        (
            "/2/httpapi",
            json!({ "api_key": KEY, "events": [{ "event_type": "login", "device_id": "z" }] }),
        ),
    ] {
        assert_eq!(server.post(path, &[], body.to_string()).status, 200);
    }
    assert_eq!(
        server.tracker.assigned().unwrap(),
        Some(3),
        "devices have no ids"
    );
}

/// A key in a page is public: whoever has it must not fill the store with names.
#[test]
fn names_have_a_limit() {
    let server = Server::new();
    let send =
        |events: Vec<Value>| server.json("/v1/batch", &json!({ "writeKey": KEY, "batch": events }));
    let track = |event: String, plan: String| json!({ "type": "track", "event": event, "userId": "a", "properties": { "plan": plan } });
    for from in [0, 1000] {
        let events = (from..from + 1000)
            .map(|i| track(format!("e{i}"), format!("v{i}")))
            .collect();
        assert_eq!(send(events), (200, json!({ "success": true })));
    }
    let values = || {
        server
            .events()
            .iter()
            .filter(|name| name.starts_with("plan:"))
            .count()
    };
    assert_eq!((server.events().len(), values()), (3000, 1000));
    let (status, answer) = send(vec![
        track("e2000".into(), "v0".into()),
        track("e7".into(), "v1001".into()),
    ]);
    assert_eq!(
        (status, &answer["errors"][0]["index"]),
        (200, &json!(0)),
        "{answer}"
    );
    assert_eq!(
        (
            server.events().len(),
            answer["errors"].as_array().unwrap().len()
        ),
        (3000, 1)
    );
}

const CONFIGURATION: &str = "[collect]\nkeys = [\"$WRITE_KEY\"]\norigins = [\"https://www.example.org\"]\nproperties = [\"plan\"]\n";

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [
        &[
            "--store",
            "./store",
            "--ids",
            "map",
            "--config",
            "c.toml",
            "serve",
            "--collect",
            "--listen",
            "127.0.0.1:0",
        ],
        more,
    ]
    .concat()
}

#[test]
fn the_program_serves_libraries_with_the_keys_of_its_configuration() {
    let shop = Shop::new();
    shop.write("c.toml", CONFIGURATION);
    let mut command = shop.command(&arguments(&[]));
    let serving = Serving::of(command.env("WRITE_KEY", KEY));
    let send = |body: &Value| {
        let sent = agent().post(format!("http://{}/v1/track", serving.address));
        sent.send(body.to_string()).unwrap().status().as_u16()
    };
    assert_eq!(send(&bodies(KEY, "ann")[0].1), 200);
    assert_eq!(send(&bodies("wrong", "ann")[0].1), 401);
    assert!(serving.says("wrong password").contains("http"));
    assert_eq!(
        send(&json!({ "writeKey": KEY, "userId": "secret person" })),
        400
    );
    let log = serving.says("1 of 1 collected events");
    assert!(
        log.contains("`event` is missing") && !log.contains("secret person"),
        "{log}"
    );
    assert!(serving.get("/events.json").contains("\"x\""));
    // Another key after a reload.
    shop.write(
        "c.toml",
        "[collect]\nkeys = [\"a-new-key-for-tests-only\"]\n",
    );
    crate::support::redis::signal(serving.id(), "-HUP");
    serving.says("configuration reloaded");
    assert_eq!(send(&bodies(KEY, "ann")[0].1), 401);
    assert_eq!(send(&bodies("a-new-key-for-tests-only", "ann")[0].1), 200);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_at_the_start() {
    let shop = Shop::new();
    shop.write("c.toml", "title = \"Acme\"\n");
    let said = shop.run(&arguments(&[])).error(2);
    assert!(said.contains("[collect] with keys"), "{said}");
    shop.write("c.toml", "[collect]\nkeys = [\"short\", \"$UNSET\"]\norigins = [\"www.example.org\"]\nproperties = [\"a:b\"]\nkyes = 1\n");
    let said = shop.run(&arguments(&[])).error(2);
    for words in [
        "line 2: `collect.keys`: a write key has at least 16",
        "line 2: `collect.keys`: the environment variable UNSET is not set",
        "line 3: `collect.origins`: write the origin",
        "line 4: `collect.properties`: must be the name of a property",
        "line 5: `collect.kyes`: unknown setting; did you mean `keys`?",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    shop.write("c.toml", "[collect]\norigins = [\"*\"]\n");
    let said = shop.run(&arguments(&[])).error(2);
    assert!(said.contains("`collect.keys`: is missing"), "{said}");
    shop.write("c.toml", "[collect]\nkeys = [\"key-for-tests-only\"]\n");
    let said = shop.run(&arguments(&["--read-only"])).error(2);
    assert!(said.contains("read-only"), "{said}");
    let numbers = [
        "--store",
        "./numbers",
        "--config",
        "c.toml",
        "serve",
        "--collect",
        "--listen",
        "127.0.0.1:0",
    ];
    let said = shop.run(&numbers).error(2);
    assert!(said.contains("--ids map"), "{said}");
}

/// Libraries send until the server is killed. Everything that was acknowledged is there, and a batch
/// that was not is there completely or not at all.
#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    const SIZE: usize = 200;
    let shop = Shop::new();
    shop.write("c.toml", CONFIGURATION);
    let mut acknowledged = 0;
    for round in 0..4_u32 {
        let mut command = shop.command(&arguments(&[]));
        let serving = Serving::of(command.env("WRITE_KEY", KEY));
        let url = format!("http://{}/v1/batch", serving.address);
        let done = Arc::new(AtomicUsize::new(acknowledged));
        let sender = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let agent = agent();
                loop {
                    let first = done.load(Ordering::SeqCst) * SIZE;
                    let event = |i: usize| json!({ "type": "track", "event": "play", "userId": format!("user-{}", first + i) });
                    let batch: Vec<Value> = (0..SIZE).map(event).collect();
                    let body = json!({ "writeKey": KEY, "batch": batch }).to_string();
                    match agent.post(&url).send(body) {
                        Ok(answer) if answer.status().as_u16() == 200 => {
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(answer) => panic!("{}", answer.status()),
                        Err(_) => return,
                    }
                }
            }
        });
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while done.load(Ordering::SeqCst) < acknowledged + 3 {
            assert!(
                std::time::Instant::now() < until,
                "batches are acknowledged"
            );
            std::thread::sleep(std::time::Duration::from_millis(5 + u64::from(round)));
        }
        // `kill -9`.
        drop(serving);
        sender.join().unwrap();
        acknowledged = done.load(Ordering::SeqCst);
        let counted = shop
            .run(&["--store", "./store", "count", "play@2026-11-23"])
            .done();
        let counted: usize = counted
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{counted}"));
        let whole = [acknowledged * SIZE, (acknowledged + 1) * SIZE];
        assert!(
            whole.contains(&counted),
            "{counted} of {whole:?} in round {round}"
        );
    }
}
