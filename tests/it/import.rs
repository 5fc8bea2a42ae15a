//! `cohortist import`: what it reads, what it makes of it, and that an interrupted one goes on.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command};

use cohortist::ingest::{Columns, Gather, Names, Position, Problem, Records};
use proptest::prelude::*;

use crate::support::program::Shop;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

const SMALL: &str = "user,event,timestamp\n1,a,2026-11-23\n2,a,2026-11-23\n";

#[test]
fn packed_files_are_told_by_their_bytes_whatever_they_are_called() {
    let shop = Shop::new();
    let two = [
        gzip(b"user,event,timestamp\n5,b,2026-11-23\n"),
        gzip(b"6,b,2026-11-23\n"),
    ]
    .concat();
    for (name, bytes) in [
        ("a.csv.gz", gzip(SMALL.as_bytes())),
        ("a.csv", zstd(SMALL.as_bytes())),
        ("a", two),
    ] {
        let file = shop.write(name, bytes);
        assert_eq!(
            shop.run(&["import", &file]).quietly(),
            "imported 2 marks of 1 event by 2 users from 1 file\n2 lines, on 2026-11-23\n"
        );
    }
    assert_eq!(shop.run(&["people", "b@2026-11-23"]).quietly(), "5\n6\n");
    for bytes in [gzip(SMALL.as_bytes()), zstd(SMALL.as_bytes())] {
        let said = shop.pipe(&["import", "-"], &bytes).quietly();
        assert_eq!(
            said,
            "imported 2 marks of 1 event by 2 users from 1 file\n2 lines, on 2026-11-23\n"
        );
    }
}

#[test]
fn a_packed_file_that_is_cut_short_says_so_and_keeps_what_came_before() {
    let shop = Shop::new();
    let lines: String = (0..200_000)
        .map(|n| format!("{},a,2026-11-{}\n", n * 7919 % 1_000_003, 1 + n % 30))
        .collect();
    let whole = format!("user,event,timestamp\n{lines}");
    for (name, bytes) in [
        ("a.csv.gz", gzip(whole.as_bytes())),
        ("a.csv.zst", zstd(whole.as_bytes())),
    ] {
        let file = shop.write(name, &bytes[..bytes.len() / 2]);
        let error = shop.run(&["import", &file]).error(1);
        assert!(error.contains("the file is cut off. The "), "{error}");
        assert!(
            error.contains("records before that are imported, nothing after it"),
            "{error}"
        );
    }
}

#[test]
fn columns_are_found_by_their_usual_names_and_said_first() {
    let shop = Shop::new();
    let file = shop.write("a.csv", "id,UID,event_name,created_at\n9,1,a,2026-11-23\n");
    let ran = shop.run(&["import", &file]);
    assert_eq!(
        ran.err,
        "a.csv: `UID` is the user, `event_name` the event, `created_at` the time\n"
    );
    assert_eq!(
        ran.out,
        "imported 1 mark of 1 event by 1 user from 1 file\n1 line, on 2026-11-23\n"
    );
    // `user` before `user_id`, whatever their order; what was asked for is not guessed.
    let file = shop.write("b.csv", "user_id,user,event,ts\n1,2,b,2026-11-23\n");
    assert_eq!(
        shop.run(&["import", &file]).err,
        "b.csv: `user` is the user, `event` the event, `ts` the time\n"
    );
    shop.run(&[
        "import",
        &file,
        "--user-column",
        "user_id",
        "--time-column",
        "ts",
    ])
    .quietly();
    assert_eq!(shop.run(&["people", "b@2026-11-23"]).quietly(), "1\n2\n");
    let said = shop.pipe(
        &["import", "-"],
        b"{\"distinct_id\":3,\"event\":\"b\",\"time\":1795442400}\n",
    );
    assert_eq!(
        said.err,
        "stdin: `distinct_id` is the user, `event` the event, `time` the time\n"
    );
    assert_eq!(shop.run(&["people", "b@2026-11-23"]).quietly(), "1\n2\n3\n");
}

#[test]
fn exports_of_mixpanel_posthog_and_amplitude_are_recognised() {
    let shop = Shop::new();
    let mixpanel = shop.write(
        "mixpanel",
        concat!(
            r#"{"event":"Played Song","properties":{"time":1795442400,"distinct_id":"7","$insert_id":"5d958f87","plan":"pro","mp_country_code":"US"}}"#,
            "\n",
            r#"{"event":"Played Song","properties":{"time":1795442400123,"distinct_id":8,"$insert_id":"x","plan":null}}"#,
            "\n",
            r#"{"event":"Played Song","properties":{"time":1795442400,"distinct_id":"john.doe@example.com"}}"#,
            "\n",
        ),
    );
    let ran = shop.run(&[
        "import",
        &mixpanel,
        "--property",
        "plan",
        "--property",
        "mp_country_code",
    ]);
    insta::assert_snapshot!(ran.err, @r"
    mixpanel: a Mixpanel export: `properties.distinct_id` is the user, `event` the event, `properties.time` the time
    mixpanel, line 3: `john.doe@example.com` is not a valid user id: this store uses numeric ids from 0 to 4294967295 (for string ids, create a store with --ids map) — skipped
    note: 1 time was read as milliseconds since 1970, because of the size (see --time-unit)
    error: 33.3 % of the lines were skipped, more than 5 %; the others were imported. To change this, create a store with --ids map for ids that are not whole numbers up to 4294967295, or accept it with --max-skipped
    ");
    assert!(
        ran.out.starts_with("imported 2 marks of 1 event by 2 users from 1 file, 2 values of 2 properties, skipped 1 line\n"),
        "{}",
        ran.out
    );
    assert_eq!(
        shop.run(&["people", "\"Played Song\"@2026-11-23"])
            .quietly(),
        "7\n8\n"
    );
    assert_eq!(
        shop.run(&["people", "plan:pro@ever & mp_country_code:US@ever"])
            .quietly(),
        "7\n"
    );

    let posthog = shop.write(
        "posthog.csv",
        "id,distinct_id,properties.$browser,event,timestamp,person,elements_chain\r\n\
         e9ca132e-400f-4854-a83c-16c151b2f145,2,Safari,$pageview,2026-11-23T19:37:43.095295+00:00,,\r\n\
         1624228e-a4f1-48cd-aabc-6baa3ddb22e4,3,,$pageview,2026-11-23T19:37:43.095279+00:00,,\r\n",
    );
    let ran = shop.run(&["import", &posthog, "--property", "$browser"]);
    assert_eq!(
        ran.err,
        "posthog.csv: a PostHog export: `distinct_id` is the user, `event` the event, `timestamp` the time\n"
    );
    assert_eq!(
        shop.run(&["people", "$pageview@2026-11-23"]).quietly(),
        "2\n3\n"
    );
    assert_eq!(
        shop.run(&["people", "$browser:Safari@ever"]).quietly(),
        "2\n"
    );

    let amplitude = shop.write(
        "amplitude.json.gz",
        gzip(
            concat!(
                r#"{"$insert_id":"a","amplitude_id":1,"app":5,"device_id":"d","user_id":null,"event_type":"login","event_time":"2026-11-23 00:45:29.430000","country":"Norway","event_properties":{},"user_properties":{"tier":2}}"#,
                "\n",
                r#"{"$insert_id":"b","amplitude_id":2,"app":5,"device_id":"e","user_id":"12345","event_type":"login","event_time":"2026-11-23 23:59:59.999999","country":"Norway","event_properties":{},"user_properties":{"tier":2.5}}"#,
                "\n",
            )
            .as_bytes(),
        ),
    );
    let ran = shop.run(&["import", &amplitude, "--property", "country,tier"]);
    insta::assert_snapshot!(ran.err, @r"
    amplitude.json.gz: an Amplitude export: `user_id` is the user, `event_type` the event, `event_time` the time
    amplitude.json.gz, line 1: `user_id` is null, not a text or number — skipped
    error: 50.0 % of the lines were skipped, more than 5 %; the others were imported. To change this, name other columns that hold the user with --user-column NAME,NAME, or accept it with --max-skipped
    ");
    assert_eq!(
        shop.run(&[
            "people",
            "login@2026-11-23 & country:Norway@ever & tier:2.5@ever"
        ])
        .quietly(),
        "12345\n"
    );
}

#[test]
fn properties_have_limits_and_say_what_was_left_out() {
    let shop = Shop::new();
    let long = "x".repeat(300);
    let file = shop.write(
        "a.csv",
        format!(
            "user,event,timestamp,plan\n1,a,2026-11-23,pro\n2,a,2026-11-23, pro \n3,a,2026-11-23,\n4,a,2026-11-23,free: 1 & 2\n5,a,2026-11-23,b\n6,a,2026-11-23,c\n7,a,2026-11-23,{long}\n8,a,2026-11-23,pro\n"
        ),
    );
    let ran = shop.run(&[
        "import",
        &file,
        "--property",
        "plan",
        "--property-values",
        "2",
    ]);
    assert_eq!(
        ran.out,
        "imported 8 marks of 1 event by 8 users from 1 file, 2 values of 1 property\n8 lines, on 2026-11-23\n"
    );
    insta::assert_snapshot!(ran.err, @r"
    note: `plan` has more than 2 different values; the others, on 2 lines, were skipped (see --property-values)
    note: the value of `plan` on 1 line cannot become an event name: it is too long, contains control characters, or is a list or an object
    ");
    assert_eq!(
        shop.run(&["people", "plan:pro@ever"]).quietly(),
        "1\n2\n8\n"
    );
    assert_eq!(
        shop.run(&["events"]).quietly(),
        "a\nplan:free: 1 & 2\nplan:pro\n"
    );
    let error = shop
        .run(&["import", &file, "--property", "country"])
        .error(1);
    assert!(
        error.contains("there is no column `country`") && error.contains("with --property NAME"),
        "{error}"
    );
    assert!(
        shop.run(&["import", &file, "--property", "bitop_x"])
            .error(2)
            .contains("bitop_")
    );
}

/// How many rows are written together where an import is interrupted, and how many there are to
/// import.
pub const BATCH: &str = "2000";
const ROWS: u32 = 40_000;

fn many_rows(rows: u32) -> String {
    let mut text = String::from("user,event,timestamp\n");
    for n in 0..rows {
        let user = n.wrapping_mul(2_654_435_761) % 200_000;
        text += &format!(
            "{user},event{},2026-{:02}-{:02}\n",
            n % 7,
            1 + n % 11,
            1 + n % 28
        );
    }
    text
}

fn counts(shop: &Shop, store: &[&str]) -> String {
    let sets: Vec<String> = (0..7)
        .flat_map(|e| (1..12).map(move |m| format!("event{e}@2026-{m:02}")))
        .collect();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    shop.run(&[store, &["count"], &sets].concat()).done()
}

/// Waits until an import into Redis has a new checkpoint beside a file. The proxy lets one
/// transaction pass after the other, so that the import is never done too soon.
fn until_checkpoint(shop: &Shop, child: &mut Child, proxy: &Proxy, file: &str) {
    let checkpoint = shop.path(&format!("{file}.cohortist-import"));
    let before = fs::read(&checkpoint).ok();
    while fs::read(&checkpoint).ok() == before {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            panic!("it ended before it had a checkpoint, {status}: {said}");
        }
        // What it does after a transaction is done when it wants to begin the next.
        proxy.step();
    }
}

/// Kills an import, in small batches, as soon as it has checkpoints of so many files; answers what
/// the last file's checkpoint said.
///
/// Into Redis it goes by way of a proxy that steps it. One into files of its own is killed by the
/// system when it is about to keep one checkpoint more.
pub fn kill_at_checkpoint(
    shop: &Shop,
    args: &[&str],
    proxy: Option<&Proxy>,
    file: &str,
    files: usize,
) -> serde_json::Value {
    let args = [args, &["--batch-rows", BATCH]].concat();
    match proxy {
        Some(proxy) => {
            proxy.hold(b"EXEC\r\n");
            let mut child = shop.start(&args);
            until_checkpoint(shop, &mut child, proxy, file);
            child.kill().unwrap();
            child.wait().unwrap();
            // What it sent and is held goes nowhere.
            proxy.cut();
            proxy.release();
        }
        None => {
            let inject = format!(
                "inject=rename,renameat,renameat2:signal=SIGKILL:when={}",
                files + 1
            );
            // As the program names it: the files of the store are replaced, too.
            let checkpoint = format!("{file}.cohortist-import.new");
            let options = [
                "-P",
                &checkpoint,
                "-e",
                "trace=rename,renameat,renameat2",
                "-e",
                &inject,
            ];
            let mut command = shop.traced(&options, &[&["--sync", "always"], &*args].concat());
            let ended = command
                .output()
                .expect("strace is needed: apt-get install strace");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(
                !ended.status.success() && ended.stdout.is_empty(),
                "it ended before it was killed: {said}"
            );
        }
    }
    serde_json::from_slice(&fs::read(shop.path(&format!("{file}.cohortist-import"))).unwrap())
        .unwrap()
}

#[test]
fn a_killed_import_goes_on_where_it_was_and_loses_nothing() {
    let server = RedisServer::start();
    let proxy = Proxy::before(&server.url());
    let url = proxy.url();
    let shop = Shop::new();
    let text = many_rows(ROWS);
    shop.write("small.csv", SMALL);
    shop.write("plain.csv", &text);
    shop.write("packed.csv.gz", gzip(text.as_bytes()));
    let whole = Shop::new();
    whole.write("plain.csv", &text);
    whole.run(&["import", "plain.csv"]).quietly();
    let expected = counts(&whole, &[]);
    let to_redis = ["--store", &url, "--redis-timeout", "60"];
    for (file, store, proxy) in [
        ("plain.csv", &[][..], None),
        ("packed.csv.gz", &to_redis, Some(&proxy)),
    ] {
        let args = [store, &["import", "--resume", "small.csv", file]].concat();
        let then = kill_at_checkpoint(&shop, &args, proxy, file, 2);
        let (before, line) = (
            then["records"].as_u64().unwrap(),
            then["line"].as_u64().unwrap(),
        );
        assert!(
            before > 0 && line == before + 1 && then["done"] == false,
            "{then}"
        );
        let said = shop.run(&args).quietly();
        // Of the files that were in as a whole nothing is read again.
        let left = u64::from(ROWS) - before;
        assert!(
            said.starts_with(&format!("imported {} marks of 7 events", thousands(left))),
            "{said}"
        );
        assert!(
            said.contains(&format!(
                "from 2 files; {} marks were imported before\n",
                thousands(before + 2)
            )),
            "{said}"
        );
        assert_eq!(counts(&shop, store), expected);
        assert!(!shop.path(&format!("{file}.cohortist-import")).exists());
        assert!(!shop.path("small.csv.cohortist-import").exists());
    }
}

#[test]
fn a_checkpoint_is_trusted_for_the_same_file_store_and_columns_only() {
    let shop = Shop::new();
    let lines: String = (0..20_000)
        .map(|n| format!("{},a,2026-11-{}\n", n * 7919 % 1_000_003, 1 + n % 30))
        .collect();
    let packed = gzip(format!("user,event,timestamp\n{lines}").as_bytes());
    let cut = &packed[..packed.len() / 2];
    let file = shop.write("a.csv.gz", cut);
    let error = shop.run(&["import", "--resume", &file]).error(1);
    assert!(
        error.ends_with("nothing after it; --resume resumes there\n"),
        "{error}"
    );
    // What could be read is in: there is nothing to do before it fails once more.
    let again = shop.run(&["import", "--resume", &file]).error(1);
    assert_eq!(again, error);
    let note = |args: &[&str]| {
        let error = shop.run(&[&["import", "--resume"], args].concat()).error(1);
        error
            .lines()
            .find(|line| line.starts_with("note: "))
            .unwrap_or("no note")
            .to_owned()
    };
    assert_eq!(note(&[&file]), "no note");
    let hint = shop.run(&["import", &file]).error(1);
    assert!(
        hint.starts_with("note: an earlier import of a.csv.gz stopped after line ")
            && hint.contains("--resume")
    );
    assert!(note(&["--store", "./other.db", &file]).ends_with("another store"));
    assert!(
        note(&["--ever", "--store", "./other.db", &file]).ends_with("other columns or options")
    );
    shop.run(&["import", "--resume", &file]).error(1);
    shop.run(&["delete", "--all", "--yes"]).done();
    assert!(note(&[&file]).ends_with("the store does not have what was imported"));
    shop.write("a.csv.gz", &packed);
    let ran = shop.run(&["import", "--resume", &file]);
    assert_eq!(
        ran.err,
        "note: a.csv.gz is imported from the beginning, because its checkpoint cannot be used: the file has changed\n"
    );
    assert!(ran.out.starts_with("imported 20,000 marks"), "{}", ran.out);
    assert!(
        shop.run(&["import", "--resume", "-"])
            .error(2)
            .contains("cannot be resumed")
    );
}

#[test]
fn a_store_that_fails_stops_the_import_and_says_how_far_it_got() {
    let mut server = RedisServer::start();
    let proxy = Proxy::before(&server.url());
    let url = proxy.url();
    let shop = Shop::new();
    shop.write("a.csv", many_rows(ROWS));
    let args = [
        "--store",
        &url,
        "--redis-timeout",
        "60",
        "import",
        "a.csv",
        "--batch-rows",
        BATCH,
    ];
    proxy.hold(b"EXEC\r\n");
    let mut child = shop.start(&args);
    until_checkpoint(&shop, &mut child, &proxy, "a.csv");
    server.stop();
    proxy.release();
    let error = crate::support::program::Ran::from(child.wait_with_output().unwrap()).error(1);
    assert!(
        error.contains("does not answer") && error.contains("records before that are imported"),
        "{error}"
    );
    assert!(error.ends_with("--resume resumes there\n"), "{error}");
}

fn thousands(number: u64) -> String {
    cohortist::render::thousands(number)
}

#[test]
fn lines_are_taken_as_they_come_through_a_slow_pipe() {
    let shop = Shop::new();
    let script = format!(
        "(printf 'us'; sleep 0.1; printf 'er,event,timestamp\\n1,a,2026'; sleep 0.1; printf -- '-11-23\\n') | {} import -",
        env!("CARGO_BIN_EXE_cohortist")
    );
    let ran = Command::new("sh")
        .arg("-c")
        .arg(script)
        .current_dir(shop.path(""))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "imported 1 mark of 1 event by 1 user from 1 file\n1 line, on 2026-11-23\n"
    );
}

/// What a reader makes of bytes: each row or problem, and the position behind it.
fn read(mut records: Records<&[u8]>, names: &mut Names) -> Vec<(String, Position)> {
    let mut found = Vec::new();
    while let Some(row) = records.next(names) {
        let shown = match row {
            Ok(row) => format!(
                "{} {} {} {:?}",
                names.get(row.event).unwrap(),
                row.user,
                row.at,
                records.properties()
            ),
            Err(Problem::Line { line, reason, .. }) => format!("line {line}: {reason}"),
            Err(problem) => panic!("{problem}"),
        };
        found.push((shown, records.position()));
    }
    found
}

fn piece() -> impl Strategy<Value = String> {
    let csv = "(7|-1|4294967295|x|),(a|\"b, \"\"c\"\"\"|\"d\ne\"|),(2026-11-23|1795442400|2026-02-30T1|)(,pro)?(\r)?\n";
    let json = "\\{\"user\":(1|\"2\"|null|1.5),\"event\":\"(a|\\\\u00e9)\",\"timestamp\":(0|\"2026-11-23\"|1795442400),\"plan\":(1|2.5|true|\\[\\]|\"x\")\\}\n";
    prop_oneof![6 => csv, 4 => json, 1 => "\n", 1 => "\r\n", 1 => "[ -~\n]{0,12}", 1 => "\"", 1 => "\u{feff}7,a,2026-11-23\n"]
}

proptest! {
    /// Reading on from behind any line gives what reading through gives, and nothing makes a reader
    /// panic.
    #[test]
    fn reading_on_from_any_line_is_reading_through(pieces in prop::collection::vec(piece(), 0..12), json: bool) {
        let wishes = Columns { properties: if json { vec!["plan".into()] } else { Vec::new() }, ..Columns::default() };
        let head = if json { "{\"user\":1,\"event\":\"a\",\"timestamp\":0}\n" } else { "user,event,timestamp,plan\n" };
        let text = format!("{head}{}", pieces.concat());
        let mut names = Names::new(&wishes.properties, 100).unwrap();
        let records = Records::open(text.as_bytes(), None, &wishes, &mut names).unwrap();
        let layout = records.layout().clone();
        let through = read(records, &mut names);
        for (place, (_, at)) in through.iter().enumerate() {
            let rest = &text.as_bytes()[usize::try_from(at.byte).unwrap().min(text.len())..];
            let on = read(Records::resume(rest, &layout, &wishes, *at, &mut names), &mut names);
            prop_assert_eq!(&on[..], &through[place + 1..], "{:?} from {:?}", text, at);
        }
    }

    /// Each bit once, in order, and just those that marking row by row sets.
    #[test]
    fn gathered_bits_are_those_of_the_rows(
        rows in prop::collection::vec((0_u32..3, 0_u32..9, 1_790_000_000_i64..1_800_000_000), 0..60),
        hourly: bool,
        ever: bool,
    ) {
        use std::collections::BTreeSet;
        use cohortist::sets::{EventName, Key};
        let mut names = Names::new(&[], 1).unwrap();
        let text: String = rows.iter().map(|(e, u, at)| format!("{u},e{e},{at}\n")).collect();
        let text = format!("user,event,timestamp\n{text}");
        let mut records = Records::open(text.as_bytes(), None, &Columns::default(), &mut names).unwrap();
        let mut gather = Gather::new(hourly, ever);
        while let Some(row) = records.next(&mut names) {
            gather.add(row.unwrap(), &[]);
        }
        let bits = gather.drain(&names).bits().unwrap();
        let mut expected = BTreeSet::new();
        for (event, user, at) in &rows {
            let event = EventName::new(&format!("e{event}")).unwrap();
            let at = chrono::DateTime::from_timestamp(*at, 0).unwrap();
            expected.extend(Key::of_mark(&event, at, hourly).unwrap().map(|key| (key, *user)));
            expected.extend(ever.then(|| (Key::ever(event.clone()), *user)));
        }
        let found: Vec<(Key, u32)> =
            bits.groups().flat_map(|(key, users)| users.iter().map(|user| (key.clone(), *user))).collect();
        prop_assert_eq!(found.len(), expected.len());
        prop_assert!(bits.groups().all(|(_, users)| users.is_sorted()));
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        prop_assert!(gather.drain(&names).bits().unwrap().is_empty());
    }
}
