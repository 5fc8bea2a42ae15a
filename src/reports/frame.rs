//! Answers as typed tables, from which every file format is made.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use crate::calendar::{Grain, Period};

/// A table of typed values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// The names of the columns.
    pub columns: Vec<Cow<'static, str>>,
    /// The rows, each with a value for every column.
    pub rows: Vec<Vec<Value>>,
}

/// One value of a [`Frame`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// There is none: future, not recorded, or not defined.
    Empty,
    /// A number of users.
    Count(u64),
    /// A number that is not rounded, such as a rate from 0 to 1.
    Number(f64),
    /// A share from 0 to 1 for people: in percent with two decimals and no sign.
    Share(f64),
    /// A text from outside, such as an event's name: a file for spreadsheets guards it.
    Text(String),
    /// A date, a period, or one of our own words.
    Word(String),
}

impl Value {
    /// One of our own words.
    pub fn word(word: &str) -> Self {
        Value::Word(word.to_owned())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Empty, Into::into)
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Value::Count(count)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

impl Frame {
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Self {
        Frame {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it does not have a value for every column.
    pub fn push(&mut self, row: Vec<Value>) {
        assert_eq!(row.len(), self.columns.len(), "a row fills every column");
        self.rows.push(row);
    }

    /// The rows as a list of JSON objects.
    pub fn to_json(&self) -> Json {
        let object = |row: &Vec<Value>| {
            let values = self.columns.iter().zip(row);
            let members = values.map(|(name, value)| (name.clone().into_owned(), value.to_json()));
            Json::Object(members.collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }
}

impl Value {
    fn to_json(&self) -> Json {
        match self {
            Value::Empty => Json::Null,
            Value::Count(count) => (*count).into(),
            Value::Number(number) | Value::Share(number) => (*number).into(),
            Value::Text(text) | Value::Word(text) => text.clone().into(),
        }
    }
}

/// Start and end of a period as ISO dates, the end exclusive; for hours as date-times, since dates
/// would not tell them apart.
pub fn iso_bounds(period: Period) -> [String; 2] {
    let format = if period.grain() == Grain::Hour {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%d"
    };
    [period.start(), period.end()].map(|at| at.format(format).to_string())
}

/// [`iso_bounds`] as values.
pub fn bounds(period: Period) -> [Value; 2] {
    iso_bounds(period).map(Value::Word)
}
