//! The program: see the library's documentation.

use std::process::ExitCode;

/// musl's own allocator holds one lock for all threads, so that workers would wait for each other
/// at every request.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bearerd::cli::main()
}
