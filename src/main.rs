//! The program: see the library's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    bearerd::cli::main()
}
