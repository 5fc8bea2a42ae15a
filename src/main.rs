//! The `cohortist` program: everything it does is in [`cohortist::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cohortist::cli::main()
}
