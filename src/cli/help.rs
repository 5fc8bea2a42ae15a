//! `cohortist help`.

use std::process::ExitCode;

use clap::error::Error;
use clap::{Arg, ArgMatches, Command};

/// The widest help, in columns. Narrower terminals get narrower help.
pub const MAX_WIDTH: usize = 100;

/// The topic that prints the global options.
const OPTIONS: &str = "options";

const TOPIC: &str = "topic";

const EXAMPLES: &str = "\
EXAMPLES
  cohortist help           all commands
  cohortist help import    one command
  cohortist help options   global options and environment variables";

/// The line at the end of every help, in which global options and environment variables are hidden.
pub const SEE_OPTIONS: &str = "Global options and environment variables: cohortist help options";

const OPTIONS_NOTES: &str = "\
STORES
  ./cohortist.db                  a directory, created when needed
  memory:                         in memory, until the program ends
  redis://host:6379/0             Redis or a compatible server
  rediss://host:6379/0            the same with TLS
  redis+unix:///run/redis.sock    the same through a Unix socket
  redis-cluster://a:6379,b:6379   nodes of a Redis Cluster

Every option of every command is also an environment variable: --store is COHORTIST_STORE, and \
--listen is COHORTIST_LISTEN. The exceptions are options that choose what to delete, overwrite or \
give up: those of `delete`, `expire` and `forget`, --accept-loss, --overwrite, --ids-may-repeat \
and --dry-run.

COHORTIST_LOG sets the log level: error, warn, info or debug. To serve without the access log, \
use info,cohortist::access=off.

TIME is 2026-11-23, '2026-11-23 14:00', 2026-11-23T14:00:00Z or Unix seconds. All times are UTC.";

/// The `help` command. It replaces clap's own, which knows no topics beside the commands.
pub fn command() -> Command {
    Command::new("help")
        .about("Print help for a command or for global options")
        .after_help(EXAMPLES)
        .arg(
            Arg::new(TOPIC)
                .value_name("COMMAND")
                .help("A command, or `options` for global options"),
        )
}

/// Prints the help that was asked for. `root` is the whole tree of commands.
pub fn run(matches: &ArgMatches, root: Command) -> ExitCode {
    let topic = matches.get_one::<String>(TOPIC).map(String::as_str);
    if topic == Some(OPTIONS) {
        // A closed stdout is not an error.
        let _ = options(&root).print_help();
        return ExitCode::SUCCESS;
    }
    let arguments = [root.get_name().to_owned()]
        .into_iter()
        .chain(topic.map(str::to_owned))
        .chain(["--help".to_owned()]);
    match root.clone().try_get_matches_from(arguments) {
        Ok(_) => ExitCode::SUCCESS,
        Err(help_or_error) => print(&help_or_error),
    }
}

/// Prints help, the version or an error of clap, and returns the exit code.
pub fn print(error: &Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// A command that has nothing but the global options, and shows them.
pub fn options(root: &Command) -> Command {
    let options = root
        .get_arguments()
        .filter(|arg| arg.is_global_set() && !is_deprecated(arg))
        .map(|arg| arg.clone().hide(false));
    Command::new("options")
        .about("Global options, before or after the name of a command")
        .args(options)
        .disable_help_flag(true)
        .help_template("{about}\n\n{options}{after-help}\n")
        .after_help(OPTIONS_NOTES)
        .max_term_width(MAX_WIDTH)
}

fn is_deprecated(arg: &Arg) -> bool {
    arg.get_long() == Some("cache-mb")
}
