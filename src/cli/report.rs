//! Generated commands for reports without their own module: `cohortist NAME`, with the fields of the
//! report as arguments.

use std::io::IsTerminal;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Subcommand, ValueEnum};

use crate::calendar::Calendar;
use crate::cli::notes::Notes;
use crate::cli::output::{Out, Usage};
use crate::cli::retention;
use crate::cli::store::StoreConfig;
use crate::cli::terminal::has_colour;
use crate::clock::Clock;
use crate::endpoints::{self, AnswerError, Endpoint};
use crate::render::{charts, csv, text, words};
use crate::reports::{Arity, Exports, Field, Kind, Params, Problem};
use crate::tracker::Run;

/// The reports whose commands have their own modules.
const OWN_COMMANDS: [&str; 2] = ["people", "events"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Tidy,
    Json,
    Svg,
    Png,
}

/// A report, the values of its fields, and the output format.
pub struct ReportArgs {
    endpoint: &'static dyn Endpoint,
    params: Params,
    /// By which zone and weeks a question counts that names none.
    usual: Calendar,
    format: Format,
    width: Option<usize>,
}

impl std::fmt::Debug for ReportArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.endpoint.name(), self.params)
    }
}

fn generated() -> impl Iterator<Item = &'static dyn Endpoint> {
    let endpoints = endpoints::ALL.iter().copied();
    endpoints.filter(|endpoint| !OWN_COMMANDS.contains(&endpoint.name()))
}

/// The option of a field: `starting_with` is `--starting-with`.
fn option(field: &Field) -> String {
    field.name.replace('_', "-")
}

fn argument(field: &Field) -> Arg {
    let help = match field.kind {
        Kind::Word(words) => format!("{} [one of: {}]", field.help, words.join(", ")),
        _ => field.help.to_owned(),
    };
    let arg = Arg::new(field.name)
        .help(help)
        .value_name(option(field).to_uppercase());
    let arg = arg.allow_negative_numbers(matches!(field.kind, Kind::Number(..)));
    match field.arity {
        Arity::Required => arg.required(true),
        Arity::Several => arg.required(true).num_args(1..),
        Arity::Optional => arg.long(option(field)).env(variable(field)),
        Arity::Repeated => arg
            .long(option(field))
            .env(variable(field))
            .action(ArgAction::Append),
    }
}

fn variable(field: &Field) -> String {
    format!("COHORTIST_{}", field.name.to_uppercase())
}

fn command(endpoint: &'static dyn Endpoint) -> Command {
    let lines = endpoint.description().examples.iter();
    let widest = lines.clone().map(|(line, _)| line.chars().count()).max();
    let widest = widest.unwrap_or_default();
    let lines = lines.map(|(line, remark)| format!("  cohortist {line:widest$}   {remark}"));
    let mut help = format!("EXAMPLES\n{}", lines.collect::<Vec<_>>().join("\n"));
    if !endpoint.description().explanation.is_empty() {
        help += "\n\n";
        help += endpoint.description().explanation;
    }
    Command::new(endpoint.name())
        .about(endpoint.description().about)
        .after_help(help)
        .args(endpoint.fields().iter().map(argument))
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .env("COHORTIST_FORMAT")
                .default_value("table")
                .value_parser(clap::builder::EnumValueParser::<Format>::new())
                .help("Output format"),
        )
        .arg(
            Arg::new("width")
                .long("width")
                .value_name("CHARS")
                .env("COHORTIST_WIDTH")
                .value_parser(clap::value_parser!(usize))
                .help("Maximum width of a table in characters [default: the terminal]"),
        )
}

impl Subcommand for ReportArgs {
    fn augment_subcommands(root: Command) -> Command {
        root.subcommands(generated().map(command))
    }

    fn augment_subcommands_for_update(root: Command) -> Command {
        Self::augment_subcommands(root)
    }

    fn has_subcommand(name: &str) -> bool {
        generated().any(|endpoint| endpoint.name() == name)
    }
}

impl FromArgMatches for ReportArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (name, given) = matches
            .subcommand()
            .expect("clap asks for a subcommand that exists");
        let endpoint = endpoints::by_name(name).expect("clap knows only registered reports");
        let mut params = Params::default();
        for field in endpoint.fields() {
            for value in given.get_many::<String>(field.name).unwrap_or_default() {
                params.push(field.name, value);
            }
        }
        Ok(ReportArgs {
            endpoint,
            params,
            usual: Calendar::default(),
            format: *given.get_one("format").expect("it has a default"),
            width: given.get_one("width").copied(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ReportArgs {
    /// The same question; it is counted by this zone and these weeks unless it names others.
    pub fn by_default_in(mut self, calendar: Calendar) -> Self {
        self.usual = calendar;
        self
    }

    /// The fields with the usual zone and weeks where they are missing.
    fn completed(&self, usual: Calendar) -> Params {
        let mut params = self.params.clone();
        params.default_calendar(self.endpoint.fields(), usual);
        params
    }

    /// Prints the answer.
    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let now = clock.now();
        // Before the store is opened, so that a mistake does not create one.
        let checked = self.endpoint.check(&self.completed(self.usual), now);
        checked.map_err(|problems| self.usage(problems.into()))?;
        let tracker = store.open_to_read()?;
        let run = Run {
            now_given: clock.is_given(),
            ..Run::at(now)
        };
        let params = self.completed(Calendar {
            zone: tracker.own_zone(self.usual.zone)?,
            ..self.usual
        });
        let answer = self.endpoint.answer(&params, &tracker, &run);
        let answer = answer.map_err(|error| self.usage(error))?;
        let export = answer.export.as_ref();
        let mut out = Out::new();
        out.bytes(&self.render(export)?)?;
        out.finish()?;
        if let Some((table, _)) = export.grid() {
            return retention::print_notes(table, &answer, &tracker, clock);
        }
        let mut notes = Notes::default();
        if export.is_empty() {
            notes.segments = export.segments();
        }
        notes.print(&tracker, clock)
    }

    fn render(&self, export: &dyn Exports) -> Result<Vec<u8>, Usage> {
        let chart = |format: &str| {
            let name = self.endpoint.name();
            let none = || Usage(format!("--format {format}: `{name}` has no chart"));
            export.chart().ok_or_else(none)
        };
        let text = match self.format {
            Format::Table => {
                let stdout = std::io::stdout();
                let terminal = stdout.is_terminal().then(terminal_size::terminal_size);
                let terminal = terminal.flatten().map(|(width, _)| width.0.into());
                let width = self.width.or(terminal);
                if let Some((table, show)) = export.grid() {
                    let text = text::table(table, show, width, has_colour(&stdout));
                    return Ok(text.into_bytes());
                }
                let title = words::shortened(&export.title(), 200);
                let table = text::frame(&export.summary(), width);
                let notes = export.chart().map(charts::notes).unwrap_or_default();
                let notes: String = notes.iter().map(|note| format!("\n{note}\n")).collect();
                // Dates in UTC and weeks from Monday are what nobody has to be told.
                let calendar = match export.calendar() {
                    usual if usual == Calendar::default() => String::new(),
                    other => format!("\n{}\n", other.words()),
                };
                format!("{title}\n\n{table}{calendar}{notes}")
            }
            Format::Csv => csv::frame(&export.wide()),
            Format::Tidy => csv::frame(&export.tidy()),
            Format::Json => format!("{}\n", export.json()),
            Format::Svg => charts::file(chart("svg")?),
            Format::Png => return Ok(charts::picture(chart("png")?)),
        };
        Ok(text.into_bytes())
    }

    /// The error, with the names of options instead of fields.
    fn usage(&self, error: AnswerError) -> anyhow::Error {
        match error {
            AnswerError::Problems { problems } => {
                let lines = problems.iter().map(|problem| self.problem(problem));
                Usage(lines.collect::<Vec<_>>().join("\n")).into()
            }
            AnswerError::Failed(error) => error.into(),
            error @ AnswerError::Unknown(_) => anyhow::Error::new(error),
        }
    }

    /// The text of a problem, with a mark below its column.
    fn problem(&self, problem: &Problem) -> String {
        let fields = self.endpoint.fields().iter();
        let field = fields.clone().find(|field| field.name == problem.field);
        let name = match field {
            Some(field) if !field.arity.is_required() => format!("--{}", option(field)),
            _ => problem.field.to_uppercase(),
        };
        let values = self.params.all(problem.field);
        let text = values.get(problem.index.unwrap_or(0));
        match (text, problem.column) {
            (Some(text), Some(column)) => {
                Usage::marked(&format!("{name}: {}", problem.message), text, column).0
            }
            _ => format!("{name}: {}", problem.message),
        }
    }
}
