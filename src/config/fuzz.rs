//! What the fuzz target of `fuzz/` runs about configurations: any bytes, and what must be true of
//! whatever is made of them. The seeds of `fuzz/seeds` run with the unit tests.

use super::{Overrides, deserialized, parse, search};

/// Reads a configuration: whatever is wrong is told in words and with a place in the file, what is
/// sound keeps the promises that the listener depends on (S8, S43).
///
/// # Panics
/// It is not so.
pub fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A secret's file is read to see that it is there; a device need not end.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    // YAML ends a line at a lone carriage return too.
    let lines = u64::try_from(text.split(['\n', '\r']).count()).unwrap_or(u64::MAX);
    if let (Ok(_), found) = deserialized(text) {
        // What serde takes has no mistake of form.
        let all = search::with_the_rest(text, found.clone());
        assert_eq!(all.sorted(), found.sorted());
    }
    match parse(text, Overrides::default()) {
        Err(problems) => {
            let problems = problems.sorted();
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.mistake.what.is_empty());
                let line = problem.place.map_or(1, |place| place.line);
                assert!(line <= lines + 1, "{problem}");
            }
        }
        Ok(loaded) => {
            let config = loaded.config;
            let shows = config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
            let is_proven = shows || config.caller.is_some();
            let is_safe = config.listen.is_local() || config.exposed || is_proven;
            assert!(is_safe, "reachable by anybody: {}", config.listen.value);
            assert!(!config.routes.is_empty());
            for route in &config.routes {
                for name in route.inject.keys() {
                    assert!(name.as_header() != "host" && name.as_header() != "connection");
                }
                let cors = route.cors.as_ref().map(|cors| cors.origins.len());
                assert_ne!(cors, Some(0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_hold() {
        crate::vocab::seeds::replay("config", super::text);
    }
}
