//! Who may speak to a process that holds credentials, and in which form.
//!
//! Reaching this listener is as good as holding the credential, so a web page in the user's
//! browser must not reach it: not by a rebound name (`Host`, S4), not across sites (S2, S3; those
//! rules are in [`super::page`], for a route may list origins that are let in).

use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};

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
    pub(super) fn admit(&self, head: &mut Parts, peer: &Peer) -> Result<(), Refusal> {
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Method);
        }
        let own = host_of(&head.headers, head.version)?;
        if let Some((host, _)) = own
            && !self.hosts.allows(host, peer.local.ip())
        {
            return Err(Refusal::ForeignHost);
        }
        let target = origin_form(&head.uri, &head.method, own)?;
        well_framed(&head.headers)?;
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

    fn guard() -> Guard {
        let mut guard = Guard::new();
        guard.add(["Api.Local", "10.1.1.1"]);
        guard
    }

    fn allowed(host: &str) -> Option<bool> {
        let (host, _) = Host::parse(host.as_bytes())?;
        Some(guard().hosts.allows(host, LOCAL))
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_known_hosts_are_let_in() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "localhost.:1",
            "127.0.0.1:8080",
            "[::1]",
            "[0:0:0:0:0:0:0:1]:9",
            "[::ffff:127.0.0.1]",
            "api.local",
            "API.local:1",
            "10.1.1.1",
            "10.0.0.5:80",
            "localhost:",
        ] {
            assert_eq!(allowed(host), Some(true), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "xlocalhost",
            "a.localhost",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "0177.0.0.1",
            "0.0.0.0",
            "0",
            "[::]",
            "127.0.0.2",
            "10.0.0.6",
            "localhost..",
        ] {
            assert_eq!(allowed(host), Some(false), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "",
            ":80",
            "localhost:x",
            "localhost:99999",
            "localhost:80:80",
            "user@localhost",
            "localhost/",
            "local host",
            "localhost,evil",
            "[::1",
            "::1",
            "[::1%25eth0]",
            "[localhost]",
            ".",
            "\u{e9}",
        ] {
            assert_eq!(Host::parse(host.as_bytes()), None, "{host}");
        }
    }

    #[test]
    fn a_list_of_ten_thousand_is_matched_as_one_of_one() {
        let names: Vec<String> = (0..10_000).map(|i| format!("Host-{i}.Example")).collect();
        let mut guard = Guard::new();
        guard.add(names.iter().map(String::as_str));
        for name in &names {
            assert!(guard.hosts.allows(Host::Name(&name.to_ascii_uppercase()), LOCAL), "{name}");
        }
        assert!(!guard.hosts.allows(Host::Name("host-10000.example"), LOCAL));
    }

    #[test]
    fn one_host_and_no_more() {
        let of = |fields: &[_], version| host_of(&headers(fields), version).map(|h| h.is_some());
        assert!(matches!(of(&[("host", "a")], Version::HTTP_11), Ok(true)));
        assert!(matches!(of(&[], Version::HTTP_11), Err(Refusal::Host(_))));
        assert!(matches!(of(&[], Version::HTTP_10), Ok(false)));
        assert!(of(&[("host", "a"), ("host", "a")], Version::HTTP_11).is_err());
        assert!(of(&[("host", "a"), ("host", "b")], Version::HTTP_10).is_err());
        assert!(of(&[("host", "")], Version::HTTP_11).is_err());
    }

    #[test]
    fn targets_have_the_form_of_their_method() {
        let own = Host::parse(b"localhost");
        let form = |uri: &str, method: Method| {
            origin_form(&uri.parse().unwrap(), &method, own).map(|new| new.map(|u| u.to_string()))
        };
        assert!(matches!(form("/a?b", Method::GET), Ok(None)));
        assert!(matches!(form("*", Method::OPTIONS), Ok(None)));
        assert!(matches!(form("*", Method::GET), Err(Refusal::Target)));
        assert_eq!(form("http://localhost/a?", Method::GET).unwrap().unwrap(), "/a?");
        assert_eq!(form("http://LOCALHOST:80", Method::GET).unwrap().unwrap(), "/");
        assert!(matches!(form("http://evil.example/", Method::GET), Err(Refusal::Host(_))));
        assert!(matches!(form("http://localhost:81/", Method::GET), Err(Refusal::Host(_))));
        assert!(matches!(form("http://u@localhost/", Method::GET), Err(Refusal::Target)));
        assert!(matches!(form("https://localhost/", Method::GET), Err(Refusal::Target)));
        assert!(matches!(form("localhost:80", Method::GET), Err(Refusal::Target)));
    }

    #[test]
    fn framing_that_would_not_be_repeated_is_refused() {
        let framed = |fields: &[_]| well_framed(&headers(fields));
        assert!(framed(&[("transfer-encoding", "Chunked"), ("expect", "100-Continue")]).is_ok());
        for coding in ["gzip, chunked", "identity", "chunked, chunked", "xchunked", ""] {
            let outcome = framed(&[("transfer-encoding", coding)]);
            assert!(matches!(outcome, Err(Refusal::TransferCoding)), "{coding}");
        }
        assert!(
            framed(&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")]).is_err()
        );
        assert!(matches!(framed(&[("expect", "the-unexpected")]), Err(Refusal::Expectation)));
    }

    proptest! {
        #[test]
        fn no_random_host_is_let_in(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let let_in = Host::parse(&bytes).is_some_and(|(host, _)| guard().hosts.allows(host, LOCAL));
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let known = ["localhost", "api.local", "127.0.0.1", "10.", "["];
            prop_assert!(!let_in || known.iter().any(|known| text.starts_with(known)));
        }
    }
}
