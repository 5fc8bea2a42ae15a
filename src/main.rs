//! The `cohortist` program. See [`cohortist::cli`].

use std::process::ExitCode;

/// The server renders pages as many short strings on many threads. jemalloc serves more of them per
/// second than the C library's allocator, and returns unused memory to the system.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cohortist::cli::main()
}
