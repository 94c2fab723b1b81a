//! Writes shell completions and manual pages, for packages: `cargo run --example manual -- DIR`.
//! An example, so that the program itself carries neither.

use std::io;
use std::path::PathBuf;

use bearerd::cli::Cli;
use clap::CommandFactory;
use clap_complete::Shell;

fn main() -> io::Result<()> {
    let directory =
        std::env::args_os().nth(1).map_or_else(|| "target/manual".into(), PathBuf::from);
    std::fs::create_dir_all(&directory)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "bearerd", &directory)?;
    }
    clap_mangen::generate_to(command, &directory)
}
