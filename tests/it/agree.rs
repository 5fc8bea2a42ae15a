//! The page agrees with itself to the last digit: random marks, a random question, and the table,
//! every file, the chart and every list of people against each other and against a plain reading of
//! what a retention table is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use cohortist::calendar::{Grain, Period};
use cohortist::render::thousands;
use cohortist::reports::retention::Measure;
use cohortist::sets::UserId;
use cohortist::{Extent, Tracker};
use proptest::prelude::*;
use roxmltree::Document;
use scraper::{ElementRef, Html, Selector};
use serde_json::Value;

use crate::support::web::{empty, name, now, serve};

/// One dashboard for all cases. Each case has events of its own, as names begin with its number.
static SHOP: LazyLock<(Tracker, String)> = LazyLock::new(|| {
    let tracker = empty();
    // Everything asked for is recorded, and the store still receives marks; `ends` asks stores that
    // do not.
    for at in [now(), now() - TimeDelta::days(9_000)] {
        tracker
            .batch()
            .mark_to(
                &name("zz:heartbeat"),
                0,
                at,
                Extent {
                    hourly: true,
                    ever: false,
                },
            )
            .unwrap()
            .commit()
            .unwrap();
    }
    let base = format!("http://{}", serve(tracker.clone()));
    (tracker, base)
});
static CASE: AtomicUsize = AtomicUsize::new(0);

/// One connection for all that is asked.
static AGENT: LazyLock<ureq::Agent> = LazyLock::new(crate::http::agent);

fn get(path: &str) -> String {
    let mut answer = AGENT.get(format!("{}{path}", SHOP.1)).call().unwrap();
    if answer.status().as_u16() == 302 {
        return get(answer.headers()["location"].to_str().unwrap());
    }
    let body = answer.body_mut().read_to_string().unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{path}: {body}");
    body
}

// ---- What happened, and what is asked.

const DATED: [&str; 3] = ["signup", "active", "web:ios"];
const EVER: &str = "pro";

/// Who did what, how many hours before now.
#[derive(Debug, Clone)]
struct Marks {
    dated: Vec<(usize, UserId, i64)>,
    ever: Vec<UserId>,
}

fn users() -> impl Strategy<Value = UserId> {
    // Some on both sides of the border of a tile.
    prop_oneof![8 => 0_u32..30, 2 => 65_530_u32..65_545, 1 => Just(UserId::MAX)]
}

fn marks() -> impl Strategy<Value = Marks> {
    let back =
        prop_oneof![3 => 0_i64..30, 4 => 0_i64..24 * 21, 3 => 0_i64..24 * 120, 1 => -60_i64..0];
    let dated = prop::collection::vec((0..DATED.len(), users(), back), 1..160);
    (dated, prop::collection::vec(users(), 0..20)).prop_map(|(dated, ever)| Marks { dated, ever })
}

#[derive(Debug, Clone)]
enum Who {
    Did(usize),
    Ever,
    And(Box<Who>, Box<Who>),
    Or(Box<Who>, Box<Who>),
    Xor(Box<Who>, Box<Who>),
    Not(Box<Who>, Box<Who>),
}

impl Who {
    fn text(&self, case: usize) -> String {
        let pair =
            |a: &Who, sign: &str, b: &Who| format!("({} {sign} {})", a.text(case), b.text(case));
        match self {
            Who::Did(event) => format!("{case}{}", DATED[*event]),
            Who::Ever => format!("{case}{EVER}@ever"),
            Who::And(a, b) => pair(a, "&", b),
            Who::Or(a, b) => pair(a, "|", b),
            Who::Xor(a, b) => pair(a, "^", b),
            Who::Not(a, b) => pair(a, "& !", b),
        }
    }

    fn users(&self, marks: &Marks, period: Period) -> BTreeSet<UserId> {
        let inside =
            |back: i64| (period.start()..period.end()).contains(&(now() - TimeDelta::hours(back)));
        let all = |who: &Who| who.users(marks, period);
        match self {
            Who::Did(event) => marks
                .dated
                .iter()
                .filter(|(e, _, back)| e == event && inside(*back))
                .map(|(_, user, _)| *user)
                .collect(),
            Who::Ever => marks.ever.iter().copied().collect(),
            Who::And(a, b) => &all(a) & &all(b),
            Who::Or(a, b) => &all(a) | &all(b),
            Who::Xor(a, b) => &all(a) ^ &all(b),
            Who::Not(a, b) => &all(a) - &all(b),
        }
    }
}

fn who() -> impl Strategy<Value = Who> {
    let leaf = prop_oneof![6 => (0..DATED.len()).prop_map(Who::Did), 1 => Just(Who::Ever)];
    let two = (leaf.clone(), leaf.clone()).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
    prop_oneof![
        6 => (0..DATED.len()).prop_map(Who::Did),
        4 => (two, 0..4).prop_map(|((a, b), sign)| match sign {
            0 => Who::And(a, b),
            1 => Who::Or(a, b),
            2 => Who::Xor(a, b),
            _ => Who::Not(a, b),
        }),
    ]
}

impl Who {
    /// Whether anything was recorded up to a day that could put somebody into it.
    fn is_possible(&self, marks: &Marks, day: NaiveDate) -> bool {
        match self {
            Who::Did(event) => marks
                .dated
                .iter()
                .any(|(e, _, back)| e == event && date(*back) <= day),
            Who::Ever => true,
            Who::And(a, b) => a.is_possible(marks, day) && b.is_possible(marks, day),
            Who::Or(a, b) | Who::Xor(a, b) => {
                a.is_possible(marks, day) || b.is_possible(marks, day)
            }
            Who::Not(a, _) => a.is_possible(marks, day),
        }
    }
}

fn date(hours_back: i64) -> NaiveDate {
    (now() - TimeDelta::hours(hours_back)).date_naive()
}

#[derive(Debug, Clone)]
struct Question {
    cohort: Vec<Who>,
    returning: Vec<Who>,
    grain: Grain,
    rows: i64,
    cols: usize,
    /// Days before today.
    from: Option<i64>,
    to: Option<i64>,
    or_later: bool,
    percent: bool,
    weighted: bool,
}

fn questions() -> impl Strategy<Value = Question> {
    let grain = prop_oneof![
        2 => Just(Grain::Hour), 4 => Just(Grain::Day), 3 => Just(Grain::WEEK), 2 => Just(Grain::Month), 1 => Just(Grain::Year)
    ];
    let side = || {
        (
            who(),
            prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(who(), 1..3)],
        )
    };
    let side = move || side().prop_map(|(first, more)| [vec![first], more].concat());
    let ways = (any::<bool>(), any::<bool>(), any::<bool>());
    (
        side(),
        side(),
        grain,
        (1_i64..7, 1_usize..7),
        ways,
        (0_u8..4, 0_i64..40, 0_i64..40),
    )
        .prop_map(
            |(
                cohort,
                returning,
                grain,
                (rows, cols),
                (or_later, percent, weighted),
                (range, one, other),
            )| {
                // At most some ten rows between two dates.
                let (from, to) = match grain {
                    Grain::Hour => (one % 3, one % 3),
                    Grain::Day => (one.max(other).min(one.min(other) + 7), one.min(other)),
                    _ => (one.max(other), one.min(other)),
                };
                let (from, to) = (
                    Some(from).filter(|_| range & 1 > 0),
                    Some(to).filter(|_| range & 2 > 0),
                );
                Question {
                    cohort,
                    returning,
                    grain,
                    rows,
                    cols,
                    from,
                    to,
                    or_later,
                    percent,
                    weighted,
                }
            },
        )
}

impl Question {
    fn query(&self, case: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (field, side) in [("cohort", &self.cohort), ("returning", &self.returning)] {
            for (i, who) in side.iter().enumerate() {
                query.append_pair(
                    &format!("{field}{}", if i == 0 { "" } else { "_and" }),
                    &who.text(case),
                );
            }
        }
        let date = |back: i64| (now() - TimeDelta::days(back)).date_naive().to_string();
        query.append_pair("by", self.grain.as_str());
        query
            .append_pair("rows", &self.rows.to_string())
            .append_pair("cols", &self.cols.to_string());
        query.append_pair("measure", if self.or_later { "on_or_after" } else { "on" });
        query.append_pair("as", if self.percent { "percent" } else { "count" });
        query.append_pair("average", if self.weighted { "weighted" } else { "simple" });
        for (field, back) in [("from", self.from), ("to", self.to)] {
            if let Some(back) = back {
                query.append_pair(field, &date(back));
            }
        }
        query.finish()
    }
}

// ---- The plain answer.

#[derive(Debug)]
struct Expected {
    rows: Vec<ExpectedRow>,
    averages: Vec<Option<ExpectedAverage>>,
    /// The first day on which somebody could be in a cohort; `None` when there is none up to today,
    /// or no beginning.
    begins: Option<NaiveDate>,
}

#[derive(Debug)]
struct ExpectedRow {
    period: Period,
    cohort: BTreeSet<UserId>,
    running: bool,
    /// As far as they have begun; none of an empty cohort.
    cells: Vec<ExpectedCell>,
}

#[derive(Debug)]
struct ExpectedCell {
    period: Period,
    returned: BTreeSet<UserId>,
    rate: f64,
    running: bool,
}

#[derive(Debug)]
struct ExpectedAverage {
    cohorts: usize,
    retained: usize,
    size: usize,
    rate: f64,
    interval: Option<(f64, f64)>,
}

/// Wilson's interval, from the textbook.
fn wilson(retained: usize, size: usize) -> (f64, f64) {
    let (n, p, z) = (
        size as f64,
        retained as f64 / size as f64,
        1.959_963_984_540_054_f64,
    );
    let middle = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    ((middle - half) / scale, (middle + half) / scale)
}

fn all_of(side: &[Who], marks: &Marks, period: Period) -> BTreeSet<UserId> {
    let mut sets = side.iter().map(|who| who.users(marks, period));
    let first = sets.next().unwrap();
    sets.fold(first, |a, b| &a & &b)
}

fn expected(marks: &Marks, question: &Question) -> Expected {
    let running = Period::containing(question.grain, now()).unwrap();
    let holding = |moment: DateTime<Utc>| Period::containing(question.grain, moment).unwrap();
    let midnight = |back: i64| {
        (now() - TimeDelta::days(back))
            .date_naive()
            .and_hms_opt(0, 0, 0)
            .unwrap()
            .and_utc()
    };
    let until = question
        .to
        .map(|to| holding(midnight(to) + TimeDelta::hours(23)).min(running));
    let cols = i64::try_from(question.cols).unwrap();
    let (first, last) = match question.from.map(|from| holding(midnight(from))) {
        Some(first) => (
            first,
            until.unwrap_or_else(|| first.shift(question.rows - 1).unwrap().min(running)),
        ),
        None => {
            let youngest = if question.or_later {
                running.shift(-cols).unwrap()
            } else {
                running
            };
            let last = until.unwrap_or(youngest);
            (last.shift(1 - question.rows).unwrap(), last)
        }
    };
    let count = last.since(first).unwrap() + 1;
    let row = |i: i64| {
        let period = first.shift(i).unwrap();
        let cohort = all_of(&question.cohort, marks, period);
        let back = |k: i64| period.shift(k).unwrap();
        let begun: Vec<i64> = (0..cols)
            .filter(|k| !cohort.is_empty() && back(*k) <= running)
            .collect();
        let came = |k: i64| &cohort & &all_of(&question.returning, marks, back(k));
        let cell = |k: &i64| {
            // A union of what has begun, never a sum.
            let returned = match question.or_later {
                true => begun
                    .iter()
                    .filter(|later| *later >= k)
                    .flat_map(|later| came(*later))
                    .collect(),
                false => came(*k),
            };
            let decided_by = if question.or_later {
                back(cols - 1)
            } else {
                back(*k)
            };
            let rate = returned.len() as f64 / cohort.len() as f64;
            ExpectedCell {
                period: back(*k),
                returned,
                rate,
                running: decided_by >= running,
            }
        };
        let cells = begun.iter().map(cell).collect();
        ExpectedRow {
            period,
            cells,
            cohort,
            running: period == running,
        }
    };
    let rows: Vec<ExpectedRow> = (0..count).map(row).collect();
    let counted: Vec<_> = rows
        .iter()
        .filter(|row| row.cells.iter().any(|cell| !cell.running))
        .collect();
    let people: BTreeSet<UserId> = counted
        .iter()
        .flat_map(|row| row.cohort.iter().copied())
        .collect();
    let disjoint = people.len() == counted.iter().map(|row| row.cohort.len()).sum::<usize>();
    let average = |k: usize| {
        let cells: Vec<(usize, &ExpectedCell)> = rows
            .iter()
            .filter_map(|row| {
                Some((
                    row.cohort.len(),
                    row.cells.get(k).filter(|cell| !cell.running)?,
                ))
            })
            .collect();
        let (retained, size) = (
            cells.iter().map(|c| c.1.returned.len()).sum(),
            cells.iter().map(|c| c.0).sum(),
        );
        (!cells.is_empty()).then(|| ExpectedAverage {
            cohorts: cells.len(),
            retained,
            size,
            rate: match question.weighted {
                true => retained as f64 / size as f64,
                false => cells.iter().map(|c| c.1.rate).sum::<f64>() / cells.len() as f64,
            },
            interval: (question.weighted && disjoint).then(|| wilson(retained, size)),
        })
    };
    let averages = (0..question.cols).map(average).collect();
    // Before the first mark of all nothing is recorded, unless it needs no date.
    let days: BTreeSet<NaiveDate> = marks.dated.iter().map(|(_, _, back)| date(*back)).collect();
    let possible = |day: NaiveDate| {
        question
            .cohort
            .iter()
            .all(|who| who.is_possible(marks, day))
    };
    let always = possible(NaiveDate::MIN);
    let begins = days
        .into_iter()
        .find(|day| possible(*day))
        .filter(|day| !always && *day <= now().date_naive());
    Expected {
        rows,
        averages,
        begins,
    }
}

// ---- What the page says.

/// A number of the table as a reader has it.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    text: String,
    starred: bool,
    hatched: bool,
    href: Option<String>,
    /// The whole sentence.
    name: String,
}

#[derive(Debug)]
struct Line {
    label: String,
    size: Shown,
    /// `None` where nothing stands.
    numbers: Vec<Option<Shown>>,
    /// The small figures below the numbers of the average row.
    small: Vec<String>,
}

/// How many cohorts without people are folded into other rows.
fn folded(page: &Html) -> usize {
    let rows = all(page.root_element(), "table.cohorts tr.folded");
    let count = |row: ElementRef<'_>| row.attr("data-rows").unwrap().parse::<usize>().unwrap();
    rows.into_iter().map(count).sum()
}

fn all<'a>(element: ElementRef<'a>, css: &str) -> Vec<ElementRef<'a>> {
    let selector = Selector::parse(css).unwrap();
    element.select(&selector).collect()
}

fn text(element: ElementRef<'_>) -> String {
    element.text().collect::<String>().trim().to_owned()
}

fn shown(cell: ElementRef<'_>) -> Shown {
    let link = all(cell, "a").first().copied();
    let own = link.unwrap_or(cell);
    let words: String = own
        .children()
        .filter_map(|node| Some(node.value().as_text()?.to_string()))
        .collect();
    let words = words.trim();
    Shown {
        text: words.trim_end_matches('*').to_owned(),
        starred: words.ends_with('*'),
        hatched: cell.value().classes().any(|class| class == "run"),
        href: link.and_then(|a| a.attr("href")).map(str::to_owned),
        name: own.attr("aria-label").unwrap_or_default().to_owned(),
    }
}

fn read_table(page: &Html) -> Vec<Line> {
    let line = |row: ElementRef<'_>| {
        let cells = all(row, "td");
        let wide = |cell: &&ElementRef<'_>| cell.attr("colspan").is_none();
        let numbers = cells[1..]
            .iter()
            .filter(wide)
            .map(|cell| Some(shown(*cell)).filter(|s| !s.text.is_empty()));
        let small = cells[1..]
            .iter()
            .map(|cell| all(*cell, "small").into_iter().map(text).collect())
            .collect();
        Line {
            label: text(all(row, "th")[0]),
            size: self::shown(cells[0]),
            numbers: numbers.collect(),
            small,
        }
    };
    all(
        page.root_element(),
        "table.cohorts > tbody > tr:not(.folded)",
    )
    .into_iter()
    .map(line)
    .collect()
}

fn percent(rate: f64) -> String {
    format!("{:.1}%", rate * 100.0)
}

/// A rate of fewer than 30 people has no decimals.
fn rate_of(rate: f64, people: usize) -> String {
    let whole = format!("{:.0}%", rate * 100.0);
    match (&*whole, people) {
        (_, 30..) => percent(rate),
        ("0%", _) if rate > 0.0 => "<1%".to_owned(),
        ("100%", _) if rate < 1.0 => ">99%".to_owned(),
        _ => whole,
    }
}

fn check_page(page: &Html, question: &Question, expected: &Expected) {
    let mut lines = read_table(page);
    if expected.averages.iter().any(Option::is_some) {
        let at = lines
            .iter()
            .position(|line| line.label.contains("average"))
            .expect("an average row");
        let mean = lines.remove(at);
        assert!(mean.label.to_lowercase().starts_with(if question.weighted {
            "weighted"
        } else {
            "simple"
        }));
        for (k, average) in expected.averages.iter().enumerate() {
            let Some(average) = average else {
                assert_eq!(mean.numbers[k], None);
                continue;
            };
            let number = mean.numbers[k].as_ref().unwrap();
            assert_eq!(
                (&number.text, number.starred, number.hatched),
                (&rate_of(average.rate, average.size), false, false)
            );
            assert_eq!(mean.small[k], average.cohorts.to_string());
            let (retained, size) = (average.retained as u64, average.size as u64);
            assert!(
                number
                    .name
                    .contains(&format!("{} of {} ", thousands(retained), thousands(size))),
                "{number:?}"
            );
            let interval = average
                .interval
                .map(|(low, high)| format!("(95% {:.1}–{:.1})", low * 100.0, high * 100.0));
            assert_eq!(
                number.name.contains("(95% "),
                interval.is_some(),
                "{number:?}"
            );
            assert!(
                number.name.contains(&interval.unwrap_or_default()),
                "{number:?}"
            );
        }
    }
    let by_label: BTreeMap<&str, &Line> = lines
        .iter()
        .map(|line| (line.label.trim_end_matches(" †"), line))
        .collect();
    let folded = folded(page);
    assert_eq!(
        (lines.len() + folded, by_label.len() + folded),
        (expected.rows.len(), expected.rows.len()),
        "{:?}",
        by_label.keys()
    );
    for row in &expected.rows {
        let Some(line) = by_label.get(&*row.period.label()) else {
            assert!(
                folded > 0 && row.cohort.is_empty(),
                "{} in {lines:?}",
                row.period.label()
            );
            continue;
        };
        let size = (line.size.text.clone(), line.size.starred);
        let begins = expected
            .begins
            .map(|day| day.and_time(NaiveTime::MIN).and_utc());
        let (is_partial, is_unrecorded) = (line.label.ends_with('†'), line.size.text.is_empty());
        // What is said of the beginning is true. Of an event that is news to the list of all keys
        // nothing is said.
        if let Some(begins) = begins {
            assert!(
                !is_partial || (row.period.start() < begins && begins < row.period.end()),
                "{}",
                line.label
            );
            assert!(!is_unrecorded, "{}", line.label);
        }
        // A cohort of nobody has no link.
        if is_unrecorded {
            assert_eq!((row.cohort.len(), line.size.starred), (0, false));
        } else {
            assert_eq!(size, (row.cohort.len().to_string(), row.running));
        }
        assert_eq!(line.size.href.is_some(), !row.cohort.is_empty());
        assert!(
            line.numbers.len() >= row.cells.len() || row.cohort.is_empty(),
            "{line:?}"
        );
        for (k, number) in line.numbers.iter().enumerate() {
            let Some(cell) = row.cells.get(k) else {
                assert_eq!(*number, None, "column {k} of {} has not begun", line.label);
                continue;
            };
            let number = number
                .as_ref()
                .unwrap_or_else(|| panic!("column {k} of {line:?}"));
            let wanted = if question.percent {
                rate_of(cell.rate, row.cohort.len())
            } else {
                cell.returned.len().to_string()
            };
            assert_eq!(
                (&number.text, number.starred, number.hatched),
                (&wanted, cell.running, cell.running)
            );
            let people = if row.cohort.len() == 1 {
                "person"
            } else {
                "people"
            };
            let said = format!(
                "{} of {} {people}, {} (95% ",
                cell.returned.len(),
                row.cohort.len(),
                rate_of(cell.rate, row.cohort.len())
            );
            assert!(
                number.name.starts_with(&said),
                "{} should begin with {said}",
                number.name
            );
            let measure = if question.or_later {
                Measure::OnOrAfter
            } else {
                Measure::On
            };
            let when = cohortist::render::words::counted_in(measure, cell.period);
            let state = if cell.running {
                "still in progress"
            } else {
                "complete"
            };
            let end = format!(", came back {when}, {state}");
            assert!(
                number.name.ends_with(&end),
                "{} should end with {end}",
                number.name
            );
            assert!(number.href.is_some());
        }
    }
}

// ---- What the files say.

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

fn check_json(json: &Value, expected: &Expected) {
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), expected.rows.len());
    for (row, said) in expected.rows.iter().zip(rows) {
        assert_eq!(said["cohort"], row.period.to_string());
        assert_eq!(said["label"], row.period.label());
        assert_eq!(said["size"], row.cohort.len());
        assert_eq!(
            said["state"],
            if row.running {
                "in_progress"
            } else {
                "complete"
            }
        );
        let cells = said["cells"].as_array().unwrap();
        assert_eq!(cells.len(), row.cells.len());
        for (k, (cell, said)) in row.cells.iter().zip(cells).enumerate() {
            assert_eq!(
                (said["index"].as_u64(), said["period"].as_str()),
                (Some(k as u64), Some(&*cell.period.to_string()))
            );
            assert_eq!(
                (said["retained"].as_u64(), said["rate"].as_f64()),
                (Some(cell.returned.len() as u64), Some(cell.rate))
            );
            assert_eq!(
                said["state"],
                if cell.running {
                    "in_progress"
                } else {
                    "complete"
                }
            );
            let (low, high) = wilson(cell.returned.len(), row.cohort.len());
            assert!(
                close(said["interval"][0].as_f64().unwrap(), low)
                    && close(said["interval"][1].as_f64().unwrap(), high)
            );
        }
    }
    let averages = json["average"].as_array().unwrap();
    assert_eq!(averages.len(), expected.averages.len());
    for (average, said) in expected.averages.iter().zip(averages) {
        let Some(average) = average else {
            assert_eq!(*said, Value::Null);
            continue;
        };
        assert!(close(said["rate"].as_f64().unwrap(), average.rate));
        assert_eq!(said["cohorts"], average.cohorts);
        assert_eq!(
            (&said["retained"], &said["size"]),
            (&average.retained.into(), &average.size.into())
        );
        assert_eq!(said["interval"].is_array(), average.interval.is_some());
        if let Some((low, high)) = average.interval {
            assert!(
                close(said["interval"][0].as_f64().unwrap(), low)
                    && close(said["interval"][1].as_f64().unwrap(), high)
            );
        }
    }
    let sizes = |rows: &mut dyn Iterator<Item = &ExpectedRow>| {
        let cohorts: Vec<_> = rows.map(|row| &row.cohort).collect();
        let people: BTreeSet<UserId> = cohorts
            .iter()
            .flat_map(|cohort| cohort.iter().copied())
            .collect();
        (
            cohorts.iter().map(|cohort| cohort.len()).sum::<usize>(),
            people.len(),
        )
    };
    let mut complete = expected
        .rows
        .iter()
        .filter(|row| row.cells.iter().any(|cell| !cell.running));
    assert_eq!(
        (&json["entries"], &json["people"]),
        pair(&sizes(&mut expected.rows.iter()))
    );
    assert_eq!(
        (&json["complete_entries"], &json["complete_people"]),
        pair(&sizes(&mut complete))
    );
}

fn pair((a, b): &(usize, usize)) -> (&'static Value, &'static Value) {
    // Leaked: a few bytes a case, for a comparison that prints both sides.
    (
        Box::leak(Box::new(Value::from(*a))),
        Box::leak(Box::new(Value::from(*b))),
    )
}

fn check_csv(wide: &str, tidy: &str, question: &Question, expected: &Expected) {
    let records = |text: &str| -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(text.as_bytes());
        reader
            .records()
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect()
    };
    let wide = records(wide);
    let head: Vec<String> = ["cohort".into(), "size".into()]
        .into_iter()
        .chain((0..question.cols).map(|k| k.to_string()))
        .collect();
    assert_eq!((wide.len(), &wide[0]), (expected.rows.len() + 1, &head));
    let mut lines = Vec::new();
    for (row, said) in expected.rows.iter().zip(&wide[1..]) {
        let number = |k: usize| match row.cells.get(k) {
            None => String::new(),
            Some(cell) if question.percent => format!("{:.2}", cell.rate * 100.0),
            Some(cell) => cell.returned.len().to_string(),
        };
        let numbers = (0..question.cols).map(number);
        let wanted: Vec<String> = [row.period.label(), row.cohort.len().to_string()]
            .into_iter()
            .chain(numbers)
            .collect();
        assert_eq!(*said, wanted);
        let form = if question.grain == Grain::Hour {
            "%Y-%m-%dT%H:%M:%SZ"
        } else {
            "%Y-%m-%d"
        };
        let bounds = |p: Period| {
            [
                p.start().format(form).to_string(),
                p.end().format(form).to_string(),
            ]
        };
        let of_cohort = if row.running {
            "in_progress"
        } else {
            "complete"
        };
        for (k, cell) in row.cells.iter().enumerate() {
            let ([start, end], [from, to]) = (bounds(row.period), bounds(cell.period));
            let state = if cell.running {
                "in_progress"
            } else {
                "complete"
            };
            let figures = [row.cohort.len().to_string(), k.to_string()];
            let came = [
                cell.returned.len().to_string(),
                cell.rate.to_string(),
                state.to_owned(),
            ];
            lines.push(
                [
                    vec![start, end],
                    figures.to_vec(),
                    vec![from, to],
                    came.to_vec(),
                    vec![of_cohort.to_owned(), String::new()],
                ]
                .concat(),
            );
        }
    }
    assert_eq!(records(tidy)[1..], lines[..]);
}

// ---- What the chart draws.

type Point = (f64, f64);

/// The points of the marks of one class, as the chart has them.
fn points(chart: &Document<'_>, class: &str, mark: &str) -> Vec<Vec<Point>> {
    let groups = chart
        .descendants()
        .filter(|node| node.attribute("class") == Some(class));
    let marks = groups.flat_map(|group| {
        group
            .descendants()
            .filter(|node| node.tag_name().name() == mark)
    });
    let number = |text: &str| text.parse::<f64>().unwrap();
    let line = |points: &str| -> Vec<Point> {
        let pairs = points
            .split_whitespace()
            .map(|pair| pair.split_once(',').unwrap());
        pairs.map(|(x, y)| (number(x), number(y))).collect()
    };
    // Lines that are no more than lines are one path.
    if let Some(path) = chart.descendants().find(|node| {
        node.tag_name().name() == "path"
            && node.parent().and_then(|group| group.attribute("class")) == Some(class)
    }) {
        return path
            .attribute("d")
            .unwrap()
            .split('M')
            .skip(1)
            .map(line)
            .collect();
    }
    marks
        .map(|mark| match mark.attribute("points") {
            Some(points) => line(points),
            None => vec![(
                number(mark.attribute("cx").unwrap()),
                number(mark.attribute("cy").unwrap()),
            )],
        })
        .collect()
}

/// Where the plane of the curve lies on its canvas.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 1544.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 378.0;

/// Where those of the sizes and of the trend end, and the latter's height.
const SIZES_RIGHT: f64 = 796.0;
const TREND_LEFT: f64 = 104.0;
const TREND_RIGHT: f64 = 1692.0;
const TREND: (f64, f64) = (44.0, 408.0);

fn check_chart(svg: &str, question: &Question, expected: &Expected) {
    let chart = Document::parse(svg).unwrap_or_else(|e| panic!("{e} in {svg}"));
    let ticks = chart
        .descendants()
        .filter(|node| node.attribute("class") == Some("ticks"));
    let ticks = ticks
        .flat_map(|group| group.descendants())
        .filter_map(|node| node.text()?.strip_suffix('%')?.parse().ok());
    let top = ticks.fold(0.0_f64, f64::max);
    assert!(top > 0.0, "{svg}");
    // Column 0 is left out where it is far above the others.
    let from = match &expected.averages[..] {
        [Some(first), Some(next), _, ..] => {
            usize::from(next.rate < 0.4 && first.rate > next.rate * 1.5)
        }
        _ => 0,
    };
    let steps = (question.cols - from).saturating_sub(1).max(1) as f64;
    let place = |k: usize, rate: f64| {
        (
            LEFT + (k - from) as f64 / steps * (RIGHT - LEFT),
            BOTTOM - rate * 100.0 / top * (BOTTOM - TOP),
        )
    };
    // plotters draws on whole units.
    let same = |drawn: &[Vec<Point>], wanted: &[Vec<Point>], what: &str| {
        let near = |a: &Point, b: &Point| (a.0 - b.0).abs() <= 1.0 && (a.1 - b.1).abs() <= 1.0;
        let mut left: Vec<&Vec<Point>> = drawn.iter().collect();
        for line in wanted {
            let fits = |d: &&Vec<Point>| {
                d.len() == line.len() && d.iter().zip(line).all(|(a, b)| near(a, b))
            };
            let at = left
                .iter()
                .position(fits)
                .unwrap_or_else(|| panic!("no {what} {line:?} among {left:?}"));
            left.remove(at);
        }
        assert!(left.is_empty(), "{what}s nobody asked for: {left:?}");
    };
    let average: Vec<Option<Point>> = expected
        .averages
        .iter()
        .enumerate()
        .skip(from)
        .map(|(k, a)| Some(place(k, a.as_ref()?.rate)))
        .collect();
    for (class, few) in [("dots", false), ("dots few", true)] {
        let of_class = expected.averages.iter().enumerate().skip(from);
        let of_class = of_class.filter_map(|(k, a)| Some((k, a.as_ref()?)));
        let dots: Vec<Vec<Point>> = of_class
            .filter(|(_, a)| (a.size < 30) == few)
            .map(|(k, a)| vec![place(k, a.rate)])
            .collect();
        same(&points(&chart, class, "circle"), &dots, class);
    }
    let lines: Vec<Vec<Point>> = average
        .split(Option::is_none)
        .map(|line| line.iter().flatten().copied().collect())
        .collect();
    let drawn = points(&chart, "average", "polyline");
    let visible = |lines: Vec<Vec<Point>>| -> Vec<Vec<Point>> {
        lines.into_iter().filter(|l| l.len() > 1).collect()
    };
    same(&visible(drawn), &visible(lines), "average line");

    let line = |row: &ExpectedRow, keep: &dyn Fn(usize) -> bool| -> Vec<Point> {
        (0..row.cells.len())
            .filter(|k| *k >= from && keep(*k))
            .map(|k| place(k, row.cells[k].rate))
            .collect()
    };
    let complete = |row: &ExpectedRow| row.cells.iter().filter(|cell| !cell.running).count();
    let solid = expected
        .rows
        .iter()
        .map(|row| line(row, &|k| k < complete(row)))
        .collect();
    same(
        &points(&chart, "single", "polyline"),
        &visible(solid),
        "cohort",
    );
    assert!(
        points(&chart, "single running", "polyline").is_empty(),
        "what is running leads nowhere"
    );

    let words: Vec<&str> = chart
        .descendants()
        .filter(|n| n.tag_name().name() == "text")
        .filter_map(|n| n.text())
        .collect();
    if let Some(Some(next)) = expected.averages.get(1) {
        let next = rate_of(next.rate, next.size);
        assert!(words.contains(&&*next), "{words:?}");
    }
    let told = chart
        .descendants()
        .find(|n| n.tag_name().name() == "desc")
        .unwrap()
        .text()
        .unwrap();
    let (first, last) = (
        expected.averages.iter().flatten().next(),
        expected.averages.iter().flatten().next_back(),
    );
    for rate in [first, last]
        .into_iter()
        .flatten()
        .map(|average| percent(average.rate))
    {
        assert!(told.contains(&rate), "{rate} in {told}");
    }
    assert_eq!(told == "No period is complete yet.", first.is_none());
}

/// A drawing of the page.
fn drawing(page: &str, class: &str) -> String {
    let found = page.split("<svg").skip(1).find(|svg| {
        svg.split('>')
            .next()
            .unwrap()
            .contains(&format!("chart {class}"))
    });
    format!(
        "<svg{}</svg>",
        found
            .unwrap_or_else(|| panic!("no {class}"))
            .split("</svg>")
            .next()
            .unwrap()
    )
}

/// The words of the ticks on the left.
fn ticks<'a>(chart: &'a Document<'_>) -> Vec<&'a str> {
    let groups = chart
        .descendants()
        .filter(|node| node.attribute("class") == Some("ticks"));
    let left = groups.filter(|group| group.attribute("text-anchor") == Some("end"));
    left.flat_map(|group| group.descendants())
        .filter(|node| node.is_text())
        .filter_map(|node| node.text())
        .collect()
}

/// Whether it is an area for the pointer.
fn is_hit(node: &roxmltree::Node<'_, '_>) -> bool {
    node.parent().and_then(|group| group.attribute("class")) == Some("hits")
}

/// Each cohort has an area for the pointer that says its size.
fn check_hits(chart: &Document<'_>, expected: &Expected) {
    let hits: Vec<_> = chart.descendants().filter(is_hit).collect();
    assert_eq!(hits.len(), expected.rows.len());
    for (hit, row) in hits.iter().zip(&expected.rows) {
        assert_eq!(hit.attribute("data-at"), Some(&*row.period.to_string()));
        let said = hit.first_element_child().unwrap().text().unwrap();
        let people = cohortist::render::words::people(row.cohort.len() as u64);
        assert!(
            said.starts_with(&row.period.label())
                && (said.contains(&people) || row.cohort.is_empty()),
            "{said}"
        );
    }
}

/// Each cohort's bar is as high as its size, and pale while it runs.
fn check_sizes(svg: &str, expected: &Expected) {
    let chart = Document::parse(svg).unwrap();
    if expected.rows.iter().all(|row| row.cohort.is_empty()) {
        assert!(svg.contains("no people in any cohort"), "{svg}");
        return;
    }
    let top = ticks(&chart)
        .last()
        .unwrap()
        .replace(',', "")
        .parse::<f64>()
        .unwrap();
    let steps = expected.rows.len() as f64;
    let mut drawn = 0;
    for (i, row) in expected
        .rows
        .iter()
        .enumerate()
        .filter(|(_, row)| !row.cohort.is_empty())
    {
        let at = row.period.to_string();
        let bar = chart
            .descendants()
            .find(|node| node.attribute("data-at") == Some(&at))
            .expect("a bar");
        let number = |name: &str| bar.attribute(name).unwrap().parse::<f64>().unwrap();
        // What is in progress does not stretch the axis, and ends with it.
        let people = row.cohort.len() as f64;
        let people = if row.running { people.min(top) } else { people };
        let high = people / top * (BOTTOM - TOP);
        assert!(
            (number("height") - high).abs() <= 1.0
                && (number("y") + number("height") - BOTTOM).abs() <= 1.0,
            "{at}: {svg}"
        );
        let middle = LEFT + (i as f64 + 0.5) / steps * (SIZES_RIGHT - LEFT);
        assert!(
            (number("x") + number("width") / 2.0 - middle).abs() <= 1.5,
            "{at}: {svg}"
        );
        let class = bar.parent().unwrap().attribute("class");
        assert_eq!(
            class,
            Some(if row.running { "bars running" } else { "bars" }),
            "{at}"
        );
        drawn += 1;
    }
    assert_eq!(
        chart
            .descendants()
            .filter(|node| node.attribute("data-at").is_some() && !is_hit(node))
            .count(),
        drawn
    );
    check_hits(&chart, expected);
}

/// Each cohort's point of the trend is at its rate, its whisker spans its interval, and the rule is
/// at the average.
fn check_trend(svg: &str, column: usize, expected: &Expected) {
    let chart = Document::parse(svg).unwrap();
    let top = ticks(&chart)
        .last()
        .unwrap()
        .trim_end_matches('%')
        .parse::<f64>()
        .unwrap();
    let height = |rate: f64| TREND.1 - (rate * 100.0).min(top) / top * (TREND.1 - TREND.0);
    let steps = expected.rows.len() as f64;
    let (mut dots, mut whiskers) = (0, points(&chart, "whiskers", "polyline"));
    for (i, row) in expected.rows.iter().enumerate() {
        let Some(cell) = row.cells.get(column) else {
            continue;
        };
        let at = row.period.to_string();
        let dot = chart
            .descendants()
            .find(|node| node.attribute("data-at") == Some(&at))
            .expect("a dot");
        let number = |name: &str| dot.attribute(name).unwrap().parse::<f64>().unwrap();
        let x = TREND_LEFT + (i as f64 + 0.5) / steps * (TREND_RIGHT - TREND_LEFT);
        assert!(
            (number("cx") - x).abs() <= 1.0 && (number("cy") - height(cell.rate)).abs() <= 1.0,
            "{at}: {svg}"
        );
        let class = dot.parent().unwrap().attribute("class");
        assert_eq!(
            class,
            Some(match (cell.running, row.cohort.len()) {
                (true, _) => "dots running",
                (false, ..30) => "dots few",
                (false, _) => "dots full",
            }),
            "{at}"
        );
        let (low, high) = wilson(cell.returned.len(), row.cohort.len());
        let ends = |line: &Vec<Point>| {
            (line[0].0 - x).abs() <= 1.0
                && (line[0].1 - height(low)).abs() <= 1.0
                && (line[1].1 - height(high)).abs() <= 1.0
        };
        dots += 1;
        // What is in progress or of few people has a dot and no more.
        if cell.running || row.cohort.len() < 30 {
            continue;
        }
        let found = whiskers
            .iter()
            .position(ends)
            .unwrap_or_else(|| panic!("no interval of {at} in {whiskers:?}"));
        whiskers.remove(found);
    }
    assert_eq!(
        (
            chart
                .descendants()
                .filter(|node| node.attribute("data-at").is_some() && !is_hit(node))
                .count(),
            whiskers.len()
        ),
        (dots, 0)
    );
    let rule = points(&chart, "mean", "polyline");
    match &expected.averages[column] {
        Some(average) => {
            assert!(
                (rule[0][0].1 - height(average.rate)).abs() <= 1.0,
                "{rule:?}"
            );
            assert!(
                svg.contains(&format!("average {}", percent(average.rate))),
                "{svg}"
            );
        }
        None => assert!(rule.is_empty(), "{svg}"),
    }
}

/// A chart's table for those who do not see it: its rows.
fn twin(page: &Html, caption: &str) -> Vec<Vec<String>> {
    let tables = all(page.root_element(), "div.sr > table");
    let table = tables
        .into_iter()
        .find(|table| text(all(*table, "caption")[0]).starts_with(caption));
    let rows = all(
        table.unwrap_or_else(|| panic!("no table “{caption}”")),
        "tr",
    );
    rows[1..]
        .iter()
        .map(|row| all(*row, "th, td").into_iter().map(text).collect())
        .collect()
}

fn check_twins(page: &Html, question: &Question, column: usize, expected: &Expected) {
    let spread = |(low, high): (f64, f64)| format!("{} to {}", percent(low.abs()), percent(high));
    // The curve's: so few columns that each is named.
    let wanted: Vec<[String; 3]> = expected
        .averages
        .iter()
        .map(|average| match average {
            Some(a) => [
                percent(a.rate),
                a.interval.map_or("none".to_owned(), spread),
                a.cohorts.to_string(),
            ],
            None => ["not complete yet".to_owned(), String::new(), "0".to_owned()],
        })
        .collect();
    let said = twin(page, "Retention curve in numbers");
    assert_eq!(
        said.iter().map(|row| row[1..].to_vec()).collect::<Vec<_>>(),
        wanted
    );

    let wanted: Vec<Vec<String>> = expected
        .rows
        .iter()
        .map(|row| {
            let cell = row.cells.get(column);
            let state = match cell {
                Some(cell) if cell.running => "in progress",
                Some(_) => "complete",
                None if row.cohort.is_empty() => "no people",
                None => "not begun",
            };
            let came = cell.map(|cell| {
                [
                    percent(cell.rate),
                    spread(wilson(cell.returned.len(), row.cohort.len())),
                ]
            });
            [
                vec![row.period.label()],
                came.unwrap_or_default().to_vec(),
                vec![state.to_owned()],
            ]
            .concat()
        })
        .collect();
    assert_eq!(twin(page, "Share of each cohort"), wanted);

    let complete: Vec<&ExpectedRow> = expected.rows.iter().filter(|row| !row.running).collect();
    let mut sizes: Vec<usize> = complete
        .iter()
        .map(|row| row.cohort.len())
        .filter(|size| *size > 0)
        .collect();
    sizes.sort_unstable();
    for row in twin(page, "Cohort sizes in short") {
        let size = |label: &str| {
            expected
                .rows
                .iter()
                .find(|row| row.period.label() == label)
                .map(|row| row.cohort.len())
        };
        let wanted = match &*row[0] {
            "Largest" => sizes.last().copied(),
            "Smallest" => sizes.first().copied(),
            "Median" => Some(middle(&sizes)),
            "Newest complete" => complete.last().map(|row| row.cohort.len()),
            "In progress, so far" => expected
                .rows
                .iter()
                .find(|row| row.running)
                .map(|row| row.cohort.len()),
            other => panic!("{other}"),
        };
        assert_eq!(
            Some(row[2].clone()),
            wanted.map(|size| size.to_string()),
            "{row:?} {question:?}"
        );
        assert!(row[1].is_empty() || size(&row[1]) == wanted, "{row:?}");
    }
}

/// The middle of sorted numbers; of two the mean, rounded down as the page does.
fn middle(sorted: &[usize]) -> usize {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        (sorted[half - 1] + sorted[half]) / 2
    }
}

/// The four figures above the charts.
fn check_tiles(page: &Html, question: &Question, expected: &Expected) {
    let tiles: Vec<[String; 3]> = all(page.root_element(), ".tiles > div")
        .into_iter()
        .map(|tile| ["b", "span", "em"].map(|part| text(all(tile, part)[0]).replace('\u{a0}', " ")))
        .collect();
    let trust = |average: &ExpectedAverage| {
        let cohorts = format!(
            "{} cohort{}",
            average.cohorts,
            if average.cohorts == 1 { "" } else { "s" }
        );
        let margin = average
            .interval
            .map(|(low, high)| format!(" · ±{:.1} pt", (high - low) * 50.0));
        format!("{cohorts}{}", margin.unwrap_or_default())
    };
    let average = |k: usize| expected.averages.get(k).and_then(Option::as_ref);
    let [later, last] = match question.grain {
        Grain::Hour => [12, 24],
        Grain::Day => [7, 30],
        Grain::Week(_) => [4, 12],
        Grain::Month => [3, 12],
        Grain::Year => [2, 5],
    };
    let mut returns = vec![average(1), (2..=later).rev().find_map(average)];
    if question.cols > last {
        returns.push((later + 1..=last).rev().find_map(average));
    }
    assert_eq!(tiles.len(), returns.len() + 2);
    let (tiles, others) = tiles.split_at(returns.len());
    for (tile, average) in tiles.iter().zip(returns) {
        match average {
            Some(average) => assert_eq!(
                (&tile[0], &tile[2]),
                (&rate_of(average.rate, average.size), &trust(average))
            ),
            None => assert_eq!(tile[0], "–", "{tile:?}"),
        }
    }
    // Column 1 of the newer half against the older half.
    let cells: Vec<(usize, &ExpectedCell)> = expected
        .rows
        .iter()
        .filter_map(|row| {
            Some((
                row.cohort.len(),
                row.cells.get(1).filter(|cell| !cell.running)?,
            ))
        })
        .collect();
    let (mut older, mut newer) = cells.split_at(cells.len() / 2);
    let mut against = format!("the {} before", older.len());
    // By day, as many of each weekday: of the newest days in a row, two halves of whole weeks or
    // each day and the same weekday a week before.
    let mut days: Vec<(usize, &ExpectedCell)> = Vec::new();
    for row in expected.rows.iter().rev() {
        match row
            .cells
            .get(1)
            .filter(|cell| !cell.running && !row.cohort.is_empty())
        {
            Some(cell) => days.insert(0, (row.cohort.len(), cell)),
            None if days.is_empty() => {}
            None => break,
        }
    }
    if question.grain == Grain::Day {
        let n = days.len();
        (older, newer) = match n {
            0..10 => (&days[..0], &days[..0]),
            10..14 => (&days[..n - 7], &days[7..]),
            _ => days[n - n / 14 * 14..].split_at(n / 14 * 7),
        };
        against = if n < 14 {
            "the same weekdays a week before".to_owned()
        } else {
            format!("the {} before", older.len())
        };
    }
    if older.len() < 3 || question.grain == Grain::Hour {
        assert_eq!(others[0][0], "–");
    } else {
        let mean = |half: &[(usize, &ExpectedCell)]| {
            let retained: usize = half.iter().map(|(_, cell)| cell.returned.len()).sum();
            let size: usize = half.iter().map(|(size, _)| size).sum();
            match question.weighted {
                true => retained as f64 / size as f64,
                false => half.iter().map(|(_, cell)| cell.rate).sum::<f64>() / half.len() as f64,
            }
        };
        let (before, after) = (mean(older), mean(newer));
        let points = format!("{:+.1} pt", (after - before) * 100.0).replace('-', "−");
        assert_eq!(
            others[0][0],
            points.replace("+0.0", "0.0").replace("−0.0", "0.0")
        );
        assert!(
            others[0][2].starts_with(&format!("{} → {}", percent(before), percent(after))),
            "{tiles:?}"
        );
        assert!(
            others[0][1].ends_with(&format!("last {} cohorts vs {against}", newer.len())),
            "{others:?}"
        );
    }
    let mut sizes: Vec<usize> = expected
        .rows
        .iter()
        .filter(|row| !row.running && !row.cohort.is_empty())
        .map(|row| row.cohort.len())
        .collect();
    sizes.sort_unstable();
    match (sizes.first(), sizes.last()) {
        (Some(least), Some(most)) => {
            assert_eq!(others[1][0], middle(&sizes).to_string());
            let cohorts = format!(
                "{} cohort{}",
                sizes.len(),
                if sizes.len() == 1 { "" } else { "s" }
            );
            assert_eq!(others[1][2], format!("from {least} to {most} · {cohorts}"));
        }
        _ => assert_eq!(others[1][0], "–"),
    }
}

// ---- Who is behind the numbers.

fn ids(href: &str) -> Vec<UserId> {
    let file = get(href);
    let mut lines = file.lines();
    assert_eq!(lines.next(), Some("user_id"));
    lines.map(|line| line.parse().unwrap()).collect()
}

fn vec(users: &BTreeSet<UserId>) -> Vec<UserId> {
    users.iter().copied().collect()
}

/// Follows a link of the table: the number of its heading, and all ids of its file.
fn follow(base: &str, href: &str) -> (usize, String, Vec<UserId>) {
    let page = Html::parse_document(&get(&format!("{base}{href}")));
    let heading = text(all(page.root_element(), "h1")[0]);
    // Nobody's list offers no file; there is one nevertheless, at the address of the page.
    let here = all(page.root_element(), ".tabs a[aria-current]");
    let file = all(page.root_element(), "a[href^='/people.csv?']");
    let csv = file
        .first()
        .or(here.first())
        .unwrap()
        .attr("href")
        .unwrap()
        .replace("/people?", "/people.csv?");
    assert_eq!(file.is_empty(), ids(&csv).is_empty());
    let number = heading
        .split(' ')
        .next()
        .unwrap()
        .replace(',', "")
        .parse()
        .unwrap_or_else(|_| panic!("{heading}"));
    let list = ids(&csv);
    let listed: Vec<String> = all(page.root_element(), ".ids a")
        .into_iter()
        .map(text)
        .collect();
    assert_eq!(
        listed,
        list.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "{href}"
    );
    (number, csv, list)
}

fn check_people(page: &Html, expected: &Expected) {
    let lines = read_table(page);
    // What the addresses of cells are relative to.
    let base = all(page.root_element(), "base")
        .first()
        .and_then(|base| base.attr("href"))
        .unwrap_or_default();
    for row in expected.rows.iter().filter(|row| !row.cohort.is_empty()) {
        let line = lines
            .iter()
            .find(|line| line.label.trim_end_matches(" †") == row.period.label())
            .unwrap();
        let (number, _, list) = follow(base, line.size.href.as_ref().unwrap());
        assert_eq!(
            (number, list),
            (row.cohort.len(), vec(&row.cohort)),
            "{}",
            line.label
        );
        for (cell, number) in row.cells.iter().zip(&line.numbers) {
            let href = number.as_ref().unwrap().href.as_ref().unwrap();
            let (number, csv, list) = follow(base, href);
            assert_eq!(
                (number, list),
                (cell.returned.len(), vec(&cell.returned)),
                "{href}"
            );
            let lost = ids(&csv.replace("who=returned", "who=lost"));
            assert_eq!(lost, vec(&(&row.cohort - &cell.returned)), "{href}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 40, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn the_page_its_files_its_chart_and_its_people_agree(marks in marks(), question in questions()) {
        let case = CASE.fetch_add(1, Ordering::Relaxed);
        let mut batch = SHOP.0.batch();
        let hourly = Extent { hourly: true, ever: false };
        for (event, user, back) in &marks.dated {
            let event = name(&format!("{case}{}", DATED[*event]));
            batch.mark_to(&event, *user, now() - TimeDelta::hours(*back), hourly).unwrap();
        }
        for user in &marks.ever {
            batch.mark_ever(&name(&format!("{case}{EVER}")), *user);
        }
        batch.commit().unwrap();
        let (query, expected) = (question.query(case), expected(&marks, &question));
        let column = case % question.cols;
        let html = get(&format!("/retention?{query}&trend={column}"));
        let page = Html::parse_document(&html);
        // There is no report of an event that never was.
        let is_unknown = !html.contains("class=\"charts\"");
        if is_unknown {
            assert!(html.contains("Nothing was ever recorded for"));
            let cells = expected.rows.iter().flat_map(|row| &row.cells);
            let mut cells = cells;
            assert!(cells.all(|cell| cell.returned.is_empty()));
        } else {
            check_page(&page, &question, &expected);
            check_sizes(&drawing(&html, "sizes"), &expected);
            check_trend(&drawing(&html, "trend"), column, &expected);
            check_twins(&page, &question, column, &expected);
            check_tiles(&page, &question, &expected);
            check_people(&page, &expected);
        }
        check_json(&serde_json::from_str(&get(&format!("/retention.json?{query}"))).unwrap(), &expected);
        let file = |kind: &str| get(&format!("/retention.{kind}?{query}"));
        check_csv(&file("csv"), &file("tidy.csv"), &question, &expected);
        check_chart(&file("svg"), &question, &expected);
    }
}
