//! The `cohortist` program: everything it does is in [`cohortist::cli`].

use std::process::ExitCode;

/// Pages are thousands of short texts made by many threads at once: with this one a server answers
/// more of them than with the C library's allocator, and gives back what it no longer needs.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cohortist::cli::main()
}
