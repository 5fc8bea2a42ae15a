//! Small files as other programs write them, with the right answer. Each directory of `tests/cases`
//! names its source.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::program::{Ran, Shop};

/// A shop with the files of a case.
fn case(name: &str) -> Shop {
    let shop = Shop::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(name);
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        shop.write(&name, fs::read(&path).unwrap());
    }
    shop
}

fn count(shop: &Shop, set: &str) -> String {
    shop.run(&["count", set]).done().trim().to_owned()
}

fn events(shop: &Shop) -> String {
    shop.run(&["events"]).done()
}

/// The notes on stderr.
fn notes(ran: &Ran) -> Vec<&str> {
    ran.err
        .lines()
        .filter_map(|line| line.strip_prefix("note: "))
        .collect()
}

#[test]
fn ids_beyond_the_numbers_name_the_store_that_has_them() {
    let shop = case("big-number-ids");
    for args in [
        &["import", "amp.json", "--user-column", "amplitude_id"][..],
        &["import", "one.csv"],
    ] {
        let ran = shop.run(args);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("--ids map"), "{}", ran.err);
    }
    let error = shop.run(&["mark", "a", "192329230202"]).error(2);
    assert!(error.contains("--ids map"), "{error}");
    // Nothing was recorded, so the store may have string ids.
    let shop = case("big-number-ids");
    let ran = shop.run(&["--ids", "map", "import", "amp.json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        count(&shop, "open@2024-05"),
        "2",
        "Amplitude counts two people"
    );
    assert_eq!(
        shop.run(&["people", "open@2024-05"]).done(),
        "123456789012\n123456789013\n"
    );
    // In a store of numbers rows without a user of one's own are nobody's.
    let shop = case("big-number-ids");
    shop.write("amp.json", r#"{"event_type":"open","event_time":"2024-05-01 12:34:56.000000","user_id":null,"amplitude_id":1}
{"event_type":"open","event_time":"2024-05-01 12:34:56.000000","user_id":"7","amplitude_id":1}
"#);
    let ran = shop.run(&["import", "amp.json"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.out.contains("1 without a user"), "{}", ran.out);
    assert_eq!(shop.run(&["people", "open@2024-05"]).done(), "7\n");
}

#[test]
fn white_space_around_a_name_makes_no_other_event() {
    let shop = case("blank-around-event");
    let ran = shop.run(&["import", "in.csv"]);
    assert_eq!(count(&shop, "signup@2021-01-04"), "3");
    assert_eq!(events(&shop), "signup\n");
    assert_eq!(notes(&ran).len(), 1, "{}", ran.err);
    assert!(notes(&ran)[0].contains("`signup`"), "{}", ran.err);
    // In properties, in JSON and in names that look the same as well.
    let shop = Shop::new();
    shop.write(
        "a.ndjson",
        "{\"user\":1,\"event\":\"cafe\u{301}\",\"timestamp\":\"2021-01-04\",\"plan\":\" pro\"}\n\
         {\"user\":2,\"event\":\"\u{a0}caf\u{e9}\",\"timestamp\":\"2021-01-04\",\"plan\":\"pro\u{3000}\"}\n",
    );
    let ran = shop.run(&["import", "a.ndjson", "--property", "plan"]);
    assert_eq!(events(&shop), "caf\u{e9}\nplan:pro\n");
    assert_eq!(count(&shop, "plan:pro@ever"), "2");
    assert!(ran.err.contains("`caf\u{e9}`"), "{}", ran.err);
    shop.run(&["mark", " cafe\u{301} ", "3", "--at", "2021-01-04"])
        .done();
    assert_eq!(count(&shop, "caf\u{e9}@2021-01-04"), "3");
    // A question finds the event in both forms.
    for set in ["caf\u{e9}@2021-01-04", "cafe\u{301}@2021-01-04"] {
        let ran = shop.run(&["count", set]);
        assert_eq!((ran.out.trim(), ran.err.as_str()), ("3", ""), "{set}");
    }
    let table = |event: &str| {
        let period = [
            "--from",
            "2021-01-04",
            "--to",
            "2021-01-04",
            "--format",
            "csv",
        ];
        let args = [&["retention", event, event, "--by", "day"], &period[..]].concat();
        shop.run(&args).quietly()
    };
    assert!(
        table("cafe\u{301}").contains(",3,"),
        "{}",
        table("cafe\u{301}")
    );
    assert_eq!(
        table("cafe\u{301}").lines().nth(1),
        table("caf\u{e9}").lines().nth(1)
    );
    // A file that is the same throughout has nothing to report.
    shop.write(
        "b.csv",
        "user, event\n1, signup\n2, signup\n"
            .replace("event", "event, timestamp")
            .replace("signup", "signup, 2021-01-04"),
    );
    shop.run(&["import", "b.csv"]).quietly();
}

#[test]
fn properties_are_found_at_any_depth() {
    let shop = case("deep-json");
    shop.run(&["import", "seg.ndjson", "--property", "context.traits.plan"])
        .quietly();
    assert_eq!(count(&shop, "context.traits.plan:pro@ever"), "1");
    for (wish, event) in [
        ("context.*", "context.traits.plan:pro@ever"),
        ("*.plan", "context.traits.plan:pro@ever"),
    ] {
        let shop = case("deep-json");
        shop.run(&["import", "seg.ndjson", "--property", wish])
            .quietly();
        assert_eq!(count(&shop, event), "1", "{wish}");
    }
}

#[test]
fn the_separator_is_told_by_its_line_or_by_the_header() {
    let shop = case("excel-sep-line");
    assert_eq!(
        shop.run(&["import", "in.csv"]).quietly(),
        "imported 1 mark of 1 event by 1 user from 1 file\n1 line, on 2021-01-04\n"
    );
    for text in [
        "\"sep=|\"\r\nuser|event|timestamp\r\n1|a|2021-01-04\r\n",
        "sep=\t\nuser\tevent\ttimestamp\n1\ta\t2021-01-04\n",
        "user|event|timestamp\n1|a|2021-01-04\n",
        // The commas are in quotes.
        "\"a,b,c,d,e\";user;event;timestamp\n;1;a;2021-01-04\n",
    ] {
        let ran = shop.pipe(&["import", "-"], text.as_bytes());
        assert!(
            ran.quietly()
                .starts_with("imported 1 mark of 1 event by 1 user"),
            "{text}"
        );
    }
    // A line number counts the line of the separator.
    let ran = shop.pipe(
        &["import", "-"],
        b"sep=;\nuser;event;timestamp\nx;a;2021-01-04\n",
    );
    assert!(ran.err.contains("stdin, line 3: `x`"), "{}", ran.err);
}

#[test]
fn a_file_without_a_header_is_recognized_or_described() {
    let shop = case("headerless");
    let ran = shop.run(&["import", "in.tsv", "--event", "active"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("column 1 is the user, column 2 the time"),
        "{}",
        ran.err
    );
    assert_eq!(count(&shop, "active@2010-01"), "2");
    assert_eq!(count(&shop, "active@2010-02"), "1");
    for options in [
        &["--columns", "user,time"][..],
        &["--columns", "1,2"],
        &[
            "--columns",
            "who,when",
            "--user-column",
            "who",
            "--time-column",
            "when",
        ],
        &["--user-column", "1", "--time-column", "2"],
    ] {
        let shop = case("headerless");
        let ran = shop.run(&[&["import", "in.tsv", "--event", "active"], options].concat());
        assert!(
            ran.out
                .starts_with("imported 3 marks of 1 event by 2 users"),
            "{options:?}: {}",
            ran.err
        );
        assert_eq!(count(&shop, "active@2010-02"), "1");
    }
    // With an event the order is known if only one column is a number.
    let shop = Shop::new();
    let ran = shop.pipe(
        &["import", "-"],
        b"signup,7,2021-01-04\nsignup,8,2021-01-04\n",
    );
    assert!(
        ran.out
            .starts_with("imported 2 marks of 1 event by 2 users"),
        "{}",
        ran.err
    );
    let ran = shop.pipe(
        &["import", "-", "--columns", "3,2,1"],
        b"2021-01-04,signup,7\n",
    );
    assert!(ran.quietly().starts_with("imported 1 mark"));
    // Where it is not, the message says what to do.
    for text in ["a,b,2021-01-04\n", "1,2,3,2021-01-04\n"] {
        let error = shop.pipe(&["import", "-"], text.as_bytes()).error(1);
        assert!(
            error.contains("looks like data") && error.contains("--columns"),
            "{error}"
        );
    }
}

#[test]
fn all_mistakes_of_a_header_are_reported_together() {
    let shop = Shop::new();
    let error = shop
        .pipe(&["import", "-", "--property", "plan"], b"who,what\n1,a\n")
        .error(1);
    for said in [
        "`user`",
        "`event`",
        "`timestamp`",
        "`plan`",
        "--user-column",
        "--event-column",
        "--time-column",
        "--property",
    ] {
        assert!(error.contains(said), "{said}: {error}");
    }
    let ran = shop.pipe(
        &["import", "-"],
        b"User ID,Event-Name,CreatedAt\n1,a,2021-01-04\n",
    );
    assert!(ran.out.starts_with("imported 1 mark"), "{}", ran.err);
    // Plausible's files hold totals.
    let error = shop
        .pipe(
            &["import", "-"],
            b"date,visitors,pageviews\n2021-01-04,5,7\n",
        )
        .error(1);
    assert!(error.contains("totals"), "{error}");
}

#[test]
fn zeros_before_a_number_are_reported_and_kept_in_texts() {
    let shop = case("leading-zeros-merge");
    let ran = shop.run(&["import", "in.csv"]);
    assert_eq!(ran.code, 0);
    assert!(
        notes(&ran).len() == 1 && ran.err.contains("`007`") && ran.err.contains("--ids map"),
        "{}",
        ran.err
    );
    assert_eq!(shop.run(&["people", "a@2021-01-04"]).done(), "7\n");
    let shop = case("leading-zeros-merge");
    shop.run(&["--ids", "map", "import", "in.csv"]).done();
    assert_eq!(shop.run(&["people", "a@2021-01-04"]).done(), "007\n7\n");
}

#[test]
fn offsets_are_read_in_all_forms() {
    let shop = case("offset-forms");
    shop.run(&["import", "in.csv", "--hourly"]).quietly();
    assert_eq!(count(&shop, "a@2021-01-04T00"), "9");
}

#[test]
fn times_that_may_mean_two_days_or_a_wrong_year_are_skipped_with_the_option() {
    let shop = Shop::new();
    let import = |times: &[&str], options: &[&str]| {
        let lines: String = times.iter().map(|time| format!("1;a;{time}\n")).collect();
        let text = format!("user;event;timestamp\n{lines}");
        shop.pipe(&[&["import", "-"], options].concat(), text.as_bytes())
    };
    let ran = import(&["11/12/2021"], &[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("--time-format '%d/%m/%Y'") && ran.err.contains("'%m/%d/%Y'"),
        "{}",
        ran.err
    );
    import(
        &["11/12/2021", "31/12/2021"],
        &["--time-format", "%d/%m/%Y"],
    )
    .quietly();
    assert_eq!(count(&shop, "a@2021-12"), "1");
    let ran = import(&["1889-01-01", "0", "2028-01-01"], &[]);
    assert!(
        ran.out.contains("3 with an implausible year") && ran.err.contains("--any-year"),
        "{}",
        ran.out
    );
    import(&["1889-01-01", "0", "2028-01-01"], &["--any-year"]).quietly();
    assert_eq!(count(&shop, "a@1889-01-01"), "1");
    let ran = import(&["1609720200000", "1609720200000000", "1609720200"], &[]);
    assert_eq!(
        notes(&ran).len(),
        2,
        "milliseconds and microseconds: {}",
        ran.err
    );
    assert_eq!(count(&shop, "a@2021-01-04"), "1");
    let ran = import(&["86400000000"], &["--time-unit", "us", "--any-year"]);
    assert!(ran.out.contains("1970-01-02"), "{}", ran.out);
    for options in [
        ["--time-format", "%Q"],
        ["--time-format", "%H:%M"],
        ["--max-skipped", "101"],
    ] {
        import(&[], &options).error(2);
    }
    let error = shop.run(&["mark", "a", "1", "--at", "11/12/2021"]).error(2);
    assert!(error.contains("2021-12-11"), "{error}");
    shop.run(&["mark", "a", "1", "--at", "1889-01-01"]).error(2);
    shop.run(&["mark", "a", "1", "--at", "1889-01-01", "--any-year"])
        .done();
}

#[test]
fn numbers_with_a_fraction_of_zero_are_ids() {
    let shop = case("pandas-float-ids");
    let options = [
        "--event",
        "purchase",
        "--user-column",
        "Customer ID",
        "--time-column",
        "InvoiceDate",
    ];
    let ran = shop.run(&[&["import", "in.csv"], &options[..]].concat());
    assert_eq!(ran.code, 3, "a quarter has no user");
    assert!(ran.out.contains("1 without a user"), "{}", ran.out);
    assert_eq!(
        shop.run(&[&["import", "in.csv", "--max-skipped", "25"], &options[..]].concat())
            .code,
        0
    );
    shop.run(&["import", "in.ndjson"]).quietly();
    assert_eq!(
        shop.run(&["people", "purchase@2009-12"]).done(),
        "12682\n13085\n"
    );
    shop.run(&["mark", "purchase", "7.0", "--at", "2009-12-01"])
        .done();
    assert_eq!(
        shop.run(&["people", "purchase@2009-12"]).done(),
        "7\n12682\n13085\n"
    );
    // In a store of texts it is another id, and the import says so.
    let shop = case("pandas-float-ids");
    let ran = shop.run(&["--ids", "map", "import", "in.ndjson"]);
    assert!(
        notes(&ran).iter().any(|note| note.contains("`13085.0`")),
        "{}",
        ran.err
    );
}

#[test]
fn texts_for_nobody_are_no_users() {
    let nobody = [
        "",
        "NULL",
        "null",
        "None",
        "NaN",
        "undefined",
        "[object Object]",
        "\\N",
    ];
    let lines: String = nobody
        .iter()
        .map(|user| format!("{user},a,2021-01-04\n"))
        .collect();
    for ids in ["map", "numbers"] {
        let shop = Shop::new();
        let text = format!("user,event,timestamp\n7,a,2021-01-04\n{lines}");
        let ran = shop.pipe(&["--ids", ids, "import", "-"], text.as_bytes());
        assert_eq!(ran.code, 3);
        assert!(ran.out.contains("8 without a user"), "{}", ran.out);
        assert_eq!(shop.run(&["people", "a@2021-01-04"]).done(), "7\n");
        for user in nobody {
            shop.run(&["mark", "a", user]).error(2);
        }
    }
}

#[test]
fn the_user_is_the_first_column_with_a_value() {
    let text = "user_id,anonymous_id,event,timestamp\nann,x1,a,2021-01-04\nNULL,x2,a,2021-01-04\n,x1,a,2021-01-04\n";
    let people = |args: &[&str]| {
        let shop = Shop::new();
        let ran = shop.pipe(
            &[&["--ids", "map", "import", "-"], args].concat(),
            text.as_bytes(),
        );
        (shop.run(&["people", "a@2021-01-04"]).done(), ran.code)
    };
    let all = "ann\nx2\nx1\n".to_owned();
    assert_eq!(
        people(&["--user-column", "user_id,anonymous_id"]),
        (all.clone(), 0)
    );
    assert_eq!(people(&[]), (all, 0), "the guess follows the same rule");
    assert_eq!(
        people(&["--user-column", "user_id"]),
        ("ann\n".to_owned(), 3)
    );
    // In a store of numbers a session is not taken for another user of the same number.
    let shop = Shop::new();
    let text = "user_id,session_id,event,timestamp\n7,1,a,2021-01-04\n,7,b,2021-01-04\n";
    let ran = shop.pipe(&["import", "-"], text.as_bytes());
    assert_eq!(ran.code, 3);
    assert_eq!(events(&shop), "a\n");
}

#[test]
fn the_example_of_the_help_works_as_printed() {
    let shop = case("postgres-help-example");
    let csv = fs::read(shop.path("psql.csv")).unwrap();
    let ran = shop.pipe(&["import", "-", "--event", "signup"], &csv);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        shop.run(&["count", "signup@2021-01-04", "signup@2021-01-05"])
            .done(),
        "1\tsignup@2021-01-04\n1\tsignup@2021-01-05\n"
    );
}

#[test]
fn properties_are_read_from_objects_in_cells() {
    for file in ["ph.csv", "ph.jsonl"] {
        let shop = case("posthog-properties");
        shop.run(&["--ids", "map", "import", file, "--property", "plan"])
            .done();
        assert_eq!(events(&shop), "$pageview\nplan:free\nplan:pro\n", "{file}");
        assert_eq!(count(&shop, "plan:pro@ever"), "1");
        let ran = shop.run(&["--ids", "map", "import", file, "--property", "nosuch"]);
        assert!(
            ran.err.contains("no line has the property `nosuch`"),
            "{}",
            ran.err
        );
        let shop = case("posthog-properties");
        shop.run(&["--ids", "map", "import", file, "--property", "properties.*"])
            .done();
        assert!(
            events(&shop).contains("properties.plan:pro\n"),
            "{}",
            events(&shop)
        );
    }
}

#[test]
fn an_import_says_how_many_users_have_several_values() {
    let shop = case("property-that-changes");
    let ran = shop.run(&[
        "--ids",
        "map",
        "import",
        "ecom.csv.gz",
        "--property",
        "user_lifecycle",
    ]);
    assert!(
        ran.err
            .contains("568 of 600 users have more than one value of `user_lifecycle`"),
        "{}",
        ran.err
    );
    assert_eq!(
        count(&shop, "home@2024-05 & user_lifecycle:new@ever"),
        "298"
    );
    // A property that changes has its own value in each period.
    let shop = case("property-that-changes");
    shop.run(&[
        "--ids",
        "map",
        "import",
        "ecom.csv.gz",
        "--property",
        "user_lifecycle:dated",
    ])
    .done();
    let dated = count(&shop, "(home & user_lifecycle:new)@2024-05");
    let dated: u64 = dated.parse().unwrap();
    assert!((65..298).contains(&dated), "{dated}");
    assert_eq!(count(&shop, "user_lifecycle:new@ever"), "0");
}

#[test]
fn ids_are_exported_as_they_are() {
    let shop = case("phone-ids-in-people-csv");
    shop.run(&["--ids", "map", "import", "in.csv"]).done();
    assert_eq!(
        shop.run(&["people", "a@2021-01-04"]).done(),
        "+491701234567\n"
    );
}

#[test]
fn a_dry_run_reports_and_records_nothing() {
    let shop = case("offset-forms");
    let ran = shop.run(&["import", "--dry-run", "in.csv"]);
    assert!(
        ran.out
            .starts_with("would import 9 marks of 1 event by 9 users"),
        "{}",
        ran.out
    );
    assert!(!shop.path("cohortist.db").exists());
    let entries = fs::read_dir(shop.path("")).unwrap().count();
    assert_eq!(entries, 2, "the files of the case, and nothing else");
    // The kind of ids is that of the store.
    shop.write("a.csv", "user,event,timestamp\nann,a,2021-01-04\n");
    assert_eq!(shop.run(&["import", "--dry-run", "a.csv"]).code, 1);
    shop.run(&["--ids", "map", "mark", "a", "ann"]).done();
    assert_eq!(shop.run(&["import", "--dry-run", "a.csv"]).code, 0);
    assert_eq!(count(&shop, "a@2021-01-04"), "-");
}

#[test]
fn marks_over_http_are_read_as_files_are() {
    let body = fs::read(case("http-milliseconds").path("body.json")).unwrap();
    let (status, answer) = crate::api::sent_to_new_store(std::str::from_utf8(&body).unwrap());
    assert_eq!((status, &answer["recorded"]), (200, &json!(1)), "{answer}");
    assert!(
        answer["notes"][0]
            .as_str()
            .unwrap()
            .contains("milliseconds"),
        "{answer}"
    );
    let (status, answer) = crate::api::sent_to_new_store(r#"{"event":"a","user":"7"}"#);
    assert_eq!((status, answer), (200, json!({ "recorded": 1 })));
    for (body, said) in [
        (r#"{"event":"a","user":7,"at":null}"#, "`at`"),
        (r#"{"event":"a","user":7,"at":"11/12/2026"}"#, "2026-12-11"),
        (r#"{"event":"a","user":7,"at":0}"#, "any_year"),
        (r#"{"event":"a","user":"ann"}"#, "--ids map"),
        (r#"{"event":"a","user":"undefined"}"#, "stands for no user"),
        (r#"{"event":"a","user":""}"#, "empty"),
    ] {
        let (status, answer) = crate::api::sent_to_new_store(body);
        assert_eq!(status, 400, "{body}");
        assert!(answer.to_string().contains(said), "{body}: {answer}");
    }
    let (status, _) =
        crate::api::sent_to_new_store(r#"{"event":"a","user":7.0,"at":0,"any_year":true}"#);
    assert_eq!(status, 200);
}
