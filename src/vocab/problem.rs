//! A mistake in the configuration, told to the person who can mend it.

use std::cell::RefCell;
use std::fmt;

/// What is wrong with one value, before it is known where the value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The fault, in words that never quote a value at a secret's place.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Mistake {
    /// A mistake with no advice beyond its own text.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the mistake where it was made.
    #[must_use]
    pub fn at(self, place: Place) -> Problem {
        Problem { place: Some(place), mistake: self }
    }
}

/// A position in the configuration file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// A mistake and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, if it has a place.
    pub place: Option<Place>,
    /// What, and what to do.
    pub mistake: Mistake,
}

impl Problem {
    /// Renders as `file:line:column: what (hint)`.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let mut line = String::from(file);
        if let Some(place) = self.place {
            line.push_str(&format!(":{}:{}", place.line, place.column));
        }
        line.push_str(": ");
        line.push_str(&self.mistake.what);
        if let Some(hint) = &self.mistake.hint {
            line.push_str("\n    hint: ");
            line.push_str(hint);
        }
        line
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render("config"))
    }
}

/// All mistakes found so far.
#[derive(Debug, Default, Clone)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Notes a mistake at a place.
    pub fn add(&mut self, place: Place, mistake: Mistake) {
        self.0.push(mistake.at(place));
    }

    /// Notes a whole problem.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Takes over all of another list.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing was found.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems in the order of the file.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|problem| problem.place.unwrap_or_default());
        self.0.dedup();
        self.0
    }
}

thread_local! {
    /// Where scalars leave their mistakes while a file is being read; see [`collecting`].
    static SINK: RefCell<Option<Problems>> = const { RefCell::new(None) };
}

/// Runs `read` and returns the mistakes that scalars of the file reported meanwhile.
///
/// serde ends at the first error. A person wants all of them, so a scalar with a bad value
/// reports it here and stands in as a placeholder; whoever called `read` must discard the result
/// if the list is not empty.
pub fn collecting<T>(read: impl FnOnce() -> T) -> (T, Problems) {
    SINK.with(|sink| *sink.borrow_mut() = Some(Problems::new()));
    let result = read();
    let found = SINK.with(|sink| sink.borrow_mut().take()).unwrap_or_default();
    (result, found)
}

/// Leaves a problem for the caller of [`collecting`]; gives it back where nobody collects.
pub(super) fn report(problem: Problem) -> Result<(), Problem> {
    SINK.with(|sink| match sink.borrow_mut().as_mut() {
        Some(problems) => {
            problems.push(problem);
            Ok(())
        }
        None => Err(problem),
    })
}

/// The candidate that a person most likely meant, for "did you mean".
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(typed, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(typed.len()) / 3).max(1))
        .filter(|(distance, _)| *distance < typed.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_slip_and_leaves_strangers_alone() {
        assert_eq!(nearest("toke_url", ["token_url", "scopes"]), Some("token_url"));
        assert_eq!(nearest("a", ["via", "hosts"]), None);
        assert_eq!(nearest("zebra", ["token_url", "scopes"]), None);
    }
}
