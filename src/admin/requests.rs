//! The last requests as JSON: names, numbers and times. Asking for them has them kept for a while.

use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::{Desk, JSON, caller, plain, respond};
use crate::net::body::Body;
use crate::telemetry::journal::{Entry, Inspect, Journal};

/// One request as it is shown.
#[derive(Debug, Serialize)]
struct Shown<'e> {
    number: u64,
    at: String,
    method: &'e str,
    route: Option<&'e str>,
    path: Option<&'e str>,
    /// None if the client left before there was an answer.
    status: Option<u16>,
    seconds: f64,
    bytes: u64,
    aborted: bool,
    stripped: &'e [String],
    injected: Vec<&'e str>,
    replayed: bool,
    refusal: Option<&'static str>,
}

impl<'e> Shown<'e> {
    fn new(number: u64, entry: &'e Entry) -> Self {
        Self {
            number,
            at: entry.started.to_wall().rfc3339(),
            method: entry.method.as_str(),
            route: entry.route.as_ref().map(|name| name.as_str()),
            path: entry.path.as_deref(),
            status: Some(entry.status).filter(|status| *status != 0),
            seconds: entry.took.as_secs_f64(),
            bytes: entry.bytes,
            aborted: !entry.whole,
            stripped: &entry.stripped,
            injected: entry.injected.iter().map(http::HeaderName::as_str).collect(),
            replayed: entry.replayed,
            refusal: entry.refusal,
        }
    }
}

/// Those above `seen` as a JSON list, and the highest number; `None` if there are none.
pub(super) fn news(journal: &Journal, seen: u64) -> Option<(u64, String)> {
    let entries = journal.after(seen);
    let (last, _) = entries.last()?;
    let shown: Vec<_> = entries.iter().map(|(number, entry)| Shown::new(*number, entry)).collect();
    Some((*last, serde_json::to_string(&shown).ok()?))
}

impl Desk {
    pub(super) fn requests(&self, headers: &HeaderMap) -> Response<Body> {
        if self.journal.inspect() == Inspect::None {
            return plain(
                StatusCode::FORBIDDEN,
                "requests are listed only where `admin` is a loopback address and `inspect` is \
                 not `none`\n",
            );
        }
        if !caller::is_own(headers) {
            return plain(StatusCode::FORBIDDEN, "not for pages of other sites\n");
        }
        self.journal.look();
        let list = news(&self.journal, 0).map_or_else(|| "[]".to_owned(), |(_, list)| list);
        respond(StatusCode::OK, JSON, list + "\n")
    }
}
