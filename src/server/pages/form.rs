//! The form of a retention question.

use crate::calendar::{Grain, WeekStart, parse_date};
use crate::render::{many, words};
use crate::reports::comparison::MAX_SEGMENTS;
use crate::reports::retention::Show;
use crate::reports::retention::{Averaging, Measure, PreviousRange, default_size, preposition};
use crate::server::State;
use crate::server::query::{Field, PageQuery, Problem, Range, RawQuery};

/// A text field.
#[derive(Debug)]
pub struct Input {
    /// Its name in the query string.
    pub name: &'static str,
    /// Its id on the page.
    pub id: String,
    /// Its label.
    pub label: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with the value.
    pub problem: Option<String>,
    /// The position of the problem, in characters from 1.
    pub column: Option<usize>,
    /// The address of the question without this filter.
    pub remove: Option<String>,
}

impl Input {
    /// Whether it contains a date or nothing. A date field would hide any other text.
    pub fn is_date(&self) -> bool {
        self.value.is_empty() || parse_date(&self.value).is_ok()
    }
}

/// One choice among a few.
#[derive(Debug)]
pub struct Choice {
    /// Its value in the query string.
    pub value: &'static str,
    /// Its label.
    pub label: String,
    /// Whether it is selected.
    pub checked: bool,
}

/// A group of choices, one of which is selected.
#[derive(Debug)]
pub struct Choices {
    /// Their name in the query string.
    pub name: &'static str,
    /// The label of the group.
    pub legend: &'static str,
    /// The choices.
    pub choices: Vec<Choice>,
    /// What is wrong with the given value.
    pub problem: Option<String>,
}

/// The form, filled with the given values.
#[derive(Debug)]
pub struct Form {
    /// The starting segment.
    pub cohort: Input,
    /// Filters of the cohort; the last one is empty.
    pub cohort_and: Vec<Input>,
    /// The returning segment.
    pub returning: Input,
    /// Filters of returning; the last one is empty.
    pub returning_and: Vec<Input>,
    /// Period and measure.
    pub choices: [Choices; 2],
    /// What cells show.
    pub show: Choices,
    /// Choices that few need: the average, the range before, and the first day of weeks.
    pub more: [Choices; 3],
    /// A share to draw as a line.
    pub goal: Input,
    /// Ranges of periods as columns.
    pub brackets: Input,
    /// The beginning of the values that divide people into groups.
    pub breakdown: Input,
    /// Segments to compare; the last one is empty.
    pub compare: Vec<Input>,
    /// A date that divides the cohorts.
    pub split: Input,
    /// The zone in which periods begin and end.
    pub zone: Input,
    /// The zone if none is given.
    pub usual_zone: &'static str,
    /// Whether any of the further options differs from its default or is wrong.
    pub uses_more: bool,
    /// Whether only people count who do the first event for the first time.
    pub first: bool,
    /// How many cohorts.
    pub rows: Input,
    /// How many columns.
    pub cols: Input,
    /// The default of both.
    pub default_size: u32,
    /// The first cohort's date.
    pub from: Input,
    /// The last cohort's date.
    pub to: Input,
    /// Hidden fields: name and value.
    pub kept: Vec<(&'static str, String)>,
    /// The choices in short, for the line that the form folds to.
    pub settings: Vec<String>,
    /// Ranges to select with one click.
    pub ranges: Vec<Choice>,
    /// Problems that belong to no field of the form.
    pub stray: Vec<(&'static str, String)>,
}

impl Form {
    /// Returns the form for the given values. `asked` is the question if they are valid.
    pub fn new(
        state: &State,
        raw: &RawQuery,
        asked: Option<&PageQuery>,
        problems: &[Problem],
    ) -> Self {
        let problem = |field: Field| {
            let said: Vec<&str> = problems
                .iter()
                .filter(|p| p.field == field)
                .map(|p| &*p.message)
                .collect();
            (!said.is_empty()).then(|| words::curly(&said.join("; ")))
        };
        let input = |field: Field, value: &str| Input {
            name: field.name(),
            id: field.to_string(),
            label: field.label(),
            value: match problem(field) {
                None if field.is_segment() => state.typed(value),
                _ => value.to_owned(),
            },
            problem: problem(field),
            column: problems
                .iter()
                .find(|p| p.field == field)
                .and_then(|p| p.column),
            remove: None,
        };
        let filters = |field: fn(usize) -> Field, values: &[String]| -> Vec<Input> {
            let remove = |i: usize| {
                Some(state.to(&format!(
                    "/retention?{}",
                    asked?.without(field(i)).canonical()
                )))
            };
            let mut inputs: Vec<Input> = values
                .iter()
                .enumerate()
                .map(|(i, value)| Input {
                    remove: remove(i),
                    ..input(field(i), value)
                })
                .collect();
            inputs.push(input(field(values.len()), ""));
            inputs
        };
        // An invalid value is reported at its field.
        let grain = raw.text("by").parse().unwrap_or(Grain::Day);
        let on = match grain {
            Grain::Day => "On the day".to_owned(),
            grain => format!("In the {grain}"),
        };
        let choices =
            |field: Field, legend: &'static str, raw: &str, list: Vec<(&'static str, String)>| {
                let known = list.iter().any(|(value, _)| *value == raw);
                Choices {
                    name: field.name(),
                    legend,
                    choices: list
                        .into_iter()
                        .enumerate()
                        .map(|(i, (value, label))| Choice {
                            value,
                            label,
                            checked: if known { value == raw } else { i == 0 },
                        })
                        .collect(),
                    problem: problem(field),
                }
            };
        let by = grain.as_str();
        let ends = asked.and_then(|_| state.ends());
        let (cohort, first) = raw.cohort_as_typed();
        Form {
            first,
            cohort: Input {
                // A position within `first(…)` is one within the text without it.
                column: column_without(problems, raw.text("cohort"), &cohort),
                ..input(Field::Cohort, &cohort)
            },
            cohort_and: filters(Field::CohortAnd, raw.params.all("cohort_and")),
            returning: input(Field::Returning, raw.text("returning")),
            returning_and: filters(Field::ReturningAnd, raw.params.all("returning_and")),
            choices: [
                choices(
                    Field::By,
                    "by",
                    by,
                    Grain::ALL
                        .map(|g| (g.as_str(), capital(g.as_str())))
                        .to_vec(),
                ),
                choices(
                    Field::Measure,
                    "counted",
                    raw.text("measure"),
                    vec![
                        (Measure::On.as_str(), on),
                        (Measure::OnOrAfter.as_str(), "On or after".to_owned()),
                        (Measure::OnOrBefore.as_str(), "On or before".to_owned()),
                        (Measure::Unbroken.as_str(), "Without a break".to_owned()),
                    ],
                ),
            ],
            show: choices(
                Field::As,
                "show",
                raw.text("as"),
                vec![
                    (Show::Percent.as_str(), "%".to_owned()),
                    (Show::Count.as_str(), "People".to_owned()),
                    (Show::Previous.as_str(), "% of previous".to_owned()),
                ],
            ),
            more: [
                choices(
                    Field::Average,
                    "average",
                    raw.text("average"),
                    vec![
                        ("", "Usual".to_owned()),
                        (Averaging::Weighted.as_str(), "Weighted".to_owned()),
                        (Averaging::Simple.as_str(), "Simple".to_owned()),
                        (Averaging::Survival.as_str(), "Survival".to_owned()),
                    ],
                ),
                choices(
                    Field::Previous,
                    Field::Previous.label(),
                    raw.text("previous"),
                    vec![
                        ("", "Hidden".to_owned()),
                        (PreviousRange::Shown.as_str(), "Shown".to_owned()),
                    ],
                ),
                choices(
                    Field::Week,
                    Field::Week.label(),
                    raw.text("week"),
                    // Addresses do not name the usual one.
                    std::iter::once(("", raw.calendar.week.name().to_owned()))
                        .chain(
                            WeekStart::ALL
                                .into_iter()
                                .filter(|start| *start != raw.calendar.week)
                                .map(|start| (start.as_str(), start.name().to_owned())),
                        )
                        .collect(),
                ),
            ],
            goal: input(Field::Goal, raw.text("goal")),
            zone: input(Field::Zone, raw.text("zone")),
            usual_zone: raw.calendar.zone.name(),
            brackets: input(Field::Brackets, raw.text("brackets")),
            breakdown: input(Field::Breakdown, raw.text("breakdown")),
            compare: compare(raw, &input),
            split: input(Field::Split, raw.text("split")),
            uses_more: [
                "average",
                "brackets",
                "breakdown",
                "compare",
                "goal",
                "previous",
                "split",
                "week",
                "zone",
            ]
            .iter()
            .any(|name| !raw.text(name).is_empty()),
            rows: input(Field::Rows, raw.text("rows")),
            cols: input(Field::Cols, raw.text("cols")),
            default_size: default_size(grain),
            from: input(Field::From, raw.text("from")),
            to: input(Field::To, raw.text("to")),
            settings: settings(raw, grain),
            kept: [
                (Field::Order, &raw.order),
                (Field::Scale, &raw.scale),
                (Field::Trend, &raw.trend),
                (Field::Group, &raw.group),
            ]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(field, value)| (field.name(), value.clone()))
            .collect(),
            ranges: Range::ALL
                .map(|range| Choice {
                    value: range.as_str(),
                    label: range.label().to_owned(),
                    checked: asked.is_some_and(|asked| range.is_of(asked, state.now(), ends)),
                })
                .into(),
            stray: [Field::Order, Field::Scale, Field::Trend, Field::Range]
                .into_iter()
                .filter_map(|field| Some((field.label(), problem(field)?)))
                .collect(),
        }
    }

    /// Returns the problems in the order of the form.
    pub fn problems(&self) -> Vec<Wrong<'_>> {
        let sides = [&self.cohort]
            .into_iter()
            .chain(&self.cohort_and)
            .chain([&self.returning])
            .chain(&self.returning_and);
        let inputs = sides
            .chain([
                &self.rows,
                &self.cols,
                &self.from,
                &self.to,
                &self.brackets,
                &self.goal,
                &self.zone,
            ])
            .chain([&self.breakdown])
            .chain(&self.compare)
            .chain([&self.split]);
        let raw = inputs.filter_map(|input| {
            let place = input.column.map(|column| place(&input.value, column));
            Some(Wrong {
                id: &input.id,
                label: input.label,
                message: input.problem.as_deref()?,
                place,
            })
        });
        let choices = self.choices.iter().chain([&self.show]).chain(&self.more);
        let chosen = choices.filter_map(|c| {
            Some(Wrong {
                id: c.name,
                label: c.legend,
                message: c.problem.as_deref()?,
                place: None,
            })
        });
        raw.chain(chosen).collect()
    }
}

/// Returns the inputs for segments to compare: room for the second, or for one more.
fn compare(raw: &RawQuery, input: &dyn Fn(Field, &str) -> Input) -> Vec<Input> {
    let given = raw.params.all("compare");
    let shown = (given.len() + 1).clamp(2, MAX_SEGMENTS.max(given.len()));
    let value = |at: usize| given.get(at).map_or("", String::as_str);
    (0..shown)
        .map(|at| input(Field::Compare(at), value(at)))
        .collect()
}

/// Returns the position of the problem with the first event, in the text that the form shows.
fn column_without(problems: &[Problem], text: &str, shown: &str) -> Option<usize> {
    let problem = problems.iter().find(|p| p.field == Field::Cohort)?;
    let hidden = if text == shown { 0 } else { "first(".len() };
    Some(problem.column?.saturating_sub(hidden).max(1))
}

/// A problem with one field.
#[derive(Debug)]
pub struct Wrong<'a> {
    /// The field's id on the page.
    pub id: &'a str,
    /// The field's label.
    pub label: &'a str,
    /// What is wrong.
    pub message: &'a str,
    /// The text before, at and after the position of the problem.
    pub place: Option<[String; 3]>,
}

/// Splits a text at `column`, counted from 1. Beyond the end a space is marked.
pub(super) fn place(text: &str, column: usize) -> [String; 3] {
    let mut chars = text.chars();
    let before: String = chars.by_ref().take(column.saturating_sub(1)).collect();
    let at = chars
        .next()
        .map_or_else(|| "\u{2003}".to_owned(), String::from);
    [before, at, chars.collect()]
}

/// Summarizes the choices, as far as they are valid: `by week`, `12 weeks`, `in the week`, `UTC`.
fn settings(raw: &RawQuery, grain: Grain) -> Vec<String> {
    let size = default_size(grain);
    let number = |name: &str| match raw.text(name) {
        "" => size.to_string(),
        given => words::shortened(given, 8),
    };
    let [rows, cols] = ["rows", "cols"].map(number);
    let count = rows.parse().unwrap_or(u64::from(size));
    let cohorts = match (raw.text("from"), raw.text("to")) {
        ("", "") => many(count, grain.as_str()),
        (from, "") => format!(
            "{} from {}",
            many(count, grain.as_str()),
            words::shortened(from, 12)
        ),
        ("", to) => format!(
            "{} to {}",
            many(count, grain.as_str()),
            words::shortened(to, 12)
        ),
        (from, to) => format!(
            "{} to {}",
            words::shortened(from, 12),
            words::shortened(to, 12)
        ),
    };
    let columns = match raw.text("brackets") {
        "" if cols == rows => None,
        "" => Some(format!("{cols} columns")),
        brackets => Some(format!("{grain}s {}", words::shortened(brackets, 24))),
    };
    // An invalid value is reported at its field.
    let counted = match raw.text("measure").parse().unwrap_or_default() {
        Measure::Unbroken => format!("{} every {grain} since", preposition(grain)),
        counted => format!("{} the {grain}", counted.words(grain)),
    };
    let shown = match raw.text("as").parse().unwrap_or_default() {
        Show::Percent => None,
        Show::Count => Some("people".to_owned()),
        Show::Previous => Some("% of previous".to_owned()),
    };
    let average = match raw.text("average") {
        "" => None,
        average => Some(format!("{} average", words::shortened(average, 12))),
    };
    let goal = match raw.text("goal") {
        "" => None,
        goal => Some(format!("goal {}%", words::shortened(goal, 8))),
    };
    let previous = match raw.text("previous").parse().unwrap_or_default() {
        PreviousRange::Hidden => None,
        PreviousRange::Shown => Some("with the range before".to_owned()),
    };
    let zone = match raw.text("zone") {
        "" => raw.calendar.zone.name().to_owned(),
        zone => words::shortened(zone, 32),
    };
    [format!("by {grain}"), cohorts]
        .into_iter()
        .chain(columns)
        .chain([counted])
        .chain(shown)
        .chain(average)
        .chain(goal)
        .chain(previous)
        .chain([zone])
        .collect()
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
