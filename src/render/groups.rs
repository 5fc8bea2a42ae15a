//! Comparisons of groups in words.

use crate::render::{many, thousands, words};
use crate::reports::comparison::{
    Basis, Compared, Difference, GroupKind, Grouping, NoTest, Values,
};
use crate::reports::coverage::State;
use crate::reports::retention::FEWEST_PEOPLE;

/// The longest name of a group in a sentence, in characters.
const NAMED: usize = 40;

/// What there is to know about groups as known today.
pub(super) const KNOWN_TODAY: &str =
    "Grouped as known today. People who stay for long enough get a value";

/// Returns the name of a group, as long as a sentence allows.
pub fn name(kind: &GroupKind) -> String {
    words::shortened(&kind.name(), NAMED)
}

/// Returns the name of a group in a chart or table: a value without the beginning that all have.
pub fn short_name(grouping: &Grouping, kind: &GroupKind) -> String {
    let name = kind.name();
    match (grouping, kind) {
        (Grouping::Breakdown(values), GroupKind::Value(_)) => short_value(values, name),
        (Grouping::Split(date), GroupKind::Before) => format!("before {}", date.format("%-d %b")),
        (Grouping::Split(date), GroupKind::After) => format!("since {}", date.format("%-d %b")),
        _ => name,
    }
}

/// Returns the name of a value without the beginning that all have.
pub(super) fn short_value(values: &Values, name: String) -> String {
    match name.strip_prefix(&values.start) {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => name,
    }
}

/// Says when it was known who belongs to the groups: `grouped as known today`.
pub fn basis(compared: &Compared) -> String {
    let grain = compared.query.grain;
    match compared.basis {
        Basis::KnownThen => format!("Grouped by what was known in each cohort’s {grain}."),
        Basis::KnownToday => format!("{KNOWN_TODAY}, so its group looks loyal."),
        Basis::Segments => format!("Grouped by what people did in their cohort’s {grain}."),
        Basis::Date => format!("Cohorts before the date, and those from it on, by {grain}."),
    }
}

/// Returns what a reader of the numbers has to know.
pub fn notes(compared: &Compared) -> Vec<String> {
    let mut notes = vec![basis(compared)];
    notes.extend(overlap(compared.people_of_groups, compared.people));
    let kinds = compared.groups.iter().map(|group| &group.kind);
    notes.extend(values(kinds, compared.empty_values, "these cohorts"));
    let empty = compared.groups.iter().filter(|group| {
        group.table.entries == 0 && !group.table.rows.is_empty() && !group.kind.is_rest()
    });
    notes.extend(empty.map(|group| format!("{}: nobody in these cohorts.", name(&group.kind))));
    notes.extend(split(compared));
    notes.extend(tests(compared));
    let mut numbers = compared
        .groups
        .iter()
        .flat_map(|group| group.table.numbers());
    if numbers.any(|number| number.state == State::InProgress) {
        notes.push("Numbers in progress are left out of averages and differences.".to_owned());
    }
    notes
}

/// Says how many people are in several groups.
pub(super) fn overlap(people_of_groups: u64, people: u64) -> Option<String> {
    (people < people_of_groups).then(|| {
        format!(
            "Groups overlap: {} in all groups together, {} of them distinct.",
            thousands(people_of_groups),
            thousands(people)
        )
    })
}

/// Says which values have no group of their own.
pub(super) fn values<'a>(
    groups: impl IntoIterator<Item = &'a GroupKind>,
    empty: usize,
    periods: &str,
) -> Vec<String> {
    let mut notes = Vec::new();
    for group in groups {
        if let GroupKind::Other(others) = group {
            let others = many(*others as u64, "value");
            notes.push(format!("(other): {others} with fewer people."));
        }
    }
    match empty {
        0 => {}
        1 => notes.push(format!("1 value has nobody in {periods}.")),
        more => notes.push(format!(
            "{} values have nobody in {periods}.",
            thousands(more as u64)
        )),
    }
    notes
}

/// Says what a date leaves out.
fn split(compared: &Compared) -> Vec<String> {
    let mut notes = Vec::new();
    let Grouping::Split(date) = compared.grouping else {
        return notes;
    };
    if let Some(period) = compared.left_out {
        notes.push(format!(
            "{date} lies within {}: that cohort is on neither side.",
            words::spoken(period)
        ));
    }
    for (group, side, hint) in [
        (0, "before", "an earlier first date"),
        (1, "on or after", "a later last date"),
    ] {
        if compared.groups[group].table.rows.is_empty() {
            notes.push(format!(
                "No cohort shown is {side} {date}: ask for {hint}, or another date to compare at."
            ));
        }
    }
    notes
}

/// Says how differences were tested, or why not.
fn tests(compared: &Compared) -> Vec<String> {
    let mut notes = Vec::new();
    if compared.tests > 0 {
        let mut methods: Vec<&str> = Vec::new();
        let tests = compared.differences.iter().filter_map(|of| of.test);
        for test in tests {
            if !methods.contains(&test.method.words()) {
                methods.push(test.method.words());
            }
        }
        notes.push(format!(
            "Tests: {}, corrected for {} (Holm). Intervals: 95 % (Newcombe).",
            methods.join(", "),
            many(compared.tests as u64, "comparison")
        ));
    }
    for (at, group) in compared.groups.iter().enumerate() {
        let mut reasons: Vec<NoTest> = Vec::new();
        for reason in compared.differences_of(at).filter_map(|of| of.reason) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        let reasons = reasons.into_iter().filter_map(|why| reason(compared, why));
        notes.extend(reasons.map(|reason| format!("{}: {reason}.", name(&group.kind))));
    }
    notes
}

/// Says why a difference has no test or no verdict. `None` for what is no news.
pub fn reason(compared: &Compared, reason: NoTest) -> Option<String> {
    let first = name(&compared.groups[0].kind);
    Some(match reason {
        NoTest::Overlap => format!("no test, because some people are in {first} too"),
        NoTest::Repeats => format!(
            "no test, because more than 1 % of entries are of people in several cohorts; \
             ask for first({}) instead",
            words::shortened(&compared.query.cohort.to_string(), NAMED)
        ),
        NoTest::NothingInCommon => "no test, because no cohort has people on both sides".to_owned(),
        NoTest::FewPeople => {
            format!("no verdict where a side has fewer than {FEWEST_PEOPLE} people")
        }
        NoTest::NothingComplete => return None,
    })
}

/// Describes a difference in a sentence: `+7.6 points pro over free, 95 % interval +3.5 to +11.5,
/// unlikely to be chance, p 0.0013, corrected for 9`.
pub fn difference(compared: &Compared, difference: &Difference) -> Option<String> {
    let side = |at: usize| name(&compared.groups[at].kind);
    let mut text = format!(
        "{} points {} over {}, 95 % interval {}",
        difference.points()?,
        side(difference.of),
        side(difference.minus),
        difference.interval_points()?
    );
    if let Some(verdict) = difference.verdict() {
        text += &format!(", {}", verdict.words());
    }
    if let Some(test) = difference.test {
        let p = if test.p_holm < 0.0001 {
            "< 0.0001".to_owned()
        } else {
            format!(
                "{:.1$}",
                test.p_holm,
                if test.p_holm < 0.01 { 4 } else { 2 }
            )
        };
        text += &format!(", p {p} corrected for {}", compared.tests);
    }
    if let Some(reason) = difference.reason.and_then(|why| reason(compared, why)) {
        text += &format!("; {reason}");
    }
    Some(text)
}
