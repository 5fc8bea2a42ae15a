//! `cohortist retention`.

use std::io::IsTerminal;

use chrono::NaiveDate;
use clap::ValueEnum;

use crate::calendar::{Grain, parse_date};
use crate::cli::notes::Notes;
use crate::cli::output::{Out, Usage, colour, note};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::render::{chart, csv, text};
use crate::reports::Exports;
use crate::reports::retention::Show;
use crate::reports::retention::{Averaging, Measure, Query, Shown, Table};
use crate::reports::spans::Span;
use crate::sets::Segment;
use crate::tracker::Error;
use crate::tracker::Run;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist retention signup active                            the last 14 days
  cohortist retention signup active --by week --as count       12 weeks, in people
  cohortist retention signup 'active & !ios@ever' --by month   & and, | or, ^ either, & ! and not
  cohortist retention signup active --measure on_or_after      back on that day or any later one
  cohortist retention signup active --from 2026-10-01 --to 2026-10-31 --cols 8
  cohortist retention signup active --format csv > table.csv   for a spreadsheet
  cohortist retention signup active --format tidy > cells.csv  a line a cell, for pandas or R
  cohortist retention signup active --format svg > chart.svg   the curve

Column 0 is the cohort's own period, column 1 the next. A cell that has not begun is blank; one still
running has a * and stays out of the average. Where the store has no data stands a –. The table ends
where the store's data ends. NAME@ever is an undated bitmap. A name with spaces or
& | ^ ! ( ) @ goes in quotes: '\"a|b\"'.";

/// Of the users who did one thing, how many did the other, period by period?
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Who starts: an event, or a segment such as 'signup & plan:pro@ever'
    cohort: String,

    /// What counts as coming back: an event or segment
    returning: String,

    /// The length of a period: hour, day, week, month or year
    #[arg(
        long,
        value_name = "GRAIN",
        env = "COHORTIST_BY",
        default_value = "day"
    )]
    by: Grain,

    /// How many cohorts, 1 to 400 [default: hours 24, days 14, weeks 12, months 12, years 5]
    #[arg(
        long,
        value_name = "N",
        env = "COHORTIST_ROWS",
        allow_negative_numbers = true
    )]
    rows: Option<u32>,

    /// How many columns, 1 to 400, column 0 included [default: 24 hours, 14 days, 12 weeks, 12
    /// months or 5 years]
    #[arg(
        long,
        value_name = "N",
        env = "COHORTIST_COLS",
        allow_negative_numbers = true
    )]
    cols: Option<u32>,

    /// The first cohort is the period that holds this date, such as 2026-11-23
    #[arg(long, value_name = "DATE", env = "COHORTIST_FROM", value_parser = parse_date)]
    from: Option<NaiveDate>,

    /// The last cohort is the period that holds this date
    #[arg(long, value_name = "DATE", env = "COHORTIST_TO", value_parser = parse_date)]
    to: Option<NaiveDate>,

    /// What a cell counts: who came back `on` the period, or `on_or_after` it
    #[arg(long, env = "COHORTIST_MEASURE", default_value = "on")]
    measure: Measure,

    /// What a cell shows: percent or count
    #[arg(
        long = "as",
        value_name = "SHOW",
        env = "COHORTIST_AS",
        default_value = "percent"
    )]
    show: Show,

    /// Every user counts the same in the average row (weighted), or every cohort does (simple)
    #[arg(long, env = "COHORTIST_AVERAGE", default_value = "weighted")]
    average: Averaging,

    /// For the terminal, a spreadsheet (a cohort a line), programs (a cell a line; everything in
    /// one object), or the curve
    #[arg(long, env = "COHORTIST_FORMAT", default_value = "table")]
    format: Format,

    /// How wide a table may be, in characters [default: the terminal; no limit into a file or pipe]
    #[arg(long, value_name = "CHARS", env = "COHORTIST_WIDTH")]
    width: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Tidy,
    Json,
    Svg,
}

/// What to ask and how to show it.
pub struct Config {
    query: Query,
    show: Show,
    format: Format,
    width: Option<usize>,
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        let segment = |what, text: &str| {
            text.parse::<Segment>()
                .map_err(|error| Usage::in_text(what, text, &error))
        };
        if args.rows.is_some() && args.from.is_some() && args.to.is_some() {
            note!("--rows is not used: --from and --to already say which cohorts");
        }
        let query = Query {
            rows: args.rows,
            cols: args.cols,
            from: args.from,
            to: args.to,
            measure: args.measure,
            averaging: args.average,
            ..Query::new(
                segment("COHORT", &args.cohort)?,
                segment("RETURNING", &args.returning)?,
                args.by,
            )
        };
        Ok(Config {
            query,
            show: args.show,
            format: args.format,
            width: args.width,
        })
    }
}

impl Config {
    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let now = clock.now();
        // Before the store is opened, so that a mistake does not create one.
        self.query.check(now).map_err(usage)?;
        let tracker = store.open_to_read()?;
        let run = Run {
            now_given: clock.is_given(),
            ..Run::at(now)
        };
        let answer = tracker.run(&self.query, &run);
        let answer = answer.map_err(|error| match error {
            Error::Query(error) => usage(error).into(),
            other => anyhow::Error::from(other),
        })?;
        let table = &answer.answer;
        let mut out = Out::new();
        out.text(&self.render(table))?;
        out.finish()?;
        let segments = [&table.query.cohort, &table.query.returning];
        let nobody = table.numbers().all(|number| number.retained == 0);
        // If a user was counted, single events were recorded.
        let is_plain = |segment: &&Segment| matches!(segment, Segment::Event(_));
        let mut notes = Notes {
            later: table
                .recorded
                .later
                .then_some(self.query.grain)
                .into_iter()
                .collect(),
            ..Notes::default()
        };
        if nobody {
            notes.segments = segments.to_vec();
        } else if !segments.iter().all(is_plain) {
            notes.names = segments
                .iter()
                .flat_map(|segment| segment.names())
                .collect();
        }
        notes.print(&tracker, clock)?;
        if nobody {
            let (grain, rows) = (table.query.grain, table.rows.len());
            if let (true, Segment::Event(name)) =
                (table.is_empty() && table.is_recorded(), &table.query.cohort)
                && let Some(span) = Span::of(answer.catalogue.of(name), now)
                && let Some(from) = i64::try_from(rows)
                    .ok()
                    .and_then(|n| span.last.within(grain).shift(1 - n).ok())
            {
                let (from, last) = (from.start().date_naive(), span.last.start().date_naive());
                note!(
                    "`{name}` was last recorded on {last}; see its cohorts with --from {from} --to {last}"
                );
            }
        }
        if let (false, Some((first, last))) = (
            table.is_recorded(),
            answer
                .coverage
                .first(self.query.grain)
                .zip(answer.coverage.last(self.query.grain)),
        ) {
            note!(
                "the store has data from {first} to {last}; without --from and --to its latest cohorts are shown"
            );
        }
        Ok(())
    }

    fn shown(&self, table: &Table) -> Shown {
        Shown {
            table: table.clone(),
            show: self.show,
        }
    }

    fn render(&self, table: &Table) -> String {
        match self.format {
            Format::Table => {
                let stdout = std::io::stdout();
                let terminal = stdout
                    .is_terminal()
                    .then(terminal_size::terminal_size)
                    .flatten();
                let width = self.width.or(terminal.map(|(width, _)| width.0.into()));
                text::table(table, self.show, width, colour(&stdout))
            }
            Format::Csv => csv::frame(&self.shown(table).wide()),
            Format::Tidy => csv::frame(&self.shown(table).tidy()),
            Format::Json => format!("{}\n", self.shown(table).json()),
            Format::Svg => chart::file(table),
        }
    }
}

fn usage(error: crate::reports::QueryError) -> Usage {
    Usage(match error.field() {
        Some(field) => format!("--{field}: {error}"),
        None => error.to_string(),
    })
}
