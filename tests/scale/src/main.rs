//! What holds at a scale that no test should take the time for; see `run`.

mod bodies;
mod gone;
mod http;
mod mixed;
mod program;
mod races;
mod slow;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().expect("the program's binary");
    let chosen: Vec<String> = arguments.collect();
    let steps: [(&str, fn(&str)); 5] = [
        ("bodies", bodies::run),
        ("slow", slow::run),
        ("gone", gone::run),
        ("races", races::run),
        ("mixed", mixed::run),
    ];
    for (name, step) in steps {
        if chosen.is_empty() || chosen.iter().any(|own| own == name) {
            // A step panics where something does not hold.
            step(&binary);
        }
    }
    ExitCode::SUCCESS
}

/// A number out of the environment, to try a step with less.
fn count(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}
