//! The `cohortist` program. See [`cohortist::cli`].

use std::process::ExitCode;

/// The server renders pages as many short strings on many threads. jemalloc serves more of them per
/// second than the C library's allocator, and returns unused memory to the system.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc reads this symbol when the process starts. It returns unused memory after 300 ms and not
/// after 10 s, so that the memory budget also holds while large bitmaps come and go.
#[cfg(not(target_env = "msvc"))]
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 36] = b"dirty_decay_ms:300,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    cohortist::cli::main()
}
