//! Questions to a person at a terminal. They go to standard error, so that standard output can be
//! the configuration.

use std::io::{self, BufRead, IsTerminal};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Fault;
use crate::cli::tell;
use crate::vocab::Secret;

/// Whether somebody is there to answer.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A line; none if it is empty.
pub(super) fn line(question: &str, example: &str) -> Result<Option<String>, Fault> {
    let example = if example.is_empty() { String::new() } else { format!(" (such as {example})") };
    tell(&format!("{question}{example}: "));
    let answer = read()?;
    let answer = answer.trim();
    Ok((!answer.is_empty()).then(|| answer.to_owned()))
}

/// A line that is not shown.
pub(super) fn secret(question: &str) -> Result<Secret, Fault> {
    // Before the question, or a quick answer would be shown.
    let _hidden = Hidden::begin()?;
    tell(&format!("{question} (it is not shown): "));
    let answer = read().map(|line| Secret::from(line.trim_end_matches(['\n', '\r'])));
    tell("\n");
    answer
}

fn read() -> Result<String, Fault> {
    let mut line = String::new();
    let count = io::stdin().lock().read_line(&mut line);
    match count {
        Ok(0) => Err(Fault::Failed("there was no answer".to_owned())),
        Ok(_) => Ok(line),
        Err(error) => Err(Fault::Failed(format!("cannot read an answer: {error}"))),
    }
}

/// What is typed is not shown while this lives.
struct Hidden(rustix::termios::Termios);

impl Hidden {
    fn begin() -> Result<Self, Fault> {
        let fault = |error| Fault::Failed(format!("cannot hide what is typed: {error}"));
        let before = tcgetattr(io::stdin()).map_err(fault)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).map_err(fault)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal is gone if this fails.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}
