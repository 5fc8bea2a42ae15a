//! The command line: arguments → `Config` → one command. Results go to stdout, everything else
//! to stderr.
//!
//! The exit code is 0 for success, 1 for a failure, 2 for a wrong command line, and 3 for an import
//! that skipped too many lines. A closed pipe
//! is not an error.

mod backup;
mod check;
mod compact;
mod config;
mod copy;
mod count;
mod delete;
mod demo;
mod events;
mod expire;
mod expiry;
mod forget;
mod help;
mod id_batches;
mod import;
mod info;
mod logs;
mod mark;
mod names;
mod notes;
mod output;
mod people;
mod report;
mod retention;
mod serve;
mod sizes;
mod store;
mod terminal;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::builder::FalseyValueParser;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::calendar::parse_moment;
use crate::cli::config::File;
use crate::cli::logs::LogFormat;
use crate::cli::output::{Usage, warning};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::sets::Prefix;
use crate::store::budget::{self, Shares};
use crate::store::{Durability, Options, RedisEval};
use crate::tracker::Ids;

const ABOUT: &str = "See how many users come back, from your Redis, a CSV file or your app";

const EXAMPLES: &str = "\
EXAMPLES
  cohortist demo                                     try it with made-up data
  cohortist mark active 123                          user 123 is active
  cohortist import events.csv                        import a file
  cohortist retention signup active --by week        who came back?
  cohortist serve                                    the dashboard in a browser
  cohortist --store redis://localhost:6379/0 serve   bitmapist's data in Redis

Global options and environment variables: cohortist help options";

/// The global options are hidden: `cohortist help options` prints them.
#[derive(Debug, Parser)]
#[command(
    name = "cohortist",
    version,
    about = ABOUT,
    after_help = EXAMPLES,
    max_term_width = help::MAX_WIDTH,
    disable_help_subcommand = true
)]
struct Args {
    /// Path, memory:, Redis URL, or name of a store in the configuration [default: ./cohortist.db]
    #[arg(long, global = true, env = "COHORTIST_STORE", hide = true)]
    store: Option<String>,

    /// Configuration file [default: ./cohortist.toml, if it exists]
    #[arg(
        long,
        global = true,
        env = "COHORTIST_CONFIG",
        value_name = "FILE",
        hide = true
    )]
    config: Option<PathBuf>,

    /// Open a damaged store at a path with what is left, and record what is lost
    #[arg(long, global = true, hide = true)]
    accept_loss: bool,

    /// Prefix of every key; bitmapist4 uses bitmapist_ [default: trackist_]
    #[arg(long, global = true, env = "COHORTIST_PREFIX", hide = true)]
    prefix: Option<String>,

    /// User ids: numbers, or map for strings such as emails [default: as in the store, or numbers]
    #[arg(
        long,
        global = true,
        env = "COHORTIST_IDS",
        value_name = "KIND",
        hide = true
    )]
    ids: Option<IdsArg>,

    /// Answer as of this time instead of now
    #[arg(
        long,
        global = true,
        env = "COHORTIST_NOW",
        value_name = "TIME",
        value_parser = parse_moment,
        hide = true
    )]
    now: Option<DateTime<Utc>>,

    /// When to sync marks to disk; a power cut loses what is not synced
    #[arg(
        long,
        global = true,
        env = "COHORTIST_SYNC",
        value_name = "WHEN",
        default_value = "second",
        hide = true
    )]
    sync: Sync,

    /// Memory limit of the whole process, in MiB [default: 1024]
    #[arg(
        long,
        global = true,
        env = "COHORTIST_MEMORY_MB",
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(budget::SMALLEST_MB..=1 << 24),
        hide = true
    )]
    memory_mb: Option<u64>,

    /// Deprecated: use --memory-mb
    #[arg(
        long,
        global = true,
        env = "COHORTIST_CACHE_MB",
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(1..=1 << 24),
        hide = true
    )]
    cache_mb: Option<u64>,

    /// Timeout of Redis, in seconds
    #[arg(
        long,
        global = true,
        env = "COHORTIST_REDIS_TIMEOUT",
        value_name = "SECONDS",
        default_value = "2.5",
        value_parser = seconds,
        hide = true
    )]
    redis_timeout: Duration,

    /// Mark users far beyond all others in Redis, although it takes much memory
    #[arg(
        long,
        global = true,
        env = "COHORTIST_ALLOW_SPARSE",
        value_parser = FalseyValueParser::new(),
        hide = true
    )]
    allow_sparse: bool,

    /// Where set operations run: on the Redis server, or in this program (fetch)
    #[arg(
        long,
        global = true,
        env = "COHORTIST_REDIS_EVAL",
        value_name = "WHERE",
        default_value = "auto",
        hide = true
    )]
    redis_eval: EvalArg,

    /// Format of stderr; json is one object per line
    #[arg(
        long,
        global = true,
        env = "COHORTIST_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        hide = true
    )]
    log_format: LogFormat,

    #[command(subcommand)]
    command: CommandArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sync {
    Second,
    Always,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EvalArg {
    Auto,
    Server,
    Fetch,
}

impl From<EvalArg> for RedisEval {
    fn from(arg: EvalArg) -> RedisEval {
        match arg {
            EvalArg::Auto => RedisEval::Auto,
            EvalArg::Server => RedisEval::Server,
            EvalArg::Fetch => RedisEval::Fetch,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IdsArg {
    Numbers,
    Map,
}

impl From<IdsArg> for Ids {
    fn from(arg: IdsArg) -> Ids {
        match arg {
            IdsArg::Numbers => Ids::Numbers,
            IdsArg::Map => Ids::Strings,
        }
    }
}

#[derive(Debug, Subcommand)]
enum CommandArgs {
    Serve(serve::Args),
    Demo(demo::Args),
    Import(import::Args),
    Mark(mark::Args),
    Unmark(mark::UnmarkArgs),
    #[command(flatten)]
    Report(report::ReportArgs),
    Count(count::Args),
    People(people::Args),
    Events(events::Args),
    Copy(copy::Args),
    Backup(backup::Args),
    Restore(backup::RestoreArgs),
    Check(check::Args),
    Info(info::Args),
    Compact(compact::Args),
    Delete(delete::Args),
    Forget(forget::Args),
    Expire(expire::Args),
}

/// A command line that was checked.
struct Config {
    store: StoreConfig,
    clock: Clock,
    command: Command,
}

enum Command {
    Serve(Box<serve::Config>),
    Demo(Box<demo::Config>),
    Import(import::Config),
    Mark(mark::Config),
    Report(report::ReportArgs),
    Count(count::Config),
    People(people::Config),
    Events(events::Config),
    Copy(copy::Config),
    Backup(backup::Config),
    Check,
    Info(info::Config),
    Compact,
    Delete(delete::Config),
    Forget(forget::Args),
    Expire(expire::Config),
}

/// The cache, in bytes, of commands that read each bitmap only once.
const READ_ONCE_CACHE_BYTES: u64 = 16 << 20;

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        let clock = args.now.map_or(Clock::System, Clock::Fixed);
        let is_demo = matches!(args.command, CommandArgs::Demo(_));
        // A demo has its own events, which the default configuration file knows nothing about.
        let file = File::find(args.config.as_deref(), !is_demo, clock)?;
        let memory = memory(args.memory_mb, args.cache_mb);
        // Only servers cache counts.
        let shares = Shares::of(memory, Some(0));
        let options = Options {
            prefix: args.prefix.as_deref().map(Prefix::new).unwrap_or_default(),
            durability: match args.sync {
                Sync::Second => Durability::EverySecond,
                Sync::Always => Durability::Always,
            },
            cache_bytes: match args.command {
                CommandArgs::Expire(_) | CommandArgs::Delete(_) => {
                    shares.cache.min(READ_ONCE_CACHE_BYTES)
                }
                _ => shares.cache,
            },
            checkpoint_bytes: shares.checkpoint(1),
            timeout: args.redis_timeout,
            redis_eval: args.redis_eval.into(),
            accept_loss: args.accept_loss,
            allow_sparse: args.allow_sparse,
            ..Options::default()
        };
        let own_default = is_demo.then_some(demo::DEFAULT_STORE);
        let ids = args.ids.map(Ids::from);
        let source = serve::Source {
            config: args.config,
            store: args.store,
            options,
            ids,
        };
        let stores = store::Stores::new(
            source.store.clone(),
            own_default,
            &file,
            &source.options,
            ids,
        )?;
        let saved = &file.segments;
        let zone = file.calendar.zone;
        Ok(Config {
            clock,
            command: match args.command {
                CommandArgs::Serve(args) => Command::Serve(Box::new(serve::Config::new(
                    args, file, stores.all, source, memory,
                )?)),
                CommandArgs::Demo(args) => {
                    Command::Demo(Box::new(demo::Config::new(args, file, memory)?))
                }
                CommandArgs::Import(args) => {
                    Command::Import(import::Config::new(args, file.import)?)
                }
                CommandArgs::Mark(args) => Command::Mark(args.try_into()?),
                CommandArgs::Unmark(args) => Command::Mark(args.try_into()?),
                CommandArgs::Report(args) => Command::Report(args.by_default_in(file.calendar)),
                CommandArgs::Count(args) => Command::Count(count::Config::new(args, zone, saved)?),
                CommandArgs::People(args) => {
                    Command::People(people::Config::new(args, zone, saved)?)
                }
                CommandArgs::Events(args) => Command::Events(args.into()),
                CommandArgs::Copy(args) => {
                    Command::Copy(copy::Config::new(args, &file, &source.options, ids)?)
                }
                CommandArgs::Backup(args) => Command::Backup(args.into()),
                CommandArgs::Restore(args) => Command::Backup(args.into()),
                CommandArgs::Check(check::Args {}) => Command::Check,
                CommandArgs::Info(args) => Command::Info(args.into()),
                CommandArgs::Compact(compact::Args {}) => Command::Compact,
                CommandArgs::Delete(args) => Command::Delete(args.try_into()?),
                CommandArgs::Forget(args) => Command::Forget(args),
                CommandArgs::Expire(args) => {
                    Command::Expire(expire::Config::new(args, &stores.all[0])?)
                }
            },
            store: stores.default,
        })
    }
}

/// The memory limit of the process, in bytes.
fn memory(memory_mb: Option<u64>, cache_mb: Option<u64>) -> u64 {
    if let Some(mb) = cache_mb {
        let instead = if memory_mb.is_some() {
            "it is ignored because of --memory-mb".to_owned()
        } else {
            format!("use --memory-mb {mb}, the memory limit of the whole process")
        };
        warning!("--cache-mb (COHORTIST_CACHE_MB) is deprecated: {instead}");
    }
    memory_mb
        .or(cache_mb)
        .unwrap_or(budget::DEFAULT_MB)
        .max(budget::SMALLEST_MB)
        << 20
}

impl Command {
    fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        match self {
            Command::Serve(config) => config.run(clock),
            Command::Demo(config) => config.run(store, clock),
            Command::Import(config) => config.run(store, clock),
            Command::Mark(config) => config.run(store, clock),
            Command::Report(args) => args.run(store, clock),
            Command::Count(config) => config.run(store, clock),
            Command::People(config) => config.run(store, clock),
            Command::Events(config) => config.run(store, clock),
            Command::Copy(config) => config.run(),
            Command::Backup(config) => config.run(store),
            Command::Check => check::run(store),
            Command::Info(config) => config.run(store),
            Command::Compact => compact::run(store),
            Command::Delete(config) => config.run(store),
            Command::Forget(args) => forget::run(args, store),
            Command::Expire(config) => config.run(store, clock),
        }
    }

    /// Whether it answers over HTTP until it is stopped.
    fn serves(&self) -> bool {
        match self {
            Command::Serve(_) => true,
            Command::Demo(config) => config.serves(),
            _ => false,
        }
    }

    fn log_level(&self) -> &'static str {
        if self.serves() {
            // A server reports its start and stop itself.
            "info,actix_server=warn"
        } else {
            "warn"
        }
    }
}

/// The tree of commands.
fn command() -> clap::Command {
    Args::command()
        .subcommand(help::command())
        .mut_args(with_environment)
        .mut_subcommands(|command| {
            let examples = command
                .get_after_help()
                .expect("every command has examples")
                .to_string();
            command
                .after_help(format!("{examples}\n\n{}", help::SEE_OPTIONS))
                .mut_args(with_environment)
        })
}

/// Hides an option's environment variable, whose name follows from the option's and whose value may
/// be a password. Ignores an empty one: compose files and CI systems cannot leave a variable out.
fn with_environment(arg: clap::Arg) -> clap::Arg {
    let is_empty = arg
        .get_env()
        .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
    let arg = arg.hide_env(true).hide_env_values(true);
    if is_empty {
        arg.env(None::<&'static str>)
    } else {
        arg
    }
}

/// Runs the program with the arguments and environment of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match parse(arguments) {
        Ok(args) => args,
        Err(code) => return code,
    };
    logs::set_format(args.log_format);
    let config = match Config::try_from(args) {
        Ok(config) => config,
        Err(usage) => return output::exit(Err(usage.into()), &|text| text),
    };
    if config.command.serves() {
        logs::start_writer();
    }
    logs::start(config.command.log_level());
    let Config {
        store,
        clock,
        command,
    } = config;
    let result = command.run(&store, clock);
    let code = output::exit(result, &|text| store.without_password(&text));
    logs::finish();
    code
}

/// Parses the arguments. Returns the exit code where there is nothing to run: after help, the
/// version or an error was printed.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, ExitCode> {
    let matches = command()
        .try_get_matches_from(arguments)
        .map_err(|error| help::print(&error))?;
    if let Some(("help", matches)) = matches.subcommand() {
        return Err(help::run(matches, command()));
    }
    Args::from_arg_matches(&matches).map_err(|error| help::print(&error))
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.01..=600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "write a number of seconds from 0.01 to 600, such as 2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_valid() {
        command().debug_assert();
    }

    /// Options that decide what is deleted or overwritten must be visible on the command line.
    /// `--allow-flush` has a variable: it deletes nothing, and a server's permissions are part of
    /// its configuration.
    const WITHOUT_VARIABLE: [(&str, &[&str]); 6] = [
        ("cohortist", &["accept-loss"]),
        ("copy", &["overwrite"]),
        ("delete", &["period", "all", "yes", "dry-run"]),
        (
            "expire",
            &["hours", "days", "weeks", "months", "yes", "even-the-newest"],
        ),
        ("forget", &["dry-run"]),
        ("import", &["dry-run", "ids-may-repeat"]),
    ];

    #[test]
    fn every_option_that_destroys_nothing_has_an_environment_variable() {
        let root = Args::command();
        let mut without: Vec<(&str, Vec<&str>)> = Vec::new();
        for command in root.get_subcommands().chain([&root]) {
            let mut alone = Vec::new();
            for arg in command
                .get_arguments()
                .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
            {
                let Some(long) = arg.get_long() else { continue };
                let variable = format!("COHORTIST_{}", long.to_uppercase().replace('-', "_"));
                match arg.get_env() {
                    Some(env) => {
                        assert_eq!(env.to_str(), Some(&*variable), "{}", command.get_name());
                    }
                    None => alone.push(long),
                }
            }
            if !alone.is_empty() {
                without.push((command.get_name(), alone));
            }
        }
        without.sort_unstable();
        let expected = WITHOUT_VARIABLE.map(|(command, options)| (command, options.to_vec()));
        assert_eq!(without, expected);
    }

    #[test]
    fn every_command_has_examples_of_at_most_80_columns() {
        for command in command().get_subcommands() {
            let name = command.get_name();
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.starts_with("EXAMPLES\n"), "{name} has no examples");
            let preformatted = help.lines().filter(|line| line.starts_with("  "));
            for line in preformatted {
                assert!(line.chars().count() < 80, "{name}: {line}");
            }
        }
    }

    /// A short first sentence, then defaults and units in brackets.
    #[test]
    fn the_help_of_every_option_is_short() {
        let root = command();
        for command in root.get_subcommands().chain([&root]) {
            for arg in command.get_arguments() {
                let Some(help) = arg.get_help() else { continue };
                let help = help.to_string();
                let text = help.split(" [").next().expect("there is a first part");
                assert!(
                    text.chars().count() < 80,
                    "{} {}: {text}",
                    command.get_name(),
                    arg.get_id()
                );
            }
        }
    }

    #[test]
    fn global_options_are_printed_once() {
        let help = help::options(&command()).render_help().to_string();
        for option in [
            "--store",
            "--config",
            "--accept-loss",
            "--now",
            "--memory-mb",
        ] {
            assert!(help.contains(option), "{option}");
        }
        assert!(!help.contains("--cache-mb"), "{help}");
        for mut command in command().get_subcommands().cloned() {
            let help = command.render_help().to_string();
            assert!(!help.contains("--memory-mb <MIB>"), "{help}");
        }
    }
}
