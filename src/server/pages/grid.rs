//! The table and its figures as the page shows them.

use crate::calendar::{Grain, Period};
use crate::render::{Order, Scale, colour, many, thousands, words};
use crate::reports::retention::Show;
use crate::reports::retention::figures::{Against, Figures, Return, Sizes, compared_column};
use crate::reports::retention::{
    Average, Averaging, Cell, FEWEST_AT_RISK, FEWEST_PEOPLE, Measure, Number as Counted, Row,
    State, Table,
};
use crate::server;
use crate::server::pages::links;
use crate::server::query::PageQuery;

/// One figure above the chart.
#[derive(Debug)]
pub struct Tile {
    /// The number; `None` if there is none.
    pub value: Option<String>,
    /// Its description.
    pub label: String,
    /// How reliable it is.
    pub note: String,
}

/// Formats an average: few people have no decimals.
fn average_text(average: &Average) -> String {
    words::rate_of(average.rate, average.size)
}

/// Returns why figures are missing: no data, or no people.
fn why_none(table: &Table) -> Option<&'static str> {
    match () {
        () if !table.is_recorded() => Some("no data for these cohorts"),
        () if table.is_empty() => Some("no people in these cohorts"),
        () => None,
    }
}

/// Returns the figures of a table.
pub fn tiles(table: &Table) -> Vec<Tile> {
    let figures = Figures::of(table);
    let grain = table.query.grain;
    let came_back = |figure: &Return| Tile {
        value: figure.average.as_ref().map(average_text),
        label: format!("came back {}", words::column(table, figure.column)),
        note: match figure.average {
            Some(average) => trust(&average),
            None => why_none(table).map_or_else(
                || words::none_complete("period", table.data_ends),
                str::to_owned,
            ),
        },
    };
    let change = match figures.change {
        Some(change) => Tile {
            value: Some(points(change.points())),
            label: {
                let newer = many(len(change.newer_cohorts), "cohort");
                let against = match change.against {
                    Against::Before => format!("the {} before", change.older_cohorts),
                    Against::WeekBefore => "the same weekdays a week before".to_owned(),
                };
                format!(
                    "{}, last {newer} vs {against}",
                    words::column_name(table, change.column)
                )
            },
            note: {
                let older = words::percent(change.older);
                let newer = words::percent(change.newer);
                let margin = change.margin.map_or_else(String::new, |m| {
                    format!("\u{a0}· ±{:.1}\u{a0}pt", m * 100.0)
                });
                let chance = if change.may_be_chance() {
                    ", may be chance"
                } else {
                    ""
                };
                format!("{older} → {newer}{margin}{chance}")
            },
        },
        None => Tile {
            value: None,
            label: format!(
                "change {}, newer cohorts vs older",
                words::column(table, compared_column(table))
            ),
            note: match grain {
                _ if table.is_empty() => why_none(table).unwrap_or_default(),
                Grain::Hour => "not by hour: it would compare day with night",
                Grain::Day => {
                    "by day it needs ten complete cohorts in a row, because weekdays differ"
                }
                _ => "needs six complete cohorts",
            }
            .to_owned(),
        },
    };
    let size = match figures.size {
        Some(Sizes {
            median,
            least,
            most,
            cohorts,
        }) => Tile {
            value: Some(thousands(median)),
            label: "people in a median cohort".to_owned(),
            note: format!(
                "from {} to {} · {}",
                thousands(least),
                thousands(most),
                many(len(cohorts), "cohort")
            ),
        },
        None => Tile {
            value: None,
            label: "people in a median cohort".to_owned(),
            note: why_none(table).map_or_else(
                || words::none_complete("cohort", table.data_ends),
                str::to_owned,
            ),
        },
    };
    figures
        .returns
        .iter()
        .map(came_back)
        .chain([change, size])
        .collect()
}

/// Formats a difference in percentage points, with its sign: `+1.9 pt`, `−0.8 pt`, `0.0 pt`.
fn points(points: f64) -> String {
    match format!("{points:+.1}").as_str() {
        "+0.0" | "-0.0" => "0.0\u{a0}pt".to_owned(),
        signed => format!("{}\u{a0}pt", signed.replace('-', "−")),
    }
}

/// Says how many cohorts an average includes, and its interval.
fn trust(average: &Average) -> String {
    let cohorts = many(average.cohorts.into(), "cohort");
    match average.interval {
        Some((low, high)) => format!(
            "{cohorts}\u{a0}· ±{:.1}\u{a0}pt",
            (high - low) / 2.0 * 100.0
        ),
        None => cohorts,
    }
}

fn len(length: usize) -> u64 {
    u64::try_from(length).expect("a count fits in 64 bits")
}

/// One cell of the table, or several adjacent ones without numbers.
#[derive(Debug)]
pub enum GridCell {
    /// A number.
    Number(Number),
    /// This many cells that are not recorded.
    NoData(usize),
}

/// One cell that has a number.
#[derive(Debug)]
pub struct Number {
    /// The step of the heat ramp, 0–100.
    pub heat: u8,
    /// Its column.
    pub column: usize,
    /// The classes of its state, each after a space: ` run` if it can still change, ` part` for a
    /// lower bound, ` few` for a rate of few people.
    pub class: String,
    /// The number, with an asterisk if it can still change.
    pub text: String,
    /// A sentence that describes the number.
    pub name: String,
}

/// One cohort's line, or that of several cohorts in a row without numbers.
#[derive(Debug)]
pub struct Line {
    /// Range of the cohorts, why they have no numbers, and how many they are.
    pub folded: Option<(String, String, usize)>,
    /// The index of the cohort, oldest first: the address of its people, relative to the page's
    /// base address.
    pub row: usize,
    /// Its period. The script finds its marks in the charts by it.
    pub at: Period,
    /// Before the year, the year, and after it: narrow layouts hide the year.
    pub label: [String; 3],
    /// The number of people; `None` if it is not recorded.
    pub size: Option<String>,
    /// Whether the number can still grow.
    pub running: bool,
    /// Whether it has no people.
    pub empty: bool,
    /// Whether recording started within it.
    pub partial: bool,
    /// Whether nothing is recorded before it, so that everybody looks new.
    pub is_first_recorded: bool,
    /// Its cells that have begun.
    pub cells: Vec<GridCell>,
    /// The number of columns after them that have not begun.
    pub future: usize,
}

/// One column of the average row.
#[derive(Debug)]
pub struct Mean {
    /// The step of the heat ramp, 0–100.
    pub heat: u8,
    /// The average.
    pub text: String,
    /// A sentence that describes the average.
    pub name: String,
    /// The number of cohorts.
    pub cohorts: u32,
    /// Whether it is of few people.
    pub is_few: bool,
    /// The address of the people who came back, if they can be listed.
    pub href: Option<String>,
}

/// The grid.
#[derive(Debug)]
pub struct Grid {
    /// A description for screen readers.
    pub caption: String,
    /// `Day`
    pub unit: String,
    /// `day`
    pub grain: &'static str,
    /// How many columns.
    pub cols: usize,
    /// Their headings.
    pub headings: Vec<String>,
    /// `Weighted average`
    pub average: &'static str,
    /// What the average row and the small numbers in it show.
    pub average_of: &'static str,
    /// The column whose trend is drawn.
    pub trend: Option<usize>,
    /// The sizes of the cohorts in the averages, added up.
    pub entries: String,
    /// The average row; `None` for a column without a complete cell.
    pub means: Vec<Option<Mean>>,
    /// The rates of the lightest and the strongest shade.
    pub shades: (String, String),
    /// Whether the shades are fitted to the table.
    pub is_fitted: bool,
    /// What the shades are shares of.
    pub shades_of: &'static str,
    /// Words for a number in progress.
    pub in_progress: &'static str,
    /// Words for the pale colour of cohorts in progress.
    pub while_in_progress: &'static str,
    /// The cohorts, in the order they are shown.
    pub lines: Vec<Line>,
    /// Whether any number shown can still change.
    pub running: bool,
    /// Whether a cell is not recorded, and whether a number is a lower bound.
    pub gaps: (bool, bool),
    /// Why the average row has no interval, or how its interval is computed.
    pub statement: String,
    /// Notes on events whose recording started within the table.
    pub recorded: Vec<String>,
    /// Whether numbers link to their people.
    pub is_linked: bool,
}

impl Grid {
    /// Whether the average row has any value.
    pub fn has_means(&self) -> bool {
        self.means.iter().any(Option::is_some)
    }

    /// Whether the table has so many columns that its numbers must be short.
    pub fn is_dense(&self) -> bool {
        is_dense(self.cols)
    }

    /// Returns the scale of its shades.
    pub fn scale(&self) -> Scale {
        if self.is_fitted {
            Scale::Fitted
        } else {
            Scale::Absolute
        }
    }

    /// Whether the trend of this column is drawn.
    pub fn draws(&self, column: &usize) -> bool {
        self.trend == Some(*column)
    }

    /// Returns the grid of a table for a question.
    pub fn new(state: &server::State, table: &Table, asked: &PageQuery) -> Self {
        Self::shaded(state, table, asked, Shades::new(&[table], asked))
    }

    /// As [`new`](Self::new), with the shades of several tables.
    pub fn shaded(state: &server::State, table: &Table, asked: &PageQuery, shades: Shades) -> Self {
        let shades_of = match asked.show {
            Show::Previous => "column before",
            Show::Percent | Show::Count => "cohort",
        };
        let show = asked.show;
        let grain = table.query.grain;
        let average = match show {
            Show::Previous => words::ALL_COHORTS,
            Show::Percent | Show::Count => table.query.averaging.heading(),
        };
        // The mean of counts would mix cohorts of different sizes.
        let average_of = match show {
            Show::Percent => "complete cohorts in it",
            Show::Count => "share of the cohort; complete cohorts in it",
            Show::Previous => "share of the column before; cohorts in it",
        };
        let (what, of) = match show {
            Show::Percent => ("Share", ""),
            Show::Count => ("Number of people", ""),
            Show::Previous => ("Share", ", of those in the column before it,"),
        };
        let mut lines: Vec<Line> = table
            .rows
            .iter()
            .enumerate()
            .map(|(i, row)| line(table, i, row, show, shades))
            .collect();
        lines = folded(lines, grain);
        if asked.order == Order::Newest {
            lines.reverse();
        }
        Grid {
            caption: format!(
                "{what} of each {} cohort of {}{of} that came back to {}, {} cohort first",
                grain.adjective(),
                table.cohort(),
                table.returning(),
                asked.order.as_str()
            ),
            unit: match grain {
                Grain::Hour => "Hour",
                Grain::Day => "Day",
                Grain::Week(_) => "Week",
                Grain::Month => "Month",
                Grain::Year => "Year",
            }
            .to_owned(),
            grain: grain.as_str(),
            cols: table.averages.len(),
            headings: (0..table.averages.len())
                .map(|k| words::column_heading(table, k))
                .collect(),
            average,
            average_of,
            trend: asked.trend.and_then(|column| usize::try_from(column).ok()),
            entries: thousands(table.complete_entries),
            means: means(state, table, show, shades),
            shades: shades.ends(table),
            is_fitted: shades.is_fitted,
            shades_of,
            in_progress: words::in_progress(table.data_ends),
            while_in_progress: words::while_in_progress(table.data_ends),
            gaps: table.has_gaps(),
            lines,
            running: table.has_running()
                || table
                    .rows
                    .iter()
                    .any(|row| row.state == State::InProgress && row.people() > 0),
            statement: statement(table, show),
            recorded: words::recorded(table),
            is_linked: true,
        }
    }
}

/// Returns the average row of a table; `None` for a column without a complete cell.
pub fn means(
    state: &server::State,
    table: &Table,
    show: Show,
    shades: Shades,
) -> Vec<Option<Mean>> {
    let name = table.query.averaging.heading();
    let means = table.averages.iter().enumerate().map(|(k, a)| match show {
        Show::Previous => mean_of_previous(table, k, shades),
        Show::Percent | Show::Count => {
            let mean = mean(table, k, &(*a)?, name, shades);
            let people = a.filter(|average| average.retained > 0);
            let people = people.and_then(|_| table.averaged_set(k));
            Some(Mean {
                href: people.map(|set| links::people(state, &set, table.query.zone)),
                ..mean
            })
        }
    });
    means.collect()
}

fn is_dense(cols: usize) -> bool {
    cols > 16
}

/// Formats the rate of this many people for a cell of the table.
fn rate_text(table: &Table, rate: f64, people: u64) -> String {
    if is_dense(table.averages.len()) {
        words::whole_percent(rate)
    } else {
        words::rate_of(rate, people)
    }
}

/// The range of the shades.
#[derive(Debug, Clone, Copy)]
pub struct Shades {
    /// The rate of the lowest one, 0–1.
    low: f64,
    /// The rate of the highest one.
    high: f64,
    /// Whether they are fitted to the tables.
    is_fitted: bool,
}

/// The share of the ramp that fitted shades use. All of it has dark text in the light theme and
/// light text in the dark one; what is higher than the tables' rates stands out.
const FITTED: f64 = 0.52;

impl Shades {
    /// Returns the shades of tables that are shown beside each other.
    pub fn new(tables: &[&Table], asked: &PageQuery) -> Self {
        // Shares of the column before go up to 100 % everywhere.
        let dwarfs = || {
            let mut complete = tables.iter().filter(|table| table.averages[0].is_some());
            tables.iter().any(|table| table.first_dwarfs())
                && complete.all(|table| table.first_dwarfs())
        };
        let is_fitted = match (asked.show, asked.scale) {
            (Show::Previous, _) | (_, Scale::Absolute) => false,
            (_, Scale::Fitted) => true,
            (_, Scale::Auto) => dwarfs(),
        };
        // Column 0 is often close to 100 %, and would make all others look alike.
        let from = usize::from(asked.bare.cols() > 1);
        let rows = || tables.iter().flat_map(|table| &table.rows);
        let cells = || rows().flat_map(|row| row.cells.iter().skip(from).filter_map(Cell::number));
        // A cell in progress starts near 0 and would stretch the scale. It is used only if no cell
        // is complete.
        let none_is_complete = cells().all(|number| number.state != State::Complete);
        let counts = |number: &Counted| number.state == State::Complete || none_is_complete;
        let averages = tables
            .iter()
            .flat_map(|table| table.averages.iter().skip(from).flatten())
            .map(|average| average.rate);
        let rates: Vec<f64> = cells()
            .filter(counts)
            .map(|number| number.rate())
            .chain(averages)
            .collect();
        if !is_fitted || rates.is_empty() {
            return Shades {
                low: 0.0,
                high: 1.0,
                is_fitted,
            };
        }
        Shades {
            low: rates.iter().copied().fold(1.0, f64::min),
            high: rates.iter().copied().fold(0.0, f64::max),
            is_fitted,
        }
    }

    /// Formats both ends. Cells may lie beyond them.
    fn ends(self, table: &Table) -> (String, String) {
        let all = || table.numbers().map(|number| number.rate());
        let lower = if all().any(|rate| rate < self.low) {
            " or less"
        } else {
            ""
        };
        let higher = if all().any(|rate| rate > self.high) {
            " or more"
        } else {
            ""
        };
        let low = words::percent_of_scale(self.low);
        let high = words::percent_of_scale(self.high);
        (format!("{low}{lower}"), format!("{high}{higher}"))
    }

    pub fn step(self, rate: f64) -> u8 {
        let width = self.high - self.low;
        colour::step(match () {
            () if width <= 0.0 => rate,
            () if !self.is_fitted => (rate - self.low) / width,
            () if rate > self.high => 1.0,
            () => (rate - self.low) / width * FITTED,
        })
    }
}

/// Returns the share of the column before, over all cohorts.
fn mean_of_previous(table: &Table, k: usize, shades: Shades) -> Option<Mean> {
    let (share, cohorts) = table.all_of_previous(k)?;
    Some(Mean {
        heat: shades.step(share),
        text: rate_text(table, share, u64::MAX),
        name: format!(
            "{}: {} of column {} came back {}",
            many(cohorts.into(), "complete cohort"),
            words::percent(share),
            words::column_heading(table, k - 1),
            words::column(table, k),
        ),
        cohorts,
        is_few: false,
        href: None,
    })
}

fn mean(table: &Table, k: usize, average: &Average, name: &str, shades: Shades) -> Mean {
    Mean {
        heat: shades.step(average.rate),
        text: rate_text(table, average.rate, average.size),
        name: format!(
            "{name} of {}: {}",
            many(average.cohorts.into(), "complete cohort"),
            words::average(table, k, average),
        ),
        cohorts: average.cohorts,
        is_few: average.size < FEWEST_PEOPLE,
        href: None,
    }
}

fn line(table: &Table, index: usize, row: &Row, show: Show, shades: Shades) -> Line {
    let number = |column: usize, number: &Counted| {
        let text = match show {
            Show::Percent => rate_text(table, number.rate(), number.size),
            Show::Count => thousands(number.retained),
            Show::Previous => {
                let share = table.of_previous(row, column);
                share.map_or_else(String::new, |share| rate_text(table, share, number.size))
            }
        };
        let few = match show {
            Show::Count => "",
            _ if number.size < FEWEST_PEOPLE => " few",
            _ => "",
        };
        let (state, text) = match number.state {
            // There is no share of a column before the first.
            _ if text.is_empty() => ("", "·".to_owned()),
            State::InProgress => (" run", format!("{text}*")),
            State::PartlyRecorded => (" part", words::at_least(&text)),
            _ => ("", text),
        };
        Number {
            heat: shades.step(match show {
                Show::Previous => table.of_previous(row, column).unwrap_or(0.0),
                Show::Percent | Show::Count => number.rate(),
            }),
            column,
            class: format!("{state}{few}"),
            text,
            name: {
                let name = words::cell(table, row.period, column, number);
                match table.of_previous(row, column) {
                    Some(share) if show == Show::Previous => {
                        let before = words::column_heading(table, column - 1);
                        format!("{name}; {} of column {before}", words::percent(share))
                    }
                    _ => name,
                }
            },
        }
    };
    let mut cells: Vec<GridCell> = Vec::new();
    let mut future = 0;
    for (column, cell) in row.cells.iter().enumerate() {
        match (cell, cells.last_mut()) {
            (Cell::Number(counted), Some(GridCell::NoData(count))) => {
                // Numbers after the gap stay in their columns, one cell each.
                let more = std::mem::replace(count, 1) - 1;
                cells.extend((0..more).map(|_| GridCell::NoData(1)));
                cells.push(GridCell::Number(number(column, counted)));
            }
            (Cell::Number(counted), _) => cells.push(GridCell::Number(number(column, counted))),
            (Cell::NotRecorded(_), Some(GridCell::NoData(count))) => *count += 1,
            (Cell::NotRecorded(_), _) => cells.push(GridCell::NoData(1)),
            (Cell::Blank, _) => future += 1,
        }
    }
    Line {
        folded: None,
        row: index,
        at: row.period,
        label: words::without_year(row.period),
        size: row.size.map(thousands),
        running: row.state == State::InProgress,
        empty: row.size == Some(0),
        partial: table.is_partial(row),
        is_first_recorded: row.is_first_recorded,
        cells,
        future,
    }
}

/// Replaces several lines in a row without numbers, oldest first, by one.
fn folded(lines: Vec<Line>, grain: Grain) -> Vec<Line> {
    let why = |line: &Line| match line.size {
        _ if line.running || line.partial || line.is_first_recorded => None,
        None if line
            .cells
            .iter()
            .all(|cell| matches!(cell, GridCell::NoData(_))) =>
        {
            Some("not recorded")
        }
        Some(_) if line.empty => Some("no people"),
        _ => None,
    };
    let mut out: Vec<Line> = Vec::with_capacity(lines.len());
    let mut lines = lines.into_iter().peekable();
    while let Some(mut line) = lines.next() {
        let mut last = line.at;
        let mut count = 1;
        while let (Some(reason), Some(next)) = (why(&line), lines.peek())
            && why(next) == Some(reason)
        {
            last = next.at;
            count += 1;
            lines.next();
        }
        if let (Some(reason), 2..) = (why(&line), count) {
            let count_of = many(len(count), grain.as_str());
            line.folded = Some((
                words::from_to(line.at, last),
                format!("{reason}, {count_of}"),
                count,
            ));
        }
        out.push(line);
    }
    out
}

fn statement(table: &Table, show: Show) -> String {
    let until = match (table.query.measure, table.averages.len()) {
        (Measure::OnOrAfter, 2..) => format!(
            "“On or after” counts up to {} {}, so the last columns are low: they cover little time. ",
            table.query.grain,
            table.query.last_offset()
        ),
        _ => String::new(),
    };
    let until = match words::same_period(table) {
        Some(sentence) => format!("{until}{sentence} "),
        None => until,
    };
    if table.averages.iter().all(Option::is_none) || show == Show::Previous {
        return until.trim_end().to_owned();
    }
    let kind = match table.query.averaging {
        Averaging::Survival => "Kaplan–Meier, Greenwood",
        Averaging::Weighted | Averaging::Simple => "Wilson",
    };
    let interval = match (table.query.averaging, words::few_repeats(table)) {
        (Averaging::Simple, _) => {
            "The simple average is the mean of the cohorts' rates; an interval belongs to the weighted one.".to_owned()
        }
        (_, Some(few)) => few,
        (_, None) if table.is_disjoint() => {
            format!("No person is in two cohorts, so the average has a 95% interval ({kind}).")
        }
        (_, None) => format!(
            "The average has no 95% interval because its cohorts overlap: {} stand behind {}, and more than 1% are repeats.",
            words::people(table.complete_people),
            words::entries(table.complete_entries)
        ),
    };
    let survival = match table.query.averaging {
        Averaging::Survival => {
            format!(
                "{} The curve leaves out columns with fewer than {FEWEST_AT_RISK} people at risk. ",
                words::SURVIVAL
            )
        }
        Averaging::Weighted | Averaging::Simple => String::new(),
    };
    format!("{until}{survival}{interval}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;
    use crate::reports::plan_at;
    use crate::reports::retention::Query;
    use crate::sets::Counts;

    /// The table of a query, as of a Monday afternoon, in which each count is `number`.
    fn counted(query: &Query, number: u64) -> Table {
        let now = parse_moment("2026-11-23T14:05:00Z").unwrap();
        let (plan, question) = plan_at(query, now).unwrap();
        question.table(&Counts::new(&plan, vec![number; plan.roots().len()]).unwrap())
    }

    /// A table in which every cohort has 100 people of whom 30 come back, as of a Monday afternoon.
    fn table(query: Query) -> Table {
        let mut table = counted(&query, 100);
        for cell in table.rows.iter_mut().flat_map(|row| row.cells.iter_mut()) {
            if let Cell::Number(number) = cell {
                number.retained = 30;
            }
        }
        table
    }

    fn query(grain: Grain, rows: u32) -> Query {
        Query {
            rows: Some(rows),
            cols: Some(rows),
            ..Query::new("a".parse().unwrap(), "b".parse().unwrap(), grain)
        }
    }

    /// Returns the label and the note of the tile with the change.
    fn change(table: &Table) -> String {
        let tile = tiles(table).swap_remove(2);
        format!(
            "{} | {} | {}",
            tile.value.unwrap_or_else(|| "–".to_owned()),
            tile.label,
            tile.note
        )
    }

    #[test]
    fn the_change_says_what_was_compared() {
        let by_day = |rows| change(&table(query(Grain::Day, rows)));
        insta::assert_snapshot!(by_day(14), @"0.0 pt | day 1, last 5 cohorts vs the same weekdays a week before | 30.0% → 30.0%");
        insta::assert_snapshot!(by_day(16), @"0.0 pt | day 1, last 7 cohorts vs the 7 before | 30.0% → 30.0%");
        insta::assert_snapshot!(by_day(11), @"– | change on day 1, newer cohorts vs older | by day it needs ten complete cohorts in a row, because weekdays differ");
        insta::assert_snapshot!(change(&table(query(Grain::WEEK, 9))), @"0.0 pt | week 1, last 4 cohorts vs the 3 before | 30.0% → 30.0%");
        insta::assert_snapshot!(change(&table(query(Grain::WEEK, 4))), @"– | change in week 1, newer cohorts vs older | needs six complete cohorts");
        let later = Query {
            measure: Measure::OnOrAfter,
            rows: Some(20),
            cols: Some(14),
            ..query(Grain::Day, 20)
        };
        insta::assert_snapshot!(change(&table(later)), @"0.0 pt | days 1–13, last 7 cohorts vs the 7 before | 30.0% → 30.0%");
    }

    #[test]
    fn where_nobody_is_in_any_cohort_every_figure_says_so() {
        for grain in Grain::ALL {
            let notes: Vec<String> = tiles(&counted(&query(grain, 14), 0))
                .into_iter()
                .map(|tile| tile.note)
                .collect();
            assert!(
                notes.len() >= 4
                    && notes
                        .iter()
                        .all(|note| note == "no people in these cohorts"),
                "{grain}: {notes:?}"
            );
        }
    }
}
