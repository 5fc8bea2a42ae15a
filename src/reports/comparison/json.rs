//! A comparison as one JSON object. The structs document every field.

use serde::Serialize;

use crate::reports::comparison::answer::{Compared, Group};
use crate::reports::comparison::difference::{Difference, Verdict};
use crate::reports::comparison::grouping::Grouping;
use crate::reports::retention::{AverageJson, QueryJson, RowJson, TableJson};
use crate::stats::rate;

/// The object.
#[derive(Debug, Serialize)]
pub struct ComparedJson {
    /// The question, as without groups.
    pub query: QueryJson,
    /// The beginning of the values' names; `null` without `breakdown`.
    pub breakdown: Option<String>,
    /// The segments that are compared; `null` without `compare`.
    pub compare: Option<Vec<String>>,
    /// The date, `YYYY-MM-DD`; `null` without `split`.
    pub split: Option<String>,
    /// When it was known who belongs to a group: `known_by_cohort` (marked with the value up to and
    /// including the cohort's period), `known_today` (in its undated bitmap), `segment` or `date`.
    pub grouped: &'static str,
    /// The moment of the answer: RFC 3339, UTC.
    pub now: String,
    /// When the store's data ends, as ISO text; `null` in a store that still receives marks.
    pub data_ends: Option<String>,
    /// Whether numbers of the running period may include marks made after `now`.
    pub may_include_later_marks: bool,
    /// The time zone of periods.
    pub zone: &'static str,
    /// The groups, in the order of the table.
    pub groups: Vec<GroupJson>,
    /// The distinct people of all groups.
    pub people: u64,
    /// The distinct people of each group, added up: more than `people` if groups overlap.
    pub people_of_groups: u64,
    /// How many values have nobody in these cohorts, and no group.
    pub empty_values: usize,
    /// The cohort that belongs to neither side of `split`, as ISO text; `null` without one.
    pub left_out: Option<String>,
    /// How many tests Holm's correction covers.
    pub tests: usize,
    /// Each group against the first one, column by column, from column 1.
    pub comparisons: Vec<ComparisonJson>,
}

/// One group.
#[derive(Debug, Serialize)]
pub struct GroupJson {
    /// Its name: an event, a segment, `(none)`, `(other)`, `before` or `after`.
    pub group: String,
    /// The segment of its cohorts; `null` if it would be too long.
    pub cohort: Option<String>,
    /// The sizes of its cohorts, added up.
    pub entries: u64,
    /// The distinct people behind `entries`.
    pub people: u64,
    /// The sizes of the cohorts that have a complete cell, added up.
    pub complete_entries: u64,
    /// The distinct people behind `complete_entries`.
    pub complete_people: u64,
    /// `complete_entries` − `complete_people`.
    pub repeats: u64,
    /// As in a table without groups.
    pub average_interval: &'static str,
    /// Its average row, one entry a column; `null` for a column without a complete cell.
    pub average: Vec<Option<AverageJson>>,
    /// Its cohorts, oldest first.
    pub rows: Vec<RowJson>,
}

/// One side of a difference, over the cohorts that are complete on both.
#[derive(Debug, Serialize)]
pub struct SideJson {
    /// The group.
    pub group: String,
    /// The people who came back.
    pub retained: u64,
    /// All people.
    pub size: u64,
    /// `retained` by `size`; `null` if nobody is in the group.
    pub rate: Option<f64>,
}

/// The difference of two groups at one column.
#[derive(Debug, Serialize)]
pub struct ComparisonJson {
    /// The group that is compared with the first one.
    pub group: String,
    /// The first group.
    pub against: String,
    /// The column, as in the rows.
    pub index: usize,
    /// The first and the last period of the column.
    pub offsets: [u32; 2],
    /// How many cohorts went in.
    pub cohorts: usize,
    /// The side from which the other one is subtracted: the first group, or `after`.
    pub a: SideJson,
    /// The side that is subtracted.
    pub b: SideJson,
    /// The rate of `a` minus that of `b`, −1 to 1; `null` if a side has no people.
    pub difference: Option<f64>,
    /// Newcombe's 95 % interval of the difference.
    pub interval: Option<(f64, f64)>,
    /// The two-sided p-value; `null` without a test.
    pub p: Option<f64>,
    /// The same after Holm's correction for all `comparisons`.
    pub p_holm: Option<f64>,
    /// How many tests the correction covers.
    pub comparisons: usize,
    /// `cochran_mantel_haenszel`, `chi_squared` or `fisher`; `null` without a test.
    pub method: Option<&'static str>,
    /// `unlikely to be chance` or `could be chance`; `null` without one.
    pub verdict: Option<&'static str>,
    /// Why there is no test or no verdict: `groups_overlap`, `people_in_several_cohorts`,
    /// `nothing_complete`, `no_common_cohort`, or `few_people` (a test, and no verdict); `null` with
    /// a verdict.
    pub reason: Option<&'static str>,
}

impl From<&Compared> for ComparedJson {
    fn from(compared: &Compared) -> Self {
        let grouping = &compared.grouping;
        let only = |wanted: bool| wanted.then(|| grouping.values().join(""));
        let first = TableJson::from(&compared.groups[0].table);
        let rows = compared.groups.iter().map(|group| group.table.rows.len());
        let query = QueryJson {
            cohort: compared.query.cohort.to_string(),
            rows: match grouping {
                Grouping::Split(_) => rows.sum(),
                Grouping::Breakdown(_) | Grouping::Compare(_) => rows.max().unwrap_or(0),
            },
            ..first.query
        };
        let tables = || compared.groups.iter().map(|group| &group.table);
        ComparedJson {
            query,
            breakdown: only(matches!(grouping, Grouping::Breakdown(_))),
            compare: matches!(grouping, Grouping::Compare(_)).then(|| grouping.values()),
            split: only(matches!(grouping, Grouping::Split(_))),
            grouped: compared.basis.as_str(),
            now: first.now,
            data_ends: first.data_ends,
            may_include_later_marks: tables().any(|table| table.recorded.later),
            zone: first.zone,
            groups: compared.groups.iter().map(GroupJson::from).collect(),
            people: compared.people,
            people_of_groups: compared.people_of_groups,
            empty_values: compared.empty_values,
            left_out: compared.left_out.map(|period| period.to_string()),
            tests: compared.tests,
            comparisons: compared
                .differences
                .iter()
                .map(|difference| ComparisonJson::new(compared, difference))
                .collect(),
        }
    }
}

impl From<&Group> for GroupJson {
    fn from(group: &Group) -> Self {
        let TableJson {
            entries,
            people,
            complete_entries,
            complete_people,
            repeats,
            average_interval,
            average,
            rows,
            ..
        } = TableJson::from(&group.table);
        GroupJson {
            group: group.kind.name(),
            cohort: group.cohort.as_ref().map(ToString::to_string),
            entries,
            people,
            complete_entries,
            complete_people,
            repeats,
            average_interval,
            average,
            rows,
        }
    }
}

impl ComparisonJson {
    fn new(compared: &Compared, difference: &Difference) -> Self {
        let name = |group: usize| compared.groups[group].kind.name();
        let side = |group: usize, retained: u64, size: u64| SideJson {
            group: name(group),
            retained,
            size,
            rate: rate(retained, size),
        };
        let column = compared.query.column(difference.column);
        let column = column.expect("a difference is of a column of the table");
        let pooled = &difference.pooled;
        ComparisonJson {
            group: name(difference.of.max(difference.minus)),
            against: name(0),
            index: difference.column,
            offsets: [column.first, column.last],
            cohorts: difference.cohorts,
            a: side(difference.of, pooled.part_a, pooled.whole_a),
            b: side(difference.minus, pooled.part_b, pooled.whole_b),
            difference: difference.estimate.map(|estimate| estimate.difference),
            interval: difference.estimate.map(|estimate| estimate.interval),
            p: difference.test.map(|test| test.p),
            p_holm: difference.test.map(|test| test.p_holm),
            comparisons: compared.tests,
            method: difference.test.map(|test| test.method.as_str()),
            verdict: difference.verdict().map(Verdict::words),
            reason: difference.reason.map(super::NoTest::as_str),
        }
    }
}
