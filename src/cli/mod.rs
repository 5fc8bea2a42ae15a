//! The command line: flags → `Config` → one command. Results go to stdout, everything else to
//! stderr.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage. A closed pipe is no error.

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
mod store;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::calendar::parse_moment;
use crate::cli::config::File;
use crate::cli::logs::LogFormat;
use crate::cli::output::Usage;
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::sets::Prefix;
use crate::store::budget::{self, Shares};
use crate::store::{Durability, Options, RedisEval};
use crate::tracker::Ids;

const ABOUT: &str =
    "Who comes back? Cohort retention from bitmaps, in the terminal and in the browser.";

const EXAMPLES: &str = "\
EXAMPLES
  See it with made-up data            cohortist demo
  Record that user 123 was active     cohortist mark active 123
  Bring in what you have              cohortist import events.csv
  Who signed up and came back?        cohortist retention signup active --by week
  The same in a browser               cohortist serve
  On bitmapist's data in Redis        cohortist --store redis://localhost:6379/0 serve

Every option is also an environment variable: --store is COHORTIST_STORE, and so on. Options that
say what to delete, overwrite or lose are not. COHORTIST_LOG sets what is logged to stderr: error, warn,
info or debug; for `serve` without the access log, info,cohortist::access=off.
All times are UTC. TIME is 2026-11-23, '2026-11-23 14:00', 2026-11-23T14:00:00Z or Unix seconds.";

#[derive(Debug, Parser)]
#[command(name = "cohortist", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 110)]
struct Args {
    /// Where the data is: a path [default: ./cohortist.db], memory:, redis://…, rediss://… (TLS),
    /// redis+unix:///…, redis-cluster://host:port,host:port, or the name of a store in the
    /// configuration file
    #[arg(long, global = true, env = "COHORTIST_STORE", help_heading = EVERYWHERE)]
    store: Option<String>,

    /// Titles, labels, saved segments and named stores [default: ./cohortist.toml, where there is
    /// one]
    #[arg(long, global = true, env = "COHORTIST_CONFIG", value_name = "FILE", help_heading = EVERYWHERE)]
    config: Option<PathBuf>,

    /// Open a damaged store at a path with what is left of it, and record what is lost. Not an
    /// environment variable
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    accept_loss: bool,

    /// What every key begins with; bitmapist4's data needs bitmapist_ [default: trackist_]
    #[arg(long, global = true, env = "COHORTIST_PREFIX", help_heading = EVERYWHERE)]
    prefix: Option<String>,

    /// What users are called by: numbers, or map for texts such as e-mails and UUIDs, each of which
    /// gets a number [default: as the store began; a new one with numbers]
    #[arg(long, global = true, env = "COHORTIST_IDS", value_name = "HOW", help_heading = EVERYWHERE)]
    ids: Option<IdsArg>,

    /// Answer as of this moment instead of the clock's
    #[arg(long, global = true, env = "COHORTIST_NOW", value_name = "TIME", value_parser = parse_moment, help_heading = EVERYWHERE)]
    now: Option<DateTime<Utc>>,

    /// When a path store forces marks to disk: each second (a power cut may lose the last one), or
    /// always
    #[arg(long, global = true, env = "COHORTIST_SYNC", default_value = "second", help_heading = EVERYWHERE)]
    sync: Sync,

    /// Memory of the whole process, in MiB: cached bitmaps, marks not written yet, questions, what
    /// clients send, counts and pages [default: 1024]
    #[arg(long, global = true, env = "COHORTIST_MEMORY_MB", value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(budget::SMALLEST_MB..=1 << 24), help_heading = EVERYWHERE)]
    memory_mb: Option<u64>,

    /// Deprecated: use --memory-mb
    #[arg(long, global = true, env = "COHORTIST_CACHE_MB", value_name = "MIB", hide = true,
          value_parser = clap::value_parser!(u64).range(1..=1 << 24), help_heading = EVERYWHERE)]
    cache_mb: Option<u64>,

    /// How long Redis may take to answer, in seconds
    #[arg(long, global = true, env = "COHORTIST_REDIS_TIMEOUT", value_name = "SECONDS", default_value = "2.5",
          value_parser = seconds, help_heading = EVERYWHERE)]
    redis_timeout: Duration,

    /// Who works out what is in Redis: the server, into temporary keys, or this program, of what it
    /// fetches; auto takes what is cheaper, and fetches from a server that takes no writes
    #[arg(long, global = true, env = "COHORTIST_REDIS_EVAL", value_name = "WHO", default_value = "auto",
          help_heading = EVERYWHERE)]
    redis_eval: EvalArg,

    /// How stderr is written: text, or json with one object a line
    #[arg(long, global = true, env = "COHORTIST_LOG_FORMAT", value_name = "FORMAT", default_value = "text",
          help_heading = EVERYWHERE)]
    log_format: LogFormat,

    #[command(subcommand)]
    command: CommandArgs,
}

const EVERYWHERE: &str = "Options of every command";

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
    Retention(retention::Args),
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
    Expire(expire::Args),
}

/// What was asked for, checked.
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
    Retention(retention::Config),
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
    Expire(expire::Config),
}

/// The cache of commands that read nothing twice.
const READ_ONCE_BYTES: u64 = 16 << 20;

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        let clock = args.now.map_or(Clock::System, Clock::Fixed);
        // A demo is about its own events, whatever file lies about.
        let unasked = !matches!(args.command, CommandArgs::Demo(_));
        let file = File::find(args.config.as_deref(), unasked, clock)?;
        let memory = memory(args.memory_mb, args.cache_mb);
        // Commands remember no counts.
        let shares = Shares::of(memory, Some(0));
        let options = Options {
            prefix: args.prefix.as_deref().map(Prefix::new).unwrap_or_default(),
            durability: match args.sync {
                Sync::Second => Durability::EverySecond,
                Sync::Always => Durability::Always,
            },
            cache_bytes: match args.command {
                // They look at each bitmap once.
                CommandArgs::Expire(_) | CommandArgs::Delete(_) => {
                    shares.cache.min(READ_ONCE_BYTES)
                }
                _ => shares.cache,
            },
            checkpoint_bytes: shares.checkpoint(1),
            timeout: args.redis_timeout,
            redis_eval: args.redis_eval.into(),
            accept_loss: args.accept_loss,
            ..Options::default()
        };
        let own_default =
            matches!(args.command, CommandArgs::Demo(_)).then_some(demo::DEFAULT_STORE);
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
        Ok(Config {
            clock,
            command: match args.command {
                CommandArgs::Serve(args) => Command::Serve(Box::new(serve::Config::new(
                    args, file, stores.all, source, memory,
                )?)),
                CommandArgs::Demo(args) => {
                    Command::Demo(Box::new(demo::Config::new(args, file, memory)?))
                }
                CommandArgs::Import(args) => Command::Import(args.try_into()?),
                CommandArgs::Mark(args) => Command::Mark(args.try_into()?),
                CommandArgs::Unmark(args) => Command::Mark(args.try_into()?),
                CommandArgs::Retention(args) => Command::Retention(args.try_into()?),
                CommandArgs::Report(args) => Command::Report(args),
                CommandArgs::Count(args) => Command::Count(count::Config::new(args, saved)?),
                CommandArgs::People(args) => Command::People(people::Config::new(args, saved)?),
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
                CommandArgs::Expire(args) => {
                    Command::Expire(expire::Config::new(args, &stores.all[0])?)
                }
            },
            store: stores.default,
        })
    }
}

/// The memory of the process in bytes, by the option or by what it was called before.
fn memory(memory_mb: Option<u64>, cache_mb: Option<u64>) -> u64 {
    if let Some(mb) = cache_mb {
        let instead = if memory_mb.is_some() {
            "it is ignored beside --memory-mb".to_owned()
        } else {
            format!("it now means --memory-mb {mb}, the memory of the whole process; use that")
        };
        let warning =
            format_args!("warning: --cache-mb (COHORTIST_CACHE_MB) is deprecated: {instead}");
        logs::say(tracing::Level::WARN, warning);
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
            Command::Import(config) => config.run(store),
            Command::Mark(config) => config.run(store, clock),
            Command::Retention(config) => config.run(store, clock),
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
            Command::Expire(config) => config.run(store, clock),
        }
    }

    fn log_level(&self) -> &'static str {
        match self {
            // The server's own start and stop is told in better words already.
            Command::Serve(_) => "info,actix_server=warn",
            Command::Demo(_)
            | Command::Import(_)
            | Command::Mark(_)
            | Command::Retention(_)
            | Command::Report(_)
            | Command::Count(_)
            | Command::People(_)
            | Command::Events(_)
            | Command::Copy(_)
            | Command::Backup(_)
            | Command::Check
            | Command::Info(_)
            | Command::Compact
            | Command::Delete(_)
            | Command::Expire(_) => "warn",
        }
    }
}

/// The tree of commands. The help names the environment variables and not what is in them: one may
/// be a password.
fn command() -> clap::Command {
    let hidden = |arg: clap::Arg| {
        // An empty variable is how compose files and CI say "not set".
        let empty = arg
            .get_env()
            .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        let arg = arg.hide_env_values(true);
        if empty {
            arg.env(None::<&'static str>)
        } else {
            arg
        }
    };
    Args::command()
        .mut_args(hidden)
        .mut_subcommands(|command| command.mut_args(hidden))
}

/// Runs the program with the arguments and environment of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Args::from_arg_matches(&matches));
    let args = match parsed {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to stdout and are a success; if nobody reads them any more, so be
            // it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    logs::set_format(args.log_format);
    let config = match Config::try_from(args) {
        Ok(config) => config,
        Err(usage) => return output::exit(Err(usage.into()), &|text| text),
    };
    if matches!(config.command, Command::Serve(_)) {
        logs::write_apart();
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

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.01..=600.0).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "write seconds between 0.01 and 600, such as 2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        command().debug_assert();
    }

    /// What decides what is deleted or overwritten stands on the command line, where it is seen.
    /// `--allow-flush` has its variable: it deletes nothing, and a server's permissions are part of
    /// its configuration.
    const ON_THE_COMMAND_LINE_ALONE: [(&str, &[&str]); 4] = [
        ("cohortist", &["accept-loss"]),
        ("copy", &["overwrite"]),
        ("delete", &["period", "all", "yes", "dry-run"]),
        (
            "expire",
            &["hours", "days", "weeks", "months", "yes", "even-the-newest"],
        ),
    ];

    #[test]
    fn every_option_has_its_environment_twin_but_those_that_destroy() {
        let root = Args::command();
        let mut without: Vec<(&str, Vec<&str>)> = Vec::new();
        for command in root.get_subcommands().chain([&root]) {
            let mut alone = Vec::new();
            for arg in command
                .get_arguments()
                .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
            {
                let Some(long) = arg.get_long() else { continue };
                let twin = format!("COHORTIST_{}", long.to_uppercase().replace('-', "_"));
                match arg.get_env() {
                    Some(env) => assert_eq!(env.to_str(), Some(&*twin), "{}", command.get_name()),
                    None => alone.push(long),
                }
            }
            if !alone.is_empty() {
                without.push((command.get_name(), alone));
            }
        }
        without.sort_unstable();
        let expected =
            ON_THE_COMMAND_LINE_ALONE.map(|(command, options)| (command, options.to_vec()));
        assert_eq!(without, expected);
    }

    #[test]
    fn every_command_teaches_by_example() {
        for command in Args::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.starts_with("EXAMPLES\n"),
                "{} has no examples",
                command.get_name()
            );
        }
    }
}
