//! What the upstream learns of the client: `X-Forwarded-*` and `Forwarded` (RFC 7239).
//!
//! What a client says about itself is a lie until the configuration vouches for the client
//! (`trusted_proxies`): such a proxy has seen the real one, and its words are kept and added to.

use std::net::IpAddr;
use std::str::FromStr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};

use super::headers::is_client_address;
use crate::server::{Ends, Peer};
use crate::vocab::{Mistake, Placeholder, scalar};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static HTTP: HeaderValue = HeaderValue::from_static("http");
static HTTPS: HeaderValue = HeaderValue::from_static("https");

/// By which fields the upstream is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// By none.
    Nothing,
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    ByX,
    /// `Forwarded` (RFC 7239), with `for` and `proto`.
    Standard,
    /// All of them.
    Both,
}

impl Forwarded {
    fn parse(text: &str) -> Result<Self, Mistake> {
        match text {
            "true" => Ok(Self::ByX),
            "false" => Ok(Self::Nothing),
            "rfc7239" => Ok(Self::Standard),
            "both" => Ok(Self::Both),
            _ => Err(Mistake::new("this is not one of the possible values")
                .hint("possible here: `true` (X-Forwarded-*), `rfc7239`, `both`, `false`")),
        }
    }

    const fn has_x(self) -> bool {
        matches!(self, Self::ByX | Self::Both)
    }

    const fn has_standard(self) -> bool {
        matches!(self, Self::Standard | Self::Both)
    }

    /// Whether the upstream is told by a field of this name.
    pub(super) fn tells(self, name: &HeaderName) -> bool {
        let is_x = [&X_FORWARDED_FOR, &X_FORWARDED_HOST, &X_FORWARDED_PROTO].contains(&name);
        self.has_x() && is_x || self.has_standard() && *name == FORWARDED
    }

    /// Whether a trusted proxy's field of this name is added to, or kept. There is more that only
    /// it knows: the port, the beginning of the path, the client's certificate.
    fn continues(self, name: &HeaderName) -> bool {
        self.has_x() && (name.as_str().starts_with("x-forwarded-") || is_client_address(name))
            || self.has_standard() && *name == FORWARDED
    }
}

impl<'de> Deserialize<'de> for Forwarded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Forwarded {
    fn placeholder() -> Self {
        Self::ByX
    }
}

impl JsonSchema for Forwarded {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Forwarded".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "By which fields the upstream is told of the client.",
            "enum": [true, false, "rfc7239", "both"]
        })
    }
}

/// A proxy, or a network of them, whose word about clients is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum Trusted {
    /// By address.
    Net(IpNet),
    /// Whoever reaches the Unix socket.
    Unix,
}

impl Trusted {
    fn parse(text: &str) -> Result<Self, Mistake> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let net = IpNet::from_str(text).ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
        net.map(Self::Net).ok_or_else(|| {
            Mistake::new(format!("`{text}` is neither an address nor a network"))
                .hint("write `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`, or `unix`")
        })
    }

    fn covers(self, ends: Ends) -> bool {
        match (self, ends.client()) {
            (Self::Net(net), Some(client)) => net.contains(&client),
            (Self::Unix, None) => true,
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Trusted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

impl Placeholder for Trusted {
    fn placeholder() -> Self {
        Self::Unix
    }
}

/// What one route tells, and whom it believes.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    pub(super) fields: Forwarded,
    pub(super) trusted: Box<[Trusted]>,
}

impl Teller {
    /// Whether a field of this client's own goes on as it is.
    pub(super) fn keeps(&self, name: &HeaderName, peer: &Peer) -> bool {
        let is_lengthened = *name == X_FORWARDED_FOR && peer.label().is_some();
        self.fields.continues(name) && self.believes(peer) && !is_lengthened
    }

    fn believes(&self, peer: &Peer) -> bool {
        self.trusted.iter().any(|one| one.covers(peer.ends))
    }

    /// Tells of the client, who sent these fields, of which those that [`Self::keeps`] are told
    /// already unless the route removes them, and asked for this host.
    pub(super) fn tell(
        &self,
        client: &HeaderMap,
        is_removed: impl Fn(&HeaderName) -> bool,
        host: Option<&HeaderValue>,
        peer: &Peer,
        mut put: impl FnMut(&HeaderName, &HeaderValue),
    ) {
        let believes = self.believes(peer);
        let counts = |name: &HeaderName| believes && !is_removed(name);
        let is_told = |name: &HeaderName| counts(name) && client.contains_key(name);
        if self.fields.has_x() {
            if let Some(host) = host.filter(|_| !is_told(&X_FORWARDED_HOST)) {
                put(&X_FORWARDED_HOST, host);
            }
            match peer.label() {
                Some(label) if counts(&X_FORWARDED_FOR) => {
                    put(&X_FORWARDED_FOR, &lengthened(client, label))
                }
                Some(label) => put(&X_FORWARDED_FOR, label),
                None => {}
            }
            if !is_told(&X_FORWARDED_PROTO) {
                put(&X_FORWARDED_PROTO, if peer.secure { &HTTPS } else { &HTTP });
            }
        }
        if self.fields.has_standard() {
            put(&FORWARDED, peer.element());
        }
    }
}

/// The addresses so far and the client's own.
fn lengthened(headers: &HeaderMap, own: &HeaderValue) -> HeaderValue {
    let lines = headers.get_all(&X_FORWARDED_FOR);
    if lines.iter().next().is_none() {
        return own.clone();
    }
    let all: Vec<&[u8]> = lines.iter().chain([own]).map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&all.join(&b", "[..])).unwrap_or_else(|_| own.clone())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn told(
        fields: &str,
        trusted: &[&str],
        client: &str,
        own: &[(&'static str, &str)],
    ) -> HeaderMap {
        let trusted = trusted.iter().map(|one| Trusted::parse(one).unwrap()).collect();
        let teller = Teller { fields: Forwarded::parse(fields).unwrap(), trusted };
        let peer = Peer::unwatched(SocketAddr::new(client.parse().unwrap(), 7));
        let host = HeaderValue::from_static("localhost:8080");
        let mut client = HeaderMap::new();
        for (name, value) in own {
            client.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in client.iter().filter(|(name, _)| teller.keeps(name, &peer)) {
            headers.append(name, value.clone());
        }
        teller.tell(
            &client,
            |_| false,
            Some(&host),
            &peer,
            |name, value| {
                headers.append(name, value.clone());
            },
        );
        headers
    }

    fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    const CLAIMS: [(&str, &str); 13] = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-real-ip", "3.3.3.3"),
        ("forwarded", "for=4.4.4.4"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-client-cert", "Hash=5"),
        ("cf-connecting-ip", "5.5.5.5"),
        ("fastly-client-ip", "5.5.5.5"),
        ("true-client-ip", "5.5.5.5"),
        ("x-client-ip", "5.5.5.5"),
        ("x-cluster-client-ip", "5.5.5.5"),
    ];
    const ADDRESSES: &[(&str, &str)] = CLAIMS.split_at(8).1;

    #[test]
    fn a_strangers_words_are_replaced_p3() {
        let headers = told("both", &["10.0.0.0/8", "unix"], "192.0.2.1", &CLAIMS);
        assert_eq!(all(&headers, "x-forwarded-for"), ["192.0.2.1"]);
        assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&headers, "x-forwarded-host"), ["localhost:8080"]);
        assert_eq!(all(&headers, "forwarded"), ["for=192.0.2.1;proto=http"]);
        for name in ["x-real-ip", "x-forwarded-port", "x-forwarded-client-cert"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        for (name, _) in ADDRESSES {
            assert!(!headers.contains_key(*name), "{name}");
        }
    }

    #[test]
    fn a_trusted_proxys_words_are_kept_and_added_to_p3() {
        for trusted in [&["10.0.0.0/8"][..], &["10.1.2.3"], &["fd00::/8", "10.1.0.0/16"]] {
            let headers = told("both", trusted, "10.1.2.3", &CLAIMS);
            assert_eq!(all(&headers, "x-forwarded-for"), ["1.1.1.1, 2.2.2.2, 10.1.2.3"]);
            assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
            assert_eq!(all(&headers, "x-forwarded-host"), ["shop.example"]);
            assert_eq!(all(&headers, "forwarded"), ["for=4.4.4.4", "for=10.1.2.3;proto=http"]);
            assert_eq!(all(&headers, "x-forwarded-port"), ["8443"]);
            assert_eq!(all(&headers, "x-forwarded-client-cert"), ["Hash=5"]);
            assert!(!headers.contains_key("x-real-ip"));
            for (name, value) in ADDRESSES {
                assert_eq!(all(&headers, name), [*value]);
            }
        }
        // An IPv4 client is one over a socket for both kinds, too.
        let headers = told("true", &["10.0.0.0/8"], "::ffff:10.1.2.3", &CLAIMS[..1]);
        assert_eq!(all(&headers, "x-forwarded-for"), ["1.1.1.1, 10.1.2.3"]);
    }

    #[test]
    fn only_what_is_asked_for_is_told_p3() {
        let headers = told("rfc7239", &["::/0"], "2001:db8::1", &CLAIMS);
        assert_eq!(all(&headers, "forwarded"), ["for=4.4.4.4", "for=\"[2001:db8::1]\";proto=http"]);
        assert_eq!(headers.len(), 2, "{headers:?}");
        let headers = told("true", &["::/0"], "2001:db8::1", &CLAIMS);
        assert_eq!(all(&headers, "x-forwarded-for"), ["1.1.1.1, 2.2.2.2, 2001:db8::1"]);
        assert!(!headers.contains_key("forwarded"));
        assert_eq!(told("false", &["::/0"], "2001:db8::1", &CLAIMS).len(), 0);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in ["", "10.0.0.0/33", "example.com", "10.0.0", "*"] {
            assert!(Trusted::parse(bad).is_err(), "{bad}");
        }
        assert!(Forwarded::parse("yes").is_err());
    }
}
