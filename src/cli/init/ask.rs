//! Questions to a person at a terminal. They go to standard error, so that standard output can be
//! the configuration.

use std::future::poll_fn;
use std::io::{self, BufRead, IsTerminal};
use std::task::Poll;
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

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

/// A line that is not shown. A signal that ends the program does not leave the terminal so.
pub(super) fn secret(question: &str) -> Result<Secret, Fault> {
    let fault = |error: io::Error| Fault::Failed(format!("cannot ask for a secret: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(fault)?;
    runtime.block_on(async {
        let mut ends = Ends::listen().map_err(fault)?;
        // Before the question, or a quick answer would be shown.
        let hidden = Hidden::begin()?;
        tell(&format!("{question} (it is not shown): "));
        let (told, answer) = oneshot::channel();
        // Reading a terminal blocks; where a signal comes first, this thread goes with the process.
        thread::Builder::new().spawn(move || drop(told.send(read()))).map_err(fault)?;
        let answer = tokio::select! {
            answer = answer => answer.unwrap_or_else(|_| Err(nobody())),
            signal = ends.next() => Err(Fault::Ended(signal)),
        };
        drop(hidden);
        tell("\n");
        answer.map(|line| Secret::from(line.trim_end_matches(['\n', '\r'])))
    })
}

/// The signals that a terminal, or whoever closes it, ends programs by.
struct Ends([(SignalKind, Signal); 4]);

impl Ends {
    fn listen() -> io::Result<Self> {
        let end = |kind| signal(kind).map(|signal| (kind, signal));
        Ok(Self([
            end(SignalKind::interrupt())?,
            end(SignalKind::quit())?,
            end(SignalKind::terminate())?,
            end(SignalKind::hangup())?,
        ]))
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (kind, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(kind.as_raw_value());
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn read() -> Result<String, Fault> {
    let mut line = String::new();
    let count = io::stdin().lock().read_line(&mut line);
    match count {
        Ok(0) => Err(nobody()),
        Ok(_) => Ok(line),
        Err(error) => Err(Fault::Failed(format!("cannot read an answer: {error}"))),
    }
}

fn nobody() -> Fault {
    Fault::Failed("there was no answer".to_owned())
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
