//! Who may speak to a process that holds credentials, and in which form.
//!
//! Reaching this listener is as good as holding the credential, so a web page in the user's
//! browser must not reach it: not by a rebound name (`Host`, S4), not across sites (S2, S3).

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{EXPECT, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri, Version};

use super::headers::Survey;
use super::refusal::Refusal;
use crate::server::Peer;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts under which a listener may be addressed.
#[derive(Debug)]
pub(super) struct Guard {
    /// In lower case, sorted, so that a list of ten thousand is searched as one of one is.
    names: Vec<Box<str>>,
    addresses: Vec<IpAddr>,
}

/// A host in a `Host` field or an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host<'h> {
    /// A name, without the dot that may end it; case is to be ignored.
    Name(&'h str),
    /// An address in its one canonical form: `127.1` and `0x7f.1` are names.
    Address(IpAddr),
}

impl<'h> Host<'h> {
    /// Reads `host [":" port]` (RFC 9110 section 7.2).
    pub(super) fn parse(bytes: &'h [u8]) -> Option<(Self, Option<u16>)> {
        if let Some(rest) = bytes.strip_prefix(b"[") {
            let end = rest.iter().position(|b| *b == b']')?;
            let address: Ipv6Addr = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
            let port = port(&rest[end + 1..])?;
            return Some((Self::Address(IpAddr::V6(address).to_canonical()), port));
        }
        let (name, rest) =
            bytes.split_at(bytes.iter().position(|b| *b == b':').unwrap_or(bytes.len()));
        let port = port(rest)?;
        let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        if !name.iter().all(fits) || matches!(name, [] | [b'.', ..]) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        if name.starts_with(|c: char| c.is_ascii_digit())
            && let Ok(address) = name.parse::<Ipv4Addr>()
        {
            return Some((Self::Address(IpAddr::V4(address)), port));
        }
        Some((Self::Name(name.strip_suffix('.').unwrap_or(name)), port))
    }

    /// Whether the two are the same host.
    pub(super) fn is(self, other: Host<'_>) -> bool {
        match (self, other) {
            (Self::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::Address(a), Host::Address(b)) => a == b,
            _ => false,
        }
    }
}

/// The port behind a host: none, empty, or a number.
#[expect(clippy::option_option, reason = "no port is not the same as a bad one")]
fn port(rest: &[u8]) -> Option<Option<u16>> {
    let [b':', digits @ ..] = rest else { return rest.is_empty().then_some(None) };
    let add = |port: u16, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    };
    let number = digits.iter().try_fold(0, add)?;
    Some((!digits.is_empty()).then_some(number))
}

impl Guard {
    /// A guard that knows the loopback names only.
    pub(super) fn new() -> Self {
        Self {
            names: vec!["localhost".into()],
            addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        }
    }

    /// Adds `hosts`, which are names or addresses without port. What is neither is left out.
    pub(super) fn add<'h>(&mut self, hosts: impl IntoIterator<Item = &'h str>) {
        for host in hosts {
            match Host::parse(host.as_bytes()) {
                Some((Host::Name(name), _)) => {
                    self.names.push(name.to_ascii_lowercase().into_boxed_str());
                }
                Some((Host::Address(address), _)) => self.addresses.push(address),
                None => {}
            }
        }
        self.names.sort_unstable();
        self.names.dedup();
    }

    /// Lets a request in, or not, by its head alone. Sets an absolute target to origin-form.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(
        &self,
        head: &mut Parts,
        found: Survey,
        peer: &Peer,
    ) -> Result<(), Refusal> {
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Method);
        }
        let own = host_of(&head.headers, head.version)?;
        if let Some((host, _)) = own
            && !self.allows(host, peer.local.ip())
        {
            return Err(Refusal::ForeignHost);
        }
        if found.has(Survey::ORIGIN | Survey::SEC_FETCH_SITE) {
            from_own_pages(&head.headers, own)?;
        }
        let target = origin_form(&head.uri, &head.method, own)?;
        if found.has(Survey::TRANSFER_ENCODING | Survey::EXPECT) {
            well_framed(&head.headers)?;
        }
        if let Some(target) = target {
            head.uri = target;
        }
        Ok(())
    }

    /// Whether a listener may be addressed as `host`; `local` is the connection's own address,
    /// which no name can be rebound to.
    fn allows(&self, host: Host<'_>, local: IpAddr) -> bool {
        match host {
            Host::Address(address) => {
                (address == local.to_canonical() && !address.is_unspecified())
                    || self.addresses.contains(&address)
            }
            Host::Name(name) => self.names.binary_search_by(|known| compare(known, name)).is_ok(),
        }
    }
}

/// Compares a name in lower case with one in any case.
fn compare(known: &str, name: &str) -> Ordering {
    known.bytes().cmp(name.bytes().map(|b| b.to_ascii_lowercase()))
}

type Authority<'h> = (Host<'h>, Option<u16>);

/// The one valid `Host`; none is fine in HTTP/1.0 (RFC 9112 section 3.2).
fn host_of(headers: &HeaderMap, version: Version) -> Result<Option<Authority<'_>>, Refusal> {
    let mut lines = headers.get_all(HOST).iter();
    let Some(line) = lines.next() else {
        let old = version < Version::HTTP_11;
        return if old { Ok(None) } else { Err(Refusal::Host("is missing")) };
    };
    if lines.next().is_some() {
        return Err(Refusal::Host("is there more than once"));
    }
    Host::parse(line.as_bytes()).map(Some).ok_or(Refusal::Host("is not a host"))
}

/// The new target of an absolute-form request; none where the target is fine as it is.
fn origin_form(
    uri: &Uri,
    method: &Method,
    own: Option<Authority<'_>>,
) -> Result<Option<Uri>, Refusal> {
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if uri.path() == "*" => {
            if method == Method::OPTIONS {
                Ok(None)
            } else {
                Err(Refusal::Target)
            }
        }
        (None, None) => Ok(None),
        (Some("http"), Some(authority)) => {
            let parsed = Host::parse(authority.as_str().as_bytes()).ok_or(Refusal::Target)?;
            if own.is_none_or(|own| !same(own, parsed, 80)) {
                return Err(Refusal::Host("is not the target's authority"));
            }
            Ok(uri.path_and_query().cloned().map(Uri::from))
        }
        _ => Err(Refusal::Target),
    }
}

fn same(a: Authority<'_>, b: Authority<'_>, default_port: u16) -> bool {
    a.0.is(b.0) && a.1.unwrap_or(default_port) == b.1.unwrap_or(default_port)
}

/// Refuses what a browser sends on behalf of a page of another origin. A browser that sends
/// neither field cannot be told from a program; that is what the check of `Host` is for.
fn from_own_pages(headers: &HeaderMap, own: Option<Authority<'_>>) -> Result<(), Refusal> {
    let is_own_site = |site: &[u8]| site == b"same-origin" || site == b"none";
    if !headers.get_all(SEC_FETCH_SITE).iter().all(|site| is_own_site(site.as_bytes())) {
        return Err(Refusal::Origin);
    }
    let is_own_origin = |origin: &[u8]| {
        let parsed = std::str::from_utf8(origin).ok().and_then(|text| {
            let (scheme, authority) = text.split_once("://")?;
            let default_port = match scheme {
                "http" => 80,
                "https" => 443,
                _ => return None,
            };
            Some((Host::parse(authority.as_bytes())?, default_port))
        });
        matches!((parsed, own), (Some((origin, port)), Some(own)) if same(own, origin, port))
    };
    if headers.get_all(ORIGIN).iter().all(|origin| is_own_origin(origin.as_bytes())) {
        Ok(())
    } else {
        Err(Refusal::Origin)
    }
}

/// Refuses framing that the encoder would not repeat. hyper decodes `gzip, chunked` as if it
/// were `chunked`, and knows one expectation.
fn well_framed(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some()
            || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Refusal::TransferCoding);
    }
    let is_known = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(|value| is_known(value.as_bytes())) {
        Ok(())
    } else {
        Err(Refusal::Expectation)
    }
}
