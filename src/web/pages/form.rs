//! The question as a form.

use crate::calendar::{Grain, parse_date};
use crate::render::Show;
use crate::reports::retention::{Averaging, Measure, default_size};
use crate::sets::{EventName, Segment};
use crate::web::query::{Asked, Field, Problem, Typed};

/// The most event names offered while typing: beyond it the list would outweigh the page.
const MAX_OFFERED: usize = 1_000;

/// A field to type in.
#[derive(Debug)]
pub struct Input {
    /// Its name in the query string.
    pub name: &'static str,
    /// Its id on the page.
    pub id: String,
    /// What the page calls it.
    pub label: &'static str,
    /// What stands in it.
    pub value: String,
    /// What is wrong with that.
    pub problem: Option<String>,
    /// The address of the question without this filter.
    pub remove: Option<String>,
}

impl Input {
    /// Whether it holds a date, or nothing: a date field would hide any other text instead of keeping it.
    pub fn is_date(&self) -> bool {
        self.value.is_empty() || parse_date(&self.value).is_ok()
    }
}

/// One choice among a few.
#[derive(Debug)]
pub struct Choice {
    /// Its value in the query string.
    pub value: &'static str,
    /// Its words.
    pub label: String,
    /// Whether it is taken.
    pub checked: bool,
}

/// Choices of which one is taken.
#[derive(Debug)]
pub struct Choices {
    /// Their name in the query string.
    pub name: &'static str,
    /// What is chosen.
    pub legend: &'static str,
    /// The choices.
    pub choices: Vec<Choice>,
    /// What is wrong with what was given.
    pub problem: Option<String>,
}

/// The form with what was typed.
#[derive(Debug)]
pub struct Form {
    /// Who starts.
    pub cohort: Input,
    /// Who they also have to be; the last one is empty.
    pub cohort_and: Vec<Input>,
    /// What counts as coming back.
    pub returning: Input,
    /// What else; the last one is empty.
    pub returning_and: Vec<Input>,
    /// Period, measure, show, average.
    pub choices: [Choices; 4],
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
    /// Events to offer, as segment text.
    pub offered: Vec<String>,
}

impl Form {
    /// The form for what was typed. `asked` is the question when there is one.
    pub fn new(typed: &Typed, asked: Option<&Asked>, problems: &[Problem], events: &[EventName]) -> Self {
        let problem = |field: Field| {
            let said: Vec<&str> = problems.iter().filter(|p| p.field == field).map(|p| &*p.message).collect();
            (!said.is_empty()).then(|| said.join("; "))
        };
        let input = |field: Field, value: &str| Input {
            name: field.name(),
            id: field.to_string(),
            label: field.label(),
            value: value.to_owned(),
            problem: problem(field),
            remove: None,
        };
        let filters = |field: fn(usize) -> Field, values: &[String]| -> Vec<Input> {
            let remove = |i: usize| Some(format!("/retention?{}", asked?.without(field(i)).canonical()));
            let mut inputs: Vec<Input> = values
                .iter()
                .enumerate()
                .map(|(i, value)| Input { remove: remove(i), ..input(field(i), value) })
                .collect();
            inputs.push(input(field(values.len()), ""));
            inputs
        };
        let grain = typed.by.parse().unwrap_or(Grain::Day);
        let (on, on_or_after) = match grain {
            Grain::Day => ("On the day".to_owned(), "On or after"),
            grain => (format!("In the {grain}"), "Then or later"),
        };
        let choices = |field: Field, legend: &'static str, typed: &str, list: Vec<(&'static str, String)>| {
            let known = list.iter().any(|(value, _)| *value == typed);
            Choices {
                name: field.name(),
                legend,
                choices: list
                    .into_iter()
                    .enumerate()
                    .map(|(i, (value, label))| Choice {
                        value,
                        label,
                        checked: if known { value == typed } else { i == 0 },
                    })
                    .collect(),
                problem: problem(field),
            }
        };
        let by = if typed.by.is_empty() { Grain::Day.as_str() } else { &typed.by };
        Form {
            cohort: input(Field::Cohort, &typed.cohort),
            cohort_and: filters(Field::CohortAnd, &typed.cohort_and),
            returning: input(Field::Returning, &typed.returning),
            returning_and: filters(Field::ReturningAnd, &typed.returning_and),
            choices: [
                choices(Field::By, "by", by, Grain::ALL.map(|g| (g.as_str(), capital(g.as_str()))).to_vec()),
                choices(
                    Field::Measure,
                    "counted",
                    &typed.measure,
                    vec![(Measure::On.as_str(), on), (Measure::OnOrAfter.as_str(), on_or_after.to_owned())],
                ),
                choices(
                    Field::As,
                    "show",
                    &typed.show,
                    vec![(Show::Percent.as_str(), "%".to_owned()), (Show::Count.as_str(), "People".to_owned())],
                ),
                choices(
                    Field::Average,
                    "average",
                    &typed.average,
                    vec![
                        (Averaging::Weighted.as_str(), "Weighted".to_owned()),
                        (Averaging::Simple.as_str(), "Simple".to_owned()),
                    ],
                ),
            ],
            rows: input(Field::Rows, &typed.rows),
            cols: input(Field::Cols, &typed.cols),
            default_size: default_size(grain),
            from: input(Field::From, &typed.from),
            to: input(Field::To, &typed.to),
            offered: events.iter().take(MAX_OFFERED).map(|name| Segment::event(name).to_string()).collect(),
        }
    }

    /// The fields with something wrong, in the order of the form: id, label, message.
    pub fn problems(&self) -> Vec<(&str, &str, &str)> {
        let sides =
            [&self.cohort].into_iter().chain(&self.cohort_and).chain([&self.returning]).chain(&self.returning_and);
        let inputs = sides.chain([&self.rows, &self.cols, &self.from, &self.to]);
        let typed = inputs.filter_map(|i| Some((&*i.id, i.label, i.problem.as_deref()?)));
        let chosen = self.choices.iter().filter_map(|c| Some((c.name, c.legend, c.problem.as_deref()?)));
        typed.chain(chosen).collect()
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
