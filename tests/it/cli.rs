//! The real program, as people and scripts use it: every command, its mistakes, exit codes and
//! streams.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::Value;

use crate::support::program::{Ran, Serving, Shop};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

const COMMANDS: [&str; 14] = [
    "serve",
    "demo",
    "import",
    "mark",
    "unmark",
    "retention",
    "count",
    "people",
    "events",
    "delete",
    "forget",
    "check",
    "info",
    "compact",
];

#[test]
fn help_goes_to_stdout_and_has_examples() {
    let shop = Shop::new();
    let overview = shop.run(&["--help"]).quietly();
    for command in COMMANDS {
        assert!(overview.contains(&format!("\n  {command} ")), "{command}");
        let help = shop.run(&[command, "--help"]).quietly();
        assert!(
            help.contains("EXAMPLES") && help.contains("cohortist "),
            "{help}"
        );
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
    }
    assert!(shop.run(&["--version"]).quietly().starts_with("cohortist "));
}

#[test]
fn global_options_are_printed_by_help_options_alone() {
    let shop = Shop::new();
    let options = shop.run(&["help", "options"]).quietly();
    for option in [
        "--store",
        "--config",
        "--prefix",
        "--memory-mb",
        "--redis-eval",
    ] {
        assert!(options.contains(option), "{option}");
    }
    assert!(!options.contains("--listen <"), "{options}");
    let serve = shop.run(&["serve", "--help"]).quietly();
    assert!(
        serve.contains("--listen <ADDRESS>") && !serve.contains("--memory-mb <MIB>"),
        "{serve}"
    );
    assert!(serve.contains("cohortist help options"));
    assert_eq!(shop.run(&["help", "serve"]).quietly(), serve);
    assert_eq!(shop.run(&["serve", "-h"]).quietly(), serve);
    assert_eq!(
        shop.run(&["help"]).quietly(),
        shop.run(&["--help"]).quietly()
    );
    assert!(
        shop.run(&["help", "serv"])
            .error(2)
            .contains("unrecognized subcommand 'serv'")
    );
    for (args, tip) in [
        (&["serv"][..], "'serve'"),
        (&["serve", "--lisen", "x"], "'--listen'"),
        (&["events", "--stor", "x"], "'--store'"),
    ] {
        let error = shop.run(args).error(2);
        assert!(error.contains(tip), "{error}");
    }
}

#[test]
fn help_is_as_wide_as_the_terminal() {
    let shop = Shop::new();
    for width in [60, 80, 100] {
        for args in [&["--help"][..], &["serve", "--help"], &["help", "options"]] {
            let ran: Ran = shop
                .command(args)
                .env("COLUMNS", width.to_string())
                .output()
                .unwrap()
                .into();
            let help = ran.quietly();
            assert!(
                help.lines().all(|line| line.chars().count() <= width),
                "{width}: {help}"
            );
        }
    }
}

#[test]
fn help_shows_no_password_from_the_environment() {
    let shop = Shop::new();
    let mut command = shop.command(&["count", "--help"]);
    let ran: Ran = command
        .env("COHORTIST_STORE", "redis://:hunter2@localhost")
        .output()
        .unwrap()
        .into();
    assert!(!ran.quietly().contains("hunter2"));
}

#[test]
fn bad_usage_is_two() {
    let shop = Shop::new();
    for args in [
        &[][..],
        &["frobnicate"],
        &["mark", "active"],
        &["mark", "active", "1", "--colour", "red"],
        &["count"],
        &["retention", "signup"],
        &["events", "--now", "yesterday"],
        &["events", "--redis-timeout", "0"],
        &["events", "--sync", "never"],
        &["delete"],
    ] {
        let ran = shop.run(args);
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (2, ""),
            "{args:?}: {}",
            ran.err
        );
        assert!(!ran.err.is_empty());
    }
    assert!(!shop.path("cohortist.db").exists(), "a slip makes no store");
}

#[test]
fn mark_ask_and_take_back() {
    let shop = Shop::new();
    let ran = shop.run(&["mark", "active", "1", "2", "4294967295"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(
        ran.err,
        "marked `active` for 3 users at 2026-11-23 14:05:00 UTC\n"
    );
    shop.run(&["mark", "active", "2", "0", "--at", "2026-11-22 23:59:59"])
        .done();

    assert_eq!(shop.run(&["count", "active@2026-11-23"]).quietly(), "3\n");
    assert_eq!(
        shop.run(&[
            "count",
            "active@2026-11-22",
            "active@2026-W47",
            "active@2026-11",
            "active@2026"
        ])
        .quietly(),
        "2\tactive@2026-11-22\n2\tactive@2026-W47\n4\tactive@2026-11\n4\tactive@2026\n"
    );
    assert_eq!(
        shop.run(&["people", "active@2026-11-23 & !active@2026-11-22"])
            .quietly(),
        "1\n4294967295\n"
    );
    let before = shop.run(&["people", "active@2026-10"]);
    assert_eq!((before.out.as_str(), before.code), ("", 0));
    assert_eq!(
        before.err,
        "note: active@2026-10 is not recorded: data begins Nov 2026\n"
    );

    shop.run(&["unmark", "active", "1", "2"]).done();
    assert_eq!(
        shop.run(&["people", "active@2026-11-23"]).quietly(),
        "4294967295\n"
    );
    assert_eq!(
        shop.run(&["people", "active@2026-11-22"]).quietly(),
        "0\n2\n"
    );
}

#[test]
fn hours_and_ever_are_asked_for() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1"]).done();
    shop.run(&["mark", "active", "2", "--hourly", "--ever"])
        .done();
    let sets = [
        "count",
        "active@2026-11-23T14",
        "active@ever",
        "active@2026-11-23",
    ];
    assert_eq!(
        shop.run(&sets).quietly(),
        "1\tactive@2026-11-23T14\n1\tactive@ever\n2\tactive@2026-11-23\n"
    );
    shop.run(&["unmark", "active", "2", "--hourly", "--ever"])
        .done();
    let none = shop.run(&sets);
    assert!(
        none.out
            .starts_with("-\tactive@2026-11-23T14\n0\tactive@ever\n1\t"),
        "{}",
        none.out
    );
    let note = "note: active@2026-11-23T14 is not recorded: the store has no data by hour\n";
    assert_eq!(none.err, note, "an hour that was unmarked is no data");
}

#[test]
fn ids_that_are_none_are_refused_and_nothing_is_marked() {
    let shop = Shop::new();
    for id in [
        "-1",
        "4294967296",
        "abc",
        "1.5",
        "99999999999999999999999999",
    ] {
        let error = shop.run(&["mark", "active", "1", id]).error(2);
        assert!(
            error.contains(&format!("`{id}` is not a valid user id"))
                && error.contains("4294967295"),
            "{error}"
        );
    }
    let error = shop.run(&["mark", "active", "1", ""]).error(2);
    assert!(error.contains("must not be empty"), "{error}");
    assert!(!shop.path("cohortist.db").exists());
}

#[test]
fn odd_event_names_come_back_as_they_went_in() {
    let shop = Shop::new();
    let names = [
        "<script>",
        "=1+1",
        "a|b",
        "*",
        "🎉",
        "a_2026-1-1",
        "\"quoted\\",
        "-x",
    ];
    for name in names {
        shop.run(&["mark", "--", name, "7"]).done();
    }
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(
        shop.run(&["events"]).quietly(),
        format!("{}\n", sorted.join("\n"))
    );
    assert_eq!(
        shop.run(&["events", "--starting-with", "a"]).quietly(),
        "a_2026-1-1\na|b\n"
    );
    assert_eq!(
        shop.run(&["count", "\"a|b\"@2026-11", "*@2026"]).quietly(),
        "1\t\"a|b\"@2026-11\n1\t*@2026\n"
    );
    assert_eq!(
        shop.run(&["people", "\"\\\"quoted\\\\\"@2026-11 & <script>@2026"])
            .quietly(),
        "7\n"
    );
    let table = shop
        .run(&[
            "retention",
            "<script>",
            "\"a|b\"",
            "--rows",
            "1",
            "--cols",
            "1",
        ])
        .quietly();
    assert!(
        table.starts_with("<script> → \"a|b\", daily cohorts"),
        "{table}"
    );
}

#[test]
fn names_that_break_a_rule_are_told_which() {
    let shop = Shop::new();
    for (name, rule) in [
        ("", "must not be empty"),
        ("bitop_x", "must not begin with `bitop_`"),
        (
            "a\nb",
            "control characters; `a\\nb` holds U+000A at character 2",
        ),
        (
            &"x".repeat(10_000),
            "at most 200 bytes long; `xxxxxxxxxxxxxxxxxxxx…` has 10000",
        ),
    ] {
        let error = shop.run(&["mark", name, "1"]).error(2);
        assert!(error.contains(rule) && error.len() < 300, "{error}");
    }
    let error = shop
        .run(&["retention", &"x".repeat(10_000), "active"])
        .error(2);
    assert!(
        error.contains("at most 200 bytes") && error.len() < 300,
        "{error}"
    );
}

#[test]
fn bad_segments_point_at_the_column() {
    let shop = Shop::new();
    let error = shop.run(&["retention", "signup", "active & !"]).error(2);
    assert_eq!(
        error,
        "error: RETURNING: column 11: expected an event name or `(`, found the end\n\n    active & !\n              ^\n"
    );
    for (text, says) in [
        ("!ios", "nothing to subtract from"),
        ("a b", "column 3"),
        ("(a", "column 3"),
        ("a@2026", "only `@ever`"),
    ] {
        let error = shop.run(&["retention", text, "active"]).error(2);
        assert!(
            error.starts_with("error: COHORT: column ") && error.contains(says),
            "{error}"
        );
    }
    let error = shop.run(&["count", "active"]).error(2);
    assert!(
        error.contains("`active` needs a period: write active@2026-11-23"),
        "{error}"
    );
    let error = shop.run(&["people", "active@2026-13"]).error(2);
    assert!(error.starts_with("error: SET: column "), "{error}");
    assert!(!shop.path("cohortist.db").exists());
}

#[test]
fn dates_and_sizes_that_make_no_sense_name_the_limit() {
    let shop = Shop::new();
    for (args, says) in [
        (
            &["--rows", "0"][..],
            "--rows: `0` is not a whole number from 1 to 400",
        ),
        (
            &["--rows", "1000000000"],
            "--rows: `1000000000` is not a whole number from 1 to 400",
        ),
        (&["--rows", "1000000000000"], "--rows"),
        (&["--rows", "-1"], "--rows"),
        (
            &["--cols", "401"],
            "--cols: `401` is not a whole number from 1 to 400",
        ),
        (
            &["--rows", "400", "--cols", "51"],
            "20400 cells, and a table holds at most 20000",
        ),
        (
            &["--from", "2026-02-30"],
            "`2026-02-30` is not a date: write it as 2026-11-23",
        ),
        (&["--from", "23.11.2026"], "is not a date"),
        (&["--from", "2027-01-01"], "lies in the future"),
        (&["--from", "2026-11-20", "--to", "2026-11-01"], "swap them"),
        (
            &["--from", "2020-01-01", "--to", "2026-11-01"],
            "a table holds at most 400",
        ),
        (
            &["--by", "fortnight"],
            "write hour, day, week, month or year",
        ),
        (&["--measure", "in"], "is none of on, on_or_after"),
        (&["--as", "share"], "is none of percent, count"),
        (&["--format", "xlsx"], "table, csv, tidy, json, svg"),
    ] {
        let error = shop
            .run(&[&["retention", "signup", "active"], args].concat())
            .error(2);
        assert!(error.contains(says), "{args:?}: {error}");
    }
    assert!(!shop.path("cohortist.db").exists());
}

/// Users 1–4 sign up on the 20th; 1 and 2 are active then, 1 on the 21st, and 1 on the running
/// 23rd.
fn little_shop() -> Shop {
    let shop = Shop::new();
    shop.run(&["mark", "signup", "1", "2", "3", "4", "--at", "2026-11-20"])
        .done();
    shop.run(&["mark", "active", "1", "2", "--at", "2026-11-20"])
        .done();
    shop.run(&["mark", "active", "1", "--at", "2026-11-21"])
        .done();
    shop.run(&["mark", "active", "1"]).done();
    shop
}

const LITTLE: [&str; 7] = [
    "retention",
    "signup",
    "active",
    "--rows",
    "4",
    "--cols",
    "4",
];

#[test]
fn retention_in_every_dress() {
    let shop = little_shop();
    insta::assert_snapshot!(shop.run(&LITTLE).quietly(), @r"
    signup → active, daily cohorts, counted on the day

    Cohort               People      0       1      2       3
    Fri 20 Nov 2026          4   50.0%   25.0%   0.0%   25.0%*
    Sat 21 Nov 2026          0
    Sun 22 Nov 2026          0
    Mon 23 Nov 2026          0*
    Weighted average             50.0%   25.0%   0.0%
      number of cohorts              1       1      1

    4 users, each in one cohort.
    * still in progress, left out of the average · UTC · as of 2026-11-23 14:05
    ");
    let csv = shop
        .run(&[&LITTLE[..], &["--format", "csv"]].concat())
        .quietly();
    assert_eq!(
        csv.lines().nth(1),
        Some("Fri 20 Nov 2026,4,50.00,25.00,0.00,25.00")
    );
    let counts = shop
        .run(&[&LITTLE[..], &["--format", "csv", "--as", "count"]].concat())
        .quietly();
    assert_eq!(counts.lines().nth(1), Some("Fri 20 Nov 2026,4,2,1,0,1"));
    let tidy = shop
        .run(&[&LITTLE[..], &["--format", "tidy"]].concat())
        .quietly();
    assert_eq!(
        tidy.lines().nth(4),
        Some("2026-11-20,2026-11-21,4,3,2026-11-23,2026-11-24,1,0.25,in_progress,complete,")
    );
    let json: Value = serde_json::from_str(
        &shop
            .run(&[&LITTLE[..], &["--format", "json"]].concat())
            .quietly(),
    )
    .unwrap();
    assert_eq!(json["rows"][0]["cells"][1]["retained"], 1);
    let after = shop.run(&[
        "retention",
        "signup",
        "active",
        "--measure",
        "on_or_after",
        "--cols",
        "3",
        "--format",
        "csv",
    ]);
    assert!(
        after
            .quietly()
            .contains("Fri 20 Nov 2026,4,50.00,25.00,0.00\n")
    );
}

#[test]
fn a_table_says_what_was_recorded_in_part_or_not_at_all() {
    let shop = little_shop();
    let table = shop
        .run(&[
            "retention",
            "signup",
            "active",
            "--by",
            "month",
            "--rows",
            "2",
            "--cols",
            "2",
        ])
        .quietly();
    insta::assert_snapshot!(table, @r"
    signup → active, monthly cohorts, counted in the month

    Cohort               People      0   1
    Oct 2026                 –       –   –
    Nov 2026 †               4*  50.0%*
    Weighted average
      number of cohorts

    4 users, each in one cohort.
    The store has data from Nov 2026 on.
    † signup is first recorded on 20 Nov 2026: this month holds those days only.
    active is first recorded on 20 Nov 2026: before that its counts are 0.
    * still in progress, left out of the average · – no data · UTC · as of 2026-11-23 14:05
    ");
}

#[test]
fn a_width_leaves_out_columns_and_says_so() {
    let shop = little_shop();
    let table = shop
        .run(&[&LITTLE[..], &["--width", "45"]].concat())
        .quietly();
    assert!(
        table.contains("Columns 2 to 3 (2 of them) do not fit this terminal"),
        "{table}"
    );
    assert!(
        table
            .lines()
            .skip(2)
            .take(7)
            .all(|line| line.chars().count() <= 45),
        "{table}"
    );
}

#[test]
fn unknown_events_give_an_empty_table_that_says_so() {
    let shop = little_shop();
    let ran = shop.run(&[
        "retention",
        "singup",
        "nowhere",
        "--rows",
        "2",
        "--cols",
        "2",
    ]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.out.contains("Nobody did singup in these days."),
        "{}",
        ran.out
    );
    assert_eq!(
        ran.err,
        "note: nothing was ever recorded for `singup`; did you mean `signup`?\nnote: nothing was ever recorded for `nowhere`; `cohortist events` lists all events\n"
    );
    let ran = shop.run(&[
        "retention",
        "signup",
        "active & !ois@ever",
        "--rows",
        "4",
        "--cols",
        "2",
    ]);
    assert!(
        ran.err.contains("nothing was ever recorded for `ois`"),
        "{}",
        ran.err
    );
}

#[test]
fn a_slip_in_the_stores_path_makes_no_store() {
    let shop = Shop::new();
    for args in [
        &["count", "active@2026-11"][..],
        &["events"],
        &["people", "a@ever"],
        &["delete", "--all", "--yes"],
    ] {
        let error = shop
            .run(&[&["--store", "./typo.db"], args].concat())
            .error(1);
        assert!(
            error.contains("there is no store at ./typo.db: fill one with `cohortist import`"),
            "{error}"
        );
    }
    assert!(!shop.path("typo.db").exists());
    shop.run(&["--store", "./new.db", "mark", "active", "1"])
        .done();
    assert_eq!(
        shop.run(&["--store", "./new.db", "count", "active@2026-11"])
            .quietly(),
        "1\n"
    );
    let other = shop.run(&["--store", "./new.db", "--prefix", "x_", "events"]);
    assert_eq!(
        other.err,
        "note: no keys begin with `x_`; 3 begin with `trackist_`: use --prefix trackist_\n"
    );
    shop.run(&["--store", "./new.db", "delete", "--all", "--yes"])
        .done();
    assert_eq!(
        shop.run(&["--store", "./new.db", "events"]).err,
        "note: no events under the prefix `trackist_`\n"
    );
}

#[test]
fn every_option_has_its_environment_twin() {
    let shop = little_shop();
    fs::rename(shop.path("cohortist.db"), shop.path("other")).unwrap();
    let mut command = shop.command(&["retention", "signup", "active"]);
    command
        .env("COHORTIST_STORE", "./other")
        .env("COHORTIST_ROWS", "2")
        .env("COHORTIST_COLS", "1");
    command
        .env("COHORTIST_BY", "month")
        .env("COHORTIST_FORMAT", "csv")
        .env("COHORTIST_AS", "count");
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.quietly(), "cohort,size,0\nOct 2026,,\nNov 2026,4,2\n");
    let hour = |value| -> String {
        let mut mark = shop.command(&["mark", "x", "1", "--store", value]);
        let ran: Ran = mark.env("COHORTIST_HOURLY", value).output().unwrap().into();
        ran.done();
        shop.run(&["count", "x@2026-11-23T14", "--store", value])
            .done()
    };
    assert_eq!(
        (hour("1"), hour("true"), hour("0"), hour("false")),
        ("1\n".into(), "1\n".into(), "-\n".into(), "-\n".into())
    );
    let mut command = shop.command(&["mark", "x", "1"]);
    let ran: Ran = command.env("COHORTIST_STORE", "").output().unwrap().into();
    ran.done();
    assert!(
        shop.path("cohortist.db").exists(),
        "an empty variable is an unset one"
    );
    let mut command = shop.command(&["count", "x@2026", "--store", "memory:"]);
    let ran: Ran = command
        .env("COHORTIST_LOG", "lots=of=nonsense")
        .output()
        .unwrap()
        .into();
    assert!(
        ran.err
            .contains("COHORTIST_LOG=lots=of=nonsense is not valid")
            && ran.code == 0,
        "{}",
        ran.err
    );
}

#[test]
fn an_import_says_where_its_marks_are() {
    let shop = Shop::new();
    let file = shop.write("a.csv", "user,event,timestamp\n1,active,2026-11-23\n");
    let store = shop.path("cohortist.db");
    for what in ["created", "opened"] {
        let ran = shop.run(&["import", &file]);
        // Another path may lead to the same directory.
        let (path, word) = ran
            .store
            .as_deref()
            .and_then(|said| said.rsplit_once(", "))
            .unwrap();
        assert!(Path::new(path).is_absolute(), "{path}");
        assert_eq!(
            fs::canonicalize(path).unwrap(),
            fs::canonicalize(&store).unwrap()
        );
        assert_eq!((word, ran.code, ran.err.as_str()), (what, 0, ""));
    }
    // However it was written.
    fs::create_dir(shop.path("q")).unwrap();
    let ran = shop.run(&["--store", "./q/../q/../cohortist.db", "import", &file]);
    let said = format!("{}, opened", fs::canonicalize(&store).unwrap().display());
    assert_eq!(ran.store.as_deref(), Some(&*said));
}

#[test]
fn the_prefix_keeps_stores_apart() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1", "--prefix", "a_"]).done();
    assert_eq!(
        shop.run(&["count", "active@2026", "--prefix", "a_"])
            .quietly(),
        "1\n"
    );
    let ran = shop.run(&["count", "active@2026", "--prefix", "b_"]);
    assert!(
        ran.err.contains("3 begin with `a_`: use --prefix a_"),
        "{}",
        ran.err
    );
    assert_eq!(ran.out, "-\n", "nothing is recorded there");
}

#[test]
fn stores_that_are_none_are_refused_with_the_list_and_without_the_password() {
    let shop = Shop::new();
    for store in [
        "http://me:hunter2@localhost/x",
        "redis:hunter2@localhost",
        "memory:hunter2",
        "mysql://hunter2@x",
    ] {
        let ran = shop.run(&["--store", store, "events"]);
        let error = ran.error(2);
        assert!(
            error.contains("redis://host:6379/0") && error.contains("memory:"),
            "{error}"
        );
        assert!(
            !store.contains(":hunter2@localhost/") || !error.contains("hunter2"),
            "{error}"
        );
    }
    let error = shop.run(&["--store", "./no/such/directory/x.db", "mark", "a", "1"]);
    assert!(error.code == 1 || error.code == 0, "{}", error.err);
}

#[test]
fn a_redis_that_is_away_is_said_within_three_seconds() {
    let shop = Shop::new();
    let error = shop
        .run(&[
            "--store",
            "redis://:hunter2@127.0.0.1:1/0",
            "count",
            "active@2026",
        ])
        .error(1);
    assert!(
        error.contains("does not answer") && error.contains("127.0.0.1:1"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let shop = Shop::new();
    let serving = Serving::start(&shop, &["serve", "--listen", "127.0.0.1:0"]);
    let error = shop.run(&["count", "active@2026"]).error(1);
    assert!(
        error.contains("cohortist.db") && error.len() < 400,
        "{error}"
    );
    drop(serving);
    assert_eq!(shop.run(&["count", "active@2026"]).done(), "-\n");
}

#[test]
fn commands_at_the_same_time_wait_for_each_other() {
    let shop = Shop::new();
    let children: Vec<Child> = (0..6)
        .map(|id| shop.start(&["mark", "active", &id.to_string()]))
        .collect();
    for child in children {
        Ran::from(child.wait_with_output().unwrap()).done();
    }
    assert_eq!(shop.run(&["count", "active@2026"]).quietly(), "6\n");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let shop = Shop::new();
    let lines: String = (0..100_000)
        .map(|id| format!("{id},active,2026-11-23\n"))
        .collect();
    shop.pipe(
        &["import", "-"],
        format!("user,event,timestamp\n{lines}").as_bytes(),
    )
    .done();
    let mut child = shop.start(&["people", "active@2026-11-23"]);
    let mut first = String::new();
    let mut reader = BufReader::with_capacity(16, child.stdout.take().unwrap());
    reader.read_line(&mut first).unwrap();
    drop(reader);
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!((first.as_str(), ran.code, ran.err.as_str()), ("0\n", 0, ""));
}

#[test]
fn deleting_takes_what_was_named_and_no_more() {
    let shop = little_shop();
    let ran = shop.run(&["delete", "active", "--period", "2026-11-21"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "deleted 1 bitmap of `active`\n")
    );
    assert_eq!(
        shop.run(&["count", "active@2026-11-21", "active@2026-11-20"])
            .quietly(),
        "0\tactive@2026-11-21\n2\tactive@2026-11-20\n"
    );
    let error = shop
        .run(&["delete", "active", "--period", "2026-11-21"])
        .error(1);
    assert!(
        error.contains("there is no bitmap of `active` in that period"),
        "{error}"
    );
    for args in [&["delete", "actve"][..], &["delete", "actve", "--dry-run"]] {
        let error = shop.run(args).error(1);
        assert!(error.contains("did you mean `active`?"), "{error}");
    }
    assert!(
        shop.run(&["delete", "active", "--period", "2026"])
            .error(2)
            .contains("no bitmap of its own")
    );
    assert!(
        shop.run(&["delete", "active", "--all"])
            .error(2)
            .contains("not both")
    );
    assert!(
        shop.run(&["delete", "--all"])
            .error(2)
            .contains("add --yes")
    );
    assert_eq!(shop.run(&["events"]).quietly(), "active\nsignup\n");
    shop.run(&["delete", "active"]).done();
    // What is left was last marked three days ago.
    let left = shop.run(&["events"]);
    assert_eq!(
        (left.out.as_str(), left.err.as_str()),
        ("signup\n", "note: data ends 20 Nov 2026\n")
    );
    shop.run(&["mark", "other", "1", "--prefix", "b_"]).done();
    shop.run(&["delete", "--all", "--yes"]).done();
    assert_eq!(shop.run(&["events"]).out, "");
    assert_eq!(shop.run(&["events", "--prefix", "b_"]).quietly(), "other\n");
}

#[test]
fn info_describes_a_store_before_its_first_checkpoint() {
    let info = |shop: &Shop| -> Value {
        serde_json::from_str(&shop.run(&["info", "--format", "json"]).quietly()).unwrap()
    };
    let shop = little_shop();
    let numbers = info(&shop);
    assert_eq!(
        (&numbers["table_bytes"], &numbers["user_ids"]),
        (&0.into(), &"numbers".into()),
        "{numbers}"
    );
    for event in numbers["events"].as_array().unwrap() {
        assert!(event["estimated_bytes"].as_u64().unwrap() > 0, "{numbers}");
    }
    let shop = Shop::new();
    shop.run(&["--ids", "map", "mark", "active", "ann", "bob"])
        .done();
    let strings = info(&shop);
    assert_eq!(
        (&strings["user_ids"], &strings["string_ids"]),
        (&"strings".into(), &2.into()),
        "{strings}"
    );
    assert!(shop.run(&["info"]).quietly().contains("strings, 2 so far"));
}

#[test]
fn numeric_ids_in_a_store_of_strings_are_noted_once() {
    let shop = Shop::new();
    let file = shop.write(
        "a.csv",
        "user,event,timestamp\nann,a,2026-11-23\n7,a,2026-11-23\n8,a,2026-11-23\n",
    );
    let ran = shop.run(&["--ids", "map", "import", &file]);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(
        ran.err.starts_with("note: numeric user ids such as 7 "),
        "{}",
        ran.err
    );
    assert_eq!(
        shop.run(&["people", "a@2026-11-23"]).quietly(),
        "ann\n7\n8\n"
    );
}

#[test]
fn purchases_of_a_real_shop_equal_the_golden_tables() {
    let shop = Shop::new();
    let file = fixture("cdnow_sample.csv");
    let said = shop.run(&["import", file.to_str().unwrap()]).quietly();
    assert_eq!(
        said,
        "imported 6,919 marks of 1 event by 2,357 users from 1 file\n6,919 lines, from 1997-01-01 to 1998-06-30\n"
    );
    let golden: Value =
        serde_json::from_slice(&fs::read(fixture("cdnow_sample.json")).unwrap()).unwrap();
    for grain in ["month", "week"] {
        let expected = golden[grain]["recurring"].as_array().unwrap();
        let size = expected.len().to_string();
        let args = [
            "retention",
            "purchase",
            "purchase",
            "--by",
            grain,
            "--rows",
            &size,
            "--cols",
            &size,
        ];
        let args = [&args[..], &["--from", "1997-01-01", "--format", "json"]].concat();
        let table: Value = serde_json::from_str(&shop.run(&args).quietly()).unwrap();
        let rows = table["rows"].as_array().unwrap();
        assert_eq!(rows.len(), expected.len());
        for (row, wanted) in rows.iter().zip(expected) {
            let start = row["start"].as_str().unwrap();
            assert!(
                start.starts_with(wanted["cohort"].as_str().unwrap()),
                "{start}"
            );
            assert_eq!(row["size"], wanted["size"], "{start}");
            let retained: Vec<&Value> = row["cells"]
                .as_array()
                .unwrap()
                .iter()
                .map(|cell| &cell["retained"])
                .collect();
            let wanted: Vec<&Value> = wanted["retained"].as_array().unwrap().iter().collect();
            assert_eq!(retained[..wanted.len()], wanted, "{grain} {start}");
            // The data ends in June 1998.
            assert!(
                retained[wanted.len()..]
                    .iter()
                    .all(|beyond| beyond.is_null())
            );
        }
    }
}

#[test]
fn imports_survive_what_spreadsheets_do() {
    let shop = Shop::new();
    let file = shop.write(
        "a.csv",
        b"\xEF\xBB\xBFTimestamp,note,user,event\r\n2026-11-23,\"a \"\"b\"\"\r\nc\",1,\"x, y\"\r\n\r\n1795442400,,2,active\r\n",
    );
    assert_eq!(
        shop.run(&["import", &file]).quietly(),
        "imported 2 marks of 2 events by 2 users from 1 file\n2 lines, on 2026-11-23\n"
    );
    assert_eq!(shop.run(&["events"]).quietly(), "active\nx, y\n");
    let again = shop.run(&["import", &file, "--hourly", "--ever"]);
    assert!(again.quietly().starts_with("imported 2 marks"));
    assert_eq!(
        shop.run(&["count", "active@2026-11-23T14 & active@ever"])
            .quietly(),
        "1\n"
    );
}

#[test]
fn bad_lines_are_numbered_and_skipped() {
    let shop = Shop::new();
    let bytes = b"user,event,timestamp\n1,a,2026-11-23\n-1,a,2026-11-23\n2,\xFF\xFE,2026-11-23\n3,a,yesterday\n4,bitop_a,2026-11-23\n5,a\n6,a,2026-11-23\n";
    let file = shop.write("a.csv", bytes);
    let ran = shop.run(&["import", &file]);
    assert_eq!(ran.code, 3);
    insta::assert_snapshot!(ran.out, @r"
    imported 2 marks of 1 event by 2 users from 1 file, skipped 5 lines
    7 lines, on 2026-11-23
    skipped 5 lines (71.4 %):
      2 with an invalid event name, such as a.csv, line 4: `��` is not UTF-8
      1 with an invalid user id, such as a.csv, line 3: `-1` is not a valid user id: this store uses numeric ids from 0 to 4294967295
      1 without a time, such as a.csv, line 7: the line has 2 fields, and `timestamp` would be number 3
      1 with an invalid time, such as a.csv, line 5: `yesterday` is not a time: write 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00+01:00 or Unix seconds
    ");
    insta::assert_snapshot!(ran.err, @r"
    a.csv, line 3: `-1` is not a valid user id: this store uses numeric ids from 0 to 4294967295 — skipped
    a.csv, line 4: `��` is not UTF-8 — skipped
    a.csv, line 5: `yesterday` is not a time: write 2026-11-23, 2026-11-23 14:00:00 (UTC), 2026-11-23T14:00:00+01:00 or Unix seconds — skipped
    a.csv, line 6: an event name must not begin with `bitop_`: such keys are temporary and get deleted — skipped
    a.csv, line 7: the line has 2 fields, and `timestamp` would be number 3 — skipped
    error: 71.4 % of the lines were skipped, more than 5 %; the others were imported. To change this, correct the file or the options and import it again, or accept it with --max-skipped
    ");
    assert_eq!(shop.run(&["people", "a@2026-11-23"]).quietly(), "1\n6\n");
}

#[test]
fn strict_stops_at_the_first_bad_line() {
    let shop = Shop::new();
    let file = shop.write(
        "a.csv",
        "user,event,timestamp\n1,a,2026-11-23\n2,a,2026-11-23\nx,a,2026-11-23\n3,a,2026-11-23\n",
    );
    let error = shop.run(&["import", "--strict", &file]).error(1);
    assert_eq!(
        error,
        "error: a.csv, line 4: `x` is not a valid user id: this store uses numeric ids from 0 to 4294967295 (for string ids, create a store with --ids map). The 2 records before that are imported, nothing after it\n"
    );
    assert_eq!(shop.run(&["people", "a@2026-11-23"]).quietly(), "1\n2\n");
    let file = shop.write("b.csv", "user,event,timestamp\nx,a,2026-11-23\n");
    assert!(
        shop.run(&["import", "--strict", &file])
            .error(1)
            .ends_with(". Nothing was imported\n")
    );
}

#[test]
fn only_the_first_bad_lines_are_shown() {
    let shop = Shop::new();
    let bad: String = (0..50).map(|n| format!("x{n},a,2026-11-23\n")).collect();
    let ran = shop.pipe(
        &["import", "-", "--max-skipped", "99%"],
        format!("user,event,timestamp\n{bad}1,a,2026-11-23\n").as_bytes(),
    );
    assert_eq!((ran.code, ran.err.lines().count()), (0, 21), "{}", ran.err);
    assert!(
        ran.err
            .starts_with("stdin, line 2: `x0` is not a valid user id"),
        "{}",
        ran.err
    );
    assert!(ran.out.contains("skipped 50 lines\n"), "{}", ran.out);
}

#[test]
fn nothing_imported_is_a_failure() {
    let shop = Shop::new();
    for (content, says) in [
        ("", ""),
        ("user,event,timestamp\n", ""),
        ("user,event,timestamp\nx,a,2026-11-23\n", "line 2: `x`"),
    ] {
        let file = shop.write("a.csv", content);
        let ran = shop.run(&["import", &file]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.out.starts_with("imported nothing from 1 file") && ran.err.contains(says),
            "{}",
            ran.err
        );
    }
}

#[test]
fn files_that_are_no_good_fail_before_anything_is_imported() {
    let shop = Shop::new();
    let good = shop.write("good.csv", "user,event,timestamp\n1,a,2026-11-23\n");
    fs::create_dir(shop.path("folder")).unwrap();
    for (name, content, says) in [
        (
            "a.csv",
            "id,event,timestamp\n1,a,1\n",
            "a.csv: there is no column `user`; the columns are `id`, `event`, `timestamp`. Say which one holds the user id with --user-column NAME",
        ),
        ("b.csv", "user,timestamp\n1,1\n", "--event NAME"),
        ("c.csv", "user,event,when\n1,a,1\n", "--time-column NAME"),
        ("d.json", "[{\"user\":1}]", "one object a line"),
        ("e.csv.gz", "\u{1f}\u{8b}", "no column `user`"),
    ] {
        let file = shop.write(name, content);
        let error = shop.run(&["import", &good, &file]).error(1);
        assert!(error.contains(says), "{error}");
    }
    for (name, says) in [
        ("nowhere.csv", "cannot read nowhere.csv: No such file"),
        ("folder", "folder is a directory"),
    ] {
        let error = shop.run(&["import", &good, name]).error(1);
        assert!(error.contains(says), "{error}");
    }
    assert!(
        shop.run(&["import", "-", "-"])
            .error(2)
            .contains("only once")
    );
    assert!(!shop.path("cohortist.db").exists());
}

#[test]
fn columns_events_and_formats_can_be_named() {
    let shop = Shop::new();
    let users = shop.write(
        "users.csv",
        "id;created_at\n1;2026-11-20\n2;2026-11-21T10:00:00+02:00\n",
    );
    let log = shop.write("log.ndjson", "{\"user\":1,\"event\":\"active\",\"timestamp\":\"2026-11-23\"}\n\n{\"user\":\"2\",\"event\":\"active\",\"timestamp\":1795442400}\n{\"user\":3}\n");
    let ran = shop.run(&[
        "import",
        &users,
        "--event",
        "signup",
        "--user-column",
        "id",
        "--time-column",
        "created_at",
    ]);
    assert_eq!(
        ran.quietly(),
        "imported 2 marks of 1 event by 2 users from 1 file\n2 lines, from 2026-11-20 to 2026-11-21\n"
    );
    let ran = shop.run(&["import", &log]);
    assert!(
        ran.err
            .starts_with("log.ndjson, line 4: there is no field `event`")
            || ran.err.contains("no field"),
        "{}",
        ran.err
    );
    assert_eq!(
        shop.run(&["count", "signup@2026-11 & active@2026-11"])
            .quietly(),
        "2\n"
    );
    let piped = shop.pipe(
        &["import", "-"],
        b"{\"user\":9,\"event\":\"active\",\"timestamp\":\"2026-11-21\"}",
    );
    assert_eq!(
        piped.quietly(),
        "imported 1 mark of 1 event by 1 user from 1 file\n1 line, on 2026-11-21\n"
    );
}

#[test]
fn serve_says_where_and_a_taken_port_says_what_to_do() {
    let shop = little_shop();
    let serving = Serving::start(&shop, &["serve", "--listen", "127.0.0.1:0"]);
    let table = serving.get("/retention.csv?cohort=signup&returning=active&rows=4&cols=4");
    assert!(
        table.contains("Fri 20 Nov 2026,4,50.00,25.00,0.00,25.00"),
        "{table}"
    );
    let other = Shop::new();
    let error = other
        .run(&["--store", "memory:", "serve", "--listen", &serving.address])
        .error(1);
    assert!(
        error.contains(&serving.address) && error.contains("--listen"),
        "{error}"
    );
    for listen in [
        "8080",
        "localhost",
        ":8080",
        "127.0.0.1:http",
        "127.0.0.1:99999",
        "",
    ] {
        let error = other.run(&["serve", "--listen", listen]).error(2);
        assert!(
            error.contains("is not an address: write 127.0.0.1:80"),
            "{error}"
        );
    }
}

#[test]
fn a_taken_port_is_found_before_the_store_is_made() {
    let shop = Shop::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, option) in [
        (
            &["serve", "--listen", "127.0.0.1:0", "--resp", &taken][..],
            "--resp 127.0.0.1:6381",
        ),
        (&["serve", "--listen", &taken], "--listen 127.0.0.1:8081"),
        (
            &["demo", "--users", "10", "--days", "2", "--listen", &taken],
            "--listen 127.0.0.1:8081",
        ),
    ] {
        let error = shop.run(args).error(1);
        assert!(
            error.contains(&format!("cannot listen on {taken}: the port is in use")),
            "{error}"
        );
        assert!(error.contains(option), "{error}");
        assert!(
            !shop.path("cohortist.db").exists() && !shop.path("cohortist-demo.db").exists(),
            "{args:?}"
        );
    }
}

#[test]
fn a_store_that_may_not_be_opened_says_what_to_do() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let shop = Shop::new();
    let locked = shop.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    let args = ["--store", "./locked/new.db", "mark", "active", "1"];
    let mut command = shop.command(&args);
    // Root may write anywhere, unless it gives up its capabilities.
    if fs::metadata(&locked).unwrap().uid() == 0 {
        let mut without = shop.inside(Command::new("setpriv"));
        without
            .args(["--bounding-set", "-all"])
            .arg(command.get_program())
            .args(args);
        command = without;
    }
    let error = Ran::from(command.output().unwrap()).error(1);
    assert!(
        error.contains("./locked/new.db: permission denied"),
        "{error}"
    );
    assert!(
        error.contains("`ls -ld`") && error.contains("--store"),
        "{error}"
    );
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_demo_serves_what_it_filled() {
    let shop = Shop::new();
    let args = [
        "--store",
        "memory:",
        "demo",
        "--users",
        "200",
        "--days",
        "20",
        "--listen",
        "127.0.0.1:0",
    ];
    let serving = Serving::start(&shop, &args);
    let json: Value = serde_json::from_str(
        &serving.get("/retention.json?cohort=signup&returning=active&rows=20"),
    )
    .unwrap();
    assert_eq!(json["people"], 200);
}

#[test]
fn the_chart_is_a_drawing() {
    let shop = little_shop();
    let svg = shop
        .run(&[&LITTLE[..], &["--format", "svg"]].concat())
        .quietly();
    assert!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
        "{svg}"
    );
}

#[test]
fn a_demo_fills_an_empty_store_once() {
    let shop = Shop::new();
    let args = ["demo", "--no-serve", "--users", "300", "--days", "20"];
    let ran = shop.run(&args);
    assert!(
        ran.err
            .starts_with("filled ./cohortist-demo.db with 300 users over 20 days: "),
        "{}",
        ran.err
    );
    let store = ["--store", "./cohortist-demo.db"];
    assert_eq!(
        shop.run(&[&store[..], &["count", "signup@2026"]].concat())
            .quietly(),
        "300\n"
    );
    let ever = "plan:free@ever | plan:pro@ever | plan:team@ever";
    assert_eq!(
        shop.run(&[&store[..], &["count", ever]].concat()).quietly(),
        "300\n"
    );
    let hourly = shop.run(
        &[
            &store[..],
            &[
                "retention",
                "active",
                "active",
                "--by",
                "hour",
                "--format",
                "tidy",
            ],
        ]
        .concat(),
    );
    assert!(hourly.quietly().lines().count() > 20);

    let again = shop.run(&args);
    assert!(
        again
            .err
            .starts_with("./cohortist-demo.db was filled by an earlier demo"),
        "{}",
        again.err
    );
    let later: Ran = shop
        .command(&args)
        .env("COHORTIST_NOW", "2026-12-24")
        .output()
        .unwrap()
        .into();
    assert!(later.err.contains("delete --all --yes"), "{}", later.err);

    shop.run(&["mark", "mine", "1"]).done();
    let error = shop
        .run(&[&["--store", "./cohortist.db"], &args[..]].concat())
        .error(1);
    assert!(
        error.contains("1 event that no demo created (`mine`)"),
        "{error}"
    );
    assert_eq!(shop.run(&["events"]).quietly(), "mine\n");
}

#[test]
fn an_unfinished_demo_is_started_over() {
    let shop = Shop::new();
    shop.run(&["mark", "demo:data", "0", "--ever"]).done();
    shop.run(&["mark", "active", "4000000000", "--at", "2020-01-01"])
        .done();
    let ran = shop.run(&[
        "--store",
        "./cohortist.db",
        "demo",
        "--no-serve",
        "--users",
        "10",
        "--days",
        "3",
    ]);
    assert!(
        ran.err
            .starts_with("./cohortist.db has an unfinished demo: starting over\nfilled"),
        "{}",
        ran.err
    );
    let count = shop.run(&["count", "active@2020"]);
    assert_eq!(
        (count.out.as_str(), count.err.as_str()),
        (
            "-\n",
            "note: active@2020 is not recorded: data begins 2026\n"
        )
    );
}

#[test]
fn a_configuration_names_stores_segments_and_a_question_for_every_command() {
    let shop = Shop::new();
    shop.run(&["--store", "./a.db", "mark", "ios", "1", "2"])
        .done();
    shop.run(&["--store", "./a.db", "mark", "web", "2", "3"])
        .done();
    shop.run(&[
        "--store",
        "./b.db",
        "--prefix",
        "bitmapist_",
        "mark",
        "ios",
        "9",
    ])
    .done();
    let file = "title = \"Acme\"\n[stores]\nmain = \"./a.db\"\nold = { store = \"./b.db\", prefix = \"bitmapist_\", read_only = true }\n\
                [segments]\nany = \"ios | web\"\n[question]\ncohort = \"any\"\nreturning = \"web\"\n";
    shop.write("acme.toml", file);
    let any = |args: &[&str]| {
        shop.run(&[args, &["count", "any@2026-11-23"]].concat())
            .quietly()
    };
    assert_eq!(
        any(&["--config", "acme.toml"]),
        "3\n",
        "the first store, and the segment"
    );
    assert_eq!(
        any(&["--config", "acme.toml", "--store", "old"]),
        "1\n",
        "a store by its name, with its prefix"
    );
    assert_eq!(any(&["--config", "acme.toml", "--store", "./a.db"]), "3\n");
    let table = shop
        .run(&[
            "--config",
            "acme.toml",
            "retention",
            "any",
            "web",
            "--rows",
            "1",
            "--cols",
            "1",
        ])
        .quietly();
    assert!(
        table.contains("any → web") && table.contains("66.7%"),
        "{table}"
    );

    // The file of that name is found by itself, but not by a demo.
    shop.write("cohortist.toml", file);
    assert_eq!(any(&[]), "3\n");
    let check = shop.run(&["serve", "--check"]).quietly();
    insta::assert_snapshot!(check, @"
cohortist.toml: 2 stores, 1 saved segment, the question any → web
main: ./a.db
old: ./b.db, read-only
The configuration is valid. No store was opened.
");
    let demo = shop
        .run(&["demo", "--users", "50", "--days", "5", "--no-serve"])
        .done();
    assert_eq!(demo, "");
    assert!(shop.path("cohortist-demo.db").exists());

    let serving = Serving::start(&shop, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(
        serving
            .get("/")
            .contains("id=\"question\">People who did <b>any</b>"),
        "the question of the file"
    );
    assert!(
        serving
            .get("/in/old/people?set=any@2026-11-23")
            .contains("1 person who")
    );
}

#[test]
fn read_only_for_all_is_read_only_for_each() {
    let shop = Shop::new();
    shop.run(&["--store", "./a.db", "mark", "active", "1"])
        .done();
    shop.run(&["--store", "./b.db", "mark", "active", "1"])
        .done();
    let own = "[stores]\na = { store = \"./a.db\", read_only = false }\nb = \"./b.db\"\n";
    let flag = shop.write("flag.toml", own);
    let file = shop.write(
        "file.toml",
        own.replace(", read_only = false", "")
            .replace("[stores]", "read_only = true\n[stores]"),
    );
    let against = shop.write("against.toml", format!("read_only = true\n{own}"));
    let said = shop
        .run(&["--config", &against, "serve", "--check"])
        .error(2);
    assert!(
        said.contains(
            "against.toml, line 3: `stores.a.read_only`: line 1 makes every store read-only"
        ),
        "{said}"
    );

    let token = "a-token-for-tests-only";
    for args in [
        &["--config", &flag, "serve", "--read-only"][..],
        &["--config", &file, "serve"],
    ] {
        let args = [args, &["--write-token", token, "--listen", "127.0.0.1:0"]].concat();
        let serving = Serving::start(&shop, &args);
        for base in ["", "/in/b"] {
            let post = |path: &str, body: &str| {
                let request =
                    crate::http::agent().post(format!("http://{}{base}{path}", serving.address));
                let request = request.header("authorization", format!("Bearer {token}"));
                let request = request.header("content-type", "application/x-www-form-urlencoded");
                request.send(body).unwrap().status().as_u16()
            };
            assert_eq!(
                post("/people?set=active@2026-11-23", "name=mine"),
                403,
                "{args:?} {base}"
            );
            assert_eq!(
                post("/api/v1/marks", "[{\"event\":\"mine\",\"user\":1}]"),
                403,
                "{args:?} {base}"
            );
            assert!(
                !serving
                    .get(&format!("{base}/people?set=active@2026-11-23"))
                    .contains("class=\"save\"")
            );
        }
    }
    for store in ["./a.db", "./b.db"] {
        assert_eq!(
            shop.run(&["--store", store, "events"]).quietly(),
            "active\n"
        );
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_all_its_faults() {
    let shop = Shop::new();
    shop.write("cohortist.toml", "titel = 1\n");
    let said = shop.run(&["serve", "--check"]).error(2);
    assert!(
        said.starts_with(
            "error: cohortist.toml, line 1: `titel`: unknown setting; did you mean `title`?"
        ),
        "{said}"
    );
    shop.write("c.toml", "title = \"\"\n[stores]\na = \"redis://:hunter2@localhost/x y\"\nb = \"$COHORTIST_TEST_NOT_SET\"\n[segments]\nm = \"a &\"\n");
    let said = shop
        .run(&["--config", "c.toml", "serve", "--check"])
        .error(2);
    for part in [
        "line 1: `title`",
        "line 4: `stores.b`: the environment variable COHORTIST_TEST_NOT_SET",
        "line 6: `segments.m`: column 4",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("hunter2"));
    let said = shop
        .run(&["--config", "none.toml", "count", "a@ever"])
        .error(2);
    assert!(
        said.starts_with("error: --config: cannot read none.toml: "),
        "{said}"
    );
    // Nothing was made by any of this.
    assert!(!shop.path("cohortist.db").exists());
}
