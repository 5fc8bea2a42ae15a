//! Query strings ⇄ questions: the page's own names, and bitmapist's, so that old bookmarks open. Pure.

use std::fmt;
use std::str::FromStr;

use chrono::NaiveDate;
use url::form_urlencoded;

use crate::calendar::{Grain, parse_date};
use crate::render::Show;
use crate::reports::retention::{Averaging, MAX_COLS, MAX_ROWS, Measure, Query, QueryError};
use crate::sets::{EventName, Segment, SyntaxError};

/// A field of the form, by its name in the query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `cohort`
    Cohort,
    /// `cohort_and`, and which of them, from 0.
    CohortAnd(usize),
    /// `returning`
    Returning,
    /// `returning_and`, and which of them, from 0.
    ReturningAnd(usize),
    /// `by`
    By,
    /// `rows`
    Rows,
    /// `cols`
    Cols,
    /// `from`
    From,
    /// `to`
    To,
    /// `measure`
    Measure,
    /// `as`
    As,
    /// `average`
    Average,
    /// `at`: a cohort's period, on the people page, as all that follow.
    At,
    /// `k`: a column.
    Column,
    /// `who`
    Who,
    /// `set`
    Set,
    /// `after`: the user id that a page begins behind.
    After,
    /// `id`: a user.
    User,
}

impl Field {
    /// Its name in the query string.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Cohort => "cohort",
            Field::CohortAnd(_) => "cohort_and",
            Field::Returning => "returning",
            Field::ReturningAnd(_) => "returning_and",
            Field::By => "by",
            Field::Rows => "rows",
            Field::Cols => "cols",
            Field::From => "from",
            Field::To => "to",
            Field::Measure => "measure",
            Field::As => "as",
            Field::Average => "average",
            Field::At => "at",
            Field::Column => "k",
            Field::Who => "who",
            Field::Set => "set",
            Field::After => "after",
            Field::User => "id",
        }
    }
}

impl Field {
    /// What the page calls it.
    pub const fn label(self) -> &'static str {
        match self {
            Field::Cohort => "People who did",
            Field::CohortAnd(_) | Field::ReturningAnd(_) => "and",
            Field::Returning => "came back to",
            Field::Rows => "cohorts",
            Field::Cols => "periods",
            Field::Measure => "counted",
            Field::As => "show",
            Field::At => "cohort of",
            Field::Column => "column",
            Field::Set => "People in",
            Field::User => "User",
            Field::Who | Field::After => self.name(),
            Field::By | Field::From | Field::To | Field::Average => self.name(),
        }
    }
}

/// The field's name, which also is its id on the page: `cohort`, `cohort_and-1`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::CohortAnd(i) | Field::ReturningAnd(i) => write!(f, "{}-{i}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub field: Field,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The character it is about, counted from 1, in a segment.
    pub column: Option<usize>,
}

impl Problem {
    pub(crate) fn new(field: Field, message: impl Into<String>) -> Self {
        Problem { field, message: message.into(), column: None }
    }

    /// A question that cannot be answered, at the field that asks too much.
    pub fn of_query(error: &QueryError) -> Self {
        let field = match error.field() {
            Some("cols") => Field::Cols,
            Some("from") => Field::From,
            Some("to") => Field::To,
            _ => Field::Rows,
        };
        Problem::new(field, error.to_string())
    }
}

/// What was typed, as it was typed. Blank optional fields are empty; blank filters are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Named as the fields are.
pub struct Typed {
    pub cohort: String,
    pub cohort_and: Vec<String>,
    pub returning: String,
    pub returning_and: Vec<String>,
    pub by: String,
    pub rows: String,
    pub cols: String,
    pub from: String,
    pub to: String,
    pub measure: String,
    pub show: String,
    pub average: String,
    /// bitmapist's `export_csv=1`: the CSV file is wanted instead of the page.
    pub export_csv: bool,
}

impl Typed {
    /// Reads a query string. Unknown names are ignored, and of one name given twice the last counts. Where a field is
    /// given by its own name and by bitmapist's, its own counts.
    pub fn read(query: &str) -> Self {
        let (mut own, mut old) = (Typed::default(), Typed::default());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.trim().to_owned();
            if value.is_empty() {
                continue;
            }
            match &*name {
                "cohort" | "c" => own.cohort = value,
                "cohort_and" => own.cohort_and.push(value),
                "returning" | "r" => own.returning = value,
                "returning_and" => own.returning_and.push(value),
                "by" => own.by = value,
                "rows" => own.rows = value,
                "cols" => own.cols = value,
                "from" => own.from = value,
                "to" => own.to = value,
                "measure" => own.measure = value,
                "as" => own.show = value,
                "average" => own.average = value,
                "select1" => old.cohort = name_as_segment(&value),
                "select1b" => old.cohort_and.push(name_as_segment(&value)),
                "select2" => old.returning = name_as_segment(&value),
                "select2b" => old.returning_and.push(name_as_segment(&value)),
                "time_group" => old.by = value.strip_suffix('s').unwrap_or(&value).to_owned(),
                "num_results" => old.rows = value,
                // bitmapist counts the columns behind column 0.
                "num_of_rows" => old.cols = value.parse::<u32>().map_or(value, |n| (u64::from(n) + 1).to_string()),
                "start_date" => old.from = value,
                "as_percent" => old.show = if value == "0" { Show::Count } else { Show::Percent }.as_str().to_owned(),
                "export_csv" => own.export_csv = value != "0",
                _ => {}
            }
        }
        let text = |own: String, old: String| if own.is_empty() { old } else { own };
        let list = |own: Vec<String>, old: Vec<String>| if own.is_empty() { old } else { own };
        Typed {
            cohort: text(own.cohort, old.cohort),
            cohort_and: list(own.cohort_and, old.cohort_and),
            returning: text(own.returning, old.returning),
            returning_and: list(own.returning_and, old.returning_and),
            by: text(own.by, old.by),
            rows: text(own.rows, old.rows),
            cols: text(own.cols, old.cols),
            from: text(own.from, old.from),
            to: text(own.to, old.to),
            measure: text(own.measure, old.measure),
            show: text(own.show, old.show),
            average: text(own.average, old.average),
            export_csv: own.export_csv,
        }
    }

    /// Whether neither side of the question was given, so that the default question is meant.
    pub fn asks_nothing(&self) -> bool {
        self.cohort.is_empty() && self.returning.is_empty()
    }

    /// The question, when every field is right.
    ///
    /// # Errors
    /// Every field that is not, at once.
    pub fn check(&self) -> Result<Asked, Vec<Problem>> {
        let mut problems = Vec::new();
        let cohort = segment(&mut problems, Field::Cohort, &self.cohort);
        let cohort_and = segments(&mut problems, Field::CohortAnd, &self.cohort_and);
        let returning = segment(&mut problems, Field::Returning, &self.returning);
        let returning_and = segments(&mut problems, Field::ReturningAnd, &self.returning_and);
        let grain = word(&mut problems, Field::By, &self.by).unwrap_or(Grain::Day);
        let rows = number(&mut problems, Field::Rows, &self.rows, MAX_ROWS);
        let cols = number(&mut problems, Field::Cols, &self.cols, MAX_COLS);
        let from = date(&mut problems, Field::From, &self.from);
        let to = date(&mut problems, Field::To, &self.to);
        let measure = word(&mut problems, Field::Measure, &self.measure).unwrap_or_default();
        let show = word(&mut problems, Field::As, &self.show).unwrap_or_default();
        let averaging = word(&mut problems, Field::Average, &self.average).unwrap_or_default();
        match (cohort, returning) {
            (Some(cohort), Some(returning)) if problems.is_empty() => Ok(Asked {
                cohort,
                cohort_and,
                returning,
                returning_and,
                grain,
                rows,
                cols,
                from,
                to,
                measure,
                averaging,
                show,
            }),
            _ => Err(problems),
        }
    }
}

/// bitmapist's fields hold a raw event name, whatever characters it has.
fn name_as_segment(name: &str) -> String {
    match EventName::new(name) {
        Ok(name) => Segment::event(&name).to_string(),
        Err(_) => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

fn segment(problems: &mut Vec<Problem>, field: Field, text: &str) -> Option<Segment> {
    if text.is_empty() {
        problems
            .push(Problem::new(field, "name an event, such as `signup`, or a segment, such as `active & (web | ios)`"));
        return None;
    }
    text.parse()
        .map_err(|SyntaxError { column, message }| {
            // The most frequent slip: an event whose name holds a blank or a sign.
            let plain = text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_-.:".contains(c));
            let hint = if plain && text.contains(char::is_whitespace) {
                format!(". If that is one event's name, put it in quotes: \"{text}\"")
            } else {
                String::new()
            };
            problems.push(Problem {
                field,
                message: format!("column {column}: {message}{hint}"),
                column: Some(column),
            });
        })
        .ok()
}

fn segments(problems: &mut Vec<Problem>, field: fn(usize) -> Field, texts: &[String]) -> Vec<Segment> {
    texts.iter().enumerate().filter_map(|(i, text)| segment(problems, field(i), text)).collect()
}

fn word<T: FromStr<Err: fmt::Display>>(problems: &mut Vec<Problem>, field: Field, text: &str) -> Option<T> {
    let parsed = (!text.is_empty()).then(|| text.parse())?;
    parsed.map_err(|error: T::Err| problems.push(Problem::new(field, error.to_string()))).ok()
}

fn number(problems: &mut Vec<Problem>, field: Field, text: &str, most: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let parsed = text.parse::<u32>().ok().filter(|n| (1..=most).contains(n));
    if parsed.is_none() {
        let shown: String = text.chars().take(24).collect();
        problems.push(Problem::new(field, format!("`{shown}` does not fit: ask for a whole number from 1 to {most}")));
    }
    parsed
}

fn date(problems: &mut Vec<Problem>, field: Field, text: &str) -> Option<NaiveDate> {
    let parsed = (!text.is_empty()).then(|| parse_date(text))?;
    parsed.map_err(|error| problems.push(Problem::new(field, error.to_string()))).ok()
}

/// A question as the page asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // Named as the fields are.
pub struct Asked {
    pub cohort: Segment,
    pub cohort_and: Vec<Segment>,
    pub returning: Segment,
    pub returning_and: Vec<Segment>,
    pub grain: Grain,
    pub rows: Option<u32>,
    pub cols: Option<u32>,
    pub from: Option<NaiveDate>,
    pub to: Option<NaiveDate>,
    pub measure: Measure,
    pub averaging: Averaging,
    pub show: Show,
}

impl Asked {
    /// The question of two segments, everything else by default.
    pub fn new(cohort: Segment, returning: Segment) -> Self {
        Asked {
            cohort,
            cohort_and: Vec::new(),
            returning,
            returning_and: Vec::new(),
            grain: Grain::Day,
            rows: None,
            cols: None,
            from: None,
            to: None,
            measure: Measure::default(),
            averaging: Averaging::default(),
            show: Show::default(),
        }
    }

    /// The report's question.
    pub fn query(&self) -> Query {
        Query {
            cohort: self.cohort.clone().and_all(self.cohort_and.iter().cloned()),
            returning: self.returning.clone().and_all(self.returning_and.iter().cloned()),
            grain: self.grain,
            rows: self.rows,
            cols: self.cols,
            from: self.from,
            to: self.to,
            measure: self.measure,
            averaging: self.averaging,
        }
    }

    /// The one query string of this question: own names, fixed order, defaults left out. [`Typed::read`] and
    /// [`Typed::check`] give the question back.
    pub fn canonical(&self) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        out.append_pair("cohort", &self.cohort.to_string());
        out.extend_pairs(self.cohort_and.iter().map(|s| ("cohort_and", s.to_string())));
        out.append_pair("returning", &self.returning.to_string());
        out.extend_pairs(self.returning_and.iter().map(|s| ("returning_and", s.to_string())));
        out.append_pair("by", self.grain.as_str());
        let optional = [
            ("rows", self.rows.map(|n| n.to_string())),
            ("cols", self.cols.map(|n| n.to_string())),
            ("from", self.from.map(|d| d.to_string())),
            ("to", self.to.map(|d| d.to_string())),
            ("measure", Some(self.measure).filter(|m| *m != Measure::default()).map(|m| m.as_str().to_owned())),
            ("as", Some(self.show).filter(|s| *s != Show::default()).map(|s| s.as_str().to_owned())),
            ("average", Some(self.averaging).filter(|a| *a != Averaging::default()).map(|a| a.as_str().to_owned())),
        ];
        out.extend_pairs(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        out.finish()
    }

    /// The same in fewer letters, for links that a page holds by the hundred: `c` and `r` for the two sides, and no
    /// default grain.
    pub fn short(&self) -> String {
        // A value holds no `&` and no `=`, as both are escaped.
        let short = self.canonical().replacen("cohort=", "c=", 1).replacen("&returning=", "&r=", 1);
        if self.grain == Grain::Day { short.replacen("&by=day", "", 1) } else { short }
    }

    /// The same question without one of its filters.
    pub fn without(&self, filter: Field) -> Self {
        let mut asked = self.clone();
        match filter {
            Field::CohortAnd(i) if i < asked.cohort_and.len() => drop(asked.cohort_and.remove(i)),
            Field::ReturningAnd(i) if i < asked.returning_and.len() => drop(asked.returning_and.remove(i)),
            _ => {}
        }
        asked
    }

    /// The same question with one event's name replaced wherever it stands.
    pub fn renamed(&self, from: &EventName, to: &EventName) -> Self {
        let name = |name: &EventName| if name == from { to.clone() } else { name.clone() };
        self.changed(&|leaf| match leaf {
            Segment::Ever(event) => Segment::Ever(name(event)),
            Segment::Event(event) => Segment::Event(name(event)),
            other => other.clone(),
        })
    }

    /// The same question with the undated bitmap of one event for its dated ones.
    pub fn ever(&self, name: &EventName) -> Self {
        self.changed(&|leaf| match leaf {
            Segment::Event(event) if event == name => Segment::Ever(event.clone()),
            other => other.clone(),
        })
    }

    fn changed(&self, leaf: &dyn Fn(&Segment) -> Segment) -> Self {
        let all = |list: &[Segment]| list.iter().map(|s| changed(s, leaf)).collect();
        Asked {
            cohort: changed(&self.cohort, leaf),
            cohort_and: all(&self.cohort_and),
            returning: changed(&self.returning, leaf),
            returning_and: all(&self.returning_and),
            ..self.clone()
        }
    }

    /// Every segment of the question.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        [&self.cohort].into_iter().chain(&self.cohort_and).chain([&self.returning]).chain(&self.returning_and)
    }
}

/// The segment with each of its events replaced.
fn changed(segment: &Segment, leaf: &dyn Fn(&Segment) -> Segment) -> Segment {
    let all = |list: &[Segment]| list.iter().map(|s| changed(s, leaf)).collect();
    match segment {
        Segment::Event(_) | Segment::Ever(_) => leaf(segment),
        Segment::And(list) => Segment::And(all(list)),
        Segment::Or(list) => Segment::Or(all(list)),
        Segment::Xor(list) => Segment::Xor(all(list)),
        Segment::Diff(a, b) => Segment::Diff(Box::new(changed(a, leaf)), Box::new(changed(b, leaf))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(query: &str) -> Asked {
        Typed::read(query).check().unwrap()
    }

    fn problems(query: &str) -> Vec<(String, String)> {
        let found = Typed::read(query).check().unwrap_err();
        found.into_iter().map(|p| (p.field.to_string(), p.message)).collect()
    }

    #[test]
    fn blank_fields_are_defaults() {
        let blank = asked("cohort=signup&returning=active&rows=&cols=+&from=&to=&cohort_and=&measure=&as=&by=&utm=x");
        assert_eq!(blank, Asked::new("signup".parse().unwrap(), "active".parse().unwrap()));
        assert_eq!(blank.canonical(), "cohort=signup&returning=active&by=day");
    }

    #[test]
    fn bitmapists_names_are_read() {
        let old = asked(
            "select1=a%7Cb&select1b=web&select2=song:played&select2b=plan+pro&time_group=weeks&num_results=8&num_of_rows=11\
             &start_date=2026-03-02&as_percent=0",
        );
        assert_eq!(
            old.canonical(),
            "cohort=%22a%7Cb%22&cohort_and=web&returning=song%3Aplayed&returning_and=%22plan+pro%22&by=week&rows=8&cols=12\
             &from=2026-03-02&as=count"
        );
        assert!(Typed::read("select1=a&select2=b&export_csv=1").export_csv);
        assert!(!Typed::read("select1=a&select2=b&export_csv=0").export_csv);
        assert_eq!(
            asked("select1=a&cohort=b&select2=c&time_group=days&by=month").canonical(),
            "cohort=b&returning=c&by=month"
        );
        assert_eq!(Typed::read("num_of_rows=x").cols, "x");
    }

    #[test]
    fn every_problem_is_said_at_its_field() {
        let found = problems(
            "cohort=active+%26+!&cohort_and=web&cohort_and=%28&by=fortnight&rows=0&cols=1000000000000&from=2026-02-30&as=x",
        );
        let fields: Vec<&str> = found.iter().map(|(field, _)| &**field).collect();
        assert_eq!(fields, ["cohort", "cohort_and-1", "returning", "by", "rows", "cols", "from", "as"]);
        assert_eq!(found[0].1, "column 11: expected an event name or `(`, found the end");
        assert_eq!(found[4].1, "`0` does not fit: ask for a whole number from 1 to 400");
        assert_eq!(found[6].1, "`2026-02-30` is not a date: write it as 2026-11-23");
        let hint = &problems("cohort=User+Signup&returning=a")[0].1;
        assert!(hint.ends_with("put it in quotes: \"User Signup\""), "{hint}");
    }

    #[test]
    fn names_are_replaced_and_filters_removed() {
        let before = asked("cohort=actve+%26+(web+%7C+actve)&returning=b&returning_and=x&returning_and=y");
        let name = |text| EventName::new(text).unwrap();
        assert_eq!(before.renamed(&name("actve"), &name("active")).cohort.to_string(), "active & (web | active)");
        assert_eq!(before.ever(&name("web")).cohort.to_string(), "actve & (web@ever | actve)");
        assert_eq!(before.without(Field::ReturningAnd(0)).returning_and, ["y".parse().unwrap()]);
        assert_eq!(before.without(Field::ReturningAnd(7)), before);
    }

    fn segments() -> impl Strategy<Value = Segment> {
        let name = "[^\\p{Cc}]{1,12}".prop_filter_map("a name", |text| EventName::new(&text).ok());
        let leaf = (name, any::<bool>()).prop_map(|(n, ever)| if ever { Segment::Ever(n) } else { Segment::Event(n) });
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 2..4).prop_map(Segment::Or),
                (inner.clone(), inner).prop_map(|(a, b)| Segment::Diff(Box::new(a), Box::new(b))),
            ]
        })
    }

    prop_compose! {
        fn questions()(
            (cohort, cohort_and) in (segments(), prop::collection::vec(segments(), 0..3)),
            (returning, returning_and) in (segments(), prop::collection::vec(segments(), 0..3)),
            grain in prop::sample::select(&Grain::ALL[..]),
            (rows, cols) in (prop::option::of(1..=MAX_ROWS), prop::option::of(1..=MAX_COLS)),
            days in prop::option::of(0..30_000i32),
            (later, count, simple) in (any::<bool>(), any::<bool>(), any::<bool>()),
        ) -> Asked {
            let date = |days: i32| NaiveDate::from_epoch_days(days);
            Asked {
                cohort, cohort_and, returning, returning_and, grain, rows, cols,
                from: days.and_then(date),
                to: days.filter(|d| d % 2 == 0).and_then(|d| date(d + 9)),
                measure: if later { Measure::OnOrAfter } else { Measure::On },
                averaging: if simple { Averaging::Simple } else { Averaging::Weighted },
                show: if count { Show::Count } else { Show::Percent },
            }
        }
    }

    proptest! {
        #[test]
        fn the_canonical_query_string_gives_the_question_back(question in questions()) {
            let read = Typed::read(&question.canonical()).check();
            prop_assert_eq!(read.as_ref().map(Asked::canonical), Ok(question.canonical()));
            prop_assert_eq!(read.as_ref(), Ok(&question));
            prop_assert_eq!(Typed::read(&question.short()).check(), Ok(question));
        }

        #[test]
        fn any_query_string_is_read_without_panic(text in "\\PC{0,80}") {
            let _ = Typed::read(&text).check();
        }
    }
}
