//! Who may speak to a process that holds credentials, and in which form.
//!
//! Reaching this listener is as good as holding the credential, so a web page in the user's
//! browser must not reach it: not by a rebound name (`Host`, S4), not across sites (S2, S3; those
//! rules are in [`super::page`], for a route may list origins that are let in).

#[cfg(test)]
mod tests;

use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::headers::Survey;
use super::page::{Authority, same};
use super::refusal::Refusal;
use crate::server::{Host, Hosts, Peer};

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
        let line = only_host(&head.headers, head.version)?;
        if let Some(line) = line
            && !self.hosts.spells(line.as_bytes())
            && !self.hosts.allows(read(line)?.0, peer.ends.local())
        {
            return Err(Refusal::ForeignHost);
        }
        let may_be_secure = peer.secure || head.version == Version::HTTP_2;
        let target = origin_form(&head.uri, &head.method, line, may_be_secure)?;
        if found.has(Survey::TRANSFER_ENCODING | Survey::EXPECT) {
            well_framed(&head.headers)?;
        }
        if let Some(target) = target {
            head.uri = target;
        }
        Ok(())
    }
}

/// The one valid `Host`; none is fine in HTTP/1.0 (RFC 9112 section 3.2).
pub(super) fn host_of(
    headers: &HeaderMap,
    version: Version,
) -> Result<Option<Authority<'_>>, Refusal> {
    only_host(headers, version)?.map(read).transpose()
}

fn read(line: &HeaderValue) -> Result<Authority<'_>, Refusal> {
    Host::parse(line.as_bytes()).ok_or(Refusal::Host("is not a host"))
}

/// The one line of it.
fn only_host(headers: &HeaderMap, version: Version) -> Result<Option<&HeaderValue>, Refusal> {
    let mut lines = headers.get_all(HOST).iter();
    let Some(line) = lines.next() else {
        let old = version < Version::HTTP_11;
        return if old { Ok(None) } else { Err(Refusal::Host("is missing")) };
    };
    if lines.next().is_some() {
        return Err(Refusal::Host("is there more than once"));
    }
    Ok(Some(line))
}

/// The new target of an absolute-form request; none where the target is fine as it is. Over
/// HTTP/2 every target is absolute: `:scheme`, `:authority` and `:path`.
fn origin_form(
    uri: &Uri,
    method: &Method,
    own: Option<&HeaderValue>,
    may_be_secure: bool,
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
        (Some(scheme), Some(authority)) => {
            let port = match scheme {
                "http" => 80,
                "https" if may_be_secure => 443,
                _ => return Err(Refusal::Target),
            };
            let parsed = Host::parse(authority.as_str().as_bytes()).ok_or(Refusal::Target)?;
            if own.map(read).transpose()?.is_none_or(|own| !same(own, parsed, port)) {
                return Err(Refusal::Host("is not the target's authority"));
            }
            let target = uri.path_and_query().filter(|target| {
                target.path().starts_with('/')
                    || target.as_str() == "*" && method == Method::OPTIONS
            });
            let target = target.ok_or(Refusal::Target)?;
            if target.as_str().starts_with('?') {
                // The path of `http://host?query` is empty; it is written with one.
                return Uri::try_from(target.to_string()).map(Some).map_err(|_| Refusal::Target);
            }
            Ok(Some(Uri::from(target.clone())))
        }
        _ => Err(Refusal::Target),
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
