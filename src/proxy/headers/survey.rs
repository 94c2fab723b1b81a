//! Which of the fields that matter are there, found in one pass. Most requests have few of them,
//! and looking each one up costs more than the pass.

use http::{HeaderMap, header};

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

    /// Of no fields.
    pub(in super::super) const NONE: Self = Self(0);

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
            header::UPGRADE => Self::UPGRADE,
            header::VIA => Self::VIA,
            header::WWW_AUTHENTICATE => Self::WWW_AUTHENTICATE,
            _ if is_plain(name) => 0,
            _ if name.as_str().starts_with("sec-fetch-") => Self::PAGE,
            _ if is_doomed(name) => Self::OTHER_DOOMED,
            _ => 0,
        };
        Self(headers.keys().fold(0, |all, name| all | bit(name)))
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
