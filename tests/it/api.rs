//! `/api/v1` against its own description, and marks that come in by it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::server::{Dashboard, NamedStore, Pattern};
use cohortist::sets::{Segments, Set};
use cohortist::store::StoreError;
use serde_json::{Value, json};

use crate::http::{Away, Got, agent, read};
use crate::strangers::{MARKS, impatient, raw};
use crate::support::bent::Bent;
use crate::support::stores::each_store;
use crate::support::web::{empty, name, now, product, serve, serve_dashboard};

const TOKEN: &str = "a-token-for-tests-only";

static API: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../static/openapi.json")).unwrap());

/// The schema of a part of the description, with all that it refers to.
fn schema(part: &Value) -> jsonschema::Validator {
    let mut whole = part.clone();
    whole["components"] = API["components"].clone();
    jsonschema::validator_for(&whole).unwrap()
}

/// Checks an answer against the description of its status.
fn described(path: &str, method: &str, status: u16, body: &str) -> Value {
    let mut response = &API["paths"][path][method]["responses"][status.to_string()];
    if let Some(place) = response["$ref"].as_str() {
        response = API.pointer(place.trim_start_matches('#')).unwrap();
    }
    assert!(
        response.is_object(),
        "{method} {path} may not answer {status}: {body}"
    );
    let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
    let validator = schema(&response["content"]["application/json"]["schema"]);
    let faults: Vec<String> = validator
        .iter_errors(&body)
        .map(|e| format!("{} at {}", e, e.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{path} {status}: {faults:?}\n{body:#}");
    body
}

fn get(host: &str, path: &str, query: &str) -> Value {
    let Got { status, body, .. } = read(&format!("{host}{path}?{query}"));
    described(path, "get", status, &body)
}

fn send(host: &str, token: Option<&str>, body: impl AsRef<[u8]>) -> (u16, Value) {
    let mut request = agent().post(format!("{host}/api/v1/marks"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut response = request.send(body.as_ref()).unwrap();
    let (status, body) = (
        response.status().as_u16(),
        response.body_mut().read_to_string().unwrap(),
    );
    (status, described("/api/v1/marks", "post", status, &body))
}

fn open(tracker: Tracker) -> String {
    let mut dashboard = Dashboard::new(tracker, Clock::Fixed(now()));
    dashboard.write_token = Some(TOKEN.to_owned());
    format!("http://{}", serve_dashboard(dashboard))
}

/// The status and the answer for marks that are sent to a new store of numbers.
pub fn sent_to_new_store(body: &str) -> (u16, Value) {
    send(&open(empty()), Some(TOKEN), body)
}

fn shop() -> String {
    let saved = Segments::new([(name("regulars"), "active & web".parse().unwrap())]).unwrap();
    let mut dashboard = Dashboard::new(product(20, 40).with_segments(saved), Clock::Fixed(now()));
    dashboard.glossary.labels = [(name("active"), "Are active".to_owned())].into();
    dashboard.glossary.groups = vec![("Doing".to_owned(), vec![Pattern::new("active")])];
    format!("http://{}", serve_dashboard(dashboard))
}

#[test]
fn the_description_is_a_description_and_every_path_of_it_answers() {
    let host = shop();
    let served: Value =
        serde_json::from_str(&read(&format!("{host}/api/v1/openapi.json")).body).unwrap();
    assert_eq!(
        (&served["components"], &served["openapi"]),
        (&API["components"], &json!("3.1.0"))
    );
    // Each schema is a schema, and each reference leads somewhere.
    for (name, part) in API["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(part), "{name}");
        schema(part);
    }
    for (path, methods) in served["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let url = format!("{host}{path}");
            let status = match method.as_str() {
                "get" => read(&url).status,
                "delete" => agent().delete(&url).call().unwrap().status().as_u16(),
                _ => agent().post(&url).send("").unwrap().status().as_u16(),
            };
            assert!(status != 404 && status != 405, "{method} {path}: {status}");
        }
        let allow = if methods.get("post").is_some() {
            "POST"
        } else if methods.get("delete").is_some() {
            "DELETE"
        } else {
            "GET, HEAD"
        };
        let wrong = agent().patch(format!("{host}{path}")).send("").unwrap();
        assert_eq!(
            (
                wrong.status().as_u16(),
                wrong.headers()["allow"].to_str().unwrap()
            ),
            (405, allow),
            "{path}"
        );
    }
    let nowhere = read(&format!("{host}/api/v1/nothing"));
    assert_eq!(
        (nowhere.status, nowhere.header("content-type")),
        (404, "application/json")
    );
}

#[test]
fn every_parameter_is_taken_and_every_answer_is_as_described() {
    let host = shop();
    let query = "cohort=signup&cohort_and=active&returning=active&returning_and=web&by=day&rows=5&cols=4&to=2026-11-22\
                 &measure=on_or_after&average=simple";
    let table = get(&host, "/api/v1/retention", query);
    assert_eq!(
        (
            table["rows"].as_array().unwrap().len(),
            &table["query"]["measure"]
        ),
        (5, &json!("on_or_after"))
    );
    assert_eq!(table["query"]["average"], "simple");
    let page = read(&format!("{host}/retention.json?{query}")).body;
    assert_eq!(
        table,
        serde_json::from_str::<Value>(&page).unwrap(),
        "the page's own numbers"
    );
    get(
        &host,
        "/api/v1/retention",
        "cohort=signup&returning=active&by=week&from=2026-10-01&rows=3",
    );
    get(
        &host,
        "/api/v1/retention",
        "cohort=nothing&returning=active&by=hour",
    );
    for groups in [
        "compare=web&compare=ios",
        "split=2026-11-18",
        "breakdown=w*",
    ] {
        let query = format!("cohort=signup&returning=active&{groups}");
        let compared = get(&host, "/api/v1/retention", &query);
        assert!(
            compared["groups"].as_array().unwrap().len() >= 2,
            "{groups}"
        );
    }
    assert_eq!(
        get(&host, "/api/v1/retention", "cohort=(&returning=a&rows=0")["error"]["fields"][0]["column"],
        2
    );

    let counts = get(
        &host,
        "/api/v1/count",
        "set=active@2026-11-23&set=regulars@2026-11-23&set=actve@2026-11",
    );
    let numbers: Vec<u64> = counts["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["count"].as_u64().unwrap())
        .collect();
    assert!(
        numbers[0] > numbers[1] && numbers[1] > 0 && numbers[2] == 0,
        "{counts}"
    );
    assert_eq!(counts["never_recorded"], json!(["actve"]));
    for wrong in [
        "",
        "set=",
        "set=active",
        "set=(",
        &"set=a@2026&".repeat(201),
    ] {
        assert_eq!(
            get(&host, "/api/v1/count", wrong)["error"]["status"],
            400,
            "{wrong}"
        );
    }

    let mut users: Vec<u64> = Vec::new();
    let mut query = "set=active@2026-11-23&limit=7".to_owned();
    loop {
        let page = get(&host, "/api/v1/people", &query);
        assert_eq!(page["count"], numbers[0]);
        let some = page["users"].as_array().unwrap();
        users.extend(some.iter().map(|user| user.as_u64().unwrap()));
        let Some(next) = page["next"].as_u64() else {
            break;
        };
        assert_eq!(some.len(), 7);
        query = format!("set=active@2026-11-23&limit=7&after={next}");
    }
    assert!(users.len() as u64 == numbers[0] && users.is_sorted_by(|a, b| a < b));
    for wrong in [
        "",
        "set=active",
        "set=a@2026&limit=0",
        "set=a@2026&limit=100001",
        "set=a@2026&after=-1",
    ] {
        assert_eq!(
            get(&host, "/api/v1/people", wrong)["error"]["status"],
            400,
            "{wrong}"
        );
    }

    let events = get(&host, "/api/v1/events", "");
    let active = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["name"] == "active")
        .unwrap();
    assert_eq!(
        (&active["label"], &active["group"]),
        (&json!("Are active"), &json!("Doing"))
    );
    assert_eq!(active["day"]["so_far"], numbers[0]);
    let pro = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["name"] == "plan:pro")
        .unwrap();
    assert!(pro["day"].is_null() && pro["ever"].as_u64().unwrap() > 0);
    assert_eq!(
        events["segments"],
        json!([{ "name": "regulars", "means": "active & web" }])
    );

    let away = format!("http://{}", serve(Tracker::new(Arc::new(Away))));
    for (path, query) in [
        ("/api/v1/events", ""),
        ("/api/v1/count", "set=a@2026"),
        ("/api/v1/people", "set=a@2026"),
        ("/api/v1/retention", "cohort=a&returning=b"),
    ] {
        assert_eq!(get(&away, path, query)["error"]["status"], 503, "{path}");
    }
}

#[test]
fn a_wrong_host_and_a_stalled_body_are_answered_as_described() {
    let paths = API["paths"].as_object().unwrap();
    let host = shop();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let url = format!("{host}{path}");
            let mut response = match &**method {
                "get" => agent()
                    .get(&url)
                    .header("host", "evil.example")
                    .call()
                    .unwrap(),
                _ => agent()
                    .post(&url)
                    .header("host", "evil.example")
                    .send("")
                    .unwrap(),
            };
            assert_eq!(response.status().as_u16(), 421, "{method} {path}");
            described(
                path,
                method,
                421,
                &response.body_mut().read_to_string().unwrap(),
            );
        }
    }
    let (address, stop, thread) = impatient(
        Dashboard::new(empty(), Clock::Fixed(now())),
        Duration::from_millis(300),
        Duration::from_secs(1),
    );
    let answer = raw(address, &format!("{MARKS}Content-Length: 100\r\n\r\n[{{"));
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    described("/api/v1/marks", "post", 408, body);
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn marks_are_recorded_as_the_library_records_them_on_every_store() {
    each_store(|kind, store| {
        let tracker = Tracker::new(store);
        let host = open(tracker.clone());
        let body = json!([
            { "event": "active", "user": 1 },
            { "event": "active", "user": 2, "at": "2026-11-20T23:30:00-02:00", "hourly": true },
            { "event": "söng \"x\"", "user": 4_294_967, "at": 1_795_435_200, "ever": true },
        ]);
        assert_eq!(
            send(&host, Some(TOKEN), body.to_string()),
            (200, json!({ "recorded": 3 })),
            "{kind}"
        );
        let lines = "{\"event\":\"active\",\"user\":3}\n\n  {\"event\":\"active\",\"user\":1,\"value\":false,\"at\":\"2026-11-23\"}\r\n";
        assert_eq!(
            send(&host, Some(TOKEN), lines),
            (200, json!({ "recorded": 2 })),
            "{kind}"
        );
        let members = |event: &str, period: &str| -> Vec<u32> {
            let set = match period {
                "ever" => Set::ever(&name(event)),
                period => Set::event_in(&name(event), period.parse().unwrap()),
            };
            tracker.members(&set).map(Result::unwrap).collect()
        };
        assert_eq!(members("active", "2026-11-23"), [3], "{kind}");
        assert_eq!(members("active", "2026-11-21"), [2]);
        assert_eq!(members("active", "2026-11-21T01"), [2]);
        assert_eq!(members("active", "2026-W47"), [2]);
        assert_eq!(
            members("active", "2026-11-23T19"),
            Vec::<u32>::new(),
            "hours only when asked for"
        );
        assert_eq!(members("söng \"x\"", "2026-11-23"), [4_294_967]);
        assert_eq!(members("söng \"x\"", "ever"), [4_294_967]);
        assert_eq!(send(&host, Some(TOKEN), "").1, json!({ "recorded": 0 }));
        assert_eq!(send(&host, Some(TOKEN), "[]").1, json!({ "recorded": 0 }));
    });
}

#[test]
fn one_bad_entry_and_nothing_is_recorded() {
    let tracker = empty();
    let host = open(tracker.clone());
    let good = json!({ "event": "active", "user": 7 });
    let bad = [
        (json!({ "event": "active" }), "missing field `user`"),
        (json!({ "user": 1 }), "missing field `event`"),
        (json!({ "event": "", "user": 1 }), "must not be empty"),
        (json!({ "event": "bitop_x", "user": 1 }), "bitop_"),
        (
            json!({ "event": "a", "user": -1 }),
            "`-1` is not a valid user id",
        ),
        (
            json!({ "event": "a", "user": 4_294_967_296_u64 }),
            "not a valid user id",
        ),
        (json!({ "event": "a", "user": null }), "`user`"),
        (json!({ "event": "a", "user": 1, "at": null }), "`at`"),
        (
            json!({ "event": "a", "user": 1, "at": "yesterday" }),
            "`at`: ",
        ),
        (json!({ "event": "a", "user": 1, "at": 1.5 }), "`at`"),
        (
            json!({ "event": "a", "user": 1, "at": 99_999_999_999_999_i64 }),
            "`at`",
        ),
        (
            json!({ "event": "a", "user": 1, "hourley": true }),
            "unknown field `hourley`",
        ),
        (json!(17), "invalid type"),
        (json!(null), "invalid type"),
    ];
    for (entry, said) in &bad {
        let validator = schema(&API["components"]["schemas"]["Mark"]);
        let body = json!([good, entry, good]).to_string();
        let (status, answer) = send(&host, Some(TOKEN), &body);
        let told = &answer["error"]["entries"][0];
        assert_eq!((status, &told["index"]), (400, &json!(1)), "{entry}");
        assert!(
            told["message"].as_str().unwrap().contains(said),
            "{entry}: {told}"
        );
        // The description knows most of these as well; what it cannot say is said in words.
        let beyond = ["bitop_", "`at`: ", "`at`"].contains(said);
        assert!(
            beyond || !validator.is_valid(entry),
            "{entry} fits the description"
        );
    }
    let all: Vec<&Value> = bad
        .iter()
        .map(|(entry, _)| entry)
        .cycle()
        .take(250)
        .collect();
    let (_, answer) = send(&host, Some(TOKEN), json!(all).to_string());
    assert_eq!(
        answer["error"]["message"],
        "250 entries are wrong, so nothing was recorded"
    );
    assert_eq!(answer["error"]["entries"].as_array().unwrap().len(), 100);
    for (body, index) in [
        ("[{\"event\":\"active\",\"user\":7}", 0),
        ("{\"event\":\"active\",\"user\":7}\n{\"eve", 1),
        ("x", 0),
    ] {
        let (status, answer) = send(&host, Some(TOKEN), body);
        assert_eq!(
            (status, &answer["error"]["entries"][0]["index"]),
            (400, &json!(index)),
            "{body}"
        );
    }
    assert_eq!(send(&host, Some(TOKEN), b"[\"\xff\"]").0, 400);
    assert_eq!(send(&host, Some(TOKEN), vec![b' '; (16 << 20) + 1]).0, 413);
    let encoded = agent()
        .post(format!("{host}/api/v1/marks"))
        .header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(
        encoded
            .header("content-encoding", "gzip")
            .send("x")
            .unwrap()
            .status()
            .as_u16(),
        415
    );
    assert!(
        tracker.events("").unwrap().is_empty(),
        "nothing of all this was recorded"
    );
}

#[test]
fn only_the_token_opens_the_door() {
    let tracker = empty();
    let mark = json!([{ "event": "active", "user": 1 }]).to_string();
    let host = open(tracker.clone());
    for token in [
        None,
        Some(""),
        Some("wrong"),
        Some("a-token-for-tests-onlz"),
        Some("a-token-for-tests-only2"),
    ] {
        let (status, answer) = send(&host, token, &mark);
        assert_eq!(status, 401, "{token:?}");
        assert!(!answer.to_string().contains(TOKEN));
    }
    let closed = format!("http://{}", serve(tracker.clone()));
    let (status, answer) = send(&closed, Some(TOKEN), &mark);
    assert!(
        status == 403
            && answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains("--write-token"),
        "{answer}"
    );
    let mut dashboard = Dashboard::new(tracker.clone(), Clock::Fixed(now()));
    dashboard.write_token = Some(TOKEN.to_owned());
    dashboard.stores.push(NamedStore {
        name: "locked".to_owned(),
        tracker: tracker.clone(),
        read_only: true,
    });
    assert!(!format!("{dashboard:?}").contains(TOKEN));
    let host = format!("http://{}", serve_dashboard(dashboard));
    let locked = agent()
        .post(format!("{host}/in/locked/api/v1/marks"))
        .header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(locked.send(&mark).unwrap().status().as_u16(), 403);
    assert!(tracker.events("").unwrap().is_empty());
    assert_eq!(send(&host, Some(TOKEN), &mark).0, 200);
}

/// A store that syncs each batch and whose disk fails has the marks none the less: the sender is
/// told so, and must not be led to send them again.
#[test]
fn marks_that_a_power_cut_may_lose_are_recorded_and_said_to_be() {
    let inner = cohortist::store::open("memory:", &cohortist::store::Options::default()).unwrap();
    let unsynced = |done: Result<(), StoreError>| {
        done.and_then(|()| {
            Err(StoreError::Unsynced {
                path: "/data".into(),
                reason: "the disk failed".into(),
                source: None,
            })
        })
    };
    let tracker = Tracker::new(Bent::of(&inner).applying(unsynced).shared());
    let mut batch = tracker.batch();
    batch.mark(&name("active"), 9, now()).unwrap();
    assert!(matches!(
        batch.commit(),
        Err(cohortist::Error::Store(StoreError::Unsynced { .. }))
    ));
    assert!(
        batch.is_empty(),
        "it was written, and is not to be written again"
    );
    let host = open(tracker);
    let (status, said) = send(
        &host,
        Some(TOKEN),
        json!([{"event": "active", "user": 7}]).to_string(),
    );
    assert_eq!((status, &said["recorded"]), (200, &json!(1)));
    assert!(
        said["warning"]
            .as_str()
            .unwrap()
            .contains("not safe from a power cut"),
        "{said}"
    );
    assert_eq!(
        get(&host, "/api/v1/count", "set=active@2026-11-23")["counts"][0]["count"],
        2
    );
    // Without such a failure nothing is said.
    let host = open(empty());
    let (_, said) = send(
        &host,
        Some(TOKEN),
        json!([{"event": "active", "user": 7}]).to_string(),
    );
    assert_eq!(said, json!({"recorded": 1}));
}
