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
    pub(in super::super) const ORIGIN: u16 = 1 << 4;
    pub(in super::super) const SEC_FETCH_SITE: u16 = 1 << 5;
    pub(in super::super) const TE: u16 = 1 << 6;
    pub(in super::super) const TRANSFER_ENCODING: u16 = 1 << 7;
    pub(in super::super) const VIA: u16 = 1 << 8;
    pub(in super::super) const WWW_AUTHENTICATE: u16 = 1 << 9;

    pub(in super::super) fn of(headers: &HeaderMap) -> Self {
        let mut found = Self { fields: 0, longest: 0 };
        for (name, value) in headers {
            found.longest = found.longest.max(value.len());
            found.fields |= match *name {
                header::CONNECTION if is_plain(value.as_bytes()) => Self::CONNECTION,
                header::CONNECTION => Self::CONNECTION | Self::NAMES,
                header::CONTENT_LENGTH
                    if found.has(Self::CONTENT_LENGTH) || value.as_bytes().contains(&b',') =>
                {
                    Self::CONTENT_LENGTH | Self::LENGTHS
                }
                header::CONTENT_LENGTH => Self::CONTENT_LENGTH,
                header::EXPECT => Self::EXPECT,
                header::ORIGIN => Self::ORIGIN,
                header::TE => Self::TE,
                header::TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
                header::VIA => Self::VIA,
                header::WWW_AUTHENTICATE => Self::WWW_AUTHENTICATE,
                header::ALT_SVC | header::UPGRADE => Self::BETWEEN,
                header::CONTENT_TYPE | header::DATE | header::SERVER | header::HOST => 0,
                _ => match name.as_str() {
                    "sec-fetch-site" => Self::SEC_FETCH_SITE,
                    name if is_hop_by_hop(name) => Self::BETWEEN,
                    _ => 0,
                },
            };
        }
        found
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
