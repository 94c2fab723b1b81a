//! A sidecar in this process, a client that writes bytes, and an upstream that is a script.

mod client;
pub(crate) mod http2;
mod http2_server;
#[allow(unreachable_pub, dead_code, reason = "shared with the suite of faults")]
#[path = "../../faults/support/lateness.rs"]
mod lateness;
mod process;
mod sidecar;
mod upstream;

use std::time::Duration;

pub(crate) use client::{Answer, Client};
pub(crate) use http2_server::{Exchange, Http2, Leave};
pub(crate) use lateness::{lateness, watch};
pub(crate) use process::{Load, Place, Process, example, file};
pub(crate) use sidecar::Sidecar;
pub(crate) use upstream::{Conversation, Upstream};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A head's lines, and the fields among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The start line.
    pub(crate) start: String,
    /// Names in lower case, values as they came.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Splits a head's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut lines = bytes.split(|b| *b == b'\n').map(|line| line.trim_ascii_end());
        let start = String::from_utf8_lossy(lines.next().unwrap()).into_owned();
        let fields = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let colon = line.iter().position(|b| *b == b':').expect("a colon");
                let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
                (name, line[colon + 1..].trim_ascii().to_vec())
            })
            .collect();
        Self { start, fields }
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.fields
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// The one value of a field; empty if there is none.
    pub(crate) fn one(&self, name: &str) -> String {
        let all = self.all(name);
        assert!(all.len() < 2, "several `{name}`: {all:?}");
        all.into_iter().next().unwrap_or_default()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// Reads once. A signal, as of a child of another test that has ended, is no failure.
pub(crate) fn read(from: &mut impl std::io::Read, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Waits until `holds`; fails with the message after [`PATIENCE`].
pub(crate) fn eventually(holds: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let deadline = std::time::SystemTime::now() + PATIENCE;
    while !holds() {
        assert!(std::time::SystemTime::now() < deadline, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(2));
    }
}
