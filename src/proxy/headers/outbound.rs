//! A client's fields on their way to the upstream.
//!
//! [`Stripped`] holds the client's map as it came, closed: [`Outbound::write`] is the only way out of
//! it, and copies what the rules let stay, then says what a proxy has to say, then injects. So a
//! request loses and gains fields without a change to the map, which would cost more than all the
//! rest of the policy; and it can be written again, over another connection or with another
//! credential.

use std::cell::Cell;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, UPGRADE, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::rules::{Fate, Rules};
use super::{Places, Survey};
use crate::server::Peer;
use crate::telemetry::spans::Span;
use crate::token::present::{Mode, Presented};

static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
static TE_OPTION: HeaderValue = HeaderValue::from_static("te");
static UPGRADE_OPTION: HeaderValue = HeaderValue::from_static("Upgrade");
static WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
static ZERO: HeaderValue = HeaderValue::from_static("0");

/// A map with room for more fields is not kept.
const MOST_SPARE: usize = 48;

thread_local! {
    /// The last request's map, which is as large as an answer's and would be freed just to be
    /// allocated again. hyper does the same with the answer's.
    static SPARE: Cell<Option<HeaderMap>> = const { Cell::new(None) };
}

/// Takes a request's fields in the order in which they are written: the bytes of HTTP/1, or the map
/// that HTTP/2 wants.
pub(in super::super) trait Sink {
    /// One more line.
    fn put(&mut self, name: &HeaderName, value: &HeaderValue);
}

impl Sink for HeaderMap {
    fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name.clone(), value.clone());
    }
}

/// What a client sent, and what of it may go on.
#[derive(Debug)]
pub(in super::super) struct Stripped {
    fields: HeaderMap,
    /// Those that stay, by their index. Behind the last bit the rules are asked again.
    stays: u64,
    /// The client takes trailers.
    takes_trailers: bool,
    /// The places from which something is removed.
    pub(in super::super) places: Places,
}

impl Drop for Stripped {
    fn drop(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        if (1..=MOST_SPARE).contains(&fields.capacity()) {
            fields.clear();
            // While a thread ends, nothing is kept any more.
            SPARE.try_with(|place| place.set(Some(fields))).unwrap_or_default();
        }
    }
}

/// An empty map with room for so many fields, in the memory of one that was written.
pub(in super::super) fn vacant(fields: usize) -> HeaderMap {
    let mut map = SPARE.take().unwrap_or_default();
    map.reserve(fields);
    map
}

impl Stripped {
    /// Judges each of the `fields`; `removed` is told of each name that is a client's credential,
    /// with its place.
    pub(super) fn new(
        fields: HeaderMap,
        takes_trailers: bool,
        rules: &Rules,
        peer: &Peer,
        removed: impl Fn(usize),
    ) -> Self {
        let mut stays = 0;
        let mut last: Option<(&HeaderName, bool)> = None;
        for (index, (name, _)) in fields.iter().enumerate() {
            let stay = match last {
                // Another line of the same field.
                Some((same, stay)) if std::ptr::eq(same, name) => stay,
                _ => {
                    let fate = rules.fate(name);
                    if let Fate::Strip(place) = fate {
                        removed(place);
                    }
                    rules.keeps(name, &fate, peer)
                }
            };
            last = Some((name, stay));
            if index < u64::BITS as usize {
                stays |= u64::from(stay) << index;
            }
        }
        Self { fields, stays, takes_trailers, places: Places::default() }
    }

    /// The lines that stay.
    fn kept<'s>(
        &'s self,
        rules: &'s Rules,
        peer: &'s Peer,
    ) -> impl Iterator<Item = (&'s HeaderName, &'s HeaderValue)> {
        let stays = move |index: usize, name| {
            if index < u64::BITS as usize {
                self.stays >> index & 1 == 1
            } else {
                rules.keeps(name, &rules.fate(name), peer)
            }
        };
        let lines = self.fields.iter().enumerate();
        lines.filter(move |(index, (name, _))| stays(*index, name)).map(|(_, line)| line)
    }

    /// What of `presented` goes in.
    pub(in super::super) fn injected<'s>(
        &'s self,
        rules: &'s Rules,
        peer: &'s Peer,
        presented: &'s Presented,
    ) -> impl Iterator<Item = (&'s HeaderName, &'s HeaderValue)> {
        // What we announce is there, too.
        let is_there = move |name: &HeaderName| {
            rules.teller.fields.tells(name) || self.kept(rules, peer).any(|(kept, _)| kept == name)
        };
        let fields = presented.fields.iter();
        fields
            .filter(move |(name, _, mode)| *mode == Mode::Set || !is_there(name))
            .map(|(name, value, _)| (name, value))
    }
}

/// A request as an upstream is to get it, but for its body.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Outbound<'r> {
    /// The target is in `head`, in the form for the upstream.
    pub(in super::super) head: &'r Parts,
    pub(in super::super) stripped: &'r Stripped,
    /// What the client's head held, with `Upgrade` only if a tunnel is asked for.
    pub(in super::super) found: Survey,
    pub(in super::super) rules: &'r Rules,
    pub(in super::super) peer: &'r Peer,
    /// Of the call to the upstream.
    pub(in super::super) span: &'r Span,
    pub(in super::super) presented: &'r Presented,
}

impl Outbound<'_> {
    pub(in super::super) const fn method(&self) -> &Method {
        &self.head.method
    }

    pub(in super::super) const fn target(&self) -> &Uri {
        &self.head.uri
    }

    /// Whether a tunnel is asked for.
    pub(in super::super) const fn is_upgrade(&self) -> bool {
        self.found.has(Survey::UPGRADE)
    }

    /// Writes the fields. How a body is framed is said by who sends it, unless it `is_empty`.
    ///
    /// The order is a security invariant. What the client's `Connection` names and every spelling of
    /// a credential stayed behind before our fields go in, or `Connection: authorization` would
    /// remove the credential (S15, S16, S18); the injection comes last.
    pub(in super::super) fn write(&self, is_empty: bool, out: &mut impl Sink) {
        let host = self.copy(out);
        self.announce(host, is_empty, out);
        self.inject(out);
    }

    /// Writes what stays of the client's; returns its `Host`.
    fn copy(&self, out: &mut impl Sink) -> Option<&HeaderValue> {
        let rules = self.rules;
        if !rules.keeps_host {
            out.put(&HOST, &rules.host);
        }
        let mut host = None;
        for (name, value) in self.stripped.kept(rules, self.peer) {
            if *name == HOST {
                host = Some(value);
                if !rules.keeps_host {
                    continue;
                }
            }
            // The rules know what is injected; here it does not depend on them.
            if !self.presented.replaces(name) && !self.span.owns(name) {
                out.put(name, value);
            }
        }
        // HTTP/1.0 has requests without one; what goes out is none of them (P4).
        if rules.keeps_host && host.is_none() {
            out.put(&HOST, &rules.host);
        }
        host
    }

    /// Says who sends the request, by whom, and over what connection: the fields of a proxy.
    fn announce(&self, host: Option<&HeaderValue>, is_empty: bool, out: &mut impl Sink) {
        let (rules, fields) = (self.rules, &self.stripped.fields);
        let is_removed = |name: &HeaderName| matches!(rules.fate(name), Fate::Strip(_));
        rules.teller.tell(fields, is_removed, host, self.peer, |name, value| {
            if !self.presented.replaces(name) {
                out.put(name, value);
            }
        });
        if let Some(via) = &self.rules.via {
            let own = match self.head.version {
                Version::HTTP_2 => &via.http_2,
                Version::HTTP_10 => &via.http_10,
                _ => &via.http_11,
            };
            out.put(&VIA, own);
        }
        // Beside what tells of the client only these could be injected as well.
        self.span.announce(|name, value| {
            if !self.presented.replaces(name) {
                out.put(name, value);
            }
        });
        // An empty body that the client announced means something on a POST.
        if is_empty && self.found.has(Survey::CONTENT_LENGTH) {
            out.put(&CONTENT_LENGTH, &ZERO);
        }
        if self.is_upgrade() {
            out.put(&CONNECTION, &UPGRADE_OPTION);
            out.put(&UPGRADE, &WEBSOCKET);
        } else if self.stripped.takes_trailers {
            out.put(&TE, &TRAILERS);
            out.put(&CONNECTION, &TE_OPTION);
        }
    }

    fn inject(&self, out: &mut impl Sink) {
        for (name, value) in self.stripped.injected(self.rules, self.peer, self.presented) {
            out.put(name, value);
        }
    }
}
