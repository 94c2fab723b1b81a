//! Which of the fields that matter are there, found in one pass. Most messages have few of them,
//! and looking each one up costs more than the pass.

use http::{HeaderMap, header};

use super::rules::is_hop_by_hop;

/// A set of fields that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Survey {
    fields: u16,
    longest: usize,
}

impl Survey {
    /// Other fields that end at the next hop, and `Alt-Svc`.
    pub(in super::super) const BETWEEN: u16 = 1;
    /// `Connection`, saying no more than `close` or `keep-alive`.
    pub(in super::super) const CONNECTION: u16 = 1 << 1;
    /// `Connection`, naming fields.
    pub(in super::super) const NAMES: u16 = 1 << 10;
    pub(in super::super) const CONTENT_LENGTH: u16 = 1 << 2;
    /// More than one length.
    pub(in super::super) const LENGTHS: u16 = 1 << 11;
    pub(in super::super) const EXPECT: u16 = 1 << 3;
    /// One of those by which a browser tells on whose behalf it asks.
    pub(in super::super) const PAGE: u16 = 1 << 4;
    pub(in super::super) const USER_AGENT: u16 = 1 << 5;
    pub(in super::super) const TE: u16 = 1 << 6;
    pub(in super::super) const TRANSFER_ENCODING: u16 = 1 << 7;
    pub(in super::super) const VIA: u16 = 1 << 8;
    pub(in super::super) const WWW_AUTHENTICATE: u16 = 1 << 9;

    pub(in super::super) fn of(headers: &HeaderMap) -> Self {
        let bit = |name: &header::HeaderName| match *name {
            header::CONNECTION => Self::CONNECTION,
            header::CONTENT_LENGTH => Self::CONTENT_LENGTH,
            header::COOKIE => Self::COOKIE,
            header::EXPECT => Self::EXPECT,
            header::ORIGIN | header::REFERER => Self::PAGE,
            header::USER_AGENT => Self::USER_AGENT,
            header::TE => Self::TE,
            header::TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
            header::VIA => Self::VIA,
            header::WWW_AUTHENTICATE => Self::WWW_AUTHENTICATE,
            _ if name.as_str().starts_with("sec-fetch-") => Self::PAGE,
            _ => 0,
        };
        Self(headers.keys().fold(0, |all, name| all | bit(name)))
    }

    /// Whether any of these is there.
    pub(in super::super) const fn has(self, fields: u16) -> bool {
        self.fields & fields != 0
    }

    /// The length of the longest value.
    pub(in super::super) const fn longest(self) -> usize {
        self.longest
    }
}

/// Whether a token or a whole value of `Connection` names no field, or one that ends here anyway.
pub(super) fn is_plain(token: &[u8]) -> bool {
    [&b""[..], b"close", b"keep-alive"].iter().any(|plain| token.eq_ignore_ascii_case(plain))
}
