//! Which of the fields that matter are there, found in one pass. Most requests have few of them,
//! and looking each one up costs more than the pass.

use http::{HeaderMap, HeaderValue, header};

use super::is_doomed;
use super::rules::is_plain;

/// A set of fields that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Survey(u16);

impl Survey {
    pub(in super::super) const CONNECTION: u16 = 1;
    pub(in super::super) const CONTENT_LENGTH: u16 = 1 << 1;
    pub(in super::super) const COOKIE: u16 = 1 << 2;
    pub(in super::super) const EXPECT: u16 = 1 << 3;
    /// One of those by which a browser tells on whose behalf it asks.
    pub(in super::super) const PAGE: u16 = 1 << 4;
    pub(in super::super) const USER_AGENT: u16 = 1 << 5;
    pub(in super::super) const TE: u16 = 1 << 6;
    pub(in super::super) const TRANSFER_ENCODING: u16 = 1 << 7;
    pub(in super::super) const VIA: u16 = 1 << 8;
    pub(in super::super) const WWW_AUTHENTICATE: u16 = 1 << 9;
    /// Any other field that an answer loses on its way.
    pub(in super::super) const OTHER_DOOMED: u16 = 1 << 10;
    pub(in super::super) const UPGRADE: u16 = 1 << 11;
    /// A `Content-Type` of messages that come when they come.
    pub(in super::super) const STREAM: u16 = 1 << 12;

    /// Of no fields.
    pub(in super::super) const NONE: Self = Self(0);

    pub(in super::super) fn of(headers: &HeaderMap) -> Self {
        let bit = |name: &header::HeaderName, value: &HeaderValue| match *name {
            header::CONNECTION => Self::CONNECTION,
            header::CONTENT_LENGTH => Self::CONTENT_LENGTH,
            header::CONTENT_TYPE if is_stream(value.as_bytes()) => Self::STREAM,
            header::COOKIE => Self::COOKIE,
            header::EXPECT => Self::EXPECT,
            header::ORIGIN | header::REFERER => Self::PAGE,
            header::USER_AGENT => Self::USER_AGENT,
            header::TE => Self::TE,
            header::TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
            header::UPGRADE => Self::UPGRADE,
            header::VIA => Self::VIA,
            header::WWW_AUTHENTICATE => Self::WWW_AUTHENTICATE,
            _ if is_plain(name) => 0,
            _ if name.as_str().starts_with("sec-fetch-") => Self::PAGE,
            _ if is_doomed(name) => Self::OTHER_DOOMED,
            _ => 0,
        };
        Self(headers.iter().fold(0, |all, (name, value)| all | bit(name, value)))
    }

    /// The same without these.
    pub(in super::super) const fn without(self, fields: u16) -> Self {
        Self(self.0 & !fields)
    }

    /// Whether any of these is there.
    pub(in super::super) const fn has(self, fields: u16) -> bool {
        self.0 & fields != 0
    }
}

/// Whether a media type is one of which a body may fall silent and go on: events, gRPC, records
/// one by one, pictures one by one, changes that are watched (Kubernetes).
fn is_stream(value: &[u8]) -> bool {
    let begins = |start: &[u8]| {
        value.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    match value.first() {
        Some(b'a' | b'A') if begins(b"application/") => {
            let rest = &value[b"application/".len()..];
            let begins = |start: &[u8]| {
                rest.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
            };
            match rest.first() {
                Some(b'g' | b'G') => begins(b"grpc"),
                Some(b'x' | b'X') => begins(b"x-ndjson") || begins(b"x-json-stream"),
                Some(b'j' | b'J') => {
                    rest.len() > b"json".len()
                        && (begins(b"jsonl")
                            || begins(b"json-seq")
                            || rest.ends_with(b";stream=watch"))
                }
                Some(b'n' | b'N') => begins(b"ndjson"),
                _ => rest.ends_with(b";stream=watch"),
            }
        }
        Some(b't' | b'T') => begins(b"text/event-stream"),
        Some(b'm' | b'M') => begins(b"multipart/x-mixed-replace"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_told_by_their_media_type() {
        for stream in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web",
            "application/x-ndjson",
            "application/jsonl",
            "application/json-seq",
            "application/json;stream=watch",
            "application/vnd.kubernetes.protobuf;stream=watch",
            "multipart/x-mixed-replace; boundary=x",
        ] {
            assert!(is_stream(stream.as_bytes()), "{stream}");
        }
        for other in [
            "",
            "a",
            "text/plain",
            "application/json",
            "application/json; charset=utf-8",
            "application/",
            "text/event",
            "application/octet-stream",
            "multipart/form-data",
            "\u{e4}",
        ] {
            assert!(!is_stream(other.as_bytes()), "{other}");
        }
    }
}
