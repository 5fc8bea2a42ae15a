//! Converts query strings to questions and back. Accepts the page's own names and bitmapist's, so
//! that old bookmarks work. Pure.

mod field;
mod known;
mod range;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use url::form_urlencoded;

use crate::calendar::{Calendar, Grain};
use crate::render::{Order, Scale, words};
use crate::reports::Params;
use crate::reports::comparison::{Comparison, Grouping};
use crate::reports::retention::{
    Averaging, FIELDS, Measure, Parts, PreviousRange, Query, Show, default_size,
};
use crate::sets::{EventName, Segment};

pub use field::{Field, Problem};
pub use known::unknown;
pub use range::Range;

/// A retention query string as typed. Blank values count as missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawQuery {
    /// The fields of the report.
    pub params: Params,
    /// The order of the rows.
    pub order: String,
    /// The range of the shades.
    pub scale: String,
    /// The column whose trend is drawn.
    pub trend: String,
    /// The name of the group whose cohorts are shown.
    pub group: String,
    /// A range that replaces dates and sizes.
    pub range: String,
    /// Whether only people count who do the first event for the first time.
    pub first: bool,
    /// Whether to swap the two sides.
    pub swap: bool,
    /// bitmapist's `export_csv=1`: requests the CSV file instead of the page.
    pub export_csv: bool,
    /// The fields of the page that were given twice with different values.
    pub twice: Vec<Field>,
    /// The zone and the weeks if the query does not name others.
    pub calendar: Calendar,
}

impl RawQuery {
    /// Reads a query string. Unknown names are ignored. The page's own name of a field takes
    /// precedence over bitmapist's.
    pub fn read(query: &str) -> Self {
        let mut raw = RawQuery::default();
        let mut old = Params::default();
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        raw.params = Params::read(FIELDS, pairs.iter().map(|(name, value)| (name, value)));
        for (name, value) in &pairs {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            if let Some((field, place)) = raw.page_field(name) {
                let differs = !place.is_empty() && *place != value;
                value.clone_into(place);
                if differs && !raw.twice.contains(&field) {
                    raw.twice.push(field);
                }
                continue;
            }
            match &**name {
                "first" => raw.first = value != "0",
                "swap" => raw.swap = value != "0",
                "export_csv" => raw.export_csv = value != "0",
                name => push_old(&mut old, name, value),
            }
        }
        for field in FIELDS {
            if raw.params.all(field.name).is_empty() {
                for value in old.all(field.name) {
                    raw.params.push(field.name, value);
                }
            }
        }
        raw
    }

    /// Returns the same query; it is counted by this zone and these weeks unless it names others.
    #[must_use]
    pub fn by_default_in(self, calendar: Calendar) -> Self {
        RawQuery { calendar, ..self }
    }

    /// Returns a field of the page, and its value.
    fn page_field(&mut self, name: &str) -> Option<(Field, &mut String)> {
        Some(match name {
            "order" => (Field::Order, &mut self.order),
            "scale" => (Field::Scale, &mut self.scale),
            "trend" => (Field::Trend, &mut self.trend),
            "group" => (Field::Group, &mut self.group),
            "range" => (Field::Range, &mut self.range),
            _ => return None,
        })
    }

    /// Returns the value of a field of the report; empty if missing.
    pub fn text(&self, name: &str) -> &str {
        self.params.text(name)
    }

    /// Whether it contains a command that changes the question: take first times, swap its sides,
    /// or apply a range.
    pub fn is_command(&self) -> bool {
        self.first || self.swap || !self.range.is_empty()
    }

    /// Returns the first event without `first(…)` around it, and whether that was there.
    pub fn cohort_as_typed(&self) -> (String, bool) {
        let text = self.text("cohort");
        match text.parse() {
            Ok(Segment::First(of)) => (of.to_string(), true),
            _ => (text.to_owned(), self.first),
        }
    }

    /// Puts `first(…)` around the first event, unless it is there. A text that is no segment stays
    /// as it was typed.
    fn take_first_times(&mut self) {
        let (of, is_first) = self.cohort_as_typed();
        if is_first && of.parse::<Segment>().is_ok() {
            self.params.set("cohort", &format!("first({of})"));
            self.first = false;
        }
    }

    /// Returns the query after its command, as of `now`. `ends` returns when the data ends, if
    /// before now. [`check`](Self::check) reports an unknown range.
    pub fn carried_out(
        mut self,
        now: DateTime<Utc>,
        ends: impl FnOnce() -> Option<NaiveDate>,
    ) -> Self {
        if self.first {
            self.take_first_times();
        }
        if std::mem::take(&mut self.swap) {
            self.params.swap("cohort", "returning");
            self.params.swap("cohort_and", "returning_and");
        }
        if let Some(range) = Range::ALL
            .into_iter()
            .find(|range| range.as_str() == self.range)
        {
            let size = |size: u32| {
                if size == default_size(range.grain()) {
                    String::new()
                } else {
                    size.to_string()
                }
            };
            let (mut rows, cols) = range.size();
            let mut last = now.date_naive();
            // Only this range starts at a fixed date.
            if range == Range::YearToDate
                && let Some(ends) = ends()
            {
                (rows, last) = (Some(ends.month()), ends);
            }
            let from = range.from(last).map(|date| date.to_string());
            self.params.set("by", range.grain().as_str());
            self.params.set("rows", &rows.map(size).unwrap_or_default());
            // Brackets stay the columns.
            if self.text("brackets").is_empty() {
                self.params.set("cols", &size(cols));
            }
            self.params.set("from", &from.unwrap_or_default());
            self.params.set("to", "");
            self.range = String::new();
        }
        self
    }

    /// Returns a message if the requested trend is not drawn because the table has no such column,
    /// for example after the number of columns was reduced.
    pub fn lost_trend(&self, asked: &PageQuery) -> Option<String> {
        let column: u32 = self.trend.parse().ok().filter(|_| asked.trend.is_none())?;
        let last = asked.bare.cols() - 1;
        let columns = if last == 0 {
            "0 alone".to_owned()
        } else {
            format!("0 to {last}")
        };
        Some(format!(
            "There is no column {column} to draw the trend of: the table has {columns}."
        ))
    }

    /// Whether neither side of the question was given, so that the default question applies.
    pub fn asks_nothing(&self) -> bool {
        self.text("cohort").is_empty() && self.text("returning").is_empty()
    }

    /// Returns the query with `default` for missing events. All other given fields stay. If nothing
    /// was given, all of `default` applies.
    pub fn or(&self, default: &PageQuery) -> RawQuery {
        let default = RawQuery::read(&default.canonical()).by_default_in(self.calendar);
        if *self == RawQuery::default().by_default_in(self.calendar) {
            return default;
        }
        let mut raw = self.clone();
        for side in ["cohort", "returning"] {
            raw.params.set(side, default.text(side));
        }
        for filters in ["cohort_and", "returning_and"] {
            raw.params.prepend(filters, default.params.all(filters));
        }
        raw
    }

    /// The question, when every field is right.
    ///
    /// # Errors
    /// Every field that is not, at once.
    pub fn check(&self) -> Result<PageQuery, Vec<Problem>> {
        let mut params = self.params.clone();
        params.default_calendar(FIELDS, self.calendar);
        let (parts, mut problems) = match Parts::read(&params) {
            Ok(parts) => (Some(parts), Vec::new()),
            Err(problems) => (None, problems.into_iter().map(Problem::of_report).collect()),
        };
        problems.extend(self.twice.iter().map(|field| twice(*field)));
        let order = word(&mut problems, Field::Order, &self.order).unwrap_or_default();
        let scale = word(&mut problems, Field::Scale, &self.scale).unwrap_or_default();
        let cols = parts.as_ref().map(|parts| parts.bare.cols());
        let trend = column(&mut problems, &self.trend, cols);
        if !self.range.is_empty() {
            let known: Vec<&str> = Range::ALL.map(Range::as_str).to_vec();
            let message = format!(
                "`{}` is none of {}",
                words::shortened(&self.range, 24),
                known.join(", ")
            );
            problems.push(Problem::new(Field::Range, message));
        }
        match parts {
            Some(Parts {
                bare,
                cohort_and,
                returning_and,
                show,
                goal,
                previous,
                grouping,
            }) if problems.is_empty() => Ok(PageQuery {
                bare,
                cohort_and,
                returning_and,
                show,
                goal,
                previous,
                grouping,
                order,
                scale,
                trend,
                group: Some(self.group.clone()).filter(|group| !group.is_empty()),
                calendar: self.calendar,
            }),
            _ => Err(problems),
        }
    }
}

/// Adds a value given by bitmapist's name.
fn push_old(params: &mut Params, name: &str, value: &str) {
    match name {
        "select1" => params.set("cohort", &name_as_segment(value)),
        "select1b" => params.push("cohort_and", &name_as_segment(value)),
        "select2" => params.set("returning", &name_as_segment(value)),
        "select2b" => params.push("returning_and", &name_as_segment(value)),
        "time_group" => params.set("by", value.strip_suffix('s').unwrap_or(value)),
        "num_results" => params.set("rows", value),
        // bitmapist does not count column 0.
        "num_of_rows" => {
            let cols = value.parse::<u32>();
            let cols = cols.map_or(value.to_owned(), |n| (u64::from(n) + 1).to_string());
            params.set("cols", &cols);
        }
        "start_date" => params.set("from", value),
        "as_percent" => {
            let show = if value == "0" {
                Show::Count
            } else {
                Show::Percent
            };
            params.set("as", show.as_str());
        }
        _ => {}
    }
}

fn twice(field: Field) -> Problem {
    let name = field.name();
    let message = format!("`{name}` is given twice with different values; remove one of them");
    Problem::new(field, message)
}

/// bitmapist's fields hold a raw event name with any characters.
fn name_as_segment(name: &str) -> String {
    match EventName::new(name) {
        Ok(name) => Segment::event(&name).to_string(),
        Err(_) => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

fn word<T: FromStr<Err: fmt::Display>>(
    problems: &mut Vec<Problem>,
    field: Field,
    text: &str,
) -> Option<T> {
    let parsed = (!text.is_empty()).then(|| text.parse())?;
    parsed
        .map_err(|error: T::Err| problems.push(Problem::new(field, error.to_string())))
        .ok()
}

/// Reads a column of a table that has `cols` of them.
fn column(problems: &mut Vec<Problem>, text: &str, cols: Option<u32>) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let parsed = text.parse::<u32>().ok();
    if parsed.is_none() {
        let shown = words::shortened(text, 24);
        problems.push(Problem::new(
            Field::Trend,
            format!("`{shown}` is not a column: use a whole number, 0 or more"),
        ));
    }
    // A column outside the table is not drawn, and the page reports it.
    parsed.filter(|k| cols.is_some_and(|cols| *k < cols))
}

/// A question as the page asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // Named as the fields are.
pub struct PageQuery {
    /// The report's question, without the filters of both sides.
    pub bare: Query,
    pub cohort_and: Vec<Segment>,
    pub returning_and: Vec<Segment>,
    pub show: Show,
    /// A share in percent that the chart shows as a line.
    pub goal: Option<u32>,
    /// Whether the chart also shows as many cohorts just before.
    pub previous: PreviousRange,
    pub grouping: Option<Grouping>,
    pub order: Order,
    pub scale: Scale,
    /// The column whose rate is drawn over the cohorts.
    pub trend: Option<u32>,
    /// The name of the group whose cohorts are shown.
    pub group: Option<String>,
    /// The zone and the weeks that the address need not name.
    pub calendar: Calendar,
}

impl PageQuery {
    /// Returns the question of two segments with defaults for everything else.
    pub fn new(cohort: Segment, returning: Segment) -> Self {
        PageQuery {
            bare: Query::new(cohort, returning, Grain::Day),
            cohort_and: Vec::new(),
            returning_and: Vec::new(),
            show: Show::default(),
            goal: None,
            previous: PreviousRange::default(),
            grouping: None,
            order: Order::default(),
            scale: Scale::default(),
            trend: None,
            group: None,
            calendar: Calendar::default(),
        }
    }

    /// Returns the question without order, scale, trend and unfolded group, which change no number.
    pub fn numbers(&self) -> Self {
        PageQuery {
            order: Order::default(),
            scale: Scale::default(),
            trend: None,
            group: None,
            ..self.clone()
        }
    }

    /// Returns the report's question.
    pub fn query(&self) -> Query {
        Query {
            cohort: self
                .bare
                .cohort
                .clone()
                .and_all(self.cohort_and.iter().cloned()),
            returning: self
                .bare
                .returning
                .clone()
                .and_all(self.returning_and.iter().cloned()),
            ..self.bare.clone()
        }
    }

    /// Returns the canonical query string: own names, fixed order, defaults left out.
    /// [`RawQuery::read`] and [`RawQuery::check`] restore the question.
    pub fn canonical(&self) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        out.append_pair("cohort", &self.bare.cohort.to_string());
        out.extend_pairs(
            self.cohort_and
                .iter()
                .map(|s| ("cohort_and", s.to_string())),
        );
        out.append_pair("returning", &self.bare.returning.to_string());
        out.extend_pairs(
            self.returning_and
                .iter()
                .map(|s| ("returning_and", s.to_string())),
        );
        out.append_pair("by", self.bare.grain.as_str());
        let optional = [
            ("rows", self.bare.rows.map(|n| n.to_string())),
            ("cols", self.bare.cols.map(|n| n.to_string())),
            (
                "brackets",
                self.bare.brackets.as_ref().map(ToString::to_string),
            ),
            ("from", self.bare.from.map(|d| d.to_string())),
            ("to", self.bare.to.map(|d| d.to_string())),
            (
                "measure",
                Some(self.bare.measure)
                    .filter(|m| *m != Measure::default())
                    .map(|m| m.as_str().to_owned()),
            ),
            (
                "as",
                Some(self.show)
                    .filter(|s| *s != Show::default())
                    .map(|s| s.as_str().to_owned()),
            ),
            (
                "average",
                Some(self.bare.averaging)
                    .filter(|a| *a != Averaging::default_for(self.bare.measure))
                    .map(|a| a.as_str().to_owned()),
            ),
            ("goal", self.goal.map(|goal| goal.to_string())),
            (
                "previous",
                Some(self.previous)
                    .filter(|previous| *previous != PreviousRange::default())
                    .map(|previous| previous.as_str().to_owned()),
            ),
            (
                "order",
                Some(self.order)
                    .filter(|o| *o != Order::default())
                    .map(|o| o.as_str().to_owned()),
            ),
            (
                "scale",
                Some(self.scale)
                    .filter(|s| *s != Scale::default())
                    .map(|s| s.as_str().to_owned()),
            ),
            (
                "week",
                match self.bare.grain {
                    Grain::Week(start) if start != self.calendar.week => {
                        Some(start.as_str().to_owned())
                    }
                    _ => None,
                },
            ),
            (
                "zone",
                Some(self.bare.zone)
                    .filter(|zone| *zone != self.calendar.zone)
                    .map(|zone| zone.name().to_owned()),
            ),
            ("trend", self.trend.map(|k| k.to_string())),
            ("group", self.group.clone()),
        ];
        let groups = self.grouping.iter().flat_map(|grouping| {
            let values = grouping.values().into_iter();
            values.map(|value| (grouping.field(), value))
        });
        out.extend_pairs(groups);
        out.extend_pairs(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        out.finish()
    }

    /// Returns the question of one group, whose starting segment is `cohort`.
    pub fn of_group(&self, cohort: &Segment) -> Self {
        PageQuery {
            bare: Query {
                cohort: cohort.clone(),
                ..self.bare.clone()
            },
            cohort_and: Vec::new(),
            grouping: None,
            group: None,
            ..self.clone()
        }
    }

    /// Returns the question of several groups, if it has any.
    pub fn comparison(&self) -> Option<Comparison> {
        Some(Comparison {
            query: self.query(),
            grouping: self.grouping.clone()?,
        })
    }

    /// Returns the question without one of its filters.
    pub fn without(&self, filter: Field) -> Self {
        let mut asked = self.clone();
        match filter {
            Field::CohortAnd(i) if i < asked.cohort_and.len() => drop(asked.cohort_and.remove(i)),
            Field::ReturningAnd(i) if i < asked.returning_and.len() => {
                drop(asked.returning_and.remove(i))
            }
            _ => {}
        }
        asked
    }

    /// Returns the question with one event's name replaced everywhere.
    pub fn renamed(&self, from: &EventName, to: &EventName) -> Self {
        let name = |name: &EventName| {
            if name == from {
                to.clone()
            } else {
                name.clone()
            }
        };
        self.changed(&|leaf| match leaf {
            Segment::Ever(event) => Segment::Ever(name(event)),
            Segment::Event(event) => Segment::Event(name(event)),
            other => other.clone(),
        })
    }

    /// Returns the question with the undated bitmap of one event instead of its dated ones.
    pub fn ever(&self, name: &EventName) -> Self {
        self.changed(&|leaf| match leaf {
            Segment::Event(event) if event == name => Segment::Ever(event.clone()),
            other => other.clone(),
        })
    }

    fn changed(&self, leaf: &dyn Fn(&Segment) -> Segment) -> Self {
        let all = |list: &[Segment]| list.iter().map(|s| s.map_leaves(leaf)).collect();
        PageQuery {
            bare: Query {
                cohort: self.bare.cohort.map_leaves(leaf),
                returning: self.bare.returning.map_leaves(leaf),
                ..self.bare.clone()
            },
            cohort_and: all(&self.cohort_and),
            returning_and: all(&self.returning_and),
            grouping: self
                .grouping
                .as_ref()
                .map(|grouping| grouping.map(|segment| segment.map_leaves(leaf))),
            ..self.clone()
        }
    }

    /// Returns every segment of the question.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        [&self.bare.cohort]
            .into_iter()
            .chain(&self.cohort_and)
            .chain([&self.bare.returning])
            .chain(&self.returning_and)
            .chain(self.grouping.iter().flat_map(Grouping::segments))
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use proptest::prelude::*;

    use crate::calendar::WeekStart;
    use crate::reports::retention::{MAX_COLS, MAX_ROWS};

    use super::*;

    fn asked(query: &str) -> PageQuery {
        RawQuery::read(query).check().unwrap()
    }

    fn problems(query: &str) -> Vec<(String, String)> {
        let found = RawQuery::read(query).check().unwrap_err();
        found
            .into_iter()
            .map(|p| (p.field.to_string(), p.message))
            .collect()
    }

    #[test]
    fn blank_fields_are_defaults() {
        assert_eq!(
            problems("cohort=a&cohort=a&cohort=b&returning=c&rows=3&rows=4").len(),
            2
        );
        assert_eq!(
            asked("cohort=a&cohort=a&returning=c&rows=3&rows=3")
                .bare
                .rows,
            Some(3)
        );
        let blank = asked(
            "cohort=signup&returning=active&rows=&cols=+&from=&to=&cohort_and=&measure=&as=&by=&utm=x",
        );
        assert_eq!(
            blank,
            PageQuery::new("signup".parse().unwrap(), "active".parse().unwrap())
        );
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
        assert!(RawQuery::read("select1=a&select2=b&export_csv=1").export_csv);
        assert!(!RawQuery::read("select1=a&select2=b&export_csv=0").export_csv);
        assert_eq!(
            asked("select1=a&cohort=b&select2=c&time_group=days&by=month").canonical(),
            "cohort=b&returning=c&by=month"
        );
        assert_eq!(RawQuery::read("num_of_rows=x").text("cols"), "x");
    }

    #[test]
    fn ranges_and_swapping_rewrite_the_question() {
        let now = crate::calendar::parse_moment("2026-11-23T14:05:00Z").unwrap();
        let done = |query: &str| {
            let raw = RawQuery::read(query).carried_out(now, || None);
            raw.check().unwrap()
        };
        let swapped = done("cohort=a&cohort_and=x&returning=b&by=week&swap=1");
        assert_eq!(
            swapped.canonical(),
            "cohort=b&returning=a&returning_and=x&by=week"
        );
        for (range, query) in [
            ("7d", "by=day&rows=7&cols=7"),
            ("14d", "by=day"),
            ("90d", "by=day&rows=90&cols=30"),
            ("12w", "by=week"),
            ("12m", "by=month"),
            ("ytd", "by=month&from=2026-01-01"),
        ] {
            let asked = done(&format!(
                "cohort=a&returning=b&rows=3&from=2020-01-01&to=2020-02-01&as=count&range={range}"
            ));
            assert_eq!(
                asked.canonical(),
                format!("cohort=a&returning=b&{query}&as=count")
            );
            let taken: Vec<&str> = Range::ALL
                .into_iter()
                .filter(|r| r.is_of(&asked, now, None))
                .map(Range::as_str)
                .collect();
            assert_eq!(taken, [range]);
        }
        // A year whose data has ended is shown up to its end.
        let ends = chrono::NaiveDate::from_ymd_opt(1998, 6, 1);
        let asked = RawQuery::read("cohort=a&returning=b&range=ytd").carried_out(now, || ends);
        let asked = asked.check().unwrap();
        assert_eq!(
            asked.canonical(),
            "cohort=a&returning=b&by=month&rows=6&from=1998-01-01"
        );
        assert!(Range::YearToDate.is_of(&asked, now, ends));
        assert!(!Range::YearToDate.is_of(&asked, now, None));
        // Without dates "on or after" shows older cohorts.
        let pressed = |query: &str| {
            let asked =
                RawQuery::read(&format!("cohort=a&returning=b&measure=on_or_after&{query}"))
                    .check()
                    .unwrap();
            Range::ALL
                .into_iter()
                .filter(|r| r.is_of(&asked, now, None))
                .map(Range::as_str)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (pressed("by=day"), pressed("by=month&from=2026-01-01")),
            (vec![], vec!["ytd"])
        );
        let unknown = RawQuery::read("cohort=a&returning=b&range=1d")
            .carried_out(now, || None)
            .check()
            .unwrap_err();
        assert_eq!(
            unknown[0].message,
            "`1d` is none of 7d, 14d, 30d, 90d, 12w, 12m, ytd"
        );
    }

    #[test]
    fn what_only_concerns_the_page_changes_no_number() {
        let asked = asked("cohort=a&returning=b&order=oldest&scale=fitted&trend=3");
        assert_eq!(
            asked.canonical(),
            "cohort=a&returning=b&by=day&order=oldest&scale=fitted&trend=3"
        );
        assert_eq!(asked.numbers().canonical(), "cohort=a&returning=b&by=day");
        assert_eq!(
            RawQuery::read("cohort=a&returning=b&cols=3&trend=3")
                .check()
                .unwrap()
                .trend,
            None
        );
    }

    #[test]
    fn every_problem_is_said_at_its_field() {
        let found = problems(
            "cohort=active+%26+!&cohort_and=web&cohort_and=%28&by=fortnight&rows=0&cols=1000000000000&from=2026-02-30&as=x",
        );
        let fields: Vec<&str> = found.iter().map(|(field, _)| &**field).collect();
        assert_eq!(
            fields,
            [
                "cohort",
                "cohort_and-1",
                "returning",
                "by",
                "rows",
                "cols",
                "from",
                "as"
            ]
        );
        assert_eq!(
            found[0].1,
            "column 11: expected an event name or `(`, found the end"
        );
        assert_eq!(found[4].1, "`0` is not a whole number from 1 to 400");
        assert_eq!(
            found[6].1,
            "`2026-02-30` is not a date: write it as 2026-11-23"
        );
        let hint = &problems("cohort=User+Signup&returning=a")[0].1;
        assert!(
            hint.ends_with("put it in quotes: \"User Signup\""),
            "{hint}"
        );
    }

    #[test]
    fn names_are_replaced_and_filters_removed() {
        let before =
            asked("cohort=actve+%26+(web+%7C+actve)&returning=b&returning_and=x&returning_and=y");
        let name = |text| EventName::new(text).unwrap();
        assert_eq!(
            before
                .renamed(&name("actve"), &name("active"))
                .bare
                .cohort
                .to_string(),
            "active & (web | active)"
        );
        assert_eq!(
            before.ever(&name("web")).bare.cohort.to_string(),
            "actve & (web@ever | actve)"
        );
        assert_eq!(
            before.without(Field::ReturningAnd(0)).returning_and,
            ["y".parse().unwrap()]
        );
        assert_eq!(before.without(Field::ReturningAnd(7)), before);
    }

    fn segments() -> impl Strategy<Value = Segment> {
        let name = "[^\\p{Cc}]{1,12}".prop_filter_map("a name", |text| EventName::new(&text).ok());
        let leaf = (name, any::<bool>()).prop_map(|(n, ever)| {
            if ever {
                Segment::Ever(n)
            } else {
                Segment::Event(n)
            }
        });
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 2..4).prop_map(Segment::Or),
                (inner.clone(), inner).prop_map(|(a, b)| Segment::Diff(Box::new(a), Box::new(b))),
            ]
        })
    }

    fn groupings() -> impl Strategy<Value = Grouping> {
        let compared = prop::collection::hash_set(segments(), 2..=6);
        prop_oneof![
            "[^\\p{Cc}\\s]{0,12}\\*(@ever)?"
                .prop_map(|text| Grouping::Breakdown(text.parse().unwrap())),
            compared.prop_map(|segments| Grouping::Compare(segments.into_iter().collect())),
            (0..30_000i32)
                .prop_map(|days| Grouping::Split(NaiveDate::from_epoch_days(days).unwrap())),
        ]
    }

    prop_compose! {
        fn questions()(
            (cohort, cohort_and) in (segments(), prop::collection::vec(segments(), 0..3)),
            (returning, returning_and) in (segments(), prop::collection::vec(segments(), 0..3)),
            (grain, week) in (
                prop::sample::select(&Grain::ALL[..]),
                prop::sample::select(&WeekStart::ALL[..]),
            ),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York"]),
            (rows, cols) in (prop::option::of(1..=MAX_ROWS), prop::option::of(1..=MAX_COLS)),
            days in prop::option::of(0..30_000i32),
            (measure, show) in prop::sample::select(vec![
                (Measure::On, Show::Percent),
                (Measure::On, Show::Count),
                (Measure::OnOrBefore, Show::Percent),
                (Measure::OnOrAfter, Show::Previous),
                (Measure::Unbroken, Show::Previous),
            ]),
            averaging in prop::sample::select(vec![
                Averaging::Weighted, Averaging::Simple, Averaging::Survival,
            ]),
            (brackets, grouping) in (
                prop::option::of(prop::sample::select(vec!["1,2-7", "0", "3-4,9-399"])),
                prop::option::of(groupings()),
            ),
            (goal, previous) in (prop::option::of(0..=100u32), any::<bool>()),
            (oldest, fitted, trend) in (any::<bool>(), any::<bool>(), prop::option::of(0..5u32)),
        ) -> PageQuery {
            let date = |days: i32| NaiveDate::from_epoch_days(days);
            let grain = grain.with_weeks(week);
            let zone = zone.parse().unwrap();
            let bare = Query {
                cohort, returning, grain, rows, cols, measure, averaging,
                brackets: brackets.map(|brackets| brackets.parse().unwrap()),
                zone,
                from: days.and_then(date),
                to: days.filter(|d| d % 2 == 0).and_then(|d| date(d + 9)),
            };
            let columns = bare.cols();
            PageQuery {
                bare, cohort_and, returning_and,
                show,
                goal,
                previous: match (&grouping, grain) {
                    (None, grain) if previous && grain != Grain::Hour => PreviousRange::Shown,
                    _ => PreviousRange::Hidden,
                },
                grouping,
                order: if oldest { Order::Oldest } else { Order::Newest },
                scale: if fitted { Scale::Fitted } else { Scale::Auto },
                trend: trend.filter(|k| *k < columns),
                group: None,
                calendar: Calendar::default(),
            }
        }
    }

    proptest! {
        #[test]
        fn the_canonical_query_string_gives_the_question_back(question in questions()) {
            let read = RawQuery::read(&question.canonical()).check();
            prop_assert_eq!(read.as_ref().map(PageQuery::canonical), Ok(question.canonical()));
            prop_assert_eq!(read, Ok(question));
        }

        #[test]
        fn any_query_string_is_read_without_panic(text in "\\PC{0,80}") {
            let _ = RawQuery::read(&text).check();
        }
    }
}
