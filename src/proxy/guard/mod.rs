//! Who may speak to a process that holds credentials, and in which form.
//!
//! Reaching this listener is as good as holding the credential, so a web page in the user's
//! browser must not reach it: not by a rebound name (`Host`, S4), not across sites (S2, S3).

#[cfg(test)]
mod tests;

use http::header::{EXPECT, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri, Version};

use super::headers::Survey;
use super::refusal::Refusal;
use crate::server::{Host, Hosts, Peer};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a request must be like to be let in.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Hosts,
}

impl Guard {
    /// A guard that knows the loopback names only.
    pub(super) fn new() -> Self {
        Self { hosts: Hosts::new() }
    }

    /// Adds `hosts`, which are names or addresses without port. What is neither is left out.
    pub(super) fn add<'h>(&mut self, hosts: impl IntoIterator<Item = &'h str>) {
        self.hosts.add(hosts);
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
            && !self.hosts.allows(host, peer.local.ip())
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
