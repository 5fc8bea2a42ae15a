//! Properties of the pure core: what is printed is read back, tiles obey set laws, tables agree
//! with a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::Tracker;
use cohortist::bitmap::Tile;
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::reports::QueryError;
use cohortist::reports::coverage::Coverage;
use cohortist::reports::people::{CellMembers, CellMembersError};
use cohortist::reports::retention::{Cell, Measure, Query, State};
use cohortist::sets::{
    Catalogue, EventName, Key, Prefix, Segment, Segments, Set, SetContext, parse_set,
};
use cohortist::stats::wilson;
use cohortist::store::Options;
use cohortist::store::embedded::EmbeddedStore;
use proptest::prelude::*;

fn moments() -> impl Strategy<Value = DateTime<Utc>> {
    // Years 1 to 9999.
    (-62_135_596_800_i64..253_402_300_799).prop_map(|s| DateTime::from_timestamp(s, 0).unwrap())
}

fn names() -> impl Strategy<Value = EventName> {
    let odd = prop::sample::select(vec![
        "a|b",
        "*",
        "[x]?",
        "<script>",
        "=1+1",
        "\"quoted\"",
        "back\\slash",
        "🎉",
        "x_2026-1",
        "a_u",
        "W2026-1",
        "ever",
        "a b",
        "a@ever",
        "!",
        "(",
        "song:played",
        "_",
        "naïve",
    ])
    .prop_map(str::to_owned);
    prop_oneof![3 => "[a-z]{1,6}", 2 => odd, 1 => "\\PC{1,20}"]
        .prop_filter_map("a valid name", |text| EventName::new(&text).ok())
}

fn grains() -> impl Strategy<Value = Grain> {
    prop::sample::select(Grain::ALL.to_vec())
}

fn segments() -> impl Strategy<Value = Segment> {
    let leaf = prop_oneof![
        names().prop_map(Segment::Event),
        names().prop_map(Segment::Ever)
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let several = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several.clone().prop_map(Segment::And),
            several.clone().prop_map(Segment::Or),
            several.prop_map(Segment::Xor),
            (inner.clone(), inner).prop_map(|(a, b)| Segment::Diff(Box::new(a), Box::new(b))),
        ]
    })
}

proptest! {
    #[test]
    fn a_period_holds_its_moment_and_reads_back(moment in moments(), grain in grains()) {
        let period = Period::containing(grain, moment).unwrap();
        prop_assert!(period.start() <= moment && moment < period.end());
        prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        if let Ok(next) = period.next() {
            prop_assert_eq!(period.end(), next.start());
            prop_assert_eq!(next.previous().unwrap(), period);
            prop_assert_eq!(next.since(period), Some(1));
        }
    }

    #[test]
    fn shifts_add_up(moment in moments(), grain in grains(), a in -3000_i64..3000, b in -3000_i64..3000) {
        let period = Period::containing(grain, moment).unwrap();
        if let (Ok(there), Ok(both)) = (period.shift(a), period.shift(a + b)) {
            prop_assert_eq!(there.shift(b).unwrap(), both);
            prop_assert_eq!(both.since(period), Some(a + b));
        }
    }

    #[test]
    fn a_key_reads_back_whatever_the_event_is_called(name in names(), moment in moments(), hourly: bool) {
        let prefix = Prefix::default();
        for key in Key::of_mark(&name, moment, hourly).unwrap().chain([Key::ever(name.clone())]) {
            prop_assert_eq!(Key::parse(&prefix, &key.text(&prefix)), Some(key.clone()));
            if let Some(padded) = key.padded() {
                let text = padded.text(&prefix);
                prop_assert!(text != key.text(&prefix) && padded != key && padded.plain() == key);
                prop_assert_eq!(Key::parse(&prefix, &text), Some(padded));
            }
        }
    }

    #[test]
    fn padded_keys_of_the_first_years_read_back(year in 1_i32..12, month in 1_u32..13, day in 1_u32..29) {
        let prefix = Prefix::default();
        let periods = [Period::day(year, month, day), Period::month(year, month), Period::week(year, day)];
        for period in periods.into_iter().flatten() {
            let key = Key::new(EventName::new("a").unwrap(), period).unwrap();
            if let Some(padded) = key.padded() {
                prop_assert_eq!(Key::parse(&prefix, &padded.text(&prefix)), Some(padded));
            }
        }
    }

    #[test]
    fn a_segment_reads_back(segment in segments()) {
        let text = segment.to_string();
        prop_assert_eq!(text.parse::<Segment>().map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?, segment);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[ab &|^!()@\"\\\\0-9W-]{0,40}") {
        let _ = text.parse::<Segment>();
        let _ = parse_set(&text, SetContext::empty());
        let _ = text.parse::<Period>();
        let _ = parse_moment(&text);
    }

    #[test]
    fn tiles_obey_the_laws_of_sets(
        a in places(), b in places(), c in places(), from: u16, bytes in 0_u64..9000,
    ) {
        let tile = |places: &BTreeSet<u16>| places.iter().copied().collect::<Tile>();
        let list = |tile: &Tile| {
            let mut list = Vec::new();
            tile.visit(0, |p| { list.push(p); true });
            assert_eq!(list.len() as u64, tile.len());
            list
        };
        let (x, y) = (tile(&a), tile(&b));
        let expected = |places: Vec<u16>| places;
        prop_assert_eq!(list(&x.and(&y)), expected(a.intersection(&b).copied().collect()));
        prop_assert_eq!(list(&x.or(&y)), expected(a.union(&b).copied().collect()));
        prop_assert_eq!(list(&x.xor(&y)), expected(a.symmetric_difference(&b).copied().collect()));
        prop_assert_eq!(list(&x.diff(&y)), expected(a.difference(&b).copied().collect()));
        prop_assert_eq!(x.and_count(&y), a.intersection(&b).count() as u64);
        let complement: Vec<u16> =
            (0..=u16::MAX).filter(|p| u64::from(*p) < bytes * 8 && !a.contains(p)).collect();
        prop_assert_eq!(&list(&x.complement(bytes)), &complement);
        let mut tail = Vec::new();
        x.visit(from, |p| { tail.push(p); true });
        prop_assert_eq!(tail, a.range(from..).copied().collect::<Vec<_>>());
        let run: Vec<u32> = b.iter().map(|place| (7 << 16) | u32::from(*place)).collect();
        let mut more = x.clone();
        prop_assert_eq!(more.add(&run), b.difference(&a).count() as u64);
        prop_assert_eq!(list(&more), list(&x.or(&y)));
        prop_assert_eq!(more.add(&run), 0);
        let read = Tile::from_bytes(&x.to_bytes()).unwrap();
        prop_assert_eq!(list(&read), list(&x));
        // One by one gives the same as all at once.
        let mut grown = Tile::default();
        for place in &b { grown.set(*place, true); }
        for place in &a { grown.set(*place, true); }
        for place in b.difference(&a) { grown.set(*place, false); }
        prop_assert_eq!(list(&grown), list(&x));
        prop_assert_eq!(list(&Tile::from_bytes(&grown.to_bytes()).unwrap()), list(&x));
        // Whatever a tile came from, it knows where its users are.
        prop_assert_eq!(grown.and_count(&y), x.and_count(&y));
        prop_assert_eq!(more.and_count(&y), b.len() as u64);
        prop_assert_eq!(x.and(&y).and_count(&x), x.and_count(&y));
        prop_assert_eq!(x.or(&y).and_count(&y), b.len() as u64);
        prop_assert_eq!(x.xor(&y).and_count(&y), b.difference(&a).count() as u64);
        prop_assert_eq!(x.diff(&y).and_count(&y), 0);
        prop_assert_eq!(x.complement(bytes).and_count(&y), complement.iter().filter(|p| b.contains(p)).count() as u64);
        let mut both = x.clone();
        both.or_assign(&y);
        prop_assert_eq!(list(&both), list(&x.or(&y)));
        prop_assert_eq!(both.and_count(&x), a.len() as u64);
        prop_assert_eq!(both, x.or(&y));
        let z = tile(&c);
        let mut grown = z.clone();
        grown.or_assign_and(&x, &y);
        prop_assert_eq!(list(&grown), c.union(&a.intersection(&b).copied().collect()).copied().collect::<Vec<_>>());
        prop_assert_eq!(grown.and_count(&x), a.iter().filter(|p| b.contains(p) || c.contains(p)).count() as u64);
        let mut unrelated = x.and(&y);
        unrelated.or_assign_and(&z, &x);
        prop_assert_eq!(unrelated.and_count(&x), a.iter().filter(|p| b.contains(p) || c.contains(p)).count() as u64);
    }
}

#[test]
fn periods_begin_and_end_with_the_supported_years() {
    let [first, last] =
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"].map(|text| parse_moment(text).unwrap());
    for grain in Grain::ALL {
        let [first, last] = [first, last].map(|moment| Period::containing(grain, moment).unwrap());
        assert!(first.previous().is_err() && last.next().is_err(), "{grain}");
        assert!(first.next().is_ok() && last.previous().is_ok(), "{grain}");
    }
}

/// Few, many, clustered: both kinds of tile and the border between them.
fn places() -> impl Strategy<Value = BTreeSet<u16>> {
    let near_border = (any::<u16>(), 400_u16..700).prop_map(|(start, count)| {
        (0..count)
            .map(|i| start.wrapping_add(i.wrapping_mul(13)))
            .collect()
    });
    let few = prop::collection::btree_set(any::<u16>(), 0..30);
    let run = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| (a.min(b)..=a.max(b)).collect());
    prop_oneof![few, near_border, run]
}

/// What users did, and nothing else: the plainest model there is.
#[derive(Debug, Clone)]
struct Facts {
    now: DateTime<Utc>,
    marks: Vec<(usize, u32, DateTime<Utc>)>,
}

fn facts() -> impl Strategy<Value = Facts> {
    // Around the turn of an ISO year with a week 53.
    let now = 1_609_000_000_i64..1_612_000_000;
    (
        now,
        prop::collection::vec((0_usize..2, 0_u32..40, 0_i64..4_000_000), 0..300),
    )
        .prop_map(|(now, marks)| {
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let marks = marks
                .into_iter()
                .map(|(e, u, back)| (e, u, now - TimeDelta::seconds(back)))
                .collect();
            Facts { now, marks }
        })
}

impl Facts {
    fn who(&self, event: usize, period: Period) -> BTreeSet<u32> {
        let inside = |at: DateTime<Utc>| period.start() <= at && at < period.end();
        self.marks
            .iter()
            .filter(|(e, _, at)| *e == event && inside(*at))
            .map(|(_, user, _)| *user)
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    #[test]
    fn a_table_says_what_the_marks_say(
        facts in facts(), grain in grains(), rows in 1_u32..9, cols in 1_u32..9, rolling: bool, same: bool,
        from in prop::option::of(0_i64..60), to in prop::option::of(0_i64..60),
    ) {
        let events = ["signup", "active"].map(|n| EventName::new(n).unwrap());
        let tracker = Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())))
            .with_extent(cohortist::Extent { hourly: true, ever: false });
        let mut batch = tracker.batch();
        for (event, user, at) in &facts.marks {
            batch.mark(&events[*event], *user, *at).unwrap();
        }
        // Everything asked for is recorded, and the store still receives marks; `ends` asks stores
        // that do not.
        let heartbeat = EventName::new("zz:heartbeat").unwrap();
        for at in [facts.now, facts.now - TimeDelta::days(9_000)] {
            batch.mark(&heartbeat, 0, at).unwrap();
        }
        batch.commit().unwrap();
        let returning = usize::from(!same);
        let date = |back: i64| (facts.now - TimeDelta::days(back)).date_naive();
        let query = Query {
            rows: Some(rows),
            cols: Some(cols),
            from: from.map(date),
            to: to.map(date),
            measure: if rolling { Measure::OnOrAfter } else { Measure::On },
            ..Query::new(Segment::event(&events[0]), Segment::event(&events[returning]), grain)
        };
        let table = match tracker.retention(&query, facts.now) {
            Ok(table) => table,
            Err(cohortist::Error::Query(QueryError::Order { .. })) => return Ok(()),
            // Sixty days are more than 400 hours.
            Err(cohortist::Error::Query(QueryError::Between { .. })) if grain == Grain::Hour => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let today = Period::containing(grain, facts.now).unwrap();
        let mut everybody: BTreeMap<u32, u64> = BTreeMap::new();
        for row in &table.rows {
            let cohort = facts.who(0, row.period);
            prop_assert!(row.period <= today);
            prop_assert_eq!(row.size, Some(cohort.len() as u64));
            cohort.iter().for_each(|user| *everybody.entry(*user).or_default() += 1);
            let last = row.period.shift(i64::from(cols) - 1).unwrap();
            let mut previous = u64::MAX;
            for (k, cell) in row.cells.iter().enumerate() {
                let period = row.period.shift(i64::try_from(k).unwrap()).unwrap();
                let Cell::Number(cell) = cell else {
                    prop_assert_eq!(cell, &Cell::Blank);
                    prop_assert!(period > today || row.people() == 0);
                    continue;
                };
                prop_assert!(period <= today && row.people() > 0);
                let until = if rolling { last } else { period };
                let mut back = BTreeSet::new();
                let mut p = period;
                while p <= until {
                    back.extend(facts.who(returning, p));
                    p = p.next().unwrap();
                }
                prop_assert_eq!(cell.retained, cohort.intersection(&back).count() as u64);
                let over = if rolling { last < today } else { period < today };
                prop_assert_eq!(cell.state, if over { State::Complete } else { State::InProgress });
                prop_assert!(cell.retained <= cell.size);
                let (low, high) = cell.interval().unwrap();
                prop_assert!(0.0 <= low && low <= cell.rate() && cell.rate() <= high && high <= 1.0);
                if rolling {
                    prop_assert!(cell.retained <= previous, "on or after never rises");
                    previous = cell.retained;
                }
                if k == 0 && same {
                    prop_assert_eq!(cell.retained, cell.size);
                }
            }
        }
        // Whoever stands behind a number is as many as the number says.
        let (mut sets, mut counts) = (Vec::new(), Vec::new());
        let coverage = Coverage::whole(facts.now).unwrap();
        for row in &table.rows {
            for (k, cell) in (0..).zip(&row.cells) {
                let crowd = match CellMembers::at(&query, row.period, Some(k), &coverage, &Catalogue::default()) {
                    Ok(crowd) => crowd,
                    Err(CellMembersError::NotBegun { .. }) => {
                        prop_assert!(*cell == Cell::Blank && row.period.shift(i64::from(k)).unwrap() > today);
                        continue;
                    }
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                };
                let back = crowd.back.unwrap();
                let cell = cell.number();
                let retained = cell.map_or(0, |cell| cell.retained);
                prop_assert!(cell.is_none_or(|cell| cell.state == back.window.state && cell.period == back.window.from));
                sets.extend([crowd.cohort, back.returned, back.lost]);
                counts.extend([row.people(), retained, row.people() - retained]);
            }
        }
        prop_assert_eq!(tracker.counts(&sets).unwrap(), counts);
        prop_assert_eq!(table.entries, everybody.values().sum::<u64>());
        prop_assert_eq!(table.people, everybody.len() as u64);
        for (k, average) in table.averages.iter().enumerate() {
            let complete: Vec<_> = table.rows.iter().filter_map(|r| r.cells[k].complete()).collect();
            prop_assert_eq!(average.is_some(), !complete.is_empty());
            if let Some(average) = average {
                prop_assert_eq!(average.cohorts as usize, complete.len());
                let (retained, size) = complete.iter().fold((0, 0), |(r, s), c| (r + c.retained, s + c.size));
                prop_assert_eq!((average.retained, average.size), (retained, size));
                prop_assert_eq!(average.interval, if table.is_disjoint() { wilson(retained, size) } else { None });
            }
        }
    }
}

#[test]
fn limits_are_named() {
    let segment: Segment = "a".parse().unwrap();
    let now = parse_moment("2026-11-23").unwrap();
    let ask = |rows, cols, from: Option<&str>, to: Option<&str>| {
        let date = |d: Option<&str>| d.map(|d| d.parse().unwrap());
        let query = Query {
            rows,
            cols,
            from: date(from),
            to: date(to),
            ..Query::new(segment.clone(), segment.clone(), Grain::Day)
        };
        query.check(now).map_err(|e| e.to_string())
    };
    assert_eq!(ask(Some(400), Some(50), None, None), Ok(()));
    insta::assert_snapshot!(ask(Some(0), None, None, None).unwrap_err(), @"0 cohorts: ask for 1 to 400");
    insta::assert_snapshot!(ask(Some(1_000_000_000), None, None, None).unwrap_err(), @"1000000000 cohorts: ask for 1 to 400");
    insta::assert_snapshot!(ask(None, Some(401), None, None).unwrap_err(), @"401 periods: ask for 1 to 400");
    insta::assert_snapshot!(ask(Some(400), Some(51), None, None).unwrap_err(), @"400 cohorts × 51 periods are 20400 cells, and a table holds at most 20000: ask for fewer of either");
    insta::assert_snapshot!(ask(None, None, Some("2026-11-02"), Some("2026-11-01")).unwrap_err(), @"2026-11-02 comes after the last date, 2026-11-01: swap them");
    insta::assert_snapshot!(ask(None, None, Some("2026-11-24"), None).unwrap_err(), @"2026-11-24 lies in the future: the running day is 2026-11-23");
    insta::assert_snapshot!(ask(None, None, Some("2024-01-01"), Some("2026-01-01")).unwrap_err(), @"732 days lie between 2024-01-01 and 2026-01-01, and a table holds at most 400: move the dates closer or take a longer period");
}

#[test]
fn segments_say_where_they_are_wrong() {
    let error = |text: &str| text.parse::<Segment>().unwrap_err().to_string();
    insta::assert_snapshot!(error(""), @"column 1: expected an event name or `(`, found the end");
    insta::assert_snapshot!(error("a b"), @"column 3: expected `&`, `|`, `^` or the end, found `b`");
    insta::assert_snapshot!(error("a & (b | "), @"column 10: expected an event name or `(`, found the end");
    insta::assert_snapshot!(error("(a | b"), @"column 7: a `)` is missing: the `(` at column 1 is never closed");
    insta::assert_snapshot!(error("a)"), @"column 2: this `)` has no `(` before it");
    insta::assert_snapshot!(error("a | !b"), @"column 5: `!` has nothing to subtract from: write `a & !b`, people in a but not in b");
    insta::assert_snapshot!(error("\"a"), @"column 1: this quote is never closed: expected another `\"`");
    insta::assert_snapshot!(error("a@2026-11"), @"column 2: a segment gets its periods from the report; only `@ever` is allowed here");
    insta::assert_snapshot!(error("(a | b)@ever"), @"column 8: `@ever` follows a single event name: write `a@ever | b@ever`");
    insta::assert_snapshot!(error("bitop_x"), @"column 1: an event name must not begin with `bitop_`: such keys are temporary and get deleted");
    assert!(error(&"(".repeat(5000)).contains("nest deeper than 64"));
    assert!(error(&"x".repeat(10_000)).contains("at most 200 bytes"));
    let set = |text: &str| parse_set(text, SetContext::empty()).map_err(|e| e.to_string());
    insta::assert_snapshot!(set("active").unwrap_err(), @"column 1: `active` needs a period: write active@2026-11-23, active@2026-W48, active@2026-11, active@2026 or active@ever");
    insta::assert_snapshot!(set("active@2026-13").unwrap_err(), @"column 8: `2026-13` is not a period: write 2026-11-23T14, 2026-11-23, 2026-W48, 2026-11 or 2026, or `ever`");
    let (a, ios) = (
        EventName::new("active").unwrap(),
        EventName::new("ios").unwrap(),
    );
    let november: Period = "2026-11".parse().unwrap();
    let both = Set::event_in(&a, november) & Set::event_in(&ios, november);
    assert_eq!(set("(active & ios)@2026-11"), Ok(both));
    assert_eq!(
        set("active@2026"),
        Ok(Set::event_in(&a, "2026".parse().unwrap()))
    );
}

#[test]
fn saved_segments_stand_for_their_expression_and_not_for_themselves() {
    let saved = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, text)| (EventName::new(name).unwrap(), text.parse().unwrap()));
        Segments::new(pairs)
    };
    let segments = saved(&[("mobile", "ios | android"), ("team", "mobile & !free@ever")]).unwrap();
    let expanded = segments
        .expand(
            &"active & team".parse().unwrap(),
            &Catalogue::default(),
            &[],
        )
        .unwrap();
    assert_eq!(
        expanded.to_string(),
        "active & ((ios | android) & !free@ever)"
    );
    let doubling: Vec<(String, String)> = (1..40)
        .map(|i| (format!("s{i}"), format!("s{} | s{0}", i - 1)))
        .collect();
    let doubling: Vec<(&str, &str)> = doubling
        .iter()
        .map(|(name, text)| (&**name, &**text))
        .collect();
    insta::assert_snapshot!(saved(&doubling).unwrap_err(), @"the saved segment `s14` expands to more than 10000 events");
    let cycle = saved(&[("a", "b | x"), ("b", "c"), ("c", "a & y")]).unwrap_err();
    insta::assert_snapshot!(cycle, @"the saved segment `a` refers to itself: a → b → c → a");
}
